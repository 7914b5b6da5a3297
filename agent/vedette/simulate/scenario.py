"""What a scenario is to the command: options of its own, and a simulation that gives, writes and sends samples."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypeVar


class Sampled(Protocol):
    """One reading or row with the truth beside it."""

    @property
    def device(self) -> str:
        """Who or what is watched."""

    @property
    def time(self) -> float:
        """Epoch seconds, UTC."""

    @property
    def fault(self) -> str | None:
        """What is wrong, or None."""


S = TypeVar("S", bound=Sampled)


class Tally(NamedTuple):
    """How many readings were written or sent, and how many of them were labelled 1."""

    readings: int
    anomalous: int


class Period(NamedTuple):
    """From `start_s` (epoch seconds, whole) for `duration_s`, which is None until Ctrl-C."""

    start_s: float
    duration_s: float | None

    @property
    def end_s(self) -> float:
        """Epoch seconds, perhaps infinite."""
        return float("inf") if self.duration_s is None else self.start_s + self.duration_s


class Simulation(Protocol[S]):
    """A simulation that is set up and has not begun.

    Attributes:
        population: How many of what, such as "20 devices".
    """

    population: str

    def samples(self) -> Iterator[S]:
        """Everything in the period, in order of time. Called once."""

    def write(self, output: str, samples: Iterator[S]) -> Tally:
        """Write labelled history.

        Raises:
            OSError: it cannot be written.
        """

    def topic(self, template: str, sample: S) -> str:
        """Where a sample is published."""

    def payload(self, sample: S) -> bytes:
        """What is published; never the label."""

    def news(self, sample: S) -> Iterator[str]:
        """What a sample's time or label brings to light, each in a line."""

    def summary(self) -> dict[str, object]:
        """What `--json` says of this scenario besides what it says of all."""


class Scenario(NamedTuple):
    """A row of the command's table.

    Attributes:
        help: In a line, for the list of scenarios.
        add_options: Adds the scenario's options to its parser.
        check: Returns what is wrong with options that do not go together, or None.
        make: Sets the simulation up.
        file_duration_s: Length of history where none is asked for.
    """

    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    check: Callable[[argparse.Namespace], str | None]
    make: Callable[[argparse.Namespace, Period], Simulation[Any]]
    file_duration_s: float


class Incident(Protocol):
    """Something that goes wrong for a while."""

    @property
    def kind(self) -> str:
        """What."""

    @property
    def start(self) -> float:
        """Epoch seconds."""

    @property
    def end(self) -> float:
        """Epoch seconds."""


class Chronicle:
    """Says when incidents start and end, as time passes.

    Args:
        incidents: May grow while time passes.
        name: Whom an incident befalls.
    """

    def __init__(self, incidents: Sequence[Any], name: Callable[[Any], str]) -> None:
        self._incidents = incidents
        self._name = name
        self._known = 0
        self._news: list[tuple[float, str]] = []

    def until(self, time: float) -> Iterator[str]:
        """The news up to `time` (epoch seconds) that have not been told."""
        if self._known < len(self._incidents):
            for incident in self._incidents[self._known :]:
                who = self._name(incident)
                self._news.append((incident.start, f"{who}: {incident.kind} starts"))
                self._news.append((incident.end, f"{who}: {incident.kind} ends"))
            self._known = len(self._incidents)
            self._news.sort(reverse=True)
        while self._news and self._news[-1][0] <= time:
            at, text = self._news.pop()
            yield f"{iso(at)} {text}"


def iso(time_s: float) -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

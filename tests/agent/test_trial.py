"""What a trial concludes from numbers: real pipelines, models whose score is the reading itself."""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from bundles import TEMPERATURE, make_bundle
from vedette.config import Config
from vedette.contract import bundle as bundles
from vedette.contract.features import Rows
from vedette.contract.readings import Message
from vedette.contract.scores import Calibration, Scorer, Stage
from vedette.contract.windows import WindowSpec
from vedette.phrases import TrialLength
from vedette.pipeline import Pipeline
from vedette.trial import MIN_WINDOWS, Trial, Verdict

Model = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
CONFIG = msgspec.convert(
    {
        "gateway": "gw-1",
        "broker": {"url": "mqtt://nobody"},
        "streams": [
            {"name": "fridges", "topic": "f/{device}", "model": "fridge", "payload": {"time": {"field": "ts"}}},
            {"name": "others", "topic": "o/{device}", "model": "other", "payload": {"time": {"field": "ts"}}},
        ],
    },
    Config,
)


class Plain:
    """The score is what the model says of the temperature's distance from 4."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def run(self, windows: Rows) -> Mapping[str, npt.NDArray[np.float32]]:
        return {"raw": self._model(windows[:, -1, 0].astype(np.float64)).astype(np.float32)}


def pipeline(version: str, model: Model, steps: int = 1, only: str | None = None) -> Pipeline:
    bundle = bundles.read(make_bundle(version=version, features=(TEMPERATURE,), window=WindowSpec(steps=steps)))
    stage = Stage(name="s", runtime="onnx", file="model.onnx", input="window", output="raw", calibration=Calibration(centre=0, threshold=1))
    return Pipeline(CONFIG, lambda _: (bundle, Scorer([stage], [Plain(model)], "all")), only=only)


class Fleet:
    """A live model, a candidate, and fridges whose temperature is 4 and the score to be."""

    def __init__(self, candidate: Model, length: TrialLength | None = None, steps: int = 1) -> None:
        self.live = pipeline("1.0.0", lambda x: x)
        self._time = 0
        self._candidate, self._length, self._steps = candidate, length or TrialLength(windows=200), steps
        self.begin()

    def begin(self) -> None:
        candidate = pipeline("1.1.0", self._candidate, self._steps, only="fridge")
        self.trial = Trial(candidate, self.live, self._length, began=0.0)

    def send(self, scores: list[float], devices: int = 1, now: float = 0.0, topic: str = "f") -> Verdict | None:
        """A reading for each score, of the devices in turn; what the trial says afterwards."""
        messages = []
        for number, score in enumerate(scores):
            self._time += 60
            payload = msgspec.json.encode({"ts": self._time, "temperature": 4.0 + score})
            messages.append(Message(f"{topic}/d{number % devices}", payload, float(self._time)))
        self.trial.process(messages, self.live.process(messages))
        return self.trial.verdict(now)


def ordinary(count: int, seed: int = 0) -> list[float]:
    return [abs(float(score)) for score in np.random.default_rng(seed).normal(0, 0.25, count)]


def test_an_equal_candidate_does_well_as_soon_as_it_has_its_windows() -> None:
    fleet = Fleet(lambda x: x)
    assert fleet.send(ordinary(199)) is None
    verdict = fleet.send(ordinary(1))
    assert verdict and verdict.good
    assert verdict.numbers.distance == 0.0
    assert verdict.numbers.live.windows == verdict.numbers.candidate.windows == 200
    assert fleet.send(ordinary(10)) is None, "it is told once"


def test_by_the_clock_it_needs_the_time_and_enough_windows() -> None:
    fleet = Fleet(lambda x: x, length=TrialLength(seconds=600))
    assert fleet.send(ordinary(MIN_WINDOWS - 1), now=601) is None
    assert fleet.send(ordinary(1), now=599) is None
    verdict = fleet.send(ordinary(1), now=600)
    assert verdict and verdict.good


def test_a_stricter_candidate_may_raise_a_few_more_alerts() -> None:
    fleet = Fleet(lambda x: 1.3 * x, length=TrialLength(windows=400))
    spikes = [0.8] * 5 + [0.0] * 15
    verdict = fleet.send(ordinary(340) + spikes * 3)
    assert verdict and verdict.good, verdict
    assert (verdict.numbers.live.alerts, verdict.numbers.candidate.alerts) == (0, 3)


def test_a_flood_of_alerts_is_seen_before_the_trial_is_over() -> None:
    fleet = Fleet(lambda x: 20 * x)
    verdict = fleet.send([0.2] * 40, devices=8)
    assert verdict and not verdict.good
    # Eight devices', which are withheld, and the stream's, which is told instead.
    assert verdict.reason.startswith("flood: 9 alerts where 1.0.0 raised 0; 40 windows beside 1.0.0: ")


def test_alerts_that_the_live_model_raises_too_are_no_flood() -> None:
    fleet = Fleet(lambda x: 1.05 * x)
    fleet.send([2.0] * 40, devices=8)
    # Begun while all eight are in an alert already: the candidate finds them anew.
    fleet.begin()
    assert fleet.send([2.0] * 100, devices=8) is None
    verdict = fleet.send([2.0] * 100, devices=8)
    assert verdict and verdict.good, verdict


def test_many_windows_over_the_threshold_are_a_flood_even_in_few_alerts() -> None:
    fleet = Fleet(lambda x: np.where(x > 0.4, 1.2, x))
    verdict = fleet.send(ordinary(100))
    assert verdict and not verdict.good
    assert "of the windows over the threshold where 1.0.0 has 0.0%" in verdict.reason


def test_a_device_whose_windows_are_full_before_the_others_is_compared_with_itself() -> None:
    """A device that sends more often than the others is the first that a candidate can score, and it may be the one that is not well."""
    fleet = Fleet(lambda x: x, steps=30)
    for _ in range(20):
        assert fleet.send([1.5] * 5) is None
        assert fleet.send([1.5] + [0.1] * 39, devices=40) is None
    assert fleet.trial.numbers().candidate.windows > MIN_WINDOWS
    assert fleet.trial.numbers().live.over == fleet.trial.numbers().candidate.over == 1.0


def test_ordinary_windows_that_look_strange_to_it_are_a_fault() -> None:
    verdict = Fleet(lambda x: 0.8 + x * 0.1).send(ordinary(MIN_WINDOWS))
    assert verdict and not verdict.good and verdict.reason.startswith("ordinary windows look strange to it: half of them score over 0.8")


def test_a_candidate_that_does_not_look_is_a_fault() -> None:
    verdict = Fleet(lambda x: 0 * x + 0.1).send(ordinary(MIN_WINDOWS))
    assert verdict and not verdict.good and verdict.reason.startswith("it gives every window the same score, 0.10")
    # Unless there is nothing to see.
    still = Fleet(lambda x: 0 * x + 0.1).send([0.1] * 200)
    assert still and still.good


def test_one_window_that_cannot_be_scored_is_a_fault() -> None:
    verdict = Fleet(lambda x: np.where(x > 0.9, np.nan, x)).send([*ordinary(20), 0.95])
    assert verdict and not verdict.good and "windows could not be scored" in verdict.reason


def test_only_its_own_streams_count_and_only_from_its_first_window_on() -> None:
    fleet = Fleet(lambda x: x, steps=3)
    fleet.send([5.0] * 50, topic="o")
    fleet.send([0.1, 0.1])
    assert (fleet.trial.numbers().live.windows, fleet.trial.numbers().candidate.windows) == (0, 0)
    fleet.send([0.1])
    assert (fleet.trial.numbers().live.windows, fleet.trial.numbers().candidate.windows) == (1, 1)
    assert fleet.trial.numbers().live.alerts == 0


@pytest.mark.parametrize(("scores", "median"), [([-9.0] * 100, -1.99), ([99.0] * 100, 5.99)])
def test_scores_off_the_scale_count_at_its_ends(scores: list[float], median: float) -> None:
    fleet = Fleet(lambda x: x)
    fleet.send([s / 10 for s in scores] if scores[0] > 0 else scores)
    assert abs(fleet.trial.numbers().candidate.median - median) < 0.03

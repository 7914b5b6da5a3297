"""The agent's process: one service, and after each reload the next in its place.

Rules this module keeps: what is wrong with a new configuration is found while the old one runs on, and leaves it running; the next service
begins where the last one ended, with its journal, its spool and its session at the broker, so nothing is lost or told twice; a signal that
comes at any time is acted on, in this service or the next.
"""

import logging
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vedette import __version__, config
from vedette.contract.documents import blaming
from vedette.contract.errors import ConfigError, DiskError, VedetteError
from vedette.engine import ScoreSink
from vedette.health import ServiceManager
from vedette.mqtt import check_login
from vedette.report import Report, ReportFile
from vedette.scrapes import ScrapeServer
from vedette.service import Service

log = logging.getLogger(__name__)

_WELL = "scoring"
"""What a service that is ready says of itself to systemd."""


class Lifetime:
    """One process of the agent.

    Args:
        first: What the configuration said at the start.
        config_file: Where it said so; read again at each SIGHUP.
        on_scores: Is given every score, in order.
    """

    def __init__(self, first: config.Config, config_file: Path, on_scores: ScoreSink | None) -> None:
        self._config, self._file, self._on_scores = first, config_file, on_scores
        self._manager = ServiceManager(os.environ.get("NOTIFY_SOCKET"), os.environ.get("WATCHDOG_USEC"))
        self._scrapes: ScrapeServer | None = None
        self._is_asked = self._is_stopping = False
        self._refused: str | None = None
        self._last: tuple[dict[str, Any], Sequence[str]] | None = None
        self._status = _WELL
        self._started = self._configured = time.time()
        self._report = ReportFile(Path(first.state_dir), os.environ.get("RUNTIME_DIRECTORY"))
        self._service: Service | None = None

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; at SIGHUP, go on with what the configuration says now.

        Raises:
            ConfigError: the agent cannot begin.
        """
        signal.signal(signal.SIGHUP, self._ask)
        self._service = self._make(self._config)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            while self._service:
                if self._is_stopping:
                    self._service.stop()  # the signal came between two services
                with blaming(self._file):
                    self._service = self._service.run(self._find_successor)
        finally:
            self._report.remove()
            if self._scrapes:
                self._scrapes.stop()

    def _stop(self, *_: object) -> None:
        self._is_stopping = True
        if self._service:
            self._service.stop()

    def _ask(self, *_: object) -> None:
        self._is_asked = True

    def _find_successor(self) -> Service | None:
        """The service that goes on from here, where a reload was asked for and can be."""
        if not self._is_asked or self._is_stopping:
            return None
        self._is_asked = False
        log.info("reload: reading %s", self._file)
        self._manager.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            wanted = config.load(self._file)
            if self._service and self._service.failing:
                raise DiskError(f"what only memory holds would be lost; reload again once the disk works: {self._service.failing}")
            with blaming(self._file):
                _check_same_agent(self._config, wanted)
                check_login(wanted.broker)
            successor = self._make(wanted)
        except VedetteError as error:
            log.error("reload refused, and all goes on as before: %s", error)  # noqa: TRY400 because it is no fault of ours: the line says all
            refused = str(error)
        except Exception as error:  # because a fault of ours here must not cost the service that runs
            log.exception("reload refused for a fault of vedette's own, and all goes on as before")
            refused = f"a fault of vedette's own: {error!r}"
        else:
            log.info("reload: changing over")
            self._status = _WELL  # as it will say
            self._config, self._configured, self._refused = wanted, time.time(), None
            return successor
        self._refused = refused
        self._manager.notify("READY=1")
        if self._last:
            self._tell(*self._last)
        return None

    def _make(self, wanted: config.Config) -> Service:
        """A service that is ready to run, beside the one that runs; what it is to be scraped at is taken over.

        Raises:
            VedetteError: it cannot be; all is as it was.
        """
        with blaming(self._file):
            before, self._scrapes = self._scrapes, self._scrapes_for(wanted)
            try:
                service = Service(wanted, self._file, self._manager, self._tell, self._on_scores, again=self._service is not None)
            except BaseException:
                before, self._scrapes = self._scrapes, before
                raise
            finally:
                if before and before is not self._scrapes:
                    before.stop()
        return service

    def _scrapes_for(self, wanted: config.Config) -> ScrapeServer | None:
        if wanted.metrics is None:
            return None
        if self._scrapes and str(self._scrapes.listen) == str(wanted.metrics.listen):
            return self._scrapes
        server = ScrapeServer(wanted.metrics.listen)
        server.start()
        return server

    def _tell(self, stats: dict[str, Any], degraded: Sequence[str]) -> None:
        """Write the report, and say to systemd in one line how the agent stands."""
        self._last = stats, degraded
        if self._refused:
            degraded = [f"the last reload was refused, and what was live before still is: {self._refused}", *degraded]
        report = Report(
            version=__version__,
            pid=os.getpid(),
            gateway=self._config.gateway,
            config=str(self._file.resolve()),
            state_dir=self._config.state_dir,
            started=self._started,
            configured=self._configured,
            written=time.time(),
            every_s=float(self._config.stats_every),
            metrics=str(self._scrapes.listen) if self._scrapes else None,
            degraded=tuple(degraded),
            stats=stats,
        )
        self._report.write(report)
        if self._scrapes:
            self._scrapes.report = report
        status = (
            " ".join(f"degraded: {degraded[0]}".split()) if degraded else _WELL
        )  # in one line: the next would be another word to systemd
        if self._status != status:
            self._status = status
            self._manager.notify(f"STATUS={status}")


def _check_same_agent(live: config.Config, wanted: config.Config) -> None:
    """See that what goes on is the same agent: its state, and what the broker keeps for it, are under its names.

    Raises:
        ConfigError: it is another.
    """
    for key, one, other in (
        ("gateway", live.gateway, wanted.gateway),
        ("state_dir", live.state_dir, wanted.state_dir),
        ("broker.client_id", live.broker.client_id, wanted.broker.client_id),
    ):
        if one != other:
            raise ConfigError(f'{key}: a reload cannot change it from "{one}" to "{other}"; restart the agent: systemctl restart vedette')

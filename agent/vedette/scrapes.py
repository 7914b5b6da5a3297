"""Who answers Prometheus: a thread on loopback, with the agent's last report.

Rules this module keeps: a scrape reads what the worker has told, and asks nothing of it; prometheus_client is imported only where this
begins, so that nobody else pays for it.
"""

from collections.abc import Iterator
from typing import Any

from vedette.contract.errors import ConfigError
from vedette.phrases import Loopback
from vedette.report import Report


class ScrapeServer:
    """A thread that answers scrapes.

    Args:
        listen: Where.

    Attributes:
        listen: As given.
        report: What is told; None before the first.
    """

    def __init__(self, listen: Loopback) -> None:
        self.listen = listen
        self.report: Report | None = None

    def start(self) -> None:
        """Begin to listen.

        Raises:
            ConfigError: the port cannot be had, or the library is missing.
        """
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector, exposition
        except ModuleNotFoundError as error:
            raise ConfigError(f"metrics: needs {error.name}, which is not installed: pip install 'vedette[metrics]'") from error
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        registry.register(self)
        try:
            self._server, self._thread = exposition.start_http_server(self.listen.port, self.listen.host, registry)
        except OSError as error:
            raise ConfigError(f"metrics.listen: {self.listen} cannot be had: {error.strerror}; who has it says: ss -ltnp") from error
        self._thread.name = "vedette-scrapes"

    def collect(self) -> Iterator[Any]:
        """For prometheus_client: the last report."""
        from vedette.metrics import families

        return families(self.report) if self.report else iter(())

    def stop(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

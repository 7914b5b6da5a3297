"""Metrics for Prometheus, made of the agent's report.

Rules this module keeps: names and units as Prometheus' conventions have
them; counters begin anew where the stats do, at a start and at a reload, which Prometheus' `rate` knows how to read.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from vedette.report import Report

_KINDS = ("anomaly", "silent", "stuck", "drift")

_REASONS = ("late", "repeated", "failed")
"""Counters of readings that were not scored, beside `rejected.REASON` of messages."""


class _Families:
    """Metrics of one report; all of them have the gateway for a label."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self.found: dict[str, Metric] = {}

    def count(self, name: str, help_: str, value: float, **labels: str) -> None:
        self._add(CounterMetricFamily, name, help_, value, labels)

    def gauge(self, name: str, help_: str, value: float, **labels: str) -> None:
        self._add(GaugeMetricFamily, name, help_, value, labels)

    def _add(self, family: Any, name: str, help_: str, value: float, labels: Mapping[str, str]) -> None:
        metric = self.found.setdefault(name, family(f"vedette_{name}", help_, labels=["gateway", *labels]))
        metric.add_metric([self._gateway, *labels.values()], value)  # type: ignore[attr-defined] # because Metric itself has no such method


def families(report: Report) -> Iterator[Metric]:
    """A report as Prometheus has it."""
    made, stats = _Families(report.gateway), report.stats
    made.gauge("build_info", "The agent's version; always 1.", 1, version=report.version)
    made.gauge("report_timestamp_seconds", "When these figures were taken; at most stats_every ago.", report.written)
    made.gauge("degraded", "How many things are not as they should be; vedette status names them.", len(report.degraded))
    made.gauge("configuration_timestamp_seconds", "When the configuration that is live was read.", report.configured)
    made.gauge("broker_connected", "1 while the broker has accepted the connection.", stats["broker"]["connected"])
    made.gauge("disk_failing", "1 while the disk cannot be written.", stats["disk"] is not None)
    made.gauge("queue", "Messages that wait to be scored.", stats["queued"])
    made.count("unmatched", "Messages on a topic of no stream.", stats["unmatched"])
    made.count("crashed", "Messages that brought the pipeline down and were left out.", stats["crashed"])
    made.count("queue_dropped", "Messages for which the queue had no room.", stats["dropped"])
    made.count("broker_repeated", "Messages that the broker sent again, taken once.", stats["repeated"])
    _spool(made, stats["spool"])
    for name, model in stats["models"].items():
        trial = model["trial"] or ""
        made.gauge(
            "model_info", "The version that is live, and the one on trial; always 1.", 1, model=name, version=model["version"], trial=trial
        )
        if model["since"]:
            made.gauge("model_live_since_timestamp_seconds", "When the version went live here.", model["since"], model=name)
    for name, counters in stats["streams"].items():
        _stream(made, name, counters)
    return iter(made.found.values())


def _spool(made: _Families, spool: Mapping[str, int]) -> None:
    made.gauge("spool_rows", "Alerts that wait for the broker.", spool["waiting"])
    made.gauge("spool_bytes", "Of their topics and payloads.", spool["bytes"])
    made.gauge("spool_held_rows", "Of those, the ones that only memory holds because the disk fails.", spool["held"])
    made.count("alert_messages_delivered", "Messages of alerts that the broker has acknowledged.", spool["delivered"])
    for reason in ("spool_age", "spool_updates", "spool_episodes", "spool_damaged"):
        dropped = spool.get(f"dropped.{reason}", 0)
        made.count("spool_dropped", "Messages of alerts that were dropped.", dropped, reason=reason.removeprefix("spool_"))


def _stream(made: _Families, stream: str, counters: Mapping[str, int]) -> None:
    made.count("messages", "Messages of the stream.", counters["received"], stream=stream)
    made.count("readings", "Readings in them that were taken.", counters["readings"], stream=stream)
    made.count("windows_scored", "Windows that were scored.", counters["scored"], stream=stream)
    made.count("alerts", "Messages of alerts: new, update and end.", counters["alerts"], stream=stream)
    made.gauge("devices", "Devices that are known.", counters["devices"], stream=stream)
    made.count("devices_evicted", "Devices that gave way to others.", counters["evicted"], stream=stream)
    for kind in _KINDS:
        made.gauge("open_alerts", "Alerts that are open.", counters.get(f"open.{kind}", 0), stream=stream, kind=kind)
    dropped = {reason: counters[reason] for reason in _REASONS}
    dropped |= {name.removeprefix("rejected."): count for name, count in counters.items() if name.startswith("rejected.")}
    for reason, count in dropped.items():
        made.count(
            "dropped", "Messages or readings that were not scored: docs/payloads.md has the reasons.", count, stream=stream, reason=reason
        )
    for name, count in counters.items():
        if name.startswith("partial."):
            reason = name.removeprefix("partial.")
            made.count("partial", "What was wrong within messages that were taken.", count, stream=stream, reason=reason)

"""Alerts: what is told of a stream's devices, when it begins, and when it is over.

`judge.py` puts the kinds together: `episodes.py` (anomalies, and a device's drift), `silence.py`, `stuck.py`, `drift.py` (a whole
stream's); `group.py` makes one alert of many.
"""

from vedette.alerts.alert import Alert, Kind, Model, ended
from vedette.alerts.finding import Finding, Judged
from vedette.alerts.judge import Judge, ScoreJudge

__all__ = ["Alert", "Finding", "Judge", "Judged", "Kind", "Model", "ScoreJudge", "ended"]

"""Alerts as an agent publishes them, for tests of those who subscribe."""

import hashlib
from typing import Any


def alert(episode: str, type_: str, minute: int, *, severity: str = "warning") -> dict[str, Any]:
    """A message of an episode, so many minutes past ten."""
    time = f"2026-01-05T10:{minute:02}:00Z"
    peak = 2.5 if severity == "critical" else 1.2
    is_over = type_ == "end"
    reason = {"feature": "temperature", "share": 1.0, "observed": 13.9, "expected": 4.2}
    return {
        "schema": "vedette.alert/1",
        "id": hashlib.md5(episode.encode()).hexdigest(),
        "type": type_,
        "gateway": "gw-1",
        "stream": "fridges",
        "device": "fridge-1",
        "kind": "anomaly",
        "score": 0.5 if is_over else peak,
        "peak": peak,
        "severity": severity,
        "started": "2026-01-05T10:00:00Z",
        "time": time,
        "ended": time if is_over else None,
        "windows": 3,
        "model": {"name": "fridge", "version": "1.0.0"},
        "explanation": [] if is_over else [reason],
    }

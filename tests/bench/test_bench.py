"""The bench works, its figures can be read back, and a missed bar is not overlooked."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from bench import cost, figures, latency, machine, publisher, rig, scale
from bench.figures import Figures, Line, Row
from bench.publisher import Order
from bench.subjects import Account
from brokers import Mosquitto

BENCH = Path(__file__).parent

MISSED_LOW = Row(name="start", value=0.7, unit="s", bar=0.6, better="lower", runs=5, spread=(0.5, 0.9))
MISSED_HIGH = Row(name="windows", value=90.0, unit="windows/s", bar=100.0, better="higher", runs=1)
REACHED = Row(name="ratio", value=1.0, unit="ratio", bar=1.0, better="lower", runs=5)
INFORMATION = Row(name="size", value=12.0, unit="MB", runs=1)


def figures_of(*rows: Row) -> Figures:
    return Figures(commit="abc", machine="a machine", versions={"python": "3.11"}, rows=rows)


def children(pid: int) -> dict[int, str]:
    """Command lines of a process's running children."""
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child): line for child in pids if (line := command_line(int(child)))}


def command_line(pid: int) -> str:
    """Empty once the process has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
    return ""


def wait_until(condition: Callable[[], bool], timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def gateway_python() -> str:
    try:
        return machine.gateway_python()
    except FileNotFoundError as error:
        pytest.skip(reason=str(error))


@pytest.mark.parametrize(
    ("parts", "bars"),
    [
        (
            "cost",
            {
                "agent/bare-subscriber cpu, lstm-1, qos0": 1.0,
                "agent/bare-subscriber cpu, lstm-1, qos1": 1.2,
                "agent/bare-subscriber cpu, forest-1, qos0": 1.0,
                "agent/bare-subscriber cpu, forest-1, qos1": 1.2,
                cost.MEMORY_LSTM: 60.0,
                cost.MEMORY_BOTH: 95.0,
                cost.START_LSTM: 0.6,
                cost.START_BOTH: 0.6,
            },
        ),
        # The autoencoder takes half a minute to make, so a quick run does without.
        (
            "throughput latency",
            {
                "agent/baseline readings/s, lstm-30": 5.0,
                "publish -> alert p99 beyond the broker's round trip, half load, deviation-1": 20.0,
            },
        ),
        ("scale", {scale.RATIO: 0.8, scale.BYTES: 2.0}),
    ],
)
def test_a_quick_bench_accounts_for_every_message_and_leaves_figures(
    gateway_python: str, tmp_path: Path, parts: str, bars: dict[str, float]
) -> None:
    path = tmp_path / "engine.json"
    command = [sys.executable, str(BENCH / "engine.py"), "--quick", "--only", *parts.split(), "--figures", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = figures.read(path)
    assert {"python", "vedette", "mosquitto"} <= found.versions.keys()
    assert {row.name: row.bar for row in found.rows if row.bar is not None} == bars
    assert all(math.isfinite(row.value) for row in found.rows)
    for row in found.rows:
        assert row.name in done.stdout
    assert not done.stderr, "it is quiet in a pipe"


def test_a_message_that_went_astray_is_a_fault_even_if_no_counter_tells() -> None:
    assert Account(100, {}).fault(100) is None
    assert Account(99, {}).fault(100) == "100 sent, 99 dealt with (no counter tells why)"
    assert Account(98, {"dropped": 2}).fault(100) == "100 sent, 98 dealt with (dropped 2)"
    assert Account(100, {"fridges.alerts": 1}).fault(100)
    assert Account(90, {}, 10).fault(100, waiting=10) is None
    assert Account(90, {}, 9).fault(100, waiting=10)
    assert Account(90, {}, 10).fault(100)


def test_a_rate_counts_only_where_more_arrived_than_was_worked_off() -> None:
    assert rig.Flood(1000, 1.0, 2.0).was_too_much
    assert rig.Flood(1000, 1.0, 2.0).rate == 500.0
    assert not rig.Flood(1000, 1.0, 1.05).was_too_much


def test_odd_readings_are_every_second_one_of_their_devices() -> None:
    ordered = Order(("plant/{device}",), 4, 1, 1000.0, 16, odd=1)
    chunks = b"".join(publisher._chunks(ordered, 1_790_000_000.0))
    temperatures = [float(part.split(b",")[0]) for part in chunks.split(b'"temperature":')[1:]]
    assert [n for n, celsius in enumerate(temperatures) if celsius > 20] == [4, 12]
    assert ordered.odd_messages == 2


def test_what_others_took_does_not_count_what_the_bench_did_itself() -> None:
    busy = [sys.executable, "-c", "import time\nend = time.monotonic() + 1.0\nwhile time.monotonic() < end: pass"]
    others = machine.Others()
    subprocess.run(busy, check=True)
    own = others.share()
    others = machine.Others()
    with subprocess.Popen(busy):
        time.sleep(0.9)
        foreign = others.share()
    # Not waited for yet, so at that moment it is somebody else's: the better part of one processor.
    assert foreign > own + 0.4 / (os.cpu_count() or 1) or own > 0.5


def test_a_fleet_with_less_than_a_message_a_tick_is_in_time(broker: Mosquitto) -> None:
    with publisher.Publisher(broker.port) as fleet:
        published = fleet.publish(Order(("plant/{device}",), 2, 1, 100.0, 50))
    assert published.messages == 50
    assert 0.4 < published.seconds < 2.0


def test_an_alert_belongs_to_the_reading_of_its_device_and_time() -> None:
    def reading(device: str, ts: float, arrived: float) -> tuple[str, dict[str, object], float]:
        return f"plant/m/{device}/telemetry", {"ts": ts}, arrived

    def alert(device: str, time: str, type_: str, arrived: float) -> tuple[str, dict[str, object], float]:
        return f"vedette/g/alerts/m/{device}", json.loads(f'{{"device": "{device}", "time": "{time}", "type": "{type_}"}}'), arrived

    heard = [
        reading("a", 1_790_000_000.001, 1_790_000_000.002),
        reading("b", 1_790_000_000.001, 1_790_000_000.003),
        alert("a", "2026-09-21T14:13:20.001000Z", "new", 1_790_000_000.011),
        alert("b", "2026-09-21T14:13:20.001000Z", "end", 1_790_000_000.011),
    ]
    delays = latency._delays(heard)
    assert delays.readings == pytest.approx([0.001], abs=1e-6)
    assert delays.alerts == pytest.approx([0.010], abs=1e-6)


def test_an_interrupted_bench_stops_what_it_started(gateway_python: str, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "engine.py"), "--quick", "--only", "cost"]
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL) as bench:
        wait_until(lambda: "vedette run" in " ".join(children(bench.pid).values()))
        started = children(bench.pid)
        bench.send_signal(signal.SIGINT)
        assert bench.wait(20) == 130
    assert len(started) == 3, "broker, publisher and agent"
    assert not any(command_line(pid) for pid in started)
    assert not list(tmp_path.glob("vedette-bench-*"))


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = figures_of(MISSED_LOW, MISSED_HIGH, REACHED, INFORMATION)
    figures.write(written, tmp_path / "new" / "engine.json")
    assert figures.read(tmp_path / "new" / "engine.json") == written


def test_the_file_has_the_keys_that_the_design_names(tmp_path: Path) -> None:
    figures.write(figures_of(MISSED_LOW, INFORMATION), tmp_path / "engine.json")
    data = msgspec.json.decode((tmp_path / "engine.json").read_bytes())
    assert list(data) == ["commit", "machine", "versions", "rows"]
    assert list(data["rows"][0]) == ["name", "value", "unit", "bar", "better", "runs", "spread"]
    assert "bar" not in data["rows"][1]


def test_rows_that_miss_their_bar_come_first_and_information_last() -> None:
    lines = [Line("engine", row) for row in (INFORMATION, REACHED, MISSED_LOW, MISSED_HIGH)]
    assert [line.row for line in figures.in_order(lines)] == [MISSED_LOW, MISSED_HIGH, REACHED, INFORMATION]


def test_only_rows_that_miss_their_bar_are_marked() -> None:
    lines = [Line("engine", row) for row in (MISSED_LOW, MISSED_HIGH, REACHED, INFORMATION)]
    marked = [text for text in figures.table(lines).splitlines() if text.startswith("MISSED")]
    assert ["start" in marked[0], "windows" in marked[1]] == [True, True]
    assert len(marked) == 2


def test_a_figure_that_is_no_number_reaches_no_bar() -> None:
    assert msgspec.structs.replace(REACHED, value=float("nan")).missed
    assert msgspec.structs.replace(MISSED_HIGH, value=float("nan")).missed


def test_a_bar_without_its_better_side_is_refused() -> None:
    with pytest.raises(ValueError, match="better"):
        Row(name="ratio", value=1.0, unit="ratio", bar=1.0, runs=1)


def test_one_table_holds_the_figures_of_every_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures.write(figures_of(REACHED), tmp_path / "engine.json")
    figures.write(figures_of(MISSED_LOW), tmp_path / "soak.json")
    assert figures.main(tmp_path) == 0
    printed = capsys.readouterr().out
    assert printed.index("soak    start") < printed.index("engine  ratio")
    assert "1 of 2 bars missed" in printed


def test_a_file_that_holds_no_figures_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "engine.json").write_text("{}")
    assert figures.main(tmp_path) == 1
    assert "engine.json" in capsys.readouterr().err


def test_no_figures_at_all_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert figures.main(tmp_path) == 1
    assert "make bench" in capsys.readouterr().err

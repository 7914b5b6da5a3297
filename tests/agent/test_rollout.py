"""A model goes live in a running agent: real store, real broker, real runtime."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import onnx
from onnx import TensorProto, helper

from agents import STREAM, Agent, Watcher, episode, vedette, write_config
from brokers import Mosquitto
from bundles import install, largest_deviation_model, make_bundle
from vedette.contract import bundle as bundles
from vedette.contract.windows import WindowSpec
from vedette.store import MAX_STARTS, Store

TOPIC = "plant/north/fridge/f-1/telemetry"
START = 1_790_000_000


def give(folder: Path, data: bytes, *options: str) -> None:
    """Install a bundle as an operator does, beside the running agent."""
    path = folder / "new.vedette"
    path.write_bytes(data)
    done = vedette("model", "install", path, "-c", folder / "agent.yaml", *options)
    assert done.returncode == 0, done.stderr


def report(watcher: Watcher) -> dict[str, Any]:
    """What the agent last said of its model."""
    found: dict[str, Any] = json.loads(watcher.last("vedette/gw-1/models/fridge") or b"{}")
    return found


def readings(count: int, first: int = 0, temperature: float = 6.0) -> list[dict[str, Any]]:
    return [{"ts": START + 60 * (first + i), "temperature": temperature} for i in range(count)]


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def frail_model() -> bytes:
    """Scores as the usual one up to 5 sigma, and gives no number beyond."""
    model = onnx.load_from_string(largest_deviation_model(1, 1))
    model.graph.node[-1].output[0] = "largest"
    model.graph.node.extend(
        [
            helper.make_node("Sub", ["five", "largest"], ["left"]),
            helper.make_node("Sqrt", ["left"], ["root"]),
            helper.make_node("Mul", ["root", "root"], ["square"]),
            helper.make_node("Sub", ["five", "square"], ["raw"]),
        ]
    )
    model.graph.initializer.append(helper.make_tensor("five", TensorProto.FLOAT, [1], [5.0]))
    return bytes(model.SerializeToString())


def with_model(data: bytes, model: bytes) -> bytes:
    """The bundle with another model that gives its golden windows the same scores, nearly."""
    made = bundles.read(data)
    files = bundles.with_golden({"model.onnx": model}, made.golden_windows, made.golden_scores)
    return bundles.write(msgspec.structs.replace(made.manifest, files=bundles.entries(files)), files)


def test_a_swap_under_load_scores_every_reading_once_by_one_version_or_the_other(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(version="1.0.0", threshold=4.0))
    config = write_config(tmp_path, broker.url, stats_every="200ms", limits={"rate": None})  # one device sends it all
    with Watcher(broker) as watcher, Agent(config, "--scores", tmp_path / "scores.jsonl") as agent:
        watcher.wait_online()
        sent = [watcher.client.publish(TOPIC, json.dumps(reading), 1) for reading in readings(5000)]
        give(tmp_path, make_bundle(version="1.1.0", threshold=8.0), "--now")
        first = 5000
        while report(watcher).get("live") != "1.1.0":
            assert first < 200_000, "the new version did not go live"
            sent += [watcher.client.publish(TOPIC, json.dumps(reading), 1) for reading in readings(200, first)]
            sent[-1].wait_for_publish(30)
            first += 200
        sent += [watcher.client.publish(TOPIC, json.dumps(reading), 1) for reading in readings(1000, first)]
        for info in sent:
            info.wait_for_publish(30)
        total = first + 1000
        watcher.wait(lambda: watcher.counters().get("received") == total, 60)
        assert agent.stop() == 0
        counters = watcher.counters()
        assert counters["received"] == counters["readings"] == counters["scored"] == total
        scores = [json.loads(line)["score"] for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
        # Two sigma from the mean: a score of 1/2 by the one, 1/4 by the other, and no way back.
        assert len(scores) == total
        changed = scores.index(0.25)
        assert set(scores[:changed]) == {0.5} and set(scores[changed:]) == {0.25}
        assert 0 < changed < total
    assert "fridge: 1.1.0 is live" in agent.said


def test_windows_and_alerts_survive_a_swap(tmp_path: Path, broker: Mosquitto) -> None:
    window = WindowSpec(steps=4)
    install(tmp_path / "state", make_bundle(version="1.0.0", window=window))
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url, stats_every="200ms")):
        watcher.wait_online()
        watcher.publish(TOPIC, *episode([4.0] * 6 + [10.0] * 6))
        watcher.wait(watcher.alerts)
        give(tmp_path, make_bundle(version="1.1.0", window=window, threshold=5.0), "--now")
        watcher.wait(lambda: report(watcher).get("live") == "1.1.0")
        watcher.publish(TOPIC, *readings(12, first=12, temperature=4.0))
        watcher.wait(lambda: len(watcher.alerts()) == 2)
        new, end = (alert["payload"] for alert in watcher.alerts())
        assert (new["type"], end["type"], new["id"]) == ("new", "end", end["id"])
        assert (new["model"]["version"], end["model"]["version"]) == ("1.0.0", "1.1.0")
        # Three readings waited for the first window; none waited for a window of the new model.
        counters = watcher.wait(lambda: (c := watcher.counters()) and c["received"] == 24 and c)
        assert (counters["waiting"], counters["scored"]) == (3, 21)
        # Another window begins anew, and every reading stays accounted for.
        give(tmp_path, make_bundle(version="1.2.0", window=WindowSpec(steps=3)), "--now")
        watcher.wait(lambda: report(watcher).get("live") == "1.2.0")
        watcher.publish(TOPIC, *readings(5, first=24, temperature=4.0))
        counters = watcher.wait(lambda: (c := watcher.counters()) and c["received"] == 29 and c)
        assert (counters["waiting"], counters["scored"], counters["failed"]) == (5, 24, 0)


def test_a_good_candidate_goes_live_after_its_trial_with_the_numbers(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(version="1.0.0"))
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url, trial="60 windows")) as agent:
        watcher.wait_online()
        give(tmp_path, make_bundle(version="1.1.0", threshold=5.0))
        watcher.wait(lambda: report(watcher).get("trial"))
        watcher.publish(TOPIC, *readings(59, temperature=5.0))
        watcher.publish(TOPIC, *readings(1, first=59, temperature=4.5))
        told = watcher.wait(lambda: (r := report(watcher)) and r["live"] == "1.1.0" and r)
        assert told["trial"] is None and told["last"]["good"]
        numbers = told["last"]["numbers"]
        assert (numbers["live"]["windows"], numbers["candidate"]["windows"], numbers["failed"]) == (60, 60, 0)
        assert abs(numbers["live"]["median"] - 0.25) < 0.03 and abs(numbers["candidate"]["median"] - 0.2) < 0.03
        assert agent.stop() == 0
    assert "did well on trial: 60 windows beside 1.0.0: 0.00% over the threshold (live 0.00%), 0 alerts (0)" in agent.said
    record = Store(tmp_path / "state").record("fridge")
    assert record.live and record.previous and record.candidate is None
    # It was stopped in good order: not a crash of the new model's.
    assert (record.live.version, record.live.starts, record.previous.version) == ("1.1.0", 0, "1.0.0")


def test_a_trial_begins_anew_beside_another_model_that_goes_live_meanwhile(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(version="1.0.0"))
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url, trial="60 windows")) as agent:
        watcher.wait_online()
        give(tmp_path, make_bundle(version="1.1.0", threshold=5.0))
        watcher.wait(lambda: report(watcher).get("trial"))
        watcher.publish(TOPIC, *readings(30))
        give(tmp_path, make_bundle(version="1.2.0", threshold=6.0), "--now")
        watcher.wait(lambda: (r := report(watcher))["live"] == "1.2.0" and r["trial"])
        watcher.publish(TOPIC, *readings(30, first=30))
        assert report(watcher)["live"] == "1.2.0"
        watcher.publish(TOPIC, *readings(30, first=60))
        told = watcher.wait(lambda: (r := report(watcher))["live"] == "1.1.0" and r)
        assert (told["last"]["numbers"]["live"]["version"], told["last"]["numbers"]["candidate"]["windows"]) == ("1.2.0", 60)
        assert agent.stop() == 0


def test_a_store_that_cannot_be_read_is_said_once_and_scoring_goes_on(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(version="1.0.0"))
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url)) as agent:
        watcher.wait_online()
        (tmp_path / "state" / "models").rename(tmp_path / "elsewhere")
        time.sleep(1.5)
        watcher.publish(TOPIC, *readings(10))
        assert agent.stop() == 0
        assert watcher.counters()["scored"] == 10
    assert agent.said.count("record cannot be read: No such file or directory; trying again every 10 s") == 1


def test_a_candidate_that_floods_is_rejected_and_the_live_one_goes_on(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(version="1.0.0"))
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url, trial="1h")) as agent:
        watcher.wait_online()
        give(tmp_path, make_bundle(version="1.1.0", threshold=0.5))
        watcher.wait(lambda: report(watcher).get("trial"))
        for device in range(5):
            watcher.publish(TOPIC.replace("f-1", f"f-{device}"), *readings(10, temperature=5.0))
        told = watcher.wait(lambda: (r := report(watcher)).get("last") and r["trial"] is None and r)
        assert told["live"] == "1.0.0" and told["last"]["reason"].startswith("flood: ")
        watcher.publish(TOPIC, *readings(10, first=10, temperature=12.0))
        watcher.wait(watcher.alerts)
        assert agent.stop() == 0
    assert {a["payload"]["model"]["version"] for a in watcher.alerts()} == {"1.0.0"}
    listed = vedette("model", "list", "-c", tmp_path / "agent.yaml").stdout
    assert "fridge 1.0.0  live\nfridge 1.1.0  refused " in listed and "flood" in listed


def test_a_candidate_that_cannot_score_what_comes_is_rejected(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(version="1.0.0"))
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url, trial="1h")) as agent:
        watcher.wait_online()
        give(tmp_path, with_model(make_bundle(version="1.1.0"), frail_model()))
        watcher.wait(lambda: report(watcher).get("trial"))
        watcher.publish(TOPIC, *readings(5), *readings(1, first=5, temperature=20.0))
        told = watcher.wait(lambda: (r := report(watcher)).get("last") and r["trial"] is None and r)
        assert told["live"] == "1.0.0" and "could not be scored" in told["last"]["reason"]
        assert agent.stop() == 0
        assert (watcher.counters()["scored"], watcher.counters()["failed"]) == (6, 0)


def test_a_candidate_that_brings_the_agent_down_is_rejected_when_the_agent_is_back(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", make_bundle(version="1.0.0"))
    config = write_config(tmp_path, broker.url, trial="1h")
    give(tmp_path, make_bundle(version="1.1.0"))
    store = Store(tmp_path / "state")
    for starts in range(1, MAX_STARTS + 1):
        with Agent(config) as agent:
            wait_until(lambda: (candidate := store.record("fridge").candidate) and candidate.starts == starts)  # noqa: B023 because it is called here
            agent.process.kill()
    with Agent(config) as agent:
        wait_until(lambda: store.record("fridge").candidate is None)
        with Watcher(broker) as watcher:
            watcher.wait_online()
        assert agent.stop() == 0
    (refused,) = store.record("fridge").refused
    assert refused.reason == f"the agent ended {MAX_STARTS} times while it was on trial"
    assert "1.1.0 is rejected" in agent.said


def test_a_model_that_does_not_fit_the_streams_gives_way_at_once(tmp_path: Path, broker: Mosquitto) -> None:
    mapped = {**STREAM, "payload": {"time": {"field": "ts"}, "fields": {"temperature": "t"}}}
    install(tmp_path / "state", make_bundle(version="1.0.0"))
    with Watcher(broker) as watcher, Agent(write_config(tmp_path, broker.url, streams=[mapped])) as agent:
        watcher.wait_online()
        other = msgspec.structs.replace(bundles.read(make_bundle()).manifest.features[0], name="humidity")
        # Without a configuration nobody could know.
        install(tmp_path / "state", make_bundle(version="1.1.0", features=(other,)))
        wait_until(lambda: Store(tmp_path / "state").record("fridge").refused)
        assert agent.stop() == 0
    record = Store(tmp_path / "state").record("fridge")
    assert record.live and record.live.version == "1.0.0"
    assert "streams[0].payload" in record.refused[0].reason
    assert "1.1.0 cannot go live: streams[0].payload" in agent.said

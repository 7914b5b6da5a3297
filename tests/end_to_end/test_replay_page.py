"""Every command of docs/replay.md, in its order."""

import re
import subprocess
import sys
from pathlib import Path

from agents import write_config
from brokers import Mosquitto
from bundles import install, make_bundle
from conftest import REPOSITORY
from vedette.demo.command import BUNDLE

PAGE = REPOSITORY / "docs" / "replay.md"
STREAM = {"name": "fridges", "topic": "plant/+/fridge/{device}/telemetry", "model": "cold-chain", "payload": {"time": {"field": "ts"}}}


def test_every_command_of_the_page_does_what_the_page_says(tmp_path: Path, broker: Mosquitto) -> None:
    install(tmp_path / "state", BUNDLE.read_bytes())
    (tmp_path / "cold-chain-1.1.0.vedette").write_bytes(make_bundle(name="cold-chain", version="1.1.0", threshold=5.0))
    write_config(tmp_path, broker.url, streams=[STREAM])
    text = PAGE.read_text()
    (recipe,) = re.findall(r"^```yaml\n# fridges.yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "fridges.yaml").write_text(recipe)
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    page = "".join(blocks)
    assert "--seconds 86400" in page
    page = page.replace("--seconds 86400", "--seconds 3")
    # Whatever the page prints is kept, command by command.
    vedette = f'n=0; vedette() {{ n=$((n+1)); {sys.executable} -m vedette "$@" > >(tee out-$n) 2> err-$n; }}\n'

    live = ["simulate", "cold-chain", "--broker", broker.url, "--devices", "4", "--start", "2026-01-05", "--speed", "3600"]
    with subprocess.Popen([sys.executable, "-m", "vedette", *live], stderr=subprocess.DEVNULL) as fleet:
        done = subprocess.run(["bash", "-e", "-c", vedette + page], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        fleet.terminate()
    said = {number: ((tmp_path / f"out-{number}").read_text(), (tmp_path / f"err-{number}").read_text()) for number in range(1, 9)}
    assert done.returncode == 0, said
    assert re.search(r"tuesday.jsonl.gz: [1-9]\d* messages on 4 topics", said[1][1]), said[1]
    assert re.search(r"4 devices, \d+ windows, \d+ alerts", said[2][1]), said[2]
    assert (tmp_path / "alerts.jsonl").read_text().splitlines()[-1].startswith('{"unmatched":0,"streams"')
    assert (tmp_path / "scores.jsonl").stat().st_size
    assert "budget: at most 3 new alerts a day of all devices" in said[4][0]
    assert "only in 1.0.0 (live)" in said[5][0] and "only in 1.1.0 (given)" in said[5][0]
    assert "only in 1.0.0 (live) 0, only in 1.0.0 (given) 0" in said[6][0]
    assert said[8][0].count(" new ") >= 5, "the simulated faults are found"
    assert (tmp_path / "run").is_dir()

"""One target under atheris: `hunt.py TARGET EXECUTIONS SEED CORPUS FOUND`, in the environment that has atheris.

Rules this module keeps: what a target raises does not end the hunt; each place that raises is kept once, as the bytes that led there, in
FOUND. The last line on standard output is a JSON object: executions, and what was raised by file name. libFuzzer says the rest.
"""

import hashlib
import json
import sys
import traceback
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["vedette"]):
    from fuzz.targets import TARGETS


def main(name: str, executions: str, seed: str, corpus: str, found: str) -> None:
    """Hunt."""
    target = TARGETS[name].target
    raised: dict[str, str] = {}
    places: set[tuple[str, str, int | None]] = set()
    count = 0

    def tried(data: bytes) -> None:
        nonlocal count
        count += 1
        try:
            target(data)
        except Exception as error:  # noqa: BLE001 because every kind is what is looked for
            last = traceback.extract_tb(error.__traceback__)[-1]
            if (place := (type(error).__name__, last.filename, last.lineno)) not in places:
                places.add(place)
                file = Path(found) / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
                file.write_bytes(data)
                raised[file.name] = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"[:300]
        if count == int(executions):
            print(json.dumps({"executions": count, "raised": raised}), flush=True)

    options = [f"-runs={executions}", f"-seed={seed}", "-max_len=4500", "-timeout=20", "-rss_limit_mb=1500", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, corpus], tried)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A bundle's first load on this machine: in a process of its own, so that a model which crashes, hangs or eats memory takes nothing along.

Rules this module keeps: the bytes were verified before a runtime sees them; the child can have no more than the limits below, writes no
file, and is gone when `prove` returns; whatever becomes of it is one BundleError that says what.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from vedette.contract.bundle import open_bundle, self_test
from vedette.contract.errors import BundleError, DigestError, FormatError, ScoreError, SelfTestError
from vedette.runtimes import load_scorer

MAX_MEMORY_BYTES = 512 * 1024**2
"""Private memory of the child. Both runtimes with a model each: 120 MB."""

MAX_CPU_S = 60
TIMEOUT_S = 120.0
"""By the clock, because a gateway has other work. The largest detectors take 2 s on a workstation."""

_TIMED = 5
_KINDS = {kind.__name__: kind for kind in (BundleError, DigestError, FormatError, ScoreError, SelfTestError)}


class Proof(msgspec.Struct, frozen=True, kw_only=True, tag="proof"):
    """What a bundle showed on this machine.

    Attributes:
        sha256: Of the file that was proved.
        windows: Golden windows that it scored.
        largest_difference: From their expected scores, relative to max(1, score).
        us_per_window: In one batch of all of them, the median of some runs.
        peak_bytes: The process's resident memory at its highest, the interpreter and the runtimes included.
    """

    sha256: str
    windows: int
    largest_difference: float
    us_per_window: float
    peak_bytes: int


class _Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="refusal"):
    kind: str
    message: str


def prove(path: Path, timeout_s: float = TIMEOUT_S) -> Proof:
    """Let the bundle at `path` load and score its golden windows in a child process, which is killed after `timeout_s`.

    Raises:
        BundleError: it does not verify, or scores differently here, or crashes, or takes more than it may.
        ScoreError: a runtime is missing or refuses a model.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __name__, str(path)]
    try:
        child = subprocess.run(command, capture_output=True, check=False, timeout=timeout_s, env=environment, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise SelfTestError(f"{path}: its models did not score the golden windows within {timeout_s:.0f} s here") from error
    except OSError as error:
        raise SelfTestError(f"{path}: cannot be tried here: {error.strerror}") from error
    try:
        answer = msgspec.json.decode(child.stdout, type=Proof | _Refusal)
    except msgspec.DecodeError as error:
        raise SelfTestError(f"{path}: {_explain(child.returncode, child.stderr)}") from error
    if isinstance(answer, _Refusal):
        raise _KINDS[answer.kind](answer.message)
    return answer


def _explain(code: int, said: bytes) -> str:
    if code == -signal.SIGXCPU:
        return f"its models took more than {MAX_CPU_S} s of the processor to score the golden windows"
    if code < 0:
        return f"its models crash the runtime here ({signal.Signals(-code).name}); it must not go live here"
    last = said.decode(errors="replace").strip().rpartition("\n")[2][:200]
    return f"its models could not be tried here (exit code {code}): {last}"


def _peak_bytes() -> int:
    """This process's largest resident memory. getrusage would count the parent's at the moment of the fork."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _main(path: Path) -> int:
    """The child."""
    with contextlib.suppress(PermissionError):  # a hardened unit may refuse it, and the limits are what counts
        os.nice(10)
    for limit, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CPU, MAX_CPU_S, MAX_CPU_S + 5),  # SIGXCPU at the first, which says why; SIGKILL at the second
        (resource.RLIMIT_DATA, MAX_MEMORY_BYTES, MAX_MEMORY_BYTES),
    ):
        resource.setrlimit(limit, (soft, hard))
    try:
        answer: Proof | _Refusal = _try(path)
    except (BundleError, ScoreError) as error:
        answer = _Refusal(kind=type(error).__name__, message=str(error))
    except MemoryError:
        answer = _Refusal(kind="SelfTestError", message=f"{path}: its models need more than {MAX_MEMORY_BYTES // 1024**2} MiB here")
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0 if isinstance(answer, Proof) else 1


def _try(path: Path) -> Proof:
    bundle = open_bundle(path)
    scorer = load_scorer(bundle)
    worst = self_test(bundle, scorer)
    took_s = []
    for _ in range(_TIMED):
        started = time.perf_counter()
        scorer.score(bundle.golden_windows)
        took_s.append(time.perf_counter() - started)
    return Proof(
        sha256=bundle.sha256,
        windows=len(bundle.golden_scores),
        largest_difference=worst,
        us_per_window=round(sorted(took_s)[_TIMED // 2] / len(bundle.golden_scores) * 1e6, 1),
        peak_bytes=_peak_bytes(),
    )


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))

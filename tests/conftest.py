import os
import pty
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from brokers import Mosquitto
from schemas import holding_alerts

# Timing on a shared machine says nothing about the code.
settings.register_profile("vedette", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Where every example takes twenty times as long: make test-arm asks for it.
settings.register_profile("emulated", settings.get_profile("vedette"), max_examples=10)
settings.load_profile(os.environ.get("VEDETTE_HYPOTHESIS_PROFILE", "vedette"))

REPOSITORY = Path(__file__).parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


# Started in a shell's background, as CI may start it, this process and all that tests start would ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _every_alert_is_as_its_schema_says() -> Iterator[None]:
    """Whichever test it is that a judge, a pipeline or an outbox of this process makes it in; what agents publish, a Watcher looks at."""
    with holding_alerts():
        yield


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as running:
        yield running


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: descriptors of our side, and of that which a program writes to."""
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(reason=f"this system gives no pseudo-terminal: {error.strerror}")
    yield ours, theirs
    for side in (ours, theirs):
        os.close(side)


@pytest.fixture(scope="session")
def fridge_60k() -> Path:
    """The TON_IoT fridge file, which is not part of the repository."""
    path = SHARED_DATA / "ton_iot" / "fridge_60k.csv"
    if not path.exists():
        pytest.skip(reason="the TON_IoT fridge file is not here (../shared/data/ton_iot)")
    return path


@pytest.fixture(scope="session")
def gateway_python() -> str:
    """The interpreter of an environment with a gateway's packages and nothing else."""
    python = os.environ.get("VEDETTE_GATEWAY_PYTHON") or str(REPOSITORY / ".venv-gateway" / "bin" / "python")
    if not Path(python).exists():
        pytest.skip(reason="there is no gateway's environment: make test makes one (.venv-gateway)")
    return python


@pytest.fixture(scope="session")
def tflite_python() -> str:
    """The interpreter of an environment with tflite-runtime in place of LiteRT, and numpy 1."""
    python = os.environ.get("VEDETTE_TFLITE_PYTHON") or str(REPOSITORY / ".venv-tflite" / "bin" / "python")
    if not Path(python).exists():
        pytest.skip(reason="there is no environment with tflite-runtime: make test makes one (.venv-tflite), where Python is 3.11 or older")
    return python

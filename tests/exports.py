"""Real exports of real runs, each made once, for the tests that look at them from several sides."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from vedette.contract.scores import Precision
from vedette_exporter.choice import Choice
from vedette_exporter.pack import Packed, pack

TO_ONNX, AS_LOOPS = " to onnx", " as loops"
NARROWER: dict[str, Precision] = {" in float16": "float16", " in int8": "int8"}


class Exported(NamedTuple):
    """A run, how it was exported, and to what."""

    folder: Path
    choice: Choice
    packed: Packed


class Exports:
    """Exports a detector's run, by the detector's name, followed, where that is not the default, by how.

    Args:
        make_run: Gives the folder of a detector's run.
    """

    def __init__(self, make_run: Callable[..., Path]) -> None:
        self._make_run = make_run
        self._made: dict[str, Exported] = {}

    def __call__(self, kind: str) -> Exported:
        if kind not in self._made:
            name = kind.removesuffix(TO_ONNX).removesuffix(AS_LOOPS)
            choice = Choice(runtime="onnx") if kind.endswith(TO_ONNX) else Choice()
            for ending, precision in NARROWER.items():
                if name.endswith(ending):
                    name, choice = name.removesuffix(ending), Choice(precision=precision)
            if kind.endswith(AS_LOOPS):
                # They make the smaller file, and are taken where the other does not fit.
                ((_, loops),) = self(name).packed.routes.values()
                choice = Choice(max_bytes=loops.bytes)
            folder = self._make_run(name)
            self._made[kind] = Exported(folder, choice, pack(folder, None, None, choice))
        return self._made[kind]

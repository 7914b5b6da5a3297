"""Model runtimes, each imported only when a bundle needs it."""

from vedette.contract.bundle import Bundle
from vedette.contract.errors import ScoreError
from vedette.contract.scores import Runtime, Scorer, Stage


def load_scorer(bundle: Bundle) -> Scorer:
    """Load a verified bundle's models, from memory, one thread each.

    Raises:
        ScoreError: a runtime is not installed, or refuses a model.
    """
    manifest = bundle.manifest
    runtimes = [load(stage, bundle.files[stage.file]) for stage in manifest.stages]
    return Scorer(manifest.stages, runtimes, manifest.combine, manifest.calibration)


def load(stage: Stage, model: bytes) -> Runtime:
    """Load one stage's model.

    Raises:
        ScoreError: the runtime is not installed, or refuses the model.
    """
    try:
        if stage.runtime == "litert":
            from vedette.runtimes.litert import LiteRT

            return LiteRT(model)
        from vedette.runtimes.onnx import Onnx

        return Onnx(model)
    except ImportError as error:
        only = "; there is none for 32-bit ARM, which runs TFLite models only" if stage.runtime == "onnx" else ""
        raise ScoreError(
            f"stage {stage.name} needs the {stage.runtime} runtime, which is not installed: pip install 'vedette[gateway]'{only}"
        ) from error

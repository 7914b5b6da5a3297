"""Hybrids: several detectors whose scores become one, on the window itself or on what an autoencoder made of it."""

from typing import Literal

import msgspec
import numpy as np

from vedette.contract.features import Rows
from vedette.contract.scores import Combine, Feed
from vedette_training.detectors import Curve, Detector, Fitted, FittedStage, Settings, Workshop
from vedette_training.detectors.dbscan import Dbscan
from vedette_training.detectors.isolation_forest import IsolationForest
from vedette_training.detectors.lstm_autoencoder import ERROR, LATENT, LstmAutoencoder
from vedette_training.detectors.one_class_svm import OneClassSvm
from vedette_training.detectors.pca import Pca
from vedette_training.models import Model
from vedette_training.windows import Part, Windows

ENCODER = "lstm_autoencoder"
_AT_ONCE = 4096


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One detector of a hybrid.

    Attributes:
        input: What it looks at: the window, or the autoencoder's latent vector, its error, or both side by side (standardised).
    """

    detector: LstmAutoencoder | IsolationForest | OneClassSvm | Dbscan | Pca
    input: tuple[Literal["window", "latent", "error"], ...] = ("window",)

    def __post_init__(self) -> None:
        if not self.input or len(set(self.input)) != len(self.input) or ("window" in self.input and len(self.input) > 1):
            raise ValueError("input: expected [window], [latent], [error] or [latent, error]")
        if self.input != ("window",) and isinstance(self.detector, LstmAutoencoder):
            raise ValueError("input: an lstm_autoencoder looks at the window")


class Hybrid(Settings, frozen=True, kw_only=True, tag="hybrid"):
    """An autoencoder, if a member looks at what it makes, and the members.

    Attributes:
        autoencoder: Its settings.
        members: At least one.
        combine: `all`: strange to each of them; `any`: strange to one of them; `mean`: their mean.
    """

    members: tuple[Member, ...]
    combine: Combine = "all"
    autoencoder: LstmAutoencoder = LstmAutoencoder()

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("members: at least one is needed")

    def fit(self, part: Part, workshop: Workshop) -> Fitted:
        """Train the autoencoder, then each member on what it looks at.

        Raises:
            HistoryError: as the members'.
        """
        stages: list[FittedStage] = []
        curves: dict[str, Curve] = {}
        seen: dict[str, Rows] = {}
        if any(member.input != ("window",) for member in self.members):
            encoder = self.autoencoder.fit(part, workshop.for_part(ENCODER))
            stages.append(encoder.stages[0]._replace(name=ENCODER, has_say=False))
            curves |= encoder.curves
            seen = _look(encoder.stages[0].model, part.normal, workshop.seed)
        for number, member in enumerate(self.members, start=1):
            name = f"{number}_{member.detector.kind}"
            if member.input == ("window",):
                fitted = member.detector.fit(part, workshop.for_part(name))
                stages.append(fitted.stages[0]._replace(name=name))
            else:
                stage = _fit_standardised(member.detector, np.concatenate([seen[output] for output in member.input], axis=1), workshop)
                stages.append(stage._replace(name=name, input=Feed(stage=ENCODER, outputs=member.input)))
        return Fitted(tuple(stages), self.combine, curves)


def _look(encoder: Model, windows: Windows, seed: int) -> dict[str, Rows]:
    """What the autoencoder makes of windows: float32 `(n, …)` by output."""
    windows = windows.sample(seed)
    parts = [encoder.run(windows[start : start + _AT_ONCE].gather()) for start in range(0, len(windows), _AT_ONCE)]
    return {output: np.concatenate([part[output] for part in parts]) for output in (LATENT, ERROR)}


def _fit_standardised(detector: Detector, rows: Rows, workshop: Workshop) -> FittedStage:
    """Fit on standardised columns; the standardising becomes part of the model."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from vedette_training.models.sklearn_model import SklearnModel

    scale = StandardScaler().fit(rows.astype(np.float64))
    standardised = scale.transform(rows).astype(np.float32)
    normal = np.zeros(len(rows), dtype=np.bool_)
    places = np.arange(len(rows))
    (stage,) = detector.fit(Part(Windows(standardised, places, 1), normal, normal, places, places, places), workshop).stages
    return stage._replace(model=SklearnModel(Pipeline([("scale", scale), ("detect", stage.model.original)])))

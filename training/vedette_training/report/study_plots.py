"""Plots of the latent study."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from vedette_training.report.pictures import TALL, Key, Plot, colour, draw
from vedette_training.report.words import amount, count, percent
from vedette_training.study import Box, Projection, Study


def projection(identity: str, found: Projection) -> Plot:
    """Windows along the first two principal components: colour is the label, a ring the verdict."""
    x, y = np.array(found.x), np.array(found.y)
    anomalous, flagged = np.array(found.anomalous, dtype=np.bool_), np.array(found.flagged, dtype=np.bool_)
    # Beyond what a few far points would leave of the picture, points stand at its edge.
    bounds = [(np.quantile(v, 0.002), np.quantile(v, 0.998)) for v in (x, y)]
    bounds = [(low - 0.3 * (high - low) - 0.1, high + 0.3 * (high - low) + 0.1) for low, high in bounds]
    x, y = (np.clip(v, low, high) for v, (low, high) in zip((x, y), bounds, strict=True))

    def paint(axes: Axes, narrow: bool) -> None:  # noqa: ARG001 because all plots are asked alike
        for name, mask, strength in (("normal", ~anomalous, 0.45), ("anomalous", anomalous, 0.9)):
            axes.plot(x[mask], y[mask], ls="none", marker="o", ms=3, mew=0, color=colour(name), alpha=strength)
        axes.plot(x[flagged], y[flagged], ls="none", marker="o", ms=6.5, mfc="none", mec=colour("ink"), mew=0.9)
        axes.set(xlabel=f"first component ({percent(found.explained[0])} of variance)", ylabel=f"second ({percent(found.explained[1])})")
        axes.margins(0.04)

    label = (
        f"Projection of {count(len(x), 'window')}: {int(anomalous.sum())} anomalous, {int(flagged.sum())} flagged, "
        f"{int((anomalous & flagged).sum())} both; "
        f"the two components hold {percent(sum(found.explained))} of the variance"
    )
    caption = (
        "Each dot is a window. Where vermilion dots lie apart from blue ones, the autoencoder has told them apart; rings should "
        "be on vermilion dots only."
    )
    keys = [Key("normal", "dot", "normal"), Key("anomalous", "dot", "anomalous"), Key("ink", "ring", "flagged")]
    return draw(identity, "Projection", label, caption, paint, keys, size=TALL)


def boxes(identity: str, found: Study) -> Plot | None:
    """Leading features of flagged windows beside those of the others."""
    if not found.boxes:
        return None
    names = list(dict.fromkeys(box.feature for box in found.boxes))

    def paint(axes: Axes, narrow: bool) -> None:  # noqa: ARG001 because all plots are asked alike
        for box in found.boxes:
            _paint_box(axes, box, len(names) - 1 - names.index(box.feature))
        axes.set_yticks(range(len(names)), list(reversed(names)))
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("standard deviations from the mean of all")
        axes.grid(visible=False, axis="y")

    medians = "; ".join(f"{box.feature}, {'flagged' if box.flagged else 'others'}: {amount(box.median)}" for box in found.boxes)
    caption = (
        "Boxes hold the middle half, the bar is the median, whiskers reach 1.5 times the box, dots are some of what is beyond. A "
        "feature whose two boxes do "
        "not meet is one that the verdict rests on."
    )
    keys = [Key("anomalous", "box", "flagged"), Key("normal", "box", "others")]
    return draw(identity, "Leading features", f"Box plots. Medians: {medians}", caption, paint, keys, size=TALL)


def _paint_box(axes: Axes, box: Box, row: int) -> None:
    own = colour("anomalous" if box.flagged else "normal")
    at = row + (0.19 if box.flagged else -0.19)
    for edge, end in ((box.first_quartile, box.low), (box.third_quartile, box.high)):
        axes.plot([edge, end], [at, at], color=own, lw=1.2, solid_capstyle="butt")
    width = box.third_quartile - box.first_quartile
    axes.add_patch(Rectangle((box.first_quartile, at - 0.14), width, 0.28, facecolor=own, alpha=0.3, lw=0))
    axes.add_patch(Rectangle((box.first_quartile, at - 0.14), width, 0.28, facecolor="none", edgecolor=own, lw=1.2))
    axes.plot([box.median, box.median], [at - 0.14, at + 0.14], color=own, lw=2.4, solid_capstyle="butt")
    if box.outliers:
        axes.plot(box.outliers, [at] * len(box.outliers), ls="none", marker="o", ms=2.6, mew=0, color=own, alpha=0.7)

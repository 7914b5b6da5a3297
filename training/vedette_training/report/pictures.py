"""Pictures: matplotlib figures as SVG that stands in the page's own text and takes its colours and its font from the page's style.

Rules this module keeps: the same figure gives the same bytes; nothing in a picture refers to anything outside it, and no two pictures share
an id; text stays text, and is never read as mathematics; a colour is the name of one that the page's style defines, so that it follows the
reader's theme.
"""

import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = (
    "paper", "ink", "muted", "faint", "normal", "anomalous", "labelled", "alert", "good",
    "series-1", "series-2", "series-3", "series-4", "series-5", "series-6",
)  # fmt: skip
_SENTINELS = {name: f"#0fe{place:02x}7" for place, name in enumerate(COLOURS)}
_NAMES = {sentinel: name for name, sentinel in _SENTINELS.items()}

WIDE, NARROW, PANEL, TALL = (880, 150), (340, 150), (410, 280), (410, 380)
"""Sizes in CSS pixels at which pictures are drawn; the page scales a panel to between 0.7 and 1.1 of it."""

_XLINK = "{http://www.w3.org/1999/xlink}href"
_LONGEST = 40


class Key(NamedTuple):
    """An entry of a legend: `mark` is line, dash, box, band, dot or ring."""

    colour: str
    mark: str
    text: str


class Plot(NamedTuple):
    """A picture with its words.

    Attributes:
        title: What is above it; may be empty.
        pictures: SVG by the class of the screen that it is for: `any`, or `wide` and `narrow`.
        caption: How to read it.
        keys: Its legend.
    """

    title: str
    pictures: tuple[tuple[str, Markup], ...]
    caption: str
    keys: tuple[Key, ...] = ()


def colour(name: str) -> str:
    """The stand-in for a colour of the page's style, for matplotlib."""
    return _SENTINELS[name]


def plain(text: str, at_most: int | None = None) -> str:
    """Text without characters that a page or a picture cannot hold, or that would turn round what stands beside them."""
    kept = "".join(
        "\ufffd" if (unicodedata.category(c) in {"Cc", "Cs", "Cn", "Co"} and c != "\n") or c in "\u202a\u202b\u202d\u202e" else c
        for c in text
    )
    return kept if at_most is None or len(kept) <= at_most else f"{kept[: at_most - 1]}…"


def short(text: str) -> str:
    """Text as it fits into a picture."""
    return plain(text, _LONGEST)


def draw(
    identity: str,
    title: str,
    label: str,
    caption: str,
    paint: Callable[[Axes, bool], None],
    keys: Sequence[Key] = (),
    *,
    size: tuple[int, int] = PANEL,
) -> Plot:
    """Draw a plot, for wide and narrow screens if it is as wide as the page.

    Args:
        identity: What its ids begin with; no other plot's in the page.
        title: What stands above it; may be empty.
        label: What it shows, with numbers, for those who cannot see it.
        caption: How to read it.
        paint: Is given the axes, and whether they are narrow.
        keys: Its legend.
        size: PANEL, TALL, or WIDE, which is drawn NARROW as well.
    """
    sizes = (("wide", WIDE), ("narrow", NARROW)) if size == WIDE else (("any", size),)
    return Plot(
        title, tuple((screen, _picture(f"{identity}-{screen[0]}-", size, label, paint)) for screen, size in sizes), caption, tuple(keys)
    )


def _picture(prefix: str, size: tuple[int, int], label: str, paint: Callable[[Axes, bool], None]) -> Markup:
    ink, muted, faint = colour("ink"), colour("muted"), colour("faint")
    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": "vedette", "text.parse_math": False, "timezone": "UTC",
        "font.size": 11.5, "font.family": ["DejaVu Sans"], "text.color": ink, "axes.labelcolor": muted, "axes.labelsize": 11.5,
        "axes.edgecolor": faint, "axes.facecolor": "none", "figure.facecolor": "none", "axes.linewidth": 1.0,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
        "grid.color": faint, "grid.linewidth": 0.6, "xtick.color": faint, "ytick.color": faint,
        "xtick.labelcolor": muted, "ytick.labelcolor": muted, "xtick.labelsize": 11.5, "ytick.labelsize": 11.5,
        "xtick.major.size": 3, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
        "lines.linewidth": 1.5, "lines.solid_capstyle": "round", "hatch.color": faint, "patch.edgecolor": ink,
        "path.simplify": True, "path.simplify_threshold": 0.2,
    }  # fmt: skip
    # Defaults first: what a user's own matplotlibrc says must not change a report.
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(style)
        # A name may hold characters that the font in which text is measured does not have; the reader's will.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained" if size in {PANEL, TALL} else None)
        if size in {WIDE, NARROW}:
            # Below each other they have their times below each other, too.
            figure.subplots_adjust(left=38 / size[0], right=1 - 6 / size[0], top=1 - 8 / size[1], bottom=24 / size[1])
        paint(figure.add_subplot(), size == NARROW)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    return Markup(_clean(buffer.getvalue(), prefix, label))  # noqa: S704 because every text in it was escaped when it was written


def _clean(svg: str, prefix: str, label: str) -> str:
    root = ET.fromstring(svg)  # noqa: S314 because matplotlib has just written it
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    elements = list(root.iter())
    wanted = {
        found
        for e in elements
        for value in e.attrib.values()
        for found in re.findall(r"^#(.+)$|url\(#(.+?)\)", value)
        for found in found
        if found
    }
    for element in elements:
        element.tag = element.tag.rpartition("}")[2]
        if (identity := element.attrib.pop("id", None)) in wanted:
            element.set("id", f"{prefix}{identity}")
        if (target := element.attrib.pop(_XLINK, None)) is not None:
            element.set("href", f"#{prefix}{target.removeprefix('#')}")
        for name, value in list(element.attrib.items()):
            element.set(name, _value(name, value, prefix))
    for element in elements:
        _share_style(element)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": plain(label)}
    return re.sub(r">\s+<", "><", ET.tostring(root, encoding="unicode"))


def _value(name: str, value: str, prefix: str) -> str:
    value = value.replace("url(#", f"url(#{prefix}")
    if name in {"d", "x", "y", "width", "height", "transform", "points", "style", "viewBox"}:
        value = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)
        value = re.sub(r"\s+", " ", value).strip()
    if name == "style":
        # Matplotlib writes `font: 11.5px "Family", …` or `font-size: …; font-family: …`, by its version.
        value = re.sub(r"font: (?:[a-z0-9]+ )*([\d.]+px) [^;]*", r"font-size: \1", value)
        value = re.sub(r"font-family: [^;]*(; )?", "", value)
        value = re.sub(r"#[0-9a-f]{6}\b", lambda hexed: f"var(--{_NAMES.get(hexed[0], 'ink')})", value)
    return value


def _share_style(element: ET.Element) -> None:
    """Hundreds of equal marks need not each say how they look."""
    marks = [child for child in element if child.tag == "use"]
    if (
        len(marks) > 1
        and len(styles := {mark.get("style") for mark in marks}) == 1
        and (style := styles.pop())
        and not element.get("style")
    ):
        element.set("style", style)
        for mark in marks:
            del mark.attrib["style"]

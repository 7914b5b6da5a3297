"""The report: one file that says what a training is worth, for one run or several, and that can be mailed, kept and opened anywhere.

Rules this package keeps: the page asks for nothing, from anywhere, and runs no script; a name that came with the data is text, wherever it
stands; what makes figures worthless is said before the figures; a figure that was not measured is not there; the same evaluations give the
same bytes.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

import vedette
from vedette_training.evaluate import Evaluation
from vedette_training.report import sections
from vedette_training.report.pictures import plain


def write(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write a report.

    Args:
        path: Of the HTML file; its folder must be there.
        evaluations: At least one.
    """
    path.write_text(render(evaluations), encoding="utf-8")


def render(evaluations: Sequence[Evaluation]) -> str:
    """Make a report of evaluations: HTML that needs nothing else.

    Raises:
        ValueError: there is none.
    """
    if not evaluations:
        raise ValueError("a report needs at least one evaluation")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__name__, "."), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )  # fmt: skip
    names = sections.name(evaluations)
    return environment.get_template("page.html.j2").render(
        runs=[
            sections.describe(f"r{place}", evaluation, name)
            for place, (evaluation, name) in enumerate(zip(evaluations, names, strict=True))
        ],
        comparison=sections.compare(evaluations, names) if len(evaluations) > 1 else None,
        style=Markup(resources.files(__name__).joinpath("page.css").read_text(encoding="utf-8")),  # noqa: S704 because it is ours
        version=vedette.__version__,
    )

"""Words: figures as a reader sees them.

Rules this module keeps: a number has as many digits as mean something; a figure that is not there is a dash, never a zero or `nan`.
"""

import math
from datetime import UTC, datetime

from scipy.stats import chi2

NONE = "\u2013"


def amount(value: float | None, digits: int = 3) -> str:
    """So many digits that mean something: `0.025`, `41.7`, `12,300`, `1.2e-12`."""
    if value is None or not math.isfinite(value):
        return NONE
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e7 or size < 1e-4:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace("-", "\u2212")
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:,.{decimals}f}"
    # An area of 0.9996 is not 1.
    if decimals and float(text.replace(",", "")) == 1.0 != value:
        text = f"{value:.{decimals + 2}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "\u2212")


def fixed(value: float | None, decimals: int = 3) -> str:
    """So many decimals, for columns of figures of one kind; what is not 0 or 1 is not said to be."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:,.{decimals}f}"
    if value and not float(text.replace(",", "")):
        limit = f"{10**-decimals:.{decimals}f}"
        return f"< {limit}" if value > 0 else f"> \u2212{limit}"
    if abs(value) != 1 and float(text.replace(",", "")) in {1.0, -1.0}:
        text = f"{value:.{decimals + 2}f}"
    return text.replace("-", "\u2212")


def percent(share: float | None) -> str:
    """`12.3 %`; what is not all or nothing is not said to be."""
    if share is None or not math.isfinite(share):
        return NONE
    if 0 < share < 0.001:
        return "< 0.1\u00a0%"
    if 0.999 < share < 1:
        return "> 99.9\u00a0%"
    return f"{100 * share:.1f}\u00a0%" if share not in {0.0, 1.0} else f"{100 * share:.0f}\u00a0%"


def p_value(p: float) -> str:
    """A probability; below what floating point can hold apart it is only said to be small."""
    return "< 1e\u221215" if p < 1e-15 else amount(p)


def count(number: int, noun: str) -> str:
    """`1 alert`, `1,200 alerts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(time: float) -> str:
    """Epoch seconds as a date and time, UTC."""
    try:
        return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}"
    except (OverflowError, OSError, ValueError):
        return NONE


def span(seconds: float | None) -> str:
    """A length of time in the unit that suits it."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{amount(round(seconds / size, 1))}\u00a0{unit}"
    return f"{amount(round(seconds / 86400, 1))}\u00a0days"


def size(number: int) -> str:
    """Bytes."""
    return f"{number:,} B" if number < 10_000 else f"{number / 1024:,.0f} KiB" if number < 10 * 1024**2 else f"{number / 1024**2:,.1f} MiB"


def rate_interval(events: int, exposure: float) -> tuple[float, float]:
    """The 95 % interval of a Poisson rate, exact (Garwood, 1936): events a unit of exposure."""
    low = float(chi2.ppf(0.025, 2 * events)) / 2 if events else 0.0
    return low / exposure, float(chi2.ppf(0.975, 2 * events + 2)) / 2 / exposure

"""Estimates as papers print them: digits by the standard error, intervals, p values, stars.

Tables of several fits and reports have their numbers from here, so that they agree to the letter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Beyond so many decimals, or from so many digits before the point on, numbers are scientific.
MOST_DECIMALS, LARGEST = 7, 1e9
# p values below are shown as that.
SMALLEST_P = 0.001
#: Symbols by the p value below which they stand.
STARS = {"*": 0.05, "**": 0.01, "***": 0.001}


@dataclass(frozen=True)
class EstimateText:
    """One estimate with what is known of it, each as text; empty where it is not known."""

    estimate: str
    std_error: str = ""
    low: str = ""
    high: str = ""
    statistic: str = ""
    df: str = ""
    p: str = ""  # "0.013" or "<0.001"

    @property
    def interval(self) -> str:
        """The interval in brackets."""
        return f"[{self.low}, {self.high}]" if self.low else ""


def estimate_text(row: Mapping[str, float], digits: int = 3) -> EstimateText:
    """Format a row of a tidy table, whose columns need not all be there.

    Estimate and limits have the decimals with which the standard error has so many significant
    digits; where there is none, the estimate itself has.

    Examples
    --------
    >>> row = {"estimate": 10.46729, "std_error": 1.54579, "conf_low": 7.206, "conf_high": 13.7286}
    >>> text = estimate_text(row)
    >>> text.estimate, text.std_error, text.interval
    ('10.47', '1.55', '[7.21, 13.73]')
    """
    known = {name: row.get(name, math.nan) for name in _NUMBERS}
    size = known["std_error"] if known["std_error"] > 0 else known["estimate"]
    low, high = (like(known[name], size, digits) for name in ("conf_low", "conf_high"))
    return EstimateText(
        like(known["estimate"], size, digits),
        like(known["std_error"], size, digits),
        low if high else "",
        high if low else "",
        fixed(known["statistic"], 2),
        fixed(known["df"], 1),
        p_text(known["p_value"]),
    )


_NUMBERS = (
    "estimate", "std_error", "conf_low", "conf_high", "statistic", "df", "p_value",
)  # fmt: skip


def like(value: float, size: float, digits: int) -> str:
    """Format a number with the decimals with which ``size`` has so many significant digits.

    Examples
    --------
    >>> like(251.405, 6.825, 3), like(251.405, 6825.0, 3), like(1.5e-9, 2e-10, 3)
    ('251.41', '251', '1.50e-09')
    """
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    finite = math.isfinite(size) and size != 0.0
    # the size as it is shown: 9.996 to three digits is 10.0
    shown = float(f"{abs(size):.{digits - 1}e}") if finite else 1.0
    decimals = digits - 1 - math.floor(math.log10(shown))
    if decimals > MOST_DECIMALS or abs(value) >= LARGEST:
        return f"{value:.{digits - 1}e}"
    return fixed(value, max(decimals, 0))


def fixed(value: float, decimals: int) -> str:
    """Format a number with fixed decimals; nothing for NaN, and no negative zero.

    Examples
    --------
    >>> fixed(-871.8141, 2), fixed(-0.0001, 2), fixed(float("nan"), 2)
    ('-871.81', '0.00', '')
    """
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if abs(value) >= LARGEST:
        return f"{value:.{decimals + 1}e}"
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def p_text(p: float) -> str:
    """Format a p value: three decimals, or that it is below 0.001.

    Examples
    --------
    >>> p_text(0.01249), p_text(3.3e-6)
    ('0.012', '<0.001')
    """
    if math.isnan(p):
        return ""
    return f"<{SMALLEST_P:g}" if p < SMALLEST_P else f"{p:.3f}"


def with_sign(p: str) -> str:
    """Return ``p = 0.012`` or ``p < 0.001`` of a formatted p value.

    Examples
    --------
    >>> with_sign("0.012"), with_sign("<0.001")
    ('p = 0.012', 'p < 0.001')
    """
    return f"p < {p[1:]}" if p.startswith("<") else f"p = {p}"


def stars_text(p: float, stars: Mapping[str, float]) -> str:
    """Return the symbol of the smallest cut that a p value is below; none for NaN.

    Examples
    --------
    >>> stars_text(0.003, STARS), stars_text(0.3, STARS)
    ('**', '')
    """
    passed = [(cut, symbol) for symbol, cut in stars.items() if p < cut]
    return min(passed)[1] if passed else ""


def stars_legend(stars: Mapping[str, float]) -> str:
    """Say what the symbols mean.

    Examples
    --------
    >>> stars_legend(STARS)
    '* p < 0.05, ** p < 0.01, *** p < 0.001'
    """
    cuts = sorted(stars.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{symbol} p < {cut:g}" for symbol, cut in cuts)

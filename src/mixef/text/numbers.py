"""Numbers as R prints them: the digits, the common decimals, fixed or scientific.

Every function takes numbers and returns text; the cells of one call have one width, so that they
stack into a column. The rules follow ``?format``, ``?format.pval``, ``?printCoefmat`` and
``?zapsmall`` of R, and what R 4.2 does where these pages leave a case open; the tests check both.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from itertools import chain, islice

import numpy as np

EPS = float(np.finfo(float).eps)
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))
LEGEND = "Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1"
ESTIMATE_COLUMNS = frozenset({"Estimate", "Std. Error"})
STATISTIC_COLUMNS = frozenset({"t value", "z value"})


def format_common(values: Iterable[float], digits: int = 7, nsmall: int = 0) -> list[str]:
    """Format numbers alike, as R's ``format(x, digits=, nsmall=)``, all of one width.

    The number of decimals, at least `nsmall`, is the least that shows `digits` significant digits
    of the element that needs most; trailing zeros count as not needed. Scientific notation is used
    for all where it is narrower than fixed. None counts as nan.

    Examples
    --------
    >>> format_common([612.1, 35.07166, 654.94], digits=4)
    ['612.10', ' 35.07', '654.94']
    >>> format_common([1e-10, 1.0], digits=3)
    ['1e-10', '1e+00']
    """
    numbers = _floats(values)
    spec, width = _common_spec([x for x in numbers if math.isfinite(x)], digits, nsmall)
    cells = [format(x, spec) if math.isfinite(x) else _nonfinite(x) for x in numbers]
    return _pad(cells, width)


def format_number(value: float, digits: int = 7) -> str:
    """Format one number, as R's ``format(x, digits=)``.

    Examples
    --------
    >>> format_number(1743.62827, digits=7)
    '1743.628'
    """
    return format_common([value], digits)[0]


def format_fixed(values: Iterable[float], decimals: int) -> list[str]:
    """Format numbers with a given number of decimals, all of one width.

    Examples
    --------
    >>> format_fixed([1.0, -0.138], decimals=3)
    [' 1.000', '-0.138']
    """
    return format_common(round_all(values, decimals), nsmall=decimals)


def round_all(values: Iterable[float], decimals: int) -> list[float]:
    """Round each number to `decimals` decimals, halves by the number's own binary value.

    Adding zero turns a negative zero into zero, which R prints without a sign.

    Examples
    --------
    >>> round_all([0.12345, -0.00001], 3)
    [0.123, 0.0]
    """
    return [round(x, decimals) + 0.0 for x in _floats(values)]


def zap_small(values: Iterable[float], digits: int) -> list[float]:
    """Round numbers to the decimals that show `digits` digits of the largest, as ``zapsmall``.

    Examples
    --------
    >>> zap_small([5.1793, 1e-12], 5)
    [5.1793, 0.0]
    """
    numbers = _floats(values)
    largest = max((abs(x) for x in numbers if math.isfinite(x)), default=0.0)
    if largest == 0:
        return numbers
    return round_all(numbers, max(0, math.floor(digits - math.log10(largest) + 0.5)))


def format_pvalue(values: Iterable[float], digits: int = 3) -> list[str]:
    """Format p-values, as R's ``format.pval``: those below `EPS` become ``<2e-16``, nan ``NA``.

    Values from 1e-4 up share their decimals; the smaller ones share theirs. Cells are not padded.

    Examples
    --------
    >>> format_pvalue([0.00107, 0.5, 1.47e-9, 0.0])
    ['0.00107', '0.50000', '1.47e-09', '< 2e-16']
    """
    numbers = _floats(values)
    cells = ["NA"] * len(numbers)
    plain = [i for i, p in enumerate(numbers) if p >= EPS]
    tiny = [i for i, p in enumerate(numbers) if p < EPS]
    for part in _split(plain, [numbers[i] >= 1e-4 for i in plain]):
        for i, cell in zip(part, format_common([numbers[i] for i in part], digits), strict=True):
            cells[i] = cell
    below = _below(EPS, digits, [len(cells[i]) for i in plain])
    for i in tiny:
        cells[i] = below
    return cells


def significance_stars(values: Iterable[float]) -> list[str]:
    """Stars of p-values by the cut points of `LEGEND`.

    Examples
    --------
    >>> significance_stars([0.0005, 0.03, 0.2])
    ['***', '*', '']
    """
    return [next((s for cut, s in STARS if p <= cut), "") for p in _floats(values)]


def format_coef_columns(
    table: np.ndarray,
    columns: Sequence[str],
    digits: int = 4,
    shared: Collection[str] = ESTIMATE_COLUMNS,
) -> list[list[str]]:
    """Format the k columns of a coefficient table (p, k), as R's ``printCoefmat``.

    ``Estimate`` and ``Std. Error`` share their decimals, or those columns that are `shared`; ``t
    value`` or ``z value`` has its own, columns named ``Pr(...)`` are p-values, and all else is
    plain numbers.

    Examples
    --------
    >>> table = np.array([[251.405, 6.825, 36.838], [10.467, 1.546, 6.771]])
    >>> format_coef_columns(table, ["Estimate", "Std. Error", "t value"])
    [['251.405', ' 10.467'], ['  6.825', '  1.546'], ['36.838', ' 6.771']]
    """
    table = np.asarray(table, dtype=float).reshape(-1, len(columns))
    digits_statistic = max(1, min(5, digits - 1))
    estimates = [j for j, name in enumerate(columns) if name in shared]
    cells: list[list[str]] = [[] for _ in columns]
    for j, column in zip(estimates, _estimate_cells(table[:, estimates], digits), strict=True):
        cells[j] = column
    for j, name in enumerate(columns):
        if name in STATISTIC_COLUMNS:
            cells[j] = format_common(round_all(table[:, j], digits_statistic), digits)
        elif name.startswith("Pr("):
            cells[j] = format_pvalue(table[:, j], digits_statistic)
        elif j not in estimates:
            cells[j] = format_common(table[:, j], digits)
    plain = [j for j, name in enumerate(columns) if not _is_test(name)]
    _restore_zeros([cells[j] for j in plain], table.T[plain], digits)
    return cells


def _is_test(name: str) -> bool:
    return name in STATISTIC_COLUMNS or name.startswith("Pr(")


def _estimate_cells(block: np.ndarray, digits: int) -> list[list[str]]:
    """Cells of estimates and standard errors, which share their decimals.

    There are enough decimals for `digits` digits of the smallest number, and at least one.
    """
    columns = block.T.tolist()
    sizes = [abs(x) for column in columns for x in column if x and math.isfinite(x)]
    lead = Decimal(min(sizes, default=0.1)).adjusted()
    decimals = max(1, digits - 1 - lead)
    cells = iter(format_common(round_all(chain.from_iterable(columns), decimals), digits))
    return [list(islice(cells, len(column))) for column in columns]


def _vanished(column: Sequence[float], cells: Sequence[str]) -> list[int]:
    """Rows whose number is not zero although its cell says so."""
    pairs = enumerate(zip(column, cells, strict=True))
    return [i for i, (x, cell) in pairs if x and math.isfinite(x) and not cell.strip(" -0.")]


def _restore_zeros(cells: Sequence[list[str]], columns: np.ndarray, digits: int) -> None:
    """Give the numbers whose cells became zero a format of their own, in place."""
    places = [(j, i) for j, column in enumerate(columns) for i in _vanished(column, cells[j])]
    own = format_common([columns[place] for place in places], max(1, digits - 1))
    for (j, i), cell in zip(places, own, strict=True):
        cells[j][i] = cell


def _below(eps: float, digits: int, widths: Sequence[int]) -> str:
    """Text for a p-value below `eps`: one digit, or more where the neighbours leave room.

    `widths` are those of the cells beside it. All digits are shown where that makes the column
    at most one character wider, and the space after ``<`` where it makes it no wider.
    """
    full, short = (format_number(eps, max(1, d)) for d in (digits - 2, 1))
    room = max(widths, default=0)
    if len(full) > len(short) and (not widths or len(full) + 1 <= room):
        return f"< {full}"
    return f"< {short}" if len(short) + 2 <= room else f"<{short}"


def _split(items: Sequence[int], mask: Sequence[bool]) -> tuple[list[int], list[int]]:
    chosen = [i for i, keep in zip(items, mask, strict=True) if keep]
    rest = [i for i, keep in zip(items, mask, strict=True) if not keep]
    return chosen, rest


def _floats(values: Iterable[float]) -> list[float]:
    return [math.nan if x is None else float(x) for x in values]


def _needs(rounded: Decimal) -> tuple[int, int]:
    """Return the decimals that fixed and scientific notation need, trailing zeros left out."""
    mantissa = len(rounded.as_tuple().digits) - 1
    return max(0, mantissa - rounded.adjusted()), mantissa


def _common_spec(numbers: Sequence[float], digits: int, nsmall: int) -> tuple[str, int]:
    """Return the specification, fixed or scientific, that all the numbers share, and its width."""
    if not numbers:
        return ".0f", 0
    rounded = [Decimal(f"{x:.{max(1, digits) - 1}e}").normalize() for x in numbers]
    fixed, scientific = (max(column) for column in zip(*map(_needs, rounded), strict=True))
    # R leaves room for 9.96 to become 10 where it does so both to `digits` digits and to an
    # integer, whatever decimals are shown.
    largest = [min(float(r), round(x, 0), key=abs) for x, r in zip(numbers, rounded, strict=True)]
    if _width(largest, f".{fixed}f") <= _width(largest, f".{scientific}e"):
        spec = f".{max(fixed, nsmall)}f"
        return spec, _width(largest, spec)
    return f".{scientific}e", 0


def _width(numbers: Sequence[float], spec: str) -> int:
    return max(len(format(x, spec)) for x in numbers)


def _nonfinite(x: float) -> str:
    return "NaN" if math.isnan(x) else "Inf" if x > 0 else "-Inf"


def _pad(cells: Sequence[str], least: int) -> list[str]:
    """Put spaces before the cells until all are as wide as the widest, and at least `least`."""
    width = max([least, *map(len, cells)])
    return [cell.rjust(width) for cell in cells]

"""What a formula may take from outside the data: NumPy's functions, and the caller's names.

A formula is text, and text can come from strangers. It reaches the functions below, the caller's
variables and functions by their simple names (none for ``env={}``), and nothing else: an attribute
of something is never looked up.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Set
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import FormulaError, MixefError
from mixef.terms.convert import read
from mixef.terms.covariance import TAGS
from mixef.terms.exact import Exact, Integers, Times
from mixef.terms.factor import Factor
from mixef.terms.functions import FUNCTIONS
from mixef.terms.nodes import Call, Name, Node
from mixef.terms.values import LONGEST, TIMES, Matrix, as_number, paired

_PREFIXES = ("np.", "numpy.")


def _clip(state: dict[str, Any], x: Any, low: Any, high: Any) -> Any:
    x, low, high = paired((x, low, high), "np.clip()", "np.clip()")
    return np.minimum(np.maximum(x, low), high)


def _of_numbers(ufunc: np.ufunc) -> Callable[..., Any]:
    def call(state: dict[str, Any], *args: Any) -> Any:
        what = f"np.{ufunc.__name__}()"
        if len(args) != ufunc.nin:  # one more would be an array to write into
            raise FormulaError(f"{what} has {len(args)} arguments; expected {ufunc.nin}")
        try:
            return ufunc(*paired(args, what, what))
        except TypeError:
            raise FormulaError(f"{what} is not for these values; expected numbers") from None

    return call


def _is_elementwise(value: Any) -> bool:
    """Whether something is a function from numbers to one number, place by place."""
    plain = isinstance(value, np.ufunc) and value.signature is None
    return plain and value.nout == 1 and value.nin <= 2


#: NumPy's elementwise functions, which read their arguments and do nothing else.
NUMPY: dict[str, Callable[..., Any]] = {
    **{name: _of_numbers(f) for name, f in vars(np).items() if _is_elementwise(f)},
    "clip": _clip,
    "where": FUNCTIONS["ifelse"],
    "round": FUNCTIONS["round"],
    "around": FUNCTIONS["round"],
}
_NUMPY_CONSTANTS = {"pi": np.pi, "e": np.e, "inf": np.inf, "nan": np.nan}


def numpy_name(name: str) -> str | None:
    """Return what stands behind ``np.`` or ``numpy.``; None for another name."""
    return next((name.removeprefix(p) for p in _PREFIXES if name.startswith(p)), None)


def numpy_constant(name: str) -> float:
    """Return a number of NumPy's, such as ``np.pi``."""
    inner = numpy_name(name)
    if inner in _NUMPY_CONSTANTS:
        return _NUMPY_CONSTANTS[inner]
    raise _not_numpy(name, name)


def numpy_function(name: str, text: str) -> Callable[..., Any]:
    """Return an elementwise function of NumPy's, such as ``np.log``."""
    inner = numpy_name(name)
    if inner in NUMPY:
        return NUMPY[inner]
    raise _not_numpy(name, text)


def _not_numpy(name: str, text: str) -> FormulaError:
    inner = numpy_name(name)
    own = f": write {inner}(...), which mixef knows" if inner in FUNCTIONS else ""
    return FormulaError(
        f"in {text}: a formula reaches only the elementwise functions of NumPy, such as np.log, "
        f"and {name} is none of them{own or '; compute the column before and use its name'}"
    )


def caller_name(env: Mapping[str, Any] | None, name: str) -> Any:
    """Return what the caller has under a simple name; None for nothing."""
    return None if env is None or name.startswith("__") else env.get(name)


def caller_variable(value: Any, name: str, n: int) -> Any:
    """Return a variable of the caller's: a constant, a list of constants, or one value a row.

    Raises
    ------
    FormulaError
        For anything else, by its type.
    """
    if isinstance(value, bool | str | np.bool_ | Factor | TIMES):
        return value
    if isinstance(value, Integral) and abs(int(value)) < 10**300:
        return int(value)
    if isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:
            raise FormulaError(f"the variable {name} is larger than any number") from None
    if isinstance(value, Set | range):
        value = list(value)
    elif callable(value) or inspect.ismodule(value):
        kind = "module" if inspect.ismodule(value) else "function"
        raise _unusable(name, f"a {kind}")
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return caller_variable(value.item(), name, n)
    if not hasattr(value, "__len__") or isinstance(value, Mapping | bytes | pd.DataFrame):
        raise _unusable(name, f"of type {type(value).__name__}")
    if isinstance(value, list | tuple) and len(value) != n:
        return _as_constants(list(value), name)
    try:
        column = read(value, name)
    except MixefError:
        raise
    except Exception:
        raise _unusable(name, f"of type {type(value).__name__}") from None
    if isinstance(column, np.ndarray) and column.ndim > 2:
        raise _unusable(name, f"an array of shape {column.shape}")
    if len(column) == n:
        return column
    return _as_constants(_listed(column), name)


def _as_constants(values: list[Any], name: str) -> list[Any]:
    if len(values) > LONGEST:
        raise FormulaError(
            f"the variable {name} has {len(values):,} values, which are neither one a row nor few "
            f"enough to compare with (at most {LONGEST:,})"
        )
    return [caller_variable(v, name, -1) if not isinstance(v, str) else v for v in values]


def _listed(column: Any) -> list[Any]:
    """Return the values of a column, NaN where missing; whole numbers and times as they are."""
    if isinstance(column, Factor):
        return [np.nan if v is None else v for v in column.values().tolist()]
    if isinstance(column, Integers):
        absent = np.broadcast_to(column.absent, len(column)).tolist()
        pairs = zip(column.array.tolist(), absent, strict=True)
        return [np.nan if missing else value for value, missing in pairs]
    return list(column.held) if isinstance(column, Times) else column.tolist()


def _unusable(name: str, what: str) -> FormulaError:
    return FormulaError(
        f"the variable {name} is {what}; expected a number, a string, a list of these, or one "
        "value a row"
    )


def call_function(
    function: Any, node: Call, args: list[Any], keywords: dict[str, Any], n: int
) -> Any:
    """Call a function of the caller's on copies, and see that what it returns can be used.

    Raises
    ------
    FormulaError
        Naming the function, if it fails or returns something else than a number or one value a
        row.
    """
    name = node.function
    if isinstance(function, np.ufunc):  # of booleans they give numbers of 16 bits
        args = [as_number(v, node) if isinstance(v, np.ndarray) else v for v in args]
    try:
        value = function(*map(_plain, args), **{k: _plain(v) for k, v in keywords.items()})
    except MixefError:
        raise
    except Exception as error:
        raise FormulaError(
            f"{node.text} failed: your function {name} raised {type(error).__name__}: {error}"
        ) from error
    expected = f"expected a number, or {n} values, one a row"
    if isinstance(value, bool | str | Real | np.bool_):
        return value if isinstance(value, bool | str | np.bool_) else float(value)
    try:
        column = None if _is_no_column(value) else read(value, node.text)
    except Exception as error:
        raise FormulaError(
            f"your function {name}, in {node.text}, returned what cannot be read ({error}); "
            f"{expected}"
        ) from None
    if column is None:
        raise FormulaError(
            f"your function {name}, in {node.text}, returned a {type(value).__name__}; {expected}"
        )
    shape = np.shape(column) if isinstance(column, np.ndarray) else (len(column),)
    if shape[0] != n or len(shape) > 2 or 0 in shape[1:]:
        raise FormulaError(
            f"your function {name}, in {node.text}, returned an array of shape {shape}; {expected}"
        )
    return column


def _is_no_column(value: Any) -> bool:
    if value is None or isinstance(value, Mapping | Set | bytes | pd.DataFrame):
        return True
    return not hasattr(value, "__len__") or np.ndim(value) == 0


def _plain(value: Any) -> Any:
    """Return a value as a function from outside expects it: a copy, of labels for a factor."""
    if isinstance(value, Factor):
        return value.values()
    value = value.plain() if isinstance(value, Exact) else value
    value = value.array if isinstance(value, Matrix) else value
    return value.copy() if isinstance(value, np.ndarray | list) else value


#: Words that other packages have, and what says the same here.
HABITS = {
    "C": "write factor({0}) for a factor; contrasts= sets others than treatment contrasts",
    "Q": "write `my column`, in backticks, for a column with any name",
    **dict.fromkeys(
        ("standardize", "standardise", "zscore", "stdize"),
        "write scale({0}): centred, and divided by the standard deviation",
    ),
    **dict.fromkeys(("demean", "mean_center"), "write center({0})"),
    "ln": "write log({0})",
    **dict.fromkeys(("pow", "power", "square"), "write I({0}^2)"),
    **dict.fromkeys(("float", "int", "to_numeric"), "write as.numeric({0})"),
    "str": "write as.character({0})",
    "bool": "write as.logical({0})",
    **dict.fromkeys(("category", "categorical", "as_factor", "astype"), "write factor({0})"),
    **dict.fromkeys(("s", "te", "ti", "t2", "sm", "cr", "cc"),
                    "write ns({0}, df=4) or bs({0}, df=6) for a spline"),
    **dict.fromkeys(("isnull", "isna", "isnan", "is.null"), "write is.na({0})"),
    **dict.fromkeys(("notnull", "notna"), "write !is.na({0})"),
    "isin": "write {0} %in% c(1, 2)",
    "between": "write {0} >= 1 & {0} <= 2",
    **dict.fromkeys(("str.startswith", "str.contains"), "compute the column before"),
    **dict.fromkeys(("rr", "toep", "ou"), f"covariance structures are {TAGS}"),
    # Terms of MixedModels.jl, glmmTMB and brms.
    "zerocorr": "use diag({0}), or || in place of |",
    "fulldummy": "use 0 + {0}, which has a column for each level",
    "homdiag": "use diag({0}, hom=TRUE)",
    "homcs": "use cs({0}, hom=TRUE)",
    "hetar1": "use ar1({0}, hom=FALSE)",
    **dict.fromkeys(("gr", "mm"),
                    "known covariances of levels and multiple membership are not there"),
}  # fmt: skip


def habit(node: Call) -> str | None:
    """Return what to write instead of a function that other packages have; None if unknown."""
    name, first = node.function, node.args[0] if node.args else None
    if name not in HABITS and "." in name:  # x.isin([...]): the method of a column
        owner, _, name = name.partition(".")
        first = Name(owner)
    return HABITS[name].format("x" if first is None else _quoted(first)) if name in HABITS else None


def _quoted(node: Node) -> str:
    return node.text if len(node.text) < 40 else "x"

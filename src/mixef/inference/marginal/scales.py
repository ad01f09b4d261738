"""The scale of the response: how a linear predictor is transformed back, with derivatives.

A generalized model's is that of its link. In a linear model it is that of what the formula does to
the response: ``log(y + 1)`` is undone step by step, from the outside in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mixef.errors import MixefError
from mixef.estimation.fit import Fit
from mixef.families.link import Link
from mixef.inference.over_rows import row_mean
from mixef.inference.prediction.prediction_variance import random_variance
from mixef.terms.columns import Columns
from mixef.terms.expressions import Scope
from mixef.terms.nodes import Binary, Call, Name, Node, Paren, Unary, fold
from mixef.terms.slopes import function_name

Values = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
#: From x (m,) to the value of a function and its first three derivatives there.
Curve = Callable[[np.ndarray], Values]


@dataclass(frozen=True, eq=False)
class Scale:
    """A function from linear predictors to the scale of the response."""

    name: str  # of what it undoes, such as "logit"
    word: str  # what its values are called, such as "prob"
    curve: Curve
    #: What differences are called when they are transformed back, and the scale that they are on;
    #: None where they have no meaning on the scale of the response.
    ratio: tuple[str, str] | None = None
    base: float = np.e  # of the logarithm that differences are ratios by
    variance: float = 0.0  # of what the mean of the response is averaged over

    def __repr__(self) -> str:
        return f"<Scale: {self.word} from {self.name}>"

    def of_differences(self) -> Scale | None:
        """Return the scale of ratios, for differences of predictors."""
        if self.ratio is None:
            return None
        return Scale(self.ratio[1], self.ratio[0], partial(_power_of, self.base))

    def back(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return values (m,) on the scale of the response, with slopes (m,).

        To second order the mean of ``h(x + e)`` is ``h(x) + v h''(x) / 2``, for e of variance v.
        """
        with np.errstate(all="ignore"):
            h, d1, d2, d3 = self.curve(x)
            return h + 0.5 * self.variance * d2, d1 + 0.5 * self.variance * d3

    def limits(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return limits on the scale of the response, the lower one first."""
        ends = self.back(low)[0], self.back(high)[0]
        return np.minimum(*ends), np.maximum(*ends)


def response_scale(fit: Fit) -> Scale | None:
    """Return the scale of the response of a fit; None for that of the linear predictor."""
    if fit.is_linear:
        return _transformed(fit)
    family, link = fit.family, fit.family.link
    if link.name == "identity":
        return None
    word = "prob" if family.has_trials else "rate" if family.name == "poisson" else "response"
    ratio = {"log": ("ratio", "log"), "logit": ("odds.ratio", "log odds ratio")}.get(link.name)
    return Scale(link.name, word, partial(_of_link, link), ratio)


def averaged_variance(fit: Fit) -> float:
    """Return the variance about the mean of the population, of the linear predictor.

    That is ``z'Sigma z`` of all random effects, averaged over the rows of the fit, and in a linear
    model the residual variance too.
    """

    def of_rows(rows: Fit) -> np.ndarray:
        z = {t: term.z for t, term in enumerate(rows.terms)}
        return random_variance(fit, z, rows.frame.n)[:, None]

    total = float(row_mean(fit, of_rows)[0])
    return total + (fit.estimates.sigma**2 if fit.is_linear else 0.0)


def _transformed(fit: Fit) -> Scale | None:
    """Return the scale that a function of the response in the formula is undone to."""
    node = fit.formula.response
    if node is None or not any(isinstance(n, Call) or _is_power(n) for n in node.walk()):
        return None
    steps: list[Curve] = []
    inner: Node = node
    while not isinstance(inner, Name):
        undone = _undone(inner, fit)
        if undone is None:
            return None
        step, inner = undone
        if step is not None:
            steps.append(step)
    if not steps:
        return None
    outer = _plain(node)
    base = _base_of(outer, fit)
    ratio = None if base is None else ("ratio", _name_of(outer, short=True))
    return Scale(_name_of(outer), "response", partial(_chain, steps), ratio, base or np.e)


def _plain(node: Node) -> Node:
    """Return a node without the brackets and ``I()`` around it."""
    while True:
        if isinstance(node, Paren):
            node = node.inner
        elif isinstance(node, Call) and node.function in ("I", "identity") and len(node.args) == 1:
            node = node.args[0]
        else:
            return node


def _name_of(node: Node, short: bool = False) -> str:
    """Return what a transformation is called: by its function, or as an expression in mu."""
    function = _function(node)
    if function and (short or (isinstance(node, Call) and isinstance(node.args[0], Name))):
        return function

    def put(part: Node, parts: list[Node]) -> Node:
        """Put mu in the place of the response."""
        if isinstance(part, Name):
            return Name("mu")
        return part.make(part.own(), parts) if parts else part

    return fold(node, put).text


def _function(node: Node) -> str:
    """Return the name of a call's function; nothing for another node."""
    return function_name(node) if isinstance(node, Call) else ""


def _is_power(node: Node) -> bool:
    return isinstance(node, Binary) and node.op in ("^", "/")


def _undone(node: Node, fit: Fit) -> tuple[Curve | None, Node] | None:
    """Return what undoes the outermost step of an expression, and what is inside it."""
    if _plain(node) is not node:
        return None, _plain(node)
    if isinstance(node, Unary) and node.op in "+-":
        return partial(_line, -1.0 if node.op == "-" else 1.0, 0.0), node.operand
    if isinstance(node, Binary):
        return _undone_operator(node, fit)
    if not isinstance(node, Call) or not node.args:
        return None
    function, inside = _function(node), node.args[0]
    if function in ("scale", "center"):
        learnt = fit.frame.state.transforms[node.text]
        return partial(_line, float(learnt["scale"]), float(learnt["center"])), inside
    base = _base_of(node, fit)
    if base is not None:
        return partial(_power_of, base), inside
    inverse = _INVERSES.get(function)
    return None if inverse is None or len(node.args) > 1 else (inverse, inside)


def _undone_operator(node: Binary, fit: Fit) -> tuple[Curve | None, Node] | None:
    """Return what undoes an operator between an expression and a number."""
    left, right = _constant(node.left, fit), _constant(node.right, fit)
    if (left is None) == (right is None):
        return None
    inner = node.right if right is None else node.left
    if right is None:
        a = float(left)  # type: ignore[arg-type]
        made = {"+": partial(_line, 1.0, -a), "-": partial(_line, -1.0, a)}
        if a:
            scaled = partial(_line, 1.0 / a, 0.0)
            made |= {"*": scaled, "/": partial(_chain, [scaled, partial(_power, -1.0)])}
        if a > 0 and a != 1:
            made["^"] = partial(_log_to, a)
    else:
        b = right
        made = {"+": partial(_line, 1.0, -b), "-": partial(_line, 1.0, b)}
        made["/"] = partial(_line, b, 0.0)
        if b:
            made |= {"*": partial(_line, 1.0 / b, 0.0), "^": partial(_power, 1.0 / b)}
    step = made.get(node.op)
    return None if step is None else (step, inner)


def _constant(node: Node, fit: Fit) -> float | None:
    """Return the number that an expression without variables is; None for any other."""
    try:
        value = Scope(Columns({"nothing": [0.0]}), fit.frame.state, {}).evaluate(node)
    except MixefError:
        return None
    return float(value) if isinstance(value, int | float | np.number) else None


def _base_of(node: Node, fit: Fit) -> float | None:
    """Return the base of the logarithm that a node is; None for anything else."""
    function = _function(node)
    if not isinstance(node, Call) or function not in ("log", "log2", "log10"):
        return None
    if function != "log" or len(node.args) == 1:
        return {"log": np.e, "log2": 2.0, "log10": 10.0}[function]
    return _constant(node.args[1], fit)


def _chain(steps: Sequence[Curve], x: np.ndarray) -> Values:
    """Apply functions one after the other, with derivatives by the chain rule."""
    one = np.ones_like(x)
    value, d1, d2, d3 = x, one, 0.0 * one, 0.0 * one
    for step in steps:
        value, g1, g2, g3 = step(value)
        d3 = g3 * d1**3 + 3.0 * g2 * d1 * d2 + g1 * d3
        d2 = g2 * d1**2 + g1 * d2
        d1 = g1 * d1
    return value, d1, d2, d3


def _of_link(link: Link, x: np.ndarray) -> Values:
    """Return the mean of a linear predictor, with derivatives."""
    return link.inverse(x), link.d_inverse(x), link.d2_inverse(x), link.d3_inverse(x)


def _line(slope: float, start: float, x: np.ndarray) -> Values:
    return slope * x + start, slope + 0.0 * x, 0.0 * x, 0.0 * x


def _power(c: float, x: np.ndarray) -> Values:
    d1, d2 = c * x ** (c - 1.0), c * (c - 1.0) * x ** (c - 2.0)
    return x**c, d1, d2, c * (c - 1.0) * (c - 2.0) * x ** (c - 3.0)


def _power_of(base: float, x: np.ndarray) -> Values:
    k, y = np.log(base), base**x
    return y, k * y, k**2 * y, k**3 * y


def _log_to(base: float, x: np.ndarray) -> Values:
    k = np.log(base)
    return np.log(x) / k, 1.0 / (k * x), -1.0 / (k * x**2), 2.0 / (k * x**3)


def _log1p(x: np.ndarray) -> Values:
    y = 1.0 + x
    return np.log1p(x), 1.0 / y, -1.0 / y**2, 2.0 / y**3


def _expm1(x: np.ndarray) -> Values:
    y = np.exp(x)
    return np.expm1(x), y, y, y


def _sin(x: np.ndarray) -> Values:
    return np.sin(x), np.cos(x), -np.sin(x), -np.cos(x)


def _tan(x: np.ndarray) -> Values:
    t = np.tan(x)
    d = 1.0 + t**2
    return t, d, 2.0 * t * d, 2.0 * d * (1.0 + 3.0 * t**2)


#: What undoes a function of the formula.
_INVERSES: dict[str, Curve] = {
    "sqrt": partial(_power, 2.0),
    "exp": partial(_log_to, np.e),
    "expm1": _log1p,
    "log1p": _expm1,
    "asin": _sin,
    "arcsin": _sin,
    "atan": _tan,
    "arctan": _tan,
}

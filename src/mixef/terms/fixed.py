"""Model matrices by R's rules, and the spec that rebuilds them for new data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from mixef.errors import DataError, DataWarning, MemoryNeededError, warn
from mixef.memory import available
from mixef.terms.algebra import TermSet
from mixef.terms.columns import Columns
from mixef.terms.contrasts import contrast_matrix, indicator_matrix
from mixef.terms.expressions import Scope, State, Variable
from mixef.terms.factor import Factor
from mixef.terms.frame import ModelFrame
from mixef.terms.nodes import Node, by_known_names, unquoted
from mixef.terms.values import Matrix, as_factor, taken

# Numbers in a piece of a model matrix, where it is made in pieces.
CELLS = 400_000
# Any machine has room for the products of so many columns, or parameters.
MANY = 1000
# What the values of a factor are, in words.
_KINDS = {"factor": "a factor", "character": "text", "logical": "true or false"}


@dataclass(frozen=True, eq=False)
class Coding:
    """How one variable makes columns in one term."""

    node: Node
    suffixes: tuple[str, ...]  # one a column; what R appends to the variable's name
    #: (levels, columns): the rows that a factor's levels stand for; None for a numeric variable.
    matrix: np.ndarray | None = None
    levels: tuple[str, ...] = ()  # training levels of a factor

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.node.text + suffix for suffix in self.suffixes)

    def columns(self, variable: Variable) -> Iterator[np.ndarray]:
        """Yield the columns (n,), one a suffix.

        Raises
        ------
        DataError
            For a level that the training data did not have, or another type or width.
        """
        if self.matrix is None:
            yield from self._numeric(variable)
            return
        if isinstance(variable, Matrix):
            raise self._changed("a matrix")
        factor = as_factor(variable)
        codes = factor.codes if factor.levels == self.levels else self._known_codes(factor)
        matrix = self.matrix
        if (codes < 0).any():  # a missing value, which takes the row behind the last
            matrix = np.vstack([matrix, np.full((1, matrix.shape[1]), np.nan)])
        for column in matrix.T:
            yield column[codes]

    def _known_codes(self, factor: Factor) -> np.ndarray:
        factor = factor.used_levels()
        codes = factor.recode(self.levels)
        lost = (codes < 0) & (factor.codes >= 0)
        if lost.any():
            new = [level for level in factor.levels if level not in self.levels]
            raise DataError(
                f"factor {self.node.text} has new level(s) {', '.join(map(repr, new[:10]))}; the "
                f"model knows {', '.join(map(repr, self.levels[:30]))}: its fixed effects say "
                "nothing about other levels"
            )
        return codes

    def _numeric(self, variable: Variable) -> Iterator[np.ndarray]:
        if isinstance(variable, Factor):
            raise self._changed(_KINDS[variable.kind])
        if isinstance(variable, np.ndarray):
            variable = Matrix(variable[:, None], ("",))
        if variable.array.shape[1] != len(self.suffixes):
            raise self._changed(f"a matrix with {variable.array.shape[1]} columns")
        yield from variable.array.T

    def _changed(self, now: str) -> DataError:
        many = len(self.suffixes)
        was = "numeric" if many == 1 else f"a matrix with {many} columns"
        if self.matrix is not None:
            was = "a factor"
        return DataError(
            f"{self.node.text} was {was} when the model was fitted, but is {now} now; give it as "
            "it was then"
        )


@dataclass(frozen=True, eq=False)
class DesignSpec:
    """What rebuilds a model matrix for new data: terms, codings, levels and learnt transforms."""

    intercept: bool
    terms: tuple[tuple[Coding, ...], ...]
    term_labels: tuple[str, ...]
    state: State

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """The variables, by their text."""
        return {c.node.text: c.node for codings in self.terms for c in codings}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names as R gives them."""
        names = ["(Intercept)"] if self.intercept else []
        for codings in self.terms:
            part: tuple[str, ...] = codings[0].names
            for coding in codings[1:]:
                part = tuple(f"{a}:{b}" for b in coding.names for a in part)
            names.extend(part)
        return tuple(names)

    @cached_property
    def assign(self) -> np.ndarray:
        """Number of the term that each column belongs to, 0 for the intercept."""
        widths = [prod([len(c.suffixes) for c in codings]) for codings in self.terms]
        first = [0] if self.intercept else []
        return np.array(first + [t + 1 for t, w in enumerate(widths) for _ in range(w)], dtype=int)

    def apply(self, data: Any, env: Mapping[str, Any] | None = None) -> np.ndarray:
        """Return the model matrix (m, p) for new data.

        Parameters
        ----------
        data : DataFrame, mapping or Columns
        env : mapping, optional
            The caller's names.

        Raises
        ------
        DataError
            For a level of a factor that the training data did not have; a missing value makes
            a row of NaN in the columns that use it.
        """
        columns = data if isinstance(data, Columns) else Columns(data)
        scope = Scope(columns, self.state, env)
        variables = {text: scope.variable(node) for text, node in self.nodes.items()}
        scope.warn_of_missing()
        return self.build(variables, columns.n)

    def build(self, variables: Mapping[str, Variable], n: int) -> np.ndarray:
        """Return the model matrix (n, p), Fortran order, of evaluated variables."""
        out = np.empty((n, len(self.names)), order="F")
        at = int(self.intercept)
        if at:
            out[:, 0] = 1.0
        for codings in self.terms:
            width = 1
            for number, coding in enumerate(codings):
                # What the variables before made is multiplied by one column after another; the
                # first of them, which takes their own place, comes last.
                before = slice(at, at + width)
                first = None
                for k, column in enumerate(coding.columns(variables[coding.node.text])):
                    if number == 0:
                        out[:, at + k] = column
                    elif k == 0:
                        first = column
                    else:
                        place = slice(at + k * width, at + (k + 1) * width)
                        np.multiply(out[:, before], column[:, None], out=out[:, place])
                if first is not None:
                    out[:, before] *= first[:, None]
                width *= len(coding.suffixes)
            at += width
        return out


@dataclass(frozen=True, eq=False)
class Design:
    """A model matrix, which is made of its variables when it is asked for."""

    names: tuple[str, ...]  # column names as R gives them
    #: int (p,): term of each column: 0 for the intercept, then the position in `term_labels` plus
    #: 1.
    assign: np.ndarray
    term_labels: tuple[str, ...]
    spec: DesignSpec
    variables: Mapping[str, Variable] = field(repr=False)  # what the spec builds the matrix of
    n: int  # rows
    held: np.ndarray | None = field(default=None, repr=False)  # (n, p): a matrix of another origin

    @cached_property
    def matrix(self) -> np.ndarray:
        """The matrix (n, p), in Fortran order."""
        return self.spec.build(self.variables, self.n) if self.held is None else self.held

    @property
    def column_terms(self) -> tuple[str, ...]:
        """The label of the term that each column belongs to, "1" for the intercept."""
        labels = ("1", *self.term_labels)
        return tuple(labels[t] for t in self.assign.tolist())

    def rows(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return some rows of the matrix, which is not made for them unless they are all."""
        n = len(rows) if isinstance(rows, np.ndarray) else len(range(*rows.indices(self.n)))
        if self.held is not None or "matrix" in self.__dict__ or n == self.n:
            some: np.ndarray = self.matrix[rows]
            return some
        return self.spec.build({text: taken(v, rows) for text, v in self.variables.items()}, n)

    def pieces(self) -> Iterator[slice]:
        """Yield consecutive rows: all of a small matrix, or of one that is made already."""
        made = self.held is not None or "matrix" in self.__dict__
        step = self.n if made else max(CELLS // max(len(self.names), 1), 1)
        for start in range(0, self.n, max(step, 1)):
            yield slice(start, min(start + step, self.n))

    def with_matrix(self, matrix: np.ndarray, **changes: Any) -> Design:
        """Return the design with another matrix (m, p)."""
        return replace(self, variables={}, n=len(matrix), held=matrix, **changes)

    def on_batch(self, variables: Mapping[str, Variable], n: int) -> Design:
        """Return the design of other rows of the same variables, with the same levels."""
        own = {text: variables[text] for text in self.spec.nodes}
        return replace(self, variables=own, n=n, held=None)

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def columns(self, kept: np.ndarray) -> np.ndarray:
        """Return the columns ``kept`` (n, k): the matrix itself where that is all of them."""
        return self.matrix if len(kept) == len(self.names) else self.matrix[:, kept]


def design(terms: TermSet, frame: ModelFrame, contrasts: Mapping[str, Any] | None = None) -> Design:
    """Build the model matrix of a set of terms.

    Parameters
    ----------
    terms : TermSet
        ``frame.fixed_terms``, or ``frame.bar_terms(bar)`` for a random-effects term.
    contrasts : mapping, optional
        From factor name to what `contrast_matrix` takes. Ordered factors have polynomial
        contrasts and others treatment contrasts by default. Names of factors in other parts of
        the formula are passed over.

    Raises
    ------
    DataError
        For a factor with one level, or contrasts for something that is no factor.

    Examples
    --------
    >>> from mixef.terms.formula import parse_formula
    >>> from mixef.terms.frame import model_frame
    >>> data = {"y": [1.0, 2, 3], "f": ["a", "b", "c"], "x": [1.0, 2, 3]}
    >>> frame = model_frame(parse_formula("y ~ f + x"), data)
    >>> design(frame.fixed_terms, frame).names
    ('(Intercept)', 'fb', 'fc', 'x')
    """
    if contrasts:
        check_contrasts(contrasts, frame)
        contrasts = by_known_names(contrasts, frame.variables)
    variables = frame.variables
    _require_memory(terms, variables, frame.n)
    is_factor = {n.text: _is_factor(variables[n.text]) for n in terms.variables}
    full = full_indicators(terms, is_factor)
    codings = tuple(
        tuple(_code(node, variables[node.text], (t, node.text) in full, contrasts) for node in term)
        for t, term in enumerate(terms.terms)
    )
    spec = DesignSpec(terms.intercept, codings, terms.labels, frame.state)
    _warn_of_doubles(spec)
    own = {text: variables[text] for text in spec.nodes}
    held = frame.stand_in(len(spec.names))
    return Design(spec.names, spec.assign, spec.term_labels, spec, own, frame.n, held)


def _require_memory(terms: TermSet, variables: Mapping[str, Variable], n: int) -> None:
    """Refuse columns, a level or more each, that no matrix of their products has room for.

    Raises
    ------
    MemoryNeededError
    """
    widths = [prod(_width(variables[node.text]) for node in term) for term in terms.terms]
    p = float(sum(widths))
    # Twice as many rows at a time as there are columns, their products, and those factored.
    needed = 8.0 * p * (min(n, 2.0 * p) + 2.0 * p)
    if p > MANY and needed > available():
        most = int(np.argmax(widths))
        raise MemoryNeededError(
            f"the columns of {terms.labels[most]} ({widths[most]:,}) need about "
            f"{needed / 1e9:.3g} GB, and {available() / 1e9:.3g} GB are available: a factor of so "
            f"many levels may be a grouping factor, as in (1 | {terms.labels[most]}); else leave "
            "the term out, or combine its levels"
        )


def _width(variable: Variable) -> int:
    """Return the number of columns that a variable may make."""
    if isinstance(variable, Matrix):
        return int(variable.array.shape[1])
    return variable.n_levels if isinstance(variable, Factor) else 1


def _warn_of_doubles(spec: DesignSpec) -> None:
    """Warn of coefficients with one name, such as a level b1 of a factor a and a column ab1."""
    names = [unquoted(name) for name in spec.names]
    if len(set(names)) == len(names):
        return
    terms: dict[str, list[str]] = {}
    for name, t in zip(names, spec.assign.tolist(), strict=True):
        terms.setdefault(name, []).append(spec.term_labels[t - 1] if t else name)
    name, of = next((name, of) for name, of in terms.items() if len(of) > 1)
    warn(
        f"the terms {' and '.join(dict.fromkeys(of))} both have a coefficient called {name}; "
        "rename a column or a level, so that results can be told apart by name",
        DataWarning,
    )


def full_indicators(terms: TermSet, is_factor: Mapping[str, bool]) -> set[tuple[int, str]]:
    """Return the (term, variable) pairs that are coded by one indicator a level.

    Notes
    -----
    A factor is coded by contrasts in a term if the rest of the term is empty or contained in an
    earlier term, else by indicators (Chambers and Hastie 1992, page 38). Without an intercept,
    the first factor of the first term that has one is coded by indicators too.
    """
    full: set[tuple[int, str]] = set()
    holders: dict[str, set[int]] = {}  # of each variable, the terms that hold it
    for t, term in enumerate(terms.terms):
        names = [node.text for node in term]
        for name in names if len(names) > 1 else ():
            rest = [holders.get(other, set()) for other in names if other != name]
            if is_factor[name] and not set.intersection(*rest):
                full.add((t, name))
        for name in names:
            holders.setdefault(name, set()).add(t)
    if not terms.intercept:
        first = ((t, n.text) for t, term in enumerate(terms.terms) for n in term)
        full.update([pair for pair in first if is_factor[pair[1]]][:1])
    return full


def check_contrasts(contrasts: Mapping[str, Any], frame: ModelFrame) -> None:
    """Refuse contrasts for what is not a factor of the model."""
    if not isinstance(contrasts, Mapping):
        raise DataError(
            f"contrasts is {contrasts!r}; expected a dict from factor to contrast, such as "
            "{'f': 'sum'}"
        )
    known = {unquoted(text): value for text, value in (frame.groups | frame.variables).items()}
    for name in contrasts:
        variable = known.get(unquoted(str(name)))
        if variable is None or not _is_factor(variable):
            factors = [text for text, v in frame.variables.items() if _is_factor(v)]
            listed = ", ".join(factors) if factors else "none"
            found = "not in the model" if variable is None else "not a factor"
            raise DataError(f"contrasts name {name!r}, which is {found}; the factors are: {listed}")


def _is_factor(variable: Variable) -> bool:
    return isinstance(variable, Factor) or (
        isinstance(variable, np.ndarray) and variable.dtype.kind == "b"
    )


def _code(
    node: Node, variable: Variable, indicators: bool, contrasts: Mapping[str, Any] | None
) -> Coding:
    if isinstance(variable, Matrix):
        single = variable.array.shape[1] == 1
        return Coding(node, ("",) if single else variable.suffixes)
    if not _is_factor(variable):
        return Coding(node, ("",))
    factor = as_factor(variable)
    default = "poly" if factor.ordered else "treatment"
    chosen = (contrasts or {}).get(node.text, factor.contrasts)
    coded = contrast_matrix(default if chosen is None else chosen, factor.levels, node.text)
    matrix, suffixes = indicator_matrix(factor.levels) if indicators else coded
    return Coding(node, suffixes, matrix, factor.levels)

"""The response of a generalized model, as its family takes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mixef.errors import DataError, warning_once
from mixef.families import family as families
from mixef.terms.factor import Factor
from mixef.terms.frame import ModelFrame, numeric_response
from mixef.terms.values import Matrix


@dataclass(frozen=True)
class Outcome:
    """The response of a generalized model."""

    y: np.ndarray  # (n,): numbers; proportions for a binomial response
    #: (n,): prior weights; for a binomial response the numbers of trials, times prior weights.
    weights: np.ndarray | None
    modelled: str | None = None  # the level whose probability is modelled, for a factor
    #: (n,): the prior weights by themselves, where `weights` are their products with trials.
    copies: np.ndarray | None = None

    @property
    def trials(self) -> np.ndarray | None:
        """Numbers of trials of one copy of each row (n,)."""
        return trials_of_one(self.weights, self.copies)


def outcome(frame: ModelFrame, family: families.Family) -> Outcome:
    """Return the response of a frame for a family.

    A binomial response may be a two-column matrix ``cbind(successes, failures)``, a proportion
    with the numbers of trials as weights, 0 and 1, booleans, or a factor with two levels of
    which the first means failure.

    Raises
    ------
    DataError
        If the family does not know such a response, naming the first value at fault.
    """
    node, response = frame.formula.response, frame.response
    if not frame.in_memory and node is not None:
        return _outcome_elsewhere(frame, family, node.text)
    if node is None or response is None:
        raise DataError(f"the formula {frame.formula.text} has no response; write 'y ~ ...'")
    y, weights, modelled, copies = frame.y, frame.weights, None, None
    if family.has_trials:
        if isinstance(response, Factor):
            y, modelled = _binary(response, node.text)
        elif isinstance(response, Matrix):
            copies = weights
            y, weights = _proportions(response.array, weights, node.text)
    else:
        y = numeric_response(frame)
    assert y is not None
    result = Outcome(np.asarray(y, dtype=float), weights, modelled, copies)
    with warning_once(frame.told, f"the response {node.text}"):
        family.check_response(y, result.trials, node.text)
    return result


def trials_of_one(weights: np.ndarray | None, copies: np.ndarray | None) -> np.ndarray | None:
    """Return the trials (n,) of one copy of each row, from weights that are trials of all."""
    if copies is None or weights is None:
        return weights
    trials: np.ndarray = np.divide(weights, copies, out=np.zeros(len(weights)), where=copies > 0)
    return trials


def _outcome_elsewhere(frame: ModelFrame, family: families.Family, name: str) -> Outcome:
    """Return what is known of a response whose values come in batches, which are checked there."""
    response, weights = frame.response, frame.weights
    if family.has_trials and isinstance(response, Factor):
        return Outcome(response.codes, weights, _modelled(response, name))
    if family.has_trials and isinstance(response, Matrix):
        return Outcome(response.array, response.array, None, weights)
    return Outcome(numeric_response(frame), weights)


def _binary(response: Factor, name: str) -> tuple[np.ndarray, str | None]:
    """Return 0 and 1, and the level that 1 stands for."""
    modelled = _modelled(response, name)
    return (response.codes == 1).astype(float), modelled


def _modelled(response: Factor, name: str) -> str | None:
    """Return the level whose probability is modelled; None for truth values."""
    levels = response.levels
    if len(levels) != 2:
        shown = ", ".join(map(str, levels[:5]))
        raise DataError(
            f"a binomial response needs two levels, but {name} has {len(levels)}: {shown}; "
            "combine levels, or fit one model for each of them against the rest"
        )
    return None if response.kind == "logical" else str(levels[1])


def _proportions(
    counts: np.ndarray, weights: np.ndarray | None, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return proportions and trials of ``cbind(successes, failures)``."""
    if counts.shape[1] != 2:
        raise DataError(
            f"the response {name} has {counts.shape[1]} columns; a binomial response is "
            "cbind(successes, failures)"
        )
    if not (counts >= 0).all():
        row = int(np.argmax((counts < 0).any(axis=1)))
        raise DataError(
            f"the response {name} has a negative count in row {row} (rows counted from 0): "
            f"({counts[row, 0]:g}, {counts[row, 1]:g}); expected successes and failures"
        )
    trials = counts.sum(axis=1)
    y = np.divide(counts[:, 0], trials, out=np.zeros(len(trials)), where=trials > 0)
    return y, trials if weights is None else trials * weights

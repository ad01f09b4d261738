"""``tr f(E)``: Ritz vectors one by one, random vectors for the rest, and what error that leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixef.errors import ExactFactorNeededError
from mixef.linalg.iterative.graph import WIDTH
from mixef.linalg.iterative.lanczos import Forms, first_order, forms, second_order
from mixef.linalg.iterative.probes import Probes, probes, signs
from mixef.linalg.iterative.ritz import smallest, upper_bound
from mixef.linalg.iterative.scaled import Scaled

FUNCTIONS = {1: first_order, 2: second_order}
# Lanczos steps: doubled from the least while the last two still count.
LEAST_STEPS, MOST_STEPS = 6, 48
# What the last two steps may leave, beside the target.
CUT = 0.05
# Steps of the short runs that bound the spectrum.
BOUND_STEPS = 4
# Ritz vectors: doubled from the least while one more would save enough random vectors.
LEAST_RITZ, MOST_RITZ = 8, 256
WORTH_A_RITZ_VECTOR = 2.5
# Rounds of filtering from random vectors, for random vectors that are added, and from Ritz vectors
# of other templates.
FIRST_ROUNDS, ADDED_ROUNDS, ROUNDS = 3, 2, 1
# Random vectors: a pilot, which is also the least at the end of a search; as many as its variance
# says and a margin, up to the most.
PILOT, MOST_PROBES, MARGIN = 24, 768, 1.3
# With a larger standard error no likelihood-ratio test could be read: such graphs are refused. From
# so many Ritz vectors on, it is looked at before more are sought.
HOPELESS, LOOK_FROM = 0.5, 32
# A product of `Scaled.second_moment` takes about as long as a number of a pass, to and fro.
MOMENT_COST = 1.0


@dataclass(frozen=True)
class Effort:
    """What an estimate is made with; held while templates move, so that it moves with them."""

    seed: int
    order: int  # moments of E that are exact: 1 or 2
    steps: int  # of a Lanczos run
    n_probes: int  # random vectors; none where every unit vector is taken instead
    start: np.ndarray  # (l_2, k): where the search for Ritz vectors begins


@dataclass(frozen=True)
class Estimate:
    """``log|M|`` at one pair of templates, with what it was made of."""

    effort: Effort
    Q: np.ndarray  # (l_2, k): Ritz vectors, orthonormal; or unit vectors, all of them
    ritz: Forms  # of these
    probes: Probes  # less their part in Q
    fixed: float  # what is exact
    fixed_slopes: np.ndarray  # (2,)

    @property
    def value(self) -> float:
        """``log|M|``."""
        return float(self.fixed + self._both("values"))

    @property
    def se(self) -> float:
        """The standard error of the value; what the last two Lanczos steps did counts as error."""
        variance = self.probes.variances[self.effort.order - 1] / max(len(self.probes), 1)
        return float(np.hypot(np.sqrt(variance), self._both("cut")))

    @property
    def slopes(self) -> np.ndarray:
        """Derivatives (2,) of ``log|M|`` by a and b, estimated by themselves."""
        slopes: np.ndarray = self.fixed_slopes + self._both("slopes")
        return slopes

    @property
    def slopes_by_probe(self) -> np.ndarray:
        """What each random vector says (m, K) of the slopes."""
        slopes: np.ndarray = self.probes.forms.slopes[:, self.effort.order - 1]
        return slopes

    @property
    def slopes_covariance(self) -> np.ndarray:
        """The covariance (2, 2) of the errors of the slopes."""
        return self.probes.slopes_covariance(self.effort.order) / max(len(self.probes), 1)

    def _both(self, what: str) -> np.ndarray:
        """Return the sum over Ritz vectors and the mean over random vectors, for their order."""
        which = self.effort.order - 1
        both = self.ritz, self.probes.forms
        ritz, probes = (getattr(forms, what)[:, which] for forms in both)
        total: np.ndarray = ritz.sum(axis=0)
        return total + probes.mean(axis=0) if len(probes) else total


def estimate(scaled: Scaled, effort: Effort) -> Estimate:
    """Estimate ``log|M|`` with an effort that stands."""
    Q = effort.start
    if effort.n_probes:
        _, Q = smallest(scaled, Q, ROUNDS, _upper(scaled, effort.seed))
    ritz = forms(scaled, Q, effort.steps)
    random = probes(scaled, Q, effort.seed, effort.steps, 0, effort.n_probes)
    fixed, slopes = scaled.base, scaled.base_slopes
    if effort.order == 2:
        moment, moment_slopes = scaled.second_moment()
        fixed, slopes = fixed - 0.5 * moment, slopes - 0.5 * moment_slopes
    return Estimate(effort, Q, ritz, random, fixed, slopes)


def more(scaled: Scaled, old: Estimate, target: float, most: int) -> Estimate:
    """Add random vectors until the standard error is at most the target."""
    effort, now = old.effort, old
    while True:
        n = len(now.probes)
        if (now.se <= target and n >= PILOT) or not 0 < n < most:
            return now
        needed = n * (now.se / target) ** 2
        upto = _rounded(min(max(1.05 * needed, n + WIDTH, PILOT), most))
        added = probes(scaled, old.Q, effort.seed, effort.steps, n, upto)
        now = replace(now, probes=now.probes.joined(added))


def adapted(scaled: Scaled, target: float, seed: int) -> Estimate:
    """Choose the effort for a standard error, and estimate with it.

    Two moments are taken exactly where that costs less than the random vectors that it saves.

    Raises
    ------
    ExactFactorNeededError
        If no effort in reason leaves less than `HOPELESS`.
    """
    upper = _upper(scaled, seed)
    e, Q = _first_ritz(scaled, seed, upper)
    order = scaled.orders[-1]
    e, Q = _grown(scaled, e, Q, order, target, seed, upper)
    pilot, effort = _pilot(scaled, Effort(seed, order, LEAST_STEPS, PILOT, Q), target)
    need = {order: _needed(pilot, order, target) for order in scaled.orders}
    cost = MOMENT_COST * scaled.moment_products / (effort.steps * scaled.n_pairs)
    if need[1] <= need[order] + cost and need[1] <= MOST_PROBES:
        effort = replace(effort, order=1)
    n = min(need[effort.order], MOST_PROBES)
    if max(n, PILOT) + len(e) >= len(Q):
        return _in_full(scaled, effort, target)
    found = estimate(scaled, replace(effort, n_probes=n))
    if not found.se < HOPELESS:
        raise _out_of_reach(scaled, found.se, target)
    return found


def _in_full(scaled: Scaled, effort: Effort, target: float) -> Estimate:
    """Take every unit vector, where no fewer random vectors would do: no error but of the steps."""
    effort = replace(effort, order=1, n_probes=0, start=np.eye(len(effort.start)))
    while True:
        found = estimate(scaled, effort)
        if found.se <= CUT * target or effort.steps >= MOST_STEPS:
            return found
        effort = replace(effort, steps=2 * effort.steps)


def _upper(scaled: Scaled, seed: int) -> float:
    return upper_bound(scaled, signs(scaled.size, seed, 0), BOUND_STEPS)


def _first_ritz(scaled: Scaled, seed: int, upper: float) -> tuple[np.ndarray, np.ndarray]:
    n = scaled.size
    V = _normal(n, min(LEAST_RITZ, n), seed)
    V[:, 0] = scaled.near_null  # the smallest of a graph in one piece is near this
    return smallest(scaled, V, FIRST_ROUNDS, upper)


def _grown(
    scaled: Scaled,
    e: np.ndarray,
    Q: np.ndarray,
    order: int,
    target: float,
    seed: int,
    upper: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Double the Ritz vectors while one more saves random vectors."""
    n = len(Q)
    most = min(MOST_RITZ, n // 4)
    f = FUNCTIONS[order]
    while len(e) < most and 2.0 * f(e[-1]) ** 2 > WORTH_A_RITZ_VECTOR * target**2:
        if len(e) >= LOOK_FROM:
            _look_ahead(scaled, e, Q, order, target, seed)
        added = _normal(n, min(len(e), most - len(e)), seed + len(e))
        e, Q = smallest(scaled, np.hstack([Q, added]), ADDED_ROUNDS, upper)
    return e, Q


def _look_ahead(
    scaled: Scaled, e: np.ndarray, Q: np.ndarray, order: int, target: float, seed: int
) -> None:
    """Refuse a graph where the most Ritz vectors and random vectors leave too much.

    No eigenvalue that is left takes more variance away than the last one that was found.
    """
    pilot = probes(scaled, Q, seed, 2 * LEAST_STEPS, 0, PILOT)
    taken = 2.0 * FUNCTIONS[order](e[-1]) ** 2 * (MOST_RITZ - len(e))
    left = float(pilot.variances[order - 1]) / MARGIN - taken
    if left > MOST_PROBES * HOPELESS**2:
        raise _out_of_reach(scaled, float(np.sqrt(left / MOST_PROBES)), target)


def _out_of_reach(scaled: Scaled, se: float, target: float) -> ExactFactorNeededError:
    return ExactFactorNeededError(
        f"the iterative factor cannot estimate log|M| for {scaled.names}: its standard error "
        f"would stay at {se:.2g}, where {target:g} was asked for and {HOPELESS:g} is the most that "
        "a likelihood can be read with. The pairs of levels form a graph like a chain (each level "
        "meets few others, or only its neighbours), where a sparse Cholesky factor is cheap: use "
        'factor="cholmod" or factor="auto" (LmerControl, GlmerControl)'
    )


def _pilot(scaled: Scaled, effort: Effort, target: float) -> tuple[Probes, Effort]:
    """Run the Ritz vectors and the pilot with as many steps as it takes."""
    Q = effort.start
    while True:
        ritz = forms(scaled, Q, effort.steps)
        pilot = probes(scaled, Q, effort.seed, effort.steps, 0, PILOT)
        cut = np.abs(ritz.cut.sum(axis=0) + pilot.forms.cut.mean(axis=0)).max()
        if cut <= CUT * target or effort.steps >= MOST_STEPS:
            return pilot, effort
        effort = replace(effort, steps=2 * effort.steps)


def _needed(pilot: Probes, order: int, target: float) -> int:
    """Return how many random vectors the variance of the pilot asks for."""
    variance = float(pilot.variances[order - 1])
    return max(_rounded(MARGIN * variance / target**2), WIDTH)


def _rounded(n: float) -> int:
    return WIDTH * int(np.ceil(min(n, 1e9) / WIDTH))


def _normal(n: int, k: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, k, 1]).normal(size=(n, k))

"""Bootstrap replicates of statistics of a fit.

Where a linear fit's own residuals are drawn, they are taken at unit weight, ``sqrt(w) (y - mu)``,
and put back with each row's own weight (J. R. Carpenter, H. Goldstein and J. Rasbash, 2003, A novel
bootstrap procedure for assessing the relationship between class size and achievement, Applied
Statistics 52(4), 431-443).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError, FitError, RowsElsewhereError
from mixef.estimation.fit import Fit
from mixef.inference.components import parameter_values
from mixef.inference.refits.many import PARTS, check_processes, refit_many, refitted
from mixef.inference.refits.other_rows import (
    checked_group,
    fit_to_rows,
    outermost,
    with_levels,
)
from mixef.inference.replicates import attempted, in_parallel, message_of
from mixef.inference.resampling.bootstrap_result import LIMITS, Bootstrap
from mixef.inference.simulation.simulate import simulated_responses

TYPES = ("parametric", "semiparametric", "residual", "cases")
# Responses are drawn in pieces of so many numbers, so that memory stays bounded.
PIECE = 8_000_000
# What a replicate takes beside its statistics, in numbers.
OF_ROW = 30
# A task of a process refits so many replicates.
PER_TASK = 10

Statistic = Callable[[Any], Any]
Row = tuple[np.ndarray | str, bool, bool]
Item = TypeVar("Item")
Result = TypeVar("Result")


def bootstrap(
    fit: Fit,
    n: int = 1000,
    statistic: Statistic | None = None,
    *,
    type: str = "parametric",
    use_u: bool = False,
    cluster: str | None = None,
    seed: int | np.random.Generator | None = None,
    n_jobs: int = 1,
    progress: bool | None = None,
) -> Bootstrap:
    """Return statistics of bootstrap replicates; see the method ``bootstrap`` of a model."""
    n, rng, type = checks.whole(n, "n"), checks.generator(seed), checks.option(type, "type", TYPES)
    n_jobs, progress = checks.work(n_jobs, progress)
    _check_type(fit, type, checks.flag(use_u, "use_u"), cluster)
    _refuse_rows(fit, type)
    if statistic is not None:
        check_processes(fit, n_jobs)
    t0 = parameter_values(fit) if statistic is None else labelled(statistic(fit))
    checks.count(n, "n", each=len(t0) + OF_ROW)
    if type == "cases":
        rows = _cases(fit, n, statistic, t0, cluster, rng, n_jobs, progress)
    else:
        draw = _drawer(fit, type, use_u)
        rows = []
        for m in pieces(fit, n):
            Y = draw(m, rng)
            if statistic is None:
                rows += _batched(fit, Y, t0, n_jobs, progress)
            else:
                task = partial(_of_response, fit, statistic, t0)
                rows += each(task, list(Y.T), n_jobs, progress, "bootstrap")
    return _collected(type, t0, rows)


def boot_intervals(
    fit: Fit,
    level: float = 0.95,
    n: int = 1000,
    seed: int | np.random.Generator | None = None,
    type: str = "perc",
    n_jobs: int = 1,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Return confidence limits of all parameters by the parametric bootstrap."""
    level, type = checks.level(level), checks.option(type, "boot_type", LIMITS)
    draws = bootstrap(fit, n, seed=seed, n_jobs=n_jobs, progress=progress)
    return draws.confint(level, type)


def labelled(value: Any) -> pd.Series:
    """Return what a statistic gives, a number, array, mapping or Series, as a Series of floats."""
    names: list[str] | None = None
    try:
        if isinstance(value, pd.Series | Mapping):
            named = pd.Series(value)
            values: Any = named.to_numpy()
            names = [str(key) for key in named.index]
        else:
            values = np.atleast_1d(np.asarray(value)).ravel()
    except Exception:  # rows of several lengths, or an object whose conversion fails
        values = None
    if not (isinstance(values, np.ndarray) and values.dtype.kind in "iufb" and values.size):
        raise ArgumentError(
            f"the bootstrapped function returned {checks.shown(value)}; expected a number, an "
            "array of numbers, or a Series or dict of them"
        )
    values = values.astype(float)
    return pd.Series(values, index=names or [f"t{i + 1}" for i in range(len(values))])


def _check_type(fit: Fit, type: str, use_u: bool, cluster: str | None) -> None:
    if not fit.is_linear and type in ("semiparametric", "residual"):
        raise ArgumentError(
            f"the {type} bootstrap resamples residuals, and those of a generalized model are not "
            "exchangeable; expected type='parametric' or 'cases'"
        )
    if use_u and type in ("residual", "cases"):
        raise ArgumentError(
            f"use_u=True holds the random effects fixed, but type={type!r} draws them again; use "
            "type='parametric' or 'semiparametric'"
        )
    if cluster is not None:
        if type != "cases":
            raise ArgumentError(f"cluster is for type='cases', but type is {type!r}; leave it out")
        checked_group(fit.terms, cluster, "cluster")


def _refuse_rows(fit: Fit, type: str) -> None:
    """Refuse what needs all rows at once, where an engine has them."""
    if type != "parametric" and not fit.frame.in_memory:
        frame: Any = fit.frame
        what = "copies of the rows of a group" if type == "cases" else "the residuals of all rows"
        raise RowsElsewhereError(
            f"bootstrap() needs {what} in memory for type={type!r}, but its {frame.n:,} rows are "
            f"in {frame.relation.engine}: take type='parametric', whose responses are drawn as the "
            "rows are read, or collect a sample of the table, and fit the model to that"
        )


def _drawer(fit: Fit, type: str, use_u: bool) -> Callable[..., Any]:
    """Return what draws m responses (n_rows, m) from a generator."""
    if type == "parametric":
        return partial(simulated_responses, fit, use_u=use_u)
    if type == "residual":
        return partial(residual_responses, fit)
    return partial(semiparametric_responses, fit, use_u=use_u)


def pieces(fit: Fit, n: int) -> list[int]:
    """Split n replicates so that the responses of a piece fit into memory."""
    most = max(1, PIECE // fit.frame.n) if fit.frame.in_memory else n
    return [min(most, n - done) for done in range(0, n, most)]


def _batched(fit: Fit, Y: Any, t0: pd.Series, n_jobs: int, progress: Any) -> list[Row]:
    many = refit_many(fit, Y, n_jobs=n_jobs, progress=progress)
    values = many.to_frame()[list(t0.index)].to_numpy()
    return [
        (many.failures.get(i, values[i]), bool(many.singular[i]), bool(many.converged[i]))
        for i in range(len(values))
    ]


def _cases(fit, n, statistic, t0, cluster, rng, n_jobs, progress) -> list[Row]:
    """Return replicates from levels of a grouping factor that are drawn with replacement."""
    group = (
        outermost(fit.terms) if cluster is None else checked_group(fit.terms, cluster, "cluster")
    )
    n_levels = next(term.n_levels for term in fit.terms if term.group == group)
    picks = rng.integers(n_levels, size=(n, n_levels))
    task = partial(_of_levels, fit, parameter_values if statistic is None else statistic, t0,
                   group)  # fmt: skip
    return each(task, list(picks), n_jobs, progress, "bootstrap")


def each(
    task: Callable[[Item], Result], items: Sequence[Item], n_jobs: int, progress: Any, label: str
) -> list[Result]:
    """Return ``task`` of every item in order; other processes get them in bunches."""
    if n_jobs == 1:
        return in_parallel(task, items, progress=progress, label=label)
    size = max(PER_TASK, len(items) // PARTS)
    bunches = [items[i : i + size] for i in range(0, len(items), size)]
    done = in_parallel(partial(_bunch, task), bunches, n_jobs=n_jobs, progress=progress,
                       label=label)  # fmt: skip
    return [result for results in done for result in results]


def _bunch(task: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [task(item) for item in items]


def _of_response(fit: Fit, statistic: Statistic, t0: pd.Series, y: Any) -> Row:
    return _outcome(lambda: refitted(fit, y), statistic, t0)


def _of_levels(fit: Fit, statistic: Statistic, t0: pd.Series, group: str, picks: np.ndarray) -> Row:
    def again() -> Fit:
        quiet = fit.spec.changed(control=fit.control.quiet())
        return fit_to_rows(fit, with_levels(quiet, group, picks), start=fit.warm_start())

    return _outcome(again, statistic, t0)


def _outcome(again: Callable[[], Fit], statistic: Statistic, t0: pd.Series) -> Row:
    """Return the values (k,) or the message of a replicate, and whether it is singular."""
    new = attempted(again)
    if isinstance(new, str):
        return new, False, False
    state = bool(new.vanished), new.convergence.converged
    try:
        values = labelled(statistic(new))
    except Exception as error:  # the user's function may do anything
        return message_of(error), *state
    if values.index.equals(t0.index):
        return values.to_numpy(), *state
    return (
        f"the function returned {len(values)} values ({', '.join(values.index[:5])}), but "
        f"{len(t0)} ({', '.join(t0.index[:5])}) of the fit itself"
    ), *state


def _collected(kind: str, t0: pd.Series, rows: Sequence[Row]) -> Bootstrap:
    messages = Counter(row for row, _, _ in rows if isinstance(row, str))
    failures = pd.Series(dict(messages.most_common()), dtype=int, name="failures")
    if failures.sum() == len(rows):
        raise FitError(
            f"all {len(rows)} replicates failed, most of them ({failures.iloc[0]}) by: "
            f"{failures.index[0]}"
        )
    lost = np.full(len(t0), np.nan)
    values = np.array([lost if isinstance(row, str) else row for row, _, _ in rows])
    return Bootstrap(
        type=kind,
        t0=t0.rename("t0"),
        replicates=pd.DataFrame(values, columns=t0.index),
        failures=failures,
        n_singular=sum(singular for _, singular, _ in rows),
        n_unconverged=sum(not (ok or isinstance(row, str)) for row, _, ok in rows),
    )


# A relative standard deviation below this share of the largest is taken for zero.
NULL = 1e-8


def semiparametric_responses(
    fit: Fit, n: int, rng: np.random.Generator, *, use_u: bool = False
) -> np.ndarray:
    """Return responses (n_rows, n): normal random effects or the modes, plus drawn residuals."""
    if use_u:
        mean = fit.eta[:, None]
    else:
        draws = [
            rng.standard_normal((t.n_levels, len(lam), n))
            for t, lam in zip(fit.terms, fit.estimates.lams, strict=True)
        ]
        lams = fit.estimates.lams
        effects = [fit.estimates.sigma * (lam @ d) for lam, d in zip(lams, draws, strict=True)]
        mean = fit.fixed_predictor[:, None] + _random_part(fit, effects)
    return mean + _drawn_residuals(fit, _residuals(fit), n, rng)


def residual_responses(fit: Fit, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return responses (n_rows, n) of drawn random effects and residuals, both reflated.

    Levels of a grouping factor are drawn with replacement, all their random effects together.
    """
    effects: list[np.ndarray | None] = [None] * len(fit.terms)
    for members in fit.groups.values():
        modes = reflated_effects(fit, members)
        drawn = rng.integers(len(modes[0]), size=(len(modes[0]), n))
        for t, b in zip(members, modes, strict=True):
            effects[t] = np.moveaxis(b[drawn], 1, 2)
    rest = _residuals(fit)
    size = float(np.sqrt(np.mean(rest**2)))
    if size > 0:
        rest = rest * (fit.estimates.sigma / size)
    random = _random_part(fit, [e for e in effects if e is not None])
    return fit.fixed_predictor[:, None] + random + _drawn_residuals(fit, rest, n, rng)


def reflated_effects(fit: Fit, members: list[int]) -> list[np.ndarray]:
    """Return the modes (l, s_t) of one grouping factor's terms with the estimated covariance.

    Modes are shrunken: their covariance over the levels is smaller than the estimated one. They are
    centred, turned into uncorrelated ones of unit variance, and given the estimated covariance
    ``sigma^2 lam lam'`` (divisor l), with terms uncorrelated. The root goes by spherical random
    effects, so that a singular covariance keeps its null directions.
    """
    spherical, roots = [], []
    for t in members:
        left, size, _ = np.linalg.svd(fit.estimates.lams[t])
        keep = size > NULL * size.max(initial=0.0)
        spherical.append(fit.estimates.effects[t] @ (left[:, keep] / size[keep]))
        roots.append(left[:, keep] * size[keep])
    u = np.hstack(spherical)
    u = u - u.mean(axis=0)
    values, vectors = np.linalg.eigh(u.T @ u / len(u))
    flat = values <= NULL * values.max(initial=0.0)
    inverse = np.where(flat, 0.0, 1.0 / np.sqrt(np.where(flat, 1.0, values)))
    white = fit.estimates.sigma * (u @ (vectors * inverse) @ vectors.T)
    parts = np.split(white, np.cumsum([root.shape[1] for root in roots])[:-1], axis=1)
    return [part @ root.T for part, root in zip(parts, roots, strict=True)]


def _residuals(fit: Fit) -> np.ndarray:
    """Return the conditional residuals (n_rows,) at unit weight, centred."""
    rest = fit.y - fit.eta
    if fit.frame.weights is not None:
        rest = rest * np.sqrt(fit.frame.weights)
    return rest - rest.mean()


def _drawn_residuals(fit: Fit, rest: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    drawn = rest[rng.integers(len(rest), size=(len(rest), n))]
    return drawn if fit.frame.weights is None else drawn / np.sqrt(fit.frame.weights)[:, None]


def _random_part(fit: Fit, effects: list[np.ndarray]) -> np.ndarray:
    """Return ``Z b`` (n_rows, n) of effects (l_t, s_t, n), one array a term."""
    total = np.zeros((fit.frame.n, effects[0].shape[2]))
    for term, b in zip(fit.terms, effects, strict=True):
        total += term.Zt().T @ b.reshape(term.n_effects, -1)
    return total

"""Many like tasks: on several processes, with a progress bar, and with random numbers by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")
# A progress bar appears only after this many seconds.
DELAY = 2.0


def generator(seed: int | np.random.Generator | None) -> np.random.Generator:
    """Return a random generator: the given one, one of a seed, or a fresh one.

    Raises
    ------
    TypeError
        For anything else.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if seed is None or (isinstance(seed, Integral) and not isinstance(seed, bool) and seed >= 0):
        return np.random.default_rng(None if seed is None else int(seed))
    raise TypeError(f"seed is {seed!r}; expected a whole number, a numpy.random.Generator, or None")


def check_count(n: Any, name: str = "n") -> int:
    """Return a number of replicates, which is whole and positive."""
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise ValueError(f"{name} is {n!r}; expected a whole number, 1 or more")
    return int(n)


def in_parallel(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    n_jobs: int = 1,
    progress: bool | None = None,
    label: str = "",
) -> list[Result]:
    """Return ``task`` of every item, in order.

    Parameters
    ----------
    n_jobs : int
        Processes to work on; -1 for one a core. The task and items have to pickle then.
    progress : bool, optional
        Show a progress bar; by default on a terminal, where it takes more than two seconds.
    label : str
        What the bar is called.
    """
    if not isinstance(n_jobs, Integral) or isinstance(n_jobs, bool) or n_jobs == 0:
        raise ValueError(f"n_jobs is {n_jobs!r}; expected a positive number, or -1 for all cores")
    if n_jobs == 1 or len(items) < 2:
        return [task(item) for item in with_progress(items, progress=progress, label=label)]
    from joblib import Parallel, delayed

    done = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(task)(item) for item in items)
    return list(with_progress(done, progress=progress, label=label, total=len(items)))


def with_progress(
    items: Iterable[Item],
    *,
    progress: bool | None = None,
    label: str = "",
    total: int | None = None,
) -> Iterable[Item]:
    """Iterate with a progress bar, as `in_parallel` shows it."""
    if progress is False:
        return items
    from tqdm.auto import tqdm

    return tqdm(
        items, desc=label, total=total, delay=0.0 if progress else DELAY,
        disable=None if progress is None else False, leave=False,
    )  # fmt: skip

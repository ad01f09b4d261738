"""Many like tasks: on several processes, with a progress bar, and with failures kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from mixef import checks
from mixef.errors import MixefError
from mixef.late import load
from mixef.progress import LateBar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    n_jobs: int = 1,
    progress: bool | None = None,
    label: str = "",
) -> list[Result]:
    """Return ``task`` of every item, in order, from ``n_jobs`` processes (-1: one a core).

    A progress bar with the label shows by default on a terminal, where it takes more than two
    seconds. On several processes the task and items have to pickle.
    """
    n_jobs = checks.jobs(n_jobs)
    if n_jobs == 1 or len(items) < 2:
        done: Iterable[Result] = map(task, items)
    else:
        joblib = load("joblib")
        parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
        done = parallel(joblib.delayed(task)(item) for item in items)
    return list(with_progress(done, progress=progress, label=label, total=len(items)))


def attempted(make: Callable[[], Result]) -> Result | str:
    """Return what is made, or what the error says where it fails as fits do."""
    try:
        return make()
    except (MixefError, np.linalg.LinAlgError, ArithmeticError) as error:
        return message_of(error)


def message_of(error: Exception) -> str:
    """Return what an error says, with its kind if that is not ours."""
    return str(error) if isinstance(error, MixefError) else f"{type(error).__name__}: {error}"


def with_progress(
    items: Iterable[Item],
    *,
    progress: bool | None = None,
    label: str = "",
    total: int | None = None,
) -> Iterable[Item]:
    """Iterate with a progress bar, as `in_parallel` shows it."""
    if checks.flag_or_none(progress, "progress") is False:
        return items
    total = len(items) if total is None and isinstance(items, Sequence) else total
    return _shown(items, LateBar(label, total, progress))


def _shown(items: Iterable[Item], late: LateBar) -> Iterator[Item]:
    with late as bar:
        for item in items:
            yield item
            bar.advance()

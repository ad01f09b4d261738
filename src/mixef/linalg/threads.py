"""How many threads BLAS may use.

NumPy, SciPy and CHOLMOD each bring a BLAS with a thread pool of its own. On the small blocks of a
mixed model their threads cost more than they give. On a large dense matrix they gain, unless
something else keeps the cores busy: then threads that wait for each other can take thirty times
as long. So large factorizations are timed, and run the way that has been the faster one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")

# From this order on, a dense Cholesky factor can gain from several threads.
LARGE_MATRIX = 800

# The first run of a thread pool also starts it: each number of threads is tried this often.
TRIALS = 2

# Seconds a floating-point operation of the latest runs, by number of threads.
_pace: dict[int, list[float]] = {}


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep BLAS to one thread inside a ``with`` block."""
    allowed_threads()
    limit: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limit


def run_large(order: int, operations: float, work: Callable[[], Result]) -> Result:
    """Run work on a dense matrix on the number of threads that has been the fastest here.

    Parameters
    ----------
    order : int
        Order of the matrix; small ones run on the threads there are.
    operations : float
        Floating-point operations of the work, by which its time is judged.
    """
    if order < LARGE_MATRIX:
        return work()
    choices = {1, allowed_threads()}
    on_trial = [t for t in sorted(choices) if len(_pace.setdefault(t, [])) < TRIALS]
    threads = on_trial[0] if on_trial else min(choices, key=lambda t: min(_pace[t]))
    with _controller().limit(limits=threads, user_api="blas"):
        begin = time.perf_counter()
        result = work()
        pace = (time.perf_counter() - begin) / operations
    _pace[threads] = [*_pace[threads], pace][-TRIALS:]
    return result


@cache
def allowed_threads() -> int:
    """Return the threads that BLAS has outside of mixef; asked for before the first limit."""
    pools = _controller().info()
    return max((pool["num_threads"] for pool in pools if pool["user_api"] == "blas"), default=1)


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()

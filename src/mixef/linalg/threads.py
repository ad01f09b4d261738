"""How many threads BLAS may use.

NumPy, SciPy and CHOLMOD each bring a BLAS with a thread pool of its own. On the small blocks of a
mixed model their threads cost more than they give. On a large dense matrix they gain, unless
something else keeps the cores busy: then threads that wait for each other can take thirty times
as long. So large factorizations are timed, and run the way that has been the faster one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")

# From this order on, a dense Cholesky factor can gain from several threads.
LARGE_MATRIX = 800

# The first run of a thread pool also starts it: each number of threads is tried this often.
TRIALS = 2

# Seconds a floating-point operation of the latest runs, by number of threads.
_pace: dict[int, list[float]] = {}
# The blocks of `one_blas_thread` that are open, and the pools with more threads before, how many.
_blocks: set[object] = set()
_had: list[tuple[Any, int]] = []
_lock, _one_large = threading.Lock(), threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread inside a ``with`` block.

    The limit is the process's: the first block in sets it, the last one out takes it away.
    """
    allowed_threads()
    block = object()
    try:
        _enter(block)
        yield
    finally:
        try:
            _leave(block)
        except BaseException:  # Ctrl-C, between two pools
            _leave(block)
            raise


def _enter(block: object) -> None:
    """Take every pool to one thread, unless another block has."""
    with _lock:
        if not (_blocks or _had):
            had = [(pool, pool.get_num_threads()) for pool in _pools()]
            _had[:] = [(pool, threads) for pool, threads in had if threads != 1]
        _blocks.add(block)
        if len(_blocks) == 1:
            for pool, _ in _had:
                pool.set_num_threads(1)


def _leave(block: object) -> None:
    """Give the pools their threads back after the last block."""
    with _lock:
        _blocks.discard(block)
        if not _blocks:
            for pool, threads in _had:
                pool.set_num_threads(threads)
            _had.clear()


def _forget() -> None:
    """Begin anew in a forked process, which has none of the threads that were in a block."""
    _blocks.clear()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget)


def run_large(order: int, operations: float, work: Callable[[], Result]) -> Result:
    """Run work on a dense matrix on the number of threads that has been the fastest here.

    Parameters
    ----------
    order : int
        Order of the matrix; small ones run on the threads there are.
    operations : float
        Floating-point operations of the work, by which its time is judged.
    """
    if order < LARGE_MATRIX or not _one_large.acquire(blocking=False):
        return work()
    try:
        return _run_timed(operations, work)
    finally:
        _one_large.release()


def _run_timed(operations: float, work: Callable[[], Result]) -> Result:
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
    return max((pool.get_num_threads() for pool in _pools()), default=1)


@cache
def _pools() -> list[Any]:
    """Return threadpoolctl's controllers of the BLAS libraries."""
    pools: list[Any] = _controller().select(user_api="blas").lib_controllers
    return pools


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()

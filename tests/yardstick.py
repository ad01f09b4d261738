"""Bounds on work, in time of the same machine in the same minute."""

import time
from contextlib import contextmanager


def yard():
    """The CPU time (s) of some plain work, 0.02 s where nothing else is going on."""
    start = time.process_time()
    sum(hash((i, str(i))) for i in range(100_000))
    return time.process_time() - start


@contextmanager
def within(seconds):
    """Assert that what is done takes no longer than so many seconds, of 50 yards each."""
    before, start = yard(), time.process_time()
    yield
    spent = time.process_time() - start
    unit = max(before, yard())  # a machine that is busy meanwhile is slower
    assert spent < 50 * seconds * unit, f"{spent:.2f} s, and a yard takes {unit:.3f} s"

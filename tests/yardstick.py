"""Bounds on work, in calls of functions, which are the same on every machine.

The bounds are twice what was counted: work that is quadratic in the length takes far more.
"""

import sys
from contextlib import contextmanager


@contextmanager
def within(calls):
    """Assert that what is done takes no more than so many calls, of Python's functions and C's."""
    count, before = 0, sys.getprofile()

    def counted(_frame, event, _arg):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        yield
    finally:
        sys.setprofile(before)
    assert count <= calls, f"{count:,} calls, where {calls:,.0f} are to do"

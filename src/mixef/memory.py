"""The memory that there is for this process."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


def available() -> float:
    """Return the bytes that this process may still take, infinite where the system does not say."""
    limits = [math.inf, _free(), _group_limit()]
    if resource is not None and sys.platform != "win32":
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = _numbers("/proc/self/statm")
            limits.append(limit - (pages[0] * os.sysconf("SC_PAGE_SIZE") if pages else 0.0))
    return max(min(limits), 0.0)


def _free() -> float:
    """Return what the machine has: free on Linux, all of it elsewhere."""
    try:
        text = Path("/proc/meminfo").read_text()
        return 1024.0 * float(text.split("MemAvailable:")[1].split()[0])
    except (OSError, IndexError):
        pass
    if sys.platform == "win32":
        return math.inf
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # no such call, no such name
        return math.inf


def _group_limit() -> float:
    """Return what a container's limit leaves."""
    limit, used = (_numbers(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    return limit[0] - used[0] if limit and used else math.inf


def _numbers(path: str) -> list[float]:
    """Return the numbers in a small file; none where there is no such file, or words in it."""
    try:
        return [float(word) for word in Path(path).read_text().split()]
    except (OSError, ValueError):
        return []

"""What a factor will take, beside what there is: said before the work starts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mixef.errors import MemoryNeededError
from mixef.linalg.crossproducts import CrossProducts

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

# Bytes for each cell of a dense remainder: itself, and its twin without the templates where one of
# them is singular.
DENSE_CELL = 16
# Bytes for each non-zero of a sparse factor: itself, a copy in columns, the inverse on its pattern,
# and row numbers.
SPARSE_ENTRY = 32
# Any machine has so many bytes.
FEW = 1e8


def require(products: CrossProducts, needed: float) -> None:
    """Refuse a factor that takes more bytes than there are.

    Raises
    ------
    MemoryNeededError
    """
    if not fits(needed):
        raise too_large(products, needed)


def fits(needed: float) -> bool:
    """Tell whether so many bytes are there; of few, nobody is asked."""
    return needed <= FEW or needed <= available()


def too_large(products: CrossProducts, needed: float) -> MemoryNeededError:
    """Return the error for a factor of so many bytes."""
    layout = products.layout
    effects = np.diff(layout.offsets)
    named = [
        f"{layout.names[i] if layout.names else f'number {i + 1}'} ({size:,} effects)"
        for i, size in enumerate(effects)
    ]
    largest = np.sort(np.argsort(-effects, kind="stable")[:2])
    terms = " and ".join(named[i] for i in largest)
    return MemoryNeededError(
        f"the factor needs about {needed / 1e9:.3g} GB, and {available() / 1e9:.3g} GB are "
        f"available: terms {terms} are crossed. Drop one of them, group its levels more coarsely, "
        "or fit the model to a part of the data"
    )


def available() -> float:
    """Return the bytes that this process may still take, infinite where the system does not say."""
    limits = [np.inf, _free(), _group_limit()]
    if resource is not None:
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
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # no such call, no such name
        return np.inf


def _group_limit() -> float:
    """Return what a container's limit leaves."""
    limit, used = (_numbers(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    return limit[0] - used[0] if limit and used else np.inf


def _numbers(path: str) -> list[float]:
    """Return the numbers in a small file; none where there is no such file, or words in it."""
    try:
        return [float(word) for word in Path(path).read_text().split()]
    except (OSError, ValueError):
        return []

"""What a factor will take, beside what there is: said before the work starts."""

from __future__ import annotations

import numpy as np

from mixef.errors import MemoryNeededError
from mixef.linalg.crossproducts import CrossProducts
from mixef.memory import available

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

"""Which pairs of levels of two factors occur in rows that come in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixef.errors import MemoryNeededError, table_changed
from mixef.linalg.factor import fits
from mixef.linalg.kernels import compiled
from mixef.linalg.layout import Layout
from mixef.linalg.sources import Chunk
from mixef.memory import available

# Pairs of levels of two factors up to which a table says where each one stands.
LARGEST_TABLE = 2**24
# Bytes that a whole fit takes for each pair of levels, as measured: where it is, and copies of its
# products, most of them with each parameter of the search.
PLACE_BYTES, COPIES, COPIES_EACH = 120.0, 4, 6


class PairPlaces:
    """Where pairs of levels of two factors stand among those that occur.

    Parameters
    ----------
    keys : ndarray of int64 (m,)
        ``level_i * n_levels_j + level_j`` of the pairs that occur, sorted.
    n_levels : tuple of int
        Of both factors.
    """

    def __init__(self, keys: np.ndarray, n_levels: tuple[int, int]):
        self.n_levels = n_levels
        self._start = np.searchsorted(keys, n_levels[1] * np.arange(n_levels[0] + 1))
        self._second = (keys % n_levels[1]).astype(np.int32)

    def __len__(self) -> int:
        return len(self._second)

    @cached_property
    def _table(self) -> np.ndarray | None:
        if self.n_levels[0] * self.n_levels[1] > LARGEST_TABLE:
            return None
        table = np.full(self.n_levels, -1, dtype=np.int32)
        table[self.levels] = np.arange(len(self))
        return table

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the place (m,) of the pair of levels of every row.

        Raises
        ------
        DataError
            For a pair that is not among them.
        """
        if self._table is not None:
            places = np.asarray(self._table[first, second], dtype=np.intp)
        else:
            places = np.empty(len(first), dtype=np.intp)
            compiled()["find_pairs"](self._start, self._second, first, second, places)
        if places.min(initial=0) < 0:
            raise table_changed(
                "two levels occur together that did not when the rows were read first"
            )
        return places

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_table"}

    @property
    def levels(self) -> tuple[np.ndarray, np.ndarray]:
        """The levels of both factors, sorted by the first, then the second."""
        return np.repeat(np.arange(self.n_levels[0]), np.diff(self._start)), self._second


class PairKeys:
    """The pairs of levels that occur together in some rows, as sorted keys; sets of them add up.

    Those of many chunks wait until there are more of them than were merged before.

    Parameters
    ----------
    first, second : ndarray of int (k,)
        Levels of both factors.
    n_second : int
        Levels of the second factor.
    names : sequence of str
        Of both factors, for messages.
    bytes_each : float
        That a fit takes for each pair.
    """

    def __init__(
        self,
        first: np.ndarray,
        second: np.ndarray,
        n_second: int,
        names: Sequence[str] = (),
        bytes_each: float = PLACE_BYTES,
    ):
        self._merged, self._names, self._bytes = np.zeros(0, dtype=np.int64), names, bytes_each
        self._waiting = [pd.unique(first.astype(np.int64) * n_second + second)]

    def __iadd__(self, other: PairKeys) -> PairKeys:
        """Take in the pairs of another set."""
        self._waiting += [other._merged, *other._waiting]
        if sum(map(len, self._waiting)) > len(self._merged):
            self._merged, self._waiting = self.keys, []
        return self

    @property
    def keys(self) -> np.ndarray:
        """The keys (m,), sorted; refused where the pairs take more memory than there is."""
        keys = np.concatenate([self._merged, *self._waiting])
        keys.sort()
        keys = keys[np.diff(keys, prepend=-1) > 0]
        require_pairs(len(keys), self._names, self._bytes)
        return keys


class PairDict(dict[tuple[int, int], PairKeys]):
    """Sets of pairs by factors, which add up one by one."""

    def __iadd__(self, other: PairDict) -> PairDict:
        """Take in the pairs of others."""
        for key, pairs in other.items():
            self[key] += pairs
        return self


def pair_bytes(s_i: int, s_j: int, n_parameters: int) -> float:
    """Return the bytes that a fit takes for each pair of levels of terms with s_i and s_j columns.

    Parameters
    ----------
    n_parameters : int
        Of the search.
    """
    return PLACE_BYTES + 8.0 * s_i * s_j * (COPIES + COPIES_EACH * n_parameters)


def pairs_of(chunk: Chunk, layout: Layout, n_parameters: int) -> PairDict:
    """Return the pairs of levels of every two factors that occur in a chunk."""
    n_levels, s = layout.n_levels, layout.widths
    names = layout.names or tuple(f"number {i + 1}" for i in range(len(layout)))
    return PairDict(
        {
            (i, j): PairKeys(
                chunk.codes[i],
                chunk.codes[j],
                n_levels[j],
                (names[i], names[j]),
                pair_bytes(s[i], s[j], n_parameters),
            )
            for i in range(len(layout))
            for j in range(i + 1, len(layout))
        }
    )


def require_pairs(count: int, names: Sequence[str], bytes_each: float) -> None:
    """Refuse pairs of levels that take more bytes than there are.

    Raises
    ------
    MemoryNeededError
    """
    needed = bytes_each * count
    if not fits(needed):
        raise MemoryNeededError(
            f"terms {' and '.join(names)} have {count:,} pairs of levels in common or more, which "
            f"need about {needed / 1e9:.3g} GB, and {available() / 1e9:.3g} GB are available. Drop "
            "one of them, group its levels more coarsely, or fit the model to a part of the data"
        )

"""Sums over levels, compared with a dense indicator matrix."""

import numpy as np
import pytest

from mixef.linalg.layout import ByLevel

ROWS = {
    "in order": [0, 0, 1, 2, 2, 2],
    "mixed": [2, 0, 1, 2, 0, 2],
    "levels without rows": [4, 1, 1, 4, 2, 1],
    "the first and last levels without rows": [1, 1, 2, 2, 3, 3],
    "one row": [1],
    "no rows": [],
}


@pytest.mark.parametrize("codes", ROWS.values(), ids=ROWS)
def test_sums_and_rows_are_products_with_the_indicator(codes):
    rng, levels = np.random.default_rng(1), ByLevel(np.array(codes, dtype=np.int32), 5)
    indicator = np.zeros((5, len(codes)))
    indicator[codes, np.arange(len(codes))] = 1.0
    for shape in ((), (3,), (2, 3)):
        v, values = rng.normal(size=(*shape, len(codes))), rng.normal(size=(*shape, 5))
        # Sums of six numbers: equal up to the order in which they are added.
        np.testing.assert_allclose(levels.sums(v), v @ indicator.T, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(levels.rows(values), values @ indicator)
    v = rng.normal(size=(len(codes), 4))
    np.testing.assert_allclose(levels.sums(v, axis=0), indicator @ v, rtol=0, atol=1e-14)

"""Quadratic forms of rows that touch one level of each factor, by every factor and densely."""

import numpy as np
import pytest
from structures import STRUCTURES, close, dense_Lambda, dense_Z, make, makers, rows_of, templates

from mixef.linalg import crossproducts
from mixef.linalg.dense import DenseFactor
from mixef.linalg.forms import quadratic_forms


@pytest.mark.parametrize("kind", ["random", "singular"])
@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize(("cls", "variant"), list(makers()))
def test_rows_with_levels_that_occur_together_or_not(cls, variant, name, kind, monkeypatch):
    monkeypatch.setattr(crossproducts, "SMALL_Z", 0)
    # Several chunks of solves for the levels of a factor.
    monkeypatch.setattr("mixef.linalg.forms.CHUNK", 7)
    rows = rows_of(name)
    products = crossproducts.crossproducts(rows)
    layout, lams = products.layout, templates(products.layout.widths, kind)
    Z, Lambda = dense_Z(rows), dense_Lambda(layout, lams)
    C = np.linalg.inv(Lambda.T @ Z.T @ Z @ Lambda + np.eye(layout.q))

    rng = np.random.default_rng(4)
    m = 120
    own = [group.codes[:60] for group in rows.groups]
    other = [rng.integers(-1, size, 60) for size in layout.n_levels]  # -1 is no level
    codes = [np.r_[a, b] for a, b in zip(own, other, strict=True)]
    v = [rng.normal(size=(m, s)) for s in layout.widths]
    v[-1][::7] = 0.0
    dense = np.zeros((m, layout.q))
    for i, (code, part) in enumerate(zip(codes, v, strict=True)):
        for a in range(layout.widths[i]):
            known = np.flatnonzero(code >= 0)
            dense[known, layout.offsets[i] + code[known] * layout.widths[i] + a] = part[known, a]
    expected = np.einsum("ma,ab,mb->m", dense, C, dense)

    factor = make(cls, variant, products, monkeypatch)
    factor.update(lams)
    close(quadratic_forms(factor, codes, v), expected)
    close(quadratic_forms(factor, codes, v), expected)  # the factor still stands


def test_rows_without_any_level():
    rows = rows_of("crossed")
    factor = DenseFactor(crossproducts.crossproducts(rows))
    factor.update([np.eye(1), np.eye(1)])
    none = [np.full(3, -1)] * 2
    np.testing.assert_array_equal(quadratic_forms(factor, none, [np.ones((3, 1))] * 2), 0.0)

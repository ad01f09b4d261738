"""Coordinates of lower triangular roots just as they are: signs, zero columns and all."""

import numpy as np

from mixef.terms.covariance import lower_triangle


def raw_coordinates(parametrization, lams):
    """The parameters of one root a term, of unstructured and diagonal terms."""
    parts = [
        lam[lower_triangle(s.size)] if s.tag == "us" else lam.diagonal()[: s.n_par]
        for s, lam in zip(parametrization.structures, lams, strict=True)
    ]
    return np.concatenate(parts)

"""Every covariance structure that is registered, by itself: what the protocol promises."""

import itertools

import numpy as np
import pytest

from mixef.terms.covariance import STRUCTURES, make_covariance, psd_cholesky

SIZES = (2, 3, 5)
KINDS = [
    (tag, hom)
    for tag, kind in STRUCTURES.items()
    for hom in ((False,) if kind.default_hom is None else (False, True))
]
CASES = [(*kind, size) for kind, size in itertools.product(KINDS, SIZES)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{'hom' if case[1] else 'het'}-{case[2]}")
def structure(request):
    return make_covariance(*request.param)


def points(structure, seed=0):
    """Coordinates in and out of their ranges, and some with zeros."""
    rng = np.random.default_rng(seed)
    out = [structure.start() + 0.4 * rng.normal(size=structure.n_par) for _ in range(3)]
    out.append(rng.normal(size=structure.n_par) * 2.0)
    out.append(np.where(np.arange(structure.n_par) % 2, out[0], 0.0))
    return out


def cov(structure, x):
    lam = structure.lam(x)
    return lam @ lam.T


def slopes(function, x, step=1e-3):
    """Central differences of fourth order: the error is some step^4 of the value."""

    def moved(h):
        return (
            8 * (function(x + h) - function(x - h)) - function(x + 2 * h) + function(x - 2 * h)
        ) / (12 * step)

    return np.array([moved(h) for h in step * np.eye(len(x))])


def test_derivatives_of_the_root(structure):
    for x in points(structure):
        np.testing.assert_allclose(structure.d_lam(x), slopes(structure.lam, x), atol=1e-9)
        second = structure.d2_lam(x)
        numeric = slopes(structure.d_lam, x)
        if second is None:
            assert np.abs(numeric).max() < 1e-9
        else:
            np.testing.assert_allclose(second, numeric, atol=1e-8)
            np.testing.assert_array_equal(second, second.transpose(1, 0, 2, 3))


def test_canonical_coordinates_have_the_same_covariance(structure):
    """And so has the template, which is lower triangular with a diagonal of 0 or more."""
    for x in points(structure):
        same = structure.canonical(x)
        template = structure.template(same)
        np.testing.assert_allclose(cov(structure, same), cov(structure, x), atol=1e-12)
        np.testing.assert_allclose(template @ template.T, cov(structure, x), atol=1e-12)
        assert (np.triu(template, 1) == 0).all()
        assert (template.diagonal() >= 0).all()
        np.testing.assert_allclose(structure.canonical(same), same, atol=1e-12)


def test_any_root_gives_its_coordinates(structure):
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.normal(size=(structure.size, structure.size)))[0]
    for x in points(structure):
        if structure.correlations == "one" and structure.void(x)[-1]:
            continue
        back = structure.coordinates(structure.lam(x) @ turn)
        np.testing.assert_allclose(cov(structure, back), cov(structure, x), atol=1e-10)


def test_the_users_parameters(structure):
    for x in points(structure):
        x = structure.canonical(x)
        par = structure.par(x)
        assert (par >= structure.lower - 1e-12).all()
        assert (par <= structure.upper + 1e-12).all()
        np.testing.assert_allclose(
            cov(structure, structure.from_par(par)), cov(structure, x), atol=1e-7
        )
    x = points(structure)[0]
    np.testing.assert_allclose(slopes(structure.par, structure.canonical(x)).diagonal(),
                               structure.par_slopes(structure.canonical(x)), atol=1e-9)  # fmt: skip
    assert len(structure.labels("g", [f"c{i}" for i in range(structure.size)])) == len(par)
    np.testing.assert_allclose(
        cov(structure, structure.start()), np.eye(structure.size), atol=1e-15
    )


def test_bounds_are_turning_points(structure):
    """A parameter at its bound leaves the covariance's slope at zero, for its own coordinate."""
    x = structure.canonical(points(structure)[0])
    par = structure.par(x)
    for a, ends in enumerate(zip(structure.lower, structure.upper, strict=True)):
        for end in ends:
            if np.isfinite(end) and structure.correlations != "all":
                at = par.copy()
                at[a] = end
                there = structure.from_par(at)
                half = structure.d_lam(there)[a] @ structure.lam(there).T
                own = half + half.T
                others = own if structure.hom or a == len(par) - 1 else own[[a], [a]]
                np.testing.assert_allclose(others, 0.0, atol=1e-7)


def test_standard_deviations_and_correlations(structure):
    columns = [f"c{i}" for i in range(structure.size)]
    x = structure.canonical(points(structure)[1])
    S = cov(structure, x)
    parts = structure.parts(columns)
    values = {
        kind: np.array(
            [
                np.sqrt(S[p.row, p.row]) if kind == "sd"
                else S[p.row, p.col] / np.sqrt(S[p.row, p.row] * S[p.col, p.col])
                for p in parts
                if p.kind == kind
            ]
        )
        for kind in ("sd", "cor")
    }  # fmt: skip
    root = structure.root_of(values["sd"], values["cor"])
    np.testing.assert_allclose(root @ root.T, S, atol=1e-12)
    assert (
        len({(p.kind, p.name) for p in parts})
        == len(parts)
        == len(values["sd"]) + len(values["cor"])
    )
    low, high = structure.correlation_bounds
    assert (values["cor"] >= low).all()
    assert (values["cor"] <= high).all()


def test_impossible_correlations_are_refused(structure):
    if structure.correlations == "none":
        return
    n_sd = sum(p.kind == "sd" for p in structure.parts(["c"] * structure.size))
    n_cor = len(structure.parts(["c"] * structure.size)) - n_sd
    with pytest.raises(ValueError, match="correlation"):
        structure.root_of(np.ones(n_sd), np.full(n_cor, -1.01))


def test_where_a_profile_holds_a_parameter(structure):
    """The curve gives the coordinate of a value, with its derivatives; `back` the value."""
    columns = [f"c{i}" for i in range(structure.size)]
    x = structure.canonical(points(structure)[2])
    S = cov(structure, x)
    for part in structure.parts(columns):
        if structure.correlations == "all":
            continue  # they are held on axes of their own, see test_profile
        held = structure.held(part.kind, part.row)
        sds = np.sqrt(S.diagonal())
        v = sds[part.row] if part.kind == "sd" else np.arcsin(S[1, 0] / (sds[0] * sds[1]))
        at, first, second = held.curve(v)
        assert at == pytest.approx(x[held.place], abs=1e-12)
        assert held.back(at) == pytest.approx(v, abs=1e-12)
        h = 1e-5
        ends = held.curve(v + h), held.curve(v - h)
        assert first == pytest.approx((ends[0][0] - ends[1][0]) / (2 * h), rel=1e-5)
        assert second == pytest.approx((ends[0][1] - ends[1][1]) / (2 * h), rel=1e-5, abs=1e-6)


def test_covariances_next_to_one(structure):
    """All slopes of the covariance are combinations of the changes, of as many as are free."""
    for x in points(structure)[:2]:
        x = structure.canonical(x)
        first, second = structure.changes(x)
        half = structure.d_lam(x) @ structure.lam(x).T
        own = (half + half.transpose(0, 2, 1)).reshape(structure.n_par, -1)
        flat = first.reshape(len(first), -1)
        assert np.linalg.matrix_rank(flat) == len(first) == structure.n_par
        assert np.linalg.matrix_rank(np.vstack([flat, own])) == len(first)
        if second is None:
            continue
        sds, rho = structure.sds(x), structure.par(x)[-1]
        natural = np.append(sds**2 if structure.hom else sds, rho)

        def at(natural):
            sds = np.sqrt(natural[:-1]) if structure.hom else natural[:-1]
            return structure.changes(structure.from_par(np.append(sds, natural[-1])))

        def covariance(natural):
            sds = np.sqrt(natural[:-1]) if structure.hom else natural[:-1]
            return cov(structure, structure.from_par(np.append(sds, natural[-1])))

        np.testing.assert_allclose(first, slopes(covariance, natural), atol=1e-8)
        np.testing.assert_allclose(second, slopes(lambda n: at(n).first, natural), atol=1e-8)


def test_other_columns(structure):
    """Roots move with the columns, as far as the invariance allows."""
    rng = np.random.default_rng(3)
    R = {
        "scalar": 1.7 * np.eye(structure.size),
        "diagonal": np.diag(rng.uniform(0.3, 3.0, structure.size)),
        "triangular": np.triu(rng.normal(size=(structure.size,) * 2)) + 3 * np.eye(structure.size),
    }[structure.invariance]
    for x in points(structure):
        moved = structure.transformed(x, lambda half: R @ half)
        np.testing.assert_allclose(cov(structure, moved), R @ cov(structure, x) @ R.T, atol=1e-10)
        np.testing.assert_allclose(
            cov(structure, structure.resized(x, 2.0)), 4.0 * cov(structure, x), atol=1e-10
        )


def test_starts(structure):
    """Starts are inside all bounds, whatever the moment estimates."""
    rng = np.random.default_rng(4)
    s = structure.size
    for matrix in (np.eye(s), -np.eye(s), np.ones((s, s)), rng.normal(size=(s, s))):
        sd = np.sqrt(np.maximum(matrix.diagonal(), 0.1))
        x = structure.near(sd, 0.5 * (matrix + matrix.T))
        assert np.linalg.svd(structure.lam(x), compute_uv=False)[-1] > 1e-3
    zero = structure.inside(structure.resized(structure.start(), 0.0), 0.1)
    assert np.linalg.svd(structure.lam(zero), compute_uv=False)[-1] > 1e-3


def test_one_column_has_a_variance_only():
    for tag, hom in KINDS:
        assert make_covariance(tag, hom, 1).n_par == 1


def test_theirs_and_ours():
    """lme4's recursions for the templates (its covariance structures vignette)."""
    rho, sds = 0.35, np.array([1.0, 0.5, 2.0, 1.5])
    cs = make_covariance("cs", False, 4)
    a, L = 0.0, np.zeros((4, 4))
    for j in range(4):
        L[j, j] = np.sqrt(1 - rho**2 * a)
        L[j + 1 :, j] = (rho - rho**2 * a) / L[j, j]
        a += (1 - rho * a) ** 2 / (1 - rho**2 * a)
    x = cs.from_par(np.append(sds, rho))
    np.testing.assert_allclose(cs.template(x), sds[:, None] * L, atol=1e-14)
    ar1 = make_covariance("ar1", True, 4)
    lag = np.subtract.outer(np.arange(4), np.arange(4))
    L = np.where(lag >= 0, rho ** np.maximum(lag, 0) * np.sqrt(1 - rho**2), 0.0)
    L[:, 0] = rho ** np.arange(4)
    x = ar1.from_par(np.array([2.0, rho]))
    np.testing.assert_allclose(ar1.template(x), 2.0 * L, atol=1e-14)
    np.testing.assert_allclose(psd_cholesky(ar1.lam(x)), 2.0 * L, atol=1e-14)

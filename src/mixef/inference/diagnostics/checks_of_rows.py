"""Checks of the rows: whether responses are as the model has them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy

from mixef.estimation.fit import Fit
from mixef.inference.coef import conditional_covariances
from mixef.inference.diagnostics.draws_of_fit import drawn_weights, draws_of_fit
from mixef.inference.diagnostics.finding import (
    NOTE,
    NOTED,
    OK,
    WARNING,
    Finding,
    by_p_value,
    counted,
    shown_p,
)
from mixef.inference.diagnostics.residual_tests import zero_inflation
from mixef.inference.diagnostics.simulated_residuals import SimulatedResiduals
from mixef.inference.diagnostics.with_tests import has_different_means, has_zeros
from mixef.inference.influence.leverage import leverages
from mixef.inference.overdispersion import can_be_overdispersed, overdispersion
from mixef.inference.residuals import residual_values

# Rows for which the p value of Shapiro and Wilk's test is known (P. Royston, 1995).
SHAPIRO = 5000
# Levels whose modes are worth a test of normality, and rows a level that make a series.
MODES, SERIES = 8, 3.0
# A share of the variance of a random effect that the data have to tell of its mode.
KNOWN = 1e-6
# Standard errors by which a row moves a coefficient that are worth a note.
MOVED = 1.0


def of_residuals(
    fit: Fit, residuals: SimulatedResiduals, rng: np.random.Generator
) -> Iterator[Finding]:
    """Yield what simulated residuals tell, for the family of the fit."""
    if (fit.family.is_count or fit.family.has_trials) and can_be_overdispersed(fit):
        yield dispersion(fit, residuals)
        if has_zeros(residuals.draws):
            yield zeros(fit, residuals, rng)
    if not fit.is_linear:
        yield distribution(fit, residuals)
    yield outliers(residuals)
    if has_different_means(residuals.draws):
        yield pattern(residuals)
    yield from autocorrelation(fit, residuals)


def dispersion(fit: Fit, residuals: SimulatedResiduals) -> Finding:
    """Judge the variance of counts, by simulation and by Pearson's residuals.

    The latter are no measure where weights count copies of a row, which have its residual too.
    """
    simulated = residuals.test_dispersion("greater")
    said = f"by simulation {simulated.statistic:.3g} ({shown_p(simulated.p_value)})"
    status, value = by_p_value(simulated.p_value), simulated.statistic
    if drawn_weights(fit) is fit.weights:
        found = overdispersion(fit)
        said, value = f"{found}; {said}", found.ratio
        status = WARNING if found.found else status
    if status != OK:
        remedy = (
            "add a random effect for each observation, (1 | row) with one level of row a row"
            f"{fit.family.more_dispersed or ', or look for predictors and slopes that are missing'}"
        )
        return Finding("dispersion", status, value, f"too much variance: {said}", remedy)
    less = residuals.test_dispersion("less")
    if less.p_value <= NOTED:
        remedy = (
            "standard errors are too large, rather: a binomial model for counts with a maximum, or "
            "lmer for large ones, has less variance"
        )
        said = f"too little variance: {less.statistic:.3g} of simulations ({shown_p(less.p_value)})"
        return Finding("dispersion", NOTE, less.statistic, said, remedy)
    return Finding("dispersion", OK, value, said)


def zeros(fit: Fit, residuals: SimulatedResiduals, rng: np.random.Generator) -> Finding:
    """Judge the number of zeros.

    Draws with modes held show zeros of single rows that new random effects hide. Modes of levels
    with few rows are fitted to these rows, and drawn.
    """
    few, many = residuals.test_zero_inflation("less"), residuals.test_zero_inflation("greater")
    held = {t: np.ones(len(term.columns)) for t, term in enumerate(fit.terms)
            if fit.frame.n >= SERIES * term.n_levels}  # fmt: skip
    of_rows = zero_inflation(draws_of_fit(fit, residuals.n, rng, held), "greater")
    if of_rows.p_value < many.p_value:
        many = of_rows
    test = few if few.p_value < many.p_value else many
    p = min(1.0, 2.0 * test.p_value)
    own, expected = (float(test[name].iloc[0]) for name in ("observed", "expected"))
    said = f"{own:g} zeros, and {expected:.4g} in simulations ({shown_p(p)})"
    if p > NOTED:
        return Finding("zeros", OK, test.statistic, said)
    if test is few:
        remedy = "look for zeros that the data leave out, and model the counts above zero"
        return Finding("zeros", NOTE, test.statistic, f"too few zeros: {said}", remedy)
    more = "family='betabinomial'" if fit.family.has_trials else "family='nbinom2'"
    remedy = (
        f"try {more}; if zeros stay, model whether there is any (a binomial model of y > 0), and "
        "the others on their own"
    )
    return Finding("zeros", by_p_value(p), test.statistic, f"too many zeros: {said}", remedy)


def distribution(fit: Fit, residuals: SimulatedResiduals) -> Finding:
    """Judge the distribution of the responses as a whole."""
    test = residuals.test_uniformity()
    said = f"simulated residuals are {test.statistic:.3g} from uniform ({shown_p(test.p_value)})"
    if test.p_value > NOTED:
        return Finding("distribution", OK, test.statistic, said)
    remedy = (
        f"responses are not as the {fit.family.name} family with the {fit.family.link.name} link "
        "has them: try another family or link, or predictors that are missing"
    )
    return Finding("distribution", by_p_value(test.p_value), test.statistic, said, remedy)


def outliers(residuals: SimulatedResiduals) -> Finding:
    """Judge how many responses are outside of all simulations."""
    test = residuals.test_outliers("greater")
    expected = float(test["expected"].iloc[0])
    said = (
        f"{counted(test.statistic, 'row')} outside of {residuals.n} simulations, {expected:.3g} "
        "expected"
    )
    if test.p_value > NOTED:
        return Finding("outliers", OK, test.statistic, said)
    remedy = (
        "look at these rows, fit.simulated_residuals().to_frame().query('outlier != 0'); a family "
        "with heavier tails ('t', 'nbinom2', 'betabinomial') has them"
    )
    return Finding("outliers", NOTE, test.statistic, f"{said} ({shown_p(test.p_value)})", remedy)


def pattern(residuals: SimulatedResiduals) -> Finding:
    """Judge whether residuals change with the fitted means."""
    test = residuals.test_quantiles()
    said = f"quantiles of residuals against fitted means: {shown_p(test.p_value)}"
    if test.p_value > NOTED:
        return Finding("pattern", OK, test.statistic, said)
    remedy = (
        "give predictors a curve (poly(x, 2), ns(x, 3)), an interaction or a random slope, or try "
        "another link"
    )
    return Finding("pattern", by_p_value(test.p_value), test.statistic, said, remedy)


def autocorrelation(fit: Fit, residuals: SimulatedResiduals) -> list[Finding]:
    """Judge neighbouring rows of one level, in the order of the data."""
    n = fit.frame.n
    several = [
        fit.terms[m[0]] for m in fit.groups.values() if n >= SERIES * fit.terms[m[0]].n_levels
    ]
    if not several:
        return []
    term = max(several, key=lambda t: t.n_levels)
    test = residuals.test_temporal(np.arange(n), group=term.grouping.codes)
    expected = float(test["expected"].iloc[0])
    said = (
        f"Durbin-Watson of rows in their order within {term.group}: {test.statistic:.3g}, "
        f"{expected:.3g} expected ({shown_p(test.p_value)})"
    )
    if test.p_value > NOTED or test.statistic > expected:  # neighbours that differ
        return [Finding("autocorrelation", OK, test.statistic, said)]
    remedy = (
        "where rows are in order of time: a predictor for time, a random slope (time | "
        f"{term.group}), or ar1(0 + f | {term.group}) with times as levels of a factor f"
    )
    return [Finding("autocorrelation", NOTE, test.statistic, said, remedy)]


def heteroscedasticity(fit: Fit) -> list[Finding]:
    """Judge whether the residual variance of a linear model changes with its mean."""
    if not fit.is_linear or not np.ptp(fit.mu) > 0.0:
        return []
    value = koenker(residual_values(fit, "pearson"), fit.mu)
    p = float(scipy.special.chdtrc(1.0, value))
    said = f"Breusch and Pagan's test, studentized: {value:.3g} ({shown_p(p)})"
    if p > NOTED:
        return [Finding("heteroscedasticity", OK, value, said)]
    ways = "model log(y), give weights=" if (fit.y > 0.0).all() else "give weights="
    group = fit.terms[-1].group
    remedy = f"{ways}, or take robust standard errors: fit.with_vcov('CR2', cluster='{group}')"
    return [Finding("heteroscedasticity", by_p_value(p), value, said, remedy)]


def koenker(residuals: np.ndarray, x: np.ndarray) -> float:
    """Return n times the R squared of squared residuals on x (R. Koenker, 1981).

    It is Breusch and Pagan's statistic without their assumption of normal residuals, under which
    the variance of the squares is twice the squared variance (Journal of Econometrics 17).
    """
    squares = residuals**2
    squares = squares - squares.mean()
    x = x - x.mean()
    total = float(squares @ squares)
    return len(x) * float(squares @ x) ** 2 / (total * float(x @ x)) if total > 0.0 else 0.0


def normality(fit: Fit) -> list[Finding]:
    """Judge whether residuals of a linear model are normal."""
    if not fit.is_linear or fit.frame.n < MODES:
        return []
    value, p, name = normal_test(residual_values(fit, "pearson"))
    said = f"{name} of the residuals: {value:.3g} ({shown_p(p)})"
    if p > NOTED:
        return [Finding("normality of residuals", OK, value, said)]
    remedy = (
        "fixed effects and their tests mind little; for predictions transform the response, or fit "
        "glmer(..., family='t') for heavy tails"
    )
    return [Finding("normality of residuals", by_p_value(p), value, said, remedy)]


def normal_test(x: np.ndarray) -> tuple[float, float, str]:
    """Return statistic and p value of a test of normality, and whose it is.

    Shapiro and Wilk's up to 5000 values; Jarque and Bera's for more, where it has its distribution.
    """
    if len(x) <= SHAPIRO:
        W, p = scipy.stats.shapiro(x)
        return float(W), float(p), "Shapiro-Wilk"
    value, p = scipy.stats.jarque_bera(x)
    return float(value), float(p), "Jarque-Bera"


def modes(fit: Fit) -> list[Finding]:
    """Judge whether conditional modes of a linear model are normal, column by column.

    Each is over its own standard deviation: its variance is ``Sigma - Var(b | y)``. Those of other
    models are not normal, whatever the random effects are.
    """
    if not fit.is_linear:
        return []
    out, covariances = [], conditional_covariances(fit)
    for group, members in fit.groups.items():
        terms = [fit.terms[t] for t in members]
        if terms[0].n_levels < MODES:
            continue
        b = np.concatenate([fit.estimates.effects[t].T for t in members])
        prior = np.concatenate([np.square(fit.estimates.lams[t]).sum(axis=1) for t in members])
        given = np.einsum("lss->sl", covariances[group])
        labels = [f"{name} in ({term.label})" for term in terms for name in term.columns]
        for label, values, variance, rest in zip(
            labels, b, fit.covariance_scale * prior, given, strict=True
        ):
            known = variance - rest > KNOWN * variance
            if known.sum() < MODES:
                continue  # the data tell nothing of these, or there is no variance
            value, p, test = normal_test(values[known] / np.sqrt((variance - rest)[known]))
            said = f"{test} of the modes of {label}: {value:.3g} ({shown_p(p)})"
            if p > NOTED:
                out.append(Finding("normality of modes", OK, value, said))
                continue
            remedy = (
                f"look for levels of {group} that stand apart (fit.ranef()), or for a predictor "
                "that tells groups of them; fixed effects and their tests mind little"
            )
            out.append(Finding("normality of modes", NOTE, value, said, remedy))
    return out


def influence(fit: Fit) -> list[Finding]:
    """Judge how far single rows move coefficients, with covariance parameters held."""
    if not len(fit.kept):
        return []
    moves = np.abs(leverages(fit).dfbetas())
    alone = int(np.isnan(moves).any(axis=1).sum())
    moves = np.where(np.isnan(moves), 0.0, moves)
    row, j = np.unravel_index(int(np.argmax(moves)), moves.shape)
    worst, many = float(moves[row, j]), int((moves > MOVED).any(axis=1).sum())
    said = (
        f"without row {fit.frame.index[row]}, {fit.fixed_names[j]} moves by {worst:.2g} standard "
        "errors, more than without any other"
    )
    if not many and not alone:
        return [Finding("influence", OK, worst, said)]
    if many > 1:
        said += f"; {many} rows move a coefficient by more than {MOVED:g}"
    if alone:
        said += f"; {counted(alone, 'row')} alone decide a coefficient"
    remedy = "look at such rows, fit.dfbetas().abs().max(axis=1).nlargest(5), and fit without them"
    return [Finding("influence", NOTE, worst, said, remedy)]


FINDERS = (heteroscedasticity, normality, modes, influence)

"""What tables of fits and reports say of a fit as a whole, as numbers and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mixef import checks
from mixef.errors import FitError
from mixef.estimation.fit import Fit
from mixef.inference.information import (
    aic,
    aicc,
    bic,
    deviance,
    df_residual,
    log_likelihood,
)
from mixef.inference.measures.variances import variances
from mixef.text.estimates import fixed, like

#: What there is, in the order to show it, with the label of its row.
STATISTICS = {
    "estimation": "Estimation",
    "family": "Family",
    "nobs": "Observations",
    "groups": "Groups",
    "npar": "Parameters",
    "df_residual": "Residual df",
    "sigma": "Sigma",
    "loglik": "Log-likelihood",
    "deviance": "Deviance",
    "aic": "AIC",
    "aicc": "AICc",
    "bic": "BIC",
    "r2_marginal": "R2 marginal",
    "r2_conditional": "R2 conditional",
    "icc": "ICC",
}
# The family has a row where a model has another than the normal one.
USUAL = (
    "estimation", "family", "nobs", "groups", "loglik", "aic", "bic", "r2_marginal",
    "r2_conditional",
)  # fmt: skip
_MEASURES = {
    "loglik": log_likelihood, "deviance": deviance, "aic": aic, "aicc": aicc, "bic": bic,
}  # fmt: skip
_SHARES = ("r2_marginal", "r2_conditional", "icc")
# Decimals of log-likelihoods and criteria, and of shares; significant digits of sigma.
DECIMALS, SHARES, SIGMA = 2, 3, 4


@dataclass(frozen=True)
class FitStatistics:
    """Statistics of one fit by the labels of their rows."""

    numbers: dict[str, float | int | str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()  # why some are not there

    def add(self, label: str, value: float | int | str, text: str) -> None:
        """Add a statistic."""
        self.numbers[label], self.texts[label] = value, text


def chosen_statistics(names: Sequence[str] | str | None, fits: Sequence[Fit]) -> list[str]:
    """Return the names of the statistics that are asked for; the usual ones for None."""
    if names is None:
        plain = all(fit.is_linear for fit in fits)
        return [name for name in USUAL if not (plain and name == "family")]
    expected = f"some of {', '.join(STATISTICS)}"
    wanted = checks.names(names, "stats", expected)
    return list(dict.fromkeys(checks.option(name, "stats", STATISTICS) for name in wanted))


def estimation_text(fit: Fit) -> str:
    """Say how a fit was estimated: REML, ML, ML (Laplace), ML (nAGQ = 9)."""
    if fit.is_linear:
        return "REML" if fit.REML else "ML"
    return "ML (Laplace)" if fit.nAGQ == 1 else f"ML (nAGQ = {fit.nAGQ})"


def family_text(fit: Fit) -> str:
    """Name family and link; a linear model's is the normal one."""
    return fit.family.name if fit.is_linear else f"{fit.family.name} ({fit.family.link.name})"


def fit_statistics(fit: Fit, names: Sequence[str]) -> FitStatistics:
    """Return statistics of a fit; a share of variance that there is not is a problem, not an error.

    The number of levels of each grouping factor is a statistic of its own.
    """
    shares, problems = _shares(fit) if set(names) & set(_SHARES) else ({}, ())
    out = FitStatistics(problems=problems)
    for name in names:
        label = STATISTICS[name]
        if name == "estimation":
            out.add(label, estimation_text(fit), estimation_text(fit))
        elif name == "family":
            out.add(label, family_text(fit), family_text(fit))
        elif name == "groups":
            for group, members in fit.groups.items():
                n = fit.terms[members[0]].n_levels
                out.add(f"{label}: {group}", n, str(n))
        elif name == "sigma":
            if fit.sigma is not None:
                out.add(label, fit.sigma, like(fit.sigma, fit.sigma, SIGMA))
        elif name in _MEASURES:
            value = _MEASURES[name](fit)
            out.add(label, value, fixed(value, DECIMALS))
        elif name in _SHARES:
            if name in shares:
                out.add(label, shares[name], fixed(shares[name], SHARES))
        else:
            counts = {"nobs": fit.frame.n, "npar": fit.npar, "df_residual": df_residual(fit)}
            out.add(label, counts[name], str(counts[name]))
    return out


def _shares(fit: Fit) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return marginal and conditional R2 and the intraclass correlation, or why there are none."""
    try:
        found = variances(fit)
    except FitError as error:
        return {}, (f"there are no shares of variance: {error}",)
    shares = {
        "r2_marginal": found.fixed / found.total,
        "r2_conditional": (found.fixed + found.random) / found.total,
        "icc": found.random / (found.random + found.residual),
    }
    return shares, ()

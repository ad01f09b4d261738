"""From a fit to its summary."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from mixef.display.summary import Summary
from mixef.estimation.generalized_fit import GLMMFit
from mixef.families.standard import NegativeBinomial
from mixef.inference.coef import coefficient_table, covariance_of_fixed
from mixef.inference.hypotheses.ddf import method_name
from mixef.inference.information import aic, bic, df_residual, log_likelihood
from mixef.inference.observations import AnyFit, residual_sigma
from mixef.inference.overdispersion import overdispersion_message
from mixef.inference.residuals import residual_values
from mixef.inference.varcorr import variances


def summarize(fit: AnyFit, ddf: str | None = "auto") -> Summary:
    """Collect what the summary of a mixed model shows, with tests by the rule ``ddf``."""
    call = fit.call
    vcov = covariance_of_fixed(fit).to_numpy()
    se = np.sqrt(vcov.diagonal())
    scaled = residual_values(fit, "pearson") / fit.estimates.sigma
    family, link = _family(fit)
    return Summary(
        title=_title(fit) + _tests_in_title(fit, ddf),
        family=family,
        link=link,
        formula=fit.formula.text,
        data_name=call.data_name,
        weights=_text(call.weights),
        offset=_text(call.offset),
        subset=_text(call.subset),
        criterion=_criterion(fit),
        scaled_residuals=np.quantile(scaled, [0.0, 0.25, 0.5, 0.75, 1.0]).tolist(),
        groups=variances(fit),
        sigma=residual_sigma(fit),
        nobs=fit.frame.n,
        ngrps={g: fit.terms[members[0]].n_levels for g, members in fit.groups.items()},
        coef_table=coefficient_table(fit, ddf),
        corr=vcov / np.outer(se, se),
        messages=_messages(fit),
        left_out=str(fit.frame.left_out),
    )


def _title(fit: AnyFit) -> str:
    if not isinstance(fit, GLMMFit):
        return f"Linear mixed model fit by {'REML' if fit.REML else 'maximum likelihood'}"
    integral = "Laplace Approximation"
    if fit.nAGQ != 1:
        integral = f"Adaptive Gauss-Hermite Quadrature, nAGQ = {fit.nAGQ}"
    return f"Generalized linear mixed model fit by maximum likelihood ({integral})"


def _tests_in_title(fit: AnyFit, ddf: str | None) -> str:
    method = method_name(fit, ddf)
    return "" if method is None or not len(fit.kept) else f". t-tests use {method}"


def method_of_tests(fit: AnyFit, ddf: str | None, kind: Literal["F", "t"]) -> str:
    """Name the tests of a rule: one F test or several t tests, or their asymptotic versions."""
    method = method_name(fit, ddf)
    if method is None:
        return "chi-square test" if kind == "F" else "z tests"
    return f"{'F test' if kind == 'F' else 't tests'} with {method}"


def _family(fit: AnyFit) -> tuple[str, str] | tuple[None, None]:
    """Name family and link as R does, with the estimate of the shape."""
    if not isinstance(fit, GLMMFit):
        return None, None
    name, link = fit.family.name, fit.family.link.name
    if fit.family.extra != "shape":
        return name, link
    if isinstance(fit.family, NegativeBinomial):
        return NegativeBinomial(fit.estimates.extra).name, link
    return f"{name}({fit.estimates.extra:.5g})", link


def _criterion(fit: AnyFit) -> Any:
    if not isinstance(fit, GLMMFit) and fit.REML:
        return ("REML criterion at convergence", fit.estimates.objective)
    return {
        "AIC": aic(fit),
        "BIC": bic(fit),
        "logLik": log_likelihood(fit),
        "-2*log(L)": fit.estimates.objective,
        "df.resid": df_residual(fit),
    }


def _text(argument: Any) -> str | None:
    if argument is None or isinstance(argument, str):
        return argument
    return type(argument).__name__


def _messages(fit: AnyFit) -> list[str]:
    messages = []
    if isinstance(fit, GLMMFit):
        messages += _generalized_messages(fit)
    if fit.dropped_names:
        messages.append(
            "fixed-effect model matrix is rank deficient; dropped: " + ", ".join(fit.dropped_names)
        )
    messages += [*fit.convergence.problems, *fit.convergence.remarks]
    if fit.vanished:
        messages.append("boundary (singular) fit: " + "; ".join(str(v) for v in fit.vanished))
    return messages


def _generalized_messages(fit: GLMMFit) -> list[str]:
    messages = []
    if fit.outcome.modelled is not None and fit.formula.response is not None:
        response = fit.formula.response.text
        messages.append(f"Modelled: probability of {response} = {fit.outcome.modelled}")
    line = overdispersion_message(fit)
    if line is not None:
        messages.append(line)
    if fit.nAGQ > 0 and fit.hessian is None:
        messages.append(
            "Standard errors are by the working weights at the estimates: the Hessian of the "
            "likelihood there is not that of a maximum"
        )
    return messages

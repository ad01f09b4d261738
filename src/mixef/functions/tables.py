"""Fits in a paper: `etable` sets them side by side, `report` says one in sentences."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from mixef import checks
from mixef.arguments import names_for
from mixef.errors import ArgumentError
from mixef.functions.names import names_of_models
from mixef.hints import refuse_unknown
from mixef.inference.tables.report import Report, report_of
from mixef.inference.tables.side_by_side import SHOWN, EstimatesTable, Layout, side_by_side
from mixef.inference.tables.statistics import chosen_statistics
from mixef.inference.tables.tidy import SCALES
from mixef.mixedmodel import fit_of
from mixef.text.estimates import STARS


def etable(
    *models: Any,
    model_names: Sequence[str] | None = None,
    show: str | Sequence[str] | None = "se",
    show_random: str | Sequence[str] | None = None,
    stars: bool | Mapping[str, float] = False,
    keep: str | Sequence[str] | None = None,
    drop: str | Sequence[str] | None = None,
    order: str | Sequence[str] | None = None,
    rename: Mapping[str, str] | None = None,
    ran_pars: bool = True,
    scales: str = "sdcor",
    stats: str | Sequence[str] | None = None,
    exponentiate: bool | Sequence[bool] = False,
    conf_level: float = 0.95,
    conf_method: str = "wald",
    ddf: str | None = "auto",
    digits: int = 3,
    title: str | None = None,
    notes: str | None = None,
    env: Mapping[str, Any] | None = None,
    **unknown: Any,
) -> EstimatesTable:
    """Set fits side by side: coefficients, variance components and statistics of the fits.

    Parameters
    ----------
    *models : fitted models
        Linear and generalized ones, in the order of the columns; or one list of them, or one dict
        from name to model.
    model_names : sequence of str, optional
        Heads of the columns; by default the names of the caller's variables. Above them stands
        what each model has as its response.
    show : str or list of str, optional
        What stands below a coefficient, a line each: "se", "ci", "statistic", "df", "p"; None for
        nothing.
    show_random : str or list of str, optional
        What stands below a standard deviation, correlation or parameter of a family: "se", "ci".
    stars : bool or dict
        Mark coefficients by their p values: ``*`` below 0.05, ``**`` below 0.01, ``***`` below
        0.001, or other symbols, each with its cut.
    keep, drop : str or list of str, optional
        Coefficients to show, or to leave out, by name or by patterns such as ``"recipe*"``.
    order : str or list of str, optional
        Coefficients to show first; the others follow as the models have them.
    rename : dict, optional
        Labels for coefficients, grouping factors, responses and statistics, by their names.
    ran_pars : bool
        Show variance components.
    scales : {"sdcor", "vcov"}
        Standard deviations and correlations, or variances and covariances.
    stats : str or list of str, optional
        Some of "estimation" (REML or ML), "family", "nobs", "groups" (levels of each grouping
        factor), "npar", "df_residual", "sigma", "loglik", "deviance", "aic", "aicc", "bic",
        "r2_marginal", "r2_conditional" and "icc" (as in `r2`, which may fit a model), in the order
        to show them.
        ``[]`` for none.
    exponentiate : bool or list of bool
        Show coefficients as ratios, in all models or in some; one value a model.
    conf_level, conf_method, ddf
        Of intervals ("wald" or "profile") and tests, as in ``tidy``.
    digits : int
        Significant digits of standard errors; estimates have as many decimals.
    title, notes : str, optional
        Text above and below.
    env : dict, optional
        Names of models, from name to model; by default the caller's variables.

    Returns
    -------
    EstimatesTable
        Prints as text, and as HTML in a notebook; ``to_html()``, ``to_markdown()``, ``to_latex()``
        (for the package booktabs), ``to_great_tables()`` (where great_tables is installed);
        numbers in ``to_frame()``, one row an estimate, and ``statistics``.

    Raises
    ------
    TypeError
        For something that is no fitted model.
    ValueError
        For names and options that are not known, naming them.

    Examples
    --------
    >>> from mixef import etable, lmer, load_dataset
    >>> sleepstudy = load_dataset("sleepstudy")
    >>> intercepts = lmer("Reaction ~ Days + (1 | Subject)", sleepstudy)
    >>> slopes = lmer("Reaction ~ Days + (Days | Subject)", sleepstudy)
    >>> print(etable(intercepts, slopes, stars=True, stats=["nobs", "groups", "aic"]))
                                          Reaction
                                   intercepts    slopes
    ---------------------------------------------------
    Fixed effects
    (Intercept)                     251.41*** 251.41***
                                       (9.75)    (6.82)
    Days                            10.467***  10.47***
                                      (0.804)    (1.55)
    ---------------------------------------------------
    Random effects
    Subject: SD (Intercept)             37.12     24.74
    Subject: SD Days                               5.92
    Subject: Cor (Intercept), Days              0.066
    Residual: SD                        30.99     25.59
    ---------------------------------------------------
    Fit
    Observations                          180       180
    Groups: Subject                        18        18
    AIC                               1794.47   1755.63
    ---
    * p < 0.05, ** p < 0.01, *** p < 0.001
    Standard errors in parentheses
    Tests use Satterthwaite's method
    """
    refuse_unknown(unknown, etable)
    names = names_for(env, sys._getframe(1))
    if len(models) == 1 and isinstance(models[0], Mapping):
        model_names = list(models[0]) if model_names is None else model_names
        models = tuple(models[0].values())
    elif len(models) == 1 and isinstance(models[0], list | tuple):
        models = tuple(models[0])
    if not models:
        raise ArgumentError("etable got no model; expected one or more fitted models")
    fits = [fit_of(model, f"model {i + 1}") for i, model in enumerate(models)]
    layout = Layout(
        show=_shown(show, "show", SHOWN),
        show_random=_shown(show_random, "show_random", ("se", "ci")),
        stars=_stars(stars),
        keep=None if keep is None else checks.names(keep, "keep"),
        drop=[] if drop is None else checks.names(drop, "drop"),
        order=[] if order is None else checks.names(order, "order"),
        rename=_labels(rename),
        ran_pars=checks.flag(ran_pars, "ran_pars"),
        scales=checks.option(scales, "scales", SCALES),
        stats=chosen_statistics(stats, fits),
        exponentiate=_flags(exponentiate, len(fits)),
        level=checks.level(conf_level, "conf_level"),
        method=checks.option(conf_method, "conf_method", ("wald", "profile")),
        ddf=ddf,
        digits=checks.digits(digits),
        title=None if title is None else checks.text(title, "title", "text or None"),
        notes=None if notes is None else checks.text(notes, "notes", "text or None"),
    )
    return side_by_side(fits, names_of_models(models, model_names, names), layout)


def _shown(value: Any, name: str, known: Sequence[str]) -> list[str]:
    """Return what stands below an estimate, each once."""
    if value is None:
        return []
    wanted = checks.names(value, name, f"some of {checks.either(known)}, or None")
    return list(dict.fromkeys(checks.option(part, name, known) for part in wanted))


def _stars(value: Any) -> Mapping[str, float] | None:
    """Return the symbols with their cuts, the largest first; None for no stars."""
    if isinstance(value, Mapping) and value:
        cuts = {
            checks.text(symbol, "a symbol of stars"): checks.proportion(cut, f"stars[{symbol!r}]")
            for symbol, cut in value.items()
        }
        return dict(sorted(cuts.items(), key=lambda pair: -pair[1]))
    if isinstance(value, Mapping):
        raise checks.refusal("stars", value, "True, False, or a dict such as {'*': 0.05}")
    return STARS if checks.flag(value, "stars") else None


def _labels(value: Any) -> dict[str, str] | None:
    """Return labels by names."""
    if value is None:
        return None
    expected = "a dict from names to labels, or None"
    found = checks.mapping(value, "rename", expected)
    if not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise checks.refusal("rename", value, expected)
    return dict(found)


def _flags(value: Any, n: int) -> list[bool]:
    """Return one flag a model."""
    if not isinstance(value, list | tuple):
        return [checks.flag(value, "exponentiate")] * n
    if len(value) != n:
        raise checks.refusal("exponentiate", value, f"True, False, or {n} of them, one a model")
    return [checks.flag(part, "exponentiate") for part in value]


def report(
    fit: Any,
    *,
    exponentiate: bool = False,
    conf_level: float = 0.95,
    ddf: str | None = "auto",
    digits: int = 3,
    **unknown: Any,
) -> Report:
    """Say a fit in sentences: model, data, fixed effects, random effects, variance explained.

    The numbers are those of ``etable(fit)`` and ``tidy``, to the letter.

    Parameters
    ----------
    fit : fitted model
    exponentiate : bool
        Say coefficients as ratios: odds ratios, rate ratios and the like by the link.
    conf_level, ddf
        Of intervals and tests, as in ``tidy``.
    digits : int
        Significant digits of standard errors; estimates have as many decimals.

    Returns
    -------
    Report
        Prints as text; ``to_markdown()``, ``to_latex()``, ``to_html()``; ``paragraphs`` has the
        sentences by their subject.

    Raises
    ------
    TypeError
        For something that is no fitted model.

    Examples
    --------
    >>> from mixef import lmer, load_dataset, report
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    >>> print(report(fit).paragraphs["fixed effects"])
    The estimate of (Intercept) is 251.41 (SE = 6.82, 95% CI [237.01, 265.80], t(17.0) = 36.84,
    p < 0.001). The estimate of Days is 10.47 (SE = 1.55, 95% CI [7.21, 13.73], t(17.0) = 6.77,
    p < 0.001).
    """
    refuse_unknown(unknown, report)
    return report_of(
        fit_of(fit, "fit"),
        checks.flag(exponentiate, "exponentiate"),
        checks.level(conf_level, "conf_level"),
        ddf,
        checks.digits(digits),
    )

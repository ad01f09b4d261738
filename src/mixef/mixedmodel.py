"""What a user holds after a fit, whatever the family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.estimation.search.convergence import Convergence
from mixef.estimation.search.singular import SINGULAR_TOLERANCE, vanished_directions
from mixef.hints import attribute_hint
from mixef.inference import coef, getme, information, parameters, varcorr
from mixef.inference import summary as summaries
from mixef.methods.changes import ChangeMethods
from mixef.methods.diagnostics import DiagnosticMethods
from mixef.methods.draws import DrawMethods
from mixef.methods.hypotheses import HypothesisMethods
from mixef.methods.influence import InfluenceMethods
from mixef.methods.interop import InteropMethods
from mixef.methods.intervals import IntervalMethods
from mixef.methods.means import MeansMethods
from mixef.methods.measures import MeasureMethods
from mixef.methods.plots import Plots
from mixef.methods.robust import RobustMethods
from mixef.methods.rows import PredictionMethods, RowMethods
from mixef.methods.simulation import SimulationMethods
from mixef.methods.tables import TableMethods
from mixef.text.printed import Printed, PrintedFrames
from mixef.text.tables import Table


class MixedModel(
    Printed,
    HypothesisMethods,
    InfluenceMethods,
    IntervalMethods,
    MeansMethods,
    SimulationMethods,
    PredictionMethods,
    RowMethods,
    DiagnosticMethods,
    ChangeMethods,
    MeasureMethods,
    DrawMethods,
    InteropMethods,
    TableMethods,
    RobustMethods,
):
    """A fitted mixed model.

    Stored numbers are properties, labelled results are methods that return
    pandas. The fit never changes, and needs neither the caller's data nor variables again.

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
    >>> round(fit.sigma, 4), fit.nobs, fit.converged
    (49.5101, 30, True)
    """

    def __getattr__(self, name: str) -> Any:
        """Say what an attribute of other programs is called here."""
        hint = attribute_hint(type(self).__name__, name)
        if hint is not None:
            raise AttributeError(hint, name=name, obj=self)
        return super().__getattribute__(name)  # raises what was raised before

    # Stored numbers

    @property
    def theta(self) -> np.ndarray:
        """Relative covariance factors: each term's lower triangle, column by column."""
        return self._fit.estimates.theta

    @property
    def par(self) -> np.ndarray:
        """Covariance parameters that were searched for."""
        return self._fit.estimates.par

    @property
    def beta(self) -> np.ndarray:
        """Fixed-effects coefficients (p,)."""
        return self._fit.estimates.beta

    @property
    def sigma(self) -> float:
        """Residual standard deviation; 1 for a family without a dispersion."""
        return self._fit.estimates.sigma

    @property
    def objective(self) -> float:
        """What was minimized: the REML criterion, or -2 log L."""
        return self._fit.estimates.objective

    @property
    def objective_se(self) -> float:
        """Standard error of `objective`, and of AIC and BIC; twice that of `loglik`.

        It is 0 where the random effects are factored exactly, as they are in most models. With an
        iterative factor (``factor="iterative"`` of `LmerControl` or `GlmerControl`) log|M| is an
        estimate.
        """
        return self._fit.estimates.objective_se

    @property
    def loglik(self) -> float:
        """Log-likelihood; restricted for a REML fit."""
        return information.log_likelihood(self._fit)

    @property
    def deviance(self) -> float:
        """-2 log L, not restricted; of a generalized model, the rows' deviances summed."""
        return information.deviance(self._fit)

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return information.aic(self._fit)

    @property
    def bic(self) -> float:
        """Schwarz's information criterion."""
        return information.bic(self._fit)

    @property
    def nobs(self) -> int:
        """Rows that the fit used."""
        return self._fit.frame.n

    @property
    def npar(self) -> int:
        """Parameters: fixed effects, covariance parameters, and sigma or what else there is."""
        return self._fit.npar

    @property
    def df_residual(self) -> int:
        """Residual degrees of freedom, nobs - npar."""
        return information.df_residual(self._fit)

    @property
    def formula(self) -> str:
        """The formula."""
        return self._fit.formula.text

    @property
    def plot(self) -> Plots:
        """Pictures: ``fit.plot()`` draws a page of diagnostics, ``fit.plot.NAME()`` one picture.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> ax = fit.plot.residuals()
        >>> ax.get_ylabel()
        'Residual of Reaction (ms)'
        """
        return Plots(self._fit)

    @property
    def left_out(self) -> str:
        """How many rows of the data the fit left out, and why; empty for none."""
        return str(self._fit.frame.left_out)

    @property
    def converged(self) -> bool:
        """Whether the search ended at an optimum, judged by the exact gradient."""
        return self._fit.convergence.converged

    @property
    def convergence(self) -> Convergence:
        """How the search ended."""
        return self._fit.convergence

    # Labelled results

    def fixef(self, add_dropped: bool = False) -> pd.Series:
        """Return the fixed effects, on the scale of the response a unit of each column.

        Parameters
        ----------
        add_dropped : bool
            Add the columns dropped from a rank-deficient design, as NaN.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.fixef().round(3).to_dict()
        {'(Intercept)': 251.405, 'Days': 10.467}
        """
        return coef.fixed_effects(self._fit, checks.flag(add_dropped, "add_dropped"))

    def ranef(self, condVar: bool = False, levels: Any = None) -> coef.RandomEffects:
        """Return the conditional modes, one frame (levels, coefficients) a grouping factor.

        Parameters
        ----------
        condVar : bool
            Give the result an attribute ``condVar``: by grouping factor, the conditional
            covariances ``sigma^2 Lambda M^-1 Lambda'`` of each level's modes (l, s, s), jointly
            for all terms of the factor; without sigma for a generalized model. With an iterative
            factor each level takes a solve for each of its coefficients, a thousand at most.
        levels : mapping of str to a level or a list of levels, optional
            Return these levels alone, in this order, of these grouping factors alone. Where there
            is one grouping factor its levels may stand by themselves.

        Raises
        ------
        ArgumentError
            For a grouping factor or a level that is not there.
        ExactFactorNeededError
            For covariances of too many levels with an iterative factor.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> modes = fit.ranef(condVar=True)
        >>> modes["Subject"].loc["308"].round(2).to_dict()
        {'(Intercept)': 2.26, 'Days': 9.2}
        >>> modes.condVar["Subject"].shape
        (18, 2, 2)
        >>> some = fit.ranef(condVar=True, levels={"Subject": ["308", "350"]})
        >>> some.condVar["Subject"].shape
        (2, 2, 2)
        """
        return coef.random_effects(self._fit, checks.flag(condVar, "condVar"), levels)

    def coef(self) -> PrintedFrames:
        """Return fixed effects plus conditional modes, one frame a grouping factor.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.coef()["Subject"].loc["308"].round(2).to_dict()
        {'(Intercept)': 253.66, 'Days': 19.67}
        """
        return coef.coefficients_by_group(self._fit)

    def VarCorr(self) -> varcorr.VarCorr:
        """Return variances and correlations of the random effects; prints as in R.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.VarCorr().to_frame()["sdcor"].round(2).tolist()
        [24.74, 5.92, 0.07, 25.59]
        """
        return varcorr.varcorr(self._fit)

    def vcov(
        self,
        full: bool = False,
        correlation: bool = False,
        use_hessian: bool = True,
        robust: str | None = None,
        cluster: Any = None,
    ) -> pd.DataFrame:
        """Return the covariance matrix of the fixed effects, or of all parameters.

        Parameters
        ----------
        full : bool
            All parameters (K, K): fixed effects, covariance parameters (`par`), and the log of
            sigma, the dispersion or the shape. NaN stands for what the data leave open, or put at
            zero. In a linear model the fixed effects and the others are independent, to first
            order.
        correlation : bool
            Correlations in the place of covariances.
        use_hessian : bool
            By twice the inverse Hessian of the criterion, as lme4; otherwise the fixed effects'
            ``(X'V^-1 X)^-1``, which takes the covariance parameters for known, and nothing of
            these. The fixed effects of a linear model have the latter anyway, and so has a
            generalized one with nAGQ = 0, or whose Hessian is not that of a maximum.
        robust : {"CR0", "CR1", "CR1p", "CR1S", "CR2", "CR3"}, optional
            The cluster-robust covariance of the fixed effects, see `with_vcov`.
        cluster : str, array or Series, optional
            Its clusters, see `with_vcov`.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.vcov().round(2).to_numpy().tolist()
        [[46.57, -1.45], [-1.45, 2.39]]
        >>> fit.vcov(correlation=True).round(3).to_numpy().tolist()
        [[1.0, -0.138], [-0.138, 1.0]]
        >>> list(fit.vcov(full=True).index[2:])
        ['Subject.(Intercept)', 'Subject.Days.(Intercept)', 'Subject.Days', 'log(sigma)']
        >>> fit.vcov(robust="CR2").round(2).to_numpy().tolist()
        [[46.57, -1.45], [-1.45, 2.39]]
        """
        return parameters.covariance(
            self._fit, full, correlation, use_hessian, robust=robust, cluster=cluster
        )

    def ngrps(self) -> pd.Series:
        """Return the number of levels of each grouping factor.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.ngrps().to_dict()
        {'Subject': 18}
        """
        fit = self._fit
        sizes = {group: fit.terms[members[0]].n_levels for group, members in fit.groups.items()}
        return pd.Series(sizes, name="ngrps")

    def is_singular(self, tol: float = SINGULAR_TOLERANCE) -> bool:
        """Tell whether a random-effects covariance is singular.

        Parameters
        ----------
        tol : float
            A relative standard deviation below this, in any direction, counts as zero; columns
            are taken at unit mean square, so that units do not matter.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.is_singular()
        False
        """
        tol = checks.number(tol, "tol", 0.0, "a number that is not negative")
        fit = self._fit
        return bool(vanished_directions(fit.problem.terms, fit.scaled_par, fit.terms, tol))

    def rePCA(self) -> varcorr.ComponentsByGroup:
        """Return principal components of the random-effects covariances, by grouping factor.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.rePCA()["Subject"].sdev.round(3).tolist()
        [0.967, 0.231]
        """
        return varcorr.principal_components(self._fit)

    def getME(self, name: str | Sequence[str]) -> Any:
        """Return a piece of the fit by lme4's name; for a list of names, or "ALL", a dict.

        Random effects run term by term, level by level, and column by column inside a level.
        A is ``Lambda'Z'``, without weights; L, RZX and RX have them, those of a generalized model
        by expected information.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.getME("Zt").shape
        (36, 180)
        """
        return getme.get_me(self._fit, name)

    # Printing

    def tables(self) -> list[Table]:
        """Return the tables of the summary."""
        return summaries.summarize(self._fit).tables()

    def to_text(self) -> str:
        """Write the short form: criterion, standard deviations and fixed effects."""
        return summaries.summarize(self._fit, ddf=None, residuals=False).to_short_text()

    def __str__(self) -> str:
        return self.to_text()


def fit_of(model: Any, name: str) -> Fit:
    """Return the state of a fitted model; anything else is refused."""
    if not isinstance(model, MixedModel):
        raise checks.refusal(name, model, "a model fitted by lmer or glmer")
    return model._fit

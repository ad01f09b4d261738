"""Simulation from a fitted model, and what is built on it."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from mixef import checks
from mixef.arguments import names_for
from mixef.estimation.fit import Fit
from mixef.hints import refuse_unknown
from mixef.inference.resampling import bootstrap, bootstrap_result
from mixef.inference.simulation import simulate
from mixef.methods import Methods


class SimulationMethods(Methods):
    """Simulation from a fitted model, and what is built on it."""

    def simulate(
        self,
        n: int = 1,
        seed: int | np.random.Generator | None = None,
        newdata: Any = None,
        re_form: str | bool | None = "~0",
        use_u: bool = False,
        new_params: Any = None,
        new_levels: str = "draw",
        weights: Any = None,
        env: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> Any:
        """Draw responses from the model, with new random effects and new errors.

        Parameters
        ----------
        n : int
            Replicates.
        seed : int or numpy.random.Generator, optional
        newdata : DataFrame, optional
            The fit's rows by default. Levels of grouping factors may be new.
        re_form : str, bool or None
            Random effects that are not drawn but stay at the fit's conditional modes: none for
            "~0" (the default) or False, all for None, or some, as in "~ (1 | Subject)"; further
            effects of the same term are then drawn given these.
        use_u : bool
            Short for ``re_form=None``.
        new_params : dict, optional
            Parameters to change: "beta", an array or a dict of some coefficients; covariances as
            "theta" or "par", or on the response's (or link's) scale as "cov", "sd" and "cor" (each
            a dict by grouping factor), or by single names as in ``{"sd_Days|Subject": 3}``;
            "sigma", "dispersion" or "shape". Conditional modes stay as they are.
        new_levels : {"draw", "error", "population", "missing"}
            What an unseen level gets where effects stay at their modes: a draw, an error, zero, or
            NaN.
        weights : str or array (m,), optional
            Prior weights of the rows of newdata, or their numbers of trials. By default the fit's
            weights are evaluated on newdata, and trials are those of the response there.
        env : dict, optional
            As in `lmer`, for variables and functions of the formula that newdata lack.

        Returns
        -------
        DataFrame (rows, n)
            Columns sim_1, sim_2, ..., each of the response's kind, so that ``fit.refit`` takes it:
            levels of a factor, booleans, whole numbers; for ``cbind(successes, failures)`` each
            sim_i is two columns. A proportion comes back as one. Rows that ``na_action="exclude"``
            left out are NaN, which a refit passes over.
        lazy table
            Of rows in an engine: its columns, with ``.sim_1``, ``.sim_2`` ..., numbers that are
            drawn whenever the table is read, the same ones for the same order of its rows;
            ``.sim_1_successes`` and ``.sim_1_failures`` where the response is ``cbind()``.

        Raises
        ------
        DataError, FormulaError
            For parameters, terms or columns that are not there, and weights of which no response
            can be drawn.

        Notes
        -----
        Weights count: a row's residual variance is ``sigma^2 / w``, and a response of a generalized
        model is the mean of w draws (a share of w trials). lme4 leaves weights out, except for
        trials.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> drawn = fit.simulate(3, seed=1)
        >>> drawn.shape, list(drawn)
        ((180, 3), ['sim_1', 'sim_2', 'sim_3'])
        >>> fit.refit(drawn["sim_1"]).converged
        True
        >>> new = {"Days": [0, 9], "Subject": ["new", "new"]}
        >>> fit.simulate(newdata=new, new_params={"beta": {"Days": 0.0}}, seed=1).shape
        (2, 1)
        """
        refuse_unknown(unknown, self.simulate)
        names = names_for(env, sys._getframe(1))
        return simulate.simulations(
            self._fit, n, seed, newdata, re_form, use_u, new_params, new_levels, weights, names
        )

    def bootstrap(
        self,
        n: int = 1000,
        fn: Callable[[Any], Any] | None = None,
        type: str = "parametric",
        use_u: bool = False,
        cluster: str | None = None,
        seed: int | np.random.Generator | None = None,
        n_jobs: int = 1,
        progress: bool | None = None,
        **unknown: Any,
    ) -> bootstrap_result.Bootstrap:
        """Draw bootstrap replicates: refits to responses, or rows, that are drawn from the fit.

        Parameters
        ----------
        n : int
            Replicates.
        fn : callable, optional
            What to compute of every replicate: it takes a model, and returns a number, an array,
            or a Series or dict. By default the standard deviations and correlations of the random
            effects, the residual scale or shape, and the fixed effects.
        type : {"parametric", "semiparametric", "residual", "cases"}
            "parametric": responses from the model's distributions, with weights respected.
            "semiparametric" (linear models): the model's residuals, drawn with replacement, around
            means with normal random effects; around the fitted values for ``use_u=True``. These
            residuals are smaller than the model's sigma, and standard errors with them.
            "residual" (linear models): residuals and conditional modes, both drawn with
            replacement, after they were centred and given the estimated covariances, since they
            are shrunken [1]_. "cases": levels of a grouping factor drawn with replacement, with
            all of their rows; levels of factors nested in it go along.
        use_u : bool
            Hold the random effects at their conditional modes.
        cluster : str, optional
            The grouping factor whose levels are drawn for ``type="cases"``; by default the one
            that all others are nested in.
        seed : int or numpy.random.Generator, optional
        n_jobs : int
            Processes; -1 for one a core. The result does not depend on it.
        progress : bool, optional
            Show a progress bar; by default on a terminal, for work over two seconds.

        Returns
        -------
        Bootstrap
            With ``t0`` (of the fit), ``replicates`` (a frame), ``se``, ``bias``, ``summary()``
            and ``confint(level=0.95, type="perc")``. Replicates that fail are NaN, and counted by
            message in ``failures``; singular ones are counted in ``n_singular``.

        Raises
        ------
        FitError
            If all replicates fail.

        Notes
        -----
        Responses of rows in an engine are drawn as the rows are read, for ``type="parametric"``
        alone. A linear model reads them once for many replicates, which are fitted from their
        cross-products; for ``fn``, and in a generalized model, each replicate reads them anew. A
        seed gives other replicates there than in memory, and the same ones for the same order of
        the rows.

        References
        ----------
        .. [1] J. R. Carpenter, H. Goldstein and J. Rasbash (2003), A novel bootstrap procedure for
           assessing the relationship between class size and achievement, Applied Statistics
           52(4), 431-443.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> draws = fit.bootstrap(500, seed=1)
        >>> float(draws.se["Days"].round(1))
        1.5
        >>> ratio = fit.bootstrap(20, fn=lambda model: model.beta[0] / model.sigma, seed=1)
        >>> ratio.replicates.shape
        (20, 1)
        """
        refuse_unknown(unknown, self.bootstrap)
        if fn is not None:
            checks.function(fn, "fn", "a function of a model")
        statistic = None if fn is None else partial(_of_model, fn, builtins.type(self))
        return bootstrap.bootstrap(
            self._fit, n, statistic, type=type, use_u=use_u, cluster=cluster, seed=seed,
            n_jobs=n_jobs, progress=progress,
        )  # fmt: skip


def _of_model(fn: Callable[[Any], Any], model: type, fit: Fit) -> Any:
    """Return a function of a model, for its fit."""
    return fn(model(fit))

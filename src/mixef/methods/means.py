"""Marginal means of a fitted model, their slopes and joint tests."""

from __future__ import annotations

from typing import Any

from mixef.hints import refuse_unknown
from mixef.inference.marginal import emmeans as marginal
from mixef.inference.marginal import joint, trends
from mixef.methods import Methods


class MeansMethods(Methods):
    """Marginal means of a fitted model."""

    def emmeans(
        self,
        specs: Any,
        by: Any = None,
        at: Any = None,
        weights: Any = "equal",
        type: str = "link",
        ddf: str | None = "auto",
        level: float = 0.95,
        bias_adjust: bool = False,
        *,
        sigma: float | None = None,
        offset: float | None = None,
        nesting: Any = None,
        **unknown: Any,
    ) -> Any:
        """Return marginal means: what the model says on a grid of its predictors, averaged.

        The grid has all levels of factors, logicals and numbers that the formula makes factors of;
        both values of a numeric variable with two; and the mean of any other.

        Parameters
        ----------
        specs : str or list of str
            The predictors that means are for: names, or a formula such as "~ a * b | c", with
            groups after the bar; "pairwise ~ a" adds contrasts, "1" is the mean of all, and a list
            of formulas is several sets of means. A factor brings those with it that it is nested
            in.
        by : str or list of str, optional
            Groups, each a family of its own in tests.
        at : dict, optional
            Other values of predictors, such as ``{"x": [0, 10], "f": ["a"]}``. A variable of an
            offset in the formula may be given too.
        weights : {"equal", "proportional", "outer", "cells", "flat"} or array
            Of what is averaged over: all alike; by the number of rows of each combination; by the
            product of the numbers of each factor; by the rows of each cell; cells with rows alike;
            or numbers, one a combination, the first factor fastest.
        type : {"link", "response"}
            The linear predictor, or transformed back: by the link's inverse, or by that of what the
            formula does to the response, as in ``log(y + 1) ~ ...``.
        ddf : {"auto", "satterthwaite", "kenward-roger", None}
            Degrees of freedom as in `coef_table`; a generalized model has z tests.
        level : float
            Of the confidence limits.
        bias_adjust : bool
            With ``type="response"``, estimate the mean of the population and not its median: the
            back-transformation plus half its second derivative times the variance about the linear
            predictor.
        sigma : float, optional
            The standard deviation of that adjustment: by default that of all random effects,
            averaged over the rows of the fit, and in a linear model of the residual too.
        offset : float, optional
            The offset on the scale of the link; by default the mean of the fit's.
        nesting : dict or False, optional
            Which factors are nested in which, such as ``{"class": "school"}``; by default those
            whose levels occur with one level each of another factor that is a term of its own.

        Returns
        -------
        MarginalMeans
            ``to_frame()`` has a row a mean: its levels, estimate, std_error, df, conf_low,
            conf_high. Methods: `pairs`, `contrast`, `test`, `confint`, `summary`, `joint_tests`,
            `cld`, `eff_size`, `regrid`. A dict of them for "pairwise ~ a" and for formulas.

        Raises
        ------
        ValueError
            For what is no predictor, level, weight or type.
        DataError
            If predictors were arrays of the caller's, whose values the fit does not keep.

        Notes
        -----
        What a rank-deficient design says nothing of is NaN, "nonEst" in print. The defaults differ
        from R's emmeans in ``ddf`` (there Kenward and Roger's).

        References
        ----------
        S. R. Searle, F. M. Speed and G. A. Milliken (1980), Population marginal means in the linear
        model, American Statistician 34, 216-221. R. V. Lenth, emmeans: Estimated Marginal Means,
        aka Least-Squares Means.

        Examples
        --------
        >>> from mixef import glmer, lmer, load_dataset
        >>> fit = lmer("angle ~ recipe + temp + (1 | recipe:replicate)", load_dataset("cake"))
        >>> print(fit.emmeans("recipe"))
        recipe emmean   SE df lower.CL upper.CL
        A        33.1 1.74 42     29.6     36.6
        B        31.6 1.74 42     28.1     35.1
        C        31.6 1.74 42     28.1     35.1
        <BLANKLINE>
        Degrees-of-freedom method: satterthwaite
        Confidence level used: 0.95
        >>> fit.emmeans("~ recipe | temp", at={"temp": [180, 200]})["estimate"].round(1).tolist()
        [30.0, 28.5, 28.4, 33.1, 31.6, 31.6]
        >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...             load_dataset("cbpp"), family="binomial")
        >>> fit.emmeans("period", type="response")["estimate"].round(3).tolist()
        [0.198, 0.084, 0.074, 0.048]
        """
        refuse_unknown(unknown, self.emmeans)
        return marginal.marginal_means(
            self._fit, specs, by, at, weights, type, ddf, level, bias_adjust, sigma, offset, nesting
        )

    def emtrends(
        self,
        var: str,
        specs: Any = "1",
        by: Any = None,
        at: Any = None,
        weights: Any = "equal",
        ddf: str | None = "auto",
        level: float = 0.95,
        *,
        nesting: Any = None,
        **unknown: Any,
    ) -> Any:
        """Return slopes of a numeric predictor on the grid of `emmeans`, on the linear scale.

        Parameters
        ----------
        var : str
            The predictor, or a function of it, such as "log(x)", for slopes in units of that.
        specs, by, at, weights, ddf, level, nesting
            As in `emmeans`; one slope, averaged over all, by default.

        Returns
        -------
        MarginalMeans

        Notes
        -----
        The model matrix is differentiated exactly: by the chain rule, polynomials by their
        recurrence, splines as piecewise polynomials. Functions of yours take central differences of
        eighth order, good to about 1e-12. R's ``emtrends`` takes forward differences.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("angle ~ recipe * temp + (1 | recipe:replicate)", load_dataset("cake"))
        >>> fit.emtrends("temp", "recipe").to_frame()[["recipe", "estimate"]].round(4).to_numpy()
        array([['A', 0.1537],
               ['B', 0.1646],
               ['C', 0.1558]], dtype=object)
        """
        refuse_unknown(unknown, self.emtrends)
        return trends.marginal_trends(self._fit, var, specs, by, at, weights, ddf, level, nesting)

    def joint_tests(
        self,
        by: Any = None,
        at: Any = None,
        ddf: str | None = "auto",
        *,
        nesting: Any = None,
        **unknown: Any,
    ) -> joint.JointTests:
        """Test the predictors and their interactions, by contrasts of marginal means.

        Factors are averaged over others with equal weights, as in tests of type III, and covariates
        stand at their means, where they are tested by their slopes: results do not depend on the
        contrasts of the formula, nor on where a covariate's zero is.

        Parameters
        ----------
        by : str or list of str, optional
            Groups to test inside of.
        at, ddf, nesting
            As in `emmeans`; a covariate with several values is taken as a factor.

        Returns
        -------
        JointTests
            ``to_frame()`` has a row a test: model term, df1, df2, F.ratio, p.value, and Chisq
            where df2 is infinite.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("angle ~ recipe * temp + (1 | recipe:replicate)", load_dataset("cake"))
        >>> print(fit.joint_tests())
        model term  df1 df2 F.ratio p.value
        recipe        2  42   0.249  0.7809
        temp          1 222  94.163  <.0001
        recipe:temp   2 222   0.042  0.9592
        <BLANKLINE>
        Degrees-of-freedom method: satterthwaite
        """
        refuse_unknown(unknown, self.joint_tests)
        return marginal.model_tests(self._fit, by, at, ddf, nesting)

"""The tests that simulated residuals have as methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.inference.diagnostics import residual_patterns as patterns
from mixef.inference.diagnostics import residual_tests as tests
from mixef.inference.diagnostics.by_row import Rows
from mixef.inference.diagnostics.draws import ALTERNATIVES, SPELLINGS, Draws
from mixef.inference.diagnostics.residual_patterns import GroupTests
from mixef.inference.diagnostics.residual_tests import ResidualTest
from mixef.text.printed import PrintedFrame
from mixef.text.tables import Table


@dataclass(frozen=True, eq=False, repr=False)
class ResidualTests(PrintedFrame):
    """All tests of simulated residuals that need nothing but the model, one row each."""

    frame: pd.DataFrame

    def to_table(self) -> Table:
        """Return the tests as a table."""
        return tests.table_of(self.frame, "Tests of simulated residuals")


class WithTests:
    """The tests, for what has draws and rows."""

    draws: Draws
    rows: Rows

    def test_uniformity(self, reference: str = "auto") -> ResidualTest:
        """Test whether the residuals are uniform, by Kolmogorov and Smirnov.

        Parameters
        ----------
        reference : {"auto", "simulation", "theory"}
            What the p value is by, in this test and the others: the rank of the statistic among
            those of the draws, which is right for dependent rows, but never below 1 over the number
            of draws; or a distribution for independent rows, as in DHARMa. By default the second
            where the rows are drawn independently, with all random effects held (`re_form=None`),
            and often enough for steps of 1/n not to count (twice the root of the rows, or more).

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("use ~ age + (1 | district)", load_dataset("Contraception"), "binomial")
        >>> fit.simulated_residuals(seed=1).test_uniformity().p_value > 0.05
        True
        """
        return tests.uniformity(self.draws, reference)

    def test_dispersion(
        self, alternative: str = "two-sided", type: str = "simulation"
    ) -> ResidualTest:
        """Test whether responses vary more, or less, than the model has it.

        Parameters
        ----------
        alternative : {"two-sided", "greater", "less"}
            "greater" is overdispersion.
        type : {"simulation", "pearson"}
            The variance of ``y - mu`` over its mean in the draws; or Pearson's chi-square over its
            degrees of freedom, by the conditional modes, as in ``overdispersion()``. Since random
            effects have no degrees of freedom there, the latter is too small, and good for
            "greater" alone.

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> fit = glmer("cbind(incidence, size - incidence) ~ period + (1 | herd)",
        ...             load_dataset("cbpp"), "binomial")
        >>> residuals = fit.simulated_residuals(seed=1, re_form=None)
        >>> print(residuals.test_dispersion(type="pearson"))
        Dispersion: Pearson chi-square over its degrees of freedom (two-sided)
                statistic chisq df p_value
        Pearson     1.237 63.08 51   0.239
        p value by chi-square, given the conditional modes
        """
        kind = checks.option(type, "type", ("simulation", "pearson"), {"pearsonchisq": "pearson"})
        if kind == "simulation":
            return tests.dispersion(self.draws, alternative)
        return tests.pearson(self.rows.fit, alternative)

    def test_outliers(
        self, alternative: str = "two-sided", margin: str = "both", reference: str = "auto"
    ) -> ResidualTest:
        """Test whether more, or less, responses than expected are outside of all of their draws.

        Parameters
        ----------
        alternative : {"two-sided", "greater", "less"}
        margin : {"both", "upper", "lower"}
            Above, below, or either.
        reference : {"auto", "simulation", "theory"}
            As in `test_uniformity`; "theory" is the binomial distribution with probability
            2 / (n + 1), for rows without ties.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.simulated_residuals(seed=1).test_outliers()["statistic"].item()
        1
        """
        return tests.outliers(self.draws, alternative, margin, reference)

    def test_zero_inflation(self, alternative: str = "two-sided") -> ResidualTest:
        """Test whether there are more, or less, zeros than the model has.

        Parameters
        ----------
        alternative : {"two-sided", "greater", "less"}

        Examples
        --------
        >>> from mixef import glmer, load_dataset
        >>> ticks = load_dataset("grouseticks")
        >>> fit = glmer("TICKS ~ YEAR + (1 | BROOD)", ticks, "poisson")
        >>> fit.simulated_residuals(seed=1).test_zero_inflation().statistic > 1
        True
        """
        return tests.zero_inflation(self.draws, alternative)

    def test_quantiles(
        self,
        predictor: Any = None,
        quantiles: Sequence[float] = (0.25, 0.5, 0.75),
        reference: str = "auto",
    ) -> ResidualTest:
        """Test whether quantiles of the residuals change with a predictor.

        Parameters
        ----------
        predictor : str or array (n,), optional
            A variable by name, or numbers; the fitted means by default. Its ranks are taken.
        quantiles : sequence of float
        reference : {"auto", "simulation", "theory"}
            As in `test_uniformity`.

        Notes
        -----
        DHARMa smooths every quantile by an additive model (qgam), whose smoothness it estimates.
        Here is the score test of a regression spline with 4 columns and a constant, for which no
        quantile has to be fitted, and whose distribution is known (Koenker and Machado 1999). The
        p value of all quantiles is the smallest, adjusted by Benjamini and Hochberg as in DHARMa,
        or for "simulation" by the rank of the smallest.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.simulated_residuals(seed=1).test_quantiles("Days").p_value > 0.05
        True
        """
        taus = checks.numbers(quantiles, "quantiles", "numbers between 0 and 1")
        if taus.ndim != 1 or not len(taus) or not ((taus > 0.0) & (taus < 1.0)).all():
            raise checks.refusal("quantiles", quantiles, "numbers between 0 and 1")
        if predictor is None:
            return patterns.quantiles(
                self.draws, self.draws.fitted, "fitted means", taus, reference
            )
        x = self.rows.numbers(predictor, "predictor")
        return patterns.quantiles(self.draws, x, _name(predictor, "predictor"), taus, reference)

    def test_groups(self, g: Any, reference: str = "auto") -> GroupTests:
        """Test uniformity within every group, and whether variances are alike.

        Parameters
        ----------
        g : str or array (n,)
            A factor by name, or a label a row.
        reference : {"auto", "simulation", "theory"}
            As in `test_uniformity`.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> found = fit.simulated_residuals(seed=1).test_groups("Subject")
        >>> found.to_frame().shape, round(found.p_value, 2)
        ((18, 4), 0.17)
        """
        factor = self.rows.factor(g, "g")
        levels = list(map(str, factor.levels))
        return patterns.groups(self.draws, factor.codes, levels, _name(g, "groups"), reference)

    def test_temporal(self, time: Any, group: Any = None, reference: str = "auto") -> ResidualTest:
        """Test residuals of neighbours in time for correlation, by Durbin and Watson.

        Parameters
        ----------
        time : str or array (n,)
            A variable by name, or numbers, dates or levels in order.
        group : str or array (n,), optional
            What rows are series of their own, each around its own mean.
        reference : {"auto", "simulation", "theory"}
            As in `test_uniformity`. With random effects drawn anew, "theory" finds the correlation
            that these make, which is the model's own.

        Raises
        ------
        DataError
            For several rows at one time, in one group.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.simulated_residuals(seed=1).test_temporal("Days", group="Subject").p_value < 0.05
        True
        """
        codes = None if group is None else self.rows.factor(group, "group").codes
        at = self.rows.order(time, "time")
        return patterns.temporal(self.draws, at, codes, _name(time, "time"), reference)

    def test_spatial(
        self, x: Any, y: Any, alternative: str = "two-sided", reference: str = "auto"
    ) -> ResidualTest:
        """Test residuals of neighbours in space for correlation, by Moran's I.

        Parameters
        ----------
        x, y : str or array (n,)
            Coordinates by name, or as numbers; weights are inverse distances.
        alternative : {"two-sided", "greater", "less"}
        reference : {"auto", "simulation", "theory"}
            As in `test_temporal`.

        Raises
        ------
        DataError
            For several rows at one place.

        Examples
        --------
        >>> import numpy as np
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> x, y = np.random.default_rng(1).normal(size=(2, 180))
        >>> fit.simulated_residuals(seed=1).test_spatial(x, y).p_value > 0.05
        True
        """
        alternative = checks.option(alternative, "alternative", ALTERNATIVES, SPELLINGS)
        places = np.column_stack([self.rows.numbers(x, "x"), self.rows.numbers(y, "y")])
        name = f"{_name(x, 'x')} and {_name(y, 'y')}"
        return patterns.spatial(self.draws, places, name, alternative, reference)

    def tests(self, reference: str = "auto") -> ResidualTests:
        """Make the tests that need nothing but the model: one row each, with its p value.

        Parameters
        ----------
        reference : {"auto", "simulation", "theory"}
            As in `test_uniformity`; dispersion and zeros are by simulation.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> print(fit.simulated_residuals(seed=1).tests())
        Tests of simulated residuals
                   statistic p_value reference
        uniformity   0.04467   0.964 simulation
        dispersion     1.003   0.821 simulation
        outliers           1   1.000 simulation
        quantiles      5.368   0.813 simulation
        """
        made: dict[str, Callable[[], ResidualTest]] = {
            "uniformity": lambda: self.test_uniformity(reference),
            "dispersion": self.test_dispersion,
            "outliers": lambda: self.test_outliers(reference=reference),
        }
        if has_zeros(self.draws):
            made["zeros"] = self.test_zero_inflation
        if has_different_means(self.draws):
            made["quantiles"] = lambda: self.test_quantiles(reference=reference)
        results = {name: test() for name, test in made.items()}
        frame = pd.DataFrame(
            [(r.statistic, r.p_value, r.reference) for r in results.values()],
            columns=["statistic", "p_value", "reference"],
            index=pd.Index(results, name="test"),
        )
        return ResidualTests(frame)


def has_zeros(draws: Draws) -> bool:
    """Tell whether a zero is a response that the model draws, or that there is."""
    return bool((draws.observed == 0).any() or (draws.simulated == 0).any())


def has_different_means(draws: Draws) -> bool:
    """Tell whether there is anything for residuals to change with."""
    return len(np.unique(draws.fitted[draws.complete])) > 1


def _name(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) else otherwise

"""Fits for other packages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from mixef.arguments import names_for
from mixef.errors import MissingLibraryError
from mixef.hints import refuse_unknown
from mixef.inference.prediction import for_marginaleffects
from mixef.methods import Methods


class InteropMethods(Methods):
    """Fits for other packages."""

    def to_marginaleffects(
        self,
        re_form: str | bool | None = "~0",
        type: str = "response",
        new_levels: str = "error",
        df: float | None = None,
        env: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> Any:
        """Return the fit as the functions of the package marginaleffects take models.

        These are ``predictions``, ``comparisons``, ``slopes`` with their averages and plots, and
        ``hypotheses``; all take the result in the place of a model.

        Parameters
        ----------
        re_form : str or False, optional
            As in `predict`, but "~0" by default: predictions are those of random effects that are
            zero. Random effects that are asked for stay at their conditional modes, and standard
            errors are those of the fixed effects alone, as in marginaleffects for R; `predict` has
            joint ones.
        type : {"response", "link"}
            What predictions, comparisons and slopes are of: the mean, or the linear predictor.
        new_levels : {"error", "population"}
            As in `predict`, for ``newdata`` beside a ``re_form``.
        df : float, optional
            Degrees of freedom for all t statistics and intervals; without, they are normal. For
            those of each row in a linear model give the result's ``jacobian`` to `contest`.
        env : dict, optional
            As in `predict`.

        Returns
        -------
        EffectsModel
            A ``ModelAbstract`` of marginaleffects. The covariance of the coefficients is that of
            `coef_table` without degrees of freedom, also of a fit `with_vcov`.

        Raises
        ------
        MissingLibraryError
            Without marginaleffects, or where its version and that of polars do not go together.

        Notes
        -----
        marginaleffects takes differences of `slopes`, which are differences themselves: its
        standard errors of slopes may be wrong in the second digit, and more beside a coefficient
        near zero. They are right with a step for the predictor of a thousandth of its range, as in
        ``slopes(..., eps=0.01)``.

        Examples
        --------
        >>> from marginaleffects import avg_slopes
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> slope = avg_slopes(fit.to_marginaleffects(), eps=0.01)
        >>> [round(value, 2) for value in slope["estimate", "std_error"].row(0)]
        [10.47, 1.55]
        """
        refuse_unknown(unknown, self.to_marginaleffects)
        _check_libraries()
        names = names_for(env, sys._getframe(1))
        return for_marginaleffects.effects_model(
            self, self._fit, re_form, type, new_levels, df, names
        )


def _check_libraries() -> None:
    """Refuse to go on where marginaleffects is not there, or cannot work."""
    try:
        import marginaleffects
        import polars
    except ImportError:
        raise MissingLibraryError(
            "to_marginaleffects makes a model for the package marginaleffects, which is not "
            "installed: pip install 'mixef[marginaleffects]'"
        ) from None
    own, frames = version(marginaleffects.__name__), polars.__version__
    if own.startswith("0.6.0") and int(frames.split(".")[0]) > 1:
        raise MissingLibraryError(
            f"marginaleffects {own} calls what polars {frames} no longer has: pip install "
            "'polars<2', or a later marginaleffects"
        )

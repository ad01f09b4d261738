"""Fits of changed models."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

from mixef import checks
from mixef.arguments import fit_of_call, names_for, updated_call
from mixef.errors import DataError
from mixef.hints import refuse_unknown
from mixef.inference.refits import new_response, refits
from mixef.methods import Methods


class ChangeMethods(Methods):
    """Fits of changed models."""

    def update(
        self, formula: str | None = None, *, env: Mapping[str, Any] | None = None, **changes: Any
    ) -> Self:
        """Fit a changed model.

        Parameters
        ----------
        formula : str, optional
            Change of the formula, as in ``". ~ . - Days"``.
        env : dict, optional
            As in `lmer`.
        **changes
            Other arguments of the fitting function to replace: data, weights, REML, family,
            nAGQ, control, ...

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> fit.update(". ~ . - Days", REML=False).formula
        'Reaction ~ (Days | Subject)'
        """
        old = self._fit
        names = names_for(env, sys._getframe(1), old.frame.state.outside)
        text, call, control, others = updated_call(old, formula, changes, names)
        start, verbose = others.pop("start", None), others.pop("verbose", 0)
        kind = old.kind.changed(others)
        refuse_unknown(others, self._function)
        return type(self)(fit_of_call(text, call, kind, control, start, verbose, names))

    def refit(
        self, y: Any, *, n_jobs: int = 1, progress: bool | None = None
    ) -> Self | refits.Refits:
        """Fit the same model to another response, or to many at once.

        `update` of the result reads the data again, and with them the old response.

        Parameters
        ----------
        y : Series or array (n,), or DataFrame or array (n, m), or str
            A column of the data, or an expression of columns, by its text, which is the only way
            where an engine has the rows. Else one value for each row that the fit used; a matrix
            has a column a response. A Series or frame goes by its labels, which may be more than
            those of the fit's rows; an array goes by position. Where the response is
            ``cbind(successes, failures)``, one response has two columns, and several are an array
            (n, m, 2), or the frame that `simulate` returns. For a factor, 0 and 1 or its levels.
        n_jobs : int
            Processes for several responses; -1 for one a core.
        progress : bool, optional
            Show a progress bar for several responses; by default on a terminal, for work over
            two seconds.

        Returns
        -------
        model or Refits
            Refits for several responses. They share what does not depend on the response and
            start at the estimates of this fit; a response that cannot be fitted is one of its
            ``failures``, and singular fits are counted, not warned of.

        Raises
        ------
        DataError
            If there is not a number for every row, or a single response is constant.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> twice = fit.refit(2 * fit.getME("y"))
        >>> (twice.beta / fit.beta).round(6).tolist()
        [2.0, 2.0]
        >>> many = fit.refit(fit.simulate(100, seed=1))
        >>> many.fixef().shape, many[0].nobs
        ((100, 2), 180)
        """
        old = self._fit
        if isinstance(y, str):
            return self._refit_to(y)
        if new_response.is_several(old, y):
            return refits.refits(old, y, type(self), n_jobs, progress)
        return type(self)(old.again(frame=replace(old.frame, **new_response.new_response(old, y))))

    def _refit_to(self, y: str) -> Self:
        """Fit the model to a column or an expression of the data, read again, on the same rows."""
        old, expected = self._fit, "the text of a column or an expression of columns, or values"
        if not checks.text(y, "y", expected).strip():
            raise checks.refusal("y", y, expected)
        new = self.update(f"{y} ~ .", env=old.frame.state.outside)
        n = new._fit.frame.n
        if n != old.frame.n:
            raise DataError(
                f"a fit to {y} has {n} rows, where the fit has {old.frame.n}; expected the "
                f"same rows: use update('{y} ~ .') for a fit to others"
            )
        return new

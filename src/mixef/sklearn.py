"""Mixed models as estimators of scikit-learn, for its pipelines, searches and cross-validation."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError, DataError, FormulaError, MissingLibraryError
from mixef.families.standard import Binomial
from mixef.glmm import glmer
from mixef.lmm import lmer
from mixef.terms.formula import parse_formula
from mixef.terms.nodes import Name
from mixef.terms.sources import nw

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_consistent_length,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError:
    raise MissingLibraryError(
        "mixef.sklearn makes estimators of scikit-learn, which is not installed: "
        "pip install 'mixef[sklearn]'"
    ) from None


class _MixedModelEstimator(BaseEstimator):  # type: ignore[misc,unused-ignore]
    """What the estimators share: the formula, the frame that the model is fitted to, predictions.

    Attributes
    ----------
    model_ : MixedModel
        The fit, with all of its methods.
    formula_ : str
        Its formula.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Of data with names.
    """

    formula: str | None
    groups: Any
    re_form: str | bool | None
    new_levels: str

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags

    def _checked(
        self, X: Any, y: Any, sample_weight: Any, **checks: Any
    ) -> tuple[Any, np.ndarray, np.ndarray | None]:
        """Return the columns X of a fit as a frame with names, responses (n,) and weights (n,)."""
        if not _has_names(X) or y is None:
            X, y = validate_data(self, X, y, dtype=None, ensure_min_samples=2, **checks)
        else:
            validate_data(self, X, skip_check_array=True)
            y = column_or_1d(y, warn=True)
            check_consistent_length(X, y)
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, y, ensure_non_negative=True)
            return _named(X), y, np.asarray(weights)
        return _named(X), y, None

    def _fit_model(
        self, data: Any, y: np.ndarray, weights: Any, function: Any, **options: Any
    ) -> Self:
        """Fit the model to a frame and responses (n,)."""
        response, right = self._sides(list(data.columns))
        self.formula_ = f"{Name(response).text} ~ {right}"
        frame = _with_column(data, response, y)
        self.model_ = function(
            self.formula_, frame, weights=weights, control=self.control, env={}, **options
        )
        return self

    def _sides(self, names: list[str]) -> tuple[str, str]:
        """Return the name that y has in the formula, and the formula's right side."""
        if self.formula is None:
            return _free_name(names), self._all_columns(names)
        if self.groups is not None:
            raise ArgumentError(
                "formula and groups are both given; expected one: a formula says its groups by "
                "itself, as in 'y ~ x + (1 | g)'"
            )
        text = checks.text(self.formula, "formula", "text, such as 'y ~ x + (1 | g)', or None")
        given = parse_formula(text if "~" in text else f"~ {text}")
        right = text[text.index("~") + 1 :].strip() if "~" in text else text
        if given.response is None:
            return _free_name(names), right
        if not isinstance(given.response, Name):
            raise FormulaError(
                f"the formula has the response {given.response.text}, but the response is y as "
                "fit(X, y) is given it; expected a name or nothing before '~': change y itself, "
                "by sklearn.compose.TransformedTargetRegressor"
            )
        return given.response.name, right

    def _all_columns(self, names: list[str]) -> str:
        """Return all columns with an intercept by group, for ``groups=``."""
        if self.groups is None:
            raise ArgumentError(
                f"{type(self).__name__} has neither formula nor groups; expected a formula such as "
                "'y ~ x + (1 | g)', or the column of the groups, as in groups='g'"
            )
        groups = self.groups if isinstance(self.groups, list | tuple) else [self.groups]
        places = [names[g] if isinstance(g, int) and -len(names) <= g < len(names) else g
                  for g in groups]  # fmt: skip
        for name in places:
            if name not in names:
                raise DataError(
                    f"groups has {name!r}, which is no column of X; the columns are "
                    + ", ".join(map(repr, names[:30]))
                )
        fixed = [Name(name).text for name in names if name not in places]
        return " + ".join([*(fixed or ["1"]), *(f"(1 | {Name(name).text})" for name in places)])

    def _frame(self, X: Any) -> Any:
        """Return the columns of rows to predict as a frame with names."""
        check_is_fitted(self)
        if _has_names(X):
            validate_data(self, X, reset=False, skip_check_array=True)
            return _named(X)
        return _named(validate_data(self, X, reset=False, dtype=None))

    def _predicted(self, X: Any, type: str = "response") -> np.ndarray:
        """Return predictions (m,) of rows."""
        rows, new_levels = self._frame(X), self.new_levels
        found = self.model_.predict(rows, self.re_form, type, new_levels=new_levels, env={})
        return np.asarray(found)


class MixedModelRegressor(RegressorMixin, _MixedModelEstimator):  # type: ignore[misc,unused-ignore]
    """A linear or generalized linear mixed model as a regressor of scikit-learn.

    Parameters
    ----------
    formula : str, optional
        As in `lmer`; the response before ``~`` may be left out. Columns of X go by their names,
        and those of an array by ``x0``, ``x1``, ...; variables of the caller are not read. Without
        a formula the model is the sum of all columns, with an intercept for each level of
        ``groups``.
    groups : str, int or list, optional
        The grouping columns, by name or position, in place of a formula.
    family : str or Family, optional
        As in `glmer`; the Gaussian family with the identity link by default.
    REML : bool
        Restricted maximum likelihood, for the Gaussian family.
    nAGQ : int
        As in `glmer`, for other families.
    re_form : str or False, optional
        What predictions take of the random effects, as in `predict`: all by default.
    new_levels : {"population", "missing", "error"}
        What is predicted for groups that the fit has not seen: the mean with random effects of
        zero, NaN, or an error.
    control : LmerControl or GlmerControl, optional

    Attributes
    ----------
    model_ : LinearMixedModel or GeneralizedLinearMixedModel
        The fit, with all that it can do.
    formula_ : str
        Its formula.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Of data with names.

    Notes
    -----
    Weights (``sample_weight``) are those of `lmer` and `glmer`: precisions of rows in a linear
    model, and copies of rows else. Frames may have missing values: such rows are left out of the
    fit, and predicted as NaN. Arrays may not, as ever in scikit-learn.

    Examples
    --------
    >>> import pandas as pd
    >>> from mixef import load_dataset
    >>> from mixef.sklearn import MixedModelRegressor
    >>> sleep = load_dataset("sleepstudy")
    >>> X, y = sleep[["Days", "Subject"]], sleep["Reaction"]
    >>> regressor = MixedModelRegressor("~ Days + (Days | Subject)").fit(X, y)
    >>> new = pd.DataFrame({"Days": [0, 0], "Subject": ["308", "another"]})
    >>> regressor.predict(new).round(1).tolist()
    [253.7, 251.4]
    >>> round(regressor.model_.sigma, 2)
    25.59
    """

    def __init__(
        self,
        formula: str | None = None,
        *,
        groups: Any = None,
        family: Any = None,
        REML: bool = True,
        nAGQ: int = 1,
        re_form: str | bool | None = None,
        new_levels: str = "population",
        control: Any = None,
    ) -> None:
        self.formula = formula
        self.groups = groups
        self.family = family
        self.REML = REML
        self.nAGQ = nAGQ
        self.re_form = re_form
        self.new_levels = new_levels
        self.control = control

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model to a frame or array X (n, k) and responses y (n,)."""
        parts = self._checked(X, y, sample_weight, y_numeric=True)
        if self.family is None:
            return self._fit_model(*parts, lmer, REML=self.REML)
        return self._fit_model(*parts, glmer, family=self.family, nAGQ=self.nAGQ)

    def predict(self, X: Any) -> np.ndarray:
        """Return predicted means (m,)."""
        return self._predicted(X)


class MixedModelClassifier(ClassifierMixin, _MixedModelEstimator):  # type: ignore[misc,unused-ignore]
    """A binomial mixed model as a classifier of scikit-learn, for two classes.

    Parameters
    ----------
    formula, groups, re_form, new_levels, control
        As in `MixedModelRegressor`.
    link : str
        "logit", "probit", "cloglog", "cauchit", ...
    nAGQ : int
        As in `glmer`.

    Attributes
    ----------
    classes_ : ndarray (2,)
        The classes in order; probabilities of the model are those of the second.
    model_ : GeneralizedLinearMixedModel
        The fit.
    formula_, n_features_in_, feature_names_in_
        As in `MixedModelRegressor`.

    Examples
    --------
    >>> from mixef import load_dataset
    >>> from mixef.sklearn import MixedModelClassifier
    >>> women = load_dataset("Contraception")
    >>> formula = "use ~ age + I(age^2) + urban + livch + (1 | district)"
    >>> classifier = MixedModelClassifier(formula).fit(women, women["use"])
    >>> classifier.classes_.tolist()
    ['N', 'Y']
    >>> classifier.predict_proba(women.head(2)).round(2).tolist()
    [[0.84, 0.16], [0.78, 0.22]]
    """

    def __init__(
        self,
        formula: str | None = None,
        *,
        groups: Any = None,
        link: str = "logit",
        nAGQ: int = 1,
        re_form: str | bool | None = None,
        new_levels: str = "population",
        control: Any = None,
    ) -> None:
        self.formula = formula
        self.groups = groups
        self.link = link
        self.nAGQ = nAGQ
        self.re_form = re_form
        self.new_levels = new_levels
        self.control = control

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model to a frame or array X (n, k) and labels y (n,) of two classes."""
        data, y, weights = self._checked(X, y, sample_weight)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind != "binary":
            raise ValueError(
                f"Only binary classification is supported. The type of the target is {kind}."
            )
        seen = np.unique(y if weights is None else y[weights > 0])
        if len(seen) < 2:
            raise ValueError(
                f"y has only one class where weights are not zero, {seen.tolist()}; a classifier "
                "needs two"
            )
        options = {"family": Binomial(self.link), "nAGQ": self.nAGQ}
        return self._fit_model(data, codes.astype(float), weights, glmer, **options)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the linear predictor (m,) of the second class."""
        return self._predicted(X, "link")

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities (m, 2) of the classes."""
        second = self._predicted(X)
        return np.column_stack([1.0 - second, second])

    def predict(self, X: Any) -> np.ndarray:
        """Return the class (m,) with the larger probability.

        Raises
        ------
        DataError
            For rows without a prediction, as those with missing values are.
        """
        second = self._predicted(X)
        if np.isnan(second).any():
            raise DataError(
                f"{int(np.isnan(second).sum())} of {len(second)} rows have no prediction, such as "
                f"row {int(np.argmax(np.isnan(second)))} (counted from 0), since values are "
                "missing or groups unknown; leave them out, or take predict_proba, NaN there"
            )
        classes: np.ndarray = self.classes_[(second > 0.5).astype(int)]
        return classes


def _has_names(X: Any) -> bool:
    """Tell whether data are a frame, whose columns have names."""
    return hasattr(X, "columns") or hasattr(X, "column_names")


def _named(X: Any) -> Any:
    """Return columns as a frame with names of text: those of an array are x0, x1, ..."""
    if isinstance(X, pd.DataFrame):
        own = all(isinstance(name, str) for name in X.columns)
        return X if own else X.set_axis([f"x{j}" for j in range(X.shape[1])], axis=1)
    if _has_names(X):
        return X
    # What is of several types came as objects.
    columns = X.T.tolist() if X.dtype.kind == "O" else X.T
    return pd.DataFrame({f"x{j}": column for j, column in enumerate(columns)})


def _with_column(data: Any, name: str, values: np.ndarray) -> Any:
    """Return a frame with another column."""
    if isinstance(data, pd.DataFrame):
        return data.assign(**{name: values})
    frame = nw.from_native(data, eager_only=True)
    column = nw.new_series(name, values, backend=frame.implementation)
    return frame.with_columns(column).to_native()


def _free_name(names: list[str]) -> str:
    """Return a name for the responses that no column has."""
    name = "y"
    while name in names:
        name += "_"
    return name

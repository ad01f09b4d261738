"""Fixed effects with their table, conditional modes of the random effects, and their sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.hypotheses.ddf import check_ddf, column_name, has_z_tests, t_tests
from mixef.late import picture
from mixef.linalg.threads import one_blas_thread
from mixef.terms.fixed import Design
from mixef.text.printed import PrintedFrames


class RandomEffects(PrintedFrames):
    """Conditional modes: one frame (levels, coefficients) a grouping factor.

    Attributes
    ----------
    condVar : dict of str to ndarray (l, s, s), or None
        Conditional covariance of each level's modes, given the parameters; all terms of a
        grouping factor are in it together.
    units : mapping of str to str
        Of coefficients, as far as they are known.
    """

    def __init__(
        self,
        modes: dict[str, pd.DataFrame],
        condVar: dict[str, np.ndarray] | None = None,
        units: Mapping[str, str] | None = None,
    ):
        super().__init__(modes)
        self.condVar = condVar
        self.units = dict(units or {})

    def to_frame(self) -> pd.DataFrame:
        """Return one row a mode: grpvar, term, grp, condval, and condsd where it is known."""
        parts = []
        for group, modes in self.items():
            n, s = modes.shape
            part = {
                "grpvar": group,
                "term": np.repeat(modes.columns.to_numpy(dtype=object), n),
                "grp": np.tile(modes.index.to_numpy(dtype=object), s),
                "condval": modes.to_numpy().T.ravel(),
            }
            if self.condVar is not None:
                variance = np.einsum("lss->sl", self.condVar[group])
                part["condsd"] = np.sqrt(variance).ravel()
            parts.append(pd.DataFrame(part))
        return pd.concat(parts, ignore_index=True)

    def plot(
        self,
        group: str | None = None,
        term: str | None = None,
        order: str | None = None,
        level: float = 0.95,
        qq: bool = False,
        ax: Any = None,
    ) -> Any:
        """Draw the modes level by level, with their conditional intervals where there are any.

        The intervals need ``condVar``: ``fit.ranef(condVar=True)``. Without it there are points
        alone. ``fit.plot.caterpillar`` has the arguments, and the intervals always.

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Yield ~ 1 + (1 | Batch)", load_dataset("Dyestuff"))
        >>> ax = fit.ranef(condVar=True).plot()
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['F', 'D', 'A', 'B', 'C', 'E']
        """
        return picture("caterpillar.caterpillar")(self, group, term, order, level, qq, ax)


def modes_by_group(fit: Fit) -> dict[str, pd.DataFrame]:
    """Return the conditional modes (levels, coefficients) of each grouping factor."""
    out = {}
    for group, members in fit.groups.items():
        values = np.column_stack([fit.estimates.effects[t] for t in members])
        names = [name for t in members for name in fit.terms[t].columns]
        index = fit.terms[members[0]].grouping.index
        out[group] = pd.DataFrame(values, index=index, columns=names)
    return out


def random_effects(fit: Fit, condVar: bool = False, levels: Any = None) -> RandomEffects:
    """Return the conditional modes, with their conditional covariances if asked for.

    ``levels`` are those of `mixef.lmm.LMM.ranef`.
    """
    modes, places = modes_by_group(fit), None
    if levels is not None:
        places = _places(levels, {group: frame.index for group, frame in modes.items()})
        modes = {group: modes[group].iloc[rows] for group, rows in places.items()}
    covariances = conditional_covariances(fit, places) if condVar else None
    return RandomEffects(modes, covariances, coefficient_units(fit))


def _places(levels: Any, known: Mapping[str, pd.Index]) -> dict[str, np.ndarray]:
    """Return which levels of which grouping factors are asked for.

    Raises
    ------
    ArgumentError
        Naming a factor or a level that is not there.
    """
    if len(known) == 1 and not isinstance(levels, Mapping):
        levels = dict.fromkeys(known, levels)
    what = "a dict from grouping factors to levels" + ("" if len(known) > 1 else ", or levels")
    places = {}
    for group, asked in checks.mapping(levels, "levels", what).items():
        name = checks.key(group, "a grouping factor in levels", known)
        labels = checks.listed(asked)
        by_text = {str(label): place for place, label in enumerate(known[name])}
        rows = [by_text.get(str(x)) if pd.api.types.is_scalar(x) else None for x in labels]
        if not rows or None in rows:
            strange = labels[rows.index(None)] if rows else labels
            raise checks.refusal(
                f"levels[{name!r}]",
                strange,
                f"levels of {name}, of which there are {len(by_text):,}, "
                f"such as {known[name][:1].tolist()[0]!r}",
            )
        places[name] = np.array(rows, dtype=np.intp)
    return {group: places[group] for group in known if group in places}


def coefficient_units(fit: Fit) -> dict[str, str]:
    """Return the units of random coefficients, as far as the data say them.

    A slope's is that of the response by that of its variable. On the scale of a link there is none,
    and the link takes its place.
    """
    names = dict.fromkeys(name for term in fit.terms for name in term.columns)
    link, units = fit.family.link.name, fit.units
    if link != "identity":
        return dict.fromkeys(names, f"{link} scale")
    own = units.get(str(fit.formula.response))
    if own is None:
        return {}
    by = {name: f"{own}/{units[name]}" for name in names if name in units}
    return by | ({"(Intercept)": own} if "(Intercept)" in names else {})


def conditional_covariances(
    fit: Fit, places: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Return ``Var(b | y)`` by level (l, s, s) of each grouping factor, given the parameters.

    This is ``sigma^2 Lambda (Lambda'Z'WZ Lambda + I)^-1 Lambda'``, its diagonal blocks, without
    sigma for a generalized model, whose W are the working weights.

    Parameters
    ----------
    places : mapping of str to ndarray of int (m,), optional
        Levels of grouping factors, where those of all of them are not asked for.
    """
    criterion, out = fit.criterion(), {}
    with one_blas_thread():
        factor, terms = criterion.factor_at(fit.point), criterion.terms
        backs = terms.back_to_user(fit.scaled_par)
        for i, (back, members) in enumerate(zip(backs, terms.blocks, strict=True)):
            group = fit.terms[members[0]].group
            if places is None:
                block = factor.inverse_block(i)
            elif group in places:
                block = factor.inverse_levels(i, places[group])
            else:
                continue
            out[group] = fit.covariance_scale * (back @ block @ back.T)
    return {group: out[group] for group in fit.groups if group in out}


def fixed_effects(fit: Fit, add_dropped: bool = False) -> pd.Series:
    """Return the fixed-effects coefficients (p,), with NaN for dropped columns if asked for."""
    beta = pd.Series(fit.estimates.beta.copy(), index=list(fit.fixed_names), name="fixef")
    return beta.reindex(list(fit.design.names)) if add_dropped else beta


def coefficient_table(fit: Fit, ddf: str | None = "auto") -> pd.DataFrame:
    """Return estimates, standard errors and tests of the fixed effects.

    A linear model has t values, with df and p values unless ``ddf`` is None; a generalized one
    has z and p values. Kenward and Roger's tests of an ML fit are those of its refit by REML, and
    the columns' name says so, as it names a covariance that was chosen for the fit.
    """
    tests = t_tests(fit, np.eye(len(fit.kept)), ddf=ddf)
    columns = {"Estimate": tests.estimate, "Std. Error": tests.std_error}
    if has_z_tests(fit, ddf):
        columns |= {"z value": tests.statistic, "Pr(>|z|)": tests.p_value}
    elif check_ddf(fit, ddf) is None:
        columns |= {"t value": tests.statistic}
    else:
        columns |= {"df": tests.df, "t value": tests.statistic, "Pr(>|t|)": tests.p_value}
    table = pd.DataFrame(columns, index=list(fit.fixed_names))
    return table.rename_axis(columns=column_name(fit, ddf))


def coefficients_by_group(fit: Fit) -> PrintedFrames:
    """Return fixed effect plus conditional mode, one frame (levels, coefficients) a factor."""
    doubled = {name for name, count in Counter(fit.fixed_names).items() if count > 1}
    fixed, out = _keys(fit.design, doubled), PrintedFrames()
    for group, modes in modes_by_group(fit).items():
        random = [key for t in fit.groups[group] for key in _keys(fit.terms[t].design, doubled)]
        keys = list(dict.fromkeys([*(fixed[j] for j in fit.kept), *random]))
        values = np.zeros((len(modes), len(keys)))
        values[:, : len(fit.kept)] = fit.estimates.beta
        for key, mode in zip(random, modes.to_numpy().T, strict=True):
            values[:, keys.index(key)] += mode
        names = [name for name, _ in keys]
        out[group] = pd.DataFrame(values, index=modes.index, columns=names)
    return out


def _keys(design: Design, doubled: AbstractSet[str]) -> list[tuple[str, str]]:
    """Return what tells the coefficients apart: a name, and the term where two have that name."""
    pairs = zip(design.names, design.column_terms, strict=True)
    return [(name, term if name in doubled else "") for name, term in pairs]

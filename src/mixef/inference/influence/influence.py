"""What sets of rows do to a fit: its estimates without each of them.

Measures are after A. Loy and H. Hofmann (2014), HLMdiag: a suite of diagnostics for hierarchical
linear models in R, Journal of Statistical Software 56(5), and R. Nieuwenhuis, M. te Grotenhuis and
B. Pelzer (2012), influence.ME: tools for detecting influential data in mixed effects models, The R
Journal 4(2), 38-47. With the coefficients beta and their covariance V, and both without a set,

    Cook's distance  d'V^-1 d / p,   d = beta - beta without,        MDFFITS the same by V without,
    COVRATIO  |V without| / |V|,                    COVTRACE  |tr(V^-1 V without) - p|.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.inference.components import components, scale_names
from mixef.inference.influence.deletion import Deleted, Refit, parameters
from mixef.inference.influence.held import Held, at_once, chunks
from mixef.inference.influence.sets import row_sets
from mixef.inference.replicates import in_parallel
from mixef.inference.resampling.bootstrap import each
from mixef.late import picture
from mixef.text.printed import WIDEST, PrintedTable, frame_table
from mixef.text.tables import Table

MEASURES = ("cooks_distance", "mdffits", "covratio", "covtrace")
# Sets that the printed table shows, and that a note names.
SHOWN, NAMED = 10, 5


@dataclass(frozen=True, eq=False, repr=False)
class Influence(PrintedTable):
    """Estimates of a model without each of some sets of rows, made by ``influence``.

    Attributes
    ----------
    formula : str
    groups : str
        What the sets are: a grouping factor, or rows.
    refit : bool
        Whether all parameters were estimated again, or covariance parameters held.
    n : Series (G,)
        Number of rows of each set.
    converged, singular : Series of bool (G,)
        How each search ended.

    Examples
    --------
    >>> from mixef import lmer, load_dataset
    >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    >>> influence = fit.influence("Subject")
    >>> influence.cooks_distance().nlargest(2).round(3).to_dict()
    {'309': 0.149, '335': 0.129}
    >>> influence.dfbetas().loc["309"].round(2).to_dict()
    {'(Intercept)': -0.41, 'Days': -0.31}
    """

    formula: str
    groups: str
    refit: bool
    n: pd.Series
    converged: pd.Series
    singular: pd.Series
    _messages: tuple[str, ...]
    _names: tuple[str, ...]
    _whole: Deleted  # the fit to all rows
    _beta: np.ndarray  # (G, p); NaN where a coefficient is left open
    _vcov: np.ndarray  # (G, p, p)
    _parameters: pd.DataFrame  # (G, c)

    def __len__(self) -> int:
        return len(self._beta)

    @property
    def index(self) -> pd.Index:
        """Labels of the sets."""
        return self.n.index

    @property
    def problems(self) -> pd.Series:
        """What went wrong, by set: searches that failed or did not converge; separation."""
        return self._where([message or None for message in self._messages], "problem")

    @property
    def left_open(self) -> pd.Series:
        """The coefficients that the other rows do not determine, by set that leaves some open."""
        failed = np.isnan(self._beta).all(axis=1) & np.array([bool(m) for m in self._messages])
        open_ = np.isnan(self._beta) & ~failed[:, None]
        names = [
            ", ".join(name for name, lost in zip(self._names, row, strict=True) if lost) or None
            for row in open_
        ]
        return self._where(names, "left_open")

    def fixef(self) -> pd.DataFrame:
        """Return the fixed effects without each set (G, p)."""
        return pd.DataFrame(self._beta.copy(), index=self.index, columns=list(self._names))

    def dfbeta(self) -> pd.DataFrame:
        """Return the fixed effects less those without each set (G, p)."""
        return self._whole.beta - self.fixef()

    def dfbetas(self) -> pd.DataFrame:
        """Return `dfbeta` over the standard errors without the set (G, p).

        lme4's have the other sign.
        """
        errors = np.sqrt(np.einsum("gpp->gp", self._vcov))
        return self.dfbeta() / errors

    def cooks_distance(self) -> pd.Series:
        """Return ``d'V^-1 d / p`` (G,), for d as in `dfbeta` and the covariance V of the fit.

        V is the model's own, whatever `with_vcov` has chosen; d and p are of the coefficients that
        are determined without the set. lme4's carries a factor ``(G - p) / G`` by the number of
        sets, and can be negative.
        """
        return self._series("cooks_distance")

    def mdffits(self) -> pd.Series:
        """Return Cook's distances by the covariance without the set (G,)."""
        return self._series("mdffits")

    def covratio(self) -> pd.Series:
        """Return the determinants of the covariance without each set, over the fit's (G,).

        Above 1 where a set makes the coefficients more precise.
        """
        return self._series("covratio")

    def covtrace(self) -> pd.Series:
        """Return ``|tr(V^-1 V without) - p|`` (G,): 0 where a set leaves precision as it is."""
        return self._series("covtrace")

    def sigma(self) -> pd.Series:
        """Return the residual standard deviations without each set (G,); 1 for a family without."""
        if "sigma" in self._parameters:
            return self._parameters["sigma"].copy()
        ones = np.where(np.isnan(self._parameters).all(axis=1), np.nan, 1.0)
        return pd.Series(ones, index=self.index, name="sigma")

    def varcorr(self) -> pd.DataFrame:
        """Return standard deviations, correlations, and sigma or the like without each set."""
        return self._parameters.copy()

    @property
    def varcorr_of_all(self) -> pd.Series:
        """What `varcorr` is of, by all rows (c,)."""
        return pd.Series(self._whole.parameters, self._parameters.columns, name="of_all")

    def most(self, n: int = SHOWN, by: str = "cooks_distance") -> pd.DataFrame:
        """Return the rows of `to_frame` of the sets that matter most.

        Parameters
        ----------
        n : int
        by : {"cooks_distance", "mdffits", "covratio", "covtrace"} or str
            A measure; a coefficient, by its `dfbetas`; or a parameter of `varcorr`, by its change.
            The largest come first; of covratio, what is farthest from 1.
        """
        n = checks.whole(n, "n")
        known = [*MEASURES, *self._names, *self._parameters]
        name = checks.key(by, "by", known)
        if name in MEASURES:
            size = self._series(name)
            size = np.log(size).abs() if name == "covratio" else size
        elif name in self._names:
            size = self.dfbetas()[name].abs()
        else:
            size = (self._parameters[name] - self.varcorr_of_all[name]).abs()
        order = np.argsort(-size.to_numpy(), kind="stable")  # missing values last
        return self.to_frame().iloc[order[:n]]

    def plot(self, by: str = "cooks_distance", n: int = NAMED, ax: Any = None) -> Any:
        """Draw a measure of every set, with the largest ones labelled.

        The line for Cook's distances is at 4 over the number of sets, and those for `dfbetas` at
        2 over its root on both sides: sets beyond are worth a look.

        Parameters
        ----------
        by : {"cooks_distance", "mdffits", "covratio", "covtrace"} or str
            As in `most`: a measure; a coefficient, for its `dfbetas`; or a parameter of `varcorr`,
            whose value by all rows is a line.
        n : int
            How many of the largest to label.
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Examples
        --------
        >>> from mixef import lmer, load_dataset
        >>> fit = lmer("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
        >>> ax = fit.influence("Subject").plot(n=2)
        >>> [label.get_text() for label in ax.texts]
        ['309', '335']
        """
        return picture("influence.influence")(self, by, n, ax)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a set: rows, measures, dfbetas by coefficient, parameters, converged."""
        columns = {"n": self.n} | {name: self._series(name) for name in MEASURES}
        frame = pd.DataFrame(columns, index=self.index)
        changes = self.dfbetas().add_prefix("dfbetas.")
        ends = pd.DataFrame({"converged": self.converged, "singular": self.singular})
        return pd.concat([frame, changes, self._parameters, ends], axis=1)

    def to_table(self) -> Table:
        """Return the printed table: the sets with the largest Cook's distances."""
        shown = self.most().drop(columns=["covtrace", "converged", "singular", *self._parameters])
        how = "all parameters estimated again" if self.refit else "covariance parameters held"
        table = frame_table(shown, f"Influence of {self.groups} on {self.formula}: {how}", 4)
        return Table(
            table.columns, table.rows, table.index, table.align, table.title, "\n".join(self._notes)
        )

    def _shown(self) -> list[Table]:
        """Return the table as a prompt and a notebook show it: the first columns of many."""
        return [self.to_table().narrow(WIDEST)]

    @property
    def _notes(self) -> list[str]:
        """Lines below the table: large distances, and what went wrong."""
        cooks, G = self.cooks_distance(), len(self)
        large = cooks[cooks > 4.0 / G].sort_values(ascending=False, kind="stable")
        notes = [f"the {SHOWN} largest of {G} Cook's distances"] if G > SHOWN else []
        notes.append(f"Cook's distance above 4/{G} = {4.0 / G:.3g}: {_listed(large.index)}")
        if len(self.left_open):
            open_ = [f"{label} ({names})" for label, names in self.left_open.items()]
            notes.append(f"leave coefficients open: {_listed(open_)}")
        if len(self.problems):
            notes.append(f"problems without: {_listed(self.problems.index)} (see .problems)")
        if self.singular.any():
            notes.append(f"singular without: {_listed(self.index[self.singular])}")
        return notes

    @cached_property
    def _measures(self) -> dict[str, np.ndarray]:
        """The measures (G,), over the coefficients that each set leaves determined."""
        out = {name: np.full(len(self), np.nan) for name in MEASURES}
        known = ~np.isnan(self._beta)
        for pattern in np.unique(known, axis=0) if self._beta.shape[1] else ():
            k, which = np.flatnonzero(pattern), (known == pattern).all(axis=1)
            if not len(k):
                continue
            d = (self._whole.beta - self._beta[which])[:, k]
            V, W = self._whole.vcov[np.ix_(k, k)], self._vcov[which][:, k][:, :, k]
            # Columns in standard errors, so that units cost no digits.
            unit = np.sqrt(V.diagonal())
            d, V, W = d / unit, V / np.outer(unit, unit), W / np.outer(unit, unit)
            ahead = np.linalg.solve(V, d.T).T
            own = np.linalg.solve(W, d[:, :, None])[:, :, 0]
            out["cooks_distance"][which] = np.einsum("gp,gp->g", d, ahead) / len(k)
            out["mdffits"][which] = np.einsum("gp,gp->g", d, own) / len(k)
            ratio = np.linalg.slogdet(W)[1] - np.linalg.slogdet(V)[1]
            out["covratio"][which] = np.exp(ratio)
            trace = np.einsum("gpp->g", np.linalg.solve(V, W))
            out["covtrace"][which] = np.abs(trace - len(k))
        return out

    def _series(self, name: str) -> pd.Series:
        return pd.Series(self._measures[name].copy(), index=self.index, name=name)

    def _where(self, values: list[str | None], name: str) -> pd.Series:
        """Return the texts that are there, by their sets."""
        there = [g for g, value in enumerate(values) if value is not None]
        texts = [values[g] for g in there]
        return pd.Series(texts, index=self.index.take(there), name=name, dtype=object)


def _listed(labels: Any) -> str:
    """List some labels in a note."""
    labels = [", ".join(map(str, x)) if isinstance(x, tuple) else str(x) for x in labels]
    more = len(labels) - NAMED
    shown = ", ".join(labels[:NAMED]) or "none"
    return shown if more <= 0 else f"{shown} and {more} more"


def influence(fit: Fit, groups: Any, refit: bool, n_jobs: int, progress: bool | None) -> Influence:
    """Return the estimates without each set of rows; see the method ``influence``."""
    refit = checks.flag(refit, "refit")
    n_jobs, progress = checks.work(n_jobs, progress)
    sets = row_sets(fit, groups)
    whole = Deleted(fit.estimates.beta, fit.model_vcov, parameters(fit))
    if refit:
        found = each(Refit(fit), sets.rows, n_jobs, progress, "influence")
    else:
        held = Held(fit)
        whole = Deleted(whole.beta, held.vcov, whole.parameters)
        work = chunks(sets.rows, at_once(fit))
        parts = in_parallel(held, work, n_jobs=n_jobs, progress=progress, label="influence")
        found = [one for part in parts for one in part]
    names = [*(part.name for part in components(fit.terms)), *scale_names(fit)]
    index = sets.index

    def series(values: list[Any], name: str) -> pd.Series:
        return pd.Series(values, index=index, name=name)

    return Influence(
        formula=fit.formula.text,
        groups=sets.what,
        refit=refit,
        n=series([len(rows) for rows in sets.rows], "n"),
        converged=series([one.converged for one in found], "converged"),
        singular=series([one.singular for one in found], "singular"),
        _messages=tuple(one.message for one in found),
        _names=fit.fixed_names,
        _whole=whole,
        _beta=np.array([one.beta for one in found]),
        _vcov=np.array([one.vcov for one in found]),
        _parameters=pd.DataFrame([one.parameters for one in found], index=index, columns=names),
    )

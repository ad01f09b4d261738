"""Contrasts of estimates: by a method inside of groups, and contrasts of contrasts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from mixef import checks
from mixef.errors import ArgumentError
from mixef.inference.marginal.coefficients import check_method, coefficients, is_pairwise
from mixef.inference.marginal.linear_functions import CONTRAST, LinearFunctions
from mixef.inference.marginal.printed_means import level_text

M = TypeVar("M", bound=LinearFunctions)
_OPERATORS = re.compile(r"[-+*/]")


def contrasted(means: M, method: Any, ref: Any) -> M:
    """Return contrasts by a method, group by group."""
    scale = means.used_scale
    ratios = scale is not None and scale.ratio is not None
    rows, columns, sizes, blocks = [], [], [], []
    texts = contrast_texts(means)
    if is_pairwise(method):
        pairs = sum(len(group) * (len(group) - 1) // 2 for group in means.groups)
        checks.refuse_beyond_memory(
            pairs * (2 * means.L.shape[1] + 2 * len(means.groups[0])),
            f"there are {pairs:,} pairs of means",
            "coefficients of each; compare inside of groups with by=, or with a control",
        )
    for group in means.groups:
        names, C = coefficients(method, texts[group].tolist(), "/" if ratios else "-", ref)
        blocks.append((group, C))
        columns += names
        rows += [group[0]] * len(names)
        sizes += [len(group)] * len(names)
    labels = pd.DataFrame({"contrast": pd.Series(columns, dtype=object)})
    return _combined(means, labels, blocks, rows, np.array(sizes) if is_pairwise(method) else None)


def _combined(
    means: M,
    labels: pd.DataFrame,
    blocks: Sequence[tuple[np.ndarray, np.ndarray]],
    first: Sequence[int],
    pairs_of: np.ndarray | None,
) -> M:
    """Return combinations of the estimates, of groups of rows (g,) by coefficients (c, g)."""
    if not len(labels):
        raise ArgumentError(
            f"there is one estimate of {', '.join(means.names)} in a group, so there is nothing "
            "to compare; expected two or more: leave out 'by', or give 'at' more values"
        )
    for name in means.by:
        labels[name] = means.labels[name].iloc[list(first)].to_numpy()
    L = np.vstack([_times(C, means.L[rows]) for rows, C in blocks])
    offset = np.concatenate([C @ means.offset[rows] for rows, C in blocks])
    sums = np.concatenate([C.sum(axis=1) for _, C in blocks])
    return replace(
        means, labels=labels, L=L, offset=offset, kind=CONTRAST, pairs_of=pairs_of,
        **_scale_of(means, sums),
    )  # fmt: skip


def _scale_of(means: M, sums: np.ndarray) -> dict[str, Any]:
    """Return the scale that combinations have, by the sums (m,) of their coefficients."""
    if means.scale is None or np.allclose(sums, 1.0, atol=1e-9):
        return {}
    name = means.scale.name
    scale = means.scale.of_differences() if np.allclose(sums, 0.0, atol=1e-9) else None
    notes = tuple(note for note in means.notes if not note.startswith("Note: contrasts"))
    if scale is None and means.on_response:
        notes = (*notes, f"Note: contrasts are still on the {name} scale")
    return {"scale": scale, "notes": notes}


def interaction_contrasts(means: M, interaction: Any) -> M:
    """Return contrasts of contrasts: products of coefficients, one factor of each."""
    methods = checks.names(interaction, "interaction", "a method, or one for each factor")
    methods = [check_method(m) for m in methods]
    factors = means.names
    methods = methods * len(factors) if len(methods) == 1 else methods
    if len(methods) != len(factors):
        raise ArgumentError(
            f"interaction has {len(methods)} methods; expected one, or {len(factors)}: one for "
            f"each of {', '.join(factors)}"
        )
    columns: dict[str, list[str]] = {f"{f}_{m}": [] for f, m in zip(factors, methods, strict=True)}
    blocks, first = [], []
    for group in means.groups:
        C: np.ndarray = np.ones((1, 1))
        labels = pd.DataFrame(index=[0])
        own = means.labels.iloc[group]
        levels = [own[f].drop_duplicates().tolist() for f in factors]
        order = _product_order(own, factors, levels)
        for f, m, at in zip(factors, methods, levels, strict=True):
            names, c = coefficients(m, [level_text(x) for x in at])
            C = np.kron(c, C)  # the first factor is the fastest
            part = pd.DataFrame({f"{f}_{m}": names})
            labels = part.merge(labels, how="cross")
        blocks.append((group[order], C))
        for name in columns:
            columns[name] += labels[name].tolist()
        first += [group[0]] * len(C)
    return _combined(means, pd.DataFrame(columns), blocks, first, None)


def contrast_texts(means: LinearFunctions) -> np.ndarray:
    """Return what each estimate is called in a contrast (m,)."""
    parts = []
    for name in means.names:
        own = [level_text(value) for value in means.labels[name]]
        numeric = all(map(_is_number, own)) and name != "contrast"
        parts.append([f"{name}{text}" if numeric else text for text in own])
    joined = [" ".join(row) for row in zip(*parts, strict=True)]
    if len(means.labels) > 1 and any(_OPERATORS.search(text) for text in joined):
        joined = [f"({text})" if _OPERATORS.search(text) else text for text in joined]
    return np.array(joined, dtype=object)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _times(C: np.ndarray, L: np.ndarray) -> np.ndarray:
    """Return ``C L``, where a row of L that is missing matters only where it is used."""
    missing = ~np.isfinite(L).all(axis=1)
    out = np.asarray(C @ np.where(missing[:, None], 0.0, L))
    out[(C[:, missing] != 0.0).any(axis=1)] = np.nan
    return out


def _product_order(
    labels: pd.DataFrame, factors: Sequence[str], levels: Sequence[list[Any]]
) -> np.ndarray:
    """Return the rows of all combinations of levels, the first factor fastest."""
    place = {row: i for i, row in enumerate(labels[list(factors)].itertuples(False, None))}
    combinations = list(_combinations(levels))
    absent = [c for c in combinations if c not in place]
    if absent:
        raise ArgumentError(
            f"interaction contrasts need all combinations of {', '.join(factors)}, but "
            f"{', '.join(map(str, absent[0]))} is not among the estimates; compare inside of "
            "groups, with by="
        )
    return np.array([place[c] for c in combinations])


def _combinations(levels: Sequence[list[Any]]) -> Iterator[tuple[Any, ...]]:
    """Yield combinations of levels, the first factor fastest."""
    if not levels:
        yield ()
        return
    for later in _combinations(levels[1:]):
        for level in levels[0]:
            yield (level, *later)

"""The names of the models that a function of several is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixef import checks


def names_of_models(
    models: Sequence[Any], given: Sequence[str] | None, env: Mapping[str, Any]
) -> list[str]:
    """Return distinct names of models: given ones, or the caller's."""
    if given is not None:
        expected = f"{len(models)} names that differ, one for each model"
        names = checks.names(given, "model_names", expected)
        if len(names) != len(models) or len(set(names)) < len(names):
            raise checks.refusal("model_names", given, expected)
        return names
    found = [_name_of(model, env) for model in models]
    distinct = None not in found and len(set(found)) == len(found)
    if distinct:
        return [str(name) for name in found]
    return [
        f"model {i + 1}" if name is None or found.count(name) > 1 else name
        for i, name in enumerate(found)
    ]


def _name_of(model: Any, env: Mapping[str, Any]) -> str | None:
    names = (name for name, value in env.items() if value is model)
    return next((name for name in names if name.isidentifier() and name[0] != "_"), None)

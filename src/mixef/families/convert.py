"""The reading of whatever a user gives as a family."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mixef.checks import either, shown
from mixef.errors import ArgumentError
from mixef.families.family import Family
from mixef.families.standard import FAMILIES, NAMES, NegativeBinomial
from mixef.hints import CATEGORIES

_CALL = re.compile(r"\s*(?P<name>[A-Za-z][\w. ]*?)\s*(?:\((?P<arguments>.*)\))?\s*")
_ARGUMENT = re.compile(r"\s*(?:(?P<key>\w+)\s*=)?\s*(?P<quote>['\"]?)(?P<value>.*?)(?P=quote)\s*")
# statsmodels' families that R has; its negative binomial has a dispersion alpha = 1 / shape.
_STATSMODELS = ("Binomial", "Poisson", "Gamma", "InverseGaussian", "Gaussian")
_NAMES = f"{either(NAMES).replace(' or ', ' and ')} (with a link: 'binomial(probit)')"


def make_family(spec: Any) -> Family:
    """Return the family that a user means.

    Parameters
    ----------
    spec : Family, type, str or object
        A family or its class; R's name of one, with the link in brackets if it is not the
        default (``"Gamma(link='log')"``; ``"nbinom2"`` estimates the shape,
        ``"negative.binomial(2)"`` knows it); or a family of statsmodels or its class.

    Returns
    -------
    Family

    Raises
    ------
    ValueError
        If there is no such family, or it has no likelihood.

    Examples
    --------
    >>> from mixef.families.convert import make_family
    >>> make_family("binomial(probit)")
    Binomial(link='probit')
    >>> make_family("negative.binomial(theta = 2, link = 'sqrt')")
    NegativeBinomial(shape=2.0, link='sqrt')
    """
    if isinstance(spec, Family):
        return spec
    if isinstance(spec, str):
        return _from_name(spec)
    cls = spec if isinstance(spec, type) else type(spec)
    if issubclass(cls, Family):
        return _from_class(cls)
    if cls.__module__.split(".")[0] == "statsmodels":
        return _from_statsmodels(spec)
    raise ArgumentError(
        f"family is {shown(spec)}; expected one of {_NAMES}, or a Family such as Binomial()"
    )


def _from_class(cls: Callable[..., Family]) -> Family:
    try:
        return cls()
    except TypeError:
        raise ArgumentError(
            f"family is the class {cls!r}, which needs arguments; expected an object made of it"
        ) from None


# Families of other packages for responses of more than two categories.
_OF_CATEGORIES = ("ordinal", "ordered", "cumulative", "multinomial", "categorical")


@lru_cache(maxsize=64)
def _from_name(text: str) -> Family:
    call = _CALL.fullmatch(text)
    name = call["name"].lower() if call else ""
    if name.startswith("quasi"):
        raise ArgumentError(
            f'"quasi" families cannot be used in glmer (family is {text!r}): they have no '
            "likelihood. For overdispersed counts use the family 'nbinom2', or add a random effect "
            "for each observation, (1 | obs), to 'binomial' or 'poisson'"
        )
    if call is None or name not in FAMILIES:
        why = f": {CATEGORIES}" if name in _OF_CATEGORIES else ""
        raise ArgumentError(f"there is no family {text!r}{why}; the families are {_NAMES}")
    cls = FAMILIES[name]
    parameters = ("shape", "link") if cls is NegativeBinomial else ("link",)
    given: dict[str, Any] = {}
    for piece in (call["arguments"] or "").split(","):
        if piece.strip():
            given_key, value = _argument(piece)
            # The shape is a number, so that a lone link need not be named.
            place = "shape" if _is_float(value) and "shape" in parameters else "link"
            key = {"theta": "shape", None: place}.get(given_key, str(given_key))
            if key not in parameters or key in given:
                raise ArgumentError(
                    f"cannot read {piece.strip()!r} in the family {text!r}; expected "
                    f"{' and '.join(parameters)}, each once, as in \"{name}(link='log')\""
                )
            given[key] = float(value) if key == "shape" and _is_float(value) else value
    return cls(**given)


def _argument(piece: str) -> tuple[str | None, str]:
    match = _ARGUMENT.fullmatch(piece)
    assert match is not None  # every part of the pattern may be empty
    return match["key"], match["value"]


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_statsmodels(spec: Any) -> Family:
    """Return our family for statsmodels' one; its class stands for the family with R's link."""
    is_class = isinstance(spec, type)
    name = spec.__name__ if is_class else type(spec).__name__
    if name == "NegativeBinomial":
        return NegativeBinomial() if is_class else NegativeBinomial(1.0 / spec.alpha, spec.link)
    if name in _STATSMODELS:
        cls: Callable[..., Family] = FAMILIES[name.lower()]
        return cls() if is_class else cls(spec.link)
    raise ArgumentError(
        f"statsmodels' family {name} is not one that mixef has; the families are {_NAMES}; write "
        "another one as UserFamily(name, link, variance=..., log_density=...)"
    )

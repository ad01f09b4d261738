"""What one check of a model has found."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, WARNING = "ok", "note", "warning"
# p values up to these are worth a note, and a warning.
NOTED, WARNED = 0.05, 0.01


@dataclass(frozen=True)
class Finding:
    """What one check has found."""

    check: str
    status: str  # "ok", "note" or "warning"
    value: float  # the number that it goes by; NaN for none
    message: str
    remedy: str = ""


def by_p_value(p: float) -> str:
    """Return the status of a test's p value."""
    return OK if not p <= NOTED else NOTE if p > WARNED else WARNING


def counted(n: float, what: str) -> str:
    """Return a number of things."""
    return f"{n:g} {what}{'' if n == 1 else 's'}"


def with_remedy(check: str, text: str, value: float, status: str = WARNING) -> Finding:
    """Return a finding from a message of the package, whose last clause is the remedy."""
    message, _, remedy = text.rpartition("; ")
    return Finding(check, status, value, message or remedy, remedy if message else "")


def shown_p(p: float) -> str:
    """Return a p value as text: ``p = 0.0415``, ``p < 1e-15``."""
    return f"p = {p:.3g}" if p >= 1e-15 else "p < 1e-15"

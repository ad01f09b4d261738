"""Confidence intervals and profiles of a fitted model."""

from __future__ import annotations

from mixef.methods.base import Methods


class IntervalMethods(Methods):
    """Confidence intervals and profiles of a fitted model."""

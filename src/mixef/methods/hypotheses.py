"""Hypothesis tests of a fitted model."""

from __future__ import annotations

from mixef.methods.base import Methods


class HypothesisMethods(Methods):
    """Hypothesis tests of a fitted model."""

"""Simulation from a fitted model, and what is built on it."""

from __future__ import annotations

from mixef.methods.base import Methods


class SimulationMethods(Methods):
    """Simulation from a fitted model, and what is built on it."""

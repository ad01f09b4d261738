"""Tables of tests of a fitted model's terms."""

from __future__ import annotations

from mixef.methods.base import Methods


class AnovaMethods(Methods):
    """Tables of tests of a fitted model's terms."""

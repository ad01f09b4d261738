"""What is asked of estimates: limits, tests, their side, null values and margins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mixef import checks

LIMITS, TESTS, BOTH = "limits", "tests", "both"
_SIDES: dict[Any, int] = {
    "two-sided": 0, "both": 0, "equivalence": 0, "=": 0, "!=": 0, "0": 0,
    "less": -1, "left": -1, "<": -1, "lower": -1, "-1": -1, "nonsup": -1, "non-superiority": -1,
    "nonsuperiority": -1, "greater": 1, "right": 1, ">": 1, "upper": 1, "1": 1, "noninf": 1,
    "non-inferiority": 1, "noninferiority": 1,
}  # fmt: skip
EXPECTED = "'two-sided', '<' ('nonsup') or '>' ('noninf')"


def check_side(value: Any) -> int:
    """Return the side of a test: 0 for both, -1 for left, 1 for right."""
    if isinstance(value, int) and not isinstance(value, bool) and value in (-1, 0, 1):
        return value
    if isinstance(value, str) and value.strip().lower().replace("_", "-") in _SIDES:
        return _SIDES[value.strip().lower().replace("_", "-")]
    raise checks.refusal("side", value, EXPECTED)


@dataclass(frozen=True)
class Question:
    """What is asked of estimates."""

    level: float = 0.95
    adjust: str = "none"
    null: float = 0.0
    #: Margin of tests of equivalence, non-inferiority or non-superiority; 0 for tests of a
    #: difference.
    delta: float = 0.0
    side: int = 0
    shows: str = LIMITS  # what is printed: limits, tests or both

    @property
    def tail(self) -> int:
        """Which statistics speak against the null hypothesis: 0 large ones, of both signs."""
        return -1 if self.side == 0 and self.delta else self.side

    @property
    def notes(self) -> list[str]:
        """What is said below the table about the tests."""
        kinds = {0: "equivalence", -1: "nonsuperiority", 1: "noninferiority"}
        out = []
        if self.delta:
            margin = f"{self.delta:g}"
            out.append(f"Statistics are tests of {kinds[self.side]} with a threshold of {margin}")
        if self.tail:
            out.append(f"P values are {'left' if self.tail < 0 else 'right'}-tailed")
        return out

"""The frame of a table with a response that is drawn anew whenever its rows are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from mixef.errors import RowsElsewhereError
from mixef.terms.frame import ModelFrame
from mixef.terms.relation.frame import RelationFrame


class Reading(Protocol):
    """One reading of the rows, which gives them their responses batch after batch."""

    def with_response(self, frame: ModelFrame) -> ModelFrame:
        """Return the next batch of rows with its response."""

    def finish(self) -> None:
        """Refuse rows that came in another order than in other readings."""


@dataclass(frozen=True, eq=False)
class DrawnFrame(RelationFrame):
    """A frame of a table with another response, which belongs to the order of the rows."""

    is_ordered = True

    begin: Callable[[], Reading] = field(kw_only=True, repr=False)

    def batches(self) -> Iterator[ModelFrame]:
        """Yield the rows with their drawn response."""
        reading = self.begin()
        for frame in super().batches():
            yield reading.with_response(frame)
        reading.finish()

    def of_batch(self, batch: Any) -> ModelFrame:
        """Refuse a batch by itself: nobody knows which rows came before it."""
        raise RowsElsewhereError(
            f"values of the rows of a replicate are not made in {self.relation.engine}: its "
            "response is drawn row after row; write simulated responses to a table, and fit the "
            "model to these"
        )


def drawn_frame(frame: RelationFrame, begin: Callable[[], Reading]) -> DrawnFrame:
    """Return a frame with a drawn response, whose sums no engine can take."""
    own = {f.name: getattr(frame, f.name) for f in fields(RelationFrame)}
    return DrawnFrame(**own | {"complete": None}, begin=begin)

"""A sample of the rows of a fit, where an engine has them: what pictures of rows are drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mixef import checks
from mixef.estimation.fit import Fit
from mixef.late import LateModule
from mixef.terms.relation.engines import as_batch

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = LateModule("pyarrow")

#: Rows that a picture shows about as well as all of them.
ENOUGH = 10_000


def sampled(fit: Fit, seed: int | np.random.Generator | None) -> Fit:
    """Return the fit on a random sample of its rows, by one reading of them; itself in memory.

    Every row is in the sample by the same chance, and all of them where they are few.
    """
    if fit.frame.in_memory:
        return fit
    frame: Any = fit.frame
    rng, share = checks.generator(seed), ENOUGH / frame.n
    parts = []
    for batch in frame.relation.batches():
        chosen = np.flatnonzero(rng.random(batch.num_rows) < share)
        parts.append(batch.take(pa.array(chosen)))
    return fit.on_batch(frame.of_batch(as_batch(pa.Table.from_batches(parts).unify_dictionaries())))

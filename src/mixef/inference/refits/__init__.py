"""Further fits: of other responses, smaller models, other optimizers, single groups."""

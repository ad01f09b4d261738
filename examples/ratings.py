"""A million ratings: 10,000 readers by 10,000 books, fitted without a Cholesky factor.

Crossed factors of so many levels have a factor of a hundred million numbers. The iterative one
solves with the penalized cross-products by conjugate gradients and estimates ``log|M|`` by random
vectors; estimates are those of the exact factor, and the criterion is known up to a standard error
that the fit states.
"""

import time

import numpy as np
import pandas as pd

from mixef import LmerControl, anova, lmer

READERS, BOOKS, ROWS = 10_000, 10_000, 1_000_000
SDS = {"reader": 0.5, "book": 0.6, "residual": 1.0}

rng = np.random.default_rng(1)
reader = (READERS * rng.random(ROWS) ** 1.5).astype(int)  # some read much more than others
book = (BOOKS * rng.random(ROWS) ** 2).astype(int)  # and some books are read by most
age = rng.normal(size=ROWS)
rating = (
    3.5
    + 0.2 * age
    + SDS["reader"] * rng.normal(size=READERS)[reader]
    + SDS["book"] * rng.normal(size=BOOKS)[book]
    + SDS["residual"] * rng.normal(size=ROWS)
)
ratings = pd.DataFrame({"rating": rating, "age": age, "reader": reader, "book": book})

start = time.perf_counter()
control = LmerControl(factor="iterative")  # what "auto" takes for data of this size
fit = lmer("rating ~ age + (1 | reader) + (1 | book)", ratings, control=control)
print(f"{ROWS:,} ratings in {time.perf_counter() - start:.0f} s\n")
print(fit.summary())
print(f"\nThe criterion is {fit.objective:.3f} with a standard error of {fit.objective_se:.3f}.")

print("\nIs age needed? The likelihoods are known well enough for that:")
print(anova(fit, fit.update(". ~ . - age")))

print("\nThe best books, and what a new reader would give the first of them")
best = fit.ranef()["book"]["(Intercept)"].nlargest(3)
print(best)
new = pd.DataFrame({"age": [0.0], "reader": ["new"], "book": [best.index[0]]})
print(fit.predict(new, new_levels="population", interval="prediction"))

found = fit.VarCorr().to_frame()["sdcor"].to_numpy()
assert np.allclose(np.sort(found), np.sort(list(SDS.values())), rtol=0.03), found
assert fit.converged
assert fit.objective_se < 0.01

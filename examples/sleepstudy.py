"""Reaction times after nights of little sleep: the first model of every mixed-model text."""

import time

from mixef import lmer, load_dataset

sleepstudy = load_dataset("sleepstudy")

# Each subject has an intercept and a slope over the days, and the two may be correlated.
start = time.perf_counter()
fit = lmer("Reaction ~ Days + (Days | Subject)", sleepstudy)
elapsed = time.perf_counter() - start
print(fit.summary())

print(f"\nfirst fit (compiles and loads): {1000 * elapsed:.1f} ms")
start = time.perf_counter()
fit = lmer("Reaction ~ Days + (Days | Subject)", sleepstudy)
print(f"second fit: {1000 * (time.perf_counter() - start):.1f} ms")

# What the model says of single subjects.
print("\nIntercept and slope of the first subjects:")
print(fit.coef()["Subject"].head())

# Is the correlation needed? Both fitted by maximum likelihood, compared by their likelihoods.
correlated = lmer("Reaction ~ Days + (Days | Subject)", sleepstudy, REML=False)
independent = lmer("Reaction ~ Days + (Days || Subject)", sleepstudy, REML=False)
print("\nAkaike's criterion, with and without the correlation:")
print(f"{correlated.aic:.2f} {independent.aic:.2f}")

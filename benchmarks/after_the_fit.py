"""Time what is read off a fit beside R: ``python -m benchmarks.after_the_fit --help``.

Tasks and their times are as in `inference`; `after_the_fit.R` holds the same ones in R.
"""

from __future__ import annotations

from typing import Any

from benchmarks.inference import Task, herds, main, ratings, sleep
from mixef import lmer, load_dataset


def some_ratings() -> Any:
    """Fit the ratings by the first hundred students, whom R can leave out one by one."""
    ratings = load_dataset("InstEval")
    few = ratings[ratings["s"].cat.codes < 100]
    return lmer("y ~ service + (1 | s) + (1 | d)", few)


INFLUENCE = (
    Task("hatvalues_InstEval", ratings, lambda fit: fit.hatvalues(), seconds=2.0),
    Task("influence_sleepstudy", sleep, lambda fit: fit.influence("Subject").most(), ratio=0.5),
    Task("influence_cbpp", herds, lambda fit: fit.influence("herd").most(), ratio=0.5),
    Task("influence_100_students", some_ratings, lambda fit: fit.influence("s").most(), ratio=0.5),
    Task(
        "influence_held_InstEval",
        ratings,
        lambda fit: fit.influence("s", refit=False).most(),
        seconds=60.0,
        in_R=False,
    ),
)


def cells() -> Any:
    """Fit the ratings by two hundred students, in 28 cells of service and department."""
    ratings = load_dataset("InstEval")
    few = ratings[ratings["s"].cat.codes < 200]
    return lmer("y ~ service * dept + (1 | s) + (1 | d)", few)


def cake() -> Any:
    """Fit the angles of cakes, in 18 cells of recipe and temperature."""
    formula = "angle ~ recipe * temperature + (1 | recipe:replicate)"
    return lmer(formula, load_dataset("cake"))


def pairs(fit: Any) -> Any:
    """Compare all pairs of 28 means by Tukey's rule, with limits."""
    return fit.emmeans(["service", "dept"]).pairs().summary().to_frame()


def pairs_kr(fit: Any) -> Any:
    """Compare all pairs of 18 means, with Kenward and Roger's degrees of freedom."""
    means = fit.emmeans(["recipe", "temperature"], ddf="kenward-roger")
    return means.pairs().summary().to_frame()


MEANS = (
    Task(
        "emmeans_28_cells",
        cells,
        lambda fit: fit.emmeans(["service", "dept"]).to_frame(),
        ratio=0.5,
    ),
    Task("pairs_28_cells", cells, pairs, ratio=0.5),
    Task("pairs_18_cells_kr", cake, pairs_kr, ratio=0.5),
)
TASKS = (*INFLUENCE, *MEANS)

if __name__ == "__main__":
    main("after_the_fit", TASKS)

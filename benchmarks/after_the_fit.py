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
TASKS = (*INFLUENCE,)

if __name__ == "__main__":
    main("after_the_fit", TASKS)

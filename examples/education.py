"""Gains in mathematics: children in classrooms in schools.

West, Welch and Galecki (2007, chapter 4) analyse how much 1190 children of 312 classrooms of 107
schools gained in mathematics from kindergarten to first grade (Hill, Rowan and Ball 2005): where
the gains vary, and what they go with.

    python examples/education.py [FIGURE]
"""

import sys
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt

from mixef import anova, etable, lmer, load_dataset, ranova

children = load_dataset("classroom")

# Where the variation is, before anything explains it: between schools, between the classrooms of a
# school, between the children of a classroom.
empty = lmer("mathgain ~ 1 + (1 | schoolid / classid)", children)
print(empty.icc(by_group=True))

# What is known of the children.
child = lmer("mathgain ~ mathkind + sex + minority + ses + (1 | schoolid / classid)", children)
print("", child.summary(correlation=False), sep="\n")
print("", ranova(child), sep="\n")

# What is known of schools: the share of poor households. Fits are compared by maximum likelihood.
school = child.update(". ~ . + housepov")
print("", anova(child, school), sep="\n")

# What teachers know: 109 children are of teachers who were not tested, and are left out.
teacher = child.update(". ~ . + mathknow + yearstea + mathprep")
print("", teacher.left_out, sep="\n")
print(teacher.drop1(test="F"))

print("", etable(empty, child, school, teacher, ddf="satterthwaite"), sep="\n")

# The figure: gains by the socioeconomic status of a child, at the mean of all else, so without the
# data, where status goes with what children knew before; and the schools in order.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
child.plot.effects("ses", by="minority", at={"minority": [0, 1]}, data=False, ax=left)
child.plot.caterpillar("schoolid", ax=right)

# The sentence.
row = child.tidy(conf_int=True).set_index("term").loc["ses"]
shares = child.icc(by_group=True).to_frame()["adjusted"]
sentence = (
    f"A child whose status is one unit higher gained {row.estimate:.1f} points more "
    f"(95% CI {row.conf_low:.1f} to {row.conf_high:.1f}, t({row.df:.0f}) = {row.statistic:.2f}, "
    f"p = {row.p_value:.1g}); of the variance that the children's own measures leave, "
    f"{shares['schoolid']:.0%} is between schools and {shares['classid:schoolid']:.0%} between the "
    "classrooms of a school."
)
print("", textwrap.fill(sentence, 90), sep="\n")
path = Path(*sys.argv[1:2] or [tempfile.gettempdir(), "education.png"])
figure.savefig(path)
print(f"Figure: {path}")

"""How well does a mixed model predict? It depends on whether the groups are known."""

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, cross_validate

from mixef import load_dataset
from mixef.sklearn import MixedModelClassifier, MixedModelRegressor

sleepstudy = load_dataset("sleepstudy")
X, y, subjects = sleepstudy[["Days", "Subject"]], sleepstudy["Reaction"], sleepstudy["Subject"]
FOLDS = {
    "other days of known subjects": {"cv": KFold(6, shuffle=True, random_state=1)},
    "new subjects": {"cv": GroupKFold(6), "groups": subjects},
}


def error(model, columns, how):
    """The root mean square error over folds, in ms."""
    squares = cross_val_score(model, columns, y, scoring="neg_mean_squared_error", **how)
    return np.sqrt(-squares.mean())


# Random effects help where the group is known. A new subject gets the mean line, and so it makes no
# difference that there are random effects.
models = {
    "a line for all": (LinearRegression(), X[["Days"]]),
    "a level for each": (MixedModelRegressor("~ Days + (1 | Subject)"), X),
    "a line for each": (MixedModelRegressor("~ Days + (Days | Subject)"), X),
}
table = {
    name: {what: error(model, columns, how) for what, how in FOLDS.items()}
    for name, (model, columns) in models.items()
}
print("Root mean square error of predicted reaction times, in ms:\n")
print(pd.DataFrame(table).T.round(1))

# A search over formulas, by the prediction of other days.
formulas = [
    "~ Days + (1 | Subject)",
    "~ Days + (Days | Subject)",
    "~ poly(Days, 2) + (Days | Subject)",
]
folds = KFold(5, shuffle=True, random_state=1)
search = GridSearchCV(MixedModelRegressor(), {"formula": formulas}, cv=folds).fit(X, y)
print(f"\nBest of the formulas: {search.best_params_['formula']!r}, R2 {search.best_score_:.3f}")
print(search.best_estimator_.model_.VarCorr())

# Classes, in districts that the model has not seen.
women = load_dataset("Contraception")
classifier = MixedModelClassifier("use ~ age + I(age^2) + urban + livch + (1 | district)")
how = {"groups": women["district"], "cv": GroupKFold(5), "scoring": ["accuracy", "neg_log_loss"]}
print("\nWomen of new districts:         accuracy  log loss")
for model in (DummyClassifier(), classifier):
    scores = cross_validate(model, women, women["use"], **how)
    right, loss = scores["test_accuracy"].mean(), -scores["test_neg_log_loss"].mean()
    print(f"  {type(model).__name__:30}{right:8.3f}{loss:10.3f}")

"""The classifier where none is given: a random forest, and how right it is on rows that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.blackbox.rows import Rows

_TREES, _FOLDS = 300, 5


@dataclass(frozen=True, eq=False)
class Validated:
    """A forest fitted to all rows, and what others like it say of rows that they were not fitted to.

    Attributes:
        forest: a `RandomForestClassifier` of 300 trees.
        said: (n,), what is said of each row by a forest that has not seen it; None where a class has a single row.
        accuracy: how often that is right, in [0, 1]; NaN without.
        balanced: the mean of that over classes.
        majority: how often the most frequent class is right.
    """

    forest: Any
    said: NDArray[Any] | None
    accuracy: float
    balanced: float
    majority: float


def validated_forest(rows: Rows, labels: NDArray[Any], seed: int) -> Validated:
    """Fit a random forest (Breiman 2001), and cross-validate it: five folds, or as many as the smallest class has rows.

    Args:
        rows: (n, d).
        labels: (n,).
        seed: of the forest and the folds.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    def make() -> Any:
        return RandomForestClassifier(_TREES, random_state=seed)

    counts = np.unique(labels, return_counts=True)[1]
    forest = make().fit(rows, labels)
    majority, folds = float(counts.max() / len(labels)), min(_FOLDS, int(counts.min()))
    if folds < 2:
        return Validated(forest, None, float("nan"), float("nan"), majority)
    said = cross_val_predict(make(), rows, labels, cv=StratifiedKFold(folds, shuffle=True, random_state=seed))
    balanced = float(balanced_accuracy_score(labels, said))
    return Validated(forest, np.asarray(said), float(np.mean(said == labels)), balanced, majority)


__all__ = ["Validated", "validated_forest"]

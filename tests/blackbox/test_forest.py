"""The forest where no classifier is given: what is said of how right it is, against a count by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold

from visavis.blackbox import forest
from visavis.blackbox.forest import validated_forest

TREES = 8


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forest, "_TREES", TREES)


def table(counts: tuple[int, ...] = (40, 25, 12), seed: int = 3) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    labels = np.repeat([f"class {place}" for place in range(len(counts))], counts)
    rows = generator.normal(size=(len(labels), 3)) + 0.8 * np.repeat(np.arange(len(counts)), counts)[:, None]
    order = generator.permutation(len(labels))
    return rows[order], labels[order]


@pytest.mark.parametrize(("counts", "folds"), [((40, 25, 12), 5), ((40, 25, 3), 3), ((40, 2), 2)])
def test_each_row_is_judged_by_a_forest_that_has_not_seen_it(counts: tuple[int, ...], folds: int) -> None:
    rows, labels = table(counts)
    found = validated_forest(rows, labels, 7)
    said = np.empty_like(labels)
    for known, left in StratifiedKFold(folds, shuffle=True, random_state=7).split(rows, labels):
        said[left] = RandomForestClassifier(TREES, random_state=7).fit(rows[known], labels[known]).predict(rows[left])
    assert found.said is not None
    assert found.said.tolist() == said.tolist()
    right = [one == other for one, other in zip(said, labels, strict=True)]
    assert found.accuracy == pytest.approx(sum(right) / len(right))
    by_class = [np.mean([hit for hit, name in zip(right, labels, strict=True) if name == own]) for own in set(labels)]
    assert found.balanced == pytest.approx(sum(by_class) / len(counts))
    assert found.majority == pytest.approx(max(counts) / sum(counts))
    if counts == (40, 25, 12):
        # The three numbers are not one and the same.
        assert len({round(one, 6) for one in (found.accuracy, found.balanced, found.majority)}) == 3
        # A forest is right in nearly all that it has seen, and these are not such.
        assert found.accuracy < np.mean(found.forest.predict(rows) == labels)


def test_the_forest_has_seen_all_rows() -> None:
    rows, labels = table()
    new = table(seed=4)[0]
    found = validated_forest(rows, labels, 7)
    own = RandomForestClassifier(TREES, random_state=7).fit(rows, labels)
    assert len(found.forest.estimators_) == TREES
    np.testing.assert_array_equal(found.forest.predict_proba(new), own.predict_proba(new))


def test_three_hundred_trees_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    rows, labels = table((6, 1))
    assert len(validated_forest(rows, labels, 0).forest.estimators_) == 300


def test_a_class_with_a_single_row_cannot_be_left_out() -> None:
    rows, labels = table((20, 5, 1))
    found = validated_forest(rows, labels, 0)
    assert found.said is None
    assert math.isnan(found.accuracy)
    assert math.isnan(found.balanced)
    assert found.majority == pytest.approx(20 / 26)
    assert set(found.forest.classes_) == set(labels)


def test_numbers_as_classes() -> None:
    rows, labels = table()
    numbers = np.unique(labels, return_inverse=True)[1]
    found, named = validated_forest(rows, numbers, 7), validated_forest(rows, labels, 7)
    assert found.said is not None
    assert found.said.dtype.kind == "i"
    assert (found.accuracy, found.balanced) == (named.accuracy, named.balanced)


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    rows, labels = table()
    new = table(seed=4)[0]
    one, same, other = (validated_forest(rows, labels, seed) for seed in (1, 1, 2))
    assert one.said is not None
    assert other.said is not None
    assert one.said.tolist() == same.said.tolist()
    np.testing.assert_array_equal(one.forest.predict_proba(new), same.forest.predict_proba(new))
    assert one.said.tolist() != other.said.tolist()
    assert (one.forest.predict_proba(new) != other.forest.predict_proba(new)).any()

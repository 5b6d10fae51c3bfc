"""What a classifier says: labels of any kind as one array, what is none refused, and many rows in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from visavis.blackbox import asked
from visavis.blackbox.asked import Asked, checked_labels
from visavis.blackbox.foils import class_of
from visavis.errors import InputError

GIVEN = [
    (["a", "bb"], ["a", "bb"]),
    ([1, 0], [1, 0]),
    ([1.0, 2.0], [1.0, 2.0]),
    (np.array([[3], [4]]), [3, 4]),
    (np.array(["a", "bb"], dtype=object), ["a", "bb"]),
    (np.array([True, False], dtype=object), [True, False]),
    (torch.tensor([5, 6]), [5, 6]),
    (torch.tensor([1.0, 0.0], requires_grad=True), [1.0, 0.0]),
    (pd.Series(["a", "bb"]), ["a", "bb"]),
    (pd.Categorical(["a", "bb"]), ["a", "bb"]),
]


@pytest.mark.parametrize(("given", "expected"), GIVEN, ids=lambda one: type(one).__name__)
def test_labels(given: Any, expected: list[Any]) -> None:
    found = checked_labels(given, 2)
    assert found.tolist() == expected
    assert found.dtype.kind != "O"


WRONG = [
    ([1, 2, 3], r"gives \(3,\) for 2 rows, but one label a row"),
    (np.eye(2), r"gives \(2, 2\) .* of scores give the class: lambda rows: f\(rows\).argmax\(1\)"),
    (3, r"gives \(\) for 2 rows"),
    ([0.5, 1.0], "no whole ones, as a regression does"),
    ([np.nan, 1.0], "no whole ones"),
    ([np.inf, 1.0], "no whole ones"),
    (["a", None], "no label for some rows"),
    (np.array(["a", float("nan")], dtype=object), "no label for some rows"),
    (np.array(["a", 1], dtype=object), r"several kinds \(int, str\)"),
]


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_no_label(given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        checked_labels(given, 2)


def test_many_rows_are_asked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "_AT_ONCE", 4)
    sizes: list[int] = []

    def classifier(rows: Any) -> Any:
        sizes.append(len(rows))
        return np.where(rows[:, 0] > 4, "a long name", "b")

    rows = np.arange(20.0).reshape(10, 2)
    found = Asked(classifier, (2,))(rows)
    assert sizes == [4, 4, 2]
    assert found.tolist() == ["b"] * 3 + ["a long name"] * 7


@pytest.mark.parametrize("thing", [None, "svm", 7, np.zeros(3), {"predict": 1}], ids=str)
def test_what_is_no_classifier(thing: Any) -> None:
    with pytest.raises(InputError, match="an estimator with `predict`, a function from rows to labels, or a torch mod"):
        Asked(thing, (2,))


def test_predict_goes_before_a_call() -> None:
    class Both:
        def predict(self, rows: Any) -> Any:
            return [1] * len(rows)

        def __call__(self, rows: Any) -> Any:
            return [2] * len(rows)

    assert Asked(Both(), (2,))(np.zeros((3, 2))).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("label", "classes", "found"),
    [
        ("1", [0, 1], 1),
        (1.0, [0, 1], 1),
        ("True", [False, True], True),
        (np.str_("a"), ["a", "b"], "a"),
        (2, ["1", "2"], "2"),
    ],
    ids=str,
)
def test_a_class_as_a_shell_names_it(label: Any, classes: list[Any], found: Any) -> None:
    one = class_of(label, np.array(classes), "foil")
    assert one == found
    assert type(one) is type(found)

"""The mimic as an estimator: scikit-learn's checks, and its probabilities by the kernel sums of rows scaled by hand."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from blackbox.plain import blobs, shares
from visavis.blackbox import ParzenMimic, mimic
from visavis.errors import InputError


@parametrize_with_checks([ParzenMimic()])
def test_the_conventions_of_scikit_learn(estimator: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where annotations go unchecked, as they do for users: one of the checks sets every parameter to −1.
    monkeypatch.setattr(ParzenMimic, "__init__", inspect.unwrap(ParzenMimic.__init__))
    check(estimator)


def table(classes: int = 2) -> tuple[Any, Any, Any]:
    points, labels = blobs(40, 3, classes)
    units = np.array([1.0, 30.0, 0.01])
    return points * units + 5 * units, labels, blobs(8, 3, 2, seed=1)[0] * units + 5 * units


@pytest.mark.parametrize("scale", ["standard", "none", [2.0, 10.0, 0.05]], ids=str)
@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_in_units_of_the_scale(scale: Any, classes: int) -> None:
    points, labels, rows = table(classes)
    found = ParzenMimic(0.8, scale=scale).fit(points, labels)
    deviations = np.sqrt(((points - points.mean(0)) ** 2).mean(0))
    units = {"standard": deviations, "none": np.ones(3)}[scale] if isinstance(scale, str) else np.array(scale)
    expected = np.array([shares(row / units, points / units, labels, 0.8) for row in rows if scale != "none"])
    if scale == "none":
        # Thirty units and more from everything: the plain sums underflow, the nearest decides.
        apart = ((rows[:, None] - points) ** 2).sum(2)
        assert found.predict(rows).tolist() == labels[apart.argmin(1)].tolist()
        return
    np.testing.assert_allclose(found.predict_proba(rows), expected, rtol=1e-9)
    np.testing.assert_allclose(found.predict_log_proba(rows), np.log(expected), rtol=1e-9, atol=1e-13)
    assert found.predict(rows).tolist() == expected.argmax(1).tolist()
    assert found.score(points, labels) == np.mean(found.predict(points) == labels)


def test_the_bandwidth_bites() -> None:
    points, labels, rows = table()
    one, other = (ParzenMimic(width).fit(points, labels) for width in (0.3, 2.0))
    assert (one.bandwidth_, other.bandwidth_) == (0.3, 2.0)
    assert abs(one.predict_proba(rows) - other.predict_proba(rows)).max() > 0.1


def test_a_feature_that_does_not_vary_is_measured_in_its_own_units() -> None:
    """Nor is what rounding leaves, some 1e-17 of 0.1, a unit to measure in."""
    points, labels, _ = table()
    points[:, 2] = 0.1
    points[::2, 2] = np.nextafter(0.1, 1)
    found = ParzenMimic(1.0).fit(points, labels)
    assert found.scaling_.scale[2] == 1.0
    moved = points.copy()
    moved[:, 2] += 0.5
    np.testing.assert_allclose(found.predict_proba(moved), found.predict_proba(points), rtol=1e-9)


LABELS = [
    ["no", "yes"],
    [True, False],
    [7, 3],
    [0.0, 1.0],
    [b"a", b"b"],
    [np.str_("x"), np.str_("y")],
]


@pytest.mark.parametrize("names", LABELS, ids=str)
def test_labels_of_any_kind(names: list[Any]) -> None:
    points, numbers, rows = table()
    order = sorted(names)
    by_number = ParzenMimic(0.8).fit(points, [order.index(names[one]) for one in numbers])
    for labels in (np.array(names)[numbers], [names[one] for one in numbers], pd.Series([names[n] for n in numbers])):
        found = ParzenMimic(0.8).fit(points, labels)
        assert found.classes_.tolist() == order
        assert found.predict(rows).tolist() == [order[one] for one in by_number.predict(rows)]


def test_labels_as_objects_and_categories() -> None:
    points, numbers, rows = table()
    names = np.array(["no", "yes"])[numbers]
    expected = ParzenMimic(0.8).fit(points, names).predict(rows).tolist()
    for labels in (names.astype(object), pd.Categorical(names), pd.Series(names, dtype="string")):
        assert ParzenMimic(0.8).fit(points, labels).predict(rows).tolist() == expected


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8, bool, object])
def test_rows_of_any_kind_of_number(kind: type) -> None:
    points, labels, _ = table()
    given = np.round(points).clip(0, 200).astype(kind)
    found = ParzenMimic(0.8).fit(given, labels).predict_proba(given)
    assert found.dtype == np.float64
    same = given.astype(np.float64)
    np.testing.assert_array_equal(found, ParzenMimic(0.8).fit(same, labels).predict_proba(same))


def test_data_frames_and_lists() -> None:
    points, labels, rows = table()
    frame = pd.DataFrame(points, columns=["a", "b", "c"])
    found = ParzenMimic(0.8).fit(frame, labels)
    expected = ParzenMimic(0.8).fit(points, labels).predict_proba(rows)
    assert found.feature_names_in_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(found.predict_proba(pd.DataFrame(rows, columns=frame.columns)), expected, rtol=1e-12)
    of_lists = ParzenMimic(0.8).fit(points.tolist(), labels).predict_proba(rows.tolist())
    np.testing.assert_allclose(of_lists, expected, rtol=1e-12)
    with pytest.raises(InputError, match="feature names should match"):
        found.predict(pd.DataFrame(rows, columns=["a", "b", "d"]))


def test_by_itself_it_says_how_it_chose() -> None:
    points, labels, rows = table()
    found = ParzenMimic().fit(points, labels)
    assert dict(found.bandwidths_)[found.bandwidth_] == found.agreement_
    assert [one for one, _ in found.bandwidths_] == sorted(one for one, _ in found.bandwidths_)
    again = pickle.loads(pickle.dumps(found))  # noqa: S301
    np.testing.assert_array_equal(again.predict_proba(rows), found.predict_proba(rows))
    fresh = clone(found.set_params(bandwidth=0.7))
    assert not hasattr(fresh, "bandwidth_")
    assert fresh.fit(points, labels).bandwidth_ == 0.7


def test_of_more_rows_than_it_tries_a_part_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    points, labels, _ = table()
    whole = ParzenMimic(0.5).fit(points, labels).agreement_
    monkeypatch.setattr(mimic, "_TRIED", 7)
    one, same, other = (ParzenMimic(0.5, random_state=seed).fit(points, labels).agreement_ for seed in (0, 0, 3))
    assert one == same
    assert (7 * one, 7 * other) == (round(7 * one), round(7 * other))
    assert len({ParzenMimic(0.5, random_state=seed).fit(points, labels).agreement_ for seed in range(8)}) > 1
    assert 40 * whole == round(40 * whole)


WRONG = [
    ({"y": [0] * 40}, r"all 40 rows \(40 samples\) are of 1 class, "),
    ({"y": [0, 1]}, "inconsistent numbers of samples|gives .* for 40 rows"),
    ({"y": [0.5] * 40}, "Unknown label type: continuous"),
    ({"y": [None, "a"] * 20}, "no label for some rows"),
    ({"y": [float("nan"), 1.0] * 20}, "NaN or infinity"),
    ({"y": None}, "requires y to be passed"),
    ({"y": np.array([1, "a"] * 20, dtype=object)}, r"of several kinds \(int, str\)"),
    ({"X": [[np.nan, 0.0]] * 40}, "NaN"),
    ({"X": [[np.inf, 0.0]] * 40}, "infinity"),
    ({"X": [["red", 0.0]] * 40}, "columns of text or of categories have no gradient: leave them out"),
    ({"X": [1.0] * 40}, "2D array"),
    ({"X": [[1.0, 2.0]] * 40}, "all rows are the same"),
    ({"bandwidth": "narrow"}, "bandwidth is 'narrow', but one-standard-error or best"),
    ({"scale": [1.0, -1.0, 1.0]}, "finite widths above 0"),
    ({"scale": "max"}, "scale is 'max', but standard, none"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[str(sorted(one)) + said for one, said in WRONG])
def test_what_is_wrong_is_said(wrong: dict[str, Any], said: str) -> None:
    points, labels, _ = table()
    given = {"X": points, "y": labels, **{key: wrong[key] for key in ("X", "y") if key in wrong}}
    options = {key: value for key, value in wrong.items() if key not in ("X", "y")}
    with pytest.raises(InputError, match=said):
        ParzenMimic(**options).fit(**given)


def test_unfitted_and_other_rows_are_refused() -> None:
    points, labels, rows = table()
    with pytest.raises(InputError, match="not fitted yet"):
        ParzenMimic().predict(rows)
    with pytest.raises(InputError, match="2 features"):
        ParzenMimic().fit(points, labels).predict(rows[:, :2])

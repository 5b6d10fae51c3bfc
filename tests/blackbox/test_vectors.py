"""What is returned: components by name, the strongest first, and in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from visavis.blackbox import Vectors
from visavis.blackbox.vectors import joined
from visavis.errors import InputError


def made(count: int = 4, **other: Any) -> Vectors:
    generator = np.random.default_rng(0)
    values: dict[str, Any] = {
        "kind": "away",
        "rows": generator.normal(size=(count, 3)),
        "values": np.array([[3.0, -2.0, 0.5], [0.0, 1.0, -1.0], [np.nan] * 3, [-1.0, 4.0, 2.0]])[:count],
        "log_odds_gradient": generator.normal(size=(count, 3)),
        "targets": np.array(["a", "bb", "a", "bb"])[:count],
        "foils": None,
        "said": np.array(["a", "bb", "a", "bb"])[:count],
        "probabilities": generator.random(size=(count, 2)),
        "classes": np.array(["a", "bb"]),
        "agreement": np.array([1.0, 0.5, np.nan, 0.75])[:count],
        "agrees": np.array([True, True, False, True])[:count],
        "flat": np.array([False, True, False, False])[:count],
        "directions": generator.normal(size=(count, 3)),
        "curvatures": generator.normal(size=count),
        "low": None,
        "high": None,
        "scale": np.array([1.0, 2.0, 10.0]),
        "names": ("length", "width", "x0"),
        "exact": False,
        "source": "Parzen mimic of 9 rows",
        "shape": (3,),
    }
    return Vectors(**{**values, **other})


def test_the_strongest_in_units_of_the_scale_first() -> None:
    found = made()
    np.testing.assert_array_equal(found.per_deviation[[0, 1, 3]], [[3, -4, 5], [0, 2, -10], [-1, 8, 20]])
    first = found.strongest(0)
    assert [(one.name, one.value, one.per_deviation) for one in first] == [
        ("x0", 0.5, 5.0),
        ("width", -2.0, -4.0),
        ("length", 3.0, 3.0),
    ]
    assert [one.at for one in first] == found.rows[0, [2, 1, 0]].tolist()
    assert {(one.low, one.high) for one in first} == {(None, None)}
    assert [one.name for one in found.strongest(3, 2)] == ["x0", "width"]
    with_ends = made(low=np.arange(12.0).reshape(4, 3), high=np.arange(12.0, 24).reshape(4, 3))
    assert [(one.low, one.high) for one in with_ends.strongest(1)] == [(5, 17), (4, 16), (3, 15)]


def test_features_by_name_or_number() -> None:
    found = made()
    for feature in ("width", 1, np.int64(1)):
        assert found.place_of(feature) == 1
        np.testing.assert_array_equal(found.component(feature), found.values[:, 1])
    for wrong in ("breadth", 3, -1, "0"):
        with pytest.raises(InputError, match="there are length, width, x0"):
            found.place_of(wrong)
    for wrong in (4, -1):
        with pytest.raises(InputError, match=f"there is no vector {wrong}; there are 4, numbered from 0"):
            found.strongest(wrong)


def test_in_words() -> None:
    found = made()
    assert repr(found) == "Vectors(4 × 3, Parzen mimic of 9 rows, agreement 0.75, 1 flat)"
    assert repr(replace(found, exact=True, source="its own")) == "Vectors(4 × 3, its own, 1 flat)"
    assert len(found) == 4
    assert found.quantity(1) == "P(not bb)"
    assert made(foils=np.array(["bb", "a", "bb", "others"])).quantity(3) == "log P(bb) / P(others)"
    np.testing.assert_array_equal(made(shape=(1, 3, 1)).shaped, found.values[:, None, :, None])


def test_parts_are_one_again() -> None:
    whole = made(low=np.ones((4, 3)), high=np.full((4, 3), 2.0), foils=np.array(["bb", "a", "others", "a"]))
    by_row = [name for name in whole.__dataclass_fields__ if isinstance(getattr(whole, name), np.ndarray)]
    by_row = [name for name in by_row if name not in ("classes", "scale")]

    def part(places: slice) -> Vectors:
        chosen = {name: getattr(whole, name)[places] for name in by_row}
        # Text as short as it can be, as it comes of a classifier.
        short = {
            name: one.astype(str(one.astype(object).astype(str).dtype))
            for name, one in chosen.items()
            if one.dtype.kind == "U"
        }
        return replace(whole, **{**chosen, **short})

    found = joined((part(slice(at, at + size)) for at, size in ((0, 1), (1, 2), (3, 1))), whole.rows)
    for name in by_row:
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    assert found.foils.tolist() == ["bb", "a", "others", "a"]

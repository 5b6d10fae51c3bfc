"""The best, median and worst cases are those of a plain sort, in the direction of the metric."""

from __future__ import annotations

from pathlib import Path

import pytest

from visavis.benchmarking.shards import Folder, Shard, Value
from visavis.reports.case_ranks import Ranked, best_median_worst

WORDS = {
    "dataset": "scenes",
    "pictures in the data set": 9,
    "models": ["toy"],
    "methods": ["clrp"],
    "metrics": ["m", "n"],
    "limit": None,
    "seed": 0,
    "classes": "present",
    "device": "cpu",
}


def written(folder: Path, values: list[float], method: str = "clrp", a_shard: int = 2) -> Path:
    """Write one case for each value, called a, b, c, …, into shards of a few pictures."""
    with Folder(folder, WORDS) as place:
        for first in range(0, len(values), a_shard):
            rows = []
            for number, value in enumerate(values[first : first + a_shard], first):
                name = f"{chr(97 + number)}.png"
                rows += [
                    Value(name, f"{name}#cat#1", method, "m", "", value, number, False),
                    Value(name, f"{name}#cat#1", method, "m", "0.5", 100 - value, number, False),
                    Value(name, f"{name}#cat#1", method, "n", "", -value, number, False),
                ]
            last = min(first + a_shard, len(values)) - 1
            place.write(Shard(0, "toy", first, last), "digest", rows, [], len(rows))
    return folder


def found(folder: Path, metric: str = "m", higher: bool = True) -> dict[str, tuple[str, float]]:
    return {one.rank: (one.picture[0], one.value) for one in best_median_worst(folder, metric, higher)}


@pytest.mark.parametrize(
    ("values", "higher", "expected"),
    [
        ([3, 1, 2, 5, 4], True, {"best": ("d", 5), "median": ("a", 3), "worst": ("b", 1)}),
        ([3, 1, 2, 5, 4], False, {"best": ("b", 1), "median": ("a", 3), "worst": ("d", 5)}),
        ([3, 1, 2, 4], True, {"best": ("d", 4), "median": ("a", 3), "worst": ("b", 1)}),
        ([3, 1, 2, 4], False, {"best": ("b", 1), "median": ("c", 2), "worst": ("d", 4)}),
        ([1, 1, 1, 1, 1], True, {"best": ("a", 1), "median": ("c", 1), "worst": ("e", 1)}),
        ([2, 1], True, {"best": ("a", 2), "worst": ("b", 1)}),
        ([7], True, {"best": ("a", 7)}),
        ([float("nan"), 2, 1, 3], True, {"best": ("d", 3), "median": ("b", 2), "worst": ("c", 1)}),
        ([float("nan")], True, {}),
    ],
)
def test_ranks_are_those_of_a_sort(
    tmp_path: Path, values: list[float], higher: bool, expected: dict[str, tuple[str, float]]
) -> None:
    assert found(written(tmp_path, values), higher=higher) == expected


def test_the_metric_that_is_named_ranks_and_points_of_curves_do_not(tmp_path: Path) -> None:
    folder = written(tmp_path, [3, 1, 2])
    assert found(folder, "m")["best"] == ("a", 3)
    assert found(folder, "n")["best"] == ("b", -1)
    assert best_median_worst(folder, "pointing", True) == []


def test_a_case_says_where_it_is(tmp_path: Path) -> None:
    (best, *_) = best_median_worst(written(tmp_path, [1, 1, 1, 4, 1]), "m", True)
    assert best == Ranked("toy", "clrp", "best", "d.png#cat#1", "d.png", 4, 3, 2, 3, "digest")
    assert best.label == "cat#1"

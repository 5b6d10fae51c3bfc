"""The cases to look at: of each method on each model the best, the median and the worst by a metric."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import compute

from visavis.benchmarking.results import each_shard
from visavis.benchmarking.shard_tables import described


class Ranked(NamedTuple):
    """A case, and its place among those of a method on a model.

    Attributes:
        model, method: of which it is one.
        rank: "best", "median" or "worst".
        case, picture: their names.
        value: by the metric.
        target: index of the class that was explained.
        first, last: the pictures of its shard, in the order of the run; its picture is one of them.
        weights: the digest of the model's.
    """

    model: str
    method: str
    rank: str
    case: str
    picture: str
    value: float
    target: int
    first: int
    last: int
    weights: str

    @property
    def label(self) -> str:
        """The class, in the words of the data set."""
        return self.case.removeprefix(f"{self.picture}#")


def best_median_worst(folder: str | os.PathLike[str], metric: str, higher: bool) -> list[Ranked]:
    """Return the best, the median and the worst case of each method on each model, in no order of methods.

    Equal cases go by name. Of an even number of cases the better of the two in the middle is the median; of two there
    are the best and the worst, of one there is the best.

    Args:
        folder: of the results.
        metric: as the run spells it.
        higher: whether higher is better.

    Raises:
        InputError: the folder holds no results, or a file is damaged.
    """
    found: dict[tuple[str, str], list[Ranked]] = {}
    for values, _ in each_shard(folder):
        told = described(values)
        first, last = (int(part) for part in str(told["shard"]).rsplit("-", 2)[1:])
        texts = {name: values.column(name).cast(pa.string()) for name in ("metric", "key")}
        main = compute.and_(compute.equal(texts["metric"], metric), compute.equal(texts["key"], ""))
        for row in values.filter(main).to_pylist():
            if not math.isnan(row["value"]):
                one = Ranked(
                    row["model"],
                    row["method"],
                    "",
                    row["case"],
                    row["picture"],
                    row["value"],
                    row["target"],
                    first,
                    last,
                    str(told["weights"]),
                )
                found.setdefault((one.model, one.method), []).append(one)
    sign = -1 if higher else 1
    chosen: list[Ranked] = []
    for cases in found.values():
        ordered = sorted(cases, key=lambda one: (sign * one.value, one.case))
        places = {"best": 0, "median": (len(ordered) - 1) // 2, "worst": len(ordered) - 1}
        seen: set[int] = set()
        for rank, place in places.items():
            if place not in seen and not (rank == "median" and len(ordered) < 3):
                seen.add(place)
                chosen.append(ordered[place]._replace(rank=rank))
    return chosen


__all__ = ["Ranked", "best_median_worst"]

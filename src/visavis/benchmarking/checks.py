"""What results have to be like before anything is computed from them: a folder may be a stranger's own work."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import compute

from visavis.benchmarking.shard_tables import PASSED_OVER, VALUES, Shard, described
from visavis.evaluation.explainers import baselines

#: No metric comes near; sums of what is larger overflow.
LARGEST = 1e100
_STEM = re.compile(r"([0-9]{2,6})-.*-([0-9]{7,12})-([0-9]{7,12})")
_TEXT = pa.dictionary(pa.int32(), pa.string())


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_positive(value: object) -> bool:
    return type(value) is int and value >= 1


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value)) and len(set(value)) == len(value)


def _are_some_texts(value: object) -> bool:
    return _are_texts(value) and bool(value)


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(one) in (int, float) and abs(one) <= LARGEST for one in value)


_KNOWN: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("dataset", "data", "classes", "channels", "device", "weights", "labels", "made by"), _is_text),
    **dict.fromkeys(("visavis", "torch", "torchvision", "numpy", "class names"), _is_text),
    **dict.fromkeys(("pictures in the data set", "pictures a shard", "size"), _is_positive),
    **dict.fromkeys(("models", "metrics"), _are_some_texts),
    "methods": _are_texts,
    "seed": _is_count,
    "limit": lambda value: value is None or _is_positive(value),
    **dict.fromkeys(("mean", "std"), _are_numbers),
}
_NEEDED = ("dataset", "pictures in the data set", "models", "methods", "metrics", "limit", "seed", "classes", "device")


def fault_of_words(words: Mapping[str, Any], whole: bool = False) -> str:
    """Return what is wrong with the words of a run, such as "seed is 'x'"; "" where nothing is.

    Args:
        words: as JSON has them; those that are not known may be anything.
        whole: whether those have to be there that a report needs.
    """
    for name in _NEEDED if whole else ():
        if name not in words:
            return f"there is no {name!r}"
    return next(
        (
            f"{name!r} is {words[name]!r:.60}"
            for name, good in _KNOWN.items()
            if not good(words.get(name)) and name in words
        ),
        "",
    )


def described_shard(values: Any, passed: Any, words: Mapping[str, Any]) -> tuple[Shard, dict[str, Any]]:
    """Return which shard two tables are, and what they say of it: "weights", "pictures" and "cases".

    Args:
        values, passed: as `shard_tables.read` gives them.
        words: of the run, whole.

    Raises:
        ValueError: one says nothing that a run writes, or holds what no run does.
    """
    told, other = described(values), described(passed)
    if (told.get("run"), told.get("shard")) != (other.get("run"), other.get("shard")):
        raise ValueError("its two files are of two shards")
    shard = _shard(told, words)
    if not _is_text(told.get("weights")) or not _is_count(told.get("cases")) or told["cases"] > LARGEST:
        raise ValueError("it does not say its weights and cases")
    if told.get("pictures") != shard.last - shard.first + 1 or type(told["pictures"]) is not int:
        raise ValueError(f"it says that it has {told.get('pictures')!r:.60} pictures")
    _check_columns(values, VALUES)
    _check_columns(passed, PASSED_OVER)
    methods, metrics = {*words["methods"], *baselines()}, set(words["metrics"])
    for table, none in ((values, set[str]()), (passed, {""})):
        for name, known in (("model", {shard.name}), ("method", methods | none), ("metric", metrics | none)):
            strange = set(compute.unique(table.column(name)).cast(pa.string()).to_pylist()) - known
            if strange:
                raise ValueError(f"the run has no {name} {min(strange)!r:.60}")
    numbers = values.column("value").to_numpy()
    if not (np.isnan(numbers) | (np.abs(numbers) <= LARGEST)).all():
        raise ValueError("a value is infinite")
    if len(values) and compute.min(values.column("target")).as_py() < -1:  # -1: the value is of no class
        raise ValueError("a class is below -1")
    return shard, told


def _shard(told: Mapping[str, Any], words: Mapping[str, Any]) -> Shard:
    stem = str(told.get("shard"))
    match = _STEM.fullmatch(stem)
    if match:
        model, first, last = map(int, match.groups())
        models, whole, limit = words["models"], words["pictures in the data set"], words.get("limit")
        planned = whole if limit is None else min(whole, limit)
        if model < len(models) and first <= last < planned:
            shard = Shard(model, models[model], first, last)
            if shard.stem == stem:
                return shard
    raise ValueError(f"it says that it is {stem!r:.80}")


def _check_columns(table: Any, schema: Any) -> None:
    for field in schema:
        column = table.column(field.name)
        if column.type != (_TEXT if field.type == pa.string() else field.type):
            raise ValueError(f"the column {field.name} holds {column.type}")
        if column.null_count:
            raise ValueError(f"the column {field.name} has gaps")


def is_storable(value: float) -> bool:
    """Whether a value of a metric is one that results may hold: finite and not huge, or NaN."""
    return math.isnan(value) or abs(value) <= LARGEST


__all__ = ["LARGEST", "described_shard", "fault_of_words", "is_storable"]

"""What a benchmark's folder holds: values, means with intervals, what was passed over and why."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import compute

from visavis.benchmarking.checks import described_shard, fault_of_words
from visavis.benchmarking.shard_tables import VALUES_END, described, read
from visavis.benchmarking.shards import read_words, shard_files
from visavis.errors import InputError
from visavis.evaluation.explainers import baselines
from visavis.evaluation.statistics import Summary, summary
from visavis.run_folder import fingerprint

#: Draws of the bootstrap, for the value of a metric and for a point of its curve.
DRAWS, DRAWS_OF_POINTS = 10_000, 1_000


class Row(NamedTuple):
    """The mean of one value, over all cases that have it."""

    model: str
    method: str
    metric: str
    key: str
    summary: Summary


@dataclass(frozen=True)
class Counts:
    """How much of a run there is.

    Attributes:
        planned: pictures that the run was to measure on each model.
        pictures: of each model, how many were taken up.
        cases: of each model, how many decisions these came to.
        unusable: of each model, the pictures that could not be used at all, each with its reason.
        reasons: of each model, how many cases were passed over as a whole, by reason.
        unmeasured: of each model, method, metric and reason, how many cases have no value.
    """

    planned: int
    pictures: dict[str, int]
    cases: dict[str, int]
    unusable: dict[str, list[tuple[str, str]]]
    reasons: dict[str, Counter[str]]
    unmeasured: Counter[tuple[str, str, str, str]]

    @property
    def complete(self) -> bool:
        """Whether every model has been measured on every picture."""
        return all(count == self.planned for count in self.pictures.values())


def words_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a run was asked for.

    Raises:
        InputError: the folder holds no results.
    """
    words = read_words(Path(folder))
    fault = fault_of_words(words, whole=True)
    if fault:
        raise InputError(f"'{folder}' does not say in full what was run ({fault}); start the run in another folder")
    return words


def read_results(folder: str | os.PathLike[str]) -> Any:
    """Return all values as one table of Arrow, with the columns of `shards.VALUES`; `.to_pandas()` gives a data frame.

    Texts are dictionaries, so that names take little memory.

    Raises:
        InputError: the folder holds no results, or a file is damaged.
    """
    return _joined(folder, 0)


def read_passed_over(folder: str | os.PathLike[str]) -> Any:
    """Return what was passed over as one table of Arrow, with the columns of `shards.PASSED_OVER`.

    Raises:
        InputError: the folder holds no results, or a file is damaged.
    """
    return _joined(folder, 1)


def _joined(folder: str | os.PathLike[str], part: int) -> Any:
    tables = [pair[part].replace_schema_metadata() for pair in each_shard(folder)]
    if not tables:
        raise InputError(f"'{folder}' holds no finished shard; let the run go on, and look again")
    return pa.concat_tables(tables).unify_dictionaries()


def each_shard(folder: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    """Give the tables of each finished shard of this run: its values, and what was passed over.

    Raises:
        InputError: the folder holds no results, or a file is damaged.
    """
    words = words_of(folder)
    own = fingerprint(words)
    for paths in shard_files(Path(folder)):
        try:
            values, passed = (read(path) for path in paths)
            told = described(values)
        except RecursionError as error:
            raise _damaged(folder, paths[0], "nested too deeply") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"'{paths[0]}' is damaged ({str(error).splitlines()[0]}); start the run again with the same words, and "
                "it is made anew"
            ) from error
        if told.get("run") == own:
            try:
                described_shard(values, passed, words)
            except RecursionError as error:
                raise _damaged(folder, paths[1], "nested too deeply") from error
            except ValueError as error:
                raise _damaged(folder, paths[0], str(error)) from error
            yield values, passed


def _damaged(folder: str | os.PathLike[str], path: Path, what: str) -> InputError:
    return InputError(
        f"the results in '{folder}' are damaged ('{path.name}': {what}); remove that file, and start the run again "
        "with the same words"
    )


def counts(folder: str | os.PathLike[str]) -> Counts:
    """Return how much of a run there is, and what it passed over.

    Raises:
        InputError: the folder holds no results, or a file is damaged.
    """
    words = words_of(folder)
    models = [str(name) for name in words["models"]]
    whole, limit = int(words["pictures in the data set"]), words["limit"]
    found = Counts(
        whole if limit is None else min(whole, int(limit)),
        dict.fromkeys(models, 0),
        dict.fromkeys(models, 0),
        {name: [] for name in models},
        {name: Counter() for name in models},
        Counter(),
    )
    for values, passed in each_shard(folder):
        told = described(values)
        model = models[int(str(told["shard"]).partition("-")[0])]
        found.pictures[model] += int(told["pictures"])
        found.cases[model] += int(told["cases"])
        if found.pictures[model] > found.planned:
            raise _damaged(folder, Path(f"{told['shard']}{VALUES_END}"), "other files hold pictures of it, too")
        for row in passed.to_pylist():
            if row["method"]:
                found.unmeasured[model, row["method"], row["metric"], row["reason"]] += 1
            elif row["case"]:
                found.reasons[model][row["reason"]] += 1
            else:
                found.unusable[model].append((row["picture"], row["reason"]))
    return found


def summaries(folder: str | os.PathLike[str], *, draws: int = DRAWS) -> list[Row]:
    """Return the mean of each value with its 95 % interval, in the order in which the run was asked for.

    Cases of one picture are drawn together, for they are not independent. Points of curves have intervals from fewer
    draws.

    Args:
        folder: of the results.
        draws: of the bootstrap.

    Raises:
        InputError: the folder holds no results, or a file is damaged.
    """
    table = read_results(folder)
    columns = {name: _codes(table, name) for name in ("model", "method", "metric", "key", "picture")}
    values = table.column("value").to_numpy()
    names = [columns[name][1] for name in ("model", "method", "metric", "key")]
    sizes = tuple(max(len(each), 1) for each in names)
    group = np.ravel_multi_index([columns[name][0] for name in ("model", "method", "metric", "key")], sizes)
    # Rows of one mean, together; in the order of the table within it.
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    pictures = columns["picture"][0]
    found = []
    for rows in np.split(order, starts[1:]) if len(order) else []:
        codes = np.unravel_index(int(group[rows[0]]), sizes)
        model, method, metric, key = (each[int(code)] for each, code in zip(names, codes, strict=True))
        number = draws if is_value(key) else min(draws, DRAWS_OF_POINTS)
        found.append(
            Row(model, method, metric, key, summary(values[rows], groups=pictures[rows].tolist(), draws=number))
        )
    return sorted(found, key=_rank(words_of(folder)))


def is_value(key: str) -> bool:
    """Whether a key is that of a value, and not of a point of a curve, which is called by a number."""
    return number_of(key) is None


def number_of(key: str) -> float | None:
    """Return the place of a point of a curve; None where the key is no finite number."""
    try:
        place = float(key)
    except ValueError:
        return None
    return place if math.isfinite(place) else None


def _codes(table: Any, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """Return a column of texts as numbers, and the texts that these stand for."""
    column = table.column(name).combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return column.indices.to_numpy().astype(np.int64), column.dictionary.to_pylist()


def _rank(words: dict[str, Any]) -> Any:
    models, metrics = words["models"], words["metrics"]
    methods = [*words["methods"], *baselines()]

    def rank(row: Row) -> tuple[Any, ...]:
        number = number_of(row.key)
        return (
            _place(models, row.model),
            _place(methods, row.method),
            _place(metrics, row.metric),
            number is not None,
            number or 0.0,
            row.key,
        )

    return rank


def _place(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


class Extremes(NamedTuple):
    """The cases on which a method does best, and worst, by a metric; each with its value, best (worst) first."""

    model: str
    method: str
    metric: str
    best: list[tuple[str, float]]
    worst: list[tuple[str, float]]


def extremes(folder: str | os.PathLike[str], higher: dict[str, bool], most: int = 3) -> list[Extremes]:
    """Return the best and the worst cases of each model, method and metric.

    Args:
        folder: of the results.
        higher: for each metric whether higher is better.
        most: how many of each; equal ones by name.

    Raises:
        InputError: the folder holds no results, or a file is damaged.
    """
    kept: dict[tuple[str, str, str], set[tuple[float, str]]] = {}
    for values, _ in each_shard(folder):
        main = values.filter(compute.equal(values.column("key").cast(pa.string()), ""))
        for row in main.to_pylist():
            place = row["model"], row["method"], row["metric"]
            kept.setdefault(place, set()).add((row["value"], row["case"]))
        kept = {place: {*_first(known, most, 1), *_first(known, most, -1)} for place, known in kept.items()}
    found = []
    for (model, method, metric), known in kept.items():
        up = -1 if higher.get(metric, True) else 1
        best, worst = ([(name, value) for value, name in _first(known, most, sign)] for sign in (up, -up))
        found.append(Extremes(model, method, metric, best, worst))
    rank = _rank(words_of(folder))
    return sorted(found, key=lambda one: rank(Row(one.model, one.method, one.metric, "", Summary(0, 0, 0, 0))))


def _first(known: Iterable[tuple[float, str]], most: int, sign: int) -> list[tuple[float, str]]:
    """Return the values with the lowest sign · value, equal ones by name."""
    return sorted(known, key=lambda one: (sign * one[0], one[1]))[:most]


__all__ = [
    "Counts",
    "Extremes",
    "Row",
    "counts",
    "each_shard",
    "extremes",
    "is_value",
    "number_of",
    "read_passed_over",
    "read_results",
    "summaries",
    "words_of",
]

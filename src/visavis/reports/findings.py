"""What a benchmark found, as every form of its report shows it: columns, means with intervals, curves, extremes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from visavis.benchmarking.results import Counts, Extremes, Row, counts, extremes, number_of, summaries, words_of
from visavis.benchmarking.runs import explainer_titles
from visavis.errors import InputError
from visavis.evaluation.base import Metric, metric
from visavis.evaluation.explainers import baselines
from visavis.evaluation.statistics import Summary
from visavis.reports.case_pictures import Gallery

#: Values of a metric that are the same quantity over fewer cases, and so have its direction.
_SUBSETS = ("", "difficult")


class Column(NamedTuple):
    """A column of a table: a metric, or another value that it gives."""

    metric: str
    key: str
    title: str
    direction: str


class Curve(NamedTuple):
    """The points of a metric on a model: for each method, places and means."""

    model: str
    metric: str
    title: str
    lines: dict[str, tuple[list[float], list[float]]]
    axes: tuple[str, str] = Metric.axes


@dataclass
class Report:
    """What all forms of a report show.

    Attributes:
        words: what was asked for.
        counts: how much there is, and what was passed over.
        titles: what tables call each method.
        columns: of each table.
        cells: of a model, method and column.
        curves, extremes: as they are drawn and listed.
        galleries: the cases that are shown as pictures, model by model.
    """

    words: dict[str, Any]
    counts: Counts
    titles: dict[str, str]
    columns: list[Column]
    cells: dict[tuple[str, str, Column], Summary]
    curves: list[Curve]
    extremes: list[Extremes] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)

    @property
    def models(self) -> list[str]:
        """The models that were asked for, in order."""
        return [str(name) for name in self.words["models"]]

    def methods(self, model: str) -> list[str]:
        """The methods with values on a model, in order, baselines last."""
        return list(dict.fromkeys(method for known, method, _ in self.cells if known == model))

    def best(self, model: str, column: Column) -> list[str]:
        """Return the methods whose mean is the best of a column; none where no way is better."""
        if not column.direction:
            return []
        means = {
            method: cell.mean
            for (known, method, place), cell in self.cells.items()
            if (known, place) == (model, column) and not math.isnan(cell.mean)
        }
        if not means:
            return []
        top = (max if column.direction == "higher" else min)(means.values())
        return [method for method, mean in means.items() if mean == top]


def report_of(folder: str | os.PathLike[str], *, draws: int = 10_000) -> Report:
    """Read a folder of results, finished or not.

    Raises:
        InputError: the folder holds no results, or a file is damaged.
    """
    words = words_of(folder)
    rows = summaries(folder, draws=draws)
    known = {text: known_metric(text) for text in words["metrics"]}
    columns = dict.fromkeys(
        _column(row, known)
        for row in sorted(rows, key=lambda row: words["metrics"].index(row.metric))
        if not _is_point(row)
    )
    cells = {(row.model, row.method, _column(row, known)): row.summary for row in rows if not _is_point(row)}
    higher = {text: cls is None or cls.direction == "higher" for text, cls in known.items()}
    try:
        titles = explainer_titles(words["methods"])
    except InputError:  # a method that is not registered here
        titles = {text: text for text in words["methods"]} | baselines()
    return Report(
        words, counts(folder), titles, list(columns), cells, _curves(rows, known, titles), extremes(folder, higher)
    )


def known_metric(text: str) -> type[Metric] | None:
    """Return the metric that is spelled so; None where it is the user's own and not registered here."""
    try:
        return metric(text.partition(":")[0])
    except InputError:
        return None


def _is_point(row: Row) -> bool:
    return number_of(row.key) is not None


def _column(row: Row, known: Mapping[str, type[Metric] | None]) -> Column:
    cls = known[row.metric]
    options = row.metric.partition(":")[2]
    title = (cls.title if cls else row.metric) + (f" ({options})" if options and cls else "")
    direction = cls.direction if cls and row.key in _SUBSETS else ""
    return Column(row.metric, row.key, f"{title}, {row.key}" if row.key else title, direction)


def _curves(rows: Iterable[Row], known: Mapping[str, type[Metric] | None], titles: Mapping[str, str]) -> list[Curve]:
    found: dict[tuple[str, str], Curve] = {}
    for row in rows:
        place = number_of(row.key)
        if place is None:
            continue
        title = _column(row._replace(key=""), known).title
        cls = known[row.metric]
        axes = Metric.axes if cls is None else cls.axes
        curve = found.setdefault((row.model, row.metric), Curve(row.model, row.metric, title, {}, axes))
        across, up = curve.lines.setdefault(titles.get(row.method, row.method), ([], []))
        across.append(place)
        up.append(row.summary.mean)
    return list(found.values())


__all__ = ["Column", "Curve", "Report", "known_metric", "report_of"]

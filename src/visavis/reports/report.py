"""What a benchmark found, for people: tables in Markdown and LaTeX, and one page of HTML that needs no other file.

Means stand with their 95 % intervals; the best of a column is bold, and an arrow says which way is better. Baselines
never look at the network: on a metric on which one of them is best, the figures say little of reasons. The page shows
the best, the median and the worst case of each method by one metric.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from visavis.classifier import Classifier
from visavis.datasets.annotated import AnnotatedDataset
from visavis.errors import InputError
from visavis.files import write_bytes
from visavis.reports.case_pictures import Progress, galleries
from visavis.reports.curves import drawn
from visavis.reports.findings import Column, Curve, Report, known_metric, report_of
from visavis.reports.page import page
from visavis.reports.text import latex, markdown
from visavis.reports.words import command

MARKDOWN, LATEX, PAGE = "report.md", "report.tex", "report.html"
#: What is said instead of a metric where no cases are to be shown.
NONE = "none"
#: Its values differ in what the pictures show: where on them the map is.
_SHOWN_FIRST = "energy-in-box"


def write_report(
    folder: str | os.PathLike[str],
    *,
    draws: int = 10_000,
    show: str | None = None,
    dataset: AnnotatedDataset | None = None,
    models: Sequence[Classifier] = (),
    runs_code: bool = False,
    progress: Progress | None = None,
) -> dict[str, Path]:
    """Write the report of a folder of results into it, and return the files, by form.

    Pictures of cases need the data set and the model of the run; they are kept, and need neither the next time.
    Without, the page says so, and lists the cases by name.

    Args:
        folder: of the results, of a run that is finished or not.
        draws: of the bootstrap.
        show: the metric by which the best, median and worst cases are shown, as `shown_metric` takes it.
        dataset: that of the run; None: it is opened as the run spells it.
        models: those of the run; others are loaded by their names.
        runs_code: whether a model may be built by code that its name chooses. Never allow it for a stranger's folder.
        progress: told how many pictures are made, how many there are to make, and of what.

    Raises:
        InputError: the folder holds no results, a file is damaged, or the run has no such metric.
        OutputError: the report cannot be written.
    """
    report = report_of(folder, draws=draws)
    chosen = shown_metric(report.words["metrics"], show)
    if chosen is not None and show is None:
        measured = [column.metric for column in report.columns]
        chosen = chosen if chosen in measured else next(iter(measured), None)
    if chosen is not None:
        known = known_metric(chosen)
        higher = known is None or known.direction == "higher"
        report.galleries = galleries(
            folder,
            report.words,
            chosen,
            higher,
            dataset=dataset,
            models=models,
            runs_code=runs_code,
            progress=progress,
        )
    forms: dict[str, tuple[str, Callable[[Report], str]]] = {
        "Markdown": (MARKDOWN, markdown),
        "LaTeX": (LATEX, latex),
        "page": (PAGE, page),
    }
    places = {}
    for form, (name, text) in forms.items():
        places[form] = Path(folder) / name
        write_bytes(places[form], text(report).encode("utf-8", "backslashreplace"))
    return places


def shown_metric(metrics: Sequence[str], show: str | None) -> str | None:
    """Return the metric by which cases are shown, as the run spells it; None for no pictures.

    Args:
        metrics: of the run.
        show: one of them, with its options or without; NONE; None: energy in the box, else the first.

    Raises:
        InputError: the run has no such metric.
    """
    if show == NONE:
        return None
    wanted = _SHOWN_FIRST if show is None else show
    for text in metrics:
        if wanted in (text, text.partition(":")[0]):
            return text
    if show is None:
        return next(iter(metrics), None)
    near = get_close_matches(show, metrics, n=3) or list(metrics)
    raise InputError(f"cases cannot be shown by {show!r}, which was not measured; try {', '.join(near)}, or {NONE}")


__all__ = [
    "NONE",
    "Column",
    "Curve",
    "Report",
    "command",
    "drawn",
    "latex",
    "markdown",
    "page",
    "report_of",
    "shown_metric",
    "write_report",
]

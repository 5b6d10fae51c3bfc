"""What a benchmark found, for people: tables in Markdown and LaTeX, and one page of HTML that needs no other file.

Means stand with their 95 % intervals; the best of a column is bold, and an arrow says which way is better. Baselines
never look at the network: on a metric on which one of them is best, the figures say little of reasons.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from visavis.evaluation.findings import Column, Curve, Report, report_of
from visavis.evaluation.report_curves import drawn
from visavis.evaluation.report_page import page
from visavis.evaluation.report_text import latex, markdown
from visavis.evaluation.report_words import command
from visavis.evaluation.shards import put

MARKDOWN, LATEX, PAGE = "report.md", "report.tex", "report.html"


def write_report(folder: str | os.PathLike[str], *, draws: int = 10_000) -> dict[str, Path]:
    """Write the report of a folder of results into it, and return the files, by form.

    Args:
        folder: of the results, of a run that is finished or not.
        draws: of the bootstrap.

    Raises:
        InputError: the folder holds no results, or a file is damaged.
        OutputError: the report cannot be written.
    """
    report = report_of(folder, draws=draws)
    forms: dict[str, tuple[str, Callable[[Report], str]]] = {
        "Markdown": (MARKDOWN, markdown),
        "LaTeX": (LATEX, latex),
        "page": (PAGE, page),
    }
    places = {}
    for form, (name, text) in forms.items():
        places[form] = Path(folder) / name
        put(places[form], text(report).encode("utf-8", "backslashreplace"))
    return places


__all__ = ["Column", "Curve", "Report", "command", "drawn", "latex", "markdown", "page", "report_of", "write_report"]

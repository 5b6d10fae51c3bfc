"""The report as one page of HTML that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visavis.evaluation.base import Metric
from visavis.evaluation.explainers import baselines
from visavis.reports.curves import drawn
from visavis.reports.document import document, folded, pairs, picture, shown_text
from visavis.reports.findings import Curve, Report, known_metric
from visavis.reports.gallery import gallery_part
from visavis.reports.words import NOTE, arrow, cell_of, command, lead, nothing, number, passed_over, remarks, said


def page(report: Report) -> str:
    """Return one page of HTML with tables, curves, best and worst cases; it asks for no other file or address."""
    parts = [
        f"<p>{shown_text(lead(report.words, report.counts))}</p>",
        f"<pre>{shown_text(command(report.words))}</pre><p>{shown_text(NOTE)}</p>",
    ]
    for model in report.models:
        parts.append(f"<h2>{shown_text(model)}</h2><p>{shown_text(said(report, model))}</p>")
        empty = nothing(report.counts, model)
        if empty:
            parts.append(f"<p><b>{shown_text(empty)}</b></p>")
        else:
            parts.append(_table(report, model))
            parts += [f"<p>{shown_text(line)}</p>" for line in remarks(report, model)]
            parts += [_figure(curve) for curve in report.curves if curve.model == model]
            parts += [gallery_part(report, one) for one in report.galleries if one.model == model]
            parts.append(folded("Best and worst cases by each metric", _extremes_table(report, model)))
        passed = passed_over(report, model)
        if passed:
            items = "".join(f"<li>{shown_text(line)}</li>" for line in passed)
            parts.append(folded("Passed over", f"<ul>{items}</ul>"))
    known = {text: cls for text in report.words["metrics"] if (cls := known_metric(text)) is not None}
    meaning = {text: f"{_first_sentence(cls)} {cls.source}" for text, cls in known.items()}
    parts.append(folded("What the metrics measure, and where they come from", pairs(meaning)))
    parts.append(folded("The run", pairs({name: _plain(value) for name, value in report.words.items()})))
    return document(f"Benchmark of explanations: {report.words['dataset']}", parts)


def _first_sentence(cls: type[Metric]) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(report: Report, model: str) -> str:
    heads = "".join(f"<th>{shown_text(column.title + arrow(column))}</th>" for column in report.columns)
    rows = []
    for method in report.methods(model):
        cells = []
        for column in report.columns:
            cell = report.cells.get((model, method, column))
            mean, interval = cell_of(cell)
            bold = f"<b>{mean}</b>" if method in report.best(model, column) else mean
            count = f" · {cell.count}" if cell is not None else ""
            cells.append(f"<td>{bold}<small>{interval}{count}</small></td>")
        kind = ' class="baseline"' if method in baselines() else ""
        rows.append(f"<tr{kind}><td>{shown_text(report.titles.get(method, method))}</td>{''.join(cells)}</tr>")
    legend = "<p><small>Below each mean: its interval · the number of cases.</small></p>"
    return f"<table><thead><tr><th>method</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>{legend}"


def _extremes_table(report: Report, model: str) -> str:
    def listed(cases: Sequence[tuple[str, float]]) -> str:
        return "<br>".join(f"{shown_text(name)} ({number(value)})" for name, value in cases)

    rows = "".join(
        f"<tr><td>{shown_text(report.titles.get(one.method, one.method))}</td><td>{shown_text(one.metric)}</td>"
        f"<td>{listed(one.best)}</td><td>{listed(one.worst)}</td></tr>"
        for one in report.extremes
        if one.model == model
    )
    return f"<table><tr><th>method</th><th>metric</th><th>best</th><th>worst</th></tr>{rows}</table>"


def _figure(curve: Curve) -> str:
    return picture(drawn(curve), ".svg", f"{curve.title}, {curve.model}")


__all__ = ["page"]

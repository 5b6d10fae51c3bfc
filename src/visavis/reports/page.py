"""The report as one page of HTML that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from visavis.evaluation.base import Metric
from visavis.evaluation.explainers import baselines
from visavis.reports.curves import drawn
from visavis.reports.findings import Curve, Report, known_metric
from visavis.reports.gallery import gallery_part, shown_text
from visavis.reports.words import NOTE, arrow, cell_of, command, lead, nothing, number, passed_over, remarks, said

# Whatever a name in it may smuggle in: nothing is loaded, no script runs.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top }
th { vertical-align: bottom }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff }
td small { display: block; color: #666; white-space: nowrap }
tr.baseline td { color: #666 }
pre { background: #f5f5f5; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; max-width: 100% }
img { max-width: 100% }
.cases { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; margin-bottom: 1rem }
.cases figure { flex: 1 1 20rem; max-width: 30.4rem; margin: 0 }
.cases figcaption { font-size: .85rem; line-height: 1.35; overflow-wrap: anywhere }
.cases small { color: #666 }
h1, h2, h3, p, li { overflow-wrap: anywhere }
h4 { margin: .8rem 0 .3rem }
"""


def page(report: Report) -> str:
    """Return one page of HTML with tables, curves, best and worst cases; it asks for no other file or address."""
    title = shown_text(f"Benchmark of explanations: {report.words['dataset']}")
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>",
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
            parts.append(_folded("Best and worst cases by each metric", _extremes_table(report, model)))
        passed = passed_over(report, model)
        if passed:
            items = "".join(f"<li>{shown_text(line)}</li>" for line in passed)
            parts.append(_folded("Passed over", f"<ul>{items}</ul>"))
    known = {text: cls for text in report.words["metrics"] if (cls := known_metric(text)) is not None}
    meaning = {text: f"{_first_sentence(cls)} {cls.source}" for text, cls in known.items()}
    parts.append(_folded("What the metrics measure, and where they come from", _pairs(meaning)))
    parts.append(_folded("The run", _pairs({name: _plain(value) for name, value in report.words.items()})))
    return "\n".join([*parts, "</body></html>\n"])


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


def _pairs(pairs: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><td>{shown_text(name)}</td><td>{shown_text(text)}</td></tr>" for name, text in pairs.items())
    return f"<table>{rows}</table>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{shown_text(title)}</summary>{content}</details>"


def _figure(curve: Curve) -> str:
    picture = base64.b64encode(drawn(curve)).decode()
    title = shown_text(f"{curve.title}, {curve.model}")
    return f'<figure><img alt="{title}" src="data:image/svg+xml;base64,{picture}"></figure>'


__all__ = ["page"]

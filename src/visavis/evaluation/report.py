"""What a benchmark found, for people: tables in Markdown and LaTeX, and one page of HTML that needs no other file.

Means stand with their 95 % intervals; the best of a column is bold, and an arrow says which way is better. Baselines
never look at the network: on a metric on which one of them is best, the figures say little of reasons.
"""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from visavis.errors import InputError
from visavis.evaluation.base import Metric, metric
from visavis.evaluation.benchmark import explainer_titles
from visavis.evaluation.explainers import baselines
from visavis.evaluation.results import (
    Counts,
    Extremes,
    Row,
    counts,
    extremes,
    number_of,
    summaries,
    words_of,
)
from visavis.evaluation.shards import put
from visavis.evaluation.statistics import Summary
from visavis.terminal import printable

MARKDOWN, LATEX, PAGE = "report.md", "report.tex", "report.html"
#: Values of a metric that are the same quantity over fewer cases, and so have its direction.
_SUBSETS = ("", "difficult")
_NAMED_AT_MOST = 200


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
    """

    words: dict[str, Any]
    counts: Counts
    titles: dict[str, str]
    columns: list[Column]
    cells: dict[tuple[str, str, Column], Summary]
    curves: list[Curve]
    extremes: list[Extremes] = field(default_factory=list)

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
    known = {text: _metric(text) for text in words["metrics"]}
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


def _metric(text: str) -> type[Metric] | None:
    try:
        return metric(text.partition(":")[0])
    except InputError:  # of the user's own, and not registered here
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
        curve = found.setdefault((row.model, row.metric), Curve(row.model, row.metric, title, {}))
        across, up = curve.lines.setdefault(titles.get(row.method, row.method), ([], []))
        across.append(place)
        up.append(row.summary.mean)
    return list(found.values())


# -- in words ----------------------------------------------------------------------------------------------------------


def _arrow(column: Column) -> str:
    return {"higher": " ↑", "lower": " ↓"}.get(column.direction, "")


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"


def _cell(cell: Summary | None) -> tuple[str, str]:
    """Return the mean, and its interval with the number of cases."""
    if cell is None or math.isnan(cell.mean):
        return "–", ""
    return _number(cell.mean), f"{_number(cell.low)} to {_number(cell.high)}"


def command(words: Mapping[str, Any]) -> str:
    """Return the line of shell that asks for a run, but for the folder."""
    import shlex

    parts = ["visavis", "benchmark", "--dataset", str(words["dataset"])]
    for option in ("models", "methods", "metrics"):
        if words[option]:
            parts += [f"--{option}", ",".join(words[option])]
    if words["limit"] is not None:
        parts += ["--limit", str(words["limit"])]
    parts += ["--seed", str(words["seed"]), "--classes", str(words["classes"]), "--device", str(words["device"])]
    return shlex.join([*parts, "-o", "DIR"])


def _said(report: Report, model: str) -> str:
    """Return how much of a model's run there is, in one sentence."""
    tally = report.counts
    missing = tally.planned - tally.pictures[model]
    parts = [
        f"{_several(tally.cases[model], 'case')} in {_several(tally.pictures[model], 'picture')}",
        f"{_several(len(tally.unusable[model]), 'picture')} could not be used",
        f"{_several(sum(tally.reasons[model].values()), 'class')} in pictures passed over",
    ]
    return "; ".join(parts) + (f"; unfinished, {_several(missing, 'picture')} to go" if missing else "") + "."


def _several(count: int, what: str) -> str:
    return f"{count} {what if count == 1 else what + ('es' if what.endswith('s') else 's')}"


def _passed_over(report: Report, model: str) -> list[str]:
    """Return a line for each reason and each picture that was passed over."""
    tally = report.counts
    lines = [f"{_several(count, 'class')}: {reason}" for reason, count in tally.reasons[model].most_common()]
    lines += [
        f"{method}{f', {measure}' if measure else ''}, {_several(count, 'case')}: {reason}"
        for (known, method, measure, reason), count in tally.unmeasured.most_common()
        if known == model
    ]
    named = tally.unusable[model][:_NAMED_AT_MOST]
    lines += [f"{picture}: {reason}" for picture, reason in named]
    rest = len(tally.unusable[model]) - len(named)
    return lines + ([f"and {_several(rest, 'more picture')}"] if rest > 0 else [])


_NOTE = (
    "Means over cases, with 95 % intervals by bootstrap over pictures. Arrows say which way is better; the best of a "
    "column is bold. Centre, Random and Edges never look at the network."
)


# -- Markdown and LaTeX ------------------------------------------------------------------------------------------------


def _markdown_text(text: str) -> str:
    plain = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#&" else c for c in plain)


def markdown(report: Report) -> str:
    """Return the tables in Markdown, one a model, methods down and metrics across."""
    lines = ["# Benchmark", "", f"    {command(report.words)}", "", _NOTE]
    for model in report.models:
        lines += ["", f"## {_markdown_text(model)}", "", _said(report, model), ""]
        heads = ["method", *(f"{_markdown_text(column.title)}{_arrow(column)}" for column in report.columns)]
        lines += [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * len(report.columns)}"]
        for method in report.methods(model):
            cells = [_markdown_text(report.titles.get(method, method))]
            for column in report.columns:
                mean, interval = _cell(report.cells.get((model, method, column)))
                bold = f"**{mean}**" if method in report.best(model, column) else mean
                cells.append(f"{bold} ({interval})" if interval else bold)
            lines.append(f"| {' | '.join(cells)} |")
        passed = [f"- {_markdown_text(line)}" for line in _passed_over(report, model)]
        lines += ["", "Passed over:", "", *passed] if passed else []
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(c, c if c.isprintable() else "?") for c in text)


def latex(report: Report) -> str:
    """Return the tables in LaTeX, one a model, for the package booktabs; metrics down, methods across."""
    lines = [f"% {command(report.words)}".replace("\n", " "), "% \\usepackage{booktabs}"]
    arrows = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "": ""}
    for model in report.models:
        methods = report.methods(model)
        heads = [_latex_text(report.titles.get(method, method)) for method in methods]
        lines += [
            r"\begin{table}",
            rf"\caption{{{_latex_text(model)}: {_latex_text(_said(report, model))} {_latex_text(_NOTE)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(methods)}}}",
            r"\toprule",
            " & ".join(["", *heads]) + r" \\",
            r"\midrule",
        ]
        for column in report.columns:
            cells = [_latex_text(column.title) + arrows[column.direction]]
            for method in methods:
                mean, interval = _cell(report.cells.get((model, method, column)))
                mean = "--" if mean == "–" else mean
                bold = rf"\textbf{{{mean}}}" if method in report.best(model, column) else mean
                cells.append(rf"{bold} {{\scriptsize({interval})}}" if interval else bold)
            lines.append(" & ".join(cells) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


# -- the page ----------------------------------------------------------------------------------------------------------

# Whatever a name in it may smuggle in: nothing is loaded, no script runs.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: bottom }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff }
td small { display: block; color: #666; white-space: nowrap }
tr.baseline td { color: #666 }
pre { background: #f5f5f5; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; max-width: 100% }
img { max-width: 100% }
"""


def page(report: Report) -> str:
    """Return one page of HTML with tables, curves, best and worst cases; it asks for no other file or address."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>Benchmark</title><style>{_STYLE}</style></head><body><h1>Benchmark</h1>",
        f"<pre>{_html(command(report.words))}</pre><p>{_html(_NOTE)}</p>",
    ]
    for model in report.models:
        parts += [f"<h2>{_html(model)}</h2><p>{_html(_said(report, model))}</p>", _table(report, model)]
        parts += [_figure(curve) for curve in report.curves if curve.model == model]
        parts.append(_folded("Best and worst cases", _extremes_table(report, model)))
        passed = _passed_over(report, model)
        if passed:
            items = "".join(f"<li>{_html(line)}</li>" for line in passed)
            parts.append(_folded("Passed over", f"<ul>{items}</ul>"))
    sources = {text: cls.source for text in report.words["metrics"] if (cls := _metric(text)) is not None}
    parts.append(_folded("Sources of the metrics", _pairs(sources)))
    parts.append(_folded("The run", _pairs({name: _plain(value) for name, value in report.words.items()})))
    return "\n".join([*parts, "</body></html>\n"])


def _html(text: str) -> str:
    return html.escape(printable(text))


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(report: Report, model: str) -> str:
    heads = "".join(f"<th>{_html(column.title + _arrow(column))}</th>" for column in report.columns)
    rows = []
    for method in report.methods(model):
        cells = []
        for column in report.columns:
            cell = report.cells.get((model, method, column))
            mean, interval = _cell(cell)
            bold = f"<b>{mean}</b>" if method in report.best(model, column) else mean
            count = f" · {cell.count}" if cell is not None else ""
            cells.append(f"<td>{bold}<small>{interval}{count}</small></td>")
        kind = ' class="baseline"' if method in baselines() else ""
        rows.append(f"<tr{kind}><td>{_html(report.titles.get(method, method))}</td>{''.join(cells)}</tr>")
    legend = "<p><small>Below each mean: its interval · the number of cases.</small></p>"
    return f"<table><thead><tr><th>method</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>{legend}"


def _extremes_table(report: Report, model: str) -> str:
    def listed(cases: Sequence[tuple[str, float]]) -> str:
        return "<br>".join(f"{_html(name)} ({_number(value)})" for name, value in cases)

    rows = "".join(
        f"<tr><td>{_html(report.titles.get(one.method, one.method))}</td><td>{_html(one.metric)}</td>"
        f"<td>{listed(one.best)}</td><td>{listed(one.worst)}</td></tr>"
        for one in report.extremes
        if one.model == model
    )
    return f"<table><tr><th>method</th><th>metric</th><th>best</th><th>worst</th></tr>{rows}</table>"


def _pairs(pairs: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><td>{_html(name)}</td><td>{_html(text)}</td></tr>" for name, text in pairs.items())
    return f"<table>{rows}</table>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{_html(title)}</summary>{content}</details>"


def _figure(curve: Curve) -> str:
    picture = base64.b64encode(drawn(curve)).decode()
    title = _html(f"{curve.title}, {curve.model}")
    return f'<figure><img alt="{title}" src="data:image/svg+xml;base64,{picture}"></figure>'


def drawn(curve: Curve) -> bytes:
    """Return a curve as SVG: one line a method."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.5), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    styles = ("-", "--", "-.", ":")
    for number, (method, (across, up)) in enumerate(curve.lines.items()):
        # A dollar sign would begin a formula.
        label = method.replace("$", r"\$")
        axes.plot(across, up, styles[number // 10 % 4], label=label, linewidth=1.5)
    axes.set_title(curve.title.replace("$", r"\$"), fontsize=10)
    axes.legend(fontsize=7)
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "visavis", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


# -- files -------------------------------------------------------------------------------------------------------------


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

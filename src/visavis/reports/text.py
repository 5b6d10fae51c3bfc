"""The report as text: tables in Markdown and LaTeX."""

from __future__ import annotations

from visavis.reports.findings import Report
from visavis.reports.words import NOTE, arrow, cell_of, command, lead, nothing, passed_over, remarks, said


def _markdown_text(text: str) -> str:
    plain = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#&" else c for c in plain)


def markdown(report: Report) -> str:
    """Return the tables in Markdown, one a model, methods down and metrics across."""
    lines = [
        "# Benchmark",
        "",
        _markdown_text(lead(report.words, report.counts)),
        "",
        f"    {command(report.words)}",
        "",
        NOTE,
    ]
    for model in report.models:
        lines += ["", f"## {_markdown_text(model)}", "", said(report, model), ""]
        empty = nothing(report.counts, model)
        lines += [_markdown_text(empty), ""] if empty else []
        heads = ["method", *(f"{_markdown_text(column.title)}{arrow(column)}" for column in report.columns)]
        lines += [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * len(report.columns)}"]
        for method in report.methods(model):
            cells = [_markdown_text(report.titles.get(method, method))]
            for column in report.columns:
                mean, interval = cell_of(report.cells.get((model, method, column)))
                bold = f"**{mean}**" if method in report.best(model, column) else mean
                cells.append(f"{bold} ({interval})" if interval else bold)
            lines.append(f"| {' | '.join(cells)} |")
        for line in remarks(report, model):
            lines += ["", _markdown_text(line)]
        passed = [f"- {_markdown_text(line)}" for line in passed_over(report, model)]
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
    lines = [f"% {command(report.words)}", "% \\usepackage{booktabs}"]
    arrows = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "": ""}
    for model in report.models:
        methods = report.methods(model)
        heads = [_latex_text(report.titles.get(method, method)) for method in methods]
        lines += [
            r"\begin{table}",
            rf"\caption{{{_latex_text(model)}: {_latex_text(said(report, model))} {_latex_text(NOTE)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(methods)}}}",
            r"\toprule",
            " & ".join(["", *heads]) + r" \\",
            r"\midrule",
        ]
        for column in report.columns:
            cells = [_latex_text(column.title) + arrows[column.direction]]
            for method in methods:
                mean, interval = cell_of(report.cells.get((model, method, column)))
                mean = "--" if mean == "–" else mean
                bold = rf"\textbf{{{mean}}}" if method in report.best(model, column) else mean
                cells.append(rf"{bold} {{\scriptsize({interval})}}" if interval else bold)
            lines.append(" & ".join(cells) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


__all__ = ["latex", "markdown"]

"""The curves of a report, drawn: one line a method."""

from __future__ import annotations

import io

from visavis.evaluation.explainers import baselines
from visavis.reports.findings import Curve


def drawn(curve: Curve) -> bytes:
    """Return a curve as SVG: one line a method, baselines dotted in grey."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.7, 3.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    styles = ("-", "--", "-.", ":")
    greys = iter(("0.35", "0.55", "0.7"))
    for number, (method, (across, up)) in enumerate(curve.lines.items()):
        baseline = method in baselines().values()
        style = ":" if baseline else styles[number // 10 % 4]
        colour = next(greys, "0.7") if baseline else f"C{number % 10}"
        axes.plot(across, up, style, color=colour, label=_plain(method), linewidth=1.5)
    axes.set_title(_plain(curve.title), fontsize=10)
    axes.set_xlabel(curve.axes[0], fontsize=9)
    axes.set_ylabel(curve.axes[1], fontsize=9)
    axes.grid(color="0.92")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "visavis", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _plain(text: str) -> str:
    """A dollar sign would begin a formula."""
    return text.replace("$", r"\$")


__all__ = ["drawn"]

"""The curves of a report, drawn: one line a method."""

from __future__ import annotations

import io

from visavis.evaluation.findings import Curve


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


__all__ = ["drawn"]

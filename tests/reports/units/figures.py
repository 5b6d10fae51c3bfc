"""What the tests of pictures read out of them."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from visavis.plotting import figure_bytes

# In the order of the alphabet of what may be wrong: a formula, a script without a font, a name without an end.
HOSTILE = ("$\\frac{1$ bill", "東京タワー", "a name " * 30, "\x1b[31m\n", "")


def written(figure: Figure) -> list[str]:
    """All that is written, in the order in which it was put there."""
    texts = list(figure.texts)
    for axes in figure.axes:
        texts += axes.texts
        for axis in (axes.xaxis, axes.yaxis):
            texts += axis.get_ticklabels()
    return [text.get_text() for text in texts if text.get_text()]


def ticks(axes: Axes, which: str) -> list[str]:
    axis = getattr(axes, which)
    return [text.get_text() for text in axis.get_ticklabels()]


def check_drawn(figure: Figure) -> None:
    """Nothing that is written leaves the page or is read as a formula, and the file can be made."""
    figure.set_dpi(120)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page = figure.bbox
    for text in figure.findobj(Text):
        if not text.get_text() or not text.get_visible():
            continue
        box = text.get_window_extent(canvas.get_renderer())
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1
        assert inside, (text.get_text(), box.extents, page.extents)
        assert not text.get_parse_math() or "$" not in text.get_text()


def check_same_bytes(one: Figure, other: Figure) -> None:
    first = figure_bytes(one, ".svg")
    assert first.startswith(b"<?xml")
    assert first == figure_bytes(other, ".svg")

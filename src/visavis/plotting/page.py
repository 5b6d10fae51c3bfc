"""The page: first what goes where, then the ink."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch, Rectangle, RegularPolygon

from visavis.plotting.colours import COLORMAPS
from visavis.plotting.contents import Floats, Role
from visavis.plotting.lettering import font_of, lines_of

INK, QUIET, HAIRLINE = "#1a1a1a", "#555555", "#c8c8c8"
MARGIN, GAP, MARKER = 0.35, 0.28, 0.17
_LEADING, _ASCENT = 1.3, 0.98  # from line to line, and from the top of a line to its baseline, in font sizes


@dataclass
class Page:
    """What goes where, in inches from the upper left corner; `ink` makes a figure of it."""

    width: float
    strokes: list[Callable[[Figure, float], None]] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        width: float,
        *,
        size: float = 9.0,
        weight: str = "normal",
        colour: str = INK,
        lines: int = 1,
        align: Literal["left", "right", "center"] = "left",
    ) -> float:
        """Write `text` within `width` with its top at y, and return the height that it takes."""
        font = font_of(size, weight)
        wrapped = lines_of(text, width * 0.99, font, lines)
        if not wrapped:
            return 0.0

        def write(figure: Figure, height: float) -> None:
            for number, line in enumerate(wrapped):
                figure.text(
                    x,
                    height - y - (_ASCENT + number * _LEADING) * size / 72.0,
                    line,
                    transform=figure.dpi_scale_trans,
                    fontproperties=font,
                    color=colour,
                    ha=align,
                    va="baseline",  # from the baseline: "tiger" and "cat" then stand on one line
                    parse_math=False,  # a class may be called "$5 bill"
                )

        self.strokes.append(write)
        return len(wrapped) * size * _LEADING / 72.0

    def image(self, x: float, y: float, width: float, height: float, pixels: Floats) -> None:
        """Put pixels (H, W, 3 or 4) at a place, in inches from the left and the top."""

        def paint(figure: Figure, total: float) -> None:
            box = (x / self.width, 1 - (y + height) / total, width / self.width, height / total)
            axes = figure.add_axes(box, xticks=[], yticks=[])
            axes.set_axis_off()
            axes.imshow(pixels, aspect="auto", interpolation="antialiased", origin="upper", resample=True)

        self.strokes.append(paint)

    def plot(self, x: float, y: float, width: float, height: float, draw: Callable[[Axes], None]) -> None:
        """Put axes at a place, in inches from the left and the top, on which `draw` draws; labels lie outside."""

        def paint(figure: Figure, total: float) -> None:
            draw(figure.add_axes((x / self.width, 1 - (y + height) / total, width / self.width, height / total)))

        self.strokes.append(paint)

    def shape(self, make: Callable[[float], Patch]) -> None:
        """Draw the patch that `make` makes of the page's height, in inches from the lower left."""

        def paint(figure: Figure, total: float) -> None:
            patch = make(total)
            patch.set_transform(figure.dpi_scale_trans)
            figure.add_artist(patch)

        self.strokes.append(paint)

    def box(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        """Put a rectangle at a place, in inches from the left and the top."""
        self.shape(lambda total: Rectangle((x, total - y - height), width, height, **style))

    def marker(self, x: float, y: float, role: Role) -> None:
        """A disc for the target, a diamond for the foil, centred at (x, y)."""
        colour = COLORMAPS[role](1.0)

        def make(total: float) -> Patch:
            if role == "target":
                return Circle((x, total - y), 0.055, facecolor=colour, linewidth=0)
            return RegularPolygon((x, total - y), 4, radius=0.072, facecolor=colour, linewidth=0)

        self.shape(make)

    def ink(self, height: float) -> Figure:
        """Return all that was put on the page as a figure, of a height in inches."""
        figure = Figure(figsize=(self.width, height), dpi=180, facecolor="white")
        figure.set_layout_engine("none")  # else the user's settings could move what is placed here
        for stroke in self.strokes:
            stroke(figure, height)
        return figure

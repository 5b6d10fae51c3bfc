"""Explanation vectors over a plane of two features, with what the classifier says there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from visavis.blackbox.vectors import Vectors
from visavis.errors import InputError
from visavis.plotting.contents import Floats
from visavis.plotting.lettering import fitted, font_of, width_of
from visavis.plotting.page import INK, MARGIN, QUIET, Page
from visavis.plotting.parts import write_footer, write_title
from visavis.reports.style import WIDTH, nice_ticks, plain_axes

#: Colours of classes that the colour-blind tell apart (Okabe and Ito 2008); markers say the same again.
_COLOURS = ("#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#8a8a8a")
_MARKERS = "os^DvPX*"
_STEPS = 240


def plane_figure(
    vectors: Vectors,
    predict: Callable[[Floats], Any],
    features: tuple[str | int, str | int] = (0, 1),
    *,
    points: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    title: str = "What would make the classifier change its mind, and where",
) -> Figure:
    """Draw vectors as arrows on a plane, over the classes that a classifier gives there.

    Of ζ an arrow points where the class of its row becomes less likely; its length is the size of the vector in units
    of `scale`, the longest one being a twelfth of the plane. Where the gradient is next to zero a grey line shows the
    direction of the Hessian, both ways. All features but two are held at their mean.

    Args:
        vectors: what `ExplanationVectors` returned.
        predict: rows (n, d) → labels (n,): the classifier.
        features: the two of the plane, by name or number.
        points: (N, d), data to show as well.
        labels: (N,), their classes.
        title: of the figure.

    Raises:
        InputError: there are no such features, or as many labels as points are wanted.
    """
    across, up = (vectors.place_of(one) for one in features)
    if across == up:
        raise InputError(f"a plane has two features, but both are {vectors.names[across]!r}")
    data = np.empty((0, len(vectors.names))) if points is None else np.asarray(points, dtype=np.float64)
    said = np.empty(0) if labels is None else np.asarray(labels)
    if data.ndim != 2 or data.shape[1] != len(vectors.names) or not np.isfinite(data).all():
        raise InputError(f"the points are {data.shape}, but finite (N, {len(vectors.names)}) were expected")
    if said.shape != (len(data),):
        raise InputError(f"{said.size} labels came for {len(data)} points; give one each, (N,)")
    box = [_range(np.concatenate([vectors.rows[:, place], data[:, place]])) for place in (across, up)]
    grid = [np.linspace(low, high, _STEPS) for low, high in box]
    asked = np.tile(vectors.rows.mean(0), (_STEPS * _STEPS, 1))
    asked[:, across], asked[:, up] = (one.ravel() for one in np.meshgrid(*grid))
    regions = np.asarray(predict(asked))
    if (
        len({"text" if one.dtype.kind in "US" else "numbers" for one in (vectors.classes, regions, said) if len(one)})
        > 1
    ):
        raise InputError("classes and labels are text and numbers, so they cannot be compared; give labels of one kind")
    classes = np.unique(
        np.concatenate([vectors.classes, regions, said]) if len(said) else np.append(vectors.classes, regions)
    )
    index = np.searchsorted(classes, regions).reshape(_STEPS, _STEPS)
    page = Page(WIDTH)
    held = len(vectors.names) - 2
    rest = f" The other {held} features are held at their mean." if held > 0 else ""
    contrast = "" if vectors.foils is None else " Arrows point from the foil to the target."
    subtitle = (
        "Colour: what the classifier says. An arrow: which way the probability of what it says of that row falls most, "
        "the longer the faster; a grey line, where it hardly changes: along which it bends most."
        if vectors.foils is None
        else "Colour: what the classifier says."
    )
    y = write_title(page, MARGIN, WIDTH - 2 * MARGIN, title, f"{subtitle}{contrast}{rest}") + 0.15
    y = _keys(page, y, classes)
    size = 6.4
    x = MARGIN + 0.55
    draw = _draw(vectors, (across, up), box, grid, index, classes, data, said)
    page.plot(x, y, size * 1.35, size, draw)
    page.text(x + size * 0.675, y + size + 0.22, vectors.names[across], size, size=9.5, colour=QUIET, align="center")
    return page.ink(write_footer(page, y + size + 0.55, [f"Gradients: {vectors.source}."]))


def _keys(page: Page, y: float, classes: NDArray[Any]) -> float:
    """The colours of the classes, in as many lines as it takes; return where they end."""
    x = MARGIN
    for place, name in enumerate(classes.tolist()[: len(_COLOURS)]):
        shown = fitted(str(name), 2.4, 9.0)
        wide = 0.19 + width_of(shown, 9.0) + 0.3
        if x + wide > WIDTH - MARGIN and x > MARGIN:
            x, y = MARGIN, y + 0.22
        page.box(x, y + 0.02, 0.13, 0.13, facecolor=_COLOURS[place], linewidth=0)
        page.text(x + 0.19, y, shown, wide, size=9.0)
        x += wide
    return y + 0.3


def _range(values: Floats) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.08 * (high - low) or 1.0
    return low - room, high + room


def _draw(
    vectors: Vectors,
    places: tuple[int, int],
    box: list[tuple[float, float]],
    grid: list[Floats],
    index: NDArray[np.int64],
    classes: NDArray[Any],
    data: Floats,
    labels: NDArray[Any],
) -> Callable[[Axes], None]:
    across, up = places
    steps = vectors.per_deviation[:, [across, up]]
    steps = np.where(np.isfinite(steps), steps, 0.0)
    longest = float(np.linalg.norm(steps, axis=1).max()) or 1.0
    widths = np.array([high - low for low, high in box])
    # In units of scale both axes count alike; on paper a vector is as long as its share of the longest.
    unit = vectors.scale[[across, up]]
    reach = float((widths / unit).min()) / 12
    arrows = steps / longest * reach * unit
    steep = ~vectors.flat
    # Both ways alike, so a line without a head; what lies outside the plane shortens it.
    bends = np.nan_to_num(vectors.directions[vectors.flat][:, [across, up]]) * unit * reach / 4
    ends = vectors.rows[vectors.flat][:, [across, up]]

    def draw(axes: Axes) -> None:
        plain_axes(axes, grid=False)
        colours = ListedColormap([_COLOURS[place % len(_COLOURS)] for place in range(len(classes))])
        axes.pcolormesh(
            *grid, index, cmap=colours, vmin=-0.5, vmax=len(classes) - 0.5, alpha=0.22, linewidth=0, rasterized=True
        )
        for place in range(len(classes)):
            here = labels == classes[place] if len(labels) else np.zeros(0, dtype=bool)
            colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
            x, y = data[here, across], data[here, up]
            axes.scatter(x, y, s=30, color=colour, marker=marker, edgecolor="white", linewidth=0.4)
        axes.quiver(
            *vectors.rows[steep][:, [across, up]].T,
            *arrows[steep].T,
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.0022,
            headwidth=4.5,
            color=INK,
            zorder=4,
        )
        lines = np.stack([ends - bends, ends + bends])
        axes.plot(lines[:, :, 0], lines[:, :, 1], color="#555555", linewidth=0.9, zorder=3)
        axes.set(xlim=box[0], ylim=box[1])
        nice_ticks(axes.xaxis, *box[0], 6)
        nice_ticks(axes.yaxis, *box[1], 6)
        axes.set_ylabel(vectors.names[up], fontproperties=font_of(9.5, "normal"), color=QUIET, parse_math=False)

    return draw


__all__ = ["plane_figure"]

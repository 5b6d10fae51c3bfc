"""Whether networks that encode more shape also decide by it: shape bias against dimensionality, a point a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from visavis.errors import InputError
from visavis.plotting.contents import Floats
from visavis.plotting.lettering import fitted, width_of
from visavis.plotting.page import INK, MARGIN, QUIET, Page
from visavis.plotting.parts import write_footer, write_title
from visavis.reports.shape_texture.factors import SHAPE, TEXTURE, ends_of
from visavis.reports.style import TICKS, WIDTH, array_of, check_as_many, nice_ticks, plain_axes, span, write

_TALL, _LETTERS, _LONGEST = 4.6, 8.5, 2.2
# Inches from a point to its name; to the right or left, up or down, and then how far along.
_AWAY = (0.09, 0.2, 0.35, 0.55, 0.8, 1.1, 1.5, 2.0, 2.6)
_DIRECTIONS = (
    *((right, up, along) for along in (0.0, 0.3, 0.9) for up in (1, -1) for right in (1, -1)),
    *((0, 1, 0.0), (0, -1, 0.0), (1, 0, 0.0), (-1, 0, 0.0)),
)


def bias_against_dimensions(
    names: Sequence[str],
    bias: ArrayLike | torch.Tensor,
    bias_interval: ArrayLike | None,
    shape_share: ArrayLike | torch.Tensor,
    texture_share: ArrayLike | torch.Tensor,
    *,
    difference_interval: ArrayLike | None = None,
    layer: str = "",
    title: str | None = None,
) -> Figure:
    """Draw how often each network decides by shape against how much more of it encodes shape than texture.

    Args:
        names: of the n networks.
        bias: (n,) shape bias, 0 to 1: the share of decisions by shape among those by shape or texture.
        bias_interval: (n, 2) low and high; None: not drawn.
        shape_share, texture_share: (n,) shares of dimensions, 0 to 1.
        difference_interval: (n, 2) low and high of shape share − texture share; None: not drawn.
        layer: whose dimensions; "": not said.
        title: in place of the question that the figure answers.

    Raises:
        InputError: the lists are of other lengths; a share is not within 0 to 1; nothing is known of any network.
    """
    ups = _shares(bias, "shape biases", len(names))
    shape = _shares(shape_share, "shape shares", len(names))
    texture = _shares(texture_share, "texture shares", len(names))
    across = shape - texture
    up_ends = ends_of(bias_interval, len(names), "intervals of the shape bias")
    across_ends = ends_of(difference_interval, len(names), "intervals of shape share − texture share")
    known = np.isfinite(ups) & np.isfinite(across)
    if not known.any():
        raise InputError("of no network both the shape bias and the shares are known; give at least one")
    page = Page(WIDTH)
    of_layer = f" of {layer}" if layer else ""
    said = (
        f"A point is a network. Across: the share of dimensions{of_layer} that encode shape, less that of texture. "
        "Upwards: of its decisions by shape or by texture, how many are by shape."
    )
    if np.isfinite(up_ends).any() or np.isfinite(across_ends).any():
        said += " Lines: 95 % intervals."
    heading = title or "Do networks that encode more shape also decide by it?"
    y = write_title(page, MARGIN, WIDTH - 2 * MARGIN, heading, said) + 0.2
    left, width = MARGIN + 0.45, WIDTH - 2 * MARGIN - 0.6
    size = (width, _TALL)
    shown = [fitted(name, _LONGEST, _LETTERS) for name, drawn in zip(names, known, strict=True) if drawn]
    draw = _drawing(shown, across[known], ups[known], across_ends[known], up_ends[known], size)
    page.text(left, y, "shape bias, %", 2.0, size=TICKS, colour=QUIET)
    y += 0.2
    page.plot(left, y, width, _TALL, draw)
    below = y + _TALL + 0.21
    page.text(
        left + width / 2,
        below,
        "shape less texture, percentage points of dimensions",
        width,
        size=TICKS,
        colour=QUIET,
        align="center",
    )
    page.text(left, below, "← more texture dimensions", 3, size=TICKS, colour=TEXTURE)
    page.text(left + width, below, "more shape dimensions →", 3, size=TICKS, colour=SHAPE, align="right")
    missing = [name for name, drawn in zip(names, known, strict=True) if not drawn]
    if not missing:
        return page.ink(below + 0.4)
    return page.ink(write_footer(page, below + 0.3, [f"Not drawn, for a number is missing: {', '.join(missing)}."]))


def _shares(values: ArrayLike | torch.Tensor, what: str, count: int) -> Floats:
    array = array_of(values, 1, what)
    check_as_many(what, len(array), "networks", count)
    finite = array[np.isfinite(array)]
    if len(finite) and (finite.min() < 0 or finite.max() > 1):
        raise InputError(f"{what} are {finite.min():.3g} to {finite.max():.3g}, but 0 to 1 were expected")
    return array


def _drawing(
    names: Sequence[str], xs: Floats, ys: Floats, x_ends: Floats, y_ends: Floats, size: tuple[float, float]
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        plain_axes(axes)
        (left, right), (low, high) = _range(0.0, xs, x_ends), _range(0.5, ys, y_ends)
        axes.set(xlim=(left, right), ylim=(low, high))
        nice_ticks(axes.xaxis, left, right, 7, percent=True)
        nice_ticks(axes.yaxis, max(low, 0.0), min(high, 1.0), 6, percent=True)
        axes.axvline(0, color="#999999", linewidth=0.8, zorder=1.5)
        axes.axhline(0.5, color="#999999", linewidth=0.8, zorder=1.5)
        for x, y, (start, end), (bottom, top) in zip(xs, ys, x_ends, y_ends, strict=True):
            axes.plot([start, end], [y, y], color="#8a8a8a", linewidth=1.0, zorder=2)
            axes.plot([x, x], [bottom, top], color="#8a8a8a", linewidth=1.0, zorder=2)
        axes.scatter(xs, ys, s=34, color=INK, edgecolor="white", linewidth=0.6, zorder=3)

        def inches(x: Floats, y: Floats) -> Floats:
            return np.stack([(x - left) / (right - left) * size[0], (y - low) / (high - low) * size[1]], -1)

        places = inches(xs, ys)
        level = [
            Bbox([one, other]) for one, other in zip(inches(x_ends[:, 0], ys), inches(x_ends[:, 1], ys), strict=True)
        ]
        upright = [
            Bbox([one, other]) for one, other in zip(inches(xs, y_ends[:, 0]), inches(xs, y_ends[:, 1]), strict=True)
        ]
        lines = [one for one in level + upright if np.isfinite(one.extents).all()]
        for name, place, box in zip(names, places, placed(places, names, lines, size), strict=True):
            _label(axes, name, place, box, size)

    return draw


def _range(middle: float, values: Floats, ends: Floats) -> tuple[float, float]:
    """Return the range of the points; with the middle, unless it is so far off that they would crowd."""
    low, high = span(values, ends, room=0.1)
    if len(values) > 1 and max(low - middle, middle - high) > high - low:
        return low, high
    return span(values, ends, [middle], room=0.1)


def placed(places: Floats, names: Sequence[str], lines: Sequence[Bbox], size: tuple[float, float]) -> list[Bbox]:
    """Return where names stand beside their points, in inches: where least is in the way, the nearer the better.

    Args:
        places: (n, 2) of the points.
        names: of the points.
        lines: the boxes of what else is drawn.
        size: of the axes.
    """
    points = [Bbox.from_extents(x - 0.055, y - 0.055, x + 0.055, y + 0.055) for x, y in places]
    thick = [one.padded(0.015) for one in lines]
    taken: list[Bbox] = []
    for (x, y), name in zip(places, names, strict=True):
        wide, tall = width_of(name, _LETTERS) + 0.03, 0.15
        tried: list[tuple[float, int, Bbox]] = []
        for away, (right, up, along) in product(_AWAY, _DIRECTIONS):
            if along <= away:
                side, above = (0.06 + along, away - 0.03) if right and up else (away, away)
                x0 = x + (side if right > 0 else -side - wide if right < 0 else -wide / 2)
                y0 = y + (above if up > 0 else -above - tall if up < 0 else -tall / 2)
                box = Bbox.from_extents(x0, y0, x0 + wide, y0 + tall)
                outside = box.x0 < 0 or box.x1 > size[0] or box.y0 < 0 or box.y1 > size[1]
                cost = 50.0 * outside + 10.0 * sum(box.overlaps(one) for one in taken)
                cost += 4.0 * sum(box.overlaps(one) for one in points) + sum(box.overlaps(one) for one in thick)
                tried.append((cost + 2.5 * away, len(tried), box))
        taken.append(min(tried, key=lambda one: one[:2])[2])
    return taken


def _label(axes: Axes, name: str, place: Floats, box: Bbox, size: tuple[float, float]) -> None:
    """Write a name in its box, with a line to its point where that is not beside it."""
    near = np.clip(place, box.min, box.max)
    if np.hypot(*(place - near)) > 0.16:
        ends = np.stack([place, near]) / size
        axes.plot(*ends.T, color="#8a8a8a", linewidth=0.6, transform=axes.transAxes, zorder=1.8)
    at = (box.x0 + 0.015) / size[0], (box.y0 + 0.035) / size[1]
    write(axes, *at, name, size=_LETTERS, transform=axes.transAxes, va="baseline")


__all__ = ["bias_against_dimensions", "placed"]

"""One picture on a unit's card: what the unit saw of it, and what in that made it fire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from visavis.plotting.colours import TARGET, overlay
from visavis.plotting.contents import Floats, checked_heat, checked_picture
from visavis.plotting.page import HAIRLINE
from visavis.plotting.strength import shared_scale, sigma_of, smooth

# For display only: the Gaussian over a map, as a share of the window's shorter side.
_SMOOTHING = 0.012
# A window is so many times as wide as the field, and at least so many pixels.
_AROUND, _SMALLEST = 1.7, 48
# A field of a larger share of the picture is most of it: a frame around it would say little.
_MOST = 0.6


@dataclass(frozen=True, eq=False)
class Glimpse:
    """A picture on which a unit fires.

    Attributes:
        picture: (3, H, W) or (H, W, 3), 0 to 1.
        field: what the unit sees of it at the position that fires, x0, y0, x1, y1 in pixels, half-open; None: all.
        spot: where the position is, x and y in pixels; None: it has none.
        heat: (H, W), at least 0; None: there is no map.
        label: the picture's class.
        value: of the unit.
    """

    picture: ArrayLike | torch.Tensor
    field: tuple[int, int, int, int] | None = None
    spot: tuple[float, float] | None = None
    heat: ArrayLike | torch.Tensor | None = None
    label: str = ""
    value: float | None = None


def spot_of(position: Sequence[int], positions: Sequence[int], size: tuple[int, int]) -> tuple[float, float] | None:
    """Return where a position (y, x) of a map lies in a picture, x and y in pixels; None where there is no such place.

    The middle of its cell, as if the cells tiled the picture, which those of padded networks do, about.

    Args:
        position: (y, x).
        positions: how many there are down and across.
        size: height and width of the picture.
    """
    if len(position) != 2:
        return None
    y, x = ((at + 0.5) / count * side for at, count, side in zip(position, positions, size, strict=True))
    return x, y


@dataclass(frozen=True, eq=False)
class Window:
    """The part of a picture that is shown: all of it, or a square around what the unit sees."""

    picture: Floats
    heat: Floats | None
    field: tuple[int, int, int, int]
    spot: tuple[float, float] | None
    x0: int
    y0: int
    x1: int
    y1: int

    def seen(self, axes: Axes) -> None:
        """Draw the picture, what is not seen dimmed."""
        left, top, right, bottom = self.field
        rows, columns = self.picture.shape[:2]
        pixels = 0.35 * self.picture + 0.65
        pixels[top:bottom, left:right] = self.picture[top:bottom, left:right]
        self._show(axes, pixels)
        if max(right - left, bottom - top) <= _MOST * max(rows, columns):
            box = (left - 0.5, top - 0.5), right - left, bottom - top
            axes.add_patch(Rectangle(*box, facecolor="none", edgecolor="black", linewidth=2.2))
            axes.add_patch(Rectangle(*box, facecolor="none", edgecolor="white", linewidth=1.1))
            return
        # Of a field that is most of the picture those edges alone are drawn that lie within it.
        for edge, end, line in (
            (left, 0, axes.axvline),
            (right, columns, axes.axvline),
            (top, 0, axes.axhline),
            (bottom, rows, axes.axhline),
        ):
            if edge != end:
                line(edge - 0.5, color="black", linewidth=1.4)
                line(edge - 0.5, color="white", linewidth=0.8)
        if self.spot is not None:
            x, y = self.spot[0] - 0.5, self.spot[1] - 0.5
            for colour, thick in (("black", 2.8), ("white", 1.4)):
                axes.plot([x], [y], "o", markersize=9, markerfacecolor="none", color=colour, markeredgewidth=thick)

    def why(self, axes: Axes) -> None:
        """Draw the map over the greyed picture."""
        assert self.heat is not None
        part = slice(self.y0, self.y1), slice(self.x0, self.x1)
        picture = self.picture[part]
        heat = smooth(self.heat[part], sigma_of(picture, _SMOOTHING))
        pixels = self.picture.copy()
        pixels[part] = overlay(picture, heat, shared_scale([heat]), TARGET)
        self._show(axes, pixels)

    def _show(self, axes: Axes, pixels: Floats) -> None:
        axes.imshow(pixels.clip(0, 1), aspect="equal", interpolation="antialiased", origin="upper", resample=True)
        axes.set(xlim=(self.x0 - 0.5, self.x1 - 0.5), ylim=(self.y1 - 0.5, self.y0 - 0.5), xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(visible=True, color=HAIRLINE, linewidth=0.6)


def window_of(one: Glimpse) -> Window:
    """Return the part of a picture that is shown.

    Raises:
        InputError: picture or map are not as described.
    """
    given = one.picture.detach().cpu().double().numpy() if isinstance(one.picture, torch.Tensor) else one.picture
    array = np.asarray(given)
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    picture = checked_picture(array)
    rows, columns = picture.shape[:2]
    heat = None
    if one.heat is not None:
        values = one.heat.detach().cpu().double().numpy() if isinstance(one.heat, torch.Tensor) else one.heat
        heat = checked_heat(values, (rows, columns), "the map of a unit")
    field = (0, 0, columns, rows) if one.field is None else one.field
    x0, y0, x1, y1 = field
    side = int(min(max(_AROUND * max(x1 - x0, y1 - y0), _SMALLEST), max(rows, columns)))
    left, right = _around((x0 + x1) / 2, side, columns)
    top, bottom = _around((y0 + y1) / 2, side, rows)
    return Window(picture, heat, field, one.spot, left, top, right, bottom)


def _around(middle: float, length: int, size: int) -> tuple[int, int]:
    """Return a stretch of a length around a middle, moved to lie within 0 and size."""
    length = min(length, size)
    first = min(max(0, round(middle - length / 2)), size - length)
    return first, first + length


__all__ = ["Glimpse", "Window", "spot_of", "window_of"]

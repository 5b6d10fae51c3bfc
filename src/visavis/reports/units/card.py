"""A unit on one card: which classes need it, what its attributes are, on which pictures it fires, and why there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from visavis.plotting.colours import TARGET, overlay
from visavis.plotting.contents import Floats, checked_heat, checked_picture
from visavis.plotting.page import HAIRLINE, INK, QUIET, Page
from visavis.plotting.strength import shared_scale, sigma_of, smooth
from visavis.reports.units.style import BLUE, ORANGE, PALE, WIDTH, points, said

# Inches.
_EDGE, _WORDS, _SPACE, _APART = 0.22, 2.35, 0.3, 0.07
_AT_MOST = 6
# For display only: the Gaussian over a map, as a share of the window's shorter side.
_SMOOTHING = 0.012
# A window is so many times as wide as the field, and at least so many pixels.
_AROUND, _SMALLEST = 1.7, 48


@dataclass(frozen=True)
class ClassDrop:
    """A class, and by how much its accuracy falls without a unit: −1 to 1, with its interval where it is known."""

    name: str
    drop: float
    low: float | None = None
    high: float | None = None


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


def unit_card(
    unit: int,
    layer: str,
    classes: Sequence[ClassDrop],
    glimpses: Sequence[Glimpse],
    *,
    facts: Sequence[tuple[str, float | str]] = (),
    drop: float | None = None,
) -> Figure:
    """Draw a unit's card.

    Above, each picture as the network saw it: what the unit cannot see of it, from where it fired, is dimmed, and a
    ring marks the place. Below, what speaks for the unit there, rather than for the layer's others (CLRP), each map by
    its own scale. Pictures of which the unit sees a small part are shown enlarged around it.

    Args:
        unit: its number.
        layer: whose.
        classes: those that are hit hardest, the hardest first; three are shown.
        glimpses: up to six, the strongest first.
        facts: attributes, as (title, value).
        drop: the overall drop, −1 to 1.

    Raises:
        InputError: pictures or maps are not as described.
    """
    page = Page(WIDTH)
    y = _EDGE
    y += page.text(_EDGE, y, f"Unit {unit}", _WORDS, size=16.0, weight="bold")
    y += page.text(_EDGE, y, f"of layer {layer}", _WORDS, size=8.5, colour=QUIET, lines=2) + 0.1
    y = _needed(page, y, classes[:3], drop)
    y = _facts(page, y, facts)
    right = _pictures(page, list(glimpses)[:_AT_MOST])
    bottom = max(y, right) + 0.1
    page.box(0.04, 0.04, WIDTH - 0.08, bottom - 0.08, facecolor="none", edgecolor=HAIRLINE, linewidth=0.8)
    return page.ink(bottom)


def _needed(page: Page, y: float, classes: Sequence[ClassDrop], drop: float | None) -> float:
    """The class that needs the unit most, in words, and bars of the classes hit hardest."""
    if not classes:
        return y
    first = classes[0]
    if first.drop > 0:
        y += page.text(_EDGE, y, "needed most by", _WORDS, size=8.5, colour=QUIET)
        y += page.text(_EDGE, y, first.name, _WORDS, size=11.0, weight="bold", lines=2)
        y += page.text(_EDGE, y, f"{points(-first.drop)} points of accuracy without it", _WORDS, size=8.5)
        if first.low is not None and first.high is not None:
            ends = f"95 % interval {points(-first.high)} to {points(-first.low)}"
            y += page.text(_EDGE, y, ends, _WORDS, size=8.5, colour=QUIET)
    else:
        y += page.text(_EDGE, y, "no class needs it", _WORDS, size=11.0, weight="bold")
    if drop is not None:
        change = "no change" if not round(1000 * drop) else f"{points(-drop, signed=True)} points"
        y += page.text(_EDGE, y, f"{change} over all classes", _WORDS, size=8.5, colour=QUIET)
    y += 0.1
    classes = [one for one in classes if one.drop != 0 and np.isfinite(one.drop)]
    ends_of = [v for one in classes for v in (one.drop, one.low, one.high) if v is not None and np.isfinite(v)]
    low, high = min([0.0, *ends_of]), max([0.01, *ends_of])
    for one in classes:
        page.text(_EDGE, y, one.name, _WORDS - 0.5, size=8.0)
        page.text(_EDGE + _WORDS, y, f"{points(-one.drop, signed=True)}", 0.5, size=8.0, align="right")
        y += 0.15
        place = [_EDGE + (v - low) / (high - low) * _WORDS for v in (0.0, one.drop)]
        page.box(_EDGE, y, _WORDS, 0.06, facecolor=PALE, linewidth=0)
        page.box(min(place), y, abs(place[1] - place[0]), 0.06, facecolor=ORANGE if one.drop > 0 else BLUE, linewidth=0)
        if one.low is not None and one.high is not None and np.isfinite(one.low + one.high):
            left, right = (_EDGE + (v - low) / (high - low) * _WORDS for v in (one.low, one.high))
            page.box(left, y + 0.03, right - left, 0, edgecolor=INK, linewidth=0.8)
        y += 0.12
    return y + 0.06


def _facts(page: Page, y: float, facts: Sequence[tuple[str, float | str]]) -> float:
    for title, value in facts:
        text = value if isinstance(value, str) else said(float(value))
        page.text(_EDGE, y, title, _WORDS - 0.6, size=8.0, colour=QUIET)
        y += page.text(_EDGE + _WORDS, y, text, 0.6, size=8.0, align="right")
    return y + 0.08


def _pictures(page: Page, glimpses: Sequence[Glimpse]) -> float:
    """The pictures, and their maps beneath; returns where they end."""
    x = _EDGE + _WORDS + _SPACE
    room = WIDTH - _EDGE - x
    if not glimpses:
        page.text(x, _EDGE, "no pictures", room, size=8.5, colour=QUIET)
        return _EDGE + 0.2
    side = (room - (_AT_MOST - 1) * _APART) / _AT_MOST
    mapped = any(one.heat is not None for one in glimpses)
    y = _EDGE + 0.02
    y += page.text(x, y, "Where it fires most, and what it can see from there", room, size=8.5, colour=QUIET) + 0.05
    windows = [_window(one) for one in glimpses]
    for number, window in enumerate(windows):
        page.plot(x + number * (side + _APART), y, side, side, window.seen)
    y += side + 0.05
    for number, one in enumerate(glimpses):
        left = x + number * (side + _APART)
        page.text(left, y, one.label, side, size=8.0)
        if one.value is not None:
            page.text(left, y + 0.145, f"activation {said(one.value)}", side, size=7.5, colour=QUIET)
    y += 0.36
    if mapped:
        why = "Why it fires: what speaks for this unit rather than for the layer's others (CLRP)"
        y += page.text(x, y, why, room, size=8.5, colour=QUIET) + 0.05
        for number, window in enumerate(windows):
            if window.heat is not None:
                page.plot(x + number * (side + _APART), y, side, side, window.why)
        y += side
    return y + 0.12


@dataclass(frozen=True, eq=False)
class _Window:
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
        if max(right - left, bottom - top) <= 0.6 * max(rows, columns):
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


def _window(one: Glimpse) -> _Window:
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
    return _Window(picture, heat, field, one.spot, left, top, right, bottom)


def _around(middle: float, length: int, size: int) -> tuple[int, int]:
    """Return a stretch of a length around a middle, moved to lie within 0 and size."""
    length = min(length, size)
    first = min(max(0, round(middle - length / 2)), size - length)
    return first, first + length


__all__ = ["ClassDrop", "Glimpse", "spot_of", "unit_card"]

"""What pictures with axes have in common: their width, their colours, their axes and how they spell numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator, SymmetricalLogLocator
from numpy.typing import ArrayLike

from visavis.errors import InputError
from visavis.plotting.colours import FOIL, TARGET, overlay
from visavis.plotting.contents import Floats
from visavis.plotting.lettering import font_of
from visavis.plotting.page import INK, QUIET

#: Inches, of which a page of HTML shows about 100 pixels each.
WIDTH = 10.0
ORANGE, BLUE, GREY, PALE = to_hex(TARGET(1.0)), to_hex(FOIL(1.0)), "#8a8a8a", "#e9e9e9"
#: Of what is beside orange, blue and grey.
OTHERS = ("#4d4d4d", "#8a6d3b", "#5b8a5b", "#7a4d8a")
TICKS = 8.0


def _on_white() -> ListedColormap:
    strength = np.linspace(-1.0, 1.0, 513)[None, :]
    return ListedColormap(overlay(np.ones((1, 513, 1)), strength, 1.0, TARGET)[0], name="visavis-on-white")


#: The colours of the maps, as they lie over white paper: −1 blue, 0 white, 1 orange; call it with (strength + 1) / 2.
ON_WHITE = _on_white()


def array_of(values: ArrayLike | torch.Tensor, dimensions: int, name: str) -> Floats:
    """Return values as float64, or an error that names them.

    Raises:
        InputError: they have another number of dimensions, or are none.
    """
    given = values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else values
    array: Floats = np.asarray(given, dtype=np.float64)
    if array.ndim != dimensions or not array.size:
        raise InputError(f"{name} have the shape {array.shape}, but {dimensions} dimension(s) with values are drawn")
    return array


def check_as_many(what: str, found: int, of: str, expected: int) -> None:
    """Refuse lists that do not belong together.

    Raises:
        InputError: they differ in length.
    """
    if found != expected:
        raise InputError(f"{found} {what} for {expected} {of}; give one each")


def points(drop: float, *, signed: bool = False) -> str:
    """A difference of shares, −1 to 1, in percentage points, without the unit: 34, 3.4, −12."""
    value = 100 * drop
    if math.isnan(value):
        return "–"
    text = f"{abs(value):.0f}" if abs(value) >= 9.95 or value == 0 else f"{abs(value):.1f}"
    if float(text) == 0:
        return "0"
    return ("−" if value < 0 else "+" if signed else "") + text


def said(value: float, digits: int = 3) -> str:
    """A number with a true minus sign and so many digits that count."""
    return f"{value:.{digits}g}".replace("-", "−")


def plain_axes(axes: Axes, *, grid: bool = True) -> None:
    """Axes with two quiet spines and a pale grid, whatever the user's settings are."""
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color("#b5b5b5")
        spine.set_linewidth(0.8)
    axes.tick_params(which="both", length=2.5, width=0.8, color="#b5b5b5", labelcolor=QUIET, labelsize=TICKS, pad=2.5)
    axes.minorticks_off()
    if grid:
        axes.grid(True, color=PALE, linewidth=0.6)
        axes.set_axisbelow(True)


def ticks_at(axis: Axis, places: Sequence[float], texts: Sequence[str], *, size: float = TICKS, **style: Any) -> None:
    """Ticks at places, with texts that are never read as formulas."""
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FixedFormatter(list(texts)))
    for label in axis.get_ticklabels():
        label.set_parse_math(False)
        label.set_fontproperties(font_of(size, "normal"))
        label.set(**style)


def nice_ticks(
    axis: Axis, low: float, high: float, count: int, *, percent: bool = False, integer: bool = False
) -> None:
    """Round ticks within a range; with `percent` written as 100 times their value."""
    locator = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10], integer=integer)
    places = [one for one in locator.tick_values(low, high) if low - 1e-12 <= one <= high + 1e-12]
    factor = 100 if percent else 1
    ticks_at(axis, places, [said(round(factor * one, 10), 4) for one in places])


def count_axis(axes: Axes, counts: Floats) -> None:
    """The numbers of units: linear, or logarithmic with a place for none where most of the counts are small."""
    most = float(counts.max())
    if most >= 20 and float(np.median(counts)) < 0.3 * most:
        axes.set_xscale("symlog", linthresh=1.0, linscale=0.6)
        ticks = [
            0.0,
            *(
                float(one)
                for one in SymmetricalLogLocator(base=10, linthresh=1).tick_values(1, most)
                if 1 <= one <= most
            ),
        ]
        if most / max(ticks) > 1.8:
            ticks.append(most)
        axes.set_xlim(-0.12, most * 1.08)
        ticks_at(axes.xaxis, ticks, [f"{one:.0f}" for one in ticks])
        return
    room = 0.02 * max(most - float(counts.min()), 1)
    low, high = float(counts.min()) - room, most + room
    axes.set_xlim(low, high)
    nice_ticks(axes.xaxis, low, high, 5, integer=True)


def span(*values: ArrayLike, room: float = 0.06) -> tuple[float, float]:
    """The range of finite values, with some room; one of width 1 around a single value."""
    flat = np.concatenate([np.ravel(np.asarray(one, dtype=np.float64)) for one in values])
    flat = flat[np.isfinite(flat)]
    if not len(flat):
        return 0.0, 1.0
    low, high = float(flat.min()), float(flat.max())
    width = high - low
    if width <= 1e-12 * max(1.0, abs(low), abs(high)):
        return low - 0.5 * max(1e-3, abs(low)), high + 0.5 * max(1e-3, abs(high))
    return low - room * width, high + room * width


def write(
    axes: Axes, x: float, y: float, text: str, *, size: float = TICKS, weight: str = "normal", **style: Any
) -> Any:
    """Text on axes in the page's font, which is never read as a formula."""
    settings = {"color": INK, **style}
    return axes.text(x, y, text, fontproperties=font_of(size, weight), parse_math=False, **settings)


__all__ = [
    "BLUE",
    "GREY",
    "ON_WHITE",
    "ORANGE",
    "PALE",
    "TICKS",
    "WIDTH",
    "array_of",
    "check_as_many",
    "count_axis",
    "nice_ticks",
    "plain_axes",
    "points",
    "said",
    "span",
    "ticks_at",
    "write",
]

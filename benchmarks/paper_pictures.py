"""The figures of the paper's experiments: methods down, classes or neurons or models across; and accuracy against p."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from visavis.plotting import TARGET, overlay, shared_scale, smooth
from visavis.terminal import printable

# In inches: a map, between maps, at the border, the names of the rows.
_CELL, _GAP, _MARGIN, _LABEL = 1.75, 0.1, 0.15, 0.55
# The Gaussian over the maps, as a share of the shorter side; for display alone.
_SMOOTHING = 0.01


def sheet(
    picture: Tensor, rows: Sequence[str], columns: Sequence[str], maps: Tensor, *, title: str, shared: bool
) -> Figure:
    """Return the maps of a picture as a table of pictures, the picture itself at the upper left.

    Args:
        picture: (3, H, W) in [0, 1].
        rows: what stands down, R methods.
        columns: what stands across, K classes, neurons or models.
        maps: (R, K, H, W), signed; opposite signs have opposite colours.
        title: of the whole.
        shared: whether the maps of a row share one scale, so that strengths can be compared; else each has its own.
    """
    shown = picture.permute(1, 2, 0).cpu().double().numpy()
    sigma = _SMOOTHING * min(shown.shape[:2])
    heats = [[smooth(one.cpu().double().numpy(), sigma) for one in row] for row in maps]
    tall = _CELL * shown.shape[0] / shown.shape[1]
    said, heads = _lines(title, int(_CELL * 10 * (len(columns) + 1)), 2), [_lines(one, 23, 3) for one in columns]
    # In inches from the left, and from the top.
    left = _MARGIN + _CELL + _LABEL
    top = 0.45 + 0.2 * said.count("\n") + 0.15 * (1 + max(one.count("\n") for one in heads))
    width = left + len(columns) * (_CELL + _GAP) + _MARGIN
    height = top + len(rows) * (tall + _GAP) + 0.4
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")

    def cell(x: float, y: float, pixels: NDArray[np.float64]) -> Axes:
        axes = figure.add_axes((x / width, 1 - (y + tall) / height, _CELL / width, tall / height), xticks=[], yticks=[])
        axes.imshow(pixels, interpolation="antialiased", aspect="auto")
        for spine in axes.spines.values():
            spine.set(color="#c8c8c8", linewidth=0.6)
        return axes

    figure.text(_MARGIN / width, 1 - 0.12 / height, said, va="top", size=11, weight="bold", parse_math=False)
    cell(_MARGIN, top, shown).set_title("the picture", size=8)
    for place, (name, row) in enumerate(zip(rows, heats, strict=True)):
        scales = [shared_scale(row)] * len(row) if shared else [shared_scale([heat]) for heat in row]
        for column, (heat, scale) in enumerate(zip(row, scales, strict=True)):
            x, y = left + column * (_CELL + _GAP), top + place * (tall + _GAP)
            axes = cell(x, y, overlay(shown, heat, scale, TARGET))
            if place == 0:
                axes.set_title(heads[column], size=8, parse_math=False)
            if column == 0:
                axes.set_ylabel(_lines(name, 22, 2), size=9, parse_math=False)
            if not heat.any():
                axes.text(0.5, 0.5, "no evidence", transform=axes.transAxes, ha="center", va="center", size=8)
    scaled = "the maps of a row share one colour scale" if shared else "each map has a colour scale of its own"
    footer = f"Orange speaks for, blue against; {scaled}."
    figure.text(_MARGIN / width, 0.15 / height, footer, size=7.5, color="#555555")
    return figure


def _lines(text: str, width: int, most: int) -> str:
    """Return text in at most so many lines; a line break in it stays one, and what does not print is written out."""
    parts = (line for part in text.split("\n") for line in textwrap.wrap(printable(part), width))
    lines = list(parts)
    return "\n".join(lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]} …"])


def curves(lines: Mapping[str, Sequence[float]], shares: Sequence[float], dashed: Sequence[str], title: str) -> Figure:
    """Return accuracy against p, one line a method.

    Args:
        lines: of each method, the accuracy at each share, 0 to 1.
        shares: of energy, p, 0 to 1.
        dashed: the methods that never look at the network.
        title: of the whole.
    """
    figure = Figure(figsize=(7.2, 4.4), dpi=120, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    colours = iter([f"C{number}" for number in range(10)] * 4)
    greys = iter(["#444444", "#777777", "#aaaaaa"] * 4)
    for number, (name, line) in enumerate(lines.items()):
        dash: dict[str, Any] = {"linestyle": "--", "color": next(greys)} if name in dashed else {"color": next(colours)}
        # Thinner from line to line: of two that agree, both are seen.
        wide = max(3.2 - 0.3 * number, 1.0)
        across, label = [100 * share for share in shares], name.replace("$", r"\$")
        axes.plot(across, line, label=label, linewidth=wide, marker="osD^vPX*<>"[number % 10], markersize=4, **dash)
    axes.set_xlabel("p: share of the map's energy in the foreground, %")
    axes.set_ylabel("foreground wholly in the box")
    axes.set_ylim(bottom=-0.02)
    axes.set_title(_lines(title, 80, 2), size=10, parse_math=False)
    axes.grid(color="#ececec")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure

"""Units × classes: by how much each class suffers without each unit, the units that hit hardest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from visavis.plotting.contents import Floats
from visavis.plotting.lettering import fitted, width_of
from visavis.plotting.page import GAP, INK, MARGIN, QUIET, Page
from visavis.plotting.parts import write_title
from visavis.reports.style import (
    ON_WHITE,
    TICKS,
    WIDTH,
    array_of,
    check_as_many,
    nice_ticks,
    points,
    ticks_at,
    write,
)

# A table of so many is shown whole.
_WHOLE = 12
# Inches.
_NAMES, _BAR, _CELL, _ROW = 2.3, 0.95, (0.1, 0.62), (0.19, 0.3)


@dataclass(frozen=True, eq=False)
class Shown:
    """Which units and classes a heat map shows, in which order: rows and columns of the drops."""

    units: NDArray[np.int64]
    classes: NDArray[np.int64]


def chosen(drops: ArrayLike | torch.Tensor, most_units: int, most_classes: int) -> Shown:
    """Return the units that hit a class hardest, and the classes that are hit hardest by them.

    Each unit's hardest-hit class is among the classes as long as there is room. Of more than 12 units or classes those
    are left out between which nothing changes. Classes come by their largest drop;
    units by the place of the class that they hit hardest, so that a staircase shows, and then by that drop. Equal ones
    keep their order.

    Args:
        drops: (S, K), NaN for classes without images.
        most_units, most_classes: how many at most.
    """
    table = array_of(drops, 2, "class drops")
    changed = np.nan_to_num(table) != 0
    table = np.nan_to_num(table, nan=-np.inf)
    hardest = table.max(1)
    units = np.argsort(-hardest, kind="stable")[:most_units]
    if len(changed) > _WHOLE and changed.any():
        units = units[changed[units].any(1)]
    table, hardest, changed = table[units], hardest[units], changed[units]
    hit = table.argmax(1)
    # By the largest drop; the classes that some unit hits hardest go before those that it merely hits too.
    suffered = table.max(0)
    is_hit = np.zeros(table.shape[1], dtype=bool)
    is_hit[hit] = True
    classes = np.lexsort((np.arange(table.shape[1]), -suffered, ~is_hit))[:most_classes]
    if table.shape[1] > _WHOLE and changed.any():
        classes = classes[changed[:, classes].any(0)]
    classes = classes[np.argsort(-suffered[classes], kind="stable")]
    place = np.full(table.shape[1], len(classes))
    place[classes] = np.arange(len(classes))
    order = np.lexsort((-hardest, place[hit]))
    return Shown(units[order], classes)


def importance_heatmap(
    drops: ArrayLike | torch.Tensor,
    units: Sequence[int],
    classes: Sequence[str],
    *,
    layer: str,
    most_units: int = 40,
    most_classes: int = 40,
    measure: str = "accuracy",
) -> Figure:
    """Draw by how much each class's accuracy falls without each unit: a row a class, a column a unit.

    Orange is a fall, blue a rise, white no change; the colours end at the largest drop shown, alike on both sides. Each
    unit's hardest-hit class is framed. Classes without images are hatched.

    Args:
        drops: (S, K) class drops, −1 to 1; NaN for classes without images.
        units: the S numbers of the units.
        classes: the K names.
        layer: whose units.
        most_units, most_classes: how many are shown at most; see `chosen` for which. The figure says so.
        measure: what falls.

    Raises:
        InputError: the lists are of other lengths.
    """
    table = array_of(drops, 2, "class drops")
    check_as_many("units", len(units), "rows of class drops", table.shape[0])
    check_as_many("class names", len(classes), "columns of class drops", table.shape[1])
    shown = chosen(table, most_units, most_classes)
    part = table[np.ix_(shown.units, shown.classes)].T
    names = [fitted(classes[k], _NAMES, TICKS) for k in shown.classes]
    rows, columns = part.shape
    indent = max(width_of(name, TICKS) for name in (*names, "without unit")) + 0.12
    width = float(np.clip((WIDTH - 2 * MARGIN - indent - GAP - _BAR) / columns, *_CELL))
    height = float(np.clip(5.0 / rows, *_ROW))
    page = Page(WIDTH)
    title = "Which class dies when a unit does"
    y = (
        write_title(
            page,
            MARGIN,
            WIDTH - 2 * MARGIN,
            title,
            f"Layer {layer}. {_subtitle(table, part, most_units, most_classes)}",
        )
        + 0.12
    )
    numbers = [str(units[u]) for u in shown.units]
    upright = max(width_of(one, TICKS - 1) for one in numbers) > 0.85 * width
    head = (max(width_of(one, TICKS - 1) for one in numbers) if upright else 0.12) + 0.1
    x = MARGIN + indent
    page.text(x - 0.08, y + head - 0.2, "without unit", indent, size=TICKS, colour=QUIET, align="right")
    y += head
    limit = _limit(part)

    def draw(axes: Axes) -> None:
        _draw(axes, part, limit, values=width >= 0.4)
        ticks_at(axes.yaxis, range(rows), names, color=INK)
        ticks_at(axes.xaxis, range(columns), numbers, color=INK, size=TICKS - 1, rotation=90 if upright else 0)

    page.plot(x, y, columns * width, rows * height, draw)
    bar = x + columns * width + GAP
    bottom = _colour_bar(page, bar, y, max(0.9, min(2.4, rows * height - 0.75)), limit, measure)
    return page.ink(max(y + rows * height, bottom) + MARGIN)


def _subtitle(table: Floats, part: Floats, most_units: int, most_classes: int) -> str:
    rows, columns = part.shape
    units, classes = table.shape
    which = f"{columns} of {units} units, {rows} of {classes} classes"
    if (columns, rows) == (units, classes):
        which = f"All {units} units and {classes} classes."
    elif columns == most_units < units or rows == most_classes < classes:
        which += ": the units that cost a class most, and the classes that lose most by them."
    else:
        which += ": those between which anything changes."
    empty = int(np.isnan(table).all(0).sum())
    if empty:
        shown = ", hatched" if np.isnan(part).any() else ""
        which += f" {empty} {'class has' if empty == 1 else 'classes have'} no images{shown}."
    return (
        f"{which} Each column is a unit that was removed; orange is what a class loses, blue what it gains, and the "
        "frame marks the class that loses most."
    )


def _limit(part: Floats) -> float:
    largest = float(np.nanmax(np.abs(part))) if not np.isnan(part).all() else 0.0
    return largest or 1.0


def _draw(axes: Axes, part: Floats, limit: float, *, values: bool) -> None:
    rows, columns = part.shape
    axes.patch.set(facecolor="#f7f7f7", edgecolor="#cccccc", hatch="//////", linewidth=0)
    edges = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    norm = Normalize(-limit, limit)
    axes.pcolormesh(*edges, np.ma.masked_invalid(part), cmap=ON_WHITE, norm=norm, edgecolors="#ededed", linewidth=0.4)
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    for spine in axes.spines.values():
        spine.set(visible=True, color="#cccccc", linewidth=0.8)
    axes.tick_params(which="both", length=0, pad=3, top=False, bottom=False, labeltop=True, labelbottom=False)
    for column in range(columns):
        if np.isnan(part[:, column]).all():
            continue
        row = int(np.nanargmax(part[:, column]))
        if part[row, column] > 0:
            frame = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="none", edgecolor=INK, linewidth=0.9, zorder=3)
            axes.add_patch(frame)
    if values:
        for (row, column), value in np.ndenumerate(part):
            if np.isnan(value):
                continue
            ink = "white" if abs(value) > 0.6 * limit else INK
            write(axes, column, row, points(value), size=TICKS, color=ink, ha="center", va="center_baseline")


def _colour_bar(page: Page, x: float, y: float, height: float, limit: float, measure: str) -> float:
    y += page.text(x, y, f"{measure} lost, percentage points", _BAR, size=TICKS, colour=QUIET, lines=3) + 0.1

    def draw(axes: Axes) -> None:
        ramp = np.linspace(-limit, limit, 257)
        axes.pcolormesh(
            [0, 1], ramp, ramp[:-1, None] + (ramp[1] - ramp[0]) / 2, cmap=ON_WHITE, norm=Normalize(-limit, limit)
        )
        axes.set(xlim=(0, 1), ylim=(-limit, limit))
        axes.tick_params(length=2.5, width=0.8, color="#b5b5b5", pad=2.5, labelcolor=QUIET, left=False, right=True)
        axes.tick_params(labelleft=False, labelright=True)
        for spine in axes.spines.values():
            spine.set(visible=True, color="#cccccc", linewidth=0.8)
        ticks_at(axes.xaxis, [], [])
        nice_ticks(axes.yaxis, -limit, limit, 5, percent=True)

    page.plot(x, y, 0.16, height, draw)
    return y + height


__all__ = ["Shown", "chosen", "importance_heatmap"]

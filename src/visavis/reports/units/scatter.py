"""Importance against attributes: one point a unit, the overall drop and the largest class drop side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from visavis.plotting.contents import Floats
from visavis.plotting.lettering import width_of
from visavis.plotting.page import INK, MARGIN, QUIET, Page
from visavis.plotting.parts import write_title
from visavis.reports.style import (
    GREY,
    ORANGE,
    WIDTH,
    array_of,
    check_as_many,
    nice_ticks,
    plain_axes,
    span,
    write,
)
from visavis.units.attributes import Related
from visavis.units.intervals import Estimate

# Inches: of a panel, of the words above and below it, of what stands left of it, and between two attributes.
_TALL, _ABOVE, _LEFT, _BETWEEN = 1.55, 1.12, 0.45, 0.25
_NUMBERS = 7.0


@dataclass(frozen=True, eq=False)
class Compared:
    """One attribute, beside importance.

    Attributes:
        title: of the attribute.
        values: (S,), one a unit; NaN where it is not defined.
        overall: how it goes with the overall drops, as `units.related` says it.
        hardest: how it goes with the largest class drops.
    """

    title: str
    values: ArrayLike | torch.Tensor
    overall: Related
    hardest: Related


def attribute_scatter(
    attributes: Sequence[Compared],
    drops: ArrayLike | torch.Tensor,
    max_drops: ArrayLike | torch.Tensor,
    units: Sequence[int],
    *,
    layer: str,
    notable: int = 4,
    measure: str = "accuracy",
) -> Figure:
    """Draw each unit's drops against its attributes, a pair of panels an attribute, with the correlations.

    Args:
        attributes: at least one.
        drops: (S,) overall drops, −1 to 1.
        max_drops: (S,) largest class drops, −1 to 1.
        units: the S numbers of the units.
        layer: whose units.
        notable: of so many units with the largest drops of a panel the numbers are written.
        measure: what drops.

    Raises:
        InputError: the lists are of other lengths.
    """
    overall, hardest = array_of(drops, 1, "overall drops"), array_of(max_drops, 1, "largest class drops")
    check_as_many("units", len(units), "overall drops", len(overall))
    check_as_many("largest class drops", len(hardest), "units", len(units))
    check_as_many("pages", min(len(attributes), 1), "attributes", 1)
    across = min(len(attributes), 2)
    page = Page(WIDTH)
    title = "Can one tell a unit's importance without removing it?"
    said = (
        f"Layer {layer}. {len(units)} units, one point each: its attribute across, and upwards how much {measure} is "
        f"lost without it, in percentage points. The {notable} with the largest drops are numbered. r is Pearson's, ρ "
        "Spearman's correlation, with 95 % intervals over units."
    )
    top = write_title(page, MARGIN, WIDTH - 2 * MARGIN, title, said) + 0.15
    pair = (WIDTH - 2 * MARGIN - (across - 1) * _BETWEEN) / across
    panel = pair / 2 - _LEFT
    for number, one in enumerate(attributes):
        row, column = divmod(number, across)
        x, y = MARGIN + column * (pair + _BETWEEN), top + row * (_TALL + _ABOVE)
        values = array_of(one.values, 1, one.title)
        check_as_many("values", len(values), f"units, of {one.title!r}", len(units))
        missing = int((~np.isfinite(values)).sum())
        heading = one.title + (f" ({missing} units without)" if missing else "")
        page.text(x + _LEFT, y, heading, pair - _LEFT, size=9.5, weight="bold")
        for side, (name, ups, how) in enumerate(
            (("overall drop", overall, one.overall), ("largest class drop", hardest, one.hardest))
        ):
            left = x + side * (panel + _LEFT) + _LEFT
            below = y + 0.2
            below += page.text(left, below, name, panel, size=8.5, colour=INK)
            below += page.text(left, below, _spelled("r", how.pearson), panel, size=8.0, colour=QUIET)
            below += page.text(left, below, _spelled("ρ", how.spearman), panel, size=8.0, colour=QUIET) + 0.05
            size = panel, _TALL
            page.plot(left, below, *size, _drawing(values, ups, units, notable, size))
    rows = -(-len(attributes) // across)
    return page.ink(top + rows * (_TALL + _ABOVE) + 0.1)


def _spelled(letter: str, one: Estimate) -> str:
    if np.isnan(one.value):
        return f"{letter} is not defined"
    ends = "" if np.isnan(one.low) else f" ({one.low:.2f} to {one.high:.2f})"
    return f"{letter} = {one.value:.2f}{ends}".replace("-", "−")


def _drawing(
    values: Floats, ups: Floats, units: Sequence[int], notable: int, size: tuple[float, float]
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        plain_axes(axes)
        known = np.flatnonzero(np.isfinite(values) & np.isfinite(ups))
        marked = known[np.argsort(-ups[known], kind="stable")][:notable]
        marked = marked[ups[marked] > 0]
        others = np.setdiff1d(known, marked)
        axes.axhline(0, color="#c8c8c8", linewidth=0.8, zorder=1)
        opacity = 0.75 if len(known) < 150 else 0.45
        axes.scatter(values[others], ups[others], s=11, color=GREY, alpha=opacity, linewidths=0, zorder=2)
        axes.scatter(values[marked], ups[marked], s=17, color=ORANGE, linewidths=0, zorder=3)
        axes.set(xlim=(across := span(values[known])), ylim=(up := span(ups[known], [0.0], room=0.1)))
        nice_ticks(axes.xaxis, *across, 3)
        nice_ticks(axes.yaxis, *up, 4, percent=True)
        order = np.concatenate([marked, others])
        _number(axes, values[order], ups[order], [str(units[one]) for one in marked], size)

    return draw


def _number(axes: Axes, xs: Floats, ys: Floats, names: Sequence[str], size: tuple[float, float]) -> None:
    """Write numbers beside the first points, where nothing is, or at least no number; none where there is no room."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    places = [
        ((x - left) / (right - left) * size[0], (y - low) / (high - low) * size[1]) for x, y in zip(xs, ys, strict=True)
    ]
    points = [Bbox.from_extents(x - 0.03, y - 0.03, x + 0.03, y + 0.03) for x, y in places]
    taken = points[: len(names)]
    tall = 0.1
    for (x, y), name in zip(places, names, strict=False):
        wide = width_of(name, _NUMBERS)
        free: list[tuple[int, int, Bbox]] = []
        for right_of, above in ((1, 0), (0, 0), (1, 1), (0, 1), (1, -1), (0, -1)):
            x0 = x + 0.05 if right_of else x - 0.05 - wide
            y0 = y - tall / 2 + above * 0.085
            box = Bbox.from_extents(x0 - 0.015, y0, x0 + wide + 0.015, y0 + tall)
            inside = box.x0 >= 0 and box.x1 <= size[0] and box.y0 >= 0 and box.y1 <= size[1] + 0.08
            if inside and not any(box.overlaps(one) for one in taken):
                free.append((sum(box.overlaps(one) for one in points), len(free), box))
        if free:
            _, _, box = min(free, key=lambda one: one[:2])
            at = (box.x0 + 0.015) / size[0], (box.y0 + 0.012) / size[1]
            write(axes, *at, name, size=_NUMBERS, transform=axes.transAxes, color=ORANGE, va="bottom")
            taken.append(box)


__all__ = ["Compared", "attribute_scatter"]

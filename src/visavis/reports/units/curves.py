"""Cumulative ablation: what accuracy is left when more and more units are removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from visavis.plotting.contents import Floats
from visavis.plotting.lettering import width_of
from visavis.plotting.page import INK, MARGIN, QUIET, Page
from visavis.plotting.parts import write_title
from visavis.reports.style import (
    BLUE,
    GREY,
    ORANGE,
    WIDTH,
    array_of,
    check_as_many,
    count_axis,
    nice_ticks,
    plain_axes,
    span,
)

_LEFT, _BETWEEN = 0.42, 0.3
# Colour and dashes of the orders that `units.orders` names; others take these in turn.
_STYLES: Mapping[str, tuple[str, str]] = {
    "descending": (ORANGE, "-"),
    "ascending": (BLUE, "--"),
    "random": (GREY, "-"),
    "without best": (ORANGE, "-"),
    "without worst": (BLUE, "--"),
}
_OTHERS = ((ORANGE, "-"), (BLUE, "--"), ("#4d4d4d", "-."), ("#8a6d3b", ":"), ("#5b8a5b", "-"), (GREY, "--"))


@dataclass(frozen=True, eq=False)
class CurvePanel:
    """One panel of curves.

    Attributes:
        title: such as the attribute by which units were ordered, or the class.
        counts: (M,) how many units are removed.
        lines: of each order (M,) accuracies, 0 to 1; or (R, M) of R draws, whose mean and range are drawn.
        intact: the accuracy of the model as it is.
        chance: that of guessing; None: not drawn.
    """

    title: str
    counts: Sequence[int]
    lines: Mapping[str, ArrayLike | torch.Tensor]
    intact: float
    chance: float | None = None


def cumulative_curves(
    panels: Sequence[CurvePanel],
    *,
    layer: str,
    title: str = "What is left when units are removed",
    measure: str = "accuracy",
    note: str = "",
) -> Figure:
    """Draw what is left of accuracy against the number of units removed, a panel an attribute or class.

    The counts are drawn on a logarithmic scale (with a place for none) where most of them are small.

    Args:
        panels: at least one.
        layer: whose units.
        title: of the figure.
        measure: what the curves are.
        note: a sentence more beneath the title.

    Raises:
        InputError: a curve has not one value a count.
    """
    check_as_many("figures", min(len(panels), 1), "panels", 1)
    page = Page(WIDTH)
    across = min(len(panels), 3 if len(panels) != 4 else 2)
    width = (WIDTH - 2 * MARGIN - (across - 1) * _BETWEEN) / across - _LEFT
    tall = 2.6 if across == 1 else 1.75
    names = list(dict.fromkeys(name for one in panels for name in one.lines))
    styles = _styles(names)
    said = f"Layer {layer}. {measure[:1].upper()}{measure[1:]}, per cent, against the number of units removed. {note}"
    if any(_rows(values, "a curve").shape[0] > 1 for one in panels for values in one.lines.values()):
        said += " Of several draws the mean, and the range as a band."
    y = write_title(page, MARGIN, WIDTH - 2 * MARGIN, title, said) + 0.05
    chance = any(one.chance is not None for one in panels)
    y += _legend(page, MARGIN, y, names, styles, chance=chance) + 0.12
    limits = _limits(panels)
    for number, one in enumerate(panels):
        row, column = divmod(number, across)
        x = MARGIN + column * (width + _LEFT + _BETWEEN) + _LEFT
        top = y + row * (tall + 0.72)
        page.text(x, top, one.title, width, size=9.0, weight="bold")
        page.plot(x, top + 0.22, width, tall, _drawing(one, styles, limits))
        page.text(
            x + width / 2, top + 0.22 + tall + 0.2, "units removed", width, size=8.0, colour=QUIET, align="center"
        )
    rows = -(-len(panels) // across)
    return page.ink(y + rows * (tall + 0.72) + 0.1)


def class_removal_curves(
    names: Sequence[str],
    counts: Sequence[int],
    intact: ArrayLike | torch.Tensor,
    without_best: ArrayLike | torch.Tensor,
    without_worst: ArrayLike | torch.Tensor,
    *,
    layer: str,
    most: int = 11,
) -> Figure:
    """Draw what is left of each class without its most, and without its least important units (`ClassRemoval`).

    The first panel is the mean over all classes; then the classes that lose most without their best units.

    Args:
        names: of the C classes.
        counts: (M,) how many units are removed.
        intact: (C,) balanced accuracy of the model as it is, 0 to 1.
        without_best, without_worst: (C, M), the same without units.
        layer: whose units.
        most: so many classes at most are shown.

    Raises:
        InputError: the lists are of other lengths.
    """
    whole = array_of(intact, 1, "balanced accuracies")
    best, worst = array_of(without_best, 2, "curves"), array_of(without_worst, 2, "curves")
    check_as_many("class names", len(names), "classes", len(whole))
    for curves in (best, worst):
        check_as_many("curves", len(curves), "classes", len(whole))
        check_as_many("values", curves.shape[1], "counts", len(counts))
    points = [0, *counts]
    best, worst = (np.concatenate([whole[:, None], curves], 1) for curves in (best, worst))
    lost = np.nan_to_num(whole - best[:, 1:].min(1), nan=-np.inf)
    order = np.argsort(-lost, kind="stable")[:most]

    def panel(title: str, rows: Floats, others: Floats, before: float) -> CurvePanel:
        return CurvePanel(title, points, {"without best": rows, "without worst": others}, before, 0.5)

    mean = panel(f"Mean of {len(names)} classes", best.mean(0), worst.mean(0), float(whole.mean()))
    panels = [mean] if len(names) > 1 else []
    panels += [panel(names[k], best[k], worst[k], float(whole[k])) for k in order]
    note = "Without the units that a class needs most, and without those that it needs least, on held-out images."
    if len(order) < len(names):
        note += f" {len(order)} of {len(names)} classes: those that lose most."
    measure = 'balanced accuracy of "is it this class?"'
    return cumulative_curves(panels, layer=layer, title="What is left of a class", measure=measure, note=note)


def _rows(values: ArrayLike | torch.Tensor, name: str) -> Floats:
    """Curves as (R, M)."""
    given = values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else values
    return array_of(np.atleast_2d(np.asarray(given, dtype=np.float64)), 2, name)


def _styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    free = [one for one in _OTHERS if one not in {_STYLES[name] for name in names if name in _STYLES}]
    others = iter(free * (1 + len(names) // len(free)))
    return {name: _STYLES[name] if name in _STYLES else next(others) for name in names}


def _legend(
    page: Page, x: float, y: float, names: Sequence[str], styles: Mapping[str, tuple[str, str]], *, chance: bool
) -> float:
    entries = [(name, *styles[name], 1.6) for name in names] + [("nothing removed", INK, "-", 0.8)]
    entries += [("chance", INK, ":", 0.9)] if chance else []
    place, line = x, y
    for name, colour, dashes, thick in entries:
        wide = min(width_of(name, 8.5), 2.0)
        if place + 0.4 + wide > page.width - MARGIN:
            place, line = x, line + 0.17

        def draw(axes: Axes, colour: str = colour, dashes: str = dashes, thick: float = thick) -> None:
            axes.set_axis_off()
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.plot([0, 1], [0.5, 0.5], dashes, color=colour, linewidth=thick)

        page.plot(place, line, 0.3, 0.14, draw)
        page.text(place + 0.36, line, name, 2.02, size=8.5)
        place += 0.36 + wide + 0.25
    return line + 0.17 - y


def _limits(panels: Sequence[CurvePanel]) -> tuple[float, float]:
    """One range for all panels, so that they can be compared."""
    values = [_rows(values, name) for one in panels for name, values in one.lines.items()]
    given = [value for one in panels for value in (one.intact, one.chance) if value is not None]
    return span(*values, given)


def _drawing(
    one: CurvePanel, styles: Mapping[str, tuple[str, str]], limits: tuple[float, float]
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        plain_axes(axes)
        counts = np.asarray(one.counts, dtype=np.float64)
        order = np.argsort(counts, kind="stable")
        axes.axhline(one.intact, color=INK, linewidth=0.8, zorder=1.5)
        if one.chance is not None:
            axes.axhline(one.chance, color=INK, linewidth=0.9, linestyle=":", zorder=1.5)
        for name, values in one.lines.items():
            rows = _rows(values, name)
            check_as_many("values", rows.shape[1], f"counts, of {name!r}", len(counts))
            colour, dashes = styles[name]
            if len(rows) > 1:
                low, high = np.nanmin(rows, 0), np.nanmax(rows, 0)
                axes.fill_between(counts[order], low[order], high[order], color=colour, alpha=0.2, linewidth=0)
            dots = "o" if len(counts) <= 30 else ""
            up = rows.mean(0)[order]
            axes.plot(
                counts[order],
                up,
                dots + dashes,
                color=colour,
                linewidth=1.6,
                markersize=2.6,
                zorder=2.5 if colour == GREY else 3,
            )
        axes.set_ylim(*limits)
        nice_ticks(axes.yaxis, *limits, 5, percent=True)
        count_axis(axes, counts)

    return draw


__all__ = ["CurvePanel", "class_removal_curves", "cumulative_curves"]

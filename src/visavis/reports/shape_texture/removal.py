"""What is left of a network without its shape or its texture units, or with them alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from visavis.plotting.contents import Floats
from visavis.plotting.page import INK, MARGIN, QUIET, Page
from visavis.plotting.parts import write_title
from visavis.reports.shape_texture.factors import SHAPE, TEXTURE, Key, ends_of, write_keys
from visavis.reports.style import (
    GREY,
    OTHERS,
    TICKS,
    WIDTH,
    array_of,
    check_as_many,
    count_axis,
    nice_ticks,
    plain_axes,
    span,
)

_LEFT, _BETWEEN, _AROUND = 0.42, 0.3, 0.72
# Of the range of the axis.
_LEAST = 0.1
# Colour, dashes and marker of the orders that are known; others take those below in turn.
_STYLES: Mapping[str, tuple[str, str, str]] = {
    "top shape": (SHAPE, "-", "o"),
    "top texture": (TEXTURE, "--", "D"),
    "random": (GREY, "-.", "s"),
}
_OTHERS = tuple(zip(OTHERS, ("-", "--", "-.", ":"), ("^", "v", "P", "X"), strict=True))


@dataclass(frozen=True, eq=False)
class RemovalCurve:
    """One curve.

    Attributes:
        values: (M,) what is left at each count, 0 to 1.
        interval: (M, 2) low and high; None: not drawn.
    """

    values: ArrayLike | torch.Tensor
    interval: ArrayLike | None = None


@dataclass(frozen=True, eq=False)
class RemovalPanel:
    """One panel of curves.

    Attributes:
        title: such as the name of the network.
        counts: (M,) how many units are removed, or kept.
        lines: by the order in which units are removed or kept: "top shape", "top texture", "random", or others.
        intact: what the network reaches as it is; None: not drawn.
        chance: what guessing reaches; None: not drawn.
    """

    title: str
    counts: Sequence[int]
    lines: Mapping[str, RemovalCurve]
    intact: float | None = None
    chance: float | None = None


def removal_curves(
    panels: Sequence[RemovalPanel],
    *,
    layer: str,
    kept: bool = False,
    measure: str = "accuracy",
    title: str | None = None,
) -> Figure:
    """Draw accuracy or mIoU against how many units are removed, or kept, a panel a network.

    All panels have the same range upwards.

    Args:
        panels: at least one.
        layer: whose units.
        kept: whether the counts are of units that are kept, all others removed; else of units removed.
        measure: what the curves are.
        title: in place of the question that the figure answers.

    Raises:
        InputError: there are no panels; a curve has not one value a count.
    """
    check_as_many("figures", min(len(panels), 1), "panels", 1)
    drawn = [{name: _checked(curve, name, len(one.counts)) for name, curve in one.lines.items()} for one in panels]
    names = list(dict.fromkeys(name for one in panels for name in one.lines))
    free = iter(_OTHERS * (1 + len(names) // len(_OTHERS)))
    styles = {name: _STYLES[name] if name in _STYLES else next(free) for name in names}
    page = Page(WIDTH)
    words = "units kept" if kept else "units removed"
    said = f"Layer {layer}: {measure}, per cent, against the number of {words}."
    if any(np.isfinite(ends).any() for one in drawn for _, ends in one.values()):
        said += " Bands: 95 % intervals."
    asked = (
        "Which units are enough, those for shape or those for texture?"
        if kept
        else "Which units are missed more, those for shape or those for texture?"
    )
    y = write_title(page, MARGIN, WIDTH - 2 * MARGIN, title or asked, said) + 0.08
    keys = [Key(name, "line", styles[name][0], styles[name][1]) for name in names]
    keys += [Key("all units", "line", INK)] if any(one.intact is not None for one in panels) else []
    keys += [Key("chance", "line", INK, ":")] if any(one.chance is not None for one in panels) else []
    y = write_keys(page, y, keys) + 0.12
    across = min(len(panels), 3 if len(panels) != 4 else 2)
    width = (WIDTH - 2 * MARGIN - (across - 1) * _BETWEEN) / across - _LEFT
    tall = 2.8 if across == 1 else 2.4 if across == 2 else 1.9
    levels = [one for panel in panels for one in (panel.intact, panel.chance) if one is not None]
    limits = _limits(levels, *(np.column_stack(pair).ravel() for one in drawn for pair in one.values()))
    for number, (panel, lines) in enumerate(zip(panels, drawn, strict=True)):
        row, column = divmod(number, across)
        x, top = MARGIN + column * (width + _LEFT + _BETWEEN) + _LEFT, y + row * (tall + _AROUND)
        page.text(x, top, panel.title, width, size=9.0, weight="bold")
        page.plot(x, top + 0.22, width, tall, _drawing(panel, lines, styles, limits))
        page.text(x + width / 2, top + tall + 0.42, words, width, size=TICKS, colour=QUIET, align="center")
    return page.ink(y + -(-len(panels) // across) * (tall + _AROUND) + 0.1)


def _limits(*values: ArrayLike) -> tuple[float, float]:
    """Return the range of shares: at least ten points, so that none looks like much, and then from 0 on."""
    flat = np.concatenate([np.ravel(np.asarray(one, dtype=np.float64)) for one in values])
    flat = flat[np.isfinite(flat)]
    low, high = (float(flat.min()), float(flat.max())) if len(flat) else (0.0, 1.0)
    if high - low >= 0.9 * _LEAST:
        return span(flat)
    # A line at 100 % is seen whole.
    low = min(max((low + high - _LEAST) / 2, 0.0), 1.005 - _LEAST)
    return low, low + _LEAST


def _checked(curve: RemovalCurve, name: str, count: int) -> tuple[Floats, Floats]:
    values = array_of(curve.values, 1, f"the values of {name!r}")
    check_as_many("values", len(values), f"counts, of {name!r}", count)
    return values, ends_of(curve.interval, count, f"the intervals of {name!r}")


def _drawing(
    panel: RemovalPanel,
    lines: Mapping[str, tuple[Floats, Floats]],
    styles: Mapping[str, tuple[str, str, str]],
    limits: tuple[float, float],
) -> Callable[[Axes], None]:
    counts = np.asarray(panel.counts, dtype=np.float64)
    order = np.argsort(counts, kind="stable")

    def draw(axes: Axes) -> None:
        plain_axes(axes)
        for level, dashes in ((panel.intact, "-"), (panel.chance, ":")):
            if level is not None:
                axes.axhline(level, color=INK, linewidth=0.8, linestyle=dashes, zorder=1.5)
        for name, (values, ends) in lines.items():
            colour, dashes, marker = styles[name]
            axes.fill_between(counts[order], *ends[order].T, color=colour, alpha=0.2, linewidth=0)
            dots = marker if len(counts) <= 30 else ""
            axes.plot(
                counts[order],
                values[order],
                linestyle=dashes,
                marker=dots,
                color=colour,
                linewidth=1.6,
                markersize=3.4,
                zorder=2.5 if name == "random" else 3,
            )
        axes.set_ylim(*limits)
        nice_ticks(axes.yaxis, *limits, 5, percent=True)
        if len(counts):
            count_axis(axes, counts)

    return draw


__all__ = ["RemovalCurve", "RemovalPanel", "removal_curves"]

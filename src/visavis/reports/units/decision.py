"""The units behind one decision, A rather than B: which carry it, and whether it falls when they are removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from visavis.plotting.contents import Floats, Role
from visavis.plotting.lettering import fitted, width_of
from visavis.plotting.page import INK, MARGIN, MARKER, QUIET, Page
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
    said,
    span,
    ticks_at,
    write,
)

_BAR = 0.19


def decision_figure(
    units: Sequence[int],
    differences: ArrayLike | torch.Tensor,
    counts: Sequence[int],
    margins: ArrayLike | torch.Tensor,
    random_margins: ArrayLike | torch.Tensor | None,
    *,
    names: tuple[str, str],
    layer: str,
    foil_margins: ArrayLike | torch.Tensor | None = None,
    most: int = 20,
) -> Figure:
    """Draw the units that carry a decision, and what becomes of it without them.

    Left, the relevance that a unit has for A, less that for B: orange speaks for A, blue for B. Right, the margin
    logit(A) − logit(B) against how many units are removed in the order of their numbers here, beside as many units
    drawn at random (their mean and range); below zero the model says B.

    Args:
        units: (U,) numbers, in the order in which they are removed.
        differences: (U,) relevance for A less relevance for B.
        counts: (M,) how many are removed.
        margins: (M,) logit(A) − logit(B) without them.
        random_margins: (R, M), the same without random units; None: not drawn.
        names: of A and B.
        layer: whose units.
        foil_margins: (M,), the same without the last so many units instead of the first; None: not drawn.
        most: so many bars at most, of the largest differences either way.

    Raises:
        InputError: the lists are of other lengths.
    """
    values, curve = array_of(differences, 1, "relevance differences"), array_of(margins, 1, "margins")
    check_as_many("relevance differences", len(values), "units", len(units))
    check_as_many("margins", len(curve), "counts", len(counts))
    last = None if foil_margins is None else array_of(foil_margins, 1, "margins without the last units")
    if last is not None:
        check_as_many("margins without the last units", len(last), "counts", len(counts))
    drawn = None if random_margins is None else array_of(random_margins, 2, "random margins")
    if drawn is not None:
        check_as_many("random margins", drawn.shape[1], "counts", len(counts))
    largest = np.sort(np.argsort(-np.abs(values), kind="stable")[:most])
    order = largest[np.argsort(-values[largest], kind="stable")]
    one, other = names
    page = Page(WIDTH)
    which = (
        f"the {len(order)} of {len(units)} units that differ most" if len(order) < len(units) else f"{len(units)} units"
    )
    title = f"Why {one} and not {other}?"
    subtitle = (
        f"Layer {layer}. Left, {which}: how much more relevance they have for one than for the other. Right, what "
        "becomes of the decision when units are removed."
    )
    y = write_title(page, MARGIN, WIDTH - 2 * MARGIN, title, subtitle) + 0.12
    left, gap = 4.1, 0.75
    right = WIDTH - 2 * MARGIN - left - gap
    x = MARGIN + left + gap
    page.text(MARGIN, y, "The units that make the difference", left, size=9.5, weight="bold")
    page.text(x, y, _difference("logit", names, right, 9.5), right, size=9.5, weight="bold")
    top = y + 0.24
    roles: tuple[tuple[Role, str], ...] = (("target", one), ("foil", other))
    for place, (role, name) in enumerate(roles):
        page.marker(MARGIN + 0.06, top + 0.075 + 0.17 * place, role)
        page.text(MARGIN + MARKER, top + 0.17 * place, f"speaks for {name}", left - MARKER, size=8.5)
    keys = _keys(page, x, top, names, 0 if drawn is None else len(drawn), last is not None)
    top += max(0.5, keys + 0.16)
    tall = max(len(order) * _BAR, 2.4)
    numbers = [str(units[place]) for place in order]
    page.plot(MARGIN + 0.42, top, left - 0.42, len(order) * _BAR, _bars(values[order], numbers))
    page.text(MARGIN + 0.38, top - 0.12, "unit", 0.4, size=8.0, colour=QUIET, align="right")
    below = _difference("relevance", names, left - 0.42, 8.0)
    middle = MARGIN + 0.42 + (left - 0.42) / 2
    page.text(middle, top + len(order) * _BAR + 0.2, below, left - 0.42, size=8.0, colour=QUIET, align="center")
    page.plot(x, top, right, min(tall, 3.4), _margins(np.asarray(counts, dtype=np.float64), curve, last, drawn, names))
    page.text(x + right / 2, top + min(tall, 3.4) + 0.2, "units removed", right, size=8.0, colour=QUIET, align="center")
    return page.ink(max(top + len(order) * _BAR, top + min(tall, 3.4)) + 0.55)


def _difference(what: str, names: tuple[str, str], width: float, size: float) -> str:
    """For A less for B, with both names, shortened alike where they do not fit."""
    text = "{what} for {0} − {what} for {1}"
    whole = text.format(*names, what=what)
    if width_of(whole, size, "bold") <= width:
        return whole
    room = (width - width_of(text.format("", "", what=what), size, "bold")) / 2 - 0.05
    return text.format(*(fitted(name, room, size, "bold") for name in names), what=what)


def _keys(page: Page, x: float, y: float, names: tuple[str, str], draws: int, last: bool) -> float:
    """What the lines are; returns the height."""
    room = WIDTH - MARGIN - x - 0.37
    entries = [(ORANGE, "-o", f"without those that speak most for {names[0]}")]
    entries += [(BLUE, "--o", f"without those that speak most for {names[1]}")] if last else []
    words = (
        f"without units drawn at random: mean and range of {draws}" if draws > 1 else "without units drawn at random"
    )
    entries += [(GREY, "-", words)] if draws else []
    for place, (colour, line, text) in enumerate(entries):

        def draw(axes: Axes, colour: str = colour, line: str = line) -> None:
            axes.set_axis_off()
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.plot([0, 0.5, 1], [0.5] * 3, line, color=colour, linewidth=1.6, markersize=2.8, markevery=[1])

        page.plot(x, y + 0.17 * place, 0.3, 0.14, draw)
        page.text(x + 0.37, y + 0.17 * place, text, room, size=8.5)
    return 0.17 * len(entries)


def _bars(values: Floats, numbers: Sequence[str]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        plain_axes(axes)
        rows = np.arange(len(values))
        axes.barh(rows, values, height=0.66, color=[ORANGE if one > 0 else BLUE for one in values], linewidth=0)
        axes.axvline(0, color="#999999", linewidth=0.8)
        low, high = span(values, [0.0], room=0.22)
        axes.set(xlim=(low, high), ylim=(len(values) - 0.4, -0.6))
        axes.spines["left"].set_visible(False)
        axes.yaxis.grid(False)
        ticks_at(axes.yaxis, range(len(values)), numbers, color=INK)
        axes.tick_params(axis="y", length=0)
        nice_ticks(axes.xaxis, low, high, 4)
        for row, value in enumerate(values):
            end = value + 0.015 * (high - low) * (1 if value >= 0 else -1)
            side = "left" if value >= 0 else "right"
            write(axes, end, row, said(value, 2), size=7.0, color=QUIET, ha=side, va="center_baseline")

    return draw


def _margins(
    counts: Floats, curve: Floats, last: Floats | None, drawn: Floats | None, names: tuple[str, str]
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        plain_axes(axes)
        low, high = span(curve, [0.0], [] if drawn is None else drawn, [] if last is None else last, room=0.1)
        axes.axhspan(low, 0, color=BLUE, alpha=0.07, linewidth=0)
        axes.axhline(0, color="#777777", linewidth=0.9)
        if drawn is not None:
            if len(drawn) > 1:
                axes.fill_between(counts, drawn.min(0), drawn.max(0), color=GREY, alpha=0.22, linewidth=0)
            axes.plot(counts, drawn.mean(0), color=GREY, linewidth=1.6)
        if last is not None:
            axes.plot(counts, last, "--o", color=BLUE, linewidth=1.6, markersize=2.6, zorder=2.5)
        axes.plot(counts, curve, "-o", color=ORANGE, linewidth=1.8, markersize=3, zorder=3)
        axes.set_ylim(low, high)
        count_axis(axes, counts)
        nice_ticks(axes.yaxis, low, high, 6)
        if low < -0.08 * (high - low):
            place = axes.get_yaxis_transform()
            said_below = fitted(f"below zero, {names[1]} is ahead", 3.6, 8.0)
            write(axes, 0.02, low + 0.03 * (high - low), said_below, size=8.0, transform=place, va="bottom", color=BLUE)

    return draw


__all__ = ["decision_figure"]

"""How well segmentation can be read out of a frozen network: a point with its interval for each read-out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visavis.errors import InputError
from visavis.plotting.contents import Floats
from visavis.plotting.lettering import fitted, width_of
from visavis.plotting.page import INK, MARGIN, QUIET, Page
from visavis.plotting.parts import write_title
from visavis.reports.shape_texture.factors import ends_of
from visavis.reports.style import BLUE, TICKS, WIDTH, check_as_many, nice_ticks, plain_axes

_NAMES, _LETTERS, _ROW, _HEAD = 4.2, 9.0, 0.25, 0.3


def readout_bars(
    results: Mapping[str, tuple[float, float, float]],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    chance: float | None = None,
    guess: str = "guessing",
    measure: str = "mIoU",
    title: str | None = None,
) -> Figure:
    """Draw what each read-out reaches, as points with intervals, from above in their order.

    Args:
        results: by the name of the read-out its value, 0 to 1, and the low and high end of its interval (NaN: none).
        groups: by a heading, the names that stand beneath it; what is in none of them comes first. None: no headings.
        chance: what guessing reaches; None: not drawn.
        guess: what is guessed, in a few words.
        measure: what the values are.
        title: in place of the question that the figure answers.

    Raises:
        InputError: there are no results; a value is not within 0 to 1; a group names what is not there, or one twice.
    """
    check_as_many("figures", min(len(results), 1), "read-outs", 1)
    values = np.array([one[0] for one in results.values()], dtype=np.float64)
    if np.isnan(values).all() or np.nanmin(values) < 0 or np.nanmax(values) > 1:
        raise InputError(f"the values are {values.tolist()}, but shares, 0 to 1, were expected")
    ends = ends_of([one[1:] for one in results.values()], len(values), "the intervals")
    order, heads, places = _arranged(list(results), groups or {})
    values, ends = values[order], ends[order]
    names = [list(results)[place] for place in order]
    page = Page(WIDTH)
    said = f"A point is what one read-out reaches: {measure}, per cent."
    if np.isfinite(ends).any():
        said += " Lines: 95 % intervals."
    if chance is not None:
        said += f" Dotted: {guess}, {100 * chance:.1f} %."
    y = write_title(page, MARGIN, WIDTH - 2 * MARGIN, title or "What can be read out, and from where?", said) + 0.15
    shown = [fitted(name, _NAMES, _LETTERS) for name in names]
    indent = max(
        [width_of(one, _LETTERS) for one in shown]
        + [width_of(fitted(head, _NAMES, _LETTERS, "bold"), _LETTERS, "bold") for head, _ in heads]
    )
    notes = [_note(value, low, high) for value, (low, high) in zip(values, ends, strict=True)]
    right = max(width_of(one, TICKS) for one in notes) + 0.15
    left, width = MARGIN + indent + 0.15, WIDTH - 2 * MARGIN - indent - 0.15 - right
    tall = places[-1] + _ROW
    for head, place in heads:
        page.text(MARGIN, y + place + 0.06, head, _NAMES, size=_LETTERS, weight="bold")
    for name, note, place in zip(shown, notes, places, strict=True):
        page.text(MARGIN, y + place + 0.05, name, _NAMES, size=_LETTERS)
        page.text(WIDTH - MARGIN, y + place + 0.06, note, right, size=TICKS, align="right")
    page.plot(left, y, width, tall, _drawing(values, ends, np.array(places) + _ROW / 2, tall, chance))
    page.text(left + width / 2, y + tall + 0.22, f"{measure}, %", width, size=TICKS, colour=QUIET, align="center")
    return page.ink(y + tall + 0.6)


def _arranged(
    names: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> tuple[list[int], list[tuple[str, float]], list[float]]:
    """Return the results in the order of the groups, the headings and the results with the inches from above."""
    members = [name for group in groups.values() for name in group]
    unknown = [name for name in members if name not in names]
    twice = sorted({name for name in members if members.count(name) > 1})
    if unknown or twice:
        wrong = f"there is no read-out {unknown[0]!r}" if unknown else f"{twice[0]!r} is in two groups"
        raise InputError(f"{wrong}; name in each group read-outs of the results, each once")
    order, heads, places, y = [], [], [], 0.0
    for head, group in (("", [name for name in names if name not in members]), *groups.items()):
        if head and group:
            y += 0.1 if y else 0.0
            heads.append((head, y))
            y += _HEAD - 0.05
        for name in group:
            order.append(names.index(name))
            places.append(y)
            y += _ROW
    return order, heads, places


def _note(value: float, low: float, high: float) -> str:
    if np.isnan(value):
        return "–"
    text = f"{100 * value:.1f}"
    return text if np.isnan(low) or np.isnan(high) else f"{text} ({100 * low:.1f} to {100 * high:.1f})"


def _drawing(values: Floats, ends: Floats, places: Floats, tall: float, chance: float | None) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        plain_axes(axes)
        axes.hlines(places, 0, values, color="#d0d0d0", linewidth=0.8, zorder=1.5)
        for (low, high), place in zip(ends, places, strict=True):
            axes.plot([low, high], [place, place], color=INK, linewidth=1.3, zorder=2, solid_capstyle="butt")
            for end in (low, high):
                axes.plot([end, end], [place - 0.045, place + 0.045], color=INK, linewidth=1.3, zorder=2)
        axes.plot(
            values, places, "o", color=BLUE, markersize=5.0, markeredgecolor="white", markeredgewidth=0.6, zorder=3
        )
        if chance is not None:
            axes.axvline(chance, color=INK, linewidth=0.9, linestyle=":", zorder=1.8)
        most = 1.05 * float(np.nanmax(np.concatenate([values, ends.ravel(), [chance or 0.0, 0.01]])))
        axes.set(xlim=(0, most), ylim=(tall, 0))
        axes.spines["left"].set_color("#b5b5b5")
        axes.yaxis.set_ticks([])
        nice_ticks(axes.xaxis, 0, most, 8, percent=True)

    return draw


__all__ = ["readout_bars"]

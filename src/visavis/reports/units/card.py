"""A unit on one card: which classes need it, what its attributes are, on which pictures it fires, and why there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from visavis.plotting.page import HAIRLINE, INK, QUIET, Page
from visavis.reports.style import BLUE, ORANGE, PALE, WIDTH, points, said
from visavis.reports.units.window import Glimpse, window_of

# Inches.
_EDGE, _WORDS, _SPACE, _APART = 0.22, 2.35, 0.3, 0.07
_AT_MOST = 6


@dataclass(frozen=True)
class ClassDrop:
    """A class, and by how much accuracy or confidence in it falls without a unit: −1 to 1, with its interval."""

    name: str
    drop: float
    low: float | None = None
    high: float | None = None


def unit_card(
    unit: int,
    layer: str,
    classes: Sequence[ClassDrop],
    glimpses: Sequence[Glimpse],
    *,
    facts: Sequence[tuple[str, float | str]] = (),
    drop: float | None = None,
    measure: str = "accuracy",
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
        drop: the overall drop in accuracy, −1 to 1.
        measure: what falls in a class without the unit.

    Raises:
        InputError: pictures or maps are not as described.
    """
    page = Page(WIDTH)
    y = _EDGE
    y += page.text(_EDGE, y, f"Unit {unit}", _WORDS, size=16.0, weight="bold")
    y += page.text(_EDGE, y, f"of layer {layer}", _WORDS, size=8.5, colour=QUIET, lines=2) + 0.1
    y = _needed(page, y, classes[:3], drop, measure)
    y = _facts(page, y, facts)
    right = _pictures(page, list(glimpses)[:_AT_MOST])
    bottom = max(y, right) + 0.1
    page.box(0.04, 0.04, WIDTH - 0.08, bottom - 0.08, facecolor="none", edgecolor=HAIRLINE, linewidth=0.8)
    return page.ink(bottom)


def _needed(page: Page, y: float, classes: Sequence[ClassDrop], drop: float | None, measure: str) -> float:
    """The class that needs the unit most, in words, and bars of the classes hit hardest."""
    if not classes:
        return y
    first = classes[0]
    if first.drop > 0:
        y += page.text(_EDGE, y, "needed most by", _WORDS, size=8.5, colour=QUIET)
        y += page.text(_EDGE, y, first.name, _WORDS, size=11.0, weight="bold", lines=2)
        y += page.text(_EDGE, y, f"{points(-first.drop)} points of {measure} without it", _WORDS, size=8.5)
        if first.low is not None and first.high is not None:
            ends = f"95 % interval {points(-first.high)} to {points(-first.low)}"
            y += page.text(_EDGE, y, ends, _WORDS, size=8.5, colour=QUIET)
    else:
        y += page.text(_EDGE, y, "no class needs it", _WORDS, size=11.0, weight="bold")
    if drop is not None:
        change = "no change" if not round(1000 * drop) else f"{points(-drop, signed=True)} points"
        y += page.text(_EDGE, y, f"{change} of accuracy over all classes", _WORDS, size=8.5, colour=QUIET, lines=2)
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
    windows = [window_of(one) for one in glimpses]
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
            else:
                page.text(x + number * (side + _APART), y, "no relevance reached the pixels", side, size=8.0, lines=3)
        y += side
    return y + 0.12


__all__ = ["ClassDrop", "unit_card"]

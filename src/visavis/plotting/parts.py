"""The parts of a page: title, headings, tiles, bars, footer. Lengths are in inches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visavis.plotting.colours import COLORMAPS, overlay
from visavis.plotting.contents import Class, Floats, Role
from visavis.plotting.lettering import percent
from visavis.plotting.page import HAIRLINE, MARGIN, MARKER, QUIET, Page

_TRACK, _NO_ROLE = "#ececec", "#8a8a8a"


def write_title(page: Page, x: float, width: float, title: str, subtitle: str) -> float:
    """Title and subtitle from the top margin; returns where they end."""
    y = MARGIN
    y += page.text(x, y, title, width, size=16.0, weight="bold", lines=2)
    y += page.text(x, y, subtitle, width, size=9.5, colour=QUIET, lines=3)
    return y


def write_footer(page: Page, y: float, sentences: Sequence[str]) -> float:
    """A rule and the footer; returns the height of the whole page."""
    width = page.width - 2 * MARGIN
    page.box(MARGIN, y, width, 0.0, edgecolor=HAIRLINE, linewidth=0.8)
    y += 0.11
    for sentence in sentences:
        y += page.text(MARGIN, y, sentence, width, size=8.0, colour=QUIET, lines=12) + 0.02
    return y + 0.22


def write_heading(
    page: Page, x: float, y: float, heading: str, note: str, width: float, role: Role | None = None
) -> float:
    """A heading with its note beneath; returns their height."""
    indent = 0.0 if role is None else MARKER
    if role is not None:
        page.marker(x + 0.06, y + 0.072, role)
    height = page.text(x + indent, y, heading, width - indent, size=9.5, weight="bold", lines=2)
    return height + page.text(x, y + height, note, width, size=8.5, colour=QUIET, lines=3) + 0.04


def tile_size(picture: Floats, width: float, height: float) -> tuple[float, float]:
    """The largest size with the picture's aspect within (width, height); a sliver is kept visible."""
    rows, columns = picture.shape[:2]
    shrink = min(width / columns, height / rows)
    return max(columns * shrink, 0.05), max(rows * shrink, 0.05)


def draw_tile(
    page: Page, x: float, y: float, size: tuple[float, float], pixels: Floats, *, empty: bool = False
) -> None:
    """Pixels in a thin frame, with the words "no evidence" where the map is empty and has room for them."""
    page.image(x, y, *size, pixels)
    page.box(x, y, *size, facecolor="none", edgecolor=HAIRLINE, linewidth=0.6)
    if empty and holds_words(size):
        middle = y + size[1] / 2
        page.box(x + size[0] / 2 - 0.5, middle - 0.14, 1.0, 0.28, facecolor="white", alpha=0.85, linewidth=0)
        page.text(x + size[0] / 2, middle - 0.065, "no evidence", 1.0, size=9.5, weight="bold", align="center")


def holds_words(size: tuple[float, float]) -> bool:
    """Whether a tile has room for the words "no evidence"."""
    return size[0] >= 1.1 and size[1] >= 0.36


def draw_bars(page: Page, x: float, y: float, width: float, classes: Sequence[Class]) -> float:
    """The classes with their probabilities as bars on a track of 100 %; returns the height."""
    start = y
    y += page.text(x, y, "What the model sees", width, size=9.5, weight="bold") + 0.03
    for entry in classes:
        indent = 0.0 if entry.role is None else MARKER
        if entry.role is not None:
            page.marker(x + 0.06, y + 0.07, entry.role)
        page.text(x + indent, y, entry.name, width - indent - 0.72, size=9.0)
        page.text(x + width, y, percent(entry.probability), 0.7, size=9.0, align="right")
        draw_bar(page, x, y + 0.175, width, entry.probability, entry.role)
        y += 0.33
    return y - start


def draw_bar(page: Page, x: float, y: float, width: float, probability: float, role: Role | None) -> None:
    """A probability as a bar on a track of 100 %."""
    colour = _NO_ROLE if role is None else COLORMAPS[role](1.0)
    page.box(x, y, width, 0.07, facecolor=_TRACK, linewidth=0)
    page.box(x, y, width * probability, 0.07, facecolor=colour, linewidth=0)


def draw_colour_bar(page: Page, x: float, y: float, width: float, role: Role, name: str, signed: bool) -> float:
    """The colours as the tiles show them over a mid-grey photograph, from no evidence to the strongest."""
    start = y
    page.marker(x + 0.06, y + 0.065, role)
    y += page.text(x + MARKER, y, name, width - MARKER, size=8.5, lines=2) + 0.01
    strength = np.linspace(-1.0 if signed else 0.0, 1.0, 256)[None, :]
    page.image(x, y, width, 0.12, overlay(np.full((1, 256, 1), 0.5), strength, 1.0, COLORMAPS[role]))
    page.box(x, y, width, 0.12, facecolor="none", edgecolor=HAIRLINE, linewidth=0.6)
    y += 0.16
    left, middle, right = ("−1 against", "0", "1 for") if signed else ("0", "0.5", "1")
    third = width / 3
    page.text(x, y, left, third, size=8.0, colour=QUIET)
    page.text(x + width / 2, y, middle, third, size=8.0, colour=QUIET, align="center")
    y += page.text(x + width, y, right, third, size=8.0, colour=QUIET, align="right")
    y += page.text(x, y, "share of the strongest evidence", width, size=8.0, colour=QUIET)
    return y - start

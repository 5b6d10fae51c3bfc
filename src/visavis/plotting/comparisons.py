"""The comparison: several classes beside one another."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from visavis.errors import InputError
from visavis.plotting.contents import Floats, Map, Row, check_roles_and_probabilities, checked_picture
from visavis.plotting.lettering import percent
from visavis.plotting.page import GAP, MARGIN, MARKER, QUIET, Page
from visavis.plotting.parts import (
    draw_bar,
    draw_colour_bar,
    draw_tile,
    holds_words,
    tile_size,
    write_footer,
    write_heading,
    write_title,
)
from visavis.plotting.tiles import Tile, tiles_of

ROWS_AT_MOST = 20


def comparison(
    picture: ArrayLike,
    rows: Sequence[Row],
    *,
    title: str,
    subtitle: str = "",
    footer: str = "",
    columns: tuple[str, str] = ("LRP", "CLRP"),
    notes: tuple[str, str] = ("what the class rests on", "what the class rests on rather than the others"),
    smoothing: float = 0.01,
) -> Figure:
    """Several classes beside one another: one row a class, with its probability, plain map and contrast.

    All plain maps share one colour scale and all contrasts another, so that the classes can be compared.

    Args:
        picture: (H, W, 3) or (H, W, 1), floats in [0, 1].
        rows: 1 to 20 classes, their maps (H, W).
        title: what is compared, in at most two lines.
        subtitle: model, method, file, in at most three lines.
        footer: what else has to be said; scales and smoothing are always added to it.
        columns: the names of the two methods.
        notes: how to read the two columns.
        smoothing: as for `panel`.

    Raises:
        InputError: NaN, wrong shapes, values outside the ranges above, or an unknown role.
    """
    shown = checked_picture(picture)
    if not 1 <= len(rows) <= ROWS_AT_MOST:
        raise InputError(f"a comparison holds 1 to {ROWS_AT_MOST} classes, but {len(rows)} came; name fewer.")
    check_roles_and_probabilities(rows)
    heats = [row.plain for row in rows], [row.contrast for row in rows]
    maps = [
        Map(f"{method}: {row.name}", note, heat, row.role, method)
        for method, note, of_method in zip(columns, notes, heats, strict=True)
        for row, heat in zip(rows, of_method, strict=True)
    ]
    tiles, sentences = tiles_of(shown, maps, smoothing)

    label = 2.3
    size = tile_size(shown, 3.2, 2.4)
    column = max(size[0], 2.4)
    page = Page(2 * MARGIN + label + 2 * (GAP + column))
    lefts = [MARGIN + label + GAP + place * (column + GAP) for place in range(2)]

    y = _picture_beside_title(page, shown, label, title, subtitle)
    y += max(
        write_heading(page, x, y, method, note, column) for x, method, note in zip(lefts, columns, notes, strict=True)
    )
    for row, *pair in zip(rows, tiles[: len(rows)], tiles[len(rows) :], strict=True):
        end = _row_label(page, y, label, row)
        for x, tile in zip(lefts, pair, strict=True):
            _draw_map(page, x, y, size, tile, column)
        y = max(end, y + size[1]) + 0.16

    roles = list(dict.fromkeys(row.role for row in rows))
    signed = {tile.map.role for tile in tiles if tile.signed}
    legends = []
    for x, role in zip(lefts, roles, strict=False):
        named = [row.name for row in rows if row.role == role]
        name = named[0] if len(named) == 1 else "the class of the row"
        legends.append(draw_colour_bar(page, x, y, column, role, f"evidence for {name}", role in signed))
    return page.ink(write_footer(page, y + max(legends) + 0.12, [footer, *sentences]))


def _picture_beside_title(page: Page, picture: Floats, width: float, title: str, subtitle: str) -> float:
    """The photograph at the upper left, the title right of it; returns where the two end."""
    size = tile_size(picture, width, 2.4)
    draw_tile(page, MARGIN, MARGIN, size, picture)
    x = MARGIN + width + GAP
    text_end = write_title(page, x, page.width - MARGIN - x, title, subtitle)
    return max(MARGIN + size[1], text_end) + 0.2


def _row_label(page: Page, y: float, width: float, row: Row) -> float:
    """Name, probability and bar of a row; returns where they end."""
    page.marker(MARGIN + 0.06, y + 0.09, row.role)
    y += page.text(MARGIN + MARKER, y, row.name, width - MARKER, size=11.0, weight="bold", lines=3)
    y += page.text(MARGIN, y, percent(row.probability), width, size=11.0) + 0.02
    draw_bar(page, MARGIN, y, width, row.probability, row.role)
    return y + 0.07


def _draw_map(page: Page, x: float, y: float, size: tuple[float, float], tile: Tile, column: float) -> None:
    """A map, with "no evidence" beside it or beneath it where the words find no room inside."""
    draw_tile(page, x, y, size, tile.pixels, empty=tile.empty)
    if tile.empty and not holds_words(size):
        beside = size[0] < 1.1  # a tile this narrow has room at its right, a flat one beneath
        right, down = (size[0] + 0.1, 0.0) if beside else (0.0, size[1] + 0.03)
        page.text(x + right, y + down, "no evidence", column - right, size=8.5, colour=QUIET)

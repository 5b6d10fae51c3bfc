"""The panel: one decision at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from visavis.errors import InputError
from visavis.plotting.contents import (
    Class,
    Map,
    Role,
    check_role,
    check_roles_and_probabilities,
    checked_picture,
)
from visavis.plotting.page import GAP, MARGIN, Page
from visavis.plotting.parts import (
    draw_bars,
    draw_colour_bar,
    draw_tile,
    holds_words,
    tile_size,
    write_footer,
    write_heading,
    write_title,
)
from visavis.plotting.tiles import Tile, tiles_of

MAPS_AT_MOST = 6
_COLUMNS = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3}


def panel(
    picture: ArrayLike,
    maps: Sequence[Map],
    *,
    title: str,
    subtitle: str = "",
    footer: str = "",
    classes: Sequence[Class] = (),
    names: Mapping[str, str] | None = None,
    quantity: str = "evidence for {}",
    smoothing: float = 0.01,
) -> Figure:
    """One decision at a glance: the photograph, the model's top classes, and one to six maps of evidence.

    Four maps make two rows of two; give them as plain target, plain foil, contrast target, contrast foil, so
    that a row is a method and a column a class. One to three maps stand in one row, five or six in two.

    Args:
        picture: (H, W, 3) or (H, W, 1), floats in [0, 1].
        maps: 1 to 6 maps, their heat (H, W); those of one `group` share one colour scale.
        title: the question or answer, in at most two lines.
        subtitle: model, method, file, in at most three lines.
        footer: what else has to be said; scales and smoothing are always added to it.
        classes: the top classes, drawn as bars; the ones with a role also name the colour bars.
        names: what the colour bars name each role by; without, as the classes do.
        quantity: what a colour bar measures, with {} for its name.
        smoothing: sigma of the Gaussian over the maps, as a share of the shorter side; 0 draws every pixel
            as it is. For display alone: scales are those of the smoothed maps.

    Raises:
        InputError: NaN, wrong shapes, values outside the ranges above, or an unknown role.
    """
    shown = checked_picture(picture)
    if not 1 <= len(maps) <= MAPS_AT_MOST:
        raise InputError(f"A panel holds 1 to {MAPS_AT_MOST} maps, but {len(maps)} came; draw several panels.")
    for entry in maps:
        check_role(entry.heading, entry.role)
    check_roles_and_probabilities(classes)
    tiles, sentences = tiles_of(shown, maps, smoothing)

    columns = _COLUMNS[len(maps)]
    widest = min(3.4, (10.0 - 2 * MARGIN - columns * GAP) / (columns + 1))
    size = tile_size(shown, widest, 3.4)
    column = min(widest, max(size[0], 2.3))
    lefts = [MARGIN + (place + 1) * (column + GAP) for place in range(columns)]
    page = Page(MARGIN + lefts[-1] + column)
    top = write_title(page, MARGIN, page.width - 2 * MARGIN, title, subtitle) + 0.14
    first_tile, y = _grid(page, lefts, top, column, size, tiles)

    named: dict[str, str] = {bar.role: bar.name for bar in reversed(classes) if bar.role is not None}
    named |= names or {}
    signed = {tile.map.role for tile in tiles if tile.signed}
    right = max(
        draw_colour_bar(page, x, y, column, role, quantity.format(named.get(role, f"the {role}")), role in signed)
        for role, x in _legend_places(lefts, [entry.role for entry in maps])
    )
    pixels = f"{shown.shape[1]} × {shown.shape[0]} pixels"
    write_heading(page, MARGIN, top, "The picture", pixels, column)
    draw_tile(page, MARGIN, first_tile, size, shown)
    left = first_tile + size[1] + 0.2
    left += draw_bars(page, MARGIN, left, column, classes) if classes else 0.0
    return page.ink(write_footer(page, max(left, y + right) + 0.12, [footer, *sentences]))


def _legend_places(lefts: Sequence[float], roles: Sequence[Role]) -> list[tuple[Role, float]]:
    """Each role with a column of its own, one that holds a map of that role if it is free."""
    free = list(lefts)
    places = []
    for role in dict.fromkeys(roles):
        own = [lefts[number % len(lefts)] for number, other in enumerate(roles) if other == role]
        place = next((x for x in own if x in free), free[0])
        free.remove(place)
        places.append((role, place))
    return places


def _grid(
    page: Page,
    lefts: Sequence[float],
    top: float,
    column: float,
    size: tuple[float, float],
    tiles: Sequence[Tile],
) -> tuple[float, float]:
    """The maps in rows below `top`; returns where the first tiles begin and all end."""
    y, first_tile = top, 0.0
    for start in range(0, len(tiles), len(lefts)):
        row = list(zip(lefts, tiles[start : start + len(lefts)], strict=False))
        y += max(
            write_heading(page, x, y, tile.map.heading, _note(tile, size), column, tile.map.role) for x, tile in row
        )
        first_tile = first_tile or y
        for x, tile in row:
            draw_tile(page, x, y, size, tile.pixels, empty=tile.empty)
        y += size[1] + 0.2
    return first_tile, y


def _note(tile: Tile, size: tuple[float, float]) -> str:
    """The note of a map, which says "no evidence" where the tile is too small to say it."""
    return f"no evidence: {tile.map.note}" if tile.empty and not holds_words(size) else tile.map.note

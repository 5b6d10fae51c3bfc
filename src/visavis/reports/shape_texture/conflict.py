"""Cue conflict as pictures: what speaks for either cue in a picture, and by which cue models decide.

The second is after figure 4 of Geirhos et al. 2019 (arXiv 1811.12231).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visavis.errors import InputError
from visavis.plotting.contents import Map, Role, checked_picture
from visavis.plotting.lettering import fitted, percent, width_of
from visavis.plotting.page import GAP, INK, MARGIN, MARKER, QUIET, Page
from visavis.plotting.parts import draw_bar, draw_tile, tile_size, write_footer, write_title
from visavis.plotting.strength import PERCENTILE
from visavis.plotting.tiles import tiles_of
from visavis.reports.style import (
    BLUE,
    GREY,
    ORANGE,
    OTHERS,
    PALE,
    WIDTH,
    nice_ticks,
    plain_axes,
    points,
    ticks_at,
)
from visavis.shape_texture.conflict_maps import ConflictMaps
from visavis.shape_texture.cue_conflict import ShapeBias

_ROWS_AT_MOST = 12
# A category below this probability is hardly believed.
_DOUBT = 0.01
_LABEL, _HEAD = 2.05, 0.38
# Of the models: colour and marker.
_MARKS = tuple(zip((ORANGE, BLUE, GREY, *OTHERS[:3]), "oDs^vP", strict=True))
_ROW = 0.27
# Inches that the name of a category may take.
_NAMES = 2.4
_ROLES: tuple[Role, Role] = ("target", "foil")


def conflict_figure(
    conflicts: Sequence[ConflictMaps],
    *,
    title: str = "What speaks for the shape, and what for the texture",
    shared: bool = False,
    smoothing: float = 0.01,
) -> Figure:
    """Draw pictures of conflicting cues, one a row: what the network saw, and both maps over it.

    Orange is what speaks for the shape's category rather than the texture's, blue the other way round. Where a network
    is sure of one cue, the map of the other is much weaker: how much is written beneath both.

    Args:
        conflicts: 1 to 12 pictures.
        title: of the figure.
        shared: whether both maps of a row share one scale, so that the weaker is paler; else each has its own.
        smoothing: sigma of the Gaussian over the maps, as a share of the shorter side; for display alone.

    Raises:
        InputError: there are none, or too many.
    """
    if not 1 <= len(conflicts) <= _ROWS_AT_MOST:
        raise InputError(f"the figure holds 1 to {_ROWS_AT_MOST} pictures, but {len(conflicts)} came; draw several")
    page = Page(WIDTH)
    wide = (WIDTH - 2 * MARGIN - _LABEL - 3 * GAP) / 3
    lefts = [MARGIN + _LABEL + GAP + place * (wide + GAP) for place in range(3)]
    y = write_title(page, MARGIN, WIDTH - 2 * MARGIN, title, _made(conflicts)) + 0.16
    for one in conflicts:
        y = _row(page, y, lefts, wide, one, shared, smoothing) + 0.2
    drawn = f"smoothed (Gaussian, {100 * smoothing:g} % of the shorter side) and " if smoothing else ""
    scale = (
        f"Both maps of a row share one scale: full colour is the {PERCENTILE}th percentile of the stronger one."
        if shared
        else f"Each map has a scale of its own: full colour is its {PERCENTILE}th percentile."
    )
    footer = (
        f"{scale} For display, maps are {drawn}drawn over the picture in light grey. The probability of a category is "
        "that of all its classes together; the map is that of the strongest of them, against all classes of the other. "
        "A share of the relevance is no probability: each map is scaled by the score of its own class, so it "
        "may contradict the decision."
    )
    return page.ink(write_footer(page, y, [footer]))


def bias_figure(
    biases: Mapping[str, ShapeBias],
    *,
    title: str = "By shape or by texture",
) -> Figure:
    """Draw how many of the decisions for either cue were for the shape, a row a category, as figure 4 of the paper.

    A mark is a model on the pictures of that shape; none where no decision was for either cue. The line is the model's
    shape bias on all pictures, the band its 95 % interval.

    Args:
        biases: by the name of the model, 1 to 6; on pictures of the same categories.
        title: of the figure.

    Raises:
        InputError: there are none, too many, or their categories differ.
    """
    if not 1 <= len(biases) <= len(_MARKS):
        raise InputError(f"the figure holds 1 to {len(_MARKS)} models, but {len(biases)} came; draw several")
    found = list(biases.values())
    names = found[0].names
    other = next((name for name, one in biases.items() if one.names != names), None)
    if other is not None:
        raise InputError(f"{next(iter(biases))!r} and {other!r} were asked for different categories; ask for the same")
    rows = _rows_of(found)
    page = Page(WIDTH)
    said = (
        "Of the decisions for the shape's or the texture's category, the share for the shape, on pictures of each "
        "shape. Lines: of all pictures, with the 95 % interval."
    )
    y = write_title(page, MARGIN, WIDTH - 2 * MARGIN, title, said) + 0.14
    y = _legend(page, y, biases) + 0.34
    shown = [fitted(names[place], _NAMES, 9.0) for place in rows]
    left = max(width_of(name, 9.0) for name in shown) + 0.15
    wide, tall = WIDTH - 2 * MARGIN - left, _ROW * len(rows) + 0.1
    x = MARGIN + left
    page.text(x, y - 0.22, "← by texture", wide / 2, size=9.0, colour=QUIET)
    page.text(x + wide, y - 0.22, "by shape →", wide / 2, size=9.0, colour=QUIET, align="right")
    page.plot(x, y, wide, tall, _bias_axes(found, rows, shown))
    under = "decisions for the shape, per cent of those for either cue"
    page.text(x + wide / 2, y + tall + 0.2, under, wide, size=8.0, colour=QUIET, align="center")
    return page.ink(y + tall + 0.52)


def _made(conflicts: Sequence[ConflictMaps]) -> str:
    made = dict.fromkeys(f"{one.model}, {one.method}, rules {one.rules}" for one in conflicts)
    return "; ".join(made)


def _row(
    page: Page, y: float, lefts: Sequence[float], wide: float, one: ConflictMaps, shared: bool, smoothing: float
) -> float:
    """One picture; returns where it ends."""
    picture = checked_picture(one.picture.permute(1, 2, 0).numpy())
    cues = (one.shape, one.texture)
    maps = [
        Map(cue.category, "", cue.relevance.numpy(), role, "" if shared else role)
        for cue, role in zip(cues, _ROLES, strict=True)
    ]
    tiles, _ = tiles_of(picture, maps, smoothing)
    size = tile_size(picture, wide, wide)
    page.text(lefts[0], y, "the picture", wide, size=9.0, weight="bold")
    page.text(lefts[0], y + 0.17, "as the network saw it", wide, size=8.5, colour=QUIET)
    draw_tile(page, lefts[0], y + _HEAD, size, picture)
    sums = [float(cue.relevance.double().sum()) for cue in cues]
    for x, tile, other, own in zip(lefts[1:], tiles, cues[::-1], sums, strict=True):
        page.marker(x + 0.06, y + 0.07, tile.map.role)
        page.text(x + MARKER, y, tile.map.heading, wide - MARKER, size=9.0, weight="bold")
        page.text(x, y + 0.17, f"rather than {other.category}", wide, size=8.5, colour=QUIET)
        draw_tile(page, x, y + _HEAD, size, tile.pixels, empty=tile.empty)
        if sum(sums):
            share = f"{percent(own / sum(sums))} of the relevance of both maps"
            page.text(x, y + _HEAD + size[1] + 0.04, share, wide, size=8.0, colour=QUIET)
    return max(_caption(page, y, one), y + _HEAD + size[1] + 0.2)


def _caption(page: Page, y: float, one: ConflictMaps) -> float:
    """The decision and the probabilities; returns where they end."""
    y += page.text(MARGIN, y, f"says {one.decision}", _LABEL, size=11.0, weight="bold", lines=2)
    by = {"shape": "decides by shape", "texture": "decides by texture", "neither": "for neither cue"}[one.cue]
    y += page.text(MARGIN, y, by, _LABEL, size=9.0, colour=QUIET) + 0.1
    for cue, what, role in ((one.shape, "shape", _ROLES[0]), (one.texture, "texture", _ROLES[1])):
        page.marker(MARGIN + 0.06, y + 0.07, role)
        page.text(MARGIN + MARKER, y, f"{what}: {cue.category}", _LABEL - MARKER - 0.62, size=9.0)
        page.text(MARGIN + _LABEL, y, percent(cue.probability), 0.62, size=9.0, align="right")
        draw_bar(page, MARGIN, y + 0.18, _LABEL, cue.probability, role)
        y += 0.29
        doubt = " (hardly believed)" if cue.probability < _DOUBT else ""
        y += page.text(MARGIN, y, f"as {cue.target.name}{doubt}", _LABEL, size=8.0, colour=QUIET, lines=2) + 0.08
    return y


def _rows_of(found: Sequence[ShapeBias]) -> list[int]:
    """Return the categories that are a shape of some picture, most by shape first; those without a number last."""
    seen = sorted({int(place) for one in found for place in one.shapes})
    each = np.stack([one.by_category.numpy() for one in found])

    def mean(place: int) -> float:
        known = each[np.isfinite(each[:, place]), place]
        return float(known.mean()) if len(known) else -1.0

    return sorted(seen, key=lambda place: (-mean(place), place))


def _legend(page: Page, y: float, biases: Mapping[str, ShapeBias]) -> float:
    """A line a model, with its numbers; returns where they end."""
    for (name, one), (colour, marker) in zip(biases.items(), _MARKS, strict=False):

        def draw(axes: Axes, colour: str = colour, marker: str = marker) -> None:
            axes.set_axis_off()
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.plot([0, 0.5, 1], [0.5] * 3, color=colour, marker=marker, markevery=[1], markersize=5, linewidth=1.4)

        page.plot(MARGIN, y, 0.36, 0.15, draw)
        page.text(MARGIN + 0.46, y, f"{name}: {_numbers(one)}", WIDTH - 2 * MARGIN - 0.46, size=9.0)
        y += 0.19
    return y


def _numbers(one: ShapeBias) -> str:
    interval = f" (95 % {points(one.low)} to {points(one.high)})" if np.isfinite(one.low) else ""
    either = f"{points(one.cue_accuracy)} % of {len(one.decisions)} decisions are for either cue"
    return f"shape bias {points(one.bias)} %{interval}; {either}"


def _bias_axes(found: Sequence[ShapeBias], rows: Sequence[int], shown: Sequence[str]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        plain_axes(axes)
        axes.spines["left"].set_visible(False)
        axes.yaxis.grid(False)
        axes.axvline(0.5, color="#b5b5b5", linewidth=0.8, zorder=1)
        axes.hlines(range(len(rows)), 0, 1, color=PALE, linewidth=0.8, zorder=1)
        apart = np.linspace(-0.18, 0.18, len(found)) if len(found) > 1 else np.zeros(1)
        for one, (colour, marker), step in zip(found, _MARKS, apart, strict=False):
            if np.isfinite(one.low):
                axes.axvspan(one.low, one.high, color=colour, alpha=0.13, linewidth=0, zorder=1.5)
            if np.isfinite(one.bias):
                axes.axvline(one.bias, color=colour, linewidth=1.4, zorder=2)
            values = one.by_category.numpy()[list(rows)]
            axes.plot(values, np.arange(len(rows)) + step, marker, color=colour, markersize=6, alpha=0.9, zorder=3)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.5, -0.6))
        ticks_at(axes.yaxis, range(len(rows)), shown, size=9.0, color=INK)
        axes.tick_params(axis="y", length=0)
        nice_ticks(axes.xaxis, 0, 1, 6, percent=True)

    return draw


__all__ = ["bias_figure", "conflict_figure"]

"""How many of each layer's dimensions encode shape, how many texture (Islam et al. 2021, section 3): a bar a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visavis.errors import InputError
from visavis.plotting.lettering import width_of
from visavis.plotting.page import INK, MARGIN, QUIET, Page
from visavis.plotting.parts import write_title
from visavis.reports.shape_texture.factors import (
    DASHES,
    FACTOR_KEYS,
    HATCH,
    NEITHER,
    SHAPE,
    TEXTURE,
    Key,
    Parts,
    ended,
    has_ends,
    parts_of,
    softmax_key,
    unencoded_share,
    write_keys,
)
from visavis.reports.style import TICKS, WIDTH, plain_axes, ticks_at
from visavis.shape_texture.dimensionality import Dimensionality
from visavis.shape_texture.encoded import ALL

_NAMES = 2.4
# Of the marks of the baseline: how far below the interval, of which they are not the middle, and their look.
_BELOW = 0.27
_OPEN: Mapping[str, Any] = {
    "markersize": 3.6,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "markeredgewidth": 0.8,
}
_TENTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def dimension_bars(
    by_layer: Mapping[str, Dimensionality],
    *,
    baseline: Mapping[str, Dimensionality] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw which share of each layer's dimensions encodes shape, which texture, which neither.

    Shape is measured from the left, texture from the right, so that each has an end to be compared along; neither is
    what is between. Lines are the intervals of both ends. Where the estimator takes softmax, dashes mark what each
    would have if the layer encoded neither. Beside the bars stand the counts.

    Args:
        by_layer: at least one, by the path of the layer, from above in their order; "all" is set apart.
        baseline: of some of these layers, the same of the architecture with random weights: open diamonds where shape
            and texture end there. None: none.
        title: in place of the question that the figure answers.

    Raises:
        InputError: there are no layers, other factors than shape and texture, or several estimators; the baseline is
            of a layer that is not drawn.
    """
    beneath = dict(baseline or {})
    strange = next((layer for layer in beneath if layer not in by_layer), None)
    if strange is not None:
        raise InputError(f"the baseline is of {strange!r}, which is none of the layers; name it as they are named")
    reference = unencoded_share([*by_layer.values(), *beneath.values()])
    every = {layer: parts_of(one, layer) for layer, one in by_layer.items()}
    parts = list(every.values())
    random = [parts_of(beneath[layer], layer) if layer in beneath else None for layer in every]
    size = 9.0 if len(every) <= 20 else 8.0
    step = float(np.clip(6.6 / len(every), 0.18, 0.3))
    page = Page(WIDTH)
    subtitle = "A bar is all dimensions of a layer: shape from the left, texture from the right, neither between them."
    y = (
        write_title(
            page,
            MARGIN,
            WIDTH - 2 * MARGIN,
            title or "How much of each layer encodes shape, how much texture?",
            subtitle,
        )
        + 0.12
    )
    y = write_keys(page, y, _keys(parts, reference, any(random))) + 0.12
    names = ["all together" if name == ALL and len(every) > 1 else ended(name, _NAMES, size) for name in every]
    indent = max(width_of(name, size) for name in names) + 0.14
    heads = ("shape", "texture", "neither", "of")
    rows = [[*("–" if np.isnan(one.shape) else f"{count}" for count in one.counts), f"{one.units}"] for one in parts]
    widths = [max(width_of(text, size) for text in column) for column in zip(heads, *rows, strict=True)]
    table = sum(widths) + 0.16 * len(widths)
    left, width = MARGIN + indent, WIDTH - 2 * MARGIN - indent - table - 0.08
    places = _places(list(every))
    tall = (places[-1] + 1) * step
    page.text(left + width / 2, y, "texture, % of dimensions", width, size=TICKS, colour=TEXTURE, align="center")
    y += 0.16
    for one in _TENTHS:
        page.text(left + (1 - one) * width, y, f"{100 * one:.0f}", 0.4, size=TICKS, colour=TEXTURE, align="center")
    y += 0.17
    right = left + width + 0.08
    for column, (head, wide) in enumerate(zip(heads, widths, strict=True)):
        right += wide + 0.16
        colour = (SHAPE, TEXTURE, QUIET, QUIET)[column]
        page.text(right, y - 0.17, head, wide + 0.1, size=size - 0.5, colour=colour, align="right")
        for place, row in zip(places, rows, strict=True):
            top = y + (place + 0.5) * step - 0.62 * size / 72
            page.text(
                right, top, row[column], wide + 0.1, size=size, colour=INK if column < 3 else QUIET, align="right"
            )
    page.plot(left, y, width, tall, _drawing(parts, random, names, places, reference, size))
    page.text(
        left + width / 2, y + tall + 0.22, "shape, % of dimensions", width, size=TICKS, colour=SHAPE, align="center"
    )
    return page.ink(y + tall + 0.6)


def _keys(parts: Sequence[Parts], reference: float | None, random: bool) -> list[Key]:
    keys = list(FACTOR_KEYS)
    if has_ends(parts):
        keys.append(Key("95 % interval", "interval"))
    if random:
        keys.append(Key("random weights", "open"))
    if reference is not None:
        keys.append(softmax_key(reference))
    return keys


def _places(layers: Sequence[str]) -> list[float]:
    """Return where the bars are, in bars from above; all layers together stand half a bar apart."""
    places: list[float] = []
    for layer in layers:
        places.append(places[-1] + 1 + (0.5 if layer == ALL else 0) if places else 0.0)
    return places


def _drawing(
    parts: Sequence[Parts],
    random: Sequence[Parts | None],
    names: Sequence[str],
    places: Sequence[float],
    reference: float | None,
    size: float,
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        plain_axes(axes, grid=False)
        for place, one in zip(places, parts, strict=True):
            if np.isnan(one.shape) or np.isnan(one.texture):
                continue
            middle = 1 - one.texture - one.shape
            axes.barh(place, one.shape, height=0.74, color=SHAPE, linewidth=0)
            axes.barh(place, middle, left=one.shape, height=0.74, color=NEITHER, linewidth=0)
            axes.barh(place, one.texture, left=1 - one.texture, height=0.74, facecolor=TEXTURE, linewidth=0, **HATCH)
            low, high = one.texture_ends
            for ends in (one.shape_ends, (1 - high, 1 - low)):
                if np.isfinite(ends).all():
                    axes.plot(ends, [place, place], color=INK, linewidth=1.1, solid_capstyle="butt")
                    for end in ends:
                        axes.plot([end, end], [place - 0.2, place + 0.2], color=INK, linewidth=1.1)
        for place, beneath in zip(places, random, strict=True):
            if beneath is not None:
                ends = (beneath.shape, 1 - beneath.texture)
                axes.plot(ends, [place + _BELOW] * 2, "D", zorder=4, **_OPEN)
        if reference is not None:
            for x in (reference, 1 - reference):
                axes.axvline(x, color=INK, linewidth=0.9, linestyle=DASHES, zorder=1.5)
        axes.set(xlim=(0, 1), ylim=(places[-1] + 0.5, -0.5))
        axes.spines["left"].set_visible(False)
        ticks_at(axes.xaxis, _TENTHS, [f"{100 * one:.0f}" for one in _TENTHS], color=SHAPE)
        ticks_at(axes.yaxis, places, names, size=size, color=INK)
        axes.tick_params(axis="y", length=0)

    return draw


__all__ = ["dimension_bars"]

"""How the dimensions that encode shape and texture change while a network learns: a panel a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from visavis.errors import InputError
from visavis.plotting.contents import Floats
from visavis.plotting.lettering import fitted, width_of
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
from visavis.reports.style import TICKS, WIDTH, check_as_many, plain_axes, ticks_at
from visavis.shape_texture.dimensionality import Dimensionality
from visavis.shape_texture.encoded import ALL

_COLUMNS = 6
# Inches: left and right of all panels, between two, of the words above and below one, and of the longest name there.
_SIDE, _BETWEEN, _AROUND, _UPRIGHT = 0.3, 0.18, 0.66, 0.9
_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def dimension_curves(
    epochs: Sequence[float | str],
    by_layer: Mapping[str, Sequence[Dimensionality]],
    *,
    unit: str = "epoch",
    title: str | None = None,
) -> Figure:
    """Draw the shares of shape, texture and neither over the checkpoints of a training, a panel a layer.

    Shape grows from below, texture from above; the band around each edge is its interval. Where the estimator takes
    softmax, dashes mark what each would have if the layer encoded neither.

    Args:
        epochs: of the C checkpoints, in any order; names instead of numbers stand side by side in their order.
        by_layer: at least one layer, with a Dimensionality a checkpoint.
        unit: what `epochs` are, such as "epoch" or "step".
        title: in place of the question that the figure answers.

    Raises:
        InputError: there are no checkpoints or layers; not one Dimensionality a checkpoint; other factors than shape
            and texture; several estimators.
    """
    check_as_many("figures", min(len(epochs), 1), "checkpoints", 1)
    for layer, found in by_layer.items():
        check_as_many("estimates", len(found), f"checkpoints, of {layer!r}", len(epochs))
    reference = unencoded_share(one for found in by_layer.values() for one in found)
    places, named = _places(epochs)
    order = np.argsort(places, kind="stable")
    panels = {layer: [parts_of(found[place], layer) for place in order] for layer, found in by_layer.items()}
    page = Page(WIDTH)
    subtitle = "A panel is all dimensions of a layer: shape from below, texture from above, neither between them."
    y = (
        write_title(
            page,
            MARGIN,
            WIDTH - 2 * MARGIN,
            title or "How do shape and texture change as the network learns?",
            subtitle,
        )
        + 0.12
    )
    keys = list(FACTOR_KEYS)
    if has_ends(one for parts in panels.values() for one in parts):
        keys.append(Key("95 % interval of the edge", colour="#6b6b6b"))
    if reference is not None:
        keys.append(softmax_key(reference))
    y = write_keys(page, y, keys) + 0.14
    rows = -(-len(panels) // _COLUMNS)
    across = -(-len(panels) // rows)
    width = (WIDTH - 2 * MARGIN - 2 * _SIDE - (across - 1) * _BETWEEN) / across
    tall = float(np.clip(width * 1.1, 1.3, 2.6))
    turned = _names(named, width) if named else ([], 0)
    around = _AROUND + (max(width_of(one, TICKS) for one in turned[0]) - 0.1 if turned[1] else 0)
    for number, (layer, parts) in enumerate(panels.items()):
        row, column = divmod(number, across)
        x, top = MARGIN + _SIDE + column * (width + _BETWEEN), y + row * (tall + around)
        name = "all together" if layer == ALL and len(panels) > 1 else layer
        page.text(x, top, ended(name, width, 8.5, "bold"), width * 1.05, size=8.5, weight="bold")
        page.text(x, top + 0.15, f"{parts[0].units} dimensions", width, size=7.5, colour=QUIET)
        last = column == across - 1 or number == len(panels) - 1
        draw = _drawing(parts, places[order], named, width, reference, first=column == 0, last=last)
        page.plot(x, top + 0.31, width, tall, draw)
    bottom = y + rows * (tall + around)
    page.text(
        MARGIN,
        bottom - 0.05,
        f"Left: shape, % of dimensions. Right: texture, % of dimensions. Across: {unit}.",
        WIDTH - 2 * MARGIN,
        size=TICKS,
        colour=QUIET,
    )
    return page.ink(bottom + 0.3)


def _places(epochs: Sequence[float | str]) -> tuple[Floats, list[str] | None]:
    """Return where the checkpoints are, and what they are called if they are no numbers.

    Raises:
        InputError: a number is not finite.
    """
    if any(isinstance(one, str) for one in epochs):
        return np.arange(len(epochs), dtype=np.float64), [str(one) for one in epochs]
    places = np.asarray(epochs, dtype=np.float64)
    if not np.isfinite(places).all():
        raise InputError("a checkpoint's place is NaN or infinite; give finite numbers, or names")
    return places, None


def _drawing(
    parts: Sequence[Parts],
    places: Floats,
    named: list[str] | None,
    width: float,
    reference: float | None,
    *,
    first: bool,
    last: bool,
) -> Callable[[Axes], None]:
    shape, texture = (np.array([getattr(one, name) for one in parts]) for name in ("shape", "texture"))
    shape_ends = np.array([one.shape_ends for one in parts])
    texture_ends = 1 - np.array([one.texture_ends for one in parts])
    reach = float(places[-1] - places[0])
    if reach == 0:
        # A single checkpoint is drawn as a bar.
        places, reach = np.array([places[0] - 0.5, places[0] + 0.5]), 1.0
        shape, texture = (np.repeat(one[-1:], 2) for one in (shape, texture))
        shape_ends, texture_ends = (np.repeat(one[-1:], 2, 0) for one in (shape_ends, texture_ends))
        ticks = [(places[0] + places[1]) / 2]
    else:
        ticks = []

    def draw(axes: Axes) -> None:
        plain_axes(axes, grid=False)
        axes.fill_between(places, 0, shape, facecolor=SHAPE, linewidth=0)
        axes.fill_between(places, shape, 1 - texture, facecolor=NEITHER, linewidth=0)
        axes.fill_between(places, 1 - texture, 1, facecolor=TEXTURE, linewidth=0, **HATCH)
        for edge, ends in ((shape, shape_ends), (1 - texture, texture_ends)):
            axes.fill_between(places, *ends.T, facecolor=INK, alpha=0.45, linewidth=0)
            axes.plot(places, edge, color="white", linewidth=0.9)
        if reference is not None:
            for y in (reference, 1 - reference):
                axes.axhline(y, color=INK, linewidth=0.8, linestyle=DASHES)
        axes.set(xlim=(places[0], places[-1]), ylim=(0, 1))
        percents = [f"{100 * one:.0f}" for one in _QUARTERS]
        ticks_at(axes.yaxis, _QUARTERS, percents if first else [""] * 5, color=SHAPE)
        if last:
            right = axes.secondary_yaxis("right")
            right.tick_params(length=0)
            right.spines["right"].set_visible(False)
            ticks_at(right.yaxis, _QUARTERS, percents[::-1], color=TEXTURE)
        _across(axes, ticks, places, named, width)

    return draw


def _across(axes: Axes, ticks: Sequence[float], places: Floats, named: list[str] | None, width: float) -> None:
    if named is not None:
        names, rotation = _names(named, width)
        shown = [(place, name) for place, name in enumerate(names) if name]
        ticks_at(axes.xaxis, ticks or [one for one, _ in shown], [name for _, name in shown], rotation=rotation)
    elif ticks:
        ticks_at(axes.xaxis, ticks, [_count(ticks[0])])
    else:
        low, high = float(places[0]), float(places[-1])
        found = MaxNLocator(int(np.clip(width / 0.36, 2, 10)), steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        inside = [float(one) for one in found if low <= one <= high]
        ticks_at(axes.xaxis, inside, [_count(one) for one in inside])


def _count(value: float) -> str:
    """A number of epochs or steps: 25, 0.5, 10k, 2M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}".replace("-", "−")
    return f"{value:g}".replace("-", "−")


def _names(named: Sequence[str], width: float) -> tuple[list[str], int]:
    """Return the names that are written below a panel, "" where there is no room, and by how much they are turned."""
    if len(named) * max(width_of(one, TICKS) + 0.1 for one in named) <= width:
        return list(named), 0
    every = -(-len(named) // max(1, int(width / 0.16)))
    return [fitted(one, _UPRIGHT, TICKS) if not place % every else "" for place, one in enumerate(named)], 90


__all__ = ["dimension_curves"]

"""What the pictures of shape and texture have in common: a colour for each, keys, and numbers made ready to be drawn.

Shape is orange, texture blue and hatched: both have the same lightness, so in grey print the hatching tells them apart,
and on curves dashes and diamonds do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.patches import Circle, Patch, PathPatch, RegularPolygon
from matplotlib.path import Path

from visavis.errors import InputError
from visavis.plotting.contents import Floats
from visavis.plotting.lettering import width_of
from visavis.plotting.page import INK, MARGIN, Page
from visavis.reports.style import BLUE, ORANGE
from visavis.shape_texture.dimensionality import Dimensionality

SHAPE, TEXTURE, NEITHER = ORANGE, BLUE, "#dedede"
#: How texture is filled; the lines have the edge's colour.
HATCH: Mapping[str, Any] = {"hatch": "/////", "edgecolor": "#7fa6e8"}
#: Of the lines at the shares that a layer has which encodes neither.
DASHES = (0, (3, 2))
_KEY = 8.5
_LINE = 0.19


@dataclass(frozen=True, eq=False)
class Parts:
    """The shares of one layer's dimensions, with their intervals.

    Attributes:
        shape, texture: shares, 0 to 1; the rest encodes neither.
        shape_ends, texture_ends: their intervals, low and high; NaN where there is none.
        counts: of shape, texture and neither.
        units: the dimensions of the layer.
    """

    shape: float
    texture: float
    shape_ends: tuple[float, float]
    texture_ends: tuple[float, float]
    counts: tuple[int, int, int]
    units: int


def parts_of(found: Dimensionality, layer: str) -> Parts:
    """Return the shares of shape and texture, whatever the order of the factors is.

    Raises:
        InputError: the factors are others.
    """
    if sorted(found.factors) != ["shape", "texture"]:
        raise InputError(
            f"{layer!r} has the factors {', '.join(found.factors) or 'none'}, but shape and texture are drawn; "
            "estimate its dimensionality of these two"
        )
    shape, texture = (found.factors.index(name) for name in ("shape", "texture"))
    shares, low, high = (one.detach().cpu().double().tolist() for one in (found.shares, found.low, found.high))
    counts = [int(one) for one in found.counts.tolist()]
    return Parts(
        shares[shape],
        shares[texture],
        (low[shape], high[shape]),
        (low[texture], high[texture]),
        (counts[shape], counts[texture], counts[2]),
        found.units,
    )


def unencoded_share(found: Iterable[Dimensionality]) -> float | None:
    """Return the share that softmax gives each of two factors that nothing encodes, 0.21; None without softmax.

    Raises:
        InputError: they are by different estimators, or there are none.
    """
    every = list(found)
    names = sorted({one.estimator for one in every})
    if len(names) != 1:
        came = " and ".join(names) if names else "no layers"
        raise InputError(f"{came} came, but layers by one estimator are drawn; give at least one, all by the same")
    return 1 / (2 + float(np.e)) if all(_is_softmax(one) for one in every) else None


def _is_softmax(found: Dimensionality) -> bool:
    powers = np.exp([*found.scores.detach().cpu().double().tolist(), 1.0])
    shares = found.shares.detach().cpu().double().numpy()
    return bool(np.allclose(powers / powers.sum(), shares, rtol=0, atol=1e-5))


def has_ends(parts: Iterable[Parts]) -> bool:
    """Whether any interval is known."""
    return any(np.isfinite([*one.shape_ends, *one.texture_ends]).any() for one in parts)


def ended(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Text on one line of at most `width` inches that begins with an ellipsis where it does not fit.

    Of the path of a module its end says most.
    """
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if width_of(text, size, weight) <= width and len(text) <= 500:
        return text
    low, high = 0, min(len(text), 500)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of("…" + text[len(text) - middle :], size, weight) <= width:
            low = middle
        else:
            high = middle - 1
    end = text[len(text) - low :]
    # Rather without the rest of a module's name than with its last letters.
    if 0 <= end.find(".") <= 6:
        end = end[end.find(".") + 1 :]
    return "…" + end.lstrip(" .")


@dataclass(frozen=True)
class Key:
    """One entry of a key: what a colour, line or marker means.

    Attributes:
        text: what it means.
        kind: what is drawn; "open" is an open diamond.
        colour: its colour.
        dashes: of a line.
        hatched: whether a box is.
    """

    text: str
    kind: Literal["box", "line", "interval", "disc", "diamond", "open"] = "box"
    colour: str = INK
    dashes: str | tuple[int, tuple[int, int]] = "-"
    hatched: bool = False


FACTOR_KEYS = (Key("shape", colour=SHAPE), Key("neither", colour=NEITHER), Key("texture", colour=TEXTURE, hatched=True))


def softmax_key(reference: float) -> Key:
    """Return the key of the dashes at the share that `unencoded_share` gives."""
    words = f"{100 * reference:.0f} % each: what softmax gives both where a layer encodes neither"
    return Key(words, "line", INK, DASHES)


def write_keys(page: Page, y: float, keys: Sequence[Key]) -> float:
    """Keys in as many lines as it takes; return where they end."""
    x, right = MARGIN, page.width - MARGIN
    for key in keys:
        sign = 0.15 if key.kind in ("box", "disc", "diamond", "open") else 0.3
        wide = min(width_of(key.text, _KEY) + 0.02, right - MARGIN - sign - 0.07)
        if x > MARGIN and x + sign + 0.07 + wide > right:
            x, y = MARGIN, y + _LINE
        _sign(page, x, y + 0.08, sign, key)
        page.text(x + sign + 0.07, y, key.text, wide / 0.99, size=_KEY)
        x += sign + 0.07 + wide + 0.25
    return y + _LINE


def _sign(page: Page, x: float, y: float, wide: float, key: Key) -> None:
    if key.kind == "box":
        style = HATCH if key.hatched else {}
        page.box(x, y - 0.065, 0.13, 0.13, **{"facecolor": key.colour, "linewidth": 0, **style})
        return
    if key.kind in ("disc", "diamond", "open"):
        page.shape(lambda total: _marker(x + 0.065, total - y, key))
        return
    ends = [(x, y), (x + wide, y)]
    if key.kind == "interval":
        ends += [(x, y - 0.04), (x, y + 0.04), (x + wide, y - 0.04), (x + wide, y + 0.04)]

    def line(total: float) -> Patch:
        path = Path([(a, total - b) for a, b in ends], [Path.MOVETO, Path.LINETO] * (len(ends) // 2))
        thick = 1.1 if key.kind == "interval" else 1.5
        return PathPatch(path, facecolor="none", edgecolor=key.colour, linewidth=thick, linestyle=key.dashes)

    page.shape(line)


def _marker(x: float, y: float, key: Key) -> Patch:
    if key.kind == "disc":
        return Circle((x, y), 0.055, facecolor=key.colour, linewidth=0)
    if key.kind == "open":
        return RegularPolygon((x, y), 4, radius=0.05, facecolor="white", edgecolor=key.colour, linewidth=0.9)
    return RegularPolygon((x, y), 4, radius=0.072, facecolor=key.colour, linewidth=0)


def ends_of(values: Any, count: int, what: str) -> Floats:
    """Return intervals (n, 2), low and high, or NaN where None came.

    Raises:
        InputError: they have another shape, or low is above high.
    """
    if values is None:
        return np.full((count, 2), np.nan)
    ends: Floats = np.asarray(values, dtype=np.float64)
    if ends.shape != (count, 2):
        raise InputError(f"{what} have the shape {ends.shape}, but ({count}, 2), a low and a high each, was expected")
    if (ends[:, 0] > ends[:, 1]).any():
        raise InputError(f"{what} have a low end above the high one; give low first")
    return ends


__all__ = [
    "DASHES",
    "FACTOR_KEYS",
    "HATCH",
    "NEITHER",
    "SHAPE",
    "TEXTURE",
    "Key",
    "Parts",
    "ended",
    "ends_of",
    "has_ends",
    "parts_of",
    "softmax_key",
    "unencoded_share",
    "write_keys",
]

"""Pictures of evidence: relevance drawn over the photograph, so that both can be read.

Everything here takes plain arrays and text and gives a `matplotlib.figure.Figure`. Only matplotlib's object
interface is used, never pyplot: no display is needed, no figure outlives its last reference, and the user's
own figures and settings are left alone.

How evidence becomes colour
    The photograph is greyed and lightened (`backdrop`). Over it lies a colour whose opacity and depth follow
    the strength of the evidence (`overlay`): no evidence is the grey photograph, the strongest is the full
    colour. Target and foil have colour maps of equal lightness and equal chroma, made in the OKLab space
    (Ottosson 2020), one orange and one blue: equal strengths look equally strong, in grey print too, and the
    two are told apart by the colour-blind and by a marker (a disc, a diamond).

How strength is scaled
    Strength 1 is the 99.5th percentile of |heat| over the pixels of a map; stronger pixels are clipped to it.
    Maps of one `group` (one method) share the scale of the strongest among them, so a foil with little
    evidence looks pale beside its target. Maps of different groups do not: a contrast is a difference, much
    smaller than what it is the difference of. The footer of every figure says so, with the numbers.
"""

from __future__ import annotations

import io
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, Patch, Rectangle, RegularPolygon
from matplotlib.textpath import text_to_path
from numpy.typing import ArrayLike, NDArray

from visavis.errors import InputError
from visavis.files import FIGURES, check_place, check_suffix, write_bytes

__all__ = [
    "FOIL",
    "TARGET",
    "Class",
    "Map",
    "Row",
    "backdrop",
    "comparison",
    "overlay",
    "panel",
    "save_figure",
    "shared_scale",
    "smooth",
]

Floats = NDArray[np.float64]
Role = Literal["target", "foil"]

PERCENTILE = 99.5
MAPS_AT_MOST = 6
ROWS_AT_MOST = 20

# -------------------------------------------------------------------------------------------- what is drawn


@dataclass(frozen=True, eq=False)
class Map:
    """One map of evidence.

    Attributes:
        heading: what the map is, such as "CLRP: tiger cat, not espresso".
        note: how to read it, such as "what speaks for tiger cat rather than for espresso".
        heat: (H, W), finite; >= 0, or signed (positive speaks for the role's class, negative against it).
        role: "target" or "foil": the family of colours.
        group: maps with the same group share one colour scale; name the method, such as "LRP".
    """

    heading: str
    note: str
    heat: ArrayLike
    role: Role = "target"
    group: str = ""


@dataclass(frozen=True)
class Class:
    """A class and the probability, in [0, 1], that the model gives it; `role` colours its bar."""

    name: str
    probability: float
    role: Role | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """One class of a `comparison`: its probability in [0, 1], its plain map and its contrast, both (H, W)."""

    name: str
    probability: float
    plain: ArrayLike
    contrast: ArrayLike
    role: Role = "target"


# --------------------------------------------------------------------------------------------------- colour


def _srgb(lightness: Floats, chroma: Floats, hue: float) -> Floats:
    """OKLab lightness and chroma, each (N,), at a hue in degrees, as sRGB (N, 3) in [0, 1]."""
    a = chroma * math.cos(math.radians(hue))
    b = chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=-1,
    ).clip(0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


_HUES: dict[Role, float] = {"target": 45.0, "foil": 255.0}
_PALEST, _DEEPEST, _CHROMA = 0.90, 0.53, 0.148


def _colormap(role: Role) -> ListedColormap:
    """Strengths -1 .. 1: the other role's end, a neutral middle, this role's end; straight lines in OKLab."""
    strength = np.linspace(0.0, 1.0, 257)
    lightness = _PALEST + (_DEEPEST - _PALEST) * strength
    other: Role = "foil" if role == "target" else "target"
    against, in_favour = (_srgb(lightness, _CHROMA * strength, _HUES[side]) for side in (other, role))
    return ListedColormap(np.concatenate([against[:0:-1], in_favour]), name=f"visavis-{role}")


TARGET = _colormap("target")
"""Colours of the target: strength 1 deep orange, 0 neutral, -1 deep blue; call it with (strength + 1) / 2."""
FOIL = _colormap("foil")
"""Colours of the foil: strength 1 deep blue, 0 neutral, -1 deep orange."""

_COLORMAPS: dict[Role, Colormap] = {"target": TARGET, "foil": FOIL}

# The darkest backdrop stays lighter than the full colours, so that grey print cannot confuse them.
_DARKEST_GREY = 0.5
_OPACITY_EXPONENT = 0.6


def backdrop(picture: ArrayLike) -> Floats:
    """The photograph as the maps show it: grey (Rec. 709 luma), lightened from [0, 1] into [0.5, 1].

    Takes (H, W, 3) or (H, W, 1) in [0, 1], gives (H, W, 3) with three equal channels.
    """
    colours = _checked_picture(picture)
    grey = colours @ np.array([0.2126, 0.7152, 0.0722])
    lightened = _DARKEST_GREY + (1.0 - _DARKEST_GREY) * grey
    return np.repeat(lightened[..., None], 3, axis=-1)


def overlay(picture: ArrayLike, heat: ArrayLike, scale: float, colormap: Colormap) -> Floats:
    """The photograph in grey with the evidence in colour.

    The strength of a pixel is heat / scale, clipped to [-1, 1]; its opacity is |strength| ** 0.6. A pixel
    without evidence is its `backdrop`; one with |heat| >= scale is the end of the colour map.

    Args:
        picture: (H, W, 3) or (H, W, 1), in [0, 1].
        heat: (H, W), finite.
        scale: the heat of strength 1; 0 says that there is no evidence at all.
        colormap: `TARGET`, `FOIL`, or any colour map, read at (strength + 1) / 2.

    Returns:
        (H, W, 3) in [0, 1].
    """
    grey = backdrop(picture)
    evidence = _checked_heat(heat, grey.shape[:2], "the heat")
    if not (math.isfinite(scale) and scale >= 0):
        raise InputError(f"the scale is {scale}, but a finite number >= 0 was expected; use shared_scale().")
    if scale == 0:
        return grey
    strength = np.clip(evidence, -scale, scale) / scale
    opacity = np.abs(strength)[..., None] ** _OPACITY_EXPONENT
    colour: Floats = np.asarray(colormap((strength + 1.0) / 2.0), dtype=np.float64)[..., :3]
    return (1.0 - opacity) * grey + opacity * colour


def smooth(heat: ArrayLike, sigma: float) -> Floats:
    """Heat (H, W) under a Gaussian of `sigma` pixels; at the borders too its weights sum to 1."""
    result = np.asarray(heat, dtype=np.float64)
    if sigma <= 0:
        return result
    rows, columns = (_gaussian_weights(side, sigma) for side in result.shape)
    blurred: Floats = rows @ result @ columns.T
    return blurred


def _gaussian_weights(side: int, sigma: float) -> Floats:
    """(side, side): row i weighs all positions by their distance from i, and sums to 1."""
    position = np.arange(side, dtype=np.float64)
    weights = np.exp(-0.5 * ((position[:, None] - position[None, :]) / sigma) ** 2)
    normalised: Floats = weights / weights.sum(axis=1, keepdims=True)
    return normalised


def shared_scale(heats: Iterable[ArrayLike]) -> float:
    """The heat of strength 1 for maps drawn to one scale: the largest of their 99.5th percentiles of |heat|.

    The largest, not the percentile of all pixels pooled: a second map without evidence must not change how
    the first one looks. Where fewer than 0.5 % of the pixels of every map hold evidence, it is
    the largest |heat|.
    """
    strengths = [np.abs(np.asarray(heat, dtype=np.float64)) for heat in heats]
    robust = max(map(_robust, strengths), default=0.0)
    return robust or max((float(strength.max()) for strength in strengths), default=0.0)


def _robust(heat: Floats) -> float:
    return float(np.percentile(np.abs(heat), PERCENTILE))


# ------------------------------------------------------------------------------------------ what is refused


def _checked_picture(picture: ArrayLike) -> Floats:
    """(H, W, 3) float64 in [0, 1], or an `InputError`."""
    expected = "floats of shape (H, W, 3) or (H, W, 1) in [0, 1]"
    array = np.asarray(picture)
    if array.dtype.kind != "f":
        raise InputError(f"the picture holds {array.dtype}, but {expected} were expected; divide bytes by 255.")
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise InputError(f"the picture has the shape {array.shape}, but {expected} were expected.")
    colours: Floats = array.astype(np.float64)
    if not np.isfinite(colours).all():
        raise InputError(f"the picture holds NaN or infinite values, but {expected} were expected.")
    if colours.min() < -1e-3 or colours.max() > 1 + 1e-3:
        found = f"[{colours.min():.3g}, {colours.max():.3g}]"
        raise InputError(f"the picture's values span {found}, but {expected} were expected; undo its normalisation.")
    return np.broadcast_to(colours.clip(0.0, 1.0), (*colours.shape[:2], 3))


def _checked_heat(heat: ArrayLike, size: tuple[int, ...], name: str) -> Floats:
    """(H, W) float64, finite and of the picture's size, or an `InputError` that names the map."""
    array = np.asarray(heat)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name!r} holds {array.dtype}, but numbers of shape (H, W) were expected.")
    if array.shape != size:
        raise InputError(
            f"{name!r} has the shape {array.shape}, but {size}, the picture's height and width, was expected."
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name!r} holds NaN or infinite values, so it cannot be drawn; find out where they arise.")
    evidence: Floats = array.astype(np.float64)
    return evidence


def _check_role(name: str, role: str) -> None:
    if role not in _COLORMAPS:
        raise InputError(f"{name!r} has the role {role!r}, but 'target' or 'foil' was expected.")


def _check_roles_and_probabilities(classes: Sequence[Class | Row]) -> None:
    for entry in classes:
        if not 0.0 <= entry.probability <= 1.0:
            found = f"the probability of {entry.name!r} is {entry.probability}"
            raise InputError(f"{found}, but a number in [0, 1] was expected; apply softmax to the logits.")
        if entry.role is not None:
            _check_role(entry.name, entry.role)


# ------------------------------------------------------------------------------------------- text that fits

_INK, _QUIET, _RULE, _TRACK, _NO_ROLE = "#1a1a1a", "#555555", "#c8c8c8", "#ececec", "#8a8a8a"
_LETTERS_AT_MOST = 500  # on one line: more never fit on a page, and measuring takes time
_LEADING, _ASCENT = 1.3, 0.98  # from line to line, and from the top of a line to its baseline, in font sizes

# Labels may be in any script; only families that are installed may be asked for, else matplotlib complains.
_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans",
    "Hiragino Sans",
    "Microsoft YaHei",
)


@cache
def _font(size: float, weight: str) -> FontProperties:
    installed = set(font_manager.get_font_names())
    families = [family for family in _FAMILIES if family in installed]
    return FontProperties(family=families, size=size, weight=weight)


@lru_cache(maxsize=4096)
def _width(text: str, font: FontProperties) -> float:
    """Inches that one line of text takes."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72.0


def _shortened(text: str, width: float, font: FontProperties) -> str:
    """The longest beginning of `text` that fits with an ellipsis, or `text` itself if it fits."""
    if len(text) <= _LETTERS_AT_MOST and _width(text, font) <= width:
        return text
    low, high = 0, min(len(text), _LETTERS_AT_MOST)
    while low < high:
        middle = (low + high + 1) // 2
        if _width(text[:middle].rstrip() + "…", font) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def _wrapped(text: str, width: float, font: FontProperties, lines_at_most: int) -> list[str]:
    """`text` in lines of at most `width` inches; what does not fit ends in an ellipsis."""
    words = "".join(letter if letter.isprintable() else " " for letter in text).split()
    space = _width("a a", font) - _width("aa", font)
    lines: list[str] = []
    while words and len(lines) < lines_at_most:
        if len(lines) == lines_at_most - 1:
            lines.append(_shortened(" ".join(words), width, font))
            break
        count, taken = 1, _width(words[0][:_LETTERS_AT_MOST], font)
        while count < len(words) and (taken := taken + space + _width(words[count][:_LETTERS_AT_MOST], font)) <= width:
            count += 1
        lines.append(_shortened(" ".join(words[:count]), width, font))
        words = words[count:]
    return lines


def _percent(probability: float) -> str:
    """A probability in words that never claim more than it says: 62.1 %, < 0.1 %, > 99.9 %."""
    if 0.0 < probability < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= probability < 1.0:
        return "> 99.9 %"
    return f"{100 * probability:.1f} %"


# ----------------------------------------------------------------------------------- the page, then the ink


@dataclass
class _Page:
    """What goes where, in inches from the upper left corner; `ink` makes a figure of it."""

    width: float
    strokes: list[Callable[[Figure, float], None]] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        width: float,
        *,
        size: float = 9.0,
        weight: str = "normal",
        colour: str = _INK,
        lines: int = 1,
        align: Literal["left", "right", "center"] = "left",
    ) -> float:
        """Write `text` within `width` with its top at y, and return the height that it takes."""
        font = _font(size, weight)
        wrapped = _wrapped(text, width * 0.99, font, lines)
        if not wrapped:
            return 0.0

        def write(figure: Figure, height: float) -> None:
            for number, line in enumerate(wrapped):
                figure.text(
                    x,
                    height - y - (_ASCENT + number * _LEADING) * size / 72.0,
                    line,
                    transform=figure.dpi_scale_trans,
                    fontproperties=font,
                    color=colour,
                    ha=align,
                    va="baseline",  # from the baseline: "tiger" and "cat" then stand on one line
                    parse_math=False,  # a class may be called "$5 bill"
                )

        self.strokes.append(write)
        return len(wrapped) * size * _LEADING / 72.0

    def image(self, x: float, y: float, width: float, height: float, pixels: Floats) -> None:
        def paint(figure: Figure, total: float) -> None:
            box = (x / self.width, 1 - (y + height) / total, width / self.width, height / total)
            axes = figure.add_axes(box, xticks=[], yticks=[])
            axes.set_axis_off()
            axes.imshow(pixels, aspect="auto", interpolation="antialiased", origin="upper", resample=True)

        self.strokes.append(paint)

    def shape(self, make: Callable[[float], Patch]) -> None:
        """Draw the patch that `make` makes of the page's height, in inches from the lower left."""

        def paint(figure: Figure, total: float) -> None:
            patch = make(total)
            patch.set_transform(figure.dpi_scale_trans)
            figure.add_artist(patch)

        self.strokes.append(paint)

    def box(self, x: float, y: float, width: float, height: float, **style: Any) -> None:
        self.shape(lambda total: Rectangle((x, total - y - height), width, height, **style))

    def marker(self, x: float, y: float, role: Role) -> None:
        """A disc for the target, a diamond for the foil, centred at (x, y)."""
        colour = _COLORMAPS[role](1.0)

        def make(total: float) -> Patch:
            if role == "target":
                return Circle((x, total - y), 0.055, facecolor=colour, linewidth=0)
            return RegularPolygon((x, total - y), 4, radius=0.072, facecolor=colour, linewidth=0)

        self.shape(make)

    def ink(self, height: float) -> Figure:
        figure = Figure(figsize=(self.width, height), dpi=180, facecolor="white")
        figure.set_layout_engine("none")  # else the user's settings could move what is placed here
        for stroke in self.strokes:
            stroke(figure, height)
        return figure


_MARGIN, _GAP, _MARKER = 0.35, 0.28, 0.17


def _heading(page: _Page, x: float, y: float, text: str, width: float, role: Role | None) -> float:
    indent = 0.0 if role is None else _MARKER
    if role is not None:
        page.marker(x + 0.06, y + 0.072, role)
    return page.text(x + indent, y, text, width - indent, size=9.5, weight="bold", lines=2)


def _top(page: _Page, x: float, width: float, title: str, subtitle: str) -> float:
    """Title and subtitle from the top margin; returns where they end."""
    y = _MARGIN
    y += page.text(x, y, title, width, size=16.0, weight="bold", lines=2)
    y += page.text(x, y, subtitle, width, size=9.5, colour=_QUIET, lines=3)
    return y


def _bottom(page: _Page, y: float, sentences: Sequence[str]) -> float:
    """A rule and the footer; returns the height of the whole page."""
    width = page.width - 2 * _MARGIN
    page.box(_MARGIN, y, width, 0.0, edgecolor=_RULE, linewidth=0.8)
    y += 0.11
    for sentence in sentences:
        y += page.text(_MARGIN, y, sentence, width, size=8.0, colour=_QUIET, lines=12) + 0.02
    return y + 0.22


def _described(
    page: _Page, x: float, y: float, heading: str, note: str, width: float, role: Role | None = None
) -> float:
    """A heading with its note beneath; returns their height."""
    height = _heading(page, x, y, heading, width, role)
    return height + page.text(x, y + height, note, width, size=8.5, colour=_QUIET, lines=3) + 0.04


def _tile_size(picture: Floats, width: float, height: float) -> tuple[float, float]:
    """The largest size with the picture's aspect within (width, height); a sliver is kept visible."""
    rows, columns = picture.shape[:2]
    shrink = min(width / columns, height / rows)
    return max(columns * shrink, 0.05), max(rows * shrink, 0.05)


def _tile(page: _Page, x: float, y: float, size: tuple[float, float], pixels: Floats, *, empty: bool = False) -> None:
    """Pixels in a thin frame, with the words "no evidence" where the map is empty and has room for them."""
    page.image(x, y, *size, pixels)
    page.box(x, y, *size, facecolor="none", edgecolor=_RULE, linewidth=0.6)
    if empty and _holds_words(size):
        middle = y + size[1] / 2
        page.box(x + size[0] / 2 - 0.5, middle - 0.14, 1.0, 0.28, facecolor="white", alpha=0.85, linewidth=0)
        page.text(x + size[0] / 2, middle - 0.065, "no evidence", 1.0, size=9.5, weight="bold", align="center")


def _holds_words(size: tuple[float, float]) -> bool:
    return size[0] >= 1.1 and size[1] >= 0.36


def _bars(page: _Page, x: float, y: float, width: float, classes: Sequence[Class]) -> float:
    """The classes with their probabilities as bars on a track of 100 %; returns the height."""
    start = y
    y += page.text(x, y, "What the model sees", width, size=9.5, weight="bold") + 0.03
    for entry in classes:
        indent = 0.0 if entry.role is None else _MARKER
        if entry.role is not None:
            page.marker(x + 0.06, y + 0.07, entry.role)
        page.text(x + indent, y, entry.name, width - indent - 0.72, size=9.0)
        page.text(x + width, y, _percent(entry.probability), 0.7, size=9.0, align="right")
        _bar(page, x, y + 0.175, width, entry.probability, entry.role)
        y += 0.33
    return y - start


def _bar(page: _Page, x: float, y: float, width: float, probability: float, role: Role | None) -> None:
    colour = _NO_ROLE if role is None else _COLORMAPS[role](1.0)
    page.box(x, y, width, 0.07, facecolor=_TRACK, linewidth=0)
    page.box(x, y, width * probability, 0.07, facecolor=colour, linewidth=0)


def _colour_bar(page: _Page, x: float, y: float, width: float, role: Role, name: str, signed: bool) -> float:
    """The colours as the tiles show them over a mid-grey photograph, from no evidence to the strongest."""
    start = y
    page.marker(x + 0.06, y + 0.065, role)
    y += page.text(x + _MARKER, y, name, width - _MARKER, size=8.5, lines=2) + 0.01
    strength = np.linspace(-1.0 if signed else 0.0, 1.0, 256)[None, :]
    page.image(x, y, width, 0.12, overlay(np.full((1, 256, 1), 0.5), strength, 1.0, _COLORMAPS[role]))
    page.box(x, y, width, 0.12, facecolor="none", edgecolor=_RULE, linewidth=0.6)
    y += 0.16
    left, middle, right = ("−1 against", "0", "1 for") if signed else ("0", "0.5", "1")
    third = width / 3
    page.text(x, y, left, third, size=8.0, colour=_QUIET)
    page.text(x + width / 2, y, middle, third, size=8.0, colour=_QUIET, align="center")
    y += page.text(x + width, y, right, third, size=8.0, colour=_QUIET, align="right")
    y += page.text(x, y, "share of the strongest evidence", width, size=8.0, colour=_QUIET)
    return y - start


# ------------------------------------------------------------------------------- what the footer has to say


def _is_signed(heat: Floats) -> bool:
    """Whether a map holds negative evidence, beyond rounding."""
    return bool(heat.min() < -1e-6 * np.abs(heat).max())


@dataclass(frozen=True)
class _Scale:
    """The scale of one group: its strength 1, how many maps share it, whether few pixels hold evidence."""

    group: str
    full: float
    maps: int
    sparse: bool


def _scales(grouped: Iterable[tuple[str, Floats]]) -> dict[str, _Scale]:
    """One scale a group, from maps as (group, heat)."""
    members: dict[str, list[Floats]] = {}
    for group, heat in grouped:
        members.setdefault(group, []).append(heat)
    return {
        group: _Scale(group, full := shared_scale(heats), len(heats), full > 0 and not any(map(_robust, heats)))
        for group, heats in members.items()
    }


def _how_scaled(scales: Iterable[_Scale]) -> str:
    """What strength 1 means, in words and in numbers."""
    every = list(scales)
    held = [scale for scale in every if scale.full > 0]
    if not held:
        return "No map holds any evidence."
    said = f"Strength 1 is the {PERCENTILE}th percentile of a map's pixels; stronger ones are clipped to it. "
    if any(scale.sparse for scale in held):
        said += "Strength 1 is the strongest pixel where fewer than 0.5 % hold evidence. "
    shared = any(scale.maps > 1 for scale in held)
    if len(held) == 1:
        whose = "All maps" if len(every) == 1 else "Maps of one method"
        said += f"{whose} share one scale, that of the strongest: " if shared else "Here, "
        return said + f"1 is a relevance of {held[0].full:.3g} a pixel."
    listed = ", ".join(f"{scale.full:.3g} for {scale.group or 'the others'}" for scale in held)
    if shared:
        said += "Maps of one method share one scale, that of the strongest, so compare strengths within a "
        return said + f"method, not across: 1 is a relevance a pixel of {listed}."
    return said + f"Each map has its own scale, so do not compare strengths: 1 is a relevance a pixel of {listed}."


def _how_drawn(sigma: float) -> str:
    if sigma == 0:
        return "The maps are drawn pixel by pixel, not smoothed, over the photograph in light grey."
    return (
        f"For display only, the maps are smoothed (Gaussian, σ = {sigma:.1f} pixels) before they are scaled, "
        "and drawn over the photograph in light grey."
    )


def _sigma(picture: Floats, smoothing: float) -> float:
    if not 0.0 <= smoothing <= 0.2:
        raise InputError(f"the smoothing is {smoothing}, but a share of the shorter side in [0, 0.2] was expected.")
    return smoothing * float(min(picture.shape[:2]))


# ---------------------------------------------------------------------------------------------- the figures

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
    colours = _checked_picture(picture)
    if not 1 <= len(maps) <= MAPS_AT_MOST:
        raise InputError(f"A panel holds 1 to {MAPS_AT_MOST} maps, but {len(maps)} came; draw several panels.")
    for entry in maps:
        _check_role(entry.heading, entry.role)
    _check_roles_and_probabilities(classes)
    sigma = _sigma(colours, smoothing)
    heats = [smooth(_checked_heat(entry.heat, colours.shape[:2], entry.heading), sigma) for entry in maps]
    scales = _scales((entry.group, heat) for entry, heat in zip(maps, heats, strict=True))

    columns = _COLUMNS[len(maps)]
    widest = min(3.4, (10.0 - 2 * _MARGIN - columns * _GAP) / (columns + 1))
    size = _tile_size(colours, widest, 3.4)
    column = min(widest, max(size[0], 2.3))
    lefts = [_MARGIN + (place + 1) * (column + _GAP) for place in range(columns)]
    page = _Page(_MARGIN + lefts[-1] + column)
    top = _top(page, _MARGIN, page.width - 2 * _MARGIN, title, subtitle) + 0.14
    tiles = [
        (entry, heat, overlay(colours, heat, scales[entry.group].full, _COLORMAPS[entry.role]))
        for entry, heat in zip(maps, heats, strict=True)
    ]
    first_tile, y = _grid(page, lefts, top, column, size, tiles)

    named: dict[str, str] = {bar.role: bar.name for bar in reversed(classes) if bar.role is not None}
    named |= names or {}
    signed = {entry.role for entry, heat in zip(maps, heats, strict=True) if _is_signed(heat)}
    right = max(
        _colour_bar(page, x, y, column, role, quantity.format(named.get(role, f"the {role}")), role in signed)
        for role, x in _legend_places(lefts, [entry.role for entry in maps])
    )
    pixels = f"{colours.shape[1]} × {colours.shape[0]} pixels"
    _described(page, _MARGIN, top, "The picture", pixels, column)
    _tile(page, _MARGIN, first_tile, size, colours)
    left = first_tile + size[1] + 0.2
    left += _bars(page, _MARGIN, left, column, classes) if classes else 0.0
    sentences = [footer, _how_scaled(scales.values()), _how_drawn(sigma)]
    return page.ink(_bottom(page, max(left, y + right) + 0.12, sentences))


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
    page: _Page,
    lefts: Sequence[float],
    top: float,
    column: float,
    size: tuple[float, float],
    tiles: Sequence[tuple[Map, Floats, Floats]],
) -> tuple[float, float]:
    """Maps with heat and pixels in rows below `top`; returns where the first tiles begin and all end."""
    y, first_tile = top, 0.0
    for start in range(0, len(tiles), len(lefts)):
        row = list(zip(lefts, tiles[start : start + len(lefts)], strict=False))
        y += max(
            _described(page, x, y, entry.heading, _note(entry.note, heat, size), column, entry.role)
            for x, (entry, heat, _) in row
        )
        first_tile = first_tile or y
        for x, (_, heat, pixels) in row:
            _tile(page, x, y, size, pixels, empty=not heat.any())
        y += size[1] + 0.2
    return first_tile, y


def _note(note: str, heat: Floats, size: tuple[float, float]) -> str:
    """The note, which says "no evidence" where the tile is too small to say it."""
    return note if heat.any() or _holds_words(size) else f"no evidence: {note}"


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
    colours = _checked_picture(picture)
    if not 1 <= len(rows) <= ROWS_AT_MOST:
        raise InputError(f"a comparison holds 1 to {ROWS_AT_MOST} classes, but {len(rows)} came; name fewer.")
    _check_roles_and_probabilities(rows)
    sigma = _sigma(colours, smoothing)
    shape = colours.shape[:2]
    plain = [smooth(_checked_heat(row.plain, shape, f"{columns[0]}: {row.name}"), sigma) for row in rows]
    contrast = [smooth(_checked_heat(row.contrast, shape, f"{columns[1]}: {row.name}"), sigma) for row in rows]
    methods = list(zip(columns, notes, (plain, contrast), strict=True))
    scales = _scales((method, heat) for method, _, heats in methods for heat in heats)

    label = 2.3
    size = _tile_size(colours, 3.2, 2.4)
    column = max(size[0], 2.4)
    page = _Page(2 * _MARGIN + label + 2 * (_GAP + column))
    lefts = [_MARGIN + label + _GAP + place * (column + _GAP) for place in range(2)]

    y = _picture_beside_title(page, colours, label, title, subtitle)
    y += max(_described(page, x, y, method, note, column) for x, (method, note, _) in zip(lefts, methods, strict=True))
    for place, row in enumerate(rows):
        end = _row_label(page, y, label, row)
        for x, (method, _, heats) in zip(lefts, methods, strict=True):
            pixels = overlay(colours, heats[place], scales[method].full, _COLORMAPS[row.role])
            _tile(page, x, y, size, pixels, empty=not heats[place].any())
            if not (heats[place].any() or _holds_words(size)):
                beside = size[0] < 1.1  # a tile this narrow has room at its right, a flat one beneath
                right, down = (size[0] + 0.1, 0.0) if beside else (0.0, size[1] + 0.03)
                page.text(x + right, y + down, "no evidence", column - right, size=8.5, colour=_QUIET)
        y = max(end, y + size[1]) + 0.16

    roles = list(dict.fromkeys(row.role for row in rows))
    legends = []
    for x, role in zip(lefts, roles, strict=False):
        named = [row.name for row in rows if row.role == role]
        drawn = [heat for heats in (plain, contrast) for row, heat in zip(rows, heats, strict=True) if row.role == role]
        name = named[0] if len(named) == 1 else "the class of the row"
        legends.append(_colour_bar(page, x, y, column, role, f"evidence for {name}", any(map(_is_signed, drawn))))
    sentences = [footer, _how_scaled(scales.values()), _how_drawn(sigma)]
    return page.ink(_bottom(page, y + max(legends) + 0.12, sentences))


def _picture_beside_title(page: _Page, picture: Floats, width: float, title: str, subtitle: str) -> float:
    """The photograph at the upper left, the title right of it; returns where the two end."""
    size = _tile_size(picture, width, 2.4)
    _tile(page, _MARGIN, _MARGIN, size, picture)
    x = _MARGIN + width + _GAP
    text_end = _top(page, x, page.width - _MARGIN - x, title, subtitle)
    return max(_MARGIN + size[1], text_end) + 0.2


def _row_label(page: _Page, y: float, width: float, row: Row) -> float:
    """Name, probability and bar of a row; returns where they end."""
    page.marker(_MARGIN + 0.06, y + 0.09, row.role)
    y += page.text(_MARGIN + _MARKER, y, row.name, width - _MARKER, size=11.0, weight="bold", lines=3)
    y += page.text(_MARGIN, y, _percent(row.probability), width, size=11.0) + 0.02
    _bar(page, _MARGIN, y, width, row.probability, row.role)
    return y + 0.07


# -------------------------------------------------------------------------------------------------- to disk

# Matplotlib takes the salt of SVG identifiers from its settings alone, so two saves must not overlap.
_SVG_SALT = threading.Lock()


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write `figure` as PNG, PDF, SVG or JPEG, by the suffix of `path`; the same figure gives the same bytes.

    The figure is rendered in memory, written beside `path` and renamed into place: whatever goes wrong,
    `path` holds what it held before, and no other file is left. No times are written into the file.

    Raises:
        OutputError: an unknown suffix, a folder that is missing or read-only, a full disk.
    """
    target = Path(path)
    check_suffix(target, FIGURES)
    # Refused before anything is rendered, which takes a while.
    check_place(target)
    write_bytes(target, _rendered(figure, target.suffix.lower()))


def _rendered(figure: Figure, suffix: str) -> bytes:
    """The bytes of the file, free of times and chance."""
    metadata: dict[str, dict[str, str | None]] = {
        ".png": {"Software": "visavis"},
        ".pdf": {"Creator": "visavis", "CreationDate": None},
        ".svg": {"Creator": "visavis", "Date": None},
    }
    options: dict[str, Any] = {"metadata": metadata[suffix]} if suffix in metadata else {"pil_kwargs": {"quality": 92}}
    buffer = io.BytesIO()
    with _SVG_SALT:
        salt = matplotlib.rcParams["svg.hashsalt"]
        matplotlib.rcParams["svg.hashsalt"] = "visavis"
        try:
            figure.savefig(buffer, format=suffix[1:], facecolor="white", dpi="figure", transparent=False, **options)
        finally:
            matplotlib.rcParams["svg.hashsalt"] = salt
    return buffer.getvalue()

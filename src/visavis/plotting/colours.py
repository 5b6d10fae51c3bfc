"""How evidence becomes colour.

The photograph is greyed and lightened (`backdrop`). Over it lies a colour whose opacity and depth follow
the strength of the evidence (`overlay`): no evidence is the grey photograph, the strongest is the full
colour. Target and foil have colour maps of equal lightness and equal chroma, made in the OKLab space
(Ottosson 2020), one orange and one blue: equal strengths look equally strong, in grey print too, and the
two are told apart by the colour-blind and by a marker (a disc, a diamond).
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.colors import Colormap, ListedColormap
from numpy.typing import ArrayLike

from visavis.errors import InputError
from visavis.plotting.contents import Floats, Role, checked_heat, checked_picture


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

COLORMAPS: dict[Role, Colormap] = {"target": TARGET, "foil": FOIL}

# The darkest backdrop stays lighter than the full colours, so that grey print cannot confuse them.
_DARKEST_GREY = 0.5
_OPACITY_EXPONENT = 0.6


def backdrop(picture: ArrayLike) -> Floats:
    """The photograph as the maps show it: grey (Rec. 709 luma), lightened from [0, 1] into [0.5, 1].

    Takes (H, W, 3) or (H, W, 1) in [0, 1], gives (H, W, 3) with three equal channels.
    """
    colours = checked_picture(picture)
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
    evidence = checked_heat(heat, grey.shape[:2], "the heat")
    if not (math.isfinite(scale) and scale >= 0):
        raise InputError(f"the scale is {scale}, but a finite number >= 0 was expected; use shared_scale().")
    if scale == 0:
        return grey
    strength = np.clip(evidence, -scale, scale) / scale
    opacity = np.abs(strength)[..., None] ** _OPACITY_EXPONENT
    colour: Floats = np.asarray(colormap((strength + 1.0) / 2.0), dtype=np.float64)[..., :3]
    return (1.0 - opacity) * grey + opacity * colour

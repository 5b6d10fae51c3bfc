"""How strength is scaled.

Strength 1 is the 99.5th percentile of |heat| over the pixels of a map; stronger pixels are clipped to it.
Maps of one `group` (one method) share the scale of the strongest among them, so a foil with little
evidence looks pale beside its target. Maps of different groups do not: a contrast is a difference, much
smaller than what it is the difference of. The footer of every figure says so, with the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from visavis.errors import InputError
from visavis.plotting.contents import Floats

PERCENTILE = 99.5


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


def sigma_of(picture: Floats, smoothing: float) -> float:
    """`smoothing`, a share of the shorter side, in pixels."""
    if not 0.0 <= smoothing <= 0.2:
        raise InputError(f"the smoothing is {smoothing}, but a share of the shorter side in [0, 0.2] was expected.")
    return smoothing * float(min(picture.shape[:2]))


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


def is_signed(heat: Floats) -> bool:
    """Whether a map holds negative evidence, beyond rounding."""
    return bool(heat.min() < -1e-6 * np.abs(heat).max())


@dataclass(frozen=True)
class Scale:
    """The scale of one group: its strength 1, how many maps share it, whether few pixels hold evidence."""

    group: str
    full: float
    maps: int
    sparse: bool


def scales_of(grouped: Iterable[tuple[str, Floats]]) -> dict[str, Scale]:
    """One scale a group, from maps as (group, heat)."""
    members: dict[str, list[Floats]] = {}
    for group, heat in grouped:
        members.setdefault(group, []).append(heat)
    return {
        group: Scale(group, full := shared_scale(heats), len(heats), full > 0 and not any(map(_robust, heats)))
        for group, heats in members.items()
    }


def how_scaled(scales: Iterable[Scale]) -> str:
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


def how_drawn(sigma: float) -> str:
    """How the maps are smoothed and laid over the photograph, in words."""
    if sigma == 0:
        return "The maps are drawn pixel by pixel, not smoothed, over the photograph in light grey."
    return (
        f"For display only, the maps are smoothed (Gaussian, σ = {sigma:.1f} pixels) before they are scaled, "
        "and drawn over the photograph in light grey."
    )

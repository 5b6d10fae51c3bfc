"""Maps made ready to be drawn: checked, smoothed, scaled and coloured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visavis.plotting.colours import COLORMAPS, overlay
from visavis.plotting.contents import Floats, Map, checked_heat
from visavis.plotting.strength import how_drawn, how_scaled, is_signed, scales_of, sigma_of, smooth


@dataclass(frozen=True, eq=False)
class Tile:
    """A map as it is drawn: pixels (H, W, 3), and whether it holds negative evidence, or none at all."""

    map: Map
    pixels: Floats
    signed: bool
    empty: bool


def tiles_of(picture: Floats, maps: Sequence[Map], smoothing: float) -> tuple[list[Tile], list[str]]:
    """A tile a map, over a picture that `checked_picture` gave; and what the footer has to say of them."""
    sigma = sigma_of(picture, smoothing)
    heats = [smooth(checked_heat(entry.heat, picture.shape[:2], entry.heading), sigma) for entry in maps]
    scales = scales_of((entry.group, heat) for entry, heat in zip(maps, heats, strict=True))
    tiles = [
        Tile(
            entry,
            overlay(picture, heat, scales[entry.group].full, COLORMAPS[entry.role]),
            signed=is_signed(heat),
            empty=not heat.any(),
        )
        for entry, heat in zip(maps, heats, strict=True)
    ]
    return tiles, [how_scaled(scales.values()), how_drawn(sigma)]

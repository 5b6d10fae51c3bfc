"""The textures of generated objects and grounds: patterns over the whole plane, from 0 (dark) to 1 (light).

Edges within a pattern are as wide as a pixel, so that it stays smooth at any size. What looks random is a hash of the
place and a seed: the same place has the same value in whatever order, part or frame it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from visavis.datasets.shapes import Plane


def _edge(height: Plane, slope: float, pixel: float) -> Plane:
    """Return 0 below the height 0 and 1 above, with an edge one pixel wide where the height rises by `slope`."""
    step: Plane = np.clip(height / (slope * pixel) + 0.5, 0, 1)
    return step


def _wave(x: Plane) -> Plane:
    """Return a triangle wave of period 1: 0 at whole numbers, 1 halfway between."""
    wave: Plane = 1 - abs(2 * (x % 1) - 1)
    return wave


# -- chance that depends on the place alone ----------------------------------------------------------------------------


def _chance(column: Plane, row: Plane, seed: int) -> Plane:
    """Return a value in [0, 1) for each whole-numbered place, by hashing (the finaliser of MurmurHash3)."""
    mixed = column.astype(np.int64).astype(np.uint32) * np.uint32(0x9E3779B1)
    mixed ^= row.astype(np.int64).astype(np.uint32) * np.uint32(0x85EBCA77)
    mixed ^= np.uint32(seed * 0xC2B2AE3D & 0xFFFFFFFF)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    chance: Plane = mixed / 2.0**32
    return chance


def _noise(x: Plane, y: Plane, seed: int) -> Plane:
    """Return value noise of period 1: a chance at each whole-numbered place, smoothly joined, 0 to 1."""
    column, row = np.floor(x), np.floor(y)
    right, down = x - column, y - row
    right, down = right**2 * (3 - 2 * right), down**2 * (3 - 2 * down)
    upper = _chance(column, row, seed) * (1 - right) + _chance(column + 1, row, seed) * right
    lower = _chance(column, row + 1, seed) * (1 - right) + _chance(column + 1, row + 1, seed) * right
    noise: Plane = upper * (1 - down) + lower * down
    return noise


# -- the patterns ------------------------------------------------------------------------------------------------------


def _checks(x: Plane, y: Plane, pixel: float, seed: int) -> Plane:
    across, down = _edge(_wave(x) - 0.5, 2, pixel), _edge(_wave(y) - 0.5, 2, pixel)
    either: Plane = across + down - 2 * across * down
    return either


def _dots(x: Plane, y: Plane, pixel: float, seed: int) -> Plane:
    x = x + np.floor(y) / 2
    return _edge(0.3 - np.hypot(x % 1 - 0.5, y % 1 - 0.5), 1, pixel)


def _bricks(x: Plane, y: Plane, pixel: float, seed: int) -> Plane:
    row = np.floor(y * 1.4)
    wall = np.minimum(_wave(y * 1.4) / 1.4, _wave(x * 0.7 + row / 2) / 0.7)
    return _edge(wall - 0.2, 2, pixel)


def _weave(x: Plane, y: Plane, pixel: float, seed: int) -> Plane:
    upright = (np.floor(x / 1.5) + np.floor(y / 1.5)) % 2
    return _edge(_wave(np.where(upright == 1, x, y) * 4 / 3) - 0.4, 8 / 3, pixel)


def _clouds(x: Plane, y: Plane, pixel: float, seed: int) -> Plane:
    octaves: Plane = np.stack([_noise(x * 2**k / 4, y * 2**k / 4, seed + k) / 2**k for k in range(3)])
    clouds: Plane = octaves.sum(0) / 1.75
    return clouds


def _wood(x: Plane, y: Plane, pixel: float, seed: int) -> Plane:
    bent = x / 2 + 2.5 * _noise(x / 6, y / 16, seed)
    rings: Plane = np.sin(2 * np.pi * bent) * (0.4 + 0.6 * _noise(x * 2, y / 3, seed + 1))
    return 0.5 + rings / 2


def _marble(x: Plane, y: Plane, pixel: float, seed: int) -> Plane:
    veins = abs(2 * _noise(x / 2.5, y / 2.5, seed) - 1) + abs(_noise(x, y, seed + 1) - 0.5) / 2
    polished: Plane = np.clip(1.6 * np.sqrt(veins), 0, 1)
    return polished


#: Coordinates in periods of the pattern, a pixel's side in periods, a seed for what looks random → 0 to 1.
Pattern = Callable[[Plane, Plane, float, int], Plane]

_HARD: dict[str, Pattern] = {
    "plain": lambda x, y, pixel, seed: np.full_like(x, 0.5),
    "stripes": lambda x, y, pixel, seed: _edge(_wave(x) - 0.5, 2, pixel),
    "checks": _checks,
    "dots": _dots,
    "zigzag": lambda x, y, pixel, seed: _edge(_wave(y + _wave(x * 0.8) * 0.6) - 0.5, 2.8, pixel),
    "bricks": _bricks,
    "grid": lambda x, y, pixel, seed: _edge(0.3 - np.minimum(_wave(x), _wave(y)), 2, pixel),
    "ripples": lambda x, y, pixel, seed: _edge(_wave(np.hypot(x, y)) - 0.5, 2, pixel),
    "weave": _weave,
    "patches": lambda x, y, pixel, seed: _edge(_noise(x * 1.6, y * 1.6, seed) - 0.5, 2.2, pixel),
}
_SOFT: dict[str, Pattern] = {
    "clouds": _clouds,
    "sand": lambda x, y, pixel, seed: (_noise(x * 4, y * 4, seed) + _noise(x / 3, y / 3, seed + 1)) / 2,
    "wood": _wood,
    "marble": _marble,
}

TEXTURES = tuple(_HARD)
"""The names of the textures that objects are drawn with. No two are alike, also when turned."""

GROUNDS = tuple(_SOFT)
"""The names of the textures that grounds are drawn with: soft ones, none of which is an object's."""


def pattern(name: str, x: Plane, y: Plane, pixel: float, seed: int) -> Plane:
    """Return a texture's value at each place, 0 to 1.

    Args:
        name: of TEXTURES or GROUNDS.
        x, y: coordinates in periods of the pattern.
        pixel: side of a pixel in periods: how wide an edge is drawn.
        seed: of what looks random in it; the same place and seed have the same value.
    """
    return (_HARD | _SOFT)[name](x, y, pixel, seed)

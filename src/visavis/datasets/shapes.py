"""The shapes of generated objects: closed outlines, all of one area, in any position and size.

A shape is a field over the plane, below 0 inside, 0 on the outline. Each is drawn as is handy, and then measured once:
`field` shifts it so that its centroid is the origin, and scales it to the area of a disc of diameter 1. Objects of one
size thus cover equally many pixels whatever their shape, and only the outline tells one from another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

#: Coordinates, x to the right and y down, or values there.
Plane = Float64[ndarray, "*places"]


def _star(x: Plane, y: Plane) -> Plane:
    """Five points, folded into one: half a point lies between the axis and the ray at 36°."""
    fold, inner = np.pi / 5, 0.42
    angle = abs((np.arctan2(x, -y) + fold) % (2 * fold) - fold)
    # The edge runs from the tip (1, 0) to the notch at (cos 36°, sin 36°) · inner.
    along, across = inner * np.cos(fold) - 1, inner * np.sin(fold)
    outward, sideways = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    distance: Plane = ((outward - 1) * across - sideways * along) / np.hypot(along, across)
    return distance


def _arrow(x: Plane, y: Plane) -> Plane:
    head = np.maximum(y, (abs(x) * 1.1 - y - 1.1) / np.hypot(1.1, 1))
    shaft = np.maximum(abs(x) - 0.3, abs(y - 0.45) - 0.55)
    union: Plane = np.minimum(head, shaft)
    return union


#: Upright, in any unit: a maximum is where both are, a minimum where either is.
_DRAWN: dict[str, Callable[[Plane, Plane], Plane]] = {
    "disc": lambda x, y: np.hypot(x, y) - 1,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) - 1,
    "triangle": lambda x, y: np.maximum(y, abs(x) * np.sqrt(0.75) - y / 2) - 0.5,
    "star": _star,
    "ring": lambda x, y: abs(np.hypot(x, y) - 0.75) - 0.25,
    "cross": lambda x, y: np.maximum(np.minimum(abs(x), abs(y)) - 0.34, np.maximum(abs(x), abs(y)) - 1),
    # The sextic (x² + y² − 1)³ = x² y³, y upwards, by the cube roots of its sides.
    "heart": lambda x, y: x**2 + y**2 - 1 + np.cbrt(x) ** 2 * y,
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 1, 0.86 - np.hypot(x - 0.56, y)),
    "flower": lambda x, y: np.hypot(x, y) - 0.8 - 0.2 * np.cos(6 * np.arctan2(x, -y)),
    "arrow": _arrow,
    "hourglass": lambda x, y: np.maximum(abs(y) - 1, (abs(x) - 0.12 - 0.78 * abs(y)) / np.hypot(1, 0.78)),
    "half disc": lambda x, y: np.maximum(np.hypot(x, y) - 1, -y),
}

SHAPES = tuple(_DRAWN)
"""The names of all shapes. No two are alike, also when turned."""


@dataclass(frozen=True)
class _Measure:
    """What is measured of a shape as drawn: its centroid, the diameter of the disc of its area, its reach."""

    x: float
    y: float
    diameter: float
    reach: float


@cache
def _measure(shape: str) -> _Measure:
    steps = (np.arange(800) + 0.5) / 800 * 3 - 1.5
    x, y = np.meshgrid(steps, steps)
    # By the covered share of each pixel, a hundred times finer than by whole pixels.
    weight = cover(_DRAWN[shape](x, y))
    diameter = 2 * np.sqrt(weight.sum() * (steps[1] - steps[0]) ** 2 / np.pi)
    mean_x, mean_y = (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()
    reach = np.hypot(x - mean_x, y - mean_y)[weight > 0].max()
    return _Measure(float(mean_x), float(mean_y), float(diameter), float(reach))


def cover(distances: Float64[ndarray, "rows columns"]) -> Float64[ndarray, "rows columns"]:
    """Return how much of each pixel lies in a shape, 0 to 1, from its field at the pixels' centres.

    A field over its slope is the distance to the outline in pixels, near the outline; an edge is as wide as a pixel.
    """
    slope = np.hypot(*np.gradient(np.pad(distances, 1, "reflect", reflect_type="odd")))[1:-1, 1:-1]
    covered: Plane = np.clip(0.5 - distances / np.maximum(slope, 1e-9), 0, 1)
    return covered


def field(shape: str, x: Plane, y: Plane) -> Plane:
    """Return where points lie to a shape's outline: below 0 inside, 0 on it, above 0 outside.

    Args:
        shape: of SHAPES.
        x, y: coordinates, the centroid at the origin, in diameters of a disc of the shape's area.
    """
    measure = _measure(shape)
    return _DRAWN[shape](x * measure.diameter + measure.x, y * measure.diameter + measure.y)


def reach(shape: str) -> float:
    """Return how far a shape reaches from its centroid, in diameters of a disc of its area: 0.5 for the disc."""
    measure = _measure(shape)
    return measure.reach / measure.diameter

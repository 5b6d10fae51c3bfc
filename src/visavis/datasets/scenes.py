"""Scenes: plain descriptions of several objects on a textured ground, and the pictures that they are drawn as.

A description says everything: one scene has one picture at each size, and a scene in which one word is replaced
(another texture, another shape, another place) has the picture in which just that differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy import ndarray

from visavis.datasets.shapes import SHAPES, Plane, cover, field, reach
from visavis.datasets.textures import GROUNDS, TEXTURES, pattern
from visavis.errors import InputError

COLOURS = {
    "red": (0.86, 0.16, 0.16),
    "orange": (0.96, 0.55, 0.12),
    "yellow": (0.97, 0.86, 0.18),
    "green": (0.20, 0.65, 0.26),
    "cyan": (0.16, 0.76, 0.80),
    "blue": (0.18, 0.36, 0.86),
    "purple": (0.56, 0.25, 0.75),
    "pink": (0.96, 0.50, 0.70),
    "brown": (0.52, 0.33, 0.18),
    "white": (0.94, 0.94, 0.94),
    "grey": (0.52, 0.52, 0.52),
    "black": (0.12, 0.12, 0.12),
}
"""The named colours, red, green and blue in [0, 1]."""

MAX_SIZE = 4096
"""Pictures with a longer side are refused."""

Colour = Float64[ndarray, "3"]


@dataclass(frozen=True)
class Texture:
    """What a surface is covered with: a pattern in three tones of a colour.

    Attributes:
        name: of TEXTURES or GROUNDS.
        colour: of COLOURS.
        period: of the pattern, as a share of the picture's side.
        seed: of what looks random in it, a whole number.
    """

    name: str
    colour: str
    period: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_word("texture", self.name, (*TEXTURES, *GROUNDS))
        check_word("colour", self.colour, tuple(COLOURS))
        _check_share("the period of a texture", self.period)


@dataclass(frozen=True)
class SceneObject:
    """A thing in a scene. Its texture moves and turns with it.

    Attributes:
        shape: of SHAPES.
        texture: what covers it.
        size: the diameter of the disc of its area, as a share of the picture's side.
        centre: its centroid (x, y), x to the right and y down, as shares of the picture's side; it may lie outside.
        angle: by how much it is turned, clockwise, in degrees.
    """

    shape: str
    texture: Texture
    size: float
    centre: tuple[float, float]
    angle: float = 0.0

    def __post_init__(self) -> None:
        check_word("shape", self.shape, SHAPES)
        _check_share("the size of an object", self.size)
        if not np.isfinite((*self.centre, self.angle)).all():
            raise InputError(f"the centre and angle of an object are finite, not {self.centre} and {self.angle}")

    @property
    def reach(self) -> float:
        """How far it reaches from its centre, as a share of the picture's side."""
        return reach(self.shape) * self.size


@dataclass(frozen=True)
class Scene:
    """Objects on a ground.

    Attributes:
        objects: from the hindmost to the foremost: where two overlap, the later one is seen.
        ground: what covers the rest, paler than on an object.
    """

    objects: tuple[SceneObject, ...]
    ground: Texture


@dataclass(frozen=True)
class Picture:
    """A scene as it is drawn.

    Attributes:
        pixels: (3, H, W), red, green and blue in [0, 1].
        masks: (objects, H, W), where each object is seen: the centre of the pixel lies in its outline, and in none
            that is before it. No pixel is in two masks.
        boxes: (objects, 4), the least box about each mask, x0, y0, x1, y1 in pixels, x1 and y1 exclusive; zeros for an
            object that is not seen.
    """

    pixels: Float32[ndarray, "3 height width"]
    masks: Bool[ndarray, "objects height width"]
    boxes: Int64[ndarray, "objects 4"]


# -- drawing -----------------------------------------------------------------------------------------------------------


def render(scene: Scene, size: int = 64) -> Picture:
    """Draw a scene as a picture of `size` × `size` pixels, edges smoothed over a pixel's width.

    Raises:
        InputError: `size` is not from 1 to MAX_SIZE.
    """
    if not 1 <= size <= MAX_SIZE:
        raise InputError(f"the size of a picture is a number of pixels from 1 to {MAX_SIZE}, not {size}")
    # A pixel more on each side: the slope of an outline is known at the border, too.
    y, x = np.mgrid[-1 : size + 1, -1 : size + 1] + 0.5
    pixels = _ground(scene.ground, x / size, y / size, size)
    masks = np.zeros((len(scene.objects), size + 2, size + 2), bool)
    for index, thing in enumerate(scene.objects):
        window = _window(thing, size)
        if not x[window].size:
            continue
        covered, surface = _object(thing, x[window], y[window], size)
        pixels[:, *window] += covered * (surface - pixels[:, *window])
        inside = covered > 0.5
        masks[:index, *window] &= ~inside
        masks[index][window] = inside
    masks = masks[:, 1:-1, 1:-1]
    return Picture(pixels[:, 1:-1, 1:-1].astype(np.float32), masks, _boxes(masks))


def _window(thing: SceneObject, size: int) -> tuple[slice, slice]:
    """Return the rows and columns that an object may touch, with a margin for its edge."""
    x, y = thing.centre
    spans = [((at - thing.reach) * size - 1, (at + thing.reach) * size + 4) for at in (y, x)]
    rows, columns = (slice(*np.clip(span, 0, size + 2).astype(int).tolist()) for span in spans)
    return rows, columns


def _object(thing: SceneObject, x: Plane, y: Plane, size: int) -> tuple[Plane, Float64[ndarray, "3 *places"]]:
    """Return how much of each pixel an object covers, 0 to 1, and its colour there."""
    turn = np.deg2rad(thing.angle)
    right, down = x / size - thing.centre[0], y / size - thing.centre[1]
    across, along = np.cos(turn) * right + np.sin(turn) * down, np.cos(turn) * down - np.sin(turn) * right
    covered = cover(field(thing.shape, across / thing.size, along / thing.size))
    return covered, _surface(thing.texture, across, along, size, *_tones(thing.texture.colour))


def _ground(ground: Texture, x: Plane, y: Plane, size: int) -> Float64[ndarray, "3 *places"]:
    dark, _, light = _tones(ground.colour)
    # Darker, greyer, and its tones closer together than on an object: a ground stays behind.
    middle = (dark + light) / 2
    muted = middle + 0.4 * (middle.mean() - middle)
    return _surface(ground, x, y, size, muted + 0.4 * (dark - middle), muted, muted + 0.4 * (light - middle))


def _surface(
    texture: Texture, x: Plane, y: Plane, size: int, dark: Colour, colour: Colour, light: Colour
) -> Float64[ndarray, "3 *places"]:
    """Return the colours of a texture: dark where its pattern is 0, the colour itself at 0.5, light at 1."""
    period = texture.period
    value = pattern(texture.name, x / period, y / period, 1 / (size * period), texture.seed)
    shade, shine = np.minimum(2 * value, 1), np.maximum(2 * value - 1, 0)
    dark, colour, light = (tone.reshape(3, 1, 1) for tone in (dark, colour, light))
    colours: Float64[ndarray, "3 *places"] = dark + shade * (colour - dark) + shine * (light - colour)
    return colours


def _tones(name: str) -> tuple[Colour, Colour, Colour]:
    """Return the three tones in which a colour is drawn: dark, the colour itself, light."""
    colour = np.array(COLOURS[name])
    return 0.42 * colour, colour, colour + 0.3 * (1 - colour)


def _boxes(masks: Bool[ndarray, "objects height width"]) -> Int64[ndarray, "objects 4"]:
    boxes = np.zeros((len(masks), 4), np.int64)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def check_word(what: str, word: str, known: tuple[str, ...]) -> None:
    """Raise an InputError that names what there is, if there is no such word."""
    if word not in known:
        raise InputError(f"there is no {what} {word!r}; there are {', '.join(known)}")


def _check_share(what: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise InputError(f"{what} is a share of the picture's side above 0, not {value}")

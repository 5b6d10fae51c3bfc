"""Any number of generated pictures: scenes drawn at random, each by its own seed, with labels, masks and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from visavis.datasets.scenes import COLOURS, Scene, SceneObject, Texture, check_word, render
from visavis.datasets.shapes import SHAPES, reach
from visavis.datasets.textures import GROUNDS, TEXTURES
from visavis.errors import InputError

ATTRIBUTES = ("colour", "texture", "shape")
"""What an object's class may be made of, in the order in which a class is named."""

_TRIES = 30
_SHRINK = 0.9


class SceneItem(NamedTuple):
    """A generated picture.

    Attributes:
        picture: (3, H, W), float32 in [0, 1].
        label: (), int64: the class of the first object.
        labels: (objects,), int64: the class of each object.
        masks: (objects, H, W), bool: where each object is seen; no pixel is in two.
        boxes: (objects, 4), int64: x0, y0, x1, y1 in pixels, x1 and y1 exclusive.
    """

    picture: Tensor
    label: Tensor
    labels: Tensor
    masks: Tensor
    boxes: Tensor


class Scenes(Dataset[SceneItem]):
    """Generated pictures of objects on a ground. Picture i of a seed is the same whatever else is asked for.

    Shape, texture, colour, size, place and angle of every object are drawn independently of one another, but that the
    classes of one picture differ. Objects lie whole within the picture and do not overlap; where they would not fit,
    all of them are drawn smaller. Unless you choose otherwise, the ground has a texture that no object has, and a
    colour that no object in the picture has.

    Args:
        count: how many pictures.
        size: side of a picture in pixels.
        seed: of all that is drawn, a whole number from 0.
        classes: what the class of an object is: one of ATTRIBUTES, or several, as in ("texture", "shape").
        objects: how many objects a picture has: a number, or the least and the most.
        sizes: least and greatest size of an object, the diameter of the disc of its area as a share of the side.
        periods: least and greatest period of a texture, as a share of the side.
        turn: objects are turned by up to this many degrees, one way or the other.
        shapes, textures, colours: what objects are drawn from.
        grounds, ground_colours: textures and colours that grounds are drawn from.

    Attributes:
        names: of the classes, in order, such as "dots star".

    Raises:
        InputError: an argument is not as described, or a picture would need more classes than there are.
    """

    def __init__(
        self,
        count: int,
        *,
        size: int = 64,
        seed: int = 0,
        classes: str | Sequence[str] = "shape",
        objects: int | tuple[int, int] = 1,
        sizes: tuple[float, float] = (0.25, 0.5),
        periods: tuple[float, float] = (0.08, 0.14),
        turn: float = 180,
        shapes: Sequence[str] = SHAPES,
        textures: Sequence[str] = TEXTURES,
        colours: Sequence[str] = tuple(COLOURS),
        grounds: Sequence[str] = GROUNDS,
        ground_colours: Sequence[str] = tuple(COLOURS),
    ) -> None:
        self.count, self.size, self.seed = count, size, seed
        self.objects = (objects, objects) if isinstance(objects, int) else objects
        self.sizes, self.periods, self.turn = sizes, periods, turn
        self.grounds, self.ground_colours = tuple(grounds), tuple(ground_colours)
        self.words = {"colour": tuple(colours), "texture": tuple(textures), "shape": tuple(shapes)}
        chosen = (classes,) if isinstance(classes, str) else tuple(classes)
        self.classes = tuple(attribute for attribute in ATTRIBUTES if attribute in chosen)
        self._check(chosen)
        self._combinations = list(product(*(self.words[attribute] for attribute in self.classes)))
        self.names = tuple(" ".join(words) for words in self._combinations)
        self._numbers = {words: number for number, words in enumerate(self._combinations)}
        if self.objects[1] > len(self.names):
            raise InputError(
                f"{self.objects[1]} objects of different classes are asked for, but there are {len(self.names)} "
                "classes; ask for fewer objects, or for more classes"
            )

    def _check(self, chosen: tuple[str, ...]) -> None:
        if self.count < 0 or self.seed < 0:
            raise InputError(f"count and seed are whole numbers from 0, not {self.count} and {self.seed}")
        if not chosen or set(chosen) != set(self.classes):
            raise InputError(f"a class is made of {', '.join(ATTRIBUTES)}, one or several, not {chosen}")
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise InputError(f"objects are a number from 1, or the least and the most, not {self.objects}")
        for name, (low, high) in {"sizes": self.sizes, "periods": self.periods}.items():
            if not 0 < low <= high < np.inf:
                raise InputError(f"{name} are the least and the greatest, above 0, not {(low, high)}")
        surfaces, colours = TEXTURES + GROUNDS, tuple(COLOURS)
        for name, words, known in (
            ("shape", self.words["shape"], SHAPES),
            ("texture", self.words["texture"], surfaces),
            ("colour", self.words["colour"], colours),
            ("ground", self.grounds, surfaces),
            ("ground colour", self.ground_colours, colours),
        ):
            if not words:
                raise InputError(f"there is no {name} to draw from; name one at least")
            for word in words:
                check_word(name, word, known)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> SceneItem:
        if not 0 <= index < self.count:
            raise IndexError(f"there is no picture {index}; they are numbered from 0 to {self.count - 1}")
        scene = self.scene(index)
        drawn = render(scene, self.size)
        labels = torch.tensor([self.label_of(thing) for thing in scene.objects])
        masks, boxes = torch.from_numpy(drawn.masks), torch.from_numpy(drawn.boxes)
        return SceneItem(torch.from_numpy(drawn.pixels), labels[0], labels, masks, boxes)

    def label_of(self, thing: SceneObject) -> int:
        """Return the class of an object."""
        words = {"colour": thing.texture.colour, "texture": thing.texture.name, "shape": thing.shape}
        return self._numbers[tuple(words[attribute] for attribute in self.classes)]

    def scene(self, index: int) -> Scene:
        """Return the description of picture `index`, the largest object first."""
        return self.drawn(np.random.default_rng([self.seed, index]))

    def drawn(self, chance: Generator) -> Scene:
        """Return the description of a picture that is drawn by a generator of one's own."""
        count = int(chance.integers(self.objects[0], self.objects[1] + 1))
        chosen = chance.choice(len(self.names), count, replace=False)
        kinds = [self._kind(self._combinations[label], chance) for label in chosen]
        sizes = sorted(chance.uniform(*self.sizes, count).tolist(), reverse=True)
        sizes, centres = _places([reach(kind["shape"]) for kind in kinds], sizes, chance)
        objects = tuple(
            SceneObject(kind["shape"], self._texture(kind, chance), size, centre, chance.uniform(-self.turn, self.turn))
            for kind, size, centre in zip(kinds, sizes, centres, strict=True)
        )
        taken = {kind["colour"] for kind in kinds}
        colours = [colour for colour in self.ground_colours if colour not in taken] or self.ground_colours
        ground = {"texture": _one(self.grounds, chance), "colour": _one(colours, chance)}
        return Scene(objects, self._texture(ground, chance))

    def _kind(self, words: tuple[str, ...], chance: Generator) -> dict[str, str]:
        """Return an object's colour, texture and shape: its class's, and the rest at random."""
        fixed = dict(zip(self.classes, words, strict=True))
        return {attribute: fixed.get(attribute) or _one(known, chance) for attribute, known in self.words.items()}

    def _texture(self, kind: dict[str, str], chance: Generator) -> Texture:
        period, seed = chance.uniform(*self.periods), int(chance.integers(2**31))
        return Texture(kind["texture"], kind["colour"], period, seed)


def _one(words: Sequence[str], chance: Generator) -> str:
    return words[int(chance.integers(len(words)))]


def _places(
    reaches: list[float], sizes: list[float], chance: Generator
) -> tuple[list[float], list[tuple[float, float]]]:
    """Return the sizes and centres of objects that lie apart and within the picture; smaller than asked if need be."""
    while True:
        sizes = [min(size, 0.5 / reach) for size, reach in zip(sizes, reaches, strict=True)]
        radii = [size * reach for size, reach in zip(sizes, reaches, strict=True)]
        centres: list[tuple[float, float]] = []
        for radius in radii:
            tried = chance.uniform(radius, 1 - radius, (_TRIES, 2))
            taken, around = np.reshape(centres, (-1, 2)), radii[: len(centres)]
            gaps = np.hypot(*(tried[:, None] - taken).transpose(2, 0, 1)) - radius - around
            free = np.flatnonzero((gaps > 0).all(1))
            if not len(free):
                break
            centres.append((float(tried[free[0], 0]), float(tried[free[0], 1])))
        if len(centres) == len(sizes):
            return sizes, centres
        sizes = [size * _SHRINK for size in sizes]

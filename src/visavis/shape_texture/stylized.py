"""Pairs from a folder of stylised images, in the layout of Stylized VOC.

Islam et al. 2021, section 3.1: photographs of one object each, every one in the style of each of a few textures. A file
is called TEXTURE_CLASS_IMAGE.png, such as 3_15_2008_000008.png or checker_cat_1.png: a number or word for the texture,
another for the class, neither with an underscore, and the photograph's name, which may have underscores of its own.

Textures and classes are those that occur, whatever they are called: the published code numbers textures 0 to 4, and
reads 1 to 5. They are compared letter by letter, so cat and Cat are two classes; 1 and 01, one number written in two
ways, are refused.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from visavis.datasets.layout import folder_at, holdings, inside
from visavis.errors import InputError
from visavis.pictures import load_picture
from visavis.shape_texture.images import crop_to
from visavis.shape_texture.options import check_index, check_numbers
from visavis.shape_texture.pairs import Factor, Pairs, check_factor
from visavis.shape_texture.turns import chance_of, in_turn

_NAME = re.compile(r"(?P<texture>[^_]+)_(?P<label>[^_]+)_(?P<image>.+)\.(?:png|jpe?g)", re.IGNORECASE)
Key = TypeVar("Key", str, tuple[str, str])


@dataclass(frozen=True)
class Stylized:
    """One stylised image.

    Attributes:
        texture: its number or word, as the file's name has it.
        label: its class, likewise; VOC's are 1 to 20.
        image: the photograph's name.
        file: the name in the folder.
    """

    texture: str
    label: str
    image: str
    file: str


@dataclass(frozen=True)
class StylizedPair:
    """Both images of a pair.

    Attributes:
        factor: what they share.
        first, second: the images.
    """

    factor: Factor
    first: Stylized
    second: Stylized


class StylizedPairs(Pairs):
    """Pairs of stylised images.

    A shape pair is one photograph in two textures; a texture pair two photographs of different classes in one texture.
    Each photograph has its turn before one comes again. Images are red, green and blue, and cropped as ImageNet's.

    Args:
        folder: of the images, TEXTURE_CLASS_IMAGE.png or .jpg, and nothing else; hidden files do not count.
        pairs: how many of each factor.
        size: side of the images of a pair, in pixels.
        seed: of the draws.

    Attributes:
        textures: those that occur: numbers by their size, then words.
        classes: those that occur, likewise.
        images: how many photographs there are.

    Raises:
        InputError: a file is called otherwise; one image, or one number, is written in two ways; or there are no two
            textures of one photograph, or no two classes in one texture.
    """

    def __init__(self, folder: str | os.PathLike[str], pairs: int, *, size: int = 224, seed: int = 0) -> None:
        check_numbers(pairs, seed, "pairs")
        self.folder = folder_at(folder, "stylised images")
        self._pairs, self._seed, self._crop = pairs, seed, crop_to(size)
        found = _read(self.folder)
        self.textures = self._ordered("texture", {one.texture for one in found})
        self.classes = self._ordered("class", {one.label for one in found})
        self._styles = _grouped(found, lambda one: (one.label, one.image))
        self.images = len(self._styles)
        self.name = (
            f"{len(found)} stylised images: {self.images} photographs of {len(self.classes)} classes in the textures "
            f"{', '.join(self.textures)}"
        )
        self._photographs = [key for key, styles in self._styles.items() if len(styles) > 1]
        self._of_texture = _grouped(found, lambda one: one.texture)
        several = {name for name, images in self._of_texture.items() if len({one.label for one in images}) > 1}
        self._in_several = [one for one in found if one.texture in several]
        if not self._photographs:
            raise InputError(f"'{self.folder}' has no photograph in two textures, but {self.name}")
        if not any(self._others(one) for one in self._in_several):
            raise InputError(f"'{self.folder}' has no texture with photographs of two classes, but {self.name}")

    def count(self, factor: Factor) -> int:
        return self._pairs

    def pair(self, factor: Factor, index: int) -> tuple[Tensor, Tensor]:
        """Return both images of a pair, each (3, size, size), float32 in [0, 1].

        Raises:
            IndexError: there is no such pair.
            InputError: an image cannot be read, or is a link out of the folder.
        """
        chosen = self.drawn(factor, index)
        return self._shown(chosen.first), self._shown(chosen.second)

    def drawn(self, factor: Factor, index: int) -> StylizedPair:
        """Return which images a pair is made of.

        Raises:
            IndexError: there is no such pair.
        """
        check_factor(factor)
        check_index(index, self._pairs, "pair")
        chance = chance_of(self._seed, factor, index)
        if factor == "shape":
            styles = self._styles[self._photographs[in_turn(len(self._photographs), self._seed, factor, index)[0]]]
            one, other = chance.choice(len(styles), 2, replace=False).tolist()
            return StylizedPair(factor, styles[one], styles[other])
        ordered = (self._in_several[place] for place in in_turn(len(self._in_several), self._seed, factor, index))
        first, others = next((one, others) for one in ordered if (others := self._others(one)))
        return StylizedPair(factor, first, others[int(chance.integers(len(others)))])

    def distinct(self, factor: Factor) -> int:
        """Return how many of the pairs differ, whatever the order of their images."""
        pairs = (self.drawn(factor, index) for index in range(self._pairs))
        return len({frozenset((pair.first.file, pair.second.file)) for pair in pairs})

    def _ordered(self, what: str, words: set[str]) -> tuple[str, ...]:
        """Return numbers by their size, then words."""
        numbers: dict[int, str] = {}
        for word in sorted(filter(str.isdecimal, words)):
            twin = numbers.setdefault(int(word), word)
            if twin != word:
                raise InputError(f"'{self.folder}' has one {what} as '{twin}' and as '{word}'; write it in one way")
        return tuple(numbers[number] for number in sorted(numbers)) + tuple(sorted(words - set(numbers.values())))

    def _others(self, first: Stylized) -> list[Stylized]:
        """Return the images that share the texture alone: of another class, and of another photograph."""
        alike = self._of_texture[first.texture]
        return [one for one in alike if one.label != first.label and one.image != first.image]

    def _shown(self, one: Stylized) -> Tensor:
        return self._crop(load_picture(inside(self.folder, one.file, self.folder))).clamp(0, 1)


def _read(folder: Path) -> list[Stylized]:
    """Return the images of a folder, in the order of their names."""
    found: dict[tuple[str, str, str], Stylized] = {}
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"the folder '{folder}' cannot be read ({error.strerror or error}).") from error
    for name in names:
        one = _parsed(folder, name)
        twin = found.setdefault((one.texture, one.label, one.image), one)
        if twin is not one:
            raise InputError(f"'{folder}' has one image as '{twin.file}' and as '{name}'; keep one of them")
    if not found:
        raise InputError(
            f"'{folder}' has no stylised images such as 3_15_2008_000008.png or checker_cat_1.png; {holdings(folder)}"
        )
    return list(found.values())


def _parsed(folder: Path, name: str) -> Stylized:
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(
            f"'{folder}' has '{name}', but files TEXTURE_CLASS_IMAGE.png or .jpg were expected, such as "
            "3_15_2008_000008.png or checker_cat_1.png; rename it, or take it out"
        )
    return Stylized(match["texture"], match["label"], match["image"], name)


def _grouped(found: list[Stylized], key: Callable[[Stylized], Key]) -> dict[Key, list[Stylized]]:
    groups: dict[Key, list[Stylized]] = defaultdict(list)
    for one in found:
        groups[key(one)].append(one)
    return dict(groups)


__all__ = ["Stylized", "StylizedPair", "StylizedPairs"]

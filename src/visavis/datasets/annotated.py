"""Pictures with what is in them: which objects, and where, in the words of the data set itself."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from visavis.errors import InputError
from visavis.pictures import load_picture

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels: pixel (i, j) covers x from i to i + 1 and y from j to j + 1, so x1 and y1 are exclusive."""

Mask = NDArray[np.bool_]
"""(H, W): where an object is seen."""


@dataclass(frozen=True)
class Annotation:
    """One object in a picture.

    Attributes:
        label: its class, by the data set's own name or WordNet id.
        box: the rectangle about it, in pixels of the picture as a viewer shows it.
        difficult: whether the data set calls it hard to recognise.
        truncated: whether the data set says that it goes on beyond the picture or the box.
        crowd: whether it stands for many objects of its class at once.
        draw: gives its mask; None where the data set has none.
    """

    label: str
    box: Box
    difficult: bool = False
    truncated: bool = False
    crowd: bool = False
    draw: Callable[[], Mask] | None = field(default=None, repr=False, compare=False)

    @property
    def mask(self) -> Mask | None:
        """Where it is seen, (H, W) of the picture as a viewer shows it; drawn each time it is asked for.

        Raises:
            InputError: the data set's description of it is malformed.
        """
        return None if self.draw is None else self.draw()


@dataclass(frozen=True)
class Sample:
    """One picture of a data set, not yet loaded.

    Attributes:
        name: what tells it from the others, the same each time: its path in the data set, where it has one.
        source: its file; or the picture itself, where it is in memory.
        annotations: the objects in it, as far as the data set names them.
        label: the class of the picture as a whole; None where it has none.
    """

    name: str
    source: Path | PIL.Image.Image
    annotations: tuple[Annotation, ...] = ()
    label: str | None = None

    def load(self) -> PIL.Image.Image:
        """Return a new, upright picture in mode RGB, as `visavis.pictures.load_picture` gives it.

        Raises:
            PictureError: it is missing, damaged, too small or too large.
        """
        return load_picture(self.source)


class AnnotatedDataset(ABC):
    """A sequence of samples. An index is in memory; annotations are read when a sample is asked for, pictures later.

    Attributes:
        name: kind and part, such as "voc2007:test".
        classes: the names or WordNet ids that labels are of, each once.
        vocabulary: whose words these are, "coco" or "voc", which `class_map` knows; "" for any others.
    """

    name: str
    classes: tuple[str, ...]
    vocabulary: str = ""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many samples there are."""

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """Return sample `index`, which is from 0 to len(self) − 1."""

    def name_of(self, index: int) -> str:
        """Return what sample `index` is called, also where its annotations are malformed; "picture 3" where unknown."""
        try:
            return self.sample(index).name
        except InputError:
            return f"picture {index}"

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that tell this data set from another one, or from itself before it was edited.

        Of the names of classes and pictures, and where annotations are read at opening, of these. Not of the pictures,
        nor of annotations that are in a file a picture.
        """
        return digest_of(self.classes, map(self.name_of, range(len(self))))

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index`.

        Raises:
            IndexError: the index is not from 0 to len(self) − 1.
            InputError: what the data set says of this sample is malformed, or leads out of its folder.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there is no picture {index}; {self.name} numbers them from 0 to {len(self) - 1}")
        return self.sample(index)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}: {len(self)} pictures, {len(self.classes)} classes)"


def digest_of(*parts: Iterable[object]) -> str:
    """Return sixteen hexadecimal digits of sequences of texts, numbers and tuples of them."""
    digest = hashlib.sha256()
    for part in parts:
        for each in part:
            digest.update(f"{each!r}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()[:16]

"""Images with the class of each pixel: generated scenes, and any data set whose objects have masks.

Image and labels are one frame: a pixel of the labels is about the pixel of the image at its place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.datasets.annotated import AnnotatedDataset, Sample
from visavis.datasets.generated import Scenes
from visavis.errors import InputError
from visavis.pictures import MIN_SIDE

#: The label of pixels that are of no class, or of an unknown one: nothing is learnt or scored there.
VOID = 255
BACKGROUND = "background"


class Segmented(ABC):
    """So many images with a label of each pixel; item i is the same each time.

    Attributes:
        name: what they are, in words.
        names: of the classes, in order; the first is the background.
    """

    name: str
    names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """How many classes there are, the background among them."""
        return len(self.names)

    @abstractmethod
    def __len__(self) -> int:
        """Return how many images there are."""

    @abstractmethod
    def item(self, index: int) -> tuple[Tensor, Tensor]:
        """Return item `index`, which is from 0 to len(self) − 1, as indexing does."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image (3, H, W), float32 in [0, 1], and its labels (H, W), int64: 0 to classes − 1, or `VOID`.

        Raises:
            IndexError: there is no such item.
            InputError: what a data set says of it is malformed.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"there is no image {index}; {self.name} numbers them from 0 to {len(self) - 1}")
        return self.item(index)


class SceneSegments(Segmented):
    """Generated scenes: where an object is seen, its class, by the classes of the scenes; else background.

    Args:
        scenes: what is drawn.

    Raises:
        InputError: there are more classes than labels.
    """

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes
        self.name = f"generated scenes of {scenes.size} px"
        self.names = with_background(scenes.names)

    def __len__(self) -> int:
        return len(self.scenes)

    def item(self, index: int) -> tuple[Tensor, Tensor]:
        scene = self.scenes[index]
        # No pixel is in two masks.
        return scene.picture, (scene.masks * (scene.labels + 1)[:, None, None]).sum(0)


class AnnotatedSegments(Segmented):
    """A data set whose objects have masks, such as COCO's: each pixel has the class of the object that is seen there.

    Void are pixels of several objects of different classes, and those of crowds that are of no other object. An image
    is cut to the square at its centre and resized, its labels with it, as `square` does. Of VOC the borders of objects
    are void in its own label maps alone, which `VOCSegments` reads.

    Args:
        dataset: whose annotations have masks.
        size: side of the images in pixels.

    Raises:
        InputError: the size is too small, or there are more classes than labels.
    """

    def __init__(self, dataset: AnnotatedDataset, *, size: int = 224) -> None:
        check_size(size)
        self.dataset, self.size = dataset, size
        self.name = f"{dataset.name} of {size} px"
        self.names = with_background(dataset.classes)
        self._numbers = {name: number for number, name in enumerate(dataset.classes, 1)}

    def __len__(self) -> int:
        return len(self.dataset)

    def item(self, index: int) -> tuple[Tensor, Tensor]:
        sample = self.dataset[index]
        image = sample.load()
        return square(image, self._labels(sample, (image.height, image.width)), self.size)

    def _labels(self, sample: Sample, shape: tuple[int, int]) -> NDArray[np.uint8]:
        labels = np.zeros(shape, np.uint8)
        crowds = np.zeros(shape, np.bool_)
        for thing in sample.annotations:
            mask = thing.mask
            if mask is None or mask.shape != shape:
                found = "no mask" if mask is None else f"a mask of {mask.shape[1]} x {mask.shape[0]} pixels"
                raise InputError(
                    f"in {sample.name}, which has {shape[1]} x {shape[0]} pixels, an object {thing.label!r} has "
                    f"{found}, but the class of each pixel is needed; use pictures whose objects all have masks"
                )
            if thing.crowd:
                crowds |= mask
                continue
            number = self._numbers[thing.label]
            others = mask & (labels != 0) & (labels != number)
            labels[mask] = number
            labels[others] = VOID
        labels[crowds & (labels == 0)] = VOID
        return labels


def square(image: PIL.Image.Image, labels: NDArray[np.uint8], size: int) -> tuple[Tensor, Tensor]:
    """Return the square at the centre of an image, and of its labels, resized: (3, size, size) and (size, size).

    Both are cut at the same pixels. The image is resized bilinearly, smoothed where it becomes smaller; each pixel of
    the labels is that at its centre, so that no class arises between two.

    Args:
        image: in mode RGB.
        labels: (H, W) of its size.
        size: the side in pixels.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    small = image.resize((size, size), PIL.Image.Resampling.BILINEAR, box=box)
    own = PIL.Image.fromarray(np.ascontiguousarray(labels)).resize((size, size), PIL.Image.Resampling.NEAREST, box=box)
    return torch.from_numpy(_array(small)).permute(2, 0, 1).float() / 255, torch.from_numpy(_array(own)).long()


def check_size(size: int) -> None:
    """Refuse a side of images that holds nothing.

    Raises:
        InputError: it is below 8 pixels.
    """
    if size < MIN_SIDE:
        raise InputError(f"size is {size}, but images of at least {MIN_SIDE} pixels were expected")


def with_background(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of classes after that of the background.

    Raises:
        InputError: there are more of them than labels.
    """
    if len(names) >= VOID:
        raise InputError(f"there are {len(names)} classes, but labels go up to {VOID - 1}, for {VOID} is void")
    return BACKGROUND, *names


def _array(image: PIL.Image.Image) -> NDArray[Any]:
    return np.array(image)


__all__ = [
    "BACKGROUND",
    "VOID",
    "AnnotatedSegments",
    "SceneSegments",
    "Segmented",
    "check_size",
    "square",
    "with_background",
]

"""Annotations in pixels of the stored picture, turned as a viewer turns the picture.

Cameras store a picture as the sensor lay and say in its EXIF orientation how to turn it. Data sets were annotated with
tools that did not look at it, so a box has to be turned with the picture.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from visavis.datasets.annotated import Annotation, Box, Mask
from visavis.errors import InputError
from visavis.pictures import FORMATS

Pixel = TypeVar("Pixel", bound=np.generic)

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True)
class Stored:
    """What the header of a picture's file says.

    Attributes:
        size: width and height, as stored.
        orientation: 1 to 8, as EXIF has it; 1 where the picture is upright.
    """

    size: tuple[int, int]
    orientation: int

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height, as a viewer shows it."""
        return self.size[::-1] if self.orientation in _SIDEWAYS else self.size


def stored(path: Path) -> Stored | None:
    """Return what the header of a picture says, without decoding it; None where loading it will fail."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        PIL.Image.init()
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            image = PIL.Image.open(file, formats=[known for known in FORMATS if known in PIL.Image.OPEN])
            size = (int(image.width), int(image.height))
            try:
                orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
            except Exception:  # noqa: BLE001 - a viewer shows a picture with damaged EXIF as it is stored
                orientation = 1
    except Exception:  # noqa: BLE001 - loading the picture says what is wrong with it
        return None
    return Stored(size, orientation if orientation in range(1, 9) else 1)


def as_shown(
    annotations: tuple[Annotation, ...], picture: Path, stated: tuple[int, int] | None, origin: Path
) -> tuple[Annotation, ...]:
    """Return annotations for the picture as a viewer shows it, their boxes cut off at its border.

    Args:
        annotations: in pixels of a picture of the size `stated`.
        picture: the file they are about.
        stated: width and height that the data set says the picture has; None where it does not.
        origin: where the annotations stand, for errors.

    Raises:
        InputError: they are about a picture of another size, or a box lies outside it.
    """
    found = stored(picture)
    size = stated if found is None else found.shown
    if found is not None and stated in (None, found.size):
        annotations = tuple(_turned(annotation, found) for annotation in annotations)
    elif found is not None and stated != found.shown:
        raise InputError(
            f"'{origin}' is about a picture of {_by(stated)} pixels, but '{picture}' has {_by(found.size)}; the "
            "annotations belong to another copy of it."
        )
    return annotations if size is None else cut(annotations, size, origin)


def cut(annotations: tuple[Annotation, ...], size: tuple[int, int], origin: Path | str) -> tuple[Annotation, ...]:
    """Return annotations with their boxes cut off at the border of a picture of `size`, its width and height.

    Raises:
        InputError: a box lies outside the picture.
    """
    return tuple(replace(each, box=_cut(each.box, size, origin)) for each in annotations)


def _cut(box: Box, size: tuple[int, int], origin: Path | str) -> Box:
    x0, y0, x1, y1 = box
    kept = (max(x0, 0.0), max(y0, 0.0), min(x1, float(size[0])), min(y1, float(size[1])))
    if kept[0] >= kept[2] or kept[1] >= kept[3]:
        shown = ", ".join(f"{edge:g}" for edge in box)
        raise InputError(f"'{origin}' has the box ({shown}), which lies outside its picture of {_by(size)} pixels.")
    return kept


def _turned(annotation: Annotation, found: Stored) -> Annotation:
    if found.orientation == 1:
        return annotation
    draw = None if annotation.draw is None else partial(_turned_mask, annotation.draw, found.orientation)
    return replace(annotation, box=turned_box(annotation.box, found), draw=draw)


def turned_box(box: Box, found: Stored) -> Box:
    """Return a box of the stored picture as it is in the shown one: EXIF 2.3, section 4.6.4 A, Orientation."""
    x0, y0, x1, y1 = box
    (width, height), orientation = found.size, found.orientation
    if orientation in (2, 3, 7, 8):
        x0, x1 = width - x1, width - x0
    if orientation in (3, 4, 6, 7):
        y0, y1 = height - y1, height - y0
    return (y0, x0, y1, x1) if orientation in _SIDEWAYS else (x0, y0, x1, y1)


def turned_mask(mask: NDArray[Pixel], orientation: int) -> NDArray[Pixel]:
    """Return a mask, or a map of labels, (H, W) of the stored picture as it is in the shown one."""
    across = -1 if orientation in (2, 3, 7, 8) else 1
    down = -1 if orientation in (3, 4, 6, 7) else 1
    turned = mask[::down, ::across]
    return np.ascontiguousarray(turned.T if orientation in _SIDEWAYS else turned)


def _turned_mask(draw: Callable[[], Mask], orientation: int) -> Mask:
    return turned_mask(draw(), orientation)


def _by(size: tuple[int, int] | None) -> str:
    return "unknown" if size is None else f"{size[0]} x {size[1]}"

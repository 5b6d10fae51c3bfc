"""PASCAL VOC 2007 and 2012: boxes of twenty classes, and masks of the pictures that were segmented."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from visavis.datasets.annotated import AnnotatedDataset, Annotation, Mask, Sample
from visavis.datasets.boxes_xml import read_boxes
from visavis.datasets.common_names import VOC as NAMES
from visavis.datasets.layout import first_folder, folder_at, holdings, inside, is_file, read_text
from visavis.datasets.registry import Kind, register_dataset
from visavis.datasets.upright import as_shown
from visavis.errors import InputError
from visavis.pictures import MAX_PIXELS

YEARS = ("2007", "2012")
_LARGEST_LIST = 1 << 24
#: Pixels are numbered from 1, and the ends of a box are inclusive (the development kit, section 5).
_FIRST = 1


class VOC(AnnotatedDataset):
    """PASCAL VOC: FOLDER/VOCdevkit/VOC2007/{JPEGImages, Annotations, ImageSets/Main, SegmentationObject}.

    The folder may also be VOCdevkit or VOC2007 itself. Where SegmentationObject has the picture, objects have masks;
    the pixels at their borders that VOC assigns to none are in none.

    Args:
        folder: of the data set.
        year: "2007" or "2012".
        split: which list in ImageSets/Main: "val", "train", "trainval", and for 2007 "test".

    Raises:
        InputError: the folder is not laid out like this, or has no such split.
    """

    vocabulary = "voc"

    def __init__(self, folder: str | os.PathLike[str], *, year: str = "2007", split: str = "val") -> None:
        if year not in YEARS:
            raise InputError(f"VOC is of the year {' or '.join(YEARS)}, not {year!r}.")
        given = folder_at(folder, f"VOC {year}")
        root = first_folder(given, (f"VOCdevkit/VOC{year}", f"VOC{year}", "."))
        parts = ("JPEGImages", "Annotations", "ImageSets/Main")
        if root is None or not all((root / part).is_dir() for part in parts):
            raise InputError(
                f"'{given}' is not laid out as VOC {year}: VOCdevkit/VOC{year} with {', '.join(parts)} was expected, "
                f"but in '{root or given}' {holdings(root or given)}."
            )
        self.folder = root
        self.name = f"voc{year}:{split}"
        self.classes = tuple(NAMES)
        self._ids = read_list(root / "ImageSets" / "Main", split)

    def __len__(self) -> int:
        return len(self._ids)

    def name_of(self, index: int) -> str:
        return f"JPEGImages/{self._ids[index]}.jpg"

    def sample(self, index: int) -> Sample:
        name = self._ids[index]
        picture = inside(self.folder / "JPEGImages", f"{name}.jpg", self.folder)
        path = inside(self.folder / "Annotations", f"{name}.xml", self.folder)
        found = read_boxes(path, name, _FIRST)
        annotations = self._with_masks(name, found.annotations, found.size)
        for annotation in annotations:
            if annotation.label not in NAMES:
                raise InputError(f"'{path}' has an object called '{annotation.label}', which is no class of VOC.")
        return Sample(self.name_of(index), picture, as_shown(annotations, picture, found.size, path))

    def _with_masks(
        self, name: str, annotations: tuple[Annotation, ...], size: tuple[int, int] | None
    ) -> tuple[Annotation, ...]:
        folder = self.folder / "SegmentationObject"
        if not is_file(folder / f"{name}.png"):
            return annotations
        path = inside(folder, f"{name}.png", self.folder)
        return tuple(
            replace(each, draw=partial(read_object, path, number, size)) for number, each in enumerate(annotations, 1)
        )


def read_object(path: Path, number: int, size: tuple[int, int] | None) -> Mask:
    """Return the mask (H, W) of one object from a picture of SegmentationObject, in which each has its own number.

    Args:
        path: a PNG file whose pixels are numbers: 0 for the background, 255 for borders, else an object's, from 1.
        number: of the object.
        size: width and height that the picture has to have; None for any.

    Raises:
        InputError: the file is no such picture.
    """
    mask: Mask = read_numbers(path, size) == number
    return mask


def read_numbers(path: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return the numbers (H, W) that the pixels of a PNG file are: places in its palette, or shades of grey.

    Args:
        path: its place.
        size: width and height that the picture has to have; None for any.

    Raises:
        InputError: the file is no such picture.
    """
    try:
        with PIL.Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("P", "L") or image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"'{path}' has the colour mode {image.mode} and {image.width} x {image.height} pixels, but one "
                    "number a pixel was expected."
                )
            if size not in (None, image.size):
                raise InputError(
                    f"'{path}' has {image.width} x {image.height} pixels, but the annotation is about {size}."
                )
            return np.asarray(image, np.uint8)
    except InputError:
        raise
    except Exception as error:  # decoders fail on a stranger's bytes in every way there is
        raise InputError(f"'{path}' cannot be read as a PNG picture of masks ({error}).") from error


def read_list(folder: Path, split: str) -> list[str]:
    """Return the names of the pictures that a split's list in a folder of ImageSets holds, each once.

    Raises:
        InputError: there is no such split, it is empty, or a line is no name.
    """
    path = folder / f"{split}.txt"
    if not re.fullmatch(r"\w+", split) or not is_file(path):
        splits = sorted(file.stem for file in folder.glob("*.txt") if "_" not in file.stem)
        raise InputError(f"there is no split '{split}' in '{folder}'; it has {', '.join(splits) or 'none'}.")
    names = read_text(path, _LARGEST_LIST, "a list of pictures").split("\n")
    kept = [name.strip() for name in names if name.strip()]
    for line, name in enumerate(kept, 1):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise InputError(f"'{path}' has {name!r} in line {line}, but the name of one picture a line was expected.")
    if not kept:
        raise InputError(f"'{path}' lists no pictures; name another split.")
    # A picture that is listed twice is one picture.
    return list(dict.fromkeys(kept))


for _year in YEARS:
    register_dataset(
        Kind(
            f"voc{_year}",
            f"PASCAL VOC {_year}: VOCdevkit/VOC{_year}/JPEGImages, Annotations, ImageSets/Main",
            partial(VOC, year=_year),
            {"split": str},
        )
    )

"""The label maps of PASCAL VOC: 20 classes, the background, and void at the borders of objects."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from visavis.datasets.common_names import VOC as NAMES
from visavis.datasets.layout import first_folder, folder_at, holdings, inside, is_file
from visavis.datasets.upright import stored, turned_mask
from visavis.datasets.voc import YEARS, read_list, read_numbers
from visavis.errors import InputError
from visavis.pictures import load_picture
from visavis.shape_texture.segmented import VOID, Segmented, check_size, square, with_background

# The first has more pictures, labelled by others (Hariharan et al. 2011), as maps beside VOC's own.
_FOLDERS = ("SegmentationClassAug", "SegmentationClass")


class VOCSegments(Segmented):
    """PASCAL VOC's segmentation: FOLDER/VOCdevkit/VOC2012/{JPEGImages, SegmentationClass, ImageSets/Segmentation}.

    The folder may also be VOCdevkit or VOC2012 itself. A picture's labels are those of SegmentationClassAug, where it
    has them, else those of SegmentationClass: PNG files whose pixels are numbers, 0 for the background, 1 to 20 for
    classes, 255 for void. The list "trainaug" comes with SegmentationClassAug. Pictures are cut to the square at their
    centre and resized, with their labels, as `square` does.

    Args:
        folder: of the data set.
        year: "2007" or "2012".
        split: which list in ImageSets/Segmentation: "train", "val", "trainval", "trainaug".
        size: side of the images in pixels.

    Raises:
        InputError: the folder is not laid out like this, or has no such split; the size is too small.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, year: str = "2012", split: str = "train", size: int = 224
    ) -> None:
        check_size(size)
        if year not in YEARS:
            raise InputError(f"VOC is of the year {' or '.join(YEARS)}, not {year!r}.")
        given = folder_at(folder, f"VOC {year}")
        root = first_folder(given, (f"VOCdevkit/VOC{year}", f"VOC{year}", "."))
        if (
            root is None
            or not all((root / part).is_dir() for part in ("JPEGImages", "ImageSets/Segmentation"))
            or not any((root / part).is_dir() for part in _FOLDERS)
        ):
            raise InputError(
                f"'{given}' is not laid out as VOC {year} with label maps: VOCdevkit/VOC{year} with JPEGImages, "
                f"SegmentationClass and ImageSets/Segmentation was expected, but in '{root or given}' "
                f"{holdings(root or given)}."
            )
        self.folder, self.size = root, size
        self.name = f"voc{year}:{split} of {size} px"
        self.names = with_background(tuple(NAMES))
        self._ids = read_list(root / "ImageSets" / "Segmentation", split)

    def __len__(self) -> int:
        return len(self._ids)

    def item(self, index: int) -> tuple[Tensor, Tensor]:
        name = self._ids[index]
        picture = inside(self.folder / "JPEGImages", f"{name}.jpg", self.folder)
        image = load_picture(picture)
        return square(image, self._labels(name, picture, image.size), self.size)

    def _labels(self, name: str, picture: Path, shown: tuple[int, int]) -> NDArray[np.uint8]:
        folder = next((part for part in _FOLDERS if is_file(self.folder / part / f"{name}.png")), None)
        if folder is None:
            raise InputError(
                f"'{self.folder}' has no label map of {name}, which the list names: {' or '.join(_FOLDERS)}/{name}.png "
                "was expected; complete the data set, or name another split."
            )
        path = inside(self.folder / folder, f"{name}.png", self.folder)
        header = stored(picture)
        labels = read_numbers(path, shown if header is None else header.size)
        wrong = labels[(labels >= len(self.names)) & (labels != VOID)]
        if len(wrong):
            raise InputError(
                f"'{path}' has the label {int(wrong[0])}, but 0 to {len(self.names) - 1}, or {VOID}, were expected."
            )
        return labels if header is None else turned_mask(labels, header.orientation)


__all__ = ["VOCSegments"]

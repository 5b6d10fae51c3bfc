"""Data sets in COCO's format: boxes, classes, crowds and masks of all pictures in one JSON file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.datasets.annotated import AnnotatedDataset, Annotation, Mask, Sample, digest_of
from visavis.datasets.common_names import COCO as NAMES
from visavis.datasets.json_lists import Element, element_at, elements
from visavis.datasets.layout import check_name, first_folder, folder_at, holdings, inside, is_file
from visavis.datasets.outlines import segmentation_mask
from visavis.datasets.registry import Kind, register_dataset
from visavis.datasets.upright import as_shown
from visavis.errors import InputError

_LISTS = ("categories", "images", "annotations")
# Of the pictures, so many are looked for to tell which folder they are in.
_TRIED = 50


class COCO(AnnotatedDataset):
    """A data set in COCO's format.

    FOLDER holds instances.json and images/; or annotations/instances_SPLIT.json and SPLIT/ or images/SPLIT/, as COCO
    itself. The file is read once, piece by piece: places of annotations stay in memory, outlines in the file.
    Annotations whose box has no area are left out.

    Args:
        folder: of the data set.
        split: such as "val2017", where there are several.
        annotations: the JSON file, relative to `folder` or absolute; by default as above.
        images: the folder of the pictures, relative to `folder` or absolute; by default as above.

    Attributes:
        file: the JSON file.
        images: the folder of the pictures.

    Raises:
        InputError: the folder is not laid out like this, or the file is not in COCO's format.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        split: str | None = None,
        annotations: str | os.PathLike[str] | None = None,
        images: str | os.PathLike[str] | None = None,
    ) -> None:
        root = folder_at(folder, "COCO")
        self.file = _file(root, split) if annotations is None else root / annotations
        self.name = f"coco:{self.file.stem}"
        self._read()
        part = self.file.stem.removeprefix("instances_")
        self.images = self._pictures(root, part) if images is None else folder_at(root / images, "COCO's pictures")

    def __len__(self) -> int:
        return len(self._names)

    def name_of(self, index: int) -> str:
        return self._names[index]

    @property
    def digest(self) -> str:
        """As of any data set: of the bytes of the JSON file, outlines included.

        Raises:
            InputError: the file is gone.
        """
        try:
            with self.file.open("rb") as file:
                return digest_of((hashlib.file_digest(file, "sha256").hexdigest(),))
        except OSError as error:
            raise InputError(f"'{self.file}' cannot be read ({error.strerror or error}).") from error

    def sample(self, index: int) -> Sample:
        name, size = self._names[index], self._sizes[index]
        picture = inside(self.images, name, self.file)
        first, last = np.searchsorted(self._pictures_of, [index, index + 1])
        found = tuple(self._annotation(place, size) for place in range(first, last))
        return Sample(name, picture, as_shown(found, picture, size, self.file))

    def _annotation(self, place: int, size: tuple[int, int]) -> Annotation:
        x, y, width, height = self._boxes[place].tolist()
        draw = None
        if self._outlined[place]:
            start, length = self._spans[place].tolist()
            draw = partial(read_mask, self.file, start, length, size)
        return Annotation(
            self.classes[self._labels[place]],
            (x, y, x + width, y + height),
            crowd=bool(self._crowds[place]),
            draw=draw,
        )

    def _read(self) -> None:
        """Read the index: which pictures and classes there are, and where each annotation stands."""
        classes: dict[Any, str] = {}
        numbers: dict[Any, int] = {}
        pictures: list[tuple[str, tuple[int, int]]] = []
        images: list[int | str] = []
        kinds: list[int | str] = []
        # x, y, width, height, crowd, outlined; then start and length: compact, for there may be millions.
        values, spans = _Table(6, np.float64), _Table(2, np.int64)
        for element in elements(self.file, _LISTS):
            if not isinstance(element.value, dict):
                raise _malformed(self.file, element, "an object was expected")
            if element.key == "categories":
                _enter(classes, element, _text(self.file, element, "name"), self.file)
            elif element.key == "images":
                _enter(numbers, element, len(pictures), self.file)
                pictures.append(_picture(self.file, element))
                check_name(self.file.parent, pictures[-1][0], self.file)
            else:
                box = _box(self.file, element)
                if min(box[2:]) > 0:
                    images.append(_key(self.file, element, "image_id"))
                    kinds.append(_key(self.file, element, "category_id"))
                    values.add(*box, bool(element.value.get("iscrowd")), bool(element.value.get("segmentation")))
                    spans.add(element.start, element.length)
        if not pictures or not classes:
            raise InputError(f"'{self.file}' lists no {'categories' if pictures else 'images'}, as COCO's format does.")
        self.classes = tuple(classes.values())
        self.vocabulary = "coco" if set(self.classes) <= NAMES.keys() else ""
        self._names = [name for name, _ in pictures]
        self._sizes = [size for _, size in pictures]
        places = {category: place for place, category in enumerate(classes)}
        owners = np.array(_looked_up(self.file, numbers, images, "image"), np.int64)
        labels = np.array(_looked_up(self.file, places, kinds, "category"), np.int64)
        order = np.argsort(owners, kind="stable")
        table = values.array()[order]
        self._pictures_of, self._labels, self._spans = owners[order], labels[order], spans.array()[order]
        self._boxes, self._crowds, self._outlined = table[:, :4], table[:, 4] > 0, table[:, 5] > 0

    def _pictures(self, root: Path, part: str) -> Path:
        for name in (part, f"images/{part}", "images"):
            folder = first_folder(root, (name,))
            if folder and any(is_file(folder / file) for file in self._names[:_TRIED]):
                return folder
        raise InputError(
            f"the pictures of '{self.file}', such as {self._names[0]}, are in none of '{root}/{part}', "
            f"'{root}/images/{part}' and '{root}/images'; name their folder as images=…"
        )


def read_mask(file: Path, start: int, length: int, size: tuple[int, int]) -> Mask:
    """Return the mask (H, W) of the annotation that stands in a JSON file from byte `start` on.

    Args:
        file: in COCO's format.
        start, length: where the annotation stands, in bytes.
        size: width and height of its picture.

    Raises:
        InputError: the file has changed, or the outline is malformed.
    """
    annotation = element_at(file, start, length)
    if not isinstance(annotation, dict) or "segmentation" not in annotation:
        raise InputError(f"'{file}' has changed since it was opened; open the data set again.")
    try:
        return segmentation_mask(annotation["segmentation"], size)
    except InputError as error:
        raise InputError(f"in '{file}', annotation {annotation.get('id', f'at byte {start}')}: {error}") from error


def _file(root: Path, split: str | None) -> Path:
    if split is None and (root / "instances.json").is_file():
        return root / "instances.json"
    found = sorted((root / "annotations").glob("instances_*.json"))
    chosen = [path for path in found if split in (None, path.stem.removeprefix("instances_"))]
    if len(chosen) == 1:
        return chosen[0]
    splits = ", ".join(path.stem.removeprefix("instances_") for path in found)
    if found:
        raise InputError(f"'{root}' has the splits {splits}; name one of them as split=…, not {split}.")
    raise InputError(
        f"'{root}' is not laid out as COCO: instances.json and images/, or annotations/instances_val2017.json and "
        f"val2017/, were expected, but {holdings(root)}."
    )


def _picture(file: Path, element: Element) -> tuple[str, tuple[int, int]]:
    width, height = (element.value.get(side) for side in ("width", "height"))
    for side in (width, height):
        if type(side) not in (int, float) or not 1 <= side <= 1e9 or side != int(side):
            raise _malformed(file, element, f"its size is {width!r} x {height!r}, but whole numbers were expected")
    return _text(file, element, "file_name"), (int(width), int(height))


def _box(file: Path, element: Element) -> list[float]:
    box = element.value.get("bbox")
    # Captions and key points are in files of their own.
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        raise _malformed(file, element, f"bbox is {box!r}, but x, y, width and height were expected")
    if min(box[2:]) < 0:
        raise _malformed(file, element, f"bbox is {box!r}, whose width or height is below 0")
    if max(map(abs, box)) > 1e9:
        raise _malformed(file, element, f"bbox is {box!r}, which is larger than any picture")
    return [float(value) for value in box]


def _text(file: Path, element: Element, name: str) -> str:
    value = element.value.get(name)
    if not isinstance(value, str):
        raise _malformed(file, element, f"{name} is {value!r}, but a text was expected")
    return value


def _key(file: Path, element: Element, name: str) -> int | str:
    value: int | str = element.value.get(name)
    if type(value) not in (int, str):
        raise _malformed(file, element, f"{name} is {value!r}, but a number or a name was expected")
    return value


def _enter(known: dict[Any, Any], element: Element, value: object, file: Path) -> None:
    key = _key(file, element, "id")
    if key in known:
        raise _malformed(file, element, f"its id {key!r} is another's, too")
    known[key] = value


def _looked_up(file: Path, known: dict[Any, int], keys: Iterable[Any], what: str) -> list[int]:
    try:
        return [known[key] for key in keys]
    except KeyError as error:
        raise InputError(f"'{file}' has annotations of {what} {error}, which it does not list.") from error


def _malformed(file: Path, element: Element, what: str) -> InputError:
    return InputError(f"in '{file}', an element of {element.key!r} at byte {element.start}: {what}.")


class _Table:
    """Rows of numbers, as compact as an array, that grow one by one."""

    def __init__(self, columns: int, kind: type) -> None:
        self._rows: NDArray[Any] = np.empty((1024, columns), kind)
        self._count = 0

    def add(self, *row: float) -> None:
        if self._count == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[self._count] = row
        self._count += 1

    def array(self) -> NDArray[Any]:
        return self._rows[: self._count]


register_dataset(
    Kind(
        "coco",
        "COCO's format: annotations/instances_SPLIT.json and SPLIT/, or instances.json and images/",
        COCO,
        {"split": str, "annotations": str, "images": str},
    )
)

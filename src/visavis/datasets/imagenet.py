"""ImageNet's validation pictures (ILSVRC 2012) in torchvision's layout, with the boxes of the localisation task."""

from __future__ import annotations

import os
import re
from pathlib import Path

from visavis.datasets.annotated import AnnotatedDataset, Annotation, Sample, digest_of
from visavis.datasets.boxes_xml import read_boxes
from visavis.datasets.layout import first_folder, folder_at, holdings, inside
from visavis.datasets.registry import Kind, register_dataset
from visavis.datasets.upright import as_shown
from visavis.errors import InputError
from visavis.pictures import SUFFIXES

_WNID = re.compile(r"n[0-9]{8}")
#: Where the boxes are looked for beside the pictures; the archive of the challenge unpacks into "val".
_BOXES = (
    *("boxes", "bbox/val", "bbox", "val_boxes", "Annotations/CLS-LOC/val", "Annotations/val", "Annotations"),
    *("ILSVRC2012_bbox_val_v3/val", "ILSVRC2012_bbox_val_v3", "val", "."),
)
#: Pixels are numbered from 0. The ends of a box are inclusive, as the challenge's development kit counts its overlaps.
_FIRST = 0


class ImageNet(AnnotatedDataset):
    """ImageNet's validation pictures: FOLDER/val/n01440764/ILSVRC2012_val_00000293.JPEG, and so on.

    The folder may also be the one that holds the WordNet ids itself. Labels are WordNet ids. Boxes stand in one XML
    file a picture, ILSVRC2012_val_00000293.xml, directly in a folder or in one a WordNet id; a picture without such a
    file has no annotations.

    Args:
        folder: of the data set.
        boxes: the folder of the XML files, relative to `folder` or absolute; by default it is looked for in `folder`,
            among others as "boxes", "bbox/val", "Annotations/CLS-LOC/val", and "val".
        objects: keep only the pictures with exactly so many boxes, such as 1; all XML files are read for it.

    Attributes:
        boxes: where the boxes are read from; None where there are none.

    Raises:
        InputError: the folder is not laid out like this, `boxes` has no XML files, or no picture has so many boxes.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        boxes: str | os.PathLike[str] | None = None,
        objects: int | None = None,
    ) -> None:
        root = folder_at(folder, "ImageNet")
        self.folder = root / "val" if (root / "val").is_dir() else root
        self.name = "imagenet:val"
        self.classes = tuple(sorted(entry.name for entry in os.scandir(self.folder) if _is_class(entry)))
        self._files = [(wnid, file) for wnid in self.classes for file in _pictures(self.folder / wnid)]
        if not self._files:
            raise InputError(
                f"'{root}' is not laid out as ImageNet: val/n01440764/ILSVRC2012_val_00000293.JPEG and so on were "
                f"expected, but in '{self.folder}' {holdings(self.folder)}."
            )
        self.boxes = _boxes_in(root) if boxes is None else _given(root, boxes)
        if objects is not None:
            self._files = self._with_objects(objects)

    def __len__(self) -> int:
        return len(self._files)

    def name_of(self, index: int) -> str:
        return "/".join(self._files[index])

    @property
    def digest(self) -> str:
        return digest_of(self.classes, self._files, ("without boxes" if self.boxes is None else "with boxes",))

    def sample(self, index: int) -> Sample:
        wnid, file = self._files[index]
        picture = inside(self.folder, f"{wnid}/{file}", self.folder)
        return Sample(self.name_of(index), picture, self._annotations(picture, wnid), wnid)

    def _with_objects(self, objects: int) -> list[tuple[str, str]]:
        """Return the files of the pictures with so many boxes; those whose boxes cannot be read stay, to be told of."""
        if objects < 1:
            raise InputError(f"objects is how many boxes a picture has, at least 1, not {objects}")
        kept = []
        for wnid, file in self._files:
            try:
                count = len(self._annotations(inside(self.folder, f"{wnid}/{file}", self.folder), wnid))
            except InputError:
                count = objects
            if count == objects:
                kept.append((wnid, file))
        if not kept:
            raise InputError(
                f"of the {len(self._files)} pictures in '{self.folder}' none has exactly {objects} "
                f"{'box' if objects == 1 else 'boxes'}; name the folder of the boxes, or another number of objects"
            )
        return kept

    def _annotations(self, picture: Path, wnid: str) -> tuple[Annotation, ...]:
        if self.boxes is None:
            return ()
        for name in (f"{picture.stem}.xml", f"{wnid}/{picture.stem}.xml"):
            if (self.boxes / name).is_file():
                path = inside(self.boxes, name, self.boxes)
                found = read_boxes(path, picture.stem, _FIRST)
                return as_shown(found.annotations, picture, found.size, path)
        return ()


def _is_class(entry: os.DirEntry[str]) -> bool:
    return bool(_WNID.fullmatch(entry.name)) and entry.is_dir()


def _pictures(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in SUFFIXES)


def _boxes_in(root: Path) -> Path | None:
    found = (first_folder(root, (name,)) for name in _BOXES)
    return next((folder for folder in found if folder and _has_boxes(folder)), None)


def _given(root: Path, boxes: str | os.PathLike[str]) -> Path:
    folder = folder_at(root / boxes, "ImageNet's boxes")
    if not _has_boxes(folder):
        raise InputError(
            f"'{folder}' has no boxes: ILSVRC2012_val_00000293.xml and so on were expected, directly in it or in one "
            f"folder a WordNet id, but {holdings(folder)}."
        )
    return folder


def _has_boxes(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in ("*.xml", "n[0-9]*/*.xml"))


register_dataset(
    Kind(
        "imagenet",
        "ImageNet's validation pictures: val/n01440764/*.JPEG, with boxes from ILSVRC2012_val_*.xml where they are",
        ImageNet,
        {"boxes": str, "objects": int},
    )
)

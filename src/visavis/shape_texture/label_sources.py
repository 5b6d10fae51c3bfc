"""Images with a label of each pixel, by name: VOC's label maps, and any data set whose objects have masks."""

from __future__ import annotations

from visavis.datasets.registry import folder_and_options, open_dataset
from visavis.datasets.scene_dataset import SceneDataset
from visavis.datasets.voc import YEARS
from visavis.errors import InputError
from visavis.shape_texture.segmented import AnnotatedSegments, SceneSegments, Segmented
from visavis.shape_texture.voc_segments import VOCSegments

_VOC = {f"voc{year}": year for year in YEARS}


def open_segmented(spelling: str, *, size: int = 224) -> Segmented:
    """Open images with label maps.

    Args:
        spelling: as data sets are spelled. "voc2012:FOLDER?split=train" are VOC's own label maps, of a list in
            ImageSets/Segmentation; "scenes?count=300&seed=1&classes=shape" generated scenes, drawn in this size; of any
            other data set, such as "coco:FOLDER", the masks of the objects.
        size: side of the images, in pixels.

    Raises:
        InputError: there is no such data set, or an option of it.
    """
    name, _, rest = spelling.partition(":")
    if name in _VOC:
        folder, options = folder_and_options(rest)
        wrong = [option for option in options if option != "split"]
        if wrong or not folder:
            problem = f"has no option '{wrong[0]}'" if wrong else "names no folder"
            raise InputError(f"'{spelling}' {problem}; write {name}:FOLDER?split=train.")
        return VOCSegments(folder, year=_VOC[name], split=options.get("split", "train"), size=size)
    if name.partition("?")[0] == "scenes":
        if "size" in folder_and_options(f"?{spelling.partition('?')[2]}")[1]:
            raise InputError(f"'{spelling}' names a size, but scenes are drawn in that of the images; leave it out.")
        dataset = open_dataset(spelling, size=size)
        assert isinstance(dataset, SceneDataset)
        return SceneSegments(dataset.scenes)
    return AnnotatedSegments(open_dataset(spelling), size=size)


__all__ = ["open_segmented"]

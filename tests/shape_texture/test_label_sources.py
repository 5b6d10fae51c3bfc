"""Images with label maps, by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from visavis.datasets import COCO, Scenes
from visavis.errors import InputError
from visavis.shape_texture.label_sources import open_segmented
from visavis.shape_texture.segmented import AnnotatedSegments, SceneSegments, Segmented
from visavis.shape_texture.voc_segments import VOCSegments


def voc(root: Path, year: str = "2012", seed: int = 0) -> None:
    """Two photographs with label maps; one of the two is a test image."""
    base, chance = root / "VOCdevkit" / f"VOC{year}", np.random.default_rng(seed)
    for part in ("JPEGImages", "ImageSets/Segmentation", "SegmentationClass"):
        (base / part).mkdir(parents=True)
    for number, split in enumerate(("train", "val")):
        PIL.Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8)).save(base / f"JPEGImages/{number}.jpg")
        labels = chance.choice(np.array([0, 3, 255], np.uint8), (12, 16))
        PIL.Image.fromarray(labels).save(base / f"SegmentationClass/{number}.png")
        (base / f"ImageSets/Segmentation/{split}.txt").write_text(f"{number}\n")


def coco(root: Path) -> Path:
    (root / "train2017").mkdir()
    (root / "annotations").mkdir()
    pixels = np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(root / "train2017" / "1.png")
    thing = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [2, 2, 6, 8], "iscrowd": 0}
    lists = {
        "images": [{"id": 1, "file_name": "1.png", "width": 16, "height": 12}],
        "categories": [{"id": 2, "name": "dog"}, {"id": 5, "name": "cup"}],
        "annotations": [thing | {"segmentation": [[2, 2, 8, 2, 8, 10, 2, 10]]}],
    }
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(lists))
    return root


def same(one: Segmented, other: Segmented) -> bool:
    return (one.name, one.names, len(one)) == (other.name, other.names, len(other)) and all(
        torch.equal(a, b) for index in range(len(one)) for a, b in zip(one[index], other[index], strict=True)
    )


def test_scenes() -> None:
    found = open_segmented("scenes?count=3&seed=4&classes=shape&objects=1-2", size=24)
    expected = SceneSegments(Scenes(3, size=24, seed=4, classes="shape", objects=(1, 2)))
    assert same(found, expected)
    assert found[0][0].shape == (3, 24, 24)
    # Each option bites.
    assert not same(open_segmented("scenes?count=3&seed=5&classes=shape&objects=1-2", size=24), expected)
    assert not same(open_segmented("scenes?count=3&seed=4&classes=texture&objects=1-2", size=24), expected)
    assert not same(open_segmented("scenes?count=3&seed=4&classes=shape", size=24), expected)
    assert len(open_segmented("scenes?count=2", size=24)) == 2


def test_scenes_are_drawn_in_the_size_asked_for() -> None:
    assert open_segmented("scenes?count=1")[0][0].shape == (3, 224, 224)
    assert open_segmented("scenes?count=1", size=16)[0][1].shape == (16, 16)


def test_voc_of_both_years_and_splits(tmp_path: Path) -> None:
    voc(tmp_path, "2007", seed=0)
    voc(tmp_path, "2012", seed=1)
    for year in ("2007", "2012"):
        for split in ("train", "val"):
            found = open_segmented(f"voc{year}:{tmp_path}?split={split}", size=16)
            assert same(found, VOCSegments(tmp_path, year=year, split=split, size=16))
            assert found.name == f"voc{year}:{split} of 16 px"
    usual = open_segmented(f"voc2012:{tmp_path}", size=16)
    assert same(usual, VOCSegments(tmp_path, year="2012", split="train", size=16))
    assert not torch.equal(usual[0][0], open_segmented(f"voc2007:{tmp_path}", size=16)[0][0])


def test_any_data_set_whose_objects_have_masks(tmp_path: Path) -> None:
    root = coco(tmp_path)
    found = open_segmented(f"coco:{root}?split=train2017", size=24)
    assert isinstance(found, AnnotatedSegments)
    assert same(found, AnnotatedSegments(COCO(root, split="train2017"), size=24))
    assert found.names == ("background", "dog", "cup")
    assert set(found[0][1].unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("spelling", "said"),
    [
        ("voc2012:FOLDER?splits=val", r"has no option 'splits'; write voc2012:FOLDER\?split=train"),
        ("voc2012:FOLDER?split=train&mask=x", "has no option 'mask'"),
        ("voc2012:FOLDER?split=train&split=val", "given twice"),
        ("voc2012:FOLDER?split", "is no option"),
        ("voc2012:", r"names no folder; write voc2012:FOLDER\?split=train"),
        ("voc2012", "names no folder"),
        ("voc2007:FOLDER", "is not laid out as VOC 2007"),
        ("voc2012:FOLDER?split=last", "last"),
        ("voc2010:FOLDER", "no kind of data set 'voc2010'"),
        ("scenes?colour=red", "has no option 'colour'"),
        ("scenes?count=1&size=32", "names a size, but scenes are drawn in that of the images"),
        ("scenes?count", "is no option"),
        ("scenes:FOLDER", "names a folder"),
        ("coco", "names no folder"),
        ("heap:FOLDER", "no kind of data set 'heap'"),
    ],
)
def test_what_is_no_such_source(tmp_path: Path, spelling: str, said: str) -> None:
    voc(tmp_path)
    with pytest.raises(InputError, match=said):
        open_segmented(spelling.replace("FOLDER", str(tmp_path)), size=16)


@pytest.mark.parametrize("spelling", ["voc2012:FOLDER", "coco:FOLDER?split=train2017"])
def test_images_that_are_too_small(tmp_path: Path, spelling: str) -> None:
    voc(tmp_path)
    coco(tmp_path)
    with pytest.raises(InputError, match="size"):
        open_segmented(spelling.replace("FOLDER", str(tmp_path)), size=7)

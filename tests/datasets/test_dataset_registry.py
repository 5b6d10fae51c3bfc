"""Kinds of data sets by name, and generated scenes as one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from visavis.datasets import (
    ImageNet,
    Kind,
    SceneDataset,
    Scenes,
    datasets,
    open_dataset,
    register_dataset,
    registry,
)
from visavis.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "what is this?"
    place.mkdir()
    PIL.Image.new("RGB", (20, 10)).save(place / "b.jpg")
    (place / "labels.csv").write_text("file,label,a&b=c\nb.jpg,dog,cat\n")
    return place


def test_the_kinds():
    assert sorted(datasets()) == ["coco", "folder", "imagenet", "scenes", "voc2007", "voc2012"]
    assert all(len(title) > 20 for title in datasets().values())


def test_scenes_are_samples():
    scenes = Scenes(3, size=32, seed=4, objects=2)
    data = open_dataset("scenes:?count=3&size=32&seed=4&objects=2")
    assert isinstance(data, SceneDataset)
    assert (data.name, len(data), data.classes) == ("scenes:4", 3, scenes.names)
    for index, sample in enumerate(data):
        item = scenes[index]
        assert sample.name == f"scene-4-{index}"
        assert sample.label == scenes.names[int(item.label)]
        pixels = np.asarray(sample.load()).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(pixels, item.picture.numpy(), atol=0.5 / 255 + 1e-6)
        assert [thing.label for thing in sample.annotations] == [scenes.names[label] for label in item.labels.tolist()]
        for thing, mask, box in zip(sample.annotations, item.masks.numpy(), item.boxes.tolist(), strict=True):
            assert thing.box == tuple(box)
            np.testing.assert_array_equal(thing.mask, mask)


def test_options_of_scenes_bite():
    assert open_dataset("scenes?count=2").classes == Scenes(2).names
    assert len(open_dataset("scenes")) == 100
    assert (
        open_dataset("scenes?classes=texture,shape", count=5).classes == Scenes(5, classes=("texture", "shape")).names
    )
    counts = {len(sample.annotations) for sample in open_dataset("scenes?objects=1-3&count=20&size=48")}
    assert counts == {1, 2, 3}
    # What is given apart goes before.
    assert len(open_dataset("scenes?count=2", count=7)) == 7


def test_objects_that_nothing_shows_are_left_out():
    data = SceneDataset(Scenes(40, size=8, objects=(4, 6), sizes=(0.02, 0.5)))
    counts = [(len(data[index].annotations), len(data.scenes[index].labels)) for index in range(40)]
    assert any(shown < drawn for shown, drawn in counts)
    assert all(thing.mask.any() for sample in data for thing in sample.annotations)


def test_folders_and_options(folder):
    spelled = f"folder:{folder}"
    assert open_dataset(spelled).classes == ("dog",)
    assert open_dataset(f"{spelled}", label="a&b=c").classes == ("cat",)
    plain = folder.rename(folder.with_name("plain"))
    assert open_dataset(f"folder:{plain}?label=a%26b=c&table=labels.csv").classes == ("cat",)
    (plain / "val" / "n01440764").mkdir(parents=True)
    PIL.Image.new("RGB", (9, 9)).save(plain / "val" / "n01440764" / "a.JPEG")
    assert isinstance(open_dataset(f"imagenet:{plain}"), ImageNet)


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("cocos:/data", "there is no kind of data set 'cocos'; write KIND:FOLDER, where KIND is coco"),
        ("/data", "there is no kind of data set '/data'"),
        ("", "there is no kind of data set ''"),
        ("coco", r"'coco' names no folder; write coco:FOLDER\?split=…&annotations=…&images=…"),
        ("coco:", "names no folder"),
        ("coco:?split=val2017", "names no folder"),
        ("voc2007:/data?splits=test", "voc2007 has no option 'splits'; it has split"),
        ("voc2007:/data?test", "'test' is no option; write them as"),
        ("voc2007:/data?split=a&split=b", "the option 'split' is given twice"),
        ("scenes:/data", r"names a folder, but scenes needs none; write scenes\?count"),
        ("scenes?count=many", r"the option 'count' of scenes cannot be 'many' \(invalid literal"),
        ("scenes?objects=1-many", "the option 'objects' of scenes cannot be '1-many'"),
        ("scenes?classes=taste", "a class is made of colour, texture, shape"),
        ("coco:/no/such/folder", "there is no folder '/no/such/folder' for COCO"),
        ("imagenet:/no/such/folder", "there is no folder '/no/such/folder' for ImageNet"),
        ("voc2012:/no/such/folder", "there is no folder '/no/such/folder' for VOC 2012"),
        ("folder:a\0b", "there is no folder"),
    ],
)
def test_what_is_misspelled_is_said(spelling, message):
    with pytest.raises(InputError, match=message):
        open_dataset(spelling)


def test_a_kind_is_registered_once(monkeypatch):
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    mine = Kind("mine", "my own", lambda folder: SceneDataset(Scenes(int(folder))))
    assert register_dataset(mine) is mine
    assert len(open_dataset("mine:7")) == 7
    assert datasets()["mine"] == "my own"
    with pytest.raises(InputError, match="mine has no option 'a'; it has none"):
        open_dataset("mine:7?a=b")
    with pytest.raises(InputError, match="there is a kind of data set 'mine' already"):
        register_dataset(mine)
    for name in ("", "a:b", "a?b"):
        with pytest.raises(InputError, match="cannot be called"):
            register_dataset(Kind(name, "", mine.open))

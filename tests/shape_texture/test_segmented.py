"""Images and their label maps: one frame, void where nothing is known, strangers' files safe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from visavis.datasets import COCO, Scenes
from visavis.datasets.annotated import AnnotatedDataset, Annotation, Mask, Sample
from visavis.datasets.common_names import VOC as NAMES
from visavis.errors import InputError
from visavis.shape_texture.segmented import AnnotatedSegments, SceneSegments, Segmented, square
from visavis.shape_texture.voc_segments import VOCSegments


def test_scenes_are_labelled_pixel_by_pixel() -> None:
    scenes = Scenes(4, size=24, objects=(1, 3), classes="shape", seed=2)
    data = SceneSegments(scenes)
    assert (len(data), data.classes, data.names) == (4, len(scenes.names) + 1, ("background", *scenes.names))
    for index in range(4):
        image, labels = data[index]
        scene = scenes[index]
        assert torch.equal(image, scene.picture)
        expected = torch.zeros(24, 24, dtype=torch.int64)
        for mask, label in zip(scene.masks, scene.labels.tolist(), strict=True):
            for y, x in mask.nonzero().tolist():
                expected[y, x] = label + 1
        assert labels.dtype is torch.int64
        assert torch.equal(labels, expected)
    with pytest.raises(IndexError, match="no image 4"):
        data[4]
    with pytest.raises(IndexError, match="no image -1"):
        data[-1]


def test_the_square_at_the_centre() -> None:
    """Enlarged threefold each pixel is a block of nine, but that the image is smoothed between."""
    labels = np.arange(8 * 12, dtype=np.uint8).reshape(8, 12)
    image = PIL.Image.fromarray(np.stack([labels] * 3, -1))
    pixels, own = square(image, labels, 24)
    expected = labels[:, 2:10].repeat(3, 0).repeat(3, 1)
    assert own.tolist() == expected.tolist()
    assert (pixels[:, 1::3, 1::3] * 255).round().tolist() == [labels[:, 2:10].tolist()] * 3
    upright, same = square(PIL.Image.fromarray(np.stack([labels.T] * 3, -1)), labels.T, 24)
    assert torch.equal(same, own.T)
    torch.testing.assert_close(upright, pixels.transpose(1, 2))


def test_smaller_labels_are_those_at_the_centres() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 7, 255], np.uint8), (30, 30))
    _, own = square(PIL.Image.new("RGB", (30, 30)), labels, 10)
    assert own.tolist() == labels[1::3, 1::3].tolist()


# -- VOC ---------------------------------------------------------------------------------------------------------------


def palette(numbers: np.ndarray) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(numbers, "L").convert("P")
    picture.putdata(numbers.ravel().tolist())
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [224, 224, 192] * 253)
    return picture


def numbers(sofa: int = 18) -> np.ndarray:
    found = np.zeros((8, 12), np.uint8)
    found[0:3, 0:5] = 8
    found[2, 4] = 255
    found[5:, 6:] = sofa
    return found


def photograph() -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 12, 3), np.uint8))


def build(root: Path) -> Path:
    base = root / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "ImageSets/Segmentation", "SegmentationClass"):
        (base / part).mkdir(parents=True)
    for name in ("2007_1", "2007_2"):
        photograph().save(base / "JPEGImages" / f"{name}.jpg")
    palette(numbers()).save(base / "SegmentationClass" / "2007_1.png")
    (base / "ImageSets/Segmentation/train.txt").write_text("2007_1\n")
    (base / "ImageSets/Segmentation/trainaug.txt").write_text("2007_1\n2007_2\n")
    return base


def test_voc_labels_are_numbers_in_the_palette(tmp_path: Path) -> None:
    base = build(tmp_path)
    data = VOCSegments(tmp_path, size=8)
    assert (len(data), data.classes, data.names) == (1, 21, ("background", *NAMES))
    assert (data.names[8], data.names[18]) == ("cat", "sofa")
    image, labels = data[0]
    assert labels.tolist() == numbers()[:, 2:10].tolist()
    shown = np.asarray(PIL.Image.open(base / "JPEGImages" / "2007_1.jpg"))[:, 2:10] / 255
    np.testing.assert_allclose(image.permute(1, 2, 0), shown, atol=1e-6)
    assert VOCSegments(base, size=16)[0][1].tolist() == numbers()[:, 2:10].repeat(2, 0).repeat(2, 1).tolist()


def test_voc_augmented_labels_come_first_where_there_are_any(tmp_path: Path) -> None:
    base = build(tmp_path)
    data = VOCSegments(tmp_path, split="trainaug", size=8)
    with pytest.raises(InputError, match="no label map of 2007_2"):
        data[1]
    (base / "SegmentationClassAug").mkdir()
    PIL.Image.fromarray(numbers(20)).save(base / "SegmentationClassAug" / "2007_2.png")
    assert data[1][1].tolist() == numbers(20)[:, 2:10].tolist()
    assert data[0][1].tolist() == numbers()[:, 2:10].tolist()
    PIL.Image.fromarray(numbers(3)).save(base / "SegmentationClassAug" / "2007_1.png")
    assert data[0][1].tolist() == numbers(3)[:, 2:10].tolist()


def test_voc_labels_are_turned_with_the_picture(tmp_path: Path) -> None:
    base = build(tmp_path)
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    photograph().save(base / "JPEGImages" / "2007_1.jpg", exif=exif)
    assert VOCSegments(tmp_path, size=8)[0][1].tolist() == numbers()[::-1, ::-1][:, 2:10].tolist()


def test_voc_refuses_what_is_not_laid_out_so(tmp_path: Path) -> None:
    base = build(tmp_path)
    with pytest.raises(InputError, match=r"no split 'val' .* it has train, trainaug"):
        VOCSegments(tmp_path, split="val")
    with pytest.raises(InputError, match="no split"):
        VOCSegments(tmp_path, split="../train")
    with pytest.raises(InputError, match="year 2007 or 2012"):
        VOCSegments(tmp_path, year="2010")
    with pytest.raises(InputError, match="not laid out as VOC 2007"):
        VOCSegments(tmp_path, year="2007")
    with pytest.raises(InputError, match="size is 7"):
        VOCSegments(tmp_path, size=7)
    labels = base / "SegmentationClass" / "2007_1.png"
    palette(numbers(21)).save(labels)
    with pytest.raises(InputError, match="has the label 21, but 0 to 20"):
        VOCSegments(tmp_path)[0]
    palette(numbers()[1:]).save(labels)
    with pytest.raises(InputError, match="12 x 7 pixels"):
        VOCSegments(tmp_path)[0]
    PIL.Image.new("RGB", (12, 8)).save(labels)
    with pytest.raises(InputError, match="one number a pixel"):
        VOCSegments(tmp_path)[0]
    labels.write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read as a PNG"):
        VOCSegments(tmp_path)[0]
    labels.unlink()
    outside = tmp_path / "outside.png"
    palette(numbers()).save(outside)
    labels.symlink_to(outside)
    with pytest.raises(InputError, match="leads out of"):
        VOCSegments(tmp_path)[0]
    (base / "SegmentationClass").rename(base / "Elsewhere")
    with pytest.raises(InputError, match="with label maps"):
        VOCSegments(tmp_path)


# -- data sets whose objects have masks --------------------------------------------------------------------------------


class Drawn(AnnotatedDataset):
    """One picture of 8 × 8, its objects as they are given: label, rows, columns, crowd."""

    name, classes = "drawn", ("ball", "hat")

    def __init__(self, *things: tuple[str, slice, slice, bool], masked: bool = True, side: int = 8) -> None:
        self._things, self._masked, self._side = things, masked, side

    def __len__(self) -> int:
        return 1

    def sample(self, index: int) -> Sample:
        def one(label: str, rows: slice, columns: slice, crowd: bool) -> Annotation:
            mask: Mask = np.zeros((self._side, 8), np.bool_)
            mask[rows, columns] = True
            return Annotation(label, (0, 0, 8, 8), crowd=crowd, draw=(lambda: mask) if self._masked else None)

        return Sample("one.png", PIL.Image.new("RGB", (8, 8)), tuple(one(*thing) for thing in self._things))


LEFT, RIGHT, ALL = slice(0, 5), slice(4, 8), slice(0, 8)


def rows_of(*things: tuple[str, slice, slice, bool]) -> list[int]:
    """The labels of the first row, of which all others are copies."""
    _, labels = AnnotatedSegments(Drawn(*things), size=8)[0]
    assert all(row == labels[0].tolist() for row in labels.tolist())
    return labels[0].tolist()


def test_pixels_of_two_classes_are_void_and_crowds_too() -> None:
    ball, hat = ("ball", ALL, LEFT, False), ("hat", ALL, RIGHT, False)
    assert rows_of(ball, hat) == rows_of(hat, ball) == [1, 1, 1, 1, 255, 2, 2, 2]
    assert rows_of(ball, ("ball", ALL, RIGHT, False)) == [1] * 8
    assert rows_of(ball, hat, ("hat", ALL, slice(3, 5), False)) == [1, 1, 1, 255, 255, 2, 2, 2]
    assert rows_of(("hat", ALL, ALL, True), ball) == rows_of(ball, ("hat", ALL, ALL, True)) == [1] * 5 + [255] * 3
    assert rows_of() == [0] * 8


def test_coco_by_the_names_of_its_classes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    photograph().save(tmp_path / "images" / "a.png")
    square_ = [[2, 1, 6, 1, 6, 5, 2, 5]]
    crowd = {"size": [8, 12], "counts": [64, 32]}
    things = [
        {"id": 1, "image_id": 4, "category_id": 30, "bbox": [2, 1, 4, 4], "iscrowd": 0, "segmentation": square_},
        {"id": 2, "image_id": 4, "category_id": 7, "bbox": [8, 0, 4, 8], "iscrowd": 1, "segmentation": crowd},
    ]
    content = {
        "images": [{"id": 4, "file_name": "a.png", "width": 12, "height": 8}],
        "categories": [{"id": 7, "name": "hat"}, {"id": 30, "name": "ball"}],
        "annotations": things,
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    data = AnnotatedSegments(COCO(tmp_path), size=8)
    assert data.names == ("background", "hat", "ball")
    expected = np.zeros((8, 12), np.uint8)
    expected[1:5, 2:6] = 2
    expected[:, 8:] = 255
    assert data[0][1].tolist() == expected[:, 2:10].tolist()


def test_data_sets_without_masks_are_refused() -> None:
    thing = ("ball", ALL, LEFT, False)
    with pytest.raises(InputError, match="'ball' has no mask"):
        AnnotatedSegments(Drawn(thing, masked=False))[0]
    with pytest.raises(InputError, match="has a mask of 8 x 9 pixels"):
        AnnotatedSegments(Drawn(thing, side=9))[0]
    with pytest.raises(InputError, match="size is 0"):
        AnnotatedSegments(Drawn(thing), size=0)
    many = Drawn(thing)
    many.classes = tuple(map(str, range(255)))
    with pytest.raises(InputError, match="there are 255 classes"):
        AnnotatedSegments(many)
    many.classes = many.classes[1:]
    assert isinstance(AnnotatedSegments(many), Segmented)

"""PASCAL VOC: boxes from 1 and inclusive become boxes from 0 and exclusive; masks by the numbers of the objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from visavis.datasets import VOC
from visavis.datasets.voc import read_object
from visavis.errors import InputError

XML = """<annotation><filename>{name}.jpg</filename><size><width>12</width><height>10</height><depth>3</depth></size>
<object><name>cat</name><truncated>0</truncated><difficult>0</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>3</ymax></bndbox></object>
<object><name>sofa</name><truncated>1</truncated><difficult>1</difficult>
<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>12</xmax><ymax>10</ymax></bndbox></object></annotation>"""


def numbers() -> np.ndarray:
    """Object 1 in its box but for a border pixel, object 2 in the lower right corner."""
    objects = np.zeros((10, 12), np.uint8)
    objects[0:3, 0:4] = 1
    objects[2, 3] = 255
    objects[5:10, 4:12] = 2
    return objects


def build(root: Path, year: str = "2007") -> Path:
    base = root / "VOCdevkit" / f"VOC{year}"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main", "SegmentationObject"):
        (base / part).mkdir(parents=True)
    for name in ("000005", "2007_000027"):
        PIL.Image.new("RGB", (12, 10)).save(base / "JPEGImages" / f"{name}.jpg")
        (base / "Annotations" / f"{name}.xml").write_text(XML.format(name=name))
    palette = PIL.Image.fromarray(numbers(), "L").convert("P")
    palette.putdata(numbers().ravel().tolist())
    palette.save(base / "SegmentationObject" / "2007_000027.png")
    (base / "ImageSets" / "Main" / "val.txt").write_text("000005\n2007_000027\n\n")
    (base / "ImageSets" / "Main" / "test.txt").write_text("2007_000027\r\n")
    (base / "ImageSets" / "Main" / "cat_val.txt").write_text("000005  1\n2007_000027 -1\n")
    return base


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return build(tmp_path)


def test_boxes_and_flags(tmp_path, base):
    data = VOC(tmp_path)
    assert data.name == "voc2007:val"
    assert (len(data), len(data.classes), data.vocabulary) == (2, 20, "voc")
    assert [sample.name for sample in data] == ["JPEGImages/000005.jpg", "JPEGImages/2007_000027.jpg"]
    cat, sofa = data[0].annotations
    assert (cat.label, cat.box, cat.difficult, cat.truncated) == ("cat", (0.0, 0.0, 4.0, 3.0), False, False)
    assert (sofa.label, sofa.box, sofa.difficult, sofa.truncated) == ("sofa", (4.0, 5.0, 12.0, 10.0), True, True)
    assert data[0].label is None
    assert data[0].load().size == (12, 10)


def test_masks_where_there_are_any(tmp_path, base):
    data = VOC(tmp_path)
    assert [thing.mask for thing in data[0].annotations] == [None, None]
    cat, sofa = (thing.mask for thing in data[1].annotations)
    np.testing.assert_array_equal(cat, numbers() == 1)
    np.testing.assert_array_equal(sofa, numbers() == 2)
    assert (cat.sum(), sofa.sum()) == (11, 40)


@pytest.mark.parametrize("depth", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_any_folder_on_the_way_will_do(tmp_path, depth):
    build(tmp_path, "2012")
    data = VOC(tmp_path / depth, year="2012", split="test")
    assert data.name == "voc2012:test"
    assert [sample.name for sample in data] == ["JPEGImages/2007_000027.jpg"]


def test_the_year_is_that_of_the_folder(tmp_path, base):
    with pytest.raises(InputError, match=r"not laid out as VOC 2012: VOCdevkit/VOC2012 with .*, but .* VOCdevkit/\."):
        VOC(tmp_path, year="2012")
    with pytest.raises(InputError, match="VOC is of the year 2007 or 2012, not '2009'"):
        VOC(tmp_path, year="2009")


def test_splits(tmp_path, base):
    for split in ("train", "../Main/val", ""):
        with pytest.raises(InputError, match=f"there is no split '{split}' in .*; it has test, val"):
            VOC(tmp_path, split=split)
    with pytest.raises(InputError, match=r"'000005  1' in line 1, but the name of one picture a line"):
        VOC(tmp_path, split="cat_val")
    (base / "ImageSets" / "Main" / "val.txt").write_text("000005\n../../../../etc/passwd\n")
    with pytest.raises(InputError, match=r"'../../../../etc/passwd' in line 2"):
        VOC(tmp_path)
    (base / "ImageSets" / "Main" / "val.txt").write_text("\n")
    with pytest.raises(InputError, match="lists no pictures"):
        VOC(tmp_path)


def test_bad_annotations_are_named(tmp_path, base):
    path = base / "Annotations" / "000005.xml"
    path.write_text(XML.format(name="000005").replace("<name>sofa", "<name>dragon"))
    with pytest.raises(InputError, match=r"000005\.xml' has an object called 'dragon', which is no class of VOC"):
        VOC(tmp_path)[0]
    path.unlink()
    with pytest.raises(InputError, match=r"there is no file '.*000005\.xml', an annotation"):
        VOC(tmp_path)[0]
    path.symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="a link that leads out"):
        VOC(tmp_path)[0]


def test_bad_masks_are_named_when_drawn(tmp_path, base):
    path = base / "SegmentationObject" / "2007_000027.png"
    things = VOC(tmp_path)[1].annotations
    PIL.Image.new("L", (10, 12)).save(path)
    with pytest.raises(InputError, match=r"2007_000027\.png' has 10 x 12 pixels, but the annotation is about \(12, 10"):
        _ = things[0].mask
    PIL.Image.new("RGB", (12, 10)).save(path)
    with pytest.raises(InputError, match="has the colour mode RGB"):
        _ = things[0].mask
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read as a PNG picture of masks"):
        read_object(path, 1, None)


def test_a_picture_that_is_listed_twice_is_one(base):
    (base / "ImageSets" / "Main" / "val.txt").write_text("000005\n2007_000027\n000005\n")
    assert [sample.name for sample in VOC(base)] == ["JPEGImages/000005.jpg", "JPEGImages/2007_000027.jpg"]


def test_a_digest_is_of_the_list(base):
    first = VOC(base).digest
    assert VOC(base).digest == first != VOC(base, split="test").digest
    (base / "Annotations" / "000005.xml").write_text("damaged")
    assert (VOC(base).digest, VOC(base).name_of(0)) == (first, "JPEGImages/000005.jpg")


def test_names_that_no_file_can_have_are_refused(base):
    (base / "ImageSets" / "Main" / "val.txt").write_text("x" * 300)
    with pytest.raises(InputError, match="cannot be read"):
        VOC(base)[0]
    with pytest.raises(InputError, match="there is no split"):
        VOC(base, split="x" * 300)

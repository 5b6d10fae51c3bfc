"""ImageNet's validation pictures, in the layouts in which they are found."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from visavis.datasets import ImageNet, open_dataset
from visavis.errors import InputError

TENCH, DOG = "n01440764", "n02085620"
FIRST, SECOND, THIRD = (f"ILSVRC2012_val_0000{number}" for number in ("0293", "0001", "0002"))


def picture(path: Path, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.new("RGB", (30, 20)).save(path, "JPEG", exif=exif)


def boxes(path: Path, *corners: tuple[int, int, int, int], wnid: str = TENCH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(
        f"<object><name>{wnid}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for x0, y0, x1, y1 in corners
    )
    size = "<size><width>30</width><height>20</height></size>"
    path.write_text(f"<annotation><filename>{path.stem}</filename>{size}{objects}</annotation>")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture(tmp_path / "val" / TENCH / f"{FIRST}.JPEG")
    picture(tmp_path / "val" / DOG / f"{THIRD}.JPEG", orientation=6)
    picture(tmp_path / "val" / DOG / f"{SECOND}.JPEG")
    (tmp_path / "val" / DOG / "notes.txt").touch()
    (tmp_path / "val" / "README").touch()
    return tmp_path


def test_pictures_and_labels(root):
    data = ImageNet(root)
    assert data.name == "imagenet:val"
    assert data.classes == (TENCH, DOG)
    assert [sample.name for sample in data] == [f"{TENCH}/{FIRST}.JPEG", f"{DOG}/{SECOND}.JPEG", f"{DOG}/{THIRD}.JPEG"]
    assert [sample.label for sample in data] == [TENCH, DOG, DOG]
    assert data.boxes is None
    assert all(sample.annotations == () for sample in data)
    assert [sample.load().size for sample in data] == [(30, 20), (30, 20), (20, 30)]
    # The folder of the WordNet ids itself will do.
    assert [sample.name for sample in ImageNet(root / "val")] == [sample.name for sample in data]


@pytest.mark.parametrize(
    "place",
    [
        *("boxes", "bbox/val", "bbox", "val_boxes", "Annotations/CLS-LOC/val", "Annotations/val", "Annotations"),
        *("ILSVRC2012_bbox_val_v3/val", "ILSVRC2012_bbox_val_v3", "val", "."),
    ],
)
@pytest.mark.parametrize("per_class", [False, True])
def test_boxes_are_found(root, place, per_class):
    folder = root / place
    boxes(folder / TENCH / f"{FIRST}.xml" if per_class else folder / f"{FIRST}.xml", (0, 2, 9, 19), (5, 5, 5, 5))
    data = ImageNet(root)
    assert data.boxes == folder
    one, two = data[0].annotations
    assert (one.label, one.box) == (TENCH, (0.0, 2.0, 10.0, 20.0))
    assert two.box == (5.0, 5.0, 6.0, 6.0)
    assert data[1].annotations == ()


def test_boxes_are_cut_and_turned(root):
    boxes(root / "boxes" / f"{SECOND}.xml", (3, 4, 30, 20), wnid=DOG)
    boxes(root / "boxes" / f"{THIRD}.xml", (0, 0, 9, 4), wnid=DOG)
    data = ImageNet(root)
    assert data[1].annotations[0].box == (3.0, 4.0, 30.0, 20.0)
    # Turned clockwise by a quarter, the upper left corner becomes the upper right one.
    assert data[2].annotations[0].box == (15.0, 0.0, 20.0, 10.0)


def test_boxes_may_be_elsewhere(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    boxes(elsewhere / f"{FIRST}.xml", (1, 1, 2, 2))
    assert ImageNet(root, boxes=elsewhere)[0].annotations[0].box == (1.0, 1.0, 3.0, 3.0)
    boxes(root / "mine" / f"{FIRST}.xml", (1, 1, 3, 3))
    assert ImageNet(root, boxes="mine")[0].annotations[0].box == (1.0, 1.0, 4.0, 4.0)
    (root / "none").mkdir()
    with pytest.raises(InputError, match=r"none' has no boxes: .* but it is empty"):
        ImageNet(root, boxes="none")
    with pytest.raises(InputError, match="there is no folder"):
        ImageNet(root, boxes="nowhere")


def test_a_bad_box_is_that_of_one_sample(root):
    boxes(root / "boxes" / f"{FIRST}.xml", (9, 1, 3, 2))
    data = ImageNet(root)
    with pytest.raises(InputError, match=rf"{FIRST}\.xml' has a box from \(9, 1\) to \(3, 2\)"):
        data[0]
    assert data[1].label == DOG


def test_boxes_of_another_picture_or_size_are_refused(root):
    path = root / "boxes" / f"{FIRST}.xml"
    boxes(path, (1, 1, 3, 2))
    path.write_text(path.read_text().replace("<width>30", "<width>60"))
    with pytest.raises(InputError, match="is about a picture of 60 x 20 pixels, but"):
        ImageNet(root)[0]
    path.write_text(path.read_text().replace(FIRST, SECOND))
    with pytest.raises(InputError, match=f"is about the picture '{SECOND}'"):
        ImageNet(root)[0]


def test_links_are_followed_inside_only(root, tmp_path_factory):
    secret = tmp_path_factory.mktemp("secret") / "a.JPEG"
    picture(secret)
    (root / "val" / TENCH / "ILSVRC2012_val_00000000.JPEG").symlink_to(secret)
    with pytest.raises(InputError, match="a link that leads out"):
        ImageNet(root)[0]
    boxes(root / "boxes" / f"{SECOND}.xml", (1, 1, 3, 2))
    outside = secret.with_name(f"{FIRST}.xml")
    boxes(outside, (1, 1, 3, 2))
    (root / "boxes" / f"{FIRST}.xml").symlink_to(outside)
    with pytest.raises(InputError, match="a link that leads out"):
        ImageNet(root)[1]


def test_another_layout_is_described(tmp_path):
    (tmp_path / "tench").mkdir()
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match=r"val/n01440764/.* were expected, but in .* it holds a\.jpg, tench/\."):
        ImageNet(tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        ImageNet(tmp_path / "nowhere")


def test_pictures_with_so_many_objects_only(root):
    boxes(root / "boxes" / f"{FIRST}.xml", (2, 3, 9, 8))
    boxes(root / "boxes" / f"{SECOND}.xml", (2, 3, 9, 8), (12, 3, 19, 8), wnid=DOG)
    (root / "boxes" / f"{THIRD}.xml").write_text("<annotation>")  # cannot be read: kept, for whoever counts such
    assert [sample for _, sample in ImageNet(root, objects=1)._files] == [f"{FIRST}.JPEG", f"{THIRD}.JPEG"]
    assert [sample for _, sample in ImageNet(root, objects=2)._files] == [f"{SECOND}.JPEG", f"{THIRD}.JPEG"]
    assert len(open_dataset(f"imagenet:{root}?objects=2")) == 2
    (root / "boxes" / f"{THIRD}.xml").unlink()
    with pytest.raises(InputError, match=r"of the 3 pictures in .* none has exactly 3 boxes; name the folder"):
        ImageNet(root, objects=3)
    with pytest.raises(InputError, match="at least 1, not 0"):
        ImageNet(root, objects=0)


def test_a_digest_is_of_the_files_and_whether_there_are_boxes(root):
    first = ImageNet(root).digest
    assert ImageNet(root).digest == first
    boxes(root / "boxes" / f"{FIRST}.xml", (1, 2, 3, 4))
    second = ImageNet(root).digest
    (root / "val" / DOG / f"{SECOND}.JPEG").unlink()
    assert len({first, second, ImageNet(root).digest}) == 3
    assert ImageNet(root).name_of(0) == f"{TENCH}/{FIRST}.JPEG"

"""Samples, the files that they come from, and annotations turned as pictures are."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from visavis.datasets import AnnotatedDataset, Annotation, Sample
from visavis.datasets.layout import inside, read_text
from visavis.datasets.upright import Stored, as_shown, stored, turned_box, turned_mask
from visavis.errors import InputError, PictureError
from visavis.pictures import load_picture

SIZE = (48, 24)
BOX = (8.0, 0.0, 24.0, 8.0)


class Two(AnnotatedDataset):
    name, classes = "two", ("cat", "dog")

    def __len__(self) -> int:
        return 2

    def sample(self, index: int) -> Sample:
        return Sample(str(index), PIL.Image.new("RGB", (9, 8), (index, 0, 0)), label=self.classes[index])


def photograph(path: Path, orientation: int = 1, size: tuple[int, int] = SIZE) -> Path:
    """A picture, white in BOX of what is stored, and black elsewhere; blocks of 8 pixels are exact in JPEG."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[0:8, 8:24] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(pixels).save(path, quality=100, subsampling=0, exif=exif)
    return path


def white_box(picture: PIL.Image.Image) -> tuple[float, ...]:
    rows, columns = np.nonzero(np.asarray(picture)[:, :, 0] > 127)
    return tuple(map(float, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))


def test_a_data_set_is_a_sequence_and_ends():
    data = Two()
    assert [sample.label for sample in data] == ["cat", "dog"]
    assert [data[index].name for index in (1, 0)] == ["1", "0"]
    for index in (-1, 2):
        with pytest.raises(IndexError, match="there is no picture"):
            data[index]
    assert repr(data) == "Two(two: 2 pictures, 2 classes)"
    # Whatever loads batches can read it.
    assert [item.name for item in torch.utils.data.DataLoader(data, batch_size=None)] == ["0", "1"]


def test_a_sample_loads_its_picture_when_asked(tmp_path):
    sample = Sample("a.jpg", tmp_path / "a.jpg")
    with pytest.raises(PictureError, match="there is no file"):
        sample.load()
    photograph(tmp_path / "a.jpg", 6)
    assert sample.load().size == SIZE[::-1]
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"a\.jpg' is not a picture"):
        sample.load()


def test_a_mask_is_drawn_each_time_it_is_asked_for():
    asked = []
    mask = np.eye(3, dtype=bool)
    thing = Annotation("cat", (0.0, 0.0, 3.0, 3.0), draw=lambda: asked.append(1) or mask)
    assert not asked
    assert thing.mask is mask
    assert len(asked) == 1
    assert Annotation("cat", (0.0, 0.0, 3.0, 3.0)).mask is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_annotations_turn_with_the_picture(tmp_path, orientation):
    path = photograph(tmp_path / "a.jpg", orientation)
    shown = load_picture(path)
    found = stored(path)
    assert found == Stored(SIZE, orientation)
    assert found.shown == shown.size
    assert turned_box(BOX, found) == white_box(shown)
    mask = np.zeros(SIZE[::-1], bool)
    mask[0:8, 8:24] = True
    np.testing.assert_array_equal(turned_mask(mask, orientation), np.asarray(shown)[:, :, 0] > 127)
    (thing,) = as_shown((Annotation("cat", BOX, draw=lambda: mask),), path, SIZE, tmp_path)
    assert thing.box == white_box(shown)
    np.testing.assert_array_equal(thing.mask, np.asarray(shown)[:, :, 0] > 127)


def test_annotations_of_the_shown_picture_are_not_turned(tmp_path):
    path = photograph(tmp_path / "a.jpg", 6)
    (thing,) = as_shown((Annotation("cat", BOX),), path, SIZE[::-1], tmp_path)
    assert thing.box == BOX
    (thing,) = as_shown((Annotation("cat", BOX),), path, None, tmp_path)
    assert thing.box == white_box(load_picture(path))


def test_annotations_of_another_size_are_refused(tmp_path):
    path = photograph(tmp_path / "a.jpg")
    for stated in (SIZE[::-1], (96, 48)):
        with pytest.raises(InputError, match=rf"{stated[0]} x {stated[1]} pixels, but .* has 48 x 24; the annot"):
            as_shown((Annotation("cat", BOX),), path, stated, tmp_path)


def test_boxes_end_at_the_border(tmp_path):
    path = photograph(tmp_path / "a.jpg")
    (thing,) = as_shown((Annotation("cat", (-3.0, 5.0, 50.5, 30.0)),), path, SIZE, tmp_path)
    assert thing.box == (0.0, 5.0, 48.0, 24.0)
    for outside in ((48.0, 0.0, 60.0, 8.0), (0.0, -9.0, 9.0, 0.0)):
        with pytest.raises(InputError, match="lies outside its picture of 48 x 24 pixels"):
            as_shown((Annotation("cat", outside),), path, SIZE, tmp_path)


def test_the_header_of_a_bad_picture_says_nothing(tmp_path):
    assert stored(tmp_path / "missing.jpg") is None
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert stored(tmp_path / "a.jpg") is None
    os.mkfifo(tmp_path / "pipe")
    assert stored(tmp_path / "pipe") is None
    # Loading will say what is wrong; until then the size that the data set states is believed.
    (thing,) = as_shown((Annotation("cat", (0.0, 0.0, 99.0, 9.0)),), tmp_path / "missing.jpg", (50, 40), tmp_path)
    assert thing.box == (0.0, 0.0, 50.0, 9.0)


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_are_found_inside_the_folder(tmp_path):
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.jpg").touch()
    (folder / "b.jpg").symlink_to(folder / "deep" / "a.jpg")
    (tmp_path / "link").symlink_to(folder)
    for name in ("deep/a.jpg", "b.jpg", "..b.jpg", "missing.jpg"):
        assert inside(folder, name, "list.txt") == folder / name
        assert inside(tmp_path / "link", name, "list.txt") == tmp_path / "link" / name


@pytest.mark.parametrize("name", ["../secret.jpg", "deep/../../secret.jpg", "deep/../deep/a.jpg", "/etc/passwd", ""])
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"'list\.txt' names"):
        inside(tmp_path, name, "list.txt")
    with pytest.raises(InputError, match="no file can be called"):
        inside(tmp_path, "a\0b", "list.txt")


def test_links_that_lead_out_are_refused(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.jpg").touch()
    (folder / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "up").symlink_to(tmp_path)
    # A folder beside whose name begins alike is another.
    (tmp_path / "data2").mkdir()
    (folder / "beside").symlink_to(tmp_path / "data2")
    for name in ("a.jpg", "up/secret.jpg", "beside/a.jpg"):
        with pytest.raises(InputError, match="a link that leads out"):
            inside(folder, name, "list.txt")


def test_text_is_read_within_limits(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\N{BYTE ORDER MARK}naïve".encode())
    assert read_text(path, 20, "a list") == "naïve"
    with pytest.raises(InputError, match="more than 0 KiB"):
        read_text(path, 8, "a list")
    path.write_bytes(b"ab\xff")
    with pytest.raises(InputError, match=r"a list, is no UTF-8 text \(byte 2\)"):
        read_text(path, 20, "a list")
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "missing"):
        with pytest.raises(InputError, match="there is no file"):
            read_text(tmp_path / name, 20, "a list")


def test_a_digest_is_of_the_names_of_classes_and_pictures():
    assert Two().digest == Two().digest
    assert re.fullmatch("[0-9a-f]{16}", Two().digest)
    other = Two()
    other.classes = ("cat", "dog", "hen")
    assert other.digest != Two().digest
    other = Two()
    other.name_of = lambda index: f"{index}.png"
    assert other.digest != Two().digest


def test_a_sample_that_is_malformed_has_a_name_and_a_digest(monkeypatch):
    def malformed(self, index):
        raise InputError("malformed")

    monkeypatch.setattr(Two, "sample", malformed)
    assert Two().name_of(1) == "picture 1"
    assert len(Two().digest) == 16

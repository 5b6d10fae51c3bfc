"""The small picture of a case: pixels where they belong, boxes where they are, and no trust in what a file holds."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import InputError
from visavis.reports.thumbnails import GAP, SIDE, read_thumbnail, thumbnail


def pixels(jpeg: bytes) -> NDArray[np.int64]:
    return np.asarray(PIL.Image.open(io.BytesIO(jpeg))).astype(np.int64)


def two_halves() -> tuple[Tensor, Tensor]:
    """A picture (3, 12, 24), red on the left and green on the right, and a map with one pixel each way."""
    picture = torch.zeros(3, 12, 24)
    picture[0, :, :12], picture[1, :, 12:] = 1, 1
    heat = torch.zeros(12, 24)
    heat[4:7, 3:6], heat[4:7, 18:21] = 2.0, -2.0
    return picture, heat


def test_the_photograph_is_left_and_the_map_over_it_right() -> None:
    picture, heat = two_halves()
    shown = pixels(thumbnail(picture, None, heat, "cat").jpeg)
    assert shown.shape == (SIDE // 2, 2 * SIDE + GAP, 3)
    left, right = shown[:, :SIDE], shown[:, SIDE + GAP :]
    assert np.abs(left[60, 45] - (255, 0, 0)).max() < 12
    assert np.abs(left[60, 195] - (0, 255, 0)).max() < 12
    # Rec. 709 luma of red and green, lightened into the upper half.
    for column, luma in ((100, 0.2126), (140, 0.7152)):
        assert np.abs(right[20, column] - 255 * (0.5 + luma / 2)).max() < 12
    orange, blue = right[55, 45], right[55, 195]
    assert orange[0] > orange[2] + 100
    assert blue[2] > blue[0] + 100


def test_boxes_are_drawn_on_both_at_their_places() -> None:
    picture, heat = torch.full((3, 24, 24), 0.5), torch.zeros(24, 24)
    shown = pixels(thumbnail(picture, torch.tensor([[6.0, 2.0, 18.0, 20.0]]), heat, "cat").jpeg)
    for tile, ground in ((shown[:, :SIDE], 127), (shown[:, SIDE + GAP :], 191)):
        drawn = np.abs(tile[:, :, 1] - ground) > 40
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        assert (rows[0], rows[-1], columns[0], columns[-1]) == (20, 199, 60, 179)
        assert not drawn[30:190, 70:170].any()
        assert tile[22, 120, 1] > 200
        assert tile[20, 120, 1] < 90


@pytest.mark.parametrize("box", [[0.1, 0.1, 0.2, 0.2], [23.8, 23.9, 24.0, 24.0], [10.0, 10.0, 10.4, 10.4]])
def test_a_small_box_is_drawn_so_that_it_is_seen(box: list[float]) -> None:
    grey = torch.full((3, 24, 24), 0.5)
    shown = pixels(thumbnail(grey, torch.tensor([box]), torch.zeros(24, 24), "cat").jpeg)[:, :SIDE, 1]
    rows, columns = (np.flatnonzero((np.abs(shown - 127) > 60).any(axis)) for axis in (1, 0))
    for places, low, high in ((rows, box[1], box[3]), (columns, box[0], box[2])):
        assert 9 <= places[-1] - places[0] + 1 <= 12
        assert places[0] <= max(0, 10 * low)
        assert places[-1] >= min(SIDE - 2, 10 * high - 1)


def test_a_map_of_nothing_and_a_map_of_nan() -> None:
    picture, heat = two_halves()
    nothing = pixels(thumbnail(picture, None, torch.zeros_like(heat), "cat").jpeg)[:, SIDE + GAP :]
    assert np.ptp(nothing[60, 10:110], axis=1).max() < 12
    with pytest.raises(InputError, match="NaN or infinite"):
        thumbnail(picture, None, heat / 0, "cat")


def test_the_same_is_drawn_alike_and_read_again(tmp_path: Path) -> None:
    picture, heat = two_halves()
    made = thumbnail(picture, None, heat, "Kätzchen " * 100)
    assert made == thumbnail(picture, None, heat, "Kätzchen " * 100)
    assert made != thumbnail(picture, None, -heat, "Kätzchen " * 100)
    assert made.label == ("Kätzchen " * 100)[:200]
    (tmp_path / "a.jpg").write_bytes(made.jpeg)
    assert read_thumbnail(tmp_path / "a.jpg") == made


def test_what_is_damaged_too_large_or_no_jpeg_is_not_read(tmp_path: Path) -> None:
    picture, heat = two_halves()
    whole = thumbnail(picture, None, heat, "cat").jpeg
    large, png = io.BytesIO(), io.BytesIO()
    PIL.Image.new("RGB", (2000, 10)).save(large, "JPEG")
    PIL.Image.new("RGB", (20, 10)).save(png, "PNG")
    path = tmp_path / "a.jpg"
    assert read_thumbnail(path) is None
    for content in (
        b"",
        whole[:100],
        whole[: len(whole) // 2],
        large.getvalue(),
        png.getvalue(),
        whole + bytes(1 << 20),
    ):
        path.write_bytes(content)
        assert read_thumbnail(path) is None
    path.write_bytes(whole)
    assert read_thumbnail(path) is not None


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert read_thumbnail(path) is None

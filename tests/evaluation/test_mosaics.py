"""The grid pointing game: how n × n pictures are laid out, and what of a map counts for which cell."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import visavis as vv
from visavis.evaluation.localization import energy_within, pointing
from visavis.evaluation.mosaics import grid_hits, grid_shares, mosaic
from visavis.evaluation.regions import region

DOUBLE = torch.float64


def slow_shares(maps: Tensor) -> list[float]:
    """Each pixel cut into as many parts as there are cells on a side: each part lies in one cell."""
    side, (height, width) = math.isqrt(len(maps)), maps.shape[1:]
    found = []
    for index, heatmap in enumerate(maps):
        inside = total = 0.0
        for row, column in itertools.product(range(height * side), range(width * side)):
            value = max(0.0, float(heatmap[row // side, column // side]))
            total += value
            inside += value if (row // height, column // width) == divmod(index, side) else 0.0
        found.append(inside / total if total else 0.0)
    return found


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_a_mosaic_reads_from_left_to_right_and_down(side: int) -> None:
    pictures = torch.rand(side**2, 3, 10, 10)
    size = 5 * side
    laid = mosaic(pictures, size)
    assert laid.shape == (1, 3, size, size)
    means = pictures.view(-1, 3, 5, 2, 5, 2).mean((3, 5))
    for index, picture in enumerate(means):
        row, column = divmod(index, side)
        torch.testing.assert_close(laid[0, :, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5], picture)


def test_pictures_that_fit_are_kept_bit_for_bit() -> None:
    pictures = torch.rand(9, 1, 4, 4)
    assert torch.equal(mosaic(pictures, 12)[0, 0, 4:8, 8:], pictures[5, 0])


def test_mosaics_that_cannot_be_laid_out_are_refused() -> None:
    with pytest.raises(vv.InputError, match="such as 4 or 9, not 6"):
        mosaic(torch.rand(6, 3, 4, 4), 12)
    with pytest.raises(vv.InputError, match="such as 4 or 9, not 0"):
        mosaic(torch.rand(0, 3, 4, 4), 12)
    with pytest.raises(vv.InputError, match="a multiple of 3 pixels wide, not 10"):
        mosaic(torch.rand(9, 3, 4, 4), 10)
    with pytest.raises(vv.InputError, match="a multiple of 2 pixels wide, not 0"):
        mosaic(torch.rand(4, 3, 4, 4), 0)
    with pytest.raises(vv.InputError, match=r"\(n · n, C, H, W\), not \(4, 8, 8\)"):
        mosaic(torch.rand(4, 8, 8), 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("side", "height", "width"), [(1, 3, 2), (2, 6, 6), (2, 5, 7), (3, 7, 4), (3, 2, 6), (4, 3, 3)]
)
def test_shares_equal_a_slow_loop_also_where_pixels_straddle_cells(
    side: int, height: int, width: int, dtype: torch.dtype
) -> None:
    maps = torch.randn(side**2, height, width, dtype=dtype)
    maps[-1] = -maps[-1].abs()
    found = grid_shares(maps)
    torch.testing.assert_close(found, torch.tensor(slow_shares(maps), dtype=dtype))
    assert found[-1] == 0


@pytest.mark.parametrize("side", [2, 3])
def test_shares_and_hits_are_those_of_a_box_about_the_cell(side: int) -> None:
    maps, cell = torch.randint(-4, 5, (side**2, 4 * side, 4 * side)).double(), 4.0
    corners = [torch.tensor([[c, r, c + 1, r + 1]]) * cell for r in range(side) for c in range(side)]
    cells = torch.stack([region(box, (4 * side, 4 * side)) for box in corners])
    torch.testing.assert_close(grid_shares(maps), energy_within(maps, cells))
    torch.testing.assert_close(grid_hits(maps), pointing(maps, cells, 0))
    assert grid_hits(maps).max() > 0


def test_hits_by_hand() -> None:
    maps = torch.zeros(4, 3, 3)
    maps[0, 0, 0] = 1  # in its cell
    maps[1, 0, 1] = 2  # the middle column: half of it is the second cell's
    maps[2, 2, 2] = 3  # in the fourth cell
    maps[3, 1, 1] = 4  # a quarter of the centre is in each cell
    assert grid_hits(maps).tolist() == [1, 0.5, 0, 0.25]
    maps[0, 2, 2] = 1  # one of two equal maxima
    maps[1] = -1
    assert grid_hits(maps).tolist() == [0.5, 0, 0, 0.25]


@pytest.mark.parametrize("side", [2, 3])
def test_perfect_inverted_constant_and_random_maps(side: int) -> None:
    perfect = torch.eye(side**2, dtype=DOUBLE).view(-1, side, side).repeat_interleave(5, 1).repeat_interleave(5, 2)
    chance = 1 / side**2
    for function in (grid_shares, grid_hits):
        assert function(perfect).tolist() == [1] * side**2
        assert function(1 - perfect).tolist() == [0] * side**2
        assert function(torch.ones(side**2, 7, 7)).tolist() == pytest.approx([chance] * side**2)
        random = torch.stack([function(torch.rand(side**2, 12, 12)) for _ in range(60)])
        assert random.mean().item() == pytest.approx(chance, abs=0.1)


def test_maps_of_no_grid_are_refused() -> None:
    for function in (grid_shares, grid_hits):
        with pytest.raises(vv.InputError, match="such as 4 or 9, not 5"):
            function(torch.rand(5, 4, 4))
        with pytest.raises(vv.InputError, match=r"heatmaps are \(B, H, W\)"):
            function(torch.rand(4, 1, 4, 4))
        with pytest.raises(vv.InputError, match="4 of 4 heatmaps hold NaN"):
            function(torch.full((4, 4, 4), math.nan))

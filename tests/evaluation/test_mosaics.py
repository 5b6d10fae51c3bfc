"""The grid pointing game: how n × n pictures are laid out, and what of a map counts for which cell."""

from __future__ import annotations

import itertools
import math
import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor

import visavis as vv
from visavis.evaluation import GridHits, GridPointing, Summary, metrics, summary
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


# -- as metrics --------------------------------------------------------------------------------------------------------


def test_the_classes_by_hand() -> None:
    maps = torch.zeros(4, 4, 4)
    maps[0, 0, 1] = 3  # in its cell, with a quarter of the relevance in the next
    maps[0, 0, 2] = 1
    maps[1, :2, 2:] = 5
    maps[2, 0, 0], maps[2, 3, 0], maps[2, 3, 1] = 2, 1, -7  # the maximum elsewhere; negative values do not count
    share, hit = GridPointing(), GridHits()
    assert share.update(maps).tolist() == pytest.approx([0.75, 1, 1 / 3, 0])
    assert hit.update(maps).tolist() == [1, 1, 0, 0]
    # A mosaic of nine cells in maps of one pixel: an inner layer that sees no cell apart.
    assert share.update(torch.ones(9, 1, 1)).tolist() == pytest.approx([1 / 9] * 9)
    assert hit.update(torch.ones(9, 1, 1)).tolist() == pytest.approx([1 / 9] * 9)
    assert share.compute().mean == pytest.approx((0.75 + 1 + 1 / 3 + 1) / 13)
    assert hit.compute().mean == pytest.approx(3 / 13)
    assert (repr(share), repr(hit)) == ("GridPointing(13 values)", "GridHits(13 values)")


def test_the_interval_is_over_mosaics() -> None:
    game, maps = GridPointing(), [torch.rand(4, 3, 3, dtype=DOUBLE) for _ in range(5)]
    values = torch.cat([game.update(one) for one in maps]).tolist()
    groups = [k for k in range(5) for _ in range(4)]
    assert game.compute() == summary(values, groups=groups)
    assert game.compute() != summary(values)
    # Of a single mosaic nothing tells how far another would be.
    game.reset()
    assert game.compute().count == 0
    game.update(maps[0])
    mean = pytest.approx(sum(values[:4]) / 4)
    found = game.compute()
    assert (found.mean, found.low, found.high, found.count) == (mean, mean, mean, 4)


def test_what_is_refused_is_not_kept() -> None:
    for game in (GridPointing(), GridHits()):
        for wrong in (torch.rand(5, 4, 4), torch.full((4, 4, 4), math.nan), torch.rand(4, 1, 4, 4)):
            with pytest.raises(vv.InputError):
                game.update(wrong)
        assert math.isnan(game.compute().mean)
        game.update(torch.ones(4, 2, 2))
        assert game.compute() == Summary(0.25, 0.25, 0.25, 4)


def test_what_the_classes_say_of_themselves() -> None:
    for cls in (GridPointing, GridHits):
        assert (cls.direction, cls.low, cls.high) == ("higher", 0, 1)
        assert "In [0, 1], higher is better" in " ".join((cls.__doc__ or "").split())
        assert "Böhle et al. 2021" in cls.source
        # No case of a data set is a mosaic, so the benchmark cannot run them.
        assert cls.title not in metrics().values()


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text("utf-8")
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "GridPointing" in code]
    state = torch.get_rng_state()
    (tmp_path / "example.py").write_text(example, "utf-8")
    game = runpy.run_path(str(tmp_path / "example.py"))["game"]
    torch.set_rng_state(state)
    assert isinstance(game, GridPointing)
    assert game.compute().count == 4
    assert capsys.readouterr().out == f"{game.compute()}\n"

"""The grid pointing game: how mosaics are laid out, dealt and scored."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis.evaluation import summary

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "grid.py"


@pytest.fixture(scope="module")
def grid() -> ModuleType:
    specification = importlib.util.spec_from_file_location("benchmark_grid", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up there
    specification.loader.exec_module(module)
    return module


def quadrants(top_left: float, top_right: float, bottom_left: float, bottom_right: float) -> Tensor:
    """A heatmap (4, 4) with one value for each cell of 2 × 2 pixels."""
    return torch.tensor([[top_left, top_right], [bottom_left, bottom_right]]).kron(torch.ones(2, 2))


def test_mosaic_reads_from_left_to_right_and_down(grid: ModuleType) -> None:
    photographs = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 4, 4)
    laid = grid.mosaic(photographs, 4)
    assert laid.shape == (1, 3, 4, 4)
    torch.testing.assert_close(laid[0], quadrants(0, 1, 2, 3).expand(3, 4, 4))


def test_mosaic_reduces_by_area(grid: ModuleType) -> None:
    photographs = torch.rand(4, 3, 8, 8)
    laid = grid.mosaic(photographs, 8)
    means = photographs.view(4, 3, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(laid[0, :, 4:, :4], means[2])


def test_mosaic_keeps_photographs_that_fit(grid: ModuleType) -> None:
    photographs = torch.rand(4, 3, 6, 6)
    assert torch.equal(grid.mosaic(photographs, 12)[0, :, 6:, 6:], photographs[3])


def test_shares_and_hits_of_known_maps(grid: ModuleType) -> None:
    heatmaps = torch.stack(
        [
            quadrants(3, 1, 0, 0),
            quadrants(1, 2, 1, -8),  # what is negative does not count
            quadrants(-1, -1, 0, 0),  # nothing positive
            quadrants(5, 0, 0, 3),
        ]
    )
    torch.testing.assert_close(grid.shares(heatmaps), torch.tensor([0.75, 0.5, 0.0, 0.375]))
    assert grid.hits(heatmaps).tolist() == [True, True, False, False]


def test_hits_find_each_cell(grid: ModuleType) -> None:
    heatmaps = torch.zeros(4, 6, 6)
    for index, (row, column) in enumerate([(2, 2), (2, 3), (3, 2), (3, 3)]):
        heatmaps[index, row, column] = 1
    assert grid.hits(heatmaps).tolist() == [True] * 4
    assert grid.hits(heatmaps.flip(0)).tolist() == [False] * 4


def test_dealt_grids_hold_four_classes_and_use_photographs_alike(grid: ModuleType) -> None:
    classes = [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    dealt = grid.deal(classes, 30, np.random.default_rng(0))
    assert len(dealt) == 30
    assert all(len({classes[index] for index in cells}) == 4 for cells in dealt)
    times = np.bincount(np.concatenate(dealt), minlength=len(classes))
    assert times.sum() == 120
    assert times.max() - times.min() <= 3
    assert dealt == grid.deal(classes, 30, np.random.default_rng(0))
    assert dealt != grid.deal(classes, 30, np.random.default_rng(1))


def test_too_few_classes_are_refused(grid: ModuleType) -> None:
    with pytest.raises(vv.InputError, match="3 classes are rightly"):
        grid.deal([1, 2, 3, 3], 2, np.random.default_rng(0))


def test_interval_of_a_mean() -> None:
    means = np.random.default_rng(0).normal(0.5, 0.1, size=400)
    found = summary(means, seed=1)
    low, high = found.low, found.high
    # A normal mean: ± 1.96 standard errors.
    error = 1.96 * means.std() / 20
    assert (low, high) == pytest.approx((means.mean() - error, means.mean() + error), abs=0.001)
    found = summary(np.full(5, 0.3), seed=1)
    assert (found.low, found.high) == pytest.approx((0.3, 0.3))


def test_players_cover_every_method_and_baselines_score_a_quarter(grid: ModuleType) -> None:
    pytest.importorskip("captum")
    module = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    module.append(nn.Linear(20, 6)).eval()
    classifier = vv.Classifier(module, bounds=(-1, 1))
    players = grid.explainers(classifier, [*vv.methods(), *grid.BASELINES], seed=0)
    # Of CLRP there are five foils, all else is there once.
    assert len(players) == len(vv.methods()) + 4 + len(grid.BASELINES)
    inputs = torch.empty(1, 3, 8, 8).uniform_(-1, 1)
    heatmaps = {title: explain(inputs, [0, 2, 3, 5]) for title, explain in players.items()}
    assert all(heatmap.shape == (4, 8, 8) for heatmap in heatmaps.values())
    torch.testing.assert_close(grid.shares(heatmaps["uniform (by construction 0.25)"]), torch.full((4,), 0.25))


def test_maps_from_one_run_equal_those_of_attribute(grid: ModuleType) -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 6)).double().eval()
    classifier = vv.Classifier(module, bounds=(-1, 1))
    inputs = torch.empty(1, 3, 8, 8, dtype=torch.float64).uniform_(-1, 1)
    classes = [4, 0, 1, 3]
    players = grid.explainers(classifier, ["clrp", "deep-taylor"], seed=0)
    batch = inputs.repeat(4, 1, 1, 1)
    in_grid = [[other for other in classes if other != target] for target in classes]
    expected = {
        "LRP, rules deep-taylor": vv.DeepTaylor(classifier),
        "CLRP, others": vv.CLRP(classifier),
        "CLRP, logits, by sum": vv.CLRP(classifier, foil="logits", normalize="sum"),
        "CLRP, classes in the grid": vv.CLRP(classifier, foil=in_grid),
    }
    for title, method in expected.items():
        maps = method.attribute(batch, target=classes).sum(1)
        assert (maps > 0).any()
        torch.testing.assert_close(players[title](inputs, classes), maps)


@pytest.mark.parametrize("content", [None, "", "file,label\na.jpg,tench\n", "file,class_index\na.jpg,tench\n"])
def test_a_broken_folder_gets_one_sentence(
    grid: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setenv("VISAVIS_DATA", str(tmp_path))
    if content is not None:
        (tmp_path / "imagenet-sample").mkdir()
        (tmp_path / "imagenet-sample" / "labels.csv").write_text(content)
    with pytest.raises(vv.InputError, match=r"labels\.csv"):
        grid.sample()


def test_without_the_variable_the_script_ends_with_one_sentence(
    grid: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISAVIS_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["grid.py"])
    with pytest.raises(SystemExit) as ended:
        grid.main()
    # A string as its code means: printed to standard error, exit status 1.
    assert str(ended.value.code).startswith("grid.py: the environment variable VISAVIS_DATA is not set; set it to")


def test_bad_arguments_are_refused(grid: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for argument, value in (("--size", "3"), ("--grids", "0"), ("--confidence", "2"), ("--output", "table.csv")):
        monkeypatch.setattr(sys, "argv", ["grid.py", argument, value])
        with pytest.raises(SystemExit) as ended:
            grid.main()
        assert str(ended.value.code).startswith(f"grid.py: {argument} ")

"""The grid pointing game on generated scenes: its networks, its mosaics and its scores."""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import jaxtyping
import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn

import visavis as vv

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scenes() -> ModuleType:
    specification = importlib.util.spec_from_file_location("benchmark_scenes", FOLDER / "scenes.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up there
    sys.path.insert(0, str(FOLDER))  # where the script finds grid.py
    try:
        specification.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


@pytest.fixture
def quiet() -> Console:
    return Console(file=io.StringIO())


class Judge(nn.Module):
    """Weighs the means of the three channels, as it is told to."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers = nn.Parameter(answers)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean((2, 3)) @ self.answers


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vit", "convnext"])
def test_networks_take_pictures_and_start_from_their_seed(scenes: ModuleType, name: str) -> None:
    first, again, other = (scenes.built(scenes.NETWORKS[name], 8, seed).eval() for seed in (0, 0, 1))
    inputs = torch.randn(2, 3, 64, 64)
    assert first(inputs).shape == (2, 8)
    assert torch.equal(first(inputs), again(inputs))
    assert not torch.equal(first(inputs), other(inputs))


def test_pictures_and_cells_show_objects_and_textures_of_one_size(scenes: ModuleType) -> None:
    pictures, cells = scenes.scenes(40, 0, 1), scenes.single_cells(40, 0)
    assert (pictures.size, cells.size) == (64, 32)
    for data in (pictures, cells):
        things = [data.scene(index).objects[0] for index in range(40)]
        for values, (low, high) in (
            ([thing.size * data.size for thing in things], scenes.SIZES),
            ([thing.texture.period * data.size for thing in things], scenes.PERIODS),
        ):
            assert max(values) <= high * 64
            assert np.mean(values) == pytest.approx((low + high) / 2 * 64, rel=0.1)


def test_a_pool_holds_the_pictures_and_shares_their_classes_alike(scenes: ModuleType, quiet: Console) -> None:
    data = scenes.scenes(12, 3, (1, 4))
    seen = scenes.pool(data, quiet)
    for index in range(12):
        item = data[index]
        assert abs(seen.pictures[index] / 255 - item.picture).max() <= 0.5 / 255 + 1e-6
        count = len(item.labels)
        expected = [1 / count if k in item.labels else 0 for k in range(len(data.names))]
        assert seen.shares[index].tolist() == pytest.approx(expected)
    assert scenes.normalised(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [*scenes.BOUNDS]


def test_accuracy_counts_pictures_whose_classes_are_the_strongest(scenes: ModuleType) -> None:
    judge = Judge(torch.tensor([[1.0, 0, 0, 9], [0, 1, 0, 9], [0, 0, 1, 9]]))
    colours = torch.tensor([[200, 100, 0], [200, 100, 0], [0, 100, 200], [200, 100, 0]], dtype=torch.uint8)
    shares = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 0.5, 0], [0.5, 0, 0.5, 0]])
    seen = scenes.Pool(colours[:, :, None, None].expand(-1, -1, 4, 4), shares)
    # Right: the strongest is the one; the strongest two are the two. Wrong: the second and the fourth.
    assert scenes.accuracy(judge, seen) == 0.5


# -- mosaics and scores ------------------------------------------------------------------------------------------------


def test_mosaics_show_four_objects_and_their_masks(scenes: ModuleType) -> None:
    found = scenes.cells(6, 0)
    inputs, mask = found.mosaic([4, 1, 5, 2])
    assert inputs.shape == (1, 3, 64, 64)
    assert mask.shape == (64, 64)
    data = scenes.single_cells(6, 3)
    for place, index in enumerate([4, 1, 5, 2]):
        rows, columns = (slice(32 * half, 32 * half + 32) for half in divmod(place, 2))
        item = data[index]
        assert torch.equal(mask[rows, columns].bool(), item.masks[0])
        torch.testing.assert_close(inputs[0, :, rows, columns], (item.picture - 0.5) / 0.25)
        assert found.classes[index] == item.label
        # Bare is the same ground without the object.
        away = ~item.masks[0]
        same = (found.bare[index] == found.inputs[index]).all(0)
        assert same[away].float().mean() > 0.85
        assert same[~away].float().mean() < 0.2


def test_cells_take_part_if_their_object_alone_is_named_confidently(scenes: ModuleType) -> None:
    found = scenes.cells(60, 0)
    judge = Judge(torch.randn(3, 8) * 10)
    kept = scenes.confident(judge, found, 0.9)
    expected = []
    for index in range(60):
        means = (found.inputs[index].mean((1, 2)) + 3 * found.bare[index].mean((1, 2))) / 4
        scores = means @ judge.answers
        expected += [index] * bool(scores.argmax() == found.classes[index] and scores.max() >= np.log(9))
    assert 0 < len(expected) < 60
    assert torch.equal(kept.inputs, found.inputs[expected])
    assert torch.equal(kept.bare, found.bare[expected])
    assert torch.equal(kept.masks, found.masks[expected])
    assert kept.classes == [found.classes[index] for index in expected]
    with pytest.raises(vv.InputError, match="no object is named rightly"):
        scenes.confident(Judge(torch.zeros(3, 8)), found, 0.9)


def test_mask_shares_of_known_maps(scenes: ModuleType) -> None:
    mask = torch.zeros(4, 4)
    mask[0, 0] = mask[0, 3] = mask[3, 0] = mask[3, 3] = 1
    heatmaps = torch.zeros(4, 4, 4)
    heatmaps[0, 0, 0], heatmaps[0, 1, 1] = 3, 1  # in the object; in its cell, beside it
    heatmaps[1, 0, 3], heatmaps[1, 0, 0], heatmaps[1, 1, 1] = 1, 1, -5  # in the own object; in another; does not count
    heatmaps[2, 0, 0] = 2  # in another
    assert scenes.mask_shares(heatmaps, mask).tolist() == [0.75, 0.5, 0.0, 0.0]


def test_a_perfect_map_scores_all_and_a_uniform_one_the_areas(scenes: ModuleType, quiet: Console) -> None:
    found = scenes.cells(40, 0)

    def perfect(inputs: Tensor, classes: list[int]) -> Tensor:
        number = next(index for index in range(1000) if torch.equal(inputs, mosaics[index][0]))
        quadrants = torch.eye(4).view(4, 2, 2).repeat_interleave(32, 1).repeat_interleave(32, 2)
        return mosaics[number][1] * quadrants

    dealt = scenes.grid.deal(found.classes, 5, np.random.default_rng(0))
    mosaics = [found.mosaic(indices) for indices in dealt]
    players = {"perfect": perfect, "uniform": lambda inputs, classes: torch.ones(4, 64, 64)}

    named = {found.classes[index] for index in dealt[0]}

    class Stubborn(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.tensor([[float(k in named) for k in range(8)]])

    (best, flat), known = scenes.play(Stubborn(), found, players, 5, 0, quiet)
    assert (best.share, best.hits, best.in_mask, best.empty, best.grids) == (1, 1, 1, 0, 5)
    assert flat.share == 0.25
    assert flat.in_mask == pytest.approx(np.mean([mask.mean() / 4 for _, mask in mosaics]), abs=1e-6)
    assert known == np.mean([{found.classes[index] for index in indices} == named for indices in dealt]) > 0


def test_players_are_the_methods_once_for_each_rule_set(scenes: ModuleType) -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 8)).double().eval()
    classifier = vv.Classifier(module, bounds=scenes.BOUNDS)
    rules = ["epsilon", "deep-taylor"]
    found = scenes.players(classifier, ["lrp", "clrp", "gradient", "uniform"], rules, 0)
    assert len(found) == 2 + 4 + 1 + 1
    inputs, classes = torch.empty(1, 3, 8, 8, dtype=torch.float64).uniform_(-2, 2), [5, 0, 1, 3]
    batch = inputs.repeat(4, 1, 1, 1)
    in_grid = [[other for other in classes if other != target] for target in classes]
    for rule in rules:
        for title, method in (
            (f"LRP, rules {rule}", vv.LRP(classifier, rules=rule)),
            (f"CLRP, others, rules {rule}", vv.CLRP(classifier, rules=rule)),
            (f"CLRP, classes in the grid, rules {rule}", vv.CLRP(classifier, rules=rule, foil=in_grid)),
        ):
            expected = method.attribute(batch, target=classes).sum(1)
            assert (expected > 0).any()
            torch.testing.assert_close(found[title](inputs, classes), expected)
    alone = scenes.players(classifier, ["lrp"], [None], 0)
    torch.testing.assert_close(
        alone["LRP"](inputs, classes), vv.LRP(classifier).attribute(batch, target=classes).sum(1)
    )


# -- runs --------------------------------------------------------------------------------------------------------------


def _tiny(scenes: ModuleType) -> dict[str, object]:
    return {name: replace(network, steps=2, pictures=24) for name, network in scenes.NETWORKS.items()}


def test_weights_are_kept_and_found_and_only_if_they_are_the_right_ones(
    scenes: ModuleType, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "NETWORKS", _tiny(scenes))
    monkeypatch.setattr(scenes, "BATCH", 4)
    folder = tmp_path / "new" / "weights"
    made = scenes.trained("convnext", folder, 0, quiet)
    assert not made.training
    assert [path.name for path in folder.iterdir()] == ["convnext.safetensors"]
    monkeypatch.setattr(scenes, "train", None)  # nothing is trained again
    found = scenes.trained("convnext", folder, 0, quiet)
    assert not found.training
    for key, value in found.state_dict().items():
        assert torch.equal(value, made.state_dict()[key])
    with pytest.raises(vv.InputError, match="was trained otherwise"):
        scenes.trained("convnext", folder, 1, quiet)
    path = folder / "convnext.safetensors"
    recipe = scenes.safe_open(path, "pt").metadata()
    save_file({"weight": torch.ones(1)}, path, recipe)
    with pytest.raises(vv.InputError, match="holds no weights of this network"):
        scenes.trained("convnext", folder, 0, quiet)
    path.write_bytes(b"no weights")
    with pytest.raises(vv.InputError, match="holds no weights of this network"):
        scenes.trained("convnext", folder, 0, quiet)


def test_training_is_seeded(scenes: ModuleType, quiet: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "BATCH", 4)
    network = _tiny(scenes)["vit"]
    first = scenes.train(network, 0, quiet).state_dict()
    torch.rand(3)
    again, other = (scenes.train(network, seed, quiet).state_dict() for seed in (0, 1))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the checks of annotations."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["vit", "convnext"])
def test_the_contrast_points_where_plain_relevance_does_not(scenes: ModuleType, tmp_path: Path, name: str) -> None:
    arguments = argparse.Namespace(
        folder=tmp_path / "weights",
        models=[name],
        rules=None,
        methods=["lrp", "clrp"],
        grids=10,
        confidence=0.9,
        held_out=200,
        seed=0,
        output=tmp_path / "table.json",
    )
    scenes.run(arguments, Console(file=io.StringIO(), width=160))
    (network,) = json.loads(arguments.output.read_text())["networks"]
    shares = {score["method"]: score["share"] for score in network["scores"]}
    assert shares["CLRP, others"] >= 0.85
    assert shares["LRP"] <= 0.75


@pytest.mark.slow
def test_a_run_prints_and_writes_its_tables(
    scenes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "NETWORKS", _tiny(scenes))
    monkeypatch.setattr(scenes, "BATCH", 4)
    monkeypatch.setattr(scenes, "confident", lambda module, found, threshold: found)
    arguments = argparse.Namespace(
        folder=tmp_path / "weights",
        models=["convnext"],
        rules=None,
        methods=["gradient", "uniform"],
        grids=4,
        confidence=0.0,
        held_out=12,
        seed=0,
        output=tmp_path / "table.json",
    )
    printed = io.StringIO()
    scenes.run(arguments, Console(file=printed, width=160))
    assert "Gradient" in printed.getvalue()
    written = json.loads((tmp_path / "table.json").read_text())
    assert [network["network"] for network in written["networks"]] == ["convnext"]
    for network in written["networks"]:
        assert network["cells"] == 1
        assert network["scores"][1]["share"] == 0.25
    arguments.output = tmp_path / "table.md"
    scenes.run(arguments, Console(file=io.StringIO()))
    table = arguments.output.read_text()
    assert "| uniform (by construction 0.25) | 0.250 | 0.250 to 0.250 |" in table
    assert "python benchmarks/scenes.py FOLDER --models convnext --methods gradient uniform --grids 4" in table


def test_bad_arguments_are_refused(scenes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for argument, value in (
        ("--grids", "1"),
        ("--held-out", "0"),
        ("--seed", "-1"),
        ("--confidence", "2"),
        ("--output", "table.csv"),
    ):
        monkeypatch.setattr(sys, "argv", ["scenes.py", str(tmp_path), argument, value])
        with pytest.raises(SystemExit) as ended:
            scenes.main()
        assert str(ended.value.code).startswith(f"scenes.py: {argument} ")

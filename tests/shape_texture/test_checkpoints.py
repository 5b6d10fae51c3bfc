"""Dimensionality over the checkpoints of a training run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from visavis.classifier import Classifier
from visavis.datasets.generated import Scenes
from visavis.errors import InputError, ModelError
from visavis.shape_texture.checkpoints import by_layer, checkpoint_dimensionality, checkpoints_in
from visavis.shape_texture.encoded import layer_dimensionality
from visavis.shape_texture.pairs import ScenePairs

PAIRS = ScenePairs(6, scenes=Scenes(1, size=12), seed=1)


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)).eval()


def test_checkpoints_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("epoch-10.pt", "epoch-9.pth", "epoch-1.safetensors", "notes.txt", ".hidden.pt"):
        (tmp_path / name).write_bytes(b"")
    assert [(one.name, one.step) for one in checkpoints_in(tmp_path)] == [
        ("epoch-1", 1),
        ("epoch-9", 9),
        ("epoch-10", 10),
    ]
    (tmp_path / "last.pt").write_bytes(b"")
    assert checkpoints_in(tmp_path)[-1].step is None


def test_a_folder_without_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoints.*empty"):
        checkpoints_in(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        checkpoints_in(tmp_path / "none")


@pytest.mark.parametrize("wrapped", [False, True])
def test_each_checkpoint_is_measured_and_the_model_is_left(tmp_path: Path, wrapped: bool) -> None:
    for step in (1, 2):
        state = network(step).state_dict()
        if step == 1:
            save_file(state, tmp_path / "step-1.safetensors")
        else:
            torch.save({"state_dict": state, "epoch": 2}, tmp_path / "step-2.pt")
    model = network(0)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    told: list[tuple[int, int, str]] = []
    found = checkpoint_dimensionality(
        Classifier(model) if wrapped else model,
        checkpoints_in(tmp_path),
        ["0", "1"],
        PAIRS,
        draws=10,
        progress=lambda *one: told.append(one),
    )
    assert list(found) == ["step-1", "step-2"]
    assert told == [(0, 2, "step-1"), (1, 2, "step-2"), (2, 2, "step-2")]
    for step in (1, 2):
        expected = layer_dimensionality(network(step), ["0", "1"], PAIRS, draws=10)
        for path, one in expected.items():
            assert torch.equal(found[f"step-{step}"][path].shares, one.shares)
            assert torch.equal(found[f"step-{step}"][path].low, one.low)
    assert not torch.equal(found["step-1"]["0"].shares, found["step-2"]["0"].shares)
    turned = by_layer(found)
    assert list(turned) == ["0", "1", "all"]
    assert turned["1"][1] is found["step-2"]["1"]
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(2)}, tmp_path / "1.safetensors")
    model = network(0)
    before = {name: one.clone() for name, one in model.state_dict().items()}
    with pytest.raises(ModelError, match="do not fit"):
        checkpoint_dimensionality(model, checkpoints_in(tmp_path), ["0"], PAIRS)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    save_file({"other": torch.zeros(2)}, tmp_path / "1.pt")
    with pytest.raises(InputError, match="one name"):
        checkpoint_dimensionality(model, checkpoints_in(tmp_path), ["0"], PAIRS)
    with pytest.raises(InputError, match="no checkpoints"):
        checkpoint_dimensionality(model, [], ["0"], PAIRS)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside.pt", tmp_path / "run"
    folder.mkdir()
    torch.save(network(1).state_dict(), outside)
    torch.save(network(1).state_dict(), folder / "epoch-1.pt")
    (folder / "last.pt").symlink_to(folder / "epoch-1.pt")
    assert [one.name for one in checkpoints_in(folder)] == ["epoch-1", "last"]
    (folder / "epoch-2.pt").symlink_to(outside)
    with pytest.raises(InputError, match="leads out of"):
        checkpoints_in(folder)


def test_a_checkpoint_that_diverged_is_named(tmp_path: Path) -> None:
    state = network(1).state_dict()
    state["0.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, tmp_path / "epoch-3.safetensors")
    with pytest.raises(ModelError, match=r"epoch-3\.safetensors' hold NaN or infinity, in '0\.weight'"):
        checkpoint_dimensionality(network(0), checkpoints_in(tmp_path), ["0"], PAIRS)

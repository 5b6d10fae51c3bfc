"""The study of units as a run: it finds what the library finds, and can be cut anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

import visavis as vv
from visavis.datasets import SHAPES, FolderDataset, SceneDataset, Scenes
from visavis.errors import InputError, ModelError, OutputError
from visavis.unit_runs import run as runs
from visavis.unit_runs import study
from visavis.unit_runs.run import Found
from visavis.units import Layer, ablate, activations, attribute, attributes, orders
from visavis.units.ablation import SUMS

COUNT = 10


def network(seed: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, len(SHAPES))
    module = nn.Sequential(*layers).eval()
    nn.init.normal_(module[4].weight, std=20)
    return module


def classifier(module: nn.Module | None = None) -> vv.Classifier:
    def preprocess(picture: PIL.Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 255 - 0.5)

    return vv.Classifier(module or network(), labels=list(SHAPES), preprocess=preprocess, name="small")


def scenes(count: int = COUNT) -> SceneDataset:
    return SceneDataset(Scenes(count, size=24, seed=3))


def studied(folder: Path, **options: Any) -> Found:
    return study(scenes(), classifier(), "1", folder, **{"batch": 4, **options})


def as_tensors(data: SceneDataset) -> tuple[torch.Tensor, torch.Tensor]:
    prepared = classifier()
    samples = [data[index] for index in range(len(data))]
    labels = torch.tensor([list(SHAPES).index(str(one.label)) for one in samples])
    return torch.cat([prepared.prepare(one.load()) for one in samples]), labels


def same(one: Any, other: Any) -> bool:
    """Whether two results hold the same bits."""
    for field in fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        pairs = zip(first, second, strict=True) if isinstance(first, tuple) else [(first, second)]
        for a, b in pairs:
            if isinstance(a, torch.Tensor):
                if not torch.equal(a, b):
                    return False
            elif hasattr(a, "__dataclass_fields__"):
                if not same(a, b):
                    return False
            elif a != b:
                return False
    return True


def same_found(one: Found, other: Found) -> bool:
    curves = all(same(one.curves[name], other.curves[name]) for name in one.curves)
    rest = (one.counts, one.passed, one.chosen) == (other.counts, other.passed, other.chosen)
    return same(one.singly, other.singly) and same(one.activations, other.activations) and curves and rest


def test_it_finds_what_the_library_finds(tmp_path: Path) -> None:
    found = studied(tmp_path / "out")
    data = as_tensors(scenes())
    expected = ablate(network(), "1", data)
    for name in SUMS:
        assert_close(getattr(found.singly, name), getattr(expected, name), rtol=1e-5, atol=1e-6)
    assert float(expected.lost.sum()) > 0
    seen = activations(network(), "1", data)
    for one in attributes():
        if one.name != "alignment":
            assert_close(one.of(found.activations), one.of(seen), rtol=1e-5, atol=1e-6)
    assert found.units == tuple(range(6))
    assert found.counts == (0, 1, 2, 4, 6)
    order = orders(attribute("correlation").of(found.activations))["descending"]
    assert found.curves["descending"].sets == tuple(order[:count] for count in found.counts)
    assert found.curves["descending"].accuracies[1] == expected.accuracies[order[0]]
    drawn = found.curves["random"].sets
    assert len(drawn) == runs.DRAWS * 5
    assert len({drawn[place * 5 + 3] for place in range(runs.DRAWS)}) > 1
    assert {name: float(one.accuracies[0]) for name, one in found.curves.items()} == dict.fromkeys(
        ("descending", "ascending", "random"), expected.accuracy
    )


def test_some_units_and_to_the_mean(tmp_path: Path) -> None:
    found = studied(tmp_path / "out", units=[4, 1], value="mean", order="maximum", limit=7, seed=2)
    assert found.singly.sets == ((4,), (1,))
    assert int(found.singly.counts.sum()) == len(found.chosen) == 7
    inputs, labels = as_tensors(scenes())
    some = list(found.chosen)
    expected = ablate(network(), "1", (inputs[some], labels[some]), units=[4, 1], value="mean")
    assert_close(found.singly.confidence_drops, expected.confidence_drops, rtol=1e-4, atol=1e-6)
    assert study(scenes(), classifier(), None, tmp_path / "third", batch=4).layer.path == "2"


@pytest.mark.parametrize("cut", [1, 2, 4, 6, 9])
def test_cut_anywhere(tmp_path: Path, cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = studied(tmp_path / "whole")
    monkeypatch.setattr(runs, "_SECONDS", 0.0)
    told: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, what: str) -> None:
        told.append((done, total, what))
        if len(told) == cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        studied(tmp_path / "out", progress=progress)
    before = len(told)
    assert same_found(studied(tmp_path / "out", progress=lambda *words: told.append(words)), whole)
    assert told[-1][0] == told[-1][1] == COUNT * (1 + 6 + 5 * (2 + runs.DRAWS))
    assert len(told) - before == 9 - (cut - 1)  # only the batch that was cut is gone through again
    again: list[Any] = []
    assert same_found(studied(tmp_path / "out", progress=lambda *words: again.append(words)), whole)
    assert again == []


def test_a_damaged_state_is_made_again(tmp_path: Path) -> None:
    whole = studied(tmp_path / "out")
    state = tmp_path / "out" / "state" / "singly.safetensors"
    content = state.read_bytes()
    for broken in (content[:100], b"", content[:-50] + b"x" * 30):
        state.write_bytes(broken)
        assert same_found(studied(tmp_path / "out"), whole)
        assert state.read_bytes() == content


#: Changes the words and tensors of a state.
Forge = Callable[[dict[str, Any], dict[str, torch.Tensor]], None]


def words_of(change: dict[str, Any]) -> Forge:
    return lambda words, tensors: words.update(change)


def tensor_of(
    name: str, change: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    return lambda words, tensors: tensors.update({name: change(tensors[name])})


@pytest.mark.parametrize(
    ("part", "forge"),
    [
        ("singly", words_of({"done": -4})),
        ("singly", words_of({"done": 4})),
        ("singly", words_of({"done": True})),
        ("singly", words_of({"done": float("inf")})),
        ("singly", words_of({"done": 11})),
        ("singly", words_of({"passed": [["a", "b"]]})),
        ("singly", lambda words, tensors: words["ablation"].update(sets=[[5], [4], [3], [2], [1], [0]])),
        ("singly", lambda words, tensors: words["ablation"].update(sets=[[0]])),
        ("singly", lambda words, tensors: words.pop("ablation")),
        ("singly", tensor_of("ablation.lost", lambda one: one + 10**15)),
        ("singly", tensor_of("ablation.lost", lambda one: one.bool())),
        ("singly", tensor_of("ablation.lost", lambda one: one[:3])),
        ("singly", tensor_of("ablation.counts", lambda one: -one)),
        ("singly", tensor_of("ablation.right", lambda one: one + 999)),
        ("singly", tensor_of("ablation.less_confident", lambda one: one * torch.nan)),
        ("singly", tensor_of("ablation.less_confident", lambda one: one + 1e308)),
        ("activations", tensor_of("activations.maximum", lambda one: one[:3])),
        ("activations", tensor_of("activations.moments.highs.0", lambda one: one[:3])),
        ("activations", tensor_of("activations.moments.means.0", lambda one: one * torch.nan)),
        ("activations", tensor_of("activations.counts", lambda one: one * 2)),
        ("activations", lambda words, tensors: words["activations"].update(positions="x")),
        ("activations", lambda words, tensors: words.pop("activations")),
        ("activations", lambda words, tensors: words.update(ablation={})),
    ],
)
def test_a_forged_state_is_made_again(tmp_path: Path, part: str, forge: Forge) -> None:
    whole = studied(tmp_path / "out")
    state = tmp_path / "out" / "state" / f"{part}.safetensors"
    content = state.read_bytes()
    with safe_open(state, "pt") as file:
        words = json.loads(file.metadata()["visavis"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    forge(words, tensors)
    save_file({key: one.contiguous() for key, one in tensors.items()}, state, {"visavis": json.dumps(words)})
    assert same_found(studied(tmp_path / "out"), whole)
    assert state.read_bytes() == content


def test_what_is_wrong_is_said_before_anything_is_kept(tmp_path: Path) -> None:
    """And the same folder does for the words put right."""
    with pytest.raises(InputError, match="no unit 99"):
        studied(tmp_path / "out", units=[0, 99])
    with pytest.raises(InputError, match="after the ReLU"):
        study(scenes(), classifier(), "0", tmp_path / "out", order="selectivity", batch=10)
    with pytest.raises(InputError, match="needs masks"):
        studied(tmp_path / "out", order="alignment")
    assert studied(tmp_path / "out", units=[0]).units == (0,)


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = ["file,label"]
    for index in range(5):
        sample = scenes()[index]
        sample.load().save(folder / f"{index}.png")
        rows.append(f"{index}.png,{sample.label}")
    (folder / "2.png").write_bytes(b"no picture")
    rows.append("missing.png,disc")
    PIL.Image.new("RGB", (24, 24)).save(folder / "other.png")
    rows.append("other.png,zeppelin")
    (folder / "labels.csv").write_text("\n".join(rows))
    found = study(FolderDataset(folder), classifier(), "1", tmp_path / "out", batch=2)
    assert int(found.singly.counts.sum()) == 4
    assert [name for name, _ in found.passed] == ["2.png", "missing.png", "other.png"]
    assert "no class 'zeppelin'" in found.passed[2][1]
    (folder / "labels.csv").write_text("file,label\n2.png,disc\nmissing.png,star\n")
    with pytest.raises(InputError, match=r"none of the 2 pictures of .* can be used, as 2\.png"):
        study(FolderDataset(folder), classifier(), "1", tmp_path / "none")


def test_refusals(tmp_path: Path) -> None:
    studied(tmp_path / "out")
    with pytest.raises(InputError, match="another run: layer was 1 and is 0"):
        study(scenes(), classifier(), "0", tmp_path / "out", batch=4)
    with pytest.raises(InputError, match="the weights of the model are not those"):
        study(scenes(), classifier(network(6)), "1", tmp_path / "out", batch=4)
    with pytest.raises(InputError, match="no attribute 'beauty'"):
        studied(tmp_path / "new", order="beauty")
    with pytest.raises(InputError, match="zero or mean, not by 'one'"):
        studied(tmp_path / "new", value="one")
    with pytest.raises(InputError, match="at least 1, not 0"):
        studied(tmp_path / "new", batch=0)
    with pytest.raises(InputError, match="no unit 9"):
        studied(tmp_path / "new", units=[9])
    with pytest.raises(InputError, match="there is no layer 'nowhere'"):
        study(scenes(), classifier(), "nowhere", tmp_path / "new")
    with pytest.raises(ModelError, match="training mode"):
        study(scenes(), classifier(network().train()), "1", tmp_path / "new")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(InputError, match="holds other files"):
        studied(tmp_path / "full")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        studied(tmp_path / "file")


def test_heads(tmp_path: Path) -> None:
    torch.manual_seed(0)

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, 8)
            self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
            self.head = nn.Linear(8, len(SHAPES))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1) * 50)

    module = Attends().eval()
    for value in ("zero", "mean"):
        layer = Layer("attention", heads=True)
        found = study(scenes(), classifier(module), layer, tmp_path / value, value=value, order="maximum")
        expected = ablate(module, layer, as_tensors(scenes()), value=value)
        assert len(found.units) == 4
        assert_close(found.singly.confidence_drops, expected.confidence_drops, rtol=1e-4, atol=1e-6)

"""Variants of CLRP: what is changed, on which cases, and how they are scored."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

import visavis as vv
from benchmarks.scripts import script
from visavis.evaluation import Case

SIDE = 24
NAMES = ["cat", "dog", "cup", *(f"class {index}" for index in range(3, 14))]


@pytest.fixture(scope="module")
def variants() -> ModuleType:
    return script("variants")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, len(NAMES)),
    ).eval()


def prepared(picture: PIL.Image.Image) -> Tensor:
    small = picture.resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(small, dtype=np.float32) / 255).permute(2, 0, 1)


def classifier() -> vv.Classifier:
    return vv.Classifier(network(), preprocess=prepared, labels=NAMES, bounds=(0.0, 1.0), name="small")


def ramp(inputs: Tensor, classes: list[int]) -> Tensor:
    """A map that rises from left to right, times the class."""
    height, width = inputs.shape[2:]
    return torch.stack([index * torch.arange(width).float().expand(height, -1) for index in classes])


# -- what is varied ----------------------------------------------------------------------------------------------------


def test_an_enlarged_map_adds_up_to_what_was_found(variants: ModuleType) -> None:
    inputs = torch.zeros(1, 3, 4, 6)
    found = variants.enlarged(ramp, 2)(inputs, [1, 3])
    # Pixel 0 has become the columns 0 and 1 in two rows each: 2 · (0 + 1) = 2; pixel 1: 2 · (2 + 3) = 10; and so on.
    assert found[0].tolist() == [[2.0, 10.0, 18.0, 26.0, 34.0, 42.0]] * 4
    assert torch.equal(found[1], 3 * found[0])
    seen: list[tuple[int, ...]] = []

    def explain(inputs: Tensor, classes: list[int]) -> Tensor:
        seen.append(tuple(inputs.shape))
        return inputs.sum(1).expand(len(classes), -1, -1)

    picture = torch.rand(1, 3, 8, 8)
    result = variants.enlarged(explain, 1.5)(picture, [0])
    wide = F.interpolate(picture, (12, 12), mode="bilinear", align_corners=False)
    assert seen == [(1, 3, 12, 12)]
    torch.testing.assert_close(result.sum(), wide.sum())


def test_maps_are_averaged_by_their_size_mirrored_squared_and_blurred(variants: ModuleType) -> None:
    one, other = torch.tensor([[[3.0, -1.0]]]), torch.tensor([[[0.0, 10.0]]])
    mean = variants.averaged(lambda inputs, classes: one, lambda inputs, classes: other)(torch.zeros(1), [0])
    assert mean.tolist() == [[[0.375, 0.375]]]
    nothing = variants.averaged(lambda inputs, classes: 0 * one)(torch.zeros(1), [0])
    assert nothing.tolist() == [[[0.0, 0.0]]]
    assert variants.squared(lambda inputs, classes: one)(torch.zeros(1), [0]).tolist() == [[[9.0, 0.0]]]

    def marked(inputs: Tensor, classes: list[int]) -> Tensor:
        return inputs[:, 0]

    picture = torch.tensor([1.0, 0.0, 0.0, 3.0]).view(1, 1, 1, 4)
    assert variants.mirrored(marked)(picture, [0]).tolist() == [[[0.25, 0.0, 0.0, 0.75]]]
    left = variants.mirrored(lambda inputs, classes: torch.tensor([[[1.0, 0.0]]]))(picture[..., :2], [0])
    assert left.tolist() == [[[0.5, 0.5]]]
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = -1
    blurred = variants.blurred(lambda inputs, classes: point, 2.0)(torch.zeros(1), [0])
    offsets = torch.arange(41) - 20
    bell = torch.exp(-(offsets.double() ** 2) / 8)
    expected = -torch.outer(bell, bell) / bell.sum() ** 2
    torch.testing.assert_close(blurred[0].double(), expected, rtol=2e-3, atol=1e-5)


def test_foils_by_hand(variants: ModuleType) -> None:
    outputs = torch.tensor([[1.0, 4.0, 2.0, 3.0]])
    assert variants.strongest(2)(outputs).tolist() == [[0.0, 1.0, 0.0, 1.0]]
    powers = [float(np.exp(value / 2)) for value in (1, 4, 2, 3)]
    torch.testing.assert_close(variants.tempered(2.0)(outputs), torch.tensor([powers]) / sum(powers))


@pytest.mark.slow
def test_the_paper_s_and_the_preset_are_the_library_s(variants: ModuleType) -> None:
    model, inputs = classifier(), torch.rand(1, 3, SIDE, SIDE)
    tried = variants.variants(model)
    for title, method in (
        ("**the paper's: others, z⁺**", vv.CLRP(model, signed=True)),
        ("**CLRP-γ: γ 1, softmax**", vv.CLRPGamma(model, signed=True)),
        (
            "**CLRP-γ, several sizes: the same, × 1 counting 3 to 2**",
            vv.CLRPScales(model, signed=True),
        ),
    ):
        expected = method.attribute(inputs.expand(2, -1, -1, -1), [0, 2]).sum(1)
        torch.testing.assert_close(tried[title](inputs, [0, 2]), expected)
    maps = {title: explain(inputs, [1]) for title, explain in tried.items()}
    for title, found in maps.items():
        assert found.shape == (1, SIDE, SIDE), title
        assert found.isfinite().all(), title
    assert not any("alone" in title for title in maps)  # it has none of EfficientNet's stages
    # In a network of ReLUs, with one dense layer and without a sum of two activations, these change nothing.
    same = {"rules attention", "same-sign sums", "γ 1, same-sign sums, softmax", "γ 1, signed sums, softmax"}
    others = [title for title in maps if title not in same]
    for index, title in enumerate(others):
        for other in others[index + 1 :]:
            assert not torch.allclose(maps[title], maps[other], rtol=1e-3, atol=0), (title, other)


# -- cases and scores --------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three pictures: a small cat beside a dog, a large cat, a class that the model has not."""
    boxes = {
        "a": [("cat", 0, 0, 10, 10), ("dog", 10, 10, 48, 48)],
        "b": [("cat", 0, 0, 48, 48)],
        "c": [("kite", 0, 0, 5, 5)],
    }
    names = ["cat", "dog", "kite"]
    images = [{"id": index, "file_name": f"{name}.png", "width": 48, "height": 48} for index, name in enumerate(boxes)]
    annotations = [
        {
            "id": len(names) * index + number,
            "image_id": index,
            "category_id": names.index(label),
            "bbox": [x, y, w - x, h - y],
        }
        for index, several in enumerate(boxes.values())
        for number, (label, x, y, w, h) in enumerate(several)
    ]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in enumerate(names)],
    }
    folder = tmp_path / "coco128-train"
    (folder / "images").mkdir(parents=True)
    (folder / "instances.json").write_text(json.dumps(content))
    chance = np.random.default_rng(0)
    for image in images:
        pixels = chance.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "images" / str(image["file_name"]))
    (tmp_path / "imagenet-sample").mkdir()
    (tmp_path / "imagenet-sample" / "labels.csv").write_text("file,class_index\na.jpg,0\n")
    return tmp_path


def test_small_objects_are_difficult_and_recognised(variants: ModuleType, data: Path) -> None:
    quiet = Console(file=io.StringIO())
    (cases,) = variants.small_objects(classifier(), data / "coco128-train", quiet)
    assert [case.name for case in cases] == ["a.png#cat"]
    module = network()
    with torch.no_grad():
        module[-1].bias[0] -= 50  # the cat gets no probability
    blind = vv.Classifier(module, preprocess=prepared, labels=NAMES, bounds=(0.0, 1.0), name="blind")
    assert variants.small_objects(blind, data / "coco128-train", quiet) == []


def test_scores_by_hand(variants: ModuleType) -> None:
    heat = torch.zeros(4, 4, 4)
    heat[0, 0, 0] = heat[1, 0, 3] = heat[2, 0, 0] = 1.0
    heat[0, 3, 3], heat[3] = 3.0, -1.0  # of class 0 a quarter in its cell; of class 1 all; of the others nothing
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    cases = [
        Case("a#0", torch.zeros(1, 3, 4, 4), 0, box, picture="a"),
        Case("a#1", torch.zeros(1, 3, 4, 4), 1, box, picture="a"),
    ]
    row = variants.measured(
        "known", lambda inputs, classes: heat[: len(classes)], [(torch.zeros(1, 3, 4, 4), [0, 1, 2, 3])], [cases]
    )
    assert row.share.mean == pytest.approx((0.25 + 1 + 0 + 0) / 4)
    assert row.hits.mean == pytest.approx(1 / 4)
    assert row.energy.mean == pytest.approx((0.25 + 0) / 2)
    assert row.pointing.mean == 1.0  # everything is within 15 pixels
    assert (row.energy.low, row.energy.high, row.energy.count) == (row.energy.mean, row.energy.mean, 2)


def test_a_run_writes_its_table(
    variants: ModuleType,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VISAVIS_DATA", str(data))
    monkeypatch.setattr(vv, "load_model", lambda name, device: classifier())
    found = variants.grid.Photographs(torch.rand(5, 3, SIDE, SIDE), [0, 1, 2, 3, 4])
    monkeypatch.setattr(variants.grid, "confident", lambda *given: found)
    place = tmp_path / "table.md"
    arguments: list[str] = ["--grids", "2", "--size", "24", "--only", "CLRP-γ:", "squared", "--output"]

    def run(*given: str) -> str:
        monkeypatch.setattr("sys.argv", ["variants.py", *given])
        variants.main()
        return capsys.readouterr().out

    assert "CLRP-γ: γ 1, softmax" in run(*arguments, str(place))
    lines = place.read_text().splitlines()
    assert lines[0].startswith("efficientnet_lite0: 2 mosaics of 24 px, 1 small objects in 1 pictures of COCO.")
    assert [line.split(" | ")[0] for line in lines[4:7]] == [
        "| **CLRP-γ: γ 1, softmax**",
        "| the paper's, map squared",
        "| CLRP-γ, map squared",
    ]
    run(*arguments, str(place.with_suffix(".json")))
    content: dict[str, Any] = json.loads(place.with_suffix(".json").read_text())
    model = classifier()
    (cases,) = variants.small_objects(model, data / "coco128-train", Console(file=io.StringIO()))
    row = variants.measured("", variants.variants(model)["**CLRP-γ: γ 1, softmax**"], [], [cases])
    assert content["rows"][0]["energy"]["mean"] == pytest.approx(row.energy.mean, rel=1e-6)
    with pytest.raises(SystemExit, match=r"variants\.py: no variant has nothing of the kind in its title"):
        run("--only", "nothing of the kind")
    with pytest.raises(SystemExit, match=r"--grids is a number of at least 1, not 0"):
        run("--grids", "0")

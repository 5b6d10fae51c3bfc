"""Shape and texture of an ImageNet network: the pairs that are kept, cue conflict, a tiny run, and the page."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from rich.console import Console

import visavis as vv
from benchmarks.scripts import script
from visavis.datasets.registry import open_dataset
from visavis.shape_texture import ScenePairs


@pytest.fixture(scope="module")
def photographs() -> ModuleType:
    return script("shape_texture_photographs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of noise: two of shapes, two of textures."""
    place = tmp_path_factory.mktemp("photographs")
    rows = ["file,wnid"]
    for number, wnid in enumerate(("n02391049", "n02504458", "n03598930", "n03000247")):
        noise = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).resize((260, 250), PIL.Image.Resampling.BICUBIC).save(place / f"{number}.png")
        rows.append(f"{number}.png,{wnid}")
    (place / "labels.csv").write_text("\n".join(rows))
    return place


def test_pairs_are_kept_as_bytes(photographs: ModuleType) -> None:
    pairs = ScenePairs(3, seed=1)
    kept = photographs.Kept(pairs, Console(file=io.StringIO()))
    for factor in ("shape", "texture"):
        assert kept.count(factor) == 3
        for index in range(3):
            for one, other in zip(kept.pair(factor, index), pairs.pair(factor, index), strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=0.5 / 255 + 1e-6)


def test_cue_conflicts_have_the_shape_of_one_class_and_the_texture_of_another(
    photographs: ModuleType, folder: Path
) -> None:
    dataset = open_dataset(f"folder:{folder}?label=wnid")
    asked: list[Any] = []

    def transfer(content: Any, texture: Any, mask: Any) -> Any:
        asked.append((content, texture))
        return content

    found = photographs.LaidOut(dataset, [2, 3], 2, transfer)
    assert len(found) == 2
    assert found.cues(0) == ("n02391049", "n03598930")
    assert found.cues(1) == ("n02504458", "n03000247")
    item = found[1]
    assert (item.shape, item.texture, item.name) == ("n02504458", "n03000247", "1.png")
    assert asked[0][0].shape == (3, 224, 224)
    assert torch.equal(item.picture, asked[0][0])


def test_classes_that_are_not_there_are_refused(photographs: ModuleType, folder: Path) -> None:
    with pytest.raises(SystemExit, match="0 pictures of the classes that --textures names"):
        photographs.main([f"folder:{folder}?label=wnid", "--textures", "n01440764"])
    with pytest.raises(SystemExit, match="both --encoder and --decoder"):
        photographs.main([f"folder:{folder}?label=wnid", "--encoder", "vgg.pth"])


@pytest.mark.slow
def test_a_run_and_its_page(photographs: ModuleType, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("As expected.\n")
    words = ["--pairs", "2", "--json", str(tmp_path / "run.json"), "--page", str(tmp_path / "run.md")]
    photographs.main([f"folder:{folder}?label=wnid", *words, "--notes", str(tmp_path / "notes.md")])
    document = json.loads((tmp_path / "run.json").read_text("utf-8"))
    text = (tmp_path / "run.md").read_text("utf-8")
    assert set(document["dimensions"]) == {"generated textures", "textures of photographs"}
    check(document, text)
    assert text.endswith("As expected.\n")
    assert (tmp_path / "run-1.svg").exists()


def test_the_page_says_what_was_measured() -> None:
    root = Path(vv.__file__).parents[2]
    document = json.loads((root / "benchmarks/measured/shape-texture-photographs.json").read_text("utf-8"))
    text = (root / "docs/shape-texture-photographs.md").read_text("utf-8")
    check(document, text)
    notes = (root / "benchmarks/measured/shape-texture-photographs-notes.md").read_text("utf-8")
    assert text.endswith(notes)
    stages = document["dimensions"]["textures of photographs"]
    said = [float(number) / 100 for number in re.findall(r"(\d+\.\d) %", notes)]
    for weights in ("ImageNet weights", "random weights"):
        for layer in ("blocks.0", "bn2"):
            for factor in ("texture", "shape"):
                assert min(abs(stages[weights][layer][factor]["share"] - one) for one in said) < 6e-4
    assert f"{document['bias']['decisions'][2]} of 200 decisions are for neither class" in notes


def check(document: dict[str, Any], text: str) -> None:
    """Compare the table of a page with the numbers."""
    for name, of in document["dimensions"].items():
        for which, each in of.items():
            for path, one in each.items():
                row = next(line for line in text.splitlines() if line.startswith(f"| {name} | {which} | `{path}` |"))
                said = [float(number) for number in re.findall(r"(\d+\.\d)%", row)]
                numbers = [
                    100 * one[factor][key] for factor in ("shape", "texture") for key in ("share", "low", "high")
                ]
                np.testing.assert_allclose(said, numbers, atol=0.06)

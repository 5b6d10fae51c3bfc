"""The code on docs/shape-texture.md runs as it stands there, and says what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pages
from visavis.datasets.generated import Scenes
from visavis.shape_texture import SceneConflicts


def test_the_code_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = pages.run_block("shape-texture.md", "layer_dimensionality", {})
    said = re.search(r"print\(found.*# (.*)$", (pages.DOCS / "shape-texture.md").read_text("utf-8"), re.MULTILINE)
    assert said is not None
    assert capsys.readouterr().out.strip() == said[1]
    names = pages.run_block("shape-texture.md", "random_encoder(model)", names)
    assert names["read"].predict(names["test"][0][0][None]).shape == (1, 64, 64)
    folder = tmp_path / "stimuli" / "style-transfer-preprocessed-512" / "airplane"
    folder.mkdir(parents=True)
    scene = SceneConflicts(1, {"a": ("disc", "dots"), "b": ("star", "checks")}, scenes=Scenes(1, size=64))[0]
    scene.image().save(folder / "airplane1-bicycle2.png")
    monkeypatch.chdir(tmp_path)
    names = pages.run_block("shape-texture.md", "conflict_figure([maps])", names)
    assert names["maps"].shape.category == "airplane"
    assert "of 1 decisions" in capsys.readouterr().out

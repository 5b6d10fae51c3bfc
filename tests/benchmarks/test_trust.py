"""What maps depend on: runs on tiny networks, and each column against a computation of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import jaxtyping
import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.stats import spearmanr

import visavis as vv
from benchmarks.scripts import script
from visavis.evaluation import MethodExplainer
from visavis.evaluation.sanity import RandomizedModel


@pytest.fixture(scope="module")
def trust() -> ModuleType:
    return script("trust")


@pytest.fixture
def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture
def tiny(trust: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    networks = {name: replace(network, steps=3, pictures=24) for name, network in trust.scenes.NETWORKS.items()}
    monkeypatch.setattr(trust.scenes, "NETWORKS", networks)
    monkeypatch.setattr(trust.scenes, "BATCH", 4)
    return trust


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the checks of annotations."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_permuted_classes_are_those_of_other_pictures(tiny: ModuleType, quiet: Console, tmp_path: Path) -> None:
    scenes = tiny.scenes
    network = scenes.NETWORKS["cnn"]
    plain = scenes.train(network, 0, quiet).state_dict()
    permuted = scenes.train(network, 0, quiet, permuted=True).state_dict()
    assert not torch.equal(plain["0.weight"], permuted["0.weight"])
    kept = scenes.trained("cnn", tmp_path, 0, quiet, permuted=24).state_dict()
    assert all(torch.equal(value, permuted[key]) for key, value in kept.items())
    assert [path.name for path in tmp_path.iterdir()] == ["cnn-permuted.safetensors"]
    with pytest.raises(vv.InputError, match="was trained otherwise"):
        scenes.trained("cnn", tmp_path, 0, quiet, permuted=12)


@pytest.mark.slow
def test_a_table_is_what_direct_computations_give(
    tiny: ModuleType, quiet: Console, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--count", "3", "--permuted", "8", "--methods", "clrp", "gradient"]
    tiny.main([str(tmp_path), *given, "--output", str(tmp_path / "table.md")])
    printed = capsys.readouterr().out
    text = (tmp_path / "table.md").read_text()
    assert text.strip() in printed
    clrp, gradient, centre, *_ = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[4:9]
    ]
    assert (clrp[0], gradient[0], centre[0]) == ("CLRP", "Gradient", "Centre")
    assert centre[-1] == "yes"  # what never looks at the network is named
    assert float(centre[4].split()[0]) == 1.0
    own, other = (tiny.classifier_of("cnn", tmp_path, 0, quiet, permuted) for permuted in (None, 8))
    cases = tiny.cases(tiny.pictures(3, 0), own)
    method, theirs = MethodExplainer(vv.Gradient(own)), MethodExplainer(vv.Gradient(other))
    random = RandomizedModel(own, cases[0].inputs)
    random.at(len(random.shares))
    redrawn = MethodExplainer(vv.Gradient(random.classifier))
    alike: dict[str, list[float]] = {"classes": [], "weights": [], "labels": []}

    def size(explainer: MethodExplainer, case: object, target: int) -> np.ndarray:
        return explainer.heatmaps(case.inputs, torch.tensor([target]))[0].double().numpy().ravel()

    for case in cases:
        mine = size(method, case, case.target)
        pairs = [spearmanr(mine, size(method, case, each)).statistic for each in case.others[:4]]
        alike["classes"].append(float(np.mean(pairs)))
        for column, explainer in (("weights", redrawn), ("labels", theirs)):
            found = np.abs(size(explainer, case, case.target))
            alike[column].append(abs(float(spearmanr(np.abs(mine), found).statistic)))
    for place, column in ((1, "classes"), (4, "weights"), (5, "labels")):
        assert float(gradient[place].split()[0]) == pytest.approx(np.mean(alike[column]), abs=6e-4), column
    assert f"{len(cases)} maps a method" in text


def test_what_is_wrong_gets_one_sentence(trust: ModuleType, tmp_path: Path) -> None:
    for given, said in (
        (["--count", "1"], "--count is a number of at least 2, not 1"),
        (["--output", "table.txt"], "--output ends in .md, not in '.txt'"),
        (["--methods", "clrq"], "clrq"),
    ):
        with pytest.raises(SystemExit, match=said):
            trust.main([str(tmp_path / "new"), *given])
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_the_contrast_tells_classes_apart_and_plain_relevance_does_not(
    trust: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = replace(trust.scenes.NETWORKS["cnn"], steps=300, pictures=2000)
    monkeypatch.setattr(trust.scenes, "NETWORKS", {"cnn": network})
    arguments = trust._parser().parse_args(
        [str(tmp_path), "--count", "20", "--permuted", "60", "--methods", "clrp", "lrp", "gradient"]
    )
    rows, _ = trust.run(arguments, Console(file=io.StringIO()))["cnn"]
    found = {row.title: row for row in rows}
    assert found["CLRP"].rank.high < found["LRP"].rank.low
    assert found["CLRP"].mask.low > found["LRP"].mask.high
    assert not any(found[title].named for title in ("CLRP", "Gradient"))
    assert all(found[title].named for title in ("Edges (Sobel)", "Centre"))

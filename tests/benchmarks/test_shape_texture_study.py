"""The study of shape and texture: what it is made of, its verdicts on rigged numbers, a tiny run, and a smaller one."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import visavis as vv
from benchmarks.scripts import script
from visavis.shape_texture.overlap import mean_iou


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return script("shape_texture_study")


@pytest.fixture(scope="module")
def parts(study: ModuleType) -> SimpleNamespace:
    """The modules that it is made of."""
    return SimpleNamespace(**{name: sys.modules[f"shape_texture_{name}"] for name in ("networks", "measures")})


def console() -> Console:
    return Console(file=io.StringIO())


# -- pictures, labels, networks --------------------------------------------------------------------------------------


def test_labels_are_of_the_shape_the_texture_or_both(parts: SimpleNamespace) -> None:
    networks = parts.networks
    found = networks.drawn(12, 3)
    data = networks.scenes_of(12, 3, ("texture", "shape"))
    for place in range(12):
        (thing,) = data.scene(place).objects
        assert networks.SHAPES[int(found.labels("shape")[place])] == thing.shape
        assert networks.TEXTURES[int(found.labels("texture")[place])] == thing.texture.name
        name = networks.classes_of("both")[int(found.labels("both")[place])]
        assert name == f"{thing.texture.name} {thing.shape}"
        assert thing.texture.colour == "grey"
    assert torch.equal(found.labels("random"), found.labels("both"))
    np.testing.assert_allclose(found.pictures[4].numpy() / 255, data[4].picture.numpy(), atol=0.5 / 255 + 1e-6)


def test_a_category_is_the_class_in_which_shape_and_texture_agree(parts: SimpleNamespace) -> None:
    networks = parts.networks
    for kind in networks.NETWORKS:
        names = networks.classes_of(kind)
        for name, (index,) in networks.categories(kind).items():
            assert names[index] in (name, *name.split(" "))
    assert [one for (one,) in networks.categories("both").values()] == [0, 7, 14, 21, 28, 35]


def test_training_keeps_weights_at_its_checkpoints_and_is_repeatable(parts: SimpleNamespace) -> None:
    networks = parts.networks
    plan = networks.Plan(training=20, share=0.01, checkpoints=(0.0, 0.5, 1.0))
    images = networks.drawn(20, 1)
    module, states = networks.trained("shape", images, plan, 0, console())
    assert list(states) == [0, 3, 6]
    first = networks.untrained("shape", 0).state_dict()
    assert all(torch.equal(one, first[name]) for name, one in states[0].items())
    assert all(torch.equal(one, states[6][name]) for name, one in module.state_dict().items())
    assert not module.training
    again, _ = networks.trained("shape", images, plan, 0, console())
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in module.state_dict().items())


def test_the_random_network_learns_nothing_but_its_head(parts: SimpleNamespace) -> None:
    networks = parts.networks
    images = networks.drawn(30, 1)
    found, none = networks.trained(networks.RANDOM, images, networks.Plan(training=30), 0, console())
    assert none == {}
    first = networks.untrained(networks.RANDOM, 0).state_dict()
    same = {name for name, one in found.state_dict().items() if torch.equal(one, first[name])}
    assert first.keys() - same == {"linear.weight", "linear.bias"}
    # Of so few pictures it can learn all.
    with torch.no_grad():
        assert torch.equal(found(images.inputs()).argmax(1), images.labels("both"))


# -- measures --------------------------------------------------------------------------------------------------------


def test_the_difference_of_two_read_outs_by_a_loop(parts: SimpleNamespace) -> None:
    one, other = (torch.randint(1, 9, (5, 3, 3), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    found = parts.measures._apart(one, other, 40, 7)
    chance = np.random.default_rng(7)
    sides = []
    for counts in (one, other):
        times = chance.multinomial(5, np.full(5, 1 / 5), 40)
        sides.append(
            [float(mean_iou(sum(int(n) * each for n, each in zip(row, counts, strict=True)))) for row in times]
        )
    expected = np.subtract(*sides)
    np.testing.assert_allclose([found.low, found.high], np.percentile(expected, (2.5, 97.5)), atol=1e-12)
    assert found.value == pytest.approx(float(mean_iou(one.sum(0)) - mean_iou(other.sum(0))), abs=1e-12)


def numbers(parts: SimpleNamespace, missed: float = 0.1, **values: tuple[float, float, float]) -> dict[str, Any]:
    """Networks of which each measure says the same, whose shape units are missed by so much more than others."""
    measures = parts.measures
    without = {
        factor: measures.Without(4, 0.5, 0.6, measures.Estimate(0.1, low, 0.2))
        for factor, low in (("shape", missed), ("texture", 0.1))
    }
    return {
        kind: SimpleNamespace(numbers=dict.fromkeys(measures.MEASURES, measures.Estimate(*value)), without=without)
        for kind, value in values.items()
    }


@pytest.mark.parametrize(
    ("changed", "apart", "between"),
    [
        ({}, True, True),
        ({"both": (0.5, 0.4, 0.71)}, False, True),
        ({"texture": (0.1, 0.0, 0.41)}, False, True),
        ({"shape": (0.3, 0.2, 0.35)}, False, False),
        ({"random": (0.9, 0.8, 1.0)}, True, False),
        ({"random": (0.05, 0.0, 0.1)}, True, False),
    ],
    ids=["as hoped", "shape and both", "both and texture", "another order", "random above", "random below"],
)
def test_verdicts(
    study: ModuleType, parts: SimpleNamespace, changed: dict[str, Any], apart: bool, between: bool
) -> None:
    rigged = {
        "shape": (0.8, 0.7, 0.9),
        "both": (0.5, 0.4, 0.6),
        "random": (0.45, 0.3, 0.6),
        "texture": (0.1, 0.0, 0.2),
    }
    found = study.verdicts(numbers(parts, **(rigged | changed)))
    assert [one.measure for one in found] == list(parts.measures.MEASURES)
    assert {(one.apart, one.between) for one in found} == {(apart, between)}
    # Units that are missed no more than others tell nothing.
    found = study.verdicts(numbers(parts, missed=-0.01, **(rigged | changed)))
    assert [one.apart for one in found] == [apart and one.measure != "removal" for one in found]


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(study: ModuleType) -> Any:
    """A run in which nothing is learned."""
    plan = study.Plan(training=30, share=0.005, checkpoints=(0.0, 1.0))
    sizes = study.Sizes(pairs=6, held_out=24, masks=6, masks_held_out=6, epochs=1, conflicts=12, maps=2, draws=20)
    return study.study(plan, sizes, 0, console())


def test_a_run_and_its_page(study: ModuleType, tiny: Any, tmp_path: Path) -> None:
    document = json.loads(study.as_json(tiny))
    assert list(document["networks"]) == ["shape", "both", "random", "texture"]
    for kind, one in document["networks"].items():
        measures = one["measures"]
        last = tiny.networks[kind].dimensionality["relu4"]
        assert measures["dimensionality"]["value"] == pytest.approx(float(last.shares[0]), rel=1e-3)
        without = one["without"]
        for each in without.values():
            assert each["missed"]["value"] == pytest.approx(each["others"] - each["accuracy"], abs=2e-3)
        apart = without["texture"]["accuracy"] - without["shape"]["accuracy"]
        assert measures["removal"]["value"] == pytest.approx(apart, abs=2e-3)
        reads = one["readouts"]
        assert measures["read-out"]["value"] == pytest.approx(
            reads["shape"]["miou"] - reads["texture"]["miou"], abs=1e-3
        )
        assert sum(without[factor]["units"] for factor in without) <= last.units
    assert set(document["training"]) == {"shape", "both", "texture"}
    page = sys.modules.get("shape_texture_page") or script("shape_texture_page")
    page.write_page(tmp_path / "study.md", tiny)
    text = (tmp_path / "study.md").read_text("utf-8")
    for name in ("dimensions.svg", "training.svg", "removal.svg", "readouts.png", "bias.svg", "conflicts.png"):
        assert f"(study-{name})" in text
        assert (tmp_path / f"study-{name}").stat().st_size > 1000
    assert "python benchmarks/shape_texture_study.py --page" in text


def test_a_place_where_no_page_can_be_is_refused_before_anything_is_trained(study: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"shape_texture_study\.py: .* is no folder"):
        study.main(["--page", str(tmp_path / "none" / "page.md")])


@pytest.mark.slow
def test_each_measure_tells_the_networks_apart(study: ModuleType) -> None:
    plan = study.Plan(training=2500, share=0.6, checkpoints=(1.0,))
    sizes = study.Sizes(pairs=60, held_out=200, masks=60, masks_held_out=60, epochs=8, conflicts=120, maps=8, draws=300)
    found = study.study(plan, sizes, 0, console())
    assert all(one.apart and one.between for one in study.verdicts(found.networks))
    # In pixels: of the network by both, what speaks for the shape lies at the outline, what for the texture inside.
    edges = found.networks["both"].edges
    assert edges["shape"][0] > edges["texture"][0]
    assert edges["texture"][1] > max(edges["shape"][1], edges["flat"][1])


# -- the page that is kept -------------------------------------------------------------------------------------------


def test_the_page_says_what_was_measured(parts: SimpleNamespace) -> None:
    folder = Path(vv.__file__).parents[2]
    document = json.loads((folder / "benchmarks/measured/shape-texture-study.json").read_text("utf-8"))
    lines = (folder / "docs/shape-texture-study.md").read_text("utf-8").replace("−", "-").splitlines()
    assert all(one["apart"] and one["between"] for one in document["verdicts"])
    for kind, one in document["networks"].items():
        row = next(line for line in lines if line.startswith(f"| {parts.networks.WORDS[kind]} |"))
        said = [float(number) for number in re.findall(r"-?\d+\.\d+", row)]
        measured = [value for each in one["measures"].values() for value in each.values()]
        assert said[0] == pytest.approx(100 * one["accuracy"], abs=0.06)
        # The document has four digits, the page two after the point.
        np.testing.assert_allclose(said[1:], measured, atol=0.0051)

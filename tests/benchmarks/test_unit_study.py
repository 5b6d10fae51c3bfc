"""The study of units: what it measures on constructed cases, its verdicts on rigged numbers, and runs on tiny ones."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from benchmarks.scripts import script
from visavis import units
from visavis.units import Estimate

NAN = float("nan")


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return script("unit_study")


@pytest.fixture(scope="module")
def parts(study: ModuleType) -> SimpleNamespace:
    """The modules that it is made of."""
    names = ("data", "networks", "measures", "findings", "page")
    return SimpleNamespace(**{name: sys.modules[f"unit_study_{name}"] for name in names})


# -- the pictures ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(parts: SimpleNamespace) -> Any:
    return parts.data.scene_parts(0, parts.data.Sizes(45, 40, 60))


def test_scenes_are_balanced_and_no_part_has_pictures_of_another(parts: SimpleNamespace, drawn: Any) -> None:
    each = (drawn.training, drawn.attributes, drawn.held_out)
    assert [len(one) for one in each] == [40, 40, 60]
    assert torch.bincount(drawn.held_out.labels).tolist() == [3] * 20
    assert len(drawn.classes) == 20
    assert len({one.pictures[0].numpy().tobytes() for one in each}) == 3
    again, other = (parts.data.scene_parts(seed, parts.data.Sizes(40, 40, 40)).training for seed in (0, 1))
    assert torch.equal(again.pictures, drawn.training.pictures)
    assert not torch.equal(other.pictures, drawn.training.pictures)
    with pytest.raises(vv.InputError, match="39 pictures of 20 classes are less than two of each"):
        parts.data.scene_parts(0, parts.data.Sizes(39, 40, 40))


def test_concepts_are_where_the_object_is(drawn: Any) -> None:
    masks = drawn.attributes.masks
    assert masks.shape == (40, 13, 16, 16)
    for label, mask in zip(drawn.attributes.labels.tolist(), masks, strict=True):
        there = mask.any(2).any(1)
        present = {drawn.concepts[concept] for concept in there.nonzero()[:, 0].tolist()}
        assert set(drawn.classes[label].split()) < present
        assert len(present) == 3
        assert torch.equal(mask[there], mask[there][:1].expand(3, -1, -1))


def test_halves_are_balanced(parts: SimpleNamespace) -> None:
    labels = torch.tensor([0, 0, 1, 0, 1, 1, 0, 1])
    images = parts.data.Images(torch.arange(8), labels)
    first, second = images.halves()
    assert first.pictures.tolist() == [0, 2, 3, 5]
    assert second.pictures.tolist() == [1, 4, 6, 7]


def cifar(folder: Path, records: int = 40) -> Path:
    """Write files in CIFAR-10's binary layout: record i of class i mod 10, red i, green 7, blue noise."""
    folder.mkdir()
    for batch, name in enumerate([*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]):
        content = b""
        for index in range(records):
            pixels = np.random.default_rng([batch, index]).integers(0, 256, 1024).astype(np.uint8)
            content += bytes([index % 10]) + bytes([index]) * 1024 + bytes([7]) * 1024 + pixels.tobytes()
        (folder / name).write_bytes(content)
    return folder


def test_cifar_is_read_as_it_is_written(parts: SimpleNamespace, tmp_path: Path) -> None:
    folder = cifar(tmp_path / "cifar-10-batches-bin")
    found = parts.data.read_cifar(folder / "data_batch_2.bin")
    assert found.labels.tolist() == [index % 10 for index in range(40)]
    assert found.pictures.shape == (40, 3, 32, 32)
    assert (found.pictures[11, 0] == 11).all()
    assert (found.pictures[11, 1] == 7).all()
    expected = np.random.default_rng([1, 11]).integers(0, 256, 1024).reshape(32, 32)
    assert (found.pictures[11, 2].numpy() == expected).all()
    drawn = parts.data.cifar_parts(tmp_path, 0, parts.data.Sizes(100, 30, 1000))
    assert [len(one) for one in (drawn.training, drawn.attributes, drawn.held_out)] == [100, 30, 40]
    assert torch.bincount(drawn.training.labels).tolist() == [10] * 10
    assert drawn.attributes.masks is None
    other = parts.data.cifar_parts(folder, 1, parts.data.Sizes(100, 30, 1000))
    assert not torch.equal(other.training.pictures, drawn.training.pictures)


def test_damaged_files_of_cifar_are_refused(parts: SimpleNamespace, tmp_path: Path) -> None:
    folder = cifar(tmp_path / "files")
    whole = (folder / "test_batch.bin").read_bytes()
    sizes = parts.data.Sizes(40, 40, 40)
    for content, said in (
        (whole[:-1], "122919 bytes, which are not whole records of 3073"),
        (b"", "has 0 bytes"),
        (b"\x0a" + whole[1:], "has the label 10"),
        (whole[:3073], "less than two pictures of a class"),
    ):
        (folder / "test_batch.bin").write_bytes(content)
        with pytest.raises(vv.InputError, match=said):
            parts.data.cifar_parts(folder, 0, sizes)
    (folder / "test_batch.bin").write_bytes(whole)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(vv.InputError, match=r"data_batch_3\.bin' cannot be read"):
        parts.data.cifar_parts(folder, 0, sizes)
    with pytest.raises(vv.InputError, match=r"holds no test_batch\.bin"):
        parts.data.cifar_parts(tmp_path / "nowhere", 0, sizes)


def test_pickled_files_are_refused_unread(parts: SimpleNamespace, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    for place in (tmp_path, folder):
        with pytest.raises(vv.InputError, match=r"pickled and could run code; get the binary version"):
            parts.data.cifar_parts(place, 0, parts.data.Sizes(40, 40, 40))


# -- what is measured ------------------------------------------------------------------------------------------------


def half(class_drops: Tensor, images: int = 10) -> SimpleNamespace:
    counts = torch.full((class_drops.shape[1],), images)
    return SimpleNamespace(class_drops=class_drops, hit=class_drops.argmax(1), counts=counts, drops=class_drops.mean(1))


def test_the_class_is_chosen_on_one_half_and_measured_on_the_other(parts: SimpleNamespace) -> None:
    first = half(torch.tensor([[0.5, 0.1, 0.0], [0.0, 0.2, 0.1]], dtype=torch.float64))
    second = half(torch.tensor([[0.3, 0.4, 0.0], [0.0, 0.6, 0.1]], dtype=torch.float64))
    # Of the first unit class 0, measured 0.3, and class 1, measured 0.1; of the second twice class 1.
    assert parts.measures.hardest_drops(first, second).tolist() == pytest.approx([0.2, 0.4])
    assert parts.measures.pooled_class_drops(first, second)[0].tolist() == pytest.approx([0.4, 0.25, 0])


def test_of_chance_alone_no_class_is_hit(parts: SimpleNamespace) -> None:
    chance = torch.Generator().manual_seed(0)
    first, second = (half(0.05 * torch.randn(400, 20, generator=chance, dtype=torch.float64)) for _ in range(2))
    assert parts.measures.pooled_class_drops(first, second).amax(1).mean() > 0.05
    assert parts.measures.hardest_drops(first, second).mean().abs() < 0.01
    first.class_drops[:, 7] += 0.4
    second.class_drops[:, 7] += 0.4
    hit = [half(one.class_drops) for one in (first, second)]
    assert parts.measures.hardest_drops(*hit).mean() == pytest.approx(0.4, abs=0.01)


def test_drops_of_a_network_whose_units_are_its_classes(parts: SimpleNamespace) -> None:
    module = nn.Sequential(OrderedDict(relu4=nn.ReLU(), linear=nn.Linear(4, 4, bias=False))).eval()
    with torch.no_grad():
        module.linear.weight.copy_(torch.eye(4))
    labels = torch.arange(4).repeat(6)
    images = (torch.eye(4)[labels], labels)
    first, second = (units.ablate(module, "relu4", images) for _ in range(2))
    # Without a unit all is 0, and the first class is predicted: which alone loses nothing.
    assert parts.measures.hardest_drops(first, second).tolist() == [0, 1, 1, 1]
    assert parts.measures.pooled_drops(first, second).tolist() == pytest.approx([0, 0.25, 0.25, 0.25])
    assert parts.measures.worst_drop(first, second)[0] == 0.25
    low, high = parts.measures.worst_drop(first, second)[1:]
    assert 0 < low < 0.25 < high < 0.5


def test_selectivity_in_rotated_bases_is_of_the_positive_part(parts: SimpleNamespace) -> None:
    module = nn.Sequential(OrderedDict(relu4=nn.ReLU(), linear=nn.Linear(4, 4))).eval()
    images = (torch.rand(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(4).repeat(10))
    basis = units.random_rotation(4, seed=3)
    seen = units.activations(module, units.Layer("relu4", basis=basis), images)
    positive = (images[0].double() @ basis.T).clamp(min=0)
    expected = units.class_selectivity(positive, images[1])
    assert torch.allclose(units.attribute("selectivity").of(seen), expected)


def test_the_area_is_a_mean_accuracy(parts: SimpleNamespace) -> None:
    assert parts.measures.area([0.6] * 9) == pytest.approx(0.6)
    straight = [1 - count / 64 for count in parts.measures.CUMULATIVE]
    assert parts.measures.area(straight) == pytest.approx(0.5)


# -- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "outside", "verdict"),
    [
        (0.1, 0.2, False, "appears"),
        (0.6, 0.7, False, "does not appear"),
        (-0.7, -0.6, False, "does not appear"),
        (0.4, 0.6, False, "not settled"),
        (-1, 1, False, "not settled"),
        (0.1, 0.2, True, "does not appear"),
        (0.6, 0.7, True, "appears"),
        (0.4, 0.6, True, "not settled"),
        (NAN, NAN, False, "not settled"),
        (NAN, NAN, True, "not settled"),
    ],
)
def test_a_claim_is_settled_by_its_interval(
    parts: SimpleNamespace, low: float, high: float, outside: bool, verdict: str
) -> None:
    claim = parts.findings.Claim("it", Estimate((low + high) / 2, low, high, 3), -0.5, 0.5, outside)
    assert claim.verdict == verdict


def test_a_finding_needs_all_of_its_claims(parts: SimpleNamespace) -> None:
    yes, no, open_ = (
        parts.findings.Claim("it", Estimate(0, low, high, 3), -0.5, 0.5) for low, high in ((0, 0.1), (0.6, 1), (0, 1))
    )
    for claims, verdict in (
        ((yes, yes), "appears"),
        ((yes, open_), "not settled"),
        ((open_, no, yes), "does not appear"),
        ((), "not settled"),
    ):
        assert parts.findings.Finding("that", "all", claims).verdict == verdict


def test_intervals_over_seeds_are_students(parts: SimpleNamespace) -> None:
    found = parts.findings.over_seeds([0.1, 0.2, 0.3])
    half_width = 4.302653 * 0.1 / 3**0.5
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.2 - half_width, 0.2 + half_width), abs=1e-6)
    assert np.isnan(parts.findings.over_seeds([0.1, NAN, 0.3]).low)
    alone = parts.findings.over_seeds([0.1])
    assert alone.value == 0.1
    assert np.isnan([alone.low, alone.high]).all()


def rigged(measured: Callable[..., Any], seed: int, **changes: Any) -> Any:
    """Return a network of which every finding on its units appears, or what is changed does not."""
    about = 0.001 * seed
    rho = {"overall": (0.1 + about, 0.0, 0.2), "hardest": (0.8 + about, 0.7, 0.9), "largest": (0.8, 0.7, 0.9)}
    names = ("selectivity", "weight-norm", "correlation", "alignment")
    chosen = {
        "variant": "plain",
        "seed": seed,
        "training_accuracy": 1.0,
        "accuracy": 0.9,
        "dead": [3],
        "overall": [0.005 + about, 0.006, 0.004, 0.0],
        "largest": [0.4, 0.4, 0.4, 0.0],
        "hardest": [0.3 + about, 0.31, 0.29, 0.0],
        "hit": [0, 1, 2, 0],
        "same_hit": 0.9,
        "above": {"overall": 0.5, "hardest": 0.9},
        "worst": (0.01 + about, 0.008, 0.012),
        "halves": {"overall": 0.5, "hardest": 0.9},
        "attributes": {name: [0.5 + about, 0.6, 0.7, 0.0] for name in names},
        "related": {name: {kind: {"pearson": ends, "spearman": ends} for kind, ends in rho.items()} for name in names},
        "rotations": [
            {"share": share, "draw": 0, "value": value, "overall": 0.01, "largest": 0.3, "correlation": 0.4}
            | {"hardest": (0.1 if share else 0.3) + about * share, "selectivity": (0.2 if share else 0.5) + about}
            for share in (0, 1)
            for value in ("zero", "mean")
        ],
        "curves": {f"{name}, descending": [0.9, 0.2] for name in names}
        | {f"{name}, ascending": [0.9, 0.8] for name in names}
        | {"random 0": [0.9, 0.5]},
        "removal": {
            "counts": [4, 32],
            "intact": 0.95,
            "without best": [0.6 + about, 0.5],
            "without worst": [0.95, 0.94 - about],
            "accuracy": 0.9,
            "accuracy without best": [0.88 - about, 0.5],
            "accuracy without worst": [0.9, 0.6],
        },
    }
    return measured(**(chosen | changes))


def verdicts(parts: SimpleNamespace, **changes: Any) -> dict[str, str]:
    networks = [rigged(parts.measures.Measured, seed, **changes) for seed in range(3)]
    return {one.statement: one.verdict for one in parts.findings.findings(networks)}


def test_findings_appear_where_the_numbers_say_so(parts: SimpleNamespace) -> None:
    found = verdicts(parts)
    assert len(found) == 8
    assert set(found.values()) == {"appears"}


def test_findings_fail_where_the_numbers_do(parts: SimpleNamespace) -> None:
    f = parts.findings
    base = rigged(parts.measures.Measured, 1)
    poor = {kind: {"pearson": (0.1, 0, 0.2), "spearman": (0.1, 0.0, 0.2)} for kind in ("overall", "hardest", "largest")}
    same = [row | {"hardest": 0.3, "selectivity": 0.5} for row in base.rotations]
    by_zero_only = [row | ({"hardest": 0.3} if row["value"] == "mean" else {}) for row in base.rotations]
    for changes, failing in (
        ({"worst": (0.1, 0.09, 0.11)}, {f.ANY_UNIT}),
        ({"overall": [0.05, 0.06, 0.05, 0]}, {f.ANY_UNIT}),
        ({"hardest": [0.05, 0.04, 0.05, 0]}, {f.SOME_CLASS}),
        ({"related": base.related | {"alignment": poor}}, {f.WELL}),
        ({"related": base.related | {"selectivity": poor}}, {f.WELL, f.SELECTIVITY}),
        ({"rotations": same}, {f.AXES}),
        ({"rotations": by_zero_only}, {f.AXES}),
        ({"removal": base.removal | {"without best": [0.94, 0.9]}}, {f.FOR_A_CLASS}),
        ({"curves": base.curves | {"selectivity, ascending": [0.9, 0.2]}}, {f.ORDERED}),
    ):
        found = verdicts(parts, **changes)
        assert {statement for statement, verdict in found.items() if verdict == "does not appear"} == failing, changes
        assert {found[statement] for statement in set(found) - failing} == {"appears"}


def test_one_network_that_differs_unsettles_and_is_named(parts: SimpleNamespace) -> None:
    networks = [rigged(parts.measures.Measured, seed) for seed in range(3)]
    networks[1] = replace(networks[1], hardest=[0.01, 0.02, 0.01, 0.0])
    pooled = {one.statement: one.verdict for one in parts.findings.findings(networks)}
    assert pooled[parts.findings.SOME_CLASS] == "not settled"
    alone = [{each.statement: each.verdict for each in parts.findings.of_network(one)} for one in networks]
    found = [one[parts.findings.SOME_CLASS] for one in alone]
    assert found == ["appears", "does not appear", "appears"]
    made = {"images": "pictures", "classes": 4, "command": "it", "versions": "now"}
    made["sizes"] = {"training": 1, "attributes": 2, "held_out": 3}
    text = parts.page.page(made, networks, ["a.svg", "b.svg"], "What I think.")
    line = next(line for line in text.splitlines() if line.startswith("| plain, seed 1"))
    assert "0.01 (0.01 to 0.02): does not appear" in line
    assert "What I think." in text


def test_variants_are_compared_in_pairs_of_a_seed(parts: SimpleNamespace) -> None:
    plain = [rigged(parts.measures.Measured, seed, hardest=[0.3 + 0.1 * seed] * 4) for seed in range(3)]
    changed = [
        rigged(parts.measures.Measured, seed, variant="dropout", hardest=[0.2 + 0.1 * seed + 0.001 * (seed == 2)] * 4)
        for seed in (2, 0, 1)
    ]
    found = {one.statement: one for one in parts.findings.findings([*plain, *changed])}
    one = found["Dropout changes what the class hit hardest loses"]
    assert one.verdict == "appears"
    assert one.claims[0].estimate.value == pytest.approx(-0.1 + 0.001 / 3)
    assert found["Dropout changes how selective units are"].verdict == "does not appear"


def test_one_seed_settles_nothing(parts: SimpleNamespace) -> None:
    found = parts.findings.findings([rigged(parts.measures.Measured, 0)])
    assert {one.verdict for one in found} == {"not settled"}


def test_the_ceiling_of_a_correlation(parts: SimpleNamespace) -> None:
    """By simulation: of the mean of two noisy halves with the truth."""
    chance = np.random.default_rng(0)
    truth = chance.standard_normal(200_000)
    first, second = (truth + chance.standard_normal(len(truth)) for _ in range(2))
    agreement = np.corrcoef(first, second)[0, 1]
    assert parts.page.ceiling(agreement) == pytest.approx(np.corrcoef(truth, first + second)[0, 1], abs=0.01)
    assert parts.page.ceiling(-0.1) == 0


# -- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def call(study: ModuleType, parts: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call the command line with tiny networks of eight units, and few pictures."""
    sizes, training = parts.data.Sizes(40, 40, 80), parts.networks.Training(steps=2, batch=4, flip=True)
    monkeypatch.setattr(study, "PLANS", {"scenes": (sizes, training), "cifar10": (sizes, training)})
    few = parts.measures.Settings(shares=(0, 1), draws=1, rotation_pictures=80, removal_pictures=40, random_orders=1)
    monkeypatch.setattr(study, "SETTINGS", few)
    monkeypatch.setattr(parts.networks, "_WIDTHS", (4, 4, 8, 8))
    monkeypatch.setattr(parts.measures, "FOR_CLASS", (4, 6))
    monkeypatch.setattr(parts.findings, "MANY", 6)
    monkeypatch.setattr(study, "VARIANTS", {"plain": parts.networks.VARIANTS["plain"]})
    return lambda *words: study.main([str(word) for word in words])


def test_a_run_and_its_page(call: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("--folder", tmp_path / "w", "--seeds", 1, "--json", tmp_path / "a.json", "--page", tmp_path / "a.md")
    said = capsys.readouterr().out
    assert "plain, seed 0: trained" in said
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == ["plain-0.json", "plain-0.safetensors"]
    made = json.loads((tmp_path / "a.json").read_text())
    one = made["networks"][0]
    assert {len(values) for values in (one["overall"], one["hardest"], *one["attributes"].values())} == {8}
    assert "alignment" in one["attributes"]
    rotated = {(row["share"], row["value"]) for row in one["rotations"]}
    assert rotated == {(share, value) for share in (0, 1) for value in ("zero", "mean")}
    assert len(one["curves"]) == 15
    text = (tmp_path / "a.md").read_text()
    for verdict in {found["verdict"] for found in made["findings"]}:
        assert f"**{verdict}**" in text
    assert (tmp_path / "a-units.svg").read_text().count("<svg") == 1
    assert (tmp_path / "a-curves.svg").exists()
    # The same again of what was kept, to the byte; and the same page of the numbers alone.
    call("--folder", tmp_path / "w", "--seeds", 1, "--json", tmp_path / "b.json")
    assert "trained" not in capsys.readouterr().out
    assert (tmp_path / "b.json").read_text() == (tmp_path / "a.json").read_text()
    (tmp_path / "again").mkdir()
    call("--from", tmp_path / "a.json", "--page", tmp_path / "again" / "a.md")
    for name in ("a.md", "a-units.svg", "a-curves.svg"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.slow
def test_a_run_of_several_seeds_and_variants_on_cifar(
    call: Callable[..., None],
    study: ModuleType,
    parts: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(study, "VARIANTS", parts.networks.VARIANTS)
    folder = cifar(tmp_path / "cifar-10-batches-bin")
    call("--data", f"cifar10:{folder}", "--seeds", 2, "--json", tmp_path / "a.json", "--page", tmp_path / "a.md")
    made = json.loads((tmp_path / "a.json").read_text())
    assert made["classes"] == 10
    found = [(one["variant"], one["seed"]) for one in made["networks"]]
    assert found == [(variant, seed) for variant in parts.networks.VARIANTS for seed in (0, 1)]
    assert not any("alignment" in one["attributes"] for one in made["networks"])
    assert "--data cifar10:FOLDER" in made["command"]
    text = (tmp_path / "a.md").read_text()
    assert "CIFAR-10" in text
    assert str(tmp_path) not in text
    assert {"Batch norm changes how selective units are", "Dropout changes how selective units are"} <= {
        one["finding"] for one in made["findings"]
    }


def test_measurements_are_kept_and_those_of_another_recipe_refused(parts: SimpleNamespace, tmp_path: Path) -> None:
    results = sys.modules["unit_study_results"]
    place = tmp_path / "plain-1.json"
    one = rigged(parts.measures.Measured, 1, accuracy=1 / 3, worst=(NAN, 0.1, 0.2))
    found = results.remembered(place, {"steps": 1}, lambda: one)
    assert found.accuracy == 0.3333
    assert np.isnan(found.worst[0])
    again = results.remembered(place, {"steps": 1}, lambda: pytest.fail("measured again"))
    assert (again.accuracy, again.related) == (found.accuracy, found.related)
    with pytest.raises(vv.InputError, match="measured otherwise"):
        results.remembered(place, {"steps": 2}, lambda: one)
    place.write_text("{}")
    with pytest.raises(vv.InputError, match="holds no measurements"):
        results.remembered(place, {"steps": 1}, lambda: one)


def test_weights_of_another_recipe_are_refused(parts: SimpleNamespace, tmp_path: Path) -> None:
    from rich.console import Console

    console = Console(quiet=True)
    images = parts.data.Images(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    training = parts.networks.Training(steps=1, batch=2)
    for source, said in (("these", None), ("these", None), ("those", "was trained otherwise")):
        given = ("batch norm", 2, images, training, 3, tmp_path, source, console)
        if said is None:
            assert not parts.networks.trained(*given).training
        else:
            with pytest.raises(vv.InputError, match=said):
                parts.networks.trained(*given)
    assert [path.name for path in tmp_path.iterdir()] == ["batch-norm-3.safetensors"]


@pytest.mark.parametrize("variant", ["plain", "batch norm", "dropout", "both"])
def test_variants(parts: SimpleNamespace, variant: str) -> None:
    module = parts.networks.untrained(variant, 20, 0)
    kinds = {type(part) for part in module.modules()}
    assert (nn.BatchNorm2d in kinds) == (variant in ("batch norm", "both"))
    assert (nn.Dropout in kinds) == (variant in ("dropout", "both"))
    shapes: list[torch.Size] = []
    module.get_submodule(parts.networks.LAYER).register_forward_hook(lambda *given: shapes.append(given[2].shape))
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 20)
    assert shapes == [(2, 64, 6, 6)]


def test_what_is_wrong_gets_one_sentence(study: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text('{"networks": [{}]}')
    for words, said in (
        (["--data", "cifar"], "--data is scenes, or cifar10:FOLDER, not 'cifar'"),
        (["--data", "cifar10:"], "--data is"),
        (["--data", f"cifar10:{tmp_path}"], "holds no test_batch.bin"),
        (["--seeds", "0"], "--seeds is a number of at least 1, not 0"),
        (["--json", str(tmp_path / "none" / "a.json")], "is no folder"),
        (["--notes", str(tmp_path / "none.md")], "there are no notes"),
        (["--from", str(tmp_path / "no.json")], "is none that --json wrote"),
        (["--from", str(tmp_path / "none.json")], "cannot be read"),
    ):
        with pytest.raises(SystemExit, match=said):
            study.main(words)

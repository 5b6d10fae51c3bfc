"""The shell's shape-texture: what is printed and written is what the library finds, and words that are refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import visavis as vv
from visavis import cli
from visavis.benchmarking.runs import chosen_pictures, classes_between
from visavis.classifier import Classifier
from visavis.datasets import SHAPES, SceneDataset, Scenes, open_dataset
from visavis.errors import InputError, ModelError, OutputError
from visavis.models.preprocessing import CentreCrop
from visavis.plotting import saving
from visavis.reports import shape_texture as reports
from visavis.shape_texture import (
    ConflictFolder,
    Dimensionality,
    Pairs,
    Readout,
    SceneConflicts,
    ScenePairs,
    checkpoint_dimensionality,
    checkpoints_in,
    explain_conflict,
    factor_units,
    layer_dimensionality,
    open_pairs,
    random_encoder,
    remove_neurons,
    shape_bias,
)
from visavis.shape_texture import readout as read
from visavis.shape_texture.checkpoints import by_layer
from visavis.shape_texture.label_sources import open_segmented
from visavis.shape_texture_arguments import write_results
from visavis.shape_texture_commands import app
from visavis.unit_runs.pictures import batches

SIDE = 20
NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, CLASSES),
    )
    nn.init.normal_(module[7].weight, std=3)
    return module

def few():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
"""
NAMELESS = ("-m", "net.py:build", "--size", str(SIDE), "--device", "cpu")
OWN = (*NAMELESS, "--labels", "labels.txt")
CATEGORIES = {"round": ("disc", "stripes"), "box": ("square", "checks"), "star": ("star", "dots")}
# "star" is found by its name; the others are not the model's.
GIVEN = {"round": ["disc", 4], "box": "square", "star": [3], "none of these": ["cross", "arrow"]}
LAID = "pictures:folder:photos?table=whole.csv&laid=whole&block=8"
TRAIN, TEST = "scenes?count=8&seed=1", "scenes?count=5&seed=2&objects=1-2"
FIGURES = [name for name in reports.__all__ if name.islower()]
Drawn = dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a network, its class names, photographs, cue conflicts and label maps; one thread is quickest."""
    threads, folder = torch.get_num_threads(), tmp_path_factory.mktemp("shell")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("net.py").write_text(NET.replace("CLASSES", str(len(SHAPES))))
        Path("labels.txt").write_text("\n".join(SHAPES))
        Path("given.json").write_text(json.dumps(GIVEN))
        photographs()
        conflicts()
        label_maps()
        yield folder
    torch.set_num_threads(threads)


def photographs() -> None:
    """Twenty scenes with a table of their shapes, two of which cannot be used."""
    Path("photos").mkdir()
    lines = ["file,label"]
    for number, sample in enumerate(SceneDataset(Scenes(20, size=32, seed=5))):
        sample.load().save(f"photos/{number}.png")
        lines.append(f"{number}.png,{sample.label if number else 'zebra'}")
    Path("photos/19.png").write_bytes(b"none")
    Path("photos/labels.csv").write_text("\n".join([*lines, ""]))
    Path("photos/whole.csv").write_text("\n".join(["file,label", *lines[2:6]]))


def conflicts() -> None:
    drawn = SceneConflicts(24, CATEGORIES, scenes=Scenes(1, size=32), seed=1)
    for number, one in enumerate(drawn):
        Path(f"conflicts/{one.shape}").mkdir(parents=True, exist_ok=True)
        one.image().save(f"conflicts/{one.shape}/{one.shape}{number}-{one.texture}1.png")
    one.image().save(f"conflicts/{one.shape}/{one.shape}1-{one.shape}2.png")


def label_maps() -> None:
    base = Path("voc/VOCdevkit/VOC2012")
    for part in ("JPEGImages", "ImageSets/Segmentation", "SegmentationClass"):
        (base / part).mkdir(parents=True)
    for number, scene in enumerate(Scenes(6, size=32, seed=4)):
        pixels = np.rint(scene.picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(base / "JPEGImages" / f"{number}.jpg")
        labels = np.where(scene.masks[0].numpy(), 1 + number % 2, 0).astype(np.uint8)
        labels[:2] = 255
        PIL.Image.fromarray(labels, "L").save(base / "SegmentationClass" / f"{number}.png")
    (base / "ImageSets/Segmentation/train.txt").write_text("0\n1\n2\n3\n")
    (base / "ImageSets/Segmentation/val.txt").write_text("4\n5\n")


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Figures are not made, for that takes longer than all else: of what each would be, call by call."""
    calls: Drawn = {}

    def instead(name: str) -> Callable[..., None]:
        calls[name] = []
        return lambda *given, **options: calls[name].append((given, options))

    for name in FIGURES:
        monkeypatch.setattr(reports, name, instead(name))
    monkeypatch.setattr(saving, "figure_bytes", lambda figure, suffix: PNG)
    return calls


def network() -> Classifier:
    return vv.load_model("net.py:build", device="cpu", labels=list(SHAPES), preprocess=CentreCrop(SIDE))


def shell(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def done(*words: object, out: str) -> tuple[dict[str, Any], str]:
    """The document and the words of a run that comes to its end: it says what it has written, and nothing else is."""
    ended = shell(*words, "-o", out)
    assert ended.exit_code == 0, (ended.output, ended.exception)
    written = re.findall(r"^written: (.*)$", ended.stdout, re.MULTILINE)
    assert sorted(written) == sorted(str(path) for path in Path(out).iterdir())
    for file in written[:-1]:
        assert Path(file).read_bytes().startswith(PNG)
    return json.loads(Path(written[-1]).read_text("ascii")), ended.stdout


def refused(*words: object, kind: type[Exception] = InputError) -> str:
    """What is said of a run that is refused; nothing is printed or written by it."""
    before = {path: path.lstat().st_mtime_ns for path in Path().rglob("*") if path.suffix != ".pyc"}
    ended = shell(*words)
    assert ended.exit_code == 1, ended.output
    assert isinstance(ended.exception, kind), repr(ended.exception)
    assert ended.stdout == ""
    assert {path: path.lstat().st_mtime_ns for path in Path().rglob("*") if path.suffix != ".pyc"} == before
    said = str(ended.exception)
    assert "\n" not in said
    return said


def test_the_commands_are_those_of_the_shell() -> None:
    said = CliRunner().invoke(cli.app, ["shape-texture", "--help"]).output
    assert all(name in said for name in ("dimensions", "removal", "readout", "bias"))


# -- dimensions --------------------------------------------------------------------------------------------------------

LOOK = ("dimensions", *OWN, "--count", 6, "--draws", 20)


def numbers_of(found: Dimensionality) -> dict[str, Any]:
    shape, texture, neither = zip(
        found.counts.tolist(), found.shares.tolist(), found.low.tolist(), found.high.tolist(), strict=True
    )
    each = {"shape": shape, "texture": texture, "neither": neither}
    return {
        "units": found.units,
        "scores": {"shape": float(found.scores[0]), "texture": float(found.scores[1])},
        "dimensions": {name: one[0] for name, one in each.items()},
        "shares": {name: one[1] for name, one in each.items()},
        "intervals": {name: [one[2], one[3]] for name, one in each.items()},
    }


def lines_of(found: dict[str, Dimensionality]) -> list[str]:
    lines = []
    for path, one in found.items():
        numbers = numbers_of(one)
        parts = []
        for name in ("shape", "texture"):
            ends = [f"{100 * end:.1f}" for end in numbers["intervals"][name]]
            score = f"{numbers['scores'][name]:.2f}".replace("-0.00", "0.00").replace("-", "−")
            share = f"{100 * numbers['shares'][name]:.1f} %, 95 % {' to '.join(ends)}; score {score}"
            parts.append(f"{name} {numbers['dimensions'][name]} of {one.units} ({share})")
        lines.append(f"  {path}: {', '.join(parts)}")
    return lines


def test_dimensions_are_those_of_the_library(drawn: Drawn) -> None:
    document, said = done(*LOOK, "--layer", "1", "--layer", "4", out="dimensions")
    pairs = open_pairs("scenes", 6, size=SIDE)
    found = layer_dimensionality(network(), ["1", "4"], pairs, draws=20)
    beneath = layer_dimensionality(random_encoder(network()), ["1", "4"], pairs, draws=20)
    assert list(found) == list(beneath) == ["1", "4", "all"]
    assert document == {
        "model": "net.py:build",
        "pairs": "generated scenes of 20 px",
        "count": 6,
        "distinct": {"shape": 6, "texture": 6},
        "estimator": "sum_cov",
        "draws": 20,
        "seed": 0,
        "layers": {path: numbers_of(one) for path, one in found.items()},
        "random": {path: numbers_of(one) for path, one in beneath.items()},
    }
    assert document["random"] != document["layers"]
    besides = [f"    with random weights: {line.partition(': ')[2]}" for line in lines_of(beneath)]
    assert said.splitlines() == [
        *(line for both in zip(lines_of(found), besides, strict=True) for line in both),
        "written: dimensions/dimensions.png",
        "written: dimensions/pairs.png",
        "written: dimensions/dimensions.json",
    ]
    (((shown,), options),) = drawn["dimension_bars"]
    assert {path: numbers_of(one) for path, one in shown.items()} == document["layers"]
    assert {path: numbers_of(one) for path, one in options["baseline"].items()} == document["random"]


def test_a_baseline_can_be_left_out(drawn: Drawn) -> None:
    document, said = done(*LOOK, "--layer", "1", "--no-random", out="no-baseline")
    assert document["random"] is None
    assert "random" not in said
    (((_,), options),) = drawn["dimension_bars"]
    assert options == {"baseline": None}


def test_a_baseline_is_of_the_seed() -> None:
    document, _ = done(*LOOK, "--layer", "1", "--seed", 7, out="baseline-seed")
    pairs = open_pairs("scenes", 6, size=SIDE, seed=7)
    found = layer_dimensionality(random_encoder(network(), seed=7), ["1"], pairs, draws=20, seed=7)
    assert document["random"] == {"1": numbers_of(found["1"])}


def test_a_network_that_cannot_be_random_is_measured_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any, **options: Any) -> Any:
        raise ModelError("parameters are left")

    monkeypatch.setattr("visavis.shape_texture.random_encoder", fails)
    ended = shell(*LOOK, "--layer", "1", "-o", "without")
    assert ended.exit_code == 0
    assert "note: nothing is measured of random weights: parameters are left" in ended.stderr
    document = json.loads(Path("without/dimensions.json").read_text())
    assert document["random"] is None
    assert list(document["layers"]) == ["1"]


@pytest.mark.parametrize(("score", "said"), [(-0.1234, "−0.12"), (-0.001, "0.00"), (0.5, "0.50")])
def test_scores_are_spelled(score: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = layer_dimensionality(network(), ["1"], open_pairs("scenes", 6, size=SIDE), draws=20)
    given = replace(found["1"], scores=torch.tensor([0.25, score], dtype=torch.float64))
    monkeypatch.setattr("visavis.shape_texture.layer_dimensionality", lambda *a, **o: {"1": given})
    ended = shell(*LOOK, "--layer", "1", "--no-random", "-o", "scores")
    shares, low, high = ([f"{100 * one:.1f}" for one in each] for each in (given.shares, given.low, given.high))
    texture = f"texture {int(given.counts[1])} of 8 ({shares[1]} %, 95 % {low[1]} to {high[1]}; score {said})"
    assert f"{low[0]} to {high[0]}; score 0.25), {texture}\n" in ended.stdout
    assert ("note: a score below 0" in ended.stderr) == (score < 0)
    # What is written is what was found.
    assert json.loads(Path("scores/dimensions.json").read_text())["layers"]["1"]["scores"]["texture"] == score


@pytest.mark.parametrize("command", ["dimensions", "removal"])
@pytest.mark.parametrize("source", ["scenes", LAID])
def test_pairs_are_shown(command: str, source: str, drawn: Drawn) -> None:
    words = (*LOOK, "--layer", "1", "--no-random") if command == "dimensions" else REMOVE
    done(*words, "--pairs", source, "--count", 4 if source == "scenes" else 2, out=f"shown-{command}")
    (((shown,), _),) = drawn["pair_sheet"]
    assert list(shown) == ["shape", "texture"]
    pairs = open_pairs(source, 4 if source == "scenes" else 2, size=SIDE)
    for factor, several in shown.items():
        assert len(several) == (3 if source == "scenes" else 2)
        for place, both in enumerate(several):
            for image, expected in zip(both, pairs.pair(factor, place), strict=True):
                assert np.array_equal(image, expected.permute(1, 2, 0).numpy())


def test_layers_that_are_not_named() -> None:
    document, _ = done(*LOOK, out="stages")
    assert list(document["layers"]) == ["1", "4", "5", "all"]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("--estimator", "mean_rho"), {"estimator": "mean_rho"}),
        (("--seed", "7"), {"seed": 7}),
        (("--draws", "9"), {"draws": 9}),
    ],
)
def test_options_of_dimensions(words: tuple[str, ...], options: dict[str, Any]) -> None:
    document, _ = done(*LOOK, "--layer", "1", *words, out=f"dimensions{words[0]}")
    expected = {"draws": 20, **options}
    pairs = open_pairs("scenes", 6, size=SIDE, seed=options.get("seed", 0))
    found = layer_dimensionality(network(), ["1"], pairs, **expected)
    usual = layer_dimensionality(network(), ["1"], open_pairs("scenes", 6, size=SIDE), draws=20)
    assert document["layers"] == {"1": numbers_of(found["1"])}
    assert document["layers"] != {"1": numbers_of(usual["1"])}
    assert {name: document[name] for name in expected} == expected


def test_the_size_of_batches_is_that_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = torch.nn.Conv2d.forward

    def watched(self: torch.nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", watched)
    done(*LOOK, "--layer", "1", "--batch-size", 4, out="batches")
    assert max(sizes) == 4


def test_pairs_from_a_folder_of_stylised_images() -> None:
    Path("stylised").mkdir()
    for texture in (1, 2):
        for label, image in ((1, "a"), (2, "b"), (3, "c")):
            picture = Scenes(1, size=32, seed=10 * texture + label)[0].picture
            PIL.Image.fromarray((picture.permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(
                f"stylised/{texture}_{label}_{image}.png"
            )
    document, _ = done(*LOOK, "--layer", "4", "--pairs", "stylized:stylised", out="of-stylised")
    pairs = open_pairs("stylized:stylised", 6, size=SIDE)
    found = layer_dimensionality(network(), ["4"], pairs, draws=20)
    assert document["layers"] == {"4": numbers_of(found["4"])}
    assert document["pairs"] == pairs.name


def test_pairs_of_pictures_laid_out_in_textures() -> None:
    document, _ = done(*LOOK, "--layer", "4", "--count", 2, "--pairs", LAID, out="laid")
    pairs = open_pairs(LAID, 2, size=SIDE)
    found = layer_dimensionality(network(), ["4"], pairs, draws=20)
    assert document["layers"] == {"4": numbers_of(found["4"])}
    assert document["count"] == 2


@pytest.mark.parametrize("command", ["dimensions", "removal"])
def test_pairs_that_come_again(command: str) -> None:
    source = "pictures:folder:photos?table=pair.csv&block=8"
    lines = Path("photos/labels.csv").read_text().splitlines()
    apart = next(line for line in lines[3:] if line.partition(",")[2] != lines[2].partition(",")[2])
    Path("photos/pair.csv").write_text("\n".join([lines[0], lines[2], apart, ""]))
    words = (*LOOK, "--layer", "1", "--no-random") if command == "dimensions" else REMOVE
    ended = shell(*words, "--pairs", source, "--count", 14, "-o", "again")
    assert ended.exit_code == 0, ended.exception
    document = json.loads(Path(f"again/{command}.json").read_text())
    pairs = open_pairs(source, 14, size=SIDE)
    assert document["distinct"] == {factor: pairs.distinct(factor) for factor in ("shape", "texture")}
    few = document["distinct"]["texture"]
    assert few < 14
    said = f"note: only {few} of 14 pairs of one texture differ"
    more = "; the intervals take all for independent" if command == "dimensions" else ""
    assert f"{said}{more}\n" in ended.stderr
    assert f"{said}{more}" not in ended.stdout
    assert ("pairs of one shape" in ended.stderr) == (document["distinct"]["shape"] < 14)


def test_pairs_of_which_it_is_not_known_how_many_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScenePairs, "distinct", Pairs.distinct)
    ended = shell(*LOOK, "--layer", "1", "--no-random", "-o", "unknown")
    assert ended.exit_code == 0
    assert json.loads(Path("unknown/dimensions.json").read_text())["distinct"] == {"shape": None, "texture": None}
    assert "differ" not in ended.stderr


def test_checkpoints(drawn: Drawn) -> None:
    Path("run").mkdir()
    for step in (10, 9):
        module = random_encoder(network(), seed=step).module
        save_file(module.state_dict(), f"run/epoch-{step}.safetensors")
    document, said = done(*LOOK, "--layer", "1", "--checkpoints", "run", out="run/shape")
    found = checkpoint_dimensionality(
        network(), checkpoints_in("run"), ["1"], open_pairs("scenes", 6, size=SIDE), draws=20
    )
    assert document["checkpoints"] == {name: {"1": numbers_of(one["1"])} for name, one in found.items()}
    assert list(document["checkpoints"]) == ["epoch-9", "epoch-10"]
    assert "layers" not in document
    assert "random" not in document
    assert said.splitlines()[:2] == ["At the last of 2 checkpoints, epoch-10:", *lines_of(found["epoch-10"])]
    (((epochs, layers), _),) = drawn["dimension_curves"]
    assert epochs == [9.0, 10.0]
    expected = by_layer(found)
    assert [numbers_of(one) for one in layers["1"]] == [numbers_of(one) for one in expected["1"]]
    # Without numbers they stand by their names.
    Path("run/epoch-9.safetensors").replace("run/last.safetensors")
    done(*LOOK, "--layer", "1", "--checkpoints", "run", out="run/shape")
    assert drawn["dimension_curves"][1][0][0] == ["epoch-10", "last"]
    assert "both say which weights" in refused(*LOOK, "--checkpoints", "run", "--weights", "run/last.safetensors")


def test_weights_labels_and_colours_reach_the_model() -> None:
    module = random_encoder(network(), seed=5).module
    save_file(module.state_dict(), "other.safetensors")
    document, _ = done(
        *LOOK, "--layer", "1", "--weights", "other.safetensors", "--mean", "0.5", "--std", "0.2", out="other"
    )
    other = vv.load_model(
        "net.py:build",
        device="cpu",
        weights="other.safetensors",
        preprocess=CentreCrop(SIDE, mean=(0.5,) * 3, std=(0.2,) * 3),
    )
    found = layer_dimensionality(other, ["1"], open_pairs("scenes", 6, size=SIDE), draws=20)
    assert document["layers"] == {"1": numbers_of(found["1"])}


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (("--layer", "nowhere"), InputError, "no layer 'nowhere'"),
        (("--layer", "1", "--layer", "1"), InputError, "named twice"),
        (("--estimator", "guess"), InputError, "--estimator is sum_cov, mean_rho or share, not 'guess'"),
        (("--pairs", "heaps"), InputError, "no source of pairs 'heaps'"),
        (("--pairs", "scenes:photos"), InputError, "names a folder"),
        (("--pairs", "pictures:folder:photos?laid"), InputError, "laid"),
        (("--checkpoints", "photos"), InputError, "no checkpoints"),
        (("--mean", "red"), InputError, "--mean is three numbers"),
        (("-m", "net.py:nothing"), ModelError, "nothing"),
        (("-o", "labels.txt"), OutputError, "no folder"),
        (("-o", "labels.txt/deep/er"), OutputError, "Not a directory"),
        (("-o", "\0"), OutputError, "null"),
        (("-o", "x" * 300), OutputError, "too long"),
        (("-o", ""), OutputError, "empty"),
        (("-o", "nowhere/deep"), OutputError, "'nowhere' is a link that leads nowhere"),
        (("-o", "taken"), OutputError, "is a folder, but the name of a file"),
        (("-o", "stylised", "--pairs", "stylized:stylised"), InputError, "whose pictures are read"),
        (("-o", "photos/in/side", "--pairs", "pictures:folder:photos"), InputError, "'photos', whose pictures"),
        (("-o", "photos", "--pairs", f"pictures:{TRAIN}&textures=photos"), InputError, "'photos', whose pictures"),
        (("-o", "linked", "--labels", "linked/dimensions.json"), InputError, "a file that is read"),
    ],
)
def test_dimensions_that_are_refused(words: tuple[str, ...], kind: type[Exception], said: str) -> None:
    Path("taken/dimensions.json").mkdir(parents=True, exist_ok=True)
    Path("stylised").mkdir(exist_ok=True)
    Path("linked").mkdir(exist_ok=True)
    if not Path("nowhere").is_symlink():
        Path("nowhere").symlink_to("none")
    if not Path("linked/dimensions.json").exists():
        os.link("labels.txt", "linked/dimensions.json")
    assert said in refused(*LOOK, *words, kind=kind)


@pytest.mark.parametrize(
    "words",
    [LOOK, ("removal", *OWN, "-d", "folder:photos"), ("readout", *OWN, "--keep", "shape")],
    ids=["dimensions", "removal", "readout"],
)
def test_pairs_are_refused_before_a_model_is_loaded(words: tuple[object, ...]) -> None:
    of = ("--train", TRAIN, "--test", TEST) if words[0] == "readout" else ()
    assert "no source of pairs 'heaps'" in refused(*words, *of, "--pairs", "heaps", "-m", "net.py:nothing")


def test_a_folder_that_cannot_be_written_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: str(place) != "photos")
    assert "nothing can be written into 'photos'" in refused(*LOOK, "-o", "photos/out", kind=OutputError)


def test_nothing_is_written_where_a_figure_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails at the end, there is no half of the results."""

    def fails(*given: Any, **options: Any) -> Any:
        raise InputError("no figure")

    monkeypatch.setattr(reports, "dimension_bars", fails)
    ended = shell(*LOOK, "--layer", "1", "-o", "never")
    assert isinstance(ended.exception, InputError)
    assert not Path("never").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("dimensions", "--count", "1"),
        ("dimensions", "--draws", "1"),
        ("dimensions", "--draws", "100001"),
        ("dimensions", "--seed", "-1"),
        ("dimensions", "--batch-size", "0"),
        ("removal",),
        ("removal", "-d", "folder:photos", "--limit", "1"),
        ("readout", "--train", TRAIN),
        ("readout", "--train", TRAIN, "--test", TEST, "--epochs", "0"),
        ("readout", "--train", TRAIN, "--test", TEST, "--image-size", "7"),
        ("readout", "--train", TRAIN, "--test", TEST, "--count", "1"),
        ("bias",),
        ("bias", "conflicts", "--maps", "13"),
    ],
)
def test_words_that_typer_refuses(words: tuple[str, ...]) -> None:
    assert shell(*words).exit_code == 2


# -- removal -----------------------------------------------------------------------------------------------------------

REMOVE = ("removal", *OWN, "-d", "folder:photos", "--layer", "4", "--count", 6, "--draws", 20, "--limit", 18)


def removed(
    seed: int = 0, limit: int = 18, count: int = 6, estimator: str = "sum_cov", **options: Any
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The numbers of the library, and what is passed over."""
    classifier, dataset = network(), open_dataset("folder:photos")
    pairs, passed = open_pairs("scenes", count, size=SIDE, seed=seed), []
    ranked = layer_dimensionality(classifier, ["4"], pairs, draws=0, estimator=estimator)["4"]
    classes, data, place = classes_between(dataset, classifier), [], 0
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
    assert sorted(order[:limit]) == chosen_pictures(len(dataset), limit, seed)
    while place < len(order) and (missing := limit - sum(len(labels) for _, labels in data)):
        chosen = sorted(order[place : place + missing])
        place += missing
        data += [
            (batch.inputs, batch.labels)
            for _, batch in batches(dataset, chosen, 16, classifier, classes, lambda *told: passed.append(told))
            if batch is not None
        ]
    given = {"value": "mean", "draws": 20, **options}
    found = remove_neurons(classifier, "4", data, ranked, seed=seed, **given)
    return {
        "images": found.images,
        "counts": list(found.counts),
        "units": 12,
        "intact": found.intact,
        "curves": {
            name: {"accuracy": one.accuracy.tolist(), "low": one.low.tolist(), "high": one.high.tolist()}
            for name, one in found.curves.items()
        },
        "rankings": {factor: ranked.ranking(factor).tolist() for factor in ("shape", "texture")},
    }, passed


def test_removal_is_that_of_the_library(drawn: Drawn) -> None:
    document, said = done(*REMOVE, "--limit", 40, out="removal")
    found, passed = removed(limit=40)
    assert {name: document[name] for name in found} == found
    assert [(one["picture"], one["reason"]) for one in document["skipped"]] == passed
    assert {name for name, _ in passed} == {"0.png", "19.png"}
    assert (document["model"], document["layer"], document["dataset"]) == (
        "net.py:build",
        "4",
        "folder:photos/labels.csv",
    )
    assert (document["keep"], document["value"], document["estimator"]) == (False, "mean", "sum_cov")
    lines = said.splitlines()
    assert lines[0] == f"net.py:build is right on {100 * found['intact']:.1f}% of {found['images']} pictures as it is."
    for place, (line, number) in enumerate(zip(lines[1:-3], found["counts"], strict=True)):
        each = [f"{name} {100 * one['accuracy'][place]:.1f}%" for name, one in found["curves"].items()]
        assert line == f"  without {number} of 12 units of 4: {', '.join(each)}"
    ((((panel,),), options),) = drawn["removal_curves"]
    assert options == {"layer": "4", "kept": False}
    assert (panel.title, panel.counts, panel.intact) == ("net.py:build", tuple(found["counts"]), found["intact"])
    for name, ours in (("top shape", "shape"), ("top texture", "texture"), ("random", "random")):
        expected = found["curves"][ours]
        assert panel.lines[name].values.tolist() == expected["accuracy"]
        assert panel.lines[name].interval.T.tolist() == [expected["low"], expected["high"]]


def test_for_each_picture_that_is_passed_over_another_is_drawn() -> None:
    """Of 60 pictures five in six are unusable; the first of a draw of six are followed by those after them."""
    Path("sparse").mkdir()
    usable = [place for place in range(60) if place % 6 == 0]
    lines = [f"{place}.png,{'disc' if place in usable else 'zebra'}" for place in range(60)]
    for place in range(60):
        Path(f"sparse/{place}.png").write_bytes(Path(f"photos/{1 + place % 18}.png").read_bytes())
    Path("sparse/labels.csv").write_text("\n".join(["file,label", *lines, ""]))
    seen: list[int] = []
    for seed in (0, 4):
        words = (*REMOVE, "-d", "folder:sparse", "--seed", seed)
        document, _ = done(*words, "--limit", 6, out="sparse-out")
        assert document["images"] == 6
        order = np.random.default_rng(seed).permutation(60).tolist()
        place = [number in usable for number in order]
        last = [k for k, one in enumerate(place) if one][5]
        assert sum(place[:6]) < 6
        assert len(document["skipped"]) == last + 1 - 6
        seen.append(last)
    assert seen[0] != seen[1]
    # None is left.
    document, _ = done(*words, "--limit", 50, out="sparse-out")
    assert (document["images"], len(document["skipped"])) == (10, 50)


def test_what_is_passed_over_is_said_on_standard_error() -> None:
    ended = shell(*REMOVE, "--limit", 40, "-o", "removal")
    assert "skipped" not in ended.stdout
    assert "skipped 19.png: " in ended.stderr
    assert "skipped 0.png: the model has no class 'zebra'" in ended.stderr


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("--value", "zero"), {"value": "zero"}),
        (("--keep",), {"keep": True}),
        (("--limit", "9"), {"limit": 9}),
        (("--seed", "4"), {"seed": 4}),
        (("--count", "9"), {"count": 9}),
        (("--estimator", "mean_rho"), {"estimator": "mean_rho"}),
        (("--draws", "30"), {"draws": 30}),
    ],
)
def test_options_of_removal(words: tuple[str, ...], options: dict[str, Any], usual: dict[str, Any]) -> None:
    document, said = done(*REMOVE, *words, out=f"removal{words[0]}")
    found, _ = removed(**options)
    assert {name: document[name] for name in found} == found
    assert found != usual
    assert {name: document[name] for name in options if name != "limit"} == {
        name: value for name, value in options.items() if name != "limit"
    }
    assert ("with nothing but 12 of 12 units" in said) == ("--keep" in words)


@pytest.fixture(scope="module")
def usual(place: Path) -> dict[str, Any]:
    return removed()[0]


def test_the_last_layer_with_positions_where_none_is_named() -> None:
    document, _ = done(*(word for word in REMOVE if word not in ("--layer", "4")), out="last")
    assert document["layer"] == "5"


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (("--layer", "nowhere"), InputError, "no layer 'nowhere'"),
        (("--value", "one"), InputError, "--value is zero or mean, not 'one'"),
        (("--estimator", "guess"), InputError, "--estimator is"),
        (("-d", "heap:photos"), InputError, "no kind of data set 'heap'"),
        (("-d", "folder:single"), InputError, "only 1 of 2 pictures of folder:single/labels.csv can be used"),
        (("-d", "folder:photos?size=3"), InputError, "no option 'size'"),
        (
            ("-d", "folder:bad"),
            InputError,
            "none of 1 pictures of folder:bad/labels.csv can be used, but two are needed; the first",
        ),
        (("-o", "photos"), InputError, "'photos', whose pictures are read"),
        (("-o", "elsewhere/deeper"), InputError, "'photos', whose pictures are read"),
        (("-o", "stylised", "--pairs", "stylized:stylised"), InputError, "whose pictures are read"),
        (("--labels", "other.txt"), InputError, "the model has none of the data set's"),
    ],
)
def test_removals_that_are_refused(words: tuple[str, ...], kind: type[Exception], said: str) -> None:
    Path("bad").mkdir(exist_ok=True)
    Path("single").mkdir(exist_ok=True)
    Path("single/1.png").write_bytes(Path("photos/1.png").read_bytes())
    Path("single/labels.csv").write_text("file,label\n1.png,disc\nnone.png,disc\n")
    Path("bad/labels.csv").write_text("file,label\nnone.png,disc\n")
    Path("other.txt").write_text("\n".join(f"thing {number}" for number in range(len(SHAPES))))
    if not Path("elsewhere").exists():
        Path("elsewhere").symlink_to("photos")
    assert said in refused(*REMOVE, *words, kind=kind)


def test_removal_needs_names_of_classes() -> None:
    words = [word for word in REMOVE if word not in ("--labels", "labels.txt")]
    assert "have no names" in refused(*words)


# -- readout -----------------------------------------------------------------------------------------------------------

READ = (
    "readout",
    *OWN,
    "--train",
    TRAIN,
    "--test",
    TEST,
    "--epochs",
    4,
    "--rate",
    0.5,
    "--draws",
    20,
    "--batch-size",
    2,
)
PLAIN = (*READ, "--no-random")


def readout_of(layers: list[str], train: str = TRAIN, test: str = TEST, size: int = SIDE, **options: Any) -> Readout:
    model = options.pop("model", None) or network()
    given = {"task": "binary", "epochs": 4, "rate": 0.5, "draws": 20, "batch_size": 2, **options}
    return read(model, layers, open_segmented(train, size=size), open_segmented(test, size=size), **given)


def told_of(found: Readout) -> dict[str, Any]:
    iou = [None if np.isnan(value) else value for value in found.iou.tolist()]
    return {
        "layers": list(found.layers),
        "units": found.units,
        "miou": found.miou,
        "interval": [found.low, found.high],
        "iou": dict(zip(found.names, iou, strict=True)),
        "pixel_accuracy": found.accuracy,
    }


@pytest.fixture(scope="module")
def plainly(place: Path) -> Readout:
    return readout_of(["1"])


def test_readouts_are_those_of_the_library(drawn: Drawn, plainly: Readout) -> None:
    document, said = done(*READ, "--layer", "1", "--layer", "1+4", "--end-to-end", out="readout")
    other = random_encoder(network())
    expected = {
        "1": plainly,
        "1, random weights": readout_of(["1"], model=other),
        "1, end to end": readout_of(["1"], train_encoder=True),
        "1+4": readout_of(["1", "4"]),
        "1+4, random weights": readout_of(["1", "4"], model=other),
        "1+4, end to end": readout_of(["1", "4"], train_encoder=True),
    }
    assert document["readouts"] == {name: told_of(one) for name, one in expected.items()}
    assert list(document["readouts"]) == list(expected)
    assert len({one.miou for one in list(expected.values())[:3]}) == 3
    assert {name: document[name] for name in document if name != "readouts"} == {
        "model": "net.py:build",
        "train": TRAIN,
        "test": TEST,
        "all_background": all_background(TEST, binary=True),
        "task": "binary",
        "depth": 1,
        "standardise": False,
        "epochs": 4,
        "rate": 0.5,
        "batch_size": 2,
        "draws": 20,
        "seed": 0,
        "keep": None,
        "kept": {},
        "random_kept": {},
    }
    assert said.splitlines()[:6] == [f"  {name}: {one}" for name, one in expected.items()]
    assert said.splitlines()[6] == f"  all background: mIoU {document['all_background']:.3f}"
    (((shown,), options),) = drawn["readout_bars"]
    assert options == {"chance": document["all_background"], "guess": "all background"}
    assert shown == {name: (one.miou, one.low, one.high) for name, one in expected.items()}
    (((images, truths, predicted, names), options),) = drawn["readout_masks"]
    best = sorted(expected, key=lambda name: expected[name].miou)[-4:]
    assert options == {"scores": {name: expected[name].miou for name in expected if name in best}}
    assert names == ("background", "object")
    tested = open_segmented(TEST, size=SIDE)
    assert len(images) == len(truths) == 5
    for place, (image, truth) in enumerate(zip(images, truths, strict=True)):
        pixels, labels = tested[place]
        assert np.array_equal(image, pixels.permute(1, 2, 0).numpy())
        assert np.array_equal(truth, (labels > 0).long().numpy())
        for name, one in predicted.items():
            assert np.array_equal(one[place], expected[name].predict(pixels[None])[0].numpy())


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("--task", "semantic"), {"task": "semantic"}),
        (("--depth", "3"), {"depth": 3}),
        (("--epochs", "3"), {"epochs": 3}),
        (("--rate", "0.1"), {"rate": 0.1}),
        (("--seed", "3"), {"seed": 3}),
        (("--batch-size", "3"), {"batch_size": 3}),
        (("--standardise",), {"standardise": True}),
        (("--draws", "30"), {"draws": 30}),
        (("--image-size", "24"), {"size": 24}),
        (("--layer", "4"), {"layer": "4"}),
    ],
)
def test_options_of_readouts(words: tuple[str, ...], options: dict[str, Any], plainly: Readout) -> None:
    options = dict(options)
    layer = options.pop("layer", "1")
    document, _ = done(*PLAIN, *(() if "--layer" in words else ("--layer", "1")), *words, out=f"readout{words[0]}")
    found = told_of(readout_of([layer], **options))
    assert document["readouts"] == {layer: found}
    assert found != told_of(plainly)
    assert {name: document[name] for name in options if name != "size"} == {
        name: value for name, value in options.items() if name != "size"
    }


def test_an_end_to_end_network_is_not_standardised() -> None:
    document, _ = done(*PLAIN, "--layer", "1", "--end-to-end", "--standardise", out="both")
    assert document["readouts"] == {
        "1": told_of(readout_of(["1"], standardise=True)),
        "1, end to end": told_of(readout_of(["1"], train_encoder=True)),
    }


def test_readouts_of_the_units_of_one_factor() -> None:
    pairs = open_pairs("scenes", 6, size=SIDE)
    ranked = layer_dimensionality(network(), ["1", "4"], pairs, draws=0)
    kept = {path: factor_units(ranked[path], "texture") for path in ("4", "1")}
    assert all(0 < len(units) < ranked[path].units for path, units in kept.items())
    document, _ = done(
        *PLAIN, "--layer", "4", "--layer", "1+4", "--keep", "texture", "--count", 6, "--epochs", 1, out="kept"
    )
    assert document["kept"] == {path: units.tolist() for path, units in kept.items()}
    assert document["keep"] == "texture"
    assert document["readouts"] == {
        "4, its texture units": told_of(readout_of(["4"], keep={"4": kept["4"]}, epochs=1)),
        "1+4, their texture units": told_of(readout_of(["1", "4"], keep=kept, epochs=1)),
    }
    assert document["random_kept"] == {}


def test_each_network_is_read_by_its_own_units() -> None:
    pairs, other = open_pairs("scenes", 6, size=SIDE), random_encoder(network())
    kept, own = (
        factor_units(layer_dimensionality(model, ["4"], pairs, draws=0)["4"], "shape", 0.5)
        for model in (network(), other)
    )
    assert kept.tolist() != own.tolist()
    words = (*READ, "--layer", "4", "--keep", "shape", "--share", 0.5, "--count", 6, "--epochs", 1, "--end-to-end")
    document, _ = done(*words, out="kept-by-each")
    assert (document["kept"], document["random_kept"]) == ({"4": kept.tolist()}, {"4": own.tolist()})
    name = "4, the first 50 % of its shape units"
    assert document["readouts"] == {
        name: told_of(readout_of(["4"], keep={"4": kept}, epochs=1)),
        f"{name}, random weights": told_of(readout_of(["4"], model=other, keep={"4": own}, epochs=1)),
        f"{name}, end to end": told_of(readout_of(["4"], keep={"4": kept}, epochs=1, train_encoder=True)),
    }


def all_background(test: str, *, binary: bool) -> float:
    """Of each class that occurs its IoU if all is called background, pixel by pixel."""
    data = open_segmented(test, size=SIDE)
    pixels = [label for _, labels in data for label in labels.flatten().tolist() if label != 255]
    pixels = [min(label, 1) for label in pixels] if binary else pixels
    scores = [pixels.count(0) / len(pixels) if name == 0 else 0.0 for name in {0, *pixels}]
    return sum(scores) / len(scores)


@pytest.mark.parametrize("task", ["binary", "semantic"])
@pytest.mark.parametrize("test", ["voc2012:voc?split=val", "voc2012:voc?split=train"])
def test_the_zero_line_is_background_everywhere(task: str, test: str) -> None:
    words = (*PLAIN, "--layer", "1", "--train", "voc2012:voc", "--test", test, "--epochs", 1, "--task", task)
    document, _ = done(*words, out=f"zero-{task}")
    assert document["all_background"] == pytest.approx(all_background(test, binary=task == "binary"), abs=1e-12)


def test_training_and_test_images_that_are_the_same() -> None:
    words = (*PLAIN, "--layer", "1", "--epochs", 1, "-o", "alike")
    assert "note: --train and --test are spelled alike" in shell(*words, "--test", TRAIN).stderr
    assert "spelled alike" not in shell(*words).stderr


@pytest.mark.parametrize(
    ("words", "pairs", "count", "seed", "share"),
    [
        (("--share", "0.5"), "scenes", 6, 0, 0.5),
        (("--pairs", LAID, "--count", "2"), LAID, 2, 0, 1.0),
        (("--count", "3", "--seed", "2"), "scenes", 3, 2, 1.0),
    ],
)
def test_which_units_are_kept(words: tuple[str, ...], pairs: str, count: int, seed: int, share: float) -> None:
    def units(*given: Any, share: float = 1.0) -> list[int]:
        found = layer_dimensionality(network(), ["4"], given[0], draws=0)["4"]
        return factor_units(found, "shape", share).tolist()

    document, _ = done(
        *PLAIN, "--layer", "4", "--keep", "shape", "--count", 6, "--epochs", 1, *words, out=f"kept{words[0]}"
    )
    assert document["kept"]["4"] == units(open_pairs(pairs, count, size=SIDE, seed=seed), share=share)
    assert document["kept"]["4"] != units(open_pairs("scenes", 6, size=SIDE))
    assert next(iter(document["readouts"].values()))["units"] == len(document["kept"]["4"])


def test_readouts_of_label_maps(drawn: Drawn) -> None:
    train, test = "voc2012:voc?split=train", "voc2012:voc?split=val"
    words = (*PLAIN, "--layer", "1", "--train", train, "--test", test)
    document, _ = done(*words, "--task", "semantic", out="of-voc")
    found = readout_of(["1"], train, test, task="semantic")
    assert document["readouts"] == {"1": told_of(found)}
    assert document["readouts"]["1"]["iou"]["cat"] is None
    assert (document["train"], document["test"]) == (train, test)
    done(*words, out="of-voc")
    semantic, binary = (call[0][1] for call in drawn["readout_masks"])
    assert {int(value) for one in semantic for value in np.unique(one)} == {0, 1, 2, 255}
    assert {int(value) for one in binary for value in np.unique(one)} == {0, 1, 255}


def test_readouts_of_layers_that_are_not_named() -> None:
    document, _ = done(*PLAIN, "--epochs", 1, out="each")
    assert list(document["readouts"]) == ["1", "4", "5"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--task", "panoptic"), "--task is binary or semantic, not 'panoptic'"),
        (("--depth", "2"), "--depth is 1 or 3, not 2"),
        (("--rate", "0"), "--rate is a number above 0, not 0"),
        (("--rate", "nan"), "--rate is a number above 0, not nan"),
        (("--rate", "inf"), "--rate is a number above 0, not inf"),
        (("--keep", "colour"), "--keep is shape or texture, not 'colour'"),
        (("--keep", "shape", "--share", "0"), "--share is above 0, up to 1, not 0"),
        (("--keep", "shape", "--share", "1.5"), "--share is above 0, up to 1, not 1.5"),
        (("--keep", "shape", "--share", "nan"), "--share is above 0, up to 1, not nan"),
        (("--share", "0.5"), "name their factor with --keep"),
        (("--pairs", "scenes"), "name their factor with --keep"),
        (("--count", "9"), "name their factor with --keep"),
        (("--layer", "nowhere"), "no layer 'nowhere'"),
        (("--layer", "1+nowhere"), "no layer 'nowhere'"),
        (("--layer", "4"), "--layer '4' names a layer twice, or none"),
        (("--layer", "1+1"), "--layer '1+1' names a layer twice, or none"),
        (("--layer", "1+"), "--layer '1+' names a layer twice, or none"),
        (("--layer", "7"), "maps (B, N, h, w) were expected"),
        (("--train", "heap:x"), "no kind of data set 'heap'"),
        (("--test", "voc2012:voc?split=last"), "last"),
        (("--train", "voc2012:voc?splits=x"), "has no option 'splits'"),
        (("--keep", "shape", "--pairs", "heaps"), "no source of pairs 'heaps'"),
        (("-o", "voc/out", "--test", "voc2012:voc?split=val"), "'voc', whose pictures are read"),
        (("-o", "voc", "--train", "voc2012:voc"), "'voc', whose pictures are read"),
        (("--keep", "shape", "-o", "photos", "--pairs", "pictures:folder:photos"), "'photos', whose pictures are read"),
    ],
)
def test_readouts_that_are_refused(words: tuple[str, ...], said: str) -> None:
    assert said in refused(*PLAIN, "--layer", "4", *words)


def test_a_layer_without_units_of_the_factor() -> None:
    words = [word for word in PLAIN if word not in ("--labels", "labels.txt")]
    said = refused(*words, "-m", "net.py:few", "--layer", "1", "--keep", "shape", "--count", 2)
    assert re.fullmatch(r"layer '1' has shape 0, texture 0, neither 2 of 2, so none to keep; name .*", said)


# -- bias --------------------------------------------------------------------------------------------------------------

DECIDE = ("bias", "conflicts", *OWN, "--categories", "given.json", "--draws", 20)


def test_the_bias_is_that_of_the_library(drawn: Drawn) -> None:
    document, said = done(*DECIDE, out="bias")
    found = shape_bias(network(), ConflictFolder("conflicts"), categories=GIVEN, draws=20)
    assert 0 < found.bias < 1
    assert found.counts[2] > 0
    names = found.names
    assert names == tuple(GIVEN)
    assert document == {
        "model": "net.py:build",
        "conflicts": "cue conflicts of 'conflicts'",
        "categories": {"round": [0, 4], "box": [1], "star": [3], "none of these": [5, 9]},
        "aggregate": "mean",
        "draws": 20,
        "seed": 0,
        "shape_bias": found.bias,
        "interval": [found.low, found.high],
        "decisions": dict(zip(("shape", "texture", "neither"), found.counts, strict=True)),
        "left_out": 1,
        "by_shape": {
            name: None if np.isnan(v) else v for name, v in zip(names, found.by_category.tolist(), strict=True)
        },
        "pictures": [
            {"picture": name, "shape": names[a], "texture": names[b], "decision": names[c]}
            for name, a, b, c in zip(
                found.pictures, found.shapes.tolist(), found.textures.tolist(), found.decisions.tolist(), strict=True
            )
        ],
    }
    assert document["by_shape"]["none of these"] is None
    assert said.splitlines()[:2] == [
        f"net.py:build: {found}",
        "  left out: 1, whose shape and texture are of one category",
    ]
    (((shown,), _),) = drawn["bias_figure"]
    assert list(shown) == ["net.py:build"]
    assert shown["net.py:build"].bias == found.bias
    (((explained,), _),) = drawn["conflict_figure"]
    folder = ConflictFolder("conflicts")
    conflicting = [index for index in range(len(folder)) if folder[index].conflicts]
    assert len(conflicting) == 24
    for one, place in zip(explained, (0, 6, 12, 18), strict=True):
        expected = explain_conflict(network(), folder[conflicting[place]], categories=GIVEN)
        assert one.name == expected.name == found.pictures[place]
        assert torch.equal(one.shape.relevance, expected.shape.relevance)
        # What is beneath the maps is what was counted.
        assert one.decision == names[int(found.decisions[place])]


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("--aggregate", "sum"), {"aggregate": "sum"}),
        (("--aggregate", "max"), {"aggregate": "max"}),
        (("--seed", "3"), {"seed": 3}),
        (("--draws", "35"), {"draws": 35}),
        (("--categories", "pairs.json"), {"categories": {"round": 4, "box": 1, "star": 0}}),
    ],
)
def test_options_of_the_bias(words: tuple[str, ...], options: dict[str, Any]) -> None:
    Path("pairs.json").write_text(json.dumps({"round": 4, "box": "square", "star": "disc"}))
    document, _ = done(*DECIDE, "--maps", 0, *words, out=f"bias-{'-'.join(words)}")
    folder, usual = ConflictFolder("conflicts"), {"categories": GIVEN, "draws": 20}
    found = shape_bias(network(), folder, **{**usual, **options})
    other = shape_bias(network(), folder, **usual)
    assert [document["shape_bias"], *document["interval"]] == [found.bias, found.low, found.high]
    said = [one["decision"] for one in document["pictures"]]
    assert said == [found.names[place] for place in found.decisions.tolist()]
    assert said != [other.names[place] for place in other.decisions.tolist()] or (found.low, found.high) != (
        other.low,
        other.high,
    )
    assert not Path(f"bias-{'-'.join(words)}/conflicts.png").exists()


def test_how_many_maps(drawn: Drawn) -> None:
    done(*DECIDE, "--maps", 2, "--aggregate", "sum", out="two")
    done(*DECIDE, "--maps", 12, out="all")
    assert [len(call[0][0]) for call in drawn["conflict_figure"]] == [2, 12]


def test_categories_by_name() -> None:
    names = ["round", "box", "star", *(f"thing {number}" for number in range(9))]
    Path("named.txt").write_text("\n".join(names))
    words = [word for word in DECIDE if word not in ("--categories", "given.json")]
    document, _ = done(*words, "--labels", "named.txt", "--maps", 3, out="by-name")
    assert document["categories"] == {"box": [1], "round": [0], "star": [2]}
    assert {one["decision"] for one in document["pictures"]} <= {"box", "round", "star"}


def test_a_bias_of_no_decisions_is_null() -> None:
    """A category that is no picture's takes all of them."""
    given = {"round": 4, "box": 1, "star": 3, "all else": [0, 2, 5, 6, 7, 8, 9, 10, 11]}
    Path("else.json").write_text(json.dumps(given))
    found = shape_bias(network(), ConflictFolder("conflicts"), categories=given, aggregate="sum")
    document, _ = done(*DECIDE, "--categories", "else.json", "--aggregate", "sum", "--maps", 1, out="else")
    assert document["decisions"]["neither"] == found.counts[2]
    assert (document["shape_bias"] is None) == bool(np.isnan(found.bias))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--aggregate", "median"), "--aggregate is mean, max or sum, not 'median'"),
        (("--categories", "none.json"), "no file 'none.json'"),
        (("--categories", "broken.json"), "no JSON that can be read (Expecting value, line 2)"),
        (("--categories", "deep.json"), "no JSON that can be read; see --categories"),
        (("--categories", "long.json"), "no JSON that can be read; see --categories"),
        (("--categories", "list.json"), "no object of classes by category"),
        (("--categories", "empty.json"), "no object of classes by category"),
        (("--categories", "truth.json"), "no object of classes by category"),
        (("--categories", "nested.json"), "no object of classes by category"),
        (("--categories", "few.json"), "the categories give no classes for box"),
        (("--categories", "twice.json"), "it can be in one"),
        (("--categories", "beyond.json"), "12"),
        (("--categories", "named-twice.json"), "the categories name 'round' twice"),
        (("-o", "conflicts"), "'conflicts', whose pictures are read"),
        (("-o", "conflicts/star"), "'conflicts', whose pictures are read"),
        (("-o", "kept-given", "--categories", "kept-given/bias.json"), "a file that is read"),
    ],
)
def test_biases_that_are_refused(words: tuple[str, ...], said: str) -> None:
    broken = {
        "broken": '{"a":\n}',
        "deep": "[" * 100_000,
        "long": '{"round": ' + "9" * 5000 + "}",
        "list": "[1, 2]",
        "empty": "{}",
        "truth": '{"round": true}',
        "nested": '{"round": [[1]]}',
        "few": '{"round": 4, "star": 3}',
        "twice": '{"round": 4, "star": 3, "box": [1, 3]}',
        "named-twice": '{"round": 4, "round": 1, "star": 3, "box": 2}',
        "beyond": '{"round": 4, "star": 3, "box": 12}',
    }
    Path("kept-given").mkdir(exist_ok=True)
    for name, text in {**broken, "kept-given/bias": json.dumps(GIVEN)}.items():
        Path(f"{name}.json").write_text(text)
    assert said in refused(*DECIDE, *words)


def test_conflicts_that_are_none() -> None:
    for name in ("alike/cat/cat1-cat2.png", "unread/cat/cat1-dog2.png", "unread/dog/dog1-cat2.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"none")
    Path("cats.json").write_text('{"cat": 0, "dog": 1}')
    words = (*DECIDE[2:], "--categories", "cats.json")
    assert "cue conflicts" in refused("bias", "missing", *words)
    assert "holds no cue conflicts" in refused("bias", "alike/cat", *words)
    assert "none has the shape of one category and the texture of another" in refused("bias", "alike", *words)
    assert "cat1-dog2.png" in refused("bias", "unread", *words)


def test_the_categories_of_a_model_without_names() -> None:
    words = ("bias", "conflicts", *NAMELESS, "--draws", 20, "--maps", 0)
    assert "no class names to find the categories by; give them with --labels" in refused(*words)
    Path("numbers.json").write_text('{"round": [0, 4], "box": 1, "star": 3, "none of these": [5, 9]}')
    document, _ = done(*words, "--categories", "numbers.json", out="numbers")
    found = shape_bias(network(), ConflictFolder("conflicts"), categories=GIVEN, draws=20)
    assert document["shape_bias"] == found.bias
    assert [one["decision"] for one in document["pictures"]] == [found.names[k] for k in found.decisions.tolist()]


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        (*LOOK, "--layer", "1"),
        REMOVE,
        (*PLAIN, "--layer", "1"),
        (*PLAIN, "--layer", "1", "--task", "semantic", "--train", "voc2012:voc", "--test", "voc2012:voc?split=val"),
        (*DECIDE, "--maps", 1),
    ],
    ids=["dimensions", "removal", "readout", "readout-of-voc", "bias"],
)
def test_pictures_are_rendered(words: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    done(*words, out=f"drawn-{words[0]}")
    for file in Path(f"drawn-{words[0]}").glob("*.png"):
        with PIL.Image.open(file) as picture:
            assert picture.width > 1000
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_names_that_no_letters_spell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may be called by any bytes, and by what elsewhere means a formula."""
    monkeypatch.undo()
    odd = os.fsdecode(b"o\xffd$x^2$")
    Path(f"odd/{odd}").mkdir(parents=True)
    picture = Scenes(1, size=32, seed=1)[0].picture.permute(1, 2, 0).numpy()
    PIL.Image.fromarray((picture * 255).astype(np.uint8)).save(f"odd/{odd}/{odd}1-box1.png")
    Path("odd.json").write_text(json.dumps({odd: 4, "box": 1}))
    document, said = done("bias", "odd", *DECIDE[2:-4], "--categories", "odd.json", "--maps", 1, out="of-odd")
    assert document["pictures"][0]["shape"] == odd
    assert "\udcff" not in said


def test_a_checkpoint_that_does_not_fit_is_named() -> None:
    Path("misfit").mkdir()
    state = random_encoder(network(), seed=1).module.state_dict()
    save_file({name: one[:1].clone() for name, one in state.items()}, "misfit/epoch-1.safetensors")
    said = refused(*LOOK, "--layer", "1", "--checkpoints", "misfit", kind=ModelError)
    assert "the weights in 'misfit/epoch-1.safetensors' do not fit" in said


def test_nothing_goes_among_stylised_images_whatever_their_folder_is_called() -> None:
    Path("s?x=1").mkdir()
    words = (*LOOK, "--layer", "1", "--pairs", "stylized:s?x=1")
    assert "whose pictures are read" in refused(*words, "-o", "s?x=1")


def test_a_network_that_cannot_be_random_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*given: Any, **options: Any) -> Any:
        raise ModelError("parameters are left; build the model anew")

    monkeypatch.setattr("visavis.shape_texture.random_encoder", fails)
    said = refused(*READ, "--layer", "1", kind=ModelError)
    assert said == "parameters are left; build the model anew; or leave the random network out, with --no-random"


def test_an_interval_that_has_no_ends_is_null(tmp_path: Path) -> None:
    document = {"interval": [float("nan"), 1.0], "of": {"a": (float("nan"), 2)}, "left": 3}
    write_results(tmp_path, {}, "numbers.json", document)
    found = json.loads((tmp_path / "numbers.json").read_text("ascii"))
    assert found == {"interval": [None, 1.0], "of": {"a": [None, 2]}, "left": 3}

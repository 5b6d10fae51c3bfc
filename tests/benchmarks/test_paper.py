"""The paper's experiments, end to end on a few generated pictures in ImageNet's layout with three tiny networks."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from rich.console import Console
from scipy.stats import spearmanr
from torch import Tensor, nn

import visavis as vv
from visavis.benchmarking.results import read_results
from visavis.benchmarking.shards import Folder
from visavis.datasets import ImageNet
from visavis.datasets.placement import placement_of
from visavis.evaluation import summary
from visavis.labels import Labels

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # its scripts import one another from there

import paper
import paper_models
from paper_maps import strongest_units, units_of
from paper_pictures import sheet

pytestmark = pytest.mark.slow  # the networks are those of the paper, as large as they are

IDS = ("n01440764", "n02085620", "n02391049", "n03085013", "n04254680", "n07753592")
NAMES = ("tench", "Chihuahua", "zebra", "keyboard", "soccer ball", "banana")
COLOURS = ((220, 60, 40), (40, 180, 60), (50, 80, 220), (210, 190, 40), (160, 60, 200), (60, 200, 200))
ALEXNET, VGG16, GOOGLENET = paper.MODELS
SIZE, SIDE = (60, 45), 32
#: WordNet id's place in IDS, and the boxes, of each picture; boxes have inclusive ends, as ImageNet's have.
PICTURES = (
    (0, [(30, 15, 49, 39)]),
    (1, [(20, 10, 40, 30)]),
    (2, [(9, 5, 22, 20), (34, 22, 50, 40)]),  # two objects: takes no part in the pointing game
)
QUIET = Console(quiet=True)
#: Of the run of everything.
PATCH, SAMPLES, UNITS, OTHERS = 5, 2, 3, 2


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Keep to one thread: for so small networks, more of them wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- the fixture -------------------------------------------------------------------------------------------------------


class Branches(nn.Module):
    """Two branches beside each other, as in GoogLeNet, and a pooling whose channels are its last hidden units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.narrow, self.wide = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 3, padding=1)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(12, len(IDS))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        x = self.stem(inputs).relu()
        x = torch.cat([self.narrow(x).relu(), self.wide(x).relu()], 1)
        return self.fc(self.avgpool(x).flatten(1))


class Dense(nn.Module):
    """Convolutions, then dense layers, as in AlexNet (which begins them with dropout) and VGG16."""

    def __init__(self, *before: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.MaxPool2d(2))
        self.avgpool = nn.AdaptiveAvgPool2d(4)
        self.classifier = nn.Sequential(*before, nn.Linear(128, 24), nn.ReLU(), nn.Linear(24, len(IDS)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits."""
        return self.classifier(self.avgpool(self.features(inputs)).flatten(1))


def to_tensor(picture: PIL.Image.Image) -> Tensor:
    """The middle of a picture whose short side is brought to 36 pixels: values from -1 to 1."""
    scale = 36 / min(picture.size)
    small = picture.resize((round(picture.width * scale), round(picture.height * scale)), PIL.Image.Resampling.BILINEAR)
    left, top = (small.width - SIDE) // 2, (small.height - SIDE) // 2
    crop = np.asarray(small.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float32)
    return torch.from_numpy(crop / 127.5 - 1).permute(2, 0, 1)


def tiny(name: str) -> vv.Classifier:
    """A network of a few weights for each of the paper's three, in float64, so that no rounding decides a rank."""
    with torch.random.fork_rng():
        torch.manual_seed(paper.MODELS.index(name))
        module = {ALEXNET: lambda: Dense(nn.Dropout()), VGG16: Dense, GOOGLENET: Branches}[name]().double().eval()
        *_, last = module.modules()
        last.weight.data *= 20  # decided enough for drops that a table shows
    labels = Labels(NAMES, wordnet_ids=IDS)
    return vv.Classifier(module, preprocess=to_tensor, labels=labels, bounds=(-1.0, 1.0), name=name)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated pictures in ImageNet's layout: noise, with a rectangle of the class's colour in each box."""
    folder = tmp_path_factory.mktemp("imagenet")
    generator = np.random.default_rng(0)
    (folder / "boxes").mkdir()
    for number, (place, boxes) in enumerate(PICTURES):
        pixels = generator.integers(90, 150, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        for x0, y0, x1, y1 in boxes:
            pixels[y0 : y1 + 1, x0 : x1 + 1] = COLOURS[place]
        (folder / "val" / IDS[place]).mkdir(parents=True, exist_ok=True)
        stem = f"ILSVRC2012_val_0000{number:04d}"
        PIL.Image.fromarray(pixels).save(folder / "val" / IDS[place] / f"{stem}.JPEG", quality=95)
        objects = "".join(
            f"<object><name>{IDS[place]}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
            f"<ymax>{y1}</ymax></bndbox></object>"
            for x0, y0, x1, y1 in boxes
        )
        size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
        (folder / "boxes" / f"{stem}.xml").write_text(
            f"<annotation><filename>{stem}</filename>{size}{objects}</annotation>"
        )
    return folder


def make(root: Path, output: Path, *options: str) -> Path:
    return paper.run(paper.parsed([str(root), "-o", str(output), *options]), QUIET, tiny)


@pytest.fixture(scope="module")
def output(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of everything."""
    folder = tmp_path_factory.mktemp("out") / "paper"
    asked = {"pictures": 1, "patch": PATCH, "samples": SAMPLES, "units": UNITS, "others": OTHERS, "shares": "0.2,0.5"}
    make(root, folder, *(word for name, value in asked.items() for word in (f"--{name}", str(value))))
    return folder


def tables(page: Path) -> dict[tuple[str, ...], list[str]]:
    """The rows of all tables on a page: what stands in their first two columns, under the section, to the figures."""
    found, section = {}, ""
    for line in page.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("| ") and not line.startswith("| ---"):
            first, second, *figures = (part.strip() for part in line.strip("|").split("|"))
            # Two tables of one section may have the same rows.
            found[section, first, second] = found.get((section, first, second), []) + figures
    return found


# -- values, computed directly -----------------------------------------------------------------------------------------


def directly(root: Path) -> list[tuple[str, Tensor, int, Tensor]]:
    """Each picture's name, input, class, and the pixels in its boxes."""
    found = []
    for sample in ImageNet(root):
        picture = sample.load()
        # The short side of 45 pixels becomes 36, and the middle 32 × 32 of 48 × 36 is taken.
        inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        for annotation in sample.annotations:
            x0, y0, x1, y1 = (0.8 * edge for edge in annotation.box)
            for y in range(SIDE):
                for x in range(SIDE):
                    inside[y, x] |= x0 - 8 <= x + 0.5 < x1 - 8 and y0 - 2 <= y + 0.5 < y1 - 2
        found.append((sample.name, to_tensor(picture).double()[None], IDS.index(str(sample.label)), inside))
    return found


def agree(cell: str, values: Sequence[float]) -> bool:
    """Whether a cell shows the mean of values, one a picture, with its interval."""
    return cell == re.sub(r"-(0\.000)", r"\1", str(summary(values)))


def ranked(one: Tensor, other: Tensor) -> float:
    return float(spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic)


def angle(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum() / one.square().sum().sqrt() / other.square().sum().sqrt())


def test_classes_are_compared_as_by_hand(root: Path, output: Path) -> None:
    classifier = tiny(VGG16)
    clrp = vv.CLRP(classifier, foil="negated")
    ranks, cosines = [], []
    for _, inputs, label, _ in directly(root):
        strongest = [index for index in classifier(inputs)[0].argsort(descending=True).tolist() if index != label]
        own, *others = (clrp.attribute(inputs, target=index)[0].sum(0) for index in [label, *strongest[:OTHERS]])
        ranks.append(float(np.mean([ranked(own, other) for other in others])))
        cosines.append(float(np.mean([angle(own, other) for other in others])))
    rank, cosine, _, count = tables(output / "paper.md")["Differences between classes", VGG16, "CLRP2 (negated)"]
    assert agree(rank, ranks)
    assert agree(cosine, cosines)
    assert count == str(len(PICTURES))


def test_neurons_are_compared_as_by_hand(root: Path, output: Path) -> None:
    classifier = tiny(ALEXNET)
    module: Any = classifier.module
    clrp = vv.CLRP(classifier, layer="classifier.1")
    cosines = []
    for _, inputs, _, _ in directly(root):
        with torch.no_grad():
            active = module.classifier[:2](module.avgpool(module.features(inputs)).flatten(1))[0]
        units = active.argsort(descending=True)[:UNITS].tolist()
        assert float(active[units].min()) > 0
        maps = [clrp.attribute(inputs, target=unit)[0].sum(0) for unit in units]
        cosines.append(float(np.mean([angle(one, other) for one, other in combinations(maps, 2)])))
    row = tables(output / "paper.md")["Differences between neurons", f"{ALEXNET}, classifier.1", "CLRP1 (others)"]
    assert agree(row[1], cosines)
    assert row[3] == str(len(PICTURES))


def test_only_active_neurons_take_part(root: Path) -> None:
    classifier = tiny(VGG16)
    module: Any = classifier.module
    inputs = directly(root)[0][1]
    with torch.no_grad():
        scores = module.classifier[0](module.avgpool(module.features(inputs)).flatten(1))[0]
        numbers, activations = strongest_units(classifier, "classifier.0", inputs, len(scores))
        assert 2 < len(numbers) < len(scores)
        assert numbers == [unit for unit in scores.argsort(descending=True).tolist() if scores[unit] > 0]
        assert activations == pytest.approx(scores[numbers].tolist())
        module.classifier[0].bias[numbers[1:]] -= 9
    with pytest.raises(vv.InputError, match=r"fewer than two units of layer 'classifier\.0' are active"):
        units_of(classifier, "classifier.0", {}, inputs, 4)


def test_models_are_compared_as_by_hand(root: Path, output: Path) -> None:
    methods = [vv.LRP(tiny(name)) for name in (ALEXNET, GOOGLENET)]
    ranks = []
    for _, inputs, label, _ in directly(root):
        one, other = (method.attribute(inputs, target=label)[0].sum(0) for method in methods)
        ranks.append(ranked(one, other))
    row = tables(output / "paper.md")["Differences between models", f"{ALEXNET} and {GOOGLENET}", "LRP"]
    assert agree(row[0], ranks)


def clean(heat: Tensor, inside: Tensor) -> float:
    """The energy of the largest pixels before the first that is outside, as a share of all."""
    order = heat.flatten().clamp(min=0).argsort(descending=True).tolist()
    kept = 0.0
    for place in order:
        if not inside.flatten()[place]:
            break
        kept += float(heat.flatten()[place])
    return kept / float(heat.clamp(min=0).sum())


def test_the_pointing_game_is_played_as_by_hand_on_pictures_of_one_object(root: Path, output: Path) -> None:
    clrp = vv.CLRP(tiny(GOOGLENET))
    hits, areas = [], []
    for _, inputs, label, inside in directly(root)[:2]:
        heat = clrp.attribute(inputs, target=label)[0].sum(0)
        hits.append(float(inside.flatten()[heat.argmax()]))
        areas.append(clean(heat, inside))
    row = tables(output / "paper.md")["Pointing game", GOOGLENET, "CLRP1 (others)"]
    assert agree(row[0], hits)
    assert agree(row[1], areas)
    assert row[2] == "2"
    for cell, share in zip(row[3:], (0.2, 0.5), strict=True):
        passes = summary([float(area >= share) for area in areas], draws=1000)
        assert cell == str(passes)
    assert 0 < np.mean(hits) <= 1
    assert 0.2 < max(areas) < 1


def test_ablation_is_measured_as_by_hand(root: Path, output: Path) -> None:
    classifier = tiny(VGG16)
    method = vv.method("guided-backprop")(classifier)
    drops = []
    for _, inputs, label, _ in directly(root):
        place = int(method.attribute(inputs, target=label)[0].sum(0).argmax())
        y, x = divmod(place, SIDE)
        without = inputs.clone()
        rows, columns = (slice(max(0, centre - PATCH // 2), centre + PATCH // 2 + 1) for centre in (y, x))
        without[:, :, rows, columns] = inputs.mean((2, 3), keepdim=True)
        before, after = (classifier(one).detach().softmax(1)[0, label] for one in (inputs, without))
        drops.append(float(before - after))
    results = read_results(output / "values" / "ablation").to_pylist()
    found = [
        row["value"] for row in results if (row["model"], row["method"], row["key"]) == (VGG16, "guided-backprop", "")
    ]
    assert found == pytest.approx(drops, abs=1e-9)
    assert np.ptp(drops) > 1e-6
    row = tables(output / "paper.md")["Ablation study", VGG16, "Guided Backpropagation"]
    assert agree(row[0], drops)
    random = {
        (row["method"], row["picture"]): row["value"]
        for row in results
        if (row["model"], row["key"]) == (VGG16, "random")
    }
    assert len(set(random.values())) == len(PICTURES)  # the same patches for every method
    assert agree(row[1], list(dict.fromkeys(random.values())))
    assert row[0] != row[1]


# -- the page and its pictures -----------------------------------------------------------------------------------------


def test_every_method_and_baseline_has_its_rows(output: Path) -> None:
    found = tables(output / "paper.md")
    every = {"Gradient", "DeConvNet", "Guided Backpropagation", "LRP", "Deep Taylor", "CLRP1 (others)"}
    every |= {"CLRP2 (negated)", "Centre", "Random", "Edges (Sobel)"}
    for section in ("Pointing game", "Ablation study"):
        assert {(model, method) for key, model, method in found if key == section and model in paper.MODELS} == {
            (model, method) for model in paper.MODELS for method in every
        }
    pairs = {model for key, model, _ in found if key == "Differences between models"} - {"models"}
    assert pairs == {f"{one} and {other}" for one, other in combinations(paper.MODELS, 2)}


def test_the_page_names_its_choices_and_its_command(output: Path) -> None:
    page = (output / "paper.md").read_text()
    choices = {
        key[1]: [key[2], *figures] for key, figures in tables(output / "paper.md").items() if key[0] == "Choices"
    }
    for option in ("targets", "frame", "channels", "objects", "shares", "patch", "fill", "score", "layer", "normalize"):
        assert choices[f"--{option}"][2]
    assert choices["--patch"][0] == str(PATCH)
    assert choices["--shares"][0] == "0.2, 0.5"
    assert choices["--layer"][0] == f"{ALEXNET}=classifier.1, {VGG16}=classifier.0, {GOOGLENET}=avgpool"
    assert "none of them established as the paper's" in page
    (line,) = (line.strip() for line in page.splitlines() if line.startswith("    python benchmarks/paper.py"))
    again = paper.parsed(shlex.split(line)[2:])
    assert (again.patch, again.shares, again.models, again.output) == (PATCH, (0.2, 0.5), paper.MODELS, output)


def test_pictures_stand_where_the_page_says_and_show_something(output: Path) -> None:
    places = re.findall(r"!\[[^]]*\]\(([^)]*)\)", (output / "paper.md").read_text())
    assert len(places) == len(set(places)) == 3 + 3 + 1 + 3
    assert {output / place for place in places} == set((output / "pictures").iterdir())
    for place in places:
        pixels = np.asarray(PIL.Image.open(output / place).convert("RGB")).astype(int)
        orange = (pixels[..., 0] > pixels[..., 2] + 60) & (pixels[..., 0] > 120)
        assert orange.mean() > (0 if "pointing" in place else 0.003), place
        assert pixels.std() > 20, place


def test_a_sheet_draws_the_maps_that_it_is_given(tmp_path: Path) -> None:
    heat = torch.zeros(2, 3, 20, 20)
    heat[1, 2, 5:15, 5:15] = 1
    figure = sheet(torch.full((3, 20, 20), 0.5), ["a", "b"], ["x", "y", "z"], heat, title="t", shared=True)
    picture, *cells = (np.asarray(axes.images[0].get_array()) for axes in figure.axes)
    assert len(cells) == 6
    assert [bool(np.ptp(cell) > 0.1) for cell in cells] == [False] * 5 + [True]
    assert picture == pytest.approx(0.5)
    assert [axes.get_title() for axes in figure.axes] == ["the picture", "x", "y", "z", "", "", ""]
    # No evidence is said, and not left grey.
    assert sum(text.get_text() == "no evidence" for axes in figure.axes for text in axes.texts) == 5


def test_a_scale_is_shared_only_where_asked() -> None:
    heat = torch.stack([torch.full((20, 20), 1.0), torch.full((20, 20), 0.1)])[None]
    cells = {}
    for shared in (True, False):
        figure = sheet(torch.full((3, 20, 20), 0.5), ["a"], ["x", "y"], heat, title="t", shared=shared)
        cells[shared] = [np.asarray(axes.images[0].get_array()) for axes in figure.axes[1:]]
    assert cells[False][0] == pytest.approx(cells[False][1])
    assert np.abs(cells[True][0] - cells[True][1]).max() > 0.1


# -- options bite ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def usual(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[tuple[str, ...], float]]:
    """What each experiment finds on VGG16's stand-in alone, on all pictures."""
    folder = tmp_path_factory.mktemp("usual")
    names = ("pointing", "ablation", "neurons", "classes")
    return {name: values(root, folder / name, name, "--limit", "9") for name in names}


def values(root: Path, folder: Path, experiment: str, *options: str) -> dict[tuple[str, ...], float]:
    """What an experiment finds on VGG16's stand-in, by method, metric, key and case; on one picture, unless told."""
    few = () if {"--objects", "--targets", "--limit", "--seed", "--tolerance"} & set(options) else ("--limit", "1")
    make(root, folder, "--models", VGG16, "--experiments", experiment, "--pictures", "0", *few, *options)
    rows = read_results(folder / "values" / experiment).to_pylist()
    return {(row["method"], row["metric"].partition(":")[0], row["key"], row["case"]): row["value"] for row in rows}


@pytest.mark.parametrize(
    ("experiment", "option", "value", "method"),
    [
        ("ablation", "--channels", "magnitude", "gradient"),
        ("pointing", "--frame", "resize", "lrp"),
        pytest.param("pointing", "--tolerance", "40", "gradient", marks=pytest.mark.slow),
        ("pointing", "--objects", "any", None),
        ("pointing", "--targets", "predicted", None),
        pytest.param("pointing", "--limit", "1", None, marks=pytest.mark.slow),
        ("ablation", "--patch", "3", "lrp"),
        pytest.param("ablation", "--fill", "blur", "lrp", marks=pytest.mark.slow),
        ("ablation", "--score", "logit", "lrp"),
        pytest.param("ablation", "--samples", "2", "lrp", marks=pytest.mark.slow),
        pytest.param("ablation", "--seed", "1", "lrp", marks=pytest.mark.slow),
        ("neurons", "--units", "3", "lrp"),
        ("neurons", "--layer", f"{VGG16}=features.1", "lrp"),
        ("classes", "--others", "1", "lrp"),
        ("classes", "--seed-mode", "logit", "clrp:foil=logits"),
        pytest.param("classes", "--normalize", "sum", "clrp:normalize=sum", marks=pytest.mark.slow),
        pytest.param("classes", "--rules", "epsilon-plus", "lrp:rules=epsilon-plus", marks=pytest.mark.slow),
    ],
)
def test_each_choice_changes_what_is_found(
    usual: dict[str, dict[tuple[str, ...], float]],
    root: Path,
    tmp_path: Path,
    experiment: str,
    option: str,
    value: str,
    method: str | None,
) -> None:
    found = values(root, tmp_path / "run", experiment, option, value)
    if method is None:
        assert {case for *_, case in found} != {case for *_, case in usual[experiment]}
        return
    differences = [
        abs(number - usual[experiment][method.partition(":")[0], metric, key, case])
        for (name, metric, key, case), number in found.items()
        if name == method
    ]
    assert max(differences) > 1e-9


def test_whole_pictures_are_brought_to_the_size_with_the_values_of_the_model() -> None:
    whole = paper_models.seen_whole(tiny(VGG16))
    assert whole.preprocess is not None
    left = PIL.Image.new("RGB", (200, 50), "black")
    left.paste((255, 255, 255), (0, 0, 100, 50))
    seen = whole.preprocess(left)
    assert seen.shape == (3, SIDE, SIDE)
    assert (float(seen.min()), float(seen.max())) == (-1.0, 1.0)
    assert seen[:, :, : SIDE // 2 - 2].eq(1).all()
    assert seen[:, :, SIDE // 2 + 2 :].eq(-1).all()
    placement = placement_of(whole.preprocess, (200, 50))
    assert placement.boxes([[100, 10, 200, 50]])[0].tolist() == pytest.approx([16, 6.4, 32, 32], abs=0.5)
    assert whole.name == f"{VGG16}, whole picture"


# -- runs that end, and what is wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", ["neurons", pytest.param("ablation", marks=pytest.mark.slow)])
def test_a_run_that_was_ended_leaves_nothing_half_written_and_comes_to_the_same(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--models", f"{ALEXNET},{VGG16}", "--experiments", experiment, "--pictures", "1", "--limit", "1")
    through, ended = tmp_path / "through", tmp_path / "ended"
    make(root, through, *options)
    used: list[str] = []
    write = Folder.write

    def interrupted(folder: Folder, shard: Any, *rest: Any) -> None:
        used.append(shard.name)
        if len(used) == 2:
            raise KeyboardInterrupt
        write(folder, shard, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", interrupted)
        patch.setattr(sys, "argv", ["paper.py", str(root), "-o", str(ended), *options])
        patch.setattr(paper, "load", lambda name, weights, device: tiny(name))
        with pytest.raises(SystemExit) as stopped:
            paper.main()
    assert stopped.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert not (ended / "paper.md").exists()
    assert not [path for path in ended.rglob("*") if path.name.endswith(".part")]
    again: list[str] = []
    monkeypatch.setattr(
        Folder, "write", lambda folder, shard, *rest: (again.append(shard.name), write(folder, shard, *rest))
    )
    make(root, ended, *options)
    assert (used, again) == ([ALEXNET, VGG16], [VGG16])  # what was done is not done again
    for path in (path for path in through.rglob("*") if path.is_file()):
        own = path.read_bytes().replace(b"through", b"ended")
        assert (ended / path.relative_to(through)).read_bytes() == own, path


def test_other_words_in_the_same_folder_are_refused(root: Path, tmp_path: Path) -> None:
    options = ("--models", VGG16, "--experiments", "neurons", "--pictures", "0", "--units")
    make(root, tmp_path, *options, "3")
    with pytest.raises(vv.InputError, match="units was 3 and is 2"):
        make(root, tmp_path, *options, "2")


def test_a_damaged_picture_is_counted_and_the_run_goes_on(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "imagenet"
    shutil.copytree(root, copy)
    (copy / "val" / IDS[0] / "ILSVRC2012_val_00000000.JPEG").write_bytes(b"no picture")
    options = ("--models", VGG16, "--experiments", "neurons", "--pictures", "1")
    page = make(copy, tmp_path / "out", *options).read_text()
    assert page.count("1 pictures could not be used") == 1
    assert page.count(r"on n02085620/ILSVRC2012\_val\_00000001.JPEG") == 1  # the first that can be drawn
    assert (
        tables(tmp_path / "out" / "paper.md")["Differences between neurons", f"{VGG16}, classifier.0", "LRP"][3] == "2"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--experiments", "classes,taste"], "there is no experiment 'taste'; there are classes, neurons"),
        (["--experiments", ""], "there is no experiment ''"),
        (["--models", f"{ALEXNET},torchvision:vgg61"], "there is no model 'torchvision:vgg61'; the nearest are"),
        (["--models", ""], "--models names no model"),
        (["--models", f"{ALEXNET},efficientnet_lite0"], "--layer efficientnet_lite0=PATH"),
        (["--models", VGG16], "the experiment models compares at least two models"),
        (["--weights", f"{VGG16}=missing.pth"], "'missing.pth' does not exist"),
        (["--weights", "vgg=a.pth"], "--weights names 'vgg', which is not among --models"),
        (["--weights", "vgg"], "'vgg' is not NAME=VALUE"),
        (["--layer", "vgg=a"], "--layer names 'vgg'"),
        (["--boxes", "elsewhere"], "elsewhere"),
        (["--limit", "0"], "--limit is a whole number of at least 1, not 0"),
        (["--limit", "many"], "--limit"),
        (["--units", "1"], "--units is a whole number of at least 2"),
        (["--others", "9"], "--others is 1 to 4 classes, not 9"),
        (["--shares", "0.5,0.2"], "shares of energy rise"),
        (["--shares", "half"], "'half' is not numbers"),
        (["--tolerance", "nan"], "--tolerance is a number of pixels"),
        (["--objects", "none"], "--objects is how many boxes"),
        (["--objects", "7"], "none has exactly 7 boxes"),
        (["--fill", "pink"], "--fill is mean or zero or blur, not 'pink'"),
        (["--score", "taste"], "--score is probability or logit or accuracy"),
        (["--seed-mode", "none"], "--seed-mode is uniform or logit"),
        (["--rules", "golden"], "no rule set is called 'golden'"),
        (["--frame", "gilded"], "--frame is crop or resize, not 'gilded'"),
        (["--targets", "all"], "--targets is present or recognised or predicted"),
        (["--channels", "red"], "--channels is sum or magnitude"),
    ],
)
def test_what_is_wrong_gets_one_sentence_and_leaves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["paper.py", str(root), "-o", str(tmp_path / "out"), *options])
    # All but the models that the option itself is about are at hand.
    real = paper.load
    wrong = "--models" in options or "--weights" in options
    monkeypatch.setattr(paper, "load", lambda *given: real(*given) if wrong and given[0] != ALEXNET else tiny(given[0]))
    with pytest.raises(SystemExit) as ended:
        paper.main()
    message = str(ended.value.code)  # a string as its code: printed to standard error, exit status 1
    assert message.startswith("paper.py: ")
    assert said in message
    assert "\n" not in message
    assert not list(tmp_path.rglob("*.md"))


def test_a_missing_folder_and_one_without_boxes_are_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["paper.py", str(tmp_path / "nowhere"), "-o", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        paper.main()
    assert "nowhere" in str(ended.value.code)
    assert not (tmp_path / "out").exists()
    shutil.copytree(root / "val", tmp_path / "plain" / "val")
    with pytest.raises(vv.InputError, match="has no boxes, which the experiment pointing needs"):
        make(tmp_path / "plain", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_layer_that_a_model_has_not_is_refused_before_anything_is_measured(root: Path, tmp_path: Path) -> None:
    with pytest.raises(vv.InputError, match=r"has no layer 'fc7'; name one of its submodules with --layer"):
        make(root, tmp_path, "--experiments", "neurons", "--layer", f"{VGG16}=fc7")
    assert not (tmp_path / "values").exists()


def test_models_that_see_different_parts_of_a_picture_are_not_compared(root: Path, tmp_path: Path) -> None:
    def mixed(name: str) -> vv.Classifier:
        return paper_models.seen_whole(tiny(name)) if name == VGG16 else tiny(name)

    given = paper.parsed([str(root), "-o", str(tmp_path), "--experiments", "models"])
    with pytest.raises(vv.InputError, match="see different parts of a picture"):
        paper.run(given, QUIET, mixed)


@pytest.mark.slow
def test_weights_of_googlenet_come_from_a_file_as_torchvision_trained_them(tmp_path: Path) -> None:
    import torchvision

    trained = torchvision.models.googlenet(weights=None, transform_input=True, init_weights=False).eval()
    torch.save(trained.state_dict(), tmp_path / "googlenet.pth")
    loaded = paper_models.load(GOOGLENET, tmp_path / "googlenet.pth", "cpu")
    inputs = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded(inputs), trained(inputs))
    assert loaded.name == f"{GOOGLENET} (googlenet.pth)"

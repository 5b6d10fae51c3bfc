"""The grid pointing game: does the map of a class stay in the cell that shows the class?

Four photographs of different classes, each classified rightly and confidently on its own, are laid out as a 2 × 2
mosaic. A method explains each of the four classes on the mosaic; scored is the share of the map's positive relevance
(channels summed, then clamped at 0) that falls in the class's own cell. A map that tells nothing apart has 0.25.

After Böhle et al. 2021 (Convolutional Dynamic Alignment Networks). Also scored: how many maps have their maximum in
the right cell (Zhang et al. 2016, the pointing game).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import visavis as vv
from visavis.evaluation import MethodExplainer, summary
from visavis.evaluation.mosaics import grid_hits as hits
from visavis.evaluation.mosaics import grid_shares as shares
from visavis.evaluation.mosaics import mosaic
from visavis.files import write_bytes
from visavis.methods import Method
from visavis.propagation.rulesets import DEEP_TAYLOR

VARIABLE = "VISAVIS_DATA"
FOLDER = "imagenet-sample"
CELLS = 4
# Each of these costs as much as dozens of gradients.
HEAVY = ("integrated-gradients", "smoothgrad", "biases-spread")
BASELINES = ("uniform", "noise")
#: CLRP and LRP with what biases absorb spread over their receptive fields instead.
SPREAD = "biases-spread"

#: Maps a mosaic (1, C, S, S), and the classes of its four cells, to heatmaps (4, S, S).
Explainer = Callable[[Tensor, list[int]], Tensor]


@dataclass(frozen=True)
class Photographs:
    """Photographs that the model classifies rightly and confidently: inputs (N, C, H, W) and their classes."""

    inputs: Tensor
    classes: list[int]


@dataclass(frozen=True)
class Score:
    """A row of the table.

    Attributes:
        method: what was scored.
        share: mean share of positive relevance in the right cell, 0 to 1.
        low, high: its 95 % interval, by bootstrap over grids.
        hits: share of maps whose maximum lies in the right cell, 0 to 1.
        empty: share of maps without positive relevance; they count as share 0 and as misses.
        grids: how many grids.
    """

    method: str
    share: float
    low: float
    high: float
    hits: float
    empty: float
    grids: int


# -- the game --------------------------------------------------------------------------------------------------------


def deal(classes: Sequence[int], grids: int, generator: np.random.Generator) -> list[list[int]]:
    """Return, for each grid, the indices of four photographs of different classes.

    The photographs are shuffled and dealt four at a time, and shuffled anew when fewer are left, so that none comes
    much more often than another.
    """
    if len(set(classes)) < CELLS:
        raise vv.InputError(
            f"{len(set(classes))} classes are rightly and confidently classified, but a grid needs {CELLS}; "
            "lower --confidence"
        )
    dealt: list[list[int]] = []
    deck: list[int] = []
    while len(dealt) < grids:
        grid: list[int] = []
        waiting: list[int] = []
        for index in deck:
            new = len(grid) < CELLS and classes[index] not in {classes[taken] for taken in grid}
            (grid if new else waiting).append(index)
        if len(grid) == CELLS:
            dealt.append(grid)
            deck = waiting
        else:
            deck = [int(index) for index in generator.permutation(len(classes))]
    return dealt


# -- who plays -------------------------------------------------------------------------------------------------------


def explainers(classifier: vv.Classifier, names: Sequence[str], seed: int) -> dict[str, Explainer]:
    """Return what is to be scored, by its title: methods by name, each in its variants, and baselines."""
    found: dict[str, Explainer] = {}
    for name in names:
        if name == "uniform":
            found["uniform (by construction 0.25)"] = _uniform
        elif name == "noise":
            found["random noise"] = _noise(seed)
        elif name == "clrp":
            found |= _contrasts(classifier)
        elif name == SPREAD:
            spread = replace(DEEP_TAYLOR, bias="spread", name="deep-taylor, biases spread")
            found["CLRP, others, biases spread"] = of_classes(vv.CLRP(classifier, rules=spread))
            found |= _alone(vv.LRP(classifier, rules=spread))
        elif name == "lrp":
            for rules in ("deep-taylor", "epsilon-plus"):
                found |= _alone(vv.LRP(classifier, rules=rules))
        else:
            found |= _alone(vv.method(name)(classifier))
    return found


def _uniform(inputs: Tensor, classes: list[int]) -> Tensor:
    return inputs.new_ones(len(classes), *inputs.shape[2:])


def _noise(seed: int) -> Explainer:
    generator = torch.Generator().manual_seed(seed)
    return lambda inputs, classes: torch.randn(len(classes), *inputs.shape[2:], generator=generator)


def _alone(method: Any) -> dict[str, Explainer]:
    """A method without contrast. Deep Taylor is LRP by the rules of the paper: one row for both."""
    title = f"LRP, rules {method.rules.name}" if isinstance(method, vv.LRP) else method.title
    return {title: of_classes(method)}


def _contrasts(classifier: vv.Classifier) -> dict[str, Explainer]:
    """CLRP with each of its foils, rules deep-taylor; "in the grid": the classes of the other three cells."""
    foils = ("others", "negated", "runner-up")
    found = {f"CLRP, {foil}": of_classes(vv.CLRP(classifier, foil=foil)) for foil in foils}
    released = vv.CLRP(classifier, foil="logits", normalize="sum")
    return found | {
        "CLRP, logits, by sum": of_classes(released),
        "CLRP, classes in the grid": _against_each_other(vv.CLRP(classifier)),
    }


def of_classes(method: Method) -> Explainer:
    """Explain all four classes, in one forward pass where the method can."""
    explainer = MethodExplainer(method)
    return lambda inputs, classes: explainer.heatmaps_of_classes(inputs, torch.tensor(classes, device=inputs.device))


def _against_each_other(clrp: vv.CLRP) -> Explainer:
    """CLRP whose foil is, for each class in the grid, the other three."""

    def explain(inputs: Tensor, classes: list[int]) -> Tensor:
        maps = []
        with clrp.forward(inputs) as run:
            for target in classes:
                foil = [other for other in classes if other != target]
                maps.append(clrp.contrast(run, clrp.seed_of(run.output, target), foil, more=True))
        return torch.cat(maps).sum(1)

    return explain


# -- the photographs -------------------------------------------------------------------------------------------------


def data() -> Path:
    """Return the folder of the data, which the environment names."""
    root = os.environ.get(VARIABLE)
    if not root:
        raise vv.InputError(
            f"the environment variable {VARIABLE} is not set; set it to the folder that holds {FOLDER}/ with "
            "labels.csv (file, class_index, wnid, label) and the photographs"
        )
    return Path(root)


def sample() -> list[tuple[Path, int]]:
    """Return the photographs of the data, each with its class index."""
    folder = data() / FOLDER
    try:
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
            found = [(folder / row["file"], int(row["class_index"])) for row in csv.DictReader(file)]
    except OSError as error:
        raise vv.InputError(
            f"{VARIABLE} names a folder without a readable {FOLDER}/labels.csv ({error.strerror}); "
            "set it to the folder that holds it"
        ) from None
    except (KeyError, ValueError):
        raise vv.InputError(
            f"{FOLDER}/labels.csv is malformed; it needs the columns file and class_index (a whole number)"
        ) from None
    if not found:
        raise vv.InputError(f"{FOLDER}/labels.csv lists no photograph; it needs one row for each")
    return found


def confident(
    classifier: vv.Classifier, listed: Sequence[tuple[Path, int]], threshold: float, console: Console
) -> Photographs:
    """Return the photographs whose own class gets a probability of `threshold` or more, and is the strongest."""
    inputs, classes = [], []
    for path, index in track(listed, "photographs", console=console):
        prepared = classifier.prepare(path)
        with torch.inference_mode():
            probability, answer = classifier(prepared).softmax(1)[0].max(0)
        if int(answer) == index and float(probability) >= threshold:
            inputs.append(prepared)
            classes.append(index)
    if not inputs:
        raise vv.InputError(
            f"{classifier.name} classifies no photograph rightly with a confidence of {threshold}; lower --confidence, "
            "or choose a model of the 1000 ImageNet classes"
        )
    return Photographs(torch.cat(inputs), classes)


# -- a run -----------------------------------------------------------------------------------------------------------


def play(
    photographs: Photographs, players: dict[str, Explainer], size: int, grids: int, seed: int, console: Console
) -> list[Score]:
    """Score every player on the same grids."""
    dealt = deal(photographs.classes, grids, np.random.default_rng(seed))
    found: dict[str, list[Tensor]] = {title: [] for title in players}
    for cells in track(dealt, "grids", console=console):
        inputs = mosaic(photographs.inputs[cells], size)
        classes = [photographs.classes[index] for index in cells]
        for title, explain in players.items():
            heatmaps = explain(inputs, classes).double().cpu()
            empty = (heatmaps.flatten(1).amax(1) <= 0).double()
            found[title].append(torch.stack([shares(heatmaps), hits(heatmaps).double(), empty]))
    return [_score(title, torch.stack(results).numpy(), seed) for title, results in found.items()]


def _score(title: str, results: NDArray[np.float64], seed: int) -> Score:
    """Summarise results (grids, 3, cells): shares, hits and empty maps."""
    share, hit, empty = (float(value) for value in results.mean((0, 2)))
    found = summary(results[:, 0].mean(1), seed=seed)
    return Score(title, share, found.low, found.high, hit, empty, len(results))


def settings(arguments: argparse.Namespace, photographs: Photographs) -> dict[str, Any]:
    """Return what the numbers rest on, and the command that makes them again."""
    command = (
        f"{VARIABLE}=FOLDER python benchmarks/grid.py --model {arguments.model} --size {arguments.size} "
        f"--grids {arguments.grids} --confidence {arguments.confidence} --seed {arguments.seed} "
        f"--methods {' '.join(arguments.methods)}"
    )
    return {
        "model": arguments.model,
        "size": arguments.size,
        "cell": arguments.size // 2,
        "grids": arguments.grids,
        "confidence": arguments.confidence,
        "photographs": len(photographs.classes),
        "seed": arguments.seed,
        "device": str(photographs.inputs.device),
        "visavis": vv.__version__,
        "torch": torch.__version__,
        "command": command,
    }


def as_markdown(scores: Sequence[Score], made: dict[str, Any]) -> str:
    """Return the table, and what it rests on, as markdown."""
    caption = (
        f"Grid pointing game: {made['model']}, mosaics of {made['size']} px (cells of {made['cell']} px), "
        f"{made['grids']} grids from {made['photographs']} photographs classified rightly with at least "
        f"{made['confidence']:g}, seed {made['seed']}."
    )
    lines = [
        caption,
        "",
        "| method | share in the right cell | 95 % interval | maximum in the right cell |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [f"| {' | '.join(_cells(score))} |" for score in scores]
    empty = [score for score in scores if score.empty]
    if empty:
        listed = ", ".join(f"{score.method} {score.empty:.1%}" for score in empty)
        lines += ["", f"Maps without positive relevance, counted as 0: {listed}."]
    return "\n".join([*lines, "", f"Made by `{made['command']}`, torch {made['torch']}, {made['device']}.", ""])


def _cells(score: Score) -> tuple[str, ...]:
    return score.method, f"{score.share:.3f}", f"{score.low:.3f} to {score.high:.3f}", f"{score.hits:.1%}"


def show(scores: Sequence[Score], made: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table(title=f"{made['model']}, {made['size']} px, {made['grids']} grids")
    table.add_column("method")
    for column in ("share in the right cell", "95 % interval", "maximum in the right cell"):
        table.add_column(column, justify="right")
    for score in scores:
        table.add_row(*_cells(score))
    console.print(table)
    console.print(f"Again: {made['command']}", soft_wrap=True)


def _parser() -> argparse.ArgumentParser:
    known = [*vv.methods(), *BASELINES, SPREAD]
    light = [name for name in known if name not in HEAVY]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=int, default=25, help="how many mosaics (25)")
    parser.add_argument("--model", default="efficientnet_lite0", help="a model of the 1000 ImageNet classes")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=light,
        choices=known,
        metavar="NAME",
        help=f"of {', '.join(known)}; all but {', '.join(HEAVY)} unless given",
    )
    parser.add_argument("--size", type=int, default=448, help="side of the mosaic in pixels, even (448)")
    parser.add_argument("--confidence", type=float, default=0.9, help="least probability of the right class (0.9)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of photographs, and of the noise (0)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--output", type=Path, help="write the table there: a .md or .json file")
    return parser


def check(arguments: argparse.Namespace) -> None:
    """Refuse what a run cannot start with."""
    if arguments.grids < 1:
        raise vv.InputError(f"--grids is a number of at least 1, not {arguments.grids}")
    if arguments.size < 2 or arguments.size % 2:
        raise vv.InputError(f"--size is an even number of pixels, such as 448, not {arguments.size}")
    if not 0 <= arguments.confidence <= 1:
        raise vv.InputError(f"--confidence is a probability from 0 to 1, not {arguments.confidence}")
    if arguments.output is not None and arguments.output.suffix not in (".md", ".json"):
        raise vv.InputError(f"--output ends in .md or .json, not in {arguments.output.suffix!r}")


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Play the game as the command line asks for, print the table and write it."""
    check(arguments)
    listed = sample()
    classifier = vv.load_model(arguments.model, device=arguments.device)
    photographs = confident(classifier, listed, arguments.confidence, console)
    players = explainers(classifier, arguments.methods, arguments.seed)
    scores = play(photographs, players, arguments.size, arguments.grids, arguments.seed, console)
    made = settings(arguments, photographs)
    show(scores, made, console)
    if arguments.output is not None:
        content = json.dumps({**made, "scores": [asdict(score) for score in scores]}, indent=2) + "\n"
        text = content if arguments.output.suffix == ".json" else as_markdown(scores, made)
        write_bytes(arguments.output, text.encode())


def main() -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    try:
        run(_parser().parse_args(), Console())
    except vv.VisavisError as error:
        sys.exit(f"grid.py: {error}")


if __name__ == "__main__":
    main()

"""The grid pointing game on generated scenes: a small CNN, a ViT and a ConvNeXt, trained here, in minutes, on a CPU.

All learn to say which of eight colours the objects in a picture have: one object to four, of different shapes,
textures and colours, anywhere, on a textured ground of none of these colours. So a mosaic of four is nothing new to
them. Each cell of a mosaic shows one object on a ground of its own. It takes part if the network names it rightly and
confidently where the other three cells are bare ground.

Scored is what `grid.py` scores, and the share of a map's positive relevance that falls in the object's exact mask.
The weights are kept in a folder of your choice, and found there by the next run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import grid
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

import visavis as vv
from visavis.datasets import Scene, Scenes, render
from visavis.evaluation import summary
from visavis.files import make_folder, write_bytes

SIZE = 64
#: What all pictures are drawn with. A cell is half as wide as a picture, so that its shares of the side are doubled.
KINDS: dict[str, Any] = {
    "classes": "colour",
    "shapes": ("disc", "square", "triangle", "star", "cross", "heart", "flower", "half disc"),
    "textures": ("stripes", "checks", "dots", "bricks", "grid"),
    "colours": ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"),
    "ground_colours": ("white", "grey", "black", "brown"),
    "turn": 30,
}
SIZES, PERIODS = (0.25, 0.42), (0.1, 0.15)
MEAN, DEVIATION = 0.5, 0.25
BOUNDS = ((0 - MEAN) / DEVIATION, (1 - MEAN) / DEVIATION)
BATCH = 64
METHODS = ("lrp", "clrp", "gradient", "input-x-gradient", "grad-cam")
CHOICES = (*METHODS, *grid.BASELINES)


# -- the networks ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """How a network is built and trained.

    Attributes:
        build: takes the number of classes to a module.
        rate: the greatest learning rate.
        steps: in how many batches of BATCH it learns.
        pictures: from how many pictures, of one object to four.
    """

    build: Callable[[int], nn.Module]
    rate: float
    steps: int
    pictures: int = 8000


def _cnn(classes: int) -> nn.Module:
    """Six convolutions with batch norm and ReLU: the kind of network that the rules deep-taylor are for."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (16, 32, 64):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def _vit(classes: int) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=SIZE,
        patch_size=8,
        embed_dim=96,
        depth=3,
        num_heads=4,
        mlp_ratio=2,
        class_token=False,
        global_pool="avg",
        num_classes=classes,
    )


def _convnext(classes: int) -> nn.Module:
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(
        patch_size=2,
        depths=(1, 1, 1, 1),
        dims=(32, 64, 96, 96),
        kernel_sizes=3,
        ls_init_value=None,
        num_classes=classes,
    )


NETWORKS = {
    "cnn": Network(_cnn, rate=4e-3, steps=800),
    "vit": Network(_vit, rate=1.5e-3, steps=2200),
    "convnext": Network(_convnext, rate=2e-3, steps=1400),
}


def built(network: Network, classes: int, seed: int) -> nn.Module:
    """Return the network with first weights by fan-in: so small a one learns much later from timm's, which are tiny."""
    torch.manual_seed(seed)
    module = network.build(classes)
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
    return module


# -- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Pictures to learn from or to be tested on: (N, 3, H, W), uint8, and the share of each class, (N, classes)."""

    pictures: Tensor
    shares: Tensor


def normalised(pictures: Tensor) -> Tensor:
    """Return inputs, from BOUNDS[0] to BOUNDS[1], of pictures, uint8 or in [0, 1]."""
    scaled = pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures
    return (scaled - MEAN) / DEVIATION


def scenes(count: int, seed: int, objects: int | tuple[int, int]) -> Scenes:
    """Return generated pictures, SIZE pixels wide."""
    return Scenes(count, size=SIZE, seed=seed, objects=objects, sizes=SIZES, periods=PERIODS, **KINDS)


def single_cells(count: int, seed: int) -> Scenes:
    """Return generated cells, half as wide, with one object each, as large, in pixels, as in pictures."""
    sizes, periods = (2 * SIZES[0], 2 * SIZES[1]), (2 * PERIODS[0], 2 * PERIODS[1])
    return Scenes(count, size=SIZE // 2, seed=seed, sizes=sizes, periods=periods, **KINDS)


def pool(data: Scenes, console: Console) -> Pool:
    """Draw all pictures of a data set. The classes in a picture share its probability alike."""
    pictures = torch.empty(len(data), 3, data.size, data.size, dtype=torch.uint8)
    shares = torch.zeros(len(data), len(data.names))
    for index in track(range(len(data)), "pictures", console=console):
        item = data[index]
        pictures[index] = (item.picture * 255).round().to(torch.uint8)
        shares[index, item.labels] = 1 / len(item.labels)
    return Pool(pictures, shares)


def train(network: Network, seed: int, console: Console, *, permuted: bool = False) -> nn.Module:
    """Return the network, trained to say of each class whether the picture has an object of it.

    With `permuted`, each picture has the classes of another one, so that there is nothing to learn but the pictures.
    """
    data = scenes(network.pictures, 4 * seed, (1, 4))
    module = built(network, len(data.names), seed).train()
    seen = pool(data, console)
    if permuted:
        order = torch.randperm(len(seen.shares), generator=torch.Generator().manual_seed(seed))
        seen = Pool(seen.pictures, seen.shares[order])
    optimiser = torch.optim.AdamW(module.parameters(), weight_decay=0.05)
    chance = torch.Generator().manual_seed(seed)
    for step in track(range(network.steps), "training", console=console):
        optimiser.param_groups[0]["lr"] = network.rate * min(step / 100, 1 - step / network.steps)
        batch = torch.randint(len(seen.pictures), (BATCH,), generator=chance)
        inputs = normalised(seen.pictures[batch])
        # A colour upside down, or seen in a mirror, is the same.
        flips = [dimension for dimension in (2, 3) if torch.rand((), generator=chance) < 0.5]
        present = (seen.shares[batch] > 0).float()
        loss = F.binary_cross_entropy_with_logits(module(inputs.flip(flips)), present)
        optimiser.zero_grad()
        (present.shape[1] * loss).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
    return module.eval()


def accuracy(module: nn.Module, seen: Pool) -> float:
    """Return the share of pictures in which the k classes present are the k strongest."""
    right = 0
    with torch.inference_mode():
        for pictures, shares in zip(seen.pictures.split(250), seen.shares.split(250), strict=True):
            ranks = module(normalised(pictures)).argsort(1, descending=True).argsort(1)
            present = shares > 0
            right += int(((ranks < present.sum(1, keepdim=True)) == present).all(1).sum())
    return right / len(seen.pictures)


# -- weights on disk -------------------------------------------------------------------------------------------------


def trained(name: str, folder: Path, seed: int, console: Console, *, permuted: int | None = None) -> nn.Module:
    """Return a trained network, in eval mode: from the folder where it is there, else trained and kept there.

    Args:
        name: of NETWORKS.
        folder: where the weights are kept.
        seed: of the scenes and the first weights.
        console: for the progress.
        permuted: train it on so many pictures with permuted classes instead.

    Raises:
        InputError: the folder's file is none of this network's, or was trained otherwise.
        OutputError: the weights cannot be written.
    """
    network = NETWORKS[name] if permuted is None else replace(NETWORKS[name], pictures=permuted)
    recipe = json.dumps(
        {
            "scenes": {**KINDS, "size": SIZE, "sizes": SIZES, "periods": PERIODS},
            "pictures": network.pictures,
            "steps": network.steps,
            "rate": network.rate,
            "seed": seed,
            **({} if permuted is None else {"permuted": True}),
        }
    )
    path = make_folder(folder) / f"{name}{'' if permuted is None else '-permuted'}.safetensors"
    if path.exists():
        return loaded(path, built(network, len(scenes(0, 0, 1).names), 0), recipe)
    start = time.perf_counter()
    module = train(network, seed, console, permuted=permuted is not None)
    console.print(f"{name}: trained in {time.perf_counter() - start:.0f} s")
    write_bytes(path, save(module.state_dict(), {"recipe": recipe}))
    return module


def loaded(path: Path, module: nn.Module, recipe: str) -> nn.Module:
    """Load kept weights into a network, and return it in eval mode.

    Raises:
        InputError: the file is none of this network's, or was made by another recipe.
    """
    try:
        with safe_open(path, "pt") as file:
            made = (file.metadata() or {}).get("recipe")
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if made != recipe:
            raise vv.InputError(
                f"{str(path)!r} was trained otherwise, or with another seed; remove it, or name another folder"
            )
        module.load_state_dict(weights)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise vv.InputError(
            f"{str(path)!r} holds no weights of this network; remove it, or name another folder"
        ) from error
    return module.eval()


# -- the cells -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cells:
    """Cells of mosaics, S/2 wide: one object each.

    Attributes:
        inputs: (N, 3, S/2, S/2), normalised.
        bare: (N, 3, S/2, S/2), normalised: the same grounds without the objects.
        masks: (N, 1, S/2, S/2), 1 where the object is, 0 elsewhere.
        classes: of the objects.
    """

    inputs: Tensor
    bare: Tensor
    masks: Tensor
    classes: list[int]

    def mosaic(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """Return the mosaic of four cells as an input (1, 3, S, S), and its objects' mask (S, S)."""
        return grid.mosaic(self.inputs[indices], SIZE), grid.mosaic(self.masks[indices], SIZE)[0, 0]


def cells(count: int, seed: int) -> Cells:
    """Generate cells that the networks have not learned from."""
    data = single_cells(count, 4 * seed + 3)
    items = [data[index] for index in range(count)]
    grounds = [Scene((), data.scene(index).ground) for index in range(count)]
    bare = [torch.from_numpy(render(ground, data.size).pixels) for ground in grounds]
    return Cells(
        normalised(torch.stack([item.picture for item in items])),
        normalised(torch.stack(bare)),
        torch.stack([item.masks for item in items]).float(),
        [int(item.label) for item in items],
    )


def confident(module: nn.Module, found: Cells, threshold: float) -> Cells:
    """Return the cells whose class is the strongest, with a probability of `threshold` or more, among bare grounds."""
    alone = [
        grid.mosaic(torch.stack([cell, bare, bare, bare]), SIZE)
        for cell, bare in zip(found.inputs, found.bare, strict=True)
    ]
    with torch.inference_mode():
        probabilities = module(torch.cat(alone)).sigmoid()
    strongest, answers = probabilities.max(1)
    right = (answers == torch.tensor(found.classes)) & (strongest >= threshold)
    kept = right.nonzero().flatten().tolist()
    if not kept:
        raise vv.InputError(f"no object is named rightly with a confidence of {threshold}; lower --confidence")
    classes = [found.classes[index] for index in kept]
    return Cells(found.inputs[kept], found.bare[kept], found.masks[kept], classes)


# -- who plays -------------------------------------------------------------------------------------------------------


def players(
    classifier: vv.Classifier, methods: Sequence[str], rules: Sequence[str | None], seed: int
) -> dict[str, grid.Explainer]:
    """Return what is to be scored, by its title: LRP and its contrasts once for each rule set, all else once."""
    found: dict[str, grid.Explainer] = {}
    for name in methods:
        if name not in ("lrp", "clrp"):
            found |= grid.explainers(classifier, [name], seed)
            continue
        for rule in rules:
            chosen: dict[str, Any] = {} if rule is None else {"rules": rule}
            ending = "" if rule is None else f", rules {rule}"
            if name == "lrp":
                found[f"LRP{ending}"] = grid.of_classes(vv.LRP(classifier, **chosen))
            else:
                clrp = vv.CLRP(classifier, **chosen)
                found[f"CLRP, others{ending}"] = grid.of_classes(clrp)
                found[f"CLRP, classes in the grid{ending}"] = grid._against_each_other(clrp)
    return found


# -- a run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score(grid.Score):
    """A row of the table.

    Attributes:
        in_mask: mean share of positive relevance in the mask of the right object, 0 to 1.
    """

    in_mask: float


@dataclass(frozen=True)
class Result:
    """What a network scored.

    Attributes:
        network: its name.
        accuracy: share of held-out pictures of one object that it names rightly.
        several: share of held-out pictures of four objects whose four classes are its four strongest.
        mosaics: the same share of the mosaics that were played.
        cells: share of generated cells that it names rightly and confidently.
        scores: one for each player.
    """

    network: str
    accuracy: float
    several: float
    mosaics: float
    cells: float
    scores: list[Score]


def mask_shares(heatmaps: Tensor, mask: Tensor) -> Tensor:
    """Return, for heatmaps (4, S, S) of the four cells in order, the share of positive relevance in the own object.

    Args:
        heatmaps: (4, S, S).
        mask: (S, S), 1 where an object is: one in each cell.
    """
    positive = heatmaps.clamp(min=0)
    total, within = positive.sum((1, 2)), positive * mask
    return grid.shares(within) * within.sum((1, 2)) / torch.where(total > 0, total, 1)


def play(
    module: nn.Module, found: Cells, opponents: dict[str, grid.Explainer], grids: int, seed: int, console: Console
) -> tuple[list[Score], float]:
    """Score every player on the same mosaics; also return in what share of them the network knows all four."""
    dealt = grid.deal(found.classes, grids, np.random.default_rng(seed))
    results: dict[str, list[Tensor]] = {title: [] for title in opponents}
    known = 0
    for indices in track(dealt, "mosaics", console=console):
        (inputs, mask), classes = found.mosaic(indices), [found.classes[index] for index in indices]
        with torch.inference_mode():
            known += set(module(inputs)[0].topk(grid.CELLS).indices.tolist()) == set(classes)
        for title, explain in opponents.items():
            heatmaps = explain(inputs, classes).double()
            empty = (heatmaps.flatten(1).amax(1) <= 0).double()
            row = [grid.shares(heatmaps), grid.hits(heatmaps).double(), empty, mask_shares(heatmaps, mask)]
            results[title].append(torch.stack(row))
    return [_score(title, torch.stack(rows).numpy(), seed) for title, rows in results.items()], known / grids


def _score(title: str, results: NDArray[np.float64], seed: int) -> Score:
    """Summarise results (grids, 4, cells): shares in the cell, hits, empty maps, shares in the mask."""
    share, hit, empty, in_mask = (float(value) for value in results.mean((0, 2)))
    found = summary(results[:, 0].mean(1), seed=seed)
    return Score(title, share, found.low, found.high, hit, empty, len(results), in_mask)


def run_network(name: str, arguments: argparse.Namespace, console: Console) -> Result:
    """Train a network, or load it, test it, and let everyone play on it."""
    seed = arguments.seed
    module = trained(name, arguments.folder, seed, console)
    one, four = (pool(scenes(arguments.held_out, 4 * seed + 2, objects), console) for objects in (1, 4))
    classifier = vv.Classifier(module, labels=scenes(0, 0, 1).names, bounds=BOUNDS, name=name)
    # Each object takes part in two mosaics, or so.
    generated = cells(2 * arguments.grids, seed)
    found = confident(module, generated, arguments.confidence)
    opponents = players(classifier, arguments.methods, arguments.rules or [None], seed)
    scores, known = play(module, found, opponents, arguments.grids, seed, console)
    share = len(found.classes) / len(generated.classes)
    return Result(name, accuracy(module, one), accuracy(module, four), known, share, scores)


HEADINGS = ("method", "share in the right cell", "95 % interval", "maximum in the right cell", "share in the object")


def _cells(score: Score) -> tuple[str, ...]:
    return *grid._cells(score), f"{score.in_mask:.3f}"


def caption(result: Result, arguments: argparse.Namespace) -> str:
    """Return what the numbers of a network rest on."""
    return (
        f"{result.network}: held-out accuracy {result.accuracy:.1%} on one object, {result.several:.1%} on four; "
        f"{arguments.grids} mosaics of {SIZE} px from the {result.cells:.0%} of cells named rightly with at least "
        f"{arguments.confidence:g}, all four known in {result.mosaics:.0%} of them."
    )


def command(arguments: argparse.Namespace) -> str:
    """Return the command that makes the numbers again."""
    rules = f"--rules {' '.join(arguments.rules)} " if arguments.rules else ""
    return (
        f"python benchmarks/scenes.py FOLDER --models {' '.join(arguments.models)} {rules}"
        f"--methods {' '.join(arguments.methods)} --grids {arguments.grids} --confidence {arguments.confidence} "
        f"--held-out {arguments.held_out} --seed {arguments.seed}"
    )


def as_markdown(results: Sequence[Result], arguments: argparse.Namespace) -> str:
    """Return a table for each network, and the command that makes them, as markdown."""
    lines = []
    for result in results:
        lines += [caption(result, arguments), "", f"| {' | '.join(HEADINGS)} |", "| --- | ---: | ---: | ---: | ---: |"]
        lines += [f"| {' | '.join(_cells(score))} |" for score in result.scores] + [""]
    return "\n".join([*lines, f"Made by `{command(arguments)}`, torch {torch.__version__}.", ""])


def show(result: Result, arguments: argparse.Namespace, console: Console) -> None:
    """Print a network's table."""
    table = Table(title=caption(result, arguments))
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for score in result.scores:
        table.add_row(*_cells(score))
    console.print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the weights are kept")
    parser.add_argument("--models", nargs="+", default=list(NETWORKS), choices=list(NETWORKS), metavar="NAME")
    parser.add_argument("--rules", nargs="+", choices=list(vv.rule_sets()), metavar="NAME", help="rule sets to compare")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(METHODS),
        choices=CHOICES,
        metavar="NAME",
        help=f"of {', '.join(CHOICES)}; all but {', '.join(grid.BASELINES)} unless given",
    )
    parser.add_argument("--grids", type=int, default=100, help="how many mosaics (100)")
    parser.add_argument("--confidence", type=float, default=0.9, help="least probability of the right class (0.9)")
    parser.add_argument("--held-out", type=int, default=1000, help="how many pictures to test accuracy on (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes, the first weights and the mosaics (0)")
    parser.add_argument("--output", type=Path, help="write the tables there: a .md or .json file")
    return parser


def _check(arguments: argparse.Namespace) -> None:
    for name, least in (("grids", 2), ("held_out", 1), ("seed", 0)):
        if getattr(arguments, name) < least:
            option = f"--{name.replace('_', '-')}"
            raise vv.InputError(f"{option} is a number of at least {least}, not {getattr(arguments, name)}")
    if not 0 <= arguments.confidence <= 1:
        raise vv.InputError(f"--confidence is a probability from 0 to 1, not {arguments.confidence}")
    if arguments.output is not None and arguments.output.suffix not in (".md", ".json"):
        raise vv.InputError(f"--output ends in .md or .json, not in {arguments.output.suffix!r}")


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Do what the command line asks for: train, play, print the tables and write them."""
    _check(arguments)
    results = []
    for name in arguments.models:
        results.append(run_network(name, arguments, console))
        show(results[-1], arguments, console)
    console.print(f"Again: {command(arguments)}", soft_wrap=True)
    if arguments.output is not None:
        made = {"command": command(arguments), "visavis": vv.__version__, "torch": torch.__version__}
        content = json.dumps({**made, "networks": [asdict(result) for result in results]}, indent=2) + "\n"
        text = content if arguments.output.suffix == ".json" else as_markdown(results, arguments)
        write_bytes(arguments.output, text.encode())


def main() -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    try:
        run(_parser().parse_args(), Console())
    except vv.VisavisError as error:
        sys.exit(f"scenes.py: {error}")


if __name__ == "__main__":
    main()

"""What explains better than the paper's default? One thing changed at a time, on mosaics and on small objects of COCO.

Mosaics are those of `grid.py`. The small objects are the cases of COCO's pictures that are difficult (their boxes
cover less than a quarter of the picture, and other classes are in it) and recognised (the model gives the class a
probability of at least 0.01); scored are the share of positive relevance in the boxes, and how many maps have their
maximum in the boxes or within 15 pixels.

The first row is the paper's; those of CLRP-γ are the presets `clrp-gamma` and `clrp-scales`. Rows that change the map
alone (squared, blurred) say how much of a score can be had without any other explanation.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import grid
import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor

import visavis as vv
from visavis.benchmarking.cases import cases_of
from visavis.benchmarking.runs import classes_between
from visavis.datasets import open_dataset
from visavis.evaluation import Case, Summary, summary
from visavis.evaluation.localization import energy_within, pointing
from visavis.evaluation.mosaics import grid_hits, grid_shares, mosaic
from visavis.evaluation.regions import region
from visavis.files import write_bytes
from visavis.propagation import Epsilon, Gamma, RuleSet, ZBox, ZPlus
from visavis.propagation.rulesets import DEEP_TAYLOR, GAMMA_BOX

FOLDER = "coco128-train"
#: Maps a picture (1, C, H, W) and K classes to signed heatmaps (K, H, W).
Explain = Callable[[Tensor, list[int]], Tensor]
#: The last stages of EfficientNet, and those before, by the paths of timm's modules.
LATE = ("blocks.5.*", "blocks.6.*", "conv_head*")
EARLY = tuple(f"blocks.{stage}.*" for stage in range(5))


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        variant: what was changed.
        share: of positive relevance in the right cell, a mean over mosaics.
        hits: share of maps with their maximum in the right cell.
        energy: share of positive relevance in the boxes of small objects, a mean over cases.
        pointing: share of cases whose maximum is there.
    """

    variant: str
    share: Summary
    hits: Summary
    energy: Summary
    pointing: Summary


# -- what is varied ----------------------------------------------------------------------------------------------------


def strongest(count: int) -> Callable[[Tensor], Tensor]:
    """The foil of the strongest classes (N = `count`), alike."""
    return lambda outputs: torch.zeros_like(outputs).scatter(1, outputs.topk(count, 1).indices, 1.0)


def tempered(temperature: float) -> Callable[[Tensor], Tensor]:
    """The foil of all classes by their probability, logits divided by a temperature."""
    return lambda outputs: (outputs / temperature).softmax(1)


def enlarged(explain: Explain, factor: int | float) -> Explain:
    """Explain the picture made larger, bilinearly, and sum the map over what each pixel has become."""

    def explained(inputs: Tensor, classes: list[int]) -> Tensor:
        height, width = inputs.shape[2:]
        size = (int(height * factor), int(width * factor))
        maps = explain(F.interpolate(inputs, size, mode="bilinear", align_corners=False), classes)
        return F.interpolate(maps[:, None], (height, width), mode="area")[:, 0] * factor**2

    return explained


def averaged(*several: Explain) -> Explain:
    """The mean of maps, each divided by the sum of its absolute values."""
    return lambda inputs, classes: _shares(several, inputs, classes).mean(0)


def smallest(*several: Explain) -> Explain:
    """The least of maps, pixel by pixel, each divided by the sum of its absolute values: what all agree on."""
    return lambda inputs, classes: _shares(several, inputs, classes).amin(0)


def _shares(several: Sequence[Explain], inputs: Tensor, classes: list[int]) -> Tensor:
    maps = [explain(inputs, classes) for explain in several]
    sizes = [one.abs().sum((1, 2), keepdim=True).clamp(min=torch.finfo(one.dtype).tiny) for one in maps]
    return torch.stack([one / size for one, size in zip(maps, sizes, strict=True)])


def mirrored(explain: Explain) -> Explain:
    """The mean over the picture and its mirror image."""
    return averaged(explain, lambda inputs, classes: explain(inputs.flip(3), classes).flip(2))


def squared(explain: Explain) -> Explain:
    """What is positive, squared: the same order of pixels, and a higher share of the strongest."""
    return lambda inputs, classes: explain(inputs, classes).clamp(min=0).square()


def blurred(explain: Explain, deviation: float) -> Explain:
    """The signed map blurred by a Gaussian, before what is negative is dropped."""
    from scipy.ndimage import gaussian_filter

    def explained(inputs: Tensor, classes: list[int]) -> Tensor:
        maps = explain(inputs, classes)
        return torch.from_numpy(gaussian_filter(maps.numpy(), (0, deviation, deviation), mode="constant"))

    return explained


def variants(classifier: vv.Classifier) -> dict[str, Explain]:
    """Return what is tried, by title."""

    def clrp(foil: Any = "others", rules: RuleSet | str = DEEP_TAYLOR) -> Explain:
        return grid.of_classes(vv.CLRP(classifier, foil=foil, rules=rules, signed=True))

    def gamma(value: float) -> RuleSet:
        return replace(GAMMA_BOX, default=Gamma(value))

    paper, preset, ten = clrp(), clrp("softmax", GAMMA_BOX), clrp(strongest(10), GAMMA_BOX)
    scales, alike, twice = (
        grid.of_classes(vv.CLRPScales(classifier, weights=weights, signed=True)) for weights in (None, (1, 1), (2, 1))
    )
    found = {
        "**the paper's: others, z⁺**": paper,
        "foil softmax": clrp("softmax"),
        "ε last": clrp("softmax", replace(DEEP_TAYLOR, last=Epsilon())),
        "rules epsilon-plus": clrp(rules="epsilon-plus"),
        "rules epsilon-gamma-box": clrp(rules="epsilon-gamma-box"),
        "rules alpha2-beta1": clrp(rules="alpha2-beta1"),
        "rules gamma (0.25 everywhere)": clrp(rules="gamma"),
        "rules attention": clrp(rules="attention"),
        "same-sign sums": clrp(rules=replace(DEEP_TAYLOR, share="same-sign")),
        "biases spread": clrp(rules=replace(DEEP_TAYLOR, bias="spread")),
        "γ 1, foil others": clrp(rules=GAMMA_BOX),
        **{f"γ {value:g}, softmax": clrp("softmax", gamma(value)) for value in (0.1, 0.25, 0.5)},
        "**CLRP-γ: γ 1, softmax**": preset,
        "γ 2, softmax": clrp("softmax", gamma(2.0)),
        "γ 1, runner-up": clrp("runner-up", GAMMA_BOX),
        "γ 1, ten strongest": ten,
        "γ 1, softmax at temperature 4": clrp(tempered(4.0), GAMMA_BOX),
        **{
            f"γ {value:g} {where} alone, softmax": clrp("softmax", _in(patterns, Gamma(value)))
            for value, where, patterns in ((0.5, "late", LATE), (0.25, "early", EARLY))
            if _are_there(patterns, classifier)
        },
        "γ 1 last too, softmax": clrp("softmax", replace(GAMMA_BOX, last=None)),
        "γ 1 at the pixels too, softmax": clrp("softmax", replace(GAMMA_BOX, pixel=None)),
        "γ 1, same-sign sums, softmax": clrp("softmax", replace(GAMMA_BOX, share="same-sign")),
        "γ 1, signed sums, softmax": clrp("softmax", replace(GAMMA_BOX, share="signed")),
        "γ 1, biases spread, softmax": clrp("softmax", replace(GAMMA_BOX, bias="spread")),
        "γ 1, softmax, with the mirror image": mirrored(preset),
        "γ 1, softmax, picture × 1.5": enlarged(preset, 1.5),
        "γ 1, ten strongest, picture × 2": enlarged(ten, 2),
        "γ 1, ten strongest others, picture × 1 and × 2, alike": alike,
        "**CLRP-γ, several sizes: the same, × 1 counting 3 to 2**": scales,
        "the same, × 1 counting 2 to 1": twice,
        "the same, the smaller of the two": smallest(ten, enlarged(ten, 2)),
        "γ 1, softmax, picture × 1 and × 2": averaged(preset, enlarged(preset, 2)),
    }
    return found | {
        "the paper's, map squared": squared(paper),
        "CLRP-γ, map squared": squared(preset),
        "the paper's, blurred (8 px)": blurred(paper, 8.0),
    }


def _are_there(patterns: Sequence[str], classifier: vv.Classifier) -> bool:
    paths = [path for path, _ in classifier.module.named_modules()]
    return all(any(fnmatchcase(path, pattern) for path in paths) for pattern in patterns)


def _in(patterns: Sequence[str], rule: Gamma) -> RuleSet:
    return RuleSet(ZPlus(), pixel=ZBox(), last=ZPlus(), modules=dict.fromkeys(patterns, rule))


# -- what it is tried on -----------------------------------------------------------------------------------------------


def small_objects(classifier: vv.Classifier, folder: Path, console: Console) -> list[list[Case]]:
    """Return the difficult and recognised cases of COCO's pictures, those of one picture together."""
    dataset = open_dataset(f"coco:{folder}")
    mapping = classes_between(dataset, classifier)
    found = []
    for index in track(range(len(dataset)), "pictures", console=console):
        cases, _ = cases_of(dataset[index], classifier, mapping, which="recognised")
        found.append([case for case in cases if case.difficult])
    return [cases for cases in found if cases]


def measured(
    title: str, explain: Explain, mosaics: Sequence[tuple[Tensor, list[int]]], pictures: Sequence[Sequence[Case]]
) -> Row:
    """Score one variant."""
    shares, hits = [], []
    for inputs, classes in mosaics:
        maps = explain(inputs, classes)
        shares.append(float(grid_shares(maps).mean()))
        hits.append(float(grid_hits(maps).double().mean()))
    energies, points, names = [], [], []
    for cases in pictures:
        maps = explain(cases[0].inputs, [case.target for case in cases])
        for case, heatmap in zip(cases, maps, strict=True):
            assert case.boxes is not None
            where = region(case.boxes, (heatmap.shape[0], heatmap.shape[1]))
            energies.append(float(energy_within(heatmap[None], where[None])))
            points.append(float(pointing(heatmap[None], where[None], 15.0)))
            names.append(case.picture)
    return Row(title, summary(shares), summary(hits), summary(energies, groups=names), summary(points, groups=names))


# -- a run -------------------------------------------------------------------------------------------------------------


def as_markdown(rows: Sequence[Row], made: dict[str, Any]) -> str:
    """Return the table, and what it rests on."""
    caption = (
        f"{made['model']}: {made['grids']} mosaics of {made['size']} px, {made['cases']} small objects in "
        f"{made['pictures']} pictures of COCO. Means, with 95 % intervals by bootstrap."
    )
    lines = [
        caption,
        "",
        "| variant | grid: share | maximum | COCO: energy in box | pointing |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [_cell(row.share), f"{row.hits.mean:.2f}", _cell(row.energy), _cell(row.pointing)]
        lines.append(f"| {' | '.join([row.variant, *cells])} |")
    return "\n".join([*lines, "", f"Made by `{made['command']}`, torch {made['torch']}, {made['device']}.", ""])


def _cell(found: Summary) -> str:
    return f"{found.mean:.3f} ({found.low:.3f}–{found.high:.3f})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=int, default=10, help="how many mosaics (10)")
    parser.add_argument("--model", default="efficientnet_lite0", help="a model of the 1000 ImageNet classes")
    parser.add_argument("--only", metavar="TEXT", nargs="+", help="only variants whose title has any of these texts")
    parser.add_argument("--size", type=int, default=448, help="side of a mosaic in pixels, even (448)")
    parser.add_argument("--confidence", type=float, default=0.9, help="of photographs in mosaics, at least (0.9)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of photographs (0)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--output", type=Path, help="write the table there: a .md or .json file")
    return parser


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Measure the variants that the command line asks for, print the table and write it."""
    grid.check(arguments)
    listed = grid.sample()
    classifier = vv.load_model(arguments.model, device=arguments.device)
    tried = variants(classifier)
    chosen = [title for title in tried if not arguments.only or any(text in title for text in arguments.only)]
    if not chosen:
        raise vv.InputError(f"no variant has {', '.join(arguments.only)} in its title; there are {', '.join(tried)}")
    photographs = grid.confident(classifier, listed, arguments.confidence, console)
    dealt = grid.deal(photographs.classes, arguments.grids, np.random.default_rng(arguments.seed))
    mosaics = [
        (mosaic(photographs.inputs[cells], arguments.size), [photographs.classes[index] for index in cells])
        for cells in dealt
    ]
    pictures = small_objects(classifier, grid.data() / FOLDER, console)
    rows = []
    for title in track(chosen, "variants", console=console):
        rows.append(measured(title, tried[title], mosaics, pictures))
        console.print(as_markdown(rows[-1:], _made(arguments, mosaics, pictures)).splitlines()[4], soft_wrap=True)
    made = _made(arguments, mosaics, pictures)
    if arguments.output is not None:
        content = json.dumps({**made, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"
        text = content if arguments.output.suffix == ".json" else as_markdown(rows, made)
        write_bytes(arguments.output, text.encode())


def _made(
    arguments: argparse.Namespace, mosaics: Sequence[object], pictures: Sequence[Sequence[Case]]
) -> dict[str, Any]:
    command = (
        f"{grid.VARIABLE}=FOLDER python benchmarks/variants.py --model {arguments.model} --size {arguments.size} "
        f"--grids {arguments.grids} --confidence {arguments.confidence} --seed {arguments.seed}"
    )
    return {
        "model": arguments.model,
        "size": arguments.size,
        "grids": len(mosaics),
        "cases": sum(map(len, pictures)),
        "pictures": len(pictures),
        "device": arguments.device,
        "visavis": vv.__version__,
        "torch": torch.__version__,
        "command": command,
    }


def main() -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    try:
        run(_parser().parse_args(), Console())
    except vv.VisavisError as error:
        sys.exit(f"variants.py: {error}")


if __name__ == "__main__":
    main()

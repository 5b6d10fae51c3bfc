"""Do the maps of different classes differ, and do they depend on what the network has learned? On generated scenes.

A network of `scenes.py` says which of eight colours the two to four objects in a picture have. Measured are

- how alike the maps of the classes in a picture are (the CLRP paper's first claim), by rank correlation, cosine, SSIM;
- how alike the map stays as the weights are redrawn, all of them (Adebayo et al. 2018), and whether the method is named
  for it: its mean likeness lies, with its interval, above 0.5;
- how alike it is to the map of a second network, which learned permuted classes (the same paper's other test);
- how much of it lies on the object.

The weights, and the results, are kept in a folder of your choice, and a run that was ended goes on there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import scenes
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

import visavis as vv
from visavis.benchmarking.benchmark import benchmark
from visavis.benchmarking.cases import cases_of
from visavis.benchmarking.results import summaries
from visavis.benchmarking.runs import classes_between, explainer_titles, explainers_on
from visavis.datasets.scene_dataset import SceneDataset
from visavis.evaluation import Case, Summary, insensitive, label_randomization, summary
from visavis.files import write_bytes

METHODS = (
    *("clrp", "clrp-gamma", "clrp:foil=negated", "lrp", "gradient", "input-x-gradient"),
    *("guided-backprop", "deconvnet", "grad-cam"),
)
METRICS = ("discriminativeness", "randomization", "energy-in-mask")
#: Test pictures are none of those that `scenes.py` trains or tests on.
OFFSET = 3


class Row(NamedTuple):
    """What was found of a method."""

    title: str
    rank: Summary
    cosine: Summary
    ssim: Summary
    weights: Summary
    labels: Summary
    mask: Summary
    named: bool


def classifier_of(name: str, folder: Path, seed: int, console: Console, permuted: int | None = None) -> vv.Classifier:
    """Return a trained network with what a benchmark needs: preprocessing, names and bounds."""
    module = scenes.trained(name, folder, seed, console, permuted=permuted)
    return vv.Classifier(
        module,
        preprocess=prepared,
        labels=list(scenes.scenes(0, 0, 1).names),
        bounds=scenes.BOUNDS,
        name=name if permuted is None else f"{name}, permuted",
    )


def prepared(picture: PIL.Image.Image) -> Tensor:
    """Return a scene as an input (3, H, W)."""
    return scenes.normalised(torch.from_numpy(np.array(picture)).permute(2, 0, 1))


def pictures(count: int, seed: int) -> SceneDataset:
    """Return scenes of two to four objects."""
    return SceneDataset(scenes.scenes(count, 4 * seed + OFFSET, (2, 4)))


def cases(dataset: SceneDataset, classifier: vv.Classifier) -> list[Case]:
    """Return the recognised classes of all pictures."""
    mapping = classes_between(dataset, classifier)
    found = [cases_of(dataset[index], classifier, mapping, which="recognised")[0] for index in range(len(dataset))]
    return [case for several in found for case in several]


def memorised(classifier: vv.Classifier, count: int, seed: int, console: Console) -> float:
    """Return the share of pictures, of those with permuted classes, whose classes are the strongest."""
    seen = scenes.pool(scenes.scenes(count, 4 * seed, (1, 4)), console)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return scenes.accuracy(classifier.module, scenes.Pool(seen.pictures, seen.shares[order]))


def measured(name: str, arguments: argparse.Namespace, console: Console) -> tuple[list[Row], float]:
    """Return what was found on a network, and how much of the permuted classes the second one has learned."""
    own = classifier_of(name, arguments.folder, arguments.seed, console)
    other = classifier_of(name, arguments.folder, arguments.seed, console, arguments.permuted)
    dataset = pictures(arguments.count, arguments.seed)
    folder = arguments.folder / f"trust-{name}"
    benchmark(dataset, [own], arguments.methods, METRICS, folder, seed=arguments.seed, classes="recognised")
    found = {(row.method, row.metric, row.key): row.summary for row in summaries(folder)}
    decisions = cases(dataset, own)
    groups = [case.picture for case in decisions]
    titles = explainer_titles(arguments.methods)
    pairs = list(zip(explainers_on(own, arguments.methods), explainers_on(other, arguments.methods), strict=True))
    labels = {
        mine.name: summary(label_randomization(mine, theirs, decisions).abs().numpy(), groups=groups)
        for mine, theirs in track(pairs, "permuted labels", console=console)
    }
    named = insensitive({mine.name: found[mine.name, "randomization", ""] for mine, _ in pairs})
    rows = [
        Row(
            titles[method],
            found[method, "discriminativeness", "rank"],
            found[method, "discriminativeness", "cosine"],
            found[method, "discriminativeness", "ssim"],
            found[method, "randomization", ""],
            labels[method],
            found[method, "energy-in-mask", ""],
            method in named,
        )
        for method in labels
    ]
    return rows, memorised(other, arguments.permuted, arguments.seed, console)


def as_markdown(found: dict[str, tuple[list[Row], float]], arguments: argparse.Namespace) -> str:
    """Return the tables."""
    lines: list[str] = []
    for name, (rows, learned) in found.items():
        caption = (
            f"{name}: {arguments.count} pictures of two to four objects, {rows[0].weights.count} maps a method; means "
            "with 95 % intervals, by bootstrap over pictures. The network with permuted classes gives "
            f"{learned:.0%} of its {arguments.permuted} pictures their classes."
        )
        lines += [
            caption,
            "",
            "| method | other classes: rank | cosine | SSIM | random weights | permuted labels | on object | named |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        ]
        for row in rows:
            cells = [_cell(row.rank), f"{row.cosine.mean:.3f}", f"{row.ssim.mean:.3f}"]
            cells += [_cell(row.weights), _cell(row.labels), _cell(row.mask), "yes" if row.named else ""]
            lines.append(f"| {' | '.join([row.title, *cells])} |")
        lines.append("")
    return "\n".join([*lines, f"Made by `{command(arguments)}`, torch {torch.__version__}.", ""])


def _cell(found: Summary) -> str:
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def command(arguments: argparse.Namespace) -> str:
    """Return the line that makes the tables again."""
    return (
        f"python benchmarks/trust.py FOLDER --models {' '.join(arguments.models)} --count {arguments.count} "
        f"--permuted {arguments.permuted} --seed {arguments.seed} --methods {' '.join(arguments.methods)}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where weights and results are kept")
    parser.add_argument(
        "--models", nargs="+", default=["cnn"], choices=list(scenes.NETWORKS), metavar="NAME", help="of scenes.py (cnn)"
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), metavar="NAME", help="as for visavis benchmark")
    parser.add_argument("--count", type=int, default=30, help="how many pictures (30)")
    parser.add_argument("--permuted", type=int, default=300, help="on how many the second network learns (300)")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes and the weights (0)")
    parser.add_argument("--output", type=Path, help="write the tables there: a .md file")
    return parser


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Do what the command line asks for: train, measure, print the tables and write them."""
    for option, least in (("count", 2), ("permuted", 2), ("seed", 0)):
        if getattr(arguments, option) < least:
            raise vv.InputError(f"--{option} is a number of at least {least}, not {getattr(arguments, option)}")
    if arguments.output is not None and arguments.output.suffix != ".md":
        raise vv.InputError(f"--output ends in .md, not in {arguments.output.suffix!r}")
    explainer_titles(arguments.methods)
    found = {name: measured(name, arguments, console) for name in arguments.models}
    text = as_markdown(found, arguments)
    console.print(text, soft_wrap=True, markup=False, highlight=False)
    if arguments.output is not None:
        write_bytes(arguments.output, text.encode())
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    try:
        run(_parser().parse_args(arguments), Console())
    except vv.VisavisError as error:
        sys.exit(f"trust.py: {error}")


if __name__ == "__main__":
    main()

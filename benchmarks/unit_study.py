"""What do single units do? The comparisons of Zhou, Sun, Bau, Torralba 2018 (arXiv 1806.02891), on small networks.

Networks of one architecture, plain and with batch norm, dropout, and both, learn generated scenes (or CIFAR-10),
several seeds of each. Of each network the units of the last convolution are ablated, described by their attributes,
rotated, and removed more and more; each finding of the paper then appears, does not appear, or is not settled, by its
intervals.

Weights, and what was measured of each network, are kept in a folder of your choice, and a run that was ended goes on
there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from unit_study_data import KINDS, Parts, Sizes, cifar_parts, scene_parts
from unit_study_findings import findings
from unit_study_measures import Measured, Settings, measured
from unit_study_networks import VARIANTS, Training, trained
from unit_study_page import findings_table, write_page
from unit_study_results import as_json, kept, remembered, text_of

import visavis as vv
from visavis.files import check_place, write_bytes

#: How many pictures of which data, and how networks learn them.
PLANS = {
    "scenes": (Sizes(training=3000, attributes=1000, held_out=4000), Training(steps=800, rate=3e-3)),
    "cifar10": (Sizes(training=40_000, attributes=2000, held_out=4000), Training(steps=3000, rate=3e-3, flip=True)),
}
SETTINGS = Settings()
_WORDS = {
    "scenes": "generated pictures of one object each, of 32 px, whose class is its colour and shape",
    "cifar10": "CIFAR-10",
}


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Do what the command line asks for: train, measure, print the findings and write them."""
    check(arguments)
    content = text_of(arguments.source) if arguments.source else as_json(*study(arguments, console))
    made, networks = kept(content, arguments.source)
    for line in findings_table(findings(networks)):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if arguments.json is not None:
        write_bytes(arguments.json, as_json(made, networks).encode())
    if arguments.page is not None:
        notes = text_of(arguments.notes) if arguments.notes else ""
        if notes:  # which are the reader's own words
            made = {**made, "command": f"{made['command']} --notes {arguments.notes.as_posix()}"}
        write_page(arguments.page, made, networks, notes)


def study(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], list[Measured]]:
    """Train, or find, and measure the networks of all seeds and variants."""
    name, _, folder = arguments.data.partition(":")
    sizes, training = PLANS[name]
    networks = []
    classes = 0
    for seed in range(arguments.seeds):
        parts = parts_of(name, Path(folder), seed, sizes)
        classes = len(parts.classes)
        for variant in VARIANTS:
            source = source_of(name, parts)
            module = trained(variant, classes, parts.training, training, seed, arguments.folder, source, console)
            recipe = {"images": source, **asdict(sizes), **asdict(training), **asdict(SETTINGS)}
            start = time.perf_counter()
            networks.append(
                remembered(
                    None if arguments.folder is None else arguments.folder / f"{variant.replace(' ', '-')}-{seed}.json",
                    recipe,
                    partial(measured, module, variant, seed, parts, SETTINGS),
                )
            )
            took, right = time.perf_counter() - start, networks[-1].accuracy
            console.print(f"{variant}, seed {seed}: {right:.1%} right, measured in {took:.0f} s")
    made = {
        "images": _WORDS[name],
        "classes": classes,
        "command": command(arguments),
        "versions": f"Visavis {vv.__version__}, torch {torch.__version__}",
        "sizes": asdict(sizes),
        "training": asdict(training),
        "settings": asdict(SETTINGS),
    }
    return made, sorted(networks, key=lambda one: (list(VARIANTS).index(one.variant), one.seed))


def parts_of(name: str, folder: Path, seed: int, sizes: Sizes) -> Parts:
    """Return the pictures of a seed."""
    return scene_parts(seed, sizes) if name == "scenes" else cifar_parts(folder, seed, sizes)


def source_of(name: str, parts: Parts) -> str:
    """Return what pictures are, so that weights trained on others are not taken for these."""
    return json.dumps(KINDS) if name == "scenes" else f"{name}, the pixels' sum {int(parts.training.pictures.sum())}"


def command(arguments: argparse.Namespace) -> str:
    """Return the command that makes the numbers again."""
    data = "" if arguments.data == "scenes" else " --data cifar10:FOLDER"
    return (
        f"python benchmarks/unit_study.py{data} --seeds {arguments.seeds} --json unit-study.json --page unit-study.md"
    )


# -- the command line ------------------------------------------------------------------------------------------------


def check(arguments: argparse.Namespace) -> None:
    """Refuse a command line that cannot be carried out, before any network is trained.

    Raises:
        InputError, OutputError: it cannot.
    """
    name, _, folder = arguments.data.partition(":")
    if arguments.data != "scenes" and (name != "cifar10" or not folder):
        raise vv.InputError(f"--data is scenes, or cifar10:FOLDER, not {arguments.data!r}")
    if arguments.seeds < 1:
        raise vv.InputError(f"--seeds is a number of at least 1, not {arguments.seeds}")
    if arguments.notes is not None and not arguments.notes.is_file():
        raise vv.InputError(f"there are no notes {str(arguments.notes)!r}")
    for place in (arguments.json, arguments.page):
        if place is not None:
            check_place(place)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where weights and measurements are kept (nowhere)")
    parser.add_argument("--data", default="scenes", help="scenes (the default), or cifar10:FOLDER, its binary version")
    parser.add_argument("--seeds", type=int, default=3, help="how many networks of each kind (3)")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    parser.add_argument("--page", type=Path, help="write a page there, and its figures beside it")
    parser.add_argument("--notes", type=Path, help="a text for the page: what a reader made of the numbers")
    parser.add_argument("--from", dest="source", type=Path, help="measure nothing: take what --json wrote")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    try:
        run(_parser().parse_args(words), Console())
    except vv.VisavisError as error:
        sys.exit(f"unit_study.py: {error}")


if __name__ == "__main__":
    main()

"""Shape or texture? Four networks of one architecture that were asked for different things, and four ways to tell.

The networks learn generated pictures of one object: by its shape alone, by its texture alone, by both, and not at all.
Dimensionality, the removal of neurons, read-outs and cue conflict (Islam et al. 2021, Geirhos et al. 2019) are measured
of each, with 95 % intervals; whether they tell the networks apart is computed, not judged.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import scenes
import torch
from rich.console import Console
from shape_texture_measures import MEASURES, Estimate, Measured, Sizes, measured
from shape_texture_networks import LAST, NETWORKS, RANDOM, Plan, drawn, scenes_of, trained, untrained, write_checkpoints
from unit_study_results import rounded

import visavis as vv
from visavis.files import check_place, make_folder, write_bytes
from visavis.shape_texture import Dimensionality, ScenePairs, checkpoint_dimensionality, checkpoints_in

#: The networks that must not overlap; the random one has to lie between the outermost of them.
APART = ("shape", "both", "texture")


@dataclass(frozen=True, eq=False)
class Study:
    """What was found.

    Attributes:
        networks: by what their labels depend on.
        training: of each network that learned, by the share of its training, the dimensionality of the last layer.
        plan, sizes, seed: how.
        seconds: how long it took.
    """

    networks: Mapping[str, Measured]
    training: Mapping[str, Mapping[float, Dimensionality]]
    plan: Plan
    sizes: Sizes
    seed: int
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """Whether a measure tells the networks apart.

    Attributes:
        measure: of `MEASURES`.
        apart: whether no two intervals of the networks taught by shape, both and texture overlap, in that order. Of
            removal also: whether the network by both misses the units of either factor more than as many at random, for
            in the other two all units are of one factor, so that any choice would tell these apart.
        between: whether the random network's value lies between those by shape and by texture.
    """

    measure: str
    apart: bool
    between: bool


def study(plan: Plan, sizes: Sizes, seed: int, console: Console, folder: Path | None = None) -> Study:
    """Train and measure the networks.

    Args:
        plan, sizes, seed: how.
        console: for what is done.
        folder: where the weights at the checkpoints are kept; None: nowhere.
    """
    start = time.perf_counter()
    training, held_out = drawn(plan.training, 10 * seed + 1), drawn(sizes.held_out, 10 * seed + 2)
    networks: dict[str, Measured] = {}
    over: dict[str, dict[float, Dimensionality]] = {}
    with tempfile.TemporaryDirectory() as kept:
        for kind in NETWORKS:
            module, states = trained(kind, training, plan, seed, console)
            if states:
                place = write_checkpoints(folder or Path(kept), kind, seed, plan, states)
                over[kind] = _over_training(kind, place, plan, sizes, seed)
            networks[kind] = measured(kind, module, held_out, sizes, seed)
            found = networks[kind]
            console.print(
                f"{kind}: {found.accuracy:.1%} right; "
                + "; ".join(f"{name} {_said(one)}" for name, one in found.numbers.items()),
                soft_wrap=True,
                highlight=False,
            )
    return Study(networks, over, plan, sizes, seed, time.perf_counter() - start)


def _over_training(kind: str, place: Path, plan: Plan, sizes: Sizes, seed: int) -> dict[float, Dimensionality]:
    found = checkpoint_dimensionality(
        untrained(kind, seed),
        checkpoints_in(place),
        [LAST],
        ScenePairs(max(2, sizes.pairs // 2), scenes=scenes_of(1, seed), seed=seed),
        prepare=scenes.normalised,
        draws=sizes.draws,
        seed=seed,
    )
    steps = plan.steps(kind)
    return {int(name.removeprefix("step-")) / steps: one[LAST] for name, one in found.items()}


def verdicts(networks: Mapping[str, Measured]) -> list[Verdict]:
    """Return, of each measure, whether it tells the networks apart."""
    found = []
    for name in MEASURES:
        of = {kind: one.numbers[name] for kind, one in networks.items()}
        apart = all(of[more].low > of[less].high for more, less in combinations(APART, 2))
        if name == "removal":
            apart = apart and all(one.missed.low > 0 for one in networks["both"].without.values())
        between = of["texture"].value < of[RANDOM].value < of["shape"].value
        found.append(Verdict(name, apart, between))
    return found


def _said(one: Estimate) -> str:
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def as_json(found: Study) -> str:
    """Return all numbers, to four digits."""
    document = {
        "versions": f"Visavis {vv.__version__}, torch {torch.__version__}",
        "plan": asdict(found.plan),
        "sizes": asdict(found.sizes),
        "seed": found.seed,
        "verdicts": [asdict(one) for one in verdicts(found.networks)],
        "networks": {kind: _numbers(one) for kind, one in found.networks.items()},
        "training": {
            kind: {f"{share:g}": shares(one) for share, one in each.items()} for kind, each in found.training.items()
        },
    }
    return json.dumps(rounded(document), indent=1, ensure_ascii=False) + "\n"


def _numbers(one: Measured) -> dict[str, Any]:
    return {
        "accuracy": one.accuracy,
        "measures": {name: asdict(number) for name, number in one.numbers.items()},
        "dimensionality": {path: shares(each) for path, each in one.dimensionality.items()},
        "without": {factor: asdict(each) for factor, each in one.without.items()},
        "removal": {
            "counts": one.removal.counts,
            "curves": {name: curve.accuracy.tolist() for name, curve in one.removal.curves.items()},
        },
        "readouts": {
            factor: {"miou": each.miou, "low": each.low, "high": each.high} for factor, each in one.readouts.items()
        },
        "decisions": one.bias.counts,
        "edges": one.edges,
    }


def shares(one: Dimensionality) -> dict[str, Any]:
    """Return how many dimensions each factor has, and their shares with intervals."""
    return {
        "units": one.units,
        **{
            name: {"dimensions": int(count), "share": float(share), "low": float(low), "high": float(high)}
            for name, count, share, low, high in zip(
                (*one.factors, "neither"), one.counts, one.shares, one.low, one.high, strict=True
            )
        },
    }


# -- the command line ------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace, console: Console) -> bool:
    """Do what the command line asks for; return whether every measure tells the networks apart."""
    for place in (arguments.json, arguments.page):
        if place is not None:
            check_place(place)
    if arguments.folder is not None:
        make_folder(arguments.folder)
    found = study(Plan(), Sizes(), arguments.seed, console, arguments.folder)
    judged = verdicts(found.networks)
    for one in judged:
        apart = "tells them apart" if one.apart else "does NOT tell them apart"
        between = "lies between" if one.between else "does NOT lie between"
        console.print(f"{one.measure}: {apart}; the random network {between}", highlight=False)
    console.print(f"{found.seconds:.0f} s", highlight=False)
    if arguments.json is not None:
        write_bytes(arguments.json, as_json(found).encode())
    if arguments.page is not None:
        from shape_texture_page import write_page

        write_page(arguments.page, found)
    return all(one.apart and one.between for one in judged)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of first weights and pictures (0)")
    parser.add_argument("--folder", type=Path, help="where weights at the checkpoints are kept (nowhere)")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    parser.add_argument("--page", type=Path, help="write a page there, and its figures beside it")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Run from the command line; exit status 1 where a measure does not tell the networks apart."""
    try:
        told = run(_parser().parse_args(words), Console())
    except vv.VisavisError as error:
        sys.exit(f"shape_texture_study.py: {error}")
    sys.exit(0 if told else 1)


if __name__ == "__main__":
    main()

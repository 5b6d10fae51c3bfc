"""The experiments of Gu, Yang, Tresp 2018 (CLRP) on ImageNet's validation pictures, for whoever has them.

FOLDER is laid out as torchvision wants it, val/n01440764/ILSVRC2012_val_00000293.JPEG and so on, with the boxes as
XML files beside. DIR/paper.md gets the tables, DIR/pictures the figures, DIR/values all values. The experiments are

    classes    how alike the maps of several classes on one picture are, by LRP, CLRP1 and CLRP2
    neurons    how alike the maps of the most strongly activated neurons of one layer are
    models     how alike the maps of one class by several models are
    pointing   whether the maximum, and all of the foreground that holds p % of the energy, lies in the box
    ablation   how far the score drops when a patch about the maximum is replaced, beside random patches

A run that was ended goes on where it was when it is started again with the same words. What is not known of the paper
is an option, and the page lists these as choices.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from paper_experiments import EXPERIMENTS, LAYERS, SEEDS, Run, open_pictures
from paper_maps import check_frames
from paper_models import FRAMES, load, seen_whole
from paper_page import page
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import visavis as vv
from visavis.benchmarking.cases import CLASSES, OTHERS
from visavis.evaluation.explainers import CHANNELS
from visavis.evaluation.localization import SHARES, EnergyPointing
from visavis.evaluation.perturbation import FILLS, SCORES
from visavis.files import make_folder, write_bytes
from visavis.propagation import rule_set

MODELS = ("torchvision:alexnet", "torchvision:vgg16", "torchvision:googlenet")
NORMALIZE = ("none", "sum")

#: Takes the name of a model to a classifier.
Load = Callable[[str], vv.Classifier]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Give one sentence, as all else that is wrong gets."""
        raise vv.InputError(f"{message}; see --help")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = _Parser(prog="paper.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("folder", type=Path, help="ImageNet's, with val/n01440764/*.JPEG")
    add("-o", "--output", type=Path, required=True, metavar="DIR", help="for the page, pictures and values")
    add("--models", type=_words, default=MODELS, metavar="A,B,…", help=f"({','.join(MODELS)})")
    add("--experiments", type=_words, default=tuple(EXPERIMENTS), metavar="A,B,…", help=f"({','.join(EXPERIMENTS)})")
    add("--limit", type=int, help="so many pictures, drawn at random; else all")
    add("--seed", type=int, default=0, help="of the draw, and of random patches (0)")
    add("--weights", type=_pair, action="append", metavar="NAME=FILE", help="a model's weights, loaded as data only")
    add("--boxes", type=Path, metavar="FOLDER", help="of the XML files; else looked for in the data set's folder")
    add("--pictures", type=int, default=3, help="how many figures an experiment and model gets (3)")
    add("--device", help="cpu, cuda, cuda:1 or mps; by itself the best there is")
    choices = made.add_argument_group("what is not known of the paper, or is left open in it")
    add = choices.add_argument
    add("--targets", default="present", help=_listed(CLASSES, "present"))
    add("--frame", default="crop", help=_listed(FRAMES, "crop"))
    add("--channels", default="sum", help=_listed(CHANNELS, "sum"))
    add("--seed-mode", default="uniform", help="of CLRP1: uniform (default), as in the paper, or logit, by its size")
    add("--normalize", default="none", help="of CLRP: none (default), as the paper has it, or sum")
    add(
        "--rules",
        metavar="NAME",
        help="rule set of LRP and CLRP; by default what fits the model",
    )
    add("--objects", default="1", help="pointing: how many boxes a picture has (1), or any")
    add("--shares", type=_shares, default=SHARES, metavar="P,P,…", help="pointing: shares of energy (0.05,0.1,…,0.95)")
    add("--tolerance", type=float, default=0.0, help="pointing: pixels by which a maximum may miss the box (0)")
    add("--patch", type=int, default=9, help="ablation: side of the patch in pixels (9)")
    add("--fill", default="mean", help="ablation: " + _listed(FILLS, "mean"))
    add("--score", default="probability", help="ablation: " + _listed(SCORES, "probability"))
    add("--samples", type=int, default=10, help="ablation: random patches a picture (10)")
    add("--layer", type=_pair, action="append", metavar="MODEL=PATH", help=f"neurons: the layer ({_said(LAYERS)})")
    add("--units", type=int, default=8, help="neurons: how many (8)")
    add("--others", type=int, default=OTHERS, help=f"classes: how many others the target is compared with ({OTHERS})")
    return made


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in _words(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between, such as 0.25,0.5") from None


def _listed(known: Mapping[str, str], default: str) -> str:
    return "; ".join(f"{name}{' (default)' if name == default else ''}: {title}" for name, title in known.items())


def _said(pairs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in pairs.items())


def _check(given: argparse.Namespace) -> None:
    """Refuse what is wrong before a model is loaded or a file is written."""
    unknown = [name for name in given.experiments if name not in EXPERIMENTS]
    if unknown or not given.experiments:
        raise vv.InputError(f"there is no experiment {''.join(unknown[:1])!r}; there are {', '.join(EXPERIMENTS)}")
    if not given.models:
        raise vv.InputError("--models names no model; name one, such as torchvision:vgg16")
    for name, known in (
        ("targets", CLASSES),
        ("frame", FRAMES),
        ("channels", CHANNELS),
        ("seed_mode", SEEDS),
        ("normalize", NORMALIZE),
        ("fill", FILLS),
        ("score", SCORES),
    ):
        if getattr(given, name) not in known:
            raise vv.InputError(f"{_option(name)} is {' or '.join(known)}, not {getattr(given, name)!r}")
    for name, least in (("seed", 0), ("pictures", 0), ("patch", 1), ("samples", 1), ("units", 2), ("limit", 1)):
        value = getattr(given, name)
        if value is not None and value < least:
            raise vv.InputError(f"{_option(name)} is a whole number of at least {least}, not {value}")
    if not 1 <= given.others <= OTHERS:
        raise vv.InputError(f"--others is 1 to {OTHERS} classes, not {given.others}")
    if not 0 <= given.tolerance < float("inf"):
        raise vv.InputError(f"--tolerance is a number of pixels from 0, not {given.tolerance:g}")
    if given.objects != "any" and (not given.objects.isdecimal() or int(given.objects) < 1):
        raise vv.InputError(f"--objects is how many boxes a picture has, at least 1, or any, not {given.objects!r}")
    EnergyPointing(given.shares)
    rule_set(given.rules)
    for name, option in (("weights", given.weights), ("layer", given.layer)):
        strangers = [model for model in option if model not in given.models]
        if strangers:
            listed = ", ".join(given.models)
            raise vv.InputError(f"{_option(name)} names {strangers[0]!r}, which is not among --models {listed}")
    if "models" in given.experiments and len(given.models) < 2:
        raise vv.InputError(
            "the experiment models compares at least two models; name another with --models, or leave it out of "
            "--experiments"
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def run(given: argparse.Namespace, console: Console, load_one: Load | None = None) -> Path:
    """Do what the command line asks for, and return the page.

    Args:
        given: what `parsed` returns.
        console: for progress.
        load_one: takes the name of a model to a classifier; None: `load`, with the weights and device asked for.

    Raises:
        InputError, ModelError: an option, the folder or a model is not as expected.
        OutputError: the results cannot be written.
    """
    _check(given)
    dataset = open_pictures(given)
    if "pointing" in given.experiments and dataset.boxes is None:
        raise vv.InputError(
            f"'{given.folder}' has no boxes, which the experiment pointing needs; name their folder with --boxes, or "
            "leave pointing out of --experiments"
        )
    boxed = None
    if "pointing" in given.experiments:
        boxed = open_pictures(given, None if given.objects == "any" else int(given.objects))
    make_folder(given.output)

    def usual(name: str) -> vv.Classifier:
        file = given.weights.get(name)
        return load(name, None if file is None else Path(file), given.device)

    classifiers = {name: (load_one or usual)(name) for name in given.models}
    if given.frame == "resize":
        classifiers = {name: seen_whole(one) for name, one in classifiers.items()}
    _check_layers(given, classifiers)
    if "models" in given.experiments:
        check_frames(list(classifiers.values()))
    sections = []
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        for name in (each for each in EXPERIMENTS if each in given.experiments):
            task = bar.add_task(name, total=None)

            def tell(done: int, total: int, what: str, name: str = name, task: Any = task) -> None:
                bar.update(task, completed=done, total=total, description=f"{name}: {what}")

            sections.append(EXPERIMENTS[name](Run(given, classifiers, dataset, boxed, tell)))
    place = given.output / "paper.md"
    written = page(given, sections, given.output, lambda option: _value_of(given, option))
    write_bytes(place, written.encode("utf-8", "backslashreplace"))
    return place


def _check_layers(given: argparse.Namespace, classifiers: Mapping[str, vv.Classifier]) -> None:
    if "neurons" not in given.experiments:
        return
    for name, one in classifiers.items():
        path = (LAYERS | given.layer).get(name)
        if path is None:
            raise vv.InputError(
                f"which layer of {name!r} the experiment neurons is to look at is not known; say so with "
                f"--layer {name}=PATH, or leave neurons out of --experiments"
            )
        if path not in dict(one.module.named_modules()):
            raise vv.InputError(f"{name} has no layer {path!r}; name one of its submodules with --layer {name}=PATH")


def _value_of(given: argparse.Namespace, option: str) -> str:
    """Return what a choice is set to, in words."""
    if option == "layer":
        return _said({name: (LAYERS | given.layer)[name] for name in given.models})
    value = getattr(given, option.replace("-", "_"))
    if option == "rules" and value is None:
        return "what fits each model"
    return ", ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else str(value)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a command line, the pairs of --weights and --layer as dictionaries."""
    given = parser().parse_args(arguments)
    given.weights, given.layer = dict(given.weights or ()), dict(given.layer or ())
    return given


def main() -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    console = Console(stderr=True)
    try:
        print(f"written: {run(parsed(), console)}")
    except vv.VisavisError as error:
        sys.exit(f"paper.py: {error}")
    except KeyboardInterrupt:
        console.print("paper.py: ended; what is done is kept, and the same command goes on from there")
        sys.exit(130)


if __name__ == "__main__":
    main()

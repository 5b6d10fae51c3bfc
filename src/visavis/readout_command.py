"""`visavis shape-texture readout`: what do a network's layers hold of shape and class at each pixel?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from visavis.errors import InputError, ModelError
from visavis.model_arguments import LabelFile, Mean, Size, Std, Weights, load, options_of
from visavis.models.own_model import running
from visavis.shape_texture_arguments import (
    COUNT,
    FOLDER,
    MODEL,
    PAIRS,
    PAIRS_OPTION,
    BatchSize,
    Device,
    Draws,
    Model,
    Output,
    Seed,
    checked_folder,
    folders_of,
    grey,
    one_of,
    say,
    side_of,
    write_results,
)
from visavis.terminal import bar, note

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from visavis.classifier import Classifier
    from visavis.shape_texture import Dimensionality, Readout, Segmented

_FACTORS = ("shape", "texture")
# The ending of the names of what is read from random weights.
_RANDOM = ", random weights"
# So many images, and so many read-outs, fit the picture of masks.
_IMAGES, _READOUTS = 6, 4


def readout(
    train: Annotated[
        str,
        typer.Option(
            help="Images with masks to learn from: voc2012:FOLDER?split=train, coco:FOLDER, or scenes?count=300&seed=1."
        ),
    ],
    test: Annotated[str, typer.Option(help="Those to measure on, spelled likewise.")],
    model: Model = MODEL,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            help="A layer, or several side by side as a+b; several times for several read-outs; else the last of each "
            "resolution.",
        ),
    ] = None,
    task: Annotated[str, typer.Option(help="binary: object or background, the shape alone; or semantic.")] = "binary",
    depth: Annotated[int, typer.Option(help="Convolutions of the head: 1 or 3.")] = 1,
    keep: Annotated[
        str | None, typer.Option(help="Read the layer's shape or texture units alone: shape, or texture.")
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="With --keep: the first so much of them, above 0, up to 1; else all.")
    ] = None,
    pairs: Annotated[str | None, PAIRS_OPTION] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", min=2, max=1_000_000, help=f"So many pairs of each factor; else {COUNT}."),
    ] = None,
    random: Annotated[bool, typer.Option(help="Beside each, the same layer of a network with random weights.")] = True,
    end_to_end: Annotated[
        bool, typer.Option("--end-to-end", help="Beside each, with a copy of the network trained too. Slow.")
    ] = False,
    standardise: Annotated[
        bool, typer.Option("--standardise", help="Bring each unit of frozen layers to mean 0, deviation 1 first.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="How often each training image is seen.")] = 30,
    rate: Annotated[float, typer.Option(help="The head's learning rate at first.")] = 0.02,
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=8, help="Side of the images in pixels; else the model's own.")
    ] = None,
    output: Output = FOLDER,
    draws: Draws = 1000,
    seed: Seed = 0,
    batch_size: BatchSize = 16,
    weights: Weights = None,
    labels: LabelFile = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    device: Device = None,
) -> None:
    """Train a small head on frozen layers to name what is at each pixel: how much of shape and class is there?"""
    from visavis.reports.shape_texture import readout_bars
    from visavis.shape_texture import maps_of, stages
    from visavis.shape_texture import readout as read
    from visavis.shape_texture.label_sources import open_segmented
    from visavis.shape_texture.sources import check_pairs

    names = ("readout-scores.png", "readout-masks.png", "readout.json")
    inputs = [folder for spelling in (train, test, pairs or PAIRS) for folder in folders_of(spelling)]
    folder = checked_folder(output, names, files=(weights, labels), folders=inputs)
    chosen = cast(Literal["binary", "semantic"], one_of("--task", task, ("binary", "semantic")))
    _check_numbers(depth, rate)
    part = _part(keep, share, pairs, count)
    check_pairs(pairs or PAIRS)
    groups = _groups(layers)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    with running(classifier, model, size):
        side = side_of(classifier)
        groups = groups or [[path] for path in stages(classifier.module, grey(classifier))]
        # What is wrong with a layer is said before heads are trained on others.
        maps_of(classifier, list(dict.fromkeys(path for group in groups for path in group)), grey(classifier))
    if train == test:
        note("--train and --test are spelled alike: what was learnt by heart counts as read out")
    learnt, tested = (open_segmented(spelling, size=image_size or side) for spelling in (train, test))
    results: dict[str, Readout] = {}
    kept: dict[str, dict[str, Tensor]]
    with running(classifier, model, size):
        networks = _networks(classifier, seed, random=random, end_to_end=end_to_end)
        kept = {ending: {} for ending in networks}
        if part is not None:
            kept = _kept(networks, groups, part, pairs or PAIRS, count or COUNT, side, seed, batch_size)
        for group in groups:
            for ending, (network, trained) in networks.items():
                name = f"{'+'.join(group)}{_words(part, len(group))}{ending}"
                with bar(f"Reading {name}") as told:
                    results[name] = read(
                        network,
                        group,
                        learnt,
                        tested,
                        task=chosen,
                        depth=depth,
                        keep={path: units for path, units in kept[ending].items() if path in group} or None,
                        standardise=standardise and not trained,
                        train_encoder=trained,
                        epochs=epochs,
                        batch_size=batch_size,
                        rate=rate,
                        seed=seed,
                        draws=draws,
                        progress=told,
                    )
                say(f"  {name}: {results[name]}")
        masks = _masks(tested, results)
    background = _background(next(iter(results.values())))
    say(f"  all background: mIoU {background:.3f}")
    shown = {name: (one.miou, one.low, one.high) for name, one in results.items()}
    figures = {
        names[0]: readout_bars(shown, chance=background, guess="all background"),
        names[1]: masks,
    }
    document = {
        "model": classifier.name,
        "train": train,
        "test": test,
        "task": task,
        "depth": depth,
        "standardise": standardise,
        "epochs": epochs,
        "rate": rate,
        "batch_size": batch_size,
        "draws": draws,
        "seed": seed,
        "keep": keep,
        "kept": {path: units.tolist() for path, units in kept[""].items()},
        "random_kept": {path: units.tolist() for path, units in kept.get(_RANDOM, {}).items()},
        "all_background": background,
        "readouts": {name: _numbers(one) for name, one in results.items()},
    }
    write_results(folder, figures, names[2], document)


def _check_numbers(depth: int, rate: float) -> None:
    """Refuse numbers that would be found wrong after much work."""
    if depth not in (1, 3):
        raise InputError(f"--depth is 1 or 3, not {depth}")
    if not 0 < rate < math.inf:
        raise InputError(f"--rate is a number above 0, not {rate}")


def _part(
    keep: str | None, share: float | None, pairs: str | None, count: int | None
) -> tuple[Literal["shape", "texture"], float] | None:
    """Return of which factor, and how much of its units, is read; None: all units are."""
    if keep is None:
        if share is not None or pairs is not None or count is not None:
            raise InputError("--share, --pairs and --count say which units are read; name their factor with --keep")
        return None
    part = 1.0 if share is None else share
    if not 0 < part <= 1:
        raise InputError(f"--share is above 0, up to 1, not {part}")
    return cast(Literal["shape", "texture"], one_of("--keep", keep, _FACTORS)), part


def _groups(layers: Sequence[str] | None) -> list[list[str]]:
    """Return the layers of each read-out."""
    groups = [group.split("+") for group in layers or ()]
    for group in groups:
        if "" in group or groups.count(group) > 1 or len(set(group)) < len(group):
            raise InputError(f"--layer {'+'.join(group)!r} names a layer twice, or none; write a, or a+b, each once")
    return groups


def _words(part: tuple[str, float] | None, layers: int) -> str:
    """Return what is said of the units that are read, after the name of their layers."""
    if part is None:
        return ""
    factor, share = part
    first = "" if share == 1 else f"the first {100 * share:.3g} % of "
    return f", {first}{'its' if layers == 1 else 'their'} {factor} units"


def _kept(
    networks: Mapping[str, tuple[Classifier, bool]],
    groups: Sequence[Sequence[str]],
    part: tuple[str, float],
    pairs: str,
    count: int,
    side: int,
    seed: int,
    batch_size: int,
) -> dict[str, dict[str, Tensor]]:
    """Return the units of each layer that are read, by the ending of the network's name: each network's own."""
    from visavis.shape_texture import layer_dimensionality, open_pairs
    from visavis.shape_texture.remembered import RememberedPairs

    paths = list(dict.fromkeys(path for group in groups for path in group))
    found = RememberedPairs(open_pairs(pairs, count, size=side, seed=seed))
    kept: dict[str, dict[str, Tensor]] = {}
    for ending, (network, trained) in networks.items():
        if trained:  # a copy of the first, which is the same as training begins
            kept[ending] = kept[""]
            continue
        with bar("Ranking") as told:
            ranked = layer_dimensionality(network, paths, found, draws=0, batch_size=batch_size, progress=told)
        kept[ending] = {path: _units(f"{path}{ending}", ranked[path], *part) for path in paths}
    return kept


def _background(found: Readout) -> float:
    """Return the mean IoU of background everywhere, on the images that a read-out was tested on."""
    import torch

    from visavis.shape_texture.overlap import mean_iou

    truth = found.confusion.sum(1)
    everywhere = torch.zeros_like(found.confusion)
    everywhere[:, 0] = truth
    return float(mean_iou(everywhere))


def _units(layer: str, found: Dimensionality, factor: str, share: float) -> Tensor:
    """Return the units of a factor in a layer, the first share of them."""
    from visavis.shape_texture import factor_units

    units = factor_units(found, factor, share)
    if not len(units):
        raise InputError(f"layer {layer!r} has {found}, so none to keep; name another layer, or leave --keep out")
    return units


def _networks(
    classifier: Classifier, seed: int, *, random: bool, end_to_end: bool
) -> dict[str, tuple[Classifier, bool]]:
    """Return the networks whose layers are read, and whether they are trained too, by the ending of the name."""
    from visavis.shape_texture import random_encoder

    networks = {"": (classifier, False)}
    if random:
        try:
            networks[_RANDOM] = (random_encoder(classifier, seed=seed), False)
        except ModelError as error:
            raise ModelError(f"{error}; or leave the random network out, with --no-random") from error
    if end_to_end:
        networks[", end to end"] = (classifier, True)
    return networks


def _masks(tested: Segmented, results: Mapping[str, Readout]) -> Figure:
    """Draw the first test images beside what the best read-outs say of them."""
    import torch

    from visavis.reports.shape_texture import readout_masks
    from visavis.shape_texture.segmented import VOID

    best = sorted(results, key=lambda name: -results[name].miou)[:_READOUTS]
    shown = {name: one for name, one in results.items() if name in best}
    first = next(iter(shown.values()))
    images, labels = zip(*(tested[place] for place in range(min(_IMAGES, len(tested)))), strict=True)
    if first.task == "binary":
        labels = tuple(torch.where((one > 0) & (one != VOID), 1, one) for one in labels)
    said = {name: [one.predict(image[None])[0].numpy() for image in images] for name, one in shown.items()}
    return readout_masks(
        [image.permute(1, 2, 0).numpy() for image in images],
        [one.numpy() for one in labels],
        said,
        first.names,
        scores={name: one.miou for name, one in shown.items()},
    )


def _numbers(found: Readout) -> dict[str, Any]:
    return {
        "layers": list(found.layers),
        "units": found.units,
        "miou": found.miou,
        "interval": [found.low, found.high],
        "iou": dict(zip(found.names, found.iou.tolist(), strict=True)),
        "pixel_accuracy": found.accuracy,
    }


__all__ = ["readout"]

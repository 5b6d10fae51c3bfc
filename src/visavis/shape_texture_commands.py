"""`visavis shape-texture`: how much of a network encodes shape, how much texture, and what is each of them needed for?

`dimensions` and `removal` are here; `readout` and `bias` have modules of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis import bias_command, readout_command
from visavis.errors import InputError, ModelError
from visavis.model_arguments import LabelFile, Mean, Size, Std, Weights, load, options_of
from visavis.models.own_model import running
from visavis.shape_texture_arguments import (
    COUNT,
    FOLDER,
    MODEL,
    PAIRS,
    BatchSize,
    Count,
    Device,
    Draws,
    EstimatorName,
    Model,
    Output,
    PairSource,
    Seed,
    checked_estimator,
    checked_folder,
    distinct,
    folders_of,
    grey,
    one_of,
    say,
    sheet_of,
    side_of,
    write_results,
)
from visavis.terminal import bar, note, note_skipped

if TYPE_CHECKING:
    from torch import Tensor

    from visavis.classifier import Classifier
    from visavis.datasets.annotated import AnnotatedDataset
    from visavis.reports.shape_texture import RemovalPanel
    from visavis.shape_texture import Checkpoint, Dimensionality, NeuronRemoval, Pairs

app = typer.Typer(no_args_is_help=True, help="Does a network go by shape or by texture? Where in it, in which pixels?")
app.command()(readout_command.readout)
app.command()(bias_command.bias)

_FACTORS = ("shape", "texture")


@app.command()
def dimensions(
    model: Model = MODEL,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help="Path of a module, several times for several; else the last of each resolution."),
    ] = None,
    pairs: PairSource = PAIRS,
    count: Count = COUNT,
    checkpoints: Annotated[
        str | None, typer.Option(help="Folder of the weights of a training run: one estimate for each file in it.")
    ] = None,
    random: Annotated[
        bool, typer.Option(help="Also the same architecture with random weights. Not with --checkpoints.")
    ] = True,
    estimator: EstimatorName = "sum_cov",
    output: Output = FOLDER,
    draws: Draws = 1000,
    seed: Seed = 0,
    batch_size: BatchSize = 32,
    weights: Weights = None,
    labels: LabelFile = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    device: Device = None,
) -> None:
    """Estimate how many dimensions of each layer encode shape, texture, and neither (Islam et al. 2021)."""
    from visavis.reports.shape_texture import dimension_bars, dimension_curves
    from visavis.shape_texture import (
        Latents,
        checkpoint_dimensionality,
        checkpoints_in,
        layer_dimensionality,
        open_pairs,
        stages,
    )
    from visavis.shape_texture.checkpoints import by_layer
    from visavis.shape_texture.remembered import RememberedPairs
    from visavis.shape_texture.sources import check_pairs

    names = ("dimensions.png", "pairs.png", "dimensions.json")
    folder = checked_folder(output, names, files=(weights, labels), folders=folders_of(pairs))
    checked_estimator(estimator)
    check_pairs(pairs)
    if checkpoints is not None and weights is not None:
        raise InputError("--weights and --checkpoints both say which weights the model has; give one of them")
    files = None if checkpoints is None else checkpoints_in(checkpoints)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    with running(classifier, model, size):
        side = side_of(classifier)
        paths = list(layers) if layers else stages(classifier.module, grey(classifier))
        # What is wrong with a layer is said before pairs are made.
        Latents(classifier, paths)(grey(classifier))
    found = RememberedPairs(open_pairs(pairs, count, size=side, seed=seed))
    chosen: dict[str, Any] = {"estimator": estimator, "draws": draws, "seed": seed, "batch_size": batch_size}
    document: dict[str, Any] = {
        "model": classifier.name,
        "pairs": found.name,
        "count": count,
        "distinct": distinct(found, "; the intervals take all for independent"),
        "estimator": estimator,
        "draws": draws,
        "seed": seed,
    }
    if files is None:
        with bar("Looking") as told, running(classifier, model, size):
            each = layer_dimensionality(classifier, paths, found, progress=told, **chosen)
            beneath = _random(classifier, paths, found, progress=told, **chosen) if random else {}
        document["layers"] = _by_path(each)
        document["random"] = _by_path(beneath) if beneath else None
        figure = dimension_bars(each, baseline=beneath or None)
    else:
        with bar("Looking") as told, running(classifier, model, size):
            several = checkpoint_dimensionality(classifier, files, paths, found, progress=told, **chosen)
        each, beneath = several[files[-1].name], {}
        document["checkpoints"] = {name: _by_path(one) for name, one in several.items()}
        figure = dimension_curves(_times(files), by_layer(several))
        say(f"At the last of {len(files)} checkpoints, {files[-1].name}:")
    for path, one in each.items():
        say(f"  {path}: {_said(one)}")
        if path in beneath:
            say(f"    with random weights: {_said(beneath[path])}")
    if any(bool((one.scores < 0).any()) for one in (*each.values(), *beneath.values())):
        note("a score below 0: two images of such a pair are less alike to the layer than two at random")
    write_results(folder, {names[0]: figure, names[1]: sheet_of(found)}, names[2], document)


@app.command()
def removal(
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="Labelled pictures: KIND:FOLDER, or KIND:FOLDER?option=value.")
    ],
    model: Model = MODEL,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Path of a module; else the last layer with positions.")
    ] = None,
    pairs: PairSource = PAIRS,
    count: Count = COUNT,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the first units of a factor, and remove all others.")
    ] = False,
    value: Annotated[str, typer.Option(help="What removed units are replaced by: zero, or their mean.")] = "mean",
    limit: Annotated[int, typer.Option(min=2, help="So many usable pictures, drawn at random.")] = 200,
    estimator: EstimatorName = "sum_cov",
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
    """Classify without the units that encode shape most, and without those that encode texture most."""
    from visavis.datasets.registry import open_dataset
    from visavis.reports.shape_texture import removal_curves
    from visavis.shape_texture import Latents, layer_dimensionality, open_pairs, remove_neurons
    from visavis.shape_texture.sources import check_pairs
    from visavis.units.last import last_layer

    names = ("removal.png", "pairs.png", "removal.json")
    read = (*folders_of(dataset), *folders_of(pairs))
    folder = checked_folder(output, names, files=(weights, labels), folders=read)
    checked_estimator(estimator)
    check_pairs(pairs)
    one_of("--value", value, ("zero", "mean"))
    pictures = open_dataset(dataset)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    with running(classifier, model, size):
        side = side_of(classifier)
        path = layer if layer is not None else last_layer(classifier.module, grey(classifier))
        Latents(classifier, [path])(grey(classifier))
    found = open_pairs(pairs, count, size=side, seed=seed)
    apart = distinct(found)
    skipped: list[tuple[str, str]] = []
    with running(classifier, model, size):
        data = _labelled(pictures, classifier, limit, seed, batch_size, skipped)
        note_skipped(skipped, "JSON file")
        with bar("Ranking") as told:
            ranked = layer_dimensionality(
                classifier, [path], found, estimator=estimator, draws=0, seed=seed, batch_size=batch_size, progress=told
            )[path]
        with bar("Removing") as told:
            done = remove_neurons(
                classifier,
                path,
                data,
                ranked,
                keep=keep,
                value=value,
                draws=draws,
                seed=seed,
                progress=lambda number: told(number, number, "predictions"),
            )
    figure = removal_curves([_panel(classifier.name, done)], layer=path, kept=keep)
    say(f"{classifier.name} is right on {done.intact:.1%} of {done.images} pictures as it is.")
    for place, number in enumerate(done.counts):
        said = ", ".join(f"{name} {float(one.accuracy[place]):.1%}" for name, one in done.curves.items())
        say(f"  {'with nothing but' if keep else 'without'} {number} of {done.units} units of {path}: {said}")
    document = {
        "model": classifier.name,
        "layer": path,
        "pairs": found.name,
        "count": count,
        "distinct": apart,
        "estimator": estimator,
        "dataset": pictures.name,
        "images": done.images,
        "skipped": [{"picture": name, "reason": reason} for name, reason in skipped],
        "keep": keep,
        "value": value,
        "draws": draws,
        "seed": seed,
        "counts": list(done.counts),
        "units": done.units,
        "intact": done.intact,
        "curves": {
            name: {"accuracy": one.accuracy.tolist(), "low": one.low.tolist(), "high": one.high.tolist()}
            for name, one in done.curves.items()
        },
        "rankings": {factor: ranked.ranking(factor).tolist() for factor in ranked.factors},
    }
    write_results(folder, {names[0]: figure, names[1]: sheet_of(found)}, names[2], document)


def _random(
    classifier: Classifier, paths: list[str], pairs: Pairs, seed: int, **options: Any
) -> dict[str, Dimensionality]:
    """Return the dimensionality of the architecture with random weights; nothing, and a note, where it has none."""
    from visavis.shape_texture import layer_dimensionality, random_encoder

    try:
        network = random_encoder(classifier, seed=seed)
        return layer_dimensionality(network, paths, pairs, seed=seed, **options)
    except (InputError, ModelError) as error:
        note(f"nothing is measured of random weights: {error}")
        return {}


def _by_path(found: dict[str, Dimensionality]) -> dict[str, Any]:
    return {path: _numbers(one) for path, one in found.items()}


def _numbers(found: Dimensionality) -> dict[str, Any]:
    names = (*found.factors, "neither")
    return {
        "units": found.units,
        "scores": dict(zip(found.factors, found.scores.tolist(), strict=True)),
        "dimensions": dict(zip(names, found.counts.tolist(), strict=True)),
        "shares": dict(zip(names, found.shares.tolist(), strict=True)),
        "intervals": dict(zip(names, zip(found.low.tolist(), found.high.tolist(), strict=True), strict=True)),
    }


def _said(found: Dimensionality) -> str:
    numbers = _numbers(found)
    parts = []
    for name in found.factors:
        low, high = numbers["intervals"][name]
        share = f"{100 * numbers['shares'][name]:.1f} %, 95 % {100 * low:.1f} to {100 * high:.1f}"
        count = f"{numbers['dimensions'][name]} of {found.units}"
        parts.append(f"{name} {count} ({share}; score {_score(numbers['scores'][name])})")
    return ", ".join(parts)


def _score(value: float) -> str:
    text = f"{value:.2f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def _times(files: Sequence[Checkpoint]) -> list[float | str]:
    """Return where checkpoints stand along the axis: at their numbers, or by their names where these do not differ."""
    steps = [one.step for one in files if one.step is not None]
    if len(set(steps)) == len(files):
        return [float(step) for step in steps]
    return [one.name for one in files]


def _labelled(
    pictures: AnnotatedDataset,
    classifier: Classifier,
    limit: int,
    seed: int,
    batch_size: int,
    skipped: list[tuple[str, str]],
) -> list[tuple[Tensor, Tensor]]:
    """Return batches of so many pictures with their classes; what cannot be used is put down as skipped.

    For each that is skipped another is drawn, until there are as many as wanted or none is left.

    Raises:
        InputError: the model has none of the classes, or fewer than two pictures can be used.
    """
    import numpy as np

    from visavis.benchmarking.runs import chosen_pictures, classes_between
    from visavis.unit_runs.pictures import batches

    classes = classes_between(pictures, classifier)
    # The first of them are those that `chosen_pictures` draws.
    chosen = chosen_pictures(len(pictures), limit, seed)
    order: list[int] = np.random.default_rng(seed).permutation(len(pictures)).tolist()
    found, used, seen = [], 0, len(chosen)

    def passed_over(name: str, reason: str) -> None:
        skipped.append((name, reason))

    with bar("Reading") as told:
        while chosen:
            for _, batch in batches(pictures, chosen, batch_size, classifier, classes, passed_over):
                if batch is not None:
                    found.append((batch.inputs, batch.labels))
                    used += len(batch.labels)
                told(used, limit, "pictures")
            chosen = sorted(order[seen : seen + limit - used])
            seen += len(chosen)
    if used < 2:
        many = "none" if not used else "only 1"
        why = f"; the first that cannot: {skipped[0][1]}" if skipped else ""
        raise InputError(f"{many} of {seen} pictures of {pictures.name} can be used, but two are needed{why}")
    return found


def _panel(model: str, done: NeuronRemoval) -> RemovalPanel:
    import torch

    from visavis.reports.shape_texture import RemovalCurve, RemovalPanel

    lines = {
        f"top {name}" if name in _FACTORS else name: RemovalCurve(one.accuracy, torch.stack([one.low, one.high], -1))
        for name, one in done.curves.items()
    }
    return RemovalPanel(model, done.counts, lines, done.intact)


__all__ = ["app", "dimensions", "removal"]

"""`visavis shape-texture`: does a network go by shape or by texture, where in it, and in which pixels?"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from visavis.errors import InputError, OutputError
from visavis.files import make_folder, write_bytes
from visavis.model_arguments import LabelFile, Mean, Size, Std, Weights, load, options_of
from visavis.models.own_model import running
from visavis.terminal import bar, note_skipped, out, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from visavis.classifier import Classifier
    from visavis.datasets.annotated import AnnotatedDataset
    from visavis.shape_texture import Checkpoint, Dimensionality, Readout, Segmented

app = typer.Typer(no_args_is_help=True, help="Does a network go by shape or by texture? Where in it, in which pixels?")

_MODEL = "efficientnet_lite0"
_FOLDER = "shape-texture"
_FACTORS = ("shape", "texture")
# A category's name, or a class's, is no longer; a file of categories is no larger.
_LARGEST = 1 << 22
# Beyond so many pixels a picture of a read-out shows no more.
_SHOWN = 6

Model = Annotated[str, typer.Option("--model", "-m", help="As `visavis models` lists them, or MODULE:FUNCTION.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; by itself the best there is.")]
Output = Annotated[str, typer.Option("--output", "-o", help="Folder for pictures and numbers.")]
Layers = Annotated[
    list[str] | None,
    typer.Option("--layer", help="Path of a module, several times for several; else the last of each resolution."),
]
PairSource = Annotated[
    str,
    typer.Option(
        "--pairs",
        help="Images that share shape or texture: scenes, stylized:FOLDER, or pictures:KIND:FOLDER?laid=masked, which "
        "lays a data set's pictures out in textures.",
    ),
]
Count = Annotated[int, typer.Option("--count", min=2, max=1_000_000, help="So many pairs of each factor.")]
Draws = Annotated[int, typer.Option(min=2, max=1_000_000, help="Of the bootstrap that gives the intervals.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of all that is drawn at random.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Images gone through at a time.")]
EstimatorName = Annotated[
    str, typer.Option("--estimator", help="sum_cov, as behind the paper's tables; mean_rho; or share, without softmax.")
]


@app.command()
def dimensions(
    model: Model = _MODEL,
    layers: Layers = None,
    pairs: PairSource = "scenes",
    count: Count = 200,
    checkpoints: Annotated[
        str | None, typer.Option(help="Folder of the weights of a training run: one estimate for each file in it.")
    ] = None,
    estimator: EstimatorName = "sum_cov",
    output: Output = _FOLDER,
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
    from visavis.shape_texture import checkpoint_dimensionality, checkpoints_in, layer_dimensionality, open_pairs
    from visavis.shape_texture.checkpoints import by_layer

    folder = _checked(output)
    files = None if checkpoints is None else checkpoints_in(checkpoints)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    with running(classifier, model, size):
        side = _side(classifier)
        paths = _layers(classifier, layers)
        found = open_pairs(pairs, count, size=side, seed=seed)
        chosen: dict[str, Any] = {"estimator": estimator, "draws": draws, "seed": seed, "batch_size": batch_size}
        made = {"model": classifier.name, "pairs": found.name, "count": count, "estimator": estimator, "seed": seed}
        with bar("Looking") as told:
            if files is None:
                each = layer_dimensionality(classifier, paths, found, progress=told, **chosen)
                document: dict[str, Any] = {"layers": {path: _numbers(one) for path, one in each.items()}}
                figure = dimension_bars(each)
            else:
                several = checkpoint_dimensionality(classifier, files, paths, found, progress=told, **chosen)
                each = several[files[-1].name]
                document = {
                    "checkpoints": {
                        name: {path: _numbers(one) for path, one in of.items()} for name, of in several.items()
                    }
                }
                figure = dimension_curves(*_times(files), by_layer(several))
    if files is not None:
        out.print(plain(f"At the last of {len(files)} checkpoints, {files[-1].name}:"), soft_wrap=True, highlight=False)
    for path, one in each.items():
        out.print(plain(f"  {path}: {_said(one)}"), soft_wrap=True, highlight=False)
    _write(folder, {"dimensions.png": figure}, "dimensions.json", made | document)


@app.command()
def removal(
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="Labelled pictures: KIND:FOLDER, or KIND:FOLDER?option=value.")
    ],
    model: Model = _MODEL,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Path of a module; else the last layer with positions.")
    ] = None,
    pairs: PairSource = "scenes",
    count: Count = 200,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the first units of a factor, and remove all others.")
    ] = False,
    value: Annotated[str, typer.Option(help="What removed units are replaced by: zero, or their mean.")] = "mean",
    limit: Annotated[int, typer.Option(min=1, help="So many pictures, drawn at random.")] = 200,
    estimator: EstimatorName = "sum_cov",
    output: Output = _FOLDER,
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
    from visavis.reports.shape_texture import RemovalCurve, RemovalPanel, removal_curves
    from visavis.shape_texture import layer_dimensionality, open_pairs, remove_neurons
    from visavis.units.last import last_layer

    if value not in ("zero", "mean"):
        raise InputError(f"--value is zero or mean, not {value!r}")
    folder = _checked(output)
    pictures = open_dataset(dataset)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    with running(classifier, model, size):
        path = layer if layer is not None else last_layer(classifier.module, _grey(classifier))
        found = open_pairs(pairs, count, size=_side(classifier), seed=seed)
        skipped: list[tuple[str, str]] = []
        data = _labelled(pictures, classifier, limit, seed, batch_size, skipped)
        note_skipped(skipped, "data set")
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
    lines = {
        name if name not in _FACTORS else f"top {name}": RemovalCurve(one.accuracy, _ends(one.low, one.high))
        for name, one in done.curves.items()
    }
    panel = RemovalPanel(classifier.name, done.counts, lines, done.intact)
    figure = removal_curves([panel], layer=path, kept=keep)
    out.print(
        plain(f"{classifier.name} is right on {done.intact:.1%} of {done.images} pictures as it is."),
        soft_wrap=True,
        highlight=False,
    )
    for place, number in enumerate(done.counts):
        said = ", ".join(f"{name} {float(one.accuracy[place]):.1%}" for name, one in done.curves.items())
        verb = "with nothing but" if keep else "without"
        out.print(plain(f"  {verb} {number} of {done.units} units of {path}: {said}"), soft_wrap=True, highlight=False)
    document = {
        "model": classifier.name,
        "layer": path,
        "pairs": found.name,
        "dataset": pictures.name,
        "images": done.images,
        "keep": keep,
        "value": value,
        "counts": list(done.counts),
        "units": done.units,
        "intact": done.intact,
        "curves": {
            name: {"accuracy": one.accuracy.tolist(), "low": one.low.tolist(), "high": one.high.tolist()}
            for name, one in done.curves.items()
        },
        "rankings": {factor: ranked.ranking(factor).tolist() for factor in ranked.factors},
    }
    _write(folder, {"removal.png": figure}, "removal.json", document)


@app.command()
def readout(
    train: Annotated[
        str,
        typer.Option(
            help="Images with masks to learn from: voc2012:FOLDER?split=train, coco:FOLDER, or scenes?count=300&seed=1."
        ),
    ],
    test: Annotated[str, typer.Option(help="Those to measure on, spelled likewise.")],
    model: Model = _MODEL,
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help="A layer, or several side by side as a+b; several times for several read-outs."),
    ] = None,
    task: Annotated[str, typer.Option(help="binary: object or background, the shape alone; or semantic.")] = "binary",
    depth: Annotated[int, typer.Option(help="Convolutions of the head: 1 or 3.")] = 1,
    keep: Annotated[
        str | None, typer.Option(help="Read the layer's shape or texture units alone: shape, or texture.")
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --keep: the first so much of them, up to 1, all.")
    ] = 1.0,
    pairs: PairSource = "scenes",
    count: Count = 200,
    random: Annotated[bool, typer.Option(help="Beside each, the same layer of a network with random weights.")] = True,
    end_to_end: Annotated[
        bool, typer.Option("--end-to-end", help="Beside each, with a copy of the network trained too. Slow.")
    ] = False,
    standardise: Annotated[bool, typer.Option(help="Bring each unit to mean 0, standard deviation 1 first.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="How often each training image is seen.")] = 30,
    rate: Annotated[float, typer.Option(help="The head's learning rate at first.")] = 0.02,
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=8, help="Side of the images in pixels; else the model's own.")
    ] = None,
    output: Output = _FOLDER,
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
    from visavis.reports.shape_texture import readout_bars, readout_masks
    from visavis.shape_texture import random_encoder
    from visavis.shape_texture import readout as read
    from visavis.shape_texture.label_sources import open_segmented

    chosen_task, factor = _task(task), _factor(keep)
    if share <= 0:
        raise InputError(f"--share is above 0, up to 1, not {share}")
    folder = _checked(output)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    results: dict[str, Readout] = {}
    with running(classifier, model, size):
        side = image_size if image_size is not None else _side(classifier)
        learnt, tested = open_segmented(train, size=side), open_segmented(test, size=side)
        groups = [group.split("+") for group in layers] if layers else [[path] for path in _layers(classifier, None)]
        kept = _kept(classifier, groups, factor, share, pairs, count, _side(classifier), seed, batch_size)
        networks = {"": (classifier, False)}
        if random:
            networks[", random weights"] = (random_encoder(classifier, seed=seed), False)
        if end_to_end:
            networks[", end to end"] = (classifier, True)
        for group in groups:
            for ending, (network, trained) in networks.items():
                name = f"{'+'.join(group)}{ending}"
                with bar(f"Reading {name}") as told:
                    results[name] = read(
                        network,
                        group,
                        learnt,
                        tested,
                        task=chosen_task,
                        depth=depth,
                        keep={path: units for path, units in kept.items() if path in group} or None,
                        standardise=standardise and not trained,
                        train_encoder=trained,
                        epochs=epochs,
                        batch_size=batch_size,
                        rate=rate,
                        seed=seed,
                        draws=draws,
                        progress=told,
                    )
                out.print(plain(f"  {name}: {results[name]}"), soft_wrap=True, highlight=False)
    figures = {
        "readout-scores.png": readout_bars({name: (one.miou, one.low, one.high) for name, one in results.items()}),
        "readout-masks.png": _masks(tested, results, readout_masks),
    }
    document = {
        "model": classifier.name,
        "train": learnt.name,
        "test": tested.name,
        "task": task,
        "depth": depth,
        "epochs": epochs,
        "rate": rate,
        "keep": keep,
        "kept": {path: units.tolist() for path, units in kept.items()},
        "readouts": {
            name: {
                "layers": list(one.layers),
                "units": one.units,
                "miou": one.miou,
                "interval": [one.low, one.high],
                "iou": {cls: _or_none(value) for cls, value in zip(one.names, one.iou.tolist(), strict=True)},
                "pixel_accuracy": one.accuracy,
            }
            for name, one in results.items()
        },
    }
    _write(folder, figures, "readout.json", document)


@app.command()
def bias(
    conflicts: Annotated[
        str,
        typer.Argument(
            help="Folder of cue conflicts: SHAPE/SHAPE1-TEXTURE2.png, as of Geirhos et al.", show_default=False
        ),
    ],
    model: Model = _MODEL,
    categories: Annotated[
        str | None,
        typer.Option(
            help="JSON file: the model's classes of each category; else Geirhos' sixteen, or classes of that name."
        ),
    ] = None,
    aggregate: Annotated[
        str, typer.Option(help="Of the probabilities of a category's classes: mean, max or sum.")
    ] = "mean",
    maps: Annotated[int, typer.Option(min=0, max=12, help="Of so many pictures the maps of both cues; 0: none.")] = 4,
    output: Output = _FOLDER,
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
    """Measure whether a classifier decides by shape or by texture where they conflict, and show by which pixels."""
    from visavis.reports.shape_texture import bias_figure, conflict_figure
    from visavis.shape_texture import ConflictFolder, explain_conflict, shape_bias

    folder = _checked(output)
    known = None if categories is None else _categories(categories)
    pictures = ConflictFolder(conflicts)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    with running(classifier, model, size):
        with bar("Deciding") as told:
            found = shape_bias(
                classifier,
                pictures,
                categories=known,
                aggregate=aggregate,
                batch_size=batch_size,
                draws=draws,
                seed=seed,
                progress=told,
            )
        figures: dict[str, Figure] = {"bias.png": bias_figure({classifier.name: found})}
        conflicting = [index for index in range(len(pictures)) if len(set(pictures.cues(index))) == 2]
        chosen = [conflicting[place] for place in _spread(len(conflicting), maps)]
        explained = []
        with bar("Explaining") as told:
            for index in chosen:
                explained.append(explain_conflict(classifier, pictures[index], categories=known, aggregate=aggregate))
                told(len(explained), len(chosen), "maps of both cues")
    if explained:
        figures["conflicts.png"] = conflict_figure(explained)
    out.print(plain(f"{classifier.name}: {found}"), soft_wrap=True, highlight=False)
    document = {
        "model": classifier.name,
        "conflicts": pictures.name,
        "aggregate": aggregate,
        "shape_bias": _or_none(found.bias),
        "interval": [_or_none(found.low), _or_none(found.high)],
        "decisions": dict(zip(("shape", "texture", "neither"), found.counts, strict=True)),
        "left_out": found.left_out,
        "by_shape": {
            name: _or_none(value) for name, value in zip(found.names, found.by_category.tolist(), strict=True)
        },
        "pictures": [
            {"picture": name, "shape": found.names[a], "texture": found.names[b], "decision": found.names[c]}
            for name, a, b, c in zip(
                found.pictures, found.shapes.tolist(), found.textures.tolist(), found.decisions.tolist(), strict=True
            )
        ],
    }
    _write(folder, figures, "bias.json", document)


# -- what they have in common ------------------------------------------------------------------------------------------


def _checked(output: str) -> Path:
    folder = Path(output)
    if "\0" in output or (folder.exists() and not folder.is_dir()):
        raise OutputError(f"{output!r} is no folder; name one with -o, which is made where it is missing")
    return folder


def _write(folder: Path, figures: Mapping[str, Figure], name: str, document: Mapping[str, Any]) -> None:
    from visavis.plotting.saving import save_figure

    make_folder(folder)
    for file, figure in figures.items():
        save_figure(figure, folder / file)
    write_bytes(folder / name, (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    for file in (*figures, name):
        out.print(f"written: {plain(str(folder / file))}", soft_wrap=True, highlight=False)


def _grey(classifier: Classifier) -> Tensor:
    import PIL.Image

    return classifier.prepare(PIL.Image.new("RGB", (256, 256), "grey"))


def _side(classifier: Classifier) -> int:
    """Return the side in pixels of the images that the model's own preprocessing makes."""
    return int(min(_grey(classifier).shape[-2:]))


def _layers(classifier: Classifier, layers: list[str] | None) -> list[str]:
    from visavis.shape_texture import stages

    return list(layers) if layers else stages(classifier.module, _grey(classifier))


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
    parts = [
        f"{name} {int(number)} ({share:.1%}, 95 % {low:.1%} to {high:.1%})"
        for name, number, share, low, high in zip(
            found.factors,
            found.counts,
            found.shares.tolist(),
            found.low.tolist(),
            found.high.tolist(),
            strict=False,
        )
    ]
    return f"{', '.join(parts)} of {found.units} dimensions"


def _times(files: Sequence[Checkpoint]) -> tuple[list[float | str]]:
    """Return where checkpoints stand along the axis: at their numbers, or by their names where these do not differ."""
    steps = [one.step for one in files]
    if None not in steps and len(set(steps)) == len(steps):
        return ([float(step) for step in steps if step is not None],)
    return ([one.name for one in files],)


def _ends(low: Tensor, high: Tensor) -> Tensor:
    import torch

    return torch.stack([low, high], -1)


def _labelled(
    pictures: AnnotatedDataset,
    classifier: Classifier,
    limit: int,
    seed: int,
    batch_size: int,
    skipped: list[tuple[str, str]],
) -> list[tuple[Tensor, Tensor]]:
    import numpy as np

    from visavis.datasets.mapping import class_map
    from visavis.unit_runs.pictures import batches

    if classifier.labels is None:
        raise InputError(f"{classifier.name} has no class names to find the data set's by; give them with --labels")
    classes = class_map(pictures.classes, classifier.labels, pictures.vocabulary)
    chosen = np.random.default_rng(seed).permutation(len(pictures))[:limit].tolist()
    passed: Callable[[str, str], None] = lambda name, reason: skipped.append((name, reason))  # noqa: E731
    found = [
        (batch.inputs, batch.labels)
        for _, batch in batches(pictures, sorted(chosen), batch_size, classifier, classes, passed)
        if batch is not None
    ]
    if not found:
        raise InputError(f"none of {len(chosen)} pictures of {pictures.name} can be used; the first: {skipped[0][1]}")
    return found


def _kept(
    classifier: Classifier,
    groups: Sequence[Sequence[str]],
    factor: str | None,
    share: float,
    pairs: str,
    count: int,
    side: int,
    seed: int,
    batch_size: int,
) -> dict[str, Tensor]:
    """Return the units of a factor in each layer that is read; none where all units are."""
    from visavis.shape_texture import factor_units, layer_dimensionality, open_pairs

    if factor is None:
        return {}
    paths = list(dict.fromkeys(path for group in groups for path in group))
    with bar("Ranking") as told:
        found = layer_dimensionality(
            classifier,
            paths,
            open_pairs(pairs, count, size=side, seed=seed),
            draws=0,
            batch_size=batch_size,
            progress=told,
        )
    return {path: factor_units(found[path], factor, share) for path in paths}


def _masks(tested: Segmented, results: Mapping[str, Readout], draw: Callable[..., Figure]) -> Figure:
    """Draw the first test images beside what the best read-outs say of them."""
    import torch

    best = sorted(results, key=lambda name: -results[name].miou)[:4]
    shown = {name: results[name] for name in results if name in best}
    items = [tested[place] for place in range(min(_SHOWN, len(tested)))]
    labels = [item[1] for item in items]
    if next(iter(shown.values())).task == "binary":
        labels = [torch.where((one > 0) & (one != 255), 1, one) for one in labels]
    said = {name: [one.predict(image[None])[0].numpy() for image, _ in items] for name, one in shown.items()}
    return draw(
        [image.permute(1, 2, 0).numpy() for image, _ in items],
        [one.numpy() for one in labels],
        said,
        next(iter(shown.values())).names,
        scores={name: one.miou for name, one in shown.items()},
    )


def _categories(path: str) -> dict[str, Any]:
    from visavis.datasets.layout import read_text

    try:
        found = json.loads(read_text(Path(path), _LARGEST, "the categories"))
    except json.JSONDecodeError as error:
        raise InputError(f"'{path}' is no JSON ({error.msg}, line {error.lineno}); see --categories") from error
    good = isinstance(found, dict) and all(
        isinstance(one, int | str) or (isinstance(one, list) and all(isinstance(each, int | str) for each in one))
        for one in found.values()
    )
    if not good or not found:
        raise InputError(
            f'\'{path}\' is no object of classes by category, such as {{"cat": [281, 282], "clock": "wall clock"}}'
        )
    return dict(found)


def _spread(count: int, wanted: int) -> list[int]:
    """Return so many places, evenly spaced."""
    number = min(count, wanted)
    return [place * count // number for place in range(number)]


def _task(task: str) -> Literal["binary", "semantic"]:
    if task == "binary":
        return "binary"
    if task == "semantic":
        return "semantic"
    raise InputError(f"--task is binary or semantic, not {task!r}")


def _factor(keep: str | None) -> str | None:
    if keep not in (None, *_FACTORS):
        raise InputError(f"--keep is shape or texture, not {keep!r}")
    return keep


def _or_none(value: float) -> float | None:
    """Return a number, or None of NaN, which JSON has not."""
    return None if math.isnan(value) else value


__all__ = ["app", "bias", "dimensions", "readout", "removal"]

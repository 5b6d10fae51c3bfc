"""`visavis shape-texture bias`: does a classifier decide by shape or by texture where they conflict?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visavis.errors import InputError
from visavis.model_arguments import LabelFile, Mean, Size, Std, Weights, load, options_of
from visavis.models.own_model import running
from visavis.shape_texture_arguments import (
    FOLDER,
    MODEL,
    BatchSize,
    Device,
    Draws,
    Model,
    Output,
    Seed,
    checked_folder,
    one_of,
    say,
    write_results,
)
from visavis.terminal import bar

if TYPE_CHECKING:
    from visavis.shape_texture import CueConflicts, ShapeBias

# No file of categories is larger.
_LARGEST = 1 << 22
_AGGREGATES = ("mean", "max", "sum")


def bias(
    conflicts: Annotated[
        str,
        typer.Argument(
            help="Folder of cue conflicts: SHAPE/SHAPE1-TEXTURE2.png, as of Geirhos et al.", show_default=False
        ),
    ],
    model: Model = MODEL,
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
    """Measure whether a classifier decides by shape or by texture where they conflict, and show by which pixels."""
    from visavis.reports.shape_texture import bias_figure, conflict_figure
    from visavis.shape_texture import ConflictFolder, explain_conflict, shape_bias
    from visavis.shape_texture.categories import decided_among

    names = ("bias.png", "conflicts.png", "bias.json")
    read = (weights, labels, categories)
    folder = checked_folder(output, names if maps else names[::2], files=read, folders=[conflicts])
    one_of("--aggregate", aggregate, _AGGREGATES)
    given = None if categories is None else _categories(categories)
    pictures = ConflictFolder(conflicts)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    if given is None and classifier.labels is None:
        raise InputError(
            f"{classifier.name} has no class names to find the categories by; give them with --labels, or the classes "
            "of each category with --categories"
        )
    # Both the bias and the maps are of decisions among the same categories.
    groups = decided_among(classifier, pictures.names, given)
    with running(classifier, model, size):
        with bar("Deciding") as told:
            found = shape_bias(
                classifier,
                pictures,
                categories=groups,
                aggregate=aggregate,
                batch_size=batch_size,
                draws=draws,
                seed=seed,
                progress=told,
            )
        chosen, explained = _spread(pictures, maps), []
        with bar("Explaining") as told:
            for index in chosen:
                explained.append(explain_conflict(classifier, pictures[index], categories=groups, aggregate=aggregate))
                told(len(explained), len(chosen), "maps of both cues")
    figures = {names[0]: bias_figure({classifier.name: found})}
    if explained:
        figures[names[1]] = conflict_figure(explained)
    say(f"{classifier.name}: {found}")
    if found.left_out:
        say(f"  left out: {found.left_out}, whose shape and texture are of one category")
    document = {
        "model": classifier.name,
        "conflicts": pictures.name,
        "categories": {name: list(classes) for name, classes in groups.items()},
        "aggregate": aggregate,
        "draws": draws,
        "seed": seed,
    }
    write_results(folder, figures, names[2], document | _numbers(found))


def _numbers(found: ShapeBias) -> dict[str, Any]:
    rows = zip(found.pictures, found.shapes.tolist(), found.textures.tolist(), found.decisions.tolist(), strict=True)
    return {
        "shape_bias": found.bias,
        "interval": [found.low, found.high],
        "decisions": dict(zip(("shape", "texture", "neither"), found.counts, strict=True)),
        "left_out": found.left_out,
        "by_shape": dict(zip(found.names, found.by_category.tolist(), strict=True)),
        "pictures": [
            {"picture": name, "shape": found.names[a], "texture": found.names[b], "decision": found.names[c]}
            for name, a, b, c in rows
        ],
    }


def _categories(path: str) -> dict[str, Any]:
    """Return the classes of each category, as a file has them.

    Raises:
        InputError: it is missing, or no such JSON.
    """
    from visavis.datasets.layout import read_text

    text = read_text(Path(path), _LARGEST, "the categories")
    try:
        found: object = json.loads(text, object_pairs_hook=_each_once)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        where = f" ({error.msg}, line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"'{path}' is no JSON that can be read{where}; see --categories") from error
    if not isinstance(found, dict) or not found or not all(map(_are_classes, found.values())):
        raise InputError(
            f'\'{path}\' is no object of classes by category, such as {{"cat": [281, 282], "clock": "wall clock"}}'
        )
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON whose names differ: of two alike the first would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"the categories name {twice!r} twice; give each once, with all its classes")
    return found


def _are_classes(given: object) -> bool:
    several = given if isinstance(given, list) else [given]
    return all(isinstance(one, int | str) and not isinstance(one, bool) for one in several)


def _spread(pictures: CueConflicts, wanted: int) -> list[int]:
    """Return so many pictures whose cues conflict, evenly spaced."""
    conflicting = [index for index in range(len(pictures)) if len(set(pictures.cues(index))) == 2]
    number = min(len(conflicting), wanted)
    return [conflicting[place * len(conflicting) // number] for place in range(number)]


__all__ = ["bias"]

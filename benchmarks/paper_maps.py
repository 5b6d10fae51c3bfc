"""Maps of neurons and of models, and how alike they are: the two experiments that are no metric of one class's map.

Their values are kept as those of a benchmark are (`visavis.benchmarking.shards`): a shard of pictures at a time, so
that a run that was ended goes on where it was, and means with intervals come from `visavis.benchmarking.results`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import visavis as vv
from visavis.benchmarking.benchmark import SHARD
from visavis.benchmarking.cases import PassedOver, cases_of
from visavis.benchmarking.runs import check_weights, weights_digest
from visavis.benchmarking.shards import Folder, Shard, Value
from visavis.datasets.annotated import AnnotatedDataset, Sample
from visavis.datasets.mapping import class_map
from visavis.datasets.placement import Placement, placement_of
from visavis.evaluation import Case, MethodExplainer
from visavis.evaluation.discriminativeness import WINDOW, cosine, rank_correlation, ssim
from visavis.evaluation.spelling import method_of

#: How two maps are compared: key, heading.
MEASURES = {"rank": "rank correlation", "cosine": "cosine", "ssim": "SSIM"}
#: The values of a picture, what was passed over in it, and how many cases it has.
Found = tuple[list[Value], list[PassedOver], int]
#: Told after each picture: how many are done, how many there are, and of what.
Tell = Callable[[int, int, str], None]
# Pairs of maps that are compared at a time: SSIM takes five times their memory.
_PAIRS = 8
# How far apart, in pixels, two models may see the same place of a picture.
_APART = 2.0


def likeness(maps: Tensor) -> dict[str, float]:
    """Return how alike maps (K, H, W) are, K ≥ 2: the mean of each measure over all pairs.

    Maps with a side below 11 pixels have no SSIM.
    """
    first, second = (torch.tensor(side) for side in zip(*combinations(range(len(maps)), 2), strict=True))
    measures = {"rank": rank_correlation, "cosine": cosine}
    if min(maps.shape[1:]) >= WINDOW:
        measures["ssim"] = ssim
    found = {}
    for key, measure in measures.items():
        parts = zip(first.split(_PAIRS), second.split(_PAIRS), strict=True)
        values = torch.cat([measure(maps[one].double(), maps[other].double()) for one, other in parts])
        found[key] = float(values.mean())
    return found


def explainers(
    classifier: vv.Classifier, methods: Sequence[str], channels: str, layer: str | None = None
) -> dict[str, MethodExplainer]:
    """Return what makes the maps, by its spelling: of classes, or of the units of a layer."""
    made = {}
    for text in methods:
        cls, options = method_of(text)
        made[text] = MethodExplainer(cls(classifier, layer=layer, **options), text, channels=channels)
    return made


# -- neurons of a layer ------------------------------------------------------------------------------------------------


class Units(NamedTuple):
    """Units of a layer on a picture: their numbers, activations, and maps (K, H, W) by method, strongest unit first."""

    numbers: list[int]
    activations: list[float]
    maps: dict[str, Tensor]


def strongest_units(classifier: vv.Classifier, layer: str, inputs: Tensor, count: int) -> tuple[list[int], list[float]]:
    """Return the `count` units of a layer with the largest activations above 0 on inputs (1, C, H, W), and these.

    Of a layer with positions a unit's activation is its sum over them.
    """
    method = vv.LRP(classifier, layer=layer)
    with method.forward(inputs) as run:
        summed = run.output.flatten(2).sum(2) if run.output.dim() > 2 else run.output
        values, numbers = summed[0].topk(min(count, summed.shape[1]))
    kept = values > 0
    return numbers[kept].tolist(), values[kept].tolist()


def units_of(
    classifier: vv.Classifier, layer: str, made: Mapping[str, MethodExplainer], inputs: Tensor, count: int
) -> Units:
    """Return the strongest units of a layer on inputs (1, C, H, W), with the map of each by each method.

    Raises:
        InputError: fewer than two units are active, so that there is nothing to compare; or there is no such layer.
    """
    numbers, activations = strongest_units(classifier, layer, inputs, count)
    if len(numbers) < 2:
        raise vv.InputError(f"fewer than two units of layer {layer!r} are active")
    chosen = torch.tensor(numbers, device=inputs.device)
    return Units(numbers, activations, {text: one.heatmaps_of_classes(inputs, chosen) for text, one in made.items()})


def neurons_on(
    classifier: vv.Classifier, layer: str, methods: Sequence[str], channels: str, count: int
) -> Callable[[Sample], Found]:
    """Return what measures how alike the maps of a layer's strongest units are, by each method, on a picture."""
    made = explainers(classifier, methods, channels, layer)

    def measured(sample: Sample) -> Found:
        units = units_of(classifier, layer, made, classifier.prepare(sample.load()), count)
        rows = [
            Value(sample.name, sample.name, text, "neurons", key, value, -1, False)
            for text, maps in units.maps.items()
            for key, value in likeness(maps).items()
        ]
        return rows, [], 1

    return measured


# -- models ------------------------------------------------------------------------------------------------------------


def pairs_of(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the pairs of models, each under its title."""
    return {f"{one} and {other}": (one, other) for one, other in combinations(names, 2)}


def check_frames(classifiers: Sequence[vv.Classifier]) -> None:
    """Refuse models that see different parts of a picture: their maps could not be laid over one another.

    Raises:
        InputError: one model's input is of another size, or shows another part of the picture.
    """
    placed = [(one, placement_of(one.preprocess, (500, 375))) for one in classifiers if one.preprocess is not None]
    (first, here), *rest = placed
    for other, there in rest:
        corners = zip(_corners(here), _corners(there), strict=True)
        if here.size != there.size or any(abs(one - another) > _APART for one, another in corners):
            raise vv.InputError(
                f"{first.name} and {other.name} see different parts of a picture, so that their maps cannot be "
                "compared; pass --frame resize, or name models with one preprocessing"
            )


def _corners(placement: Placement) -> list[float]:
    """Return where the edges of a picture are in the input of a network: left, right, top, bottom."""
    axes = zip(placement.scale, placement.offset, placement.picture, strict=True)
    return [place for scale, offset, length in axes for place in (offset, offset + scale * length)]


def maps_of_models(
    cases: Mapping[str, Case], made: Mapping[str, Mapping[str, MethodExplainer]]
) -> dict[str, dict[str, Tensor]]:
    """Return the map (H, W) of one class by each method and model: cases and explainers are by model."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, case in cases.items():
        target = torch.tensor([case.target], device=case.inputs.device)
        for text, one in made[name].items():
            found.setdefault(text, {})[name] = one.heatmaps_of_classes(case.inputs, target)[0].cpu()
    return found


def mapping_of(dataset: AnnotatedDataset, classifier: vv.Classifier) -> dict[str, tuple[int, ...]]:
    """Return the classes of a model that those of a data set are.

    Raises:
        InputError: the model's classes have no names, or are others.
    """
    if classifier.labels is None:
        raise vv.InputError(f"the classes of {classifier.name} have no names; ImageNet's cannot be found among them")
    return class_map(dataset.classes, classifier.labels, dataset.vocabulary)


def cases_by_model(
    sample: Sample,
    classifiers: Sequence[vv.Classifier],
    mappings: Mapping[str, Mapping[str, tuple[int, ...]]],
    targets: str,
) -> tuple[dict[str, dict[str, Case]], list[PassedOver]]:
    """Return the classes of a picture that all models have a case for, each with its case by model."""
    found: dict[str, dict[str, Case]] = {}
    reasons: list[PassedOver] = []
    for one in classifiers:
        cases, passed = cases_of(sample, one, mappings[one.name], which=targets)
        reasons += passed
        for case in cases:
            found.setdefault(case.name, {})[one.name] = case
    shared = {name: cases for name, cases in found.items() if len(cases) == len(classifiers)}
    return shared, list({(one.picture, one.case): one for one in reversed(reasons)}.values())


def models_on(
    classifiers: Sequence[vv.Classifier],
    dataset: AnnotatedDataset,
    methods: Sequence[str],
    channels: str,
    targets: str,
) -> Callable[[Sample], Found]:
    """Return what measures how alike the maps of a class by each pair of models are, by each method, on a picture."""
    made = {one.name: explainers(one, methods, channels) for one in classifiers}
    mappings = {one.name: mapping_of(dataset, one) for one in classifiers}
    pairs = pairs_of([one.name for one in classifiers])

    def measured(sample: Sample) -> Found:
        shared, passed = cases_by_model(sample, classifiers, mappings, targets)
        rows = []
        for name, cases in shared.items():
            maps = maps_of_models(cases, made)
            for text, by_model in maps.items():
                for title, (one, other) in pairs.items():
                    alike = likeness(torch.stack([by_model[one], by_model[other]]))
                    rows += [
                        Value(sample.name, name, text, title, key, value, cases[one].target, False)
                        for key, value in alike.items()
                    ]
        return rows, passed, len(shared)

    return measured


# -- a run, shard by shard ---------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """What is measured under one name: the models that it rests on, and the values of a picture."""

    name: str
    classifiers: Sequence[vv.Classifier]
    measured: Callable[[Sample], Found]


def measure(
    folder: Path,
    words: Mapping[str, Any],
    parts: Sequence[Part],
    dataset: AnnotatedDataset,
    chosen: list[int],
    tell: Tell,
) -> None:
    """Measure every part on the chosen pictures; what stands in the folder already is not measured again.

    Raises:
        InputError: the folder is of another run, or a model's weights are not those that it was begun with.
        OutputError: the folder cannot be written.
    """
    with Folder(folder, words) as results:
        for number, part in enumerate(parts):
            digest = "+".join(weights_digest(one) for one in part.classifiers)
            shards = [
                Shard(number, part.name, first, min(first + SHARD, len(chosen)) - 1)
                for first in range(0, len(chosen), SHARD)
            ]
            before = {one: results.weights(one) for one in shards}
            check_weights(part.name, digest, list(before.values()), results.path)
            for shard in shards:
                if before[shard] is None:
                    rows, passed, cases = _of_shard(part, dataset, chosen[shard.first : shard.last + 1])
                    results.write(shard, digest, rows, passed, cases)
                tell(number * len(chosen) + shard.last + 1, len(parts) * len(chosen), part.name)


def _of_shard(part: Part, dataset: AnnotatedDataset, numbers: Sequence[int]) -> Found:
    rows: list[Value] = []
    passed: list[PassedOver] = []
    cases = 0
    for number in numbers:
        name = f"picture {number}"
        try:
            sample = dataset[number]
            name = sample.name
            values, reasons, count = part.measured(sample)
        except (vv.ModelError, vv.UnsupportedOperationError):
            raise
        except vv.InputError as error:
            passed.append(PassedOver(name, "", str(error)))
            continue
        rows, passed, cases = rows + values, passed + reasons, cases + count
    return rows, passed, cases

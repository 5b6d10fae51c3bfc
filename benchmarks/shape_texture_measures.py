"""What is measured of each network of the study of shape and texture: four numbers that tell by what it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scenes
import torch
from numpy.typing import NDArray
from shape_texture_networks import LAST, LAYERS, SHAPES, TEXTURES, Pictures, categories, labels_of, scenes_of
from torch import Tensor, nn

import visavis as vv
from visavis import units
from visavis.evaluation.statistics import percentile_interval, times_drawn
from visavis.shape_texture import (
    ConflictMaps,
    Dimensionality,
    NeuronRemoval,
    Readout,
    SceneConflicts,
    ScenePairs,
    SceneSegments,
    ShapeBias,
    dominant_units,
    edge_share,
    explain_conflict,
    layer_dimensionality,
    readout,
    remove_neurons,
    shape_bias,
)
from visavis.shape_texture.overlap import mean_iou
from visavis.units.above import Above
from visavis.units.removal import predictions

#: How wide the band along an outline is, in pixels on either side.
BAND = 2.0
#: So many sets of units are drawn at random, to compare those of a factor with.
RANDOM_SETS = 20


@dataclass(frozen=True)
class Sizes:
    """How many pictures are measured on.

    Attributes:
        pairs: of each factor, for dimensionality.
        held_out: labelled pictures, for removal.
        masks, masks_held_out: pictures for read-outs.
        epochs: of read-outs.
        conflicts: of cues.
        maps: cue conflicts of which both maps are made.
        draws: of each bootstrap.
    """

    pairs: int = 300
    held_out: int = 1000
    masks: int = 400
    masks_held_out: int = 300
    epochs: int = 20
    conflicts: int = 600
    maps: int = 60
    draws: int = 1000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Without:
    """What is left without the units of a factor.

    Attributes:
        units: how many these are.
        accuracy: without them.
        others: without as many units drawn at random, the mean of `RANDOM_SETS` draws.
        missed: by how much the second is above the first, on the same pictures.
    """

    units: int
    accuracy: float
    others: float
    missed: Estimate


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of a network.

    Attributes:
        kind: what its labels depend on.
        accuracy: on held-out pictures, by its own labels.
        dimensionality: of each layer, and of all.
        removal: without the first units of either factor, of the last layer.
        without: what is left without all units that encode a factor more than the other, by factor.
        readouts: by what classes are, "shape" or "texture".
        bias: the shape bias.
        numbers: the four that tell the networks apart, by `MEASURES`.
        edges: of the maps of cue conflicts, by cue, the mean shares of relevance at the outline, inside and outside;
            and of a map that is the same everywhere, "flat".
        maps: of the first cue conflicts.
    """

    kind: str
    accuracy: float
    dimensionality: Mapping[str, Dimensionality]
    removal: NeuronRemoval
    without: Mapping[str, Without]
    readouts: Mapping[str, Readout]
    bias: ShapeBias
    numbers: Mapping[str, Estimate]
    edges: Mapping[str, tuple[float, float, float]]
    maps: Sequence[ConflictMaps]


#: The four numbers, with what they are; each is larger where a network goes more by shape.
MEASURES = {
    "dimensionality": "share of the last layer's dimensions that encode shape",
    "removal": "accuracy without the texture units, less that without the shape units",
    "read-out": "mIoU by shape, less mIoU by texture, of the last layer",
    "cue conflict": "shape bias",
}


def measured(kind: str, module: nn.Sequential, held_out: Pictures, sizes: Sizes, seed: int) -> Measured:
    """Measure a network, each number with its interval by bootstrap of what it was measured on."""
    classifier = vv.Classifier(module, labels=labels_of(kind), bounds=scenes.BOUNDS, name=f"the network by {kind}")
    dims = layer_dimensionality(
        module,
        LAYERS,
        ScenePairs(sizes.pairs, scenes=scenes_of(1, seed), seed=seed),
        prepare=scenes.normalised,
        draws=sizes.draws,
        seed=seed,
    )
    last = dims[LAST]
    data = held_out.inputs(), held_out.labels(kind)
    removal = remove_neurons(module, LAST, data, last, value="mean", draws=sizes.draws, seed=seed)
    without, apart = _without(module, data, last, sizes.draws, seed)
    readouts = {factor: _readout(module, factor, sizes, seed) for factor in ("shape", "texture")}
    conflicts = SceneConflicts(
        sizes.conflicts, list(zip(SHAPES, TEXTURES, strict=True)), scenes=scenes_of(1, seed), seed=seed
    )
    bias = shape_bias(
        classifier, conflicts, categories=categories(kind), prepare=scenes.normalised, draws=sizes.draws, seed=seed
    )
    maps, edges = _maps(classifier, conflicts, kind, sizes.maps)
    place = last.factors.index("shape")
    numbers = {
        "dimensionality": Estimate(*(float(one[place]) for one in (last.shares, last.low, last.high))),
        "removal": apart,
        "read-out": _apart(readouts["shape"].confusions, readouts["texture"].confusions, sizes.draws, seed),
        "cue conflict": Estimate(bias.bias, bias.low, bias.high),
    }
    return Measured(kind, removal.intact, dims, removal, without, readouts, bias, numbers, edges, maps)


def _without(
    module: nn.Module, data: tuple[Tensor, Tensor], last: Dimensionality, draws: int, seed: int
) -> tuple[dict[str, Without], Estimate]:
    """Return what is left without the units of each factor, and the difference, all on the same pictures."""
    chance = np.random.default_rng(seed)
    own = {factor: dominant_units(last, factor).tolist() for factor in ("shape", "texture")}
    sets = list(own.values())
    for chosen in own.values():
        sets += [sorted(chance.permutation(last.units)[: len(chosen)].tolist()) for _ in range(RANDOM_SETS)]
    above = Above(module, LAST)
    means = units.removal.mean_activations(above, data)
    parts = list(predictions(above, data, sets, means))
    right = (torch.cat([one.removed for one in parts], 1) == torch.cat([one.labels for one in parts])).double().numpy()
    found = {}
    for place, (factor, chosen) in enumerate(own.items()):
        start = len(own) + place * RANDOM_SETS
        others = right[start : start + RANDOM_SETS].mean(0)
        missed = _paired(others - right[place], draws, seed)
        found[factor] = Without(len(chosen), float(right[place].mean()), float(others.mean()), missed)
    return found, _paired(right[1] - right[0], draws, seed)


def _paired(difference: NDArray[np.float64], draws: int, seed: int) -> Estimate:
    """Return the mean of a difference on the same pictures."""
    times = times_drawn(len(difference), draws, np.random.default_rng(seed))
    low, high = percentile_interval(times @ difference / len(difference))
    return Estimate(float(difference.mean()), float(low), float(high))


def _readout(module: nn.Module, factor: str, sizes: Sizes, seed: int) -> Readout:
    """Train a read-out of classes by shape, or by texture, on pictures drawn alike."""
    train, test = (
        SceneSegments(scenes_of(count, seed + part, factor))
        for count, part in ((sizes.masks, 1000), (sizes.masks_held_out, 2000))
    )
    return readout(
        module,
        LAST,
        train,
        test,
        prepare=scenes.normalised,
        standardise=True,
        epochs=sizes.epochs,
        rate=0.05,
        seed=seed,
        draws=sizes.draws,
    )


def _apart(one: Tensor, other: Tensor, draws: int, seed: int) -> Estimate:
    """Return a difference of mIoUs of two sets of test images; each side draws its images by itself."""
    chance = np.random.default_rng(seed)
    drawn = []
    for counts in (one, other):
        times = torch.from_numpy(times_drawn(len(counts), draws, chance)).double()
        drawn.append(mean_iou(torch.einsum("dm,mij->dij", times, counts.double())))
    low, high = percentile_interval((drawn[0] - drawn[1]).numpy())
    return Estimate(float(mean_iou(one.sum(0)) - mean_iou(other.sum(0))), float(low), float(high))


def _maps(
    classifier: vv.Classifier, conflicts: SceneConflicts, kind: str, count: int
) -> tuple[list[ConflictMaps], dict[str, tuple[float, float, float]]]:
    """Return the first maps of both cues, and where their relevance lies, on the mean."""
    kept: list[ConflictMaps] = []
    rows: dict[str, list[tuple[float, float, float]]] = {"shape": [], "texture": [], "flat": []}
    for index in range(min(count, len(conflicts))):
        item = conflicts[index]
        found = explain_conflict(classifier, item, categories=categories(kind), prepare=scenes.normalised)
        if len(kept) < 4:
            kept.append(found)
        assert item.mask is not None
        maps = {"shape": found.shape.relevance, "texture": found.texture.relevance}
        for cue, relevance in (*maps.items(), ("flat", torch.ones_like(found.shape.relevance))):
            where = edge_share(relevance, item.mask, BAND)
            rows[cue].append((where.edge, where.inside, where.outside))
    return kept, {cue: _means(each) for cue, each in rows.items()}


def _means(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    edge, inside, outside = np.nanmean(np.asarray(rows), axis=0).tolist()
    return edge, inside, outside

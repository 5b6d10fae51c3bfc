"""What the study of units measures on one network.

The largest of the drops of many classes is above 0 by chance alone. So the class that a unit hits hardest is chosen on
one half of the held-out pictures, its drop is measured on the other half, and the same the other way round; the two are
averaged. The unit that matters most is chosen, and measured, in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scenes import normalised
from scipy.stats import spearmanr
from torch import Tensor, nn
from unit_study_data import Images, Parts
from unit_study_networks import LAYER, predicted

from visavis import units

#: How many units are removed at once, in the order of an attribute, and for a class.
CUMULATIVE, FOR_CLASS = (0, 1, 2, 4, 8, 16, 32, 48, 64), (1, 4, 16, 32)
ORDERS = ("descending", "ascending")

Ends = tuple[float, float, float]
"""A value, and the low and the high end of its 95 % interval."""


@dataclass(frozen=True)
class Settings:
    """What is measured of how much.

    Attributes:
        rotated: the variants that rotations are measured on.
        shares: of a rotation.
        draws: of rotations, for each share above 0.
        rotation_pictures: held-out pictures that rotated bases are ablated on.
        removal_pictures: held-out pictures, and as many to train on, for the removal of many units.
        random_orders: how many.
    """

    rotated: tuple[str, ...] = ("plain",)
    shares: tuple[float, ...] = (0, 0.25, 0.5, 0.75, 1)
    draws: int = 2
    rotation_pictures: int = 2000
    removal_pictures: int = 1000
    random_orders: int = 5


@dataclass(frozen=True)
class Measured:
    """What was found of one network. Drops are from −1 to 1; lists have a value for each unit.

    Attributes:
        variant, seed: of the network.
        training_accuracy, accuracy: on pictures that it was trained on, and on held-out ones.
        dead: the units that are never above 0 on the pictures that units are described by.
        overall: overall drops, on all held-out pictures.
        largest: the largest class drop, chosen and measured on the same pictures, all held-out ones.
        hardest: the drop of the class hit hardest, chosen on the other half.
        hit: the class hit hardest, on all held-out pictures.
        same_hit: the share of live units for which both halves choose the same class.
        above: shares of live units whose overall drop, and whose drop of the class chosen on the first half, is above 0
            by its 95 % interval on the second half.
        worst: overall drop of the unit that matters most, chosen on the first half, measured on the second.
        halves: Spearman's correlation of the halves, over live units: of overall drops, of drops of the class hit
            hardest. What is noise in one half correlates with nothing.
        attributes: by name.
        related: by attribute and importance ("overall", "hardest", "largest"): Pearson's and Spearman's correlation
            over live units, with intervals by drawing units.
        rotations: one for each share, draw and value that coordinates are replaced by: means over all units.
        curves: accuracy without more and more units, by order.
        removal: means over classes without the most, and the least important units of the class: of the balanced
            accuracy of "is it of the class?", and of the accuracy over all classes.
    """

    variant: str
    seed: int
    training_accuracy: float
    accuracy: float
    dead: list[int]
    overall: list[float]
    largest: list[float]
    hardest: list[float]
    hit: list[int]
    same_hit: float
    above: dict[str, float]
    worst: Ends
    halves: dict[str, float]
    attributes: dict[str, list[float]]
    related: dict[str, dict[str, dict[str, Ends]]]
    rotations: list[dict[str, Any]]
    curves: dict[str, list[float]]
    removal: dict[str, Any]


def measured(module: nn.Module, variant: str, seed: int, parts: Parts, settings: Settings) -> Measured:
    """Measure all that the study asks of a network, in eval mode."""
    halves = parts.held_out.halves()
    first, second = (units.ablate(module, LAYER, data(half)) for half in halves)
    seen = units.activations(module, LAYER, data(parts.attributes), masks=parts.attributes.masks)
    names = [one.name for one in units.attributes() if one.name != "alignment" or parts.attributes.masks is not None]
    described = {name: units.attribute(name).of(seen) for name in names}
    live = described["maximum"] > 0
    importance = {
        "overall": pooled_drops(first, second),
        "hardest": hardest_drops(first, second),
        "largest": pooled_class_drops(first, second).nan_to_num(nan=-1).amax(1),
    }
    some = parts.held_out.taken(_evenly(parts.held_out.labels, settings.rotation_pictures))
    return Measured(
        variant=variant,
        seed=seed,
        training_accuracy=float((predicted(module, parts.training) == parts.training.labels).double().mean()),
        accuracy=float((predicted(module, parts.held_out) == parts.held_out.labels).double().mean()),
        dead=(~live).nonzero()[:, 0].tolist(),
        overall=importance["overall"].tolist(),
        largest=importance["largest"].tolist(),
        hardest=importance["hardest"].tolist(),
        hit=pooled_class_drops(first, second).nan_to_num(nan=-1).argmax(1).tolist(),
        same_hit=float((first.hit == second.hit)[live].double().mean()),
        above=_above(first, second, live),
        worst=worst_drop(first, second),
        halves=_agreement(first, second, live),
        attributes={name: values.tolist() for name, values in described.items()},
        related={
            name: {kind: _related(values, drops, live) for kind, drops in importance.items()}
            for name, values in described.items()
        },
        rotations=rotations(module, parts.attributes, some, seed, settings) if variant in settings.rotated else [],
        curves=curves(module, described, live, halves[1], seed, settings),
        removal=removal(module, parts.training, halves[1], settings),
    )


def data(images: Images) -> tuple[Tensor, Tensor]:
    """Return the inputs and labels of pictures."""
    return normalised(images.pictures), images.labels


# -- drops, by halves ------------------------------------------------------------------------------------------------


def hardest_drops(first: units.Ablation, second: units.Ablation) -> Tensor:
    """Return each unit's drop of the class hit hardest, (U,): chosen on one half, measured on the other, both ways."""
    return (drops_of(second, first.hit) + drops_of(first, second.hit)) / 2


def drops_of(half: units.Ablation, classes: Tensor) -> Tensor:
    """Return each unit's drop of a class of its own, (U,)."""
    return half.class_drops.gather(1, classes[:, None])[:, 0]


def pooled_drops(first: units.Ablation, second: units.Ablation) -> Tensor:
    """Return the overall drops on both halves together, (U,)."""
    sizes = first.counts.sum(), second.counts.sum()
    return (first.drops * sizes[0] + second.drops * sizes[1]) / (sizes[0] + sizes[1])


def pooled_class_drops(first: units.Ablation, second: units.Ablation) -> Tensor:
    """Return the class drops on both halves together, (U, K); NaN for a class without pictures."""
    total = first.counts + second.counts
    return (first.class_drops.nan_to_num() * first.counts + second.class_drops.nan_to_num() * second.counts) / total


def worst_drop(first: units.Ablation, second: units.Ablation) -> Ends:
    """Return the overall drop of the unit whose drop is the largest on the first half, measured on the second half."""
    unit = int(first.drops.argmax())
    low, high = second.intervals().overall[unit].tolist()
    return float(second.drops[unit]), low, high


def _above(first: units.Ablation, second: units.Ablation, live: Tensor) -> dict[str, float]:
    ends = second.intervals()
    hardest = ends.classes[torch.arange(len(first.hit)), first.hit]
    return {
        name: float((one[live, 0] > 0).double().mean())
        for name, one in (("overall", ends.overall), ("hardest", hardest))
    }


def _agreement(first: units.Ablation, second: units.Ablation, live: Tensor) -> dict[str, float]:
    pairs = {
        "overall": (first.drops, second.drops),
        "hardest": (drops_of(second, first.hit), drops_of(first, second.hit)),
    }
    return {name: spearman(one[live].tolist(), other[live].tolist()) for name, (one, other) in pairs.items()}


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's correlation; NaN where either is constant."""
    if len(set(one)) < 2 or len(set(other)) < 2:
        return float("nan")
    return float(spearmanr(one, other).statistic)


def _related(values: Tensor, drops: Tensor, live: Tensor) -> dict[str, Ends]:
    found = units.related(values.where(live, torch.nan), drops)
    return {
        name: (one.value, one.low, one.high) for name, one in (("pearson", found.pearson), ("spearman", found.spearman))
    }


# -- rotated bases ---------------------------------------------------------------------------------------------------


def rotations(
    module: nn.Module, described: Images, held_out: Images, seed: int, settings: Settings
) -> list[dict[str, Any]]:
    """Ablate the coordinates of bases that are more and more rotated: what each does, in the mean over all of them.

    Coordinates are replaced by 0, and, without rotation and with the whole of it, by their mean too: the mean of a
    unit after a ReLU is above 0, that of a rotated coordinate may be nearly 0, so zero is another change for each.
    """
    halves = held_out.halves()
    size = int(units.activations(module, LAYER, data(described.taken(torch.arange(2)))).maximum.numel())
    found = []
    for share in settings.shares:
        for draw in range(settings.draws if share else 1):
            turned = units.partial_rotation(units.random_rotation(size, seed=1000 * seed + draw), share)
            layer = units.Layer(LAYER, basis=turned) if share else units.Layer(LAYER)
            seen = units.activations(module, layer, data(described))
            means = {
                "selectivity": float(units.attribute("selectivity").of(seen).mean()),
                "correlation": float(units.attribute("correlation").of(seen).nanmean()),
            }
            for value in ("zero", "mean") if share in (0, 1) else ("zero",):
                first, second = (units.ablate(module, layer, data(half), value=value) for half in halves)
                drops = {
                    "overall": float(pooled_drops(first, second).mean()),
                    "hardest": float(hardest_drops(first, second).mean()),
                    "largest": float(pooled_class_drops(first, second).nan_to_num(nan=-1).amax(1).mean()),
                }
                found.append({"share": share, "draw": draw, "value": value, **drops, **means})
    return found


# -- many units at once ----------------------------------------------------------------------------------------------


def curves(
    module: nn.Module, described: dict[str, Tensor], live: Tensor, held_out: Images, seed: int, settings: Settings
) -> dict[str, list[float]]:
    """Remove more and more units in the order of each attribute, and at random: accuracies at CUMULATIVE."""
    images = data(held_out.taken(_evenly(held_out.labels, settings.removal_pictures)))
    size = len(live)
    counts = [count for count in CUMULATIVE if count <= size]
    chosen = {
        f"{name}, {order}": units.orders(values, seed=seed)[order]
        for name, values in described.items()
        for order in ORDERS
    }
    for draw in range(settings.random_orders):
        chosen[f"random {draw}"] = units.orders(torch.zeros(size), seed=1000 * seed + draw)["random"]
    # All at once: what lies below the layer is run but once.
    sets = [list(order[:count]) for order in chosen.values() for count in counts]
    found = units.ablate_sets(module, LAYER, images, sets).accuracies.view(len(chosen), len(counts))
    return dict(zip(chosen, found.tolist(), strict=True))


def area(curve: Sequence[float]) -> float:
    """Return the mean accuracy over the number of units removed, 0 to 1, by the trapezoidal rule."""
    counts, heights = np.array(CUMULATIVE[: len(curve)]), np.array(curve)
    return float((np.diff(counts) * (heights[1:] + heights[:-1]) / 2).sum() / counts[-1])


def removal(module: nn.Module, training: Images, held_out: Images, settings: Settings) -> dict[str, Any]:
    """Remove each class's best and worst units: ranked on pictures to train on, measured on held-out ones."""
    some = [data(one.taken(_evenly(one.labels, settings.removal_pictures))) for one in (training, held_out)]
    found = units.remove_by_class(module, LAYER, *some, counts=FOR_CLASS)
    mean: Callable[[Tensor], list[float]] = lambda values: values.mean(0).tolist()  # noqa: E731
    return {
        "counts": list(found.counts),
        "intact": float(found.intact.mean()),
        "without best": mean(found.without_best),
        "without worst": mean(found.without_worst),
        "accuracy": found.accuracy,
        "accuracy without best": mean(found.accuracy_without_best),
        "accuracy without worst": mean(found.accuracy_without_worst),
    }


def _evenly(labels: Tensor, number: int) -> Tensor:
    """Return the places of the first pictures of each class, as many of each, `number` in all or fewer."""
    each = max(2, number // max(1, labels.unique().numel()))
    return torch.cat([(labels == label).nonzero()[:each, 0] for label in labels.unique()]).sort().values

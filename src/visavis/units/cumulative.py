"""Cumulative ablation: more and more units at once, in the order of an attribute, or in that of a class.

In the order of an attribute: Zhou, Sun, Bau, Torralba 2018 (arXiv 1806.02891). For each class: Bau, Zhu, Strobelt,
Lapedriza, Zhou, Torralba 2020 (Understanding the role of individual units in a deep neural network, PNAS), whose
units are ranked on training data and removed on held-out data, so that no unit looks important by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.units.ablation import Ablation, ablate, ablate_sets
from visavis.units.above import Above
from visavis.units.data import Data, check_repeatable
from visavis.units.layer import Layer, layer_of
from visavis.units.removal import Progress, Value, mean_activations

#: How many units are removed for a class, in Bau et al. 2020.
COUNTS = (1, 2, 3, 4, 5, 20, 64, 128, 256)


def orders(values: Tensor, *, seed: int = 0) -> dict[str, tuple[int, ...]]:
    """Return the units in the "descending", "ascending" and "random" order of a value of each.

    Equal values say nothing about their order: they come in the order of a draw. NaN comes last.

    Args:
        values: (units,), such as an attribute.
        seed: of the draws.

    Raises:
        InputError: the values are not one a unit.
    """
    if values.dim() != 1 or not len(values):
        raise InputError(f"an order is made of one value a unit, (units,), not of shape {tuple(values.shape)}")
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(values), generator=generator)
    given = values.detach().cpu().double()[shuffled]
    unknown = given.isnan()
    known = given.nan_to_num(0, torch.inf, -torch.inf)
    descending, ascending = known.argsort(descending=True, stable=True), known.argsort(stable=True)
    descending, ascending = (order[unknown[order].argsort(stable=True)] for order in (descending, ascending))
    return {
        "descending": tuple(shuffled[descending].tolist()),
        "ascending": tuple(shuffled[ascending].tolist()),
        "random": tuple(torch.randperm(len(values), generator=generator).tolist()),
    }


def doubling(units: int) -> tuple[int, ...]:
    """Return numbers of units to remove, of so many: 0, 1, 2, 4, … and all."""
    return (0, *(2**power for power in range(units.bit_length()) if 2**power < units), units)


def ablate_cumulatively(
    model: nn.Module | Classifier,
    layer: str | Layer,
    data: Data,
    order: Sequence[int],
    *,
    counts: Sequence[int] | None = None,
    value: Value = "zero",
    progress: Progress | None = None,
) -> Ablation:
    """Ablate the first units of an order, more and more of them: `accuracies` and `class_accuracies` are the curves.

    Args:
        order: units, without repetition; see `orders`.
        counts: how many are removed at each point of the curve; None: from none to all.
        model, layer, data, value, progress: as for `ablate`.

    Raises:
        InputError: a unit comes twice, a count is out of range; and as for `ablate`.
        ModelError: as for `ablate`.
    """
    if len(set(order)) != len(order):
        raise InputError("an order of units names each of them once")
    points = range(len(order) + 1) if counts is None else counts
    for count in points:
        if not 0 <= count <= len(order):
            raise InputError(f"{count} units cannot be removed of an order of {len(order)}")
    sets = [list(order[:count]) for count in points]
    return ablate_sets(model, layer, data, sets, value=value, progress=progress)


@dataclass(frozen=True, eq=False)
class ClassRemoval:
    """What is left of each of C classes without its M numbers of units; accuracies in float64, on held-out data.

    Attributes:
        layer: whose units.
        classes: the classes, (C,).
        counts: how many units are removed, (M,).
        order: each class's units, the most important first, (C, units), int64.
        importance: each class's drop in balanced accuracy without each unit, on training data, (C, units).
        intact: balanced accuracy of the model as it is, (C,).
        without_best, without_worst: the same without a class's most, and least important units, (C, M).
        accuracy: over all classes, of the model as it is.
        accuracy_without_best, accuracy_without_worst: the same without these units, (C, M).
    """

    layer: str
    classes: tuple[int, ...]
    counts: tuple[int, ...]
    order: Tensor
    importance: Tensor
    intact: Tensor
    without_best: Tensor
    without_worst: Tensor
    accuracy: float
    accuracy_without_best: Tensor
    accuracy_without_worst: Tensor


def remove_by_class(
    model: nn.Module | Classifier,
    layer: str | Layer,
    training: Data,
    held_out: Data,
    *,
    classes: Sequence[int] | None = None,
    counts: Sequence[int] = COUNTS,
    value: Value = "zero",
    progress: Progress | None = None,
) -> ClassRemoval:
    """Rank the units for each class on training data, remove the best and the worst, and measure on held-out data.

    The protocol of Bau et al. 2020: a unit's importance for a class is the drop in the balanced accuracy of "is it of
    that class?" without the unit. Equal units are ranked by their number.

    Args:
        training, held_out: batches as for `ablate`.
        classes: which; None: those that some, and not all of the images of both data have.
        counts: how many units are removed; those of more than the layer has are left out.
        model, layer, value, progress: as for `ablate`; the mean is that over the training data.

    Raises:
        InputError: a class is in one of the data not at all, or is all there is; no count is left; as for `ablate`.
        ModelError: as for `ablate`.
    """
    if isinstance(value, str) and value == "mean":
        check_repeatable(training, 'value="mean"')
        value = mean_activations(Above(model, layer), training)
    singly = ablate(model, layer, training, value=value, progress=progress)
    before = singly.balanced_accuracy
    importance = (before - singly.balanced_accuracies).T
    units = importance.shape[1]
    fitting = tuple(sorted({count for count in counts if 0 < count <= units}))
    if not fitting:
        raise InputError(f"none of the counts {tuple(counts)} is from 1 to the layer's {units} units")
    # Nothing is known of the held-out data before they have been gone through: every class that may be asked for.
    asked = [k for k in range(len(before)) if not before[k].isnan()] if classes is None else list(classes)
    for k in asked:
        if not 0 <= k < len(before) or bool(before[k].isnan()):
            raise InputError(f"class {k} cannot be told from others by the training data: they have none, or no other")
    order = importance[asked].argsort(dim=1, descending=True, stable=True)
    sets = [list(side[:count]) for row in order.tolist() for count in fitting for side in (row, row[::-1])]
    held = ablate_sets(model, layer, held_out, sets, value=value, progress=progress)
    intact = held.balanced_accuracy[asked]
    known = ~intact.isnan()
    if classes is not None and not bool(known.all()):
        missing = asked[int((~known).int().argmax())]
        raise InputError(
            f"class {missing} cannot be told from others by the held-out data, which have none, or no other"
        )
    shape = len(asked), len(fitting), 2
    balanced = held.balanced_accuracies.view(*shape, len(before))
    of_class = torch.stack([balanced[place, :, :, k] for place, k in enumerate(asked)])[known]
    overall = held.accuracies.view(shape)[known]
    return ClassRemoval(
        layer_of(layer).path,
        tuple(k for k, here in zip(asked, known.tolist(), strict=True) if here),
        fitting,
        order[known],
        importance[asked][known],
        intact[known],
        of_class[..., 0],
        of_class[..., 1],
        held.accuracy,
        overall[..., 0],
        overall[..., 1],
    )


__all__ = ["COUNTS", "ClassRemoval", "ablate_cumulatively", "doubling", "orders", "remove_by_class"]

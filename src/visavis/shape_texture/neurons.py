"""What a classifier does without its shape neurons, without its texture neurons, or with nothing else.

Islam et al. 2021: the neurons of a layer are ranked by how much each encodes a factor, and the first of them are
removed, or kept alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.evaluation.statistics import percentile_interval, times_drawn
from visavis.shape_texture.dimensionality import Dimensionality
from visavis.shape_texture.options import check_draws, check_seed, is_whole
from visavis.units.above import Above
from visavis.units.data import Data, check_repeatable
from visavis.units.layer import Layer
from visavis.units.removal import Value, mean_activations, predictions

RANDOM = "random"
# Of the default numbers of units: so many between none and all.
_STEPS = 8


@dataclass(frozen=True)
class Curve:
    """Accuracy by the number of units, with 95 % intervals by bootstrap of the images: (C,) each, 0 to 1."""

    accuracy: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True, eq=False)
class NeuronRemoval:
    """How well a model classifies when the first units of each factor are removed, or kept alone.

    Attributes:
        layer: whose units.
        keep: whether they are kept, and all others removed.
        counts: how many units are removed or kept, (C,).
        units: N, all of the layer.
        intact: accuracy of the model as it is, 0 to 1.
        curves: by factor; and "random", the mean of several random orders.
        images: how many they were measured on.
    """

    layer: str
    keep: bool
    counts: tuple[int, ...]
    units: int
    intact: float
    curves: Mapping[str, Curve]
    images: int
    _right: Mapping[str, Tensor]

    def difference(self, one: str, other: str, *, draws: int = 1000, seed: int = 0) -> Curve:
        """Return the accuracy by the order of one factor less that by another's, −1 to 1, on the same images.

        Removed: below 0 where the model needs the first factor more. Kept: above 0 there.

        Args:
            one, other: names of curves.
            draws: of the bootstrap, which draws images.
            seed: of the draws.

        Raises:
            InputError: there is no such curve; fewer than two draws.
        """
        for name in (one, other):
            if name not in self._right:
                raise InputError(f"there is no curve {name!r}; there are {', '.join(self._right)}")
        check_draws(draws, none=False)
        check_seed(seed)
        return _curve(self._right[one] - self._right[other], draws, seed)


def factor_units(found: Dimensionality, factor: str, share: float = 1.0) -> Tensor:
    """Return the neurons of a factor, the first share of them: ⌈share · |z_k|⌉ from the top of its ranking, (n,).

    Args:
        found: of the layer.
        factor: whose.
        share: in (0, 1].

    Raises:
        InputError: there is no such factor; the share is none.
    """
    if not 0 < share <= 1:
        raise InputError(f"share is {share}, but a part of the factor's neurons in (0, 1] was expected")
    own = int(found.counts[found.place_of(factor)])
    return found.ranking(factor)[: math.ceil(share * own)]


def dominant_units(found: Dimensionality, factor: str) -> Tensor:
    """Return the units that encode a factor more than any other, and more than not at all, by index, (n,).

    Every unit is in at most one of these sets, whatever their size, where `factor_units` of two factors may share some.

    Args:
        found: of the layer.
        factor: whose.

    Raises:
        InputError: there is no such factor.
    """
    own = found.place_of(factor)
    others = [place for place in range(len(found.factors)) if place != own]
    scores = found.unit_scores
    least = scores[others].amax(0).clamp(min=0) if others else torch.zeros_like(scores[own])
    return (scores[own] > least).nonzero().flatten()


def remove_neurons(
    model: nn.Module | Classifier,
    layer: str | Layer,
    data: Data,
    found: Dimensionality,
    *,
    counts: Sequence[int] | None = None,
    keep: bool = False,
    value: Value = "zero",
    orders: int = 10,
    draws: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> NeuronRemoval:
    """Classify without the first units of each factor, and without as many at random.

    Args:
        model: in eval mode; it is left as it was.
        layer: of which `found` is.
        data: batches of inputs (B, ...) and labels (B,), such as a DataLoader; or all inputs and all labels.
        found: its dimensionality, which ranks the units.
        counts: how many are removed, or kept; None: eight numbers from an eighth of the units to all of them.
        keep: keep these and remove all others.
        value: what removed units are replaced by: "zero", "mean" or a tensor, as in `visavis.units.ablate`.
        orders: how many random orders are averaged; 0: none.
        draws, seed: of the intervals; the seed is also that of the random orders.
        progress: is told how many predictions have been made.

    Raises:
        InputError: counts are not of these units; there is no such layer; the data have no images.
        ModelError: as for `visavis.units.ablate`.
    """
    check_draws(draws, none=False)
    check_seed(seed)
    if not is_whole(orders) or orders < 0:
        raise InputError(f"orders is {orders}, but a whole number from 0 was expected")
    chosen = _counts(counts, found.units)
    chance = np.random.default_rng(seed)
    ranked = {factor: [found.ranking(factor).tolist()] for factor in found.factors}
    if orders:
        ranked[RANDOM] = [chance.permutation(found.units).tolist() for _ in range(orders)]
    sets = [
        sorted(order[count:] if keep else order[:count])
        for each in ranked.values()
        for order in each
        for count in chosen
    ]
    above = Above(model, layer)
    value = _values(value, above, data, found.units)
    parts = list(predictions(above, data, sets, value, progress))
    labels = torch.cat([part.labels for part in parts])
    right = (torch.cat([part.removed for part in parts], 1) == labels).double()
    intact = (torch.cat([part.intact for part in parts]) == labels).double().mean()
    rights: dict[str, Tensor] = {}
    start = 0
    for name, each in ranked.items():
        size = len(each) * len(chosen)
        rights[name] = right[start : start + size].view(len(each), len(chosen), -1).mean(0)
        start += size
    curves = {name: _curve(one, draws, seed) for name, one in rights.items()}
    return NeuronRemoval(above.layer, keep, chosen, found.units, float(intact), curves, len(labels), rights)


def _counts(counts: Sequence[Any] | None, units: int) -> tuple[int, ...]:
    if counts is None:
        return tuple(dict.fromkeys(max(1, round(units * step / _STEPS)) for step in range(1, _STEPS + 1)))
    if not counts or not all(is_whole(count) and 0 <= count <= units for count in counts):
        raise InputError(f"counts are {list(counts)}, but whole numbers of units from 0 to {units} were expected")
    return tuple(counts)


def _values(value: Value, above: Above, data: Data, units: int) -> Tensor:
    """Return what units are replaced by, of as many as were ranked: a layer of another number is refused."""
    if not isinstance(value, str):
        return value
    if value == "zero":
        return torch.zeros(units)
    if value != "mean":
        raise InputError(f"value is {value!r}, but zero, mean or a tensor ({units},) was expected")
    check_repeatable(data, 'value="mean"')
    values = mean_activations(above, data)
    if len(values) != units:
        raise InputError(f"layer {above.layer!r} has {len(values)} units, but {units} were ranked; rank this layer's")
    return values


def _curve(values: Tensor, draws: int, seed: int) -> Curve:
    """Return means over images of values (C, N), and their intervals."""
    images = values.shape[1]
    times = times_drawn(images, draws, np.random.default_rng(seed)) / images
    low, high = percentile_interval(values.numpy() @ times.T)
    return Curve(values.mean(1), torch.from_numpy(low), torch.from_numpy(high))


__all__ = ["RANDOM", "Curve", "NeuronRemoval", "dominant_units", "factor_units", "remove_neurons"]

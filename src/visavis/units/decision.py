"""One decision, seen from the units: which of them carry relevance for A and not for B, and what if they were gone?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.methods import CLRP, LRP
from visavis.units.above import Above, Kept
from visavis.units.cumulative import doubling, orders
from visavis.units.layer import Layer, layer_of

# Sets of units that are run at a time.
_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Decision:
    """What the U units of a layer have to do with a model's saying A rather than B of one input; float64 on the CPU.

    Attributes:
        layer: whose units.
        target, foil: A and B, by index.
        relevance: what z⁺, or the rules that were asked for, put on each unit for A with a seed of 1, summed over its
            positions, (U,).
        foil_relevance: the same for B, (U,).
        contrast: relevance − foil_relevance, (U,): above 0 for units that carry A and not B.
        order: the units, those that carry most for A and not B first, (U,), int64.
        counts: how many of them are removed at each point of the curves, (M,), rising, 0 first.
        margins: logit of A − logit of B without the first so many units of the order, (M,).
        margins_without_foil: the same without the last so many, which carry most for B, (M,).
        margins_without_random: the same without so many units drawn at random, (R, M).
        confidence: the probability of A (softmax) without the first so many, (M,).
    """

    layer: str
    target: int
    foil: int
    relevance: Tensor
    foil_relevance: Tensor
    contrast: Tensor
    order: Tensor
    counts: tuple[int, ...]
    margins: Tensor
    margins_without_foil: Tensor
    margins_without_random: Tensor
    confidence: Tensor

    @property
    def flips_at(self) -> int | None:
        """Without which of the counts of the first units B is ahead of A, the smallest; None: without none of them."""
        beaten = (self.margins < 0).nonzero()
        return self.counts[int(beaten[0])] if len(beaten) else None


def decide(
    model: nn.Module | Classifier,
    layer: str | Layer,
    inputs: Tensor,
    target: Any = None,
    foil: Any = "runner-up",
    *,
    counts: Sequence[int] | None = None,
    draws: int = 20,
    seed: int = 0,
    **options: Any,
) -> Decision:
    """Say which units of a layer carry the relevance for A and not for B, and ablate them, more and more.

    A unit's share is what LRP brings to it on its way from the logit to the pixels (`LRP.attribute_at`); the contrast
    of A and B is CLRP's at this layer, signed. Ablated are those for A, those for B and, beside them, random ones of
    the same number, to zero.

    Args:
        model: a module in eval mode, or a Classifier; it is left as it was.
        layer: path of a module that is called once in a forward pass, or a `Layer` of its own units.
        inputs: (1, ...), what the decision is about.
        target: A, a class index, or a label of the Classifier's; None: the strongest.
        foil: B, another class, or "runner-up", the strongest class but A.
        counts: how many units are removed, each from 0 to U; None: 0, 1, 2, 4, … and all.
        draws: R, how many random orders.
        seed: of these.
        options: of LRP: rules, bounds.

    Raises:
        InputError: an argument is not as described, or A is B.
        ModelError: the model is in training mode, or fails.
    """
    if not len(inputs) == 1:
        raise InputError(f"a decision is about one input, (1, ...), not a batch of {len(inputs)}")
    if draws < 1:
        raise InputError(f"random units are drawn at least once, not {draws} times")
    units = layer_of(layer)
    if units.basis is not None or units.heads is not False:
        raise InputError("relevance is of a layer's own units; leave out the basis, and heads")
    if units.call is not None:
        raise InputError("relevance is of a layer that is called once in a forward pass; leave out call=, name another")
    above = Above(model, units)
    kept = above.keep(inputs)
    if above.reach.returned > 1:
        raise InputError(
            f"layer {units.path!r} returns {above.reach.returned} tensors, and relevance may pass another than is "
            "ablated; name a layer that returns one"
        )
    if not bool(torch.isfinite(kept.logits).all()):
        raise ModelError("the model's logits hold NaN or infinite values, between which there is no decision")
    one, other = _classes(model, kept.logits, target, foil)
    own, against = _relevance(LRP(model, seed="one", **options), units.path, inputs, (one, other), kept)
    contrast = own - against
    order = contrast.argsort(descending=True, stable=True)
    points = _points(counts, len(order))
    drawn = [orders(contrast, seed=seed + number)["random"] for number in range(draws)]
    logits = torch.stack([_without(kept, each, points) for each in (order.tolist(), order.flip(0).tolist(), *drawn)])
    margins = logits[..., one] - logits[..., other]
    confidence = logits[0].softmax(1)[:, one]
    return Decision(
        units.path, one, other, own, against, contrast, order, points, margins[0], margins[1], margins[2:], confidence
    )


def _classes(model: nn.Module | Classifier, logits: Tensor, target: Any, foil: Any) -> tuple[int, int]:
    """Return A and B by index."""
    method = CLRP(model)
    one = int(method.indices_of(logits, target)[0])
    if isinstance(foil, str) and foil == "runner-up":
        rest = logits[0].clone()
        rest[one] = -torch.inf
        other = int(rest.argmax())
    else:
        other = int(method.indices_of(logits, foil)[0])
    if foil is None or one == other:
        raise InputError(f"a decision is between two classes; the target and the foil are both class {one}")
    return one, other


def _relevance(method: LRP, path: str, inputs: Tensor, classes: tuple[int, int], kept: Kept) -> list[Tensor]:
    """Return what each unit carries for each of two classes, from one forward pass."""
    with method.opened(method.checked(inputs), watched=(path,)) as run, run.ending_at(path):
        seeds = [method.seed_of(run.output, k) for k in classes]
        maps = [run.relevance(seed, more=more) for seed, more in zip(seeds, (1, 0), strict=True)]
    return [_of_units(one, kept) for one in maps if isinstance(one, Tensor)]


def _of_units(relevance: Tensor, kept: Kept) -> Tensor:
    return relevance.detach().cpu().double().movedim(kept.unit_dim, 0).flatten(1).sum(1)


def _points(counts: Sequence[int] | None, units: int) -> tuple[int, ...]:
    if counts is None:
        return doubling(units)
    points = sorted({0, *counts})
    if points[0] < 0 or points[-1] > units:
        raise InputError(f"of the layer's {units} units so many cannot be removed: {', '.join(map(str, counts))}")
    return tuple(points)


def _without(kept: Kept, order: Sequence[int], points: Sequence[int]) -> Tensor:
    """Return the logits (M, classes) without the first so many units of an order, float64 on the CPU."""
    device = kept.activation.device
    zeros = torch.zeros(kept.units, device=device)
    sets = [torch.tensor(order[:count], dtype=torch.int64, device=device) for count in points]
    parts = [kept.run(kept.changed(sets[start : start + _AT_ONCE], zeros)) for start in range(0, len(sets), _AT_ONCE)]
    return torch.cat(parts).cpu().double()


__all__ = ["Decision", "decide"]

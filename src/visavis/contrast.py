"""Target and foil, turned into the seeds that are put on the outputs before they are propagated.

Outputs have shape (B, N, ...): N classes (or units) in dimension 1, and positions after it where there are any. The
seed of a target j is |S_j| (its score's size) or 1 at j, at every position or at one, and 0 elsewhere; it is never
negative, for a negative seed would turn the whole map inside out. The dual seed puts the same amount, position by
position, on the foil (Gu, Yang, Tresp 2018, sec. 3.2). Rules are linear in the relevance, so that the map of
`seed − dual` is the difference of the two maps.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import InputError, ModelError, SameClassError

#: Outputs, or a seed on them: classes (or units) in dimension 1, positions after it where there are any.
Scores = Float[Tensor, "batch classes *positions"]
Seed = Literal["score", "one"]
#: Takes outputs (B, N, ...) to a seed or to weights of that shape.
OfOutputs = Callable[[Tensor], Tensor]
#: A class index, one a batch item (a sequence or tensor of B), a callable, or None for each item's strongest. What a
#: caller passes is checked as it is read, with a sentence, rather than by its annotation.
Target = Any
#: A name in FOILS, a class, several classes, a tensor (B,) or B sequences, or a callable.
Foil = Any
#: An index into the positions, such as (y, x), or a number where they have one dimension, as tokens have; or a mask of
#: them, true where they are explained, for all items or one an item: (...) or (B, ...).
Position = int | np.integer[Any] | Sequence[int] | Tensor | NDArray[Any]

#: The foils that are known by name, with what they stand for.
FOILS = {
    "others": "all other classes alike (CLRP1)",
    "negated": "the target with its last-layer weights negated (CLRP2)",
    "logits": "all other classes by the size of their scores (as in the paper's released code)",
    "softmax": "all other classes by their probability (Iwana et al. 2019, SGLRP)",
    "strongest": "the ten strongest other classes alike",
    "runner-up": "the strongest other class",
}
# So many are the foil "strongest".
_STRONGEST = 10


def target_seed(
    outputs: Scores, target: Target, *, seed: str = "score", position: Position | None = None, what: str = "target"
) -> Scores:
    """Return the seed of the target, shape of `outputs`, ≥ 0.

    Args:
        outputs: (B, N, ...).
        target: a class, one a batch item, or a callable `outputs -> seed`, whose seed is used as it is; None: each
            item's strongest.
        seed: "score": as large as the target's score, |S_j|; "one": 1.
        position: index into the dimensions after N (such as (y, x), or 17 where there is one), or a boolean mask of
            them, for all items or one an item, (B, ...); None: every position.
        what: what errors call the target.
    """
    checked_seed(seed)
    if callable(target):
        return _of_outputs(target, outputs, "target")
    chosen = _one_hot(target_indices(outputs, target, what), outputs)
    if position is not None:
        chosen = chosen * positions_mask(position, outputs)
    return chosen * outputs.abs() if seed == "score" else chosen


def seed_at(outputs: Scores, indices: Int[Tensor, "batch"], seed: Seed) -> Scores:
    """Return the seed of targets by index, (B,) on the outputs' device, at every position; no value is looked at.

    An index that the outputs have not gets a seed of zeros.
    """
    chosen = (torch.arange(outputs.shape[1], device=outputs.device) == indices.view(-1, 1)).to(outputs.dtype)
    chosen = chosen.view(*chosen.shape, *(1,) * (outputs.dim() - 2)).expand_as(outputs)
    return chosen * outputs.abs() if seed == "score" else chosen


@dataclass(frozen=True)
class ReadyFoil:
    """Classes of a foil made ready beforehand, so that no value is looked at any more.

    Attributes:
        weights: 1 at each item's foil classes, 0 elsewhere, in the shape of the outputs.
    """

    weights: Tensor


def checked_seed(seed: str) -> Seed:
    """Return the seed's kind, or raise an InputError that names the kinds."""
    if seed not in ("score", "one"):
        raise InputError(f'seed is "score" or "one", not {seed!r}')
    return seed  # type: ignore[return-value]


def target_indices(outputs: Scores, target: Target, what: str = "target") -> Int[Tensor, "batch"]:
    """Return the index of each item's target, (B,) on the outputs' device; None: the strongest (over all positions)."""
    items, classes = _sizes(outputs)
    if target is None:
        return outputs.flatten(2).sum(2).argmax(1) if outputs.dim() > 2 else outputs.argmax(1)
    indices = _integers(target, what)
    if indices.dim() == 0:
        _within(indices.view(1), classes, what)
        return torch.full((items,), int(indices), device=outputs.device)  # made there: a copy would be waited for
    if indices.shape != (items,):
        raise InputError(
            f"{what} has shape {tuple(indices.shape)} for a batch of {items}; give one class, or one for each image"
        )
    _within(indices, classes, what)
    return _moved(indices, outputs)


def dual_seed(outputs: Scores, seed: Scores, foil: Foil) -> Scores:
    """Return the seed of the foil: as much, at each position, as `seed`, shared out among the foil's classes.

    Args:
        outputs: (B, N, ...).
        seed: the target's, same shape.
        foil: "others", "logits", "softmax", "strongest" or "runner-up" ("negated" has no seed of its own: it is the
            target's); a class; several classes, alike; a tensor (B,) or B sequences, each item its own; or a callable
            that takes outputs to weights ≥ 0 of their shape, where the target's own entry is ignored. Where the foil's
            weights are all zero (every other logit is), the other classes share alike: a contrast with nothing would be
            none.
    """
    is_target = seed != 0
    weights = _foil_weights(outputs, is_target, foil)
    weights = torch.where((weights == 0).all(1, keepdim=True), (~is_target).to(weights), weights)
    total = weights.sum(1, keepdim=True)
    return seed.sum(1, keepdim=True) * weights / torch.where(total == 0, 1, total)


def total_of(relevance: Any) -> Float[Tensor, "batch"]:
    """Return each item's sum over a map (B, ...), or over a tuple of maps, one an input."""
    maps = relevance if isinstance(relevance, tuple) else (relevance,)
    return torch.stack([one.flatten(1).sum(1) for one in maps]).sum(0)


def check_apart(outputs: Scores, target: Target, foil: Foil) -> None:
    """Refuse a target that is among its own foils.

    Raises:
        InputError: it is.
    """
    if callable(target) or callable(foil) or isinstance(foil, str):
        return
    chosen, places = foil_mask(outputs, foil), target_indices(outputs, target)
    if bool(chosen.reshape(*chosen.shape[:2], -1)[:, :, 0].gather(1, places.view(-1, 1)).any()):
        raise SameClassError("target and foil are the same class; a contrast needs two (or the foil 'others')")


def _foil_weights(outputs: Tensor, is_target: Tensor, foil: Foil) -> Tensor:
    _, classes = _sizes(outputs)
    if isinstance(foil, str):
        if classes < 2:
            raise InputError(
                f"one output has no other to be the foil {foil!r}; choose the foil "
                f'"negated", or a method without a foil, such as "lrp"'
            )
        # At positions without a seed nothing is shared out, so any class may stand for the target there.
        if foil == "others":
            return (~is_target).to(outputs.dtype)
        if foil == "logits":
            return outputs.abs().masked_fill(is_target, 0)
        if foil == "softmax":
            # The target is left out before, not after: where it has nearly all, the others keep their digits.
            return outputs.masked_fill(is_target, -torch.inf).softmax(1)
        if foil == "strongest":
            places = outputs.masked_fill(is_target, -torch.inf).topk(min(_STRONGEST, classes), 1).indices
            return torch.zeros_like(outputs).scatter(1, places, 1.0).masked_fill(is_target, 0)
        if foil == "runner-up":
            strongest = outputs.masked_fill(is_target, -torch.inf).argmax(1, keepdim=True)
            return torch.zeros_like(outputs).scatter(1, strongest, 1.0)
        raise InputError(f"no foil is called {foil!r}; there are {', '.join(FOILS)}, classes, and callables")
    if isinstance(foil, ReadyFoil):
        return foil.weights.masked_fill(is_target, 0)
    if callable(foil):
        weights = _of_outputs(foil, outputs, "foil")
        if not bool((weights >= 0).all()):
            raise InputError("the foil callable returned weights below zero, or NaN; weights of a foil are ≥ 0")
        return weights.masked_fill(is_target, 0)
    chosen = foil_mask(outputs, foil)
    if bool((chosen.bool() & is_target).any()):
        raise SameClassError("target and foil are the same class; a contrast needs two (or the foil 'others')")
    return chosen


def foil_mask(outputs: Scores, foil: Foil) -> Scores:
    """Return 1 at each item's foil classes, 0 elsewhere, in the shape of `outputs`."""
    items, classes = _sizes(outputs)
    if is_foil_of_each(foil) and not isinstance(foil, Tensor):
        if len(foil) != items:
            raise InputError(f"{len(foil)} lists of foils for a batch of {items}; give one list for each image")
        rows = [_integers(one, "foil") for one in foil]
    else:
        indices = _integers(foil, "foil")
        if indices.dim() == 0:
            rows = [indices.view(1)] * items
        elif isinstance(foil, Tensor):
            if indices.shape != (items,):
                raise InputError(
                    f"a foil tensor holds one class for each image, shape ({items},), not {tuple(indices.shape)}"
                )
            rows = list(indices.view(-1, 1))
        else:
            rows = [indices] * items
    mask = torch.zeros(items, classes, dtype=outputs.dtype)
    for row, indices in zip(mask, rows, strict=True):
        if indices.numel() == 0:
            raise InputError("the list of foil classes is empty; name at least one")
        _within(indices, classes, "foil")
        row[indices] = 1
    return _moved(mask, outputs).view(items, classes, *(1,) * (outputs.dim() - 2)).expand_as(outputs)


def is_foil_of_each(foil: Foil) -> bool:
    """Whether a foil has an entry for each image: a tensor (B,), or B sequences, and not some classes for all."""
    if isinstance(foil, Tensor):
        return foil.dim() > 0
    if not isinstance(foil, Sequence) or isinstance(foil, str) or not foil:
        return False
    return all(isinstance(one, Sequence | np.ndarray) and not isinstance(one, str) for one in foil)


def _sizes(outputs: Tensor) -> tuple[int, int]:
    if outputs.dim() < 2:
        raise InputError(
            f"outputs of shape {tuple(outputs.shape)} have no dimension of classes; expected (batch, classes, ...)"
        )
    if outputs.shape[1] == 0:
        raise ModelError(f"the outputs have shape {tuple(outputs.shape)}, so there are no classes to explain")
    return outputs.shape[0], outputs.shape[1]


def _integers(value: Any, what: str) -> Tensor:
    try:
        indices = torch.as_tensor(value).cpu()
    except (TypeError, ValueError, RuntimeError):
        indices = torch.empty(0, dtype=torch.float32)
    if indices.dtype == torch.bool or indices.is_floating_point() or indices.is_complex():
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 0:
            raise InputError(f"the list of {what} classes is empty; name at least one")
        raise InputError(f"{what} is a class index (an integer), one for each image, or a callable, not {value!r}")
    return indices.long()


def _moved(values: Tensor, outputs: Tensor) -> Tensor:
    """Return values made on the CPU on the outputs' device; a GPU that is at work is not waited for."""
    if outputs.is_cuda:
        return values.pin_memory().to(outputs.device, non_blocking=True)
    return values.to(outputs.device)


def _within(indices: Tensor, classes: int, what: str) -> None:
    outside = indices[(indices < 0) | (indices >= classes)]
    if outside.numel():
        raise InputError(f"{what} {int(outside[0])} is out of range: the classes (or units) are 0 to {classes - 1}")


def _one_hot(indices: Tensor, outputs: Tensor) -> Tensor:
    chosen = torch.zeros(outputs.shape[:2], dtype=outputs.dtype, device=outputs.device)
    chosen.scatter_(1, indices.view(-1, 1), 1.0)
    return chosen.view(*outputs.shape[:2], *(1,) * (outputs.dim() - 2)).expand_as(outputs)


def position_index(position: Position) -> tuple[int, ...] | None:
    """Return the index that a position is, (y, x) or (17,); None where it is a mask, or no position at all."""
    if isinstance(position, Tensor | np.ndarray) and (position.ndim > 0 or "bool" in str(position.dtype)):
        return None
    parts = position if isinstance(position, Sequence) else (position,)
    if any(isinstance(part, bool | np.bool_) for part in parts):
        return None
    try:
        return tuple(operator.index(part) for part in parts)
    except TypeError:
        return None


def positions_mask(position: Position, outputs: Scores) -> Tensor:
    """Return 1 at the positions asked for, 0 elsewhere, (...) or (B, 1, ...): a shape that broadcasts over the outputs.

    Raises:
        InputError: the outputs (B, N, ...) have no positions, or none such.
    """
    places = outputs.shape[2:]
    if not places:
        raise InputError(
            f"position {_told(position)} does not index outputs of shape {tuple(outputs.shape)}, which have no "
            f"positions; leave it out, or name with layer=... a layer that has them"
        )
    place = position_index(position)
    if place is None and isinstance(position, Tensor | np.ndarray):
        return _masked(torch.as_tensor(position), outputs)
    if place is None or len(place) != len(places):
        raise InputError(f"position {position} does not index outputs with positions of shape {tuple(places)}")
    for index, size in zip(place, places, strict=True):
        if not 0 <= index < size:
            raise InputError(f"position {place} is outside of {tuple(places)}")
    mask = torch.zeros(places, dtype=outputs.dtype, device=outputs.device)
    mask[place] = 1
    return mask


def _masked(mask: Tensor, outputs: Tensor) -> Tensor:
    places = outputs.shape[2:]
    if mask.dtype != torch.bool or mask.shape not in (places, (outputs.shape[0], *places)):
        raise InputError(
            f"a mask of positions is boolean and of shape {tuple(places)} or {(outputs.shape[0], *places)}, not "
            f"{mask.dtype} of shape {tuple(mask.shape)}"
        )
    if not bool(mask.reshape(-1, places.numel()).any(1).all()):
        raise InputError("the mask of positions chooses none; it is true where the outputs are to be explained")
    return mask.to(outputs).unsqueeze(-len(places) - 1)


def _told(position: Position) -> str:
    return f"of shape {tuple(position.shape)}" if isinstance(position, Tensor | np.ndarray) else repr(position)


def _of_outputs(function: OfOutputs, outputs: Tensor, what: str) -> Tensor:
    result = function(outputs.clone())
    if not isinstance(result, Tensor) or result.shape != outputs.shape:
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise InputError(
            f"the {what} callable returned {shape}; it must return a tensor of shape {tuple(outputs.shape)}"
        )
    return result.detach().to(outputs)

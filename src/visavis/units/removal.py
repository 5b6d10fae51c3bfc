"""What a model predicts without some of a layer's units, for any number of such sets of units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.errors import InputError, ModelError
from visavis.memory import attempted, free_memory
from visavis.units.above import Above, Kept
from visavis.units.data import Data, batches, check_labels, check_repeatable

#: Is told how many predictions have been made: images, times sets of units.
Progress = Callable[[int], None]
#: What a unit's activations are replaced by: zero, its mean over the data, or a number for each unit, (units,), or for
#: each feature of an attention head, (heads, features).
Value = str | Tensor
VALUES = ("zero", "mean")

# Of what is free a run may take this share, by its estimate; and no more than so many bytes, beyond which larger
# batches are no faster.
_SHARE = 0.5
_ENOUGH = {"cpu": 2**27, "cuda": 2**32}


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model predicts with and without sets of units.

    Attributes:
        labels: (N,) of the images, int64.
        intact: (N,) the predicted classes, the model as it is, int32.
        removed: (S, N), without each set of units, int32.
        confidence: (N,) the probability of the label (softmax), 0 to 1, float32.
        confidence_removed: (S, N), without each set of units, float32.
        classes: K, how many the model has.
        sets: the sets of units.
    """

    labels: Tensor
    intact: Tensor
    removed: Tensor
    confidence: Tensor
    confidence_removed: Tensor
    classes: int
    sets: tuple[tuple[int, ...], ...]


def predictions(
    above: Above,
    data: Data,
    sets: Sequence[Sequence[int]] | None,
    value: Value = "zero",
    progress: Progress | None = None,
) -> Iterator[Predictions]:
    """Yield what the model predicts without each set of units, a batch at a time.

    Args:
        above: the part of the model above the layer that holds them.
        data: batches of (inputs, labels).
        sets: indices of units; None: each unit by itself.
        value: what stands in for their activations.
        progress: is told how far it is, from time to time.

    Raises:
        InputError: an argument is not as described, or there is no such unit.
        ModelError: the model fails, or its logits are not numbers.
    """
    values = _given(value)
    if isinstance(value, str) and value == "mean":
        check_repeatable(data, 'value="mean"')
        values = mean_activations(above, data)
    room = _Room()
    images = 0
    for inputs, labels in batches(data, above.module):
        kept = above.keep(inputs)
        classes = kept.logits.shape[1]
        check_labels(labels, classes)
        if sets is None:
            sets = [[unit] for unit in range(kept.units)]
        chosen = _checked(sets, kept)
        instead = torch.zeros(kept.units) if values is None else values
        if not kept.activation.is_floating_point() and bool((instead != 0).any()):
            raise InputError(
                f"layer {above.layer!r} returns {kept.activation.dtype}, which holds no means or fractions; ablate it "
                "to zero"
            )
        if not kept.places.fits(instead):
            raise InputError(
                f"layer {above.layer!r} has {kept.units} units, but values of shape {tuple(instead.shape)} were given"
            )
        rows: list[tuple[Tensor, Tensor]] = []
        while len(rows) < len(chosen):
            logits = room.run(kept, chosen[len(rows) :], instead.to(inputs.device))
            rows += [_read(one, labels) for one in torch.split(logits, len(inputs))]
            if progress is not None:
                progress(images * len(chosen) + len(rows) * len(inputs))
        images += len(inputs)
        removed, less = (torch.stack(one) for one in zip(*rows, strict=True)) if rows else _nothing(len(inputs))
        known = tuple(tuple(one) for one in sets)
        intact, confidence = _read(kept.logits, labels)
        yield Predictions(labels, intact, removed, confidence, less, classes, known)


def mean_activations(above: Above, data: Data) -> Tensor:
    """Return each unit's mean activation, (units,), float64 on the CPU, over all images and positions of the data.

    Of attention heads it is that of each feature, (heads, features).

    Raises:
        InputError, ModelError: as for `predictions`.
    """
    total: Tensor | float = 0.0
    count = 0
    for inputs, _ in batches(data, above.module):
        kept = above.keep(inputs)
        values = kept.places.by_value(kept.activation).cpu().double()
        total = total + values.sum(-1)
        count += values.shape[-1]
    assert isinstance(total, Tensor)
    return total / count


class _Room:
    """Runs as many sets of units at a time as memory has room for."""

    def __init__(self) -> None:
        self._most: int | None = None

    def run(self, kept: Kept, sets: list[Tensor], values: Tensor) -> Tensor:
        """Return the logits (U · B, classes) without each of the first U sets."""
        while True:
            count = self._step(kept, len(sets))
            some = sets[:count]
            logits = attempted(lambda: kept.run(kept.changed(some, values)), kept.activation.device, smaller=count > 1)  # noqa: B023
            if logits is not None:
                return logits
            self._most = (count + 1) // 2

    def _step(self, kept: Kept, left: int) -> int:
        device = kept.activation.device
        free = free_memory(device)
        budget = min(_ENOUGH.get(device.type, 2**27), _SHARE * free if free is not None else float("inf"))
        return min(left, self._most or left, max(1, int(budget / max(1, kept.nbytes))))


def _given(value: Value) -> Tensor | None:
    if isinstance(value, Tensor):
        if value.dim() not in (1, 2) or not bool(torch.isfinite(value).all()):
            raise InputError("values for units are a tensor (units,), or (heads, features), of finite numbers")
        return value.detach()
    if value not in VALUES:
        raise InputError(f"units are replaced by {' or '.join(VALUES)}, or by a tensor (units,), not {value!r}")
    return None


def check_units(units: Iterable[int], kept: Kept) -> None:
    """Refuse units that a layer has not.

    Raises:
        InputError: there is none of such a number.
    """
    for unit in units:
        if not 0 <= unit < kept.units:
            raise InputError(
                f"there is no unit {unit} in layer {kept.layer!r}, which has {kept.units}, 0 to {kept.units - 1}"
            )


def _checked(sets: Sequence[Sequence[int]], kept: Kept) -> list[Tensor]:
    check_units(sorted({int(unit) for one in sets for unit in one}), kept)
    device = kept.activation.device
    return [torch.tensor(sorted(set(one)), dtype=torch.int64, device=device) for one in sets]


def _read(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the strongest classes (B,), int32, and the probabilities of the labels (B,), float32, on the CPU."""
    if bool(logits.isnan().any()):
        raise ModelError("the model's logits hold NaN, by which no class is the strongest; look for what made them")
    wide = logits if logits.dtype is torch.float64 else logits.float()
    confidence = wide.softmax(1).gather(1, labels.to(logits.device)[:, None])[:, 0]
    return logits.argmax(1).to("cpu", torch.int32), confidence.to("cpu", torch.float32)


def _nothing(items: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(0, items, dtype=torch.int32), torch.zeros(0, items)


__all__ = ["VALUES", "Predictions", "Progress", "Value", "check_units", "mean_activations", "predictions"]

"""What of a picture a unit at one position can see: its receptive field, found by running the model.

A stripe of the picture becomes NaN, and where a unit's value becomes NaN too, it depends on the stripe: NaN goes
through convolutions with weights of zero, closed ReLUs and lost maxima, so what is found is the wiring's, and not that
of one picture. How wide a stripe may grow from an edge before a value notices is found by bisection, for all that is
asked at once. No kernel size need be known, so branches, skip connections and attention need no care.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.propagation.mode import answer_of
from visavis.propagation.untouched import run_untouched
from visavis.units.above import Above, Kept
from visavis.units.layer import Layer

#: A unit, and its position in the layer's map: (y, x), (token,), or () of units without positions.
Place = tuple[int, tuple[int, ...]]

# By how much of the layer's largest value a value may move when what lies outside of its field changes.
_APART = 1e-4


def receptive_fields(
    model: nn.Module | Classifier, layer: str | Layer, inputs: Tensor, places: Sequence[Place]
) -> Tensor:
    """Return the smallest boxes that hold all pixels on which units at positions depend, (P, 4), int64, on the CPU.

    Boxes are x0, y0, x1, y1 in pixels of the input, half-open, within the picture. Where the model hides a dependence
    from NaN, as `torch.where(x > 0, x, 0)` does, that is noticed, for the value moves with what lies outside; the box
    is then the whole picture, which is right for any unit, if not the smallest.

    Args:
        model, layer: as for `ablate`.
        inputs: (B, C, H, W); only the first is used, and of it mostly its size.
        places: P units and positions, ((unit, (y, x)), …).

    Raises:
        InputError: the inputs are no pictures, there is no such layer, unit or position.
        ModelError: as for `ablate`.
    """
    if inputs.dim() != 4 or not len(inputs) or not inputs.is_floating_point():
        raise InputError(f"receptive fields are of pictures (B, C, H, W), floats, not {tuple(inputs.shape)}")
    above = Above(model, layer)
    picture = inputs[:1].detach()
    kept = above.keep(picture)
    index = _checked(places, kept, above.layer)
    height, width = picture.shape[2:]
    whole = torch.tensor([0, 0, width, height]).repeat(len(places), 1)
    if not places:
        return whole
    probe = _Probe(above, kept, index)
    boxes = whole.clone()
    for side, (dimension, far) in enumerate(((3, False), (2, False), (3, True), (2, True))):
        blind = probe.blind(picture, dimension, far)
        boxes[:, side] = picture.shape[dimension] - blind if far else blind
    # NaN that never arrives says nothing: such a box has come out empty.
    boxes = torch.where((boxes[:, :2] < boxes[:, 2:]).all(1, keepdim=True), boxes, whole)
    return torch.where(probe.moved_from_outside(picture, boxes)[:, None], whole, boxes)


class _Probe:
    """Reads the values of units at positions while the picture is changed."""

    def __init__(self, above: Above, kept: Kept, index: Tensor) -> None:
        self._above, self._kept, self._index = above, kept, index
        self._scale = float(kept.coordinates.abs().max())
        self._own = kept.coordinates[0].flatten()[index.to(kept.activation.device)].cpu()

    def blind(self, picture: Tensor, dimension: int, far: bool) -> Tensor:
        """Return how many rows or columns from an edge each value does not depend on, (P,); all: on none."""
        size = picture.shape[dimension]
        seen: dict[int, Tensor] = {}

        def reached(count: int) -> Tensor:
            if count not in seen:
                changed = picture.clone()
                changed.narrow(dimension, size - count if far else 0, count).fill_(torch.nan)
                seen[count] = self._values(changed).isnan()
            return seen[count]

        # Of low it is known that so many do not matter, of high that so many do; one row first, for it often is all.
        low, high = torch.zeros(len(self._index), dtype=torch.int64), torch.full((len(self._index),), size + 1)
        middle = torch.ones_like(low)
        while bool((high - low > 1).any()):
            for count in sorted(set(middle[high - low > 1].tolist())):
                asked = (middle == count) & (high - low > 1)
                hit = reached(count)
                high = torch.where(asked & hit, count, high)
                low = torch.where(asked & ~hit, count, low)
            middle = (low + high) // 2
        return low

    def moved_from_outside(self, picture: Tensor, boxes: Tensor) -> Tensor:
        """Return whether values change with what lies outside of their boxes, (P,), bool."""
        height, width = picture.shape[2:]
        generator = torch.Generator().manual_seed(0)
        spread = float(picture.std(correction=0)) + 1
        noise = (torch.randn(picture.shape, generator=generator, dtype=torch.float64) * spread).to(picture)
        found = torch.zeros(len(boxes), dtype=torch.bool)
        for x0, y0, x1, y1 in set(map(tuple, boxes.tolist())):
            if (x0, y0, x1, y1) == (0, 0, width, height):
                continue
            changed = noise.clone()
            changed[:, :, y0:y1, x0:x1] = picture[:, :, y0:y1, x0:x1]
            apart = (self._values(changed) - self._own).abs() > _APART * self._scale
            found |= apart & (boxes == torch.tensor([x0, y0, x1, y1])).all(1)
        return found

    def _values(self, picture: Tensor) -> Tensor:
        """Return the values of a picture, (P,), on the CPU; the model is run up to the layer only."""
        above, found = self._above, []

        def arrive(output: Tensor) -> None:
            found.append(self._kept.coordinates_of(output)[0].flatten()[self._index.to(output.device)].cpu())
            raise _Arrived

        with ExitStack() as stack:
            # Fast convolutions compute tiles from sums over more than their taps, over which NaN would spread.
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(torch.backends.nnpack.flags(enabled=False))
            stack.enter_context(torch.no_grad())
            stack.enter_context(run_untouched(above.module, picture.device))
            stack.enter_context(above.hooked(arrive))
            with suppress(_Arrived):
                answer_of(above.module, picture)
        return found[0]


class _Arrived(Exception):
    """The layer has returned, and what lies above need not run."""


def _checked(places: Sequence[Place], kept: Kept, layer: str) -> Tensor:
    """Return where each is among the flattened coordinates of an item, (P,)."""
    shape = kept.coordinates.shape[1:]
    index = []
    for unit, position in places:
        at = (unit, *position)
        if len(at) != len(shape) or not all(0 <= one < size for one, size in zip(at, shape, strict=True)):
            raise InputError(
                f"there is no unit {unit} at position {position} in layer {layer!r}, which has {shape[0]} units at "
                f"positions of shape {tuple(shape[1:])}"
            )
        flat = 0
        for one, size in zip(at, shape, strict=True):
            flat = flat * size + one
        index.append(flat)
    return torch.tensor(index, dtype=torch.int64)


__all__ = ["Place", "receptive_fields"]

"""Which dimension of a tensor holds the units: the features that a weighted layer made, beside items and positions.

A dense layer makes them in its last dimension, a convolution in dimension 1. From there the dimension is followed
through what the model calls, by shapes and strides alone.
"""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor

from visavis.errors import InputError
from visavis.propagation.trace import Call, Trace
from visavis.propagation.untouched import storage_of
from visavis.propagation.visit import tensors_in

_DENSE = ("linear", "addmm")
_MATRIX = ("matmul", "__matmul__", "mm", "bmm")


class Units:
    """Where the units are in what each call of a run made."""

    def __init__(self) -> None:
        self._dimensions: dict[Call, int] = {}
        self._dense: set[Call] = set()

    def follow(self, call: Call, args: tuple[Any, ...], traces: list[tuple[Tensor, Trace]], output: Any) -> None:
        """Note where the units are in what a call has made of its sources."""
        made = next((one for one in tensors_in((output,), {}) if tuple(one.shape) == call.shape), None)
        if made is None:
            return
        name = call.function.split(".")[-1]
        if name in _DENSE or (name in _MATRIX and len(traces) == 1 and args and traces[0][0] is args[0]):
            self._dense.add(call)
            self._dimensions[call] = made.dim() - 1
        elif name.startswith("conv") and name.endswith("d"):
            self._dimensions[call] = made.dim() - int(name[-2]) - 1
        else:
            known = [
                (tensor, place)
                for tensor, trace in traces
                if trace.call is not None and (place := self._dimensions.get(trace.call)) is not None
            ]
            found = {_place(made, tensor, place) for tensor, place in known} - {None}
            if len(found) == 1:
                self._dimensions[call] = found.pop()  # type: ignore[assignment]
            if any(trace.call in self._dense for _, trace in traces):
                self._dense.add(call)

    def moved_to_front(self, output: Tensor, call: Call | None, unit_dim: int | None, layer: str | None) -> Tensor:
        """Return the output with its units in dimension 1.

        Args:
            output: (B, ...).
            call: what made it.
            unit_dim: where its units are; None: where they were followed to. What convolutions alone made, and what
                has two dimensions, has them in dimension 1 where they got lost.
            layer: for the error.

        Raises:
            InputError: `unit_dim` is none of the output's, or is needed and not given.
        """
        if unit_dim is not None:
            if not 0 < abs(unit_dim) < output.dim():
                raise InputError(
                    f"unit_dim={unit_dim} is no dimension of units in an output of shape {tuple(output.shape)}; give "
                    f"one from 1 to {output.dim() - 1}, since dimension 0 holds the batch"
                )
            return output.movedim(unit_dim, 1)
        if output.dim() <= 2 or call is None:
            return output
        place = self._dimensions.get(call)
        if not place and call in self._dense:
            what = "the model's output" if layer is None else f"layer {layer!r}"
            raise InputError(
                f"{what} has shape {tuple(output.shape)}, in which it cannot be told which dimension holds the units "
                f"and which are positions; say so with unit_dim=..., such as unit_dim=-1"
            )
        return output.movedim(place, 1) if place else output


def _place(made: Tensor, source: Tensor, place: int) -> int | None:
    """Return where the dimension `place` of a source is in what was made of it; None where it is not to be found."""
    size, stride = source.shape[place], source.stride(place)
    if storage_of(made) == storage_of(source):  # a view: the step from unit to unit is the same
        found = [
            d
            for d in range(made.dim())
            if made.stride(d) == stride and made.shape[d] > 1 and (made.shape[d] == size or made.dim() == source.dim())
        ]
        return found[0] if len(found) == 1 else None
    if made.numel() == source.numel():  # value by value, or a copy in another shape
        before = prod(source.shape[:place])
        same = (d for d in range(made.dim()) if made.shape[d] == size and prod(made.shape[:d]) == before)
        return next(same, None)
    if made.dim() == source.dim():  # pooled, padded, joined, broadcast
        return place
    behind = made.dim() - (source.dim() - place)
    found = [place] if made.shape[: place + 1] == source.shape[: place + 1] else []
    found += [behind] if behind >= 0 and made.shape[behind:] == source.shape[place:] else []
    return found[0] if len(set(found)) == 1 else None

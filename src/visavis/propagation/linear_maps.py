"""Weighted linear maps (dense layers and convolutions) whose weight can be exchanged.

A rule needs a layer twice: forwards with some weight that it made of the layer's own (its positive part, its
square, ...), and backwards, transposed, with the same weight. `LinearMap` offers just these two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# A dense layer of more weights than this, on the CPU, is taken in slices of about so many.
_SLICED_FROM = 2**22
_SLICE = 2**19
# For so many maps it pays to write the part of its weight out, once.
_WRITTEN_OUT_FROM = 7


def _part(values: Tensor, positive: bool) -> Tensor:
    return values.clamp(min=0) if positive else values.clamp(max=0)


@dataclass(frozen=True)
class LinearMap(ABC):
    """An affine call `y = W x + b`, with `weight` in the layout that torch gives it, and `bias` or None."""

    weight: Tensor
    bias: Tensor | None

    @abstractmethod
    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return `weight` applied to `x`, without bias."""

    @abstractmethod
    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        """Return the transposed `weight` applied to `y`, in the shape of `x`."""

    @abstractmethod
    def over_outputs(self, values: Tensor) -> Tensor:
        """Return `values` (one an output channel) in a shape that broadcasts over the weight."""

    @abstractmethod
    def over_result(self, values: Tensor) -> Tensor:
        """Return `values` (one an output channel) in a shape that broadcasts over `y`."""

    @abstractmethod
    def beside(self, first: Tensor, second: Tensor) -> LinearMap:
        """Return the map, without bias, of twice the inputs: `first` applied to one half plus `second` to the other."""

    @abstractmethod
    def inputs_beside(self, first: Tensor, second: Tensor) -> Tensor:
        """Return two inputs side by side, as the map of `beside` takes them."""

    @abstractmethod
    def inputs_apart(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two inputs that `inputs_beside` put side by side."""

    def part(self, *, positive: bool, maps: int = 1) -> LinearMap:
        """Return the map, without bias, of the positive (or the negative) part of the weight, for so many maps."""
        return replace(self, weight=_part(self.weight, positive), bias=None)

    def folded(self, scale: Tensor, shift: Tensor | None) -> LinearMap:
        """Return this map followed by the affine `y -> scale * y + shift` of each output channel.

        Without a shift the map returned has no bias: for rules that read none.
        """
        bias = shift if self.bias is None or shift is None else self.bias * scale + shift
        return replace(self, weight=self.weight * self.over_outputs(scale), bias=bias)

    def laid_out_as(self, x: Tensor) -> LinearMap:
        """Return this map, its weight laid out in memory as the input is, where that saves the device a copy."""
        return self

    def negated(self) -> LinearMap:
        """Return the map with weight and bias negated."""
        return replace(self, weight=-self.weight, bias=None if self.bias is None else -self.bias)


@dataclass(frozen=True)
class Dense(LinearMap):
    """`F.linear`: weight (out, in), applied to the last dimension."""

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        return torch.matmul(y, weight)

    def over_outputs(self, values: Tensor) -> Tensor:
        return values.unsqueeze(-1)

    def over_result(self, values: Tensor) -> Tensor:
        return values

    def part(self, *, positive: bool, maps: int = 1) -> LinearMap:
        large = self.weight.device.type == "cpu" and self.weight.numel() > _SLICED_FROM
        if large and maps < _WRITTEN_OUT_FROM:
            return _DensePart(self.weight, None, positive)
        return super().part(positive=positive, maps=maps)

    def beside(self, first: Tensor, second: Tensor) -> Dense:
        return Dense(torch.cat([first, second], 1), None)

    def inputs_beside(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second], -1)

    def inputs_apart(self, both: Tensor) -> tuple[Tensor, Tensor]:
        first, second = both.chunk(2, -1)
        return first, second


@dataclass(frozen=True)
class _DensePart(Dense):
    """A part of a large dense layer's weight, made as it is used, some rows at a time, that stay in the cache.

    `weight` is the whole one. To write its part out, and to read it again, would cost more than the products of a few
    maps.
    """

    positive: bool

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return F.linear(x, _part(weight, self.positive))
        result = x.new_empty(*x.shape[:-1], len(weight))
        for rows, part in self._slices(weight):
            result[..., rows] = F.linear(x, part)
        return result

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return torch.matmul(y, _part(weight, self.positive))
        result = y.new_zeros(y[..., 0].numel(), weight.shape[1])
        flat = y.flatten(0, -2) if y.dim() > 1 else y.unsqueeze(0)
        for rows, part in self._slices(weight):
            result.addmm_(flat[:, rows], part)
        return result.view(*y.shape[:-1], weight.shape[1])

    def _slices(self, weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows, and the part of the weight there; the next takes its place."""
        count = max(1, _SLICE // weight.shape[1])
        room = weight.new_empty(min(count, len(weight)), weight.shape[1])
        for first in range(0, len(weight), count):
            rows = slice(first, min(first + count, len(weight)))
            bounds = {"min": 0} if self.positive else {"max": 0}
            yield rows, torch.clamp(weight[rows], **bounds, out=room[: rows.stop - first])


@dataclass(frozen=True)
class Convolution(LinearMap):
    """A convolution over 1, 2 or 3 dimensions, transposed or not, with torch's arguments.

    `pad` is the padding that `F.pad` must add on the right beyond the symmetric `padding`, as `"same"` asks for
    with an even kernel.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    transposed: bool = False
    output_padding: tuple[int, ...] = ()
    pad: tuple[int, ...] = ()

    @property
    def dimensions(self) -> int:
        return self.weight.dim() - 2

    def _padded(self, x: Tensor) -> Tensor:
        if not self.pad:
            return x
        return F.pad(x, [side for right in reversed(self.pad) for side in (0, right)])

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.dim() == self.dimensions + 1:
            return self.apply(x.unsqueeze(0), weight).squeeze(0)
        return torch.convolution(
            self._padded(x),
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
        )

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        if x.dim() == self.dimensions + 1:
            return self.transpose(y.unsqueeze(0), weight, x.unsqueeze(0)).squeeze(0)
        result: Tensor = torch.ops.aten.convolution_backward(
            y,
            self._padded(x),
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
            (True, False, False),
        )[0]
        for dimension, right in enumerate(self.pad, start=2):
            result = result.narrow(dimension, 0, x.shape[dimension]) if right else result
        return result

    def laid_out_as(self, x: Tensor) -> LinearMap:
        last = torch.channels_last
        if not x.is_cuda or x.dim() != 4 or x.is_contiguous() or not x.is_contiguous(memory_format=last):
            return self
        return replace(self, weight=self.weight.contiguous(memory_format=last))

    def over_outputs(self, values: Tensor) -> Tensor:
        ones = (1,) * self.dimensions
        if not self.transposed:
            return values.view(-1, 1, *ones)
        # A transposed weight is (in, out / groups, ...): its input channels come group by group.
        inputs = self.weight.shape[0]
        return values.view(self.groups, -1).repeat_interleave(inputs // self.groups, 0).view(inputs, -1, *ones)

    def over_result(self, values: Tensor) -> Tensor:
        return values.view(-1, *(1,) * self.dimensions)

    def _grouped(self, values: Tensor, dimension: int) -> Tensor:
        """Split a dimension into groups and what is within them."""
        return values.reshape(*values.shape[:dimension], self.groups, -1, *values.shape[dimension + 1 :])

    # Input channels come group by group, so that two inputs lie side by side within each group.

    def beside(self, first: Tensor, second: Tensor) -> Convolution:
        if not self.transposed:
            return replace(self, weight=torch.cat([first, second], 1), bias=None)
        grouped = [self._grouped(weight, 0) for weight in (first, second)]
        return replace(self, weight=torch.cat(grouped, 1).flatten(0, 1), bias=None)

    def inputs_beside(self, first: Tensor, second: Tensor) -> Tensor:
        channel = first.dim() - self.dimensions - 1
        if self.groups == 1:  # as they lie in memory
            return torch.cat([first, second], channel)
        grouped = [self._grouped(x, channel) for x in (first, second)]
        return torch.cat(grouped, channel + 1).flatten(channel, channel + 1)

    def inputs_apart(self, both: Tensor) -> tuple[Tensor, Tensor]:
        channel = both.dim() - self.dimensions - 1
        if self.groups == 1:
            first, second = both.chunk(2, channel)
            return first, second
        first, second = self._grouped(both, channel).chunk(2, channel + 1)
        return first.flatten(channel, channel + 1), second.flatten(channel, channel + 1)


@dataclass(frozen=True)
class Contraction(LinearMap):
    """Any bilinear function of input and weight, `call(x, weight)`: an `einsum`, a product with a constant `W @ x`."""

    call: Callable[[Tensor, Tensor], Tensor]

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return self.call(x, weight)

    def transpose(self, y: Tensor, weight: Tensor, x: Tensor) -> Tensor:
        with torch.enable_grad():
            at = torch.zeros_like(x).requires_grad_()
            (moved,) = torch.autograd.grad(self.call(at, weight), at, y)
        result: Tensor = moved
        return result

    def over_outputs(self, values: Tensor) -> Tensor:
        raise NotImplementedError("a contraction has no output channels, so nothing is folded into it")

    def over_result(self, values: Tensor) -> Tensor:
        raise NotImplementedError("a contraction has no bias")

    def beside(self, first: Tensor, second: Tensor) -> Contraction:
        def both(x: Tensor, weight: Tensor) -> Tensor:
            return self.call(x[0], weight[0]) + self.call(x[1], weight[1])

        return Contraction(torch.stack([first, second]), None, both)

    def inputs_beside(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.stack([first, second])

    def inputs_apart(self, both: Tensor) -> tuple[Tensor, Tensor]:
        return both[0], both[1]


def dense(weight: Tensor, bias: Tensor | None = None) -> Dense:
    """Return the map of `F.linear(x, weight, bias)`."""
    return Dense(weight, bias)


def convolution(
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Convolution:
    """Return the map of `F.conv1d`, `F.conv2d` or `F.conv3d`, after their arguments."""
    n = weight.dim() - 2
    dilations = each(dilation, n)
    pad: tuple[int, ...] = ()
    if padding == "valid":
        paddings = (0,) * n
    elif padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
        paddings = tuple(total // 2 for total in totals)
        pad = tuple(total % 2 for total in totals)
        pad = pad if any(pad) else ()
    else:
        paddings = each(padding, n)
    return Convolution(weight, bias, each(stride, n), paddings, dilations, groups, False, (0,) * n, pad)


def transposed_convolution(
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Convolution:
    """Return the map of `F.conv_transpose1d`, `2d` or `3d`, after their arguments."""
    n = weight.dim() - 2
    return Convolution(
        weight,
        bias,
        each(stride, n),
        each(padding, n),
        each(dilation, n),
        groups,
        True,
        each(output_padding, n),
    )


def each(value: Any, n: int) -> tuple[int, ...]:
    """Return one value for each of n dimensions, as torch reads a kernel size or a stride."""
    if isinstance(value, int):
        return (value,) * n
    values = tuple(int(v) for v in value)
    return values * n if len(values) == 1 else values

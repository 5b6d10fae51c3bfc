"""How relevance crosses pooling whose shares are not those of a weighted sum: maxima and power averages."""

from __future__ import annotations

import itertools
from functools import reduce
from types import EllipsisType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.propagation.linear_maps import each
from visavis.propagation.trace import Call, Trace
from visavis.propagation.visit import Visit, cross


def power_pool(visit: Visit) -> Any:
    """Power-average pooling, (Σ xᵖ)^(1/p): the inputs of a window share by |x|ᵖ."""
    x = visit.argument(0, "input")
    norm = float(visit.argument(1, "norm_type"))
    n = _pooled_dimensions(visit.call.function)
    size, stride = visit.argument(2, "kernel_size"), visit.argument(3, "stride")
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]
    powered = x.detach().abs() ** norm
    visit.call.operation, visit.call.rule = "weighted sum", "share by power"

    def move(relevance: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = powered.clone().requires_grad_()
            whole = pool(leaf, size, stride, ceil_mode=bool(visit.argument(4, "ceil_mode", False)))
            share = relevance / whole.detach().masked_fill(whole.detach() == 0, torch.inf)
            (moved,) = torch.autograd.grad(whole, leaf, share)
        result: Tensor = powered * moved
        return result

    trace = visit.trace(x)
    return visit.leave(cross(visit.value(), move, x), **_sign(trace))


def max_pool(visit: Visit) -> Any:
    """Max pooling over windows: the winner takes all, equal winners share equally (Gu et al. 2018, released code)."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    size, stride, padding, dilation, _, _ = (visit.argument(p, name) for p, name in enumerate(names, start=1))
    x = visit.argument(0, "input")
    result = visit.value()
    value, indices = result if isinstance(result, tuple) else (result, None)
    n = _pooled_dimensions(visit.call.function)
    kernel = each(size, n)
    windows = _Windows(
        kernel,
        each(stride, n) if stride else kernel,
        each(padding or 0, n),
        each(dilation or 1, n),
        value.shape,
    )
    visit.call.operation, visit.call.rule = "maximum", "winner takes all, ties share"
    out = visit.leave(cross(value, windows.move(x.detach(), value.detach(), visit.call), x), **_sign(visit.trace(x)))
    return out if indices is None else (out, indices)


def adaptive_max_pool(visit: Visit) -> Any:
    """Adaptive max pooling: as max pooling, over windows that torch spreads evenly and lets overlap."""
    x = visit.argument(0, "input")
    result = visit.value()
    value, indices = result if isinstance(result, tuple) else (result, None)
    move = _adaptive_move(x.detach(), value.detach(), _pooled_dimensions(visit.call.function))
    visit.call.operation, visit.call.rule = "maximum", "winner takes all, ties share"
    out = visit.leave(cross(value, move, x), **_sign(visit.trace(x)))
    return out if indices is None else (out, indices)


def _adaptive_move(x: Tensor, value: Tensor, n: int) -> Any:
    """Walk the windows of an adaptive pooling offset by offset, as `_Windows` does, by index instead of by slice."""
    reaches = []
    for dimension in range(-n, 0):
        inside, outputs = x.shape[dimension], value.shape[dimension]
        places = torch.arange(outputs, device=x.device)
        starts, ends = places * inside // outputs, -(-(places + 1) * inside // outputs)
        longest = -(-inside // outputs) + 1
        reaches.append([(starts + offset, starts + offset < ends) for offset in range(longest)])
    steps: list[tuple[list[Tensor], Tensor]] = []
    for reach in itertools.product(*reaches):
        held = reduce(torch.logical_and, torch.meshgrid(*(within for _, within in reach), indexing="ij"))
        at = [index.clamp(max=x.shape[d] - 1) for d, (index, _) in zip(range(-n, 0), reach, strict=True)]
        steps.append((list(torch.meshgrid(*at, indexing="ij")), held))

    def move(relevance: Tensor) -> Tensor:
        leading: list[Tensor | None] = [None] * (x.dim() - n)
        wins = [(torch.ops.aten.index(x, [*leading, *at]) == value) & held for at, held in steps]
        share = relevance / _count(wins)
        moved = torch.zeros_like(x)
        for (at, _), won in zip(steps, wins, strict=True):
            torch.ops.aten.index_put_(moved, [*leading, *at], share * won, True)
        return moved

    return move


def _sign(trace: Trace | None) -> dict[str, Any]:
    return {"nonnegative": trace is not None and trace.nonnegative}


class _Windows:
    """The windows of a pooling, walked offset by offset: at each, one strided slice of the input meets the output."""

    def __init__(
        self,
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        shape: torch.Size,
    ) -> None:
        self.kernel, self.padding = kernel, padding
        outputs = shape[-len(kernel) :]
        self.slices: list[tuple[EllipsisType | slice, ...]] = [
            (
                ...,
                *(
                    slice(o * d, o * d + (out - 1) * s + 1, s)
                    for o, d, s, out in zip(offset, dilation, stride, outputs, strict=True)
                ),
            )
            for offset in itertools.product(*(range(k) for k in kernel))
        ]
        #: The input size that the windows tile without gap or overlap; None where they overlap or leave gaps.
        plain = (
            kernel == stride
            and not any(padding)
            and all(d == 1 or k == 1 for d, k in zip(dilation, kernel, strict=True))
        )
        self.tiled = torch.Size(k * out for k, out in zip(kernel, outputs, strict=True)) if plain else None
        self.lengths = [
            (out - 1) * s + d * (k - 1) + 1 for out, s, d, k in zip(outputs, stride, dilation, kernel, strict=True)
        ]

    def move(self, x: Tensor, value: Tensor, call: Call) -> Any:
        inside = x.shape[-len(self.padding) :]
        after = [max(0, length - size - p) for length, size, p in zip(self.lengths, inside, self.padding, strict=True)]
        sides = [
            side for before, behind in zip(self.padding[::-1], after[::-1], strict=True) for side in (before, behind)
        ]
        tiled = inside == self.tiled
        cropped: tuple[EllipsisType | slice, ...] = (
            ...,
            *(slice(p, p + size) for p, size in zip(self.padding, inside, strict=True)),
        )

        doubling = tiled and x.dim() == len(self.padding) + 2 and all(k & (k - 1) == 0 for k in self.kernel)
        kept: list[Tensor] = []

        def shares() -> Tensor:
            """Return which share of its window's relevance each input gets, in the shape of x."""
            if not kept:
                wins = [x[where] == value for where in self.slices]
                count = _count(wins)
                kept.append(torch.empty_like(x))
                for where, won in zip(self.slices, wins, strict=True):
                    kept[0][where] = won / count
            return kept[0]

        def move(relevance: Tensor) -> Tensor:
            if doubling and (call.keep or kept):
                # Scales that are powers of two are exact: each input reads its own window.
                return F.interpolate(relevance, inside).mul_(shares())
            padded = F.pad(x, sides, value=-torch.inf) if any(sides) else x
            wins = [padded[where] == value for where in self.slices]
            share = relevance / _count(wins)
            if tiled:  # each input lies in one window: written once, nothing to add up
                moved = torch.empty_like(x)
                for where, won in zip(self.slices, wins, strict=True):
                    torch.mul(share, won, out=moved[where])
                return moved
            moved = torch.zeros_like(padded)
            for where, won in zip(self.slices, wins, strict=True):
                moved[where] += torch.where(won, share, 0)
            return moved[cropped]

        return move


def _count(wins: list[Tensor]) -> Tensor:
    """Return how many values of each window win; 1 where none does, as in a window of NaN."""
    # Counted in bytes where they suffice: these maps are large, and this is memory traffic.
    count = torch.zeros_like(wins[0], dtype=torch.uint8 if len(wins) < 256 else torch.int32)
    for won in wins:
        count += won.view(torch.uint8)
    return count.clamp_(min=1)


def _pooled_dimensions(function: str) -> int:
    return next(n for n in (1, 2, 3) if f"{n}d" in function)

"""Relevance rules written on explicit matrices, apart from the engine and slowly, for tests only.

Every weighted layer is a matrix from flattened inputs to flattened outputs; every rule is a formula on the
contributions c[b, i, j] = x[b, i] * w[i, j]. Nothing here uses autograd.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy
import torch
from torch import Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NUMPY_PADDING = {"circular": "wrap", "reflect": "reflect", "replicate": "edge"}


class Dense(NamedTuple):
    """A layer as a matrix: `matrix` and `connectivity` are (inputs, outputs), `bias` is (outputs,)."""

    matrix: Tensor
    bias: Tensor
    connectivity: Tensor


Rule = Callable[..., Tensor]


# Layers as matrices


def as_matrix(layer: nn.Module, input_shape: Sequence[int]) -> Dense:
    """The matrix of a Linear or (transposed) convolution, by showing it the unit vectors."""
    size = math.prod(input_shape)
    units = torch.eye(size, dtype=torch.float64).reshape(size, *input_shape)
    weightless = copy.deepcopy(layer).double().requires_grad_(False)
    outputs = weightless(torch.zeros(1, *input_shape, dtype=torch.float64)).flatten()
    bias = outputs if layer.bias is not None else torch.zeros_like(outputs)
    weightless.bias = None
    matrix = weightless(units).reshape(size, -1)
    weightless.weight.fill_(1.0)
    connectivity = weightless(units).reshape(size, -1)
    return Dense(matrix, bias, connectivity)


def as_matrix_by_indices(layer: nn.Module, input_shape: Sequence[int]) -> Dense:
    """The same matrix by index arithmetic alone: zero-padded (transposed) convolutions of any dimension."""
    transposed = isinstance(layer, TRANSPOSED)
    channels, *sizes = input_shape
    dimensions = len(sizes)
    before, after = _padding_amounts(layer)
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    if transposed:
        spatial = [
            (sizes[d] - 1) * stride[d]
            - 2 * layer.padding[d]
            + dilation[d] * (kernel[d] - 1)
            + layer.output_padding[d]
            + 1
            for d in range(dimensions)
        ]
    else:
        spatial = [
            (sizes[d] + before[d] + after[d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1
            for d in range(dimensions)
        ]
    outputs = layer.out_channels
    matrix = torch.zeros(channels, *sizes, outputs, *spatial, dtype=torch.float64)
    connectivity = torch.zeros_like(matrix)
    weight = layer.weight.detach().double()
    inputs_per_group, outputs_per_group = channels // layer.groups, outputs // layer.groups
    moving, fixed = (sizes, spatial) if transposed else (spatial, sizes)
    for group, source, sink in itertools.product(
        range(layer.groups), range(inputs_per_group), range(outputs_per_group)
    ):
        channel_in, channel_out = group * inputs_per_group + source, group * outputs_per_group + sink
        for position in itertools.product(*map(range, moving)):
            for offset in itertools.product(*map(range, kernel)):
                other = tuple(position[d] * stride[d] - before[d] + offset[d] * dilation[d] for d in range(dimensions))
                if not all(0 <= other[d] < fixed[d] for d in range(dimensions)):
                    continue
                place_in, place_out = (position, other) if transposed else (other, position)
                entry = (channel_in, *place_in, channel_out, *place_out)
                tap = (channel_in, sink, *offset) if transposed else (channel_out, source, *offset)
                matrix[entry] += weight[tap]
                connectivity[entry] += 1.0
    bias = torch.zeros(outputs, dtype=torch.float64) if layer.bias is None else layer.bias.detach().double()
    size = math.prod(input_shape)
    return Dense(
        matrix.reshape(size, -1),
        bias.repeat_interleave(math.prod(spatial)),
        connectivity.reshape(size, -1),
    )


def _padding_amounts(layer: nn.Module) -> tuple[list[int], list[int]]:
    """Positions added before and after each spatial dimension, as the documentation of torch defines them."""
    if layer.padding == "valid":
        total = [0] * len(layer.kernel_size)
    elif layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    else:
        return list(layer.padding), list(layer.padding)
    return [t // 2 for t in total], [t - t // 2 for t in total]


def unpadded(layer: nn.Module, input_shape: Sequence[int]) -> tuple[nn.Module, list[int], Tensor]:
    """A layer with wrapped or mirrored padding as (layer without it, padded shape, origin of each entry).

    A mirrored input can reach one output twice, through two weights: the linear map is the one after the pad.
    """
    before, after = _padding_amounts(layer)
    indices = numpy.arange(math.prod(input_shape)).reshape(*input_shape)
    widths = [(0, 0), *zip(before, after, strict=True)]
    padded = numpy.pad(indices, widths, mode=NUMPY_PADDING[layer.padding_mode])
    bare = copy.deepcopy(layer)
    bare.padding, bare.padding_mode = (0,) * len(before), "zeros"
    return bare, list(padded.shape), torch.from_numpy(padded.reshape(-1).copy())


def propagate(
    rule: Rule,
    layer: nn.Module,
    inputs: Tensor,
    relevance: Tensor,
    *,
    low: Tensor | float | None = None,
    high: Tensor | float | None = None,
) -> Tensor:
    """Relevance of `inputs` (B, ...) given that of the layer's outputs, by a dense rule."""
    batch, shape = len(inputs), list(inputs.shape[1:])
    mode = getattr(layer, "padding_mode", "zeros")
    if mode == "zeros":
        bare, padded_shape, source = layer, shape, torch.arange(math.prod(shape))
    else:
        bare, padded_shape, source = unpadded(layer, shape)
    bounds = {
        name: torch.as_tensor(bound, dtype=torch.float64).expand(1, *shape).reshape(-1)[source]
        for name, bound in (("low", low), ("high", high))
        if bound is not None
    }
    dense = as_matrix(bare, padded_shape)
    result = rule(dense, inputs.detach().reshape(batch, -1)[:, source], relevance.reshape(batch, -1), **bounds)
    folded = torch.zeros(batch, math.prod(shape), dtype=torch.float64).index_add_(1, source, result)
    return folded.reshape(inputs.shape)


# Rules


def positive(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, torch.zeros_like(values))


def negative(values: Tensor) -> Tensor:
    return torch.where(values < 0, values, torch.zeros_like(values))


def shared(contributions: Tensor, denominators: Tensor, relevance: Tensor) -> Tensor:
    """sum_j c[b, i, j] R[b, j] / d[b, j]; a denominator of exactly zero gives nothing."""
    safe = torch.where(denominators == 0, torch.ones_like(denominators), denominators)
    ratio = torch.where(denominators == 0, torch.zeros_like(denominators), relevance / safe)
    return torch.einsum("bij,bj->bi", contributions, ratio)


def contributions(dense: Dense, inputs: Tensor) -> Tensor:
    return torch.einsum("bi,ij->bij", inputs, dense.matrix)


def zero(dense: Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    c = contributions(dense, inputs)
    return shared(c, c.sum(1) + dense.bias, relevance)


def epsilon(dense: Dense, inputs: Tensor, relevance: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    c = contributions(dense, inputs)
    z = c.sum(1) + dense.bias
    sign = torch.where(z >= 0, torch.ones_like(z), -torch.ones_like(z))
    return shared(c, z + epsilon * sign, relevance)


def z_plus(dense: Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    c = positive(contributions(dense, inputs))
    return shared(c, c.sum(1), relevance)


def alpha_beta(
    dense: Dense,
    inputs: Tensor,
    relevance: Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    bias: bool = False,
) -> Tensor:
    c = contributions(dense, inputs)
    up, down = positive(c), negative(c)
    up_total = up.sum(1) + (positive(dense.bias) if bias else 0.0)
    down_total = down.sum(1) + (negative(dense.bias) if bias else 0.0)
    return alpha * shared(up, up_total, relevance) - beta * shared(down, down_total, relevance)


def gamma(dense: Dense, inputs: Tensor, relevance: Tensor, *, gamma: float = 0.25) -> Tensor:
    c = contributions(dense, inputs)
    z = c.sum(1) + dense.bias
    nothing = torch.zeros_like(relevance)
    total = torch.zeros_like(inputs)
    for part, chosen in ((positive, z > 0), (negative, z < 0)):
        denominators = z + gamma * (part(c).sum(1) + part(dense.bias))
        total += shared(c + gamma * part(c), denominators, torch.where(chosen, relevance, nothing))
    return total


def same_sign(dense: Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    """What has the sign of the output (bias included) shares; the bias takes none."""
    c = contributions(dense, inputs)
    matching = torch.where(c.sign() == (c.sum(1) + dense.bias).sign()[:, None], c, torch.zeros_like(c))
    return shared(matching, matching.sum(1), relevance)


def w_square(dense: Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    squares = (dense.matrix**2).expand(len(inputs), -1, -1)
    return shared(squares, squares.sum(1), relevance)


def flat(dense: Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    ones = dense.connectivity.expand(len(inputs), -1, -1)
    return shared(ones, ones.sum(1), relevance)


def z_box(dense: Dense, inputs: Tensor, relevance: Tensor, *, low: Tensor, high: Tensor) -> Tensor:
    boxed = (
        contributions(dense, inputs)
        - low[None, :, None] * positive(dense.matrix)
        - high[None, :, None] * negative(dense.matrix)
    )
    return shared(boxed, boxed.sum(1), relevance)


# Fixed linear maps, pooling and sums


def linear_map(matrix: Tensor, inputs: Tensor, relevance: Tensor, share: str) -> Tensor:
    """Relevance through a map without parameters (mean, pooling, resizing); flat (B, in) and (B, out)."""
    c = torch.einsum("bi,ij->bij", inputs, matrix)
    if share == "absolute":
        c = c.abs()
    elif share == "same-sign":
        c = torch.where(c.sign() == c.sum(1, keepdim=True).sign(), c, 0.0)
    return shared(c, c.sum(1), relevance)


def matrix_of(function: Callable[[Tensor], Tensor], input_shape: Sequence[int]) -> Tensor:
    """The (in, out) matrix of a linear function, by the unit vectors."""
    size = math.prod(input_shape)
    units = torch.eye(size, dtype=torch.float64).reshape(size, *input_shape)
    return function(units).reshape(size, -1)


class Window(NamedTuple):
    """The inputs that one output of a pooling sees, and how many positions it counts, padding included."""

    inputs: list[int]
    counted: int


def pooling_windows(
    input_shape: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> list[Window]:
    """One window per output, channels first, in the order of the flattened output."""
    channels, *sizes = input_shape
    axes = []
    for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        span = n + 2 * p - d * (k - 1) - 1
        outputs = (math.ceil(span / s) if ceil_mode else span // s) + 1
        if ceil_mode and (outputs - 1) * s >= n + p:  # the last window may not start in the right padding
            outputs -= 1
        axis = []
        for o in range(outputs):
            start = o * s - p
            seen = [start + t * d for t in range(k) if 0 <= start + t * d < n]
            axis.append((seen, min(start + k, n + p) - start))
        axes.append(axis)
    return _product_windows(channels, sizes, axes)


def adaptive_windows(input_shape: Sequence[int], outputs: Sequence[int]) -> list[Window]:
    channels, *sizes = input_shape
    axes = []
    for n, count in zip(sizes, outputs, strict=True):
        axis = []
        for o in range(count):
            seen = list(range((o * n) // count, -((-(o + 1) * n) // count)))
            axis.append((seen, len(seen)))
        axes.append(axis)
    return _product_windows(channels, sizes, axes)


def _product_windows(channels: int, sizes: Sequence[int], axes: list[list[tuple[list[int], int]]]) -> list[Window]:
    windows = []
    for channel in range(channels):
        for combination in itertools.product(*axes):
            counted = math.prod(count for _, count in combination)
            inputs = []
            for place in itertools.product(*(seen for seen, _ in combination)):
                index = channel
                for n, coordinate in zip(sizes, place, strict=True):
                    index = index * n + coordinate
                inputs.append(index)
            windows.append(Window(inputs, counted))
    return windows


def max_pool(windows: list[Window], inputs: Tensor, relevance: Tensor) -> Tensor:
    """The winner takes all, equal winners share equally; flat (B, in) and (B, out)."""
    result = torch.zeros_like(inputs)
    for b in range(len(inputs)):
        for j, window in enumerate(windows):
            best = max(inputs[b, i].item() for i in window.inputs)
            winners = [i for i in window.inputs if inputs[b, i].item() == best]
            for i in winners:
                result[b, i] += relevance[b, j] / len(winners)
    return result


def average_matrix(windows: list[Window], size: int, count_include_pad: bool, divisor: int | None = None) -> Tensor:
    matrix = torch.zeros(size, len(windows), dtype=torch.float64)
    for j, window in enumerate(windows):
        count = divisor or (window.counted if count_include_pad else len(window.inputs))
        for i in window.inputs:
            matrix[i, j] = 1.0 / count
    return matrix


def sum_shares(first: Tensor, second: Tensor, relevance: Tensor, share: str) -> tuple[Tensor, Tensor]:
    """Relevance of the two terms of `first + second`, each summed back to its own (broadcast) shape."""
    a, b = torch.broadcast_tensors(first, second)
    if share == "absolute":
        a, b = a.abs(), b.abs()
    elif share == "same-sign":
        a, b = (torch.where(term.sign() == (a + b).sign(), term, 0.0) for term in (a, b))
    total = a + b
    ratio = torch.where(total == 0, torch.zeros_like(total), relevance / torch.where(total == 0, 1.0, total))
    return (a * ratio).sum_to_size(first.shape), (b * ratio).sum_to_size(second.shape)


def folded(layer: nn.Module, norm: nn.modules.batchnorm._BatchNorm) -> nn.Module:
    """The layer whose output is that of batch normalisation (in evaluation mode) after `layer`."""
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = -norm.running_mean * scale
    if norm.affine:
        scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
    result = copy.deepcopy(layer).requires_grad_(False)
    if isinstance(layer, TRANSPOSED):
        outputs_per_group = layer.out_channels // layer.groups
        for channel in range(layer.out_channels):
            group, place = divmod(channel, outputs_per_group)
            per_group = layer.in_channels // layer.groups
            result.weight[group * per_group : (group + 1) * per_group, place] *= scale[channel]
    else:
        result.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    old = 0.0 if layer.bias is None else layer.bias
    result.bias = nn.Parameter((old * scale + shift).detach(), requires_grad=False)
    return result

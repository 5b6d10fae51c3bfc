"""Deep Taylor relevance and its contrast in a plain chain of layers, step by step, without autograd.

Convolutions are matrices on unfolded patches, adaptive pooling is a pair of matrices: the engine has no part
in any of it.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Step(NamedTuple):
    layer: nn.Module
    inputs: Tensor


def chain(module: nn.Module) -> list[nn.Module]:
    """The layers of a torchvision AlexNet or VGG, or of nested Sequentials, in running order."""
    if isinstance(module, nn.Sequential):
        return [layer for child in module for layer in chain(child)]
    if hasattr(module, "classifier"):
        return [*chain(module.features), module.avgpool, nn.Flatten(), *chain(module.classifier)]
    return [module]


@torch.no_grad()
def forward(module: nn.Module, inputs: Tensor) -> tuple[list[Step], Tensor]:
    """Every layer with what it saw, and the logits."""
    steps, x = [], inputs
    for layer in chain(module):
        steps.append(Step(layer, x))
        x = functional.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
    return steps, x


@torch.no_grad()
def backward(steps: list[Step], seed: Tensor, low: float, high: float) -> Tensor:
    """z+ everywhere, zB where the pixels enter."""
    relevance = seed
    first = next(step.layer for step in steps if isinstance(step.layer, (nn.Conv2d, nn.Linear)))
    for layer, x in reversed(steps):
        if isinstance(layer, nn.Conv2d):
            if layer is first:
                relevance = convolution_box(layer, x, relevance, low, high)
            else:
                relevance = convolution_plus(layer, x, relevance)
        elif isinstance(layer, nn.Linear):
            if layer is first:
                relevance = linear_box(layer.weight, x, relevance, low, high)
            else:
                relevance = linear_plus(layer.weight, x, relevance)
        elif isinstance(layer, nn.MaxPool2d):
            relevance = max_pool(layer, x, relevance)
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            relevance = adaptive_average(layer, x, relevance)
        elif isinstance(layer, nn.Flatten):
            relevance = relevance.reshape(x.shape)
        elif not isinstance(layer, (nn.ReLU, nn.Dropout)):
            raise TypeError(f"no step for {type(layer).__name__}")
    return relevance


def ratio(relevance: Tensor, denominators: Tensor) -> Tensor:
    empty = denominators == 0
    return torch.where(empty, 0.0, relevance / torch.where(empty, 1.0, denominators))


def linear_plus(weight: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    x_up, x_down = x.clamp(min=0), x.clamp(max=0)
    s = ratio(relevance, x_up @ up.T + x_down @ down.T)
    return x_up * (s @ up) + x_down * (s @ down)


def linear_box(weight: Tensor, x: Tensor, relevance: Tensor, low: float, high: float) -> Tensor:
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    s = ratio(relevance, x @ weight.T - low * up.sum(1) - high * down.sum(1))
    return x * (s @ weight) - low * (s @ up) - high * (s @ down)


def _patches(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)


def _folded(layer: nn.Conv2d, patches: Tensor, x: Tensor) -> Tensor:
    size = x.shape[-2:]
    return functional.fold(patches, size, layer.kernel_size, layer.dilation, layer.padding, layer.stride)


def convolution_plus(layer: nn.Conv2d, x: Tensor, relevance: Tensor) -> Tensor:
    weight = layer.weight.flatten(1)
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    patches = _patches(layer, x)
    p_up, p_down = patches.clamp(min=0), patches.clamp(max=0)
    s = ratio(relevance.flatten(2), up @ p_up + down @ p_down)
    return _folded(layer, p_up * (up.T @ s) + p_down * (down.T @ s), x)


def convolution_box(layer: nn.Conv2d, x: Tensor, relevance: Tensor, low: float, high: float) -> Tensor:
    weight = layer.weight.flatten(1)
    up, down = weight.clamp(min=0), weight.clamp(max=0)
    # Unfolding pads with zeros, so a padded place holds no bound and takes no relevance.
    patches, p_low, p_high = (
        _patches(layer, values) for values in (x, torch.full_like(x, low), torch.full_like(x, high))
    )
    s = ratio(relevance.flatten(2), weight @ patches - up @ p_low - down @ p_high)
    return _folded(layer, patches * (weight.T @ s) - p_low * (up.T @ s) - p_high * (down.T @ s), x)


def max_pool(layer: nn.MaxPool2d, x: Tensor, relevance: Tensor) -> Tensor:
    kernel, stride, padding = (
        (value, value) if isinstance(value, int) else value
        for value in (layer.kernel_size, layer.stride, layer.padding)
    )
    batch, channels, height, width = x.shape
    padded = functional.pad(x, (padding[1], padding[1], padding[0], padding[0]), value=-torch.inf)
    patches = functional.unfold(padded, kernel, 1, 0, stride).reshape(batch, channels, kernel[0] * kernel[1], -1)
    winners = (patches == patches.amax(2, keepdim=True)).to(x.dtype)
    shares = winners / winners.sum(2, keepdim=True) * relevance.reshape(batch, channels, 1, -1)
    back = functional.fold(shares.flatten(1, 2), padded.shape[-2:], kernel, 1, 0, stride)
    return back[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width]


def adaptive_average(layer: nn.AdaptiveAvgPool2d, x: Tensor, relevance: Tensor) -> Tensor:
    rows, columns = (
        _adaptive_matrix(size, outputs) for size, outputs in zip(x.shape[-2:], relevance.shape[-2:], strict=True)
    )
    s = ratio(relevance, rows @ x @ columns.T)
    return x * (rows.T @ s @ columns)


def _adaptive_matrix(size: int, outputs: int) -> Tensor:
    matrix = torch.zeros(outputs, size, dtype=torch.float64)
    for o in range(outputs):
        start, end = o * size // outputs, -(-(o + 1) * size // outputs)
        matrix[o, start:end] = 1.0 / (end - start)
    return matrix


# Contrasts


def score_seed(logits: Tensor, target: Tensor) -> Tensor:
    """|S_j| at the target of each sample."""
    rows = torch.arange(len(logits))
    seed = torch.zeros_like(logits)
    seed[rows, target] = logits[rows, target].abs()
    return seed


def others_seed(logits: Tensor, target: Tensor) -> Tensor:
    """CLRP1: |S_j| spread evenly over the other classes."""
    rows = torch.arange(len(logits))
    size = logits[rows, target].abs()
    seed = (size / (logits.shape[1] - 1)).unsqueeze(1).repeat(1, logits.shape[1])
    seed[rows, target] = 0.0
    return seed


def target_relevance(module: nn.Module, inputs: Tensor, target: Tensor, low: float, high: float) -> Tensor:
    steps, logits = forward(module, inputs)
    return backward(steps, score_seed(logits, target), low, high)


def others_relevance(module: nn.Module, inputs: Tensor, target: Tensor, low: float, high: float) -> Tensor:
    """The dual map of CLRP1."""
    steps, logits = forward(module, inputs)
    return backward(steps, others_seed(logits, target), low, high)


@torch.no_grad()
def negated_relevance(module: nn.Module, inputs: Tensor, target: Tensor, low: float, high: float) -> Tensor:
    """The dual map of CLRP2: the target's row of the last weights is negated, its score kept."""
    steps, logits = forward(module, inputs)
    maps = []
    for b in range(len(inputs)):
        last = copy.deepcopy(steps[-1].layer)
        last.weight[target[b]] *= -1.0
        own = [Step(layer, x[b : b + 1]) for layer, x in steps]
        own[-1] = Step(last, own[-1].inputs)
        maps.append(backward(own, score_seed(logits, target)[b : b + 1], low, high))
    return torch.cat(maps)

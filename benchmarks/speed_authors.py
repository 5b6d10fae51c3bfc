"""CLRP as the code released with the paper computes it: the reference that shows what the engine saves.

It holds for networks of one path, such as VGG, and is written apart from the engine. Images go through one by one.
The activations of a forward pass are kept; then relevance goes back layer by layer, once for the target and once for
its dual, and each pass computes afresh what it needs of a layer, though both need the same:

- z⁺ at dense and convolutional layers and z at average pooling: R_i = x_i Σ_j w⁺_ij R_j / (Σ_i x_i w⁺_ij + 1e-9);
- zᴮ at the first convolution, with the bounds of the pixels (Montavon et al. 2017, Deep Taylor, eq. 13);
- a maximum passes its relevance to the winner.

The map is max(0, R − R_dual) (Gu, Yang, Tresp 2018, sec. 3.2), the dual being all other classes alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Added to each denominator.
EPSILON = 1e-9
#: What relevance crosses unchanged.
_PASSING = (nn.ReLU, nn.Dropout, nn.Identity)
_KNOWN = (nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, *_PASSING)


def layers_of(module: nn.Module) -> list[nn.Module] | None:
    """Return the layers of a network of one path in their order; None if it is none, or has layers of other kinds."""
    if isinstance(module, nn.Sequential):
        parts: Sequence[nn.Module] = list(module)
    elif all(hasattr(module, name) for name in ("features", "avgpool", "classifier")):
        # So torchvision lays out VGG and AlexNet, and flattens before the classifier.
        parts = [module.features, module.avgpool, nn.Flatten(), module.classifier]  # type: ignore[list-item]
    else:
        return [module] if isinstance(module, _KNOWN) else None
    layers: list[nn.Module] = []
    for part in parts:
        inner = layers_of(part)
        if inner is None:
            return None
        layers += inner
    return layers


class TwoPasses:
    """The released algorithm for one network.

    Args:
        layers: the network's, as `layers_of` returns them; the first convolution sees the pixels.
        low, high: bounds of the pixels.
    """

    def __init__(self, layers: Sequence[nn.Module], low: float, high: float) -> None:
        self.layers = layers
        self.low, self.high = low, high

    def attribute(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Return the maps of a target for each of the images, in their shape."""
        return torch.cat([self._one(inputs[i : i + 1], target[i : i + 1]) for i in range(len(inputs))])

    @torch.no_grad()
    def _one(self, image: Tensor, target: Tensor) -> Tensor:
        activations = [image]
        for layer in self.layers:
            activations.append(layer(activations[-1]))
        logits = activations.pop()
        score = logits.gather(1, target[:, None]).abs()
        seed = torch.zeros_like(logits).scatter(1, target[:, None], score)
        others = torch.ones_like(logits).scatter(1, target[:, None], 0)
        dual = score * others / others.sum(1, keepdim=True)
        return (self._backward(activations, seed) - self._backward(activations, dual)).clamp(min=0)

    def _backward(self, activations: Sequence[Tensor], relevance: Tensor) -> Tensor:
        for place in reversed(range(len(self.layers))):
            layer, x = self.layers[place], activations[place]
            relevance = self._pixels(layer, x, relevance) if place == 0 else _back(layer, x, relevance)
        return relevance

    def _pixels(self, layer: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
        if not isinstance(layer, nn.Conv2d):
            return _back(layer, x, relevance)
        low, high = torch.full_like(x, self.low), torch.full_like(x, self.high)
        parts = [(x, layer.weight), (low, layer.weight.clamp(min=0)), (high, layer.weight.clamp(max=0))]
        plain, lowest, highest = (_convolve(layer, value, weight) for value, weight in parts)
        share = relevance / (plain - lowest - highest + EPSILON)
        plain, lowest, highest = (value * _convolve_back(layer, value, weight, share) for value, weight in parts)
        return plain - lowest - highest


def _back(layer: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
    """Return the relevance of a layer's input x from that of its output."""
    if isinstance(layer, _PASSING):
        return relevance
    if isinstance(layer, nn.Flatten):
        return relevance.reshape(x.shape)
    if isinstance(layer, nn.MaxPool2d):
        return _winners(layer, x, relevance)
    if isinstance(layer, nn.Linear):
        weight = layer.weight.clamp(min=0)
        return x * (relevance / (x @ weight.T + EPSILON) @ weight)
    if isinstance(layer, nn.Conv2d):
        weight = layer.weight.clamp(min=0)
        share = relevance / (_convolve(layer, x, weight) + EPSILON)
        return x * _convolve_back(layer, x, weight, share)
    pooled, back = _transposed(layer, x)
    return x * back(relevance / (pooled + EPSILON))


def _winners(layer: nn.MaxPool2d, x: Tensor, relevance: Tensor) -> Tensor:
    places = F.max_pool2d(
        x, layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode, return_indices=True
    )[1]
    moved = torch.zeros_like(x).flatten(2)
    return moved.scatter_add(2, places.flatten(2), relevance.flatten(2)).view_as(x)


def _transposed(layer: nn.Module, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the output of a linear layer without weights, and its transpose as a function."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        output = layer(leaf)
    return output.detach(), lambda share: torch.autograd.grad(output, leaf, share)[0]


def _convolve(layer: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def _convolve_back(layer: nn.Conv2d, x: Tensor, weight: Tensor, share: Tensor) -> Tensor:
    return torch.nn.grad.conv2d_input(x.shape, weight, share, layer.stride, layer.padding, layer.dilation, layer.groups)

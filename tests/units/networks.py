"""Small networks for tests of units, and the plain way to ablate one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock, ResNet

from visavis.units import Above, Layer, predictions


class Small(nn.Module):
    """A convolutional network with a sum, a functional activation and one that writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.third = nn.Conv1d(6, 5, 1)
        self.hidden = nn.Linear(5, 8)
        self.scale = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        kept = x = self.relu(self.norm(self.first(x)))
        x = self.second(x)
        x += kept
        x = F.relu(self.third(F.max_pool2d(x, 2).flatten(2)))
        return self.head(self.scale(self.hidden(x.mean(2))).sigmoid())


def small() -> nn.Module:
    torch.manual_seed(0)
    return alive(Small())


def resnet() -> nn.Module:
    return copy.deepcopy(_resnet())


@cache
def _resnet() -> nn.Module:
    torch.manual_seed(0)
    return alive(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5))


def vit() -> nn.Module:
    torch.manual_seed(0)
    model = VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=20, num_classes=5)
    nn.init.normal_(model.heads[0].weight)
    return alive(model)


NETWORKS: dict[str, Callable[[], nn.Module]] = {"small": small, "resnet": resnet, "vit": vit}


def alive(module: nn.Module) -> nn.Module:
    """In float64 and eval mode, with batch norms that do something."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
    return module.double().eval()


def pictures(number: int = 3, side: int = 32, seed: int = 1) -> Tensor:
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(
    module: nn.Module,
    layer: str,
    inputs: Tensor,
    units: Sequence[int],
    dim: int,
    values: Tensor,
    call: int | None = None,
) -> Tensor:
    """The logits of one whole forward pass, whose hook replaces units of what the layer returns, at one call or all."""
    calls = count()

    def hook(_: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        if call not in (None, next(calls)):
            return output
        first = output if isinstance(output, Tensor) else output[0]
        changed = first.clone().movedim(dim, -1)
        for unit in units:
            changed[..., unit] = values[unit]
        changed = changed.movedim(-1, dim)
        return changed if isinstance(output, Tensor) else (changed, *output[1:])

    handle = module.get_submodule(layer).register_forward_hook(hook)
    try:
        with torch.no_grad():
            return module(inputs.clone())
    finally:
        handle.remove()


def removed(module: nn.Module, layer: str | Layer, data: object, sets: object = None, value: object = "zero") -> Tensor:
    """The classes (S, N) that are predicted without each set of units, of all batches together."""
    return without(module, layer, data, sets, value)[0]


def without(
    module: nn.Module, layer: str | Layer, data: object, sets: object = None, value: object = "zero"
) -> tuple[Tensor, Tensor]:
    """The same, and the probabilities of the labels."""
    found = list(predictions(Above(module, layer), data, sets, value))  # type: ignore[arg-type]
    return torch.cat([one.removed for one in found], 1), torch.cat([one.confidence_removed for one in found], 1)

"""What a method puts on a layer within the model, against layer-by-layer computations and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close
from torchvision.models.resnet import BasicBlock, ResNet

import visavis as vv
from oracles import layerwise
from visavis.errors import InputError


def chain() -> nn.Sequential:
    torch.manual_seed(3)
    return (
        nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(5, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(24, 7),
            nn.ReLU(),
            nn.Linear(7, 4),
        )
        .double()
        .eval()
    )


def z_plus_to(module: nn.Sequential, at: int, inputs: Tensor, seed: Tensor) -> Tensor:
    """Relevance of what layer `at` returns, by z⁺ through the layers above it, one after the other."""
    steps, _ = layerwise.forward(module, inputs)
    relevance = seed
    for layer, x in reversed(steps[at + 1 :]):
        if isinstance(layer, nn.Conv2d):
            relevance = layerwise.convolution_plus(layer, x, relevance)
        elif isinstance(layer, nn.Linear):
            relevance = layerwise.linear_plus(layer.weight, x, relevance)
        elif isinstance(layer, nn.MaxPool2d):
            relevance = layerwise.max_pool(layer, x, relevance)
        elif isinstance(layer, nn.Flatten):
            relevance = relevance.view_as(x)
    return relevance


@pytest.mark.parametrize("at", [0, 1, 2, 4, 5, 7, 8])
def test_layer_by_layer(at: int) -> None:
    """At every layer of a chain, for LRP and for the contrast of CLRP1 and of two classes."""
    module, inputs = chain(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    logits = module(inputs).detach()
    seed = functional.one_hot(torch.tensor([2, 2]), 4) * logits.abs()
    others = (1 - functional.one_hot(torch.tensor([2, 2]), 4)) * seed.sum(1, keepdim=True) / 3
    foil = functional.one_hot(torch.tensor([1, 1]), 4) * seed.sum(1, keepdim=True)
    own, rest, against = (z_plus_to(module, at, inputs, one.double()) for one in (seed, others, foil))
    options = {"rules": "deep-taylor", "bounds": (0, 1)}
    before = copy.deepcopy(module.state_dict())
    assert_close(vv.LRP(module, **options).attribute_at(str(at), inputs, 2), own, rtol=1e-10, atol=1e-12)
    signed = vv.CLRP(module, signed=True, **options).attribute_at(str(at), inputs, 2)
    assert_close(signed, own - rest, rtol=1e-10, atol=1e-12)
    unsigned = vv.CLRP(module, **options).attribute_at(module[at], inputs, 2)
    assert_close(unsigned, (own - rest).clamp(min=0), rtol=1e-10, atol=1e-12)
    contrast = vv.CLRP(module, foil=1, signed=True, **options).attribute_at(str(at), inputs, 2)
    assert_close(contrast, own - against, rtol=1e-10, atol=1e-12)
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("layer", ["conv1", "bn1", "maxpool", "layer1", "layer2.0.bn1", "layer3", "layer4", "avgpool"])
def test_lrp_0_is_activation_times_gradient(layer: str) -> None:
    """In a network with sums, batch norm without shift and ReLU, at every layer."""
    torch.manual_seed(0)
    module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5).double().eval()
    nn.init.zeros_(module.fc.bias)
    inputs = torch.rand(2, 3, 33, 33, dtype=torch.float64)
    seen: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    logits = module(inputs)
    handle.remove()

    def replaced(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return activation.clone()  # what follows may write to it

    activation = seen[0].detach().requires_grad_()
    handle = module.get_submodule(layer).register_forward_hook(replaced)
    again = module(inputs)
    handle.remove()
    assert_close(again, logits)
    (gradient,) = torch.autograd.grad(again[:, 3].sum(), activation)
    sign = logits[:, 3].sign().view(-1, *(1,) * (activation.dim() - 1)).detach()
    found = vv.LRP(module, rules="zero").attribute_at(layer, inputs, 3)
    assert_close(found, activation.detach() * gradient * sign, rtol=1e-8, atol=1e-12)
    plain = vv.Gradient(module).attribute_at(layer, inputs, 3)
    assert_close(plain, gradient, rtol=1e-8, atol=1e-12)


def test_conserved_on_its_way() -> None:
    """Without offsets z⁺ puts on every layer what the seed puts on the output."""
    module = chain()
    for part in module:
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.zeros_(part.bias)
    inputs = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    method = vv.LRP(module, rules="deep-taylor", bounds=(0, 1), seed="one")
    sums = [float(method.attribute_at(str(at), inputs, 0).sum()) for at in (1, 2, 5, 8)]
    assert sums == pytest.approx([1, 1, 1, 1], abs=1e-9)


def test_refusals() -> None:
    module, inputs = chain(), torch.rand(1, 3, 8, 8, dtype=torch.float64)
    with pytest.raises(InputError, match="nowhere"):
        vv.LRP(module).attribute_at("nowhere", inputs, 0)
    relu = nn.ReLU()
    shared = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2))
    with pytest.raises(InputError, match="called 2 times"):
        vv.LRP(shared).attribute_at("1", torch.rand(1, 4), 0)

"""The oracle that costs nothing: in a ReLU network without biases LRP-0 is gradient times input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

import visavis as vv
from visavis.propagation.rules import ZPlus

Build = Callable[[], nn.Module]

NETWORKS: dict[str, tuple[Build, int]] = {
    "alexnet": (lambda: models.alexnet(weights=None), 64),
    "vgg11": (lambda: narrow_vgg(models.vgg11), 48),
    "vgg13_bn": (lambda: narrow_vgg(models.vgg13_bn), 48),
    "squeezenet1_1": (lambda: models.squeezenet1_1(weights=None), 64),
    "googlenet": (
        lambda: models.googlenet(weights=None, init_weights=False, aux_logits=False, transform_input=False),
        64,
    ),
    "inception_v3": (
        lambda: models.inception_v3(weights=None, init_weights=False, aux_logits=False, transform_input=False),
        80,
    ),
    "resnet18": (lambda: models.resnet18(weights=None), 48),
    "resnet50": (lambda: models.resnet50(weights=None), 48),
    "resnext50_32x4d": (lambda: models.resnext50_32x4d(weights=None), 48),
    "densenet121": (lambda: models.densenet121(weights=None), 48),
    "mnasnet0_5": (lambda: models.mnasnet0_5(weights=None), 48),
    "regnet_x_400mf": (lambda: models.regnet_x_400mf(weights=None), 48),
    "shufflenet_v2_x1_0": (lambda: models.shufflenet_v2_x1_0(weights=None), 48),
}

CONSERVING: dict[str, tuple[Build, int]] = {
    name: NETWORKS[name]
    for name in (
        "alexnet",
        "vgg11",
        "squeezenet1_1",
        "resnet18",
        "resnext50_32x4d",
        "densenet121",
        "regnet_x_400mf",
    )
} | {
    "vgg11_bn": (lambda: narrow_vgg(models.vgg11_bn), 48),
    # torchvision's own, tiny weights: an absolute stabiliser swallows what little is there.
    "googlenet": (
        lambda: models.googlenet(weights=None, init_weights=True, aux_logits=False, transform_input=False),
        64,
    ),
    "inception_v3": (
        lambda: models.inception_v3(weights=None, init_weights=True, aux_logits=False, transform_input=False),
        80,
    ),
}


#: Which take long; the quick ones have every kind of layer among them.
LONG = {"googlenet", "inception_v3", "resnet50", "resnext50_32x4d", "densenet121", "regnet_x_400mf"}


def marked(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow if name in LONG else ())


def narrow_vgg(build: Callable[..., nn.Module]) -> nn.Module:
    """The features of a VGG, initialised as torchvision does, under last layers a thirtieth of the size."""
    with torch.device("meta"):
        features = build(weights=None).features
    features = features.to_empty(device="cpu")
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
    classifier = nn.Sequential(nn.Linear(512 * 49, 128), nn.ReLU(True), nn.Dropout(), nn.Linear(128, 100))
    return nn.Sequential(features, nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(), classifier)


def without_bias(module: nn.Module) -> nn.Module:
    """In float64 and evaluation mode; every offset zero, the scales of batch normalisation random."""
    module = module.double().eval().requires_grad_(False)
    for part in module.modules():
        if isinstance(getattr(part, "bias", None), Tensor):
            part.bias.zero_()
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.zero_()
            part.running_var.uniform_(0.5, 2.0)
            part.weight.uniform_(0.5, 1.5)
    return module


def gradient_times_input(module: nn.Module, inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(x * dS/dx, S) for the score S of each sample's target."""
    x = inputs.clone().requires_grad_()
    scores = module(x)[torch.arange(len(x)), target]
    (gradient,) = torch.autograd.grad(scores.sum(), x)
    return inputs * gradient, scores.detach()


def assert_gradient_times_input(module: nn.Module, inputs: Tensor) -> None:
    with torch.no_grad():
        logits = module(inputs)
    target = torch.stack([logits[0].argmax(), logits[1].argmin()])
    expected, scores = gradient_times_input(module, inputs, target)
    # The seed is |S|, not S.
    expected = expected * scores.sign().reshape(-1, 1, 1, 1)
    found = vv.LRP(module, rules="zero").attribute(inputs, target=target)
    scale = expected.abs().flatten(1).amax(1).reshape(-1, 1, 1, 1)
    assert scale[0] > 0
    scale = scale.where(scale > 0, torch.ones_like(scale))
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", list(map(marked, NETWORKS)))
def test_zero_rule_is_gradient_times_input(name: str) -> None:
    torch.manual_seed(0)
    build, size = NETWORKS[name]
    module = without_bias(build())
    assert_gradient_times_input(module, torch.randn(2, 3, size, size, dtype=torch.float64))


class Functional(nn.Module):
    """What hooks on modules do not see: functional calls, a layer used twice, sums, splits, loops."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.shared = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.last = nn.Linear(16, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        for _ in range(2):
            x = functional.relu_(self.shared(x)) + x
        left, right = torch.split(functional.max_pool2d(x, 2), 4, dim=1)
        x = torch.cat((left - 0.5 * right, left.add(right), left, right / 3), dim=1)
        return self.last(functional.leaky_relu(x, 0.1).mean(dim=(2, 3)))


def test_zero_rule_is_gradient_times_input_without_modules() -> None:
    torch.manual_seed(0)
    module = without_bias(Functional())
    assert_gradient_times_input(module, torch.randn(2, 3, 12, 12, dtype=torch.float64))


@pytest.mark.parametrize("rules", ["zero", "gradient-times-input"])
@pytest.mark.parametrize("name", list(map(marked, ["alexnet", "resnet18", "googlenet"])))
def test_biases_in_the_denominators_keep_it_so(name: str, rules: str) -> None:
    """R_j / z_j is the gradient at z_j, bias or not, wherever batch normalisation folds into a layer."""
    torch.manual_seed(0)
    build, size = NETWORKS[name]
    module = without_bias(build())
    for part in module.modules():
        if isinstance(getattr(part, "bias", None), Tensor):
            part.bias.normal_(0.0, 0.1)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0.0, 0.1)
    inputs, target = torch.randn(2, 3, size, size, dtype=torch.float64), torch.tensor([1, 5])
    expected, scores = gradient_times_input(module, inputs, target)
    expected = expected * scores.sign().reshape(-1, 1, 1, 1)
    found = vv.LRP(module, rules=rules).attribute(inputs, target=target)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize("name", list(map(marked, CONSERVING)))
def test_z_plus_conserves_relevance(name: str) -> None:
    torch.manual_seed(0)
    build, size = CONSERVING[name]
    module = build().eval().requires_grad_(False)
    inputs = torch.randn(2, 3, size, size)
    logits = module(inputs)
    target = torch.tensor([logits[0].argmax().item(), 3])
    rules = vv.RuleSet(name="z-plus-everywhere", default=ZPlus(), pixel=None, share="absolute")
    found = vv.LRP(module, rules=rules).attribute(inputs, target=target)
    assert (found >= 0).all()
    scores = logits[torch.arange(2), target].abs()
    kept = found.sum((1, 2, 3))[scores > 0] / scores[scores > 0]
    torch.testing.assert_close(kept, torch.ones_like(kept), rtol=0, atol=0.01)

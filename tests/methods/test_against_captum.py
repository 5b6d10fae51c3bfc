"""Gradients, Guided Backpropagation, DeConvNet and LRP equal captum's where captum is right."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import visavis as vv
from visavis.propagation.rules import Epsilon

captum_attr = pytest.importorskip("captum.attr")
captum_rules = pytest.importorskip("captum.attr._utils.lrp_rules")

close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)


class WithModules(nn.Module):
    """A small AlexNet-like network, each ReLU a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 10, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(10 * 9, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class WithFunctions(WithModules):
    """The same network and weights, with every ReLU, pooling and dropout a function call."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.features[0](x)), 3, 2)
        x = functional.relu(self.features[3](x))
        x = functional.avg_pool2d(torch.relu_(self.features[5](x)), 2)
        x = functional.dropout(x.flatten(1), 0.5, self.training)
        return self.classifier[4](self.classifier[1](x).relu())


@pytest.fixture
def with_modules() -> nn.Module:
    torch.manual_seed(0)
    module = WithModules().double().eval().requires_grad_(False)
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, 0.0, 0.1)
    return module


@pytest.fixture
def with_functions(with_modules: nn.Module) -> nn.Module:
    module = WithFunctions().double().eval().requires_grad_(False)
    module.load_state_dict(with_modules.state_dict())
    return module


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(3, 3, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


TARGET = torch.tensor([0, 3, 5])

METHODS: dict[str, tuple[Callable[..., object], Callable[[nn.Module, Tensor], Tensor]]] = {
    "gradient": (
        vv.Gradient,
        lambda module, x: captum_attr.Saliency(module).attribute(x, target=TARGET, abs=False),
    ),
    "input-x-gradient": (
        vv.InputXGradient,
        lambda module, x: captum_attr.InputXGradient(module).attribute(x, target=TARGET),
    ),
    "deconvnet": (
        vv.DeConvNet,
        lambda module, x: captum_attr.Deconvolution(module).attribute(x, target=TARGET),
    ),
    "guided-backprop": (
        vv.GuidedBackprop,
        lambda module, x: captum_attr.GuidedBackprop(module).attribute(x, target=TARGET),
    ),
}


def by_captum(attribute: Callable[[nn.Module, Tensor], Tensor], module: nn.Module, x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attribute(copy.deepcopy(module), x.clone().requires_grad_()).detach()


@pytest.mark.parametrize("name", METHODS)
def test_on_modules_equals_captum(name: str, with_modules: nn.Module, inputs: Tensor) -> None:
    ours, captums = METHODS[name]
    found = ours(with_modules).attribute(inputs, target=TARGET)
    close(found, by_captum(captums, with_modules, inputs))


@pytest.mark.parametrize("name", METHODS)
def test_functions_and_modules_are_explained_alike(
    name: str, with_modules: nn.Module, with_functions: nn.Module, inputs: Tensor
) -> None:
    ours, _ = METHODS[name]
    close(with_functions(inputs), with_modules(inputs))
    close(
        ours(with_functions).attribute(inputs, target=TARGET),
        ours(with_modules).attribute(inputs, target=TARGET),
    )


@pytest.mark.parametrize("name", ["deconvnet", "guided-backprop"])
def test_captum_misses_relus_that_are_functions(name: str, with_functions: nn.Module, inputs: Tensor) -> None:
    """captum hooks nn.ReLU modules: where relu is a function it finds none, and returns the gradient."""
    _, captums = METHODS[name]
    theirs = by_captum(captums, with_functions_without_relu_modules(with_functions), inputs)
    gradient = by_captum(METHODS["gradient"][1], with_functions, inputs)
    close(theirs, gradient)
    ours = METHODS[name][0](with_functions).attribute(inputs, target=TARGET)
    assert (ours - theirs).abs().max() > 0.1 * gradient.abs().max()


def with_functions_without_relu_modules(module: nn.Module) -> nn.Module:
    """The idle ReLU modules removed, to leave no doubt that they play no part."""
    bare = copy.deepcopy(module)
    for sequence in (bare.features, bare.classifier):
        for i, layer in enumerate(sequence):
            if isinstance(layer, nn.ReLU):
                sequence[i] = nn.Identity()
    return bare


@pytest.mark.parametrize("epsilon", [1e-6, 0.05])
def test_epsilon_rule_equals_captums(epsilon: float, with_modules: nn.Module, inputs: Tensor) -> None:
    """captum propagates S, ours |S|; its pooling rule must be given an epsilon that does not count."""
    peer = copy.deepcopy(with_modules)
    for layer in peer.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.rule = captum_rules.EpsilonRule(epsilon)
        elif isinstance(layer, (nn.AvgPool2d, nn.MaxPool2d)):
            layer.rule = captum_rules.EpsilonRule(1e-30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = captum_attr.LRP(peer).attribute(inputs.clone().requires_grad_(), target=TARGET).detach()
    scores = with_modules(inputs)[torch.arange(3), TARGET]
    rules = vv.RuleSet(name="epsilon-everywhere", default=Epsilon(epsilon), share="signed")
    found = vv.LRP(with_modules, rules=rules).attribute(inputs, target=TARGET)
    expected = expected * scores.sign().reshape(-1, 1, 1, 1)
    scale = expected.abs().amax((1, 2, 3), keepdim=True)
    assert (scale > 1e-3).all()
    close(found / scale, expected / scale, rtol=0, atol=1e-6)

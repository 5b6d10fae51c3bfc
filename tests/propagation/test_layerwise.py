"""CLRP of whole networks against the layer-by-layer computation, and what a contrast is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import visavis as vv
from oracles import layerwise

LOW, HIGH = -2.1179, 2.64
BOUNDS = (LOW, HIGH)
DUALS = {"others": layerwise.others_relevance, "negated": layerwise.negated_relevance}


def randomised(module: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, with biases that are not zero."""
    module = module.double().eval().requires_grad_(False)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            parameter.normal_(0.0, 0.05)
    return module


def build_alexnet() -> tuple[nn.Module, int]:
    return randomised(models.alexnet(weights=None)), 224


def build_vgg11() -> tuple[nn.Module, int]:
    """At 64 pixels the adaptive pooling spreads 2 x 2 over 7 x 7; narrow last layers keep the test small."""
    with torch.device("meta"):
        features = models.vgg11(weights=None).features
    features = features.to_empty(device="cpu")
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 128),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(128, 64),
        nn.ReLU(True),
        nn.Linear(64, 20),
    )
    return randomised(nn.Sequential(features, nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(), classifier)), 64


class Network:
    """A network, two pictures, as targets the highest and the lowest logit's class; maps computed once."""

    def __init__(self, module: nn.Module, size: int) -> None:
        self.module = module
        self.inputs = torch.empty(2, 3, size, size, dtype=torch.float64).uniform_(LOW, HIGH)
        logits = module(self.inputs)
        self.target = torch.stack([logits[0].argmax(), logits[1].argmin()])

    @functools.cached_property
    def relevance(self) -> Tensor:
        return layerwise.target_relevance(self.module, self.inputs, self.target, LOW, HIGH)


@pytest.fixture(scope="module", params=[build_alexnet, build_vgg11], ids=["alexnet", "vgg11"])
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    return Network(*request.param())


@pytest.fixture
def small() -> tuple[nn.Module, Tensor, Tensor]:
    """A small convolutional network with ten classes."""
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 10),
    )
    inputs = torch.empty(3, 3, 12, 12, dtype=torch.float64).uniform_(LOW, HIGH)
    module = randomised(module)
    logits = module(inputs)
    return module, inputs, torch.stack([logits[0].argmax(), logits[1].argmin(), torch.tensor(3)])


def assert_relevance(found: Tensor, expected: Tensor, tolerance: float = 1e-6) -> None:
    """To `tolerance`, relative to each map's largest value."""
    scale = expected.abs().flatten(1).amax(1).reshape(-1, *[1] * (expected.ndim - 1))
    assert (scale > 0).all()
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=tolerance)


def seed_map(small: tuple[nn.Module, Tensor, Tensor], make: Callable[[Tensor], Tensor]) -> Tensor:
    module, inputs, _ = small
    steps, logits = layerwise.forward(module, inputs)
    return layerwise.backward(steps, make(logits), LOW, HIGH)


def test_relevance_of_the_target(network: Network) -> None:
    options = {"rules": "deep-taylor", "bounds": BOUNDS}
    found = vv.LRP(network.module, **options).attribute(network.inputs, target=network.target)
    assert_relevance(found, network.relevance)


@pytest.mark.parametrize("foil", DUALS)
def test_contrast(network: Network, foil: str) -> None:
    module, inputs, target = network.module, network.inputs, network.target
    expected = network.relevance - DUALS[foil](module, inputs, target, LOW, HIGH)
    signed = vv.CLRP(module, foil=foil, bounds=BOUNDS, signed=True).attribute(inputs, target=target)
    assert_relevance(signed, expected)
    clipped = vv.CLRP(module, foil=foil, bounds=BOUNDS).attribute(inputs, target=target)
    assert_relevance(clipped, expected.clamp(min=0))
    assert (clipped >= 0).all()


def test_deep_taylor_is_that_rule_set(small: tuple[nn.Module, Tensor, Tensor]) -> None:
    module, inputs, target = small
    found = vv.DeepTaylor(module, bounds=BOUNDS).attribute(inputs, target=target)
    assert_relevance(found, layerwise.target_relevance(module, inputs, target, LOW, HIGH))


def test_one_pass_equals_two(small: tuple[nn.Module, Tensor, Tensor]) -> None:
    module, inputs, target = small
    lrp = vv.LRP(module, rules="deep-taylor", bounds=BOUNDS)
    own = lrp.attribute(inputs, target=lambda logits: layerwise.score_seed(logits, target))
    dual = lrp.attribute(inputs, target=lambda logits: layerwise.others_seed(logits, target))
    for signed in (True, False):
        found = vv.CLRP(module, foil="others", bounds=BOUNDS, signed=signed).attribute(inputs, target=target)
        assert_relevance(found, own - dual if signed else (own - dual).clamp(min=0))


def test_an_integer_target_is_every_samples_target(small: tuple[nn.Module, Tensor, Tensor]) -> None:
    module, inputs, _ = small
    clrp = vv.CLRP(module, bounds=BOUNDS)
    assert_relevance(clrp.attribute(inputs, target=4), clrp.attribute(inputs, target=torch.full((3,), 4)), 1e-12)


def test_foil_is_one_class(small: tuple[nn.Module, Tensor, Tensor]) -> None:
    module, inputs, target = small
    foil = next(k for k in range(10) if k not in target.tolist())

    def dual_seed(logits: Tensor) -> Tensor:
        seed = torch.zeros_like(logits)
        seed[:, foil] = layerwise.score_seed(logits, target).sum(1)
        return seed

    own = layerwise.target_relevance(module, inputs, target, LOW, HIGH)
    found = vv.CLRP(module, foil=foil, bounds=BOUNDS, signed=True).attribute(inputs, target=target)
    assert_relevance(found, own - seed_map(small, dual_seed))


def test_foil_is_several_classes(small: tuple[nn.Module, Tensor, Tensor]) -> None:
    module, inputs, target = small
    foil = sorted(set(range(10)) - set(target.tolist()))[:3]

    def dual_seed(logits: Tensor) -> Tensor:
        seed = torch.zeros_like(logits)
        seed[:, foil] = layerwise.score_seed(logits, target).sum(1, keepdim=True) / 3
        return seed

    own = layerwise.target_relevance(module, inputs, target, LOW, HIGH)
    found = vv.CLRP(module, foil=foil, bounds=BOUNDS, signed=True).attribute(inputs, target=target)
    assert_relevance(found, own - seed_map(small, dual_seed))


def test_foil_is_the_runner_up(small: tuple[nn.Module, Tensor, Tensor]) -> None:
    module, inputs, target = small

    def dual_seed(logits: Tensor) -> Tensor:
        seed = torch.zeros_like(logits)
        for b, row in enumerate(logits.tolist()):
            order = sorted(range(len(row)), key=row.__getitem__, reverse=True)
            runner_up = next(k for k in order if k != target[b])
            seed[b, runner_up] = abs(row[target[b]])
        return seed

    own = layerwise.target_relevance(module, inputs, target, LOW, HIGH)
    found = vv.CLRP(module, foil="runner-up", bounds=BOUNDS, signed=True).attribute(inputs, target=target)
    assert_relevance(found, own - seed_map(small, dual_seed))


def logits_seed(logits: Tensor, target: Tensor) -> Tensor:
    """|logit_k| on the other classes, scaled to sum to |S_j|."""
    rows = torch.arange(len(logits))
    seed = logits.abs().clone()
    seed[rows, target] = 0.0
    return seed / seed.sum(1, keepdim=True) * logits[rows, target].abs().unsqueeze(1)


def test_foil_is_the_others_by_logit(small: tuple[nn.Module, Tensor, Tensor]) -> None:
    module, inputs, target = small
    own = layerwise.target_relevance(module, inputs, target, LOW, HIGH)
    dual = seed_map(small, lambda logits: logits_seed(logits, target))
    found = vv.CLRP(module, foil="logits", bounds=BOUNDS, signed=True).attribute(inputs, target=target)
    assert_relevance(found, own - dual)


def test_foil_is_a_callable(small: tuple[nn.Module, Tensor, Tensor]) -> None:
    """It weighs the other classes; what it says of the target itself is ignored."""
    module, inputs, target = small

    def dual_seed(logits: Tensor) -> Tensor:
        rows = torch.arange(len(logits))
        seed = logits.softmax(1)
        seed[rows, target] = 0.0
        return seed / seed.sum(1, keepdim=True) * logits[rows, target].abs().unsqueeze(1)

    own = layerwise.target_relevance(module, inputs, target, LOW, HIGH)
    found = vv.CLRP(module, foil=lambda logits: logits.softmax(1), bounds=BOUNDS, signed=True)
    assert_relevance(found.attribute(inputs, target=target), own - seed_map(small, dual_seed))


@pytest.mark.parametrize("foil", ["others", "negated", "logits"])
@pytest.mark.parametrize("signed", [True, False])
def test_each_map_is_divided_by_its_own_sum(small: tuple[nn.Module, Tensor, Tensor], foil: str, signed: bool) -> None:
    module, inputs, target = small
    own = layerwise.target_relevance(module, inputs, target, LOW, HIGH)
    if foil == "logits":
        dual = seed_map(small, lambda logits: logits_seed(logits, target))
    else:
        dual = DUALS[foil](module, inputs, target, LOW, HIGH)
    own, dual = (r / r.sum((1, 2, 3), keepdim=True) for r in (own, dual))
    expected = own - dual if signed else (own - dual).clamp(min=0)
    clrp = vv.CLRP(module, foil=foil, bounds=BOUNDS, signed=signed, normalize="sum")
    assert_relevance(clrp.attribute(inputs, target=target), expected)


@pytest.mark.parametrize("foil", ["others", "negated"])
def test_seed_of_one(small: tuple[nn.Module, Tensor, Tensor], foil: str) -> None:
    module, inputs, target = small
    scores = layerwise.score_seed(module(inputs), target).sum(1).reshape(-1, 1, 1, 1)
    by_score = vv.CLRP(module, foil=foil, bounds=BOUNDS).attribute(inputs, target=target)
    by_one = vv.CLRP(module, foil=foil, bounds=BOUNDS, seed="one").attribute(inputs, target=target)
    assert_relevance(by_one, by_score / scores)


def test_a_negative_logit_does_not_turn_the_map_inside_out(small: tuple[nn.Module, Tensor, Tensor]) -> None:
    module, inputs, _ = small
    positive = vv.CLRP(module, bounds=BOUNDS, seed="one", signed=True)
    before = positive.attribute(inputs, target=4)
    # z+ ignores biases: moving one moves the logit and leaves the maps, but for their size.
    module[-1].bias[4] -= 100.0
    assert (module(inputs)[:, 4] < 0).all()
    assert_relevance(positive.attribute(inputs, target=4), before)
    scores = module(inputs)[:, 4].abs().reshape(-1, 1, 1, 1)
    by_score = vv.CLRP(module, bounds=BOUNDS, signed=True).attribute(inputs, target=4)
    assert_relevance(by_score, before * scores)


def test_the_users_logits_are_not_touched(small: tuple[nn.Module, Tensor, Tensor]) -> None:
    module, inputs, target = small
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs))
    try:
        expected = module(inputs).clone()
        for foil in ("others", "negated", "logits"):
            vv.CLRP(module, foil=foil, bounds=BOUNDS).attribute(inputs, target=target)
    finally:
        handle.remove()
    assert len(seen) > 1
    for logits in seen:
        torch.testing.assert_close(logits.detach(), expected, rtol=0, atol=0)

"""LRP and CLRP on VGG16 equal those of zennit, once it is set to the same conventions."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import visavis as vv

zennit_attribution = pytest.importorskip("zennit.attribution")
zennit_composites = pytest.importorskip("zennit.composites")
zennit_rules = pytest.importorskip("zennit.rules")
zennit_types = pytest.importorskip("zennit.types")

LOW, HIGH = -2.1179, 2.64
# zennit adds its stabiliser to every denominator; ours guards exact zeros alone.
TINY = 1e-30


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Tensor, Tensor]:
    """VGG16 with random weights in float64, at 32 pixels and with narrow last layers to keep it quick."""
    torch.manual_seed(0)
    with torch.device("meta"):
        features = models.vgg16(weights=None).features
    features = features.to_empty(device="cpu")
    classifier = [
        nn.Linear(512 * 49, 96),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(96, 48),
        nn.ReLU(),
        nn.Linear(48, 12),
    ]
    module = nn.Sequential(features, nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(), *classifier)
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, 0.0, 0.05)
        elif isinstance(layer, nn.ReLU):
            layer.inplace = False
    module = module.double().eval().requires_grad_(False)
    inputs = torch.empty(2, 3, 32, 32, dtype=torch.float64).uniform_(LOW, HIGH)
    logits = module(inputs)
    return module, inputs, torch.stack([logits[0].argmax(), logits[1].argmin()])


def epsilon() -> object:
    return zennit_composites.LayerMapComposite(
        [
            (zennit_types.Activation, zennit_rules.Pass()),
            (zennit_types.AvgPool, zennit_rules.Norm(stabilizer=TINY)),
            ((zennit_types.Convolution, zennit_types.Linear), zennit_rules.Epsilon(1e-6)),
        ]
    )


def epsilon_plus() -> object:
    return zennit_composites.LayerMapComposite(
        [
            (zennit_types.Activation, zennit_rules.Pass()),
            (zennit_types.AvgPool, zennit_rules.Norm(stabilizer=TINY)),
            (zennit_types.Convolution, zennit_rules.ZPlus(stabilizer=TINY, zero_params="bias")),
            (zennit_types.Linear, zennit_rules.Epsilon(1e-6)),
        ]
    )


def epsilon_gamma_box() -> object:
    return zennit_composites.SpecialFirstLayerMapComposite(
        [
            (zennit_types.Activation, zennit_rules.Pass()),
            (zennit_types.AvgPool, zennit_rules.Norm(stabilizer=TINY)),
            (zennit_types.Convolution, zennit_rules.Gamma(0.25, stabilizer=TINY)),
            (zennit_types.Linear, zennit_rules.Epsilon(1e-6)),
        ],
        [(zennit_types.Convolution, box())],
    )


def alpha2_beta1() -> object:
    rule = zennit_rules.AlphaBeta(2.0, 1.0, stabilizer=TINY, zero_params="bias")
    return zennit_composites.LayerMapComposite(
        [
            (zennit_types.Activation, zennit_rules.Pass()),
            (zennit_types.AvgPool, zennit_rules.Norm(stabilizer=TINY)),
            ((zennit_types.Convolution, zennit_types.Linear), rule),
        ]
    )


def deep_taylor() -> object:
    rule = zennit_rules.ZPlus(stabilizer=TINY, zero_params="bias")
    return zennit_composites.SpecialFirstLayerMapComposite(
        [
            (zennit_types.Activation, zennit_rules.Pass()),
            (zennit_types.AvgPool, zennit_rules.Norm(stabilizer=TINY)),
            ((zennit_types.Convolution, zennit_types.Linear), rule),
        ],
        [(zennit_types.Convolution, box())],
    )


def box() -> object:
    low, high = (torch.full((1, 3, 1, 1), bound, dtype=torch.float64) for bound in (LOW, HIGH))
    return zennit_rules.ZBox(low, high, stabilizer=TINY, zero_params="bias")


COMPOSITES: dict[str, Callable[[], object]] = {
    "epsilon": epsilon,
    "epsilon-plus": epsilon_plus,
    "epsilon-gamma-box": epsilon_gamma_box,
    "alpha2-beta1": alpha2_beta1,
    "deep-taylor": deep_taylor,
}


def by_zennit(module: nn.Module, composite: object, inputs: Tensor, seed: Tensor) -> Tensor:
    with (
        warnings.catch_warnings(),
        zennit_attribution.Gradient(module, composite) as attributor,
    ):
        warnings.simplefilter("ignore")
        _, relevance = attributor(inputs.clone().requires_grad_(), seed)
    return relevance.detach()


def one_hot(logits: Tensor, target: Tensor) -> Tensor:
    rows = torch.arange(len(logits))
    seed = torch.zeros_like(logits)
    seed[rows, target] = logits[rows, target].abs()
    return seed


def assert_relevance(found: Tensor, expected: Tensor) -> None:
    scale = expected.abs().flatten(1).amax(1).reshape(-1, 1, 1, 1)
    assert (scale > 0).all()
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rules", COMPOSITES)
def test_relevance_equals_zennits(network: tuple[nn.Module, Tensor, Tensor], rules: str) -> None:
    module, inputs, target = network
    seed = one_hot(module(inputs), target)
    expected = by_zennit(module, COMPOSITES[rules](), inputs, seed)
    bounds = (LOW, HIGH) if rules in ("epsilon-gamma-box", "deep-taylor") else None
    assert_relevance(vv.LRP(module, rules=rules, bounds=bounds).attribute(inputs, target=target), expected)


@pytest.mark.slow
def test_contrast_with_the_others_equals_two_passes_of_zennit(
    network: tuple[nn.Module, Tensor, Tensor],
) -> None:
    module, inputs, target = network
    seed = one_hot(module(inputs), target)
    dual_seed = torch.where(seed > 0, 0.0, seed.sum(1, keepdim=True) / (seed.shape[1] - 1))
    own, dual = (by_zennit(module, deep_taylor(), inputs, s) for s in (seed, dual_seed))
    for signed in (True, False):
        clrp = vv.CLRP(module, foil="others", bounds=(LOW, HIGH), signed=signed)
        expected = own - dual if signed else (own - dual).clamp(min=0)
        assert_relevance(clrp.attribute(inputs, target=target), expected)


@pytest.mark.slow
def test_contrast_with_the_negated_weights_equals_two_passes_of_zennit(
    network: tuple[nn.Module, Tensor, Tensor],
) -> None:
    module, inputs, target = network
    seed = one_hot(module(inputs), target)
    own = by_zennit(module, deep_taylor(), inputs, seed)
    duals = []
    for b, j in enumerate(target.tolist()):
        negated = copy.deepcopy(module)
        negated[-1].weight[j] *= -1.0
        duals.append(by_zennit(negated, deep_taylor(), inputs[b : b + 1], seed[b : b + 1]))
    dual = torch.cat(duals)
    for signed in (True, False):
        clrp = vv.CLRP(module, foil="negated", bounds=(LOW, HIGH), signed=signed)
        expected = own - dual if signed else (own - dual).clamp(min=0)
        assert_relevance(clrp.attribute(inputs, target=target), expected)

"""Which units carry a decision: against the layer-by-layer computation, plain loops, and a network built to be told."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

import visavis as vv
from oracles import layerwise
from units.networks import naive, pictures, vit
from visavis.errors import InputError, ModelError
from visavis.units import Layer, decide


def chain() -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(6, 4)).double().eval()


def test_shares_of_units() -> None:
    module, inputs = chain(), pictures(1, 8).abs()
    found = decide(module, "1", inputs, 2, 0, rules="deep-taylor", bounds=(0, 5))
    steps, logits = layerwise.forward(module, inputs)

    def of_units(k: int) -> Tensor:
        relevance = functional.one_hot(torch.tensor([k]), 4).double()
        relevance = layerwise.linear_plus(module[6].weight, steps[6].inputs, relevance)
        relevance = layerwise.linear_plus(module[4].weight, steps[4].inputs, relevance)
        return layerwise.adaptive_average(module[2], steps[2].inputs, relevance.view(1, 8, 1, 1)).sum((0, 2, 3))

    assert_close(found.relevance, of_units(2), rtol=1e-10, atol=1e-12)
    assert_close(found.foil_relevance, of_units(0), rtol=1e-10, atol=1e-12)
    assert_close(found.contrast, of_units(2) - of_units(0), rtol=1e-10, atol=1e-12)
    contrast = vv.CLRP(module, foil=0, signed=True, seed="one", rules="deep-taylor", bounds=(0, 5))
    assert_close(found.contrast, contrast.attribute_at("1", inputs, 2).sum((0, 2, 3)), rtol=1e-10, atol=1e-12)
    assert found.order.tolist() == sorted(range(8), key=lambda unit: -float(found.contrast[unit]))
    assert float(found.margins[0]) == pytest.approx(float(logits[0, 2] - logits[0, 0]))


def test_margins_against_a_plain_loop() -> None:
    module, inputs = chain(), pictures(1, 8).abs()
    before = copy.deepcopy(module.state_dict())
    found = decide(module, "1", inputs, 2, "runner-up", counts=(1, 3, 8), draws=3)
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())
    assert found.counts == (0, 1, 3, 8)
    logits = module(inputs).detach()[0]
    rest = logits.clone()
    rest[2] = -torch.inf
    assert found.foil == int(rest.argmax())
    zeros, order = torch.zeros(8, dtype=torch.float64), found.order.tolist()
    for place, count in enumerate(found.counts):
        for units, margins in ((order[:count], found.margins), (order[::-1][:count], found.margins_without_foil)):
            without = naive(module, "1", inputs, units, 1, zeros)[0]
            assert float(margins[place]) == pytest.approx(float(without[2] - without[found.foil]), abs=1e-10)
        first = naive(module, "1", inputs, order[:count], 1, zeros)[0]
        assert float(found.confidence[place]) == pytest.approx(float(first.softmax(0)[2]), abs=1e-10)
    assert found.margins_without_random.shape == (3, 4)
    assert_close(found.margins_without_random[:, 0], found.margins[:1].expand(3))
    assert_close(found.margins_without_random[:, 3], found.margins[3:].expand(3))
    assert len({tuple(row.tolist()) for row in found.margins_without_random}) > 1
    again = decide(module, "1", inputs, 2, "runner-up", counts=(1, 3, 8), draws=3)
    assert torch.equal(again.margins_without_random, found.margins_without_random)
    other = decide(module, "1", inputs, 2, "runner-up", counts=(1, 3, 8), draws=3, seed=5)
    assert not torch.equal(other.margins_without_random, found.margins_without_random)


class Carried(nn.Module):
    """Six units: 1 speaks for class A alone, 4 for class B alone, the others for both alike."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Linear(6, 6, bias=False)
        self.head = nn.Linear(6, 3, bias=False)
        with torch.no_grad():
            self.units.weight.copy_(torch.eye(6))
            self.head.weight.copy_(torch.tensor([[1.0, 3, 1, 1, 0, 1], [1.0, 0, 1, 1, 2, 1], [0.1] * 6]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.units(x).relu())


def test_a_decision_that_is_known() -> None:
    module = Carried().eval()
    classifier = vv.Classifier(module, labels=["zebra", "elephant", "cup"])
    found = decide(classifier, "units", torch.ones(1, 6), "zebra", "elephant")
    assert (found.target, found.foil) == (0, 1)
    assert found.order[0] == 1
    assert found.order[-1] == 4
    assert bool((found.contrast[[0, 2, 3, 5]].abs() < found.contrast[1] / 2).all())
    assert float(found.margins[0]) == pytest.approx(1)
    assert float(found.margins[1]) == pytest.approx(-2)
    assert float(found.margins_without_foil[1]) == pytest.approx(3)
    assert found.flips_at == 1
    assert decide(classifier, "units", torch.ones(1, 6), "zebra", "cup", counts=(1,)).flips_at is None
    assert decide(classifier, "units", torch.ones(1, 6)).target == 0


def test_of_tokens() -> None:
    module, inputs = vit(), pictures(1)
    layer = "encoder.layers.encoder_layer_1"
    found = decide(module, layer, inputs, 1, 3, counts=(2,), draws=1)
    one = vv.LRP(module, seed="one").attribute_at(layer, inputs, 1)
    assert_close(found.relevance, one.sum((0, 1)))
    units = found.order[:2].tolist()
    without = naive(module, layer, inputs, units, 2, torch.zeros(12))[0]
    assert float(found.margins[1]) == pytest.approx(float(without[1] - without[3]), abs=1e-9)


def test_refusals() -> None:
    module, inputs = chain(), pictures(1, 8)
    with pytest.raises(InputError, match="both class 2"):
        decide(module, "1", inputs, 2, 2)
    with pytest.raises(InputError, match="between two classes"):
        decide(module, "1", inputs, 2, None)
    with pytest.raises(InputError, match="not a batch of 2"):
        decide(module, "1", pictures(2, 8))
    with pytest.raises(InputError, match="cannot be removed: 9"):
        decide(module, "1", inputs, counts=(9,))
    with pytest.raises(InputError, match="at least once"):
        decide(module, "1", inputs, draws=0)
    with pytest.raises(InputError, match="leave out the basis"):
        decide(module, Layer("1", basis=torch.eye(8)), inputs)
    with pytest.raises(InputError, match="and heads"):
        decide(vit(), Layer("encoder.layers.encoder_layer_1.self_attention", heads=True), pictures(1))
    with pytest.raises(InputError, match="leave out call="):
        decide(module, Layer("1", call=0), inputs)
    nn.init.constant_(module[6].bias, math.nan)
    with pytest.raises(ModelError, match="NaN or infinite"):
        decide(module, "1", inputs)


def test_a_layer_that_returns_what_relevance_does_not_pass() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.detach().abs() * 0.1, x * 2

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two, self.head = Two(), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            first, second = self.two(x)
            return self.head(first * 0 + second)

    with pytest.raises(InputError, match="returns 2 tensors, and relevance may pass another"):
        decide(Both().eval(), "two", torch.rand(1, 6))


def test_a_tie_is_no_other_decision() -> None:
    module = Carried().eval()
    found = decide(module, "units", torch.ones(1, 6), 0, 2, counts=(6,))
    assert float(found.margins[-1]) == 0
    assert found.flips_at is None

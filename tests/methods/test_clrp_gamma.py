"""CLRP-γ: the preset against dense matrices, and against CLRP with its parts named."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from oracles import dense
from visavis.propagation.rulesets import ATTENTION, GAMMA_BOX

DOUBLE = torch.float64
LOW, HIGH = -1.5, 1.5


def network() -> nn.Sequential:
    """Two convolutions and two dense layers, with biases and ReLUs; the last weights are of both signs."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(27, 6),
        nn.ReLU(),
        nn.Linear(6, 4),
    ).double()


def pictures() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(3, 2, 5, 5, dtype=DOUBLE) * (HIGH - LOW) + LOW


def by_matrices(target: int) -> Tensor:
    """γ = 1 in the layers between, z⁺ last, zᴮ first, from a seed that is written out."""
    module, x = network(), pictures()
    seen = [x]
    with torch.no_grad():
        for layer in module:
            seen.append(layer(seen[-1]))
    scores = seen[-1]
    relevance = torch.zeros_like(scores)
    for picture, row in enumerate(scores):
        powers = [0.0 if index == target else float(score.exp()) for index, score in enumerate(row)]
        for index, power in enumerate(powers):
            share = 1.0 if index == target else -power / sum(powers)
            relevance[picture, index] = abs(float(row[target])) * share
    one = partial(dense.gamma, gamma=1.0)
    weighted = [(0, dense.z_box, {"low": LOW, "high": HIGH}), (2, one, {}), (5, one, {}), (7, dense.z_plus, {})]
    for place, rule, options in reversed(weighted):
        relevance = dense.propagate(rule, module[place], seen[place], relevance.view_as(seen[place + 1]), **options)
    return relevance.view_as(x)


@pytest.mark.parametrize("target", range(4))
def test_it_is_what_the_matrices_say(target: int) -> None:
    signed = by_matrices(target)
    assert (signed > 0).any()
    assert (signed < 0).any()
    found = vv.CLRPGamma(network(), bounds=(LOW, HIGH), signed=True).attribute(pictures(), target)
    torch.testing.assert_close(found, signed, rtol=1e-9, atol=1e-12)
    clamped = vv.CLRPGamma(network(), bounds=(LOW, HIGH)).attribute(pictures(), target)
    assert torch.equal(clamped, found.clamp(min=0))


def test_its_parts_can_be_named_and_replaced() -> None:
    module, x = network(), pictures()
    own = vv.CLRPGamma(module, bounds=(LOW, HIGH)).attribute(x, 1)
    named = vv.CLRP(module, foil="softmax", rules="gamma-box", bounds=(LOW, HIGH)).attribute(x, 1)
    assert torch.equal(own, named)
    assert vv.CLRPGamma(module).rules.name == "sharp"
    other = vv.CLRPGamma(module, foil=2, rules="deep-taylor", bounds=(LOW, HIGH)).attribute(x, 1)
    assert torch.equal(other, vv.CLRP(module, foil=2, bounds=(LOW, HIGH)).attribute(x, 1))
    assert vv.CLRP(module).foil == "others"


def test_the_paper_s_stays_the_paper_s() -> None:
    module, x = network(), pictures()
    given = vv.CLRP(module, foil="others", rules="deep-taylor", bounds=(LOW, HIGH)).attribute(x, 1)
    assert torch.equal(vv.CLRP(module, bounds=(LOW, HIGH)).attribute(x, 1), given)


def test_it_takes_the_rules_for_attention_where_the_model_has_layer_norm() -> None:
    normed = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    x = torch.randn(2, 4, dtype=DOUBLE)
    assert vv.CLRPGamma(normed).plan(x).rules == ATTENTION.name
    assert vv.CLRPGamma(network()).plan(pictures()).rules == GAMMA_BOX.name


def test_explain_leaves_a_method_its_own_foil() -> None:
    module, x = vv.Classifier(network(), bounds=(LOW, HIGH)), pictures()
    why = vv.explain(module, x, target=1, method="clrp-gamma")
    assert torch.equal(why.relevance, vv.CLRPGamma(module).attribute(x, 1))
    assert why.foils == ("other classes by probability",) * 3
    rather = vv.explain(module, x, target=1, foil=3, method="clrp-gamma")
    assert torch.equal(rather.relevance, vv.CLRPGamma(module, foil=3).attribute(x, 1))
    assert vv.explain(module, x, target=1).foils == ("all other classes",) * 3

"""What a layer absorbs, spread evenly over the receptive field: against sums written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visavis as vv
from visavis.propagation import AlphaBeta, Epsilon, Flat, Gamma, Rule, RuleSet, SameSign, Spread, ZBox, Zero, ZPlus

DOUBLE = torch.float64
RULES: list[Rule] = [Zero(), Epsilon(0.3), ZPlus(), AlphaBeta(2.0, 1.0), Gamma(0.25), SameSign(), Flat(), ZBox()]


def relevance(layer: nn.Module, x: Tensor, rules: RuleSet, seed: Tensor) -> Tensor:
    class Whole(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layer(x).flatten(1)

    return vv.LRP(Whole(), rules=rules).attribute(x, lambda outputs: seed)


def test_lrp_0_gives_each_input_its_part_of_the_bias() -> None:
    """R_i = Σ_j (c_ij + b_j / n) / z_j R_j (Bach et al. 2015)."""
    torch.manual_seed(0)
    layer, x, seed = nn.Linear(5, 3, dtype=DOUBLE), torch.randn(2, 5, dtype=DOUBLE), torch.rand(2, 3, dtype=DOUBLE)
    expected = torch.zeros_like(x)
    z = layer(x)
    for item in range(2):
        for i in range(5):
            for j in range(3):
                contribution = x[item, i] * layer.weight[j, i] + layer.bias[j] / 5
                expected[item, i] += contribution / z[item, j] * seed[item, j]
    found = relevance(layer, x, RuleSet(Zero(), share="signed", bias="spread"), seed)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-12)


def test_z_plus_spreads_what_a_unit_has_that_no_input_speaks_for() -> None:
    layer = nn.Linear(2, 2, dtype=DOUBLE)
    layer.weight.data = torch.tensor([[1.0, 3.0], [-1.0, -1.0]], dtype=DOUBLE)
    x, seed = torch.ones(1, 2, dtype=DOUBLE), torch.tensor([[0.8, 0.2]], dtype=DOUBLE)
    found = relevance(layer, x, RuleSet(ZPlus(), bias="spread"), seed)
    torch.testing.assert_close(found, torch.tensor([[0.2 + 0.1, 0.6 + 0.1]], dtype=DOUBLE))


def test_at_the_border_only_inputs_that_exist_take_a_part() -> None:
    layer = nn.Conv1d(1, 1, 3, padding=1, dtype=DOUBLE)
    layer.weight.data.fill_(-1.0)  # no output has a positive contribution
    x, seed = torch.ones(1, 1, 4, dtype=DOUBLE), torch.tensor([[6.0, 0.0, 12.0, 0.0]], dtype=DOUBLE)
    found = relevance(layer, x, RuleSet(ZPlus(), bias="spread"), seed)
    torch.testing.assert_close(found, torch.tensor([[[3.0, 3.0 + 4.0, 4.0, 4.0]]], dtype=DOUBLE))


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("share", ["signed", "absolute", "same-sign"])
def test_nothing_is_lost(rule: Rule, share: str) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm, self.layers = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LayerNorm(4)
            self.middle, self.head = nn.Conv2d(4, 4, 3, groups=2), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.norm(self.stem(x)))
            x = self.middle(x) + 0.3
            x = self.layers(x.permute(0, 2, 3, 1)).mean((1, 2))
            return self.head(F.gelu(x))

    torch.manual_seed(1)
    module, x = Network().double().eval(), torch.randn(2, 3, 6, 6, dtype=DOUBLE)
    module.layers.bias.data.normal_()
    rules = RuleSet(rule, share=share, bias="spread")  # type: ignore[arg-type]
    kept = vv.LRP(module, rules=rules).ledger(x, 1)
    assert kept.conserved == pytest.approx(1, abs=1e-9)


def test_a_rule_is_named_within() -> None:
    rules = RuleSet(ZPlus(), bias="spread")
    assert rules.rule_for("", "linear", pixel=False) == Spread(ZPlus())
    assert Spread(Zero()).reads_output
    assert not Spread(Zero()).tells_signs
    assert RuleSet(ZPlus()).rule_for("", "linear", pixel=False) == ZPlus()

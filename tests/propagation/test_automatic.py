"""The rule set that fits the model: chosen by what it does, said in the plan, and without a trace of the trial."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import visavis as vv
from visavis.propagation import ZPlus
from visavis.propagation.rulesets import ATTENTION, DEEP_TAYLOR

DOUBLE = torch.float64


class Sometimes(nn.Module):
    """Attends where its input is positive on average; counts its calls; drops values in training."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 6, dtype=DOUBLE), nn.Linear(6, 3, dtype=DOUBLE)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        tokens = self.dropout(self.embed(x))
        if x.mean() > 0:
            tokens = (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens
        return self.head(tokens.mean(1))


def tokens() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(2, 5, 4, dtype=DOUBLE) + 0.1


def test_it_is_as_if_the_rule_set_had_been_named() -> None:
    module, x = Sometimes().eval(), tokens()
    for _ in range(2):
        for sign, rules in ((1, ATTENTION), (-1, DEEP_TAYLOR)):
            method = vv.LRP(module)
            assert method.plan(sign * x).rules == rules.name
            assert torch.equal(method.attribute(sign * x, 1), vv.LRP(module, rules=rules).attribute(sign * x, 1))


def test_the_plan_says_why() -> None:
    module, x = Sometimes().eval(), tokens()
    head = str(vv.LRP(module).plan(x)).splitlines()[0]
    assert head == "rule set attention (the model attends: it multiplies activations and sums them)"
    head = str(vv.LRP(module).plan(-x)).splitlines()[0]
    assert head == "rule set deep-taylor (the model neither attends nor has layer norm)"
    normed = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    head = str(vv.LRP(normed).plan(torch.randn(2, 4))).splitlines()[0]
    assert head == "rule set attention (the model has layer norm, after which activations have both signs)"
    assert str(vv.LRP(module, rules="zero").plan(x)).splitlines()[0] == "rule set zero"


@pytest.mark.filterwarnings("ignore:the model is in training mode")
def test_the_trial_leaves_no_trace() -> None:
    module, x = Sometimes().train(), tokens()
    torch.manual_seed(3)
    expected = module(x)
    assert float(module.calls) == 1
    for _ in range(2):  # the first run has to be made twice, the second not
        torch.manual_seed(3)
        with vv.LRP(module).forward(x) as run:
            assert torch.equal(run.output, expected)
            assert run.rules == "attention"
        assert float(module.calls) == 1


def test_a_network_that_mixes_gets_the_right_rule_in_each_part() -> None:
    torch.manual_seed(0)
    module = models.MaxVit((32, 32), 8, 4, [8, 8], [1, 1], 4, 0.0).eval()
    plan = vv.LRP(module).plan(torch.randn(1, 3, 32, 32))
    by_kind: dict[str, set[str]] = {}
    layers = [call for call in plan if call.weighted is not None]
    for call in layers[1:-1]:
        by_kind.setdefault(call.operation, set()).add(call.rule)
    assert plan.rules == "attention"
    assert by_kind == {"convolution": {"SameSign()"}, "linear": {"Gamma(gamma=0.05)"}}
    assert (layers[0].rule, layers[-1].rule) == ("ZBox()", "ZPlus(bias=False)")


def test_the_last_layers_have_their_own_rule() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.right = (nn.Linear(4, 4, dtype=DOUBLE) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x).relu()
            return self.left(x) + self.right(x).abs()

    rules = vv.RuleSet(vv.propagation.Epsilon(0.1), last=ZPlus())
    plan = vv.LRP(Two(), rules=rules).plan(torch.randn(2, 4, dtype=DOUBLE))
    assert {call.module: call.rule for call in plan if call.weighted is not None} == {
        "stem": "Epsilon(epsilon=0.1)",
        "left": "ZPlus(bias=False)",
        "right": "ZPlus(bias=False)",
    }

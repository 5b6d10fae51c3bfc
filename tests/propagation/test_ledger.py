"""The ledger against shares computed by hand, and against what is missing at the input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visavis as vv
from visavis.propagation import Epsilon, Ledger, RuleSet, Visit, Zero, ZPlus, cross, register, unregister

DOUBLE = torch.float64
LRP_0 = RuleSet(Zero(), share="signed")
Z_PLUS = RuleSet(ZPlus())


def dense(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), dtype=DOUBLE)
    layer.weight.data, layer.bias.data = torch.tensor(weight, dtype=DOUBLE), torch.tensor(bias, dtype=DOUBLE)
    return layer


def ledger(module: nn.Module, x: Tensor, rules: RuleSet, target: int = 0) -> Ledger:
    return vv.LRP(module, rules=rules, seed="one").ledger(x, target)


def absorbed(found: Ledger) -> dict[str, float]:
    return {entry.module: entry.absorbed for entry in found if abs(entry.absorbed) > 1e-12}


def test_a_bias_absorbs_its_share() -> None:
    # z = 2·1 + 3·2 + 4 = 12, of which the bias is 4.
    found = ledger(dense([[2.0, 3.0]], [4.0]), torch.tensor([[1.0, 2.0]], dtype=DOUBLE), LRP_0)
    assert found.conserved == pytest.approx(8 / 12, abs=1e-12)
    assert found.absorbed == pytest.approx(4 / 12, abs=1e-12)


def test_each_layer_is_charged_with_its_own() -> None:
    # First layer: h = (1·1 + 1, 1·2 + 3) = (2, 5), biases 1 of 2 and 3 of 5; second: z = 2 + 5 + 3 = 10.
    module = nn.Sequential(dense([[1.0], [2.0]], [1.0, 3.0]), nn.ReLU(), dense([[1.0, 1.0]], [3.0]))
    found = ledger(module, torch.ones(1, 1, dtype=DOUBLE), LRP_0)
    assert absorbed(found) == pytest.approx({"2": 0.3, "0": 0.2 * 1 / 2 + 0.5 * 3 / 5}, abs=1e-12)
    arrived = {entry.module: entry.arrived for entry in found}
    assert arrived == pytest.approx({"2": 1.0, "1": 0.7, "0": 0.7}, abs=1e-12)


def test_a_unit_that_no_input_speaks_for_absorbs_all_that_it_has() -> None:
    # Unit 0: 1·1 = 1. Unit 1 fires by its bias alone: −1 + 3 = 2. z⁺ gives them 1/3 and 2/3.
    module = nn.Sequential(dense([[1.0], [-1.0]], [0.0, 3.0]), nn.ReLU(), dense([[1.0, 1.0]], [0.0]))
    found = ledger(module, torch.ones(1, 1, dtype=DOUBLE), Z_PLUS)
    assert absorbed(found) == pytest.approx({"0": 2 / 3}, abs=1e-12)
    assert found.by_module() == pytest.approx({"0": 2 / 3, "1": 0.0, "2": 0.0}, abs=1e-12)
    assert found.largest(1)[0].module == "0"


class WithToken(nn.Module):
    """A constant joined to the input, as a class token is, and one added, as a positional embedding is."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.tensor([[3.0]], dtype=DOUBLE))
        self.place = nn.Parameter(torch.tensor([[1.0, 1.0]], dtype=DOUBLE))

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.token.expand(len(x), -1), x], 1) + self.place
        return joined.sum(1, keepdim=True)


def test_constants_that_the_model_joins_or_adds_absorb() -> None:
    # (3 + 1) + (5 + 1) = 10: of it the place has 2, the token 3, the input 5.
    found = ledger(WithToken(), torch.tensor([[5.0]], dtype=DOUBLE), LRP_0)
    by_function = {entry.function: entry.absorbed for entry in found if abs(entry.absorbed) > 1e-12}
    assert by_function == pytest.approx({"Tensor.add": 0.2, "torch.cat": 0.3}, abs=1e-12)
    assert found.conserved == pytest.approx(0.5, abs=1e-12)


class Various(nn.Module):
    """Sums, splits, a padding, a pooling, attention, a norm, a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        left, right = self.norm(x).chunk(2, 1)
        x = x + torch.cat([right, left], 1)
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), value=0.5), 2)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        tokens = self.head(F.gelu(tokens)) + self.head(tokens)
        largest: Tensor = tokens.sort(1)[0][:, -3:].mean(1)
        return largest


@pytest.mark.parametrize("rules", [name for name in vv.rule_sets() if name != "gradient-times-input"])
def test_conserved_and_absorbed_make_one(rules: str) -> None:
    torch.manual_seed(0)
    module, x = Various().double().eval(), torch.randn(3, 3, 6, 6, dtype=DOUBLE)
    method = vv.LRP(module, rules=rules)
    found = method.ledger(x, [0, 1, 2])
    assert found.conserved + found.absorbed == pytest.approx(1, abs=1e-9)
    with method.forward(x) as run:
        seed = method.seed_of(run.output, [0, 1, 2])
        relevance, again = run.relevance_and_ledger(seed, more=True)
        assert found.conserved == pytest.approx(float(relevance.sum() / seed.sum()), abs=1e-12)
        assert again == found
        # Counting changes nothing, and is over when it is done.
        assert torch.equal(run.relevance(seed, more=True), relevance)
        half = run.relevance(seed / 2)
    torch.testing.assert_close(half, relevance / 2)


def test_a_leak_is_found_where_it_is() -> None:
    def leaking(visit: Visit) -> Tensor:
        visit.call.operation = "leak"
        return visit.leave(cross(visit.value(), lambda r: 0.25 * r, *visit.sources))

    class Leaking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.erfinv(x)

    module = nn.Sequential(dense([[0.1], [0.2]], [0.0, 0.0]), Leaking(), dense([[1.0, 1.0]], [0.0]))
    register(torch.erfinv, leaking)
    try:
        found = ledger(module, torch.ones(1, 1, dtype=DOUBLE), LRP_0)
    finally:
        unregister(torch.erfinv)
    assert absorbed(found) == pytest.approx({"1": 0.75}, abs=1e-12)


@pytest.mark.parametrize(
    ("method", "seed"),
    [
        (lambda module: vv.LRP(module, rules="gradient-times-input"), None),
        (vv.method("gradient"), None),
        (vv.LRP, torch.tensor([[1.0, -1.0]], dtype=DOUBLE)),
    ],
)
def test_without_relevance_there_is_no_ledger(method: Callable[[nn.Module], vv.LRP], seed: Tensor | None) -> None:
    module = dense([[1.0, 2.0], [3.0, 4.0]], [0.1, 0.2])
    target = 0 if seed is None else (lambda outputs: seed)
    with pytest.raises(vv.InputError, match="ledger counts shares"):
        method(module).ledger(torch.ones(1, 2, dtype=DOUBLE), target)


def test_an_explanation_carries_it_and_keeps_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = vv.Classifier(Various().eval(), bounds=(-8.0, 8.0))
    why = vv.explain(model, torch.randn(1, 3, 6, 6), target=1, rules=RuleSet(Epsilon(), share="signed"))
    assert why.ledger is not None
    assert why.conserved is not None
    assert why.ledger.conserved == pytest.approx(float(why.conserved), rel=1e-4)
    again = vv.Explanation.load(why.save(tmp_path / "why.safetensors"))
    assert again.ledger == why.ledger
    assert why[0].ledger == why.ledger
    assert vv.explain(model, torch.randn(1, 3, 6, 6), method="gradient").ledger is None
    both = vv.explain(model, torch.randn(2, 3, 6, 6), target=1)
    assert both.ledger is not None
    assert both[0].ledger is None


def test_it_reads_as_a_table() -> None:
    module = nn.Sequential(dense([[1.0], [2.0]], [1.0, 3.0]), nn.ReLU(), dense([[1.0, 1.0]], [3.0]))
    text = str(ledger(module, torch.ones(1, 1, dtype=DOUBLE), LRP_0))
    assert text.splitlines()[0] == "30.0% of the relevance reached the input, 70.0% was absorbed; most of it by:"
    assert "70.0%    40.0%" in text
    whole = str(ledger(dense([[1.0]], [0.0]), torch.ones(1, 1, dtype=DOUBLE), LRP_0))
    assert whole == "100.0% of the relevance reached the input, 0.0% was absorbed."

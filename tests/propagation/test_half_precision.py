"""float16 ends at 65504 and begins at 6e-8: relevance over a small denominator passes all the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis.propagation.rules import headroom

RULE_SETS = ["deep-taylor", "gamma", "gamma-box", "epsilon-plus", "alpha2-beta1", "zero", "attention"]


class Summed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.inner(x))


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = (nn.Linear(6, 8), nn.ReLU(), Summed(8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    # As float16 has it, so that what is compared is the way of relevance alone.
    return nn.Sequential(*layers).half().double()


def of_both(module: nn.Sequential, x: Tensor, rules: str) -> tuple[Tensor, Tensor]:
    """The plain map in float64, and in float16."""
    exact = vv.LRP(module, rules=rules).attribute(x, 1)
    rough = vv.LRP(module.half(), rules=rules).attribute(x.half(), 1)
    assert rough.dtype == torch.float16
    return exact, rough.double()


@pytest.mark.parametrize("rules", [RULE_SETS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in RULE_SETS[1:])])
def test_maps_are_finite_and_near_those_in_double_precision(rules: str) -> None:
    errors = []
    for seed in range(30):
        x = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)).half().double()
        exact, rough = of_both(network(seed), x, rules)
        assert torch.isfinite(rough).all(), seed
        errors.append(float((rough - exact).norm() / exact.norm()))
    assert sorted(errors)[len(errors) // 2] < 0.02


def test_relevance_crosses_an_output_that_is_nearly_zero() -> None:
    # The output 2^-12 has relevance 1000: the share, 4 million, is no number of float16's.
    module = nn.Sequential(*(nn.Linear(size, 1, bias=False) for size in (2, 1, 1)))
    with torch.no_grad():
        for layer, weight in zip(module, (2.0**-13, 2.0**8, 2.0**4), strict=True):
            layer.weight.fill_(weight)
    for rules in ("deep-taylor", "zero"):
        found = vv.LRP(module.half(), rules=rules, bounds=(0, 2)).attribute(torch.ones(1, 2).half(), 0)
        assert found.tolist() == [[0.5, 0.5]]


class Pooled(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 8, 3, bias=False), nn.Linear(8, 4, bias=False)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x).relu()
        if self.how == "pool":
            h = nn.functional.adaptive_avg_pool2d(h, 1).flatten(1)
        elif self.how == "mean":
            h = h.mean((2, 3))
        elif self.how == "product":
            h = (h.flatten(2) @ h.flatten(2).transpose(1, 2)).mean(2)
        else:
            h = nn.functional.interpolate(h, scale_factor=0.5, mode="bilinear").amax((2, 3))
        result: Tensor = self.head(h)
        return result


@pytest.mark.parametrize("how", ["pool", "mean", "product", "resized"])
@pytest.mark.parametrize("rules", ["deep-taylor", "epsilon-plus", "zero"])
def test_relevance_crosses_weighted_sums_and_products_of_small_values(how: str, rules: str) -> None:
    torch.manual_seed(0)
    module = Pooled(how).half().double()
    x = (torch.rand(2, 3, 16, 16) * 0.1).half().double()
    exact, rough = of_both(module, x, rules)
    assert torch.isfinite(rough).all()
    assert float((rough - exact).norm() / exact.norm()) < 0.1


def test_relevance_that_grows_by_a_hundred_stays_a_number() -> None:
    module = nn.Linear(2, 2, bias=False).half()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -0.99], [0.5, 0.5]]))
    found = vv.LRP(module, rules="zero").attribute(torch.ones(1, 2).half(), 0)
    torch.testing.assert_close(found.double(), torch.tensor([[1.0, -0.99]]).double(), rtol=1e-3, atol=0)


def test_contrasts_of_maps_by_their_sums_are_taken_in_single_precision() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 100))
    module, x = nn.Sequential(*layers).half().double(), torch.rand(1, 3, 64, 64).half().double()
    options = {"normalize": "sum", "signed": True}
    exact = vv.CLRP(module, **options).attribute(x, 1)
    rough = vv.CLRP(module.half(), **options).attribute(x.half(), 1)
    assert float((rough.double() - exact).norm() / exact.norm()) < 0.1


def test_an_image_that_is_no_number_costs_the_others_nothing() -> None:
    module = network(0).half()
    x = torch.randn(3, 6).half()
    alone = vv.LRP(module).attribute(x[1:], 1)
    with torch.no_grad():
        module[0].weight[0] = 60000
    x[0] = 60000
    found = vv.LRP(module).attribute(x, 1)
    assert torch.isfinite(found[1:]).all()
    assert alone.shape == found[1:].shape


def test_the_largest_size_comes_to_no_more_than_what_is_asked_for_and_more_than_half_of_it() -> None:
    sizes = torch.tensor([3.0, torch.inf, 0.1, torch.nan])
    assert float(headroom(sizes, 1024)) == 256
    assert float(headroom(torch.zeros(2), 64)) == 64

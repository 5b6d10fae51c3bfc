"""CLRP-γ at several sizes: against the maps at each size, made and averaged by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visavis as vv

DOUBLE = torch.float64
BOUNDS = (-1.5, 1.5)


def network() -> nn.Sequential:
    """A network that takes pictures of any size."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 6, 3, stride=2), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).double()


def pictures() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(3, 2, 6, 8, dtype=DOUBLE) * 3 - 1.5


def by_hand(scale: int, target: list[int], **options: Any) -> Tensor:
    """The map of the picture enlarged, each block of pixels summed, divided by the sum of |its channels' sum|."""
    x = pictures()
    large = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False) if scale > 1 else x
    given = {"foil": "strongest"} | options
    found = vv.CLRPGamma(network(), bounds=BOUNDS, signed=True, **given).attribute(large, target)
    rows = []
    for one in found:
        summed = sum(one[:, i::scale, j::scale] for i in range(scale) for j in range(scale))
        rows.append(summed / summed.sum(0).abs().sum())
    return torch.stack(rows)


@pytest.mark.parametrize("options", [{}, {"foil": 3}, {"foil": "runner-up"}, {"rules": "deep-taylor"}], ids=str)
def test_it_is_the_mean_of_the_shares_at_each_size_the_first_counting_more(options: dict[str, Any]) -> None:
    target = [0, 1, 2]
    expected = 0.6 * by_hand(1, target, **options) + 0.4 * by_hand(2, target, **options)
    found = vv.CLRPScales(network(), bounds=BOUNDS, signed=True, **options).attribute(pictures(), target)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    clamped = vv.CLRPScales(network(), bounds=BOUNDS, **options).attribute(pictures(), target)
    torch.testing.assert_close(clamped, expected.clamp(min=0), rtol=1e-9, atol=1e-12)
    assert (found < 0).any()


def test_the_sizes_can_be_chosen() -> None:
    found = vv.CLRPScales(network(), bounds=BOUNDS, signed=True, scales=[3]).attribute(pictures(), 1)
    torch.testing.assert_close(found, by_hand(3, [1, 1, 1]), rtol=1e-9, atol=1e-12)


def test_how_much_each_size_counts_can_be_chosen() -> None:
    target = [1, 1, 1]
    options = {"bounds": BOUNDS, "signed": True}
    three = vv.CLRPScales(network(), scales=[1, 2, 3], **options)
    expected = sum(by_hand(scale, target) for scale in (1, 2, 3)) / 3
    torch.testing.assert_close(three.attribute(pictures(), 1), expected, rtol=1e-9, atol=1e-12)
    weighted = vv.CLRPScales(network(), scales=[1, 3], weights=[6, 2], **options)
    expected = 0.75 * by_hand(1, target) + 0.25 * by_hand(3, target)
    torch.testing.assert_close(weighted.attribute(pictures(), 1), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [1, 0], [1, -1], [1, float("nan")], [1, True], []], ids=str)
def test_weights_are_as_many_positive_numbers_as_sizes(weights: Any) -> None:
    with pytest.raises(vv.InputError, match="weights are as many positive numbers as there are sizes, 2, not"):
        vv.CLRPScales(network(), weights=weights)


def test_sizes_that_are_no_multiples_keep_the_sum() -> None:
    """6 × 8 pixels at 1.5 are 9 × 12: of three enlarged pixels in a row the middle one lies half in either pixel."""
    x = pictures()
    large = F.interpolate(x, (9, 12), mode="bilinear", align_corners=False)
    relevance = vv.CLRPGamma(network(), bounds=BOUNDS, signed=True, foil="strongest").attribute(large, 1)
    expected = torch.zeros_like(x)
    halves = [(0, 0), (0, 1), (1, 1)]
    for row in range(9):
        for column in range(12):
            for i in halves[row % 3]:
                for j in halves[column % 3]:
                    expected[..., 2 * (row // 3) + i, 2 * (column // 3) + j] += relevance[..., row, column] / 4
    expected = torch.stack([one / one.sum(0).abs().sum() for one in expected])
    found = vv.CLRPScales(network(), bounds=BOUNDS, signed=True, scales=[1.5]).attribute(x, 1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_target_left_out_is_the_strongest_class_of_the_picture_as_it_is() -> None:
    """At twice the size another class may be the strongest."""

    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, x: Tensor) -> Tensor:
            bonus = torch.tensor([10.0, 0, 0, 0] if x.shape[-1] > 8 else [0, 0, 10.0, 0], dtype=DOUBLE)
            scores: Tensor = self.body(x) + bonus
            return scores

    method = vv.CLRPScales(Fickle(), bounds=BOUNDS)
    assert torch.equal(method.attribute(pictures()), method.attribute(pictures(), 2))
    assert not torch.equal(method.attribute(pictures()), method.attribute(pictures(), 0))


def test_a_map_of_zeros_stays() -> None:
    module = network()
    with torch.no_grad():
        module[6].weight.zero_()
    found = vv.CLRPScales(module, bounds=BOUNDS, foil=1).attribute(pictures(), 0)
    assert torch.equal(found, torch.zeros_like(found))


def test_explain_says_what_it_was_contrasted_with() -> None:
    classifier = vv.Classifier(network(), labels=["cat", "dog", "cup", "house"], bounds=BOUNDS)
    why = vv.explain(classifier, pictures(), "dog", "cup", method="clrp-scales")
    assert torch.equal(why.relevance, vv.CLRPScales(network(), bounds=BOUNDS, foil=2).attribute(pictures(), 1))
    assert why.foils == ("cup",) * 3
    assert [one.name for one in why.counterparts if one is not None] == ["cup"] * 3
    back = vv.CLRPScales(network(), bounds=BOUNDS, foil=1).attribute(pictures(), 2)
    assert torch.equal(why.maps["contrast counterpart"], back.sum(1))
    at_one_size = vv.explain(classifier, pictures(), "dog", "cup", method="clrp-gamma")
    for name in ("plain target", "plain counterpart"):
        assert torch.equal(why.maps[name], at_one_size.maps[name])
    assert why[0].question() == "Why dog, and not cup?"
    assert why.settings["method"] == "clrp-scales"
    assert why.settings["rules"] == "gamma-box"
    assert why.settings["normalize"] == "size"
    assert vv.explain(classifier, pictures(), "dog", method="clrp-scales").foils[0] == "the ten strongest other classes"


@pytest.mark.parametrize("scales", [(), (0.5,), (1, float("nan")), (True,), (-1, 2), (1e5,), (10**400,)])
def test_sizes_that_are_none_are_refused(scales: Any) -> None:
    with pytest.raises(vv.InputError, match=r"scales are numbers from 1 to 16, such as \(1, 2\)"):
        vv.CLRPScales(network(), scales=scales)


def test_what_cannot_be_enlarged_is_refused() -> None:
    with pytest.raises(vv.InputError, match=r"a tensor \(B, C, H, W\); choose clrp-gamma"):
        vv.CLRPScales(nn.Linear(4, 3)).attribute(torch.rand(2, 4), 1)
    one_size = nn.Sequential(nn.Flatten(), nn.Linear(96, 4)).double()
    with pytest.raises(vv.ModelError, match="choose clrp-gamma for a model that takes one size alone"):
        vv.CLRPScales(one_size).attribute(pictures(), 1)

"""How alike maps are: against scipy and scikit-image, and by what a map that ignores the class must score."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

import visavis as vv
from visavis.evaluation import Case, Context, metric
from visavis.evaluation.discriminativeness import Discriminativeness, cosine, rank_correlation, ssim

DTYPES = (torch.float32, torch.float64)
MEASURES = (rank_correlation, cosine, ssim)


def pairs(count: int = 6, height: int = 17, width: int = 14) -> tuple[Tensor, Tensor]:
    """Pairs of signed maps, more and more alike."""
    first, second = torch.randn(2, count, height, width, dtype=torch.float64)
    mixed = torch.linspace(-1, 1, count, dtype=torch.float64)[:, None, None]
    return first, mixed * first + 0.5 * second


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_rank_correlation_equals_scipy_with_ties(levels: float, dtype: torch.dtype) -> None:
    first, second = ((levels * maps).round().to(dtype) for maps in pairs())
    first[3] = first[3].clamp(min=0)  # as contrasts are: mostly zeros
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    assert min(expected) < -0.5
    assert max(expected) > 0.5
    torch.testing.assert_close(rank_correlation(first, second), torch.tensor(expected, dtype=dtype))


def test_rank_correlation_by_hand() -> None:
    first, second = torch.tensor([[[1.0, 2, 2, 4]]]), torch.tensor([[[10.0, 30, 20, 40]]])
    # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4 about 2.5: Σ = 4.5, lengths √4.5 and √5.
    assert rank_correlation(first, second).item() == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert rank_correlation(first, torch.exp(first)).item() == pytest.approx(1)
    assert rank_correlation(torch.tensor([[[0.0, -0.0, 1.0]]]), torch.tensor([[[-0.0, 0.0, 3.0]]])).item() == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_cosine_equals_numpy(dtype: torch.dtype) -> None:
    first, second = (maps.to(dtype) for maps in pairs())
    expected = [
        np.dot(a, b) / math.sqrt(np.dot(a, a) * np.dot(b, b))
        for a, b in zip(first.flatten(1).double().numpy(), second.flatten(1).double().numpy(), strict=True)
    ]
    torch.testing.assert_close(cosine(first, second), torch.tensor(expected, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(11, 11), (17, 14), (12, 30)])
def test_ssim_equals_scikit_image(size: tuple[int, int], dtype: torch.dtype) -> None:
    first, second = (maps.to(dtype) for maps in pairs(6, *size))
    first[0], second[0] = first[0].abs(), second[0].abs()
    found = ssim(first, second)
    for index, (a, b) in enumerate(zip(first.double().numpy(), second.double().numpy(), strict=True)):
        scale = max(abs(a).max(), abs(b).max())
        expected = structural_similarity(
            a / scale / 2 + 0.5,
            b / scale / 2 + 0.5,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert found[index].item() == pytest.approx(expected, abs=1e-6 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("measure", MEASURES)
def test_equal_inverted_and_unrelated_maps(measure, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    first = torch.randn(3, 64, 64, dtype=dtype)
    torch.testing.assert_close(measure(first, first), torch.ones(3, dtype=dtype))
    inverted = measure(first, -first)
    assert (inverted < -0.85).all()
    assert (inverted >= -1).all()
    assert measure(first, torch.randn(3, 64, 64, dtype=dtype)).abs().max() < 0.1
    near = measure(first, first + 0.3 * torch.randn(3, 64, 64, dtype=dtype))
    assert ((near > 0.6) & (near < 0.99)).all()
    assert measure(first, first).dtype == dtype


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_and_order_of_a_pair_do_not_matter(measure, scale: float) -> None:  # type: ignore[no-untyped-def]
    first, second = (maps.float() for maps in pairs(3))
    expected = measure(first, second)
    torch.testing.assert_close(measure(scale * first, scale * second), expected)
    torch.testing.assert_close(measure(second, first), expected)


def test_the_squares_of_small_values_do_not_vanish() -> None:
    first, second = pairs(3)
    torch.testing.assert_close(cosine(1e-200 * first, 1e-200 * second), cosine(first, second))


def test_constant_maps() -> None:
    constant, zero, other = torch.full((1, 12, 12), 3.0), torch.zeros(1, 12, 12), torch.randn(1, 12, 12)
    assert rank_correlation(constant, zero).item() == 1
    assert rank_correlation(constant, other).item() == 0
    assert cosine(zero, zero).item() == 1
    assert cosine(zero, other).item() == 0
    assert cosine(constant, -constant).item() == -1
    assert ssim(zero, zero).item() == 1
    assert ssim(constant, constant).item() == pytest.approx(1)
    # Luminance alone: 1 and 1/2 after scaling, C₁ = 0.01².
    assert ssim(constant, zero).item() == pytest.approx(1.0001 / 1.2501)
    assert abs(ssim(constant, other).item()) < 0.2


def test_opposite_maps_are_unlike_also_where_all_values_have_one_sign() -> None:
    # Of signed values, SSIM's luminance and structure would both be negative here, and their product near 1.
    first = torch.rand(2, 20, 20) + 0.2
    assert (ssim(first, -first) < 0).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_what_cannot_be_compared_is_refused(measure) -> None:  # type: ignore[no-untyped-def]
    maps = torch.rand(2, 12, 12)
    with pytest.raises(vv.InputError, match=r"\(2, 12, 12\) and \(1, 12, 12\) cannot be compared"):
        measure(maps, maps[:1])
    broken = maps.clone()
    broken[0, 0, 0] = math.nan
    with pytest.raises(vv.InputError, match="1 of 2 heatmaps hold NaN"):
        measure(maps, broken)
    with pytest.raises(vv.InputError, match=r"heatmaps are \(B, H, W\)"):
        measure(maps[0], maps[0])


def test_ssim_takes_no_map_smaller_than_its_window() -> None:
    with pytest.raises(vv.InputError, match=r"at least 11 × 11 pixels, not \(10, 12\)"):
        ssim(torch.rand(1, 10, 12), torch.rand(1, 10, 12))


# -- the metric --------------------------------------------------------------------------------------------------------


class Table:
    """Explains a class by its map of a table, on whichever picture; and remembers what it was asked."""

    name = title = "table"

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps
        self.asked: list[tuple[Tensor, Tensor]] = []

    def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self.asked.append((inputs, targets))
        return self.maps[targets]


def context(maps: Tensor) -> tuple[Context, Table]:
    table = Table(maps)
    return Context(vv.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2))), table), table


def test_the_metric_compares_the_target_with_the_first_others() -> None:
    maps, inputs = torch.randn(9, 12, 12, dtype=torch.float64), torch.rand(1, 3, 12, 12)
    maps += torch.linspace(0, 3, 9)[:, None, None] * maps[2].clone()
    case = Case("one", inputs, 2, others=(7, 1, 8, 0, 5, 6))
    who, table = context(maps)
    values = Discriminativeness().values_of(case, maps[2], who)
    assert set(values) == {"", "rank", "cosine", "ssim"}
    assert values[""] == values["rank"]
    for key, measure in {"rank": rank_correlation, "cosine": cosine, "ssim": ssim}.items():
        each = [measure(maps[2:3], maps[other : other + 1]).item() for other in (7, 1, 8, 0)]
        assert values[key] == pytest.approx(sum(each) / 4, abs=1e-12)
    ((asked, targets),) = table.asked
    assert torch.equal(asked, inputs.expand(4, 3, 12, 12))
    assert targets.tolist() == [7, 1, 8, 0]
    two = Discriminativeness(most=2).values_of(case, maps[2], who)
    assert two[""] == pytest.approx(rank_correlation(maps[[2, 2]], maps[[7, 1]]).mean().item(), abs=1e-12)
    assert two[""] != pytest.approx(values[""], abs=0.01)


def test_a_map_that_ignores_the_class_is_worst_and_noise_is_near_0() -> None:
    case = Case("one", torch.rand(1, 3, 40, 40), 0, others=(1, 2, 3))
    same = torch.randn(1, 40, 40).expand(4, 40, 40)
    assert Discriminativeness().values_of(case, same[0], context(same)[0])[""] == pytest.approx(1)
    for maps in (torch.zeros(4, 40, 40), torch.ones(4, 40, 40)):
        assert Discriminativeness().values_of(case, maps[0], context(maps)[0])[""] == 1
    noise = torch.randn(4, 40, 40)
    assert abs(Discriminativeness().values_of(case, noise[0], context(noise)[0])[""]) < 0.1
    inverted = torch.stack([same[0], -same[0], -same[0], -same[0]])
    assert Discriminativeness().values_of(case, inverted[0], context(inverted)[0])[""] == pytest.approx(-1)


def test_small_maps_have_no_ssim() -> None:
    maps = torch.randn(3, 7, 12)
    case = Case("one", torch.rand(1, 3, 7, 12), 0, others=(1, 2))
    assert set(Discriminativeness().values_of(case, maps[0], context(maps)[0])) == {"", "rank", "cosine"}


def test_updates_average_over_the_others_of_each_case() -> None:
    kind = metric("discriminativeness")
    assert kind is Discriminativeness
    assert (kind.direction, kind.low, kind.high, kind.needs) == ("lower", -1, 1, ("others",))
    maps, others = torch.randn(5, 6, 6), torch.randn(5, 3, 6, 6)
    others += 2 * maps[:, None] * torch.rand(5, 1, 1, 1)
    expected = [
        sum(spearmanr(one.flatten(), other.flatten()).statistic for other in several) / 3
        for one, several in zip(maps, others, strict=True)
    ]
    game = Discriminativeness()
    game.update(maps[:2], others[:2])
    assert game.update(maps[2:], others[2:]).tolist() == pytest.approx(expected[2:], abs=1e-6)
    found = game.compute()
    assert (found.count, found.mean) == (5, pytest.approx(sum(expected) / 5, abs=1e-6))


def test_a_target_is_compared_with_something() -> None:
    with pytest.raises(vv.InputError, match="at least one other class, not 0"):
        Discriminativeness(most=0)
    with pytest.raises(vv.InputError, match=r"\(B, K, H, W\), not \(2, 4, 4\)"):
        Discriminativeness().update(torch.rand(2, 4, 4), torch.rand(2, 4, 4))
    with pytest.raises(vv.InputError, match=r"not \(2, 0, 4, 4\)"):
        Discriminativeness().update(torch.rand(2, 4, 4), torch.rand(2, 0, 4, 4))
    with pytest.raises(vv.InputError, match="case 'one' names no other class"):
        Discriminativeness().values_of(
            Case("one", torch.rand(1, 3, 4, 4), 0), torch.rand(4, 4), context(torch.rand(1, 4, 4))[0]
        )

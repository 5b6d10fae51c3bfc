"""How many dimensions encode what: against plain loops, and on latents of which it is known."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor

from visavis.errors import InputError
from visavis.shape_texture import Estimator, dimensionality, estimators, register_estimator
from visavis.shape_texture.dimensionality import _ESTIMATORS, Moments

Both = tuple[Tensor, Tensor]


def pairs(shared: range, units: int = 40, count: int = 3000) -> Both:
    """Latents that are alike in some units, and independent in all others."""
    first, second = (torch.randn(count, units, dtype=torch.float64) for _ in range(2))
    second[:, shared] = first[:, shared]
    return first, second


def plain(given: dict[str, Both], mean_rho: bool = False) -> tuple[list[float], list[float]]:
    """Scores and shares by the formulas, unit by unit."""
    images = torch.cat([torch.cat(both) for both in given.values()])
    units = images.shape[1]
    total = sum(float(((images[:, i] - images[:, i].mean()) ** 2).mean()) for i in range(units))
    scores = []
    for first, second in given.values():
        score = 0.0
        for i in range(units):
            a, b = first[:, i], second[:, i]
            m = (a.mean() + b.mean()) / 2
            cov = float(((a - m) * (b - m)).mean())
            if mean_rho:
                score += float(pearsonr(a.numpy(), b.numpy()).statistic) / units
            else:
                score += cov / total
        scores.append(score)
    weights = [*(math.exp(score) for score in scores), math.e]
    return scores, [one / sum(weights) for one in weights]


def given() -> dict[str, Both]:
    torch.manual_seed(1)
    found = {"shape": pairs(range(4), 9, 60), "texture": pairs(range(3, 8), 9, 45)}
    return {name: (3 * first + 100, second - 2) for name, (first, second) in found.items()}


@pytest.mark.parametrize("estimator", ["sum_cov", "mean_rho"])
def test_scores_and_shares_by_the_formulas(estimator: str) -> None:
    found = dimensionality(given(), estimator=estimator, draws=0)
    scores, shares = plain(given(), estimator == "mean_rho")
    assert found.scores.tolist() == pytest.approx(scores, rel=1e-9)
    assert found.shares.tolist() == pytest.approx(shares, rel=1e-9)
    assert found.unit_scores.sum(1).tolist() == pytest.approx(scores, rel=1e-9)
    counts = [math.floor(9 * share) for share in shares[:2]]
    assert found.counts.tolist() == [*counts, 9 - sum(counts)]
    assert found.pairs.tolist() == [60, 45]


def test_known_numbers_of_dimensions_come_back() -> None:
    known = {"shape": pairs(range(12)), "texture": pairs(range(12, 20))}
    assert dimensionality(known, estimator="share", draws=0).counts.tolist() == pytest.approx([12, 8, 20], abs=1)
    # Softmax of 12/40, 8/40 and 1: what the tables' estimator makes of the same.
    weights = [math.exp(0.3), math.exp(0.2), math.e]
    expected = [40 * one / sum(weights) for one in weights]
    assert dimensionality(known, draws=0).counts.tolist() == pytest.approx(expected, abs=1)
    ranking = dimensionality(known, draws=0).ranking("texture")[:8]
    assert sorted(ranking.tolist()) == list(range(12, 20))


def test_the_first_table_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet50 on ImageNet: 349 and 692 of 2048, by s = −0.060 and 0.625."""
    name = "of-the-table"
    scores = torch.tensor([-0.060, 0.625], dtype=torch.float64)
    # What is entered here is not left in the registry.
    # The package has a function of the module's name.
    monkeypatch.setattr(sys.modules["visavis.shape_texture.dimensionality"], "_ESTIMATORS", {})
    register_estimator(
        Estimator(name, "", lambda moments: (scores / 2048)[:, None, None].expand(2, 1, 2048).clone(), True)
    )
    assert list(estimators()) == [name]
    units = 2048
    latents = {factor: (torch.randn(3, units), torch.randn(3, units)) for factor in ("shape", "texture")}
    found = dimensionality(latents, estimator=name, draws=0)
    assert found.counts[:2].tolist() == pytest.approx([349, 692], abs=1)


def test_order_scale_and_place_of_the_units_do_not_matter() -> None:
    plain_ = given()
    order = torch.randperm(9)
    moved = {name: (7 * first[:, order] + 1e4, 7 * second[:, order] + 1e4) for name, (first, second) in plain_.items()}
    one, other = dimensionality(plain_, draws=50), dimensionality(moved, draws=50)
    assert other.shares.tolist() == pytest.approx(one.shares.tolist(), rel=1e-7)
    assert other.low.tolist() == pytest.approx(one.low.tolist(), rel=1e-7)
    each = torch.rand(9, dtype=torch.float64) + 0.5
    scaled = {name: (first * each, second * each) for name, (first, second) in plain_.items()}
    rho = [dimensionality(latents, estimator="mean_rho", draws=0).scores.tolist() for latents in (plain_, scaled)]
    assert rho[1] == pytest.approx(rho[0], rel=1e-9)


def test_intervals_are_those_of_pairs_drawn_anew() -> None:
    import numpy as np

    latents = given()
    found = dimensionality(latents, draws=40, seed=3)
    generator = np.random.default_rng(3)
    times = [
        generator.multinomial(len(first), np.full(len(first), 1 / len(first)), size=40) for first, _ in latents.values()
    ]
    drawn = []
    for draw in range(40):
        again = {
            name: tuple(one.repeat_interleave(torch.from_numpy(times[place][draw]), 0) for one in both)
            for place, (name, both) in enumerate(latents.items())
        }
        drawn.append(plain(again)[1])  # type: ignore[arg-type]
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    assert found.low.tolist() == pytest.approx(low.tolist(), rel=1e-9)
    assert found.high.tolist() == pytest.approx(high.tolist(), rel=1e-9)


def test_units_that_never_vary_encode_nothing() -> None:
    both = torch.full((5, 4), 0.3, dtype=torch.float64)
    for estimator in ("sum_cov", "mean_rho", "share"):
        found = dimensionality({"shape": (both, both), "texture": (both, both)}, estimator=estimator, draws=0)
        assert found.scores.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("latents", "options", "said"),
    [
        ({}, {}, "there are no pairs"),
        ({"shape": (torch.zeros(3, 2), torch.zeros(3, 3))}, {}, "latents .* of both images were expected"),
        ({"shape": (torch.zeros(1, 2), torch.zeros(1, 2))}, {}, "at least two"),
        ({"shape": (torch.full((3, 2), torch.nan), torch.zeros(3, 2))}, {}, "NaN or infinity"),
        ({"shape": (torch.zeros(3, 2), torch.zeros(3, 2) + 0j)}, {}, "latents of 'shape' are complex"),
        ({"shape": (torch.zeros(3, 2), torch.zeros(3, 2))}, {"estimator": "mutual"}, "'mutual', but sum_cov"),
        ({"shape": (torch.zeros(3, 2), torch.zeros(3, 2))}, {"draws": 1}, "draws is 1"),
        ({"shape": (torch.zeros(3, 2), torch.zeros(3, 2))}, {"seed": -1}, "the seed is a whole number"),
    ],
    ids=["none", "shapes", "one pair", "nan", "complex", "estimator", "draws", "seed"],
)
def test_what_is_refused(latents: dict[str, Both], options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        dimensionality(latents, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("estimator", ["sum_cov", "mean_rho", "share"])
@pytest.mark.parametrize("exponent", [-900, -300, -150, 150, 300, 1000])
def test_latents_of_any_size_have_the_dimensions_of_ordinary_ones(estimator: str, exponent: int) -> None:
    expected = dimensionality(given(), estimator=estimator, draws=20)
    extreme = {name: (first * 2.0**exponent, second * 2.0**exponent) for name, (first, second) in given().items()}
    found = dimensionality(extreme, estimator=estimator, draws=20)
    for name in ("scores", "shares", "counts", "low", "high", "unit_scores"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-12, atol=0)


def test_whole_numbers_are_latents() -> None:
    one, other = torch.randint(-9, 9, (2, 30, 4), generator=torch.Generator().manual_seed(0))
    found, expected = (dimensionality({"shape": (a, b)}, draws=0) for a, b in ((one, other), (one * 1.0, other * 1.0)))
    assert torch.equal(found.scores, expected.scores)


def _unbounded(moments: Moments) -> Tensor:
    return moments.covariance / 0


def test_scores_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Estimator("unbounded", "not finite", _unbounded, True)
    monkeypatch.setitem(_ESTIMATORS, own.name, own)
    with pytest.raises(InputError, match=r"the estimator 'unbounded' gives scores .* NaN or infinite"):
        dimensionality(given(), estimator=own.name)

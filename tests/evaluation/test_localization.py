"""Pointing games: each equals a hand-computed case and a slow loop, and tells good maps from bad ones."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis.errors import InputError
from visavis.evaluation import Case, Context, metric
from visavis.evaluation.localization import (
    SHARES,
    EnergyInBox,
    EnergyInMask,
    EnergyPointing,
    PointingGame,
    clean_share,
    energy_pointing,
    energy_within,
    passed,
    pointing,
)
from visavis.evaluation.regions import region

DOUBLE = torch.float64
DTYPES = (torch.float32, torch.float64)


class Nobody:
    """An explainer that is never asked."""

    name = title = "nobody"

    def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        raise AssertionError("localization asks for no other map")


def context() -> Context:
    return Context(vv.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2))), Nobody())


def case_of(boxes: Tensor | None, mask: Tensor | None = None, *, difficult: bool = False, side: int = 8) -> Case:
    return Case("one", torch.zeros(1, 3, side, side), 0, boxes, mask, difficult)


def draws(count: int, side: int, levels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Signed maps of few levels, so that many pixels are equal, and regions that are none, some or all of them."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(-levels, levels + 1, (count, side, side), generator=generator).double()
    share = torch.rand(count, 1, 1, generator=generator)
    regions = torch.rand(count, side, side, generator=generator) < share
    regions[0], regions[1, 0, 0] = True, True
    return maps, regions


# -- slow loops, after the words of the papers -------------------------------------------------------------------------


def slow_pointing(heatmap: Tensor, where: Tensor, tolerance: float) -> float:
    places = list(itertools.product(range(heatmap.shape[0]), range(heatmap.shape[1])))
    highest = max(float(heatmap[place]) for place in places)
    if not where.any():
        return math.nan
    if highest <= 0:
        return 0.0
    inside = [place for place in places if where[place]]
    tops = [place for place in places if float(heatmap[place]) == highest]
    hits = [min(math.dist(top, place) for place in inside) <= tolerance for top in tops]
    return sum(hits) / len(hits)


def slow_foreground(heatmap: Tensor, where: Tensor, share: float) -> float:
    """Take pixels from the largest down until they hold the share of the energy; then those equal to the last."""
    if not where.any():
        return math.nan
    pixels = sorted(
        ((max(0.0, v), w) for v, w in zip(heatmap.flatten().tolist(), where.flatten().tolist(), strict=True))
    )
    pixels.reverse()
    total = math.fsum(value for value, _ in pixels)
    if total == 0:
        return 0.0
    kept, energy = 0, 0.0
    while energy < share * total - 1e-9:
        energy += pixels[kept][0]
        kept += 1
    least = pixels[kept - 1][0]
    return float(all(here for value, here in pixels if value >= least and value > 0))


def slow_within(heatmap: Tensor, where: Tensor) -> float:
    if not where.any():
        return math.nan
    inside = total = 0.0
    for value, here in zip(heatmap.flatten().tolist(), where.flatten().tolist(), strict=True):
        if value > 0:
            total += value
            inside += value if here else 0.0
    return inside / total if total else 0.0


# -- the maximum -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.3])
def test_pointing_equals_a_slow_loop(dtype: torch.dtype, tolerance: float) -> None:
    maps, regions = draws(40, 6, 4)
    maps[2] = -maps[2].abs()
    regions[3] = False
    regions[5:] &= torch.rand(35, 6, 6) < 0.2
    found = pointing(maps.to(dtype), regions, tolerance)
    expected = [slow_pointing(*pair, tolerance) for pair in zip(maps, regions, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=dtype), equal_nan=True, rtol=1e-6, atol=0)
    assert len({round(value, 3) for value in expected if not math.isnan(value)}) > 4


def test_a_maximum_within_the_tolerance_hits() -> None:
    where = torch.zeros(1, 40, 40, dtype=torch.bool)
    where[0, 5, 5] = True
    for (row, column), hit in [((5, 5), 1), ((14, 17), 1), ((14, 18), 0), ((20, 5), 1), ((5, 21), 0), ((16, 16), 0)]:
        heatmap = torch.zeros(1, 40, 40)
        heatmap[0, row, column] = 0.1
        assert pointing(heatmap, where).item() == hit
        assert pointing(heatmap, where, 0).item() == float((row, column) == (5, 5))


def test_equal_maxima_share_the_hit() -> None:
    where = torch.zeros(1, 3, 4, dtype=torch.bool)
    where[0, 0, :2] = True
    heatmap = torch.tensor([[[7.0, 0, 0, 7], [0, 7, 0, 0], [0, 0, 0, 7]]])
    assert pointing(heatmap, where, 0).item() == 0.25
    assert pointing(heatmap, where, 1).item() == 0.5
    # A constant map has what a pixel drawn at random has, wherever the region lies.
    for turned in (where, where.flip(1), where.flip(2)):
        assert pointing(torch.full((1, 3, 4), 3.0), turned, 0).item() == pytest.approx(2 / 12)


def test_a_map_without_a_positive_value_misses() -> None:
    where = torch.ones(1, 3, 3, dtype=torch.bool)
    assert pointing(torch.zeros(1, 3, 3), where).item() == 0
    assert pointing(-torch.rand(1, 3, 3) - 0.1, where).item() == 0
    assert pointing(torch.full((1, 3, 3), 1e-45), where).item() == 1


def test_random_maps_point_by_chance() -> None:
    maps = torch.rand(4000, 8, 8)
    where = region(torch.tensor([[1.0, 2.0, 5.0, 5.0]]), (8, 8)).expand(4000, 8, 8)
    chance = 12 / 64
    assert pointing(maps, where, 0).mean().item() == pytest.approx(chance, abs=4 * math.sqrt(chance * 0.8 / 4000))


# -- energy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_energy_pointing_equals_a_slow_loop(dtype: torch.dtype) -> None:
    maps, regions = draws(40, 5, 12)
    maps[2] = -maps[2].abs()
    regions[3] = False
    for index in range(5, 40):  # most of the largest pixels lie inside
        regions[index] |= maps[index] > index % 12
    shares = (0.01, 0.05, 0.1, 0.25, 0.5, 0.55, 0.75, 0.9, 1.0)
    found = energy_pointing(maps.to(dtype), regions, shares)
    expected = [[slow_foreground(*pair, share) for share in shares] for pair in zip(maps, regions, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=dtype), equal_nan=True)
    curve = np.nanmean(expected, 0)
    assert 0 < curve[-1] < curve[3] < curve[0] < 1


def test_energy_pointing_by_hand() -> None:
    # Sorted: 6, 5 inside, 4 outside, 3 inside, 2 outside; the sum is 20.
    heatmap = torch.tensor([[[6.0, 4, -9], [5, 3, 2]]])
    where = torch.tensor([[[True, False, False], [True, True, False]]])
    assert clean_share(heatmap, where).item() == pytest.approx(11 / 20)
    assert energy_pointing(heatmap, where, (0.3, 0.31, 0.55, 0.56, 1.0)).tolist() == [[1, 1, 1, 0, 0]]
    # Of equal pixels all are kept: one that equals the 5 inside spoils it.
    heatmap[0, 0, 1] = 5
    assert energy_pointing(heatmap, where, (0.2, 0.28, 0.29)).tolist() == [[1, 1, 0]]
    assert clean_share(heatmap, where).item() == pytest.approx(6 / 21)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_share_that_is_just_reached_counts(dtype: torch.dtype) -> None:
    # Tenths have no exact sums in binary: many of these shares are missed by rounding alone.
    for _ in range(200):
        tenths = torch.randint(1, 100, (12,)).sort(descending=True).values.unique_consecutive()
        inside = len(tenths) // 2
        share = int(tenths[:inside].sum()) / int(tenths.sum())
        heatmap, where = (tenths / 10).to(dtype).view(1, 1, -1), (torch.arange(len(tenths)) < inside).view(1, 1, -1)
        assert energy_pointing(heatmap, where, (share,)).item() == 1
        assert energy_pointing(heatmap, where, (share + 1e-5,)).item() == 0


def test_the_clean_share_is_the_area_under_the_curve() -> None:
    maps, regions = draws(12, 5, 30)
    for index in range(12):
        regions[index] |= maps[index] > 2 * index
    steps = [(step + 0.5) / 400 for step in range(400)]
    areas = energy_pointing(maps, regions, steps).mean(1)
    torch.testing.assert_close(clean_share(maps, regions), areas, rtol=0, atol=1 / 400)
    assert areas.std() > 0.1


@pytest.mark.parametrize("dtype", DTYPES)
def test_energy_within_equals_a_slow_loop(dtype: torch.dtype) -> None:
    maps, regions = draws(30, 6, 9)
    maps[2] = -maps[2].abs()
    regions[3] = False
    expected = torch.tensor([slow_within(*pair) for pair in zip(maps, regions, strict=True)], dtype=dtype)
    torch.testing.assert_close(energy_within(maps.to(dtype), regions), expected, equal_nan=True)


def test_energy_within_by_hand() -> None:
    heatmap = torch.tensor([[[6.0, 4, -9], [5, 3, 2]]])
    where = torch.tensor([[[True, False, True], [False, True, False]]])
    assert energy_within(heatmap, where).item() == pytest.approx(9 / 20)


@pytest.mark.parametrize("function", [lambda h, r: pointing(h, r, 0), clean_share, energy_within])
def test_perfect_inverted_constant_and_random_maps(function) -> None:  # type: ignore[no-untyped-def]
    where = region(torch.tensor([[2.0, 2.0, 6.0, 5.0]]), (8, 8))[None]
    perfect = where.double() - 0.5
    assert function(perfect, where).item() == 1
    assert function(-perfect, where).item() == 0
    random = function(torch.rand(400, 8, 8), where.expand(400, 8, 8)).mean()
    assert 0 < random < 0.3
    # What is outside costs, what is inside does not; nor does the scale.
    rough = torch.where(where, torch.rand(1, 8, 8) + 1, -torch.rand(1, 8, 8))
    assert function(rough, where).item() == 1
    assert function(1e-12 * rough.double(), where).item() == 1
    spoilt = rough.clone()
    spoilt[0, 0, 0] = 5
    assert function(spoilt, where).item() < 1


def test_constant_maps_have_energy_by_area_and_no_clean_foreground() -> None:
    where = region(torch.tensor([[2.0, 2.0, 6.0, 5.0]]), (8, 8))[None]
    assert energy_within(torch.ones(1, 8, 8), where).item() == pytest.approx(12 / 64)
    assert clean_share(torch.ones(1, 8, 8), where).item() == 0
    assert clean_share(torch.ones(1, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)).item() == 1


@pytest.mark.parametrize("function", [pointing, clean_share, energy_within, energy_pointing])
def test_what_cannot_be_rated_is_refused(function) -> None:  # type: ignore[no-untyped-def]
    maps, where = torch.rand(3, 4, 4), torch.ones(3, 4, 4, dtype=torch.bool)
    with pytest.raises(vv.InputError, match=r"heatmaps \(3, 4, 4\) and regions \(3, 8, 8\)"):
        function(maps, torch.ones(3, 8, 8, dtype=torch.bool))
    with pytest.raises(vv.InputError, match="regions are bool"):
        function(maps, where.float())
    maps[1, 0, 0], maps[2, 0, 0] = math.nan, math.inf
    with pytest.raises(vv.InputError, match="2 of 3 heatmaps hold NaN"):
        function(maps, where)
    with pytest.raises(vv.InputError, match=r"shape \(4, 4\)"):
        function(maps[0], where[0])


@pytest.mark.parametrize("shares", [(), (0.0, 0.5), (0.5, 1.1), (0.5, 0.25), (0.5, 0.5), (math.nan,)])
def test_shares_of_energy_rise_from_above_0_to_1(shares: tuple[float, ...]) -> None:
    with pytest.raises(vv.InputError, match="shares of energy rise"):
        EnergyPointing(shares)
    with pytest.raises(vv.InputError, match="shares of energy rise"):
        energy_pointing(torch.rand(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool), shares)


def test_maps_that_need_gradients_and_halves_are_taken() -> None:
    where = region(torch.tensor([[0.0, 0.0, 2.0, 4.0]]), (4, 4))[None]
    heatmap = torch.rand(1, 4, 4, requires_grad=True)
    assert not energy_within(heatmap, where).requires_grad
    half = energy_within(heatmap.half(), where)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(energy_within(heatmap, where).item(), abs=1e-3)


# -- metrics -----------------------------------------------------------------------------------------------------------

METRICS = {
    "pointing": (PointingGame, pointing),
    "energy-pointing": (EnergyPointing, clean_share),
    "energy-in-box": (EnergyInBox, energy_within),
    "energy-in-mask": (EnergyInMask, energy_within),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_average_their_function_over_batches(name: str) -> None:
    kind, function = METRICS[name]
    assert metric(name) is kind
    assert (kind.direction, kind.low, kind.high) == ("higher", 0, 1)
    maps = torch.randn(30, 60, 60, dtype=DOUBLE)
    corners = torch.randint(0, 50, (30, 2)).double()
    boxes = torch.cat([corners, corners + 10], 1)
    regions = torch.stack([region(box[None], (60, 60)) for box in boxes])
    maps[::2] += 3 * regions[::2]
    regions[4] = False
    values = function(maps, regions)
    game = kind()
    for part in (slice(0, 7), slice(7, 30)):
        torch.testing.assert_close(game.update(maps[part], regions[part]), values[part], equal_nan=True)
    found = game.compute()
    assert found.count == 29
    assert found.mean == pytest.approx(values.nanmean().item(), abs=1e-12)
    assert 0 < found.mean < 1
    assert found.low < found.mean < found.high
    game.reset()
    assert game.compute().count == 0


def test_values_of_a_case_are_those_of_its_region() -> None:
    heatmap = torch.randint(-3, 9, (8, 8)).double()
    boxes, mask = torch.tensor([[0.0, 0.0, 5.0, 6.0]]), torch.rand(8, 8) < 0.5
    case, inside = case_of(boxes, mask), region(boxes, (8, 8))
    for kind, where in ((EnergyInBox, inside), (EnergyInMask, mask)):
        values = kind().values_of(case, heatmap, context())
        assert values == {"": energy_within(heatmap[None], where[None]).item()}
    assert not torch.equal(inside, mask)


def test_boxes_of_wide_inputs_lie_where_they_say() -> None:
    case = Case("wide", torch.zeros(1, 3, 4, 8), 0, torch.tensor([[5.0, 1.0, 8.0, 4.0]]))
    heatmap = torch.zeros(4, 8)
    heatmap[3, 7], heatmap[0, 7], heatmap[3, 0] = 2, 1, 1
    assert EnergyInBox().values_of(case, heatmap, context()) == {"": 0.5}
    hard = replace(case, difficult=True)
    assert EnergyInBox().values_of(hard, heatmap, context()) == {"": 0.5, "difficult": 0.5}
    assert PointingGame(0).values_of(case, heatmap, context()) == {"": 1.0}


def test_pointing_takes_the_mask_where_there_is_one_and_names_difficult_cases() -> None:
    boxes, mask = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.zeros(8, 8, dtype=torch.bool)
    mask[3, 3] = True
    heatmap = torch.zeros(8, 8)
    heatmap[0, 0] = 1
    game = PointingGame(tolerance=0)
    assert game.values_of(case_of(boxes), heatmap, context()) == {"": 1.0}
    assert game.values_of(case_of(boxes, mask), heatmap, context()) == {"": 0.0}
    assert game.values_of(case_of(boxes, mask, difficult=True), heatmap, context()) == {"": 0.0, "difficult": 0.0}
    assert PointingGame().values_of(case_of(boxes, mask), heatmap, context()) == {"": 1.0}
    assert PointingGame(tolerance=4).values_of(case_of(boxes, mask), heatmap, context()) == {"": 0.0}


def test_the_curve_of_energy_pointing() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 1.0]])
    heatmap = torch.zeros(8, 8)
    heatmap[0, 0], heatmap[0, 1], heatmap[5, 5] = 4, 3, 3
    game = EnergyPointing()
    values = game.values_of(case_of(boxes), heatmap, context())
    assert values.pop("") == pytest.approx(0.4)
    assert list(values) == [f"{share:g}" for share in SHARES] == [f"{5 * step / 100:g}" for step in range(1, 20)]
    assert list(values.values()) == [1.0] * 8 + [0.0] * 11
    where = region(boxes, (8, 8))[None]
    game.update(heatmap[None], where)
    game.update(torch.where(where, 1.0, 0.0), where)
    curve = EnergyPointing((0.4, 0.41))
    curve.update(heatmap[None], where)
    curve.update(torch.where(where, 1.0, 0.0), torch.zeros_like(where))
    assert game.curve() == dict.fromkeys(list(values)[:8], 1.0) | dict.fromkeys(list(values)[8:], 0.5)
    assert curve.curve() == {"0.4": 1.0, "0.41": 0.0}
    assert math.isnan(EnergyPointing((0.5,)).curve()["0.5"])


@pytest.mark.parametrize("kind", [PointingGame, EnergyPointing, EnergyInBox])
def test_a_case_whose_object_was_cut_off_has_no_value(kind: type[PointingGame]) -> None:
    gone = torch.tensor([[-9.0, 0.0, -2.0, 5.0]])
    assert kind().values_of(case_of(gone, difficult=True), torch.rand(8, 8), context()) == {}
    mask = torch.zeros(8, 8, dtype=torch.bool)
    assert EnergyInMask().values_of(case_of(gone, mask), torch.rand(8, 8), context()) == {}


def test_a_case_without_what_a_metric_needs_is_refused() -> None:
    with pytest.raises(vv.InputError, match="case 'one' has no boxes"):
        EnergyInBox().values_of(case_of(None), torch.rand(8, 8), context())
    with pytest.raises(vv.InputError, match="case 'one' has no mask"):
        EnergyInMask().values_of(case_of(None), torch.rand(8, 8), context())
    with pytest.raises(vv.InputError, match="enlarge the maps of an inner layer"):
        EnergyInBox().values_of(case_of(torch.tensor([[0.0, 0.0, 2.0, 2.0]])), torch.rand(4, 4), context())


def test_clean_shares_tell_the_curve_at_any_shares() -> None:
    hits = passed(torch.tensor([0.0, 0.3, 0.5, torch.nan, 1.0], dtype=torch.float64), (0.2, 0.5, 1.0))
    expected = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [torch.nan] * 3, [1, 1, 1]]
    torch.testing.assert_close(hits, torch.tensor(expected, dtype=torch.float64), equal_nan=True)
    with pytest.raises(InputError, match="shares of energy rise"):
        passed(torch.ones(1), (0.5, 0.2))

"""Means with intervals: against scipy's bootstrap, and a slow one of groups."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap

import visavis as vv
from visavis.evaluation import Summary, statistics, summary

#: Few and skewed, so that the kinds of interval differ.
VALUES = np.random.default_rng(3).lognormal(sigma=1, size=24)
ERROR = float(VALUES.std() / math.sqrt(len(VALUES)))


def scipy_interval(values: np.ndarray, method: str) -> tuple[float, float]:
    found = bootstrap((values,), np.mean, n_resamples=20_000, method=method, random_state=np.random.default_rng(5))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def slow_interval(values: list[float], groups: list[object], draws: int, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    names = sorted(set(groups), key=str)
    means = []
    for _ in range(draws):
        drawn: list[float] = []
        for index in generator.integers(len(names), size=len(names)):
            drawn += [value for value, group in zip(values, groups, strict=True) if group == names[index]]
        means.append(math.fsum(drawn) / len(drawn))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def test_the_interval_is_that_of_scipy_within_the_error_of_drawing() -> None:
    found = summary(VALUES.tolist())
    assert found.mean == pytest.approx(math.fsum(VALUES) / 24)
    assert found.count == 24
    # An end of the interval, from 10 000 draws, is off by 0.03 standard errors.
    within = 0.15 * ERROR
    assert (found.low, found.high) == pytest.approx(scipy_interval(VALUES, "percentile"), abs=within)
    assert found.low != pytest.approx(scipy_interval(VALUES, "basic")[0], abs=within)


def test_draws_and_seed_matter_only_a_little_and_are_repeatable() -> None:
    one = summary(VALUES)
    assert one == summary(VALUES)
    for other in (summary(VALUES, seed=1), summary(VALUES, draws=9_000)):
        assert other != one
        assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.15 * ERROR)
    assert summary(VALUES, draws=1).low == summary(VALUES, draws=1).high


def test_many_values_are_drawn_in_steps_to_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = summary(VALUES, draws=500)
    monkeypatch.setattr(statistics, "_AT_ONCE", 24 * 7)
    assert summary(VALUES, draws=500) == whole
    monkeypatch.setattr(statistics, "_AT_ONCE", 1)
    assert summary(VALUES, draws=500) == whole


def test_groups_of_one_change_nothing() -> None:
    assert summary(VALUES, groups=[f"picture {index}" for index in range(24)]) == summary(VALUES)


def test_copies_in_a_group_tell_nothing_new() -> None:
    copies = np.repeat(VALUES, 5)
    groups = np.repeat(np.arange(24), 5).tolist()
    order = np.random.default_rng(0).permutation(120)
    order = order[np.argsort(np.array(groups)[order], kind="stable")]
    together = summary(copies[order], groups=[groups[index] for index in order])
    alone = summary(VALUES)
    assert (together.low, together.high, together.count) == (
        pytest.approx(alone.low),
        pytest.approx(alone.high),
        120,
    )
    # Without groups, the copies would pass for evidence.
    apart = summary(copies)
    assert apart.high - apart.low < 0.6 * (alone.high - alone.low)


def test_groups_of_unlike_size_equal_a_slow_loop() -> None:
    groups = [0] * 9 + [1] * 5 + [2] * 4 + [3] * 3 + ["x", "x", "y"]
    mixed = np.random.default_rng(1).permutation(24)
    found = summary(VALUES[mixed], groups=[groups[index] for index in mixed])
    expected = slow_interval(VALUES.tolist(), groups, 4000, seed=9)
    assert found.mean == pytest.approx(VALUES.mean())
    assert (found.low, found.high) == pytest.approx(expected, abs=0.2 * ERROR)
    assert found.high - found.low > 0.2 * ERROR


def test_values_that_are_nan_are_left_out_with_their_groups() -> None:
    gaps = [math.nan, *VALUES[:10], math.nan, *VALUES[10:]]
    assert summary(gaps) == summary(VALUES)
    groups = ["gone", *range(10), "gone", *range(10, 24)]
    assert summary(gaps, groups=groups) == summary(VALUES)


def test_nothing_and_next_to_nothing() -> None:
    for values in ([], [math.nan, math.nan]):
        empty = summary(values)
        assert empty.count == 0
        assert all(math.isnan(value) for value in (empty.mean, empty.low, empty.high))
    assert summary([], groups=[]).count == 0
    assert summary([0.25]) == Summary(0.25, 0.25, 0.25, 1)
    assert summary([0.5] * 9) == Summary(0.5, 0.5, 0.5, 9)
    assert summary([1.0, 0.0], groups=["a", "a"]) == Summary(0.5, 0.5, 0.5, 2)


def test_a_summary_reads_as_one() -> None:
    assert str(Summary(0.12345, 0.1, 0.2, 7)) == "0.123 (0.100 to 0.200)"


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(vv.InputError, match="at least one draw, not 0"):
        summary(VALUES, draws=0)
    with pytest.raises(vv.InputError, match="24 values have 3 groups"):
        summary(VALUES, groups=[1, 2, 3])

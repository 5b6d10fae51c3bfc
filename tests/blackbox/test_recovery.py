"""Boundaries that are known and seen through labels alone: are the vectors their normals, and is it said when not?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from blackbox.plain import cosines
from visavis.blackbox import ExplanationVectors, LowAgreementWarning, Vectors

UNITS = np.array([1.0, 5.0, 0.1])
UNIT_NORMAL = np.array([1.0, -1.0, 0.5])
# Fewer than by itself: of two thousand rows each takes its time.
WIDTHS = np.geomspace(0.05, 1, 8).tolist()


def beyond_a_plane(rows: Any) -> Any:
    return np.where(rows @ (UNIT_NORMAL / UNITS)[: rows.shape[1]] > 0.3, "beyond", "before")


def inside_an_ellipse(rows: Any) -> Any:
    return ((rows / UNITS[: rows.shape[1]]) ** 2).sum(1) < 1.5 * rows.shape[1] / 2


def table(count: int, width: int, seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=(count, width)) * UNITS[:width]


def explained(classifier: Any, seen: Any, rows: Any, **options: Any) -> Vectors:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LowAgreementWarning)
        return ExplanationVectors(classifier, **{"bandwidth": WIDTHS, **options}).fit(seen).explain(rows)


def trusted(found: Vectors) -> Any:
    return found.agrees & (found.agreement >= 0.8)


@pytest.mark.parametrize("width", [2, 3])
def test_the_normal_of_a_plane(width: int) -> None:
    found = explained(beyond_a_plane, table(1600, width, 0), table(60, width, 1))
    away = np.where(found.said == "beyond", -1, 1)[:, None] * UNIT_NORMAL[:width]
    close = cosines(found.per_deviation, away)[trusted(found)]
    assert len(close) > 54
    assert np.mean(close > 0.95) > 0.9
    assert close.min() > 0.85


def test_the_radius_of_an_ellipse() -> None:
    """Within, further from the middle is away from the class; outside, nearer to it."""
    rows = table(60, 2, 1)
    found = explained(inside_an_ellipse, table(1600, 2, 0), rows)
    away = np.where(found.said, 1, -1)[:, None] * rows / UNITS[:2]
    close = cosines(found.per_deviation, away)[trusted(found)]
    assert len(close) > 54
    assert np.mean(close > 0.95) > 0.9
    assert close.min() > 0.85


def correlated(count: int, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    shared = generator.normal(size=(count, 1))
    return 0.97 * shared + 0.25 * generator.normal(size=(count, 2))


def by_the_first(rows: Any) -> Any:
    return (rows[:, 0] > 0.1).astype(int)


def test_a_feature_that_only_goes_with_another() -> None:
    """Among the rows as they come the second seems to matter; around each row it does not."""
    seen, rows = correlated(500, 0), correlated(12, 1)[:4]
    vectors = ExplanationVectors(by_the_first)
    before = explained(by_the_first, seen, rows, bandwidth="one-standard-error")
    away = np.where(rows[:, :1] > 0.1, -1, 1) * [1.0, 0.0]
    assert cosines(-before.log_odds_gradient, away).min() < 0.96
    found = vectors.fit(seen).sample(1000, near=rows).explain(rows)
    assert cosines(-found.log_odds_gradient, away).min() > 0.99
    assert len(vectors.mimic_.window_.points) == 4500


def test_draws_spread_until_a_tenth_is_called_otherwise() -> None:
    """Ten units from the boundary, and as wide as was asked for where that is said."""
    seen, row = table(300, 2, 0), np.array([[10.0, 0.0]])
    vectors = ExplanationVectors(lambda rows: rows[:, 0] > 0, bandwidth=0.2).fit(seen)
    deviations, start = seen.std(0), len(seen)
    drawn = vectors.sample(2000, near=row)._rows[start:]
    assert len(drawn) == 2000
    otherwise, width = np.mean(drawn[:, 0] < 0), ((drawn - row) / deviations).std(0)
    # 0.2 · 2⁶ is the first of the doublings with Φ(−10/w) above a tenth.
    np.testing.assert_allclose(width, [0.2 * 2**6, 0.2 * 2**6], rtol=0.05)
    assert 0.1 <= otherwise < 0.35
    wide = vectors.sample(2000, near=row, spread=0.7)._rows[start + 2000 :]
    np.testing.assert_allclose(((wide - row) / deviations).std(0), [0.7, 0.7], rtol=0.05)
    everywhere = vectors.sample(2000, spread=0.5)._rows[start + 4000 :]
    assert len(everywhere) == 2000


def test_draws_without_rows_are_around_those_of_the_fit() -> None:
    seen = np.array([[0.0, 0.0], [100.0, 30.0]]).repeat(20, 0)
    vectors = ExplanationVectors(lambda rows: rows[:, 0] > 50, bandwidth=0.3).fit(seen)
    drawn = vectors.sample(1000)._rows[40:] / seen.std(0)
    middles = np.array([[0.0, 0.0], [2.0, 2.0]])
    nearest = abs(drawn[:, :1] - middles[:, 0]).argmin(1)
    assert 400 < nearest.sum() < 600
    np.testing.assert_allclose((drawn - middles[nearest]).std(0), [0.3, 0.3], rtol=0.1)


def test_more_rows_are_labelled_by_the_classifier() -> None:
    seen, rows = table(200, 2, 0), table(3, 2, 1)
    vectors = ExplanationVectors(inside_an_ellipse, bandwidth=0.2).fit(seen).sample(50).sample(20, near=rows)
    np.testing.assert_array_equal(vectors._labels, inside_an_ellipse(vectors._rows))
    np.testing.assert_array_equal(vectors._rows[:200], seen)
    kept = vectors.mimic_.scaling_.outside(vectors.mimic_.window_.points)
    named = vectors.classes_[vectors.mimic_.window_.labels.cpu()]
    np.testing.assert_array_equal(named, inside_an_ellipse(kept))
    assert len(kept) == 310


def checkerboard(rows: Any) -> Any:
    return np.floor(12 * rows).sum(1) % 2


def within_many(rows: Any) -> Any:
    return (rows**2).sum(1) < 50


CANNOT = {
    "checkerboard": (checkerboard, lambda seed, n: np.random.default_rng(seed).uniform(size=(n, 2))),
    "fifty dimensions": (within_many, lambda seed, n: np.random.default_rng(seed).normal(size=(n, 50))),
}


@pytest.mark.parametrize("case", CANNOT)
def test_a_warning_where_the_mimic_cannot_follow(case: str) -> None:
    classifier, draw = CANNOT[case]
    vectors, rows = ExplanationVectors(classifier).fit(draw(0, 150)), draw(1, 20)
    with pytest.warns(LowAgreementWarning, match="their vectors explain the mimic alone") as caught:
        found = vectors.explain(rows)
    doubtful = np.flatnonzero(~trusted(found))
    assert len(doubtful) > 5
    assert f"{len(doubtful)} of 20 rows ({', '.join(map(str, doubtful[:5]))}, …)" in str(caught[0].message)


def test_no_warning_where_it_can() -> None:
    for classifier in (beyond_a_plane, inside_an_ellipse):
        found = (
            ExplanationVectors(classifier, random_state=1, bandwidth=WIDTHS)
            .fit(table(1600, 2, 0))
            .explain(table(20, 2, 2))
        )
        assert trusted(found).all()


def test_the_threshold_and_the_probes_bite() -> None:
    seen, rows = table(300, 2, 0), table(20, 2, 2)
    low = explained(inside_an_ellipse, seen, rows)
    rows = rows[low.agrees]
    vectors = ExplanationVectors(inside_an_ellipse, threshold=0, bandwidth=0.2).fit(seen)
    least = vectors.explain(rows).agreement.min()
    assert 0 < least < 1
    with pytest.warns(LowAgreementWarning, match=f"agreement down to {least:.2f}, wanted {least + 1e-6}"):
        vectors.set_params(threshold=float(least + 1e-6)).explain(rows)
    few = vectors.set_params(probes=2, threshold=0.0).explain(rows).agreement
    assert set(few.tolist()) <= {0, 0.5, 1}
    assert np.isnan(vectors.set_params(probes=0).explain(rows).agreement).all()

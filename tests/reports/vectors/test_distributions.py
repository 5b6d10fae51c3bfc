"""One component over a group and over all others: the distance by hand, the histograms, the steps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.stats
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from reports.units.figures import check_drawn, check_same_bytes, written
from visavis.blackbox import ExplanationVectors, Vectors
from visavis.errors import InputError
from visavis.reports.style import BLUE, ORANGE
from visavis.reports.vectors import Compared, compared, distribution_figure

COUNT = 60


@pytest.fixture(scope="module")
def found() -> Vectors:
    """Vectors of two features, the second with gaps and with another spread in the group."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(COUNT, 2))
    model = ExplanationVectors(lambda given: (given.sum(1) > 0).astype(int), probes=0).fit(rows)
    values = generator.normal(size=(COUNT, 2))
    values[:20, 1] += 0.7
    values[[3, 40], 1] = np.nan
    return replace(
        model.explain(rows[:1]), rows=rows, values=values, scale=np.array([2.0, 3.0]), names=("a", "b"), **wide()
    )


def wide() -> dict[str, Any]:
    """All else that has a value for each row."""
    return {"flat": np.zeros(COUNT, dtype=bool), "agreement": np.ones(COUNT), "agrees": np.ones(COUNT, dtype=bool)}


def group() -> np.ndarray:
    return np.arange(COUNT) < 20


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The largest distance of two empirical distribution functions, at all places where one of them steps."""
    places = [*one.tolist(), *other.tolist()]
    return max(
        abs(sum(value <= place for value in one) / len(one) - sum(value <= place for value in other) / len(other))
        for place in places
    )


def test_both_sides_are_the_finite_components_per_deviation(found: Vectors) -> None:
    first, second = compared(found, "a", group()), compared(found, 1, group())
    np.testing.assert_array_equal(first.inside, 2 * found.values[:20, 0])
    np.testing.assert_array_equal(first.outside, 2 * found.values[20:, 0])
    assert (first.feature, second.feature) == ("a", "b")
    assert (len(second.inside), len(second.outside)) == (19, 39)
    np.testing.assert_array_equal(second.inside, 3 * np.delete(found.values[:20, 1], 3))
    np.testing.assert_array_equal(second.outside, 3 * np.delete(found.values[20:, 1], 20))


@pytest.mark.parametrize("feature", ["a", "b"])
def test_the_distance_is_that_of_the_distribution_functions(found: Vectors, feature: str) -> None:
    both = compared(found, feature, group())
    assert both.statistic == pytest.approx(distance(both.inside, both.outside))
    test = scipy.stats.kstest(both.inside, both.outside)
    assert (both.statistic, both.pvalue) == pytest.approx((test.statistic, test.pvalue))
    # The other way round is as far, and chance gives so much as often.
    back = compared(found, feature, ~group())
    assert (back.statistic, back.pvalue) == pytest.approx((both.statistic, both.pvalue))


def test_the_p_value_is_how_often_chance_gives_as_much(found: Vectors) -> None:
    both = compared(found, "b", group())
    generator = np.random.default_rng(0)
    pooled = np.concatenate([both.inside, both.outside])
    hits = 0
    for _ in range(400):
        mixed = generator.permutation(pooled)
        hits += scipy.stats.ks_2samp(mixed[:19], mixed[19:], method="asymp").statistic >= both.statistic - 1e-12
    assert both.pvalue == pytest.approx(hits / 400, abs=0.05)
    assert 0.0005 < both.pvalue < 0.3


def test_extremes(found: Vectors) -> None:
    apart = replace(found, values=np.where(group()[:, None], 1.0, -1.0) * np.ones((COUNT, 2)))
    assert compared(apart, "a", group()).statistic == 1
    assert compared(apart, "a", group()).pvalue < 1e-10
    same = replace(found, values=np.ones((COUNT, 2)))
    assert (compared(same, "a", group()).statistic, compared(same, "a", group()).pvalue) == (0, 1)


def test_groups_that_are_none(found: Vectors) -> None:
    with pytest.raises(InputError, match="there is no feature 'c'; there are a, b"):
        compared(found, "c", group())
    for wrong in (np.arange(COUNT), group()[:5], group()[:, None], group().astype(float), "group", []):
        with pytest.raises(InputError, match=r"the group is .*, but bool \(60,\) was expected"):
            compared(found, "a", wrong)
    with pytest.raises(InputError, match="60 vectors are in the group and 0 are not, but both need some"):
        compared(found, "a", np.ones(COUNT, dtype=bool))
    with pytest.raises(InputError, match="0 vectors are in the group and 58 are not"):
        compared(found, "b", np.isin(np.arange(COUNT), [3, 40]))
    assert compared(found, "a", group().tolist()).statistic == compared(found, "a", group()).statistic


def example(**changes: Any) -> Compared:
    given = {
        "feature": "radius",
        "inside": np.array([1.0, 2.0, 2.0, 4.0]),
        "outside": np.array([-2.0, 0.0, 1.5]),
        "statistic": 0.75,
        "pvalue": 0.0123,
    }
    return Compared(**{**given, **changes})


def figure(**changes: Any) -> Figure:
    return distribution_figure(example(**changes), ("spiky", "round"), quantity="P(not ill)")


def test_histograms_are_shares() -> None:
    histogram, _ = figure().axes
    filled = [patch for patch in histogram.patches if isinstance(patch, StepPatch)]
    low, high = histogram.get_xlim()
    assert low < -2 < 4 < high
    shares = {}
    for patch in filled:
        values, edges, _ = patch.get_data()
        np.testing.assert_allclose(edges, np.linspace(low, high, 31))
        colour = to_hex(patch.get_facecolor() if patch.get_fill() else patch.get_edgecolor())
        shares.setdefault(colour, []).append(values)
    assert set(shares) == {ORANGE, BLUE}
    for colour, given in ((ORANGE, example().inside), (BLUE, example().outside)):
        counted = [sum(one <= value < other for value in given) / len(given) for one, other in pairwise(edges)]
        assert len(shares[colour]) == 2
        for values in shares[colour]:
            np.testing.assert_allclose(values, counted)
            assert values.sum() == pytest.approx(1)
    assert histogram.get_ylim() == (0, pytest.approx(0.5 * 1.08))


def test_steps_are_the_distribution_functions() -> None:
    _, steps = figure().axes
    for line in steps.lines:
        colour = line.get_color()
        given = {ORANGE: example().inside, BLUE: example().outside}[colour]
        assert line.get_drawstyle() == "steps-post"
        x, y = (np.asarray(one) for one in line.get_data())
        assert (x[0], x[-1]) == steps.get_xlim()
        for place in np.linspace(x[0], x[-1], 57)[:-1]:
            reached = y[np.flatnonzero(x <= place)[-1]]
            assert reached == pytest.approx(sum(value <= place for value in given) / len(given))
        assert y[-1] == 1
    assert {line.get_color() for line in steps.lines} == {ORANGE, BLUE}
    assert {line.get_linestyle() for line in steps.lines} == {"-", "--"}


def test_what_is_written() -> None:
    said = written(figure())
    assert {"spiky (4)", "round (3)"} <= set(said)
    text = " ".join(said)
    assert "Does radius mean the same for both?" in text
    assert "the change of P(not ill) per standard deviation" in text
    assert "Kolmogorov–Smirnov: largest distance 0.75, p = 0.012; medians 2 and 0." in text
    assert said.count("component of radius") == 2
    assert "p < 0.0001" in " ".join(written(figure(pvalue=9e-5)))
    assert "p = 0.0001;" in " ".join(written(figure(pvalue=1e-4)))
    titled = distribution_figure(example(), ("a", "b"), quantity="P", title="A title")
    assert written(titled)[0] == "A title"


def test_names_are_shown_as_they_are() -> None:
    hostile = distribution_figure(example(feature="$x$ [red]"), ("$\\frac{1$", "[b]"), quantity="$q$", title="$t$")
    said = written(hostile)
    assert {"$\\frac{1$ (4)", "[b] (3)", "$t$", "component of $x$ [red]"} <= set(said)
    check_drawn(hostile)
    check_drawn(figure(feature="a long name " * 30))


def test_one_value_alone() -> None:
    check_drawn(figure(inside=np.array([2.0]), outside=np.array([2.0])))
    check_drawn(figure(inside=np.array([0.0]), outside=np.array([0.0, 1e-300])))


def test_twice_the_same_bytes() -> None:
    check_same_bytes(figure(), figure())

"""Bars of one vector: lengths, colours and ends are the numbers, and what is written says what they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from reports.units.figures import HOSTILE, check_drawn, check_same_bytes, ticks, written
from visavis.blackbox import Vectors
from visavis.errors import InputError
from visavis.reports.style import BLUE, ORANGE
from visavis.reports.vectors import bars_figure

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn

NAMES = ("height (cm)", "mass [kg]", "age")
NONE = np.full((2, 3), np.nan)
AT = np.array([[170.5, 60.25, 30.0], [180.0, 90.0, 12345.678]])
VALUES = np.array([[0.01, -0.5, 0.03], [-0.2, 0.001, 0.0]])
SCALE = np.array([10.0, 0.5, 2.0])


def vectors(**changes: Any) -> Vectors:
    given = {
        "kind": "away",
        "rows": AT,
        "values": VALUES,
        "log_odds_gradient": -VALUES,
        "targets": np.array(["cat", "dog"]),
        "foils": None,
        "said": np.array(["cat", "dog"]),
        "probabilities": np.array([[0.75, 0.25], [0.123, 0.877]]),
        "classes": np.array(["cat", "dog"]),
        "agreement": np.array([0.96, 0.54]),
        "agrees": np.array([True, False]),
        "flat": np.zeros(2, dtype=bool),
        "directions": NONE,
        "curvatures": np.full(2, np.nan),
        "low": VALUES - 0.02,
        "high": VALUES + 0.03,
        "scale": SCALE,
        "names": NAMES,
        "exact": False,
        "source": "Parzen mimic of 90 rows",
        "shape": (3,),
    }
    return Vectors(**{**given, **changes})


def odds(**changes: Any) -> Vectors:
    return vectors(kind="contrast", foils=np.array(["dog", "cat"]), **changes)


def flat(**changes: Any) -> Vectors:
    directions = np.array([[0.6, 0.0, -0.8], [np.nan] * 3])
    return vectors(flat=np.array([True, False]), directions=directions, **changes)


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def drawn(figure: Figure) -> list[tuple[str, float, str]]:
    """The bars from above: what they are called, how long they are, and their colour."""
    axes = axes_of(figure)
    assert axes.yaxis_inverted()
    found = []
    for place, (bar, name) in enumerate(zip(axes.patches, ticks(axes, "yaxis"), strict=True)):
        assert bar.get_x() == 0
        assert bar.get_y() + bar.get_height() / 2 == pytest.approx(place)
        found.append((name, bar.get_width(), to_hex(bar.get_facecolor())))
    return found


def text(figure: Figure) -> str:
    return " ".join(written(figure))


def test_bars_are_changes_per_standard_deviation_the_largest_first() -> None:
    names, lengths, colours = zip(*drawn(bars_figure(vectors())), strict=True)
    assert names == ("mass [kg] = 60.25", "height (cm) = 170.5", "age = 30")
    # ζ leads out of the class: what speaks for it is its contrary, to the right.
    assert lengths == pytest.approx((0.25, -0.1, -0.06))
    assert colours == (ORANGE, BLUE, BLUE)


def test_a_contrast_speaks_for_its_target_to_the_right() -> None:
    names, lengths, colours = zip(*drawn(bars_figure(odds())), strict=True)
    assert names == ("mass [kg] = 60.25", "height (cm) = 170.5", "age = 30")
    assert lengths == pytest.approx((-0.25, 0.1, 0.06))
    assert colours == (BLUE, ORANGE, ORANGE)


def test_another_row() -> None:
    names, lengths, colours = zip(*drawn(bars_figure(vectors(), 1)), strict=True)
    assert names == ("height (cm) = 180", "mass [kg] = 90", "age = 1.235e+04")
    assert lengths == pytest.approx((2, -0.0005, 0.0))
    assert colours[:2] == (ORANGE, BLUE)


def test_lines_are_the_ends_of_the_intervals() -> None:
    def ends(figure: Figure) -> list[list[float]]:
        lines = [line.get_xydata().tolist() for line in axes_of(figure).lines]
        level = [line for line in lines if line[0][1] == line[1][1] and line[0][0] != line[1][0]]
        upright = {(one[0], round((one[1] + two[1]) / 2, 6)) for one, two in lines if one[0] == two[0]}
        for (low, place), (high, _) in level:
            assert {(low, place), (high, place)} <= upright
        return [[low, high] for (low, _), (high, _) in sorted(level, key=lambda line: line[0][1])]

    values, scale = VALUES[0, [1, 0, 2]], SCALE[[1, 0, 2]]
    expected = np.stack([-(values + 0.03) * scale, -(values - 0.02) * scale], 1)
    np.testing.assert_allclose(ends(bars_figure(vectors())), expected)
    low, high = axes_of(bars_figure(vectors())).get_xlim()
    assert low < expected.min() < expected.max() < high
    none = bars_figure(vectors(low=None, high=None))
    assert ends(none) == []
    assert "intervals" not in text(none)
    assert "95 % intervals" in text(bars_figure(vectors()))


def test_ends_without_a_number_leave_the_bars() -> None:
    figure = bars_figure(vectors(low=NONE, high=NONE))
    assert [length for _, length, _ in drawn(figure)] == pytest.approx([0.25, -0.1, -0.06])
    check_drawn(figure)


def test_what_is_written_beside_a_bar_is_the_change_per_unit() -> None:
    said = written(bars_figure(vectors()))
    assert [one for one in said if " per " in one and one[0] in "−0123456789"] == [
        "0.5 per kg",
        "−0.01 per cm",
        "−0.03 per unit",
    ]
    odd = ("a (b) c", "x (mm)  ", "(s)")
    said = written(bars_figure(vectors(names=odd)))
    assert {"−0.01 per unit", "0.5 per mm", "−0.03 per s"} <= set(said)


def test_what_is_written_says_what_the_bars_are() -> None:
    said = text(bars_figure(vectors()))
    assert "What speaks for cat, and what against?" in said
    assert "The classifier says cat. P(cat) is 75.0 % by its mimic." in said
    assert "change of P(cat) per standard deviation" in said
    assert "more of it speaks for cat" in said
    assert "more of it speaks against cat" in said
    assert "Around this row it agrees with the classifier in 96 % of the places asked." in said
    assert "something else" not in said
    said = text(bars_figure(odds(), 1))
    assert "Why dog and not cat?" in said
    assert "P(dog) is 87.7 % by its mimic." in said
    assert "change of log P(dog) / P(cat) per standard deviation" in said
    assert "more of it speaks for dog" in said
    assert "more of it speaks for cat" in said
    assert "in 54 % of the places" in said
    assert "At this row itself it says something else than the classifier" in said
    said = text(bars_figure(vectors(exact=True, source="the closed form", low=None, high=None)))
    assert "Gradients: the closed form." in said
    assert "P(cat) is 75.0 % by it." in said
    assert "mimic" not in said
    assert "in nan %" not in text(bars_figure(vectors(agreement=np.full(2, np.nan))))
    assert written(bars_figure(vectors(), title="A title"))[0] == "A title"


def test_another_class_than_what_is_said() -> None:
    said = text(bars_figure(vectors(targets=np.array(["dog", "dog"]))))
    assert "What speaks for dog, and what against?" in said
    assert "The classifier says cat. P(dog) is 25.0 %" in said


def test_most() -> None:
    assert [name for name, _, _ in drawn(bars_figure(vectors(), most=2))] == [
        "mass [kg] = 60.25",
        "height (cm) = 170.5",
    ]
    assert "The 2 strongest of 3 features." in text(bars_figure(vectors(), most=2))
    assert "strongest" not in text(bars_figure(vectors(), most=3))
    few, many = bars_figure(vectors(), most=1), bars_figure(vectors())
    assert few.get_figheight() < many.get_figheight()


def test_a_flat_row_is_drawn_as_a_direction_in_grey() -> None:
    figure = bars_figure(flat())
    names, lengths, colours = zip(*drawn(figure), strict=True)
    assert names == ("age = 30", "height (cm) = 170.5", "mass [kg] = 60.25")
    assert lengths == pytest.approx((-0.8, 0.6, 0.0))
    assert set(colours) == {"#8a8a8a"}
    assert len(axes_of(figure).lines) == 1  # that at zero: no intervals
    said = text(figure)
    assert "The gradient is next to zero here" in said
    assert "direction, in standard deviations" in said
    assert "per unit" not in said
    assert "speaks" not in said
    assert "What would make it another than cat?" in said
    assert "intervals" not in said
    # The other row of the same is none.
    assert [length for _, length, _ in drawn(bars_figure(flat(), 1))] == pytest.approx([2, -0.0005, 0.0])


def test_features_of_one_name_keep_their_own_numbers() -> None:
    """Such names come from a table of pandas that was joined."""
    figure = bars_figure(vectors(names=("x", "x", "age")))
    assert [length for _, length, _ in drawn(figure)] == pytest.approx([0.25, -0.1, -0.06])
    level = [line.get_xydata() for line in axes_of(figure).lines]
    level = sorted((line for line in level if line[0, 1] == line[1, 1]), key=lambda line: line[0, 1])
    np.testing.assert_allclose(level[0][:, 0], np.array([0.47, 0.52]) * 0.5)
    np.testing.assert_allclose(level[1][:, 0], np.array([-0.04, 0.01]) * 10)
    lengths = [length for _, length, _ in drawn(bars_figure(flat(names=("x", "y", "x"))))]
    assert lengths == pytest.approx([-0.8, 0.6, 0.0])
    assert [name for name, _, _ in drawn(bars_figure(flat(names=("x", "y", "x"))))][:2] == ["x = 30", "x = 170.5"]


def test_vectors_that_are_not_there() -> None:
    for row in (-1, 2):
        with pytest.raises(InputError, match=rf"there is no vector {row}; there are 2, numbered from 0"):
            bars_figure(vectors(), row)
    with pytest.raises(InputError, match=r"the mimic knows no row of .*dog.*, so vector 1 has no values to draw"):
        bars_figure(vectors(values=np.array([VALUES[0], [np.nan] * 3])), 1)


def test_names_are_shown_as_they_are() -> None:
    names = ("$x$", "[red]a (\\%)", "{c}_1")
    targets = np.array(["$\\frac{1$", "[b]dog"])
    figure = bars_figure(vectors(names=names, targets=targets, said=targets, classes=targets))
    assert [name for name, _, _ in drawn(figure)] == ["[red]a (\\%) = 60.25", "$x$ = 170.5", "{c}_1 = 30"]
    assert "What speaks for $\\frac{1$, and what against?" in text(figure)
    assert "0.5 per \\%" in text(figure)
    check_drawn(figure)


def test_whatever_comes_is_on_the_page() -> None:
    count = len(HOSTILE)
    generator = np.random.default_rng(0)
    values = generator.normal(size=(count, count))
    names = np.array([f"{name} " for name in HOSTILE])
    many = vectors(
        rows=values * 1e9,
        values=values * 1e-7,
        log_odds_gradient=values,
        targets=names,
        said=names,
        classes=names,
        probabilities=np.full((count, count), 1 / count),
        agreement=np.full(count, 0.5),
        agrees=np.zeros(count, dtype=bool),
        flat=np.zeros(count, dtype=bool),
        directions=values,
        curvatures=values[0],
        low=values * 1e-7 - 1e-8,
        high=values * 1e-7 + 1e-8,
        scale=np.full(count, 1e5),
        names=tuple(HOSTILE),
        shape=(count,),
    )
    for row in range(count):
        check_drawn(bars_figure(many, row))
    check_drawn(bars_figure(replace(many, flat=np.ones(count, dtype=bool)), 0))
    check_drawn(bars_figure(vectors(values=0 * VALUES, low=0 * VALUES, high=0 * VALUES)))


def test_twice_the_same_bytes() -> None:
    check_same_bytes(bars_figure(vectors()), bars_figure(vectors()))
    check_same_bytes(bars_figure(flat()), bars_figure(flat()))

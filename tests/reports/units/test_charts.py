"""Scatter, curves and decisions: points, lines and bars are the numbers, and what is said of them is there."""

from __future__ import annotations

import matplotlib.colors
import numpy as np
import pytest
import torch

from reports.units.figures import HOSTILE, check_drawn, check_same_bytes, ticks, written
from visavis.errors import InputError
from visavis.reports.style import BLUE, GREY, ORANGE, points
from visavis.reports.units import (
    Compared,
    CurvePanel,
    attribute_scatter,
    class_removal_curves,
    cumulative_curves,
    decision_figure,
)
from visavis.units import Estimate, Related

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn

NAN = float("nan")
OVERALL = Related(Estimate(-0.25, -0.5, 0.125, 6), Estimate(NAN, NAN, NAN, 6))
HARDEST = Related(Estimate(0.5, 0.25, 0.75, 6), Estimate(0.25, 0.0, 0.5, 6))
DROPS, MOST = [0.01, 0.03, -0.01, 0.0, 0.02, 0.0], [0.5, 0.1, 0.0, 0.9, 0.2, 0.3]
VALUES = [0.1, 0.2, 0.3, 0.4, 0.5, NAN]
UNITS = [11, 22, 33, 44, 55, 66]


def scatter(count: int = 1, notable: int = 2) -> object:
    each = [Compared(f"attribute {number}", VALUES, OVERALL, HARDEST) for number in range(count)]
    return attribute_scatter(each, DROPS, torch.tensor(MOST), UNITS, layer="layer4", notable=notable)


def offsets(axes: object) -> set[tuple[float, float]]:
    return {(round(x, 6), round(y, 6)) for each in axes.collections for x, y in each.get_offsets().tolist()}


def test_points_are_the_units_and_the_notable_ones_are_numbered() -> None:
    figure = scatter()
    overall, hardest = figure.axes
    assert offsets(overall) == set(zip(VALUES[:5], DROPS[:5], strict=True))
    assert offsets(hardest) == {(x, round(y, 6)) for x, y in zip(VALUES[:5], MOST[:5], strict=True)}
    assert sorted(text.get_text() for text in overall.texts) == ["22", "55"]
    assert sorted(text.get_text() for text in hardest.texts) == ["11", "44"]
    said = written(figure)
    assert "attribute 0 (1 units without)" in said
    assert said.count("r = −0.25 (−0.50 to 0.12)") == 1
    assert said.count("ρ is not defined") == 1
    assert "r = 0.50 (0.25 to 0.75)" in said
    assert "ρ = 0.25 (0.00 to 0.50)" in said
    assert "0" in ticks(hardest, "yaxis")
    assert "50" in ticks(hardest, "yaxis")


def test_seven_attributes_are_fourteen_panels() -> None:
    figure = scatter(7)
    assert len(figure.axes) == 14
    check_drawn(figure)
    boxes = [axes.get_position() for axes in figure.axes]
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    check_same_bytes(scatter(1), scatter(1))


def test_numbers_do_not_lie_on_each_other() -> None:
    units = list(range(100, 112))
    ups = np.linspace(0.5, 0.51, 12)
    related = Related(Estimate(0, 0, 0, 12), Estimate(0, 0, 0, 12))
    crowded = [Compared("crowded", [*np.linspace(0.5, 0.53, 11).tolist(), 9.0], related, related)]
    figure = attribute_scatter(crowded, ups, ups, units, layer="fc", notable=12)
    check_drawn(figure)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert 2 <= len(boxes) < 12
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


def panel(**changes: object) -> CurvePanel:
    counts = [0, 1, 2, 4, 8, 64]
    lines = {
        "descending": [0.9, 0.8, 0.7, 0.6, 0.5, 0.1],
        "random": [[0.9, 0.9, 0.8, 0.8, 0.7, 0.1], [0.9, 0.7, 0.6, 0.6, 0.5, 0.1]],
    }
    return CurvePanel(
        **{"title": "sparsity", "counts": counts, "lines": lines, "intact": 0.9, "chance": 0.1, **changes}
    )


def test_curves_are_the_accuracies_with_intact_and_chance() -> None:
    figure = cumulative_curves([panel()], layer="layer4")
    axes = next(one for one in figure.axes if len(one.lines) > 2)
    lines = {tuple(np.round(line.get_ydata(), 6)): line for line in axes.lines}
    assert (0.9, 0.9) in lines
    assert (0.1, 0.1) in lines
    down = lines[0.9, 0.8, 0.7, 0.6, 0.5, 0.1]
    assert down.get_xdata().tolist() == [0, 1, 2, 4, 8, 64]
    assert down.get_color() == ORANGE
    mean = lines[0.9, 0.8, 0.7, 0.7, 0.6, 0.1]
    assert mean.get_color() == GREY
    band = axes.collections[0].get_paths()[0].vertices
    assert {(1.0, 0.7), (1.0, 0.9), (8.0, 0.5), (8.0, 0.7)} <= {(x, round(y, 6)) for x, y in band.tolist()}
    assert axes.get_xscale() == "symlog"
    assert ticks(axes, "xaxis") == ["0", "1", "10", "64"]
    assert {"descending", "random", "nothing removed", "chance", "sparsity"} <= set(written(figure))


def test_few_counts_are_linear_and_panels_share_a_range() -> None:
    few = panel(counts=[0, 1, 2, 3, 4, 5], chance=None, lines={"a": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]})
    figure = cumulative_curves([few, panel()], layer="layer4")
    first, second = (one for one in figure.axes if one.get_xlim() != (0.0, 1.0))
    assert first.get_xscale() == "linear"
    assert first.get_ylim() == second.get_ylim()
    low, high = first.get_ylim()
    assert 0 < low < 0.1
    assert 0.9 < high < 1
    with pytest.raises(InputError, match="6 values for 3 counts, of 'descending'"):
        cumulative_curves([panel(counts=[0, 1, 2])], layer="fc")


def test_classes_come_by_what_they_lose_after_their_mean() -> None:
    names = ["little", "much", "some"]
    best = np.array([[0.9, 0.85], [0.6, 0.5], [0.8, 0.7]])
    worst = np.array([[0.9, 0.9], [0.9, 0.9], [0.9, 0.8]])
    figure = class_removal_curves(names, [1, 2], [0.9, 0.9, 0.9], best, worst, layer="layer4", most=2)
    panels = [one for one in figure.axes if len(one.lines) > 2]
    drawn = [
        {tuple(np.round(line.get_ydata(), 6)): line.get_color() for line in axes.lines if len(line.get_ydata()) == 3}
        for axes in panels
    ]
    assert drawn[1:] == [
        {(0.9, 0.6, 0.5): ORANGE, (0.9, 0.9, 0.9): BLUE},
        {(0.9, 0.8, 0.7): ORANGE, (0.9, 0.9, 0.8): BLUE},
    ]
    assert (0.9, 0.766667, 0.683333) in drawn[0]
    said = written(figure)
    assert [name for name in said if name in names] == ["much", "some"]
    assert "Mean of 3 classes" in said
    assert "2 of 3 classes: those that lose most." in " ".join(said)


def decision(**changes: object) -> object:
    given = {
        "units": [5, 9, 2, 7],
        "differences": [0.4, -0.3, 0.01, 0.2],
        "counts": [0, 1, 2],
        "margins": [2.0, 0.5, -1.0],
        "random_margins": [[2.0, 1.9, 1.7], [2.0, 2.1, 1.9]],
        "names": ("zebra", "elephant"),
        "layer": "layer4",
        **changes,
    }
    return decision_figure(**given)


def test_bars_are_the_differences_and_the_curve_is_the_margin() -> None:
    figure = decision(most=3)
    bars = next(one for one in figure.axes if len(one.patches) == 3)
    assert ticks(bars, "yaxis") == ["5", "7", "9"]
    assert [round(bar.get_width(), 6) for bar in bars.patches] == [0.4, 0.2, -0.3]
    colours = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in bars.patches]
    assert colours == [ORANGE, ORANGE, BLUE]
    curve = next(one for one in figure.axes if len(one.lines) == 3)
    lines = [np.round(line.get_ydata(), 6).tolist() for line in curve.lines]
    assert [2.0, 0.5, -1.0] in lines
    assert [2.0, 2.0, 1.8] in lines
    assert ticks(curve, "xaxis") == ["0", "1", "2"]
    said = written(figure)
    assert {"Why zebra and not elephant?", "speaks for zebra", "speaks for elephant"} <= set(said)
    assert "below zero, elephant is ahead" in said
    assert "without units drawn at random: mean and range of 2" in said
    assert "without those that speak most for elephant" not in said
    assert "the 3 of 4 units" in " ".join(said)
    check_drawn(figure)
    check_same_bytes(decision(), decision())
    both = decision(foil_margins=[2.0, 2.5, 3.0])
    assert "without those that speak most for elephant" in written(both)
    curve = next(one for one in both.axes if len(one.lines) == 4)
    assert [line.get_color() for line in curve.lines if list(line.get_ydata()) == [2.0, 2.5, 3.0]] == [BLUE]


def test_the_numbers_at_bars_stay_beside_them() -> None:
    figure = decision(differences=[0.00123, -0.00086, 0.00091, -0.00141])
    check_drawn(figure)
    bars = next(one for one in figure.axes if len(one.patches) == 4)
    assert sorted(text.get_text() for text in bars.texts) == ["0.00091", "0.0012", "−0.00086", "−0.0014"]
    inside, room = bars.get_window_extent(), [text.get_window_extent() for text in bars.texts]
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in room)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_may_be_anything(name: str) -> None:
    check_drawn(decision(names=(name, name), layer=name, random_margins=None))
    check_drawn(cumulative_curves([panel(title=name, lines={name: [0.5] * 6})] * 2, layer=name))
    check_drawn(attribute_scatter([Compared(name, VALUES, OVERALL, HARDEST)], DROPS, MOST, UNITS, layer=name))


def test_lists_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="2 margins for 3 counts"):
        decision(margins=[1.0, 2.0])
    with pytest.raises(InputError, match="4 relevance differences for 1 units"):
        decision(units=[5])
    with pytest.raises(InputError, match="for 6 units, of 'b'"):
        attribute_scatter([Compared("b", VALUES[:3], OVERALL, HARDEST)], DROPS, MOST, UNITS, layer="fc")
    with pytest.raises(InputError, match="panels"):
        cumulative_curves([], layer="fc")


def test_points_never_claim_more_than_was_counted() -> None:
    said = {0.5: "50", 0.034: "3.4", -0.12: "−12", 0.0: "0", 0.0001: "0", -0.0001: "0", 0.0996: "10", NAN: "–"}
    assert {value: points(value) for value in said} == said
    assert points(0.12, signed=True) == "+12"

"""Removal curves: lines, bands and levels are the numbers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from reports.shape_texture.estimates import NAN
from reports.units.figures import HOSTILE, check_drawn, check_same_bytes, ticks, written
from visavis.errors import InputError
from visavis.reports.shape_texture import RemovalCurve, RemovalPanel, removal_curves
from visavis.reports.style import BLUE, GREY, ORANGE

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn

COUNTS = [0, 8, 64]
SHAPE, TEXTURE, RANDOM = [0.75, 0.7, 0.5], [0.75, 0.6, 0.25], [0.75, 0.74, 0.7]
ENDS = [[0.7, 0.8], [0.65, 0.72], [0.45, 0.6]]


def panel(**changes: object) -> RemovalPanel:
    lines = {
        "random": RemovalCurve(RANDOM),
        "top shape": RemovalCurve(SHAPE, ENDS),
        "top texture": RemovalCurve(torch.tensor(TEXTURE)),
    }
    given = {"title": "ResNet50", "counts": COUNTS, "lines": lines, "intact": 0.75, "chance": 0.125}
    return RemovalPanel(**{**given, **changes})


def draw(*panels: RemovalPanel, **options: object) -> Figure:
    return removal_curves(panels or [panel()], **{"layer": "layer4", **options})


def curves(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    found = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    return {
        line.get_color(): (np.round(line.get_xdata(), 6).tolist(), np.round(line.get_ydata(), 6).tolist())
        for line in found
    }


def levels(axes: Axes) -> dict[str, float]:
    return {line.get_linestyle(): float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "None"}


@cache
def plain() -> Figure:
    """The plain figure, which no test changes."""
    return draw()


def test_curves_are_the_values_in_the_colours_of_the_factors() -> None:
    figure = plain()
    (axes,) = figure.axes
    assert curves(axes) == {ORANGE: (COUNTS, SHAPE), BLUE: (COUNTS, TEXTURE), GREY: (COUNTS, RANDOM)}
    styles = {line.get_color(): (line.get_linestyle(), line.get_marker()) for line in axes.lines}
    assert len({styles[colour] for colour in (ORANGE, BLUE, GREY)}) == 3
    assert levels(axes) == {"-": 0.75, ":": 0.125}
    assert {"top shape", "top texture", "random", "all units", "chance", "ResNet50"} <= set(written(figure))
    assert axes.get_ylim()[0] < 0.125
    assert axes.get_ylim()[1] > 0.8


def test_bands_are_the_intervals() -> None:
    figure = plain()
    found = [
        (to_hex(one.get_facecolor()[0]), {tuple(np.round(point, 6)) for point in path.vertices.tolist()})
        for one in figure.axes[0].collections
        for path in one.get_paths()
    ]
    ((colour, corners),) = found
    assert colour == ORANGE
    assert {(count, end) for count, ends in zip(COUNTS, ENDS, strict=True) for end in ends} <= corners
    assert "Bands: 95 % intervals." in " ".join(written(figure))
    assert "Bands" not in " ".join(written(draw(panel(lines={"top shape": RemovalCurve(SHAPE)}))))


def test_counts_come_in_any_order() -> None:
    turned = panel(counts=[64, 0, 8], lines={"top shape": RemovalCurve([0.5, 0.75, 0.7], [ENDS[2], ENDS[0], ENDS[1]])})
    (axes,) = draw(turned).axes
    assert curves(axes)[ORANGE] == (COUNTS, SHAPE)
    assert axes.collections[0].get_paths()[0].vertices.tolist() == (
        draw(panel(lines={"top shape": RemovalCurve(SHAPE, ENDS)}))
        .axes[0]
        .collections[0]
        .get_paths()[0]
        .vertices.tolist()
    )


def test_kept_or_removed() -> None:
    removed, kept = written(plain()), written(draw(kept=True))
    assert "units removed" in removed
    assert "units kept" not in removed
    assert "units kept" in kept
    assert "units removed" not in kept
    assert removed[0] == "Which units are missed more, those for shape or those for texture?"
    assert kept[0] == "Which units are enough, those for shape or those for texture?"
    assert written(draw(title="Another"))[0] == "Another"


def test_panels_share_a_range_and_a_key() -> None:
    other = panel(lines={"top shape": RemovalCurve([0.1, 0.05, 0.0])}, title="small", intact=None, chance=None)
    figure = draw(panel(), other, measure="mIoU")
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[0] < 0
    assert levels(second) == {}
    assert written(figure).count("top shape") == 1
    assert "Layer layer4: mIoU, per cent, against the number of units removed." in " ".join(written(figure))
    none = written(draw(other))
    assert "all units" not in none
    assert "chance" not in none


@pytest.mark.parametrize(
    ("value", "limits"), [(0.0, (0, 0.1)), (0.03, (0, 0.1)), (0.5, (0.45, 0.55)), (1.0, (0.905, 1.005))]
)
def test_the_axis_spans_ten_points(value: float, limits: tuple[float, float]) -> None:
    flat = panel(lines={"top shape": RemovalCurve([value] * 3)}, intact=value, chance=None)
    (axes,) = draw(flat).axes
    assert axes.get_ylim() == pytest.approx(limits)
    assert len(ticks(axes, "yaxis")) > 1


def test_other_orders_have_looks_of_their_own() -> None:
    lines = {name: RemovalCurve(SHAPE) for name in ("a", "b", "c", "top shape")}
    (axes,) = draw(panel(lines=lines)).axes
    looks = {
        (line.get_color(), line.get_linestyle(), line.get_marker())
        for line in axes.lines
        if line.get_marker() != "None"
    }
    assert len(looks) == 4


def test_what_is_not_known_is_left_out() -> None:
    figure = draw(panel(lines={"top shape": RemovalCurve([0.5, NAN, 0.25], [[NAN, NAN]] * 3)}))
    assert np.isnan(curves(figure.axes[0])[ORANGE][1][1])
    check_drawn(figure)
    assert ticks(figure.axes[0], "yaxis")


def test_names_may_be_anything() -> None:
    lines = {name: RemovalCurve(SHAPE, ENDS) for name in HOSTILE}
    check_drawn(
        draw(*[panel(title=name, lines=lines) for name in HOSTILE[:4]], layer="$_^", measure="$_^", title="$_^")
    )
    check_drawn(draw(panel(counts=[5], lines={"top shape": RemovalCurve([0.5])})))
    check_same_bytes(draw(), draw())


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="panels"):
        removal_curves([], layer="fc")
    with pytest.raises(InputError, match="3 values for 2 counts, of 'random'"):
        draw(panel(counts=[0, 8]))
    with pytest.raises(InputError, match=r"the intervals of 'a' have the shape \(2, 2\)"):
        draw(panel(lines={"a": RemovalCurve(SHAPE, ENDS[:2])}))
    with pytest.raises(InputError, match="low end above the high one"):
        draw(panel(lines={"a": RemovalCurve(SHAPE, [[0.9, 0.1]] * 3)}))

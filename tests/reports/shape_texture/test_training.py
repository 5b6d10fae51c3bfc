"""Dimensions over training: areas, edges, bands and ticks are the checkpoints."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from reports.shape_texture.estimates import NAN, estimate
from reports.units.figures import HOSTILE, check_drawn, check_same_bytes, ticks, written
from visavis.errors import InputError
from visavis.reports.shape_texture import dimension_curves
from visavis.reports.style import BLUE, ORANGE

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn

EPOCHS = [0, 5, 20]
SHAPE, TEXTURE = [0.125, 0.15, 0.2], [0.4, 0.35, 0.3]
FOUND = [estimate(pair, 2048) for pair in zip(SHAPE, TEXTURE, strict=True)]


def area(axes: Axes, colour: str) -> set[tuple[float, float]]:
    (found,) = (one for one in axes.collections if to_hex(one.get_facecolor()[0]) == colour)
    return {(round(float(x), 6), round(float(y), 6)) for path in found.get_paths() for x, y in path.vertices}


def bands(axes: Axes) -> list[set[tuple[float, float]]]:
    return [
        {(round(float(x), 6), round(float(y), 6)) for path in one.get_paths() for x, y in path.vertices}
        for one in axes.collections
        if one.get_alpha() is not None
    ]


def edges(axes: Axes) -> list[list[float]]:
    return [np.round(line.get_ydata(), 6).tolist() for line in axes.lines if line.get_linestyle() == "-"]


def panels(figure: Figure) -> list[Axes]:
    return [one for one in figure.axes if one.collections]


@cache
def plain() -> Figure:
    """The plain figure, which no test changes."""
    return dimension_curves(EPOCHS, {"a": FOUND})


def test_areas_are_the_shares_at_each_checkpoint() -> None:
    (axes,) = panels(plain())
    assert {(0, 0), (20, 0), *zip(EPOCHS, SHAPE, strict=True)} <= area(axes, ORANGE)
    above = [0.6, 0.65, 0.7]
    assert {(0, 1), (20, 1), *zip(EPOCHS, above, strict=True)} <= area(axes, BLUE)
    assert {*zip(EPOCHS, SHAPE, strict=True), *zip(EPOCHS, above, strict=True)} <= area(axes, "#dedede")
    assert edges(axes) == [SHAPE, above]
    assert axes.get_xlim() == (0, 20)
    assert axes.get_ylim() == (0, 1)
    assert [bool(one.get_hatch()) for one in axes.collections[:3]] == [False, False, True]


def test_bands_are_the_intervals() -> None:
    (axes,) = panels(plain())
    shape, texture = bands(axes)
    assert {(0, 0.11), (0, 0.155), (5, 0.135), (5, 0.18), (20, 0.185), (20, 0.23)} <= shape
    assert {(0, 0.57), (0, 0.615), (5, 0.62), (5, 0.665), (20, 0.67), (20, 0.715)} <= texture
    none = dimension_curves(EPOCHS, {"layer4": [estimate((0.2, 0.3), half=NAN)] * 3})
    assert not any(bands(panels(none)[0]))
    assert "95 % interval of the edge" not in written(none)
    assert "95 % interval of the edge" in written(plain())


def test_checkpoints_come_in_any_order() -> None:
    turned = dimension_curves([20, 0, 5], {"layer4": [FOUND[2], FOUND[0], FOUND[1]]})
    assert edges(panels(turned)[0])[0] == SHAPE
    assert panels(turned)[0].lines[0].get_xdata().tolist() == EPOCHS


def test_names_stand_side_by_side() -> None:
    figure = dimension_curves(["new", "half", "done"], {"layer4": FOUND}, unit="checkpoint")
    (axes,) = panels(figure)
    assert axes.lines[0].get_xdata().tolist() == [0, 1, 2]
    assert ticks(axes, "xaxis") == ["new", "half", "done"]
    assert any("Across: checkpoint." in text for text in written(figure))
    narrow = dimension_curves(["a long name", "b", "c"], {f"layer{place}": FOUND for place in range(6)})
    labels = panels(narrow)[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["a long name", "b", "c"]
    assert {label.get_rotation() for label in labels} == {90}
    assert narrow.get_figheight() > dimension_curves([1, 2, 3], {f"{p}": FOUND for p in range(6)}).get_figheight() + 0.3
    check_drawn(narrow)


def test_steps_are_spelled_short() -> None:
    (axes,) = panels(dimension_curves([0, 1000, 1500000], {"a": FOUND}, unit="step"))
    assert ticks(axes, "xaxis")[:3] == ["0", "200k", "400k"]
    assert ticks(axes, "xaxis")[-1] == "1.4M"


def test_a_single_checkpoint_is_a_bar() -> None:
    figure = dimension_curves([90], {"layer4": FOUND[-1:]})
    (axes,) = panels(figure)
    assert edges(axes) == [[0.2, 0.2], [0.7, 0.7]]
    assert axes.get_xlim() == (89.5, 90.5)
    assert ticks(axes, "xaxis") == ["90"]
    check_drawn(figure)
    (axes,) = panels(dimension_curves(["done"], {"layer4": FOUND[-1:]}))
    assert ticks(axes, "xaxis") == ["done"]


def test_seven_layers_wrap_and_both_sides_are_numbered() -> None:
    figure = dimension_curves(EPOCHS, {f"layer{place}": FOUND for place in range(7)})
    found = panels(figure)
    assert len(found) == 7
    tops = [round(one.get_position().y1, 6) for one in found]
    assert len(set(tops[:4])) == 1
    assert len(set(tops[4:])) == 1
    assert tops[0] > tops[4]
    assert ticks(found[0], "yaxis") == ["0", "25", "50", "75", "100"]
    assert set(ticks(found[1], "yaxis")) == {""}
    right = [one for axes in found for one in axes.child_axes]
    assert [ticks(one, "yaxis") for one in right] == [["100", "75", "50", "25", "0"]] * 2
    boxes = [one.get_position() for one in found]
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    assert {f"layer{place}" for place in range(7)} <= set(written(figure))
    assert written(figure).count("2048 dimensions") == 7
    check_drawn(figure)


def test_all_layers_together() -> None:
    assert "all together" in written(dimension_curves(EPOCHS, {"a": FOUND, "all": FOUND}))
    alone = written(dimension_curves(EPOCHS, {"all": FOUND}))
    assert "all" in alone
    assert "all together" not in alone


def test_what_softmax_gives_where_nothing_is_encoded() -> None:
    def marks(figure: Figure) -> list[float]:
        return [float(line.get_ydata()[0]) for line in panels(figure)[0].lines if line.get_linestyle() == "--"]

    expected = 1 / (2 + math.exp(1))
    assert marks(plain()) == pytest.approx([expected, 1 - expected])
    share = dimension_curves([1, 2], {"a": [estimate((0.2, 0.3), estimator="share")] * 2})
    assert marks(share) == []


def test_names_may_be_anything() -> None:
    check_drawn(dimension_curves(list(HOSTILE[:3]), dict.fromkeys(HOSTILE, FOUND), unit="$_^", title="$_^"))
    check_same_bytes(dimension_curves(EPOCHS, {"a": FOUND}), dimension_curves(EPOCHS, {"a": FOUND}))


def test_title() -> None:
    assert written(dimension_curves(EPOCHS, {"a": FOUND}, title="Another"))[0] == "Another"


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="checkpoints"):
        dimension_curves([], {})
    with pytest.raises(InputError, match="no layers came"):
        dimension_curves(EPOCHS, {})
    with pytest.raises(InputError, match="2 estimates for 3 checkpoints, of 'b'"):
        dimension_curves(EPOCHS, {"a": FOUND, "b": FOUND[:2]})
    with pytest.raises(InputError, match="NaN or infinite"):
        dimension_curves([0, 1, NAN], {"a": FOUND})
    with pytest.raises(InputError, match="but shape and texture are drawn"):
        dimension_curves([1], {"a": [estimate((0.2, 0.3), factors=("shape", "colour"))]})
    with pytest.raises(InputError, match="by one estimator"):
        dimension_curves([1, 2], {"a": [FOUND[0], estimate((0.2, 0.3), estimator="share")]})

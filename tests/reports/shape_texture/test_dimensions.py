"""Bars of dimensions: lengths, whiskers, marks and numbers are the estimates."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from reports.shape_texture.estimates import NAN, estimate
from reports.units.figures import HOSTILE, check_drawn, check_same_bytes, ticks, written
from visavis.errors import InputError
from visavis.plotting.lettering import width_of
from visavis.reports.shape_texture import dimension_bars
from visavis.reports.shape_texture.factors import ended
from visavis.reports.style import BLUE, ORANGE

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn

LAYERS = {"conv1": estimate((0.125, 0.42), 64), "layer4": estimate((0.17, 0.34), 2048)}


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def bars(figure: Figure) -> list[tuple[str, float, float, float]]:
    """Colour, place from above, start and length of each bar."""
    return [
        (
            to_hex(one.get_facecolor()),
            round(one.get_y() + one.get_height() / 2, 6),
            round(one.get_x(), 6),
            round(one.get_width(), 6),
        )
        for one in axes_of(figure).patches
    ]


def whiskers(figure: Figure) -> list[tuple[float, float, float]]:
    lines = [np.asarray(line.get_xydata(), dtype=float) for line in axes_of(figure).lines]
    return [
        (round(one[0, 1], 6), round(one[0, 0], 6), round(one[1, 0], 6))
        for one in lines
        if one[0, 1] == one[1, 1] and one[0, 0] != one[1, 0]
    ]


@cache
def plain() -> Figure:
    """The plain figure, which no test changes."""
    return dimension_bars(LAYERS)


def test_shape_grows_from_the_left_and_texture_from_the_right() -> None:
    figure = plain()
    assert ticks(axes_of(figure), "yaxis") == ["conv1", "layer4"]
    assert axes_of(figure).yaxis_inverted()
    assert bars(figure) == [
        (ORANGE, 0.0, 0.0, 0.125),
        ("#dedede", 0.0, 0.125, 0.455),
        (BLUE, 0.0, 0.58, 0.42),
        (ORANGE, 1.0, 0.0, 0.17),
        ("#dedede", 1.0, 0.17, 0.49),
        (BLUE, 1.0, 0.66, 0.34),
    ]
    # In grey print both have one lightness: texture is hatched.
    assert [bool(one.get_hatch()) for one in axes_of(figure).patches] == [False, False, True] * 2


def test_whiskers_are_the_intervals_of_both_factors() -> None:
    assert whiskers(plain()) == [
        (0.0, 0.11, 0.155),
        (0.0, 0.55, 0.595),
        (1.0, 0.155, 0.2),
        (1.0, 0.63, 0.675),
    ]
    assert "95 % interval" in written(plain())


def test_without_intervals_nothing_is_said_of_them() -> None:
    figure = dimension_bars({"a": estimate((0.2, 0.3), half=NAN)})
    assert whiskers(figure) == []
    assert len(bars(figure)) == 3
    assert "95 % interval" not in written(figure)


def test_the_order_of_the_factors_does_not_matter() -> None:
    turned = {"a": estimate((0.125, 0.42), 64, factors=("texture", "shape"))}
    straight = {"a": estimate((0.125, 0.42), 64)}
    assert bars(dimension_bars(turned)) == bars(dimension_bars(straight))
    assert whiskers(dimension_bars(turned)) == whiskers(dimension_bars(straight))
    assert written(dimension_bars(turned)) == written(dimension_bars(straight))


def test_counts_stand_beside_the_bars_in_their_columns() -> None:
    figure = plain()
    said = [text for text in figure.texts if text.get_text() in {"8", "26", "30", "64", "348", "696", "1004", "2048"}]
    rows = {round(text.get_position()[1], 3) for text in said}
    assert len(rows) == 2
    lefts = sorted({round(text.get_position()[0], 6) for text in said})
    columns = [{text.get_text() for text in said if round(text.get_position()[0], 6) == x} for x in lefts]
    assert columns == [{"8", "348"}, {"26", "696"}, {"30", "1004"}, {"64", "2048"}]
    heads = {text.get_text(): round(text.get_position()[0], 6) for text in figure.texts}
    assert [heads[name] for name in ("shape", "texture", "neither", "of")] == lefts


def test_what_softmax_gives_where_nothing_is_encoded() -> None:
    def marks(figure: Figure) -> list[float]:
        return [float(line.get_xdata()[0]) for line in axes_of(figure).lines if line.get_linestyle() == "--"]

    expected = math.exp(0) / (math.exp(0) + math.exp(0) + math.exp(1))
    figure = plain()
    assert marks(figure) == pytest.approx([expected, 1 - expected])
    assert "21 % each: what softmax gives both where a layer encodes neither" in written(figure)
    share = dimension_bars({"a": estimate((0.2, 0.3), estimator="share")})
    assert marks(share) == []
    assert not any("softmax" in text for text in written(share))


def test_all_layers_together_stand_apart() -> None:
    figure = dimension_bars({**LAYERS, "all": estimate((0.2, 0.3))})
    assert ticks(axes_of(figure), "yaxis")[2] == "all together"
    assert {place for _, place, _, _ in bars(figure)} == {0.0, 1.0, 2.5}
    alone = dimension_bars({"all": estimate((0.2, 0.3))})
    assert ticks(axes_of(alone), "yaxis") == ["all"]


def test_a_layer_that_is_not_known_has_no_bar() -> None:
    one = estimate((0.2, 0.3))
    dead = replace(one, shares=one.shares * NAN, low=one.low * NAN, high=one.high * NAN)
    figure = dimension_bars({"a": one, "dead": dead})
    assert {place for _, place, _, _ in bars(figure)} == {0.0}
    assert written(figure).count("–") == 3
    check_drawn(figure)


def test_a_baseline_is_marked_where_shape_and_texture_end() -> None:
    def marks(figure: Figure) -> list[list[list[float]]]:
        lines = [line for line in axes_of(figure).lines if line.get_marker() == "D"]
        assert all(line.get_linestyle() == "None" and line.get_markerfacecolor() == "white" for line in lines)
        return [np.round(line.get_xydata(), 6).tolist() for line in lines]

    beneath = {"layer4": estimate((0.15, 0.38), 2048), "all": estimate((0.2, 0.25))}
    figure = dimension_bars({**LAYERS, "all": estimate((0.2, 0.3))}, baseline=beneath)
    assert marks(figure) == [[[0.15, 1.27], [0.62, 1.27]], [[0.2, 2.77], [0.75, 2.77]]]
    assert "random weights" in written(figure)
    assert bars(figure)[:6] == bars(plain())
    check_drawn(figure)
    assert marks(plain()) == []
    assert "random weights" not in written(plain())
    with pytest.raises(InputError, match="the baseline is of 'layer3', which is none of the layers"):
        dimension_bars(LAYERS, baseline={"layer3": beneath["layer4"]})
    with pytest.raises(InputError, match="by one estimator"):
        dimension_bars(LAYERS, baseline={"layer4": estimate((0.2, 0.3), estimator="share")})


def test_title() -> None:
    assert written(plain())[0] == "How much of each layer encodes shape, how much texture?"
    assert written(dimension_bars(LAYERS, title="Another"))[0] == "Another"


def test_forty_layers_have_rooms_of_their_own() -> None:
    many = {f"features.{place}.block.a_long_name_of_a_module.{place}": estimate((0.2, 0.3), 64) for place in range(40)}
    figure = dimension_bars(many)
    check_drawn(figure)
    assert len(bars(figure)) == 120
    labels = axes_of(figure).get_yticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    assert all(
        label.get_text().startswith("…") and label.get_text().endswith(f".{place}")
        for place, label in enumerate(labels)
    )


def test_names_may_be_anything() -> None:
    check_drawn(dimension_bars({name: estimate((0.2, 0.3)) for name in HOSTILE}, title="$_^"))
    check_same_bytes(dimension_bars(LAYERS), dimension_bars(LAYERS))


def test_a_path_keeps_its_end() -> None:
    assert ended("layer4", 2, 9) == "layer4"
    path = "features.7.0.block.3.0.conv_of_a_long_name"
    short = ended(path, 1.6, 9)
    assert short.startswith("…")
    assert path.endswith(short[1:])
    assert 1.2 < width_of(short, 9) <= 1.6
    assert path[-len(short)] == "."
    assert width_of(ended("x" * 3000, 2, 9), 9) <= 2


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="no layers came"):
        dimension_bars({})
    with pytest.raises(InputError, match="share and sum_cov came, but layers by one estimator"):
        dimension_bars({"a": estimate((0.2, 0.3)), "b": estimate((0.2, 0.3), estimator="share")})
    with pytest.raises(InputError, match="'a' has the factors shape, colour, but shape and texture"):
        dimension_bars({"a": estimate((0.2, 0.3), factors=("shape", "colour"))})

"""Shape bias against dimensions: points and lines are the numbers, and names stand where they can be read."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from reports.shape_texture.estimates import NAN
from reports.units.figures import HOSTILE, check_drawn, check_same_bytes, ticks, written
from visavis.errors import InputError
from visavis.plotting.lettering import width_of
from visavis.reports.shape_texture import bias_against_dimensions
from visavis.reports.shape_texture.networks import placed

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn

NAMES = ["ResNet50", "on stylised images", "BagNet9"]
BIAS, SHAPE, TEXTURE = [0.22, 0.8, 0.06], [0.17, 0.26, 0.13], [0.34, 0.23, 0.41]
DIFFERENCE = [-0.17, 0.03, -0.28]
BETWEEN = [[0.2, 0.25], [0.7, 0.9], [0.05, 0.07]]


def draw(**changes: object) -> Figure:
    given = {"names": NAMES, "bias": BIAS, "bias_interval": None, "shape_share": SHAPE, "texture_share": TEXTURE}
    return bias_against_dimensions(**{**given, **changes})


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def points(figure: Figure) -> list[list[float]]:
    return np.round(axes_of(figure).collections[0].get_offsets(), 6).tolist()


def lines(figure: Figure) -> list[list[list[float]]]:
    found = [np.asarray(line.get_xydata(), dtype=float) for line in axes_of(figure).lines if line.get_zorder() == 2]
    return [np.round(one, 6).tolist() for one in found if np.isfinite(one).all()]


@cache
def plain() -> Figure:
    """The plain figure, which no test changes."""
    return draw()


def test_points_are_the_networks() -> None:
    figure = draw(bias=torch.tensor(BIAS))
    assert points(figure) == [list(pair) for pair in zip(DIFFERENCE, BIAS, strict=True)]
    assert lines(figure) == []
    assert [text.get_text() for text in axes_of(figure).texts] == NAMES
    assert "95 %" not in " ".join(written(figure))
    assert {"0", "−20"} <= set(ticks(axes_of(figure), "xaxis"))
    assert {"0", "80"} <= set(ticks(axes_of(figure), "yaxis"))


def test_lines_are_the_intervals_of_both() -> None:
    figure = draw(bias_interval=BETWEEN, difference_interval=[[-0.2, -0.15], [NAN, NAN], [-0.3, -0.27]])
    assert sorted(lines(figure)) == sorted(
        [
            [[-0.2, 0.22], [-0.15, 0.22]],
            [[-0.3, 0.06], [-0.27, 0.06]],
            [[-0.17, 0.2], [-0.17, 0.25]],
            [[0.03, 0.7], [0.03, 0.9]],
            [[-0.28, 0.05], [-0.28, 0.07]],
        ]
    )
    low, high = axes_of(figure).get_xlim()
    assert low < -0.3
    assert high > 0.03
    assert "Lines: 95 % intervals." in " ".join(written(figure))


def test_a_network_without_a_number_is_named_below() -> None:
    figure = draw(bias=[0.22, NAN, 0.06])
    assert points(figure) == [[-0.17, 0.22], [-0.28, 0.06]]
    assert [text.get_text() for text in axes_of(figure).texts] == ["ResNet50", "BagNet9"]
    assert "Not drawn, for a number is missing: on stylised images." in written(figure)
    check_drawn(figure)


def test_the_middle_is_shown_unless_the_points_would_crowd() -> None:
    near = axes_of(plain())
    assert near.get_xlim()[0] < 0 < near.get_xlim()[1]
    assert near.get_ylim()[0] < 0.5 < near.get_ylim()[1]
    far = axes_of(draw(bias=[0.2, 0.21, 0.2], shape_share=[0.1, 0.1, 0.1], texture_share=[0.4, 0.39, 0.4]))
    assert far.get_xlim()[1] < -0.25
    assert far.get_ylim()[1] < 0.25
    alone = axes_of(draw(names=["one"], bias=[0.2], shape_share=[0.1], texture_share=[0.4]))
    assert alone.get_xlim()[1] > 0
    assert alone.get_ylim()[1] > 0.5


def test_names_do_not_lie_on_each_other() -> None:
    generator = np.random.default_rng(0)
    count = 20
    names = [f"a network {place}" for place in range(count)]
    bias = 0.2 + 0.05 * generator.random(count)
    figure = draw(names=names, bias=bias, shape_share=0.2 + 0.05 * generator.random(count), texture_share=[0.3] * count)
    check_drawn(figure)
    boxes = [text.get_window_extent() for text in axes_of(figure).texts]
    assert len(boxes) == count
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    inside = axes_of(figure).get_window_extent()
    assert all(inside.x0 <= one.x0 and one.x1 <= inside.x1 for one in boxes)


def test_a_name_moves_out_of_the_way() -> None:
    (alone,) = placed(np.array([[2.0, 2.0]]), ["name"], [], (4, 4))
    assert 2 < alone.x0 < 2.1
    assert 2 < alone.y0 < 2.1
    assert alone.width == pytest.approx(width_of("name", 8.5) + 0.03)
    (other,) = placed(np.array([[2.0, 2.0]]), ["name"], [Bbox.from_extents(1.9, 2.1, 3, 2.2)], (4, 4))
    assert other.y1 < 2 or other.x1 < 1.9
    (cornered,) = placed(np.array([[3.99, 3.99]]), ["name"], [], (4, 4))
    assert cornered.x1 < 4
    assert cornered.y1 < 4
    first, second = placed(np.array([[2.0, 2.0], [2.0, 2.0]]), ["name", "name"], [], (4, 4))
    assert not first.overlaps(second)


def test_what_is_said() -> None:
    assert "dimensions of layer4 that encode shape" in " ".join(written(draw(layer="layer4")))
    assert "dimensions that encode shape" in " ".join(written(plain()))
    assert written(plain())[0] == "Do networks that encode more shape also decide by it?"
    assert written(draw(title="Another"))[0] == "Another"


def test_names_may_be_anything() -> None:
    count = len(HOSTILE)
    bias = np.linspace(0, 1, count)
    check_drawn(draw(names=HOSTILE, bias=bias, shape_share=bias, texture_share=bias[::-1], layer="$_^", title="$_^"))
    check_same_bytes(draw(), draw())


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="3 shape biases for 2 networks"):
        draw(names=NAMES[:2])
    with pytest.raises(InputError, match="2 texture shares for 3 networks"):
        draw(texture_share=TEXTURE[:2])
    with pytest.raises(InputError, match="shape biases are 6 to 80, but 0 to 1"):
        draw(bias=[22.0, 80.0, 6.0])
    with pytest.raises(InputError, match="of no network both"):
        draw(bias=[NAN] * 3)
    with pytest.raises(InputError, match=r"intervals of the shape bias have the shape \(2, 2\), but \(3, 2\)"):
        draw(bias_interval=BETWEEN[:2])
    with pytest.raises(InputError, match="low end above the high one"):
        draw(difference_interval=[[0.2, 0.1]] * 3)

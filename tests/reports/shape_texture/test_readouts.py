"""Points of read-outs: places, ends and groups are the results."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.shape_texture.estimates import NAN
from reports.units.figures import HOSTILE, check_drawn, check_same_bytes, ticks, written
from visavis.errors import InputError
from visavis.reports.shape_texture import readout_bars

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn

RESULTS = {"random": (0.061, 0.05, 0.07), "stage 4": (0.339, NAN, NAN), "stage 5": (0.509, 0.49, 0.53)}
GROUPS = {"trained": ["stage 5", "stage 4"]}


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def points(figure: Figure) -> list[list[float]]:
    (line,) = (one for one in axes_of(figure).lines if one.get_marker() == "o")
    return np.round(line.get_xydata(), 6).tolist()


@cache
def plain_figure() -> Figure:
    """The plain figure, which no test changes."""
    return readout_bars(RESULTS)


def test_points_are_the_values_in_their_order() -> None:
    figure = plain_figure()
    assert axes_of(figure).yaxis_inverted()
    assert points(figure) == [[0.061, 0.125], [0.339, 0.375], [0.509, 0.625]]
    assert axes_of(figure).get_xlim() == (0, pytest.approx(1.05 * 0.53))
    assert ticks(axes_of(figure), "xaxis") == ["0", "10", "20", "30", "40", "50"]
    said = written(figure)
    assert [text for text in said if text in RESULTS] == list(RESULTS)
    assert {"6.1 (5.0 to 7.0)", "33.9", "50.9 (49.0 to 53.0)"} <= set(said)


def test_lines_are_the_intervals() -> None:
    found = [np.asarray(line.get_xydata(), dtype=float) for line in axes_of(plain_figure()).lines]
    level = [one.tolist() for one in found if len(one) == 2 and one[0, 1] == one[1, 1] and np.isfinite(one).all()]
    assert level == [[[0.05, 0.125], [0.07, 0.125]], [[0.49, 0.625], [0.53, 0.625]]]
    assert "95 % intervals" in " ".join(written(plain_figure()))
    assert "95 % intervals" not in " ".join(written(readout_bars({"a": (0.5, NAN, NAN)})))


def test_groups_have_headings_and_an_order_of_their_own() -> None:
    figure = readout_bars(RESULTS, groups=GROUPS)
    assert [x for x, _ in points(figure)] == [0.061, 0.509, 0.339]
    places = {text.get_text(): text.get_position()[1] for text in figure.texts}
    assert places["random"] > places["trained"] > places["stage 5"] > places["stage 4"]
    (bold,) = (text for text in figure.texts if text.get_text() == "trained")
    assert bold.get_weight() == "bold"
    # A point stands as high as its name.
    axes = axes_of(figure)
    figure.canvas.draw()
    for (x, y), name in zip(points(figure), ("random", "stage 5", "stage 4"), strict=True):
        (label,) = (text for text in figure.texts if text.get_text() == name)
        box = label.get_window_extent()
        assert box.y0 - 8 <= axes.transData.transform((x, y))[1] <= box.y1 + 8


def test_chance_measure_and_title() -> None:
    def dotted(figure: Figure) -> list[float]:
        return [float(line.get_xdata()[0]) for line in axes_of(figure).lines if line.get_linestyle() == ":"]

    figure = readout_bars(RESULTS, chance=0.035, measure="accuracy", title="Another")
    assert dotted(figure) == [0.035]
    assert "Dotted: guessing, 3.5 %." in " ".join(written(figure))
    other = " ".join(written(readout_bars(RESULTS, chance=0.035, guess="all background")))
    assert "Dotted: all background, 3.5 %." in other
    assert "guessing" not in other
    assert "accuracy, %" in written(figure)
    assert written(figure)[0] == "Another"
    plain = plain_figure()
    assert dotted(plain) == []
    assert "guessing" not in " ".join(written(plain))
    assert "mIoU, %" in written(plain)


def test_a_value_that_is_not_known_has_no_point() -> None:
    figure = readout_bars({**RESULTS, "lost": (NAN, NAN, NAN)})
    assert "–" in written(figure)
    assert np.isnan(points(figure)[3][0])
    check_drawn(figure)


def test_names_may_be_anything() -> None:
    results = dict.fromkeys(HOSTILE, (0.5, 0.4, 0.6))
    check_drawn(readout_bars(results, groups={"$_^" * 40: list(HOSTILE[1:])}, measure="$_^", title="$_^"))
    check_drawn(readout_bars({"one": (0.0, 0.0, 0.0)}))
    check_same_bytes(readout_bars(RESULTS), readout_bars(RESULTS))


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="read-outs"):
        readout_bars({})
    with pytest.raises(InputError, match="but shares, 0 to 1, were expected"):
        readout_bars({"a": (50.9, NAN, NAN)})
    with pytest.raises(InputError, match="but shares, 0 to 1, were expected"):
        readout_bars({"a": (NAN, NAN, NAN)})
    with pytest.raises(InputError, match="there is no read-out 'stage 9'"):
        readout_bars(RESULTS, groups={"trained": ["stage 9"]})
    with pytest.raises(InputError, match="'stage 5' is in two groups"):
        readout_bars(RESULTS, groups={"a": ["stage 5"], "b": ["stage 5"]})
    with pytest.raises(InputError, match="low end above the high one"):
        readout_bars({"a": (0.5, 0.6, 0.4)})

"""The heat map shows the drops where they belong, and says what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reports.units.figures import HOSTILE, check_drawn, check_same_bytes, ticks, written
from visavis.errors import InputError
from visavis.reports.style import ON_WHITE
from visavis.reports.units import importance_heatmap
from visavis.reports.units.heatmap import chosen

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn


def small() -> np.ndarray:
    nan = float("nan")
    return np.array([[0.1, 0.0, nan, -0.2], [0.0, 0.5, nan, 0.1], [0.2, 0.0, nan, 0.3], [0.3, 0.0, nan, 0.0]])


def test_classes_come_by_their_drop_and_units_by_their_class() -> None:
    shown = chosen(small(), 40, 40)
    # Class 1 falls by 0.5, 0 and 3 by 0.3 (the first before), 2 has no images.
    assert shown.classes.tolist() == [1, 0, 3, 2]
    assert shown.units.tolist() == [1, 3, 0, 2]


def test_what_is_left_out_is_what_is_hit_least() -> None:
    drops = np.zeros((31, 50))
    drops[np.arange(30), np.arange(30)] = np.linspace(0.01, 0.3, 30)
    drops[29, 40], drops[2, 3] = 0.295, -0.9
    shown = chosen(drops, 3, 4)
    assert shown.units.tolist() == [29, 28, 27]
    assert shown.classes.tolist() == [29, 40, 28, 27]
    # A class that is only hit too gives way to one that a unit hits hardest.
    assert chosen(drops, 3, 3).classes.tolist() == [29, 28, 27]
    # Where nothing happens is nothing to be seen; a small table is shown whole.
    assert len(chosen(drops, 40, 40).classes) == 31
    assert len(chosen(drops, 40, 40).units) == 30
    assert chosen(np.zeros((3, 2)), 40, 40).units.tolist() == [0, 1, 2]
    assert len(chosen(np.zeros((30, 20)), 40, 40).units) == 30


def test_cells_have_the_colours_of_their_drops() -> None:
    figure = importance_heatmap(small(), [7, 3, 250, 11], ["ant", "bee", "cow", "dog"], layer="layer4")
    axes = figure.axes[0]
    assert ticks(axes, "xaxis") == ["3", "11", "7", "250"]
    assert ticks(axes, "yaxis") == ["bee", "ant", "dog", "cow"]
    mesh = axes.collections[0]
    expected = small()[np.ix_([1, 3, 0, 2], [1, 0, 3, 2])].T
    np.testing.assert_allclose(mesh.get_array().filled(np.nan), expected)
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-0.5, 0.5)
    np.testing.assert_allclose(ON_WHITE(0.5)[:3], 1.0)
    assert ON_WHITE(1.0)[0] > ON_WHITE(1.0)[2] + 0.4
    assert ON_WHITE(0.0)[2] > ON_WHITE(0.0)[0] + 0.4
    # The frames, on each unit's hardest-hit class.
    frames = {(round(patch.get_x() + 0.5), round(patch.get_y() + 0.5)) for patch in axes.patches}
    assert frames == {(0, 0), (1, 1), (2, 1), (3, 2)}
    cells = [text.get_text() for text in axes.texts]
    assert cells == ["50", "0", "0", "0", "0", "30", "10", "20", "10", "0", "−20", "30"]
    said = " ".join(written(figure))
    assert "All 4 units and 4 classes. 1 class has no images, hatched." in said
    assert "accuracy lost," in said
    assert "percentage" in said


def test_a_large_table_says_what_it_leaves_out() -> None:
    drops = torch.rand(320, 1000, generator=torch.Generator().manual_seed(0))
    drops[:, 900:] = float("nan")
    figure = importance_heatmap(drops, range(320), [f"class {k}" for k in range(1000)], layer="features.29")
    axes = figure.axes[0]
    assert len(ticks(axes, "xaxis")) == len(ticks(axes, "yaxis")) == 40
    said = " ".join(written(figure))
    shown = (
        "40 of 320 units, 40 of 1000 classes: the units that cost a class most, and the classes that lose most by them."
    )
    assert f"{shown} 100 classes have no images." in said
    assert not axes.texts
    check_drawn(figure)
    shape = axes.collections[0].get_array()
    assert float(shape.max()) == float(drops.nan_to_num(0).max())


def test_names_may_be_anything() -> None:
    drops = np.linspace(-1, 1, 25).reshape(5, 5)
    figure = importance_heatmap(drops, [10**6, 1, 2, 3, 4], HOSTILE, layer="$a$ " * 80)
    check_drawn(figure)
    assert any(name.endswith("…") and name.startswith("a name") for name in ticks(figure.axes[0], "yaxis"))
    for edges in ([[0.0]], [[float("nan")]], [[-0.1, 0.0]]):
        check_drawn(importance_heatmap(edges, [0], ["a", "b"][: len(edges[0])], layer="fc"))


def test_the_same_numbers_give_the_same_bytes() -> None:
    check_same_bytes(*(importance_heatmap(small(), range(4), "abcd", layer="fc") for _ in range(2)))


def test_lists_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(InputError, match="3 units for 4 rows of class drops"):
        importance_heatmap(small(), range(3), "abcd", layer="fc")
    with pytest.raises(InputError, match="2 class names for 4 columns"):
        importance_heatmap(small(), range(4), "ab", layer="fc")
    with pytest.raises(InputError, match=r"class drops have the shape \(4,\)"):
        importance_heatmap(small()[0], range(4), "abcd", layer="fc")

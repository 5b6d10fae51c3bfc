"""Arrows over a plane: they are the vectors, and what lies below them is what the classifier says."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

from reports.units.figures import check_drawn, check_same_bytes, written
from visavis.blackbox import ExplanationVectors, LowAgreementWarning, Vectors
from visavis.errors import InputError
from visavis.reports.vectors import plane_figure

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn

COLOURS = ("#E69F00", "#0072B2", "#009E73")
ROWS = np.random.default_rng(2).normal(size=(40, 3)) * [1.0, 20.0, 3.0]


def predict(rows: np.ndarray) -> np.ndarray:
    """Three classes, which no plane through the middle of one feature alone tells apart."""
    assert rows.shape[1] == 3
    found = np.where(rows[:, 0] + rows[:, 1] / 20 > 0.2, "b", "a")
    return np.where(rows[:, 1] > 15 + rows[:, 2], "c", found)


def vectors(**changes: Any) -> Vectors:
    model = ExplanationVectors(predict, probes=0).fit(ROWS)
    found = model.explain(ROWS[:12])
    flat = np.zeros(12, dtype=bool)
    flat[[2, 7]] = True
    directions = np.full((12, 3), np.nan)
    directions[2], directions[7] = [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]
    given = {"flat": flat, "directions": directions, "names": ("u", "v", "w"), "agrees": np.ones(12, dtype=bool)}
    return replace(found, **{**given, **changes})


@pytest.fixture(scope="module")
def found() -> Vectors:
    with warnings.catch_warnings(action="ignore", category=LowAgreementWarning):
        return vectors()


def axes_of(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def arrows(figure: Figure) -> Quiver:
    (quiver,) = (one for one in axes_of(figure).collections if isinstance(one, Quiver))
    return quiver


def box_of(found: Vectors, data: np.ndarray, places: tuple[int, int]) -> list[tuple[float, float]]:
    every = np.concatenate([found.rows, data])[:, places]
    room = 0.08 * (every.max(0) - every.min(0))
    return list(zip(every.min(0) - room, every.max(0) + room, strict=True))


@pytest.mark.parametrize("places", [(0, 1), (1, 0), (0, 2)])
def test_arrows_are_the_vectors_of_rows_that_are_not_flat(found: Vectors, places: tuple[int, int]) -> None:
    axes = axes_of(plane_figure(found, predict, places, points=ROWS, labels=predict(ROWS)))
    quiver = arrows(plane_figure(found, predict, places, points=ROWS, labels=predict(ROWS)))
    steep = ~found.flat
    assert steep.sum() == 10
    np.testing.assert_allclose(quiver.XY, found.rows[steep][:, places])
    box = box_of(found, ROWS, places)
    np.testing.assert_allclose([axes.get_xlim(), axes.get_ylim()], box)
    # In units of the scale the longest is a twelfth of the shorter side, and all are as long as they are.
    scaled = (found.values * found.scale)[:, places]
    widths = np.array([high - low for low, high in box]) / found.scale[list(places)]
    expected = scaled / np.linalg.norm(scaled, axis=1).max() * widths.min() / 12 * found.scale[list(places)]
    np.testing.assert_allclose(np.stack([quiver.U, quiver.V], 1), expected[steep])
    # As they are, in the data's own units.
    assert (quiver.angles, quiver.scale_units, quiver.scale, quiver.pivot) == ("xy", "xy", 1, "tail")


def test_a_flat_row_is_a_line_both_ways_along_its_direction(found: Vectors) -> None:
    axes = axes_of(plane_figure(found, predict, points=ROWS, labels=predict(ROWS)))
    lines = [line.get_xydata() for line in axes.lines]
    assert len(lines) == 2
    box = box_of(found, ROWS, (0, 1))
    reach = min((high - low) / found.scale[place] for place, (low, high) in enumerate(box)) / 12
    for place, line in zip((2, 7), lines, strict=True):
        half = found.directions[place, :2] * found.scale[:2] * reach / 4
        np.testing.assert_allclose(line, [found.rows[place, :2] - half, found.rows[place, :2] + half])


def test_none_is_flat_or_all_are(found: Vectors) -> None:
    none = plane_figure(replace(found, flat=np.zeros(12, dtype=bool)), predict)
    assert len(arrows(none).U) == 12
    assert not axes_of(none).lines
    flat = plane_figure(replace(found, flat=np.ones(12, dtype=bool), directions=np.full((12, 3), 0.5)), predict)
    assert len(axes_of(flat).lines) == 12
    assert len(arrows(flat).U) == 0
    check_drawn(none)
    check_drawn(flat)


def test_a_row_without_a_vector_has_no_arrow_of_any_length(found: Vectors) -> None:
    values = found.values.copy()
    values[0] = np.nan
    figure = plane_figure(replace(found, values=values), predict)
    assert (arrows(figure).U[0], arrows(figure).V[0]) == (0, 0)
    check_drawn(figure)


@pytest.mark.parametrize("features", [(0, 1), ("w", "u")])
def test_regions_are_what_the_classifier_says_there(found: Vectors, features: tuple[Any, Any]) -> None:
    places = tuple(found.place_of(one) for one in features)
    axes = axes_of(plane_figure(found, predict, features))
    (mesh,) = (one for one in axes.collections if isinstance(one, QuadMesh))
    shown = np.asarray(mesh.get_array()).reshape(240, 240)
    box = box_of(found, np.empty((0, 3)), places)
    across, up = (np.linspace(low, high, 240) for low, high in box)
    # The middle of each cell is where it was asked.
    corners = mesh.get_coordinates()
    np.testing.assert_allclose((corners[:-1, :-1] + corners[1:, 1:])[..., 0] / 2, np.tile(across, (240, 1)))
    np.testing.assert_allclose((corners[:-1, :-1] + corners[1:, 1:])[..., 1] / 2, np.tile(up[:, None], 240))
    for at in np.random.default_rng(0).integers(240, size=(200, 2)):
        row = found.rows.mean(0)
        row[list(places)] = across[at[1]], up[at[0]]
        assert "abc"[int(shown[tuple(at)])] == predict(row[None])[0]
    assert len(np.unique(shown)) > 1
    colours = [to_hex(mesh.cmap(mesh.norm(place))) for place in range(3)]
    assert colours == [one.lower() for one in COLOURS]


def test_points_are_the_data_in_the_colours_of_their_classes(found: Vectors) -> None:
    labels = predict(ROWS)
    figure = plane_figure(found, predict, ("v", "w"), points=ROWS, labels=labels)
    scatters = [one for one in axes_of(figure).collections if isinstance(one, PathCollection)]
    markers = set()
    for name, colour, scatter in zip("abc", COLOURS, scatters, strict=True):
        np.testing.assert_allclose(scatter.get_offsets(), ROWS[labels == name][:, 1:])
        np.testing.assert_allclose(scatter.get_facecolors()[0, :3], to_rgb(colour))
        markers.add(len(scatter.get_paths()[0].vertices))
    assert len(markers) == 3
    said = written(figure)
    assert [one for one in said if one in ("a", "b", "c")] == ["a", "b", "c"]
    assert "v" in said
    assert axes_of(figure).get_ylabel() == "w"


def test_a_class_that_only_the_data_have_has_its_colour_too(found: Vectors) -> None:
    figure = plane_figure(found, predict, points=ROWS[:2], labels=["aa", "b"])
    assert [one for one in written(figure) if one in ("a", "aa", "b", "c")] == ["a", "aa", "b", "c"]


def test_what_is_written(found: Vectors) -> None:
    said = " ".join(written(plane_figure(found, predict)))
    assert "What would make the classifier change its mind, and where" in said
    assert "The other 1 features are held at their mean." in said
    assert f"Gradients: {found.source}." in said
    assert "foil" not in said
    odds = replace(found, kind="contrast", foils=np.full(12, "b"))
    said = " ".join(written(plane_figure(odds, predict, title="A title")))
    assert "A title" in said
    assert "Arrows point from the foil to the target." in said


def test_planes_that_are_none(found: Vectors) -> None:
    with pytest.raises(InputError, match="there is no feature 'x'; there are u, v, w"):
        plane_figure(found, predict, ("u", "x"))
    with pytest.raises(InputError, match="there is no feature 3"):
        plane_figure(found, predict, (0, 3))
    with pytest.raises(InputError, match="a plane has two features, but both are 'v'"):
        plane_figure(found, predict, (1, "v"))
    with pytest.raises(InputError, match="0 labels came for 40 points"):
        plane_figure(found, predict, points=ROWS)
    with pytest.raises(InputError, match="2 labels came for 40 points"):
        plane_figure(found, predict, points=ROWS, labels=["a", "b"])


def test_labels_of_another_kind_than_the_classifiers_are_refused_in_words(found: Vectors) -> None:
    with pytest.raises(InputError):
        plane_figure(found, predict, points=ROWS, labels=np.zeros(40, dtype=int))


def test_names_are_shown_as_they_are(found: Vectors) -> None:
    def odd(rows: np.ndarray) -> np.ndarray:
        return np.array([{"a": "$a$", "b": "[red]b", "c": "\\frac{c"}[one] for one in predict(rows)])

    names = np.array(["$a$", "[red]b", "\\frac{c"])
    figure = plane_figure(replace(found, names=("$u$", "[v]", "w_1"), classes=names), odd)
    said = written(figure)
    assert {"$a$", "[red]b", "\\frac{c", "$u$"} <= set(said)
    assert axes_of(figure).get_ylabel() == "[v]"
    check_drawn(figure)


def test_a_feature_that_does_not_vary_has_some_room() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 2)) * [1.0, 0.0]

    def sides(given: np.ndarray) -> np.ndarray:
        return (given[:, 0] > 0).astype(int)

    with warnings.catch_warnings(action="ignore", category=LowAgreementWarning):
        found = ExplanationVectors(sides).fit(rows).explain(rows)
    axes = axes_of(plane_figure(found, sides))
    assert axes.get_ylim() == (-1, 1)


def test_the_keys_of_many_classes_stay_on_the_page(found: Vectors) -> None:
    names = [f"a long name {place}" for place in range(8)]

    def many(rows: np.ndarray) -> np.ndarray:
        return np.array(names)[np.abs(rows[:, 0] * 7).astype(int) % 8]

    check_drawn(plane_figure(replace(found, classes=np.array(names)), many))


def test_twice_the_same_bytes(found: Vectors) -> None:
    check_same_bytes(plane_figure(found, predict), plane_figure(found, predict))

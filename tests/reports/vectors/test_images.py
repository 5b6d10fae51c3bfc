"""Vectors of images: above the image as it is, below it what speaks for its class in orange."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from reports.units.figures import check_drawn, check_same_bytes, written
from visavis.blackbox import Vectors
from visavis.errors import InputError
from visavis.plotting import TARGET, overlay
from visavis.reports.vectors import images_figure

ROWS = np.random.default_rng(0).random((3, 6)) * 16
VALUES = np.random.default_rng(1).normal(size=(3, 6))


def vectors(**changes: Any) -> Vectors:
    count, width = np.shape(changes.get("rows", ROWS))
    given = {
        "kind": "away",
        "rows": ROWS,
        "values": VALUES,
        "log_odds_gradient": -VALUES,
        "targets": np.full(count, "two"),
        "foils": None,
        "said": np.array([f"said {place}" for place in range(count)]),
        "probabilities": np.full((count, 2), 0.5),
        "classes": np.array(["eight", "two"]),
        "agreement": np.linspace(0.5, 1, count),
        "agrees": np.ones(count, dtype=bool),
        "flat": np.zeros(count, dtype=bool),
        "directions": np.full((count, width), np.nan),
        "curvatures": np.full(count, np.nan),
        "low": None,
        "high": None,
        "scale": np.full(width, 3.0),
        "names": tuple(f"x{place}" for place in range(width)),
        "exact": False,
        "source": "Parzen mimic of 90 rows",
        "shape": (width,),
    }
    return Vectors(**{**given, **changes})


def odds(**changes: Any) -> Vectors:
    return vectors(kind="contrast", foils=np.array(["eight"] * 3), **changes)


def tiles(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def grey(rows: np.ndarray, place: int, size: tuple[int, int] = (2, 3)) -> np.ndarray:
    return ((rows[place] - rows.min()) / (rows.max() - rows.min())).reshape(size)


def leaning(tile: np.ndarray) -> np.ndarray:
    """Above 0 where a tile is orange, below where it is blue."""
    return tile[..., 0] - tile[..., 2]


def test_above_is_the_image_and_below_the_vector_over_it() -> None:
    found = tiles(images_figure(vectors(), (2, 3)))
    assert len(found) == 6
    for place in range(3):
        above, below = found[2 * place : 2 * place + 2]
        ink = 1 - grey(ROWS, place)
        np.testing.assert_allclose(above, np.repeat(ink[..., None], 3, 2))
        heat = -VALUES[place].reshape(2, 3)
        np.testing.assert_allclose(below, overlay(ink[..., None], heat, np.abs(heat).max(), TARGET))


def test_orange_speaks_for_the_class() -> None:
    """ζ is the way out of it, so what makes the class less likely is blue; of a contrast it is the other way round."""
    for found, sign in ((vectors(), -1), (odds(), 1)):
        figure = images_figure(found, (2, 3))
        for place in range(3):
            lean = leaning(tiles(figure)[2 * place + 1]).ravel()
            assert (np.sign(lean) == np.sign(sign * VALUES[place])).all()
            # The strongest pixel has the full colour, at each vector's own strength.
            strongest = np.abs(VALUES[place]).argmax()
            end = TARGET(1.0 if sign * VALUES[place, strongest] > 0 else 0.0)[:3]
            np.testing.assert_allclose(tiles(figure)[2 * place + 1].reshape(-1, 3)[strongest], end)


def test_ink_that_is_light() -> None:
    above = tiles(images_figure(vectors(), (2, 3), dark=False))[0]
    np.testing.assert_allclose(above, np.repeat(grey(ROWS, 0)[..., None], 3, 2))


def test_a_flat_one_is_the_direction_of_the_hessian() -> None:
    directions = np.full((3, 6), np.nan)
    directions[1] = [0.5, -0.5, 0.5, -0.5, 0.0, 0.0]
    flat = np.array([False, True, False])
    figure = images_figure(vectors(flat=flat, directions=directions), (2, 3))
    lean = leaning(tiles(figure)[3]).ravel()
    assert (np.sign(np.round(lean, 9)) == [-1, 1, -1, 1, 0, 0]).all()
    assert written(figure).count("next to zero: along the Hessian") == 1
    lean = leaning(tiles(figure)[1]).ravel()
    assert (np.sign(lean) == -np.sign(VALUES[0])).all()


def test_what_has_no_number_is_grey() -> None:
    values = VALUES.copy()
    values[0] = np.nan
    figure = images_figure(vectors(values=values), (2, 3))
    assert np.abs(leaning(tiles(figure)[1])).max() == 0
    assert "nan" not in " ".join(written(figure))


def test_channels_are_summed() -> None:
    figure = images_figure(vectors(shape=(2, 1, 3)))
    above, below = tiles(figure)[:2]
    ink = 1 - (grey(ROWS, 0, (2, 3))[0] + grey(ROWS, 0, (2, 3))[1])[None] / 2
    np.testing.assert_allclose(above, np.repeat(ink[..., None], 3, 2))
    heat = -VALUES[0].reshape(2, 1, 3).sum(0)
    np.testing.assert_allclose(below, overlay(ink[..., None], heat, np.abs(heat).max(), TARGET))
    # A size that is given goes before that of the rows.
    assert tiles(images_figure(vectors(shape=(2, 1, 3)), (3, 2)))[0].shape == (3, 2, 3)


def test_what_is_written() -> None:
    said = written(images_figure(vectors(), (2, 3)))
    assert {"says said 0", "says said 1", "says said 2"} <= set(said)
    strengths = [f"{np.abs(one).max():.2g} per unit" for one in VALUES]
    assert [one for one in said if one.endswith("per unit")] == strengths
    assert [one for one in said if one.startswith("agreement")] == [
        "agreement 50 %",
        "agreement 75 %",
        "agreement 100 %",
    ]
    assert "Gradients: Parzen mimic of 90 rows." in said
    assert "leads away from its class" in " ".join(said)
    said = written(images_figure(odds(), (2, 3), title="Digits"))
    assert said[0] == "Digits"
    assert said.count("two, not eight") == 3
    assert "leads to the foil" in " ".join(said)
    for silent in (vectors(exact=True), vectors(agreement=np.full(3, np.nan))):
        assert not any(one.startswith("agreement") for one in written(images_figure(silent, (2, 3))))


def test_at_most_eight() -> None:
    rows = np.random.default_rng(0).random((11, 6))
    figure = images_figure(vectors(rows=rows, values=rows - 0.5), (2, 3))
    assert len(figure.axes) == 16
    assert "says said 7" in written(figure)
    check_drawn(figure)


def test_one_image_that_is_of_one_colour() -> None:
    rows = np.full((1, 6), 4.0)
    figure = images_figure(vectors(rows=rows, values=0 * rows), (2, 3))
    assert np.isfinite(tiles(figure)[0]).all()
    check_drawn(figure)


@pytest.mark.parametrize(
    ("size", "shape"),
    [(None, (6,)), ((4, 3), (6,)), ((0, 6), (6,)), ((-2, -3), (6,)), ((6, 0), (6,)), (None, (6, 0)), (None, (1, 0, 0))],
)
def test_rows_that_are_no_images(size: tuple[int, int] | None, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"rows of 6 values are no images of size .*; give size=\(height, width\)"):
        images_figure(vectors(shape=shape), size)


def test_names_are_shown_as_they_are() -> None:
    said = np.array(["$x$", "[red]two", "\\frac{1$"])
    figure = images_figure(vectors(said=said), (2, 3))
    assert {"says $x$", "says [red]two", "says \\frac{1$"} <= set(written(figure))
    check_drawn(figure)


def test_twice_the_same_bytes() -> None:
    check_same_bytes(images_figure(vectors(), (2, 3)), images_figure(vectors(), (2, 3)))

"""What a panel draws and says."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.testing import assert_allclose

from plotting.figures import SIZE, everything, four_maps, heat, images, texts
from visavis.plotting import FOIL, TARGET, Class, Map, backdrop, overlay, panel


def test_a_panel_draws_the_picture_and_the_maps_on_shared_scales(picture: np.ndarray) -> None:
    maps = four_maps()
    figure = panel(picture, maps, title="Why cat, and not cup?", smoothing=0.0)
    drawn = images(figure)
    assert any(np.array_equal(image, picture) for image in drawn)
    of_lrp = max(np.percentile(np.abs(entry.heat), 99.5) for entry in maps[:2])
    of_clrp = max(np.percentile(np.abs(entry.heat), 99.5) for entry in maps[2:])
    for entry, scale in zip(maps, (of_lrp, of_lrp, of_clrp, of_clrp), strict=True):
        expected = overlay(picture, entry.heat, scale, TARGET if entry.role == "target" else FOIL)
        assert any(image.shape == expected.shape and np.allclose(image, expected) for image in drawn)
    said = everything(figure)
    assert f"{of_lrp:.3g} for LRP, {of_clrp:.3g} for CLRP" in said
    assert "99.5th percentile" in said
    assert "Maps of one method share one scale" in said


def test_a_panel_says_what_it_was_told(picture: np.ndarray) -> None:
    classes = [
        Class("cat", 0.621, "target"),
        Class("$5 bill", 0.00001),
        Class("cup", 0.99999, "foil"),
        Class("dog", 0.0),
        Class("cow", 1.0),
    ]
    figure = panel(picture, four_maps(), title="Why?", subtitle="a model", footer="84 % reached.", classes=classes)
    said = texts(figure)
    for text in (
        "Why?",
        "a model",
        "84 % reached.",
        "cat",
        "$5 bill",
        "cup",
        "LRP: cat",
        "what cup rests on",
    ):
        assert text in said
    for text in ("62.1 %", "< 0.1 %", "> 99.9 %", "0.0 %", "100.0 %", "evidence for cat", "evidence for cup"):
        assert text in said
    assert said.count("share of the strongest evidence") == 2
    assert "40 × 24 pixels" in said


def test_bars_are_as_long_as_the_probabilities(picture: np.ndarray) -> None:
    figure = panel(picture, four_maps(), title="t", classes=[Class("cat", 0.25, "target"), Class("cup", 1.0)])
    bars = [shape for shape in figure.findobj(Rectangle) if np.isclose(shape.get_height(), 0.07)]
    track, cat, _, cup = (bar.get_width() for bar in bars)
    assert_allclose([cat / track, cup / track], [0.25, 1.0])
    assert bars[1].get_facecolor() == TARGET(1.0)


def test_a_colour_bar_stands_under_a_map_of_its_role(picture: np.ndarray) -> None:
    maps = [Map("a", "", heat()), Map("b", "", heat()), Map("c", "", heat(), "foil")]
    classes = [Class("cat", 0.6, "target"), Class("cup", 0.3, "foil")]
    left = {
        text.get_text(): text.get_position()[0]
        for text in panel(picture, maps, title="t", classes=classes).findobj(Text)
    }
    assert left["evidence for cat"] == left["a"]
    assert left["evidence for cup"] == left["c"]


def test_a_signed_map_has_a_scale_with_two_ends(picture: np.ndarray) -> None:
    signed = panel(picture, [Map("a", "", heat() - 0.5)], title="t")
    unsigned = panel(picture, [Map("a", "", heat() - 1e-9)], title="t")
    assert {"−1 against", "0", "1 for"} <= set(texts(signed))
    assert {"0", "0.5", "1"} <= set(texts(unsigned))


def test_a_map_of_zeros_is_the_grey_photograph_with_words(picture: np.ndarray) -> None:
    figure = panel(picture, [Map("a", "", np.zeros(SIZE))], title="t")
    assert any(np.array_equal(image, backdrop(picture)) for image in images(figure))
    assert "no evidence" in texts(figure)
    assert "No map holds any evidence." in texts(figure)
    assert "no evidence" not in everything(panel(picture, [Map("a", "", heat())], title="t"))


@pytest.mark.parametrize("magnitude", [5e-324, 1e-300, 1e300])
def test_extreme_evidence_is_drawn(picture: np.ndarray, magnitude: float) -> None:
    evidence = np.where(heat() > 0.5, magnitude, 0.0)
    figure = panel(picture, [Map("a", "", evidence)], title="t", smoothing=0.0)
    expected = np.where((evidence > 0)[..., None], TARGET(1.0)[:3], backdrop(picture))
    assert any(image.shape == expected.shape and np.allclose(image, expected) for image in images(figure))

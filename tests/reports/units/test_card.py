"""A unit's card: what it says, what of each picture it shows, and the map over it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reports.units.figures import HOSTILE, check_drawn, check_same_bytes, written
from visavis.errors import InputError
from visavis.plotting import TARGET, overlay, shared_scale, smooth
from visavis.reports.units import ClassDrop, Glimpse, spot_of, unit_card
from visavis.reports.units.window import window_of

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn

CLASSES = [ClassDrop("zebra", 0.34, 0.12, 0.5), ClassDrop("ant", 0.1), ClassDrop("bee", -0.02, -0.1, 0.04)]


def picture() -> torch.Tensor:
    return torch.rand(3, 100, 120, generator=torch.Generator().manual_seed(0))


def heat() -> torch.Tensor:
    found = torch.zeros(100, 120)
    found[30:40, 50:60] = 1.0
    return found


def card(**changes: object) -> object:
    whole = Glimpse(picture(), None, (30.0, 40.0), heat(), "cat", 4.25)
    part = Glimpse(picture(), (50, 30, 70, 50), (60.0, 40.0), heat(), "dog", 2.0)
    given = {"classes": CLASSES, "glimpses": [whole, part], "facts": [("class selectivity", 0.4312)], "drop": 0.012}
    return unit_card(137, "layer4", **{**given, **changes})


def test_the_words_are_those_of_the_unit() -> None:
    said = written(card())
    assert {"Unit 137", "of layer layer4", "zebra", "−34 points of accuracy without it"} <= set(said)
    assert {"95 % interval −50 to −12", "−1.2 points of accuracy over all", "−34", "−10", "+2.0"} <= set(said)
    assert {"class selectivity", "0.431", "cat", "activation 4.25", "dog", "activation 2"} <= set(said)
    harmless = written(card(classes=[ClassDrop("zebra", 0.0), ClassDrop("ant", -0.1)], drop=0.0))
    assert {"no class needs it", "ant"} <= set(harmless)
    assert "no change of accuracy over all classes" in " ".join(harmless)
    assert "−34 points of confidence without it" in set(written(card(measure="confidence")))
    assert "zebra" not in harmless


def test_a_window_lies_around_what_is_seen_and_within_the_picture() -> None:
    inner = window_of(Glimpse(picture(), (50, 30, 90, 70)))
    assert (inner.x0, inner.y0, inner.x1, inner.y1) == (36, 16, 104, 84)
    corner = window_of(Glimpse(picture(), (110, 0, 120, 10)))
    assert (corner.x0, corner.y0, corner.x1, corner.y1) == (72, 0, 120, 48)
    whole = window_of(Glimpse(picture()))
    assert (whole.x0, whole.y0, whole.x1, whole.y1) == (0, 0, 120, 100)
    assert whole.field == (0, 0, 120, 100)


def test_what_is_not_seen_is_dimmed_and_the_map_is_the_house_overlay() -> None:
    figure = card()
    seen_whole, seen_part, why_whole, why_part = figure.axes
    own = picture().permute(1, 2, 0).double().numpy()
    np.testing.assert_allclose(seen_whole.images[0].get_array(), own)
    shown = np.asarray(seen_part.images[0].get_array())
    np.testing.assert_allclose(shown[30:50, 50:70], own[30:50, 50:70])
    np.testing.assert_allclose(shown[:30], 0.35 * own[:30] + 0.65)
    assert (seen_part.get_xlim(), seen_part.get_ylim()) == ((35.5, 83.5), (63.5, 15.5))
    # The frame of a small field; the ring where all is seen.
    assert [(patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()) for patch in seen_part.patches] == [
        (49.5, 29.5, 20, 20)
    ] * 2
    assert not seen_part.lines
    assert seen_whole.lines[0].get_xydata().tolist() == [[29.5, 39.5]]
    smoothed = smooth(heat().double().numpy(), 0.012 * 100)
    expected = overlay(own, smoothed, shared_scale([smoothed]), TARGET)
    np.testing.assert_allclose(why_whole.images[0].get_array(), expected.clip(0, 1))
    assert why_part.get_xlim() == seen_part.get_xlim()


def test_of_a_large_field_the_edges_within_the_picture_are_drawn() -> None:
    figure = card(glimpses=[Glimpse(picture(), (10, 0, 120, 100), (60.0, 40.0))])
    (axes,) = figure.axes
    upright = [line.get_xdata() for line in axes.lines if list(line.get_ydata()) == [0, 1]]
    assert {tuple(x) for x in upright} == {(9.5, 9.5)}
    assert len(axes.lines) == 4
    assert not axes.patches


def test_places_of_positions() -> None:
    assert spot_of((0, 6), (7, 7), (224, 112)) == (104.0, 16.0)
    assert spot_of((5,), (17,), (224, 224)) is None
    assert spot_of((), (), (224, 224)) is None


def test_cards_are_of_one_width_and_hold_whatever_comes() -> None:
    assert card().get_figwidth() == card(glimpses=[], classes=[]).get_figwidth() == 10.0
    many = [Glimpse(picture(), (0, 0, 30, 30), (15.0, 15.0), heat(), name, -1e-9) for name in HOSTILE] + [
        Glimpse(picture())
    ] * 3
    classes = [ClassDrop(name, 0.5 - 0.1 * place, 0.0, 1.0) for place, name in enumerate(HOSTILE)]
    figure = card(glimpses=many, classes=classes, facts=[(name, name) for name in HOSTILE])
    assert len(figure.axes) == 11
    check_drawn(figure)
    check_drawn(card(classes=[ClassDrop("none", float("nan"))]))
    check_same_bytes(card(), card())


def test_pictures_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="values span"):
        card(glimpses=[Glimpse(picture() * 255)])
    with pytest.raises(InputError, match="the map of a unit"):
        card(glimpses=[Glimpse(picture(), heat=heat()[:50])])

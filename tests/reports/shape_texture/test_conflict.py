"""Cue conflict as pictures: what is drawn is what was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from visavis.errors import InputError
from visavis.explanation import Answer
from visavis.plotting import figure_bytes
from visavis.plotting.colours import FOIL, TARGET, overlay
from visavis.plotting.strength import shared_scale
from visavis.reports.shape_texture.conflict import bias_figure, conflict_figure
from visavis.reports.style import BLUE, ORANGE
from visavis.shape_texture.conflict_maps import ConflictMaps, CueMap
from visavis.shape_texture.cue_conflict import ShapeBias

NAMES = ("ant", "bee", "cow", "doe")


def _maps(decision: str = "ant", strength: float = 1.0) -> ConflictMaps:
    chance = torch.Generator().manual_seed(3)
    heat = torch.rand(12, 16, generator=chance)
    one = CueMap("ant", 0.25, Answer(4, "fire ant", 0.2), (5,), 3 * heat, 1.0)
    two = CueMap("bee", 0.5, Answer(5, "$bee", 0.5), (4,), strength * heat.flip(0), 1.0)
    return ConflictMaps(torch.rand(3, 12, 16, generator=chance), one, two, decision, "", "net", "CLRP", "deep-taylor")


def _bias(decisions: list[int], shapes: list[int], textures: list[int], **changed: object) -> ShapeBias:
    numbers = [torch.tensor(one) for one in (shapes, textures, decisions)]
    pictures = tuple(map(str, range(len(shapes))))
    found = ShapeBias(0.625, 0.5, 0.75, NAMES, pictures, *numbers, 0, "mean", "net")
    return replace(found, **changed)  # type: ignore[arg-type]


def _texts(figure: Figure) -> list[str]:
    return [one.get_text() for one in figure.texts] + [one.get_text() for axes in figure.axes for one in axes.texts]


def _images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


@pytest.mark.parametrize("shared", [False, True])
def test_both_maps_over_the_picture(shared: bool) -> None:
    maps = _maps()
    picture, one, two = _images(conflict_figure([maps], shared=shared, smoothing=0))
    seen = maps.picture.permute(1, 2, 0).double().numpy()
    heats = [cue.relevance.double().numpy() for cue in (maps.shape, maps.texture)]
    scales = [shared_scale(heats)] * 2 if shared else [shared_scale([heat]) for heat in heats]
    assert np.allclose(picture, seen)
    assert np.allclose(one, overlay(seen, heats[0], scales[0], TARGET))
    assert np.allclose(two, overlay(seen, heats[1], scales[1], FOIL))


def test_smoothing_bites() -> None:
    plain, smoothed = (_images(conflict_figure([_maps()], smoothing=one))[1] for one in (0, 0.1))
    assert not np.allclose(plain, smoothed)


def test_what_is_written() -> None:
    texts = _texts(conflict_figure([_maps()]))
    for said in (
        *("says ant", "decides by shape", "shape: ant", "25.0 %", "as fire ant", "texture: bee", "50.0 %", "as $bee"),
        *("ant", "rather than bee", "bee", "rather than ant", "net, CLRP, rules deep-taylor"),
        *("75.0 % of the relevance of both maps", "25.0 % of the relevance of both maps"),
    ):
        assert said in texts, said
    assert any("Each map has a scale of its own" in one for one in texts)
    assert any("Gaussian, 1 % of the shorter side" in one for one in texts)
    assert any("Both maps of a row share one scale" in one for one in _texts(conflict_figure([_maps()], shared=True)))
    assert not any("Gaussian" in one for one in _texts(conflict_figure([_maps()], smoothing=0)))
    assert "decides by texture" in _texts(conflict_figure([_maps("bee")]))
    assert {"says cow", "for neither cue"} <= set(_texts(conflict_figure([_maps("cow")])))
    assert "Mine" in _texts(conflict_figure([_maps()], title="Mine"))


@pytest.mark.parametrize(("probability", "hardly"), [(0.0, True), (0.0099, True), (0.01, False), (0.5, False)])
def test_a_category_that_is_hardly_believed(probability: float, hardly: bool) -> None:
    maps = _maps()
    texts = _texts(conflict_figure([replace(maps, shape=replace(maps.shape, probability=probability))]))
    assert ("as fire ant (hardly believed)" in texts) == hardly
    assert ("as fire ant" in texts) != hardly
    assert "as $bee" in texts


def test_a_share_of_the_relevance_is_explained() -> None:
    assert "A share of the relevance is no probability" in " ".join(_texts(conflict_figure([_maps()])))


def test_a_row_a_picture_and_maps_without_evidence() -> None:
    figure = conflict_figure([_maps(), _maps(strength=0)])
    assert len(_images(figure)) == 6
    assert "no evidence" in _texts(figure)
    empty = _maps(strength=0)
    empty = replace(empty, shape=replace(empty.shape, relevance=torch.zeros(12, 16)))
    assert not any("of the relevance" in one for one in _texts(conflict_figure([empty])))
    assert figure_bytes(figure, ".png") == figure_bytes(conflict_figure([_maps(), _maps(strength=0)]), ".png")


@pytest.mark.parametrize("count", [0, 13])
def test_too_many_pictures(count: int) -> None:
    with pytest.raises(InputError, match=f"holds 1 to 12 pictures, but {count} came"):
        conflict_figure([_maps()] * count)


def _two() -> dict[str, ShapeBias]:
    # Of net one: ant 1 of 2, bee 0 of 1, doe of neither cue; of net two: ant 2 of 2, bee 1 of 1, doe 1 of 1.
    shapes, textures = [0, 0, 1, 3], [1, 2, 0, 0]
    return {
        "net one": _bias([0, 2, 0, 1], shapes, textures),
        "net two": _bias([0, 0, 1, 3], shapes, textures, bias=1.0, low=1.0, high=1.0),
    }


def test_shares_of_each_category() -> None:
    axes = bias_figure(_two()).axes[-1]
    # By their mean: doe 1, ant 3/4, bee 1/2; cow is no picture's shape.
    assert [one.get_text() for one in axes.get_yticklabels()] == ["doe", "ant", "bee"]
    marks = {to_hex(line.get_color()): line for line in axes.lines if len(line.get_xdata()) == 3}
    assert np.array_equal(marks[ORANGE].get_xdata(), [np.nan, 0.5, 0], equal_nan=True)
    assert marks[BLUE].get_xdata().tolist() == [1, 1, 1]
    assert marks[ORANGE].get_ydata().tolist() == pytest.approx([-0.18, 0.82, 1.82])
    lines = {to_hex(one.get_color()): one.get_xdata()[0] for one in axes.lines if len(one.get_xdata()) == 2}
    assert (lines[ORANGE], lines[BLUE]) == (0.625, 1)
    bands = [(one.get_x(), one.get_x() + one.get_width()) for one in axes.patches]
    assert bands == [(0.5, 0.75), (1, 1)]


def test_what_is_written_of_each_model() -> None:
    texts = _texts(bias_figure(_two(), title="Mine"))
    said = "net one: shape bias 62 % (95 % 50 to 75); 75 % of 4 decisions are for either cue"
    assert {said, "Mine", "← by texture", "by shape →"} <= set(texts)
    none = _bias([3, 3], [0, 1], [1, 0], bias=np.nan, low=np.nan, high=np.nan)
    figure = bias_figure({"lost": none})
    assert "lost: shape bias – %; 0 % of 2 decisions are for either cue" in _texts(figure)
    assert not figure.axes[-1].patches
    assert [one.get_text() for one in figure.axes[-1].get_yticklabels()] == ["ant", "bee"]


def test_models_that_are_refused() -> None:
    with pytest.raises(InputError, match="holds 1 to 6 models, but 0 came"):
        bias_figure({})
    with pytest.raises(InputError, match="but 7 came"):
        bias_figure({str(number): _two()["net one"] for number in range(7)})
    with pytest.raises(InputError, match="'net one' and 'net two' were asked for different categories"):
        bias_figure({**_two(), "net two": replace(_two()["net two"], names=NAMES[::-1])})

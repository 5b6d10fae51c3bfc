"""The panel says what was asked, of what, against what; and shows the maps in their order."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import visavis as vv
from visavis import panel, plotting

WHERE = " (the ledger says where)"
NAMES = ["cat", "dog", "cup", "zebra", "house"]


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
    return vv.Classifier(module.eval(), labels=NAMES, bounds=(0.0, 1.0), name="toy")


@pytest.fixture
def inputs():
    return torch.rand(1, 3, 20, 30)


@pytest.fixture
def drawn(monkeypatch):
    """What `plotting.panel` was asked to draw."""
    asked = {}

    def remember(picture, maps, **texts):
        asked.update(texts, picture=picture, maps=list(maps))
        return Figure()

    monkeypatch.setattr(plotting, "panel", remember)
    return asked


def words_of(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def tiles(asked):
    return [(tile.heading, tile.role, tile.group) for tile in asked["maps"]]


def test_four_maps_of_a_contrast_in_their_order(classifier, inputs, drawn):
    why = vv.explain(classifier, inputs, "cat", "dog")
    why.plot()
    assert tiles(drawn) == [
        ("LRP: cat", "target", "LRP"),
        ("LRP: dog", "foil", "LRP"),
        ("CLRP: cat", "target", "CLRP"),
        ("CLRP: dog", "foil", "CLRP"),
    ]
    expected = (why.maps["plain target"], why.maps["plain counterpart"], why.heatmap())
    for tile, heat in zip(drawn["maps"], (*expected, why.maps["contrast counterpart"]), strict=True):
        np.testing.assert_array_equal(tile.heat, heat[0])
    assert drawn["maps"][2].note == "what speaks for cat rather than for dog"
    assert drawn["maps"][3].note == "what speaks for dog rather than for cat"
    np.testing.assert_array_equal(drawn["picture"], inputs[0].permute(1, 2, 0))
    assert drawn["title"] == "Why cat, and not dog?"
    assert drawn["subtitle"] == "toy, CLRP, rules deep-taylor"


@pytest.mark.parametrize(
    ("foil", "words"),
    [("others", "all other classes"), ("negated", "its negated weights"), ("logits", "other classes by score")],
)
def test_foils_that_are_no_class_are_named(classifier, inputs, drawn, foil, words):
    vv.explain(classifier, inputs, "cat", foil).plot()
    assert drawn["title"] == "Why cat?"
    assert drawn["maps"][2].note == f"what speaks for cat rather than for {words}"
    assert drawn["maps"][3].note.endswith(f"rather than for {words}")


def test_several_foils_are_all_named(classifier, inputs, drawn):
    vv.explain(classifier, inputs, "cat", ["dog", "zebra"]).plot()
    assert drawn["title"] == "Why cat, and not dog, zebra?"
    assert drawn["maps"][2].note == "what speaks for cat rather than for dog, zebra"
    assert drawn["maps"][3].note.endswith("rather than for cat")


def test_classes_have_their_probabilities_and_roles(classifier, inputs, drawn):
    probabilities = classifier(inputs).softmax(1)[0].tolist()
    ranked = sorted(range(5), key=lambda index: -probabilities[index])
    weakest, second = ranked[-1], ranked[-2]
    vv.explain(classifier, inputs, weakest, second, top=2).plot()
    shown = drawn["classes"]
    assert [bar.name for bar in shown] == [NAMES[i] for i in (*ranked[:2], weakest, second)]
    assert [bar.probability for bar in shown] == pytest.approx(
        [probabilities[i] for i in (*ranked[:2], weakest, second)]
    )
    assert [bar.role for bar in shown] == [None, None, "target", "foil"]


@pytest.mark.parametrize(
    ("share", "sentence"),
    [
        (1.0, "Of the relevance put on cat, all reached the pixels."),
        (0.996, "Of the relevance put on cat, all reached the pixels."),
        (0.06, f"Of the relevance put on cat, 6 % reached the pixels; the rest was absorbed on the way{WHERE}."),
        (1.5, f"The plain map of cat sums to 150 % of the relevance put on it; the rest was added on the way{WHERE}."),
        (-0.25, "sums to -25 % of the relevance put on it; more than all of it was absorbed on the way"),
    ],
)
def test_what_was_conserved_is_said(classifier, inputs, drawn, share, sentence):
    why = vv.explain(classifier, inputs, "cat", "dog")
    replace(why, conserved=torch.tensor([share])).plot()
    assert sentence in drawn["footer"]


def test_a_ledger_that_is_not_there_is_not_pointed_to(classifier, inputs, drawn):
    why = vv.explain(classifier, inputs.repeat(2, 1, 1, 1), "cat", "dog")[1]
    replace(why, conserved=torch.tensor([0.06])).plot()
    assert "6 % reached the pixels; the rest was absorbed on the way." in drawn["footer"]


def test_methods_that_conserve_nothing_say_nothing_of_it(classifier, inputs, drawn):
    vv.explain(classifier, inputs, "cat", "dog", method="gradient").plot()
    assert drawn["footer"] == ""
    assert tiles(drawn) == [("Gradient: cat", "target", "Gradient"), ("Gradient: dog", "foil", "Gradient")]
    assert drawn["subtitle"] == "toy, Gradient"
    assert "move the score of cat" in drawn["maps"][0].note


def test_a_unit_alone(classifier, inputs, drawn):
    vv.explain(classifier, inputs, layer="0", unit=2).plot()
    assert tiles(drawn) == [("LRP: unit 2", "target", "LRP"), ("CLRP: unit 2", "target", "CLRP")]
    assert drawn["title"] == "Why does unit 2 of 0 fire?"
    assert drawn["maps"][1].note == "what speaks for unit 2 rather than for all other units"
    assert "layer 0" in drawn["subtitle"]
    assert all(bar.role is None for bar in drawn["classes"])  # unit 2 is not class 2


def test_a_unit_at_a_position(classifier, inputs, drawn):
    values = classifier.module[0](inputs)[0, 2]
    lowest = divmod(int(values.argmin()), values.shape[1])
    assert values.min() < 0
    vv.explain(classifier, inputs, layer="0", unit=2, position=lowest).plot()
    shown = f"{values.min():.3g}"
    assert drawn["title"] == f"Why is unit 2 of 0 at −{shown[1:]} at position ({lowest[0]}, {lowest[1]})?"
    assert f"activation {shown}" in drawn["subtitle"]


def test_a_unit_and_its_foil(classifier, inputs, drawn):
    vv.explain(classifier, inputs, layer="0", unit=2, foil=3).plot()
    assert [tile.heading for tile in drawn["maps"]] == ["LRP: unit 2", "LRP: unit 3", "CLRP: unit 2", "CLRP: unit 3"]
    assert drawn["maps"][3].note == "what speaks for unit 3 rather than for unit 2"


def test_one_output_has_no_counterpart(inputs, drawn):
    module = nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    vv.explain(module, inputs, foil="negated").plot()
    assert [tile.role for tile in drawn["maps"]] == ["target", "target"]


def test_the_figure_holds_the_words(classifier, inputs):
    probabilities = classifier(inputs).softmax(1)[0].tolist()
    figure = vv.explain(classifier, inputs, "cat", "dog", signed=True).plot()
    said = words_of(figure)
    for words in ("Why cat, and not dog?", "toy, CLRP, rules deep-taylor", "CLRP: cat", "of the relevance put on cat"):
        assert words.lower() in said.lower()
    for name, probability in zip(NAMES, probabilities, strict=True):
        assert name in said
        assert f"{100 * probability:.1f} %" in said
    assert "against" in said  # signed maps have a legend with two ends


def test_a_map_without_signs_has_a_legend_with_one_end(classifier, inputs):
    assert "against" not in words_of(vv.explain(classifier, inputs, "cat", "dog").plot())


def test_the_users_own_figures_are_left_alone(classifier, inputs):
    before = plt.get_fignums()
    vv.explain(classifier, inputs, "cat", "dog").plot()
    assert plt.get_fignums() == before


def test_several_pictures_are_refused(classifier, inputs):
    why = vv.explain(classifier, inputs.repeat(2, 1, 1, 1), "cat")
    with pytest.raises(vv.InputError, match=r"one picture.* 2.*why\[0\]"):
        panel.panel_of(why)


def test_a_loaded_explanation_is_drawn_alike(classifier, inputs, tmp_path):
    why = vv.explain(classifier, inputs, "cat", "dog")
    read = vv.Explanation.load(why.save(tmp_path / "why.safetensors"))
    assert why.save(tmp_path / "a.png").read_bytes() == read.save(tmp_path / "b.png").read_bytes()


def test_the_strength_of_the_contrast_is_said(classifier, inputs, drawn):
    why = vv.explain(classifier, inputs, "cat", "dog")
    why.plot()
    ratio = float(why.heatmap().max() / why.maps["plain target"].abs().max())
    said = f"1/{1 / ratio:,.0f} of" if ratio < 0.5 else f"{ratio:.1f} times"
    assert f"At its strongest the contrast is {said} the plain map." in drawn["footer"]
    weak = replace(why, relevance=why.relevance * 1e-6)
    weak.plot()
    assert "The classes hardly differ here" in drawn["footer"]


@pytest.mark.parametrize("asked", [{"normalize": "sum"}, {"method": "clrp-scales", "scales": (1,)}], ids=str)
def test_shares_are_not_compared_with_relevance(classifier, inputs, drawn, asked):
    vv.explain(classifier, inputs, "cat", **asked).plot()
    assert "contrast" not in drawn["footer"]
    vv.explain(classifier, inputs, "cat").plot()
    assert "contrast" in drawn["footer"]

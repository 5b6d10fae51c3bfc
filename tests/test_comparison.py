"""compare() shows for each class what explain() shows for it."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import visavis as vv
from visavis import plotting

NAMES = ["cat", "dog", "cup", "zebra", "house"]


def network(classes=5):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, classes))
    return module.eval().double()


@pytest.fixture(scope="module")
def classifier():
    labels = vv.Labels(NAMES, wordnet_ids=["n01", "n02", "n03", "n04", "n05"])
    return vv.Classifier(network(), labels=labels, bounds=(0.0, 1.0), name="toy")


@pytest.fixture
def inputs():
    return torch.rand(1, 3, 20, 30, dtype=torch.float64)


def refusal(*arguments, **options):
    """The one sentence with which a comparison is refused."""
    with pytest.raises(vv.VisavisError) as caught:
        vv.compare(*arguments, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("rules", ["deep-taylor", "epsilon-plus"])
def test_rows_are_the_maps_of_explain(classifier, inputs, rules):
    comparison = vv.compare(classifier, inputs, ["cup", 0, "n05", "dog"], rules=rules)
    assert [answer.name for answer in comparison.answers] == ["cup", "cat", "house", "dog"]
    for i, index in enumerate((2, 0, 4, 1)):
        why = vv.explain(classifier, inputs, index, rules=rules)
        assert_close(comparison.plain[i], why.maps["plain target"][0])
        assert_close(comparison.contrast[i], why.heatmap()[0])
        assert_close(comparison.conserved[i], why.conserved[0])
        assert comparison.answers[i] == why.targets[0]
    assert_close(comparison.picture, inputs[0].float())
    assert comparison.rules == rules
    assert comparison.model == "toy"
    assert comparison.foil == "all other classes"
    assert (comparison.contrast[0] - comparison.contrast[1]).abs().max() > 1e-6


@pytest.mark.parametrize("top", [1, 3, 5, 50])
def test_the_strongest_come_first(classifier, inputs, top):
    comparison = vv.compare(classifier, inputs, top=top)
    values, indices = classifier(inputs).softmax(1)[0].topk(min(top, 5))
    assert [answer.index for answer in comparison.answers] == indices.tolist()
    assert [answer.probability for answer in comparison.answers] == pytest.approx(values.tolist())
    assert comparison.plain.shape == comparison.contrast.shape == (min(top, 5), 20, 30)


def test_one_picture_in_each_form(inputs):
    def preprocess(picture):
        return torch.from_numpy(np.asarray(picture, dtype=np.float64) / 255).permute(2, 0, 1)

    classifier = vv.Classifier(network(), preprocess=preprocess)
    values = (inputs[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    expected = vv.compare(classifier, preprocess(values)[None], [1, 2])
    for source in (values, PIL.Image.fromarray(values), preprocess(values)):
        assert_close(vv.compare(classifier, source, [1, 2]).contrast, expected.contrast)


def test_as_dict_is_json(classifier, inputs):
    comparison = vv.compare(classifier, inputs, ["cup", "cat"])
    read = json.loads(json.dumps(comparison.as_dict(), allow_nan=False))
    assert [row["name"] for row in read["classes"]] == ["cup", "cat"]
    assert [row["conserved"] for row in read["classes"]] == comparison.conserved.tolist()
    assert [row["probability"] for row in read["classes"]] == pytest.approx(
        classifier(inputs).softmax(1)[0, [2, 0]].tolist()
    )
    assert (read["model"], read["rules"], read["foil"]) == ("toy", "deep-taylor", "all other classes")


def test_repr_is_short_and_says_what(classifier, inputs):
    comparison = vv.compare(classifier, inputs, ["cup", "cat"])
    cup, cat = (100 * p for p in classifier(inputs).softmax(1)[0, [2, 0]].tolist())
    assert repr(comparison) == (
        f"Comparison(cup {cup:.1f} %; cat {cat:.1f} %, toy, rules deep-taylor, maps (2, 20, 30))"
    )
    assert "; and 2 more, toy" in repr(vv.compare(classifier, inputs))


def test_what_is_drawn(classifier, inputs, monkeypatch):
    asked = {}
    monkeypatch.setattr(plotting, "comparison", lambda picture, rows, **texts: asked.update(texts, rows=rows))
    comparison = vv.compare(classifier, inputs, ["cup", "cat"])
    comparison.plot()
    assert [row.name for row in asked["rows"]] == ["cup", "cat"]
    for i, row in enumerate(asked["rows"]):
        np.testing.assert_array_equal(row.plain, comparison.plain[i])
        np.testing.assert_array_equal(row.contrast, comparison.contrast[i])
    assert asked["columns"] == ("LRP", "CLRP")
    assert "all other classes" in asked["notes"][1]
    assert asked["subtitle"] == "toy, rules deep-taylor"


def test_the_figure_is_written(classifier, inputs, tmp_path):
    comparison = vv.compare(classifier, inputs, ["cup", "cat"])
    path = comparison.save(tmp_path / "compared.png")
    with PIL.Image.open(path) as picture:
        picture.load()
        assert picture.height > 500
    assert [entry.name for entry in tmp_path.iterdir()] == ["compared.png"]
    with pytest.raises(vv.OutputError, match=r"\.safetensors.*\.png"):
        comparison.save(tmp_path / "compared.safetensors")
    with pytest.raises(vv.OutputError, match="is no folder"):
        comparison.save(tmp_path / "compared.png" / "a.png")


def test_a_figure_of_half_precision(tmp_path):
    comparison = vv.compare(network().to(torch.bfloat16), torch.rand(1, 3, 12, 12, dtype=torch.bfloat16))
    assert comparison.save(tmp_path / "a.png").stat().st_size > 1000


def test_the_model_is_left_as_it_was(inputs):
    module = network()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    vv.compare(module, inputs)
    with pytest.raises(vv.InputError):
        vv.compare(module, inputs, [99])
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_bad_requests(classifier, inputs):
    assert "zebra (3)" in refusal(classifier, inputs, ["zebr"])
    assert "0 to 4" in refusal(classifier, inputs, [5])
    assert "0 to 4" in refusal(network(), inputs, [5])
    assert "at least 1" in refusal(classifier, inputs, top=0)
    assert "these are 2" in refusal(classifier, inputs.repeat(2, 1, 1, 1))
    assert "two classes" in refusal(network(classes=1), inputs)
    assert "'epsilon'" in refusal(classifier, inputs, rules="epsilom")
    assert "NaN" in refusal(classifier, inputs * float("nan"))


def test_an_empty_list_of_classes(classifier, inputs):
    assert "class" in refusal(classifier, inputs, [])


def test_labels_that_are_fewer_than_the_classes(inputs):
    assert "labels" in refusal(vv.Classifier(network(), labels=["cat", "dog"]), inputs)


def test_a_relevance_that_is_not_finite(inputs):
    module = network()
    with torch.no_grad():
        module[0].weight[0, 0, 0, 0] = float("inf")
    assert "finite" in refusal(module, inputs, [1])

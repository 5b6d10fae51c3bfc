"""A classifier prepares pictures, shows what the network saw, and refuses what the network would misread."""

import inspect

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from visavis.classifier import Classifier, pixel_bounds
from visavis.errors import InputError, ModelError
from visavis.labels import Labels

MEAN = torch.tensor([0.5, 0.4, 0.3]).reshape(3, 1, 1)
STD = torch.tensor([0.2, 0.25, 0.5]).reshape(3, 1, 1)
BOUNDS = ((-2.5, -1.6, -0.6), (2.5, 2.4, 1.4))


def normalised(picture):
    values = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255
    return (values - MEAN) / STD


def network(classes=4):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, classes)).eval()


@pytest.fixture
def classifier():
    return Classifier(network(), preprocess=normalised, labels=["ant", "bee", "cat", "dog"], bounds=BOUNDS)


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)


def refusal(action, *arguments, error=InputError, **options):
    with pytest.raises(error) as caught:
        inspect.unwrap(action)(*arguments, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_a_picture_is_prepared(classifier, array, tmp_path):
    expected = ((torch.from_numpy(array).double() / 255 - MEAN.flatten()) / STD.flatten()).permute(2, 0, 1)[None]
    PIL.Image.fromarray(array).save(tmp_path / "a.png")
    for source in (array, PIL.Image.fromarray(array), tmp_path / "a.png", str(tmp_path / "a.png"), [array]):
        batch = classifier.prepare(source)
        assert batch.dtype == torch.float32
        assert_close(batch, expected.float())


def test_several_pictures_make_a_batch(classifier, array):
    batch = classifier.prepare([array, PIL.Image.fromarray(255 - array), normalised(array)])
    assert_close(batch, torch.stack([normalised(array), normalised(255 - array), normalised(array)]))
    assert_close(classifier.prepare((array,)), batch[:1])


def test_a_tensor_is_only_moved(classifier):
    batch = torch.randn(2, 3, 8, 8)
    assert_close(classifier.prepare(batch), batch, rtol=0, atol=0)
    assert_close(classifier.prepare(batch[0]), batch[:1], rtol=0, atol=0)


def test_the_modules_type_is_taken(array):
    double = Classifier(network().double(), preprocess=normalised)
    assert double.dtype == torch.float64
    assert_close(double.prepare(array), normalised(array)[None].double())
    assert double.prepare(torch.zeros(1, 3, 4, 4)).dtype == torch.float64
    assert Classifier(nn.Flatten()).dtype == torch.float32
    assert Classifier(nn.Flatten()).device == torch.device("cpu")
    assert Classifier(network().to("meta")).device == torch.device("meta")


def test_to_moves_the_callers_module(classifier):
    assert classifier.to("meta") is classifier
    assert next(classifier.module.parameters()).device == torch.device("meta")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "normalise it first, or pass a picture"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.complex64), "torch.complex64"),
        (torch.tensor([1.0, torch.nan, torch.inf] * 16).reshape(1, 3, 4, 4), "32 values that are NaN or infinite"),
        (torch.zeros(1, 4, 4, 4), "takes 3 channels, but the tensor has 4"),
        (torch.zeros(1, 4, 4), "takes 3 channels, but the tensor has 1"),
        (torch.zeros(4, 4), "(4, 4), but (C, H, W) or (B, C, H, W) was expected"),
        (torch.zeros(0, 3, 4, 4), "(0, 3, 4, 4)"),
        (torch.full((1, 3, 4, 4), 255.0), "values from 255 to 255"),
        ([], "the list of pictures is empty"),
        ([torch.zeros(1, 3, 4, 4)], "pass a batch (B, C, H, W) by itself"),
        ([torch.zeros(3, 4, 4), torch.zeros(3, 5, 4)], "differ in size, (3, 4, 4) and (3, 5, 4)"),
        ("missing.png", "there is no file 'missing.png'"),
    ],
)
def test_what_cannot_be_prepared(classifier, source, said):
    assert said in refusal(Classifier.prepare, classifier, source)


def test_pictures_need_preprocessing(array):
    sentence = refusal(Classifier.prepare, Classifier(network(), name="mine"), array)
    assert sentence.startswith("mine has no preprocessing, so it takes no pictures; pass a normalised tensor")


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (lambda _: np.zeros((3, 8, 8)), "a ndarray"),
        (lambda _: torch.zeros(2, 3, 8, 8), "(2, 3, 8, 8)"),
        (lambda _: torch.zeros(3, 8, 8, dtype=torch.int64), "torch.int64"),
        (lambda _: torch.full((3, 8, 8), torch.nan), "192 values that are NaN"),
    ],
)
def test_preprocessing_must_give_a_tensor(array, gives, said):
    assert said in refusal(Classifier.prepare, Classifier(network(), preprocess=gives), array)


def test_a_batch_of_one_from_preprocessing(array):
    classifier = Classifier(network(), preprocess=lambda picture: normalised(picture)[None])
    assert_close(classifier.prepare([array, array]), normalised(array).expand(2, -1, -1, -1))


def test_bounds_become_tensors():
    low, high = Classifier(network(), bounds=BOUNDS).bounds
    assert_close(low, torch.tensor(BOUNDS[0]).reshape(1, 3, 1, 1))
    assert_close(high, torch.tensor(BOUNDS[1]).reshape(1, 3, 1, 1))
    low, high = Classifier(network(), bounds=(torch.zeros(1, 3, 1, 1), 1)).bounds
    assert_close(low, torch.zeros(1, 3, 1, 1))
    assert_close(high, torch.ones(1, 3, 1, 1))
    low, high = Classifier(network(), bounds=(np.zeros(3), np.ones(3))).bounds
    assert_close(high - low, torch.ones(1, 3, 1, 1, dtype=torch.float64))
    low, high = Classifier(network(), bounds=(0, 1.0)).bounds
    assert low.shape == high.shape == (1, 1, 1, 1)
    assert low.dtype == high.dtype == torch.float32
    assert Classifier(network()).bounds is None


def test_plain_bounds_hold_for_any_number_of_channels():
    anything = Classifier(network(), bounds=(0, 1))
    assert anything.prepare(torch.zeros(1, 5, 4, 4)).shape == (1, 5, 4, 4)
    one = Classifier(network(), bounds=([0], [1]))
    assert "takes 1 channels" in refusal(Classifier.prepare, one, torch.zeros(1, 5, 4, 4))


@pytest.mark.parametrize(
    "bounds",
    [(0,), 3, (1, 0), (0, 0), (0, float("inf")), ([0, 0], [1, 1, 1]), ("low", "high"), (torch.zeros(3, 2), 1)],
)
def test_malformed_bounds(bounds):
    create = inspect.unwrap(Classifier.__init__)
    sentence = refusal(create, Classifier.__new__(Classifier), network(), bounds=bounds)
    assert "bound" in sentence


def test_the_picture_that_the_network_saw(classifier, array):
    shown = classifier.picture(classifier.prepare([array, 255 - array]))
    expected = torch.from_numpy(np.stack([array, 255 - array])).permute(0, 3, 1, 2) / 255
    assert_close(shown, expected)
    beyond = torch.tensor(BOUNDS).T.reshape(1, 3, 1, 2) * 1.1
    assert_close(classifier.picture(beyond), torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2))


def test_pictures_in_grey():
    low, high = -1.0, 3.0
    grey = Classifier(network(), bounds=([low], [high]))
    values = torch.rand(2, 1, 4, 4)
    assert_close(grey.picture(values * (high - low) + low), values.expand(-1, 3, -1, -1))
    five = torch.rand(2, 5, 4, 4)
    assert_close(Classifier(network(), bounds=(0, 1)).picture(five)[:, 1], five.mean(1))


def test_pictures_without_bounds():
    plain = Classifier(network())
    values = torch.randn(2, 3, 4, 4, requires_grad=True)
    shown = plain.picture(values * torch.tensor([1.0, 100.0]).reshape(2, 1, 1, 1))
    assert_close(shown.amin((1, 2, 3)), torch.zeros(2))
    assert_close(shown.amax((1, 2, 3)), torch.ones(2))
    one = values[:1].detach()
    assert_close(shown[:1], (one - one.min()) / (one.max() - one.min()))
    assert not shown.requires_grad
    assert_close(plain.picture(torch.full((1, 3, 4, 4), 7.0)), torch.zeros(1, 3, 4, 4))


def test_what_is_no_batch_to_show(classifier):
    assert "a batch is (B, C, H, W)" in refusal(Classifier.picture, classifier, torch.zeros(3, 4, 4))
    assert "takes 3 channels" in refusal(Classifier.picture, classifier, torch.zeros(1, 1, 4, 4))


def test_calling_it_gives_the_modules_logits(classifier):
    batch = torch.randn(2, 3, 8, 8)
    assert_close(classifier(batch), classifier.module(batch), rtol=0, atol=0)


def test_the_module_is_left_as_it_was(array):
    module = network().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    classifier = Classifier(module, preprocess=normalised, bounds=BOUNDS)
    classifier.prepare(array)
    assert module.training
    assert classifier.module is module
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())


def test_classes_by_name_and_number(classifier):
    assert classifier.index("Bee") == classifier.index(1) == classifier.index("1") == 1
    assert classifier.label(3) == "dog"
    assert "bee (1)" in refusal(Classifier.index, classifier, "beee")
    labels = Labels(["a", "b", "c", "d"])
    assert Classifier(network(), labels=labels).labels is labels


def test_without_labels_the_classes_are_numbered_once_the_model_has_run():
    plain = Classifier(network(5))
    assert plain.labels is None
    assert plain.index(7) == plain.index(" 7 ") == 7
    assert plain.label(2) == "class 2"
    assert "has no class names to find 'zebra' in" in refusal(Classifier.index, plain, "zebra")
    assert "from 0" in refusal(Classifier.index, plain, -1)
    assert "of type bool" in refusal(Classifier.index, plain, True)
    plain(torch.zeros(1, 3, 8, 8))
    assert plain.labels == Labels.numbered(5)
    assert "from 0 to 4" in refusal(Classifier.index, plain, 7)


def test_logits_are_counted(classifier):
    logits = torch.zeros(2, 4)
    assert classifier.logits({"logits": logits}) is logits
    for wrong, said in ((torch.zeros(2, 5), "5 logits a picture, but has 4 labels"), (torch.zeros(4), "(4,)")):
        assert said in refusal(Classifier.logits, classifier, wrong, error=ModelError)


def test_unexplainable_modules_are_refused():
    create = inspect.unwrap(Classifier.__init__)
    blank = Classifier.__new__(Classifier)
    assert "torch.nn.Module" in refusal(create, blank, "resnet50")
    assert "_orig_mod" in refusal(create, blank, torch.compile(network(), backend="eager"), error=ModelError)


def test_its_name():
    assert Classifier(network()).name == "Sequential"
    assert Classifier(network(), name="mine", labels=["a"] * 4).name == "mine"
    assert repr(Classifier(network(), name="mine", labels=["a"] * 4)) == "Classifier(mine, 4 classes, cpu)"
    assert repr(Classifier(network(), name="mine")) == "Classifier(mine, classes without names, cpu)"


def test_bounds_are_measured_on_black_and_white():
    low, high = pixel_bounds(normalised)
    assert_close(low, torch.tensor(BOUNDS[0]).reshape(1, 3, 1, 1))
    assert_close(high, torch.tensor(BOUNDS[1]).reshape(1, 3, 1, 1))


def test_bounds_of_a_negative_and_of_a_padded_picture():
    low, high = pixel_bounds(lambda picture: nn.functional.pad(-normalised(picture), (99, 99, 99, 99), value=50))
    assert_close(low, -torch.tensor(BOUNDS[1]).reshape(1, 3, 1, 1))
    assert_close(high, -torch.tensor(BOUNDS[0]).reshape(1, 3, 1, 1))


@pytest.mark.parametrize("gives", [lambda _: torch.zeros(3, 8, 8), lambda _: None, lambda _: torch.zeros(3)])
def test_bounds_that_cannot_be_measured(gives):
    refusal(pixel_bounds, gives, error=ModelError)

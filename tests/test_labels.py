"""Every way to name a class finds it, and what names none or several ends in one sentence with candidates."""

import inspect

import numpy as np
import pytest
import torch

from visavis.errors import InputError
from visavis.labels import Labels, imagenet_labels, named_labels


@pytest.fixture(scope="module")
def imagenet():
    return imagenet_labels()


def refusal(labels, label):
    with pytest.raises(InputError) as caught:
        inspect.unwrap(type(labels).index)(labels, label)  # the tests' annotation checks would object first
    return str(caught.value)


@pytest.mark.parametrize(
    ("label", "index"),
    [
        (340, 340),
        (np.int64(340), 340),
        (torch.tensor(340), 340),
        ("340", 340),
        (" 340 ", 340),
        (0, 0),
        (999, 999),
        ("zebra", 340),
        ("ZEBRA", 340),
        ("African elephant", 386),
        ("african_elephant", 386),
        ("African-Elephant", 386),
        ("  african   elephant ", 386),
        ("Loxodonta africana", 386),
        ("n02391049", 340),
        ("N02391049", 340),
        ("Tinca tinca", 0),
        ("jack-o'-lantern", 607),
        ("crane (bird)", 134),
        ("crane bird", 134),
        ("crane (machine)", 517),
        ("n03126707", 517),
        ("maillot tank suit", 639),
        ("tank suit", 639),
        ("missile", 657),  # also a synonym of "projectile": the display name wins
        ("tub", 876),  # also a synonym of "bathtub"
    ],
)
def test_what_names_a_class(imagenet, label, index):
    assert inspect.unwrap(Labels.index)(imagenet, label) == index


def test_imagenet_agrees_with_a_known_list(imagenet):
    assert len(imagenet) == 1000
    known = {0: "tench", 207: "golden retriever", 340: "zebra", 386: "African elephant", 999: "toilet tissue"}
    assert {index: imagenet[index] for index in known} == known
    assert imagenet.wordnet_ids[207] == "n02099601"
    assert list(imagenet.wordnet_ids) == sorted(imagenet.wordnet_ids)
    assert imagenet_labels() is imagenet


def test_every_imagenet_name_and_id_is_its_own(imagenet):
    assert [imagenet.index(name) for name in imagenet] == list(range(1000))
    assert [imagenet.index(wordnet_id) for wordnet_id in imagenet.wordnet_ids] == list(range(1000))
    assert len({name.lower() for name in imagenet}) == 1000


@pytest.mark.parametrize(
    ("label", "candidates"),
    [
        ("crane", ["crane (bird) (134, n02012849)", "crane (machine) (517, n03126707)"]),
        ("maillot", ["(638, n03710637)", "(639, n03710721)"]),
        ("cardigan", ["Cardigan (Welsh corgi) (264, n02113186)", "cardigan (jacket) (474, n02963159)"]),
        ("Panther", ["cougar (286, n02125311)", "jaguar (290, n02128925)"]),
    ],
)
def test_what_names_several_classes(imagenet, label, candidates):
    sentence = refusal(imagenet, label)
    assert sentence.startswith(f"'{label}' names 2 classes: ")
    assert all(candidate in sentence for candidate in candidates)


@pytest.mark.parametrize(
    ("label", "candidates"),
    [
        ("elephant", ["African elephant (386)", "Indian elephant (385)"]),
        ("zebr", ["zebra (340)"]),
        ("zebar", ["zebra (340)"]),
        ("espreso", ["espresso (967)"]),
        ("african elefant", ["African elephant (386)"]),
        ("retriever golden", ["golden retriever (207)"]),
    ],
)
def test_the_nearest_are_named(imagenet, label, candidates):
    sentence = refusal(imagenet, label)
    assert sentence.startswith(f"there is no class '{label}'")
    assert all(candidate in sentence for candidate in candidates)
    assert sentence.count("(") <= 8


def test_the_best_candidate_comes_first(imagenet):
    assert "the nearest are African elephant (386)" in refusal(imagenet, "african elefant")


@pytest.mark.parametrize("label", ["", "  ", "!!!", "xqzwv"])
def test_a_name_near_nothing(imagenet, label):
    assert "pass a name, or an index from 0 to 999" in refusal(imagenet, label)


@pytest.mark.parametrize("label", [1000, -1, "1000", "-1", np.int64(1000)])
def test_an_index_out_of_range(imagenet, label):
    assert "from 0 to 999" in refusal(imagenet, label)


@pytest.mark.parametrize(
    "label", [True, np.True_, torch.tensor(True), 3.0, None, [1], torch.tensor(3.0), torch.tensor([1, 2])]
)
def test_what_is_no_index(imagenet, label):
    assert "pass an int or a string" in refusal(imagenet, label)


def test_exact_spelling_tells_names_apart():
    labels = Labels(["Turkey", "turkey", "TURKEY!"])
    assert labels.index("Turkey") == 0
    assert labels.index("turkey") == 1
    assert "names 3 classes: Turkey (0), turkey (1), TURKEY! (2)" in refusal(labels, "tUrKeY")


def test_names_that_are_marks_alone():
    labels = Labels(["+", "-", "plus"])
    assert [labels.index(name) for name in labels] == [0, 1, 2]


def test_digits_as_names_are_names():
    labels = Labels(["3", "1", "2"])
    assert labels.index("3") == 0
    assert labels.index(1) == 1
    assert labels.index("0") == 0


def test_a_name_given_twice_is_ambiguous():
    labels = Labels(["cat", "dog", "cat"], wordnet_ids=["n1", "n2", "n3"])
    assert refusal(labels, "cat").startswith("'cat' names 2 classes: cat (0, n1), cat (2, n3)")
    assert labels.index("n3") == 2


def test_a_display_name_wins_over_a_synonym():
    labels = Labels(["mouse", "rat"], synonyms=[["rodent"], ["Mouse", "rodent"]])
    assert labels.index("mouse") == labels.index("MOUSE") == 0
    assert "mouse (0), rat (1)" in refusal(labels, "rodent")


def test_numbered():
    labels = Labels.numbered(3)
    assert list(labels) == ["class 0", "class 1", "class 2"]
    assert labels.index("2") == labels.index("class 2") == labels.index(2) == 2
    assert "from 0 to 2" in refusal(labels, 3)


def test_it_is_a_sequence_of_names():
    labels = Labels(["cat", "dog"])
    assert (len(labels), labels[1], list(labels), "dog" in labels) == (2, "dog", ["cat", "dog"], True)
    assert labels == Labels(("cat", "dog"))
    assert labels != Labels(["cat", "dog"], wordnet_ids=["a", "b"])
    assert labels != ["cat", "dog"]
    assert hash(labels) == hash(Labels(["cat", "dog"]))
    assert "2 classes" in repr(labels)
    with pytest.raises(IndexError):
        labels[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([],), "one string a class"),
        (("cat",), "one string a class"),
        ((["cat", 1],), "one string a class"),
        ((["cat", "dog"], [["puss"]]), "synonyms for 1"),
        ((["cat", "dog"], None, ["n1", "n2", "n3"]), "WordNet ids for 3"),
    ],
)
def test_malformed_labels(arguments, said):
    with pytest.raises(InputError, match=said):
        inspect.unwrap(Labels.__init__)(Labels.__new__(Labels), *arguments)


def test_a_models_own_names(imagenet):
    assert named_labels(["tench, Tinca tinca", "cat"]).index("tinca tinca") == 0
    described = [", ".join(synonyms) for synonyms in imagenet.synonyms]
    assert named_labels(described) is imagenet
    turned = described[::-1]
    assert named_labels(turned) != imagenet
    assert named_labels(turned).index("zebra") == 999 - 340

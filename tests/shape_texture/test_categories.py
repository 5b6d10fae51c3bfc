"""Which classes a category is, and how much is said for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from visavis.classifier import Classifier
from visavis.datasets.common_names import GEIRHOS16
from visavis.datasets.mapping import class_map
from visavis.errors import InputError, ModelError
from visavis.labels import Labels, imagenet_labels
from visavis.shape_texture.categories import categories_of, category_scores, decided_among

# From the lists of the authors' repository, rgeirhos/texture-vs-shape, code/helper/human_categories.py: of the dogs and
# birds those that are left out, of all else those that are listed.
LISTED = {
    "airplane": [404],
    "bear": [294, 295, 296, 297],
    "bicycle": [444, 671],
    "boat": [472, 554, 625, 814, 914],
    "bottle": [440, 720, 737, 898, 899, 901, 907],
    "car": [436, 511, 817],
    "cat": [281, 282, 283, 284, 285, 286],
    "chair": [423, 559, 765, 857],
    "clock": [409, 530, 892],
    "elephant": [385, 386],
    "keyboard": [508, 878],
    "knife": [499],
    "oven": [766],
    "truck": [555, 569, 656, 675, 717, 734, 864, 867],
}
NO_DOG = ["Chihuahua", "cairn", "Lhasa", "kelpie", "boxer", "dalmatian", "Samoyed", "chow", "Cardigan (Welsh corgi)"]
NO_BIRD = [
    *("cock", "ostrich", "jay", "kite", "peacock", "quail", "partridge", "drake", "crane (bird)", "albatross"),
]
WORDS = {
    "airplane": ["airliner"],
    "bear": ["brown bear", "American black bear", "ice bear", "sloth bear"],
    "bicycle": ["bicycle-built-for-two", "mountain bike"],
    "boat": ["canoe", "fireboat", "lifeboat", "speedboat", "yawl"],
    "clock": ["analog clock", "digital clock", "wall clock"],
    "elephant": ["Indian elephant", "African elephant"],
    "oven": ["rotisserie"],
    "car": ["beach wagon", "convertible", "sports car"],
}


def _classifier(labels: Labels | list[str] | None) -> Classifier:
    return Classifier(nn.Identity(), labels=labels, name="toy")


def test_the_sixteen_are_those_of_the_authors() -> None:
    imagenet = imagenet_labels()
    found = categories_of(_classifier(imagenet))
    assert list(found) == sorted([*LISTED, "dog", "bird"])
    for name, listed in LISTED.items():
        assert list(found[name]) == listed, name
    dogs = [index for index in range(151, 269) if imagenet[index] not in NO_DOG]
    birds = [index for bounds in ((7, 25), (80, 101), (127, 147)) for index in range(*bounds)]
    assert list(found["dog"]) == dogs
    assert list(found["bird"]) == [index for index in birds if imagenet[index] not in NO_BIRD]
    assert (len(found["dog"]), len(found["bird"]), sum(map(len, found.values()))) == (109, 49, 207)


@pytest.mark.parametrize("name", list(WORDS))
def test_the_lists_name_the_right_things(name: str) -> None:
    assert [imagenet_labels()[index] for index in GEIRHOS16[name]] == WORDS[name]


def test_another_order_and_number_of_classes() -> None:
    imagenet = imagenet_labels()
    order = np.random.default_rng(0).permutation(1000)[:900]
    ids = imagenet.wordnet_ids
    assert ids is not None
    labels = Labels([f"name {index}" for index in order], None, [ids[index] for index in order])
    found = class_map(tuple(GEIRHOS16), labels, "geirhos16")
    for name, numbers in GEIRHOS16.items():
        assert [order[index] for index in found[name]] == [index for index in order if index in numbers]


def test_other_names_are_found_as_names() -> None:
    assert categories_of(_classifier(["zebra", "Tea pot", "cat"]), ["cat", "tea-pot"]) == {"cat": (2,), "tea-pot": (1,)}
    # With a name beside the sixteen, dogs are COCO's.
    assert len(categories_of(_classifier(imagenet_labels()), ["dog", "zebra"])["dog"]) == 118
    assert len(categories_of(_classifier(imagenet_labels()), ["dog", "cat"])["dog"]) == 109


def test_own_vocabulary_comes_before_cocos_where_a_model_has_more_than_imagenet() -> None:
    imagenet = imagenet_labels()
    assert imagenet.wordnet_ids is not None
    labels = Labels([*map(str, range(1000)), "more"], None, [*imagenet.wordnet_ids, "n99999999"])
    assert len(class_map(("dog",), labels, "geirhos16")["dog"]) == 109
    assert len(class_map(("dog",), labels, "coco")["dog"]) == 118


def test_given_categories() -> None:
    model = _classifier(["a", "b", "c", "d"])
    assert categories_of(model, ["x"], {"y": "d", "x": [0, "c", 0]}) == {"y": (3,), "x": (0, 2)}
    assert categories_of(_classifier(None), None, {"y": 3, "x": [0, 2]}) == {"y": (3,), "x": (0, 2)}


def test_categories_that_are_refused() -> None:
    model = _classifier(["a", "b", "cat"])
    with pytest.raises(InputError, match="has no class names; give the classes of each category"):
        categories_of(_classifier(None), ["a", "b"])
    with pytest.raises(InputError, match="toy has no class for dog, bird; give"):
        categories_of(model, ["cat", "dog", "bird"])
    with pytest.raises(InputError, match="the model has none of"):
        categories_of(model, ["dog", "bird"])
    with pytest.raises(InputError, match="give no classes for z; give"):
        categories_of(model, ["x", "z"], {"x": 0, "y": 1})
    with pytest.raises(InputError, match="category 'x' has no classes"):
        categories_of(model, None, {"x": [], "y": 1})
    with pytest.raises(InputError, match=r"class 'a' \(0\) is in the categories 'x' and 'y'"):
        categories_of(model, None, {"x": [0, 1], "y": [2, 0]})
    with pytest.raises(InputError, match="two categories or more, not among x"):
        categories_of(model, None, {"x": [0, 1]})
    with pytest.raises(InputError, match="there is no class 3"):
        categories_of(model, None, {"x": 3, "y": 1})


def test_decisions_are_among_all_sixteen_where_the_model_knows_them() -> None:
    imagenet = _classifier(imagenet_labels())
    assert tuple(decided_among(imagenet, ["cat", "dog"], None)) == tuple(GEIRHOS16)
    assert tuple(decided_among(imagenet, ["dog", "zebra"], None)) == ("dog", "zebra")
    assert tuple(decided_among(_classifier(["dog", "cat"]), ["cat", "dog"], None)) == ("cat", "dog")
    assert tuple(decided_among(imagenet, ["cat", "dog"], {"dog": 151, "cat": 281})) == ("dog", "cat")


@pytest.mark.parametrize("aggregate", ["mean", "max", "sum"])
def test_scores_by_hand(aggregate: str) -> None:
    logits = torch.from_numpy(np.random.default_rng(1).normal(size=(4, 6)) * 3)
    groups = {"x": (0, 4, 5), "y": (2,)}
    expected = np.zeros((4, 2))
    for row in range(4):
        whole = sum(np.exp(float(one)) for one in logits[row])
        for place, classes in enumerate(groups.values()):
            shares = [np.exp(float(logits[row, index])) / whole for index in classes]
            expected[row, place] = {"mean": sum(shares) / len(shares), "max": max(shares), "sum": sum(shares)}[
                aggregate
            ]
    assert np.allclose(category_scores(logits, groups, aggregate=aggregate).numpy(), expected, rtol=1e-13, atol=0)


def test_scores_that_are_refused() -> None:
    groups = {"x": (0,), "y": (1,)}
    with pytest.raises(InputError, match="aggregate is 'median', but mean, max, sum were expected"):
        category_scores(torch.zeros(1, 3), groups, aggregate="median")
    with pytest.raises(ModelError, match=r"have the shape \(1, 3, 2, 2\), but \(B, K\)"):
        category_scores(torch.zeros(1, 3, 2, 2), groups)
    with pytest.raises(ModelError, match=r"have the shape \(2, 1\)"):
        category_scores(torch.zeros(2, 1), groups)
    with pytest.raises(ModelError, match="NaN or infinity"):
        category_scores(torch.tensor([[0.0, torch.inf]]), groups)
    with pytest.raises(InputError, match="category 'z' names class 3, but the model has 0 to 2"):
        category_scores(torch.zeros(1, 3), groups | {"z": (2, 3)})

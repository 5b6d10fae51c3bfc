"""From a picture to the decisions to explain on it: targets, boxes and masks in the input, and what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis.benchmarking.cases import cases_of
from visavis.datasets import Annotation, Sample
from visavis.errors import InputError, PictureError

# Two dogs (1 and 3), a cat, a cup, a car; the logits are what a class's number stands for.
LOGITS = (0.5, 2.0, 5.0, 3.0, 4.0, 1.0)
NAMES = ["cat", "beagle", "cup", "collie", "car", "tree"]
CLASSES: dict[str, tuple[int, ...]] = {"dog": (1, 3), "cat": (0,), "cup": (2,), "yeti": ()}


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(LOGITS))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mean((1, 2, 3))[:, None] * 0 + self.logits


def cropped(picture: PIL.Image.Image) -> Tensor:
    """The middle square of a picture, half as large: 32 × 16 of a picture of 64 × 32 becomes 16 × 16."""
    width, height = picture.size
    left = (width - height) // 2
    small = picture.crop((left, 0, left + height, height)).resize((16, 16), PIL.Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255).permute(2, 0, 1)


def classifier() -> vv.Classifier:
    return vv.Classifier(Fixed().eval(), preprocess=cropped, labels=NAMES, bounds=(0.0, 1.0))


def picture(*annotations: Annotation, label: str | None = None) -> Sample:
    return Sample("street.jpg", PIL.Image.new("RGB", (64, 32), "grey"), annotations, label)


def box(label: str, *edges: float, **options: Any) -> Annotation:
    x0, y0, x1, y1 = edges
    return Annotation(label, (x0, y0, x1, y1), **options)


def test_boxes_and_targets_are_those_of_the_input() -> None:
    # The crop begins at column 16; the input is half as large.
    sample = picture(box("dog", 20, 4, 28, 20), box("cat", 8, 0, 24, 32), box("dog", 32, 0, 36, 8))
    cases, passed = cases_of(sample, classifier(), CLASSES)
    assert not passed
    dog, cat = cases
    assert (dog.name, dog.target, dog.picture) == ("street.jpg#dog", 3, "street.jpg")
    assert (cat.name, cat.target) == ("street.jpg#cat", 0)
    assert dog.boxes is not None
    assert cat.boxes is not None
    torch.testing.assert_close(dog.boxes, torch.tensor([[2.0, 2, 6, 10], [8, 0, 10, 4]]), atol=0.15, rtol=0)
    torch.testing.assert_close(cat.boxes, torch.tensor([[0.0, 0, 4, 16]]), atol=0.15, rtol=0)
    assert dog.inputs.shape == (1, 3, 16, 16)
    assert dog.mask is None


def test_others_are_first_those_in_the_picture_and_never_of_the_own_class() -> None:
    sample = picture(box("dog", 20, 4, 28, 20), box("cat", 20, 0, 24, 32))
    dog, cat = cases_of(sample, classifier(), CLASSES)[0]
    assert dog.others == (0, 2, 4, 5)  # cat, then cup, car, tree; neither collie nor beagle
    assert cat.others == (3, 2, 4, 1)  # the stronger dog, then cup, car, beagle
    assert cases_of(sample, classifier(), CLASSES, others=2)[0][0].others == (0, 2)


def test_a_box_that_is_hardly_seen_is_dropped_and_a_class_without_any_passed_over() -> None:
    # 4 of 20 columns of the first are seen, 8 of 24 of the second, none of the third.
    sample = picture(box("dog", 0, 0, 20, 8), box("dog", 0, 8, 24, 16), box("cat", 50, 0, 60, 8))
    (dog,), (cat,) = cases_of(sample, classifier(), CLASSES)
    assert dog.boxes is not None
    torch.testing.assert_close(dog.boxes, torch.tensor([[0.0, 4, 4, 8]]), atol=0.15, rtol=0)
    assert (cat.case, cat.reason) == ("street.jpg#cat", "too little of it is left after the crop")
    # A class that the network cannot see is not in its picture.
    assert 0 in dog.others
    assert dog.others[0] == 2
    assert not dog.difficult
    seen = cases_of(sample, classifier(), CLASSES, visible=0.1)[0][0].boxes
    assert seen is not None
    assert len(seen) == 2


def test_difficult_is_a_small_class_beside_others_known_to_the_model_or_not() -> None:
    small, large = box("dog", 20, 0, 30, 20), box("dog", 16, 0, 48, 20)
    yeti = box("yeti", 30, 0, 40, 8)
    assert not cases_of(picture(small), classifier(), CLASSES)[0][0].difficult
    assert cases_of(picture(small, yeti), classifier(), CLASSES)[0][0].difficult
    assert not cases_of(picture(large, yeti), classifier(), CLASSES)[0][0].difficult


def test_a_mask_is_the_union_where_all_objects_have_one() -> None:
    masks = [np.zeros((32, 64), dtype=bool) for _ in range(2)]
    masks[0][0:8, 16:32] = True
    masks[1][16:32, 40:48] = True
    both = [box("dog", 16, 0, 32, 8, draw=lambda: masks[0]), box("dog", 40, 16, 48, 32, draw=lambda: masks[1])]
    found = cases_of(picture(*both), classifier(), CLASSES)[0][0].mask
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[0:4, 0:8] = True
    expected[8:16, 12:16] = True
    assert found is not None
    assert torch.equal(found, expected)
    without = cases_of(picture(both[0], box("dog", 40, 16, 48, 32)), classifier(), CLASSES)[0][0]
    assert without.mask is None
    assert without.boxes is not None


def test_what_the_model_does_not_know_is_passed_over_with_its_reason() -> None:
    cases, passed = cases_of(picture(box("yeti", 20, 0, 30, 20)), classifier(), CLASSES)
    assert not cases
    assert [(one.picture, one.case, one.reason) for one in passed] == [
        ("street.jpg", "street.jpg#yeti", "the model has no class 'yeti'")
    ]


def test_only_the_predicted_class_on_request() -> None:
    sample = picture(box("dog", 20, 0, 30, 20), box("cup", 30, 0, 40, 20))
    (cup,), (dog,) = cases_of(sample, classifier(), CLASSES, which="predicted")
    assert cup.name == "street.jpg#cup"
    assert (dog.case, dog.reason) == ("street.jpg#dog", "the model predicts another class")
    with pytest.raises(InputError, match="no choice of classes 'absent'"):
        cases_of(sample, classifier(), CLASSES, which="absent")


def test_only_recognised_classes_on_request() -> None:
    # The probabilities of the six classes, from 1 % and a little less; logits may all be shifted.
    shares = torch.tensor([0.01001, 0.00999, 0.3, 0.38, 0.2, 0.1])
    model = Fixed().eval()
    with torch.no_grad():
        model.logits.copy_(shares.log() + 3)
    known = vv.Classifier(model, preprocess=cropped, labels=NAMES, bounds=(0.0, 1.0))
    sample = picture(box("cat", 20, 0, 30, 20), box("hound", 30, 0, 40, 20), box("yeti", 20, 0, 30, 20))
    (cat,), passed = cases_of(sample, known, {**CLASSES, "hound": (1,)}, which="recognised")
    assert cat.name == "street.jpg#cat"
    assert [one.reason for one in passed] == [
        "the model gives it a probability below 0.01",
        "the model has no class 'yeti'",
    ]


def test_a_class_without_boxes_is_a_case_without_boxes() -> None:
    (case,), passed = cases_of(picture(label="dog"), classifier(), CLASSES)
    assert (case.name, case.target, case.boxes, case.mask, case.difficult) == ("street.jpg#dog", 3, None, None, False)
    assert case.others == (2, 4, 5, 0)
    assert not passed
    assert cases_of(picture(), classifier(), CLASSES)[1][0].reason == "it has no annotation and no class"


def test_names_for_the_same_classes_are_one_class() -> None:
    sample = picture(box("dog", 20, 0, 30, 20), box("hound", 30, 0, 40, 20))
    (case,), passed = cases_of(sample, classifier(), {**CLASSES, "hound": (1, 3)})
    assert not passed
    assert case.boxes is not None
    assert len(case.boxes) == 2


def test_a_picture_that_cannot_be_read_says_so(tmp_path: Any) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(PictureError):
        cases_of(Sample("bad.png", tmp_path / "bad.png", (box("dog", 0, 0, 1, 1),)), classifier(), CLASSES)

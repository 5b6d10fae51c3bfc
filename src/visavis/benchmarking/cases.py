"""From a picture of a data set to the decisions to explain on it: which class of the model, and where in its input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visavis.classifier import Classifier
from visavis.datasets.annotated import Annotation, Sample
from visavis.datasets.placement import Placement, placement_of
from visavis.errors import InputError
from visavis.evaluation.base import Case, logits_untouched
from visavis.evaluation.regions import difficult

#: Of which classes in a picture cases are made.
CLASSES = {
    "present": "every class that is annotated in the picture",
    "recognised": "every class annotated in the picture to which the model gives a probability of at least 0.01",
    "predicted": "the class that the model predicts, where it is annotated in the picture",
}
#: The least probability of a class that is recognised.
RECOGNISED = 0.01
#: The least share of a box that the network has to see.
VISIBLE = 0.25
#: How many other classes a case names.
OTHERS = 4


class PassedOver(NamedTuple):
    """What no value was found for, and why.

    Attributes:
        picture, case: their names; without a case, the picture as a whole.
        method, metric: which of them, where it is not all.
        reason: one sentence.
    """

    picture: str
    case: str
    reason: str
    method: str = ""
    metric: str = ""


@dataclass(frozen=True)
class _Group:
    """The objects of a picture that are of one class, or of classes that comprise the same of the model's.

    Attributes:
        label: the data set's name of the class.
        mapped: the model's classes that it comprises.
        target: the strongest of them in this picture; None where there are none.
        boxes: (K, 4) in pixels of the input, those that are seen; None where the data set has none.
        mask: (H, W) of the input; None where an object of these has none.
    """

    label: str
    mapped: tuple[int, ...]
    target: int | None
    boxes: Tensor | None = None
    mask: Tensor | None = None

    @property
    def seen(self) -> bool:
        return self.boxes is None or len(self.boxes) > 0


def cases_of(
    sample: Sample,
    classifier: Classifier,
    classes: Mapping[str, tuple[int, ...]],
    *,
    which: str = "present",
    visible: float = VISIBLE,
    others: int = OTHERS,
) -> tuple[list[Case], list[PassedOver]]:
    """Return the decisions to explain on a picture, and what was passed over.

    The target of a class of the data set is the strongest of those classes of the model that it comprises. All its
    boxes count, also those of crowds and of objects that the data set calls difficult. A box of which the network sees
    less than `visible` is dropped, and a class without any box left passed over. A case has a mask where all objects
    of its kept boxes have one. A picture with a class but no boxes gives one case without boxes.

    A case's `others` are first the targets of the other classes in the picture, then the strongest of the remaining
    ones; none of them is comprised by the case's own class. It is difficult as `regions.difficult` has it, in pixels of
    the input, where the other classes in the picture count whether the model has them or not.

    Args:
        sample: the picture.
        classifier: the model, with preprocessing.
        classes: the model's classes that each class of the data set comprises, as from `class_map`.
        which: of CLASSES.
        visible: share of a box's area, from 0 to 1.
        others: how many other classes a case names at most.

    Raises:
        InputError: the picture cannot be read, an annotation is malformed, or the preprocessing does more than to
            resize and crop.
    """
    if which not in CLASSES:
        raise InputError(f"there is no choice of classes {which!r}; there are {', '.join(CLASSES)}")
    if not sample.annotations and sample.label is None:
        return [], [PassedOver(sample.name, "", "it has no annotation and no class")]
    if classifier.preprocess is None:
        raise InputError(f"{classifier.name} has no preprocessing, so it takes no pictures; give it one")
    picture = sample.load()
    inputs = classifier.prepare(picture)
    logits = _logits(classifier, inputs)
    if sample.annotations:
        placement = placement_of(classifier.preprocess, picture.size)
        if placement.size != (inputs.shape[3], inputs.shape[2]):
            raise InputError(f"the preprocessing of {classifier.name} gives pictures of one size different sizes")
        groups = _grouped(sample.annotations, classes, logits, placement, visible)
    else:
        assert sample.label is not None
        mapped = classes.get(sample.label, ())
        groups = [_Group(sample.label, mapped, _strongest(mapped, logits))]
    return _cases(sample.name, groups, inputs, logits, which, others)


def _logits(classifier: Classifier, inputs: Tensor) -> Tensor:
    """Return the scores of all classes (N,), on the CPU in float64."""
    return logits_untouched(classifier, inputs)[0].cpu().double()


def _strongest(indices: Sequence[int], logits: Tensor) -> int | None:
    return max(indices, key=lambda index: (float(logits[index]), -index)) if indices else None


def _grouped(
    annotations: Sequence[Annotation],
    classes: Mapping[str, tuple[int, ...]],
    logits: Tensor,
    placement: Placement,
    visible: float,
) -> list[_Group]:
    """Return what is in the picture, class by class, in the order in which the data set names them."""
    found: dict[object, list[Annotation]] = {}
    for annotation in annotations:
        # Names for the same classes of the model are one class; names for none are each their own.
        found.setdefault(classes.get(annotation.label) or annotation.label, []).append(annotation)
    groups = []
    for several in found.values():
        boxes = torch.tensor([each.box for each in several], dtype=torch.float64)
        share = placement.visible(boxes)
        kept = (share >= visible) & (share > 0)
        label = several[0].label
        mapped = classes.get(label, ())
        chosen = [each for each, keep in zip(several, kept.tolist(), strict=True) if keep]
        mask = _mask(chosen, placement) if mapped else None
        groups.append(_Group(label, mapped, _strongest(mapped, logits), placement.boxes(boxes[kept]), mask))
    return groups


def _mask(annotations: Sequence[Annotation], placement: Placement) -> Tensor | None:
    """Return where any of the objects is seen in the input; None where one has no mask, or none is left."""
    union: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None = None
    for annotation in annotations:
        mask = annotation.mask
        if mask is None:
            return None
        union = mask if union is None else union | mask
    placed = None if union is None else placement.mask(union)
    return placed if placed is not None and bool(placed.any()) else None


def _cases(
    picture: str, groups: list[_Group], inputs: Tensor, logits: Tensor, which: str, others: int
) -> tuple[list[Case], list[PassedOver]]:
    probabilities = logits.softmax(0)
    ranked = logits.argsort(descending=True, stable=True).tolist()
    size = (inputs.shape[2], inputs.shape[3])
    cases, passed = [], []
    for group in groups:
        name = f"{picture}#{group.label}"
        reason = _reason(group, which, probabilities)
        if reason or group.target is None:
            passed.append(PassedOver(picture, name, reason))
            continue
        rest = [other for other in groups if other is not group and other.seen]
        named = [other.target for other in rest if other.target is not None]
        candidates = [index for index in dict.fromkeys([*named, *ranked]) if index not in set(group.mapped)]
        hard = group.boxes is not None and difficult(group.boxes, range(len(rest)), size)
        cases.append(
            Case(
                name,
                inputs,
                group.target,
                boxes=group.boxes,
                mask=group.mask,
                difficult=hard,
                others=tuple(candidates[:others]),
                picture=picture,
            )
        )
    return cases, passed


def _reason(group: _Group, which: str, probabilities: Tensor) -> str:
    """Return why a class gives no case; nothing where it does."""
    if group.target is None:
        return f"the model has no class {group.label!r}"
    if not group.seen:
        return "too little of it is left after the crop"
    if which == "predicted" and int(probabilities.argmax()) not in group.mapped:
        return "the model predicts another class"
    if which == "recognised" and float(probabilities[group.target]) < RECOGNISED:
        return f"the model gives it a probability below {RECOGNISED}"
    return ""


__all__ = ["CLASSES", "OTHERS", "RECOGNISED", "VISIBLE", "PassedOver", "cases_of"]

"""The pictures of a data set as labelled batches; what cannot be used is passed over, and named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.classifier import Classifier
from visavis.datasets.annotated import AnnotatedDataset, Sample
from visavis.errors import InputError, ModelError, UnsupportedOperationError
from visavis.evaluation.base import logits_untouched

#: Takes the name of a picture that is passed over, and the reason.
PassedOver = Callable[[str, str], None]


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures as the model takes them.

    Attributes:
        inputs: (B, ...) on the model's device.
        labels: (B,) of the model's classes, int64, on the CPU.
        numbers: where each picture is in the data set.
    """

    inputs: Tensor
    labels: Tensor
    numbers: tuple[int, ...]


def labelled(
    dataset: AnnotatedDataset,
    numbers: Sequence[int],
    classifier: Classifier,
    classes: Mapping[str, tuple[int, ...]],
    passed_over: PassedOver,
) -> Batch | None:
    """Return some pictures of a data set as one batch; None where none of them can be used.

    A picture is of one class: its own, where the data set gives it one, else that of all objects in it. Where that
    comprises several of the model's classes (COCO's dog is 118 breeds), its label is the one that the model finds
    strongest.

    Args:
        dataset: where they are.
        numbers: which.
        classifier: the model, with its preprocessing.
        classes: the model's classes that each class of the data set comprises.
        passed_over: is told what cannot be used.

    Raises:
        InputError: pictures come to inputs of different sizes.
        ModelError: the model fails.
    """
    inputs: list[Tensor] = []
    comprised: list[tuple[int, ...]] = []
    used: list[int] = []
    for number in numbers:
        name = dataset.name_of(number)
        try:
            sample = dataset[number]
            own = _classes_of(sample, classes)
            inputs.append(classifier.prepare(sample.load()))
        except (ModelError, UnsupportedOperationError):
            raise
        except InputError as error:
            passed_over(name, str(error))
            continue
        comprised.append(own)
        used.append(number)
    if not used:
        return None
    shapes = {tuple(one.shape[1:]) for one in inputs}
    if len(shapes) > 1:
        raise InputError(
            f"the pictures come to inputs of different sizes ({', '.join(map(str, sorted(shapes)))}); give the model a "
            "preprocessing that makes them one size"
        )
    batch = torch.cat(inputs)
    labels = [own[0] for own in comprised]
    if any(len(own) > 1 for own in comprised):
        logits = logits_untouched(classifier, batch).cpu()
        labels = [max(own, key=lambda k: float(row[k])) for own, row in zip(comprised, logits, strict=True)]
    return Batch(batch, torch.tensor(labels), tuple(used))


def batches(
    dataset: AnnotatedDataset,
    chosen: Sequence[int],
    size: int,
    classifier: Classifier,
    classes: Mapping[str, tuple[int, ...]],
    passed_over: PassedOver,
    *,
    done: int = 0,
) -> Iterator[tuple[int, Batch | None]]:
    """Yield the batches of the chosen pictures, each with how many pictures come before its end.

    Args:
        done: so many pictures are left out at the front.
    """
    for start in range(done, len(chosen), size):
        end = min(start + size, len(chosen))
        yield end, labelled(dataset, chosen[start:end], classifier, classes, passed_over)


def _classes_of(sample: Sample, classes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    names = {sample.label} if sample.label is not None else {one.label for one in sample.annotations}
    if len(names) != 1:
        what = "of several classes" if names else "of no class"
        raise InputError(f"it is {what}, and what a unit is needed for is told by pictures of one")
    (name,) = names
    own = classes.get(name, ())
    if not own:
        raise InputError(f"the model has no class {name!r}")
    return own


__all__ = ["Batch", "PassedOver", "batches", "labelled"]

"""Ablation of single units: by how much the accuracy falls without one, overall and for each class.

Zhou, Sun, Bau, Torralba 2018 (Revisiting the Importance of Individual Units in CNNs via Ablation, arXiv 1806.02891).
A unit's activations are forced to zero, at all positions, without retraining, and the model is evaluated again. Where
in relation to the ReLU is up to the layer that is named; after it is usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.units.above import Above
from visavis.units.data import Data
from visavis.units.intervals import drop_intervals, mean_intervals
from visavis.units.layer import Layer
from visavis.units.removal import Predictions, Progress, Value, predictions

# Rows of a table of units and images that are counted at a time.
_ROWS = 64


@dataclass(frozen=True, eq=False)
class Intervals:
    """95 % intervals of drops, float64: low and high in the last dimension, NaN where a class has no images.

    Attributes:
        overall: (S, 2), of the drop over all images.
        classes: (S, K, 2), of each class.
        hardest: (S, 2), of the class hit hardest, as if it had been named beforehand: the largest of many drops is
            larger by chance, which only other images can tell.
        confidence: (S, 2), of the drop in confidence over all images.
    """

    overall: Tensor
    classes: Tensor
    hardest: Tensor
    confidence: Tensor


@dataclass(frozen=True, eq=False)
class Ablation:
    """How well a model classifies without units, S sets of them (often of one each), on images of K classes.

    Accuracies are from 0 to 1, drops from −1 to 1, all in float64 on the CPU; NaN for a class without images. What is
    kept are sums over images, so that one needs as much memory for a million of them as for ten, and the ablations of
    parts of a data set can be put together with `+`.

    Attributes:
        layer: whose units.
        sets: the units of each set.
        counts: how many images each class has, (K,), int64.
        right: how many of them the model as it is has right, (K,), int64.
        lost, gained: how many are right with, and wrong without each set; and the other way about, (S, K), int64.
        said, said_without: of how many images it says each class, (K,), and without each set, (S, K), int64.
        less_confident, less_confident_squares: by how much the probability of an image's label falls without each set,
            and the square of that, summed over the images of each class, (S, K), float64.
    """

    layer: str
    sets: tuple[tuple[int, ...], ...]
    counts: Tensor
    right: Tensor
    lost: Tensor
    gained: Tensor
    said: Tensor
    said_without: Tensor
    less_confident: Tensor
    less_confident_squares: Tensor

    def __add__(self, other: Ablation) -> Ablation:
        """Return what both have found together, on images that are not the same.

        Raises:
            InputError: they are of other units, or of models of other classes.
        """
        if (self.layer, self.sets, self.counts.shape) != (other.layer, other.sets, other.counts.shape):
            raise InputError("ablations of other units, or of other classes, do not add up")
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in SUMS})

    def of_sets(self, some: slice) -> Ablation:
        """Return what was found of some of the sets."""
        rows = ("lost", "gained", "said_without", "less_confident", "less_confident_squares")
        return replace(self, sets=self.sets[some], **{name: getattr(self, name)[some] for name in rows})

    @property
    def accuracy(self) -> float:
        """The share of images that the model as it is has right."""
        return float(self.right.sum()) / float(self.counts.sum())

    @property
    def class_accuracy(self) -> Tensor:
        """The same of each class, (K,)."""
        return self.right.double() / self.counts

    @property
    def accuracies(self) -> Tensor:
        """The share of images that it has right without each set, (S,)."""
        return self._right_without.sum(1).double() / self.counts.sum()

    @property
    def class_accuracies(self) -> Tensor:
        """The same of each class, (S, K)."""
        return self._right_without.double() / self.counts

    @property
    def drops(self) -> Tensor:
        """The overall drop ΔA_u = A − A_{−u}, (S,)."""
        return (self.lost - self.gained).sum(1).double() / self.counts.sum()

    @property
    def class_drops(self) -> Tensor:
        """The class drop ΔA_{u,k} = A^k − A^k_{−u}, (S, K)."""
        return (self.lost - self.gained).double() / self.counts

    @property
    def confidence_drops(self) -> Tensor:
        """By how much the probability of an image's label falls, its mean over all images, (S,)."""
        return self.less_confident.sum(1) / self.counts.sum()

    @property
    def class_confidence_drops(self) -> Tensor:
        """The same of each class, (S, K): finer than whether an image is right, where a class has few images."""
        return self.less_confident / self.counts

    @property
    def hit(self) -> Tensor:
        """The class hit hardest, (S,), int64; the first of several, also where `max_drops` says that none falls."""
        drops = torch.nan_to_num(self.class_drops, nan=-torch.inf)
        return torch.from_numpy(np.argmax(drops.numpy(), 1))

    @property
    def max_drops(self) -> Tensor:
        """The maximal class drop, max_k ΔA_{u,k}, (S,)."""
        return self.class_drops.gather(1, self.hit[:, None])[:, 0]

    @property
    def balanced_accuracy(self) -> Tensor:
        """(TPR + TNR) / 2 of "is it of class k?" by the model as it is, (K,); 1/2 is chance (Bau et al. 2020)."""
        return balanced(self.right, self.said, self.counts)

    @property
    def balanced_accuracies(self) -> Tensor:
        """The same without each set, (S, K)."""
        return balanced(self._right_without, self.said_without, self.counts)

    def intervals(self, *, draws: int = 10_000, seed: int = 0) -> Intervals:
        """Return the intervals of the drops, by drawing images with replacement; those of a class within the class.

        Those of the confidence are of the mean by the normal distribution.

        Args:
            draws: how many samples.
            seed: of the draws.

        Raises:
            InputError: there are no draws.
        """
        images = self.counts.expand_as(self.lost)
        overall = drop_intervals(self.lost.sum(1), self.gained.sum(1), images.sum(1), draws=draws, seed=seed)
        classes = drop_intervals(self.lost, self.gained, images, draws=draws, seed=seed)
        confidence = mean_intervals(self.less_confident.sum(1), self.less_confident_squares.sum(1), images.sum(1))
        return Intervals(overall, classes, classes[torch.arange(len(self.hit)), self.hit], confidence)

    @property
    def _right_without(self) -> Tensor:
        return self.right - self.lost + self.gained


#: The attributes of an Ablation that are sums over images.
SUMS = tuple(field.name for field in fields(Ablation) if field.name not in ("layer", "sets"))


def balanced(right: Tensor, said: Tensor, counts: Tensor) -> Tensor:
    """Return (TPR + TNR) / 2 of "is it of class k?", (..., K), 0 to 1, float64; 1/2 is chance.

    Bau et al. 2020. NaN for a class that none or all of the images have.

    Args:
        right: how many images of each class are said to be of it, (..., K).
        said: how many images are said to be of it, (..., K).
        counts: how many are of it, (K,).
    """
    images = counts.double()
    return (right / images + 1 - (said - right) / (images.sum() - images)) / 2


def tally(layer: str, found: Predictions) -> Ablation:
    """Return what predictions come to."""
    intact, removed = found.intact == found.labels, found.removed == found.labels

    def by_class(images: Tensor) -> Tensor:
        sums = torch.zeros(len(images), found.classes, dtype=torch.float64)
        for start in range(0, len(images), _ROWS):
            rows = slice(start, start + _ROWS)
            sums[rows].index_add_(1, found.labels, images[rows].double())
        return sums

    less = found.confidence.double() - found.confidence_removed.double()
    said = [torch.bincount(row, minlength=found.classes) for row in (found.intact, *found.removed)]
    return Ablation(
        layer,
        found.sets,
        torch.bincount(found.labels, minlength=found.classes),
        by_class(intact[None])[0].long(),
        by_class(intact & ~removed).long(),
        by_class(~intact & removed).long(),
        said[0],
        torch.stack([*said[1:], said[0]])[:-1],
        by_class(less),
        by_class(less.square()),
    )


def ablate(
    model: nn.Module | Classifier,
    layer: str | Layer,
    data: Data,
    *,
    units: Sequence[int] | None = None,
    value: Value = "zero",
    progress: Progress | None = None,
) -> Ablation:
    """Ablate units one by one, and return how well the model classifies without each.

    Args:
        model: a module in eval mode, or a Classifier, that takes inputs (B, ...) to logits (B, K). It is left as it
            was.
        layer: path of a module in it that is called once in a forward pass; or a `Layer`, which says more.
        data: batches of inputs (B, ...) and labels (B,), such as a DataLoader; or all inputs and all labels, as two
            tensors.
        units: which; None: every one of the layer's.
        value: what a unit's activations are replaced by at all positions: "zero"; "mean", its mean over the data, for
            which they are gone through twice; or a tensor (units of the layer,). Attention heads have a mean of each
            feature, and take a tensor (heads, features) too.
        progress: is told, from time to time, how many predictions were made: images, times units.

    Raises:
        InputError: there is no such layer or unit, a label is none of the model's, or the data are no such batches.
        ModelError: the model is in training mode, fails, or calls the layer never or more than once.
    """
    sets = None if units is None else [[int(unit)] for unit in units]
    return _ablated(Above(model, layer), data, sets, value, progress)


def ablate_sets(
    model: nn.Module | Classifier,
    layer: str | Layer,
    data: Data,
    sets: Sequence[Sequence[int]],
    *,
    value: Value = "zero",
    progress: Progress | None = None,
) -> Ablation:
    """Ablate several units at once, for each of several sets of them.

    Args:
        sets: the units of each set; one of none is the model as it is.
        model, layer, data, value, progress: as for `ablate`.

    Raises:
        InputError, ModelError: as for `ablate`.
    """
    return _ablated(Above(model, layer), data, sets, value, progress)


def _ablated(
    above: Above, data: Data, sets: Sequence[Sequence[int]] | None, value: Value, progress: Progress | None
) -> Ablation:
    total: Ablation | None = None
    for part in predictions(above, data, sets, value, progress):
        found = tally(above.layer, part)
        total = found if total is None else total + found
    assert total is not None  # data without images are refused
    return total


__all__ = ["SUMS", "Ablation", "Intervals", "ablate", "ablate_sets", "balanced", "tally"]

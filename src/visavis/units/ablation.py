"""Ablation of single units: by how much the accuracy falls without one, overall and for each class.

Zhou, Sun, Bau, Torralba 2018 (Revisiting the Importance of Individual Units in CNNs via Ablation, arXiv 1806.02891).
A unit's activations are forced to zero, at all positions, without retraining, and the model is evaluated again. Where
in relation to the ReLU is up to the layer that is named; after it is usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.units.above import Above
from visavis.units.data import Data
from visavis.units.intervals import drop_intervals
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
    """

    overall: Tensor
    classes: Tensor
    hardest: Tensor


@dataclass(frozen=True, eq=False)
class Ablation:
    """How well a model classifies without units, S sets of them (often of one each), on N images of K classes.

    Accuracies are from 0 to 1, drops from −1 to 1, all in float64 on the CPU; NaN for a class without images.

    Attributes:
        layer: whose units.
        predicted: what was predicted.
    """

    layer: str
    predicted: Predictions

    @property
    def sets(self) -> tuple[tuple[int, ...], ...]:
        """The units of each set."""
        return self.predicted.sets

    @cached_property
    def counts(self) -> Tensor:
        """How many images each class has, (K,), int64."""
        return torch.bincount(self.predicted.labels, minlength=self.predicted.classes)

    @cached_property
    def intact(self) -> Tensor:
        """Which images the model as it is has right, (N,), bool."""
        return self.predicted.intact == self.predicted.labels

    @cached_property
    def correct(self) -> Tensor:
        """Which images it has right without each set, (S, N), bool."""
        return self.predicted.removed == self.predicted.labels

    @property
    def accuracy(self) -> float:
        """The share of images that the model as it is has right."""
        return float(self.intact.double().mean())

    @property
    def class_accuracy(self) -> Tensor:
        """The same of each class, (K,)."""
        return self._by_class(self.intact[None])[0] / self.counts

    @property
    def accuracies(self) -> Tensor:
        """The share of images that it has right without each set, (S,)."""
        return self.correct.double().mean(1)

    @property
    def class_accuracies(self) -> Tensor:
        """The same of each class, (S, K)."""
        return self._by_class(self.correct) / self.counts

    @property
    def drops(self) -> Tensor:
        """The overall drop ΔA_u = A − A_{−u}, (S,)."""
        return (self._lost - self._gained).sum(1).double() / len(self.intact)

    @property
    def class_drops(self) -> Tensor:
        """The class drop ΔA_{u,k} = A^k − A^k_{−u}, (S, K)."""
        return (self._lost - self._gained).double() / self.counts

    @property
    def confidence_drops(self) -> Tensor:
        """By how much the probability of an image's label falls, its mean over all images, (S,)."""
        return self._less_confident.mean(1)

    @property
    def class_confidence_drops(self) -> Tensor:
        """The same of each class, (S, K): finer than whether an image is right, where a class has few images."""
        return by_class(self._less_confident, self.predicted.labels, self.predicted.classes) / self.counts

    @property
    def hit(self) -> Tensor:
        """The class hit hardest, (S,), int64; the first of several."""
        drops = torch.nan_to_num(self.class_drops, nan=-torch.inf)
        return torch.from_numpy(np.argmax(drops.numpy(), 1))

    @property
    def max_drops(self) -> Tensor:
        """The maximal class drop, max_k ΔA_{u,k}, (S,)."""
        return self.class_drops.gather(1, self.hit[:, None])[:, 0]

    def intervals(self, *, draws: int = 10_000, seed: int = 0) -> Intervals:
        """Return the intervals of the drops, by drawing images with replacement; those of a class within the class.

        Args:
            draws: how many samples.
            seed: of the draws.

        Raises:
            InputError: there are no draws.
        """
        images = self.counts.expand_as(self._lost)
        overall = drop_intervals(self._lost.sum(1), self._gained.sum(1), images.sum(1), draws=draws, seed=seed)
        classes = drop_intervals(self._lost, self._gained, images, draws=draws, seed=seed)
        return Intervals(overall, classes, classes[torch.arange(len(self.hit)), self.hit])

    @cached_property
    def _lost(self) -> Tensor:
        """How many images of each class are right with, and wrong without each set, (S, K)."""
        return self._by_class(self.intact & ~self.correct).long()

    @cached_property
    def _gained(self) -> Tensor:
        return self._by_class(~self.intact & self.correct).long()

    @property
    def _less_confident(self) -> Tensor:
        return self.predicted.confidence.double() - self.predicted.confidence_removed.double()

    def _by_class(self, images: Tensor) -> Tensor:
        """Return how many images of each class are marked in (S, N), as (S, K)."""
        return by_class(images, self.predicted.labels, self.predicted.classes)


def by_class(images: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the sums over the images of each label, (S, K), float64, of (S, N); of bool, how many are marked."""
    found = torch.zeros(len(images), classes, dtype=torch.float64)
    for start in range(0, len(images), _ROWS):
        rows = slice(start, start + _ROWS)
        found[rows].index_add_(1, labels, images[rows].double())
    return found


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
    above = Above(model, layer)
    return Ablation(above.layer, predictions(above, data, sets, value, progress))


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
    above = Above(model, layer)
    return Ablation(above.layer, predictions(above, data, sets, value, progress))


__all__ = ["Ablation", "Intervals", "ablate", "ablate_sets", "by_class"]

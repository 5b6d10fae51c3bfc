"""What units do on images: each unit's activations, summed up over all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.units.above import Above, Kept
from visavis.units.concepts import TOP, concept_alignment
from visavis.units.data import Data, batches, check_labels
from visavis.units.layer import Layer
from visavis.units.moments import Moments
from visavis.units.weights import incoming_norms


@dataclass(frozen=True, eq=False)
class Activations:
    """What the U units of a layer do on images, of which a model knows K classes; float64 on the CPU.

    What is kept are sums over images; parts of a data set are put together with `+`.

    Attributes:
        counts: how many images each class has, (K,), int64.
        class_sums: of each unit's mean activation over the positions of an image, the sum over each class's images,
            (U, K).
        class_positive: the same of the mean of max(a, 0), (U, K); of a layer after a ReLU it is `class_sums`.
        moments: of the mean activation (U) with the predicted probabilities of the classes (K), over images.
        maximum: over all images and positions, (U,).
        zeros: at how many positions it is exactly zero, (U,), int64.
        l1, l2: the sum of |a| and of a² over all images and positions, (U,).
        positions: how many positions there are in all images together.
        value_sums: the sum of what is replaced by one number, (U,), or of attention heads (U, features).
        values: of how many numbers each.
        rotated: whether the units are coordinates in a basis that is not the layer's own.
        weights: the L1 norm of each unit's incoming weights, (U,); None where there are none of its own.
        alignment: the IoU of each unit with each concept, (U, C); None where there were no masks.
    """

    counts: Tensor
    class_sums: Tensor
    class_positive: Tensor
    moments: Moments
    maximum: Tensor
    zeros: Tensor
    l1: Tensor
    l2: Tensor
    positions: int
    value_sums: Tensor
    values: int
    rotated: bool = False
    weights: Tensor | None = None
    alignment: Tensor | None = None

    def __add__(self, other: Activations) -> Activations:
        """Return what the units do on the images of both; alignment, which needs all of them at once, is left out."""
        return replace(
            self,
            counts=self.counts + other.counts,
            class_sums=self.class_sums + other.class_sums,
            class_positive=self.class_positive + other.class_positive,
            moments=self.moments + other.moments,
            maximum=torch.maximum(self.maximum, other.maximum),
            zeros=self.zeros + other.zeros,
            l1=self.l1 + other.l1,
            l2=self.l2 + other.l2,
            positions=self.positions + other.positions,
            value_sums=self.value_sums + other.value_sums,
            values=self.values + other.values,
            alignment=None,
        )

    @property
    def value_means(self) -> Tensor:
        """What units are replaced by where they are ablated to the mean, (U,), or of attention heads (U, features)."""
        return self.value_sums / self.values

    @property
    def mean(self) -> Tensor:
        """The mean activation of each unit over images, of which each counts alike, (U,)."""
        return self.moments.means[0]


def activations(
    model: nn.Module | Classifier,
    layer: str | Layer,
    data: Data,
    *,
    masks: Tensor | None = None,
    top: float = TOP,
) -> Activations:
    """Run a model over data, and sum up what a layer's units do.

    Args:
        model, layer, data: as for `ablate`.
        masks: (N, C, h, w), bool, where each of C concepts is in each image, in the order of the data; all activations
            are then held in memory until the end.
        top: of `concept_alignment`.

    Raises:
        InputError: the masks are not such, or the layer's activations are no maps; and as for `ablate`.
        ModelError: as for `ablate`.
    """
    above = Above(model, layer)
    total: Activations | None = None
    maps: list[Tensor] = []
    for inputs, labels in batches(data, above.module):
        kept = above.keep(inputs)
        check_labels(labels, kept.logits.shape[1])
        found = summed(kept, labels)
        if masks is not None:
            maps.append(kept.coordinates.cpu())
        total = replace(found, weights=weights_of(above, inputs)) if total is None else total + found
    assert total is not None  # data without images are refused
    if masks is None:
        return total
    return replace(total, alignment=concept_alignment(torch.cat(maps), masks, top=top))


def summed(kept: Kept, labels: Tensor) -> Activations:
    """Return what units do on one batch of images, without the weights.

    Args:
        kept: the batch at the layer.
        labels: (B,), on the CPU.
    """
    if kept.activation.is_complex():
        raise InputError("activations that are complex numbers have no order; name a layer that returns real ones")
    own = kept.coordinates.cpu().double()
    own = own.reshape(len(own), kept.units, -1)
    probabilities = kept.logits.cpu().double().softmax(1)
    classes = probabilities.shape[1]
    mean, positive = own.mean(2), own.clamp(min=0).mean(2)

    by_value = kept.places.by_value(kept.activation).cpu().double()

    def by_class(values: Tensor) -> Tensor:
        sums = torch.zeros(classes, kept.units, dtype=torch.float64)
        return sums.index_add_(0, labels, values).T.contiguous()

    return Activations(
        torch.bincount(labels, minlength=classes),
        by_class(mean),
        by_class(positive),
        Moments.of(mean, probabilities),
        own.amax((0, 2)),
        (own == 0).sum((0, 2)),
        own.abs().sum((0, 2)),
        own.square().sum((0, 2)),
        len(own) * own.shape[2],
        by_value.sum(-1),
        by_value.shape[-1],
        kept.rotated,
    )


def weights_of(above: Above, inputs: Tensor) -> Tensor | None:
    """Return the L1 norms of the units' incoming weights, (U,); None where they have none of their own."""
    try:
        return incoming_norms(above, inputs[:1])
    except InputError:
        return None


__all__ = ["Activations", "activations", "summed", "weights_of"]

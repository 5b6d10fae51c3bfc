"""What units do on images: each unit's activations, summed up for each image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.units.above import Above
from visavis.units.concepts import TOP, concept_alignment
from visavis.units.data import Data, batches, check_labels
from visavis.units.layer import Layer
from visavis.units.weights import incoming_norms


@dataclass(frozen=True, eq=False)
class Activations:
    """What the U units of a layer do on N images, of which a model knows K classes; float64 on the CPU.

    Attributes:
        mean: over the positions of a unit, (N, U).
        positive: of max(a, 0) over its positions, (N, U); that of units after a ReLU is the mean.
        maximum: over its positions, (N, U).
        zeros: which share of its positions is exactly zero, (N, U), 0 to 1.
        l1, l2: the sum of |a| and of a² over its positions, (N, U).
        positions: how many positions there are in each image, (N,), int64.
        labels: (N,), int64.
        probabilities: of the classes by the model, (N, K).
        weights: the L1 norm of each unit's incoming weights, (U,); None where there are none of its own.
        alignment: the IoU of each unit with each concept, (U, C); None where there were no masks.
    """

    mean: Tensor
    positive: Tensor
    maximum: Tensor
    zeros: Tensor
    l1: Tensor
    l2: Tensor
    positions: Tensor
    labels: Tensor
    probabilities: Tensor
    weights: Tensor | None = None
    alignment: Tensor | None = None


def activations(
    model: nn.Module | Classifier,
    layer: str | Layer,
    data: Data,
    *,
    masks: Tensor | None = None,
    top: float = TOP,
) -> Activations:
    """Run a model over data, and sum up what a layer's units do on each image.

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
    found: dict[str, list[Tensor]] = {}
    maps: list[Tensor] = []
    weights: Tensor | None = None
    for inputs, labels in batches(data, above.module):
        kept = above.keep(inputs)
        check_labels(labels, kept.logits.shape[1])
        if not found:
            weights = _weights(above, inputs)
        own = kept.coordinates.cpu()
        if masks is not None:
            maps.append(own)
        for name, one in _summed(own.double().reshape(len(own), kept.units, -1)).items():
            found.setdefault(name, []).append(one)
        found.setdefault("labels", []).append(labels)
        found.setdefault("probabilities", []).append(kept.logits.cpu().double().softmax(1))
    alignment = None if masks is None else concept_alignment(torch.cat(maps), masks, top=top)
    return Activations(**{name: torch.cat(each) for name, each in found.items()}, weights=weights, alignment=alignment)


def _summed(values: Tensor) -> dict[str, Tensor]:
    """Sum up (B, U, positions)."""
    return {
        "mean": values.mean(2),
        "positive": values.clamp(min=0).mean(2),
        "maximum": values.amax(2),
        "zeros": (values == 0).double().mean(2),
        "l1": values.abs().sum(2),
        "l2": values.square().sum(2),
        "positions": torch.full((len(values),), values.shape[2]),
    }


def _weights(above: Above, inputs: Tensor) -> Tensor | None:
    try:
        return incoming_norms(above, inputs[:1])
    except InputError:
        return None


__all__ = ["Activations", "activations"]

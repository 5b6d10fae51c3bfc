"""What layers say of images: their activations, averaged over positions, one number a unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.shape_texture.features import activations, frozen, layers_of
from visavis.units.layer import Layer


class Latents:
    """The units of several layers on images, from one forward pass.

    The mean is over all positions; of a transformer's tokens, over all of them, a class token too. The model runs in
    eval mode whatever mode it is in, and is left as it was, its mode too.

    Args:
        model: a module, or a Classifier.
        layers: paths of modules in it, or `Layer`s. Units may come last where a call of the model's made them so.

    Raises:
        InputError: there is no such layer.
        ModelError: the model hides what it computes.
    """

    def __init__(self, model: nn.Module | Classifier, layers: Sequence[str | Layer]) -> None:
        self.module, self.layers = layers_of(model, layers)

    def __call__(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the latents of images by the path of the layer, each (B, N), float64 on the CPU.

        Args:
            inputs: (B, ...), as the model takes them.

        Raises:
            InputError: a layer returns no tensor, or it cannot be told which dimension its units are.
            ModelError: the model fails, or calls a layer otherwise than once.
        """
        with frozen(self.module, inputs.device):
            found = activations(self.module, self.layers, inputs)
        return {
            path: (units.double().flatten(2).mean(2) if units.dim() > 2 else units.double()).cpu()
            for path, units in found.items()
        }

    def of_all(self, batches: Iterable[Tensor]) -> dict[str, Tensor]:
        """Return the latents of the images of all batches, each (M, N).

        Raises:
            InputError: there are none; and as for one batch.
        """
        parts = [self(batch) for batch in batches if len(batch)]
        if not parts:
            raise InputError("there are no images; give batches of inputs (B, ...)")
        return {path: torch.cat([part[path] for part in parts]) for path in parts[0]}


__all__ = ["Latents"]

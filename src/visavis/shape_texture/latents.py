"""What layers say of images: their activations, averaged over positions, one number a unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.modules import refuse_unexplainable
from visavis.propagation.mode import answer_of
from visavis.propagation.untouched import run_untouched
from visavis.units.layer import Layer, layer_of
from visavis.units.places import places_of
from visavis.units.reach import Reach


class Latents:
    """The units of several layers on images, from one forward pass.

    Args:
        model: a module, or a Classifier, in eval mode. It is left as it was.
        layers: paths of modules in it, or `Layer`s.

    Raises:
        InputError: there is no such layer.
        ModelError: the model hides what it computes.
    """

    def __init__(self, model: nn.Module | Classifier, layers: Sequence[str | Layer]) -> None:
        self.module = model.module if isinstance(model, Classifier) else model
        refuse_unexplainable(self.module)
        self.layers = [layer_of(one) for one in layers]
        if not self.layers:
            raise InputError("name at least one layer, by the path of a module")
        paths = [one.path for one in self.layers]
        if len(set(paths)) < len(paths):
            raise InputError("a layer is named twice; name each once")

    def __call__(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the latents of images by the path of the layer, each (B, N), float64 on the CPU.

        Args:
            inputs: (B, ...), as the model takes them.

        Raises:
            InputError: a layer is called otherwise than once, or returns no tensor.
            ModelError: the model fails.
        """
        reaches = [Reach(self.module, layer) for layer in self.layers]
        for reach in reaches:
            reach.settle(inputs)
        found: list[list[Tensor]] = [[] for _ in reaches]
        with torch.no_grad(), run_untouched(self.module, inputs.device), ExitStack() as stack:
            calls = [
                stack.enter_context(reach.hooked(partial(_keep, kept)))
                for reach, kept in zip(reaches, found, strict=True)
            ]
            answer_of(self.module, inputs.clone())
        latents = {}
        for layer, reach, kept, count in zip(self.layers, reaches, found, calls, strict=True):
            activation = reach.only(kept, count, len(inputs))
            units = places_of(layer, activation, None).coordinates(activation)
            latents[layer.path] = units.flatten(2).double().mean(2).cpu() if units.dim() > 2 else units.double().cpu()
        return latents

    def of_all(self, batches: Iterable[Tensor]) -> dict[str, Tensor]:
        """Return the latents of the images of all batches, each (M, N).

        Raises:
            InputError: there are none; and as for one batch.
        """
        parts = [self(batch) for batch in batches if len(batch)]
        if not parts:
            raise InputError("there are no images; give batches of inputs (B, ...)")
        return {path: torch.cat([part[path] for part in parts]) for path in parts[0]}


def _keep(kept: list[Tensor], activation: Tensor) -> None:
    """Keep a copy: what comes after may change it in place."""
    kept.append(activation.clone())


__all__ = ["Latents"]

"""What the layers of a network say at each position of images: their feature maps, from one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.modules import refuse_unexplainable
from visavis.propagation.mode import answer_of
from visavis.propagation.untouched import alone, left_untouched, run_untouched
from visavis.units.calls import Making
from visavis.units.layer import Layer, layer_of
from visavis.units.places import places_of
from visavis.units.reach import Reach


def layers_of(
    model: nn.Module | Classifier, layers: str | Layer | Sequence[str | Layer]
) -> tuple[nn.Module, list[Layer]]:
    """Return the module of a model, and the layers that are meant, one or several.

    Raises:
        InputError: no layer is named, or one twice.
        ModelError: the model hides what it computes.
    """
    module = model.module if isinstance(model, Classifier) else model
    refuse_unexplainable(module)
    found = [layer_of(one) for one in ([layers] if isinstance(layers, str | Layer) else layers)]
    if not found:
        raise InputError("name at least one layer, by the path of a module")
    if len({one.path for one in found}) < len(found):
        raise InputError("a layer is named twice; name each once")
    return module, found


def activations(module: nn.Module, layers: Sequence[Layer], inputs: Tensor) -> dict[str, Tensor]:
    """Return what the units of several layers do, by the path of the layer, each (B, N, ...), from one forward pass.

    Where a layer has its units, if it does not say so, is told by the last call below that made units of weights: of
    maps (B, h, w, N), which a linear map or layer norm made, they come last.

    The model runs as it is: in its mode, with gradients where they are on. Who calls this guards what must not change.

    Args:
        module: the model.
        layers: whose units.
        inputs: (B, ...), as the model takes them.

    Raises:
        InputError: there is no such layer, it returns no tensor, or it cannot be told which dimension its units are; or
            what it returns are no real floating-point numbers, or none at all.
        ModelError: the model fails, or calls a layer otherwise than once.
    """
    reaches = [Reach(module, layer) for layer in layers]
    for reach in reaches:
        reach.settle(inputs)
    making, found = Making(), [_Seen() for _ in reaches]
    with ExitStack() as stack:
        calls = [
            stack.enter_context(reach.hooked(partial(seen.keep, making)))
            for reach, seen in zip(reaches, found, strict=True)
        ]
        stack.enter_context(making)
        answer_of(module, inputs.clone())
    units = {}
    for layer, reach, seen, count in zip(layers, reaches, found, calls, strict=True):
        activation = reach.only(seen.activations, count, len(inputs))
        _check_activations(layer.path, activation)
        units[layer.path] = places_of(layer, activation, seen.made).coordinates(activation)
    return units


def _check_activations(path: str, activation: Tensor) -> None:
    if not activation.is_floating_point():
        raise InputError(
            f"layer {path!r} returns {activation.dtype}, but real floating-point numbers were expected; name a layer "
            "before or after it"
        )
    if 0 in activation.shape[1:]:
        raise InputError(
            f"layer {path!r} returns {tuple(activation.shape)}, in which there is nothing; name another layer, or give "
            "larger images"
        )


@dataclass
class _Seen:
    """What a layer returned, at each of the calls that may be meant; and of the last one, what made its units."""

    activations: list[Tensor] = field(default_factory=list)
    made: tuple[int, torch.Size] | None = None

    def keep(self, making: Making, activation: Tensor) -> None:
        """Keep a copy: what comes after may change it in place."""
        self.activations.append(activation.clone())
        self.made = making.last


def maps_of(
    model: nn.Module | Classifier, layers: str | Layer | Sequence[str | Layer], inputs: Tensor
) -> dict[str, Tensor]:
    """Return the feature maps of several layers of a frozen network, from one forward pass.

    The network runs in eval mode whatever mode it is in: dropout is off, and statistics of batch norm stay. It is left
    as it was, its mode too.

    Args:
        model: a module, or a Classifier.
        layers: paths of modules in it, or `Layer`s. Units may come last, (B, h, w, N), where a linear map or a layer
            norm of the model's made them; where that is not so, or not clear, say `Layer(path, unit_dim=-1)`.
        inputs: (B, ...), as the model takes them.

    Returns:
        By the path of the layer, (B, N, h, w), of the model's type and on its device.

    Raises:
        InputError: there is no such layer, its units have not two dimensions of position, or it cannot be told which
            dimension they are.
        ModelError: the model fails, or hides what it computes.
    """
    module, found = layers_of(model, layers)
    with frozen(module, inputs.device):
        return maps(activations(module, found, inputs))


def maps(units: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return units (B, N, h, w) as they are; refuse others.

    Raises:
        InputError: the units of a layer have not two dimensions of position.
    """
    for path, one in units.items():
        if one.dim() != 4:
            raise InputError(
                f"the units of layer {path!r} are {tuple(one.shape)}, but maps (B, N, h, w) were expected; name a "
                "layer before positions are pooled, or made tokens"
            )
    return dict(units)


@contextmanager
def frozen(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Run a model in eval mode and without gradients; leave it as it was at the end, after any error too.

    One thread at a time: another would take the eval mode of the first for the model's own.
    """
    with alone(), torch.no_grad(), left_untouched(module, device):
        module.eval()
        with run_untouched(module, device):
            yield


def kept_units(units: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return maps of which only some units are left, in the order in which they are named.

    Args:
        units: by the path of the layer, each (B, N, h, w).
        keep: by the path of a layer, the indices of units, (n,), int64; a layer without is kept whole.

    Raises:
        InputError: there is no such layer or unit.
    """
    for path, chosen in keep.items():
        if path not in units:
            raise InputError(f"units of layer {path!r} are kept, but the layers are {', '.join(map(repr, units))}")
        count = units[path].shape[1]
        wrong = chosen[(chosen < 0) | (chosen >= count)]
        if len(wrong):
            raise InputError(f"layer {path!r} has no unit {int(wrong[0])}; its {count} units go from 0 to {count - 1}")
    return {path: one[:, keep[path].to(one.device)] if path in keep else one for path, one in units.items()}


def concatenated(units: Sequence[Tensor]) -> Tensor:
    """Return maps of several layers as one, (B, ΣN, h, w): all resized bilinearly to the largest height and width."""
    size = max(one.shape[2] for one in units), max(one.shape[3] for one in units)
    return torch.cat([resized(one, size) for one in units], 1)


def resized(one: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (B, N, h, w) resized bilinearly; as they are where they have that size."""
    return one if one.shape[2:] == size else F.interpolate(one, size, mode="bilinear", align_corners=False)


__all__ = [
    "activations",
    "concatenated",
    "frozen",
    "kept_units",
    "layers_of",
    "maps",
    "maps_of",
    "resized",
]

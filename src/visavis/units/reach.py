"""How a layer is reached in a running model: at which of its calls, and what of that call holds its units."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from visavis.errors import InputError, ModelError
from visavis.propagation.mode import answer_of
from visavis.propagation.untouched import run_untouched
from visavis.propagation.visit import tensors_in
from visavis.units.heads import Heads, heads_of
from visavis.units.layer import Layer

#: Makes other activations of those that a layer has; or None, to leave them.
Change = Callable[[Tensor], Tensor | None]


@dataclass
class Calls:
    """How often the layer has been called so far, as long as it is hooked."""

    count: int = 0


class Reach:
    """The call of a layer that holds its units.

    Args:
        module: the model.
        layer: whose units.

    Attributes:
        heads: where the layer's attention heads are, if these are the units.
        returned: how many tensors the layer has returned last, of which the first holds its units.

    Raises:
        InputError: there is no such layer, or it has no such heads.
    """

    def __init__(self, module: nn.Module, layer: Layer) -> None:
        self._module, self._layer = module, layer
        self._part = _part(module, layer.path)
        self.returned = 0
        self.heads: Heads | None = None if layer.heads is False else heads_of(module, layer)
        # From 0; a negative one is settled as soon as there are inputs.
        self._call = layer.call

    def settle(self, inputs: Tensor) -> None:
        """Find out which call it is that a negative number means, by a forward pass that counts.

        Raises:
            InputError: there is no such call.
            ModelError: the model fails.
        """
        if self._call is None or self._call >= 0:
            return
        with torch.no_grad(), run_untouched(self._module, inputs.device), self.hooked(lambda _: None) as calls:
            answer_of(self._module, inputs.clone())
        self._call = self._existing(calls.count)

    @contextmanager
    def hooked(self, change: Change) -> Iterator[Calls]:
        """Replace the layer's activations at the call that is meant (each, if none is) by what `change` makes of them.

        Of a layer these are the first tensor that it returns; of attention heads (B, ..., heads, features).

        Raises:
            InputError: the layer returns no tensor; within the model.
        """
        calls = Calls()
        own = threading.get_ident()

        def offer(one: Tensor) -> Tensor | None:
            if threading.get_ident() != own:  # somebody else runs the model at the same time
                return None
            place, calls.count = calls.count, calls.count + 1
            if self._call not in (None, place):
                return None
            with torch._C.DisableTorchFunction():  # what is done here is no call of the model's
                if self.heads is None:
                    return change(one)
                changed = change(self.heads.split(one))
                return None if changed is None else self.heads.joined(changed)

        if self.heads is not None:
            with self.heads.hooked(offer):
                yield calls
            return
        handle = self._part.register_forward_hook(lambda _, __, output: self._of_output(output, offer))
        try:
            yield calls
        finally:
            handle.remove()

    def _of_output(self, output: Any, offer: Change) -> Any:
        tensors = tensors_in((output,), {})
        if not tensors:
            raise InputError(f"layer {self._layer.path!r} returns {type(output).__name__}, in which there is no tensor")
        self.returned = len(tensors)
        changed = offer(tensors[0])
        if changed is None:
            return None
        return tree_map_only(Tensor, lambda one: changed if one is tensors[0] else one, output)

    def only(self, found: list[Tensor], calls: Calls, items: int) -> Tensor:
        """Return the activations of the call that is meant, (B, ...), or say what the layer did instead.

        Args:
            found: what `change` was given.
            calls: how many there were of the whole forward pass.
            items: B.

        Raises:
            InputError: there is no such call.
            ModelError: it is not called once, and nobody said which call; or its activations are not of each item.
        """
        path, asked = self._layer.path, self._layer.call
        if asked is not None:
            if self._existing(calls.count) != self._call:
                raise ModelError(
                    f"layer {path!r} is not called equally often on all inputs; say which call from the first, as "
                    "call=0, call=1, …"
                )
        elif calls.count != 1:
            which = (
                ", or say which call is meant, by Layer(..., call=0) and so on (--call in the shell)"
                if calls.count
                else ""
            )
            raise ModelError(
                f"{self._called(calls.count)}, but a unit's activation must come from one call; name a layer that is "
                f"called once{which}"
            )
        (activation,) = found
        if activation.dim() < 2 + (self.heads is not None) or len(activation) != items:
            whose, expected = "returns", "(B, ...) with units in one of its other dimensions"
            if self.heads is not None:
                whose, expected = "has heads that give", "(B, ..., heads, features), which windows of images are not"
            raise ModelError(
                f"layer {path!r} {whose} a tensor of shape {tuple(activation.shape)} for a batch of {items}; "
                f"expected {expected}"
            )
        return activation

    def _existing(self, count: int) -> int:
        """Return which of so many calls is meant, from 0."""
        asked = self._layer.call
        assert asked is not None
        if not -count <= asked < count:
            there = f"; there are 0 to {count - 1}, or {-count} to -1 from the end" if count else ""
            raise InputError(f"{self._called(count)}, so that there is no call={asked}{there}")
        return asked % count

    def _called(self, count: int) -> str:
        whose = "" if self.heads is None else f"{self.heads.what} of "
        times = "1 time" if count == 1 else f"{count} times"
        return f"{whose}layer {self._layer.path!r} is called {times} in a forward pass"


def _part(module: nn.Module, layer: str) -> nn.Module:
    parts: dict[str, nn.Module] = dict(module.named_modules())
    if not layer or layer not in parts:
        paths = [path for path in parts if path]
        near = get_close_matches(layer, paths, n=3) or paths[:3]
        raise InputError(f"there is no layer {layer!r} in {type(module).__name__}; there are {', '.join(near)}, …")
    return parts[layer]


__all__ = ["Calls", "Change", "Reach"]

"""The layer that is studied where none is named: the last with positions, whose units the head reads."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from visavis.errors import InputError
from visavis.propagation.mode import answer_of
from visavis.propagation.untouched import run_untouched


def layers_with_positions(module: nn.Module, inputs: Tensor) -> dict[str, torch.Size]:
    """Return the modules called once that return maps or tokens, in the order in which they return, with their shapes.

    Args:
        module: in eval mode; it is left as it was.
        inputs: (B, ...), to run it on.

    Raises:
        ModelError: the model fails.
    """
    own = threading.get_ident()
    calls: Counter[str] = Counter()
    found: dict[str, torch.Size] = {}

    def watch(path: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if threading.get_ident() != own:  # somebody else runs the model at the same time
                return
            calls[path] += 1
            if not isinstance(output, Tensor) or output.dim() < 3 or len(output) != len(inputs):
                return
            # Of one position there is nothing but units: what a global pooling gives.
            if sorted(output.shape[1:])[-2] > 1:
                found[path] = output.shape

        return hook

    handles = [part.register_forward_hook(watch(path)) for path, part in module.named_modules() if path]
    try:
        with torch.no_grad(), run_untouched(module, inputs.device):
            answer_of(module, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {path: shape for path, shape in found.items() if calls[path] == 1}


def last_layer(module: nn.Module, inputs: Tensor) -> str:
    """Return the path of the module that returns last, of those called once that return maps or tokens.

    Args:
        module: in eval mode; it is left as it was.
        inputs: (B, ...), to run it on.

    Raises:
        InputError: there is none.
        ModelError: the model fails.
    """
    found = list(layers_with_positions(module, inputs))
    if not found:
        raise InputError(
            f"{type(module).__name__} has no layer with positions that is called once, so that it cannot be told which "
            "units are meant; name a layer"
        )
    return found[-1]


__all__ = ["last_layer", "layers_with_positions"]

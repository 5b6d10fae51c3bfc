"""The model is left as it was, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Written:
    """Keeps a copy of each parameter or buffer from just before the model first writes to it, and puts it back."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._ours: set[int] | None = None
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._buffers = [(part, dict(part._buffers)) for part in module.modules() if part._buffers]

    def about_to_write(self, tensor: object) -> None:
        """Remember `tensor` as it is, if it is the model's."""
        if not isinstance(tensor, Tensor):
            return
        if self._ours is None:
            self._ours = {id(t) for t in self._module.parameters()} | {id(t) for t in self._module.buffers()}
        if id(tensor) in self._ours and all(tensor is not kept for kept, _ in self._copies):
            self._copies.append((tensor, tensor.detach().clone()))

    def restore(self) -> None:
        """Put every remembered value back, and every buffer that was replaced."""
        with torch.no_grad():
            for tensor, copy in self._copies:
                tensor.copy_(copy)
        for part, buffers in self._buffers:
            for name, buffer in buffers.items():
                if part._buffers.get(name) is not buffer:
                    part._buffers[name] = buffer


@contextmanager
def left_untouched(module: nn.Module, device: torch.device) -> Iterator[Written]:
    """Undo, at the end and after any error, what a forward pass changes: buffers, modes and the random state."""
    modes = [(part, part.training) for part in module.modules()]
    written = Written(module)
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield written
    finally:
        written.restore()
        for part, training in modes:
            part.training = training

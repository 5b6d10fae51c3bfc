"""Models that save memory by checkpoints: under the engine they keep what they compute.

`torch.utils.checkpoint` (not reentrant) keeps nothing of a part's forward pass, and runs the part once more when the
backward needs it. That second run is outside the engine: what it saves, in the order in which plain torch saves it, is
not what the crossings saved, and the two would be mistaken for each other wherever their shapes agree.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

_TORCH = "torch.utils.checkpoint"
_top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: None)


def nothing_recomputed() -> AbstractContextManager[object]:
    """Within this, tensors are saved as they are, even where a checkpoint would drop them; other hooks stay."""
    hooks = _top_hooks(True)
    if hooks is None or getattr(hooks[0], "__module__", "") != _TORCH:
        return nullcontext()
    return saved_tensors_hooks(_as_it_is, _as_it_is)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor

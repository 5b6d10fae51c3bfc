"""The attention heads of a layer: how many there are, and where what they give lies side by side, not yet mixed.

That is what the output projection of the layer gets, (B, ..., heads · features): the first features are those of the
first head. Mostly the projection is a module, whose input it is. `nn.MultiheadAttention` never calls its own: it hands
the weights to `F.multi_head_attention_forward`, or to a kernel that does all at once. That kernel keeps out where a
TorchFunctionMode is on, as one is here; and the function gets the identity in the place of the projection, which then
follows as a call of its own. A layer without any projection, as BERT's, returns what its heads give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visavis.errors import InputError
from visavis.units.layer import Layer

# What libraries call the number of heads, and the projection after them: torch, torchvision, timm, Hugging Face, and
# those who follow them. Names with a dot are of modules within one that the layer has.
_NUMBERS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_attn_heads", "num_head", "nhead", "heads")
_PROJECTIONS = (
    *("out_proj", "proj", "o_proj", "c_proj", "out_lin", "dense", "wo", "o", "proj_out", "linear_out", "to_out"),
    *("output.dense", "to_out.0"),
)
_QUERIES_KEYS_VALUES = frozenset(
    {"query", "key", "value", "q", "k", "v", "qkv", "q_proj", "k_proj", "v_proj", "qkv_proj", "to_q", "to_k", "to_v"}
    | {"q_lin", "k_lin", "v_lin", "query_key_value", "to_qkv"}
)
_SIGNATURE = signature(F.multi_head_attention_forward)
#: Makes others of what the heads give, (B, ..., heads · features); or None, to leave it.
Offer = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True)
class Heads:
    """Where a layer's attention heads are.

    Attributes:
        count: how many.
        path: of the layer.
        part: a module.
        side: what the heads give is the "input" of that module, its "output", or "within" it, which is an
            `nn.MultiheadAttention`.
    """

    count: int
    path: str
    part: nn.Module
    side: str

    @property
    def what(self) -> str:
        """What is called, once the heads have given all."""
        return "the attention" if self.side == "output" else "the output projection"

    def split(self, joined: Tensor) -> Tensor:
        """Return (B, ..., heads, features) of (B, ..., heads · features).

        Raises:
            InputError: heads have not equally many features.
        """
        if not joined.dim() or joined.shape[-1] % self.count:
            raise InputError(
                f"{self.count} heads of layer {self.path!r} cannot share the last dimension of a tensor of shape "
                f"{tuple(joined.shape)} equally; give another number, as heads=..., or name what projects their outputs"
            )
        return joined.view(*joined.shape[:-1], self.count, joined.shape[-1] // self.count)

    def joined(self, split: Tensor) -> Tensor:
        """Return (B, ..., heads · features) of (B, ..., heads, features)."""
        return split.flatten(-2)

    @contextmanager
    def hooked(self, offer: Offer) -> Iterator[None]:
        """Offer what the heads give, at each call, and go on with what is made of it."""
        if self.side == "within":
            with _inside(self.part) as inside, _Opening(inside, offer):
                yield
            return
        if self.side == "input":
            handle = self.part.register_forward_pre_hook(
                lambda _, args, kwargs: _of_input(args, kwargs, offer), with_kwargs=True
            )
        else:
            handle = self.part.register_forward_hook(lambda _, __, output: _of_output(output, offer))
        try:
            yield
        finally:
            handle.remove()


def heads_of(module: nn.Module, layer: Layer) -> Heads:
    """Return where the heads of a layer of a model are.

    Raises:
        InputError: how many there are, or which part of the layer projects them, cannot be told; or it has another
            number.
    """
    path = layer.path
    part = module.get_submodule(path)
    above, _, name = path.rpartition(".")
    if name == "out_proj" and isinstance(owner := module.get_submodule(above), nn.MultiheadAttention):
        part = owner  # which does not call it
    count = _number(part, layer)
    if isinstance(part, nn.MultiheadAttention):
        return Heads(count, path, part, "within")
    if _is_dense(part):
        return Heads(count, path, part, "input")
    found = [one for relative in _PROJECTIONS if (one := _within(part, relative)) is not None and _is_dense(one)]
    if len(found) == 1:
        return Heads(count, path, found[0], "input")
    dense = {relative.rpartition(".")[2] for relative, one in part.named_modules() if _is_dense(one)}
    if not found and dense and dense <= _QUERIES_KEYS_VALUES:
        return Heads(count, path, part, "output")
    raise InputError(
        f"which part of layer {path!r} ({type(part).__name__}) projects what its heads give cannot be told; name that "
        f"dense layer itself, as Layer({path + '.…'!r}, heads={count})"
    )


def _number(part: nn.Module, layer: Layer) -> int:
    """Return how many heads there are: as the layer says, or one part of it does, or as was asked for."""
    told = _told(part)
    if told is None:
        within = {number for one in part.children() if (number := _told(one)) is not None}
        told = within.pop() if len(within) == 1 else None
    if layer.heads is True:
        if told is None:
            raise InputError(
                f"how many heads layer {layer.path!r} has cannot be told from its {type(part).__name__}; say it, such "
                "as heads=12, with the layer that projects what they give; or name the attention layer around it"
            )
        return told
    if told not in (None, layer.heads):
        raise InputError(f"layer {layer.path!r} has {told} heads, not {layer.heads}; heads=True takes what it has")
    return int(layer.heads)


def _told(part: nn.Module) -> int | None:
    numbers = (getattr(part, name, None) for name in _NUMBERS)
    return next((one for one in numbers if isinstance(one, int) and not isinstance(one, bool) and one > 0), None)


def _within(part: nn.Module, relative: str) -> nn.Module | None:
    try:
        return part.get_submodule(relative)
    except AttributeError:
        return None


def _is_dense(part: nn.Module) -> bool:
    """Whether a module is a dense layer: by what `nn.Linear` and those in its place have, or GPT-2's `Conv1D`."""
    return any(isinstance(getattr(part, name, None), int) for name in ("in_features", "nx"))


def _of_input(args: tuple[Any, ...], kwargs: dict[str, Any], offer: Offer) -> Any:
    name = None if args else next(iter(kwargs))
    changed = offer(args[0] if name is None else kwargs[name])
    if changed is None:
        return None
    return ((changed, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: changed})


def _of_output(output: Any, offer: Offer) -> Any:
    several = isinstance(output, tuple)
    changed = offer(output[0] if several else output)
    if changed is None:
        return None
    return (changed, *output[1:]) if several else changed


@contextmanager
def _inside(part: nn.Module) -> Iterator[Callable[[], bool]]:
    """Say whether a module is running."""
    depth = 0

    def enters(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def leaves(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    before = part.register_forward_pre_hook(enters)
    after = part.register_forward_hook(leaves, always_call=True)
    try:
        yield lambda: depth > 0
    finally:
        before.remove()
        after.remove()


class _Opening(TorchFunctionMode):
    """Takes `F.multi_head_attention_forward` apart, while a module runs: the heads, and their projection."""

    def __init__(self, inside: Callable[[], bool], offer: Offer) -> None:
        super().__init__()
        self._inside, self._offer = inside, offer

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.multi_head_attention_forward or not self._inside():
            return func(*args, **(kwargs or {}))
        given = _SIGNATURE.bind(*args, **(kwargs or {})).arguments
        weight, bias = given["out_proj_weight"], given["out_proj_bias"]
        # By a call that a mode around this one sees, as it does all others.
        identity = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        joined, attention = func(**{**given, "out_proj_weight": identity, "out_proj_bias": None})
        # Positions first, (L, B, heads · features), as the function has it; items first, as is offered.
        with torch._C.DisableTorchFunction():
            changed = self._offer(joined.transpose(0, 1))
            joined = joined if changed is None else changed.transpose(0, 1)
        return F.linear(joined, weight, bias), attention


__all__ = ["Heads", "Offer", "heads_of"]

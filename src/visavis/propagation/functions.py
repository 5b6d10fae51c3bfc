"""The registry: which torch function is which operation, and which merely routes.

A name stands for all its spellings: the function in `torch` and in `torch.nn.functional`, the tensor's method, the
operator. In-place forms need no entry: the engine runs the form out of place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import resolve_name

from visavis.errors import InputError
from visavis.propagation import attention, composites, crossings, normalization, pooling, recurrent, weighted
from visavis.propagation.visit import Visit

Crossing = Callable[[Visit], Any]

_CROSSINGS: dict[Callable[..., Any], Crossing] = {}

#: What a function of a user's own can be registered as, by name.
KINDS: dict[str, Crossing] = {
    "pass": crossings.passing,
    "gate": crossings.gating,
    "route": crossings.route,
    "weighted sum": crossings.fixed_sum,
    "maximum": crossings.winner,
    "constant": crossings.constant,
}


def register(function: Callable[..., Any], crossing: str | Crossing) -> None:
    """Tell the engine how relevance crosses a torch function that it does not know.

    Args:
        function: what the model calls, as it arrives in `__torch_function__`: `torch.erfinv`, `torch.Tensor.erfinv`
            (two spellings are two functions), or a function of your own that calls
            `torch.overrides.handle_torch_function`.
        crossing: "pass" (elementwise, relevance passes as it is), "gate" (so too, and it gives way where it multiplies
            a signal), "route" (values are moved about), "weighted sum" (linear, with weights ≥ 0), "maximum" (torch's
            backward names the winner), "constant" (only shapes are read); or a callable that takes a
            `visavis.propagation.Visit` and returns the output.

    Raises:
        InputError: the function is registered already, or the kind is not one of these.
    """
    if function in _CROSSINGS:
        raise InputError(f"`{name_of(function)}` is registered already; `unregister` it first to replace its crossing")
    if isinstance(crossing, str):
        if crossing not in KINDS:
            raise InputError(f"a crossing is one of {', '.join(KINDS)} or a callable, not {crossing!r}")
        crossing = KINDS[crossing]
    _CROSSINGS[function] = crossing


def unregister(function: Callable[..., Any]) -> None:
    """Forget how relevance crosses a function."""
    if _CROSSINGS.pop(function, None) is None:
        raise InputError(f"`{name_of(function)}` is not registered")


def crossing_of(function: Callable[..., Any]) -> Crossing | None:
    """Return how relevance crosses a function, or None if that is not known."""
    return _CROSSINGS.get(function)


@lru_cache(maxsize=4096)
def name_of(function: Callable[..., Any]) -> str:
    """Return the name by which users know a torch function."""
    if getattr(function, "__name__", "") == "__get__":
        return f"Tensor.{getattr(getattr(function, '__self__', None), '__name__', '?')}"
    for name, written in _WRITTEN.items():
        if function is written and function is not torch.zeros_like:
            return f"Tensor.{name}"
    name = resolve_name(function) or getattr(function, "__qualname__", None) or repr(function)
    name = name.replace("_VariableFunctionsClass.", "torch._VF.")
    return name.replace("torch.nn.functional.", "F.").replace("torch.Tensor.", "Tensor.")


def spellings(name: str) -> Iterator[Callable[..., Any]]:
    """Yield every function that a name stands for."""
    spelled = [name, f"__{name}__"]
    if name in _REVERSIBLE:
        spelled.append(f"__r{name}__")
    for place in (torch, F, Tensor, torch._C._nn, torch.special, torch.linalg):
        for spelling in spelled:
            found = getattr(place, spelling, None)
            if callable(found):
                yield found


# Operators whose crossing knows which operand came first, or need not know.
_REVERSIBLE = ("add", "sub", "mul", "div", "truediv")
# These end like functions that write in place, and write no values.
_FLAGS = ("requires_grad_", "retain_grad_", "share_memory_", "rename_")


def writes_in_place(function: Callable[..., Any]) -> bool:
    """Whether a function writes into its first argument."""
    name = getattr(function, "__name__", "")
    if name in ("__setitem__", "__set__"):
        return True
    if name.startswith("__i") and name.endswith("__"):
        return name not in ("__iter__", "__invert__", "__index__", "__int__", "__init__")
    return name.endswith("_") and not name.endswith("__") and name not in _FLAGS


def out_of_place(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return the function that returns what another one writes in place; None if there is none."""
    name = getattr(function, "__name__", "")
    if name == "__setitem__":
        return function
    if name in _WRITTEN:
        return _WRITTEN[name]
    bare = name[3:-2] if name.startswith("__i") else name[:-1]
    for place, spelling in ((Tensor, bare), (F, bare), (Tensor, f"__{bare}__")):
        found = getattr(place, spelling, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    return None


def _copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """What `target.copy_(source)` leaves in the target."""
    return source.to(target.dtype).expand_as(target).clone()


def _filled(target: Tensor, value: Any) -> Tensor:
    """What `target.fill_(value)` leaves in the target."""
    return (
        value.to(target.dtype).expand_as(target).clone()
        if isinstance(value, Tensor)
        else torch.full_like(target, value)
    )


_WRITTEN: dict[str, Callable[..., Any]] = {"copy_": _copied, "fill_": _filled, "zero_": torch.zeros_like}


def _enter(crossing: Crossing, names: str) -> None:
    for name in names.split():
        found = dict.fromkeys(spellings(name))
        if not found:
            continue  # a name that this version of torch does not have
        for function in found:
            if _CROSSINGS.setdefault(function, crossing) is not crossing:
                raise InputError(f"`{name_of(function)}` is registered twice")


_enter(weighted.linear, "linear")
_enter(weighted.convolutional, "conv1d conv2d conv3d")
_enter(weighted.transposed_convolutional, "conv_transpose1d conv_transpose2d conv_transpose3d")
_enter(attention.matrix_product, "matmul mm bmm")
_enter(attention.any_product, "mv dot inner outer tensordot")
_enter(attention.einsum, "einsum")
_enter(attention.sum_with_batched_product, "baddbmm")
_enter(composites.sum_with_product, "addcmul")
_enter(composites.sum_with_quotient, "addcdiv")
_enter(composites.interpolation, "lerp")
_enter(composites.cosine, "cosine_similarity")
_enter(recurrent.recurrent, "lstm gru rnn_tanh rnn_relu")
_enter(attention.softmax, "softmax")
_enter(attention.scaled_dot_product_attention, "scaled_dot_product_attention")
_enter(weighted.sum_with_product, "addmm")
_enter(weighted.batch_norm, "batch_norm")

_enter(normalization.layer_norm, "layer_norm")
_enter(normalization.rms_norm, "rms_norm")
_enter(normalization.group_norm, "group_norm")
_enter(normalization.instance_norm, "instance_norm")
_enter(normalization.statistic, "norm vector_norm std var")
_enter(normalization.grid_of, "affine_grid_generator")
_enter(normalization.scaled_by_neighbours, "local_response_norm normalize")

_enter(crossings.residual_sum, "add sub subtract rsub")
_enter(crossings.product, "mul multiply div divide true_divide truediv")
_enter(composites.gated_half, "glu")

_enter(
    crossings.passing,
    "elu selu celu gelu silu mish leaky_relu prelu rrelu hardswish tanh softsign tanhshrink hardshrink softshrink "
    "erf atan",
)
_enter(crossings.turning, "neg negative logsigmoid log_softmax threshold clamp_max nan_to_num log log1p expm1 sin cos")
_enter(crossings.rectifying, "relu relu6 softplus abs absolute square sqrt")
_enter(crossings.gating, "sigmoid hardsigmoid expit exp rsqrt")
_enter(crossings.inverting, "reciprocal")
_enter(crossings.clamping, "clamp clip clamp_min hardtanh")
_enter(crossings.power, "pow")
_enter(
    crossings.dropout,
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout",
)

_enter(
    crossings.fixed_sum,
    "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d mean sum "
    "interpolate upsample upsample_nearest upsample_bilinear fold cumsum",
)
_enter(crossings.sampled, "grid_sample")
_enter(pooling.power_pool, "lp_pool1d lp_pool2d lp_pool3d")
_enter(
    pooling.max_pool,
    "max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices",
)
_enter(
    pooling.adaptive_max_pool,
    "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d adaptive_max_pool1d_with_indices "
    "adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices",
)
_enter(
    crossings.winner,
    "max min amax amin maximum minimum fmax fmin sort topk kthvalue median logsumexp "
    "fractional_max_pool2d fractional_max_pool3d fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices",
)

_enter(
    crossings.route,
    "reshape view view_as reshape_as flatten unflatten ravel permute transpose t swapaxes swapdims movedim moveaxis "
    "squeeze unsqueeze expand expand_as broadcast_to broadcast_tensors repeat tile repeat_interleave contiguous clone "
    "chunk split split_with_sizes tensor_split hsplit vsplit dsplit unbind narrow select getitem index_select gather "
    "take_along_dim cat concat concatenate stack hstack vstack dstack column_stack row_stack roll flip fliplr flipud "
    "rot90 pixel_shuffle pixel_unshuffle channel_shuffle diagonal unfold tril triu "
    "atleast_1d atleast_2d atleast_3d to float double half bfloat16 type type_as cpu cuda positive alias "
    "max_unpool1d max_unpool2d max_unpool3d",
)
for _getter in ("T", "mT", "H", "mH", "real"):
    _CROSSINGS[getattr(Tensor, _getter).__get__] = crossings.route
_enter(crossings.fill, "masked_fill where masked_scatter index_put index_copy index_fill scatter")
_enter(crossings.pad, "pad constant_pad_nd")
for _function in (_copied, _filled):
    _CROSSINGS[_function] = crossings.route
_enter(crossings.set_item, "setitem")
_enter(
    crossings.constant,
    "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros new_ones new_empty new_full new_tensor "
    "sign sgn heaviside floor ceil round",
)
_enter(crossings.cut, "detach")
_CROSSINGS[Tensor.data.__get__] = crossings.cut  # type: ignore[attr-defined]

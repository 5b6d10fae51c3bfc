"""The weights that make a layer's units: found in the torch calls that lead to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from visavis.errors import InputError
from visavis.propagation.mode import answer_of
from visavis.propagation.untouched import run_untouched
from visavis.propagation.visit import tensors_in
from visavis.units.above import Above

# What leaves each unit a unit: value by value, by a factor of its own, or by pooling its positions.
_KEEP_UNITS = frozenset(
    {"relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "elu", "elu_", "gelu", "silu", "silu_", "hardswish"}
    | {"hardtanh", "hardtanh_", "mish", "sigmoid", "tanh", "softplus", "prelu", "dropout", "clone", "contiguous"}
    | {"batch_norm", "layer_norm", "group_norm", "instance_norm", "hardswish_", "sigmoid_", "tanh_", "clamp", "clamp_"}
    | {f"{kind}_pool{d}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for d in (1, 2, 3)}
)


def incoming_norms(above: Above, inputs: Tensor) -> Tensor:
    """Return the L1 norm Σ|w_u| of each unit's incoming weights, (units,), float64 on the CPU.

    Li et al. 2017 (Pruning Filters for Efficient ConvNets): of the convolution or linear layer that makes
    the units, without its bias, and without the factors of a normalisation after it.

    Args:
        above: says which layer.
        inputs: (B, ...), to run the model on.

    Raises:
        InputError: the units are not those of one convolution or linear layer, but a sum, say, or attention heads.
        ModelError: the model fails.
    """
    if above.reach.heads is not None:
        raise InputError(
            f"the heads of layer {above.layer!r} have no weights of their own: what they give are values of tokens, "
            "mixed by attention"
        )
    kept = above.keep(inputs)
    with torch.no_grad(), run_untouched(above.module, inputs.device), _Calls() as calls, above.hooked(calls.stop):
        answer_of(above.module, inputs.clone())
    name, args, kwargs = calls.maker()
    weight = args[1] if len(args) > 1 else kwargs.get("weight")
    where = f"the units of layer {above.layer!r}"
    if name == "linear" or (name.startswith("conv") and "transpose" not in name):
        norms = weight.detach().double().abs().flatten(1).sum(1)
    elif name.startswith("conv_transpose"):
        groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
        each = weight.detach().double().abs().flatten(2).sum(2)
        norms = each.unflatten(0, (groups, -1)).sum(1).flatten()
    else:
        raise InputError(
            f"{where} have no weights of their own, as they are made by `{name}`; name the layer that makes them"
        )
    if len(norms) != kept.units:
        raise InputError(f"{where} are {kept.units}, but `{name}`, which leads to them, makes {len(norms)}")
    found: Tensor = norms.cpu()
    return found


class _Calls(TorchFunctionMode):
    """Writes down the calls that lead to a layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[str, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self._end: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        made = tensors_in((output,), {})
        # Which are held, so that none of them takes another's id.
        if self._end is None and made:
            self._calls.append((getattr(func, "__name__", "").lstrip("_"), args, kwargs or {}, made))
        return output

    def stop(self, end: Tensor) -> None:
        """Take note of what the layer returned."""
        self._end = end

    def maker(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Return the last call before which units were not those that the layer returned."""
        end = self._end
        for name, args, kwargs, made in reversed(self._calls):
            if not any(one is end for one in made):
                continue
            first = args[0] if args else kwargs.get("input")
            if name not in _KEEP_UNITS or not isinstance(first, Tensor):
                return name, args, kwargs
            end = first
        return "a call that was not seen", (), {}


__all__ = ["incoming_norms"]

"""The plain gradient through the same engine, and the two methods that change only how it crosses a ReLU.

- DeConvNet (Zeiler & Fergus 2014): the gradient that arrives, where positive, whatever the ReLU did.
- Guided Backpropagation (Springenberg et al. 2015): the gradient that arrives, where positive and where the ReLU let
  its input pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from visavis.errors import InputError
from visavis.propagation import crossings
from visavis.propagation.functions import crossing_of, spellings
from visavis.propagation.visit import Visit, cross

# A ReLU6 of torch calls `hardtanh`, and a ReLU may be written as a clamp.
_RECTIFIERS = {
    function
    for name in ("relu", "relu6", "threshold", "hardtanh", "clamp", "clamp_min", "clip")
    for function in spellings(name)
}


@dataclass(frozen=True)
class Activation:
    """How the gradient crosses a ReLU: "gradient", "deconvnet" or "guided"."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in ("gradient", "deconvnet", "guided"):
            raise InputError(f'a ReLU is crossed by "gradient", "deconvnet" or "guided", not {self.name!r}')


def gradient_crossing(func: Callable[..., Any], activation: Activation) -> Callable[[Visit], Any]:
    """Return how the gradient crosses a function: as torch has it, except for ReLUs."""
    if func in _RECTIFIERS and activation.name != "gradient":
        return _guided if activation.name == "guided" else _deconvolved
    # Two are the same to gradient and relevance: what the model cuts off, and items set (out of place).
    own = crossing_of(func)
    return own if own in (crossings.cut, crossings.set_item) else _native


def _native(visit: Visit) -> Any:
    output = visit.leave(visit.native())
    if visit.call.shape:  # a tensor on the path came out, not a size or a comparison
        visit.call.operation, visit.call.rule = "function", "gradient"
    return output


def _from_zero(visit: Visit) -> bool:
    """Whether what may be a rectifier cuts at zero."""
    name = visit.call.function.split(".")[-1]
    if name == "hardtanh":
        return bool(visit.argument(1, "min_val", -1.0) == 0)
    if name in ("clamp", "clamp_min", "clip"):
        low = visit.argument(1, "min")
        return isinstance(low, int | float) and low == 0
    return True


def _guided(visit: Visit) -> Any:
    if not _from_zero(visit):
        return _native(visit)
    visit.call.operation, visit.call.rule = "activation", "guided"
    x = visit.argument(0, "input")
    value = visit.value()
    # Where a rectifier passes its input on it leaves the value alone: between its thresholds output equals input.
    passed = (value == x) & (value != 0)
    return visit.leave(cross(value, lambda gradient: gradient.clamp(min=0) * passed, x))


def _deconvolved(visit: Visit) -> Any:
    if not _from_zero(visit):
        return _native(visit)
    visit.call.operation, visit.call.rule = "activation", "deconvnet"
    x: Tensor = visit.argument(0, "input")
    return visit.leave(cross(visit.value(), lambda gradient: gradient.clamp(min=0), x))

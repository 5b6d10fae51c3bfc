"""How relevance crosses functions that are several others in one: as those that they stand for, call by call."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any

from torch import Tensor

from visavis.propagation.visit import Visit, cross, identity


def written_out(visit: Visit, operation: str, function: Callable[[], Tensor]) -> Any:
    """Keep the value of a call, and cross it as the calls that `function` makes to compute the same in plain steps."""
    # With gradients on, as in the model: without, torch may choose another kernel, which rounds otherwise.
    result = visit.native().detach()
    with visit.reopened():
        inner = function()
    visit.call.operation, visit.call.rule = operation, "as the calls above"
    trace = visit.trace(inner)
    known = {} if trace is None else {"nonnegative": trace.nonnegative, "gate": trace.gate}
    return visit.leave(cross(result, identity, inner), **known)


def sum_with_product(visit: Visit) -> Any:
    """`torch.addcmul(x, a, b, value=v)`: x + v · a · b."""
    added, left, right = (
        visit.argument(position, name) for position, name in enumerate(("input", "tensor1", "tensor2"))
    )
    scale = visit.kwargs.get("value", 1)
    return written_out(visit, "sum", lambda: added + scale * (left * right))


def sum_with_quotient(visit: Visit) -> Any:
    """`torch.addcdiv(x, a, b, value=v)`: x + v · a / b."""
    added, left, right = (
        visit.argument(position, name) for position, name in enumerate(("input", "tensor1", "tensor2"))
    )
    scale = visit.kwargs.get("value", 1)
    return written_out(visit, "sum", lambda: added + scale * (left / right))


def gated_half(visit: Visit) -> Any:
    """`F.glu`: the first half is the signal; the second, through its sigmoid, is the gate."""
    (x,) = visit.sources
    dim = visit.argument(1, "dim", -1)

    def plain() -> Tensor:
        signal, gate = x.chunk(2, dim)
        gated: Tensor = signal * gate.sigmoid()
        return gated

    return written_out(visit, "product", plain)


def interpolation(visit: Visit) -> Any:
    """`torch.lerp(a, b, weight)`: (1 − weight) · a + weight · b."""
    start, end, weight = _arguments(visit, "input", "end", "weight")
    return written_out(visit, "sum", lambda: start * (1 - weight) + end * weight)


def cosine(visit: Visit) -> Any:
    """`F.cosine_similarity`: the product of both vectors, each divided by its length, summed."""
    left, right = _arguments(visit, "x1", "x2")
    dim, eps = visit.argument(2, "dim", 1), visit.argument(3, "eps", 1e-8)

    def plain() -> Tensor:
        unit = [vector / vector.norm(dim=dim, keepdim=True).clamp(min=eps) for vector in (left, right)]
        similarity: Tensor = (unit[0] * unit[1]).sum(dim)
        return similarity

    return written_out(visit, "product", plain)


def _arguments(visit: Visit, *names: str) -> list[Any]:
    return [visit.argument(position, name) for position, name in enumerate(names)]


def opened(visit: Visit) -> Any:
    """Run a function that torch has written in Python with the mode on, so that each call within it is crossed."""
    body = _body(visit.func)
    if body is None:
        return NotImplemented
    with visit.reopened():
        return body(*visit.args, **visit.kwargs)


@lru_cache(maxsize=256)
def _body(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return a Python function of torch's that does not hand itself to the mode once more; None for any other."""
    if not isinstance(function, FunctionType) or function.__module__ not in ("torch.nn.functional", "torch.functional"):
        return None
    asking = {name for name in function.__code__.co_names if name.startswith("has_torch_function")}
    if not asking:
        return None
    body = FunctionType(
        function.__code__,
        {**function.__globals__, **dict.fromkeys(asking, _never)},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    body.__kwdefaults__ = function.__kwdefaults__
    return body


def _never(*_: Any) -> bool:
    return False

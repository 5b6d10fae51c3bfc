"""How relevance crosses everything that is not a weighted layer: sums, products, activations, pooling, routing.

Each crossing takes a `Visit` and returns the call's output with its backward attached and a trace left on it; or
NotImplemented, where the call turns out to be one that it does not cover. None asks a tensor for its values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from visavis.propagation.rules import Passage, guarded
from visavis.propagation.shares import by_sign, parts_of, shared, shared_by_sign
from visavis.propagation.visit import Visit, cross, identity, tensors_in
from visavis.propagation.weighted import affine

# -- what moves values about -----------------------------------------------------------------------------------------


def route(visit: Visit) -> Any:
    """Reshaping, indexing, joining, padding: each value goes where it goes, and its relevance comes back."""
    visit.call.operation, visit.call.rule = "route", "route"
    return visit.leave(visit.native(), **_carried(visit))


def fill(visit: Visit) -> Any:
    """Routing that puts constants of unknown sign in places (`masked_fill`, `where`, setting items)."""
    adds = visit.argument(3, "accumulate", False) if visit.call.function.endswith("index_put") else False
    if adds or visit.kwargs.get("reduce") is not None:
        return visit.refused("it adds to what is in these places: write it as a sum, `x + y`")
    visit.call.operation, visit.call.rule = "route", "route"
    return visit.leave(visit.native(), gate=_gate(visit))


def pad(visit: Visit) -> Any:
    """`F.pad`: what is added is constant and takes no relevance; copies of the border return theirs."""
    visit.call.operation, visit.call.rule = "route", "route"
    value = visit.argument(2 if visit.call.function.endswith("constant_pad_nd") else 3, "value")
    carried = _carried(visit)
    carried["nonnegative"] = carried["nonnegative"] and (value is None or value >= 0)
    return visit.leave(visit.native(), **carried)


def set_item(visit: Visit) -> Any:
    """`x[index] = value`: what was there is lost, what is put there is routed."""
    visit.call.operation, visit.call.rule = "route", "route"
    x, index, value = visit.args
    written = x.clone()
    written[index] = value
    return visit.leave(written)


def winner(visit: Visit) -> Any:
    """Maxima and order statistics: the value that wins takes all, as torch's own backward has it."""
    visit.call.operation, visit.call.rule = "maximum", "winner takes all"
    return visit.leave(visit.native(), nonnegative=visit.nonnegative and not _other_floats(visit))


def cut(visit: Visit) -> Any:
    """`detach` and the like: what the model takes off the path is off it."""
    visit.call.operation, visit.call.rule = "cut", "none passes"
    return visit.value()


def _carried(visit: Visit) -> dict[str, Any]:
    """What routing leaves known: the sign, the gate, and the bounds of pixels, routed in the same way."""
    traces = visit.traces
    alone = not _other_floats(visit)
    pixel = all(trace.pixel for trace in traces)
    known: dict[str, Any] = {
        "nonnegative": alone and visit.nonnegative,
        "gate": _gate(visit),
        "pixel": pixel,
    }
    lows = [trace.low for trace in traces if trace.low is not None]
    highs = [trace.high for trace in traces if trace.high is not None]
    if pixel and len(lows) == len(highs) == len(visit.sources):
        known["low"], known["high"] = _routed(visit, lows), _routed(visit, highs)
        if not isinstance(known["low"], Tensor):
            del known["low"], known["high"]
    return known


def _gate(visit: Visit) -> bool:
    """Whether all that the call reads of the path are gates; so is then what it makes of them."""
    return all(trace.gate for trace in visit.traces)


def _routed(visit: Visit, bounds: list[Tensor]) -> Any:
    with torch.no_grad():
        return visit.with_sources(bounds)


def _other_floats(visit: Visit) -> bool:
    """Whether the call also reads floating-point tensors that are not on the path, whose signs are unknown."""
    return any(t.is_floating_point() and visit.trace(t) is None for t in tensors_in(visit.args, visit.kwargs))


def constant(visit: Visit) -> Any:
    """`zeros_like` and the like: only the shape is read, so the result is off the path."""
    return visit.value()


# -- one value in, one value out -------------------------------------------------------------------------------------


def passing(visit: Visit) -> Any:
    """An activation that keeps what is ≥ 0 there: relevance passes as it is."""
    return _pass(visit, nonnegative=visit.nonnegative)


def turning(visit: Visit) -> Any:
    """An activation that may turn the sign: relevance passes as it is."""
    return _pass(visit, nonnegative=False)


def rectifying(visit: Visit) -> Any:
    """An activation whose output is ≥ 0: relevance passes as it is."""
    return _pass(visit, nonnegative=True)


def gating(visit: Visit) -> Any:
    """A sigmoid or softmax: ≥ 0, and the one to give way where it multiplies a signal."""
    return _pass(visit, nonnegative=True, gate=True)


def inverting(visit: Visit) -> Any:
    """`reciprocal`: keeps the sign, and gives way where it multiplies a signal."""
    return _pass(visit, nonnegative=visit.nonnegative, gate=True)


def clamping(visit: Visit) -> Any:
    """`clamp` and `hardtanh`: relevance passes as it is."""
    low, high = visit.argument(1, "min"), visit.argument(2, "max")
    if visit.call.function.endswith("hardtanh"):
        low, high = visit.argument(1, "min_val", -1.0), visit.argument(2, "max_val", 1.0)
    floor = isinstance(low, int | float) and low >= 0
    ceiling = high is None or (isinstance(high, int | float) and high >= 0)
    return _pass(visit, nonnegative=ceiling and (floor or visit.nonnegative))


def power(visit: Visit) -> Any:
    """`x ** n` for a number n > 0: relevance passes as it is."""
    exponent = visit.argument(1, "exponent")
    if not isinstance(exponent, int | float) or exponent <= 0:
        return NotImplemented
    return _pass(visit, nonnegative=visit.nonnegative or exponent % 2 == 0)


def _pass(visit: Visit, *, nonnegative: bool, gate: bool = False) -> Any:
    if len(visit.sources) != 1:
        return NotImplemented
    visit.call.operation, visit.call.rule = "activation", "pass"
    out = cross(visit.value_over_input(), identity, visit.sources[0])
    return visit.leave(out, nonnegative=nonnegative, gate=gate or _gate(visit))


def dropout(visit: Visit) -> Any:
    """Dropout, stochastic depth: relevance passes as it is; at inference nothing happens."""
    value = visit.value()
    visit.call.operation, visit.call.rule = "activation", "pass"
    (x,) = visit.sources
    if value is x:
        return x
    trace = visit.trace(x)
    assert trace is not None
    # Alpha dropout puts negative values where it drops.
    nonnegative = trace.nonnegative and "alpha" not in visit.call.function
    return visit.leave(cross(value, identity, x), nonnegative=nonnegative, gate=trace.gate)


# -- sums and products -----------------------------------------------------------------------------------------------


def residual_sum(visit: Visit) -> Any:
    """`a + b`, `a − b`: two activations share by value or by magnitude; beside a constant see RuleSet.share."""
    name = visit.call.function.split(".")[-1]
    left, right = visit.argument(0, "input"), visit.argument(1, "other")
    alpha = visit.kwargs.get("alpha", 1)
    sign_left, sign_right = {
        "sub": (1, -alpha),
        "subtract": (1, -alpha),
        "__rsub__": (-1, 1),
        "rsub": (-alpha, 1),
    }.get(name, (1, alpha))
    visit.call.operation = "sum"
    value = visit.value()
    a, b = visit.trace(left), visit.trace(right)
    if a is None or b is None:
        return _sum_with_constant(visit, left, right, sign_left, sign_right, value)
    nonnegative = a.nonnegative and b.nonnegative and sign_left > 0 and sign_right > 0
    visit.call.rule = f"share, {visit.rules.share}"
    terms = (_times(left.detach(), sign_left), _times(right.detach(), sign_right))
    if visit.rules.share == "same-sign" and not nonnegative:
        move = shared_by_sign(terms, value.detach())
    else:
        total = value.detach() if nonnegative or visit.rules.share == "signed" else None
        move = shared(terms, total, absolute=visit.rules.share == "absolute" and not nonnegative)
    return visit.leave(cross(value, move, left, right), nonnegative=nonnegative)


def _times(x: Tensor, factor: float) -> Tensor:
    return x if isinstance(factor, int | float) and factor == 1 else x * factor


def _sum_with_constant(visit: Visit, left: Any, right: Any, sign_left: float, sign_right: float, value: Tensor) -> Any:
    x, constant, scale, factor = (
        (left, right, sign_left, sign_right) if visit.trace(left) is not None else (right, left, sign_right, sign_left)
    )
    trace = visit.trace(x)
    assert trace is not None
    known_sign = isinstance(constant, int | float) and constant * factor >= 0 and scale > 0
    shift = constant.detach() * factor if isinstance(constant, Tensor) else constant * factor
    return affine(visit, x, value, scale, shift, nonnegative=trace.nonnegative and known_sign)


def product(visit: Visit) -> Any:
    """`a · b`, `a / b`: a constant factor changes nothing; of two activations the signal takes all, the gate none."""
    left, right = visit.argument(0, "input"), visit.argument(1, "other")
    dividing = visit.call.function.split(".")[-1] in (
        "div",
        "divide",
        "true_divide",
        "__rdiv__",
        "__rtruediv__",
    )
    if visit.kwargs.get("rounding_mode") is not None:
        return NotImplemented
    a, b = visit.trace(left), visit.trace(right)
    visit.call.operation = "product"
    if a is None or b is None:
        return _product_with_constant(visit, left, right, dividing)
    value = visit.value()
    nonnegative = a.nonnegative and b.nonnegative
    signal = _signal(visit, left, right, value.shape, dividing)
    if signal is None:
        visit.call.rule = "half each"

        def halves(r: Tensor) -> tuple[Tensor, ...]:
            return (0.5 * r).sum_to_size(left.shape), (0.5 * r).sum_to_size(right.shape)

        return visit.leave(cross(value, halves, left, right), nonnegative=nonnegative, gate=_gate(visit))
    visit.call.rule, visit.call.note = (
        "signal takes all",
        f"the {'first' if signal is left else 'second'} factor",
    )
    shape = signal.shape
    gate = _gate(visit) or (dividing and a.gate)
    return visit.leave(cross(value, lambda r: r.sum_to_size(shape), signal), nonnegative=nonnegative, gate=gate)


def _signal(visit: Visit, left: Tensor, right: Tensor, shape: torch.Size, dividing: bool) -> Tensor | None:
    """Tell the signal from its gate: by what made them, else by what is broadcast; None where neither tells."""
    a, b = visit.trace(left), visit.trace(right)
    assert a is not None
    assert b is not None
    if dividing:
        return left
    full_left, full_right = left.shape == shape, right.shape == shape
    if a.gate != b.gate and (visit.rules.attention == "value" or full_left != full_right):
        return right if a.gate else left
    if full_left != full_right:
        return left if full_left else right
    return None


def _product_with_constant(visit: Visit, left: Any, right: Any, dividing: bool) -> Any:
    x, constant = (left, right) if visit.trace(left) is not None else (right, left)
    reciprocal = visit.call.function.split(".")[-1] in ("__rdiv__", "__rtruediv__")
    if reciprocal or (dividing and x is right):
        return NotImplemented  # constant / x: no share of it is x's in any sense that a rule gives
    trace = visit.trace(x)
    assert trace is not None
    scale = constant.detach() if isinstance(constant, Tensor) else constant
    if dividing:
        scale = 1 / scale
    known_sign = isinstance(constant, int | float) and constant >= 0
    # Without a shift the share by value is the whole: pass in either case.
    known: dict[str, Any] = {
        "nonnegative": trace.nonnegative and known_sign,
        "pixel": trace.pixel,
        "gate": trace.gate,
    }
    if trace.low is not None and trace.high is not None:
        ends = (trace.low * scale, trace.high * scale)
        known["low"], known["high"] = torch.minimum(*ends), torch.maximum(*ends)
    visit.call.rule, shape = "pass", x.shape
    return visit.leave(cross(visit.value(), lambda r: r.sum_to_size(shape), x), **known)


# -- fixed weighted sums ---------------------------------------------------------------------------------------------


def sampled(visit: Visit) -> Any:
    """`F.grid_sample`: a weighted sum of the picture's values; the grid, made by the model or given, is a constant."""
    x, grid = visit.argument(0, "input"), visit.argument(1, "grid")
    if visit.trace(x) is None:
        return NotImplemented
    constant = grid.detach()
    args = tuple(constant if a is grid else a for a in visit.args)
    kwargs = {name: constant if a is grid else a for name, a in visit.kwargs.items()}
    return fixed_sum(replace(visit, args=args, kwargs=kwargs, sources=(x,)))


def fixed_sum(visit: Visit) -> Any:
    """A linear function without parameters and with weights ≥ 0 (average pooling, mean, resizing).

    Its inputs share by value or by magnitude, weighted: R_i = x_i Σ_j a_ij R_j / Σ_i a_ij x_i. torch's own backward is
    the transposed map, so only the scaling before and after it is ours.
    """
    if len(visit.sources) != 1:
        return NotImplemented
    (x,) = visit.sources
    trace = visit.trace(x)
    assert trace is not None
    # The weights of these are negative in places, so only shares by value add up, and signs are not kept.
    # torch hands these arguments on by name, however the model gave them.
    turning = "bicubic" in (visit.kwargs.get("mode"), *visit.args) or bool(visit.kwargs.get("antialias"))
    visit.call.operation = "weighted sum"
    visit.call.rule = "share, signed" if turning else f"share, {visit.rules.share}"
    absolute = visit.rules.share == "absolute" and not trace.nonnegative and not turning
    values = x.detach()
    if visit.rules.share == "same-sign" and not trace.nonnegative and not turning:
        out = by_sign(visit.value(), [visit.with_sources([part]) for part in parts_of(x)])
        return visit.leave(out, pixel=trace.pixel, gate=trace.gate)
    passage = Passage()
    scaled = cross(values, lambda r: (values.abs() if absolute else values) * passage.leave(r), x)
    value = visit.with_sources([scaled])
    plain = value.detach()

    def divided(relevance: Tensor) -> Tensor:
        whole = plain
        if absolute:
            with torch.no_grad():
                whole = visit.with_sources([values.abs()])
        return passage.enter(relevance, guarded(whole))

    known: dict[str, Any] = {
        "nonnegative": trace.nonnegative and not turning,
        "pixel": trace.pixel,
        "gate": trace.gate,
    }
    if trace.low is not None and trace.high is not None and not turning:
        known["low"], known["high"] = _routed(visit, [trace.low]), _routed(visit, [trace.high])
    return visit.leave(cross(plain, divided, value), **known)

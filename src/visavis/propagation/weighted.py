"""Dense layers and convolutions: relevance crosses them by a rule; a batch norm that follows is folded in."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.errors import InputError
from visavis.propagation.contraction import contracted
from visavis.propagation.linear_maps import Convolution, Dense, LinearMap, convolution, dense, transposed_convolution
from visavis.propagation.rules import Move, Rule, Site, divided, guarded
from visavis.propagation.rulesets import RuleSet
from visavis.propagation.trace import Call
from visavis.propagation.visit import Visit, cross


class _Norm:
    """A batch norm by its statistics, as an affine map of each channel; what nothing asks for is not computed."""

    def __init__(self, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> None:
        self._mean, self._bias = mean, bias
        self._variance, self._weight, self._eps = variance, weight, eps

    @cached_property
    def scale(self) -> Tensor:
        with torch.no_grad():
            inverse = torch.rsqrt(self._variance + self._eps)
            return inverse if self._weight is None else inverse * self._weight

    @cached_property
    def shift(self) -> Tensor:
        with torch.no_grad():
            moved = self._mean * self.scale
            return -moved if self._bias is None else self._bias - moved


class Weighted:
    """A weighted call of one run: its rule, its input, and the batch norm folded into it.

    Denominators are computed in the backward pass: only then is it known who else read the output, and so whether
    the batch norm that followed belongs to this layer.
    """

    def __init__(self, call: Call, linear: LinearMap, rule: Rule, x: Tensor, *, nonnegative: bool, pixel: bool) -> None:
        # Not the call itself, which holds this crossing: memory is freed by reference counts, cycles would keep it.
        self.module = call.module
        self.kind = call.operation
        #: How many calls read the output; a batch norm is folded in only if nothing else does.
        self.readers = 0
        # Under autocast input and weight may differ in precision.
        dtype = torch.promote_types(x.dtype, linear.weight.dtype)
        bias = linear.bias
        self.linear = replace(linear, weight=linear.weight.to(dtype), bias=None if bias is None else bias.to(dtype))
        self.rule = rule
        #: Whether this rule, or the one that it has as one of the last layers, reads the output.
        self.keeps_output = rule.reads_output
        self.pixel = pixel
        self.x = x.to(dtype)
        self._input_dtype = x.dtype
        self.nonnegative = nonnegative
        self.low: Tensor | None = None
        self.high: Tensor | None = None
        self.z: Tensor | None = None
        self.norm: tuple[_Norm, Tensor | None] | None = None
        #: "plain", "negated" (W negated: the dual of CLRP2) or "difference" (plain minus negated).
        self.weights = "plain"
        #: How many maps will follow, as far as is known: what they share is kept.
        self.more = 0
        self._moves: dict[bool, Move] = {}

    @property
    def folded(self) -> bool:
        """Whether a batch norm is folded in: one follows, and nothing else read the output in between."""
        return self.norm is not None and self.readers == 1

    def release(self) -> None:
        """Let go of what the map was made of: the last one has passed."""
        del self.x
        self.z = self.low = self.high = None
        self._moves.clear()
        if self.norm is not None:
            self.norm = (self.norm[0], None)

    def __call__(self, relevance: Tensor) -> Tensor:
        relevance = relevance.to(self.x.dtype)
        if self.weights == "plain":
            moved = self._move(relevance, negated=False)
        else:
            moved = self._move(relevance, negated=True)
            moved = moved if self.weights == "negated" else self._move(relevance, negated=False) - moved
        return moved.to(self._input_dtype)

    def _move(self, relevance: Tensor, *, negated: bool) -> Tensor:
        move = self._moves.get(negated) or self.rule.at(self._site(negated))
        if self.more:
            self._moves[negated] = move
        return move(relevance)

    def _site(self, negated: bool) -> Site:
        linear, z = self.linear, self.z
        if self.norm is not None and self.folded:
            norm, z = self.norm
            shift = norm.shift.to(self.x.dtype) if self.rule.reads_bias else None
            linear = linear.folded(norm.scale.to(self.x.dtype), shift)
        if negated:
            linear, z = linear.negated(), None if z is None else -z
        linear = linear.laid_out_as(self.x)
        return Site(linear, self.x, z, self.nonnegative, self.low, self.high, maps=1 + self.more)


def linear(visit: Visit) -> Any:
    """`F.linear`."""
    weight, bias = visit.argument(1, "weight"), visit.argument(2, "bias")
    return weighted_by(visit, "linear", dense(weight, bias))


def convolutional(visit: Visit) -> Any:
    """`F.conv1d`, `F.conv2d`, `F.conv3d`."""
    weight, *rest = _bound(visit, ("weight", "bias", "stride", "padding", "dilation", "groups"))
    return weighted_by(visit, "convolution", convolution(weight, *_or(rest, (None, 1, 0, 1, 1))))


def transposed_convolutional(visit: Visit) -> Any:
    """`F.conv_transpose1d`, `2d`, `3d`."""
    names = ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    weight, *rest = _bound(visit, names)
    return weighted_by(visit, "convolution", transposed_convolution(weight, *_or(rest, (None, 1, 0, 0, 1, 1))))


def product_with_matrix(visit: Visit) -> Any:
    """`x @ W` with a constant matrix W (in, out): a dense layer written out."""
    x, matrix = visit.argument(0, "input"), visit.argument(1, "other", visit.argument(1, "mat2"))
    return weighted_by(visit, "linear", dense(matrix.T), x)


def sum_with_product(visit: Visit) -> Any:
    """`torch.addmm(b, x, W)` with a constant vector b and a constant matrix W (in, out)."""
    bias, x, matrix = visit.argument(0, "input"), visit.argument(1, "mat1"), visit.argument(2, "mat2")
    plain = visit.kwargs.get("alpha", 1) == 1 and visit.kwargs.get("beta", 1) == 1
    if visit.trace(x) is None or len(visit.sources) != 1 or not plain or bias.dim() != 1:
        return NotImplemented
    return weighted_by(visit, "linear", dense(matrix.T, bias), x)


def weighted_by(visit: Visit, kind: str, linear_map: LinearMap, x: Tensor | None = None) -> Any:
    """Leave a weighted call with the rule that the rule set has for it; `kind` is "linear" or "convolution"."""
    x = visit.argument(0, "input") if x is None else x
    trace = visit.trace(x)
    if trace is None or len(visit.sources) != 1:
        return _made_at_run_time(visit)
    call, rule = visit.call, visit.rules.rule_for(visit.call.module, kind, trace.pixel)
    call.operation, call.rule = kind, repr(rule)
    call.note = "pixels" if trace.pixel else ""
    crossing = Weighted(call, _detached(linear_map), rule, x.detach(), nonnegative=trace.nonnegative, pixel=trace.pixel)
    crossing.keeps_output |= visit.rules.rule_for(call.module, kind, trace.pixel, last=True).reads_output
    crossing.low, crossing.high = trace.low, trace.high
    call.weighted = crossing
    value = visit.value()
    if crossing.keeps_output:
        crossing.z = value.detach()
    call.spare = not crossing.keeps_output
    return visit.leave(cross(value, crossing, x), gate=trace.gate)


def _made_at_run_time(visit: Visit) -> Any:
    """A layer whose weight depends on the input: a product of two activations, summed over."""
    x, weight, bias = visit.argument(0, "input"), visit.argument(1, "weight"), visit.argument(2, "bias")
    if not isinstance(weight, Tensor) or bias is not None:
        return NotImplemented
    rest = visit.args[2:]
    named = {name: value for name, value in visit.kwargs.items() if name not in ("input", "weight")}
    return contracted(visit, (x, weight), lambda factors: visit.func(*factors, *rest, **named))


def _detached(linear_map: LinearMap) -> LinearMap:
    bias = linear_map.bias
    return replace(linear_map, weight=linear_map.weight.detach(), bias=None if bias is None else bias.detach())


def _bound(visit: Visit, names: tuple[str, ...]) -> list[Any]:
    return [visit.argument(position, name) for position, name in enumerate(names, start=1)]


def _or(values: list[Any], defaults: tuple[Any, ...]) -> list[Any]:
    return [default if value is None else value for value, default in zip(values, defaults, strict=True)]


def batch_norm(visit: Visit) -> Any:
    """`F.batch_norm`: folded into the layer before it, else an affine map of each channel.

    In training mode the statistics of the batch are taken as constants, as at inference; the model's running
    statistics are not updated.
    """
    mean, variance, weight, bias, training, momentum, eps = statistics_of(visit, "training", torch.batch_norm)
    x = visit.argument(0, "input")
    trace = visit.trace(x)
    if trace is None or len(visit.sources) != 1:
        return NotImplemented
    eps = 1e-5 if eps is None else eps
    training = bool(training) or mean is None
    with torch.no_grad():
        if training:
            kept_mean, kept_variance = (None if kept is None else kept.clone() for kept in (mean, variance))
            momentum = 0.1 if momentum is None else momentum
            value = F.batch_norm(x, kept_mean, kept_variance, weight, bias, True, momentum, eps)
            dimensions = [d for d in range(x.dim()) if d != 1]
            variance, mean = torch.var_mean(x, dimensions, correction=0)
            visit.call.note = "batch statistics as constants"
        else:
            value = visit.value()
    norm = _Norm(mean, variance, weight, bias, eps)
    visit.call.operation = "normalization"
    over_channels = (1, -1, *(1,) * (x.dim() - 2))
    before = trace.call.weighted if trace.call is not None else None
    if not isinstance(before, Weighted) or before.norm is not None or not _gives_channels(before, x):
        return affine(visit, x, value, norm.scale.view(over_channels), norm.shift.view(over_channels))
    before.norm = (norm, value if before.keeps_output else None)
    visit.call.rule = "folded into the layer before"
    visit.call.spare = not before.keeps_output and not _absorbs(visit.rules)
    unfolded = affine_move(visit, x, value, norm.scale.view(over_channels) if _absorbs(visit.rules) else 1)
    # Who else reads the layer's output is known, and `folded` settled, only when the backward pass begins.
    return visit.leave(cross(value, lambda r: r if before.folded else unfolded(r), x))


def statistics_of(visit: Visit, switch: str, bare: Any) -> list[Any]:
    """Return running mean and variance, weight, bias, the switch for the input's own statistics, momentum and eps.

    The bare functions of torch (`torch.batch_norm`, `torch.instance_norm`) take weight and bias first.
    """
    running, affine_names = ("running_mean", "running_var"), ("weight", "bias")
    names = (*affine_names, *running) if visit.func is bare else (*running, *affine_names)
    first = dict(zip(names, _bound(visit, names), strict=True))
    rest = [visit.argument(position, name) for position, name in enumerate((switch, "momentum", "eps"), start=5)]
    return [first[name] for name in (*running, *affine_names)] + rest


def _gives_channels(before: Weighted, x: Tensor) -> bool:
    """Whether dimension 1 of a layer's output holds its output channels, as batch norm takes it."""
    if isinstance(before.linear, Dense):
        return x.dim() == 2
    return isinstance(before.linear, Convolution) and x.dim() == before.linear.dimensions + 2


def affine(visit: Visit, x: Tensor, value: Tensor, scale: Any, shift: Any, *, nonnegative: bool = False) -> Any:
    """Leave `value` = scale · x + shift, with constants that broadcast over x, as a crossing."""
    trace = visit.trace(x)
    assert trace is not None
    known: dict[str, Any] = {"nonnegative": nonnegative, "pixel": trace.pixel, "gate": trace.gate}
    if trace.low is not None and trace.high is not None:
        with torch.no_grad():
            ends = [end * scale + shift for end in (trace.low, trace.high)]
        known["low"], known["high"] = torch.minimum(*ends), torch.maximum(*ends)
    visit.call.rule = "by value, the constant absorbs" if _absorbs(visit.rules) else "pass"
    return visit.leave(cross(value, affine_move(visit, x, value, scale), x), **known)


def _absorbs(rules: RuleSet) -> bool:
    """Whether a constant takes its share of the relevance of a sum."""
    return rules.share == "signed" and rules.bias == "absorb"


def affine_move(visit: Visit, x: Tensor, value: Tensor, scale: Any) -> Any:
    """Return how relevance crosses `value` = scale · x + shift: the shift takes its share, or none (RuleSet.share)."""
    shape = x.shape
    if not _absorbs(visit.rules):
        return lambda r: r.sum_to_size(shape)
    x, value = x.detach(), value.detach()

    def move(relevance: Tensor) -> Tensor:
        share: Tensor = x * scale * divided(relevance, guarded(value))
        return share.sum_to_size(shape)

    return move


def last_weighted(call: Call | None) -> list[tuple[Call, Weighted]]:
    """Return the weighted calls that are met first on the way back from an output."""
    found: list[tuple[Call, Weighted]] = []
    seen: set[int] = set()
    waiting = [call]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current.weighted, Weighted):
            found.append((current, current.weighted))
        else:
            waiting.extend(current.sources)
    return found


def negatable(call: Call | None) -> list[Weighted]:
    """Return the last weighted calls, whose weights CLRP2 negates; or say why that gives no contrast."""
    found = [weighted for _, weighted in last_weighted(call)]
    if not found:
        raise InputError(
            'the foil "negated" negates the weights of the last weighted layer, and no rule crosses one here; '
            'choose the foil "others"'
        )
    for weighted in found:
        if not weighted.rule.tells_signs:
            raise InputError(
                f'the foil "negated" leaves the map of {weighted.rule!r} as it is, and so no contrast: '
                f"give the last weighted layer ({weighted.module or 'the model itself'!r}) a rule that tells "
                f'signs apart, such as ZPlus() (rule set "deep-taylor"), or choose the foil "others"'
            )
    return found

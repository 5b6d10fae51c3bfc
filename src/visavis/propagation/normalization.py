"""How relevance crosses normalisation by statistics of the very instance: layer, group, instance and RMS norm.

The stated rule, that of AttnLRP (Achtibat et al. 2024, sec. 3.3): the scale 1 / σ is taken as a constant, as it is for
a batch norm at inference; what is left is linear in x. With `RuleSet.share` "signed" that map, its centring and its
shift included, is crossed by LRP-0, and the shift absorbs its share; else each value passes its relevance on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from visavis.propagation.crossings import passing
from visavis.propagation.rules import Passage, divided, guarded
from visavis.propagation.visit import Visit, cross, identity
from visavis.propagation.weighted import affine, statistics_of

#: Shape a tensor so that its last dimension holds the values that share their statistics.
Grouping = Callable[[Tensor], Tensor]


def layer_norm(visit: Visit) -> Any:
    """`F.layer_norm`: mean and variance over the last dimensions, scale and shift a value."""
    shape, weight, bias, eps = _arguments(visit, "normalized_shape", "weight", "bias", "eps")
    axes = _axes(shape)
    return _normalised(visit, lambda x: x.flatten(-axes), weight, bias, 1e-5 if eps is None else eps, centred=True)


def rms_norm(visit: Visit) -> Any:
    """`F.rms_norm`: the mean square over the last dimensions, a scale a value; no mean is taken off."""
    shape, weight, eps = _arguments(visit, "normalized_shape", "weight", "eps")
    axes = _axes(shape)
    x = visit.argument(0, "input")
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _normalised(visit, lambda x: x.flatten(-axes), weight, None, eps, centred=False)


def group_norm(visit: Visit) -> Any:
    """`F.group_norm`: mean and variance over the channels of a group and all positions, scale and shift a channel."""
    groups, weight, bias, eps = _arguments(visit, "num_groups", "weight", "bias", "eps")
    weight, bias = (_over_channels(values, visit.argument(0, "input")) for values in (weight, bias))
    return _normalised(
        visit, lambda x: x.reshape(len(x), groups, -1), weight, bias, 1e-5 if eps is None else eps, centred=True
    )


def instance_norm(visit: Visit) -> Any:
    """`F.instance_norm`: mean and variance over the positions of a channel; or running ones, as constants."""
    mean, variance, weight, bias, of_input, _, eps = statistics_of(visit, "use_input_stats", torch.instance_norm)
    x = visit.argument(0, "input")
    if len(visit.sources) != 1 or visit.trace(x) is None:
        return NotImplemented
    eps = 1e-5 if eps is None else eps
    if of_input is None or of_input:
        kept = {id(m): m.clone() for m in (mean, variance) if m is not None}  # running statistics are not updated
        visit.args = tuple(kept.get(id(a), a) for a in visit.args)
        visit.kwargs = {name: kept.get(id(a), a) for name, a in visit.kwargs.items()}
        return _normalised(
            visit, lambda x: x.flatten(2), _over_channels(weight, x), _over_channels(bias, x), eps, centred=True
        )
    visit.call.operation = "normalization"
    factor = torch.rsqrt(variance + eps) * (1 if weight is None else weight)
    added = (0 if bias is None else bias) - mean * factor
    return affine(visit, x, visit.value(), _over_channels(factor, x), _over_channels(added, x))


def scaled_by_neighbours(visit: Visit) -> Any:
    """`F.local_response_norm`, `F.normalize`: divided by a norm that is taken as a constant; relevance passes."""
    output = passing(visit)
    visit.call.operation, visit.call.note = "normalization", "the norm as a constant"
    return output


def statistic(visit: Visit) -> Any:
    """`norm`, `std`, `var`: a gate where it scales a signal; else its inputs share by input times gradient."""
    return _homogeneous(visit, 2 if visit.call.function.split(".")[-1] == "var" else 1, nonnegative=True)


def grid_of(visit: Visit) -> Any:
    """`F.affine_grid`: where to sample, which is a gate beside what is sampled."""
    return _homogeneous(visit, 1, nonnegative=False)


def _homogeneous(visit: Visit, degree: int, *, nonnegative: bool) -> Any:
    """Cross a function y(c x) = c^degree y(x): by Euler's theorem the shares x_i ∂y/∂x_i / (degree · y) add up to 1."""
    if len(visit.sources) != 1:
        return NotImplemented
    (x,) = visit.sources
    values = x.detach()
    passage = Passage()
    inner = visit.with_sources([cross(values, lambda r: values * passage.leave(r), x)])
    output = inner.detach()
    visit.call.operation, visit.call.rule = "statistic", "input times gradient"
    out = cross(output, lambda r: passage.enter(r, guarded(output)) / degree, inner)
    return visit.leave(out, nonnegative=nonnegative, gate=True)


def _arguments(visit: Visit, *names: str) -> list[Any]:
    return [visit.argument(position, name) for position, name in enumerate(names, start=1)]


def _axes(shape: Any) -> int:
    return 1 if isinstance(shape, int) else len(tuple(shape))


def _over_channels(values: Tensor | None, x: Tensor) -> Tensor | None:
    return None if values is None else values.view(-1, *(1,) * (x.dim() - 2))


def _normalised(
    visit: Visit, grouped: Grouping, weight: Tensor | None, shift: Tensor | None, eps: float, *, centred: bool
) -> Any:
    x = visit.argument(0, "input")
    trace = visit.trace(x)
    if trace is None or len(visit.sources) != 1:
        return NotImplemented
    visit.call.operation, visit.call.note = "normalization", "the instance's statistics as constants"
    value = visit.value()
    known: dict[str, Any] = {"pixel": trace.pixel}
    if visit.rules.share != "signed":
        visit.call.rule = "pass"
        return visit.leave(cross(value, identity, x), **known)
    spreading = visit.rules.bias == "spread"
    visit.call.rule = "by value" if spreading else "by value, the constant absorbs"
    values, output = x.detach(), value.detach()
    weight, shift = (None if constant is None else constant.detach() for constant in (weight, shift))

    def lost(relevance: Tensor) -> Tensor:
        kept: Tensor = output if shift is None else output - shift
        return relevance - kept * divided(relevance, guarded(output))

    def move(relevance: Tensor) -> Tensor:
        groups: Tensor = grouped(values)
        deviation = groups - groups.mean(-1, keepdim=True) if centred else groups
        scale = torch.rsqrt(deviation.square().mean(-1, keepdim=True) + eps)
        share = divided(relevance, guarded(output))
        share = grouped(share if weight is None else share * weight)
        if centred:
            share = share - share.mean(-1, keepdim=True)
        moved: Tensor = values * (share * scale).view_as(values)
        return moved + lost(relevance) if spreading else moved

    return visit.leave(cross(value, move, x), **known)

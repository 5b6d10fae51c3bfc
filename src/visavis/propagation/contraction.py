"""How relevance crosses products of activations that are summed over: matrix products, einsum, run-time weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from visavis.propagation.rules import Passage, guarded
from visavis.propagation.shares import by_sign, parts_of
from visavis.propagation.visit import Visit, cross

#: A function of factors that is linear in each.
Multilinear = Callable[[Sequence[Tensor]], Tensor]


def contracted(visit: Visit, factors: Sequence[Tensor], rebuild: Multilinear) -> Any:
    """Cross a function that is linear in each of `factors`, several of which are on the path, or gates.

    By `RuleSet.attention` "value" gates are constants and the other factors take all; where no factor is a gate, or by
    "uniform", each takes the same part. Within a factor relevance is shared by value or by magnitude (`RuleSet.share`):
    R_i = a_i Σ_j b_ij R_j / (k o_j) for o_j = Σ_i a_i b_ij and k factors that take a part.

    Args:
        visit: the call.
        factors: the tensors that it multiplies.
        rebuild: the same function of other factors.
    """
    traces = [visit.trace(factor) for factor in factors]
    on_path = [i for i, trace in enumerate(traces) if trace is not None]
    taking = [i for i in on_path if not _gives_way(visit, factors[i])] or on_path
    nonnegative = len(on_path) == len(factors) and all(trace is not None and trace.nonnegative for trace in traces)
    absolute = visit.rules.share == "absolute" and not nonnegative
    visit.call.operation = "contraction"
    part = f"1/{len(taking)} each" if len(taking) > 1 else "one factor takes all"
    visit.call.rule = f"{part}, share, {visit.rules.share}"
    value = visit.value()
    if visit.rules.share == "same-sign" and not nonnegative:
        return visit.leave(_by_sign(value, factors, taking, rebuild))
    passage = Passage()
    inner = rebuild([_scaled(f, absolute, passage, taking=i in taking) for i, f in enumerate(factors)])
    whole, parts = (inner.detach() if absolute else value.detach()), len(taking)
    out = cross(value, lambda relevance: passage.enter(relevance, guarded(whole)) / parts, inner)
    return visit.leave(out, nonnegative=nonnegative)


def _by_sign(value: Tensor, factors: Sequence[Tensor], taking: Sequence[int], rebuild: Multilinear) -> Tensor:
    """Cross a product whose positive contributions take the relevance of positive outputs, its negative the others'."""
    halves = [parts_of(f) if i in taking else _halves(f) for i, f in enumerate(factors)]
    sums: list[list[Tensor]] = [[], []]
    for choice in itertools.product((0, 1), repeat=len(factors)):
        chosen = [half[side] for half, side in zip(halves, choice, strict=True)]
        if all(part is not None for part in chosen):
            sums[sum(choice) % 2].append(rebuild(chosen))
    totals = [reduce(torch.add, terms) for terms in sums]
    scaled = [cross(total.detach(), lambda r: r / len(taking), total) for total in totals]
    return by_sign(value, scaled)


def _halves(factor: Tensor) -> tuple[Tensor, Tensor]:
    return factor.detach().clamp(min=0), factor.detach().neg().clamp(min=0)


def _gives_way(visit: Visit, factor: Tensor) -> bool:
    trace = visit.trace(factor)
    return visit.rules.attention == "value" and trace is not None and trace.gate


def _scaled(factor: Tensor, absolute: bool, passage: Passage, *, taking: bool) -> Tensor:
    """Return a factor, or its magnitude; where it takes a part, its gradient times itself goes back, as relevance."""
    values = factor.detach().abs() if absolute else factor.detach()
    return cross(values, lambda gradient: values * passage.leave(gradient), factor) if taking else values

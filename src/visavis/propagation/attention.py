"""How relevance crosses attention: softmax, products of activations that are summed over, and what is made of these.

Two rules, by `RuleSet.attention`:

- "value" (CP-LRP: Ali et al. 2022): attention weights are gates. They are taken as constants, and the values take all:
  R_i = v_i Σ_j a_ji R_j / o_j, or by magnitude (`RuleSet.share`).
- "uniform" (AttnLRP: Achtibat et al. 2024): both factors of a product take half (eq. 14), and relevance crosses the
  softmax by its Taylor expansion (eq. 13), R_i = x_i (R_i − s_i Σ_j R_j), and so reaches queries and keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visavis.propagation.composites import written_out
from visavis.propagation.contraction import Multilinear, contracted
from visavis.propagation.crossings import fixed_sum, gating
from visavis.propagation.linear_maps import Contraction
from visavis.propagation.visit import Visit, cross
from visavis.propagation.weighted import product_with_matrix, weighted_by

# -- softmax ---------------------------------------------------------------------------------------------------------


def softmax(visit: Visit) -> Any:
    """`softmax`: a gate; by the rule "uniform" its relevance is that of its Taylor expansion."""
    if visit.rules.attention == "value" or len(visit.sources) != 1:
        return gating(visit)
    (x,) = visit.sources
    dim = visit.argument(1, "dim")
    value = visit.value()
    visit.call.operation, visit.call.rule = "softmax", "Taylor expansion"
    values, weights = x.detach(), value.detach()
    if dim is None:  # torch's guess
        dim = 0 if x.dim() in (0, 1, 3) else 1

    def move(relevance: Tensor) -> Tensor:
        moved: Tensor = values * (relevance - weights * relevance.sum(dim, keepdim=True))
        return moved.masked_fill(values.isinf(), 0)  # what is masked out had no part in it

    return visit.leave(cross(value, move, x), nonnegative=True, gate=True)


# -- products that are summed over -----------------------------------------------------------------------------------


def matrix_product(visit: Visit) -> Any:
    """`matmul`, `bmm`, `@`: a dense layer where the right factor is one constant matrix, else any product."""
    (_, right), _ = _factors(visit)
    if visit.trace(right) is None and right.dim() == 2 and visit.call.function != "Tensor.__rmatmul__":
        return product_with_matrix(visit)
    return any_product(visit)


def any_product(visit: Visit) -> Any:
    """Any function of two factors that is linear in each: a layer where one is constant, else a product."""
    factors, rebuild = _factors(visit)
    return _product(visit, factors, rebuild)


def _factors(visit: Visit) -> tuple[tuple[Tensor, ...], Multilinear]:
    """Return the first two arguments, by position or by whatever name torch has for them, and the call of others."""
    named = [name for name, value in visit.kwargs.items() if isinstance(value, Tensor)]
    keys: list[int | str] = [*range(min(2, len(visit.args))), *named][:2]
    given: dict[Any, Any] = {**dict(enumerate(visit.args)), **visit.kwargs}

    def rebuild(factors: Sequence[Tensor]) -> Tensor:
        table = {**given, **dict(zip(keys, factors, strict=True))}
        args = [table[place] for place in range(len(visit.args))]
        result: Tensor = visit.func(*args, **{name: table[name] for name in visit.kwargs})
        return result

    return tuple(given[key] for key in keys), rebuild


def einsum(visit: Visit) -> Any:
    """`torch.einsum` with any number of factors; those on the path share as those of a product do."""
    equation, *given = visit.args
    if not isinstance(equation, str):
        return NotImplemented
    factors = tuple(given[0]) if len(given) == 1 and isinstance(given[0], list | tuple) else tuple(given)
    if len(factors) == 1:  # permutes, takes a diagonal, sums
        return fixed_sum(visit)
    return _product(visit, factors, lambda factors: torch.einsum(equation, *factors))


def sum_with_batched_product(visit: Visit) -> Any:
    """`torch.baddbmm`: the products, then the sum."""
    names = ("input", "batch1", "batch2")
    added, left, right = (visit.argument(position, name) for position, name in enumerate(names))
    beta, alpha = visit.kwargs.get("beta", 1), visit.kwargs.get("alpha", 1)
    return written_out(visit, "product", lambda: added * beta + torch.bmm(left, right) * alpha)


def _product(visit: Visit, factors: tuple[Tensor, ...], rebuild: Multilinear) -> Any:
    on_path = [i for i, factor in enumerate(factors) if visit.trace(factor) is not None]
    if len(on_path) != 1 or len(factors) != 2:
        return contracted(visit, factors, rebuild)
    (at,) = on_path

    def call(x: Tensor, weight: Tensor) -> Tensor:
        return rebuild((x, weight) if at == 0 else (weight, x))

    return weighted_by(visit, "linear", Contraction(factors[1 - at], None, call), factors[at])


# -- what is made of these -------------------------------------------------------------------------------------------


def scaled_dot_product_attention(visit: Visit) -> Any:
    """`F.scaled_dot_product_attention`: crossed as the softmax and the two products that it stands for."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    query, key, values, mask, dropout, causal, scale, grouped = (visit.argument(p, n) for p, n in enumerate(names))
    if dropout:
        # Which weights were dropped cannot be seen from outside.
        return visit.refused("it drops attention weights (dropout_p) as in training: call model.eval() first")
    return written_out(
        visit, "attention", lambda: _attention(query, key, values, mask, bool(causal), scale, bool(grouped))
    )


def _attention(
    query: Tensor, key: Tensor, values: Tensor, mask: Tensor | None, causal: bool, scale: float | None, grouped: bool
) -> Tensor:
    """Attention, written out: softmax(q kᵀ scale + mask) v."""
    if grouped:
        repeats = query.shape[-3] // key.shape[-3]
        key, values = key.repeat_interleave(repeats, -3), values.repeat_interleave(repeats, -3)
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        # A query that may attend to nothing (padding, as a rule) gets 0, where the softmax alone would say NaN.
        nothing = (scores == -torch.inf).all(-1, keepdim=True)
        weights = scores.masked_fill(nothing, 0.0).softmax(-1).masked_fill(nothing, 0.0)
    else:
        weights = scores.softmax(-1)
    result: Tensor = weights @ values
    return result

"""How the relevance of a sum is shared among what was summed (`RuleSet.share`): by value, by magnitude, by sign."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from visavis.propagation.rules import divided, guarded
from visavis.propagation.visit import Moves, cross


def shared(terms: tuple[Tensor, Tensor], total: Tensor | None, *, absolute: bool) -> Moves:
    """Share the relevance of a + b by value or by magnitude; `total` is the sum where it is the denominator too."""

    def move(relevance: Tensor) -> tuple[Tensor, ...]:
        a, b = (term.abs() for term in terms) if absolute else terms
        share = divided(relevance, guarded(a + b, 1 if absolute else 0) if total is None else guarded(total))
        return (a * share).sum_to_size(a.shape), (b * share).sum_to_size(b.shape)

    return move


def shared_by_sign(terms: tuple[Tensor, Tensor], value: Tensor) -> Moves:
    """Share the relevance of `value` = a + b among what has its sign."""

    def move(relevance: Tensor) -> tuple[Tensor, ...]:
        sign = value.sign()
        a, b = ((term * sign).clamp(min=0) for term in terms)
        share = divided(relevance, guarded(a + b))
        return (a * share).sum_to_size(terms[0].shape), (b * share).sum_to_size(terms[1].shape)

    return move


def parts_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x⁺ and x⁻ (≥ 0), whose gradients, times themselves, go back to x as relevance."""
    positive, negative = x.detach().clamp(min=0), x.detach().neg().clamp(min=0)
    return cross(positive, lambda g: positive * g, x), cross(negative, lambda g: negative * g, x)


def by_sign(value: Tensor, sums: Sequence[Tensor]) -> Tensor:
    """Leave `value` = sums[0] − sums[1], where a positive value came from the one, a negative from the other."""
    positive, negative = (s.detach() for s in sums)

    def move(relevance: Tensor) -> tuple[Tensor, ...]:
        above = torch.where(value > 0, relevance, 0) / guarded(positive)
        below = torch.where(value < 0, relevance, 0) / guarded(negative)
        return above, below

    return cross(value.detach(), move, *sums)

"""How wide the window is: as wide as it may be while the mimic still says what the classifier says.

Baehrens et al. 2010 take σ* = argmin Σ_j 1[ĝ_σ(x_j) ≠ g(x_j)]: agreement with the classifier, not with the truth.
Here each point is left out in turn, in place of one split in two. Many widths agree nearly as often, and the narrow
ones among them have the noisier gradients; so by default the widest is taken whose agreement is within one standard
error of the best (the rule of Breiman et al. 1984 for pruning).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from visavis.blackbox.parzen import counted_chunks, squared_distances
from visavis.errors import InputError

# Beyond these their fourth powers leave the range of floats.
_NARROW, _WIDE = 1e-70, 1e70
#: How the width is chosen from the candidates.
CHOICES = ("one-standard-error", "best")
# From a part of the distance between neighbours to the distance between any two points.
_CANDIDATES, _NARROWEST = 24, 0.25


@dataclass(frozen=True)
class Chosen:
    """A width, and what it was chosen from.

    Attributes:
        bandwidth: σ.
        agreement: with the classifier, each point left out in turn, in [0, 1].
        candidates: each width with its agreement, ascending.
        points: of how many points the agreement is the mean.
    """

    bandwidth: float
    agreement: float
    candidates: tuple[tuple[float, float], ...]
    points: int


def choose_bandwidth(
    points: Tensor, labels: Tensor, classes: int, wish: str | float | Sequence[float], tried: Tensor
) -> Chosen:
    """Choose how wide the window is.

    Args:
        points, labels, classes: as `ParzenWindow` has them.
        wish: "one-standard-error", "best" (the widest of the best), a width, or candidates.
        tried: (V,), int64, which points are left out in turn.

    Raises:
        InputError: the wish is none of these.
    """
    rule, given = _wished(wish)
    candidates = given if given is not None else _candidates(points, tried)
    agreement = leave_one_out(points, labels, classes, candidates, tried)
    best = max(agreement)
    slack = sqrt(best * (1 - best) / len(tried)) if rule == "one-standard-error" else 0.0
    at = max(place for place, one in enumerate(agreement) if one >= best - slack)
    pairs = tuple(zip(candidates, agreement, strict=True))
    return Chosen(candidates[at], agreement[at], pairs, len(tried))


def check_bandwidth(wish: object) -> None:
    """Refuse what is neither a way to choose a width, nor a width, nor several."""
    _wished(wish)


def _wished(wish: object) -> tuple[str, list[float] | None]:
    if isinstance(wish, str):
        if wish not in CHOICES:
            raise InputError(f"bandwidth is {wish!r}, but {' or '.join(CHOICES)}, a width, or several were expected")
        return wish, None
    try:
        widths = sorted({float(one) for one in np.atleast_1d(np.asarray(wish, dtype=np.float64))})
    except (TypeError, ValueError) as error:
        raise InputError(f"bandwidth is {wish!r}, but {', '.join(CHOICES)}, or numbers were expected") from error
    if not widths or not all(_NARROW < one < _WIDE for one in widths):
        raise InputError(f"bandwidth is {wish!r}, but widths are from {_NARROW} to {_WIDE}, in units of scale")
    return CHOICES[0], widths


def _candidates(points: Tensor, tried: Tensor) -> list[float]:
    near, typical = _distances(points, tried)
    if not near > 0:
        raise InputError("all rows are the same, so there is nothing to tell classes apart by; give rows that differ")
    return [float(one) for one in np.geomspace(_NARROWEST * near, typical, _CANDIDATES)]


def _distances(points: Tensor, tried: Tensor) -> tuple[float, float]:
    """Return the median distance to the nearest other point, and to any: of points that are not the same."""
    nearest, middle = [], []
    for _, here in counted_chunks(tried, len(points)):
        apart = squared_distances(points[here], points).sqrt()
        nearest.append(torch.where(apart > 0, apart, torch.inf).amin(1))
        middle.append(torch.where(apart > 0, apart, torch.nan).nanmedian(1).values)
    near, any_ = torch.cat(nearest), torch.cat(middle)
    near, any_ = near[near.isfinite()], any_[any_.isfinite()]
    if not len(near):
        return 0.0, 0.0
    return float(near.median()), max(float(any_.median()), float(near.median()))


def leave_one_out(
    points: Tensor, labels: Tensor, classes: int, bandwidths: Sequence[float], tried: Tensor
) -> list[float]:
    """Return for each width how often the window of all other points calls a point what it is called.

    Args:
        points, labels, classes: as `ParzenWindow` has them.
        bandwidths: the widths.
        tried: (V,), which points are left out in turn.
    """
    counts = torch.bincount(labels, minlength=classes).tolist()
    agreed = torch.zeros(len(bandwidths), dtype=torch.int64)
    for start, here in counted_chunks(tried, len(points)):
        rows = points[here]
        inner = rows @ points.T - points.square().sum(1) / 2
        # The point itself says nothing of what the others say.
        inner[torch.arange(len(here), device=inner.device), tried[start : start + len(here)]] = -torch.inf
        for place, width in enumerate(bandwidths):
            sums = torch.stack([one.logsumexp(1) for one in torch.split(inner / width**2, counts, 1)], 1)
            agreed[place] += int((sums.argmax(1) == labels[here]).sum())
    return [float(one) / len(tried) for one in agreed]


__all__ = ["CHOICES", "Chosen", "check_bandwidth", "choose_bandwidth", "leave_one_out"]

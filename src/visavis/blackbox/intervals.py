"""How far a vector would move had other rows been labelled: 95 % intervals by bootstrap of the mimic's rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.blackbox.parzen import ParzenWindow

_ENDS = (2.5, 97.5)
# Weights held at a time: 2²² of 8 bytes are 32 MiB.
_AT_ONCE = 2**22

Interval = tuple[NDArray[np.float64], NDArray[np.float64]]


def vector_intervals(
    window: ParzenWindow, rows: Tensor, target: Tensor, foils: Tensor, *, of_odds: bool, draws: int, seed: int
) -> Interval:
    """Return both ends of the 95 % percentile intervals (Efron 1979) of each component, each (M, d).

    In each draw the mimic's rows are drawn anew, with replacement; the width stays. A draw that has no row of the
    target, or of the foils, has no vector and is left out; NaN where none has one.

    Args:
        window: the mimic's.
        rows, target, foils: as for `ParzenWindow.log_odds_gradient`.
        of_odds: of ∇ log odds; else of ∇ P(Y ≠ target).
        draws: how many, at least 2.
        seed: of the draws, which all rows share.
    """
    low, high = np.empty(rows.shape), np.empty(rows.shape)
    for place in range(len(rows)):
        here = slice(place, place + 1)
        drawn = _drawn(window, rows[here], target[here], foils[here], of_odds, draws, np.random.default_rng(seed))
        some = np.isfinite(drawn).all(1)
        ends = np.percentile(drawn[some], _ENDS, axis=0) if some.any() else np.full((2, rows.shape[1]), np.nan)
        low[place], high[place] = ends
    return low, high


def _drawn(
    window: ParzenWindow,
    row: Tensor,
    target: Tensor,
    foils: Tensor,
    of_odds: bool,
    draws: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the vector of each draw, (draws, d)."""
    kernel = window.log_kernel(row)[0]
    one, other = (group[0] for group in window.groups(target, foils))
    count, parts = len(kernel), []
    step = max(1, _AT_ONCE // count)
    for start in range(0, draws, step):
        times = generator.multinomial(count, np.full(count, 1 / count), size=min(step, draws - start))
        taken = torch.from_numpy(times).to(kernel)
        log_one, mean_one = _group(kernel[one], taken[:, one], window.points[one])
        log_other, mean_other = _group(kernel[other], taken[:, other], window.points[other])
        found = (mean_one - mean_other) / window.bandwidth**2
        if not of_odds:
            odds = log_one - log_other
            found = -(odds.sigmoid() * (-odds).sigmoid())[:, None] * found
        parts.append(found.cpu().numpy())
    return np.concatenate(parts)


def _group(kernel: Tensor, taken: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return log Σ and the weighted mean of a group, (D,) and (D, d), of how often each point was taken, (D, N)."""
    logs = torch.where(taken > 0, kernel + taken.log(), -torch.inf)
    return logs.logsumexp(1), logs.softmax(1) @ points


__all__ = ["Interval", "vector_intervals"]

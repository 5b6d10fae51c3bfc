"""How far a drop or a correlation would move with other images, or other units: 95 % intervals, by bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import InputError
from visavis.evaluation.discriminativeness import rank_correlation
from visavis.evaluation.statistics import check_draws, percentile_interval

_NORMAL = 1.959963984540054
# Values drawn at a time: 2²¹ of 8 bytes are 16 MiB.
_AT_ONCE = 2**21


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval by percentile bootstrap (Efron 1979).

    Attributes:
        value: as found; NaN where it is not defined.
        low, high: the interval.
        count: of how many it is made.
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def drop_intervals(lost: Tensor, gained: Tensor, images: Tensor, *, draws: int = 10_000, seed: int = 0) -> Tensor:
    """Return the 95 % intervals (..., 2), float64, of drops in accuracy, by drawing images with replacement.

    A drop is a mean over images, paired: 1 for an image that was right and is now wrong, −1 for one that was wrong and
    is now right, else 0. Of a draw only how many of each come matters, so that is what is drawn (a multinomial), once
    for all drops that have the same numbers.

    Args:
        lost, gained: how many images are wrong now, and right now, that were not, (...), integers.
        images: how many there are, in that shape; NaN for none.
        draws: how many samples.
        seed: of the draws.

    Raises:
        InputError: there are no draws.
    """
    check_draws(draws)
    numbers = torch.stack([lost, gained, images], -1).to("cpu", torch.int64)
    kinds, place = torch.unique(numbers.reshape(-1, 3), dim=0, return_inverse=True)
    ends = [_ends(*map(int, kind), draws=draws, seed=seed) for kind in kinds.tolist()]
    return torch.tensor(ends, dtype=torch.float64).view(-1, 2)[place].view(*lost.shape, 2)


def mean_intervals(sums: Tensor, squares: Tensor, counts: Tensor) -> Tensor:
    """Return the 95 % intervals (..., 2), float64, of means by the normal distribution; NaN of less than two values.

    Args:
        sums, squares: Σx and Σx², (...).
        counts: how many values, (...).
    """
    count = counts.double()
    mean = sums.double() / count
    variance = (squares.double() - count * mean.square()).clamp(min=0) / (count - 1).where(count > 1, torch.nan)
    reach = _NORMAL * (variance / count).sqrt()
    return torch.stack([mean - reach, mean + reach], -1)


def _ends(lost: int, gained: int, images: int, *, draws: int, seed: int) -> tuple[float, float]:
    if not images:
        return float("nan"), float("nan")
    shares = np.array([lost, gained, images - lost - gained]) / images
    drawn = np.random.default_rng([seed, lost, gained, images]).multinomial(images, shares, size=draws)
    low, high = percentile_interval((drawn[:, 0] - drawn[:, 1]) / images)
    return float(low), float(high)


def correlation(
    first: Tensor, second: Tensor, kind: Callable[[Tensor, Tensor], Tensor], *, draws: int = 10_000, seed: int = 0
) -> Estimate:
    """Return a correlation of two values of each of N, with its interval by drawing of the N with replacement.

    Draws in which either is constant have no correlation, and are left out.

    Args:
        first, second: (N,); pairs of which one is NaN are left out.
        kind: `pearson` or `spearman`.
        draws: how many samples.
        seed: of the draws.

    Raises:
        InputError: they differ in shape, a value is infinite, or there are no draws.
    """
    check_draws(draws)
    if first.dim() != 1 or first.shape != second.shape:
        raise InputError(f"values of the shapes {tuple(first.shape)} and {tuple(second.shape)} are not one a unit each")
    pair = torch.stack([first.detach().cpu().double(), second.detach().cpu().double()])
    if bool(pair.isinf().any()):
        raise InputError("infinite values have no correlation; look for what made them")
    pair = pair[:, ~pair.isnan().any(0)]
    count = pair.shape[1]
    if count < 2:
        return Estimate(float("nan"), float("nan"), float("nan"), count)
    generator = np.random.default_rng(seed)
    found: list[NDArray[np.float64]] = []
    step = max(1, _AT_ONCE // count)
    for start in range(0, draws, step):
        taken = torch.from_numpy(generator.integers(count, size=(min(step, draws - start), count)))
        found.append(kind(pair[0][taken], pair[1][taken]).numpy())
    drawn = np.concatenate(found)
    drawn = drawn[~np.isnan(drawn)]
    value = float(kind(pair[0][None], pair[1][None])[0])
    if not len(drawn) or np.isnan(value):
        return Estimate(value, float("nan"), float("nan"), count)
    low, high = percentile_interval(drawn)
    return Estimate(value, float(low), float(high), count)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's correlation of each pair of rows, (R, N) and (R, N) → (R,); NaN where either is constant."""
    one, other = (rows - rows.mean(1, keepdim=True) for rows in (first.double(), second.double()))
    one, other = (rows / _above_zero(rows.abs().amax(1, keepdim=True)) for rows in (one, other))
    found = (one * other).sum(1) / _above_zero(one.norm(dim=1) * other.norm(dim=1))
    return torch.where(_constant(first) | _constant(second), torch.nan, found.clamp(-1, 1))


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's correlation of each pair of rows, (R, N) and (R, N) → (R,); NaN where either is constant."""
    found = rank_correlation(first[:, None].double(), second[:, None].double())
    return torch.where(_constant(first) | _constant(second), torch.nan, found)


def _above_zero(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1)


def _constant(rows: Tensor) -> Tensor:
    return (rows == rows[:, :1]).all(1)


__all__ = ["Estimate", "correlation", "drop_intervals", "mean_intervals", "pearson", "spearman"]

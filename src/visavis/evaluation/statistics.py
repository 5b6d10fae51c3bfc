"""Means with intervals, by bootstrap: how far a figure would move with other cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visavis.errors import InputError

Values = Sequence[float] | NDArray[np.float64]
# Per cent of what was drawn that lie below the ends of a 95 % interval.
_ENDS = (2.5, 97.5)
# Values drawn at a time: 2²² of 8 bytes are 32 MiB.
_AT_ONCE = 2**22


@dataclass(frozen=True)
class Summary:
    """The mean of one value per case.

    Attributes:
        mean: of the values; NaN without any.
        low, high: its 95 % interval; equal to the mean for a single value.
        count: how many values.
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def summary(values: Values, *, groups: Sequence[object] | None = None, draws: int = 10_000, seed: int = 0) -> Summary:
    """Return the mean of values with its 95 % interval, by percentile bootstrap (Efron 1979).

    Values that are NaN say that a case has no value, and are left out.

    Args:
        values: one a case.
        groups: what each case belongs to, such as its picture, where cases of one group are not independent: then whole
            groups are drawn.
        draws: how many samples are drawn, with replacement.
        seed: of the draws.

    Raises:
        InputError: there are not as many groups as values, or no draws.
    """
    check_draws(draws)
    given = np.asarray(values, dtype=np.float64)
    if groups is not None and len(groups) != len(given):
        raise InputError(f"{len(given)} values have {len(groups)} groups; each value is in one")
    known = ~np.isnan(given)
    kept = given[known]
    if not len(kept):
        return Summary(float("nan"), float("nan"), float("nan"), 0)
    names = range(len(kept)) if groups is None else [name for name, here in zip(groups, known, strict=True) if here]
    sums, sizes = _grouped(kept, list(names))
    means = _drawn(sums, sizes, draws, np.random.default_rng(seed))
    low, high = percentile_interval(means)
    return Summary(float(kept.mean()), float(low), float(high), len(kept))


def percentile_interval(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ends of the 95 % interval, (2, ...), of what was drawn in a bootstrap, (..., D)."""
    return np.asarray(np.percentile(drawn, _ENDS, axis=-1))


def times_drawn(count: int, draws: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return how often each of so many cases is in each draw of as many, with replacement, (draws, count)."""
    return generator.multinomial(count, np.full(count, 1 / count), size=draws)


def check_draws(draws: int) -> None:
    """Refuse a bootstrap without draws."""
    if draws < 1:
        raise InputError(f"a bootstrap takes at least one draw, not {draws}")


def _grouped(values: NDArray[np.float64], names: list[object]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum and the number of the values of each group."""
    places: dict[object, int] = {}
    group = np.array([places.setdefault(name, len(places)) for name in names])
    return np.bincount(group, values).astype(np.float64), np.bincount(group).astype(np.float64)


def _drawn(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], draws: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return the mean of each draw of as many groups as there are."""
    means = np.empty(draws)
    step = max(1, _AT_ONCE // len(sums))
    for start in range(0, draws, step):
        taken = generator.integers(len(sums), size=(min(step, draws - start), len(sums)))
        means[start : start + len(taken)] = sums[taken].sum(1) / sizes[taken].sum(1)
    return means

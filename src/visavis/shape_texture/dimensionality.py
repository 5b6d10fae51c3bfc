"""How many of a layer's dimensions encode shape, how many texture, and how many neither (Islam et al. 2021, section 3).

Two images of a pair share one factor, the shape or the texture, and differ in the other. What a layer says of both is
alike where it encodes what they share. z are the activations of a layer, averaged over positions; a and b the images of
a pair. For each factor k, over its pairs, with m = ½ (mean zᵃ + mean zᵇ),

    cov_i = mean[(zᵃ_i − m_i)(zᵇ_i − m_i)],

and the variance of each unit is over all images of all pairs. From these a score of each factor, and 1 for the rest, is
made by an estimator; softmax of the scores is the share of each in the N dimensions, |z_k| = ⌊N · softmax(s)_k⌋.

What that softmax does must be known to read the numbers: two factors that nothing encodes have 21 % of the dimensions
each, and one that all units encode perfectly, the other none, has 42 %. `share` is without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from visavis.errors import InputError
from visavis.evaluation.statistics import percentile_interval, times_drawn
from visavis.shape_texture.options import check_draws, check_seed

#: What a layer says of the pairs of a factor: latents of both images, each (P, N).
Both = tuple[Tensor, Tensor]
# Of the power of two of the largest latent: products of two variances still fit, also of differences in its last digit.
_EXTREME = 200


@dataclass(frozen=True, eq=False)
class Moments:
    """What scores are made of, of each factor, draw and unit.

    Attributes:
        covariance: within pairs, about the mean of both sides together, (F, D, N).
        sidewise: likewise, each side about its own mean, as a correlation has it, (F, D, N).
        first, second: variances of the first and of the second images, (F, D, N).
        variance: of each unit over all images of all pairs, (D, N).
    """

    covariance: Tensor
    sidewise: Tensor
    first: Tensor
    second: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Estimator:
    """A way from covariances to numbers of dimensions.

    Attributes:
        name: what it is called.
        description: in words.
        units: `Moments` → the score of each factor and unit, (F, D, N), of which a factor's score is the sum.
        softmax: whether shares are softmax of the scores with 1 for the rest; else the scores themselves, from 0 on,
            and divided by their sum where that is above 1.
    """

    name: str
    description: str
    units: Callable[[Moments], Tensor]
    softmax: bool


def _over_all(moments: Moments) -> Tensor:
    total = moments.variance.sum(-1, keepdim=True)
    return moments.covariance / torch.where(total > 0, total, 1)


def _correlations(moments: Moments) -> Tensor:
    spread = (moments.first * moments.second).sqrt()
    # Of a unit that does not vary nothing is shared.
    found = torch.where(spread > 0, moments.sidewise / torch.where(spread > 0, spread, 1), 0)
    return found.clamp(-1, 1) / found.shape[-1]


_ESTIMATORS: dict[str, Estimator] = {}


def register_estimator(estimator: Estimator) -> None:
    """Enter an estimator.

    Raises:
        InputError: the name is taken.
    """
    if estimator.name in _ESTIMATORS:
        raise InputError(f"the estimator {estimator.name!r} is already registered")
    _ESTIMATORS[estimator.name] = estimator


register_estimator(
    Estimator("sum_cov", "sum of covariances over sum of variances, as behind the paper's tables", _over_all, True)
)
register_estimator(
    Estimator(
        "mean_rho", "mean over units of the correlation within pairs, each side about its own mean", _correlations, True
    )
)
register_estimator(Estimator("share", "as sum_cov, but without softmax", _over_all, False))


def estimators() -> dict[str, str]:
    """Return the estimators with what they are."""
    return {one.name: one.description for one in _ESTIMATORS.values()}


@dataclass(frozen=True, eq=False)
class Dimensionality:
    """How many dimensions of a layer encode each factor.

    Attributes:
        factors: their names, (F); the rest comes last in `counts` and `shares`, as "neither".
        units: N, the dimensions of the layer.
        scores: s_k, (F,).
        shares: of each factor and the rest, (F + 1,), sum 1.
        counts: ⌊N · share⌋ of each factor, and what is left, (F + 1,).
        low, high: the 95 % interval of each share, by bootstrap of the pairs, (F + 1,); NaN without draws.
        unit_scores: of each factor and unit, (F, N), whose sum over units is the score.
        pairs: how many each factor has, (F,).
        estimator: its name.
    """

    factors: tuple[str, ...]
    units: int
    scores: Tensor
    shares: Tensor
    counts: Tensor
    low: Tensor
    high: Tensor
    unit_scores: Tensor
    pairs: Tensor
    estimator: str

    def __str__(self) -> str:
        parts = [f"{name} {int(count)}" for name, count in zip((*self.factors, "neither"), self.counts, strict=True)]
        return f"{', '.join(parts)} of {self.units}"

    def place_of(self, factor: str) -> int:
        """Return which of the factors it is, from 0.

        Raises:
            InputError: there is no such factor.
        """
        if factor not in self.factors:
            raise InputError(f"there is no factor {factor!r}; there are {', '.join(self.factors)}")
        return self.factors.index(factor)

    def ranking(self, factor: str) -> Tensor:
        """Return the units by their score for a factor, the highest first, (N,).

        Raises:
            InputError: there is no such factor.
        """
        return self.unit_scores[self.place_of(factor)].argsort(descending=True, stable=True)


def dimensionality(
    pairs: Mapping[str, Both], *, estimator: str = "sum_cov", draws: int = 1000, seed: int = 0
) -> Dimensionality:
    """Estimate how many dimensions encode each factor.

    The bootstrap takes pairs to be independent of one another; where several share a picture, as those of few
    photographs do, its intervals are too narrow. Of P pairs a covariance comes out too small by about 1 / 2P of the
    variance and covariance together, for means are taken of the same pairs; and pairs drawn anew repeat that. So where
    pairs are few and the units many and independent, scores are too low, and intervals lie lower still: of 200 pairs
    and 256 such units, the interval of "neither" missed the true share more often than not in simulations.

    Args:
        pairs: by the name of the factor that both images of a pair share, such as "shape" and "texture", the latents of
            both, each (P, N), real or whole numbers; in one order of units. Where they are so large or small that their
            squares would not be told from infinity or 0, all are first brought near 1, by a power of two.
        estimator: as `estimators()` names them.
        draws: of the bootstrap, which draws the pairs of each factor anew; 0: no intervals.
        seed: of the draws.

    Raises:
        InputError: the latents are not such, there are fewer than two pairs of a factor, an option is not as described,
            or an estimator of your own gives NaN or infinity.
    """
    check_options(estimator, draws, seed)
    way, checked = _ESTIMATORS[estimator], _checked(pairs)
    whole = [torch.full((1, len(first)), 1 / len(first), dtype=torch.float64) for first, _ in checked.values()]
    unit_scores = way.units(_moments(list(checked.values()), whole))[:, 0]
    if not bool(unit_scores.isfinite().all()):
        raise InputError(f"the estimator {estimator!r} gives scores of these latents that are NaN or infinite")
    shares = _shares(unit_scores.sum(-1)[:, None], way.softmax)[:, 0]
    low = high = torch.full_like(shares, torch.nan)
    if draws:
        drawn = _drawn(list(checked.values()), way, draws, np.random.default_rng(seed))
        low, high = torch.from_numpy(percentile_interval(drawn.numpy()))
    units = unit_scores.shape[1]
    counts = (units * shares[:-1]).floor().long()
    return Dimensionality(
        tuple(checked),
        units,
        unit_scores.sum(-1),
        shares,
        torch.cat([counts, units - counts.sum(0, keepdim=True)]),
        low,
        high,
        unit_scores,
        torch.tensor([len(first) for first, _ in checked.values()]),
        estimator,
    )


def check_options(estimator: str, draws: int, seed: int) -> None:
    """Refuse options that `dimensionality` does not know, before latents are computed.

    Raises:
        InputError: there is no such estimator, number of draws or seed.
    """
    if estimator not in _ESTIMATORS:
        raise InputError(f"the estimator is {estimator!r}, but {', '.join(_ESTIMATORS)} were expected")
    check_draws(draws)
    check_seed(seed)


def _checked(pairs: Mapping[str, Both]) -> dict[str, Both]:
    if not pairs:
        raise InputError("there are no pairs; give those of each factor, such as {'shape': (a, b), 'texture': (a, b)}")
    found: dict[str, Both] = {}
    for name, (first, second) in pairs.items():
        if first.dim() != 2 or first.shape != second.shape or not first.shape[1]:
            raise InputError(
                f"the pairs of {name!r} are {tuple(first.shape)} and {tuple(second.shape)}, but latents (P, N) of both "
                "images were expected"
            )
        if first.is_complex() or second.is_complex():
            raise InputError(f"the latents of {name!r} are complex, but real numbers were expected")
        if len(first) < 2:
            raise InputError(f"{name!r} has {len(first)} pair(s), but at least two were expected")
        both = first.detach().cpu().double(), second.detach().cpu().double()
        if not all(bool(one.isfinite().all()) for one in both):
            raise InputError(f"the latents of {name!r} hold NaN or infinity; find out where they arise")
        found[name] = both
    widths = {one.shape[1] for one, _ in found.values()}
    if len(widths) > 1:
        raise InputError(f"the factors have latents of {sorted(widths)} units, but one layer has one number")
    found = _near_one(found)
    # Far from 0 a product of means would cost the digits of a covariance.
    middle = torch.cat([torch.cat(both) for both in found.values()]).mean(0)
    return {name: (first - middle, second - middle) for name, (first, second) in found.items()}


def _near_one(pairs: dict[str, Both]) -> dict[str, Both]:
    """Return latents that are extreme times a power of two, which is exact; ordinary ones as they are."""
    largest = max(float(one.abs().max()) for both in pairs.values() for one in both)
    exponent = math.frexp(largest)[1]
    if abs(exponent) <= _EXTREME:
        return pairs

    def scaled(one: Tensor) -> Tensor:
        return torch.from_numpy(np.ldexp(one.numpy(), -exponent))

    return {name: (scaled(first), scaled(second)) for name, (first, second) in pairs.items()}


def _moments(pairs: list[Both], weights: list[Tensor]) -> Moments:
    """Return moments under weights of the pairs, (D, P) of each factor, each row of sum 1."""
    covariance, sidewise, spreads = [], [], []
    total = squares = torch.zeros(1, dtype=torch.float64)
    images = sum(2 * len(first) for first, _ in pairs)
    for (first, second), weight in zip(pairs, weights, strict=True):
        one, other = weight @ first, weight @ second
        mean = (one + other) / 2
        # mean[(a − m)(b − m)] = mean[ab] − m (mean a + mean b) + m² = mean[ab] − m².
        products = weight @ (first * second)
        covariance.append(products - mean**2)
        sidewise.append(products - one * other)
        first_square, second_square = weight @ first**2, weight @ second**2
        spreads.append((first_square - one**2, second_square - other**2))
        share = len(first) / images
        total = total + share * (one + other)
        squares = squares + share * (first_square + second_square)
    variance = (squares - total**2).clamp(min=0)
    first_spread, second_spread = (torch.stack([one[place] for one in spreads]).clamp(min=0) for place in (0, 1))
    return Moments(torch.stack(covariance), torch.stack(sidewise), first_spread, second_spread, variance)


def _shares(scores: Tensor, softmax: bool) -> Tensor:
    """Return the share of each factor and of the rest, (F + 1, D), of scores (F, D)."""
    if softmax:
        return torch.cat([scores, torch.ones_like(scores[:1])]).softmax(0)
    known = scores.clamp(min=0)
    known = known / known.sum(0).clamp(min=1)
    return torch.cat([known, 1 - known.sum(0, keepdim=True)])


def _drawn(pairs: list[Both], way: Estimator, draws: int, generator: np.random.Generator) -> Tensor:
    """Return the shares of each draw, (F + 1, D)."""
    parts = []
    # Of the moments of one draw, three of each factor, 64 MiB.
    step = max(1, 2**23 // (3 * len(pairs) * pairs[0][0].shape[1]))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        weights = [torch.from_numpy(times_drawn(len(first), size, generator) / len(first)) for first, _ in pairs]
        parts.append(_shares(way.units(_moments(pairs, weights)).sum(-1), way.softmax))
    return torch.cat(parts, 1)


__all__ = [
    "Both",
    "Dimensionality",
    "Estimator",
    "Moments",
    "check_options",
    "dimensionality",
    "estimators",
    "register_estimator",
]

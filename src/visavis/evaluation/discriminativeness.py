"""How alike the maps of different classes on one picture are: a map that is the same for every class explains none.

That the maps of LRP are alike, whichever class is asked for, is what CLRP sets out to mend (Gu, Yang, Tresp 2018). The
measures are those by which Adebayo et al. 2018 (Sanity Checks for Saliency Maps) compare maps. They say nothing of
whether a map is right: two draws of noise are as unlike as can be.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.errors import InputError
from visavis.evaluation.base import Case, Context, Metric, register_metric
from visavis.evaluation.maps import as_given, exact

#: Of SSIM: the side of its window in pixels, the Gaussian's standard deviation, and its two constants.
WINDOW, DEVIATION, K1, K2 = 11, 1.5, 0.01, 0.03


# -- pure functions --------------------------------------------------------------------------------------------------


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's rank correlation of each pair of maps, (B,), −1 to 1; equal values share their mean rank.

    Two constant maps are alike: 1. A constant map and another have nothing in common: 0.

    Args:
        first, second: (B, H, W), signed.

    Raises:
        InputError: they differ in shape, or are not finite.
    """
    one, other = (_ranks(maps) for maps in _checked(first, second))
    return as_given(_cosine(one, other), first)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine of the angle between each pair of maps, (B,), −1 to 1.

    Two maps of zeros are alike: 1. A map of zeros and another have nothing in common: 0.

    Args:
        first, second: (B, H, W), signed.

    Raises:
        InputError: they differ in shape, or are not finite.
    """
    one, other = _checked(first, second)
    return as_given(_cosine(one.flatten(1), other.flatten(1)), first)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Return the structural similarity of each pair of maps, (B,), −1 to 1.

    Wang et al. 2004 (Image Quality Assessment: From Error Visibility to Structural Similarity), eqs. 13 and 17: a
    Gaussian window of 11 pixels and deviation 1.5, K₁ = 0.01, K₂ = 0.03, mean over the windows that fit into the map.
    The measure is made for values from 0: of signed ones, opposite maps would be alike, for the signs of their means
    and of their covariance cancel. So both maps are divided by the largest |value| in either and moved to 0 … 1, where
    no relevance is 1/2, and the dynamic range is 1. Two maps of zeros are alike: 1.

    Args:
        first, second: (B, H, W), signed, with sides of 11 pixels or more.

    Raises:
        InputError: they differ in shape, are not finite, or smaller than the window.
    """
    one, other = _checked(first, second)
    if min(one.shape[1:]) < WINDOW:
        raise InputError(f"SSIM takes maps of at least {WINDOW} × {WINDOW} pixels, not {tuple(one.shape[1:])}")
    largest = torch.maximum(one.abs().amax((1, 2)), other.abs().amax((1, 2)))[:, None, None]
    scale = torch.where(largest > 0, largest, 1)
    one, other = (1 + one / scale) / 2, (1 + other / scale) / 2
    means = _smoothed(torch.stack([one, other, one * one, other * other, one * other], 1))
    mean_one, mean_other, square_one, square_other, product = means.unbind(1)
    c1, c2 = K1**2, K2**2
    both = mean_one * mean_other
    squares = mean_one**2 + mean_other**2
    similar = (2 * both + c1) * (2 * (product - both) + c2)
    local = similar / ((squares + c1) * (square_one + square_other - squares + c2))
    return as_given(local.mean((1, 2)), first)


def _checked(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.shape != second.shape:
        raise InputError(f"maps of the shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared")
    return exact(first), exact(second)


def _ranks(maps: Tensor) -> Tensor:
    """Return the ranks of each map's values about their mean, (B, H · W)."""
    ranked, places = maps.flatten(1).sort()
    count = ranked.shape[1]
    positions = torch.arange(count, dtype=ranked.dtype, device=ranked.device)
    steps = ranked[:, 1:] != ranked[:, :-1]
    # Where the equal values around each place begin and end.
    begin = torch.where(F.pad(steps, (1, 0), value=True), positions, -1).cummax(1).values
    end = torch.where(F.pad(steps, (0, 1), value=True), positions, count).flip(1).cummin(1).values.flip(1)
    return torch.empty_like(ranked).scatter_(1, places, (begin + end + 1 - count) / 2)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine of vectors (B, N) and (B, N); 1 where both are zero, 0 where one is."""
    # Scaled first: the square of a small number is zero.
    one, other = (_scaled(vectors) for vectors in (first, second))
    lengths = one.norm(dim=1) * other.norm(dim=1)
    found = ((one * other).sum(1) / torch.where(lengths > 0, lengths, 1)).clamp(-1, 1)
    return torch.where((one == 0).all(1) & (other == 0).all(1), 1, found)


def _scaled(vectors: Tensor) -> Tensor:
    largest = vectors.abs().amax(1, keepdim=True)
    return vectors / torch.where(largest > 0, largest, 1)


def _smoothed(maps: Tensor) -> Tensor:
    """Return maps (B, M, H, W) averaged over the windows that fit into them, (B, M, H − 10, W − 10)."""
    heights = [math.exp(-(((step - WINDOW // 2) / DEVIATION) ** 2) / 2) for step in range(WINDOW)]
    for dimension in (2, 3):
        length = maps.shape[dimension] - WINDOW + 1
        # Shifted sums rather than a convolution, which is slow in float64.
        means = torch.zeros_like(maps.narrow(dimension, 0, length))
        for at, height in enumerate(heights):
            means.add_(maps.narrow(dimension, at, length), alpha=height / sum(heights))
        maps = means
    return maps


# -- the metric ------------------------------------------------------------------------------------------------------


@register_metric
class Discriminativeness(Metric):
    """How alike the map of the target is to those of other classes, by rank correlation.

    In [−1, 1], lower is better: it tells them apart.

    Args:
        most: with how many other classes of a case the target is compared, the first ones.

    Raises:
        InputError: `most` is below 1.
    """

    name: ClassVar[str] = "discriminativeness"
    title: ClassVar[str] = "likeness to other classes' maps"
    source: ClassVar[str] = (
        "after Gu, Yang, Tresp 2018 (CLRP), whose claim it measures, by the rank correlation of Adebayo et al. 2018 "
        "(Sanity Checks for Saliency Maps)"
    )
    direction: ClassVar[str] = "lower"
    low: ClassVar[float] = -1.0
    needs: ClassVar[tuple[str, ...]] = ("others",)

    def __init__(self, most: int = 4) -> None:
        super().__init__()
        if most < 1:
            raise InputError(f"a target is compared with at least one other class, not {most}")
        self.most = most

    def update(self, heatmaps: Tensor, others: Tensor) -> Tensor:
        """Keep and return the mean rank correlation (B,) of maps (B, H, W) with K maps of other classes (B, K, H, W).

        Raises:
            InputError: the shapes are not as said, or a map is not finite.
        """
        if others.ndim != 4 or not others.shape[1]:
            raise InputError(f"the maps of other classes are (B, K, H, W), not {tuple(others.shape)}")
        pairs = [rank_correlation(heatmaps, other) for other in others.unbind(1)]
        return self.add(torch.stack(pairs).mean(0))

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> dict[str, float]:
        """Return the mean over pairs: under "" and "rank" the rank correlation, and under "cosine" and "ssim" those.

        Maps with a side below 11 pixels have no "ssim".

        Raises:
            InputError: the case names no other class, or a map is not finite.
        """
        if not case.others:
            raise InputError(f"case {case.name!r} names no other class, which {self.name!r} needs; leave it out")
        chosen = torch.tensor(case.others[: self.most], device=case.inputs.device)
        others = context.explainer.heatmaps(case.inputs.repeat(len(chosen), 1, 1, 1), chosen)
        pairs = heatmap.expand(len(chosen), -1, -1), others.to(heatmap.device)
        measures = {"rank": rank_correlation, "cosine": cosine}
        if min(heatmap.shape) >= WINDOW:
            measures["ssim"] = ssim
        found = {key: float(measure(*pairs).double().mean()) for key, measure in measures.items()}
        return {"": found["rank"], **found}

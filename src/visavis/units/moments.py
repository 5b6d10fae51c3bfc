"""Correlations over images that are seen a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.errors import InputError


@dataclass(frozen=True, eq=False)
class Moments:
    """What the correlations of U values with K others, over N images, are made of; float64.

    Moments of parts are put together with `+`, about their means, so that nothing cancels (Chan, Golub, LeVeque 1983,
    Algorithms for Computing the Sample Variance).

    Attributes:
        count: N.
        means: (U,) and (K,).
        squares: the sums of squares about the means, (U,) and (K,).
        products: the sums of products about the means, (U, K).
        lows, highs: the least and the largest values, (U,) and (K,).
    """

    count: int
    means: tuple[Tensor, Tensor]
    squares: tuple[Tensor, Tensor]
    products: Tensor
    lows: tuple[Tensor, Tensor]
    highs: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, ones: Tensor, others: Tensor) -> Moments:
        """Return those of (N, U) and (N, K).

        Raises:
            InputError: they are not of the same images.
        """
        if ones.dim() != 2 or others.dim() != 2 or len(ones) != len(others) or not len(ones):
            raise InputError(
                f"values (N, U) go with values (N, K) of the same images, of which there is at least one; these are "
                f"{tuple(ones.shape)} and {tuple(others.shape)}"
            )
        pair = ones.double(), others.double()
        means = pair[0].mean(0), pair[1].mean(0)
        about = pair[0] - means[0], pair[1] - means[1]
        return cls(
            len(ones),
            means,
            (about[0].square().sum(0), about[1].square().sum(0)),
            about[0].T @ about[1],
            (pair[0].amin(0), pair[1].amin(0)),
            (pair[0].amax(0), pair[1].amax(0)),
        )

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        apart = other.means[0] - self.means[0], other.means[1] - self.means[1]
        share, weight = other.count / count, self.count * other.count / count
        return Moments(
            count,
            (self.means[0] + share * apart[0], self.means[1] + share * apart[1]),
            (
                self.squares[0] + other.squares[0] + weight * apart[0].square(),
                self.squares[1] + other.squares[1] + weight * apart[1].square(),
            ),
            self.products + other.products + weight * torch.outer(*apart),
            (torch.minimum(self.lows[0], other.lows[0]), torch.minimum(self.lows[1], other.lows[1])),
            (torch.maximum(self.highs[0], other.highs[0]), torch.maximum(self.highs[1], other.highs[1])),
        )

    @property
    def correlation(self) -> Tensor:
        """Pearson's correlation of each with each, (U, K), −1 to 1; NaN where either is the same for all images."""
        constant = [low == high for low, high in zip(self.lows, self.highs, strict=True)]
        norms = torch.outer(self.squares[0].sqrt(), self.squares[1].sqrt())
        known = (norms > 0) & ~constant[0][:, None] & ~constant[1]
        return (self.products / norms.where(known, 1)).clamp(-1, 1).where(known, torch.nan)


__all__ = ["Moments"]

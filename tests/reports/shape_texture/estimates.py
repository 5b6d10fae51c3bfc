"""Dimensionalities that the tests of pictures draw."""

from __future__ import annotations

import torch

from visavis.shape_texture.dimensionality import Dimensionality

NAN = float("nan")


def estimate(
    shares: tuple[float, float],
    units: int = 100,
    *,
    half: float = 0.03,
    estimator: str = "sum_cov",
    factors: tuple[str, ...] = ("shape", "texture"),
) -> Dimensionality:
    """Shares of shape and texture with intervals: half as wide below as above."""
    rest = 1 - sum(shares)
    by_name = {"shape": shares[0], "texture": shares[1]}
    known = [by_name.get(name, 0.0) for name in factors]
    every = torch.tensor([*known, rest], dtype=torch.float64)
    # With 1 for the rest, softmax of these scores are the shares.
    scores = 1 + (every[:-1] / rest).log() if estimator != "share" else every[:-1]
    counts = (units * every[:-1] + 1e-9).floor().long()
    return Dimensionality(
        factors,
        units,
        scores,
        every,
        torch.cat([counts, units - counts.sum(0, keepdim=True)]),
        every - half / 2,
        every + half,
        torch.zeros(len(factors), units),
        torch.full((len(factors),), 50),
        estimator,
    )

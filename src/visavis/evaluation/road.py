"""ROAD, remove and debias: how fast the decision goes when removed pixels are guessed from their neighbours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from visavis.errors import InputError
from visavis.evaluation.base import register_metric
from visavis.evaluation.imputation import check_tolerance, imputed
from visavis.evaluation.perturbation import (
    BATCH,
    Model,
    Perturbation,
    check_counts,
    check_pair,
    check_score,
    generator_of,
    places,
    scores_of,
)

#: Of all pixels: those removed at each step.
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def road(
    model: Model,
    inputs: Tensor,
    heatmap: Tensor,
    target: int,
    *,
    shares: Sequence[float] = SHARES,
    score: str = "probability",
    noise: float = 0.01,
    tolerance: float = 1e-4,
    batch: int = BATCH,
    seed: int = 0,
) -> Tensor:
    """Return the target's score (1 + shares,), float64: on the whole picture, then without its highest pixels.

    ROAD, Rong et al. 2022: removed pixels are guessed from their neighbours (`imputed`), plus a little noise, so that
    the shape of what was removed gives nothing away. Here the most relevant pixels go first.

    Args:
        model: gives logits.
        inputs: (1, C, H, W).
        heatmap: (H, W), signed.
        target: class index.
        shares: of all pixels, each above 0 and below 1, rounded to whole pixels.
        score: of SCORES; the paper's is the accuracy, which the mean over cases of "accuracy" is.
        noise: the standard deviation of what is added to each removed value, in units of the normalised input.
        tolerance: of the linear system, as for `imputed`.
        batch: pictures in one forward pass.
        seed: of the noise, and of the order of equal values.
    """
    check_pair(inputs, heatmap)
    _check_options(shares, score, noise, tolerance, batch)
    place = places(heatmap, seed).to(inputs.device)
    generator = generator_of(seed)

    def pictures() -> Iterator[Tensor]:
        yield inputs
        for start in range(0, len(shares), batch):
            yield torch.cat([one(share) for share in shares[start : start + batch]])

    def one(share: float) -> Tensor:
        removed = place < min(round(share * heatmap.numel()), heatmap.numel() - 1)
        guessed = imputed(inputs, removed, tolerance=tolerance)
        return guessed + noise * removed * torch.randn(inputs.shape, generator=generator).to(inputs)

    return scores_of(model, pictures(), target, score)


def _check_options(shares: Sequence[float], score: str, noise: float, tolerance: float, batch: int) -> None:
    check_counts(batch=batch)
    check_score(score)
    check_tolerance(tolerance)
    if not shares or not all(0 < share < 1 for share in shares):
        raise InputError(f"the shares of removed pixels are numbers above 0 and below 1, not {tuple(shares)}")
    if not 0 <= noise < math.inf:
        raise InputError(f"the noise is a standard deviation of at least 0, not {noise}")


def _key(share: float) -> str:
    """Return a share in two decimals where these say it all, else in six digits."""
    short = f"{share:.2f}"
    return short if math.isclose(float(short), share, rel_tol=1e-9) else f"{share:g}"


@register_metric
class Road(Perturbation):
    """How far the target's score is below that of the whole picture, on average over the shares removed.

    Under "0.00" the score on the whole picture, under "0.10" to "0.90" what is left of it; a share that two decimals do
    not tell has six digits, as "0.0025". In [−1, 1], higher is better; with
    score="logit" there are no bounds. Arguments as for `road`.

    Raises:
        InputError: an argument is not as described, or two shares are the same in six digits, by which the curve's
            points are known.
    """

    name: ClassVar[str] = "road"
    title: ClassVar[str] = "ROAD, mean drop"
    source: ClassVar[str] = "Rong et al. 2022 (A Consistent and Efficient Evaluation Strategy for Attribution Methods)"
    direction: ClassVar[str] = "higher"
    axes: ClassVar[tuple[str, str]] = ("share of the pixels replaced", "score of the class")
    low: ClassVar[float] = -1.0

    def __init__(
        self,
        *,
        shares: Sequence[float] = SHARES,
        score: str = "probability",
        noise: float = 0.01,
        tolerance: float = 1e-4,
        batch: int = BATCH,
    ) -> None:
        super().__init__()
        _check_options(shares, score, noise, tolerance, batch)
        if len({float(_key(share)) for share in shares}) < len(shares):
            raise InputError(f"shares of removed pixels differ in six digits, unlike {tuple(shares)}")
        self.shares, self.score, self.noise, self.tolerance, self.batch = tuple(shares), score, noise, tolerance, batch

    def _measured(self, model: Model, inputs: Tensor, heatmap: Tensor, target: int, seed: int) -> Mapping[str, float]:
        scores = road(
            model,
            inputs,
            heatmap,
            target,
            shares=self.shares,
            score=self.score,
            noise=self.noise,
            tolerance=self.tolerance,
            batch=self.batch,
            seed=seed,
        ).tolist()
        left = {_key(share): value for share, value in zip(self.shares, scores[1:], strict=True)}
        return {"": scores[0] - sum(scores[1:]) / len(self.shares), "0.00": scores[0], **left}

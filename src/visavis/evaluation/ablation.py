"""The ablation study: does the decision hang on what the map ranks highest, more than on any other place?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from visavis.evaluation.base import register_metric
from visavis.evaluation.perturbation import (
    BATCH,
    BLUR,
    Model,
    Perturbation,
    check_counts,
    check_fill,
    check_pair,
    check_score,
    filled,
    generator_of,
    order,
    scores_of,
)


class Drops(NamedTuple):
    """By how much a score falls when a patch is replaced: about the map's maximum, and about pixels at random."""

    maximum: float
    random: float


def ablation(
    model: Model,
    inputs: Tensor,
    heatmap: Tensor,
    target: int,
    *,
    size: int = 9,
    fill: str = "mean",
    score: str = "probability",
    samples: int = 10,
    blur: float = BLUR,
    batch: int = BATCH,
    seed: int = 0,
) -> Drops:
    """Replace the patch about the map's maximum, and say by how much the target's score falls.

    The ablation study of Gu, Yang, Tresp 2018. The size of the patch, what it is replaced by and which score is taken
    could not be verified in the paper: all three are parameters.

    Args:
        model: gives logits.
        inputs: (1, C, H, W).
        heatmap: (H, W), signed.
        target: class index.
        size: side of the patch in pixels; what reaches over the border is cut off.
        fill, blur: as for `filled`.
        score: of SCORES.
        samples: how many patches at random, each about a pixel of the whole picture.
        batch: pictures in one forward pass.
        seed: of which maximum is taken where there are several, and of the patches at random, which are the same for
            every map.
    """
    check_pair(inputs, heatmap)
    check_counts(size=size, samples=samples, batch=batch)
    generator, width = generator_of(seed), heatmap.shape[1]
    highest = order(heatmap, generator)[:1]
    places = torch.cat([highest, torch.randint(heatmap.numel(), (samples,), generator=generator)]).tolist()
    stand_in = filled(inputs, fill, blur=blur)

    def pictures() -> Iterator[Tensor]:
        yield inputs
        for start in range(0, len(places), batch):
            several = inputs.repeat(len(places[start : start + batch]), 1, 1, 1)
            for picture, place in zip(several, places[start : start + batch], strict=True):
                top, left = place // width - size // 2, place % width - size // 2
                rows, columns = slice(max(top, 0), top + size), slice(max(left, 0), left + size)
                picture[:, rows, columns] = stand_in[0, :, rows, columns]
            yield several

    intact, maximum, *random = scores_of(model, pictures(), target, score).tolist()
    return Drops(intact - maximum, intact - sum(random) / samples)


@register_metric
class Ablation(Perturbation):
    """How much the target's score falls without the patch about the map's maximum; under "random", at random.

    In [−1, 1], higher is better; with score="logit" there are no bounds. Arguments as for `ablation`.

    Raises:
        InputError: an argument is not as described.
    """

    name: ClassVar[str] = "ablation"
    title: ClassVar[str] = "ablation, drop"
    source: ClassVar[str] = "Gu, Yang, Tresp 2018 (CLRP), ablation study"
    direction: ClassVar[str] = "higher"
    low: ClassVar[float] = -1.0

    def __init__(
        self,
        *,
        size: int = 9,
        fill: str = "mean",
        score: str = "probability",
        samples: int = 10,
        blur: float = BLUR,
        batch: int = BATCH,
    ) -> None:
        super().__init__()
        check_counts(size=size, samples=samples, batch=batch)
        check_fill(fill, blur)
        check_score(score)
        self.size, self.fill, self.score, self.samples, self.blur, self.batch = size, fill, score, samples, blur, batch

    def _measured(self, model: Model, inputs: Tensor, heatmap: Tensor, target: int, seed: int) -> Mapping[str, float]:
        drops = ablation(
            model,
            inputs,
            heatmap,
            target,
            size=self.size,
            fill=self.fill,
            score=self.score,
            samples=self.samples,
            blur=self.blur,
            batch=self.batch,
            seed=seed,
        )
        return {"": drops.maximum, "random": drops.random}

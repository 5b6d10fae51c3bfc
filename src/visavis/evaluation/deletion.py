"""Deletion and insertion: how fast the decision goes, or comes back, with the pixels in the order of the map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from visavis.errors import InputError
from visavis.evaluation.base import register_metric
from visavis.evaluation.perturbation import (
    BATCH,
    BLUR,
    Model,
    Perturbation,
    check_counts,
    check_fill,
    check_pair,
    filled,
    places,
    scores_of,
)


def deletion(
    model: Model,
    inputs: Tensor,
    heatmap: Tensor,
    target: int,
    *,
    steps: int = 20,
    fill: str = "zero",
    blur: float = BLUR,
    batch: int = BATCH,
    seed: int = 0,
) -> Tensor:
    """Return the target's probability (steps + 1,), float64, as the pixels are replaced, highest first.

    Petsiuk, Das, Saenko 2018 (RISE: Randomized Input Sampling for Explanation of Black-box Models).

    Args:
        model: gives logits.
        inputs: (1, C, H, W).
        heatmap: (H, W), signed.
        target: class index.
        steps: the k-th replaces the share k / steps of all pixels, rounded to whole ones.
        fill, blur: as for `filled`.
        batch: pictures in one forward pass.
        seed: of the order of equal values.
    """
    check_pair(inputs, heatmap)
    return _curve(model, inputs, filled(inputs, fill, blur=blur), heatmap, target, steps, batch, seed)


def insertion(
    model: Model,
    inputs: Tensor,
    heatmap: Tensor,
    target: int,
    *,
    steps: int = 20,
    fill: str = "blur",
    blur: float = BLUR,
    batch: int = BATCH,
    seed: int = 0,
) -> Tensor:
    """Return the target's probability (steps + 1,), float64, as the pixels are brought back, highest first.

    Petsiuk, Das, Saenko 2018 (RISE): from the blurred picture to the whole one. The arguments are those of
    `deletion`; `fill` is where it starts from.
    """
    check_pair(inputs, heatmap)
    return _curve(model, filled(inputs, fill, blur=blur), inputs, heatmap, target, steps, batch, seed)


def area(curve: Tensor) -> float:
    """Return the area under a curve of equal steps (N,), N ≥ 2, from 0 to 1, by the trapezoid rule."""
    return float(torch.trapezoid(curve)) / (len(curve) - 1)


def _curve(
    model: Model, start: Tensor, end: Tensor, heatmap: Tensor, target: int, steps: int, batch: int, seed: int
) -> Tensor:
    """Return the target's probability as `start` becomes `end`, pixel by pixel in the order of the map."""
    check_counts(steps=steps, batch=batch)
    pixels = heatmap.numel()
    if steps > pixels:
        raise InputError(f"a map of {pixels} pixels can be taken in at most as many steps, not {steps}")
    place = places(heatmap, seed).to(start.device)
    # In whole numbers, halves up: a share is never a pixel off by rounding.
    counts = torch.tensor([(2 * step * pixels + steps) // (2 * steps) for step in range(steps + 1)])
    batches = torch.split(counts.to(place.device).view(-1, 1, 1, 1), batch)
    pictures = (torch.where(place < several, end, start) for several in batches)
    return scores_of(model, pictures, target, "probability")


class _Steps(Perturbation):
    """The area under a curve over equal shares of the pixels; the curve under "0.00" to "1.00"."""

    curve: Callable[..., Tensor]

    def __init__(self, *, steps: int, fill: str, blur: float, batch: int) -> None:
        super().__init__()
        check_counts(steps=steps, batch=batch)
        check_fill(fill, blur)
        self.steps, self.fill, self.blur, self.batch = steps, fill, blur, batch

    def _measured(self, model: Model, inputs: Tensor, heatmap: Tensor, target: int, seed: int) -> Mapping[str, float]:
        curve = type(self).curve(
            model,
            inputs,
            heatmap,
            target,
            steps=self.steps,
            fill=self.fill,
            blur=self.blur,
            batch=self.batch,
            seed=seed,
        )
        digits = max(2, len(str(self.steps - 1)))
        points = {f"{step / self.steps:.{digits}f}": value for step, value in enumerate(curve.tolist())}
        return {"": area(curve), **points}


@register_metric
class Deletion(_Steps):
    """The area under the target's probability as the highest pixels are taken away.

    In [0, 1], lower is better. Arguments as for `deletion`.

    Raises:
        InputError: an argument is not as described.
    """

    name: ClassVar[str] = "deletion"
    title: ClassVar[str] = "deletion, area"
    source: ClassVar[str] = "Petsiuk, Das, Saenko 2018 (RISE)"
    direction: ClassVar[str] = "lower"
    axes: ClassVar[tuple[str, str]] = ("share of the pixels taken away", "probability of the class")
    curve = staticmethod(deletion)

    def __init__(self, *, steps: int = 20, fill: str = "zero", blur: float = BLUR, batch: int = BATCH) -> None:
        super().__init__(steps=steps, fill=fill, blur=blur, batch=batch)


@register_metric
class Insertion(_Steps):
    """The area under the target's probability as the highest pixels are brought back.

    In [0, 1], higher is better. Arguments as for `insertion`.

    Raises:
        InputError: an argument is not as described.
    """

    name: ClassVar[str] = "insertion"
    title: ClassVar[str] = "insertion, area"
    source: ClassVar[str] = "Petsiuk, Das, Saenko 2018 (RISE)"
    direction: ClassVar[str] = "higher"
    axes: ClassVar[tuple[str, str]] = ("share of the pixels brought back", "probability of the class")
    curve = staticmethod(insertion)

    def __init__(self, *, steps: int = 20, fill: str = "blur", blur: float = BLUR, batch: int = BATCH) -> None:
        super().__init__(steps=steps, fill=fill, blur=blur, batch=batch)

"""What becomes of the decision when pixels that a map ranks high are replaced: what all such metrics have in common.

A model, here, is whatever takes inputs (B, C, H, W) to logits (B, N): a Classifier, a module. Equal values of a map say
nothing about their order: they are ranked at random, so that a map of one value does as well as chance, wherever its
pixels lie in memory.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.errors import InputError
from visavis.evaluation.base import Case, Context, Metric

#: Takes inputs (B, C, H, W) to logits (B, N).
Model = Callable[[Tensor], Tensor]

FILLS = {
    "mean": "each channel's mean over the picture",
    "zero": "zero, which is the mean over the data set where inputs are normalised by it",
    "blur": "the picture, blurred",
}
SCORES = {
    "probability": "the class's share of the softmax",
    "logit": "the class's output before the softmax",
    "accuracy": "1 where the class has the largest output, else 0",
}
# The standard deviation of the Gaussian that blurs, as a share of the picture's shorter side.
BLUR = 0.05
# Pictures in one forward pass.
BATCH = 16


# -- what is put in the place of pixels --------------------------------------------------------------------------------


def filled(inputs: Tensor, fill: str, *, blur: float = BLUR) -> Tensor:
    """Return what stands in for the pixels of inputs (B, C, H, W), in their shape.

    Args:
        inputs: normalised.
        fill: of FILLS.
        blur: the standard deviation of the Gaussian, as a share of the shorter side, up to 0.3; reflected at borders.

    Raises:
        InputError: there is no such fill, or the blur is out of range.
    """
    check_fill(fill, blur)
    if fill == "mean":
        return inputs.mean((2, 3), keepdim=True).expand_as(inputs)
    return torch.zeros_like(inputs) if fill == "zero" else _blurred(inputs, blur * min(inputs.shape[2:]))


def _blurred(inputs: Tensor, deviation: float) -> Tensor:
    reach = min(math.ceil(3 * deviation), min(inputs.shape[2:]) - 1)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.softmax(-((offsets / deviation) ** 2) / 2, 0).to(inputs)
    channels = inputs.shape[1]
    down = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    padded = F.pad(inputs, (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, down, groups=channels), down.transpose(2, 3), groups=channels)


def order(heatmap: Tensor, generator: torch.Generator) -> Tensor:
    """Return the pixels of a map (H, W), as indices (H · W,) row by row, highest first, equal ones shuffled."""
    shuffled = torch.randperm(heatmap.numel(), generator=generator)
    values = heatmap.detach().cpu().flatten()[shuffled]
    return shuffled[values.argsort(descending=True, stable=True)]


def places(heatmap: Tensor, seed: int) -> Tensor:
    """Return each pixel's place in the order (H, W), 0 for the highest."""
    found = torch.empty(heatmap.numel(), dtype=torch.long)
    found[order(heatmap, generator_of(seed))] = torch.arange(heatmap.numel())
    return found.view(heatmap.shape)


def scores_of(model: Model, pictures: Iterable[Tensor], target: int, score: str) -> Tensor:
    """Return the target's score, of SCORES, on each picture of the batches, in float64 on the CPU.

    Raises:
        InputError: there is no such score or class, or a score is not finite.
    """
    check_score(score)
    found = []
    with torch.inference_mode():
        for batch in pictures:
            logits = model(batch).to("cpu").double()
            if not 0 <= target < logits.shape[1]:
                raise InputError(f"there is no class {target}; the model has {logits.shape[1]}")
            if score == "accuracy":
                rated = (logits.argmax(1) == target).double()
            else:
                rated = (logits.softmax(1) if score == "probability" else logits)[:, target]
            # The largest of several is not known, either, where one of them is NaN.
            unknown = logits.isnan().any(1) | ~rated.isfinite()
            if bool(unknown.any()):
                raise InputError(
                    f"the model's score is not finite on {int(unknown.sum())} of {len(unknown)} pictures, as its "
                    "logits hold NaN or infinite values; look for what made them"
                )
            found.append(rated)
    return torch.cat(found)


def check_pair(inputs: Tensor, heatmap: Tensor) -> None:
    """Refuse anything but one picture (1, C, H, W) and one finite map (H, W) of its size."""
    if inputs.dim() != 4 or len(inputs) != 1 or heatmap.shape != inputs.shape[2:]:
        raise InputError(
            f"one picture (1, C, H, W) goes with one map (H, W), but these have the shapes {tuple(inputs.shape)} and "
            f"{tuple(heatmap.shape)}"
        )
    if not bool(torch.isfinite(heatmap).all()):
        raise InputError("the map holds values that are NaN or infinite; its pixels cannot be ranked")


def check_fill(fill: str, blur: float) -> None:
    """Refuse what is not of FILLS, and a blur that is not above 0 and up to 0.3."""
    if fill not in FILLS:
        raise InputError(f"there is no fill {fill!r}; there are {', '.join(FILLS)}")
    if not 0 < blur <= 0.3:
        raise InputError(f"the blur is a share of the picture's shorter side, above 0 and up to 0.3, not {blur}")


def check_score(score: str) -> None:
    """Refuse what is not of SCORES."""
    if score not in SCORES:
        raise InputError(f"there is no score {score!r}; there are {', '.join(SCORES)}")


def check_counts(**counts: int) -> None:
    """Refuse a count below 1, by its name."""
    for name, count in counts.items():
        if not count >= 1:
            raise InputError(f"{name} is a whole number of at least 1, not {count}")


def generator_of(seed: int) -> torch.Generator:
    """Return a generator on the CPU, so that every device draws alike."""
    return torch.Generator().manual_seed(seed)


# -- the metrics -------------------------------------------------------------------------------------------------------


class Perturbation(Metric):
    """A metric that needs a model, a picture, a map and a class."""

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> Mapping[str, float]:
        """Return the value under "", and the points of the curve under their shares."""
        return self._measured(context.scores, case.inputs, heatmap, case.target, context.seed)

    def update(self, model: Model, inputs: Tensor, heatmaps: Tensor, targets: Tensor, *, seed: int = 0) -> Tensor:
        """Keep and return the values (B,) of maps (B, H, W), signed, of inputs (B, C, H, W) and class indices (B,).

        Args:
            model: gives logits, in evaluation mode.
            inputs, heatmaps, targets: a batch.
            seed: of the first item; each further one has the next.
        """
        values = [
            self._measured(model, inputs[item : item + 1], heatmaps[item], target, seed + item)[""]
            for item, target in enumerate(targets.tolist())
        ]
        return self.add(torch.tensor(values, dtype=torch.float64))

    @abstractmethod
    def _measured(
        self, model: Model, inputs: Tensor, heatmap: Tensor, target: int, seed: int
    ) -> Mapping[str, float]: ...

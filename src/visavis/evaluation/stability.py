"""How alike a map stays when the picture changes by less than a viewer notices.

A map that moves although the picture and the decision stay is hard to trust. The reverse does not hold: a map that
never moves, such as one that ignores the picture, is perfectly stable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from visavis.errors import InputError
from visavis.evaluation.base import Case, Context, Explainer, Metric, register_metric
from visavis.evaluation.discriminativeness import cosine, rank_correlation, ssim
from visavis.evaluation.maps import exact

#: How alike two batches of maps (B, H, W) are, (B,), by name: 1 where they are the same.
LIKENESS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"rank": rank_correlation, "cosine": cosine, "ssim": ssim}


class Stability(NamedTuple):
    """How much a map changes with the picture.

    Attributes:
        likeness: the mean over the disturbed pictures of how alike their maps and the map are.
        sensitivity: the largest ‖map of the disturbed picture − map‖₂ / ‖map‖₂, 0 or more; NaN for a map of zeros.
    """

    likeness: float
    sensitivity: float


def likeness(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the measure of a name, of LIKENESS.

    Raises:
        InputError: there is none.
    """
    if name not in LIKENESS:
        raise InputError(f"there is no measure of likeness {name!r}; there are {', '.join(LIKENESS)}")
    return LIKENESS[name]


def disturbed(
    inputs: Tensor, *, noise: float, samples: int, seed: int = 0, bounds: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Return noisy copies (samples, C, H, W) of one picture (1, C, H, W), within the range of its pixels.

    Args:
        inputs: normalised.
        noise: the standard deviation of the Gaussian noise, as a share of each channel's range.
        samples: how many copies.
        seed: of the noise.
        bounds: the lowest and highest value that a normalised pixel can take, (1, C, 1, 1) each; None: each channel's
            lowest and highest value in the picture. What the noise takes beyond is cut off.

    Raises:
        InputError: there is not exactly one picture, or the noise or the number of copies is out of range.
    """
    if inputs.dim() != 4 or len(inputs) != 1:
        raise InputError(f"noise is added to one picture (1, C, H, W), not to inputs of shape {tuple(inputs.shape)}")
    _check_noise(noise, samples)
    if bounds is None:
        low, high = inputs.amin((2, 3), keepdim=True), inputs.amax((2, 3), keepdim=True)
    else:
        low, high = (bound.to(inputs) for bound in bounds)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(samples, *inputs.shape[1:], generator=generator).to(inputs)
    return torch.minimum(torch.maximum(inputs + noise * (high - low) * drawn, low), high)


def _check_noise(noise: float, samples: int) -> None:
    if not 0 <= noise < math.inf or not samples >= 1:
        raise InputError(f"noise is a share of at least 0, of at least one sample, not {noise} and {samples}")


def _check_batch(batch: int) -> None:
    if not batch >= 1:
        raise InputError(f"a batch is of at least one picture, not {batch}")


def stability(
    explainer: Explainer,
    inputs: Tensor,
    heatmap: Tensor,
    target: int,
    *,
    noise: float = 0.02,
    samples: int = 4,
    measure: str = "rank",
    bounds: tuple[Tensor, Tensor] | None = None,
    batch: int = 4,
    seed: int = 0,
) -> Stability:
    """Explain noisy copies of a picture, for the same class, and compare their maps with the picture's own.

    The sensitivity is that of Yeh et al. 2019 (On the (In)fidelity and Sensitivity of Explanations), max-sensitivity,
    from samples; other than there, the noise is Gaussian instead of from a ball, and the change is relative to the
    map, so that methods on different scales compare.

    Args:
        explainer: made the map.
        inputs: (1, C, H, W).
        heatmap: (H, W), signed, of the picture itself.
        target: class index.
        noise, samples, bounds, seed: as for `disturbed`.
        measure: of LIKENESS.
        batch: pictures explained at a time.

    Raises:
        InputError: as `disturbed` does, or there is no such measure, or the batch is below 1.
    """
    alike = likeness(measure)
    _check_batch(batch)
    found, farthest = [], 0.0
    own = exact(heatmap[None])
    size = float(own.norm())
    copies = disturbed(inputs, noise=noise, samples=samples, seed=seed, bounds=bounds)
    for start in range(0, samples, batch):
        several = copies[start : start + batch]
        targets = torch.full((len(several),), target, device=inputs.device)
        maps = exact(explainer.heatmaps(several, targets)).to(own.device)
        found.append(alike(own.expand_as(maps), maps))
        farthest = max(farthest, float((maps - own).flatten(1).norm(dim=1).max()))
    return Stability(float(torch.cat(found).mean()), farthest / size if size else math.nan)


@register_metric
class MapStability(Metric):
    """How alike the maps of slightly noisy copies are to the map; under "sensitivity" the largest relative change.

    In [−1, 1], higher is better; the sensitivity is in [0, ∞), lower is better. Arguments as for
    `stability`; the range of the pixels is the classifier's.

    Raises:
        InputError: an argument is not as described.
    """

    name: ClassVar[str] = "stability"
    title: ClassVar[str] = "stability under noise"
    source: ClassVar[str] = "after Yeh et al. 2019 (On the (In)fidelity and Sensitivity of Explanations)"
    direction: ClassVar[str] = "higher"
    low: ClassVar[float] = -1.0

    def __init__(self, *, noise: float = 0.02, samples: int = 4, measure: str = "rank", batch: int = 4) -> None:
        super().__init__()
        _check_noise(noise, samples)
        _check_batch(batch)
        likeness(measure)
        self.noise, self.samples, self.measure, self.batch = noise, samples, measure, batch

    def update(
        self,
        explainer: Explainer,
        inputs: Tensor,
        heatmaps: Tensor,
        targets: Tensor,
        *,
        bounds: tuple[Tensor, Tensor] | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Keep and return the values (B,) of maps (B, H, W), signed, of inputs (B, C, H, W) and class indices (B,).

        Args:
            explainer: made the maps.
            inputs, heatmaps, targets: a batch.
            bounds: of the pixels, as for `disturbed`.
            seed: of the first item; each further one has the next.
        """
        values = [
            self._measured(explainer, inputs[item : item + 1], heatmaps[item], target, bounds, seed + item).likeness
            for item, target in enumerate(targets.tolist())
        ]
        return self.add(torch.tensor(values, dtype=torch.float64))

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> dict[str, float]:
        """Return the likeness under "", and the sensitivity, which a map of zeros has none of."""
        bounds, explainer = context.classifier.bounds, context.explainer
        found = self._measured(explainer, case.inputs, heatmap, case.target, bounds, context.seed)
        values = {"": found.likeness, "sensitivity": found.sensitivity}
        return {key: value for key, value in values.items() if not math.isnan(value)}

    def _measured(
        self,
        explainer: Explainer,
        inputs: Tensor,
        heatmap: Tensor,
        target: int,
        bounds: tuple[Tensor, Tensor] | None,
        seed: int,
    ) -> Stability:
        return stability(
            explainer,
            inputs,
            heatmap,
            target,
            noise=self.noise,
            samples=self.samples,
            measure=self.measure,
            bounds=bounds,
            batch=self.batch,
            seed=seed,
        )


__all__ = ["LIKENESS", "MapStability", "Stability", "disturbed", "likeness", "stability"]

"""How much of a map is concentrated on few pixels. A concise map is not a true one: noise can be sparse, too."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from visavis.evaluation.base import Case, Context, Metric, register_metric
from visavis.evaluation.maps import as_given, exact


def gini(heatmaps: Tensor) -> Tensor:
    """Return the Gini index of the sizes |value| of each map's N pixels, (B,), 0 to 1 − 1/N.

    With sizes sorted from the smallest, c₁ ≤ … ≤ c_N: 1 − 2 Σ_k c_k / Σc · (N − k + 1/2) / N (Hurley and Rickard 2009;
    Chalasani et al. 2020 apply it to attributions). 0 where all pixels are equally large, 1 − 1/N where but one is not
    zero. A map of zeros has 0: nothing stands out in it.

    Args:
        heatmaps: (B, H, W), signed.

    Raises:
        InputError: they are not (B, H, W), or not finite.
    """
    sizes = exact(heatmaps).abs().flatten(1).sort().values
    count = sizes.shape[1]
    # The same sum, gathered so that equal sizes cancel, up to rounding.
    ranks = 2 * torch.arange(1, count + 1, dtype=sizes.dtype, device=sizes.device) - count - 1
    total = sizes.sum(1)
    found = (sizes * ranks).sum(1) / (count * torch.where(total > 0, total, 1))
    return as_given(found.clamp(min=0), heatmaps)


def entropy(heatmaps: Tensor) -> Tensor:
    """Return the entropy of each map in nats, (B,), 0 to ln N, of the share of each of its N pixels in Σ|value|.

    The complexity of Bhatt, Weller and Moura 2020 (Evaluating and Aggregating Feature-based Model Explanations). 0
    where but one pixel is not zero, ln N where all are equally large. A map of zeros has ln N: nothing stands out.

    Args:
        heatmaps: (B, H, W), signed.

    Raises:
        InputError: they are not (B, H, W), or not finite.
    """
    sizes = exact(heatmaps).abs().flatten(1)
    total = sizes.sum(1, keepdim=True)
    shares = sizes / torch.where(total > 0, total, 1)
    found = torch.special.entr(shares).sum(1)
    return as_given(torch.where(total[:, 0] > 0, found, math.log(sizes.shape[1])), heatmaps)


@register_metric
class Sparsity(Metric):
    """The Gini index of the map: 0 where all pixels matter alike, near 1 where few matter.

    In [0, 1], higher is better.
    """

    name: ClassVar[str] = "sparsity"
    title: ClassVar[str] = "sparsity (Gini index)"
    source: ClassVar[str] = "Chalasani et al. 2020 (Concise Explanations of Neural Networks using Adversarial Training)"
    direction: ClassVar[str] = "higher"

    def update(self, heatmaps: Tensor) -> Tensor:
        """Keep and return the values (B,) of maps (B, H, W); see `gini`."""
        return self.add(gini(heatmaps))

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> dict[str, float]:
        """Return the Gini index under ""."""
        return {"": float(gini(heatmap[None]))}


@register_metric
class Complexity(Metric):
    """The entropy of the map in nats: 0 where one pixel matters, ln N where all N matter alike.

    In [0, ∞), lower is better.
    """

    name: ClassVar[str] = "complexity"
    title: ClassVar[str] = "complexity (entropy)"
    source: ClassVar[str] = "Bhatt, Weller, Moura 2020 (Evaluating and Aggregating Feature-based Model Explanations)"
    direction: ClassVar[str] = "lower"
    high: ClassVar[float] = math.inf

    def update(self, heatmaps: Tensor) -> Tensor:
        """Keep and return the values (B,) of maps (B, H, W); see `entropy`."""
        return self.add(entropy(heatmaps))

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> dict[str, float]:
        """Return the entropy under ""."""
        return {"": float(entropy(heatmap[None]))}

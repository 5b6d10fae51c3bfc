"""Concept alignment: does a unit respond where a concept is?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.errors import InputError

#: The share of all positions at which a unit is taken to respond: Network Dissection's.
TOP = 0.005


def concept_alignment(maps: Tensor, masks: Tensor, *, top: float = TOP) -> Tensor:
    """Return the IoU of where each unit responds with where each concept is, (U, C), 0 to 1, float64.

    Bau et al. 2017 (Network Dissection): a unit's threshold is that which its activations exceed at a share `top` of
    all positions of all images; activations are then brought to the size of the masks, bilinearly; intersections and
    unions are summed over all images. NaN for a concept that is nowhere and a unit that never responds.

    Args:
        maps: (N, U, H, W) activations.
        masks: (N, C, h, w), bool, where each concept is.
        top: above 0 and below 1.

    Raises:
        InputError: an argument is not as described.
    """
    if (
        maps.dim() != 4
        or masks.dim() != 4
        or len(maps) != len(masks)
        or not maps.numel()
        or masks.dtype is not torch.bool
    ):
        raise InputError(
            f"maps (N, U, H, W) go with masks (N, C, h, w), bool; these are {tuple(maps.shape)} and "
            f"{tuple(masks.shape)}, {masks.dtype}"
        )
    if not 0 < top < 1:
        raise InputError(f"the top share of positions is above 0 and below 1, not {top}")
    found = torch.empty(maps.shape[1], masks.shape[1], dtype=torch.float64)
    there = masks.transpose(0, 1).flatten(1).cpu()
    sizes = there.sum(1)
    for unit in range(maps.shape[1]):
        own = maps[:, unit].detach().cpu().double()
        threshold = torch.from_numpy(np.quantile(own.numpy(), 1 - top, keepdims=True)).flatten()
        large = F.interpolate(own[:, None], size=masks.shape[2:], mode="bilinear", align_corners=False)
        responds = (large > threshold).flatten()
        both = (there & responds).sum(1)
        found[unit] = both.double() / (sizes + responds.sum() - both)
    return found


__all__ = ["TOP", "concept_alignment"]

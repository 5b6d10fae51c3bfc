"""Maps on their way into a metric and out of it: checked, in float64, and back in the caller's type."""

from __future__ import annotations

import torch
from torch import Tensor

from visavis.errors import InputError


def exact(heatmaps: Tensor) -> Tensor:
    """Return heatmaps (B, H, W) in float64: where they are, or on the CPU if their device has no float64 (mps).

    Raises:
        InputError: they are not (B, H, W) with at least one pixel, or hold NaN or infinite values.
    """
    if heatmaps.ndim != 3 or 0 in heatmaps.shape[1:]:
        raise InputError(f"heatmaps are (B, H, W), but have the shape {tuple(heatmaps.shape)}; pass one map a case")
    maps = heatmaps.detach().to("cpu" if heatmaps.device.type == "mps" else heatmaps.device)
    broken = int((~torch.isfinite(maps)).flatten(1).any(1).sum())
    if broken:
        raise InputError(
            f"{broken} of {len(maps)} heatmaps hold NaN or infinite values, which no metric can rate; "
            "look for what made them"
        )
    return maps.double()


def as_given(values: Tensor, heatmaps: Tensor) -> Tensor:
    """Return what a metric found, in the type and on the device of the heatmaps; in float32 where those are coarser."""
    return values.to(heatmaps.device, torch.promote_types(heatmaps.dtype, torch.float32))

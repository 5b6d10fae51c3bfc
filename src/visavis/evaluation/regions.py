"""Where a class is: regions of pixels from boxes, regions grown by a margin, and pictures in which it is hard to find.

Pixel (row r, column c) covers x from c to c + 1 and y from r to r + 1, so that its centre is (c + 0.5, r + 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.errors import InputError


def region(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the pixels of a picture whose centre lies in any of the boxes, as (H, W), bool, on the CPU.

    A box so narrow that it holds no centre stands for the pixel (or row or column of pixels) that holds its middle.
    What of a box lies outside the picture does not count; a box wholly outside, or without area, holds no pixel.

    Args:
        boxes: (K, 4), x0, y0, x1, y1 in pixels, with fractions; x1 and y1 exclusive.
        size: H and W of the picture, in pixels.

    Raises:
        InputError: the boxes are not (K, 4), not finite, or end before they begin.
    """
    corners = _checked(boxes)
    height, width = size
    rows, columns = _span(corners[:, 1], corners[:, 3], height), _span(corners[:, 0], corners[:, 2], width)
    return (rows[:, :, None] & columns[:, None, :]).any(0)


def widened(regions: Tensor, margin: float) -> Tensor:
    """Return regions (B, H, W), bool, grown by a disc: each pixel whose centre is at most `margin` pixels from the
    centre of a pixel of the region.

    Raises:
        InputError: the margin is negative or not finite.
    """
    check_margin(margin, "margin of a region")
    margin = min(margin, sum(regions.shape[1:]))  # farther apart no two pixels are, and the square stays finite
    across = torch.minimum(_steps_back(regions), _steps_back(regions.flip(2)).flip(2)) ** 2
    height = regions.shape[1]
    reach = min(int(margin), height)
    padded = F.pad(across, (0, 0, reach, reach), value=math.inf)
    nearest = across
    for step in range(-reach, reach + 1):
        nearest = torch.minimum(nearest, padded[:, reach + step : reach + step + height] + step**2)
    return nearest <= margin**2


def check_margin(margin: float, name: str) -> None:
    """Refuse a margin, called `name`, that is negative or not finite."""
    if not 0 <= margin < math.inf:
        raise InputError(f"the {name} is a number of pixels from 0, not {margin}")


def _steps_back(regions: Tensor) -> Tensor:
    """Return how many columns back the nearest pixel of the region is in each row, (B, H, W); infinite without one."""
    columns = torch.arange(regions.shape[2], dtype=torch.float32, device=regions.device)
    last = torch.where(regions, columns, -math.inf).cummax(2).values
    return columns - last


def difficult(boxes: Tensor, others: Collection[int], size: tuple[int, int]) -> bool:
    """Whether a class is hard to find: it covers less than a quarter of the picture, and is not the only class in it.

    After Zhang et al. 2016, the pointing game's difficult set. Their released script for COCO adds up the annotated
    areas of all classes instead; here, as in their text, the areas of the class itself. Where its boxes overlap, what
    they share counts twice; what lies outside the picture does not count.

    Args:
        boxes: (K, 4), of the class, x0, y0, x1, y1 in pixels.
        others: the other classes in the picture.
        size: H and W of the picture, in pixels.

    Raises:
        InputError: as `region` does.
    """
    corners = _checked(boxes)
    height, width = size
    wide = corners[:, [0, 2]].clamp(0, width).diff(dim=1)
    high = corners[:, [1, 3]].clamp(0, height).diff(dim=1)
    return len(others) > 0 and float((wide * high).sum()) < height * width / 4


def _checked(boxes: Tensor) -> Tensor:
    """Return boxes (K, 4), in float64 on the CPU."""
    corners = boxes.detach().cpu().double()
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise InputError(f"boxes are (K, 4), but have the shape {tuple(corners.shape)}; pass x0, y0, x1, y1 of each")
    good = corners.isfinite().all(1) & (corners[:, :2] <= corners[:, 2:]).all(1)
    if not good.all():
        worst = corners[~good][0].tolist()
        raise InputError(f"a box is x0, y0, x1, y1, from its upper left to its lower right corner, not {worst}")
    return corners


def _span(start: Tensor, end: Tensor, count: int) -> Tensor:
    """Return which of `count` pixels in a row each span holds, (K, count)."""
    start, end = start.clamp(0, count)[:, None], end.clamp(0, count)[:, None]
    pixels = torch.arange(count, dtype=torch.float64)
    inside = (start <= pixels + 0.5) & (pixels + 0.5 < end)
    middle = (((start + end) / 2).floor() == pixels) & (start < end)
    return torch.where(inside.any(1, keepdim=True), inside, middle)

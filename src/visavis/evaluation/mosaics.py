"""The grid pointing game: pictures of different classes side by side, each cell the answer to one question.

After Böhle et al. 2021 (Convolutional Dynamic Alignment Networks): n × n pictures, each of another class and
classified rightly on its own, are laid out as one. The map of each of the classes is to keep to the cell that shows
it. A map that tells nothing apart has the share 1 / n².
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.errors import InputError
from visavis.evaluation.base import Values
from visavis.evaluation.maps import as_given, exact
from visavis.evaluation.statistics import Summary, summary

# -- pure functions --------------------------------------------------------------------------------------------------


def mosaic(pictures: Tensor, size: int) -> Tensor:
    """Return pictures (n · n, C, H, W) laid out as one, (1, C, size, size), in reading order, resized by area.

    Raises:
        InputError: their number is no square, or `size` is not divisible by n.
    """
    if pictures.ndim != 4:
        raise InputError(f"the pictures of a mosaic are (n · n, C, H, W), not {tuple(pictures.shape)}")
    side = _side(len(pictures))
    if size < side or size % side:
        raise InputError(f"a mosaic of {side} × {side} cells is a multiple of {side} pixels wide, not {size}")
    cell = size // side
    cells = F.interpolate(pictures, (cell, cell), mode="area").reshape(side, side, -1, cell, cell)
    return cells.permute(2, 0, 3, 1, 4).reshape(1, -1, size, size)


def grid_shares(heatmaps: Tensor) -> Tensor:
    """Return, for maps of the classes in each cell, the share of positive relevance in the own cell, (n · n,), 0 to 1.

    Maps may be coarser than the mosaic, as those of an inner layer are: a pixel that straddles cells counts for each by
    the area in it. 0 for a map without positive relevance.

    Args:
        heatmaps: (n · n, H, W), signed, one for each cell in reading order.

    Raises:
        InputError: their number is no square, or they are not finite.
    """
    positive = exact(heatmaps).clamp(min=0)
    total = positive.sum((1, 2))
    return as_given(_in_own_cell(positive) / torch.where(total > 0, total, 1), heatmaps)


def grid_hits(heatmaps: Tensor) -> Tensor:
    """Return, for maps of the classes in each cell, whether the maximum is in the own cell, (n · n,), 0 to 1.

    0 or 1, but for a maximum in a pixel that straddles cells (the share of its area in the own cell) and one that
    several pixels have (their mean). A map without a positive value misses.

    Args:
        heatmaps: (n · n, H, W), signed, one for each cell in reading order.

    Raises:
        InputError: their number is no square, or they are not finite.
    """
    maps = exact(heatmaps)
    highest = maps.amax((1, 2), keepdim=True)
    maxima = ((maps == highest) & (highest > 0)).double()
    return as_given(_in_own_cell(maxima) / maxima.sum((1, 2)).clamp(min=1), heatmaps)


def _in_own_cell(maps: Tensor) -> Tensor:
    """Return how much of map k, of (n · n, H, W), lies in cell k, (n · n,)."""
    side = _side(len(maps))
    rows, columns = (_overlaps(length, side).to(maps) for length in maps.shape[1:])
    cells = rows @ maps @ columns.T
    return cells.flatten(1).diagonal()


def _overlaps(length: int, side: int) -> Tensor:
    """Return how much of each of `length` pixels in a row lies in each of `side` cells, (side, length)."""
    pixels, cells = torch.arange(length, dtype=torch.float64), torch.arange(side, dtype=torch.float64)[:, None]
    # In units in which both pixels and cells end at whole numbers.
    end = torch.minimum((pixels + 1) * side, (cells + 1) * length)
    start = torch.maximum(pixels * side, cells * length)
    return (end - start).clamp(min=0) / side


def _side(count: int) -> int:
    side = math.isqrt(count)
    if side < 1 or side**2 != count:
        raise InputError(f"a mosaic has n × n cells, such as 4 or 9, not {count}")
    return side


# -- metrics ---------------------------------------------------------------------------------------------------------


class GridPointing(Values):
    """The share of the map's positive relevance that lies in the cell of its class. In [0, 1], higher is better.

    The grid pointing game of Böhle et al. 2021; a map that tells no class from another has 1 / n². It rates the maps of
    a mosaic, which is no case of a data set, and so is not in the registry.

    Attributes:
        title: what tables call it.
        source: where it comes from.
        direction: "higher": which is better.
        low, high: the bounds of a value.
    """

    title: ClassVar[str] = "grid pointing game"
    source: ClassVar[str] = "Böhle et al. 2021 (Convolutional Dynamic Alignment Networks), the localisation metric"
    direction: ClassVar[str] = "higher"
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._mosaics: list[int] = []

    def update(self, heatmaps: Tensor) -> Tensor:
        """Keep and return the values (n · n,) of the maps of one mosaic.

        Args:
            heatmaps: (n · n, H, W), signed, of the class of each cell in reading order; of the mosaic's size, or
                coarser, as those of an inner layer are.

        Raises:
            InputError: their number is no square, or they are not finite.
        """
        values = self.add(self._rated(heatmaps))
        self._mosaics += [1 + max(self._mosaics, default=0)] * len(values)
        return values

    def compute(self) -> Summary:
        """Return the mean of all values kept, with its interval, for which whole mosaics are drawn."""
        return summary(self._values, groups=self._mosaics)

    def reset(self) -> None:
        """Forget all values."""
        super().reset()
        self._mosaics.clear()

    def _rated(self, heatmaps: Tensor) -> Tensor:
        return grid_shares(heatmaps)


class GridHits(GridPointing):
    """Whether the maximum of the map lies in the cell of its class; see `grid_hits`. In [0, 1], higher is better."""

    title: ClassVar[str] = "grid pointing game, maximum"
    source: ClassVar[str] = "Böhle et al. 2021 (Convolutional Dynamic Alignment Networks), by the maximum of the map"

    def _rated(self, heatmaps: Tensor) -> Tensor:
        return grid_hits(heatmaps)


__all__ = ["GridHits", "GridPointing", "grid_hits", "grid_shares", "mosaic"]

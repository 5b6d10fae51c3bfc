"""Where a picture's pixels go when a network's preprocessing resizes and crops it, measured on pictures that tell.

Nothing is assumed of the preprocessing but that it is a function from a picture to a tensor. It is shown pictures whose
brightness tells the place, and a straight line is fitted to what comes out, for each axis.

Coordinates are continuous: pixel (i, j) covers x from i to i + 1 and y from j to j + 1, and its centre is at
(i + 0.5, j + 0.5). So boxes are x0, y0, x1, y1 with x1 and y1 exclusive, before and after.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.classifier import Preprocess
from visavis.datasets.probes import fitted_axes
from visavis.errors import InputError

Boxes = Tensor | NDArray[np.generic] | Sequence[Sequence[float]]

_KEPT = 4096


@dataclass(frozen=True)
class Placement:
    """Where the pixels of a picture are in the input of a network: x' = scale · x + offset, for x and for y.

    Attributes:
        picture: width and height of the picture.
        size: width and height of the network's input.
        scale: pixels of the input for one of the picture, across and down; below 0 where it is mirrored.
        offset: where the left and the upper edge of the picture are in the input.
    """

    picture: tuple[int, int]
    size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]

    def boxes(self, boxes: Boxes) -> Tensor:
        """Return boxes (K, 4) of the picture in pixels of the input, cut off at its border; float32, on the CPU.

        None is dropped: a box that cannot be seen has no area, and lies at the border. `visible` tells how much of each
        is left. What reaches beyond the picture is cut off first.

        Raises:
            InputError: they are not (K, 4), or not finite.
        """
        return self._placed(_checked(boxes), cut=True).float()

    def visible(self, boxes: Boxes) -> Tensor:
        """Return the share of each box (K, 4) of the picture that is in the input, (K,), from 0 to 1; float32.

        Raises:
            InputError: they are not (K, 4), or not finite.
        """
        checked = _checked(boxes)
        whole, seen = _areas(self._placed(checked, cut=False)), _areas(self._placed(checked, cut=True))
        return torch.where(whole > 0, seen / whole.clamp_min(torch.finfo(whole.dtype).tiny), 0).float()

    def mask(self, mask: Tensor | NDArray[np.generic]) -> Tensor:
        """Return a mask (H, W) of the picture in the input, (h, w), bool, on the CPU.

        A pixel of the input has the value of the picture's pixel that its centre is in, and is False beyond it.

        Raises:
            InputError: the mask is not bool, or not as large as the picture.
        """
        given = torch.as_tensor(mask).cpu()
        width, height = self.picture
        if given.dtype != torch.bool or given.shape != (height, width):
            raise InputError(
                f"a mask of this picture is bool and of the shape {(height, width)}, but this is of type "
                f"{given.dtype} and of the shape {tuple(given.shape)}."
            )
        columns, rows = (self._sampled(axis) for axis in (0, 1))
        within = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        return given[rows.clamp(0, height - 1)[:, None], columns.clamp(0, width - 1)] & within

    def _sampled(self, axis: int) -> Tensor:
        """Return which pixel of the picture each pixel of the input is in, along an axis."""
        centres = torch.arange(self.size[axis], dtype=torch.float64) + 0.5
        return torch.floor((centres - self.offset[axis]) / self.scale[axis]).long()

    def _placed(self, boxes: Tensor, cut: bool) -> Tensor:
        scale, offset = (torch.tensor(pair * 2, dtype=torch.float64) for pair in (self.scale, self.offset))
        if cut:
            boxes = _within(boxes, self.picture)
        placed = boxes * scale + offset
        ordered = torch.cat(
            [torch.minimum(placed[:, :2], placed[:, 2:]), torch.maximum(placed[:, :2], placed[:, 2:])], 1
        )
        return _within(ordered, self.size) if cut else ordered


def placement_of(preprocess: Preprocess, size: tuple[int, int]) -> Placement:
    """Measure where preprocessing puts the pixels of a picture of `size`, its width and height.

    The error is below a quarter of a pixel of the picture or of the input, whichever is larger, for pictures of up to
    4000 pixels; below half a pixel where the nearest neighbour is taken, which itself is off by as much, and where less
    than 8 pixels of the input show the picture, between padding. Placements are kept, for the last few thousand sizes:
    `preprocess` must not change.

    Args:
        preprocess: from a PIL picture in mode RGB to a tensor (C, h, w), or (1, C, h, w). Along each axis it resizes,
            crops, mirrors or pads with one colour; each value may be mapped by a straight line.
        size: of the picture, as it is given to `preprocess`.

    Raises:
        InputError: it does anything else, such as to rotate, or to crop at random.
    """
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"a picture is at least 1 x 1 pixels, not {width} x {height}.")
    return _placement(_Same(preprocess), (int(width), int(height)))


@dataclass(frozen=True, eq=False)
class _Same:
    """A function that equals itself alone, whatever it is compared by."""

    preprocess: Preprocess

    def __hash__(self) -> int:
        return id(self.preprocess)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.preprocess is other.preprocess


@functools.lru_cache(maxsize=_KEPT)
def _placement(same: _Same, size: tuple[int, int]) -> Placement:
    across, down, seen = fitted_axes(same.preprocess, size)
    # x = slope · x' + start, the other way round.
    scale = (1 / across.slope, 1 / down.slope)
    offset = (-across.start / across.slope, -down.start / down.slope)
    return Placement(size, seen, scale, offset)


def _checked(boxes: Boxes) -> Tensor:
    tensor = torch.as_tensor(boxes).detach().cpu().double() if len(boxes) else torch.zeros(0, 4, dtype=torch.float64)
    if tensor.ndim != 2 or tensor.shape[1] != 4 or not tensor.isfinite().all():
        raise InputError(f"boxes are (K, 4), x0, y0, x1, y1, and finite, but these have shape {tuple(tensor.shape)}.")
    return tensor


def _within(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    edges = torch.tensor(size * 2, dtype=boxes.dtype)
    return torch.minimum(boxes.clamp_min(0), edges)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(1)

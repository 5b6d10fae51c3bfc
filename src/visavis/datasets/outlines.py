"""Masks from outlines: polygons, and the run lengths of COCO's format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.datasets.annotated import Mask
from visavis.errors import InputError
from visavis.pictures import MAX_PIXELS


def segmentation_mask(segmentation: object, size: tuple[int, int]) -> Mask:
    """Return the mask (H, W) of what COCO's format calls a segmentation.

    Args:
        segmentation: a list of polygons, of which the mask is the union; or {"size": [H, W], "counts": …} with run
            lengths, as a list or packed into a string.
        size: width and height of the picture.

    Raises:
        InputError: it is none of these, or not of this size.
    """
    width, height = size
    if width * height > MAX_PIXELS:
        raise InputError(f"a mask of {width} x {height} pixels is larger than any picture that is read.")
    if isinstance(segmentation, list):
        mask = np.zeros((height, width), bool)
        for polygon in segmentation:
            mask |= polygon_mask(polygon, size)
        return mask
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise InputError("a segmentation is a list of polygons, or an object with size and counts; this is neither.")
    if segmentation["size"] != [height, width]:
        raise InputError(
            f"a segmentation has the size {segmentation['size']}, but its picture has the height and width "
            f"{[height, width]}."
        )
    counts = segmentation["counts"]
    return runs_mask(unpacked(counts) if isinstance(counts, str) else counts, size)


def polygon_mask(corners: object, size: tuple[int, int]) -> Mask:
    """Return the pixels (H, W) whose centres lie in a polygon; where it crosses itself, even times in is out.

    A centre on an edge counts on the left and upper side alone, so that polygons that share an edge share no pixel.

    Args:
        corners: a list of x0, y0, x1, y1, …, in pixels; the last is joined with the first.
        size: width and height of the picture, beyond which the polygon may reach.

    Raises:
        InputError: the coordinates are no finite numbers, or an odd number of them.
    """
    width, height = size
    points = _numbers(corners, "a polygon has coordinates", float)
    if len(points) % 2 or not np.isfinite(points).all():
        raise InputError(f"a polygon is an even number of finite coordinates, not {len(points)} of them.")
    x, y = points[::2], points[1::2]
    # Along a row, each edge that crosses it turns in to out or out to in from there on.
    turns = np.zeros((height, width + 1), np.int64)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        (upper, left), (lower, right) = sorted([(y0, x0), (y1, x1)])
        first, last = (int(np.clip(np.ceil(edge - 0.5), 0, height)) for edge in (upper, lower))
        if first >= last:
            continue
        rows = np.arange(first, last)
        crossing = left + (rows + 0.5 - upper) / (lower - upper) * (right - left)
        columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
        turns[rows, columns] += 1
    inside: Mask = np.cumsum(turns[:, :width], axis=1) % 2 == 1
    return inside


def runs_mask(counts: object, size: tuple[int, int]) -> Mask:
    """Return the mask (H, W) of run lengths: so many pixels out, so many in, and so on, down column after column.

    Args:
        counts: a list of the lengths, whole numbers from 0, which add up to all pixels.
        size: width and height of the picture.

    Raises:
        InputError: they are not as described.
    """
    width, height = size
    lengths = _numbers(counts, "run lengths are", int)
    if (lengths < 0).any() or (lengths > width * height).any() or int(lengths.sum()) != width * height:
        raise InputError(f"run lengths are from 0 and add up to {width} x {height} pixels, which these do not.")
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.ascontiguousarray(inside.reshape(width, height).T)


def unpacked(text: str) -> list[int]:
    """Return the run lengths of a string, as COCO's format packs them.

    A character less 48 holds five bits of a number, the lowest first, and a sixth that says whether more follow; the
    highest bit of the last is its sign. From the fourth run on, the number is what to add to the run before the last.

    Raises:
        InputError: a character is out of range, or the last number is cut short.
    """
    lengths: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise InputError("packed run lengths have a character or number out of range; the file is damaged.")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        lengths.append(number + lengths[-2] if len(lengths) > 2 else number)
        number = shift = 0
    if shift:
        raise InputError("packed run lengths end in the middle of a number; the file is damaged.")
    return lengths


def _numbers(values: object, what: str, kind: type) -> NDArray[Any]:
    known = (int,) if kind is int else (int, float)
    if not isinstance(values, list | tuple) or not all(type(value) in known for value in values):
        raise InputError(f"{what} a list of {'whole numbers' if kind is int else 'numbers'}, which this is not.")
    try:
        return np.array(values, dtype=np.int64 if kind is int else np.float64)
    except OverflowError as error:
        raise InputError(f"{what} numbers of a picture's size, but one has {len(str(max(values)))} digits.") from error

"""A case as one small picture: the photograph as the network sees it, the boxes of the class, and the map over it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray
from torch import Tensor

from visavis.run_folder import read_regular

#: The longer side of each of the two, in pixels, and what lies between them.
SIDE, GAP = 240, 6
_QUALITY = 82
# For display only: the Gaussian over a map, as a share of the shorter side.
_SMOOTHING = 0.01
# What is larger is none of ours.
_MOST_BYTES = 1 << 20
_LONGEST_LABEL = 200
# Of a box as it is drawn, in pixels.
_SMALLEST = 10


class Thumbnail(NamedTuple):
    """A small picture of a case.

    Attributes:
        jpeg: the file.
        label: the class that was explained, in the words of the model.
    """

    jpeg: bytes
    label: str


def thumbnail(picture: Tensor, boxes: Tensor | None, heat: Tensor, label: str) -> Thumbnail:
    """Draw a case: the photograph with the boxes, and beside it the map over the greyed photograph, with them too.

    Orange is positive, blue negative; full colour is the 99.5th percentile of the map's own |values|, see
    `visavis.plotting`. The same arguments give the same bytes.

    Args:
        picture: (3, H, W), in [0, 1].
        boxes: (K, 4), x0, y0, x1, y1 in pixels of the picture; None: none.
        heat: (H, W), signed.
        label: of the class.

    Raises:
        InputError: the map holds NaN or infinite values, or sizes differ.
    """
    from visavis.plotting import TARGET, overlay, shared_scale, smooth

    colours = picture.detach().cpu().permute(1, 2, 0).double().numpy()
    smoothed = smooth(heat.detach().cpu().double().numpy(), _SMOOTHING * min(colours.shape[:2]))
    tiles = [_tile(each, boxes) for each in (colours, overlay(colours, smoothed, shared_scale([smoothed]), TARGET))]
    width, height = tiles[0].size
    both = PIL.Image.new("RGB", (2 * width + GAP, height), "white")
    for number, tile in enumerate(tiles):
        both.paste(tile, (number * (width + GAP), 0))
    stream = io.BytesIO()
    kept = label[:_LONGEST_LABEL]
    both.save(stream, "JPEG", quality=_QUALITY, comment=kept.encode("utf-8", "backslashreplace"))
    return Thumbnail(stream.getvalue(), kept)


def _tile(pixels: NDArray[np.float64], boxes: Tensor | None) -> PIL.Image.Image:
    image = PIL.Image.fromarray(np.rint(pixels.clip(0, 1) * 255).astype(np.uint8))
    factor = SIDE / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    # Few large pixels stay what they are: that is what the network sees.
    image = image.resize(size, PIL.Image.Resampling.LANCZOS if factor < 1 else PIL.Image.Resampling.NEAREST)
    draw = PIL.ImageDraw.Draw(image)
    for box in [] if boxes is None else boxes.tolist():
        corners = _drawn_corners([edge * factor for edge in box], size)
        # White within black is seen on any ground.
        draw.rectangle(corners, outline="black", width=4)
        x0, y0, x1, y1 = corners
        draw.rectangle((x0 + 1, y0 + 1, x1 - 1, y1 - 1), outline="white", width=2)
    return image


def _drawn_corners(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the first and last pixels of a box across and down; a small one is drawn larger, so that it is seen."""
    places = []
    for low, high, side in zip(box[:2], box[2:], size, strict=True):
        first, end = round(low), round(high)
        length = min(side, max(_SMALLEST, end - first))
        first = min(max(0, first - (length - (end - first)) // 2), side - length)
        places.append((first, first + length - 1))
    (x0, x1), (y0, y1) = places
    return x0, y0, x1, y1


def read_thumbnail(path: Path) -> Thumbnail | None:
    """Return the small picture in a file; None where there is none, or what is there is damaged or too large."""
    try:
        content = read_regular(path, _MOST_BYTES)
        with PIL.Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            if max(image.size) > 2 * SIDE + GAP:
                return None
            comment = image.info.get("comment", b"")
            image.load()
    except Exception:  # noqa: BLE001 (decoders fail on damaged bytes in every way there is)
        return None
    return Thumbnail(content, comment.decode("utf-8", "replace") if isinstance(comment, bytes) else "")


__all__ = ["GAP", "SIDE", "Thumbnail", "read_thumbnail", "thumbnail"]

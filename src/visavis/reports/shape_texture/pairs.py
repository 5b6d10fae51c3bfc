"""Pairs of images as a network sees them: what shares the shape, and what shares the texture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from visavis.errors import InputError
from visavis.plotting.contents import checked_picture
from visavis.plotting.page import MARGIN, Page
from visavis.plotting.parts import draw_tile, tile_size, write_title
from visavis.reports.style import WIDTH

_MOST = 6
# Between the images of a pair, between pairs, and between rows; how wide an image is at most.
_CLOSE, _APART, _BELOW, _WIDEST = 0.04, 0.3, 0.24, 1.5


def pair_sheet(pairs_of_factor: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]], *, title: str = "") -> Figure:
    """Draw pairs of images side by side, a row a factor.

    Args:
        pairs_of_factor: by the name of the factor that both images of a pair share, such as "shape", 1 to 6 pairs of
            images (H, W, 3) or (H, W, 1), in [0, 1].
        title: in place of the question that the figure answers.

    Raises:
        InputError: there is no factor, or one has no pair or too many; an image is none.
    """
    if not pairs_of_factor:
        raise InputError("no pairs came; give at least one of a factor")
    for factor, pairs in pairs_of_factor.items():
        if not 1 <= len(pairs) <= _MOST:
            raise InputError(f"{len(pairs)} pairs came that share the {factor}, but 1 to {_MOST} are drawn in a row")
    page = Page(WIDTH)
    said = "Two images side by side are a pair: they share the shape or the texture, and differ in the other."
    y = write_title(page, MARGIN, WIDTH - 2 * MARGIN, title or "Which images are compared?", said) + 0.14
    most = max(map(len, pairs_of_factor.values()))
    wide = min(_WIDEST, ((WIDTH - 2 * MARGIN - (most - 1) * _APART) / most - _CLOSE) / 2)
    for factor, pairs in pairs_of_factor.items():
        y += page.text(MARGIN, y, f"share the {factor}", WIDTH - 2 * MARGIN, size=10.0, weight="bold") + 0.05
        tall = 0.0
        for place, pair in enumerate(pairs):
            left = MARGIN + place * (2 * wide + _CLOSE + _APART)
            for number, image in enumerate(pair):
                picture = checked_picture(image)
                size = tile_size(picture, wide, wide)
                draw_tile(page, left + number * (wide + _CLOSE), y, size, picture)
                tall = max(tall, size[1])
        y += tall + _BELOW
    return page.ink(y)


__all__ = ["pair_sheet"]

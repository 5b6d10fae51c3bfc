"""Explanation vectors of images as images: the picture, and its vector over it."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from visavis.blackbox.vectors import Vectors
from visavis.errors import InputError
from visavis.plotting.colours import TARGET, overlay
from visavis.plotting.contents import Floats
from visavis.plotting.page import GAP, MARGIN, QUIET, Page
from visavis.plotting.parts import draw_tile, write_footer, write_title
from visavis.reports.style import WIDTH

_AT_MOST = 8


def images_figure(
    vectors: Vectors,
    size: tuple[int, int] | None = None,
    *,
    dark: bool = True,
    title: str | None = None,
) -> Figure:
    """Draw vectors of images: above each image, below it its vector over the image in grey.

    Orange pixels keep the image in its class when they grow (for a contrast: speak for A), blue ones lead away from it.
    Each vector is drawn at its own strength, as it is written below it. At most eight images.

    Args:
        vectors: what `ExplanationVectors` returned.
        size: (H, W) of an image of one channel; None: as the rows came, (…, H, W), channels summed.
        dark: whether larger values are darker ink, as in scanned digits.
        title: of the figure.

    Raises:
        InputError: the rows are no images of that size.
    """
    height, width = _size(vectors, size)
    count = min(len(vectors), _AT_MOST)
    page = Page(WIDTH)
    across = WIDTH - 2 * MARGIN
    what = "away from its class" if vectors.foils is None else "to the foil"
    said = (
        f"Orange: more ink there speaks for the class. Blue: more ink there leads {what}. Each at its own strength: "
        "full colour is the number below."
    )
    y = write_title(page, MARGIN, across, title or "Which pixels would change the classifier's mind", said) + 0.15
    tile = min((across - (count - 1) * GAP) / count, 2.4)
    box = (tile, tile * height / width)
    low, high = float(vectors.rows.min()), float(vectors.rows.max())
    for place in range(count):
        x = MARGIN + place * (tile + GAP)
        image = vectors.rows[place].reshape(-1, height, width).mean(0)
        shown = (image - low) / (high - low or 1.0)
        shown = 1 - shown if dark else shown
        heat = np.nan_to_num(_heat(vectors, place)).reshape(-1, height, width).sum(0)
        # ζ is away from the class: what speaks for it is its contrary.
        heat = -heat if vectors.foils is None else heat
        pixels = shown[:, :, None].repeat(3, 2)
        head = f"says {vectors.said[place]}"
        if vectors.foils is not None:
            head = f"{vectors.targets[place]}, not {vectors.foils[place]}"
        page.text(x, y, head, tile, size=9.5, weight="bold")
        draw_tile(page, x, y + 0.22, box, pixels)
        below = y + 0.34 + box[1]
        draw_tile(page, x, below, box, overlay(pixels[:, :, :1], heat, float(np.abs(heat).max()), TARGET))
        under = below + box[1] + 0.06
        under += page.text(x, under, _strength(vectors, place, heat), tile, size=8.0, colour=QUIET, lines=3)
        page.text(x, under, _agreement(vectors, place), tile, size=8.0, colour=QUIET, lines=2)
    return page.ink(write_footer(page, y + 2 * box[1] + 1.15, [f"Gradients: {vectors.source}."]))


def _heat(vectors: Vectors, place: int) -> Floats:
    """Return the vector, or where it is next to zero the direction of the Hessian."""
    return np.asarray(vectors.directions[place] if vectors.flat[place] else vectors.values[place])


def _strength(vectors: Vectors, place: int, heat: Floats) -> str:
    if vectors.flat[place]:
        return "next to zero: along the Hessian"
    if not np.isfinite(vectors.values[place]).all():
        return f"the mimic knows no {vectors.targets[place]}"
    return f"{np.abs(heat).max():.2g} per unit"


def _agreement(vectors: Vectors, place: int) -> str:
    agreement = vectors.agreement[place]
    return "" if vectors.exact or not np.isfinite(agreement) else f"agreement {100 * agreement:.0f} %"


def _size(vectors: Vectors, size: tuple[int, int] | None) -> tuple[int, int]:
    found = size if size is not None else vectors.shape[-2:] if len(vectors.shape) > 1 else None
    if found is None or len(found) != 2 or len(vectors.names) % max(1, found[0] * found[1]) or min(found) < 1:
        raise InputError(
            f"rows of {len(vectors.names)} values are no images of size {found}; give size=(height, width)"
        )
    return int(found[0]), int(found[1])


__all__ = ["images_figure"]

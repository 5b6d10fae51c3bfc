"""What read-outs make of pictures: their masks beside the true ones, a row a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

from visavis.errors import InputError
from visavis.plotting.contents import Floats, checked_picture
from visavis.plotting.lettering import fitted, percent, width_of
from visavis.plotting.page import HAIRLINE, INK, MARGIN, QUIET, Page
from visavis.plotting.parts import draw_tile, write_title
from visavis.reports.style import WIDTH, check_as_many, write
from visavis.shape_texture.segmented import VOID

_BACKGROUND = "#ececec"
# Twenty classes that stay apart for the red- and green-blind too (chosen for the largest smallest distance in OKLab, as
# they are and as Machado et al. 2009 say they are seen), the most different ones first.
_COLOURS = (
    "#b17662", "#143b76", "#00b1ff", "#00d876", "#276227", "#0062d8", "#764e89", "#ffb1c4", "#eb76d8", "#899d00",
    "#76004e", "#7676ff", "#d8b100", "#62899d", "#b1c4ff", "#4e27b1", "#b1274e", "#4e3b14", "#278900", "#00b19d",
)  # fmt: skip
_VOID_STYLE = {"facecolor": "white", "edgecolor": "#b0b0b0", "hatch": "///////"}
_GAP, _WIDEST, _TALLEST, _NUMBER = 0.1, 2.3, 2.3, 7.0
_READ_OUTS = 8


def readout_masks(
    images: Sequence[ArrayLike],
    truths: Sequence[ArrayLike],
    predictions: Mapping[str, Sequence[ArrayLike]],
    names: Sequence[str],
    *,
    scores: Mapping[str, float] | None = None,
    measure: str = "mIoU",
    title: str | None = None,
) -> Figure:
    """Draw pictures, their true masks, and what each read-out says, side by side.

    Class 0 is pale, as the background; void is hatched. Numbers in the masks are those of the classes in the key.

    Args:
        images: n pictures, (H, W, 3) or (H, W, 1), in [0, 1].
        truths: n masks, (H, W), whole numbers below K, or 255 for void.
        predictions: by the name of the read-out, n masks alike; eight read-outs at most.
        names: of the K classes. From the 22nd on colours come again; the numbers tell them apart.
        scores: by the name of the read-out, what it reaches, 0 to 1; written above its masks.
        measure: what the scores are.
        title: in place of the question that the figure answers.

    Raises:
        InputError: there are no pictures, or more than eight read-outs; a mask is not as its picture, or holds classes
            without names; a score is of no read-out.
    """
    check_as_many("figures", min(len(images), 1), "images", 1)
    check_as_many("true masks", len(truths), "images", len(images))
    if len(predictions) > _READ_OUTS:
        raise InputError(
            f"{len(predictions)} read-outs came, but at most {_READ_OUTS} stand side by side; draw several"
        )
    strangers = [name for name in scores or {} if name not in predictions]
    if strangers:
        raise InputError(f"a score came of {strangers[0]!r}, which is none of the read-outs; name it as its masks")
    for name, masks in predictions.items():
        check_as_many("masks", len(masks), f"images, of {name!r}", len(images))
    pictures = [checked_picture(one) for one in images]
    columns = [("truth", truths), *predictions.items()]
    rows = [
        [_mask(masks[place], picture.shape[:2], name, place, len(names)) for name, masks in columns]
        for place, picture in enumerate(pictures)
    ]
    page = Page(WIDTH)
    said = "Left the picture and its true mask, right what each read-out says. Numbers: the classes in the key."
    heading = title or "What can be read out of the network?"
    y = write_title(page, MARGIN, WIDTH - 2 * MARGIN, heading, said) + 0.12
    found = np.unique(np.concatenate([np.unique(mask) for row in rows for mask in row]))
    y = _key(page, y, found, names) + 0.12
    count = len(columns) + 1
    width = min(_WIDEST, (WIDTH - 2 * MARGIN - (count - 1) * _GAP) / count)
    lefts = [MARGIN + place * (width + _GAP) for place in range(count)]
    heights = [page.text(lefts[0], y, "picture", width, size=9.0, weight="bold")]
    for x, (name, _) in zip(lefts[1:], columns, strict=True):
        taken = page.text(x, y, name, width, size=9.0, weight="bold", lines=3)
        if scores and name in scores:
            taken += page.text(x, y + taken, f"{measure} {_percent(scores[name])}", width, size=8.5, colour=QUIET)
        heights.append(taken)
    y += max(heights) + 0.05
    for picture, masks in zip(pictures, rows, strict=True):
        tall, wide = picture.shape[:2]
        shrink = min(width / wide, _TALLEST / tall)
        size = max(wide * shrink, 0.05), max(tall * shrink, 0.05)
        draw_tile(page, lefts[0], y, size, picture)
        for x, mask in zip(lefts[1:], masks, strict=True):
            page.plot(x, y, *size, _drawing(mask, shrink))
            page.box(x, y, *size, facecolor="none", edgecolor=HAIRLINE, linewidth=0.6)
        y += size[1] + _GAP
    return page.ink(y + 0.2)


def _percent(score: float) -> str:
    return "–" if np.isnan(score) else percent(score)


def _mask(given: ArrayLike, size: tuple[int, ...], name: str, place: int, classes: int) -> NDArray[np.int64]:
    mask = np.asarray(given)
    if mask.dtype.kind not in "iu" or mask.shape != size:
        raise InputError(
            f"mask {place} of {name!r} is {mask.dtype} of shape {mask.shape}, but whole numbers of shape {size}, as "
            "its picture, were expected"
        )
    mask = mask.astype(np.int64)
    wrong = np.unique(mask[(mask != VOID) & ((mask < 0) | (mask >= classes))])
    if len(wrong):
        raise InputError(
            f"mask {place} of {name!r} holds {wrong[0]}, but there are names of {classes} classes; give 0 to "
            f"{classes - 1}, or {VOID} for void"
        )
    return mask


def _colour(number: int) -> str:
    return _BACKGROUND if number == 0 else _COLOURS[(number - 1) % len(_COLOURS)]


def _on(number: int) -> str:
    """Ink or white, whichever is read more easily on a class."""
    red, green, blue = to_rgb(_colour(number))
    return INK if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.2 else "white"


def _key(page: Page, y: float, found: NDArray[np.int64], names: Sequence[str]) -> float:
    """The classes that occur, in as many lines as it takes; return where they end."""
    x = MARGIN
    for number in sorted(found.tolist(), key=lambda one: (one == VOID and one >= len(names), one)):
        void = number == VOID and number >= len(names)
        name = "void: not counted" if void else fitted(names[number], 2.0, 8.5)
        wide = 0.3 + width_of(name, 8.5) + 0.2
        if x > MARGIN and x + wide > WIDTH - MARGIN:
            x, y = MARGIN, y + 0.2
        style = _VOID_STYLE if void else {"facecolor": _colour(number), "edgecolor": HAIRLINE}
        page.box(x, y, 0.24, 0.15, linewidth=0.4, **style)
        if not void:
            page.text(x + 0.12, y + 0.024, f"{number}", 0.3, size=_NUMBER, colour=_on(number), align="center")
        page.text(x + 0.3, y + 0.005, name, wide, size=8.5)
        x += wide
    return y + 0.2


def _drawing(mask: NDArray[np.int64], shrink: float) -> Callable[[Axes], None]:
    pixels: Floats = np.zeros((*mask.shape, 4))
    numbers = [number for number in np.unique(mask).tolist() if number != VOID]
    for number in numbers:
        pixels[mask == number] = (*to_rgb(_colour(number)), 1.0)

    def draw(axes: Axes) -> None:
        axes.set(xticks=[], yticks=[])
        axes.patch.set(linewidth=0, **_VOID_STYLE)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.imshow(pixels, aspect="auto", interpolation="nearest", origin="upper")
        for number in numbers:
            place = _inmost(mask == number, 0.075 / shrink) if number else None
            if place is not None:
                style = {"ha": "center", "va": "center_baseline", "color": _on(number)}
                write(axes, place[1], place[0], f"{number}", size=_NUMBER, **style)

    return draw


def _inmost(region: NDArray[np.bool_], room: float) -> tuple[float, float] | None:
    """Return the place, row and column, of a region that is farthest from its edge; None where that is too near."""
    away = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(away.argmax()), away.shape)
    return (float(row), float(column)) if away[row, column] >= room else None


__all__ = ["readout_masks"]

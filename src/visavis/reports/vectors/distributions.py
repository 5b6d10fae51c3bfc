"""One feature's component over a group and over all others: is it the group that the classifier reads differently?

As Baehrens et al. 2010, section 6, compare the local gradients of compounds with a known toxicophore and without: by
histograms, and by the test of Kolmogorov and Smirnov.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from visavis.blackbox.vectors import Vectors
from visavis.errors import InputError
from visavis.plotting.contents import Floats
from visavis.plotting.page import MARGIN, MARKER, QUIET, Page
from visavis.plotting.parts import write_footer, write_title
from visavis.reports.style import BLUE, ORANGE, WIDTH, nice_ticks, plain_axes, said, span


@dataclass(frozen=True, eq=False)
class Compared:
    """One feature's components in a group and outside.

    Attributes:
        feature: its name.
        inside, outside: per `scale` of the feature, the finite ones.
        statistic: of Kolmogorov and Smirnov: the largest distance of the two distribution functions, in [0, 1].
        pvalue: how often at least so large by chance if both were drawn from one, two-sided.
    """

    feature: str
    inside: Floats
    outside: Floats
    statistic: float
    pvalue: float


def compared(vectors: Vectors, feature: str | int, group: ArrayLike) -> Compared:
    """Compare one feature's component over a group with that over all others.

    The vectors are those of one classifier, so the test tells whether it treats the two differently, and not whether
    another classifier of other data would.

    Args:
        vectors: what `ExplanationVectors` returned.
        feature: by name or number.
        group: (M,), bool: which rows.

    Raises:
        InputError: there is no such feature, or one of both sides is empty.
    """
    from scipy.stats import ks_2samp

    chosen: NDArray[np.bool_] = np.asarray(group)
    if chosen.dtype != np.bool_ or chosen.shape != (len(vectors),):
        raise InputError(f"the group is {chosen.dtype} {chosen.shape}, but bool ({len(vectors)},) was expected")
    place = vectors.place_of(feature)
    values = vectors.per_deviation[:, place]
    some = np.isfinite(values)
    inside, outside = values[chosen & some], values[~chosen & some]
    if not len(inside) or not len(outside):
        raise InputError(f"{len(inside)} vectors are in the group and {len(outside)} are not, but both need some")
    test = ks_2samp(inside, outside)
    return Compared(vectors.names[place], inside, outside, float(test.statistic), float(test.pvalue))


def distribution_figure(found: Compared, names: tuple[str, str], *, quantity: str, title: str | None = None) -> Figure:
    """Draw both distributions: histograms as shares, and the distribution functions that the test compares.

    Args:
        found: what `compared` returned.
        names: of the group, and of all others.
        quantity: what the components are changes of.
        title: of the figure.
    """
    if not isinstance(quantity, str):
        raise InputError("the quantity is no text; give what the components are changes of, such as 'P(not A)'")
    page = Page(WIDTH)
    width = WIDTH - 2 * MARGIN
    heading = title or f"Does {found.feature} mean the same for both?"
    subtitle = (
        f"The component of {found.feature} in each vector: the change of {quantity} per standard deviation. Left, how "
        "often each size comes; right, the share of vectors up to that size."
    )
    y = write_title(page, MARGIN, width, heading, subtitle) + 0.14
    counts = (len(found.inside), len(found.outside))
    page.marker(MARGIN + 0.06, y + 0.075, "target")
    page.text(MARGIN + MARKER, y, f"{names[0]} ({counts[0]})", 4.0, size=8.5)
    page.marker(MARGIN + 0.06, y + 0.255, "foil")
    page.text(MARGIN + MARKER, y + 0.18, f"{names[1]} ({counts[1]})", 4.0, size=8.5)
    y += 0.62
    half = (width - 1.1) / 2
    for place, draw in enumerate((_histograms(found), _steps(found))):
        x = MARGIN + 0.5 + place * (half + 0.6)
        words = ("% of vectors", "% of vectors up to that size")[place]
        page.text(x - 0.35, y - 0.2, words, half, size=8.0, colour=QUIET)
        page.plot(x, y, half, 2.7, draw)
        page.text(x + half / 2, y + 2.92, f"component of {found.feature}", half, size=8.5, colour=QUIET, align="center")
    level = "p < 0.0001" if found.pvalue < 1e-4 else f"p = {found.pvalue:.2g}"
    line = f"Kolmogorov–Smirnov: largest distance {said(found.statistic, 2)}, {level}; medians "
    line += f"{said(float(np.median(found.inside)), 2)} and {said(float(np.median(found.outside)), 2)}."
    return page.ink(write_footer(page, y + 3.25, [line]))


def _histograms(found: Compared) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        plain_axes(axes)
        low, high = span(found.inside, found.outside)
        edges = np.linspace(low, high, 31)
        most = 0.0
        for values, colour, dashes in ((found.outside, BLUE, "--"), (found.inside, ORANGE, "-")):
            shares = np.histogram(values, edges)[0] / len(values)
            most = max(most, float(shares.max()))
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(shares, edges, color=colour, linewidth=1.4, linestyle=dashes)
        axes.axvline(0, color="#999999", linewidth=0.8)
        axes.set(xlim=(low, high), ylim=(0, most * 1.08))
        nice_ticks(axes.xaxis, low, high, 5)
        nice_ticks(axes.yaxis, 0, most * 1.08, 4, percent=True)

    return draw


def _steps(found: Compared) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        plain_axes(axes)
        low, high = span(found.inside, found.outside)
        for values, colour, dashes in ((found.outside, BLUE, "--"), (found.inside, ORANGE, "-")):
            ordered = np.sort(values)
            places = np.concatenate([[low], ordered, [high]])
            shares = np.append(np.arange(len(ordered) + 1) / len(ordered), 1.0)
            axes.step(places, shares, where="post", color=colour, linestyle=dashes, linewidth=1.5)
        axes.set(xlim=(low, high), ylim=(0, 1.02))
        nice_ticks(axes.xaxis, low, high, 5)
        nice_ticks(axes.yaxis, 0, 1, 4, percent=True)

    return draw


__all__ = ["Compared", "compared", "distribution_figure"]

"""One explanation vector as bars: a feature a bar, the strongest first, with its interval."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visavis.blackbox.rows import is_whole
from visavis.blackbox.vectors import Component, Vectors
from visavis.errors import InputError
from visavis.plotting.colours import COLORMAPS
from visavis.plotting.contents import Floats, Role
from visavis.plotting.lettering import fitted, percent, width_of
from visavis.plotting.page import INK, MARGIN, MARKER, QUIET, Page
from visavis.plotting.parts import write_footer, write_title
from visavis.reports.style import BLUE, ORANGE, WIDTH, nice_ticks, plain_axes, said, span, ticks_at

_BAR = 0.27
_ALONE = (
    "A vector tells what this classifier would do, also where there are no data: features that go together in the data "
    "are moved one by one."
)
_UNIT = re.compile(r"[(\[]([^()\[\]]+)[)\]]\s*$")


def bars_figure(vectors: Vectors, row: int = 0, *, most: int = 15, title: str | None = None) -> Figure:
    """Draw one vector: what a standard deviation more of each feature does.

    Orange, to the right: more of the feature speaks for the class; blue, to the left: against it, or for the foil. So
    of ζ, which is the way out of the class, the contrary is drawn, ∇ P(A). Lines are 95 % intervals. Where the gradient
    is next to zero the direction of the Hessian is drawn, in grey.

    Args:
        vectors: what `ExplanationVectors` returned.
        row: which of them.
        most: how many bars at most.
        title: in place of the question that it answers.

    Raises:
        InputError: there is no such vector, or it has no values.
    """
    if not is_whole(most, 1):
        raise InputError(f"{most!r} bars were asked for, but at least one was expected")
    vectors.strongest(row, 1)
    if not np.isfinite(vectors.values[row]).all():
        raise InputError(f"the mimic knows no row of {vectors.targets[row]}, so vector {row} has no values to draw")
    # Where nothing happens to second order either, there is no direction to show.
    flat = bool(vectors.flat[row]) and bool(np.isfinite(vectors.directions[row]).all())
    sizes = vectors.directions[row] if flat else vectors.speaks_for[row]
    order = np.argsort(-np.abs(sizes), kind="stable")[:most]
    shown, values = [vectors.part(row, int(place)) for place in order], sizes[order]
    between = None if flat else vectors.speaks_between(row)
    ends = None if between is None else np.stack([one[order] for one in between], 1)
    page = Page(WIDTH)
    width = WIDTH - 2 * MARGIN
    y = write_title(page, MARGIN, width, title or question(vectors, row), _subtitle(vectors, row, len(shown))) + 0.14
    y = _keys(page, y, vectors, row, flat)
    names = [_named(part, 3.2) for part in shown]
    indent = max(width_of(name, 9.0) for name in names) + 0.16
    sign = -1 if vectors.foils is None else 1
    notes = [] if flat else [_per_unit(part, sign) for part in shown]
    right = max((width_of(note, 8.0) for note in notes), default=0.0) + 0.3
    tall = len(shown) * _BAR
    draw = _bars(values, ends, names, flat)
    page.plot(MARGIN + indent, y, width - indent - right, tall, draw)
    for place, note in enumerate(notes):
        page.text(WIDTH - MARGIN, y + (place + 0.5) * _BAR - 0.06, note, right, size=8.0, colour=QUIET, align="right")
    room = width - indent - right
    of_what = fitted(vectors.speaks_of(row), room - width_of("change of  per standard deviation", 8.5) - 0.05, 8.5)
    what = "direction, in standard deviations" if flat else f"change of {of_what} per standard deviation"
    middle = MARGIN + indent + (width - indent - right) / 2
    page.text(middle, y + tall + 0.22, what, width - indent - right, size=8.5, colour=QUIET, align="center")
    return page.ink(write_footer(page, y + tall + 0.52, footer(vectors, row)))


def question(vectors: Vectors, row: int) -> str:
    """Return what a vector answers."""
    if vectors.foils is not None:
        return f"Why {vectors.targets[row]} and not {vectors.foils[row]}?"
    if vectors.flat[row]:
        return f"What would make it another than {vectors.targets[row]}?"
    return f"What speaks for {vectors.targets[row]}, and what against?"


def footer(vectors: Vectors, row: int) -> list[str]:
    """Return how far a vector can be trusted, in sentences."""
    if vectors.exact:
        return [f"Gradients: {vectors.source}.", _ALONE]
    lines = [f"Gradients: {vectors.source}, made to say what the classifier says of them."]
    agreement = vectors.agreement[row]
    if np.isfinite(agreement):
        lines[0] += f" Around this row it agrees with the classifier in {100 * agreement:.0f} % of the places asked."
    if not vectors.agrees[row]:
        lines.append(
            "At this row itself it says something else than the classifier: the vector explains the mimic alone."
        )
    if vectors.low is not None and not vectors.flat[row]:
        lines.append("Lines: 95 % intervals, by drawing the mimic's rows anew; the classifier stays the same.")
    return [*lines, _ALONE]


def _subtitle(vectors: Vectors, row: int, shown: int) -> str:
    target = vectors.targets[row]
    place = np.flatnonzero(vectors.classes == target)
    text = f"The classifier says {vectors.said[row]}."
    if len(place):
        whose = "it" if vectors.exact else "its mimic"
        text += f" P({target}) is {percent(float(vectors.probabilities[row, place[0]]))} by {whose}."
    if vectors.flat[row] and not np.isfinite(vectors.directions[row]).all():
        text += " The gradient is next to zero here, and nothing happens to second order either."
    elif vectors.flat[row]:
        text += (
            f" The gradient is next to zero here: shown is the direction along which "
            f"{vectors.quantity(row)} bends most, the way it rises."
        )
    if shown < len(vectors.names):
        text += f" The {shown} strongest of {len(vectors.names)} features."
    return text


def _keys(page: Page, y: float, vectors: Vectors, row: int, flat: bool) -> float:
    if flat:
        return y
    target = vectors.targets[row]
    other = f"against {target}" if vectors.foils is None else f"for {vectors.foils[row]}"
    roles: tuple[tuple[Role, str], ...] = (("target", f"for {target}"), ("foil", other))
    for place, (role, words) in enumerate(roles):
        colour = COLORMAPS[role](1.0)
        page.box(MARGIN, y + 0.02 + 0.18 * place, 0.12, 0.12, facecolor=colour, linewidth=0)
        page.text(
            MARGIN + MARKER, y + 0.18 * place, f"more of it speaks {words}", WIDTH - 2 * MARGIN - MARKER, size=8.5
        )
    return y + 0.5


def _named(part: Component, width: float) -> str:
    """Return a feature's name and value within a width: the name gives way, in its middle."""
    value = f" = {part.at:.0f}" if part.at == round(part.at) and abs(part.at) < 1e9 else f" = {said(part.at, 4)}"
    room = width - width_of(value, 9.0)
    name = "".join(letter if letter.isprintable() else " " for letter in part.name)
    if width_of(name, 9.0) > room:
        kept = len(name) - 1
        while kept > 2 and width_of(f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}", 9.0) > room:
            kept -= 1
        name = f"{name[: kept - kept // 2]}…{name[-(kept // 2) :]}"
    return name + value.replace("-", "−")


def _per_unit(part: Component, sign: int) -> str:
    found = _UNIT.search(part.name)
    return f"{said(sign * part.value, 2)} per {found.group(1).strip() if found else 'unit'}"


def _bars(values: Floats, ends: Floats | None, names: list[str], flat: bool) -> Callable[[Axes], None]:
    colours = ["#8a8a8a" if flat else ORANGE if one > 0 else BLUE for one in values]
    ends = np.empty((0, 2)) if ends is None else ends

    def draw(axes: Axes) -> None:
        plain_axes(axes)
        rows = np.arange(len(values))
        axes.barh(rows, values, height=0.62, color=colours, linewidth=0)
        for row, (low, high) in enumerate(ends):
            axes.plot([low, high], [row, row], color=INK, linewidth=1.1, solid_capstyle="butt")
            for end in (low, high):
                axes.plot([end, end], [row - 0.14, row + 0.14], color=INK, linewidth=1.1)
        axes.axvline(0, color="#999999", linewidth=0.8)
        low, high = span(values, ends[np.isfinite(ends)], [0.0], room=0.08)
        axes.set(xlim=(low, high), ylim=(len(values) - 0.5, -0.5))
        axes.spines["left"].set_visible(False)
        axes.yaxis.grid(False)
        ticks_at(axes.yaxis, range(len(values)), names, size=9.0, color=INK)
        axes.tick_params(axis="y", length=0)
        nice_ticks(axes.xaxis, low, high, 5)

    return draw


__all__ = ["bars_figure", "footer", "question"]

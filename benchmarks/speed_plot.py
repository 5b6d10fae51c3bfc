"""The figure of the speed benchmark: cost in forward passes against batch, number of maps and image side.

Costs are per map, so that what several maps of an image share shows as a line that falls.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from speed_contestants import CONTESTANTS
from speed_models import MODELS, SIDE
from speed_race import GRAPH
from speed_results import PASS, Case, Measured, Result, merged

import visavis as vv

#: The endings under which it is written.
FORMATS = (".svg", ".png")
#: What is varied: the attribute of a case, and how an axis and a panel's title call it.
QUANTITIES = {
    "batch": ("images in a batch", "batch {}"),
    "maps": ("maps of each image, K", "K = {}"),
    "side": ("side of the images in px", "{} px"),
}
_COLUMNS = 3
# Colours that the colour-blind tell apart (Okabe and Ito); markers say the same again.
_STYLES = {
    "Visavis CLRP": ("#0072B2", "o", "-"),
    "Visavis CLRP, graph": ("#0072B2", "o", "--"),
    "Visavis CLRP, compiled": ("#0072B2", "o", "-."),
    "Visavis LRP": ("#56B4E9", "v", "-"),
    "Visavis LRP, graph": ("#56B4E9", "v", "--"),
    "Visavis LRP, compiled": ("#56B4E9", "v", "-."),
    "Visavis Gradient": ("#009E73", "^", "-"),
    "zennit, same contrast": ("#D55E00", "s", "-"),
    "authors' algorithm": ("#000000", "D", "-"),
    "captum LRP, no contrast": ("#CC79A7", "P", "-"),
    "captum Saliency": ("#E69F00", "X", "-"),
    GRAPH: ("#7F7F7F", "*", "--"),
}
_FLOOR = "least arithmetic of K maps by z⁺: (2 + K) F"
_FLOOR_STYLE = {"color": "#7F7F7F", "linewidth": 1, "linestyle": (0, (1, 2))}


@dataclass(frozen=True)
class Panel:
    """The costs of a map on one model against one quantity, the others held: for each contestant its points."""

    model: str
    quantity: str
    held: dict[str, int]
    lines: dict[str, list[tuple[int, float]]]

    @property
    def values(self) -> list[int]:
        """The values at which anything was measured."""
        return sorted({value for points in self.lines.values() for value, _ in points})

    @property
    def costs(self) -> list[float]:
        """All costs that are drawn, of the lines and of the arithmetic."""
        return [cost for points in (*self.lines.values(), self.floor()) for _, cost in points]

    def title(self) -> str:
        """Return the model, and what is held."""
        held = ", ".join(QUANTITIES[name][1].format(value) for name, value in self.held.items())
        return f"{MODELS[self.model]}: {held}"

    def floor(self) -> list[tuple[int, float]]:
        """Return what the arithmetic of z⁺ costs a map at each value."""
        maps = [value if self.quantity == "maps" else self.held["maps"] for value in self.values]
        return [(value, 2 / k + 1) for value, k in zip(self.values, maps, strict=True)]


def panels(results: Sequence[Result]) -> list[Panel]:
    """Return a panel for each quantity and model that it was varied for, in the order of `QUANTITIES` and `MODELS`."""
    costs = [result for result in results if not result.absent and result.title != PASS]
    models = dict.fromkeys(one.case.model for one in costs)
    found = [
        _panel(model, quantity, [result for result in costs if result.case.model == model])
        for quantity, model in itertools.product(QUANTITIES, sorted(models, key=list(MODELS).index))
    ]
    return [panel for panel in found if panel is not None]


def _panel(model: str, quantity: str, costs: Sequence[Result]) -> Panel | None:
    """Return the panel of most values; of several, that of the smallest batch and number of maps at the usual side."""
    groups: dict[tuple[tuple[str, int], ...], list[Result]] = defaultdict(list)
    for result in costs:
        if quantity == "maps" and result.title == GRAPH:  # a prediction has no share in each map
            continue
        groups[_held(result.case, quantity)].append(result)
    made = []
    for held, members in groups.items():
        lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for result in sorted(members, key=lambda one: getattr(one.case, quantity)):
            lines[result.title].append((getattr(result.case, quantity), result.cost / result.case.maps))
        made.append(Panel(model, quantity, dict(held), lines))
    made.sort(key=lambda one: (-len(one.values), *(abs(v - SIDE * (k == "side")) for k, v in one.held.items())))
    return made[0] if made and len(made[0].values) > 1 else None


def _held(case: Case, quantity: str) -> tuple[tuple[str, int], ...]:
    return tuple((name, value) for name, value in asdict(case).items() if name in QUANTITIES and name != quantity)


def figure(runs: Sequence[Measured]) -> Figure:
    """Return the figure of runs on one machine: a panel for each quantity and model that it was varied for.

    Raises:
        InputError: nothing was varied.
    """
    shown = panels(merged(runs))
    if not shown:
        raise vv.InputError("a plot needs at least two values of batch, maps or sides at which something was measured")
    rows = [one for _, group in itertools.groupby(shown, lambda one: one.quantity) for one in _rows(list(group))]
    columns = max(map(len, rows))
    titles = [title for title in _order() if any(title in panel.lines for panel in shown)]
    keys = [_key(title) for title in titles] + [Line2D([], [], label=_FLOOR, **_FLOOR_STYLE)]
    width = min(4, columns + 1)
    top = 0.75 + 0.22 * -(-len(keys) // width)
    page = Figure(figsize=(max(3.4 * columns, 7.2), 2.75 * len(rows) + top), layout="constrained", dpi=100)
    head, body = page.subfigures(2, 1, height_ratios=[top, 2.75 * len(rows)])
    grid = body.subplots(len(rows), columns, squeeze=False)
    for line, row in zip(grid, rows, strict=True):
        _scale(line, [cost for panel in shown if panel.quantity == row[0].quantity for cost in panel.costs])
        for axes in line[len(row) :]:
            axes.set_visible(False)
        for place, (axes, panel) in enumerate(zip(line, row, strict=False)):
            _draw(axes, panel, first=place == 0)
    machine, rounds = runs[0].machine, " or ".join(sorted({str(run.repeats) for run in runs}))
    head.text(
        0.012,
        1 - 0.1 / top,
        "What a map costs, in forward passes F of the same model",
        size=12,
        weight="bold",
        va="top",
    )
    taken = f"{machine.name}: {machine.settings}. Median of {rounds} rounds, random weights. Less is better."
    head.text(0.012, 1 - 0.38 / top, taken, size=8.5, color="#444444", va="top")
    head.legend(handles=keys, loc="lower left", ncols=width, fontsize=8.5, frameon=False)
    return page


def _order() -> list[str]:
    return [GRAPH, *(one.title for one in CONTESTANTS)]


def _rows(row: Sequence[Panel]) -> list[Sequence[Panel]]:
    return [row[start : start + _COLUMNS] for start in range(0, len(row), _COLUMNS)]


def _key(title: str) -> Line2D:
    colour, marker, style = _STYLES[title]
    return Line2D([], [], color=colour, marker=marker, linestyle=style, markersize=5, linewidth=1.6, label=title)


def _scale(line: Sequence[Axes], costs: Sequence[float]) -> None:
    """Give the panels of a quantity one scale."""
    least, most = min(costs), max(costs)
    steps = (1, 2, 5) if most / least < 300 else (1,)
    for axes in line:
        axes.set_yscale("log")
        axes.set_yticks([step * 10.0**power for power in range(-2, 5) for step in steps])
        axes.set_ylim(min(0.9, least) / 1.1, most * 1.35)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())


def _draw(axes: Axes, panel: Panel, first: bool) -> None:
    axes.plot(*zip(*panel.floor(), strict=True), **_FLOOR_STYLE)
    for title in _order():
        if title in panel.lines:
            colour, marker, style = _STYLES[title]
            points = zip(*panel.lines[title], strict=True)
            axes.plot(*points, color=colour, marker=marker, linestyle=style, markersize=5, linewidth=1.6)
    axes.set_xscale("log")
    axes.set_xticks(panel.values, [str(value) for value in panel.values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.08)
    axes.set_xlabel(QUANTITIES[panel.quantity][0], size=9)
    axes.set_title(panel.title(), size=9.5, loc="left")
    axes.tick_params(labelsize=8.5)
    axes.grid(axis="y", color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if first:
        axes.set_ylabel("cost in F, per map", size=9)

"""The figures of the study of units."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from unit_study_findings import live
from unit_study_measures import CUMULATIVE, Measured

# Colours that the colour-blind tell apart (Okabe and Ito); markers and dashes say the same again.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "os^DvPX"
_ORDERS = {"selectivity, descending": "-", "selectivity, ascending": "--", "random": ":"}


def units_figure(networks: Sequence[Measured]) -> Figure:
    """Return selectivity against both drops, a point for each live unit, and what rotated bases do, by seed."""
    turned = [one for one in networks if one.rotations]
    page = Figure(figsize=(9.5, 6.2) if turned else (9.5, 3.2), layout="constrained", dpi=100)
    rows = page.subplots(2 if turned else 1, 2, squeeze=False)
    first = [one for one in networks if one.variant == networks[0].variant]
    titles = {"overall": "overall drop", "hardest": "drop of the class hit hardest"}
    for axes, (kind, title) in zip(rows[0], titles.items(), strict=True):
        for place, one in enumerate(first):
            across, up = live(one, one.attributes["selectivity"]), live(one, getattr(one, kind))
            axes.scatter(across, up, s=12, label=f"seed {one.seed}", **_style(place))
        _label(axes, "class selectivity", title, f"{networks[0].variant}: units")
    if turned:
        for axes, (kind, title) in zip(
            rows[1], {"hardest": titles["hardest"], "selectivity": "class selectivity"}.items(), strict=True
        ):
            _rotations(axes, turned, kind)
            _label(axes, "share α of the rotation", f"{title}, mean", f"{turned[0].variant}: rotated bases")
    rows[0][0].legend(fontsize=7, frameon=False)
    return page


def _rotations(axes: Axes, networks: Sequence[Measured], kind: str) -> None:
    for place, one in enumerate(networks):
        rows = [row for row in one.rotations if row["value"] == "zero"]
        shares = sorted({row["share"] for row in rows})
        means = [fmean(row[kind] for row in rows if row["share"] == share) for share in shares]
        style = _style(place)
        axes.plot(shares, means, color=style["color"], marker=style["marker"], markersize=4, linewidth=1.2)


def curves_figure(networks: Sequence[Measured]) -> Figure:
    """Return accuracy against the number of units removed, a panel for each variant: means over seeds."""
    variants = list(dict.fromkeys(one.variant for one in networks))
    page = Figure(figsize=(max(4.0, 2.6 * len(variants)), 2.9), layout="constrained", dpi=100)
    line = page.subplots(1, len(variants), squeeze=False, sharey=True)[0]
    for axes, variant in zip(line, variants, strict=True):
        group = [one for one in networks if one.variant == variant]
        for place, (order, dashes) in enumerate(_ORDERS.items()):
            found = [curve for one in group for name, curve in one.curves.items() if name.startswith(order)]
            means = [fmean(values) for values in zip(*found, strict=True)]
            axes.plot(CUMULATIVE[: len(means)], means, color=_COLOURS[place], linestyle=dashes, label=order)
        _label(axes, "units removed", "accuracy" if axes is line[0] else "", variant)
    line[0].legend(fontsize=7, frameon=False)
    return page


def _style(place: int) -> dict[str, str]:
    return {"color": _COLOURS[place % len(_COLOURS)], "marker": _MARKERS[place % len(_MARKERS)]}


def _label(axes: Axes, across: str, up: str, title: str) -> None:
    axes.set_xlabel(across, size=8)
    axes.set_ylabel(up, size=8)
    axes.set_title(title, size=9)
    axes.tick_params(labelsize=7)
    axes.grid(color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)

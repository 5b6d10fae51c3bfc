"""The page of the study of units: tables, each number with its interval, and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan, sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

from page_text import filled
from unit_study_findings import (
    BARELY,
    GOOD,
    MATTERS,
    POOR,
    STRONGLY,
    Finding,
    attributes_of,
    estimate,
    findings,
    live,
    mean_of,
    of_network,
    order_area,
    over_seeds,
    random_area,
    rotated,
    spearman,
)
from unit_study_measures import Measured
from unit_study_measures import spearman as together
from unit_study_plot import curves_figure, units_figure

from visavis import units
from visavis.files import check_place, write_bytes
from visavis.plotting.saving import save_figure
from visavis.units import Estimate

_HEAD = """\
# A study of units

Zhou, Sun, Bau and Torralba 2018 (*Revisiting the Importance of Individual Units in CNNs via Ablation*, arXiv
1806.02891) ask what single units do in networks trained on ImageNet and Places. Here the same is asked of small
networks: {images}. {count} networks, {variants}, seeds {seeds}: four convolutions and two linear layers, whose last
convolution has {units} units; after its ReLU they are ablated. Each learned from {training} pictures; its units are
described on {attributes} others, and ablated on {held_out} held-out ones. **These are not the paper's networks, and
its figures could not be compared.**

Each number is a mean over seeds with a 95 % interval by Student's t, which knows no bounds such as 1; a seed has
its own first weights, training pictures and held-out pictures. Drops are in shares of 1. **The class hit hardest is
chosen on one half of the held-out pictures, and its drop measured on the other half**, both ways: the largest of
the drops of {classes} classes is above 0 by chance. Dead units, which never respond, are left out of means and
correlations over units.

"""
_FINDINGS = """\
## Findings

What counts is set beforehand: accuracy "barely" falls below {barely}, a class is "strongly" damaged above
{strongly}; a "poor" predictor has |ρ| below {poor} (Spearman), a "good" one above {good}; what "matters" moves a
number by more than {matters}. A finding *appears* where every interval lies wholly on its side of these bounds,
*does not appear* where one lies wholly on the other, and is *not settled* else. The verdicts are computed. The paper's
own figures, and which way batch norm and dropout turn things there, were not at hand: either way counts.

"""


def write_page(place: Path, made: dict[str, Any], networks: Sequence[Measured], notes: str = "") -> None:
    """Write the page, and its figures beside it.

    Args:
        place: of the page.
        made: what the numbers rest on: `images`, `classes`, `sizes`, `command`, `versions`.
        networks: what was found of each.
        notes: what a reader made of these numbers, as markdown.

    Raises:
        OutputError: a place cannot be written.
    """
    check_place(place)
    pictures = {f"{place.stem}-units.svg": units_figure(networks), f"{place.stem}-curves.svg": curves_figure(networks)}
    for name, picture in pictures.items():
        save_figure(picture, place.parent / name)
    write_bytes(place, page(made, networks, list(pictures), notes).encode())


def page(made: dict[str, Any], networks: Sequence[Measured], pictures: Sequence[str], notes: str = "") -> str:
    """Return the page as markdown."""
    groups = {
        name: [one for one in networks if one.variant == name] for name in dict.fromkeys(o.variant for o in networks)
    }
    head = _HEAD.format(
        images=made["images"],
        classes=made["classes"],
        **made["sizes"],
        count=len(networks),
        variants=", ".join(groups),
        seeds=", ".join(str(seed) for seed in sorted({one.seed for one in networks})),
        units=len(networks[0].overall),
    )
    bounds = _FINDINGS.format(barely=BARELY, strongly=STRONGLY, poor=POOR, good=GOOD, matters=MATTERS)
    parts = [
        filled(head).strip(),
        notes.strip(),
        filled(bounds) + "\n".join(findings_table(findings(networks))),
        "## Single units\n\n" + "\n".join(_single(groups)),
        f"![Selectivity against drops, and rotated bases]({pictures[0]})",
        _SINGLE_NOTE,
        "## Attributes\n\n" + _ATTRIBUTES_HEAD + "\n" + "\n".join(_attributes(groups)),
    ]
    turned = {name: [one for one in group if one.rotations] for name, group in groups.items()}
    parts += [
        f"## Rotated bases: {name}\n\n{_ROTATION_HEAD}\n" + "\n".join(_rotations(group))
        for name, group in turned.items()
        if group
    ]
    parts += [
        "## Many units at once\n\n" + _CURVES_HEAD + "\n" + "\n".join(_curves(groups)),
        f"![Accuracy against the number of units removed]({pictures[1]})",
        "## For each class\n\n" + _CLASS_HEAD + "\n" + "\n".join(_by_class(groups)),
        "## Each network\n\n" + _NETWORK_HEAD + "\n" + "\n".join(_networks(networks)),
        f"Made by\n\n```shell\n{made['command']}\n```\n\n{made['versions']}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_SINGLE_NOTE = """\
*Largest* is the largest class drop as it is usually taken, chosen and measured on the same pictures; *hardest* is
the honest one. *Same class*: the share of units for which both halves choose the same class. *Above 0*: the share
of units whose drop is above 0 by its own 95 % interval. *Halves agree*: Spearman's correlation of the drops on the
two halves; what is noise in the one correlates with nothing, so no attribute can do better than the square root of
the reliability that follows from it (Spearman and Brown), the ceiling. *Both drops, ρ*: how the overall drop and
that of the class hit hardest go together over units."""
_ATTRIBUTES_HEAD = """\
Correlations over the live units of a network, then their mean over seeds. Attributes are measured on pictures of
their own. ρ is Spearman's, r is Pearson's.
"""
_ROTATION_HEAD = """\
Means over all coordinates of a basis, dead units too, and over draws. Selectivity is of max(a, 0), as coordinates
may be negative. *By the mean*: coordinates become their mean over the pictures, not 0.
"""
_CURVES_HEAD = """\
Mean accuracy over the number of units removed, none to all: the area under the curve, as a share of 1. *Random
stays*: the same in random order, divided by the accuracy with all units.
"""
_CLASS_HEAD = """\
Units are ranked for each class by the drop in balanced accuracy on pictures to train on, and removed on held-out
pictures (Bau et al. 2020). Means over classes; 0.5 is chance for balanced accuracy.
"""
_NETWORK_HEAD = """\
The same bounds, for each network by itself: intervals by drawing its units, and for the unit that matters most by
drawing pictures.
"""


def findings_table(found: Sequence[Finding]) -> list[str]:
    """Return a row for each finding: numbers and verdict."""
    lines = _header(["finding", "networks", "numbers", "verdict"], left=4)
    for one in found:
        numbers = "; ".join(f"{claim.what} {shown(claim.estimate)}" for claim in one.claims)
        lines.append(f"| {one.statement} | {one.networks} | {numbers} | **{one.verdict}** |")
    return lines


def shown(one: Estimate, digits: int = 3) -> str:
    """Return a value with its interval, or a dash."""
    if isnan(one.value):
        return "–"
    ends = "no interval" if isnan(one.low) else f"{one.low:.{digits}f} to {one.high:.{digits}f}"
    return f"{one.value:.{digits}f} ({ends})".replace("-", "−")


Groups = dict[str, list[Measured]]


def _single(groups: Groups) -> list[str]:
    columns: dict[str, Callable[[Measured], float]] = {
        "accuracy": lambda one: one.accuracy,
        "in training": lambda one: one.training_accuracy,
        "dead units": lambda one: float(len(one.dead)),
        "overall drop": mean_of("overall"),
        "unit that matters most": lambda one: one.worst[0],
        "largest": mean_of("largest"),
        "hardest": mean_of("hardest"),
        f"units with hardest above {STRONGLY}": lambda one: fmean(drop > STRONGLY for drop in live(one, one.hardest)),
        "same class": lambda one: one.same_hit,
        "above 0: overall": lambda one: one.above["overall"],
        "above 0: class": lambda one: one.above["hardest"],
        "halves agree: overall": lambda one: one.halves["overall"],
        "halves agree: class": lambda one: one.halves["hardest"],
        "ceiling: overall": lambda one: ceiling(one.halves["overall"]),
        "ceiling: class": lambda one: ceiling(one.halves["hardest"]),
        "both drops, ρ": lambda one: together(live(one, one.overall), live(one, one.hardest)),
    }
    return _table("of units", columns, groups)


def ceiling(agreement: float) -> float:
    """Return what the correlation with a mean of two halves cannot exceed, √(2r / (1 + r)), of how the halves agree."""
    return sqrt(2 * agreement / (1 + agreement)) if agreement > 0 else 0.0


def _attributes(groups: Groups) -> list[str]:
    lines = _header(["attribute", "networks", "ρ overall", "ρ hardest", "ρ largest", "r overall", "r hardest"], left=2)
    for name in attributes_of(
        [one for group in groups.values() for one in group], [one.name for one in units.attributes()]
    ):
        for variant, group in groups.items():
            cells = [shown(estimate(group, spearman(name, kind)), 2) for kind in ("overall", "hardest", "largest")]
            cells += [shown(_pearson(group, name, kind), 2) for kind in ("overall", "hardest")]
            lines.append(f"| {units.attribute(name).title} | {variant} | {' | '.join(cells)} |")
    return lines


def _pearson(group: Sequence[Measured], name: str, kind: str) -> Estimate:
    return over_seeds([one.related[name][kind]["pearson"][0] for one in group])


def _rotations(group: Sequence[Measured]) -> list[str]:
    kinds = {
        "overall": "overall drop",
        "largest": "largest",
        "hardest": "hardest",
        "selectivity": "selectivity",
        "correlation": "class correlation",
    }
    lines = _header(["share α", *kinds.values()], left=1)
    for share, value in dict.fromkeys((row["share"], row["value"]) for row in group[0].rotations):
        cells = [shown(estimate(group, rotated(kind, share, value))) for kind in kinds]
        lines.append(f"| {share}{', by the mean' if value == 'mean' else ''} | {' | '.join(cells)} |")
    return lines


def _curves(groups: Groups) -> list[str]:
    names = attributes_of([one for group in groups.values() for one in group], [one.name for one in units.attributes()])
    columns: dict[str, Callable[[Measured], float]] = {
        f"{name}, {order}": order_area(name, order) for name in names for order in ("descending", "ascending")
    }
    return _table("order", {**columns, "random stays": random_area}, groups)


def _by_class(groups: Groups) -> list[str]:
    lines = _header(
        ["units removed", "networks", "class: without best", "without worst", "all: without best", "without worst"],
        left=2,
    )
    for variant, group in groups.items():
        intact = [shown(estimate(group, lambda one, key=key: one.removal[key])) for key in ("intact", "accuracy")]
        lines.append(f"| none | {variant} | {intact[0]} | | {intact[1]} | |")
        for place, count in enumerate(group[0].removal["counts"]):
            kinds = ("without best", "without worst", "accuracy without best", "accuracy without worst")
            cells = [
                shown(estimate(group, lambda one, kind=kind, place=place: one.removal[kind][place])) for kind in kinds
            ]
            lines.append(f"| {count} | {variant} | {' | '.join(cells)} |")
    return lines


def _networks(networks: Sequence[Measured]) -> list[str]:
    statements = [one.statement for one in of_network(networks[0])]
    lines = _header(["network", "accuracy", *statements], left=1)
    for one in networks:
        found = of_network(one)
        cells = [f"{', '.join(shown(claim.estimate, 2) for claim in each.claims)}: {each.verdict}" for each in found]
        lines.append(f"| {found[0].networks} | {one.accuracy:.3f} | {' | '.join(cells)} |")
    return lines


def _table(corner: str, rows: dict[str, Callable[[Measured], float]], groups: Groups) -> list[str]:
    lines = _header([corner, *groups], left=1)
    for title, of in rows.items():
        lines.append(f"| {title} | {' | '.join(shown(estimate(group, of)) for group in groups.values())} |")
    return lines


def _header(titles: Sequence[str], left: int) -> list[str]:
    return [f"| {' | '.join(titles)} |", "|" + " --- |" * left + " ---: |" * (len(titles) - left)]

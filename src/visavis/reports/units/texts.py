"""What a study of units says in words and tables."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from visavis.reports.document import shown_text
from visavis.reports.words import model_options
from visavis.terminal import printable
from visavis.unit_runs.run import Found
from visavis.units.attributes import Related

# A class of fewer pictures, in the middle, is told by the confidence in it: of few, accuracy comes in large steps.
_FEW = 10
# Over fewer units a correlation says nothing.
_SEVERAL = 10


def by_confidence(found: Found) -> bool:
    """Whether classes have so few pictures that drops are better told by the probability of the label."""
    counts = found.singly.counts
    return float(counts[counts > 0].double().median()) < _FEW


def class_drops(found: Found) -> tuple[Tensor, str]:
    """Return the drops by which classes are compared, (S, K), −1 to 1, and what drops."""
    one = found.singly
    return (one.class_confidence_drops, "confidence") if by_confidence(found) else (one.class_drops, "accuracy")


def command(words: Mapping[str, Any]) -> str:
    """Return the line of shell that asks for a study, but for the folder."""
    parts = ["visavis", "units", "--dataset", str(words["dataset"]), "--model", str(words["model"])]
    parts += ["--layer", str(words["layer"])]
    if words["call"] is not None:
        parts += ["--call", str(words["call"])]
    if words["heads"]:
        parts += ["--heads", "all" if words["heads"] is True else str(words["heads"])]
    if words["dimension of units"] is not None:
        parts += ["--unit-dim", str(words["dimension of units"])]
    if words["units"] is not None:
        parts += ["--units", ranges(words["units"])]
    parts += ["--value", words["value"], "--order", words["order"]]
    if words["limit"] is not None:
        parts += ["--limit", str(words["limit"])]
    parts += ["--seed", str(words["seed"]), "--batch-size", str(words["pictures a batch"])]
    parts += ["--device", str(words["device"])]
    return printable(shlex.join([*parts, *model_options(words), "-o", "DIR"]))


def ranges(numbers: Sequence[int]) -> str:
    """Return numbers as "0-3,7", in their order."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def lead(found: Found) -> str:
    """Return what was done, in a few sentences."""
    one, words = found.singly, found.words
    pictures, classes = int(one.counts.sum()), int((one.counts > 0).sum())
    what = "attention heads" if words["heads"] else "units"
    replaced = "zero" if words["value"] == "zero" else "their mean over the pictures"
    said = (
        f"Each of {len(one.sets)} {what} of layer {found.layer.path} of {words['model']} was set to {replaced}, one at "
        f"a time and without retraining, and {pictures} pictures of {classes} classes were classified again. As it is, "
        f"the model has {100 * one.accuracy:.1f} % of them right."
    )
    if found.passed:
        one_only = len(found.passed) == 1
        said += f" {len(found.passed)} picture{'' if one_only else 's'} {'was' if one_only else 'were'} passed over."
    return said


def in_short(found: Found, names: Sequence[str], related: Mapping[str, tuple[Related, Related]]) -> list[str]:
    """Return what was found, a sentence each; by numbers alone."""
    one = found.singly
    ends = one.intervals(draws=2_000)
    drops, worst = one.drops, int(one.drops.argmax())
    low, high = (100 * float(end) for end in ends.overall[worst])
    overall = "Overall, no unit costs any accuracy."
    if float(drops[worst]) > 0:
        overall = (
            f"Overall, no unit costs more than {_points(drops[worst])} of accuracy (unit {one.sets[worst][0]}; 95 % "
            f"interval {low:.1f} to {high:.1f}); the median unit costs {_points(drops.median())}."
        )
    of_classes, measure = class_drops(found)
    largest = of_classes.nan_to_num(nan=-1.0)
    hardest = int(largest.amax(1).argmax())
    k = int(largest[hardest].argmax())
    few = int(one.counts[k])
    interval = ""
    if measure == "accuracy":
        interval = "; 95 % interval {:.0f} to {:.0f}".format(*(100 * float(end) for end in ends.classes[hardest, k]))
    of_class = f"No class loses any {measure} without a single unit."
    if float(largest[hardest, k]) > 0:
        of_class = (
            f"What a single unit costs a class most: without unit {one.sets[hardest][0]}, {names[k]} falls by "
            f"{_points(largest[hardest, k])} of {measure}{interval}, on {few} picture{'s' * (few != 1)}. It is the "
            f"largest of {drops.numel()} × {int((one.counts > 0).sum())} drops, and such a one is partly chance: new "
            "pictures of the class would tell."
        )
    lines = [overall, of_class]
    present = int((one.counts > 0).sum())
    if one.accuracy <= 2 / max(present, 1) and present > 1:
        lines.insert(
            0, "The model is hardly better than guessing on these pictures, so that there is little for a unit to cost."
        )
    if measure == "confidence":
        lines.append(
            "Most classes have so few pictures here that whether one is right says little. Where classes are compared, "
            "it is by the probability that the model gives to a picture's label (confidence)."
        )
    known = {name: pair for name, pair in related.items() if pair[0].spearman.value == pair[0].spearman.value}
    if known and len(one.sets) >= _SEVERAL:
        best = max(known, key=lambda name: abs(known[name][1].spearman.value))
        of_all, of_hardest = known[best]
        settled = not of_hardest.spearman.low <= 0 <= of_hardest.spearman.high
        tells = f"{best} goes best with" if settled else "none is seen to tell"
        lines.append(
            f"Of {len(known)} attributes, {tells} the largest class drop, in {measure}: Spearman's ρ of "
            f"{best if not settled else 'it'} {of_hardest.spearman}; with the overall drop in {measure} "
            f"{of_all.spearman}. The best of several is partly chance too."
        )
    return lines


def table(found: Found, names: Sequence[str], rows: Sequence[int], of_classes: Tensor, what: str) -> str:
    """Return a table of units as HTML.

    Args:
        found: the study.
        names: of the classes.
        rows: which units, by their place among those that were ablated.
        of_classes: (S, K) class drops, −1 to 1.
        what: what drops there.
    """
    one = found.singly
    ends = one.intervals(draws=2_000)
    heads = ["unit", "overall drop, points", f"class hit hardest, by {what}", "its drop, points", "its pictures"]
    lines = []
    for row in rows:
        drops = torch.nan_to_num(of_classes[row], nan=-torch.inf)
        k = int(drops.argmax())
        low, high = (f"{100 * float(end):.2f}" for end in ends.overall[row])
        changed = int(one.lost[row].sum() + one.gained[row].sum())
        interval = f"{low} to {high}" if changed else "no picture changed"
        cells = [
            f"{100 * float(one.drops[row]):.2f}<small>{interval}</small>",
            shown_text(names[k]),
            f"{100 * float(drops[k]):.1f}",
            str(int(one.counts[k])),
        ]
        lines.append(f"<tr><td>{one.sets[row][0]}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return (
        f"<table><thead><tr>{''.join(f'<th>{shown_text(head)}</th>' for head in heads)}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _points(drop: Tensor) -> str:
    return f"{100 * float(drop):.1f} points"


__all__ = ["by_confidence", "class_drops", "command", "in_short", "lead", "ranges", "table"]

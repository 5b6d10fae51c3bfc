"""What all forms of a report say in the same words: numbers, the line of shell, how much of a run there is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from visavis.benchmarking.cases import RECOGNISED
from visavis.benchmarking.results import Counts
from visavis.evaluation.explainers import baselines
from visavis.evaluation.sanity import insensitive
from visavis.evaluation.statistics import Summary
from visavis.reports.findings import Column, Report
from visavis.terminal import printable

_NAMED_AT_MOST = 200
_REASONS_AT_MOST = 5


def arrow(column: Column) -> str:
    """Return what stands behind the title of a column: which way is better."""
    return {"higher": " ↑", "lower": " ↓"}.get(column.direction, "")


def number(value: float) -> str:
    """Return a value with three decimals, or four digits where it is large."""
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"


def cell_of(cell: Summary | None) -> tuple[str, str]:
    """Return the mean, and its interval with the number of cases."""
    if cell is None or math.isnan(cell.mean):
        return "–", ""
    return number(cell.mean), f"{number(cell.low)} to {number(cell.high)}"


def command(words: Mapping[str, Any]) -> str:
    """Return the line of shell that asks for a run, but for the folder; what else made it says so in "made by"."""
    import shlex

    if "made by" in words:
        return printable(str(words["made by"]))
    parts = ["visavis", "benchmark", "--dataset", str(words["dataset"])]
    for option in ("models", "methods", "metrics"):
        if words[option]:
            parts += [f"--{option}", ",".join(words[option])]
    if words["limit"] is not None:
        parts += ["--limit", str(words["limit"])]
    parts += ["--seed", str(words["seed"]), "--classes", str(words["classes"]), "--device", str(words["device"])]
    if words.get("channels") is not None:
        parts += ["--channels", str(words["channels"])]
    return printable(shlex.join([*parts, *model_options(words), "-o", "DIR"]))


def model_options(words: Mapping[str, Any]) -> list[str]:
    """Return the words of shell for what came along with a model: weights, labels, size, mean and std."""
    parts: list[str] = []
    for option in ("weights", "labels", "size"):
        if words.get(option) is not None:
            parts += [f"--{option}", str(words[option])]
    for option in ("mean", "std"):
        if words.get(option) is not None:
            parts += [f"--{option}", ",".join(f"{value:g}" for value in words[option])]
    return parts


def said(report: Report, model: str) -> str:
    """Return how much of a model's run there is, in one sentence."""
    tally = report.counts
    missing = tally.planned - tally.pictures[model]
    parts = [
        f"{several(tally.cases[model], 'case')} in {several(tally.pictures[model], 'picture')}",
        f"{several(len(tally.unusable[model]), 'picture')} could not be used",
        f"{several(sum(tally.reasons[model].values()), 'class')} in pictures passed over",
    ]
    return "; ".join(parts) + (f"; unfinished, {several(missing, 'picture')} to go" if missing else "") + "."


def lead(words: Mapping[str, Any], tally: Counts) -> str:
    """Return what was measured, in two sentences."""
    which = {
        "present": "each class that is annotated in a picture is one case",
        "predicted": "the class that the model predicts is a case where it is annotated in the picture",
        "recognised": (
            f"each class that is annotated in a picture is one case where the model gives it a probability of at least "
            f"{RECOGNISED:g}"
        ),
    }.get(str(words["classes"]), "")
    return (
        f"{several(len(words['methods']), 'method')} and {several(len(baselines()), 'baseline')} on "
        f"{several(len(words['models']), 'model')}, over {several(tally.planned, 'picture')} of {words['dataset']}: "
        f"{which}. A method makes a map of what speaks for the class, and each metric gives the map one value."
    )


def nothing(tally: Counts, model: str) -> str:
    """Return why a model's run has no case at all, in one sentence; "" where it has some, or is not finished."""
    if tally.cases[model] or tally.pictures[model] < tally.planned:
        return ""
    lost = tally.unusable[model]
    if len(lost) == tally.planned:
        share = f"no picture could be used (0 of {tally.planned})"
        return f"Nothing was measured, for {share}; the first, {lost[0][0]}: {lost[0][1]}"
    common = tally.reasons[model].most_common(_REASONS_AT_MOST)
    reasons = [f"{several(count, 'class')}: {reason}" for reason, count in common]
    reasons += ["and more"] if len(tally.reasons[model]) > len(common) else []
    reasons += [f"{several(len(lost), 'picture')} could not be used"] if lost else []
    return f"Nothing was measured, for no picture gives a case; {'; '.join(reasons)}."


def several(count: int, what: str) -> str:
    """Return how many of something, in words."""
    return f"{count} {what if count == 1 else what + ('es' if what.endswith('s') else 's')}"


def remarks(report: Report, model: str) -> list[str]:
    """Return what a reader of a model's table must know: what has no value in it, and which methods a check names."""
    if not report.counts.cases[model]:
        return []
    methods = report.methods(model)
    lines = []
    silent = [report.titles.get(method, method) for method in report.words["methods"] if method not in methods]
    if silent:
        lines.append(f"No case has a value by {', '.join(silent)}; why, stands under what was passed over.")
    measured = {column.metric for known, _, column in report.cells if known == model}
    lost = [text for text in report.words["metrics"] if text not in measured]
    if lost:
        lines.append(f"No case has a value of {', '.join(lost)}: the annotations lack what it needs, or it failed.")
    for column in report.columns:
        if column.metric.partition(":")[0] == "randomization" and not column.key:
            alike = {one: report.cells.get((model, one, column)) for one in methods if one not in baselines()}
            named = insensitive({report.titles.get(one, one): cell for one, cell in alike.items() if cell is not None})
            who = f"names {', '.join(named)}: their maps hardly change" if named else "names none of the methods"
            lines.append(f"{column.title}: the check with random weights {who}.")
    return lines


def passed_over(report: Report, model: str) -> list[str]:
    """Return a line for each reason and each picture that was passed over."""
    tally = report.counts
    lines = [f"{several(count, 'class')}: {reason}" for reason, count in tally.reasons[model].most_common()]
    lines += [
        f"{method}{f', {measure}' if measure else ''}, {several(count, 'case')}: {reason}"
        for (known, method, measure, reason), count in tally.unmeasured.most_common()
        if known == model
    ]
    named = tally.unusable[model][:_NAMED_AT_MOST]
    lines += [f"{picture}: {reason}" for picture, reason in named]
    rest = len(tally.unusable[model]) - len(named)
    return lines + ([f"and {several(rest, 'more picture')}"] if rest > 0 else [])


NOTE = (
    "Means over cases, with 95 % intervals by bootstrap over pictures. Arrows say which way is better; the best of a "
    "column is bold. Centre, Random and Edges never look at the network."
)


__all__ = [
    "NOTE",
    "arrow",
    "cell_of",
    "command",
    "lead",
    "nothing",
    "number",
    "passed_over",
    "remarks",
    "said",
    "several",
]

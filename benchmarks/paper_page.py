"""The page of the paper's experiments, in Markdown: what was asked for, what is a choice, tables, pictures."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from paper_maps import MEASURES

import visavis as vv
from visavis.benchmarking.results import DRAWS_OF_POINTS, Counts, read_results, summaries
from visavis.evaluation import Summary, summary
from visavis.evaluation.localization import passed
from visavis.terminal import printable

#: Values of a run by model, method, metric and key.
Cells = Mapping[tuple[str, str, str, str], Summary]
#: At how many of the shares of energy the table gives the accuracy; the plot has all.
COLUMNS_OF_SHARES = 5


class Choice(NamedTuple):
    """An option for what the paper leaves open, or what is not known of it here.

    Attributes:
        option: on the command line.
        experiments: that it bears on.
        decides: what it decides.
        why: why it is a choice.
    """

    option: str
    experiments: tuple[str, ...]
    decides: str
    why: str


_ALL = ("classes", "neurons", "models", "pointing", "ablation")
_OPEN = "could not be verified in the paper"
_SEED = "uniform in the paper's definition, by logit in the authors' released code"
_SUMS = "none in the paper's definition, sum in the authors' released code"
_OWN = "no such figure in the paper is known here: a measure of this library"
CHOICES = (
    Choice("targets", ("classes", "models", "pointing", "ablation"), "which class of a picture is explained", _OPEN),
    Choice("frame", _ALL, "what the network sees of a picture, where boxes follow it", _OPEN),
    Choice("channels", _ALL, "how the channels of a map become one", _OPEN),
    Choice("seed-mode", _ALL, "how CLRP1 spreads the score over the other classes", _SEED),
    Choice("normalize", _ALL, "what the two maps of CLRP are divided by before they are subtracted", _SUMS),
    Choice("rules", _ALL, "the rules of LRP and CLRP", "by default the paper's, as far as the model allows"),
    Choice("objects", ("pointing",), "how many boxes a picture has that takes part", _OPEN),
    Choice("shares", ("pointing",), "the shares p of energy", _OPEN),
    Choice("tolerance", ("pointing",), "how far from the box a maximum still hits, in pixels", _OPEN),
    Choice("patch", ("ablation",), "the side of the patch, in pixels", _OPEN),
    Choice("fill", ("ablation",), "what the patch is replaced by", _OPEN),
    Choice("score", ("ablation",), "of which score the drop is taken", _OPEN),
    Choice("samples", ("ablation",), "how many patches at random a picture has", _OPEN),
    Choice("layer", ("neurons",), "the layer of each model", "only VGG16's first dense layer is the paper's"),
    Choice("units", ("neurons",), "how many of the most strongly activated neurons", _OPEN),
    Choice("others", ("classes",), "with how many other classes the target is compared", _OWN),
)


@dataclass
class Section:
    """One experiment: its title, what it asks, tables as lists of lines, and pictures by their place with a title."""

    title: str
    said: list[str]
    tables: list[list[str]] = field(default_factory=list)
    pictures: list[tuple[Path, str]] = field(default_factory=list)


def cells_of(folder: Path) -> Cells:
    """Return the means of a folder of results, with their intervals."""
    return {(row.model, row.method, row.metric, row.key): row.summary for row in summaries(folder)}


def text(words: str) -> str:
    """Return words as Markdown shows them, whatever a file or class may be called."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#&" else c for c in printable(words))


def cell(found: Summary | None) -> str:
    """Return a mean with its interval; a dash where there is none."""
    if found is None or not found.count:
        return "–"
    return re.sub(r"-(0\.000)", r"\1", str(found))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> list[str]:
    """Return a table in Markdown; the first `left` columns are words, the others figures."""
    lines = [f"| {' | '.join(map(text, heads))} |", f"|{' --- |' * left}{' ---: |' * (len(heads) - left)}"]
    return lines + [f"| {' | '.join(map(text, row))} |" for row in rows]


def alike_table(
    cells: Cells, names: Mapping[str, tuple[str, str]], titles: Mapping[str, str], what: str, count: str
) -> list[str]:
    """Return how alike maps are: a row for each name (its model and metric in the cells) and method.

    Args:
        cells: of the results.
        names: what the first column calls a row, with model and metric of its values.
        titles: of the methods, by spelling.
        what, count: the headings of the first column, and of the number of cases.
    """
    rows = []
    for name, (model, metric) in names.items():
        for method, title in titles.items():
            values = [cells.get((model, method, metric, key)) for key in MEASURES]
            if any(values):
                counted = str(max(value.count for value in values if value))
                rows.append([name, title, *map(cell, values), counted])
    return table([what, "method", *MEASURES.values(), count], rows, 2)


def shares_shown(shares: Sequence[float]) -> list[int]:
    """Return the places of the shares that the table gives, spread evenly over all of them."""
    return sorted({round(float(place)) for place in np.linspace(0, len(shares) - 1, COLUMNS_OF_SHARES)})


def accuracies(folder: Path, metric: str, shares: Sequence[float]) -> dict[tuple[str, str], list[Summary]]:
    """Return the accuracy of the energy-based pointing game at each share, by model and method, with intervals.

    The values of a run are the clean shares of maps, which tell at every p whether a map passes.
    """
    results = read_results(folder).to_pylist()
    found: dict[tuple[str, str], tuple[list[float], list[str]]] = {}
    for row in results:
        if (row["metric"], row["key"]) == (metric, ""):
            values, pictures = found.setdefault((row["model"], row["method"]), ([], []))
            values.append(row["value"])
            pictures.append(row["picture"])
    made = {}
    for place, (values, pictures) in found.items():
        hits = passed(torch.tensor(values, dtype=torch.float64), shares).T.numpy()
        made[place] = [summary(column, groups=pictures, draws=DRAWS_OF_POINTS) for column in hits]
    return made


def counted(counts: Counts) -> list[str]:
    """Return how much was measured on each model and what was passed over, a line each."""
    lines = []
    for model, cases in counts.cases.items():
        said = f"{cases} cases in {counts.pictures[model]} pictures"
        unusable = counts.unusable[model]
        if unusable:
            named = "; ".join(f"{picture}: {reason}" for picture, reason in unusable[:5])
            more = f"; and {len(unusable) - 5} more" if len(unusable) > 5 else ""
            said += f"; {len(unusable)} pictures could not be used ({named}{more})"
        for reason, count in counts.reasons[model].most_common():
            said += f"; {count} classes passed over: {reason}"
        lines.append(f"- {text(model)}: {text(said)}")
    return lines


def command(arguments: argparse.Namespace) -> str:
    """Return the line of shell that makes the page again, with every option that bears on a number."""
    parts = ["python", "benchmarks/paper.py", str(arguments.folder), "-o", str(arguments.output)]
    for name, value in sorted(vars(arguments).items()):
        option = f"--{name.replace('_', '-')}"
        if name in ("folder", "output") or value is None:
            continue
        if isinstance(value, dict):
            parts += [word for key, one in value.items() for word in (option, f"{key}={one}")]
        else:
            parts += [option, ",".join(f"{one}" for one in value) if isinstance(value, tuple) else str(value)]
    return shlex.join(parts)


def page(arguments: argparse.Namespace, sections: Sequence[Section], root: Path, value_of: Callable[[str], str]) -> str:
    """Return the page.

    Args:
        arguments: what was asked for.
        sections: one an experiment.
        root: the folder of the page, which pictures are named from.
        value_of: what a choice is set to, in words, by its option.
    """
    lines = [
        "# The paper's experiments",
        "",
        (
            "After Gu, Yang, Tresp 2018 (Understanding Individual Decisions of CNNs via Contrastive Backpropagation, "
            "arXiv 1812.02100), on ImageNet's validation pictures."
        ),
        "",
        f"    {printable(command(arguments))}",
        "",
        (
            f"Visavis {vv.__version__}, torch {torch.__version__}. Means stand with 95 % intervals by bootstrap over "
            "pictures; the values themselves are in `values/`, an experiment a folder."
        ),
        "",
        "## Choices",
        "",
        (
            "Not everything about the paper's experiments is known here. These are choices of this run, none of them "
            "established as the paper's; figures need not agree with it."
        ),
        "",
    ]
    chosen = [one for one in CHOICES if set(one.experiments) & set(arguments.experiments)]
    lines += table(
        ["option", "here", "decides", "why it is a choice"],
        [[f"--{one.option}", value_of(one.option), one.decides, one.why] for one in chosen],
        4,
    )
    for section in sections:
        lines += ["", f"## {section.title}", "", *section.said]
        for one in section.tables:
            lines += ["", *one]
        for place, title in section.pictures:
            lines += ["", f"![{text(title)}]({place.relative_to(root).as_posix()})"]
    return "\n".join([*lines, ""])

"""The page of the speed benchmark in the docs: of several runs, a section with figure and tables for each machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from speed_contestants import CONTESTANTS
from speed_models import MODELS
from speed_plot import figure, panels
from speed_race import GRAPH
from speed_results import PASS, Case, Machine, Measured, Result, merged, table

from visavis.files import check_place, write_bytes

_HEAD = """\
# What a map costs

Cost is counted in forward passes F of the same model under `torch.inference_mode`: a cost of 3 F is three times what
the prediction alone takes. Each call is timed between two forward passes and divided by their mean, contestants in turn
within one run, so that a machine that slows down slows all. Shown are the median of the rounds, the least and the
greatest, and, by the median time, how many images get all their maps in a second. Under "cpu clock" times
are what the process itself spent on the processor, which other work on the machine disturbs less. Models have random
weights; images are noise. **A cost says nothing of whether a map is right**: for that see
[conformance](conformance.md).

| contestant | what is timed |
| --- | --- |
{accounts}

Each of these is one call as a user makes it, model and method already built. With K maps of each image, of K classes, a
cost is that of all K: Visavis makes them from one forward pass (`attribute_each`), the others call by call; the figures
divide it by K. The least arithmetic of K maps by z⁺, where a layer's inputs are known to be ≥ 0, is 2 + K forward
passes: the prediction, the denominators, and one transposed pass a map. Where inputs have both signs, it is more. It is
no bound of the time, for passes of as much arithmetic may differ a little in speed.

"""
_ACCOUNTS = {
    PASS: "the unit: `model(images)` under `torch.inference_mode`",
    GRAPH: "the same without the launch of each kernel: what a GPU's arithmetic and memory take",
}


def write_page(place: Path, runs: Sequence[tuple[str, Measured]]) -> None:
    """Write the page of runs, each with the place of its file, and beside it a figure for each machine.

    Raises:
        OutputError: a place cannot be written.
    """
    check_place(place)
    text = [_HEAD.format(accounts="\n".join(_accounts([run for _, run in runs])))]
    machines = dict.fromkeys(run.machine for _, run in runs)
    names = _figure_names(place, list(machines))
    for machine in machines:
        own = [run for _, run in runs if run.machine == machine]
        drawn = names[machine] if panels(merged(own)) else ""
        if drawn:
            from visavis.plotting.saving import save_figure

            save_figure(figure(own), place.parent / drawn)
        text.append(_section(machine, own, drawn))
    made_of = " ".join(name for name, _ in runs)
    text.append(f"Made by `python benchmarks/speed.py --page {place} --from {made_of}`, of what `--json` wrote.\n")
    write_bytes(place, "\n".join(text).encode())


def _in_order(runs: Sequence[Measured]) -> list[Result]:
    """Return the results of runs of one machine, sorted by case and contestant."""
    return sorted(merged(runs), key=lambda one: (_place(one.case), _titles().index(one.title)))


def _titles() -> list[str]:
    return [PASS, GRAPH, *(one.title for one in CONTESTANTS)]


def _place(case: Case) -> tuple[int, int, int, int]:
    return list(MODELS).index(case.model), case.side, case.maps, case.batch


def _accounts(runs: Sequence[Measured]) -> list[str]:
    """Return what each contestant of the runs computes, as rows."""
    taking_part = {result.title for run in runs for result in run.results}
    accounts = {**_ACCOUNTS, **{one.title: one.account for one in CONTESTANTS}}
    return [f"| {title} | {account} |" for title, account in accounts.items() if title in taking_part]


def _figure_names(place: Path, machines: Sequence[Machine]) -> dict[Machine, str]:
    """Return for each machine the name of its figure: PAGE-PROCESSOR.svg, numbered where one has several settings."""
    names: dict[Machine, str] = {}
    for machine in machines:
        kind = re.sub(r"[^a-z0-9]+", "-", machine.name.lower()).strip("-")
        before = sum(one.name == machine.name for one in names)
        names[machine] = f"{place.stem}-{kind}{f'-{before + 1}' if before else ''}.svg"
    return names


def _section(machine: Machine, runs: Sequence[Measured], drawn: str) -> str:
    results = _in_order(runs)
    kind = "a CPU" if "thread" in machine.settings else "a GPU"
    rounds = " or ".join(sorted({str(run.repeats) for run in runs}))
    lines = [
        f"## {machine.name}: {machine.settings}",
        "",
        f"These are figures of {kind} and hold for this one: {rounds} rounds, {machine.settings}. {machine.versions}.",
        "",
    ]
    if drawn:
        lines += [f"![Cost of a map in forward passes against what was varied, on {machine.name}]({drawn})", ""]
    lines += [
        "In short: the median cost in F of all K maps. A dash: not timed, or no figure; the tables below say why.",
        "",
        *_overview(results),
        "",
    ]
    for model in dict.fromkeys(result.case.model for result in results):
        own = [result for result in results if result.case.model == model]
        lines += [f"### {MODELS[model]} on {machine.name}", "", table(own, leave_out=["model"]), ""]
    lines += ["Measured by", "", "```shell", *dict.fromkeys(run.command for run in runs), "```", ""]
    return "\n".join(lines)


def _overview(results: Sequence[Result]) -> list[str]:
    """Return a table with a row for each case and a column for each contestant."""
    by_place = {(result.case, result.title): result for result in results}
    cases = dict.fromkeys(result.case for result in results)
    titles = [title for title in _titles() if title != PASS and any(title == key for _, key in by_place)]
    lines = ["| model | side | K | batch | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * (3 + len(titles))]
    for case in cases:
        found = [by_place.get((case, title)) for title in titles]
        costs = ["–" if one is None or one.absent else f"{one.cost:.2f}" for one in found]
        head = [MODELS[case.model], str(case.side), str(case.maps), str(case.batch)]
        lines.append(f"| {' | '.join([*head, *costs])} |")
    return lines

"""What a map costs, in forward passes F of the same model and in images per second, beside the peers.

Models have random weights (`speed_models.py`). One round times the forward pass (`torch.inference_mode`), a contestant,
the forward pass, the next contestant, and so on (`speed_race.py`), so that each contestant stands between two forward
passes and a drift of the machine cancels: a round's ratio is the contestant's time over the mean of these two. Reported
are the median ratio over the rounds, the least and the greatest, the median time, and images per second by it. Building
the model is not timed; what a user has to do for each call (such as entering zennit's context) is. On a shared machine,
`--clock cpu --threads 1` counts the process's own time on the processor, which the neighbours disturb less.

Contestants (`speed_contestants.py`): CLRP, LRP and the gradient of this library; zennit, with the same contrast;
captum's LRP and Saliency; and the algorithm of the paper's released code, written anew (`speed_authors.py`). One that
is not installed, raises, or needs more memory or time than there is, is a row that says so.

With K maps of each image (`--maps`), a cost is that of all K: of one forward pass where the library has a way, else of
K calls; and an image counts as done when it has all its maps.

    python benchmarks/speed.py --json a.json --plot a.svg      # a run
    python benchmarks/speed.py --page docs/speed.md --from a.json b.json     # a page and its figures of several runs
"""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from speed_contestants import CONTESTANTS, titles
from speed_models import DTYPES, SIDE, add_arguments, network, pictures, refusal
from speed_page import write_page
from speed_plot import FORMATS, figure
from speed_race import CLOCKS, GRAPH, Timing, memory_bounded, race
from speed_results import (
    COLUMNS,
    PASS,
    WORDS,
    Case,
    Measured,
    Result,
    above,
    as_json,
    as_markdown,
    bar,
    from_json,
    machine,
)

import visavis as vv
from visavis.devices import choose_device
from visavis.files import check_place, check_suffix, write_bytes


def measure(arguments: argparse.Namespace, device: torch.device, console: Console) -> list[Result]:
    """Race in every case that the command line asks for."""
    wanted = arguments.contestants or titles(device.type)
    contestants = [one for one in CONTESTANTS if one.title in wanted]
    timing = Timing(arguments.repeats, arguments.clock, arguments.limit)
    layout = torch.channels_last if arguments.channels_last else torch.contiguous_format
    results: list[Result] = []
    with Progress(console=console) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers warn at every call
        for name in arguments.models:
            module = network(name).to(device=device, dtype=DTYPES[arguments.dtype], memory_format=layout)
            for side in arguments.sides:
                for batch in arguments.batch:
                    cases = [Case(name, batch, maps, side) for maps in arguments.maps]
                    if refusal(name, side):
                        results += [Result(case, PASS, absent=refusal(name, side)) for case in cases]
                        continue
                    inputs = pictures(batch, side).to(device=device, dtype=DTYPES[arguments.dtype])
                    inputs = inputs.contiguous(memory_format=layout)
                    for case in cases:
                        results += race(module, case, inputs, contestants, timing, progress)
    return results


def show(results: Sequence[Result], console: Console) -> None:
    """Print the table."""
    shown = Table()
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column in WORDS else "right")
    absent: dict[str, list[str]] = {}
    for result in results:
        case = result.case
        cells = result.cells()
        shown.add_row(*cells[:5], "–", "", "", "") if result.absent else shown.add_row(*cells)
        if result.absent:
            absent.setdefault(f"{result.title}: {result.absent}", []).append(f"{case.model} {case.batch}×{case.maps}")
    console.print(shown)
    for said, cases in absent.items():
        console.print(f"{said} ({', '.join(cases)})", soft_wrap=True, markup=False)


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Race as the command line asks for, print the table, write what is asked for, and hold the bars up to it."""
    numbers = (arguments.repeats, arguments.threads, *arguments.batch, *arguments.maps, *arguments.sides)
    if min(numbers) < 1:
        raise vv.InputError("--repeats, --threads, --batch, --maps and --sides are numbers of at least 1")
    if not arguments.limit > 0:
        raise vv.InputError("--limit is a number of seconds above 0")
    for place in filter(None, (arguments.output, arguments.json, arguments.plot)):
        check_place(place)
    if arguments.plot is not None:
        check_suffix(arguments.plot, FORMATS)
    device = choose_device(arguments.device)
    if arguments.clock == "cpu" and device.type != "cpu":
        raise vv.InputError("--clock cpu does not see what a GPU does; leave it out")
    racing = [PASS, GRAPH, *(arguments.contestants or titles(device.type))]
    bars = dict(bar(words, racing) for words in arguments.at_most)
    torch.set_num_threads(arguments.threads)
    taken_on = machine(device, arguments.dtype, arguments.clock, arguments.channels_last)
    console.print(f"{taken_on.line()}; {arguments.repeats} rounds", soft_wrap=True)
    with memory_bounded(device):
        results = measure(arguments, device, console)
    measured = Measured(taken_on, arguments.repeats, _command(arguments), tuple(results))
    show(results, console)
    if arguments.output is not None:
        write_bytes(arguments.output, as_markdown(measured).encode())
    if arguments.json is not None:
        write_bytes(arguments.json, as_json(measured))
    if arguments.plot is not None:
        from visavis.plotting.saving import save_figure

        save_figure(figure([measured]), arguments.plot)
    broken = above(results, bars)
    if broken:
        raise vv.VisavisError("; ".join(broken))


def _command(arguments: argparse.Namespace) -> str:
    """Return the words that measure the same again."""
    lists = {"batch": arguments.batch, "maps": arguments.maps, "sides": arguments.sides, "models": arguments.models}
    only = [] if arguments.contestants is None else ["--contestants", *arguments.contestants]
    layout = ["--channels-last"] if arguments.channels_last else []
    words = ["--device", arguments.device, "--threads", arguments.threads, "--repeats", arguments.repeats]
    for name, values in lists.items():
        words += [f"--{name}", *values]
    words += ["--dtype", arguments.dtype, "--clock", arguments.clock, *layout, *only]
    return f"python benchmarks/speed.py {shlex.join(map(str, words))}"


def _parser() -> argparse.ArgumentParser:
    every = [contestant.title for contestant in CONTESTANTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=5, help="rounds (5)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="batch sizes (1 8)")
    parser.add_argument("--maps", type=int, nargs="+", default=[1], help="maps of each image, of as many classes (1)")
    parser.add_argument("--sides", type=int, nargs="+", default=[SIDE], help=f"sides of the images in px ({SIDE})")
    parser.add_argument("--channels-last", action="store_true", help="weights and inputs in that memory format")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="wall, or cpu where others disturb (wall)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that a contestant's call may take (600)")
    parser.add_argument("--contestants", nargs="+", choices=every, metavar="TITLE", help=f"of {'; '.join(every)}")
    parser.add_argument(
        "--at-most", nargs="+", default=[], metavar="TITLE=F", help="end with status 1 where a median exceeds it"
    )
    parser.add_argument("--output", type=Path, help="write the table there, as markdown")
    parser.add_argument("--json", type=Path, help="write all figures there, for --page")
    parser.add_argument("--plot", type=Path, help="draw the cost against what was varied, as svg or png")
    parser.add_argument("--page", type=Path, help="measure nothing; write a page there, and its figures beside it")
    parser.add_argument("--from", type=Path, nargs="+", default=[], dest="runs", metavar="JSON", help="runs for --page")
    return parser


def main() -> None:
    """Run from the command line; what is wrong, or above its bar, gets a sentence and exit status 1."""
    arguments = _parser().parse_args()
    try:
        if (arguments.page is None) != (not arguments.runs):
            raise vv.InputError("--page and --from go together: the page, and the JSON files that it is made of")
        if arguments.page is None:
            run(arguments, Console())
        else:
            write_page(arguments.page, [(str(path), from_json(path)) for path in arguments.runs])
    except vv.VisavisError as error:
        sys.exit(f"speed.py: {error}")


if __name__ == "__main__":
    main()

"""Does every model get its explanation? All of torchvision's classifiers and timm's families, examined one by one.

Weights are random, inputs small. Of each model (`conformance_models.py`) is measured (`conformance_checks.py`)

- whether its output under the engine is its own, bit for bit;
- whether the maps of LRP and CLRP, by the default rules, are finite and not all zero, and those of two classes differ;
- whether the share of relevance that reached the input and what the ledger says was absorbed make 1, within 1 %;
- where the network is piecewise linear: whether LRP-0, its offsets set to zero, equals input × gradient in float64;
- whether it is left as it was;
- what the map of CLRP costs, in forward passes F of the same model.

Each model is examined in a process of its own, so that one that hangs or runs out of memory costs no other. Results are
kept as JSON lines; what is there already is not measured again. `--peers` lets captum and zennit try the same models
(`conformance_peers.py`), and `--docs` writes the page (`conformance_page.py`).
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import shlex
import sys
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
from conformance_checks import examine
from conformance_models import Subject, subjects
from conformance_page import conformance_page
from conformance_peers import PEERS, try_one
from rich.console import Console
from rich.progress import Progress

import visavis as vv
from visavis.files import check_place, make_folder, write_bytes

# -- all models ------------------------------------------------------------------------------------------------------

#: What is measured of a subject, in a process of its own; the result becomes a line of JSON.
Work = Callable[[Subject], Mapping[str, Any]]


def explain_one(subject: Subject, repeats: int) -> dict[str, Any]:
    """Return the finding of one model, as a line of the results."""
    return {"kind": "visavis", "title": subject.title, **asdict(examine(subject, repeats=repeats))}


def _in_process(connection: Connection, work: Work, subject: Subject) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        connection.send(dict(work(subject)))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a result, and the other models go on
        place = traceback.extract_tb(error.__traceback__)[-1]
        connection.send({"failed": f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"})


def in_processes(waiting: Sequence[Subject], work: Work, jobs: int, limit: float) -> Iterator[tuple[Subject, Any]]:
    """Yield each subject with what `work` gave, or {"failed": why}; `jobs` at a time, `limit` seconds each."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")  # fork imports nothing anew
    queue = deque(waiting)
    running: dict[Connection, tuple[Any, Subject, float]] = {}
    try:
        while queue or running:
            while queue and len(running) < jobs:
                subject = queue.popleft()
                ours, theirs = context.Pipe()
                process = context.Process(target=_in_process, args=(theirs, work, subject), daemon=True)  # type: ignore[attr-defined]
                process.start()
                theirs.close()
                running[ours] = (process, subject, time.monotonic() + limit)
            ready = wait(list(running), timeout=1.0)
            for connection, (process, subject, deadline) in list(running.items()):
                if connection in ready:
                    try:
                        result = connection.recv()
                    except EOFError:
                        process.join()
                        result = {"failed": f"its process ended with status {process.exitcode}"}
                elif time.monotonic() > deadline:
                    process.kill()
                    result = {"failed": f"took more than {limit:g} s"}
                else:
                    continue
                process.join()
                del running[connection]
                yield subject, result
    finally:
        for process, *_ in running.values():
            process.kill()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the results that a file holds; a line cut off by an interruption is passed over."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def measured(results: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Mapping[str, Any]]:
    """Return the last result of each model, by title, of one kind; failures are to be tried again."""
    return {result["title"]: result for result in results if result["kind"] == kind and "failed" not in result}


# -- a run -----------------------------------------------------------------------------------------------------------


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Examine as the command line asks for, keep the results, and write the page."""
    if min(arguments.jobs, arguments.limit, arguments.repeats) < 1:
        raise vv.InputError("--jobs, --limit and --repeats are numbers of at least 1")
    if arguments.output is not None:
        check_place(arguments.output)
    if arguments.docs is not None and not arguments.docs.is_dir():
        raise vv.InputError(f"--docs {str(arguments.docs)!r} is no folder; make it first")
    known = subjects()
    chosen = [subject for subject in known if any(fnmatchcase(subject.title, one) for one in arguments.models)]
    if not chosen:
        raise vv.InputError(
            f"no model matches {' '.join(arguments.models)}; give patterns such as 'torchvision:vgg*' or 'timm:*'"
        )
    kept = arguments.output or make_folder(Path(__file__).with_name("results")) / "conformance.jsonl"
    torch.set_num_threads(1)
    kinds: dict[str, Work] = {"visavis": functools.partial(explain_one, repeats=arguments.repeats)}
    if arguments.peers:
        kinds |= {peer: functools.partial(try_one, peer=peer) for peer in PEERS}
    for kind, work in kinds.items():
        tried = chosen if kind == "visavis" else [one for one in chosen if one.group != "quantized"]
        measure_all(kind, work, tried, kept, arguments, console)
    if arguments.docs is not None:
        results = read_lines(kept)
        by_kind = {kind: measured(results, kind) for kind in ("visavis", *PEERS)}
        write_bytes(arguments.docs / "conformance.md", conformance_page(known, by_kind, _command(arguments)).encode())


def _command(arguments: argparse.Namespace) -> str:
    """Return the command that makes the same page, wherever it is run."""
    only = "" if arguments.models == ["*"] else f" --models {shlex.join(arguments.models)}"
    return f"python benchmarks/conformance.py{only}{' --peers' * arguments.peers} --docs docs"


def measure_all(
    kind: str, work: Work, chosen: Sequence[Subject], kept: Path, arguments: argparse.Namespace, console: Console
) -> None:
    """Measure what has no result of this kind yet, and keep each result as it comes."""
    done = measured(read_lines(kept), kind)
    waiting = [subject for subject in chosen if subject.title not in done]
    with (
        Progress(console=console, auto_refresh=False) as progress,  # no thread beside the processes that fork
        kept.open("a", encoding="utf-8") as file,
    ):
        file.write("\n")  # ends a line that an interruption cut off
        task = progress.add_task(kind, total=len(waiting))
        for subject, result in in_processes(waiting, work, arguments.jobs, arguments.limit):
            file.write(json.dumps({"kind": kind, "title": subject.title, **result}) + "\n")
            file.flush()
            for trouble in [*result.get("faults", []), *filter(None, [result.get("failed")])]:
                progress.console.print(f"{subject.title}: {trouble}", soft_wrap=True, markup=False, highlight=False)
            progress.advance(task)
            progress.refresh()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", nargs="+", default=["*"], metavar="PATTERN", help="such as 'torchvision:vgg*' (all models)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="models at a time, each on one thread (1)")
    parser.add_argument("--limit", type=float, default=1200, help="seconds that one model may take (1200)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of the timing (3)")
    parser.add_argument("--peers", action="store_true", help="let captum and zennit try the same models")
    parser.add_argument(
        "--output", type=Path, help="where results are kept, as JSON lines (benchmarks/results/conformance.jsonl)"
    )
    parser.add_argument("--docs", type=Path, help="write conformance.md into this folder")
    return parser


def main() -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    try:
        run(_parser().parse_args(), Console())
    except vv.VisavisError as error:
        sys.exit(f"conformance.py: {error}")


if __name__ == "__main__":
    main()

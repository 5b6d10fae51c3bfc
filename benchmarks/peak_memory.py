"""The peak memory of explaining a batch, beside that of a plain gradient of the same batch.

The plain gradient is `torch.autograd.grad` of the targets' scores with respect to the images; no parameter requires a
gradient. Beside it stand this library's methods and the peers of `speed_contestants.py`, as a user calls them, and
several maps of each image from one call of `attribute_each`; on models with random weights (`speed_models.py`).

Each call has a process of its own. Model, images and targets are there, and the plain gradient of a single image has
loaded what torch loads; then the method is called for the first time. Reported is the median over the processes of

- on a GPU: the most memory that torch had allocated during the call, above what it had before;
- on a CPU: the most memory that the process held in RAM (resident) during the call, above what it held before. Linux
  says so of the call alone (VmHWM, set back before it); elsewhere it is by how much the call raised the greatest of
  the whole process, which is too little where building the model took more for a moment.

glibc keeps freed memory for later, as much as it has seen fit in the past. The processes run with
MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ set, so that tensors are given back as soon as they are freed and the
figures follow what is allocated; calls are slower for it, and are not timed here.

    python benchmarks/peak_memory.py --threads 1 --at-most "Visavis CLRP=1.3"
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import shlex
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from speed_contestants import CONTESTANTS, Absent
from speed_models import DTYPES, SIDE, add_arguments, network, pictures
from speed_race import each, targets_of, tried
from speed_results import bar, plain, processor, versions
from torch import Tensor, nn

import visavis as vv
from visavis.devices import choose_device
from visavis.files import check_place, check_suffix, write_bytes

#: What the others are compared with.
GRADIENT = "plain gradient"
#: The contestant whose call makes several maps of each image; the number comes before it.
SEVERAL = "maps, Visavis CLRP"
#: Who takes part unless others are asked for, beside `SEVERAL`.
USUAL = (
    "Visavis Gradient",
    "Visavis LRP",
    "Visavis CLRP",
    "zennit, same contrast",
    "captum LRP, no contrast",
)
COLUMNS = ("model", "batch", "contestant", "peak, MiB", "least to greatest", "beside the plain gradient")
FORMATS = (".md", ".json")
#: Bytes above which glibc takes memory from the system, and gives it back.
THRESHOLD = 65536
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(THRESHOLD), "MALLOC_TRIM_THRESHOLD_": str(THRESHOLD)}
MIB = 1024**2


@dataclass(frozen=True)
class Row:
    """The peaks of a contestant on a model, in bytes, of each of its processes; or, in words, why it has none."""

    model: str
    batch: int
    title: str
    peaks: tuple[int, ...] = ()
    absent: str = ""

    @property
    def peak(self) -> float:
        """The median of the peaks, in bytes."""
        return statistics.median(self.peaks)

    def cells(self, ratio: float | None) -> tuple[str, ...]:
        """Return the row of the table."""
        head = (self.model, str(self.batch), self.title)
        if self.absent:
            return (*head, self.absent, "", "")
        least, most = min(self.peaks) / MIB, max(self.peaks) / MIB
        beside = "–" if ratio is None else f"{ratio:.2f}"
        return (*head, f"{self.peak / MIB:.0f}", f"{least:.0f} to {most:.0f}", beside)


def ratios(rows: Sequence[Row]) -> list[float | None]:
    """Return each row's peak over that of the plain gradient of its model; None where one of them has no figure."""
    units = {row.model: row.peak for row in rows if row.title == GRADIENT and not row.absent}
    return [None if row.absent or not units.get(row.model) else row.peak / units[row.model] for row in rows]


def above(rows: Sequence[Row], bars: Mapping[str, float]) -> list[str]:
    """Return, for each bar that is not kept, what was measured; a contestant without a figure keeps no bar."""
    said = []
    for row, ratio in zip(rows, ratios(rows), strict=True):
        most = bars.get(row.title)
        if most is None:
            continue
        where = f"{row.title} on {row.model} (batch {row.batch})"
        if ratio is None:
            said.append(f"{where} has no figure: {row.absent or 'the plain gradient has none'}")
        elif ratio > most:
            said.append(f"{where} takes {ratio:.2f} times the memory of the plain gradient, more than {most:g}")
    return said


# -- in a process of its own -----------------------------------------------------------------------------------------


def gradient(module: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """Return the gradient of the targets' scores with respect to the inputs, by torch alone."""
    leaf = inputs.detach().requires_grad_()
    scores = module(leaf).gather(1, target[:, None])
    return torch.autograd.grad(scores.sum(), leaf)[0]


def call_of(title: str, name: str, module: nn.Module, inputs: Tensor, targets: Sequence[Tensor]) -> Callable[[], Any]:
    """Return a contestant's call; raise what stands in its way."""
    if title == GRADIENT:
        return lambda: gradient(module, inputs, targets[0])
    wanted = "Visavis CLRP" if title.endswith(SEVERAL) else title
    (one,) = (contestant for contestant in CONTESTANTS if contestant.title == wanted)
    if importlib.util.find_spec(one.package) is None:
        raise Absent(f"{one.package} is not installed")
    if one.device not in ("", inputs.device.type):
        raise Absent(f"needs the device {one.device}")
    attribute = one.make(module, name)
    return lambda: each(attribute, inputs, targets)


def peak_of(call: Callable[[], Any], device: torch.device) -> int:
    """Return the most memory that a call held at once, above what was held before it, in bytes."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _give_back()
    if _set_back():
        before = _resident("VmRSS")
        call()
        return _resident("VmHWM") - before
    before = _greatest()
    call()
    return _greatest() - before


def _give_back() -> None:
    """Let the C library give freed memory back, in which a call could hold much without a trace."""
    with contextlib.suppress(OSError, AttributeError):  # not of every system
        ctypes.CDLL(None).malloc_trim(0)


def _set_back() -> bool:
    """Let the greatest resident memory count from now on, where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def _greatest() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured(title: str, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Call a contestant in this process, and return its peak in bytes, or why it has none."""
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    module = network(name).to(device=device, dtype=DTYPES[arguments.dtype])
    inputs = pictures(arguments.batch, arguments.side).to(device=device, dtype=DTYPES[arguments.dtype])
    targets = targets_of(module, inputs, arguments.maps if title.endswith(SEVERAL) else 1)
    gradient(module, inputs[:1], targets[0][:1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers warn at every call
        peak, why = tried(lambda: peak_of(call_of(title, name, module, inputs, targets), device))
    return {"absent": why} if peak is None else {"peak": peak}


# -- all of them -----------------------------------------------------------------------------------------------------


def alone(title: str, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `measured` returns in a process of its own, in which glibc gives memory back."""
    words = [*_settings(arguments), "--models", name, "--alone", title]
    ended = subprocess.run(
        [sys.executable, __file__, *words], env={**os.environ, **MALLOC}, capture_output=True, text=True, check=False
    )
    if ended.returncode < 0:
        return {"absent": f"its process was ended by signal {-ended.returncode}, as where memory runs out"}
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or [f"exit status {ended.returncode}"]
        return {"absent": f"its process failed: {last[0]}"}
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def row_of(title: str, name: str, arguments: argparse.Namespace) -> Row:
    """Return the row of a contestant: of several processes, until one of them has no figure."""
    peaks: list[int] = []
    for _ in range(arguments.repeats):
        found = alone(title, name, arguments)
        if "absent" in found:
            return Row(name, arguments.batch, title, absent=found["absent"])
        peaks.append(found["peak"])
    return Row(name, arguments.batch, title, tuple(peaks))


def as_markdown(rows: Sequence[Row], made_on: str, command: str) -> str:
    """Return the table, what it was taken on, and the command."""
    head = [COLUMNS, ("---", "---:", "---", "---:", "---:", "---:")]
    cells = [row.cells(ratio) for row, ratio in zip(rows, ratios(rows), strict=True)]
    lines = [f"| {' | '.join(map(plain, line))} |" for line in (*head, *cells)]
    return "\n".join([*lines, "", f"{made_on}. Made by `{command}`.", ""])


def as_json(rows: Sequence[Row], made_on: str, command: str) -> str:
    """Return the rows, peaks in bytes, each with its ratio, and what they were taken on, as JSON."""
    held = [{**asdict(row), "ratio": ratio} for row, ratio in zip(rows, ratios(rows), strict=True)]
    return json.dumps({"made_on": made_on, "command": command, "rows": held}, indent=1, ensure_ascii=False) + "\n"


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Measure what the command line asks for, print and write the table, and hold the bars up to it."""
    numbers = (arguments.repeats, arguments.threads, arguments.batch, arguments.maps, arguments.side)
    if min(numbers) < 1:
        raise vv.InputError("--repeats, --threads, --batch, --maps and --side are numbers of at least 1")
    if arguments.output is not None:
        check_suffix(arguments.output, FORMATS, "a table")
        check_place(arguments.output)
    device = choose_device(arguments.device)
    several = [f"{arguments.maps} {SEVERAL}"] if arguments.maps > 1 else []
    titles = [GRADIENT, *(USUAL if arguments.contestants is None else arguments.contestants), *several]
    form = '"TITLE=TIMES THE PLAIN GRADIENT", as "Visavis CLRP=1.3"'
    bars = dict(bar(words, titles, form) for words in arguments.at_most)
    made_on = _made_on(device, arguments)
    console.print(made_on, soft_wrap=True, markup=False)
    rows: list[Row] = []
    for name in arguments.models:
        for title in titles:
            rows.append(row_of(title, name, arguments))
            console.print("  ".join(rows[-1].cells(ratios(rows)[-1])), soft_wrap=True, markup=False, highlight=False)
    if arguments.output is not None:
        written = as_json if arguments.output.suffix.lower() == ".json" else as_markdown
        write_bytes(arguments.output, written(rows, made_on, _command(arguments)).encode())
    broken = above(rows, bars)
    if broken:
        raise vv.VisavisError("; ".join(broken))


def _made_on(device: torch.device, arguments: argparse.Namespace) -> str:
    name, setting = processor(), f"{arguments.threads} thread{'s' * (arguments.threads != 1)}, "
    if device.type == "cuda":
        name, setting = torch.cuda.get_device_name(device), ""
    rounds = f"median of {arguments.repeats} process{'es' * (arguments.repeats != 1)}"
    return f"{name}; {setting}{arguments.dtype}, {arguments.side} px; {rounds}; {', '.join(versions(device))}"


def _settings(arguments: argparse.Namespace) -> list[str]:
    names = ("device", "threads", "batch", "side", "maps", "dtype")
    return [word for name in names for word in (f"--{name}", str(getattr(arguments, name)))]


def _command(arguments: argparse.Namespace) -> str:
    """Return the words that measure the same again."""
    only = [] if arguments.contestants is None else ["--contestants", *arguments.contestants]
    words = [*_settings(arguments), "--repeats", str(arguments.repeats), "--models", *arguments.models, *only]
    return f"python benchmarks/peak_memory.py {shlex.join(words)}"


def _parser() -> argparse.ArgumentParser:
    every = [contestant.title for contestant in CONTESTANTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--repeats", type=int, default=3, help="processes for each contestant (3)")
    parser.add_argument("--batch", type=int, default=8, help="images at once (8)")
    parser.add_argument("--side", type=int, default=SIDE, help=f"side of the images in px ({SIDE})")
    parser.add_argument(
        "--maps", type=int, default=4, help="maps of each image in the call that makes several; 1: leave it out (4)"
    )
    parser.add_argument(
        "--contestants",
        nargs="*",
        choices=every,
        metavar="TITLE",
        help=f"beside the plain gradient, of {'; '.join(every)}",
    )
    parser.add_argument(
        "--at-most", nargs="+", default=[], metavar="TITLE=TIMES", help="end with status 1 where a ratio exceeds it"
    )
    parser.add_argument("--output", type=Path, help="write the table there: .md or .json")
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # one contestant, in this process
    return parser


def main() -> None:
    """Run from the command line; what is wrong, or above its bar, gets a sentence and exit status 1."""
    arguments = _parser().parse_args()
    try:
        if arguments.alone is None:
            run(arguments, Console())
        else:
            print(json.dumps(measured(arguments.alone, arguments.models[0], arguments)))
    except vv.VisavisError as error:
        sys.exit(f"peak_memory.py: {error}")


if __name__ == "__main__":
    main()

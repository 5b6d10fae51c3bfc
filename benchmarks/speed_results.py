"""What the speed benchmark found: rows, runs of one machine, their JSON, their table, and bars that they must keep."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import visavis as vv

#: The row of the unit itself.
PASS = "forward pass F"
COLUMNS = (
    "model",
    "batch",
    "maps",
    "side",
    "contestant",
    "cost in F, median",
    "least to greatest",
    "ms, median",
    "images/s",
)
#: Which of the columns hold words; the others hold numbers.
WORDS = ("model", "contestant")
#: The form of a bar, with an example.
BAR = '"TITLE=COST IN F", as "Visavis CLRP=3.3"'


@dataclass(frozen=True)
class Case:
    """What is explained: a model, so many images at once, so many maps of each, images of so many pixels a side."""

    model: str
    batch: int
    maps: int
    side: int


@dataclass(frozen=True)
class Result:
    """What a contestant cost in a case: each round's forward passes and seconds; or, in words, why it has none."""

    case: Case
    title: str
    ratios: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    absent: str = ""

    @property
    def cost(self) -> float:
        """The median cost in forward passes."""
        return statistics.median(self.ratios)

    @property
    def images_per_second(self) -> float:
        """How many images get all their maps in a second, by the median time."""
        return self.case.batch / statistics.median(self.seconds)

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        case = self.case
        head = (case.model, str(case.batch), str(case.maps), str(case.side), self.title)
        if self.absent:
            return (*head, self.absent, "", "", "")
        spread = f"{min(self.ratios):.2f} to {max(self.ratios):.2f}"
        milliseconds = 1000 * statistics.median(self.seconds)
        rate = self.images_per_second
        return (
            *head,
            f"{self.cost:.2f}",
            spread,
            f"{milliseconds:.1f}",
            f"{rate:.0f}" if rate > 100 else f"{rate:.3g}",
        )


@dataclass(frozen=True)
class Machine:
    """What figures were taken on: the name of the processor or GPU, the settings, and the versions, each as a line."""

    name: str
    settings: str
    versions: str

    def line(self) -> str:
        """Return all of it in a line."""
        return f"{self.name}; {self.settings}; {self.versions}"


@dataclass(frozen=True)
class Measured:
    """The results of one run."""

    machine: Machine
    repeats: int
    command: str
    results: tuple[Result, ...]


# -- the machine -----------------------------------------------------------------------------------------------------


def machine(device: torch.device, dtype: str, clock: str, channels_last: bool) -> Machine:
    """Return what the figures are taken on."""
    layout = "channels last" if channels_last else "channels first"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        tensor_cores = f"TF32 convolutions {'on' if torch.backends.cudnn.allow_tf32 else 'off'}"
        settings = [dtype, tensor_cores, layout]
    else:
        threads = torch.get_num_threads()
        name = processor()
        settings = [f"{threads} thread{'s' * (threads != 1)}", dtype, layout]
    return Machine(name, ", ".join([*settings, f"{clock} clock"]), ", ".join(versions(device)))


def processor() -> str:
    """Return the processor's name, where the system tells it, and else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def versions(device: torch.device) -> list[str]:
    found = [f"Python {platform.python_version()}"]
    for package in ("visavis", "torch", "torchvision", "timm", "zennit", "captum"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    if device.type == "cuda":
        found += [f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
    return found


# -- JSON ------------------------------------------------------------------------------------------------------------


def as_json(measured: Measured) -> bytes:
    """Return a run as JSON, which `from_json` reads."""
    return (json.dumps(asdict(measured), indent=1, ensure_ascii=False) + "\n").encode()


def from_json(path: Path) -> Measured:
    """Return the run that a file holds.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        results = tuple(_result(row) for row in held["results"])
        return Measured(Machine(**held["machine"]), int(held["repeats"]), str(held["command"]), results)
    except OSError as error:
        raise vv.InputError(f"{str(path)!r} cannot be read ({error.strerror or error})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise vv.InputError(f"{str(path)!r} holds no run of speed.py; give what its --json wrote") from error


def _result(row: Mapping[str, Any]) -> Result:
    timed = {key: tuple(map(float, row[key])) for key in ("ratios", "seconds")}
    return Result(Case(**row["case"]), str(row["title"]), **timed, absent=str(row["absent"]))


def merged(runs: Sequence[Measured]) -> list[Result]:
    """Return the results of runs of one machine; of a contestant measured twice in a case, the last.

    Raises:
        InputError: they are of several machines.
    """
    if len({run.machine for run in runs}) > 1:
        raise vv.InputError("only runs of one machine, with the same settings and versions, are shown together")
    return list({(result.case, result.title): result for run in runs for result in run.results}.values())


# -- table and bars --------------------------------------------------------------------------------------------------


def table(results: Sequence[Result], leave_out: Sequence[str] = ()) -> str:
    """Return the rows as a table in markdown, without some of the columns."""
    kept = [place for place, column in enumerate(COLUMNS) if column not in leave_out]
    rule = ["---" if column in WORDS else "---:" for column in COLUMNS]
    rows = [COLUMNS, rule, *([plain(cell) for cell in result.cells()] for result in results)]
    return "\n".join(f"| {' | '.join(row[place] for place in kept)} |" for row in rows)


def plain(cell: str) -> str:
    """Return a cell whose signs markdown takes for nothing else: an error may hold any."""
    return cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", r"\|").replace("`", r"\`")


def as_markdown(measured: Measured) -> str:
    """Return the table of a run, what it was taken on, and its command."""
    rounds = f"{measured.repeats} rounds"
    made_by = f"Made by `{measured.command}`."
    return "\n".join([f"{measured.machine.line()}; {rounds}", "", table(measured.results), "", made_by, ""])


def bar(words: str, titles: Sequence[str], form: str = BAR) -> tuple[str, float]:
    """Return the contestant and the cost in "TITLE=COST", which its medians must not exceed.

    Args:
        words: what was given.
        titles: of the contestants.
        form: what is expected, for the sentence that refuses.

    Raises:
        InputError: it has another form, or names none of the contestants.
    """
    title, _, number = words.rpartition("=")
    try:
        cost = float(number)
    except ValueError:
        cost = -1
    if title not in titles or not cost > 0:
        known = ", ".join(titles)
        raise vv.InputError(f"--at-most takes {form}, of {known}; not {words!r}")
    return title, cost


def above(results: Sequence[Result], bars: Mapping[str, float]) -> list[str]:
    """Return, for each bar that is not kept, what was measured; a contestant without a figure keeps no bar."""
    said = []
    for result in results:
        most = bars.get(result.title)
        if most is None:
            continue
        case = result.case
        where = f"{result.title} on {case.model} (batch {case.batch}, maps {case.maps}, {case.side} px)"
        if result.absent:
            said.append(f"{where} has no figure: {result.absent}")
        elif result.cost > most:
            said.append(f"{where} costs {result.cost:.2f} F, more than {most:g}")
    return said

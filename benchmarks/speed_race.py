"""How the speed benchmark times: contestants in turn, each between two forward passes of the same model."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import importlib.util
import statistics
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.progress import Progress
from speed_contestants import Absent, Attribute, Contestant
from speed_results import PASS, Case, Result
from torch import Tensor, nn

from visavis.memory import is_out_of_memory
from visavis.methods.base import PropagationMethod

WARM_UPS = {"cpu": 1, "cuda": 3}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
#: The row of the forward pass without what launching its kernels one by one costs.
GRAPH = "forward pass as a CUDA graph"
#: Those that leave the model as it is; the others get a copy each.
_CAREFUL = ("visavis", "torch")

Call = Callable[[], Any]
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Timing:
    """How many rounds are timed, by which clock, and how many seconds a call may take."""

    repeats: int = 5
    clock: str = "wall"
    limit: float = 600.0


def seconds(call: Call, device: torch.device, clock: str) -> float:
    """Return how long a call takes by a clock, until the device has finished."""
    _finish(device)
    start = CLOCKS[clock]()
    call()
    _finish(device)
    return CLOCKS[clock]() - start


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def race(
    module: nn.Module,
    case: Case,
    inputs: Tensor,
    contestants: Sequence[Contestant],
    timing: Timing,
    progress: Progress,
) -> list[Result]:
    """Time the contestants in one case: a row for the forward pass, and one for each of them."""
    graphs = [GRAPH] if inputs.device.type == "cuda" else []
    preparations: dict[str, Callable[[], Call]] = {title: lambda: _captured(module, inputs) for title in graphs}
    for one in contestants:
        preparations[one.title] = functools.partial(_prepared, one, module, case, inputs, timing.limit)
    found, why = tried(functools.partial(_rounds, module, case, inputs, preparations, timing, progress))
    _release(inputs.device)
    # Each contestant's failure is its own; what is left is the forward pass, without which there is no unit.
    failed = f"the forward pass has no figure: {why}"
    return [Result(case, title, absent=failed) for title in (PASS, *preparations)] if found is None else found


def _rounds(
    module: nn.Module,
    case: Case,
    inputs: Tensor,
    preparations: Mapping[str, Callable[[], Call]],
    timing: Timing,
    progress: Progress,
) -> list[Result]:
    """Prepare the calls, and time them in turn."""
    device, rows = inputs.device, list(preparations)
    timed = functools.partial(seconds, device=device, clock=timing.clock)
    task = progress.add_task(_said(case), total=len(rows) * (timing.repeats + 1))

    @torch.inference_mode()
    def forward() -> Tensor:
        return module(inputs)

    forward()
    ready: dict[str, Call] = {}
    absent: dict[str, str] = {}
    for title, prepare in preparations.items():
        call, why = tried(prepare)
        if call is None:
            absent[title] = why
            _release(device)
        else:
            ready[title] = call
        progress.advance(task)
    ratios: dict[str, list[float]] = {title: [] for title in ready}
    taken: dict[str, list[float]] = {title: [] for title in [PASS, *ready]}
    for _ in range(timing.repeats):
        before = timed(forward)
        taken[PASS] += [] if ready else [before]
        for title in list(ready):
            own, why = tried(functools.partial(timed, ready[title]))
            if own is None:
                absent[title] = why
                del ready[title]
                _release(device)
            after = timed(forward)
            if own is not None:
                ratios[title].append(2 * own / (before + after))
                taken[title].append(own)
            taken[PASS].append(after)
            before = after
            progress.advance(task)
    progress.update(task, completed=len(rows) * (timing.repeats + 1))
    middle = statistics.median(taken[PASS])
    passes = Result(case, PASS, tuple(t / middle for t in taken[PASS]), tuple(taken[PASS]))
    return [passes] + [
        Result(case, title, absent=absent[title])
        if title in absent
        else Result(case, title, tuple(ratios[title]), tuple(taken[title]))
        for title in rows
    ]


def _said(case: Case) -> str:
    return f"{case.model}, batch {case.batch}, maps {case.maps}, {case.side} px"


def _prepared(contestant: Contestant, module: nn.Module, case: Case, inputs: Tensor, limit: float) -> Call:
    """Return a contestant's call, warmed up; raise what stands in its way."""
    device = inputs.device
    if importlib.util.find_spec(contestant.package) is None:
        raise Absent(f"{contestant.package} is not installed")
    if contestant.device not in ("", device.type):
        raise Absent(f"needs the device {contestant.device}")
    # A copy where a contestant that fails midway may leave its hooks behind.
    own = module if contestant.package in _CAREFUL else copy.deepcopy(module)
    attribute = contestant.make(own, case.model)
    targets = targets_of(module, inputs, case.maps)
    for _ in range(WARM_UPS.get(device.type, 1)):
        start = time.perf_counter()
        each(attribute, inputs, targets, until=start + limit)
        _finish(device)
        took = time.perf_counter() - start
    # Of the last alone: the first may compile.
    if took > limit:
        raise Absent(f"a call takes more than {limit:g} s")
    return functools.partial(each, attribute, inputs, targets)


@torch.no_grad()
def targets_of(module: nn.Module, inputs: Tensor, maps: int) -> list[Tensor]:
    """Return the targets of so many maps: each image's strongest class, and those that follow it."""
    logits = module(inputs)
    return [(logits.argmax(1) + place) % logits.shape[1] for place in range(maps)]


def each(
    attribute: Attribute, inputs: Tensor, targets: Sequence[Tensor], until: float = float("inf")
) -> Sequence[Tensor]:
    """Return the map of each target: from one forward pass where the library has a way, else call by call.

    Args:
        attribute: makes a map.
        inputs: images.
        targets: for each map, a class of each image.
        until: when, by `time.perf_counter`, no further call is begun.
    """
    method = getattr(attribute, "__self__", None)
    if len(targets) > 1 and isinstance(method, PropagationMethod):
        return method.attribute_each(inputs, targets)
    maps = []
    for target in targets:
        if time.perf_counter() > until:
            raise Absent(f"{len(targets)} maps take too long: the time was up after {len(maps)}")
        maps.append(attribute(inputs, target))
    return maps


def _captured(module: nn.Module, inputs: Tensor) -> Call:
    """Return what replays the forward pass from a CUDA graph."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(aside):
        for _ in range(WARM_UPS["cuda"]):
            module(inputs)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        module(inputs)
    graph.replay()
    replay: Call = graph.replay
    return replay


# -- what stands in the way ------------------------------------------------------------------------------------------


def tried(work: Callable[[], Outcome]) -> tuple[Outcome | None, str]:
    """Return what some work returns; or None and, as part of a sentence, why it failed, whatever it raised."""
    try:
        return work(), ""
    except Exception as error:  # noqa: BLE001 - that a contestant cannot do a model is a result
        return None, reason(error)


def reason(error: Exception) -> str:
    """Return, as part of a sentence, why a contestant has no figure."""
    if isinstance(error, Absent):
        return str(error)
    said = " ".join(str(error).split())
    if is_out_of_memory(error):
        return "out of memory"
    return textwrap.shorten(f"raises {type(error).__name__}: {said}", 100, placeholder=" …")


def _release(device: torch.device) -> None:
    """Give back what a contestant that failed left."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@contextlib.contextmanager
def memory_bounded(device: torch.device) -> Iterator[None]:
    """Let what does not fit into the free memory raise; on Linux the system would else end the process."""
    try:
        import resource

        free = _kilobytes("/proc/meminfo", "MemAvailable") + _kilobytes("/proc/self/status", "VmData")
    except (ImportError, OSError, StopIteration):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if device.type != "cpu" or soft != resource.RLIM_INFINITY:
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (int(free * 1024 * 0.95), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _kilobytes(path: str, key: str) -> int:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))

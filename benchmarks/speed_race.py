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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from speed_contestants import Absent, Attribute, Contestant
from speed_results import PASS, Case, Result
from torch import Tensor, nn

from visavis.methods.base import PropagationMethod

WARM_UPS = {"cpu": 1, "cuda": 3}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
#: The row of the forward pass without what launching its kernels one by one costs.
GRAPH = "forward pass as a CUDA graph"
#: Those that leave the model as it is; the others get a copy each.
_CAREFUL = ("visavis", "torch")

Call = Callable[[], Any]


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
    device = inputs.device
    timed = functools.partial(seconds, device=device, clock=timing.clock)
    graphs = [GRAPH] if device.type == "cuda" else []
    rows = [*graphs, *(one.title for one in contestants)]
    task = progress.add_task(_said(case), total=len(rows) * (timing.repeats + 1))

    @torch.inference_mode()
    def forward() -> Tensor:
        return module(inputs)

    try:
        # A tensor made in inference mode may not take part in what the contestants record.
        logits = forward()
        targets = [(logits.argmax(1) + place) % logits.shape[1] for place in range(case.maps)]
    except Exception as error:  # what does not fit is a result
        why = f"the forward pass {reason(error)}"
        return [Result(case, title, absent=why) for title in (PASS, *rows)]
    preparations: dict[str, Callable[[], Call]] = {title: lambda: _captured(module, inputs) for title in graphs}
    for one in contestants:
        preparations[one.title] = functools.partial(_prepared, one, module, case, inputs, targets, timing.limit)
    ready: dict[str, Call] = {}
    absent: dict[str, str] = {}
    for title, prepare in preparations.items():
        try:
            ready[title] = prepare()
        except Exception as error:  # that a contestant cannot do a model is a result, whatever it raises
            absent[title] = reason(error)
        _release(device)
        progress.advance(task)
    ratios: dict[str, list[float]] = {title: [] for title in ready}
    taken: dict[str, list[float]] = {title: [] for title in [PASS, *ready]}
    for _ in range(timing.repeats):
        before = timed(forward)
        taken[PASS] += [] if ready else [before]
        for title, call in list(ready.items()):
            try:
                own = timed(call)
            except Exception as error:  # as above
                absent[title] = reason(error)
                del ready[title]
                _release(device)
            after = timed(forward)
            if title in ready:
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


def _prepared(
    contestant: Contestant, module: nn.Module, case: Case, inputs: Tensor, targets: Sequence[Tensor], limit: float
) -> Call:
    """Return a contestant's call, warmed up; raise what stands in its way."""
    device = inputs.device
    if importlib.util.find_spec(contestant.package) is None:
        raise Absent(f"{contestant.package} is not installed")
    if contestant.device not in ("", device.type):
        raise Absent(f"needs the device {contestant.device}")
    # A copy where a contestant that fails midway may leave its hooks behind.
    own = module if contestant.package in _CAREFUL else copy.deepcopy(module)
    attribute = contestant.make(own, case.model)
    for _ in range(WARM_UPS.get(device.type, 1)):
        start = time.perf_counter()
        each(attribute, inputs, targets, until=start + limit)
        _finish(device)
        took = time.perf_counter() - start
    # Of the last alone: the first may compile.
    if took > limit:
        raise Absent(f"a call takes more than {limit:g} s")
    return functools.partial(each, attribute, inputs, targets)


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


def reason(error: Exception) -> str:
    """Return, as part of a sentence, why a contestant has no figure."""
    if isinstance(error, Absent):
        return str(error)
    said = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in said for words in ("out of memory", "can't allocate memory", "bad_alloc")
    ):
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

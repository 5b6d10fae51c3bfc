"""What a map costs: its time in forward passes of the same model, its memory in that of an input gradient."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.evaluation.base import Case, Context, Explainer, Metric, register_metric
from visavis.propagation.untouched import run_untouched

Call = Callable[[], Any]


class Cost(NamedTuple):
    """What a map costs.

    Attributes:
        passes: its time over that of a forward pass on the same inputs.
        seconds: its time.
        memory: the most memory that it takes beyond what was taken before, over that of an input gradient; NaN where
            the device does not count it, as the CPU does not.
    """

    passes: float
    seconds: float
    memory: float


def seconds(call: Call, device: torch.device) -> float:
    """Return how long a call takes, once the device is done: on CUDA by its events; on the CPU by the processor's time
    in all threads of this process, so that other processes do not count; elsewhere by the clock."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        with torch.cuda.device(device):
            start.record()
            call()
            end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1000
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    _finish(device)
    begun = clock()
    call()
    _finish(device)
    return clock() - begun


def _finish(device: torch.device) -> None:
    if device.type == "mps":
        torch.mps.synchronize()


def in_passes(
    forward: Call, call: Call, device: torch.device, *, repeats: int = 3, timed: Callable[..., float] = seconds
) -> tuple[float, float]:
    """Return the time of a call in forward passes, and in seconds: medians over repeats.

    Each call stands between two forward passes and is divided by their mean, so that a machine that slows down slows
    both. Nothing is run before the clock starts: warm up first.

    Args:
        forward, call: take no arguments.
        device: where they run.
        repeats: how many calls.
        timed: takes a call and a device to seconds.

    Raises:
        InputError: there are no repeats.
    """
    _check_repeats(repeats)
    ratios, taken = [], []
    before = timed(forward, device)
    for _ in range(repeats):
        own, after = timed(call, device), timed(forward, device)
        ratios.append(2 * own / (before + after))
        taken.append(own)
        before = after
    return statistics.median(ratios), statistics.median(taken)


def _check_repeats(repeats: int) -> None:
    if not repeats >= 1:
        raise InputError(f"a time is the median of at least one repeat, not of {repeats}")


def peak(call: Call, device: torch.device) -> float:
    """Return the most bytes that a call takes beyond what is taken before it; NaN where the device is no CUDA one."""
    if device.type != "cuda":
        return math.nan
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return float(torch.cuda.max_memory_allocated(device) - before)


def input_gradient(classifier: Classifier, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of each target's logit, in the shape of the inputs (B, C, H, W), by plain autograd."""
    module = classifier.module
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        run_untouched(module, inputs.device),
    ):
        # Copies: what was made in inference mode cannot be recorded, and a module may not write to a leaf.
        leaf, chosen = inputs.detach().clone().requires_grad_(), targets.to(inputs.device).clone()
        scores = classifier(leaf.clone()).gather(1, chosen[:, None])
        (gradient,) = torch.autograd.grad(scores.sum(), leaf)
    return gradient


def cost(classifier: Classifier, explainer: Explainer, inputs: Tensor, targets: Tensor, *, repeats: int = 3) -> Cost:
    """Return what the maps of a batch cost, after one call of each to warm up.

    Args:
        classifier: the model.
        explainer: of its decisions.
        inputs: (B, C, H, W).
        targets: class indices (B,).
        repeats: how many times each is timed.

    Raises:
        InputError: there are no repeats.
    """
    device = inputs.device

    def forward() -> None:
        with torch.inference_mode():
            classifier(inputs)

    def explain() -> None:
        explainer.heatmaps(inputs, targets)

    def gradient() -> None:
        input_gradient(classifier, inputs, targets)

    forward()
    explain()
    passes, own = in_passes(forward, explain, device, repeats=repeats)
    memory = math.nan
    if device.type == "cuda":
        gradient()
        memory = peak(explain, device) / peak(gradient, device)
    return Cost(passes, own, memory)


@register_metric
class MapCost(Metric):
    """The time of one map in forward passes F; under "seconds" in seconds, under "memory" its peak in input gradients.

    In [0, ∞), lower is better. A measurement, not the same at every run. On the CPU there is no figure for memory.

    Args:
        repeats: as for `cost`.

    Raises:
        InputError: there are no repeats.
    """

    name: ClassVar[str] = "cost"
    title: ClassVar[str] = "cost in forward passes"
    source: ClassVar[str] = "benchmarks/speed.py, a map at a time"
    direction: ClassVar[str] = "lower"
    high: ClassVar[float] = math.inf

    def __init__(self, *, repeats: int = 3) -> None:
        super().__init__()
        _check_repeats(repeats)
        self.repeats = repeats

    def update(self, classifier: Classifier, explainer: Explainer, inputs: Tensor, targets: Tensor) -> Tensor:
        """Keep and return the cost in forward passes (B,) of each map, of inputs (B, C, H, W) and classes (B,)."""
        values = [
            cost(classifier, explainer, one[None], target[None], repeats=self.repeats).passes
            for one, target in zip(inputs, targets, strict=True)
        ]
        return self.add(torch.tensor(values, dtype=torch.float64))

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> dict[str, float]:
        """Return the passes under "", the seconds, and the memory where it is known; the map is made anew."""
        targets = torch.tensor([case.target], device=case.inputs.device)
        found = cost(context.classifier, context.explainer, case.inputs, targets, repeats=self.repeats)
        known = {} if math.isnan(found.memory) else {"memory": found.memory}
        return {"": found.passes, "seconds": found.seconds, **known}


__all__ = ["Cost", "MapCost", "cost", "in_passes", "input_gradient", "peak", "seconds"]

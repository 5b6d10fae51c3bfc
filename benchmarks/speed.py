"""What a map costs, in forward passes F of the same model, beside the peers.

VGG16 and ResNet50 with random weights, 224 px. One round times the forward pass (`torch.inference_mode`), a contestant,
the forward pass, the next contestant, and so on, so that each contestant stands between two forward passes and a drift
of the machine cancels: a round's ratio is the contestant's time over the mean of these two. Reported are the median
ratio over the rounds, the least and the greatest, and the median time. Building the model is not timed; what a user has
to do for each call (such as entering zennit's context) is. On a shared machine, `--clock cpu --threads 1` counts the
process's own time on the processor, which the neighbours disturb less.

Contestants:

- Visavis CLRP: foil "others", rules "deep-taylor"; Visavis LRP: the same rules, no contrast; Visavis Gradient.
- zennit, same contrast: z⁺ and zᴮ without biases, target and dual each propagated, subtracted, clamped at 0.
- captum LRP: its default rules, one map, no contrast. captum Saliency: the gradient.
"""

from __future__ import annotations

import argparse
import copy
import functools
import importlib.util
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import visavis as vv
from visavis.devices import choose_device
from visavis.files import check_place, write_bytes
from visavis.methods.base import PropagationMethod

MODELS = ("vgg16", "resnet50")
SIZE = 224
# The bounds of pixels normalised as torchvision's weights want it, over all channels.
BOUNDS = (-2.1179, 2.64)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
WARM_UPS = {"cpu": 1, "cuda": 3}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

#: One call as a user makes it: from inputs (B, 3, H, W) and targets (B,) to maps of the inputs' shape.
Attribute = Callable[[Tensor, Tensor], Tensor]
#: Makes it for a model of the given name.
Maker = Callable[[nn.Module, str], Attribute]


@dataclass(frozen=True)
class Contestant:
    """A method of a library: its title, the package that it needs, and how to make it for a model."""

    title: str
    package: str
    make: Maker


@dataclass(frozen=True)
class Result:
    """What a contestant cost on one model, batch and number of maps: each round's forward passes and seconds; or why it
    has none."""

    model: str
    batch: int
    maps: int
    title: str
    ratios: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    absent: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        head = (self.model, str(self.batch), str(self.maps), self.title)
        if self.absent:
            return (*head, self.absent, "", "")
        spread = f"{min(self.ratios):.2f} to {max(self.ratios):.2f}"
        return (*head, f"{statistics.median(self.ratios):.2f}", spread, f"{1000 * statistics.median(self.seconds):.1f}")


COLUMNS = ("model", "batch", "maps", "contestant", "cost in F, median", "least to greatest", "ms, median")


# -- contestants -----------------------------------------------------------------------------------------------------


def _clrp(module: nn.Module, name: str) -> Attribute:
    return vv.CLRP(module, foil="others", bounds=BOUNDS).attribute


def _lrp(module: nn.Module, name: str) -> Attribute:
    return vv.LRP(module, rules="deep-taylor", bounds=BOUNDS).attribute


def _gradient(module: nn.Module, name: str) -> Attribute:
    return vv.Gradient(module).attribute


def _zennit_contrast(module: nn.Module, name: str) -> Attribute:
    from zennit.attribution import Gradient
    from zennit.composites import SpecialFirstLayerMapComposite
    from zennit.rules import Norm, Pass, ZBox, ZPlus
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer
    from zennit.types import Activation, AvgPool, Convolution, Linear

    canonizer = ResNetCanonizer if name.startswith("resnet") else VGGCanonizer

    def attribute(inputs: Tensor, target: Tensor) -> Tensor:
        low, high = (torch.full_like(inputs[:1], bound) for bound in BOUNDS)
        sums = ((Activation, Pass()), (AvgPool, Norm()), (_zennit_sum(), Norm()))
        weighted = ((Convolution, Linear), ZPlus(zero_params="bias"))
        composite = SpecialFirstLayerMapComposite(
            [*sums, weighted],
            [(Convolution, ZBox(low, high, zero_params="bias"))],
            canonizers=[canonizer()],
        )
        maps = []
        with Gradient(module, composite) as attributor:
            for dual in (False, True):
                output = functools.partial(_seed, target=target, dual=dual)
                maps.append(attributor(inputs.clone().requires_grad_(), output)[1])
        return (maps[0] - maps[1]).clamp(min=0)

    return attribute


def _zennit_sum() -> type[nn.Module]:
    from zennit.layer import Sum

    return Sum


def _seed(logits: Tensor, *, target: Tensor, dual: bool) -> Tensor:
    """Return |S_j| at the target, or spread evenly over the other classes."""
    score = logits.gather(1, target[:, None]).abs()
    seed = torch.zeros_like(logits).scatter(1, target[:, None], score)
    return (score - seed).masked_fill(seed != 0, 0) / (logits.shape[1] - 1) if dual else seed


def _captum_lrp(module: nn.Module, name: str) -> Attribute:
    from captum.attr import LRP

    return lambda inputs, target: LRP(module).attribute(inputs.clone().requires_grad_(), target=target)


def _captum_saliency(module: nn.Module, name: str) -> Attribute:
    from captum.attr import Saliency

    return lambda inputs, target: Saliency(module).attribute(inputs.clone().requires_grad_(), target=target)


CONTESTANTS = (
    Contestant("Visavis CLRP", "visavis", _clrp),
    Contestant("Visavis LRP", "visavis", _lrp),
    Contestant("Visavis Gradient", "visavis", _gradient),
    Contestant("zennit, same contrast", "zennit", _zennit_contrast),
    Contestant("captum LRP, no contrast", "captum", _captum_lrp),
    Contestant("captum Saliency", "captum", _captum_saliency),
)


# -- timing ----------------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], Any], device: torch.device, clock: str) -> float:
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
    module: nn.Module, name: str, inputs: Tensor, maps: int, arguments: argparse.Namespace, progress: Progress
) -> list[Result]:
    """Time the contestants on one model, batch and number of maps of each image."""
    device, batch, repeats = inputs.device, len(inputs), arguments.repeats
    timed = functools.partial(seconds, device=device, clock=arguments.clock)

    @torch.inference_mode()
    def forward() -> Tensor:
        return module(inputs)

    # A tensor made in inference mode may not take part in what the contestants record.
    logits = forward()
    targets = [(logits.argmax(1) + place) % logits.shape[1] for place in range(maps)]
    chosen = [contestant for contestant in CONTESTANTS if contestant.title in arguments.contestants]
    ready: dict[str, Callable[[], Any]] = {}
    absent: dict[str, str] = {}
    task = progress.add_task(f"{name}, batch {batch}, maps {maps}", total=len(chosen) * (repeats + 1))
    for contestant in chosen:
        call = _prepared(contestant, module, name, inputs, targets)
        if isinstance(call, str):
            absent[contestant.title] = call
        else:
            ready[contestant.title] = call
        progress.advance(task)
    ratios: dict[str, list[float]] = {title: [] for title in ready}
    taken: dict[str, list[float]] = {title: [] for title in ["forward pass", *ready]}
    for _ in range(repeats):
        before = timed(forward)
        for title, call in ready.items():
            own, after = timed(call), timed(forward)
            ratios[title].append(2 * own / (before + after))
            taken[title].append(own)
            taken["forward pass"].append(after)
            before = after
            progress.advance(task)
    progress.update(task, completed=len(chosen) * (repeats + 1))
    middle = statistics.median(taken["forward pass"])
    passes = [Result(name, batch, maps, "forward pass F", tuple(t / middle for t in taken["forward pass"]), (middle,))]
    return passes + [
        Result(name, batch, maps, one.title, absent=absent[one.title])
        if one.title in absent
        else Result(name, batch, maps, one.title, tuple(ratios[one.title]), tuple(taken[one.title]))
        for one in chosen
    ]


def _prepared(
    contestant: Contestant, module: nn.Module, name: str, inputs: Tensor, targets: Sequence[Tensor]
) -> Callable[[], Any] | str:
    """Return a contestant's call, warmed up; or why there is none."""
    if importlib.util.find_spec(contestant.package) is None:
        return f"{contestant.package} is not installed"
    # A copy for each: a peer that fails midway may leave its hooks behind.
    attribute = contestant.make(copy.deepcopy(module), name)
    call = functools.partial(_each, attribute, inputs, targets)
    try:
        for _ in range(WARM_UPS.get(inputs.device.type, 1)):
            call()
    except Exception as error:  # that a peer cannot do a model is a result, whatever it raises
        if contestant.package == "visavis":
            raise
        return f"raises {type(error).__name__}"
    return call


def _each(attribute: Attribute, inputs: Tensor, targets: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the map of each target: from one forward pass where the library has a way, else call by call."""
    method = getattr(attribute, "__self__", None)
    if len(targets) > 1 and isinstance(method, PropagationMethod):
        return method.attribute_each(inputs, targets)
    return [attribute(inputs, target) for target in targets]


# -- a run -----------------------------------------------------------------------------------------------------------


def machine(device: torch.device, arguments: argparse.Namespace) -> str:
    """Return what the figures were taken on, in a line."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    convolutions = f", TF32 convolutions {torch.backends.cudnn.allow_tf32}" if device.type == "cuda" else ""
    versions = ", ".join(f"{package} {version}" for package, version in _versions())
    return (
        f"{name}; {torch.get_num_threads()} threads; {arguments.dtype}{convolutions}; Python "
        f"{platform.python_version()}, {versions}; {arguments.repeats} rounds, {arguments.clock} clock"
    )


def _processor() -> str:
    """Return the processor's name, where the system tells it, and else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> list[tuple[str, str]]:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in ("visavis", "torch", "torchvision", "zennit", "captum"):
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found


def network(name: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a torchvision model with random weights, the same at every call."""
    from torchvision import models

    torch.manual_seed(0)
    module: nn.Module = models.get_model(name, weights=None)
    return module.eval().requires_grad_(False).to(device=device, dtype=dtype)


def as_markdown(results: Sequence[Result], made_on: str, command: str) -> str:
    """Return the table, and what it was taken on, as markdown."""
    rule = ("---", "---:", "---:", "---", "---:", "---:", "---:")
    rows = [COLUMNS, rule, *(result.cells() for result in results)]
    return "\n".join([made_on, "", *(f"| {' | '.join(row)} |" for row in rows), "", f"Made by `{command}`.", ""])


def show(results: Sequence[Result], console: Console) -> None:
    """Print the table."""
    table = Table()
    for column, justify in zip(COLUMNS, ("left", "right", "right", "left", "right", "right", "right"), strict=True):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for result in results:
        table.add_row(*result.cells())
    console.print(table)


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Race as the command line asks for, print the table and write it."""
    if min(arguments.repeats, arguments.threads, *arguments.batch, *arguments.maps) < 1:
        raise vv.InputError("--repeats, --threads, --batch and --maps are numbers of at least 1")
    if arguments.output is not None:
        check_place(arguments.output)
    device = choose_device(arguments.device)
    if arguments.clock == "cpu" and device.type != "cpu":
        raise vv.InputError("--clock cpu does not see what a GPU does; leave it out")
    torch.set_num_threads(arguments.threads)
    made_on = machine(device, arguments)
    console.print(made_on, soft_wrap=True)
    results: list[Result] = []
    with Progress(console=console) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers warn at every call
        for name in arguments.models:
            module = network(name, device, DTYPES[arguments.dtype])
            for batch in arguments.batch:
                generator = torch.Generator().manual_seed(0)
                inputs = torch.empty(batch, 3, SIZE, SIZE).uniform_(*BOUNDS, generator=generator)
                inputs = inputs.to(device=device, dtype=DTYPES[arguments.dtype])
                for maps in arguments.maps:
                    results += race(module, name, inputs, maps, arguments, progress)
    show(results, console)
    if arguments.output is not None:
        write_bytes(arguments.output, as_markdown(results, made_on, _command(arguments)).encode())


def _command(arguments: argparse.Namespace) -> str:
    every = [contestant.title for contestant in CONTESTANTS]
    only = "" if arguments.contestants == every else f" --contestants {' '.join(map(repr, arguments.contestants))}"
    batch, maps = (" ".join(map(str, numbers)) for numbers in (arguments.batch, arguments.maps))
    return (
        f"python benchmarks/speed.py --device {arguments.device} --threads {arguments.threads} --repeats "
        f"{arguments.repeats} --batch {batch} --maps {maps} --models {' '.join(arguments.models)} "
        f"--dtype {arguments.dtype} --clock {arguments.clock}{only}"
    )


def _parser() -> argparse.ArgumentParser:
    titles = [contestant.title for contestant in CONTESTANTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's threads on the CPU")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (5)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="batch sizes (1 8)")
    parser.add_argument("--maps", type=int, nargs="+", default=[1], help="maps of each image, of as many classes (1)")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, help="both unless given")
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="of weights and inputs (float32)")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="wall, or cpu where others disturb (wall)")
    parser.add_argument(
        "--contestants", nargs="+", default=titles, choices=titles, metavar="TITLE", help=f"of {', '.join(titles)}"
    )
    parser.add_argument("--output", type=Path, help="write the table there, as markdown")
    return parser


def main() -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    try:
        run(_parser().parse_args(), Console())
    except vv.VisavisError as error:
        sys.exit(f"speed.py: {error}")


if __name__ == "__main__":
    main()

"""What the ablation of single units costs beside the plain loop: for each unit, a whole forward pass with a hook.

Both go through the same images and units and give the predicted classes, which must be the same. In a round they run
in turn, so that a drift of the machine cancels; reported are the median times over the rounds, and the median, least
and greatest ratio of a round. Times are the process's own on a CPU, which neighbours disturb less, and real ones on a
GPU. Models have random weights.

    python benchmarks/unit_ablation.py                                       # ResNet50, all that lies above layer4
    python benchmarks/unit_ablation.py --layer layer4.2.conv2 --at-least 3    # more of the network runs again
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import visavis as vv
from visavis.devices import choose_device
from visavis.units import Above, predictions

# Of predictions that may differ: of classes that are about as likely, in float32, either may come first.
_APART = 0.01


@dataclass(frozen=True)
class Race:
    """Seconds of each round."""

    plain: tuple[float, ...]
    fast: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """How many times faster the fast path was in each round."""
        return [one / other for one, other in zip(self.plain, self.fast, strict=True)]


def plain(module: nn.Module, layer: str, inputs: Tensor, units: Sequence[int]) -> Tensor:
    """Return the predicted classes (units, B), by one hooked forward pass for each unit."""
    part, rows = module.get_submodule(layer), []
    for unit in units:

        def hook(_: nn.Module, __: object, output: Tensor, unit: int = unit) -> Tensor:
            changed = output.clone()
            changed[:, unit] = 0
            return changed

        handle = part.register_forward_hook(hook)
        try:
            rows.append(module(inputs).argmax(1))
        finally:
            handle.remove()
    return torch.stack(rows).cpu()


def race(module: nn.Module, layer: str, inputs: Tensor, units: Sequence[int], rounds: int) -> Race:
    """Time both in turn, after one round that is not timed."""
    clock = time.process_time if inputs.device.type == "cpu" else time.perf_counter
    labels = torch.zeros(len(inputs), dtype=torch.int64)

    def loop() -> Tensor:
        with torch.inference_mode():
            module(inputs).argmax(1).cpu()  # the model as it is
            return plain(module, layer, inputs, units)

    def ours() -> Tensor:
        return next(predictions(Above(module, layer), [(inputs, labels)], [[unit] for unit in units])).removed

    def timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
        start = clock()
        found = call()
        return clock() - start, found

    taken: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        (fast, found), (slow, expected) = timed(ours), timed(loop)
        differing = float((expected != found).double().mean())
        if differing > _APART:
            raise vv.VisavisError(f"{differing:.1%} of the predictions are not those of the plain loop")
        taken.append((slow, fast))
    return Race(tuple(one for one, _ in taken[1:]), tuple(one for _, one in taken[1:]))


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Race as the command line asks for, print the table, and hold the bar up to it."""
    numbers = (arguments.units, arguments.images, arguments.side, arguments.repeats, arguments.threads)
    if min(numbers) < 1:
        raise vv.InputError("--units, --images, --side, --repeats and --threads are numbers of at least 1")
    torch.set_num_threads(arguments.threads)
    device = choose_device(arguments.device)
    torch.manual_seed(0)
    module = network(arguments.model).eval().to(device)
    inputs = torch.randn(arguments.images, 3, arguments.side, arguments.side, device=device)
    taken = race(module, arguments.layer, inputs, range(arguments.units), arguments.repeats)
    table = Table(title=f"{arguments.units} units of {arguments.model} {arguments.layer}, {tuple(inputs.shape)}")
    for column in ("plain loop, s", "visavis, s", "times faster", "from", "to"):
        table.add_column(column, justify="right")
    ratio = statistics.median(taken.ratios)
    times = statistics.median(taken.plain), statistics.median(taken.fast)
    table.add_row(*(f"{one:.3g}" for one in (*times, ratio, min(taken.ratios), max(taken.ratios))))
    console.print(table)
    if ratio < arguments.at_least:
        raise vv.VisavisError(f"{ratio:.1f} times faster than the plain loop, not at least {arguments.at_least:g}")


def network(name: str) -> nn.Module:
    """Return a network of torchvision's with random weights."""
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise vv.InputError(f"there is no model {name!r} of torchvision's")
    return torchvision.models.get_model(name, weights=None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", help="of torchvision's")
    parser.add_argument("--layer", default="layer4")
    parser.add_argument("--units", type=int, default=64, help="the first so many of the layer's")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--side", type=int, default=64, help="of an image, in pixels")
    parser.add_argument("--repeats", type=int, default=3, help="rounds that are timed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--at-least", type=float, default=5.0, help="fail if it is not so many times faster")
    return parser


def main() -> None:
    """Run from the command line; what is wrong, or below its bar, gets a sentence and exit status 1."""
    try:
        run(_parser().parse_args(), Console())
    except vv.VisavisError as error:
        sys.exit(f"unit_ablation.py: {error}")


if __name__ == "__main__":
    main()

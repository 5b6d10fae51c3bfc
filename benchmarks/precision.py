"""How far maps in less than double precision are from those in it.

The embedded EfficientNet-Lite0 with its ImageNet weights, and VGG16 and ResNet50 with random ones, explain photographs
in float64, and in each of float32 (IEEE), float32 with TF32 convolutions and products (on a GPU that has it), bfloat16
and float16: model and inputs converted as a whole. Reported is ‖R − R₆₄‖ / ‖R₆₄‖ for each photograph, its median and
its greatest, of

- LRP: the plain map of the strongest class, by the rules deep-taylor;
- CLRP: the contrast with all other classes, signed (what is positive and negative nearly cancels where the network
  hardly tells classes apart, as one with random weights does, and then rounding weighs more);
- CLRP beside LRP: the error of the contrast over the size of the plain map that it is a difference of.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

import visavis as vv
from visavis.devices import choose_device
from visavis.files import check_place, check_suffix, write_bytes

RANDOM = ("vgg16", "resnet50")
EMBEDDED = "efficientnet_lite0"
EXECUTIONS = ("eager", "graph", "compiled")
FORMATS = (".md", ".json")


@dataclass(frozen=True)
class Precision:
    """A way to compute: a dtype, and whether convolutions and products may round their factors to TF32."""

    title: str
    dtype: torch.dtype
    tf32: bool = False


PRECISIONS = (
    Precision("float32", torch.float32),
    Precision("float32, TF32", torch.float32, tf32=True),
    Precision("bfloat16", torch.bfloat16),
    Precision("float16", torch.float16),
)


@dataclass(frozen=True)
class Row:
    """The errors of one model in one precision: median and greatest over photographs."""

    model: str
    precision: str
    execution: str
    lrp: tuple[float, float]
    clrp: tuple[float, float]
    beside: tuple[float, float]

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        pairs = [f"{middle:.1e} ({most:.1e})" for middle, most in (self.lrp, self.clrp, self.beside)]
        return (self.model, self.precision, self.execution, *pairs)


COLUMNS = ("model", "precision", "execution", "LRP", "CLRP", "CLRP beside LRP")


def photographs(folder: Path | None, count: int) -> tuple[vv.Classifier, Tensor]:
    """Return the embedded model, and photographs as it takes them: of a folder, or the demo's and parts of it."""
    classifier = vv.load_model(EMBEDDED, device="cpu")
    if folder is None:
        from visavis.demo import demo_picture

        picture = demo_picture()
        width, height = picture.size
        parts = [(0, 0, width, height), (0, 0, width // 2, height), (width // 2, 0, width, height)]
        return classifier, torch.cat([classifier.prepare(picture.crop(part)) for part in parts])
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise vv.InputError(f"{str(folder)!r} cannot be read ({error.strerror or error}); name a folder") from error
    paths = [path for path in found if path.suffix.lower() in (".jpg", ".jpeg", ".png")][:count]
    if not paths:
        raise vv.InputError(f"{str(folder)!r} holds no .jpg or .png; name a folder of photographs")
    return classifier, torch.cat([classifier.prepare(path) for path in paths])


def network(name: str, classifier: vv.Classifier) -> nn.Module:
    """Return a model in float64, on the CPU."""
    if name == EMBEDDED:
        return copy.deepcopy(classifier.module).double()
    from torchvision import models

    torch.manual_seed(0)
    module: nn.Module = models.get_model(name, weights=None)
    return module.eval().double()


@contextmanager
def rounding(precision: Precision) -> Iterator[None]:
    """Allow or forbid TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision.tf32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def maps(module: nn.Module, inputs: Tensor, targets: Tensor, bounds: Any, execution: str) -> tuple[Tensor, Tensor]:
    """Return the plain maps and the signed contrasts, in float64 on the CPU."""
    options: dict[str, Any] = {"rules": "deep-taylor", "bounds": bounds, "execution": execution}
    plain = vv.LRP(module, **options).attribute(inputs, targets)
    contrast = vv.CLRP(module, signed=True, **options).attribute(inputs, targets)
    return plain.double().cpu(), contrast.double().cpu()


def measured(
    name: str, classifier: vv.Classifier, inputs: Tensor, device: torch.device, executions: Sequence[str]
) -> Iterator[Row]:
    """Yield the errors of one model, precision by precision."""
    module = network(name, classifier).to(device)
    bounds = classifier.bounds
    double = inputs.to(device, torch.float64)
    with torch.no_grad():
        targets = module(double).argmax(1).cpu()
    plain, contrast = maps(module, double, targets, bounds, "eager")
    for precision in PRECISIONS:
        if precision.tf32 and not (device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)):
            continue
        for execution in executions:
            own = copy.deepcopy(module).to(precision.dtype)
            with rounding(precision):
                found = maps(own, double.to(precision.dtype), targets, bounds, execution)
            errors = [_sizes(one - other) for one, other in zip(found, (plain, contrast), strict=True)]
            sizes = [_sizes(plain), _sizes(contrast)]
            shares = (errors[0] / sizes[0], errors[1] / sizes[1], errors[1] / sizes[0])
            yield Row(name, precision.title, execution, *((float(one.median()), float(one.max())) for one in shares))


def _sizes(relevance: Tensor) -> Tensor:
    return relevance.flatten(1).norm(dim=1)


def as_markdown(rows: Sequence[Row], made_on: str, command: str) -> str:
    """Return the table, and what it was taken on, as markdown."""
    head = [COLUMNS, ("---", "---", "---", "---:", "---:", "---:")]
    lines = [f"| {' | '.join(cells)} |" for cells in (*head, *(row.cells() for row in rows))]
    return "\n".join([*lines, "", f"{made_on}. Made by `{command}`.", ""])


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Measure what the command line asks for, print the table and write it."""
    if arguments.count < 1:
        raise vv.InputError("--count is a number of at least 1")
    if arguments.output is not None:
        check_suffix(arguments.output, FORMATS, "a table")
        check_place(arguments.output)
    device = choose_device(arguments.device)
    classifier, inputs = photographs(arguments.pictures, arguments.count)
    rows: list[Row] = []
    for name in arguments.models:
        for row in measured(name, classifier, inputs, device, arguments.executions):
            rows.append(row)
            console.print("  ".join(row.cells()), soft_wrap=True)
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    made_on = f"{processor}, torch {torch.__version__}, {len(inputs)} photograph{'s' * (len(inputs) != 1)}"
    words = [f"--device {arguments.device}", f"--models {' '.join(arguments.models)}"]
    words += [f"--executions {' '.join(arguments.executions)}"]
    words += [] if arguments.pictures is None else [f"--pictures FOLDER --count {arguments.count}"]
    if arguments.output is not None:
        made = {"made_on": made_on, "rows": [asdict(row) for row in rows]}
        text = as_markdown(rows, made_on, f"python benchmarks/precision.py {' '.join(words)}")
        content = json.dumps(made, indent=2) + "\n" if arguments.output.suffix.lower() == ".json" else text
        write_bytes(arguments.output, content.encode())


def _parser() -> argparse.ArgumentParser:
    every = (EMBEDDED, *RANDOM)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--models", nargs="+", default=list(every), choices=every, help="all unless given")
    parser.add_argument("--executions", nargs="+", default=["eager"], choices=EXECUTIONS, help="eager unless given")
    parser.add_argument("--pictures", type=Path, help="a folder of photographs; else the demo's picture and its halves")
    parser.add_argument("--count", type=int, default=8, help="how many of the folder (8)")
    parser.add_argument("--output", type=Path, help="write the table there: .md or .json")
    return parser


def main() -> None:
    """Run from the command line; what is wrong gets one sentence and exit status 1."""
    try:
        run(_parser().parse_args(), Console())
    except vv.VisavisError as error:
        sys.exit(f"precision.py: {error}")


if __name__ == "__main__":
    main()

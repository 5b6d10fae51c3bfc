"""Does a benchmark need more memory for more pictures? Peak memory of runs of rising length, each in its own process.

Generated scenes, a network of two convolutions, the gradient and the baselines, three metrics. Printed are the peak of
the run, and the peak after its report was written too, beside what the imports alone take.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import visavis as vv
from visavis.benchmarking.benchmark import benchmark
from visavis.datasets import Scenes
from visavis.datasets.scene_dataset import SceneDataset
from visavis.reports.report import write_report

SIZE = 32
METRICS = ("energy-in-box", "sparsity", "pointing")


def network(classes: int) -> nn.Module:
    """Two convolutions, whose weights are never trained: memory does not depend on what they are."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
    ).eval()


def prepared(picture: PIL.Image.Image) -> Tensor:
    """Return a scene as an input (3, H, W)."""
    return torch.from_numpy(np.array(picture, dtype=np.float32) / 255).permute(2, 0, 1)


def peak() -> float:
    """Return the most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def measured(count: int, folder: Path) -> dict[str, Any]:
    """Run a benchmark of so many pictures in this process, and return its peaks."""
    torch.set_num_threads(1)
    before = peak()
    data = SceneDataset(Scenes(count, size=SIZE, seed=0, objects=(1, 3)))
    names = list(data.classes)
    model = vv.Classifier(network(len(names)), preprocess=prepared, labels=names, bounds=(0.0, 1.0), name="small")
    benchmark(data, [model], ["gradient"], METRICS, folder)
    ran = peak()
    write_report(folder, draws=1000, show="none")
    return {"pictures": count, "imports": before, "run": ran, "report": peak()}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000], help="how many pictures")
    parser.add_argument("--alone", type=int, metavar="COUNT", help="measure in this process, and print as JSON")
    arguments = parser.parse_args()
    if min(arguments.counts) < 1:
        sys.exit(f"memory.py: --counts are numbers of at least 1, not {min(arguments.counts)}")
    if arguments.alone is not None:
        with tempfile.TemporaryDirectory() as folder:
            Console().print_json(json.dumps(measured(arguments.alone, Path(folder) / "run")))
        return
    table = Table("pictures", "imports, MiB", "run, MiB", "with its report, MiB", title="Peak memory")
    for count in arguments.counts:
        command = [sys.executable, __file__, "--alone", str(count)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        table.add_row(str(count), *(f"{found[name]:.0f}" for name in ("imports", "run", "report")))
    Console().print(table)


if __name__ == "__main__":
    main()

"""Does explaining more rows need more memory? Peak memory of explanation vectors of rising numbers of rows.

A linear classifier, features drawn at random, a mimic of so many rows; each size has its own process. Printed are what
the rows themselves take, what the results take (rows, vectors, gradients of log odds, directions: four times the
rows), and the peak of the process during `explain` above what it held before.

    python benchmarks/vectors_memory.py --rows 1000 10000 100000 --features 1000 --at-most 1.5
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peak_memory import peak_of
from rich.console import Console
from rich.table import Table

from visavis.blackbox import ExplanationVectors, Vectors
from visavis.errors import VisavisError
from visavis.files import write_bytes

_RESULTS = 4


def measured(count: int, features: int, known: int, probes: int) -> dict[str, Any]:
    """Explain so many rows in this process, and return what it took.

    Args:
        count: rows that are explained.
        features: of each.
        known: rows of the mimic.
        probes: how often the classifier is asked around each row.
    """
    generator = np.random.default_rng(0)
    weight = generator.standard_normal(features)

    def classifier(rows: np.ndarray) -> np.ndarray:
        return (rows @ weight > 0).astype(int)

    model = ExplanationVectors(classifier, probes=probes, flat=0, random_state=0)
    model.fit(generator.standard_normal((known, features)))
    rows = generator.standard_normal((count, features))
    # A first call has loaded what is loaded once.
    model.explain(rows[:10])
    kept: list[Vectors] = []
    start = time.process_time()
    held = peak_of(lambda: kept.append(model.explain(rows)), torch.device("cpu"))
    seconds, found = time.process_time() - start, kept[0]
    true = -weight * np.where(found.said == 1, 1, -1)[:, None]
    lengths = np.linalg.norm(found.values, axis=1) * np.linalg.norm(weight)
    return {
        "rows": count,
        "features": features,
        "mimic": known,
        "rows_mib": rows.nbytes / 2**20,
        "results_mib": _RESULTS * rows.nbytes / 2**20,
        "peak_mib": held / 2**20,
        "cosine": float(np.median((found.values * true).sum(1) / lengths)),
        "agreement": float(model.agreement_),
        "cpu_seconds": seconds,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000], help="how many are explained")
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--mimic", type=int, default=2000, help="rows of the mimic")
    parser.add_argument("--probes", type=int, default=0, help="how often the classifier is asked around each row")
    parser.add_argument("--at-most", type=float, help="exit with 1 where the peak is above so many times the results")
    parser.add_argument("--output", type=Path, help="write the numbers here, as JSON")
    parser.add_argument("--alone", type=int, metavar="COUNT", help="measure in this process, and print as JSON")
    arguments = parser.parse_args()
    smallest = min(*arguments.rows, arguments.features, arguments.mimic - 1)
    if smallest < 1:
        sys.exit("vectors_memory.py: rows and features are numbers of at least 1, the mimic's rows of at least 2")
    if arguments.alone is not None:
        print(json.dumps(measured(arguments.alone, arguments.features, arguments.mimic, arguments.probes)))
        return
    options = [
        "--features",
        str(arguments.features),
        "--mimic",
        str(arguments.mimic),
        "--probes",
        str(arguments.probes),
    ]
    found = []
    for count in arguments.rows:
        command = [sys.executable, __file__, *options, "--alone", str(count)]
        found.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    shown = Table("rows", "rows, MiB", "results, MiB", "peak above, MiB", "over results", "CPU s", "cosine", box=None)
    for one in found:
        ratio = f"{one['peak_mib'] / one['results_mib']:.2f}"
        texts = [f"{one[name]:.0f}" for name in ("rows_mib", "results_mib", "peak_mib")]
        shown.add_row(str(one["rows"]), *texts, ratio, f"{one['cpu_seconds']:.0f}", f"{one['cosine']:.2f}")
    Console().print(shown)
    if arguments.output is not None:
        write_bytes(arguments.output, (json.dumps(found, indent=1) + "\n").encode())
    largest = max(found, key=lambda one: one["rows"])
    if arguments.at_most is not None and largest["peak_mib"] > arguments.at_most * largest["results_mib"]:
        sys.exit(f"vectors_memory.py: the peak is above {arguments.at_most} times the results")


if __name__ == "__main__":
    try:
        main()
    except VisavisError as error:
        sys.exit(f"vectors_memory.py: {error}")

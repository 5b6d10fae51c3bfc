"""Results on disk, a shard at a time: a folder that a run can be killed over at any moment, and taken up again.

    run.json                            what was asked for, and with which versions
    shards/00-vgg16-0000000-0000015.parquet          values of pictures 0 to 15 of model 0
    shards/00-vgg16-0000000-0000015.skipped.parquet  what was passed over among them, with the reason

A shard is written beside, brought to the disk and renamed, values last: where the file with the values stands, the
shard is done. A file that cannot be read, or is of another run, is made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from visavis import run_folder
from visavis.benchmarking.cases import PassedOver
from visavis.benchmarking.checks import fault_of_words, is_storable
from visavis.benchmarking.shard_tables import (
    PASSED_OVER,
    PASSED_OVER_END,
    VALUES,
    VALUES_END,
    Shard,
    Value,
    described,
    encoded,
    read,
)
from visavis.errors import InputError
from visavis.run_folder import RUN, RunFolder, put

SHARDS = "shards"


class Folder(RunFolder):
    """A folder of results of a benchmark; see `RunFolder`."""

    own = (SHARDS,)

    def has_results(self) -> bool:
        return any((self.path / SHARDS).glob(f"*{VALUES_END}"))

    def words_before(self) -> dict[str, Any]:
        return read_words(self.path)

    def weights(self, shard: Shard) -> str | None:
        """Return the digest of the weights that a shard was made with; None where it is not done."""
        try:
            if not all(path.is_file() for path in self._paths(shard)):
                return None
            told = [described(read(path)) for path in self._paths(shard)]
        except (pa.ArrowException, OSError, ValueError, RecursionError):
            return None
        good = all(one.get("run") == self.fingerprint and one.get("shard") == shard.stem for one in told)
        return str(told[0]["weights"]) if good and "weights" in told[0] else None

    def write(
        self, shard: Shard, weights: str, rows: Sequence[Value], passed: Sequence[PassedOver], cases: int
    ) -> None:
        """Write a shard as a whole.

        Args:
            shard: what it covers.
            weights: the digest of the model's.
            rows: its values; an infinite one is kept as one that was passed over.
            passed: what was passed over.
            cases: how many cases its pictures have.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        told = {
            "run": self.fingerprint,
            "shard": shard.stem,
            "weights": weights,
            "pictures": shard.last - shard.first + 1,
            "cases": cases,
        }
        values = [{**row._asdict(), "model": shard.name} for row in rows if is_storable(row.value)]
        huge = [
            PassedOver(row.picture, row.case, f"its value is {row.value:g}", row.method, row.metric)
            for row in rows
            if not is_storable(row.value)
        ]
        reasons = [{**one._asdict(), "model": shard.name} for one in (*passed, *huge)]
        path_values, path_skipped = self._paths(shard)
        put(path_skipped, encoded(reasons, PASSED_OVER, told))
        put(path_values, encoded(values, VALUES, told))

    def _paths(self, shard: Shard) -> tuple[Path, Path]:
        folder = self.path / SHARDS
        return folder / f"{shard.stem}{VALUES_END}", folder / f"{shard.stem}{PASSED_OVER_END}"


def read_words(folder: Path) -> dict[str, Any]:
    """Return what a folder of results was begun with.

    Raises:
        InputError: there are no results, or the file that says it is damaged, too large or no regular file.
    """
    words = run_folder.read_words(folder)
    fault = fault_of_words(words)
    if fault:
        raise InputError(
            f"'{folder / RUN}' does not say in full what was run ({fault}); start the run in another folder"
        )
    return words


def shard_files(folder: Path) -> list[tuple[Path, Path]]:
    """Return the files of all shards that stand, those with the values and those with what was passed over."""
    skipped = sorted((folder / SHARDS).glob(f"*{PASSED_OVER_END}"))
    pairs = [(path.with_name(path.name.removesuffix(PASSED_OVER_END) + VALUES_END), path) for path in skipped]
    return [pair for pair in pairs if pair[0].is_file() and pair[1].is_file()]


__all__ = [
    "PASSED_OVER",
    "VALUES",
    "Folder",
    "Shard",
    "Value",
    "described",
    "read",
    "read_words",
    "shard_files",
]

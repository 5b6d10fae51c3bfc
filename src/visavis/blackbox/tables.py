"""A table of rows from a CSV or Parquet file: which columns are features, which one the class; never more than fits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from visavis.blackbox.rows import Rows
from visavis.errors import InputError

_LARGEST_FILE = 2 << 30
# Of 8 bytes each: 2 GiB.
_MOST_VALUES = 2**28
# A column of more different values is no class.
_MOST_CLASSES = 100
# Of the first so many bytes the kinds of a CSV file's columns are read.
_BLOCK = 16 << 20


@dataclass(frozen=True, eq=False)
class Table:
    """Rows without gaps.

    Attributes:
        name: of the file.
        features: the names of the d features.
        rows: (n, d).
        labels: (n,), the column that holds the class, or None without one.
        target: the name of that column.
        numbers: (n,), the place of each row in the file, from 0.
        total: how many rows the file has.
        left_out: the columns that are no numbers, with what they are.
    """

    name: str
    features: tuple[str, ...]
    rows: Rows
    labels: NDArray[Any] | None
    target: str | None
    numbers: NDArray[np.int64]
    total: int
    left_out: tuple[tuple[str, str], ...]

    def place_of(self, number: int) -> int:
        """Return the place of a row of the file among these.

        Raises:
            InputError: the file has no such row, or the row has a gap.
        """
        if not 0 <= number < self.total:
            raise InputError(f"'{self.name}' has {self.total} rows, numbered from 0, so there is no row {number}")
        found = np.flatnonzero(self.numbers == number)
        if not len(found):
            raise InputError(f"row {number} of '{self.name}' lacks a value, so it cannot be explained; fill it in")
        return int(found[0])


def read_table(path: str | os.PathLike[str], target: str | None, features: Sequence[str] | None = None) -> Table:
    """Read a table: CSV in UTF-8 with a row of column names, or Parquet, by the ending of its name.

    Features are the columns of numbers and of truth values (1 and 0), but for the target; rows in which one of these or
    the target lacks a value are left out.

    Args:
        path: of the file, ending in .csv or .parquet.
        target: the column that holds the class; None: there is none.
        features: the columns that are features, in this order; None: all that are numbers.

    Raises:
        InputError: there is no such file or column, it is no table, too large, or the target holds no classes.
    """
    file = Path(path)
    read = _read(file)
    columns = read.column_names
    if len(set(columns)) < len(columns):
        twice = sorted({name for name in columns if columns.count(name) > 1})
        raise InputError(f"'{file}' has two columns of one name ({', '.join(twice[:5])}); rename one")
    if not read.num_rows:
        raise InputError(f"'{file}' has no rows below the names of its columns")
    _check_columns(file, columns, target, features)
    wanted = [name for name in columns if name != target] if features is None else list(features)
    kinds = {name: read.schema.field(name).type for name in wanted}
    numbers = [name for name in wanted if _is_number(kinds[name])]
    left_out = tuple((name, _said(kinds[name])) for name in wanted if name not in numbers)
    if features is not None and left_out:
        raise InputError(f"the feature {left_out[0][0]!r} of '{file}' is {left_out[0][1]}, but features are numbers")
    if not numbers:
        raise InputError(f"'{file}' has no column of numbers beside the target; explanation vectors need some")
    values = np.column_stack([_floats(read.column(name)) for name in numbers])
    whole = np.isfinite(values).all(1)
    labels = None
    if target is not None:
        labels, given = _labels(file, target, read.column(target))
        whole &= given
    if not whole.any():
        raise InputError(f"no row of '{file}' has all its values, so there is none to learn from; leave columns out")
    return Table(
        file.name,
        tuple(numbers),
        np.ascontiguousarray(values[whole]),
        None if labels is None else labels[whole],
        target,
        np.flatnonzero(whole),
        read.num_rows,
        left_out,
    )


def _check_columns(file: Path, columns: list[str], target: str | None, features: Sequence[str] | None) -> None:
    named = [*([target] if target is not None else []), *(features or [])]
    missing = [name for name in named if name not in columns]
    if missing:
        shown = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
        raise InputError(f"'{file}' has no column {missing[0]!r}; it has {shown}")
    if features is not None and target in features:
        raise InputError(f"{target!r} is the target, so it cannot be a feature too")
    if features is not None and len(set(features)) < len(features):
        raise InputError("a feature is named twice; name each once")


def _read(file: Path) -> pa.Table:
    ending = file.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise InputError(f"'{file}' is no table by its name; .csv and .parquet are read")
    try:
        if not file.is_file():
            raise InputError(f"there is no file '{file}'")
        if file.stat().st_size > _LARGEST_FILE:
            raise InputError(f"'{file}' is larger than {_LARGEST_FILE >> 30} GiB; take a part of it")
        with file.open("rb") as opened:
            # Opened by us: by its name alone Arrow would unpack what is packed.
            batches = list(_bounded(file, _csv(opened) if ending == ".csv" else _parquet(file, opened)))
        return pa.Table.from_batches(batches)
    except pa.ArrowInvalid as error:
        kind = "CSV table in UTF-8" if ending == ".csv" else "Parquet file"
        raise InputError(f"'{file}' cannot be read as a {kind} ({_first_line(error)})") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"'{file}' cannot be read ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200].rstrip(".") if text else type(error).__name__


def _csv(opened: Any) -> Iterator[pa.RecordBatch]:
    import pyarrow.csv  # type: ignore[import-untyped]

    # Kinds are read off the first block; a column that is numbers there and text later is refused by its line.
    reader = pyarrow.csv.open_csv(opened, read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK))
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    yield from reader


def _parquet(file: Path, opened: Any) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet  # type: ignore[import-untyped]

    reader = pyarrow.parquet.ParquetFile(opened)
    if reader.metadata.num_rows * max(1, reader.metadata.num_columns) > _MOST_VALUES:
        raise _too_many(file)
    yield pa.RecordBatch.from_pylist([], schema=reader.schema_arrow)
    yield from reader.iter_batches()


def _bounded(file: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give batches until there are too many: what a file says of its size need not be so."""
    seen = 0
    for batch in batches:
        seen += batch.num_rows * max(1, batch.num_columns)
        if seen > _MOST_VALUES:
            raise _too_many(file)
        yield batch


def _too_many(file: Path) -> InputError:
    return InputError(f"'{file}' holds more than {_MOST_VALUES:,} values; take a part of it")


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _said(kind: pa.DataType) -> str:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return "text"
    if pa.types.is_null(kind):
        return "empty"
    return "a time" if pa.types.is_temporal(kind) else f"of type {kind}"


def _floats(column: pa.ChunkedArray) -> Rows:
    """Return numbers, NaN where one is missing."""
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.int8())
    if pa.types.is_decimal(column.type) or pa.types.is_integer(column.type):
        column = pc.cast(column, pa.float64(), safe=False)
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _labels(file: Path, target: str, column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the classes of rows, and which rows have one."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pc.cast(column, kind.value_type)
        kind = column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not text and not _is_number(kind):
        raise InputError(f"the target {target!r} of '{file}' is {_said(kind)}, but classes are text or whole numbers")
    given = np.asarray(column.is_valid().to_numpy(), dtype=np.bool_)
    if text:
        found = np.array(["" if one is None else one.strip() for one in column.to_pylist()], dtype=str)
        given = given & (found != "")
    else:
        values = _floats(column)
        given = given & np.isfinite(values)
        if (values[given] != np.round(values[given])).any() or (np.abs(values[given]) > 2**53).any():
            raise InputError(
                f"the target {target!r} of '{file}' holds numbers that are no whole ones, but classes were expected; "
                "make classes of it, such as low and high"
            )
        found = np.where(given, values, 0).astype(np.int64)
    count = len(np.unique(found[given]))
    if count < 2:
        raise InputError(f"the target {target!r} of '{file}' has {count} different value(s), but classes are several")
    if count > _MOST_CLASSES:
        raise InputError(
            f"the target {target!r} of '{file}' has {count:,} different values; explanation vectors tell classes "
            f"apart, at most {_MOST_CLASSES} here"
        )
    return found, given


__all__ = ["Table", "read_table"]

"""A table of rows from a CSV or Parquet file: which columns are features, and which one holds the class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from visavis.blackbox.rows import Rows
from visavis.blackbox.table_files import columns_of, is_text, schema_of
from visavis.errors import InputError

_MOST_COLUMNS = 20_000
# A column of more different values is no class, nor is a text of more letters the name of one.
_MOST_CLASSES, _LONGEST_CLASS = 100, 1000
# Letters of a name that a sentence has room for, and names.
_SHOWN, _NAMED = 60, 12


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
    schema = schema_of(file)
    columns = schema.names
    features = None if features is None else _chosen(features, columns)
    _check_columns(file, columns, target, features)
    wanted = [name for name in columns if name != target] if features is None else list(features)
    left_out = {name: said for name in wanted if (said := _left_out(schema, name))}
    if features is not None and left_out:
        name, said = next(iter(left_out.items()))
        raise InputError(f"the feature {_short(name)!r} of '{file}' is {said}, but features are numbers")
    numbers = [name for name in wanted if name not in left_out]
    read = columns_of(file, [*numbers, *([target] if target is not None else [])], target, schema)
    if not read.num_rows:
        raise InputError(f"'{file}' has no rows below the names of its columns")
    if features is None:
        left_out |= {name: "empty" for name in numbers if read.column(name).null_count == read.num_rows}
        numbers = [name for name in numbers if name not in left_out]
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
        tuple(left_out.items()),
    )


def _chosen(features: Sequence[str], columns: list[str]) -> list[str]:
    """Return the names in a list of names, each of which may hold several with commas between."""
    known = set(columns)
    found = []
    for text in features:
        found += [text] if text in known else [name for name in (part.strip() for part in text.split(",")) if name]
    if not found:
        raise InputError("no feature is named; name columns with commas between, or leave --features out")
    return found


def _left_out(schema: pa.Schema, name: str) -> str:
    """Return what a column is that is no feature; nothing of one that is."""
    kind = schema.field(name).type
    if not _is_number(kind):
        return _said(kind)
    # As pandas writes them.
    return "the number of a row" if not name or name == "Unnamed: 0" or name.startswith("__index_level_") else ""


def _check_columns(file: Path, columns: list[str], target: str | None, features: Sequence[str] | None) -> None:
    if len(columns) > _MOST_COLUMNS:
        raise InputError(f"'{file}' has {len(columns):,} columns, more than {_MOST_COLUMNS:,}; take some of them")
    twice = [name for name, often in Counter(columns).items() if often > 1]
    if twice:
        raise InputError(f"'{file}' has two columns of one name ({_names(sorted(twice))}); rename one")
    known = set(columns)
    missing = [name for name in (*([target] if target is not None else []), *(features or [])) if name not in known]
    if missing:
        raise InputError(f"'{file}' has no column {_short(missing[0])!r}; it has {_names(columns)}")
    if features is not None and target in features:
        raise InputError(f"{_short(str(target))!r} is the target, so it cannot be a feature too")
    if features is not None and len(set(features)) < len(features):
        raise InputError("a feature is named twice; name each once")


def _short(name: str) -> str:
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"


def _names(names: Sequence[str]) -> str:
    return ", ".join(map(_short, names[:_NAMED])) + (", …" if len(names) > _NAMED else "")


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def _said(kind: pa.DataType) -> str:
    if is_text(kind) or pa.types.is_dictionary(kind):
        return "text"
    if pa.types.is_null(kind):
        return "empty"
    if pa.types.is_binary(kind):
        return "bytes that are no UTF-8 text"
    return "a time" if pa.types.is_temporal(kind) else f"of type {_short(str(kind))}"


def _floats(column: pa.ChunkedArray) -> Rows:
    """Return numbers, NaN where one is missing."""
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.int8())
    if pa.types.is_decimal(column.type) or pa.types.is_integer(column.type):
        column = pc.cast(column, pa.float64(), safe=False)
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _labels(file: Path, target: str, column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the classes of rows, and which rows have one."""
    named, kind = _short(target), column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_text(kind):
        found, given = _text_labels(file, named, column)
    elif pa.types.is_boolean(kind):
        given = np.asarray(column.is_valid().to_numpy(), dtype=np.bool_)
        found = np.where(_floats(column) == 1, "true", "false")
    elif _is_number(kind):
        found, given = _number_labels(file, named, column)
    else:
        raise InputError(f"the target {named!r} of '{file}' is {_said(kind)}, but classes are text or whole numbers")
    count = len(np.unique(found[given]))
    if count < 2:
        raise InputError(f"the target {named!r} of '{file}' has {count} different value(s), but classes are several")
    if count > _MOST_CLASSES:
        raise _too_many_classes(file, named, count)
    return found, given


def _too_many_classes(file: Path, target: str, count: int) -> InputError:
    return InputError(
        f"the target {target!r} of '{file}' has {count:,} different values; explanation vectors tell classes apart, at "
        f"most {_MOST_CLASSES} here"
    )


def _text_labels(file: Path, target: str, column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Of texts each different one is looked at once."""
    if str(column.type) == "string_view":
        column = pc.cast(column, pa.large_string())
    encoded = (
        column.combine_chunks() if pa.types.is_dictionary(column.type) else column.combine_chunks().dictionary_encode()
    )
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks) if encoded.num_chunks else encoded.combine_chunks()
    texts = encoded.dictionary
    if len(texts) > 4 * _MOST_CLASSES:
        raise _too_many_classes(file, target, len(texts))
    longest = pc.max(pc.utf8_length(texts)).as_py() or 0
    if longest > _LONGEST_CLASS:
        raise InputError(
            f"the target {target!r} of '{file}' has a text of {longest:,} letters, but names of classes were expected"
        )
    names = np.array([*("" if one is None else one.strip() for one in texts.to_pylist()), ""], dtype=str)
    places = np.asarray(pc.fill_null(encoded.indices, len(texts)).to_numpy(zero_copy_only=False), dtype=np.int64)
    found = names[places]
    return found, found != ""


def _number_labels(file: Path, target: str, column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    given = np.asarray(column.is_valid().to_numpy(), dtype=np.bool_)
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    if pa.types.is_integer(column.type):
        # As they are: beyond 2⁵³ two whole numbers may be one float.
        try:
            return np.asarray(pc.cast(pc.fill_null(column, 0), pa.int64()).to_numpy(), dtype=np.int64), given
        except pa.ArrowInvalid as error:
            raise InputError(
                f"the target {target!r} of '{file}' has numbers beyond 2⁶³; name the classes otherwise"
            ) from error
    values = _floats(column)
    given = given & np.isfinite(values)
    if (values[given] != np.round(values[given])).any() or (np.abs(values[given]) > 2**53).any():
        raise InputError(
            f"the target {target!r} of '{file}' holds numbers that are no whole ones, but classes were expected; "
            "make classes of it, such as low and high"
        )
    return np.where(given, values, 0).astype(np.int64), given


__all__ = ["Table", "read_table"]

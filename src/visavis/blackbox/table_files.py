"""The columns of a CSV or Parquet file, and never more than fits: what a file says of its size need not be so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from visavis.errors import InputError

_LARGEST_FILE = 2 << 30
# Of 8 bytes each: 2 GiB.
_MOST_VALUES = 2**28
_MOST_BYTES = 4 << 30
# Of the first so many bytes the kinds of a CSV file's columns are read.
_BLOCK = 16 << 20


def schema_of(file: Path) -> pa.Schema:
    """Return the names and kinds of the columns."""
    ending = file.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise InputError(f"'{file}' is no table by its name; .csv and .parquet are read")
    with _reading(file, ending):
        if not file.is_file():
            raise InputError(f"there is no file '{file}'" if not file.exists() else f"'{file}' is no ordinary file")
        if file.stat().st_size > _LARGEST_FILE:
            raise InputError(f"'{file}' is larger than {_LARGEST_FILE >> 30} GiB; take a part of it")
        # Opened by us: by its name alone Arrow would unpack what is packed.
        with file.open("rb") as opened:
            schema = _csv(opened, None).schema if ending == ".csv" else _parquet(opened, ()).schema_arrow
            # Here a name that is no UTF-8 is found.
            return pa.schema([pa.field(name, kind) for name, kind in zip(schema.names, schema.types, strict=True)])


def columns_of(file: Path, columns: list[str], target: str | None, schema: pa.Schema) -> pa.Table:
    """Return some columns."""
    ending = file.suffix.lower()
    with _reading(file, ending), file.open("rb") as opened:
        if ending == ".csv":
            reader = _csv(opened, columns)
            parts: Iterator[pa.RecordBatch] = iter(reader)
            kinds = reader.schema
        else:
            # Of text each different one is held once.
            texts = [target] if target is not None and is_text(schema.field(target).type) else []
            stored = _parquet(opened, texts)
            _check_size(file, stored.metadata, set(columns))
            parts = stored.iter_batches(columns=columns)
            kinds = pa.schema([stored.schema_arrow.field(name) for name in columns])
        return pa.Table.from_batches(list(_bounded(file, parts)), kinds).select(columns)


@contextmanager
def _reading(file: Path, ending: str) -> Iterator[None]:
    """Say in a sentence what stands in the way."""
    try:
        yield
    except InputError:
        raise
    except pa.ArrowInvalid as error:
        kind = "CSV table in UTF-8" if ending == ".csv" else "Parquet file"
        raise InputError(f"'{file}' cannot be read as a {kind} ({_first_line(error)})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{file}' is no UTF-8 text ({error.reason}); save it as CSV in UTF-8") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"'{file}' cannot be read ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200].rstrip(".") if text else type(error).__name__


def _csv(opened: Any, columns: list[str] | None) -> Any:
    """Return a reader of a CSV file, of all columns or of some."""
    import pyarrow.csv  # type: ignore[import-untyped]

    return pyarrow.csv.open_csv(
        opened,
        # By one thread, which knows the number of a row that it cannot read.
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(include_columns=columns),
    )


def _parquet(opened: Any, texts: Sequence[str]) -> Any:
    import pyarrow.parquet  # type: ignore[import-untyped]

    return pyarrow.parquet.ParquetFile(opened, read_dictionary=list(texts))


def _check_size(file: Path, metadata: Any, columns: set[str]) -> None:
    """Refuse what would be too large unpacked, by what the file says of itself."""
    if metadata.num_rows * max(1, len(columns)) > _MOST_VALUES:
        raise _too_many(file)
    size = 0
    for place in range(metadata.num_row_groups):
        group = metadata.row_group(place)
        parts = (group.column(one) for one in range(group.num_columns))
        size += sum(part.total_uncompressed_size for part in parts if part.path_in_schema in columns)
    if size > _MOST_BYTES:
        raise InputError(f"'{file}' would take more than {_MOST_BYTES >> 30} GiB unpacked; take a part of it")


def _bounded(file: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give batches until there are too many: what a file says of its size need not be so."""
    seen = size = 0
    for batch in batches:
        seen += batch.num_rows * max(1, batch.num_columns)
        size += batch.nbytes
        if seen > _MOST_VALUES:
            raise _too_many(file)
        if size > _MOST_BYTES:
            raise InputError(f"'{file}' takes more than {_MOST_BYTES >> 30} GiB in memory; take a part of it")
        yield batch


def _too_many(file: Path) -> InputError:
    return InputError(f"'{file}' holds more than {_MOST_VALUES:,} values; take a part of it")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column is of text."""
    return str(kind) in ("string", "large_string", "string_view")


__all__ = ["columns_of", "is_text", "schema_of"]

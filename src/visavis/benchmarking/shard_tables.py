"""A shard of results as two tables in Parquet: the values, and what was passed over."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import parquet

#: How the names of the two files end.
VALUES_END, PASSED_OVER_END = ".parquet", ".skipped.parquet"
_KEY = b"visavis"

VALUES = pa.schema(
    [(name, pa.string()) for name in ("picture", "case", "model", "method", "metric", "key")]
    + [("value", pa.float64()), ("target", pa.int32()), ("difficult", pa.bool_())]
)
PASSED_OVER = pa.schema([(name, pa.string()) for name in ("picture", "case", "model", "method", "metric", "reason")])


class Value(NamedTuple):
    """One value of a case: a row of VALUES but for the model."""

    picture: str
    case: str
    method: str
    metric: str
    key: str
    value: float
    target: int
    difficult: bool


class Shard(NamedTuple):
    """Pictures `first` to `last`, inclusive, in the order of the run, of a model."""

    model: int
    name: str
    first: int
    last: int

    @property
    def stem(self) -> str:
        """What its files are called, without the ending."""
        short = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.")[:60]
        return f"{self.model:02d}-{short}-{self.first:07d}-{self.last:07d}"


def read(path: Path) -> Any:
    """Return a file of a shard as a table of Arrow, its texts as dictionaries; its checksums are verified.

    Raises:
        pyarrow.ArrowException, OSError, ValueError: it is damaged, or has other columns.
    """
    schema = PASSED_OVER if path.name.endswith(PASSED_OVER_END) else VALUES
    texts = [field.name for field in schema if field.type == pa.string()]
    with parquet.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
        table = file.read()
    if table.schema.names != schema.names:
        raise ValueError(f"'{path}' has the columns {', '.join(table.schema.names)}")
    return table


def described(table: Any) -> dict[str, Any]:
    """Return what a shard says of itself; nothing where it is none of a run."""
    try:
        told: object = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def encoded(rows: Iterable[Mapping[str, Any]], schema: Any, told: Mapping[str, Any]) -> bytes:
    """Return rows as a file of Parquet, with what it says of itself; the same rows give the same bytes."""
    kept = schema.with_metadata({_KEY: json.dumps(told, sort_keys=True).encode()})
    listed = [
        {name: text_kept(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    ]
    stream = io.BytesIO()
    parquet.write_table(
        pa.Table.from_pylist(listed, kept), stream, compression="zstd", write_page_checksum=True, store_schema=True
    )
    return stream.getvalue()


def text_kept(text: str) -> str:
    """Return a name as UTF-8 can hold it: of a file it need not."""
    return text.encode("utf-8", "backslashreplace").decode()


__all__ = [
    "PASSED_OVER",
    "PASSED_OVER_END",
    "VALUES",
    "VALUES_END",
    "Shard",
    "Value",
    "described",
    "encoded",
    "read",
    "text_kept",
]

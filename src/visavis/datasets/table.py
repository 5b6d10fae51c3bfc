"""Any folder of pictures with a table of their classes, and boxes if there are any."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from visavis.datasets.annotated import AnnotatedDataset, Annotation, Box, Sample, digest_of
from visavis.datasets.layout import check_name, folder_at, inside, is_file
from visavis.datasets.registry import Kind, register_dataset
from visavis.datasets.upright import cut, stored
from visavis.errors import InputError

_EDGES = ("x0", "y0", "x1", "y1")
_LARGEST = 1 << 30


@dataclass
class _Entry:
    """What the table says of one picture: a line, a label for each row, a box where the row has one."""

    lines: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    boxes: list[Box | None] = field(default_factory=list)

    @property
    def line(self) -> int:
        """That of its first row."""
        return self.lines[0]


class FolderDataset(AnnotatedDataset):
    """Pictures of a folder, described by a table: a CSV file, UTF-8, with commas and a row of column names.

    | column | holds |
    | --- | --- |
    | file | the picture, relative to the folder |
    | label | the class, by name or WordNet id |
    | x0, y0, x1, y1 | a box in pixels of the picture as a viewer shows it, x1 and y1 exclusive; or nothing |

    A picture with several objects has several rows. Further columns do not count. The label of a picture is the one
    that all its rows have; without boxes they must all have the same.

    Args:
        folder: of the pictures and the table.
        table: the CSV file, relative to `folder` or absolute.
        file, label, x0, y0, x1, y1: what the columns are called. Without any of the last four there are no boxes.

    Raises:
        InputError: there is no such table, a column is missing, a row is malformed, or the boxes are shares of the
            picture and not pixels.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        table: str | os.PathLike[str] = "labels.csv",
        file: str = "file",
        label: str = "label",
        x0: str = "x0",
        y0: str = "y0",
        x1: str = "x1",
        y1: str = "y1",
    ) -> None:
        self.folder = folder_at(folder, "the pictures")
        self.table = self.folder / table
        self.name = f"folder:{self.folder.resolve().name}/{self.table.name}"
        edges = dict(zip(_EDGES, (x0, y0, x1, y1), strict=True))
        self._entries: dict[str, _Entry] = {}
        for line, row in _rows(self.table, (file, label), edges):
            self._enter(row[file].strip(), row[label].strip(), _box(self.table, line, row, edges), line)
        self._names = list(self._entries)
        self._check()
        self.classes = tuple(sorted({label for entry in self._entries.values() for label in entry.labels}))

    def _enter(self, name: str, label: str, box: Box | None, line: int) -> None:
        if not label:
            raise InputError(f"'{self.table}' has no label in line {line}; name the class of every picture.")
        check_name(self.folder, name, f"{self.table}, line {line}")
        # "a.png" and "./a.png" are one picture.
        entry = self._entries.setdefault(Path(name).as_posix(), _Entry())
        entry.lines.append(line)
        entry.labels.append(label)
        entry.boxes.append(box)

    def _check(self) -> None:
        if not self._entries:
            raise InputError(f"'{self.table}' has no rows but the names of its columns; write one a picture.")
        for name, entry in self._entries.items():
            if len(set(entry.labels)) > 1 and None in entry.boxes:
                raise InputError(
                    f"'{self.table}' gives '{name}' (line {entry.line}) the labels "
                    f"{' and '.join(sorted(set(entry.labels)))}, but not all of them a box; a picture without boxes "
                    "has one class."
                )
        boxes = [box for entry in self._entries.values() for box in entry.boxes if box]
        if boxes and max(map(max, boxes)) <= 1:
            raise InputError(
                f"all boxes of '{self.table}' are between 0 and 1; boxes are in pixels, so multiply them by the width "
                "and height of the picture."
            )

    def __len__(self) -> int:
        return len(self._names)

    def name_of(self, index: int) -> str:
        return self._names[index]

    @property
    def digest(self) -> str:
        entries = ((name, entry.labels, entry.boxes) for name, entry in self._entries.items())
        return digest_of(self.classes, entries)

    def sample(self, index: int) -> Sample:
        name = self._names[index]
        entry = self._entries[name]
        picture = inside(self.folder, name, f"{self.table}, line {entry.line}")
        annotations: tuple[Annotation, ...] = ()
        found = stored(picture)
        for line, label, box in zip(entry.lines, entry.labels, entry.boxes, strict=True):
            if box is not None:
                thing = (Annotation(label, box),)
                origin = f"{self.table}, line {line}"
                annotations += thing if found is None else cut(thing, found.shown, origin)
        return Sample(name, picture, annotations, entry.labels[0] if len(set(entry.labels)) == 1 else None)


def _rows(table: Path, needed: tuple[str, ...], edges: dict[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the rows of a table, each with its line in the file."""
    if not is_file(table):
        near = ", ".join(sorted(path.name for path in table.parent.glob("*.csv"))[:6])
        raise InputError(f"there is no table '{table}'; name it as table=… ({near or 'there is no .csv file there'}).")
    try:
        if table.stat().st_size > _LARGEST:
            raise InputError(f"'{table}' is larger than {_LARGEST >> 30} GiB; split it.")
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(table, header, needed, edges)
            for values in reader:
                if not values:
                    continue
                if len(values) != len(header):
                    raise InputError(
                        f"'{table}' has {len(values)} values in line {reader.line_num}, but {len(header)} columns; a "
                        "value with a comma stands in quotation marks."
                    )
                yield reader.line_num, dict(zip(header, values, strict=True))
    except UnicodeDecodeError as error:
        raise InputError(f"'{table}' is no UTF-8 text; save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise InputError(f"'{table}' is no CSV table ({error}).") from error
    except OSError as error:
        raise InputError(f"'{table}' cannot be read ({error.strerror or error}).") from error


def _check_header(table: Path, header: list[str], needed: tuple[str, ...], edges: dict[str, str]) -> None:
    columns = ", ".join(header) or "none"
    if len(set(header)) < len(header):
        raise InputError(f"'{table}' has two columns of one name ({columns}); rename one.")
    missing = [name for name in needed if name not in header]
    some = [name for name in edges.values() if name in header]
    if some or tuple(edges.values()) != _EDGES:
        missing += [name for name in edges.values() if name not in header]
    if missing:
        raise InputError(
            f"'{table}' has no column {' or '.join(missing)}, but {columns}; say what it is called, such as label=wnid."
        )


def _box(table: Path, line: int, row: dict[str, str], edges: dict[str, str]) -> Box | None:
    texts = [row.get(name, "").strip() for name in edges.values()]
    if not any(texts):
        return None
    try:
        x0, y0, x1, y1 = map(float, texts)
    except ValueError as error:
        raise InputError(f"'{table}' has the box {texts} in line {line}, but four numbers were expected.") from error
    if not all(map(math.isfinite, (x0, y0, x1, y1))) or x0 >= x1 or y0 >= y1:
        raise InputError(f"'{table}' has the box {texts} in line {line}, but x0 < x1 and y0 < y1 were expected.")
    return x0, y0, x1, y1


register_dataset(
    Kind(
        "folder",
        "any pictures with a table: labels.csv with the columns file, label and, for boxes, x0, y0, x1, y1",
        FolderDataset,
        {"table": str, "file": str, "label": str, **dict.fromkeys(_EDGES, str)},
    )
)

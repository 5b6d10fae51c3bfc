"""Large JSON files of a few long lists, element by element: never more than a few elements are in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from visavis.errors import InputError

_CHUNK = 1 << 22
_LONGEST = 1 << 26
_LARGEST = 1 << 32
_SPACE = " \t\r\n"


class Element(NamedTuple):
    """One element of a list in the file.

    Attributes:
        key: what the list is called in the object that is the file.
        value: the element.
        start, length: where it stands in the file, in bytes.
    """

    key: str
    value: Any
    start: int
    length: int


def elements(path: Path, keys: tuple[str, ...]) -> Iterator[Element]:
    """Read the elements of the named lists of a JSON file that is an object, in the order of the file.

    Raises:
        InputError: the file cannot be read, is larger than 4 GiB, or is no such JSON, or the value of a key is no list.
    """
    try:
        if not path.is_file():
            raise InputError(f"there is no file '{path}'; check the layout of the data set.")
        if path.stat().st_size > _LARGEST:
            raise InputError(f"'{path}' is larger than {_LARGEST >> 30} GiB; no such annotations are that large.")
        with path.open("rb") as file:
            yield from _members(_Reader(file, path), keys)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror or error}).") from error


def element_at(path: Path, start: int, length: int) -> Any:
    """Read one element again.

    Raises:
        InputError: the file has changed since.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            return _DECODER.decode(file.read(length).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{path}' has changed since it was opened; open the data set again.") from error


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refused, parse_float=_finite)


def _members(reader: _Reader, keys: tuple[str, ...]) -> Iterator[Element]:
    reader.take("{", "the file is an object with the lists " + ", ".join(keys))
    if reader.peek() == "}":
        return
    while True:
        key = reader.value().value
        if not isinstance(key, str):
            raise reader.error("a key in quotation marks was expected")
        reader.take(":", f"a colon after {key!r}")
        if key in keys:
            yield from _items(reader, key)
        else:
            reader.value()
        if reader.take(",}", "a comma, or the end of the object") == "}":
            return


def _items(reader: _Reader, key: str) -> Iterator[Element]:
    reader.take("[", f"{key!r} is a list")
    if reader.peek() == "]":
        reader.take("]", "")
        return
    while True:
        yield reader.value()._replace(key=key)
        if reader.take(",]", f"a comma, or the end of the list {key!r}") == "]":
            return


class _Reader:
    """A window on a file. It is text of one character a byte, so that places in it are places in the file."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.text, self.start, self.place = "", 0, 0
        self.more()
        if self.text.startswith("\xef\xbb\xbf"):  # a byte order mark
            self.place = 3

    def error(self, what: str) -> InputError:
        return InputError(f"'{self.path}' is no JSON as expected at byte {self.start + self.place}: {what}.")

    def more(self) -> bool:
        """Read on; as much again as is pending, so that a long value is not tried too often."""
        pending = self.text[self.place :]
        content = self.file.read(max(_CHUNK, len(pending)))
        self.start += self.place
        self.text, self.place = pending + content.decode("latin-1"), 0
        return bool(content)

    def peek(self) -> str:
        """Return the next character that is no space; "" at the end."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in _SPACE:
                self.place += 1
            if self.place < len(self.text):
                return self.text[self.place]
            if not self.more():
                return ""

    def take(self, characters: str, expected: str) -> str:
        """Step over the next character, which has to be one of several."""
        found = self.peek()
        if not found or found not in characters:
            raise self.error(f"{expected}, but {'the file ends' if not found else f'there is {found!r}'}")
        self.place += 1
        return found

    def value(self) -> Element:
        """Step over the next value, and return it."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.place)
            except RecursionError as error:
                raise self.error("it is nested too deeply") from error
            except ValueError as error:
                # It may only go on in what is not read yet.
                if len(self.text) - self.place > _LONGEST or not self.more():
                    raise self.error(_said(error)) from error
            else:
                # At the end of the window, 12 may be the beginning of 123.
                if end < len(self.text) or not self.more():
                    break
        span = self.text[self.place : end]
        if not span.isascii():
            try:
                value = _DECODER.decode(span.encode("latin-1").decode("utf-8"))
            except UnicodeDecodeError as error:
                raise self.error("it is no UTF-8") from error
        start, self.place = self.start + self.place, end
        return Element("", value, start, len(span))


def _said(error: ValueError) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)

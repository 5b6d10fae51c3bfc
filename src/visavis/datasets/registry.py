"""The kinds of data sets, by name; a data set is spelled KIND:FOLDER?option=value&option=value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

from visavis.datasets.annotated import AnnotatedDataset
from visavis.datasets.layout import is_folder
from visavis.errors import InputError

Option = str | Path | int | float | tuple[int, int] | tuple[str, ...]
Read = Callable[[str], Option]


@dataclass(frozen=True)
class Kind:
    """A kind of data set.

    Attributes:
        name: what stands before the colon.
        title: one line for people: what it is, and how its folder is laid out.
        open: makes the data set, from the folder if there is one, and options by keyword.
        options: what the options are called, and what turns the text of each into its value.
        has_folder: whether it is read from a folder.
    """

    name: str
    title: str
    open: Callable[..., AnnotatedDataset]
    options: Mapping[str, Read] = field(default_factory=dict)
    has_folder: bool = True


_KINDS: dict[str, Kind] = {}


def register_dataset(kind: Kind) -> Kind:
    """Enter a kind of data set under its name; the benchmark and the shell know it from there.

    Raises:
        InputError: there is one of that name, or the name has a colon or question mark.
    """
    check_new(kind.name, _KINDS, "kind of data set")
    _KINDS[kind.name] = kind
    return kind


def check_new(name: str, known: Iterable[str], what: str) -> None:
    """Refuse a name that is taken, or that could not be told from what is spelled behind it.

    Raises:
        InputError: it is.
    """
    if name in known:
        raise InputError(f"there is a {what} {name!r} already; choose another name")
    if not name or set(name) & set(":?"):
        raise InputError(f"a {what} cannot be called {name!r}; leave out colons and question marks")


def datasets() -> dict[str, str]:
    """Return each kind's name and title."""
    return {name: kind.title for name, kind in _KINDS.items()}


def open_dataset(spelling: str, **options: Option) -> AnnotatedDataset:
    """Open a data set.

    Args:
        spelling: KIND:FOLDER, or KIND:FOLDER?option=value&option=value, such as "voc2007:/data?split=test". In a value
            "%26" stands for "&", as in a web address. A folder whose own name has a question mark is taken as it is.
        options: further ones; they go before those in the spelling.

    Raises:
        InputError: the kind or an option is unknown, a value is malformed, or the folder is not laid out as expected.
    """
    name, colon, rest = spelling.partition(":")
    if not colon:
        name, mark, rest = spelling.partition("?")
        rest = mark + rest
    kind = _kind(name)
    folder, given = folder_and_options(rest)
    values = {option: _value(kind, option, text) for option, text in given.items()}
    for option, value in options.items():
        values[option] = _value(kind, option, value)
    if not kind.has_folder:
        if folder:
            raise InputError(f"'{spelling}' names a folder, but {name} needs none; write {_spelled(kind)}.")
        return kind.open(**values)
    if not folder:
        raise InputError(f"'{spelling}' names no folder; write {_spelled(kind)}.")
    return kind.open(folder, **values)


def _kind(name: str) -> Kind:
    if name in _KINDS:
        return _KINDS[name]
    near = get_close_matches(name, _KINDS, n=3) or list(_KINDS)
    raise InputError(f"there is no kind of data set {name!r}; write KIND:FOLDER, where KIND is {', '.join(near)}.")


def folder_and_options(rest: str) -> tuple[str, dict[str, str]]:
    """Return the folder and the options of what stands after the colon."""
    folder, mark, query = rest.partition("?")
    if not mark or ("=" not in query and is_folder(Path(rest))):
        return rest, {}
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        option, equals, value = part.partition("=")
        if not equals or not option:
            raise InputError(f"'{part}' is no option; write them as ?option=value&option=value.")
        if option in options:
            raise InputError(f"the option '{option}' is given twice; give it once.")
        options[option] = unquote(value)
    return folder, options


def _value(kind: Kind, option: str, value: Option) -> Option:
    if option not in kind.options:
        known = f"it has {', '.join(kind.options)}" if kind.options else "it has none"
        raise InputError(f"{kind.name} has no option '{option}'; {known}.")
    if not isinstance(value, str):
        return value
    try:
        return kind.options[option](value)
    except ValueError as error:
        raise InputError(f"the option '{option}' of {kind.name} cannot be {value!r} ({error}).") from error


def _spelled(kind: Kind) -> str:
    options = "&".join(f"{option}=…" for option in kind.options)
    return f"{kind.name}{':FOLDER' * kind.has_folder}{'?' * bool(options)}{options}"

"""The files of a data set: found where its layout says, none outside its folder, none read without a limit."""

from __future__ import annotations

import os
from pathlib import Path

from visavis.errors import InputError

# Of a folder's entries, as an error lists them.
_SHOWN = 6


def folder_at(path: str | os.PathLike[str], what: str) -> Path:
    """Return the folder that a user names.

    Raises:
        InputError: there is none.
    """
    folder = Path(path).expanduser()
    try:
        exists = bool(os.fspath(path)) and folder.is_dir()
    except (OSError, ValueError):
        exists = False
    if not exists:
        raise InputError(f"there is no folder '{path}' for {what}; check the path.")
    return folder


def first_folder(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Return the first of several subfolders that exists; "." stands for the folder itself."""
    return next((folder / name for name in names if is_folder(folder / name)), None)


def is_file(path: Path) -> bool:
    """Whether a file is there; of a name that no file can have it is not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is there; of a name that no folder can have it is not."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def entries(folder: Path) -> list[str]:
    """Return the names in a folder, sorted.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return sorted(one.name for one in folder.iterdir())
    except OSError as error:
        raise InputError(f"the folder '{folder}' cannot be read ({error.strerror or error}).") from error


def holdings(folder: Path) -> str:
    """Return what a folder holds, in a few words, for an error about its layout."""
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder))
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    if not names:
        return "it is empty"
    return "it holds " + ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def inside(folder: Path, name: str, origin: str | os.PathLike[str]) -> Path:
    """Return the path of a file that a file of the data set names.

    Args:
        folder: which the file has to be in, at any depth. It may itself be a link.
        name: the path relative to `folder`.
        origin: where the name stands, for errors.

    Raises:
        InputError: the name is empty or absolute, goes up, or is a link, or goes through one, that leads out.
    """
    check_name(folder, name, origin)
    path = folder / name
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise InputError(
            f"'{path}' is a link that leads out of '{folder}', and is not followed; put the file there, or name the "
            "folder that holds it."
        )
    return path


def check_name(folder: Path, name: str, origin: str | os.PathLike[str]) -> None:
    """Refuse a name that leads out of a folder whatever lies there.

    Raises:
        InputError: the name is empty or absolute, or goes up.
    """
    named = Path(name)
    if not name.strip() or "\0" in name:
        raise InputError(f"'{origin}' names a picture {name!r}, which no file can be called; mend that name.")
    if named.is_absolute() or named.drive or ".." in named.parts:
        raise InputError(
            f"'{origin}' names the picture '{name}', which leads out of '{folder}'; pictures are named relative to "
            "that folder, and lie in it."
        )


def read_text(path: Path, limit: int, what: str) -> str:
    """Return the text of a file, UTF-8.

    Args:
        path: its place.
        limit: how many bytes it may have.
        what: it is, for errors.

    Raises:
        InputError: it is missing, no regular file, larger than that, or no text.
    """
    try:
        if not path.is_file():
            raise InputError(f"there is no file '{path}', {what}; check the layout of the data set.")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"'{path}', {what}, cannot be read ({error.strerror or error}).") from error
    if len(content) > limit:
        raise InputError(f"'{path}', {what}, has more than {limit >> 10} KiB; no such file is that large.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}', {what}, is no UTF-8 text (byte {error.start}).") from error

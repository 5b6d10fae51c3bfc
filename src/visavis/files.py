"""Files are written beside and renamed into place: a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from visavis.errors import InputError, OutputError

#: The endings under which a figure is written.
FIGURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg")
#: The ending under which an explanation is kept whole.
WHOLE = ".safetensors"


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file as a whole.

    Raises:
        OutputError: the folder is missing or read-only, the name is a folder's, the disk is full.
    """
    write_all({Path(path): content})


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write several files: all of them beside their places first, so that a full disk leaves what was there.

    Raises:
        OutputError: as for `write_bytes`.
    """
    beside = {target: target.parent / f".visavis-{uuid.uuid4().hex}.part" for target in contents}
    at = next(iter(contents), Path())
    try:
        for at, content in contents.items():
            check_place(at)
            beside[at].write_bytes(content)
        for at, part in beside.items():
            part.replace(at)
    except OSError as error:
        raise _unwritable(at, error) from error
    finally:
        for part in beside.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """Make a folder, and those above it, where they are missing; return it.

    Raises:
        OutputError: it cannot be made, or is a file.
    """
    if "\0" in str(path):
        raise _null_character(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the folder {str(path)!r} cannot be made ({error.strerror or error}); name another"
        ) from error
    return path


def check_place(target: Path) -> None:
    """Refuse a name under which no file can be written.

    Raises:
        OutputError: the folder is missing, the name is a folder's, or no file name at all.
    """
    name = str(target)
    if "\0" in name:
        raise _null_character(target)
    try:
        if not target.parent.is_dir():
            raise OutputError(f"{str(target.parent)!r} is no folder, so {target.name!r} cannot go there; make it first")
        if target.is_dir():
            raise OutputError(f"{name!r} is a folder, but the name of a file was expected")
    except OutputError:
        raise
    except OSError as error:
        raise _unwritable(target, error) from error


def _null_character(path: Path) -> OutputError:
    return OutputError(f"{str(path)!r} holds a null character, which no file name can; choose another name")


def _unwritable(target: Path, error: OSError) -> OutputError:
    return OutputError(f"{str(target)!r} cannot be written ({error.strerror or error}); choose another place")


def check_suffix(target: Path, known: tuple[str, ...], what: str = "a figure") -> None:
    """Refuse a name whose ending says nothing of how to write it.

    Raises:
        OutputError: the ending is not among the known ones.
    """
    suffix = target.suffix.lower()
    if suffix not in known:
        ending = f"ends in {suffix!r}" if suffix else "has no ending"
        raise OutputError(f"{str(target)!r} {ending}, but {what} is written as {', '.join(known)}.")


def identities(pictures: Iterable[Path]) -> set[tuple[int, int]]:
    """Return what tells the files of pictures from all others, by whatever name: device and number."""
    known = set()
    for one in pictures:
        # A name that no file can have is no file's.
        with contextlib.suppress(OSError, ValueError):
            found = one.stat()
            known.add((found.st_dev, found.st_ino))
    return known


def check_output(
    place: Path, pictures: set[tuple[int, int]], endings: tuple[str, ...], what: str = "the photograph"
) -> None:
    """Refuse a place where no result can be written, or that is one of the pictures.

    Args:
        place: where it is to go.
        pictures: the identities of what it may not be.
        endings: those that it may have.
        what: errors call these.

    Raises:
        OutputError: the folder is missing, the name is a folder's, or its ending is not among those.
        InputError: it is one of the pictures, by whatever name.
    """
    check_place(place)
    check_suffix(place, endings)
    if place.exists() and identities([place]) & pictures:
        raise InputError(f"the output {str(place)!r} is {what} itself; name another file with -o")

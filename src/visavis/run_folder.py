"""A folder of results of a run, which can be killed at any moment and taken up again with the same words.

`run.json` says what was asked for, and with which versions; a lock keeps a second run out. Files are written beside,
brought to the disk and renamed: one that stands is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from visavis.errors import InputError, OutputError
from visavis.files import make_folder

RUN, LOCK = "run.json", "lock"
PART = ".part"
# A larger file says nothing of a run.
_MOST_BYTES = 1 << 20


def fingerprint(words: Mapping[str, Any]) -> str:
    """Return what tells the results of a run from those of others."""
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()[:16]


Entered = TypeVar("Entered", bound="RunFolder")


class RunFolder:
    """A folder of results, for one run at a time; a context that holds its lock.

    Args:
        path: of the folder, which is made where it is missing.
        words: what the numbers depend on, as JSON can hold it. A folder that was begun with other words is refused.

    Attributes:
        own: the names of folders in it that hold results.

    Raises:
        InputError: the folder was begun with other words, or holds something else.
        OutputError: it cannot be written, or another run is at work in it.
    """

    own: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: str | os.PathLike[str], words: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.words: dict[str, Any] = json.loads(json.dumps(words))
        self.fingerprint = fingerprint(self.words)
        self._lock: int | None = None

    def has_results(self) -> bool:
        """Whether numbers stand for the words that the folder was begun with."""
        return any(path.suffix != PART for name in self.own for path in (self.path / name).glob("*"))

    def words_before(self) -> dict[str, Any]:
        """Return what the folder was begun with.

        Raises:
            InputError: the file that says it is damaged, too large or no regular file.
        """
        return read_words(self.path)

    def __enter__(self: Entered) -> Entered:
        make_folder(self.path)
        for name in (LOCK, *self.own):
            refuse_link(self.path / name)
        self._refuse_strangers()
        self._lock = _locked(self.path / LOCK)
        try:
            self._check_words()
            for name in self.own:
                make_folder(self.path / name)
            places = (self.path.glob(f"{RUN}*{PART}"), *((self.path / name).glob(f"*{PART}") for name in self.own))
            for left in (left for place in places for left in place):
                left.unlink(missing_ok=True)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _refuse_strangers(self) -> None:
        own = (RUN, LOCK, *self.own)
        others = sorted(path.name for path in self.path.iterdir() if path.name not in own)
        if others and not (self.path / RUN).exists() and not all(name.endswith(PART) for name in others):
            raise InputError(
                f"the folder '{self.path}' holds other files ({', '.join(others[:3])}) and no results; name a new "
                "folder"
            )

    def _check_words(self) -> None:
        if (self.path / RUN).exists():
            before = self.words_before()
            changed = [
                f"{name} was {_told(before.get(name))} and is {_told(self.words.get(name))}"
                for name in dict.fromkeys([*before, *self.words])
                if before.get(name) != self.words.get(name)
            ]
            if changed and self.has_results():
                raise InputError(
                    f"the folder '{self.path}' holds the results of another run: {'; '.join(changed)}. Name another "
                    "folder, or start with the same words."
                )
            if not changed:
                return
        # Without results no numbers stand for the words: a run that was refused before its first one claims nothing.
        put(self.path / RUN, (json.dumps(self.words, indent=2) + "\n").encode())


def read_words(folder: Path) -> dict[str, Any]:
    """Return what a folder of results was begun with.

    Raises:
        InputError: there are no results, or the file that says it is damaged, too large or no regular file.
    """
    try:
        words: object = json.loads(read_regular(folder / RUN, _MOST_BYTES).decode("utf-8"))
        json.dumps(words)  # which goes less deep than reading
    except OSError as error:
        raise InputError(
            f"'{folder}' holds no results ({RUN}: {error.strerror or error}); name a folder that does"
        ) from error
    except RecursionError as error:
        raise InputError(f"'{folder / RUN}' is damaged (nested too deeply); start the run in another folder") from error
    except ValueError as error:
        raise InputError(f"'{folder / RUN}' is damaged ({error}); start the run in another folder") from error
    if not isinstance(words, dict):
        raise InputError(f"'{folder / RUN}' does not say what was run; start the run in another folder")
    return words


def read_regular(path: Path, most: int) -> bytes:
    """Return the content of a regular file, or of one that a link leads to; what else there is may never end.

    Args:
        path: of the file.
        most: how many bytes it may have.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is no regular file, or has more bytes.
    """
    # A pipe is opened without waiting for whoever writes it, and then refused.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("no regular file")
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("no regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most >> 10} KiB")
    return content


def refuse_link(path: Path) -> None:
    """Refuse a symbolic link where files are written: a folder of results may be a stranger's, and lead anywhere.

    Raises:
        OutputError: it is one.
    """
    if path.is_symlink():
        raise OutputError(f"'{path}' is a symbolic link, through which nothing is written; remove it, and start again")


def put(path: Path, content: bytes) -> None:
    """Write a file beside, bring it to the disk, and rename it into place; a link of its name is replaced.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    # A name of its own, and no file or link that is there: nobody can foresee it, and no two writers share it.
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)  # noqa: PTH105 (beside fsync)
        _keep_names(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise OutputError(
            f"'{path}' cannot be written ({error.strerror or error}); make room and start again with the same words: "
            "what is done is kept"
        ) from error


def _keep_names(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system has a way to."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _locked(path: Path) -> int:
    """Return an open file that this process alone holds; the system lets go of it when the process ends."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written ({error.strerror or error}); name another folder") from error
    try:
        import fcntl
    except ImportError:  # not on Windows
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise OutputError(
            f"another run is at work in '{path.parent}'; wait for its end, or name another folder"
        ) from error
    except OSError:  # some network file systems have no locks
        return handle
    return handle


def _told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "nothing" if value is None else str(value)


__all__ = ["LOCK", "PART", "RUN", "RunFolder", "fingerprint", "put", "read_regular", "read_words", "refuse_link"]

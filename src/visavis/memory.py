"""How much memory is free, and what to do where there was too little."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import torch

Made = TypeVar("Made")

_PROC, _GROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# What torch and the libraries beneath it say, in errors of no class of their own.
_SAID = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "bad_alloc",
    "bad allocation",
    "_STATUS_ALLOC_FAILED",
    # oneDNN, of its code and its scratch space, whatever the cause; with memory enough it says so again.
    "could not create a primitive",
    "could not create a memory",
    "could not execute a primitive",
)


def free_memory(device: torch.device) -> int | None:
    """Return how many bytes can still be taken on a device; None where that cannot be told.

    On a CPU it is what the system has available, or less where a control group (as of a container) has a limit.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free) + int(kept)
    if device.type != "cpu":
        return None
    return min(_free_on_system(), default=None)


def _free_on_system() -> Iterator[int]:
    """Yield what the system has available, and what the control groups of this process have left."""
    available = _table(_PROC / "meminfo").get("MemAvailable")
    if available is not None:
        yield available * 1024
    elif hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    yield from (left for group in _groups() if (left := _left(group)) is not None)


def _groups() -> Iterator[Path]:
    """Yield the folders of this process's control group, and of those that it lies in."""
    for line in _lines(_PROC / "self" / "cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers not in ("", "memory"):
            continue
        root = _GROUPS / controllers
        group = root / path.strip("/")
        yield from (one for one in (group, *group.parents) if one == root or root in one.parents)


def _left(group: Path) -> int | None:
    """Return how much a control group may still take; None where it has no limit. Cached files can be let go of."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = _number(group / limit), _number(group / used)
        if most is not None and now is not None:
            return max(0, most - now + _table(group / "memory.stat").get(cached, 0))
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdecimal() else None


def _table(path: Path) -> dict[str, int]:
    """Return the numbers of a file of lines such as "MemAvailable: 123 kB"."""
    rows = (line.replace(":", " ").split() for line in _lines(path))
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, says that memory did not suffice."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, torch.OutOfMemoryError | MemoryError):
            return True
        if type(cause) is RuntimeError and any(words in str(cause) for words in _SAID):
            return True
        seen.add(id(cause))
        cause = cause.__cause__
    return False


def attempted(work: Callable[[], Made], device: torch.device, *, smaller: bool) -> Made | None:
    """Return what some work makes; None where memory did not suffice, and what the attempt left is let go of.

    Args:
        work: is done once.
        device: where.
        smaller: whether there is less to try next; else the error is raised.
    """
    try:
        return work()
    except Exception as error:
        if not smaller or not is_out_of_memory(error):
            raise
    # Not in the handler of the error, whose traceback holds the tensors of the attempt.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None


__all__ = ["attempted", "free_memory", "is_out_of_memory"]

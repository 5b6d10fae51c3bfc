"""What the shell prints on: results on one stream, all else on the other, and text that is safe to show."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# So many pictures that were passed over are named.
_SHOWN = 20
out = Console(emoji=False)
err = Console(stderr=True, emoji=False)


def printable(text: str) -> str:
    """Return text with what does not print written out: a file's name must neither steer the terminal nor forge a
    line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def plain(text: str) -> str:
    """Return text as a console may show it, with no markup in it."""
    return escape(printable(text))


def note(text: str) -> None:
    """Print what is worth knowing, but no result."""
    err.print(f"note: {plain(text)}", soft_wrap=True, highlight=False)


def note_of_own_code(model: str, option: str) -> None:
    """Say that a model is code of the user's own, which runs."""
    note(f"{option} {model} is code of your own, and building the model runs it")


def note_skipped(passed: Sequence[tuple[str, str]], where: str) -> None:
    """Print which pictures were passed over, and why: the first of them, for the rest where they are named."""
    for picture, reason in passed[:_SHOWN]:
        err.print(f"[bold]skipped[/bold] {plain(f'{picture}: {reason}')}", soft_wrap=True, highlight=False)
    if len(passed) > _SHOWN:
        err.print(f"and {len(passed) - _SHOWN} more, which the {where} names", highlight=False)


@contextlib.contextmanager
def bar(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar with the time left, on a terminal only; give what is told how far the work is."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    ) as shown:
        task = shown.add_task(what, total=None)

        def told(done: int, total: int, at_work: str) -> None:
            shown.update(task, completed=done, total=total, description=printable(at_work))

        yield told

"""What the shell prints on: results on one stream, all else on the other, and text that is safe to show."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

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

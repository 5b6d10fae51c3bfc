"""Text of the pages that benchmarks write."""

from __future__ import annotations

from textwrap import fill


def filled(text: str) -> str:
    """Return paragraphs in lines of 118 characters."""
    return "\n\n".join(
        one if one.startswith("#") else fill(one, 118, break_on_hyphens=False) for one in text.split("\n\n")
    )

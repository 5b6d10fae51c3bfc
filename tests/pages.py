"""The code on the pages of docs/, to be run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"


def run_block(page: str, holding: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run the one block of Python on a page that holds a text, with the names it presupposes; return all its names."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if holding in block]
    found = dict(names)
    exec(compile(block, f"docs/{page}", "exec"), found)  # noqa: S102 (the project's own page)
    return found

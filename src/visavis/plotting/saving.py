"""Figures to disk: whole or not at all, and the same bytes every time."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from visavis.files import FIGURES, check_place, check_suffix, write_bytes

# Matplotlib takes the salt of SVG identifiers from its settings alone, so two saves must not overlap.
_SVG_SALT = threading.Lock()


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write `figure` as PNG, PDF, SVG or JPEG, by the suffix of `path`; the same figure gives the same bytes.

    The figure is rendered in memory, written beside `path` and renamed into place: whatever goes wrong,
    `path` holds what it held before, and no other file is left. No times are written into the file.

    Raises:
        OutputError: an unknown suffix, a folder that is missing or read-only, a full disk.
    """
    target = Path(path)
    check_suffix(target, FIGURES)
    # Refused before anything is rendered, which takes a while.
    check_place(target)
    write_bytes(target, figure_bytes(figure, target.suffix.lower()))


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """The bytes of a file of a figure, free of times and chance.

    Args:
        figure: what is rendered.
        suffix: ".png", ".pdf", ".svg", or ".jpg".
    """
    metadata: dict[str, dict[str, str | None]] = {
        ".png": {"Software": "visavis"},
        ".pdf": {"Creator": "visavis", "CreationDate": None},
        ".svg": {"Creator": "visavis", "Date": None},
    }
    options: dict[str, Any] = {"metadata": metadata[suffix]} if suffix in metadata else {"pil_kwargs": {"quality": 92}}
    buffer = io.BytesIO()
    with _SVG_SALT:
        salt = matplotlib.rcParams["svg.hashsalt"]
        matplotlib.rcParams["svg.hashsalt"] = "visavis"
        try:
            figure.savefig(buffer, format=suffix[1:], facecolor="white", dpi="figure", transparent=False, **options)
        finally:
            matplotlib.rcParams["svg.hashsalt"] = salt
    return buffer.getvalue()

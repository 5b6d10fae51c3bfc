"""A page of HTML that asks for no other file or address: its frame, and the parts that all pages have."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping

from visavis.terminal import printable

# Whatever a name in it may smuggle in: nothing is loaded, no script runs.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top }
th { vertical-align: bottom }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff }
td small { display: block; color: #666; white-space: nowrap }
tr.baseline td { color: #666 }
pre { background: #f5f5f5; padding: .7rem; white-space: pre-wrap; overflow-wrap: anywhere }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; max-width: 100% }
img { max-width: 100% }
.cases { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; margin-bottom: 1rem }
.cases figure { flex: 1 1 20rem; max-width: 30.4rem; margin: 0 }
.cases figcaption { font-size: .85rem; line-height: 1.35; overflow-wrap: anywhere }
.cases small { color: #666 }
h1, h2, h3, p, li { overflow-wrap: anywhere }
h4 { margin: .8rem 0 .3rem }
"""
_KINDS = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg"}


def shown_text(text: str) -> str:
    """Return text as the page may hold it: no markup in it, and nothing that does not print."""
    return html.escape(printable(text))


def document(title: str, parts: Iterable[str]) -> str:
    """Return a page of parts that are HTML, under a title that is not yet."""
    shown = shown_text(title)
    head = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{shown}</title><style>{_STYLE}</style></head><body><h1>{shown}</h1>",
    ]
    return "\n".join([*head, *parts, "</body></html>\n"])


def paragraph(text: str) -> str:
    """Return a paragraph of text."""
    return f"<p>{shown_text(text)}</p>"


def picture(content: bytes, kind: str, alt: str) -> str:
    """Return a figure with a picture within the page.

    Args:
        content: of its file.
        kind: ".svg", ".png" or ".jpg".
        alt: what it shows, in words.
    """
    data = base64.b64encode(content).decode()
    return f'<figure><img alt="{shown_text(alt)}" src="data:{_KINDS[kind]};base64,{data}"></figure>'


def pairs(values: Mapping[str, str]) -> str:
    """Return a table of names and texts."""
    rows = "".join(f"<tr><td>{shown_text(name)}</td><td>{shown_text(text)}</td></tr>" for name, text in values.items())
    return f"<table>{rows}</table>"


def folded(title: str, content: str) -> str:
    """Return HTML that shows only its title at first."""
    return f"<details><summary>{shown_text(title)}</summary>{content}</details>"


__all__ = ["document", "folded", "pairs", "paragraph", "picture", "shown_text"]

"""Text that fits: installed fonts, measured lines, broken or shortened ones."""

from __future__ import annotations

from functools import cache, lru_cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

_LETTERS_AT_MOST = 500  # on one line: more never fit on a page, and measuring takes time

# Labels may be in any script; only families that are installed may be asked for, else matplotlib complains.
_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans",
    "Hiragino Sans",
    "Microsoft YaHei",
)


@cache
def font_of(size: float, weight: str) -> FontProperties:
    """The font of a size, in those of `_FAMILIES` that are installed."""
    installed = set(font_manager.get_font_names())
    families = [family for family in _FAMILIES if family in installed]
    return FontProperties(family=families, size=size, weight=weight)


@lru_cache(maxsize=4096)
def _width(text: str, font: FontProperties) -> float:
    """Inches that one line of text takes."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72.0


def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Inches that one line of text takes, at a size in points."""
    return _width(text[:_LETTERS_AT_MOST], font_of(size, weight))


def fitted(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Text on one line of at most `width` inches, that ends in an ellipsis where it does not fit."""
    return "".join(lines_of(text, width, font_of(size, weight), 1))


def _shortened(text: str, width: float, font: FontProperties) -> str:
    """The longest beginning of `text` that fits with an ellipsis, or `text` itself if it fits."""
    if len(text) <= _LETTERS_AT_MOST and _width(text, font) <= width:
        return text
    low, high = 0, min(len(text), _LETTERS_AT_MOST)
    while low < high:
        middle = (low + high + 1) // 2
        if _width(text[:middle].rstrip() + "…", font) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…"


def lines_of(text: str, width: float, font: FontProperties, lines_at_most: int) -> list[str]:
    """`text` in lines of at most `width` inches; what does not fit ends in an ellipsis."""
    words = "".join(letter if letter.isprintable() else " " for letter in text).split()
    space = _width("a a", font) - _width("aa", font)
    lines: list[str] = []
    while words and len(lines) < lines_at_most:
        if len(lines) == lines_at_most - 1:
            lines.append(_shortened(" ".join(words), width, font))
            break
        count, taken = 1, _width(words[0][:_LETTERS_AT_MOST], font)
        while count < len(words) and (taken := taken + space + _width(words[count][:_LETTERS_AT_MOST], font)) <= width:
            count += 1
        lines.append(_shortened(" ".join(words[:count]), width, font))
        words = words[count:]
    return lines


def percent(probability: float) -> str:
    """A probability in words that never claim more than it says: 62.1 %, < 0.1 %, > 99.9 %."""
    if 0.0 < probability < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= probability < 1.0:
        return "> 99.9 %"
    return f"{100 * probability:.1f} %"

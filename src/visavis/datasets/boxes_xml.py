"""Boxes in the XML of PASCAL VOC, which ImageNet uses too. A document type or an entity is refused, never expanded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from visavis.datasets.annotated import Annotation, Box
from visavis.datasets.layout import read_text
from visavis.errors import InputError

_LARGEST = 1 << 20
# Only a document type can declare entities, which can be nested to billions of characters or stand for other files.
_DECLARATION = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
_WHAT = "an annotation"


@dataclass(frozen=True)
class BoxFile:
    """What an XML file says of one picture.

    Attributes:
        size: width and height of the picture in pixels; None where the file does not say.
        annotations: its objects, in the order of the file.
    """

    size: tuple[int, int] | None
    annotations: tuple[Annotation, ...]


def read_boxes(path: Path, picture: str, first: int) -> BoxFile:
    """Read the objects of a picture.

    Args:
        path: the XML file.
        picture: the name of the picture without its ending, which the file has to be about.
        first: the number of the first pixel of a row, 1 in VOC, 0 in ImageNet; the ends of a box are inclusive.

    Raises:
        InputError: the file is missing, too large, no XML, has a document type or entities, is about another picture,
            or lacks what VOC's format asks for.
    """
    text = read_text(path, _LARGEST, _WHAT)
    if _DECLARATION.search(text):
        raise InputError(
            f"'{path}' declares a document type or an entity, which no annotation needs and an attack may; it is not "
            "read. Remove the declaration if you trust the file."
        )
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"'{path}', {_WHAT}, is no well-formed XML ({error}).") from error
    if root.tag != "annotation":
        raise InputError(f"'{path}' has the root element <{root.tag}>, but <annotation> was expected.")
    _check_picture(root, picture, path)
    objects = enumerate(root.findall("object"), 1)
    return BoxFile(_size(root, path), tuple(_object(each, f"object {n}", path, first) for n, each in objects))


def _check_picture(root: Element, picture: str, path: Path) -> None:
    """Refuse a file about another picture. The name is only compared, never opened."""
    name = (root.findtext("filename") or "").strip()
    # Some of ImageNet's files have an unfilled "%s".
    if name in ("", "%s", picture):
        return
    if PurePosixPath(name).name != name or PurePosixPath(name).stem != picture:
        raise InputError(f"'{path}' is about the picture '{name}', but lies where that of '{picture}' belongs.")


def _size(root: Element, path: Path) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    width, height = (_number(size, side, "the size", path) for side in ("width", "height"))
    return (int(width), int(height)) if width > 0 and height > 0 else None


def _object(element: Element, what: str, path: Path, first: int) -> Annotation:
    label = (element.findtext("name") or "").strip()
    if not label:
        raise InputError(f"'{path}' has no <name> for {what}.")
    difficult, truncated = (_flag(element, flag, what, path) for flag in ("difficult", "truncated"))
    return Annotation(label, _box(element, f"{what} ({label})", path, first), difficult, truncated)


def _box(element: Element, what: str, path: Path, first: int) -> Box:
    # A person's head, hands and feet have boxes of their own, one level further down.
    box = element.find("bndbox")
    if box is None:
        raise InputError(f"'{path}' has no <bndbox> for {what}.")
    x0, y0, x1, y1 = (_number(box, edge, what, path) for edge in ("xmin", "ymin", "xmax", "ymax"))
    if x1 < x0 or y1 < y0:
        raise InputError(
            f"'{path}' has a box from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}) for {what}, which ends before it begins."
        )
    return x0 - first, y0 - first, x1 - first + 1, y1 - first + 1


def _number(element: Element, tag: str, what: str, path: Path) -> float:
    text = (element.findtext(tag) or "").strip()
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"'{path}' has {text!r} as <{tag}> of {what}, but a number was expected.")
    return number


def _flag(element: Element, tag: str, what: str, path: Path) -> bool:
    text = (element.findtext(tag) or "0").strip()
    if text not in ("0", "1", "Unspecified"):
        raise InputError(f"'{path}' has {text!r} as <{tag}> of {what}, but 0 or 1 was expected.")
    return text == "1"

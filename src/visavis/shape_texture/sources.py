"""Where pairs come from, by name; pairs are spelled SOURCE, or SOURCE:WHERE?option=value&option=value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import unquote

from visavis.datasets.generated import Scenes
from visavis.datasets.layout import folder_at
from visavis.datasets.registry import check_new, datasets, open_dataset
from visavis.errors import InputError
from visavis.pictures import find_pictures
from visavis.shape_texture.adain import AdaIN
from visavis.shape_texture.pairs import Pairs, ScenePairs
from visavis.shape_texture.quilting import Quilting
from visavis.shape_texture.stylized import StylizedPairs
from visavis.shape_texture.transferred import TransferPairs

_LAID = ("whole", "masked")
_OPTIONS = ("textures", "laid", "block", "encoder", "decoder")


@dataclass(frozen=True)
class PairSource:
    """A source of pairs.

    Attributes:
        name: what stands before the colon.
        spelling: how it is written, such as "stylized:FOLDER".
        title: one line for people.
        open: (what stands after the colon, how many pairs of each factor, size, seed) → the pairs.
        check: takes what stands after the colon, and raises InputError where it is wrong for sure; it opens no picture.
            None: nothing is checked before the pairs are opened.
    """

    name: str
    spelling: str
    title: str
    open: Callable[[str, int, int, int], Pairs]
    check: Callable[[str], None] | None = None


_SOURCES: dict[str, PairSource] = {}


def register_pairs(source: PairSource) -> PairSource:
    """Enter a source of pairs under its name; the shell knows it from there.

    Raises:
        InputError: there is one of that name, or the name has a colon or question mark.
    """
    check_new(source.name, _SOURCES, "source of pairs")
    _SOURCES[source.name] = source
    return source


def pair_sources() -> dict[str, str]:
    """Return how each source is spelled, with its title."""
    return {source.spelling: source.title for source in _SOURCES.values()}


def check_pairs(spelling: str) -> None:
    """Refuse a spelling that can be told to be wrong at once: no picture is opened, and no data set read.

    The source must be known, and so must the kind of data set; a folder must be named where one is needed, and those of
    stylised images and of textures must be there; the options of pairs must be such. What else may be wrong is for
    `open_pairs` to say, which checks this first.

    Raises:
        InputError: it is wrong.
    """
    source, rest = _parsed(spelling)
    if source.check is not None:
        source.check(rest)


def open_pairs(spelling: str, count: int, *, size: int = 224, seed: int = 0) -> Pairs:
    """Open pairs.

    Args:
        spelling: as `pair_sources` names them: "scenes", "stylized:FOLDER", or "pictures:KIND:FOLDER?option=value".
            KIND:FOLDER is a data set as `visavis.datasets.open_dataset` takes it, and its options may stand beside
            "textures", a folder of pictures of textures; "laid", "whole" or "masked"; "block", the side of the patches
            in pixels; "encoder" and "decoder", the files of AdaIN's weights, which then takes the place of quilting.
        count: how many pairs of each factor.
        size: side of the images, in pixels.
        seed: of the draws.

    Raises:
        InputError: there is no such source, an option is malformed, or the source cannot make such pairs.
        ModelError: weights do not fit.
    """
    check_pairs(spelling)
    source, rest = _parsed(spelling)
    return source.open(rest, count, size, seed)


def _parsed(spelling: str) -> tuple[PairSource, str]:
    """Return the source, and what stands after the colon."""
    name, _, rest = spelling.partition(":")
    if name not in _SOURCES:
        near = get_close_matches(name, _SOURCES, n=3) or list(_SOURCES)
        written = ", ".join(_SOURCES[one].spelling for one in near)
        raise InputError(f"there is no source of pairs {name!r}; write {written}.")
    return _SOURCES[name], rest


def _check_scenes(rest: str) -> None:
    if rest:
        raise InputError(f"'scenes:{rest}' names a folder, but scenes are generated; write scenes.")


def _scenes(rest: str, count: int, size: int, seed: int) -> Pairs:
    return ScenePairs(count, scenes=Scenes(1, size=size, seed=seed), seed=seed)


def _check_stylized(rest: str) -> None:
    if not rest:
        raise InputError("'stylized' names no folder; write stylized:FOLDER.")
    folder_at(rest, "stylised images")


def _stylized(rest: str, count: int, size: int, seed: int) -> Pairs:
    return StylizedPairs(rest, count, size=size, seed=seed)


def _check_pictures(rest: str) -> None:
    if not rest:
        raise InputError("'pictures' names no data set; write pictures:KIND:FOLDER, such as pictures:coco:/data.")
    dataset, options = _parted(rest)
    kind = dataset.partition(":")[0].partition("?")[0]
    if kind not in datasets():
        near = get_close_matches(kind, datasets(), n=3) or list(datasets())
        raise InputError(
            f"there is no kind of data set {kind!r}; write pictures:KIND:FOLDER, where KIND is {', '.join(near)}."
        )
    laid = options.get("laid", _LAID[0])
    if laid not in _LAID:
        raise InputError(f"the option 'laid' of pictures cannot be {laid!r}; write {' or '.join(_LAID)}.")
    if "textures" in options:
        find_pictures(options["textures"])
    if not _weights(options):
        _quilting(options)


def _pictures(rest: str, count: int, size: int, seed: int) -> Pairs:
    dataset, options = _parted(rest)
    textures = find_pictures(options["textures"]) if "textures" in options else None
    weights = _weights(options)
    return TransferPairs(
        open_dataset(dataset),
        textures,
        count,
        transfer=AdaIN(*weights) if weights else _quilting(options),
        masks=options.get("laid") == "masked",
        size=size,
        seed=seed,
    )


def _parted(rest: str) -> tuple[str, dict[str, str]]:
    """Return the spelling of the data set, with its options, and those of the pairs."""
    where, mark, query = rest.partition("?")
    if "=" not in query:
        return rest, {}
    parts = query.split("&")
    ours = [part.partition("=") for part in parts if part.partition("=")[0] in _OPTIONS]
    names = [name for name, _, _ in ours]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"the option '{twice}' is given twice; give it once.")
    empty = next((name for name, _, value in ours if not value), None)
    if empty is not None:
        raise InputError(f"the option '{empty}' has no value; write {empty}=….")
    others = "&".join(part for part in parts if part.partition("=")[0] not in _OPTIONS)
    return where + (mark + others if others else ""), {name: unquote(value) for name, _, value in ours}


def _weights(options: dict[str, str]) -> tuple[str, str] | None:
    """Return the files of AdaIN's weights, if any."""
    given = [options[name] for name in ("encoder", "decoder") if name in options]
    if not given:
        return None
    if len(given) == 1 or "block" in options:
        raise InputError("AdaIN takes encoder=FILE and decoder=FILE, both of them, and no block.")
    return given[0], given[1]


def _quilting(options: dict[str, str]) -> Quilting:
    return Quilting(block=_pixels(options["block"])) if "block" in options else Quilting()


def _pixels(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise InputError(f"the option 'block' of pictures cannot be {text!r}; write a number of pixels.") from error


register_pairs(PairSource("scenes", "scenes", "generated scenes of one object each; no folder", _scenes, _check_scenes))
register_pairs(
    PairSource(
        "stylized",
        "stylized:FOLDER",
        "stylised images TEXTURE_CLASS_IMAGE.png, as of Stylized VOC",
        _stylized,
        _check_stylized,
    )
)
register_pairs(
    PairSource(
        "pictures",
        "pictures:KIND:FOLDER?textures=FOLDER&laid=whole",
        "a data set's pictures, laid out in textures: whole, or masked, on an object alone",
        _pictures,
        _check_pictures,
    )
)

__all__ = ["PairSource", "check_pairs", "open_pairs", "pair_sources", "register_pairs"]

"""The classes of a classifier: their names, synonyms and WordNet ids, and how a user's word finds one of
them."""

from __future__ import annotations

import difflib
import functools
import json
import operator
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from visavis.errors import InputError

_MAX_CANDIDATES = 6
_LARGEST_FILE = 16 << 20

# The names of these ImageNet classes are shared; what stands in brackets tells them apart (WordNet's
# glosses).
_TOLD_APART = {
    134: "crane (bird)",
    517: "crane (machine)",
    264: "Cardigan (Welsh corgi)",
    474: "cardigan (jacket)",
    638: "maillot (tights)",
    639: "maillot (tank suit)",
}


class Labels:
    """The display names of a classifier's classes, in order of their indices.

    Behaves as a sequence of names: `labels[340]`, `len(labels)`, iteration, `in`.

    Args:
        names: One display name a class.
        synonyms: Further names of each class, if there are any.
        wordnet_ids: The WordNet id of each class ("n02391049"), if there are any.

    Raises:
        InputError: There are no names, one is not a string, or the lengths differ.
    """

    def __init__(
        self,
        names: Sequence[str],
        synonyms: Sequence[Sequence[str]] | None = None,
        wordnet_ids: Sequence[str] | None = None,
    ) -> None:
        if isinstance(names, str) or not len(names) or not all(isinstance(name, str) for name in names):
            raise InputError("labels are a sequence of class names, one string a class; pass a list of strings.")
        for what, given in (("synonyms", synonyms), ("WordNet ids", wordnet_ids)):
            if given is not None and len(given) != len(names):
                raise InputError(f"there are {len(names)} class names, but {what} for {len(given)}; pass one a class.")
        self.names = tuple(names)
        self.synonyms = tuple(map(tuple, synonyms)) if synonyms is not None else ((),) * len(self.names)
        self.wordnet_ids = tuple(wordnet_ids) if wordnet_ids is not None else None

    @classmethod
    def numbered(cls, count: int) -> Labels:
        """Labels for `count` classes without names: "class 0", "class 1", …"""
        return cls([f"class {index}" for index in range(count)])

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Labels):
            return NotImplemented
        return (self.names, self.synonyms, self.wordnet_ids) == (
            other.names,
            other.synonyms,
            other.wordnet_ids,
        )

    def __hash__(self) -> int:
        return hash((self.names, self.wordnet_ids))

    def __repr__(self) -> str:
        return f"Labels({len(self)} classes: {self.names[0]}, …, {self.names[-1]})"

    def index(self, label: int | str) -> int:
        """The index of the class that `label` names.

        Args:
            label: An index; or a string, which is tried in this order: as a display name, spelled exactly;
                as a display name, in which case, spaces, underscores, hyphens and brackets do not count; as
                an index ("340"); as a synonym or WordNet id.

        Raises:
            InputError: Nothing matches (the nearest names are listed), several classes do (all are listed),
                or the index is out of range.
        """
        if isinstance(label, str):
            return self._index_of_name(label)
        return self._checked(class_index(label))

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise InputError(f"there is no class {index}; the indices go from 0 to {len(self) - 1}.")
        return index

    def _index_of_name(self, label: str) -> int:
        plain = folded(label)
        exact = [index for index, name in enumerate(self.names) if name == label]
        for matches in (exact, self._by_name.get(plain, [])):
            if matches:
                return self._only(label, matches)
        number = label.strip()
        if re.fullmatch(r"[+-]?[0-9]{1,18}", number):
            return self._checked(int(number))
        matches = self._by_alias.get(plain, [])
        if matches:
            return self._only(label, matches)
        raise InputError(f"there is no class '{label}'; {self._suggestion(plain)}.")

    def _only(self, label: str, matches: list[int]) -> int:
        if len(matches) > 1:
            raise InputError(
                f"'{label}' names {len(matches)} classes: {self._listed(matches, with_ids=True)}; "
                "pass the index of one."
            )
        return matches[0]

    def _suggestion(self, plain: str) -> str:
        nearest = self._nearest(plain)
        if nearest:
            return f"the nearest are {self._listed(nearest)}"
        return f"pass a name, or an index from 0 to {len(self) - 1}"

    def _listed(self, indices: list[int], with_ids: bool = False) -> str:
        ids = self.wordnet_ids if with_ids else None
        return ", ".join(f"{self[i]} ({i}, {ids[i]})" if ids else f"{self[i]} ({i})" for i in indices)

    def _nearest(self, plain: str) -> list[int]:
        """Classes that share all words with the query, contain it, are spelled alike, or share a word."""
        if not plain:
            return []
        known = {name: indices for table in (self._by_alias, self._by_name) for name, indices in table.items()}
        words = set(plain.split())
        tiers = (
            (name for name in known if words <= set(name.split())),
            (name for name in known if len(plain) > 2 and plain in name),
            difflib.get_close_matches(plain, known, n=_MAX_CANDIDATES, cutoff=0.7),
            (name for name in known if words & set(name.split())),
        )
        ranked = dict.fromkeys(index for tier in tiers for name in tier for index in known[name])
        return list(ranked)[:_MAX_CANDIDATES]

    @functools.cached_property
    def _by_name(self) -> dict[str, list[int]]:
        return _table([[name] for name in self.names])

    @functools.cached_property
    def _by_alias(self) -> dict[str, list[int]]:
        ids = [[wordnet_id] for wordnet_id in self.wordnet_ids] if self.wordnet_ids else [[]] * len(self)
        return _table([[*synonyms, *own] for synonyms, own in zip(self.synonyms, ids, strict=True)])


def class_index(label: object) -> int:
    """A class index as a plain int: from an int, a NumPy integer or an integer tensor of one element.

    Raises:
        InputError: It is anything else, also a bool.
    """
    if "bool" not in str(getattr(label, "dtype", type(label))):
        try:
            return operator.index(label)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise InputError(
        f"a class is given by its index or name, but this is {label!r} of type {type(label).__name__}; "
        "pass an int or a string."
    )


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Reads class names from a text file, UTF-8: one a line, in order, or a JSON list of strings.

    Raises:
        InputError: The file cannot be read, is too large or no text, or a name is missing.
    """
    text = _text(Path(path))
    if not text.lstrip().startswith("["):
        names = text.rstrip().splitlines()
    else:
        try:
            names = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the labels in '{path}' begin as a JSON list, but are none ({error}).") from error
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise InputError(
                f"the labels in '{path}' have no name for class {place}; write one a line, or a JSON list."
            )
    if not names:
        raise InputError(f"the file of labels '{path}' is empty; write one class name a line.")
    return named_labels([name.strip() for name in names])


def _text(file: Path) -> str:
    if not file.is_file():
        raise InputError(f"there is no file of labels '{file}'; check the path.")
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise InputError(f"the file of labels '{file}' is larger than {_LARGEST_FILE >> 20} MiB; pass class names.")
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the file of labels '{file}' is no UTF-8 text; write one class name a line.") from error
    except OSError as error:
        raise InputError(f"the file of labels '{file}' cannot be read ({error.strerror or error}).") from error


def imagenet_labels() -> Labels:
    """The 1000 classes of ImageNet (ILSVRC 2012), in their usual order.

    Display names are torchvision's, except that the names which two classes share (crane, maillot, cardigan)
    carry a word in brackets; synonyms and WordNet ids are timm's.
    """
    return _imagenet_labels()


@functools.cache
def _imagenet_labels() -> Labels:
    import torchvision.models
    from timm.data.imagenet_info import ImageNetInfo

    names = list(torchvision.models.get_weight("ResNet50_Weights.IMAGENET1K_V2").meta["categories"])
    info: Any = ImageNetInfo("imagenet-1k")
    synonyms = [_split(str(info.index_to_description(index))) for index in range(len(names))]
    strangers = [index for index, name in enumerate(names) if not _describes(name, synonyms[index])]
    if strangers or len(names) != info.num_classes():
        raise InputError(
            f"torchvision and timm disagree on the ImageNet classes {strangers[:5]}; install versions that agree."
        )
    for index, name in _TOLD_APART.items():
        names[index] = name
    return Labels(names, synonyms, info.label_names())


def named_labels(names: Sequence[str]) -> Labels:
    """Labels for a model's own class names: ImageNet's, where the names are those of its 1000 classes in
    order.

    A name that lists synonyms ("tench, Tinca tinca") is found by each of them.
    """
    own = Labels(names)
    if len(own) == 1000:
        imagenet = imagenet_labels()
        listed = zip(own.names, imagenet.synonyms, strict=True)
        if all(_describes(_split(name)[0], synonyms) for name, synonyms in listed):
            return imagenet
    return Labels(own.names, [_split(name) if "," in name else [] for name in own.names])


def _describes(name: str, synonyms: Sequence[str]) -> bool:
    """Whether a name is one of the synonyms, or all of them in a row ("maillot tank suit", "crane bird")."""
    known = {folded(synonym) for synonym in synonyms}
    return folded(name) in known or any(folded(name).startswith(synonym + " ") for synonym in known)


def _split(description: str) -> list[str]:
    return [part.strip() for part in description.split(",") if part.strip()] or [description]


def folded(name: str) -> str:
    """A name without what does not count: case, spaces, underscores, hyphens, brackets and other marks."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip() or name.casefold().strip()


def _table(names: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    table: dict[str, list[int]] = {}
    for index, spellings in enumerate(names):
        for name in dict.fromkeys(map(folded, spellings)):
            table.setdefault(name, []).append(index)
    return table

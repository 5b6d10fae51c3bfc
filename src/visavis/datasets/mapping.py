"""Which classes of a model the classes of a data set are."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

from visavis.datasets.common_names import VOCABULARIES
from visavis.errors import InputError
from visavis.labels import Labels, folded, imagenet_labels

_WNID = re.compile(r"n[0-9]{8}")


def class_map(classes: Sequence[str], labels: Labels, vocabulary: str = "") -> dict[str, tuple[int, ...]]:
    """Return the indices of the model's classes that each class of a data set comprises; none where it has none.

    Where the model's classes are ImageNet's, or some of them, the data set's own vocabulary says it all: COCO's "kite"
    is a toy, and "dog" comprises 118 breeds. Any other name is looked for as a display name, first as it is spelled
    and then without regard to case, spaces and punctuation; as a WordNet id; as a synonym; and at last as one of the
    data set's own vocabulary, of COCO's or of VOC's names, by the ImageNet classes that these comprise.

    Args:
        classes: of the data set.
        labels: of the model.
        vocabulary: of the data set: "coco", "voc", "geirhos16", or "" for any other.

    Raises:
        InputError: a name is that of several classes which do not mean the same, the vocabulary is unknown, or the
            model has none of the classes.
    """
    if vocabulary not in ("", *VOCABULARIES):
        raise InputError(f"there is no vocabulary {vocabulary!r}; there are {', '.join(VOCABULARIES)}.")
    names = _Names(labels)
    found = {name: names.find(name, vocabulary) for name in classes}
    if not any(found.values()):
        shown = ", ".join(classes[:3])
        raise InputError(
            f"the model has none of the data set's {len(classes)} classes ({shown}, …); its own are called "
            f"{', '.join(labels.names[:3])}, …: give either the other's names."
        )
    return found


class _Names:
    """The names of a model's classes, for looking them up."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.exact = _table((name,) for name in labels.names)
        self.folded = _table((folded(name),) for name in labels.names)
        self.ids = _table((wnid,) for wnid in labels.wordnet_ids or ())
        self.synonyms = _table(map(folded, synonyms) for synonyms in labels.synonyms)

    def find(self, name: str, vocabulary: str) -> tuple[int, ...]:
        own = VOCABULARIES.get(vocabulary, {})
        if self._is_imagenet and name in own:
            return self._imagenet(own[name])
        tables = ((self.exact, name), (self.folded, folded(name)), (self.ids, name), (self.synonyms, folded(name)))
        for table, key in tables:
            if key in table:
                return self._only(name, table[key])
        if _WNID.fullmatch(name):
            ids = imagenet_labels().wordnet_ids or ()
            return self._imagenet([ids.index(name)]) if name in ids else ()
        for words in (own, *VOCABULARIES.values()):
            if name.casefold() in words:
                return self._imagenet(words[name.casefold()])
        return ()

    @functools.cached_property
    def _is_imagenet(self) -> bool:
        """Whether all of the model's classes are among ImageNet's 1000."""
        imagenet = imagenet_labels()
        if self.labels.wordnet_ids is not None:
            return set(self.labels.wordnet_ids) <= set(imagenet.wordnet_ids or ())
        return self.folded.keys() <= {folded(name) for name in imagenet.names}

    def _imagenet(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """Return the model's indices of classes that ImageNet's list has at these places."""
        imagenet = imagenet_labels()
        if self.labels.wordnet_ids is not None:
            ids = imagenet.wordnet_ids or ()
            found = (self.ids.get(ids[number], []) for number in numbers)
        else:
            found = (self.folded.get(folded(imagenet[number]), []) for number in numbers)
        return tuple(sorted(index for indices in found for index in indices))

    def _only(self, name: str, indices: list[int]) -> tuple[int, ...]:
        if len(indices) > 1:
            listed = ", ".join(f"{self.labels[index]} ({index})" for index in indices)
            raise InputError(
                f"'{name}' names {len(indices)} classes of the model: {listed}; let the data set name its classes by "
                "WordNet id, or by names that differ."
            )
        return (indices[0],)


def _table(spellings: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    table: dict[str, list[int]] = {}
    for index, names in enumerate(spellings):
        for name in dict.fromkeys(names):
            table.setdefault(name, []).append(index)
    return table

"""What a user gives along with a model's name: weights, class names, the size of pictures; and what a model of theirs
raises while it runs."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError, VisavisError
from visavis.labels import Labels, read_labels
from visavis.models.own_code import raised
from visavis.models.preprocessing import CentreCrop
from visavis.models.registry import source_of

_DEFAULTS = CentreCrop()
# What models raise, among much else, on pictures of a size that they do not take.
_OF_SHAPES = (RuntimeError, ValueError, AssertionError, IndexError)
#: What the digest of the class names is called among the words of a run.
_NAMES = "class names"


@dataclass(frozen=True)
class ModelOptions:
    """What is given along with a model's name, in place of what it brings.

    Attributes:
        weights: a file with a state dict; see `visavis.models.weights.read_weights`.
        labels: a file of class names; see `visavis.labels.read_labels`.
        size: the side, in pixels, of the square that pictures are cropped to; see `CentreCrop`.
        mean, std: of each of the three colours, likewise.
    """

    weights: str | None = None
    labels: str | None = None
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.weights, self.labels)) or self._of_pictures

    @property
    def _of_pictures(self) -> bool:
        return any(value is not None for value in (self.size, self.mean, self.std))

    def arguments(self, model: str) -> dict[str, Any]:
        """Return what `load_model` takes beside the name; files of labels are read, those of weights are not.

        Raises:
            InputError: the labels cannot be read, a value is out of its range, or the model brings its own
                preprocessing.
            ModelError: no source has models of such a name.
        """
        source, _ = source_of(model)
        given: dict[str, Any] = {}
        if self.weights is not None:
            given["weights"] = self.weights
        if self.labels is not None:
            given["labels"] = _labels(self.labels)
        if self._of_pictures:
            if self.weights is None and not source.runs_code:
                raise InputError(f"--size, --mean and --std are for a model of your own, but {model!r} brings its own")
            given["preprocess"] = CentreCrop(
                size=_DEFAULTS.size if self.size is None else self.size,
                mean=_DEFAULTS.mean if self.mean is None else self.mean,
                std=_DEFAULTS.std if self.std is None else self.std,
            )
        return given

    def words(self) -> dict[str, Any]:
        """Return what is given, as JSON can hold it; of the class names also a digest, for their file may change.

        Raises:
            InputError: the labels cannot be read.
        """
        fields = {"weights": self.weights, "labels": self.labels, "size": self.size, "mean": self.mean, "std": self.std}
        words = {name: value for name, value in fields.items() if value is not None}
        if self.labels is not None:
            names = "\n".join(_labels(self.labels).names)
            words[_NAMES] = hashlib.sha256(names.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return words

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> ModelOptions:
        """Return the options that `words` told.

        Raises:
            InputError: the file of labels is gone, or names other classes by now.
        """
        colours = {name: tuple(words[name]) for name in ("mean", "std") if words.get(name) is not None}
        options = cls(words.get("weights"), words.get("labels"), words.get("size"), **colours)
        if options.words().get(_NAMES) != words.get(_NAMES):
            raise InputError(f"'{options.labels}' names other classes than when the run was begun")
        return options


def _labels(path: str) -> Labels:
    labels = read_labels(path)
    if labels[0].startswith("{") and labels[len(labels) - 1].endswith("}"):
        raise InputError(
            f"the labels in {path!r} are a JSON object; write the names in order, one a line or a JSON list"
        )
    return labels


@contextlib.contextmanager
def running(classifier: Classifier, model: str, size: int | None) -> Iterator[None]:
    """Turn what a model, or its preprocessing, raises while it runs into one sentence.

    Args:
        classifier: the model.
        model: its name, as it was loaded by.
        size: of the pictures, where it was given.

    Raises:
        ModelError: whatever was raised inside, but for what is a sentence already.
    """
    own = source_of(model)[0].runs_code
    try:
        yield
    except (Exception, SystemExit) as caught:
        error: BaseException = caught
        if isinstance(caught, VisavisError):
            # Of what torch raises in a model's forward the engine has made a sentence; what lies beneath says where.
            if not (own and isinstance(caught, ModelError) and type(caught.__cause__) is RuntimeError):
                raise
            error = caught.__cause__
        crop, hint = classifier.preprocess, ""
        if own and type(error) in _OF_SHAPES and size is None and isinstance(crop, CentreCrop):
            hint = f"; pictures came as {crop.size} × {crop.size} pixels: if the model takes another size, pass --size"
        raise ModelError(f"the model {classifier.name} raised {raised(error)}{hint}") from error


__all__ = ["ModelOptions", "running"]

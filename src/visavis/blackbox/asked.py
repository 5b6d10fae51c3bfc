"""What a classifier says of rows: any estimator in the manner of scikit-learn, any function, any torch module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import isnan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, is_regressor
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

from visavis.blackbox.rows import Rows
from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError, VisavisError
from visavis.methods.base import MODES
from visavis.modules import refuse_unexplainable
from visavis.outputs import logits_of

Labels = NDArray[Any]
# Rows that a classifier is asked about at a time; a module holds all that lies between in memory.
_AT_ONCE, BY_MODULE = 65_536, 512


class Asked:
    """A classifier as a function of rows (n, d) that gives labels (n,).

    Args:
        classifier: an object with `predict`, a callable, an `nn.Module` that gives logits (n, classes), or a
            `visavis.Classifier`.
        shape: of one item, without the batch; rows are given to a module in this shape.
        frame: makes of an array what the classifier was shown, such as a data frame; by itself the array.

    Raises:
        InputError: it is none of these.
    """

    def __init__(self, classifier: object, shape: tuple[int, ...], frame: Callable[[Rows], Any] | None = None) -> None:
        self.module = module_of(classifier)
        self._shape = shape
        self._kind: str | None = None
        self._frame = frame
        self._names = None if self.module is None else class_names(classifier)
        if self.module is not None:
            check_module(self.module)
        predict = getattr(classifier, "predict", None)
        self._answer = predict if callable(predict) else classifier
        if _predicts_numbers(classifier):
            raise InputError(
                f"the classifier is {_kind(classifier)}, a regressor, but classes were expected; give a function that "
                "says from which value on it is another class"
            )
        if self.module is None and (isinstance(classifier, type) or not callable(self._answer)):
            raise InputError(
                f"the classifier is {_kind(classifier)}, but an estimator with `predict`, a function from rows to "
                "labels, or a torch module was expected"
            )

    def __call__(self, rows: Rows) -> Labels:
        """Return the label of each row.

        Raises:
            InputError: what the classifier gives is no label for each row.
        """
        parts = [self._part(rows[start : start + _AT_ONCE]) for start in range(0, max(1, len(rows)), _AT_ONCE)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, rows: Rows) -> Labels:
        if self.module is not None:
            indices = scores_of(self.module, rows, self._shape).argmax(1).cpu().numpy()
            return indices if self._names is None else np.array(self._names, dtype=str)[indices]
        answer: Any = self._answer
        # A classifier that writes into its argument must not change what is explained.
        given = rows.copy() if self._shape == rows.shape[1:] else rows.reshape(-1, *self._shape).copy()
        try:
            said = answer(given if self._frame is None else self._frame(given))
        except NotFittedError as error:
            raise InputError(f"the classifier is not fitted ({error}); fit it before it is explained") from error
        found = checked_labels(said, len(rows))
        kind = "text" if found.dtype.kind in "US" else "numbers"
        self._kind = self._kind or kind
        if kind != self._kind:
            raise InputError(f"the classifier gave labels that are {self._kind} before, and now {kind}; use one kind")
        return found


def checked_labels(given: object, count: int) -> Labels:
    """Return labels as an array (count,).

    Raises:
        InputError: they are not one a row, or no labels of classes.
    """
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = (given.double() if given.is_floating_point() else given).numpy()
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise InputError("the classifier gives no label for some rows, which are masked; each row needs one")
    try:
        labels = np.asarray(given)
    except ValueError as error:
        raise InputError(f"the classifier gives what is no label for each row ({error})") from error
    if labels.ndim == 2 and labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.shape != (count,):
        several = labels.ndim == 2 and len(labels) == count
        advice = "; of scores give the class: lambda rows: f(rows).argmax(1)" if several else ""
        raise InputError(
            f"the classifier gives {labels.shape} for {count} rows, but one label a row was expected{advice}"
        )
    if labels.dtype.kind == "O":
        if any(one is None or (isinstance(one, float) and isnan(one)) for one in labels):
            raise InputError("the classifier gives no label for some rows; each row needs one")
        kinds = {type(one) for one in labels}
        if len(kinds) > 1:
            raise InputError(
                f"the labels are of several kinds ({', '.join(sorted(k.__name__ for k in kinds))}); use one"
            )
        if not kinds <= {str, int, bool, bytes}:
            named = ", ".join(kind.__name__ for kind in kinds)
            raise InputError(
                f"the labels are of the kind {named}, but text, whole numbers or truth values were expected"
            )
        labels = np.array(labels.tolist())
    if labels.dtype.kind in "mM" and np.isnat(labels).any():
        raise InputError("the classifier gives no label for some rows; each row needs one")
    if labels.dtype.kind == "V":
        raise InputError(f"the labels are of type {labels.dtype}, but text or whole numbers were expected")
    if labels.dtype.kind in "fc" and not (np.isfinite(labels).all() and (labels == np.round(labels.real)).all()):
        raise InputError(
            "the classifier gives numbers that are no whole ones, as a regression does (Unknown label type: "
            "continuous); explanation vectors need classes, so say from which value on it is another"
        )
    return labels


def module_of(classifier: object) -> nn.Module | None:
    """Return the torch module of a classifier, or None where it is something else."""
    if isinstance(classifier, Classifier):
        return classifier.module
    return classifier if isinstance(classifier, nn.Module) else None


def _predicts_numbers(classifier: object) -> bool:
    """Whether this is an estimator that predicts numbers and no classes."""
    return isinstance(classifier, BaseEstimator) and bool(is_regressor(classifier))


def class_names(classifier: object) -> list[str] | None:
    """Return the names of a `Classifier`'s classes, each with its number where two have one name; None without."""
    if not isinstance(classifier, Classifier) or classifier.labels is None:
        return None
    names = [classifier.labels[place] for place in range(len(classifier.labels))]
    often = Counter(names)
    return [f"{name} ({place})" if often[name] > 1 else name for place, name in enumerate(names)]


def check_module(module: nn.Module) -> None:
    """Refuse a module that hides what it computes, or whose answers depend on chance or on the batch.

    Raises:
        ModelError: it does.
    """
    refuse_unexplainable(module)
    training = next((path for path, part in module.named_modules() if isinstance(part, MODES) and part.training), None)
    if training is not None:
        what = f"its part {training!r}" if training else "the module"
        raise ModelError(f"{what} is in training mode, in which answers depend on chance; call .eval() on it first")


def scores_of(module: nn.Module, rows: Rows, shape: tuple[int, ...]) -> Tensor:
    """Return the logits of rows, (n, classes), at least two, without a graph.

    Raises:
        ModelError: the module fails, or gives no finite logits of each row.
    """
    parts = []
    with torch.no_grad():
        for start in range(0, max(1, len(rows)), BY_MODULE):
            given = as_input(module, rows[start : start + BY_MODULE], shape)
            count = len(given)
            try:
                found = logits_of(module(given))
            except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
                if isinstance(error, VisavisError):
                    raise
                said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                raise ModelError(f"the module fails on rows of shape {tuple(given.shape)} ({said})") from error
            scores = two_columns(found)
            if len(scores) != count:
                raise ModelError(
                    f"the module gives {tuple(found.shape)} for {count} rows, but logits (n, classes) were expected"
                )
            parts.append(scores)
    scores = torch.cat(parts)
    if not bool(scores.isfinite().all()):
        raise ModelError("the module gives logits that are NaN or infinite; find out where they arise")
    return scores


def two_columns(scores: Tensor) -> Tensor:
    """Return logits (B, classes), of one score (B,) or (B, 1) the logits (0, score)."""
    flat = scores[:, None] if scores.dim() == 1 else scores
    if flat.dim() != 2 or not flat.shape[1] or not flat.is_floating_point():
        raise ModelError(
            f"the module gives {scores.dtype} {tuple(scores.shape)}, but logits (n, classes) were expected"
        )
    return torch.cat([torch.zeros_like(flat), flat], 1) if flat.shape[1] == 1 else flat


def as_input(module: nn.Module, rows: Rows, shape: tuple[int, ...]) -> Tensor:
    """Return rows as a module takes them: of its shape, type and device."""
    one = next(iter((*module.parameters(), *module.buffers())), None)
    dtype = one.dtype if one is not None and one.dtype.is_floating_point else torch.float64
    device = one.device if one is not None else torch.device("cpu")
    return torch.tensor(rows, dtype=dtype).reshape(-1, *shape).to(device)


def _kind(thing: object) -> str:
    return f"a {type(thing).__name__}" if not isinstance(thing, type) else f"the class {thing.__name__} itself"


__all__ = [
    "BY_MODULE",
    "Asked",
    "Labels",
    "as_input",
    "check_module",
    "checked_labels",
    "class_names",
    "module_of",
    "scores_of",
    "two_columns",
]

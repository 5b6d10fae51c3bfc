"""Classifiers whose gradient is known, so that no mimic is needed: one entry each in one registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visavis.blackbox.asked import BY_MODULE, as_input, check_module, class_names, module_of, scores_of, two_columns
from visavis.blackbox.gaussian_process import GaussianProcess
from visavis.blackbox.rows import NotFittedYetError, Rows, check_fitted
from visavis.blackbox.source import Source
from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.methods import Gradient


@dataclass(frozen=True)
class Exact:
    """A source of gradients, and the classes in the order of its probabilities.

    Attributes:
        source: of gradients.
        classes: their labels.
        said: what it is, in words.
    """

    source: Source
    classes: Any
    said: str


#: Takes a classifier and the shape of an item to its exact source; None where this classifier is none of its kind.
Build = Callable[[Any, tuple[int, ...]], Exact | None]
_BUILDS: dict[str, Build] = {}
# How many rows are compared with what the classifier says itself, and how far apart both may be.
_COMPARED, _APART, _SEEN, _LOG_APART = 128, 1e-6, 1e-7, 1e-3


def register_exact(name: str, build: Build) -> None:
    """Enter a kind of classifier whose gradient is known.

    Args:
        name: of the kind.
        build: takes a classifier and the shape of an item, and returns None for all others.

    Raises:
        InputError: the name is taken.
    """
    if name in _BUILDS:
        raise InputError(f"{name!r} is already registered")
    _BUILDS[name] = build


def exact_kinds() -> tuple[str, ...]:
    """Return the kinds of classifiers whose gradient is known."""
    return tuple(_BUILDS)


def exact_source(
    classifier: object, shape: tuple[int, ...], rows: Rows, frame: Callable[[Rows], Any] | None = None
) -> Exact | None:
    """Return the exact source of a classifier, or None where none is known.

    What a source says of rows is compared with the classifier's own `predict_proba` where it has one: of a source that
    differs, the gradients are not the classifier's.

    Args:
        classifier: any.
        shape: of one item.
        rows: (n, d), some of what it is asked about.
        frame: makes of rows what the classifier was shown.
    """
    found = _built(classifier, shape)
    if found is None:
        return None
    asked = _compared(rows)
    shown = asked.copy() if frame is None else frame(asked.copy())
    return found if _same(classifier, found, shown, asked) else None


def _built(classifier: object, shape: tuple[int, ...]) -> Exact | None:
    """Return the source of the first kind that a classifier is of, not yet held up to what it says itself."""
    found = (build(classifier, shape) for build in _BUILDS.values())
    return next((one for one in found if one is not None), None)


def _compared(rows: Rows) -> Rows:
    """Return some of the rows, from the first to the last, and places halfway between two: where none is sure."""
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _COMPARED)).round().astype(int)]
    return np.concatenate([some, (some + some[::-1]) / 2, (some + np.roll(some, len(some) // 3, 0)) / 2])


def _same(classifier: Any, found: Exact, shown: Any, rows: Rows) -> bool:
    if isinstance(classifier, (Source, nn.Module, Classifier)):
        return True
    own = np.asarray(classifier.predict_proba(shown), dtype=np.float64)
    ours = found.source.log_probabilities(torch.tensor(rows)).exp().numpy()
    if own.shape != ours.shape or not np.isfinite(own).all():
        return False
    # A probability that is next to 0 in both says little by its difference.
    seen = np.minimum(own, ours) > _SEEN
    near = np.abs(np.log(own[seen]) - np.log(ours[seen]))
    return bool(np.abs(own - ours).max() < _APART) and bool((near < _LOG_APART).all())


class ModuleSource(Source):
    """A torch module that gives logits, (B, classes), or one, (B,) or (B, 1), whose sigmoid is the second class's
    probability: softmax, and the gradient by the method `Gradient`.

    Args:
        classifier: the module.
        shape: of one item.
    """

    def __init__(self, classifier: nn.Module | Classifier, shape: tuple[int, ...]) -> None:
        module = module_of(classifier)
        if module is None:
            raise InputError(f"a torch module was expected, not {type(classifier).__name__}")
        check_module(module)
        self._module = module
        self._shape = shape
        self._method = Gradient(module)
        precision = as_input(module, np.zeros((1, int(np.prod(shape)))), shape).dtype
        # Where the difference of two gradients keeps most digits: at the cube root of what a float resolves.
        self.step = max(self.step, torch.finfo(precision).eps ** (1 / 3))

    def log_probabilities(self, rows: Tensor) -> Tensor:
        scores = scores_of(self._module, rows.cpu().numpy(), self._shape)
        return scores.double().to(rows.device).log_softmax(1)

    def log_odds_gradient(self, rows: Tensor, target: Tensor, foils: Tensor) -> Tensor:
        # What lies between a module's input and output is held for all rows at once.
        parts = zip(*(torch.split(one, BY_MODULE) for one in (rows, target, foils)), strict=True)
        return torch.cat([self._gradient(*part) for part in parts])

    def _gradient(self, rows: Tensor, target: Tensor, foils: Tensor) -> Tensor:
        def seed(scores: Tensor) -> Tensor:
            known = two_columns(scores)
            chosen = torch.nn.functional.one_hot(target.to(scores.device), known.shape[1]).to(scores)
            others = known.masked_fill(~foils.to(scores.device), -torch.inf).softmax(1)
            # Of one score s for the logits (0, s), the gradient is that of the second.
            return (chosen - others)[:, -scores.shape[1] :].reshape(scores.shape)

        found = self._method.attribute(self._input(rows), target=seed)
        if not isinstance(found, Tensor):
            raise InputError("a module of one input was expected")
        return found.detach().reshape(len(rows), -1).to(rows)

    def _input(self, rows: Tensor) -> Tensor:
        return as_input(self._module, rows.cpu().numpy(), self._shape)


def _of_module(classifier: object, shape: tuple[int, ...]) -> Exact | None:
    if not isinstance(classifier, (nn.Module, Classifier)):
        return None
    source = ModuleSource(classifier, shape)
    count = source.log_probabilities(torch.zeros(2, int(np.prod(shape)), dtype=torch.float64)).shape[1]
    labels = class_names(classifier)
    if labels is not None and len(labels) != count:
        raise ModelError(f"the module gives {count} classes, but {len(labels)} labels came")
    names = np.arange(count) if labels is None else np.array(labels, dtype=str)
    return Exact(source, names, "the module's own gradient")


def _of_source(classifier: object, shape: tuple[int, ...]) -> Exact | None:
    if not isinstance(classifier, GaussianProcess):
        return None
    return Exact(classifier, classifier.classes_, "the Gaussian process's closed form")


def _of_gaussian_process(classifier: Any, shape: tuple[int, ...]) -> Exact | None:
    from sklearn.gaussian_process import GaussianProcessClassifier

    if type(classifier) is not GaussianProcessClassifier or not _fitted(classifier):
        return None
    if len(classifier.classes_) > 2 and classifier.multi_class != "one_vs_rest":
        return None
    try:
        found = GaussianProcess.from_sklearn(classifier)
    except InputError:
        # A kernel whose gradient is not known: the mimic asks for labels alone.
        return None
    return Exact(found, found.classes_, "the Gaussian process's closed form")


class LinearSource(Source):
    """Softmax of linear scores.

    Args:
        weight: (classes, d).
        bias: (classes,).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight, bias

    def log_probabilities(self, rows: Tensor) -> Tensor:
        return (rows @ self._weight.to(rows).T + self._bias.to(rows)).log_softmax(1)

    def log_odds_gradient(self, rows: Tensor, target: Tensor, foils: Tensor) -> Tensor:
        weight = self._weight.to(rows)
        shares = self.log_probabilities(rows).masked_fill(~foils, -torch.inf).softmax(1)
        return weight[target] - shares @ weight


def _of_logistic_regression(classifier: Any, shape: tuple[int, ...]) -> Exact | None:
    from sklearn.linear_model import LogisticRegression

    if type(classifier) is not LogisticRegression or not _fitted(classifier):
        return None
    weight, bias = (
        torch.as_tensor(np.asarray(one, dtype=np.float64)) for one in (classifier.coef_, classifier.intercept_)
    )
    if len(weight) == 1:
        weight, bias = torch.cat([0 * weight, weight]), torch.cat([0 * bias, bias])
    return Exact(LinearSource(weight, bias), classifier.classes_, "the logistic regression's closed form")


class ScaledSource(Source):
    """A source of rows that were shifted and scaled before: z = (x − shift)/scale.

    Args:
        source: of z.
        shift, scale: (d,).
    """

    def __init__(self, source: Source, shift: Tensor, scale: Tensor) -> None:
        self._source, self._shift, self._scale = source, shift, scale
        self.step = source.step

    def log_probabilities(self, rows: Tensor) -> Tensor:
        return self._source.log_probabilities((rows - self._shift.to(rows)) / self._scale.to(rows))

    def log_odds_gradient(self, rows: Tensor, target: Tensor, foils: Tensor) -> Tensor:
        inner = (rows - self._shift.to(rows)) / self._scale.to(rows)
        return self._source.log_odds_gradient(inner, target, foils) / self._scale.to(rows)


def _of_pipeline(classifier: Any, shape: tuple[int, ...]) -> Exact | None:
    """Scalers, then a classifier whose gradient is known."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

    if type(classifier) is not Pipeline or not _fitted(classifier):
        return None
    *before, last = [step for _, step in classifier.steps if step not in (None, "passthrough")]
    scalers = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)
    if any(type(step) not in scalers or getattr(step, "clip", False) for step in before):
        return None
    found = _built(last, shape)
    if found is None:
        return None
    source = found.source
    for step in reversed(before):
        source = ScaledSource(source, *_affine(step, int(np.prod(shape))))
    return Exact(source, found.classes, f"{found.said}, behind its scaling")


def _of_frozen(classifier: Any, shape: tuple[int, ...]) -> Exact | None:
    from sklearn.frozen import FrozenEstimator

    return _built(classifier.estimator, shape) if type(classifier) is FrozenEstimator else None


def _affine(step: Any, width: int) -> tuple[Tensor, Tensor]:
    """Return shift and scale of a scaler, z = (x − shift)/scale."""
    zeros, ones = np.zeros(width), np.ones(width)
    # Some are learned also where they are not used.
    unused = {"mean_": "with_mean", "center_": "with_centering"}
    if not getattr(step, "with_std", True) or not getattr(step, "with_scaling", True):
        unused["scale_"] = "with_std" if hasattr(step, "with_std") else "with_scaling"

    def known(name: str, otherwise: Rows) -> Rows:
        value = getattr(step, name, None) if getattr(step, unused.get(name, ""), True) else None
        return otherwise if value is None else np.asarray(value, dtype=np.float64)

    if hasattr(step, "data_range_"):
        # z = x · scale_ + min_
        scale = 1 / known("scale_", ones)
        shift = -known("min_", zeros) * scale
    else:
        scale = known("scale_", ones)
        shift = known("mean_", known("center_", zeros))
    return torch.from_numpy(shift), torch.from_numpy(scale)


def _fitted(classifier: Any) -> bool:
    try:
        check_fitted(classifier)
    except NotFittedYetError:
        return False
    return True


register_exact("torch module", _of_module)
register_exact("GaussianProcess", _of_source)
register_exact("GaussianProcessClassifier", _of_gaussian_process)
register_exact("LogisticRegression", _of_logistic_regression)
register_exact("FrozenEstimator of one of these", _of_frozen)
register_exact("Pipeline of scalers and one of these", _of_pipeline)

__all__ = ["Exact", "LinearSource", "ModuleSource", "ScaledSource", "exact_kinds", "exact_source", "register_exact"]

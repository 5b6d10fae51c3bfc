"""What every metric has in common: a case, who explains it, one value a case, a mean with its interval.

A metric is a pure function from maps to one value a map, and a class around it that keeps the values. The class also
says what tables need: where the metric comes from, which way is better, between what bounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.evaluation.statistics import Summary, summary
from visavis.propagation.untouched import run_untouched

#: What a metric may need of a case.
NEEDS = ("boxes", "mask", "others")


@dataclass(frozen=True, eq=False)
class Case:
    """One decision to explain: a picture as the network sees it, a class, and where the class is.

    Attributes:
        name: what tells it from every other case, such as "images/000000000139.jpg#340".
        inputs: (1, C, H, W), normalised.
        target: index of the class that is explained.
        boxes: (K, 4), about each object of that class, x0, y0, x1, y1 in pixels of `inputs`, x1 and y1 exclusive; None
            where they are not known.
        mask: (H, W), bool, where an object of that class is seen; None where it is not known.
        difficult: whether it is in the "difficult" subset: little of the picture, and not alone in it.
        others: indices of other classes, those in the picture first, for metrics that compare classes.
        picture: what tells its picture from others; cases of one picture are not independent.
    """

    name: str
    inputs: Tensor
    target: int
    boxes: Tensor | None = None
    mask: Tensor | None = None
    difficult: bool = False
    others: tuple[int, ...] = ()
    picture: str = ""

    def has(self, need: str) -> bool:
        """Whether it has what a metric needs, one of NEEDS."""
        return getattr(self, need) is not None and len(getattr(self, need)) > 0


@runtime_checkable
class Explainer(Protocol):
    """Whatever makes maps: a method with its options, or a baseline that never looks at the network."""

    @property
    def name(self) -> str:
        """What tells it from others, in files."""

    @property
    def title(self) -> str:
        """What tables call it."""

    def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return one map (B, H, W), signed, for each input (B, C, H, W) and class index (B,)."""


@dataclass
class Context:
    """Who explains whom.

    Attributes:
        classifier: the model.
        explainer: what made the heatmap.
        seed: for what is random; the same for every explainer of a case.
        kept: what a metric computes once for a model and an explainer, under a key of its own.
    """

    classifier: Classifier
    explainer: Explainer
    seed: int = 0
    kept: dict[Any, Any] = field(default_factory=dict)

    def scores(self, inputs: Tensor) -> Tensor:
        """Return the logits (B, N) of inputs (B, C, H, W)."""
        return logits_untouched(self.classifier, inputs)


def logits_untouched(classifier: Classifier, inputs: Tensor) -> Tensor:
    """Return the logits (B, N) of inputs (B, C, H, W), without gradients; the model is left as it was."""
    with run_untouched(classifier.module, inputs.device), torch.no_grad():
        return classifier(inputs)


class Values:
    """Values that were kept, and their mean."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def add(self, values: Tensor) -> Tensor:
        """Keep values (B,), one a map, for `compute`; and return them."""
        self._values += values.cpu().double().flatten().tolist()
        return values

    def compute(self) -> Summary:
        """Return the mean of all values kept, with its interval."""
        return summary(self._values)

    def reset(self) -> None:
        """Forget all values."""
        self._values.clear()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._values)} values)"


class Metric(Values, ABC):
    """One value a case, and their mean.

    Attributes:
        name: what the registry calls it.
        title: what tables call it.
        source: where it comes from: paper, section, equation.
        direction: "higher" or "lower": which is better.
        low, high: the bounds of a value; infinite where there are none.
        needs: which of NEEDS a case must have.
        axes: what the places and the heights of its curve are, where it has one.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    source: ClassVar[str]
    direction: ClassVar[str]
    low: ClassVar[float] = 0.0
    high: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[tuple[str, str]] = ("place", "mean")

    @abstractmethod
    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> Mapping[str, float]:
        """Return what a case comes to, from its map (H, W), signed: under "" the value, under other keys the points of
        a curve, if there is one. Nothing where the case has no value, as where a map of contrasts is empty of sense."""


M = TypeVar("M", bound=type[Metric])
_METRICS: dict[str, type[Metric]] = {}


def register_metric(cls: M) -> M:
    """Enter a metric under its name; the benchmark, the report and the shell know it from there.

    Raises:
        InputError: there is a metric of that name, its direction is neither "higher" nor "lower", or it needs what no
            case has.
    """
    if cls.name in _METRICS:
        raise InputError(f"there is a metric {cls.name!r} already; choose another name")
    if cls.direction not in ("higher", "lower"):
        raise InputError(f"the direction of metric {cls.name!r} is 'higher' or 'lower', not {cls.direction!r}")
    if not set(cls.needs) <= set(NEEDS):
        raise InputError(f"metric {cls.name!r} needs {', '.join(cls.needs)}, but a case has {', '.join(NEEDS)}")
    _METRICS[cls.name] = cls
    return cls


def metrics() -> dict[str, str]:
    """Return each metric's name and title."""
    return {name: cls.title for name, cls in _METRICS.items()}


def metric(name: str) -> type[Metric]:
    """Return the metric of a name.

    Raises:
        InputError: there is none.
    """
    if name not in _METRICS:
        near = get_close_matches(name, _METRICS, n=3) or list(_METRICS)
        raise InputError(f"there is no metric {name!r}; try {', '.join(near)}")
    return _METRICS[name]

"""torchvision's classifiers, with the preprocessing and labels of their default weights."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from visavis.classifier import Classifier, pixel_bounds
from visavis.labels import Labels, named_labels
from visavis.models.loading import unknown_model

_PREFIX = "torchvision:"


def names() -> list[str]:
    """All classifiers that torchvision builds, leaving out detection, segmentation and the like."""
    import torchvision.models

    return list(torchvision.models.list_models(module=torchvision.models))


def load(name: str, pretrained: bool) -> Classifier:
    """Builds a classifier; without trained weights it still takes the pictures that the weights would."""
    import torchvision.models

    if name not in names():
        raise unknown_model(name, names(), _PREFIX)
    weights: Any = torchvision.models.get_model_weights(name).DEFAULT
    module = torchvision.models.get_model(name, weights=weights) if pretrained else _untrained(name)
    preprocess = weights.transforms()
    labels = _labels(weights.meta)
    bounds = pixel_bounds(preprocess)
    return Classifier(module.eval(), preprocess=preprocess, labels=labels, bounds=bounds, name=_PREFIX + name)


def _labels(meta: dict[str, Any]) -> Labels | None:
    categories = meta.get("categories")
    return named_labels(categories) if categories else None


def _untrained(name: str) -> nn.Module:
    import torchvision.models

    with warnings.catch_warnings():
        # GoogLeNet and Inception announce that their initial weights will change.
        warnings.simplefilter("ignore", FutureWarning)
        module: nn.Module = torchvision.models.get_model(name, weights=None)
    return module

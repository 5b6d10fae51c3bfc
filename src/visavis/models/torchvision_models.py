"""torchvision's classifiers, with the preprocessing and labels of their default weights."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor, nn

from visavis.classifier import Classifier, pixel_bounds
from visavis.errors import ModelError
from visavis.labels import Labels, named_labels
from visavis.models.loading import unknown_model
from visavis.models.weights import count_classes

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


def load_for(name: str, state: dict[str, Tensor]) -> Classifier:
    """Builds an untrained classifier with as many classes as a state dict has; other than ImageNet's have no names."""
    classifier = load(name, pretrained=False)
    if hasattr(classifier.module, "transform_input"):
        raise ModelError(
            f"a file of weights does not tell whether '{_PREFIX}{name}' was trained with transform_input; write a "
            "function that builds it as it was trained, and pass MODULE:FUNCTION."
        )
    usual = len(classifier.labels or ())
    classes = count_classes(state, classifier.module, usual)
    if classes == usual:
        return classifier
    module = _untrained(name, num_classes=classes).eval()
    return Classifier(module, preprocess=classifier.preprocess, bounds=classifier.bounds, name=classifier.name)


def _labels(meta: dict[str, Any]) -> Labels | None:
    categories = meta.get("categories")
    return named_labels(categories) if categories else None


def _untrained(name: str, **options: int) -> nn.Module:
    import torchvision.models

    with warnings.catch_warnings():
        # GoogLeNet and Inception announce that their initial weights will change.
        warnings.simplefilter("ignore", FutureWarning)
        module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    return module

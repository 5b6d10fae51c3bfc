"""timm's classifiers, with the preprocessing and labels of their default weights."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

from torch import Tensor, nn

from visavis.classifier import Classifier, pixel_bounds
from visavis.errors import ModelError
from visavis.labels import Labels, imagenet_labels, named_labels
from visavis.models.loading import require_host, unknown_model
from visavis.models.weights import count_classes

_PREFIX = "timm:"
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def names() -> list[str]:
    """The architectures that have trained weights; `load` also takes a name with a tag
    ("resnet50.a1_in1k")."""
    import timm

    return list(dict.fromkeys(name.partition(".")[0] for name in timm.list_models(pretrained=True)))


def load(name: str, pretrained: bool) -> Classifier:
    """Builds a classifier by the name of its architecture, or of its architecture and weights."""
    return _load(name, pretrained)


def load_for(name: str, state: dict[str, Tensor]) -> Classifier:
    """Builds an untrained classifier with as many classes as a state dict has."""
    classifier = _load(name, pretrained=False)
    usual: int = classifier.module.num_classes  # type: ignore[assignment]
    classes = count_classes(state, classifier.module, usual)
    return classifier if classes == usual else _load(name, pretrained=False, num_classes=classes)


def _load(name: str, pretrained: bool, **options: Any) -> Classifier:
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    known = timm.list_models()
    if name not in known and name not in timm.list_models(pretrained=True):
        raise unknown_model(name, known, _PREFIX)
    if pretrained:
        _fail_fast(name)
    module = timm.create_model(name, pretrained=pretrained, **options).eval()
    if not getattr(module, "num_classes", 0):
        raise ModelError(f"'{_PREFIX}{name}' gives features and no classes; choose a classifier.")
    config: dict[str, Any] = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    preprocess: Any = create_transform(**config, is_training=False)
    bounds = pixel_bounds(preprocess)
    return Classifier(module, preprocess=preprocess, labels=_labels(module), bounds=bounds, name=_PREFIX + name)


def _fail_fast(name: str) -> None:
    """Asks for the host alone first: offline, timm tries for most of a minute before it gives up."""
    import huggingface_hub.constants
    import timm.models

    config = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    repository = getattr(config, "hf_hub_id", None)
    if not repository:
        return
    cached = (huggingface_hub.try_to_load_from_cache(repository, file) for file in _WEIGHT_FILES)
    if not any(isinstance(path, str) for path in cached):
        require_host(urlparse(huggingface_hub.constants.ENDPOINT).hostname or "huggingface.co", _PREFIX + name)


def _labels(module: nn.Module) -> Labels:
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    count: int = module.num_classes  # type: ignore[assignment]
    own = getattr(module, "pretrained_cfg", {}).get("label_names")
    if own and len(own) == count:
        return named_labels(list(own))
    subset = infer_imagenet_subset(module)
    if subset == "imagenet-1k":
        return imagenet_labels()
    if subset is None:
        return Labels.numbered(count)
    info: Any = ImageNetInfo(subset)
    descriptions = [str(info.index_to_description(index)) for index in range(count)]
    synonyms = [[word.strip() for word in description.split(",")] for description in descriptions]
    return Labels([words[0] for words in synonyms], synonyms, info.label_names())

"""Hugging Face's image classifiers; needs the package transformers (extra `hf`)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import PIL.Image
from torch import Tensor, nn

from visavis.classifier import Classifier, pixel_bounds
from visavis.errors import ModelError
from visavis.labels import Labels, named_labels
from visavis.models.loading import require_host

_PREFIX = "hf:"


def names() -> list[str]:
    """Nothing: there are too many to list."""
    return []


def load(name: str, pretrained: bool) -> Classifier:
    """Loads a repository ("microsoft/resnet-50") or a local folder: safetensors alone, and none of its
    code."""
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise ModelError(f"'{_PREFIX}{name}' needs the package transformers; run: pip install 'visavis[hf]'") from error

    _fail_fast(name)
    try:
        module = _module(transformers, name, pretrained)
        processor = transformers.AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except OSError as error:
        if not Path(name).is_dir():
            raise
        raise ModelError(f"the folder '{name}' could not be loaded: {_said(error)}.") from error
    preprocess = _Preprocess(processor)
    bounds = pixel_bounds(preprocess)
    id2label: Any = module.config.id2label  # type: ignore[union-attr]
    labels = _labels(id2label)
    return Classifier(module.eval(), preprocess=preprocess, labels=labels, bounds=bounds, name=_PREFIX + name)


def _module(transformers: Any, name: str, pretrained: bool) -> nn.Module:
    classifiers = transformers.AutoModelForImageClassification
    if not pretrained:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        untrained: nn.Module = classifiers.from_config(config, trust_remote_code=False)
        return untrained
    options = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    module: nn.Module
    module, loaded = classifiers.from_pretrained(name, **options)
    missing = sorted(loaded["missing_keys"])
    if missing:
        # transformers would have made them up: a network without its head, say, classifies at random.
        raise ModelError(
            f"'{_PREFIX}{name}' has no weights for {len(missing)} tensors of its classifier "
            f"({', '.join(missing[:3])}), which would be random; choose one that was trained to classify images."
        )
    return module


def _said(error: OSError) -> str:
    return " ".join(str(error).split()).partition(". ")[0].rstrip(".")


@dataclass(frozen=True)
class _Preprocess:
    """An image processor as a function from a picture to a tensor (C, H, W)."""

    processor: Any

    def __call__(self, picture: PIL.Image.Image) -> Tensor:
        pixels: Tensor = self.processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return pixels


def _labels(id2label: dict[int, str]) -> Labels:
    return named_labels([str(id2label[index]) for index in range(len(id2label))])


def _fail_fast(name: str) -> None:
    """Asks for the host alone first: offline, transformers tries for most of a minute before it gives up."""
    import huggingface_hub.constants
    import huggingface_hub.errors

    if Path(name).is_dir():
        return
    try:
        cached = huggingface_hub.try_to_load_from_cache(name, "config.json")
    except huggingface_hub.errors.HFValidationError as error:
        raise ModelError(f"'{name}' is no folder here, and no repository OWNER/NAME; check the name.") from error
    if isinstance(cached, str):
        return
    require_host(urlparse(huggingface_hub.constants.ENDPOINT).hostname or "huggingface.co", _PREFIX + name)

"""Hugging Face's image classifiers; needs the package transformers (extra `hf`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import PIL.Image
from torch import Tensor

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
        from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification
    except ImportError as error:
        raise ModelError(f"'{_PREFIX}{name}' needs the package transformers; run: pip install 'visavis[hf]'") from error

    _fail_fast(name)
    if pretrained:
        module = AutoModelForImageClassification.from_pretrained(name, use_safetensors=True, trust_remote_code=False)
    else:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        module = AutoModelForImageClassification.from_config(config, trust_remote_code=False)
    processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    preprocess = _Preprocess(processor)
    bounds = pixel_bounds(preprocess)
    labels = _labels(module.config.id2label)
    return Classifier(module.eval(), preprocess=preprocess, labels=labels, bounds=bounds, name=_PREFIX + name)


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

    if Path(name).is_dir() or isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str):
        return
    require_host(urlparse(huggingface_hub.constants.ENDPOINT).hostname or "huggingface.co", _PREFIX + name)

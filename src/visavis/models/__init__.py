"""Trained classifiers by name, from several sources, through one registry."""

from __future__ import annotations

from visavis.models import embedded, huggingface, pytorch_image_models, torchvision_models
from visavis.models.registry import Source, load_model, models, register_source, sources

__all__ = ["Source", "load_model", "models", "register_source", "sources"]

for _source in (
    Source("", embedded.load, embedded.names, "comes with Visavis, needs no download"),
    Source("torchvision", torchvision_models.load, torchvision_models.names, "torchvision's classifiers"),
    Source("timm", pytorch_image_models.load, pytorch_image_models.names, "PyTorch Image Models"),
    Source("hf", huggingface.load, huggingface.names, "Hugging Face, as hf:OWNER/NAME"),
):
    register_source(_source)

"""Trained classifiers by name, from several sources, through one registry."""

from __future__ import annotations

from visavis.models import embedded, huggingface, own_code, pytorch_image_models, torchvision_models
from visavis.models.registry import Source, load_model, models, register_source, source_of, sources

__all__ = ["Source", "load_model", "models", "register_source", "source_of", "sources"]

for _source in (
    Source("", embedded.load, embedded.names, "comes with Visavis, needs no download"),
    Source(
        "torchvision",
        torchvision_models.load,
        torchvision_models.names,
        "torchvision's classifiers",
        load_for=torchvision_models.load_for,
    ),
    Source(
        "timm",
        pytorch_image_models.load,
        pytorch_image_models.names,
        "PyTorch Image Models",
        load_for=pytorch_image_models.load_for,
    ),
    Source("hf", huggingface.load, huggingface.names, "Hugging Face, as hf:OWNER/NAME"),
    Source(
        "python",
        own_code.load,
        own_code.names,
        "the user's own code, as MODULE:FUNCTION",
        load_for=own_code.load_for,
        claims=own_code.claims,
        runs_code=True,
    ),
):
    register_source(_source)

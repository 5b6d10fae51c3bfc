"""Pictures made images in [0, 1], and images made the inputs of a network."""

from __future__ import annotations

from collections.abc import Callable

import PIL.Image
import torch
from torch import Tensor, nn

from visavis.classifier import Classifier, pixel_bounds
from visavis.errors import InputError
from visavis.models.preprocessing import CentreCrop

#: Makes inputs of images (B, 3, H, W) in [0, 1].
Prepare = Callable[[Tensor], Tensor]
# A colour of which each channel has its own value, and how far off a linear normalisation may be, of its range.
_PROBE = (51, 102, 204)
_NEAR = 0.02


def crop_to(size: int) -> CentreCrop:
    """Return ImageNet's centre crop, whose tensors (3, size, size) are in [0, 1].

    Raises:
        InputError: the size is below 1 or beyond 8192.
    """
    return CentreCrop(size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def whole_images(model: nn.Module | Classifier) -> Prepare:
    """Return what makes inputs of images (B, 3, H, W) in [0, 1] and keeps each pixel where it is.

    A network's own preprocessing crops, so that its maps would be of another frame than the labels of the image. Of a
    Classifier with preprocessing only the normalisation is taken; images of others are taken as they are.

    Raises:
        InputError: the preprocessing is more than a linear normalisation of each channel.
        ModelError: the bounds of its pixels cannot be told.
    """
    classifier = model if isinstance(model, Classifier) else Classifier(model)
    device, dtype = classifier.device, classifier.dtype
    if classifier.preprocess is None:
        return lambda images: images.to(device, dtype)
    low, high = pixel_bounds(classifier.preprocess)
    shown = classifier.preprocess(PIL.Image.new("RGB", (256, 256), _PROBE)).detach().float().cpu()
    found = shown[..., shown.shape[-2] // 2, shown.shape[-1] // 2].view(1, -1, 1, 1)
    expected = low + torch.tensor(_PROBE).view(1, 3, 1, 1) / 255 * (high - low)
    if found.shape != expected.shape or bool(((found - expected).abs() > _NEAR * (high - low)).any()):
        raise InputError(
            f"the preprocessing of {classifier.name} is no linear normalisation of the three channels; give "
            "prepare=..., which makes inputs of images (B, 3, H, W) in [0, 1] and does not crop"
        )
    low, span = low.to(device, dtype), (high - low).to(device, dtype)
    return lambda images: low + images.to(device, dtype) * span


__all__ = ["Prepare", "crop_to", "whole_images"]

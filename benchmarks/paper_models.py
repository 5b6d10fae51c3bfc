"""The models of the paper's experiments: weights by name or from a file, and what part of a picture they see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

import visavis as vv
from visavis.models.weights import load_weights, read_weights

GOOGLENET = "torchvision:googlenet"
FRAMES = {
    "crop": "the model's own preprocessing, as a rule the middle square",
    "resize": "the whole picture, both sides brought to the input's size",
}


@dataclass(frozen=True, eq=False)
class WholePicture:
    """Brings a picture to a size, whatever its shape, and its values to the range of a model's pixels.

    Attributes:
        size: width and height.
        low, high: of a normalised pixel, (3, 1, 1).
    """

    size: tuple[int, int]
    low: Tensor
    high: Tensor

    def __call__(self, picture: PIL.Image.Image) -> Tensor:
        """Return the tensor (3, H, W) of a picture."""
        small = picture.convert("RGB").resize(self.size, PIL.Image.Resampling.BILINEAR)
        values = torch.from_numpy(np.asarray(small, dtype=np.float32) / 255).permute(2, 0, 1)
        return self.low + (self.high - self.low) * values


def seen_whole(classifier: vv.Classifier) -> vv.Classifier:
    """Return the same model, shown whole pictures.

    Raises:
        InputError: it has no preprocessing to take the size and the range of values from.
    """
    if classifier.preprocess is None:
        raise vv.InputError(f"{classifier.name} has no preprocessing, so it takes no pictures; give it one")
    shown = classifier.preprocess(PIL.Image.new("RGB", (256, 256)))
    low, high = vv.pixel_bounds(classifier.preprocess)
    whole = WholePicture((shown.shape[-1], shown.shape[-2]), low[0], high[0])
    return vv.Classifier(
        classifier.module,
        preprocess=whole,
        labels=classifier.labels,
        bounds=(low, high),
        name=f"{classifier.name}, whole picture",
    )


def load(name: str, weights: Path | None, device: str | None) -> vv.Classifier:
    """Load a model by name, with torchvision's weights or those in a file, which are read as data only.

    A file for GoogLeNet is taken as torchvision's own: trained with transform_input, auxiliary classifiers left out.
    """
    if weights is None or name != GOOGLENET:
        return vv.load_model(name, device=device, weights=weights)
    state = {key: tensor for key, tensor in read_weights(weights).items() if not key.startswith("aux")}
    classifier = vv.load_model(name, device=device, pretrained=False)
    module: Any = classifier.module
    module.transform_input, module.aux_logits, module.aux1, module.aux2 = True, False, None, None
    load_weights(module, state, weights, name)
    classifier.name = f"{name} ({weights.name})"
    return classifier

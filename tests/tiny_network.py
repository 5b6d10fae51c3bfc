"""A network of a few weights for the generated scenes; a model as `FILE.py:build` names it, too."""

from __future__ import annotations

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

import visavis as vv
from visavis.datasets import SHAPES

SIDE = 12


def to_tensor(picture: PIL.Image.Image) -> Tensor:
    small = picture.resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255).permute(2, 0, 1)


def build(seed: int = 1) -> vv.Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, len(SHAPES))
    module = nn.Sequential(*layers).eval()
    return vv.Classifier(module, preprocess=to_tensor, labels=list(SHAPES), bounds=(0.0, 1.0), name="toy")

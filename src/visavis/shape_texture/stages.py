"""The stages of a network: the last layer of each resolution, as Islam et al. 2021 compare f1 to f5 of a ResNet."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.shape_texture.features import frozen
from visavis.units.last import layers_with_positions

# Where all layers are of one resolution, as a transformer's, so many of its blocks.
_BLOCKS = 5
_FEW = 3
# "blocks.7" and "encoder.layers.encoder_layer_7" are the seventh of their kind.
_NUMBERED = re.compile(r"(.*?)[0-9]+")
# By how much a map's height to width may differ from the images', which padding and rounding do.
_ALIKE = 1.3


def stages(model: nn.Module | Classifier, inputs: Tensor) -> list[str]:
    """Return the path of the layer that returns last of each resolution, in the order of the forward pass.

    Of a network with fewer than three resolutions, such as a transformer: five of its blocks, evenly spaced, the last
    among them.

    Args:
        model: run in eval mode whatever mode it is in, and left as it was.
        inputs: (B, C, H, W), to run it on.

    Raises:
        InputError: no layer that is called once returns maps or tokens.
        ModelError: the model fails.
    """
    module = model.module if isinstance(model, Classifier) else model
    with frozen(module, inputs.device):
        found = layers_with_positions(module, inputs)
    if not found:
        raise InputError(f"{type(module).__name__} has no layer with positions that is called once; name its layers")
    by_size: dict[int, list[str]] = {}
    for path, shape in found.items():
        by_size.setdefault(_positions(shape, inputs.shape), []).append(path)
    by_size.pop(0, None)
    if len(by_size) >= _FEW:
        return sorted(map(_last, by_size.values()), key=list(found).index)
    return _blocks(found)


def _last(paths: list[str]) -> str:
    """Return the last of layers that is no part of a block's inside: what a block does before it makes maps smaller."""
    depth = min(path.count(".") for path in paths) + 1
    return [path for path in paths if path.count(".") <= depth][-1]


def _positions(shape: torch.Size, images: torch.Size) -> int:
    """Return how many positions there are of maps (B, N, h, w) or (B, h, w, N), which look as the images do, and of
    tokens (B, T, N); 0 of all else, such as attention heads (B, heads, T, n)."""
    if len(shape) == 3:
        return shape[1]
    if len(shape) != 4 or len(images) != 4:
        return 0
    ratio = images[2] / images[3]
    for height, width in ((shape[2], shape[3]), (shape[1], shape[2])):
        if 1 / _ALIKE < height / width / ratio < _ALIKE:
            return height * width
    return 0


def _blocks(found: dict[str, torch.Size]) -> list[str]:
    """Return evenly spaced layers of one kind, those numbered alike: the outermost that are enough, else the most."""
    numbered: dict[str, list[str]] = {}
    for path in found:
        name = _NUMBERED.fullmatch(path)
        if name is not None:
            numbered.setdefault(name[1], []).append(path)
    kinds = sorted(numbered.values(), key=lambda paths: (paths[0].count("."), -len(paths)))
    enough = [paths for paths in kinds if len(paths) >= _BLOCKS]
    chosen = enough[0] if enough else max(kinds, key=len, default=list(found))
    count = min(_BLOCKS, len(chosen))
    return [chosen[round((step + 1) * len(chosen) / count) - 1] for step in range(count)]


__all__ = ["stages"]

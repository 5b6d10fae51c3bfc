"""When in training shape and texture come to be encoded: dimensionality over the checkpoints of a run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from visavis.classifier import Classifier
from visavis.datasets.layout import entries, folder_at, holdings, inside
from visavis.errors import InputError, ModelError
from visavis.models.weights import load_weights, read_weights
from visavis.shape_texture.dimensionality import Dimensionality
from visavis.shape_texture.encoded import layer_dimensionality
from visavis.shape_texture.encoders import copy_of
from visavis.shape_texture.options import Progress
from visavis.shape_texture.pairs import Pairs
from visavis.units.layer import Layer

ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a network at one time of its training.

    Attributes:
        path: the file.
        step: the last number in its name, such as an epoch; None: it has none.
    """

    path: Path
    step: int | None

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem


def checkpoints_in(folder: str | os.PathLike[str]) -> list[Checkpoint]:
    """Return the checkpoints of a folder, by the numbers in their names: epoch-9 comes before epoch-10.

    Raises:
        InputError: there is no such folder, or no file of weights in it; one is a link that leads out.
    """
    place = folder_at(folder, "checkpoints")
    names = [name for name in entries(place) if not name.startswith(".") and Path(name).suffix.lower() in ENDINGS]
    files = [inside(place, name, place) for name in names]
    if not files:
        raise InputError(
            f"'{place}' has no checkpoints: files {', '.join(ENDINGS)} were expected, but {holdings(place)}"
        )
    found = []
    for file in sorted(files, key=_natural):
        numbers = _NUMBER.findall(file.stem)
        found.append(Checkpoint(file, int(numbers[-1]) if numbers else None))
    return found


def checkpoint_dimensionality(
    model: nn.Module | Classifier,
    checkpoints: Sequence[Checkpoint],
    layers: Sequence[str | Layer],
    pairs: Pairs,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, dict[str, Dimensionality]]:
    """Estimate the dimensionality of layers at each checkpoint, from the same pairs.

    Args:
        model: the architecture; it is left as it was, for the weights go into a copy.
        checkpoints: in order, as `checkpoints_in` returns them. State dicts, loaded as data only.
        layers, pairs: as for `layer_dimensionality`.
        progress: is told how many checkpoints are done, of how many, and which is at work.
        options: further ones of `layer_dimensionality`.

    Returns:
        By the checkpoint's name, by the path of the layer.

    Raises:
        InputError: there are no checkpoints, two of one name, or as for `layer_dimensionality`.
        ModelError: weights cannot be read, are not finite, or do not fit; or the model cannot be copied.
    """
    if not checkpoints:
        raise InputError("there are no checkpoints; give at least one")
    twice = [one.name for one in checkpoints]
    if len(set(twice)) < len(twice):
        raise InputError("two checkpoints have one name; give each a name of its own")
    found: dict[str, dict[str, Dimensionality]] = {}
    for done, (one, loaded) in enumerate(_loaded(model, checkpoints)):
        if progress is not None:
            progress(done, len(checkpoints), one.name)
        found[one.name] = layer_dimensionality(loaded, layers, pairs, **options)
    if progress is not None:
        progress(len(checkpoints), len(checkpoints), checkpoints[-1].name)
    return found


def by_layer(found: Mapping[str, Mapping[str, Dimensionality]]) -> dict[str, list[Dimensionality]]:
    """Return what was found by the layer, each a list over the checkpoints."""
    layers = list(next(iter(found.values()))) if found else []
    return {layer: [each[layer] for each in found.values()] for layer in layers}


def _loaded(
    model: nn.Module | Classifier, checkpoints: Sequence[Checkpoint]
) -> Iterator[tuple[Checkpoint, nn.Module | Classifier]]:
    own = copy_of(model)
    module = own.module if isinstance(own, Classifier) else own
    name = own.name if isinstance(own, Classifier) else type(own).__name__
    for one in checkpoints:
        load_weights(module, read_weights(one.path), one.path, name)
        broken = next((key for key, each in module.named_parameters() if not bool(each.isfinite().all())), None)
        if broken is not None:
            raise ModelError(f"the weights in '{one.path}' hold NaN or infinity, in '{broken}'; leave that file out")
        yield one, own


def _natural(file: Path) -> list[tuple[int, int, str]]:
    """A key by which numbers in names count as numbers."""
    parts = re.split(r"(\d+)", file.name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


__all__ = ["ENDINGS", "Checkpoint", "by_layer", "checkpoint_dimensionality", "checkpoints_in"]

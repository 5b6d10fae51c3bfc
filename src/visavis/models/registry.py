"""The one list of the sources that models are loaded from: load_model(), models() and the shell all read
it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from visavis.classifier import Classifier, Preprocess, pixel_bounds
from visavis.devices import choose_device
from visavis.errors import InputError, ModelError
from visavis.labels import Labels
from visavis.models.loading import loading, unknown_model
from visavis.models.weights import load_weights, read_weights

# Of a name that cannot be found, in characters: errors repeat it.
_LONGEST = 160


@dataclass(frozen=True)
class Source:
    """Where models come from.

    Attributes:
        prefix: What stands before the colon in a model's name; "" for the models that Visavis brings along.
        load: Maps a name without prefix, and whether trained weights are wanted, to a `Classifier` in eval
            mode on the CPU. What it raises becomes a `ModelError`.
        names: Lists the names without prefix that `load` takes; empty where they cannot be listed.
        description: One line for people.
        load_for: Builds the named architecture, untrained, for a state dict of the user's own, which is loaded into
            it afterwards; None where the weights belong to the name.
        claims: Whether a whole name is the source's although it begins with no known prefix.
        runs_code: Whether loading runs code that the name chooses, of which people are told beforehand.
    """

    prefix: str
    load: Callable[[str, bool], Classifier]
    names: Callable[[], Sequence[str]]
    description: str
    load_for: Callable[[str, dict[str, Tensor]], Classifier] | None = None
    claims: Callable[[str], bool] | None = None
    runs_code: bool = False

    def full_name(self, name: str) -> str:
        """The name with its prefix, as `load_model` takes it."""
        return f"{self.prefix}:{name}" if self.prefix else name


_SOURCES: dict[str, Source] = {}


def register_source(source: Source) -> None:
    """Adds a source of models under its prefix.

    Raises:
        InputError: The prefix is taken, or has a colon.
    """
    if source.prefix in _SOURCES:
        raise InputError(f"the prefix '{source.prefix}' already has a source of models; choose another.")
    if ":" in source.prefix:
        raise InputError(f"the prefix '{source.prefix}' has a colon; leave it out.")
    _SOURCES[source.prefix] = source


def sources() -> list[Source]:
    """All sources of models, the one that needs no download first."""
    return list(_SOURCES.values())


def models() -> list[str]:
    """The names that `load_model` takes, source by source.

    Of Hugging Face's models ("hf:OWNER/NAME") there is no list.
    """
    return [source.full_name(name) for source in sources() for name in source.names()]


def load_model(
    name: str,
    *,
    device: str | torch.device | None = None,
    pretrained: bool = True,
    weights: str | os.PathLike[str] | None = None,
    labels: Labels | Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
) -> Classifier:
    """Loads a model with its preprocessing, labels and pixel bounds, in eval mode.

    Args:
        name: "efficientnet_lite0", which needs no download; or "torchvision:NAME", "timm:NAME",
            "hf:OWNER/NAME"; or "MODULE:FUNCTION", where FUNCTION takes no arguments and returns an nn.Module or a
            Classifier. The last runs that code, which stands in the current folder or the environment: never take
            such a name from a stranger.
        device: Where to put it; by default the best that this machine has (cuda, mps, cpu).
        pretrained: Whether to load trained weights. Without, they are drawn from torch's random numbers as
            these stand: call `torch.manual_seed` first for the same weights again. A function of the user's own
            decides for itself.
        weights: A file with a state dict of the user's own, for torchvision's and timm's architectures and the
            user's, in place of trained weights; see `visavis.models.weights.read_weights`. The number of classes is
            read from it.
        labels: Class names in place of the model's own.
        preprocess: A function from a PIL picture to a tensor (C, H, W), in place of the model's own; a plain nn.Module
            of the user's gets ImageNet's, `visavis.CentreCrop()`; for a network that takes 64 × 64 pixels pass
            `visavis.CentreCrop(64)`.

    Raises:
        ModelError: The name or device is unknown, a package is missing, the weights cannot be had or do not fit, or
            the user's code failed.
        InputError: The labels are malformed.
    """
    if not isinstance(name, str):
        raise ModelError(f"a model is loaded by its name, but this is of type {type(name).__name__}; pass a string.")
    chosen = choose_device(device)
    source, short = source_of(name)
    if not short:
        example = source.full_name("NAME") if source.prefix else _bundled()
        raise ModelError(f"'{name}' names no model; write it as {example}.")
    _check_bare_name(source, short)
    with loading(name):
        classifier = source.load(short, pretrained) if weights is None else _with_weights(source, short, weights)
        return _with(classifier, labels, preprocess).to(chosen)


def source_of(name: str) -> tuple[Source, str]:
    """The source that a name belongs to, and the name as that source takes it.

    Raises:
        ModelError: No source has such names.
    """
    prefix, colon, rest = name.partition(":")
    if not colon:
        return _SOURCES[""], name
    if prefix and prefix in _SOURCES:
        return _SOURCES[prefix], rest
    for source in sources():
        if source.claims is not None and source.claims(name):
            return source, name
    name, prefix = _short(name), _short(prefix)
    known = ", ".join(f"{source.prefix}:" for source in sources() if source.prefix and source.claims is None)
    raise ModelError(
        f"'{name}' has the unknown prefix '{prefix}:', and there is no Python module '{name.rpartition(':')[0]}' in "
        f"this folder or the environment; use {known} or a name without one ({_bundled()})."
    )


def _short(name: str) -> str:
    """A name as a sentence can hold it."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 4 :]}"


def _with_weights(source: Source, name: str, path: str | os.PathLike[str]) -> Classifier:
    """The architecture of that name with the user's weights, which its own name then tells."""
    if source.load_for is None:
        raise ModelError(
            f"'{source.full_name(name)}' comes with weights of its own; name the architecture that '{path}' is for, as "
            "torchvision:NAME, timm:NAME or MODULE:FUNCTION."
        )
    state = read_weights(path)
    classifier = copy.copy(source.load_for(name, state))
    load_weights(classifier.module, state, path, classifier.name)
    classifier.name = f"{classifier.name} ({Path(path).name})"
    return classifier


def _with(classifier: Classifier, labels: Labels | Sequence[str] | None, preprocess: Preprocess | None) -> Classifier:
    """The classifier, with what the user gives in place of its own."""
    if preprocess is not None:
        bounds = pixel_bounds(preprocess)
        classifier = Classifier(
            classifier.module, preprocess=preprocess, labels=classifier.labels, bounds=bounds, name=classifier.name
        )
    if labels is not None:
        classifier = copy.copy(classifier)
        classifier.labels = labels if isinstance(labels, Labels) else Labels(labels)
    return classifier


def _check_bare_name(source: Source, name: str) -> None:
    """For a name without a prefix, says where a model of this name can be had."""
    if source.prefix or name in source.names():
        return
    elsewhere = [other.full_name(name) for other in sources() if other.prefix and name in other.names()]
    if elsewhere:
        raise ModelError(f"there is no model '{name}' without a prefix; did you mean {' or '.join(elsewhere)}?")
    raise unknown_model(name, models(), "")


def _bundled() -> str:
    return ", ".join(_SOURCES[""].names())

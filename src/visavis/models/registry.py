"""The one list of the sources that models are loaded from: load_model(), models() and the shell all read
it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from visavis.classifier import Classifier
from visavis.devices import choose_device
from visavis.errors import InputError, ModelError
from visavis.models.loading import loading, unknown_model


@dataclass(frozen=True)
class Source:
    """Where models come from.

    Attributes:
        prefix: What stands before the colon in a model's name; "" for the models that Visavis brings along.
        load: Maps a name without prefix, and whether trained weights are wanted, to a `Classifier` in eval
            mode on the CPU. What it raises becomes a `ModelError`.
        names: Lists the names without prefix that `load` takes; empty where they cannot be listed.
        description: One line for people.
    """

    prefix: str
    load: Callable[[str, bool], Classifier]
    names: Callable[[], Sequence[str]]
    description: str

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


def load_model(name: str, *, device: str | torch.device | None = None, pretrained: bool = True) -> Classifier:
    """Loads a model with its preprocessing, labels and pixel bounds, in eval mode.

    Args:
        name: "efficientnet_lite0", which needs no download; or "torchvision:NAME", "timm:NAME",
            "hf:OWNER/NAME".
        device: Where to put it; by default the best that this machine has (cuda, mps, cpu).
        pretrained: Whether to load trained weights. Without, they are drawn from torch's random numbers as
            these stand: call `torch.manual_seed` first for the same weights again.

    Raises:
        ModelError: The name or device is unknown, a package is missing, or the weights cannot be had.
    """
    if not isinstance(name, str):
        raise ModelError(f"a model is loaded by its name, but this is of type {type(name).__name__}; pass a string.")
    chosen = choose_device(device)
    prefix, colon, rest = name.partition(":")
    source, short = (_source(prefix, name), rest) if colon else (_SOURCES[""], name)
    if not short:
        example = source.full_name("NAME") if source.prefix else _bundled()
        raise ModelError(f"'{name}' names no model; write it as {example}.")
    _check_bare_name(source, short)
    with loading(name):
        classifier = source.load(short, pretrained)
    return classifier.to(chosen)


def _source(prefix: str, name: str) -> Source:
    if not prefix or prefix not in _SOURCES:
        known = ", ".join(f"{source.prefix}:" for source in sources() if source.prefix)
        raise ModelError(
            f"'{name}' has the unknown prefix '{prefix}:'; use {known} or a name without one ({_bundled()})."
        )
    return _SOURCES[prefix]


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

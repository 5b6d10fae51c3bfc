"""Who makes the maps: a method on its model, or a baseline that never looks at the network.

A metric that a baseline does well on measures something else than the network's reasons: objects stand in the middle
of photographs, and have edges.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from difflib import get_close_matches
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.classifier import Classifier
from visavis.errors import InputError
from visavis.methods.base import Method, PropagationMethod

#: How an attribution (B, C, H, W) becomes a map (B, H, W).
CHANNELS = {
    "sum": "the sum over channels, signed",
    "magnitude": "the largest |value| over channels, ≥ 0",
}
# Inputs that a method takes at once where one forward pass cannot serve all classes of a picture.
_AT_ONCE = 8
# The standard deviation of the bump in the middle, as a share of each side.
_BUMP = 0.25


class MethodExplainer:
    """A method as an explainer: its attribution, signed, summed over the channels.

    Args:
        method: any method, with its options, on its model.
        name: what tells it from others, in files; None: the method's.
        title: what tables call it; None: the method's.
        channels: of CHANNELS. Relevance is additive, which speaks for the sum; Simonyan et al. 2014 (sec. 3.1) draw the
            gradient by its magnitude.

    Raises:
        InputError: there is no such way to go from channels to a map.
    """

    def __init__(
        self, method: Method, name: str | None = None, title: str | None = None, *, channels: str = "sum"
    ) -> None:
        self.method = method
        self.channels = checked_channels(channels)
        self.name = method.name if name is None else name
        self.title = method.title if title is None else title

    def __repr__(self) -> str:
        return f"MethodExplainer({self.name}, {self.method.classifier.name})"

    def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return one map (B, H, W), signed, for each input (B, C, H, W) and class index (B,).

        A method that answers at a lower resolution is resized bilinearly to the inputs'.

        Raises:
            InputError: the inputs are no pictures, or there is not one class for each.
        """
        _check(inputs, targets)
        attribution = self.method.attribute(inputs, target=targets)
        return _as_maps(attribution, inputs, self.channels)

    def heatmaps_of_classes(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the maps (K, H, W) of K classes (K,) on one picture (1, C, H, W), as `heatmaps` would.

        A method on the engine runs one forward pass for all of them; others take a copy of the picture for each class,
        a few at a time.

        Raises:
            InputError: there is not exactly one picture.
        """
        _check_single(inputs)
        if not len(targets):
            return inputs.new_zeros(0, *inputs.shape[2:])
        if not isinstance(self.method, PropagationMethod):
            parts = torch.split(targets, _AT_ONCE)
            return torch.cat([self.heatmaps(_repeated(inputs, part), part) for part in parts])
        maps = []
        with self.method.forward(inputs) as run:
            for left, target in zip(reversed(range(len(targets))), targets.tolist(), strict=True):
                attribution = self.method.map_of(run, self.method.seed_of(run.output, target), more=left)
                maps.append(_as_maps(attribution, inputs, self.channels))
        return torch.cat(maps)

    def on(self, classifier: Classifier) -> MethodExplainer:
        """Return the same method with the same options on another model, such as a copy with other weights.

        The bounds of the pixels are among the options: where the method has any, they stay. A method that keeps more of
        its model than `classifier` takes that along, which is wrong: make it anew.
        """
        method = copy.copy(self.method)
        own = self.method.classifier
        if own.bounds is None:
            method.classifier = classifier
        else:
            method.classifier = copy.copy(own)
            method.classifier.module = classifier.module
            method.classifier.preprocess = classifier.preprocess
            method.classifier.labels = classifier.labels
            method.classifier.name = classifier.name
        return MethodExplainer(method, self.name, self.title, channels=self.channels)


def checked_channels(channels: str) -> str:
    """Return the way to go from channels to a map, or raise an InputError that names the ways."""
    if channels not in CHANNELS:
        raise InputError(f"channels is {' or '.join(map(repr, CHANNELS))}, not {channels!r}")
    return channels


def _as_maps(attribution: object, inputs: Tensor, channels: str) -> Tensor:
    """Return an attribution (B, C, h, w) as maps (B, H, W)."""
    if not isinstance(attribution, Tensor) or attribution.dim() != 4 or len(attribution) != len(inputs):
        shape = tuple(attribution.shape) if isinstance(attribution, Tensor) else type(attribution).__name__
        raise InputError(f"an attribution of pictures is a tensor (B, C, H, W), not {shape}; explain pictures alone")
    found = attribution.detach()
    maps = found.sum(1) if channels == "sum" else found.abs().amax(1)
    if maps.shape[1:] == inputs.shape[2:]:
        return maps
    return F.interpolate(maps[:, None], inputs.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def _check(inputs: Tensor, targets: Tensor) -> None:
    if inputs.dim() != 4:
        raise InputError(f"inputs are pictures (B, C, H, W), not of shape {tuple(inputs.shape)}")
    if targets.shape != (len(inputs),):
        raise InputError(
            f"targets have shape {tuple(targets.shape)} for {len(inputs)} inputs; give one class index for each"
        )


def _check_single(inputs: Tensor) -> None:
    if inputs.dim() != 4 or len(inputs) != 1:
        raise InputError(f"the classes are those of one picture (1, C, H, W), not of shape {tuple(inputs.shape)}")


def _repeated(inputs: Tensor, targets: Tensor) -> Tensor:
    return inputs.expand(len(targets), *inputs.shape[1:])


# -- baselines ---------------------------------------------------------------------------------------------------------


class Baseline(ABC):
    """A map that is made without the network, ≥ 0 or signed; an explainer that is no better explains nothing."""

    name: ClassVar[str]
    title: ClassVar[str]

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return one map (B, H, W) for each input (B, C, H, W) and class index (B,).

        Raises:
            InputError: the inputs are no pictures, or there is not one class for each.
        """
        _check(inputs, targets)
        return self._maps(inputs, targets)

    def heatmaps_of_classes(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the maps (K, H, W) of K classes (K,) on one picture (1, C, H, W).

        Raises:
            InputError: there is not exactly one picture.
        """
        _check_single(inputs)
        return self._maps(_repeated(inputs, targets), targets)

    def on(self, classifier: Classifier) -> Baseline:
        """Return itself: the model makes no difference."""
        return self

    @abstractmethod
    def _maps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the maps, inputs and targets checked."""


class Centre(Baseline):
    """A Gaussian bump in the middle of the picture, 1 at its peak, a quarter of each side its standard deviation."""

    name = "centre"
    title = "Centre"

    def _maps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        down, right = (_bump(side).to(inputs) for side in inputs.shape[2:])
        return torch.outer(down, right).expand(len(inputs), -1, -1).clone()


def _bump(side: int) -> Tensor:
    # Whole numbers before the division: equal on both sides of the middle, to the last bit.
    offset = (2 * torch.arange(side) + 1 - side).double() / (2 * side)
    return torch.exp(-((offset / _BUMP) ** 2) / 2)


class Random(Baseline):
    """Standard normal noise, the same at every call for the same picture and class, on any device."""

    name = "random"
    title = "Random"

    def _maps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        maps = [
            torch.randn(inputs.shape[2:], generator=_generator(one, target))
            for one, target in zip(inputs, targets.tolist(), strict=True)
        ]
        return torch.stack(maps).to(inputs) if maps else inputs.new_zeros(0, *inputs.shape[2:])


def _generator(picture: Tensor, target: int) -> torch.Generator:
    """Return a generator whose seed is a hash of what the picture shows and of the class."""
    content = picture.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()
    digest = hashlib.sha256(content + target.to_bytes(8, "little", signed=True)).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


class Edges(Baseline):
    """How steep the brightness is, by Sobel's filter: the mean over channels, its change per pixel, ≥ 0.

    Adebayo et al. 2018 (Sanity Checks for Saliency Maps) compare with an edge detector: a map that looks like it need
    not depend on the model.
    """

    name = "edges"
    title = "Edges (Sobel)"

    def _maps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        brightness = F.pad(inputs.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")[:, 0]
        smooth_down = (brightness[:, :-2] + 2 * brightness[:, 1:-1] + brightness[:, 2:]) / 4
        smooth_right = (brightness[..., :-2] + 2 * brightness[..., 1:-1] + brightness[..., 2:]) / 4
        across = (smooth_down[..., 2:] - smooth_down[..., :-2]) / 2
        along = (smooth_right[:, 2:] - smooth_right[:, :-2]) / 2
        return torch.hypot(across, along)


_BASELINES: dict[str, type[Baseline]] = {cls.name: cls for cls in (Centre, Random, Edges)}


def baselines() -> dict[str, str]:
    """Return each baseline's name and title."""
    return {name: cls.title for name, cls in _BASELINES.items()}


def baseline(name: str) -> Baseline:
    """Return the baseline of a name.

    Raises:
        InputError: there is none.
    """
    if name not in _BASELINES:
        near = get_close_matches(name, _BASELINES, n=1) or list(_BASELINES)
        raise InputError(f"there is no baseline {name!r}; try {', '.join(near)}")
    return _BASELINES[name]()


__all__ = [
    "CHANNELS",
    "Baseline",
    "Centre",
    "Edges",
    "MethodExplainer",
    "Random",
    "baseline",
    "baselines",
    "checked_channels",
]

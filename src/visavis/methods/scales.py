"""CLRP-γ of a picture at several sizes: small objects are explained at a size at which the network sees them better."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.classifier import Bound, Classifier
from visavis.contrast import Foil, target_indices
from visavis.errors import InputError, ModelError
from visavis.methods.base import Method, arguments_of, register_method
from visavis.methods.clrp import CLRPGamma
from visavis.outputs import Output
from visavis.propagation import Automatic, RuleSet
from visavis.propagation.mode import Inputs

_LARGEST = 16


@register_method
class CLRPScales(Method):
    """CLRP-γ averaged over the picture as it is and enlarged: closest to small objects, at five times the cost.

    Each size has its own forward pass, of which the network's answer may differ; the target stays that of the picture
    as it is. A map of the enlarged picture is summed over what each pixel has become. Each map is divided by the sum
    over pixels of |its channels' sum|, and counts by its weight.
    `docs/findings.md` has what it is better at.

    Args:
        module: any nn.Module that takes pictures of several sizes, or a Classifier of one.
        foil: as for `CLRP`; those that rest on the answer, as "softmax" does, rest on the answer at each size. None:
            "strongest".
        rules: as for `CLRPGamma`.
        bounds: lowest and highest value of a normalised pixel.
        output: what is explained of what the model returns, as for `CLRP`.
        signed: keep what is negative, where the foil has more.
        scales: the sizes, as multiples of the picture's sides, each from 1 to 16; enlarged bilinearly.
        weights: how much each size counts, > 0; they are divided by their sum. None: 3 to 2 for two sizes, so that the
            picture as the network is meant to see it counts most; for any other number, all alike.
    """

    name = "clrp-scales"
    title = "CLRP-γ, several sizes"
    contrastive = True
    reading = "what speaks for {}, rather than for what it is contrasted with"
    #: What each map is divided by, for the settings of an explanation.
    normalize = "size"

    def __init__(
        self,
        module: nn.Module | Classifier,
        *,
        foil: Any = None,
        rules: str | RuleSet | Automatic | None = None,
        bounds: tuple[Bound, Bound] | None = None,
        output: Output = None,
        signed: bool = False,
        scales: Sequence[float] = (1.0, 2.0),
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(module, bounds=bounds, output=output)
        self._foil, self._rules = "strongest" if foil is None else foil, rules
        # Made once, for it refuses what cannot be.
        self.rules = self.at_one_size().rules
        self.signed = signed
        self.scales = _checked(scales)
        self.weights = _weights(weights, len(self.scales))

    def at_one_size(self) -> CLRPGamma:
        """Return the method for the picture as it is, signed."""
        return CLRPGamma(self.classifier, foil=self._foil, rules=self._rules, output=self.output, signed=True)

    def attribute(self, inputs: Inputs, target: Any = None, *, additional_forward_args: Any = None) -> Inputs:
        clrp = self.at_one_size()
        if not isinstance(self.checked(inputs), Tensor) or inputs.dim() != 4:
            raise InputError(
                f"{self.name} enlarges pictures, a tensor (B, C, H, W); choose clrp-gamma for other inputs"
            )
        additional = arguments_of(additional_forward_args)
        with clrp.forward(inputs, additional) as run:
            indices = target_indices(run.output, self.target_of(target))
        maps = [_shares(self._map(clrp, inputs, indices, additional, scale)) for scale in self.scales]
        mean = torch.stack([weight * one for weight, one in zip(self.weights, maps, strict=True)]).sum(0)
        return mean if self.signed else mean.clamp(min=0)

    def _map(
        self, clrp: CLRPGamma, inputs: Tensor, target: Tensor, additional: tuple[Any, ...], scale: float
    ) -> Tensor:
        """Return the signed map (B, C, H, W) of the pictures at one size."""
        height, width = inputs.shape[2:]
        size = [round(scale * height), round(scale * width)]
        enlarged = inputs if scale == 1 else F.interpolate(inputs.detach(), size, mode="bilinear", align_corners=False)
        try:
            relevance: Tensor = clrp.attribute(enlarged, target, additional_forward_args=additional)
        except ModelError as error:
            if scale == 1:
                raise
            raise ModelError(
                f"{error}; {self.name} explains the picture enlarged as well: choose clrp-gamma for a model that takes "
                "one size alone"
            ) from error
        down, across = (_overlap(n, m).to(relevance) for n, m in zip((height, width), size, strict=True))
        return relevance if scale == 1 else down @ relevance @ across.T

    @property
    def foil(self) -> Foil:
        """What the target is contrasted with, labels replaced by indices."""
        return self.at_one_size().foil

    def against(self, foil: Foil) -> CLRPScales:
        """Return the same method with another foil."""
        other = copy.copy(self)
        other._foil = foil
        return other


def _checked(scales: Sequence[float]) -> tuple[float, ...]:
    """Return the sizes, or raise an InputError that says what they must be."""
    given = tuple(scales) if isinstance(scales, Sequence) and not isinstance(scales, str) else (scales,)
    if not given or any(
        isinstance(one, bool) or not isinstance(one, int | float) or not 1 <= one <= _LARGEST for one in given
    ):
        raise InputError(f"scales are numbers from 1 to {_LARGEST}, such as (1, 2), not {scales!r}")
    return tuple(float(one) for one in given)


def _weights(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """Return the weights of the sizes, with sum 1, or raise an InputError that says what they must be."""
    if weights is None:
        weights = (3.0, 2.0) if count == 2 else (1.0,) * count
    given = tuple(weights) if isinstance(weights, Sequence) and not isinstance(weights, str) else ()
    positive = all(not isinstance(one, bool) and isinstance(one, int | float) and 0 < one < inf for one in given)
    if len(given) != count or not positive:
        raise InputError(f"weights are as many positive numbers as there are sizes, {count}, not {weights!r}")
    return tuple(one / sum(given) for one in given)


def _shares(relevance: Tensor) -> Tensor:
    """Divide each picture's map by the sum of the absolute values of its channels' sum; a map of zeros stays."""
    size = relevance.sum(1, keepdim=True).abs().sum((2, 3), keepdim=True)
    return relevance / torch.where(size == 0, 1, size)


def _overlap(pixels: int, enlarged: int) -> Tensor:
    """Return which share of each enlarged pixel lies in each pixel of a side, (pixels, enlarged); columns sum to 1."""
    edges = torch.arange(enlarged + 1, dtype=torch.float64) * (pixels / enlarged)
    pixel = torch.arange(pixels, dtype=torch.float64)[:, None]
    covered = torch.minimum(edges[1:], pixel + 1) - torch.maximum(edges[:-1], pixel)
    return covered.clamp(min=0) * (enlarged / pixels)

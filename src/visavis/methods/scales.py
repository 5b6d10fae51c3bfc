"""CLRP-γ of a picture at several sizes: small objects are explained at a size at which the network sees them better."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
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


@register_method
class CLRPScales(Method):
    """CLRP-γ averaged over the picture as it is and enlarged: closest to small objects, at five times the cost.

    Each size has its own forward pass, of which the network's answer may differ; the target stays that of the picture
    as it is. A map of the enlarged picture is summed over what each pixel has become. Each map counts alike, divided by
    the sum of its absolute values (channels summed), so the values are shares: their sum is at most 1.
    `docs/findings.md` has what it is better at.

    Args:
        module: any nn.Module that takes pictures of several sizes, or a Classifier of one.
        foil: as for `CLRP`; those that rest on the answer, as "softmax" does, rest on the answer at each size. None:
            "strongest".
        rules: as for `CLRPGamma`.
        bounds: lowest and highest value of a normalised pixel.
        output: what is explained of what the model returns, as for `CLRP`.
        signed: keep what is negative, where the foil has more.
        scales: the sizes, as multiples of the picture's sides, each at least 1; enlarged bilinearly.
    """

    name = "clrp-scales"
    title = "CLRP-γ, several sizes"
    contrastive = True
    reading = "what speaks for {}, rather than for the foil"

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
    ) -> None:
        super().__init__(module, bounds=bounds, output=output)
        self._foil, self._rules = "strongest" if foil is None else foil, rules
        # Made once, for it refuses what cannot be.
        self.rules = self._at_one_size().rules
        self.signed = signed
        self.scales = _checked(scales)

    def _at_one_size(self) -> CLRPGamma:
        return CLRPGamma(self.classifier, foil=self._foil, rules=self._rules, output=self.output, signed=True)

    def attribute(self, inputs: Inputs, target: Any = None, *, additional_forward_args: Any = None) -> Inputs:
        clrp = self._at_one_size()
        if not isinstance(self.checked(inputs), Tensor) or inputs.dim() != 4:
            raise InputError(
                f"{self.name} enlarges pictures, a tensor (B, C, H, W); choose clrp-gamma for other inputs"
            )
        additional = arguments_of(additional_forward_args)
        with clrp.forward(inputs, additional) as run:
            indices = target_indices(run.output, self.target_of(target))
        maps = [_shares(self._map(clrp, inputs, indices, additional, scale)) for scale in self.scales]
        mean = torch.stack(maps).mean(0)
        return mean if self.signed else mean.clamp(min=0)

    def _map(
        self, clrp: CLRPGamma, inputs: Tensor, target: Tensor, additional: tuple[Any, ...], scale: float
    ) -> Tensor:
        """Return the signed map (B, C, H, W) of the pictures at one size."""
        height, width = inputs.shape[2:]
        size = [int(scale * height), int(scale * width)]
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
        if scale == 1:
            return relevance
        return F.interpolate(relevance, (height, width), mode="area") * (size[0] * size[1] / (height * width))

    @property
    def foil(self) -> Foil:
        """What the target is contrasted with, labels replaced by indices."""
        return self._at_one_size().foil

    def against(self, foil: Foil) -> CLRPScales:
        """Return the same method with another foil."""
        other = copy.copy(self)
        other._foil = foil
        return other


def _checked(scales: Sequence[float]) -> tuple[float, ...]:
    """Return the sizes, or raise an InputError that says what they must be."""
    given = tuple(scales) if isinstance(scales, Sequence) and not isinstance(scales, str) else (scales,)
    if not given or any(
        isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one) or one < 1 for one in given
    ):
        raise InputError(f"scales are numbers of at least 1, such as (1, 2), not {scales!r}")
    return tuple(float(one) for one in given)


def _shares(relevance: Tensor) -> Tensor:
    """Divide each picture's map by the sum of the absolute values of its channels' sum; a map of zeros stays."""
    size = relevance.sum(1, keepdim=True).abs().sum((2, 3), keepdim=True)
    return relevance / torch.where(size == 0, 1, size)

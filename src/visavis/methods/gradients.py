"""Gradient, input × gradient, and the two methods that change how the gradient crosses a ReLU."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from visavis.contrast import Seed
from visavis.methods.base import PropagationMethod, register_method
from visavis.propagation import Activation, Run
from visavis.propagation.mode import Inputs


class _GradientMethod(PropagationMethod):
    """The gradient of the target's score, ReLUs crossed as the subclass says."""

    seed: Seed = "one"

    @property
    def policy(self) -> Activation:
        return Activation("gradient")

    def map_of(self, run: Run, seed: Tensor, *, more: int = 0) -> Inputs:
        if self.policy.name != "gradient" and all(call.rule == "gradient" for call in run.plan):
            warnings.warn(f"the model calls no ReLU, so {self.title} is its plain gradient", stacklevel=3)
        return super().map_of(run, seed, more=more)


@register_method
class Gradient(_GradientMethod):
    """The gradient of the target's score (Simonyan et al. 2014): signed, in scores per unit of the normalised input.

    Args: as for `PropagationMethod`; bounds are checked against the inputs, and change no value.
    """

    name = "gradient"
    title = "Gradient"
    reading = "where brighter or darker pixels would move the score of {}"
    quantity = "effect on the score of {}"


@register_method
class InputXGradient(_GradientMethod):
    """Input × gradient (Shrikumar et al. 2016): signed, in scores; in a bias-free ReLU network it is LRP-0."""

    name = "input-x-gradient"
    title = "Input × gradient"

    def map_of(self, run: Run, seed: Tensor, *, more: int = 0) -> Inputs:
        return tree_map(torch.mul, super().map_of(run, seed, more=more), run.input)


@register_method
class DeConvNet(_GradientMethod):
    """DeConvNet (Zeiler & Fergus 2014): back through a ReLU goes what is positive, whatever its input was. Signed.

    Unlike libraries that hook `nn.ReLU` modules, functional ReLUs count too.
    """

    name = "deconvnet"
    title = "DeConvNet"

    @property
    def policy(self) -> Activation:
        return Activation("deconvnet")


@register_method
class GuidedBackprop(_GradientMethod):
    """Guided Backpropagation (Springenberg et al. 2015): back through a ReLU goes what is positive, where it fired.

    Signed. Unlike libraries that hook `nn.ReLU` modules, functional ReLUs count too.
    """

    name = "guided-backprop"
    title = "Guided Backpropagation"

    @property
    def policy(self) -> Activation:
        return Activation("guided")

"""Who races: this library's methods, those of zennit and captum, and the algorithm of the paper's released code."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from speed_authors import TwoPasses, layers_of
from speed_models import BOUNDS
from torch import Tensor, nn

import visavis as vv

#: One call as a user makes it: from inputs (B, 3, H, W) and targets (B,) to maps of the inputs' shape.
Attribute = Callable[[Tensor, Tensor], Tensor]
#: Makes it for a model of the given name, or raises `Absent`.
Maker = Callable[[nn.Module, str], Attribute]


class Absent(Exception):
    """A contestant does not take part in a case; the message, part of a sentence, says why."""


@dataclass(frozen=True)
class Contestant:
    """A method of a library.

    Attributes:
        title: what the table calls it.
        package: what it needs installed.
        make: makes it for a model.
        account: what it computes, for the page.
        device: the kind of device that it needs; empty: any.
    """

    title: str
    package: str
    make: Maker
    account: str
    device: str = ""


# -- this library ----------------------------------------------------------------------------------------------------


def _clrp(module: nn.Module, name: str) -> Attribute:
    return vv.CLRP(module, foil="others", bounds=BOUNDS).attribute


def _lrp(module: nn.Module, name: str) -> Attribute:
    return vv.LRP(module, bounds=BOUNDS).attribute


def _gradient(module: nn.Module, name: str) -> Attribute:
    return vv.Gradient(module).attribute


def _executed(execution: str, cls: type[vv.CLRP] | type[vv.LRP], module: nn.Module, name: str) -> Attribute:
    if "execution" not in inspect.signature(cls).parameters:
        raise Absent(f'this version of Visavis has no execution="{execution}"')
    foil = {"foil": "others"} if issubclass(cls, vv.CLRP) else {}
    return cls(module, bounds=BOUNDS, execution=execution, **foil).attribute  # type: ignore[call-arg, arg-type]


# -- zennit ----------------------------------------------------------------------------------------------------------


def _zennit_contrast(module: nn.Module, name: str) -> Attribute:
    from zennit.attribution import Gradient
    from zennit.composites import SpecialFirstLayerMapComposite
    from zennit.rules import Norm, Pass, ZBox, ZPlus
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer
    from zennit.types import Activation, AvgPool, Convolution, Linear

    canonizer = ResNetCanonizer if name.startswith("resnet") else VGGCanonizer

    def attribute(inputs: Tensor, target: Tensor) -> Tensor:
        low, high = (torch.full_like(inputs[:1], bound) for bound in BOUNDS)
        sums = ((Activation, Pass()), (AvgPool, Norm()), (_zennit_sum(), Norm()))
        weighted = ((Convolution, Linear), ZPlus(zero_params="bias"))
        composite = SpecialFirstLayerMapComposite(
            [*sums, weighted],
            [(Convolution, ZBox(low, high, zero_params="bias"))],
            canonizers=[canonizer()],
        )
        maps = []
        with Gradient(module, composite) as attributor:
            for dual in (False, True):
                output = functools.partial(_seed, target=target, dual=dual)
                maps.append(attributor(inputs.clone().requires_grad_(), output)[1])
        return (maps[0] - maps[1]).clamp(min=0)

    return attribute


def _zennit_sum() -> type[nn.Module]:
    from zennit.layer import Sum

    return Sum


def _seed(logits: Tensor, *, target: Tensor, dual: bool) -> Tensor:
    """Return |S_j| at the target, or spread evenly over the other classes."""
    score = logits.gather(1, target[:, None]).abs()
    seed = torch.zeros_like(logits).scatter(1, target[:, None], score)
    return (score - seed).masked_fill(seed != 0, 0) / (logits.shape[1] - 1) if dual else seed


# -- captum and the authors ------------------------------------------------------------------------------------------


def _captum_lrp(module: nn.Module, name: str) -> Attribute:
    from captum.attr import LRP

    return lambda inputs, target: LRP(module).attribute(inputs.clone().requires_grad_(), target=target)


def _captum_saliency(module: nn.Module, name: str) -> Attribute:
    from captum.attr import Saliency

    return lambda inputs, target: Saliency(module).attribute(inputs.clone().requires_grad_(), target=target)


def _authors(module: nn.Module, name: str) -> Attribute:
    layers = layers_of(module)
    if layers is None:
        raise Absent("written for networks of one path, as VGG")
    return TwoPasses(layers, *BOUNDS).attribute


_CLRP = """\
max(0, R − R_dual) by the default rules: the paper's, "deep-taylor" (z⁺, zᴮ at the pixels); "attention" where the \
model attends or has layer norm; foil "others"\
"""
_ZENNIT = "the paper's rules, whatever the model; target and dual each propagated, subtracted, clamped at 0"
_AUTHORS = "CLRP as the paper's released code has it, written anew: image by image, two passes layer by layer"
_REPLAYED = "replayed as a CUDA graph, for repeated calls of one shape"
_COMPILED = "compiled by TorchInductor, for repeated calls of one shape"

CONTESTANTS = (
    Contestant("Visavis CLRP", "visavis", _clrp, _CLRP),
    Contestant("Visavis CLRP, graph", "visavis", functools.partial(_executed, "graph", vv.CLRP), _REPLAYED, "cuda"),
    Contestant(
        "Visavis CLRP, compiled", "visavis", functools.partial(_executed, "compiled", vv.CLRP), _COMPILED, "cuda"
    ),
    Contestant("Visavis LRP", "visavis", _lrp, "R alone by the same rules, no contrast"),
    Contestant("Visavis LRP, graph", "visavis", functools.partial(_executed, "graph", vv.LRP), _REPLAYED, "cuda"),
    Contestant("Visavis LRP, compiled", "visavis", functools.partial(_executed, "compiled", vv.LRP), _COMPILED, "cuda"),
    Contestant("Visavis Gradient", "visavis", _gradient, "the gradient of the score"),
    Contestant("zennit, same contrast", "zennit", _zennit_contrast, _ZENNIT),
    Contestant("authors' algorithm", "torch", _authors, _AUTHORS),
    Contestant("captum LRP, no contrast", "captum", _captum_lrp, "its default rules, one map"),
    Contestant("captum Saliency", "captum", _captum_saliency, "the size of the gradient of the score"),
)


def titles(kind: str) -> list[str]:
    """Return the titles of those that race on a kind of device ("cpu", "cuda")."""
    return [one.title for one in CONTESTANTS if one.device in ("", kind)]

"""What captum's and zennit's LRP make of the models of the conformance suite.

The oracle is one that needs no trust: in a network without offsets (biases, the means of batch norms) that is linear in
pieces, LRP with ε → 0 is input × gradient, and its map adds up to the score. Where a network bends otherwise, only the
sum is asked for. Each peer gets what its documentation advises: zennit its canonizers, captum its default rules, both
ReLUs that do not write in place.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from conformance_checks import bent, cosine, unclipped
from conformance_models import Subject, without_offsets
from torch import Tensor, nn

import visavis as vv
from visavis.outputs import logits_of

#: Far below every denominator that counts.
_EPSILON = 1e-15
#: How near 1 the cosine to input × gradient and the share of the score must be.
RIGHT = 0.01


class Logits(nn.Module):
    """A model that returns its logits (B, N) alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return logits_of(self.module(x))


def try_one(subject: Subject, peer: str) -> dict[str, Any]:
    """Return what a peer makes of a model: `raises`, or the map's `share` of the score and its `cosine` to the truth.

    The share is of a map by LRP-ε with ε → 0, without offsets, in float64; `cosine` is None where the network is not
    linear in pieces. `usual` is zennit's share with offsets, in float32, by its composite EpsilonPlus.
    """
    module: nn.Module = Logits(subject.network())
    inputs = subject.inputs()
    with torch.no_grad():
        scores = module(inputs)
    if scores.dim() != 2:
        return {"raises": "", "share": None, "cosine": None, "note": "not tried: one score for each position"}
    target = scores.argmax(1)
    plan = vv.LRP(module).plan(inputs)
    attribute = PEERS[peer]
    found: dict[str, Any] = {"raises": "", "share": None, "cosine": None}
    try:
        if peer == "zennit":
            usual = _zennit(_not_in_place(copy.deepcopy(module)), inputs, target, family=subject.family, plus=True)
            found["usual"] = _share(usual, scores.gather(1, target[:, None]))
        module, inputs = without_offsets(module), unclipped(inputs.double(), plan)
        x = inputs.clone().requires_grad_()
        score = module(x).gather(1, target[:, None])
        (gradient,) = torch.autograd.grad(score.abs().sum(), x)
        relevance = attribute(_not_in_place(module), inputs, target, family=subject.family)
    except Exception as error:  # noqa: BLE001 - that a peer cannot do a model is the result, whatever it raises
        return {**found, "raises": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300]}"}
    found["share"] = _share(relevance, score.detach())
    if not bent(plan):
        found["cosine"] = cosine(relevance, inputs * gradient)
    return found


def _not_in_place(module: nn.Module) -> nn.Module:
    """Have a model's activations not write in place, which neither peer can follow."""
    for part in module.modules():
        if hasattr(part, "inplace"):
            setattr(part, "inplace", False)  # noqa: B010 - not every module has it
    return module


def _share(relevance: Tensor, score: Tensor) -> float:
    return float(relevance.sum(dtype=torch.float64)) / float(score.abs().sum(dtype=torch.float64))


def _captum(module: nn.Module, inputs: Tensor, target: Tensor, *, family: str) -> Tensor:
    """captum's LRP: ε everywhere, by default 1e-9. Its seed is the score itself, so its sign is taken off."""
    from captum.attr import LRP

    with torch.no_grad():
        signs = module(inputs).gather(1, target[:, None]).sign()
    relevance: Tensor = LRP(module).attribute(inputs.clone().requires_grad_(), target=target)
    signed: Tensor = relevance.detach() * signs.view(-1, *(1,) * (inputs.dim() - 1))
    return signed


def _zennit(module: nn.Module, inputs: Tensor, target: Tensor, *, family: str, plus: bool = False) -> Tensor:
    """zennit, with the canonizer of the family: ε → 0 everywhere, or its composite EpsilonPlus."""
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlus, LayerMapComposite, layer_map_base
    from zennit.rules import Epsilon
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer
    from zennit.types import Linear

    canonizer = {"resnet": ResNetCanonizer, "vgg": VGGCanonizer}.get(family, SequentialMergeBatchNorm)()
    if plus:
        composite = EpsilonPlus(canonizers=[canonizer])
    else:
        layers = [*layer_map_base(_EPSILON), (Linear, Epsilon(_EPSILON))]
        composite = LayerMapComposite(layers, canonizers=[canonizer])

    def seed(scores: Tensor) -> Tensor:
        return torch.zeros_like(scores).scatter(1, target[:, None], scores.gather(1, target[:, None]).abs())

    with Gradient(module, composite) as attributor:
        relevance: Tensor = attributor(inputs.clone().requires_grad_(), seed)[1]
    return relevance.detach()


PEERS: dict[str, Callable[..., Tensor]] = {"captum": _captum, "zennit": _zennit}


def verdict(found: dict[str, Any]) -> str:
    """Return in a few words how a peer's map of a model is to be judged."""
    if "failed" in found:
        return f"fails: {found['failed']}"
    if found["raises"]:
        return "raises"
    if found["share"] is None:
        return str(found["note"])
    share, likeness = found["share"], found["cosine"]
    conserves = math.isfinite(share) and abs(share - 1) <= RIGHT
    if likeness is None:
        return "conserves; no oracle" if conserves else f"wrong: the map adds up to {share:.3g} of the score"
    if conserves and abs(likeness - 1) <= RIGHT:
        return "right"
    return f"wrong: cosine {likeness:.3f}, the map adds up to {share:.3g} of the score"

"""What is measured of each model of the conformance suite; the tests measure the same."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from conformance_models import Subject, without_offsets
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import visavis as vv
from visavis.evaluation.cost import in_passes
from visavis.outputs import logits_of
from visavis.propagation import Plan
from visavis.propagation.ledger import Ledger

#: How far the shares of a ledger may be from 1, and LRP-0 from input × gradient (of its largest value).
LEDGER, GRADIENT = 0.01, 1e-6
#: How like the contrasts of two classes may be (cosine): a network of random weights tells classes apart by very little
#: (pnasnet5large: 0.99994), but an engine that takes no notice of the class has 1.
#: And how large a share of the seed may reach the input: biases that speak against a class can add a little, but where
#: a crossing made relevance, the ledger would still add up.
ALIKE, CONSERVED = 1 - 1e-6, 1.1


@dataclass
class Finding:
    """What was found of one model.

    Attributes:
        model, source, group, family, size: which model, on an input of which size.
        refused: the error by which the engine refused it; "" where it did not.
        faults: what is wrong, a sentence each; none if it conforms.
        conserved: the share of the seed that LRP, by the rules deep-taylor, brings to the input.
        absorbed: the share that the ledger says was absorbed on the way.
        absorber: the module that absorbed most.
        zero: "equal" or "differs", LRP-0 and input × gradient; else which function is not piecewise linear.
        deviation: their largest difference, by the largest value of input × gradient.
        cosine: how like the contrasts of two classes, signed, are.
        positive: the share of the input at which the contrast speaks for the class.
        cost: of CLRP's map, in forward passes, the median; 0 if it was not timed.
        seconds: how long all took, on the processor.
    """

    model: str
    source: str
    group: str
    family: str
    size: str
    refused: str = ""
    faults: list[str] = field(default_factory=list)
    conserved: float = 0.0
    absorbed: float = 0.0
    absorber: str = ""
    zero: str = ""
    deviation: float = 0.0
    cosine: float = 0.0
    positive: float = 0.0
    cost: float = 0.0
    seconds: float = 0.0


def examine(subject: Subject, *, repeats: int = 0) -> Finding:
    """Measure one model; with `repeats`, its cost too, over that many rounds."""
    start = time.process_time()
    size = "×".join(map(str, subject.shape[2:]))
    finding = Finding(subject.name, subject.source, subject.group, subject.family, size)
    module, inputs = subject.network(), subject.inputs()
    try:
        if subject.group == "quantized":
            vv.LRP(module).plan(inputs)
            finding.faults.append("a quantised model was not refused")
        else:
            measure(module, inputs, finding, repeats)
    except vv.VisavisError as error:
        finding.refused = str(error)
        if subject.group != "quantized":
            finding.faults.append(f"refused: {error}")
    finding.seconds = time.process_time() - start
    return finding


def measure(module: nn.Module, inputs: Tensor, finding: Finding, repeats: int = 0) -> None:
    """Enter what is found of a model into `finding`. The model is spoilt by it: its offsets are taken away."""
    torch.manual_seed(0)
    before, own = State(module), answer(module, inputs)
    scores = logits_of(own).detach()
    first = scores.flatten(2).sum(2).argmax(1) if scores.dim() > 2 else scores.argmax(1)
    second = (first + 1) % scores.shape[1]

    lrp, clrp = vv.LRP(module), vv.CLRP(module, signed=True)
    torch.manual_seed(0)
    with lrp.forward(inputs) as run:
        plan = run.plan
        if not same(own, run.returned) and not same(answer(module, inputs, gradients=False), run.returned):
            finding.faults.append("the output under the engine is not the model's own")
        seed = lrp.seed_of(run.output, first)
        relevance = lrp.map_of(run, seed)
    # Of rules whose shares are never negative: only of these no more can arrive than was sent.
    plain = vv.LRP(module, rules="deep-taylor")
    torch.manual_seed(0)
    with plain.forward(inputs) as run:
        seed = plain.seed_of(run.output, first)
        share = float(plain.map_of(run, seed, more=True).sum()) / float(seed.sum())
        enter_ledger(run.relevance_and_ledger(seed)[1], share, finding)
    torch.manual_seed(0)
    signed = lrp.ledger(inputs, first)
    if not abs(signed.conserved + signed.absorbed - 1) <= LEDGER:
        whole = signed.conserved + signed.absorbed
        finding.faults.append(f"by the default rules, conserved share and ledger make {whole:.4g}")
    contrasts = [clrp.attribute(inputs, target=target) for target in (first, second)]
    check_maps({"LRP": relevance, "CLRP": contrasts[0]}, finding)
    finding.positive = float((contrasts[0] > 0).double().mean())
    finding.cosine = cosine(*contrasts)
    if not abs(finding.cosine) < ALIKE:
        finding.faults.append(f"the contrasts of two classes are alike: cosine {finding.cosine:.6f}")
    finding.faults += [f"the model was changed: {change}" for change in before.changes(module)]
    if not same(own, answer(module, inputs)):
        finding.faults.append("after the explanation the model answers otherwise")
    del before, own
    if repeats:
        finding.cost = cost(module, functools.partial(clrp.attribute, inputs, target=first), inputs, repeats)
    compare_with_gradient(module, inputs, first, plan, finding)


def answer(module: nn.Module, inputs: Tensor, *, gradients: bool = True) -> Any:
    """Return what the model itself returns. With and without gradients torch's attention rounds differently."""
    torch.manual_seed(0)
    with torch.set_grad_enabled(gradients):
        return module(inputs.clone().requires_grad_())


def same(left: Any, right: Any) -> bool:
    """Whether two answers are equal, bit for bit."""
    pairs = zip(tree_leaves(left), tree_leaves(right), strict=True)
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


def check_maps(maps: Mapping[str, Tensor], finding: Finding) -> None:
    """Enter a fault for each map that is not finite, or all zero."""
    for name, relevance in maps.items():
        if not bool(torch.isfinite(relevance).all()):
            finding.faults.append(f"the map of {name} is not finite")
        elif not bool(relevance.any()):
            finding.faults.append(f"the map of {name} is all zero")


def cosine(left: Tensor, right: Tensor) -> float:
    """Return the cosine between two maps, over the whole batch; 1 if one is all zero."""
    a, b = left.double().flatten(), right.double().flatten()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size else 1.0


def enter_ledger(ledger: Ledger, share: float, finding: Finding) -> None:
    """Enter the shares of the ledger: they make 1, and the first is the share of the seed that the map holds."""
    finding.conserved, finding.absorbed = ledger.conserved, ledger.absorbed
    places = ledger.by_module(depth=99)
    finding.absorber = max(places, key=lambda path: places[path], default="")
    whole = ledger.conserved + ledger.absorbed
    if not abs(whole - 1) <= LEDGER:
        finding.faults.append(
            f"conserved share {ledger.conserved:.4g} and ledger {ledger.absorbed:.4g} make {whole:.4g}"
        )
    if not ledger.conserved <= CONSERVED:
        finding.faults.append(f"{ledger.conserved:.4g} of the seed reached the input: more than there was")
    if not abs(share - ledger.conserved) <= LEDGER:
        finding.faults.append(f"the map holds {share:.4g} of the seed, the ledger says {ledger.conserved:.4g}")


def per_item(target: Tensor, scores: Tensor) -> Tensor:
    """Return class indices (B,) in the shape (B, 1, ...) that takes each item's class from scores (B, N, ...)."""
    return target.view(-1, *(1,) * (scores.dim() - 1)).expand(-1, 1, *scores.shape[2:])


def cost(module: nn.Module, call: Callable[[], Tensor], inputs: Tensor, repeats: int) -> float:
    """Return what a call costs in forward passes: the median over rounds, each between two forward passes."""

    @torch.inference_mode()
    def forward() -> Any:
        return module(inputs)

    forward()
    passes, _ = in_passes(forward, call, inputs.device, repeats=repeats)
    return passes


class State:
    """All that an explanation must leave as it was."""

    def __init__(self, module: nn.Module) -> None:
        self._values = {name: tensor.detach().clone() for name, tensor in _tensors(module).items()}
        self._flags, self._parts = _flags(module), _parts(module)
        self._random = torch.get_rng_state()

    def changes(self, module: nn.Module) -> list[str]:
        """Return what of a model, and of torch's random numbers, is not as it was."""
        flags, parts, now = _flags(module), _parts(module), _tensors(module)
        found = [
            f"gradient or flag of {name!r}"
            for name in {**self._flags, **flags}
            if self._flags.get(name) != flags.get(name)
        ]
        found += [
            f"mode or hooks of {name!r}"
            for name in {**self._parts, **parts}
            if self._parts.get(name) != parts.get(name)
        ]
        # Bit for bit, so that NaN equals NaN.
        found += [
            f"values of {name!r}"
            for name, tensor in self._values.items()
            if name in now and not torch.equal(_bits(tensor), _bits(now[name]))
        ]
        return found if torch.equal(self._random, torch.get_rng_state()) else [*found, "torch's random state"]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _flags(module: nn.Module) -> dict[str, tuple[bool, bool]]:
    return {name: (tensor.requires_grad, tensor.grad is None) for name, tensor in _tensors(module).items()}


def _parts(module: nn.Module) -> dict[str, tuple[bool, dict[str, int]]]:
    return {
        path: (part.training, {name: len(value) for name, value in vars(part).items() if "hooks" in name and value})
        for path, part in module.named_modules()
    }


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


# -- LRP-0 against input × gradient ----------------------------------------------------------------------------------

_LINEAR = ("convolution", "linear", "route", "sum", "weighted sum", "maximum")
_RECTIFYING = ("relu", "leaky_relu", "dropout", "batch_norm")
# These are linear in pieces too, where their input is small enough.
_CLIPPING = ("relu6", "hardtanh")


def bent(plan: Plan) -> str:
    """Return the first function of a plan that is not piecewise linear; "" if there is none."""
    for call in plan:
        name = call.function.rsplit(".", 1)[-1].strip("_")
        constant_factor = call.operation == "product" and call.rule == "pass"
        if call.rule != "share by power" and (call.operation in _LINEAR or constant_factor):
            continue
        if name not in (*_RECTIFYING, *_CLIPPING):
            return name
    return ""


def compare_with_gradient(module: nn.Module, inputs: Tensor, target: Tensor, plan: Plan, finding: Finding) -> None:
    """Enter whether LRP-0 equals input × gradient, where a network without offsets is piecewise linear."""
    finding.zero = bent(plan)
    if finding.zero:
        return
    module, inputs = without_offsets(module), unclipped(inputs.double(), plan)
    expected = input_times_gradient(module, inputs, target)
    found = vv.LRP(module, rules="zero").attribute(inputs, target=target)
    finding.deviation = float((found - expected).abs().max() / expected.abs().max())
    finding.zero = "equal" if finding.deviation <= GRADIENT else "differs"
    if finding.zero != "equal":
        finding.faults.append(f"LRP-0 is {finding.deviation:.3g} from input × gradient")


def unclipped(inputs: Tensor, plan: Plan) -> Tensor:
    """Return inputs so small that no function of the plan clips them."""
    return 1e-4 * inputs if any(call.function.endswith(_CLIPPING) for call in plan) else inputs


def input_times_gradient(module: nn.Module, inputs: Tensor, target: Tensor) -> Tensor:
    """Return x · d|S|/dx, S each item's score for its target, at every position."""
    x = inputs.clone().requires_grad_()
    torch.manual_seed(0)
    scores = logits_of(module(x))
    (gradient,) = torch.autograd.grad(scores.gather(1, per_item(target, scores)).abs().sum(), x)
    return inputs * gradient

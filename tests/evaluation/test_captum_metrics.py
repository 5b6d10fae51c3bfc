"""captum's infidelity and max-sensitivity on our methods, through captum's own interface, against values by hand."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from pages import run_block
from visavis.evaluation import MethodExplainer, baseline
from visavis.evaluation.stability import disturbed, stability

captum_metrics = pytest.importorskip("captum.metrics")
infidelity, sensitivity_max = captum_metrics.infidelity, captum_metrics.sensitivity_max

DOUBLE = torch.float64
close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-12)

# Three classes, four pixels; every score is positive, every pixel far from 0.
WEIGHT = torch.tensor([[1.0, -2, 3, 1], [2, 1, -1, 3], [-1, 2, 2, -1]], dtype=DOUBLE)
INPUTS = torch.tensor([[0.5, 0.25, 1, 0.75], [1, 0.5, 0.75, 0.5]], dtype=DOUBLE).view(2, 1, 2, 2)
TARGETS = torch.tensor([0, 1])
DISTURBANCE = torch.tensor([0.1, -0.2, 0.3, 0.05], dtype=DOUBLE).view(1, 1, 2, 2)


@pytest.fixture
def linear() -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)).double().eval()
    module[1].weight.data = WEIGHT.clone()
    return module


@pytest.fixture
def network() -> nn.Module:
    layers = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, bias=False)
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 5, bias=False)).double().eval()


def shift(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The same disturbance for every image, in captum's convention: what is taken away, and what is left."""
    return DISTURBANCE.expand_as(inputs), inputs - DISTURBANCE


@captum_metrics.infidelity_perturb_func_decorator(multiply_by_inputs=True)
def shift_by_inputs(inputs: Tensor) -> Tensor:
    return inputs - DISTURBANCE


def noise(inputs: Tensor, size: float = 0.01) -> tuple[Tensor, Tensor]:
    drawn = size * torch.randn_like(inputs)
    return drawn, inputs - drawn


def rows(values: Tensor) -> Tensor:
    return values.flatten(1)


# -- infidelity --------------------------------------------------------------------------------------------------------


def test_infidelity_of_a_linear_models_gradient_is_0_and_of_wrong_maps_as_by_hand(linear: nn.Module) -> None:
    gradient = vv.Gradient(linear).attribute(INPUTS, target=TARGETS)
    close(rows(gradient), WEIGHT[TARGETS])
    measured = functools.partial(infidelity, linear, shift, INPUTS, target=TARGETS)
    close(measured(gradient), torch.zeros(2, dtype=DOUBLE))
    # (w · δ)² with δ = (0.1, −0.2, 0.3, 0.05): 1.45² and (−0.15)². Twice that difference for the map's negative.
    close(measured(torch.zeros_like(gradient)), torch.tensor([2.1025, 0.0225], dtype=DOUBLE))
    close(measured(-gradient), 4 * torch.tensor([2.1025, 0.0225], dtype=DOUBLE))
    # The second row reversed, (3, −1, 1, 2): 0.9 in place of −0.15.
    close(measured(gradient.flip(2, 3))[1], torch.tensor(1.05**2, dtype=DOUBLE))


def test_infidelity_of_lrp0_is_0_where_the_disturbance_is_a_share_of_the_input(linear: nn.Module) -> None:
    relevance = vv.LRP(linear, rules="zero").attribute(INPUTS, target=TARGETS)
    close(rows(relevance), WEIGHT[TARGETS] * rows(INPUTS))
    close(relevance, vv.InputXGradient(linear).attribute(INPUTS, target=TARGETS))
    measured = functools.partial(infidelity, linear, inputs=INPUTS, target=TARGETS)
    close(measured(perturb_func=shift_by_inputs, attributions=relevance), torch.zeros(2, dtype=DOUBLE))
    # In the other convention it is (Σ w (x − 1) δ)²: −0.05 − 0.3 + 0 − 0.0125, and 0 + 0.1 + 0.075 − 0.075.
    other = measured(perturb_func=shift, attributions=relevance)
    close(other, torch.tensor([0.3625**2, 0.1**2], dtype=DOUBLE))
    gradient = vv.Gradient(linear).attribute(INPUTS, target=TARGETS)
    assert (measured(perturb_func=shift_by_inputs, attributions=gradient) > 1e-3).all()


def test_infidelity_of_a_contrast_is_0_for_the_contrast_of_scores(linear: nn.Module) -> None:
    """CLRP takes from S_j what it gives the foil: S_j − (S_j / S_k) S_k, with the quotient of the image itself."""
    contrast = vv.CLRP(linear, foil=2, rules="zero", signed=True).attribute(INPUTS, target=TARGETS)
    scores = rows(INPUTS) @ WEIGHT.T
    quotient = scores[[0, 1], TARGETS] / scores[:, 2]
    assert (scores[:, 2] > 0).all()

    def contrast_of_scores(inputs: Tensor, quotient: Tensor, target: Tensor) -> Tensor:
        found = linear(inputs)
        return found.gather(1, target[:, None])[:, 0] - quotient * found[:, 2]

    measured = functools.partial(infidelity, perturb_func=shift_by_inputs, inputs=INPUTS)
    arguments = {"forward_func": contrast_of_scores, "additional_forward_args": (quotient, TARGETS)}
    close(measured(attributions=contrast, **arguments), torch.zeros(2, dtype=DOUBLE))
    # Against the score alone what is missing is (S_j / S_k) w_k · δ, where w_2 · δ = 0.05.
    alone = measured(attributions=contrast, forward_func=linear, target=TARGETS)
    close(alone, (quotient * 0.05) ** 2)


@pytest.mark.parametrize("name", ["gradient", "lrp", "clrp"])
def test_infidelity_of_wrong_maps_is_larger(name: str, network: nn.Module) -> None:
    inputs, targets = torch.rand(3, 3, 8, 8, dtype=DOUBLE) + 0.2, torch.tensor([1, 4, 2])
    perturb: Any = noise
    if name == "gradient":
        true = vv.Gradient(network).attribute(inputs, target=targets)
    else:
        perturb = captum_metrics.infidelity_perturb_func_decorator(multiply_by_inputs=True)(lambda x: noise(x)[1])
        if name == "lrp":
            # The seed is |S_j|: the map of a negative score is that of its opposite.
            true = vv.LRP(network, rules="zero", seed="one").attribute(inputs, target=targets)
        else:
            true = vv.CLRP(network, rules="zero", foil=0, signed=True, seed="one").attribute(inputs, target=targets)
    scores = network(inputs).detach()
    own, foil = scores.gather(1, targets[:, None]), scores[:, :1]

    def score_per_unit(inputs: Tensor) -> Tensor:
        """What each map is about: the score; the score in units of itself; less the foil's in units of itself."""
        found = network(inputs)
        repeats = len(inputs) // len(targets)
        picked = found.gather(1, targets.repeat_interleave(repeats)[:, None])
        if name == "gradient":
            return picked[:, 0]
        share = picked / own.repeat_interleave(repeats, 0)
        if name == "clrp":
            share = share - found[:, :1] / foil.repeat_interleave(repeats, 0)
        return share[:, 0]

    def measured(attributions: Tensor) -> Tensor:
        torch.manual_seed(3)
        return infidelity(score_per_unit, perturb, inputs, attributions, n_perturb_samples=16)

    shuffled = true.flatten(1)[:, torch.randperm(true[0].numel())].view_as(true)
    assert (10 * measured(true) < measured(shuffled)).all()
    assert (10 * measured(true) < measured(-true)).all()


# -- sensitivity -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [1, TARGETS, TARGETS.tolist()], ids=["int", "tensor", "list"])
def test_sensitivity_on_a_linear_model_is_as_by_hand(linear: nn.Module, target: int | Tensor | list[int]) -> None:
    classes = torch.as_tensor(target).expand(2)
    measured = functools.partial(sensitivity_max, inputs=INPUTS, perturb_func=lambda x: x + DISTURBANCE, target=target)
    close(measured(vv.Gradient(linear).attribute), torch.zeros(2, dtype=DOUBLE))

    own = WEIGHT[classes]
    moved = (own * DISTURBANCE.view(1, 4)).norm(dim=1) / (own * rows(INPUTS)).norm(dim=1)
    close(measured(vv.LRP(linear, rules="zero").attribute), moved)
    close(measured(vv.InputXGradient(linear).attribute), moved)

    def contrast(inputs: Tensor) -> Tensor:
        scores = inputs @ WEIGHT.T
        quotient = scores[[0, 1], classes] / scores[:, 2]
        return (inputs * (own - quotient[:, None] * WEIGHT[2])).clamp(min=0)

    before, after = contrast(rows(INPUTS)), contrast(rows(INPUTS + DISTURBANCE))
    found = measured(vv.CLRP(linear, foil=2, rules="zero").attribute)
    close(found, (after - before).norm(dim=1) / before.norm(dim=1))
    assert (found > 0.01).all()


def test_sensitivity_of_a_map_that_ignores_the_pixels_is_0() -> None:
    centre, edges = baseline("centre"), baseline("edges")
    inputs = torch.rand(2, 3, 8, 8, dtype=DOUBLE)

    def explained(inputs: Any, target: Tensor, by: Any) -> Any:
        # captum passes a tuple of one first, and wants one back; then the tensor itself.
        return (by.heatmaps(*inputs, target),) if isinstance(inputs, tuple) else by.heatmaps(inputs, target)

    close(sensitivity_max(explained, inputs, target=TARGETS, by=centre), torch.zeros(2, dtype=DOUBLE))
    assert (sensitivity_max(explained, inputs, target=TARGETS, by=edges) > 1e-3).all()


@pytest.mark.parametrize("name", ["clrp", "lrp", "gradient", "guided-backprop"])
def test_sensitivity_equals_ours_under_the_same_noise(name: str) -> None:
    layers = nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 16, 5)
    method = vv.method(name)(nn.Sequential(*layers).double().eval())
    # Of one channel, as ours is of maps summed over the channels.
    inputs = torch.rand(1, 1, 8, 8, dtype=DOUBLE)
    explainer = MethodExplainer(method)
    heatmap = explainer.heatmaps(inputs, torch.tensor([3]))[0]
    copies = disturbed(inputs, noise=0.05, samples=6, seed=4)
    ours = stability(explainer, inputs, heatmap, 3, noise=0.05, samples=6, seed=4).sensitivity
    theirs = sensitivity_max(method.attribute, inputs, perturb_func=lambda x: copies, n_perturb_samples=6, target=3)
    close(ours, theirs.item())
    assert ours > 0.01


# -- what may stand in the way -----------------------------------------------------------------------------------------


# Integrated gradients and SmoothGrad are captum's own, and slow; the network takes one size alone.
@pytest.mark.parametrize("name", sorted(vv.methods().keys() - {"integrated-gradients", "smoothgrad", "clrp-scales"}))
def test_every_method_runs_and_leaves_the_model_as_it_was(name: str, network: nn.Module) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    inputs = torch.rand(2, 3, 8, 8, dtype=DOUBLE, requires_grad=True)
    found = sensitivity_max(vv.method(name)(network).attribute, inputs, n_perturb_samples=3, target=TARGETS)
    assert found.shape == (2,)
    assert torch.isfinite(found).all()
    assert (found > 0).all()
    assert inputs.grad is None
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    for key, value in network.state_dict().items():
        close(value, before[key], rtol=0, atol=0)


def test_several_inputs_and_further_arguments_are_repeated_with_the_disturbed_inputs() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4, bias=False), nn.Linear(2, 4, bias=False)

        def forward(self, first: Tensor, second: Tensor, factor: Tensor) -> Tensor:
            return factor * (self.first(first) + self.second(second))

    module = Scaled().double()
    inputs = torch.rand(2, 3, dtype=DOUBLE), torch.rand(2, 2, dtype=DOUBLE)
    factor = torch.tensor([[1.0], [5.0]], dtype=DOUBLE)
    arguments = {"target": TARGETS, "additional_forward_args": factor}
    method = vv.InputXGradient(module)
    weights = torch.cat([module.first.weight, module.second.weight], 1)[TARGETS].detach()
    shifted = functools.partial(sensitivity_max, perturb_func=lambda several: tuple(one + 0.1 for one in several))
    moved = weights.norm(dim=1) * 0.1 / (weights * torch.cat(inputs, 1)).norm(dim=1)
    close(shifted(method.attribute, inputs, **arguments), moved)

    def taken(several: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return tuple(torch.full_like(one, 0.1) for one in several), tuple(one - 0.1 for one in several)

    gradients = vv.Gradient(module).attribute(inputs, **arguments)
    close(infidelity(module, taken, inputs, gradients, **arguments), torch.zeros(2, dtype=DOUBLE))


def test_a_map_whose_backward_repeats_one_value_can_be_measured_and_edited() -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(3, 4)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.last(inputs.sum((2, 3)))

    module, inputs = Summed().double(), torch.rand(2, 3, 4, 4, dtype=DOUBLE)
    gradient = vv.Gradient(module).attribute(inputs, target=TARGETS)
    expected = module.last.weight[TARGETS][..., None, None].expand(2, 3, 4, 4).detach()
    close(gradient, expected)
    close(sensitivity_max(vv.Gradient(module).attribute, inputs, target=TARGETS), torch.zeros(2, dtype=DOUBLE))
    gradient[0, 0, 0, 0] += 1
    assert (gradient != expected).sum() == 1


def test_pixels_beyond_the_bounds_are_refused_and_clamped_ones_are_not(network: nn.Module) -> None:
    inputs = torch.rand(2, 3, 8, 8, dtype=DOUBLE).round()
    bounded = vv.CLRP(network, bounds=(0, 1))
    with pytest.raises(vv.InputError, match="beyond the bounds"):
        sensitivity_max(bounded.attribute, inputs, target=TARGETS)

    def within(inputs: Tensor) -> Tensor:
        return (inputs + noise(inputs)[0]).clamp(0, 1)

    assert (sensitivity_max(bounded.attribute, inputs, within, target=TARGETS) > 0).all()


def test_a_foil_for_each_image_needs_one_disturbed_copy_at_a_time(network: nn.Module) -> None:
    inputs, foil = torch.rand(2, 3, 8, 8, dtype=DOUBLE), torch.tensor([3, 4])
    measured = functools.partial(
        sensitivity_max, perturb_func=lambda x: x + 0.05, n_perturb_samples=2, max_examples_per_batch=2
    )
    own = vv.CLRP(network, foil=foil)
    with pytest.raises(vv.InputError, match=r"one class for each image, shape \(20,\), not \(2,\)"):
        sensitivity_max(own.attribute, inputs, target=TARGETS)
    found = measured(own.attribute, inputs, target=TARGETS)
    single = [
        measured(vv.CLRP(network, foil=int(foil[i])).attribute, inputs[i : i + 1], target=int(TARGETS[i]))
        for i in range(2)
    ]
    close(found, torch.cat(single))


def test_the_page_runs(linear: nn.Module) -> None:
    names = {"module": linear, "inputs": INPUTS, "targets": TARGETS}
    found = run_block("evaluation.md", "sensitivity_max", names)
    close(found["error"], torch.zeros(2, dtype=DOUBLE))
    assert found["sensitivity"].shape == (2,)
    assert (found["sensitivity"] > 0).all()

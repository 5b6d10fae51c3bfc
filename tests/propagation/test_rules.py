"""Every rule across every kind of layer, pooling and sum, against formulas on explicit matrices."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

import visavis as vv
from oracles import dense
from visavis.propagation.rules import AlphaBeta, Epsilon, Flat, Gamma, SameSign, WSquare, ZBox, Zero, ZPlus

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

close = functools.partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)

RULES: dict[str, tuple[object, dense.Rule]] = {
    "zero": (Zero(), dense.zero),
    "epsilon": (Epsilon(), dense.epsilon),
    "epsilon-large": (Epsilon(0.25), functools.partial(dense.epsilon, epsilon=0.25)),
    "z-plus": (ZPlus(), dense.z_plus),
    "gamma": (Gamma(), dense.gamma),
    "gamma-large": (Gamma(gamma=3.0), functools.partial(dense.gamma, gamma=3.0)),
    "alpha2-beta1": (AlphaBeta(), dense.alpha_beta),
    "alpha1-beta0": (AlphaBeta(1.0, 0.0), functools.partial(dense.alpha_beta, alpha=1.0, beta=0.0)),
    "alpha2-beta1-bias": (AlphaBeta(2.0, 1.0, bias=True), functools.partial(dense.alpha_beta, bias=True)),
    "w-square": (WSquare(), dense.w_square),
    "flat": (Flat(), dense.flat),
    "same-sign": (SameSign(), dense.same_sign),
}

Build = Callable[[], nn.Module]

LAYERS: dict[str, tuple[Build, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 4), (6,)),
    "linear-without-bias": (lambda: nn.Linear(6, 4, bias=False), (6,)),
    "linear-on-sequence": (lambda: nn.Linear(3, 5), (4, 3)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3), (3, 7)),
    "conv1d-all": (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, bias=False),
        (4, 9),
    ),
    "conv1d-same-even": (lambda: nn.Conv1d(2, 3, 4, padding="same"), (2, 6)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3), (2, 5, 6)),
    "conv2d-without-bias": (lambda: nn.Conv2d(2, 3, 3, padding=1, bias=False), (2, 5, 4)),
    "conv2d-stride-leaves-a-rest": (lambda: nn.Conv2d(2, 3, 3, stride=3, padding=1), (2, 6, 7)),
    "conv2d-stride-beyond-kernel": (lambda: nn.Conv2d(2, 3, 1, stride=2), (2, 6, 5)),
    "conv2d-dilation": (lambda: nn.Conv2d(2, 3, (2, 3), dilation=(2, 1), padding=(0, 2)), (2, 5, 4)),
    "conv2d-groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 4, 4)),
    "conv2d-depthwise": (lambda: nn.Conv2d(3, 3, 3, groups=3, stride=2, padding=1), (3, 5, 5)),
    "conv2d-depthwise-multiplied": (lambda: nn.Conv2d(3, 6, 3, groups=3, bias=False), (3, 4, 4)),
    "conv2d-same-even": (lambda: nn.Conv2d(2, 3, (2, 4), padding="same"), (2, 4, 5)),
    "conv2d-same-dilated": (lambda: nn.Conv2d(2, 2, 2, padding="same", dilation=(3, 1)), (2, 5, 4)),
    "conv2d-valid": (lambda: nn.Conv2d(2, 3, 2, padding="valid"), (2, 4, 4)),
    "conv2d-circular": (lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular"), (2, 4, 4)),
    "conv2d-reflect": (lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect"), (2, 4, 4)),
    "conv2d-replicate": (
        lambda: nn.Conv2d(2, 3, 3, padding=1, stride=2, padding_mode="replicate"),
        (2, 5, 4),
    ),
    "conv2d-reflect-same": (
        lambda: nn.Conv2d(2, 2, (2, 3), padding="same", padding_mode="reflect"),
        (2, 4, 4),
    ),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, padding=(1, 0, 1)), (2, 2, 3, 3)),
    "conv3d-all": (
        lambda: nn.Conv3d(2, 4, (2, 1, 2), stride=(1, 2, 1), dilation=(1, 1, 2), groups=2, bias=False),
        (2, 3, 3, 4),
    ),
    "transposed1d": (lambda: nn.ConvTranspose1d(3, 2, 3), (3, 4)),
    "transposed1d-all": (
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1, output_padding=2, groups=2, dilation=2),
        (4, 4),
    ),
    "transposed2d": (lambda: nn.ConvTranspose2d(2, 3, 2, bias=False), (2, 3, 3)),
    "transposed2d-output-padding": (
        lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=(1, 0)),
        (2, 3, 3),
    ),
    "transposed2d-depthwise": (lambda: nn.ConvTranspose2d(3, 3, 3, stride=2, groups=3), (3, 3, 2)),
    "transposed3d": (
        lambda: nn.ConvTranspose3d(2, 2, 2, stride=(2, 1, 2), output_padding=(1, 0, 0)),
        (2, 2, 2, 2),
    ),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def built(build: Build) -> nn.Module:
    """A layer in float64 whose weights and biases are large and of both signs."""
    layer = build().double().eval().requires_grad_(False)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn_like(parameter))
    return layer


def rule_set(rule: object, share: str = "absolute") -> vv.RuleSet:
    return vv.RuleSet(name="tested", default=rule, pixel=None, share=share)


def attributed(module: nn.Module, inputs: Tensor, relevance: Tensor, rules: vv.RuleSet, **options: object) -> Tensor:
    """Relevance of the inputs, by the engine, for `relevance` on the outputs exactly as given."""
    return vv.LRP(module.eval(), rules=rules, unit_dim=1, **options).attribute(inputs, target=lambda _: relevance)


def relevance_like(outputs: Tensor) -> Tensor:
    """(B, ...): of both signs in the first sample, positive in the second, one place only in the third."""
    relevance = torch.randn_like(outputs)
    relevance[1] = relevance[1].abs()
    sparse = torch.zeros_like(relevance[2]).flatten()
    sparse[0] = 1.0
    relevance[2] = sparse.reshape(relevance[2].shape)
    return relevance


def case(build: Build, shape: tuple[int, ...]) -> tuple[nn.Module, Tensor, Tensor]:
    layer = built(build)
    inputs = torch.randn(3, *shape, dtype=torch.float64)
    return layer, inputs, relevance_like(layer(inputs))


# Weighted layers


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layer", LAYERS)
def test_rule_across_a_layer(layer: str, rule: str) -> None:
    module, inputs, relevance = case(*LAYERS[layer])
    engine, oracle = RULES[rule]
    expected = dense.propagate(oracle, module, inputs, relevance)
    close(attributed(module, inputs, relevance, rule_set(engine)), expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layer", LAYERS)
def test_rule_where_inputs_are_known_not_to_be_negative(layer: str, rule: str) -> None:
    module, inputs, _ = case(*LAYERS[layer])
    relevance = relevance_like(module(inputs.relu()))
    engine, oracle = RULES[rule]
    expected = dense.propagate(oracle, module, inputs.relu(), relevance)
    close(attributed(nn.Sequential(nn.ReLU(), module), inputs, relevance, rule_set(engine)), expected)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("per_channel", [False, True], ids=["scalar", "per-channel"])
def test_box_rule_at_the_pixels(layer: str, per_channel: bool) -> None:
    module, inputs, relevance = case(*LAYERS[layer])
    inputs = inputs.clamp(-2.5, 2.0)
    low: Tensor | float = -2.5
    high: Tensor | float = 2.0
    if per_channel:
        shape = (1, inputs.shape[1], *[1] * (inputs.ndim - 2))
        low = -2.5 - torch.rand(shape, dtype=torch.float64)
        high = 2.0 + torch.rand(shape, dtype=torch.float64)
    expected = dense.propagate(dense.z_box, module, inputs, relevance, low=low, high=high)
    rules = vv.RuleSet(name="tested", default=ZPlus(), pixel=ZBox(), share="absolute")
    close(attributed(module, inputs, relevance, rules, bounds=(low, high)), expected)


def test_box_rule_sees_through_an_explicit_zero_padding() -> None:
    implicit = built(lambda: nn.Conv2d(2, 3, 3, padding=(1, 2)))
    explicit = built(lambda: nn.Conv2d(2, 3, 3))
    explicit.load_state_dict(implicit.state_dict())
    inputs = torch.randn(3, 2, 4, 4, dtype=torch.float64).clamp(-2, 2)
    relevance = relevance_like(implicit(inputs))
    rules = vv.RuleSet(name="tested", default=ZPlus(), pixel=ZBox(), share="absolute")
    expected = dense.propagate(dense.z_box, implicit, inputs, relevance, low=-2.0, high=2.0)
    module = nn.Sequential(nn.ZeroPad2d((2, 2, 1, 1)), explicit)
    close(attributed(module, inputs, relevance, rules, bounds=(-2.0, 2.0)), expected)


@pytest.mark.parametrize("rule", ["zero", "z-plus", "gamma", "alpha2-beta1"])
def test_functional_layers_equal_modules(rule: str) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(3, 2, 3, 3, dtype=torch.float64))
            self.matrix = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            hidden = functional.conv2d(x, self.kernel, padding=1, stride=2).relu()
            return functional.linear(hidden.mean((2, 3)), self.matrix)

    module = Functional()
    convolution = built(lambda: nn.Conv2d(2, 3, 3, padding=1, stride=2, bias=False))
    linear = built(lambda: nn.Linear(3, 4, bias=False))
    convolution.weight, linear.weight = module.kernel, module.matrix
    same = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    inputs = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    relevance = relevance_like(same(inputs).detach())
    rules = rule_set(RULES[rule][0])
    close(attributed(module, inputs, relevance, rules), attributed(same, inputs, relevance, rules))


@pytest.mark.parametrize("rule", RULES)
def test_rule_through_a_small_network(rule: str) -> None:
    first, second = built(lambda: nn.Conv2d(2, 4, 3, padding=1)), built(lambda: nn.Conv2d(4, 3, 2))
    last = built(lambda: nn.Linear(12, 5))
    module = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), last)
    inputs = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    engine, oracle = RULES[rule]
    hidden = first(inputs).relu()
    pooled = functional.max_pool2d(hidden, 2)
    features = second(pooled).relu()
    relevance = relevance_like(last(features.flatten(1)))
    back = dense.propagate(oracle, last, features.flatten(1), relevance).reshape(features.shape)
    back = dense.propagate(oracle, second, pooled, back)
    windows = dense.pooling_windows(hidden.shape[1:], (2, 2), (2, 2), (0, 0), (1, 1), False)
    back = dense.max_pool(windows, hidden.flatten(1), back.flatten(1)).reshape(hidden.shape)
    back = dense.propagate(oracle, first, inputs, back)
    close(attributed(module, inputs, relevance, rule_set(engine)), back)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    rule=st.sampled_from(sorted(RULES)),
    groups=st.sampled_from([1, 2]),
    sources=st.integers(1, 2),
    sinks=st.integers(1, 2),
    size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    bias=st.booleans(),
    rectified=st.booleans(),
)
def test_rule_across_any_convolution(
    seed: int,
    rule: str,
    groups: int,
    sources: int,
    sinks: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    bias: bool,
    rectified: bool,
) -> None:
    assume(all(n + 2 * p > d * (k - 1) for n, p, d, k in zip(size, padding, dilation, kernel, strict=True)))
    torch.manual_seed(seed)
    layer = built(
        lambda: nn.Conv2d(groups * sources, groups * sinks, kernel, stride, padding, dilation, groups=groups, bias=bias)
    )
    inputs = torch.randn(3, groups * sources, *size, dtype=torch.float64)
    seen = inputs.relu() if rectified else inputs
    relevance = relevance_like(layer(seen))
    engine, oracle = RULES[rule]
    module = nn.Sequential(nn.ReLU(), layer) if rectified else layer
    expected = dense.propagate(oracle, layer, seen, relevance)
    # One output close to zero makes the ratios of the signed rules as large as they are inexact.
    scale = max(1.0, expected.abs().max().item())
    close(attributed(module, inputs, relevance, rule_set(engine)), expected, atol=1e-9 * scale)


# The checker bites


def _gamma_without_bias(layer: dense.Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    return dense.gamma(layer._replace(bias=torch.zeros_like(layer.bias)), inputs, relevance)


def _z_plus_with_bias(layer: dense.Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    c = dense.positive(dense.contributions(layer, inputs))
    return dense.shared(c, c.sum(1) + dense.positive(layer.bias), relevance)


def _z_plus_of_positive_inputs_only(layer: dense.Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    return dense.z_plus(layer, inputs.relu(), relevance)


def _epsilon_without_sign(layer: dense.Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    c = dense.contributions(layer, inputs)
    return dense.shared(c, c.sum(1) + layer.bias + 0.25, relevance)


def _w_square_counting_padding(layer: dense.Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    squares = (layer.matrix**2).expand(len(inputs), -1, -1)
    return dense.shared(squares, squares.sum(1).amax(1, keepdim=True).expand_as(relevance), relevance)


def _flat_by_weight(layer: dense.Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    return dense.w_square(layer, inputs, relevance)


def _alpha_beta_that_adds(layer: dense.Dense, inputs: Tensor, relevance: Tensor) -> Tensor:
    return dense.alpha_beta(layer, inputs, relevance, beta=-1.0)


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        (Zero(), _epsilon_without_sign),
        (Epsilon(0.25), _epsilon_without_sign),
        (Epsilon(0.25), dense.zero),
        (ZPlus(), _z_plus_with_bias),
        (ZPlus(), _z_plus_of_positive_inputs_only),
        (Gamma(0.25), _gamma_without_bias),
        (Gamma(0.25), functools.partial(dense.gamma, gamma=0.3)),
        (AlphaBeta(2.0, 1.0), functools.partial(dense.alpha_beta, bias=True)),
        (AlphaBeta(2.0, 1.0), _alpha_beta_that_adds),
        (WSquare(), _w_square_counting_padding),
        (Flat(), _flat_by_weight),
    ],
)
def test_a_rule_wrong_by_one_term_is_caught(rule: object, wrong: dense.Rule) -> None:
    layer, inputs, relevance = case(lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 5, 5))
    found = attributed(layer, inputs, relevance, rule_set(rule))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(found, dense.propagate(wrong, layer, inputs, relevance), rtol=1e-3, atol=1e-3)


def test_a_box_rule_without_its_upper_bound_is_caught() -> None:
    layer, inputs, relevance = case(lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 5, 5))
    rules = vv.RuleSet(name="tested", default=ZPlus(), pixel=ZBox(), share="absolute")
    inputs = inputs.clamp(-2, 2)
    found = attributed(layer, inputs, relevance, rules, bounds=(-2.0, 2.0))
    close(found, dense.propagate(dense.z_box, layer, inputs, relevance, low=-2.0, high=2.0))
    wrong = dense.propagate(dense.z_box, layer, inputs, relevance, low=-2.0, high=0.0)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(found, wrong, rtol=1e-3, atol=1e-3)


# Pooling

MAXIMA: dict[str, tuple[Build, tuple[int, ...], dict[str, object]]] = {
    "1d": (lambda: nn.MaxPool1d(2), (2, 6), {"kernel": (2,), "stride": (2,)}),
    "2d": (lambda: nn.MaxPool2d(2), (2, 4, 5), {"kernel": (2, 2), "stride": (2, 2)}),
    "2d-overlapping": (lambda: nn.MaxPool2d(3, 2), (2, 6, 7), {"kernel": (3, 3), "stride": (2, 2)}),
    "2d-padding": (
        lambda: nn.MaxPool2d(3, 2, 1),
        (2, 5, 6),
        {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)},
    ),
    "2d-dilation": (
        lambda: nn.MaxPool2d((2, 3), 1, (1, 0), (2, 1)),
        (2, 5, 5),
        {"kernel": (2, 3), "stride": (1, 1), "padding": (1, 0), "dilation": (2, 1)},
    ),
    "2d-ceil": (
        lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
        (2, 6, 6),
        {"kernel": (3, 3), "stride": (2, 2), "ceil_mode": True},
    ),
    "2d-ceil-padding": (
        lambda: nn.MaxPool2d(2, 3, 1, ceil_mode=True),
        (1, 6, 5),
        {"kernel": (2, 2), "stride": (3, 3), "padding": (1, 1), "ceil_mode": True},
    ),
    "3d": (
        lambda: nn.MaxPool3d((1, 2, 2), (1, 2, 1), (0, 1, 0)),
        (2, 2, 3, 3),
        {"kernel": (1, 2, 2), "stride": (1, 2, 1), "padding": (0, 1, 0)},
    ),
}


def windows_of(shape: tuple[int, ...], options: dict[str, object]) -> list[dense.Window]:
    ones, zeros = (1,) * (len(shape) - 1), (0,) * (len(shape) - 1)
    filled = {"padding": zeros, "dilation": ones, "ceil_mode": False, **options}
    return dense.pooling_windows(shape, **filled)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("pool", MAXIMA)
def test_max_pooling(pool: str, ties: bool) -> None:
    build, shape, options = MAXIMA[pool]
    inputs = torch.randn(3, *shape, dtype=torch.float64)
    if ties:
        inputs = inputs.round()
        inputs[1] = inputs[1].relu()
    module = build()
    relevance = relevance_like(module(inputs))
    expected = dense.max_pool(windows_of(shape, options), inputs.flatten(1), relevance.flatten(1))
    found = attributed(module, inputs, relevance, rule_set(ZPlus()))
    close(found, expected.reshape(inputs.shape))
    close(found.flatten(1).sum(1), relevance.flatten(1).sum(1))


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("outputs", [(2, 3), (5, 2)], ids=["regular", "irregular"])
def test_adaptive_max_pooling(outputs: tuple[int, int], ties: bool) -> None:
    inputs = torch.randn(3, 2, 8, 6, dtype=torch.float64)
    if ties:
        inputs = inputs.mul(2).round()
    relevance = relevance_like(functional.adaptive_max_pool2d(inputs, outputs))
    windows = dense.adaptive_windows((2, 8, 6), outputs)
    expected = dense.max_pool(windows, inputs.flatten(1), relevance.flatten(1)).reshape(inputs.shape)
    close(attributed(nn.AdaptiveMaxPool2d(outputs), inputs, relevance, rule_set(ZPlus())), expected)


AVERAGES: dict[str, tuple[Build, tuple[int, ...], dict[str, object]]] = {
    "1d": (
        lambda: nn.AvgPool1d(3, 2, 1),
        (2, 6),
        {"kernel": (3,), "stride": (2,), "padding": (1,)},
    ),
    "2d": (lambda: nn.AvgPool2d(2), (2, 4, 5), {"kernel": (2, 2), "stride": (2, 2)}),
    "2d-padding": (
        lambda: nn.AvgPool2d(3, 1, 1),
        (2, 4, 4),
        {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1)},
    ),
    "2d-padding-uncounted": (
        lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        (2, 5, 4),
        {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)},
    ),
    "2d-ceil": (
        lambda: nn.AvgPool2d((3, 2), 2, (1, 0), ceil_mode=True),
        (2, 6, 5),
        {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 0), "ceil_mode": True},
    ),
    "3d": (lambda: nn.AvgPool3d((1, 2, 2)), (2, 2, 4, 2), {"kernel": (1, 2, 2), "stride": (1, 2, 2)}),
}


@pytest.mark.parametrize("share", ["signed", "absolute", "same-sign"])
@pytest.mark.parametrize("pool", AVERAGES)
def test_average_pooling(pool: str, share: str) -> None:
    build, shape, options = AVERAGES[pool]
    module = build()
    inputs = torch.randn(3, *shape, dtype=torch.float64)
    relevance = relevance_like(module(inputs))
    counted = getattr(module, "count_include_pad", True)
    matrix = dense.average_matrix(windows_of(shape, options), math.prod(shape), counted)
    expected = dense.linear_map(matrix, inputs.flatten(1), relevance.flatten(1), share)
    close(attributed(module, inputs, relevance, rule_set(ZPlus(), share)), expected.reshape(inputs.shape))


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


FIXED_MAPS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "adaptive-1d": (lambda x: functional.adaptive_avg_pool1d(x, 3), (2, 7)),
    "adaptive-2d": (lambda x: functional.adaptive_avg_pool2d(x, (2, 3)), (2, 5, 7)),
    "adaptive-2d-upwards": (lambda x: functional.adaptive_avg_pool2d(x, (3, 5)), (2, 2, 2)),
    "adaptive-2d-keeps-a-side": (lambda x: functional.adaptive_avg_pool2d(x, (None, 1)), (2, 3, 4)),
    "adaptive-3d": (lambda x: functional.adaptive_avg_pool3d(x, 1), (2, 2, 3, 2)),
    "mean": (lambda x: x.mean((2, 3)), (2, 3, 4)),
    "mean-of-one-side": (lambda x: torch.mean(x, dim=-1, keepdim=True), (2, 3, 4)),
    "bilinear": (
        lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
        (2, 3, 4),
    ),
    "bilinear-to-corners": (
        lambda x: functional.interpolate(x, size=(5, 3), mode="bilinear", align_corners=True),
        (2, 3, 4),
    ),
    "nearest": (lambda x: functional.interpolate(x, size=(5, 3)), (2, 3, 4)),
}


@pytest.mark.parametrize("share", ["signed", "absolute", "same-sign"])
@pytest.mark.parametrize("name", FIXED_MAPS)
def test_fixed_linear_maps(name: str, share: str) -> None:
    function, shape = FIXED_MAPS[name]
    inputs = torch.randn(3, *shape, dtype=torch.float64)
    relevance = relevance_like(function(inputs))
    matrix = dense.matrix_of(function, shape)
    expected = dense.linear_map(matrix, inputs.flatten(1), relevance.flatten(1), share)
    found = attributed(Applied(function), inputs, relevance, rule_set(ZPlus(), share))
    close(found, expected.reshape(inputs.shape))


# Sums, branches, routing


def _in_place(a: Tensor, b: Tensor) -> Tensor:
    a += b
    return a


SUMS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], float, float]] = {
    "operator": (lambda a, b: a + b, 1.0, 1.0),
    "torch.add": (torch.add, 1.0, 1.0),
    "torch.add-alpha": (lambda a, b: torch.add(a, b, alpha=0.5), 1.0, 0.5),
    "method-alpha": (lambda a, b: a.add(b, alpha=-2.0), 1.0, -2.0),
    "in-place": (_in_place, 1.0, 1.0),
    "in-place-method": (lambda a, b: a.add_(b, alpha=0.5), 1.0, 0.5),
    "difference": (lambda a, b: a - b, 1.0, -1.0),
}


class Residual(nn.Module):
    """combine(convolution(x), x)"""

    def __init__(self, convolution: nn.Module, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.convolution, self.combine = convolution, combine

    def forward(self, x: Tensor) -> Tensor:
        return self.combine(self.convolution(x), x)


@pytest.mark.parametrize("rule", ["zero", "z-plus"])
@pytest.mark.parametrize("share", ["signed", "absolute", "same-sign"])
@pytest.mark.parametrize("name", SUMS)
def test_residual_sums(name: str, share: str, rule: str) -> None:
    combine, first, second = SUMS[name]
    engine, oracle = RULES[rule]
    convolution, inputs, relevance = case(lambda: nn.Conv2d(2, 2, 3, padding=1), (2, 4, 4))
    branch = convolution(inputs)
    to_branch, to_skip = dense.sum_shares(first * branch, second * inputs, relevance, share)
    expected = dense.propagate(oracle, convolution, inputs, to_branch) + to_skip
    scale = max(1.0, expected.abs().max().item())
    found = attributed(Residual(convolution, combine), inputs, relevance, rule_set(engine, share))
    close(found, expected, atol=1e-9 * scale)


@pytest.mark.parametrize("share", ["signed", "absolute", "same-sign"])
def test_broadcast_sum(share: str) -> None:
    inputs = torch.randn(3, 2, 3, 4, dtype=torch.float64)
    relevance = relevance_like(inputs)
    means = inputs.mean((2, 3), keepdim=True)
    to_means, to_pixels = dense.sum_shares(means, inputs, relevance, share)
    matrix = dense.matrix_of(lambda x: x.mean((2, 3)), (2, 3, 4))
    back = dense.linear_map(matrix, inputs.flatten(1), to_means.flatten(1), share).reshape(inputs.shape)
    module = Applied(lambda x: x.mean((2, 3), keepdim=True) + x)
    close(attributed(module, inputs, relevance, rule_set(ZPlus(), share)), back + to_pixels)


def test_the_choice_of_share_bites() -> None:
    convolution, inputs, relevance = case(lambda: nn.Conv2d(2, 2, 3, padding=1), (2, 4, 4))
    module = Residual(convolution, lambda a, b: a + b)
    maps = [
        attributed(module, inputs, relevance, rule_set(ZPlus(), share)) for share in ("signed", "absolute", "same-sign")
    ]
    for one, other in itertools.combinations(maps, 2):
        assert (one - other).abs().max() > 0.1


def test_concatenation_splits_relevance() -> None:
    first, second = built(lambda: nn.Conv2d(2, 3, 1)), built(lambda: nn.Conv2d(2, 2, 3, padding=1))
    inputs = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    module = Applied(lambda x: torch.cat([first(x), x, second(x)], 1))
    relevance = relevance_like(module(inputs))
    expected = (
        dense.propagate(dense.z_plus, first, inputs, relevance[:, :3])
        + relevance[:, 3:5]
        + dense.propagate(dense.z_plus, second, inputs, relevance[:, 5:])
    )
    close(attributed(module, inputs, relevance, rule_set(ZPlus())), expected)


def test_a_layer_used_twice_gives_relevance_twice() -> None:
    layer = built(lambda: nn.Linear(4, 4))
    inputs = torch.randn(3, 4, dtype=torch.float64)
    hidden = layer(inputs).relu()
    relevance = relevance_like(layer(hidden))
    back = dense.propagate(dense.z_plus, layer, hidden, relevance)
    expected = dense.propagate(dense.z_plus, layer, inputs, back)
    module = nn.Sequential(layer, nn.ReLU(), layer)
    close(attributed(module, inputs, relevance, rule_set(ZPlus())), expected)


@pytest.mark.parametrize(
    "module",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Dropout2d(0.5),
        nn.Identity(),
        Applied(lambda x: functional.relu_(x.clone())),
        Applied(lambda x: functional.dropout(x, 0.5, training=False)),
        Applied(torch.relu),
        Applied(lambda x: x.clamp(min=0)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_relevance_passes_unchanged(module: nn.Module) -> None:
    inputs = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    relevance = relevance_like(inputs)
    close(attributed(module, inputs, relevance, rule_set(ZPlus())), relevance)


def test_views_carry_relevance_to_its_place() -> None:
    module = Applied(lambda x: x.permute(0, 2, 3, 1).reshape(len(x), -1)[:, 1:].unsqueeze(1).chunk(2, -1)[0])
    inputs = torch.randn(3, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    outputs = module(inputs)
    relevance = relevance_like(outputs.detach())
    (expected,) = torch.autograd.grad(outputs, inputs, relevance)
    close(attributed(module, inputs.detach(), relevance, rule_set(ZPlus())), expected)


# Batch normalisation


def built_norm(build: Callable[[], nn.modules.batchnorm._BatchNorm]) -> nn.modules.batchnorm._BatchNorm:
    """In evaluation mode, with random statistics and scales of both signs."""
    norm = build().double().eval().requires_grad_(False)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    if norm.affine:
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


NORMALISED: dict[str, tuple[Build, Build, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), lambda: nn.BatchNorm1d(4), (5,)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3, padding=1), lambda: nn.BatchNorm1d(4), (2, 5)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3, padding=1), lambda: nn.BatchNorm2d(3), (2, 4, 4)),
    "conv2d-without-bias": (
        lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False),
        lambda: nn.BatchNorm2d(6, eps=0.1),
        (4, 5, 5),
    ),
    "conv2d-plain-norm": (lambda: nn.Conv2d(2, 3, 2), lambda: nn.BatchNorm2d(3, affine=False), (2, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), lambda: nn.BatchNorm3d(3), (2, 3, 3, 3)),
    "transposed2d": (
        lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2),
        lambda: nn.BatchNorm2d(6),
        (4, 3, 3),
    ),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", NORMALISED)
def test_batch_norm_is_folded_into_the_layer_before_it(name: str, rule: str) -> None:
    build_layer, build_norm, shape = NORMALISED[name]
    layer, norm = built(build_layer), built_norm(build_norm)
    inputs = torch.randn(3, *shape, dtype=torch.float64)
    module = nn.Sequential(layer, norm)
    one = dense.folded(layer, norm)
    close(one(inputs), module(inputs))
    relevance = relevance_like(module(inputs))
    engine, oracle = RULES[rule]
    expected = dense.propagate(oracle, one, inputs, relevance)
    scale = max(1.0, expected.abs().max().item())
    close(attributed(module, inputs, relevance, rule_set(engine)), expected, atol=1e-9 * scale)


def test_box_rule_on_folded_weights() -> None:
    layer, norm = built(lambda: nn.Conv2d(2, 3, 3, padding=1)), built_norm(lambda: nn.BatchNorm2d(3))
    inputs = torch.randn(3, 2, 4, 4, dtype=torch.float64).clamp(-2, 2)
    relevance = relevance_like(layer(inputs))
    rules = vv.RuleSet(name="tested", default=ZPlus(), pixel=ZBox(), share="absolute")
    expected = dense.propagate(dense.z_box, dense.folded(layer, norm), inputs, relevance, low=-2.0, high=2.0)
    found = attributed(nn.Sequential(layer, norm), inputs, relevance, rules, bounds=(-2.0, 2.0))
    close(found, expected)


def scaling_norm() -> nn.BatchNorm2d:
    """A batch normalisation that only scales, one channel by a negative number."""
    norm = built_norm(lambda: nn.BatchNorm2d(3))
    norm.running_mean.zero_()
    norm.bias.zero_()
    norm.weight.copy_(torch.tensor([-1.0, 0.5, 2.0]))
    return norm


class ReadTwice(nn.Module):
    """The normalised and the plain output of one convolution, side by side."""

    def __init__(self, convolution: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.convolution(x)
        return torch.cat([self.norm(hidden), hidden], 1)


@pytest.mark.parametrize("rule", ["zero", "z-plus"])
def test_batch_norm_is_not_folded_where_the_layer_is_read_twice(rule: str) -> None:
    convolution, norm = built(lambda: nn.Conv2d(2, 3, 3)), scaling_norm()
    inputs = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    module = ReadTwice(convolution, norm)
    relevance = relevance_like(module(inputs))
    engine, oracle = RULES[rule]
    # A pure scaling hands its relevance on; the convolution then meets both shares with its own weights.
    expected = dense.propagate(oracle, convolution, inputs, relevance[:, :3] + relevance[:, 3:])
    found = attributed(module, inputs, relevance, rule_set(engine))
    scale = max(1.0, expected.abs().max().item())
    close(found, expected, atol=1e-9 * scale)


@pytest.mark.parametrize("rules", ["zero", "deep-taylor", "alpha2-beta1"])
def test_bicubic_resizing_keeps_no_signs_however_its_mode_is_given(rules: str) -> None:
    class Resized(nn.Module):
        def __init__(self, *sizes: object, hidden: bool = False, **options: object) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.hidden = hidden
            self.first = nn.Conv2d(2, 3, 3, bias=False, dtype=torch.float64)
            self.last = nn.Conv2d(3, 4, 5, bias=False, dtype=torch.float64)
            self.sizes, self.options = sizes, options

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            wide = nn.functional.interpolate(self.first(x).relu(), *self.sizes, **self.options)
            # Between its support points a bicubic curve goes below zero.
            assert wide.min() < 0
            # Negated twice, the values are the same and nothing is known of their signs.
            return self.last(wide.neg().neg() if self.hidden else wide).mean((2, 3))

    x = torch.randn(2, 2, 7, 7, dtype=torch.float64)
    by_name = vv.LRP(Resized((11, 11), mode="bicubic"), rules=rules).attribute(x, 1)
    by_position = vv.LRP(Resized((11, 11), None, "bicubic"), rules=rules).attribute(x, 1)
    hidden = vv.LRP(Resized((11, 11), mode="bicubic", hidden=True), rules=rules).attribute(x, 1)
    torch.testing.assert_close(by_name, hidden, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(by_position, by_name, rtol=0, atol=0)
    if rules == "zero":
        leaf = x.clone().requires_grad_()
        score = Resized((11, 11), mode="bicubic")(leaf)[:, 1]
        (gradient,) = torch.autograd.grad(score.sum(), leaf)
        torch.testing.assert_close(by_name, gradient * x * score.sign().view(-1, 1, 1, 1), rtol=1e-9, atol=1e-12)

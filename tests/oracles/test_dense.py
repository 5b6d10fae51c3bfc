"""The oracles themselves: two ways to a matrix agree, the rules agree with zennit and with gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from oracles import dense

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


CONVOLUTIONS = [
    (lambda: nn.Conv1d(3, 4, 3), (3, 8)),
    (lambda: nn.Conv1d(4, 6, 2, stride=2, padding=1, dilation=2, groups=2), (4, 9)),
    (lambda: nn.Conv1d(2, 3, 4, padding="same", bias=False), (2, 7)),
    (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 6, 5)),
    (lambda: nn.Conv2d(4, 4, (3, 2), padding=(0, 1), groups=4), (4, 5, 6)),
    (lambda: nn.Conv2d(2, 2, 2, dilation=2, padding="same"), (2, 5, 5)),
    (lambda: nn.Conv2d(2, 2, 3, padding="valid"), (2, 5, 5)),
    (lambda: nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=1), (2, 3, 4, 3)),
    (lambda: nn.ConvTranspose1d(3, 4, 3, stride=2, output_padding=1), (3, 5)),
    (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 3, 4)),
    (lambda: nn.ConvTranspose2d(2, 3, 2, dilation=2, bias=False), (2, 3, 3)),
    (lambda: nn.ConvTranspose3d(2, 2, 2, stride=2), (2, 2, 2, 3)),
]


@pytest.mark.parametrize(("build", "shape"), CONVOLUTIONS)
def test_both_ways_to_a_matrix_agree(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    layer = build()
    by_units, by_indices = dense.as_matrix(layer, shape), dense.as_matrix_by_indices(layer, shape)
    for one, other in zip(by_units, by_indices, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)
    x = torch.randn(2, *shape, dtype=torch.float64)
    outputs = x.flatten(1) @ by_units.matrix + by_units.bias
    torch.testing.assert_close(outputs, layer.double()(x).detach().flatten(1), rtol=0, atol=1e-12)


def test_linear_on_a_sequence_is_block_diagonal() -> None:
    layer = nn.Linear(3, 2)
    matrix, bias, connectivity = dense.as_matrix(layer, (4, 3))
    expected = torch.block_diag(*[layer.weight.detach().double().T] * 4)
    torch.testing.assert_close(matrix, expected)
    torch.testing.assert_close(bias, layer.bias.detach().double().repeat(4))
    torch.testing.assert_close(connectivity, torch.block_diag(*[torch.ones(3, 2, dtype=torch.float64)] * 4))


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
@pytest.mark.parametrize("padding", [1, (2, 1), "same"])
def test_padding_is_unrolled_as_torch_pads(mode: str, padding: int | str) -> None:
    layer = nn.Conv2d(2, 3, (2, 3), padding=padding, padding_mode=mode).double()
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    bare, shape, source = dense.unpadded(layer, (2, 4, 5))
    torch.testing.assert_close(bare(x.flatten(1)[:, source].reshape(2, *shape)), layer(x))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_windows_are_those_of_torch(ceil_mode: bool, padding: int, stride: int) -> None:
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    for dilation in (1, 2):
        windows = dense.pooling_windows((3, 6, 7), (3, 2), (stride, 2), (padding, 1), (dilation, dilation), ceil_mode)
        expected = functional.max_pool2d(x, (3, 2), (stride, 2), (padding, 1), dilation, ceil_mode).flatten(1)
        found = torch.stack([x.flatten(1)[:, w.inputs].amax(1) for w in windows], 1)
        torch.testing.assert_close(found, expected)
    for count_include_pad in (False, True):
        windows = dense.pooling_windows((3, 6, 7), (3, 2), (stride, 2), (padding, 1), (1, 1), ceil_mode)
        pool = nn.AvgPool2d((3, 2), (stride, 2), (padding, 1), ceil_mode, count_include_pad)
        matrix = dense.average_matrix(windows, 3 * 6 * 7, count_include_pad)
        torch.testing.assert_close(matrix, dense.matrix_of(pool, (3, 6, 7)))


@pytest.mark.parametrize(("shape", "outputs"), [((2, 5, 7), (2, 3)), ((2, 2, 2), (7, 7)), ((1, 6), (4,))])
def test_adaptive_windows_are_those_of_torch(shape: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    pool = nn.AdaptiveAvgPool2d(outputs) if len(outputs) == 2 else nn.AdaptiveAvgPool1d(outputs)
    matrix = dense.average_matrix(dense.adaptive_windows(shape, outputs), math.prod(shape), False)
    torch.testing.assert_close(matrix, dense.matrix_of(pool, shape))


def test_zero_rule_without_bias_is_gradient_times_input() -> None:
    layer = nn.Conv2d(2, 3, 3, padding=1, bias=False).double()
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    outputs = layer(x)
    gradient = torch.randn_like(outputs)
    (expected,) = torch.autograd.grad(outputs, x, gradient)
    relevance = (outputs * gradient).detach()
    torch.testing.assert_close(dense.propagate(dense.zero, layer, x, relevance), x.detach() * expected)


@pytest.mark.parametrize("name", ["epsilon", "z_plus", "gamma", "alpha_beta", "z_box", "w_square", "flat"])
@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1, dilation=2),
        lambda: nn.Conv2d(2, 4, 2, groups=2, bias=False),
        lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1),
    ],
    ids=["convolution", "grouped", "transposed"],
)
def test_rules_agree_with_zennit(name: str, build: Callable[[], nn.Module]) -> None:
    rules = pytest.importorskip("zennit.rules")
    tiny = {"stabilizer": 1e-30}
    low, high = (torch.tensor(pair, dtype=torch.float64).reshape(1, 2, 1, 1) for pair in ([-3.0, -2.0], [4.0, 5.0]))
    peer, ours, bounds = {
        "epsilon": (rules.Epsilon(0.1), lambda *a: dense.epsilon(*a, epsilon=0.1), {}),
        "z_plus": (rules.ZPlus(zero_params="bias", **tiny), dense.z_plus, {}),
        "gamma": (rules.Gamma(0.3, **tiny), lambda *a: dense.gamma(*a, gamma=0.3), {}),
        "alpha_beta": (rules.AlphaBeta(**tiny), lambda *a: dense.alpha_beta(*a, bias=True), {}),
        "z_box": (rules.ZBox(low, high, **tiny), dense.z_box, {"low": low, "high": high}),
        # zennit lets the bias take a share here; ours gives the inputs everything.
        "w_square": (rules.WSquare(zero_params="bias", **tiny), dense.w_square, {}),
        "flat": (rules.Flat(**tiny), dense.flat, {}),
    }[name]
    layer = build().double()
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64).clamp(-2, 4)
    relevance = torch.randn_like(layer(x))
    torch.testing.assert_close(
        dense.propagate(ours, layer, x, relevance, **bounds),
        _by_hook(peer, layer, x, relevance),
        rtol=1e-9,
        atol=1e-9,
    )


def _by_hook(rule: object, layer: nn.Module, x: Tensor, relevance: Tensor) -> Tensor:
    handles = rule.register(layer)
    try:
        x = x.clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (result,) = torch.autograd.grad(layer(x), x, relevance)
    finally:
        handles.remove()
    return result


def test_the_same_sign_is_the_limit_of_gamma() -> None:
    layer = nn.Linear(5, 4, dtype=torch.float64).requires_grad_(False)
    layer.bias.zero_()
    x, relevance = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    limit = dense.propagate(lambda *a: dense.gamma(*a, gamma=1e9), layer, x, relevance)
    torch.testing.assert_close(dense.propagate(dense.same_sign, layer, x, relevance), limit, rtol=1e-6, atol=1e-7)


def test_sums_among_what_has_their_sign() -> None:
    a = torch.tensor([3.0, -1.0, -2.0, 2.0, 1.0], dtype=torch.float64)
    b = torch.tensor([1.0, 3.0, -6.0, -5.0, -1.0], dtype=torch.float64)
    relevance = torch.full_like(a, 8.0)
    first, second = dense.sum_shares(a, b, relevance, "same-sign")
    assert first.tolist() == [6.0, 0.0, 2.0, 0.0, 0.0]
    assert second.tolist() == [2.0, 8.0, 6.0, 8.0, 0.0]
    terms, matrix = torch.stack([a, b], 1), torch.ones(2, 1, dtype=torch.float64)
    found = dense.linear_map(matrix, terms, relevance[:, None], "same-sign")
    assert torch.equal(found, torch.stack([first, second], 1))

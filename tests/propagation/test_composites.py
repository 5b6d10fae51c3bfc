"""Functions that are several others in one, and recurrent layers, against gradient × input with gates as constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oracles.attention import constant_slope, gradient_times_input, halved
from visavis.propagation import RuleSet, Zero, forward, functions

DOUBLE = torch.float64
RULES = RuleSet(Zero(), share="signed")


class Applied(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def explained(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the relevance of the inputs, and the seed; the output is seen to be torch's own."""
    expected = function(*inputs)
    with forward(Applied(function), inputs, RULES, pick=lambda returned: returned) as run:
        assert torch.equal(run.returned, expected)
        # What a ReLU holds back has no value that relevance could be the share of.
        seed = torch.where(run.output == 0, 0.0, torch.rand_like(run.output) + 0.5)
        return run.relevance(seed), seed


def assert_explained(
    function: Callable[..., Tensor], with_constants: Callable[..., Tensor], inputs: tuple[Tensor, ...]
) -> None:
    """Compare the engine on `function` with gradient × input of the same function, parts of it as constants."""
    torch.testing.assert_close(with_constants(*inputs), function(*inputs), rtol=1e-9, atol=1e-12)
    moved, seed = explained(function, inputs)
    for place, found in enumerate(moved):

        def of_one(x: Tensor, place: int = place) -> Tensor:
            return with_constants(*inputs[:place], x, *inputs[place + 1 :])

        y = of_one(inputs[place].clone().requires_grad_())
        expected = gradient_times_input(of_one, inputs[place], seed) if y.requires_grad else torch.zeros_like(found)
        scale = float(expected.abs().max()) or 1.0
        torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=1e-9)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE)


@pytest.mark.parametrize("write", [lambda a, b: a * b, lambda a, b: a.mul(b), torch.mul])
def test_two_signals_multiplied_take_half_each(write: Callable[..., Tensor]) -> None:
    x, y = normal(3, 4), normal(3, 4)
    (to_x, to_y), seed = explained(lambda x, y: write(F.silu(x), F.relu(y) - 0.5), (x, y))
    torch.testing.assert_close(to_x, 0.5 * seed, rtol=1e-12, atol=0)
    passed = F.relu(y) / (F.relu(y) - 0.5)  # LRP-0 of the sum with a constant
    torch.testing.assert_close(to_y, 0.5 * seed * passed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("share", ["signed", "absolute"])
@pytest.mark.parametrize("attention", ["value", "uniform"])
def test_a_gated_linear_unit_is_as_its_halves_written_out(attention: Any, share: Any) -> None:
    rules = RuleSet(Zero(), share=share, attention=attention)
    x, maps = normal(3, 8), []
    for function in (lambda x: F.glu(x, 1), lambda x: x[:, :4] * x[:, 4:].sigmoid()):
        with forward(Applied(function), x, rules, pick=lambda returned: returned) as run:
            maps.append(run.relevance(torch.ones_like(run.output)))
    torch.testing.assert_close(*maps, rtol=1e-12, atol=0)
    assert bool(maps[0][:, 4:].any()) == (attention == "uniform")


def cosine(a: Tensor, b: Tensor) -> Tensor:
    first, second = (x / x.norm(dim=1, keepdim=True).detach() for x in (a, b))
    return halved(first * second).sum(1)


WEIGHT = torch.linspace(-0.5, 1.5, 4, dtype=DOUBLE)
#: A function, and the same with what gives way as a constant; of one to three inputs (2, 3, 4).
COMPOSITES: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor], int]] = {
    "addcmul": (torch.addcmul, lambda x, a, b: x + halved(a * b), 3),
    "addcmul_scaled": (lambda x, a, b: x.addcmul(a, b, value=-0.5), lambda x, a, b: x - 0.5 * halved(a * b), 3),
    "addcmul_constant": (lambda x, a: torch.addcmul(x, a, WEIGHT, value=2), lambda x, a: x + 2 * a * WEIGHT, 2),
    "addcdiv": (torch.addcdiv, lambda x, a, b: x + a / b.detach(), 3),
    "addcdiv_scaled": (
        lambda x, a, b: torch.addcdiv(x, a, b, value=0.3),
        lambda x, a, b: x + 0.3 * a / b.detach(),
        3,
    ),
    "lerp": (lambda a, b: torch.lerp(a, b, 0.25), lambda a, b: 0.75 * a + 0.25 * b, 2),
    "lerp_by_tensor": (lambda a, b: a.lerp(b, WEIGHT), lambda a, b: (1 - WEIGHT) * a + WEIGHT * b, 2),
    "lerp_by_gate": (
        lambda a, b, w: torch.lerp(a, b, w.sigmoid()),
        lambda a, b, w: (1 - w.sigmoid().detach()) * a + w.sigmoid().detach() * b,
        3,
    ),
    "cosine_similarity": (F.cosine_similarity, cosine, 2),
    "cumsum": (lambda x: x.cumsum(1), lambda x: x.cumsum(1), 1),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites(name: str) -> None:
    function, with_constants, count = COMPOSITES[name]
    assert_explained(function, with_constants, tuple(normal(2, 3, 4) for _ in range(count)))


@pytest.mark.parametrize(
    "spelling", [torch.logsumexp, Tensor.logsumexp, torch.special.logsumexp], ids=functions.name_of
)
def test_the_soft_maximum_shares_by_its_softmax(spelling: Callable[..., Tensor]) -> None:
    x = normal(2, 3, 4)
    (moved,), seed = explained(lambda x: spelling(x, 1), (x,))
    torch.testing.assert_close(moved, x.softmax(1) * seed[:, None], rtol=1e-12, atol=0)


# Recurrent layers, one step written out


def lstm(x: Tensor, hidden: Tensor, memory: Tensor, cell: list[Tensor]) -> tuple[Tensor, Tensor]:
    wide = x @ cell[0].T + hidden @ cell[1].T + (cell[2] + cell[3] if len(cell) > 2 else 0)
    inward, forget, content, outward = wide.chunk(4, -1)
    gates = [gate.sigmoid().detach() for gate in (inward, forget, outward)]
    memory = gates[1] * memory + gates[0] * constant_slope(torch.tanh, content)
    return gates[2] * constant_slope(torch.tanh, memory), memory


def gru(x: Tensor, hidden: Tensor, memory: Tensor, cell: list[Tensor]) -> tuple[Tensor, Tensor]:
    of_x, of_hidden = x @ cell[0].T, hidden @ cell[1].T
    if len(cell) > 2:
        of_x, of_hidden = of_x + cell[2], of_hidden + cell[3]
    (reset_x, update_x, content_x), (reset_h, update_h, content_h) = of_x.chunk(3, -1), of_hidden.chunk(3, -1)
    update = (update_x + update_h).sigmoid().detach()
    # Where the state is still a constant, the gate is the one activation of the product, and does not give way.
    reset = reset_x + reset_h
    reset = reset.sigmoid().detach() if hidden.requires_grad else constant_slope(torch.sigmoid, reset)
    content = constant_slope(torch.tanh, content_x + reset * content_h)
    return (1 - update) * content + update * hidden, memory


def plain(activation: Callable[[Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    def step(x: Tensor, hidden: Tensor, memory: Tensor, cell: list[Tensor]) -> tuple[Tensor, Tensor]:
        wide = x @ cell[0].T + hidden @ cell[1].T + (cell[2] + cell[3] if len(cell) > 2 else 0)
        return constant_slope(activation, wide), memory

    return step


STEPS: dict[str, tuple[type[nn.RNNBase], dict[str, Any], Callable[..., tuple[Tensor, Tensor]]]] = {
    "lstm": (nn.LSTM, {}, lstm),
    "gru": (nn.GRU, {}, gru),
    "tanh": (nn.RNN, {}, plain(torch.tanh)),
    "relu": (nn.RNN, {"nonlinearity": "relu"}, plain(torch.relu)),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch_first": {"batch_first": True},
    "without_bias": {"bias": False},
    "two_layers": {"num_layers": 2},
    "both_ways": {"bidirectional": True, "num_layers": 2},
}


def unrolled(layer: nn.RNNBase, x: Tensor, step: Callable[..., tuple[Tensor, Tensor]]) -> Tensor:
    """What a recurrent layer gives, step by step; time and batch as the layer has them."""
    x = x.transpose(0, 1) if layer.batch_first else x
    for weights in zip(*[iter(layer.all_weights)] * (2 if layer.bidirectional else 1), strict=True):
        outputs = []
        for backwards, cell in enumerate(weights):
            hidden = memory = torch.zeros(x.shape[1], layer.hidden_size, dtype=DOUBLE)
            found = []
            for moment in x.flip(0) if backwards else x:
                hidden, memory = step(moment, hidden, memory, cell)
                found.append(hidden)
            outputs.append(torch.stack(found[::-1] if backwards else found))
        x = torch.cat(outputs, -1)
    return x.transpose(0, 1) if layer.batch_first else x


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", STEPS)
def test_recurrent_layers(name: str, options: str) -> None:
    kind, more, step = STEPS[name]
    layer = kind(4, 3, **more, **OPTIONS[options]).double().eval().requires_grad_(False)
    assert_explained(lambda x: layer(x)[0], lambda x: unrolled(layer, x, step), (normal(5, 2, 4),))


def test_the_last_state_of_a_recurrent_layer() -> None:
    layer = nn.LSTM(4, 3, batch_first=True).double().eval().requires_grad_(False)
    assert_explained(lambda x: layer(x)[1][0][0], lambda x: unrolled(layer, x, lstm)[:, -1], (normal(2, 5, 4),))


@pytest.mark.parametrize("wrong", ["lstm", "gru"])
def test_a_wrong_step_is_caught(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, right = STEPS[wrong]

    def twice(x: Tensor, hidden: Tensor, memory: Tensor, cell: list[Tensor]) -> tuple[Tensor, Tensor]:
        hidden, memory = right(x, hidden, memory, cell)
        return halved(hidden), memory

    monkeypatch.setitem(STEPS, wrong, (*STEPS[wrong][:2], twice))
    with pytest.raises(AssertionError):
        test_recurrent_layers(wrong, "plain")

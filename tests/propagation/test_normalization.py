"""Normalisation by the instance's own statistics, in every spelling, against its affine map written as a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visavis as vv
from oracles import attention as oracle
from oracles import dense
from visavis.propagation import RuleSet, Run, Zero, forward, functions, normalization

DOUBLE = torch.float64
Function = Callable[..., Any]
SHARES = ("signed", "absolute", "same-sign")
EVERY_SHARE = pytest.mark.parametrize("share", SHARES)
EPS = 1e-3


class Norm(NamedTuple):
    """A normalisation as the model calls it, and what belongs together; sample shapes are without the batch."""

    call: Callable[[Function, Tensor, Tensor | None, Tensor | None], Tensor]
    shape: tuple[int, ...]
    groups: Tensor
    #: For each value, which entry of weight and bias is its own.
    places: Tensor
    centred: bool = True
    eps: float = EPS


def last(shape: tuple[int, ...], axes: int) -> tuple[tuple[int, ...], Tensor, Tensor]:
    inner = math.prod(shape[len(shape) - axes :])
    return shape, oracle.groups_of_last(shape, axes), torch.arange(math.prod(shape)) % inner


def channels(shape: tuple[int, ...], count: int) -> tuple[tuple[int, ...], Tensor, Tensor]:
    return shape, oracle.groups_of_channels(shape, count), torch.arange(math.prod(shape)) // math.prod(shape[1:])


def normalized_shape(*shape: int) -> Callable[..., Tensor]:
    return lambda f, x, w, b: f(x, shape, *(None if v is None else v.view(shape) for v in (w, b)), EPS)


LAYER = (
    Norm(normalized_shape(4), *last((3, 4), 1)),
    Norm(normalized_shape(2, 3), *last((4, 2, 3), 2)),
    Norm(lambda f, x, w, b: f(x, normalized_shape=[4], weight=w, bias=b, eps=EPS), *last((4,), 1)),
    Norm(lambda f, x, w, b: f(x, (4,), weight=w, bias=b), *last((3, 4), 1), eps=1e-5),
)
GROUP = (
    Norm(lambda f, x, w, b: f(x, 2, w, b, EPS), *channels((4, 2, 3), 2)),
    Norm(lambda f, x, w, b: f(x, 4, w, b, EPS), *channels((4, 3), 4)),
    Norm(lambda f, x, w, b: f(x, num_groups=1, weight=w, bias=b), *channels((4, 3), 1), eps=1e-5),
    Norm(lambda f, x, w, b: f(x, 3, w, b, EPS), *channels((6,), 3)),
)
#: By the name that the engine shows, else by the bare name, which stands for all spellings. A normalisation that is
#: registered later needs a line here.
NORMS: dict[str, tuple[Norm, ...]] = {
    "layer_norm": LAYER,
    "group_norm": GROUP,
    "F.instance_norm": (
        Norm(lambda f, x, w, b: f(x, None, None, w, b, True, 0.1, EPS), *channels((3, 2, 4), 3)),
        Norm(lambda f, x, w, b: f(x, weight=w, bias=b), *channels((3, 4), 3), eps=1e-5),
        Norm(
            lambda f, x, w, b: f(x, torch.zeros(3, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE), w, b, eps=EPS),
            *channels((3, 4), 3),
        ),
    ),
    "torch.instance_norm": (
        Norm(lambda f, x, w, b: f(x, w, b, None, None, True, 0.1, EPS, False), *channels((3, 2, 4), 3)),
    ),
    "rms_norm": (
        Norm(lambda f, x, w, b: f(x, (4,), w, EPS), *last((3, 4), 1), centred=False),
        Norm(
            lambda f, x, w, b: f(x, (2, 3), None if w is None else w.view(2, 3), eps=EPS),
            *last((4, 2, 3), 2),
            centred=False,
        ),
        Norm(lambda f, x, w, b: f(x, (4,), weight=w), *last((3, 4), 1), centred=False, eps=torch.finfo(DOUBLE).eps),
    ),
}
CROSSINGS = (
    normalization.layer_norm,
    normalization.group_norm,
    normalization.instance_norm,
    normalization.rms_norm,
)


def spelled(*crossing: Function) -> list[Function]:
    return [function for function, of in functions._CROSSINGS.items() if of in crossing]


def norms_of(function: Function) -> tuple[Norm, ...]:
    return NORMS.get(functions.name_of(function), NORMS.get(function.__name__, ()))


def cases() -> list[Any]:
    return [
        pytest.param(function, norm, id=f"{functions.name_of(function)}-{index}")
        for function in spelled(*CROSSINGS)
        for index, norm in enumerate(norms_of(function))
    ]


class Applied(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def explained(function: Callable[[Tensor], Any], x: Tensor, rules: RuleSet) -> tuple[Tensor, Tensor, Run]:
    """Return the relevance of x, the seed, and the run; the output is seen to be torch's own."""
    expected = function(x.clone())
    with forward(Applied(function), x, rules, pick=lambda returned: returned) as run:
        seed = torch.rand_like(run.output) + 0.5
        moved = run.relevance(seed)
    assert torch.equal(run.returned, expected)
    return moved, seed, run


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """To `tolerance`, relative to the largest value."""
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=tolerance)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE)


def rules_of(share: str, attention: str = "value") -> RuleSet:
    return RuleSet(Zero(), share=share, attention=attention)


def test_every_normalisation_of_the_registry_has_a_case() -> None:
    assert not [functions.name_of(function) for function in spelled(*CROSSINGS) if not norms_of(function)]


@EVERY_SHARE
@pytest.mark.parametrize("given", ["both", "weight", "none"])
@pytest.mark.parametrize(("function", "norm"), cases())
def test_the_deviation_is_a_constant(function: Function, norm: Norm, given: str, share: str) -> None:
    size = int(norm.places.max()) + 1
    weight = None if given == "none" else normal(size)
    bias = normal(size) if given == "both" and norm.centred else None
    x = normal(2, *norm.shape) + 0.3
    moved, seed, run = explained(lambda x: norm.call(function, x, weight, bias), x, rules_of(share))
    maps = oracle.normalized(
        x.flatten(1),
        norm.groups,
        torch.ones(len(norm.places), dtype=DOUBLE) if weight is None else weight[norm.places],
        torch.zeros(len(norm.places), dtype=DOUBLE) if bias is None else bias[norm.places],
        norm.eps,
        centred=norm.centred,
    )
    outputs = torch.stack([sample @ one.matrix + one.bias for sample, one in zip(x.flatten(1), maps, strict=True)])
    torch.testing.assert_close(outputs.view_as(x), run.output, rtol=1e-9, atol=1e-9)
    close(moved.flatten(1), oracle.normalization(maps, x.flatten(1), seed.flatten(1), share))
    assert [call.operation for call in run.plan] == ["normalization"]


@pytest.mark.parametrize(
    "module",
    [
        nn.LayerNorm(4),
        nn.LayerNorm((3, 4), bias=False),
        nn.LayerNorm(4, elementwise_affine=False),
        nn.RMSNorm(4),
        nn.GroupNorm(3, 3),
        nn.GroupNorm(1, 3, affine=False),
        nn.InstanceNorm1d(3, affine=True),
        nn.InstanceNorm1d(3),
        nn.InstanceNorm1d(3, affine=True, track_running_stats=True),
    ],
    ids=str,
)
@EVERY_SHARE
@pytest.mark.parametrize("attention", ["value", "uniform"])
def test_modules_are_gradient_times_input_with_their_deviation_constant(
    module: nn.Module, share: str, attention: str
) -> None:
    module = module.double().eval().requires_grad_(False)
    for value in [*module.parameters(), *module.buffers()]:
        if value.is_floating_point():
            value.uniform_(0.3, 2.0)
    x = normal(2, 3, 4)
    moved, seed, _ = explained(module, x, rules_of(share, attention))
    if share != "signed":
        assert torch.equal(moved, seed)
        return
    # The affine map, by the outputs at 0 and at the unit vectors with the deviation of x kept as it is.
    constant = module(x)
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        axes = tuple(range(-len(module.normalized_shape), 0))
    else:
        axes = (1, 2) if isinstance(module, nn.GroupNorm) and module.num_groups == 1 else (2,)
    running = getattr(module, "running_var", None)
    centred = not isinstance(module, nn.RMSNorm) and running is None

    def frozen(z: Tensor) -> Tensor:
        def off(x: Tensor) -> Tensor:
            return x - x.mean(axes, keepdim=True) if centred else x

        eps = torch.finfo(DOUBLE).eps if module.eps is None else module.eps
        scale = (off(x).square().mean(axes, keepdim=True) + eps).rsqrt()
        y = off(z) * scale
        if running is not None:
            y = (z - module.running_mean.view(-1, 1)) * (running.view(-1, 1) + eps).rsqrt()
        per_channel = not isinstance(module, nn.LayerNorm | nn.RMSNorm)
        if getattr(module, "weight", None) is not None:
            y = y * (module.weight.view(-1, 1) if per_channel else module.weight)
        if getattr(module, "bias", None) is not None:
            y = y + (module.bias.view(-1, 1) if per_channel else module.bias)
        return y

    torch.testing.assert_close(frozen(x), constant, rtol=1e-9, atol=1e-9)
    close(moved, oracle.gradient_times_input(frozen, x, seed))


def test_running_statistics_stay_as_they_are() -> None:
    module = nn.InstanceNorm1d(3, track_running_stats=True).double().train()
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    with forward(module, normal(2, 3, 4), rules_of("signed"), pick=lambda returned: returned) as run:
        run.relevance(torch.ones_like(run.output))
    for name, value in module.state_dict().items():
        assert torch.equal(value, kept[name]), name


@EVERY_SHARE
@pytest.mark.parametrize("function", spelled(normalization.scaled_by_neighbours), ids=functions.name_of)
def test_norms_of_neighbours_are_constants(function: Function, share: str) -> None:
    arguments = {"local_response_norm": (3,), "normalize": (2.0, -1)}[function.__name__]
    moved, seed, run = explained(lambda x: function(x, *arguments), normal(2, 5, 4), rules_of(share))
    assert torch.equal(moved, seed)
    assert [call.operation for call in run.plan] == ["normalization"]


def test_a_value_that_comes_out_as_zero_passes_nothing_on() -> None:
    weight = torch.tensor([1.0, 0.0, 2.0, 0.0], dtype=DOUBLE)
    moved, seed, _ = explained(lambda x: F.layer_norm(x, (4,), weight), normal(3, 4), rules_of("signed"))
    close(moved.sum(1), torch.where(weight == 0, 0.0, seed).sum(1))
    moved, *_ = explained(lambda x: F.layer_norm(x, (4,)), torch.ones(3, 4, dtype=DOUBLE), rules_of("signed"))
    assert torch.equal(moved, torch.zeros_like(moved))


def test_a_scale_made_at_run_time_is_refused() -> None:
    with (
        pytest.raises(vv.UnsupportedOperationError, match=r"`F.layer_norm`"),
        forward(
            Applied(lambda x: F.layer_norm(x, (4,), x.mean(0))), normal(3, 4), RuleSet(), pick=lambda returned: returned
        ),
    ):
        pass


# Statistics, and norms written out by hand


def statistics() -> list[Any]:
    """Each: how it is called, and the shares of x (n,) in it."""

    def by_power(p: float) -> Callable[[Tensor], Tensor]:
        return lambda x: x.abs() ** p / (x.abs() ** p).sum()

    def by_deviation(x: Tensor) -> Tensor:
        return x * (x - x.mean()) / ((x - x.mean()) ** 2).sum()

    table = {
        "norm": [((), {"dim": -1}, by_power(2)), ((1,), {"dim": -1}, by_power(1))],
        "linalg_norm": [((), {"dim": -1}, by_power(2)), ((3, -1), {}, by_power(3))],
        "linalg_vector_norm": [((), {"dim": -1}, by_power(2)), ((1, -1), {}, by_power(1))],
        "std": [((-1,), {}, by_deviation), ((), {"dim": -1, "correction": 0}, by_deviation)],
        "var": [((-1,), {}, by_deviation), ((), {"dim": -1, "correction": 0}, by_deviation)],
    }
    return [
        pytest.param(
            lambda x, f=function, a=args, n=named: f(x, *a, **n), shares, id=f"{functions.name_of(function)}-{i}"
        )
        for function in spelled(normalization.statistic)
        for i, (args, named, shares) in enumerate(table[function.__name__])
    ]


@EVERY_SHARE
@pytest.mark.parametrize(("call", "shares"), statistics())
def test_a_statistic_alone_shares_by_input_times_gradient(
    call: Callable[[Tensor], Tensor], shares: Callable[[Tensor], Tensor], share: str
) -> None:
    x = normal(3, 5)
    moved, seed, _ = explained(call, x, rules_of(share))
    close(moved, torch.stack([shares(one) * r for one, r in zip(x, seed, strict=True)]))


WEIGHT = torch.linspace(0.5, 2.0, 5, dtype=DOUBLE)
#: RMS and L2 norms: the statistic gives way, and all goes to the values that it scales.
SCALED: dict[str, Callable[[Tensor], Tensor]] = {
    "rsqrt": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * WEIGHT,
    "rsqrt_first": lambda x: WEIGHT * (torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * x),
    "written_in_place": lambda x: (x * 1.0).mul_(torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS)),
    "sqrt": lambda x: x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + EPS),
    "power": lambda x: x / (x.pow(2).mean(-1, keepdim=True) + EPS) ** 0.5,
    "norm": lambda x: x / (x.norm(dim=-1, keepdim=True) + EPS),
    "clamped_norm": lambda x: x / x.norm(2, -1, True).clamp(min=EPS).expand_as(x),
    "vector_norm": lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True),
    "reciprocal": lambda x: x * (x.norm(dim=-1, keepdim=True) + EPS).reciprocal(),
    "response": lambda x: x * (x.norm(dim=1, keepdim=True) / (x.norm(dim=1, keepdim=True).mean(2, keepdim=True) + EPS)),
}


@EVERY_SHARE
@pytest.mark.parametrize("attention", ["value", "uniform"])
@pytest.mark.parametrize("name", SCALED)
def test_a_scale_by_a_statistic_gives_way(name: str, attention: str, share: str) -> None:
    moved, seed, _ = explained(SCALED[name], normal(2, 3, 5), rules_of(share, attention))
    close(moved, seed)


BIAS = torch.linspace(-1.0, 0.5, 5, dtype=DOUBLE)


def by_variance(x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).pow(2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + EPS) * WEIGHT + BIAS


def by_var(x: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred * torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + EPS) * WEIGHT + BIAS


@EVERY_SHARE
@pytest.mark.parametrize("attention", ["value", "uniform"])
@pytest.mark.parametrize("function", [by_variance, by_var])
def test_a_layer_norm_written_by_hand(function: Callable[[Tensor], Tensor], attention: str, share: str) -> None:
    """By value it is the layer norm; else its centring is a sum like any other."""
    x = normal(4, 5)
    moved, seed, _ = explained(function, x, rules_of(share, attention))
    if share == "signed":
        maps = oracle.normalized(x, torch.zeros(5, dtype=torch.long), WEIGHT, BIAS, EPS, centred=True)
        expected = oracle.normalization(maps, x, seed, "signed")
        torch.testing.assert_close(function(x), F.layer_norm(x, (5,), WEIGHT, BIAS, EPS))
    else:
        mean = x.mean(-1, keepdim=True)
        direct, of_mean = dense.sum_shares(x, -mean, seed, share)
        expected = direct + dense.linear_map(torch.full((5, 1), 0.2, dtype=DOUBLE), x, of_mean, share)
    close(moved, expected)


# What it catches


@pytest.mark.parametrize("wrong", ["uncentred", "unscaled", "passing"])
def test_a_wrong_rule_is_caught(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = normalization._normalised

    def normalised(visit: Any, grouped: Any, weight: Any, *more: Any, centred: bool) -> Any:
        weight = None if wrong == "unscaled" else weight
        return original(visit, grouped, weight, *more, centred=centred and wrong != "uncentred")

    if wrong == "passing":
        monkeypatch.setattr(normalization, "guarded", torch.ones_like)
    else:
        monkeypatch.setattr(normalization, "_normalised", normalised)
    with pytest.raises(AssertionError):
        test_the_deviation_is_a_constant(F.layer_norm, LAYER[0], "both", "signed")

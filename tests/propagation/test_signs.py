"""What is known of signs without asking is never wrong, and where it is not known too little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

import visavis as vv
from visavis.outputs import logits_of
from visavis.propagation import RuleSet, forward, visit
from visavis.propagation.trace import Trace, leave_trace
from visavis.propagation.weighted import Weighted

DOUBLE = torch.float64


@contextmanager
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Tensor, Trace]]]:
    """Collect every tensor on which a trace is left."""
    found: list[tuple[Tensor, Trace]] = []

    def watching(tensor: Tensor, trace: Trace) -> None:
        found.append((tensor.detach().clone(), trace))
        leave_trace(tensor, trace)

    with monkeypatch.context() as patch:
        patch.setattr(visit, "leave_trace", watching)
        yield found


def assert_signs_hold(found: list[tuple[Tensor, Trace]]) -> None:
    wrong = [
        f"{trace.call.function if trace.call else 'input'}: {float(tensor.min())}"
        for tensor, trace in found
        if trace.nonnegative and tensor.numel() and bool((tensor < 0).any())
    ]
    assert not wrong


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def run_on(function: Callable[[Tensor], Any], x: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Trace]]:
    with traced(monkeypatch) as found, forward(Applied(function), x, RuleSet(), pick=logits_of):
        pass
    return found


CONSTANT = torch.linspace(-1.0, 1.0, 8, dtype=DOUBLE)
MASK = torch.arange(8) % 2 == 0

#: Functions of a tensor (2, 4, 8, 8); each also runs on |x|, whose sign is known.
FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    **{
        name: getattr(F, name)
        for name in [
            "relu",
            "relu6",
            "elu",
            "selu",
            "celu",
            "gelu",
            "silu",
            "mish",
            "leaky_relu",
            "hardswish",
            "tanh",
            "softsign",
            "tanhshrink",
            "hardshrink",
            "softshrink",
            "logsigmoid",
            "softplus",
            "sigmoid",
            "hardsigmoid",
            "hardtanh",
        ]
    },
    **{name: getattr(torch, name) for name in ("neg", "abs", "square", "erf", "atan", "clone", "ravel")},
    "minus": lambda x: -x,
    "threshold": lambda x: F.threshold(x, 0.5, -2.0),
    "clamp": lambda x: x.clamp(-1.0, 1.0),
    "clamp_from_zero": lambda x: x.clamp(0.0, 1.0),
    "clamp_max": lambda x: x.clamp_max(-0.5),
    "clamp_both_negative": lambda x: x.clamp(max=-0.5),
    "clamp_by_tensor": lambda x: torch.clamp(x, max=CONSTANT),
    "clip": lambda x: torch.clip(x, -2.0, -1.0),
    "hardtanh_negative": lambda x: F.hardtanh(x, -2.0, -1.0),
    "hardtanh_positive": lambda x: F.hardtanh(x, 0.0, 6.0),
    "nan_to_num": lambda x: torch.nan_to_num(x, 1.0),
    "prelu": lambda x: F.prelu(x, CONSTANT[:1]),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "softmax": lambda x: F.softmax(x, 1),
    "softmin": lambda x: F.softmin(x, 1),
    "pow_2": lambda x: x**2,
    "pow_3": lambda x: x**3,
    "pow_fraction": lambda x: x**0.5,
    "glu": lambda x: F.glu(x, 1),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, True),
    "feature_alpha_dropout": lambda x: F.feature_alpha_dropout(x, 0.5, True),
    "dropout": lambda x: F.dropout(x, 0.5, True),
    "add": lambda x: x + x.flip(2),
    "add_alpha": lambda x: torch.add(x, x.flip(2), alpha=-2),
    "add_number": lambda x: x + 0.25,
    "add_negative_number": lambda x: x - 3,
    "add_minus": lambda x: x + (-3),
    "add_number_alpha": lambda x: torch.add(x, 1.0, alpha=-2),
    "add_constant": lambda x: x + CONSTANT,
    "sub": lambda x: x - x.flip(2),
    "sub_number_alpha": lambda x: torch.sub(x, -1.0, alpha=-2),
    "sub_negative_number": lambda x: x - (-2.0),
    "rsub": lambda x: 1.0 - x,
    "torch_rsub": lambda x: torch.rsub(x, x.flip(2), alpha=2),
    "mul": lambda x: x * x.flip(2),
    "mul_number": lambda x: x * -2.0,
    "mul_constant": lambda x: CONSTANT * x,
    "div_number": lambda x: x / -2.0,
    "div": lambda x: x / (x.flip(2).abs() + 1.0),
    "div_by_signed": lambda x: x / (x.flip(2) - 0.3),
    "batch_norm": lambda x: F.batch_norm(x, CONSTANT[:4], CONSTANT[4:].abs() + 0.1),
    "linear": lambda x: F.linear(x, CONSTANT.outer(CONSTANT.flip(0))),
    "linear_of_positive_weights": lambda x: F.linear(x, CONSTANT.outer(CONSTANT).abs(), CONSTANT),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "adaptive_avg_pool": lambda x: F.adaptive_avg_pool2d(x, 3),
    "mean": lambda x: x.mean(1),
    "sum": lambda x: x.sum((1, 2)),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "adaptive_max_pool": lambda x: F.adaptive_max_pool2d(x, 3),
    "interpolate_bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "max": lambda x: x.max(1),
    "min": lambda x: x.amin(1),
    "maximum_of_constant": lambda x: torch.maximum(x, CONSTANT),
    "minimum_of_constant": lambda x: torch.minimum(x, CONSTANT),
    "minimum": lambda x: torch.minimum(x, x.flip(1)),
    "sort": lambda x: x.sort(1),
    "topk": lambda x: x.topk(2, 1),
    "pad": lambda x: F.pad(x, (1, 1)),
    "pad_negative": lambda x: F.pad(x, (1, 1), value=-1.0),
    "pad_negative_positional": lambda x: F.pad(x, (1, 1), "constant", -1.0),
    "pad_reflect": lambda x: F.pad(x, (1, 1, 1, 1), "reflect"),
    "constant_pad_nd": lambda x: torch.constant_pad_nd(x, (1, 1), -1.0),
    "constant_pad_nd_keyword": lambda x: torch.constant_pad_nd(x, (1, 1), value=-1.0),
    "cat": lambda x: torch.cat([x, x.flip(2)], 1),
    "cat_constant": lambda x: torch.cat([x, CONSTANT.expand(2, 4, 8, 8)], 1),
    "cat_signed": lambda x: torch.cat([x, x - 1.0], 1),
    "stack_constant": lambda x: torch.stack([x[0, 0, 0], CONSTANT]),
    "crelu": lambda x: torch.cat([F.relu(x), F.relu(-x)], 1),
    "minus_relu": lambda x: -F.relu(-x),
    "where": lambda x: torch.where(MASK, x, -1.0),
    "masked_fill": lambda x: x.masked_fill(MASK, -1.0),
    "index_fill": lambda x: x.index_fill(1, torch.tensor([1]), -1.0),
    "scatter": lambda x: x.scatter(1, torch.zeros(2, 1, 8, 8, dtype=torch.long), -1.0),
    "unfold": lambda x: F.unfold(x, 3, padding=1),
    "fold": lambda x: F.fold(F.unfold(x, 3), (8, 8), 3),
    "tril": torch.tril,
    "roll": lambda x: x.roll(1, 2),
    "to_half": lambda x: x.half(),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    **{name: getattr(torch, name) for name in ("exp", "expm1", "log1p", "sin", "cos", "reciprocal", "rsqrt")},
    "log_above_zero": lambda x: torch.log(x.abs() + 0.1),
    "square_root": lambda x: x.abs().sqrt(),
    "layer_norm": lambda x: F.layer_norm(x, (8,)),
    "group_norm": lambda x: F.group_norm(x, 2, CONSTANT[:4], CONSTANT[4:]),
    "instance_norm": F.instance_norm,
    "rms_norm": lambda x: F.rms_norm(x, (8,), CONSTANT),
    "local_response_norm": lambda x: F.local_response_norm(x, 2),
    "normalize": F.normalize,
    "norm": lambda x: x.norm(dim=1),
    "var": lambda x: x.var(1),
    "matmul": lambda x: x @ x.transpose(2, 3),
    "matmul_constant": lambda x: x @ CONSTANT.outer(CONSTANT),
    "constant_matmul": lambda x: CONSTANT.outer(CONSTANT) @ x,
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x.flip(2)),
    "einsum_constant": lambda x: torch.einsum("bchw,w->bch", x, CONSTANT),
    "baddbmm": lambda x: torch.baddbmm(CONSTANT, x[0], x[1]),
    "baddbmm_negative": lambda x: torch.baddbmm(x[0], x[0], x[1], alpha=-1),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x.flip(2)),
    "attention_negative_scale": lambda x: F.scaled_dot_product_attention(x, x, x, scale=-0.1),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=-2),
    "addcdiv": lambda x: torch.addcdiv(x, x, x.abs() + 1.0, value=-2),
    "lerp": lambda x: torch.lerp(x, x.flip(2), 1.5),
    "cosine_similarity": lambda x: F.cosine_similarity(x, x.flip(2)),
    "cumsum": lambda x: x.cumsum(1),
    "logsumexp": lambda x: x.logsumexp(1),
    "median": lambda x: x.median(1),
    "softmax_masked_fill": lambda x: x.softmax(1).masked_fill(MASK, -1.0),
}


def set_item(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = -1.0
    return y


def written_in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y.sub_(1.0)
    return y.mul_(2.0)


FUNCTIONS |= {"set_item": set_item, "written_in_place": written_in_place}


@pytest.mark.parametrize("known", [False, True], ids=["signed", "nonnegative"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_said_to_be_nonnegative_is(name: str, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = 3.0 * torch.randn(2, 4, 8, 8, dtype=DOUBLE)
    function = FUNCTIONS[name]
    found = run_on((lambda v: function(v.abs())) if known else function, x, monkeypatch)
    assert found
    if known:
        assert found[0][1].nonnegative
    assert_signs_hold(found)


#: Where signs must be known, or every layer after would need twice the convolutions.
KNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "clamp": lambda x: x.clamp(min=0),
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: x.softmax(1),
    "relu_in_place": lambda x: F.relu(x * 1.0, inplace=True),
    "residual": lambda x: x.relu() + x.flip(1).relu(),
    "scaled": lambda x: x.relu() * 2.0 / 3.0 + 1.0,
    "gated": lambda x: x.relu() * x.sigmoid(),
    "pooled": lambda x: F.max_pool2d(F.avg_pool2d(F.adaptive_avg_pool2d(x.relu(), 4), 2, 1), 2, 1),
    "joined": lambda x: torch.cat([x.relu(), x.abs()], 1).flatten(1)[:, 3:],
    "padded": lambda x: F.pad(F.relu(x), (1, 1)),
    "dropped": lambda x: F.dropout(x.relu(), 0.5, True),
    "resized": lambda x: F.interpolate(x.relu(), scale_factor=2.0),
    "activated": lambda x: F.silu(F.gelu(F.leaky_relu(x.relu()))),
    "maximum": lambda x: torch.maximum(x.relu(), x.square()),
}


@pytest.mark.parametrize("name", KNOWN)
def test_signs_are_known_where_they_can_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_on(KNOWN[name], torch.randn(2, 4, 8, 8, dtype=DOUBLE), monkeypatch)
    assert found[-1][1].nonnegative
    assert_signs_hold(found)


def resnet() -> nn.Module:
    return models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(models.vgg.make_layers([8, "M", 8, "M"]), nn.Flatten(), nn.Linear(512, 10)),
        lambda: models.DenseNet(8, (2, 2), 8, num_classes=10),
        lambda: models.ShuffleNetV2([2, 2, 2], [8, 16, 32, 64, 128], 10),
        lambda: models.mobilenet_v3_small(width_mult=0.25),
        lambda: models.MobileNetV2(10, 0.25),
        lambda: models.GoogLeNet(10, init_weights=False),
    ],
    ids=["vgg", "densenet", "shufflenet", "mobilenet_v3", "mobilenet_v2", "googlenet"],
)
def test_signs_hold_throughout_networks(make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    module = make().double().eval()
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith(("bias", "running_mean")):
            value.data.normal_(0.0, 0.5)
    with (
        traced(monkeypatch) as found,
        forward(module, torch.randn(2, 3, 32, 32, dtype=DOUBLE), RuleSet(), pick=logits_of) as run,
    ):
        weighted = [call.weighted for call in run.plan if isinstance(call.weighted, Weighted)]
    assert_signs_hold(found)
    assert all(bool((one.x >= 0).all()) for one in weighted if one.nonnegative)
    assert any(one.nonnegative for one in weighted)


def test_every_layer_after_a_relu_knows_it() -> None:
    module = resnet().eval()
    with forward(module, torch.randn(1, 3, 32, 32), RuleSet(), pick=logits_of) as run:
        weighted = [call.weighted for call in run.plan if isinstance(call.weighted, Weighted)]
    assert [one.nonnegative for one in weighted] == [False, *[True] * (len(weighted) - 1)]


@pytest.mark.parametrize(("bounds", "known"), [((0.0, 1.0), True), ((-0.5, 1.0), False), (None, False)])
def test_bounds_tell_the_sign_of_pixels(bounds: Any, known: bool) -> None:
    method = vv.LRP(nn.Sequential(nn.Conv2d(3, 4, 3)).double(), rules=RuleSet(), bounds=bounds, layer="0")
    with method.forward(torch.rand(1, 3, 6, 6, dtype=DOUBLE)) as run:
        (weighted,) = (call.weighted for call in run.plan if call.weighted is not None)
        assert isinstance(weighted, Weighted)
        assert weighted.nonnegative is known


def test_relevance_is_the_same_whether_the_sign_is_known_or_not() -> None:
    """Knowing a sign saves work and changes nothing: x.relu() against where(x > 0, x, 0), whose sign is not known."""
    x = torch.randn(2, 3, 8, 8, dtype=DOUBLE)
    torch.manual_seed(0)
    weights = torch.randn(4, 3, 3, 3, dtype=DOUBLE)
    for rules in ("deep-taylor", "alpha2-beta1", "gamma", "epsilon"):
        maps = []
        for rectified in (F.relu, lambda v: torch.where(v > 0, v, 0.0)):
            module = Applied(lambda v, f=rectified: F.conv2d(f(v.flip(1) * 1.0), weights).mean((2, 3)))
            maps.append(vv.LRP(module, rules=rules).attribute(x, 1))
        torch.testing.assert_close(maps[0], maps[1], rtol=1e-10, atol=1e-14)


def test_the_checker_of_signs_catches_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    original = visit.Visit.leave
    monkeypatch.setattr(
        visit.Visit, "leave", lambda self, output, **known: original(self, output, **{**known, "nonnegative": True})
    )
    found = run_on(lambda x: x.tanh(), torch.randn(2, 4, dtype=DOUBLE), monkeypatch)
    with pytest.raises(AssertionError):
        assert_signs_hold(found)

"""What the mode makes of real code: outputs bit for bit, writing in place, and the models that users have."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision import models

import visavis as vv
from visavis.outputs import logits_of
from visavis.propagation import Activation, RuleSet, Run, forward, rule_set

DOUBLE = torch.float64


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-14)


# -- the output is the model's ---------------------------------------------------------------------------------------


def resnet() -> nn.Module:
    return models.ResNet(models.resnet.Bottleneck, [1, 1, 1, 1], num_classes=10, width_per_group=8)


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet": (resnet, 33),
    "densenet": (lambda: models.DenseNet(8, (2, 2), 8, memory_efficient=True), 32),
    "googlenet": (lambda: models.GoogLeNet(10, init_weights=False), 32),
    "mobilenet_v2": (lambda: models.MobileNetV2(10, 0.25), 32),
    "mobilenet_v3_small": (lambda: models.mobilenet_v3_small(width_mult=0.25), 32),
    "shufflenet": (lambda: models.ShuffleNetV2([2, 2, 2], [8, 16, 32, 64, 128], 10), 32),
    "squeezenet1_1": (models.squeezenet1_1, 40),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, DOUBLE) for name in ARCHITECTURES), ("resnet", torch.float32), ("mobilenet_v3_small", torch.float32)],
    ids=str,
)
def test_output_is_the_model_s_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    make, size = ARCHITECTURES[name]
    module, x = make().to(dtype).eval(), torch.randn(2, 3, size, size, dtype=dtype)
    with torch.no_grad():
        expected = logits_of(module(x))
    with forward(module, x, rule_set("deep-taylor"), pick=logits_of) as run:
        assert run.output.dtype == dtype
        assert torch.equal(run.output, expected)
        moved = run.relevance(torch.ones_like(run.output))
    assert moved.dtype == dtype
    assert moved.isfinite().all()
    assert moved.abs().sum() > 0
    with forward(module, x, Activation("guided"), pick=logits_of) as run:
        assert torch.equal(run.output, expected)


@pytest.mark.parametrize("name", ["resnet", "densenet", "mobilenet_v3_small"])
def test_the_gradient_is_autograd_s(name: str) -> None:
    make, size = ARCHITECTURES[name]
    module, x = make().double().eval(), torch.randn(2, 3, size, size, dtype=DOUBLE)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(logits_of(module(leaf))[:, 3].sum(), leaf)
    assert_same(vv.Gradient(module).attribute(x, 3), expected)


def small() -> nn.Module:
    torch.manual_seed(3)
    return (
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 5),
        )
        .double()
        .eval()
    )


def pictures(*shape: int) -> Tensor:
    return torch.randn(shape or (2, 3, 8, 8), generator=torch.Generator().manual_seed(5), dtype=DOUBLE)


class WithoutGradient(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module(x)
        return result


class InInference(WithoutGradient):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.module(x)
        return result


@pytest.mark.parametrize("name", ["clrp", "lrp", "gradient", "guided-backprop"])
def test_result_is_the_same_in_every_gradient_mode(name: str) -> None:
    x = pictures()
    expected = vv.method(name)(small()).attribute(x, 2)
    with torch.no_grad():
        assert torch.equal(vv.method(name)(small()).attribute(x, 2), expected)
        assert not torch.is_grad_enabled()
    module = small()
    with torch.inference_mode():
        assert torch.equal(vv.method(name)(module).attribute(x.clone(), 2), expected)
        assert torch.is_inference_mode_enabled()
    assert torch.equal(vv.method(name)(WithoutGradient(small())).attribute(x, 2), expected)
    frozen = small().requires_grad_(False)
    assert torch.equal(vv.method(name)(frozen).attribute(x.requires_grad_(), 2), expected)


@pytest.mark.parametrize("name", ["lrp", "gradient"])
def test_forward_decorated_with_inference_mode_is_explained_or_refused_by_its_name(name: str) -> None:
    x = pictures()
    try:
        result = vv.method(name)(InInference(small())).attribute(x, 2)
    except vv.VisavisError as error:
        assert "inference_mode" in str(error)  # noqa: PT017 - either answer is right
    else:
        assert torch.equal(result, vv.method(name)(small()).attribute(x, 2))


@pytest.mark.parametrize("name", ["lrp", "gradient"])
def test_parameters_made_in_inference_mode(name: str) -> None:
    with torch.inference_mode():
        module = small()
    assert torch.equal(
        vv.method(name)(module).attribute(pictures(), 2), vv.method(name)(small()).attribute(pictures(), 2)
    )


def test_bfloat16_and_autocast_are_near() -> None:
    module, x = small(), pictures()
    with forward(module, x, rule_set("deep-taylor"), pick=logits_of) as run:
        exact = run.relevance(torch.ones_like(run.output))
    half, y = small().bfloat16(), x.bfloat16()
    with forward(half, y, rule_set("deep-taylor"), pick=logits_of) as run:
        assert torch.equal(run.output, half(y))
        rough = run.relevance(torch.ones_like(run.output))
        assert rough.dtype == torch.bfloat16
    assert F.cosine_similarity(rough.double().flatten(), exact.flatten(), dim=0) > 0.98
    single = small().float()
    with torch.autocast("cpu", torch.bfloat16):
        expected = single(x.float())
        with forward(single, x.float(), rule_set("deep-taylor"), pick=logits_of) as run:
            assert torch.equal(run.output, expected)
            mixed = run.relevance(torch.ones_like(run.output))
    assert mixed.dtype == torch.float32
    assert F.cosine_similarity(mixed.double().flatten(), exact.flatten(), dim=0) > 0.98


def test_inputs_without_a_batch_dimension() -> None:
    module = nn.Sequential(*list(small())[:1], *list(small())[2:6])
    x = pictures()
    seed = torch.rand_like(module(x[:1]))
    low, high = x[:1].amin((2, 3), keepdim=True), x[:1].amax((2, 3), keepdim=True)
    for policy, bounds in ((rule_set("epsilon-plus"), None), (rule_set("epsilon-gamma-box"), (low, high))):
        with forward(module, x[:1], policy, bounds=bounds, pick=logits_of) as run:
            expected = run.relevance(seed)
        with forward(module, x[0], policy, bounds=None if bounds is None else (low[0], high[0]), pick=logits_of) as run:
            assert torch.equal(run.output, module(x[0]))
            assert_same(run.relevance(seed[0]), expected[0])


def test_channels_last_memory() -> None:
    module, x = small(), pictures()
    expected = vv.CLRP(module).attribute(x, 1)
    assert_same(
        vv.CLRP(module.to(memory_format=torch.channels_last)).attribute(
            x.contiguous(memory_format=torch.channels_last), 1
        ),
        expected,
    )


# -- models of one body: what differs is what happens between two convolutions ---------------------------------------

Between = Callable[["Network", Tensor], Any]


class Network(nn.Module):
    """Two convolutions and a dense layer; `between` makes the second's input of the first's output."""

    def __init__(self, between: Between, **parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)
        self.between = between
        for name, part in parts.items():
            self.add_module(name, part)
        self.double().eval()

    def forward(self, x: Tensor) -> Any:
        h = self.between(self, self.first(x))
        return self.head(self.second(h).relu().mean((2, 3)))


RULES = ("deep-taylor", "epsilon", "gamma", "gradient-times-input")


def maps(between: Between, x: Tensor | None = None, **parts: nn.Module) -> list[Tensor]:
    """The relevance by every rule set, and the contrast, of a model with this in the middle."""
    x = pictures() if x is None else x
    module = Network(between, **parts)
    results = [vv.LRP(module, rules=rules).attribute(x, [1, 2]) for rules in RULES]
    results += [vv.CLRP(module, signed=True).attribute(x, 3), vv.GuidedBackprop(module).attribute(x, 3)]
    for result in results:
        assert result.abs().sum() > 0
    return results


def assert_twins(between: Between, twin: Between, *, x: Tensor | None = None, **parts: nn.Module) -> None:
    torch.testing.assert_close(maps(between, x, **parts), maps(twin, x, **parts), rtol=1e-10, atol=1e-14)


# -- in place --------------------------------------------------------------------------------------------------------


def relu(module: Network, h: Tensor) -> Tensor:
    return F.relu(h)


def relu_method_in_place(module: Network, h: Tensor) -> Tensor:
    return h.relu_()


def relu_function_in_place(module: Network, h: Tensor) -> Tensor:
    return torch.relu_(h)


def relu_keyword(module: Network, h: Tensor) -> Tensor:
    return F.relu(input=h, inplace=True)


def relu_positional(module: Network, h: Tensor) -> Tensor:
    return F.relu(h, True)


def relu_ignored(module: Network, h: Tensor) -> Tensor:
    F.relu(h, inplace=True)
    return h


def relu_ignored_then_read_in_a_list(module: Network, h: Tensor) -> Tensor:
    h.relu_()
    return torch.cat([h], 1)


def relu_underscore_functional(module: Network, h: Tensor) -> Tensor:
    F.relu_(h)
    return h


def relu_twice(module: Network, h: Tensor) -> Tensor:
    h.relu_()
    h.relu_()
    return h


def relu_of_an_alias(module: Network, h: Tensor) -> Tensor:
    other = h
    other.relu_()
    return h


def relu_clamped(module: Network, h: Tensor) -> Tensor:
    h.clamp_(min=0)
    return h


@pytest.mark.parametrize(
    "between",
    [
        relu_method_in_place,
        relu_function_in_place,
        relu_keyword,
        relu_positional,
        relu_ignored,
        relu_ignored_then_read_in_a_list,
        relu_underscore_functional,
        relu_twice,
        relu_of_an_alias,
    ],
    ids=lambda f: f.__name__,
)
def test_rectifying_in_place(between: Between) -> None:
    assert_twins(between, relu)


IN_PLACE: dict[str, tuple[Between, Between]] = {}


def twins(in_place: Between) -> Callable[[Between], None]:
    """Enter a pair of functions that mean the same: first in place, then out of place."""

    def enter(out_of_place: Between) -> None:
        IN_PLACE[in_place.__name__] = (in_place, out_of_place)

    return enter


def added(module: Network, h: Tensor) -> Tensor:
    y = h * 2
    y += h
    return y.relu()


twins(added)(lambda module, h: (h * 2 + h).relu())


def subtracted(module: Network, h: Tensor) -> Tensor:
    y = h.relu()
    y -= h.sigmoid()
    return y


twins(subtracted)(lambda module, h: h.relu() - h.sigmoid())


def multiplied(module: Network, h: Tensor) -> Tensor:
    h = h.clone()
    gate = h.sigmoid()
    h.mul_(gate)
    return h


twins(multiplied)(lambda module, h: h.clone() * h.sigmoid())


def divided(module: Network, h: Tensor) -> Tensor:
    h /= 3.0
    h.div_(0.5)
    return h


twins(divided)(lambda module, h: h / 3.0 / 0.5)


def powered(module: Network, h: Tensor) -> Tensor:
    h **= 2
    return h


twins(powered)(lambda module, h: h**2)


def written_at_its_start(module: Network, h: Tensor) -> Tensor:
    h[:, :2] = h[:, 2:].relu()
    return h


twins(written_at_its_start)(lambda module, h: torch.cat([h[:, 2:].relu(), h[:, 2:]], 1))


def written_into_zeros(module: Network, h: Tensor) -> Tensor:
    padded = torch.zeros(h.shape[0], 4, 10, 10, dtype=h.dtype)
    padded[..., 1:9, 1:9] = h
    return padded


twins(written_into_zeros)(lambda module, h: F.pad(h, (1, 1, 1, 1)))


def copy_raised_while_the_original_is_read(module: Network, h: Tensor) -> Tensor:
    y = h.clone()
    y.relu_()
    return y + h


twins(copy_raised_while_the_original_is_read)(lambda module, h: h.relu() + h)


def shape_changed(module: Network, h: Tensor) -> Tensor:
    h.unsqueeze_(1)
    h.squeeze_(1)
    return h.relu()


twins(shape_changed)(lambda module, h: h.relu())


def shape_changed_and_result_read(module: Network, h: Tensor) -> Tensor:
    h = h.unsqueeze_(1)
    return h.relu().squeeze(1)


twins(shape_changed_and_result_read)(lambda module, h: h.relu())


def transposed_and_result_read(module: Network, h: Tensor) -> Tensor:
    h = h.transpose_(2, 3)
    return h.relu()


twins(transposed_and_result_read)(lambda module, h: h.transpose(2, 3).relu())


def dropout_at_inference(module: Network, h: Tensor) -> Tensor:
    return F.dropout(h, 0.5, False, True).relu()


twins(dropout_at_inference)(lambda module, h: h.relu())


def dropout_at_inference_on_a_view(module: Network, h: Tensor) -> Tensor:
    part = F.dropout(h[:, :2], 0.5, training=False, inplace=True)
    return torch.cat([part.relu(), h[:, 2:]], 1)


twins(dropout_at_inference_on_a_view)(lambda module, h: torch.cat([h[:, :2].relu(), h[:, 2:]], 1))


def filled(module: Network, h: Tensor) -> Tensor:
    h.masked_fill_(h < 0, 0.25)
    return h


twins(filled)(lambda module, h: h.masked_fill(h < 0, 0.25))


def result_in_out(module: Network, h: Tensor) -> Tensor:
    buffer = torch.empty_like(h)
    torch.mul(h, 2.0, out=buffer)
    return buffer.relu()


def gradient_asked_for(module: Network, h: Tensor) -> Tensor:
    return h.requires_grad_().relu()


twins(gradient_asked_for)(lambda module, h: h.relu())


def detached_in_place(module: Network, h: Tensor) -> Tensor:
    gate = h.sigmoid()
    gate.detach_()
    return h * gate


twins(detached_in_place)(lambda module, h: h * h.sigmoid().detach())


def slice_raised(module: Network, h: Tensor) -> Tensor:
    h[:, 0] += h[:, 1]
    h[:, 1:] *= 0.5
    return h


def raised_out_of_place(module: Network, h: Tensor) -> Tensor:
    first, rest = h[:, :1] + h[:, 1:2], h[:, 1:] * 0.5
    return torch.cat([first, rest], 1)


twins(slice_raised)(raised_out_of_place)


def slice_raised_after_the_whole(module: Network, h: Tensor) -> Tensor:
    h.mul_(2.0)
    return slice_raised(module, h)


twins(slice_raised_after_the_whole)(lambda module, h: raised_out_of_place(module, h * 2.0))


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_is_as_out_of_place(name: str) -> None:
    assert_twins(*IN_PLACE[name])


def result_in_out_beside(module: Network, h: Tensor) -> Tensor:
    buffer = torch.empty_like(h)
    torch.mul(h, 2.0, out=buffer)
    return h + buffer


@pytest.mark.parametrize("method", [vv.LRP, vv.CLRP, vv.Gradient])
@pytest.mark.parametrize(
    ("between", "twin"),
    [(result_in_out, lambda m, h: (h * 2.0).relu()), (result_in_out_beside, lambda m, h: h + h * 2.0)],
    ids=["alone", "beside"],
)
def test_results_written_to_out_are_followed_or_refused(between: Between, twin: Between, method: Any) -> None:
    try:
        result = method(Network(between)).attribute(pictures(), 1)
    except vv.VisavisError as error:
        assert "out=" in str(error)  # noqa: PT017 - either answer is right
    else:
        assert_same(result, method(Network(twin)).attribute(pictures(), 1))


def base_read_after_view_written(module: Network, h: Tensor) -> Tensor:
    h[:, :2].relu_()
    return h


def view_read_after_base_written(module: Network, h: Tensor) -> Tensor:
    part = h[:, :2]
    h.relu_()
    return torch.cat([part, h[:, 2:]], 1)


def view_written_after_the_whole(module: Network, h: Tensor) -> Tensor:
    h.add_(1.0)
    h[:, 0].mul_(0.0)
    return h


def parts_written_one_by_one(module: Network, h: Tensor) -> Tensor:
    joined = h.new_zeros(h.shape)
    joined[:, :2] = h[:, :2]
    joined[:, 2:].copy_(h[:, 2:])
    return joined


def detached_alias_written(module: Network, h: Tensor) -> Tensor:
    h.detach().mul_(h < 0)
    return h


def data_written(module: Network, h: Tensor) -> Tensor:
    h.data.clamp_(min=0)
    return h


def data_replaced(module: Network, h: Tensor) -> Tensor:
    h.data = h.data.clamp(min=0)
    return h


@pytest.mark.parametrize("method", [vv.LRP, vv.Gradient])
@pytest.mark.parametrize(
    "between",
    [
        base_read_after_view_written,
        view_read_after_base_written,
        view_written_after_the_whole,
        parts_written_one_by_one,
        detached_alias_written,
        data_written,
        data_replaced,
    ],
    ids=lambda f: f.__name__,
)
def test_memory_changed_behind_a_tensor_s_back_is_refused(between: Between, method: Any) -> None:
    with pytest.raises(vv.UnsupportedOperationError, match=r"in place|out of place"):
        method(Network(between)).attribute(pictures(), 1)


def test_memory_that_is_used_again_is_no_alias_of_what_lay_there() -> None:
    def let_go(module: Network, h: Tensor) -> Tensor:
        kept = []
        for step in range(8):
            shifted = (h + float(step)).relu()
            mean = float(shifted.detach().mean())
            del shifted
            kept.append(torch.zeros_like(h).add_(mean))
        return h

    for side in (8, 16, 32, 64):
        vv.LRP(Network(let_go)).attribute(pictures(2, 3, side, side), 1)


@pytest.mark.parametrize(
    "between",
    [
        lambda m, h: h.index_put((torch.tensor([0, 0]),), h.relu(), accumulate=True),
        lambda m, h: torch.index_put(h, (torch.tensor([0, 0]),), h.relu(), True),
        lambda m, h: h.scatter(0, torch.zeros(h.shape, dtype=torch.long), 2.0, reduce="multiply"),
    ],
    ids=["index_put", "index_put_by_position", "scatter"],
)
def test_what_adds_to_places_is_not_taken_for_what_fills_them(between: Between) -> None:
    with pytest.raises(vv.UnsupportedOperationError, match="write it as a sum"):
        vv.LRP(Network(between)).attribute(pictures(), 1)


class InPlaceOnInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.head = nn.Linear(6, 4, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2.0)
        x += 1.0
        result: Tensor = self.head(x).relu()
        return result


class OutOfPlaceOnInput(InPlaceOnInput):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(x * 2.0 + 1.0).relu()
        return result


@pytest.mark.parametrize("name", list(vv.methods()))
def test_the_caller_s_tensor_is_left_alone_by_a_model_that_writes_to_its_input(name: str) -> None:
    if name in ("grad-cam", "clrp-scales"):
        pytest.skip("this is no picture")
    few = {"integrated-gradients": {"steps": 3}, "smoothgrad": {"samples": 3}}.get(name, {})
    x = pictures(3, 6)
    kept, version = x.clone(), x._version
    result = vv.method(name)(InPlaceOnInput(), **few).attribute(x, 1)
    assert torch.equal(x, kept)
    assert x._version == version
    assert_same(result, vv.method(name)(OutOfPlaceOnInput(), **few).attribute(x, 1))


def test_the_output_counts_as_it_is_after_the_last_write() -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Any:
            y = x * 3.0
            y.relu_()
            return {"logits": y, "seen": y}

    x = pictures(3, 6)
    with forward(Last(), x, rule_set("zero"), pick=logits_of) as run:
        assert torch.equal(run.output, (x * 3.0).relu())
        assert torch.equal(run.returned["logits"], (x * 3.0).relu())
        assert torch.equal(run.returned["seen"], (x * 3.0).relu())


# -- what users have -------------------------------------------------------------------------------------------------


def test_a_module_used_twice() -> None:
    shared = nn.ReLU(inplace=True)
    convolution = nn.Conv2d(4, 4, 1)

    def twice(module: Network, h: Tensor) -> Tensor:
        return module.convolution(module.shared(module.convolution(module.shared(h))))

    def copies(module: Network, h: Tensor) -> Tensor:
        weight, bias = module.convolution.weight, module.convolution.bias
        return F.conv2d(F.relu(F.conv2d(F.relu(h), weight, bias)), weight, bias)

    assert_twins(twice, copies, shared=shared, convolution=convolution)


def attended(h: Tensor) -> Tensor:
    tokens = h.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(tokens, tokens.relu(), tokens).transpose(1, 2).reshape(h.shape)


EQUIVALENT: dict[str, tuple[Between, Between]] = {
    "operator_and_function": (lambda m, h: h + h.relu(), lambda m, h: torch.add(input=h, other=h.relu())),
    "identity": (lambda m, h: nn.Identity()(h).relu(), relu),
    "cat_of_branches": (
        lambda m, h: torch.cat([h[:, :1], h[:, 1:].relu()], dim=1),
        lambda m, h: torch.concat((h.split([1, 3], 1)[0], F.relu(h.narrow(1, 1, 3))), 1),
    ),
    "upsampled": (
        lambda m, h: nn.Upsample(scale_factor=2)(h.relu()),
        lambda m, h: h.relu().repeat_interleave(2, 2).repeat_interleave(2, 3),
    ),
    "control_flow": (lambda m, h: h.relu() if h.sum() > -1e9 and bool((h <= h.max()).all()) else -h, relu),
    "python_number": (lambda m, h: h.relu() * (2.0 if h.max().item() > -1e9 else 1.0), lambda m, h: h.relu() * 2.0),
    "by_rows": (lambda m, h: torch.stack([row.relu() for row in h]), relu),
    "unpacked": (lambda m, h: torch.stack([*h]).relu(), relu),
    "without_gradient": (lambda m, h: torch.no_grad()(F.relu)(h), relu),
    "gradient_enabled": (lambda m, h: torch.enable_grad()(F.relu)(h), relu),
    "checkpointed": (lambda m, h: checkpoint(F.relu, h, use_reentrant=False), relu),
    "checkpointed_attention": (lambda m, h: checkpoint(attended, h, use_reentrant=False), lambda m, h: attended(h)),
    "no_op_casts": (lambda m, h: h.to(h.dtype).double().contiguous().to("cpu").relu(), relu),
    "logged": (
        lambda m, h: (h.shape, h.size(), h.dim(), len(h), h.numel(), h.isnan().any(), h.argmax(1), h.relu())[-1],
        relu,
    ),
}


@pytest.mark.parametrize("name", EQUIVALENT)
def test_two_ways_to_write_the_same(name: str) -> None:
    assert_twins(*EQUIVALENT[name])


def test_unused_layers_are_no_matter() -> None:
    assert_twins(relu, relu, unused=nn.Linear(3, 2))
    with forward(Network(relu, unused=nn.Bilinear(2, 2, 2)), pictures(), RuleSet(), pick=logits_of) as run:
        assert "unused" not in str(run.plan)


def test_detach_cuts_the_path() -> None:
    assert_twins(lambda m, h: h.relu() * 2.0, lambda m, h: h.relu() * h.detach().mul(0).add(2))
    x = pictures()
    module = Network(lambda m, h: torch.cat([h[:, :2], h[:, 2:].detach()], 1))
    with forward(module, x, rule_set("zero"), pick=logits_of) as run:
        half = run.relevance(torch.ones_like(run.output))
    module = Network(lambda m, h: torch.cat([h[:, :2], h[:, 2:] * 1.0], 1))
    with forward(module, x, rule_set("zero"), pick=logits_of) as run:
        whole = run.relevance(torch.ones_like(run.output))
    assert not torch.allclose(half, whole)


@pytest.mark.parametrize("method", [vv.LRP, vv.CLRP, vv.Gradient])
@pytest.mark.parametrize(
    "module",
    [
        Network(lambda m, h: h.detach()),
        Network(lambda m, h: torch.zeros_like(h)),
        Network(lambda m, h: h.data.relu()),
    ],
    ids=["detach", "constant", "data"],
)
def test_a_model_that_does_not_depend_on_its_input_is_refused(module: nn.Module, method: Any) -> None:
    with pytest.raises(vv.ModelError, match="does not depend on its input"):
        method(module).attribute(pictures(), 0)


class Tied(nn.Module):
    """An autoencoder whose decoder is its encoder, transposed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder = nn.Linear(6, 4, bias=False, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.encoder(x).relu(), self.encoder.weight.T)


def test_shared_weights() -> None:
    x, tied = pictures(3, 6), Tied()
    untied = nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 6, bias=False)).double()
    with torch.no_grad():
        untied[0].weight.copy_(tied.encoder.weight)
        untied[2].weight.copy_(tied.encoder.weight.T)
    for rules in RULES:
        assert_same(vv.LRP(tied, rules=rules).attribute(x, 1), vv.LRP(untied, rules=rules).attribute(x, 1))


def weight_norm(part: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(part)


def spectral_norm(part: nn.Module) -> nn.Module:
    return nn.utils.spectral_norm(part)


def parametrised_spectral_norm(part: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(part)


def orthogonal(part: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.orthogonal(part)


@pytest.mark.parametrize(
    "normed", [weight_norm, spectral_norm, parametrised_spectral_norm, orthogonal], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_weights_computed_on_the_fly(normed: Callable[[nn.Module], nn.Module], training: bool) -> None:
    def through(module: Network, h: Tensor) -> Tensor:
        result: Tensor = module.middle(h.relu().permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return result

    module, x = Network(through, middle=normed(nn.Linear(4, 4))), pictures()
    module.middle.train(training)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    result = vv.LRP(module).attribute(x, 1)
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name]), name
    module(x)  # computes the weight as the next forward pass does
    plain = nn.Linear(4, 4, dtype=DOUBLE)
    module.load_state_dict(state)
    twin = Network(through, middle=plain)
    with forward(module, x, rule_set("epsilon-plus"), pick=logits_of) as run:
        weight = next(call.weighted.linear.weight for call in run.plan if call.module.startswith("middle"))
    with torch.no_grad():
        plain.weight.copy_(weight)
        plain.bias.copy_(module.middle.bias)
    assert_same(result, vv.LRP(twin).attribute(x, 1))


def test_a_module_called_with_keyword_arguments() -> None:
    class Scaled(nn.Module):
        def forward(self, *, x: Tensor, by: float, beside: dict[str, Tensor]) -> Tensor:
            return x * by + beside["other"]

    def keywords(module: Network, h: Tensor) -> Tensor:
        result: Tensor = module.scaled(x=h, by=2.0, beside={"other": h.relu()})
        return result

    assert_twins(keywords, lambda m, h: h * 2.0 + h.relu(), scaled=Scaled())
    assert_twins(lambda m, h: m.second(input=F.relu(input=h)), lambda m, h: m.second(h.relu()))


@dataclasses.dataclass
class Answer:
    features: Tensor
    logits: Tensor


class Named(NamedTuple):
    logits: Tensor
    features: Tensor


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y, h: (y, h),
        lambda y, h: [y, h],
        lambda y, h: {"logits": y, "features": h},
        lambda y, h: {"out": y, "aux": h},
        lambda y, h: Answer(h, y),
        Named,
    ],
    ids=["tuple", "list", "dict", "segmentation", "dataclass", "namedtuple"],
)
def test_outputs_in_every_container(wrap: Callable[[Tensor, Tensor], Any]) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Network(relu)

        def forward(self, x: Tensor) -> Any:
            return wrap(self.body(x), x * 2.0)

    assert torch.equal(vv.CLRP(Wrapped()).attribute(pictures(), 1), vv.CLRP(Network(relu)).attribute(pictures(), 1))


def test_logits_that_a_batch_norm_reads_as_well_are_not_folded() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.head, self.norm = nn.Linear(6, 4), nn.BatchNorm1d(4)
            self.norm.running_var.uniform_(0.1, 9.0)
            self.norm.weight.data.uniform_(-1.0, 1.0)
            self.double().eval()

        def forward(self, x: Tensor) -> Any:
            logits = self.head(x)
            return logits, self.norm(logits)

    x, module = pictures(3, 6), Two()
    for rules in RULES[:-1]:
        assert_same(vv.LRP(module, rules=rules).attribute(x, 1), vv.LRP(module.head, rules=rules).attribute(x, 1))


@pytest.mark.parametrize(
    "look",
    [
        lambda h: h.shape,
        lambda h: h.detach().mean(),
        torch.zeros_like,
        lambda h: h.type(),
        lambda h: h.isnan().any(),
    ],
    ids=["shape", "detach", "zeros_like", "type", "isnan"],
)
def test_a_look_at_what_batch_norm_reads_does_not_hinder_folding(look: Callable[[Tensor], Any]) -> None:
    class Normed(nn.Module):
        def __init__(self, look: Callable[[Tensor], Any]) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.head, self.norm, self.look = nn.Linear(6, 4), nn.BatchNorm1d(4), look
            self.norm.running_mean.uniform_(-1.0, 1.0)
            self.norm.running_var.uniform_(0.1, 9.0)
            self.double().eval()

        def forward(self, x: Tensor) -> Tensor:
            h = self.head(x)
            self.look(h)
            result: Tensor = self.norm(h)
            return result

    x = pictures(3, 6)
    expected = vv.LRP(Normed(lambda h: None), rules="epsilon").attribute(x, 1)
    assert torch.equal(vv.LRP(Normed(look), rules="epsilon").attribute(x, 1), expected)


# -- what torch does not show ----------------------------------------------------------------------------------------


class Swish(torch.autograd.Function):
    """With torch functions in its forward, which the mode sees; the backward is the user's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return gradient * gate * (1 + x * (1 - gate))


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.detach() * 2.0

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2.0


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


FOREIGN = [Swish, Scale, Reversal]
PLACES: dict[str, Callable[[Callable[[Tensor], Tensor]], Between]] = {
    "alone": lambda f: lambda m, h: f(h),
    "beside": lambda f: lambda m, h: h + f(h),
    "beside_in_a_product": lambda f: lambda m, h: h * f(h),
    "beside_in_cat": lambda f: lambda m, h: torch.cat([h[:, :2], f(h)[:, 2:]], 1),
}
FOREIGN_SENTENCE = r"is an autograd function that torch does not show"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("function", FOREIGN, ids=lambda f: f.__name__)
def test_an_autograd_function_of_the_user_s_is_refused_by_rules(function: Any, place: str) -> None:
    with pytest.raises(vv.UnsupportedOperationError, match=FOREIGN_SENTENCE):
        vv.LRP(Network(PLACES[place](function.apply))).attribute(pictures(), 1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("function", FOREIGN, ids=lambda f: f.__name__)
def test_the_gradient_crosses_an_autograd_function_or_is_refused(function: Any, place: str) -> None:
    module, x = Network(PLACES[place](function.apply)), pictures()
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(module(leaf)[:, 1].sum(), leaf)
    try:
        result = vv.Gradient(module).attribute(x, 1)
    except vv.UnsupportedOperationError:
        return
    assert_same(result, expected)


class AtTheInput(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor], *, residual: bool) -> None:
        super().__init__()
        self.function, self.residual, self.head = function, residual, nn.Linear(6, 4, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(x)
        result: Tensor = self.head(x + y if self.residual else y)
        return result


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x * 2.0


@pytest.mark.parametrize("residual", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize(
    "function", [*(f.apply for f in FOREIGN), scripted], ids=["swish", "scale", "reversal", "script"]
)
@pytest.mark.parametrize("method", [vv.LRP, vv.CLRP])
def test_what_torch_does_not_show_is_refused_at_the_input_too(method: Any, function: Any, residual: bool) -> None:
    with pytest.raises(vv.UnsupportedOperationError, match=FOREIGN_SENTENCE):
        method(AtTheInput(function, residual=residual)).attribute(pictures(3, 6), 1)


@pytest.mark.parametrize("place", PLACES)
def test_a_scripted_function_within_is_refused(place: str) -> None:
    with pytest.raises(vv.UnsupportedOperationError, match=FOREIGN_SENTENCE):
        vv.LRP(Network(PLACES[place](scripted))).attribute(pictures(), 1)


@pytest.mark.parametrize("place", PLACES)
def test_functions_mapped_by_vmap_are_followed_or_refused(place: str) -> None:
    try:
        result = vv.LRP(Network(PLACES[place](torch.func.vmap(F.relu)))).attribute(pictures(), 1)
    except vv.UnsupportedOperationError:
        return
    assert_same(result, vv.LRP(Network(PLACES[place](F.relu))).attribute(pictures(), 1))


def test_an_autograd_function_at_the_end_is_refused() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = Network(relu)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = Swish.apply(self.body(x))
            return result

    with pytest.raises(vv.UnsupportedOperationError, match=FOREIGN_SENTENCE):
        vv.LRP(Last()).attribute(pictures(), 1)


def test_reentrant_checkpoints_are_refused_with_a_sentence() -> None:
    with pytest.raises(vv.VisavisError):
        vv.LRP(Network(lambda m, h: checkpoint(F.relu, h, use_reentrant=True))).attribute(pictures(), 1)


def test_backward_hooks_of_the_user_s_do_not_hinder() -> None:
    """Full backward hooks pass every input and output through an autograd function of torch's own."""
    x, expected = pictures(), vv.LRP(Network(relu)).attribute(pictures(), 1)
    module = Network(relu)
    module.first.register_full_backward_hook(lambda *_: None)
    assert torch.equal(vv.LRP(module).attribute(x, 1), expected)
    module.register_full_backward_hook(lambda *_: None)
    assert torch.equal(vv.LRP(module).attribute(x, 1), expected)


def test_forward_hooks_of_the_user_s_take_part() -> None:
    module = Network(lambda m, h: h)
    module.first.register_forward_hook(lambda part, args, output: output.relu())
    assert torch.equal(vv.LRP(module).attribute(pictures(), 1), vv.LRP(Network(relu)).attribute(pictures(), 1))


# -- several at once -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [None, "second"])
def test_threads_share_a_model(layer: str | None) -> None:
    module = Network(relu_ignored)
    inputs = [pictures() * scale for scale in (1.0, -0.5, 2.0, 0.1)]
    expected = [vv.CLRP(module, layer=layer).attribute(x, 1) for x in inputs]
    wrong: list[object] = []
    start = threading.Barrier(len(inputs))

    def explain(index: int) -> None:
        start.wait()
        for _ in range(8):
            try:
                if not torch.equal(vv.CLRP(module, layer=layer).attribute(inputs[index], 1), expected[index]):
                    wrong.append(index)
            except BaseException as error:  # noqa: BLE001 - whatever a thread dies of fails the test
                wrong.append(error)

    threads = [threading.Thread(target=explain, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not module.second._forward_hooks


def test_two_runs_of_one_model_may_be_open_at_once() -> None:
    module, x = Network(relu), pictures()
    with forward(module, x, rule_set("deep-taylor"), pick=logits_of) as outer:
        seed = torch.ones_like(outer.output)
        with forward(module, 2 * x, rule_set("epsilon"), pick=logits_of) as inner:
            inside = inner.relevance(seed)
        outside = outer.relevance(seed)
    with forward(module, x, rule_set("deep-taylor"), pick=logits_of) as alone:
        assert torch.equal(alone.relevance(seed), outside)
    with forward(module, 2 * x, rule_set("epsilon"), pick=logits_of) as alone:
        assert torch.equal(alone.relevance(seed), inside)


@pytest.mark.parametrize("method", [vv.LRP, vv.Gradient])
def test_a_model_that_explains_another_within_its_forward(method: Any) -> None:
    inner, x = Network(relu), pictures()
    weight = method(inner).attribute(x, 0).abs().mean()

    def explaining(module: Network, h: Tensor) -> Tensor:
        return h.relu() * method(inner).attribute(x, 0).abs().mean()

    assert_same(
        method(Network(explaining)).attribute(x, 1), method(Network(lambda m, h: h.relu() * weight)).attribute(x, 1)
    )


def test_explaining_within_another_function_mode() -> None:
    seen: list[Any] = []

    class Watching(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    expected = vv.CLRP(small()).attribute(pictures(), 1)
    module, x = small(), pictures()
    with Watching():
        assert torch.equal(vv.CLRP(module).attribute(x, 1), expected)
    assert seen
    with torch.device("cpu"):
        assert torch.equal(vv.CLRP(module).attribute(x, 1), expected)


def test_the_mode_is_gone_after_every_run() -> None:
    x = pictures()
    vv.LRP(Network(relu)).attribute(x, 1)
    with pytest.raises(vv.UnsupportedOperationError):
        vv.LRP(Network(lambda m, h: torch.lgamma(h))).attribute(x, 1)
    assert torch.overrides._get_current_function_mode_stack() == []
    assert not hasattr(x.relu(), "_visavis_trace")


def test_a_trace_of_an_earlier_run_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that a model keeps from one call to the next is a constant in the next."""
    kept: list[Tensor] = []

    def keeping(module: Network, h: Tensor) -> Tensor:
        kept.append(h.flip(2))
        return h.relu() * kept[0]

    module, x = Network(keeping), pictures()
    first = vv.LRP(module).attribute(x, 1)
    second = vv.LRP(module).attribute(x, 1)
    constant = vv.LRP(Network(lambda m, h: h.relu() * h.flip(2).detach())).attribute(x, 1)
    assert_same(second, constant)
    assert not torch.allclose(first, second)


# -- nothing asks a tensor -------------------------------------------------------------------------------------------

ASKING = ("aten._local_scalar_dense", "aten.equal", "aten.is_nonzero", "aten.nonzero", "aten.masked_select")


class Deaf(torch.utils._python_dispatch.TorchDispatchMode):
    """Fails whatever makes the CPU wait for a tensor's values."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not str(func).startswith(ASKING), f"{func} asks for values"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("resnet", "deep-taylor"),
        ("densenet", "epsilon"),
        ("vgg", "epsilon-gamma-box"),
        ("vgg", "deep-taylor"),
        ("mobilenet_v3_small", "alpha2-beta1"),
    ],
)
def test_nothing_asks_a_tensor_for_its_values(name: str, rules: str) -> None:
    vgg = nn.Sequential(
        models.vgg.make_layers([8, "M", 8, "M"], batch_norm=True), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )
    make, size = (lambda: vgg, 16) if name == "vgg" else ARCHITECTURES[name]
    module, x = make().eval(), torch.randn(1, 3, size, size)
    with Deaf(), forward(module, x, rule_set(rules), pick=logits_of) as run:
        seed = torch.ones_like(run.output)
        run.relevance(seed, more=True)
        run.relevance(seed, weights="difference" if rules in ("deep-taylor", "alpha2-beta1") else "plain")


def test_the_checker_hears_a_question() -> None:
    with Deaf(), pytest.raises(AssertionError, match="asks for values"):
        bool(torch.ones(()) > 0)
    with (
        Deaf(),
        pytest.raises(AssertionError, match="asks for values"),
        forward(Network(lambda m, h: h if h.sum() > 0 else -h), pictures(), RuleSet(), pick=logits_of),
    ):
        pass


def test_runs_know_nothing_of_each_other_s_tokens() -> None:
    with forward(Network(relu), pictures(), RuleSet(), pick=logits_of) as one:
        with forward(Network(relu), pictures(), RuleSet(), pick=logits_of) as other:
            assert one.token is not other.token
        assert isinstance(one, Run)

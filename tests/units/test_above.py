"""The part above a layer gives what the whole hooked forward pass gives, and leaves what is below alone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import visavis as vv
from units.networks import NETWORKS, naive, pictures, resnet, small, vit
from visavis.errors import InputError, ModelError
from visavis.units.above import Above, Way
from visavis.units.layer import Layer

#: Of each network: layers of every kind, with where their units are.
LAYERS = {
    "small": {"first": 1, "norm": 1, "relu": 1, "second": 1, "third": 1, "hidden": 1, "scale": 1, "head": 1},
    "resnet": {
        "conv1": 1,
        "bn1": 1,
        "relu": 1,
        "maxpool": 1,
        "layer1": 1,
        "layer2.0": 1,
        "layer2.0.conv1": 1,
        "layer2.0.bn2": 1,
        "layer2.0.downsample": 1,
        "layer2.0.downsample.0": 1,
        "layer4.0.conv2": 1,
        "avgpool": 1,
        "fc": 1,
    },
    "vit": {
        "conv_proj": 1,
        "encoder.dropout": 2,
        "encoder.layers.encoder_layer_0": 2,
        "encoder.layers.encoder_layer_0.ln_1": 2,
        "encoder.layers.encoder_layer_0.self_attention": 2,
        "encoder.layers.encoder_layer_1.ln_2": 2,
        "encoder.layers.encoder_layer_1.mlp.0": 2,
        "encoder.layers.encoder_layer_1.mlp.1": 2,
        "encoder.layers.encoder_layer_1.mlp": 2,
        "encoder.ln": 2,
        "heads": 1,
    },
}
CASES = [(network, layer) for network, layers in LAYERS.items() for layer in layers]


def held_up(module: nn.Module, layer: str, inputs: Tensor, dim: int = 1) -> Way:
    """Compare each of three units, and two at once, with the plain loop; and return the way that it went."""
    kept = Above(module, layer).keep(inputs)
    assert kept.unit_dim == dim
    with torch.no_grad():
        assert_close(kept.logits, module(inputs.clone()), rtol=1e-12, atol=1e-12)
    values = torch.linspace(-1, 2, kept.units, dtype=inputs.dtype)
    sets = [[0], [kept.units // 2], [kept.units - 1], [0, 1]]
    expected = torch.cat([naive(module, layer, inputs, units, dim, values) for units in sets])
    for _ in range(2):
        found = kept.run(kept.changed([torch.tensor(units) for units in sets], values))
        assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found, kept.logits.repeat(len(sets), 1), rtol=1e-6, atol=1e-9)
    return kept.way


@pytest.mark.parametrize(("network", "layer"), CASES)
def test_as_the_plain_loop(network: str, layer: str) -> None:
    way = held_up(NETWORKS[network](), layer, pictures(), LAYERS[network][layer])
    # ViT's forward has read the size of the batch before the patches are made.
    assert way is (Way.ONE if layer == "conv_proj" else Way.MANY)


@pytest.mark.parametrize("items", [1, 2])
def test_other_sizes_of_batch(items: int) -> None:
    assert held_up(small(), "second", pictures(items)) is Way.MANY
    assert held_up(vit(), "encoder.ln", pictures(items), 2) is Way.MANY


class Counts(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_what_is_below_does_not_run_again() -> None:
    kept = Above(resnet(), "layer4.0.conv1").keep(pictures())
    changed = kept.changed([torch.tensor([0]), torch.tensor([1])], torch.zeros(kept.units))
    kept.run(changed)  # which is held up to whole passes
    with Counts() as counts:
        kept.run(changed)
    # Above the first of the block's two convolutions: the second, and the one around both; of two units at once.
    assert counts.calls["convolution"] == 2
    with Counts() as counts, torch.no_grad():
        resnet()(pictures())
    assert counts.calls["convolution"] == 12


def test_what_is_not_read_again_is_let_go_of() -> None:
    kept = Above(resnet(), "layer4.0.conv1").keep(pictures())
    assert [tuple(one.shape) for one in kept._below.tensors.values()] == [(3, 256, 2, 2), (3, 512, 1, 1)]


def test_skips_are_not_written_to() -> None:
    """`out += identity` writes to what lies below, where the layer is the way around."""
    module, inputs = resnet(), pictures()
    kept = Above(module, "layer2.0.downsample").keep(inputs)
    before = [one.clone() for one in kept._below.tensors.values()]
    kept.run(kept.changed([torch.tensor([3])] * 2, torch.ones(kept.units)))
    kept.run(kept.changed([torch.tensor([3])], torch.ones(kept.units)))
    for one, then in zip(kept._below.tensors.values(), before, strict=True):
        assert_close(one, then, rtol=0, atol=0)


# -- models that make it hard ----------------------------------------------------------------------------------------


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2


class Unseen(torch.autograd.Function):
    """By NumPy, past every torch call."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return torch.from_numpy(x.numpy() ** 2)


class Model(nn.Module):
    """A layer, with something before and after it."""

    def __init__(self, before: Callable[[Tensor], Any], after: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.layer, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Linear(6, 4)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        beside = self.before(x)
        x = self.after(beside, self.layer(x))
        return self.head(x.flatten(2).mean(2))


def _written(beside: Tensor, x: Tensor) -> Tensor:
    view = beside[:, :3]
    beside.relu_()
    return torch.cat([view, x[:, 3:]], 1) + beside


def _several(beside: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    beside[1].mul_(3)  # a view of the first
    return beside[0] + x


def _branch(_: None, x: Tensor) -> Tensor:
    return x * 2 if x[0].sum() > 0 else x.tanh()


def _filled(x: Tensor) -> Tensor:
    room = torch.zeros(len(x), 6, 1, 1, dtype=x.dtype)
    room[:] = x.amax((2, 3), keepdim=True)
    return room


HARD = {
    "a sum": (lambda x: x.sigmoid(), lambda y, x: x + y, Way.MANY),
    "written above": (lambda x: x.clone(), _written, Way.MANY),
    "a view is written": (lambda x: (one := x.clone(), one[:, :2]), _several, Way.FULL),
    "iterated": (lambda x: list(x.sigmoid()), lambda y, x: x + torch.stack(y), Way.ONE),
    "iterated below": (lambda x: torch.stack(list(x)), lambda y, x: x + y, Way.MANY),
    "a function": (Twice.apply, lambda y, x: Twice.apply(x) + y, Way.MANY),
    "unseen below": (Unseen.apply, lambda y, x: x + y, Way.ONE),
    "unseen above": (lambda x: None, lambda y, x: Unseen.apply(x), Way.MANY),
    "unseen, then seen": (lambda x: Unseen.apply(x.sigmoid()).tanh(), lambda y, x: x + y, Way.ONE),
    "the batch's size": (len, lambda y, x: x.reshape(y, 6, -1), Way.ONE),
    "the batch's mean": (lambda x: None, lambda y, x: x - x.mean(0), Way.ONE),
    "a constant of the batch's size": (lambda x: torch.ones(len(x), 6, 1, 1), lambda y, x: x * y, Way.ONE),
    "room for it": (_filled, lambda y, x: x + y, Way.MANY),
    "a constant": (lambda x: torch.full((1, 6, 1, 1), 0.3), lambda y, x: x * y, Way.MANY),
    "another order": (lambda x: x.movedim(0, 1).exp(), lambda y, x: x + y.movedim(1, 0), Way.ONE),
    "windows of items": (
        lambda x: x.reshape(len(x) * 2, 3, *x.shape[2:]),
        lambda y, x: x + y.reshape(-1, *x.shape[1:]),
        Way.MANY,
    ),
    "windows before items": (
        lambda x: x.reshape(len(x), 2, 3, *x.shape[2:]).transpose(0, 1).flatten(0, 1),
        lambda y, x: x + y.unflatten(0, (2, -1)).transpose(0, 1).flatten(1, 2),
        Way.ONE,
    ),
    "a branch": (lambda x: None, _branch, Way.ONE),
    "a number below": (lambda x: x.sum().item(), lambda y, x: x * y, Way.MANY),
    "numpy": (lambda x: x.numpy().sum(), lambda y, x: x * float(y), Way.FULL),
    "random below": (lambda x: torch.rand(6, 1, 1), lambda y, x: x * y, Way.FULL),
}  # fmt: skip


def hard(name: str) -> Model:
    before, after, _ = HARD[name]
    torch.manual_seed(0)
    return Model(before, after).double().eval()


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("items", [3, 2])
def test_hard(name: str, items: int) -> None:
    module, inputs = hard(name), pictures(items, 8)
    state = torch.get_rng_state()
    kept = Above(module, "layer").keep(inputs)
    values = torch.linspace(-1, 2, 6, dtype=inputs.dtype)
    for _ in range(2):
        found = kept.run(kept.changed([torch.tensor([unit]) for unit in (0, 3, 5)], values))
        for unit, logits in zip((0, 3, 5), found.split(items), strict=True):
            torch.set_rng_state(state)
            assert_close(logits, naive(module, "layer", inputs, [unit], 1, values), rtol=1e-12, atol=1e-12)
            torch.set_rng_state(state)
    with torch.no_grad():
        assert_close(kept.logits, module(inputs), rtol=1e-12, atol=1e-12)
    assert kept.way is HARD[name][2]


def test_what_is_below_may_change_its_mind() -> None:
    """Other calls the second time: the whole forward pass, which is right whatever the model does."""
    calls = []

    def fickle(x: Tensor) -> Tensor:
        calls.append(1)
        return x.exp() if len(calls) == 1 else x.exp().mul(1)

    module = Model(fickle, lambda y, x: x + y).double().eval()
    kept = Above(module, "layer").keep(pictures(2, 8))
    found = kept.run(kept.changed([torch.tensor([1])], torch.zeros(6)))
    assert kept.way is Way.FULL
    assert_close(found, naive(module, "layer", pictures(2, 8), [1], 1, torch.zeros(6, dtype=torch.float64)))


class Square(nn.Module):
    """By a function that is not seen."""

    def forward(self, x: Tensor) -> Tensor:
        return Unseen.apply(x)


def test_an_activation_that_is_written_to() -> None:
    module = Model(lambda x: None, lambda _, x: x.mul_(2)).double().eval()
    module.layer = Square().eval()
    inputs, values = pictures(2, 8), torch.zeros(6, dtype=torch.float64)
    kept = Above(module, "layer").keep(inputs)
    with torch.no_grad():
        assert_close(kept.activation, module.first(inputs) ** 2)
    found = kept.run(kept.changed([torch.tensor([1])], values))
    assert_close(found, naive(module, "layer", inputs, [1], 1, values))


def test_states_are_set_again() -> None:
    """What sets a state and computes nothing is no answer to keep."""

    def after(_: None, x: Tensor) -> Tensor:
        x = x.detach() * 2 if torch.is_grad_enabled() else x
        torch.set_grad_enabled(False)
        return x

    module = Model(lambda x: (torch.set_grad_enabled(True), None)[1], after).double().eval()
    values = torch.zeros(6, dtype=torch.float64)
    expected = naive(module, "layer", pictures(2, 8), [1], 1, values)
    kept = Above(module, "layer").keep(pictures(2, 8))
    assert_close(kept.run(kept.changed([torch.tensor([1])], values)), expected)
    assert kept.way is Way.MANY
    assert torch.is_grad_enabled()


def test_a_branch_that_units_take_apart() -> None:
    """Units that go one way are no reason to trust that all do: what reads values decides for each unit by itself."""
    module, inputs = hard("a branch"), pictures(2, 8)
    kept = Above(module, "layer").keep(inputs)
    same, other = torch.zeros(6, dtype=torch.float64), torch.full((6,), 1e3, dtype=torch.float64)
    if float(kept.activation[0].sum()) > 0:
        other = -other
    kept.run(kept.changed([torch.tensor([], dtype=torch.int64)] * 2, same))
    activation = torch.cat([kept.activation, kept.changed([torch.tensor([5])], other)])
    found = kept.run(activation)
    assert_close(found[:2], kept.logits)
    assert_close(found[2:], naive(module, "layer", inputs, [5], 1, other))


def test_autocast_reaches_the_part_above() -> None:
    module, inputs = hard("a sum").float(), pictures(2, 8).float()
    with torch.autocast("cpu", torch.bfloat16):
        kept = Above(module, "layer").keep(inputs)
        found = kept.run(kept.changed([torch.tensor([1])], torch.zeros(6)))
        expected = naive(module, "layer", inputs, [1], 1, torch.zeros(6))
    assert found.dtype is torch.bfloat16
    assert_close(found, expected)


def test_channels_last() -> None:
    module = small().to(memory_format=torch.channels_last)
    inputs = pictures().contiguous(memory_format=torch.channels_last)
    assert held_up(module, "second", inputs) is Way.MANY
    kept = Above(module, "second").keep(inputs)
    many = kept.changed([torch.tensor([0])] * 2, torch.zeros(6))
    assert many.is_contiguous(memory_format=torch.channels_last)


# -- the model is left as it was -------------------------------------------------------------------------------------


def snapshot(module: nn.Module) -> Any:
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()]
    flags = [part.training for part in module.modules()]
    return hooks, flags, {name: one.clone() for name, one in module.state_dict().items()}, torch.get_rng_state()


def test_untouched() -> None:
    module, inputs = resnet(), pictures()
    before, given = snapshot(module), inputs.clone()
    kept = Above(module, "relu").keep(inputs)
    kept.run(kept.changed([torch.tensor([0])], torch.zeros(64)))
    assert_close(snapshot(module), before, rtol=0, atol=0)
    assert_close(inputs, given, rtol=0, atol=0)


@pytest.mark.parametrize("when", [1, 2, 3])
def test_untouched_after_errors(when: int) -> None:
    calls = []

    def breaks(_: None, x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) >= when:
            raise ValueError("broken")
        return x

    module = Model(lambda x: None, breaks).double().eval()
    before = snapshot(module)

    def run() -> None:
        kept = Above(module, "layer").keep(pictures(2, 8))
        kept.run(kept.changed([torch.tensor([0])] * 2, torch.zeros(6)))

    with pytest.raises(ValueError, match="broken"):
        run()
    assert_close(snapshot(module), before, rtol=0, atol=0)


def test_a_counting_buffer() -> None:
    """A model that writes to its buffers is run whole, and they are put back."""
    module = hard("a sum")
    module.register_buffer("seen", torch.zeros((), dtype=torch.float64))
    module.after = lambda y, x: x + y * module.seen.add_(1)
    kept = Above(module, "layer").keep(pictures(2, 8))
    found = kept.run(kept.changed([torch.tensor([0])] * 2, torch.zeros(6)))
    assert kept.way is Way.FULL
    assert float(module.seen) == 0
    expected = naive(module, "layer", pictures(2, 8), [0], 1, torch.zeros(6, dtype=torch.float64))
    assert_close(found, expected.repeat(2, 1))


def test_hooks_of_others_see_what_was_there() -> None:
    module, seen = small(), []
    module.first.register_forward_hook(lambda _, __, output: seen.append(output))
    kept = Above(module, "second").keep(pictures())
    kept.run(kept.changed([torch.tensor([0])], torch.zeros(6)))
    assert {tuple(one.shape) for one in seen} == {(3, 6, 32, 32)}


# -- refusals --------------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"no layer 'layer5' in ResNet; there are layer4, layer3, layer2, …"):
        Above(resnet(), "layer5")
    with pytest.raises(InputError, match=r"no layer ''"):
        Above(resnet(), "")
    with pytest.raises(ModelError, match=r"'layer1\.0\.relu' is called 2 times in a forward pass"):
        Above(resnet(), "layer1.0.relu").keep(pictures())
    with pytest.raises(ModelError, match="out_proj' is called 0 times"):
        Above(vit(), "encoder.layers.encoder_layer_0.self_attention.out_proj").keep(pictures())
    with pytest.raises(ModelError, match=r"in training mode.*call \.eval\(\)"):
        Above(resnet().train(), "layer4")
    with pytest.raises(InputError, match=r"at least one item, not \(0, 3, 32, 32\)"):
        Above(resnet(), "layer4").keep(pictures()[:0])
    with pytest.raises(ModelError, match=r"logits of shape \(3, 6, 6, 6\)"):
        Above(nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1)).double().eval(), "0").keep(pictures(3, 8))
    kept = Above(small(), "second").keep(pictures())
    with pytest.raises(InputError, match=r"is \(U · 3, 6, 32, 32\) for this batch, not \(4, 6, 32, 32\)"):
        kept.run(torch.zeros(4, 6, 32, 32))


def test_unit_dim() -> None:
    inputs = pictures(2)
    assert Above(small(), Layer("second", unit_dim=-1)).keep(inputs).units == 32
    assert Above(small(), Layer("second", unit_dim=1)).keep(inputs).units == 6
    with pytest.raises(InputError, match="give one from 1 to 3"):
        Above(small(), Layer("second", unit_dim=4)).keep(inputs)
    with pytest.raises(InputError, match="give one from 1 to 3"):
        Above(small(), Layer("second", unit_dim=0)).keep(inputs)


class Rows(nn.Module):
    """Maps with the units last, as ConvNeXt's and Swin's; `square` has as many of them as columns."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.first, self.act, self.head = nn.Linear(3, units), nn.GELU(), nn.Linear(units, 4)
        self.turn = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x.movedim(1, -1)))
        return self.head(self.turn(x.movedim(-1, 1)).mean((2, 3)))


def test_units_that_come_last() -> None:
    inputs = pictures(2, 8)
    module = Rows(7).double().eval()
    assert [Above(module, one).keep(inputs).unit_dim for one in ("first", "act", "turn")] == [3, 3, 1]
    square = Rows(8).double().eval()
    assert Above(square, "act").keep(inputs).unit_dim == 3


def test_a_classifier() -> None:
    kept = Above(vv.Classifier(small()), "second").keep(pictures())
    assert kept.units == 6
    assert F.softmax(kept.logits, 1).shape == (3, 4)


def test_a_class_with_a_huge_logit_does_not_hide_that_items_are_mixed() -> None:
    """Classes that are masked out, at −1e9, say: the others are still held up to the forward pass."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            z = self.layer(x).relu()
            return torch.cat([(z - z.mean(0)) * 3, torch.full((len(z), 1), -1e9, dtype=z.dtype)], 1)

    torch.manual_seed(0)
    assert held_up(Mixed().double().eval(), "layer", torch.randn(5, 4, dtype=torch.float64)) is Way.ONE


def test_who_else_runs_the_model_sees_nothing_of_it() -> None:
    """Another thread's forward pass in the middle of ours is neither counted nor changed."""
    module, inputs = small(), pictures(2, 8)
    with torch.no_grad():
        expected = module(inputs)
    seen: list[Tensor] = []
    kept = Above(module, "second").keep(inputs)

    def elsewhere(*_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            with ThreadPoolExecutor(1) as pool:
                seen.append(pool.submit(plain).result())

    def plain() -> Tensor:
        with torch.no_grad():
            return module(inputs)

    handle = module.hidden.register_forward_hook(elsewhere)
    try:
        again = Above(module, "second").keep(inputs)
        found = again.run(again.changed([torch.tensor([1])], torch.zeros(6, dtype=torch.float64)))
    finally:
        handle.remove()
    assert seen
    for one in seen:
        assert_close(one, expected, rtol=0, atol=0)
    assert_close(found, kept.run(kept.changed([torch.tensor([1])], torch.zeros(6, dtype=torch.float64))))

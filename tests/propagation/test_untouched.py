"""The model is left as it was: after success, after an error in either pass, after an interruption."""

from __future__ import annotations

import contextlib
import gc
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visavis as vv
from visavis.outputs import logits_of
from visavis.propagation import Activation, Run, ZPlus, forward, rule_set

DOUBLE = torch.float64
PROPAGATING = ("clrp", "lrp", "deep-taylor", "gradient", "input-x-gradient", "deconvnet", "guided-backprop")
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks",
)


def build(name: str, module: nn.Module, **options: Any) -> Any:
    """A method of that name, made to take few passes."""
    few = {"integrated-gradients": {"steps": 2}, "smoothgrad": {"samples": 2}}.get(name, {})
    return vv.method(name)(module, **few, **options)


class Picture:
    """All of a model that a caller could find changed."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.tensors = self._tensors()
        self.values = {name: tensor.detach().clone() for name, tensor in self.tensors.items()}
        self.flags = {name: (tensor.requires_grad, tensor.is_leaf) for name, tensor in self.tensors.items()}
        self.grads = {name: tensor.grad for name, tensor in self.tensors.items()}
        self.hooks = self._hooks()
        self.modes = [part.training for part in module.modules()]
        self.attributes = [set(vars(part)) for part in module.modules()]
        self.random = torch.get_rng_state()

    def _tensors(self) -> dict[str, Tensor]:
        return dict(self.module.named_parameters()) | dict(self.module.named_buffers())

    def _hooks(self) -> list[dict[int, Any]]:
        return [dict(getattr(part, name)) for part in self.module.modules() for name in HOOKS]

    def check(self) -> None:
        now = self._tensors()
        assert list(now) == list(self.tensors)
        for name, tensor in now.items():
            assert tensor is self.tensors[name], f"{name} is another tensor"
            torch.testing.assert_close(tensor, self.values[name], rtol=0, atol=0, equal_nan=True, msg=name)
            assert (tensor.requires_grad, tensor.is_leaf) == self.flags[name], name
            assert tensor.grad is self.grads[name], name
        assert self._hooks() == self.hooks
        assert [part.training for part in self.module.modules()] == self.modes
        assert [set(vars(part)) for part in self.module.modules()] == self.attributes
        assert torch.equal(torch.get_rng_state(), self.random)
        assert torch.is_grad_enabled()
        assert not torch.overrides._get_current_function_mode_stack()


class Network(nn.Module):
    """Convolution, batch norm, dropout, something in the middle, and a dense layer."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)
        self.between = between
        self.register_buffer("counter", torch.zeros((), dtype=torch.long))
        self.register_buffer("average", torch.zeros(4))
        self.register_buffer("absent", None)
        self.register_buffer("scratch", torch.ones(4), persistent=False)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.dropout(self.relu(self.norm(self.convolution(x))))
        if self.between is not None:
            h = self.between(self, h)
        result: Tensor = self.head(h.mean((2, 3)))
        return result


def pictures() -> Tensor:
    return torch.randn(2, 3, 6, 6, dtype=DOUBLE)


def test_versions_hooks_and_gradients_stay_after_success() -> None:
    module, x = Network(), pictures().requires_grad_()
    module.head.weight.grad = torch.ones_like(module.head.weight)
    module.convolution.weight.requires_grad_(False)
    handle = module.norm.register_forward_hook(lambda *_: None)
    versions = {name: p._version for name, p in module.named_parameters()}
    picture, kept, version = Picture(module), x.detach().clone(), x._version
    for name in PROPAGATING:
        build(name, module).attribute(x, [0, 3])
        build(name, module, layer="convolution").attribute(x, 2, position=(1, 1))
    picture.check()
    assert {name: p._version for name, p in module.named_parameters()} == versions
    assert torch.equal(x, kept)
    assert x._version == version
    assert x.grad is None
    assert x.requires_grad
    handle.remove()


class OwnError(Exception):
    pass


class OwnRuntimeError(RuntimeError):
    pass


@pytest.mark.parametrize("layer", [None, "head"])
@pytest.mark.parametrize("error", [OwnError, OwnRuntimeError, KeyboardInterrupt, SystemExit, ValueError])
@pytest.mark.parametrize("name", PROPAGATING)
def test_an_error_in_forward_reaches_the_caller_as_it_is(
    name: str, error: type[BaseException], layer: str | None
) -> None:
    raised = error("of the model's own")

    def fail(module: Any, h: Tensor) -> Tensor:
        module.counter.add_(1)
        module.average = h.mean((0, 2, 3))
        module.eval().train(False)
        module.norm.train()
        torch.rand(3)
        raise raised

    module, x = Network(fail), pictures()
    picture, kept = Picture(module), x.clone()
    with pytest.raises(error) as caught:
        build(name, module, layer=layer).attribute(x, 0)
    assert caught.value is raised
    picture.check()
    assert torch.equal(x, kept)
    module.between = None
    assert build(name, module).attribute(x, 0).isfinite().all()


@pytest.mark.parametrize("error", [OwnError, KeyboardInterrupt])
def test_an_error_in_backward_reaches_the_caller_as_it_is(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = Network(), pictures()
    before = vv.CLRP(module, foil="negated").attribute(x, 1)
    picture, raised = Picture(module), error("in a rule")

    def fail(self: ZPlus, site: Any) -> Any:
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr(ZPlus, "at", fail)
        with pytest.raises(error) as caught:
            vv.CLRP(module, foil="negated").attribute(x, 1)
    assert caught.value is raised
    picture.check()
    assert torch.equal(vv.CLRP(module, foil="negated").attribute(x, 1), before)


def test_an_error_midway_in_one_map_leaves_the_run_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that CLRP2 negates are plain again after an error."""
    module, x = Network(), pictures()
    with forward(module, x, rule_set("deep-taylor"), pick=logits_of) as run:
        seed = torch.ones_like(run.output)
        plain = run.relevance(seed, more=True)
        with monkeypatch.context() as patch:
            patch.setattr(torch.autograd, "grad", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run.relevance(seed, weights="negated", more=True)
        assert torch.equal(run.relevance(seed, more=True), plain)


def interrupted(*args: Any, **kwargs: Any) -> Any:
    raise KeyboardInterrupt


def test_a_failing_module_is_told_with_its_input_s_shape() -> None:
    with pytest.raises(vv.ModelError, match=r"the model failed on inputs of shape \(2, 7, 6, 6\): .*channels"):
        vv.LRP(Network()).attribute(torch.rand(2, 7, 6, 6, dtype=DOUBLE), 0)


@contextmanager
def warned() -> Iterator[None]:
    with pytest.warns(UserWarning, match="the model is in training mode"):
        yield


@pytest.mark.parametrize("name", list(vv.methods()))
def test_batch_norm_and_dropout_in_training_mode(name: str) -> None:
    module, x = Network().train(), pictures()
    module.dropout.eval()
    picture = Picture(module)
    with warned():
        first = build(name, module).attribute(x, 1)
    picture.check()
    with warned():
        again = build(name, module).attribute(x, 1)
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", list(vv.methods()))
def test_an_error_in_training_mode(name: str) -> None:
    def fail(module: Any, h: Tensor) -> Tensor:
        raise OwnError

    module, x = Network(fail).train(), pictures()
    picture = Picture(module)
    with warned(), pytest.raises(OwnError):
        build(name, module).attribute(x, 1)
    picture.check()


def counted(module: Any, h: Tensor) -> Tensor:
    module.counter.add_(1)
    return h


def counted_by_operator(module: Any, h: Tensor) -> Tensor:
    module.counter += 1
    return h


def averaged(module: Any, h: Tensor) -> Tensor:
    module.average.mul_(0.9).add_(0.1 * h.mean((0, 2, 3)))
    return h


def averaged_of_detached(module: Any, h: Tensor) -> Tensor:
    module.average.copy_(h.detach().mean((0, 2, 3)))
    return h


def averaged_without_gradient(module: Any, h: Tensor) -> Tensor:
    with torch.no_grad():
        module.average.copy_(h.mean((0, 2, 3)))
    return h


def replaced(module: Any, h: Tensor) -> Tensor:
    module.average = h.mean((0, 2, 3))
    return h


def filled_in(module: Any, h: Tensor) -> Tensor:
    module.absent = h.mean((0, 2, 3))
    return h


def items_set(module: Any, h: Tensor) -> Tensor:
    module.average[1] = 7.0
    module.average[:] = h.mean((0, 2, 3))
    return h


def row_written(module: Any, h: Tensor) -> Tensor:
    module.average[1].add_(7.0)
    return h


def view_written(module: Any, h: Tensor) -> Tensor:
    module.average.view(2, 2)[0].fill_(3.0)
    return h


def data_written(module: Any, h: Tensor) -> Tensor:
    module.average.data.add_(7.0)
    return h


def out_given(module: Any, h: Tensor) -> Tensor:
    torch.add(module.average, 1.0, out=module.average)
    return h


def non_persistent(module: Any, h: Tensor) -> Tensor:
    module.scratch.zero_()
    return h


def weight_clamped(module: Any, h: Tensor) -> Tensor:
    module.head.weight.data.clamp_(min=0)
    return h


def weight_renormalised(module: Any, h: Tensor) -> Tensor:
    module.head.weight.data = torch.renorm(module.head.weight.data, 2, 0, 0.1)
    return h


def weight_scaled(module: Any, h: Tensor) -> Tensor:
    with torch.no_grad():
        module.head.weight.mul_(2.0)
    return h


def buffer_registered(module: Any, h: Tensor) -> Tensor:
    if not hasattr(module, "grid"):
        module.register_buffer("grid", torch.ones(6, dtype=DOUBLE))
    return h * module.grid


def buffer_registered_in_a_part(module: Any, h: Tensor) -> Tensor:
    module.relu.register_buffer("grid", torch.ones(6, dtype=DOUBLE))
    return h


def statistics_of_something_else(module: Any, h: Tensor) -> Tensor:
    F.batch_norm(torch.rand(3, 4, dtype=DOUBLE), module.average, module.scratch, training=True)
    return h


def written_all_at_once(module: Any, h: Tensor) -> Tensor:
    torch._foreach_add_([module.average, module.scratch], 1.0)
    return h


def mode_switched(module: Any, h: Tensor) -> Tensor:
    module.norm.train()
    return h


def frozen(module: Any, h: Tensor) -> Tensor:
    module.head.requires_grad_(False)
    return h


def random_seeded(module: Any, h: Tensor) -> Tensor:
    torch.manual_seed(torch.randint(100, ()).item())
    return h + 0.0 * torch.randn_like(h)


WRITING = [
    counted,
    counted_by_operator,
    averaged,
    averaged_of_detached,
    averaged_without_gradient,
    replaced,
    filled_in,
    items_set,
    row_written,
    view_written,
    data_written,
    out_given,
    non_persistent,
    weight_clamped,
    weight_renormalised,
    weight_scaled,
    buffer_registered,
    buffer_registered_in_a_part,
    statistics_of_something_else,
    written_all_at_once,
    mode_switched,
    frozen,
    random_seeded,
]
# Captum's methods run without our mode, so that one kind of each writing is enough.
OF_PEERS = [averaged, replaced, weight_clamped, buffer_registered, mode_switched]


@pytest.mark.parametrize(
    ("between", "name"),
    [(between, name) for name in ("lrp", "gradient") for between in WRITING]
    + [(between, "integrated-gradients") for between in OF_PEERS],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_forward_that_writes_to_the_model_leaves_no_trace(between: Any, name: str) -> None:
    module, x = Network(between), pictures()
    picture = Picture(module)
    first = build(name, module).attribute(x, 1)
    picture.check()
    assert torch.equal(build(name, module).attribute(x, 1), first)


@pytest.mark.parametrize("name", ["lrp", "gradient"])
def test_what_a_forward_writes_is_undone_where_the_call_is_refused(name: str) -> None:
    """Where a function has no rule it must not have run on the model's own memory either."""

    def copied(module: Any, h: Tensor) -> Tensor:
        module.average.copy_(h.mean((0, 2, 3)))
        raise OwnError

    module, x = Network(copied), pictures()
    picture = Picture(module)
    with pytest.raises((vv.UnsupportedOperationError, OwnError)):
        build(name, module).attribute(x, 1)
    picture.check()


def test_two_threads_put_back_what_was_there_before_either() -> None:
    both_wrote = threading.Barrier(2)

    def between(module: nn.Module, h: Tensor) -> Tensor:
        module.counter += 1
        with contextlib.suppress(threading.BrokenBarrierError):
            both_wrote.wait(0.3)  # without a lock, both are here at once, and one has copied what the other wrote
        return h * module.counter

    module = Network(between)
    expected = vv.LRP(Network(lambda _, h: h * 1.0), rules="zero")
    expected.module.load_state_dict(module.state_dict())
    x = pictures()
    before = Picture(module)
    with ThreadPoolExecutor(2) as threads:
        maps = list(threads.map(lambda _: vv.LRP(module, rules="zero").attribute(x, 1), range(2)))
    before.check()
    for relevance in maps:
        assert torch.equal(relevance, expected.attribute(x, 1))


@pytest.mark.parametrize("rules", ["epsilon", "gradient-times-input", "deep-taylor"])
def test_calls_do_not_influence_each_other(rules: str) -> None:
    module, x = Network(averaged), pictures()
    method = vv.CLRP(module, signed=True)
    first = method.attribute(x, 1)
    other = vv.LRP(module, rules=rules).attribute(x, 2)
    vv.GuidedBackprop(module).attribute(x, 2)
    vv.CLRP(module, foil="negated").attribute(x, 3)
    assert torch.equal(method.attribute(x, 1), first)
    assert torch.equal(vv.LRP(module, rules=rules).attribute(x, 2), other)


def test_dropout_in_training_mode_is_the_same_every_time_and_leaves_the_random_state() -> None:
    module, x = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 3)).double(), torch.rand(2, 6)
    state = torch.get_rng_state()
    with warned():
        first = vv.LRP(module).attribute(x.double(), 1)
    assert torch.equal(torch.get_rng_state(), state)
    with warned():
        assert torch.equal(vv.LRP(module).attribute(x.double(), 1), first)
    torch.rand(1)
    with warned():
        assert not torch.equal(vv.LRP(module).attribute(x.double(), 1), first)


def test_the_model_is_as_it_was_when_the_context_of_a_run_is_left_by_an_error() -> None:
    module, x = Network(counted), pictures()
    picture = Picture(module)
    with pytest.raises(OwnError), forward(module, x, rule_set("zero"), pick=logits_of):
        raise OwnError
    picture.check()


def test_an_error_in_pick_and_in_a_callable_target() -> None:
    def fail(outputs: Any) -> Tensor:
        raise OwnError

    module, x = Network(counted), pictures()
    picture = Picture(module)
    with pytest.raises(OwnError), forward(module, x, rule_set("zero"), pick=fail):
        pass
    with pytest.raises(OwnError):
        vv.LRP(module).attribute(x, fail)
    picture.check()


# -- memory ----------------------------------------------------------------------------------------------------------


@contextmanager
def no_collector() -> Iterator[None]:
    """Only reference counts free memory here: on a GPU, what waits for the collector is out of memory."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def live_tensors() -> int:
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def clrp_by_sum(module: nn.Module) -> Any:
    return vv.CLRP(module, normalize="sum")


def clrp_negated(module: nn.Module) -> Any:
    return vv.CLRP(module, foil="negated")


def lrp_epsilon(module: nn.Module) -> Any:
    return vv.LRP(module, rules="epsilon")


def lrp_of_a_layer(module: nn.Module) -> Any:
    return vv.LRP(module, layer="norm")


@pytest.mark.parametrize(
    "make",
    [vv.LRP, vv.CLRP, clrp_by_sum, clrp_negated, lrp_epsilon, lrp_of_a_layer, vv.Gradient, vv.GuidedBackprop],
    ids=lambda make: make.__name__,
)
def test_activations_are_freed_by_reference_counts_alone(make: Any) -> None:
    module, x = Network(averaged), pictures()
    method = make(module)
    method.attribute(x, 1)
    with no_collector():
        before = live_tensors()
        for _ in range(3):
            method.attribute(x, 1)
        assert live_tensors() == before


def test_a_run_with_many_maps_is_freed_by_reference_counts_alone() -> None:
    module, x = Network(), pictures()
    with no_collector():
        with forward(module, x, rule_set("deep-taylor"), pick=logits_of) as run:
            seed = torch.ones_like(run.output)
            for _ in range(3):
                run.relevance(seed, more=True)
            watched = [weakref.ref(run), weakref.ref(run._output), weakref.ref(run.output)]
        del run
        assert [reference() for reference in watched] == [None, None, None]


def test_the_run_keeps_no_more_for_each_further_map() -> None:
    with no_collector(), forward(Network(), pictures(), rule_set("deep-taylor"), pick=logits_of) as run:
        seed = torch.ones_like(run.output)
        run.relevance(seed, more=True)
        before = live_tensors()
        for _ in range(3):
            run.relevance(seed, more=True)
        assert live_tensors() == before


def test_the_checker_of_memory_sees_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Tensor] = []
    original = Run.relevance

    def leaking(self: Run, *args: Any, **kwargs: Any) -> Tensor:
        kept.append(self._output)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Run, "relevance", leaking)
    with no_collector():
        before = live_tensors()
        vv.Gradient(Network()).attribute(pictures(), 1)
        assert live_tensors() > before


def test_the_checker_of_the_model_sees_changes() -> None:
    for change in (counted, weight_scaled, buffer_registered, mode_switched, frozen, replaced):
        module = Network()
        picture = Picture(module)
        with torch.no_grad():
            change(module, torch.ones(2, 4, 6, 6, dtype=DOUBLE))
        with pytest.raises(AssertionError):
            picture.check()


def test_activation_policies_restore_too() -> None:
    module, x = Network(counted), pictures()
    picture = Picture(module)
    with warnings.catch_warnings(), forward(module, x, Activation("guided"), pick=logits_of) as run:
        run.relevance(torch.ones_like(run.output))
    picture.check()

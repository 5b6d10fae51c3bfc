"""A recorded run: what it is cut into, what it reads, what cannot be recorded, and what of a model is watched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.multiprocessing.reductions import StorageWeakRef

from propagation.recorded_network import DOUBLE, TARGETS, maps, network, opener, pictures, plain
from visavis import ModelError
from visavis.propagation.mode import Bounds
from visavis.propagation.recording import NotRecordable, Piece, Recording, Watch, recorded


def record(
    module: nn.Module,
    inputs: Any = None,
    targets: Tensor | None = TARGETS,
    *,
    rules: str = "deep-taylor",
    bounds: Bounds | None = None,
    count: int = 1,
) -> Recording:
    with torch.no_grad():
        given = pictures() if inputs is None else inputs
        return recorded(module, opener(module, rules, bounds), maps, given, targets, bounds, count)


def played(recording: Recording, inputs: Tensor, *targets: Tensor) -> list[Tensor]:
    """The first input's map of each of the targets, as many as were recorded."""
    values = dict(recording.constants) | {recording.inputs[0]: inputs}
    values |= dict(zip(recording.targets, targets, strict=True))
    with torch.no_grad():
        for piece in recording.pieces:
            values |= dict(zip(piece.gives, piece.play([values[name] for name in piece.reads]), strict=True))
    return [values[of_each[0]] for of_each in recording.maps]


# -- what is recorded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["deep-taylor", "epsilon", "gamma-box", "gradient-times-input"])
def test_played_with_other_inputs_and_targets_it_gives_their_maps(rules: str) -> None:
    module, x = network(), pictures(7)
    recording = record(module, rules=rules, count=2)
    other = (torch.tensor([3, 0]), torch.tensor([0, 1]))
    for one, expected in zip(played(recording, x, *other), plain(module, x, *other, rules=rules), strict=True):
        assert expected.abs().sum() > 0
        assert torch.equal(one, expected)


def test_a_run_is_cut_where_targets_come_in() -> None:
    assert len(record(network()).pieces) == 2
    assert len(record(network(), count=2).pieces) == 3
    alone = record(network(), targets=None)
    assert len(alone.pieces) == 1
    assert alone.targets == ()
    x = pictures(5)
    assert torch.equal(played(alone, x)[0], plain(network(), x, None)[0])


def test_the_forward_pass_reads_no_target_and_a_further_map_makes_no_denominators() -> None:
    recording = record(network(), count=2)
    before, first, further = recording.pieces
    assert recording.inputs[0] in before.reads
    assert not set(recording.targets) & set(before.reads)
    assert recording.targets[0] not in further.reads

    def convolutions(piece: Piece) -> int:
        return sum("convolution" in str(node.target) for node in piece.calls.graph.nodes)

    assert convolutions(before) == 2
    assert convolutions(further) < convolutions(first)


@pytest.mark.parametrize("autocast", [False, True])
def test_what_it_keeps_is_the_model_s_own_memory(autocast: bool) -> None:
    module = network().float()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        plain(module, pictures().float(), TARGETS)  # which leaves weights in the cache of autocast
        recording = record(module, pictures().float())
    own = {tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    assert recording.constants
    assert {tensor.data_ptr() for tensor in recording.constants.values()} <= own
    assert not any(tensor.requires_grad for tensor in recording.constants.values())


def test_several_inputs_have_a_map_each() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 4, dtype=DOUBLE)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            result: Tensor = self.head(a * 2 + b)
            return result

    inputs = tuple(torch.rand(2, 3, dtype=DOUBLE) for _ in range(2))
    recording = record(Sum(), inputs)
    assert recording.several
    assert len(recording.inputs) == 2
    assert [len(of_each) for of_each in recording.maps] == [2]
    assert not record(network()).several


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_the_map_of_an_image_that_is_not_finite_is_nan_and_no_other(bad: float) -> None:
    module, x = network(), pictures(3)
    expected = plain(module, x, TARGETS)[0]
    recording = record(module)
    x[1, 2, 4, 4] = bad
    (found,) = played(recording, x, TARGETS)
    assert torch.equal(found[0], expected[0])
    assert found[1].isnan().all()


def test_the_map_of_an_image_beyond_its_bounds_is_nan_and_no_other() -> None:
    low, high = (torch.tensor(values, dtype=DOUBLE).view(1, 3, 1, 1) for values in ([-1, -1, -2], [1, 1, 1]))
    bounds = Bounds.of(low, high)
    module, x = network(), pictures(3).clamp(-1, 1)
    recording = record(module, pictures().clamp(-1, 1), bounds=bounds)
    x[0, 2, 0, 0] = -1.5  # within those of its channel
    x[1, 0, 0, 0] = 1.002  # within what rounding may add, by the width of 3
    expected = plain(module, x, TARGETS, bounds=bounds)[0]
    assert torch.equal(played(recording, x, TARGETS)[0], expected)
    for channel, value in ((1, -1.1), (2, 1.1), (2, -2.1)):
        beyond = x.clone()
        beyond[0, channel, 3, 3] = value
        (found,) = played(recording, beyond, TARGETS)
        assert found[0].isnan().all()
        assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("index", [-1, 4, 1000])
def test_the_map_of_a_target_that_the_outputs_have_not_is_nan(index: int) -> None:
    module, x = network(), pictures(3)
    (found,) = played(record(module), x, torch.tensor([index, 2]))
    assert found[0].isnan().all()
    assert torch.equal(found[1], plain(module, x, TARGETS)[0][1])


# -- playing a piece ---------------------------------------------------------------------------------------------------


def test_each_value_is_let_go_of_after_its_last_reader() -> None:
    made: list[StorageWeakRef] = []
    seen: list[list[bool]] = []

    def call(*values: Tensor) -> Tensor:
        seen.append([one.expired() for one in made])
        result = torch.stack(values).sum(0)
        made.append(StorageWeakRef(result.untyped_storage()))
        return result

    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    first = graph.call_function(call, (x,))
    second = graph.call_function(call, (first, y))
    third = graph.call_function(call, (second, first))
    fourth = graph.call_function(call, (third,))
    graph.output([fourth, second])
    piece = Piece(fx.GraphModule(nn.Module(), graph), ("x", "y"), ("fourth", "second"))
    values = [torch.ones(4), torch.full((4,), 2.0)]
    made += [StorageWeakRef(one.untyped_storage()) for one in values]
    found = piece.play(values)
    assert values == []
    # Of x, y, and what the calls made: which are gone as each call runs.
    assert seen == [
        [False, False],
        [True, False, False],
        [True, True, False, False],
        [True, True, True, False, False],
    ]
    assert [one.expired() for one in made] == [True, True, True, False, True, False]
    assert [one.tolist() for one in found] == [[4.0] * 4, [3.0] * 4]


def test_a_piece_can_be_played_again() -> None:
    recording = record(network())
    x = pictures(4)
    first, second = played(recording, x, TARGETS), played(recording, x, TARGETS)
    assert torch.equal(first[0], second[0])
    assert first[0].data_ptr() != second[0].data_ptr()


# -- what cannot be recorded -------------------------------------------------------------------------------------------


class Odd(nn.Module):
    """A network whose forward is what a test says."""

    def __init__(self, way: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 4))
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.register_buffer("flag", torch.tensor(True))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("channels", torch.tensor([True, True, True]))
        self.aside = torch.ones(3, dtype=DOUBLE)
        self.way = way
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def counted(m: Any, x: Tensor) -> Tensor:
    m.count += 1
    return m.body(x) * m.count  # type: ignore[no-any-return]


def written_aside(m: Any, x: Tensor) -> Tensor:
    m.aside.mul_(1.0)
    return m.body(x)  # type: ignore[no-any-return]


def only_before(m: Any, x: Tensor) -> Tensor:
    if get_proxy_mode() is not None:
        raise RuntimeError("not twice")
    return m.body(x)  # type: ignore[no-any-return]


def attended(x: Tensor, dropout: float) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, dropout_p=dropout)


READS = r"what it calls depends on values of tensors \(it reads some by `"
ODD: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "branch": (lambda m, x: m.body(x if x.sum() > 0 else -x), READS + "aten._local_scalar_dense"),
    "item of the input": (lambda m, x: m.body(x * x.max().item()), READS + "aten._local_scalar_dense"),
    "item of a parameter": (lambda m, x: m.body(x) * m.scale.item(), READS + "aten._local_scalar_dense"),
    "float of a parameter": (lambda m, x: m.body(x) * float(m.scale), READS + "aten._local_scalar_dense"),
    "flag": (lambda m, x: m.body(x if m.flag else -x), READS + "aten._local_scalar_dense"),
    "equal": (lambda m, x: m.body(x if torch.equal(x, x.abs()) else -x), READS + "aten.equal"),
    "list": (lambda m, x: m.body(x) * (1 + x.sum().tolist()), READS + "torch.Tensor.tolist"),
    "list of a buffer": (lambda m, x: m.body(x) * (1 + m.count.tolist()), READS + "torch.Tensor.tolist"),
    "array": (lambda m, x: m.body(x) * x.detach().numpy().max(), READS + "torch.Tensor.numpy"),
    "mask": (lambda m, x: m.body(x) + x[x > 0].mean().detach(), READS + "aten.index.Tensor"),
    "places": (lambda m, x: m.body(x) + x.detach().flatten().nonzero().shape[0], READS + "aten.nonzero"),
    "random": (lambda m, x: m.body(x + torch.rand_like(x)), r"the model draws random numbers \(`aten.rand_like"),
    "dropout": (lambda m, x: m.body(F.dropout(x, 0.5, True)), "the model draws random numbers"),
    "attention": (lambda m, x: m.body(x) * attended(torch.ones_like(x), 0.5).mean(), "the model draws random numbers"),
    "count": (counted, "the model writes to its own parameters or buffers as it runs"),
    "aside": (written_aside, r"the model writes to its own .*, or to its input \(`aten.mul_"),
    "memory": (lambda m, x: m.body(x) * (2 + 0 * x.untyped_storage().tolist()[0]), "what it calls cannot be written"),
    "not twice": (only_before, r"what it calls cannot be written down \(.*not twice\)"),
}


@pytest.mark.parametrize("way", ODD)
def test_what_cannot_be_recorded_is_refused_with_its_reason_and_the_model_untouched(way: str) -> None:
    function, reason = ODD[way]
    module = Odd(function)
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    with pytest.raises(NotRecordable, match="^" + reason):
        record(module)
    assert issubclass(NotRecordable, ModelError)
    for name, value in module.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert get_proxy_mode() is None
    assert not torch.overrides._get_current_function_mode_stack()
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()


FINE: dict[str, Callable[[Any, Tensor], Any]] = {
    "attention": lambda m, x: m.body(attended(x, 0.0)),
    "a number of its own making": lambda m, x: m.body(x) * torch.tensor(2.0).item(),
    "where": lambda m, x: m.body(torch.where(x > 0, x, 0.1 * x)),
    "a mask that is a buffer": lambda m, x: m.body(x[:, m.channels]),
    "places that are numbers": lambda m, x: m.body(x[:, torch.arange(3).flip(0)]),
    "a parameter of one value": lambda m, x: m.body(x) * m.scale,
    "writing to its input": lambda m, x: m.body(x.mul_(2)),
}


@pytest.mark.parametrize("way", FINE)
def test_what_looks_odd_and_is_fine_is_recorded(way: str) -> None:
    module, x = Odd(FINE[way]), pictures(6)
    recording = record(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    assert torch.equal(played(recording, x, TARGETS)[0], plain(module, x, TARGETS)[0])


def dropout() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.5), network()).eval()


@pytest.mark.parametrize(
    ("build", "change", "reason"),
    [
        (network, lambda m: m.train(), "^`1` is in training mode"),
        (network, lambda m: m[1].train(), "^`1` is in training mode"),
        (dropout, lambda m: m[0].train(), "^`0` is in training mode"),
        (network, lambda m: m[2].register_forward_hook(lambda *_: None), "^`2` has hooks, which playing .* not call"),
        (network, lambda m: m.register_forward_pre_hook(lambda *_: None), "^the model has hooks"),
        (network, lambda m: m[0].register_full_backward_hook(lambda *_: None), "^`0` has hooks"),
        (network, lambda m: m[0].register_full_backward_pre_hook(lambda *_: None), "^`0` has hooks"),
    ],
)
def test_a_model_that_a_recording_would_leave_something_out_of_is_refused(
    build: Callable[[], Any], change: Callable[[Any], Any], reason: str
) -> None:
    module = build()
    change(module)
    with pytest.raises(NotRecordable, match=reason):
        record(module)


def test_parts_in_training_mode_that_do_the_same_in_either_are_no_hindrance() -> None:
    module = network()
    for place in (0, 2, 3, 4, 5, 6, 7):
        module[place].train()
    x = pictures(2)
    assert torch.equal(played(record(module), x, TARGETS)[0], plain(module, x, TARGETS)[0])


def test_an_error_of_the_user_s_own_passes() -> None:
    class Own(RuntimeError):
        pass

    def raises(m: Any, x: Tensor) -> Tensor:
        raise Own("mine")

    with pytest.raises(Own, match="mine"):
        record(Odd(raises))


# -- what is watched ---------------------------------------------------------------------------------------------------


class Watched(nn.Module):
    """A network with something of each kind that can change."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.power = network(), 2
        self.square = nn.Parameter(torch.rand(4, 4))
        self.register_buffer("kept", torch.rand(4))
        self.plain = torch.rand(4)


def replaced_parameter(m: Any) -> None:
    m.square = nn.Parameter(m.square.detach().clone())


def moved(m: Any) -> None:
    m.square.data = m.square.data.clone()


def transposed(m: Any) -> None:
    m.square.data = m.square.data.t()


def narrowed(m: Any) -> None:
    m.square.data = m.square.data[:2]


NOTICED: dict[str, Callable[[Any], Any]] = {
    "another parameter": replaced_parameter,
    "parameter elsewhere": moved,
    "parameter transposed": transposed,
    "parameter narrowed": narrowed,
    "other type": lambda m: m.float(),
    "assigned state": lambda m: m.load_state_dict({k: v.clone() for k, v in m.state_dict().items()}, assign=True),
    "another buffer": lambda m: setattr(m, "kept", m.kept.clone()),
    "buffer elsewhere": lambda m: m.kept.set_(torch.rand(4)),
    "no buffer": lambda m: setattr(m, "kept", None),
    "another part": lambda m: m.body.__setitem__(2, nn.ReLU6()),
    "one part more": lambda m: m.body.append(nn.ReLU()),
    "one part less": lambda m: m.body.__delitem__(5),
    "another attribute": lambda m: setattr(m, "power", 3),
    "an inner attribute": lambda m: setattr(m.body[0], "padding", (0, 0)),
    "a new attribute": lambda m: setattr(m, "more", 1),
    "no attribute": lambda m: delattr(m, "power"),
    "another tensor": lambda m: setattr(m, "plain", m.plain.clone()),
    "another forward": lambda m: setattr(m.body[2], "forward", torch.tanh),
    "training": lambda m: m.train(),
    "hook": lambda m: m.body[0].register_forward_hook(lambda *_: None),
    "hook before": lambda m: m.register_forward_pre_hook(lambda *_: None),
    "hook of gradients": lambda m: m.body[7].register_full_backward_hook(lambda *_: None),
}


@pytest.mark.parametrize("change", NOTICED)
def test_what_a_recording_cannot_follow_is_noticed(change: str) -> None:
    module = Watched().eval()
    watch = Watch(module)
    assert watch.unchanged
    NOTICED[change](module)
    assert not watch.unchanged


def stepped(m: Any) -> None:
    for parameter in m.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(m.parameters(), lr=0.1).step()


@contextmanager
def hooked(m: Any) -> Iterator[None]:
    handle = m.register_forward_hook(lambda *_: None)
    yield
    handle.remove()


def hooked_for_a_while(m: Any) -> None:
    with hooked(m):
        pass


UNNOTICED: dict[str, Callable[[Any], Any]] = {
    "step": stepped,
    "loaded": lambda m: m.load_state_dict({name: value + 1 for name, value in m.state_dict().items()}),
    "data": lambda m: m.square.data.add_(1),
    "buffer": lambda m: m.kept.fill_(3),
    "no gradient": lambda m: m.requires_grad_(False),
    "run": lambda m: m.body(pictures()),
    "explained": lambda m: plain(m.body, pictures(), TARGETS),
    "hook taken off": hooked_for_a_while,
    "training for a while": lambda m: m.train().eval(),
}


@pytest.mark.parametrize("change", UNNOTICED)
def test_values_that_change_in_place_are_no_business_of_a_watch(change: str) -> None:
    module = Watched().eval()
    watch = Watch(module)
    UNNOTICED[change](module)
    assert watch.unchanged


def test_what_a_watch_has_seen_stays_where_it_is() -> None:
    module = nn.Linear(3, 3)
    read = StorageWeakRef(module.weight.untyped_storage())
    watch = Watch(module)
    module.weight.data = torch.rand(3, 3)
    assert not read.expired()
    del watch
    assert read.expired()

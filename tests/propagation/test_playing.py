"""A player: its maps are those of a run, call by call or compiled; it keeps nothing of a caller's."""

from __future__ import annotations

import ctypes
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from propagation import recorded_network
from propagation.recorded_network import DOUBLE, TARGETS, maps, opener, pictures, plain
from visavis.propagation.mode import Bounds
from visavis.propagation.playing import Player
from visavis.propagation.recording import NotRecordable

network = partial(recorded_network.network, inplace=True)


def player(
    module: nn.Module,
    inputs: Any = None,
    targets: Tensor | None = TARGETS,
    *,
    rules: str = "deep-taylor",
    bounds: Bounds | None = None,
    **options: Any,
) -> Player:
    return Player(
        module,
        opener(module, rules, bounds),
        maps,
        pictures() if inputs is None else inputs,
        targets,
        bounds,
        **options,
    )


# -- the same maps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", ["deep-taylor", "epsilon", "alpha2-beta1", "gamma-box", "gradient-times-input"])
def test_maps_are_those_of_a_run(rules: str) -> None:
    module = network()
    plays = player(module, rules=rules)
    for seed, targets in ((2, torch.tensor([3, 0])), (3, TARGETS), (2, torch.tensor([2, 2]))):
        (expected,) = plain(module, pictures(seed), targets, rules=rules)
        (found,) = plays.play(pictures(seed), [targets])
        assert expected.abs().sum() > 0
        assert torch.equal(found, expected)


def test_any_number_of_maps_can_be_asked_for() -> None:
    module, x = network(), pictures(2)
    plays = player(module, several=True)
    for count in (2, 1, 6, 3):
        targets = [torch.tensor([place % 4, 3 * place % 4]) for place in range(count)]
        found, expected = plays.play(x, targets), plain(module, x, *targets)
        assert len(found) == count
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


def test_the_strongest_class_is_each_image_s_own() -> None:
    module = network()
    plays, x = player(module, targets=None), pictures(2)
    (found,) = plays.play(x, [None])
    assert torch.equal(found, plain(module, x, None)[0])
    assert torch.equal(found, plain(module, x, module(x).argmax(1))[0])
    swapped = plays.play(x.flip(0), [None])[0]
    torch.testing.assert_close(swapped.flip(0), found, rtol=1e-12, atol=0)


def test_weights_are_read_as_it_plays() -> None:
    module, x = network(), pictures(2)
    plays = player(module)
    before = plays.play(x, [TARGETS])[0]
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.mul_(1.25)
    after = plays.play(x, [TARGETS])[0]
    assert plays.follows
    assert torch.equal(after, plain(module, x, TARGETS)[0])
    assert not torch.allclose(before, after)
    module.register_forward_hook(lambda *_: None)
    assert not plays.follows


def test_maps_of_a_tuple_of_inputs_are_tuples() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4, dtype=DOUBLE), nn.Linear(5, 4, dtype=DOUBLE)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            result: Tensor = self.a(x).relu() + self.b(y).relu()
            return result

    module = Sum()
    first, second = ((torch.rand(2, 3, dtype=DOUBLE), torch.rand(2, 5, dtype=DOUBLE)) for _ in range(2))
    (found,) = player(module, first).play(second, [TARGETS])
    assert isinstance(found, tuple)
    for one, expected in zip(found, plain(module, second, TARGETS)[0], strict=True):
        assert torch.equal(one, expected)
    bad = (second[0], second[1].index_fill(0, torch.tensor([1]), torch.nan))
    (found,) = player(module, first).play(bad, [TARGETS])
    for one, expected in zip(found, plain(module, second, TARGETS)[0], strict=True):
        assert torch.equal(one[0], expected[0])
        assert one[1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_an_image_that_is_not_finite_is_nan_alone_in_any_precision(dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.abs() + 0.1)  # so that no denominator is near zero
    module.to(dtype)
    x, y = (torch.rand(3, 6, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in range(2))
    targets = torch.tensor([1, 2, 0])
    plays = player(module, x, targets)
    (expected,) = plain(module, y, targets)
    assert torch.equal(plays.play(y, [targets])[0], expected)
    y[1, 0] = torch.nan
    (found,) = plays.play(y, [targets])
    assert torch.equal(found[::2], expected[::2])
    assert expected.isfinite().all()
    assert found[1].isnan().all()


def test_pictures_with_their_channels_last_have_maps_with_theirs_last() -> None:
    module, x = network(), pictures(2)
    last = partial(torch.Tensor.contiguous, memory_format=torch.channels_last)
    (found,) = player(module, last(pictures())).play(last(x), [TARGETS])
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, plain(module, x, TARGETS)[0], rtol=1e-10, atol=1e-14)


# -- inference mode, gradients -----------------------------------------------------------------------------------------


MODES = [torch.inference_mode, torch.no_grad, torch.enable_grad]


@pytest.mark.parametrize("recorded_in", MODES)
def test_it_is_recorded_and_played_in_any_mode(recorded_in: Callable[[], Any]) -> None:
    module, x, targets = network(), pictures(2), [TARGETS, torch.tensor([0, 0])]
    with recorded_in():
        plays = player(module, pictures().clone(), TARGETS.clone(), several=True)
    expected = plain(module, x, *targets)
    for played_in in (*MODES, *MODES[::-1]):
        with played_in():
            found = plays.play(x.clone(), [one.clone() for one in targets])
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)
            assert not one.requires_grad
            assert not one.is_inference()


def test_an_input_that_requires_a_gradient_is_played() -> None:
    module, x = network(), pictures(2).requires_grad_()
    (found,) = player(module, pictures().requires_grad_()).play(x, [TARGETS])
    assert torch.equal(found, plain(module, x, TARGETS)[0])
    assert not found.requires_grad
    assert x.grad is None


# -- whose memory is whose ---------------------------------------------------------------------------------------------


def test_what_the_caller_gave_and_got_is_the_caller_s() -> None:
    module, x, targets = network(), pictures(), TARGETS.clone()
    plays = player(module, x, targets, several=True)
    x.zero_()
    targets.zero_()
    y, other = pictures(2), torch.tensor([0, 3])
    asked = y.clone(), other.clone()
    first = plays.play(y, [other, TARGETS])
    assert torch.equal(y, asked[0])
    assert torch.equal(other, asked[1])
    assert not x.any()
    assert not targets.any()
    kept = [one.clone() for one in first]
    plays.play(pictures(3), [TARGETS, other])
    for one, before in zip(first, kept, strict=True):
        assert torch.equal(one, before)
        one.fill_(7)  # a map is edited: the next is none the worse
    for one, before in zip(plays.play(y, [other, TARGETS]), kept, strict=True):
        assert torch.equal(one, before)


@pytest.mark.parametrize("several", [False, True])
def test_what_a_map_was_made_of_is_gone_after_it(several: bool) -> None:
    module = network()
    plays = player(module, several=several)
    plays.play(pictures(2), [TARGETS])
    recording = plays._recording
    lasting = {*recording.constants, *recording.inputs, *recording.targets}
    lasting |= {name for of_each in recording.maps for name in of_each}
    if several:
        lasting |= set(recording.pieces[-1].reads)
    assert set(plays._values) <= lasting
    read_before = set(recording.pieces[0].gives)
    assert read_before
    assert several or not read_before & set(plays._values)


def test_a_player_s_memory_and_the_model_go_with_it() -> None:
    module = network()
    plays = player(module)
    plays.play(pictures(2), [TARGETS])
    held = StorageWeakRef(plays._values[plays._recording.inputs[0]].untyped_storage())
    weight = StorageWeakRef(module[0].weight.untyped_storage())
    gone = weakref.ref(plays), weakref.ref(module)
    del plays, module
    gc.collect()
    assert [one() for one in gone] == [None, None]
    assert held.expired()
    assert weight.expired()


# -- threads -----------------------------------------------------------------------------------------------------------


def test_threads_that_share_a_player_get_their_own_maps() -> None:
    module = network()
    plays = player(module, several=True)
    asked = [(pictures(seed), [torch.tensor([seed % 4, 0]), TARGETS]) for seed in range(8)]
    expected = [plain(module, x, *targets) for x, targets in asked]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            found = list(pool.map(lambda one: plays.play(*one), asked))
            for some, wanted in zip(found, expected, strict=True):
                for one, other in zip(some, wanted, strict=True):
                    assert torch.equal(one, other)


def test_threads_may_record_at_the_same_time() -> None:
    ready = threading.Barrier(3)
    modules = [nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).double() for _ in range(3)]

    def work(module: nn.Module) -> bool:
        ready.wait()
        found = [player(module).play(pictures(2), [TARGETS])[0] for _ in range(3)]
        return all(torch.equal(one, plain(module, pictures(2), TARGETS)[0]) for one in found)

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, modules)) == [True] * 3


# -- what is compared --------------------------------------------------------------------------------------------------


class Numbering(nn.Module):
    """Answers otherwise each time."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.calls = nn.Linear(4, 4, dtype=DOUBLE), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        result: Tensor = self.head(x) * self.calls
        return result


class Looking(nn.Module):
    """Looks at its input behind torch's back."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        first = ctypes.c_double.from_address(x.data_ptr()).value
        result: Tensor = self.head(x) * (1 + abs(first))
        return result


@pytest.mark.parametrize("build", [Numbering, Looking])
def test_a_model_that_does_otherwise_on_another_picture_is_refused(build: type[nn.Module]) -> None:
    x = torch.tensor([[1.0, 2, 3, 4], [2, 0, 1, 5]], dtype=DOUBLE)
    with pytest.raises(NotRecordable, match=r"^played on another picture it is not what the model does .* apart"):
        player(build(), x)


def test_maps_that_are_not_finite_are_refused() -> None:
    module = nn.Linear(4, 4, dtype=DOUBLE)
    with torch.no_grad():
        module.weight[1] = torch.inf
    with pytest.raises(NotRecordable, match=r"nan apart.* or its maps are not finite"):
        player(module, torch.rand(2, 4, dtype=DOUBLE))


def test_a_map_of_zeros_is_no_difference() -> None:
    module = nn.Linear(4, 4, dtype=DOUBLE)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    (found,) = player(module, torch.rand(2, 4, dtype=DOUBLE)).play(torch.rand(2, 4, dtype=DOUBLE), [TARGETS])
    assert torch.equal(found, torch.zeros(2, 4, dtype=DOUBLE))


# -- compiled ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiler() -> Iterator[None]:
    """Skip where TorchInductor finds no compiler that works."""
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(3))
    except RuntimeError as error:
        pytest.skip(f"TorchInductor cannot compile here: {str(error).splitlines()[0]}")
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("dtype", "apart"), [(DOUBLE, 1e-9), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("rules", ["deep-taylor", "epsilon", "gamma-box"])
def test_compiled_maps_are_those_of_a_run_but_for_rounding(rules: str, dtype: torch.dtype, apart: float) -> None:
    module = network().to(dtype)
    plays = player(module, pictures().to(dtype), rules=rules, several=True, compiled=True)
    x, targets = pictures(2).to(dtype), [torch.tensor([3, 0]), TARGETS, torch.tensor([0, 0])]
    for one, expected in zip(plays.play(x, targets), plain(module, x, *targets, rules=rules), strict=True):
        assert expected.abs().sum() > 0
        assert (one - expected).norm() <= apart * expected.norm()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.25)
    (changed,) = plain(module, x, TARGETS, rules=rules)
    assert (plays.play(x, [TARGETS])[0] - changed).norm() <= apart * changed.norm()


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_a_compiled_map_of_an_image_that_is_not_finite_is_nan_and_no_other() -> None:
    module, x = network(), pictures(2)
    plays = player(module, compiled=True)
    (expected,) = plain(module, x, TARGETS)
    x[0, 0, 0, 0] = torch.nan
    (found,) = plays.play(x, [TARGETS])
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1], expected[1], rtol=1e-9, atol=1e-15)

"""Batches in parts: maps are those of the whole, parts fit into what is free, and are halved where they do not."""

from __future__ import annotations

import copy
import pickle
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis.methods import chunks
from visavis.methods.base import PropagationMethod

DOUBLE = torch.float64
COUNT = 7
Memory = Callable[[int], None]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    first = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(36, 5)).double().eval()


def pictures() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(COUNT, 3, 8, 8, dtype=DOUBLE)


TARGETS = [1, 4, 0, 2, 3, 3, 1]
FOILS = [0, 0, 1, 1, 0, 1, 2]


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Say how many bytes are free; whatever is asked for is much."""
    monkeypatch.setattr(chunks, "_LITTLE", 0)

    def said(count: int) -> None:
        monkeypatch.setattr(chunks, "free_memory", lambda device: count)

    said(2**40)
    return said


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module, int], None]:
    """Have a model run out of memory for more than so many images."""

    def limited(module: nn.Module, most: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        run = module.forward

        def forward(x: Tensor) -> Tensor:
            if len(x) > most:
                raise error("CUDA out of memory. Tried to allocate 1 GiB")
            result: Tensor = run(x)
            return result

        monkeypatch.setattr(module, "forward", forward)

    return limited


def of_bytes(module: nn.Module, x: Tensor) -> int:
    """What an image takes by the estimate: the outputs of all calls, in float64."""
    sizes: list[int] = []
    handles = [part.register_forward_hook(lambda m, i, o: sizes.append(o[0].numel())) for part in module]  # type: ignore
    module(x)
    for handle in handles:
        handle.remove()
    return 8 * sum(sizes)


def test_a_batch_that_fits_is_left_whole(free: Memory) -> None:
    method = vv.CLRP(network())
    method.attribute(pictures(), TARGETS)
    assert method.chunks.sizes == (COUNT,)


def test_parts_are_as_large_as_half_of_what_is_free_allows(free: Memory) -> None:
    module, x = network(), pictures()
    whole = vv.CLRP(module).attribute(x, TARGETS)
    each = 1.5 * of_bytes(module, x)
    free(int(2 * 3.2 * each))
    method = vv.CLRP(module)
    found = method.attribute(x, TARGETS)
    # The first alone, to find out what one takes.
    assert method.chunks.sizes == (1, 3, 3)
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-15)
    method.attribute(x, TARGETS)
    assert method.chunks.sizes == (3, 3, 1)
    free(0)
    method.attribute(x, TARGETS)
    assert method.chunks.sizes == (1,) * COUNT
    free(int(2 * 100 * each))
    method.attribute(x, TARGETS)
    assert method.chunks.sizes == (COUNT,)


def test_several_maps_of_each_image_are_taken_to_need_more(free: Memory) -> None:
    module, x = network(), pictures()
    whole = vv.LRP(module).attribute_each(x, [0, TARGETS])
    free(int(2 * 3.2 * 3 * of_bytes(module, x)))
    method = vv.LRP(module)
    found = method.attribute_each(x, [0, TARGETS])
    assert method.chunks.sizes == (1, 3, 3)
    for one, other in zip(found, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("make", "target"),
    [
        (lambda m: vv.CLRP(m, foil="others"), None),
        (lambda m: vv.CLRP(m, foil="negated", signed=True), torch.tensor(TARGETS)),
        (lambda m: vv.CLRP(m, foil="softmax", normalize="sum"), tuple(TARGETS)),
        (lambda m: vv.CLRP(m, foil=torch.tensor(FOILS)), TARGETS),
        (lambda m: vv.CLRP(m, foil=[[one] for one in FOILS]), TARGETS),
        (lambda m: vv.CLRP(m, foil=[0, 1]), 3),
        (lambda m: vv.CLRP(vv.Classifier(m, labels=list("abcde")), foil="b"), list("aceadca")),
        (lambda m: vv.LRP(m, rules="epsilon"), TARGETS),
        (lambda m: vv.LRP(m, rules="epsilon"), deque(TARGETS)),
        (lambda m: vv.LRP(m, rules="epsilon"), np.array(TARGETS)),
        (vv.Gradient, TARGETS),
        (vv.InputXGradient, 2),
        (lambda m: vv.DeepTaylor(m, layer="0"), [1, 0, 2, 3, 1, 2, 0]),
    ],
    ids=[
        "others",
        "negated",
        "softmax",
        "foil each",
        "foils each",
        "foils",
        "labels",
        "lrp",
        "deque",
        "array",
        "gradient",
        "times",
        "layer",
    ],
)
def test_maps_of_parts_are_those_of_the_whole(
    make: Callable[[nn.Module], PropagationMethod], target: Any, free: Memory
) -> None:
    module, x = network(), pictures()
    whole = make(module).attribute(x, target)
    free(1)
    method = make(module)
    found = method.attribute(x, target)
    assert method.chunks.sizes == (1,) * COUNT
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-15)
    assert found.shape == x.shape


def test_several_inputs_are_parted_together(free: Memory) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(2, 4)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.relu(self.first(a)) + torch.relu(self.second(b))

    torch.manual_seed(0)
    module = Two().double()
    inputs = (torch.randn(COUNT, 3, dtype=DOUBLE), torch.randn(COUNT, 2, dtype=DOUBLE))
    whole = vv.LRP(module, rules="epsilon").attribute(inputs, 1)
    free(1)
    method = vv.LRP(module, rules="epsilon")
    found = method.attribute(inputs, 1)
    assert method.chunks.sizes == (1,) * COUNT
    for one, other in zip(found, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


# -- a batch that cannot be parted -------------------------------------------------------------------------------------


def in_training(module: nn.Module) -> None:
    module[1].train()  # type: ignore[index]


@pytest.mark.filterwarnings("ignore:the model is in training mode")
@pytest.mark.parametrize(
    ("target", "foil", "change"),
    [
        (lambda outputs: outputs.relu(), "others", None),
        (1, lambda outputs: outputs.relu(), None),
        (TARGETS, "others", in_training),
    ],
    ids=["callable target", "callable foil", "batch statistics"],
)
def test_what_may_look_at_the_whole_batch_gets_it(
    target: Any, foil: Any, change: Callable[[nn.Module], None] | None, free: Memory
) -> None:
    module = network()
    if change is not None:
        change(module)
    free(1)
    method = vv.CLRP(module, foil=foil)
    method.attribute(pictures(), target)
    assert method.chunks.sizes == (COUNT,)


class Mixed(nn.Module):
    """What it says of an image depends on the others of the batch, in a way that no module tells."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.body, self.head, self.how = nn.Sequential(nn.Flatten(), nn.Linear(192, 6)), nn.Linear(6, 5), how

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        if self.how == "mean":
            y = y - y.mean(0, keepdim=True)
        else:
            y = nn.functional.batch_norm(y, None, None, training=True)
        out: Tensor = self.head(y.relu())
        return out


@pytest.mark.parametrize("how", ["mean", "statistics"])
@pytest.mark.parametrize("room", [1, 60_000])
def test_a_model_that_mixes_its_images_is_found_out(how: str, room: int, free: Memory) -> None:
    torch.manual_seed(0)
    module = Mixed(how).double()
    whole = vv.LRP(module, rules="epsilon").attribute(pictures(), TARGETS)
    free(room)
    method = vv.LRP(module, rules="epsilon")
    for _ in range(2):
        assert torch.equal(method.attribute(pictures(), TARGETS), whole)
        assert method.chunks.sizes == (COUNT,)


def test_a_model_that_is_too_large_for_two_images_is_explained_one_by_one(short: Any) -> None:
    module, x = network(), pictures()
    whole = vv.CLRP(module).attribute(x, TARGETS)
    short(module, 1)
    method = vv.CLRP(module)
    torch.testing.assert_close(method.attribute(x, TARGETS), whole, rtol=1e-12, atol=1e-15)
    assert method.chunks.sizes == (1,) * COUNT


def test_a_mask_of_positions_and_further_arguments_leave_the_batch_whole(free: Memory) -> None:
    class Scaled(nn.Sequential):
        def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
            y: Tensor = super().forward(x)
            return y if factor is None else y * factor

    module = Scaled(nn.Conv2d(3, 4, 3)).double()
    free(1)
    method = vv.LRP(module, rules="epsilon")
    method.attribute(pictures(), 1, position=torch.ones(6, 6, dtype=torch.bool))
    assert method.chunks.sizes == (COUNT,)
    method.attribute(pictures(), 1, additional_forward_args=torch.ones(COUNT, 4, 1, 1, dtype=DOUBLE))
    assert method.chunks.sizes == (COUNT,)
    method.attribute(pictures(), 1, position=(2, 3))
    assert method.chunks.sizes == (1,) * COUNT


@pytest.mark.parametrize(("target", "foil"), [(TARGETS[:-1], "others"), (3, torch.tensor(FOILS[:-1]))])
def test_a_target_or_foil_for_another_number_of_images_is_refused_as_ever(target: Any, foil: Any, free: Memory) -> None:
    free(1)
    with pytest.raises(vv.InputError, match=r"batch of 7|shape \(7,\)"):
        vv.CLRP(network(), foil=foil).attribute(pictures(), target)


# -- too little memory after all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_a_batch_that_is_too_large_is_halved_until_it_fits(error: type[Exception], short: Any) -> None:
    module, x = network(), pictures()
    whole = vv.CLRP(module).attribute(x, TARGETS)
    short(module, 2, error)
    method = vv.CLRP(module)
    torch.testing.assert_close(method.attribute(x, TARGETS), whole, rtol=1e-12, atol=1e-15)
    assert method.chunks.sizes == (2, 2, 2, 1)
    method.attribute(x, TARGETS)
    assert method.chunks.sizes == (2, 2, 2, 1)


def test_one_image_for_which_memory_does_not_suffice_is_an_error(short: Any) -> None:
    module = network()
    short(module, 0)
    with pytest.raises(torch.OutOfMemoryError):
        vv.CLRP(module).attribute(pictures(), TARGETS)


def test_memory_that_runs_out_on_the_way_back_is_noticed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = network(), pictures()
    whole = vv.LRP(module).attribute(x, TARGETS)
    moves = PropagationMethod.map_of

    def map_of(self: PropagationMethod, run: Any, seed: Tensor, *, more: int = 0) -> Any:
        if len(seed) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return moves(self, run, seed, more=more)

    monkeypatch.setattr(PropagationMethod, "map_of", map_of)
    method = vv.LRP(module)
    torch.testing.assert_close(method.attribute(x, TARGETS), whole, rtol=1e-12, atol=1e-15)
    assert method.chunks.sizes == (4, 3)


def test_other_errors_pass_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module, calls = network(), []

    def forward(x: Tensor) -> Tensor:
        calls.append(len(x))
        raise KeyError("mine")

    monkeypatch.setattr(module, "forward", forward)
    with pytest.raises(KeyError, match="mine"):
        vv.CLRP(module).attribute(pictures(), TARGETS)
    assert calls == [COUNT]


def test_a_method_with_parts_can_be_copied_and_pickled(free: Memory) -> None:
    free(1)
    method = vv.CLRP(network())
    found = method.attribute(pictures(), 1)
    for other in (copy.deepcopy(method), pickle.loads(pickle.dumps(method))):  # noqa: S301
        torch.testing.assert_close(other.attribute(pictures(), 1), found)


# -- several foils -----------------------------------------------------------------------------------------------------


def test_contrasts_with_several_foils_are_those_of_methods_of_their_own() -> None:
    module, x = network(), pictures()
    passes: list[int] = []
    module.register_forward_hook(lambda m, i, o: passes.append(len(i[0])))
    foils: list[Any] = ["others", "negated", 0, [0, 2], torch.tensor([0, 0, 1, 1, 0, 1, 2]), "softmax"]
    method = vv.CLRP(module, signed=True)
    found = method.attribute_foils(x, foils, 4)
    assert passes == [COUNT]
    for foil, one in zip(foils, found, strict=True):
        alone = vv.CLRP(module, foil=foil, signed=True).attribute(x, 4)
        torch.testing.assert_close(one, alone, rtol=1e-12, atol=1e-15)
        assert one.abs().sum() > 0
    assert method.foil == "others"
    assert method.attribute_foils(x, []) == []


@pytest.mark.parametrize("foils", ["others", 3, torch.tensor(3)], ids=str)
def test_one_foil_or_target_is_not_several(foils: Any) -> None:
    method = vv.CLRP(network())
    with pytest.raises(vv.InputError, match="foils are several"):
        method.attribute_foils(pictures(), foils, 4)
    with pytest.raises(vv.InputError, match="targets are several"):
        method.attribute_each(pictures(), foils)


def test_foils_are_named_by_labels_and_refused_as_ever() -> None:
    method = vv.CLRP(vv.Classifier(network(), labels=list("abcde")))
    by_label, by_index = method.attribute_foils(pictures(), ["b", 1], "e")
    assert torch.equal(by_label, by_index)
    with pytest.raises(vv.InputError, match="the same class"):
        method.attribute_foils(pictures(), ["b", "e"], "e")
    with pytest.raises(vv.InputError, match="foil 9 is out of range"):
        method.attribute_foils(pictures(), [9], "e")

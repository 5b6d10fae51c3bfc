"""Targets and foils as seeds: what is put where, how much, and what is refused."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis import contrast
from visavis.contrast import dual_seed, target_indices, target_seed

DOUBLE = torch.float64
OUTPUTS = torch.tensor([[2.0, -3.0, 0.5, 1.0], [-1.0, 4.0, -2.0, 0.0]], dtype=DOUBLE)
#: (B, N, height, width)
MAPS = torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the annotation checks off the module: what is malformed must reach its own sentences."""
    for name, value in vars(contrast).copy().items():
        if inspect.isfunction(value) and value.__module__ == contrast.__name__:
            monkeypatch.setattr(contrast, name, inspect.unwrap(value))


# -- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (1, [1, 1]),
        ([1, 3], [1, 3]),
        ((0, 2), [0, 2]),
        (range(2, 4), [2, 3]),
        (torch.tensor(2), [2, 2]),
        (torch.tensor([3, 0]), [3, 0]),
        (torch.tensor([3, 0], dtype=torch.uint8), [3, 0]),
        (None, [0, 1]),
    ],
)
def test_target_indices(target: Any, expected: list[int]) -> None:
    assert target_indices(OUTPUTS, target).tolist() == expected


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "target", [np.int64(1), np.array([1, 1]), [np.int64(1), 1], [torch.tensor(1), torch.tensor(1)]]
)
def test_numpy_targets(target: Any) -> None:
    assert contrast.target_indices(OUTPUTS, target).tolist() == [1, 1]


def test_the_seed_is_the_size_of_the_score_at_the_target_and_zero_elsewhere() -> None:
    assert torch.equal(target_seed(OUTPUTS, 1), rows([0, 3, 0, 0], [0, 4, 0, 0]))
    assert torch.equal(target_seed(OUTPUTS, [1, 0]), rows([0, 3, 0, 0], [1, 0, 0, 0]))
    assert torch.equal(target_seed(OUTPUTS, None), rows([2, 0, 0, 0], [0, 4, 0, 0]))
    assert torch.equal(target_seed(OUTPUTS, [1, 0], seed="one"), rows([0, 1, 0, 0], [1, 0, 0, 0]))
    assert torch.equal(target_seed(OUTPUTS, 3, seed="one"), rows([0, 0, 0, 1], [0, 0, 0, 1]))


def test_seeds_of_maps_are_at_every_position_or_at_one() -> None:
    seed = target_seed(MAPS, [2, 0])
    for item, target in enumerate((2, 0)):
        assert torch.equal(seed[item, target], MAPS[item, target].abs())
        assert seed[item].sum() == seed[item, target].sum()
    at = target_seed(MAPS, [2, 0], position=(1, 2))
    assert at[0, 2, 1, 2] == MAPS[0, 2, 1, 2].abs()
    assert at[1, 0, 1, 2] == MAPS[1, 0, 1, 2].abs()
    assert int((at != 0).sum()) == 2
    one = target_seed(MAPS, 3, seed="one", position=[0, 0])
    assert one[:, 3, 0, 0].tolist() == [1.0, 1.0]
    assert one.sum() == 2


@pytest.mark.parametrize(
    "position", [2, np.int64(2), torch.tensor(2), (2,), [2], torch.tensor([[False, False, True]] * 2)]
)
def test_a_number_where_positions_have_one_dimension(position: Any) -> None:
    tokens = MAPS[:, :, 0]  # (2, 4, 3)
    expected = torch.zeros_like(tokens)
    expected[0, 1, 2], expected[1, 3, 2] = tokens[0, 1, 2].abs(), tokens[1, 3, 2].abs()
    assert torch.equal(target_seed(tokens, [1, 3], position=position), expected)


@pytest.mark.usefixtures("unchecked")
def test_numbers_that_are_no_position() -> None:
    for position in (2, torch.tensor(2), 1.0, (0.0, 1.0), True, (True, False), torch.tensor(True), "a"):
        with pytest.raises(vv.InputError, match="position"):
            contrast.target_seed(MAPS, 0, position=position)
    with pytest.raises(vv.InputError, match=r"position \(3,\) is outside of \(3,\)"):
        contrast.target_seed(MAPS[:, :, 0], 0, position=3)


@pytest.mark.parametrize("target", [None, 0])
def test_outputs_without_classes(target: Any) -> None:
    with pytest.raises(vv.ModelError, match=r"shape \(2, 0\), so there are no classes"):
        target_seed(OUTPUTS[:, :0], target)


def test_the_strongest_of_maps_is_so_over_all_positions() -> None:
    expected = [int(torch.stack([unit.sum() for unit in item]).argmax()) for item in MAPS]
    assert target_indices(MAPS, None).tolist() == expected


def test_a_callable_s_seed_is_used_as_it_is() -> None:
    given = OUTPUTS.square()
    assert torch.equal(target_seed(OUTPUTS, lambda y: y.square(), seed="one"), given)

    def ruining(outputs: Tensor) -> Tensor:
        outputs.zero_()
        return torch.ones_like(outputs, dtype=torch.float32)

    kept = OUTPUTS.clone()
    seed = target_seed(OUTPUTS, ruining)
    assert seed.dtype == DOUBLE
    assert torch.equal(OUTPUTS, kept)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (4, r"target 4 is out of range: .* 0 to 3"),
        (-1, r"target -1 is out of range"),
        ([0, 9], r"target 9 is out of range"),
        ([1], r"target has shape \(1,\) for a batch of 2"),
        ([1, 2, 3], r"target has shape \(3,\) for a batch of 2"),
        (torch.zeros(2, 1, dtype=torch.long), r"target has shape \(2, 1\)"),
        (True, "target is a class index"),
        (1.0, "target is a class index"),
        (torch.tensor([1.0, 2.0]), "target is a class index"),
        (torch.tensor([True, False]), "target is a class index"),
        ("zebra", "target is a class index"),
        (["zebra", "cat"], "target is a class index"),
        ([[1, 2], [3]], "target is a class index"),
        ([1, None], "target is a class index"),
        (1j, "target is a class index"),
        ({1, 2}, "target is a class index"),
        ([], "the list of target classes is empty"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_malformed_targets(target: Any, message: str) -> None:
    with pytest.raises(vv.InputError, match=message):
        contrast.target_seed(OUTPUTS, target)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda y: y[:, :2], r"the target callable returned \(2, 2\); it must return a tensor of shape \(2, 4\)"),
        (lambda y: 3, "the target callable returned int"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_callables_that_return_something_else(function: Any, message: str) -> None:
    with pytest.raises(vv.InputError, match=message):
        contrast.target_seed(OUTPUTS, function)
    with pytest.raises(vv.InputError, match=message.replace("target", "foil")):
        contrast.dual_seed(OUTPUTS, target_seed(OUTPUTS, 1), function)


@pytest.mark.parametrize(
    ("position", "message"),
    [
        ((0,), r"position \(0,\) does not (index|give one index) .*\(2, 3\)"),
        ((0, 3), r"position \(0, 3\) is outside of \(2, 3\)"),
        ((-1, 0), r"position \(-1, 0\) is outside"),
        ((0, 0, 0), "does not (index|give one index)"),
    ],
)
def test_malformed_positions(position: tuple[int, ...], message: str) -> None:
    with pytest.raises(vv.InputError, match=message):
        target_seed(MAPS, 0, position=position)
    with pytest.raises(vv.InputError, match=r"does not (index|give one index)"):
        target_seed(OUTPUTS, 0, position=(0,))


@pytest.mark.usefixtures("unchecked")
def test_other_malformed_arguments() -> None:
    with pytest.raises(vv.InputError, match='seed is "score" or "one", not'):
        contrast.target_seed(OUTPUTS, 0, seed="logit")  # type: ignore[arg-type]
    with pytest.raises(vv.InputError, match="have no dimension of classes"):
        contrast.target_seed(OUTPUTS[0], 0)
    with pytest.raises(vv.InputError, match="have no dimension of classes"):
        contrast.dual_seed(OUTPUTS[0], OUTPUTS[0].abs(), [1])


# -- foils -----------------------------------------------------------------------------------------------------------


def exponentials(*values: float | None) -> list[float]:
    """Shares of a whole by e to the power of each value, none where there is no value."""
    powers = [0.0 if value is None else math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


#: Of the first row of OUTPUTS, without class 1.
SOFTMAX = exponentials(2.0, None, 0.5, 1.0)


def test_softmax_keeps_the_digits_of_classes_beside_a_certain_target() -> None:
    outputs = rows([80.0, 0.0, 1.0, -1.0])
    dual = dual_seed(outputs, rows([1, 0, 0, 0]), "softmax")
    torch.testing.assert_close(dual, rows(exponentials(None, 0.0, 1.0, -1.0)), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("foil", "expected"),
    [
        ("others", [[2 / 3, 0, 2 / 3, 2 / 3], [0, 2, 2, 0]]),
        ("logits", [[2 * 2 / 3.5, 0, 0.5 * 2 / 3.5, 2 / 3.5], [0, 0, 0, 0]]),
        ("softmax", [[2 * share for share in SOFTMAX], [0, 0, 0, 0]]),
        ("strongest", [[2 / 3, 0, 2 / 3, 2 / 3], [0, 0, 0, 0]]),
        ("runner-up", [[2, 0, 0, 0], [0, 0, 0, 0]]),
    ],
)
def test_named_foils_by_hand(foil: str, expected: Any) -> None:
    outputs, seed = OUTPUTS[:1], rows([0, 2, 0, 0])
    assert torch.allclose(dual_seed(outputs, seed, foil), rows(expected[0]), rtol=1e-15, atol=0)


def test_the_strongest_are_ten_others() -> None:
    outputs = rows([float(value) for value in range(14)])
    dual = dual_seed(outputs, target_seed(outputs, 9), "strongest")
    expected = [0.9 if place in (3, 4, 5, 6, 7, 8, 10, 11, 12, 13) else 0.0 for place in range(14)]
    torch.testing.assert_close(dual, rows(expected), rtol=1e-15, atol=0)


def test_others_share_alike_and_logits_by_their_size() -> None:
    seed = target_seed(OUTPUTS, [1, 0])
    torch.testing.assert_close(dual_seed(OUTPUTS, seed, "others"), rows([1, 0, 1, 1], [0, 1 / 3, 1 / 3, 1 / 3]))
    torch.testing.assert_close(
        dual_seed(OUTPUTS, seed, "logits"),
        rows([3 * 2 / 3.5, 0, 3 * 0.5 / 3.5, 3 * 1 / 3.5], [0, 4 / 6, 2 / 6, 0]),
    )
    torch.testing.assert_close(dual_seed(OUTPUTS, seed, "runner-up"), rows([3, 0, 0, 0], [0, 1, 0, 0]))


@pytest.mark.parametrize(
    ("foil", "expected"),
    [
        (2, [[0, 0, 3, 0], [0, 0, 1, 0]]),
        ([2, 3], [[0, 0, 1.5, 1.5], [0, 0, 0.5, 0.5]]),
        ((3,), [[0, 0, 0, 3], [0, 0, 0, 1]]),
        (range(2, 4), [[0, 0, 1.5, 1.5], [0, 0, 0.5, 0.5]]),
        ([2, 2, 3], [[0, 0, 1.5, 1.5], [0, 0, 0.5, 0.5]]),
        (torch.tensor([0, 3]), [[3, 0, 0, 0], [0, 0, 0, 1]]),
        (torch.tensor(2), [[0, 0, 3, 0], [0, 0, 1, 0]]),
        ([[0], [1, 2, 3]], [[3, 0, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3]]),
        (([0, 2], (3,)), [[1.5, 0, 1.5, 0], [0, 0, 0, 1]]),
    ],
    ids=str,
)
def test_classes_as_foils(foil: Any, expected: Any) -> None:
    dual = dual_seed(OUTPUTS, target_seed(OUTPUTS, [1, 0]), foil)
    torch.testing.assert_close(dual, rows(*expected), rtol=1e-14, atol=0)


@pytest.mark.usefixtures("unchecked")
def test_foils_from_numpy_mean_what_lists_mean() -> None:
    seed = target_seed(OUTPUTS, [1, 0])
    for given, listed in (
        (np.int64(2), 2),
        ([np.array([0]), np.array([1, 2])], [[0], [1, 2]]),
        (np.array([[0, 2], [1, 3]]), [[0, 2], [1, 3]]),
    ):
        try:
            dual = contrast.dual_seed(OUTPUTS, seed, given)  # type: ignore[arg-type]
        except vv.InputError:
            continue  # refused is as good: only a silent other meaning is not
        assert torch.equal(dual, contrast.dual_seed(OUTPUTS, seed, listed))


def test_a_callable_foil_gives_weights() -> None:
    seed = target_seed(OUTPUTS, [1, 0])
    weights = rows([1, 100, 3, 0], [7, 0, 0, 2])
    torch.testing.assert_close(dual_seed(OUTPUTS, seed, lambda y: weights), rows([0.75, 0, 2.25, 0], [0, 0, 0, 1]))
    dual = dual_seed(OUTPUTS, seed, lambda y: y.softmax(1))
    share = OUTPUTS[0].softmax(0).index_fill(0, torch.tensor(1), 0)
    torch.testing.assert_close(dual[0], 3 * share / share.sum())
    with pytest.raises(vv.InputError, match="weights below zero"):
        dual_seed(OUTPUTS, seed, lambda y: -y.abs())
    with pytest.raises(vv.InputError, match="weights below zero, or NaN"):
        dual_seed(OUTPUTS, seed, lambda y: y / 0.0 * 0.0)


def test_a_contrast_with_nothing_is_one_with_all_others() -> None:
    outputs = rows([0, 5, 0, 0])
    seed = target_seed(outputs, 1)
    everyone = dual_seed(outputs, seed, "others")
    assert torch.equal(dual_seed(outputs, seed, "logits"), everyone)
    assert torch.equal(dual_seed(outputs, seed, torch.zeros_like), everyone)
    assert torch.equal(dual_seed(outputs, seed, lambda y: y), everyone)


@pytest.mark.parametrize(
    ("foil", "message"),
    [
        (
            "zebra",
            "no foil is called 'zebra'; there are others, negated, logits, softmax, strongest, runner-up, classes",
        ),
        ("", "no foil is called ''"),
        (4, "foil 4 is out of range: .* 0 to 3"),
        (-1, "foil -1 is out of range"),
        ([[0], [9]], "foil 9 is out of range"),
        (1, "target and foil are the same class"),
        ([0, 1], "target and foil are the same class"),
        ([[0], [1]], "target and foil are the same class"),
        ([[0], [1], [2]], "3 lists of foils for a batch of 2"),
        ([[0], []], "the list of foil classes is empty"),
        ([], "the list of foil classes is empty"),
        (torch.tensor([0, 1, 2]), r"a foil tensor holds one class for each image, shape \(2,\), not \(3,\)"),
        (torch.tensor([[0, 2], [0, 3]]), r"a foil tensor holds one class for each image"),
        (True, "foil is a class index"),
        (2.0, "foil is a class index"),
        ([0, 2.0], "foil is a class index"),
        ([[0], [2.5]], "foil is a class index"),
        (["cat"], "foil is a class index|no foil is called|lists of foils"),
        ([0, [2]], "foil is a class index"),
        (None, "foil is a class index"),
        ({0, 2}, "foil is a class index"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_malformed_foils(foil: Any, message: str) -> None:
    with pytest.raises(vv.InputError, match=message):
        contrast.dual_seed(OUTPUTS, contrast.target_seed(OUTPUTS, 1), foil)


@pytest.mark.parametrize("foil", ["others", "logits", "softmax", "strongest", "runner-up"])
def test_one_output_has_no_others(foil: str) -> None:
    with pytest.raises(vv.InputError, match=r'one output has no other .* "negated"'):
        dual_seed(OUTPUTS[:, :1], OUTPUTS[:, :1].abs(), foil)
    module, x = nn.Linear(3, 1, dtype=DOUBLE), torch.rand(2, 3, dtype=DOUBLE)
    assert vv.CLRP(module, foil="negated").attribute(x).shape == x.shape


def test_target_and_foil_may_not_be_the_same_also_where_the_score_is_zero() -> None:
    outputs = rows([0, 5, 1, 2])
    with pytest.raises(vv.InputError, match="the same class"):
        dual_seed(outputs, target_seed(outputs, 0, seed="one"), 0)
    module = nn.Linear(3, 4, dtype=DOUBLE)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    with pytest.raises(vv.InputError, match="the same class"):
        vv.CLRP(module, foil=2).attribute(torch.rand(1, 3, dtype=DOUBLE), 2)


def test_a_foil_shared_by_a_batch_is_refused_if_it_is_one_image_s_target() -> None:
    with pytest.raises(vv.InputError, match="the same class"):
        dual_seed(OUTPUTS, target_seed(OUTPUTS, [0, 2]), 2)
    assert dual_seed(OUTPUTS, target_seed(OUTPUTS, [0, 1]), [[3], [2]]).shape == OUTPUTS.shape


FOILS: list[Any] = [
    "others",
    "logits",
    "softmax",
    "strongest",
    "runner-up",
    3,
    [1, 3],
    torch.tensor([3, 1]),
    [[3], [1, 3]],
    lambda y: y.abs(),
    lambda y: (y == y.amax(1, keepdim=True)).double(),
]


@pytest.mark.parametrize("outputs", [OUTPUTS, MAPS, MAPS.flatten(2), MAPS * 1e-30, -MAPS.abs()], ids=range(5))
@pytest.mark.parametrize("seed", ["score", "one"])
@pytest.mark.parametrize("foil", FOILS, ids=range(len(FOILS)))
def test_the_foil_gets_as_much_as_the_target_at_each_position(outputs: Tensor, seed: Any, foil: Any) -> None:
    own = target_seed(outputs, [2, 0], seed=seed)
    dual = dual_seed(outputs, own, foil)
    assert dual.shape == outputs.shape
    assert dual.dtype == outputs.dtype
    assert (own >= 0).all()
    assert (dual >= 0).all()
    torch.testing.assert_close(dual.sum(1), own.sum(1), rtol=1e-12, atol=0)
    assert not ((own != 0) & (dual != 0)).any()
    if outputs.dim() == 4:
        at = target_seed(outputs, [2, 0], seed=seed, position=(0, 1))
        there = dual_seed(outputs, at, foil)
        torch.testing.assert_close(there.sum(1), at.sum(1), rtol=1e-12, atol=0)
        torch.testing.assert_close(there[:, :, 0, 1], dual[:, :, 0, 1], rtol=1e-12, atol=0)
        assert there.count_nonzero() == there[:, :, 0, 1].count_nonzero()


def test_the_runner_up_of_each_position_is_its_own() -> None:
    own = target_seed(MAPS, 1)
    dual = dual_seed(MAPS, own, "runner-up")
    for item in range(2):
        for y in range(2):
            for x in range(3):
                scores = MAPS[item, :, y, x].clone()
                scores[1] = -torch.inf
                assert dual[item, scores.argmax(), y, x] == own[item, 1, y, x]


def test_the_runner_up_of_the_strongest_is_the_second() -> None:
    outputs = rows([1, 5, 4, -9])
    assert dual_seed(outputs, target_seed(outputs, None), "runner-up").argmax().item() == 2
    assert dual_seed(outputs, target_seed(outputs, 3), "runner-up").argmax().item() == 1


def test_no_outputs_are_written_to() -> None:
    kept = OUTPUTS.clone()
    for foil in FOILS:
        dual_seed(OUTPUTS, target_seed(OUTPUTS, [2, 0]), foil)
    dual_seed(OUTPUTS, target_seed(OUTPUTS, [2, 0]), lambda y: y.zero_())
    assert torch.equal(OUTPUTS, kept)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)).double()


BATCHED: list[tuple[Any, Any, Any]] = [
    ("others", "others", "others"),
    ("logits", "logits", "logits"),
    ("softmax", "softmax", "softmax"),
    ("negated", "negated", "negated"),
    ("runner-up", "runner-up", "runner-up"),
    (3, 3, 3),
    ([1, 3], [1, 3], [1, 3]),
    (torch.tensor([3, 1]), 3, 1),
    ([[3], [1, 3]], 3, [1, 3]),
    (lambda y: y.square(), lambda y: y.square(), lambda y: y.square()),
]


@pytest.mark.parametrize("normalize", ["none", "sum"])
@pytest.mark.parametrize(("foil", "first", "second"), BATCHED, ids=range(len(BATCHED)))
def test_a_batch_is_explained_as_its_images_one_by_one(foil: Any, first: Any, second: Any, normalize: Any) -> None:
    module, x = network(), torch.randn(2, 3, 6, 6, dtype=DOUBLE)
    together = vv.CLRP(module, foil=foil, normalize=normalize, signed=True).attribute(x, [2, 0])
    for item, (target, own) in enumerate(((2, first), (0, second))):
        alone = vv.CLRP(module, foil=own, normalize=normalize, signed=True).attribute(x[item : item + 1], target)
        torch.testing.assert_close(together[item], alone[0], rtol=1e-10, atol=1e-14)
    assert not torch.allclose(together[0], together[1])


def test_a_larger_batch_changes_no_image_s_map() -> None:
    module, x = network(), torch.randn(5, 3, 6, 6, dtype=DOUBLE)
    for name in ("clrp", "lrp", "deep-taylor", "gradient", "guided-backprop"):
        whole = vv.method(name)(module).attribute(x, torch.arange(5) % 4)
        torch.testing.assert_close(whole[3:4], vv.method(name)(module).attribute(x[3:4], 3), rtol=1e-10, atol=1e-14)

"""Ablation of units: accuracies, drops and their intervals, against plain loops."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import visavis as vv
from units.networks import naive, pictures, removed, resnet, small, vit
from visavis.errors import InputError, ModelError
from visavis.units import removal
from visavis.units.ablation import SUMS, ablate, ablate_sets, tally
from visavis.units.cumulative import ablate_cumulatively, orders, remove_by_class
from visavis.units.intervals import drop_intervals
from visavis.units.removal import Predictions, mean_activations

Batches = list[tuple[Tensor, Tensor]]


def data(module: nn.Module, count: int = 14, seed: int = 1) -> Batches:
    """Batches of unlike sizes, half of them labelled as the model has it."""
    inputs = pictures(count, 16, seed)
    with torch.no_grad():
        labels = module(inputs).argmax(1)
    drawn = torch.randint(4, (count,), generator=torch.Generator().manual_seed(seed))
    labels = torch.where(torch.arange(count) % 2 == 0, labels, drawn)
    return list(zip(inputs.split(5), labels.split(5), strict=True))


def lively() -> nn.Module:
    """A network whose single units matter."""
    module = small()
    nn.init.normal_(module.head.weight, std=20)
    with torch.no_grad():
        module.head.bias -= module(pictures(64, 16, 9)).mean(0)
    return module


def slow(module: nn.Module, layer: str, batches: Batches, units: list[int], values: Tensor) -> Tensor:
    return torch.cat([naive(module, layer, inputs, units, 1, values).argmax(1) for inputs, _ in batches])


def test_against_a_plain_loop() -> None:
    module = lively()
    batches = data(module, 40)
    found = ablate(module, "scale", batches)
    of_each = removed(module, "scale", batches)
    labels = torch.cat([one for _, one in batches]).tolist()
    zeros = torch.zeros(8, dtype=torch.float64)
    intact = slow(module, "head", batches, [], zeros).tolist()
    assert found.sets == tuple((unit,) for unit in range(8))
    assert found.counts.tolist() == [labels.count(k) for k in range(4)]

    def share(predicted: list[int], k: int | None = None) -> float:
        pairs = [(p, y) for p, y in zip(predicted, labels, strict=True) if k is None or y == k]
        return sum(p == y for p, y in pairs) / len(pairs) if pairs else math.nan

    assert found.accuracy == pytest.approx(share(intact))
    assert_close(found.class_accuracy.tolist(), [share(intact, k) for k in range(4)], equal_nan=True)
    assert float(found.drops.abs().max()) > 0.1
    for unit in range(8):
        without = slow(module, "scale", batches, [unit], zeros).tolist()
        assert of_each[unit].tolist() == without
        assert found.said_without[unit].tolist() == [without.count(k) for k in range(4)]
        drops = [share(intact, k) - share(without, k) for k in range(4)]
        assert_close(found.class_drops[unit].tolist(), drops, equal_nan=True)
        assert float(found.drops[unit]) == pytest.approx(share(intact) - share(without))
        assert float(found.accuracies[unit]) == pytest.approx(share(without))
        assert float(found.max_drops[unit]) == pytest.approx(max(drops))
        assert int(found.hit[unit]) == drops.index(max(drops))
    assert_close(found.class_accuracy - found.class_drops, found.class_accuracies)


def test_confidence_against_a_plain_loop() -> None:
    module = lively()
    batches = data(module, 20)
    found = ablate(module, "scale", batches, units=[5, 2])
    labels = torch.cat([one for _, one in batches])
    zeros = torch.zeros(8, dtype=torch.float64)

    def confidence(units: list[int]) -> Tensor:
        logits = torch.cat([naive(module, "scale", inputs, units, 1, zeros) for inputs, _ in batches])
        return logits.softmax(1)[torch.arange(20), labels]

    lost = torch.stack([confidence([]) - confidence([unit]) for unit in (5, 2)])
    assert float(lost.abs().max()) > 0.1
    assert_close(found.confidence_drops, lost.mean(1), rtol=0, atol=1e-6)
    by_class = torch.stack([lost[:, labels == k].mean(1) for k in range(4)], 1)
    assert_close(found.class_confidence_drops, by_class, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(("build", "layer", "dim"), [(resnet, "layer3.0.bn1", 1), (vit, "encoder.ln", 2)])
def test_other_networks(build: object, layer: str, dim: int) -> None:
    module = build()
    inputs, labels = pictures(4), torch.tensor([0, 1, 2, 3])
    found = ablate(module, layer, (inputs, labels), units=[3, 1])
    of_each = removed(module, layer, (inputs, labels), [[3], [1]])
    for place, unit in enumerate((3, 1)):
        logits = naive(module, layer, inputs, [unit], dim, torch.zeros(256))
        assert of_each[place].tolist() == logits.argmax(1).tolist()
        assert float(found.accuracies[place]) == float((logits.argmax(1) == labels).double().mean())
    assert found.sets == ((3,), (1,))


def test_to_the_mean() -> None:
    module = lively()
    batches = data(module)
    seen: list[Tensor] = []
    handle = module.second.register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    for inputs, _ in batches:
        module(inputs)
    handle.remove()
    means = torch.cat(seen).mean((0, 2, 3)).detach()
    from visavis.units.above import Above

    assert_close(mean_activations(Above(module, "second"), batches), means)
    to_mean, given = (removed(module, "second", batches, value=value) for value in ("mean", means))
    expected = torch.stack([slow(module, "second", batches, [unit], means) for unit in range(6)])
    assert to_mean.tolist() == expected.tolist() == given.tolist()
    assert to_mean.tolist() != removed(module, "second", batches).tolist()


class Planted(nn.Module):
    """Unit 4 alone carries class 2; each other class is carried by two units."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.Conv2d(3, 7, 1)
        self.head = nn.Linear(7, 4, bias=False)
        carries = {0: (0, 1), 1: (2, 3), 2: (4,), 3: (5, 6)}
        with torch.no_grad():
            self.units.weight.zero_()
            self.units.bias.zero_()
            self.head.weight.zero_()
            for k, units in carries.items():
                for unit in units:
                    self.units.weight[unit, :, 0, 0] = torch.tensor([2.0 * (k >> 1) - 1, 2.0 * (k & 1) - 1, 0])
                    self.head.weight[k, unit] = 1 / len(units)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.units(x).relu().mean((2, 3)))


def planted(count: int, seed: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % 4
    signs = torch.stack([2.0 * (labels >> 1) - 1, 2.0 * (labels & 1) - 1, labels * 0.0], 1)
    noise = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 0.1
    return signs[:, :, None, None] + noise, labels


def test_a_unit_that_alone_carries_a_class() -> None:
    module = Planted().eval()
    found = ablate(module, "units", planted(80, 0))
    assert found.accuracy == 1
    assert found.max_drops.argmax() == 4
    assert found.hit[4] == 2
    expected = torch.zeros(7, 4, dtype=torch.float64)
    expected[4, 2] = found.class_drops[4, 2]
    assert float(found.class_drops[4, 2]) > 0.95
    assert_close(found.class_drops, expected)
    removal_ = remove_by_class(module, "units", planted(80, 0), planted(60, 1), counts=(1, 2))
    assert removal_.classes == (0, 1, 2, 3)
    assert removal_.order[2, 0] == 4
    assert removal_.accuracy == 1
    assert_close(removal_.intact, torch.ones(4, dtype=torch.float64))
    assert float(removal_.without_best[2, 0]) < 0.55
    assert float(removal_.accuracy_without_best[2, 0]) == pytest.approx(0.75, abs=0.02)
    assert float(removal_.without_worst[2, 0]) == 1


# -- intervals -------------------------------------------------------------------------------------------------------


def test_intervals_against_drawing_images() -> None:
    """Images drawn one by one, in a loop: the same quantiles."""
    module = lively()
    found = ablate(module, "scale", data(module, 60))
    intervals = found.intervals(draws=20_000)
    labels = torch.cat([one for _, one in data(module, 60)])
    correct = (removed(module, "scale", data(module, 60)) == labels).numpy()
    intact = (removed(module, "scale", data(module, 60), [[]])[0] == labels).numpy()
    labels, generator = labels.numpy(), np.random.default_rng(7)
    for unit in (0, 5):
        for k in (None, 1, 2):
            chosen = np.arange(60) if k is None else np.flatnonzero(labels == k)
            difference = intact[chosen].astype(float) - correct[unit][chosen]
            drawn = [difference[generator.integers(len(chosen), size=len(chosen))].mean() for _ in range(5_000)]
            low, high = np.percentile(drawn, [2.5, 97.5])
            ends = intervals.overall[unit] if k is None else intervals.classes[unit, k]
            assert ends.tolist() == pytest.approx([low, high], abs=1.01 / len(chosen))
    assert_close(intervals.hardest[3], intervals.classes[3, found.hit[3]], equal_nan=True)
    assert bool((intervals.overall[:, 0] <= found.drops).all() and (found.drops <= intervals.overall[:, 1]).all())
    assert bool((intervals.overall[:, 0] < intervals.overall[:, 1]).any())
    assert_close(found.intervals(draws=500).classes, found.intervals(draws=500).classes, equal_nan=True)
    assert not torch.equal(found.intervals(draws=50).overall, found.intervals(draws=50, seed=1).overall)


def test_intervals_cover() -> None:
    """Of many data sets, about 95 in 100 have an interval that holds the true drop."""
    generator = np.random.default_rng(0)
    drawn = torch.from_numpy(generator.multinomial(200, [0.2, 0.05, 0.75], size=400))
    ends = drop_intervals(drawn[:, 0], drawn[:, 1], torch.full((400,), 200), draws=2_000)
    covers = ((ends[:, 0] <= 0.15) & (ends[:, 1] >= 0.15)).double().mean()
    assert 0.92 < float(covers) < 0.98


def test_classes_without_images() -> None:
    module = lively()
    inputs = pictures(6, 16)
    found = ablate(module, "scale", (inputs, torch.tensor([0, 0, 1, 1, 3, 3])))
    assert math.isnan(float(found.class_accuracy[2]))
    assert bool(found.class_drops[:, 2].isnan().all())
    assert 2 not in found.hit.tolist()
    intervals = found.intervals(draws=10)
    assert bool(intervals.classes[:, 2].isnan().all())
    assert not bool(intervals.hardest.isnan().any())


# -- cumulatively ----------------------------------------------------------------------------------------------------


def test_cumulative_curves() -> None:
    module = lively()
    batches = data(module, 30)
    order = [5, 0, 3, 7]
    found = ablate_cumulatively(module, "scale", batches, order)
    labels, zeros = torch.cat([one for _, one in batches]), torch.zeros(8, dtype=torch.float64)
    for count in range(5):
        without = slow(module, "scale", batches, order[:count], zeros)
        assert float(found.accuracies[count]) == pytest.approx(float((without == labels).double().mean()))
        for k in labels.unique().tolist():
            share = float((without == labels)[labels == k].double().mean())
            assert float(found.class_accuracies[count, k]) == pytest.approx(share)
    assert float(found.accuracies[0]) == found.accuracy
    some = ablate_cumulatively(module, "scale", batches, order, counts=(0, 3))
    assert_close(some.accuracies, found.accuracies[[0, 3]])
    assert len(set(found.accuracies.tolist())) > 1
    with pytest.raises(InputError, match="5 units cannot be removed of an order of 4"):
        ablate_cumulatively(module, "scale", batches, order, counts=(5,))
    with pytest.raises(InputError, match="names each of them once"):
        ablate_cumulatively(module, "scale", batches, [1, 1])


def test_orders() -> None:
    values = torch.tensor([0.5, 3, -1, math.nan, 2])
    found = orders(values)
    assert found["descending"] == (1, 4, 0, 2, 3)
    assert found["ascending"] == (2, 0, 4, 1, 3)
    assert sorted(found["random"]) == [0, 1, 2, 3, 4]
    assert orders(values) == found
    assert len({orders(values, seed=seed)["random"] for seed in range(5)}) > 1
    assert len({orders(torch.ones(9), seed=seed)["descending"] for seed in range(5)}) > 1
    with pytest.raises(InputError, match=r"not of shape \(2, 3\)"):
        orders(torch.zeros(2, 3))


def test_balanced_accuracy() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    predicted = torch.tensor([[0, 1, 1, 1, 0, 2], [2, 2, 2, 2, 2, 2]], dtype=torch.int32)
    # Class 0: one of 2 found, 3 of 4 others told apart; class 1: 2 of 3, and 2 of 3; class 2: all.
    expected = [[(1 / 2 + 3 / 4) / 2, 2 / 3, 1.0, math.nan], [0.5, 0.5, 0.5, math.nan]]
    nothing = torch.zeros(6), torch.zeros(2, 6)
    found = tally("a", Predictions(labels, predicted[1], predicted, *nothing, 4, ((0,), (1,))))
    assert_close(found.balanced_accuracies.tolist(), expected, equal_nan=True)
    assert_close(found.balanced_accuracy.tolist(), expected[1], equal_nan=True)


def test_of_parts_together() -> None:
    module = lively()
    batches = data(module, 30)
    whole = ablate(module, "scale", batches)
    parts = ablate(module, "scale", batches[:2]) + ablate(module, "scale", batches[2:])
    for name in SUMS:
        assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-12)
    assert float(whole.lost.sum()) > 0
    with pytest.raises(InputError, match="do not add up"):
        _ = whole + ablate(module, "scale", batches, units=[1])


def test_intervals_of_confidence() -> None:
    module = lively()
    batches = data(module, 40)
    found = ablate(module, "scale", batches)
    labels, zeros = torch.cat([one for _, one in batches]), torch.zeros(8, dtype=torch.float64)

    def confidence(units: list[int]) -> Tensor:
        logits = torch.cat([naive(module, "scale", inputs, units, 1, zeros) for inputs, _ in batches])
        return logits.softmax(1)[torch.arange(40), labels]

    lost = (confidence([]) - confidence([3])).numpy()
    low, high = scipy.stats.norm.interval(0.95, lost.mean(), scipy.stats.sem(lost))
    assert found.intervals().confidence[3].tolist() == pytest.approx([low, high], abs=1e-6)
    one = ablate(module, "scale", (batches[0][0][:1], batches[0][1][:1]))
    assert bool(one.intervals().confidence.isnan().all())


def test_removal_by_class_against_a_loop() -> None:
    module = lively()
    training, held_out = data(module, 20, 1), data(module, 16, 2)
    found = remove_by_class(module, "scale", training, held_out, counts=(1, 3, 99))
    assert found.counts == (1, 3)
    zeros = torch.zeros(8, dtype=torch.float64)

    @cache
    def without(held: bool, *units: int) -> Tensor:
        return slow(module, "scale", held_out if held else training, list(units), zeros)

    def binary(held: bool, units: list[int], k: int) -> float:
        of_class = torch.cat([one for _, one in (held_out if held else training)]) == k
        predicted = without(held, *sorted(units)) == k
        return float(predicted[of_class].double().mean() + (~predicted[~of_class]).double().mean()) / 2

    for place, k in enumerate(found.classes):
        drops = [binary(False, [], k) - binary(False, [unit], k) for unit in range(8)]
        assert_close(found.importance[place].tolist(), drops, atol=1e-12, rtol=0)
        best = found.order[place].tolist()
        assert [round(drops[unit], 9) for unit in best] == sorted((round(one, 9) for one in drops), reverse=True)
        assert float(found.intact[place]) == pytest.approx(binary(True, [], k))
        for point, count in enumerate(found.counts):
            assert float(found.without_best[place, point]) == pytest.approx(binary(True, best[:count], k))
            assert float(found.without_worst[place, point]) == pytest.approx(binary(True, best[-count:], k))
            labels = torch.cat([one for _, one in held_out])
            overall = (without(True, *sorted(best[:count])) == labels).double().mean()
            assert float(found.accuracy_without_best[place, point]) == pytest.approx(float(overall))
    to_mean = remove_by_class(module, "scale", training, held_out, counts=(1, 3), value="mean")
    assert not torch.equal(to_mean.importance, found.importance)
    with pytest.raises(InputError, match="none of the counts"):
        remove_by_class(module, "scale", training, held_out, counts=(9,))
    with pytest.raises(InputError, match="class 4 cannot be told from others by the training data"):
        remove_by_class(module, "scale", training, held_out, classes=[4])


# -- memory, progress, refusals --------------------------------------------------------------------------------------


def test_in_parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    module = lively()
    batches = data(module, 12)
    whole = removed(module, "second", batches)
    sizes: list[int] = []
    run = removal.Kept.run

    def bounded(kept: removal.Kept, activation: Tensor) -> Tensor:
        units = len(activation) // len(kept.activation)
        if units > 2:
            raise torch.OutOfMemoryError("out of memory")
        sizes.append(units)
        return run(kept, activation)

    monkeypatch.setattr(removal.Kept, "run", bounded)
    assert removed(module, "second", batches).tolist() == whole.tolist()
    assert set(sizes) == {2}
    sizes.clear()
    monkeypatch.setattr(removal, "free_memory", lambda device: 1)
    assert removed(module, "second", batches).tolist() == whole.tolist()
    assert set(sizes) == {1}
    monkeypatch.setattr(removal, "free_memory", lambda device: None)
    monkeypatch.setattr(removal.Kept, "run", lambda kept, activation: bounded(kept, activation.repeat(3, 1, 1, 1)))
    with pytest.raises(torch.OutOfMemoryError):
        ablate(module, "second", batches)


def test_progress() -> None:
    module, told = lively(), []
    ablate(module, "second", data(module, 12), units=[0, 1, 2], progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 36


def test_refusals() -> None:
    module = lively()
    batches = data(module)
    with pytest.raises(InputError, match="there is no unit 6 in layer 'second', which has 6"):
        ablate(module, "second", batches, units=[6])
    with pytest.raises(InputError, match="replaced by zero or mean"):
        ablate(module, "second", batches, value="median")
    with pytest.raises(InputError, match=r"has 6 units, but values of shape \(5,\)"):
        ablate(module, "second", batches, value=torch.zeros(5))
    with pytest.raises(InputError, match="finite numbers"):
        ablate(module, "second", batches, value=torch.tensor([math.nan] * 6))
    with pytest.raises(InputError, match="twice, which an iterator cannot"):
        ablate(module, "second", iter(batches), value="mean")
    with pytest.raises(InputError, match="no images"):
        ablate(module, "second", [])
    with pytest.raises(InputError, match="a pair of tensors"):
        ablate(module, "second", [batches[0][0]])
    with pytest.raises(InputError, match="labels are class indices"):
        ablate(module, "second", [(batches[0][0], torch.zeros(5))])
    with pytest.raises(InputError, match="label 4 is none of the model's 4 classes"):
        ablate(module, "second", [(batches[0][0], torch.full((5,), 4))])
    with pytest.raises(InputError, match="at least one draw"):
        ablate(module, "second", batches).intervals(draws=0)
    nn.init.constant_(module.head.bias, math.nan)
    with pytest.raises(ModelError, match="hold NaN"):
        ablate(module, "second", batches)


def test_sets_and_once_through() -> None:
    module = lively()
    batches = data(module)
    zeros = torch.zeros(8, dtype=torch.float64)
    found = ablate_sets(vv.Classifier(module), "scale", iter(batches), [[2, 5, 2], []])
    expected = [slow(module, "scale", batches, units, zeros).tolist() for units in ([2, 5], [])]
    assert removed(module, "scale", iter(batches), [[2, 5, 2], []]).tolist() == expected
    labels = torch.cat([one for _, one in batches])
    assert found.accuracies.tolist() == [float((torch.tensor(one) == labels).double().mean()) for one in expected]

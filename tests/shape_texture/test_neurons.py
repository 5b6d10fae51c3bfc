"""Classification without the neurons of a factor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visavis.errors import InputError
from visavis.shape_texture.dimensionality import Dimensionality, dimensionality
from visavis.shape_texture.neurons import dominant_units, factor_units, remove_neurons


def ranked(shape: list[float], texture: list[float]) -> Dimensionality:
    """Latents of which each unit repeats so much of what a pair shares."""
    chance = torch.Generator().manual_seed(0)
    weights = {"shape": torch.tensor(shape).double(), "texture": torch.tensor(texture).double()}
    pairs = {}
    for name, weight in weights.items():
        common = torch.randn(4000, len(weight), generator=chance, dtype=torch.float64)
        pairs[name] = tuple(
            common * weight.sqrt()
            + torch.randn(common.shape, generator=chance, dtype=torch.float64) * (1 - weight).sqrt()
            for _ in (0, 1)
        )
    return dimensionality(pairs, draws=0)


FOUND = ranked([0.9, 0.7, 0.5, 0.1, 0.0, 0.2], [0.0, 0.1, 0.2, 0.9, 0.7, 0.5])


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double().eval()


INPUTS = torch.randn(40, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
LABELS = torch.randint(3, (40,), generator=torch.Generator().manual_seed(6))


def right_without(net: nn.Sequential, gone: list[int], instead: Tensor | None = None) -> Tensor:
    hidden = net[1](net[0](INPUTS)).detach().clone()
    hidden[:, gone] = 0 if instead is None else instead[gone]
    return (net[2](hidden).argmax(1) == LABELS).double()


def test_the_ranking_is_as_made() -> None:
    assert FOUND.ranking("shape").tolist()[:3] == [0, 1, 2]
    assert FOUND.ranking("texture").tolist()[:3] == [3, 4, 5]


@pytest.mark.parametrize("keep", [False, True])
def test_accuracy_without_the_first_units_is_that_of_a_loop(keep: bool) -> None:
    net = network()
    before = {name: one.clone() for name, one in net.state_dict().items()}
    found = remove_neurons(net, "1", (INPUTS, LABELS), FOUND, counts=[0, 1, 3, 6], keep=keep, draws=50, seed=4)
    assert found.intact == float(right_without(net, []).mean())
    assert (found.layer, found.units, found.images, found.counts) == ("1", 6, 40, (0, 1, 3, 6))
    rights = {}
    for factor in ("shape", "texture"):
        order = FOUND.ranking(factor).tolist()
        rights[factor] = torch.stack(
            [right_without(net, order[count:] if keep else order[:count]) for count in found.counts]
        )
        torch.testing.assert_close(found.curves[factor].accuracy, rights[factor].mean(1), rtol=0, atol=1e-12)
    chance = np.random.default_rng(4)
    drawn = [chance.permutation(6).tolist() for _ in range(10)]
    rights["random"] = torch.stack(
        [
            torch.stack([right_without(net, o[count:] if keep else o[:count]) for o in drawn]).mean(0)
            for count in found.counts
        ]
    )
    torch.testing.assert_close(found.curves["random"].accuracy, rights["random"].mean(1), rtol=0, atol=1e-12)
    # The bootstrap, image by image.
    times = np.random.default_rng(4).multinomial(40, np.full(40, 1 / 40), size=50)
    for name, right in rights.items():
        values = [[np.repeat(row, times[draw]).mean() for draw in range(50)] for row in right.numpy()]
        low, high = np.percentile(values, (2.5, 97.5), axis=1)
        np.testing.assert_allclose(found.curves[name].low, low, atol=1e-12)
        np.testing.assert_allclose(found.curves[name].high, high, atol=1e-12)
    apart = found.difference("shape", "texture", draws=50, seed=4)
    torch.testing.assert_close(apart.accuracy, (rights["shape"] - rights["texture"]).mean(1), rtol=0, atol=1e-12)
    assert bool((apart.low <= apart.accuracy).all())
    assert bool((apart.accuracy <= apart.high).all())
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())


def test_none_removed_is_intact_and_all_removed_is_the_same_for_all() -> None:
    found = remove_neurons(network(), "1", (INPUTS, LABELS), FOUND, counts=[0, 6], draws=10)
    ends = torch.stack([one.accuracy for one in found.curves.values()])
    assert bool((ends[:, 0] == found.intact).all())
    assert bool((ends[:, 1] == ends[0, 1]).all())


def test_units_are_replaced_by_their_mean_or_by_given_values() -> None:
    net = network()
    means = net[1](net[0](INPUTS)).detach().mean(0)
    order = FOUND.ranking("shape").tolist()
    counts = [1, 2, 3, 4]
    expected = torch.stack([right_without(net, order[:count], means).mean() for count in counts])
    assert not torch.equal(expected, torch.stack([right_without(net, order[:count]).mean() for count in counts]))
    for value in ("mean", means):
        found = remove_neurons(net, "1", (INPUTS, LABELS), FOUND, counts=counts, value=value, orders=0, draws=5)
        torch.testing.assert_close(found.curves["shape"].accuracy, expected, rtol=0, atol=1e-12)
        assert "random" not in found.curves


def test_counts_go_from_an_eighth_to_all() -> None:
    found = remove_neurons(network(), "1", (INPUTS, LABELS), FOUND, orders=1, draws=5)
    assert found.counts == (1, 2, 3, 4, 5, 6)


def test_the_neurons_of_a_factor_are_the_first_of_its_ranking() -> None:
    found = ranked([one / 40 for one in range(40)], [0.2] * 40)
    own = int(found.counts[0])
    assert own >= 9
    assert factor_units(found, "shape").tolist() == found.ranking("shape").tolist()[:own]
    assert factor_units(found, "shape", 0.5).tolist() == found.ranking("shape").tolist()[: (own + 1) // 2]
    assert len(factor_units(found, "shape", 0.01)) == 1
    for share in (0, 1.5):
        with pytest.raises(InputError, match="share"):
            factor_units(FOUND, "shape", share)
    with pytest.raises(InputError, match="colour"):
        factor_units(FOUND, "colour")


def test_units_that_encode_one_factor_more_than_the_other() -> None:
    found = ranked([0.9, 0.5, 0.0, 0.3, 0.0], [0.1, 0.6, 0.8, 0.2, 0.0])
    # Of the last unit nothing is shared: it leans to neither but by chance.
    assert [unit for unit in dominant_units(found, "shape").tolist() if unit < 4] == [0, 3]
    assert [unit for unit in dominant_units(found, "texture").tolist() if unit < 4] == [1, 2]
    negative = replace(found, unit_scores=torch.tensor([[-0.1, 0.2], [-0.2, -0.3]]))
    assert dominant_units(negative, "shape").tolist() == [1]
    assert dominant_units(negative, "texture").tolist() == []
    with pytest.raises(InputError, match="colour"):
        dominant_units(found, "colour")


def test_what_does_not_fit_is_refused() -> None:
    net, data = network(), (INPUTS, LABELS)
    for words, options in {
        "counts": {"counts": [7]},
        "orders": {"orders": -1},
        "draws": {"draws": 1},
        "seed": {"seed": -1},
        "value": {"value": "median"},
    }.items():
        with pytest.raises(InputError, match=words):
            remove_neurons(net, "1", data, FOUND, **options)
    wide = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    for value in ("zero", "mean"):
        with pytest.raises(InputError, match="units"):
            remove_neurons(wide, "1", data, FOUND, value=value)
    found = remove_neurons(net, "1", data, FOUND, counts=[1], draws=5)
    with pytest.raises(InputError, match="no curve 'colour'"):
        found.difference("shape", "colour")
    with pytest.raises(InputError, match="draws"):
        found.difference("shape", "texture", draws=1)
    with pytest.raises(InputError, match="seed"):
        found.difference("shape", "texture", seed=-1)

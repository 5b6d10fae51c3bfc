"""The strongest images are those of a brute loop; the maps are those of the method called directly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from units import networks
from visavis.errors import InputError, ModelError
from visavis.units import Layer, firing_maps, random_rotation, receptive_fields, strongest, unit_cards


def activation_of(module: nn.Module, layer: str, inputs: Tensor) -> Tensor:
    found: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda _, __, output: found.append(output.clone()))
    with torch.no_grad():
        module(inputs.clone())
    handle.remove()
    return found[0]


@pytest.mark.parametrize(
    ("network", "layer", "unit_dim"),
    [
        ("small", "second", 1),
        ("resnet", "layer2", 1),
        ("vit", "encoder.layers.encoder_layer_0", 2),
        ("resnet", "fc", 1),
    ],
)
def test_the_strongest_are_those_of_a_plain_loop(network: str, layer: str, unit_dim: int) -> None:
    module, inputs = networks.NETWORKS[network](), networks.pictures(11)
    labels = torch.arange(11) % 4
    data = [(inputs[:4], labels[:4]), (inputs[4:5], labels[4:5]), (inputs[5:], labels[5:])]
    units = [3, 0]
    found = strongest(module, layer, data, units, count=3)
    values = activation_of(module, layer, inputs).movedim(unit_dim, 1)
    for unit, row in zip(units, found, strict=True):
        each = values[:, unit].flatten(1).amax(1) if values.dim() > 2 else values[:, unit]
        expected = sorted(range(11), key=lambda i, each=each: -float(each[i]))[:3]
        assert [one.image for one in row] == expected
        for one in row:
            assert one.unit == unit
            assert one.label == int(labels[one.image])
            assert one.positions == values.shape[2:]
            assert float(values[(one.image, unit, *one.position)]) == pytest.approx(one.value, rel=1e-9)
            assert one.value == pytest.approx(float(each[one.image]), rel=1e-9)
            assert torch.equal(one.inputs, inputs[one.image])


def test_of_equal_values_the_first_counts_and_data_may_have_no_labels() -> None:
    module, inputs = networks.small(), networks.pictures(2)
    best = strongest(module, "second", inputs, [1], count=1)[0][0].image
    same = inputs[[1 - best, best, best, 1 - best, best]]
    assert [one.image for one in strongest(module, "second", same, [1], count=2)[0]] == [1, 2]
    batches = strongest(module, "second", iter([same[:2], same[2:]]), [1], count=9)[0]
    assert [one.image for one in batches] == [1, 2, 4, 0, 3]
    assert [one.label for one in batches] == [None] * 5


def test_only_what_may_be_shown_is_held() -> None:
    module = networks.small()

    def data() -> Iterator[tuple[Tensor, Tensor]]:
        for seed in range(6):
            yield networks.pictures(4, seed=seed), torch.zeros(4, dtype=torch.int64)

    found = strongest(module, "second", data(), [0, 1], count=2)
    alive = [one.inputs for row in found for one in row]
    assert len(alive) == 4
    assert all(one.untyped_storage().nbytes() == one.numel() * 8 for one in alive)


@pytest.mark.parametrize(("network", "layer"), [("resnet", "layer1"), ("vit", "encoder.layers.encoder_layer_0")])
def test_a_map_is_that_of_clrp_called_directly(network: str, layer: str) -> None:
    module, inputs = networks.NETWORKS[network](), networks.pictures(5)
    rows = strongest(module, layer, inputs, [2, 5], count=2)
    firings = [one for row in rows for one in row]
    found = firing_maps(module, layer, firings)
    clrp = vv.CLRP(module, layer=layer, unit_dim=2 if network == "vit" else 1)
    for one, heat in zip(firings, found, strict=True):
        position = one.position if len(one.position) > 1 else one.position[0]
        direct = clrp.attribute(one.inputs[None], one.unit, position=position).sum(1)[0]
        assert float(direct.max()) > 0
        torch.testing.assert_close(heat, direct, rtol=1e-6, atol=1e-9 * float(direct.max()))
    against = firing_maps(module, layer, firings[:1], foil=4)[0]
    assert not torch.allclose(against, found[0], rtol=1e-3, atol=0)


def test_units_without_positions_have_maps_and_see_everything() -> None:
    module, inputs = networks.resnet(), networks.pictures(3)
    ((card,),) = unit_cards(module, "fc", inputs, [1], count=1)
    assert card.field == (0, 0, 32, 32)
    torch.testing.assert_close(card.heat, vv.CLRP(module).attribute(card.firing.inputs[None], 1).sum(1)[0])


def test_a_card_holds_the_parts_made_one_by_one() -> None:
    module, inputs = networks.resnet(), networks.pictures(6, 64)
    labels = torch.arange(6) % 5
    before = {name: value.clone() for name, value in module.state_dict().items()}
    told: list[int] = []
    rows = unit_cards(module, "layer1", (inputs, labels), [4, 9], count=2, progress=told.append)
    assert told == [6]
    assert [[one.firing.unit for one in row] for row in rows] == [[4, 4], [9, 9]]
    for one in (one for row in rows for one in row):
        place = (one.firing.unit, one.firing.position)
        assert list(one.field) == receptive_fields(module, "layer1", inputs, [place])[0].tolist()
        x0, y0, x1, y1 = one.field
        outside = one.heat.clone()
        outside[y0:y1, x0:x1] = 0
        assert not outside.any()
        assert one.heat.any()
        torch.testing.assert_close(one.picture, vv.Classifier(module).picture(one.firing.inputs[None])[0])
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_errors_say_what_is_wrong() -> None:
    module, inputs = networks.small(), networks.pictures(2)
    with pytest.raises(InputError, match="no unit 6 in layer 'second', which has 6"):
        strongest(module, "second", inputs, [6])
    with pytest.raises(InputError, match="at least one image"):
        strongest(module, "second", inputs, [0], count=0)
    with pytest.raises(ModelError, match="are NaN"):
        strongest(module, "second", inputs * torch.nan, [0])
    firing = strongest(module, "second", inputs, [0], count=1)[0]
    with pytest.raises(InputError, match="own units, not of another basis"):
        firing_maps(module, Layer("second", basis=random_rotation(6)), firing)
    assert unit_cards(module, "second", inputs, []) == ()
    assert firing_maps(module, "second", []) == []

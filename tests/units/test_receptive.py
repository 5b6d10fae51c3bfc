"""Receptive fields are those of the formula, of branches their hull, and the whole picture where all is mixed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from units import networks
from visavis.errors import InputError
from visavis.units import Layer, random_rotation, receptive_fields

SIDE = (29, 41)


def by_formula(layers: list[tuple[int, int, int, int]], at: int, size: int) -> tuple[int, int]:
    """The field [low, high) of a position behind layers (kernel, stride, padding, dilation), from the last back."""
    low, high = at, at
    for kernel, stride, padding, dilation in reversed(layers):
        low, high = low * stride - padding, high * stride - padding + dilation * (kernel - 1)
    return max(low, 0), min(high + 1, size)


LAYERS = [(5, 2, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2), (2, 2, 0, 1)]


class Plain(nn.Sequential):
    """Convolutions with much that hides a dependence from gradients: closed units, zero weights, lost maxima."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        first = nn.Conv2d(3, 6, 5, stride=2, padding=1)
        last = nn.Conv2d(6, 5, 3, padding=2, dilation=2)
        nn.init.zeros_(last.weight[:, :, :, 0])
        nn.init.constant_(first.bias, -3.0)
        pool = nn.MaxPool2d(3, 2, 1)
        parts = [first, nn.BatchNorm2d(6), nn.ReLU6(), pool, last, nn.Hardswish(), nn.AvgPool2d(2)]
        super().__init__(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4))
        self.double().eval()


@pytest.mark.parametrize("position", [(0, 0), (1, 2), (2, 4), (0, 4), (2, 1)])
def test_a_field_is_that_of_the_formula(position: tuple[int, int]) -> None:
    inputs = torch.randn(1, 3, *SIDE, dtype=torch.float64)
    found = receptive_fields(Plain(), "6", inputs, [(3, position)])
    (y0, y1), (x0, x1) = (by_formula(LAYERS, at, size) for at, size in zip(position, SIDE, strict=True))
    assert found.tolist() == [[x0, y0, x1, y1]]


def test_many_at_once_are_as_one_by_one_and_leave_the_model_alone() -> None:
    module, inputs = Plain(), torch.randn(1, 3, *SIDE, dtype=torch.float64)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    places = [(unit, (y, x)) for unit in (0, 4) for y, x in ((0, 1), (2, 0), (1, 3))]
    found = receptive_fields(module, "6", inputs, places)
    assert found.tolist() == [receptive_fields(module, "6", inputs, [place])[0].tolist() for place in places]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())
    assert found.unique(dim=0).shape[0] == 3


class Branches(nn.Module):
    """A unit of one branch sees less than a unit of the other, and a sum of both sees what either does."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(3, 2, 1)
        self.wide = nn.Conv2d(3, 2, 7, padding=3)
        self.joined, self.summed = nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        narrow, wide = self.narrow(x), self.wide(x)
        return (self.joined(torch.cat([narrow, wide], 1)).sum(1) + self.summed(narrow + wide).sum(1)).mean((1, 2))[
            :, None
        ]


def test_each_unit_has_its_own_field() -> None:
    module = Branches().eval()
    inputs = torch.randn(1, 3, 20, 20)
    found = receptive_fields(module, "joined", inputs, [(1, (8, 10)), (2, (8, 10))])
    assert found.tolist() == [[10, 8, 11, 9], [7, 5, 14, 12]]
    assert receptive_fields(module, "summed", inputs, [(0, (8, 10))]).tolist() == [[7, 5, 14, 12]]
    rotated = Layer("joined", basis=random_rotation(4))
    assert receptive_fields(module, rotated, inputs, [(0, (8, 10))]).tolist() == [[7, 5, 14, 12]]


def test_a_residual_network_sees_as_far_as_its_longest_way() -> None:
    module = networks.resnet()
    inputs = networks.pictures(1, 64)
    # conv1 7/2/3, maxpool 3/2/1, then two 3/1/1 of layer1.0.
    layers = [(7, 2, 3, 1), (3, 2, 1, 1), (3, 1, 1, 1), (3, 1, 1, 1)]
    (y0, y1), (x0, x1) = by_formula(layers, 9, 64), by_formula(layers, 4, 64)
    assert receptive_fields(module, "layer1", inputs, [(7, (9, 4))]).tolist() == [[x0, y0, x1, y1]]


def test_the_field_is_the_whole_picture_where_all_is_mixed() -> None:
    module, inputs = networks.vit(), networks.pictures(1)
    attended, patch = (
        receptive_fields(module, layer, inputs, [place])
        for layer, place in (("encoder.layers.encoder_layer_0", (3, (6,))), ("conv_proj", (3, (1, 2))))
    )
    assert attended.tolist() == [[0, 0, 32, 32]]
    assert patch.tolist() == [[16, 8, 24, 16]]
    pooled = receptive_fields(networks.resnet(), "fc", networks.pictures(1), [(2, ())])
    assert pooled.tolist() == [[0, 0, 32, 32]]


class Hidden(nn.Module):
    """A gate that NaN does not open, so that what lies below seems not to matter."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 5, padding=2)
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        wide = self.wide(x)
        return self.out(self.narrow(x) + torch.where(wide > 0, wide, torch.zeros_like(wide))).mean((2, 3))


def test_what_is_hidden_from_nan_makes_it_the_whole_picture() -> None:
    torch.manual_seed(0)
    module = Hidden().eval()
    nn.init.constant_(module.wide.bias, 1.0)
    assert receptive_fields(module, "out", torch.randn(1, 3, 16, 16), [(0, (7, 7))]).tolist() == [[0, 0, 16, 16]]


ACTIVATIONS = (F.relu, F.relu6, F.gelu, F.silu, F.hardswish, F.hardsigmoid, F.elu, F.leaky_relu, F.mish, F.softplus)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda one: one.__name__)
def test_activations_let_nan_through(activation: object) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 4, 3, padding=1), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(activation(self.conv(x) - 9)).mean((2, 3))

    found = receptive_fields(Net().eval(), "out", torch.randn(1, 3, 12, 12), [(1, (5, 6))])
    assert found.tolist() == [[5, 4, 8, 7]]


def test_errors_say_what_is_wrong() -> None:
    module, inputs = Plain(), torch.randn(1, 3, *SIDE, dtype=torch.float64)
    with pytest.raises(InputError, match=r"no unit 5 at position \(0, 0\).*has 5 units at positions of shape \(3, 5\)"):
        receptive_fields(module, "6", inputs, [(5, (0, 0))])
    with pytest.raises(InputError, match=r"no unit 0 at position \(0,\)"):
        receptive_fields(module, "6", inputs, [(0, (0,))])
    with pytest.raises(InputError, match="are of pictures"):
        receptive_fields(module, "6", inputs[0], [(0, (0, 0))])
    assert receptive_fields(module, "6", inputs, []).shape == (0, 4)


def test_a_field_is_found_in_few_passes_up_to_the_layer() -> None:
    module, inputs = Plain(), torch.randn(1, 3, *SIDE, dtype=torch.float64)
    passes: list[str] = []
    module[0].register_forward_hook(lambda *_: passes.append("below"))
    module[9].register_forward_hook(lambda *_: passes.append("above"))
    receptive_fields(module, "6", inputs, [(3, (1, 2))])
    # Bisection of four sides of at most 41 pixels; above the layer nothing but the first pass runs.
    assert passes.count("below") <= 4 * 7 + 2
    assert passes.count("above") == 1

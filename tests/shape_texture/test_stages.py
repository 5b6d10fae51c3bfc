"""The layers that are looked at where none is named."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.shape_texture.stages import stages


def test_the_last_layer_of_each_resolution_of_a_resnet() -> None:
    net = torchvision.models.resnet18(weights=None).eval()
    assert stages(net, torch.zeros(1, 3, 64, 64)) == ["relu", "layer1", "layer2", "layer3", "layer4"]


def test_what_a_block_does_before_it_makes_maps_smaller_is_no_stage() -> None:
    net = timm.create_model("efficientnet_lite0", pretrained=False).eval()
    assert stages(net, torch.zeros(1, 3, 64, 64)) == ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "bn2"]


def test_five_blocks_of_a_transformer() -> None:
    net = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64, depth=7).eval()
    assert stages(net, torch.zeros(1, 3, 64, 64)) == [f"blocks.{place}" for place in (0, 2, 3, 5, 6)]


def test_the_stages_of_a_network_with_units_last() -> None:
    net = torchvision.models.swin_t(weights=None).eval()
    assert stages(net, torch.zeros(1, 3, 64, 64)) == ["features.1", "features.3", "features.5", "permute"]


def test_images_need_not_be_square() -> None:
    net = torchvision.models.resnet18(weights=None).eval()
    assert stages(net, torch.zeros(1, 3, 64, 128)) == ["relu", "layer1", "layer2", "layer3", "layer4"]


def test_fewer_blocks_than_five_are_all() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    assert stages(net.eval(), torch.zeros(1, 3, 8, 8)) == ["0", "1"]


def test_a_classifier_in_whatever_mode_it_is() -> None:
    net = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, stride=3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(nn.BatchNorm1d(4), nn.Linear(4, 2)),
    )
    before = {name: one.clone() for name, one in net.state_dict().items()}
    # In training mode batch norm does not take a single image.
    assert stages(Classifier(net.train()), torch.zeros(1, 3, 9, 9)) == ["0", "1"]
    assert all(part.training for part in net.modules())
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())


def test_a_network_without_positions_is_refused() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval()
    with pytest.raises(InputError, match="no layer with positions"):
        stages(net, torch.zeros(1, 3, 8, 8))


class Net(nn.Module):
    """Halves maps so often; between them a part that returns numbers of another meaning, and one called twice."""

    def __init__(self, halvings: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Identity())
        self.halves = nn.ModuleList(nn.Sequential(nn.AvgPool2d(2), nn.Identity()) for _ in range(halvings))
        self.twice, self.heads, self.head = nn.ReLU(), Heads(), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        for half in self.halves:
            maps = half(maps)
        self.heads(maps)
        return self.head(self.twice(self.twice(maps)).mean((2, 3)))


class Heads(nn.Module):
    """Two heads of 50 tokens of 7 numbers: as many positions as no map has."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.new_zeros(len(maps), 2, 50, 7)


def test_what_is_called_twice_and_what_is_no_map_is_left_out() -> None:
    assert stages(Net(2).eval(), torch.zeros(1, 3, 16, 16)) == ["stem", "halves.0", "halves.1"]


def test_two_resolutions_are_too_few() -> None:
    """Then it is layers of the longest list: the two of the stem, though there are others."""
    found = stages(Net(1).eval(), torch.zeros(1, 3, 16, 16))
    assert found == ["stem.0", "stem.1"]


def test_blocks_are_of_the_longest_list() -> None:
    blocks = nn.Sequential(*(nn.Identity() for _ in range(12)))
    net = nn.Sequential(nn.Conv2d(3, 4, 1), blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    # Of twelve every 2.4th, the last among them.
    assert stages(net.eval(), torch.zeros(1, 3, 8, 8)) == [f"1.{place}" for place in (1, 4, 6, 9, 11)]


def test_maps_may_be_a_little_higher_or_wider_than_the_images() -> None:
    """Padding makes 18 x 16 of 16 x 16, which is a resolution; 24 x 16 is taken for something else."""
    for extra, expected in ((1, ["0", "1", "2", "3"]), (4, ["1", "2", "3"])):
        net = nn.Sequential(
            nn.Conv2d(3, 4, 1, padding=(extra, 0)), nn.AdaptiveAvgPool2d(8), nn.AvgPool2d(2), nn.AvgPool2d(2)
        )
        assert stages(net.eval(), torch.zeros(1, 3, 16, 16)) == expected


def test_the_model_is_left_as_it_was() -> None:
    net = Net(2).eval()
    before = {name: one.clone() for name, one in net.state_dict().items()}
    stages(net, torch.zeros(1, 3, 16, 16))
    assert not net.training
    assert not any(part._forward_hooks for part in net.modules())
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())


def test_a_model_that_fails_is_named() -> None:
    with pytest.raises(ModelError, match="mat1 and mat2"):
        stages(nn.Sequential(nn.Linear(3, 2)).eval(), torch.zeros(1, 3, 8, 8))


def test_blocks_may_be_numbered_within_their_names() -> None:
    net = torchvision.models.VisionTransformer(32, 8, 7, 2, 16, 32).eval()
    names = [f"encoder.layers.encoder_layer_{place}" for place in (0, 2, 3, 5, 6)]
    assert stages(net, torch.zeros(1, 3, 32, 32)) == names

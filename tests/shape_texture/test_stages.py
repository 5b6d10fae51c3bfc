"""The layers that are looked at where none is named."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from visavis.classifier import Classifier
from visavis.errors import InputError
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

"""The latents of layers, and what they encode."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from visavis.datasets.generated import Scenes
from visavis.errors import InputError
from visavis.shape_texture import Latents, ScenePairs, dimensionality, layer_dimensionality


class Net(nn.Module):
    """A ReLU that works in place after a layer must not change what the layer was."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.act(self.conv(images)).mean((2, 3)))


class Transposed(nn.Module):
    def forward(self, one: Tensor) -> Tensor:
        return one.transpose(1, 2)


def _keeping(shown: dict[str, Tensor], path: str) -> Callable[[nn.Module, object, Tensor], None]:
    def hook(_: nn.Module, __: object, output: Tensor) -> None:
        shown[path] = output.detach().clone()

    return hook


def test_latents_are_means_over_positions() -> None:
    net, images = Net().double().eval(), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    before = {name: one.clone() for name, one in net.state_dict().items()}
    found = Latents(net, ["conv", "act", "head"])(images)
    maps = nn.functional.conv2d(images, net.conv.weight, net.conv.bias)
    torch.testing.assert_close(found["conv"], maps.mean((2, 3)))
    torch.testing.assert_close(found["act"], maps.relu().mean((2, 3)))
    torch.testing.assert_close(found["head"], net(images))
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())
    assert not net.conv._forward_hooks
    parts = Latents(net, ["act"]).of_all(torch.split(images, 3))
    torch.testing.assert_close(parts["act"], found["act"])


def test_latents_of_units_that_come_last_and_of_tokens() -> None:
    swin = SwinTransformer([2, 2], 6, [1, 1], [1, 1], [2, 2], stochastic_depth_prob=0.0, num_classes=3).double().eval()
    shown: dict[str, Tensor] = {}
    layers = ["features.0", "features.1.0", "features.1.0.mlp", "features.3", "permute"]
    handles = [swin.get_submodule(path).register_forward_hook(_keeping(shown, path)) for path in layers]
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    swin(images)
    for handle in handles:
        handle.remove()
    found = Latents(swin, layers)(images)
    for path in layers[:-1]:
        assert shown[path].shape[-1] == (12 if path == "features.3" else 6)
        torch.testing.assert_close(found[path], shown[path].mean((1, 2)))
    torch.testing.assert_close(found["permute"], shown["permute"].mean((2, 3)))


def test_tokens_are_averaged() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 2, stride=2), nn.Flatten(2), Transposed(), nn.Linear(5, 4)).double().eval()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(Latents(net, ["3"])(images)["3"], net(images).mean(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_in_whatever_mode_a_model_is_it_runs_in_eval_mode(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Identity()).to(dtype).train()
    net(torch.randn(4, 3, 8, 8, dtype=dtype))
    before = {name: one.clone() for name, one in net.state_dict().items()}
    pairs = ScenePairs(5, scenes=Scenes(1, size=12), seed=2)
    found = layer_dimensionality(net, ["3"], pairs, draws=0)["3"]
    assert all(part.training for part in net.modules())
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())
    expected = layer_dimensionality(net.eval(), ["3"], pairs, draws=0, batch_size=2)["3"]
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-6)


def test_layers_one_by_one_and_all_together() -> None:
    net, pairs = Net().eval(), ScenePairs(7, scenes=Scenes(1, size=12), seed=2)
    told: list[tuple[int, int, str]] = []
    found = layer_dimensionality(
        net, ["conv", "act"], pairs, draws=20, batch_size=6, progress=lambda *one: told.append(one)
    )
    assert list(found) == ["conv", "act", "all"]
    assert told[-1][:2] == (7, 7)
    latents = Latents(net, ["conv", "act"])
    both = {
        factor: tuple(latents(torch.stack([pairs.pair(factor, index)[side] for index in range(7)])) for side in (0, 1))
        for factor in ("shape", "texture")
    }
    for path in ("conv", "act"):
        expected = dimensionality({factor: (one[path], two[path]) for factor, (one, two) in both.items()}, draws=20)
        torch.testing.assert_close(found[path].scores, expected.scores, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(found[path].low, expected.low, rtol=1e-5, atol=1e-7)
    assert found["all"].units == 10
    torch.testing.assert_close(
        found["all"].scores,
        dimensionality(
            {
                factor: tuple(torch.cat([one["conv"], one["act"]], 1) for one in sides)  # type: ignore[misc]
                for factor, sides in both.items()
            },
            draws=0,
        ).scores,
        rtol=1e-5,
        atol=1e-7,
    )


def test_a_layer_that_sees_the_outline_alone_encodes_shape() -> None:
    """Latents that are the mask, pooled to a grid, are alike within a shape pair and not within a texture pair."""

    class Mask(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.Flatten()

        def forward(self, images: Tensor) -> Tensor:
            return self.cells(nn.functional.avg_pool2d(images, 4))

    class Outlines(ScenePairs):
        def pair(self, factor, index):  # type: ignore[no-untyped-def]
            from visavis.datasets.scenes import render

            drawn = [render(scene, 16).masks[0] for scene in self.scene_pair(factor, index)]
            return tuple(torch.from_numpy(one).float().expand(3, -1, -1).clone() for one in drawn)

    pairs = Outlines(60, scenes=Scenes(1, size=16))
    found = layer_dimensionality(Mask().eval(), ["cells"], pairs, estimator="share", draws=0)["cells"]
    shape, texture = found.scores.tolist()
    assert shape > 0.85
    assert abs(texture) < 0.2


def test_what_is_refused() -> None:
    pairs = ScenePairs(2, scenes=Scenes(1, size=12))
    with pytest.raises(InputError, match="at least one layer"):
        layer_dimensionality(Net().eval(), [], pairs)
    with pytest.raises(InputError, match="named twice"):
        layer_dimensionality(Net().eval(), ["conv", "conv"], pairs)
    named = nn.Sequential()
    named.add_module("all", nn.Conv2d(3, 2, 3))
    named.add_module("act", nn.ReLU())
    with pytest.raises(InputError, match="a layer is called 'all'"):
        layer_dimensionality(named.eval(), ["all", "act"], pairs)
    assert list(layer_dimensionality(named, ["all"], pairs, draws=0)) == ["all"]
    told: list[tuple[int, int, str]] = []
    for options in ({"estimator": "mutual"}, {"draws": 1}, {"seed": -1}):
        with pytest.raises(InputError, match=r"mutual|draws is 1|the seed is"):
            layer_dimensionality(Net().eval(), ["conv"], pairs, progress=lambda *one: told.append(one), **options)
    assert not told, "options are refused before any picture is drawn"
    with pytest.raises(InputError, match="batch_size is 0"):
        layer_dimensionality(Net().eval(), ["conv"], pairs, batch_size=0)
    with pytest.raises(InputError, match="at least two were expected"):
        layer_dimensionality(Net().eval(), ["conv"], ScenePairs(1, scenes=Scenes(1, size=12)))


def test_a_layer_that_holds_nan_is_named() -> None:
    net = Net()
    net.head.weight.data[0, 0] = torch.nan
    with pytest.raises(InputError, match="layer 'head' holds NaN or infinity on pairs that share the shape"):
        layer_dimensionality(net, ["conv", "head"], ScenePairs(3, scenes=Scenes(1, size=16)), draws=0)

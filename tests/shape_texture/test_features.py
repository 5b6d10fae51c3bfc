"""Maps of a frozen network's layers: the layers' own, and the network as it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.shape_texture.features import concatenated, kept_units, maps_of
from visavis.shape_texture.images import whole_images
from visavis.shape_texture.latents import Latents
from visavis.units.layer import Layer


class Net(nn.Module):
    """With all that a mode changes, and a ReLU that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.low = nn.Conv2d(5, 4, 3, stride=2)
        self.last = nn.Identity()
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.low(self.drop(self.act(self.norm(self.conv(images)))))
        return self.head(self.last(maps.permute(0, 2, 3, 1)).mean((1, 2)))


def net() -> Net:
    found = Net().double()
    found.norm.running_mean.uniform_(-1, 1)
    found.norm.running_var.uniform_(0.5, 2)
    return found


def images() -> Tensor:
    return torch.rand(3, 3, 9, 11, dtype=torch.float64)


def expected(one: Net, inputs: Tensor) -> dict[str, Tensor]:
    """By the formulas, with the statistics that batch norm has kept."""
    conv = F.conv2d(inputs, one.conv.weight, one.conv.bias)
    mean, var = one.norm.running_mean[:, None, None], one.norm.running_var[:, None, None]
    norm = (conv - mean) / (var + one.norm.eps).sqrt()
    act = norm.relu()
    return {"norm": norm, "act": act, "low": F.conv2d(act, one.low.weight, one.low.bias, stride=2)}


@pytest.mark.parametrize("training", [False, True])
def test_maps_are_the_layers_own_in_eval_mode_and_the_model_is_left(training: bool) -> None:
    one, inputs = net().train(training), images()
    one.drop.train(not training)
    one.conv.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in one.state_dict().items()}
    drawn = torch.random.get_rng_state()
    found = maps_of(one, ["norm", "act", "low"], inputs)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert list(found) == ["norm", "act", "low"]
    for path, maps in expected(one, inputs).items():
        torch.testing.assert_close(found[path], maps)
        assert not found[path].requires_grad
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())
    assert [one.training, one.norm.training, one.drop.training] == [training, training, not training]
    assert not one.conv.weight.requires_grad
    assert one.low.weight.requires_grad
    assert not one.conv._forward_hooks
    torch.testing.assert_close(maps_of(Classifier(one), "low", inputs)["low"], found["low"])


def test_the_model_is_left_after_an_error_too() -> None:
    one = net().train()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    with pytest.raises(ModelError):
        maps_of(one, "conv", images()[:, :2])
    with pytest.raises(InputError):
        maps_of(one, ["conv", "head"], images())
    assert all(part.training for part in one.modules())
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())
    assert not one.conv._forward_hooks


def test_units_that_come_last_are_named_so() -> None:
    one, inputs = net(), images()
    found = maps_of(one, ["low", Layer("last", unit_dim=-1)], inputs)
    torch.testing.assert_close(found["last"], found["low"])


def test_a_call_from_the_end() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            return self.conv(self.conv(images)).mean((2, 3))

    one, inputs = Twice().double(), images()
    torch.testing.assert_close(maps_of(one, Layer("conv", call=-1), inputs)["conv"], one.conv(one.conv(inputs)))
    torch.testing.assert_close(maps_of(one, Layer("conv", call=0), inputs)["conv"], one.conv(inputs))
    with pytest.raises(ModelError, match="called 2 times"):
        maps_of(one, "conv", inputs)


def test_concatenation_by_hand() -> None:
    small, large = torch.rand(2, 3, 2, 5), torch.rand(2, 1, 4, 3)
    found = concatenated([small, large])
    assert found.shape == (2, 4, 4, 5)
    # Rows of a map of two become four, at −¼, ¼, ¾, 1¼ of it; beyond the first and last there are these.
    first, second = small[:, :, 0], small[:, :, 1]
    rows = [first, 0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second, second]
    torch.testing.assert_close(found[:, :3], torch.stack(rows, 2))
    # Columns of three become five, at (i + ½) · 3/5 − ½.
    left, middle, right = large.unbind(3)
    columns = [left, 0.6 * left + 0.4 * middle, middle, 0.4 * middle + 0.6 * right, right]
    torch.testing.assert_close(found[:, 3:], torch.stack(columns, 3))
    assert torch.equal(concatenated([large]), large)


def test_kept_units_are_slices_in_their_order() -> None:
    units = {"a": torch.rand(2, 5, 3, 3), "b": torch.rand(2, 2, 3, 3)}
    found = kept_units(units, {"a": torch.tensor([4, 1])})
    assert torch.equal(found["a"], torch.stack([units["a"][:, 4], units["a"][:, 1]], 1))
    assert torch.equal(found["b"], units["b"])
    for wrong in (5, -1):
        with pytest.raises(InputError, match=f"no unit {wrong}; its 5 units go from 0 to 4"):
            kept_units(units, {"a": torch.tensor([0, wrong])})
    with pytest.raises(InputError, match="units of layer 'c' are kept, but the layers are 'a', 'b'"):
        kept_units(units, {"c": torch.tensor([0])})


def test_normalisation_without_the_crop() -> None:
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    steps = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Resize(20), v2.CenterCrop(12)]
    preprocess = v2.Compose([*steps, v2.Normalize(mean, std)])
    given = images()
    inputs = whole_images(Classifier(Net(), preprocess=preprocess))(given)
    wanted = (given.float() - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(inputs, wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(whole_images(Net().double())(given.float()), given.float().double())
    swapped = v2.Compose([*steps, v2.Lambda(lambda one: one.flip(0))])
    bent = v2.Compose([*steps, v2.Lambda(lambda one: one**2)])
    for wrong in (swapped, bent):
        with pytest.raises(InputError, match=r"no linear normalisation .* prepare="):
            whole_images(Classifier(Net(), preprocess=wrong))


def test_what_is_refused() -> None:
    one, inputs = net(), images()
    with pytest.raises(InputError, match="at least one layer"):
        maps_of(one, [], inputs)
    with pytest.raises(InputError, match="named twice"):
        maps_of(one, ["conv", Layer("conv")], inputs)
    with pytest.raises(InputError, match="there is no layer 'convs'"):
        maps_of(one, "convs", inputs)
    with pytest.raises(InputError, match=r"'head' are \(3, 2\), but maps \(B, N, h, w\) were expected"):
        maps_of(one, ["conv", "head"], inputs)


def test_tokens_are_refused() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 4, 3, stride=3)
            self.mix = nn.Linear(4, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.mix(self.patches(images).flatten(2).transpose(1, 2)).mean(1)

    one = Tokens().double()
    with pytest.raises(InputError, match=r"'mix' .* made tokens"):
        maps_of(one, "mix", images())
    assert maps_of(one, "patches", images())["patches"].shape == (3, 4, 3, 3)


class Last(nn.Module):
    """Linear maps on (B, h, w, N), with as many columns as units, and convolutions between them, as ConvNeXt has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(6, 5)
        self.act = nn.GELU()
        self.back = nn.Identity()
        self.swapped = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        mixed = self.act(self.mix(self.norm(self.conv(images).permute(0, 2, 3, 1))))
        self.swapped(mixed.transpose(1, 2))
        return self.back(mixed.permute(0, 3, 1, 2)).mean((2, 3))


def test_units_that_come_last_are_found_by_what_made_them() -> None:
    one, inputs = Last().double(), torch.rand(2, 3, 9, 8, dtype=torch.float64)
    found = maps_of(one, ["conv", "norm", "act", "back"], inputs)
    conv = F.conv2d(inputs, one.conv.weight, one.conv.bias)
    norm = F.layer_norm(conv.movedim(1, -1), (6,), one.norm.weight, one.norm.bias)
    act = F.gelu(norm @ one.mix.weight.T + one.mix.bias).movedim(-1, 1)
    assert found["act"].shape == (2, 5, 7, 6)
    for path, maps in {"conv": conv, "norm": norm.movedim(-1, 1), "act": act, "back": act}.items():
        torch.testing.assert_close(found[path], maps)


def test_units_of_which_it_cannot_be_told_where_they_are_are_refused() -> None:
    one, inputs = Last().double(), torch.rand(2, 3, 7, 9, dtype=torch.float64)
    with pytest.raises(InputError, match=r"\(2, 7, 5, 5\), in which it cannot be told .* unit_dim"):
        maps_of(one, "swapped", inputs)
    found = maps_of(one, [Layer("swapped", unit_dim=-1), "act"], inputs)
    torch.testing.assert_close(found["swapped"], found["act"].transpose(2, 3))


def test_threads_do_not_take_each_others_mode_for_the_models_own() -> None:
    one = net().train()
    inputs = images()
    begun, go = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        begun.set()
        go.wait(10)

    handle = one.conv.register_forward_pre_hook(hold)
    first = threading.Thread(target=maps_of, args=(one, "low", inputs))
    first.start()
    assert begun.wait(10)
    handle.remove()
    second = threading.Thread(target=maps_of, args=(one, "low", inputs))
    second.start()
    time.sleep(0.05)
    go.set()
    first.join()
    second.join()
    assert all(part.training for part in one.modules())


class Through(nn.Module):
    """With a layer that returns what a function makes of the images."""

    def __init__(self, made: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.made, self.layer = made, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(self.made(images)).abs().float().flatten(1).sum(1, keepdim=True)


def _whole(images: Tensor) -> Tensor:
    return (10 * images).long()


def _without_positions(images: Tensor) -> Tensor:
    return images[:, :, :0]


def _without_units(images: Tensor) -> Tensor:
    return images[:, :0]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (torch.fft.fft2, "returns torch.complex128, but real floating-point numbers"),
        (_whole, "returns torch.int64, but real floating-point numbers"),
        (_without_positions, r"returns \(3, 3, 0, 11\), in which there is nothing"),
        (_without_units, r"returns \(3, 0, 9, 11\), in which there is nothing"),
    ],
    ids=["complex", "whole", "no positions", "no units"],
)
def test_activations_that_are_refused(made: Callable[[Tensor], Tensor], said: str) -> None:
    with pytest.raises(InputError, match=f"layer 'layer' {said}"):
        maps_of(Through(made), "layer", images())
    with pytest.raises(InputError, match=f"layer 'layer' {said}"):
        Latents(Through(made), ["layer"])(images())

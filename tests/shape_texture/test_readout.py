"""Read-outs: layers of which it is known what they hold, training by hand, and networks that are left as they were."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.datasets import Scenes
from visavis.errors import InputError, ModelError
from visavis.shape_texture.encoders import random_encoder
from visavis.shape_texture.overlap import mean_iou_interval
from visavis.shape_texture.readout import Readout, readout
from visavis.shape_texture.readout_head import head_of
from visavis.shape_texture.segmented import SceneSegments, Segmented
from visavis.units.layer import Layer


class Listed(Segmented):
    """Images and labels as they are given."""

    name = "listed"

    def __init__(self, items: Sequence[tuple[Tensor, Tensor]], names: tuple[str, ...] = ("background", "a", "b")):
        self._items, self.names = items, names

    def __len__(self) -> int:
        return len(self._items)

    def item(self, index: int) -> tuple[Tensor, Tensor]:
        return self._items[index]


def coded(count: int = 6, size: int = 9, seed: int = 0, void: float = 0.1) -> Listed:
    """Images whose first channel tells the label, also where that is void, in blocks of three; the rest is noise."""
    chance = torch.Generator().manual_seed(seed)
    items = []
    for _ in range(count):
        blocks = torch.multinomial(torch.tensor([0.6, 0.25, 0.15]), (size // 3) ** 2, True, generator=chance)
        labels = blocks.view(size // 3, -1).repeat_interleave(3, 0).repeat_interleave(3, 1)
        image = torch.rand(3, size, size, generator=chance)
        image[0] = labels / 10
        labels = torch.where(torch.rand(labels.shape, generator=chance) < void, 255, labels)
        items.append((image, labels))
    return Listed(items)


class Known(nn.Module):
    """Layers that hold the label of each pixel, one unit a class, and nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = nn.Identity()
        self.nothing = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        here = torch.stack([((images[:, 0] * 10).round() == k).to(images) for k in range(3)], 1)
        return (self.labels(here) + self.nothing(torch.zeros_like(here))).mean((2, 3))


class Small(nn.Module):
    """With all that a mode changes, and layers of two sizes."""

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(dropout)
        self.low = nn.Conv2d(4, 5, 3, stride=2)
        self.head = nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.low(self.drop(self.norm(self.conv(images)).relu())).mean((2, 3)))


def small(dropout: float = 0.5) -> Small:
    torch.manual_seed(8)
    return Small(dropout).double()


OPTIONS = {"epochs": 2, "batch_size": 2, "draws": 0, "widths": (6, 4)}


def read(model: nn.Module | Classifier, layers: str | list[str | Layer], **options: object) -> Readout:
    return readout(model, layers, coded(5), coded(4, seed=1), **{**OPTIONS, **options})  # type: ignore[arg-type]


def weights(found: Readout) -> Tensor:
    return torch.cat([one.detach().flatten().double() for one in found.head.parameters()])


# -- layers of which it is known what they hold ------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["semantic", "binary"])
def test_a_layer_that_is_the_label_map_tells_all(task: str) -> None:
    test = coded(4, seed=1)
    found = readout(Known(), "labels", coded(8), test, task=task, epochs=40, rate=1.0, batch_size=4)  # type: ignore[arg-type]
    assert found.miou > 0.99
    assert found.accuracy > 0.99
    assert found.names == (("background", "a", "b") if task == "semantic" else ("background", "object"))
    predicted = found.predict(torch.stack([test[index][0] for index in range(4)]))
    truth = torch.stack([(test[index][0][0] * 10).round().long() for index in range(4)])
    # Also where the label is void, which nobody told the head.
    assert float((predicted == (truth if task == "semantic" else truth.clamp(max=1))).double().mean()) > 0.99


def test_a_layer_that_holds_nothing_tells_the_most_frequent_class() -> None:
    found = read(Known(), "nothing", epochs=30, rate=0.3)
    labels = torch.stack([coded(4, seed=1)[index][1] for index in range(4)])
    share = int((labels == 0).sum()) / int((labels != 255).sum())
    assert found.accuracy == pytest.approx(share, rel=1e-12)
    assert found.iou.tolist() == pytest.approx([share, 0, 0], rel=1e-12)
    assert found.miou == pytest.approx(share / 3, rel=1e-12)


def test_scores_are_those_of_what_it_predicts() -> None:
    found, test = read(small(), ["conv", "low"], draws=80, seed=4), coded(4, seed=1)
    for index, counts in enumerate(found.confusions):
        image, labels = test[index]
        predicted = found.predict(image[None])[0]
        expected = torch.zeros(3, 3, dtype=torch.int64)
        for guess, right in zip(predicted.flatten().tolist(), labels.flatten().tolist(), strict=True):
            if right != 255:
                expected[right, guess] += 1
        assert torch.equal(counts, expected)
    assert torch.equal(found.confusion, found.confusions.sum(0))
    assert (found.low, found.high) == mean_iou_interval(found.confusions, draws=80, seed=4)
    assert str(found) == f"mIoU {found.miou:.3f} ({found.low:.3f} to {found.high:.3f}) of 3 classes by 9 units"
    assert np.isnan(read(small(), "low").low)


# -- training by hand --------------------------------------------------------------------------------------------------


def by_hand(
    parameters: list[tuple[Tensor, float]], loss_of: object, train: Listed, task: str, rate: float, seed: int
) -> list[float]:
    """Two epochs in batches of two: momentum 0.9, decay 5e-4, the rate falling as (1 − t/T)^0.9."""
    order = np.random.default_rng(seed)
    batches = [chosen[start : start + 2] for chosen in (order.permutation(5), order.permutation(5)) for start in (0, 2)]
    speed = [torch.zeros_like(one) for one, _ in parameters]
    losses = []
    for step, chosen in enumerate(batches):
        images = torch.stack([train[int(index)][0] for index in chosen]).double()
        labels = torch.stack([train[int(index)][1] for index in chosen])
        if task == "binary":
            labels = torch.where(labels == 255, 255, (labels > 0).long())
        logits = F.interpolate(loss_of(images), labels.shape[1:], mode="bilinear")  # type: ignore[operator]
        known = (labels != 255).double()
        right = logits.log_softmax(1).gather(1, labels.clamp(max=logits.shape[1] - 1)[:, None])[:, 0]
        loss = -(right * known).sum() / known.sum()
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, [one for one, _ in parameters])
        with torch.no_grad():
            for place, ((one, share), gradient) in enumerate(zip(parameters, gradients, strict=True)):
                speed[place] = 0.9 * speed[place] + gradient + 5e-4 * one
                one.sub_(rate * share * (1 - step / len(batches)) ** 0.9 * speed[place])
    return losses


@pytest.mark.parametrize("task", ["semantic", "binary"])
@pytest.mark.parametrize("depth", [1, 3])
def test_steps_of_training_by_hand(depth: int, task: str) -> None:
    model, classes = small(), 3 if task == "semantic" else 2
    found = read(model, "low", depth=depth, task=task, rate=0.3, seed=7)
    head = head_of(depth, 5, classes, widths=(6, 4), seed=7).double()
    assert [type(one).__name__ for one in head] == ["Conv2d", "BatchNorm2d", "ReLU"] * (depth - 1) + ["Conv2d"]
    model.eval()

    def logits(images: Tensor) -> Tensor:
        with torch.no_grad():
            maps = model.low(model.norm(model.conv(images)).relu())
        return head(maps)

    losses = by_hand([(one, 1.0) for one in head.parameters()], logits, coded(5), task, 0.3, 7)
    assert found.losses.tolist() == pytest.approx(losses, rel=1e-9)
    torch.testing.assert_close(dict(found.head.state_dict()), dict(head.state_dict()))
    assert not found.head.training


def test_end_to_end_by_hand_on_a_copy() -> None:
    model = small(dropout=0).eval()
    model.conv.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = read(model, "low", train_encoder=True, rate=0.3, seed=7)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert not model.conv.weight.requires_grad
    head, own = head_of(1, 5, 3, seed=7).double(), copy.deepcopy(model).train()
    parts = [own.conv.weight.requires_grad_(), own.conv.bias, own.norm.weight, own.norm.bias]
    below = [(one, 0.1) for one in (*parts, own.low.weight, own.low.bias)]
    parameters = [(one, 1.0) for one in head.parameters()] + below
    losses = by_hand(
        parameters, lambda images: head(own.low(own.norm(own.conv(images)).relu())), coded(5), "semantic", 0.3, 7
    )
    assert found.losses.tolist() == pytest.approx(losses, rel=1e-9)
    torch.testing.assert_close(dict(found.head.state_dict()), dict(head.state_dict()))
    # Statistics of batch norm too, which move in training mode.
    torch.testing.assert_close(dict(found.encoder.state_dict()), dict(own.state_dict()))
    assert not found.encoder.training
    own.eval()
    images = torch.stack([coded(4, seed=1)[index][0] for index in range(4)]).double()
    logits = head(own.low(own.norm(own.conv(images)).relu()))
    assert torch.equal(found.predict(images), F.interpolate(logits, (9, 9), mode="bilinear").argmax(1))


def test_a_batch_of_void_alone_teaches_nothing() -> None:
    image, labels = coded(1)[0]
    void = (image, torch.full_like(labels, 255))
    found = readout(Known(), "labels", Listed([void, (image, labels)]), coded(2), epochs=1, batch_size=1, draws=0)
    order = np.random.default_rng(0).permutation(2)
    assert np.isnan(found.losses.numpy()).tolist() == (order == 0).tolist()
    assert bool(weights(found).isfinite().all())


# -- the network is left as it was -------------------------------------------------------------------------------------


def test_a_frozen_network_is_frozen() -> None:
    model = small().train()
    model.drop.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.random.get_rng_state()
    found = read(model, ["conv", "low"], depth=3)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [model.training, model.norm.training, model.drop.training] == [True, True, False]
    assert all(one.requires_grad and one.grad is None for one in model.parameters())
    assert not model.conv._forward_hooks
    same = read(model.eval(), ["conv", "low"], depth=3)
    assert torch.equal(weights(same), weights(found))
    assert torch.equal(same.confusions, found.confusions)


def _enlarged(images: Tensor) -> Tensor:
    return images.double() * 1e160


def test_the_network_is_left_when_training_fails() -> None:
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for options, advice in (({"prepare": _enlarged}, ", or standardise=True"), ({"train_encoder": True}, "")):
        with pytest.raises(ModelError, match=rf"diverged: the loss is .* take a lower rate than 1e\+06{advice}$"):
            read(model, "low", rate=1e6, epochs=10, **options)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(part.training for part in model.modules())
        assert not model.low._forward_hooks


def test_where_gradients_are_off() -> None:
    expected = weights(read(small(), "low"))
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            assert torch.equal(weights(read(small(), "low")), expected)


# -- options -----------------------------------------------------------------------------------------------------------


def test_the_same_for_a_seed() -> None:
    model, drawn = small(), torch.random.get_rng_state()
    first = read(model, "low", train_encoder=True, seed=1)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    torch.rand(5)
    again, other = (read(model, "low", train_encoder=True, seed=seed) for seed in (1, 2))
    assert torch.equal(weights(first), weights(again))
    assert torch.equal(first.losses, again.losses)
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("option", ["depth", "task", "epochs", "batch_size", "rate", "seed", "standardise", "widths"])
def test_each_option_bites(option: str) -> None:
    values = {"depth": 3, "task": "binary", "epochs": 3, "batch_size": 3, "rate": 0.5, "seed": 9, "standardise": True}
    base: dict[str, object] = {"depth": 3} if option == "widths" else {}
    one = read(small(), "low", **base)
    other = read(small(), "low", **base, **{option: {**values, "widths": (5, 3)}[option]})
    assert not torch.equal(one.losses, other.losses) or weights(one).shape != weights(other).shape


def test_units_that_are_kept_are_all_that_is_read() -> None:
    """As if the layer had these alone."""
    units, model = [3, 0], small()
    found = read(model, ["conv", "low"], keep={"low": units}, rate=0.3)
    cut = copy.deepcopy(model)
    cut.low.weight = nn.Parameter(model.low.weight[units].detach().clone())
    cut.low.bias = nn.Parameter(model.low.bias[units].detach().clone())
    cut.head = nn.Linear(2, 2).double()
    same = read(cut, ["conv", "low"], rate=0.3)
    assert (found.units, same.units) == (6, 6)
    torch.testing.assert_close(weights(found), weights(same))
    assert torch.equal(found.confusions, same.confusions)
    assert not torch.equal(read(model, ["conv", "low"], keep={"low": [3, 1]}, rate=0.3).losses, found.losses)
    images = torch.stack([coded(4, seed=1)[index][0] for index in range(4)]).double()
    kept = found.predict(images)
    with torch.no_grad():
        model.low.weight[[1, 2, 4]] += 5
        model.low.bias[[1, 2, 4]] -= 5
    assert torch.equal(found.predict(images), kept)
    by_tensor = read(model, ["conv", "low"], keep={"low": torch.tensor(units)}, rate=0.3)
    assert torch.equal(weights(by_tensor), weights(found))
    learnt = read(model, "low", keep={"low": units}, rate=0.3, train_encoder=True)
    assert learnt.units == 2


def test_maps_that_do_not_fit_are_computed_again() -> None:
    seen: list[int] = []

    def prepare(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.double()

    def passes(memory: int) -> tuple[int, Readout]:
        seen.clear()
        found = read(small(), ["conv", "low"], prepare=prepare, standardise=True, memory=memory)
        return sum(seen), found

    # Maps of 9 units of 9 × 9 in float64 and as many labels of one byte, of each of five images.
    needed = 5 * (9 * 81 * 8 + 81)
    (kept, first), (again, other) = passes(needed), passes(needed - 1)
    # One to see how large, five to learn from, four to test on; and twice two batches of two.
    assert (kept, again) == (1 + 5 + 4, 1 + 5 + 4 + 8)
    assert torch.equal(weights(first), weights(other))
    assert torch.equal(first.confusions, other.confusions)


def test_standardised_units_have_mean_nothing_and_deviation_one() -> None:
    model = small()
    with torch.no_grad():
        model.low.weight[2] = 0
        model.low.bias[2] = 0.1
    found = read(model, "low", standardise=True, rate=0.3)
    model.eval()
    images = torch.stack([coded(5)[index][0] for index in range(5)]).double()
    maps = model.low(model.norm(model.conv(images)).relu()).detach()
    mean, deviation = maps.mean((0, 2, 3)), maps.std((0, 2, 3), correction=0)
    deviation[2] = 1
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled.low.weight /= deviation[:, None, None, None]
        scaled.low.bias.copy_((model.low.bias - mean) / deviation)
    same = read(scaled, "low", rate=0.3)
    torch.testing.assert_close(found.losses, same.losses)
    torch.testing.assert_close(weights(found), weights(same))
    assert torch.equal(found.confusions, same.confusions)


def test_units_that_never_vary_are_not_divided_by_rounding() -> None:
    class Constants(nn.Module):
        """Of which sums of many are rounded."""

        def __init__(self) -> None:
            super().__init__()
            self.maps = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            values = torch.tensor([0.1, 0.3, 1 / 3, 0.7, 5e4 / 7], dtype=torch.float64)
            return self.maps(values.view(-1, 1, 1) + 0 * images[:, :1]).mean((2, 3))

    found = read(Constants().double(), "maps", standardise=True)
    assert found.head[0].deviation.flatten().tolist() == [1] * 5


def test_inputs_are_made_by_prepare() -> None:
    plain, other = read(small(), "low"), read(small(), "low", prepare=lambda images: images.double() * 2)
    assert not torch.equal(plain.losses, other.losses)
    same = read(small(), "low", prepare=lambda images: images.double())
    assert torch.equal(plain.losses, same.losses)
    assert torch.equal(read(Classifier(small()), "low").losses, plain.losses)


def test_progress_is_told() -> None:
    told: list[tuple[int, int, str]] = []
    read(small(), "low", progress=lambda *one: told.append(one))
    assert told == [
        *((done, 5, "training images") for done in (2, 4, 5)),
        *((done, 4, "steps of training") for done in (1, 2, 3, 4)),
        *((done, 4, "test images") for done in (2, 4)),
    ]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depth": 2}, "depth is 2, but 1 or 3"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"rate": -0.1}, "rate is -0.1"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"rate": 1e300}, r"rate is 1e\+300, but a number above 0, and at most 1e\+06"),
        ({"draws": -1}, "draws is -1"),
        ({"draws": 1}, "draws is 1"),
        ({"memory": -1}, "memory is -1"),
        ({"seed": -1}, "seed is a whole number"),
        ({"depth": 3, "widths": (0, 4)}, "at least 1"),
        ({"keep": {"low": []}}, "indices were expected"),
        ({"keep": {"low": [1, 1]}}, "kept twice"),
        ({"keep": {"low": [-1]}}, "no unit -1"),
        ({"keep": {"low": [5]}}, "no unit 5"),
        ({"keep": {"conv": [0]}}, "units of layer 'conv' are kept"),
        ({"standardise": True, "train_encoder": True}, "cannot be standardised"),
    ],
    ids=[
        *("depth", "epochs", "batch size", "rate", "nan", "high", "draws", "one draw", "memory", "seed", "widths"),
        *("no units", "twice", "negative unit", "unit", "layer", "standardised"),
    ],
)
def test_options_that_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(small(), "low", **options)


def test_layers_that_are_refused() -> None:
    with pytest.raises(InputError, match="no layer 'lows'"):
        read(small(), "lows")
    with pytest.raises(InputError, match=r"'head' are .* maps \(B, N, h, w\) were expected"):
        read(small(), "head")
    with pytest.raises(InputError, match="named twice"):
        read(small(), ["low", "low"])


def test_data_that_are_refused() -> None:
    image, labels = coded(1)[0]
    good, names = Listed([(image, labels)] * 2), ("background", "a", "b")

    def refused(said: str, train: Segmented = good, test: Segmented = good, task: str = "semantic") -> None:
        with pytest.raises(InputError, match=said):
            readout(small(), "low", train, test, epochs=1, task=task)  # type: ignore[arg-type]

    refused("there are no training images", train=Listed([]))
    refused("there are no test images", test=Listed([]))
    refused("but test images background, a, c", test=Listed([(image, labels)], ("background", "a", "c")))
    refused(r"has 1 class\(es\)", train=Listed([(image, labels * 0)], names[:1]))
    for task in ("semantic", "binary"):
        refused("the training images .* are of one class", train=Listed([(image, labels * 0)], names), task=task)
        refused("the training images .* are void", train=Listed([(image, labels * 0 + 255)], names), task=task)
        refused("the test images .* are void", test=Listed([(image, labels * 0 + 255)], names), task=task)
        refused("the label 3 is none of the 3", train=Listed([(image, labels * 0 + 3)], names), task=task)
        refused("the label -1 is none of the 3", test=Listed([(image, labels * 0 - 1)], names), task=task)
    refused("have the classes|9 x 8 pixels", train=Listed([(image, labels), (image[:, :, 1:], labels[:, 1:])], names))
    refused("with labels .8, 9., but", test=Listed([(image, labels[1:])], names))
    refused("is torch.uint8", train=Listed([((image * 255).byte(), labels)], names))
    with pytest.raises(InputError, match=r"images .* were expected, not"):
        read(small(), "low").predict(image)


def test_other_classes_will_do_for_the_binary_task() -> None:
    image, labels = coded(1)[0]
    train, test = Listed([(image, labels)]), Listed([(image, labels.where(labels != 2, 1))], ("background", "thing"))
    found = readout(small(), "low", train, test, task="binary", epochs=1, draws=0)
    assert torch.equal(
        found.confusion, readout(small(), "low", train, train, task="binary", epochs=1, draws=0).confusion
    )


class Scaled(nn.Module):
    """A layer of the images, times a number; of images that are bright in all channels, NaN."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale, self.layer = scale, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        bright = images.amin((1, 2, 3), keepdim=True) > 1
        return self.layer(torch.where(bright, torch.nan, images * self.scale)).mean((2, 3))


class Steep(nn.Module):
    """With a parameter that changes nothing, but whose gradient is large; and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.layer = nn.Parameter(torch.ones(())), nn.Identity()
        self.register_buffer("mask", torch.full((2,), -torch.inf))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images + (self.weight - self.weight.detach()) * 1e38).mean((2, 3))


@pytest.mark.parametrize("scale", [1e36, 1e20], ids=["weights", "logits"])
def test_a_last_step_that_diverges_is_refused(scale: float) -> None:
    said = {
        1e36: r"after the last of 1 steps 0\.weight of the head holds NaN or infinity; take a lower rate than 1e\+06",
        1e20: "training diverged: of finite maps the head makes logits that are NaN or infinite",
    }
    with pytest.raises(ModelError, match=said[scale]):
        readout(Scaled(scale), "layer", coded(2), coded(2), epochs=1, batch_size=2, rate=1e6)


def test_an_encoder_that_diverges_in_the_last_step_is_refused() -> None:
    with pytest.raises(ModelError, match="after the last of 1 steps weight of the encoder holds NaN or infinity"):
        readout(Steep(), "layer", coded(2), coded(2), epochs=1, batch_size=2, rate=1e4, train_encoder=True)
    # What was infinite before has not diverged.
    found = readout(Steep(), "layer", coded(2), coded(2), epochs=1, batch_size=2, rate=1e-30, train_encoder=True)
    assert bool(found.losses.isfinite().all())


def test_layers_that_hold_nan_are_told_from_training_that_diverges() -> None:
    bright = Listed([(image + 2, labels) for image, labels in (coded(2)[0], coded(2)[1])])
    for options in ({}, {"train_encoder": True}):
        with pytest.raises(ModelError, match="the maps of 'layer' hold NaN or infinity on training images"):
            readout(Scaled(), "layer", bright, coded(2), epochs=1, **options)
    with pytest.raises(ModelError, match="the maps of 'layer' hold NaN or infinity on test images"):
        readout(Scaled(), "layer", coded(2), bright, epochs=1)
    with pytest.raises(ModelError, match="hold NaN or infinity on these images"):
        readout(Scaled(), "layer", coded(2), coded(2), epochs=1).predict(bright[0][0][None])
    large = Listed([(image.double(), labels) for image, labels in (coded(2)[0], coded(2)[1])])
    with pytest.raises(ModelError, match="training images, or numbers too large to be standardised"):
        readout(Scaled(1e200), "layer", large, large, epochs=1, standardise=True)


def test_layers_without_positions_or_of_complex_numbers_are_refused() -> None:
    for model, said in ((Empty(), "in which there is nothing"), (Waves(), "returns torch.complex64")):
        for options in ({}, {"train_encoder": True}):
            with pytest.raises(InputError, match=f"layer 'layer' .*{said}"):
                readout(model, "layer", coded(2), coded(2), epochs=1, **options)


class Empty(Scaled):
    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images[:, :, :0]).sum((2, 3))


class Waves(Scaled):
    def forward(self, images: Tensor) -> Tensor:
        return self.layer(torch.fft.fft2(images)).abs().mean((2, 3))


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_network_that_has_learnt_shapes_tells_more_than_a_random_one() -> None:
    torch.manual_seed(0)
    kinds = {"shapes": ("disc", "star", "cross"), "size": 32, "sizes": (0.45, 0.7)}
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3)),
    )
    drawn = Scenes(480, seed=1, **kinds)
    scenes = [drawn[index] for index in range(480)]
    images, labels = torch.stack([one.picture for one in scenes]), torch.stack([one.label for one in scenes])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(120):
        chosen = torch.randint(480, (32,))
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def segments(count: int, seed: int) -> Listed:
        data = SceneSegments(Scenes(count, seed=seed, **kinds))
        return Listed([data[index] for index in range(count)], data.names)

    train, test = segments(96, 2), segments(48, 3)

    def miou(one: nn.Module, depth: int) -> float:
        return readout(
            one, "10", train, test, depth=depth, epochs=12, rate=0.1, standardise=True, widths=(32, 16), draws=0
        ).miou

    random = random_encoder(model, seed=5)
    by_one, by_three = miou(model, 1), miou(model, 3)
    assert by_one > miou(random, 1) + 0.1
    assert by_three > by_one

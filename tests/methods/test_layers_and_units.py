"""Units inside a network: as if the network ended at their layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

import visavis as vv
from visavis.propagation import RuleSet, ZBox, ZPlus

DOUBLE = torch.float64
BOUNDS = (-2.0, 2.0)
RULES = ("deep-taylor", "epsilon-plus", "alpha2-beta1", "zero")


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-14)
    assert expected.abs().sum() > 0


class SmallVGG(nn.Module):
    def __init__(self, *, inplace: bool = True, batch_norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = models.vgg.make_layers([6, "M", 8, 8, "M"], batch_norm=batch_norm)
        self.classifier = nn.Sequential(nn.Linear(8 * 9, 12), nn.ReLU(inplace), nn.Dropout(), nn.Linear(12, 5))
        for part in self.features.modules():
            if isinstance(part, nn.ReLU):
                part.inplace = inplace
            if isinstance(part, nn.Conv2d | nn.BatchNorm2d) and part.bias is not None:
                part.bias.data.normal_(0.0, 0.3)
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.2, 3.0)
                part.weight.data.uniform_(-1.5, 1.5)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.classifier(self.features(x).flatten(1))
        return result


def pictures() -> Tensor:
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=DOUBLE).clamp(-2, 2)


# -- a truncated model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("last", range(8))
@pytest.mark.parametrize("inplace", [False, True], ids=["", "inplace"])
def test_a_unit_is_explained_as_by_the_model_cut_off_after_it(last: int, rules: str, inplace: bool) -> None:
    x = pictures()
    whole = vv.LRP(SmallVGG(inplace=inplace), rules=rules, bounds=BOUNDS, layer=f"features.{last}")
    # Out of place in either case: the layer's output is what the layer returned.
    cut = vv.LRP(SmallVGG(inplace=False).features[: last + 1], rules=rules, bounds=BOUNDS)
    with whole.forward(x) as run:
        assert torch.equal(run.output, SmallVGG(inplace=False).features[: last + 1](x))
    for target, position in (([1, 4], (1, 2)), (3, None), (None, (0, 0)), ([0, 2], [2, 1])):
        result = whole.attribute(x, target, position=position)
        torch.testing.assert_close(result, cut.attribute(x, target, position=position), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("layer", ["classifier.0", "classifier.1", "classifier.3"])
def test_units_of_dense_layers(layer: str) -> None:
    x, module = pictures(), SmallVGG(inplace=False)
    parts = [*module.features, nn.Flatten(), *module.classifier[: int(layer[-1]) + 1]]
    result = vv.CLRP(module, bounds=BOUNDS, layer=layer, signed=True).attribute(x, [1, 3])
    assert_same(result, vv.CLRP(nn.Sequential(*parts), bounds=BOUNDS, signed=True).attribute(x, [1, 3]))


@pytest.mark.parametrize("last", [0, 1, 3, 4, 7])
def test_a_convolution_s_units_are_not_those_of_the_batch_norm_behind_it(last: int) -> None:
    x, module = pictures(), SmallVGG(inplace=False, batch_norm=True)
    for rules in RULES:
        method = vv.LRP(module, rules=rules, bounds=BOUNDS, layer=f"features.{last}")
        cut = vv.LRP(module.features[: last + 1], rules=rules, bounds=BOUNDS)
        assert_same(method.attribute(x, 2, position=(3, 3)), cut.attribute(x, 2, position=(3, 3)))
    folded = [call.module for call in method.plan(x) if call.note.endswith("batch norm folded in")]
    assert f"features.{last}" not in folded


@pytest.mark.parametrize("name", ["gradient", "input-x-gradient", "deconvnet", "guided-backprop", "deep-taylor"])
@pytest.mark.parametrize("inplace", [False, True], ids=["", "inplace"])
def test_units_by_every_propagating_method(name: str, inplace: bool) -> None:
    x = pictures()
    whole = vv.method(name)(SmallVGG(inplace=inplace), bounds=BOUNDS, layer="features.3")
    cut = vv.method(name)(SmallVGG(inplace=False).features[:4], bounds=BOUNDS)
    assert_same(whole.attribute(x, 2, position=(1, 1)), cut.attribute(x, 2, position=(1, 1)))


def test_layers_within_blocks_of_a_residual_network() -> None:
    torch.manual_seed(0)
    module = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=5).double().eval()
    x = torch.randn(1, 3, 32, 32, dtype=DOUBLE)
    stem = nn.Sequential(module.conv1, module.bn1, nn.ReLU(), module.maxpool)
    for layer, cut in (
        ("layer1", nn.Sequential(stem, module.layer1)),
        ("layer1.0.bn1", nn.Sequential(stem, module.layer1[0].conv1, module.layer1[0].bn1)),
        ("layer1.0.conv1", nn.Sequential(stem, module.layer1[0].conv1)),
        ("maxpool", stem),
        ("bn1", nn.Sequential(module.conv1, module.bn1)),
    ):
        for foil in ("others", "runner-up"):
            result = vv.CLRP(module, foil=foil, layer=layer, signed=True).attribute(x, 3, position=(2, 1))
            assert_same(result, vv.CLRP(cut, foil=foil, signed=True).attribute(x, 3, position=(2, 1)))


# -- foils at a layer, by hand ---------------------------------------------------------------------------------------


class Two(nn.Module):
    """Two convolutions, the second of which is explained, and something after it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.head = nn.Linear(5, 3)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))
        return result


def plus_by_hand(module: Two, x: Tensor, seed: Tensor, weight: Tensor) -> Tensor:
    """z⁺ through the second convolution with this weight, zᴮ through the first, from dense matrices."""
    hidden = module.first(x).relu().detach()

    def matrix(w: Tensor, shape: tuple[int, ...]) -> Tensor:
        size = torch.Size(shape).numel()
        basis = torch.eye(size, dtype=DOUBLE).view(size, *shape)
        return F.conv2d(basis, w.detach(), padding=1).flatten(1)

    first, second = matrix(module.first.weight, (3, 6, 6)), matrix(weight, (4, 6, 6))
    maps = []
    for item in range(x.shape[0]):
        h, pixels, r = hidden[item].flatten(), x[item].flatten(), seed[item].flatten()
        contributions = h[:, None] * second.clamp(min=0)
        total = contributions.sum(0)
        r = contributions @ torch.where(total == 0, 0, r / total)
        low, high = BOUNDS
        contributions = pixels[:, None] * first - low * first.clamp(min=0) - high * first.clamp(max=0)
        maps.append((contributions @ (r / contributions.sum(0))).view(3, 6, 6))
    return torch.stack(maps)


@pytest.mark.parametrize("position", [None, (2, 3)])
def test_foils_at_a_layer_by_hand(position: tuple[int, int] | None) -> None:
    module, x = Two(), pictures()[:, :, :6, :6]
    outputs = module.second(module.first(x).relu()).detach()
    at = torch.ones(6, 6, dtype=DOUBLE)
    if position is not None:
        at = torch.zeros(6, 6, dtype=DOUBLE)
        at[position] = 1.0
    own, others = torch.zeros_like(outputs), torch.zeros_like(outputs)
    for item, unit in enumerate((1, 4)):
        score = outputs[item, unit].abs() * at
        own[item, unit] = score
        for other in {0, 1, 2, 3, 4} - {unit}:
            others[item, other] = score / 4
    weight = module.second.weight
    expected = {
        "others": plus_by_hand(module, x, own, weight) - plus_by_hand(module, x, others, weight),
        "negated": plus_by_hand(module, x, own, weight) - plus_by_hand(module, x, own, -weight),
    }
    for foil, difference in expected.items():
        method = vv.CLRP(module, foil=foil, bounds=BOUNDS, layer="second", signed=True)
        assert_same(method.attribute(x, [1, 4], position=position), difference)
        method = vv.CLRP(module, foil=foil, bounds=BOUNDS, layer="second")
        assert_same(method.attribute(x, [1, 4], position=position), difference.clamp(min=0))


def test_one_unit_against_another_by_hand() -> None:
    module, x = Two(), pictures()[:, :, :6, :6]
    outputs = module.second(module.first(x).relu()).detach()
    own, other = torch.zeros_like(outputs), torch.zeros_like(outputs)
    own[:, 2, 1, 1] = other[:, 0, 1, 1] = outputs[:, 2, 1, 1].abs()
    weight = module.second.weight
    expected = plus_by_hand(module, x, own, weight) - plus_by_hand(module, x, other, weight)
    method = vv.CLRP(module, foil=0, bounds=BOUNDS, layer="second", signed=True)
    assert_same(method.attribute(x, 2, position=(1, 1)), expected)


# -- layers that cannot be explained ---------------------------------------------------------------------------------


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict(
            {"once": nn.Linear(6, 6), "twice": nn.Linear(6, 6), "never": nn.Linear(6, 6), "relu": nn.ReLU(True)}
        )
        self.pair, self.text, self.nothing, self.constant = Pair(), Text(), Nothing(), Constant()
        self.head = nn.Linear(6, 3)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.body["relu"](self.body["once"](x))
        x = self.body["twice"](self.body["twice"](x))
        x, _ = self.pair(x)
        x = x + self.constant(x) + len(self.text(x)["word"])
        self.nothing(x)
        result: Tensor = self.head(x)
        return result


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2.0, x.argmax(1)


class Text(nn.Module):
    def forward(self, x: Tensor) -> dict[str, str]:
        return {"word": "three"}


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> None:
        x.sum()


class Constant(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)


@pytest.mark.parametrize("method", [vv.LRP, vv.CLRP, vv.Gradient])
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("body.twice", r"layer 'body.twice' is called 2 times in the forward pass"),
        ("body.never", r"layer 'body.never' is not called in the forward pass"),
        ("body.onces", r"the model has no layer 'body.onces'; layers are named .* body.once"),
        ("text", r"layer 'text' returns dict, not a tensor"),
        ("nothing", r"layer 'nothing' returns NoneType, not a tensor"),
    ],
)
def test_layers_without_one_tensor_are_refused(method: Any, layer: str, message: str) -> None:
    x, module = torch.rand(2, 6, dtype=DOUBLE), Layers()
    with pytest.raises(vv.InputError, match=message):
        method(module, layer=layer).attribute(x, 1)
    assert not any(part._forward_hooks for part in module.modules())


def test_a_layer_off_the_path_is_refused() -> None:
    with pytest.raises(vv.VisavisError, match="does not depend on its input"):
        vv.LRP(Layers(), layer="constant").attribute(torch.rand(2, 6, dtype=DOUBLE), 1)


def test_of_a_layer_that_returns_several_tensors_the_first_is_explained() -> None:
    x, module = torch.rand(2, 6, dtype=DOUBLE), Layers()
    with vv.LRP(module, layer="pair").forward(x) as run:
        seen: list[Any] = []
        handle = module.pair.register_forward_hook(lambda part, args, output: seen.append(output[0]))
        module(x)
        handle.remove()
        assert torch.equal(run.output, seen[0])


def test_units_out_of_range_and_positions_out_of_place() -> None:
    method = vv.CLRP(SmallVGG(), layer="features.3")
    for target, position, message in (
        (8, (0, 0), "unit 8 is out of range: .* 0 to 7"),
        (0, (6, 0), r"position \(6, 0\) is outside of \(6, 6\)"),
        (0, (0,), "does not (index|give one index)"),
    ):
        with pytest.raises(vv.InputError, match=message):
            method.attribute(pictures(), target, position=position)
    with pytest.raises(vv.InputError, match="foil 8 is out of range"):
        vv.CLRP(SmallVGG(), foil=8, layer="features.3").attribute(pictures(), 0)


def test_units_have_numbers_where_classes_have_labels() -> None:
    x = pictures()
    labelled = vv.Classifier(SmallVGG(), labels=["a", "b", "c", "d", "e"], bounds=BOUNDS)
    plain = vv.CLRP(SmallVGG(), foil=7, bounds=BOUNDS, layer="features.3").attribute(x, 6, position=(1, 1))
    named = vv.CLRP(labelled, foil=7, layer="features.3").attribute(x, 6, position=(1, 1))
    assert torch.equal(plain, named)


def test_explaining_a_layer_changes_nothing_for_the_whole() -> None:
    module, x = SmallVGG(batch_norm=True), pictures()
    before = vv.CLRP(module, bounds=BOUNDS).attribute(x, 1)
    vv.CLRP(module, bounds=BOUNDS, layer="features.0").attribute(x, 1)
    assert torch.equal(vv.CLRP(module, bounds=BOUNDS).attribute(x, 1), before)
    assert torch.equal(vv.CLRP(module, bounds=BOUNDS, layer="classifier").attribute(x, 1), before)
    assert torch.equal(vv.CLRP(module, bounds=BOUNDS, layer="classifier.3").attribute(x, 1), before)


def test_rules_by_module_hold_within_a_layer_s_explanation() -> None:
    rules = RuleSet(ZPlus(), pixel=ZBox(), modules={"features.0": ZPlus()})
    x, module = pictures(), SmallVGG()
    changed = vv.LRP(module, rules=rules, bounds=BOUNDS, layer="features.4").attribute(x, 1)
    assert not torch.allclose(changed, vv.DeepTaylor(module, bounds=BOUNDS, layer="features.4").attribute(x, 1))

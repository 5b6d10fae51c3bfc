"""What speaks for the shape's class and what for the texture's, against CLRP itself; and where it lies, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from tiny_network import build, to_tensor
from visavis.errors import InputError, ModelError, SameClassError
from visavis.propagation import Run
from visavis.shape_texture.conflict_maps import edge_share, explain_conflict
from visavis.shape_texture.conflicts import CueConflict, SceneConflicts

CLASSES = 6
GROUPS = {"x": [0, 4], "y": [1, 2, 5], "z": [3]}


def _network(seed: int = 0) -> vv.Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        module = nn.Sequential(*layers, last := nn.Linear(32, CLASSES)).double().eval()
    # The one class of z is ahead of each, and not of all three of y together.
    nn.init.constant_(last.bias, 0.0)
    last.bias.data[3] = 0.5
    return vv.Classifier(module, labels=list("abcdef"), bounds=(0.0, 1.0), name="toy")


def _image(seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((3, 12, 14)))


def _strongest(logits: Tensor, name: str) -> int:
    return max(GROUPS[name], key=lambda index: float(logits[index]))


@pytest.mark.parametrize(
    ("method", "shape", "texture"), [("clrp", "x", "y"), ("clrp", "z", "y"), ("clrp-gamma", "y", "x")]
)
def test_both_maps_are_those_of_clrp(method: str, shape: str, texture: str) -> None:
    classifier, image = _network(), _image()
    found = explain_conflict(classifier, image, shape=shape, texture=texture, categories=GROUPS, method=method)
    logits = classifier(image[None])[0].detach()
    made = {"clrp": vv.CLRP, "clrp-gamma": vv.CLRPGamma}[method]
    for one, name, other in ((found.shape, shape, texture), (found.texture, texture, shape)):
        target = _strongest(logits, name)
        expected = made(classifier, foil=GROUPS[other]).attribute(image[None], target)[0].sum(0)
        torch.testing.assert_close(one.relevance, expected, rtol=1e-12, atol=1e-15)
        assert float(one.relevance.min()) >= 0
        assert float(one.relevance.max()) > 0
        assert (one.category, one.target.index, one.target.name) == (name, target, "abcdef"[target])
        assert one.foil == tuple(GROUPS[other])
        shares = torch.exp(logits) / torch.exp(logits).sum()
        assert one.probability == pytest.approx(float(sum(shares[index] for index in GROUPS[name])), rel=1e-12)
        assert one.target.probability == pytest.approx(float(shares[target]), rel=1e-12)
        plain = vv.LRP(classifier, rules=found.rules).attribute(image[None], target)
        assert one.conserved == pytest.approx(float(plain.sum() / logits[target].abs()), rel=1e-9)
    assert not torch.allclose(found.shape.relevance, found.texture.relevance)
    torch.testing.assert_close(found.picture, image.float())


def test_of_one_class_each_the_maps_are_both_sides_of_one_difference() -> None:
    classifier, image = _network(), _image()
    groups = {"one": 0, "two": 1}
    found = explain_conflict(classifier, image, shape="one", texture="two", categories=groups)
    signed = vv.CLRP(classifier, foil=1, signed=True).attribute(image[None], 0)[0]
    logits = classifier(image[None])[0].detach().abs()
    torch.testing.assert_close(found.shape.relevance, signed.clamp(min=0).sum(0))
    torch.testing.assert_close(found.texture.relevance, (-signed).clamp(min=0).sum(0) * logits[1] / logits[0])


def test_the_decision() -> None:
    classifier, image = _network(), _image()
    shares = classifier(image[None])[0].detach().softmax(0)
    means = {name: float(shares[one].mean()) for name, one in GROUPS.items()}
    sums = {name: float(shares[one].sum()) for name, one in GROUPS.items()}
    by_mean, by_sum = max(means, key=lambda name: means[name]), max(sums, key=lambda name: sums[name])
    assert by_mean != by_sum
    others = [name for name in GROUPS if name != by_mean]
    for shape, texture, cue in ((by_mean, others[0], "shape"), (others[0], by_mean, "texture"), (*others, "neither")):
        found = explain_conflict(classifier, image, shape=shape, texture=texture, categories=GROUPS)
        assert (found.decision, found.cue) == (by_mean, cue)
    found = explain_conflict(classifier, image, shape="x", texture="y", categories=GROUPS, aggregate="sum")
    assert found.decision == by_sum


def test_rules_bite() -> None:
    classifier, image = _network(), _image()
    by_rules = [
        explain_conflict(classifier, image, shape="x", texture="y", categories=GROUPS, rules=rules)
        for rules in (None, "gamma-box")
    ]
    assert [one.rules for one in by_rules] == ["deep-taylor", "gamma-box"]
    assert not torch.allclose(by_rules[0].shape.relevance, by_rules[1].shape.relevance)
    assert repr(by_rules[0]) == "ConflictMaps(x of y, says z, toy, CLRP, rules deep-taylor, maps (12, 14))"


def test_a_scene_by_its_own_categories_through_the_models_preprocessing() -> None:
    conflicts = SceneConflicts(2, {"disc": ("disc", "dots"), "star": ("star", "checks")}, seed=4)
    classifier, item = build(), conflicts[1]
    found = explain_conflict(classifier, item)
    inputs = to_tensor(item.image())[None]
    assert (found.shape.category, found.texture.category, found.name) == (item.shape, item.texture, item.name)
    target, foil = classifier.index(item.shape), classifier.index(item.texture)
    expected = vv.CLRP(classifier, foil=foil).attribute(inputs, target)[0].sum(0)
    torch.testing.assert_close(found.shape.relevance, expected)
    flipped = explain_conflict(classifier, item, prepare=_small)
    expected = vv.CLRP(classifier, foil=foil).attribute(_small(item.pixels()[None]), target)[0].sum(0)
    torch.testing.assert_close(flipped.shape.relevance, expected)
    # Categories that are named come before the picture's own.
    named = explain_conflict(classifier, item, shape="ring")
    assert (named.shape.category, named.texture.category) == ("ring", item.texture)


def test_a_path(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    PIL.Image.fromarray((255 * _image().permute(1, 2, 0)).byte().numpy()).save(path)
    classifier = build()
    found = explain_conflict(classifier, path, shape="disc", texture="star")
    expected = vv.CLRP(classifier, foil="star").attribute(classifier.prepare(path), "disc")[0].sum(0)
    torch.testing.assert_close(found.shape.relevance, expected)
    assert found.name == ""


def test_the_model_is_left_as_it_was() -> None:
    classifier = _network()
    before = {name: one.clone() for name, one in classifier.module.state_dict().items()}
    explain_conflict(classifier, _image(), shape="x", texture="y", categories=GROUPS)
    assert all(torch.equal(one, before[name]) for name, one in classifier.module.state_dict().items())
    assert all(one.grad is None and one.requires_grad for one in classifier.module.parameters())


def test_what_is_refused() -> None:
    classifier, image = _network(), _image()
    with pytest.raises(InputError, match="name the categories of the picture"):
        explain_conflict(classifier, image, shape="x", categories=GROUPS)
    with pytest.raises(InputError, match="name the categories of the picture"):
        explain_conflict(classifier, image, texture="x", categories=GROUPS)
    with pytest.raises(SameClassError, match="are both 'x'"):
        explain_conflict(classifier, image, shape="x", texture="x", categories=GROUPS)
    with pytest.raises(InputError, match="give no classes for w"):
        explain_conflict(classifier, image, shape="x", texture="w", categories=GROUPS)
    with pytest.raises(InputError, match=r"has no contrast of two categories; choose the method 'clrp'"):
        explain_conflict(classifier, image, shape="x", texture="y", categories=GROUPS, method="lrp")
    with pytest.raises(InputError, match="prepare is for images of CueConflicts"):
        explain_conflict(classifier, image, shape="x", texture="y", categories=GROUPS, prepare=_small)
    with pytest.raises(InputError, match="takes one picture, and these are 2"):
        explain_conflict(classifier, torch.stack([image, image]), shape="x", texture="y", categories=GROUPS)
    with pytest.raises(InputError, match="aggregate is 'median'"):
        explain_conflict(classifier, image, shape="x", texture="y", categories=GROUPS, aggregate="median")
    with pytest.raises(InputError, match="not \\(3, H, W\\)"):
        explain_conflict(classifier, CueConflict(image[0], "x", "y", "flat"), categories=GROUPS)


def test_relevance_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: vv.CLRP, run: Run, seed: Tensor, foil: object, *, more: int = 0) -> Tensor:
        return torch.full((1, 3, 12, 14), torch.nan)

    monkeypatch.setattr(vv.CLRP, "contrast", broken)
    with pytest.raises(ModelError, match="the relevance is not finite"):
        explain_conflict(_network(), _image(), shape="x", texture="y", categories=GROUPS)


def _small(images: Tensor) -> Tensor:
    return nn.functional.interpolate(images, (12, 12)).flip(3)


# -- where a map lies --------------------------------------------------------------------------------------------------


def _square(size: int = 9) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[2:7, 2:7] = True
    return mask


def test_edge_share_by_hand() -> None:
    heat = np.zeros((9, 9))
    heat[2, 4] = 1  # on the rim
    heat[4, 4] = 2  # the middle, 2.5 from the edge
    heat[1, 4] = 4  # just outside
    heat[1, 1] = 8  # across the corner, √2 − ½ = 0.91 away
    heat[0, 0] = 16  # 2√2 − ½ = 2.33 away
    heat[3, 4] = 32  # second row, 1.5 away
    total = 63
    found = edge_share(heat, _square(), 1)
    assert (found.edge, found.inside, found.outside) == (13 / total, 34 / total, 16 / total)
    # The rim, 25 − 9 pixels, and around it 4 · 5 + 4.
    assert found.area == (16 + 24) / 81
    found = edge_share(torch.from_numpy(heat), torch.from_numpy(_square()), 1.5)
    assert (found.edge, found.inside, found.outside) == (45 / total, 2 / total, 16 / total)
    found = edge_share(heat, _square(), 0.9)
    assert (found.edge, found.outside) == (5 / total, 24 / total)


def test_edge_share_against_a_slow_loop() -> None:
    chance = np.random.default_rng(2)
    mask, heat = chance.random((10, 13)) > 0.8, chance.random((10, 13))
    places = [(row, column) for row in range(10) for column in range(13)]
    sums = {"edge": 0.0, "inside": 0.0, "outside": 0.0}
    for one in places:
        away = min(math.dist(one, other) for other in places if mask[other] != mask[one]) - 0.5
        sums["edge" if away <= 1.3 else "inside" if mask[one] else "outside"] += heat[one]
    found = edge_share(heat, mask, 1.3)
    for name, value in sums.items():
        assert getattr(found, name) == pytest.approx(value / heat.sum(), rel=1e-12)


def test_the_pictures_border_is_no_outline() -> None:
    mask = np.zeros((6, 8), bool)
    mask[:, :4] = True
    found = edge_share(np.ones((6, 8)), mask, 1)
    assert (found.edge, found.inside, found.outside, found.area) == (0.25, 0.375, 0.375, 0.25)


def test_a_map_without_relevance() -> None:
    found = edge_share(np.zeros((9, 9)), _square(), 1)
    assert all(math.isnan(one) for one in (found.edge, found.inside, found.outside))
    assert found.area == 40 / 81


def test_edge_shares_that_are_refused() -> None:
    heat = np.ones((9, 9))
    with pytest.raises(InputError, match=r"the map is \(9, 9\) and the mask \(8, 8\) of bool"):
        edge_share(heat, _square(8), 1)
    with pytest.raises(InputError, match="of float64; expected"):
        edge_share(heat, heat, 1)
    with pytest.raises(InputError, match=r"the map is \(81,\)"):
        edge_share(heat.ravel(), _square().ravel(), 1)
    with pytest.raises(InputError, match="below 0 or not finite"):
        edge_share(-heat, _square(), 1)
    with pytest.raises(InputError, match="below 0 or not finite"):
        edge_share(heat * np.inf, _square(), 1)
    for width in (0, -1, math.inf, math.nan):
        with pytest.raises(InputError, match=f"width is {width}"):
            edge_share(heat, _square(), width)
    for mask in (_square() & False, _square() | True):
        with pytest.raises(InputError, match="everywhere or nowhere"):
            edge_share(heat, mask, 1)

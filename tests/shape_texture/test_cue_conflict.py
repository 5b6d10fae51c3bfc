"""Shape bias, against decisions counted by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from conflict_lookup import Listed, Lookup
from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.labels import imagenet_labels
from visavis.shape_texture.conflicts import ConflictFolder, SceneConflicts
from visavis.shape_texture.cue_conflict import ShapeBias, _interval, shape_bias

CUES = [("a", "b"), ("a", "c"), ("b", "a"), ("b", "b"), ("c", "a"), ("c", "b"), ("a", "b"), ("c", "c")]


def _saying(decisions: str, names: str = "abc") -> Classifier:
    table = torch.zeros(len(decisions), len(names))
    for row, said in zip(table, decisions, strict=True):
        row[names.index(said)] = 2
    return Classifier(Lookup(table), labels=list(names), name="table")


def test_by_hand() -> None:
    # Decisions a, b, a, (b), c, c, c, (a): shape, neither, texture, left out, shape, shape, neither, left out.
    found = shape_bias(_saying("abab" + "ccca"), Listed(CUES), draws=0)
    assert found.names == ("a", "b", "c")
    assert found.counts == (3, 1, 2)
    assert found.bias == 3 / 4
    assert found.cue_accuracy == 4 / 6
    assert found.left_out == 2
    assert found.pictures == tuple(f"picture {index}" for index in (0, 1, 2, 4, 5, 6))
    assert found.decisions.tolist() == [0, 1, 0, 2, 2, 2]
    assert found.by_category.tolist() == [1, 0, 1]
    assert found.confusion().tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 2]]
    assert found.confusion("texture").tolist() == [[1, 0, 1], [1, 0, 2], [0, 1, 0]]
    assert str(found) == "shape bias 0.750: of 6 decisions 3 for the shape, 1 for the texture, 2 for neither"
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert (found.model, found.aggregate) == ("table", "mean")
    with pytest.raises(InputError, match="cue is 'colour'"):
        found.confusion("colour")


@pytest.mark.parametrize("aggregate", ["mean", "max", "sum"])
def test_against_a_slow_loop(aggregate: str) -> None:
    chance = np.random.default_rng(5)
    names = ["a", "b", "c", "d"]
    cues = [tuple(chance.choice(names, 2).tolist()) for _ in range(200)]
    groups = {"a": [0, 1, 2, 9], "b": [3], "c": [4, 5], "d": [7, 8, 6]}
    table = torch.from_numpy(2 * chance.normal(size=(200, 10)))
    found = shape_bias(Lookup(table), Listed(cues), categories=groups, aggregate=aggregate, batch_size=7)
    shape = texture = other = 0
    of_each = {name: [0, 0] for name in names}
    for row, (one, two) in zip(table.numpy(), cues, strict=True):
        if one == two:
            continue
        shares = np.exp(row) / np.exp(row).sum()
        taken = {"mean": np.mean, "max": np.max, "sum": np.sum}[aggregate]
        said = max(names, key=lambda name: taken(shares[groups[name]]))
        shape, texture, other = shape + (said == one), texture + (said == two), other + (said not in (one, two))
        of_each[one][0] += said == one
        of_each[one][1] += said == two
    assert found.counts == (shape, texture, other)
    assert found.bias == shape / (shape + texture)
    assert found.by_category.tolist() == [one / (one + two) for one, two in of_each.values()]
    assert found.left_out == sum(one == two for one, two in cues)


def test_aggregates_decide_otherwise() -> None:
    # a has one strong class and two weak ones, b two middling ones, c one that is between.
    table = torch.tensor([[0.30, 0.01, 0.01, 0.24, 0.24, 0.20]]).log()
    groups = {"a": [0, 1, 2], "b": [3, 4], "c": [5]}
    said = {
        way: shape_bias(Lookup(table), Listed([("a", "b")]), categories=groups, aggregate=way, draws=0).decisions.item()
        for way in ("mean", "max", "sum")
    }
    assert said == {"mean": 1, "max": 0, "sum": 1}
    table = torch.tensor([[0.25, 0.25, 0.02, 0.10, 0.02, 0.36]]).log()
    said = {
        way: shape_bias(Lookup(table), Listed([("a", "c")]), categories=groups, aggregate=way, draws=0).decisions.item()
        for way in ("mean", "sum")
    }
    assert said == {"mean": 2, "sum": 0}


def test_of_equals_the_first_is_decided() -> None:
    found = shape_bias(Classifier(Lookup(torch.zeros(1, 3)), labels=list("abc")), Listed([("b", "a")]), draws=0)
    assert found.decisions.tolist() == [0]


@pytest.mark.parametrize(("cue", "bias"), [("shape", 1.0), ("texture", 0.0)])
def test_one_cue_alone(cue: str, bias: float) -> None:
    conflicts = Listed([("a", "b"), ("b", "c"), ("c", "a")] * 5)
    said = "".join(one if cue == "shape" else two for one, two in map(conflicts.cues, range(15)))
    found = shape_bias(_saying(said), conflicts)
    assert (found.bias, found.cue_accuracy) == (bias, 1.0)
    end = 0.025 ** (1 / 15)
    assert (found.low, found.high) == pytest.approx((end, 1.0) if cue == "shape" else (0.0, 1 - end), abs=1e-12)


def test_neither_cue() -> None:
    found = shape_bias(_saying("cc"), Listed([("a", "b"), ("b", "a")], names=("a", "b", "c")))
    assert found.counts == (0, 0, 2)
    assert found.cue_accuracy == 0
    assert all(math.isnan(one) for one in (found.bias, found.low, found.high))
    assert bool(found.by_category.isnan().all())


def _bias_of(shape: int, texture: int, other: int, draws: int, seed: int = 0) -> ShapeBias:
    said = "a" * shape + "b" * texture + "c" * other
    return shape_bias(
        _saying(said), Listed([("a", "b")] * len(said), names=("a", "b", "c")), draws=draws, seed=seed, batch_size=250
    )


def test_the_interval_is_that_of_pictures_drawn_anew_one_by_one() -> None:
    found = _bias_of(30, 50, 40, 20000)
    chance = np.random.default_rng(8)
    outcomes = np.array([0] * 30 + [1] * 50 + [2] * 40)
    biases = []
    for _ in range(8000):
        drawn = chance.choice(outcomes, len(outcomes))
        biases.append((drawn == 0).sum() / ((drawn == 0).sum() + (drawn == 1).sum()))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(biases, (2.5, 97.5))), abs=0.006)


def test_where_all_decisions_are_for_one_cue_the_interval_is_that_of_clopper_and_pearson() -> None:
    for shape, texture in ((7, 0), (0, 7), (200, 0)):
        found = _interval(shape, texture, shape + texture + 3, 50, 0)
        exact = stats.binomtest(shape, shape + texture).proportion_ci(0.95, "exact")
        np.testing.assert_allclose(found, (exact.low, exact.high), atol=1e-12)
    assert np.isnan(_interval(7, 0, 10, 0, 0)).all()
    assert np.isnan(_interval(0, 0, 10, 50, 0)).all()


def test_without_other_decisions_the_interval_is_binomial() -> None:
    found = _bias_of(60, 140, 0, 20000)
    expected = stats.binom.ppf([0.025, 0.975], 200, 0.3) / 200
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.0051)


def test_draws_and_seed_bite() -> None:
    # Where most pictures speak for neither cue, draws without a bias are left out.
    assert (_bias_of(1, 1, 8, 50).low, _bias_of(1, 1, 8, 50).high) == (0, 1)
    found = _bias_of(30, 50, 40, 60)
    assert (found.low, found.high) == (_bias_of(30, 50, 40, 60).low, _bias_of(30, 50, 40, 60).high)
    assert found.low != _bias_of(30, 50, 40, 60, seed=1).low
    assert found.low != _bias_of(30, 50, 40, 100).low
    assert str(found).startswith(f"shape bias 0.375 (95 % {found.low:.3f} to {found.high:.3f}): of 120")


def test_batches_and_progress() -> None:
    classifier = _saying("abab" + "ccca")
    told: list[tuple[int, int, str]] = []
    found = shape_bias(classifier, Listed(CUES), batch_size=4, draws=0, progress=lambda *what: told.append(what))
    assert told == [(4, 6, "cue conflicts"), (6, 6, "cue conflicts")]
    assert classifier.module.sizes == [4, 2]
    assert found.decisions.tolist() == [0, 1, 0, 2, 2, 2]


def test_the_sixteen_of_an_imagenet_model() -> None:
    # A gazelle has most; of the sixteen the cats have most on average, and the dogs most in sum.
    logits = torch.full((1, 1000), -20.0)
    logits[0, 353] = 5
    logits[0, 281:287] = 2
    logits[0, 151:269] = 0
    model = Classifier(Lookup(logits), labels=imagenet_labels())
    conflicts = Listed([("bear", "cat")])
    found = shape_bias(model, conflicts, draws=0)
    assert len(found.names) == 16
    assert found.names[int(found.decisions[0])] == "cat"
    found = shape_bias(model, conflicts, draws=0, aggregate="sum")
    assert found.names[int(found.decisions[0])] == "dog"


def _mean_colours() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _to_tensor(picture: PIL.Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture.resize((4, 4)), dtype=np.float32) / 255).permute(2, 0, 1)


def _coloured(root: Path, **colours: str) -> Path:
    for number, (name, colour) in enumerate(colours.items()):
        shape, texture = name.split("_")
        (root / shape).mkdir(exist_ok=True)
        PIL.Image.new("RGB", (8 + number, 8), colour).save(root / shape / f"{shape}1-{texture}2.png")
    return root


def test_a_folder_by_the_models_own_preprocessing_or_anothers(tmp_path: Path) -> None:
    root = _coloured(tmp_path, red_lime="red", lime_blue="blue", blue_red="lime", red_red="red")
    classifier = Classifier(_mean_colours(), preprocess=_to_tensor, labels=["red", "lime", "blue"])
    found = shape_bias(classifier, ConflictFolder(root), draws=0)
    assert found.counts == (1, 1, 1)
    assert found.left_out == 1
    assert found.names == ("blue", "lime", "red")

    def swapped(images: Tensor) -> Tensor:
        assert images.dtype == torch.float32
        assert float(images.max()) == 1
        return images.flip(1)

    other = shape_bias(classifier, ConflictFolder(root), draws=0, prepare=swapped, batch_size=1)
    assert other.decisions.tolist() == [1, 2, 0]
    with pytest.raises(InputError, match=r"'blue/blue1-red2.png' and '.*' differ in size, \(8, 10\) and \(8, 9\)"):
        shape_bias(classifier, ConflictFolder(root), prepare=swapped)
    plain = Classifier(_mean_colours(), labels=["red", "lime", "blue"])
    assert shape_bias(plain, ConflictFolder(root), draws=0, batch_size=1).counts == (1, 1, 1)


def test_scenes_by_their_texture() -> None:
    conflicts = SceneConflicts(6, [("disc", "dots"), ("star", "checks"), ("ring", "stripes")], seed=2)

    class Texture(nn.Module):
        """Says the texture of the next picture, for it is asked for one after the other."""

        at = 0

        def forward(self, images: Tensor) -> Tensor:
            textures = [conflicts.names.index(conflicts.cues(self.at + one)[1]) for one in range(len(images))]
            self.at += len(images)
            return torch.eye(3)[textures]

    found = shape_bias(Classifier(Texture(), labels=list(conflicts.names)), conflicts, batch_size=4)
    assert (found.bias, found.counts) == (0, (0, 6, 0))


def test_the_model_and_the_dice_are_left_as_they_were() -> None:
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Dropout(0.5), nn.Linear(192, 3)).train()
    before = {name: one.clone() for name, one in module.state_dict().items()}
    state = torch.get_rng_state()
    shape_bias(Classifier(module, labels=list("abc")), Listed(CUES), draws=0)
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())
    assert all(part.training for part in module.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_in_whatever_mode_a_model_is_it_decides_as_in_eval_mode() -> None:
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Dropout(0.9), nn.Linear(192, 3))
    model = Classifier(module, labels=list("abc"))
    found = shape_bias(Classifier(module.eval(), labels=list("abc")), Listed(CUES), draws=0)
    module.train()
    assert torch.equal(shape_bias(model, Listed(CUES), draws=0).decisions, found.decisions)


def test_what_is_refused(tmp_path: Path) -> None:
    model = _saying("abababab")
    with pytest.raises(InputError, match="of 2 pictures none has"):
        shape_bias(model, Listed([("a", "a"), ("b", "b")]))
    with pytest.raises(InputError, match="batch_size is from 1, draws 0 or at least 2, not 0 and 1000"):
        shape_bias(model, Listed(CUES), batch_size=0)
    for draws in (-1, 1):
        with pytest.raises(InputError, match=f"not 32 and {draws}"):
            shape_bias(model, Listed(CUES), draws=draws)
    with pytest.raises(InputError, match="the seed is a whole number"):
        shape_bias(model, Listed(CUES), seed=-1)
    with pytest.raises(InputError, match="aggregate is 'median'"):
        shape_bias(model, Listed(CUES), aggregate="median")
    with pytest.raises(InputError, match="has no class for d; give"):
        shape_bias(model, Listed([("a", "d")]))
    with pytest.raises(InputError, match="give no classes for c"):
        shape_bias(model, Listed(CUES), categories={"a": 0, "b": 1})
    with pytest.raises(InputError, match="'picture 1' is of 'c', which is none of a, b"):
        shape_bias(model, Listed(CUES, names=("a", "b")))
    with pytest.raises(InputError, match="names class 3, but the model has 0 to 2"):
        shape_bias(Lookup(torch.zeros(8, 3)), Listed(CUES), categories={"a": 0, "b": 1, "c": 3})
    with pytest.raises(InputError, match=r"prepare gave a tensor \(1, 3, 8, 8\) for 6 pictures"):
        shape_bias(model, Listed(CUES), prepare=_first)
    with pytest.raises(InputError, match="prepare gave a list for 6 pictures"):
        shape_bias(model, Listed(CUES), prepare=list)
    with pytest.raises(ModelError, match="NaN or infinity"):
        shape_bias(Classifier(Lookup(torch.full((8, 3), torch.nan)), labels=list("abc")), Listed(CUES))
    with pytest.raises(ModelError, match=r"shape \(6, 3, 2, 2\)"):
        shape_bias(Classifier(Lookup(torch.zeros(8, 3, 2, 2)), labels=list("abc")), Listed(CUES))


def _first(images: Tensor) -> Tensor:
    return images[:1]

"""Ablation, deletion, insertion and ROAD on a network whose answer to any picture is known in closed form."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

import visavis as vv
from visavis.evaluation import Case, Context, Metric, metric
from visavis.evaluation.ablation import Ablation, ablation
from visavis.evaluation.deletion import Deletion, Insertion, area, deletion, insertion
from visavis.evaluation.explainers import Centre
from visavis.evaluation.imputation import imputed
from visavis.evaluation.perturbation import FILLS, filled, order
from visavis.evaluation.road import Road, road

DOUBLE = torch.float64
NAMES = ("ablation", "deletion", "insertion", "road")
HEIGHT, WIDTH = 9, 8


class Weighted(nn.Module):
    """Class 1 has the logit Σ weight · input, class 0 has 0: its probability is the logistic function of the sum."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.seen: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(inputs.detach().clone())
        scores = (inputs * self.weight).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(scores), scores], 1)


def drawn(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def setting() -> tuple[Weighted, Tensor, Tensor]:
    """A network, a picture (1, 2, 9, 8), and what each of its pixels contributes to the logit (9, 8)."""
    model, inputs = Weighted(drawn(2, HEIGHT, WIDTH) / 3), drawn(1, 2, HEIGHT, WIDTH, seed=4)
    return model, inputs, (model.weight * inputs[0]).sum(0).detach()


def logistic(score: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.asarray(score, dtype=np.float64)))


# -- what stands in for pixels, and their order ------------------------------------------------------------------------


def test_the_fills() -> None:
    inputs = drawn(2, 3, 20, 31)
    means = inputs.numpy().mean((2, 3), keepdims=True)
    np.testing.assert_allclose(filled(inputs, "mean").numpy(), np.broadcast_to(means, inputs.shape), rtol=1e-12)
    assert not filled(inputs, "zero").any()
    for share in (0.05, 0.2):
        deviation = share * 20
        reach = math.ceil(3 * deviation)
        expected = [
            [ndimage.gaussian_filter(channel, deviation, mode="mirror", radius=reach) for channel in item]
            for item in inputs.numpy()
        ]
        np.testing.assert_allclose(filled(inputs, "blur", blur=share).numpy(), expected, atol=1e-12)


def test_fills_that_there_are_not() -> None:
    with pytest.raises(vv.InputError, match="no fill 'black'; there are mean, zero, blur"):
        filled(drawn(1, 1, 4, 4), "black")
    for blur in (0, 0.31, math.nan):
        with pytest.raises(vv.InputError, match=r"above 0 and up to 0\.3, not"):
            filled(drawn(1, 1, 4, 4), "blur", blur=blur)


@pytest.mark.parametrize("fill", FILLS)
def test_a_fill_keeps_type_and_small_sizes(fill: str) -> None:
    for dtype, size in itertools.product((torch.float32, DOUBLE), ((1, 1), (1, 5), (2, 2))):
        found = filled(torch.ones(1, 2, *size, dtype=dtype), fill, blur=0.3)
        assert found.dtype == dtype
        torch.testing.assert_close(found, torch.full_like(found, fill != "zero"))


def test_pixels_come_highest_first_and_equal_ones_shuffled() -> None:
    heatmap = torch.tensor([[0.0, 3, -1], [3, 0, 0], [0, -2, 7]])
    found = []
    for seed in range(40):
        ranked = order(heatmap, torch.Generator().manual_seed(seed)).tolist()
        assert ranked[0] == 8
        assert set(ranked[1:3]) == {1, 3}
        assert set(ranked[3:7]) == {0, 4, 5, 6}
        assert ranked[7:] == [2, 7]
        found.append(tuple(ranked))
    assert {ranked[1] for ranked in found} == {1, 3}
    assert {ranked[3] for ranked in found} == {0, 4, 5, 6}
    assert order(heatmap, torch.Generator().manual_seed(5)).tolist() == list(found[5])


# -- ablation ----------------------------------------------------------------------------------------------------------


def patched(inputs: Tensor, y: int, x: int, size: int, stand_in: Tensor) -> NDArray[np.float64]:
    """The picture with a patch about (y, x) replaced, pixel by pixel."""
    found = inputs[0].numpy().copy()
    for dy, dx in itertools.product(range(-(size // 2), size - size // 2), repeat=2):
        if 0 <= y + dy < HEIGHT and 0 <= x + dx < WIDTH:
            found[:, y + dy, x + dx] = stand_in[0, :, y + dy, x + dx].numpy()
    return found


def logit(model: Weighted, picture: NDArray[np.float64]) -> float:
    return float((picture * model.weight.detach().numpy()).sum())


@pytest.mark.parametrize(("y", "x"), [(4, 3), (0, 0), (8, 7), (1, 6)])
@pytest.mark.parametrize("size", [1, 3, 4, 9])
@pytest.mark.parametrize("fill", FILLS)
def test_the_drop_at_the_maximum_by_a_loop(y: int, x: int, size: int, fill: str) -> None:
    model, inputs, _ = setting()
    heatmap = torch.zeros(HEIGHT, WIDTH)
    heatmap[y, x] = 0.1
    after = logit(model, patched(inputs, y, x, size, filled(inputs, fill, blur=0.1)))
    before = logit(model, inputs[0].numpy())
    found = ablation(model, inputs, heatmap, 1, size=size, fill=fill, blur=0.1)
    assert found.maximum == pytest.approx(logistic(before) - logistic(after), abs=1e-12)
    # The other class gains what this one loses, and its logit never moves.
    assert ablation(model, inputs, heatmap, 0, size=size, fill=fill, blur=0.1).maximum == pytest.approx(-found.maximum)
    in_logits = ablation(model, inputs, heatmap, 1, size=size, fill=fill, blur=0.1, score="logit")
    assert in_logits.maximum == pytest.approx(before - after, abs=1e-12)
    in_answers = ablation(model, inputs, heatmap, 1, size=size, fill=fill, blur=0.1, score="accuracy")
    assert in_answers.maximum == (before > 0) - (after > 0)


def test_the_drop_at_random_is_the_mean_over_all_places() -> None:
    model, inputs, contributions = setting()
    stand_in = filled(inputs, "mean")
    drops = [
        logit(model, inputs[0].numpy()) - logit(model, patched(inputs, y, x, 3, stand_in))
        for y, x in itertools.product(range(HEIGHT), range(WIDTH))
    ]
    found = ablation(model, inputs, contributions, 1, size=3, score="logit", samples=4000, seed=1)
    assert found.random == pytest.approx(np.mean(drops), abs=4 * np.std(drops) / math.sqrt(4000))
    assert np.std(drops) > 0.1
    # The same places for every map, others for another seed.
    assert ablation(model, inputs, -contributions, 1, size=3, seed=1).random == pytest.approx(
        ablation(model, inputs, contributions, 1, size=3, seed=1).random, rel=1e-12
    )
    assert ablation(model, inputs, contributions, 1, seed=2).random != pytest.approx(
        ablation(model, inputs, contributions, 1, seed=1).random
    )


def test_the_drop_at_random_where_all_places_are_alike() -> None:
    model = Weighted(torch.ones(1, 5, 5, dtype=DOUBLE))
    found = ablation(
        model, torch.ones(1, 1, 5, 5, dtype=DOUBLE), drawn(5, 5), 1, size=1, fill="zero", score="logit", samples=3
    )
    assert found == (pytest.approx(1), pytest.approx(1))


def test_a_constant_map_is_ablated_as_if_at_random() -> None:
    model, inputs, _ = setting()
    constant = torch.ones(HEIGHT, WIDTH)
    found = [ablation(model, inputs, constant, 1, size=1, score="logit", seed=seed).maximum for seed in range(300)]
    drops = model.weight.detach().numpy() * (inputs - filled(inputs, "mean"))[0].numpy()
    drops = drops.sum(0).ravel()
    assert len({round(value, 9) for value in found}) > 50
    assert np.mean(found) == pytest.approx(drops.mean(), abs=4 * drops.std() / math.sqrt(300))


# -- deletion and insertion --------------------------------------------------------------------------------------------


def rounded(steps: int) -> list[int]:
    pixels = HEIGHT * WIDTH
    return [math.floor(pixels * step / steps + 0.5) for step in range(steps + 1)]


@pytest.mark.parametrize("steps", [1, 7, 20, HEIGHT * WIDTH])
@pytest.mark.parametrize("fill", FILLS)
def test_both_curves_in_closed_form(steps: int, fill: str) -> None:
    model, inputs, contributions = setting()
    heatmap = drawn(HEIGHT, WIDTH, seed=9)
    ranked = np.argsort(-heatmap.numpy().ravel())
    whole = contributions.numpy().ravel()[ranked]
    empty = (model.weight.detach() * filled(inputs, fill, blur=0.2)[0]).sum(0).numpy().ravel()[ranked]
    deleted = [empty[:count].sum() + whole[count:].sum() for count in rounded(steps)]
    inserted = [whole[:count].sum() + empty[count:].sum() for count in rounded(steps)]
    arguments: dict[str, Any] = {"steps": steps, "fill": fill, "blur": 0.2}
    np.testing.assert_allclose(deletion(model, inputs, heatmap, 1, **arguments), logistic(deleted), atol=1e-12)
    np.testing.assert_allclose(insertion(model, inputs, heatmap, 1, **arguments), logistic(inserted), atol=1e-12)
    np.testing.assert_allclose(deletion(model, inputs, heatmap, 0, **arguments), 1 - logistic(deleted), atol=1e-12)


def test_the_area_is_the_trapezoids() -> None:
    assert area(torch.tensor([1.0, 0.0])) == 0.5
    assert area(torch.tensor([1.0, 0.5, 0.0, 0.0])) == pytest.approx((0.75 + 0.25) / 3)
    curve = drawn(21)
    assert area(curve) == pytest.approx(np.trapezoid(curve.numpy(), np.linspace(0, 1, 21)))


def test_shares_are_whole_pixels_halves_up() -> None:
    model = Weighted(torch.ones(1, 1, 5, dtype=DOUBLE))
    curve = deletion(model, torch.ones(1, 1, 1, 5, dtype=DOUBLE), torch.arange(5.0)[None], 1, steps=2)
    np.testing.assert_allclose(curve, logistic(np.array([5, 2, 0])))  # of 2.5 pixels, 3 are gone
    with pytest.raises(vv.InputError, match="a map of 5 pixels can be taken in at most as many steps, not 6"):
        deletion(model, torch.ones(1, 1, 1, 5), torch.arange(5.0)[None], 1, steps=6)


def test_how_perfect_random_constant_and_inverted_maps_do() -> None:
    model, inputs, contributions = setting()
    # Perfect means highest on what speaks for the class: no order deletes faster or inserts sooner.
    perfect = {name: measured(name, contributions) for name in ("deletion", "insertion")}
    inverted = {name: measured(name, -contributions) for name in perfect}
    for name, curve in (("deletion", deletion), ("insertion", insertion)):
        best, worst = perfect[name], inverted[name]
        constant = [
            area(curve(model, inputs, torch.full((HEIGHT, WIDTH), 0.5), 1, fill="zero", seed=seed))
            for seed in range(30)
        ]
        noise = [area(curve(model, inputs, drawn(HEIGHT, WIDTH, seed=seed), 1, fill="zero")) for seed in range(30)]
        for value in (*constant, *noise):
            assert min(best, worst) < value < max(best, worst)
        assert len(set(constant)) == 30
        assert np.mean(constant) == pytest.approx(np.mean(noise), abs=4 * np.std(noise) / math.sqrt(15))
    assert perfect["deletion"] < 0.5 * inverted["deletion"]
    assert perfect["insertion"] > 1.5 * inverted["insertion"]
    assert measured("ablation", contributions) > 0 > measured("ablation", -contributions)
    assert measured("road", contributions) > measured("road", -contributions)


def measured(name: str, heatmap: Tensor) -> float:
    model, inputs, _ = setting()
    options: dict[str, dict[str, Any]] = {
        "ablation": {"size": 1, "fill": "zero"},
        "deletion": {},
        "insertion": {"fill": "zero"},
        "road": {},
    }
    classifier = vv.Classifier(model)
    found = metric(name)(**options[name]).values_of(Case("one", inputs, 1), heatmap, Context(classifier, Centre()))
    return found[""]


# -- ROAD --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["probability", "logit", "accuracy"])
def test_road_without_noise_is_the_score_of_what_is_imputed(score: str) -> None:
    model, inputs, contributions = setting()
    shares = (0.1, 0.5, 0.9)
    found = road(model, inputs, contributions, 1, shares=shares, noise=0, tolerance=1e-9, score=score)
    ranked = np.argsort(-contributions.numpy().ravel())
    logits = [logit(model, inputs[0].numpy())]
    for count in (7, 36, 65):
        removed = torch.zeros(HEIGHT * WIDTH, dtype=torch.bool)
        removed[ranked[:count].tolist()] = True
        logits.append(logit(model, imputed(inputs, removed.view(HEIGHT, WIDTH), tolerance=1e-9)[0].numpy()))
    expected = {"probability": logistic(logits), "logit": logits, "accuracy": [float(s > 0) for s in logits]}[score]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_noise_is_on_removed_pixels_alone() -> None:
    size = 60
    model, inputs = Weighted(drawn(2, size, size)), drawn(1, 2, size, size, seed=4)
    heatmap = drawn(size, size, seed=5)
    road(model, inputs, heatmap, 1, shares=(0.25, 0.75), noise=0.03, seed=8)
    noisy = torch.cat(model.seen)[1:]
    model.seen.clear()
    road(model, inputs, heatmap, 1, shares=(0.25, 0.75), noise=0, seed=8)
    plain = torch.cat(model.seen)[1:]
    for share, one, other in zip((0.25, 0.75), noisy, plain, strict=True):
        kept = heatmap <= heatmap.quantile(1 - share)
        assert torch.equal(one[:, kept], inputs[0][:, kept])
        noise = (one - other)[:, ~kept]
        assert noise.std().item() == pytest.approx(0.03, rel=0.1)
        assert abs(noise.mean().item()) < 4 * 0.03 / math.sqrt(noise.numel())
    # Each share has noise of its own.
    both = heatmap > heatmap.quantile(0.75)
    assert np.corrcoef(*((noisy - plain)[:, :, both].flatten(1).numpy()))[0, 1] < 0.1


def test_a_pixel_is_always_left() -> None:
    model, inputs, contributions = setting()
    road(model, inputs, contributions, 1, shares=(0.999,), noise=0)
    y, x = divmod(int(contributions.argmin()), WIDTH)
    last = torch.cat(model.seen)[1]
    torch.testing.assert_close(last, inputs[0, :, y, x, None, None].expand_as(last), rtol=1e-3, atol=1e-3)


# -- as metrics --------------------------------------------------------------------------------------------------------


def test_what_the_metrics_are_called_and_which_way_is_better() -> None:
    assert {name: metric(name).direction for name in NAMES} == {
        "ablation": "higher",
        "deletion": "lower",
        "insertion": "higher",
        "road": "higher",
    }
    assert {name: (metric(name).low, metric(name).high) for name in NAMES} == {
        "ablation": (-1, 1),
        "deletion": (0, 1),
        "insertion": (0, 1),
        "road": (-1, 1),
    }
    assert not any(metric(name).needs for name in NAMES)


def test_a_metric_has_the_value_and_its_curve() -> None:
    model, inputs, contributions = setting()
    case, context = Case("one", inputs, 1), Context(vv.Classifier(model), Centre(), seed=5)
    drops = Ablation(size=3, fill="blur", score="logit", samples=3, blur=0.2).values_of(case, contributions, context)
    expected = ablation(
        model, inputs, contributions, 1, size=3, fill="blur", score="logit", samples=3, blur=0.2, seed=5
    )
    assert drops == {"": pytest.approx(expected.maximum), "random": pytest.approx(expected.random)}
    for cls, curve in ((Deletion, deletion), (Insertion, insertion)):
        found = cls(steps=4, fill="mean", blur=0.2).values_of(case, contributions, context)
        points = curve(model, inputs, contributions, 1, steps=4, fill="mean", blur=0.2, seed=5)
        assert list(found) == ["", "0.00", "0.25", "0.50", "0.75", "1.00"]
        assert list(found.values()) == pytest.approx([area(points), *points.tolist()])
    found = Road(shares=(0.25, 0.5), noise=0.2, score="logit", tolerance=1e-2).values_of(case, contributions, context)
    scores = road(
        model, inputs, contributions, 1, shares=(0.25, 0.5), noise=0.2, score="logit", tolerance=1e-2, seed=5
    ).tolist()
    assert found == {
        "": pytest.approx(scores[0] - (scores[1] + scores[2]) / 2),
        "0.00": pytest.approx(scores[0]),
        "0.25": pytest.approx(scores[1]),
        "0.50": pytest.approx(scores[2]),
    }


def test_the_defaults() -> None:
    model, inputs, contributions = setting()
    case, context = Case("one", inputs, 1), Context(vv.Classifier(model), Centre())
    assert list(Deletion().values_of(case, contributions, context)) == ["", *(f"{k / 20:.2f}" for k in range(21))]
    assert list(Road().values_of(case, contributions, context)) == ["", *(f"{k / 10:.2f}" for k in range(10))]
    expected = ablation(model, inputs, contributions, 1, size=9, fill="mean", score="probability", samples=10)
    assert Ablation().values_of(case, contributions, context) == pytest.approx(
        {"": expected.maximum, "random": expected.random}
    )


def test_every_step_has_a_key_of_its_own() -> None:
    model, inputs, contributions = setting()
    case, context = Case("one", inputs, 1), Context(vv.Classifier(model), Centre())
    assert len(Deletion(steps=72).values_of(case, contributions, context)) == 74
    wide = Weighted(torch.ones(1, 15, 15, dtype=DOUBLE))
    found = Deletion(steps=224).values_of(
        Case("wide", torch.ones(1, 1, 15, 15, dtype=DOUBLE), 1), drawn(15, 15), Context(vv.Classifier(wide), Centre())
    )
    assert len(found) == 226
    assert {"0.000", "0.004", "1.000"} <= set(found)


def test_every_share_has_a_key_of_its_own() -> None:
    model, inputs, contributions = setting()
    case, context = Case("one", inputs, 1), Context(vv.Classifier(model), Centre(), seed=5)
    shares = (0.0025, 0.1, 0.101, 1 / 3, 0.1 + 0.2, 0.5, 0.9975)
    found = Road(shares=shares, noise=0).values_of(case, contributions, context)
    assert list(found) == ["", "0.00", "0.0025", "0.10", "0.101", "0.333333", "0.30", "0.50", "0.9975"]
    scores = road(model, inputs, contributions, 1, shares=shares, noise=0, seed=5).tolist()
    assert list(found.values()) == pytest.approx([scores[0] - sum(scores[1:]) / 7, *scores])
    assert scores[0] == pytest.approx(logistic(float(contributions.sum())))


class Broken(nn.Module):
    """Its logits are (0, `value`), also in place of the sum's where pixels are gone."""

    def __init__(self, value: float, *, only_gone: bool, other: bool) -> None:
        super().__init__()
        self.value, self.only_gone, self.other = value, only_gone, other
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs: Tensor) -> Tensor:
        scores = inputs.new_zeros(len(inputs), 2)
        gone = (inputs != setting()[1]).flatten(1).any(1)
        scores[gone | (not self.only_gone), 0 if self.other else 1] = self.value
        return scores


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("only_gone", [False, True])
def test_a_score_that_is_not_finite_is_no_value(name: str, only_gone: bool) -> None:
    _, inputs, contributions = setting()
    case = Case("one", inputs, 1)
    for value, other in ((math.nan, False), (math.nan, True), (math.inf, False), (math.inf, True)):
        context = Context(vv.Classifier(Broken(value, only_gone=only_gone, other=other)), Centre())
        with pytest.raises(vv.InputError, match="the model's score is not finite on"):
            metric(name)().values_of(case, contributions, context)
    # A class that a model rules out is none of that: the other has the probability 1.
    context = Context(vv.Classifier(Broken(-math.inf, only_gone=False, other=True)), Centre())
    found = metric(name)().values_of(case, contributions, context)
    assert found[""] == pytest.approx(1 if name in ("deletion", "insertion") else 0)


@pytest.mark.parametrize("cls", [Ablation, Road])
def test_which_scores_are_not_finite(cls: type[Ablation | Road]) -> None:
    _, inputs, contributions = setting()
    case = Case("one", inputs, 1)

    def found(value: float, score: str, *, other: bool) -> float:
        context = Context(vv.Classifier(Broken(value, only_gone=False, other=other)), Centre())
        return cls(score=score).values_of(case, contributions, context)[""]

    for score in ("logit", "accuracy"):
        for other in (False, True):
            with pytest.raises(vv.InputError, match="the model's score is not finite on 1 of 1 pictures"):
                found(math.nan, score, other=other)
        assert found(math.inf, score, other=True) == 0
    for value in (math.inf, -math.inf):
        with pytest.raises(vv.InputError, match="the model's score is not finite on 1 of 1 pictures"):
            found(value, "logit", other=False)
        # Which class is the largest is known.
        assert found(value, "accuracy", other=False) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_metric_takes_a_batch_and_keeps_the_mean(name: str, dtype: torch.dtype) -> None:
    model, _, _ = setting()
    model = model.to(dtype)
    inputs, maps = drawn(3, 2, HEIGHT, WIDTH, seed=4).to(dtype), drawn(3, HEIGHT, WIDTH, seed=6).to(dtype)
    targets = torch.tensor([1, 0, 1])
    made: Metric = metric(name)()
    values = made.update(model, inputs, maps, targets, seed=7)  # type: ignore[attr-defined]
    for k in range(3):
        context = Context(vv.Classifier(model), Centre(), seed=7 + k)
        alone = made.values_of(Case("one", inputs[k : k + 1], int(targets[k])), maps[k], context)
        assert values[k].item() == pytest.approx(alone[""], abs=1e-6 if dtype == torch.float32 else 1e-12)
    assert made.compute().mean == pytest.approx(values.mean().item())
    assert made.compute().count == 3
    assert values.std() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_no_forward_pass_is_larger_than_the_batch(name: str) -> None:
    model, inputs, contributions = setting()
    case, context = Case("one", inputs, 1), Context(vv.Classifier(model), Centre())
    found = []
    for batch in (1, 4, 100):
        model.seen.clear()
        found.append(metric(name)(batch=batch).values_of(case, contributions, context))
        assert max(len(seen) for seen in model.seen) == {"ablation": min(batch, 11), "road": min(batch, 9)}.get(
            name, min(batch, 21)
        )
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert found[0] == pytest.approx(found[2], rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_chance_is_the_cases_seed_alone(name: str) -> None:
    model, inputs, _ = setting()
    case, heatmap = Case("one", inputs, 1), torch.ones(HEIGHT, WIDTH)
    state = torch.get_rng_state()
    found = []
    for seed in (0, 0, 1, 2**40):
        torch.manual_seed(len(found))
        before = torch.get_rng_state()
        found.append(metric(name)().values_of(case, heatmap, Context(vv.Classifier(model), Centre(), seed=seed)))
        assert torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(state)
    assert found[0] == found[1]
    assert found[0] != found[2] != found[3]


@pytest.mark.parametrize("name", NAMES)
def test_the_model_the_picture_and_the_map_stay_as_they_are(name: str) -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(126, 4))
    module = module.double().eval()
    module[4].bias.requires_grad_(False)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    inputs, heatmap = drawn(1, 2, HEIGHT, WIDTH), drawn(HEIGHT, WIDTH, seed=6)
    case = Case("one", inputs.clone(), 3)
    kept = heatmap.clone()
    found = metric(name)().values_of(case, kept, Context(vv.Classifier(module), Centre()))
    assert all(math.isfinite(value) for value in found.values())
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert [parameter.requires_grad for parameter in module.parameters()] == [True] * 5 + [False]
    assert not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert torch.equal(case.inputs, inputs)
    assert torch.equal(kept, heatmap)


def test_what_does_not_fit_is_refused() -> None:
    model, inputs, contributions = setting()
    broken = contributions.clone()
    broken[2, 2] = math.nan
    for call in (ablation, deletion, insertion, road):
        with pytest.raises(vv.InputError, match=r"\(1, 2, 9, 8\) and \(8, 9\)"):
            call(model, inputs, contributions.T, 1)
        with pytest.raises(vv.InputError, match=r"\(2, 2, 9, 8\) and \(9, 8\)"):
            call(model, inputs.repeat(2, 1, 1, 1), contributions, 1)
        with pytest.raises(vv.InputError, match="NaN or infinite"):
            call(model, inputs, broken, 1)
        for target in (-1, 2):
            with pytest.raises(vv.InputError, match=rf"no class {target}; the model has 2"):
                call(model, inputs, contributions, target)
        with pytest.raises(vv.InputError, match="batch is a whole number of at least 1, not 0"):
            call(model, inputs, contributions, 1, batch=0)
    for name in ("size", "samples"):
        with pytest.raises(vv.InputError, match=f"{name} is a whole number of at least 1, not 0"):
            ablation(model, inputs, contributions, 1, **{name: 0})
    with pytest.raises(vv.InputError, match="no score 'margin'; there are probability, logit, accuracy"):
        ablation(model, inputs, contributions, 1, score="margin")
    with pytest.raises(vv.InputError, match="steps is a whole number of at least 1, not 0"):
        deletion(model, inputs, contributions, 1, steps=0)
    for shares in ((), (0.0, 0.5), (1.0,), (math.nan,)):
        with pytest.raises(vv.InputError, match="above 0 and below 1, not"):
            road(model, inputs, contributions, 1, shares=shares)
    for same in (0.1, 0.1 + 1e-12, 0.1 + 1e-8):
        with pytest.raises(vv.InputError, match=r"differ in six digits, unlike \(0\.1, 0\.1"):
            Road(shares=(0.1, same))
    for noise in (-1, math.nan):
        with pytest.raises(vv.InputError, match="a standard deviation of at least 0, not"):
            road(model, inputs, contributions, 1, noise=noise)

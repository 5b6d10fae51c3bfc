"""Stability under noise, on explainers whose maps are known, against scipy and slow loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

import visavis as vv
from visavis.evaluation import Case, Context, metric
from visavis.evaluation.discriminativeness import ssim
from visavis.evaluation.explainers import MethodExplainer, baseline
from visavis.evaluation.stability import MapStability, disturbed, likeness, stability

DOUBLE = torch.float64


class Drawing:
    """An explainer that is a function of the picture and the class, and remembers what it was asked."""

    name = "drawing"
    title = "Drawing"

    def __init__(self, draw: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.draw = draw
        self.asked: list[tuple[Tensor, list[int]]] = []

    def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self.asked.append((inputs, targets.tolist()))
        return self.draw(inputs, targets)


def brightness() -> Drawing:
    return Drawing(lambda inputs, targets: inputs.sum(1))


def picture(size: int = 14) -> Tensor:
    return torch.rand(1, 3, size, size, dtype=DOUBLE) * torch.tensor([1.0, 2, 4], dtype=DOUBLE).view(3, 1, 1)


def classifier(bounds: tuple[float, float] | None = None) -> vv.Classifier:
    return vv.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 14 * 14, 2)).double(), bounds=bounds)


# -- the noise ---------------------------------------------------------------------------------------------------------


def test_noise_is_a_share_of_each_channels_range() -> None:
    inputs = torch.full((1, 2, 50, 50), 0.5, dtype=DOUBLE)
    bounds = tuple(torch.tensor(bound, dtype=DOUBLE).view(1, 2, 1, 1) for bound in ([-1.0, -10.0], [2.0, 30.0]))
    found = disturbed(inputs, noise=0.05, samples=3, bounds=bounds) - 0.5
    assert found.shape == (3, 2, 50, 50)
    for channel, width in enumerate((3, 40)):
        assert found[:, channel].std().item() == pytest.approx(0.05 * width, rel=0.05)
        assert abs(found[:, channel].mean().item()) < 4 * 0.05 * width / math.sqrt(7500)
    for one, other in ((0, 1), (1, 2)):
        assert abs(np.corrcoef(found[one].flatten().numpy(), found[other].flatten().numpy())[0, 1]) < 0.06
    assert torch.equal(disturbed(inputs, noise=0.05, samples=3, bounds=bounds, seed=0) - 0.5, found)
    assert not torch.equal(disturbed(inputs, noise=0.05, samples=3, bounds=bounds, seed=1) - 0.5, found)


def test_noise_stays_within_the_bounds_or_the_picture() -> None:
    inputs = picture()
    within = disturbed(inputs, noise=0.5, samples=4, bounds=(torch.tensor(0.0), torch.tensor(1.0)))
    assert (within.min(), within.max()) == (0, 1)
    without = disturbed(inputs, noise=0.5, samples=4)
    for channel in range(3):
        assert without[:, channel].min() == inputs[:, channel].min()
        assert without[:, channel].max() == inputs[:, channel].max()
    assert torch.equal(disturbed(inputs, noise=0, samples=1), inputs)


def test_noise_that_there_is_not() -> None:
    with pytest.raises(vv.InputError, match=r"one picture \(1, C, H, W\), not to inputs of shape \(2, 3, 14, 14\)"):
        disturbed(picture().repeat(2, 1, 1, 1), noise=0.1, samples=1)
    for noise, samples in ((-0.1, 1), (math.nan, 1), (math.inf, 1), (0.1, 0)):
        with pytest.raises(vv.InputError, match="of at least one sample"):
            disturbed(picture(), noise=noise, samples=samples)


# -- the values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["rank", "cosine", "ssim"])
@pytest.mark.parametrize("batch", [1, 3, 10])
def test_likeness_and_sensitivity_by_a_loop(measure: str, batch: int) -> None:
    inputs, explainer = picture(), brightness()
    own = inputs.sum(1)[0]
    found = stability(
        explainer,
        inputs,
        own,
        1,
        noise=0.3,
        samples=5,
        measure=measure,
        bounds=(-torch.ones(1), 5 * torch.ones(1)),
        batch=batch,
        seed=3,
    )
    copies = disturbed(inputs, noise=0.3, samples=5, bounds=(-torch.ones(1), 5 * torch.ones(1)), seed=3).sum(1)
    alike, farthest = [], []
    for copy in copies.numpy():
        a, b = own.numpy().ravel(), copy.ravel()
        alike.append(
            {
                "rank": spearmanr(a, b).statistic,
                "cosine": a @ b / math.sqrt((a @ a) * (b @ b)),
                "ssim": ssim(own[None], torch.tensor(copy)[None]).item(),
            }[measure]
        )
        farthest.append(math.sqrt(((a - b) ** 2).sum() / (a**2).sum()))
    assert found.likeness == pytest.approx(np.mean(alike), rel=1e-9)
    assert found.sensitivity == pytest.approx(max(farthest), rel=1e-9)
    assert max(alike) - min(alike) > 1e-4
    assert [len(asked) for asked, _ in explainer.asked] == {1: [1] * 5, 3: [3, 2], 10: [5]}[batch]
    assert {target for _, targets in explainer.asked for target in targets} == {1}


def test_a_map_that_ignores_the_picture_is_perfectly_stable_and_noise_is_not() -> None:
    inputs, target = picture(), torch.tensor([0])
    for name, least, most in (("centre", 1 - 1e-9, 1), ("edges", 0.5, 0.999), ("random", -0.2, 0.2)):
        explainer = baseline(name)
        found = stability(explainer, inputs, explainer.heatmaps(inputs, target)[0], 0, noise=0.05)
        assert least <= found.likeness <= most
        assert (found.sensitivity == 0) == (name == "centre")
    inverted = Drawing(lambda inputs, targets: -inputs.sum(1))
    found = stability(inverted, inputs, inputs.sum(1)[0], 0, noise=0)
    assert found.likeness == pytest.approx(-1)
    assert found.sensitivity == pytest.approx(2)


def test_more_noise_less_likeness() -> None:
    inputs = picture()
    found = [stability(brightness(), inputs, inputs.sum(1)[0], 0, noise=noise) for noise in (0, 0.02, 0.2)]
    assert found[0] == (pytest.approx(1), 0)
    assert 1 > found[1].likeness > found[2].likeness + 0.05
    assert found[1].sensitivity < found[2].sensitivity


def test_a_map_of_zeros_has_no_sensitivity() -> None:
    inputs = picture()
    found = stability(brightness(), inputs, torch.zeros(14, 14, dtype=DOUBLE), 0)
    assert found.likeness == 0
    assert math.isnan(found.sensitivity)
    case = Case("one", inputs, 0)
    values = MapStability().values_of(case, torch.zeros(14, 14), Context(classifier(), brightness()))
    assert values == {"": 0}


def test_measures_that_there_are_not() -> None:
    with pytest.raises(vv.InputError, match="no measure of likeness 'pearson'; there are rank, cosine, ssim"):
        likeness("pearson")
    with pytest.raises(vv.InputError, match="at least one picture, not 0"):
        stability(brightness(), picture(), torch.zeros(14, 14), 0, batch=0)


# -- as a metric -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [None, (-1.0, 5.0)])
def test_the_metric_is_the_function_on_the_case(bounds: tuple[float, float] | None) -> None:
    inputs, own = picture(), picture().sum(1)[0]
    model = classifier(bounds)
    found = metric("stability")(noise=0.1, samples=3, measure="cosine", batch=2).values_of(
        Case("one", inputs, 1), own, Context(model, brightness(), seed=6)
    )
    expected = stability(
        brightness(), inputs, own, 1, noise=0.1, samples=3, measure="cosine", bounds=model.bounds, batch=2, seed=6
    )
    assert found == {"": pytest.approx(expected.likeness), "sensitivity": pytest.approx(expected.sensitivity)}
    assert (metric("stability").direction, metric("stability").low, metric("stability").high) == ("higher", -1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_it_takes_a_batch_and_keeps_the_mean(dtype: torch.dtype) -> None:
    inputs = torch.cat([picture(), picture(), picture()]).to(dtype)
    made, explainer = MapStability(noise=0.1), brightness()
    values = made.update(explainer, inputs, inputs.sum(1), torch.tensor([0, 1, 2]), seed=4)
    for k in range(3):
        alone = stability(brightness(), inputs[k : k + 1], inputs[k].sum(0), k, noise=0.1, seed=4 + k)
        assert values[k].item() == pytest.approx(alone.likeness)
    assert made.compute().mean == pytest.approx(values.mean().item())
    assert [targets for _, targets in explainer.asked] == [[0] * 4, [1] * 4, [2] * 4]
    bounded = MapStability(noise=0.1).update(
        brightness(), inputs, inputs.sum(1), torch.tensor([0, 1, 2]), seed=4, bounds=(torch.zeros(1), torch.ones(1))
    )
    assert (bounded - values).abs().min() > 1e-3


def test_a_method_that_minds_its_bounds_is_not_led_beyond_them() -> None:
    model = classifier(bounds=(0.0, 4.0))
    explainer = MethodExplainer(vv.LRP(model))
    inputs = picture()
    own = explainer.heatmaps(inputs, torch.tensor([1]))[0]
    state = {key: value.clone() for key, value in model.module.state_dict().items()}
    random = torch.get_rng_state()
    found = [MapStability(noise=0.3).values_of(Case("one", inputs, 1), own, Context(model, explainer)) for _ in "ab"]
    assert found[0] == found[1]
    assert 0 < found[0][""] < 1
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in model.module.state_dict().items())

"""Quantus's metrics run on our methods through Quantus's own interface; where both measure one thing, the values agree.

What differs by convention stands in the test that compares. Everywhere: Quantus normalises maps by the largest |value|
of the whole batch, which none of the quantities compared here depends on, but for the constants named there.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pages import run_block
from visavis.evaluation import MethodExplainer, quantus_explain
from visavis.evaluation.deletion import area, deletion
from visavis.evaluation.discriminativeness import rank_correlation
from visavis.evaluation.localization import energy_within, pointing
from visavis.evaluation.sparsity import entropy, gini
from visavis.evaluation.spelling import method_of
from visavis.evaluation.stability import disturbed, stability

with warnings.catch_warnings():
    # Its sources hold escapes that Python warns of when it compiles them.
    warnings.simplefilter("ignore")
    quantus = pytest.importorskip(
        "quantus", reason="quantus is not installed; `make quantus` runs this in an environment of its own"
    )

# Its areas are by np.trapz, which numpy 2.0 to 2.3 warn of.
pytestmark = pytest.mark.filterwarnings("ignore:`trapz` is deprecated:DeprecationWarning")

METHODS = ("clrp", "clrp:foil=runner-up,signed=true", "lrp", "lrp:rules=zero", "gradient")
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)

SIDE = 12
TARGETS = np.array([3, 0, 4])


@pytest.fixture
def network() -> nn.Module:
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 5)).eval()


@pytest.fixture
def inputs() -> np.ndarray:
    # A pixel is black somewhere, so that Quantus's "black", the least value of the picture, is 0.
    drawn = np.random.default_rng(0).random((3, 3, SIDE, SIDE), dtype=np.float32)
    drawn[:, :, 0, 0] = 0
    return drawn


@pytest.fixture
def masks() -> np.ndarray:
    found = np.zeros((3, 1, SIDE, SIDE), dtype=bool)
    found[0, :, 2:7, 3:9] = found[1, :, 0:4, 0:4] = found[2, :, 6:, 5:] = True
    return found


def maps_of(network: nn.Module, inputs: np.ndarray, method: str, targets: np.ndarray = TARGETS) -> Tensor:
    return torch.from_numpy(quantus_explain(network, inputs, targets, method=method))[:, 0]


def measured(metric: Any, network: nn.Module, inputs: np.ndarray, method: str, **arguments: Any) -> Any:
    """What a metric of Quantus finds; it asks for the maps itself."""
    np.random.seed(0)
    return metric(
        model=network,
        x_batch=inputs,
        y_batch=TARGETS,
        device="cpu",
        explain_func=quantus_explain,
        explain_func_kwargs={"method": method},
        **arguments,
    )


# -- every family runs -------------------------------------------------------------------------------------------------

FAMILIES = {
    "faithfulness: pixel flipping": lambda: quantus.PixelFlipping(features_in_step=9, return_auc_per_sample=True),
    "faithfulness: correlation": lambda: quantus.FaithfulnessCorrelation(
        nr_runs=20, subset_size=40, return_aggregate=False
    ),
    "robustness: max-sensitivity": lambda: quantus.MaxSensitivity(nr_samples=3),
    "robustness: local Lipschitz": lambda: quantus.LocalLipschitzEstimate(nr_samples=3),
    "localisation: pointing game": quantus.PointingGame,
    "localisation: rank": quantus.RelevanceRankAccuracy,
    "localisation: mass": quantus.RelevanceMassAccuracy,
    "localisation: attribution": quantus.AttributionLocalisation,
    "complexity: sparseness": quantus.Sparseness,
    "complexity: entropy": quantus.Complexity,
    "randomisation: parameters": lambda: quantus.MPRT(return_last_correlation=True),
    "randomisation: class": lambda: quantus.RandomLogit(num_classes=5),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_runs(family: str, method: str, network: nn.Module, inputs: np.ndarray, masks: np.ndarray) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = np.array(measured(FAMILIES[family](), network, inputs, method, s_batch=masks), dtype=float)
    assert found.shape == (3,)
    assert np.isfinite(found).all()
    # The maps that Quantus is given beforehand are those that it asks for.
    given = quantus_explain(network, inputs, TARGETS, method=method)
    again = measured(FAMILIES[family](), network, inputs, method, s_batch=masks, a_batch=given)
    close(np.array(again, dtype=float), found)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


# -- a linear model, by hand -------------------------------------------------------------------------------------------


@pytest.fixture
def linear() -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 5, bias=False)).eval()
    # Weights of one size: what a disturbance d does to w ⊙ x is as large as d, times that size.
    module[1].weight.data = 0.5 * module[1].weight.data.sign()
    return module


@pytest.mark.parametrize("method", ["lrp:rules=zero,seed=score", "input-x-gradient"])
def test_on_a_linear_model_gradient_times_input_is_perfectly_faithful(method: str, linear: nn.Module) -> None:
    """Replaced by 0, pixels take away w · x: exactly what the map gives them."""
    inputs = np.random.default_rng(1).random((3, 1, SIDE, SIDE), dtype=np.float32)
    # LRP's seed is |S_j|: where the score is negative, the map is that of the opposite score.
    signs = np.sign(linear(torch.tensor(inputs)).detach().numpy()[np.arange(3), TARGETS])
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=20, subset_size=40, perturb_baseline=0.0, normalise=False, return_aggregate=False
    )
    found = measured(metric, linear, inputs, method)
    close(found, signs if method.startswith("lrp") else np.ones(3), rtol=1e-4)
    shuffled = np.random.default_rng(2).permutation(quantus_explain(linear, inputs, TARGETS, method=method), axis=3)
    assert (np.abs(measured(metric, linear, inputs, method, a_batch=shuffled)) < 0.8).all()


def test_on_a_linear_model_robustness_is_as_by_hand(linear: nn.Module) -> None:
    inputs = np.random.default_rng(1).random((3, 1, SIDE, SIDE), dtype=np.float32)
    lipschitz = quantus.LocalLipschitzEstimate(nr_samples=4, normalise=False)
    close(measured(lipschitz, linear, inputs, "gradient"), np.zeros(3))
    close(measured(lipschitz, linear, inputs, "input-x-gradient"), np.full(3, 0.5), rtol=1e-4)
    sensitivity = quantus.MaxSensitivity(nr_samples=4)
    close(measured(sensitivity, linear, inputs, "gradient"), np.zeros(3))


# -- the same quantities -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_energy_in_the_mask(method: str, network: nn.Module, inputs: np.ndarray, masks: np.ndarray) -> None:
    """Ours is the share of positive relevance. AttributionLocalisation's is, if it is told not to take |relevance|."""
    maps, regions = maps_of(network, inputs, method), torch.from_numpy(masks[:, 0])
    ours = energy_within(maps, regions).numpy()
    same = quantus.AttributionLocalisation(positive_attributions=True, abs=False)
    close(measured(same, network, inputs, method, s_batch=masks), ours)
    by_default = measured(quantus.AttributionLocalisation(), network, inputs, method, s_batch=masks)
    close(by_default, energy_within(maps.abs(), regions).numpy())
    mass = measured(quantus.RelevanceMassAccuracy(), network, inputs, method, s_batch=masks)
    if bool((maps >= 0).all()):
        close(mass, ours)
    else:
        # Signed relevance cancels in its denominator, so that it is no share any more; that of a contrast wholly.
        signed = (maps * regions).sum((1, 2)) / maps.sum((1, 2))
        if not method.startswith("clrp"):
            close(mass, signed.numpy(), rtol=1e-2)
        assert np.abs(np.array(mass) - ours).max() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_pointing_game(method: str, network: nn.Module, inputs: np.ndarray, masks: np.ndarray) -> None:
    """Quantus has no tolerance, and counts a hit if any of several equal maxima hits; ours is the share that do."""
    maps, regions = maps_of(network, inputs, method), torch.from_numpy(masks[:, 0])
    own = np.array(measured(quantus.PointingGame(), network, inputs, method, s_batch=masks), dtype=float)
    close(own, pointing(maps, regions, tolerance=0).numpy())
    # Where the maximum itself is the mask, and nowhere else.
    at = (maps == maps.amax((1, 2), keepdim=True)).numpy()[:, None]
    for mask, hit in ((at, 1.0), (~at, 0.0)):
        found = measured(quantus.PointingGame(), network, inputs, method, s_batch=mask)
        close(np.array(found, dtype=float), np.full(3, hit))
        close(pointing(maps, torch.from_numpy(mask[:, 0]), tolerance=0).numpy(), np.full(3, hit))


def test_pointing_game_with_several_maxima(network: nn.Module, inputs: np.ndarray) -> None:
    maps = np.zeros((3, 1, SIDE, SIDE), dtype=np.float32)
    maps[:, :, 2, 2] = maps[:, :, 2, 3] = maps[:, :, 9, 9] = 1
    masks = np.zeros_like(maps, dtype=bool)
    masks[:, :, :4, :4] = True
    found = measured(quantus.PointingGame(), network, inputs, "lrp", s_batch=masks, a_batch=maps)
    close(np.array(found, dtype=float), np.ones(3))
    close(pointing(torch.from_numpy(maps[:, 0]), torch.from_numpy(masks[:, 0]), tolerance=0).numpy(), np.full(3, 2 / 3))


@pytest.mark.parametrize("method", METHODS)
def test_sparsity_and_complexity(method: str, network: nn.Module, inputs: np.ndarray) -> None:
    """Both take |value|. Quantus adds 1e-7 to each normalised value before the Gini index, 1e-12 in the logarithm."""
    maps = maps_of(network, inputs, method)
    close(measured(quantus.Sparseness(), network, inputs, method), gini(maps).numpy(), rtol=1e-4)
    close(measured(quantus.Complexity(), network, inputs, method), entropy(maps).numpy(), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 3])
def test_deletion_is_pixel_flipping(method: str, channels: int, inputs: np.ndarray) -> None:
    """Quantus replaces values, not pixels, by the least value of the picture, here 0, and gives no point before that.

    A map of one channel stands for all; equal values are neighbours in the order, so that as many values as channels
    are one pixel. Its area is by unit steps; ours by steps that add up to 1, and with the point of the whole picture.
    """
    layers = nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Flatten()
    network = nn.Sequential(*layers, nn.Linear(8 * SIDE**2, 5)).eval()
    inputs = inputs[:, :channels]
    maps = maps_of(network, inputs, method)
    steps = 24 if method != "clrp" else SIDE**2
    whole = quantus.PixelFlipping(features_in_step=channels * SIDE**2 // steps)
    areas = quantus.PixelFlipping(features_in_step=channels * SIDE**2 // steps, return_auc_per_sample=True)
    curves, found = (np.array(measured(metric, network, inputs, method)) for metric in (whole, areas))
    for item, target in enumerate(TARGETS.tolist()):
        ours = deletion(network, torch.from_numpy(inputs[item : item + 1]), maps[item], target, steps=steps)
        # CLRP's zeros are equal: which of them goes first is anyone's choice.
        distinct = int((maps[item] > 0).sum()) if method == "clrp" else steps
        close(curves[item, :distinct], ours[1 : distinct + 1].numpy())
        close(curves[item, -1], ours[-1].item())
        if method != "clrp":
            close(area(ours) * steps, found[item] + (ours[0] + ours[1]).item() / 2)


@pytest.mark.parametrize("method", METHODS)
def test_stability_under_the_same_noise(method: str, network: nn.Module, inputs: np.ndarray) -> None:
    """Both are the largest ‖change of the map‖ / ‖map‖. The noise is uniform there, Gaussian here: so it is given."""
    own = network, inputs[:1], TARGETS[:1]
    cls, options = method_of(method)
    explainer = MethodExplainer(cls(network, **options))
    picture = torch.from_numpy(inputs[:1])
    heatmap = explainer.heatmaps(picture, torch.from_numpy(TARGETS[:1]))[0]
    ours = stability(explainer, picture, heatmap, int(TARGETS[0]), noise=0.05, samples=5, seed=2).sensitivity
    copies = iter(disturbed(picture, noise=0.05, samples=5, seed=2).numpy())

    def replaced(arr: np.ndarray, **_: Any) -> np.ndarray:
        return next(copies).reshape(arr.shape)

    metric = quantus.MaxSensitivity(nr_samples=5, perturb_func=replaced)
    found = metric(*own, explain_func=quantus_explain, explain_func_kwargs={"method": method})
    close(found, [ours], rtol=1e-4)
    assert ours > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_likeness_to_the_map_of_another_class(method: str, network: nn.Module, inputs: np.ndarray) -> None:
    """RandomLogit draws one other class; of two there is one. It takes SSIM by default, here the rank correlation."""
    two = nn.Sequential(*network[:-1], nn.Linear(72, 2))
    metric = quantus.RandomLogit(num_classes=2, similarity_func=quantus.correlation_spearman)
    targets = np.array([1, 0, 1])
    found = metric(two, inputs, targets, explain_func=quantus_explain, explain_func_kwargs={"method": method})
    own, other = maps_of(two, inputs, method, targets), maps_of(two, inputs, method, 1 - targets)
    close(found, rank_correlation(own, other).numpy())


@pytest.mark.parametrize("method", METHODS)
def test_likeness_to_the_map_of_random_weights(method: str, network: nn.Module, inputs: np.ndarray) -> None:
    """MPRT redraws weights by `reset_parameters`; on its networks, our rank correlation of |value| is its own."""
    found = measured(quantus.MPRT(), network, inputs, method)
    own = maps_of(network, inputs, method).abs()
    wrapped = quantus.helpers.model.pytorch_model.PyTorchModel(network)
    close(found.pop("original"), np.ones(3))
    assert list(found) == ["7", "3", "0"]
    for layer, random in wrapped.get_random_layer_generator(order="top_down", seed=42):
        close(found[layer], rank_correlation(own, maps_of(random, inputs, method).abs()).numpy())


# -- its evaluate, and the page ----------------------------------------------------------------------------------------


def test_the_page_runs(network: nn.Module, inputs: np.ndarray, masks: np.ndarray) -> None:
    names = {"module": network, "x_batch": inputs, "y_batch": TARGETS, "s_batch": masks}
    found = run_block("evaluation.md", "quantus_explain", names)["scores"]
    assert list(found) == ["clrp", "clrp:foil=runner-up", "lrp", "gradient"]
    for method, row in found.items():
        assert list(row) == ["faithfulness", "robustness", "localisation", "complexity", "randomisation"]
        assert all(np.isfinite(np.array(values, dtype=float)).all() for values in row.values())
        close(row["complexity"], gini(maps_of(network, inputs, method)).numpy(), rtol=1e-4)
    assert found["clrp"] != found["clrp:foil=runner-up"]


def test_a_contrast_that_is_0_everywhere_is_refused_and_a_signed_one_is_not(inputs: np.ndarray) -> None:
    """A score that rests on its bias alone has no relevance, so the foils have more at each pixel that is not black."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 5)).eval()
    network[1].weight.data.abs_()[TARGETS] = 0
    network[1].bias.data.fill_(1)
    with pytest.raises(AssertionError, match="zero"):
        measured(quantus.Sparseness(), network, inputs, "clrp:rules=zero")
    found = measured(quantus.Sparseness(), network, inputs, "clrp:rules=zero,signed=true")
    close(found, gini(maps_of(network, inputs, "clrp:rules=zero,signed=true")).numpy(), rtol=1e-4)

"""Who makes the maps: methods as they are, one forward pass for many classes, and baselines that ignore the model."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

import visavis as vv
from visavis.evaluation import Explainer
from visavis.evaluation.explainers import Centre, Edges, MethodExplainer, Random, baseline, baselines

DOUBLE = torch.float64


class Counted(nn.Sequential):
    """A small network that counts its forward passes and the pictures in them."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 5),
        )
        self.pictures: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.pictures.append(len(inputs))
        return super().forward(inputs)


def network(seed: int = 4) -> Counted:
    torch.manual_seed(seed)
    return Counted().double().eval()


def pictures(count: int = 3, height: int = 12, width: int = 10) -> Tensor:
    return torch.rand(count, 3, height, width, dtype=DOUBLE, generator=torch.Generator().manual_seed(7)) * 2 - 1


# -- methods -----------------------------------------------------------------------------------------------------------


def test_a_map_is_the_signed_attribution_summed_over_channels() -> None:
    weight = torch.randn(2, 3 * 4 * 5, dtype=DOUBLE)
    dense = nn.Linear(60, 2, bias=False).double()
    dense.weight.data = weight.clone()
    explainer = MethodExplainer(vv.InputXGradient(nn.Sequential(nn.Flatten(), dense)))
    inputs, targets = pictures(2, 4, 5), torch.tensor([1, 0])
    expected = np.einsum("bchw,bchw->bhw", inputs.numpy(), weight[targets].view(2, 3, 4, 5).numpy())
    assert expected.min() < 0
    found = explainer.heatmaps(inputs, targets)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    assert found.dtype == DOUBLE


def test_a_map_by_magnitude_is_the_largest_value_over_channels_without_its_sign() -> None:
    module, inputs = network(), pictures()
    targets = torch.tensor([0, 1, 2])
    explainer = MethodExplainer(vv.method("gradient")(module), channels="magnitude")
    attribution = vv.method("gradient")(module).attribute(inputs, target=targets)
    expected = torch.stack([attribution[:, channel].abs() for channel in range(3)]).max(0).values
    torch.testing.assert_close(explainer.heatmaps(inputs, targets), expected)
    torch.testing.assert_close(explainer.heatmaps_of_classes(inputs[:1], targets[:1]), expected[:1])
    torch.testing.assert_close(explainer.on(vv.Classifier(module)).heatmaps(inputs, targets), expected)
    with pytest.raises(vv.InputError, match="channels is 'sum' or 'magnitude', not 'red'"):
        MethodExplainer(vv.LRP(module), channels="red")


def test_names_are_the_methods_unless_given() -> None:
    method = vv.CLRP(network())
    assert (MethodExplainer(method).name, MethodExplainer(method).title) == ("clrp", "CLRP")
    named = MethodExplainer(method, "clrp-1", "CLRP, others")
    assert (named.name, named.title) == ("clrp-1", "CLRP, others")
    assert isinstance(named, Explainer)
    assert repr(named) == "MethodExplainer(clrp-1, Counted)"


@pytest.mark.parametrize("name", vv.methods())
def test_many_classes_of_a_picture_are_what_each_is_alone(name: str) -> None:
    few: dict[str, Any] = {"integrated-gradients": {"steps": 2}, "smoothgrad": {"samples": 2}}
    explainer = MethodExplainer(vv.method(name)(vv.Classifier(network(), bounds=(-1, 1)), **few.get(name, {})))
    inputs, targets = pictures(1), torch.tensor([4, 0, 2])
    alone = torch.cat([explainer.heatmaps(inputs, targets[k : k + 1]) for k in range(3)])
    assert (alone[0] - alone[1]).abs().max() > 1e-6
    torch.testing.assert_close(explainer.heatmaps_of_classes(inputs, targets), alone, rtol=1e-9, atol=1e-12)
    assert explainer.heatmaps_of_classes(inputs, targets[:0]).shape == (0, 12, 10)


@pytest.mark.parametrize("foil", ["others", "negated", "logits", "runner-up", 1])
def test_many_classes_against_each_foil(foil: Any) -> None:
    explainer = MethodExplainer(vv.CLRP(network(), foil=foil, normalize="sum", signed=True))
    inputs, targets = pictures(1), torch.tensor([3, 0])
    alone = torch.cat([explainer.heatmaps(inputs, targets[k : k + 1]) for k in range(2)])
    torch.testing.assert_close(explainer.heatmaps_of_classes(inputs, targets), alone, rtol=1e-9, atol=1e-12)


def test_a_method_on_the_engine_runs_forward_once_for_all_classes() -> None:
    module = network()
    explainer = MethodExplainer(vv.CLRP(module))
    explainer.heatmaps_of_classes(pictures(1), torch.arange(5))
    assert module.pictures == [1]


def test_other_methods_take_a_few_copies_at_a_time() -> None:
    module = network()
    method = vv.IntegratedGradients(module, steps=1)
    explainer = MethodExplainer(method)
    explainer.heatmaps_of_classes(pictures(1), torch.arange(5).repeat(4))
    assert max(module.pictures) == 8
    assert sum(module.pictures) >= 20


def test_a_method_that_answers_at_a_lower_resolution_is_resized() -> None:
    class Coarse(vv.GradCAM):
        """Half the resolution, one channel."""

        def attribute(self, inputs: Any, target: Any = None, *, additional_forward_args: Any = None) -> Any:
            return F.avg_pool2d(inputs[:, :1], 2)

    inputs = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    found = MethodExplainer(Coarse(network().float())).heatmaps(inputs, torch.tensor([0]))
    # 2.5, 4.5; 10.5, 12.5, whose pixels stand at 0.5 and 2.5: between them linear, beyond them constant.
    down, right = np.array([2.5, 4.5, 8.5, 10.5]), np.array([0, 0.5, 1.5, 2])
    np.testing.assert_allclose(found[0].numpy(), down[:, None] + right, rtol=1e-6)


def test_the_same_method_on_another_model() -> None:
    classifier = vv.Classifier(network(), bounds=(-1, 1))
    other = vv.Classifier(network(seed=5), labels=list("abcde"), name="other")
    inputs, targets = pictures(), torch.tensor([0, 1, 2])
    method = vv.CLRP(classifier, foil="runner-up", rules="epsilon-plus", signed=True, normalize="sum")
    explainer = MethodExplainer(method, "mine", "Mine")
    before = explainer.heatmaps(inputs, targets)
    moved = explainer.on(other)
    assert (moved.name, moved.title) == ("mine", "Mine")
    anew = vv.CLRP(
        network(seed=5), foil="runner-up", rules="epsilon-plus", signed=True, normalize="sum", bounds=(-1, 1)
    )
    torch.testing.assert_close(moved.heatmaps(inputs, targets), anew.attribute(inputs, targets).sum(1))
    assert (moved.heatmaps(inputs, targets) - before).abs().max() > 1e-6
    # The explainer itself is where it was.
    assert method.classifier is classifier
    torch.testing.assert_close(explainer.heatmaps(inputs, targets), before, rtol=0, atol=0)
    assert moved.method.classifier.labels is other.labels
    assert moved.method.classifier.name == "other"


def test_bounds_are_the_methods_where_it_has_any() -> None:
    inputs, targets = pictures(), torch.tensor([0, 1, 2])
    other = vv.Classifier(network(seed=5), bounds=(-4, 4))
    wide = MethodExplainer(vv.LRP(network())).on(other)
    narrow = MethodExplainer(vv.LRP(network(), bounds=(-1, 1))).on(other)
    expected = [vv.LRP(network(seed=5), bounds=b).attribute(inputs, targets).sum(1) for b in ((-4, 4), (-1, 1))]
    torch.testing.assert_close(wide.heatmaps(inputs, targets), expected[0])
    torch.testing.assert_close(narrow.heatmaps(inputs, targets), expected[1])
    assert (expected[0] - expected[1]).abs().max() > 1e-6
    assert other.bounds is not None
    assert other.bounds[1].item() == 4


@pytest.mark.parametrize("explainer", [MethodExplainer(vv.Gradient(network())), Centre()])
def test_what_does_not_fit_together_is_refused(explainer: MethodExplainer | Centre) -> None:
    with pytest.raises(vv.InputError, match=r"pictures \(B, C, H, W\), not of shape \(3, 12, 10\)"):
        explainer.heatmaps(pictures(1)[0], torch.tensor([0]))
    with pytest.raises(vv.InputError, match=r"targets have shape \(2,\) for 3 inputs"):
        explainer.heatmaps(pictures(), torch.tensor([0, 1]))
    with pytest.raises(vv.InputError, match=r"one picture \(1, C, H, W\)"):
        explainer.heatmaps_of_classes(pictures(), torch.tensor([0, 1]))


# -- baselines ---------------------------------------------------------------------------------------------------------


def test_the_baselines_are_known_by_name() -> None:
    assert baselines() == {"centre": "Centre", "random": "Random", "edges": "Edges (Sobel)"}
    for name, title in baselines().items():
        found = baseline(name)
        assert isinstance(found, Explainer)
        assert (found.name, found.title) == (name, title)
        assert found.on(vv.Classifier(network())) is found
    with pytest.raises(vv.InputError, match=r"no baseline 'center'; try centre"):
        baseline("center")


@pytest.mark.parametrize("name", baselines())
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_baseline_is_the_same_for_a_picture_in_any_company(name: str, dtype: torch.dtype) -> None:
    inputs, targets = pictures().to(dtype), torch.tensor([2, 0, 2])
    before = torch.get_rng_state()
    maps = baseline(name).heatmaps(inputs, targets)
    assert torch.equal(torch.get_rng_state(), before)
    assert maps.shape == (3, 12, 10)
    assert maps.dtype == dtype
    for k in range(3):
        torch.testing.assert_close(baseline(name).heatmaps(inputs[k : k + 1], targets[k : k + 1])[0], maps[k])
    classes = torch.tensor([2, 0])
    torch.testing.assert_close(
        baseline(name).heatmaps_of_classes(inputs[:1], classes), baseline(name).heatmaps(inputs[[0, 0]], classes)
    )
    assert baseline(name).heatmaps(inputs[:0], targets[:0]).shape == (0, 12, 10)


@pytest.mark.parametrize(("height", "width"), [(12, 10), (5, 9)])
def test_the_centre_is_a_bump_in_the_middle(height: int, width: int) -> None:
    found = Centre().heatmaps(pictures(1, height, width), torch.tensor([0]))[0].numpy()
    for y, x in itertools.product(range(height), range(width)):
        down, right = (y + 0.5) / height - 0.5, (x + 0.5) / width - 0.5
        assert found[y, x] == pytest.approx(math.exp(-8 * (down**2 + right**2)), rel=1e-12)
    assert np.array_equal(found, found[::-1])
    assert np.array_equal(found, found[:, ::-1])
    peak = {(y, x) for y in {(height - 1) // 2, height // 2} for x in {(width - 1) // 2, width // 2}}
    assert {(int(y), int(x)) for y, x in np.argwhere(found == found.max())} == peak


def test_noise_depends_on_picture_and_class_alone() -> None:
    inputs = pictures(2, 40, 40)
    inputs[1] = inputs[0]
    inputs[1, 2, 39, 39] += 0.001
    maps = Random().heatmaps(inputs[[0, 0, 1]], torch.tensor([0, 1, 0]))
    for one, other in itertools.combinations(maps.flatten(1), 2):
        assert abs(np.corrcoef(one.numpy(), other.numpy())[0, 1]) < 4 / 40
    assert abs(maps.mean().item()) < 4 / math.sqrt(4800)
    assert maps.std().item() == pytest.approx(1, abs=0.05)
    # In single precision the picture is the same one.
    single = Random().heatmaps(inputs[:1].float(), torch.tensor([0]))
    torch.testing.assert_close(
        single, Random().heatmaps(inputs[:1].float().double(), torch.tensor([0])).float(), rtol=0, atol=0
    )


def test_edges_are_sobels() -> None:
    inputs = pictures(2)
    brightness = inputs.mean(1).numpy()
    # Its kernel, 1, 2, 1 times −1, 0, 1, is eight times as large.
    expected = [np.hypot(*(ndimage.sobel(one, axis, mode="nearest") for axis in (0, 1))) / 8 for one in brightness]
    np.testing.assert_allclose(Edges().heatmaps(inputs, torch.tensor([0, 1])).numpy(), expected, rtol=1e-12)


def test_the_edge_of_a_step_by_hand() -> None:
    inputs = torch.zeros(1, 2, 5, 6)
    inputs[:, 0, :, 3:] = 8.0  # the brightness, a mean over two channels, rises by 4
    found = Edges().heatmaps(inputs, torch.tensor([0]))[0]
    assert found.tolist() == [[0, 0, 2, 2, 0, 0]] * 5

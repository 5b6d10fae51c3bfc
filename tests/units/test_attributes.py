"""Attributes of units, against values worked out by hand, SciPy and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from units.networks import pictures, resnet, small, vit
from visavis.errors import InputError
from visavis.units.above import Above
from visavis.units.activations import activations
from visavis.units.attributes import (
    attribute,
    attributes,
    class_correlation,
    class_selectivity,
    hoyer,
    register_attribute,
    related,
)
from visavis.units.concepts import concept_alignment
from visavis.units.intervals import correlation, pearson, spearman
from visavis.units.weights import incoming_norms


def doubles(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_class_selectivity() -> None:
    labels = torch.tensor([0, 0, 2, 2, 5])
    mean = doubles([1, 2, 0], [3, 2, 0], [0, 2, 0], [1, 2, 0], [1.5, 2, 0])
    # Means of unit 0: 2, 0.5, 1.5; so the largest is 2 and the others' mean is 1.
    assert_close(class_selectivity(mean, labels), doubles(1 / 3, 0, 0))
    assert_close(class_selectivity(doubles([0], [4], [0]), torch.tensor([0, 1, 2])), doubles(1))
    with pytest.raises(InputError, match="after the ReLU"):
        class_selectivity(-mean, labels)
    with pytest.raises(InputError, match="at least two"):
        class_selectivity(mean[:2], labels[:2])
    with pytest.raises(InputError, match=r"\(5, 3\) for 4 images"):
        class_selectivity(mean, labels[:4])


def test_class_correlation_against_scipy() -> None:
    mean, probabilities = torch.rand(9, 3, dtype=torch.float64), torch.rand(9, 4, dtype=torch.float64)
    mean[:, 2] = 0.5
    found = class_correlation(mean, probabilities)
    for unit in range(2):
        for k in range(4):
            expected = scipy.stats.pearsonr(mean[:, unit].numpy(), probabilities[:, k].numpy()).statistic
            assert float(found[unit, k]) == pytest.approx(expected, abs=1e-12)
    assert bool(found[2].isnan().all())
    with pytest.raises(InputError, match=r"of the same images.*\(8, 4\)"):
        class_correlation(mean, probabilities[:8])


def test_hoyer() -> None:
    vectors = doubles([0, 0, 3, 0], [2, 2, 2, 2], [1, 1, 0, 0], [-1, 1, 0, 0], [0, 0, 0, 0])
    found = hoyer(vectors.abs().sum(1), vectors.square().sum(1), 4)
    half = 2 - math.sqrt(2)
    assert_close(found, doubles(1, 0, half, half, math.nan), equal_nan=True)
    assert math.isnan(float(hoyer(doubles(1), doubles(1), 1)))


def test_concept_alignment_by_hand() -> None:
    # The top quarter of 8 positions: those above the quantile that is the second largest but a quarter of a step.
    maps = doubles([[[0, 1], [2, 3]]], [[[4, 5], [6, 7]]])
    masks = torch.tensor([[[[0, 0], [0, 0]], [[1, 0], [0, 0]]], [[[0, 0], [1, 1]], [[0, 0], [0, 1]]]]).bool()
    assert_close(concept_alignment(maps, masks, top=0.25), doubles([1, 1 / 3]))
    assert_close(concept_alignment(maps, masks, top=0.4), doubles([2 / 3, 1 / 4]))


def test_concept_alignment_against_a_loop() -> None:
    """Half-pixel bilinear interpolation, pixel by pixel."""
    maps = torch.rand(3, 2, 3, 4, dtype=torch.float64)
    masks = torch.rand(3, 2, 7, 8) > 0.6
    masks[:, 1] = False
    found = concept_alignment(maps, masks, top=0.2)

    def at(image: Tensor, row: int, column: int) -> float:
        y, x = (max((row + 0.5) * 3 / 7 - 0.5, 0), max((column + 0.5) * 4 / 8 - 0.5, 0))
        top, left = int(y), int(x)
        below, right = min(top + 1, 2), min(left + 1, 3)
        wy, wx = y - top, x - left
        upper = image[top, left] * (1 - wx) + image[top, right] * wx
        lower = image[below, left] * (1 - wx) + image[below, right] * wx
        return float(upper * (1 - wy) + lower * wy)

    for unit in range(2):
        threshold = np.quantile(maps[:, unit].numpy(), 0.8)
        both = either = 0
        for n in range(3):
            for row in range(7):
                for column in range(8):
                    responds, there = at(maps[n, unit], row, column) > threshold, bool(masks[n, 0, row, column])
                    both += responds and there
                    either += responds or there
        assert float(found[unit, 0]) == pytest.approx(both / either)
        assert float(found[unit, 1]) == 0
    assert not torch.equal(found, concept_alignment(maps, masks, top=0.05))


def test_concept_alignment_refuses() -> None:
    maps, masks = torch.zeros(2, 1, 3, 3), torch.zeros(2, 1, 3, 3, dtype=torch.bool)
    for wrong in (masks[:1], masks[0], masks.float()):
        with pytest.raises(InputError, match="go with masks"):
            concept_alignment(maps, wrong)
    for top in (0.0, 1.0):
        with pytest.raises(InputError, match="top share"):
            concept_alignment(maps, masks, top=top)
    assert math.isnan(float(concept_alignment(maps, masks)[0, 0]))


# -- weights ---------------------------------------------------------------------------------------------------------


def test_weights_that_make_units() -> None:
    module, inputs = small(), pictures(1)
    first, hidden = (part.weight.detach() for part in (module.first, module.hidden))
    by_hand = [float(first[unit].abs().sum()) for unit in range(6)]
    for layer in ("first", "norm", "relu"):
        assert_close(incoming_norms(Above(module, layer), inputs).tolist(), by_hand)
    for layer in ("hidden", "scale"):
        assert_close(incoming_norms(Above(module, layer), inputs), hidden.abs().sum(1))
    assert_close(
        incoming_norms(Above(resnet(), "maxpool"), inputs), resnet().conv1.weight.detach().abs().sum((1, 2, 3))
    )
    inner = "encoder.layers.encoder_layer_0.mlp"
    mlp = vit().get_submodule(inner)
    assert_close(incoming_norms(Above(vit(), f"{inner}.1"), inputs), mlp[0].weight.detach().abs().sum(1))
    assert_close(incoming_norms(Above(vit(), inner), inputs), mlp[3].weight.detach().abs().sum(1))


def test_transposed_convolutions() -> None:
    module = nn.Sequential(nn.ConvTranspose2d(6, 4, 2, groups=2), nn.Flatten(), nn.LazyLinear(2)).double().eval()
    inputs = torch.rand(1, 6, 3, 3, dtype=torch.float64)
    module(inputs)
    weight = module[0].weight.detach()  # (6, 2, 2, 2): the first 3 inputs make the first 2 units
    expected = torch.cat([weight[:3].abs().sum((0, 2, 3)), weight[3:].abs().sum((0, 2, 3))])
    assert_close(incoming_norms(Above(module, "0"), inputs), expected)


@pytest.mark.parametrize(
    ("build", "layer", "by"),
    [
        (resnet, "layer1", "add_"),
        (resnet, "avgpool", "add_"),
        (vit, "encoder.ln", "add"),
        (vit, "encoder.dropout", "add"),
    ],
)
def test_units_without_weights(build: object, layer: str, by: str) -> None:
    with pytest.raises(InputError, match=f"'{layer}' have no weights of their own, as they are made by `{by}`"):
        incoming_norms(Above(build(), layer), pictures(1))


# -- of a network ----------------------------------------------------------------------------------------------------


def by_hand(name: str, maps: Tensor, labels: Tensor, probabilities: Tensor, module: nn.Module, masks: Tensor) -> Tensor:
    """An attribute of the activations (N, U, H, W) of the layer `relu`."""
    flat = maps.transpose(0, 1).flatten(1)
    mean = maps.mean((2, 3))
    if name == "selectivity":
        means = torch.stack([mean[labels == k].mean(0) for k in labels.unique()]).sort(0, descending=True).values
        return (means[0] - means[1:].mean(0)) / (means[0] + means[1:].mean(0))
    if name == "weight-norm":
        return module.first.weight.detach().abs().sum((1, 2, 3))
    if name == "correlation":
        joint = np.corrcoef(mean.T.numpy(), probabilities.T.numpy())
        return torch.from_numpy(joint[:6, 6:].max(1))
    if name == "alignment":
        return concept_alignment(maps, masks, top=0.05).amax(1)
    if name == "maximum":
        return flat.amax(1)
    if name == "zeros":
        return (flat == 0).double().mean(1)
    root = math.sqrt(flat.shape[1])
    return (root - flat.abs().sum(1) / flat.norm(dim=1)) / (root - 1)


@pytest.mark.parametrize("name", [one.name for one in attributes()])
def test_of_a_network(name: str) -> None:
    module, inputs = small(), pictures(7, 8)
    labels, masks = torch.tensor([0, 1, 1, 3, 0, 3, 1]), torch.rand(7, 2, 16, 16) > 0.7
    batches = list(zip(inputs.split(3), labels.split(3), strict=True))
    found = activations(module, "relu", batches, masks=masks, top=0.05)
    with torch.no_grad():
        maps = module.relu(module.norm(module.first(inputs)))
        probabilities = module(inputs).softmax(1)
    one = attribute(name)
    values = one.of(found)
    assert_close(values, by_hand(name, maps, labels, probabilities, module, masks))
    assert values.unique().numel() > 1
    assert bool(((one.low <= values) & (values <= one.high)).all())


def test_of_tokens_and_vectors() -> None:
    inputs, labels = pictures(4), torch.arange(4)
    found = activations(vit(), "encoder.ln", (inputs, labels))
    kept = Above(vit(), "encoder.ln").keep(inputs)
    assert_close(found.mean, kept.activation.mean((0, 1)))
    assert found.positions == 4 * 17
    assert found.weights is None
    with pytest.raises(InputError, match="no weights of their own"):
        attribute("weight-norm").of(found)
    with pytest.raises(InputError, match="needs masks"):
        attribute("alignment").of(found)
    with pytest.raises(InputError, match="go with masks"):
        activations(vit(), "encoder.ln", (inputs, labels), masks=torch.ones(4, 1, 8, 8, dtype=torch.bool))
    vectors = activations(small(), "hidden", (inputs, labels))
    assert vectors.positions == 4
    assert_close(vectors.class_sums.amax(1), vectors.maximum)


def test_images_of_several_sizes() -> None:
    """Positions count alike, whatever image they are of."""
    module = small()
    one, other = pictures(2, 8), pictures(1, 16)
    found = activations(module, "relu", [(one, torch.tensor([0, 1])), (other, torch.tensor([1]))])
    with torch.no_grad():
        maps = [module.relu(module.norm(module.first(each))).transpose(0, 1).flatten(1) for each in (one, other)]
    flat = torch.cat(maps, 1)
    assert_close(attribute("zeros").of(found), (flat == 0).double().mean(1))
    root = math.sqrt(flat.shape[1])
    assert_close(attribute("hoyer").of(found), (root - flat.abs().sum(1) / flat.norm(dim=1)) / (root - 1))


def test_of_parts_together() -> None:
    inputs, labels = pictures(9), torch.arange(9) % 4
    whole = activations(small(), "relu", (inputs, labels))
    parts = [activations(small(), "relu", (inputs[one], labels[one])) for one in (slice(2), slice(2, 3), slice(3, 9))]
    together = parts[0] + parts[1] + parts[2]
    for one in attributes():
        if one.name != "alignment":
            assert_close(one.of(together), one.of(whole), rtol=1e-12, atol=1e-12)
    assert_close(together.mean, whole.mean)
    assert together.counts.tolist() == whole.counts.tolist() == [3, 2, 2, 2]


def test_the_registry() -> None:
    names = [one.name for one in attributes()]
    assert names == ["selectivity", "weight-norm", "correlation", "alignment", "maximum", "zeros", "hoyer"]
    assert all(one.title and one.source for one in attributes())
    with pytest.raises(InputError, match="there is no attribute 'selectivty'; there are selectivity"):
        attribute("selectivty")
    with pytest.raises(InputError, match="'hoyer' already"):
        register_attribute("hoyer", "", "", 0, 1)(lambda given: given.mean)


def test_dead_units() -> None:
    module = small()
    nn.init.zeros_(module.second.weight)
    nn.init.zeros_(module.second.bias)
    given = activations(module, "second", (pictures(4), torch.tensor([0, 1, 1, 2])))
    assert attribute("selectivity").of(given).tolist() == [0] * 6
    assert attribute("zeros").of(given).tolist() == [1] * 6
    assert bool(attribute("correlation").of(given).isnan().all())
    assert bool(attribute("hoyer").of(given).isnan().all())


# -- what they tell --------------------------------------------------------------------------------------------------


def test_related_against_scipy() -> None:
    importance = torch.randint(6, (40,)).double()  # with ties
    values = importance + torch.randn(40, dtype=torch.float64) * 2
    values[3] = math.nan
    found = related(values, importance)
    known = torch.arange(40) != 3
    one, other = values[known].numpy(), importance[known].numpy()
    for estimate, reference in ((found.pearson, scipy.stats.pearsonr), (found.spearman, scipy.stats.spearmanr)):
        assert estimate.value == pytest.approx(reference(one, other).statistic, abs=1e-12)
        assert estimate.count == 39
        generator = np.random.default_rng(3)
        drawn = [reference(one[i], other[i]).statistic for i in (generator.integers(39, size=39) for _ in range(1_000))]
        assert [estimate.low, estimate.high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.04)
    assert related(values, importance) == found
    assert related(values, importance, seed=1) != found
    assert str(found.pearson) == f"{found.pearson.value:.3f} ({found.pearson.low:.3f} to {found.pearson.high:.3f})"


def test_intervals_of_correlations_cover() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(200):
        first, noise = torch.randn(2, 60, generator=generator, dtype=torch.float64)
        estimate = correlation(first, 0.6 * first + 0.8 * noise, pearson, draws=300)
        covered += estimate.low <= 0.6 <= estimate.high
    assert 0.88 < covered / 200 < 0.99


def test_what_has_no_correlation() -> None:
    values = torch.arange(5.0)
    for kind in (pearson, spearman):
        assert math.isnan(correlation(values, torch.ones(5), kind, draws=10).value)
        assert correlation(values, values**3, kind, draws=50).value == pytest.approx(
            1 if kind is spearman else 0.9, abs=0.1
        )
    assert math.isnan(related(values[:1], values[:1]).pearson.value)
    with pytest.raises(InputError, match="not one a unit each"):
        related(values, values[:4])
    with pytest.raises(InputError, match="infinite"):
        related(values, values / 0)
    with pytest.raises(InputError, match="at least one draw"):
        related(values, values, draws=0)

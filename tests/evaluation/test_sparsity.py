"""How concentrated maps are: by hand, by slow loops and by scipy."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from torch import Tensor, nn

import visavis as vv
from visavis.evaluation import Case, Context, metric
from visavis.evaluation.sparsity import Complexity, Sparsity, entropy, gini

DTYPES = (torch.float32, torch.float64)


def slow_gini(heatmap: Tensor) -> float:
    """Half the mean difference between two pixels, relative to their mean: another definition of the same index."""
    sizes = heatmap.abs().flatten().double()
    return float((sizes[:, None] - sizes).abs().mean() / (2 * sizes.mean()))


def hurley_rickard(heatmap: Tensor) -> float:
    sizes = sorted(abs(value) for value in heatmap.flatten().tolist())
    count, total = len(sizes), math.fsum(sizes)
    return 1 - 2 * math.fsum(size / total * (count - k + 0.5) / count for k, size in enumerate(sizes, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gini_equals_both_definitions(dtype: torch.dtype) -> None:
    maps = torch.randn(6, 5, 7, dtype=dtype) ** torch.tensor([1, 1, 2, 3, 5, 7])[:, None, None]
    maps[1] = maps[1].round()
    found = gini(maps)
    torch.testing.assert_close(found, torch.tensor([slow_gini(one) for one in maps], dtype=dtype))
    torch.testing.assert_close(found, torch.tensor([hurley_rickard(one) for one in maps], dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_entropy_equals_scipy(dtype: torch.dtype) -> None:
    maps = torch.randn(5, 5, 7, dtype=dtype)
    maps[1] = maps[1].round()
    maps[2, 1:] = 0
    expected = [scipy_entropy(one.abs().double().flatten().numpy()) for one in maps]
    torch.testing.assert_close(entropy(maps), torch.tensor(expected, dtype=dtype))


def test_by_hand() -> None:
    maps = torch.tensor([[[3.0, 0], [0, -1]]])
    # Sizes 0, 0, 1, 3: 1 − 2 · (1/4 · 1.5 + 3/4 · 0.5) / 4 = 0.625.
    assert gini(maps).item() == pytest.approx(0.625)
    assert entropy(maps).item() == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [1.0, -0.3, 1e-30])
def test_one_pixel_constant_random_and_empty_maps(value: float, dtype: torch.dtype) -> None:
    single = torch.zeros(1, 6, 5, dtype=dtype)
    single[0, 2, 3] = value
    constant = torch.full((1, 6, 5), value, dtype=dtype)
    random = value * torch.rand(1, 6, 5, dtype=dtype)
    empty = torch.zeros(1, 6, 5, dtype=dtype)
    assert gini(single).item() == pytest.approx(1 - 1 / 30)
    assert gini(constant).item() == pytest.approx(0, abs=1e-12)
    assert gini(constant).item() >= 0
    assert gini(random).item() == pytest.approx(1 / 3, abs=0.12)
    assert gini(empty).item() == 0
    assert entropy(single).item() == 0
    assert entropy(constant).item() == pytest.approx(math.log(30))
    assert entropy(empty).item() == pytest.approx(math.log(30))
    # A map and its inverse, scaled or not, are as sparse.
    torch.testing.assert_close(gini(-7 * random), gini(random))
    torch.testing.assert_close(entropy(-7 * random), entropy(random))
    cubed = random.double() ** 3
    assert gini(cubed) > gini(random)
    assert entropy(cubed) < entropy(random)


@pytest.mark.parametrize(
    ("name", "kind", "function", "direction", "high"),
    [("sparsity", Sparsity, gini, "higher", 1), ("complexity", Complexity, entropy, "lower", math.inf)],
)
def test_metrics_average_their_function(  # type: ignore[no-untyped-def]
    name: str, kind, function, direction: str, high: float
) -> None:
    assert metric(name) is kind
    assert (kind.direction, kind.low, kind.high, kind.needs) == (direction, 0, high, ())
    maps = torch.randn(9, 4, 4, dtype=torch.float64)
    game = kind()
    torch.testing.assert_close(game.update(maps[:4]), function(maps[:4]))
    game.update(maps[4:])
    assert (game.compute().count, game.compute().mean) == (9, pytest.approx(function(maps).mean().item()))
    case = Case("one", torch.zeros(1, 3, 4, 4), 0)

    class Nobody:
        name = title = "nobody"

        def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
            raise AssertionError("the map itself is all that counts")

    context = Context(vv.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3, 2))), Nobody())
    assert kind().values_of(case, maps[3], context) == {"": function(maps)[3].item()}


@pytest.mark.parametrize("function", [gini, entropy])
def test_maps_that_cannot_be_rated_are_refused(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(vv.InputError, match=r"\(B, H, W\), but have the shape \(4, 4\)"):
        function(torch.rand(4, 4))
    with pytest.raises(vv.InputError, match=r"shape \(2, 0, 4\)"):
        function(torch.rand(2, 0, 4))
    with pytest.raises(vv.InputError, match="1 of 2 heatmaps hold NaN"):
        function(torch.tensor([[[1.0, math.nan]], [[1.0, 2.0]]]))

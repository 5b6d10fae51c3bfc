"""Where the gradient is zero: the Hessian by autograd of the plain formula, and the direction in which most happens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from blackbox.plain import blobs, log_shares
from visavis.blackbox import ExplanationVectors, curvature
from visavis.blackbox.curvature import leading_direction, log_of_both

pytestmark = pytest.mark.filterwarnings("ignore::visavis.blackbox.LowAgreementWarning")


def arms(angle: float = 0.5) -> tuple[Any, Any, Any]:
    """Return rows of a cluster between two arms, that is their mirror image, and the direction of the arms."""
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    middle = np.array([s * 0.3 * along + t * 0.3 * across for s in (-1, 0, 1) for t in (-1, 0, 1)])
    outside = np.array([s * 1.5 * along + t * 0.2 * across for s in (-1, 1) for t in (-1, 0, 1)])
    return middle, outside, along


def called(middle: Any, rows: Any) -> Any:
    """Return whether rows are of the cluster: nearer to its middle than half way."""
    return np.where((rows**2).sum(1) < 0.8, "within", "without")


def between(bandwidth: float, flat: float = 1e-3, turn: float = 0.5) -> Any:
    middle, outside, along = arms(turn)
    seen = np.concatenate([middle, outside])
    vectors = ExplanationVectors(
        lambda rows: called(middle, rows), bandwidth=bandwidth, scale="none", flat=flat, probes=0, threshold=0
    )
    return vectors.fit(seen), seen, (called(middle, seen) == "without").astype(int), along


def hessian(seen: Any, numbers: Any, width: float, row: Any, *, of_odds: bool) -> Any:
    def quantity(place: Tensor) -> Tensor:
        log = log_shares(place[None], seen, numbers, width)[0]
        return log[0] - log[1] if of_odds else 1 - log[0].exp()

    return torch.autograd.functional.hessian(quantity, torch.from_numpy(row)).numpy()


@pytest.mark.parametrize("turn", [0.5, 2.0, 4.0])
def test_along_the_arms_between_two_arms(turn: float) -> None:
    vectors, seen, numbers, along = between(0.5, turn=turn)
    row = np.zeros(2)
    found = vectors.explain(row[None])
    assert found.flat.tolist() == [True]
    np.testing.assert_allclose(found.values, [[0, 0]], atol=1e-14)
    values, directions = np.linalg.eigh(hessian(seen, numbers, 0.5, row, of_odds=False))
    at = abs(values).argmax()
    np.testing.assert_allclose(found.curvatures, [values[at]], rtol=1e-9)
    assert found.curvatures[0] > 0
    np.testing.assert_allclose(abs(found.directions[0] @ directions[:, at]), 1, rtol=1e-12)
    np.testing.assert_allclose(abs(found.directions[0] @ along), 1, rtol=1e-12)
    # No way is up: the one on which its largest component is positive.
    assert found.directions[0, abs(found.directions[0]).argmax()] > 0


def test_of_a_contrast_the_hessian_is_that_of_log_odds() -> None:
    vectors, seen, numbers, along = between(0.5)
    row = np.zeros(2)
    for foil, target, sign in (("without", "within", 1), ("within", "without", -1)):
        found = vectors.contrast(row[None], foil, target=target)
        values = np.linalg.eigvalsh(sign * hessian(seen, numbers, 0.5, row, of_odds=True))
        np.testing.assert_allclose(found.curvatures, [values[abs(values).argmax()]], rtol=1e-9)
        np.testing.assert_allclose(abs(found.directions[0] @ along), 1, rtol=1e-12)


def test_off_the_middle_the_way_that_is_up() -> None:
    vectors, seen, numbers, along = between(0.5, flat=1.0)
    for step in (0.05, -0.05):
        row = step * along
        found = vectors.explain(row[None])
        values, directions = np.linalg.eigh(hessian(seen, numbers, 0.5, row, of_odds=False))
        at = abs(values).argmax()
        np.testing.assert_allclose(found.curvatures, [values[at]], rtol=1e-8)
        np.testing.assert_allclose(abs(found.directions[0] @ directions[:, at]), 1, rtol=1e-10)
        # Away from the cluster: to the nearer arm, as the small gradient says.
        assert np.sign(found.directions[0] @ along) == np.sign(step)
        assert found.directions[0] @ found.values[0] > 0
        turned = vectors.contrast(row[None], "without")
        assert turned.directions[0] @ turned.values[0] > 0
        assert np.sign(turned.directions[0] @ along) == -np.sign(step)


def test_only_where_it_is_flat() -> None:
    vectors, _, _, along = between(0.5)
    rows = np.stack([np.zeros(2), 0.9 * along])
    found = vectors.explain(rows)
    assert found.flat.tolist() == [True, False]
    assert np.isnan(found.directions[1]).all()
    assert np.isnan(found.curvatures[1])
    assert np.isfinite(found.directions[0]).all()
    change = np.linalg.norm(found.values[1]) * 0.5
    for flat, said in ((change * 1.001, True), (change * 0.999, False)):
        assert vectors.set_params(flat=flat).explain(rows).flat[1] == said
    assert vectors.set_params(flat=0.0).explain(0.7 * rows[1:]).flat.tolist() == [False]


def test_where_the_probability_underflows_the_direction_is_that_of_log_odds() -> None:
    """At a width of 0.03 P(without) is e⁻¹²⁵⁰, and all of its derivatives are 0 in floats."""
    vectors, seen, numbers, along = between(0.03)
    rows = np.stack([np.zeros(2), 0.01 * along])
    found, odds = vectors.explain(rows), vectors.contrast(rows, "without")
    assert (found.probabilities[:, 1] == 0).all()
    assert found.flat.tolist() == [True, True]
    np.testing.assert_array_equal(found.values, np.zeros((2, 2)))
    assert abs(odds.values[1]).max() > 1
    # Of e^u for small e^u: ∇∇e^u = e^u (∇∇u + ∇u∇uᵀ), u the log odds of leaving, whatever e^u is.
    for row, direction in zip(rows, found.directions, strict=True):
        place = torch.from_numpy(row).requires_grad_()
        log = log_shares(place[None], seen, numbers, 0.03)[0]
        slope = torch.autograd.grad(log[1] - log[0], place)[0].numpy()
        bend = -hessian(seen, numbers, 0.03, row, of_odds=True) + np.outer(slope, slope)
        values, directions = np.linalg.eigh(bend)
        np.testing.assert_allclose(abs(direction @ directions[:, abs(values).argmax()]), 1, rtol=1e-9)
    assert found.directions[1] @ along > 0.9


def test_where_leaving_is_nearly_sure_its_curvature_is_small_but_known() -> None:
    """Of P(A) = 1e-20 the contrary is 1 in floats; the product of both is kept."""
    log = torch.tensor([[-46.0, 0.0], [-1000.0, 0.0], [-0.1, np.log1p(-np.exp(-0.1))]], dtype=torch.float64)
    found = log_of_both(log, torch.tensor([0, 1, 0]))
    np.testing.assert_allclose(found, [-46, -1000, -0.1 + np.log1p(-np.exp(-0.1))])


def symmetric(width: int, seed: int = 0) -> Tensor:
    made = torch.randn(width, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (made + made.T) / 2


@pytest.mark.parametrize("negative", [False, True])
def test_lanczos_says_what_the_whole_hessian_says(negative: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = symmetric(140)
    matrix -= (30 if negative else -30) * torch.outer(matrix[0], matrix[0]) / matrix[0].norm() ** 2
    uphill = torch.randn(140, dtype=torch.float64)
    asked: list[int] = []

    def product(directions: Tensor) -> Tensor:
        asked.append(len(directions))
        return directions @ matrix

    by_lanczos = leading_direction(product, uphill)
    assert max(asked) == 1
    monkeypatch.setattr(curvature, "_DENSE", 140)
    whole = leading_direction(product, uphill)
    assert max(asked) == 140
    values, vectors = np.linalg.eigh(matrix.numpy())
    at = abs(values).argmax()
    assert (values[at] < 0) == negative
    for direction, value in (by_lanczos, whole):
        np.testing.assert_allclose(value, values[at], rtol=1e-10)
        np.testing.assert_allclose(abs(direction.numpy() @ vectors[:, at]), 1, rtol=1e-9)
        assert float(direction @ uphill) > 0


def test_many_features_by_the_explainer(monkeypatch: pytest.MonkeyPatch) -> None:
    points = blobs(40, 6, 2)[0]
    vectors = ExplanationVectors(
        lambda rows: (rows[:, 0] > 0.5).astype(int), bandwidth=1.5, flat=1e9, probes=0, scale="none"
    ).fit(points)
    rows = blobs(4, 6, 2, seed=3)[0]
    dense = vectors.explain(rows)
    monkeypatch.setattr(curvature, "_DENSE", 2)
    lanczos = vectors.explain(rows)
    np.testing.assert_allclose(lanczos.directions, dense.directions, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(lanczos.curvatures, dense.curvatures, rtol=1e-9)
    assert np.linalg.norm(dense.directions, axis=1) == pytest.approx(np.ones(4))


@pytest.mark.parametrize("width", [3, 200])
def test_where_nothing_happens_to_second_order_either(width: int) -> None:
    """Such as the log odds of two classes of a linear classifier."""
    found, value = leading_direction(lambda directions: 0 * directions, torch.zeros(width, dtype=torch.float64))
    assert value == 0
    assert found.isnan().all()

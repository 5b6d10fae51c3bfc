"""The Parzen window against the paper's formula, autograd, differences, and sixty digits where floats underflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from blackbox.plain import blobs, differences, log_shares, precise, shares, zeta
from visavis.blackbox import parzen
from visavis.blackbox.curvature import away
from visavis.blackbox.mimic import MimicSource
from visavis.blackbox.parzen import ParzenWindow


def window(points: Any, labels: Any, width: float) -> ParzenWindow:
    order = np.argsort(labels, kind="stable")
    sorted_labels = torch.from_numpy(labels[order])
    return ParzenWindow(torch.from_numpy(points[order]), sorted_labels, int(labels.max()) + 1, width)


def against(targets: list[int], others: list[list[int]], classes: int) -> tuple[Any, Any]:
    foils = torch.zeros(len(targets), classes, dtype=torch.bool)
    for place, group in enumerate(others):
        foils[place, group] = True
    return torch.tensor(targets), foils


def rest(targets: list[int], classes: int) -> tuple[Any, Any]:
    return against(targets, [[c for c in range(classes) if c != one] for one in targets], classes)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("width", [0.3, 0.8, 4.0])
def test_probabilities_are_shares_of_kernel_sums(classes: int, width: float) -> None:
    points, labels = blobs(25, 3, classes)
    rows = blobs(7, 3, classes, seed=1)[0]
    found = window(points, labels, width).log_probabilities(torch.from_numpy(rows)).exp().numpy()
    expected = [shares(row, points, labels, width) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("width", [0.5, 0.8, 4.0])
def test_the_gradient_is_that_of_the_paper(classes: int, width: float) -> None:
    points, labels = blobs(25, 3, classes)
    rows = blobs(8, 3, classes, seed=1)[0]
    targets = [place % classes for place in range(8)]
    seen = window(points, labels, width)
    given = torch.from_numpy(rows)
    slope = seen.log_odds_gradient(given, *rest(targets, classes))
    found = away(slope, seen.log_probabilities(given), torch.tensor(targets)).numpy()
    for row, target, vector in zip(rows, targets, found, strict=True):
        by_paper = zeta(row, points, labels, width, target)
        np.testing.assert_allclose(vector, by_paper, rtol=1e-9, atol=1e-13)

        def otherwise(many: Any, target: int = target) -> Any:
            return np.array([1 - shares(one, points, labels, width)[target] for one in many])

        np.testing.assert_allclose(vector, differences(otherwise, row, 1e-3 * width), rtol=1e-7, atol=1e-10)
    rows_in_torch = given.clone().requires_grad_()
    own = log_shares(rows_in_torch, points, labels, width).exp()[range(8), targets]
    (expected,) = torch.autograd.grad((1 - own).sum(), rows_in_torch)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13)


def test_log_odds_against_some_classes_by_autograd() -> None:
    points, labels = blobs(40, 3, 4)
    rows = torch.from_numpy(blobs(4, 3, 2, seed=1)[0]).requires_grad_()
    targets, foils = [0, 3, 2, 1], [[1], [0, 1], [3], [0, 2, 3]]
    found = window(points, labels, 0.7).log_odds_gradient(rows.detach(), *against(targets, foils, 4))
    log = log_shares(rows, points, labels, 0.7)
    odds = [log[m, t] - log[m, f].logsumexp(0) for m, (t, f) in enumerate(zip(targets, foils, strict=True))]
    (expected,) = torch.autograd.grad(sum(odds), rows)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("place", "width"),
    [(0.1, 0.8), (0.1, 0.01), (0.1, 1e-4), (30.0, 0.8), (1e3, 0.8), (1e3, 0.05), (1e6, 0.8), (1e6, 20.0)],
)
def test_sixty_digits_say_the_same(place: float, width: float) -> None:
    points, labels = blobs(12, 3, 3)
    points -= points.mean(0)
    row = place * np.array([1.0, -0.6, 0.3])
    seen, given = window(points, labels, width), torch.from_numpy(row[None])
    for target, others in ((0, [1, 2]), (1, [0]), (2, [0, 1])):
        log, slope = precise(row, points, labels, width, target, others)
        np.testing.assert_allclose(seen.log_probabilities(given)[0], log, rtol=1e-8, atol=1e-8)
        found = seen.log_odds_gradient(given, *against([target], [others], 3))[0]
        np.testing.assert_allclose(found, slope, rtol=1e-7, atol=1e-8 * abs(slope).max())


def test_where_the_plain_formula_is_nothing_by_nothing() -> None:
    """Halfway between two rows, 707 widths from either: (p_A − p_B)/σ², which moves no faster than kernels meet."""
    points, labels = np.array([[-1.0, -1.0], [1.0, 1.0]]), np.array([0, 1])
    width = 0.002
    seen, middle = window(points, labels, width), torch.zeros(1, 2, dtype=torch.float64)
    with np.errstate(invalid="ignore"):
        assert np.isnan(zeta(np.zeros(2), points, labels, width, 0)).all()
    slope = seen.log_odds_gradient(middle, *rest([0], 2))
    np.testing.assert_allclose(slope, [[-2 / width**2, -2 / width**2]])
    np.testing.assert_allclose(
        away(slope, seen.log_probabilities(middle), torch.tensor([0])), [[0.5 / width**2, 0.5 / width**2]]
    )


def test_log_probabilities_far_below_the_smallest_float() -> None:
    points, labels = np.array([[0.0], [1.0]]), np.array([0, 1])
    found = window(points, labels, 0.002).log_probabilities(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    np.testing.assert_allclose(found, [[0, -125_000], [-125_000, 0]], atol=1e-9)


def test_a_shift_of_everything_changes_nothing() -> None:
    """The term that is left out is the same for all points, wherever they lie."""
    points, labels = blobs(20, 3, 3)
    rows = torch.from_numpy(blobs(5, 3, 3, seed=1)[0])
    groups = rest([0, 1, 2, 0, 1], 3)
    seen, moved = window(points, labels, 0.6), window(points + 8.0, labels, 0.6)
    np.testing.assert_allclose(moved.log_probabilities(rows + 8), seen.log_probabilities(rows), rtol=1e-10)
    found = moved.log_odds_gradient(rows + 8, *groups)
    np.testing.assert_allclose(found, seen.log_odds_gradient(rows, *groups), rtol=1e-9, atol=1e-11)


def test_parts_give_the_same_as_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    points, labels = blobs(20, 3, 3)
    rows = torch.from_numpy(blobs(11, 3, 3, seed=1)[0])
    groups = against([place % 3 for place in range(11)], [[(place + 1) % 3] for place in range(11)], 3)
    seen = window(points, labels, 0.6)
    log, slope = seen.log_probabilities(rows), seen.log_odds_gradient(rows, *groups)
    for size in (1, 20, 65):
        monkeypatch.setattr(parzen, "_AT_ONCE", size)
        assert [len(part) for part in parzen.chunks(rows, 20)] == [
            min(max(1, size // 20), 11 - start) for start in range(0, 11, max(1, size // 20))
        ]
        np.testing.assert_allclose(seen.log_probabilities(rows), log, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(seen.log_odds_gradient(rows, *groups), slope, rtol=1e-12, atol=1e-13)


def test_the_hessian_by_autograd() -> None:
    points, labels = blobs(20, 3, 3)
    row = torch.from_numpy(blobs(1, 3, 2, seed=1)[0])
    for target, others in ((0, [1, 2]), (2, [0])):

        def odds(place: Any, target: int = target, others: list[int] = others) -> Any:
            log = log_shares(place[None], points, labels, 0.7)[0]
            return log[target] - log[others].logsumexp(0)

        expected = torch.autograd.functional.hessian(odds, row[0])
        product = MimicSource(window(points, labels, 0.7)).log_odds_hessian(row, *against([target], [others], 3))
        np.testing.assert_allclose(product(torch.eye(3, dtype=torch.float64)), expected, rtol=1e-9, atol=1e-11)
        directions = torch.randn(2, 3, dtype=torch.float64)
        np.testing.assert_allclose(product(directions), directions @ expected, rtol=1e-9, atol=1e-11)

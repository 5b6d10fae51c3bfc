"""The paper's formulas once more, in plain loops, apart from the package; and differences to compare gradients with."""

from __future__ import annotations

from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, Decimal, localcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any


def blobs(count: int = 30, width: int = 3, classes: int = 2, seed: int = 0) -> tuple[Array, Array]:
    """Return rows of classes that overlap, in no order, and their numbers."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    generator.shuffle(labels)
    return generator.normal(size=(count, width)) + generator.normal(size=(classes, width))[labels], labels


def shares(row: Array, points: Array, labels: Array, width: float) -> Array:
    """Return p(c|x), as the kernel sums themselves say it."""
    sums = np.zeros(int(labels.max()) + 1)
    for point, label in zip(points, labels, strict=True):
        sums[label] += np.exp(-((row - point) ** 2).sum() / (2 * width**2))
    return sums / sums.sum()


def zeta(row: Array, points: Array, labels: Array, width: float, own: int) -> Array:
    """Return (A T_B − B T_A)/(σ²(A + B)²) with A and T_A of the others, B and T_B of the own class (section 2.2)."""
    a, b, t_a, t_b = 0.0, 0.0, np.zeros(len(row)), np.zeros(len(row))
    for point, label in zip(points, labels, strict=True):
        k = np.exp(-((row - point) ** 2).sum() / (2 * width**2))
        if label == own:
            b, t_b = b + k, t_b + k * (row - point)
        else:
            a, t_a = a + k, t_a + k * (row - point)
    return (a * t_b - b * t_a) / (width**2 * (a + b) ** 2)


def log_shares(rows: Tensor, points: Array, labels: Array, width: float) -> Tensor:
    """Return log p(c|x) as autograd can follow it, (M, K)."""
    apart = ((rows[:, None] - torch.as_tensor(points)) ** 2).sum(2)
    kernel = -apart / (2 * width**2)
    sums = [kernel[:, torch.as_tensor(labels == c)].logsumexp(1) for c in range(int(labels.max()) + 1)]
    return torch.stack(sums, 1) - kernel.logsumexp(1, keepdim=True)


def precise(
    row: Array, points: Array, labels: Array, width: float, one: int, others: list[int]
) -> tuple[list[float], Array]:
    """Return log p(c|x) of all classes, and ∇ log(p(one|x)/Σ p(others|x)), with 60 digits and no underflow."""
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 60, MIN_EMIN, MAX_EMAX
        scale = Decimal(float(width)) ** 2
        sums = [Decimal(0)] * (int(labels.max()) + 1)
        moved = [[Decimal(0)] * len(row) for _ in sums]
        place = [Decimal(float(value)) for value in row]
        for point, label in zip(points, labels, strict=True):
            apart = [a - Decimal(float(b)) for a, b in zip(place, point, strict=True)]
            k = (-sum(a * a for a in apart) / (2 * scale)).exp()
            sums[label] += k
            moved[label] = [m - k * a / scale for m, a in zip(moved[label], apart, strict=True)]
        log = [float(s.ln() - sum(sums).ln()) for s in sums]
        rest = sum(sums[c] for c in others)
        slopes = [moved[one][j] / sums[one] - sum(moved[c][j] for c in others) / rest for j in range(len(row))]
        return log, np.array([float(s) for s in slopes])


def differences(function: Callable[[Array], Array], row: Array, step: float = 1e-3) -> Array:
    """Return the gradient of a function of rows (n, d) that gives numbers (n,): by differences of fourth order."""
    moves = step * np.eye(len(row))
    near, far = (function(row + k * moves) - function(row - k * moves) for k in (1, 2))
    return (8 * near - far) / (12 * step)


def cosines(one: Array, other: Array) -> Array:
    """Return the cosine of the angle between vectors, row by row."""
    return (one * other).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))


class Halves:
    """A classifier that is a function: on which side of the median of the first feature is a row?"""

    def __repr__(self) -> str:  # the same in each process: tests are named by it
        return type(self).__name__

    def __call__(self, rows: Array) -> Array:
        return (rows[:, 0] > np.median(rows[:, 0])).astype(int)


class Thirds:
    """Three classes by name, in bands along the first feature; it keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Array] = []

    def __repr__(self) -> str:  # the same in each process: tests are named by it
        return type(self).__name__

    def __call__(self, rows: Array) -> Array:
        self.asked.append(rows)
        return np.array(["high", "low", "mid"])[np.where(rows[:, 0] > 0.7, 0, np.where(rows[:, 0] < -0.7, 1, 2))]

"""Covariance functions: their values are scikit-learn's, their slopes those of autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import kernels

from blackbox.plain import blobs
from visavis.blackbox.kernels import RBF, Constant, DotProduct, Power, kernel_of
from visavis.errors import InputError

KERNELS = [
    kernels.RBF(1.3),
    kernels.RBF([0.5, 1.3, 3.0]),
    kernels.RationalQuadratic(1.2, 0.6),
    kernels.Matern(0.9, nu=1.5),
    kernels.Matern([0.5, 1.3, 3.0], nu=2.5),
    kernels.Matern(0.9, nu=np.inf),
    kernels.ConstantKernel(2.5),
    kernels.WhiteKernel(0.4),
    kernels.DotProduct(0.8),
    kernels.RBF(1.3) + kernels.DotProduct(0.8),
    kernels.RBF(1.3) * kernels.DotProduct(0.8) * kernels.Matern(0.9, nu=1.5),
    kernels.DotProduct(0.8) ** 3,
    (kernels.ConstantKernel(0.5) + kernels.RationalQuadratic(1.2, 0.6)) ** 1.5,
]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_values_and_pulls(kernel: kernels.Kernel) -> None:
    points, rows = blobs(9, 3, 2)[0], blobs(5, 3, 2, seed=1)[0]
    ours = kernel_of(kernel)
    seen, given = torch.from_numpy(points), torch.from_numpy(rows).requires_grad_()
    value, diagonal = ours.value(given, seen), ours.diagonal(given)
    np.testing.assert_allclose(value.detach(), kernel(rows, points), rtol=1e-12)
    np.testing.assert_allclose(diagonal.detach(), kernel.diag(rows), rtol=1e-12)
    shares, some = torch.randn(5, 9, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    for function, weights, pulled in (
        (value, shares, ours.pull(given.detach(), seen, shares)),
        (diagonal, some, ours.pull_diagonal(given.detach(), some)),
    ):
        slope = None
        if function.requires_grad:
            (slope,) = torch.autograd.grad((weights * function).sum(), given, allow_unused=True)
        expected = torch.zeros(5, 3, dtype=torch.float64) if slope is None else slope
        np.testing.assert_allclose(pulled, expected, rtol=1e-9, atol=1e-12)


def test_the_pull_at_a_point_that_was_seen() -> None:
    """Where the distance is zero autograd of its root has no answer; k is smooth there, and its slope 0."""
    seen = torch.from_numpy(blobs(6, 3, 2)[0])
    for kernel in KERNELS[:6]:
        pulled = kernel_of(kernel).pull(seen, seen, torch.eye(6, dtype=torch.float64))
        np.testing.assert_allclose(pulled, np.zeros((6, 3)), atol=1e-13)


def test_far_from_the_origin_distances_keep_their_digits() -> None:
    points, rows = blobs(9, 3, 2)[0], blobs(5, 3, 2, seed=1)[0]
    ours, shares = RBF(1.3), torch.randn(5, 9, dtype=torch.float64)
    near = ours.pull(torch.from_numpy(rows), torch.from_numpy(points), shares)
    far = ours.pull(torch.from_numpy(rows + 2**20), torch.from_numpy(points + 2**20), shares)
    np.testing.assert_allclose(far, near, rtol=1e-7, atol=1e-8)


def test_kernels_of_ours_add_and_multiply() -> None:
    points, rows = blobs(9, 3, 2)[0], blobs(5, 3, 2, seed=1)[0]
    ours = Constant(2.0) * RBF(1.3) + Power(DotProduct(0.8), 2)
    theirs = kernels.ConstantKernel(2.0) * kernels.RBF(1.3) + kernels.DotProduct(0.8) ** 2
    found = ours.value(torch.from_numpy(rows), torch.from_numpy(points))
    np.testing.assert_allclose(found, theirs(rows, points), rtol=1e-12)
    assert kernel_of(ours) is ours


class Other(kernels.RBF):
    """A kernel that may be anything, for all its class's name says."""


@pytest.mark.parametrize("kernel", [Other(), kernels.ExpSineSquared(), kernels.Matern(nu=0.5), "rbf", None])
def test_others_are_refused(kernel: object) -> None:
    with pytest.raises(InputError, match="gradient"):
        kernel_of(kernel)


def test_a_kernel_of_the_same_name_from_elsewhere_is_another() -> None:
    namesake = type("RBF", (kernels.RBF,), {"__module__": "elsewhere"})()
    with pytest.raises(InputError, match="is not known"):
        kernel_of(namesake)

"""The Gaussian process against scikit-learn's predictions, autograd, and Laplace's approximation in plain NumPy."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_ndtr, ndtr
from sklearn.gaussian_process import GaussianProcessClassifier, kernels
from torch import Tensor

from blackbox.plain import blobs, differences
from visavis.blackbox import GaussianProcess, Latent, gaussian_process, parzen
from visavis.errors import InputError

C, RBF = kernels.ConstantKernel, kernels.RBF
KERNELS = {
    "rbf": C(2.0) * RBF(1.3),
    "rbf by feature": C(2.0) * RBF([0.6, 1.5, 4.0]),
    "rational quadratic": kernels.RationalQuadratic(1.2, 0.7),
    "with noise": C(1.5) * RBF(1.1) + kernels.WhiteKernel(0.3),
    "matern 3/2": kernels.Matern([0.8, 1.0, 2.0], nu=1.5),
    "matern 5/2": C(3.0) * kernels.Matern(1.4, nu=2.5),
    "line": kernels.DotProduct(0.7),
    "product": kernels.DotProduct(0.7) * RBF(2.0),
    "power": kernels.DotProduct(0.9) ** 2 + C(0.5) * RBF(1.2),
}


@cache
def fitted(kernel: str, classes: int) -> Any:
    points, labels = blobs(24, 3, classes)
    model = GaussianProcessClassifier(KERNELS[kernel], optimizer=None)
    return model.fit(points, np.array(["a", "b", "c"])[labels])


def rows_near_and_far() -> Any:
    rows = blobs(8, 3, 2, seed=5)[0]
    rows[-1] *= 6
    return rows


def rest(target: int, count: int, classes: int) -> tuple[Tensor, Tensor]:
    foils = torch.ones(count, classes, dtype=torch.bool)
    foils[:, target] = False
    return torch.full((count,), target), foils


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kernel", KERNELS)
def test_as_scikit_learn_predicts_and_its_slope(kernel: str, classes: int) -> None:
    model, rows = fitted(kernel, classes), rows_near_and_far()
    ours = GaussianProcess.from_sklearn(model)
    np.testing.assert_allclose(ours.predict_proba(rows), model.predict_proba(rows), atol=1e-9)
    # At one half scikit-learn decides by the latent mean.
    sure = abs(model.predict_proba(rows) - 0.5).min(1) > 1e-6
    assert ours.predict(rows[sure]).tolist() == model.predict(rows[sure]).tolist()
    given = torch.from_numpy(rows)
    for target in range(classes):
        odds = ours.log_odds_gradient(given, *rest(target, len(rows), classes)).numpy()
        for row, slope in zip(rows, odds, strict=True):
            share = model.predict_proba(row[None])[0, target]
            by_theirs = differences(lambda many, k=target: model.predict_proba(many)[:, k], row)
            np.testing.assert_allclose(share * (1 - share) * slope, by_theirs, rtol=1e-7, atol=2e-9)


def laplace(points: Any, signs: Any, covariance: Any) -> tuple[Any, Any]:
    """Return α and the diagonal of W⁻¹ of the probit likelihood (Rasmussen & Williams 2006, algorithm 3.1)."""
    latent = np.zeros(len(points))
    for _ in range(60):
        density = np.exp(-(latent**2) / 2) / np.sqrt(2 * np.pi) / ndtr(signs * latent)
        curvature = density**2 + signs * latent * density
        root = np.sqrt(curvature)
        b = curvature * latent + signs * density
        inner = np.linalg.solve(np.eye(len(points)) + root[:, None] * covariance * root, root * (covariance @ b))
        alpha = b - root * inner
        latent = covariance @ alpha
    np.testing.assert_allclose(alpha, signs * density, rtol=1e-9)
    return alpha, 1 / curvature


def squared_exponential(one: Tensor, other: Tensor) -> Tensor:
    return 1.8 * torch.exp(-((one[:, None] - other) ** 2).sum(2) / (2 * 1.3**2))


@pytest.mark.parametrize("reach", [1.0, 5.0, 25.0])
def test_the_papers_probit_by_an_independent_posterior(reach: float) -> None:
    points, labels = blobs(20, 3, 2)
    seen = torch.from_numpy(points)
    covariance = squared_exponential(seen, seen).numpy()
    alpha, noise = laplace(points, 2.0 * labels - 1, covariance)
    rows = torch.from_numpy(reach * blobs(6, 3, 2, seed=5)[0]).requires_grad_()
    star = squared_exponential(rows, seen)
    inverse = torch.from_numpy(np.linalg.inv(covariance + np.diag(noise)))
    mean, variance = star @ torch.from_numpy(alpha), 1.8 - ((star @ inverse) * star).sum(1)
    # Equations 3.9 and 3.10 of the paper's section 2.1.
    share = 0.5 * torch.special.erfc(-mean / (2 * (1 + variance)).sqrt())
    (slope,) = torch.autograd.grad(share.sum(), rows)
    latent = Latent.from_posterior(points, alpha, noise, C(1.8) * RBF(1.3))
    ours = GaussianProcess([latent], ["no", "yes"])
    given = rows.detach()
    np.testing.assert_allclose(ours.log_probabilities(given).exp()[:, 1], share.detach(), rtol=1e-10)
    both = (share * (1 - share)).detach()[:, None]
    np.testing.assert_allclose(
        both * ours.log_odds_gradient(given, *rest(1, 6, 2)), slope, rtol=1e-7, atol=1e-13 * abs(slope).max()
    )
    yes, no = latent.gradients(given)
    np.testing.assert_allclose(share.detach()[:, None] * yes, slope, rtol=1e-7, atol=1e-13 * abs(slope).max())
    np.testing.assert_allclose((share.detach() - 1)[:, None] * no, slope, rtol=1e-7, atol=1e-13 * abs(slope).max())


def test_noise_of_the_kernel_is_noise_of_the_rows_that_were_seen() -> None:
    """With it scikit-learn's K has it on its diagonal, and so has the K of (K + Σ)⁻¹."""
    kernel = C(1.8) * RBF(1.3) + kernels.WhiteKernel(0.4)
    points, labels = blobs(20, 3, 2)
    covariance, rows = kernel(points), blobs(6, 3, 2, seed=5)[0]
    alpha, noise = laplace(points, 2.0 * labels - 1, covariance)
    star = kernel(rows, points)
    variance = kernel.diag(rows) - ((star @ np.linalg.inv(covariance + np.diag(noise))) * star).sum(1)
    ours = GaussianProcess([Latent.from_posterior(points, alpha, noise, kernel)], [0, 1])
    np.testing.assert_allclose(ours.predict_proba(rows)[:, 1], ndtr(star @ alpha / np.sqrt(1 + variance)), rtol=1e-9)


@pytest.mark.parametrize("link", ["probit", "logistic"])
def test_links_by_autograd(link: str) -> None:
    mean = torch.linspace(-4, 4, 9, dtype=torch.float64).requires_grad_()
    variance = torch.linspace(0, 3, 9, dtype=torch.float64).flip(0).clone().requires_grad_()
    found = gaussian_process.LINKS[link](mean.detach(), variance.detach())
    if link == "probit":
        yes = 0.5 * torch.special.erfc(-mean / (2 * (1 + variance)).sqrt())
        np.testing.assert_allclose(found.log_yes, log_ndtr((mean / (1 + variance).sqrt()).detach().numpy()), rtol=1e-12)
    else:
        # By quadrature: what five error functions come near to.
        nodes, weights = np.polynomial.hermite.hermgauss(80)
        places = mean.detach()[:, None] + (2 * variance.detach())[:, None].sqrt() * torch.from_numpy(nodes)
        by_quadrature = places.sigmoid() @ torch.from_numpy(weights) / np.sqrt(np.pi)
        np.testing.assert_allclose(found.log_yes.exp(), by_quadrature, atol=2e-3)
        table = torch.tensor([gaussian_process._SCALES, gaussian_process._SHARES], dtype=torch.float64)
        scales, values = table[0, :, None], table[1, :, None]
        z = scales * mean / (1 + 2 * variance * scales**2).sqrt()
        yes = (values * (1 + torch.erf(z))).sum(0) / 2
    np.testing.assert_allclose(found.log_yes.exp() + found.log_no.exp(), np.ones(9), rtol=1e-12)
    for log, by_mean, by_variance in (
        (yes.log(), found.yes_by_mean, found.yes_by_variance),
        ((1 - yes).log(), found.no_by_mean, found.no_by_variance),
    ):
        slopes = torch.autograd.grad(log.sum(), (mean, variance), retain_graph=True)
        np.testing.assert_allclose(by_mean, slopes[0], rtol=1e-8)
        np.testing.assert_allclose(by_variance, slopes[1], rtol=1e-7, atol=1e-9)


def test_probit_in_both_tails() -> None:
    """Where Φ underflows, φ(z)/Φ(z) ≈ −z − 1/z still is a slope."""
    mean, none = torch.tensor([-60.0, 60.0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    found = gaussian_process.LINKS["probit"](mean, none)
    np.testing.assert_allclose(found.log_yes[0], log_ndtr(-60.0))
    np.testing.assert_allclose(found.log_no[1], log_ndtr(-60.0))
    np.testing.assert_allclose([found.yes_by_mean[0], found.no_by_mean[1]], [60 + 1 / 60, -60 - 1 / 60], rtol=1e-6)


def test_the_link_and_the_variance_bite() -> None:
    model, rows = fitted("rbf", 2), rows_near_and_far()
    one, other = (GaussianProcess.from_sklearn(model, link=link) for link in ("probit", "logistic"))
    assert abs(one.predict_proba(rows) - other.predict_proba(rows)).max() > 0.01


def test_parts_give_the_same_as_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.from_numpy(rows_near_and_far())
    ours = GaussianProcess.from_sklearn(fitted("rbf", 3))
    log, slope = ours.log_probabilities(rows), ours.log_odds_gradient(rows, *rest(1, 8, 3))
    monkeypatch.setattr(parzen, "_AT_ONCE", 24 * 3)
    np.testing.assert_allclose(ours.log_probabilities(rows), log, rtol=1e-12)
    np.testing.assert_allclose(ours.log_odds_gradient(rows, *rest(1, 8, 3)), slope, rtol=1e-10, atol=1e-13)


def test_what_cannot_be_followed_is_refused() -> None:
    points, labels = blobs(20, 3, 3)
    with pytest.raises(InputError, match="not fitted; fit it first"):
        GaussianProcess.from_sklearn(GaussianProcessClassifier())
    pairs = GaussianProcessClassifier(RBF(1.0), optimizer=None, multi_class="one_vs_one").fit(points, labels)
    with pytest.raises(InputError, match="'one_vs_one' gives no probabilities"):
        GaussianProcess.from_sklearn(pairs)
    for kernel in (kernels.ExpSineSquared(), kernels.Matern(nu=0.5), lambda one, other: one):
        with pytest.raises(InputError, match="gradient"):
            Latent.from_posterior(points, labels, 1 + labels, kernel)
    good = {"points": points, "alpha": labels, "noise": 1 + labels, "kernel": RBF(1.0)}
    for wrong, said in (
        ({"alpha": labels[:5]}, "were expected"),
        ({"noise": labels}, "not above 0"),
        ({"alpha": labels * np.nan}, "not finite"),
        ({"link": "logit"}, "the link is 'logit', but probit or logistic"),
    ):
        with pytest.raises(InputError, match=said):
            Latent.from_posterior(**{**good, **wrong})
    latent = Latent.from_posterior(**good)
    with pytest.raises(InputError, match="1 latent functions came for 3 classes"):
        GaussianProcess([latent], ["a", "b", "c"])

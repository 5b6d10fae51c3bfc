"""Gaussian-process classification: the gradient of its predicted probability in closed form.

Baehrens et al. 2010, section 2.1. At x the latent function is normal with mean f = Σ_i α_i k(x, x_i) and variance
v = k(x, x) − k*ᵀ (K + Σ)⁻¹ k*; a link makes a probability of both, and the chain rule the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.blackbox.kernels import Kernel, kernel_of
from visavis.blackbox.parzen import counted_chunks
from visavis.blackbox.source import Source
from visavis.errors import InputError


class Linked(NamedTuple):
    """Log probabilities of the class and of its contrary, and how both move with the latent mean and variance, each
    (M,)."""

    log_yes: Tensor
    log_no: Tensor
    yes_by_mean: Tensor
    yes_by_variance: Tensor
    no_by_mean: Tensor
    no_by_variance: Tensor


class Link(ABC):
    """From the latent mean and variance to a probability."""

    @abstractmethod
    def __call__(self, mean: Tensor, variance: Tensor) -> Linked:
        """Return log probabilities and their derivatives."""


class Probit(Link):
    """p = Φ(f/√(1 + v)) = ½ erfc(−f/√(2(1 + v))), the paper's; accurate in both tails."""

    def __call__(self, mean: Tensor, variance: Tensor) -> Linked:
        width = (1 + variance).sqrt()
        z = mean / width
        by_mean, by_variance = 1 / width, -z / (2 * width.square())
        yes, no = torch.special.log_ndtr(z), torch.special.log_ndtr(-z)
        # φ(z)/Φ(z), of logarithms: in the tail both underflow.
        density = -z.square() / 2 - 0.5 * torch.log(torch.tensor(2 * pi, dtype=z.dtype))
        up, down = (density - yes).exp(), -(density - no).exp()
        return Linked(yes, no, up * by_mean, up * by_variance, down * by_mean, down * by_variance)


# Williams & Barber 1998, appendix A: the logistic function as half the sum of these and of scaled error functions.
_SCALES = (0.41, 0.4, 0.37, 0.44, 0.39)
_SHARES = (-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654)
# Below this the sum of error functions is rounding: its terms are thousands.
_FLOOR = 1e-12


class Logistic(Link):
    """The logistic function averaged over the latent normal, by five error functions, as scikit-learn predicts.

    Its terms are in the thousands and cancel: a probability is right to some 1e-12, and one below that is held there,
    with gradient 0.
    """

    def __call__(self, mean: Tensor, variance: Tensor) -> Linked:
        scales = torch.tensor(_SCALES, dtype=mean.dtype, device=mean.device)[:, None]
        shares = torch.tensor(_SHARES, dtype=mean.dtype, device=mean.device)[:, None]
        width = (1 + 2 * variance * scales.square()).sqrt()
        z = scales * mean / width
        yes = (shares * torch.erf(z)).sum(0) / 2 + shares.sum() / 2
        bell = shares * (-z.square()).exp() / sqrt(pi)
        by_mean = (bell * scales / width).sum(0)
        by_variance = -(bell * z * scales.square() / width.square()).sum(0)
        no = 1 - yes
        held = (yes < _FLOOR) | (no < _FLOOR)
        by_mean, by_variance = by_mean.masked_fill(held, 0), by_variance.masked_fill(held, 0)
        yes, no = yes.clamp(_FLOOR, 1), no.clamp(_FLOOR, 1)
        return Linked(yes.log(), no.log(), by_mean / yes, by_variance / yes, -by_mean / no, -by_variance / no)


LINKS: dict[str, Link] = {"probit": Probit(), "logistic": Logistic()}


@dataclass(frozen=True, eq=False)
class Latent:
    """The posterior of one latent function, and how it becomes a probability.

    Attributes:
        points: (N, d), float64, what was learned from.
        alpha: (N,), the weights of the mean.
        root: (N, N), R with RᵀR = (K + Σ)⁻¹.
        kernel: the covariance function.
        link: "probit" or "logistic".
    """

    points: Tensor
    alpha: Tensor
    root: Tensor
    kernel: Kernel
    link: str = "probit"

    @classmethod
    def from_posterior(cls, points: Any, alpha: Any, noise: Any, kernel: object, link: str = "probit") -> Latent:
        """Return that of any Gaussian approximation, Laplace's or EP's.

        Args:
            points: (N, d).
            alpha: (N,), with f = Σ_i α_i k(x, x_i).
            noise: (N,), the diagonal of Σ in v = k(x, x) − k*ᵀ (K + Σ)⁻¹ k*, above 0.
            kernel: of this module, or scikit-learn's.
            link: "probit" or "logistic".

        Raises:
            InputError: shapes do not fit, a value is not finite or not above 0, the kernel or link is not known.
        """
        given = [torch.as_tensor(np.asarray(one, dtype=np.float64)) for one in (points, alpha, noise)]
        seen, weights, spread = given
        if seen.ndim != 2 or weights.shape != seen.shape[:1] or spread.shape != seen.shape[:1] or not len(seen):
            raise InputError(
                f"points {tuple(seen.shape)}, alpha {tuple(weights.shape)} and noise {tuple(spread.shape)} came, but "
                "(N, d), (N,) and (N,) were expected"
            )
        if not all(bool(one.isfinite().all()) for one in given) or not bool((spread > 0).all()):
            raise InputError("points, alpha or noise hold what is not finite, or a noise that is not above 0")
        if link not in LINKS:
            raise InputError(f"the link is {link!r}, but {' or '.join(LINKS)} was expected")
        known = kernel_of(kernel)
        # A row shares with itself also what it shares with no other.
        covariance = torch.diagonal_scatter(known.value(seen, seen), known.diagonal(seen) + spread)
        lower, failed = torch.linalg.cholesky_ex(covariance)
        if int(failed):
            raise InputError("K + Σ is not positive definite; is it the kernel that alpha was found with?")
        root = torch.linalg.solve_triangular(lower, torch.eye(len(seen), dtype=seen.dtype), upper=False)
        return cls(seen, weights, root, known, link)

    def probability(self, rows: Tensor) -> Linked:
        """Return log probabilities, and how they move with the latent mean and variance."""
        return self._at(rows)[0]

    def gradients(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return ∇ log p and ∇ log(1 − p) at each row, each (M, d)."""
        return self.with_gradients(rows)[1:]

    def with_gradients(self, rows: Tensor) -> tuple[Linked, Tensor, Tensor]:
        """Return what `probability` and `gradients` return."""
        linked, star = self._at(rows)
        mean = self.kernel.pull(rows, self.points, self.alpha.expand(len(rows), -1))
        shares = -2 * (star @ self.root.T) @ self.root
        ones = rows.new_ones(len(rows))
        variance = self.kernel.pull_diagonal(rows, ones) + self.kernel.pull(rows, self.points, shares)
        yes = linked.yes_by_mean[:, None] * mean + linked.yes_by_variance[:, None] * variance
        return linked, yes, linked.no_by_mean[:, None] * mean + linked.no_by_variance[:, None] * variance

    def _at(self, rows: Tensor) -> tuple[Linked, Tensor]:
        star = self.kernel.value(rows, self.points)
        variance = self.kernel.diagonal(rows) - (star @ self.root.T).square().sum(1)
        return LINKS[self.link](star @ self.alpha, variance.clamp(min=0)), star

    def to(self, device: torch.device) -> Latent:
        """Return it on a device."""
        return Latent(self.points.to(device), self.alpha.to(device), self.root.to(device), self.kernel, self.link)


class GaussianProcess(Source):
    """The probability of each class from one latent function (two classes), or one for each class against the rest.

    Args:
        latents: one, of the second class; or one a class, whose probabilities are divided by their sum.
        classes: their labels, in order.

    Raises:
        InputError: there are not as many latents as that.
    """

    def __init__(self, latents: Sequence[Latent], classes: Sequence[Any] | NDArray[Any]) -> None:
        if len(classes) < 2 or len(latents) != (1 if len(classes) == 2 else len(classes)):
            raise InputError(
                f"{len(latents)} latent functions came for {len(classes)} classes; two classes have one, more have "
                "one each"
            )
        self.latents = list(latents)
        self.classes_ = np.asarray(classes)

    @classmethod
    def from_sklearn(cls, model: Any, *, link: str = "logistic") -> GaussianProcess:
        """Return that of a fitted `GaussianProcessClassifier`.

        Args:
            model: fitted; multi_class="one_vs_rest" where there are more than two classes.
            link: "logistic", as the model predicts; or "probit", the paper's, of the same latent functions.

        Raises:
            InputError: it is not fitted, has a kernel whose gradient is not known, or compares classes in pairs.
        """
        base = getattr(model, "base_estimator_", None)
        if base is None:
            raise InputError("the GaussianProcessClassifier is not fitted; fit it first")
        if len(model.classes_) == 2:
            return cls([_latent(base, link)], model.classes_)
        if model.multi_class != "one_vs_rest":
            raise InputError(f"multi_class={model.multi_class!r} gives no probabilities; use 'one_vs_rest'")
        return cls([_latent(one, link) for one in base.estimators_], model.classes_)

    def predict(self, rows: Any) -> Any:
        """Return the label of each row."""
        found = self.log_probabilities(torch.as_tensor(np.asarray(rows, dtype=np.float64)))
        return self.classes_[found.argmax(1).numpy()]

    def predict_proba(self, rows: Any) -> Any:
        """Return the probability of each class, (M, classes)."""
        return self.log_probabilities(torch.as_tensor(np.asarray(rows, dtype=np.float64))).exp().numpy()

    def log_probabilities(self, rows: Tensor) -> Tensor:
        latents = self._on(rows.device)
        chunks = counted_chunks(rows, len(latents[0].points))
        return torch.cat([_by_class([one.probability(part) for one in latents]) for _, part in chunks])

    def log_odds_gradient(self, rows: Tensor, target: Tensor, foils: Tensor) -> Tensor:
        latents, found = self._on(rows.device), []
        for start, part in counted_chunks(rows, len(latents[0].points)):
            here = slice(start, start + len(part))
            linked, yes, no = zip(*(one.with_gradients(part) for one in latents), strict=True)
            # ∇ log p of each class before division by the sum, which no ratio knows: (M, classes, d).
            slopes = torch.stack([no[0], yes[0]] if len(latents) == 1 else yes, 1)
            weights = _by_class(linked).masked_fill(~foils[here], -torch.inf).softmax(1)
            one = slopes[torch.arange(len(part), device=rows.device), target[here]]
            found.append(one - (weights[:, :, None] * slopes).sum(1))
        return torch.cat(found)

    def _on(self, device: torch.device) -> list[Latent]:
        return [one.to(device) for one in self.latents]


def _by_class(linked: Sequence[Linked]) -> Tensor:
    """Return log probabilities of the classes, (M, classes)."""
    if len(linked) == 1:
        return torch.stack([linked[0].log_no, linked[0].log_yes], 1)
    return torch.stack([one.log_yes for one in linked], 1).log_softmax(1)


def _latent(model: Any, link: str) -> Latent:
    points = torch.as_tensor(np.asarray(model.X_train_, dtype=np.float64))
    alpha = torch.as_tensor(model.y_train_ - model.pi_)
    lower, spread = torch.as_tensor(model.L_), torch.as_tensor(model.W_sr_)
    # (K + W⁻¹)⁻¹ = W^½ (I + W^½ K W^½)⁻¹ W^½, whose Cholesky factor is L (Rasmussen & Williams 2006, algorithm 3.2).
    root = torch.linalg.solve_triangular(lower, torch.diag(spread), upper=False)
    return Latent(points, alpha, root, kernel_of(model.kernel_), link)


__all__ = ["LINKS", "GaussianProcess", "Latent", "Linked"]

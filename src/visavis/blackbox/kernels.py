"""Covariance functions, each with its derivative by the place that it is seen from.

k(x, x_i) as in Rasmussen & Williams 2006, chapter 4, and as scikit-learn's kernels have their parameters. No array of
M × N × d is made: of distances between rows, Σ_i c_i ∂k(x, x_i)/∂x is two products of matrices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from visavis.blackbox.parzen import squared_distances
from visavis.errors import InputError


class Kernel(ABC):
    """A covariance function of rows (M, d) and points (N, d)."""

    @abstractmethod
    def value(self, rows: Tensor, points: Tensor) -> Tensor:
        """Return k(x, x_i), (M, N)."""

    @abstractmethod
    def pull(self, rows: Tensor, points: Tensor, shares: Tensor) -> Tensor:
        """Return Σ_i shares_i ∂k(x, x_i)/∂x, of shares (M, N): (M, d)."""

    @abstractmethod
    def diagonal(self, rows: Tensor) -> Tensor:
        """Return k(x, x), (M,)."""

    @abstractmethod
    def pull_diagonal(self, rows: Tensor, shares: Tensor) -> Tensor:
        """Return shares · ∂k(x, x)/∂x, of shares (M,): (M, d)."""

    def __add__(self, other: Kernel) -> Kernel:
        return Sum(self, other)

    def __mul__(self, other: Kernel) -> Kernel:
        return Product(self, other)


@dataclass(frozen=True, eq=False)
class _OfDistance(Kernel):
    """k = f(s), of s = Σ_j (x_j − x_ij)²/ℓ_j².

    Attributes:
        length_scale: ℓ, one for all features or one each.
    """

    length_scale: float | Tensor = 1.0

    @abstractmethod
    def of(self, squared: Tensor) -> Tensor:
        """Return f(s)."""

    @abstractmethod
    def slope(self, squared: Tensor) -> Tensor:
        """Return ∂f/∂s."""

    def value(self, rows: Tensor, points: Tensor) -> Tensor:
        return self.of(self._squared(rows, points))

    def pull(self, rows: Tensor, points: Tensor, shares: Tensor) -> Tensor:
        weights = 2 * shares * self.slope(self._squared(rows, points))
        middle = points.mean(0)
        drawn = weights.sum(1, keepdim=True) * (rows - middle) - weights @ (points - middle)
        return drawn / self._lengths(rows) ** 2

    def diagonal(self, rows: Tensor) -> Tensor:
        return self.of(rows.new_zeros(len(rows)))

    def pull_diagonal(self, rows: Tensor, shares: Tensor) -> Tensor:
        return torch.zeros_like(rows)

    def _squared(self, rows: Tensor, points: Tensor) -> Tensor:
        middle, lengths = points.mean(0), self._lengths(rows)
        return squared_distances((rows - middle) / lengths, (points - middle) / lengths)

    def _lengths(self, rows: Tensor) -> Tensor:
        return torch.as_tensor(self.length_scale, dtype=rows.dtype, device=rows.device)


class RBF(_OfDistance):
    """k = exp(−s/2), the squared exponential; with w = 1/2ℓ² it is exp(−w ‖x − x_i‖²) (Baehrens et al. 2010, eq. 6)."""

    def of(self, squared: Tensor) -> Tensor:
        return (-squared / 2).exp()

    def slope(self, squared: Tensor) -> Tensor:
        return -self.of(squared) / 2


@dataclass(frozen=True, eq=False)
class RationalQuadratic(_OfDistance):
    """k = (1 + s/2α)^−α, RBFs of many lengths."""

    alpha: float = 1.0

    def of(self, squared: Tensor) -> Tensor:
        return (1 + squared / (2 * self.alpha)) ** -self.alpha

    def slope(self, squared: Tensor) -> Tensor:
        return -((1 + squared / (2 * self.alpha)) ** (-self.alpha - 1)) / 2


class Matern32(_OfDistance):
    """Matérn's with ν = 3/2: (1 + √(3s)) exp(−√(3s))."""

    def of(self, squared: Tensor) -> Tensor:
        far = (3 * squared).sqrt()
        return (1 + far) * (-far).exp()

    def slope(self, squared: Tensor) -> Tensor:
        return -1.5 * (-(3 * squared).sqrt()).exp()


class Matern52(_OfDistance):
    """Matérn's with ν = 5/2: (1 + √(5s) + 5s/3) exp(−√(5s))."""

    def of(self, squared: Tensor) -> Tensor:
        far = (5 * squared).sqrt()
        return (1 + far + far.square() / 3) * (-far).exp()

    def slope(self, squared: Tensor) -> Tensor:
        far = (5 * squared).sqrt()
        return -5 / 6 * (1 + far) * (-far).exp()


@dataclass(frozen=True, eq=False)
class Constant(Kernel):
    """The same for all rows; with `itself_only`, a noise that a row shares with no other one."""

    constant: float = 1.0
    itself_only: bool = False

    def value(self, rows: Tensor, points: Tensor) -> Tensor:
        return rows.new_full((len(rows), len(points)), 0.0 if self.itself_only else self.constant)

    def pull(self, rows: Tensor, points: Tensor, shares: Tensor) -> Tensor:
        return torch.zeros_like(rows)

    def diagonal(self, rows: Tensor) -> Tensor:
        return rows.new_full((len(rows),), self.constant)

    def pull_diagonal(self, rows: Tensor, shares: Tensor) -> Tensor:
        return torch.zeros_like(rows)


@dataclass(frozen=True, eq=False)
class DotProduct(Kernel):
    """k = σ₀² + x · x_i, a line."""

    offset: float = 1.0

    def value(self, rows: Tensor, points: Tensor) -> Tensor:
        return self.offset**2 + rows @ points.T

    def pull(self, rows: Tensor, points: Tensor, shares: Tensor) -> Tensor:
        return shares @ points

    def diagonal(self, rows: Tensor) -> Tensor:
        return self.offset**2 + rows.square().sum(1)

    def pull_diagonal(self, rows: Tensor, shares: Tensor) -> Tensor:
        return 2 * shares[:, None] * rows


@dataclass(frozen=True, eq=False)
class Sum(Kernel):
    """k₁ + k₂."""

    one: Kernel
    other: Kernel

    def value(self, rows: Tensor, points: Tensor) -> Tensor:
        return self.one.value(rows, points) + self.other.value(rows, points)

    def pull(self, rows: Tensor, points: Tensor, shares: Tensor) -> Tensor:
        return self.one.pull(rows, points, shares) + self.other.pull(rows, points, shares)

    def diagonal(self, rows: Tensor) -> Tensor:
        return self.one.diagonal(rows) + self.other.diagonal(rows)

    def pull_diagonal(self, rows: Tensor, shares: Tensor) -> Tensor:
        return self.one.pull_diagonal(rows, shares) + self.other.pull_diagonal(rows, shares)


@dataclass(frozen=True, eq=False)
class Product(Kernel):
    """k₁ · k₂."""

    one: Kernel
    other: Kernel

    def value(self, rows: Tensor, points: Tensor) -> Tensor:
        return self.one.value(rows, points) * self.other.value(rows, points)

    def pull(self, rows: Tensor, points: Tensor, shares: Tensor) -> Tensor:
        first = self.one.pull(rows, points, shares * self.other.value(rows, points))
        return first + self.other.pull(rows, points, shares * self.one.value(rows, points))

    def diagonal(self, rows: Tensor) -> Tensor:
        return self.one.diagonal(rows) * self.other.diagonal(rows)

    def pull_diagonal(self, rows: Tensor, shares: Tensor) -> Tensor:
        first = self.one.pull_diagonal(rows, shares * self.other.diagonal(rows))
        return first + self.other.pull_diagonal(rows, shares * self.one.diagonal(rows))


@dataclass(frozen=True, eq=False)
class Power(Kernel):
    """k^p."""

    base: Kernel
    exponent: float

    def value(self, rows: Tensor, points: Tensor) -> Tensor:
        return self.base.value(rows, points) ** self.exponent

    def pull(self, rows: Tensor, points: Tensor, shares: Tensor) -> Tensor:
        return self.base.pull(rows, points, shares * self._slope(self.base.value(rows, points)))

    def diagonal(self, rows: Tensor) -> Tensor:
        return self.base.diagonal(rows) ** self.exponent

    def pull_diagonal(self, rows: Tensor, shares: Tensor) -> Tensor:
        return self.base.pull_diagonal(rows, shares * self._slope(self.base.diagonal(rows)))

    def _slope(self, base: Tensor) -> Tensor:
        if self.exponent >= 1:
            return self.exponent * base ** (self.exponent - 1)
        # Where the base is 0 its own slope is, of any kernel that falls to 0.
        return torch.where(base == 0, 0, self.exponent * torch.where(base == 0, 1, base) ** (self.exponent - 1))


def _matern(kernel: Any) -> Kernel:
    kinds: dict[float, type[_OfDistance]] = {1.5: Matern32, 2.5: Matern52, float("inf"): RBF}
    if kernel.nu not in kinds:
        raise InputError(f"Matern with nu={kernel.nu} has no closed-form gradient here; 1.5, 2.5 and inf have one")
    return kinds[kernel.nu](_lengths(kernel.length_scale))


def _lengths(scale: Any) -> float | Tensor:
    return float(scale) if not hasattr(scale, "__len__") else torch.as_tensor(scale, dtype=torch.float64)


#: A kernel of ours for each of scikit-learn's, by the name of its class.
_KNOWN: dict[str, Callable[[Any], Kernel]] = {
    "RBF": lambda kernel: RBF(_lengths(kernel.length_scale)),
    "RationalQuadratic": lambda kernel: RationalQuadratic(_lengths(kernel.length_scale), float(kernel.alpha)),
    "Matern": _matern,
    "ConstantKernel": lambda kernel: Constant(float(kernel.constant_value)),
    "WhiteKernel": lambda kernel: Constant(float(kernel.noise_level), itself_only=True),
    "DotProduct": lambda kernel: DotProduct(float(kernel.sigma_0)),
    "Sum": lambda kernel: Sum(kernel_of(kernel.k1), kernel_of(kernel.k2)),
    "Product": lambda kernel: Product(kernel_of(kernel.k1), kernel_of(kernel.k2)),
    "Exponentiation": lambda kernel: Power(kernel_of(kernel.kernel), float(kernel.exponent)),
}


def kernel_of(kernel: object) -> Kernel:
    """Return one of scikit-learn's kernels as one whose gradient is known; one of ours as it is.

    Raises:
        InputError: it is none of those whose gradient is known.
    """
    if isinstance(kernel, Kernel):
        return kernel
    build = _KNOWN.get(type(kernel).__name__) if type(kernel).__module__.startswith("sklearn.") else None
    if build is None:
        raise InputError(
            f"the gradient of the kernel {kernel!r} is not known; {', '.join(_KNOWN)} are, and gradients='mimic' "
            "explains any classifier by its labels"
        )
    return build(kernel)


__all__ = [
    "RBF",
    "Constant",
    "DotProduct",
    "Kernel",
    "Matern32",
    "Matern52",
    "Power",
    "Product",
    "RationalQuadratic",
    "Sum",
    "kernel_of",
]

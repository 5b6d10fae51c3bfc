"""Where gradients come from: of a classifier whose probabilities can be differentiated, or of its mimic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

#: Takes directions (k, d) to the Hessian's products with them, (k, d).
Product = Callable[[Tensor], Tensor]


class Source(ABC):
    """Probabilities of classes, and the gradient of their log odds: all that explanation vectors are made of.

    With p the probability of a class, ∇(1 − p) = −p (1 − p) ∇ log(p / (1 − p)), so nothing else need be known, and
    nothing underflows that is no product of probabilities.

    Attributes:
        step: how far apart gradients are taken whose difference is a second derivative.
    """

    step: float = 1e-4

    @abstractmethod
    def log_probabilities(self, rows: Tensor) -> Tensor:
        """Return log p(c|x), (M, d) → (M, classes)."""

    @abstractmethod
    def log_odds_gradient(self, rows: Tensor, target: Tensor, foils: Tensor) -> Tensor:
        """Return ∇ log(p(target|x) / Σ_{c in foils} p(c|x)), (M, d).

        Args:
            rows: (M, d).
            target: (M,), int64, a class for each row.
            foils: (M, classes), bool, those that it is contrasted with.
        """

    def log_odds_hessian(self, row: Tensor, target: Tensor, foils: Tensor) -> Product:
        """Return the products of ∇∇ log(p(target|x) / Σ_{c in foils} p(c|x)) with directions.

        By central differences of the gradient, unless a source knows better.

        Args:
            row: (1, d).
            target: (1,).
            foils: (1, classes).
        """

        def product(directions: Tensor) -> Tensor:
            step = self.step * directions / directions.norm(dim=1, keepdim=True)
            count = len(directions)
            around = torch.cat([row + step, row - step])
            found = self.log_odds_gradient(around, target.expand(2 * count), foils.expand(2 * count, -1))
            slopes: Tensor = (found[:count] - found[count:]) * directions.norm(dim=1, keepdim=True) / (2 * self.step)
            return slopes

        return product


__all__ = ["Product", "Source"]

"""The Parzen window of labelled points: how likely each class is, and how that changes from place to place.

Baehrens et al. 2010, section 2.2: p(c|x) = Σ_{i in c} k(x − x_i) / Σ_i k(x − x_i) with a Gaussian k of width σ. All of
it in logarithms: with ℓ_i = −‖x − x_i‖²/2σ², the weights w_i = softmax(ℓ_i) over the points of a group have the mean m,
and ∇ log Σ_i exp(ℓ_i) = (m − x)/σ². So of two groups ∇ log(A/B) = (m_A − m_B)/σ², whatever underflows in A and B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Kernel values held at a time: 2²² of 8 bytes are 32 MiB, and a step holds some five such arrays.
_AT_ONCE = 2**22


@dataclass(frozen=True, eq=False)
class ParzenWindow:
    """Points of known class under a Gaussian window.

    Attributes:
        points: (N, d), float64, centred: distances are products, and what all points share would cost digits.
        labels: (N,), int64, the class of each, ascending.
        classes: how many classes there are, each with a point.
        bandwidth: σ of the window, in the units of the points.
    """

    points: Tensor
    labels: Tensor
    classes: int
    bandwidth: float

    def log_probabilities(self, rows: Tensor) -> Tensor:
        """Return log p(c|x), (M, d) → (M, classes); −1e300 is a number here, not an underflow."""
        counts = torch.bincount(self.labels, minlength=self.classes).tolist()
        parts = []
        for part in chunks(rows, len(self.points)):
            sums = torch.stack([one.logsumexp(1) for one in torch.split(self.log_kernel(part), counts, 1)], 1)
            parts.append(sums - sums.logsumexp(1, keepdim=True))
        return torch.cat(parts)

    def log_odds_gradient(self, rows: Tensor, target: Tensor, foils: Tensor) -> Tensor:
        """Return ∇ log(p(target|x) / Σ_{c in foils} p(c|x)) = (m_target − m_foils)/σ².

        Args:
            rows: (M, d).
            target: (M,), a class for each row.
            foils: (M, classes), true for the classes that it is contrasted with.

        Returns:
            (M, d).
        """
        found = []
        for start, part in counted_chunks(rows, len(self.points)):
            here = slice(start, start + len(part))
            one, other = self.weights(part, target[here], foils[here])
            found.append((one @ self.points - other @ self.points) / self.bandwidth**2)
        return torch.cat(found)

    def weights(self, rows: Tensor, target: Tensor, foils: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weight of each point in its group: of the target's points, and of the foils', each (M, N)."""
        kernel = self.log_kernel(rows)
        one, other = self.groups(target, foils)
        return softmax_in(kernel, one), softmax_in(kernel, other)

    def groups(self, target: Tensor, foils: Tensor) -> tuple[Tensor, Tensor]:
        """Return which points are the target's, and which the foils', for each row: (M, N), bool."""
        return self.labels == target[:, None], foils[:, self.labels]

    def log_kernel(self, rows: Tensor) -> Tensor:
        """Return ℓ but for −‖x‖²/2σ², which all points share and no ratio knows, (M, d) → (M, N).

        Far from the data that term is all there is to see in a float, so it is never computed.
        """
        return (rows @ self.points.T - self.points.square().sum(1) / 2) / self.bandwidth**2


def squared_distances(rows: Tensor, points: Tensor) -> Tensor:
    """Return squared distances, (M, d) and (N, d) → (M, N); what rounding leaves between equal rows is 0."""
    sizes, others = rows.square().sum(1, keepdim=True), points.square().sum(1)
    found = sizes + others - 2 * (rows @ points.T)
    rounding = 8 * torch.finfo(rows.dtype).eps * (sizes + others)
    return torch.where(found > rounding, found, 0)


def softmax_in(kernel: Tensor, group: Tensor) -> Tensor:
    """Return softmax over a group of points, 0 for all others: (M, N) of logarithms and (M, N), bool → (M, N)."""
    return kernel.masked_fill(~group, -torch.inf).softmax(1)


def chunks(rows: Tensor, width: int) -> Iterator[Tensor]:
    """Give rows in parts, of which arrays `width` wide fit into memory."""
    for _, part in counted_chunks(rows, width):
        yield part


def counted_chunks(rows: Tensor, width: int) -> Iterator[tuple[int, Tensor]]:
    """Give rows in parts, each with the number of its first row."""
    size = max(1, _AT_ONCE // max(1, width))
    for start in range(0, max(1, len(rows)), size):
        yield start, rows[start : start + size]


__all__ = ["ParzenWindow", "chunks", "counted_chunks", "softmax_in", "squared_distances"]

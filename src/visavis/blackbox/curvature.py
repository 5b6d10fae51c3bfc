"""Where a gradient is zero: the direction in which most happens to second order (Baehrens et al. 2010, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from visavis.blackbox.source import Product, Source

# Up to so many features the whole Hessian is made; beyond, Lanczos asks for products alone.
_DENSE = 128


def leading_direction(product: Product, uphill: Tensor) -> tuple[Tensor, float]:
    """Return the eigenvector of the Hessian whose eigenvalue is the largest in size, (d,), of length 1, and that value.

    Where the Hessian is zero, too, there is no such direction: NaN, and 0.

    Args:
        product: directions (k, d) → the Hessian's products with them.
        uphill: (d,), along which the quantity rises, however little: of both ways along the eigenvector the one that
            goes up is taken; where neither does, that on which its largest component is positive.
    """
    width, like = len(uphill), uphill
    nothing = torch.full_like(uphill, torch.nan), 0.0
    if width <= _DENSE:
        found = product(torch.eye(width, dtype=like.dtype, device=like.device))
        values, vectors = torch.linalg.eigh((found + found.T) / 2)
        at = int(values.abs().argmax())
        if not float(values[at]):
            return nothing
        direction, value = vectors[:, at], float(values[at])
    else:

        def once(direction: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(product(torch.as_tensor(direction.reshape(1, -1)).to(like))[0].cpu().numpy())

        operator = LinearOperator((width, width), matvec=once, dtype=np.float64)
        # By itself Lanczos starts at random: the same start gives the same.
        start = np.random.default_rng(0).standard_normal(width)
        if not np.abs(once(start)).max():
            return nothing
        try:
            found_values, found_vectors = eigsh(operator, k=1, which="LM", v0=start)
        except ArpackNoConvergence:
            return nothing
        direction, value = torch.as_tensor(found_vectors[:, 0]).to(like), float(found_values[0])
    rise = float(direction @ uphill)
    # What is left of a gradient by rounding points nowhere.
    if abs(rise) <= 1e-9 * (float(uphill.norm()) + float(product(direction[None]).norm())):
        rise = float(direction[direction.abs().argmax()])
    return direction if rise >= 0 else -direction, value


def away(gradient: Tensor, log: Tensor, targets: Tensor) -> Tensor:
    """Return ∇ P(Y ≠ A) = −P(A) P(Y ≠ A) ∇u, of the gradient of the log odds u of A against all others.

    Args:
        gradient: (M, d), ∇u.
        log: (M, K), log probabilities.
        targets: (M,), A.
    """
    return -log_of_both(log, targets).exp()[:, None] * gradient


def log_of_both(log: Tensor, targets: Tensor) -> Tensor:
    """Return log P(A) + log P(Y ≠ A), (M,): of the others' sum, for 1 − P(A) would lose what is small."""
    own = torch.nn.functional.one_hot(targets, log.shape[1]).bool()
    return log[own] + log.masked_fill(own, -torch.inf).logsumexp(1)


def second_order(
    source: Source,
    points: Tensor,
    targets: Tensor,
    foils: Tensor,
    log: Tensor,
    gradient: Tensor,
    flat: Sequence[int],
    *,
    of_odds: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where a gradient is next to zero the direction in which most happens, (M, d), and its eigenvalue, (M,).

    NaN for all other rows.

    Args:
        source: of gradients.
        points, targets, foils: as for `Source.log_odds_gradient`.
        log: (M, K), log probabilities.
        gradient: (M, d), of the log odds.
        flat: the places of the rows whose gradient is next to zero.
        of_odds: of log odds; else of P(Y ≠ target).
    """
    directions, curvatures = np.full(points.shape, np.nan), np.full(len(points), np.nan)
    for place in flat:
        here = slice(place, place + 1)
        product = source.log_odds_hessian(points[here], targets[here], foils[here])
        slope = gradient[place]
        if of_odds:
            found, curvature = leading_direction(product, slope)
        else:
            share = float(log[place, targets[place]].exp())
            found, curvature = leading_direction(_of_probability(product, slope, share), -slope)
            curvature *= -float(log_of_both(log[here], targets[here]).exp())
        directions[place], curvatures[place] = found.cpu().numpy(), curvature
    return directions, curvatures


def _of_probability(product: Product, slope: Tensor, share: float) -> Product:
    """Return ∇∇P/(P (1 − P)) = ∇∇u + (1 − 2P) ∇u ∇uᵀ, of log odds u: what it is divided by may underflow."""

    def whole(directions: Tensor) -> Tensor:
        return product(directions) + (1 - 2 * share) * (directions @ slope)[:, None] * slope

    return whole


__all__ = ["away", "leading_direction", "log_of_both", "second_order"]

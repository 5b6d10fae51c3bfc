"""Removed pixels, guessed from their neighbours: each becomes the weighted mean of the eight around it.

Noisy linear imputation of Rong et al. 2022 (A Consistent and Efficient Evaluation Strategy for Attribution Methods),
but for the noise: neighbours beside, above and below weigh 1/6, diagonal ones 1/12; removed neighbours are unknown too,
so that the values solve a linear system. Beyond the border there are no neighbours: the mean is over those that exist.

With w the weights, the system says Σ w (x_i − x_j) = 0 at every removed pixel i, over its neighbours j: a symmetric,
positive definite one, as long as any pixel is kept. It is solved by conjugate gradients; one cycle of multigrid a step
(a residual is smoothed, halved in size and corrected there, and smoothed again) keeps their number at about ten for
any size and shape of the hole.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.errors import InputError

# Of the Jacobi steps that smooth.
_DAMPING = 0.8
# Far more steps than were ever seen to be needed.
_MOST_STEPS = 500


def imputed(inputs: Tensor, removed: Tensor, *, tolerance: float = 1e-4) -> Tensor:
    """Return inputs (B, C, H, W) with the removed pixels replaced by what their neighbours make likely.

    Args:
        inputs: floating point, finite; half precision is computed in float32.
        removed: (H, W), bool, alike for all; kept pixels stay as they are, bit for bit.
        tolerance: of each channel's residual, as a share of what it is with the mean or with zeros in the hole, the
            larger of the two (2-norms); no less than 100 times the spacing of numbers at 1.

    Raises:
        InputError: every pixel is removed, `removed` is no mask of the inputs, or the tolerance is not above 0
            and finite.
    """
    if removed.dtype != torch.bool or removed.shape != inputs.shape[2:]:
        raise InputError(
            f"the removed pixels are a boolean mask {tuple(inputs.shape[2:])}, not {removed.dtype} of shape "
            f"{tuple(removed.shape)}"
        )
    if bool(removed.all()):
        raise InputError("every pixel is removed, so there is nothing to guess them from; keep at least one")
    check_tolerance(tolerance)
    values = inputs if inputs.dtype == torch.float64 else inputs.float()
    solved = _solved(values, removed.to(values)[None, None], tolerance)
    return torch.where(removed, solved.to(inputs), inputs)


def check_tolerance(tolerance: float) -> None:
    """Refuse a tolerance that is not above 0 and finite."""
    if not 0 < tolerance < math.inf:
        raise InputError(f"the tolerance is a share above 0, not {tolerance}")


def _solved(values: Tensor, hole: Tensor, tolerance: float) -> Tensor:
    """Return the values (B, C, H, W) in the hole (1, 1, H, W), which is 1 where pixels are removed; 0 elsewhere."""
    levels = _levels(hole)
    tiny = torch.finfo(values.dtype).tiny
    kept = values * (1 - hole)
    right = hole * _around(kept)
    # From the mean of what is kept; what follows is the textbook's preconditioned method, each channel for itself.
    solution = hole * kept.sum((2, 3), keepdim=True) / (1 - hole).sum()
    residual = right - _applied(solution, levels[0])
    share = max(tolerance, 100 * torch.finfo(values.dtype).eps)
    goal = share**2 * torch.maximum(_dot(right, right), _dot(residual, residual))
    direction = corrected = _cycle(residual, levels)
    size = _dot(residual, corrected)
    for _ in range(_MOST_STEPS):
        if bool((_dot(residual, residual) <= goal).all()):
            break
        image = _applied(direction, levels[0])
        length = size / _dot(direction, image).clamp_min(tiny)
        solution = solution + length * direction
        residual = residual - length * image
        corrected = _cycle(residual, levels)
        before, size = size, _dot(residual, corrected)
        direction = corrected + size / before.clamp_min(tiny) * direction
    return solution


#: At one resolution: 1 in the hole and 0 elsewhere (1, 1, h, w), and the sum of each pixel's weights.
_Level = tuple[Tensor, Tensor]


def _levels(hole: Tensor) -> list[_Level]:
    """Return the hole at its own and at each halved resolution, in which a pixel is removed if all its parts are."""
    levels = []
    while True:
        levels.append((hole, _around(torch.ones_like(hole))))
        if min(hole.shape[2:]) <= 4 or not bool(hole.any()):
            return levels
        hole = -F.max_pool2d(-hole, 2, ceil_mode=True)


def _around(values: Tensor) -> Tensor:
    """Return the weighted sum of each pixel's eight neighbours, 0 beyond the border."""
    padded = F.pad(values, (1, 1, 1, 1))
    rows = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    return (rows[..., :-2, :] + 2 * rows[..., 1:-1, :] + rows[..., 2:, :] - 4 * values) / 12


def _applied(values: Tensor, level: _Level) -> Tensor:
    """Return Σ w (x_i − x_j) at each removed pixel, of values that are 0 outside the hole."""
    hole, weights = level
    return hole * (weights * values - _around(values))


def _cycle(residual: Tensor, levels: list[_Level]) -> Tensor:
    """Return about how far the values are from the solution, given the residual, 0 outside the hole."""
    hole, weights = levels[0]
    step = _DAMPING * hole / weights
    values = step * residual
    if len(levels) > 1:
        left = residual - _applied(values, levels[0])
        halved = F.avg_pool2d(left, 2, ceil_mode=True, divisor_override=1) * levels[1][0]
        coarse = _cycle(halved, levels[1:]).repeat_interleave(2, 2).repeat_interleave(2, 3)
        values = values + hole * coarse[..., : hole.shape[2], : hole.shape[3]]
    return values + step * (residual - _applied(values, levels[0]))


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((2, 3), keepdim=True)


__all__ = ["check_tolerance", "imputed"]

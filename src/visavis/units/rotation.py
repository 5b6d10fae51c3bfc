"""Rotated bases of a layer's units, in which no direction is a unit of the network any more.

Zhou et al. 2018 (arXiv 1806.02891) and Bau et al. 2017 (Network Dissection, arXiv 1704.05796): if what units do could
as well be said along any other directions, a random rotation would change nothing.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from visavis.errors import InputError


def random_rotation(units: int, *, seed: int = 0) -> Tensor:
    """Return a rotation (units, units), float64, drawn uniformly (by the Haar measure) of those with determinant 1.

    By the QR decomposition of a Gaussian matrix with R's diagonal made positive (Mezzadri 2007, How to Generate Random
    Matrices from the Classical Compact Groups); one row changes sign where the determinant is −1.

    Args:
        units: at least 1.
        seed: of the draw.

    Raises:
        InputError: there are no units.
    """
    if units < 1:
        raise InputError(f"a rotation is of at least one unit, not of {units}")
    gaussian = np.random.default_rng(seed).standard_normal((units, units))
    rotation, upper = np.linalg.qr(gaussian)
    rotation = rotation * np.sign(np.diag(upper))
    if np.linalg.det(rotation) < 0:
        rotation[0] = -rotation[0]
    return torch.from_numpy(np.ascontiguousarray(rotation))


def partial_rotation(rotation: Tensor, share: float) -> Tensor:
    """Return the rotation Q^α that goes a share of the way, (units, units), float64: 0 turns nothing, 1 is Q.

    Bau et al. 2017, section 3.2: every plane that Q turns by an angle θ, from −π to π, is turned by αθ.

    Args:
        rotation: Q, (units, units), orthogonal with determinant 1.
        share: α, 0 to 1.

    Raises:
        InputError: it is no rotation, or the share is out of range.
    """
    if not 0 <= share <= 1:
        raise InputError(f"a share of a rotation is from 0 to 1, not {share}")
    given = rotation.detach().cpu().double().numpy()
    if given.ndim != 2 or given.shape[0] != given.shape[1] or not np.allclose(given @ given.T, np.eye(len(given))):
        raise InputError(
            f"a rotation is an orthogonal matrix (units, units), not this of shape {tuple(rotation.shape)}"
        )
    if np.linalg.det(given) < 0:
        raise InputError("a matrix with determinant −1 is a reflection, of which there is no part; turn a row around")
    # Of an orthogonal matrix the real Schur form is block diagonal: planes that turn, and pairs that turn by 0 or π.
    blocks, basis = scipy.linalg.schur(given, output="real")
    turned = np.eye(len(given))
    place, halves = 0, []
    while place < len(given):
        if place + 1 < len(given) and abs(blocks[place + 1, place]) > 1e-9:
            angle = np.arctan2(blocks[place + 1, place], blocks[place, place])
            _turn(turned, (place, place + 1), share * angle)
            place += 2
        else:
            if blocks[place, place] < 0:
                halves.append(place)
            place += 1
    for pair in zip(halves[::2], halves[1::2], strict=True):
        _turn(turned, pair, share * np.pi)
    return torch.from_numpy(np.ascontiguousarray(basis @ turned @ basis.T))


def _turn(matrix: np.ndarray, plane: tuple[int, int], angle: float) -> None:
    cos, sin = np.cos(angle), np.sin(angle)
    matrix[np.ix_(plane, plane)] = [[cos, -sin], [sin, cos]]


__all__ = ["partial_rotation", "random_rotation"]

"""Which units are meant: those of a layer, as it is, or of another basis of what it returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.errors import InputError

# How far the rows of a basis may be from orthonormal, in float64.
_ORTHONORMAL = 1e-6


@dataclass(frozen=True, eq=False)
class Layer:
    """The units of a layer.

    Attributes:
        path: of a module, as in `named_modules`.
        unit_dim: which dimension of what it returns holds the units; None: 1 for maps, the last for tokens and vectors.
        basis: (units, units), whose rows are orthonormal: the units are then not the layer's own, but the coordinates
            of its activations along these rows, as in the rotated bases of Zhou et al. 2018; None: the layer's own.

    Raises:
        InputError: the basis is not such.
    """

    path: str
    unit_dim: int | None = None
    basis: Tensor | None = None

    def __post_init__(self) -> None:
        basis = self.basis
        if basis is None:
            return
        if basis.dim() != 2 or basis.shape[0] != basis.shape[1] or not basis.is_floating_point():
            raise InputError(f"a basis of units is a square tensor (units, units), not {tuple(basis.shape)}")
        found = basis.detach().cpu().double()
        apart = float((found @ found.T - torch.eye(len(found), dtype=torch.float64)).abs().max())
        if not apart <= _ORTHONORMAL:
            raise InputError(
                f"the rows of a basis are orthonormal, but these are {apart:.2g} away from it; make them in float64, "
                "as random_rotation does"
            )


def layer_of(layer: str | Layer) -> Layer:
    """Return the units of a layer that is given by its path, or itself."""
    return layer if isinstance(layer, Layer) else Layer(layer)


__all__ = ["Layer", "layer_of"]

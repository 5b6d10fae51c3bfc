"""Which units are meant: those of a layer as it is, of another basis of what it returns, or its attention heads."""

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
        call: which of the layer's calls in a forward pass is meant, from 0, or from the end as negative numbers are;
            its other calls are left as they are. None: the only one.
        heads: the units are the attention heads of an attention layer, or of a dense layer that is the output
            projection of one: what a head gives at each token, before the projection mixes heads. True: as many as the
            layer says that it has; or how many, which a dense layer does not say. False: they are not.

    Raises:
        InputError: the basis is not such; the number of heads is none, or heads come with what is not theirs.
    """

    path: str
    unit_dim: int | None = None
    basis: Tensor | None = None
    call: int | None = None
    heads: bool | int = False

    def __post_init__(self) -> None:
        basis = self.basis
        if self.heads is not False and self.heads < 1:
            raise InputError(f"heads are at least one, or True or False, not {self.heads}")
        if self.heads is not False and (basis is not None or self.unit_dim is not None):
            raise InputError("attention heads are units by themselves, for which there is no unit_dim and no basis")
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

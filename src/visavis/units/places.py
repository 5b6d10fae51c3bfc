"""Where the units are in a layer's activations: in which dimension, or along which directions; read, and replaced."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.errors import InputError
from visavis.units.layer import Layer


@dataclass(frozen=True, eq=False)
class Places:
    """Where the units are in activations (B, ...).

    Attributes:
        dimension: that of the units, from 1.
        units: how many there are.
        basis: (units, units), along whose rows they are; None: along the dimension.
        features: how many numbers a unit is at each position, in the last dimension, as a head is; None: one.
    """

    dimension: int
    units: int
    basis: Tensor | None
    features: int | None

    def coordinates(self, activation: Tensor) -> Tensor:
        """Return what each unit does, (B, units, ...)."""
        if self.features is not None:
            return activation.movedim(self.dimension, 1).flatten(2)
        if self.basis is None:
            return activation.movedim(self.dimension, 1)
        return (activation.movedim(self.dimension, -1) @ self.basis.T).movedim(-1, 1)

    def by_value(self, activation: Tensor) -> Tensor:
        """Return all that is replaced by one number, side by side: (units, n), or (units, features, n) of heads."""
        if self.features is not None:
            return activation.movedim((self.dimension, -1), (0, 1)).flatten(2)
        return self.coordinates(activation).transpose(0, 1).flatten(1)

    def fits(self, values: Tensor) -> bool:
        """Whether these are numbers to replace units by: (units,), or (units, features) of heads."""
        return values.shape == (self.units,) or (
            self.features is not None and values.shape == (self.units, self.features)
        )

    def changed(self, activation: Tensor, sets: list[Tensor], values: Tensor) -> Tensor:
        """Return activations (U · B, ...), in which the units of each of U sets have other values.

        Args:
            activation: (B, ...).
            sets: indices of units, on its device.
            values: what is replaced by which number, as `fits` says.
        """
        many, items = torch.cat([activation] * len(sets)), len(activation)
        if self.basis is not None:
            own = many.movedim(self.dimension, -1)
            for place, units in enumerate(sets):
                along = self.basis[units]
                item = own[place * items : (place + 1) * items]
                item += (values[units].to(along) - item @ along.T) @ along
            return many
        for place, units in enumerate(sets):
            item = many[place * items : (place + 1) * items]
            shape = [1] * item.dim()
            shape[self.dimension] = len(units)
            if values.dim() > 1:
                shape[-1] = values.shape[1]
            chosen = values[units].to(many).view(shape)
            item.index_copy_(self.dimension, units, chosen.expand(*_with(item.shape, self.dimension, len(units))))
        return many


def places_of(layer: Layer, activation: Tensor, made: tuple[int, torch.Size] | None) -> Places:
    """Return where the units of a layer are.

    Args:
        layer: whose units.
        activation: (B, ...); of heads (B, ..., heads, features).
        made: of the last call that made units of weights: in which dimension, and the shape of all.

    Raises:
        InputError: `unit_dim` is none of the layer's, or is needed and not given; the basis is of other units.
    """
    if layer.heads is not False:
        return Places(activation.dim() - 2, activation.shape[-2], None, activation.shape[-1])
    dimension = _unit_dimension(layer, activation, made)
    units = activation.shape[dimension]
    basis = layer.basis
    if basis is not None and len(basis) != units:
        raise InputError(f"the basis is of {len(basis)} units, but layer {layer.path!r} has {units}")
    return Places(dimension, units, None if basis is None else basis.detach().to(activation), None)


def _unit_dimension(layer: Layer, activation: Tensor, made: tuple[int, torch.Size] | None) -> int:
    """Return in which dimension the units are: as asked for, or by the last call that made units of weights."""
    dims, asked = activation.dim(), layer.unit_dim
    if asked is not None:
        if not 0 < abs(asked) < dims:
            raise InputError(
                f"unit_dim={asked} is no dimension of units in an output of shape {tuple(activation.shape)}; give one "
                f"from 1 to {dims - 1}, since dimension 0 holds the batch"
            )
        return asked % dims
    if dims == 2:
        return 1
    natural, shape = made or (1 if dims > 3 else -1, activation.shape)
    if dims == len(shape) and shape[1:] == activation.shape[1:]:
        return natural % dims
    same = [place for place in range(1, dims) if activation.shape[place] == shape[natural]]
    if len(same) == 1:
        return same[0]
    if dims == len(shape) and (natural == 1 or dims == 3):  # joined, or pooled
        return natural % dims
    raise InputError(
        f"layer {layer.path!r} returns a tensor of shape {tuple(activation.shape)}, in which it cannot be told which "
        "dimension holds the units and which are positions; say so with unit_dim=..., such as unit_dim=-1"
    )


def _with(shape: torch.Size, dimension: int, size: int) -> list[int]:
    return [size if place == dimension else one for place, one in enumerate(shape)]


__all__ = ["Places", "places_of"]

"""Rotated bases: rotations are such, parts of them add up, and ablating a coordinate is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.testing import assert_close

from units.networks import pictures, removed, small, vit
from visavis import units
from visavis.errors import InputError
from visavis.units import Layer
from visavis.units.above import Above


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_rotations(size: int) -> None:
    rotation = units.random_rotation(size, seed=3)
    assert_close(rotation @ rotation.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-12)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1)
    assert torch.equal(rotation, units.random_rotation(size, seed=3))
    assert size == 1 or not torch.allclose(rotation, units.random_rotation(size, seed=4))


def test_they_are_drawn_uniformly() -> None:
    """Of the Haar measure, every entry has mean 0 and variance 1/n, and the trace has variance 1."""
    drawn = torch.stack([units.random_rotation(4, seed=seed) for seed in range(2000)])
    assert_close(drawn.mean(0), torch.zeros(4, 4, dtype=torch.float64), rtol=0, atol=0.04)
    assert_close(drawn.var(0), torch.full((4, 4), 0.25, dtype=torch.float64), rtol=0, atol=0.03)
    assert float(drawn.diagonal(dim1=1, dim2=2).sum(1).var()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 33])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_parts_of_a_rotation(size: int, share: float) -> None:
    rotation = units.random_rotation(size, seed=1)
    part = units.partial_rotation(rotation, share)
    # scipy takes the principal logarithm: the least turn in every plane.
    expected = scipy.linalg.expm(share * scipy.linalg.logm(rotation.numpy()).real)
    assert_close(part, torch.from_numpy(expected), rtol=0, atol=1e-9)
    assert_close(part @ part.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-12)


def test_parts_of_a_half_turn() -> None:
    """A turn by π has eigenvalues −1 twice, whose plane the logarithm does not find."""
    half = torch.diag(torch.tensor([-1.0, 1, -1], dtype=torch.float64))
    quarter = units.partial_rotation(half, 0.5)
    assert_close(quarter @ quarter, half, rtol=0, atol=1e-12)
    assert float(torch.linalg.det(quarter)) == pytest.approx(1)


def test_no_rotation() -> None:
    with pytest.raises(InputError, match=r"from 0 to 1, not 1\.5"):
        units.partial_rotation(torch.eye(3), 1.5)
    with pytest.raises(InputError, match="reflection"):
        units.partial_rotation(torch.diag(torch.tensor([-1.0, 1, 1])), 0.5)
    with pytest.raises(InputError, match="orthogonal"):
        units.partial_rotation(torch.ones(2, 2), 0.5)
    with pytest.raises(InputError, match="at least one"):
        units.random_rotation(0)
    with pytest.raises(InputError, match="orthonormal"):
        Layer("second", basis=2 * torch.eye(6))
    with pytest.raises(InputError, match="square"):
        Layer("second", basis=torch.eye(6)[:4])
    with pytest.raises(InputError, match="of 4 units, but layer 'second' has 6"):
        Above(small(), Layer("second", basis=torch.eye(4))).keep(pictures(1))


@pytest.mark.parametrize(("network", "layer", "dim"), [(small, "second", 1), (vit, "encoder.ln", 2)])
def test_ablating_coordinates(network: object, layer: str, dim: int) -> None:
    """z' = Qz, its coordinates are set, and Qᵀ brings it back: position by position, in NumPy."""
    module, inputs = network(), pictures(2)  # type: ignore[operator]
    count = Above(module, layer).keep(inputs).units
    rotation = units.random_rotation(count, seed=2)
    kept = Above(module, Layer(layer, basis=rotation)).keep(inputs)
    values = torch.linspace(-1, 1, count, dtype=torch.float64)
    sets = [[0], [3, 1], []]
    found = kept.changed([torch.tensor(one, dtype=torch.int64) for one in sets], values)
    own = kept.activation.movedim(dim, -1).numpy()
    for place, chosen in enumerate(sets):
        turned = np.einsum("ij,...j->...i", rotation.numpy(), own)
        turned[..., chosen] = values.numpy()[chosen]
        expected = np.moveaxis(np.einsum("ij,...i->...j", rotation.numpy(), turned), -1, dim)
        assert_close(found[2 * place : 2 * place + 2], torch.from_numpy(expected), rtol=1e-12, atol=1e-12)
    assert_close(kept.coordinates.movedim(1, -1), torch.from_numpy(own) @ rotation.T, rtol=1e-12, atol=1e-12)


def test_the_basis_of_the_units_themselves() -> None:
    data = pictures(8), torch.arange(8) % 4
    for basis in (torch.eye(6), units.partial_rotation(units.random_rotation(6), 0)):
        assert torch.equal(removed(small(), "second", data), removed(small(), Layer("second", basis=basis), data))
        own, turned = (units.ablate(small(), Layer("second", basis=one), data) for one in (None, basis))
        assert_close(own.confidence_drops, turned.confidence_drops, rtol=1e-6, atol=1e-7)
    rotated = units.ablate(small(), Layer("second", basis=units.random_rotation(6)), data)
    assert not torch.allclose(own.confidence_drops, rotated.confidence_drops)


def test_what_coordinates_do() -> None:
    data = pictures(4), torch.arange(4) % 4
    rotation = units.random_rotation(6, seed=5)
    seen = units.activations(small(), Layer("second", basis=rotation), data)
    own = Above(small(), "second").keep(data[0]).activation
    turned = torch.einsum("ij,bjhw->bihw", rotation, own)
    assert_close(seen.mean, turned.mean((0, 2, 3)))
    assert_close(seen.class_sums[:, :4], turned.mean((2, 3)).T)
    assert_close(seen.class_positive[:, :4], turned.clamp(min=0).mean((2, 3)).T)
    assert_close(seen.maximum, turned.amax((0, 2, 3)))
    positive = turned.clamp(min=0).mean((2, 3))
    assert_close(units.attribute("selectivity").of(seen), units.class_selectivity(positive, data[1]))

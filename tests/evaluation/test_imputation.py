"""Removed pixels against a sparse direct solver, on holes of all kinds."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve
from torch import Tensor

import visavis as vv
from visavis.evaluation import imputation
from visavis.evaluation.imputation import imputed

DOUBLE = torch.float64
NEIGHBOURS = {(dy, dx): (1 / 12 if dy and dx else 1 / 6) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx}


def solved(picture: NDArray[np.float64], removed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The picture (C, H, W) with the system solved directly: each removed pixel the weighted mean of its neighbours."""
    height, width = removed.shape
    number = np.arange(height * width).reshape(height, width)
    rows, columns, values = [number.ravel()], [number.ravel()], [np.ones(height * width)]
    total = np.zeros((height, width))
    pairs = []
    for (dy, dx), weight in NEIGHBOURS.items():
        y, x = np.mgrid[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
        total[y, x] += weight
        pairs.append((y, x, y + dy, x + dx, weight))
    for y, x, ny, nx, weight in pairs:
        at = removed[y, x]
        rows.append(number[y, x][at])
        columns.append(number[ny, nx][at])
        values.append((-weight / total[y, x])[at])
    matrix = scipy.sparse.csc_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))))
    right = np.where(removed, 0, picture).reshape(len(picture), -1)
    return np.stack([spsolve(matrix, channel) for channel in right]).reshape(picture.shape)


def hole(kind: str, size: int, share: float) -> NDArray[np.bool_]:
    chance = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    middle = (size - 1) / 2
    depth = {
        "disc": (y - middle) ** 2 + (x - middle) ** 2,
        "scattered": chance.random((size, size)),
        "corner": y + x + 0.001 * x,
        "frame": -np.maximum(abs(y - middle), abs(x - middle)) + 0.001 * chance.random((size, size)),
        "stripes": (y % 4) + chance.random((size, size)),
    }[kind]
    found = np.zeros(size * size, bool)
    found[np.argsort(depth.ravel())[: round(share * size * size)]] = True
    return found.reshape(size, size)


def picture(size: int) -> Tensor:
    chance = np.random.default_rng(1)
    y, x = np.mgrid[:size, :size] / size
    smooth = np.stack([np.sin(7 * x + 3 * y), np.cos(5 * y) - x, 2 * x * y])
    return torch.tensor(smooth + 0.1 * chance.normal(size=(3, size, size)))[None]


@pytest.mark.parametrize("kind", ["disc", "scattered", "corner", "frame", "stripes"])
@pytest.mark.parametrize(("size", "share"), [(23, 0.1), (23, 0.9), (40, 0.5)])
def test_the_values_are_the_direct_solvers(kind: str, size: int, share: float) -> None:
    inputs, removed = picture(size), hole(kind, size, share)
    found = imputed(inputs, torch.tensor(removed), tolerance=1e-11)[0].numpy()
    np.testing.assert_allclose(found, solved(inputs[0].numpy(), removed), atol=1e-8)
    assert np.array_equal(found[:, ~removed], inputs[0].numpy()[:, ~removed])


def test_one_pixel_by_hand() -> None:
    values = torch.tensor([[1.0, 2, 4], [8, 99, 16], [32, 64, 128]], dtype=DOUBLE)[None, None]
    removed = torch.zeros(3, 3, dtype=torch.bool)
    removed[1, 1] = True
    assert imputed(values, removed)[0, 0, 1, 1].item() == pytest.approx((2 + 8 + 16 + 64) / 6 + (1 + 4 + 32 + 128) / 12)
    # In a corner three neighbours are left, and their weights 1/6, 1/6, 1/12 are five twelfths together.
    removed = torch.zeros(3, 3, dtype=torch.bool)
    removed[0, 2] = True
    assert imputed(values, removed)[0, 0, 0, 2].item() == pytest.approx((2 * 2 + 2 * 16 + 99) / 5)


@pytest.mark.parametrize("kind", ["disc", "scattered", "corner", "stripes"])
def test_a_few_cycles_are_enough_in_single_precision(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputation, "_MOST_STEPS", 16)
    inputs, removed = picture(96), hole(kind, 96, 0.9)
    expected = solved(inputs[0].numpy(), removed)
    found = imputed(inputs.float(), torch.tensor(removed))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0].numpy(), expected, atol=5e-3)


def test_the_tolerance_bites() -> None:
    inputs, removed = picture(30), hole("disc", 30, 0.9)
    expected = solved(inputs[0].numpy(), removed)
    errors = [
        abs(imputed(inputs, torch.tensor(removed), tolerance=tolerance)[0].numpy() - expected).max()
        for tolerance in (1e-1, 1e-4, 1e-8)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[1] < 2e-3


def test_each_picture_and_channel_for_itself() -> None:
    inputs = torch.cat([picture(20), 100 * picture(20).flip(3)])
    removed = torch.tensor(hole("disc", 20, 0.6))
    both = imputed(inputs, removed, tolerance=1e-10)
    for one, alone in zip(both, inputs, strict=True):
        torch.testing.assert_close(one, imputed(alone[None], removed, tolerance=1e-10)[0], rtol=1e-7, atol=1e-7)


def test_a_faint_channel_beside_a_bright_flat_one() -> None:
    inputs, removed = picture(30), hole("disc", 30, 0.6)
    inputs[:, 1] = 1e6  # solved before the first step
    found = imputed(inputs, torch.tensor(removed))
    np.testing.assert_allclose(found[0, ::2].numpy(), solved(inputs[0, ::2].numpy(), removed), atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE, torch.bfloat16])
def test_flat_and_empty_channels(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    applied = imputation._applied

    def counted(values: Tensor, level: tuple[Tensor, Tensor]) -> Tensor:
        steps.append(values.shape[-1])
        return applied(values, level)

    monkeypatch.setattr(imputation, "_applied", counted)
    inputs = torch.zeros(1, 3, 30, 30, dtype=dtype)
    inputs[:, 1] = 3.0
    inputs[:, 2, 0] = 5.0  # far from the hole
    removed = torch.zeros(30, 30, dtype=torch.bool)
    removed[10:20, 10:20] = True
    found = imputed(inputs, removed)
    torch.testing.assert_close(found, inputs, rtol=1e-3, atol=1e-3)
    assert found.dtype == dtype
    # What cannot be told from rounding is not chased: three products of the whole size a step.
    assert steps.count(30) < 3 * 20


def test_nothing_removed_is_nothing_changed() -> None:
    inputs = picture(9)
    assert torch.equal(imputed(inputs, torch.zeros(9, 9, dtype=torch.bool)), inputs)
    assert torch.equal(imputed(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, dtype=torch.bool)), torch.ones(1, 1, 1, 1))


def test_what_cannot_be_solved_is_refused() -> None:
    inputs = picture(9)
    with pytest.raises(vv.InputError, match="every pixel is removed"):
        imputed(inputs, torch.ones(9, 9, dtype=torch.bool))
    with pytest.raises(vv.InputError, match=r"boolean mask \(9, 9\), not torch.bool of shape \(9, 8\)"):
        imputed(inputs, torch.ones(9, 8, dtype=torch.bool))
    with pytest.raises(vv.InputError, match=r"not torch\.float32"):
        imputed(inputs, torch.ones(9, 9))
    with pytest.raises(vv.InputError, match="a share above 0, not 0"):
        imputed(inputs, torch.zeros(9, 9, dtype=torch.bool), tolerance=0.0)

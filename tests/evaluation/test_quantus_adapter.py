"""Maps for Quantus, without Quantus: arrays in and out, the same maps as those of the methods."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn

import visavis as vv
from visavis.evaluation import quantus_explain

close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)

TARGETS = np.array([3, 0])


@pytest.fixture
def network() -> nn.Module:
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5)
    return nn.Sequential(*layers).eval()


@pytest.fixture
def inputs() -> np.ndarray:
    return np.random.default_rng(0).random((2, 3, 8, 8))


# Integrated gradients and SmoothGrad are captum's own, and slow; the network takes one size alone.
@pytest.mark.parametrize("name", sorted(vv.methods().keys() - {"integrated-gradients", "smoothgrad", "clrp-scales"}))
def test_the_map_is_that_of_the_method_summed_over_channels(name: str, network: nn.Module, inputs: np.ndarray) -> None:
    found = quantus_explain(network, inputs, TARGETS, method=name)
    expected = vv.method(name)(network).attribute(torch.tensor(inputs).float(), target=torch.tensor(TARGETS))
    assert found.shape == (2, 1, 8, 8)
    assert found.dtype == np.float32
    close(found, expected.detach().sum(1, keepdim=True).numpy())
    assert np.abs(found).max() > 1e-4


def test_options_are_spelled_or_passed(network: nn.Module, inputs: np.ndarray) -> None:
    plain = quantus_explain(network, inputs, TARGETS)
    close(plain, quantus_explain(network, inputs, TARGETS, method="clrp"))
    signed = quantus_explain(network, inputs, TARGETS, method="clrp:signed=true")
    assert plain.min() >= 0 > signed.min()
    close(signed, quantus_explain(network, inputs, TARGETS, method="clrp", signed=True))
    both = quantus_explain(network, inputs, TARGETS, method="clrp:signed=true", foil=1)
    expected = vv.CLRP(network, signed=True, foil=1).attribute(torch.tensor(inputs).float(), target=[3, 0])
    close(both, expected.sum(1, keepdim=True).numpy())
    assert np.abs(both - signed).max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_take_the_type_of_the_model(network: nn.Module, inputs: np.ndarray, dtype: torch.dtype) -> None:
    network = network.to(dtype)
    for given in (np.float32, np.float64):
        found = quantus_explain(network, inputs.astype(given), TARGETS, method="lrp")
        assert torch.tensor(found).dtype is dtype


def test_arrays_that_cannot_be_written_to_are_read(network: nn.Module, inputs: np.ndarray) -> None:
    repeated = np.broadcast_to(inputs[:1], inputs.shape)
    found = quantus_explain(network, repeated, np.array([3, 3]), method="gradient")
    close(found[0], found[1])


def test_tables_keep_their_columns_and_signals_lose_their_channels() -> None:
    table = np.random.default_rng(1).random((2, 6)).astype(np.float32)
    dense = nn.Linear(6, 5)
    close(quantus_explain(dense, table, TARGETS, method="gradient"), dense.weight.detach().numpy()[TARGETS])
    signals = table.reshape(2, 2, 3)
    flat = nn.Sequential(nn.Flatten(), dense)
    found = quantus_explain(flat, signals, TARGETS, method="input-x-gradient")
    by_hand = (dense.weight.detach().numpy()[TARGETS] * table).reshape(2, 2, 3)
    close(found, by_hand.sum(1, keepdims=True))


def test_the_device_is_where_the_inputs_are_put(network: nn.Module, inputs: np.ndarray) -> None:
    close(quantus_explain(network, inputs, TARGETS, device="cpu"), quantus_explain(network, inputs, TARGETS))
    with pytest.raises(vv.InputError, match="inputs are on cpu, the model is on meta"):
        quantus_explain(nn.Linear(6, 5, device="meta"), np.ones((2, 6)), TARGETS, method="gradient", device="cpu")


def test_what_cannot_be_done_is_said(network: nn.Module, inputs: np.ndarray) -> None:
    with pytest.raises(vv.InputError, match="did you mean 'clrp'"):
        quantus_explain(network, inputs, TARGETS, method="clpr")
    with pytest.raises(vv.InputError, match="CLRP takes no option 'foils'; it takes foil, "):
        quantus_explain(network, inputs, TARGETS, foils=1)
    with pytest.raises(vv.InputError, match="'signed' is given twice, in 'clrp:signed=true' and by itself"):
        quantus_explain(network, inputs, TARGETS, method="clrp:signed=true", signed=True)
    with pytest.raises(vv.InputError, match=r"targets have shape \(2, 1\) for 2 inputs"):
        quantus_explain(network, inputs, TARGETS[:, None])
    with pytest.raises(vv.InputError, match="target"):
        quantus_explain(network, inputs, TARGETS.astype(float))
    with pytest.raises(vv.InputError, match="NaN"):
        quantus_explain(network, inputs * np.nan, TARGETS)
    with pytest.raises(vv.InputError, match="beyond the bounds"):
        quantus_explain(network, inputs - 0.5, TARGETS, bounds=(0, 1))

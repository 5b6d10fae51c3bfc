"""A device is checked by name before anything is put on it."""

import pytest
import torch

from visavis.devices import choose_device
from visavis.errors import ModelError


@pytest.fixture
def no_accelerator(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)


def test_the_best_is_chosen(monkeypatch, no_accelerator):
    assert choose_device() == torch.device("cpu")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device() == torch.device("mps")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device(None) == torch.device("cuda")


def test_a_named_device():
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cuda", "the device 'cuda' was asked for, but no CUDA GPU is available here; use cpu"),
        ("cuda:1", "no CUDA GPU is available"),
        ("gpu", "'gpu' is not a device; use cpu, or leave it out"),
        ("", "is not a device"),
        ("meta", "holds no numbers"),
    ],
)
def test_what_is_not_there(no_accelerator, name, said):
    with pytest.raises(ModelError) as caught:
        choose_device(name)
    assert said in str(caught.value)


def test_a_gpu_beyond_the_last(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ModelError, match="there are 2 CUDA GPUs, numbered from 0"):
        choose_device("cuda:2")


def test_a_backend_that_was_not_built_in():
    with pytest.raises(ModelError, match="'xla' was asked for, but is not available here"):
        choose_device("xla")

"""Loading is safe and, where it fails, ends in one sentence."""

import http.client
import os
import pickle
import sys
import urllib.error

import pytest
import torch

from visavis.errors import InputError, ModelError
from visavis.models.loading import loading, require_host, unknown_model


class Touch:
    """Unpickling it makes a file: code, where only data belongs."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def failure(error):
    with pytest.raises(ModelError) as caught, loading("mine:net"):
        raise error
    assert caught.value.__cause__ is error
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "'mine:net'" in sentence
    return sentence


class HubError(Exception):
    """An error of a network library that is no OSError."""


HubError.__module__ = "huggingface_hub.errors"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (urllib.error.URLError(OSError(-2, "Name or service not known")), "(Name or service not known)"),
        (urllib.error.HTTPError("https://host/x", 404, "Not Found", None, None), "(Not Found)"),
        (TimeoutError("The read operation timed out"), "(The read operation timed out)"),
        (OSError(28, "No space left on device"), "(No space left on device)"),
        (http.client.IncompleteRead(b""), "(IncompleteRead(0 bytes read))"),
        (RuntimeError('invalid hash value (expected "a", got "b")'), "invalid hash value"),
        (HubError("Repository not found.\nSecond line"), "(Repository not found)"),
    ],
)
def test_a_failed_download(error, reason):
    sentence = failure(error)
    assert "could not be downloaded" in sentence
    assert "'efficientnet_lite0', which works offline" in sentence
    assert reason in sentence


def test_any_other_failure():
    assert failure(ValueError("size mismatch.\nMore")) == "the model 'mine:net' could not be loaded: size mismatch."
    assert failure(KeyError()).endswith("could not be loaded: KeyError.")
    with pytest.raises(InputError, match="as it was"), loading("x"):
        raise InputError("as it was")


def test_weights_that_hold_code_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    touched = tmp_path / "touched"
    torch.save({"weight": Touch(str(touched))}, path)
    with pytest.raises(ModelError, match="hold more than data"), loading("x"):
        torch.load(path, weights_only=False)  # as torchvision does
    assert not touched.exists()
    torch.load(path, weights_only=False)["weight"].close()
    assert touched.exists()
    with pytest.raises(ModelError, match="hold more than data"), loading("x"):
        raise pickle.UnpicklingError("Weights only load failed")


@pytest.mark.parametrize("before", [None, "0"])
def test_torch_load_is_afterwards_as_before(monkeypatch, before):
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    for name in names:
        monkeypatch.delenv(name, raising=False)
        if before is not None:
            monkeypatch.setenv(name, before)

    def fail():
        assert os.environ[names[0]] == "1"
        assert names[1] not in os.environ
        raise ValueError("here")

    with pytest.raises(ModelError, match="here"), loading("x"):
        fail()
    assert [os.environ.get(name) for name in names] == [before, before]


def test_download_notes_leave_standard_output_clean(capsys):
    with loading("x"):
        print("Downloading")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "Downloading\n"
    assert sys.stdout is not sys.stderr


def test_an_unknown_host_fails_at_once(monkeypatch):
    def unknown(*_):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(ModelError, match="Name or service not known"):
        require_host("host.invalid", "timm:net")
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy"})
    require_host("host.invalid", "timm:net")


def test_the_nearest_names():
    known = ["resnet18", "resnet50", "resnet50d", "vgg16", "vit_small_patch14_dinov2"]
    assert "the nearest are x:vit_small_patch14_dinov2" in str(unknown_model("dinov2", known, "x:"))
    assert "x:resnet50" in str(unknown_model("ResNet-50", known, "x:"))
    assert "see visavis.models()" in str(unknown_model("zzz", known, "x:"))

"""Grad-CAM, integrated gradients and SmoothGrad are captum's, called directly; what we add is checked apart."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visavis as vv

DOUBLE = torch.float64
PEERS = ("grad-cam", "integrated-gradients", "smoothgrad")


def network() -> nn.Module:
    torch.manual_seed(4)
    return (
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 5),
        )
        .double()
        .eval()
    )


def pictures() -> Tensor:
    return torch.randn(2, 3, 8, 10, generator=torch.Generator().manual_seed(9), dtype=DOUBLE)


@contextmanager
def captum_s_warnings_ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("layer", [None, "0", "1", "3"])
def test_grad_cam_is_captum_s(layer: str | None) -> None:
    module, x = network(), pictures()
    result = vv.GradCAM(module, layer=layer).attribute(x, [1, 3])
    part = module.get_submodule(layer or "4")
    with captum_s_warnings_ignored():
        cam = captum.attr.LayerGradCam(module, part).attribute(x, target=[1, 3], relu_attributions=True)
    expected = F.interpolate(cam.detach(), (8, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(result.sum(1, keepdim=True), expected, rtol=1e-10, atol=1e-14)
    assert torch.equal(result[:, 0], result[:, 2])
    assert expected.sum() > 0


def test_grad_cam_by_hand() -> None:
    module, x = network(), pictures()
    maps = module[:4](x).relu().detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module[5:](maps)[:, 2].sum(), maps)
    cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).relu().detach()
    expected = F.interpolate(cam, (8, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(vv.GradCAM(module).attribute(x, 2).sum(1, keepdim=True), expected)


def test_grad_cam_chooses_the_last_map_of_positions_that_is_called_once() -> None:
    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.once, self.twice, self.head = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 1), nn.Linear(3, 4)
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.head(self.twice(self.twice(self.once(x))).mean((2, 3)))
            return result

    module, x = Reused(), pictures()
    assert torch.equal(vv.GradCAM(module).attribute(x, 1), vv.GradCAM(module, layer="once").attribute(x, 1))


def test_grad_cam_tells_what_it_lacks() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(240, 5)).double()
    with pytest.raises(vv.InputError, match="Grad-CAM needs a layer with a map of positions"):
        vv.GradCAM(flat).attribute(pictures(), 1)
    with pytest.raises(vv.InputError, match=r"the model has no layer 'features.3'"):
        vv.GradCAM(network(), layer="features.3").attribute(pictures(), 1)


@pytest.mark.parametrize("layer", ["6", "7"])
def test_grad_cam_of_a_layer_without_positions_is_refused(layer: str) -> None:
    with pytest.raises(vv.InputError, match="map of positions"):
        vv.GradCAM(network(), layer=layer).attribute(pictures(), 1)


def test_integrated_gradients_are_captum_s_and_complete() -> None:
    module, x = network(), pictures()
    result = vv.IntegratedGradients(module, steps=20).attribute(x, [1, 3])
    expected = captum.attr.IntegratedGradients(module).attribute(x, target=[1, 3], n_steps=20)
    torch.testing.assert_close(result, expected.detach(), rtol=1e-9, atol=1e-13)
    fine = vv.IntegratedGradients(module, steps=64).attribute(x, [1, 3]).sum((1, 2, 3))
    difference = (module(x) - module(torch.zeros_like(x)))[[0, 1], [1, 3]].detach()
    torch.testing.assert_close(fine, difference, rtol=5e-2, atol=1e-3)
    assert not torch.allclose(result, vv.IntegratedGradients(module, steps=3).attribute(x, [1, 3]))


def test_smoothgrad_is_captum_s() -> None:
    module, x = network(), pictures()
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(module))
    for image, target in zip(x[:, None], (1, 3), strict=True):
        result = vv.SmoothGrad(module, samples=6, noise=0.2).attribute(image, target)
        with torch.random.fork_rng(), captum_s_warnings_ignored():
            torch.manual_seed(0)
            expected = tunnel.attribute(
                image.clone().requires_grad_(),
                target=target,
                nt_samples=6,
                nt_samples_batch_size=1,
                stdevs=0.2 * float(image.max() - image.min()),
                abs=False,
            )
        torch.testing.assert_close(result, expected.detach(), rtol=1e-9, atol=1e-13)


def test_smoothgrad_without_noise_is_the_gradient() -> None:
    module, x = network(), pictures()
    expected = vv.Gradient(module).attribute(x, 2)
    torch.testing.assert_close(vv.SmoothGrad(module, samples=2, noise=0.0).attribute(x, 2), expected)
    assert not torch.allclose(vv.SmoothGrad(module, samples=2).attribute(x, 2), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vv.IntegratedGradients(network(), steps=0), "steps must be at least 1, not 0"),
        (lambda: vv.SmoothGrad(network(), samples=0), "samples must be at least 1 and noise ≥ 0, not 0"),
        (lambda: vv.SmoothGrad(network(), noise=-0.1), "noise ≥ 0"),
    ],
)
def test_malformed_options(make: Any, message: str) -> None:
    with pytest.raises(vv.InputError, match=message):
        make()


@pytest.mark.parametrize("name", PEERS)
def test_without_captum_there_is_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = vv.method(name)(network())
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    for call in (lambda: vv.method(name)(network()), lambda: method.attribute(pictures(), 1)):
        with pytest.raises(vv.ModelError, match=r"captum, which is not installed: pip install captum"):
            call()
    assert vv.LRP(network()).attribute(pictures(), 1).isfinite().all()


class Answering(nn.Module):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.body, self.wrap = network(), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.body(x))


@pytest.mark.parametrize("wrap", [lambda y: (y, y * 2), lambda y: {"logits": y}, lambda y: {"out": y}], ids=range(3))
@pytest.mark.parametrize("name", PEERS)
def test_logits_are_found_in_what_the_model_returns(name: str, wrap: Any) -> None:
    result = vv.method(name)(Answering(wrap)).attribute(pictures(), 1)
    expected = vv.method(name)(network()).attribute(pictures(), 1)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", PEERS)
def test_relus_in_place_are_no_matter(name: str) -> None:
    module, x = network(), pictures()
    expected = vv.method(name)(module).attribute(x, 1)
    for part in module:
        if isinstance(part, nn.ReLU):
            part.inplace = True
    torch.testing.assert_close(vv.method(name)(module).attribute(x, 1), expected, rtol=1e-10, atol=1e-14)


def test_grad_cam_of_a_layer_before_a_relu_in_place() -> None:
    module, x = network(), pictures()
    expected = vv.GradCAM(module, layer="3").attribute(x, 1)
    module[4].inplace = True
    torch.testing.assert_close(vv.GradCAM(module, layer="3").attribute(x, 1), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", PEERS)
def test_an_error_in_the_model_leaves_no_hook(name: str) -> None:
    class Own(Exception):
        pass

    class Failing(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            if type(self).calls > 2:
                raise Own
            return x

    module = nn.Sequential(*list(network())[:5], Failing(), *list(network())[5:])
    x = pictures()
    with pytest.raises(Own):
        _ = [vv.method(name)(module).attribute(x, 1) for _ in range(2)]
    for part in module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert not part._backward_hooks

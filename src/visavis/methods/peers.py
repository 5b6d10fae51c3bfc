"""Grad-CAM, integrated gradients and SmoothGrad, as captum has them, behind the shape of our own methods."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.classifier import Bound, Classifier
from visavis.contrast import target_indices
from visavis.errors import InputError, ModelError
from visavis.methods.base import Method, label_indices, register_method
from visavis.outputs import logits_of
from visavis.propagation.mode import answer_of
from visavis.propagation.untouched import WatchWrites, left_untouched


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError:
        raise ModelError(
            "this method comes from captum, which is not installed: pip install 'visavis[peers]'"
        ) from None
    return captum.attr


class _Logits(nn.Module):
    """The model, answering with its logits."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        # A copy: a module that writes to its input in place may not do so to a leaf of the graph.
        return logits_of(answer_of(self.module, inputs.clone()))


class _PeerMethod(Method):
    """A method of captum's. The model is left untouched, and noise is drawn from a fixed seed."""

    @contextmanager
    def _setting(self, inputs: Tensor, target: Any) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
        """Give the model that answers with logits, the inputs to use and each image's target."""
        inputs = self.checked(inputs).detach()
        with (
            warnings.catch_warnings(),
            torch.inference_mode(False),
            torch.enable_grad(),
            left_untouched(self.module, inputs.device) as written,
            WatchWrites(written),
        ):
            warnings.filterwarnings("ignore", module=r"captum\..*")
            model = _Logits(self.module)
            inputs = inputs.clone()
            with torch.no_grad():
                indices = target_indices(model(inputs), self.target_of(target))
            torch.manual_seed(0)
            yield model, inputs.requires_grad_(), indices


@register_method
class GradCAM(_PeerMethod):
    """Grad-CAM (Selvaraju et al. 2017), by captum: ≥ 0, at the layer's resolution, resized bilinearly to the input's.

    Args:
        module: any nn.Module, or a Classifier.
        layer: path of the layer whose feature maps are weighted; None: the last module with a map of positions, called
            once.
    """

    name = "grad-cam"
    title = "Grad-CAM"

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        attribution = _captum()
        with self._setting(inputs, target) as (model, x, indices):
            path = self.layer or self._last_map(x)
            try:
                part = self.module.get_submodule(path)
            except AttributeError:
                raise InputError(f"the model has no layer {path!r}; layers are named as in `named_modules()`") from None
            cam = attribution.LayerGradCam(model, part).attribute(x, indices, relu_attributions=True)
        if cam.dim() != 4:
            raise InputError(f"Grad-CAM needs a layer with a map of positions (B, C, H, W), and {path!r} has none")
        wide = F.interpolate(cam.detach(), inputs.shape[2:], mode="bilinear", align_corners=False)
        # One map for all channels: shared among them, so that their sum is the map.
        return wide.expand_as(inputs) / inputs.shape[1]

    def target_of(self, target: Any) -> Any:
        """Return the target with labels replaced; it is a class, also where `layer` says which maps are weighted."""
        return label_indices(target, self.classifier)

    def _last_map(self, x: Tensor) -> str:
        """Return the path of the last module, called once, whose output has positions."""
        calls: dict[str, int] = {}
        maps: list[str] = []

        def watch(path: str) -> Any:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                calls[path] = calls.get(path, 0) + 1
                if isinstance(output, Tensor) and output.dim() == 4 and output.shape[-1] * output.shape[-2] > 1:
                    maps.append(path)

            return hook

        handles = [part.register_forward_hook(watch(path)) for path, part in self.module.named_modules() if path]
        try:
            with torch.no_grad():
                self.module(x.detach().clone())
        finally:
            for handle in handles:
                handle.remove()
        found = [path for path in maps if calls[path] == 1]
        if not found:
            raise InputError("Grad-CAM needs a layer with a map of positions (B, C, H, W), and this model has none")
        return found[-1]


@register_method
class IntegratedGradients(_PeerMethod):
    """Integrated gradients (Sundararajan et al. 2017), by captum: signed; sums to the score less the baseline's.

    Args:
        module: any nn.Module, or a Classifier.
        steps: points on the straight path from the baseline, which is zero (mid-grey, for normalised pixels).
    """

    name = "integrated-gradients"
    title = "Integrated gradients"

    def __init__(
        self, module: nn.Module | Classifier, *, bounds: tuple[Bound, Bound] | None = None, steps: int = 50
    ) -> None:
        super().__init__(module, bounds=bounds)
        if not isinstance(steps, int) or steps < 1:
            raise InputError(f"steps must be at least 1, not {steps}")
        self.steps = steps

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        attribution = _captum()
        with self._setting(inputs, target) as (model, x, indices):
            result: Tensor = attribution.IntegratedGradients(model).attribute(
                x, target=indices, n_steps=self.steps, internal_batch_size=x.shape[0]
            )
        return result.detach().to(inputs)


@register_method
class SmoothGrad(_PeerMethod):
    """SmoothGrad (Smilkov et al. 2017), by captum: the gradient averaged over noisy copies. Signed.

    Args:
        module: any nn.Module, or a Classifier.
        samples: noisy copies of each image.
        noise: standard deviation of the noise, as a share of each image's range.
    """

    name = "smoothgrad"
    title = "SmoothGrad"
    reading = "where brighter or darker pixels would move the score of {}"
    quantity = "effect on the score of {}"

    def __init__(
        self,
        module: nn.Module | Classifier,
        *,
        bounds: tuple[Bound, Bound] | None = None,
        samples: int = 25,
        noise: float = 0.15,
    ) -> None:
        super().__init__(module, bounds=bounds)
        if not isinstance(samples, int) or samples < 1 or noise < 0:
            raise InputError(f"samples must be at least 1 and noise ≥ 0, not {samples} and {noise}")
        self.samples = samples
        self.noise = noise

    def attribute(self, inputs: Tensor, target: Any = None) -> Tensor:
        attribution = _captum()
        with self._setting(inputs, target) as (model, x, indices):
            tunnel = attribution.NoiseTunnel(attribution.Saliency(model))
            results = []
            for image, index in zip(x, indices, strict=True):
                torch.manual_seed(0)  # the same noise for an image in any company
                spread = self.noise * float((image.max() - image.min()).detach())
                results.append(
                    tunnel.attribute(
                        image.detach()[None].requires_grad_(),
                        target=index.view(1),
                        nt_samples=self.samples,
                        nt_samples_batch_size=1,
                        stdevs=spread,
                        abs=False,
                    )
                )
        return torch.cat(results).detach().to(inputs)

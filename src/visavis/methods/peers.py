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
from visavis.methods.base import Method, arguments_of, label_indices, register_method
from visavis.outputs import Output, scores_of
from visavis.propagation.mode import Inputs, answer_of
from visavis.propagation.untouched import run_untouched


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError:
        raise ModelError("this method comes from captum, which is not installed: pip install captum") from None
    return captum.attr


class _Scores(nn.Module):
    """The model, answering with the scores that are explained, (B, N): each class's sum over its positions."""

    def __init__(self, module: nn.Module, output: Output, inputs: int) -> None:
        super().__init__()
        self.module = module
        self.output = output
        self.inputs = inputs

    def forward(self, *arguments: Any) -> Tensor:
        # A copy: a module that writes to its input in place may not do so to a leaf of the graph.
        inputs = [one.clone() for one in arguments[: self.inputs]]
        scores = scores_of(answer_of(self.module, *inputs, *arguments[self.inputs :]), self.output, len(inputs[0]))
        return scores.flatten(2).sum(2) if scores.dim() > 2 else scores


class _PeerMethod(Method):
    """A method of captum's. The model is left untouched, and noise is drawn from a fixed seed."""

    def __init__(
        self,
        module: nn.Module | Classifier,
        *,
        bounds: tuple[Bound, Bound] | None = None,
        layer: str | nn.Module | None = None,
        output: Output = None,
    ) -> None:
        super().__init__(module, bounds=bounds, layer=layer, output=output)
        _captum()  # which may not be there

    @contextmanager
    def _setting(
        self, inputs: Inputs, target: Any, additional: tuple[Any, ...]
    ) -> Iterator[tuple[nn.Module, tuple[Tensor, ...], Tensor]]:
        """Give the model that answers with scores, the inputs to use, as a tuple, and each image's target."""
        given = self.checked(inputs)
        several = given if isinstance(given, tuple) else (given,)
        with (
            warnings.catch_warnings(),
            torch.inference_mode(False),
            torch.enable_grad(),
            run_untouched(self.module, several[0].device),
        ):
            warnings.filterwarnings("ignore", module=r"captum\..*")
            model = _Scores(self.module, self.output, len(several))
            several = tuple(one.detach().clone() for one in several)
            with torch.no_grad():
                indices = target_indices(model(*several, *additional), self.target_of(target))
            torch.manual_seed(0)
            yield model, tuple(one.requires_grad_() for one in several), indices


def _as_given(maps: tuple[Tensor, ...], inputs: Inputs) -> Inputs:
    """Return the maps with the inputs' structure and types."""
    if not isinstance(inputs, tuple):
        return maps[0].detach().to(inputs)
    return tuple(one.detach().to(like) for one, like in zip(maps, inputs, strict=True))


@register_method
class GradCAM(_PeerMethod):
    """Grad-CAM (Selvaraju et al. 2017), by captum: ≥ 0, at the layer's resolution, resized bilinearly to the input's.

    Args:
        module: any nn.Module, or a Classifier.
        layer: path of the layer whose feature maps are weighted; None: the last module with a map of positions, called
            once.
        bounds: lowest and highest value of a normalised pixel; inputs are checked against them.
        output: what is explained of what the model returns, as for LRP.
    """

    name = "grad-cam"
    title = "Grad-CAM"

    def attribute(self, inputs: Inputs, target: Any = None, *, additional_forward_args: Any = None) -> Inputs:
        attribution = _captum()
        if isinstance(inputs, tuple) and len(inputs) > 1:
            raise InputError(
                f"Grad-CAM lays the map of one layer over one input, and these are {len(inputs)}; choose another method"
            )
        additional = arguments_of(additional_forward_args)
        with self._setting(inputs, target, additional) as (model, (x,), indices):
            path = self.layer or self._last_map(x, additional)
            try:
                part = self.module.get_submodule(path)
            except AttributeError:
                raise InputError(f"the model has no layer {path!r}; layers are named as in `named_modules()`") from None
            cam = attribution.LayerGradCam(model, part).attribute(
                x, indices, additional_forward_args=additional, relu_attributions=True
            )
        if cam.dim() != 4:
            raise InputError(f"Grad-CAM needs a layer with a map of positions (B, C, H, W), and {path!r} has none")
        if x.dim() != 4:
            raise InputError(f"Grad-CAM draws on pictures (B, C, H, W), not on inputs of shape {tuple(x.shape)}")
        wide = F.interpolate(cam.detach(), x.shape[2:], mode="bilinear", align_corners=False)
        # One map for all channels: shared among them, so that their sum is the map.
        return _as_given((wide.expand_as(x) / x.shape[1],), inputs)

    def target_of(self, target: Any) -> Any:
        """Return the target with labels replaced; it is a class, also where `layer` says which maps are weighted."""
        return label_indices(target, self.classifier)

    def _last_map(self, x: Tensor, additional: tuple[Any, ...]) -> str:
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
                self.module(x.detach().clone(), *additional)
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
        bounds: lowest and highest value of a normalised pixel; inputs are checked against them.
        output: what is explained of what the model returns, as for LRP.
        steps: points on the straight path from the baseline, which is zero (mid-grey, for normalised pixels).
    """

    name = "integrated-gradients"
    title = "Integrated gradients"

    def __init__(
        self,
        module: nn.Module | Classifier,
        *,
        bounds: tuple[Bound, Bound] | None = None,
        output: Output = None,
        steps: int = 50,
    ) -> None:
        super().__init__(module, bounds=bounds, output=output)
        if not isinstance(steps, int) or steps < 1:
            raise InputError(f"steps must be at least 1, not {steps}")
        self.steps = steps

    def attribute(self, inputs: Inputs, target: Any = None, *, additional_forward_args: Any = None) -> Inputs:
        attribution = _captum()
        additional = arguments_of(additional_forward_args)
        with self._setting(inputs, target, additional) as (model, x, indices):
            result: tuple[Tensor, ...] = attribution.IntegratedGradients(model).attribute(
                x,
                target=indices,
                additional_forward_args=additional,
                n_steps=self.steps,
                internal_batch_size=len(x[0]),
            )
        return _as_given(result, inputs)


@register_method
class SmoothGrad(_PeerMethod):
    """SmoothGrad (Smilkov et al. 2017), by captum: the gradient averaged over noisy copies. Signed.

    Args:
        module: any nn.Module, or a Classifier.
        bounds: lowest and highest value of a normalised pixel; inputs are checked against them.
        output: what is explained of what the model returns, as for LRP.
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
        output: Output = None,
        samples: int = 25,
        noise: float = 0.15,
    ) -> None:
        super().__init__(module, bounds=bounds, output=output)
        if not isinstance(samples, int) or samples < 1 or noise < 0:
            raise InputError(f"samples must be at least 1 and noise ≥ 0, not {samples} and {noise}")
        self.samples = samples
        self.noise = noise

    def attribute(self, inputs: Inputs, target: Any = None, *, additional_forward_args: Any = None) -> Inputs:
        attribution = _captum()
        additional = arguments_of(additional_forward_args)
        with self._setting(inputs, target, additional) as (model, x, indices):
            tunnel = attribution.NoiseTunnel(attribution.Saliency(model))
            results = []
            for item, index in enumerate(indices):
                torch.manual_seed(0)  # the same noise for an image in any company
                one = tuple(values[item : item + 1].detach() for values in x)
                spread = tuple(self.noise * float(values.max() - values.min()) for values in one)
                results.append(
                    tunnel.attribute(
                        tuple(values.requires_grad_() for values in one),
                        target=index.view(1),
                        additional_forward_args=tuple(_of_item(value, item, len(indices)) for value in additional),
                        nt_samples=self.samples,
                        nt_samples_batch_size=1,
                        stdevs=spread,
                        abs=False,
                    )
                )
        return _as_given(tuple(torch.cat(maps) for maps in zip(*results, strict=True)), inputs)


def _of_item(value: Any, item: int, items: int) -> Any:
    """Return an additional argument for one image alone: its row of what has one row an image."""
    batched = isinstance(value, Tensor) and value.dim() > 0 and len(value) == items
    return value[item : item + 1] if batched else value

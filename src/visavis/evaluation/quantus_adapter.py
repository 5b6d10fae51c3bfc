"""Visavis's methods as Quantus calls for them: NumPy arrays in, NumPy arrays out. Quantus itself is not needed."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from visavis.errors import InputError
from visavis.evaluation.explainers import MethodExplainer
from visavis.evaluation.spelling import method_of
from visavis.methods.base import Method


def quantus_explain(
    model: nn.Module,
    inputs: NDArray[Any],
    targets: NDArray[Any],
    *,
    method: str = "clrp",
    device: str | torch.device | None = None,
    **options: Any,
) -> NDArray[Any]:
    """Return the maps of a batch, for Quantus (Hedström et al. 2023) as its `explain_func`.

    The maps are signed and summed over the channels, as those of `quantus.explain` are; whether a metric takes their
    size |value| or normalises them, it says itself. They have the model's type, whatever that of the inputs.

    Quantus refuses a batch of maps that is 0 everywhere, which a contrast on random weights can come to: ask for
    `signed=True` then. It disturbs its inputs, and disturbed inputs may lie beyond the `bounds` of the pixels, which is
    refused here: leave the bounds out, so that each image's own range stands in for them.

    Args:
        model: in eval mode, on the device that Quantus is told.
        inputs: (B, C, H, W), normalised; or (B, C, ...), or (B, N).
        targets: class indices (B,).
        method: NAME or NAME:OPTION=VALUE,OPTION=VALUE, as for `visavis benchmark`. `quantus.evaluate` puts here what
            the method is called in its `xai_methods`.
        device: where the inputs are put; Quantus passes what it was given. None: where the model is.
        options: what else the method's class takes, such as `foil=340` or `signed=True`.

    Returns:
        (B, 1, H, W), or (B, 1, ...), or (B, N).

    Raises:
        InputError: there is no such method, it has no such option, or the inputs or targets do not fit the model.
    """
    made = _made(model, method, options)
    place = made.classifier.device if device is None else device
    batch = torch.tensor(np.asarray(inputs), dtype=made.classifier.dtype, device=place)
    classes = torch.tensor(np.asarray(targets), device=place)
    if batch.dim() == 4:
        maps = MethodExplainer(made).heatmaps(batch, classes)[:, None]
    else:
        attribution = made.attribute(batch, target=classes)
        assert isinstance(attribution, torch.Tensor)
        maps = attribution if batch.dim() == 2 else attribution.sum(1, keepdim=True)
    found: NDArray[Any] = maps.detach().cpu().numpy()
    return found


def _made(model: nn.Module, text: str, options: dict[str, Any]) -> Method:
    """Return the method that a line of text names, with the options of both, on a model."""
    cls, spelled = method_of(text)
    takes = [name for name in inspect.signature(cls).parameters if name != "module"]
    for option in options:
        if option not in takes:
            raise InputError(f"{cls.title} takes no option {option!r}; it takes {', '.join(takes)}")
        if option in spelled:
            raise InputError(f"the option {option!r} is given twice, in {text!r} and by itself; give it once")
    return cls(model, **spelled, **options)


__all__ = ["quantus_explain"]

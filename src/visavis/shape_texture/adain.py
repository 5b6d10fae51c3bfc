"""Style transfer by adaptive instance normalisation, with the user's own weights.

Huang & Belongie 2017 (Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization), equation 8: the
features x of an image take the mean and the deviation of a texture's features y, channel by channel,

    AdaIN(x, y) = σ(y) (x − μ(x)) / σ(x) + μ(y),

and a decoder makes an image of them. Features are those of relu4_1 of a VGG-19 that was rescaled for it, whose first
layer, 1 × 1, takes red, green and blue in [0, 1]. Layers are numbered as in the common PyTorch release, and as there σ
is the square root of the unbiased variance (a sum over positions, divided by their number less one) plus 1e-5.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from visavis.errors import InputError, ModelError
from visavis.models.weights import State, load_weights, read_weights

_EPSILON = 1e-5
# Halved three times, and padded by reflection: two pixels must be left.
_LEAST_SIDE = 16
# Channels of the encoder's 3 × 3 convolutions, and where it halves; the decoder is its mirror.
_CHANNELS: tuple[int | None, ...] = (64, 64, None, 128, 128, None, 256, 256, 256, 256, None, 512)
# Modules of the encoder up to relu4_1, and the convolutions of VGG-19 that come after.
_MODULES = 31
_BEYOND = (32, 35, 38, 42, 45, 48, 51)


class AdaIN:
    """Lays images out in the style of a texture.

    Args:
        encoder_weights: the file of the normalised VGG-19, whole or up to relu4_1, under "0.weight", "2.weight" and so
            on; .pth, .pt or .safetensors. It is read as data only.
        decoder_weights: the file of the decoder, under "1.weight" to "28.weight".
        alpha: from 0, the content as the decoder makes it, to 1, its features wholly normalised.

    Raises:
        InputError: alpha is no share.
        ModelError: a file is missing, damaged, or does not fit.
    """

    def __init__(
        self,
        encoder_weights: str | os.PathLike[str],
        decoder_weights: str | os.PathLike[str],
        *,
        alpha: float = 1.0,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise InputError(f"alpha is {alpha}, but a share in [0, 1] was expected")
        self.alpha = alpha
        self.encoder, self.decoder = _empty(_encoder()), _empty(_decoder())
        _load(self.encoder, _up_to_relu4_1(read_weights(encoder_weights)), encoder_weights, "AdaIN's encoder")
        _load(self.decoder, read_weights(decoder_weights), decoder_weights, "AdaIN's decoder")

    def encode(self, images: Tensor) -> Tensor:
        """Return the features at relu4_1 of images (B, 3, H, W) in [0, 1], (B, 512, ⌈H/8⌉, ⌈W/8⌉)."""
        with torch.no_grad():
            features: Tensor = self.encoder(images)
        return features

    def decode(self, features: Tensor) -> Tensor:
        """Return the images of features (B, 512, h, w), (B, 3, 8h, 8w); their values may lie outside [0, 1]."""
        with torch.no_grad():
            images: Tensor = self.decoder(features)
        return images

    def __call__(self, content: Tensor, texture: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return an image in the style of a texture.

        Args:
            content: (3, H, W) in [0, 1], at least 16 px a side.
            texture: (3, h, w) in [0, 1], likewise.
            mask: (H, W), bool: where the style is laid; the rest stays as it is. None: everywhere. The features are of
                the whole image all the same.

        Returns:
            (3, H, W), clipped to [0, 1], float32, on the CPU.

        Raises:
            InputError: shapes or values are not such.
            ModelError: the weights make numbers that are not finite.
        """
        shown, style = (_checked(image, what) for image, what in ((content, "content"), (texture, "texture")))
        if mask is not None and (mask.dtype != torch.bool or mask.shape != shown.shape[1:]):
            raise InputError(
                f"the mask is {mask.dtype} {tuple(mask.shape)}, but torch.bool {tuple(shown.shape[1:])} was expected"
            )
        features = self.encode(shown[None])
        normalised = adaptive_instance_normalization(features, self.encode(style[None]))
        image = self.decode(self.alpha * normalised + (1 - self.alpha) * features)[0]
        if not image.isfinite().all():
            raise ModelError("AdaIN made numbers that are not finite; check the files of weights")
        image = image[:, : shown.shape[1], : shown.shape[2]].clamp(0, 1)
        return image if mask is None else torch.where(mask.cpu(), image, shown)


def adaptive_instance_normalization(content: Tensor, style: Tensor) -> Tensor:
    """Return features (B, C, H, W) with the mean and deviation of others, (B, C, h, w), a channel each (equation 8)."""
    mean, deviation = _mean_and_deviation(content)
    style_mean, style_deviation = _mean_and_deviation(style)
    return style_deviation * (content - mean) / deviation + style_mean


def _mean_and_deviation(features: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(features, dim=(2, 3), correction=1, keepdim=True)
    return mean, (variance + _EPSILON).sqrt()


def _checked(image: Tensor, what: str) -> Tensor:
    if image.dim() != 3 or image.shape[0] != 3 or min(image.shape[1:]) < _LEAST_SIDE:
        raise InputError(
            f"the {what} is {tuple(image.shape)}, but (3, H, W) of at least {_LEAST_SIDE} px a side was expected"
        )
    shown = image.detach().cpu().float()
    if not shown.isfinite().all() or shown.min() < 0 or shown.max() > 1:
        raise InputError(f"the {what} has values that are not finite, or outside [0, 1]; scale them first")
    return shown


# -- the networks ------------------------------------------------------------------------------------------------------


def _encoder() -> Iterator[nn.Module]:
    yield nn.Conv2d(3, 3, 1)
    before = 3
    for channels in _CHANNELS:
        if channels is None:
            yield nn.MaxPool2d(2, ceil_mode=True)
            continue
        yield from (*_convolution(before, channels), nn.ReLU())
        before = channels


def _decoder() -> Iterator[nn.Module]:
    onwards = list(reversed(_CHANNELS))
    for place, channels in enumerate(onwards):
        if channels is None:
            yield nn.Upsample(scale_factor=2, mode="nearest")
            continue
        after = next((one for one in onwards[place + 1 :] if one is not None), 3)
        yield from _convolution(channels, after)
        if place < len(onwards) - 1:
            yield nn.ReLU()


def _empty(modules: Iterator[nn.Module]) -> nn.Sequential:
    """Return a network without values yet: none are drawn, and the user's random numbers stay as they are."""
    with torch.device("meta"):
        network = nn.Sequential(*modules)
    return network.to_empty(device="cpu")


def _convolution(before: int, after: int) -> tuple[nn.Module, nn.Module]:
    return nn.ReflectionPad2d(1), nn.Conv2d(before, after, 3)


def _up_to_relu4_1(state: State) -> State:
    """Return a state dict without the layers beyond relu4_1, if it is that of the whole network."""
    beyond = {f"{place}.{kind}" for place in _BEYOND for kind in ("weight", "bias")}
    return {key: tensor for key, tensor in state.items() if key not in beyond} if beyond <= state.keys() else state


def _load(network: nn.Sequential, state: State, path: str | os.PathLike[str], name: str) -> None:
    advice = (
        "pass the files of the common PyTorch release of AdaIN, vgg_normalised.pth as encoder, decoder.pth as decoder."
    )
    load_weights(network, state, path, name, advice)
    network.eval().requires_grad_(False)


__all__ = ["AdaIN", "adaptive_instance_normalization"]

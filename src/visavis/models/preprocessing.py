"""What makes a photograph the input of a network, where a model does not bring its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image
from torch import Tensor

from visavis.errors import InputError

# The share of the scaled picture that a network trained on ImageNet is usually shown.
_CROP_SHARE = 0.875
_LARGEST = 8192


@dataclass(frozen=True)
class CentreCrop:
    """Scales the short side to `size` / 0.875, crops the middle `size` × `size`, and normalises the colours.

    The defaults are those that most networks were trained on ImageNet with.

    Args:
        size: Side of the cropped square, in pixels.
        mean, std: Of each of the three colours, for values in [0, 1]: the result is (value − mean) / std.
        interpolation: "bilinear" or "bicubic".

    Raises:
        InputError: The size is below 1 or beyond 8192; mean and std are not three finite numbers each, the latter
            above 0.
    """

    size: int = 224
    mean: Sequence[float] = (0.485, 0.456, 0.406)
    std: Sequence[float] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= _LARGEST:
            raise InputError(f"pictures are cropped to a side of 1 to {_LARGEST} pixels, not {self.size}.")
        for what, values in (("mean", self.mean), ("standard deviation", self.std)):
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise InputError(f"the {what} of the colours is three finite numbers, not {_written(values)}.")
        if min(self.std) <= 0:
            raise InputError(f"the standard deviation of a colour is above 0, but this is {_written(self.std)}.")

    def __call__(self, picture: PIL.Image.Image) -> Tensor:
        """The tensor (3, size, size) of a picture."""
        import torchvision.transforms.functional as transform
        from torchvision.transforms import InterpolationMode

        short = round(self.size / _CROP_SHARE)
        picture = transform.resize(picture, [short], InterpolationMode(self.interpolation))
        tensor = transform.to_tensor(transform.center_crop(picture, [self.size]))
        normalised: Tensor = transform.normalize(tensor, list(self.mean), list(self.std))
        return normalised

    def __str__(self) -> str:
        crop = f"cropped to {self.size} × {self.size} pixels"
        return f"{crop}, mean {_written(self.mean)}, standard deviation {_written(self.std)}"


def _written(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "nothing"

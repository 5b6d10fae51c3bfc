"""A classifier: a module together with what turns pictures into its inputs and its outputs into class
names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from visavis.errors import InputError, ModelError
from visavis.labels import Labels, class_index
from visavis.modules import refuse_unexplainable
from visavis.outputs import logits_of
from visavis.pictures import load_picture
from visavis.propagation.mode import answer_of

Preprocess = Callable[[PIL.Image.Image], Tensor]
Bound = float | int | Sequence[float] | Sequence[int] | NDArray[np.generic] | Tensor
Source = str | os.PathLike[str] | PIL.Image.Image | NDArray[np.generic] | Tensor

# Values this many times the width of the bounds outside them were surely never normalised (0..255, say).
_FAR_OUTSIDE = 10


class Classifier:
    """A module, its preprocessing, its labels and the bounds of its pixels. The module is never changed.

    Args:
        module: Maps a batch (B, C, H, W) to logits (B, classes), or to what `logits_of` finds them in. It is
            used in the mode it is in: call `.eval()` on it first.
        preprocess: Maps an RGB PIL picture to a normalised float tensor (C, H, W). Without it only tensors
            are taken.
        labels: The class names, in order.
        bounds: The lowest and the highest value that a normalised pixel can take: two numbers, or two
            sequences with one value a channel. `pixel_bounds(preprocess)` measures them.
        name: What to call the model.

    Attributes:
        module, preprocess, name: As given; without a name, that of the module's class.
        labels: `Labels`; without names, None until the model has run, then numbered.
        bounds: Two float tensors (1, C, 1, 1) on the CPU, or (1, 1, 1, 1) where two numbers were given; or
            None.

    Raises:
        InputError: `module` is no `nn.Module`, or the bounds or labels are malformed.
        ModelError: The module hides what it computes: it is scripted, compiled, exported, quantised or sharded, say.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        preprocess: Preprocess | None = None,
        labels: Labels | Sequence[str] | None = None,
        bounds: tuple[Bound, Bound] | None = None,
        name: str | None = None,
    ) -> None:
        refuse_unexplainable(module)
        self.module = module
        self.preprocess = preprocess
        self.labels = labels if isinstance(labels, Labels) or labels is None else Labels(labels)
        self.bounds = None if bounds is None else _as_bounds(bounds)
        # Two plain numbers hold for any number of channels.
        self._channels = None if bounds is None else _channels(bounds)
        self.name = name or type(module).__name__

    def __repr__(self) -> str:
        classes = f"{len(self.labels)} classes" if self.labels else "classes without names"
        return f"Classifier({self.name}, {classes}, {self.device})"

    @property
    def device(self) -> torch.device:
        """Where the module's first parameter or buffer is; the CPU if it has none."""
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            return tensor.device
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The type of the module's first floating-point parameter or buffer; torch's default if it has
        none."""
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype
        return torch.get_default_dtype()

    def to(self, device: str | torch.device) -> Classifier:
        """Moves the module itself, which is the caller's, to `device`, and returns this classifier."""
        self.module.to(device)
        return self

    def __call__(self, inputs: Tensor) -> Tensor:
        """The logits (B, classes) of a batch (B, C, H, W) that `prepare` gave."""
        return self.logits(answer_of(self.module, inputs))

    def logits(self, outputs: object) -> Tensor:
        """Picks the logits (B, classes) out of what the module returned, and counts them.

        Raises:
            ModelError: There are none, they have no class dimension, or their number differs from the
                labels'.
        """
        logits = logits_of(outputs)
        if logits.ndim < 2:
            raise ModelError(
                f"{self.name} returned logits of the shape {tuple(logits.shape)}, but (B, classes) was "
                "expected; wrap the model in a module that adds the missing dimension."
            )
        if self.labels is None:
            self.labels = Labels.numbered(logits.shape[1])
        if len(self.labels) != logits.shape[1]:
            raise ModelError(
                f"{self.name} returned {logits.shape[1]} logits a picture, but has {len(self.labels)} "
                "labels; pass one label a class."
            )
        return logits

    def index(self, label: int | str) -> int:
        """The index of the class that a name, synonym, WordNet id or index means; see `Labels.index`.

        Raises:
            InputError: No class or several match, or the index is out of range.
        """
        if self.labels is not None:
            return self.labels.index(label)
        if isinstance(label, str) and not label.strip().isdecimal():
            raise InputError(f"{self.name} has no class names to find '{label}' in; pass an index, or labels=[...].")
        index = int(label) if isinstance(label, str) else class_index(label)
        if index < 0:
            raise InputError(f"there is no class {index}; the indices go from 0.")
        return index

    def label(self, index: int) -> str:
        """The display name of a class; "class 3" where there are no names."""
        return f"class {index}" if self.labels is None else self.labels[index]

    def prepare(
        self, source: Source | list[Source] | tuple[Source, ...], *, device: str | torch.device | None = None
    ) -> Tensor:
        """Turns pictures into a batch (B, C, H, W) on the module's device and of its dtype.

        Args:
            source: A picture (see `load_picture`), or a normalised tensor (C, H, W) or (B, C, H, W), which is
                only moved; or a list of pictures, or of tensors (C, H, W), that come to one size.
            device: Where the batch is put; None: where the module is.

        Raises:
            InputError: A picture cannot be read, or there is no preprocessing for it; a tensor is not
                floating point, not finite, or of the wrong shape; the list is empty, or its entries differ
                in size.
        """
        place = self.device if device is None else torch.device(device)
        if isinstance(source, (list, tuple)):
            batch = self._stacked(source, place)
        else:
            batch = self._tensor(source)
            batch = batch if batch.ndim == 4 else batch[None]
        return batch.to(device=place, dtype=self.dtype)

    def picture(self, inputs: Tensor) -> Tensor:
        """What the network saw: a batch (B, C, H, W) as a picture (B, 3, H, W) with values in [0, 1].

        With bounds this is (x − low) / (high − low), clamped; without, each image is stretched from its own
        minimum to its own maximum. Three channels are shown as red, green, blue; any other number as their
        mean, in grey.

        Raises:
            InputError: `inputs` is not (B, C, H, W), or has another number of channels than the bounds.
        """
        if inputs.ndim != 4:
            raise InputError(f"a batch is (B, C, H, W), but this has the shape {tuple(inputs.shape)}.")
        self._check_channels(inputs.shape[1])
        inputs = inputs.detach()
        if self.bounds is not None:
            low, high = (bound.to(inputs) for bound in self.bounds)
        else:
            low, high = inputs.amin((1, 2, 3), keepdim=True), inputs.amax((1, 2, 3), keepdim=True)
        smallest = torch.finfo(inputs.dtype).tiny  # a picture of one value is black, not NaN
        shown = ((inputs - low) / (high - low).clamp_min(smallest)).clamp(0, 1)
        return shown if shown.shape[1] == 3 else shown.mean(1, keepdim=True).expand(-1, 3, -1, -1)

    def _stacked(self, sources: Sequence[Source], device: torch.device) -> Tensor:
        if not sources:
            raise InputError("the list of pictures is empty; pass at least one.")
        tensors = [self._tensor(source) for source in sources]
        if any(tensor.ndim != 3 for tensor in tensors):
            raise InputError("a list may hold tensors (C, H, W) only; pass a batch (B, C, H, W) by itself.")
        shapes = list(dict.fromkeys(tuple(tensor.shape) for tensor in tensors))
        if len(shapes) > 1:
            raise InputError(
                f"after preprocessing the pictures differ in size, {shapes[0]} and {shapes[1]}; "
                "pass them one by one, or let the preprocessing crop them to one size."
            )
        return torch.stack([tensor.to(device) for tensor in tensors])

    def _tensor(self, source: Source) -> Tensor:
        tensor = source if isinstance(source, Tensor) else self._preprocessed(source)
        self._check(tensor)
        return tensor

    def _preprocessed(self, source: str | os.PathLike[str] | PIL.Image.Image | NDArray[np.generic]) -> Tensor:
        if self.preprocess is None:
            raise InputError(
                f"{self.name} has no preprocessing, so it takes no pictures; pass a normalised tensor "
                "(B, C, H, W), or give Classifier(..., preprocess=...) a function from a PIL picture to a "
                "tensor (C, H, W)."
            )
        tensor: object = self.preprocess(load_picture(source))
        if isinstance(tensor, Tensor) and tensor.ndim == 4 and tensor.shape[0] == 1:
            tensor = tensor[0]
        if not isinstance(tensor, Tensor) or tensor.ndim != 3:
            got = f"the shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
            raise InputError(f"preprocess must give a tensor (C, H, W), but it gave {got}.")
        return tensor

    def _check(self, tensor: Tensor) -> None:
        if not tensor.is_floating_point():
            raise InputError(
                f"the tensor is of type {tensor.dtype}, but a normalised floating-point one was expected; "
                "normalise it first, or pass a picture."
            )
        if tensor.ndim not in (3, 4) or not tensor.numel():
            raise InputError(
                f"the tensor has the shape {tuple(tensor.shape)}, but (C, H, W) or (B, C, H, W) was expected."
            )
        self._check_channels(tensor.shape[-3])
        broken = int((~tensor.detach().isfinite()).sum())
        if broken:
            raise InputError(f"the tensor has {broken} values that are NaN or infinite; pass finite values.")
        self._check_normalised(tensor.detach())

    def _check_channels(self, channels: int) -> None:
        if self._channels is not None and channels != self._channels:
            raise InputError(f"{self.name} takes {self._channels} channels, but the tensor has {channels}.")

    def _check_normalised(self, tensor: Tensor) -> None:
        if self.bounds is None:
            return
        low, high = float(self.bounds[0].amin()), float(self.bounds[1].amax())
        margin = _FAR_OUTSIDE * (high - low)
        least, most = tensor.aminmax()
        if least < low - margin or most > high + margin:
            raise InputError(
                f"the tensor has values from {float(least):.4g} to {float(most):.4g}, but {self.name} takes "
                f"pixels normalised to between {low:.4g} and {high:.4g}; normalise it, or pass a picture."
            )


def pixel_bounds(preprocess: Preprocess) -> tuple[Tensor, Tensor]:
    """The lowest and highest value (1, C, 1, 1) of a normalised pixel: what becomes of black and of white.

    Holds for preprocessing that treats each pixel value alike and monotonically, as resizing, cropping,
    scaling and normalising do.

    Raises:
        ModelError: Black and white do not come to two finite tensors (C, H, W) that differ in every channel.
    """
    black, white = (_centre(preprocess(PIL.Image.new("RGB", (256, 256), colour))) for colour in ("black", "white"))
    low, high = torch.minimum(black, white), torch.maximum(black, white)
    if not (low < high).all() or not low.isfinite().all() or not high.isfinite().all():
        raise ModelError("the bounds of a pixel cannot be told from the preprocessing; pass bounds=(low, high).")
    return low.reshape(1, -1, 1, 1), high.reshape(1, -1, 1, 1)


def _centre(image: object) -> Tensor:
    """The middle pixel, which no padding has touched."""
    if not isinstance(image, Tensor) or image.ndim not in (3, 4):
        raise ModelError(f"preprocess must give a tensor (C, H, W), but it gave a {type(image).__name__}.")
    return image.detach().float().cpu()[..., image.shape[-2] // 2, image.shape[-1] // 2].flatten()


def _as_bounds(bounds: object) -> tuple[Tensor, Tensor]:
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise InputError("bounds are a pair (low, high) of numbers, or of sequences with one number a channel.")
    try:
        low, high = (_as_bound(bound) for bound in bounds)
        every_channel = torch.zeros_like(low + high)
        low, high = low + every_channel, high + every_channel
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "bounds are a pair (low, high) of numbers, or of sequences with one number a channel, but these are "
            f"a {type(bounds[0]).__name__} and a {type(bounds[1]).__name__} of other shapes or kinds."
        ) from error
    if not (low.isfinite().all() and high.isfinite().all() and (low < high).all()):
        raise InputError("every low bound must be under its high bound, and both finite.")
    return low, high


def _as_bound(bound: Bound) -> Tensor:
    tensor = torch.as_tensor(bound).detach().cpu()
    tensor = tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
    if tensor.ndim > 1 and tensor.numel() != max(tensor.shape):
        raise ValueError("more than one value a channel")
    return tensor.reshape(1, -1, 1, 1)


def _channels(bounds: tuple[Bound, Bound]) -> int | None:
    """How many channels the bounds are for; None where both are plain numbers, which suit any."""
    tensors = [torch.as_tensor(bound) for bound in bounds]
    return max((tensor.numel() for tensor in tensors if tensor.ndim), default=None)

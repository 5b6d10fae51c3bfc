"""What a read-out is trained and tested on: maps of a network's layers, and the labels of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.shape_texture.encoders import copy_of
from visavis.shape_texture.features import (
    activations,
    concatenated,
    kept_units,
    layers_of,
    maps,
    maps_of,
)
from visavis.shape_texture.images import Prepare, whole_images
from visavis.shape_texture.options import Progress
from visavis.shape_texture.overlap import check_labels
from visavis.shape_texture.readout_head import Standardised
from visavis.shape_texture.segmented import VOID, Segmented
from visavis.units.layer import Layer

Task = Literal["binary", "semantic"]
#: Units of layers that are read, by the path of the layer.
Keep = Mapping[str, Sequence[int] | Tensor]
# A unit that varies by less than this share of its mean is constant.
_CONSTANT = 1e-10


class Encoder:
    """Maps of several layers, of the units that are read, side by side."""

    def __init__(
        self,
        model: nn.Module | Classifier,
        layers: str | Layer | Sequence[str | Layer],
        keep: Keep | None,
        prepare: Prepare | None,
        trained: bool,
    ) -> None:
        module, self.layers = layers_of(model, layers)
        self._prepare = whole_images(model) if prepare is None else prepare
        self._keep = _checked_units(keep or {})
        self.trained = trained
        self.module = copy_of(module) if trained else module
        if trained:
            for one in self.module.parameters():
                one.requires_grad_(one.is_floating_point())

    def frozen(self, images: Tensor) -> Tensor:
        """Return maps (B, N, h, w) in eval mode, without gradients; float32, or float64."""
        with torch.no_grad():
            return self._joined(maps_of(self.module, self.layers, self._prepare(images)))

    def learning(self, images: Tensor) -> Tensor:
        """Return maps (B, N, h, w) in the mode the module is in, with gradients."""
        return self._joined(maps(activations(self.module, self.layers, self._prepare(images))))

    def _joined(self, units: dict[str, Tensor]) -> Tensor:
        joined = concatenated(list(kept_units(units, self._keep).values()))
        return joined if joined.dtype == torch.float64 else joined.float()


class Examples:
    """Images and labels of a data set, checked, by the task."""

    def __init__(self, data: Segmented, task: Task) -> None:
        self.data, self._task = data, task
        self._size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W) and labels (B, H, W), int64."""
        items = [self._item(index) for index in indices]
        return torch.stack([image for image, _ in items]), torch.stack([labels for _, labels in items])

    def batches(self, size: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield all in order, each batch with how many come before its end."""
        for start in range(0, len(self), size):
            end = min(start + size, len(self))
            yield end, *self.batch(range(start, end))

    def _item(self, index: int) -> tuple[Tensor, Tensor]:
        image, labels = self.data[index]
        where = f"image {index} of {self.data.name}"
        if (
            image.dim() != 3
            or not image.is_floating_point()
            or labels.is_floating_point()
            or labels.shape != image.shape[1:]
        ):
            raise InputError(
                f"{where} is {image.dtype} {tuple(image.shape)} with labels {tuple(labels.shape)}, but (3, H, W) in "
                "[0, 1] with labels (H, W) was expected"
            )
        size = (int(labels.shape[0]), int(labels.shape[1]))
        self._size = self._size or size
        if size != self._size:
            raise InputError(
                f"{where} has {size[0]} x {size[1]} pixels, but image 0 or another before it {self._size[0]} x "
                f"{self._size[1]}; bring all to one size"
            )
        check_labels(labels, self.data.classes)
        if self._task == "binary":
            labels = torch.where((labels != 0) & (labels != VOID), 1, labels)
        return image, labels.long()


@dataclass
class Stored:
    """What is known of the training images once all were seen.

    Attributes:
        examples: the images.
        maps, labels: of all, (M, N, h, w), and (M, H, W), uint8; None where they are computed anew.
        units, device, dtype: of the maps.
        standard: standardises them; None where that is not asked for.
    """

    examples: Examples
    maps: Tensor | None
    labels: Tensor | None
    units: int
    device: torch.device
    dtype: torch.dtype
    standard: Standardised | None

    def batch(self, read: Encoder, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return maps and labels of some images, on the device of the maps."""
        if self.maps is not None and self.labels is not None:
            places = torch.as_tensor(indices, device=self.device)
            return self.maps[places], self.labels[places].long()
        images, labels = self.examples.batch(indices)
        return (read.learning(images) if read.trained else read.frozen(images)), labels.to(self.device)


def stored(
    read: Encoder,
    examples: Examples,
    classes: int,
    batch_size: int,
    memory: int,
    standardise: bool,
    progress: Progress | None,
) -> Stored:
    """See all training images once: count their classes, and keep maps if that is wanted and they fit."""
    first = read.frozen(examples.batch([0])[0])
    found = Stored(examples, None, None, first.shape[1], first.device, first.dtype, None)
    counts, moments = torch.zeros(classes, dtype=torch.int64), _Running()
    for end, images, labels in examples.batches(batch_size):
        counts += torch.bincount(labels[labels != VOID], minlength=classes)
        if end == len(images) and not read.trained:
            each = first[0].numel() * first.element_size() + labels[0].numel()
            if each * len(examples) <= memory:
                found.maps = first.new_empty(len(examples), *first.shape[1:])
                found.labels = torch.empty(len(examples), *labels.shape[1:], dtype=torch.uint8, device=first.device)
        if found.maps is not None or standardise:
            own = read.frozen(images)
            if standardise:
                moments.add(own)
            if found.maps is not None and found.labels is not None:
                found.maps[end - len(images) : end], found.labels[end - len(images) : end] = own, labels
        if progress is not None:
            progress(end, len(examples), "training images")
    if int((counts > 0).sum()) < 2:
        what = "are of one class" if int(counts.sum()) else "are void"
        raise InputError(f"all pixels of the training images ({examples.data.name}) {what}; a head learns from several")
    if standardise:
        mean, deviation = moments.values()
        if not bool((mean.isfinite() & deviation.isfinite()).all()):
            raise ModelError(
                f"the maps of {', '.join(repr(one.path) for one in read.layers)} hold NaN or infinity on training "
                "images, or numbers too large to be standardised; look at the model's weights "
                "and the range of its inputs"
            )
        found.standard = Standardised(mean, deviation)
    return found


class _Running:
    """Means and variances of each unit, added up batch by batch (Chan, Golub, LeVeque 1983)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = self._squares = torch.zeros(())

    def add(self, own: Tensor) -> None:
        values = own.double().transpose(0, 1).flatten(1)
        count, mean = values.shape[1], values.mean(1)
        total, apart = self._count + count, mean - self._mean.to(mean)
        self._squares = (
            self._squares.to(mean)
            + (values - mean[:, None]).square().sum(1)
            + apart.square() * (self._count * count / total)
        )
        self._mean = self._mean.to(mean) + apart * (count / total)
        self._count = total

    def values(self) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation of each unit; 0 where rounding is all there is."""
        deviation = (self._squares / self._count).sqrt()
        return self._mean, torch.where(deviation > _CONSTANT * self._mean.abs(), deviation, 0)


def _checked_units(keep: Keep) -> dict[str, Tensor]:
    found = {}
    for path, units in keep.items():
        chosen = torch.as_tensor(units).detach().cpu()
        if chosen.dim() != 1 or not len(chosen) or chosen.is_floating_point() or chosen.dtype is torch.bool:
            raise InputError(f"the units of layer {path!r} that are kept are {units}, but indices were expected")
        if len(set(chosen.tolist())) < len(chosen):
            raise InputError(f"a unit of layer {path!r} is kept twice; name each once")
        found[path] = chosen.long()
    return found


__all__ = ["Encoder", "Examples", "Keep", "Stored", "Task", "stored"]

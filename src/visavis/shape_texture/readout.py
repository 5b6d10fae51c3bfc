"""Read-outs: what the layers of a network say of shape and class at each pixel (Islam et al. 2021).

A small head is trained on a layer's maps to name what is at each pixel: object or background ("binary": the shape
alone), or the class ("semantic"). The network below stays as it is. How well the head does says what the layer holds.

Departures from the paper: images are not cropped, scaled and flipped at random, so that a frozen layer is computed
once; pixels that are void stay so in the binary task, where the released code makes foreground of them; and statistics
of a frozen network's batch norm stay, where the released code updates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.shape_texture.encoders import seeded
from visavis.shape_texture.features import resized
from visavis.shape_texture.images import Prepare
from visavis.shape_texture.options import Progress, check_draws, check_seed, is_whole
from visavis.shape_texture.overlap import confusion, ious, mean_iou, mean_iou_interval
from visavis.shape_texture.readout_data import Encoder, Examples, Keep, Stored, Task, stored
from visavis.shape_texture.readout_head import WIDTHS, Training, head_of
from visavis.shape_texture.segmented import BACKGROUND, VOID, Segmented
from visavis.units.layer import Layer

_OBJECT = "object"
#: Bytes of maps that are kept rather than computed again, 1 GiB.
MEMORY = 2**30
#: No head is trained at a higher rate.
MOST_RATE = 1e6


@dataclass(frozen=True, eq=False)
class Readout:
    """How well a head tells classes from layers, on test images, and the head itself.

    Attributes:
        layers: their paths.
        task: "binary" or "semantic".
        depth: how many convolutions the head has.
        units: how many units it reads.
        names: of the K classes.
        miou: mean IoU over the classes that occur in the truth or in what is predicted, 0 to 1.
        low, high: its 95 % interval, by bootstrap of the test images; NaN without draws, or where each draw is of void
            images alone.
        iou: of each class, (K,), float64; NaN for a class that occurs in neither.
        accuracy: the share of pixels that are right.
        confusions: of each test image, pixels of each class (rows) by what they are predicted as (columns), (M, K, K),
            int64; void pixels count nowhere.
        losses: of each step of training, (T,), float64; NaN of a batch in which all pixels are void.
        head: as trained, in eval mode: maps (B, N, h, w) → logits (B, K, h, w).
        encoder: the module whose layers it reads: the user's own, or the copy that was trained.
    """

    layers: tuple[str, ...]
    task: Task
    depth: int
    units: int
    names: tuple[str, ...]
    miou: float
    low: float
    high: float
    iou: Tensor
    accuracy: float
    confusions: Tensor
    losses: Tensor
    head: nn.Module
    encoder: nn.Module
    _read: Encoder = field(repr=False)

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" ({self.low:.3f} to {self.high:.3f})"
        return f"mIoU {self.miou:.3f}{interval} of {len(self.names)} classes by {self.units} units"

    @property
    def confusion(self) -> Tensor:
        """Pixels of each class by what they are predicted as, of all test images, (K, K)."""
        return self.confusions.sum(0)

    def predict(self, images: Tensor) -> Tensor:
        """Return label maps (B, H, W), int64 on the CPU, of images (B, 3, H, W) in [0, 1].

        Raises:
            InputError: they are no such images.
            ModelError: the model fails, or its layers hold NaN or infinity.
        """
        if images.dim() != 4 or not images.is_floating_point() or not images.numel():
            raise InputError(f"images (B, 3, H, W) in [0, 1] were expected, not {images.dtype} {tuple(images.shape)}")
        return _labelled(self.head, self._read, images, (images.shape[2], images.shape[3]), "these")


def readout(
    model: nn.Module | Classifier,
    layers: str | Layer | Sequence[str | Layer],
    train: Segmented,
    test: Segmented,
    *,
    task: Task = "semantic",
    depth: int = 1,
    keep: Keep | None = None,
    prepare: Prepare | None = None,
    standardise: bool = False,
    train_encoder: bool = False,
    epochs: int = 30,
    batch_size: int = 16,
    rate: float = 0.02,
    widths: tuple[int, int] = WIDTHS,
    seed: int = 0,
    draws: int = 1000,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Readout:
    """Train a head on layers of a network, and measure on test images what it tells of each pixel.

    Layers are read in eval mode: dropout is off, statistics of batch norm stay. The model is left as it was, its mode
    too. On a CPU the result is the same for a seed.

    Args:
        model: whose layers are read.
        layers: paths of modules, or `Layer`s. Several are read side by side, resized to the largest.
        train, test: images of one size each, with labels.
        task: "binary", whether a pixel is of any object, or "semantic", of which class. Void stays void.
        depth: 1 or 3 convolutions, as `head_of` describes.
        keep: of some layers, the only units that are read; the head is trained on these alone.
        prepare: makes inputs of images, and keeps each pixel where it is in the frame; None: the normalisation of a
            `Classifier` with preprocessing, without its cropping; of other models, the images as they are.
        standardise: bring each unit to mean 0 and standard deviation 1 over the training images first, as small
            networks need whose activations are far from 1. The paper does not.
        train_encoder: train a copy of the network too, all of it, in training mode, at a tenth of the rate; the paper's
            "end-to-end". The model itself is left as it is.
        epochs: how often each training image is seen. The last batch of an epoch is left out if it is not full.
        batch_size: images in a step.
        rate: of the head, at first, above 0 and at most 10⁶; the paper's is for ImageNet's networks.
        widths: of the inner maps of depth 3.
        seed: of the head, of the order of images, and of the bootstrap.
        draws: of the bootstrap of test images; 0: no interval.
        memory: bytes of maps of training images, with their labels, that may be kept where the model is; if they take
            more, they are computed in each epoch.
        progress: is told how much is done, of how much, and of what.

    Raises:
        InputError: an option is not as described; there is no such layer or unit, or it has no maps; images are not of
            one size; all pixels are void, or those of the training images are of one class.
        ModelError: the model fails, cannot be copied, its layers hold NaN or infinity, or training diverges.
    """
    _check_options(task, epochs, batch_size, rate, draws, memory)
    check_seed(seed)
    if standardise and train_encoder:
        raise InputError(
            "units of an encoder that is trained change, so that they cannot be standardised; leave it out"
        )
    names = _names_of(train, test, task)
    read = Encoder(model, layers, keep, prepare, train_encoder)
    learnt, tested = Examples(train, task), Examples(test, task)
    with torch.inference_mode(False), torch.enable_grad():
        known = stored(read, learnt, len(names), batch_size, memory, standardise, progress)
        head: nn.Module = head_of(depth, known.units, len(names), widths=widths, seed=seed)
        if known.standard is not None:
            head = nn.Sequential(known.standard, *head.children())
        head = head.to(known.device, known.dtype)
        with seeded(read.module, seed):
            losses = _trained(head, read, known, epochs, batch_size, rate, seed, progress)
        head.eval()
        if train_encoder:
            read.module.eval()
        confusions = _confusions(head, read, tested, len(names), batch_size, progress)
    total = confusions.sum(0)
    if not int(total.sum()):
        raise InputError(f"all pixels of the test images ({test.name}) are void; give images with labels")
    low, high = mean_iou_interval(confusions, draws=draws, seed=seed) if draws else (float("nan"), float("nan"))
    return Readout(
        tuple(one.path for one in read.layers),
        task,
        depth,
        known.units,
        names,
        float(mean_iou(total)),
        low,
        high,
        ious(total),
        float(total.diagonal().sum().double() / total.sum()),
        confusions,
        losses,
        head,
        read.module,
        read,
    )


def _trained(
    head: nn.Module,
    read: Encoder,
    known: Stored,
    epochs: int,
    batch_size: int,
    rate: float,
    seed: int,
    progress: Progress | None,
) -> Tensor:
    """Train the head, and the encoder if that is wanted; return the losses, (T,)."""
    images = len(known.examples)
    size = min(batch_size, images)
    steps = epochs * (images // size)
    if read.trained:
        read.module.train()
    unsound = _unsound(head, read)
    training = Training(head, read.module.parameters() if read.trained else [], rate=rate, steps=steps)
    order, losses = np.random.default_rng(seed), []
    for _ in range(epochs):
        chosen = order.permutation(images)
        for start in range(0, images - size + 1, size):
            own, labels = known.batch(read, chosen[start : start + size].tolist())
            losses.append(training.step(own, labels))
            if (np.isnan(losses[-1]) and bool((labels != VOID).any())) or np.isinf(losses[-1]):
                # An encoder that is trained has made its maps itself from the second step on.
                if not (read.trained and len(losses) > 1):
                    _check_maps(own, read, "training")
                raise ModelError(
                    f"training diverged: the loss is {losses[-1]} at step {len(losses)} of {steps}; "
                    f"take a lower rate than {rate:g}{_or_standardise(read)}"
                )
            if progress is not None:
                progress(len(losses), steps, "steps of training")
    broken = [name for name in _unsound(head, read) if name not in unsound]
    if broken:
        raise ModelError(
            f"training diverged: after the last of {steps} steps {broken[0]} holds NaN or infinity; "
            f"take a lower rate than {rate:g}{_or_standardise(read)}"
        )
    return torch.tensor(losses, dtype=torch.float64)


def _confusions(
    head: nn.Module, read: Encoder, examples: Examples, classes: int, batch_size: int, progress: Progress | None
) -> Tensor:
    """Return the confusion matrix of each image, (M, K, K), on the CPU."""
    parts = []
    for end, images, labels in examples.batches(batch_size):
        predicted = _labelled(head, read, images, (labels.shape[1], labels.shape[2]), "test")
        parts.append(confusion(predicted, labels, classes))
        if progress is not None:
            progress(end, len(examples), "test images")
    return torch.cat(parts)


def _labelled(head: nn.Module, read: Encoder, images: Tensor, size: tuple[int, int], what: str) -> Tensor:
    """Return the classes of pixels of images (B, 3, H, W) by the head, (B, h, w) of that size, on the CPU."""
    own = read.frozen(images)
    with torch.no_grad():
        logits = resized(head(own), size)
    if not bool(logits.isfinite().all()):
        _check_maps(own, read, what)
        raise ModelError(
            "training diverged: of finite maps the head makes logits that are NaN or infinite; take a lower "
            f"rate{_or_standardise(read)}"
        )
    return logits.argmax(1).cpu()


def _or_standardise(read: Encoder) -> str:
    return "" if read.trained else ", or standardise=True"


def _check_maps(own: Tensor, read: Encoder, what: str) -> None:
    if not bool(own.isfinite().all()):
        raise ModelError(
            f"the maps of {', '.join(repr(one.path) for one in read.layers)} hold NaN or infinity on {what} images; "
            "look at the model's weights and the range of its inputs"
        )


def _unsound(head: nn.Module, read: Encoder) -> list[str]:
    """Return what of the head and of the encoder, if it is trained, holds NaN or infinity."""
    parts = {"head": head, **({"encoder": read.module} if read.trained else {})}
    return [
        f"{value} of the {name}"
        for name, part in parts.items()
        for value, one in (*part.named_parameters(), *part.named_buffers())
        if one.is_floating_point() and not bool(one.isfinite().all())
    ]


def _names_of(train: Segmented, test: Segmented, task: Task) -> tuple[str, ...]:
    for data, what in ((train, "training"), (test, "test")):
        if not len(data):
            raise InputError(f"there are no {what} images in {data.name}")
        if data.classes < 2:
            raise InputError(
                f"{data.name} has {data.classes} class(es), but a background and at least one more were expected"
            )
    if task == "binary":
        return BACKGROUND, _OBJECT
    if train.names != test.names:
        raise InputError(
            f"training images have the classes {', '.join(train.names)}, but test images {', '.join(test.names)}"
        )
    return train.names


def _check_options(task: str, epochs: Any, batch_size: Any, rate: float, draws: Any, memory: int) -> None:
    if task not in ("binary", "semantic"):
        raise InputError(f"task is {task!r}, but 'binary' or 'semantic' was expected")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not is_whole(value) or value < 1:
            raise InputError(f"{name} is {value}, but a whole number from 1 was expected")
    if not 0 < rate <= MOST_RATE:
        raise InputError(f"rate is {rate}, but a number above 0, and at most {MOST_RATE:g}, was expected")
    if memory < 0:
        raise InputError(f"memory is {memory}, but at least 0 was expected")
    check_draws(draws)


__all__ = ["MEMORY", "MOST_RATE", "Readout", "readout"]

"""Labelled data as it comes: batches of inputs and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from visavis.errors import InputError

#: Batches of (inputs, labels), such as a DataLoader; or inputs and labels of all images.
Data = Iterable[Any] | tuple[Tensor, Tensor]

# Images in a batch where they come as one tensor.
BATCH = 32


def batches(data: Data, module: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches: inputs (B, ...) on the module's device, labels (B,), int64, on the CPU.

    Raises:
        InputError: a batch is no pair of inputs and as many labels, or there is none.
    """
    device = next((one.device for one in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    count = 0
    for batch in _parts(data):
        inputs, labels = _pair(batch)
        if not len(inputs):
            continue
        count += len(inputs)
        yield inputs.to(device), labels.to("cpu", torch.int64)
    if not count:
        raise InputError("there are no images in the data; give batches of (inputs, labels), such as a DataLoader")


def check_repeatable(data: Data, why: str) -> None:
    """Refuse data that can be gone through only once.

    Raises:
        InputError: they are an iterator.
    """
    if isinstance(data, Iterator):
        raise InputError(f"{why} goes through the data twice, which an iterator cannot; give a list or a DataLoader")


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels that the model has no class for.

    Raises:
        InputError: one is none of 0 … classes − 1.
    """
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise InputError(f"the label {int(wrong[0])} is none of the model's {classes} classes, 0 to {classes - 1}")


def _parts(data: Data) -> Iterator[Any]:
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(one, Tensor) for one in data):
        inputs, labels = _pair(data)
        yield from zip(torch.split(inputs, BATCH), torch.split(labels, BATCH), strict=True)
    else:
        yield from data


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, tuple | list) or len(batch) != 2 or not all(isinstance(one, Tensor) for one in batch):
        raise InputError(f"a batch is a pair of tensors (inputs, labels), not {type(batch).__name__}")
    inputs, labels = batch
    if labels.dim() != 1 or labels.is_floating_point() or labels.is_complex() or inputs.shape[:1] != labels.shape:
        raise InputError(
            f"labels are class indices (B,), one for each of the inputs (B, ...), not {labels.dtype} of shape "
            f"{tuple(labels.shape)} for inputs {tuple(inputs.shape)}"
        )
    return inputs, labels


__all__ = ["BATCH", "Data", "batches", "check_labels", "check_repeatable"]

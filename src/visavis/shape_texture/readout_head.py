"""The part of a read-out that is trained: one or three convolutions, and how the paper trains them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.errors import InputError
from visavis.shape_texture.encoders import seeded
from visavis.shape_texture.features import resized
from visavis.shape_texture.segmented import VOID

DEPTHS = (1, 3)
#: Maps between the three convolutions.
WIDTHS = (256, 128)
MOMENTUM = 0.9
DECAY = 5e-4
POWER = 0.9
_WINDOW = 3


class Standardised(nn.Module):
    """Maps less their mean, over their standard deviation, by channel; of a channel that is constant, 0.

    Args:
        mean, deviation: (N,).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(-1, 1, 1))
        self.register_buffer("deviation", torch.where(deviation > 0, deviation, 1).view(-1, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Return standardised maps (B, N, h, w)."""
        return (maps - self.mean) / self.deviation


def head_of(depth: int, units: int, classes: int, *, widths: tuple[int, int] = WIDTHS, seed: int = 0) -> nn.Sequential:
    """Return an untrained head: maps (B, N, h, w) → logits (B, K, h, w), in training mode, float32, on the CPU.

    Of depth 1 it is one 3 × 3 convolution N → K; of depth 3, two of 256 and of 128 maps, each with batch norm and ReLU,
    and one to K. All keep the size (padding 1).

    Args:
        depth: 1 or 3.
        units: N.
        classes: K.
        widths: of the inner maps of depth 3.
        seed: of the weights.

    Raises:
        InputError: no such depth, or a number is below 1.
    """
    if depth not in DEPTHS:
        raise InputError(f"depth is {depth}, but {' or '.join(map(str, DEPTHS))} was expected")
    if min(units, classes, *widths) < 1:
        raise InputError(f"units, classes and widths are at least 1, not {units}, {classes} and {widths}")
    sizes = [units, *(widths if depth > 1 else ()), classes]
    parts: list[nn.Module] = []
    with seeded(nn.Module(), seed):
        for place, (before, after) in enumerate(pairwise(sizes), 2):
            parts.append(nn.Conv2d(before, after, _WINDOW, padding=_WINDOW // 2, dtype=torch.float32))
            if place < len(sizes):
                parts += [nn.BatchNorm2d(after, dtype=torch.float32), nn.ReLU()]
    return nn.Sequential(*parts).cpu().train()


class Training:
    """Stochastic gradient descent with momentum, by the paper's schedule.

    The rate falls as (1 − t/T)^0.9; momentum is 0.9, weight decay 5·10⁻⁴.

    Args:
        head: what is trained.
        encoder: parameters that are trained with it, at a tenth of its rate.
        rate: the head's rate at first.
        steps: T.
    """

    def __init__(self, head: nn.Module, encoder: Iterable[nn.Parameter], *, rate: float, steps: int) -> None:
        self._head, self._steps, self._done = head, steps, 0
        self._rates = [rate, rate / 10]
        groups = [{"params": list(head.parameters())}, {"params": list(encoder)}]
        self._optimizer = torch.optim.SGD(
            [group for group in groups if group["params"]], lr=rate, momentum=MOMENTUM, weight_decay=DECAY
        )

    def step(self, maps: Tensor, labels: Tensor) -> float:
        """Take a step and return the loss, the mean cross entropy of pixels that are not void; NaN if all are.

        Args:
            maps: (B, N, h, w).
            labels: (B, H, W), int64; logits are resized to their size, bilinearly.
        """
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=False):
            group["lr"] = rate * (1 - self._done / self._steps) ** POWER
        self._done += 1
        known = int((labels != VOID).sum())
        if not known:
            return float("nan")
        self._optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self._head(maps), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return float(loss.detach())


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of logits (B, K, h, w), resized to the labels (B, H, W), over pixels not void."""
    size = int(labels.shape[1]), int(labels.shape[2])
    return F.cross_entropy(resized(logits, size), labels, ignore_index=VOID)


__all__ = ["DECAY", "DEPTHS", "MOMENTUM", "POWER", "WIDTHS", "Standardised", "Training", "head_of", "loss_of"]

"""How well label maps agree with the truth: confusion matrices, IoU, and intervals of their mean.

The intersection over union of a class is of all pixels of all images together (Everingham et al. 2010, PASCAL VOC).
mIoU is its mean over the classes that occur, in the truth or in what is predicted: of a class that occurs in neither,
nothing is known, and one that is predicted where it never is counts as 0. Void pixels count nowhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from visavis.errors import InputError
from visavis.evaluation.statistics import check_draws, percentile_interval, times_drawn
from visavis.shape_texture.segmented import VOID

# Numbers of a draw held at a time: 2²³ of 8 bytes are 64 MiB.
_AT_ONCE = 2**23


def confusion(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return how many pixels of each class of the truth (rows) are predicted as each (columns), (B, K, K), int64.

    Args:
        predicted: (B, H, W), of 0 to K − 1.
        truth: (B, H, W), of 0 to K − 1, or `VOID`, which counts nowhere.
        classes: K.

    Raises:
        InputError: the shapes differ, or a label is none of these.
    """
    if predicted.dim() != 3 or predicted.shape != truth.shape:
        raise InputError(
            f"label maps (B, H, W) of one shape were expected, not {tuple(predicted.shape)} and {tuple(truth.shape)}"
        )
    if classes < 1:
        raise InputError(f"there are {classes} classes, but at least one was expected")
    kept = truth != VOID
    check_labels(truth, classes)
    if bool(((predicted < 0) | (predicted >= classes))[kept].any()):
        raise InputError(f"a predicted label is none of the {classes} classes, 0 to {classes - 1}")
    image = torch.arange(len(truth), device=truth.device)[:, None, None].expand_as(truth)
    cells = (image * classes + truth.long()) * classes + predicted.long()
    return torch.bincount(cells[kept], minlength=len(truth) * classes**2).view(-1, classes, classes)


def check_labels(labels: Tensor, classes: int) -> None:
    """Refuse labels of pixels that are no class.

    Raises:
        InputError: one is neither 0 … classes − 1 nor `VOID`.
    """
    wrong = labels[((labels < 0) | (labels >= classes)) & (labels != VOID)]
    if len(wrong):
        raise InputError(f"the label {int(wrong[0])} is none of the {classes} classes, 0 to {classes - 1}, nor {VOID}")


def ious(counts: Tensor) -> Tensor:
    """Return the IoU of each class, (..., K), float64, 0 to 1, of confusion matrices (..., K, K); NaN where it is not.

    A class that occurs neither in the truth nor in what is predicted has none.
    """
    return _ious(*_parts(counts))


def mean_iou(counts: Tensor) -> Tensor:
    """Return the mean IoU over the classes that occur, (...), float64, of confusion matrices (..., K, K)."""
    return ious(counts).nanmean(-1)


def mean_iou_interval(counts: Tensor, *, draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean IoU, by percentile bootstrap of the images.

    Images are drawn with replacement, as many as there are; their confusion matrices are summed, and the mean IoU is
    computed anew. A draw of void images alone has no mean and is left out; where all are such, the ends are NaN.

    Args:
        counts: a confusion matrix of each image, (M, K, K).
        draws: how many samples.
        seed: of the draws.

    Raises:
        InputError: there are no images, no pixels but void, or no draws.
    """
    check_draws(draws)
    if counts.dim() != 3 or not len(counts) or not int(counts.sum()):
        raise InputError(
            f"confusion matrices of images (M, K, K) with pixels in them were expected, not {tuple(counts.shape)} with "
            f"{int(counts.sum())} pixels"
        )
    both, true, found = _parts(counts.cpu())
    images, generator = len(counts), np.random.default_rng(seed)
    step, drawn = max(1, _AT_ONCE // images), []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        times = torch.from_numpy(times_drawn(images, size, generator)).double()
        drawn.append(_ious(times @ both, times @ true, times @ found).nanmean(-1))
    means = torch.cat(drawn)
    known = means[~means.isnan()]
    if not len(known):
        return float("nan"), float("nan")
    low, high = percentile_interval(known.numpy())
    return float(low), float(high)


def _parts(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how many pixels are rightly of each class, truly, and as predicted, each (..., K), float64."""
    exact = counts.double()
    return exact.diagonal(dim1=-2, dim2=-1), exact.sum(-1), exact.sum(-2)


def _ious(both: Tensor, true: Tensor, found: Tensor) -> Tensor:
    union = true + found - both
    return torch.where(union > 0, both / union.clamp(min=1), torch.nan)


__all__ = ["check_labels", "confusion", "ious", "mean_iou", "mean_iou_interval"]

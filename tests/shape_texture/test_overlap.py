"""Confusion, IoU and its interval: by hand, against loops over pixels, and against drawing image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from visavis.errors import InputError
from visavis.shape_texture.overlap import confusion, ious, mean_iou, mean_iou_interval


def maps(images: int = 7, classes: int = 4) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(3)
    truth = torch.randint(classes, (images, 5, 6), generator=chance)
    predicted = torch.where(
        torch.rand(truth.shape, generator=chance) < 0.5, truth, torch.randint(classes, truth.shape, generator=chance)
    )
    truth[torch.rand(truth.shape, generator=chance) < 0.2] = 255
    return predicted, truth


def by_pixel(predicted: Tensor, truth: Tensor, classes: int) -> list[list[int]]:
    found = [[0] * classes for _ in range(classes)]
    for guess, right in zip(predicted.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if right != 255:
            found[right][guess] += 1
    return found


def plain_iou(predicted: Tensor, truth: Tensor, classes: int) -> list[float]:
    """By sets of pixels."""
    known = truth != 255
    found = []
    for k in range(classes):
        one, other = (predicted == k) & known, (truth == k) & known
        union = int((one | other).sum())
        found.append(int((one & other).sum()) / union if union else float("nan"))
    return found


def test_two_by_two_by_hand() -> None:
    truth = torch.tensor([[[0, 0], [1, 255]]])
    predicted = torch.tensor([[[0, 1], [1, 0]]])
    counts = confusion(predicted, truth, 3)
    assert counts.tolist() == [[[1, 1, 0], [0, 1, 0], [0, 0, 0]]]
    # Class 0: one pixel in both, two in either; class 1 as well; class 2 is nowhere.
    assert ious(counts[0]).tolist() == pytest.approx([0.5, 0.5, float("nan")], nan_ok=True)
    assert float(mean_iou(counts[0])) == 0.5


def test_a_class_that_is_predicted_and_never_there_counts_as_nothing() -> None:
    counts = confusion(torch.tensor([[[0, 2]]]), torch.tensor([[[0, 0]]]), 4)
    assert ious(counts[0]).tolist() == pytest.approx([0.5, float("nan"), 0, float("nan")], nan_ok=True)
    assert float(mean_iou(counts[0])) == 0.25


def test_what_is_predicted_at_void_pixels_counts_nowhere() -> None:
    predicted, truth = maps()
    other = torch.where(truth == 255, 99, predicted)
    assert torch.equal(confusion(other, truth, 4), confusion(predicted, truth, 4))


def test_against_a_loop_over_pixels() -> None:
    predicted, truth = maps()
    counts = confusion(predicted, truth, 4)
    assert counts.tolist() == [by_pixel(*one, 4) for one in zip(predicted, truth, strict=True)]
    assert ious(counts.sum(0)).tolist() == pytest.approx(plain_iou(predicted, truth, 4), rel=1e-12)
    assert float(mean_iou(counts.sum(0))) == pytest.approx(np.mean(plain_iou(predicted, truth, 4)), rel=1e-12)


def test_the_interval_is_that_of_images_drawn_one_by_one() -> None:
    predicted, truth = maps()
    truth[:5][truth[:5] == 3] = 255
    predicted[:5][predicted[:5] == 3] = 0
    low, high = mean_iou_interval(confusion(predicted, truth, 4), draws=60, seed=5)
    times = np.random.default_rng(5).multinomial(7, np.full(7, 1 / 7), size=60)
    drawn = []
    for counts in times:
        chosen = [image for image, count in enumerate(counts) for _ in range(count)]
        drawn.append(np.nanmean(plain_iou(predicted[chosen], truth[chosen], 4)))
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))), rel=1e-12)
    assert mean_iou_interval(confusion(predicted, truth, 4), draws=60, seed=6) != (low, high)


def test_draws_of_void_images_alone_are_left_out() -> None:
    predicted, truth = maps(2)
    truth[1] = 255
    counts = confusion(predicted, truth, 4)
    value = float(mean_iou(counts[0]))
    assert mean_iou_interval(counts, draws=40) == pytest.approx((value, value))


def test_draws_that_are_all_of_void_images_alone_have_no_interval() -> None:
    predicted, truth = maps(3)
    truth[1:] = 255
    counts = confusion(predicted, truth, 4)
    seed = next(
        seed
        for seed in range(100)
        if not np.random.default_rng(seed).multinomial(3, np.full(3, 1 / 3), size=2)[:, 0].any()
    )
    assert mean_iou_interval(counts, draws=2, seed=seed) == pytest.approx((float("nan"), float("nan")), nan_ok=True)
    value = float(mean_iou(counts[0]))
    assert mean_iou_interval(counts, draws=200, seed=seed) == pytest.approx((value, value))


def test_one_image_has_no_spread() -> None:
    predicted, truth = maps(1)
    counts = confusion(predicted, truth, 4)
    value = float(mean_iou(counts[0]))
    assert mean_iou_interval(counts, draws=9) == pytest.approx((value, value))


def test_draws_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = confusion(*maps(), 4)
    whole = mean_iou_interval(counts, draws=50)
    monkeypatch.setattr("visavis.shape_texture.overlap._AT_ONCE", 7 * 8)
    assert mean_iou_interval(counts, draws=50) == pytest.approx(whole, rel=1e-12)


def test_what_is_refused() -> None:
    predicted, truth = maps()
    with pytest.raises(InputError, match=r"label maps .* of one shape were expected"):
        confusion(predicted, truth[:, 1:], 4)
    with pytest.raises(InputError, match="there are 0 classes"):
        confusion(predicted, truth, 0)
    with pytest.raises(InputError, match="label 3 is none of the 3 classes"):
        confusion(predicted.clamp(max=2), truth, 3)
    with pytest.raises(InputError, match="label -1 is none"):
        confusion(predicted, torch.where(truth == 0, -1, truth), 4)
    with pytest.raises(InputError, match="a predicted label is none"):
        confusion(predicted - 1, truth, 4)
    counts = confusion(predicted, truth, 4)
    with pytest.raises(InputError, match="at least one draw"):
        mean_iou_interval(counts, draws=0)
    with pytest.raises(InputError, match="with 0 pixels"):
        mean_iou_interval(counts * 0)
    with pytest.raises(InputError, match="confusion matrices of images"):
        mean_iou_interval(counts[:0])

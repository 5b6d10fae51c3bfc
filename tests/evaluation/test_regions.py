"""Where a class is, in pixels: boxes by pixels' centres, margins by distances of scipy, the difficult set by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

import visavis as vv
from visavis.evaluation.regions import difficult, region, widened


def test_a_region_holds_the_pixels_whose_centre_is_in_a_box() -> None:
    boxes = torch.tensor([[1.5, 0.0, 3.0, 2.0], [0.0, 2.6, 1.51, 4.0]])
    expected = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0]]).bool()
    assert torch.equal(region(boxes, (4, 4)), expected)


def test_regions_of_random_boxes_equal_a_slow_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        start = torch.rand(3, 2, generator=generator) * 12 - 3
        boxes = torch.cat([start, start + 1 + 6 * torch.rand(3, 2, generator=generator)], 1)
        found = region(boxes, (7, 9))
        for row, column in itertools.product(range(7), range(9)):
            inside = [x0 <= column + 0.5 < x1 and y0 <= row + 0.5 < y1 for x0, y0, x1, y1 in boxes.tolist()]
            # A box of a pixel or more holds a centre on each axis, unless the border cuts it narrower.
            if any(inside):
                assert found[row, column]
            elif all(x0 >= 0 and y0 >= 0 and x1 <= 9 and y1 <= 7 for x0, y0, x1, y1 in boxes.tolist()):
                assert not found[row, column]


def test_a_region_ends_where_its_box_ends() -> None:
    # An exclusive end at a centre leaves the pixel out, a start at it takes it in.
    assert region(torch.tensor([[0.5, 0.5, 2.5, 1.5]]), (3, 4)).nonzero().tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("box", "places"),
    [
        ((3.6, 1.6, 4.3, 2.2), [[1, 3]]),
        ((3.6, 0.0, 4.3, 2.0), [[0, 3], [1, 3]]),
        ((-2.0, -2.0, 0.2, 0.2), [[0, 0]]),
        ((5.7, 3.9, 9.0, 9.0), [[3, 5]]),
        ((-3.0, 0.0, 0.0, 4.0), []),
        ((2.0, 1.0, 2.0, 3.0), []),
        ((6.0, 0.0, 9.0, 4.0), []),
        ((2.7, 1.0, 2.7, 3.0), []),
    ],
)
def test_narrow_boxes_hold_their_middle_and_boxes_outside_nothing(
    box: tuple[float, ...], places: list[list[int]]
) -> None:
    assert region(torch.tensor([box]), (4, 6)).nonzero().tolist() == places


def test_no_box_has_no_pixel() -> None:
    assert region(torch.zeros(0, 4), (3, 3)).sum() == 0


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        (torch.zeros(4), r"\(K, 4\), but have the shape \(4,\)"),
        (torch.zeros(1, 5), r"\(K, 4\), but have the shape \(1, 5\)"),
        (torch.tensor([[3.0, 0.0, 2.0, 1.0]]), r"not \[3.0, 0.0, 2.0, 1.0\]"),
        (torch.tensor([[0.0, 5.0, 2.0, 1.0]]), r"not \[0.0, 5.0, 2.0, 1.0\]"),
        (torch.tensor([[0.0, 0.0, math.nan, 1.0]]), "upper left"),
        (torch.tensor([[0.0, 0.0, math.inf, 1.0]]), "upper left"),
    ],
)
def test_malformed_boxes_are_refused(boxes: Tensor, said: str) -> None:
    with pytest.raises(vv.InputError, match=said):
        region(boxes, (4, 4))
    with pytest.raises(vv.InputError, match=said):
        difficult(boxes, [1], (4, 4))


@pytest.mark.parametrize("margin", [0, 1, 1.5, 2.9, 5, 13, 40])
def test_widened_regions_equal_a_distance_transform(margin: float) -> None:
    regions = torch.rand(6, 11, 17) < torch.tensor([1, 0.5, 0.03, 0.03, 0.01, 0])[:, None, None]
    for grown, here in zip(widened(regions, margin), regions, strict=True):
        distances = distance_transform_edt(~here.numpy()) if here.any() else np.full(here.shape, np.inf)
        assert torch.equal(grown, torch.from_numpy(distances <= margin))


@pytest.mark.parametrize("margin", [-1, math.nan, math.inf])
def test_a_margin_is_a_number_of_pixels(margin: float) -> None:
    with pytest.raises(vv.InputError, match="margin of a region"):
        widened(torch.zeros(1, 2, 2, dtype=torch.bool), margin)


@pytest.mark.parametrize(
    ("boxes", "others", "expected"),
    [
        ([[0, 0, 4, 5]], [1], True),  # 20 of 100 pixels
        ([[0, 0, 5, 5]], [1], False),  # a quarter is not less than a quarter
        ([[0, 0, 4.9, 5]], [1], True),
        ([[0, 0, 4, 5]], [], False),  # alone in the picture
        ([[0, 0, 4, 5], [5, 5, 8, 7]], [1], False),  # 26 in all
        ([[-6, -6, 4, 5]], [1], True),  # what is outside does not count
        ([[20, 20, 90, 90]], [1, 2], True),
    ],
)
def test_the_difficult_set(boxes: list[list[float]], others: list[int], expected: bool) -> None:
    assert difficult(torch.tensor(boxes, dtype=torch.float32), others, (10, 10)) is expected
    if expected:  # of a smaller picture it covers more
        assert not difficult(torch.tensor([[0.0, 0.0, 4.0, 5.0]]), others, (8, 10))

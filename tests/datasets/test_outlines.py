"""Masks from polygons and run lengths, against drawings by hand and computations of another kind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from visavis.datasets.outlines import polygon_mask, runs_mask, segmentation_mask, unpacked
from visavis.errors import InputError


def drawn(mask: np.ndarray) -> list[str]:
    return ["".join(".#"[int(value)] for value in row) for row in mask]


def packed(lengths: list[int]) -> str:
    """Run lengths as COCO's format packs them: in five bits a character, by divisions instead of shifts."""
    text = ""
    for place, length in enumerate(lengths):
        number = length - lengths[place - 2] if place > 2 else length
        while True:
            low, number = number % 32, number // 32
            done = (number, low >= 16) in ((0, False), (-1, True))
            text += chr(48 + low + 32 * (not done))
            if done:
                break
    return text


def run_lengths(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, pixel by pixel."""
    lengths, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            lengths.append(0)
            value = not value
        lengths[-1] += 1
    return lengths


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ([1, 1, 4, 1, 4, 3, 1, 3], [".....", ".###.", ".###.", "....."]),
        # From one half to the next: centres on the left and upper edges are in, on the right and lower out.
        ([0.5, 0.5, 3.5, 0.5, 3.5, 2.5, 0.5, 2.5], ["###..", "###..", ".....", "....."]),
        ([0.6, 0.6, 3.4, 0.6, 3.4, 2.4, 0.6, 2.4], [".....", ".##..", ".....", "....."]),
        ([0, 0, 4, 0, 0, 4], ["###..", "##...", "#....", "....."]),
        # Either way round.
        ([0, 4, 4, 0, 0, 0], ["###..", "##...", "#....", "....."]),
        # Beyond the picture on all sides.
        ([-9, -9, 9, -9, 9, 9, -9, 9], ["#####", "#####", "#####", "#####"]),
        ([-9, 1, 2, 1, 2, 99, -9, 99], [".....", "##...", "##...", "##..."]),
        ([7, 0, 9, 0, 9, 4, 7, 4], [".....", ".....", ".....", "....."]),
        # A bow tie, and a square run round twice, of which the inside is out.
        ([0, 0, 4, 4, 4, 0, 0, 4], ["...#.", "#.##.", "#.##.", "...#."]),
        ([0, 0, 2, 0, 2, 2, 0, 2] * 2, [".....", ".....", ".....", "....."]),
        ([1, 1, 3, 3], [".....", ".....", ".....", "....."]),
        ([], [".....", ".....", ".....", "....."]),
    ],
)
def test_polygons_drawn_by_hand(corners, expected):
    assert drawn(polygon_mask(corners, (5, 4))) == expected


def test_polygons_against_matplotlib():
    chance = np.random.default_rng(0)
    centres = np.array([(x + 0.5, y + 0.5) for y in range(30) for x in range(40)])
    for _ in range(30):
        angles = np.sort(chance.uniform(0, 2 * np.pi, chance.integers(3, 12)))
        radii = chance.uniform(2, 18, len(angles))
        corners = np.stack([20 + radii * np.cos(angles), 15 + radii * np.sin(angles)], 1)
        expected = Outline(np.concatenate([corners, corners[:1]])).contains_points(centres).reshape(30, 40)
        np.testing.assert_array_equal(polygon_mask(corners.ravel().tolist(), (40, 30)), expected)


def test_polygons_that_share_an_edge_share_no_pixel():
    chance = np.random.default_rng(1)
    for _ in range(30):
        # On whole and half coordinates, where edges pass through centres.
        (x0, y0), (x1, y1) = (chance.integers(0, 40, (2, 2)) / 2).tolist()
        one = polygon_mask([0, 0, 20, 0, x0, y0, x1, y1, 0, 20], (20, 20)).astype(int)
        other = polygon_mask([20, 0, 20, 20, 0, 20, x1, y1, x0, y0], (20, 20)).astype(int)
        # Parity is additive, also where the two cross.
        assert ((one + other) % 2 == 1).all()


def test_several_polygons_are_united():
    segmentation = [[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 3, 1, 3, 3, 1, 3]]
    assert drawn(segmentation_mask(segmentation, (4, 3))) == ["##..", "###.", ".##."]


def test_runs_go_down_the_columns():
    assert drawn(runs_mask([1, 3, 2], (3, 2))) == [".#.", "##."]
    assert drawn(runs_mask([0, 4], (2, 2))) == ["##", "##"]
    assert drawn(segmentation_mask({"size": [2, 3], "counts": [1, 3, 2]}, (3, 2))) == [".#.", "##."]


def test_packed_runs_decoded_by_hand():
    """6, 1 and 40 = 8 + 32 · 1 as they are; then what to add to the run before the last: 3, −35 = 29 + 30 · 32 − 1024,
    and so on."""
    assert unpacked("61X13mN000`0") == [6, 1, 40, 4, 5, 4, 5, 4, 21]
    mask = segmentation_mask({"size": [9, 10], "counts": "61X13mN000`0"}, (10, 9))
    assert mask.sum() == 1 + 4 + 4 + 4
    assert mask[6, 0]
    assert np.flatnonzero(mask.T.ravel())[1:5].tolist() == [47, 48, 49, 50]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_what_is_packed_is_unpacked(seed, width, height, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    lengths = run_lengths(mask)
    assert unpacked(packed(lengths)) == lengths
    np.testing.assert_array_equal(runs_mask(lengths, (width, height)), mask)
    np.testing.assert_array_equal(
        segmentation_mask({"size": [height, width], "counts": packed(lengths)}, (width, height)), mask
    )


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 2]], "an even number of finite coordinates, not 3"),
        ([[0, 0, float("inf"), 1]], "an even number of finite coordinates"),
        ([[0, 0, "2", 1]], "a list of numbers, which this is not"),
        ([{"x": 1}], "a list of numbers, which this is not"),
        ([0, 0, 2, 2, 0, 2], "a list of numbers, which this is not"),
        ([[0, 0, 10**400, 1]], "one has 401 digits"),
        ("61X1", "this is neither"),
        ({"counts": [6]}, "this is neither"),
        ({"size": [3, 2], "counts": [6]}, r"has the size \[3, 2\], but its picture has the height and width \[2, 3\]"),
        ({"size": [2, 3], "counts": [5]}, "add up to 3 x 2 pixels, which these do not"),
        ({"size": [2, 3], "counts": [3, -1, 4]}, "are from 0 and add up"),
        ({"size": [2, 3], "counts": [2**62, 2**62, 2**62, 2**62, 6]}, "add up"),
        ({"size": [2, 3], "counts": [2**70]}, "one has 22 digits"),
        ({"size": [2, 3], "counts": [5.5, 0.5]}, "a list of whole numbers, which this is not"),
        ({"size": [2, 3], "counts": "6\n"}, "a character or number out of range"),
        ({"size": [2, 3], "counts": "ooooooooooooooo"}, "a character or number out of range"),
        ({"size": [2, 3], "counts": "6X"}, "end in the middle of a number"),
    ],
)
def test_what_is_malformed_is_refused(segmentation, message):
    with pytest.raises(InputError, match=message):
        segmentation_mask(segmentation, (3, 2))


def test_a_mask_that_no_memory_holds_is_refused():
    with pytest.raises(InputError, match="larger than any picture"):
        segmentation_mask([[0, 0, 1, 1]], (10**6, 10**6))

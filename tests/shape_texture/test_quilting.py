"""Quilting against slow loops, and what it leaves alone."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from visavis.errors import InputError
from visavis.shape_texture.quilting import (
    Quilting,
    _blurred_within,
    _cuts,
    _Errors,
    _patches,
    _ranked,
    _shaded,
    texture_transfer,
)

LUMA = np.array([0.2126, 0.7152, 0.0722])


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    image = gaussian_filter(noise(height, width, 3, seed=seed), (3, 3, 0))
    return (image - image.min()) / np.ptp(image)


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_errors_are_the_sums_of_squares_where_pixels_count() -> None:
    patches, wanted, counts = noise(7, 6, 6, 3), noise(4, 6, 6, 3, seed=1), noise(4, 6, 6, seed=2) > 0.4
    slow = np.zeros((4, 7))
    for b, c, y, x, channel in product(range(4), range(7), range(6), range(6), range(3)):
        if counts[b, y, x]:
            slow[b, c] += (patches[c, y, x, channel] - wanted[b, y, x, channel]) ** 2
    assert_allclose(_Errors(patches.astype(np.float32))(wanted.astype(np.float32), counts), slow, rtol=1e-5)


def test_a_cut_is_the_cheapest_of_all_paths() -> None:
    apart = noise(5, 6, 3, seed=3)
    paths = [path for path in product(range(3), repeat=6) if all(abs(a - b) <= 1 for a, b in pairwise(path))]
    for costs, found in zip(apart, _cuts(apart.astype(np.float32)), strict=True):
        cheapest = min(paths, key=lambda path: sum(costs[row, column] for row, column in enumerate(path)))
        assert tuple(found) == cheapest


def test_ranks_are_shares_and_ties_share_theirs() -> None:
    values = np.random.default_rng(4).integers(0, 5, (6, 7)).astype(np.float32)
    assert_allclose(_ranked(values), ((rankdata(values) - 0.5) / values.size).reshape(6, 7), rtol=1e-6)


def test_lights_go_from_black_to_white() -> None:
    texture = noise(4, 4, 3).astype(np.float32)
    lights = _shaded(texture, 0.6)
    assert_allclose(lights[0], texture * 0.4, rtol=1e-5)
    assert_array_equal(lights[3], texture)
    assert_allclose(1 - lights[-1], (1 - texture) * 0.4, rtol=1e-5)
    assert len(_shaded(texture, 0.0)) == 1


def test_patches_are_cut_from_the_texture_each_place_once() -> None:
    texture = noise(1, 14, 13, 3).astype(np.float32)
    patches, light = _patches(texture, 6, 10_000, np.random.default_rng(0))
    places = [(y, x) for y in range(9) for x in range(8)]
    assert len(patches) == len(places)
    expected = {texture[0, y : y + 6, x : x + 6].tobytes() for y, x in places}
    assert {patch.tobytes() for patch in patches} == expected
    ranks = (rankdata(gaussian_filter(texture[0] @ LUMA.astype(np.float32), 0.75, mode="nearest")) - 0.5) / (14 * 13)
    by_patch = {texture[0, y : y + 6, x : x + 6].tobytes(): (y, x) for y, x in places}
    for patch, lit in zip(patches, light, strict=True):
        y, x = by_patch[patch.tobytes()]
        assert_allclose(lit, ranks.reshape(14, 13)[y : y + 6, x : x + 6], atol=1e-6)
    assert len(_patches(texture, 6, 20, np.random.default_rng(0))[0]) == 20


# -- the whole ---------------------------------------------------------------------------------------------------------


def slow_transfer(
    content: np.ndarray, patches: np.ndarray, light: np.ndarray, alpha: float, mask: np.ndarray
) -> np.ndarray:
    """Lay blocks in reading order, one by one, in float64."""
    height, width = mask.shape
    block = patches.shape[1]
    overlap = block // 3
    step = block - overlap
    blurred = slow_blur(content @ LUMA, mask, block / 8)
    wanted = np.zeros((height + block, width + block))
    wanted[:height, :width][mask] = (rankdata(blurred[mask]) - 0.5) / mask.sum()
    counts = np.pad(mask, ((0, block), (0, block)))
    laid, done = np.zeros((*wanted.shape, 3)), np.zeros(wanted.shape, dtype=bool)
    for top in range(0, height - overlap, step):
        for left in range(0, width - overlap, step):
            here = np.s_[top : top + block, left : left + block]
            if not counts[here].any():
                continue
            errors = [
                (1 - alpha) * np.square(lit - wanted[here])[counts[here]].sum()
                + alpha * np.square(patch - laid[here])[done[here]].sum() / 3
                for patch, lit in zip(patches, light, strict=True)
            ]
            patch = patches[int(np.argmin(errors))]
            apart = np.square(patch - laid[here]).sum(2)
            over = np.ones((block, block), dtype=bool)
            if done[here][overlap, 0]:
                over[:, :overlap] &= np.arange(overlap) >= slow_cut(apart[:, :overlap])[:, None]
            if done[here][0, overlap]:
                over[:overlap] &= np.arange(overlap)[:, None] >= slow_cut(apart[:overlap].T)
            laid[here] = np.where((over | ~done[here])[..., None], patch, laid[here])
            done[here] = True
    return np.where(mask[..., None], laid[:height, :width], content)


def slow_blur(light: np.ndarray, mask: np.ndarray, deviation: float) -> np.ndarray:
    """Return Gaussian means over the pixels of a mask, pixel by pixel; beyond the image its edge goes on."""
    reach = int(4 * deviation + 0.5)
    offsets = np.arange(-reach, reach + 1)
    bell = np.exp(-(offsets**2) / (2 * deviation**2))
    weights = np.outer(bell, bell)
    light, mask = np.pad(light, reach, mode="edge"), np.pad(mask, reach, mode="edge")
    blurred = np.zeros((light.shape[0] - 2 * reach, light.shape[1] - 2 * reach))
    for y, x in np.ndindex(*blurred.shape):
        here = np.s_[y : y + len(offsets), x : x + len(offsets)]
        if mask[y + reach, x + reach]:
            blurred[y, x] = np.average(light[here][mask[here]], weights=weights[mask[here]])
    return blurred


def slow_cut(apart: np.ndarray) -> np.ndarray:
    """Return the cheapest path from top to bottom, by recursion over rows."""
    best = {(column,): cost for column, cost in enumerate(apart[0])}
    for row in apart[1:]:
        onwards: dict[int, tuple[float, tuple[int, ...]]] = {}
        for path, cost in best.items():
            for column in range(max(0, path[-1] - 1), min(len(row), path[-1] + 2)):
                onwards[column] = min(onwards.get(column, (np.inf, ())), (cost + row[column], (*path, column)))
        best = {path: cost for cost, path in onwards.values()}
    return np.array(min(best, key=best.__getitem__))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("masked", [False, True])
def test_an_image_is_that_of_the_slow_loop_in_reading_order(alpha: float, masked: bool) -> None:
    content, texture = smooth(37, 41), noise(30, 28, 3, seed=5)
    mask = np.ones((37, 41), dtype=bool)
    if masked:
        y, x = np.mgrid[:37, :41]
        mask = (y - 20) ** 2 + (x - 22) ** 2 < 140
    found = texture_transfer(content, texture, mask=mask, block=9, alpha=alpha, candidates=60, seed=3)
    patches, light = _patches(_shaded(texture.astype(np.float32), 0.6), 9, 60, np.random.default_rng(3))
    expected = slow_transfer(content, patches.astype(np.float64), light.astype(np.float64), alpha, mask)
    assert_allclose(found, expected, atol=1e-6)


def test_a_texture_of_its_own_is_laid_as_it_is() -> None:
    """All patches of the content are there, and its own light is nearest to itself."""
    image = smooth(28, 28)
    found = texture_transfer(image, image, block=12, alpha=0.0, shading=0.0, candidates=10_000)
    assert_allclose(found, image, atol=1e-6)


def test_luminance_alone_makes_dark_of_dark() -> None:
    """Of a texture with a dark and a light half: whatever the content's own range."""
    texture = np.full((40, 80, 3), 0.2)
    texture[:, 40:] = 0.7
    content = np.full((32, 32, 3), 0.50)
    content[:, 16:] = 0.52
    found = texture_transfer(content, texture, block=8, alpha=0.0, shading=0.0, candidates=10_000)
    assert_allclose(found[:, :14], 0.2, atol=1e-6)
    assert_allclose(found[:, 18:], 0.7, atol=1e-6)


def test_the_overlap_alone_knows_nothing_of_the_image() -> None:
    texture = noise(30, 30, 3)
    one, other = (texture_transfer(smooth(30, 30, seed), texture, block=9, alpha=1.0) for seed in (1, 2))
    assert_array_equal(one, other)
    assert not np.array_equal(one, texture_transfer(smooth(30, 30, 1), texture, block=9, alpha=0.9))


def test_the_rest_of_a_masked_image_stays_bit_for_bit() -> None:
    content, texture = smooth(40, 40).astype(np.float32), noise(30, 30, 3)
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:25, 5:30] = True
    found = texture_transfer(content, texture, mask=mask, block=9)
    assert_array_equal(found[~mask], content[~mask])
    assert (found[mask] != content[mask]).any(1).mean() > 0.99


def outsides(content: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """Return an image with its own ground, black, white, noise, and turned around outside of a mask."""
    others = (content, np.zeros_like(content), np.ones_like(content), noise(*content.shape, seed=9), 1 - content)
    return [np.where(mask[..., None], content, other) for other in others]


@pytest.mark.parametrize("block", [6, 9, 20])
def test_what_is_outside_of_a_mask_changes_nothing_in_it(block: int) -> None:
    content, texture = smooth(48, 48), noise(40, 40, 3)
    y, x = np.mgrid[:48, :48]
    mask = ((y - 20) ** 2 + (x - 24) ** 2 < 200) | (abs(x - 30) < 2)
    first, *rest = (texture_transfer(image, texture, mask=mask, block=block) for image in outsides(content, mask))
    for other in rest:
        assert_array_equal(first[mask], other[mask])


def test_light_is_blurred_within_the_mask() -> None:
    image, mask = noise(20, 23, 3).astype(np.float32), noise(20, 23, seed=1) > 0.5
    mask[:, :4] = True
    expected = slow_blur(image.astype(np.float64) @ LUMA, mask, 9 / 8)
    assert_allclose(_blurred_within(image, mask, 9), expected, atol=1e-6)
    assert_allclose(
        _blurred_within(image, np.ones_like(mask), 9), gaussian_filter(image @ LUMA, 9 / 8, mode="nearest"), atol=1e-6
    )


def test_an_object_of_one_light_is_of_one_light_up_to_its_edge() -> None:
    mask = noise(30, 30) > 0.3
    image = np.full((30, 30, 3), 0.3, dtype=np.float32)
    assert len(np.unique(_blurred_within(image, mask, 9)[mask])) == 1


OPTIONS = {"block": 12, "alpha": 0.7, "shading": 0.1, "candidates": 30, "seed": 1}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_bites_and_results_are_the_same_again(option: str) -> None:
    content, texture = torch.from_numpy(smooth(36, 36)).permute(2, 0, 1), torch.from_numpy(noise(3, 40, 40))
    plain = Quilting(block=9, candidates=80)(content, texture, None)
    assert plain.shape == (3, 36, 36)
    assert torch.equal(plain, Quilting(block=9, candidates=80)(content, texture, None))
    other = Quilting(**{"block": 9, "candidates": 80, option: OPTIONS[option]})(content, texture, None)
    assert not torch.equal(plain, other)


def test_tensors_are_as_arrays() -> None:
    content, texture, mask = smooth(30, 33), noise(30, 30, 3), np.ones((30, 33), dtype=bool)
    mask[:9] = False
    laid = Quilting(block=9)(
        torch.from_numpy(content).permute(2, 0, 1), torch.from_numpy(texture).permute(2, 0, 1), torch.from_numpy(mask)
    )
    assert_array_equal(laid.permute(1, 2, 0).numpy(), texture_transfer(content, texture, mask=mask, block=9))


def test_what_is_refused() -> None:
    content, texture = smooth(30, 30), noise(30, 30, 3)
    with pytest.raises(InputError, match="a block is 6 to 128 px wide, not 5"):
        Quilting(block=5)
    with pytest.raises(InputError, match="a block is 6 to 128 px wide, not 129"):
        Quilting(block=129)
    with pytest.raises(InputError, match=r"alpha is 1\.5"):
        Quilting(alpha=1.5)
    with pytest.raises(InputError, match=r"shading is 1\.0"):
        Quilting(shading=1.0)
    with pytest.raises(InputError, match="candidates are at least 1"):
        Quilting(candidates=0)
    with pytest.raises(InputError, match="a block of 16 px does not fit"):
        texture_transfer(content, texture)
    with pytest.raises(InputError, match="at most half the texture's 17 px"):
        texture_transfer(content, texture[:17], block=9)
    with pytest.raises(InputError, match=r"the texture has values from .* to 2"):
        texture_transfer(content, texture / texture.max() * 2, block=9)
    with pytest.raises(InputError, match=r"the content is \(30, 30\)"):
        texture_transfer(content[..., 0], texture, block=9)
    with pytest.raises(InputError, match="finite"):
        texture_transfer(content * np.nan, texture, block=9)
    with pytest.raises(InputError, match="with 0 pixels"):
        texture_transfer(content, texture, mask=np.zeros((30, 30), dtype=bool), block=9)
    with pytest.raises(InputError, match=r"the mask is bool \(20, 30\)"):
        texture_transfer(content, texture, mask=np.ones((20, 30), dtype=bool), block=9)
    with pytest.raises(InputError, match=r"the texture is \(30, 30, 3\), but \(3, H, W\)"):
        Quilting(block=9)(torch.rand(3, 30, 30), torch.from_numpy(texture))

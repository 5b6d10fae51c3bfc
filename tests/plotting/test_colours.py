"""What a pixel's colour says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from plotting.figures import SIZE, heat
from visavis.errors import InputError
from visavis.plotting import FOIL, TARGET, backdrop, overlay


def oklab_lightness(srgb: np.ndarray) -> np.ndarray:
    """Ottosson's L through CIE XYZ: another road than the one the colour maps are made on."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = (
        linear
        @ np.array(
            [
                [0.4123907993, 0.3575843394, 0.1804807884],
                [0.2126390059, 0.7151686788, 0.0721923154],
                [0.0193308187, 0.1191947798, 0.9505321522],
            ]
        ).T
    )
    cones = np.cbrt(
        xyz
        @ np.array(
            [
                [0.8189330101, 0.3618667424, -0.1288597137],
                [0.0329845436, 0.9293118715, 0.0361456387],
                [0.0482003018, 0.2643662691, 0.6338517070],
            ]
        ).T
    )
    return cones @ np.array([0.2104542553, 0.7936177850, -0.0040720468])


def test_a_pixel_without_evidence_is_its_lightened_grey(picture: np.ndarray) -> None:
    evidence = heat()
    evidence[3, 5] = 0.0
    luma = 0.2126 * picture[3, 5, 0] + 0.7152 * picture[3, 5, 1] + 0.0722 * picture[3, 5, 2]
    assert_allclose(overlay(picture, evidence, 1.0, TARGET)[3, 5], [0.5 + 0.5 * luma] * 3, rtol=1e-12)


@pytest.mark.parametrize("colormap", [TARGET, FOIL])
@pytest.mark.parametrize("beyond", [1.0, 7.0])
def test_the_strongest_pixel_is_the_end_of_the_colour_map(picture: np.ndarray, colormap, beyond: float) -> None:
    evidence = np.zeros(SIZE)
    evidence[2, 2], evidence[4, 4] = 0.3 * beyond, -0.3 * beyond
    drawn = overlay(picture, evidence, 0.3, colormap)
    assert_allclose(drawn[2, 2], colormap(1.0)[:3], rtol=1e-12)
    assert_allclose(drawn[4, 4], colormap(0.0)[:3], rtol=1e-12)


def test_half_the_strength_is_the_stated_mixture(picture: np.ndarray) -> None:
    drawn = overlay(picture, np.full(SIZE, 0.5), 1.0, FOIL)
    opacity = 0.5**0.6
    expected = (1 - opacity) * backdrop(picture) + opacity * np.array(FOIL(0.75)[:3])
    assert_allclose(drawn, expected, rtol=1e-12)
    assert drawn.std() > 0.01  # the photograph still shows


def test_overlay_leaves_its_arguments_alone(picture: np.ndarray) -> None:
    evidence = heat()
    before = picture.copy(), evidence.copy()
    overlay(picture, evidence, 0.5, TARGET)
    assert np.array_equal(picture, before[0])
    assert np.array_equal(evidence, before[1])


def test_one_channel_is_a_grey_photograph() -> None:
    grey = heat()[..., None]
    assert_allclose(backdrop(grey), backdrop(np.repeat(grey, 3, axis=-1)), rtol=1e-12)
    assert_allclose(backdrop(grey)[..., 0], 0.5 + 0.5 * grey[..., 0], rtol=1e-12)


@pytest.mark.parametrize("colormap", [TARGET, FOIL])
def test_colours_darken_evenly_away_from_a_neutral_middle(colormap) -> None:
    lightness = oklab_lightness(colormap(np.linspace(0, 1, 513))[:, :3])
    steps = np.diff(lightness)
    assert_allclose(steps[256:], steps[256:].mean(), atol=1e-5)
    assert steps[256:].mean() < -1e-3
    assert_allclose(lightness, lightness[::-1], atol=1e-4)
    assert np.ptp(colormap(0.5)[:3]) < 1e-3


def test_target_and_foil_are_equally_light_and_far_apart_in_hue() -> None:
    strengths = np.linspace(0.5, 1, 65)
    target, foil = TARGET(strengths)[:, :3], FOIL(strengths)[:, :3]
    assert_allclose(oklab_lightness(target), oklab_lightness(foil), atol=1e-4)
    assert target[-1, 0] > target[-1, 1] > target[-1, 2]  # orange
    assert foil[-1, 2] > foil[-1, 1] > foil[-1, 0]  # blue
    assert_allclose(TARGET(0.0), FOIL(1.0))  # against the target is for the foil


def test_full_evidence_is_darker_than_any_photograph_in_grey_print() -> None:
    darkest = oklab_lightness(backdrop(np.zeros((1, 1, 3)))[0, 0])
    assert oklab_lightness(np.array(TARGET(1.0)[:3])) < darkest - 0.05


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_wrong_scale_is_refused(picture: np.ndarray, scale: float) -> None:
    with pytest.raises(InputError, match="the scale"):
        overlay(picture, heat(), scale, TARGET)

"""How strength is scaled and smoothed, and that the footer says so."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from plotting.figures import SIZE, everything, four_maps, heat, images
from visavis.errors import InputError
from visavis.plotting import TARGET, Map, overlay, panel, shared_scale, smooth


def test_the_shared_scale_is_the_largest_percentile() -> None:
    first, second = np.arange(1000.0).reshape(20, 50), -3.0 * np.arange(1000.0).reshape(50, 20)
    assert_allclose(shared_scale([first]), 0.995 * 999)
    assert_allclose(shared_scale([first, second]), 3 * 0.995 * 999)
    assert_allclose(shared_scale([first, np.zeros((2, 2))]), shared_scale([first]))


def test_the_shared_scale_of_sparse_and_of_empty_maps() -> None:
    sparse = np.zeros((40, 40))
    sparse[0, 0] = -2.5
    assert shared_scale([sparse, np.zeros((4, 4))]) == 2.5
    assert shared_scale([np.zeros((4, 4))]) == 0.0
    assert shared_scale([]) == 0.0


def test_smoothing_is_a_gaussian_and_keeps_a_constant() -> None:
    spike = np.zeros((41, 61))
    spike[20, 30] = 1.0
    smoothed = smooth(spike, 2.0)
    rows, columns = np.mgrid[-20:21, -30:31]
    assert_allclose(smoothed, np.exp(-(rows**2 + columns**2) / 8) / (8 * np.pi), atol=1e-7)
    assert_allclose(smooth(np.full((9, 5), 3.0), 1.5), 3.0, rtol=1e-12)
    assert np.array_equal(smooth(spike, 0.0), spike)


def test_maps_without_groups_share_one_scale(picture: np.ndarray) -> None:
    maps = [Map("a", "", heat(1)), Map("b", "", 4 * heat(2), "foil")]
    figure = panel(picture, maps, title="t", smoothing=0.0)
    scale = np.percentile(maps[1].heat, 99.5)
    expected = overlay(picture, maps[0].heat, scale, TARGET)
    assert any(image.shape == expected.shape and np.allclose(image, expected) for image in images(figure))
    said = everything(figure)
    assert f"All maps share one scale, that of the strongest: 1 is a relevance of {scale:.3g}" in said


def test_sparse_evidence_is_scaled_by_its_strongest_pixel_and_that_is_said(picture: np.ndarray) -> None:
    evidence = np.zeros(SIZE)
    evidence[3, 3], evidence[4, 4] = 2.0, 1.0
    figure = panel(picture, [Map("a", "", evidence)], title="t", smoothing=0.0)
    expected = overlay(picture, evidence, 2.0, TARGET)
    assert any(image.shape == expected.shape and np.allclose(image, expected) for image in images(figure))
    rule = "1 is the strongest pixel where fewer than 0.5 % hold evidence"
    assert rule in everything(figure)
    assert rule not in everything(panel(picture, [Map("a", "", heat())], title="t"))


def test_smoothing_changes_the_maps_and_is_stated(picture: np.ndarray) -> None:
    maps = [Map("a", "", heat())]
    rough, soft = (panel(picture, maps, title="t", smoothing=share) for share in (0.0, 0.1))
    blurred = smooth(maps[0].heat, 2.4)
    expected = overlay(picture, blurred, np.percentile(blurred, 99.5), TARGET)
    assert any(image.shape == expected.shape and np.allclose(image, expected) for image in images(soft))
    assert "not smoothed" in everything(rough)
    assert "Gaussian, σ = 2.4 pixels" in everything(soft)


@pytest.mark.parametrize("smoothing", [-0.01, 0.3, float("nan")])
def test_a_wrong_smoothing_is_refused(picture: np.ndarray, smoothing: float) -> None:
    with pytest.raises(InputError, match="smoothing"):
        panel(picture, four_maps(), title="t", smoothing=smoothing)

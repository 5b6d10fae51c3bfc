"""What a comparison draws and says."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from plotting.figures import SIZE, everything, heat, images, texts
from visavis.plotting import FOIL, TARGET, Row, backdrop, comparison, overlay


def test_a_comparison_has_one_row_a_class(picture: np.ndarray) -> None:
    rows = [Row("cat", 0.6, heat(1), 0.1 * heat(2)), Row("cup", 0.3, 2 * heat(3), np.zeros(SIZE), "foil")]
    figure = comparison(picture, rows, title="Compared", columns=("plain", "contrast"), smoothing=0.0)
    plain = max(np.percentile(row.plain, 99.5) for row in rows)
    contrast = np.percentile(rows[0].contrast, 99.5)
    expected = [
        picture,
        overlay(picture, rows[0].plain, plain, TARGET),
        overlay(picture, rows[0].contrast, contrast, TARGET),
        overlay(picture, rows[1].plain, plain, FOIL),
        backdrop(picture),
    ]
    for image, wanted in zip(images(figure), expected, strict=False):
        assert_allclose(image, wanted, atol=1e-12)
    said = texts(figure)
    for text in ("Compared", "cat", "60.0 %", "cup", "30.0 %", "plain", "contrast", "no evidence"):
        assert text in said
    assert f"{plain:.3g} for plain, {contrast:.3g} for contrast" in everything(figure)

"""Pairs shown: each image is where its pair is, beneath the factor that is shared."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from reports.units.figures import check_drawn, check_same_bytes, written
from visavis.errors import InputError
from visavis.reports.shape_texture import pair_sheet


def image(seed: int, tall: int = 6, wide: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).random((tall, wide, 3))


PAIRS = {
    "shape": [(image(1), image(2)), (image(3), image(4)), (image(5), image(6))],
    "texture": [(image(7), image(8)), (image(9), image(10)), (image(11), image(12))],
}


def tiles(figure: Figure) -> list[tuple[float, float, np.ndarray]]:
    """Left and top of each image in inches, in their order."""
    wide, tall = figure.get_size_inches()
    return [
        (axes.get_position().x0 * wide, (1 - axes.get_position().y1) * tall, np.asarray(axes.images[0].get_array()))
        for axes in figure.axes
    ]


def test_images_stand_in_their_pairs() -> None:
    figure = pair_sheet(PAIRS)
    found = tiles(figure)
    expected = [one for pairs in PAIRS.values() for pair in pairs for one in pair]
    assert all(np.array_equal(seen, one) for (_, _, seen), one in zip(found, expected, strict=True))
    for row in (found[:6], found[6:]):
        assert len({round(top, 6) for _, top, _ in row}) == 1
        steps = np.diff([left for left, _, _ in row])
        # The images of a pair are nearer to each other than to the next.
        assert np.allclose(steps[::2], steps[0])
        assert (steps[1::2] > steps[0] + 0.2).all()
    assert found[0][1] < found[6][1]
    places = {text.get_text(): figure.get_figheight() - text.get_position()[1] for text in figure.texts}
    assert places["share the shape"] < found[0][1] < places["share the texture"] < found[6][1]
    check_drawn(figure)
    check_same_bytes(figure, pair_sheet(PAIRS))


def test_titles_and_other_sizes() -> None:
    assert written(pair_sheet(PAIRS))[0] == "Which images are compared?"
    figure = pair_sheet({"shape": [(image(1, 4, 12), image(2, 12, 4))] * 6}, title="Mine")
    assert written(figure)[0] == "Mine"
    wide, tall = figure.get_size_inches()
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(one.x1 * wide <= 10 - 0.2 for one in boxes)
    assert boxes[0].width * wide == pytest.approx(3 * boxes[0].height * tall)
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="no pairs came"):
        pair_sheet({})
    with pytest.raises(InputError, match="0 pairs came that share the shape, but 1 to 6 are drawn"):
        pair_sheet({"shape": []})
    with pytest.raises(InputError, match="7 pairs came"):
        pair_sheet({"shape": [(image(1), image(2))] * 7})
    with pytest.raises(InputError, match=r"\(H, W, 3\)"):
        pair_sheet({"shape": [(image(1)[0], image(2))]})

"""Masks of read-outs: pixels are the classes, and the key names those that occur."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reports.shape_texture.estimates import NAN
from reports.units.figures import HOSTILE, check_drawn, check_same_bytes, written
from visavis.errors import InputError
from visavis.reports.shape_texture import readout_masks

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # where no font has a script, boxes are drawn

NAMES = ["background", "bird", "cat", "dog"]
TRUTH = np.zeros((40, 60), dtype=np.int64)
TRUTH[5:35, 5:30] = 2
TRUTH[5:35, 30:33] = 255
SAID = np.where(TRUTH == 2, 3, 0)
SAID[0, 0] = 1
PICTURE = np.linspace(0, 1, 40 * 60 * 3).reshape(40, 60, 3)


def draw(**changes: object) -> Figure:
    given = {"images": [PICTURE], "truths": [TRUTH], "predictions": {"stage 5": [SAID]}, "names": NAMES}
    return readout_masks(**{**given, **changes})


def pixels(axes: Axes) -> NDArray[np.float64]:
    return np.asarray(axes.images[0].get_array())


def key(figure: Figure) -> dict[str, str]:
    """The colours of the boxes of the key, by the number that stands on them."""
    found = {}
    for text in figure.texts:
        if text.get_text().isdigit():
            x, y = text.get_position()
            for box in figure.patches + figure.artists:
                corner = getattr(box, "get_xy", tuple)()
                if len(corner) == 2 and 0 <= x - corner[0] <= 0.24 and 0 <= y - corner[1] <= 0.15:
                    found[text.get_text()] = to_hex(box.get_facecolor())
    return found


@cache
def plain() -> Figure:
    """The plain figure, which no test changes."""
    return draw()


def test_a_row_is_a_picture_its_truth_and_what_is_said() -> None:
    picture, truth, said = plain().axes
    np.testing.assert_array_equal(pixels(picture), PICTURE)
    lefts = [axes.get_position().x0 for axes in (picture, truth, said)]
    assert lefts == sorted(lefts)
    for axes, mask in ((truth, TRUTH), (said, SAID)):
        shown = pixels(axes)
        assert shown.shape == (40, 60, 4)
        np.testing.assert_array_equal(shown[:, :, 3], mask != 255)
        for number in np.unique(mask[mask != 255]):
            assert len(np.unique(shown[mask == number], axis=0)) == 1
    assert truth.patch.get_hatch()


def test_colours_are_those_of_the_key() -> None:
    figure = plain()
    _, truth, said = figure.axes
    colours = key(figure)
    assert list(colours) == ["0", "1", "2", "3"]
    assert len(set(colours.values())) == 4
    for axes, mask in ((truth, TRUTH), (said, SAID)):
        for number in np.unique(mask[mask != 255]):
            row, column = np.argwhere(mask == number)[0]
            assert to_hex(pixels(axes)[row, column]) == colours[str(number)]


def test_the_key_names_what_occurs() -> None:
    found = written(plain())
    assert [text for text in found if text in NAMES] == NAMES
    assert "void: not counted" in found
    few = written(draw(truths=[TRUTH * 0], predictions={}))
    assert [text for text in few if text in NAMES] == ["background"]
    assert "void: not counted" not in few


def test_a_region_with_room_has_its_number() -> None:
    _, truth, said = plain().axes
    assert [text.get_text() for text in truth.texts] == ["2"]
    x, y = truth.texts[0].get_position()
    assert TRUTH[int(y), int(x)] == 2
    corner = np.zeros_like(TRUTH)
    corner[:12, 45:] = 2
    (number,) = draw(truths=[corner], predictions={}).axes[1].texts
    x, y = number.get_position()
    assert 49 <= x <= 55
    assert 4 <= y <= 7
    # Of classes 1 and 3 only the latter is larger than a number.
    assert [text.get_text() for text in said.texts] == ["3"]


def test_twenty_classes_have_twenty_colours() -> None:
    mask = np.kron(np.arange(21).reshape(3, 7), np.ones((10, 10), dtype=np.int64))
    figure = draw(
        images=[np.zeros((30, 70, 3))], truths=[mask], predictions={}, names=[f"class {k}" for k in range(21)]
    )
    assert len(np.unique(pixels(figure.axes[1]).reshape(-1, 4), axis=0)) == 21
    assert len(set(key(figure).values())) == 21


def test_scores_stand_above_their_masks() -> None:
    both = {"stage 5": [SAID], "random": [SAID], "lost": [SAID]}
    found = written(draw(predictions=both, scores={"stage 5": 0.509, "lost": NAN}))
    assert "mIoU 50.9 %" in found
    assert "mIoU –" in found
    assert sum(text.startswith("mIoU") for text in found) == 2
    assert "IoU 50.9 %" in written(draw(scores={"stage 5": 0.509}, measure="IoU"))
    assert written(draw(title="Another"))[0] == "Another"


def test_pictures_keep_their_shape() -> None:
    tall = np.zeros((90, 30), dtype=np.int64)
    figure = draw(images=[PICTURE, np.zeros((90, 30, 1))], truths=[TRUTH, tall], predictions={"stage 5": [SAID, tall]})
    sizes = [axes.get_position() for axes in figure.axes]
    across = figure.get_figwidth() / figure.get_figheight()
    assert [round(one.width / one.height * across, 3) for one in sizes] == [1.5] * 3 + [0.333] * 3
    assert not any(one.overlaps(other) for place, one in enumerate(sizes) for other in sizes[:place])
    check_drawn(figure)


def test_twelve_pictures_or_eight_read_outs() -> None:
    wide = draw(predictions={f"read-out {place} of a long name": [SAID] for place in range(8)})
    tall = draw(images=[PICTURE] * 12, truths=[TRUTH] * 12, predictions={})
    for figure, columns, rows in ((wide, 10, 1), (tall, 2, 12)):
        edges = [axes.get_position() for axes in figure.axes]
        assert len({round(one.x0, 6) for one in edges}) == columns
        assert len({round(one.y0, 6) for one in edges}) == rows
        assert min(min(one.x0, one.y0) for one in edges) > 0
        assert max(one.x1 for one in edges) < 1


def test_names_may_be_anything() -> None:
    readouts = {name: [SAID] for name in HOSTILE}
    check_drawn(draw(predictions=readouts, names=HOSTILE, scores=dict.fromkeys(HOSTILE, 0.5), title="$_^"))
    check_same_bytes(draw(), draw())


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InputError, match="images"):
        draw(images=[], truths=[], predictions={"a": []})
    with pytest.raises(InputError, match="2 true masks for 1 images"):
        draw(truths=[TRUTH, TRUTH])
    with pytest.raises(InputError, match="2 masks for 1 images, of 'a'"):
        draw(predictions={"a": [SAID, SAID]})
    with pytest.raises(InputError, match=r"mask 0 of 'a' is int64 of shape \(60, 40\), but whole numbers of shape"):
        draw(predictions={"a": [SAID.T]})
    with pytest.raises(InputError, match="mask 0 of 'truth' is float64"):
        draw(truths=[TRUTH * 1.0])
    with pytest.raises(InputError, match="mask 0 of 'a' holds 4, but there are names of 4 classes"):
        draw(predictions={"a": [SAID + 3]})
    with pytest.raises(InputError, match="mask 0 of 'a' holds -1"):
        draw(predictions={"a": [SAID - 1]})
    with pytest.raises(InputError, match="9 read-outs came, but at most 8"):
        draw(predictions={f"{place}": [SAID] for place in range(9)})
    with pytest.raises(InputError, match="a score came of 'stage 9'"):
        draw(scores={"stage 9": 0.5})
    with pytest.raises(InputError, match="undo its normalisation"):
        draw(images=[PICTURE * 255])

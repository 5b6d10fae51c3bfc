"""The layout: every text is readable, whatever its length and the picture's shape."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from plotting.figures import everything, heat, texts
from visavis.plotting import Class, Map, Row, comparison, panel

LONG = "black-and-tan coonhound, Canis lupus familiaris, of the very long name " * 3
UNBROKEN = "W" * 200
ASPECTS = [(32, 32), (10, 100), (100, 10), (1, 1), (3, 900)]


def long_panel(size: tuple[int, int], count: int, name: str) -> Figure:
    roles = itertools.cycle(("target", "foil"))
    maps = [Map(f"{name} {i}", name, heat(i, size) * (i % 2), next(roles), name[:90] + str(i)) for i in range(count)]
    classes = [Class(name, 1.0, "target"), Class(name, 0.99999, "foil"), Class(name, 0.1)]
    return panel(heat(9, size)[..., None], maps, title=name, subtitle=name * 3, footer=name * 3, classes=classes)


def long_comparison(size: tuple[int, int], count: int, name: str) -> Figure:
    rows = [Row(name, 0.99999, heat(i, size), heat(i, size) * (i % 2), "foil") for i in range(count)]
    return comparison(
        heat(9, size)[..., None],
        rows,
        title=name,
        subtitle=name * 3,
        columns=(name, name),
        notes=(name, name),
    )


def assert_readable(figure: Figure) -> None:
    """Every text lies inside the page; none meets another text or, but for "no evidence", a picture."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = figure.bbox
    written = [text for text in figure.findobj(Text) if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in written]
    for text, box in zip(written, boxes, strict=True):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1
        assert inside, f"{text.get_text()!r} leaves the page"
    for one, other in itertools.combinations(range(len(boxes)), 2):
        assert not overlap(boxes[one], boxes[other]), f"{written[one]} meets {written[other]}"
    tiles = [axes.get_window_extent(renderer) for axes in figure.axes]
    for one, other in itertools.combinations(tiles, 2):
        assert not overlap(one, other)
    for text, box in zip(written, boxes, strict=True):
        if text.get_text() != "no evidence":
            assert not any(overlap(box, tile) for tile in tiles), f"{text.get_text()!r} lies on a picture"


def overlap(one, other) -> bool:
    """Whether two boxes share more than a pixel's width, which is what hinting may add."""
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    down = min(one.y1, other.y1) - max(one.y0, other.y0)
    return across > 1 and down > 1


@pytest.mark.parametrize("name", [LONG, UNBROKEN, "Äpfel\n\tund\x07 gÿ{}|"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_no_text_of_a_panel_overlaps(count: int, name: str) -> None:
    assert_readable(long_panel((32, 32), count, name))


@pytest.mark.parametrize("size", ASPECTS)
def test_no_text_overlaps_in_odd_shapes(size: tuple[int, int]) -> None:
    assert_readable(long_panel(size, 4, LONG))
    assert_readable(long_comparison(size, 2, LONG))


@pytest.mark.parametrize("name", [LONG, UNBROKEN, "cat"])
@pytest.mark.parametrize("count", [1, 5])
def test_no_text_of_a_comparison_overlaps(count: int, name: str) -> None:
    assert_readable(long_comparison((32, 48), count, name))


def test_the_overlap_check_catches_what_it_must() -> None:
    figure = Figure()
    figure.text(0.5, 0.5, "one")
    figure.text(0.51, 0.5, "other")
    with pytest.raises(AssertionError, match="meets"):
        assert_readable(figure)
    outside = Figure()
    outside.text(0.99, 0.5, "a long text")
    with pytest.raises(AssertionError, match="leaves the page"):
        assert_readable(outside)


def test_what_the_footer_must_say_is_never_cut() -> None:
    said = everything(long_panel((100, 10), 6, LONG))
    assert "light grey." in said


def test_long_names_wrap_and_end_in_an_ellipsis(picture: np.ndarray) -> None:
    said = texts(panel(picture, [Map(LONG, "", heat())], title="t", classes=[Class(LONG, 0.5)]))
    shortened = [text for text in said if text.startswith("black-and-tan")]
    assert len(shortened) == 2  # the first line of the heading, and the bar
    assert sum(text.endswith("…") for text in said) == 2


def test_a_sliver_says_no_evidence_in_its_note() -> None:
    figure = panel(heat(0, (2, 300))[..., None], [Map("a", "the note", np.zeros((2, 300)))], title="t")
    assert "no evidence: the note" in texts(figure)
    for size in ((2, 300), (300, 2)):
        rows = [Row("cat", 0.5, heat(0, size), np.zeros(size))]
        assert "no evidence" in texts(comparison(heat(0, size)[..., None], rows, title="t"))

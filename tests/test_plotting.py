"""Pictures of evidence: what a pixel's colour says, what a page says, and what is left on disk."""

from __future__ import annotations

import errno
import itertools
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.testing import assert_allclose
from PIL import Image

from visavis.errors import InputError, OutputError
from visavis.plotting import (
    FOIL,
    TARGET,
    Class,
    Map,
    Row,
    backdrop,
    comparison,
    overlay,
    panel,
    save_figure,
    shared_scale,
    smooth,
)

SIZE = (24, 40)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).random((*SIZE, 3))


def heat(seed: int = 1, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).random(size)


def four_maps() -> list[Map]:
    return [
        Map("LRP: cat", "what cat rests on", heat(1), "target", "LRP"),
        Map("LRP: cup", "what cup rests on", 0.5 * heat(2), "foil", "LRP"),
        Map("CLRP: cat, not cup", "for cat rather than cup", 0.01 * heat(3), "target", "CLRP"),
        Map("CLRP: cup, not cat", "for cup rather than cat", 0.02 * heat(4), "foil", "CLRP"),
    ]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def everything(figure: Figure) -> str:
    return " ".join(texts(figure))


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]


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


# --------------------------------------------------------------------------------------------------- colour


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


# ---------------------------------------------------------------------------------------------------- pages


def test_a_panel_draws_the_picture_and_the_maps_on_shared_scales(picture: np.ndarray) -> None:
    maps = four_maps()
    figure = panel(picture, maps, title="Why cat, and not cup?", smoothing=0.0)
    drawn = images(figure)
    assert any(np.array_equal(image, picture) for image in drawn)
    of_lrp = max(np.percentile(np.abs(entry.heat), 99.5) for entry in maps[:2])
    of_clrp = max(np.percentile(np.abs(entry.heat), 99.5) for entry in maps[2:])
    for entry, scale in zip(maps, (of_lrp, of_lrp, of_clrp, of_clrp), strict=True):
        expected = overlay(picture, entry.heat, scale, TARGET if entry.role == "target" else FOIL)
        assert any(image.shape == expected.shape and np.allclose(image, expected) for image in drawn)
    said = everything(figure)
    assert f"{of_lrp:.3g} for LRP, {of_clrp:.3g} for CLRP" in said
    assert "99.5th percentile" in said
    assert "Maps of one method share one scale" in said


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


def test_a_panel_says_what_it_was_told(picture: np.ndarray) -> None:
    classes = [
        Class("cat", 0.621, "target"),
        Class("$5 bill", 0.00001),
        Class("cup", 0.99999, "foil"),
        Class("dog", 0.0),
        Class("cow", 1.0),
    ]
    figure = panel(picture, four_maps(), title="Why?", subtitle="a model", footer="84 % reached.", classes=classes)
    said = texts(figure)
    for text in (
        "Why?",
        "a model",
        "84 % reached.",
        "cat",
        "$5 bill",
        "cup",
        "LRP: cat",
        "what cup rests on",
    ):
        assert text in said
    for text in ("62.1 %", "< 0.1 %", "> 99.9 %", "0.0 %", "100.0 %", "evidence for cat", "evidence for cup"):
        assert text in said
    assert said.count("share of the strongest evidence") == 2
    assert "40 × 24 pixels" in said


def test_bars_are_as_long_as_the_probabilities(picture: np.ndarray) -> None:
    figure = panel(picture, four_maps(), title="t", classes=[Class("cat", 0.25, "target"), Class("cup", 1.0)])
    bars = [shape for shape in figure.findobj(Rectangle) if np.isclose(shape.get_height(), 0.07)]
    track, cat, _, cup = (bar.get_width() for bar in bars)
    assert_allclose([cat / track, cup / track], [0.25, 1.0])
    assert bars[1].get_facecolor() == TARGET(1.0)


def test_a_colour_bar_stands_under_a_map_of_its_role(picture: np.ndarray) -> None:
    maps = [Map("a", "", heat()), Map("b", "", heat()), Map("c", "", heat(), "foil")]
    classes = [Class("cat", 0.6, "target"), Class("cup", 0.3, "foil")]
    left = {
        text.get_text(): text.get_position()[0]
        for text in panel(picture, maps, title="t", classes=classes).findobj(Text)
    }
    assert left["evidence for cat"] == left["a"]
    assert left["evidence for cup"] == left["c"]


def test_a_signed_map_has_a_scale_with_two_ends(picture: np.ndarray) -> None:
    signed = panel(picture, [Map("a", "", heat() - 0.5)], title="t")
    unsigned = panel(picture, [Map("a", "", heat() - 1e-9)], title="t")
    assert {"−1 against", "0", "1 for"} <= set(texts(signed))
    assert {"0", "0.5", "1"} <= set(texts(unsigned))


def test_a_map_of_zeros_is_the_grey_photograph_with_words(picture: np.ndarray) -> None:
    figure = panel(picture, [Map("a", "", np.zeros(SIZE))], title="t")
    assert any(np.array_equal(image, backdrop(picture)) for image in images(figure))
    assert "no evidence" in texts(figure)
    assert "No map holds any evidence." in texts(figure)
    assert "no evidence" not in everything(panel(picture, [Map("a", "", heat())], title="t"))


def test_a_sliver_says_no_evidence_in_its_note() -> None:
    figure = panel(heat(0, (2, 300))[..., None], [Map("a", "the note", np.zeros((2, 300)))], title="t")
    assert "no evidence: the note" in texts(figure)
    for size in ((2, 300), (300, 2)):
        rows = [Row("cat", 0.5, heat(0, size), np.zeros(size))]
        assert "no evidence" in texts(comparison(heat(0, size)[..., None], rows, title="t"))


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


# --------------------------------------------------------------------------------------------------- layout

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


# -------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_evidence_that_is_not_finite_is_refused(picture: np.ndarray, bad: float) -> None:
    evidence = heat()
    evidence[0, 0] = bad
    with pytest.raises(InputError, match="'LRP: cat' holds NaN or infinite values"):
        panel(picture, [Map("LRP: cat", "", evidence)], title="t")
    with pytest.raises(InputError, match="'CLRP: cat' holds NaN or infinite values"):
        comparison(picture, [Row("cat", 0.5, heat(), evidence)], title="t")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (np.zeros((4, 4, 3), dtype=np.uint8), "divide bytes by 255"),
        (np.zeros((4, 4)), r"shape \(4, 4\)"),
        (np.zeros((4, 4, 4)), r"shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3)), r"shape \(0, 4, 3\)"),
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.full((4, 4, 3), 2.6), r"span \[2.6, 2.6\]"),
        (np.full((4, 4, 3), -0.1), "undo its normalisation"),
    ],
)
def test_a_wrong_picture_is_refused(wrong: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        panel(wrong, [Map("a", "", np.zeros((4, 4)))], title="t")


def test_wrong_maps_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"'a' has the shape \(7, 7\), but \(24, 40\)"):
        panel(picture, [Map("a", "", np.zeros((7, 7)))], title="t")
    with pytest.raises(InputError, match="'a' holds complex128"):
        panel(picture, [Map("a", "", heat() * 1j)], title="t")
    dual = Map("a", "", heat())
    object.__setattr__(dual, "role", "dual")  # the type check of the tests would refuse it earlier
    with pytest.raises(InputError, match="role 'dual'"):
        panel(picture, [dual], title="t")
    for count in (0, 7):
        with pytest.raises(InputError, match=f"but {count} came"):
            panel(picture, [Map("a", "", heat())] * count, title="t")
    for count in (0, 21):
        with pytest.raises(InputError, match=f"but {count} came"):
            comparison(picture, [Row("a", 0.5, heat(), heat())] * count, title="t")


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_wrong_probability_is_refused(picture: np.ndarray, probability: float) -> None:
    with pytest.raises(InputError, match="the probability of 'cat'"):
        panel(picture, four_maps(), title="t", classes=[Class("cat", probability)])
    with pytest.raises(InputError, match="the probability of 'cat'"):
        comparison(picture, [Row("cat", probability, heat(), heat())], title="t")


@pytest.mark.parametrize("smoothing", [-0.01, 0.3, float("nan")])
def test_a_wrong_smoothing_is_refused(picture: np.ndarray, smoothing: float) -> None:
    with pytest.raises(InputError, match="smoothing"):
        panel(picture, four_maps(), title="t", smoothing=smoothing)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_wrong_scale_is_refused(picture: np.ndarray, scale: float) -> None:
    with pytest.raises(InputError, match="the scale"):
        overlay(picture, heat(), scale, TARGET)


@pytest.mark.parametrize("magnitude", [5e-324, 1e-300, 1e300])
def test_extreme_evidence_is_drawn(picture: np.ndarray, magnitude: float) -> None:
    evidence = np.where(heat() > 0.5, magnitude, 0.0)
    figure = panel(picture, [Map("a", "", evidence)], title="t", smoothing=0.0)
    expected = np.where((evidence > 0)[..., None], TARGET(1.0)[:3], backdrop(picture))
    assert any(image.shape == expected.shape and np.allclose(image, expected) for image in images(figure))


# -------------------------------------------------------------------------------------------------- to disk


@pytest.fixture
def figure(picture: np.ndarray) -> Figure:
    return panel(picture, four_maps()[:2], title="Why cat?")


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("a.png", b"\x89PNG"),
        ("a.PDF", b"%PDF"),
        ("a.svg", b"<?xml"),
        ("a.jpg", b"\xff\xd8\xff"),
        ("a.jpeg", b"\xff\xd8\xff"),
    ],
)
def test_the_suffix_chooses_the_format_and_bytes_repeat(
    figure: Figure, picture: np.ndarray, tmp_path: Path, name: str, beginning: bytes
) -> None:
    save_figure(figure, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(beginning)
    save_figure(panel(picture, four_maps()[:2], title="Why cat?"), str(tmp_path / name))
    assert (tmp_path / name).read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_png_names_its_software_and_no_time(figure: Figure, tmp_path: Path) -> None:
    save_figure(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["Software"] == "visavis"
        assert not {"Creation Time", "date:create"} & set(image.info)
        assert image.size == tuple(int(side) for side in figure.bbox.size)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_the_settings_of_the_user_neither_change_nor_matter(picture: np.ndarray, tmp_path: Path) -> None:
    save_figure(panel(picture, four_maps(), title="t"), tmp_path / "a.png")
    dark = {
        "axes.facecolor": "black",
        "figure.constrained_layout.use": True,
        "figure.facecolor": "black",
        "font.size": 30.0,
        "image.origin": "lower",
        "savefig.facecolor": "black",
        "svg.hashsalt": "mine",
        "text.color": "white",
    }
    with mpl.rc_context(dark):
        before = dict(mpl.rcParams)
        figure = panel(picture, four_maps(), title="t")
        save_figure(figure, tmp_path / "b.png")
        save_figure(figure, tmp_path / "b.svg")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_pyplot_is_not_touched(figure: Figure, tmp_path: Path) -> None:
    loaded = "matplotlib.pyplot" in sys.modules
    save_figure(figure, tmp_path / "a.png")
    assert ("matplotlib.pyplot" in sys.modules) == loaded
    if loaded:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_threads_draw_the_same(picture: np.ndarray, tmp_path: Path) -> None:
    def draw(number: int) -> bytes:
        path = tmp_path / f"{number}.svg"
        save_figure(panel(picture, four_maps()[:2], title="Why cat?"), path)
        return path.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(6)))) == 1


@pytest.mark.parametrize("name", ["why.gif", "why", "why.png.exe", ""])
def test_an_unknown_suffix_is_refused(figure: Figure, tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"a figure is written as \.png, \.pdf, \.svg, \.jpg, \.jpeg\.$"):
        save_figure(figure, tmp_path / name if name else name)
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_none_is_refused(figure: Figure, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here before")
    (tmp_path / "folder.png").mkdir()
    for place, words in (
        ("missing/why.png", "is no folder"),
        ("file/why.png", "is no folder"),
        ("folder.png", "is a folder"),
        ("null\0.png", "null character"),
        (f"{'x' * 300}.png", "cannot be written"),
    ):
        with pytest.raises(OutputError, match=words):
            save_figure(figure, tmp_path / place)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.png"]
    assert (tmp_path / "file").read_text() == "here before"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_failing_disk_leaves_what_was_there(
    figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    target = tmp_path / "why.png"
    target.write_bytes(b"the old one")
    reason = OSError(number, "the disk says no")

    def fail(self: Path, *arguments: object) -> None:
        if step == "write_bytes":
            with self.open("wb") as half:
                half.write(b"half")
        raise reason

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, fail)
        with pytest.raises(OutputError, match=r"why\.png' cannot be written \(the disk says no\)") as caught:
            save_figure(figure, target)
    assert caught.value.__cause__ is reason
    assert target.read_bytes() == b"the old one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["why.png"]


@pytest.mark.parametrize("failure", [RuntimeError("no ink"), KeyboardInterrupt()])
def test_a_failing_renderer_leaves_what_was_there(
    figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise failure

    (tmp_path / "why.svg").write_bytes(b"the old one")
    salt = mpl.rcParams["svg.hashsalt"]
    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(type(failure)):
        save_figure(figure, tmp_path / "why.svg")
    assert mpl.rcParams["svg.hashsalt"] == salt
    assert (tmp_path / "why.svg").read_bytes() == b"the old one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["why.svg"]

"""Generated scenes: what is drawn is what is described, exactly, and the same whenever it is asked for."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from torch.utils.data import DataLoader

import visavis as vv
from visavis.datasets import (
    COLOURS,
    GROUNDS,
    SHAPES,
    TEXTURES,
    Scene,
    SceneDataset,
    SceneObject,
    Scenes,
    Texture,
    render,
)
from visavis.datasets.scenes import MAX_SIZE

BARE = Texture("plain", "black")
RED = Texture("plain", "red")


def one(shape: str, size: float = 0.5, angle: float = 0.0, centre: tuple[float, float] = (0.5, 0.5)) -> Scene:
    return Scene((SceneObject(shape, RED, size, centre, angle),), BARE)


def distances(points: NDArray[np.floating], outline: NDArray[np.floating]) -> NDArray[np.floating]:
    """How far each point (N, 2) is from a closed polygon (corners, 2)."""
    start, edge = outline, np.roll(outline, -1, 0) - outline
    along = ((points[:, None] - start) * edge).sum(2) / (edge**2).sum(1)
    nearest = start + np.clip(along, 0, 1)[:, :, None] * edge
    return np.hypot(*(points[:, None] - nearest).transpose(2, 0, 1)).min(1)


def redness(scene: Scene, size: int) -> NDArray[np.floating]:
    """How much of each pixel a plain red object covers, read off the picture alone."""
    red = render(scene, size).pixels[0].astype(np.float64)
    ground, surface = red.min(), red.max()
    return (red - ground) / (surface - ground)


def centres(size: int) -> NDArray[np.floating]:
    """The centres of all pixels (H · W, 2), x and y as shares of the side, row by row."""
    steps = (np.arange(size) + 0.5) / size
    return np.array([(x, y) for y in steps for x in steps])


def turned(corners: list[tuple[float, float]], angle: float) -> NDArray[np.floating]:
    """Corners, turned clockwise on the screen about their centroid, which is moved to the origin; of area π / 4."""
    points = np.array(corners, float)
    x, y = points.T
    twice = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = twice.sum() / 2
    centroid = ((points + np.roll(points, -1, 0)) * twice[:, None]).sum(0) / (6 * area)
    points = (points - centroid) * np.sqrt(np.pi / 4 / abs(area))
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def fifth(turns: float, radius: float) -> tuple[float, float]:
    return radius * np.sin(turns * 2 * np.pi / 5), -radius * np.cos(turns * 2 * np.pi / 5)


#: Outlines written down apart from the fields: corners, y down, in any unit.
CORNERS = {
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "triangle": [(0, -2), (np.sqrt(3), 1), (-np.sqrt(3), 1)],
    "star": [fifth(k / 2, 1 if k % 2 == 0 else 0.42) for k in range(10)],
    "cross": [
        *((0.34, -1), (0.34, -0.34), (1, -0.34), (1, 0.34), (0.34, 0.34), (0.34, 1)),
        *((-0.34, 1), (-0.34, 0.34), (-1, 0.34), (-1, -0.34), (-0.34, -0.34), (-0.34, -1)),
    ],
    "arrow": [(0, -1.1), (1, 0), (0.3, 0), (0.3, 1), (-0.3, 1), (-0.3, 0), (-1, 0)],
    "hourglass": [(-0.9, -1), (0.9, -1), (0.12, 0), (0.9, 1), (-0.9, 1), (-0.12, 0)],
}


# -- masks and boxes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 33.0])
@pytest.mark.parametrize("shape", CORNERS)
def test_masks_of_polygons_hold_the_pixels_whose_centre_is_inside(shape: str, angle: float) -> None:
    size = 96
    outline = turned(CORNERS[shape], angle) * 0.55 + (0.52, 0.47)
    inside = Outline(outline).contains_points(centres(size))
    clear = distances(centres(size), outline) > 0.02 / size
    mask = render(one(shape, 0.55, angle, (0.52, 0.47)), size).masks[0].ravel()
    assert clear.mean() > 0.95
    assert np.array_equal(mask[clear], inside[clear])


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ("disc", lambda r: r < 0.25),
        ("ring", lambda r: (r > 0.5 * 0.25 / np.sqrt(0.75)) & (r < 0.25 / np.sqrt(0.75))),
    ],
)
def test_masks_of_round_shapes(shape: str, inside: object) -> None:
    size = 96
    radii = np.hypot(*(centres(size) - (0.4, 0.6)).T).reshape(size, size)
    mask = render(one(shape, 0.5, 0, (0.4, 0.6)), size).masks[0]
    assert (mask != inside(radii)).sum() <= 2  # type: ignore[operator]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_the_area_of_its_size_and_its_centroid_at_its_centre(shape: str) -> None:
    mask = render(one(shape, 0.4, 25, (0.5, 0.55)), 256).masks[0]
    assert mask.mean() == pytest.approx(np.pi * 0.2**2, rel=0.01)
    y, x = np.nonzero(mask)
    assert ((x + 0.5).mean() / 256, (y + 0.5).mean() / 256) == pytest.approx((0.5, 0.55), abs=0.002)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_picture_shows_the_object_where_the_mask_is(shape: str) -> None:
    scene = one(shape, 0.5, 40)
    coarse, fine = redness(scene, 32), redness(scene, 32 * 16)
    covered = fine.reshape(32, 16, 32, 16).mean((1, 3))
    # Smooth edges are the share of a pixel that is covered, also by the picture drawn 16 times finer.
    assert abs(coarse - covered).mean() < 0.01
    mask = render(scene, 32).masks[0]
    assert mask[covered > 0.8].all()
    assert not mask[covered < 0.2].any()
    assert np.array_equal(mask, coarse > 0.5)


@pytest.mark.parametrize("index", range(6))
def test_boxes_are_the_least_about_their_masks(index: int) -> None:
    item = Scenes(6, size=48, objects=(1, 5), sizes=(0.15, 0.4))[index]
    assert len(item.boxes) == len(item.masks) == len(item.labels)
    for mask, (left, top, right, bottom) in zip(item.masks, item.boxes.tolist(), strict=True):
        places = [(x, y) for y in range(48) for x in range(48) if mask[y, x]]
        assert left == min(x for x, _ in places)
        assert top == min(y for _, y in places)
        assert right == max(x for x, _ in places) + 1
        assert bottom == max(y for _, y in places) + 1


def test_the_foremost_object_is_seen_and_masks_are_exclusive() -> None:
    blue = Texture("plain", "blue")
    behind = SceneObject("square", RED, 0.6, (0.45, 0.5))
    before = SceneObject("disc", blue, 0.3, (0.6, 0.5))
    drawn = render(Scene((behind, before), BARE), 64)
    alone = [render(Scene((thing,), BARE), 64).masks[0] for thing in (behind, before)]
    assert np.array_equal(drawn.masks[1], alone[1])
    assert np.array_equal(drawn.masks[0], alone[0] & ~alone[1])
    assert (alone[0] & alone[1]).any()
    for mask, thing in zip(drawn.masks, (behind, before), strict=True):
        # But for the smooth edges.
        right = abs(drawn.pixels - np.reshape(COLOURS[thing.texture.colour], (3, 1, 1))).max(0) < 1e-6
        assert right[mask].mean() > 0.8


def test_objects_that_cannot_be_seen_have_empty_masks_and_boxes_of_zeros() -> None:
    hidden = SceneObject("disc", RED, 0.2, (0.5, 0.5))
    cover = SceneObject("square", RED, 0.5, (0.5, 0.5))
    far = SceneObject("star", RED, 0.2, (3.0, -2.0))
    drawn = render(Scene((hidden, far, cover), BARE), 32)
    assert drawn.masks.any((1, 2)).tolist() == [False, False, True]
    assert drawn.boxes[:2].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0]]


def test_an_object_at_the_border_is_the_part_of_it_that_is_within() -> None:
    # The same object in a picture twice as wide, cut out.
    thing = SceneObject("flower", Texture("dots", "green"), 0.4, (0.95, 0.1), 10)
    wide = SceneObject("flower", Texture("dots", "green", 0.05), 0.2, (0.475 + 0.25, 0.05 + 0.25), 10)
    part, whole = render(Scene((thing,), BARE), 64), render(Scene((wide,), BARE), 128)
    cut = slice(32, 96)
    assert np.array_equal(part.masks[0], whole.masks[0][cut, cut])
    np.testing.assert_allclose(part.pixels, whole.pixels[:, cut, cut], atol=1e-6)


def test_a_scene_without_objects_is_its_ground() -> None:
    drawn = render(Scene((), Texture("wood", "brown")), 16)
    assert drawn.masks.shape == (0, 16, 16)
    assert drawn.boxes.shape == (0, 4)
    assert drawn.pixels.std() > 0


# -- what differs and what does not ------------------------------------------------------------------------------------


def test_scenes_of_the_same_shape_share_the_mask_and_the_ground() -> None:
    thing = SceneObject("heart", Texture("dots", "pink"), 0.5, (0.5, 0.5), 12)
    other = replace(thing, texture=replace(thing.texture, name="zigzag"))
    ground = Texture("marble", "grey", seed=3)
    first, second = (render(Scene((each,), ground), 64) for each in (thing, other))
    assert np.array_equal(first.masks, second.masks)
    outside = ~np.pad(first.masks[0], 1)
    away = outside[1:-1, 1:-1] & outside[:-2, 1:-1] & outside[2:, 1:-1] & outside[1:-1, :-2] & outside[1:-1, 2:]
    assert np.array_equal(first.pixels[:, away], second.pixels[:, away])
    assert abs(first.pixels - second.pixels)[:, first.masks[0]].mean() > 0.05


def test_scenes_of_the_same_texture_share_the_pixels_where_both_are() -> None:
    thing = SceneObject("star", Texture("weave", "cyan"), 0.5, (0.5, 0.5), 12)
    ground = Texture("sand", "brown", seed=3)
    first, second = (render(Scene((each,), ground), 64) for each in (thing, replace(thing, shape="disc")))
    deep = [
        redness(Scene((replace(each, texture=RED),), BARE), 64) >= 1 for each in (thing, replace(thing, shape="disc"))
    ]
    both, neither = deep[0] & deep[1], ~first.masks[0] & ~second.masks[0]
    assert both.sum() > 100
    assert np.array_equal(first.pixels[:, both], second.pixels[:, both])
    assert (first.masks[0] != second.masks[0]).sum() > 100
    assert abs(first.pixels - second.pixels)[:, neither].mean() < 0.01


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_moves_with_its_object(name: str) -> None:
    thing = SceneObject("square", Texture(name, "purple", seed=5), 0.3, (0.25, 0.375), 30)
    moved = replace(thing, centre=(0.25 + 16 / 64, 0.375 + 8 / 64))
    first, second = (render(Scene((each,), BARE), 64) for each in (thing, moved))
    assert np.array_equal(first.masks[0], np.roll(second.masks[0], (-8, -16), (0, 1)))
    here = first.masks[0]
    there = np.roll(here, (8, 16), (0, 1))
    np.testing.assert_allclose(first.pixels[:, here], second.pixels[:, there], atol=1e-5)


def test_a_texture_turns_with_its_object() -> None:
    thing = SceneObject("square", Texture("stripes", "purple"), 0.4, (0.5, 0.5))
    upright, lying = (render(Scene((replace(thing, angle=angle),), BARE), 64) for angle in (0, 90))
    np.testing.assert_allclose(np.rot90(lying.pixels, 1, (1, 2)), upright.pixels, atol=1e-5)


def _spectrum(picture: NDArray[np.floating]) -> NDArray[np.floating]:
    """What a texture is however it is shifted: the sizes of its frequencies."""
    grey = picture.mean(0) - picture.mean()
    return abs(np.fft.rfft2(grey))


@pytest.mark.parametrize("kind", ["textures", "grounds"])
def test_textures_differ_from_one_another_more_than_from_themselves_elsewhere(kind: str) -> None:
    names = TEXTURES if kind == "textures" else GROUNDS

    def spectrum(name: str, seed: int) -> NDArray[np.floating]:
        thing = SceneObject("square", Texture(name, "white", 0.08, seed), 2.5, (0.5, 0.5), 0)
        found = _spectrum(render(Scene((thing,), BARE), 96).pixels)
        # Coarse enough that a seed is averaged out.
        return np.sqrt(found[:48].reshape(8, 6, -1)[:, :, :48].reshape(8, 6, 8, 6).mean((1, 3)))

    found = {name: [spectrum(name, seed) for seed in range(3)] for name in names}
    for name, other in itertools.combinations(names, 2):
        within = max(np.linalg.norm(a - b) for each in (name, other) for a, b in itertools.combinations(found[each], 2))
        between = min(np.linalg.norm(a - b) for a in found[name] for b in found[other])
        assert between > 1.2 * within, (name, other)


def test_no_two_shapes_are_alike_however_they_are_turned() -> None:
    angles = range(0, 360, 10)
    masks = {shape: np.array([render(one(shape, 0.45, angle), 48).masks[0] for angle in angles]) for shape in SHAPES}
    for shape, other in itertools.permutations(SHAPES, 2):
        both, either = masks[shape][0] & masks[other], masks[shape][0] | masks[other]
        assert max(both.sum((1, 2)) / either.sum((1, 2))) < 0.9, (shape, other)


@pytest.mark.parametrize("name", COLOURS)
def test_a_plain_object_has_its_colour(name: str) -> None:
    thing = SceneObject("square", Texture("plain", name), 0.5, (0.5, 0.5))
    colour = render(Scene((thing,), BARE), 32).pixels[:, 16, 16]
    assert colour == pytest.approx(COLOURS[name], abs=1e-6)


def test_colours_differ() -> None:
    for colour, other in itertools.combinations(COLOURS.values(), 2):
        assert np.linalg.norm(np.subtract(colour, other)) > 0.2


# -- the data set ------------------------------------------------------------------------------------------------------


def test_a_picture_is_the_same_whatever_was_asked_for_before() -> None:
    first, second = (Scenes(20, objects=(1, 4), seed=7) for _ in range(2))
    backwards = {index: second[index] for index in reversed(range(20))}
    np.random.seed(3)
    state = np.random.get_state()[1].copy()
    for index in range(20):
        for one_way, other_way in zip(first[index], backwards[index], strict=True):
            assert torch.equal(one_way, other_way)
    assert np.array_equal(state, np.random.get_state()[1])


def test_pictures_and_seeds_differ_and_count_does_not_matter() -> None:
    scenes = [Scenes(4, seed=0).scene(index) for index in range(4)]
    assert len(set(scenes)) == 4
    assert Scenes(4, seed=1).scene(0) not in scenes
    assert Scenes(10**9, seed=0).scene(3) == scenes[3]
    assert Scenes(4, seed=0, size=200).scene(3) == scenes[3]


def test_a_known_scene_stays_as_it_is() -> None:
    """Whoever trained on a seed gets the same pictures from the next version."""
    scene = Scenes(1, seed=0, objects=2).scene(0)
    assert [(thing.shape, thing.texture.name, thing.texture.colour) for thing in scene.objects] == KNOWN_OBJECTS
    pixels = render(scene, 64).pixels
    assert pixels.mean((1, 2)) == pytest.approx(KNOWN_MEAN, abs=1e-4)


KNOWN_OBJECTS = [("arrow", "dots", "green"), ("crescent", "plain", "red")]
KNOWN_MEAN = [0.61186, 0.55487, 0.33998]


def test_items_are_in_range_and_of_their_types() -> None:
    for item in (Scenes(30, size=40, objects=(1, 4))[index] for index in range(30)):
        assert item.picture.shape == (3, 40, 40)
        assert item.picture.dtype == torch.float32
        assert item.picture.min() >= 0
        assert item.picture.max() <= 1
        assert item.masks.dtype == torch.bool
        assert item.masks.sum(0).max() == 1
        assert item.boxes.dtype == item.labels.dtype == torch.int64
        assert item.label == item.labels[0]


def test_objects_lie_whole_and_apart_and_the_largest_is_first() -> None:
    data = Scenes(40, size=64, objects=(2, 6), sizes=(0.1, 0.6))
    counts = set()
    for index in range(40):
        scene = data.scene(index)
        counts.add(len(scene.objects))
        sizes = [thing.size for thing in scene.objects]
        assert sizes == sorted(sizes, reverse=True)
        joint = render(scene, 64).masks
        for thing, mask in zip(scene.objects, joint, strict=True):
            alone = replace(thing, centre=(0.5 * thing.centre[0] + 0.25, 0.5 * thing.centre[1] + 0.25))
            whole = render(Scene((replace(alone, size=thing.size / 2),), BARE), 128).masks[0]
            assert mask.sum() == whole.sum()
    assert counts == {2, 3, 4, 5, 6}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_too_large_for_the_picture_is_drawn_as_large_as_it_fits(shape: str) -> None:
    data = Scenes(5, size=64, sizes=(1.5, 2.0), shapes=(shape,))
    for index in range(5):
        (thing,) = data.scene(index).objects
        assert thing.reach == pytest.approx(0.5)
        assert thing.centre == pytest.approx((0.5, 0.5))
        left, top, right, bottom = data[index].boxes[0].tolist()
        # Upright it is least: a square, which reaches to its corners.
        assert min(right - left, bottom - top) >= 64 * 0.5


def test_classes_are_what_they_are_said_to_be() -> None:
    by_shape = Scenes(60, classes="shape", objects=(1, 3))
    assert by_shape.names == SHAPES
    by_both = Scenes(
        60, classes=("shape", "texture"), objects=(1, 3), shapes=("disc", "star"), textures=("dots", "grid")
    )
    assert by_both.names == ("dots disc", "dots star", "grid disc", "grid star")
    for data in (by_shape, by_both, Scenes(60, classes="colour", objects=(1, 3))):
        for index in range(60):
            labels, things = data[index].labels.tolist(), data.scene(index).objects
            assert len(set(labels)) == len(labels)
            for label, thing in zip(labels, things, strict=True):
                words = {"shape": thing.shape, "texture": thing.texture.name, "colour": thing.texture.colour}
                assert data.names[label] == " ".join(words[attribute] for attribute in data.classes)


def test_a_class_tells_nothing_of_the_rest() -> None:
    """By a χ² test for each pair: only the class's own attribute goes with it, and every class comes as often."""
    from scipy.stats import chi2_contingency, chisquare

    data = Scenes(800, classes="shape")
    labels, rest = [], []
    for index in range(800):
        scene = data.scene(index)
        (thing,) = scene.objects
        labels.append(data.label_of(thing))
        size = int(np.digitize(thing.size, [0.3, 0.35]))
        rest.append((thing.texture.name, thing.texture.colour, scene.ground.name, scene.ground.colour, size))
    assert chisquare(np.bincount(labels, minlength=len(data.names))).pvalue > 0.001
    for column in list(zip(*rest, strict=True))[:4]:
        names = sorted(set(column))
        table = np.zeros((len(data.names), len(names)))
        np.add.at(table, (labels, [names.index(word) for word in column]), 1)
        assert chi2_contingency(table).pvalue > 0.001


def test_the_ground_has_neither_texture_nor_colour_of_an_object() -> None:
    data = Scenes(60, objects=(1, 4))
    for index in range(60):
        scene = data.scene(index)
        assert scene.ground.name in GROUNDS
        assert scene.ground.colour not in {thing.texture.colour for thing in scene.objects}
    assert not set(GROUNDS) & set(TEXTURES)
    # Where there is nothing else to choose, the ground has an object's colour after all.
    assert Scenes(1, colours=("red",), ground_colours=("red",)).scene(0).ground.colour == "red"
    greys = Scenes(60, ground_colours=("grey", "black"))
    assert {greys.scene(index).ground.colour for index in range(60)} == {"grey", "black"}


def test_every_option_bites() -> None:
    plain = Scenes(30)
    assert {thing.shape for index in range(30) for thing in Scenes(30, shapes=("star",)).scene(index).objects} == {
        "star"
    }
    for options in (
        {"textures": ("dots",)},
        {"colours": ("red",)},
        {"grounds": ("wood",)},
        {"ground_colours": ("grey", "black")},
        {"sizes": (0.2, 0.2)},
        {"periods": (0.2, 0.2)},
        {"turn": 0},
        {"objects": 2},
        {"classes": "texture"},
    ):
        assert any(Scenes(30, **options).scene(index) != plain.scene(index) for index in range(30)), options
    small = Scenes(30, sizes=(0.2, 0.2), periods=(0.3, 0.3), turn=0).scene(0)
    assert (small.objects[0].size, small.objects[0].texture.period, small.objects[0].angle) == (0.2, 0.3, 0)
    assert small.ground.period == 0.3


def test_pictures_make_batches_and_survive_workers() -> None:
    data = Scenes(6, size=32, objects=2)
    batch = next(iter(DataLoader(data, batch_size=6)))
    assert batch.picture.shape == (6, 3, 32, 32)
    assert batch.masks.shape == (6, 2, 32, 32)
    assert torch.equal(batch.labels[4], data[4].labels)
    assert len(list(data)) == 6


@pytest.mark.parametrize("index", [-1, 5])
def test_pictures_beyond_the_last_are_refused(index: int) -> None:
    with pytest.raises(IndexError, match="numbered from 0 to 4"):
        Scenes(5)[index]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SceneObject("blob", RED, 0.5, (0.5, 0.5)), "no shape 'blob'; there are disc"),
        (lambda: SceneObject("disc", RED, 0.0, (0.5, 0.5)), "size of an object is a share"),
        (lambda: SceneObject("disc", RED, float("nan"), (0.5, 0.5)), "size of an object is a share"),
        (lambda: SceneObject("disc", RED, 0.5, (float("nan"), 0.5)), "the centre and angle of an object are finite"),
        (lambda: Texture("tartan", "red"), "no texture 'tartan'; there are plain"),
        (lambda: Texture("dots", "mauve"), "no colour 'mauve'; there are red"),
        (lambda: Texture("dots", "red", -1.0), "period of a texture is a share"),
        (lambda: render(Scene((), BARE), 0), "from 1 to 4096, not 0"),
        (lambda: render(Scene((), BARE), MAX_SIZE + 1), "from 1 to 4096, not 4097"),
        (lambda: Scenes(-1), "count and seed are whole numbers from 0, not -1 and 0"),
        (lambda: Scenes(1, seed=-2), "count and seed are whole numbers from 0, not 1 and -2"),
        (lambda: Scenes(1, classes="size"), "a class is made of colour, texture, shape"),
        (lambda: Scenes(1, classes=()), "a class is made of colour, texture, shape"),
        (lambda: Scenes(1, objects=0), "objects are a number from 1"),
        (lambda: Scenes(1, objects=(3, 2)), "objects are a number from 1"),
        (lambda: Scenes(1, objects=13), "13 objects of different classes are asked for, but there are 12 classes"),
        (lambda: Scenes(1, sizes=(0.5, 0.2)), "sizes are the least and the greatest"),
        (lambda: Scenes(1, periods=(0.0, 0.2)), "periods are the least and the greatest"),
        (lambda: Scenes(1, shapes=()), "no shape to draw from"),
        (lambda: Scenes(1, shapes=("disc", "blob")), "no shape 'blob'"),
        (lambda: Scenes(1, grounds=("lava",)), "no ground 'lava'"),
        (lambda: Scenes(1, ground_colours=("mauve",)), "no ground colour 'mauve'"),
    ],
)
def test_what_cannot_be_drawn_gets_one_sentence(make: object, said: str) -> None:
    with pytest.raises(vv.InputError, match=said.replace("(", r"\(")):
        make()  # type: ignore[operator]


def test_a_digest_is_of_the_description_and_not_of_the_count():
    first = SceneDataset(Scenes(3, size=20)).digest
    assert SceneDataset(Scenes(9, size=20)).digest == first
    others = ({"seed": 1}, {"size": 21}, {"objects": 2}, {"turn": 90}, {"classes": "texture"}, {"grounds": ["sand"]})
    assert len({first, *(SceneDataset(Scenes(3, **({"size": 20} | each))).digest for each in others)}) == 7

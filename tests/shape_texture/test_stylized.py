"""Pairs of a folder of stylised images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from visavis.errors import InputError
from visavis.shape_texture.pairs import FACTORS
from visavis.shape_texture.stylized import StylizedPairs

# Photographs with their classes; names have underscores of their own.
PHOTOGRAPHS = {"2008_000008": 13, "2008_000033": 13, "2009_1_2": 15, "x": 1}
TEXTURES = ("0", "2", "11")


def colour_of(texture: str, image: str) -> tuple[int, int, int]:
    """Return a colour that tells both: red the texture, green the photograph; blue always 255."""
    return 20 * TEXTURES.index(texture) + 10, 50 * list(PHOTOGRAPHS).index(image) + 20, 255


def write(folder: Path, name: str, colour: tuple[int, int, int] = (1, 2, 3), size: int = 32) -> None:
    PIL.Image.new("RGB", (size, size), colour).save(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "stylized"
    place.mkdir()
    for texture in TEXTURES:
        for image, label in PHOTOGRAPHS.items():
            write(place, f"{texture}_{label}_{image}.png", colour_of(texture, image))
    (place / ".DS_Store").write_text("hidden")
    return place


def test_what_there_is_is_said(folder: Path) -> None:
    pairs = StylizedPairs(folder, 5)
    assert pairs.textures == TEXTURES
    assert pairs.classes == ("1", "13", "15")
    assert pairs.images == 4
    assert pairs.name == "12 stylised images: 4 photographs of 3 classes in the textures 0, 2, 11"
    assert pairs.count("shape") == pairs.count("texture") == 5


def test_every_pair_carries_its_factor_and_differs_in_the_other(folder: Path) -> None:
    pairs = StylizedPairs(folder, 60, seed=3)
    for index in range(60):
        shape, texture = pairs.drawn("shape", index), pairs.drawn("texture", index)
        assert (shape.factor, texture.factor) == FACTORS
        assert shape.first.image == shape.second.image
        assert shape.first.texture != shape.second.texture
        assert texture.first.texture == texture.second.texture
        assert texture.first.label != texture.second.label
        assert texture.first.image != texture.second.image


def test_each_image_has_its_turn_and_all_textures_occur(folder: Path) -> None:
    pairs = StylizedPairs(folder, 48)
    photographs = Counter(pairs.drawn("shape", index).first.image for index in range(48))
    assert set(photographs.values()) == {12}
    firsts = Counter(pairs.drawn("texture", index).first.file for index in range(48))
    assert len(firsts) == 12
    assert set(firsts.values()) == {4}
    both = {pairs.drawn("shape", index).second.texture for index in range(48)}
    assert both == set(TEXTURES)


def test_images_are_red_green_and_blue_of_the_files_drawn(folder: Path) -> None:
    pairs = StylizedPairs(folder, 6, size=28)
    for factor in FACTORS:
        for index in range(6):
            drawn = pairs.drawn(factor, index)
            for image, one in zip(pairs.pair(factor, index), (drawn.first, drawn.second), strict=True):
                expected = torch.tensor(colour_of(one.texture, one.image)) / 255
                assert one.file == f"{one.texture}_{one.label}_{one.image}.png"
                assert one.label == str(PHOTOGRAPHS[one.image])
                assert torch.allclose(image, expected.view(3, 1, 1).expand(3, 28, 28), atol=1e-6)


def test_images_are_cropped_as_imagenets(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[4:60, 4:60] = np.random.default_rng(0).integers(1, 256, (56, 56, 3))
    for name in ("1_1_a", "2_1_a", "1_2_b", "2_2_b"):
        PIL.Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    image, _ = StylizedPairs(tmp_path, 1, size=56).pair("shape", 0)
    assert torch.allclose(image, torch.from_numpy(pixels[4:60, 4:60]).permute(2, 0, 1) / 255)


def test_pairs_are_the_same_whatever_else_is_asked_for(folder: Path) -> None:
    few, many = StylizedPairs(folder, 3, seed=5), StylizedPairs(folder, 50, seed=5)
    for factor in FACTORS:
        assert [few.drawn(factor, index) for index in (2, 0)] == [many.drawn(factor, index) for index in (2, 0)]
    other = StylizedPairs(folder, 50, seed=6)
    assert any(many.drawn("shape", index) != other.drawn("shape", index) for index in range(50))


def test_a_photograph_of_two_classes_is_no_pair_with_itself(tmp_path: Path) -> None:
    for name in ("1_1_a.png", "1_2_a.jpg", "1_2_b.jpeg", "2_2_b.png"):
        write(tmp_path, name)
    pairs = StylizedPairs(tmp_path, 8)
    found = {frozenset((pair.first.file, pair.second.file)) for pair in (pairs.drawn("texture", i) for i in range(8))}
    assert found == {frozenset(("1_1_a.png", "1_2_b.jpeg"))}


@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        "1_15.png",
        "1_15_.png",
        "_15_x.png",
        "1__x.png",
        "1_15_x.gif",
        "Thumbs.db",
    ],
)
def test_names_that_do_not_fit_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=f"has '{name}', but files TEXTURE_CLASS_IMAGE"):
        StylizedPairs(folder, 2)


def test_textures_and_classes_may_be_words(tmp_path: Path) -> None:
    """The photograph alone may have underscores; numbers come before words, in their order."""
    for name in ("checker_disc_0", "dots_disc_0", "checker_ring_a_b", "dots_ring_a_b", "10_21_0", "9_0_0"):
        write(tmp_path, f"{name}.png")
    pairs = StylizedPairs(tmp_path, 40)
    assert pairs.textures == ("9", "10", "checker", "dots")
    assert pairs.classes == ("0", "21", "disc", "ring")
    assert pairs.images == 4
    shape = {frozenset((pair.first.file, pair.second.file)) for pair in (pairs.drawn("shape", i) for i in range(40))}
    assert shape == {
        frozenset(("checker_disc_0.png", "dots_disc_0.png")),
        frozenset(("checker_ring_a_b.png", "dots_ring_a_b.png")),
    }
    texture = [pairs.drawn("texture", index) for index in range(40)]
    assert {frozenset((pair.first.file, pair.second.file)) for pair in texture} == {
        frozenset(("checker_disc_0.png", "checker_ring_a_b.png")),
        frozenset(("dots_disc_0.png", "dots_ring_a_b.png")),
    }
    assert {(one.label, one.image) for pair in texture for one in (pair.first, pair.second)} == {
        ("disc", "0"),
        ("ring", "a_b"),
    }


def test_words_are_compared_letter_by_letter(tmp_path: Path) -> None:
    for name in ("Wool_cat_0", "wool_cat_0", "wool_Cat_1"):
        write(tmp_path, f"{name}.png")
    pairs = StylizedPairs(tmp_path, 1)
    assert pairs.textures == ("Wool", "wool")
    assert pairs.classes == ("Cat", "cat")


@pytest.mark.parametrize(
    ("name", "said"), [("00_1_x", "texture as '0' and"), ("0_013_y", "class as '013' and as '13'")]
)
def test_a_number_in_two_ways_is_refused(folder: Path, name: str, said: str) -> None:
    write(folder, f"{name}.png")
    with pytest.raises(InputError, match=f"has one {said}"):
        StylizedPairs(folder, 2)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("count", [1, 7, 200])
def test_distinct_pairs_are_those_of_a_slow_count(folder: Path, count: int, seed: int) -> None:
    pairs = StylizedPairs(folder, count, seed=seed)
    for factor in FACTORS:
        seen: list[tuple[str, str]] = []
        for index in range(count):
            drawn = pairs.drawn(factor, index)
            one, other = drawn.first.file, drawn.second.file
            if (one, other) not in seen and (other, one) not in seen:
                seen.append((one, other))
        assert pairs.distinct(factor) == len(seen)
    if count == 200:
        # Of 4 photographs in 3 textures; and of 4 photographs, two of which are of one class, in 3 textures.
        assert (pairs.distinct("shape"), pairs.distinct("texture")) == (4 * 3, 3 * 5)


def test_the_first_name_that_does_not_fit_is_named(folder: Path) -> None:
    for name in ("zzz.txt", "aaa.txt"):
        (folder / name).write_text("")
    with pytest.raises(InputError, match=r"'aaa\.txt'"):
        StylizedPairs(folder, 2)


def test_folders_without_such_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        StylizedPairs(tmp_path / "none", 2)
    with pytest.raises(InputError, match=r"no stylised images .* it is empty"):
        StylizedPairs(tmp_path, 2)
    write(tmp_path, "1_1_a.png")
    write(tmp_path, "1_2_b.png")
    with pytest.raises(InputError, match="no photograph in two textures, but 2 stylised images"):
        StylizedPairs(tmp_path, 2)
    write(tmp_path, "2_2_b.png")
    (tmp_path / "1_1_a.png").unlink()
    with pytest.raises(InputError, match="no texture with photographs of two classes"):
        StylizedPairs(tmp_path, 2)
    write(tmp_path, "2_1_b.png")
    with pytest.raises(InputError, match="no texture with photographs of two classes"):
        StylizedPairs(tmp_path, 2)


def test_numbers_and_twins_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="0 pairs were asked for"):
        StylizedPairs(folder, 0)
    with pytest.raises(InputError, match="a side of 1 to"):
        StylizedPairs(folder, 1, size=0)
    drawn = getattr(StylizedPairs.drawn, "__wrapped__", StylizedPairs.drawn)
    with pytest.raises(InputError, match="the factor is 'colour'"):
        drawn(StylizedPairs(folder, 2), "colour", 0)
    with pytest.raises(IndexError, match="no pair 2"):
        StylizedPairs(folder, 2).pair("shape", 2)
    write(folder, "0_1_x.jpg")
    with pytest.raises(InputError, match=r"one image as '0_1_x\.jpg' and as '0_1_x\.png'"):
        StylizedPairs(folder, 2)


def test_links_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    write(tmp_path, "secret.png")
    for texture in TEXTURES:
        (folder / f"{texture}_13_2008_000008.png").unlink()
        (folder / f"{texture}_13_2008_000008.png").symlink_to(tmp_path / "secret.png")
    pairs = StylizedPairs(folder, 4)
    place = next(i for i in range(4) if pairs.drawn("shape", i).first.image == "2008_000008")
    with pytest.raises(InputError, match="a link that leads out"):
        pairs.pair("shape", place)

"""Where pairs come from, by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from visavis.datasets import Scenes, open_dataset
from visavis.errors import InputError, ModelError
from visavis.shape_texture import sources
from visavis.shape_texture.pairs import FACTORS, Pairs, ScenePairs
from visavis.shape_texture.quilting import Quilting
from visavis.shape_texture.sources import PairSource, check_pairs, open_pairs, pair_sources, register_pairs
from visavis.shape_texture.stylized import StylizedPairs
from visavis.shape_texture.transferred import TransferPairs

DATA = "scenes?count=6&size=64&seed=3"


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    folder = tmp_path / "te&xtures"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


def same(one: Pairs, other: Pairs) -> bool:
    return all(
        torch.equal(a, b) for factor in FACTORS for a, b in zip(one.pair(factor, 0), other.pair(factor, 0), strict=True)
    )


def test_scenes() -> None:
    expected = ScenePairs(2, scenes=Scenes(1, size=40, seed=5), seed=5)
    found = open_pairs("scenes", 2, size=40, seed=5)
    assert found.count("shape") == 2
    assert same(found, expected)
    assert not same(open_pairs("scenes", 2, size=40, seed=6), expected)


def test_stylized(tmp_path: Path) -> None:
    for number, name in enumerate(("1_1_a", "2_1_a", "1_2_b", "2_2_b")):
        PIL.Image.new("RGB", (32, 32), (50 * number, 9, 9)).save(tmp_path / f"{name}.png")
    found = open_pairs(f"stylized:{tmp_path}", 3, size=28, seed=2)
    assert found.count("texture") == 3
    assert same(found, StylizedPairs(tmp_path, 3, size=28, seed=2))


def test_pictures_with_options_of_both(textures: Path) -> None:
    data = open_dataset(DATA)
    files = sorted(textures.iterdir())
    spelled = str(textures).replace("&", "%26")
    found = open_pairs(f"pictures:{DATA}&textures={spelled}&laid=masked&block=8", 2, size=56, seed=1)
    expected = TransferPairs(data, files, 2, transfer=Quilting(block=8), masks=True, size=56, seed=1)
    assert same(found, expected)
    assert same(open_pairs(f"pictures:{DATA}", 2, size=56, seed=1), TransferPairs(data, None, 2, size=56, seed=1))
    # Each option bites.
    assert not same(open_pairs(f"pictures:{DATA}&textures={spelled}&laid=masked", 2, size=56, seed=1), expected)
    assert not same(open_pairs(f"pictures:{DATA}&textures={spelled}&block=8", 2, size=56, seed=1), expected)
    assert not same(open_pairs(f"pictures:{DATA}&laid=masked&block=8", 2, size=56, seed=1), expected)


def test_a_data_set_of_a_folder(tmp_path: Path) -> None:
    for number in range(2):
        PIL.Image.new("RGB", (64, 64), (90 * number, 9, 9)).save(tmp_path / f"{number}.png")
    (tmp_path / "classes.csv").write_text("file,label\n0.png,a\n1.png,b\n")
    pairs = open_pairs(f"pictures:folder:{tmp_path}?table=classes.csv&laid=whole", 1, size=56)
    assert isinstance(pairs, TransferPairs)
    drawn = pairs.drawn("texture", 0)
    assert {drawn.first.label, drawn.second.label} == {"a", "b"}


def test_a_source_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SOURCES", dict(sources._SOURCES))

    def opened(rest: str, count: int, size: int, seed: int) -> Pairs:
        assert (rest, size, seed) == ("here?a=b", 40, 7)
        return ScenePairs(count)

    mine = PairSource("mine", "mine:WHERE", "pairs of one's own", opened)
    assert register_pairs(mine) is mine
    assert open_pairs("mine:here?a=b", 4, size=40, seed=7).count("shape") == 4
    assert pair_sources()["mine:WHERE"] == "pairs of one's own"
    with pytest.raises(InputError, match="there is a source of pairs 'mine' already"):
        register_pairs(mine)
    with pytest.raises(InputError, match="cannot be called 'a:b'"):
        register_pairs(PairSource("a:b", "a:b", "", opened))


def test_sources_are_named() -> None:
    assert [spelling.partition(":")[0] for spelling in pair_sources()] == ["scenes", "stylized", "pictures"]
    assert all(pair_sources().values())


REFUSED = {
    "scene": "write scenes",
    "": "there is no source of pairs ''; write scenes, stylized:FOLDER, pictures:KIND:FOLDER",
    "scenes:/data": "scenes are generated",
    "stylized": "write stylized:FOLDER",
    "stylized:/nowhere/at/all": "there is no folder",
    "pictures": "write pictures:KIND:FOLDER",
    "pictures:cocoa:/data": "there is no kind of data set 'cocoa'",
    "pictures:scenes?laid=both": "cannot be 'both'; write whole or masked",
    "pictures:scenes?laid=whole&laid=whole": "'laid' is given twice",
    "pictures:scenes?textures=": "'textures' has no value",
    "pictures:scenes?textures=/nowhere/at/all": "there is no file",
    "pictures:scenes?block=large": "write a number of pixels",
    "pictures:scenes?block=2": "6 to 128 px wide",
    "pictures:scenes?encoder=a.pt": "both of them",
    "pictures:scenes?encoder=a.pt&decoder=b.pt&block=8": "no block",
    "pictures:scenes?colour=red": "has no option 'colour'",
}


@pytest.mark.parametrize("spelling", REFUSED)
def test_what_is_refused(spelling: str) -> None:
    with pytest.raises(InputError, match=REFUSED[spelling].replace("'", ".")):
        open_pairs(spelling, 2, size=56)


# What is found only when data sets and weights are opened.
LATER = ("pictures:scenes?colour=red",)


@pytest.mark.parametrize("spelling", [one for one in REFUSED if one not in LATER])
def test_what_is_refused_before_anything_is_opened(spelling: str) -> None:
    with pytest.raises(InputError, match=REFUSED[spelling].replace("'", ".")):
        check_pairs(spelling)


def test_a_check_opens_no_picture_and_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "not a picture.png").write_bytes(b"")
    for spelling in (
        "scenes",
        f"stylized:{tmp_path}",
        f"pictures:coco:/nowhere/at/all?textures={tmp_path}&laid=masked&block=9",
        "pictures:scenes?encoder=/nowhere/a.pt&decoder=/nowhere/b.pt",
    ):
        check_pairs(spelling)


def test_a_source_of_ones_own_may_have_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_SOURCES", dict(sources._SOURCES))

    def opened(rest: str, count: int, size: int, seed: int) -> Pairs:
        return ScenePairs(count)

    def refuse(rest: str) -> None:
        raise InputError(f"not {rest}")

    register_pairs(PairSource("plain", "plain", "", opened))
    register_pairs(PairSource("strict", "strict", "", opened, refuse))
    check_pairs("plain:anything")
    for ask in (check_pairs, partial(open_pairs, count=2)):
        with pytest.raises(InputError, match="not there"):
            ask("strict:there")


def test_weights_are_adains() -> None:
    with pytest.raises(ModelError, match=r"'/nowhere/vgg\.pth' does not exist"):
        open_pairs(f"pictures:{DATA}&encoder=/nowhere/vgg.pth&decoder=/nowhere/decoder.pth", 2, size=56)

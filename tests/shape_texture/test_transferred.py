"""Pairs of pictures laid out in textures: what they share, by pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from visavis.datasets.annotated import AnnotatedDataset, Annotation, Sample
from visavis.datasets.generated import Scenes
from visavis.datasets.scene_dataset import SceneDataset
from visavis.datasets.scenes import Scene, render
from visavis.datasets.textures import TEXTURES
from visavis.errors import InputError, PictureError
from visavis.shape_texture.pairs import FACTORS
from visavis.shape_texture.quilting import Quilting
from visavis.shape_texture.transferred import TransferPairs

# Of a picture of 64 px all but the outermost four are seen, and nothing is scaled.
SIDE, SEEN = 64, np.s_[4:60, 4:60]
SIZE = 56


def mixed(content: Tensor, texture: Tensor, mask: Tensor | None) -> Tensor:
    """Return a quarter of the content and three of the texture."""
    return content / 4 + 3 * texture / 4


def picture(seed: int) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def seen(one: PIL.Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(one)[SEEN].copy()).permute(2, 0, 1) / 255


def disc(x: int, y: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def thing(label: str, mask: np.ndarray | None, side: int = 20, *, crowd: bool = False) -> Annotation:
    draw = None if mask is None else partial(np.copy, mask)
    return Annotation(label, (0.0, 0.0, float(side), float(side)), crowd=crowd, draw=draw)


class Some(AnnotatedDataset):
    """Samples as they are given."""

    def __init__(self, *samples: tuple[Sequence[Annotation], str | None]) -> None:
        self.samples = [
            Sample(f"p{place}", picture(place), tuple(things), label) for place, (things, label) in enumerate(samples)
        ]
        self.name, self.classes = "some", ()

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, index: int) -> Sample:
        return self.samples[index]


@pytest.fixture
def textures(tmp_path: Path) -> list[Path]:
    """Three textures of one colour each."""
    paths = [tmp_path / f"{name}.png" for name in ("a", "b", "c")]
    for place, path in enumerate(paths):
        PIL.Image.new("RGB", (40, 50), tuple(255 if axis == place else 51 for axis in range(3))).save(path)
    return paths


def colour(name: str, textures: list[Path]) -> Tensor:
    place = [str(path) for path in textures].index(name)
    return torch.tensor([1.0 if axis == place else 0.2 for axis in range(3)]).view(3, 1, 1)


def test_whole_pairs_share_the_picture_or_the_texture(textures: list[Path]) -> None:
    data = Some(*[([], label) for label in "xxyz"])
    pairs = TransferPairs(data, textures, 12, transfer=mixed, size=SIZE)
    for factor in FACTORS:
        for index in range(12):
            drawn = pairs.drawn(factor, index)
            for image, laid in zip(pairs.pair(factor, index), (drawn.first, drawn.second), strict=True):
                own = seen(data.samples[int(laid.picture[1:])].source)
                assert_close(image, own / 4 + 3 * colour(laid.texture, textures) / 4, rtol=0, atol=1e-6)
            assert drawn.factor == factor
            assert drawn.first.ground is drawn.second.ground is None
            assert (drawn.first.picture == drawn.second.picture) == (factor == "shape")
            assert (drawn.first.texture == drawn.second.texture) == (factor == "texture")
            assert (drawn.first.label == drawn.second.label) == (factor == "shape")
    assert pairs.outlines("shape", 0) is None
    assert pairs.name == "4 pictures of some, in 3 textures everywhere"


def test_masked_pairs_of_generated_pictures_share_the_outline_alone() -> None:
    data = SceneDataset(Scenes(8, size=SIDE, seed=2, sizes=(0.35, 0.5)))
    pairs = TransferPairs(data, None, 4, masks=True, transfer=Quilting(block=8, candidates=300), size=SIZE, seed=1)
    for factor in FACTORS:
        for index in range(4):
            drawn = pairs.drawn(factor, index)
            both = pairs.pair(factor, index)
            outlines = pairs.outlines(factor, index)
            assert outlines is not None
            for image, laid, outline in zip(both, (drawn.first, drawn.second), outlines, strict=True):
                item = data.scenes[int(laid.picture.rpartition("-")[2])]
                expected = item.masks[0][SEEN]
                assert torch.equal(outline, expected)
                assert laid.ground is not None
                ground = torch.from_numpy(render(Scene((), laid.ground), SIZE).pixels)
                assert torch.equal(image[:, ~expected], ground[:, ~expected])
                assert (image != ground)[:, expected].any(0).float().mean() > 0.95
            one, other = drawn.first, drawn.second
            assert one.ground is not None
            assert other.ground is not None
            assert one.ground.name != other.ground.name
            assert one.ground.colour != other.ground.colour
            if factor == "shape":
                assert torch.equal(*outlines)
                assert one.texture != other.texture
                assert (both[0] != both[1]).any(0)[outlines[0]].float().mean() > 0.95
            else:
                assert not torch.equal(*outlines)
                assert one.texture == other.texture
                assert one.label != other.label
    assert pairs.name == "8 pictures of scenes:2, in 8 textures on an object each"


def test_the_transfer_is_told_of_the_mask_and_cannot_pass_it(textures: list[Path]) -> None:
    told = []

    def told_of(content: Tensor, texture: Tensor, mask: Tensor | None) -> Tensor:
        told.append(mask)
        return texture

    data = Some(([thing("x", disc(30, 30, 15))], None), ([thing("y", disc(24, 24, 15))], None))
    pairs = TransferPairs(data, textures, 1, masks=True, transfer=told_of, size=SIZE)
    drawn, both, outlines = pairs.drawn("texture", 0), pairs.pair("texture", 0), pairs.outlines("texture", 0)
    assert outlines is not None
    for image, outline, given in zip(both, outlines, told, strict=True):
        assert torch.equal(outline, given)
        assert_close(image[:, outline].mean(1), colour(drawn.first.texture, textures).flatten())


def spoiling(content: Tensor, texture: Tensor, mask: Tensor | None) -> Tensor:
    laid = mixed(content, texture, mask)
    content.zero_()
    return laid


def test_a_transfer_that_changes_what_it_is_given_changes_its_own_copy(textures: list[Path]) -> None:
    data = Some(([], None), ([], None))
    spoilt, whole = (TransferPairs(data, textures, 1, transfer=one, size=SIZE) for one in (spoiling, mixed))
    assert torch.equal(spoilt.pair("shape", 0)[1], whole.pair("shape", 0)[1])


def test_the_largest_object_with_a_mask_is_meant_and_its_class(textures: list[Path]) -> None:
    large, small = disc(30, 30, 16), disc(20, 20, 12)
    things = [
        thing("small", small, 24),
        thing("crowd", disc(32, 32, 20), 40, crowd=True),
        thing("box", None, 50),
        thing("large", large, 32),
    ]
    data = Some((things, "whole"), (things, "whole"), ([thing("other", small)], None))
    masked = TransferPairs(data, textures, 6, masks=True, transfer=mixed, size=SIZE)
    whole = TransferPairs(data, textures, 6, transfer=mixed, size=SIZE)
    for index in range(6):
        for pairs, label in ((masked, "large"), (whole, "whole")):
            drawn = pairs.drawn("texture", index)
            assert {drawn.first.label, drawn.second.label} == {label, "other"}
        outlines, drawn = masked.outlines("shape", index), masked.drawn("shape", index)
        assert outlines is not None
        expected = large if drawn.first.label == "large" else small
        assert torch.equal(outlines[0], torch.from_numpy(expected[SEEN].copy()))
    boxes = Some(([thing("little", None, 5), thing("big", None, 9)], None), ([thing("third", None)], None))
    drawn = TransferPairs(boxes, textures, 1, transfer=mixed, size=SIZE).drawn("texture", 0)
    assert {drawn.first.label, drawn.second.label} == {"big", "third"}


def test_pictures_without_an_object_to_show_are_passed_over(textures: list[Path]) -> None:
    data = Some(
        ([thing("speck", disc(30, 30, 5))], None),
        ([thing("all", np.ones((SIDE, SIDE), dtype=bool))], None),
        ([thing("none", None)], None),
        ([], "nothing"),
        ([thing("x", disc(30, 30, 15))], None),
        ([thing("y", disc(24, 24, 15))], None),
    )
    pairs = TransferPairs(data, textures, 12, masks=True, transfer=mixed, size=SIZE)
    for factor in FACTORS:
        drawn = [pairs.drawn(factor, index) for index in range(12)]
        assert {one.label for pair in drawn for one in (pair.first, pair.second)} == {"x", "y"}
    whole = TransferPairs(data, textures, 12, transfer=mixed, size=SIZE)
    assert len({whole.drawn("shape", index).first.picture for index in range(12)}) == 6


def test_a_list_of_pictures_with_masks_of_their_own(tmp_path: Path, textures: list[Path]) -> None:
    files, masks = [], [disc(30, 30, 15), disc(24, 34, 14)]
    for place in range(2):
        files.append(tmp_path / f"{place}.png")
        picture(place).save(files[-1])
    drawn = [PIL.Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)) for mask in masks]
    pairs = TransferPairs(files, textures, 4, masks=drawn, transfer=mixed, size=SIZE)
    for index in range(4):
        laid = pairs.drawn("texture", index)
        assert {laid.first.picture, laid.second.picture} == {f"{place}: {file}" for place, file in enumerate(files)}
        assert laid.first.label is None
        outlines = pairs.outlines("texture", index)
        assert outlines is not None
        for outline, one in zip(outlines, (laid.first, laid.second), strict=True):
            assert torch.equal(outline, torch.from_numpy(masks[int(one.picture[0])][SEEN].copy()))
    in_memory = TransferPairs([picture(0), np.asarray(picture(1))], textures, 1, transfer=mixed, size=SIZE)
    assert {one.shape for one in in_memory.pair("texture", 0)} == {(3, SIZE, SIZE)}


def test_each_picture_has_its_turn_and_pairs_are_the_same_again(textures: list[Path]) -> None:
    data = Some(*[([], label) for label in "wxyz"])
    few, many = (TransferPairs(data, textures, count, transfer=mixed, size=SIZE, seed=4) for count in (2, 40))
    for factor in FACTORS:
        assert [few.drawn(factor, index) for index in (1, 0)] == [many.drawn(factor, index) for index in (1, 0)]
        assert all(torch.equal(a, b) for a, b in zip(few.pair(factor, 1), many.pair(factor, 1), strict=True))
        firsts = Counter(many.drawn(factor, index).first.picture for index in range(40))
        assert set(firsts.values()) == {10}
        assert {many.drawn(factor, index).second.texture for index in range(40)} == {str(path) for path in textures}
    other = TransferPairs(data, textures, 40, transfer=mixed, size=SIZE, seed=5)
    assert any(many.drawn("shape", index) != other.drawn("shape", index) for index in range(40))


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("count", [1, 9, 80])
def test_distinct_pairs_are_those_of_a_slow_count(textures: list[Path], count: int, masks: bool) -> None:
    """Grounds of masked pairs do not count."""
    data = Some(
        *[([thing(label, disc(30, 30, radius))], None) for label, radius in zip("xxyz", (15, 14, 13, 3), strict=True)]
    )
    pairs = TransferPairs(data, textures, count, masks=masks, transfer=mixed, size=SIZE, seed=2)
    for factor in FACTORS:
        seen: list[set[tuple[str, str]]] = []
        for index in range(count):
            drawn = pairs.drawn(factor, index)
            both = {(one.picture, one.texture) for one in (drawn.first, drawn.second)}
            assert len(both) == 2
            if both not in seen:
                seen.append(both)
        assert pairs.distinct(factor) == len(seen)
    if count == 80:
        # In 3 textures: 4 pictures, or 3 of which the mask is large enough; two are of one class.
        expected = (3 * 3, 3 * 2) if masks else (4 * 3, 3 * 5)
        assert (pairs.distinct("shape"), pairs.distinct("texture")) == expected


def test_distinct_pairs_are_counted_without_a_transfer_and_pictures_read_once(textures: list[Path]) -> None:
    read = []

    def drawing(place: int) -> np.ndarray:
        read.append(place)
        return disc(30, 30, 15)

    def never(content: Tensor, texture: Tensor, mask: Tensor | None) -> Tensor:
        raise AssertionError

    boxes = [Annotation(label, (0.0, 0.0, 9.0, 9.0), draw=partial(drawing, i)) for i, label in enumerate("xyz")]
    data = Some(*[([box], None) for box in boxes])
    pairs = TransferPairs(data, textures, 50, masks=True, transfer=never, size=SIZE)
    assert (pairs.distinct("shape"), pairs.distinct("texture")) == (9, 9)
    assert sorted(read) == [0, 1, 2]
    unread = TransferPairs([Path(f"/nowhere/{place}.png") for place in range(3)], textures, 50, size=SIZE)
    assert unread.distinct("shape") == 9


def test_what_is_around_an_object_shows_nowhere_in_a_masked_pair() -> None:
    """Pictures that are alike in their masks make the same pairs, whatever is around."""
    masks = [disc(30, 30, 15), disc(24, 34, 14)]
    drawn = [PIL.Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)) for mask in masks]
    made = []
    for around in (0, 255, 90):
        pixels = [np.where(mask[..., None], np.asarray(picture(i)), around) for i, mask in enumerate(masks)]
        pictures = [PIL.Image.fromarray(one.astype(np.uint8)) for one in pixels]
        quilting = Quilting(block=8, candidates=200)
        pairs = TransferPairs(pictures, None, 2, masks=drawn, transfer=quilting, size=SIZE, seed=3)
        made.append([image for factor in FACTORS for index in range(2) for image in pairs.pair(factor, index)])
    for first, *others in zip(*made, strict=True):
        assert all(torch.equal(first, other) for other in others)


def test_generated_textures_fill_the_image_each_in_a_colour_of_its_own() -> None:
    returned: list[Tensor] = []

    def keep(content: Tensor, texture: Tensor, mask: Tensor | None) -> Tensor:
        returned.append(texture)
        return texture

    pairs = TransferPairs([picture(0), picture(1)], None, 40, transfer=keep, size=SIZE)
    by_name = {}
    for index in range(40):
        first, _ = pairs.pair("texture", index)
        by_name[pairs.drawn("texture", index).first.texture] = first
    assert set(by_name) == set(pairs.textures) == set(TEXTURES) - {"plain", "patches"}
    hues = set()
    for texture in by_name.values():
        assert texture.shape == (3, SIZE, SIZE)
        # Two tones at least in each quarter: no edge of an object, and no ground.
        assert all(part.std() > 0.03 for half in texture.chunk(2, 1) for part in half.chunk(2, 2))
        mean = texture.mean((1, 2))
        hues.add(tuple((mean / mean.max() * 10).round().tolist()))
    assert len(hues) == len(by_name)


def test_quilting_is_the_default() -> None:
    pictures = [picture(0), picture(1)]
    plain = TransferPairs(pictures, None, 1, size=SIZE)
    named = TransferPairs(pictures, None, 1, size=SIZE, transfer=Quilting())
    other = TransferPairs(pictures, None, 1, size=SIZE, transfer=Quilting(block=8))
    assert torch.equal(plain.pair("shape", 0)[0], named.pair("shape", 0)[0])
    assert not torch.equal(plain.pair("shape", 0)[0], other.pair("shape", 0)[0])


def test_what_cannot_be_pairs_is_refused(textures: list[Path]) -> None:
    data = Some(([], "x"), ([], "x"))
    with pytest.raises(InputError, match="there are 2 and 1"):
        TransferPairs(data, textures[:1], 2)
    with pytest.raises(InputError, match="there are 1 and 3"):
        TransferPairs([picture(0)], textures, 2)
    with pytest.raises(InputError, match=r"a\.png' is named twice"):
        TransferPairs(data, [*textures, textures[0]], 2)
    with pytest.raises(InputError, match="1 masks for 2 pictures"):
        TransferPairs(data, textures, 2, masks=[picture(0)])
    with pytest.raises(InputError, match="0 pairs were asked for"):
        TransferPairs(data, textures, 0)
    with pytest.raises(InputError, match="the seed is a whole number from 0"):
        TransferPairs(data, textures, 1, seed=-1)
    pairs = TransferPairs(data, textures, 2, transfer=mixed, size=SIZE)
    chosen = getattr(TransferPairs._chosen, "__wrapped__", TransferPairs._chosen)
    with pytest.raises(InputError, match="the factor is 'colour'"):
        chosen(pairs, "colour", 0)
    with pytest.raises(IndexError, match="no pair 2"):
        pairs.pair("shape", 2)
    with pytest.raises(InputError, match=r"can share a texture with 'p[01]' \(x\)"):
        pairs.pair("texture", 0)
    with pytest.raises(InputError, match="none of the 2 pictures of some has an object with a mask that covers 5% to"):
        TransferPairs(data, textures, 2, masks=True, size=SIZE).pair("shape", 0)
    masks = [PIL.Image.new("L", (32, 32), 255)] * 2
    with pytest.raises(InputError, match="is of 32 x 32 pixels, but the picture of 64 x 64"):
        TransferPairs(data, textures, 2, masks=masks, size=SIZE).pair("shape", 0)
    with pytest.raises(PictureError, match="there is no file 'dotz'"):
        TransferPairs(data, ["dots", "dotz"], 1, size=SIZE).pair("shape", 0)


def larger(content: Tensor, texture: Tensor, mask: Tensor | None) -> Tensor:
    return torch.zeros(3, 80, 80)


def brighter(content: Tensor, texture: Tensor, mask: Tensor | None) -> Tensor:
    return content + 1


def unknown(content: Tensor, texture: Tensor, mask: Tensor | None) -> Tensor:
    return content * torch.nan


@pytest.mark.parametrize("transfer", [larger, brighter, unknown])
def test_what_a_transfer_returns_is_checked(transfer: object, textures: list[Path]) -> None:
    pairs = TransferPairs(Some(([], None), ([], None)), textures, 1, transfer=transfer, size=SIZE)
    with pytest.raises(InputError, match="the transfer returned"):
        pairs.pair("shape", 0)

"""Boxes and masks go along with pictures through any preprocessing that resizes and crops.

The oracle knows nothing of placements: a bright stripe on a dark ground goes through the preprocessing, and where its
brightness lies in the result is where the edges of the box have to be. Black and white themselves would not do: what an
interpolation overshoots would be cut off.
"""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import timm.data
import torch
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode, functional

from visavis.datasets import Placement, placement_of
from visavis.datasets.placement import _placement
from visavis.errors import InputError
from visavis.models.preprocessing import CentreCrop

Preprocess = Callable[[PIL.Image.Image], Tensor]
Resampling = PIL.Image.Resampling


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Pictures are so small that a second thread on a busy machine costs more than it brings."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def squash(width: int, height: int, resampling: Resampling = Resampling.BICUBIC) -> Preprocess:
    """To one size, whatever the aspect, as Hugging Face's image processors do."""
    return lambda picture: functional.to_tensor(picture.resize((width, height), resampling))


def letterbox(picture: PIL.Image.Image) -> Tensor:
    """The whole picture in the middle of a square of 224 pixels, with a margin of ten."""
    fitted = PIL.ImageOps.contain(picture, (204, 204), Resampling.BILINEAR)
    square = PIL.Image.new("RGB", (224, 224), (120, 90, 30))
    square.paste(fitted, ((224 - fitted.width) // 2, (224 - fitted.height) // 2))
    return functional.to_tensor(square)


def padded_first(picture: PIL.Image.Image) -> Tensor:
    """Padded to a square, and then resized with an interpolation that overshoots."""
    square = PIL.ImageOps.pad(picture, (max(picture.size), max(picture.size)))
    return functional.to_tensor(square.resize((224, 224), Resampling.LANCZOS))


def in_torch(picture: PIL.Image.Image) -> Tensor:
    """Resized as a tensor, without smoothing, then mirrored."""
    tensor = functional.resize(functional.to_tensor(picture), [256], antialias=False)
    return functional.hflip(functional.center_crop(tensor, [224]))


TIMM = timm.data.create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.9, is_training=False)
TIMM_SQUASH = timm.data.create_transform((3, 288, 288), crop_mode="squash", crop_pct=1.0, is_training=False)
TORCHVISION = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
NEAREST = transforms.Compose(
    [transforms.Resize(256, InterpolationMode.NEAREST), transforms.CenterCrop(224), transforms.ToTensor()]
)
PREPROCESSINGS = {
    "torchvision": TORCHVISION,
    "nearest": NEAREST,
    "in torch": in_torch,
    "timm": TIMM,
    "timm squash": TIMM_SQUASH,
    "centre crop": CentreCrop(299, interpolation="bicubic"),
    "crop larger than the picture": transforms.Compose(
        [transforms.Resize(200), transforms.CenterCrop(224), transforms.ToTensor()]
    ),
    "squash lanczos": squash(300, 200, Resampling.LANCZOS),
    "squash narrow": squash(37, 500, Resampling.BILINEAR),
    "letterbox": letterbox,
    "padded first": padded_first,
}
DARK, BRIGHT = 64, 192
SIZES = [(224, 224), (288, 288), (300, 200), (37, 500)]


class Landing:
    """Where boxes land: of each stripe, width and middle of its brightness, along a line that is not beside padding."""

    def __init__(self, preprocess: Preprocess, size: tuple[int, int]) -> None:
        self.preprocess, self.size = preprocess, size
        greys = (PIL.Image.new("RGB", size, (level, level, level)) for level in (DARK, BRIGHT))
        self.dark, bright = (np.asarray(preprocess(grey)) for grey in greys)
        self.span = bright - self.dark
        # Where padding ends within a pixel, the rest of it counts for its part.
        span = self.span.mean(0)
        self.part = span / np.median(span[span > span.max() / 2])
        self.stripe = functools.cache(self._stripe)

    def of(self, box: list[int]) -> list[float]:
        (x0, x1), (y0, y1) = (self.stripe(axis, box[axis], box[axis + 2]) for axis in (0, 1))
        return [x0, y0, x1, y1]

    def _stripe(self, axis: int, first: int, last: int) -> tuple[float, float]:
        values = np.full(self.size[axis], DARK, np.uint8)
        values[first:last] = BRIGHT
        grey = np.broadcast_to(values[:, None] if axis else values, self.size[::-1])
        out = np.asarray(self.preprocess(PIL.Image.fromarray(np.stack([grey] * 3, 2))))
        clear = np.abs(self.span) > 0.1
        share = np.divide(out - self.dark, self.span, out=np.zeros_like(out), where=clear).mean(0) * self.part
        lines = self.part.sum(1 - axis)
        line = np.abs(lines - np.median(lines[lines > lines.max() / 2])).argmin()
        profile = share[:, line] if axis else share[line]
        total = profile.sum()
        middle = ((np.arange(len(profile)) + 0.5) * profile).sum() / total if total > 0.5 else np.nan
        return middle - total / 2, middle + total / 2


def corner_boxes(size: tuple[int, int]) -> list[list[int]]:
    """Boxes in the corners and the middle, large ones and one of one pixel."""
    (width, height), (across, down) = size, (size[0] // 3, size[1] // 3)
    return [
        [0, 0, across, down],
        [width - across, 0, width, down],
        [0, height - down, across, height],
        [width - across, height - down, width, height],
        [across, down, width - across, height - down],
        [width // 2, height // 2, width // 2 + 1, height // 2 + 1],
    ]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_boxes_lie_where_the_picture_shows_them(name, size):
    preprocess = PREPROCESSINGS[name]
    placement = placement_of(preprocess, size)
    boxes = corner_boxes(size)
    placed, visible = placement.boxes(boxes), placement.visible(boxes)
    landing, checked = Landing(preprocess, size), 0
    for box, found, share in zip(boxes, placed.tolist(), visible.tolist(), strict=True):
        expected = landing.of(box)
        # The nearest neighbour moves an edge by up to half a pixel of the picture.
        tolerance = 0.5 + (max(map(abs, placement.scale)) / 2 if name == "nearest" else 0)
        for edge in range(4):
            if np.isfinite(expected[edge]):
                assert found[edge] == pytest.approx(expected[edge], abs=tolerance), (box, edge)
                checked += 1
        assert 0 <= share <= 1
    assert checked >= 12


def test_placements_by_arithmetic():
    """A picture of 500 × 375 becomes 341 × 256, of which 224 × 224 from (58, 16) on are kept."""
    placement = placement_of(TORCHVISION, (500, 375))
    assert placement.size == (224, 224)
    assert placement.scale == pytest.approx((341 / 500, 256 / 375), abs=1e-4)
    assert placement.offset == pytest.approx((-58, -16), abs=0.03)
    mirrored = placement_of(in_torch, (500, 375))
    assert mirrored.scale == pytest.approx((-341 / 500, 256 / 375), abs=1e-4)
    assert mirrored.offset == pytest.approx((224 + 58, -16), abs=0.03)
    boxed = placement_of(letterbox, (408, 200))
    assert boxed.scale == pytest.approx((0.5, 0.5), abs=1e-3)
    assert boxed.offset == pytest.approx((10, 62), abs=0.03)


@pytest.mark.parametrize(
    ("size", "preprocess", "scale", "offset"),
    [
        ((4000, 300), squash(224, 224), (224 / 4000, 224 / 300), (0, 0)),
        ((4000, 300), TORCHVISION, (3413 / 4000, 256 / 300), (-1594, -16)),
        ((4000, 40), NEAREST, (25600 / 4000, 6.4), (-12688, -16)),
        ((300, 4000), squash(16, 384, Resampling.LANCZOS), (16 / 300, 384 / 4000), (0, 0)),
        ((4000, 300), letterbox, (204 / 4000, 15 / 300), (10, 104)),
        # Too few pixels of the input show it for a fit: padding tells.
        ((4000, 40), letterbox, (204 / 4000, 2 / 40), (10, 111)),
        ((40, 4000), lambda picture: functional.vflip(letterbox(picture)), (2 / 40, -204 / 4000), (111, 214)),
        ((40, 4000), lambda picture: functional.hflip(letterbox(picture)), (-2 / 40, 204 / 4000), (113, 10)),
        ((8, 8), squash(224, 224, Resampling.LANCZOS), (28, 28), (0, 0)),
        ((8, 8), squash(224, 224, Resampling.NEAREST), (28, 28), (0, 0)),
        ((640, 480), squash(8, 9), (8 / 640, 9 / 480), (0, 0)),
    ],
)
def test_precision_at_the_extremes(size, preprocess, scale, offset):
    """A quarter of a pixel, of the picture or the input, at both ends of what is seen."""
    found = placement_of(preprocess, size)
    for axis in (0, 1):
        ends = np.clip((np.array([0, found.size[axis]]) - offset[axis]) / scale[axis], 0, size[axis])
        off = np.abs((found.scale[axis] - scale[axis]) * ends + found.offset[axis] - offset[axis]).max()
        assert off < 0.25 * max(1, abs(scale[axis]))


def test_values_may_be_mapped_by_a_line():
    """Grey, negated, in another order, in halves, in a batch of one, with a channel that is none."""
    plain = placement_of(squash(224, 224), (300, 200))
    resized = squash(224, 224)
    for preprocess in (
        lambda picture: resized(picture.convert("L").convert("RGB")).mean(0, keepdim=True),
        lambda picture: 3 - 2 * resized(picture),
        lambda picture: resized(picture).flip(0) * torch.tensor([1.0, -1.0, 5.0])[:, None, None],
        lambda picture: resized(picture).half()[None],
        lambda picture: torch.cat([resized(picture), torch.ones(1, 224, 224)]),
    ):
        found = placement_of(preprocess, (300, 200))
        assert found.scale == pytest.approx(plain.scale, abs=1e-3)
        assert found.offset == pytest.approx(plain.offset, abs=0.05)


def rotated(degrees: float) -> Preprocess:
    return lambda picture: functional.to_tensor(picture.resize((224, 224)).rotate(degrees, Resampling.BICUBIC))


def bent(picture: PIL.Image.Image) -> Tensor:
    columns = torch.arange(224) + 6 * torch.sin(torch.arange(224) / 20)
    return squash(224, 224)(picture)[:, :, columns.long().clamp(0, 223)]


def sheared(picture: PIL.Image.Image) -> Tensor:
    shape = (0.5, 0.02, 20, 0, 0.5, 20)
    return functional.to_tensor(picture.transform((100, 70), PIL.Image.Transform.AFFINE, shape, Resampling.BILINEAR))


def framed(picture: PIL.Image.Image) -> Tensor:
    y, x = np.mgrid[:224, :224] - 112
    return squash(224, 224)(picture) * torch.from_numpy(x**2 + y**2 < 100**2)


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        (rotated(90), "only 224 pixels across show the picture, or all of them the same"),
        (rotated(1), "no rectangle|turns or bends"),
        (sheared, "turns or bends the picture"),
        (bent, "no straight resizing and cropping"),
        (framed, "what it shows of the picture is no rectangle"),
        (lambda picture: squash(112, 112)(picture).repeat(1, 2, 2), "no straight resizing and cropping"),
        (lambda picture: squash(224, 224)(picture).roll(40, 2), "no straight resizing and cropping"),
        (lambda picture: squash(224, 224)(picture) ** 0.45, "no straight resizing and cropping"),
        (squash(224, 5), "only 5 pixels down show the picture"),
        (squash(224, 1), "only 1 pixels down show the picture"),
        (lambda picture: torch.zeros(3, 9, 9), "the same for black and for white"),
        (lambda picture: squash(9, 9)(picture) * torch.nan, "values that are not finite"),
        (np.asarray, "must give a floating-point tensor .* but it gave ndarray"),
        (lambda picture: squash(9, 9 + picture.getpixel((0, 0))[0] // 128)(picture), "sizes that differ for pictures"),
        (transforms.PILToTensor(), r"but it gave shape \(3, 200, 300\), torch.uint8"),
        (lambda picture: torch.stack([squash(9, 9)(picture)] * 2), r"but it gave shape \(2, 3, 9, 9\)"),
    ],
)
def test_what_cannot_be_followed_is_refused(preprocess, message):
    with pytest.raises(InputError, match=message):
        placement_of(preprocess, (300, 200))


def test_what_is_seldom_random_is_refused():
    asked = []

    def tenth(picture: PIL.Image.Image) -> Tensor:
        asked.append(1)
        return squash(30, 20)(picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT) if len(asked) == 10 else picture)

    with pytest.raises(InputError, match="treats one picture differently each time"):
        placement_of(tenth, (120, 90))


def test_crops_that_depend_on_what_is_seen_are_refused():
    """The same each time, but elsewhere in another picture: two pixels further where the last one is bright."""

    def salient(picture: PIL.Image.Image) -> Tensor:
        bright = picture.getpixel((picture.width - 1, picture.height - 1))[0] > 127
        return squash(240, 240)(picture)[:, :224, 2 * bright :][:, :, :224]

    with pytest.raises(InputError, match="two pictures of one size come out in different places"):
        placement_of(salient, (300, 200))


def test_a_few_rows_between_padding_are_placed_by_it():
    def banner(picture: PIL.Image.Image) -> Tensor:
        return functional.pad(squash(200, 5)(picture), [12, 100, 12, 119])

    found = placement_of(banner, (640, 480))
    assert found.scale[1] * 480 == pytest.approx(5, abs=0.01)
    assert found.offset[1] == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize(
    "steps",
    [
        [transforms.Resize((256, 256)), transforms.RandomCrop(224)],
        [transforms.RandomResizedCrop(224, antialias=True)],
        [transforms.Resize((224, 224)), transforms.RandomHorizontalFlip()],
        [transforms.Resize((224, 224)), transforms.RandomVerticalFlip()],
        [transforms.Resize((224, 224)), transforms.ColorJitter(0.3)],
    ],
)
def test_what_is_random_is_refused(steps):
    preprocess = transforms.Compose([*steps, transforms.ToTensor()])
    with pytest.raises(InputError, match="treats one picture differently each time, as with random crops or flips"):
        placement_of(preprocess, (120, 90))


def test_a_size_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least 1 x 1 pixels, not 0 x 5"):
        placement_of(TORCHVISION, (0, 5))


def test_placements_are_kept_by_function_and_size():
    calls = []

    def counted(picture: PIL.Image.Image) -> Tensor:
        calls.append(picture.size)
        return squash(30, 20)(picture)

    first = placement_of(counted, (60, 50))
    asked = len(calls)
    assert placement_of(counted, (60, 50)) is first
    assert len(calls) == asked
    placement_of(counted, (61, 50))
    assert asked < len(calls) <= asked + 10
    assert placement_of(functools.partial(counted), (60, 50)) is not first
    assert _placement.cache_info().maxsize is not None


def test_equal_preprocessings_are_told_apart():
    """Those that compare equal, or by no hash at all, such as a CentreCrop of lists."""
    listed = CentreCrop(64, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    assert placement_of(listed, (80, 70)).size == (64, 64)

    class Same:
        def __init__(self, size: int) -> None:
            self.size = size

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

        def __call__(self, picture: PIL.Image.Image) -> Tensor:
            return squash(self.size, self.size)(picture)

    assert [placement_of(Same(size), (80, 70)).size for size in (40, 50)] == [(40, 40), (50, 50)]
    # What is kept holds its function, so that no other takes its place in memory.
    kept = Same(60)
    placement_of(kept, (80, 70))
    seen = weakref.ref(kept)
    del kept
    gc.collect()
    assert seen() is not None


# -- what a placement does with boxes and masks, by hand ---------------------------------------------------------------

HALVED = Placement(picture=(20, 10), size=(8, 6), scale=(0.5, 0.5), offset=(-1.0, 0.5))
MIRRORED = Placement(picture=(20, 10), size=(8, 6), scale=(-0.5, 0.5), offset=(9.0, 0.5))


def test_boxes_by_hand():
    boxes = [
        [4, 2, 8, 6],
        [0, 0, 20, 10],
        [-5, -5, 4, 99],
        [0, 0, 1, 1],
        [18.5, 0, 20, 10],
        [6, 6, 6, 8],
    ]
    expected = [
        [1, 1.5, 3, 3.5],
        [0, 0.5, 8, 5.5],
        [0, 0.5, 1, 5.5],
        [0, 0.5, 0, 1],
        [8, 0.5, 8, 5.5],
        [2, 3.5, 2, 4.5],
    ]
    torch.testing.assert_close(HALVED.boxes(boxes), torch.tensor(expected))
    shares = [1.0, 16 / 20, 2 * 10 / (9 * 104), 0.0, 0.0, 0.0]
    torch.testing.assert_close(HALVED.visible(boxes), torch.tensor(shares))
    # Mirrored, left is right.
    mirrored = [[8 - x1, y0, 8 - x0, y1] for x0, y0, x1, y1 in expected]
    torch.testing.assert_close(MIRRORED.boxes(boxes), torch.tensor(mirrored))
    torch.testing.assert_close(MIRRORED.visible(boxes), torch.tensor(shares))


def test_boxes_come_as_they_are_given():
    boxes = torch.tensor([[4, 2, 8, 6]])
    for given in (boxes, boxes.double(), boxes.numpy(), [(4, 2, 8, 6)]):
        torch.testing.assert_close(HALVED.boxes(given), torch.tensor([[1, 1.5, 3, 3.5]]))
    assert HALVED.boxes([]).shape == (0, 4)
    assert HALVED.visible(torch.zeros(0, 4)).shape == (0,)
    for bad in ([[1, 2, 3]], [1, 2, 3, 4], [[1, 2, 3, np.nan]]):
        with pytest.raises(InputError, match=r"boxes are \(K, 4\)"):
            HALVED.boxes(torch.tensor(bad))


@pytest.mark.parametrize("placement", [HALVED, MIRRORED])
def test_masks_against_a_slow_loop(placement):
    mask = np.random.default_rng(0).random((10, 20)) < 0.5
    expected = np.zeros((6, 8), bool)
    for row in range(6):
        for column in range(8):
            x = (column + 0.5 - placement.offset[0]) / placement.scale[0]
            y = (row + 0.5 - placement.offset[1]) / placement.scale[1]
            if 0 <= x < 20 and 0 <= y < 10:
                expected[row, column] = mask[int(y), int(x)]
    np.testing.assert_array_equal(placement.mask(mask).numpy(), expected)
    np.testing.assert_array_equal(placement.mask(torch.from_numpy(mask)).numpy(), expected)
    # The last half row is padding.
    assert not placement.mask(np.ones((10, 20), bool))[5:].all()


def test_masks_of_other_shapes_are_refused():
    for bad in (np.ones((20, 10), bool), np.ones((10, 20), np.uint8)):
        with pytest.raises(InputError, match=r"a mask of this picture is bool and of the shape \(10, 20\)"):
            HALVED.mask(bad)


def test_masks_lie_where_boxes_lie():
    placement = placement_of(TORCHVISION, (300, 200))
    mask = np.zeros((200, 300), bool)
    mask[40:120, 90:180] = True
    placed = placement.mask(mask)
    rows, columns = placed.nonzero(as_tuple=True)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    (box,) = placement.boxes([[90, 40, 180, 120]]).tolist()
    assert [int(edge) for edge in found] == pytest.approx(box, abs=0.5 + 1e-3)

"""Pairs from the user's own photographs, laid out in textures.

Islam et al. 2021, section 3.1, with any way of transferring a texture, and on any pictures: a shape pair is one picture
in two textures, a texture pair two pictures, of different classes, in one texture.

With masks, the texture is laid on the object alone. What is around it must not be shared by a pair either: its own
background would be, by a shape pair, and be counted as shape. So the object stands on a generated ground, another one
in each image of a pair, in another colour. The pair shares its outline and its light and dark, or its texture.
`Quilting` looks at nothing outside of the mask; `AdaIN` looks at the whole picture, so that some of its background
shows in the object's colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from visavis.datasets.annotated import AnnotatedDataset, Annotation, Mask, Sample
from visavis.datasets.placement import placement_of
from visavis.datasets.scenes import COLOURS, Scene, SceneObject, Texture, render
from visavis.datasets.textures import GROUNDS, TEXTURES
from visavis.errors import InputError
from visavis.pictures import PictureSource, load_picture
from visavis.shape_texture.images import crop_to
from visavis.shape_texture.options import check_index, check_numbers
from visavis.shape_texture.pairs import Factor, Pairs, check_factor
from visavis.shape_texture.quilting import Quilting
from visavis.shape_texture.turns import chance_of, in_turn

#: Lays an image (3, H, W) in [0, 1] out in a texture (3, h, w), everywhere or where a mask (H, W) is.
Transfer = Callable[[Tensor, Tensor, Tensor | None], Tensor]
# What share of the image the object has to cover: else there is no texture to see, or no outline.
_LEAST, _MOST = 0.05, 0.9
# Of generated textures and grounds, as shares of the side.
_PERIOD, _GROUND_PERIOD = 0.06, 0.12
_SEED = 7
# What is alike everywhere is no texture, and the blobs of "patches" take on the outlines of the picture.
_DRAWN = tuple(name for name in TEXTURES if name not in ("plain", "patches"))


@dataclass(frozen=True)
class Laid:
    """One image of a pair.

    Attributes:
        picture: the name of the picture whose shape it has.
        label: its class, or the object's; None where it is not known.
        texture: the name of the texture.
        ground: what is around the object; None where the texture is laid everywhere.
    """

    picture: str
    label: str | None
    texture: str
    ground: Texture | None


@dataclass(frozen=True)
class LaidPair:
    """Both images of a pair.

    Attributes:
        factor: what they share.
        first, second: the images.
    """

    factor: Factor
    first: Laid
    second: Laid


@dataclass(frozen=True, eq=False)
class _Content:
    image: Tensor
    mask: Tensor | None


class TransferPairs(Pairs):
    """Pairs of pictures laid out in textures.

    Each picture has its turn before one comes again; one that has no object with a mask that covers 5 to 90 % of the
    crop is passed over where masks are asked for. Pictures and textures are cropped as ImageNet's. An image is made
    when it is asked for.

    Args:
        pictures: a data set; or a list of pictures, of whose classes nothing is known.
        textures: a list of pictures, or names of TEXTURES, which are drawn, each in a colour of its own. A file that is
            called like one of these is named by a `Path`. None: all TEXTURES but "plain" and "patches".
        pairs: how many of each factor.
        transfer: (content (3, H, W) in [0, 1], texture, mask (H, W) or None) → (3, H, W) in [0, 1]; None: `Quilting()`.
        masks: False: the texture is laid everywhere; True: on the largest object of each picture that the data set has
            a mask of; or for each picture one that shows where: white on black, and as large.
        size: side of the images, in pixels.
        seed: of the draws.

    Attributes:
        textures: their names.

    Raises:
        InputError: there are not two pictures and two textures, there is not one mask a picture, or a number is not
            such.
    """

    def __init__(
        self,
        pictures: AnnotatedDataset | Sequence[PictureSource],
        textures: Sequence[PictureSource] | None,
        pairs: int,
        *,
        transfer: Transfer | None = None,
        masks: bool | Sequence[PictureSource] = False,
        size: int = 224,
        seed: int = 0,
    ) -> None:
        check_numbers(pairs, seed, "pairs")
        self._pairs, self._size, self._seed, self._crop = pairs, size, seed, crop_to(size)
        self._pictures = pictures if isinstance(pictures, AnnotatedDataset) else _Listed(pictures)
        self._sources: Sequence[PictureSource] = _DRAWN if textures is None else textures
        self._transfer: Transfer = Quilting() if transfer is None else transfer
        self._masks = masks
        self._showing: dict[int, bool] = {}
        self.textures = tuple(_named(one, place) for place, one in enumerate(self._sources))
        self._check()
        where = "on an object each" if self._masked else "everywhere"
        self.name = f"{len(self._pictures)} pictures of {self._pictures.name}, in {len(self.textures)} textures {where}"

    def _check(self) -> None:
        if len(self._pictures) < 2 or len(self.textures) < 2:
            raise InputError(
                f"pairs are made of two pictures and two textures at least, but there are {len(self._pictures)} and "
                f"{len(self.textures)}"
            )
        twice = next((name for name in self.textures if self.textures.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"the texture {twice!r} is named twice; name each once")
        if not isinstance(self._masks, bool) and len(self._masks) != len(self._pictures):
            raise InputError(
                f"there are {len(self._masks)} masks for {len(self._pictures)} pictures; give one a picture"
            )

    @property
    def _masked(self) -> bool:
        return self._masks is not False

    def count(self, factor: Factor) -> int:
        return self._pairs

    def pair(self, factor: Factor, index: int) -> tuple[Tensor, Tensor]:
        """Return both images of a pair, each (3, size, size), float32 in [0, 1].

        Raises:
            IndexError: there is no such pair.
            InputError: a picture cannot be read or is malformed; no picture has an object with a mask, where masks are
                asked for; all are of one class, where textures are shared; or the transfer returned no such image.
        """
        numbers, textures, grounds = self._chosen(factor, index)
        contents = {number: self._shown(number) for number in numbers}
        first, second = (
            self._laid(contents[number], texture, ground)
            for number, texture, ground in zip(numbers, textures, grounds, strict=True)
        )
        return first, second

    def drawn(self, factor: Factor, index: int) -> LaidPair:
        """Return what a pair is made of.

        Raises:
            IndexError, InputError: as for `pair`.
        """
        numbers, textures, grounds = self._chosen(factor, index)
        first, second = (
            Laid(*self._name_and_class(number), self.textures[texture], ground)
            for number, texture, ground in zip(numbers, textures, grounds, strict=True)
        )
        return LaidPair(factor, first, second)

    def distinct(self, factor: Factor) -> int:
        """Return how many of the pairs differ in their pictures or textures, whatever the order of their images.

        Grounds do not count: the objects of a pair that has come before are the same on others. No texture is laid, but
        with masks each picture is read once.

        Raises:
            InputError: as for `pair`.
        """
        chosen = (self._chosen(factor, index)[:2] for index in range(self._pairs))
        return len({frozenset(zip(numbers, textures, strict=True)) for numbers, textures in chosen})

    def outlines(self, factor: Factor, index: int) -> tuple[Tensor, Tensor] | None:
        """Return where the texture is laid in both images, each (size, size), bool; None: everywhere.

        Raises:
            IndexError, InputError: as for `pair`.
        """
        first, second = (self._shown(number) for number in self._chosen(factor, index)[0])
        return None if first.mask is None or second.mask is None else (first.mask, second.mask)

    # -- choosing ------------------------------------------------------------------------------------------------------

    def _chosen(
        self, factor: Factor, index: int
    ) -> tuple[tuple[int, int], tuple[int, int], tuple[Texture | None, Texture | None]]:
        """Return the numbers of the pictures and of the textures, and the grounds of both images."""
        check_factor(factor)
        check_index(index, self._pairs, "pair")
        chance = chance_of(self._seed, factor, index)
        one, other = chance.choice(len(self.textures), 2, replace=False).tolist()
        grounds = self._grounds(chance)
        order = in_turn(len(self._pictures), self._seed, factor, index)
        first = next(filter(self._shows, order), None)
        if first is None:
            raise InputError(
                f"none of the {len(self._pictures)} pictures of {self._pictures.name} has an object with a mask that "
                f"covers {_LEAST:.0%} to {_MOST:.0%} of its crop; lay the texture everywhere, or take other pictures"
            )
        if factor == "shape":
            return (first, first), (one, other), grounds
        return (first, self._another(first, chance)), (one, one), grounds

    def _another(self, first: int, chance: np.random.Generator) -> int:
        """Return another picture, of another class where both are known."""
        own_name, own_label = self._name_and_class(first)
        for number in chance.permutation(len(self._pictures)).tolist():
            name, label = self._name_and_class(number)
            if name != own_name and not (label and label == own_label) and self._shows(number):
                return int(number)
        raise InputError(
            f"no picture of {self._pictures.name} can share a texture with '{own_name}' "
            f"({own_label or 'no class'}): it must be of another class, and with masks show its object; take more "
            "pictures"
        )

    def _grounds(self, chance: np.random.Generator) -> tuple[Texture | None, Texture | None]:
        if not self._masked:
            return None, None
        names = chance.choice(GROUNDS, 2, replace=False).tolist()
        colours = chance.choice(list(COLOURS), 2, replace=False).tolist()
        seeds = chance.integers(1 << 16, size=2).tolist()
        first, second = (
            Texture(name, colour, _GROUND_PERIOD, seed)
            for name, colour, seed in zip(names, colours, seeds, strict=True)
        )
        return first, second

    # -- reading -------------------------------------------------------------------------------------------------------

    def _name_and_class(self, number: int) -> tuple[str, str | None]:
        """Return the name of a picture, and its class or that of its object."""
        sample = self._pictures[number]
        thing = self._object(sample)
        return sample.name, thing.label if thing is not None and (
            self._masks is True or sample.label is None
        ) else sample.label

    def _object(self, sample: Sample) -> Annotation | None:
        return _largest(sample, with_mask=self._masks is True)

    def _shows(self, number: int) -> bool:
        """Whether a picture has the mask that is needed; it is read once to find out."""
        if not self._masked:
            return True
        if number not in self._showing:
            self._showing[number] = self._content(number) is not None
        return self._showing[number]

    def _shown(self, number: int) -> _Content:
        """Return a picture that `_shows` what is needed."""
        content = self._content(number)
        assert content is not None
        return content

    def _content(self, number: int) -> _Content | None:
        """Return a picture; None if it has no mask that is needed."""
        sample = self._pictures[number]
        thing = self._object(sample)
        if self._masks is True and thing is None:
            return None
        picture = sample.load()
        image = self._crop(picture).clamp(0, 1)
        if not self._masked:
            return _Content(image, None)
        given = self._mask_of(number, thing)
        if given.shape != picture.size[::-1]:
            raise InputError(
                f"the mask of '{sample.name}' is of {given.shape[1]} x {given.shape[0]} pixels, but the picture of "
                f"{picture.width} x {picture.height}"
            )
        mask = placement_of(self._crop, picture.size).mask(given)
        share = float(mask.float().mean())
        return _Content(image, mask) if _LEAST <= share <= _MOST else None

    def _mask_of(self, number: int, thing: Annotation | None) -> Mask:
        drawn = None if thing is None or self._masks is not True else thing.mask
        if drawn is not None:
            return drawn
        assert not isinstance(self._masks, bool)
        mask: Mask = np.asarray(load_picture(self._masks[number]).convert("L")) > 127
        return mask

    def _laid(self, content: _Content, texture: int, ground: Texture | None) -> Tensor:
        laid = self._transfer(content.image.clone(), self._texture(texture), content.mask)
        if laid.shape != content.image.shape or not laid.isfinite().all() or laid.min() < 0 or laid.max() > 1:
            raise InputError(
                f"the transfer returned {tuple(laid.shape)} for {tuple(content.image.shape)}, or values outside of "
                "[0, 1]; it must return an image like the one that it is given"
            )
        laid = laid.detach().cpu().float()
        if content.mask is None or ground is None:
            return laid
        return torch.where(content.mask, laid, torch.from_numpy(render(Scene((), ground), self._size).pixels))

    def _texture(self, number: int) -> Tensor:
        source = self._sources[number]
        if isinstance(source, str) and source in TEXTURES:
            return _drawn(source, self._size)
        return self._crop(load_picture(source)).clamp(0, 1)


class _Listed(AnnotatedDataset):
    """Pictures without annotations."""

    def __init__(self, pictures: Sequence[PictureSource]) -> None:
        self._list = list(pictures)
        self.name, self.classes = "a list", ()

    def __len__(self) -> int:
        return len(self._list)

    def sample(self, index: int) -> Sample:
        one = self._list[index]
        name = f"{index}: {_named(one, index)}"
        if isinstance(one, PIL.Image.Image):
            return Sample(name, one)
        return Sample(name, PIL.Image.fromarray(one) if isinstance(one, np.ndarray) else Path(one))


def _named(source: PictureSource, place: int) -> str:
    return f"picture {place}" if isinstance(source, PIL.Image.Image | np.ndarray) else str(source)


def _largest(sample: Sample, with_mask: bool) -> Annotation | None:
    """Return the object with the largest box, that is no crowd."""
    things = [one for one in sample.annotations if not one.crowd and (one.draw is not None or not with_mask)]
    return max(things, key=lambda one: (one.box[2] - one.box[0]) * (one.box[3] - one.box[1]), default=None)


def _drawn(name: str, size: int) -> Tensor:
    """Return a generated texture that fills an image, (3, size, size)."""
    colours = tuple(COLOURS)
    texture = Texture(name, colours[TEXTURES.index(name) % len(colours)], _PERIOD, _SEED)
    # A square that goes beyond the image: as on an object, for grounds are paler.
    cloth = SceneObject("square", texture, size=4.0, centre=(0.5, 0.5))
    return torch.from_numpy(render(Scene((cloth,), Texture("plain", "black")), size).pixels)


__all__ = ["Laid", "LaidPair", "Transfer", "TransferPairs"]

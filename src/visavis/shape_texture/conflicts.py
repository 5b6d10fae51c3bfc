"""Pictures in which two cues conflict: the shape of one category, the texture of another.

After Geirhos, Rubisch, Michaelis, Bethge, Wichmann, Brendel 2019 (ImageNet-trained CNNs are biased towards texture,
arXiv 1811.12231), whose 1280 pictures `ConflictFolder` reads. `SceneConflicts` draws such pictures, for networks that
were trained on generated scenes.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from visavis.datasets.generated import Scenes
from visavis.datasets.layout import entries, folder_at, holdings, inside, is_folder
from visavis.datasets.scenes import Picture, Scene, check_word, render
from visavis.datasets.shapes import SHAPES
from visavis.datasets.textures import GROUNDS, TEXTURES
from visavis.errors import InputError
from visavis.pictures import SUFFIXES, PictureSource, load_picture
from visavis.shape_texture.options import check_index

_EXPECTED = "<shape><number>-<texture><number>.png in the folder <shape>, such as airplane/airplane1-bicycle2.png"


@dataclass(frozen=True, eq=False)
class CueConflict:
    """A picture with the shape of one category and the texture of another.

    Attributes:
        picture: a path, PIL picture or array, as `visavis.pictures.load_picture` takes them; or a tensor (3, H, W) in
            [0, 1].
        shape, texture: the categories.
        name: of the picture.
        mask: (H, W), bool: where the object is; None where that is not known.
    """

    picture: PictureSource | Tensor
    shape: str
    texture: str
    name: str
    mask: Tensor | None = None

    @property
    def conflicts(self) -> bool:
        """Whether the cues say different things; where they do not, nothing is learned of shape against texture."""
        return self.shape != self.texture

    def image(self) -> PIL.Image.Image:
        """Return the picture as RGB, in 8 bits.

        Raises:
            InputError: it cannot be read, or is not as described.
        """
        if not isinstance(self.picture, Tensor):
            return load_picture(self.picture)
        if self.picture.dim() != 3 or len(self.picture) != 3:
            raise InputError(f"the picture '{self.name}' has the shape {tuple(self.picture.shape)}, not (3, H, W)")
        return load_picture(self.picture.detach().cpu().permute(1, 2, 0).numpy())

    def pixels(self) -> Tensor:
        """Return the picture as (3, H, W), float32 in [0, 1].

        Raises:
            InputError: as for `image`.
        """
        image = self.image()
        if isinstance(self.picture, Tensor):
            return self.picture.detach().cpu().float()
        return torch.from_numpy(np.array(image, dtype=np.float32) / 255).permute(2, 0, 1)


class CueConflicts(ABC):
    """Pictures with a shape and a texture each; picture i is always the same.

    Attributes:
        name: what they are, in words.
        names: of the categories.
    """

    name: str
    names: tuple[str, ...]

    @abstractmethod
    def __len__(self) -> int:
        """Return how many there are."""

    @abstractmethod
    def __getitem__(self, index: int) -> CueConflict:
        """Return one of them."""

    def cues(self, index: int) -> tuple[str, str]:
        """Return the shape and the texture of one of them, without the picture where that is quicker."""
        item = self[index]
        return item.shape, item.texture

    def __iter__(self) -> Iterator[CueConflict]:
        return (self[index] for index in range(len(self)))


class ConflictFolder(CueConflicts):
    """A folder laid out as the stimuli of Geirhos et al.: <shape>/<shape><number>-<texture><number>.png.

    Such as airplane/airplane1-bicycle2.png, an airplane that is made of bicycles. Categories are the folders' names
    and the textures of the files, whatever they are called. A texture that has a folder is known by it, so that a
    category's own name may end in a digit ("mp3/mp31-bicycle2.png"); of one that has none, all digits at the end are
    the number. Pictures whose two categories are one are kept, for they are part of the stimuli; `shape_bias` leaves
    them out. Files that are no pictures, hidden ones, and what does not lie in a category's folder are passed over.

    Args:
        folder: that of the categories' folders.
        categories: keep the pictures both of whose categories are among these; None: all.

    Raises:
        InputError: there is no such folder, it is not laid out like this (the first file that does not fit is named),
            or none of its pictures is of these categories.
    """

    def __init__(self, folder: str | os.PathLike[str], *, categories: Sequence[str] | None = None) -> None:
        self.folder = folder_at(folder, "cue conflicts")
        shapes = [one for one in entries(self.folder) if not one.startswith(".") and is_folder(self.folder / one)]
        kept = None if categories is None else set(categories)
        files = [
            (shape, _texture(f"{shape}/{file}", shape, shapes, self.folder), f"{shape}/{file}")
            for shape in shapes
            for file in _pictures(self.folder / shape)
        ]
        if not files:
            raise InputError(
                f"'{self.folder}' holds no cue conflicts: {_EXPECTED} was expected, but {holdings(self.folder)}"
            )
        self._files = [one for one in files if kept is None or {one[0], one[1]} <= kept]
        if not self._files:
            raise InputError(
                f"none of the {len(files)} pictures in '{self.folder}' is of {', '.join(categories or ())}"
            )
        self.names = tuple(sorted({name for shape, texture, _ in self._files for name in (shape, texture)}))
        self.name = f"cue conflicts of '{self.folder.name}'"

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> CueConflict:
        check_index(index, len(self), "picture")
        shape, texture, file = self._files[index]
        return CueConflict(inside(self.folder, file, self.folder), shape, texture, file)

    def cues(self, index: int) -> tuple[str, str]:
        check_index(index, len(self), "picture")
        return self._files[index][:2]


class SceneConflicts(CueConflicts):
    """Generated scenes whose object has the shape of one category and the texture of another.

    For networks that learned from scenes in which the two go together. All pairs of categories come equally often: each
    once, in an order of chance, before any comes again. Colour, place, size, angle and ground are drawn as `scenes`
    draws them.

    Args:
        count: how many.
        categories: the word for the shape and that for the texture of each, by its name; or without names, and then
            each is called "<texture> <shape>", as `Scenes(..., classes=("texture", "shape"))` calls its classes.
        scenes: what all else is drawn from; None: `Scenes` of 64 px. Its own shapes and textures do not count.
        seed: of the draws, a whole number from 0.

    Raises:
        InputError: there are fewer than two categories, two of them share a word, or a word is unknown.
    """

    def __init__(
        self,
        count: int,
        categories: Mapping[str, tuple[str, str]] | Sequence[tuple[str, str]],
        *,
        scenes: Scenes | None = None,
        seed: int = 0,
    ) -> None:
        named = (
            categories if isinstance(categories, Mapping) else {f"{two} {one}": (one, two) for one, two in categories}
        )
        if count < 1 or seed < 0:
            raise InputError(f"count is from 1 and seed from 0, not {count} and {seed}")
        for what, place, known in (("shape", 0, SHAPES), ("texture", 1, TEXTURES + GROUNDS)):
            words = [both[place] for both in named.values()]
            for word in words:
                check_word(what, word, known)
            if len(words) < 2 or len(set(words)) < len(categories):
                raise InputError(f"two categories or more are needed, each with a {what} of its own, not {words}")
        self.words = dict(named)
        self.scenes = scenes if scenes is not None else Scenes(1, size=64)
        if self.scenes.objects != (1, 1):
            raise InputError("a scene of a conflict has one object; use Scenes(..., objects=1)")
        self.names = tuple(named)
        self.name = f"conflicting scenes of {self.scenes.size} px"
        self._count, self._seed = count, seed
        self._pairs = list(permutations(self.names, 2))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> CueConflict:
        shape, texture = self.cues(index)
        drawn = self.drawn(index)
        pixels, mask = torch.from_numpy(drawn.pixels), torch.from_numpy(drawn.masks[0])
        return CueConflict(pixels, shape, texture, f"{index}: {shape} of {texture}", mask)

    def drawn(self, index: int) -> Picture:
        """Return the picture with the mask of its object."""
        return render(self.scene(index), self.scenes.size)

    def scene(self, index: int) -> Scene:
        """Return the description of a picture."""
        shape, texture = self.cues(index)
        like = self.scenes
        of_pair = Scenes(
            1,
            size=like.size,
            sizes=like.sizes,
            periods=like.periods,
            turn=like.turn,
            shapes=(self.words[shape][0],),
            textures=(self.words[texture][1],),
            colours=like.words["colour"],
            grounds=like.grounds,
            ground_colours=like.ground_colours,
        )
        return of_pair.drawn(np.random.default_rng([self._seed, index]))

    def cues(self, index: int) -> tuple[str, str]:
        check_index(index, len(self), "picture")
        block, place = divmod(index, len(self._pairs))
        # A third number: its draws are others than those of the scenes.
        order = np.random.default_rng([self._seed, block, 1]).permutation(len(self._pairs))
        return self._pairs[int(order[place])]


def _pictures(folder: Path) -> list[str]:
    return [one for one in entries(folder) if Path(one).suffix.lower() in SUFFIXES and not one.startswith(".")]


def _texture(file: str, shape: str, shapes: Sequence[str], folder: Path) -> str:
    """Return the texture that a file's name tells."""
    found = re.fullmatch(rf"{re.escape(shape)}[0-9]+-(.+)", Path(file).stem, re.DOTALL)
    numbered = None if found is None else re.fullmatch(r"(.*?[^0-9])[0-9]+", found[1], re.DOTALL)
    if found is None or not re.search(r"[0-9]$", found[1]):
        raise InputError(f"'{folder / file}' is not named as a cue conflict: {_EXPECTED} was expected")
    known = [one for one in shapes if re.fullmatch(rf"{re.escape(one)}[0-9]+", found[1])]
    if len(known) > 1:
        raise InputError(f"the texture of '{folder / file}' may be {' or '.join(known)}; rename one of the categories")
    if not known and numbered is None:
        raise InputError(f"'{folder / file}' names no texture: {_EXPECTED} was expected")
    return known[0] if known or numbered is None else numbered[1]


__all__ = ["ConflictFolder", "CueConflict", "CueConflicts", "SceneConflicts"]

"""The pictures of the study of units: generated scenes, or CIFAR-10 in its binary files.

Both are 32 px wide, as many of each class, in three parts that share no picture: to train on, to describe units by
(attributes), and to ablate units on (held out).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import visavis as vv
from visavis.datasets import Scenes

SIZE = 32
#: What scenes are drawn with. The class is colour and shape; textures, sizes, places, angles and grounds vary.
KINDS: dict[str, Any] = {
    "classes": ("colour", "shape"),
    "shapes": ("disc", "square", "triangle", "star", "heart"),
    "textures": ("stripes", "checks", "dots", "bricks"),
    "colours": ("red", "orange", "pink", "purple"),
    "ground_colours": ("white", "grey", "black", "brown"),
    "turn": 180,
    "sizes": (0.3, 0.6),
    "periods": (0.12, 0.25),
}
#: Side of concepts' masks: a pixel is of a concept where at least half of its 2 × 2 pixels are.
MASK = SIZE // 2
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: A record of CIFAR-10's binary files: a byte for the label; red, green and blue of 32 × 32 pixels, row by row.
_RECORD = 1 + 3 * SIZE * SIZE
_CIFAR_FOLDER = "cifar-10-batches-bin"
_TRAINING = tuple(f"data_batch_{number}.bin" for number in range(1, 5))
_ATTRIBUTES, _HELD_OUT = "data_batch_5.bin", "test_batch.bin"


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures (N, 3, 32, 32), uint8; labels (N,), int64; where concepts are, (N, C, 16, 16), bool, or None."""

    pictures: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def taken(self, places: Tensor) -> Images:
        """Return those at these places."""
        masks = None if self.masks is None else self.masks[places]
        return Images(self.pictures[places], self.labels[places], masks)

    def halves(self) -> tuple[Images, Images]:
        """Return the images in two halves, each with every other one of each class."""
        rank = torch.zeros(len(self), dtype=torch.int64)
        for label in self.labels.unique():
            own = self.labels == label
            rank[own] = torch.arange(int(own.sum()))
        return self.taken((rank % 2 == 0).nonzero()[:, 0]), self.taken((rank % 2 == 1).nonzero()[:, 0])


@dataclass(frozen=True)
class Sizes:
    """How many pictures there are at most: to train on, to describe units by, and to ablate them on."""

    training: int
    attributes: int
    held_out: int


@dataclass(frozen=True, eq=False)
class Parts:
    """Pictures in three parts, the names of their classes, and of the concepts that they have masks of."""

    training: Images
    attributes: Images
    held_out: Images
    classes: tuple[str, ...]
    concepts: tuple[str, ...] = ()


# -- generated scenes ------------------------------------------------------------------------------------------------


def scene_parts(seed: int, sizes: Sizes) -> Parts:
    """Return generated pictures of one object each: every seed has its own.

    Raises:
        InputError: a part has less than two pictures of each class.
    """
    training, attributes, held_out = (
        _drawn(number, 4 * seed + part, masks=part == 1)
        for part, number in enumerate((sizes.training, sizes.attributes, sizes.held_out))
    )
    return Parts(training, attributes, held_out, _scenes(0).names, concepts())


def concepts() -> tuple[str, ...]:
    """Return the concepts that scenes have masks of: shapes, textures and colours of objects."""
    return *KINDS["shapes"], *KINDS["textures"], *KINDS["colours"]


def _scenes(seed: int) -> Scenes:
    return Scenes(10**9, size=SIZE, seed=seed, **KINDS)


def _drawn(number: int, seed: int, *, masks: bool) -> Images:
    """Draw the first pictures of each class, in the order of their numbers."""
    data = _scenes(seed)
    each = _each(number, len(data.names))
    left = [each] * len(data.names)
    pictures, labels, places = [], [], []
    index = -1
    while any(left):
        index += 1
        thing = data.scene(index).objects[0]
        label = data.label_of(thing)
        if not left[label]:
            continue
        left[label] -= 1
        item = data[index]
        pictures.append((item.picture * 255).round().to(torch.uint8))
        labels.append(label)
        if masks:
            own = F.avg_pool2d(item.masks[:1].float(), SIZE // MASK)[0] >= 0.5
            named = {thing.shape, thing.texture.name, thing.texture.colour}
            places.append(torch.stack([own & (concept in named) for concept in concepts()]))
    return Images(torch.stack(pictures), torch.tensor(labels), torch.stack(places) if masks else None)


def _each(number: int, classes: int) -> int:
    if number < 2 * classes:
        raise vv.InputError(f"{number} pictures of {classes} classes are less than two of each; ask for more")
    return number // classes


# -- CIFAR-10 --------------------------------------------------------------------------------------------------------


def cifar_parts(folder: Path, seed: int, sizes: Sizes) -> Parts:
    """Return pictures of CIFAR-10 (Krizhevsky 2009), drawn from its files by seed; held-out ones are of its test batch.

    Args:
        folder: `cifar-10-batches-bin`, or the folder that holds it.
        seed: of the draw.
        sizes: at most; fewer where the files hold fewer of a class.

    Raises:
        InputError: a file is missing or damaged, or the files are pickles, which could run code.
    """
    folder = _cifar_folder(folder)
    training, attributes, held_out = (
        _sampled([folder / name for name in names], number, 4 * seed + part)
        for part, (names, number) in enumerate(
            ((_TRAINING, sizes.training), ([_ATTRIBUTES], sizes.attributes), ([_HELD_OUT], sizes.held_out))
        )
    )
    return Parts(training, attributes, held_out, CIFAR)


def read_cifar(path: Path) -> Images:
    """Read a binary file of CIFAR-10.

    Raises:
        InputError: it is missing, its size is not that of whole records, or a label is not from 0 to 9.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise vv.InputError(f"{str(path)!r} cannot be read ({error.strerror or error})") from error
    if not content or len(content) % _RECORD:
        raise vv.InputError(
            f"{str(path)!r} has {len(content)} bytes, which are not whole records of {_RECORD}; unpack it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    if (records[:, 0] >= len(CIFAR)).any():
        raise vv.InputError(f"{str(path)!r} has the label {records[:, 0].max()}, but CIFAR-10's are from 0 to 9")
    pictures = torch.from_numpy(records[:, 1:].reshape(-1, 3, SIZE, SIZE).copy())
    return Images(pictures, torch.from_numpy(records[:, 0].astype(np.int64)))


def _cifar_folder(folder: Path) -> Path:
    for place in (folder, folder / _CIFAR_FOLDER):
        if (place / _HELD_OUT).is_file():
            return place
    if any((place / "test_batch").is_file() for place in (folder, folder / "cifar-10-batches-py")):
        raise vv.InputError(
            f"{str(folder)!r} holds CIFAR-10's Python version, which is pickled and could run code; "
            f"get the binary version, cifar-10-binary.tar.gz, and name its folder {_CIFAR_FOLDER}"
        )
    raise vv.InputError(f"{str(folder)!r} holds no {_HELD_OUT}; name the folder {_CIFAR_FOLDER} of the binary version")


def _sampled(files: Iterable[Path], number: int, seed: int) -> Images:
    """Draw as many pictures of each class, and mix them."""
    read = [read_cifar(path) for path in files]
    found = Images(torch.cat([one.pictures for one in read]), torch.cat([one.labels for one in read]))
    chance = torch.Generator().manual_seed(seed)
    mixed = torch.randperm(len(found), generator=chance)
    own = [mixed[found.labels[mixed] == label] for label in range(len(CIFAR))]
    each = min(_each(number, len(CIFAR)), *map(len, own))
    if each < 2:
        raise vv.InputError("CIFAR-10's files have less than two pictures of a class; unpack them again")
    return found.taken(mixed[torch.isin(mixed, torch.cat([one[:each] for one in own]))])

"""Generated scenes as a data set: boxes and masks are exact, and there is no folder."""

from __future__ import annotations

from functools import partial

import numpy as np
import PIL.Image

from visavis.datasets.annotated import AnnotatedDataset, Annotation, Box, Mask, Sample, digest_of
from visavis.datasets.generated import SceneItem, Scenes
from visavis.datasets.registry import Kind, register_dataset


class SceneDataset(AnnotatedDataset):
    """The pictures of `Scenes` with their objects. The class of a picture is that of its first object, the largest.

    An object that no pixel shows, as may be in a picture of a few pixels, is left out.

    Args:
        scenes: what to draw.
    """

    def __init__(self, scenes: Scenes) -> None:
        self.scenes = scenes
        self.name = f"scenes:{scenes.seed}"
        self.classes = scenes.names

    def __len__(self) -> int:
        return len(self.scenes)

    def name_of(self, index: int) -> str:
        return f"scene-{self.scenes.seed}-{index}"

    @property
    def digest(self) -> str:
        # Picture i is the same whatever the count.
        drawn = self.scenes
        words = (drawn.classes, *sorted(drawn.words.items()), drawn.grounds, drawn.ground_colours)
        return digest_of(words, (drawn.size, drawn.seed, *drawn.objects, *drawn.sizes, *drawn.periods, drawn.turn))

    def sample(self, index: int) -> Sample:
        item = self.scenes[index]
        boxes: list[Box] = [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in item.boxes.tolist()]
        annotations = tuple(
            Annotation(self.classes[label], box, draw=partial(_mask, item, number))
            for number, (label, box) in enumerate(zip(item.labels.tolist(), boxes, strict=True))
            if any(box)
        )
        pixels = np.rint(item.picture.numpy() * 255).astype(np.uint8)
        picture = PIL.Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        return Sample(self.name_of(index), picture, annotations, self.classes[int(item.label)])


def _mask(item: SceneItem, number: int) -> Mask:
    mask: Mask = item.masks[number].numpy()
    return mask


def _open(
    *,
    count: int = 100,
    size: int = 64,
    seed: int = 0,
    classes: str | tuple[str, ...] = "shape",
    objects: int | tuple[int, int] = 1,
) -> SceneDataset:
    return SceneDataset(Scenes(count, size=size, seed=seed, classes=classes, objects=objects))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _least_and_most(text: str) -> tuple[int, int]:
    """Return "2" as (2, 2), and "1-3" as (1, 3)."""
    least, _, most = text.partition("-")
    return int(least), int(most or least)


register_dataset(
    Kind(
        "scenes",
        "generated pictures of shapes with exact boxes and masks; no folder",
        _open,
        {"count": int, "size": int, "seed": int, "classes": _words, "objects": _least_and_most},
        has_folder=False,
    )
)

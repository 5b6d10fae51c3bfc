"""Pairs of images that share one factor, the shape or the texture, and differ in the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from visavis.datasets.generated import Scenes
from visavis.datasets.scenes import Scene, SceneObject, render
from visavis.errors import InputError
from visavis.shape_texture.options import check_index, check_numbers

Factor = Literal["shape", "texture"]
FACTORS: tuple[Factor, ...] = ("shape", "texture")


def check_factor(factor: str) -> None:
    """Refuse what is no factor.

    Raises:
        InputError: it is neither "shape" nor "texture".
    """
    if factor not in FACTORS:
        raise InputError(f"the factor is {factor!r}, but {' or '.join(map(repr, FACTORS))} was expected")


class Pairs(ABC):
    """So many pairs of each factor; pair i is the same whatever else is asked for.

    Attributes:
        name: what they are, in words.
    """

    name: str

    @abstractmethod
    def count(self, factor: Factor) -> int:
        """Return how many pairs share a factor."""

    @abstractmethod
    def pair(self, factor: Factor, index: int) -> tuple[Tensor, Tensor]:
        """Return both images of a pair that shares a factor, each (3, H, W), float32 in [0, 1]."""

    def distinct(self, factor: Factor) -> int | None:
        """Return how many of the pairs that share a factor differ, whatever the order of their images.

        Pairs that come again add nothing new, but narrow intervals as if they did. None, as by default: it is not
        known.
        """
        return None


class ScenePairs(Pairs):
    """Pairs of generated scenes of one object: unlimited, and exact.

    A shape pair shares the outline: the object's shape, place, size and angle; its texture and its colour differ. A
    texture pair shares the texture, with its colour and period; the shape differs, and place, size and angle are drawn
    anew. Grounds are drawn anew in both, and may be of one kind and colour by chance. As in stylised images, where a
    style brings its colours, colour goes with texture.

    Args:
        pairs: how many of each factor.
        scenes: what is drawn from; None: `Scenes` of 64 px.
        seed: of the draws.

    Raises:
        InputError: there is no pair, there are not two shapes and two textures to choose from, or the seed is none.
    """

    def __init__(self, pairs: int, *, scenes: Scenes | None = None, seed: int = 0) -> None:
        check_numbers(pairs, seed, "pairs")
        self.scenes = scenes if scenes is not None else Scenes(1, size=64, seed=seed)
        words = self.scenes.words
        few = [name for name in ("shape", "texture") if len(set(words[name])) < 2]
        if few:
            raise InputError(
                f"pairs of a single {few[0]} were asked for, but scenes of two shapes and two textures are needed"
            )
        if self.scenes.objects != (1, 1):
            raise InputError("a scene of a pair has one object; use Scenes(..., objects=1)")
        self._pairs, self._seed = pairs, seed
        self.name = f"generated scenes of {self.scenes.size} px"

    def count(self, factor: Factor) -> int:
        return self._pairs

    def pair(self, factor: Factor, index: int) -> tuple[Tensor, Tensor]:
        first, second = self.scene_pair(factor, index)
        return self._drawn(first), self._drawn(second)

    def distinct(self, factor: Factor) -> int:
        """Return how many there are: places, sizes and angles are drawn anew, so no two are alike."""
        return self._pairs

    def scene_pair(self, factor: Factor, index: int) -> tuple[Scene, Scene]:
        """Return the descriptions of both images of a pair."""
        check_factor(factor)
        check_index(index, self._pairs, "pair")
        first, second = self._two(factor, index)
        one, other = first.objects[0], second.objects[0]
        shared = _with_outline(other, one) if factor == "shape" else _with_texture(other, one)
        return first, replace(second, objects=(shared,))

    def _two(self, factor: Factor, index: int) -> tuple[Scene, Scene]:
        """Return two scenes that differ in the factor that is not shared: drawn until they do."""
        chance = np.random.default_rng([self._seed, FACTORS.index(factor), index])
        first = self.scenes.drawn(chance)
        while True:
            second = self.scenes.drawn(chance)
            one, other = first.objects[0], second.objects[0]
            if (factor == "shape" and self._surfaces_differ(one, other)) or (
                factor == "texture" and one.shape != other.shape
            ):
                return first, second

    def _surfaces_differ(self, one: SceneObject, other: SceneObject) -> bool:
        colours = len(set(self.scenes.words["colour"])) < 2 or one.texture.colour != other.texture.colour
        return colours and one.texture.name != other.texture.name

    def _drawn(self, scene: Scene) -> Tensor:
        return torch.from_numpy(render(scene, self.scenes.size).pixels)


def _with_outline(thing: SceneObject, outline: SceneObject) -> SceneObject:
    return replace(outline, texture=thing.texture)


def _with_texture(thing: SceneObject, texture: SceneObject) -> SceneObject:
    return replace(thing, texture=texture.texture)


__all__ = ["FACTORS", "Factor", "Pairs", "ScenePairs", "check_factor"]

"""Pairs share one factor, and differ in the other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from visavis.datasets.generated import Scenes
from visavis.datasets.scenes import render
from visavis.errors import InputError
from visavis.shape_texture import ScenePairs
from visavis.shape_texture.pairs import Factor, Pairs


def test_a_shape_pair_shares_the_outline_alone() -> None:
    pairs = ScenePairs(20, seed=4)
    for index in range(20):
        first, second = (scene.objects[0] for scene in pairs.scene_pair("shape", index))
        assert replace(first, texture=second.texture) == second
        assert first.texture.name != second.texture.name
        assert first.texture.colour != second.texture.colour


def test_a_texture_pair_shares_the_texture_alone() -> None:
    pairs = ScenePairs(20, seed=4)
    for index in range(20):
        first, second = (scene.objects[0] for scene in pairs.scene_pair("texture", index))
        assert first.texture == second.texture
        assert first.shape != second.shape
        assert first.centre != second.centre


def test_pictures_are_those_of_the_scenes_and_the_same_again() -> None:
    pairs = ScenePairs(3, scenes=Scenes(1, size=24), seed=7)
    for factor in ("shape", "texture"):
        images = pairs.pair(factor, 1)
        for image, scene in zip(images, pairs.scene_pair(factor, 1), strict=True):
            assert torch.equal(image, torch.from_numpy(render(scene, 24).pixels))
        again = ScenePairs(9, scenes=Scenes(1, size=24), seed=7).pair(factor, 1)
        assert all(torch.equal(one, two) for one, two in zip(images, again, strict=True))
        assert not torch.equal(images[0], ScenePairs(3, scenes=Scenes(1, size=24), seed=8).pair(factor, 1)[0])


def test_scenes_all_differ() -> None:
    pairs = ScenePairs(60, scenes=Scenes(1, size=24, shapes=["disc", "square"], textures=["dots", "checks"]))
    for factor in ("shape", "texture"):
        assert len({repr(pairs.scene_pair(factor, index)) for index in range(60)}) == 60
        assert pairs.distinct(factor) == 60


def test_of_pairs_of_ones_own_it_is_not_known_how_many_differ() -> None:
    class Grey(Pairs):
        name = "grey"

        def count(self, factor: Factor) -> int:
            return 3

        def pair(self, factor: Factor, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)

    assert Grey().distinct("shape") is None


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="0 pairs were asked for"):
        ScenePairs(0)
    with pytest.raises(InputError, match="the seed is a whole number from 0"):
        ScenePairs(2, scenes=Scenes(1), seed=-1)
    with pytest.raises(InputError, match="of a single texture"):
        ScenePairs(2, scenes=Scenes(1, textures=["dots"]))
    with pytest.raises(InputError, match="one object"):
        ScenePairs(2, scenes=Scenes(1, objects=2))
    with pytest.raises(IndexError, match="no pair 2"):
        ScenePairs(2).pair("shape", 2)

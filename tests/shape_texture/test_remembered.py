"""Pairs that are remembered are the same, and made once while there is room."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from visavis.datasets.generated import Scenes
from visavis.shape_texture.pairs import Factor, ScenePairs
from visavis.shape_texture.remembered import RememberedPairs

# Both images of a pair of 16 px take 2 · 3 · 16² · 4 bytes.
PAIR = 6144


class Counted(ScenePairs):
    def __init__(self) -> None:
        super().__init__(3, scenes=Scenes(1, size=16))
        self.made: list[tuple[Factor, int]] = []

    def pair(self, factor: Factor, index: int) -> tuple[Tensor, Tensor]:
        self.made.append((factor, index))
        return super().pair(factor, index)


@pytest.mark.parametrize(("memory", "times"), [(6 * PAIR, 6), (5 * PAIR, 7), (PAIR - 1, 12), (0, 12)])
def test_pairs_are_made_once_while_there_is_room(memory: int, times: int) -> None:
    pairs, plain = Counted(), ScenePairs(3, scenes=Scenes(1, size=16))
    kept = RememberedPairs(pairs, memory=memory)
    assert (kept.name, kept.count("shape"), kept.distinct("shape")) == (plain.name, 3, 3)
    for _ in range(2):
        for factor in ("shape", "texture"):
            for index in range(3):
                found, expected = kept.pair(factor, index), plain.pair(factor, index)
                assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert len(pairs.made) == times

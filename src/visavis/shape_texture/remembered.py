"""Pairs that are made once though several networks see them: to lay pictures out in textures takes long."""

from __future__ import annotations

from torch import Tensor

from visavis.shape_texture.pairs import Factor, Pairs

#: Bytes of images that are kept rather than made again, 1 GiB.
MEMORY = 2**30


class RememberedPairs(Pairs):
    """The same pairs, which are kept once they are made, as long as there is room.

    Args:
        pairs: that make them.
        memory: bytes of images that may be kept; the pairs beyond are made anew each time.
    """

    def __init__(self, pairs: Pairs, *, memory: int = MEMORY) -> None:
        self.pairs = pairs
        self.name = pairs.name
        self._left = memory
        self._kept: dict[tuple[Factor, int], tuple[Tensor, Tensor]] = {}

    def count(self, factor: Factor) -> int:
        return self.pairs.count(factor)

    def distinct(self, factor: Factor) -> int | None:
        return self.pairs.distinct(factor)

    def pair(self, factor: Factor, index: int) -> tuple[Tensor, Tensor]:
        known = self._kept.get((factor, index))
        if known is not None:
            return known
        made = self.pairs.pair(factor, index)
        size = sum(image.numel() * image.element_size() for image in made)
        if size <= self._left:
            self._left -= size
            self._kept[factor, index] = made
        return made


__all__ = ["MEMORY", "RememberedPairs"]

"""Which picture a pair is made of: each in its turn, the same whatever else is asked for."""

from __future__ import annotations

import numpy as np

from visavis.shape_texture.pairs import FACTORS, Factor


def chance_of(seed: int, factor: Factor, index: int) -> np.random.Generator:
    """Return the random numbers of one pair."""
    return np.random.default_rng([seed, FACTORS.index(factor), 1, index])


def in_turn(things: int, seed: int, factor: Factor, index: int) -> list[int]:
    """Return the order, of so many things, in which pair `index` tries them.

    The first ones of pairs 0 to things − 1 are all things, each once, in a random order; then they come anew, in
    another one. The order of each pair goes on with the first ones of the pairs after it.
    """
    round_, start = divmod(index, things)
    order = np.random.default_rng([seed, FACTORS.index(factor), 0, round_]).permutation(things)
    return [int(thing) for thing in np.roll(order, -start)]


__all__ = ["chance_of", "in_turn"]

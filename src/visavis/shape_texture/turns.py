"""Which picture a pair is made of: each in its turn, the same whatever else is asked for."""

from __future__ import annotations

import numpy as np

from visavis.errors import InputError
from visavis.models.preprocessing import CentreCrop
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


def check_index(index: int, pairs: int) -> None:
    """Refuse the number of a pair that there is not.

    Raises:
        IndexError: it is not from 0 to pairs − 1.
    """
    if not 0 <= index < pairs:
        raise IndexError(f"there is no pair {index}; they are numbered from 0 to {pairs - 1}")


def check_numbers(pairs: int, seed: int) -> None:
    """Refuse a number of pairs below one, and a seed below zero.

    Raises:
        InputError: it is such.
    """
    if pairs < 1 or seed < 0:
        raise InputError(f"pairs are at least 1 and a seed is from 0 on, not {pairs} and {seed}")


def crop_to(size: int) -> CentreCrop:
    """Return ImageNet's centre crop, whose tensors (3, size, size) are in [0, 1].

    Raises:
        InputError: the size is below 1 or beyond 8192.
    """
    return CentreCrop(size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


__all__ = ["chance_of", "check_index", "check_numbers", "crop_to", "in_turn"]

"""What the functions of this study are asked for: seeds, draws and numbers, checked; and how they tell what is done."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from visavis.errors import InputError

#: Is told how much is done, of how much, and of what.
Progress = Callable[[int, int, str], None]


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number, of Python, NumPy or torch; 2.0 is none."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def check_seed(seed: Any) -> None:
    """Refuse what is no seed.

    Raises:
        InputError: it is no whole number from 0 to 2⁶⁴ − 1.
    """
    if not is_whole(seed) or not 0 <= operator.index(seed) < 2**64:
        raise InputError(f"the seed is a whole number from 0 to 2⁶⁴ − 1, not {seed}")


def check_draws(draws: Any, *, none: bool = True) -> None:
    """Refuse a number of draws that makes no interval.

    Args:
        draws: of a bootstrap.
        none: whether 0 is allowed, and means that no interval is asked for.

    Raises:
        InputError: it is such.
    """
    if not is_whole(draws) or (draws < 2 and not (none and draws == 0)):
        raise InputError(
            f"draws is {draws}, but {'0, for no interval, or ' if none else ''}a whole number from 2 was expected"
        )


def check_index(index: Any, count: int, what: str) -> None:
    """Refuse the number of a pair or picture that there is not.

    Raises:
        IndexError: it is not from 0 to count − 1.
        InputError: it is no whole number.
    """
    if not is_whole(index):
        raise InputError(f"the number of a {what} is a whole number from 0 to {count - 1}, not {index}")
    if not 0 <= index < count:
        raise IndexError(f"there is no {what} {index}; they are numbered from 0 to {count - 1}")


def check_numbers(count: Any, seed: Any, what: str) -> None:
    """Refuse a number of pairs or pictures that is not whole or below one, and what is no seed.

    Raises:
        InputError: it is such.
    """
    if not is_whole(count) or count < 1:
        raise InputError(f"{count} {what} were asked for, but a whole number from 1 was expected")
    check_seed(seed)


__all__ = ["Progress", "check_draws", "check_index", "check_numbers", "check_seed", "is_whole"]

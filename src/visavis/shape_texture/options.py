"""What the functions of this study are asked for: seeds, draws and numbers, checked; and how they tell what is done."""

from __future__ import annotations

from collections.abc import Callable

from visavis.errors import InputError

#: Is told how much is done, of how much, and of what.
Progress = Callable[[int, int, str], None]


def check_seed(seed: int) -> None:
    """Refuse what is no seed.

    Raises:
        InputError: it is not from 0 to 2⁶⁴ − 1.
    """
    if not 0 <= seed < 2**64:
        raise InputError(f"the seed is a whole number from 0 to 2⁶⁴ − 1, not {seed}")


def check_draws(draws: int, *, none: bool = True) -> None:
    """Refuse a number of draws that makes no interval.

    Args:
        draws: of a bootstrap.
        none: whether 0 is allowed, and means that no interval is asked for.

    Raises:
        InputError: it is such.
    """
    if draws < 2 and not (none and draws == 0):
        raise InputError(f"draws is {draws}, but {'0, for no interval, or ' if none else ''}at least 2 were expected")


def check_index(index: int, count: int, what: str) -> None:
    """Refuse the number of a pair or picture that there is not.

    Raises:
        IndexError: it is not from 0 to count − 1.
    """
    if not 0 <= index < count:
        raise IndexError(f"there is no {what} {index}; they are numbered from 0 to {count - 1}")


def check_numbers(count: int, seed: int, what: str) -> None:
    """Refuse a number of pairs or pictures below one, and what is no seed.

    Raises:
        InputError: it is such.
    """
    if count < 1:
        raise InputError(f"{count} {what} were asked for, but at least 1 was expected")
    check_seed(seed)


__all__ = ["Progress", "check_draws", "check_index", "check_numbers", "check_seed"]

"""Which classes a row is contrasted with, and how they are called."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.errors import InputError, SameClassError

#: Foils by name, beside the labels of classes.
FOILS = ("others", "runner-up")


def class_of(label: Any, classes: NDArray[Any], what: str) -> Any:
    """Return a label as the classes have it; from a shell all labels are text.

    Args:
        label: of a class.
        classes: all of them.
        what: "target" or "foil".

    Raises:
        InputError: it is none of them.
    """
    known = classes.tolist()
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, (str, int, float, bytes)) and label in known:
        return known[known.index(label)]
    by_text = {str(one): one for one in known}
    if str(label) in by_text:
        return by_text[str(label)]
    extra = f", {', '.join(FOILS)}" if what == "foil" else ""
    shown = ", ".join(map(str, known[:8])) + (", …" if len(known) > 8 else "")
    raise InputError(f"the {what} is {label!r}, but one of the classes was expected: {shown}{extra}")


def foils_of(
    foil: Any, targets: Tensor, log: Tensor, classes: NDArray[Any], known: NDArray[np.bool_], first: int = 0
) -> tuple[Tensor, NDArray[Any] | None]:
    """Return which classes each row is contrasted with, (M, K), bool, and their labels, (M,).

    Args:
        foil: a label; "others", "runner-up"; or None, all others without a name.
        targets: (M,), the places of the classes that are explained.
        log: (M, K), log probabilities.
        classes: (K,), labels.
        known: (M,), which targets are among them.
        first: the place of the first row, as errors name it.

    Raises:
        InputError: the foil is no class.
        SameClassError: it is the target of some row.
    """
    own = torch.nn.functional.one_hot(targets, len(classes)).bool()
    if foil is None:
        return ~own, None
    if isinstance(foil, str) and foil in FOILS and foil not in classes.tolist():
        if foil == "others":
            return ~own, np.full(len(targets), "others")
        second = log.masked_fill(own, -torch.inf).argmax(1)
        return torch.nn.functional.one_hot(second, len(classes)).bool(), classes[second.cpu().numpy()]
    label = class_of(foil, classes, "foil")
    place = classes.tolist().index(label)
    same = np.flatnonzero((targets == place).cpu().numpy() & known)
    if len(same):
        raise SameClassError(
            f"row {first + same[0]} is explained for {label!r}, which is the foil too; choose another foil"
        )
    chosen = torch.zeros_like(own)
    chosen[:, place] = True
    return chosen, np.full(len(targets), label)


__all__ = ["FOILS", "class_of", "foils_of"]

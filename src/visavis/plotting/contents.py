"""What a figure holds: the photograph, maps, classes and rows, and what of them is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visavis.errors import InputError

Floats = NDArray[np.float64]
Role = Literal["target", "foil"]


@dataclass(frozen=True, eq=False)
class Map:
    """One map of evidence.

    Attributes:
        heading: what the map is, such as "CLRP: tiger cat, not espresso".
        note: how to read it, such as "what speaks for tiger cat rather than for espresso".
        heat: (H, W), finite; >= 0, or signed (positive speaks for the role's class, negative against it).
        role: "target" or "foil": the family of colours.
        group: maps with the same group share one colour scale; name the method, such as "LRP".
    """

    heading: str
    note: str
    heat: ArrayLike
    role: Role = "target"
    group: str = ""


@dataclass(frozen=True)
class Class:
    """A class and the probability, in [0, 1], that the model gives it; `role` colours its bar."""

    name: str
    probability: float
    role: Role | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """One class of a `comparison`: its probability in [0, 1], its plain map and its contrast, both (H, W)."""

    name: str
    probability: float
    plain: ArrayLike
    contrast: ArrayLike
    role: Role = "target"


def checked_picture(picture: ArrayLike) -> Floats:
    """(H, W, 3) float64 in [0, 1], or an `InputError`."""
    expected = "floats of shape (H, W, 3) or (H, W, 1) in [0, 1]"
    array = np.asarray(picture)
    if array.dtype.kind != "f":
        raise InputError(f"the picture holds {array.dtype}, but {expected} were expected; divide bytes by 255.")
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        raise InputError(f"the picture has the shape {array.shape}, but {expected} were expected.")
    colours: Floats = array.astype(np.float64)
    if not np.isfinite(colours).all():
        raise InputError(f"the picture holds NaN or infinite values, but {expected} were expected.")
    if colours.min() < -1e-3 or colours.max() > 1 + 1e-3:
        found = f"[{colours.min():.3g}, {colours.max():.3g}]"
        raise InputError(f"the picture's values span {found}, but {expected} were expected; undo its normalisation.")
    return np.broadcast_to(colours.clip(0.0, 1.0), (*colours.shape[:2], 3))


def checked_heat(heat: ArrayLike, size: tuple[int, ...], name: str) -> Floats:
    """(H, W) float64, finite and of the picture's size, or an `InputError` that names the map."""
    array = np.asarray(heat)
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name!r} holds {array.dtype}, but numbers of shape (H, W) were expected.")
    if array.shape != size:
        raise InputError(
            f"{name!r} has the shape {array.shape}, but {size}, the picture's height and width, was expected."
        )
    if not np.isfinite(array).all():
        raise InputError(f"{name!r} holds NaN or infinite values, so it cannot be drawn; find out where they arise.")
    evidence: Floats = array.astype(np.float64)
    return evidence


def check_role(name: str, role: str) -> None:
    """Raise an `InputError` that names what has an unknown role."""
    if role not in get_args(Role):
        raise InputError(f"{name!r} has the role {role!r}, but 'target' or 'foil' was expected.")


def check_roles_and_probabilities(classes: Sequence[Class | Row]) -> None:
    """Raise an `InputError` unless every probability lies in [0, 1] and every role is known."""
    for entry in classes:
        if not 0.0 <= entry.probability <= 1.0:
            found = f"the probability of {entry.name!r} is {entry.probability}"
            raise InputError(f"{found}, but a number in [0, 1] was expected; apply softmax to the logits.")
        if entry.role is not None:
            check_role(entry.name, entry.role)

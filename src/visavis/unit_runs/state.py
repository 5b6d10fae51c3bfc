"""What a run has found so far, on disk: sums over the pictures that are done, replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from visavis.errors import InputError
from visavis.run_folder import RunFolder, put
from visavis.units.ablation import Ablation
from visavis.units.activations import Activations
from visavis.units.moments import Moments

STATE = "state"
_KEY = "visavis"
Sums = TypeVar("Sums", Ablation, Activations, Moments)


class StateFolder(RunFolder):
    """The folder of a study of units; see `RunFolder`."""

    own = (STATE,)


@dataclass(frozen=True, eq=False)
class State:
    """A part of a run, as far as it is.

    Attributes:
        done: how many of the chosen pictures have been gone through.
        ablation: what was found of them; None before the first.
        activations: likewise, where they are part of it.
        passed: the pictures that were passed over, each with the reason.
    """

    done: int = 0
    ablation: Ablation | None = None
    activations: Activations | None = None
    passed: tuple[tuple[str, str], ...] = ()


def write_state(folder: StateFolder, name: str, weights: str, state: State) -> None:
    """Write a part of a run, in place of what was there.

    Args:
        folder: of the run.
        name: of the part.
        weights: the digest of the model's.
        state: what is written.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    words: dict[str, Any] = {
        "run": folder.fingerprint,
        "weights": weights,
        "done": state.done,
        "passed": [list(one) for one in state.passed],
    }
    for part in ("ablation", "activations"):
        found = getattr(state, part)
        if found is not None:
            words[part] = _packed(found, f"{part}.", tensors)
    content = save({key: one.contiguous() for key, one in tensors.items()}, {_KEY: json.dumps(words)})
    put(_path(folder, name), content)


def read_state(folder: StateFolder, name: str, weights: str) -> State:
    """Return a part of a run as far as it is: from the start where there is none, or what is there is damaged.

    Raises:
        InputError: it was made with other weights.
    """
    path = _path(folder, name)
    if not path.is_file():
        return State()
    try:
        with safe_open(path, "pt") as file:
            words = json.loads((file.metadata() or {})[_KEY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if words["run"] != folder.fingerprint:
            return State()
        known = words["weights"]
        passed = tuple((str(name), str(reason)) for name, reason in words["passed"])
        state = State(
            int(words["done"]),
            _unpacked(Ablation, words.get("ablation"), "ablation.", tensors),
            _unpacked(Activations, words.get("activations"), "activations.", tensors),
            passed,
        )
        _check(state)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return State()
    if known != weights:
        raise InputError(
            f"the weights of the model are not those that '{folder.path}' was begun with, so that the numbers would "
            "not go together; name another folder, or give the same weights"
        )
    return state


def _path(folder: StateFolder, name: str) -> Path:
    return folder.path / STATE / f"{name}.safetensors"


def _packed(found: Any, prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return what is no tensor in sums; tensors are put beside."""
    words: dict[str, Any] = {}
    for field in fields(found):
        value, name = getattr(found, field.name), f"{prefix}{field.name}"
        if isinstance(value, Tensor):
            tensors[name] = value
        elif isinstance(value, tuple) and value and all(isinstance(one, Tensor) for one in value):
            tensors |= {f"{name}.{place}": one for place, one in enumerate(value)}
        elif is_dataclass(value):
            words[field.name] = _packed(value, f"{name}.", tensors)
        else:
            words[field.name] = value
    return words


def _unpacked(
    kind: type[Sums], words: Mapping[str, Any] | None, prefix: str, tensors: Mapping[str, Tensor]
) -> Sums | None:
    if words is None:
        return None
    values: dict[str, Any] = {}
    for field in fields(kind):
        name = f"{prefix}{field.name}"
        if name in tensors:
            values[field.name] = tensors[name]
        elif f"{name}.0" in tensors:
            values[field.name] = (tensors[f"{name}.0"], tensors[f"{name}.1"])
        elif field.name == "moments":
            values[field.name] = _unpacked(Moments, words[field.name], f"{name}.", tensors)
        elif field.name == "sets":
            values[field.name] = tuple(tuple(map(int, one)) for one in words[field.name])
        else:
            values[field.name] = words[field.name]
    return kind(**values)


def _check(state: State) -> None:
    """Raise a ValueError where sums do not go together: a file may be a stranger's own work."""
    found, seen = state.ablation, state.activations
    if found is not None:
        sets, classes = len(found.sets), len(found.counts)
        of_sets = (found.lost, found.gained, found.said_without, found.less_confident, found.less_confident_squares)
        shapes = {one.shape for one in of_sets} | {(sets, classes)}
        if len(shapes) > 1 or found.right.shape != (classes,) or found.said.shape != (classes,):
            raise ValueError("sums of other shapes")
        if any(not bool(torch.isfinite(one.double()).all()) for one in of_sets):
            raise ValueError("sums that are no numbers")
    if seen is not None:
        units, classes = len(seen.maximum), len(seen.counts)
        if {one.shape for one in (seen.class_sums, seen.class_positive, seen.moments.products)} != {(units, classes)}:
            raise ValueError("sums of other shapes")
        if {one.shape for one in (seen.zeros, seen.l1, seen.l2, seen.moments.means[0])} != {(units,)}:
            raise ValueError("sums of other shapes")


__all__ = ["STATE", "State", "StateFolder", "read_state", "write_state"]

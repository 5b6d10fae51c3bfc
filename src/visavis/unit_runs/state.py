"""What a run has found so far, on disk: sums over the pictures that are done, replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
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


@dataclass(frozen=True, eq=False)
class Expected:
    """What is known of a part of a run before it is read.

    Attributes:
        sets: of units that are ablated; None: nothing is, and the part holds what units do.
        seen: what units do, of all pictures that can be used.
    """

    sets: tuple[tuple[int, ...], ...] | None = None
    seen: Activations | None = None


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


def read_state(folder: StateFolder, name: str, weights: str, pictures: int, expected: Expected) -> State:
    """Return a part of a run as far as it is: from the start where there is none, or what is there is damaged.

    Args:
        folder: of the run.
        name: of the part.
        weights: the digest of the model's.
        pictures: how many the run has.
        expected: what is known of the part beforehand.

    Raises:
        InputError: it was made with other weights.
    """
    path = _path(folder, name)
    if not path.is_file() or path.is_symlink():
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
            words["done"],
            _unpacked(Ablation, words.get("ablation"), "ablation.", tensors),
            _unpacked(Activations, words.get("activations"), "activations.", tensors),
            passed,
        )
        _check(state, pictures, expected)
    except Exception:  # noqa: BLE001 (whatever is wrong with a file that may be a stranger's own work)
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


def _check(state: State, pictures: int, expected: Expected) -> None:
    """Raise an error where sums do not go together, or are not of this run."""
    found, seen = state.ablation, state.activations
    if type(state.done) is not int or not 0 <= state.done <= pictures:
        raise ValueError("another number of pictures")
    if expected.sets is None:
        if found is not None or seen is None:
            raise ValueError("another part of a run")
        _check_activations(seen)
        counts = seen.counts
    else:
        if found is None or seen is not None or found.sets != expected.sets:
            raise ValueError("another part of a run")
        _check_ablation(found)
        counts = found.counts
        assert expected.seen is not None
        if counts.shape != expected.seen.counts.shape or bool((counts > expected.seen.counts).any()):
            raise ValueError("other pictures")
    if int(counts.sum()) + len(state.passed) != state.done:
        raise ValueError("pictures that are counted twice, or not at all")


def _check_ablation(found: Ablation) -> None:
    sets, classes = len(found.sets), len(found.counts)
    for name in ("lost", "gained", "said_without", "less_confident", "less_confident_squares"):
        _is(getattr(found, name), (sets, classes), whole=not name.startswith("less"))
    for name in ("counts", "right", "said"):
        _is(getattr(found, name), (classes,), whole=True)
    wrong = found.counts - found.right
    if bool((found.lost > found.right).any() or (found.gained > wrong).any() or (found.right > found.counts).any()):
        raise ValueError("more pictures than there are")
    if bool((found.less_confident.abs() > found.counts + 1).any()):
        raise ValueError("more confidence than there is")


def _check_activations(seen: Activations) -> None:
    units, classes = len(seen.maximum), len(seen.counts)
    _is(seen.counts, (classes,), whole=True)
    _is(seen.zeros, (units,), whole=True)
    for name in ("maximum", "l1", "l2"):
        _is(getattr(seen, name), (units,))
    for one in (seen.class_sums, seen.class_positive, seen.moments.products):
        _is(one, (units, classes))
    for pair in (seen.moments.means, seen.moments.squares, seen.moments.lows, seen.moments.highs):
        for one, size in zip(pair, (units, classes), strict=True):
            _is(one, (size,))
    if seen.value_sums.dim() not in (1, 2) or len(seen.value_sums) != units or not seen.value_sums.is_floating_point():
        raise ValueError("sums of other shapes")
    for number in (seen.positions, seen.values, seen.moments.count):
        if type(number) is not int or number < 1:
            raise ValueError("no number of positions")
    if type(seen.rotated) is not bool or seen.alignment is not None:
        raise ValueError("no such activations")
    if seen.weights is not None:
        _is(seen.weights, (units,))


def _is(one: Tensor, shape: tuple[int, ...], *, whole: bool = False) -> None:
    """Raise a ValueError where a tensor is not of this shape, or holds what no sum comes to."""
    kind = torch.int64 if whole else torch.float64
    if one.shape != shape or one.dtype != kind or bool(one.isnan().any()) or (whole and bool((one < 0).any())):
        raise ValueError("sums that are none of a run's")


__all__ = ["STATE", "Expected", "State", "StateFolder", "read_state", "write_state"]

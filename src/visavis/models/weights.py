"""Weights of the user's own, from a file, as data only: read, and put into a module that they fit."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visavis.errors import ModelError

#: The endings of the files that torch.save writes.
_PICKLED = (".pt", ".pth", ".bin", ".ckpt")
_ENDINGS = (".safetensors", *_PICKLED)
# What nn.DataParallel, DistributedDataParallel and torch.compile put before every name.
_WRAPPED = ("module.", "_orig_mod.")
_SHOWN = 3
_ADVICE = "pass the weights of this very architecture, or as --model a function that builds theirs."

State = dict[str, Tensor]


def read_weights(path: str | os.PathLike[str]) -> State:
    """Reads a state dict: tensors by name. Nothing in the file is run, whatever it holds.

    Args:
        path: A .safetensors file; or what torch.save wrote (.pt, .pth, .bin, .ckpt), a state dict by itself or as the
            only one in a checkpoint (under "state_dict" or "model", as a rule).

    Raises:
        ModelError: The file is missing, of another kind, damaged, holds more than data, or holds no state dict or
            several.
    """
    file = Path(path)
    _check_file(file)
    if file.suffix.lower() == ".safetensors":
        return _safetensors(file)
    return _only_state(_pickled(file), file)


def _check_file(file: Path) -> None:
    if file.suffix.lower() not in _ENDINGS:
        raise ModelError(
            f"weights are read from {', '.join(_ENDINGS)}, but not from '{file}'; save them as one of these."
        )
    try:
        if file.is_file():
            return
        kind = "is a folder" if file.is_dir() else "is no file" if file.exists() else "does not exist"
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error
    raise ModelError(f"the file of weights '{file}' {kind}; check the path.")


def _safetensors(file: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file, device="cpu")
    except SafetensorError as error:
        raise _damaged(file, "safetensors file", error) from error
    except OSError as error:
        raise _unreadable(file, error) from error


def _pickled(file: Path) -> object:
    try:
        with warnings.catch_warnings():
            # torch announces TorchScript, and then refuses it anyway.
            warnings.filterwarnings("ignore", "'torch.load' received a zip file that looks like a TorchScript")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"'{file}' is damaged, or holds Python objects beside tensors, and loading these could run a stranger's "
            "code; save the model's state_dict(), best of all as .safetensors."
        ) from error
    except OSError as error:
        raise _unreadable(file, error) from error
    except Exception as error:  # a damaged file fails in every way there is
        raise _damaged(file, "file of tensors that torch.save wrote", error) from error


def _only_state(content: object, file: Path) -> State:
    """Finds the one state dict in what a checkpoint holds."""
    if _is_state(content):
        return dict(content)  # type: ignore[call-overload, no-any-return]
    entries = content.items() if isinstance(content, Mapping) else ()
    states = {key: entry for key, entry in entries if _is_state(entry)}
    if len(states) == 1:
        (state,) = states.values()
        return dict(state)
    if states:
        raise ModelError(
            f"'{file}' holds {len(states)} state dicts ({_few(states)}), and which one to load cannot be told; "
            "save the one by itself."
        )
    raise ModelError(f"'{file}' holds no state dict, tensors by name; save the model's state_dict().")


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(key, str) and isinstance(entry, Tensor) for key, entry in value.items())
    )


def load_weights(
    module: nn.Module, state: State, path: str | os.PathLike[str], name: str, advice: str = _ADVICE
) -> None:
    """Puts a state dict that `read_weights` read into a module, which it must fit name by name.

    Args:
        module: Takes the weights.
        state: Tensors by name.
        path: The file that they are from, for errors.
        name: What the module is called in errors.
        advice: What an error tells the user to do where they do not fit.

    Raises:
        ModelError: Tensors are missing, unexpected or of another shape; a few are named. Or what is no floating-point
            number stands where the module has such.
    """
    state = _unwrapped(state, module)
    _check_kinds(state, module, path, name)
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        own = module.state_dict()
        reshaped = [f"{key}, {tuple(state[key].shape)} for {tuple(own[key].shape)}" for key in _reshaped(state, own)]
        missing, unexpected = [key for key in own if key not in state], [key for key in state if key not in own]
        raise _misfit(name, path, missing, unexpected, reshaped, _reason(error), advice) from None
    if missing or unexpected:
        raise _misfit(name, path, missing, unexpected, [], "", advice)


def _check_kinds(state: State, module: nn.Module, path: str | os.PathLike[str], name: str) -> None:
    """Refuses what torch would convert silently: codes of a quantised network, a mask, half of a complex number."""
    own = module.state_dict()
    for key, tensor in state.items():
        if isinstance(own.get(key), Tensor) and own[key].is_floating_point() and not tensor.is_floating_point():
            raise ModelError(
                f"the weights in '{path}' hold '{key}' as {tensor.dtype}, but '{name}' has {own[key].dtype} there; "
                "save the weights as floating-point numbers, of the model before it was quantised."
            )


def count_classes(state: State, module: nn.Module, classes: int) -> int:
    """How many classes a state dict is for, if it fits `module` but for a last layer of other than `classes`; else
    `classes`.

    Raises:
        ModelError: It is for no class at all.
    """
    own = module.state_dict()
    state = _unwrapped(state, module)
    pairs = [(own[key].shape, state[key].shape) for key in _reshaped(state, own)]
    alike = all(len(a) == len(b) > 0 and a[0] == classes and a[1:] == b[1:] for a, b in pairs)
    counts = {theirs[0] for _, theirs in pairs} if alike else set()
    if counts == {0}:
        raise ModelError(
            f"the weights end in a layer of 0 classes ({_few(_reshaped(state, own))}), so there is nothing to explain; "
            "pass those of a model with classes."
        )
    return counts.pop() if len(counts) == 1 else classes


def _reshaped(state: State, own: Mapping[str, Any]) -> list[str]:
    """The names under which both have a tensor, but of different shapes."""
    common = [key for key in own if key in state and isinstance(own[key], Tensor)]
    return [key for key in common if own[key].shape != state[key].shape]


def _unwrapped(state: State, module: nn.Module) -> State:
    """Takes off what a wrapper put before every name, unless the module itself has such names."""
    own = module.state_dict()
    prefix = next((prefix for prefix in _WRAPPED if state and all(key.startswith(prefix) for key in state)), None)
    if prefix is None or any(key.startswith(prefix) for key in own):
        return state
    return _unwrapped({key.removeprefix(prefix): tensor for key, tensor in state.items()}, module)


def _misfit(
    name: str,
    path: str | os.PathLike[str],
    missing: Iterable[str],
    unexpected: Iterable[str],
    reshaped: Iterable[str],
    reason: str,
    advice: str,
) -> ModelError:
    groups = (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
    said = [f"{len(keys)} {what} ({_few(keys)})" for what, keys in ((w, list(k)) for w, k in groups) if keys]
    return ModelError(f"the weights in '{path}' do not fit '{name}': {'; '.join(said) or reason}; {advice}")


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(map(str, listed[:_SHOWN])) + (", …" if len(listed) > _SHOWN else "")


def _unreadable(file: Path, error: Exception) -> ModelError:
    return ModelError(f"the weights in '{file}' cannot be read ({_reason(error)}).")


def _damaged(file: Path, kind: str, error: Exception) -> ModelError:
    return ModelError(f"'{file}' is no {kind}, or a damaged one ({_reason(error)}).")


def _reason(error: Exception) -> str:
    """What an error says first, to stand inside our sentence."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    first = said.strip().partition("\n")[0].partition(". ")[0].rstrip(".: ")
    return first if " " in first else f"{type(error).__name__}: {first}".rstrip(": ")

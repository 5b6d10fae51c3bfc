"""The device that a model runs on: checked before anything is loaded."""

from __future__ import annotations

import torch

from visavis.errors import ModelError


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """The device of that name, or the best that this machine has: cuda, else mps, else cpu.

    Raises:
        ModelError: The name is no device, or this machine has none of that kind.
    """
    if name is None:
        return torch.device(_best())
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"{name!r} is not a device; use {', '.join(_present())}, or leave it out.") from error
    _check_present(device)
    return device


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _present() -> list[str]:
    return list(dict.fromkeys(["cpu", _best()]))


def _check_present(device: torch.device) -> None:
    usable = f"use {' or '.join(_present())}, or leave it out"
    if device.type == "meta":
        raise ModelError(f"the device 'meta' holds no numbers to explain; {usable}.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"the device '{device}' was asked for, but no CUDA GPU is available here; {usable}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"the device '{device}' was asked for, but there are {torch.cuda.device_count()} CUDA GPUs, "
            f"numbered from 0; {usable}."
        )
    try:
        torch.empty(1, device=device)
    except Exception as error:  # backends that were not built in fail each in a way of their own
        raise ModelError(f"the device '{device}' was asked for, but is not available here; {usable}.") from error

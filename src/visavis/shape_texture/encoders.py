"""Copies of a network to compare it with: one that has learnt nothing, and one that is trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from visavis.classifier import Classifier
from visavis.errors import ModelError
from visavis.modules import refuse_unexplainable
from visavis.propagation.untouched import version_of
from visavis.shape_texture.options import check_seed

Model = TypeVar("Model", bound=nn.Module | Classifier)
# Of parameters, as an error lists them.
_SHOWN = 4


def random_encoder(model: Model, *, seed: int = 0) -> Model:
    """Return a copy of a model whose parameters are drawn anew, as its modules do by their own `reset_parameters`.

    Statistics of batch norm are reset with them. What a model's constructor does beyond that, such as another
    distribution of the weights of all convolutions, is not repeated. Modules come before those that hold them.

    Args:
        model: a module, or a Classifier; it is left as it is.
        seed: of the parameters, a whole number from 0 to 2⁶⁴ − 1.

    Raises:
        InputError: the seed is none.
        ModelError: the model cannot be copied, a module cannot reset its parameters, or one belongs to no module that
            does.
    """
    check_seed(seed)
    copied = copy_of(model)
    module = copied.module if isinstance(copied, Classifier) else copied
    before = {name: (version_of(one), one.data_ptr()) for name, one in module.named_parameters()}
    with torch.inference_mode(False), torch.no_grad(), seeded(module, seed):
        for part in reversed(list(module.modules())):
            # Of nn.MultiheadAttention and nn.Transformer it has an underscore.
            reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
            if callable(reset):
                _reset(part, reset)
    left = [name for name, one in module.named_parameters() if before.get(name) == (version_of(one), one.data_ptr())]
    if left:
        more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
        raise ModelError(
            f"{type(module).__name__} has parameters that no module's reset_parameters draws anew "
            f"({', '.join(left[:_SHOWN])}{more}), so that the copy would not be random; give their modules a method "
            "reset_parameters, or build the model anew"
        )
    return copied


def copy_of(model: Model) -> Model:
    """Return a deep copy of a module; or a Classifier of a copy of its module, which has all else in common.

    It can be trained, also where the model was made, or is copied, in inference mode.

    Raises:
        ModelError: it hides what it computes, or cannot be copied.
    """
    if isinstance(model, Classifier):
        found = copy.copy(model)
        found.module = copy_of(model.module)
        return found
    refuse_unexplainable(model)
    try:
        with torch.inference_mode(False):
            return copy.deepcopy(model)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be copied ({error}); make copy.deepcopy(module) work"
        ) from error


def _reset(part: nn.Module, reset: Callable[[], object]) -> None:
    try:
        reset()
    except Exception as error:
        raise ModelError(
            f"{type(part).__name__} cannot draw its parameters anew: its reset_parameters fails ({error}); make it "
            "work without arguments"
        ) from error


@contextmanager
def seeded(module: nn.Module, seed: int) -> Iterator[None]:
    """Let torch draw by a seed, on the CPU and where the module is; afterwards it is as if nothing were drawn."""
    devices = sorted({one.device.index for one in module.parameters() if one.is_cuda})
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(seed)
        yield


__all__ = ["copy_of", "random_encoder", "seeded"]

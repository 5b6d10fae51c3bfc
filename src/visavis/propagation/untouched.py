"""The model is left as it was, whatever happens in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visavis.propagation.functions import writes_in_place
from visavis.propagation.visit import tensors_in

# Held from a run's first write to what is its model's until all is put back.
_ONE_AT_A_TIME = threading.RLock()
_UPDATE_STATISTICS = (F.batch_norm, F.instance_norm, torch.batch_norm, torch.instance_norm)


class Written:
    """Keeps a copy of each parameter or buffer from just before it is first written to, and puts all back.

    Beside values: which tensors are registered under which names, what they require a gradient for, training modes.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        #: Each tensor written to, an alias of its memory, and its values.
        self._copies: list[tuple[Tensor, Tensor, Tensor]] = []
        self._by_storage: dict[int, list[Tensor]] | None = None
        self._tensors = [*module.parameters(), *module.buffers()]
        self._flags = [tensor.requires_grad for tensor in self._tensors]
        self._registered = [
            (part, part.training, dict(part._parameters), dict(part._buffers), set(part._non_persistent_buffers_set))
            for part in module.modules()
        ]
        # A hook may leave a plain tensor, as the older weight_norm leaves `module.weight`.
        self._attributes = [(part, _plain_tensors(part)) for part in module.modules()]
        self._writing = False

    @property
    def any(self) -> bool:
        """Whether anything of the model's was written to."""
        return bool(self._copies)

    def about_to_call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember what a call will write to, if it is the model's."""
        for tensor in written_by(func, args, kwargs):
            self._remember(tensor)

    def _remember(self, written: Tensor) -> None:
        if self._by_storage is None:
            self._by_storage = {}
            for tensor in self._tensors:
                self._by_storage.setdefault(storage_of(tensor), []).append(tensor)
        # A view or an alias of a parameter writes to it too.
        tensors = self._by_storage.pop(storage_of(written), [])
        if tensors and not self._writing:
            # One run at a time may have changed what is the model's: another's copy would be of the changed values.
            _ONE_AT_A_TIME.acquire()
            self._writing = True
        for tensor in tensors:
            alias = tensor.detach()
            self._copies.append((tensor, alias, alias.clone()))

    def restore(self) -> None:
        """Put everything back."""
        try:
            self._put_all_back()
        finally:
            if self._writing:
                self._writing = False
                _ONE_AT_A_TIME.release()

    def _put_all_back(self) -> None:
        for part, training, parameters, buffers, non_persistent in self._registered:
            part.training = training
            _put_back(part._parameters, parameters)
            _put_back(part._buffers, buffers)
            if part._non_persistent_buffers_set != non_persistent:
                part._non_persistent_buffers_set = non_persistent
        for part, attributes in self._attributes:
            for name in _plain_tensors(part).keys() - attributes.keys():
                del part.__dict__[name]
            part.__dict__.update(attributes)
        for tensor, flag in zip(self._tensors, self._flags, strict=True):
            if tensor.requires_grad != flag:
                # A buffer that was written to from the path has become part of the graph.
                (tensor if tensor.is_leaf else tensor.detach_()).requires_grad_(flag)
        for tensor, alias, copy in self._copies:
            if tensor.data_ptr() != alias.data_ptr():
                tensor.data = alias
            with torch.inference_mode(alias.is_inference()), torch.no_grad():
                alias.copy_(copy)


def _plain_tensors(part: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in part.__dict__.items() if isinstance(value, Tensor)}


def _put_back(now: dict[str, Any], before: dict[str, Any]) -> None:
    if list(now) != list(before) or any(now[name] is not before[name] for name in before):
        now.clear()
        now.update(before)


def written_by(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors that a call writes to."""
    written = tensors_in((), {"out": kwargs["out"]}) if kwargs.get("out") is not None else []
    if writes_in_place(func):
        first = args[0] if args else kwargs.get("input", kwargs.get("self"))
        written += tensors_in((first,), {})
    elif func in _UPDATE_STATISTICS:
        python = func in (F.batch_norm, F.instance_norm)
        updating = args[5] if len(args) > 5 else kwargs.get("training", kwargs.get("use_input_stats", True))
        statistics = args[1:3] if python else args[3:5]
        named = [kwargs.get("running_mean"), kwargs.get("running_var")]
        written += tensors_in((statistics, named), {}) if updating else []
    return written


def storage_of(tensor: Tensor) -> int:
    """Return what tells the memory of one tensor from that of another."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse and wrapped tensors have none to show
        return -1


def version_of(tensor: Tensor) -> int:
    """Return how often a tensor was written to, as far as torch counts."""
    return 0 if tensor.is_inference() else tensor._version


class _WatchWrites(TorchFunctionMode):
    """Tells a `Written` of every call, and changes nothing: for models that run without a relevance mode."""

    def __init__(self, written: Written) -> None:
        super().__init__()
        self._written = written

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._written.about_to_call(func, args, kwargs)
        return func(*args, **kwargs)


@contextmanager
def left_untouched(module: nn.Module, device: torch.device) -> Iterator[Written]:
    """Undo, at the end and after any error, what a forward pass changes in the model, and the random state."""
    written = Written(module)
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield written
    finally:
        written.restore()


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other thread changes a model, and let none begin: for changes that a run makes on purpose."""
    with _ONE_AT_A_TIME:
        yield


@contextmanager
def run_untouched(module: nn.Module, device: torch.device) -> Iterator[None]:
    """As `left_untouched`, around models that run without a relevance mode."""
    with left_untouched(module, device) as written, _WatchWrites(written):
        yield

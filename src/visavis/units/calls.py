"""The torch calls of a run, told apart by a layer: those below it are kept, to be answered without computing.

`Recording` watches a whole run. `Playing` is a second run of the model, whose calls below the layer get the answers
that were kept, in order, and whose calls above are computed. Neither sees what is no torch function: a recording says
what it could not follow, and a playing raises `Differs`.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from visavis.propagation.functions import name_of
from visavis.propagation.untouched import Written, storage_of, written_by
from visavis.propagation.visit import tensors_in

# What hands values to Python, by which it may choose what to call next: of a batch together, not of each item.
_READ_VALUES = frozenset(
    {"__bool__", "__int__", "__float__", "__index__", "__complex__", "__contains__"}
    | {"item", "tolist", "is_nonzero", "equal", "allclose"}
)
# Answers that are the same each time they are given. Whatever else a call gives may change behind our back.
_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    type(None),
    type,
    torch.Size,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
)
# Which calls make units of weights, and in which dimension of what they give.
_MAKES_UNITS = {
    "linear": -1,
    "layer_norm": -1,
    "rms_norm": -1,
    "multi_head_attention_forward": -1,
    "matmul": -1,
    "__matmul__": -1,
    "batch_norm": 1,
    "group_norm": 1,
    "instance_norm": 1,
    **{f"conv{transposed}{d}d": 1 for d in (1, 2, 3) for transposed in ("", "_transpose")},
}


class Differs(Exception):
    """A second run does not call what the first one did; or what it calls cannot take several units at once."""


@dataclass
class Answer:
    """What a call below the layer gave.

    Attributes:
        func: the torch function.
        output: what it gave.
        sets: whether it is called again: it sets a state, such as whether there are gradients, and computes nothing.
    """

    func: Callable[..., Any]
    output: Any
    sets: bool = False

    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the answer; lists in it are new ones each time."""
        if self.sets:
            return self.func(*args, **kwargs)
        return tree_map_only(Tensor, lambda one: one, self.output) if _is_container(self.output) else self.output


class _Above(TorchFunctionMode):
    """Computes the calls above the layer, on copies of what they get from below."""

    def __init__(self, written: Written, items: int, copies: int) -> None:
        super().__init__()
        self._written, self._items, self._copies = written, items, copies
        #: By id: the tensors from below, which are held so that no other takes their id.
        self.below: dict[int, Tensor] = {}
        #: The memory of what was made of the inputs, and that which several tensors from below lie in.
        self.dependent: set[int] = set()
        self.shared: set[int] = set()
        self._storages: set[int] = set()
        self._own: dict[int, Tensor] = {}
        self._origin: dict[int, int] = {}
        self.reached = False
        #: Why the model cannot be run above its layer alone.
        self.refused: str | None = None
        self.calls_above: list[Callable[..., Any]] = []

    def arrived(self) -> None:
        """Take note that the layer has returned."""
        self.reached = True
        lying = Counter(map(storage_of, self.below.values()))
        self._storages = set(lying)
        self.shared = {place for place, count in lying.items() if count > 1}

    def own(self, value: Any) -> Any:
        """Return a value with each tensor from below replaced by a copy of it, repeated for each unit."""
        if not any(id(one) in self.below for one in tensors_in((value,), {})):
            return value
        return tree_map_only(Tensor, self._copied, value)

    def _copied(self, one: Tensor) -> Tensor:
        if self.below.get(id(one)) is not one:
            return one
        if id(one) not in self._own:
            place = storage_of(one)
            copy = repeated(one, self._copies, self._items) if place in self.dependent else one.clone()
            self._own[id(one)] = copy
            self._origin[storage_of(copy)] = place
        return self._own[id(one)]

    def _computed(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = self.own((args, kwargs))
        for one in written_by(func, args, kwargs):
            place = storage_of(one)
            if place in self._storages or self._origin.get(place) in self.shared:
                self._refuse("what the layer's later calls write to is seen by others too")
        self._written.about_to_call(func, args, kwargs)
        self.calls_above.append(func)
        return func(*args, **kwargs)

    def _refuse(self, reason: str) -> None:
        self.refused = self.refused or reason


class Making(TorchFunctionMode):
    """Watches a run for the calls that make units of weights.

    Attributes:
        last: of the last one so far: in which dimension units are, and the shape of all; None: there was none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last: tuple[int, torch.Size] | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self.last = _made_units(func, tensors_in((output,), {})) or self.last
        return output


def _made_units(func: Callable[..., Any], made: list[Tensor]) -> tuple[int, torch.Size] | None:
    """Return in which dimension of what a call gave the units are that it made of weights, and the shape of all."""
    name = getattr(func, "__name__", "")
    return (_MAKES_UNITS[name], made[0].shape) if made and name in _MAKES_UNITS and made[0].dim() > 1 else None


class Recording(_Above):
    """A run whose calls below the layer are kept.

    Attributes:
        answers: of the calls below, in order.
        used: ids of the tensors from below that calls above read.
        unknown: whether a call read a tensor that no call has made and that is not the model's: what made it was not
            seen, and may read what was kept.
        reads_values: whether a call above hands values to Python.
        made_units: of the last call below that makes units of weights: in which dimension, and the shape of all.
        nbytes: what the calls above made.
    """

    def __init__(self, module: nn.Module, inputs: Tensor, written: Written) -> None:
        super().__init__(written, len(inputs), 1)
        self.answers: list[Answer] = []
        self.below = {id(inputs): inputs}
        self.dependent = {storage_of(inputs)}
        self.used: set[int] = set()
        self.unknown = False
        self.reads_values = False
        self.made_units: tuple[int, torch.Size] | None = None
        self.nbytes = 0
        plain = (value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor))
        self._models = {id(one) for one in (*module.parameters(), *module.buffers(), *plain)}
        self._made: dict[int, weakref.ref[Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        read = tensors_in(args, kwargs)
        self.unknown = self.unknown or not all(map(self._is_known, read))
        return self._above(func, args, kwargs) if self.reached else self._below(func, args, kwargs, read)

    def _is_known(self, one: Tensor) -> bool:
        made = self._made.get(id(one))
        return id(one) in self._models or id(one) in self.below or (made is not None and made() is one)

    def _below(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], read: list[Tensor]
    ) -> Any:
        self._written.about_to_call(func, args, kwargs)
        written = written_by(func, args, kwargs)
        output = func(*args, **kwargs)
        made = tensors_in((output,), {})
        if any(storage_of(one) in self.dependent for one in read):
            self.dependent.update(storage_of(one) for one in (*made, *written))
        self.below |= {id(one): one for one in made}
        self.made_units = _made_units(func, made) or self.made_units
        leaves = [one for one in tree_leaves(output) if not isinstance(one, Tensor)]
        if not all(isinstance(one, _PLAIN) for one in leaves):
            self._refuse(f"`{name_of(func)}` gives what cannot be kept")
        self.answers.append(Answer(func, output, output is None and not read))
        return output

    def _above(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.uses((args, kwargs))
        self.reads_values = self.reads_values or getattr(func, "__name__", "") in _READ_VALUES
        output = self._computed(func, args, kwargs)
        for one in tensors_in((output,), {}):
            if one.dim():
                self.nbytes += one.numel() * one.element_size()
            self._made[id(one)] = weakref.ref(one)
        return output

    def uses(self, value: Any) -> None:
        """Take note of the tensors from below in what a call above, or the caller, gets."""
        self.used.update(id(one) for one in tensors_in((value,), {}) if id(one) in self.below)

    def kept(self, *, all_of_it: bool) -> Below:
        """Return what is needed to run again; of tensors that no call above reads, only that they were there."""
        keep_all = all_of_it or self.unknown
        table = {place: one for place, one in self.below.items() if keep_all or place in self.used}
        empty: dict[int, Tensor] = {}

        def left(one: Tensor) -> Tensor:
            return one if id(one) in table else empty.setdefault(id(one), one.new_empty(0))

        for answer in self.answers:
            answer.output = tree_map_only(Tensor, left, answer.output)
        return Below(self.answers, table, self.dependent, self.shared, tuple(self.calls_above))


@dataclass
class Below:
    """What is kept of the calls below a layer; the attributes are those of the recording."""

    answers: list[Answer]
    tensors: dict[int, Tensor]
    dependent: set[int]
    shared: set[int]
    calls_above: tuple[Callable[..., Any], ...]


class Playing(_Above):
    """A run whose calls below the layer are answered.

    Args:
        below: what was kept.
        written: is told what the calls above write to.
        items: B, of the batch that was kept.
        copies: how many units are changed at once.
    """

    def __init__(self, below: Below, written: Written, items: int, copies: int) -> None:
        super().__init__(written, items, copies)
        self._answers, self._first_calls = below.answers, below.calls_above
        self.below, self.dependent = below.tensors, below.dependent
        self._shared_below = below.shared
        self._place = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.reached:
            return self._computed(func, args, kwargs)
        if self._place >= len(self._answers) or self._answers[self._place].func != func:
            self._refuse(f"`{name_of(func)}` was not called here before")
        self._place += 1
        return self._answers[self._place - 1].given(args, kwargs)

    def arrived(self) -> None:
        """Take note that the layer has returned."""
        super().arrived()
        self.shared = self._shared_below
        if self._place != len(self._answers):
            self._refuse("fewer calls were made than before")

    def _refuse(self, reason: str) -> None:
        super()._refuse(reason)
        raise Differs(reason)

    def check(self) -> None:
        """Raise `Differs` where the run was not that of before.

        A model may have caught what was raised as it ran. Several units at once take one way through the model.
        """
        if self.refused or not self.reached:
            raise Differs(self.refused)
        if self._copies > 1 and tuple(self.calls_above) != self._first_calls:
            raise Differs("other calls were made than before")


def repeated(one: Tensor, copies: int, items: int) -> Tensor:
    """Return a tensor of a batch of items as one of so many batches, (copies · B, ...), in memory of its own."""
    if copies == 1:
        return one.clone()
    if not one.dim() or not len(one) or len(one) % items:
        raise Differs(f"a tensor of shape {tuple(one.shape)} is not of each of {items} items")
    return torch.cat([one] * copies)


def _is_container(value: Any) -> bool:
    return isinstance(value, list | tuple | dict) and not isinstance(value, torch.Size)


__all__ = ["Answer", "Below", "Differs", "Making", "Playing", "Recording", "repeated"]

"""A batch in parts that fit into memory: as large as what is free allows, and smaller where it turns out too little.

What is explained of an image seldom depends on the others of its batch, and then the maps of parts are those of the
whole. Where it may depend on them, the batch is left whole: batch norm in training mode, further arguments of the
model, a mask of positions, a callable target or foil. A model that mixes its images in another way is found out by
asking it for the first image with and without company.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from visavis.errors import InputError
from visavis.memory import attempted, free_memory
from visavis.propagation.mode import Inputs

if TYPE_CHECKING:
    from visavis.methods.base import PropagationMethod

# Of what is free a part may take this share, by its estimate.
_SHARE = 0.5
# What maps take beside the outputs of the model's calls: denominators, weights made for a rule; with several maps more
# of it is kept.
_BESIDE, _BESIDE_KEPT = 1.5, 3.0
# A model is taken to hold at most so many times what its inputs hold, until a run has told.
_AT_MOST = 1000
# Below it, nobody asks how much is free.
_LITTLE = 2**30
_KEPT = 16


@dataclass(frozen=True)
class Question:
    """A map that is asked for: by which method (with its foil), of which target."""

    method: PropagationMethod
    target: Any


def several(values: Any, what: str) -> Iterable[Any]:
    """Return targets or foils, several of them, or raise an InputError that says so."""
    single = isinstance(values, str | Tensor) and (isinstance(values, str) or values.dim() == 0)
    if single or not isinstance(values, Iterable):
        raise InputError(f"{what} are several, such as [340, 386], not {values!r}; for one there is attribute()")
    return values


class Chunks:
    """Answers questions of a batch, part by part, and remembers what an image of each shape takes.

    Attributes:
        sizes: of how many images the parts of the last batch were.
    """

    def __init__(self) -> None:
        self.sizes: tuple[int, ...] = ()
        #: By shape: bytes that an image takes; the most images that went through after there were too many; and whether
        #: the model says the same of an image in other company.
        self._needs: OrderedDict[Any, float] = OrderedDict()
        self._most: OrderedDict[Any, int] = OrderedDict()
        self._alike: OrderedDict[Any, bool] = OrderedDict()

    def answered(self, questions: Sequence[Question], inputs: Inputs, additional: Any, position: Any) -> list[Inputs]:
        """Return the map of each question on inputs that are checked, all from one forward pass a part."""
        images = inputs if isinstance(inputs, tuple) else (inputs,)
        count = len(images[0])
        key = (*((one.shape[1:], one.dtype, one.device) for one in images), len(questions) > 1)
        if count > 1 and self._alike.get(key, True) and _can_be_parted(questions, count, additional, position):
            maps = self._in_parts(key, questions, inputs, position)
            if maps is not None:
                return maps
        self.sizes = (count,)
        return _answers(questions, inputs, additional, position)[0]

    def _in_parts(self, key: Any, questions: Sequence[Question], inputs: Inputs, position: Any) -> list[Inputs] | None:
        """Return the maps of a batch, part by part; None where the model turns out to need the whole of it."""
        images = inputs if isinstance(inputs, tuple) else (inputs,)
        count = len(images[0])
        whole: list[Any] = []
        sizes: list[int] = []
        start, step = 0, self._step(key, images, count)
        while start < count:
            items = slice(start, min(start + step, count))
            size = items.stop - start
            try:
                maps = self._attempted(key, questions, inputs, items, position)
            except Exception:
                if size == count or key in self._alike:
                    raise
                self._alike[key] = False
                return None
            if maps is None:
                step = self._most[key] = (size + 1) // 2
                continue
            if size < count and key not in self._alike:
                self._alike[key] = _same_in_other_company(questions[0].method, inputs, size)
                if not self._alike[key]:
                    return None
            if not whole:
                whole = maps if size == count else [tree_map(lambda one: _room(one, count), m) for m in maps]
            if size < count:
                for place, one in zip(whole, maps, strict=True):
                    tree_map(lambda room, values: room[items].copy_(values), place, one)  # noqa: B023 (called here)
            sizes.append(size)
            start = items.stop
            step = self._step(key, images, count)
        self.sizes = tuple(sizes)
        tables: list[OrderedDict[Any, Any]] = [self._needs, self._most, self._alike]
        for table in tables:
            while len(table) > _KEPT:
                table.popitem(last=False)
        return whole

    def _attempted(
        self, key: Any, questions: Sequence[Question], inputs: Inputs, items: slice, position: Any
    ) -> list[Inputs] | None:
        """Return the maps of some items; None where memory did not suffice, and they can be fewer."""
        asked = [_of_items(one, items) for one in questions]
        part = _part(inputs, items)
        size = items.stop - items.start
        found = attempted(lambda: _answers(asked, part, None, position), _device(inputs), smaller=size > 1)
        if found is None:
            return None
        maps, held = found
        self._needs[key] = max(self._needs.get(key, 0), held / size)
        return maps

    def _step(self, key: Any, images: Sequence[Tensor], count: int) -> int:
        """Return how many images to take at a time."""
        most = min(count, self._most.get(key, count))
        if key in self._needs:
            each = self._needs[key] * (_BESIDE_KEPT if key[-1] else _BESIDE)
        else:
            each = _AT_MOST * sum(one[0].numel() * one.element_size() for one in images)
        if most * each <= _LITTLE:
            return most
        free = free_memory(images[0].device)
        if free is None or most * each <= _SHARE * free:
            return most
        # What is not known yet is found out by the first image alone.
        return max(1, int(_SHARE * free / each)) if key in self._needs else 1


def _answers(questions: Sequence[Question], inputs: Inputs, additional: Any, position: Any) -> tuple[list[Inputs], int]:
    """Return the maps of a batch from one forward pass, and how many bytes that held."""
    maps = []
    with questions[0].method.opened(inputs, additional) as run:
        for place, one in enumerate(questions, start=1):
            method = one.method
            seed = method.seed_of(run.output, method.target_of(one.target), position)
            maps.append(method.map_of(run, seed, more=len(questions) - place))
        return maps, run.nbytes


def _same_in_other_company(method: PropagationMethod, inputs: Inputs, count: int) -> bool:
    """Whether the model says of the first image what it says of it among others, but for rounding.

    It is asked about the first image alone, and among as many as went through, two at least; where two are too many for
    the memory, images are never together.
    """
    said = []
    for size in (1, max(2, count)):
        first = attempted(lambda: _first_of(method, _part(inputs, slice(size))), _device(inputs), smaller=True)  # noqa: B023
        if first is None:
            return True
        said.append(first)
    alone, among = said
    rounding = torch.finfo(alone.dtype).eps ** 0.5
    return bool(((alone.double() - among.double()).abs() <= rounding * among.double().abs().amax()).all())


def _first_of(method: PropagationMethod, inputs: Inputs) -> Tensor:
    """Return what the model says of the first image of a batch."""
    with method.opened(inputs) as run:
        return run.output[:1]


def _can_be_parted(questions: Sequence[Question], count: int, additional: Any, position: Any) -> bool:
    if additional is not None or isinstance(position, Tensor | np.ndarray):
        return False
    if any(_mixes(part) for part in questions[0].method.module.modules()):
        return False
    return all(_has_items(one.target, count) and one.method.has_items(count) for one in questions)


def _mixes(part: nn.Module) -> bool:
    """Whether a module makes what it says of an image depend on the others of the batch."""
    return isinstance(part, nn.modules.batchnorm._BatchNorm) and (part.training or part.running_mean is None)


def _has_items(target: Any, count: int) -> bool:
    """Whether a target is for any image, or one for each of so many."""
    if callable(target):
        return False
    return not is_of_each(target) or len(target) == count


def is_of_each(value: Any) -> bool:
    """Whether a target has an entry for each image: a sequence, or a tensor of one dimension."""
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0
    return isinstance(value, Collection) and not isinstance(value, str)


def _of_items(question: Question, items: slice) -> Question:
    target = question.target
    if is_of_each(target):
        target = (target if isinstance(target, Tensor | np.ndarray) else list(target))[items]
    return Question(question.method.for_items(items), target)


def _part(inputs: Inputs, items: slice) -> Inputs:
    return tuple(one[items] for one in inputs) if isinstance(inputs, tuple) else inputs[items]


def _device(inputs: Inputs) -> torch.device:
    device: torch.device = (inputs[0] if isinstance(inputs, tuple) else inputs).device
    return device


def _room(like: Tensor, count: int) -> Tensor:
    return like.new_empty(count, *like.shape[1:])


__all__ = ["Chunks", "Question", "is_of_each", "several"]

"""The part of a model above a layer, run again with other activations, while what lies below is not computed again.

The model is run once on a batch, and what its torch calls gave until the layer returned is kept. To run it again, the
model is called again: the calls below are answered from what was kept, the layer's output is replaced, and the calls
above are computed. So the model need not be traced or taken apart, and skip connections, views and functional calls
need no care. Changes of several units run as one larger batch.

Not everything is a torch call, and not every model takes a batch of another size halfway. So what is found in this
way is held up to the plain forward pass, hooked at the layer, the first time that inputs of a shape come; and where
the two differ, or the run is not the one of before, units run one at a time, or by that forward pass alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.hooks import RemovableHandle

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.memory import is_out_of_memory
from visavis.modules import refuse_unexplainable
from visavis.outputs import logits_of
from visavis.propagation.mode import answer_of
from visavis.propagation.untouched import left_untouched, run_untouched
from visavis.propagation.visit import tensors_in
from visavis.units.calls import Below, Differs, Playing, Recording
from visavis.units.layer import Layer, layer_of

# By how much of the largest logit what is computed in parts may be beside the plain forward pass: larger batches are
# added up in another order.
_APART = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 5e-2}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class Way(IntEnum):
    """How the model is run with other activations; each way is right where those before it are not to be had."""

    #: The part above, several units at once.
    MANY = 0
    #: The part above, one unit at a time.
    ONE = 1
    #: The whole model, one unit at a time.
    FULL = 2


class Above:
    """The part of a model above a layer.

    Args:
        model: a module, or a Classifier, in eval mode, that takes inputs (B, ...) to logits (B, classes), or to what
            `logits_of` finds them in. It is left as it was.
        layer: path of a module in it, or a `Layer`, that is called once in a forward pass and returns a tensor
            (B, ...), or something whose first tensor is one.

    Raises:
        InputError: there is no such layer.
        ModelError: the model is in training mode, or hides what it computes.
    """

    def __init__(self, model: nn.Module | Classifier, layer: str | Layer) -> None:
        module = model.module if isinstance(model, Classifier) else model
        refuse_unexplainable(module)
        self.module, self.units = module, layer_of(layer)
        self.layer = self.units.path
        self.part = _part(module, self.layer)
        training = next((path for path, part in module.named_modules() if part.training), None)
        if training is not None:
            what = f"its part {training!r}" if training else "the model"
            raise ModelError(f"{what} is in training mode, in which results depend on chance; call .eval() on it first")
        #: By shape of the inputs: which way is right, and which were held up to the forward pass.
        self._ways: dict[Any, Way] = {}
        self._checked: set[Any] = set()

    def keep(self, inputs: Tensor) -> Kept:
        """Run the model on a batch, and keep what is needed to run it again above the layer.

        Args:
            inputs: (B, ...).

        Raises:
            InputError: `unit_dim` is none of the layer's, or is needed and not given; the basis is of other units; the
                batch is empty.
            ModelError: the layer is not called once, returns no tensor of each item, or the model fails.
        """
        if not inputs.dim() or not len(inputs):
            raise InputError(f"inputs are a batch (B, ...) with at least one item, not {tuple(inputs.shape)}")
        return Kept(self, inputs)

    @contextmanager
    def hooked(self, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
        """Replace the first tensor that the layer returns by what `change` makes of it, if that is a tensor."""

        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            tensors = tensors_in((output,), {})
            if not tensors:
                raise InputError(f"layer {self.layer!r} returns {type(output).__name__}, in which there is no tensor")
            with torch._C.DisableTorchFunction():  # what is done here is no call of the model's
                changed = change(tensors[0])
            if changed is None:
                return None
            return tree_map_only(Tensor, lambda one: changed if one is tensors[0] else one, output)

        handle: RemovableHandle = self.part.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def checked(self, found: list[Tensor], items: int) -> Tensor:
        """Return what the layer returned, one tensor of each item, or say what it did instead."""
        if len(found) != 1:
            raise ModelError(
                f"layer {self.layer!r} is called {len(found)} times in a forward pass, but a unit's activation must "
                "come from one call; name a layer that is called once"
            )
        (activation,) = found
        if activation.dim() < 2 or len(activation) != items:
            raise ModelError(
                f"layer {self.layer!r} returns a tensor of shape {tuple(activation.shape)} for a batch of {items}; "
                "expected (B, ...) with units in one of its other dimensions"
            )
        return activation


class Kept:
    """A batch on its way through the model, kept at the layer; made by `Above.keep`.

    Attributes:
        activation: what the layer returned, (B, ...).
        logits: of the model as it is, (B, classes).
        unit_dim: which dimension of the activation holds the units, from 1.
        units: how many there are.
        nbytes: about how many bytes a run above the layer holds at most, for each unit.
    """

    def __init__(self, above: Above, inputs: Tensor) -> None:
        self._above, self._inputs = above, inputs.detach()
        self._seen = self._inputs.clone()
        self._items = len(inputs)
        self._key = (tuple(inputs.shape), inputs.dtype, inputs.device)
        found: list[Tensor] = []
        with left_untouched(above.module, inputs.device) as written, torch.no_grad():
            random = _random_state(inputs.device)
            recording = Recording(above.module, self._seen, written)

            def arrive(one: Tensor) -> None:
                found.append(one.clone() if not found else one)
                if len(found) == 1:
                    recording.arrived()

            with recording, above.hooked(arrive):
                returned = answer_of(above.module, self._seen)
            recording.uses(returned)
            returned = recording.own(returned)
            drawn = not all(map(torch.equal, random, _random_state(inputs.device)))
            wrote = written.any
        self.activation = above.checked(found, len(inputs))
        self.unit_dim = _unit_dimension(above, self.activation, recording)
        self.units = self.activation.shape[self.unit_dim]
        self._basis = _basis_for(above, self.activation, self.units)
        self.nbytes = recording.nbytes + 2 * self.activation.numel() * self.activation.element_size()
        self._best = Way.ONE if recording.reads_values else Way.MANY
        self._below: Below | None = None
        if drawn or wrote or recording.refused:
            self._best = Way.FULL
            self.logits = self._passed(None)
        else:
            self._below = recording.kept(all_of_it=_has_hooks(above.module))
            self.logits = self._of(returned, 1)

    @property
    def way(self) -> Way:
        """How this batch is run with other activations, as far as is known."""
        return max(self._best, self._above._ways.get(self._key, Way.MANY))

    @property
    def coordinates(self) -> Tensor:
        """What each unit does, (B, units, ...): the activation, or its coordinates in the basis that was asked for."""
        return self.coordinates_of(self.activation)

    def coordinates_of(self, activation: Tensor) -> Tensor:
        """Return what each unit does, (B, units, ...), where the layer returns (B, ...), such as for another batch."""
        if self._basis is None:
            return activation.movedim(self.unit_dim, 1)
        return (activation.movedim(self.unit_dim, -1) @ self._basis.T).movedim(-1, 1)

    def changed(self, sets: list[Tensor], values: Tensor) -> Tensor:
        """Return activations (U · B, ...), in which the units of each of U sets have other values.

        Args:
            sets: indices of units, on the activation's device.
            values: (units,), what a unit's activations are replaced by.
        """
        many = torch.cat([self.activation] * len(sets))
        if self._basis is not None:
            own = many.movedim(self.unit_dim, -1)
            for place, units in enumerate(sets):
                along = self._basis[units]
                item = own[place * self._items : (place + 1) * self._items]
                item += (values[units].to(along) - item @ along.T) @ along
            return many
        shape = [1] * self.activation.dim()
        for place, units in enumerate(sets):
            shape[self.unit_dim] = len(units)
            item = many[place * self._items : (place + 1) * self._items]
            chosen = values[units].to(many).view(shape)
            item.index_copy_(self.unit_dim, units, chosen.expand(*_with(item.shape, self.unit_dim, len(units))))
        return many

    def run(self, activation: Tensor) -> Tensor:
        """Return the logits (U · B, classes) of the model, whose layer returns another activation.

        Args:
            activation: (U · B, ...): U times one for each of the B items, unit after unit.

        Raises:
            InputError: it is not of that shape.
            ModelError: the model fails.
        """
        count, rest = divmod(len(activation), self._items)
        if not count or rest or activation.shape[1:] != self.activation.shape[1:]:
            raise InputError(
                f"an activation of layer {self._above.layer!r} is (U · {self._items}, "
                f"{', '.join(map(str, self.activation.shape[1:]))}) for this batch, not {tuple(activation.shape)}"
            )
        parts = torch.split(activation, self._items)
        with torch.no_grad():
            while self.way is not Way.FULL:
                logits = self._played(activation, parts)
                if logits is not None:
                    return logits
                self._above._ways[self._key] = Way(self.way + 1)
            return torch.cat([self._passed(part) for part in parts])

    def _played(self, activation: Tensor, parts: tuple[Tensor, ...]) -> Tensor | None:
        """Return the logits by the part above the layer; None where it cannot be run in this way."""
        try:
            if self.way is Way.MANY:
                logits = self._play(activation, len(parts))
            else:
                logits = torch.cat([self._play(part, 1) for part in parts])
            return logits if self._is_right(logits, parts) else None
        except Exception as error:
            # Whatever is wrong with the model itself, its plain forward pass will raise.
            if is_out_of_memory(error):
                raise
            return None

    def _play(self, activation: Tensor, copies: int) -> Tensor:
        above = self._above
        assert self._below is not None
        with left_untouched(above.module, activation.device) as written:
            random = _random_state(activation.device)
            playing = Playing(self._below, written, self._items, copies)

            def arrive(_: Tensor) -> Tensor:
                playing.arrived()
                return activation.clone()

            with playing, above.hooked(arrive):
                returned = above.module(self._seen)
            returned = playing.own(returned)
            playing.check()
            if written.any or not all(map(torch.equal, random, _random_state(activation.device))):
                raise Differs("the model writes to what is its own, or draws random numbers")
        return self._of(returned, copies)

    def _passed(self, activation: Tensor | None) -> Tensor:
        """Return the logits by the plain forward pass, with the layer's own activation if no other is given."""
        above = self._above

        def arrive(_: Tensor) -> Tensor | None:
            return None if activation is None else activation.clone()

        with torch.no_grad(), run_untouched(above.module, self._inputs.device), above.hooked(arrive):
            return self._of(answer_of(above.module, self._inputs.clone()), 1)

    def _is_right(self, logits: Tensor, parts: tuple[Tensor, ...]) -> bool:
        """Whether logits are those of the plain forward pass; by some of the units, once for a shape."""
        several = len(parts) > 1
        key = (self._key, self.way, several)
        if key in self._above._checked:
            return True
        found = torch.split(logits, self._items)
        last = len(parts) - 1
        if not all(_close(found[place], self._passed(parts[place])) for place in {0, last}):
            return False
        if several and self.way is Way.MANY:
            # Units that change places with others may come out right at the ends.
            between = {1, len(parts) // 2}
            if not all(_close(found[place], self._play(parts[place], 1)) for place in between):
                return False
        self._above._checked.add(key)
        return True

    def _of(self, returned: Any, copies: int) -> Tensor:
        logits = logits_of(returned)
        if logits.dim() != 2 or len(logits) != copies * self._items:
            raise ModelError(
                f"the model returned logits of shape {tuple(logits.shape)} for a batch of {copies * self._items}; "
                "expected (B, classes)"
            )
        return logits


def _part(module: nn.Module, layer: str) -> nn.Module:
    parts: dict[str, nn.Module] = dict(module.named_modules())
    if not layer or layer not in parts:
        near = get_close_matches(layer, list(parts), n=3) or [path for path in parts if path][:3]
        raise InputError(f"there is no layer {layer!r} in {type(module).__name__}; there are {', '.join(near)}, …")
    return parts[layer]


def _unit_dimension(above: Above, activation: Tensor, recording: Recording) -> int:
    """Return in which dimension the units are: as asked for, or by the last call that made units of weights."""
    dims, asked = activation.dim(), above.units.unit_dim
    if asked is not None:
        if not 0 < abs(asked) < dims:
            raise InputError(
                f"unit_dim={asked} is no dimension of units in an output of shape {tuple(activation.shape)}; give one "
                f"from 1 to {dims - 1}, since dimension 0 holds the batch"
            )
        return asked % dims
    if dims == 2:
        return 1
    natural, shape = recording.made_units or (1 if dims > 3 else -1, activation.shape)
    if dims == len(shape) and shape[1:] == activation.shape[1:]:
        return natural % dims
    same = [place for place in range(1, dims) if activation.shape[place] == shape[natural]]
    if len(same) == 1:
        return same[0]
    if dims == len(shape) and (natural == 1 or dims == 3):  # joined, or pooled
        return natural % dims
    raise InputError(
        f"layer {above.layer!r} returns a tensor of shape {tuple(activation.shape)}, in which it cannot be told which "
        "dimension holds the units and which are positions; say so with unit_dim=..., such as unit_dim=-1"
    )


def _basis_for(above: Above, activation: Tensor, units: int) -> Tensor | None:
    basis = above.units.basis
    if basis is None:
        return None
    if len(basis) != units:
        raise InputError(f"the basis is of {len(basis)} units, but layer {above.layer!r} has {units}")
    return basis.detach().to(activation)


def _with(shape: torch.Size, dimension: int, size: int) -> list[int]:
    return [size if place == dimension else one for place, one in enumerate(shape)]


def _has_hooks(module: nn.Module) -> bool:
    """Whether somebody watches the model, who would see what is left of the tensors below."""
    return any(getattr(part, hooks, None) for part in module.modules() for hooks in _HOOKS)


def _random_state(device: torch.device) -> list[Tensor]:
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    scale = float(other.nan_to_num(0, 0, 0).abs().amax()) if other.numel() else 0.0
    bound = _APART.get(one.dtype, 1e-3) * scale
    return bool(torch.isclose(one, other, rtol=0, atol=bound, equal_nan=True).all())


__all__ = ["Above", "Kept", "Way"]

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

from contextlib import AbstractContextManager
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor, nn

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.memory import is_out_of_memory
from visavis.modules import refuse_unexplainable
from visavis.outputs import logits_of
from visavis.propagation.mode import answer_of
from visavis.propagation.untouched import left_untouched, run_untouched
from visavis.units.calls import Below, Differs, Playing, Recording
from visavis.units.layer import Layer, layer_of
from visavis.units.places import places_of
from visavis.units.reach import Calls, Change, Reach

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
        layer: path of a module in it, or a `Layer`, that is called once in a forward pass, if it does not say which
            call is meant, and returns a tensor (B, ...), or something whose first tensor is one.

    Raises:
        InputError: there is no such layer, or no such heads of it.
        ModelError: the model is in training mode, or hides what it computes.
    """

    def __init__(self, model: nn.Module | Classifier, layer: str | Layer) -> None:
        module = model.module if isinstance(model, Classifier) else model
        refuse_unexplainable(module)
        self.module, self.units = module, layer_of(layer)
        self.layer = self.units.path
        self.reach = Reach(module, self.units)
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
            InputError: `unit_dim` is none of the layer's, or is needed and not given; the basis is of other units;
                there is no such call of the layer; the batch is empty.
            ModelError: the layer is not called once, and no call of it was named; it returns no tensor of each item, or
                the model fails.
        """
        if not inputs.dim() or not len(inputs):
            raise InputError(f"inputs are a batch (B, ...) with at least one item, not {tuple(inputs.shape)}")
        self.reach.settle(inputs)
        return Kept(self, inputs)

    def hooked(self, change: Change) -> AbstractContextManager[Calls]:
        """Replace the layer's activations, at the call that is meant, by what `change` makes of them, if anything."""
        return self.reach.hooked(change)


class Kept:
    """A batch on its way through the model, kept at the layer; made by `Above.keep`.

    Attributes:
        activation: what the layer returned, (B, ...); of attention heads (B, ..., heads, features), what they give.
        logits: of the model as it is, (B, classes).
        places: where the units are in the activation.
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

            with recording, above.hooked(arrive) as calls:
                returned = answer_of(above.module, self._seen)
            recording.uses(returned)
            returned = recording.own(returned)
            drawn = not all(map(torch.equal, random, _random_state(inputs.device)))
            wrote = written.any
        self.activation = above.reach.only(found, calls, len(inputs))
        self.places = places_of(above.units, self.activation, recording.made_units)
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
    def layer(self) -> str:
        """The path of the layer."""
        return self._above.layer

    @property
    def rotated(self) -> bool:
        """Whether the units are coordinates in a basis that is not the layer's own."""
        return self.places.basis is not None

    @property
    def unit_dim(self) -> int:
        """Which dimension of the activation holds the units, from 1."""
        return self.places.dimension

    @property
    def units(self) -> int:
        """How many units there are."""
        return self.places.units

    @property
    def coordinates(self) -> Tensor:
        """What each unit does, (B, units, ...): the activation, or its coordinates in the basis that was asked for."""
        return self.coordinates_of(self.activation)

    def coordinates_of(self, activation: Tensor) -> Tensor:
        """Return what each unit does, (B, units, ...), where the layer returns (B, ...), such as for another batch."""
        return self.places.coordinates(activation)

    def changed(self, sets: list[Tensor], values: Tensor) -> Tensor:
        """Return activations (U · B, ...), in which the units of each of U sets have other values.

        Args:
            sets: indices of units, on the activation's device.
            values: (units,), what a unit's activations are replaced by; or, for attention heads, (heads, features).
        """
        return self.places.changed(self.activation, sets, values)

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


def _has_hooks(module: nn.Module) -> bool:
    """Whether somebody watches the model, who would see what is left of the tensors below."""
    return any(getattr(part, hooks, None) for part in module.modules() for hooks in _HOOKS)


def _random_state(device: torch.device) -> list[Tensor]:
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not other.numel():
        return True
    # Class by class: one whose logit is a huge constant must not hide that the others differ.
    scales = other.nan_to_num(0, 0, 0).abs().amax(0)
    scales = scales.clamp(min=float(scales.median()) / 10)
    bound = _APART.get(one.dtype, 1e-3) * scales
    same = (one == other) | (one.isnan() & other.isnan())
    return bool((same | ((one - other).abs() <= bound)).all())


__all__ = ["Above", "Kept", "Way"]

"""How a method's maps are computed: as the model runs, or by playing a recording of it.

A recording (`propagation/recording.py`) leaves out what Python does between a model's torch calls, which for one image
is most of the time on a GPU. It is kept for a model, a shape and settings, and made anew when any of these change.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from visavis.errors import InputError, ModelError
from visavis.propagation.mode import Inputs
from visavis.propagation.playing import Player
from visavis.propagation.recording import NotRecordable, Watch
from visavis.propagation.untouched import version_of

if TYPE_CHECKING:
    from visavis.methods.base import PropagationMethod

#: The ways to compute maps, each with what it means.
EXECUTIONS = {
    "auto": "on a GPU, few images of one shape are played as a CUDA graph from their second call on; all else eagerly",
    "eager": "as the model runs",
    "graph": "recorded once, then played: on a GPU as a CUDA graph",
    "compiled": "recorded once, compiled by TorchInductor (a minute or more), then played: on a GPU as a CUDA graph",
}
# So many values of inputs (13 pictures of 224 × 224) are still few: what Python does weighs more than what they hold.
_FEW_VALUES = 2**21
_KEPT = 4


class Execution:
    """The recordings of one method object, by shapes and settings; or why there are none.

    Attributes:
        kind: a name in EXECUTIONS.
    """

    def __init__(self, kind: str) -> None:
        if kind not in EXECUTIONS:
            raise InputError(f"execution is {', '.join(map(repr, EXECUTIONS))}, not {kind!r}")
        self.kind = kind
        self._lock = threading.RLock()
        #: By key: how often it was asked for; the player, with the settings that it was made with; or why there was
        #: none, with the model and the settings as they were, for with others there may be one.
        self._asked: OrderedDict[Any, int] = OrderedDict()
        self._players: OrderedDict[Any, tuple[Player, list[Any], tuple[int, int]]] = OrderedDict()
        self._given_up: OrderedDict[Any, tuple[str, Watch, list[Any]]] = OrderedDict()
        self._reasons: OrderedDict[str, None] = OrderedDict()

    def __deepcopy__(self, memo: dict[int, Any]) -> Execution:
        return Execution(self.kind)

    def __getstate__(self) -> dict[str, str]:
        return {"kind": self.kind}

    def __setstate__(self, state: dict[str, str]) -> None:
        self.__init__(state["kind"])  # type: ignore[misc]

    @property
    def reasons(self) -> list[str]:
        """Why calls were not played, the latest last."""
        return list(self._reasons)

    def play(
        self, method: PropagationMethod, inputs: Inputs, targets: Sequence[Any], additional: Any, position: Any
    ) -> list[Inputs] | None:
        """Return the maps of targets by playing a recording; None where they are to be computed eagerly.

        Raises:
            ModelError: a recording was asked for, and there can be none; the sentence says why.
        """
        images = inputs if isinstance(inputs, tuple) else (inputs,)
        if self.kind == "eager" or not images or not targets or not all(isinstance(one, Tensor) for one in images):
            return None
        if self.kind == "auto" and not _few_on_gpu(images):
            return None
        key = (
            *map(_told, images),
            isinstance(inputs, tuple),
            targets[0] is None,
            len(targets) > 1,
            _settings(images[0]),
        )
        with self._lock:
            reason = _why_not(targets, additional, position) or self._why_given_up(key, method)
            if reason:
                self._refuse(reason)
                return None
            count = self._asked[key] = self._asked.pop(key, 0) + 1
            while len(self._asked) > 16 * _KEPT:
                self._asked.popitem(last=False)
            if self.kind == "auto" and count == 1:
                return None
            try:
                return self._played(key, method, inputs, targets)
            except NotRecordable as error:
                self._refuse(str(error))
                return None

    def _why_given_up(self, key: Any, method: PropagationMethod) -> str:
        reason, watch, settings = self._given_up.get(key, ("", None, []))
        return reason if watch is not None and watch.unchanged and _settings_of(method) == settings else ""

    def _played(self, key: Any, method: PropagationMethod, inputs: Inputs, targets: Sequence[Any]) -> list[Inputs]:
        device = (inputs[0] if isinstance(inputs, tuple) else inputs).device
        if key not in self._players:
            self._record(key, method, inputs, targets)
        for _ in range(2):
            player, settings, shape = self._players[key]
            self._players.move_to_end(key)
            indices = [_indices(method, one, shape, device) for one in targets]
            maps = player.play(inputs, indices)
            # While the device plays. What it reads is still there, whatever has become of the model.
            if player.follows and _settings_of(method) == settings:
                return maps
            self._record(key, method, inputs, targets)
        raise NotRecordable("the model changes while it is explained")

    def _record(self, key: Any, method: PropagationMethod, inputs: Inputs, targets: Sequence[Any]) -> None:
        self._players.pop(key, None)
        self._given_up.pop(key, None)
        inputs = method.checked(inputs)
        settings = _settings_of(method)
        try:
            self._players[key] = self._recorded(method, inputs, targets, settings)
        except NotRecordable as error:
            why = error
        except torch.OutOfMemoryError:
            if self.kind != "auto":
                raise
            why = NotRecordable("the device's memory does not hold a recording")
        else:
            while len(self._players) > _KEPT:
                self._players.popitem(last=False)
            return
        self._given_up[key] = str(why), Watch(method.module), settings
        while len(self._given_up) > _KEPT:
            self._given_up.popitem(last=False)
        raise why

    def _recorded(
        self, method: PropagationMethod, inputs: Inputs, targets: Sequence[Any], settings: list[Any]
    ) -> tuple[Player, list[Any], tuple[int, int]]:
        """Return a player, with the settings, and how many items and classes the outputs have."""
        first = inputs[0] if isinstance(inputs, tuple) else inputs
        with method.opened(inputs) as run:
            shape = (run.output.shape[0], run.output.shape[1])
            ready = method.made_ready(run.output)
        if targets[0] is None and ready is not method:
            raise NotRecordable("the target is left to the model, and may be one of the foils")
        indices = _indices(method, targets[0], shape, first.device)
        player = Player(
            method.module,
            ready.opened,
            lambda run, at, more: ready.map_of(run, ready.seed_at(run.output, at), more=more),
            inputs,
            indices,
            method.bounds_for(first),
            several=len(targets) > 1,
            compiled=self.kind == "compiled",
        )
        return player, settings, shape

    def _refuse(self, reason: str) -> None:
        self._reasons[reason] = self._reasons.pop(reason, None)
        while len(self._reasons) > 16 * _KEPT:
            self._reasons.popitem(last=False)
        if self.kind != "auto":
            raise ModelError(
                f"these maps cannot be computed by execution={self.kind!r}: {reason}; leave it out, or pass "
                f'execution="eager"'
            )


def _few_on_gpu(images: Sequence[Tensor]) -> bool:
    return images[0].is_cuda and sum(one.numel() for one in images) <= _FEW_VALUES


def _indices(method: PropagationMethod, target: Any, shape: tuple[int, int], device: torch.device) -> Tensor | None:
    """Return the targets' indices on the device, checked on the CPU; the device is not waited for.

    Indices that lie on a GPU are taken as they are: to look at them it would have to be waited for.
    """
    if target is None:
        return None
    whole = isinstance(target, Tensor) and not target.is_floating_point() and target.dtype != torch.bool
    if whole and target.is_cuda and target.device == device and target.shape == shape[:1] and method.asks_no_foil:
        taken: Tensor = target.long()
        return taken
    indices = method.indices_of(torch.empty(shape), target)
    return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices


def _why_not(targets: Sequence[Any], additional: Any, position: Any) -> str:
    if additional is not None:
        return "additional_forward_args are given"
    if position is not None:
        return "a position is given"
    if any(callable(one) for one in targets):
        return "a target is a callable, whose answer may depend on the outputs"
    if len({one is None for one in targets}) > 1 or (len(targets) > 1 and targets[0] is None):
        return "several maps are asked for, and a target is left to the model"
    return ""


def _told(one: Tensor) -> tuple[Any, ...]:
    return one.shape, one.stride(), one.dtype, one.device


def _settings(first: Tensor) -> tuple[Any, ...]:
    """Return torch's settings that a recording would keep."""
    kind = first.device.type
    return (
        torch.is_autocast_enabled(kind),
        torch.get_autocast_dtype(kind),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.enabled,
        torch.are_deterministic_algorithms_enabled(),
    )


class _Held:
    """One value of a method's, equal to itself alone, and while nothing was written to it; kept, so that it stays."""

    def __init__(self, value: Any) -> None:
        self._value, self._content = value, _content(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self._value is other._value and self._content == other._content

    __hash__ = None  # type: ignore[assignment]


def _settings_of(method: PropagationMethod) -> list[Any]:
    classifier = method.classifier
    return [_Held(value) for value in (*vars(method).values(), classifier.module, classifier.bounds)]


def _content(value: Any) -> Any:
    """Return what is another once a value was written to: that of a foil, say."""
    if isinstance(value, Tensor):
        return id(value), version_of(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_content(one) for one in value] if isinstance(value, list | tuple) else id(value)

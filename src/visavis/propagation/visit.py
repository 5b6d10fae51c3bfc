"""One call of the model, intercepted: what came, how to run it, and how its output gets a backward of our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from visavis.propagation.rulesets import RuleSet
from visavis.propagation.trace import Call, Trace, leave_trace, trace_of

#: Takes the relevance of the output to the relevance of each source.
Moves = Callable[[Tensor], "Tensor | tuple[Tensor | None, ...]"]


class _Cross(torch.autograd.Function):
    """Hands on a value that was computed beforehand, and moves relevance back as it is told to."""

    @staticmethod
    def forward(ctx: Any, value: list[Tensor], move: Moves, *sources: Tensor) -> Tensor:
        ctx.move = move
        return value.pop()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:
        moved = ctx.move(relevance)
        if not _keeps_graph():
            # As torch does with what it has saved: what this crossing held is free for those that are still to come.
            release = getattr(ctx.move, "release", None)
            ctx.move = _gone
            if release is not None:
                release()
        return (None, None, *(moved if isinstance(moved, tuple) else (moved,)))


def _keep() -> bool:
    return True


# Whether the backward pass that is under way leaves the graph for another one. Without it all is kept to the end.
_keeps_graph: Callable[[], bool] = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", _keep)


def _gone(relevance: Tensor) -> Tensor:
    raise AssertionError("what this crossing held was let go of with the last map")


def cross(value: Tensor, move: Moves, *sources: Tensor) -> Tensor:
    """Return `value` (not differentiable so far) as a function of `sources` whose backward is `move`."""
    # A fresh alias leaves: `move` may keep `value`, which must not come to hold the graph that holds `move`.
    result: Tensor = _Cross.apply([value.detach()], move, *sources)
    return result


@dataclass(eq=False)
class Visit:
    """A call on the path: the function and its arguments, the tensors among them that carry relevance, the rules."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    call: Call
    rules: RuleSet
    token: object
    sources: tuple[Tensor, ...]
    #: Puts the mode back on for a while: a function is then crossed call by call, and not as a whole.
    reopened: Callable[[], AbstractContextManager[object]] = nullcontext
    #: The arguments with which the call writes its result over its first one, where the model asks for it and no
    #: crossing needs what stood there; else None.
    over_input: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    # -- what came ---------------------------------------------------------------------------------------------------

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument given by position or by name."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)

    def refused(self, advice: str) -> Any:
        """Return that a call cannot be crossed with these arguments, and keep what to do about it for the error."""
        self.call.advice = advice
        return NotImplemented

    def trace(self, value: object) -> Trace | None:
        """Return what is known of a tensor on the path; None if it is not on it."""
        return trace_of(value, self.token)

    @property
    def traces(self) -> list[Trace]:
        """What is known of each source."""
        return [trace for source in self.sources if (trace := self.trace(source)) is not None]

    @property
    def nonnegative(self) -> bool:
        """Whether every source is known to be ≥ 0."""
        return all(trace.nonnegative for trace in self.traces)

    # -- running it --------------------------------------------------------------------------------------------------

    def native(self) -> Any:
        """Run the call as torch does, with torch's own backward."""
        return self.func(*self.args, **self.kwargs)

    def value(self) -> Any:
        """Run the call without a backward."""
        with torch.no_grad():
            return self.func(*self.args, **self.kwargs)

    def value_over_input(self) -> Any:
        """Run the call as `value` does, over its input where that may be."""
        if self.over_input is None:
            return self.value()
        (x, *rest), named = self.over_input
        with torch.no_grad():
            return self.func(x.detach(), *rest, **named)

    def with_sources(self, replacements: Sequence[Tensor]) -> Any:
        """Run the call with each source replaced by the tensor in its place."""
        table = {id(s): r for s, r in zip(self.sources, replacements, strict=True)}
        args, kwargs = tree_map_only(Tensor, lambda t: table.get(id(t), t), (self.args, self.kwargs))
        return self.func(*args, **kwargs)

    # -- what leaves -------------------------------------------------------------------------------------------------

    def leave(self, output: Any, **known: Any) -> Any:
        """Attach a trace to every tensor of `output` that relevance can reach and return it."""
        tensors = [t for t in _tensors(output) if t.is_floating_point() and t.requires_grad]
        for tensor in tensors:
            if not any(tensor is source for source in self.sources):
                leave_trace(tensor, Trace(self.token, self.call, node=tensor.grad_fn, **known))
        if tensors:
            self.call.shape = tuple(tensors[0].shape)
        return output


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    return []


def tensors_in(args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors among the arguments, also those in lists, tuples and dictionaries."""
    return [tensor for value in (args, kwargs) for tensor in _tensors(value)]


def identity(relevance: Tensor) -> Tensor:
    """Move relevance on as it is."""
    return relevance

"""A run, recorded: its torch calls in their order, which play again without the model and without the mode.

What a run calls depends on the model and on shapes, hardly ever on values. So the calls of one run (forward pass and
maps) can be written down, and played with other inputs and targets: without Python's part in them, which for one image
takes longer than a GPU does; as one CUDA graph; or compiled. A recording is cut where a target comes in:

- the forward pass takes the inputs to the output;
- the first map takes targets to relevance, and makes the denominators;
- a further map takes other targets to relevance, by the denominators that are there.

Parameters and buffers are read where they lie, each time: nothing that is made of weights outlives a playing, so that
a recording follows the model however its weights change. What a recording cannot follow is watched for (`Watch`):
other tensors in their place, other attributes, hooks, training mode.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import get_proxy_mode, has_proxy_slot, make_fx
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from visavis.errors import ModelError, VisavisError
from visavis.propagation.mode import Bounds, Run
from visavis.propagation.visit import tensors_in

#: Opens a run on inputs.
Opens = Callable[[Any], AbstractContextManager[Run]]
#: Makes a map in a run of targets, (B,) indices (None: each item's strongest); and whether more maps will follow.
Maps = Callable[[Run, "Tensor | None", bool], Any]
#: Plays a piece: from the values that it reads to those that it gives. The list is emptied as they are read.
Plays = Callable[[list[Tensor]], Sequence[Tensor]]
# By how much of their width inputs may reach beyond their bounds.
BEYOND = 1e-3
# What hands a tensor's values to Python without a call that a recording sees.
_GIVE_NUMBERS = (Tensor.tolist, Tensor.numpy, Tensor.__array__)
# A larger container is watched by its length alone.
_LOOKED_INTO = 1000
# Attributes that torch gives every module, watched by themselves or of no consequence.
_TORCHS_OWN = frozenset(vars(nn.Module()))
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class NotRecordable(ModelError):
    """A run cannot be recorded; the message is the reason, as the rest of a sentence."""


@dataclass(frozen=True)
class Piece:
    """Some calls of a run in their order.

    Attributes:
        calls: what takes the values that the piece reads to those that it gives.
        reads, gives: their names in the recording.
    """

    calls: fx.GraphModule
    reads: tuple[str, ...]
    gives: tuple[str, ...]

    def play(self, values: list[Tensor]) -> list[Tensor]:
        """Play the calls one by one; each value is let go of after its last reader, those in the list too."""
        graph, kept = self.calls.graph, {}
        last: dict[fx.Node, fx.Node] = {}
        for node in graph.nodes:
            for read in node.all_input_nodes:
                last[read] = node
        waiting = values[::-1]
        values.clear()
        gone: dict[fx.Node, list[fx.Node]] = {}
        for read, node in last.items():
            gone.setdefault(node, []).append(read)
        result: list[Tensor] = []
        for node in graph.nodes:
            if node.op == "placeholder":
                kept[node] = waiting.pop()
            elif node.op == "output":
                result = [kept[given] for given in node.args[0]]
            else:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), kept.__getitem__)
                kept[node] = node.target(*args, **kwargs)
            for read in gone.get(node, ()):
                del kept[read]
        return result


@dataclass(frozen=True)
class Recording:
    """A run's calls.

    Attributes:
        pieces: the forward pass, the first map, and, if several were recorded, a further map; where each item's
            strongest class is the target, all in one.
        constants: the tensors that the pieces read beside what is given to them, by name: the model's, and bounds.
        inputs: names of the inputs.
        targets: name of the targets of each map; none where each item's strongest class is the target.
        maps: names of each map's relevances, one an input.
        several: whether inputs and maps are tuples.
    """

    pieces: tuple[Piece, ...]
    constants: dict[str, Tensor]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    maps: tuple[tuple[str, ...], ...]
    several: bool


def recorded(
    module: nn.Module, opens: Opens, maps: Maps, inputs: Any, targets: Tensor | None, bounds: Bounds | None, count: int
) -> Recording:
    """Record a run on `inputs`, and maps in it.

    Args:
        module: the model.
        opens: opens a run of it.
        maps: makes a map in a run.
        inputs: what to record it on: a tensor, or a tuple of tensors.
        targets: (B,) indices, some; None: each item's strongest class.
        bounds: those of the (first) input, outside of which an image's map is NaN, as it is for a target that the
            outputs have not.
        count: 1: one map; 2: a first one and a further one.

    Raises:
        NotRecordable: the run depends on more than inputs, targets and tensors of the model.
    """
    several = isinstance(inputs, tuple)
    given = inputs if several else (inputs,)
    _refuse_unsuited(module)
    wrote = False

    def calls(*tensors: Tensor) -> tuple[Any, ...]:
        nonlocal wrote
        images, indices = tensors[: len(given)], tensors[len(given) :]
        fine = _fine(images, bounds)
        found = []
        quiet = _NoValues()  # type: ignore[no-untyped-call]
        with _NoNumbers(), quiet, opens(images if several else images[0]) as run:
            for one in indices or (None,):
                asked_for = None if one is None else one.view_as(one)
                moved = maps(run, asked_for, count > 1)
                of_each = moved if isinstance(moved, tuple) else (moved,)
                right = fine if asked_for is None else fine & (asked_for >= 0) & (asked_for < run.output.shape[1])
                found.append(tuple(_where(right, each) for each in of_each))
            wrote = run.wrote
        return tuple(found)

    asked = () if targets is None else tuple(targets.clone() for _ in range(count))
    try:
        traced = make_fx(calls, tracing_mode="real")(*given, *asked)
    except NotRecordable:
        raise
    except (RuntimeError, VisavisError) as error:  # what fails here alone: the model has just run
        if type(error) not in (RuntimeError, NotImplementedError) and not isinstance(error, VisavisError):
            raise
        reason = str(error).strip().splitlines()[0]
        raise NotRecordable(f"what it calls cannot be written down ({reason})") from error
    if wrote:
        raise NotRecordable("the model writes to its own parameters or buffers as it runs")
    return _cut(traced, len(given), several)


def _everywhere() -> list[Any]:
    """Return the hooks that are called for the modules of all models."""
    return [hook for hooks in _HOOKS for hook in getattr(nn.modules.module, f"_global{hooks}").values()]


def _refuse_unsuited(module: nn.Module) -> None:
    if _everywhere():
        raise NotRecordable("all models have hooks, which playing a recording would not call")
    for path, part in module.named_modules():
        name = f"`{path}`" if path else "the model"
        if part.training and not isinstance(part, nn.Sequential | nn.ModuleList | nn.ModuleDict) and _has_modes(part):
            raise NotRecordable(f"{name} is in training mode")
        if any(getattr(part, hooks, None) for hooks in _HOOKS):
            raise NotRecordable(f"{name} has hooks, which playing a recording would not call")


class _NoNumbers(TorchFunctionMode):
    """Refuses to give values of tensors to Python past torch's dispatcher."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _GIVE_NUMBERS:
            raise _reads_values(resolve_name(func))
        return func(*args, **(kwargs or {}))


class _NoValues(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses calls whose answer, or its shape, depends on values: a recording would keep those that it was made of."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        asked = tensors_in(args, kwargs or {})
        if torch.Tag.dynamic_output_shape in func.tags and _shape_depends(func, args, asked):
            raise _reads_values(func)
        if torch.Tag.data_dependent_output in func.tags:
            if not all(map(_made_here, asked)):
                raise _reads_values(func)
            try:
                return func(*args, **(kwargs or {}))  # of a constant that the model makes as it runs
            except RuntimeError as error:
                raise _reads_values(func) from error
        return func(*args, **(kwargs or {}))


def _reads_values(by: Any) -> NotRecordable:
    return NotRecordable(f"what it calls depends on values of tensors (it reads some by `{by}`)")


def _shape_depends(func: Any, args: tuple[Any, ...], asked: list[Tensor]) -> bool:
    made = [one for one in asked if _made_here(one)]
    if func is torch.ops.aten.index.Tensor:  # by numbers of places its shape is theirs
        made = [one for one in made if one.dtype in (torch.bool, torch.uint8) and one is not args[0]]
    return bool(made)


def _made_here(one: Tensor) -> bool:
    """Whether a recording knows where a tensor comes from: it is an input, or was made of one or in the run."""
    mode = get_proxy_mode()
    return mode is not None and has_proxy_slot(one, mode.tracer)


def _has_modes(part: nn.Module) -> bool:
    return isinstance(part, nn.modules.batchnorm._NormBase | nn.modules.dropout._DropoutNd | nn.RNNBase)


def _fine(images: Sequence[Tensor], bounds: Bounds | None) -> Tensor:
    """Return which items of a batch are finite, and within their bounds."""
    fine = torch.stack([torch.isfinite(one).flatten(1).all(1) for one in images]).all(0)
    if bounds is None:
        return fine
    first = images[0]
    # In the precision of the pixels, which may have been rounded beyond them.
    low, high = bounds.low.to(first), bounds.high.to(first)
    slack = BEYOND * (high - low).max()
    within = (first >= low - slack) & (first <= high + slack)
    return fine & within.flatten(1).all(1)


def _where(fine: Tensor, relevance: Tensor) -> Tensor:
    return torch.where(fine.view(-1, *(1,) * (relevance.dim() - 1)), relevance, torch.nan)


# -- cutting it ------------------------------------------------------------------------------------------------------


def _cut(traced: fx.GraphModule, inputs: int, several: bool) -> Recording:
    """Cut a traced run where targets are first read."""
    nodes = list(traced.graph.nodes)
    placeholders = [node for node in nodes if node.op == "placeholder"]
    targets = placeholders[inputs:]
    constants = {node: _constant(traced, node) for node in nodes if node.op == "get_attr"}
    (end,) = (node for node in nodes if node.op == "output")
    (maps,) = end.args
    results = {one for of_each in maps for one in of_each}
    body = [node for node in nodes if node.op not in ("placeholder", "get_attr", "output")]
    for node in body:
        if _draws(node):
            raise NotRecordable(f"the model draws random numbers (`{node.target}`)")
        if any(written in constants or written in placeholders for written in _written(node)):
            raise NotRecordable(f"the model writes to its own parameters or buffers, or to its input (`{node.target}`)")
    starts = [next(place for place, node in enumerate(body) if one in node.all_input_nodes) for one in targets]
    pieces = []
    for first, behind in itertools.pairwise([0, *starts, len(body)]):
        later = {read for node in body[behind:] for read in node.all_input_nodes}
        pieces.append(_piece(traced, body[first:behind], later | results))
    return Recording(
        tuple(pieces),
        {node.name: tensor for node, tensor in constants.items()},
        tuple(node.name for node in placeholders[:inputs]),
        tuple(node.name for node in targets),
        tuple(tuple(one.name for one in of_each) for of_each in maps),
        several,
    )


def _constant(traced: fx.GraphModule, node: fx.Node) -> Tensor:
    value = operator.attrgetter(str(node.target))(traced)
    if not isinstance(value, Tensor):
        raise NotRecordable(f"it holds what is no tensor ({type(value).__name__})")
    return value.detach()


def _draws(node: fx.Node) -> bool:
    """Whether a call draws random numbers: one that may, unless it is attention without dropout."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    for place, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if argument.name == "dropout_p":
            given = node.args[place] if place < len(node.args) else argument.default_value
            return bool(node.kwargs.get("dropout_p", given) != 0)
    return True


def _written(node: fx.Node) -> Iterator[fx.Node]:
    """Yield what a call writes to."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return
    for place, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = node.kwargs.get(argument.name, node.args[place] if place < len(node.args) else None)
            yield from (
                one for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, fx.Node)
            )


def _piece(traced: fx.GraphModule, own: list[fx.Node], wanted: set[fx.Node]) -> Piece:
    inside = set(own)
    reads = list(dict.fromkeys(read for node in own for read in node.all_input_nodes if read not in inside))
    gives = [node for node in own if node in wanted]
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {read: graph.placeholder(read.name) for read in reads}
    for node in own:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output([copies[node] for node in gives])
    graph.lint()
    return Piece(fx.GraphModule(traced, graph), tuple(node.name for node in reads), tuple(node.name for node in gives))


# -- what may change -------------------------------------------------------------------------------------------------


class Watch:
    """Notices what a recording cannot follow: other tensors or parts in a model, other attributes, hooks.

    Values of tensors that change in place are no business of its: a recording reads them where they lie. Not noticed is
    what lies outside of the modules and of the objects and containers that are their attributes: a global variable.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parts = [(part.__dict__, dict(part.__dict__)) for part in module.modules()]
        self._everywhere = _everywhere()
        self._classes = [(type(part), type(part).forward) for part in module.modules()]
        self._contents = [
            (value, _content(value))
            for part in module.modules()
            for name, value in vars(part).items()
            if name not in _TORCHS_OWN and _has_content(value)
        ]
        self._inner = [
            (inner, dict(inner))
            for part in module.modules()
            for inner in (part._parameters, part._buffers, part._modules, *(getattr(part, hooks) for hooks in _HOOKS))
        ]
        self._tensors = [*module.parameters(), *module.buffers()]
        #: Aliases, so that what a recording reads stays where it is even if the model's tensors move on.
        self._held = [tensor.detach() for tensor in self._tensors]
        self._places = list(map(_place, self._tensors))

    @property
    def unchanged(self) -> bool:
        """Whether all is as it was."""
        for now, then in (*self._parts, *self._inner):
            if len(now) != len(then) or not all(map(operator.is_, now.values(), then.values())):
                return False
        if _everywhere() != self._everywhere or any(kind.forward is not forward for kind, forward in self._classes):
            return False
        if any(_content(value) != then for value, then in self._contents):
            return False
        return list(map(_place, self._tensors)) == self._places


def _has_content(value: Any) -> bool:
    """Whether something may change in itself: a container, or an object with attributes, which is no module."""
    if isinstance(value, nn.Module | type) or callable(value):
        return False
    return isinstance(value, dict | list | Tensor) or hasattr(value, "__dict__")


def _content(value: Any, depth: int = 6) -> Any:
    """Return what is equal as long as nothing in a value is another; of tensors where they lie."""
    if isinstance(value, Tensor):
        return id(value), _place(value)
    if isinstance(value, dict | list | tuple) and (not depth or len(value) > _LOOKED_INTO):
        return id(value), len(value)
    if isinstance(value, dict):
        return [(key, _content(one, depth - 1)) for key, one in value.items()]
    if isinstance(value, list | tuple):
        return [_content(one, depth - 1) for one in value]
    if depth and _has_content(value) and hasattr(value, "__dict__"):
        return id(value), _content(vars(value), depth - 1)
    return value if isinstance(value, str | int | float | bool | None) else id(value)


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Return where a tensor's values lie, and how they are read there."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype

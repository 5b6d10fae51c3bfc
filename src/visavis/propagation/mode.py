"""The mode that watches a running model, and the run that it makes: one forward pass, any number of maps.

Relevance is a gradient with other backward rules. `RelevanceMode` sees every torch function that the unmodified model
calls, has its true output computed, and gives that output the backward of the matching crossing; then
`torch.autograd.grad(output, input, seed)` is layer-wise relevance propagation. What autograd does not do is left out
too: no second derivatives, and functions that torch does not let a mode see (`autograd.Function`s of a user's own) are
refused, not guessed at.
"""

from __future__ import annotations

import inspect
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from math import prod
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import CheckpointError
from torch.utils.hooks import RemovableHandle

from visavis.errors import InputError, ModelError, UnsupportedOperationError
from visavis.propagation import composites, crossings
from visavis.propagation.checkpoints import nothing_recomputed
from visavis.propagation.functions import KINDS, crossing_of, name_of, out_of_place, writes_in_place
from visavis.propagation.gradients import Activation, gradient_crossing
from visavis.propagation.ledger import Ledger, counting, ledger_of, precise_sum
from visavis.propagation.rules import guarded, headroom
from visavis.propagation.rulesets import Automatic, RuleSet
from visavis.propagation.trace import Call, Plan, Trace, leave_trace, trace_of
from visavis.propagation.units import Units
from visavis.propagation.untouched import Written, left_untouched, storage_of, written_by
from visavis.propagation.visit import Visit, tensors_in
from visavis.propagation.weighted import Weighted, last_weighted, negatable

Policy = RuleSet | Automatic | Activation
#: One tensor, or a tuple of tensors for a model of several inputs; maps of them have the same structure. What a caller
#: passes is checked as it is read, with a sentence, rather than by its annotation.
Inputs = Any
# What torch puts around a module with a full backward hook: the identity.
_HOOKED = "BackwardHookFunctionBackward"
_FLAGS_SET = (Tensor.requires_grad.__set__, Tensor.grad.__set__)  # type: ignore[attr-defined, union-attr]
_HOOKING = (Tensor.register_hook, Tensor.register_post_accumulate_grad_hook)
_NO_RULES = RuleSet(gradient=True)
_SATURATING = ("softmax", "softmin", "sigmoid", "hardsigmoid", "expit", "special_expit", "special_softmax")
_FOLDED = "batch norm folded in"
# What the largest item's seed sums to in half precision, which ends at 65504: a pixel's relevance may be a millionth of
# it, and that in between, by a rule that does not keep the sum, hundreds of times as much.
_HALF_SUM = 256


class Bounds(NamedTuple):
    """Lowest and highest values of an input, broadcastable to it.

    Attributes:
        low, high: the values.
        nonnegative: whether no value is below 0; asked here, once, and not as a model runs.
    """

    low: Tensor
    high: Tensor
    nonnegative: bool

    @classmethod
    def of(cls, low: Tensor, high: Tensor) -> Bounds:
        """Return the bounds, with what their values tell."""
        return cls(low, high, bool((low >= 0).all()))


class _Innermost(threading.local):
    """The run that this thread is in, innermost last: a model may itself explain another."""

    def __init__(self) -> None:
        self.runs: list[Run] = []


_innermost = _Innermost()


class RelevanceMode(TorchFunctionMode):
    """Hands every torch function call to the run. Inside the handler the mode is off: the outermost function counts."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if _innermost.runs[-1] is not self._run:
            return func(*args, **(kwargs or {}))
        with torch.inference_mode(False):
            return self._run.visit(func, args, kwargs or {})


class Run:
    """One forward pass of a model under the mode; afterwards, maps of any of its outputs.

    Attributes:
        input: what the model was run on, detached: a tensor, or a tuple of tensors where a tuple was given.
        output: what is explained of what the model (or the layer asked for) returned, shape (B, N, ...), detached.
        returned: all that the model itself returned.
        saturates: whether the output is that of a softmax or sigmoid.
        plan: which rule went to which call.
        reason: why it is this rule set, where the choice was left to the model; else "".
    """

    def __init__(self, module: nn.Module, written: Written, policy: RuleSet | Activation) -> None:
        self.token = object()
        self._module = module
        self._policy = policy
        self.reason = ""
        self._written = written
        self._paths = {id(part): path for path, part in module.named_modules()}
        self._calls: list[Call] = []
        # The graph node of each output on the path, with the call that made it.
        self._made: dict[Any, Call] = {}
        # What crosses a call is kept by the graph, which this run keeps: a strong reference would close a circle.
        self._reopened = partial(_mode_of, ref(self))
        self._units = Units()
        self._picking = False
        self._layer: str | None = None
        # Tensors written to in place, each with what it now reads as; and the storage that is out of date since, with
        # what was written to of it.
        self._now: dict[int, tuple[Tensor, Tensor]] = {}
        self._stale: dict[int, list[Tensor]] = {}
        # Storage of tensors on the path that the model can also reach past it, by detach() or .data; kept, so that none
        # comes to lie where another was.
        self._exposed: dict[int, Any] = {}
        self.returned: Any = None
        self.saturates = False
        self._ended = False
        # Where maps end: at the inputs, or at what a watched layer returned.
        self._watched: dict[str, Tensor] = {}
        self._end: Tensor | None = None

    # -- the forward pass --------------------------------------------------------------------------------------------

    def forward(
        self,
        inputs: Inputs,
        additional: tuple[Any, ...],
        bounds: Bounds | None,
        pick: Callable[[Any], Tensor],
        layer: str | None,
        unit_dim: int | None,
        watched: Sequence[str],
    ) -> None:
        """Run the model on `inputs` (B, C, ...) and keep the output that `pick` takes from what it returns."""
        several = inputs if isinstance(inputs, tuple) else (inputs,)
        self._layer = layer
        with torch.enable_grad():
            self._leaves = tuple(self._leaf(one, bounds if place == 0 else None) for place, one in enumerate(several))
            with ExitStack() as hooks, RelevanceMode(self):
                seen = {path: hooks.enter_context(self._output_of(path)) for path in watched}
                layer_outputs = hooks.enter_context(self._output_of(layer))
                returned = answer_of(self._module, *self._leaves, *additional)
                self.returned = returned = self._now_everywhere(returned)
                if layer is not None:
                    # A layer's output counts as it was when the layer returned it, whatever was written to it since.
                    returned = self._only(layer_outputs, layer)
                    self._now.clear()
                    self._stale.clear()
                self._refuse_foreign([returned] if isinstance(returned, Tensor) else [])
                self._picking = True
                output = self._current(pick(returned))
                self._picking = False
                if unit_dim != 1 and (made := trace_of(output, self.token)) is not None:
                    output = self._units.moved_to_front(output, made.call, unit_dim, layer)
        self._refuse_foreign([output])
        trace = trace_of(output, self.token)
        if trace is None or not output.requires_grad:
            raise ModelError(
                "the output of the model does not depend on its input along a path that torch functions make; "
                "a model that detaches its input or answers with a constant cannot be explained"
            )
        _read(trace)  # an output is read here, so that a batch norm after it is not folded into it
        self._watched = {path: self._first(self._only(outputs, path), path) for path, outputs in seen.items()}
        self._settle(trace.call)
        self._warn_of_idle_patterns()
        self.saturates = _saturates(trace.call)
        self._output, self._call = output, trace.call
        leaves = tuple(leaf.detach() for leaf in self._leaves)
        self.input = leaves if isinstance(inputs, tuple) else leaves[0]
        self.output = output.detach()
        self._now.clear()
        self._exposed.clear()

    def _leaf(self, inputs: Tensor, bounds: Bounds | None) -> Tensor:
        """Return a copy of one input, at which the path begins."""
        low = None if bounds is None else bounds.low.to(inputs).expand_as(inputs)
        high = None if bounds is None else bounds.high.to(inputs).expand_as(inputs)
        nonnegative = bounds is not None and bounds.nonnegative
        # To `as_subclass` a plain tensor would hide from a recording that the copy is one of the input.
        plain = inputs.detach() if type(inputs) is Tensor else inputs.detach().as_subclass(Tensor)
        leaf = plain.clone().requires_grad_()
        leave_trace(leaf, Trace(self.token, None, nonnegative=nonnegative, pixel=True, low=low, high=high))
        return leaf

    @property
    def two_signed(self) -> str:
        """Why the model's activations have both signs all the way: it attends, or has layer norm; "" if neither."""
        if any(call.operation == "contraction" for call in self._calls):
            return "the model attends: it multiplies activations and sums them"
        if any(call.function.split(".")[-1] in ("layer_norm", "rms_norm") for call in self._calls):
            return "the model has layer norm, after which activations have both signs"
        return ""

    def _settle(self, made: Call | None) -> None:
        """Settle which rule each weighted layer has, now that it is known which are the last."""
        if not isinstance(self._policy, RuleSet):
            return
        last = {call for call, _ in last_weighted(made)}
        for call in self._calls:
            if isinstance(weighted := call.weighted, Weighted):
                weighted.rule = self._policy.rule_for(call.module, weighted.kind, weighted.pixel, call in last)
                call.rule = repr(weighted.rule)

    def _warn_of_idle_patterns(self) -> None:
        patterns = self._policy.modules if isinstance(self._policy, RuleSet) else ()
        weighted = [call.module for call in self._calls if call.weighted is not None]
        for pattern in patterns:
            if not any(fnmatchcase(module, pattern) for module in weighted):
                warnings.warn(
                    f"the pattern {pattern!r} of the rule set matches no module with weights in this model; "
                    f"print the plan to see their paths",
                    stacklevel=6,
                )

    @contextmanager
    def _output_of(self, layer: str | None) -> Iterator[list[Any]]:
        """Collect what the module at path `layer` returns, in this thread's forward pass only."""
        outputs: list[Any] = []
        if layer is None:
            yield outputs
            return
        try:
            part = self._module.get_submodule(layer)
        except AttributeError:
            known = [path for path in self._paths.values() if path]
            raise InputError(_no_layer(layer, known)) from None

        def collect(module: nn.Module, args: Any, output: Any) -> None:
            if any(trace_of(tensor, self.token) for tensor in tensors_in(args, {"": output})):
                outputs.append(self._now_everywhere(output))

        handle = part.register_forward_hook(collect)
        try:
            yield outputs
        finally:
            handle.remove()

    def _only(self, outputs: list[Any], layer: str) -> Any:
        if len(outputs) != 1:
            many = f"is called {len(outputs)} times in the forward pass"
            if not outputs:
                many = "is not called in the forward pass, or not on what depends on the input"
            raise InputError(
                f"layer {layer!r} {many}, so its output is not one tensor; "
                f"name a module that is called once, such as the block around it"
            )
        return outputs[0]

    def _first(self, returned: Any, layer: str) -> Tensor:
        """Return the first tensor on the path that a watched layer returned."""
        for tensor in tensors_in((returned,), {}):
            if (trace := trace_of(tensor, self.token)) is not None:
                _read(trace)
                return tensor
        raise InputError(f"layer {layer!r} returns no tensor that depends on the input; name another layer")

    def visit(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer one call of a torch function by the model."""
        if self._now:
            args, kwargs = self._arguments_now(func, args, kwargs)
        self._written.about_to_call(func, args, kwargs)
        tensors = tensors_in(args, kwargs)
        traces = [(tensor, trace) for tensor in tensors if (trace := trace_of(tensor, self.token)) is not None]
        self._refuse_foreign(tensors)
        if any(is_functorch_wrapped_tensor(tensor) for tensor in tensors):
            raise UnsupportedOperationError(
                f"`{name_of(func)}`, called in {self._place()}, runs within torch.func.vmap or grad, where relevance "
                f"cannot follow; write it without them in the model"
            )
        if not traces:
            return self._off_path(func, args, kwargs)
        for tensor in tensors:
            if _overrides(tensor):
                raise UnsupportedOperationError(
                    f"`{name_of(func)}`, called in {self._place()}, meets a {type(tensor).__name__}, a tensor class "
                    f"that changes what torch functions do, which rules cannot see; pass the model with plain tensors"
                )
        if kwargs.get("out") is not None:
            raise UnsupportedOperationError(
                f"`{name_of(func)}`, called in {self._place()}, writes its result into `out=`, where relevance cannot "
                f"follow; use the result that it returns instead"
            )
        if func is Tensor.requires_grad_:
            return args[0]  # relevance passes already
        if func in _FLAGS_SET:
            return None
        if func in _HOOKING and not isinstance(self._policy, Activation):
            return RemovableHandle(OrderedDict())  # a hook on gradients has no business with relevance
        if not writes_in_place(func):
            asked = (args, kwargs)
            wanted, args, kwargs = _without_inplace(func, args, kwargs)
            spare = wanted and self._is_spare(args, kwargs)
            result = self._on_path(func, args, kwargs, traces, over_input=asked if spare else None)
            if wanted:
                self._redirect(args[0] if args else kwargs["input"], result)
            return result
        return self._in_place(func, args, kwargs, traces)

    def _is_spare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call that the model wants to write over its input may do so: none has read it, none will.

        Of a layer whose output is asked for the values are needed as they were.
        """
        x = args[0] if args else None
        if self._layer is not None or len(tensors_in(args, kwargs)) != 1 or not isinstance(x, Tensor):
            return False
        call = getattr(trace_of(x, self.token), "call", None)
        return call is not None and call.spare and call.readers == 0 and storage_of(x) not in self._exposed

    def _in_place(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        traces: list[tuple[Tensor, Trace]],
    ) -> Any:
        """Run a call that writes in place out of place, and have what it wrote to read as the result."""
        twin = out_of_place(func)
        if twin is None or not args:
            raise UnsupportedOperationError(
                f"`{name_of(func)}`, called in {self._place()}, writes in place to what relevance passes through, and "
                f"has no form out of place here; write it out of place (`y = ...`) in the model"
            )
        written = args[0]
        result = self._on_path(twin, args, kwargs, traces)
        if result.dtype != written.dtype:
            trace = trace_of(result, self.token)
            known = [] if trace is None else [(result, trace)]
            result = self._on_path(Tensor.to, (result, written.dtype), {}, known) if known else result.to(written.dtype)
        self._redirect(written, result)
        return None if func is Tensor.__setitem__ else result

    def _off_path(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._exposed and any(storage_of(tensor) in self._exposed for tensor in written_by(func, args, kwargs)):
            raise self._behind_its_back(f"`{name_of(func)}`, called in {self._place()}, writes in place")
        with torch.no_grad():
            return func(*args, **kwargs)

    def _behind_its_back(self, what: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"{what} to memory that relevance passes through, under another name (a view, detach() or .data); write it "
            f"out of place (`y = x + ...`) in the model"
        )

    def _on_path(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        traces: list[tuple[Tensor, Trace]],
        *,
        over_input: tuple[tuple[Any, ...], dict[str, Any]] | None = None,
    ) -> Any:
        crossing: Callable[[Visit], Any] | None
        rules = self._policy if isinstance(self._policy, RuleSet) else _NO_RULES
        if isinstance(self._policy, Activation):
            crossing = gradient_crossing(func, self._policy)
        else:
            crossing = gradient_crossing(func, Activation("gradient")) if rules.gradient else crossing_of(func)
        if crossing is None:
            crossing = composites.opened  # what torch has written in Python is crossed call by call
        sources = tuple({id(tensor): tensor for tensor, _ in traces}.values())
        made_by = tuple({id(t.call): t.call for _, t in traces if t.call is not None}.values())
        call = Call(name_of(func), self._path(), "", sources=made_by)
        if isinstance(self._policy, Activation) or rules.gradient:
            # torch's own backward saves what it reads, and cannot save what was made in inference mode.
            args, kwargs = tree_map_only(Tensor, lambda t: t.clone() if t.is_inference() else t, (args, kwargs))
        with torch.enable_grad(), nothing_recomputed():
            visit = Visit(func, args, kwargs, call, rules, self.token, sources, self._reopened, over_input)
            output = crossing(visit)
        if output is NotImplemented:
            return self._unknown(func, args, kwargs, call.advice)
        if crossing is crossings.cut:
            self._exposed.update((storage_of(t), t.untyped_storage()) for t in tensors_in((output,), {}))
        if call.shape:  # what comes out is on the path: the sources were read, and not merely looked at
            for _, trace in traces:
                _read(trace)
            self._units.follow(call, args, traces, output)
        if call.operation:
            self._calls.append(call)
            for tensor in tensors_in((output,), {}):
                if (left := trace_of(tensor, self.token)) is not None and left.call is call:
                    self._made[tensor.grad_fn] = call
        return output

    def _unknown(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], advice: str) -> Any:
        """Let pass what returns no floating-point tensor (sizes, comparisons, indices); refuse everything else."""
        if not writes_in_place(func):
            with torch.no_grad():
                result = func(*args, **kwargs)
            if not any(t.is_floating_point() or t.is_complex() for t in tensors_in((result,), {})):
                return result
        name = name_of(func)
        known = " for these arguments" if crossing_of(func) is not None else ""
        advice = advice or ("write it with simpler functions of torch" if known else _how_to_register(name))
        raise UnsupportedOperationError(f"`{name}`, called in {self._place()}, has no relevance rule{known}; {advice}")

    def _place(self) -> str:
        if self._picking:
            return "the callable that picks the output"
        path = self._path()
        return f"`{path}` ({type(self._module.get_submodule(path)).__name__})" if path else "the model's own forward"

    def _path(self) -> str:
        """Return the path of the module in whose forward the current call stands, by the Python stack."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            if code.co_argcount and code.co_varnames[0] == "self":
                owner = frame.f_locals.get("self")
                if isinstance(owner, nn.Module) and id(owner) in self._paths:
                    path: str = self._paths[id(owner)]
                    return path
            frame = frame.f_back
        return ""

    # -- writing in place --------------------------------------------------------------------------------------------

    def _redirect(self, written: Tensor, result: Tensor) -> None:
        """From now on `written` reads as `result`; whoever still reads its storage otherwise is refused."""
        if result is written:
            return
        for key, (tensor, now) in list(self._now.items()):
            if now is written:
                self._now[key] = (tensor, result)
        self._now[id(written)] = (written, result)
        if storage_of(result) != storage_of(written):  # else only its shape was changed
            self._stale.setdefault(storage_of(written), []).append(written)

    def _current(self, value: Tensor) -> Tensor:
        entry = self._now.get(id(value))
        if entry is not None:
            value = entry[1]
        # What a write put in place of a tensor may itself have been written to since, through a view of it.
        if self._stale and value.numel() and storage_of(value) in self._stale:
            raise self._behind_its_back(
                f"in {self._place()}, a tensor of shape {tuple(value.shape)} is read after the model wrote in place"
            )
        return value

    def _writes_back(self, x: Tensor, index: Any, value: Any) -> bool:
        """Whether `x[index] = value` ends `x[index] += ...`: it puts back the one part of x that was written.

        Of `x`, as it reads since the writes before.
        """
        writers = self._stale.get(storage_of(x), [])
        if len(writers) != 1 or id(writers[0]) not in self._now or self._now[id(writers[0])][1] is not value:
            return False
        with torch.no_grad():
            part, written = x.detach()[index], writers[0]
        return (part.data_ptr(), part.shape, part.stride()) == (written.data_ptr(), written.shape, written.stride())

    def _arguments_now(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the arguments of a call, each tensor as it reads since it was written to."""
        if func is Tensor.__setitem__ and isinstance(args[0], Tensor):
            entry = self._now.get(id(args[0]))
            x = args[0] if entry is None else entry[1]
            if self._writes_back(x, *args[1:]):
                return (x, *args[1:]), kwargs
        return self._now_everywhere((args, kwargs))

    def _now_everywhere(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._current(value)
        if type(value) in (list, tuple):
            return type(value)(self._now_everywhere(item) for item in value)
        if type(value) is dict:
            return {key: self._now_everywhere(item) for key, item in value.items()}
        return value

    def _refuse_foreign(self, tensors: list[Tensor]) -> None:
        """Refuse tensors that come from the input by a graph that was not made here."""
        for tensor in tensors:
            trace = trace_of(tensor, self.token)
            if tensor.grad_fn is None or (trace is not None and trace.node is tensor.grad_fn):
                continue
            if trace is not None and tensor.grad_fn.name() == _HOOKED:
                trace.node = tensor.grad_fn
                continue
            if trace is not None or _comes_from(tensor.grad_fn, self._leaves):
                raise UnsupportedOperationError(
                    f"`{tensor.grad_fn.name()}`, met in {self._place()}, is an autograd function that torch does not "
                    f"show to Visavis (a torch.autograd.Function, a scripted function, a reentrant checkpoint); write "
                    f"it with torch functions"
                )

    # -- maps --------------------------------------------------------------------------------------------------------

    @property
    def rules(self) -> str:
        """The name of the rule set, after any choice, or of how the gradient is propagated."""
        return self._policy.name

    @property
    def plan(self) -> Plan:
        """Which rule went to which call."""
        for call in self._calls:
            if isinstance(call.weighted, Weighted) and call.weighted.folded and _FOLDED not in call.note:
                call.note = ", ".join(filter(None, (call.note, _FOLDED)))
        name = self._policy.name
        return Plan(tuple(self._calls), name, self.reason)

    @contextmanager
    def ending_at(self, layer: str) -> Iterator[Tensor]:
        """Let maps end at what a watched layer returned, which the context gives, detached, instead of at the input."""
        self._end = self._watched[layer]
        try:
            yield self._end.detach()
        finally:
            self._end = None

    def relevance(self, seed: Tensor, *, weights: str = "plain", more: int = 0) -> Inputs:
        """Return the relevance of the input (its shape; a tuple where a tuple was given) for a seed on the output.

        An input that the output does not depend on has relevance 0.

        Args:
            seed: relevance put on each output, in its shape.
            weights: of the last weighted layers: "plain", "negated" (the dual of CLRP2) or "difference" (plain minus
                negated, in one pass).
            more: how many maps of this run will follow, for which the graph and the denominators are kept; True: some.
        """
        if seed.dtype != torch.float16 or not self._shares:
            return self._relevance(seed, weights, more)
        # What a pixel gets may be too small a number for half precision: on its way it is larger.
        scale = headroom(seed.float().abs().flatten(1).sum(1), _HALF_SUM)
        moved = self._relevance((seed * scale).to(seed.dtype), weights, more)
        return tree_map_only(Tensor, lambda one: (one / scale).to(one.dtype), moved)

    @property
    def _shares(self) -> bool:
        """Whether relevance is propagated, and not a gradient."""
        return isinstance(self._policy, RuleSet) and not self._policy.gradient

    def _relevance(self, seed: Tensor, weights: str, more: int) -> Inputs:
        if self._ended:
            raise InputError(
                "this run has given its last map, and let go of what maps are made of; ask for all but the last with "
                "more=True"
            )
        self._ended = not more
        last = negatable(self._call) if weights != "plain" else []
        for call in self._calls:
            call.keep = bool(more)
            if isinstance(call.weighted, Weighted):
                call.weighted.more = int(more)
        for crossing in last:
            crossing.weights = weights
        try:
            if isinstance(self._policy, RuleSet) and self._policy.gradient:
                # A seed r on the logit z is the gradient seed r / z: LRP-0 crosses from relevance to gradient there.
                seed = seed / guarded(self.output)
            ends = self._leaves if self._end is None else (self._end,)
            moved = torch.autograd.grad(
                self._output, ends, seed, retain_graph=bool(more), allow_unused=True, materialize_grads=True
            )
        except CheckpointError as error:
            raise UnsupportedOperationError(
                "the model recomputes parts of itself (torch.utils.checkpoint), and they came out otherwise than in "
                "the forward pass; turn its gradient checkpointing off"
            ) from error
        finally:
            for crossing in last:
                crossing.weights = "plain"
        if isinstance(self._policy, RuleSet) and self._policy.gradient:
            moved = tuple(one * leaf.detach() for one, leaf in zip(moved, ends, strict=True))
        moved = tuple(map(_apart, moved))
        return moved if isinstance(self.input, tuple) and self._end is None else moved[0]

    @property
    def nbytes(self) -> int:
        """How many bytes the outputs of the calls take together, as if each had memory of its own."""
        return self.output.element_size() * sum(prod(call.shape) for call in self._calls)

    @property
    def wrote(self) -> bool:
        """Whether the model has written to its own parameters or buffers."""
        return self._written.any

    def keeps_ledger(self, seed: Tensor) -> bool:
        """Whether relevance, and not a gradient, is propagated, and the seed has a sum of which there are shares."""
        return self._shares and float(precise_sum(seed)) != 0

    def relevance_and_ledger(self, seed: Tensor, *, more: int = 0) -> tuple[Inputs, Ledger]:
        """Return the relevance of the input, and where that of the seed went, call by call, over the whole batch.

        Args:
            seed: relevance put on each output, in its shape; its sum must not be 0, as that of a contrast is.
            more: how many maps of this run will follow; True: some.
        """
        total = float(precise_sum(seed))
        if not self.keeps_ledger(seed):
            raise InputError(
                "a ledger counts shares of the seed's relevance, and here there is none: gradients are propagated, or "
                "the seed sums to 0, as that of a contrast does, or of a score that is 0; ask for the ledger of plain "
                "LRP, by a rule set, for a score that is not"
            )
        with counting(self._made, self._leaves) as sums:
            moved = self._relevance(seed, "plain", more)
        arrived = sum(float(precise_sum(one)) for one in (moved if isinstance(moved, tuple) else (moved,)))
        return moved, ledger_of(self._calls, sums, arrived, total)


def _apart(relevance: Tensor) -> Tensor:
    """Return relevance whose values lie apart in memory: the backward of a sum repeats one, which cannot be edited."""
    repeated = any(step == 0 and size > 1 for step, size in zip(relevance.stride(), relevance.shape, strict=True))
    return relevance.contiguous() if repeated else relevance


def answer_of(module: nn.Module, *arguments: Any) -> Any:
    """Return what a model returns for its arguments.

    Raises:
        ModelError: torch raised a RuntimeError, as for inputs of a wrong shape; other errors are the model's own, and
            pass.
    """
    try:
        return module(*arguments)
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # out of memory, and the user's own: not ours to rename
            raise
        reason = str(error).strip().split("\n")[0]
        shapes = " and ".join(str(tuple(one.shape)) for one in arguments if isinstance(one, Tensor))
        raise ModelError(f"the model failed on inputs of shape {shapes}: {reason}") from error


@contextmanager
def forward(
    module: nn.Module,
    inputs: Inputs,
    policy: Policy,
    *,
    additional: tuple[Any, ...] = (),
    bounds: Bounds | tuple[Tensor, Tensor] | None = None,
    pick: Callable[[Any], Tensor],
    layer: str | None = None,
    unit_dim: int | None = 1,
    watched: Sequence[str] = (),
) -> Iterator[Run]:
    """Run `module` on `inputs` under the mode; within the context maps can be asked for; then all is as it was.

    Args:
        module: any nn.Module; it is left untouched, after an error too.
        inputs: (B, ...) floating point, on the module's device; or a tuple of these, for a module of several inputs.
        policy: a RuleSet, or an Activation (gradient, deconvnet, guided).
        additional: what the module is called with after the inputs; it is not explained.
        bounds: lowest and highest values of the (first) input, broadcastable to it.
        pick: takes the output to be explained from what the module (or the layer) returns; what it computes is part of
            the path.
        layer: path of a submodule whose output is explained instead.
        unit_dim: which dimension of that output holds the units, and is moved to be dimension 1 of `Run.output`; None:
            the last one of what dense layers made, 1 of what convolutions made.
        watched: paths of submodules at whose output maps may end, see `Run.ending_at`.
    """
    device = (inputs[0] if isinstance(inputs, tuple) else inputs).device
    if bounds is not None and not isinstance(bounds, Bounds):
        bounds = Bounds.of(*bounds)
    signed = _TWO_SIGNED.get(module, False)
    for guess in (signed, not signed):
        with torch.inference_mode(False), left_untouched(module, device) as written:
            run = Run(module, written, policy.settled(guess) if isinstance(policy, Automatic) else policy)
            _innermost.runs.append(run)
            try:
                run.forward(inputs, additional, bounds, pick, layer, unit_dim, watched)
                if not isinstance(policy, Automatic) or bool(run.two_signed) == guess or guess != signed:
                    if isinstance(policy, Automatic):
                        run.reason = run.two_signed or "the model neither attends nor has layer norm"
                    yield run
                    return
            finally:
                _innermost.runs.remove(run)
        _TWO_SIGNED[module] = not guess  # it turned out otherwise: once more, with the other rules


#: Whether a model attends or has layer norm, as far as is known; a guess, which each forward pass makes sure of.
_TWO_SIGNED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _read(trace: Trace) -> None:
    """Count one more reader of what a call gave."""
    if trace.call is not None:
        trace.call.readers += 1
        if isinstance(trace.call.weighted, Weighted):
            trace.call.weighted.readers += 1


def _how_to_register(name: str) -> str:
    """Return what to do about a function that has no rule."""
    prefix, _, rest = name.partition(".")
    path = {"F": "torch.nn.functional", "Tensor": "torch.Tensor", "torch": "torch"}.get(prefix)
    if path is None or rest.startswith("_"):
        return "write it with functions of torch that have one"
    return (
        f"`visavis.register({path}.{rest}, KIND)` teaches it one, where KIND says what the function does: "
        f"{', '.join(KINDS)} (see visavis.register)"
    )


def _saturates(call: Call | None) -> bool:
    """Whether an output, merely routed since, was made by a softmax or sigmoid."""
    while call is not None and call.operation == "route" and len(call.sources) == 1:
        (call,) = call.sources
    return call is not None and call.function.split(".")[-1] in _SATURATING


def _mode_of(run: ref[Run]) -> RelevanceMode:
    current = run()
    assert current is not None
    return RelevanceMode(current)


@lru_cache(maxsize=1024)
def _in_place_argument(func: Callable[..., Any]) -> int | None:
    """Return the position of a Python function's `inplace` parameter, if it has one."""
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        return None
    return names.index("inplace") if "inplace" in names else None


def _without_inplace(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[bool, tuple[Any, ...], dict[str, Any]]:
    """Return whether a call asks for `inplace=True`, and its arguments with that turned off."""
    position = _in_place_argument(func)
    if position is None:
        return False, args, kwargs
    if len(args) > position:
        return bool(args[position]), (*args[:position], False, *args[position + 1 :]), kwargs
    return bool(kwargs.get("inplace", False)), args, {**kwargs, "inplace": False}


def _overrides(tensor: Tensor) -> bool:
    """Whether a tensor is of a class that changes what torch functions do with it."""
    kind = type(tensor)
    if kind is Tensor or kind is nn.Parameter:
        return False
    own, default = (getattr(k.__torch_function__, "__func__", k.__torch_function__) for k in (kind, Tensor))
    plain = (torch._C._disabled_torch_function_impl, default)
    return own not in plain or kind.__torch_dispatch__ is not Tensor.__torch_dispatch__


def _comes_from(node: Any, leaves: tuple[Tensor, ...]) -> bool:
    """Whether a graph node leads back to one of `leaves`."""
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        if any(getattr(current, "variable", None) is leaf for leaf in leaves):
            return True
        waiting.extend(following for following, _ in current.next_functions)
    return False


def _no_layer(layer: str, known: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(layer, known, n=5) or known[-5:]
    return f"the model has no layer {layer!r}; layers are named as in `named_modules()`, for instance {', '.join(near)}"

"""Playing a recording: call by call, compiled by TorchInductor, and on a GPU as CUDA graphs.

A player holds the memory that it plays in: inputs and targets are copied into it, maps are copied out of it. Nothing is
waited for: whether inputs are finite and within their bounds is found out on the device, and an image that is not gets
a map of NaN.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from visavis.propagation.mode import Bounds
from visavis.propagation.recording import Maps, NotRecordable, Opens, Piece, Plays, Watch, recorded

# How far a playing may be from the run that it replays, beside the plain map of the same targets: its calls are the
# same, but a GPU may add up in another order, and compiled calls round less often.
_APART = {torch.float64: 1e-9, torch.float32: 1e-2, torch.bfloat16: 1e-1, torch.float16: 1e-1}
# With it a product of one row reads its matrix as fast as memory gives it, and makes the matrix's positive part as it
# reads; it takes the compiler a minute more, so it is for single images and matrices of so many values.
_COMPILER_FOR_ROWS = {"coordinate_descent_tuning": True}
_LARGE = 2**22
# Torch's tracer and its compiler stand still for one thread each; a model may itself explain another.
_ONE_AT_A_TIME = threading.RLock()


class Player:
    """Plays a recording of a model, for inputs of one shape.

    Args:
        module: the model.
        opens: opens a run of it.
        maps: makes a map in a run.
        inputs: what to record it on: a tensor, or a tuple of tensors; others are played later.
        targets: (B,) indices on the inputs' device, to record it with; None: each item's strongest class, always.
        bounds: those of the (first) input, on its device and of its dtype.
        several: whether several maps will be asked for at a time.
        compiled: whether TorchInductor compiles the calls.

    Raises:
        NotRecordable: it cannot be; or what was recorded, played on other inputs, is not what the model does.
    """

    def __init__(
        self,
        module: nn.Module,
        opens: Opens,
        maps: Maps,
        inputs: Any,
        targets: Tensor | None,
        bounds: Bounds | None,
        *,
        several: bool = False,
        compiled: bool = False,
    ) -> None:
        given = inputs if isinstance(inputs, tuple) else (inputs,)
        images = tuple(map(_laid_out, given))
        laid_out: Any = images if isinstance(inputs, tuple) else images[0]
        self._formats = tuple(map(_format_of, given))
        self._several = several
        self._lock = threading.Lock()
        self._graphs: list[torch.cuda.CUDAGraph] = []
        self._played: Any = torch.cuda.Event() if images[0].is_cuda else None  # type: ignore[no-untyped-call]
        # A recording made in inference mode must play outside of it too.
        with _ONE_AT_A_TIME, torch.inference_mode(False), torch.no_grad(), _algorithms(images[0]):
            self._recording = recorded(module, opens, maps, laid_out, targets, bounds, 2 if several else 1)
            constants = self._recording.constants.values()
            rows = len(images[0]) == 1 and any(one.dim() == 2 and one.numel() > _LARGE for one in constants)
            self._plays: list[Plays] = [
                _compiled(piece, rows=rows) if compiled else piece.play for piece in self._recording.pieces
            ]
            self._values = dict(self._recording.constants)
            self._values |= {name: one.clone() for name, one in zip(self._recording.inputs, images, strict=True)}
            if targets is not None:
                self._values |= {name: targets.clone() for name in self._recording.targets}
            if images[0].is_cuda:
                self._capture()
            self._compare(opens, maps, laid_out, targets)
        self._watch = Watch(module)

    @property
    def follows(self) -> bool:
        """Whether the model is still such as it was recorded."""
        return self._watch.unchanged

    def play(self, inputs: Any, targets: Sequence[Tensor | None]) -> list[Any]:
        """Return the maps of targets, (B,) indices each, for inputs of the shape that was recorded.

        Args:
            inputs: as recorded, with other values.
            targets: one map's each; [None] where the strongest class was recorded.
        """
        images = inputs if isinstance(inputs, tuple) else (inputs,)
        recording, found = self._recording, []
        with self._lock, torch.inference_mode(False), torch.no_grad():
            stream = torch.cuda.current_stream(images[0].device) if self._played is not None else None
            if self._played is not None and stream is not None:
                stream.wait_event(self._played)
            for name, one in zip(recording.inputs, images, strict=True):
                self._values[name].copy_(one)
            self._play(0)
            for count, one in enumerate(targets):
                place = min(count, len(recording.maps) - 1)
                if one is not None:
                    self._values[recording.targets[place]].copy_(one)
                    self._play(1 + place)
                maps = tuple(
                    self._values[name].clone(memory_format=kept)
                    for name, kept in zip(recording.maps[place], self._formats, strict=True)
                )
                found.append(maps if recording.several else maps[0])
            if self._played is not None and stream is not None:
                self._played.record(stream)
        return found

    def _play(self, place: int) -> None:
        if self._graphs:
            self._graphs[place].replay()
            return
        piece, recording = self._recording.pieces[place], self._recording
        kept = {*recording.constants, *recording.inputs, *recording.targets}
        if self._several:  # what a further map reads is read again for the next one
            kept |= set(recording.pieces[-1].reads)
        values = [self._values[name] if name in kept else self._values.pop(name) for name in piece.reads]
        self._values |= dict(zip(piece.gives, self._plays[place](values), strict=True))

    # -- CUDA graphs -------------------------------------------------------------------------------------------------

    def _capture(self) -> None:
        """Capture each piece as a CUDA graph; all play in one pool of memory, in the order of their capture."""
        recording = self._recording
        device = self._values[recording.inputs[0]].device
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        pool = torch.cuda.graph_pool_handle()
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            # First as it comes: kernels are chosen and compiled, and libraries take their workspace.
            for _ in range(2):
                before = dict(self._values)
                for place in range(len(recording.pieces)):
                    self._play(place)
                self._values = before
        torch.cuda.current_stream(device).wait_stream(stream)
        torch.cuda.synchronize(device)
        values, graphs = self._values, []
        lasting = {*recording.constants, *recording.inputs, *recording.targets}
        lasting |= {name for of_each in recording.maps for name in of_each}
        if self._several:  # the last piece is played over and over: what it reads must stay
            lasting |= set(recording.pieces[-1].reads)
        try:
            for place, piece in enumerate(recording.pieces):
                graph = torch.cuda.CUDAGraph()
                stays = lasting | {name for later in recording.pieces[place + 1 :] for name in later.reads}
                read = [values[name] if name in stays else values.pop(name) for name in piece.reads]
                with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                    given = self._plays[place](read)
                values |= dict(zip(piece.gives, given, strict=True))
                del given
                graphs.append(graph)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise NotRecordable(f"CUDA cannot capture it ({str(error).strip().splitlines()[0]})") from error
        self._graphs = graphs

    def _compare(self, opens: Opens, maps: Maps, inputs: Any, targets: Tensor | None) -> None:
        """Play other inputs than were recorded, and compare with the run: what was not followed shows here."""
        images = inputs if isinstance(inputs, tuple) else (inputs,)
        turned = tuple(one.flip(-1).contiguous(memory_format=_format_of(one)) for one in images)
        other: Any = turned if isinstance(inputs, tuple) else turned[0]
        with opens(other) as run:
            wanted = _flat(maps(run, targets, True))
            # What a contrast is the difference of: it may be far smaller itself.
            scores = run.output.abs()
            seed = scores == scores.amax(1, keepdim=True)
            size = torch.maximum(_flat(run.relevance(scores * seed)).norm(), wanted.norm())
        times = 2 if self._several and targets is not None else 1
        found = _flat(self.play(other, [targets] * times)[-1])
        apart = float((found - wanted).norm() / torch.where(size == 0, 1, size))
        if not apart <= _APART.get(images[0].dtype, 1e-1):
            raise NotRecordable(
                f"played on another picture it is not what the model does (the maps are {apart:.1g} apart), so the "
                f"model keeps something from one call to the next, or its maps are not finite"
            )


def _compiled(piece: Piece, *, rows: bool) -> Plays:
    """Return a piece compiled by TorchInductor, for the shapes that it first plays."""
    calls = fx.GraphModule(piece.calls, fx.Graph())
    calls.graph.output(calls.graph.graph_copy(piece.calls.graph, {}))
    for node in list(calls.graph.nodes):
        if "out" in node.kwargs:
            _write_apart(node)
        elif node.target is torch.ops.aten.view.dtype and _of_truth(node.args[0]):
            node.target = torch.ops.prims.convert_element_type.default  # it has no bits of truth values to view
    calls.recompile()
    options: dict[str, Any] = dict(_COMPILER_FOR_ROWS) if rows else {}
    function: Any = torch.compile(calls, dynamic=False, fullgraph=True, options=options)
    return lambda values: function(*values)


def _of_truth(value: Any) -> bool:
    """Whether a recorded value is of booleans."""
    return isinstance(value, fx.Node) and getattr(value.meta.get("val"), "dtype", None) is torch.bool


def _write_apart(node: fx.Node) -> None:
    """Turn `f(x, out=y)` into `y.copy_(f(x))`, which the compiler makes one again."""
    named = {name: value for name, value in node.kwargs.items() if name != "out"}
    place = node.kwargs["out"]
    with node.graph.inserting_before(node):
        value = node.graph.call_function(node.target.overloadpacket, node.args, named)  # type: ignore[union-attr]
        written = node.graph.call_function(torch.ops.aten.copy_.default, (place, value))
    node.replace_all_uses_with(written)
    node.graph.erase_node(node)


@contextmanager
def _algorithms(like: Tensor) -> Iterator[None]:
    """Have cuDNN try out its algorithms, of those that give the same result each time."""
    if not like.is_cuda:
        yield
        return
    allowed = torch.backends.cudnn.allow_tf32
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=True, allow_tf32=allowed):
        yield


def _laid_out(x: Tensor) -> Tensor:
    """Return pictures on a GPU with their channels last, as its convolutions want them in what is less than float32."""
    less = x.dtype in (torch.bfloat16, torch.float16) or (x.dtype == torch.float32 and torch.backends.cudnn.allow_tf32)
    return x.contiguous(memory_format=torch.channels_last) if x.is_cuda and x.dim() == 4 and less else x


def _format_of(x: Tensor) -> torch.memory_format:
    if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        return torch.channels_last
    return torch.contiguous_format


def _flat(maps: Any) -> Tensor:
    every: Sequence[Tensor] = maps if isinstance(maps, tuple) else (maps,)
    return torch.cat([one.detach().flatten() for one in every]).double()

"""What the engine remembers: of a tensor, where it came from; of a run, which call got which rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

_ATTRIBUTE = "_visavis_trace"


@dataclass(eq=False, slots=True)
class Call:
    """One torch function that the model called on the path from input to output.

    Attributes:
        function: the torch function's name.
        module: path of the module in which it was called; "" in the model's own forward.
        operation: what kind of crossing it is ("convolution", "sum", "route", ...).
        rule: the rule that relevance crosses it by.
        note: what else a reader of the plan should know.
        advice: what to do where the call was refused.
        shape: shape of its (first) output.
        sources: the calls that made its inputs; none for the input itself.
        weighted: the crossing of a weighted layer, else None.
        spare: whether no crossing keeps the values of its output, so that they may be written to as long as none reads
            them.
        readers: how many calls have read its output so far.
        keep: whether several maps will be asked for, so that what they share is kept.
    """

    function: str
    module: str
    operation: str
    rule: str = ""
    note: str = ""
    advice: str = ""
    shape: tuple[int, ...] = ()
    sources: tuple[Call, ...] = ()
    weighted: object | None = None
    spare: bool = False
    readers: int = 0
    keep: bool = False


@dataclass(eq=False, slots=True)
class Trace:
    """What is known of one tensor on the path, without ever asking its values.

    Attributes:
        token: identifies the run that it belongs to.
        call: the call that made it; None for the input.
        nonnegative: whether every value is known to be ≥ 0.
        gate: whether it weights another signal (a sigmoid's or a softmax's output).
        pixel: whether it is still the input, merely routed or normalised.
        low, high: bounds of its values, in its shape, while it is pixels with bounds.
        node: the graph node that made it; another one means that a graph not made here has taken its place.
    """

    token: object
    call: Call | None
    nonnegative: bool = False
    gate: bool = False
    pixel: bool = False
    low: Tensor | None = None
    high: Tensor | None = None
    node: object | None = None


def trace_of(value: object, token: object) -> Trace | None:
    """Return the trace that the run `token` left on a tensor, or None."""
    trace = getattr(value, _ATTRIBUTE, None) if isinstance(value, Tensor) else None
    return trace if isinstance(trace, Trace) and trace.token is token else None


def leave_trace(tensor: Tensor, trace: Trace) -> None:
    """Attach a trace to a tensor."""
    setattr(tensor, _ATTRIBUTE, trace)


@dataclass(frozen=True)
class Plan:
    """Which rule goes to which call in which module, in the order of the forward pass. Prints as a table."""

    calls: tuple[Call, ...]
    rules: str
    reason: str = ""

    def __iter__(self) -> Iterator[Call]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self.calls)

    def rows(self) -> list[dict[str, object]]:
        """Return one dictionary a call: module, function, operation, rule, shape, note."""
        return [
            {
                "module": call.module,
                "function": call.function,
                "operation": call.operation,
                "rule": call.rule,
                "shape": list(call.shape),
                "note": call.note,
            }
            for call in self.calls
        ]

    def __str__(self) -> str:
        head = ("module", "function", "operation", "rule", "output", "note")
        body = [
            (
                call.module or "(model)",
                call.function,
                call.operation,
                call.rule,
                "×".join(map(str, call.shape)),
                call.note,
            )
            for call in self.calls
        ]
        why = f" ({self.reason})" if self.reason else ""
        return f"rule set {self.rules}{why}\n" + "\n".join(columns([head, *body]))


def columns(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table, its cells padded to the width of their column."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

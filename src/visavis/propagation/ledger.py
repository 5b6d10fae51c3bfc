"""The ledger: how much relevance each call of the model took in and did not hand on, so that a leak can be located."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from visavis.propagation.trace import Call, columns

#: A node of the graph that autograd walks back.
Node = Any
_SHOWN = 12


@dataclass(frozen=True)
class Entry:
    """What one call of the model did with the relevance that reached its output.

    Attributes:
        module: path of the module in which it was called; "" in the model's own forward.
        function: the torch function's name.
        operation: what kind of crossing it is.
        rule: the rule that relevance crossed it by.
        arrived: the relevance that reached its output, as a share of the seed.
        absorbed: the part of it that none of its inputs got, as a share of the seed; negative where they got more.
    """

    module: str
    function: str
    operation: str
    rule: str
    arrived: float
    absorbed: float


@dataclass(frozen=True)
class Ledger:
    """Where the relevance of one seed went: to the input, and into biases, dead units and constants on the way.

    Shares are of the seed's sum, over the whole batch; `conserved` and all that is `absorbed` make 1, but for rounding.
    Prints as a table of the calls that absorbed most.

    Attributes:
        entries: one a call that relevance reached, in the order of the forward pass.
        conserved: the share of the seed that reached the input.
    """

    entries: tuple[Entry, ...]
    conserved: float

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def absorbed(self) -> float:
        """The share of the seed that was absorbed on the way."""
        return sum(entry.absorbed for entry in self.entries)

    def largest(self, count: int = _SHOWN) -> tuple[Entry, ...]:
        """Return the entries that absorbed (or added) most, the largest first."""
        return tuple(sorted(self.entries, key=lambda entry: -abs(entry.absorbed))[:count])

    def by_module(self, depth: int = 1) -> dict[str, float]:
        """Return what was absorbed under each module, by its path cut off after `depth` names."""
        shares: dict[str, float] = {}
        for entry in self.entries:
            path = ".".join(entry.module.split(".")[:depth])
            shares[path] = shares.get(path, 0.0) + entry.absorbed
        return shares

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"conserved": self.conserved, "entries": [asdict(entry) for entry in self.entries]}

    @classmethod
    def from_dict(cls, words: Mapping[str, Any]) -> Ledger:
        """Return what `as_dict` gave.

        Raises:
            ValueError, TypeError, LookupError: `words` are something else.
        """
        entries = tuple(Entry(**entry) for entry in words["entries"])
        for entry in entries:
            if not all(isinstance(share, int | float) for share in (entry.arrived, entry.absorbed)):
                raise ValueError("a share in the ledger is no number")
        return cls(entries, float(words["conserved"]))

    def __str__(self) -> str:
        shown = [entry for entry in self.largest() if abs(entry.absorbed) >= 5e-4]
        head = f"{self.conserved:.1%} of the relevance reached the input, {self.absorbed:.1%} was absorbed"
        if not shown:
            return f"{head}."
        rows = [("module", "function", "rule", "arrived", "absorbed")]
        rows += [(e.module or "(model)", e.function, e.rule, f"{e.arrived:.1%}", f"{e.absorbed:.1%}") for e in shown]
        rest = self.absorbed - sum(entry.absorbed for entry in shown)
        return "\n".join([f"{head}; most of it by:", *columns(rows), f"all other calls: {rest:.1%}"])


@contextmanager
def counting(made: Mapping[Node, Call], leaves: Iterable[Tensor]) -> Iterator[dict[Call, list[float]]]:
    """Count, in the backward passes within, what arrives at each call's output and what leaves it for other calls.

    Args:
        made: the graph node of each output on the path, with the call that made it.
        leaves: the inputs of the model.

    Yields:
        The sums of relevance, [arrived, left], by call; filled as the backward pass runs.
    """
    sums: dict[Call, list[Tensor | float]] = {call: [0.0, 0.0] for call in made.values()}
    nodes: dict[Call, list[Node]] = {}
    for node, call in made.items():
        nodes.setdefault(call, []).append(node)
    outside = {*made, *(get_gradient_edge(leaf).node for leaf in leaves)}
    totals: dict[Call, list[float]] = {}
    handles = []
    try:
        for call, own in nodes.items():
            handles += [node.register_prehook(partial(_arriving, sums[call])) for node in own]
            for inner, edges in _borders(own, outside):
                handles.append(inner.register_hook(partial(_leaving, sums[call], edges)))
        yield totals
        totals.update({call: [float(value) for value in values] for call, values in sums.items()})
    finally:
        for handle in handles:
            handle.remove()


def _arriving(sums: list[Tensor | float], relevance: tuple[Tensor | None, ...]) -> None:
    sums[0] = sums[0] + _sum(relevance)


def _leaving(sums: list[Tensor | float], edges: list[int], moved: tuple[Tensor | None, ...], _: Any) -> None:
    sums[1] = sums[1] + _sum([moved[edge] for edge in edges])


def ledger_of(calls: Iterable[Call], sums: Mapping[Call, list[float]], arrived: float, seed: float) -> Ledger:
    """Return the ledger of one backward pass.

    Args:
        calls: the calls of the run, in order.
        sums: what `counting` found.
        arrived: the relevance that reached the inputs.
        seed: the sum of the seed.
    """
    entries = tuple(
        Entry(c.module, c.function, c.operation, c.rule, sums[c][0] / seed, (sums[c][0] - sums[c][1]) / seed)
        for c in calls
        if c in sums and any(sums[c])
    )
    return Ledger(entries, arrived / seed)


def precise_sum(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor, in float64 where the device has it."""
    return tensor.detach().sum(dtype=torch.float32 if tensor.device.type == "mps" else torch.float64)


def _borders(nodes: list[Node], outside: set[Node]) -> Iterator[tuple[Node, list[int]]]:
    """Yield the nodes of one call that lead to another call's output, or to an input, with the edges that do."""
    waiting, seen = list(nodes), set(nodes)
    while waiting:
        current = waiting.pop()
        edges = []
        for index, (following, _) in enumerate(current.next_functions):
            if following in outside:
                edges.append(index)
            elif following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
        if edges:
            yield current, edges


def _sum(tensors: Any) -> Tensor | float:
    found = [precise_sum(tensor) for tensor in tensors if isinstance(tensor, Tensor)]
    return sum(found[1:], found[0]) if found else 0.0

"""How relevance crosses recurrent layers: step by step, as the dense layers, sums and gates that they stand for.

Their gates are sigmoids and give way, so that the signal takes all (Arras et al. 2017, for LSTMs).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from visavis.propagation.visit import Visit, cross, identity

#: The state of a cell: (h,), or (h, c).
State = tuple[Tensor, ...]
Cell = Callable[[Tensor, State, Sequence[Tensor | None]], State]


def recurrent(visit: Visit) -> Any:
    """`nn.LSTM`, `nn.GRU`, `nn.RNN` on plain sequences; any number of layers, one or two directions."""
    name = visit.call.function.split(".")[-1]
    if visit.kwargs or len(visit.args) != 9 or not isinstance(visit.args[1], Tensor | list | tuple):
        return NotImplemented
    x, state, weights, has_bias, layers, dropout, training, both_ways, batch_first = visit.args
    start: State = tuple(state) if isinstance(state, list | tuple) else (state,)
    per_cell = 4 if has_bias else 2
    if (
        not isinstance(weights, list | tuple)
        or (dropout and training)
        or len(weights) != per_cell * layers * (1 + both_ways)
    ):
        return NotImplemented  # a packed sequence, dropout that cannot be seen from outside, or a projection
    result = visit.value()
    with visit.reopened():
        inner = _sequence(
            _CELLS[name], x if not batch_first else x.transpose(0, 1), start, weights, per_cell, both_ways
        )
        if batch_first:
            inner = (inner[0].transpose(0, 1), *inner[1:])
    visit.call.operation, visit.call.rule = "recurrent", "as the calls above"
    crossed = (cross(r, identity, i) if i.requires_grad else r for r, i in zip(result, inner, strict=True))
    return visit.leave(tuple(crossed))


def _sequence(
    cell: Cell, x: Tensor, start: State, weights: Sequence[Tensor], per_cell: int, both_ways: bool
) -> tuple[Tensor, ...]:
    """Return the outputs of the last layer (time first) and the last states of all."""
    directions = 2 if both_ways else 1
    ends: list[State] = []
    for first in range(0, len(weights), per_cell * directions):
        outputs = []
        for direction in range(directions):
            at = first + direction * per_cell
            bound = [*weights[at : at + per_cell], *(None,) * (4 - per_cell)]
            states = tuple(part[len(ends)] for part in start)
            steps = x.flip(0) if direction else x
            found = []
            for step in steps.unbind(0):
                states = cell(step, states, bound)
                found.append(states[0])
            ends.append(states)
            outputs.append(torch.stack(found[::-1] if direction else found))
        x = torch.cat(outputs, -1) if both_ways else outputs[0]
    return (x, *(torch.stack(parts) for parts in zip(*ends, strict=True)))


def _lstm(x: Tensor, state: State, weights: Sequence[Any]) -> State:
    hidden, memory = state
    gates = F.linear(x, weights[0], weights[2]) + F.linear(hidden, weights[1], weights[3])
    inward, forget, content, outward = gates.chunk(4, -1)
    memory = forget.sigmoid() * memory + inward.sigmoid() * content.tanh()
    return outward.sigmoid() * memory.tanh(), memory


def _gru(x: Tensor, state: State, weights: Sequence[Any]) -> State:
    (hidden,) = state
    reset_x, update_x, content_x = F.linear(x, weights[0], weights[2]).chunk(3, -1)
    reset_h, update_h, content_h = F.linear(hidden, weights[1], weights[3]).chunk(3, -1)
    update = (update_x + update_h).sigmoid()
    content = (content_x + (reset_x + reset_h).sigmoid() * content_h).tanh()
    return (content * (1 - update) + hidden * update,)


def _plain(activation: Callable[[Tensor], Tensor]) -> Cell:
    def cell(x: Tensor, state: State, weights: Sequence[Any]) -> State:
        return (activation(F.linear(x, weights[0], weights[2]) + F.linear(state[0], weights[1], weights[3])),)

    return cell


_CELLS: dict[str, Cell] = {"lstm": _lstm, "gru": _gru, "rnn_tanh": _plain(torch.tanh), "rnn_relu": _plain(torch.relu)}

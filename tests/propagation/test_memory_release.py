"""Memory is let go of as the last map passes, layer by layer; and a map that is asked for after it is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from visavis import InputError
from visavis.propagation import Activation, RuleSet, Run, forward, rule_set
from visavis.propagation.weighted import Weighted

DOUBLE = torch.float64
LAYERS = 4


def network() -> nn.Sequential:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise([3, 5, 6, 7]):
        parts += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(7 * 64, 4)).double().eval()


def pictures() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 8, 8, dtype=DOUBLE)


def pick(returned: Any) -> Tensor:
    result: Tensor = returned
    return result


def watched(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[list[bool]]:
    """At each weighted layer that relevance passes, last one first: whether what each read is gone by then."""
    crossings = [call.weighted for call in run.plan.calls if isinstance(call.weighted, Weighted)][::-1]
    read = [StorageWeakRef(crossing.x.untyped_storage()) for crossing in crossings]
    seen: list[list[bool]] = []
    moves = Weighted.__call__

    def move(self: Weighted, relevance: Tensor) -> Tensor:
        seen.append([one.expired() for one in read])
        return moves(self, relevance)

    monkeypatch.setattr(Weighted, "__call__", move)
    del crossings
    return seen


@pytest.mark.parametrize("rules", ["deep-taylor", "epsilon", "gamma", "epsilon-plus"])
def test_what_a_layer_read_is_gone_when_the_next_but_one_is_reached(
    rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forward(network(), pictures(), rule_set(rules), pick=pick) as run:
        seen = watched(run, monkeypatch)
        run.relevance(run.output.abs())
    assert len(seen) == LAYERS
    for passed, gone in enumerate(seen):
        # What the layer just passed had read is what the ReLU before it made, which is next to go.
        assert all(gone[: max(0, passed - 1)]), (passed, gone)
        assert not any(gone[passed:])


def test_all_is_kept_for_a_map_that_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    with forward(network(), pictures(), rule_set("deep-taylor"), pick=pick) as run:
        seen = watched(run, monkeypatch)
        first = run.relevance(run.output.abs(), more=True)
        assert not any(any(gone) for gone in seen)
        again = run.relevance(run.output.abs())
    assert torch.equal(first, again)
    assert any(seen[-1])


def test_inputs_of_several_maps_are_gone_at_the_end() -> None:
    with forward(network(), pictures(), rule_set("deep-taylor"), pick=pick) as run:
        read = [
            StorageWeakRef(call.weighted.x.untyped_storage())
            for call in run.plan.calls
            if isinstance(call.weighted, Weighted) and not call.weighted.pixel
        ]
        run.relevance(run.output.abs(), more=True)
        assert not any(one.expired() for one in read)
        run.relevance(run.output.abs())
        # The run is still open, and the caller may hold it for long: what it explained and what came out are there.
        assert all(one.expired() for one in read)
        assert run.output.shape == (2, 4)
        assert len(run.plan.calls) == 11


@pytest.mark.parametrize("policy", [rule_set("deep-taylor"), RuleSet(gradient=True), Activation("gradient")])
def test_a_map_after_the_last_is_refused_with_what_to_do(policy: RuleSet | Activation) -> None:
    with forward(network(), pictures(), policy, pick=pick) as run:
        seed = run.output.abs()
        run.relevance(seed, more=True)
        run.relevance(seed)
        with pytest.raises(InputError, match=r"has given its last map.* ask for all but the last with more=True"):
            run.relevance(seed)

"""What all metrics share: cases, contexts, the values kept, the registry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis.evaluation import (
    Case,
    Context,
    Explainer,
    Metric,
    base,
    discriminativeness,
    localization,
    metric,
    metrics,
    register_metric,
    sparsity,
    summary,
)

#: Modules that enter metrics of their own in the registry.
ROOMS = (localization, discriminativeness, sparsity)


class Mean(Metric):
    """The mean of the map."""

    name: ClassVar[str] = "test-mean"
    title: ClassVar[str] = "mean"
    source: ClassVar[str] = "nowhere"
    direction: ClassVar[str] = "higher"

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> Mapping[str, float]:
        return {"": float(heatmap.mean())}


class Uniform:
    name = title = "uniform"

    def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return inputs.new_ones(len(inputs), *inputs.shape[2:])


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Metric]]:
    """A copy of the registry, so that what a test enters is gone after it."""
    copy = dict(base._METRICS)
    monkeypatch.setattr(base, "_METRICS", copy)
    return copy


def test_a_registered_metric_is_found_by_its_name(registry: dict[str, type[Metric]]) -> None:
    before = set(metrics())
    assert register_metric(Mean) is Mean
    assert metric("test-mean") is Mean
    assert metrics()["test-mean"] == "mean"
    assert set(metrics()) - before == {"test-mean"}


def test_a_name_is_entered_once(registry: dict[str, type[Metric]]) -> None:
    register_metric(Mean)
    with pytest.raises(vv.InputError, match="there is a metric 'test-mean' already"):
        register_metric(type("Other", (Mean,), {"title": "other"}))
    assert metric("test-mean") is Mean


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"direction": "up"}, "is 'higher' or 'lower', not 'up'"),
        ({"needs": ("boxes", "depth")}, "needs boxes, depth, but a case has boxes, mask, others"),
    ],
)
def test_a_malformed_metric_is_refused(registry: dict[str, type[Metric]], wrong: dict[str, object], said: str) -> None:
    before = dict(registry)
    with pytest.raises(vv.InputError, match=said):
        register_metric(type("Wrong", (Mean,), wrong))
    assert registry == before


def test_an_unknown_name_gets_those_near_it(registry: dict[str, type[Metric]]) -> None:
    register_metric(Mean)
    with pytest.raises(vv.InputError, match="there is no metric 'test-meen'; try test-mean"):
        metric("test-meen")
    with pytest.raises(vv.InputError, match=r"there is no metric 'qqqq'; try .*test-mean"):
        metric("qqqq")


def test_modules_enter_their_metrics() -> None:
    rooms = {metric(name).__module__ for name in metrics()}
    assert {room.__name__ for room in ROOMS} <= rooms


@pytest.mark.parametrize("name", metrics())
def test_every_metric_says_what_tables_need(name: str) -> None:
    kind = metric(name)
    assert kind.name == name
    assert kind.title
    assert kind.source
    assert kind.low < kind.high
    assert kind.__doc__
    assert kind().compute().count == 0


@pytest.mark.parametrize("name", metrics())
def test_every_docstring_says_range_and_direction(name: str) -> None:
    kind = metric(name)
    end = "∞)" if math.isinf(kind.high) else f"{kind.high:g}]"
    said = f"In [{kind.low:g}, {end}, {kind.direction} is better".replace("-", "−")
    assert said in " ".join((kind.__doc__ or "").split())


def test_a_metric_keeps_values_over_batches_until_it_is_reset() -> None:
    game = Mean()
    first = torch.tensor([0.5, math.nan], dtype=torch.float32)
    assert game.add(first) is first
    game.add(torch.tensor([[1.0], [0.25]], dtype=torch.float64))
    assert repr(game) == "Mean(4 values)"
    assert game.compute() == summary([0.5, math.nan, 1.0, 0.25])
    assert game.compute().mean == pytest.approx(1.75 / 3)
    assert Mean().compute().count == 0
    game.reset()
    assert repr(game) == "Mean(0 values)"
    assert math.isnan(game.compute().mean)


def test_a_metric_without_values_of_is_none() -> None:
    class Half(Metric):
        name = title = source = "half"
        direction = "lower"

    with pytest.raises(TypeError, match="values_of"):
        Half()  # type: ignore[abstract]


def test_a_case_has_what_it_was_given() -> None:
    bare = Case("one", torch.zeros(1, 3, 4, 4), 0)
    assert [bare.has(need) for need in base.NEEDS] == [False, False, False]
    full = Case("two", bare.inputs, 0, torch.zeros(1, 4), torch.zeros(4, 4, dtype=torch.bool), others=(3,))
    assert [full.has(need) for need in base.NEEDS] == [True, True, True]
    assert not Case("three", bare.inputs, 0, boxes=torch.zeros(0, 4)).has("boxes")


def test_a_context_scores_inputs_without_gradients() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    context = Context(vv.Classifier(module), Uniform())
    inputs = torch.rand(2, 3, 2, 2)
    scores = context.scores(inputs)
    assert not scores.requires_grad
    torch.testing.assert_close(scores, module(inputs).detach())
    assert isinstance(context.explainer, Explainer)
    assert not isinstance(object(), Explainer)
    # What a metric keeps belongs to one model and explainer.
    context.kept["key"] = 1
    assert Context(context.classifier, Uniform()).kept == {}

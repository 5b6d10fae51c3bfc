"""What a map costs, on a clock that is made up."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis.evaluation import Case, Context, metric
from visavis.evaluation.cost import MapCost, cost, in_passes, input_gradient, peak, seconds
from visavis.evaluation.explainers import Centre, MethodExplainer

CPU = torch.device("cpu")


class Repeated:
    """An explainer that runs the model some times."""

    name = "repeated"
    title = "Repeated"

    def __init__(self, module: nn.Module, times: int) -> None:
        self.module, self.times, self.calls = module, times, 0

    def heatmaps(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        with torch.inference_mode():
            for _ in range(self.times):
                self.module(inputs)
        return inputs.sum(1)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.Flatten(),
        nn.Linear(32 * 32 * 32, 4),
    ).eval()


def test_ratios_are_to_the_passes_before_and_after_and_medians() -> None:
    script = iter([2.0, 10.0, 3.0, 9.0, 1.0, 30.0, 4.0])
    calls = []

    def timed(call: Callable[[], None], device: torch.device) -> float:
        call()
        assert device == CPU
        return next(script)

    passes, taken = in_passes(lambda: calls.append("F"), lambda: calls.append("map"), CPU, repeats=3, timed=timed)
    # 10 between 2 and 3, 9 between 3 and 1, 30 between 1 and 4: 4, 4.5 and 12.
    assert passes == 4.5
    assert taken == 10
    assert calls == ["F", "map", "F", "map", "F", "map", "F"]
    with pytest.raises(vv.InputError, match="at least one repeat, not of 0"):
        in_passes(lambda: None, lambda: None, CPU, repeats=0)


class Clock:
    """Goes on by one second with each forward pass of a model."""

    def __init__(self, module: nn.Module) -> None:
        self.now = 0.0
        module.register_forward_hook(self.tick)

    def tick(self, *_: object) -> None:
        self.now += 1.0

    def __call__(self) -> float:
        return self.now


def test_the_time_on_the_cpu_is_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.process_time", iter([3.0, 7.5]).__next__)
    monkeypatch.setattr("time.perf_counter", iter([0.0, 100.0]).__next__)
    assert seconds(lambda: None, CPU) == 4.5


@pytest.mark.parametrize("times", [2, 6])
def test_a_map_of_so_many_passes_costs_so_many(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    module = network()
    explainer = Repeated(module, times)
    monkeypatch.setattr("time.process_time", Clock(module))
    found = cost(vv.Classifier(module), explainer, torch.rand(1, 3, 32, 32), torch.tensor([1]), repeats=5)
    assert found[:2] == (times, times)
    assert math.isnan(found.memory)
    assert explainer.calls == 6  # one of them to warm up


def test_memory_is_beyond_what_was_taken_before(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr("torch.cuda.synchronize", lambda device: done.append("synchronize"))
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 100)
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda device: done.append("reset"))
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 350)
    assert peak(lambda: done.append("call"), torch.device("cuda")) == 250
    assert done == ["synchronize", "reset", "call", "synchronize"]
    assert math.isnan(peak(lambda: done.append("call"), CPU))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="times and memory of a GPU")
def test_on_a_gpu() -> None:
    module = network().cuda()
    inputs, targets = torch.rand(1, 3, 32, 32, device="cuda"), torch.tensor([1], device="cuda")
    classifier = vv.Classifier(module)
    found = cost(classifier, MethodExplainer(vv.Gradient(classifier)), inputs, targets, repeats=5)
    assert found.passes > 1
    assert 0.2 < found.memory < 20
    assert set(MapCost().values_of(Case("one", inputs, 1), inputs[0, 0], Context(classifier, Centre()))) == {
        "",
        "seconds",
        "memory",
    }


def test_the_input_gradient() -> None:
    dense = nn.Linear(12, 3).double()
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), dense)
    inputs = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    kept = inputs.clone()
    with torch.inference_mode():
        found = input_gradient(vv.Classifier(module), inputs + 0, torch.tensor([2, 0]))
    expected = dense.weight.detach()[[2, 0]].view(2, 3, 2, 2) * (inputs > 0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(input_gradient(vv.Classifier(module), inputs, torch.tensor([2, 0])), expected)
    assert torch.equal(inputs, kept)
    assert not inputs.requires_grad
    assert dense.weight.grad is None


def test_the_metric() -> None:
    module = network()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    classifier, inputs = vv.Classifier(module), torch.rand(2, 3, 32, 32)
    explainer = Repeated(module, 3)
    made = metric("cost")(repeats=2)
    found = made.values_of(Case("one", inputs[:1], 1), inputs[0, 0], Context(classifier, explainer))
    assert set(found) == {"", "seconds"}
    assert found[""] > 1
    assert explainer.calls == 3
    values = made.update(classifier, explainer, inputs, torch.tensor([0, 1]))  # type: ignore[attr-defined]
    assert made.compute().mean == pytest.approx(values.mean().item())
    assert len(values) == 2
    assert (made.direction, made.low, made.high) == ("lower", 0, math.inf)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())

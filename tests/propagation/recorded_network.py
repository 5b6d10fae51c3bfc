"""What recordings and players are tried on: a small network, pictures, and how its maps are made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from visavis.contrast import seed_at
from visavis.propagation import Run, forward, rule_set
from visavis.propagation.mode import Bounds

DOUBLE = torch.float64
TARGETS = torch.tensor([1, 2])


def network(*, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    first = (nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(inplace=inplace), nn.MaxPool2d(2))
    built = nn.Sequential(*first, nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4))
    with torch.no_grad():
        built[1].running_mean.uniform_(-0.5, 0.5)
        built[1].weight.uniform_(0.5, 1.5)
    return built.double().eval()


def pictures(seed: int = 1) -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def pick(returned: Any) -> Tensor:
    result: Tensor = returned
    return result


def opener(module: nn.Module, rules: str = "deep-taylor", bounds: Bounds | None = None) -> Callable[[Any], Any]:
    return partial(forward, module, policy=rule_set(rules), pick=pick, bounds=bounds)


def maps(run: Run, at: Tensor | None, more: bool) -> Any:
    indices = run.output.argmax(1) if at is None else at
    return run.relevance(seed_at(run.output, indices, "score"), more=more)


def plain(module: nn.Module, inputs: Any, *targets: Tensor | None, **options: Any) -> list[Any]:
    with opener(module, **options)(inputs) as run:
        return [maps(run, one, True) for one in targets]

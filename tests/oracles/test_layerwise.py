"""The layer-by-layer oracle agrees with the dense one on a small chain."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from oracles import dense, layerwise


def test_chain_agrees_with_dense_matrices() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(4, 3, 3, padding=2, dilation=2)
    last = nn.Linear(3 * 3 * 2, 5)
    module = nn.Sequential(
        first,
        nn.ReLU(inplace=True),
        nn.Sequential(nn.MaxPool2d(3, 2, 1), second, nn.ReLU()),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.Flatten(),
        nn.Dropout(0.5),
        last,
    )
    module = module.double().eval().requires_grad_(False)
    x = torch.randn(2, 2, 8, 9, dtype=torch.float64).clamp(-2, 2)
    target = torch.tensor([1, 4])
    hidden = first(x).relu()
    pooled = functional.max_pool2d(hidden, 3, 2, 1)
    features = second(pooled).relu()
    averages = functional.adaptive_avg_pool2d(features, (3, 2)).flatten(1)
    steps, logits = layerwise.forward(module, x)
    torch.testing.assert_close(logits, last(averages))
    seed = layerwise.others_seed(logits, target)
    torch.testing.assert_close(seed.sum(1), logits[torch.arange(2), target].abs())

    back = dense.propagate(dense.z_plus, last, averages, seed)
    matrix = dense.matrix_of(lambda a: functional.adaptive_avg_pool2d(a, (3, 2)), features.shape[1:])
    back = dense.linear_map(matrix, features.flatten(1), back, "absolute").reshape(features.shape)
    back = dense.propagate(dense.z_plus, second, pooled, back)
    windows = dense.pooling_windows(hidden.shape[1:], (3, 3), (2, 2), (1, 1), (1, 1), False)
    back = dense.max_pool(windows, hidden.flatten(1), back.flatten(1)).reshape(hidden.shape)
    back = dense.propagate(dense.z_box, first, x, back, low=-2.0, high=2.0)
    torch.testing.assert_close(layerwise.backward(steps, seed, -2.0, 2.0), back, rtol=1e-10, atol=1e-12)


def test_negated_dual_uses_the_negative_weights_of_the_target_alone() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 40), nn.ReLU(), nn.Linear(40, 3)).double().requires_grad_(False)
    x, target = torch.rand(2, 6, dtype=torch.float64), torch.tensor([2, 0])
    hidden = module[0](x).relu()
    scores = module[2](hidden)[torch.arange(2), target].abs()
    parts = hidden * (-module[2].weight[target]).clamp(min=0)
    back = parts / parts.sum(1, keepdim=True) * scores.unsqueeze(1)
    expected = dense.propagate(dense.z_box, module[0], x, back, low=0.0, high=1.0)
    found = layerwise.negated_relevance(module, x, target, 0.0, 1.0)
    torch.testing.assert_close(found, expected)

"""Where there is a GPU: maps on it are those of the CPU in float64, whichever way they are computed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

import visavis as vv

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
#: How far maps may be from those in float64, beside the plain map: IEEE float32, and bfloat16.
STATED = {torch.float32: 1e-4, torch.bfloat16: 1e-1}
EXECUTIONS = ["eager", "graph", pytest.param("compiled", marks=pytest.mark.slow)]
FOILS: list[Any] = ["others", "negated", "logits", "softmax", "strongest", "runner-up", 3, [3, 5]]


@pytest.fixture(autouse=True)
def ieee() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def network() -> nn.Module:
    torch.manual_seed(0)
    return ResNet(Bottleneck, [1, 1, 1, 1], num_classes=12).double().eval()


def pictures(seed: int, count: int = 3) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def apart(found: Tensor, exact: Tensor, plain: Tensor) -> float:
    return float((found.double().cpu() - exact).norm() / plain.norm())


@pytest.mark.parametrize("dtype", STATED, ids=str)
@pytest.mark.parametrize("execution", EXECUTIONS)
@pytest.mark.parametrize("foil", FOILS, ids=str)
def test_contrasts_are_those_of_the_cpu_within_the_stated_error(foil: Any, execution: str, dtype: torch.dtype) -> None:
    module, targets = network(), [1, 0, 7]
    options: dict[str, Any] = {"foil": foil, "signed": True, "bounds": (0, 1)}
    method = vv.CLRP(copy.deepcopy(module).to("cuda", dtype), execution=execution, **options)
    for seed in (1, 2):
        x = pictures(seed)
        exact = vv.CLRP(module, **options).attribute(x, targets)
        plain = vv.LRP(module, bounds=(0, 1)).attribute(x, targets)
        found = method.attribute(x.to("cuda", dtype), targets)
        assert apart(found, exact, plain) < STATED[dtype]


def test_few_images_are_played_from_the_second_call_on_and_follow_the_weights() -> None:
    module = network().float().cuda()
    method = vv.CLRP(module, bounds=(0, 1))
    x = pictures(1).float().cuda()
    for call in range(3):
        found = method.attribute(x, 1)
        assert len(method.execution._players) == (call > 0)
    assert method.execution.reasons == []
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.1)
    exact = vv.CLRP(module, bounds=(0, 1), execution="eager").attribute(x, 1)
    torch.testing.assert_close(method.attribute(x, 1), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))
    assert not torch.allclose(found, exact, rtol=1e-3)


def test_several_maps_and_images_that_are_no_numbers() -> None:
    module = network().float().cuda()
    method = vv.CLRP(module, bounds=(0, 1), execution="graph")
    eager = vv.CLRP(module, bounds=(0, 1), execution="eager")
    x = pictures(1).float().cuda()
    for found, exact in zip(method.attribute_each(x, [1, 5, 9]), eager.attribute_each(x, [1, 5, 9]), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))
    x[1, 0, 3, 3] = torch.nan
    found = method.attribute_each(x, [1, 5, 9])[2]
    assert found[1].isnan().all()
    assert torch.isfinite(found[[0, 2]]).all()


def test_a_batch_that_the_gpu_does_not_hold_is_explained_in_parts() -> None:
    module = network().float().cuda()
    x = pictures(1, 64).float().cuda()
    eager = vv.CLRP(module, bounds=(0, 1), execution="eager")
    whole = torch.cat([eager.attribute(part, 1) for part in x.split(8)])
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 96 * 2**20) / total)
    try:
        found = eager.attribute(x, 1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert max(eager.chunks.sizes) < 64
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))

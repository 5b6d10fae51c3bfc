"""The speed benchmark: that it races what it says it races. Times are not tested."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from benchmarks.scripts import script


@pytest.fixture(scope="module")
def speed() -> ModuleType:
    return script("speed")


def network(*given: object) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


def test_a_race_writes_a_row_for_each_contestant_batch_and_number_of_maps(
    speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed, "network", network)
    monkeypatch.setattr(speed, "SIZE", 12)
    place = tmp_path / "speed.md"
    words = ["--models", "vgg16", "--batch", "1", "2", "--maps", "1", "3", "--repeats", "2", "--threads", "1"]
    words += ["--contestants", "Visavis CLRP", "Visavis Gradient", "--output", str(place)]
    monkeypatch.setattr("sys.argv", ["speed.py", *words])
    threads = torch.get_num_threads()
    try:
        speed.main()
    finally:
        torch.set_num_threads(threads)
    rows = [line.strip("| ").split(" | ") for line in place.read_text().splitlines() if line.startswith("|")]
    assert rows[0][:5] == ["model", "batch", "maps", "contestant", "cost in F, median"]
    expected = [
        ["vgg16", batch, maps, title]
        for batch in ("1", "2")
        for maps in ("1", "3")
        for title in ("forward pass F", "Visavis CLRP", "Visavis Gradient")
    ]
    assert [row[:4] for row in rows[2:]] == expected
    assert all(float(row[4]) > 0 and math.isfinite(float(row[6])) for row in rows[2:])
    assert "--batch 1 2 --maps 1 3 --models vgg16" in place.read_text()


def test_several_maps_are_those_of_one_call_each(speed: ModuleType) -> None:
    module, inputs = network(), torch.randn(2, 3, 9, 9)
    targets = [torch.tensor([0, 1]), torch.tensor([4, 2]), torch.tensor([3, 3])]
    calls: list[Tensor] = []

    class Counted(vv.CLRP):
        def attribute(self, inputs: Tensor, target: object = None, **options: object) -> Tensor:
            calls.append(inputs)
            result: Tensor = super().attribute(inputs, target, **options)  # type: ignore[arg-type]
            return result

    together = speed._each(Counted(module).attribute, inputs, targets)
    assert not calls
    alone = speed._each(lambda x, target: vv.CLRP(module).attribute(x, target), inputs, targets)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)
    assert len(alone) == 3


def test_numbers_below_one_are_refused(
    speed: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["speed.py", "--maps", "0"])
    with pytest.raises(SystemExit) as ended:
        speed.main()
    assert ended.value.code == 1 or "at least 1" in str(ended.value.code)

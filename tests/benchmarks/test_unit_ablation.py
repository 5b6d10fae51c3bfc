"""The benchmark of unit ablation: that both paths do the same, and the bar bites. Times are not tested."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from benchmarks.scripts import script
from units.networks import naive, pictures, small


@pytest.fixture(scope="module")
def unit_ablation() -> ModuleType:
    return script("unit_ablation")


@pytest.fixture
def call(unit_ablation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Call the command line, with a small network in the place of every model."""
    monkeypatch.setattr(unit_ablation, "network", lambda name: small().float())
    few = ["--layer", "second", "--units", "3", "--images", "2", "--side", "8", "--repeats", "2", "--at-least", "0"]

    def called(*words: object) -> None:
        monkeypatch.setattr("sys.argv", ["unit_ablation.py", *few, *map(str, words)])
        threads = torch.get_num_threads()
        try:
            unit_ablation.main()
        finally:
            torch.set_num_threads(threads)

    return called


def test_the_plain_loop(unit_ablation: ModuleType) -> None:
    zeros = torch.zeros(6, dtype=torch.float64)
    expected = [naive(small(), "second", pictures(4), [unit], 1, zeros).argmax(1).tolist() for unit in (2, 0)]
    with torch.no_grad():
        assert unit_ablation.plain(small(), "second", pictures(4), [2, 0]).tolist() == expected


def test_a_run(call: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    call()
    said = capsys.readouterr().out
    assert "times faster" in said
    assert "(2, 3, 8, 8)" in said


def test_the_bar_bites(call: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match=r"times faster than the plain loop, not at least 1e\+09"):
        call("--at-least", 1e9)


def test_other_predictions_are_noticed(
    unit_ablation: ModuleType, call: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(module: nn.Module, layer: str, inputs: Tensor, chosen: object) -> Tensor:
        return plain(module, layer, inputs, chosen) + 1

    plain = unit_ablation.plain
    monkeypatch.setattr(unit_ablation, "plain", wrong)
    with pytest.raises(SystemExit, match=r"100\.0% of the predictions are not those"):
        call()


def test_models(unit_ablation: ModuleType) -> None:
    assert len(unit_ablation.network("squeezenet1_1").features) == 13
    with pytest.raises(unit_ablation.vv.InputError, match="no model 'resnet5'"):
        unit_ablation.network("resnet5")


def test_refusals(call: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match="at least 1"):
        call("--units", 0)
    with pytest.raises(SystemExit, match="no layer 'third_'"):
        call("--layer", "third_")

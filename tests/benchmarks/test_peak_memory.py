"""The benchmark of peak memory: what it counts, beside what, and what it says where a bar is not kept."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from benchmarks.scripts import FOLDER, script

#: The command line, called with these words.
PeakMemory = Callable[..., None]
MIB = 1024**2
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def memory() -> ModuleType:
    return script("peak_memory")


def network(name: str = "") -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    ).requires_grad_(False)
    return module.eval()


@pytest.fixture
def call(memory: ModuleType, monkeypatch: pytest.MonkeyPatch) -> PeakMemory:
    """Call the command line; what runs in a process of its own runs in this one, on a tiny network."""
    monkeypatch.setattr(memory, "network", network)
    monkeypatch.setattr(memory, "alone", memory.measured)
    small = ["--models", "vgg16", "--batch", "2", "--repeats", "2", "--side", "12", "--maps", "3"]
    small += ["--threads", str(torch.get_num_threads())]

    def called(*words: object) -> None:
        monkeypatch.setattr("sys.argv", ["peak_memory.py", *small, *map(str, words)])
        memory.main()

    return called


def made_up(memory: ModuleType, monkeypatch: pytest.MonkeyPatch, found: dict[str, list[dict[str, object]]]) -> None:
    """Put these findings, a list for each contestant, in the place of what its processes measure."""
    left = {title: iter(each) for title, each in found.items()}
    monkeypatch.setattr(memory, "alone", lambda title, name, arguments: next(left[title]))


def rows_of(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]


# -- rows ------------------------------------------------------------------------------------------------------------


def test_each_model_has_a_row_for_the_plain_gradient_each_contestant_and_several_maps(
    call: PeakMemory, memory: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, str, int]] = []

    def counted(title: str, name: str, arguments: argparse.Namespace) -> dict[str, int]:
        asked.append((name, title, arguments.batch))
        return {"peak": MIB}

    monkeypatch.setattr(memory, "alone", counted)
    call("--models", "vgg16", "resnet50", "--contestants", "Visavis CLRP", "--output", tmp_path / "a.md")
    titles = ["plain gradient", "Visavis CLRP", "3 maps, Visavis CLRP"]
    expected = [(name, title) for name in ("vgg16", "resnet50") for title in titles]
    assert asked == [(*both, 2) for both in expected for _ in range(2)], "a process for each repeat"
    rows = rows_of((tmp_path / "a.md").read_text())
    assert rows[0] == ["model", "batch", "contestant", "peak, MiB", "least to greatest", "beside the plain gradient"]
    assert [(row[0], row[2]) for row in rows[2:]] == expected


def test_without_names_the_usual_contestants_take_part_and_with_one_map_there_is_no_row_of_several(
    call: PeakMemory, memory: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "alone", lambda *_: {"peak": MIB})
    call("--maps", 1, "--output", tmp_path / "a.json")
    held = json.loads((tmp_path / "a.json").read_text())
    assert [row["title"] for row in held["rows"]] == ["plain gradient", *memory.USUAL]
    assert set(memory.USUAL) <= {contestant.title for contestant in memory.CONTESTANTS}


@pytest.mark.slow
def test_each_of_the_rows_is_measured(call: PeakMemory, tmp_path: Path) -> None:
    call("--contestants", "Visavis LRP", "Visavis Gradient", "authors' algorithm", "--output", tmp_path / "a.json")
    held = json.loads((tmp_path / "a.json").read_text())
    assert len(held["rows"]) == 5
    assert all(len(row["peaks"]) == 2 and not row["absent"] for row in held["rows"])


def test_ratios_are_of_the_medians_and_of_the_same_model(
    call: PeakMemory, memory: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {
        "plain gradient": [{"peak": n * MIB} for n in (100, 90, 200, 10, 10, 10)],
        "Visavis CLRP": [{"peak": n * MIB} for n in (150, 110, 120, 5, 40, 25)],
    }
    words = ["--models", "vgg16", "resnet50", "--maps", 1, "--repeats", 3, "--contestants", "Visavis CLRP", "--output"]
    made_up(memory, monkeypatch, found)
    call(*words, tmp_path / "a.json")
    held = json.loads((tmp_path / "a.json").read_text())
    assert [row["ratio"] for row in held["rows"]] == [1, 1.2, 1, 2.5]
    assert held["rows"][1]["peaks"] == [150 * MIB, 110 * MIB, 120 * MIB]
    made_up(memory, monkeypatch, found)
    call(*words, tmp_path / "a.md")
    text = (tmp_path / "a.md").read_text()
    assert rows_of(text)[3] == ["vgg16", "2", "Visavis CLRP", "120", "110 to 150", "1.20"]
    assert "--maps 1 --dtype float32 --repeats 3 --models vgg16 resnet50 --contestants 'Visavis CLRP'`" in text
    assert f"Made by `{held['command']}`" in text


def test_a_contestant_that_fails_says_why_and_the_others_are_measured(
    call: PeakMemory, memory: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: dict[str, list[dict[str, object]]] = {
        "plain gradient": [{"peak": MIB}] * 2,
        "Visavis LRP": [{"peak": MIB}, {"absent": "raises E: a | b"}],
        "Visavis CLRP": [{"peak": 2 * MIB}] * 2,
    }
    made_up(memory, monkeypatch, found)
    call("--maps", 1, "--contestants", "Visavis LRP", "Visavis CLRP", "--output", tmp_path / "a.md")
    text = (tmp_path / "a.md").read_text()
    assert r"Visavis LRP | raises E: a \| b |" in text
    assert rows_of(text)[-1][-1] == "2.00"


def test_without_a_plain_gradient_there_is_no_ratio(memory: ModuleType) -> None:
    rows = [memory.Row("vgg16", 8, "plain gradient", absent="out of memory"), memory.Row("vgg16", 8, "A", (5, 6, 7))]
    assert memory.ratios(rows) == [None, None]
    assert rows[1].cells(None)[-1] == "–"
    assert memory.above(rows, {"A": 9}) == ["A on vgg16 (batch 8) has no figure: the plain gradient has none"]


# -- bars and refusals -----------------------------------------------------------------------------------------------


def test_a_bar_that_is_not_kept_ends_with_status_1_and_says_what_was_measured(
    memory: ModuleType, monkeypatch: pytest.MonkeyPatch, call: PeakMemory, tmp_path: Path
) -> None:
    found = {"plain gradient": [{"peak": 100}] * 2, "Visavis CLRP": [{"peak": 131}] * 2}
    words = ["--maps", 1, "--contestants", "Visavis CLRP", "--output", tmp_path / "a.md", "--at-most"]
    made_up(memory, monkeypatch, found)
    call(*words, "Visavis CLRP=1.31")
    made_up(memory, monkeypatch, found)
    with pytest.raises(SystemExit) as ended:
        call(*words, "Visavis CLRP=1.3")
    said = "Visavis CLRP on vgg16 (batch 2) takes 1.31 times the memory of the plain gradient, more than 1.3"
    assert ended.value.code == f"peak_memory.py: {said}", "a sentence as the code is printed, and the status is 1"
    assert rows_of((tmp_path / "a.md").read_text()), "the figures are kept all the same"


def test_a_bar_is_not_kept_by_a_contestant_without_a_figure(memory: ModuleType) -> None:
    rows = [memory.Row("vgg16", 8, "plain gradient", (9,)), memory.Row("vgg16", 8, "A", absent="out of memory")]
    assert memory.above(rows, {"A": 9}) == ["A on vgg16 (batch 8) has no figure: out of memory"]
    assert memory.above(rows, {}) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--repeats", "0"], "at least 1"),
        (["--maps", "0"], "at least 1"),
        (["--batch", "-1"], "at least 1"),
        (
            ["--at-most", "Visavis CLRP"],
            r'"TITLE=TIMES THE PLAIN GRADIENT", as "Visavis CLRP=1.3".* not .Visavis CLRP.',
        ),
        (["--at-most", "Visavis CLPR=2"], "Visavis CLPR=2"),
        (["--at-most", "captum Saliency=2"], "captum Saliency=2"),
        (["--output", "a.txt"], ".md, .json"),
        (["--output", "nowhere/a.md"], "nowhere"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_measured(
    call: PeakMemory, memory: ModuleType, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setattr(memory, "alone", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit, match=said) as ended:
        call(*words)
    assert re.fullmatch(r"peak_memory\.py: [^\n]+", str(ended.value.code))


# -- what is called --------------------------------------------------------------------------------------------------


def test_the_plain_gradient_is_that_of_the_scores_of_the_targets(memory: ModuleType) -> None:
    module, inputs, target = network().double(), torch.randn(2, 3, 9, 9, dtype=torch.float64), torch.tensor([3, 0])
    torch.testing.assert_close(memory.gradient(module, inputs, target), vv.Gradient(module).attribute(inputs, target))
    assert not inputs.requires_grad


def test_the_row_of_several_maps_makes_so_many_and_the_others_one(
    memory: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, int] = {}
    arguments = argparse.Namespace(
        threads=torch.get_num_threads(), device="cpu", dtype="float64", batch=2, side=9, maps=3
    )

    def counted(call: Callable[[], object], device: torch.device) -> int:
        maps = call()
        made[title] = 1 if isinstance(maps, Tensor) else len(maps)  # type: ignore[arg-type]
        assert all(one.shape == (2, 3, 9, 9) and one.dtype == torch.float64 for one in maps) or made[title] == 1
        return 0

    monkeypatch.setattr(memory, "network", network)
    monkeypatch.setattr(memory, "peak_of", counted)
    for title in ("plain gradient", "Visavis CLRP", "3 maps, Visavis CLRP"):
        assert memory.measured(title, "vgg16", arguments) == {"peak": 0}
    assert made == {"plain gradient": 1, "Visavis CLRP": 1, "3 maps, Visavis CLRP": 3}


def test_a_peer_that_is_not_installed_has_no_figure(memory: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    contestant = type(memory.CONTESTANTS[0])
    peer = contestant("peer", "no_such_package", lambda module, name: pytest.fail("made"), "")
    other = contestant("other", "torch", lambda module, name: pytest.fail("made"), "", "cuda")
    monkeypatch.setattr(memory, "CONTESTANTS", (peer, other))
    absent = inspect.getmodule(contestant).Absent  # type: ignore[union-attr]
    for title, said in (("peer", "no_such_package is not installed"), ("other", "needs the device cuda")):
        with pytest.raises(absent, match=said):
            memory.call_of(title, "vgg16", network(), torch.zeros(1, 3, 9, 9), [torch.zeros(1, dtype=torch.int64)])


# -- what is measured ------------------------------------------------------------------------------------------------


def test_a_call_that_holds_64_mib_is_measured_so_within_a_tenth(memory: ModuleType) -> None:
    def holds(mib: int) -> None:
        torch.ones(mib * MIB // 4)

    holds(192)  # an earlier peak, which does not count
    kept = [torch.ones(MIB // 64) for _ in range(64 * 64)]  # freed memory that is kept for later, which would hide all
    del kept
    assert memory.peak_of(lambda: holds(64), CPU) == pytest.approx(64 * MIB, rel=0.1)
    assert memory.peak_of(lambda: [holds(64), holds(64)], CPU) == pytest.approx(64 * MIB, rel=0.1), (
        "one after the other"
    )
    assert memory.peak_of(lambda: None, CPU) < MIB


def test_where_the_peak_cannot_be_set_back_it_is_by_how_much_the_call_raised_that_of_the_process(
    memory: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    kept = iter([700, 764])
    monkeypatch.setattr(memory, "_set_back", lambda: False)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=next(kept)))
    assert memory.peak_of(lambda: None, CPU) == 64 * (1 if sys.platform == "darwin" else 1024)


def test_a_process_of_its_own_gets_the_words_and_gives_memory_back(
    memory: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = argparse.Namespace(
        device="cpu", threads=1, batch=4, side=64, maps=2, dtype="bfloat16", models=["vgg16", "resnet50"]
    )
    seen: list[tuple[list[str], dict[str, str]]] = []

    def ran(command: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        seen.append((command, env))
        return subprocess.CompletedProcess(command, 0, 'a peer talks\n{"peak": 7}\n', "")

    monkeypatch.setattr(subprocess, "run", ran)
    assert memory.alone("Visavis CLRP", "resnet50", arguments) == {"peak": 7}
    ((command, environment),) = seen
    words = "--device cpu --threads 1 --batch 4 --side 64 --maps 2 --dtype bfloat16 --models resnet50 --alone"
    assert command[2:] == [*words.split(), "Visavis CLRP"]
    assert int(environment["MALLOC_MMAP_THRESHOLD_"]) == int(environment["MALLOC_TRIM_THRESHOLD_"]) == 65536


@pytest.mark.parametrize(
    ("status", "errors", "said"),
    [
        (-9, "", "ended by signal 9"),
        (1, "Traceback\nOSError: no", "failed: OSError: no"),
        (3, "", "failed: exit status 3"),
    ],
)
def test_a_process_that_ends_badly_has_no_figure(
    memory: ModuleType, monkeypatch: pytest.MonkeyPatch, status: int, errors: str, said: str
) -> None:
    arguments = argparse.Namespace(device="cpu", threads=1, batch=1, side=9, maps=1, dtype="float32")
    ended = subprocess.CompletedProcess([], status, "", errors)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    assert said in memory.alone("Visavis CLRP", "vgg16", arguments)["absent"]


@pytest.mark.slow
def test_the_script_measures_a_real_model_in_processes_of_their_own(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    words = ["--models", "efficientnet_lite0", "--batch", "4", "--side", "96", "--threads", "1"]
    only = ["--repeats", "1", "--maps", "1", "--contestants", "Visavis CLRP", "--output", str(place)]
    subprocess.run([sys.executable, str(FOLDER / "peak_memory.py"), *words, *only], check=True, capture_output=True)
    plain, clrp = json.loads(place.read_text())["rows"]
    # The activations of a batch of four alone take some megabytes.
    assert 4 * MIB < plain["peaks"][0] < 400 * MIB
    assert 0.3 < clrp["ratio"] < 3

"""The experiments with explanation vectors: their formulas, their page, and that page and numbers belong together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVC

from benchmarks.scripts import FOLDER, script
from visavis.blackbox import ExplanationVectors

DOCS = FOLDER.parent / "docs"
FIGURES = {name: f"explanation-vectors-{name}.png" for name in ("iris", "digits", "tumour", "tumours")}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The quickest for so few rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def experiments() -> ModuleType:
    return script("vectors_experiments")


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return script("vectors_page")


@pytest.fixture(scope="module")
def memory() -> ModuleType:
    return script("vectors_memory")


@pytest.fixture
def measured() -> dict[str, Any]:
    return json.loads((FOLDER / "measured" / "explanation-vectors.json").read_text())


def test_the_gradient_of_an_svm_is_that_of_its_decision_function(experiments: ModuleType) -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 3))
    machine = SVC(gamma=0.3, C=2).fit(rows, np.where(rows[:, 0] * rows[:, 1] > 0, "yes", "no"))
    new = generator.normal(size=(7, 3))
    found = experiments.svm_gradient(machine, new)
    step = 1e-5
    for place, width in enumerate(np.eye(3) * step):
        change = (machine.decision_function(new + width) - machine.decision_function(new - width)) / (2 * step)
        np.testing.assert_allclose(found[:, place], change, rtol=1e-6, atol=1e-8)
    assert np.abs(found).max() > 0.1


def test_how_far_to_go_until_another_class_is_said(experiments: ModuleType) -> None:
    """x₁ > 3 is another class; from (0, 0), (1, 5), (2.75, 0) and (0, 0) that is 3, 2, 0.25 and, at 60°, 6 away."""

    def predict(rows: np.ndarray) -> np.ndarray:
        return np.where(rows[:, 0] > 3, "other", "one")

    rows = np.array([[0.0, 0.0], [1.0, 5.0], [2.75, 0.0], [0.0, 0.0]])
    ways = np.array([[7.0, 0.0], [0.001, 0.0], [2.0, 0.0], [1.0, np.sqrt(3.0)]])
    # In steps of half a grey level: the first that is beyond 3, 2, 0.25 and 6.
    for count, median in ((1, 3.5), (3, 2.5), (4, 3.0)):
        found = experiments.flips(predict, rows[:count], np.full(count, "one"), ways[:count])
        assert found["median"] == pytest.approx(median)
        assert found["flipped"] == 1
    # Away from it, or past 60, it is never said.
    far = np.array([[0.0, 0.0], [-56.75, 0.0], [-57.25, 0.0]])
    found = experiments.flips(predict, far, np.full(3, "one"), np.array([[-1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    assert found == {"median": None, "flipped": pytest.approx(1 / 3)}


def test_small_formulas(experiments: ModuleType) -> None:
    first, second = np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]]), np.array([[6.0, 8.0], [-2.0, 0.0], [1.0, -1.0]])
    assert experiments.cosines(first, second).tolist() == pytest.approx([1, -1, 0])
    train, labels = np.array([[0.0, 0.0], [2.0, 0.0], [10.0, 4.0]]), np.array(["a", "a", "b"])
    towards = experiments.towards_other(train, labels, np.array([[1.0, 1.0], [9.0, 1.0]]), np.array(["a", "b"]))
    assert towards.tolist() == [[9.0, 3.0], [-8.0, -1.0]]
    mean, low, high = experiments.as_list(np.array([0.1, 0.2, 0.6]))
    assert mean == pytest.approx(0.3)
    assert low < mean < high


def test_parts_of_vectors(experiments: ModuleType) -> None:
    rows = np.random.default_rng(0).normal(size=(30, 2))
    model = ExplanationVectors(lambda given: (given[:, 0] > 0).astype(int), probes=0).fit(rows)
    whole = experiments.quiet(model.explain, rows)
    flat = whole.flat.copy()
    flat[np.flatnonzero(whole.said == 1)[0]] = True
    whole = replace(whole, flat=flat)
    chosen = experiments.first_of_each(whole, 2)
    zeros, ones = (np.flatnonzero((whole.said == name) & ~flat)[:2].tolist() for name in (0, 1))
    assert chosen == [*zeros, *ones]
    part = experiments.part(whole, chosen)
    for name in ("rows", "values", "log_odds_gradient", "said", "probabilities", "agrees", "flat", "directions"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[chosen])
    assert len(part) == 4
    assert experiments.named(part, ["a", 3]).names == ("a", "3")


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"[+−-]?\d+(?:\.\d+)?(?:e[+-]\d+)?", text))


def test_the_page_has_all_numbers_and_figures(page: ModuleType, measured: dict[str, Any]) -> None:
    text = page.page(measured, {name: f"figure-{name}.png" for name in FIGURES}, None)
    for name in FIGURES:
        assert text.count(f"](figure-{name}.png)") == 1
    said = numbers_in(text.replace("−", "-"))
    iris, digits, tumours = (measured[name] for name in ("iris", "digits", "tumours"))
    wanted = [
        f"{100 * iris['accuracy']:.1f}",
        f"{iris['bandwidth']['width']:.2f}",
        f"{100 * iris['bandwidth']['agreement']:.1f}",
        f"{iris['bandwidth_best']['width']:.2f}",
        f"{100 * iris['bandwidth_best']['agreement']:.1f}",
        str(iris["flat"]),
        str(iris["rows"]),
        *(f"{size:.3f}" for sizes in iris["mean_size_by_class"].values() for size in sizes),
        f"{100 * digits['accuracy']:.1f}",
        str(digits["test"]),
        f"{digits['bandwidth']['width']:.1f}",
        f"{100 * digits['agreement_around']:.1f}",
        *(f"{one:.2f}" for one in digits["cosine_with_svm"]),
        *(f"{one['median']:.1f}" for one in digits["steps_to_flip"].values() if one["median"] is not None),
        *(f"{100 * one['flipped']:.0f}" for one in digits["steps_to_flip"].values()),
        f"{100 * tumours['accuracy']:.1f}",
        str(tumours["test"]),
        f"{tumours['bandwidth']['width']:.2f}",
        f"{100 * tumours['bandwidth']['agreement']:.1f}",
        f"{100 * tumours['agreement_around']:.1f}",
        str(tumours["below_threshold"]),
        f"{100 * tumours['row_probability']:.0f}",
        *(f"{one['mean']:+.2f}" for one in tumours["strongest"]),
    ]
    for one in list(tumours["ks"].values())[:6]:
        wanted += [f"{one['statistic']:.2f}", f"{one['pvalue']:.1e}"]
        wanted += [f"{one['inside']:+.2f}", f"{one['outside']:+.2f}"]
    assert not set(wanted) - said
    for name in (*iris["features"], *digits["steps_to_flip"], *list(tumours["ks"])[:6]):
        assert f"| {name} |" in text
    for name in (one["feature"] for one in tumours["strongest"]):
        assert name in " ".join(text.split())
    for name, number in measured["versions"].items():
        assert f"{name} {number}" in text
    assert f"```shell\n{measured['command']}\n```" in text
    assert "Beside LIME" not in text


def test_numbers_that_change_change_the_page(page: ModuleType, measured: dict[str, Any]) -> None:
    before = page.page(measured, FIGURES, None)
    measured["digits"]["steps_to_flip"]["at random"]["median"] = 12.5
    measured["tumours"]["below_threshold"] = 123456
    lines = before.splitlines()
    changed = [line for line in page.page(measured, FIGURES, None).splitlines() if line not in lines]
    assert any("| at random | 12.5 |" in line for line in changed)
    assert any("123456" in line for line in changed)


def test_the_part_of_peers(page: ModuleType, measured: dict[str, Any]) -> None:
    peers = {
        "reading": "One word. " * 40,
        "table": ["| a | b |", "| --- | ---: |", "| c | 1 |"],
        "command": "python x.py",
    }
    text = page.page(measured, FIGURES, peers)
    assert "## Beside LIME and SHAP\n\nOne word." in text
    assert "| a | b |\n| --- | ---: |\n| c | 1 |\n" in text
    assert "```shell\npython x.py\n```" in text
    assert max(map(len, text.split("## Beside")[1].split("|")[0].splitlines())) <= 118


def test_tables_and_lines(page: ModuleType) -> None:
    assert page.table(["a", "b"], [["x", "-1"], ["y-z", "2"]]) == ("| a | b |\n| --- | ---: |\n| x | −1 |\n| y-z | 2 |")
    assert page.filled("# " + "a " * 100).startswith("# a a")
    assert "\n" not in page.filled("# " + "a " * 100)
    assert {len(line) for line in page.filled("word " * 200).splitlines()[:-1]} == {114}


def test_the_page_in_the_docs_is_made_of_the_numbers_beside_it(page: ModuleType, measured: dict[str, Any]) -> None:
    beside = FOLDER / "measured" / "vectors-peers.json"
    peers = json.loads(beside.read_text()) if beside.is_file() else None
    assert (DOCS / "explanation-vectors.md").read_text() == page.page(measured, FIGURES, peers)
    for name in FIGURES.values():
        assert (DOCS / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_whole_run(
    experiments: ModuleType,
    measured: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--docs", tmp_path, "--output", tmp_path / "numbers.json", "--peers", tmp_path / "none.json"]
    monkeypatch.setattr("sys.argv", ["vectors_experiments.py", *map(str, words)])
    experiments.main()
    assert "4 figures" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {
        "numbers.json",
        "explanation-vectors.md",
        *FIGURES.values(),
    }
    again = json.loads((tmp_path / "numbers.json").read_text())
    assert again.keys() == measured.keys()
    # Scores of forests and machines may differ from one version to another, but not by much.
    for name in ("iris", "digits", "tumours"):
        assert again[name].keys() == measured[name].keys()
        assert again[name]["accuracy"] == pytest.approx(measured[name]["accuracy"], abs=0.03)
        assert again[name]["bandwidth"]["agreement"] == pytest.approx(
            measured[name]["bandwidth"]["agreement"], abs=0.03
        )
        assert again[name]["agreement_around"] == pytest.approx(measured[name]["agreement_around"], abs=0.05)
    if again["versions"] == measured["versions"]:
        assert_alike(again, measured)
    text = (tmp_path / "explanation-vectors.md").read_text()
    assert all(f"]({name})" in text for name in FIGURES.values())


def assert_alike(one: Any, other: Any, path: str = "") -> None:
    """All numbers of two documents are alike."""
    if isinstance(other, dict):
        assert one.keys() == other.keys(), path
        for name in other:
            assert_alike(one[name], other[name], f"{path}/{name}")
    elif isinstance(other, list):
        assert len(one) == len(other), path
        for place, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_alike(left, right, f"{path}/{place}")
    else:
        expected = pytest.approx(other, rel=1e-3, abs=1e-9) if isinstance(other, float) else other
        assert one == expected, path


def test_places_that_are_none_are_refused_before_any_work(
    experiments: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*given: Any) -> Any:
        raise AssertionError("worked")

    monkeypatch.setattr(experiments, "iris", work)
    for words in (["--docs", tmp_path / "none"], ["--docs", tmp_path, "--output", tmp_path / "none" / "x.json"]):
        monkeypatch.setattr("sys.argv", ["vectors_experiments.py", *map(str, words)])
        with pytest.raises(SystemExit, match=r"vectors_experiments.py: .*none.* is no folder"):
            experiments.main()
    assert not list(tmp_path.iterdir())


def by_hand(count: int, features: int, known: int) -> float:
    """The median cosine of a Parzen window's gradient with that of the linear classifier that it mimics."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal(features)
    points, rows = generator.standard_normal((known, features)), generator.standard_normal((count, features))
    labels, said = points @ weight > 0, rows @ weight > 0
    spread = points.std(0)
    width = ExplanationVectors(lambda given: given @ weight > 0, probes=0).fit(points).bandwidth_
    found = []
    for row, own in zip(rows, said, strict=True):
        kernel = np.exp(-(((points - row) / spread / width) ** 2).sum(1) / 2)
        one, other = (kernel[side] @ points[side] / kernel[side].sum() for side in (labels == own, labels != own))
        away, true = (other - one) / spread**2, -weight if own else weight
        found.append(away @ true / np.linalg.norm(away) / np.linalg.norm(true))
    return float(np.median(found))


@pytest.mark.filterwarnings("ignore::visavis.blackbox.LowAgreementWarning")
def test_what_is_measured_of_memory(memory: ModuleType) -> None:
    found = memory.measured(40, 5, 200, 4)
    assert (found["rows"], found["features"], found["mimic"]) == (40, 5, 200)
    assert found["rows_mib"] == pytest.approx(40 * 5 * 8 / 2**20)
    assert found["results_mib"] == pytest.approx(4 * 40 * 5 * 8 / 2**20)
    # A linear classifier of five features is known to 200 rows; the median vector points its way.
    assert 0.85 < found["cosine"] <= 1 + 1e-9
    assert 0.85 < found["agreement"] <= 1
    assert 0 <= found["peak_mib"] < 500
    assert 0 < found["cpu_seconds"] < 60
    assert found["cosine"] == pytest.approx(by_hand(40, 5, 200), rel=1e-9)
    assert memory.measured(20, 5, 80, 0)["cosine"] == pytest.approx(by_hand(20, 5, 80), rel=1e-9)


def test_too_much_memory_is_an_error(
    memory: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
) -> None:
    found = {"rows": 10, "rows_mib": 1.0, "results_mib": 3.0, "peak_mib": 6.0, "cosine": 0.5, "cpu_seconds": 1.0}
    asked: list[list[str]] = []

    class Done:
        stdout = ""

    def run(command: list[str], **options: Any) -> Any:
        asked.append(command)
        Done.stdout = json.dumps({**found, "rows": int(command[-1])})
        return Done

    monkeypatch.setattr(memory.subprocess, "run", run)
    words = ["--rows", "10", "20", "--features", "7", "--mimic", "9", "--probes", "2", "--output", tmp_path / "m.json"]

    def call(*more: object) -> None:
        monkeypatch.setattr("sys.argv", ["vectors_memory.py", *map(str, [*words, *more])])
        memory.main()

    call("--at-most", 2.0)
    assert [command[-1] for command in asked] == ["10", "20"]
    assert asked[0][2:] == ["--features", "7", "--mimic", "9", "--probes", "2", "--alone", "10"]
    assert "2.00" in capsys.readouterr().out
    assert [one["rows"] for one in json.loads((tmp_path / "m.json").read_text())] == [10, 20]
    with pytest.raises(SystemExit, match=r"the peak is above 1\.9 times the results"):
        call("--at-most", 1.9)
    for wrong in (("--features", 0), ("--mimic", 1), ("--rows", 5, 0)):
        with pytest.raises(SystemExit, match="at least 1"):
            call(*wrong)


@pytest.mark.filterwarnings("ignore::visavis.blackbox.LowAgreementWarning")
def test_one_size_is_measured_in_its_own_process(
    memory: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--alone", "12", "--features", "4", "--mimic", "50"]
    monkeypatch.setattr("sys.argv", ["vectors_memory.py", *words])
    memory.main()
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["features"], found["mimic"]) == (12, 4, 50)

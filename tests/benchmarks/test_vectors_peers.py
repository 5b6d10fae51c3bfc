"""Explanation vectors beside LIME and SHAP: each answer becomes a gradient, and is measured, as it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.scripts import script

WEIGHT = np.array([0.02, -0.05, 0.004, 0.3, 0.0])
SPREAD = np.array([1.0, 0.5, 10.0, 0.1, 2.0])
MEAN = np.array([3.0, -1.0, 40.0, 0.2, 0.0])


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    return script("vectors_peers")


def line(rows: np.ndarray) -> np.ndarray:
    """A probability that is linear where it is asked for: ½ + w · (x − m)."""
    yes = 0.5 + (rows - MEAN) @ WEIGHT
    return np.stack([1 - yes, yes], 1)


@pytest.fixture(scope="module")
def linear(peers: ModuleType) -> Any:
    """A classifier with the gradient w, of features in units that differ by a hundred."""
    generator = np.random.default_rng(0)
    known, points = (MEAN + SPREAD * generator.standard_normal((count, 5)) for count in (300, 6))
    return peers.Case(
        "linear",
        lambda rows: line(rows).argmax(1),
        line,
        lambda rows: np.broadcast_to(WEIGHT, rows.shape),
        known,
        points,
    )


def away(case: Any) -> np.ndarray:
    """∇P(A): w where 1 is said, else −w."""
    said = case.predict(case.points)
    assert set(said) == {0, 1}
    return np.where(said == 1, 1.0, -1.0)[:, None] * WEIGHT


@pytest.mark.parametrize("at_row", [False, True])
def test_coefficients_of_lime_are_the_derivatives_of_a_linear_function(
    peers: ModuleType, linear: Any, at_row: bool
) -> None:
    counted = peers.Counted(linear)
    with peers.quiet():
        found = peers.lime(by_labels=False, at_row=at_row)(linear, counted, 0)(linear.points)
    np.testing.assert_allclose(found.slopes * SPREAD, away(linear) * SPREAD, rtol=0.03, atol=1e-4)
    assert counted.asked == 5000 * len(linear.points)


@pytest.mark.parametrize("every", [False, True])
def test_slopes_of_shap_are_the_derivatives_of_a_linear_function(peers: ModuleType, linear: Any, every: bool) -> None:
    counted = peers.Counted(linear)
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    with peers.quiet():
        explain = peers.shap(by_labels=False, every=every)(linear, counted, 0)
        once = counted.asked
        found = explain(linear.points)
    np.testing.assert_allclose(found.slopes * SPREAD, away(linear) * SPREAD, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.values, away(linear) * found.apart, rtol=1e-6, atol=1e-9)
    # 50 rows of the background, then itself and 2⁵ − 2 sets of features with each of them.
    assert (once, counted.asked) == (50, 50 + len(linear.points) * (1 + 50 * 30))
    assert np.abs(linear.points - found.apart - MEAN).max() < SPREAD.max()
    assert (np.random.get_state()[1] == before).all()


def test_finite_differences_are_derivatives(peers: ModuleType, linear: Any) -> None:
    counted = peers.Counted(linear)
    found = peers.differences(linear, counted, 0)(linear.points)
    np.testing.assert_allclose(found.slopes, away(linear), rtol=1e-9, atol=1e-12)
    assert counted.asked == len(linear.points) * (1 + 2 * 5)


def test_the_mimic_goes_the_way_of_a_linear_function_and_is_counted(peers: ModuleType, linear: Any) -> None:
    counted = peers.Counted(linear)
    with peers.quiet():
        explain = peers.mimic(linear, counted, 0)
        once = counted.asked
        found = explain(linear.points)
    assert (once, counted.asked) == (300, 300 + 51 * len(linear.points))
    assert np.median(peers.cosines(found.slopes * SPREAD, away(linear) * SPREAD)) > 0.9


def test_labels_are_probabilities_of_0_and_1(peers: ModuleType, linear: Any) -> None:
    counted = peers.Counted(linear)
    given = counted.certainties(linear.points)
    assert set(given.flatten()) == {0.0, 1.0}
    assert (given.argmax(1) == linear.predict(linear.points)).all()
    assert counted.asked == len(linear.points)


def test_cosines_and_signs_by_their_formulas(peers: ModuleType) -> None:
    generator = np.random.default_rng(0)
    found, true = generator.standard_normal((2, 9, 4))
    found[0], true[1] = 0, 0
    found[2, 1] = np.nan
    found[3], true[3] = 1e-200 * found[3], 1e-250 * true[3]
    found[4, 2] = 0
    angles, agreed = peers.cosines(found, true), peers.signs(found, true)
    assert angles[0] == 0 == agreed[0]
    assert np.isnan(angles[1])
    assert np.isnan(agreed[1])
    assert angles[2] == 0
    for place in range(3, 9):
        one, other = (vectors[place] / np.abs(vectors[place]).max() for vectors in (found, true))
        assert angles[place] == pytest.approx(one @ other / np.sqrt((one @ one) * (other @ other)), rel=1e-12)
        same = [abs(right) for mine, right in zip(one, other, strict=True) if mine * right > 0]
        assert agreed[place] == pytest.approx(sum(same) / np.abs(other).sum(), rel=1e-12)


def test_the_median_and_its_interval(peers: ModuleType) -> None:
    values = np.array([*np.linspace(0, 1, 101), np.nan])
    mid, low, high = peers.middle(values, 0)
    assert mid == 0.5
    # The binomial interval of a median of 101 even values: the 41st to the 61st.
    assert (low, high) == (pytest.approx(0.4, abs=0.02), pytest.approx(0.6, abs=0.02))
    assert peers.middle(np.array([np.nan]), 0) is None
    assert peers.middle(np.array([0.25]), 0) == [0.25, 0.25, 0.25]


@pytest.mark.parametrize("name", ["tumours", "gp2", "gp5", "quadratic", "digits"])
def test_gradients_of_cases_are_those_of_their_probabilities(
    peers: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith("gp"):
        # Its hyperparameters need not be good to have a gradient.
        process = peers.GaussianProcessClassifier
        monkeypatch.setattr(peers, "GaussianProcessClassifier", lambda kernel: process(kernel, optimizer=None))
    # Two threads on two busy cores wait for each other.
    with peers.quiet():
        case = peers.CASES[name](4, 0)
        gradient = case.gradient(case.points)
        steps = np.diag(1e-6 * np.where(case.spread > 0, case.spread, 1))
        around = np.stack([case.points[:, None] + steps, case.points[:, None] - steps])
        plus, minus = case.predict_proba(around.reshape(-1, len(steps)))[:, 1].reshape(around.shape[:-1])
        assert (case.predict(case.known) == case.predict_proba(case.known).argmax(1)).all()
    change = (plus - minus) / (2 * steps.diagonal())
    np.testing.assert_allclose(gradient, change, rtol=1e-4, atol=1e-4 * np.abs(gradient).max())
    assert np.abs(gradient).max() > 1e-6
    # Nobody learns from what is explained.
    assert not (case.points[:, None] == case.known).all(2).any()
    assert (case.exact is None) == (name == "quadratic")
    with pytest.raises(peers.InputError, match=r"rows to explain; --points is 100000"):
        peers._some(case.points, 100_000)


def test_a_race(peers: ModuleType, linear: Any) -> None:
    """What goes row by row explains each row once; the others all rows in every round."""
    seen: dict[str, list[np.ndarray]] = {"one": [], "all": [], "once": []}

    def start(name: str) -> Callable[..., Any]:
        def started(case: Any, counted: Any, seed: int) -> Any:
            counted.labels(case.known[:12])

            def explain(rows: np.ndarray) -> Any:
                seen[name].append(rows)
                counted.labels(np.concatenate([rows, rows]))
                return peers.Answer(rows)

            return explain

        return started

    who = [
        peers.Contestant("one", "labels", start("one"), True),
        peers.Contestant("once", "labels", start("once"), once=True),
        peers.Contestant("all", "labels", start("all")),
    ]
    one, once, every = peers.raced(linear, who, 4, 0)
    assert (np.concatenate(seen["one"]) == linear.points).all()
    assert [len(rows) for rows in seen["one"]] == [2, 2, 1, 1]
    assert [len(rows) for rows in seen["all"]] == [6] * 4
    assert [len(rows) for rows in seen["once"]] == [6]
    for taken, rounds in ((one, 4), (every, 4), (once, 1)):
        assert (np.concatenate([answer.slopes for answer in taken.answers]) == linear.points).all()
        assert taken.asked == [12 / 6 + 2] * rounds
        assert len(taken.seconds) == rounds


def test_the_table_has_all_rows(peers: ModuleType, linear: Any) -> None:
    """Stand-ins, for a whole run is slow: who takes part, and what becomes of it."""
    few, many = peers.contestants(linear), peers.contestants(replace(linear, known=np.eye(11), exact=linear))
    assert [one.title for one in few] == [
        *("Visavis, mimic", "Visavis, mimic, 1,000 rows around each", "finite differences"),
        *("LIME", "LIME at the row", "LIME", "LIME at the row", "SHAP slopes", "SHAP slopes"),
    ]
    assert many[0].title == "Visavis, exact"
    assert [one.title for one in many].count("SHAP slopes, all features") == 2
    assert {one.row_by_row for one in many if one.title.startswith(("LIME", "SHAP"))} == {True}
    assert not any(one.row_by_row for one in many if not one.title.startswith(("LIME", "SHAP")))
    rows = [
        {
            "title": "linear",
            "contestant": one.title,
            "asks": one.asks,
            "points": 6,
            "cosine": [at / 10, -0.5, 1.0],
            "cosine_steep": [-0.001, 0, 1],
            "signs": [0.5, 0.4, 0.6],
            "asked": 1234.5,
            "times_mimic": at / 2,
        }
        for at, one in enumerate(few)
    ]
    rows[0] |= {"cosine": None, "cosine_steep": None, "signs": None, "asked": None}
    said = peers.lines(rows)
    assert len(said) == 2 + len(few)
    assert {line.count("|") for line in said} == {len(peers.COLUMNS) + 1}
    assert said[2] == "| linear | Visavis, mimic | labels | – | – | – | – | 0 |"
    assert said[5] == "| linear | LIME | probabilities | 0.30 (−0.50 to 1.00) | 0.00 | 50% | 1,234 | 1.5 |"
    rows[0]["cosine"] = [0.25, 0.2, 0.3]
    text = peers.reading(rows)
    assert text.endswith(
        "linear: the mimic 0.25, with rows around each 0.10; of labels SHAP slopes, 0.80; of probabilities "
        "SHAP slopes, 0.70."
    )
    assert "and 6 rows of each" in text


def test_refusals(peers: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def call(*words: object) -> None:
        monkeypatch.setattr("sys.argv", ["vectors_peers.py", *map(str, words)])
        peers.main()

    for words in (("--repeats", 0), ("--points", 2, "--repeats", 3), ("--points", 0)):
        with pytest.raises(SystemExit, match="--repeats not above --points"):
            call(*words)
    with pytest.raises(SystemExit, match="--seed is a number of at least 0"):
        call("--seed", -1)
    with pytest.raises(SystemExit, match="is no folder"):
        call("--output", tmp_path / "none" / "x.json")
    with pytest.raises(SystemExit, match="400 rows to explain; --points is 401"):
        call("--cases", "quadratic", "--points", 401)
    monkeypatch.setattr(peers, "import_module", lambda name: __import__("no_such_peer"))
    threads = torch.get_num_threads()
    with pytest.raises(SystemExit, match=r"lime\.lime_tabular cannot be loaded .*pip install lime shap"):
        call()
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_a_run(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--points", "3", "--repeats", "2", "--cases", "quadratic", "digits", "--output", str(tmp_path / "x.json")]
    monkeypatch.setattr("sys.argv", ["vectors_peers.py", *words])
    peers.main()
    said, made = capsys.readouterr(), json.loads((tmp_path / "x.json").read_text())
    assert not said.err
    assert "\n".join(made["table"]) in said.out
    assert made["reading"] in said.out
    assert made["command"] == " ".join(["python", "benchmarks/vectors_peers.py", *words])
    assert set(made["versions"]) == {"visavis", "lime", "shap", "scikit-learn", "torch", "numpy", "scipy"}
    by_case = {name: [row for row in made["rows"] if row["case"] == name] for name in ("quadratic", "digits")}
    assert [len(rows) for rows in by_case.values()] == [3 + 4 + 4, 4 + 4 + 8]
    assert len(made["table"]) == 2 + 11 + 16
    for row in made["rows"]:
        assert row["points"] == 3
        assert -1 <= row["cosine"][1] <= row["cosine"][0] <= row["cosine"][2] <= 1 + 1e-9
        assert 0 <= row["signs"][0] <= 1
        assert row["seconds"] > 0
        if row["contestant"] == "Visavis, mimic":
            assert row["times_mimic"] == 1
        if row["contestant"] in ("Visavis, exact", "finite differences"):
            assert row["cosine"][0] == pytest.approx(1, abs=1e-4)
        assert (row["asked"] is None) == (row["asks"] == "its gradient")
    asked = {(row["contestant"], row["asks"]): row["asked"] for row in by_case["quadratic"]}
    assert asked["LIME", "labels"] == 5000
    assert asked["finite differences", "probabilities"] == 21
    assert asked["Visavis, mimic", "labels"] == pytest.approx(500 / 3 + 51)
    assert asked["SHAP slopes", "labels"] == pytest.approx(50 / 3 + 1 + 50 * 1022)

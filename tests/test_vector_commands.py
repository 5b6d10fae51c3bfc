"""The shell's vectors: what is printed and drawn is what the library finds, and words that are refused."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import PIL.Image
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import skops.io
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner, Result

from visavis import cli
from visavis.blackbox import ExplanationVectors, forest
from visavis.blackbox.forest import validated_forest
from visavis.blackbox.tables import read_table
from visavis.errors import InputError, ModelError, OutputError
from visavis.reports.vectors import bars

NAMES = ("size (cm)", "weight", "age")
PICTURE = "t-row-0-vectors.png"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a table; few trees and one thread are quick."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(forest, "_TREES", 7)
    write()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def numbers(count: int = 90) -> np.ndarray:
    return np.random.default_rng(5).normal(size=(count, 3)) * [1.0, 10.0, 0.1]


def classes(rows: np.ndarray) -> np.ndarray:
    found = np.where(rows[:, 0] + 0.05 * rows[:, 1] > 0, "yes", "no")
    return np.where(rows[:, 2] > 0.12, "other", found)


def write(name: str = "t.csv", names: tuple[str, ...] = NAMES, **columns: list[str]) -> str:
    rows = numbers()
    with Path(name).open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow([*names, *columns, "class"])
        writer.writerows(
            [*map(repr, row.tolist()), *(column[place] for column in columns.values()), label]
            for place, (row, label) in enumerate(zip(rows, classes(rows), strict=True))
        )
    return name


def shell(*words: object) -> Result:
    """Without more rows, unless some are asked for: what the library does is then the same."""
    sampled = () if "--sample" in words else ("--sample", "0")
    return CliRunner().invoke(cli.app, ["vectors", *map(str, words), *sampled])


def found(*words: object) -> dict[str, Any]:
    """The document of a run that comes to its end."""
    done = shell(*words, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def refused(*words: object, kind: type[Exception] = InputError) -> str:
    """What is said of a run that is refused; nothing is printed or written by it."""
    before = {path: path.stat().st_mtime_ns for path in Path().iterdir()}
    done = shell(*words)
    assert done.exit_code == 1
    assert isinstance(done.exception, kind), repr(done.exception)
    assert done.stdout == ""
    assert {path: path.stat().st_mtime_ns for path in Path().iterdir()} == before
    said = str(done.exception)
    assert "\n" not in said
    return said


def dumped(estimator: Any, rows: Any = None, labels: Any = None, name: str = "model.skops") -> str:
    rows = numbers() if rows is None else rows
    skops.io.dump(estimator.fit(rows, classes(np.asarray(rows)) if labels is None else labels), name)
    return name


FOREST = ("t.csv", "--row", 0, "--target", "class")
MODEL = ("t.csv", "--row", 0, "--target", "class", "--model", "model.skops")


def of_table(**options: Any) -> tuple[ExplanationVectors, Any, Any]:
    table = read_table("t.csv", "class")
    assert table.labels is not None
    validated = validated_forest(table.rows, table.labels, options.get("random_state", 0))
    return ExplanationVectors(validated.forest, **options).fit(table.rows), table, validated


def check(document: dict[str, Any], vectors: Any) -> None:
    """All numbers of a vector are those of the library, the strongest first."""
    sizes = [abs(one["per_deviation"]) for one in document["features"]]
    assert sizes == sorted(sizes, reverse=True)
    assert {one["name"] for one in document["features"]} == set(NAMES)
    for one in document["features"]:
        place = NAMES.index(one["name"])
        assert one["at"] == vectors.rows[0, place]
        assert one["value"] == pytest.approx(vectors.values[0, place], rel=1e-12)
        assert one["per_deviation"] == pytest.approx(vectors.values[0, place] * vectors.scale[place], rel=1e-12)
        for end in ("low", "high"):
            ends = getattr(vectors, end)
            assert one[end] == (None if ends is None else pytest.approx(ends[0, place], rel=1e-12))
    for name, share in zip(vectors.classes.tolist(), vectors.probabilities[0], strict=True):
        assert document["probabilities"][str(name)] == pytest.approx(share, rel=1e-12)
    assert document["agreement_around"] == vectors.agreement[0]
    assert document["agrees"] == vectors.agrees[0]
    assert document["quantity"] == vectors.quantity(0)
    assert (document["kind"], document["said"]) == (vectors.kind, vectors.said[0])


def test_the_document_is_what_the_library_finds() -> None:
    document = found(*FOREST, "--draws", 50)
    model, table, validated = of_table()
    vectors = model.explain(table.rows[[0]], draws=50)
    check(document, vectors)
    assert (document["kind"], document["foil"], document["exact"]) == ("away", None, False)
    assert (document["table"], document["row"], document["label"]) == ("t.csv", 0, table.labels[0])
    assert document["target"] == vectors.targets[0]
    assert document["bandwidth"] == model.bandwidth_
    assert document["agreement"] == model.agreement_
    assert document["source"] == "Parzen mimic of 90 rows"
    assert document["cross_validated"] == {
        "said": validated.said[0],
        "accuracy": pytest.approx(validated.accuracy),
        "balanced": pytest.approx(validated.balanced),
        "majority": pytest.approx(validated.majority),
    }
    assert (document["flat"], document["curvature"]) == (False, None)
    assert document["picture"] == PICTURE


def test_the_words_are_those_of_the_document() -> None:
    document, done = found(*FOREST, "--draws", 50), shell(*FOREST, "--draws", 50)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"Row 0 of t.csv: a random forest says {document['said']}, and its class is {document['label']}"
    checked = document["cross_validated"]
    shares = [f"{100 * checked[name]:.0f} %" for name in ("accuracy", "balanced", "majority")]
    assert len(set(shares)) == 3
    assert lines[1] == (
        f"  a forest that has not seen it says {checked['said']}; cross-validated, such are right in {shares[0]} of "
        f"rows (mean over classes {shares[1]}; the most frequent class {shares[2]})"
    )
    agreement, around = (f"{100 * document[name]:.0f} %" for name in ("agreement", "agreement_around"))
    assert lines[2] == (
        f"  gradients: Parzen mimic of 90 rows; of rows that are left out in turn it calls {agreement} as the "
        f"classifier does, of places around this row {around}"
    )
    own, mimicked = (100 * one for one in (document["own_probability"], document["probabilities"][document["said"]]))
    assert lines[3] == (
        f"  P({document['said']}) is {own:.1f} % by the classifier itself, {mimicked:.1f} % by its mimic, which "
        "goes by labels alone"
    )
    assert lines[4] == (
        f"  change of P({document['said']}) per standard deviation more of each feature; above 0 speaks for "
        f"{document['said']}, below against {document['said']}:"
    )
    scale = numbers().std(0)
    for line, one in zip(lines[5:8], document["features"], strict=True):
        each = scale[NAMES.index(one["name"])]
        told = [f"{-value * each:.3g}".replace("-", "−") for value in (one["value"], one["high"], one["low"])]
        assert re.fullmatch(rf"    {re.escape(one['name'])} +{told[0]}  \({told[1]} to {told[2]}\)", line)
    assert lines[8:] == [f"written: {PICTURE}"]


def test_the_picture_is_that_of_the_same_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Any, dict[str, Any]]] = []
    figure = bars.bars_figure

    def kept(vectors: Any, **options: Any) -> Any:
        drawn.append((vectors, options))
        return figure(vectors, **options)

    monkeypatch.setattr(bars, "bars_figure", kept)
    document = found(*FOREST, "--draws", 20, "--most", 2)
    ((vectors, options),) = drawn
    assert options == {"most": 2}
    assert vectors.names == NAMES
    check(document, vectors)
    with PIL.Image.open(PICTURE) as picture:
        assert picture.width == 1800
    done = shell(*FOREST, "--draws", 0, "--most", 2, "-o", "other.svg")
    assert done.exit_code == 0
    assert done.stdout.endswith("\nwritten: other.svg\n")
    assert len(done.stdout.splitlines()) == 8
    assert Path("other.svg").read_bytes().startswith(b"<?xml")


def test_twice_the_same() -> None:
    first = shell(*FOREST, "--draws", 20), Path(PICTURE).read_bytes()
    again = shell(*FOREST, "--draws", 20), Path(PICTURE).read_bytes()
    assert first[0].stdout == again[0].stdout
    assert first[1] == again[1]
    assert (
        found(*FOREST, "--draws", 0, "--seed", 1)["cross_validated"] != found(*FOREST, "--draws", 0)["cross_validated"]
    )


def test_foils() -> None:
    model, table, _ = of_table()
    said = model.explain(table.rows[[0]]).said[0]
    other = next(
        name for name in ("other", "yes", "no") if name not in (said, model.contrast(table.rows[[0]]).foils[0])
    )
    for foil in ("runner-up", "others", other):
        document = found(*FOREST, "--foil", foil, "--draws", 30)
        vectors = model.contrast(table.rows[[0]], foil, draws=30)
        check(document, vectors)
        assert document["kind"] == "contrast"
        assert document["foil"] == vectors.foils[0]
        assert document["quantity"] == f"log P({said}) / P({vectors.foils[0]})"
    assert "the foil is 'nobody', but one of the classes was expected: no, other, yes" in refused(
        *FOREST, "--foil", "nobody"
    )
    assert "itself; choose another foil" in refused(*FOREST, "--foil", said)


def test_foils_that_are_numbers() -> None:
    rows = numbers()
    table = pa.table({**dict(zip(NAMES, rows.T, strict=True)), "class": (rows[:, 0] > 0).astype(int)})
    pq.write_table(table, "n.parquet")
    document = found("n.parquet", "--row", 3, "--target", "class", "--draws", 0, "--foil", int(rows[3, 0] <= 0))
    assert document["foil"] == int(rows[3, 0] <= 0)
    assert (document["table"], document["row"], document["label"]) == ("n.parquet", 3, int(rows[3, 0] > 0))
    assert document["picture"] == "n-row-3-not-0-vectors.png"


def test_features() -> None:
    document = found(*FOREST, "--features", "age, size (cm)", "--draws", 0)
    table = read_table("t.csv", "class", ["age", "size (cm)"])
    assert table.labels is not None
    own = ExplanationVectors(validated_forest(table.rows, table.labels, 0).forest).fit(table.rows)
    values = dict(zip(table.features, own.explain(table.rows[[0]]).values[0], strict=True))
    assert {one["name"]: one["value"] for one in document["features"]} == pytest.approx(values, rel=1e-12)
    assert "no column 'colour'; it has size (cm), weight, age, class" in refused(*FOREST, "--features", "age,colour")
    assert "is the target" in refused(*FOREST, "--features", "age,class")
    assert "twice" in refused(*FOREST, "--features", "age,age")


def test_features_that_name_none_are_said_to_be_none() -> None:
    assert "--features" in refused(*FOREST, "--features", ",")


def test_another_row() -> None:
    model, table, _ = of_table()
    check(found("t.csv", "--row", 17, "--target", "class", "--draws", 0), model.explain(table.rows[[17]]))
    assert Path("t-row-17-vectors.png").is_file()


def test_rows_keep_their_number_where_others_are_left_out() -> None:
    text = Path("t.csv").read_text().splitlines()
    text[1] = ",1,1,yes"
    Path("t.csv").write_text("\n".join(text))
    done = shell("t.csv", "--row", 17, "--target", "class", "--draws", 0, "--json")
    assert done.exit_code == 0, done.exception
    assert done.stderr.splitlines()[0] == "note: 1 of 90 rows lack a value, and are left out"
    document = json.loads(done.stdout)
    model, table, validated = of_table()
    assert len(table.rows) == 89
    check(document, model.explain(table.rows[[16]]))
    assert document["row"] == 17
    assert document["label"] == classes(numbers())[17] == table.labels[16]
    assert document["cross_validated"]["said"] == validated.said[16]
    assert {one["name"]: one["at"] for one in document["features"]} == dict(zip(NAMES, numbers()[17], strict=True))
    assert "row 0 of 't.csv' lacks a value, so it cannot be explained; fill it in" in refused(*FOREST)
    assert "'t.csv' has 90 rows, numbered from 0, so there is no row 90" in refused(
        "t.csv", "--row", 90, "--target", "class"
    )
    assert shell("t.csv", "--row", -1, "--target", "class").exit_code == 2
    assert shell("t.csv", "--row", "first", "--target", "class").exit_code == 2
    assert shell("t.csv", "--target", "class").exit_code == 2


def test_columns_that_are_left_out_are_named() -> None:
    write("t.csv", remark=["good"] * 90, day=["2020-01-01"] * 90, none=[""] * 90)
    done = shell(*FOREST, "--draws", 0)
    assert done.exit_code == 0
    assert done.stderr.splitlines()[0] == (
        "note: columns that are no numbers are left out: remark (text), day (a time), none (empty)"
    )
    assert "note" not in done.stdout
    write("t.csv", **{f"c{place}": ["x"] * 90 for place in range(11)})
    assert " c7 (text) and 3 more\n" in shell(*FOREST, "--draws", 0).stderr
    write()
    assert "left out" not in shell(*FOREST, "--draws", 0).stderr


def draws(count: int) -> list[Any]:
    return [(one["low"], one["high"]) for one in found(*FOREST, "--draws", count)["features"]]


def test_draws() -> None:
    assert draws(0) == [(None, None)] * 3
    assert " to " not in shell(*FOREST, "--draws", 0).stdout
    assert all(low < high for low, high in draws(40))
    assert draws(40) != draws(41)
    assert refused(*FOREST, "--draws", 1) == "--draws is 1, but 0 or at least 2 were expected"
    assert shell(*FOREST, "--draws", -1).exit_code == 2


def test_sample() -> None:
    document = found(*FOREST, "--sample", 60, "--draws", 0)
    assert document["source"] == "Parzen mimic of 150 rows"
    model, table, _ = of_table()
    check(document, model.sample(60, near=table.rows[[0]]).explain(table.rows[[0]]))
    assert [one["value"] for one in document["features"]] != [
        one["value"] for one in found(*FOREST, "--draws", 0)["features"]
    ]


def test_where_gradients_come_from() -> None:
    dumped(LogisticRegression(C=0.1))
    exact, auto = found(*MODEL, "--gradients", "exact"), found(*MODEL)
    mimic = found(*MODEL, "--gradients", "mimic", "--draws", 0)
    assert exact == auto
    assert exact["exact"]
    assert not mimic["exact"]
    assert mimic["source"] == "Parzen mimic of 90 rows"
    assert (exact["bandwidth"], exact["agreement"], exact["agreement_around"]) == (None, None, 1.0)
    assert {one["low"] for one in exact["features"]} == {None}
    assert exact["cross_validated"] is None
    said = refused(*FOREST, "--gradients", "exact")
    assert "the gradient of this classifier is not known" in said
    assert "gradients is 'some'" in refused(*FOREST, "--gradients", "some")


def analytic(weight: np.ndarray, bias: np.ndarray, row: np.ndarray, target: int) -> np.ndarray:
    """−∂ softmax(W x + b)_A / ∂ x = −p_A (w_A − Σ_k p_k w_k)."""
    scores = weight @ row + bias
    shares = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    return -shares[target] * (weight[target] - shares @ weight)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("two", [False, True])
def test_the_exact_gradient_of_a_logistic_regression(scaled: bool, two: bool) -> None:
    rows = numbers()
    labels = np.where(rows[:, 0] > 0, "yes", "no") if two else classes(rows)
    last = LogisticRegression(C=0.2)
    dumped(make_pipeline(StandardScaler(), last) if scaled else last, rows, labels)
    row, weight, bias = rows[0], last.coef_, last.intercept_
    if two:
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    scale, centre = (rows.std(0), rows.mean(0)) if scaled else (np.ones(3), np.zeros(3))
    target = int((weight @ ((row - centre) / scale) + bias).argmax())
    expected = analytic(weight, bias, (row - centre) / scale, target) / scale
    document = found(*MODEL)
    assert document["target"] == document["said"] == last.classes_[target]
    assert {one["name"]: one["value"] for one in document["features"]} == pytest.approx(
        dict(zip(NAMES, expected, strict=True)), rel=1e-9
    )
    for one in document["features"]:
        each = expected[NAMES.index(one["name"])] * rows.std(0)[NAMES.index(one["name"])]
        assert one["per_deviation"] == pytest.approx(each, rel=1e-9)
    done = shell(*MODEL)
    assert done.stdout.startswith(f"Row 0 of t.csv: the estimator says {last.classes_[target]}, and its class is ")
    assert "closed form" in done.stdout.splitlines()[1]
    assert "forest" not in done.stdout


def test_a_model_needs_no_target() -> None:
    rows = numbers()
    dumped(LogisticRegression())
    pq.write_table(pa.table(dict(zip(NAMES, rows.T, strict=True))), "rows.parquet")
    document = found("rows.parquet", "--row", 0, "--model", "model.skops")
    assert document["label"] is None
    assert document["features"] == found(*MODEL)["features"]
    done = shell("rows.parquet", "--row", 0, "--model", "model.skops")
    assert done.stdout.splitlines()[0] == f"Row 0 of rows.parquet: the estimator says {document['said']}"
    assert refused("t.csv", "--row", 0) == (
        "name the column that holds the class with --target, or an estimator with --model"
    )


def test_a_forest_of_ones_own_is_asked_only_for_what_it_says() -> None:
    dumped(RandomForestClassifier(9, random_state=3))
    said = refused(*MODEL, kind=ModelError)
    assert "sklearn.tree._tree.Tree" in said
    document = found(*MODEL, "--trust", "sklearn.tree._tree.Tree", "--draws", 0)
    rows = numbers()
    own = RandomForestClassifier(9, random_state=3).fit(rows, classes(rows))
    check(document, ExplanationVectors(own).fit(rows).explain(rows[[0]]))


def test_an_estimator_with_names_is_given_its_columns_in_its_order() -> None:
    frame = pd.DataFrame(numbers(), columns=list(NAMES))[["weight", "size (cm)"]]
    dumped(LogisticRegression(C=0.3), frame, classes(numbers()))
    document = found(*MODEL)
    own = LogisticRegression(C=0.3).fit(frame.to_numpy(), classes(numbers()))
    target = own.classes_.tolist().index(document["said"])
    expected = analytic(own.coef_, own.intercept_, frame.to_numpy()[0], target)
    assert {one["name"]: one["value"] for one in document["features"]} == pytest.approx(
        dict(zip(frame.columns, expected, strict=True)), rel=1e-9
    )
    # A mimic asks it again and again, each time in a frame: any warning of names would be an error here.
    assert found(*MODEL, "--gradients", "mimic", "--draws", 0)["said"] == document["said"]
    assert found(*MODEL, "--features", "weight,size (cm)") == document
    assert "goes by weight, size (cm); leave --features out" in refused(*MODEL, "--features", "size (cm),weight")
    Path("t.csv").write_text(Path("t.csv").read_text().replace("weight", "mass"))
    assert "has no column 'weight'; it has size (cm), mass, age, class" in refused(*MODEL)


def test_an_estimator_of_another_width() -> None:
    dumped(LogisticRegression(), numbers()[:, :2], classes(numbers()))
    said = refused(*MODEL)
    assert "the estimator of 'model.skops' goes by 2 features, but 't.csv' has 3 that are numbers" in said
    assert "--features" in said
    document = found(*MODEL, "--features", "size (cm),weight")
    assert {one["name"] for one in document["features"]} == {"size (cm)", "weight"}


class Failing(ClassifierMixin, BaseEstimator):
    """It fails as it predicts."""

    def fit(self, X: Any, y: Any) -> Failing:
        self.classes_, self.n_features_in_ = np.unique(y), 3
        return self

    def predict(self, X: Any) -> Any:
        raise RuntimeError("[red] no luck")


def test_estimators_that_fail_or_are_none() -> None:
    dumped(Failing())
    said = refused(*MODEL, "--trust", f"{Failing.__module__}.Failing", kind=ModelError)
    assert said.startswith("the estimator of 'model.skops' failed on rows of 't.csv', RuntimeError in ")
    assert said.endswith("[red] no luck")
    dumped(LinearRegression(), labels=numbers()[:, 0])
    done = shell(*MODEL)
    assert done.exit_code == 1
    assert isinstance(done.exception, InputError | ModelError)
    Path("model.skops").write_bytes(b"PK")
    assert "'model.skops' is no skops file" in refused(*MODEL, kind=ModelError)
    assert "there is no file 'none.skops'" in refused(*MODEL[:-1], "none.skops", kind=ModelError)
    Path("model.pkl").write_bytes(b"")
    assert "is a pickle" in refused(*MODEL[:-1], "model.pkl", kind=ModelError)


def test_a_mimic_that_disagrees_is_said_to() -> None:
    """Stripes narrower than rows lie apart: no mimic of these rows can know them."""
    rows = numbers()
    stripes = make_pipeline(StandardScaler(), RandomForestClassifier(30, random_state=0))
    dumped(stripes, rows, np.where(np.sin(40 * rows[:, 0]) > 0, "up", "down"))
    words = ("--trust", "sklearn.tree._tree.Tree", "--draws", 0)
    document = found(*MODEL, *words)
    assert document["agreement_around"] < 0.8
    done = shell(*MODEL, *words)
    assert done.exit_code == 0
    share = f"{100 * document['agreement_around']:.0f} %"
    (note,) = done.stderr.splitlines()
    assert note.startswith(f"note: the mimic agrees with the classifier in {share} of the places asked around this row")
    assert ("calls this row itself otherwise" in note) == (not document["agrees"])
    assert note.endswith(
        "so the vector explains the mimic more than the classifier; --sample 1000 shows it more rows like this one"
    )
    sampled = shell(*MODEL, *words, "--sample", 5)
    assert "--sample 1000 shows" in sampled.stderr
    # A thousand rows more, and it agrees.
    assert found(*MODEL, *words, "--sample", 1000)["agreement_around"] > 0.8
    assert "mimic" not in shell(*MODEL, *words, "--sample", 1000).stderr
    assert "mimic" not in shell(*FOREST, "--draws", 0).stderr


def test_a_row_far_from_all_others_is_told_by_its_direction() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    rows[:20] += 40
    # Two classes beside each other keep the window narrow, and the third is far from both.
    names = ["far"] * 20 + ["up" if up > 0 else "down" for up in rows[20:, 1]]
    lines = [f"{a!r},{b!r},{name}" for (a, b), name in zip(rows.tolist(), names, strict=True)]
    Path("t.csv").write_text("a,b,class\n" + "\n".join(lines))
    document = found("t.csv", "--row", 4, "--target", "class", "--draws", 0)
    assert document["flat"]
    directions = {one["name"]: one["direction"] for one in document["features"]}
    assert sum(one**2 for one in directions.values()) == pytest.approx(1)
    assert document["curvature"] is not None
    done = shell("t.csv", "--row", 4, "--target", "class", "--draws", 0)
    lines = done.stdout.splitlines()
    assert lines[4] == (
        "  the gradient is next to zero here; the direction along which P(not far) bends most, the way it rises, in "
        "standard deviations:"
    )
    order = sorted(directions, key=lambda name: -abs(directions[name]))
    told = [f"{directions[name]:.3g}".replace("-", "−") for name in order]
    assert [line.split() for line in lines[5:7]] == [[name, one] for name, one in zip(order, told, strict=True)]
    assert lines[7:] == ["written: t-row-4-vectors.png"]


def test_a_class_with_a_single_row_is_not_cross_validated() -> None:
    text = Path("t.csv").read_text().splitlines()
    text[2] = text[2].rsplit(",", 1)[0] + ",alone"
    Path("t.csv").write_text("\n".join(text))
    document, done = found(*FOREST, "--draws", 0), shell(*FOREST, "--draws", 0)
    checked = document["cross_validated"]
    assert (checked["said"], checked["accuracy"], checked["balanced"]) == (None, None, None)
    assert checked["majority"] == pytest.approx(pd.read_csv("t.csv")["class"].value_counts().max() / 90)
    assert done.stdout.splitlines()[1] == "  not cross-validated: a class has a single row"


def test_outputs_that_are_refused() -> None:
    csv_bytes = Path("t.csv").read_bytes()
    assert "'t.csv' ends in '.csv', but a figure is written as .png" in refused(
        *FOREST, "-o", "t.csv", kind=OutputError
    )
    assert "'why' has no ending" in refused(*FOREST, "-o", "why", kind=OutputError)
    assert "no folder" in refused(*FOREST, "-o", "nowhere/why.png", kind=OutputError)
    Path("folder.png").mkdir()
    assert "is a folder" in refused(*FOREST, "-o", "folder.png", kind=OutputError)
    dumped(LogisticRegression())
    model_bytes = Path("model.skops").read_bytes()
    os.link("t.csv", "hard.png")
    Path("soft.png").symlink_to("t.csv")
    Path("model.png").symlink_to("model.skops")
    for name in ("hard.png", "soft.png", "model.png"):
        assert f"the output '{name}' is " in refused(*MODEL, "-o", name)
    assert Path("t.csv").read_bytes() == csv_bytes
    assert Path("model.skops").read_bytes() == model_bytes


def test_a_table_is_not_called_a_photograph() -> None:
    os.link("t.csv", "hard.png")
    assert "photograph" not in refused(*FOREST, "-o", "hard.png")


def test_tables_that_are_refused() -> None:
    assert "there is no file 'none.csv'" in refused("none.csv", "--row", 0, "--target", "class")
    assert "has no column 'kind'" in refused("t.csv", "--row", 0, "--target", "kind")
    assert "no whole ones, but classes were expected" in refused("t.csv", "--row", 0, "--target", "age")
    Path("t.txt").write_text("a")
    assert "no table by its name" in refused("t.txt", "--row", 0, "--target", "class")
    assert "null character" in refused("nul\0.csv", "--row", 0, "--target", "class", kind=OutputError)
    assert "no file" in refused("nul\0.csv", "--row", 0, "--target", "class", "-o", "why.png")


def test_the_shell_says_what_is_wrong_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["visavis", "vectors", "[red]none.csv", "--row", "0", "--target", "class"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err == "visavis: there is no file '[red]none.csv'\n"


@dataclass(frozen=True)
class Odd:
    """A name, and how it is shown."""

    name: str
    shown: str


ODD = (
    Odd("[red]", "[red]"),
    Odd("[/]\\[b]:smile:", "[/]\\[b]:smile:"),
    Odd("two\nlines\x1b[31m", "two\\x0alines\\x1b[31m"),
)


def test_names_are_shown_as_they_are() -> None:
    write("t.csv", tuple(one.name for one in ODD), **{"[bold]gone\r": ["x"] * 90})
    done = shell(*FOREST, "--draws", 0)
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    assert len(lines) == 9
    assert {line[4:].rsplit(None, 1)[0].rstrip() for line in lines[5:8]} == {one.shown for one in ODD}
    assert "left out: [bold]gone\\x0d (text)" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    document = found(*FOREST, "--draws", 0)
    assert {one["name"] for one in document["features"]} == {one.name for one in ODD}


def test_classes_are_shown_as_they_are() -> None:
    text = Path("t.csv").read_text().replace("yes", "[red]yes$x$").replace("other", "naïve 東京")
    Path("t.csv").write_text(text)
    done = shell(*FOREST, "--draws", 0, "-o", "why.svg")
    assert done.exit_code == 0, done.exception
    label = text.splitlines()[1].rsplit(",", 1)[1]
    assert done.stdout.splitlines()[0].endswith(f"and its class is {label}")
    document = found(*FOREST, "--draws", 0)
    assert set(document["probabilities"]) == {"[red]yes$x$", "naïve 東京", "no"}


def test_the_document_is_for_any_program() -> None:
    """No NaN, which JSON has not, and nothing else on its stream."""
    text = Path("t.csv").read_text().splitlines()
    text[2] = text[2].rsplit(",", 1)[0] + ",alone"
    text[5] = ",," + text[5].split(",", 2)[2]
    Path("t.csv").write_text("\n".join(text))
    done = shell(*FOREST, "--draws", 2, "--json")
    assert done.exit_code == 0

    def none(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(done.stdout, parse_constant=none)["row"] == 0
    assert len(done.stdout.splitlines()) == 1


def test_more_rows_than_memory_holds_are_refused_in_words() -> None:
    done = shell(*FOREST, "--sample", 10**14, "--draws", 0)
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, InputError | SystemExit)

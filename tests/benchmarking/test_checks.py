"""Results that were tampered with: one sentence, whatever they hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from visavis.benchmarking.cases import PassedOver
from visavis.benchmarking.results import counts, read_passed_over, read_results
from visavis.benchmarking.shards import Folder, Shard, Value, read_words, shard_files
from visavis.errors import InputError
from visavis.reports.case_ranks import best_median_worst
from visavis.reports.findings import report_of
from visavis.reports.report import write_report

WORDS: dict[str, Any] = {
    "dataset": "scenes?count=4",
    "pictures in the data set": 4,
    "models": ["toy", "other"],
    "methods": ["clrp"],
    "metrics": ["pointing", "deletion"],
    "limit": None,
    "seed": 0,
    "classes": "present",
    "device": "cpu",
}
SHARD = Shard(0, "toy", 0, 3)
ROWS = [
    Value("a.png", "a.png#cat", "clrp", "pointing", "", 1.0, 3, True),
    Value("a.png", "a.png#cat", "centre", "deletion", "0.1", 0.5, 3, False),
    Value("a.png", "a.png#cat", "centre", "deletion", "", float("nan"), 3, False),
]
PASSED = [PassedOver("b.png", "", "it is damaged"), PassedOver("a.png", "a.png#cat", "none", "clrp", "deletion")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Folder(tmp_path, WORDS) as place:
        place.write(SHARD, "digest", ROWS, PASSED, 1)
    return tmp_path


def rewritten(path: Path, told: dict[str, Any] | bytes, **columns: Any) -> None:
    """Change what a file of a shard says of itself, and columns of it."""
    table = parquet.read_table(path)
    known = json.loads(table.schema.metadata[b"visavis"])
    content = told if isinstance(told, bytes) else json.dumps(known | told).encode()
    for name, values in columns.items():
        table = table.set_column(table.schema.names.index(name), name, [values])
    parquet.write_table(table.replace_schema_metadata({b"visavis": content}), path)


def run_of(folder: Path) -> str:
    table = parquet.read_table(shard_files(folder)[0][0])
    return str(json.loads(table.schema.metadata[b"visavis"])["run"])


READERS: list[Callable[[Path], Any]] = [
    lambda folder: report_of(folder, draws=10),
    lambda folder: write_report(folder, draws=10),
    counts,
    read_results,
    read_passed_over,
    lambda folder: best_median_worst(folder, "pointing", True),
]


def test_what_a_run_writes_is_taken(folder: Path) -> None:
    for reader in READERS:
        reader(folder)
    assert len(read_results(folder)) == 3
    assert counts(folder).cases == {"toy": 1, "other": 0}


def shard_named(stem: Any) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        for path in shard_files(folder)[0]:
            rewritten(path, {"shard": stem})

    return tamper


def values_with(told: dict[str, Any] | bytes | None = None, **columns: Any) -> Callable[[Path], None]:
    return lambda folder: rewritten(shard_files(folder)[0][0], told or {}, **columns)


def passed_with(**columns: Any) -> Callable[[Path], None]:
    return lambda folder: rewritten(shard_files(folder)[0][1], {}, **columns)


def beyond(folder: Path) -> None:
    for path in shard_files(folder)[0]:
        rewritten(path, {"run": run_of(folder), "cases": float("inf")})
        # What JSON reads as infinite need not be called so.
        table = parquet.read_table(path)
        content = table.schema.metadata[b"visavis"].replace(b"Infinity", b"1e400")
        assert b"1e400" in content
        parquet.write_table(table.replace_schema_metadata({b"visavis": content}), path)


def twice(folder: Path) -> None:
    with Folder(folder, WORDS) as place:
        place.write(SHARD._replace(first=1), "digest", ROWS, PASSED, 1)


TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a shard called x": (shard_named("x"), "it says that it is 'x'"),
    "a shard that is a number": (shard_named(7), "it says that it is '7'"),
    "a shard of no model": (shard_named("99-toy-0000000-0000003"), "it says that it is '99-toy"),
    "a shard of another model": (shard_named("01-toy-0000000-0000003"), "it says that it is '01-toy"),
    "a shard of no picture": (shard_named("00-toy-0000000-0000004"), "it says that it is '00-toy-0000000-0000004'"),
    "a shard that ends first": (shard_named("00-toy-0000003-0000000"), "it says that it is"),
    "two shards": (values_with({"shard": "x"}), "its two files are of two shards"),
    "no cases": (values_with({"cases": None}), "does not say its weights and cases"),
    "no weights": (values_with({"weights": None}), "does not say its weights and cases"),
    "cases of a fraction": (values_with({"cases": 0.5}), "does not say its weights and cases"),
    "infinite cases": (beyond, "does not say its weights and cases"),
    "pictures in words": (values_with({"pictures": "4"}), "it says that it has '4' pictures"),
    "too many pictures": (values_with({"pictures": 5}), "it says that it has 5 pictures"),
    "nested": (values_with(b"[" * 100_000 + b"]" * 100_000), "nested too deeply"),
    "a strange model": (values_with(model=["toy", "toy", "net"]), "the run has no model 'net'"),
    "a strange method": (values_with(method=["clrp", "clrp", "x"]), "the run has no method 'x'"),
    "a strange metric": (values_with(metric=["pointing"] * 2 + ["x"]), "the run has no metric 'x'"),
    "a strange metric, passed over": (passed_with(metric=["x", ""]), "the run has no metric 'x'"),
    "a gap in values": (values_with(value=[1.0, None, 2.0]), "the column value has gaps"),
    "a gap in names": (values_with(case=["a", None, "b"]), "the column case has gaps"),
    "a gap in reasons": (passed_with(reason=["a", None]), "the column reason has gaps"),
    "an infinite value": (values_with(value=[1.0, float("inf"), 2.0]), "a value is infinite"),
    "a huge value": (values_with(value=[1.0, -1e200, 2.0]), "a value is infinite"),
    "values in words": (values_with(value=["1", "2", "3"]), "the column value holds string"),
    "names in numbers": (values_with(case=[1, 2, 3]), "the column case holds int64"),
    "a class below -1": (values_with(target=pa.array([-2, -1, 0], pa.int32())), "a class is below -1"),
    "pictures counted twice": (twice, "other files hold pictures of it, too"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_shard_that_was_tampered_with_is_one_sentence(folder: Path, name: str) -> None:
    tamper, said = TAMPERED[name]
    tamper(folder)
    readers = READERS[:3] if tamper is twice else READERS
    for reader in readers:
        with pytest.raises(InputError) as caught:
            reader(folder)
        assert str(caught.value).startswith(f"the results in '{folder}' are damaged ('00-toy-")
        assert said in str(caught.value)
        assert str(caught.value).endswith("; remove that file, and start the run again with the same words")


@pytest.mark.parametrize(
    "changed",
    [
        {"models": []},
        {"metrics": []},
        {"models": ["toy", "toy"]},
        {"metrics": ["pointing", 3]},
        {"methods": "clrp"},
        {"methods": [None]},
        {"mean": 5},
        {"mean": ["a"]},
        {"std": [float("inf")] * 3},
        {"size": "12"},
        {"size": True},
        {"seed": -1},
        {"seed": 0.5},
        {"limit": 0},
        {"limit": False},
        {"pictures in the data set": 0},
        {"pictures in the data set": float("inf")},
        {"channels": 3},
        {"labels": ["a"]},
        {"weights": {}},
        {"data": 3},
        {"device": None},
        {"made by": 1},
    ],
)
def test_words_that_no_run_has_are_one_sentence(folder: Path, changed: dict[str, Any]) -> None:
    (folder / "run.json").write_text(json.dumps(WORDS | changed))
    (name,) = changed
    for reader in (*READERS, read_words):
        with pytest.raises(InputError, match=rf"does not say in full what was run \('{name}' is .*\); start the run"):
            reader(folder)


@pytest.mark.parametrize("name", WORDS)
def test_a_report_needs_all_words(folder: Path, name: str) -> None:
    words = {key: value for key, value in WORDS.items() if key != name}
    (folder / "run.json").write_text(json.dumps(words))
    with pytest.raises(InputError, match=f"there is no '{name}'"):
        report_of(folder)


@pytest.mark.parametrize("depth", [900, 3000, 100_000])
def test_words_that_are_nested_deeply_end_in_a_sentence(folder: Path, depth: int) -> None:
    (folder / "run.json").write_text(json.dumps(WORDS)[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(InputError, match=r"run\.json' is damaged \(nested too deeply\)|holds no finished shard"):
        report_of(folder)


def test_an_infinite_value_is_kept_as_passed_over(tmp_path: Path) -> None:
    rows = [ROWS[0], ROWS[0]._replace(metric="deletion", value=float("-inf"))]
    with Folder(tmp_path, WORDS) as place:
        place.write(SHARD, "digest", rows, [], 1)
    assert [row["metric"] for row in read_results(tmp_path).to_pylist()] == ["pointing"]
    assert counts(tmp_path).unmeasured == {("toy", "clrp", "deletion", "its value is -inf"): 1}


def test_a_point_at_infinity_is_a_name(tmp_path: Path) -> None:
    with Folder(tmp_path, WORDS) as place:
        place.write(SHARD, "digest", [ROWS[0], ROWS[0]._replace(key="1e999"), ROWS[0]._replace(key="nan")], [], 1)
    report = report_of(tmp_path)
    assert [column.key for column in report.columns] == ["", "1e999", "nan"]
    assert report.curves == []

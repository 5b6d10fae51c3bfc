"""Tables from files: values, gaps and classes as they are written, and in one sentence what is no such table."""

from __future__ import annotations

import datetime
import gzip
import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from visavis.blackbox import table_files
from visavis.blackbox.tables import Table, read_table
from visavis.errors import InputError

TEXT = "a,b,c,y\n1,true,x,p\n2.5,false,y,q\n,true,z,p\n-4,false,w,q\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def csv(content: str | bytes, name: str = "t.csv") -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def parquet(columns: dict[str, Any], name: str = "t.parquet") -> str:
    pq.write_table(pa.table(columns), name)
    return name


def refused(path: str, target: str | None = "y", features: Sequence[str] | None = None) -> str:
    """What is said of a table that is none: one sentence on one line."""
    with pytest.raises(InputError) as caught:
        read_table(path, target, features)
    said = str(caught.value)
    assert "\n" not in said
    assert said.strip() == said
    return said


def same(found: Table, rows: list[list[float]], labels: list[Any] | None) -> None:
    assert found.rows.dtype == np.float64
    assert found.rows.flags.c_contiguous
    np.testing.assert_array_equal(found.rows, np.array(rows, dtype=np.float64))
    assert (None if found.labels is None else found.labels.tolist()) == labels


def test_csv() -> None:
    found = read_table(csv(TEXT), "y")
    assert (found.name, found.features, found.target, found.total) == ("t.csv", ("a", "b"), "y", 4)
    same(found, [[1, 1], [2.5, 0], [-4, 0]], ["p", "q", "q"])
    assert found.numbers.tolist() == [0, 1, 3]
    assert found.left_out == (("c", "text"),)


def test_parquet_is_read_as_csv_is() -> None:
    columns = {"a": [1, 2.5, None, -4], "b": [True, False, True, False], "c": list("xyzw"), "y": list("pqpq")}
    one, other = read_table(parquet(columns), "y"), read_table(csv(TEXT), "y")
    same(one, other.rows.tolist(), ["p", "q", "q"])
    assert one.numbers.tolist() == other.numbers.tolist()
    assert (one.features, one.left_out, one.total) == (other.features, other.left_out, other.total)


def test_many_groups_of_rows_are_one_table() -> None:
    values, named = list(range(1000)), [f"class {one % 3}" for one in range(1000)]
    pq.write_table(pa.table({"a": values, "y": named}), "t.parquet", row_group_size=7)
    same(read_table("t.parquet", "y"), [[one] for one in values], named)


def test_blocks_of_csv_are_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{one},{one / 8},{'pq'[one % 2]}" for one in range(200)]
    path = csv("a,b,y\n" + "\n".join(lines))
    monkeypatch.setattr(table_files, "_BLOCK", 64)
    same(read_table(path, "y"), [[one, one / 8] for one in range(200)], ["p", "q"] * 100)


def test_kinds_of_numbers() -> None:
    columns = {
        "decimal": [Decimal("1.5"), Decimal("-2.25")],
        "half": pa.array([1.5, 0.25], pa.float16()),
        "short": pa.array([-7, 7], pa.int8()),
        "whole": [2**53 + 1, -(2**60)],
        "unsigned": pa.array([2**64 - 1, 2], pa.uint64()),
        "listed": pa.array([3, 4]).dictionary_encode(),
        "y": ["p", "q"],
    }
    found = read_table(parquet(columns), "y")
    assert found.features == tuple(columns)[:-1]
    # Float64 tells no odd numbers apart beyond 2⁵³; the nearest even one is meant.
    same(found, [[1.5, 1.5, -7, 2.0**53, 2.0**64, 3], [-2.25, 0.25, 7, -(2.0**60), 2, 4]], ["p", "q"])


def test_whole_numbers_of_csv_beyond_any_integer() -> None:
    same(read_table(csv(f"a,y\n{2**53 + 1},p\n{2**70},q\n"), "y"), [[2.0**53], [2.0**70]], ["p", "q"])


def test_gaps_leave_a_row_out_and_rows_keep_their_number() -> None:
    found = read_table(csv("a,b,y\n1,,p\n2,3,q\n4,NA,p\n5,6,\n7,8,  \n9,10,p\nnan,1,q\n11,12,q\n"), "y")
    same(found, [[2, 3], [9, 10], [11, 12]], ["q", "p", "q"])
    assert found.total == 8
    assert found.numbers.tolist() == [1, 5, 7]
    assert [found.place_of(number) for number in (1, 5, 7)] == [0, 1, 2]
    for number in (0, 2, 3, 4, 6):
        with pytest.raises(InputError, match=rf"^row {number} of 't.csv' lacks a value, so .* fill it in$"):
            found.place_of(number)
    for number in (-1, 8, 10**30):
        with pytest.raises(InputError, match=rf"^'t.csv' has 8 rows, numbered from 0, so there is no row {number}$"):
            found.place_of(number)


def test_a_gap_in_a_column_that_is_no_feature_leaves_nothing_out() -> None:
    path = csv("a,b,y\n1,,p\n2,3,q\n")
    same(read_table(path, "y", ["a"]), [[1], [2]], ["p", "q"])
    same(read_table(path, None, ["a"]), [[1], [2]], None)


def test_infinite_values_are_gaps() -> None:
    found = read_table(csv("a,b,y\ninf,2,p\n2,3,q\n-inf,4,p\n1e400,1,q\n6,7,p\n"), "y")
    same(found, [[2, 3], [6, 7]], ["q", "p"])
    inner = {"a": [1.0, float("inf"), float("nan"), 4.0, 5.0], "y": [1.0, 2.0, 2.0, float("nan"), 2.0]}
    found = read_table(parquet(inner), "y")
    same(found, [[1], [5]], [1, 2])
    assert found.numbers.tolist() == [0, 4]


def test_what_is_no_number_is_left_out_by_kind() -> None:
    columns = {
        "a": [1, 2],
        "when": [datetime.datetime(2020, 1, 1)] * 2,
        "long": [datetime.timedelta(1)] * 2,
        "none": pa.nulls(2),
        "list": [[1], [2]],
        "bytes": [b"x", b"y"],
        "word": pa.array(["x", "y"]).dictionary_encode(),
        "large": pa.array(["x", "y"], pa.large_string()),
        "y": ["p", "q"],
    }
    found = read_table(parquet(columns), "y")
    assert found.features == ("a",)
    assert found.left_out[:3] == (("when", "a time"), ("long", "a time"), ("none", "empty"))
    assert found.left_out[4:] == (("bytes", "bytes that are no UTF-8 text"), ("word", "text"), ("large", "text"))
    assert found.left_out[3][0] == "list"
    assert found.left_out[3][1].startswith("of type list<")
    found = read_table(csv("a,none,day,hour,y\n1,,2020-01-01,10:00:00,p\n2,,2020-01-02,11:30:00,q\n"), "y")
    assert found.left_out == (("none", "empty"), ("day", "a time"), ("hour", "a time"))


def test_features_come_in_the_order_asked_for() -> None:
    path = csv("a,b,c,y\n1,2,x,p\n3,4,y,q\n")
    found = read_table(path, "y", ["b", "a"])
    assert found.features == ("b", "a")
    same(found, [[2, 1], [4, 3]], ["p", "q"])
    assert found.left_out == ()
    same(read_table(path, "y", ["b"]), [[2], [4]], ["p", "q"])
    assert read_table(path, None).left_out == (("c", "text"), ("y", "text"))
    assert "the feature 'c' of 't.csv' is text, but features are numbers" in refused(path, "y", ["a", "c"])
    assert "'y' is the target, so it cannot be a feature too" in refused(path, "y", ["a", "y"])
    assert "named twice" in refused(path, "y", ["a", "a"])
    assert "has no column 'z'; it has a, b, c, y" in refused(path, "y", ["a", "z"])
    assert "has no column 'A'" in refused(path, "A")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["p", " q ", "p", "q"], ["p", "q", "p", "q"]),
        ([3, -1, 3, -1], [3, -1, 3, -1]),
        ([1.0, 2.0, 1.0, 2.0], [1, 2, 1, 2]),
        ([True, False, True, False], ["true", "false", "true", "false"]),
        ([Decimal("1.00"), Decimal("2.00")] * 2, [1, 2, 1, 2]),
        (pa.array(["p", "q"] * 2).dictionary_encode(), ["p", "q", "p", "q"]),
        (pa.array([7, 8] * 2).dictionary_encode(), [7, 8, 7, 8]),
        (pa.array(["p", "q"] * 2, pa.large_string()), ["p", "q", "p", "q"]),
        (pa.array(["p", "q"] * 2, pa.string_view()), ["p", "q", "p", "q"]),
    ],
)
def test_targets(values: Any, expected: list[Any]) -> None:
    found = read_table(parquet({"a": [1, 2, 3, 4], "y": values}), "y")
    same(found, [[1], [2], [3], [4]], expected)
    assert found.labels is not None
    assert found.labels.dtype.kind == ("U" if isinstance(expected[0], str) else "i")


def test_targets_with_gaps() -> None:
    for values in (["p", None, "q"], [1, None, 2], pa.array(["p", None, "q"]).dictionary_encode(), [True, None, False]):
        found = read_table(parquet({"a": [1, 2, 3], "y": values}), "y")
        assert found.numbers.tolist() == [0, 2]
        assert found.labels is not None
        assert len(set(found.labels.tolist())) == 2
    # A target that lacks half of its values is told by what it has.
    assert "has 1 different value(s)" in refused(parquet({"a": [1, 2], "y": ["p", None]}))


def test_the_column_of_classes_is_no_feature_but_is_one_without_target() -> None:
    path = csv("a,y\n1,0\n2,1\n")
    assert read_table(path, "y").features == ("a",)
    assert read_table(path, None).features == ("a", "y")
    assert read_table(path, None).labels is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.5, 1.5], "the target 'y' of 't.parquet' holds numbers that are no whole ones, but classes were expected"),
        ([Decimal("0.5"), Decimal("1.5")], "no whole ones"),
        (["p", "p"], "the target 'y' of 't.parquet' has 1 different value(s), but classes are several"),
        (pa.array([None, None], pa.string()), "has 0 different value(s)"),
        ([datetime.date(2020, 1, 1)] * 2, "the target 'y' of 't.parquet' is a time, but classes are text"),
        ([b"p", b"q"], "bytes that are no UTF-8 text, but classes are text or whole numbers"),
        (pa.nulls(2), "is empty, but classes are text"),
    ],
)
def test_targets_that_are_no_classes(values: Any, said: str) -> None:
    assert said in refused(parquet({"a": [1, 2], "y": values}))


def test_more_classes_than_can_be_told_apart() -> None:
    def write(count: int) -> str:
        return csv("a,y\n" + "".join(f"{one},c{one}\n" for one in range(count)))

    assert len(set(read_table(write(100), "y").labels)) == 100
    assert "has 101 different values; explanation vectors tell classes apart, at most 100" in refused(write(101))


def test_whole_numbers_of_classes_are_told_apart_however_large() -> None:
    """Numbers such as those of a data base's keys: whole, but float64 merges neighbours."""
    path = parquet({"a": [1, 2, 3], "y": [2**53, 2**53 + 1, 2**60]})
    try:
        found = read_table(path, "y")
    except InputError as error:
        assert "no whole" not in str(error)  # noqa: PT017 (both a result and a fitting error would do)
        assert "different value" not in str(error)  # noqa: PT017
    else:
        assert found.labels.tolist() == [2**53, 2**53 + 1, 2**60]


def test_files_that_are_none() -> None:
    Path("folder.csv").mkdir()
    assert refused("none.csv") == "there is no file 'none.csv'"
    assert refused("folder.csv") == "'folder.csv' is no ordinary file"
    assert "there is no file" in refused("nul\0.csv")
    assert "cannot be read" in refused("x" * 300 + ".csv")
    assert "'t.txt' is no table by its name; .csv and .parquet are read" in refused(csv("a,y\n", "t.txt"))
    assert "no table by its name" in refused(csv("a,y\n", "t"))
    assert "no table by its name" in refused(csv("a,y\n", "t.csv.gz"))
    assert read_table(csv("a,y\n1,p\n2,q\n", "T.CSV"), "y").total == 2


def test_what_never_ends_is_refused_at_once() -> None:
    os.mkfifo("pipe.csv")
    Path("endless.csv").symlink_to("/dev/zero")
    Path("loop.csv").symlink_to("loop.csv")
    for name in ("pipe.csv", "endless.csv"):
        assert f"'{name}' is no ordinary file" in refused(name)
    refused("loop.csv")


def test_a_link_is_its_file() -> None:
    csv(TEXT)
    Path("link.csv").symlink_to("t.csv")
    same(read_table("link.csv", "y"), read_table("t.csv", "y").rows.tolist(), ["p", "q", "q"])


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv(TEXT)

    def denied(*given: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "'t.csv' cannot be read ([Errno 13] Permission denied)" in refused(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Empty CSV"),
        ("\n\n", "Empty CSV"),
        ("a,b,y\n", "has no rows below the names of its columns"),
        ("a,b,y\n1,2,p\n2,q\n", "Expected 3 columns, got 2"),
        ("a,b,y\n1,2,p\n2,3,4,q\n", "Expected 3 columns, got 4"),
        ("a,a,y\n1,2,p\n2,3,q\n", "'t.csv' has two columns of one name (a); rename one"),
        ("a,b\n1,2\n", "has no column 'y'; it has a, b"),
        ("a,b,y\nx,y,p\nz,w,q\n", "no column of numbers beside the target"),
        ("a,b,y\n1,,p\n,2,q\n", "no row of 't.csv' has all its values"),
        ("a;b;y\n1;2;p\n2;3;q\n", "has no column 'y'; it has a;b;y"),
        ("a;b;y\n1,5;2;p\n2;3;q\n", "Expected 1 columns, got 2"),
        ("a,b,y\n1,2,p\n2,3,q\n".encode("utf-16"), "CSV table in UTF-8"),
        ("a,é,y\n1,2,p\n2,3,q\n".encode("latin-1"), "is no UTF-8 text"),
        (gzip.compress(b"a,b,y\n1,2,p\n2,3,q\n", mtime=0), "cannot be read as a CSV table in UTF-8"),
        (b"PAR1" + bytes(100), ""),
    ],
)
def test_csv_that_is_none(content: str | bytes, said: str) -> None:
    assert said in refused(csv(content))


def test_classes_that_are_no_utf8_are_said_to_be_none() -> None:
    assert "UTF-8" in refused(csv("a,y\n1,Köln\n2,Bonn\n".encode("latin-1")))


def test_a_packed_table_is_not_unpacked_whatever_its_name() -> None:
    """What is small packed may be large unpacked."""
    packed = gzip.compress(TEXT.encode())
    for name in ("t.csv", "t.gz.csv"):
        refused(csv(packed, name))
    assert "no table by its name" in refused(csv(packed, "t.csv.gz"))


def test_a_column_that_is_numbers_at_first_and_text_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "_BLOCK", 64)
    start = "a,b,y\n" + "1,3,p\n2,4,q\n" * 20
    said = refused(csv(start + "1,x,p\n"))
    assert "CSV column #1:" in said
    assert "CSV conversion error to int64: invalid value 'x'" in said
    assert "invalid value '1.5'" in refused(csv(start + "1.5,1,p\n"))
    # Numbers that are whole at first have no part behind the point later; with one from the start they may.
    assert read_table(csv(start.replace("1,3", "1.0,3") + "1.5,1,p\n"), "y").rows[-1].tolist() == [1.5, 1]


def test_a_value_that_is_no_number_is_told_by_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any number of cores: Arrow counts lines on one thread only."""
    monkeypatch.setattr(table_files, "_BLOCK", 64)
    assert "Row #42:" in refused(csv("a,b,y\n" + "1,3,p\n2,4,q\n" * 20 + "1,x,p\n"))


def test_marks_ends_and_quotes_of_csv() -> None:
    found = read_table(csv(b"\xef\xbb\xbfa,b,y\r\n1,2,p\r\n2,3,q\r\n"), "y")
    assert found.features == ("a", "b")
    same(found, [[1, 2], [2, 3]], ["p", "q"])
    found = read_table(csv('a,"b, and ""c""\nd",y\n1,2,"p, p"\n2,"3","q\nq"\n'), "y")
    assert found.features == ("a", 'b, and "c"\nd')
    same(found, [[1, 2], [2, 3]], ["p, p", "q\nq"])
    assert found.total == 2


def test_line_ends_within_quotes_need_no_small_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = csv("a,b,y\n" + '1,2,"p\np"\n2,3,"q\nq"\n' * 30)
    whole = read_table(path, "y")
    monkeypatch.setattr(table_files, "_BLOCK", 64)
    parts = read_table(path, "y")
    same(parts, whole.rows.tolist(), whole.labels.tolist())


def test_a_long_header_makes_no_long_sentence() -> None:
    name = "a" * 300_000
    path = csv(f"{name},y\n1,p\n2,q\n")
    assert read_table(path, "y").features == (name,)
    wide = csv(",".join(f"x{one}" for one in range(5000)) + "\n" + ",".join(["1"] * 5000) + "\n", "wide.csv")
    assert refused(wide).endswith("it has x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, …")
    assert len(refused(path, "z")) < 5000


def test_parquet_that_is_none() -> None:
    path = Path(parquet({"a": list(range(100)), "y": ["p", "q"] * 50}))
    whole = path.read_bytes()
    for broken in (b"", whole[:-20], whole[: len(whole) // 2], b"a,y\n1,p\n2,q\n", whole[:40]):
        path.write_bytes(broken)
        assert "'t.parquet' cannot be read as a Parquet file (" in refused("t.parquet")
    path.write_bytes(whole[:30] + b"\xff" * 40 + whole[70:])
    assert "'t.parquet' cannot be read" in refused("t.parquet")
    named = pa.Table.from_arrays([pa.array([1, 2]), pa.array([3, 4]), pa.array(["p", "q"])], names=["a", "a", "y"])
    pq.write_table(named, path)
    assert "two columns of one name (a)" in refused("t.parquet")
    assert "has no rows" in refused(parquet({"a": pa.array([], pa.int64()), "y": pa.array([], pa.string())}))


def test_more_values_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"a": [1, 2, 3], "y": ["p", "q", "p"]}
    packed, plain = parquet(columns), csv("a,y\n1,p\n2,q\n3,p\n")
    monkeypatch.setattr(table_files, "_MOST_VALUES", 6)
    assert read_table(packed, "y").total == read_table(plain, "y").total == 3
    monkeypatch.setattr(table_files, "_MOST_VALUES", 5)
    for path in (packed, plain):
        assert refused(path) == f"'{path}' holds more than 5 values; take a part of it"
    monkeypatch.setattr(table_files, "_LARGEST_FILE", 10)
    for path in (packed, plain):
        assert "larger than" in refused(path)


def test_parquet_that_says_it_has_more_rows_is_refused_before_any_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet({"a": [0] * 1000, "y": ["p"] * 1000})

    def read(*given: Any, **options: Any) -> Any:
        raise AssertionError("read")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", read)
    monkeypatch.setattr(table_files, "_MOST_VALUES", 1999)
    assert "holds more than 1,999 values" in refused(path)


def test_reading_ends_where_a_table_turns_out_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows a file has, no more than fit are read of it."""
    path = csv("a,y\n" + "1,p\n2,q\n" * 5000)
    monkeypatch.setattr(table_files, "_BLOCK", 64)
    monkeypatch.setattr(table_files, "_MOST_VALUES", 100)
    seen: list[int] = []
    whole = table_files._bounded

    def counted(file: Path, batches: Any) -> Any:
        for batch in whole(file, batches):
            seen.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(table_files, "_bounded", counted)
    assert "more than 100 values" in refused(path)
    assert sum(seen) < 100

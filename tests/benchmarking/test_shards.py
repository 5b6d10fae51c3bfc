"""Shards on disk: whole or not there, of this run or made again, one run at a time."""

from __future__ import annotations

import errno
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from visavis.benchmarking.cases import PassedOver
from visavis.benchmarking.shards import VALUES, Folder, Shard, Value, read, read_words, shard_files
from visavis.errors import InputError, OutputError
from visavis.run_folder import put

WORDS = {"dataset": "scenes", "models": ["toy"], "seed": 0}
SHARD = Shard(0, "models/net.py:build", 16, 31)
ROWS = [
    Value("a.png", "a.png#cat", "clrp", "pointing", "", 1.0, 3, True),
    Value("a.png", "a.png#cat", "clrp", "deletion", "0.1", 0.1 + 0.2, 3, False),
]
PASSED = [PassedOver("b.png", "", "it is damaged")]


def written(folder: Path) -> tuple[Path, Path]:
    with Folder(folder, WORDS) as place:
        place.write(SHARD, "digest", ROWS, PASSED, 1)
    return shard_files(folder)[0]


def test_what_is_written_is_read_to_the_last_bit(tmp_path: Path) -> None:
    values, skipped = written(tmp_path)
    assert values.name == "00-models-net.py-build-0000016-0000031.parquet"
    table = parquet.read_table(values)
    assert table.schema.names == VALUES.names
    assert [Value(**{k: v for k, v in row.items() if k != "model"}) for row in table.to_pylist()] == ROWS
    assert set(table.column("model").to_pylist()) == {"models/net.py:build"}
    row = {"picture": "b.png", "case": "", "model": SHARD.name, "method": "", "metric": "", "reason": "it is damaged"}
    assert read(skipped).to_pylist() == [row]
    with Folder(tmp_path, WORDS) as place:
        assert place.weights(SHARD) == "digest"
        assert place.weights(SHARD._replace(first=0, last=15)) is None


def test_a_name_that_is_no_utf8_is_escaped(tmp_path: Path) -> None:
    with Folder(tmp_path, WORDS) as place:
        place.write(SHARD, "digest", [], [PassedOver("\udcff.png", "", "x")], 0)
    assert read(shard_files(tmp_path)[0][1]).to_pylist()[0]["picture"] == "\\udcff.png"


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("harm", ["cut", "empty", "foreign", "missing"])
def test_a_damaged_or_foreign_shard_is_not_done(tmp_path: Path, part: int, harm: str) -> None:
    path = written(tmp_path)[part]
    content = path.read_bytes()
    if harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "foreign":
        with Folder(tmp_path / "other", {**WORDS, "seed": 1}) as other:
            other.write(SHARD, "digest", ROWS, PASSED, 1)
        path.write_bytes(shard_files(tmp_path / "other")[0][part].read_bytes())
    else:
        path.unlink()
    with Folder(tmp_path, WORDS) as place_:
        assert place_.weights(SHARD) is None
        place_.write(SHARD, "digest", ROWS, PASSED, 1)
        assert place_.weights(SHARD) == "digest"
    assert path.read_bytes() == content


def test_a_shard_whose_data_changed_on_the_disk_is_not_done(tmp_path: Path) -> None:
    path = written(tmp_path)[0]
    content, told = path.read_bytes(), read(path).to_pylist()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    noticed = 0
    with Folder(tmp_path, WORDS) as place:
        for position in range(4, len(content) - footer, 7):
            path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
            if place.weights(SHARD) is None:
                noticed += 1
            else:
                assert read(path).to_pylist() == told
    assert noticed > 10


def test_a_shard_under_another_ones_name_is_not_done(tmp_path: Path) -> None:
    next_one = SHARD._replace(first=32, last=47)
    for path in written(tmp_path):
        path.with_name(path.name.replace(SHARD.stem, next_one.stem)).write_bytes(path.read_bytes())
    with Folder(tmp_path, WORDS) as place:
        assert place.weights(SHARD) == "digest"
        assert place.weights(next_one) is None


def test_other_words_are_refused_and_said(tmp_path: Path) -> None:
    written(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    with (
        pytest.raises(InputError, match=r"seed was 0 and is 3; limit was nothing and is 5\. Name another folder"),
        Folder(tmp_path, {**WORDS, "seed": 3, "limit": 5}),
    ):
        pass
    assert (tmp_path / "run.json").read_bytes() == before
    assert read_words(tmp_path) == WORDS
    written(tmp_path)  # and the lock is free


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"holds other files \(thesis.tex\)"), Folder(tmp_path, WORDS):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        Folder(tmp_path, WORDS),
        pytest.raises(OutputError, match="another run is at work in"),
        Folder(tmp_path, WORDS),
    ):
        pass
    with Folder(tmp_path, WORDS):
        pass


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    shards = tmp_path / "shards"
    left = [tmp_path / "run.json.0a.part", shards / "00-toy-0000000-0000015.parquet.0a.part", shards / "old.part"]
    for path in left:
        path.write_bytes(b"half")
    with Folder(tmp_path, WORDS):
        assert not any(path.exists() for path in left)


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: Any, call: str) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Folder(tmp_path, WORDS) as place:
        monkeypatch.setattr(os, call, full)
        with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\); make room"):
            place.write(SHARD, "digest", ROWS, PASSED, 1)
        monkeypatch.undo()
        assert not list((tmp_path / "shards").iterdir())
        place.write(SHARD, "digest", ROWS, PASSED, 1)
        assert place.weights(SHARD) == "digest"


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_run_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json' (is damaged|does not say)"):
        read_words(tmp_path)
    with pytest.raises(InputError, match="holds no results"):
        read_words(tmp_path / "none")


def test_the_words_are_on_the_disk_before_any_shard(tmp_path: Path) -> None:
    with Folder(tmp_path, WORDS):
        assert json.loads((tmp_path / "run.json").read_text()) == WORDS


# -- a folder that is a stranger's -------------------------------------------------------------------------------------


def test_a_part_is_written_beside_under_a_name_that_nobody_foresees(tmp_path: Path, monkeypatch: Any) -> None:
    victim = tmp_path / "thesis.tex"
    victim.write_text("kept")
    (tmp_path / "a.jpg.part").symlink_to(victim)
    (tmp_path / "a.jpg").symlink_to(victim)
    names: list[str] = []
    real = os.replace

    def noted(source: Any, target: Any) -> None:
        names.append(Path(source).name)
        real(source, target)

    monkeypatch.setattr(os, "replace", noted)
    for content in (b"one", b"two"):
        put(tmp_path / "a.jpg", content)
        assert (tmp_path / "a.jpg").read_bytes() == content
    assert victim.read_text() == "kept"
    assert len(set(names)) == 2
    assert all(name.startswith("a.jpg.") and name.endswith(".part") for name in names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.jpg.part", "thesis.tex"]


def test_a_part_never_follows_a_link_even_of_its_own_name(tmp_path: Path, monkeypatch: Any) -> None:
    victim = tmp_path / "thesis.tex"
    victim.write_text("kept")
    known = uuid.uuid4()
    monkeypatch.setattr(uuid, "uuid4", lambda: known)
    (tmp_path / f"a.jpg.{known.hex}.part").symlink_to(victim)
    with pytest.raises(OutputError, match="cannot be written"):
        put(tmp_path / "a.jpg", b"one")
    assert victim.read_text() == "kept"


@pytest.mark.parametrize("name", ["lock", "shards"])
def test_a_link_where_a_run_writes_is_refused(tmp_path: Path, name: str) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    (elsewhere / "thesis.part").write_text("kept")
    out.mkdir()
    (out / name).symlink_to(elsewhere / "new" if name == "lock" else elsewhere)
    with pytest.raises(OutputError, match=f"{name}' is a symbolic link"), Folder(out, WORDS):
        pass
    assert [path.name for path in elsewhere.iterdir()] == ["thesis.part"]


def test_a_folder_without_a_shard_is_claimed_by_other_words(tmp_path: Path) -> None:
    with Folder(tmp_path, WORDS):
        pass
    with Folder(tmp_path, {**WORDS, "seed": 3}) as place:
        assert read_words(tmp_path)["seed"] == 3
        place.write(SHARD, "digest", ROWS, PASSED, 1)
    with pytest.raises(InputError, match="seed was 3 and is 0"), Folder(tmp_path, WORDS):
        pass


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large"])
def test_words_are_read_from_a_regular_file_of_bounded_size(tmp_path: Path, kind: str) -> None:
    run = tmp_path / "run.json"
    if kind == "pipe":
        os.mkfifo(run)
    elif kind == "device":
        run.symlink_to("/dev/zero")
    elif kind == "folder":
        run.mkdir()
    else:
        run.write_text('{"dataset": "' + "x" * (1 << 20) + '"}')
    said = "more than 1024 KiB" if kind == "large" else "no regular file"
    with pytest.raises(InputError, match=rf"run\.json' is damaged \({said}\)"):
        read_words(tmp_path)
    with pytest.raises(InputError, match=said), Folder(tmp_path, WORDS):
        pass


def test_words_may_be_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps(WORDS))
    (tmp_path / "run.json").symlink_to(tmp_path / "elsewhere.json")
    assert read_words(tmp_path) == WORDS


@pytest.mark.parametrize("part", [0, 1])
def test_a_shard_that_is_a_pipe_is_not_done(tmp_path: Path, part: int) -> None:
    path = written(tmp_path)[part]
    path.unlink()
    os.mkfifo(path)
    assert shard_files(tmp_path) == []
    with Folder(tmp_path, WORDS) as place:
        assert place.weights(SHARD) is None
        place.write(SHARD, "digest", ROWS, PASSED, 1)
    assert path.is_file()

"""Files appear as a whole or not at all, and what prevents it is said in one sentence."""

import errno
import os
from pathlib import Path

import pytest

from visavis.errors import OutputError
from visavis.files import check_place, make_folder, write_all, write_bytes


def refusal(function, *arguments):
    """The one sentence with which an output is refused."""
    with pytest.raises(OutputError) as caught:
        function(*arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert ";" in sentence or "expected" in sentence  # it says what to do, or what was expected
    return sentence


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 1000])
def test_content_is_written_and_nothing_else(tmp_path, content):
    write_bytes(tmp_path / "a.bin", content)
    assert (tmp_path / "a.bin").read_bytes() == content
    assert names(tmp_path) == ["a.bin"]


def test_an_older_file_is_replaced_not_written_into(tmp_path):
    path, reader = tmp_path / "a.bin", tmp_path / "link"
    path.write_bytes(b"old, and longer")
    os.link(path, reader)
    write_bytes(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert reader.read_bytes() == b"old, and longer"  # whoever has the old one open keeps the old one, whole


def test_relative_names_go_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_bytes("a.bin", b"1")
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG])
@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_failure_leaves_the_old_file_and_no_remains(tmp_path, monkeypatch, code, step):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    whole = Path.write_bytes

    def fail(self, content):
        if step == "write_bytes" and isinstance(content, bytes):
            whole(self, content[:2])  # as a disk that runs full midway
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(Path, step, fail)
        sentence = refusal(write_bytes, path, b"newer")
    assert os.strerror(code) in sentence
    assert "a.bin" in sentence
    assert ".part" not in sentence
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_no_remains(tmp_path, monkeypatch, error):
    whole = Path.write_bytes

    def interrupted(self, content):
        whole(self, content[:2])
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", interrupted)
        with pytest.raises(error):
            write_bytes(tmp_path / "a.bin", b"newer")
    assert names(tmp_path) == []


def test_places_that_no_file_can_take(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "is no folder" in refusal(check_place, tmp_path / "missing" / "a.png")
    assert "is no folder" in refusal(check_place, tmp_path / "file" / "a.png")  # read-only to root, too
    assert "is a folder" in refusal(check_place, tmp_path)
    assert "null character" in refusal(check_place, Path("a\0b.png"))
    assert str(tmp_path / "missing") in refusal(write_bytes, tmp_path / "missing" / "a.png", b"")
    assert names(tmp_path) == ["file"]
    check_place(tmp_path / "file")
    check_place(tmp_path / "new")


def test_a_name_that_is_too_long(tmp_path):
    assert "too long" in refusal(write_bytes, tmp_path / ("a" * 300), b"x")
    assert names(tmp_path) == []


def test_folders_are_made(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()
    assert make_folder(tmp_path / "a" / "b").is_dir()


def test_folders_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    assert str(tmp_path / "file") in refusal(make_folder, tmp_path / "file")
    assert "Not a directory" in refusal(make_folder, tmp_path / "file" / "a")

    def read_only(self, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", read_only)
    assert os.strerror(errno.EROFS) in refusal(make_folder, tmp_path / "b")


def test_a_folder_with_a_null_character():
    assert "null character" in refusal(make_folder, Path("a\0b"))


def test_several_files_are_written_or_none(tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(b"old")
    write_all({tmp_path / "a.bin": b"new", tmp_path / "b.bin": b"too"})
    assert [(tmp_path / name).read_bytes() for name in names(tmp_path)] == [b"new", b"too"]
    whole, written = Path.write_bytes, []

    def fail(self, content):
        written.append(self)
        if len(written) == 2:  # the disk is full
            whole(self, content[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(self, content)

    monkeypatch.setattr(Path, "write_bytes", fail)
    sentence = refusal(write_all, {tmp_path / "a.bin": b"3", tmp_path / "c.bin": b"4"})
    assert "c.bin" in sentence
    monkeypatch.undo()
    assert [(tmp_path / name).read_bytes() for name in names(tmp_path)] == [b"new", b"too"]

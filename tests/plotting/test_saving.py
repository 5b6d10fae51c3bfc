"""What is left on disk: the same bytes every time, or what was there before."""

from __future__ import annotations

import errno
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from plotting.figures import four_maps
from visavis.errors import OutputError
from visavis.plotting import panel, save_figure


@pytest.fixture
def figure(picture: np.ndarray) -> Figure:
    return panel(picture, four_maps()[:2], title="Why cat?")


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        ("a.png", b"\x89PNG"),
        ("a.PDF", b"%PDF"),
        ("a.svg", b"<?xml"),
        ("a.jpg", b"\xff\xd8\xff"),
        ("a.jpeg", b"\xff\xd8\xff"),
    ],
)
def test_the_suffix_chooses_the_format_and_bytes_repeat(
    figure: Figure, picture: np.ndarray, tmp_path: Path, name: str, beginning: bytes
) -> None:
    save_figure(figure, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert first.startswith(beginning)
    save_figure(panel(picture, four_maps()[:2], title="Why cat?"), str(tmp_path / name))
    assert (tmp_path / name).read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_png_names_its_software_and_no_time(figure: Figure, tmp_path: Path) -> None:
    save_figure(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["Software"] == "visavis"
        assert not {"Creation Time", "date:create"} & set(image.info)
        assert image.size == tuple(int(side) for side in figure.bbox.size)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_the_settings_of_the_user_neither_change_nor_matter(picture: np.ndarray, tmp_path: Path) -> None:
    save_figure(panel(picture, four_maps(), title="t"), tmp_path / "a.png")
    dark = {
        "axes.facecolor": "black",
        "figure.constrained_layout.use": True,
        "figure.facecolor": "black",
        "font.size": 30.0,
        "image.origin": "lower",
        "savefig.facecolor": "black",
        "svg.hashsalt": "mine",
        "text.color": "white",
    }
    with mpl.rc_context(dark):
        before = dict(mpl.rcParams)
        figure = panel(picture, four_maps(), title="t")
        save_figure(figure, tmp_path / "b.png")
        save_figure(figure, tmp_path / "b.svg")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_pyplot_is_not_touched(figure: Figure, tmp_path: Path) -> None:
    loaded = "matplotlib.pyplot" in sys.modules
    save_figure(figure, tmp_path / "a.png")
    assert ("matplotlib.pyplot" in sys.modules) == loaded
    if loaded:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_threads_draw_the_same(picture: np.ndarray, tmp_path: Path) -> None:
    def draw(number: int) -> bytes:
        path = tmp_path / f"{number}.svg"
        save_figure(panel(picture, four_maps()[:2], title="Why cat?"), path)
        return path.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(6)))) == 1


@pytest.mark.parametrize("name", ["why.gif", "why", "why.png.exe", ""])
def test_an_unknown_suffix_is_refused(figure: Figure, tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"a figure is written as \.png, \.pdf, \.svg, \.jpg, \.jpeg\.$"):
        save_figure(figure, tmp_path / name if name else name)
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_none_is_refused(figure: Figure, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here before")
    (tmp_path / "folder.png").mkdir()
    for place, words in (
        ("missing/why.png", "is no folder"),
        ("file/why.png", "is no folder"),
        ("folder.png", "is a folder"),
        ("null\0.png", "null character"),
        (f"{'x' * 300}.png", "cannot be written"),
    ):
        with pytest.raises(OutputError, match=words):
            save_figure(figure, tmp_path / place)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.png"]
    assert (tmp_path / "file").read_text() == "here before"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_failing_disk_leaves_what_was_there(
    figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    target = tmp_path / "why.png"
    target.write_bytes(b"the old one")
    reason = OSError(number, "the disk says no")

    def fail(self: Path, *arguments: object) -> None:
        if step == "write_bytes":
            with self.open("wb") as half:
                half.write(b"half")
        raise reason

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, fail)
        with pytest.raises(OutputError, match=r"why\.png' cannot be written \(the disk says no\)") as caught:
            save_figure(figure, target)
    assert caught.value.__cause__ is reason
    assert target.read_bytes() == b"the old one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["why.png"]


@pytest.mark.parametrize("failure", [RuntimeError("no ink"), KeyboardInterrupt()])
def test_a_failing_renderer_leaves_what_was_there(
    figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise failure

    (tmp_path / "why.svg").write_bytes(b"the old one")
    salt = mpl.rcParams["svg.hashsalt"]
    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(type(failure)):
        save_figure(figure, tmp_path / "why.svg")
    assert mpl.rcParams["svg.hashsalt"] == salt
    assert (tmp_path / "why.svg").read_bytes() == b"the old one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["why.svg"]

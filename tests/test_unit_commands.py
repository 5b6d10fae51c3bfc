"""The shell's units and decide: a model of one's own, the page, the table, and words that are refused."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import torch
from typer.testing import CliRunner, Result

from visavis import cli
from visavis.datasets import SHAPES, SceneDataset, Scenes
from visavis.unit_commands import _said
from visavis.units import Decision

SCENES = "scenes?count=8&size=24&seed=3"
NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(1)
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, CLASSES)
    module = nn.Sequential(*layers)
    nn.init.normal_(module[4].weight, std=20)
    return module
"""
OWN = ("-m", "net.py:build", "--labels", "labels.txt", "--size", "20", "--device", "cpu")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: Any) -> Iterator[Path]:
    """A folder with a network and the names of its classes; one thread is the quickest for it."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET.replace("CLASSES", str(len(SHAPES))))
    Path("labels.txt").write_text("\n".join(SHAPES))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def shell(*words: str) -> Result:
    return CliRunner().invoke(cli.app, list(words))


def ablating(*words: str, out: str = "out") -> Result:
    return shell("units", "-d", SCENES, "-o", out, *OWN, "--cards", "2", *words)


def test_the_page_and_the_table() -> None:
    done = ablating("--layer", "1")
    assert done.exit_code == 0, done.output
    words = " ".join(done.stdout.split())
    assert "Each of 6 units of layer 1 of net.py:build was set to zero" in words
    assert "8 pictures of" in words
    assert "Overall, no unit costs any accuracy." in words
    table = pq.read_table("out/units.parquet").to_pydict()
    assert table["unit"] == list(range(6))
    assert all(
        low <= drop <= high
        for low, drop, high in zip(table["drop_low"], table["drop"], table["drop_high"], strict=True)
    )
    assert {"selectivity", "weight-norm", "correlation", "maximum", "zeros", "hoyer"} <= set(table)
    page = Path("out/units.html").read_text()
    assert page.count("<img") == 5  # heat map, curves, scatter, and two cards
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "visavis units --dataset" in page
    assert "In the order of" not in page  # that is in a picture
    for title in (
        "In short",
        "Which class needs which unit",
        "Several at once",
        "Can one tell beforehand?",
        "All units",
    ):
        assert f"<h2>{title}</h2>" in page
    before = Path("out/units.html").read_bytes()
    again = ablating("--layer", "1")
    assert again.exit_code == 0
    assert Path("out/units.html").read_bytes() == before


def test_the_line_of_shell_on_the_page_asks_for_the_same() -> None:
    asked = ("--layer", "1", "--units", "0-2,5", "--value", "mean", "--limit", "5", "--seed", "3", "--cards", "0")
    assert ablating(*asked).exit_code == 0
    page = Path("out/units.html").read_text()
    (line,) = re.findall(r"<pre>(visavis units.*?)</pre>", page, re.DOTALL)
    words = shlex.split(html.unescape(line))[1:]
    words[words.index("DIR")] = "other"
    assert shell(*words, "--cards", "0").exit_code == 0
    one, other = (pq.read_table(f"{folder}/units.parquet").to_pydict() for folder in ("out", "other"))
    assert str(one) == str(other)
    assert one["unit"] == [0, 1, 2, 5]


def test_a_layer_that_is_not_named() -> None:
    done = ablating("--cards", "0")
    assert done.exit_code == 0, done.output
    assert "units of layer 2 of" in " ".join(done.stdout.split())


def test_few_units_and_no_cards() -> None:
    done = ablating("--layer", "1", "--units", "3", "--cards", "0")
    assert done.exit_code == 0, done.output
    assert Path("out/units.html").read_text().count("<img") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--layer", "nowhere"), "there is no layer 'nowhere'"),
        (("--layer", "1", "--units", "6"), "no unit 6"),
        (("--layer", "1", "--units", "3-1"), "numbers and ranges"),
        (("--layer", "1", "--units", "0-99999999"), "more units than any layer"),
        (("--layer", "1", "--units", ","), "names none"),
        (("--layer", "1", "--units", "9" * 5000), "more units than any layer"),
        (("--layer", "1", "--heads", "some"), "all, or a number"),
        (("--layer", "1", "--heads", "9" * 5000), "all, or a number"),
        (("--call", "0"), "name it with --layer"),
        (("--layer", "1", "--value", "one"), "zero or mean"),
        (("--layer", "1", "--order", "beauty"), "no attribute 'beauty'"),
        (("--layer", "1", "--call", "4"), "no call=4"),
    ],
)
def test_refusals(words: tuple[str, ...], said: str) -> None:
    done = ablating(*words)
    assert done.exit_code == 1
    assert said in str(done.exception)
    assert not Path("out/units.html").exists()


def test_a_class_is_named_where_one_falls_and_nowhere_else() -> None:
    assert ablating("--layer", "1", "--cards", "0").exit_code == 0
    table = pq.read_table("out/units.parquet").to_pydict()
    for title, drops in (("hit", "max_drop"), ("confidence_hit", "max_confidence_drop")):
        for name, index, count, drop in zip(
            *(table[one] for one in (title, f"{title}_index", f"{title}_pictures", drops)), strict=True
        ):
            assert (name is not None) == (index is not None) == (count is not None) == (drop > 0)
            assert name is None or (name == list(SHAPES)[index] and count >= 1)
    assert any(table["confidence_hit"])


def test_what_is_said_of_a_decision() -> None:
    def said(margins: list[float], contrast: list[float], drawn: list[float] | None = None) -> str:
        values = torch.tensor(contrast, dtype=torch.float64)
        curve = torch.tensor(margins, dtype=torch.float64)
        others = torch.tensor([margins if drawn is None else drawn], dtype=torch.float64)
        order = values.argsort(descending=True)
        found = Decision("l", 0, 1, values, values, values, order, (0, 1, 2, 4), curve, curve, others, curve)
        return " ".join(" ".join(_said(found, "A", "B")).split())

    assert "units of l, 2, 0 carry most for A and not for B" in said([3, 2, 1, 0.5], [1, 0, 2, -1])
    assert "A stays ahead without the first 1, 2, 4 of the units" in said([3, 2, 1, 0], [1, 0, 2, -1])
    assert "without the first 4 of the units in that order, B is ahead, without 2 not yet" in said(
        [3, 2, 1, -1], [1, 0, 2, -1]
    )
    assert "without the first 1 of the units in that order, B is ahead" in said([3, -2, 1, -1], [1, 0, 2, -1])
    assert "drawn at random do as much" in said([3, -2, 1, -1], [1, 0, 2, -1])
    assert "drawn at random" not in said([3, -2, 1, -1], [1, 0, 2, -1], [3, 2.9, 2.8, -1])
    assert "B is ahead of A as it is" in said([-3, -2, 1, -1], [1, 0, 2, -1])
    assert "none carries more for A" in said([3, 2, 1, 1], [0, 0, -2, -1])


def photo() -> str:
    SceneDataset(Scenes(1, size=24, seed=3))[0].load().save("photo.png")
    return "photo.png"


def test_decide() -> None:
    done = shell("decide", photo(), *OWN, "--layer", "1", "--target", "disc", "--foil", "star")
    assert done.exit_code == 0, done.output
    words = " ".join(done.stdout.split())
    assert "Why disc and not star?" in words
    assert "of 6 units of 1" in words
    with PIL.Image.open("photo-units.png") as picture:
        assert picture.width > 1000
    done = shell("decide", photo(), *OWN, "-o", "other.svg")
    assert done.exit_code == 0, done.output
    assert Path("other.svg").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--foil", "others"), "between two classes"),
        (("--target", "disc", "--foil", "disc"), "both class"),
        (("--target", "zeppelin"), "zeppelin"),
        (("-o", "photo.png"), "the photograph itself"),
        (("-o", "why.txt"), "ends in"),
        (("--layer", "4.5"), "no layer"),
    ],
)
def test_decisions_that_are_none(words: tuple[str, ...], said: str) -> None:
    done = shell("decide", photo(), *OWN, *words)
    assert done.exit_code == 1
    assert said in str(done.exception)
    assert sorted(path.name for path in Path().iterdir() if path.suffix in (".png", ".txt")) == [
        "labels.txt",
        "photo.png",
    ]

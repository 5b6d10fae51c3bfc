"""The shell's benchmark and report: a model of one's own, damaged pictures, the bar on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

import visavis as vv
from visavis import cli, pictures
from visavis.benchmarking.benchmark import benchmark
from visavis.benchmarking.results import counts, read_results, words_of
from visavis.datasets import SHAPES, SceneDataset, Scenes
from visavis.errors import InputError, ModelError, VisavisError
from visavis.models.own_model import ModelOptions

SCENES = "scenes?count=3&size=36&seed=3"
NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(1)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, CLASSES)
    return nn.Sequential(*layers)

def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, CLASSES))
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: Any) -> Iterator[Path]:
    """A folder with a network, its weights, and the names of its classes; one thread is the quickest for it."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET.replace("CLASSES", str(len(SHAPES))))
    Path("labels.txt").write_text("\n".join(SHAPES))
    torch.save({"state_dict": network().state_dict()}, "w.pt")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def network(seed: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, len(SHAPES))
    return nn.Sequential(*layers).eval()


def shell(*words: str, **options: Any) -> Result:
    return CliRunner().invoke(cli.app, list(words), **options)


def measuring(*words: str, dataset: str = SCENES, out: str = "out") -> Result:
    usual = ("--methods", "gradient", "--metrics", "energy-in-box,sparsity", "--device", "cpu")
    return shell("benchmark", "--dataset", dataset, *usual, "-o", out, *words)


OWN = ("-m", "net.py:build", "--labels", "labels.txt", "--size", "12", "--mean", "0.5", "--std", "0.5,0.25,0.5")


# -- a model of one's own ----------------------------------------------------------------------------------------------


def test_its_weights_labels_and_size_give_the_numbers_of_that_very_classifier(place: Path) -> None:
    done = measuring(*OWN, "--weights", "w.pt")
    assert done.exit_code == 0, done.output
    assert "net.py:build is code of your own, and building the model runs it" in done.output
    crop = vv.CentreCrop(12, (0.5, 0.5, 0.5), (0.5, 0.25, 0.5))
    classifier = vv.Classifier(
        network(), preprocess=crop, labels=list(SHAPES), bounds=vv.pixel_bounds(crop), name="net.py:build"
    )
    direct = benchmark(SCENES, [classifier], ["gradient"], ["energy-in-box", "sparsity"], place / "direct")
    assert read_results("out").to_pylist() == read_results(direct).to_pylist()
    words = words_of("out")
    assert {name: words[name] for name in ("models", "weights", "labels", "size", "mean", "std")} == {
        "models": ["net.py:build"],
        "weights": "w.pt",
        "labels": "labels.txt",
        "size": 12,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.25, 0.5],
    }
    page = Path("out/report.html").read_text()
    assert "--weights w.pt --labels labels.txt --size 12 --mean 0.5,0.5,0.5 --std 0.5,0.25,0.5 -o DIR" in page
    # The user asked for a run of that code, so the benchmark draws; a report by itself does not run it.
    assert page.count("data:image/jpeg") == 3
    assert shell("report", "out").exit_code == 0
    assert Path("out/report.html").read_text() == page
    for path in Path("out/pictures").iterdir():
        path.unlink()
    shell("report", "out")
    assert "runs code, which a report does not do" in Path("out/report.html").read_text()


def test_what_is_given_with_a_model_is_part_of_the_words_and_what_is_not_is_no_word(place: Path) -> None:
    assert measuring(*OWN).exit_code == 0
    for words, said in (
        ((*OWN, "--weights", "w.pt"), "weights was nothing and is w.pt"),
        ((*OWN, "--size", "14"), "size was 12 and is 14"),
        ((*OWN, "--std", "0.5"), "std was 0.5, 0.25, 0.5 and is 0.5, 0.5, 0.5"),
    ):
        other = measuring(*words)
        assert isinstance(other.exception, InputError)
        assert said in str(other.exception)
    Path("labels.txt").write_text("\n".join(reversed(SHAPES)))
    other = measuring(*OWN)
    assert "class names was " in str(other.exception)
    assert set(words_of("out")) - {"labels", "class names", "size", "mean", "std"} == set(
        words_of(benchmark(SCENES, [vv.Classifier(network(), preprocess=vv.CentreCrop(12), labels=list(SHAPES))], [],
                           ["sparsity"], place / "plain"))
    )  # fmt: skip


def test_other_weights_in_the_same_file_are_refused(place: Path) -> None:
    two_shards = SCENES.replace("count=3", "count=17")
    assert measuring(*OWN, "--weights", "w.pt", dataset=two_shards).exit_code == 0
    next(Path("out/shards").glob("*.skipped.parquet")).unlink()
    torch.save(network(6).state_dict(), "w.pt")
    other = measuring(*OWN, "--weights", "w.pt", dataset=two_shards)
    assert isinstance(other.exception, InputError)
    assert "the weights of 'net.py:build' are not those" in str(other.exception)


def test_a_report_opens_an_architecture_with_weights_of_ones_own_again(place: Path) -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    torch.save(squeezenet1_1(num_classes=len(SHAPES)).state_dict(), "s.pt")
    words = ("-m", "torchvision:squeezenet1_1", "--weights", "s.pt", "--labels", "labels.txt", "--size", "32")
    assert measuring(*words, "--metrics", "energy-in-box").exit_code == 0
    pages = []
    for _ in range(2):
        pages.append(Path("out/report.html").read_text())
        assert pages[-1].count("data:image/jpeg") == 3
        for path in Path("out/pictures").iterdir():
            path.unlink()
        assert shell("report", "out").exit_code == 0
    assert pages[0] == pages[1]
    Path("labels.txt").write_text("\n".join(reversed(SHAPES)))
    for path in Path("out/pictures").iterdir():
        path.unlink()
    assert shell("report", "out").exit_code == 0
    assert (
        "&#x27;labels.txt&#x27; names other classes than when the run was begun" in Path("out/report.html").read_text()
    )


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (["--size", "64"], InputError, "are for a model of your own, but 'efficientnet_lite0' brings its own"),
        (["--weights", "w.pt"], ModelError, "'efficientnet_lite0' comes with weights of its own"),
        (["-m", "net.py:build", "--mean", "a"], InputError, "--mean is three numbers such as 0.5,0.5,0.5"),
        (["-m", "net.py:build", "--labels", "none.txt"], InputError, "no file of labels 'none.txt'"),
        (["-m", "net.py:build", "--size", "0"], InputError, "1 to 8192 pixels, not 0"),
        (["-m", "net.py:build,tiny", "--size", "12"], InputError, "are for one model that is given by name, not for 2"),
        (["-m", "net.py:build"], InputError, "have no names to find those of"),
        ([*OWN, "--weights", "none.pt"], ModelError, "'none.pt' does not exist"),
        ([*OWN[:2], *OWN[2:4], "--size", "12", "-m", "net.py:fixed"], InputError, "not for 2"),
        (["-m", "net.py:fixed", *OWN[2:]], ModelError, "the model net.py:fixed raised RuntimeError in "),
        (["-m", "net.py:fixed", *OWN[2:4]], ModelError, "if the model takes another size, pass --size"),
        ([*OWN, "--show", "deletion"], InputError, "cannot be shown by 'deletion', which was not measured"),
    ],
)
def test_wrong_options_end_in_a_sentence(words: list[str], kind: type[VisavisError], said: str) -> None:
    done = measuring(*words)
    assert isinstance(done.exception, kind), done.exception
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)


def test_a_model_by_name_alone_takes_options_from_python_too(place: Path) -> None:
    with pytest.raises(InputError, match="for one model that is given by name"):
        benchmark(SCENES, [vv.Classifier(network())], [], ["sparsity"], place / "o", options=ModelOptions(size=12))


# -- pictures that cannot be used --------------------------------------------------------------------------------------


def bad_pictures(folder: Path) -> dict[str, str]:
    """A folder of scenes whose files but the first two are spoilt: each with what is said of it."""
    folder.mkdir()
    lines = ["file,label,x0,y0,x1,y1"]
    names = ["good.jpg", "fine.jpg", "cut.jpg", "empty.jpg", "gone.jpg", "vast.png", "text.jpg", "folder.jpg"]
    for name, sample in zip(names, SceneDataset(Scenes(8, size=36, seed=3)), strict=True):
        sample.load().save(folder / name)
        (thing,) = sample.annotations
        lines.append(f"{name},{thing.label}," + ",".join(str(int(edge)) for edge in thing.box))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    content = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[:-60])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "gone.jpg").unlink()
    PIL.Image.new("1", (1200, 1000)).save(folder / "vast.png")
    (folder / "text.jpg").write_text("just words\n")
    (folder / "folder.jpg").unlink()
    (folder / "folder.jpg").mkdir()
    return {
        "cut.jpg": "is damaged or cut short",
        "empty.jpg": "is empty",
        "gone.jpg": "there is no file",
        "vast.png": "at most 1 megapixels are read",
        "text.jpg": "is not a picture that can be read",
        "folder.jpg": "is a folder",
    }


def test_bad_pictures_are_skipped_counted_and_named(place: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1_000_000)
    said = bad_pictures(place / "data")
    done = measuring(*OWN, dataset="folder:data")
    assert done.exit_code == 0, done.output
    assert "net.py:build: 2 cases in 8 pictures, 6 skipped" in done.output
    assert dict(counts("out").unusable["net.py:build"]).keys() == said.keys()
    page = Path("out/report.html").read_text()
    assert "2 cases in 8 pictures; 6 pictures could not be used" in page
    for name, reason in said.items():
        assert f"skipped {name}: " in done.output
        assert reason in dict(counts("out").unusable["net.py:build"])[name]
    assert page.count("data:image/jpeg") == 2


def test_a_data_set_of_bad_pictures_alone_says_so(place: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1_000_000)
    bad_pictures(place / "data")
    for name in ("good.jpg", "fine.jpg"):
        (place / "data" / name).write_bytes(b"\xff\xd8\xff")
    for _ in range(2):
        done = measuring(*OWN, dataset="folder:data")
        assert isinstance(done.exception, InputError)
        sentence = str(done.exception)
        assert sentence.startswith("Nothing was measured, for no picture could be used (0 of 8); the first, good.jpg: ")
    for form in ("html", "md", "tex"):
        text = Path(f"out/report.{form}").read_text()
        assert "8 pictures could not be used" in text
    assert (
        "<b>Nothing was measured, for no picture could be used (0 of 8); the first, good.jpg"
        in Path("out/report.html").read_text()
    )
    shown = shell("report", "out")
    assert shown.exit_code == 0
    assert "Nothing was measured, for no picture could be used" in shown.output


def test_pictures_without_a_class_of_the_model_say_so(place: Path) -> None:
    Path("labels.txt").write_text("\n".join([*map(str, range(len(SHAPES) - 1)), "square"]))
    label = {thing.label for sample in SceneDataset(Scenes(3, size=36, seed=3)) for thing in sample.annotations}
    assert "square" not in label
    done = measuring(*OWN)
    assert isinstance(done.exception, InputError)
    sentence = str(done.exception)
    assert sentence.startswith("Nothing was measured, for no picture gives a case; ")
    assert "class: the model has no class '" in sentence
    assert Path("out/report.html").is_file()


# -- the bar -----------------------------------------------------------------------------------------------------------


def on_a_terminal(*words: str) -> str:
    """What a run writes to standard error where that is a terminal."""
    ours, theirs = pty.openpty()
    read: list[bytes] = []

    def drain() -> None:
        try:
            while chunk := os.read(ours, 4096):
                read.append(chunk)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=drain)
    reader.start()
    before = sys.stderr
    try:
        with os.fdopen(theirs, "w") as sys.stderr:
            cli.app(list(words), standalone_mode=False)
    finally:
        sys.stderr = before
        reader.join()
        os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(read).decode())


def test_a_terminal_sees_how_far_a_run_is_and_how_long_it_takes(place: Path, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    words = ("benchmark", "-d", SCENES, *OWN, "--methods", "gradient", "--metrics", "energy-in-box", "--device", "cpu")
    shown = on_a_terminal(*words, "-o", "out")
    # Three pictures by four explainers, then three drawings; the time gone by, and the time left.
    for count in ("12/12", "3/3"):
        assert re.search(rf"━ {count}  ?\d:\d\d:\d\d  ?\d:\d\d:\d\d", shown)
    assert "net.py:build, gradient" in shown
    capfd.readouterr()
    cli.app([*words, "-o", "again"], standalone_mode=False)
    quiet = capfd.readouterr()
    assert quiet.err == "note: --models net.py:build is code of your own, and building the model runs it\n"
    assert json.loads(Path("again/run.json").read_text()) == words_of("out")


def test_what_has_no_value_in_a_table_is_said(place: Path) -> None:
    """A model that answers NaN everywhere: the baselines alone have values, and the report says so beside them."""
    Path("labels.txt").write_text("\n".join(SHAPES))
    Path("broken.py").write_text(
        "import torch\n\nclass Broken(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.head = torch.nn.Linear(3, 12)\n"
        "    def forward(self, x):\n        return self.head(x.mean((2, 3))) * float('nan')\n\n"
        "def build():\n    return Broken().eval()\n"
    )
    arguments = ["--dataset", "scenes?count=2&size=36", "--models", "broken.py:build", "--labels", "labels.txt"]
    arguments += ["--methods", "lrp,gradient", "--metrics", "sparsity", "-o", "nan"]
    shell("benchmark", *arguments)
    for form, said in (
        ("md", "No case has a value by LRP, Gradient"),
        ("html", "No case has a value by LRP, Gradient"),
    ):
        assert said in Path(f"nan/report.{form}").read_text()

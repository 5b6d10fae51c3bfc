"""The report: means and intervals as computed by hand, the best in bold, one page that asks for nothing else."""

from __future__ import annotations

import csv
import functools
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from tiny_network import build
from visavis import benchmark_commands
from visavis.benchmarking.benchmark import benchmark
from visavis.benchmarking.results import extremes, read_results, summaries
from visavis.benchmarking.shards import shard_files
from visavis.datasets import FolderDataset, SceneDataset, Scenes
from visavis.errors import InputError
from visavis.reports.report import drawn, latex, markdown, page, report_of, write_report
from visavis.reports.words import command, lead

METRICS = ["energy-pointing", "deletion", "pointing"]
#: A file whose name is an attack on each of the three forms, and one that is damaged.
HOSTILE, DAMAGED = "<script>alert(1)</script>|50%_$x$&.png", "d_*a*.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Iterator[Path]:
    """Results on four pictures, one of which is damaged."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    data = tmp_path_factory.mktemp("data")
    scenes = SceneDataset(Scenes(4, size=36, seed=3))
    names = ["a.png", HOSTILE.replace("/", "∕"), "c.png", DAMAGED]
    with (data / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "x0", "y0", "x1", "y1"])
        for sample, name in zip(scenes, names, strict=True):
            sample.load().save(data / name)
            (thing,) = sample.annotations
            writer.writerow([name, thing.label, *map(int, thing.box)])
    (data / DAMAGED).write_bytes(b"no picture")
    models = [build(1), build(2)]
    models[1].name = "net_2<b>"
    yield benchmark(FolderDataset(data), models, ["clrp", "gradient"], METRICS, data / "out", shard=2)
    torch.set_num_threads(before)


def values(folder: Path, model: str, method: str, metric: str, key: str = "") -> dict[str, float]:
    place = {"model": model, "method": method, "metric": metric, "key": key}
    rows = read_results(folder).to_pylist()
    return {row["case"]: row["value"] for row in rows if place.items() <= row.items()}


def test_means_are_those_of_the_values_and_intervals_draw_whole_pictures(tmp_path: Path) -> None:
    dataset = SceneDataset(Scenes(4, size=36, seed=3, objects=2))
    out = benchmark(dataset, [build()], [], ["sparsity", "deletion"], tmp_path / "out", shard=3)
    rows = read_results(out).to_pylist()
    generator = np.random.default_rng(0)
    places = {(row["method"], row["metric"], row["key"]) for row in rows}
    found = summaries(out)
    assert {(row.method, row.metric, row.key) for row in found} == places
    for row in found:
        by_picture: dict[str, list[float]] = {}
        for one in rows:
            if (one["method"], one["metric"], one["key"]) == (row.method, row.metric, row.key):
                by_picture.setdefault(one["picture"], []).append(one["value"])
        assert len(by_picture) == 4
        groups = list(by_picture.values())
        everything = [value for group in groups for value in group]
        assert row.summary.count == len(everything) == 8
        assert row.summary.mean == pytest.approx(np.mean(everything), rel=1e-12)
        if row.metric == "sparsity":
            draws = [
                np.mean([value for group in generator.integers(4, size=4) for value in groups[group]])
                for _ in range(4000)
            ]
            assert row.summary.low == pytest.approx(np.percentile(draws, 2.5), abs=4e-3)
            assert row.summary.high == pytest.approx(np.percentile(draws, 97.5), abs=4e-3)
    assert [row.method for row in found if row.key == ""] == [
        name for name in ("centre", "random", "edges") for _ in range(2)
    ]


def test_markdown_shows_means_with_the_best_in_bold_by_direction(folder: Path) -> None:
    text = markdown(report_of(folder))
    section = text.split("## net\\_2\\<b\\>")[1]
    head = next(line for line in section.splitlines() if line.startswith("| method"))
    titles = [cell.strip() for cell in head.strip("|").split(" | ")]
    assert titles[1] == "pointing game by energy ↑"
    assert titles[2].endswith("↓")
    table = {
        line.split(" | ")[0].strip("| "): line.strip("|").split(" | ")[1:]
        for line in section.splitlines()
        if re.match(r"\| (CLRP|Gradient|Centre|Random|Edges)", line)
    }
    assert len(table) == 5
    for column, (metric, better) in enumerate((("energy-pointing", max), ("deletion", min))):
        means = {
            method: float(np.mean(list(values(folder, "net_2<b>", name, metric).values())))
            for method, name in zip(table, ("clrp", "gradient", "centre", "random", "edges"), strict=True)
        }
        best = better(means.values())
        for method, mean in means.items():
            shown = table[method][column].split(" (")[0].strip()
            assert shown == (f"**{mean:.3f}**" if mean == best else f"{mean:.3f}")
    assert "3 cases in 4 pictures; 1 picture could not be used; 0 classes in pictures passed over." in section
    assert r"d\_\*a\*.png: " in section
    assert "unfinished" not in text


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_else_and_escapes_names(folder: Path) -> None:
    text = page(report_of(folder))
    read = Page()
    read.feed(text)
    assert not {"script", "link", "iframe", "object"} & set(read.tags)
    assert read.tags.count("img") == 4  # two curves a model
    assert all(address.startswith("data:image/svg+xml;base64,") for address in read.addresses)
    assert "http" not in re.sub(r"base64,[^\"]*", "", text).replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text
    assert "<script>alert(1)<∕script>|50%_$x$&.png" in read.text
    assert "net_2<b>" in read.text
    assert "visavis benchmark --dataset" in read.text
    assert "d_*a*.png: " in read.text


def test_the_page_with_pictures_needs_nothing_else_either(folder: Path) -> None:
    models = [build(1), build(2)]
    models[1].name = "net_2<b>"
    try:
        text = write_report(folder, draws=10, dataset=FolderDataset(folder.parent), models=models)["page"].read_text()
    finally:
        shutil.rmtree(folder / "pictures")
    read = Page()
    read.feed(text)
    assert not {"script", "link", "iframe", "object", "b>"} & set(read.tags)
    kinds = [address.partition(";")[0] for address in read.addresses]
    # Three cases for each of two methods on two models, two curves a model.
    assert (kinds.count("data:image/jpeg"), kinds.count("data:image/svg+xml"), len(kinds)) == (12, 4, 16)
    assert read.text.count("<script>alert(1)<∕script>|50%_$x$&.png") >= 4
    assert len(text) < 1_000_000


def test_latex_escapes_and_closes_what_it_opens(folder: Path) -> None:
    text = latex(report_of(folder))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert r"net\_2\textless{}b\textgreater{}" in text
    assert r"95 \% intervals" in text
    body = re.sub(r"(?m)^%.*$", "", text)
    assert len(re.findall(r"(?<!\\)\{", body)) == len(re.findall(r"(?<!\\)\}", body))
    assert not re.search(r"(?<!\\)[%#_]", body)
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {5}


def test_best_and_worst_cases_are_those_of_a_plain_sort(folder: Path) -> None:
    found = extremes(folder, {"deletion": False}, most=2)
    assert len(found) == 2 * 5 * 3
    for one in found:
        cases = values(folder, one.model, one.method, one.metric)
        sign = 1 if one.metric == "deletion" else -1
        assert one.best == sorted(cases.items(), key=lambda case: (sign * case[1], case[0]))[:2]
        assert one.worst == sorted(cases.items(), key=lambda case: (-sign * case[1], case[0]))[:2]


def test_curves_are_the_means_of_their_points(folder: Path) -> None:
    report = report_of(folder)
    assert [(curve.model, curve.metric) for curve in report.curves] == [
        (model, metric) for model in ("toy", "net_2<b>") for metric in ("energy-pointing", "deletion")
    ]
    curve = report.curves[0]
    across, up = curve.lines["CLRP"]
    assert across == pytest.approx([step / 20 for step in range(1, 20)])
    for place, height in zip(across, up, strict=True):
        assert height == pytest.approx(
            np.mean(list(values(folder, "toy", "clrp", "energy-pointing", f"{place:g}").values()))
        )
    assert curve.axes == ("share of the energy kept", "share of cases all inside the box")
    assert drawn(curve) == drawn(curve)
    assert drawn(curve) != drawn(curve._replace(axes=("x", "y")))
    assert drawn(curve) != drawn(report.curves[1])


def test_reports_are_written_alike_each_time(folder: Path) -> None:
    places = write_report(folder)
    assert [place.name for place in places.values()] == ["report.md", "report.tex", "report.html"]
    before = [place.read_bytes() for place in places.values()]
    write_report(folder)
    assert [place.read_bytes() for place in places.values()] == before


def test_an_unfinished_run_says_so(folder: Path, tmp_path: Path) -> None:
    for path in ("run.json", *(str(p.relative_to(folder)) for pair in shard_files(folder) for p in pair)):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes((folder / path).read_bytes())
    shard_files(tmp_path)[-1][0].unlink()
    text = markdown(report_of(tmp_path))
    assert text.count("unfinished, 2 pictures to go") == 1


def test_a_run_without_any_value_names_what_it_skipped(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,label\nlost.png,star\n")
    out = benchmark(FolderDataset(tmp_path), [build()], [], ["sparsity"], tmp_path / "out")
    report = report_of(out)
    assert summaries(out) == []
    for text in (markdown(report), page(report)):
        assert "Nothing was measured, for no picture could be used (0 of 1); the first, lost.png: there is" in text
        assert "0 cases in 1 picture; 1 picture could not be used" in text
        assert "lost.png: there is no file" in text
    assert "unfinished" not in latex(report)


def test_what_holds_no_results_or_damaged_ones_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no results"):
        report_of(tmp_path)
    (tmp_path / "run.json").write_bytes((folder / "run.json").read_bytes())
    with pytest.raises(InputError, match="holds no finished shard"):
        report_of(tmp_path)
    (tmp_path / "shards").mkdir()
    for path in shard_files(folder)[0]:
        (tmp_path / "shards" / path.name).write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"is damaged .* start the run again"):
        report_of(tmp_path)


# -- the shell ---------------------------------------------------------------------------------------------------------


def test_the_shell_measures_resumes_and_reports(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(benchmark_commands.benchmark)
    app.command()(benchmark_commands.report)
    net = Path(__file__).parents[1] / "tiny_network.py"
    words = ["--dataset", "scenes?count=3&size=36", "--models", f"{net}:build", "--methods", "gradient"]
    words += [
        "--metrics",
        "sparsity,pointing:tolerance=1",
        "--limit",
        "2",
        "--device",
        "cpu",
        "-o",
        str(tmp_path / "out"),
    ]
    for _ in range(2):
        done = CliRunner().invoke(app, ["benchmark", *words], env=dict(os.environ))
        assert done.exit_code == 0, done.output
        assert "2 cases in 2 pictures, 0 skipped" in done.output
    assert (tmp_path / "out" / "report.html").is_file()
    shown = CliRunner().invoke(app, ["report", str(tmp_path / "out")])
    assert shown.exit_code == 0
    assert "| Gradient |" in shown.output
    other = CliRunner().invoke(app, ["benchmark", *words, "--seed", "4"])
    assert isinstance(other.exception, InputError)
    assert "seed was 0 and is 4" in str(other.exception)
    missing = CliRunner().invoke(app, ["report", str(tmp_path / "none")])
    assert isinstance(missing.exception, InputError)


def test_what_else_made_the_values_says_so() -> None:
    assert command({"made by": "python benchmarks/paper.py"}) == "python benchmarks/paper.py"


def test_the_words_of_a_run_steer_neither_page_nor_terminal() -> None:
    assert command({"made by": "x\n# <b>heading</b>\u001b[2J"}) == "x\\x0a# <b>heading</b>\\x1b[2J"


@pytest.mark.parametrize(("threshold", "said"), [(2.0, "names none of the methods"), (-2.0, "names LRP, Gradient:")])
def test_the_check_with_random_weights_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threshold: float, said: str
) -> None:
    from visavis.evaluation import sanity
    from visavis.reports import words

    out = benchmark("scenes?count=3&size=36", [build()], ["lrp", "gradient"], ["randomization", "sparsity"], tmp_path)
    monkeypatch.setattr(words, "insensitive", functools.partial(sanity.insensitive, threshold=threshold))
    report = report_of(out)
    for text in (markdown(report), page(report)):
        assert f"the check with random weights {said}" in text


def test_the_lead_says_which_classes_are_cases(folder: Path) -> None:
    report = report_of(folder)
    for which, said in (("present", "is one case."), ("predicted", "the model predicts"), ("recognised", "least 0.01")):
        assert said in lead(report.words | {"classes": which}, report.counts)

"""Pictures of cases: the map that was measured, made once and kept, never at the cost of the results or of safety."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import visavis as vv
from tiny_network import build
from visavis.benchmarking.benchmark import benchmark
from visavis.benchmarking.results import extremes, read_results, words_of
from visavis.benchmarking.shards import Folder, Shard, Value, read
from visavis.datasets import FolderDataset, SceneDataset, Scenes
from visavis.errors import InputError, OutputError
from visavis.models import registry
from visavis.models.registry import Source
from visavis.reports import case_pictures
from visavis.reports.case_pictures import Gallery, galleries
from visavis.reports.report import report_of, shown_metric, write_report
from visavis.reports.thumbnails import thumbnail

DATA = "scenes?count=6&size=36&seed=3&objects=2"
METRICS = ["energy-in-mask", "complexity"]
METHODS = ["clrp", "gradient"]


@pytest.fixture(autouse=True)
def tiny_source(monkeypatch: Any) -> Iterator[None]:
    """Let "tiny:1" and "tiny:2" be models that a report may load, for no code of a stranger builds them."""
    source = Source("tiny", lambda name, pretrained: named(int(name)), lambda: ["1", "2"], "of the tests")
    monkeypatch.setitem(registry._SOURCES, "tiny", source)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def named(seed: int) -> vv.Classifier:
    classifier = build(seed)
    classifier.name = f"tiny:{seed}"
    return classifier


@pytest.fixture(scope="module")
def measured(tmp_path_factory: Any) -> Path:
    """A finished run on scenes, whose classifier is given, as it will be spelled "tiny:1"."""
    folder = tmp_path_factory.mktemp("run") / "out"
    return benchmark(DATA, [named(1)], METHODS, METRICS, folder, shard=4, device="cpu")


@pytest.fixture
def folder(measured: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(measured, tmp_path / "out"))


def made(folder: Path, metric: str = "energy-in-mask", higher: bool = True, **options: Any) -> Gallery:
    (gallery,) = galleries(folder, words_of(folder), metric, higher, **options)
    return gallery


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "pictures").glob("*"))}


def with_words(folder: Path, **changed: Any) -> Path:
    """Change what a run was asked for, as a stranger's folder may hold anything; shards go along."""
    words = words_of(folder) | changed
    (folder / "run.json").write_text(json.dumps(words))
    return folder


def test_pictures_are_of_the_maps_that_were_measured(folder: Path) -> None:
    gallery = made(folder)
    assert (gallery.note, list(gallery.rows)) == ("", METHODS)
    dataset, classifier = SceneDataset(Scenes(6, size=36, seed=3, objects=2)), named(1)
    best = {(one.method, one.metric): one.best[0] for one in extremes(folder, {"energy-in-mask": True})}
    for method, row in gallery.rows.items():
        assert [one.ranked.rank for one in row] == ["best", "median", "worst"]
        assert (row[0].ranked.case, row[0].ranked.value) == best[method, "energy-in-mask"]
        for one in row:
            sample = next(each for each in dataset if each.name == one.ranked.picture)
            inputs = classifier.prepare(sample.load())
            heat = vv.method(method)(classifier).attribute(inputs, target=one.ranked.target)[0].sum(0)
            boxes = torch.tensor([each.box for each in sample.annotations if each.label == one.ranked.label])
            # The network sees one pixel for three by three of the picture.
            expected = thumbnail(inputs[0], boxes / 3, heat, one.ranked.label)
            assert one.picture is not None
            assert one.picture.label == one.ranked.label
            drawn = [np.asarray(PIL.Image.open(io.BytesIO(each.jpeg))) for each in (one.picture, expected)]
            assert np.abs(drawn[0].astype(int) - drawn[1]).mean() < 0.5


def test_the_metric_that_is_named_chooses_in_its_direction(folder: Path) -> None:
    for metric, higher in (("energy-in-mask", True), ("complexity", False), ("complexity", True)):
        row = made(folder, metric, higher).rows["clrp"]
        table = read_results(folder).to_pylist()
        values = [r["value"] for r in table if (r["method"], r["metric"], r["key"]) == ("clrp", metric, "")]
        ends = (max(values), min(values)) if higher else (min(values), max(values))
        assert (row[0].ranked.value, row[2].ranked.value) == ends


def test_what_is_kept_needs_neither_data_nor_model(folder: Path, monkeypatch: Any) -> None:
    first, files = made(folder), kept(folder)
    assert 3 <= len(files) <= 6
    assert all(content.startswith(b"\xff\xd8") for content in files.values())
    shards = {path: path.read_bytes() for path in (folder / "shards").iterdir()}

    def never(*arguments: Any, **options: Any) -> None:
        raise AssertionError("opened again")

    monkeypatch.setattr(case_pictures, "open_dataset", never)
    monkeypatch.setattr(case_pictures, "load_model", never)
    assert made(folder) == first
    assert kept(folder) == files
    assert {path: path.read_bytes() for path in (folder / "shards").iterdir()} == shards


def test_only_what_is_missing_or_damaged_is_made_again(folder: Path) -> None:
    made(folder)
    files = kept(folder)
    names = list(files)
    (folder / "pictures" / names[0]).unlink()
    (folder / "pictures" / names[1]).write_bytes(files[names[1]][:99])
    told: list[tuple[int, int]] = []
    made(folder, progress=lambda done, total, what: told.append((done, total)))
    assert kept(folder) == files
    assert told[-1][0] == told[-1][1] <= 4


def test_without_the_data_the_page_says_so_and_lists_the_cases(folder: Path) -> None:
    with_words(folder, dataset="folder:/nowhere")
    assert report_of_words(folder, "pictures need the data set, and it cannot be opened: ")


def report_of_words(folder: Path, said: str) -> bool:
    """Whether the page of a run that was begun with these very words says something instead of pictures."""
    words = words_of(folder)
    out = folder.parent / "again"
    rows = [Value("a.png", f"a.png#{n}", m, "energy-in-mask", "", n / 10, 0, False) for n in range(4) for m in METHODS]
    with Folder(out, words) as place:
        place.write(Shard(0, words["models"][0], 0, 3), "digest", rows, [], 4)
    page = write_report(out, draws=10)["page"].read_text()
    assert "a.png#3 (0.300)" in page
    assert not (out / "pictures").exists()
    assert "image/jpeg" not in page
    assert "image/jpeg" not in (out / "report.md").read_text()
    return said in page


def test_a_data_set_of_another_size_or_other_weights_give_no_pictures(folder: Path) -> None:
    assert report_of_words(
        with_words(folder, dataset="scenes?count=7&size=36"), "scenes?count=7&amp;size=36 has 7 pictures, but had 6"
    )
    shutil.rmtree(folder.parent / "again")
    assert report_of_words(
        with_words(folder, dataset=DATA),
        "There are no pictures: the weights of tiny:1 are not those that were measured.",
    )
    gallery = made(folder.parent / "again", models=[named(1)])
    assert gallery.note == "the weights of tiny:1 are not those that were measured"


def test_a_report_runs_no_code_that_a_folder_names(folder: Path, tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text("import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\nbuild = None\n")
    for name in (f"{net}:build", "os:getcwd"):
        with_words(folder, models=[name])
        assert report_of_words(folder, f"building {name} runs code, which a report does not do; start the benchmark")
        shutil.rmtree(folder.parent / "again")
    assert not net.with_suffix(".ran").exists()


def photographs(folder: Path) -> Path:
    folder.mkdir()
    lines = ["file,label,x0,y0,x1,y1"]
    for number, sample in enumerate(SceneDataset(Scenes(5, size=36, seed=3))):
        sample.load().save(folder / f"{number}.png")
        (thing,) = sample.annotations
        lines.append(f"{number}.png,{thing.label}," + ",".join(str(int(edge)) for edge in thing.box))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_picture_that_is_gone_or_another_by_now_costs_the_others_nothing(tmp_path: Path) -> None:
    data = photographs(tmp_path / "data")
    words = (f"folder:{data}", ["tiny:1"], ["gradient"], ["energy-in-box"])
    out = benchmark(*words, tmp_path / "out", shard=2, device="cpu")
    best, median, worst = made(out, "energy-in-box").rows["gradient"]
    shutil.rmtree(out / "pictures")
    (data / best.ranked.picture).unlink()
    (data / worst.ranked.picture).write_bytes(b"no picture")
    gone, same, damaged = made(out, "energy-in-box").rows["gradient"]
    assert same == median
    assert (gone.picture, damaged.picture) == (None, None)
    assert "there is no file" in gone.reason
    assert "is not a picture that can be read" in damaged.reason
    page = write_report(out, draws=10)["page"].read_text()
    assert page.count("data:image/jpeg") == 1
    assert "No picture: there is no file" in page


def test_a_data_set_that_was_edited_gives_no_pictures(tmp_path: Path) -> None:
    data = photographs(tmp_path / "data")
    out = benchmark(f"folder:{data}", ["tiny:1"], ["gradient"], ["energy-in-box"], tmp_path / "out", device="cpu")
    best = made(out, "energy-in-box").rows["gradient"][0]
    shutil.rmtree(out / "pictures")
    text = (data / "labels.csv").read_text()
    others = iter({line.split(",")[1] for line in text.splitlines()[1:]} - {best.ranked.label})
    changed = text.replace(f"{best.ranked.picture},{best.ranked.label}", f"{best.ranked.picture},{next(others)}")
    (data / "labels.csv").write_text(changed)
    again = made(out, "energy-in-box")
    assert again.note == f"folder:{data} has been edited since, or is another than the one measured"
    assert all(one.picture is None for one in again.rows["gradient"])
    (data / "labels.csv").write_text(text)
    assert made(out, "energy-in-box").rows["gradient"][0] == best


def test_a_case_that_is_gone_is_not_shown(tmp_path: Path) -> None:
    data = photographs(tmp_path / "data")
    out = benchmark(f"folder:{data}", ["tiny:1"], ["gradient"], ["energy-in-box"], tmp_path / "out", device="cpu")
    words = words_of(out)
    del words["data"]  # as of a run that kept no digest
    rows = [Value("0.png", "0.png#none", "gradient", "energy-in-box", "", 0.5, 0, False)]
    shard = next((out / "shards").glob("*.skipped.parquet"))
    weights = read(shard).schema.metadata[b"visavis"]
    with Folder(tmp_path / "again", words) as place:
        place.write(Shard(0, "tiny:1", 0, 4), json.loads(weights)["weights"], rows, [], 1)
    (one,) = made(tmp_path / "again", "energy-in-box").rows["gradient"]
    assert (one.picture, one.reason) == (None, "the data set has no such case any more")


def test_an_end_midway_loses_nothing_and_the_next_report_goes_on(folder: Path, monkeypatch: Any) -> None:
    whole = made(folder)
    files = kept(folder)
    shutil.rmtree(folder / "pictures")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    real, left = case_pictures.put, 2

    def full(path: Path, content: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OutputError("the disk is full")
        real(path, content)

    monkeypatch.setattr(case_pictures, "put", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_report(folder, draws=10)
    monkeypatch.undo()
    monkeypatch.setitem(registry._SOURCES, "tiny", Source("tiny", lambda name, pretrained: named(int(name)), list, ""))
    assert len(kept(folder)) == 2
    assert {path: path.read_bytes() for path in before} == before
    assert made(folder) == whole
    assert kept(folder) == files


def test_a_model_that_raises_costs_its_pictures_alone(folder: Path, monkeypatch: Any) -> None:
    broken = named(1)
    monkeypatch.setattr(registry, "_SOURCES", dict(registry._SOURCES))
    registry._SOURCES["tiny"] = Source("tiny", lambda name, pretrained: broken, list, "")

    def fail(*arguments: Any) -> None:
        raise KeyError("too deep")

    monkeypatch.setattr(broken, "preprocess", fail)
    row = made(folder).rows["clrp"]
    assert all(one.picture is None and "raised KeyError" in one.reason for one in row)


def test_a_page_has_so_many_pictures_at_most(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(case_pictures, "AT_MOST", 4)
    rows = made(folder).rows
    assert [one.picture is not None for row in rows.values() for one in row] == [True] * 4 + [False] * 2
    assert rows["gradient"][2].reason == "a page has at most 4 pictures"
    assert len(kept(folder)) == 4


def test_each_run_model_weights_method_and_case_has_a_file_of_its_own(folder: Path) -> None:
    words, one = words_of(folder), made(folder).rows["clrp"][0].ranked
    changed = [{"model": "other"}, {"weights": "other"}, {"method": "lrp"}, {"case": "other"}]
    places = {case_pictures._place(folder, words, one._replace(**each)) for each in ({}, *changed)}
    places.add(case_pictures._place(folder, words | {"seed": 1}, one))
    assert len(places) == 6
    assert len({case_pictures._place(folder, words, one._replace(rank=rank)) for rank in ("best", "worst")}) == 1


def test_the_random_numbers_of_the_caller_are_kept(folder: Path) -> None:
    before = torch.get_rng_state()
    made(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_which_metric_is_shown() -> None:
    metrics = ["pointing:tolerance=3", "energy-in-box", "complexity"]
    assert shown_metric(metrics, None) == "energy-in-box"
    assert shown_metric(metrics[::2], None) == "pointing:tolerance=3"
    assert shown_metric(metrics, "pointing") == "pointing:tolerance=3"
    assert shown_metric(metrics, "complexity") == "complexity"
    assert shown_metric(metrics, "none") is None
    with pytest.raises(
        InputError, match="cannot be shown by 'complexiti', which was not measured; try complexity, or none"
    ):
        shown_metric(metrics, "complexiti")


def test_the_page_holds_the_pictures_with_their_words(folder: Path) -> None:
    page = write_report(folder, draws=10)["page"].read_text()
    assert page.count('src="data:image/jpeg;base64,') == 6
    assert "Best, median and worst cases by energy in the mask ↑" in page
    row = made(folder).rows["clrp"]
    for one in row:
        assert f"<b>{one.ranked.rank} {one.ranked.value:.3f}</b> · {one.ranked.label}<br>" in page
    assert "by complexity (entropy) ↓" in write_report(folder, draws=10, show="complexity")["page"].read_text()
    assert "image/jpeg" not in write_report(folder, draws=10, show="none")["page"].read_text()


def test_damaged_words_are_refused(folder: Path) -> None:
    for changed in ({"models": "toy"}, {"metrics": [3]}, {"seed": None}, {"limit": "many"}, {"dataset": None}):
        words = words_of(folder)
        (folder / "run.json").write_text(json.dumps(words | changed))
        with pytest.raises(InputError, match="does not say in full what was run"):
            report_of(folder)
        (folder / "run.json").write_text(json.dumps(words))


def test_a_given_data_set_and_model_serve_in_place_of_names(tmp_path: Path) -> None:
    dataset, classifier = FolderDataset(photographs(tmp_path / "data")), build(3)
    out = benchmark(dataset, [classifier], ["gradient"], ["energy-in-box"], tmp_path / "out")
    assert "cannot be opened" in made(out, "energy-in-box").note
    assert "there is no model 'toy'" in made(out, "energy-in-box", dataset=dataset).note
    gallery = made(out, "energy-in-box", dataset=dataset, models=[classifier])
    assert all(one.picture is not None for one in gallery.rows["gradient"])


def test_a_folder_of_pictures_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / "pictures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="pictures' is a symbolic link, through which nothing is written"):
        write_report(folder, draws=10)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_halves_of_pictures_that_a_killed_report_left_are_removed(folder: Path) -> None:
    (folder / "pictures").mkdir()
    old, fresh = (folder / "pictures" / f"{name}.jpg.0a.part" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    made(folder)
    assert (old.exists(), fresh.exists()) == (False, True)

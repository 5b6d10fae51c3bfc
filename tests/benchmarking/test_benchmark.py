"""The benchmark: the numbers of a slow direct computation, the same whenever and however often a run is ended."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visavis as vv
from tiny_network import SIDE, build, to_tensor
from visavis.benchmarking.benchmark import benchmark, case_seed, usual_metrics, weights_digest
from visavis.benchmarking.results import counts, read_passed_over, read_results
from visavis.datasets import SHAPES, FolderDataset, SceneDataset, Scenes
from visavis.errors import InputError, OutputError
from visavis.evaluation.explainers import Edges, baselines
from visavis.evaluation.spelling import method_of, metric_of, split

METHODS = ["clrp:foil=runner-up,rules=epsilon-plus,gradient"]
METRICS = ["pointing:tolerance=1,energy-in-mask,ablation:size=3,samples=3,discriminativeness"]
BASELINES = ["centre", "random", "edges"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Keep to one thread: for so small a network, more of them wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scenes(count: int = 5, objects: int = 2) -> SceneDataset:
    return SceneDataset(Scenes(count, size=36, seed=3, objects=objects))


def run(folder: Path, **changed: Any) -> Path:
    options: dict[str, Any] = {"methods": METHODS, "metrics": METRICS, "shard": 2, "models": [build()]} | changed
    options.setdefault("dataset", scenes())
    return benchmark(folder=folder, **options)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "shards").iterdir())}


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_results(folder).to_pylist()
    return found


# -- the numbers -------------------------------------------------------------------------------------------------------


def direct(classifier: vv.Classifier, dataset: SceneDataset) -> dict[tuple[str, str, str], float]:
    """Energy in the mask and pointing with a tolerance of 0, by loops over pictures, objects and pixels."""
    found = {}
    for number in range(len(dataset)):
        sample = dataset[number]
        inputs = to_tensor(sample.load())[None]
        for thing in sample.annotations:
            target = list(SHAPES).index(thing.label)
            large = thing.mask
            assert large is not None
            mask = large[1::3, 1::3]  # the centre of each pixel of the input, three by three pixels of the picture
            maps = {
                "clrp:foil=runner-up,rules=epsilon-plus": vv.CLRP(
                    classifier, foil="runner-up", rules="epsilon-plus"
                ).attribute(inputs, target=target),
                "gradient": vv.Gradient(classifier).attribute(inputs, target=target),
                "edges": Edges().heatmaps(inputs, torch.tensor([target]))[:, None],
            }
            for method, attribution in maps.items():
                heat = attribution.detach().double().sum(1)[0].numpy()
                whole = inside = 0.0
                for y in range(SIDE):
                    for x in range(SIDE):
                        whole += max(heat[y, x], 0)
                        inside += max(heat[y, x], 0) * bool(mask[y, x])
                case = f"{sample.name}#{thing.label}"
                found[case, method, "energy-in-mask"] = inside / whole if whole else 0.0
                top = np.unravel_index(int(heat.argmax()), heat.shape)
                found[case, method, "pointing:tolerance=0"] = float(mask[top]) if heat[top] > 0 else 0.0
    return found


def test_numbers_are_those_of_a_slow_direct_computation(tmp_path: Path) -> None:
    classifier, dataset = build(), scenes(4)
    expected = direct(classifier, dataset)
    folder = run(
        tmp_path / "out", dataset=dataset, models=[classifier], metrics=["energy-in-mask", "pointing:tolerance=0"]
    )
    found = {(row["case"], row["method"], row["metric"]): row["value"] for row in rows(folder) if row["key"] == ""}
    assert len(expected) == 4 * 2 * 3 * 2
    assert {method for _, method, _ in found} == {*split(METHODS), *BASELINES}
    for place, value in expected.items():
        assert found[place] == pytest.approx(value, abs=1e-6), place
    assert len(found) == 4 * 2 * 5 * 2
    targets = {row["case"]: row["target"] for row in rows(folder)}
    assert all(target == list(SHAPES).index(case.partition("#")[2]) for case, target in targets.items())


@pytest.mark.slow
def test_every_case_counts_once_whatever_the_size_of_shards(tmp_path: Path) -> None:
    def values(folder: Path) -> dict[tuple[str, ...], float]:
        places = [tuple(row[k] for k in ("case", "method", "metric", "key")) for row in rows(folder)]
        assert max(Counter(places).values()) == 1
        return dict(zip(places, [row["value"] for row in rows(folder)], strict=True))

    one = values(run(tmp_path / "one", shard=1))
    assert one == values(run(tmp_path / "five", shard=5))
    torch.manual_seed(99)
    assert one == values(run(tmp_path / "three", shard=3))


def test_the_caller_keeps_the_random_numbers_and_the_model(tmp_path: Path) -> None:
    classifier = build()
    before, digest = torch.get_rng_state(), weights_digest(classifier)
    run(tmp_path / "out", models=[classifier], dataset=scenes(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert weights_digest(classifier) == digest


def test_a_limit_draws_pictures_by_the_seed_and_smaller_draws_are_part_of_larger(tmp_path: Path) -> None:
    def drawn(limit: int, seed: int) -> set[str]:
        name = f"{limit}-{seed}"
        run(tmp_path / name, dataset=scenes(12, 1), limit=limit, seed=seed, methods=[], metrics=["sparsity"])
        assert counts(tmp_path / name).planned == limit
        return {row["picture"] for row in rows(tmp_path / name)}

    four, seven, other = drawn(4, 0), drawn(7, 0), drawn(7, 1)
    assert len(four) == 4
    assert four < seven
    assert seven != other


def test_seeds_are_of_the_case_and_the_run() -> None:
    seeds = {case_seed(seed, name) for seed in range(3) for name in ("a#1", "a#2", "b#1")}
    assert len(seeds) == 9
    assert case_seed(1, "a#1").to_bytes(7, "little").hex() == hashlib.sha256(b"1:a#1").hexdigest()[:14]


def test_several_models_are_measured_side_by_side(tmp_path: Path) -> None:
    first, second = build(1), build(2)
    second.name = "other"
    folder = run(tmp_path / "out", models=[first, second], dataset=scenes(2))
    alone = run(tmp_path / "alone", models=[second], dataset=scenes(2))
    assert [row for row in rows(folder) if row["model"] == "other"] == rows(alone)
    assert {row["model"] for row in rows(folder)} == {"toy", "other"}


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    run(tmp_path / "out", progress=lambda done, total, what: told.append((done, total)))
    assert told[-1] == (25, 25)  # five pictures, five explainers
    assert told == sorted(told)


# -- what cannot be used -----------------------------------------------------------------------------------------------


def photographs(folder: Path, count: int = 5) -> FolderDataset:
    folder.mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "x0", "y0", "x1", "y1"])
        for number in range(count):
            scene = scenes(count, 1)[number]
            scene.load().save(folder / f"{number}.png")
            (thing,) = scene.annotations
            writer.writerow([f"{number}.png", thing.label, *map(int, thing.box)])
    return FolderDataset(folder)


def test_a_bad_picture_is_skipped_and_named_and_the_rest_is_as_without_it(tmp_path: Path) -> None:
    dataset = photographs(tmp_path / "data")
    options: dict[str, Any] = {"dataset": dataset, "metrics": ["pointing", "energy-in-mask"]}
    good = rows(run(tmp_path / "good", **options))
    (tmp_path / "data" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    (tmp_path / "data" / "4.png").unlink()
    folder = run(tmp_path / "bad", **options)
    assert rows(folder) == [row for row in good if row["picture"] not in ("2.png", "4.png")]
    found = counts(folder)
    assert [name for name, _ in found.unusable["toy"]] == ["2.png", "4.png"]
    assert "damaged" in found.unusable["toy"][0][1]
    assert "there is no file" in found.unusable["toy"][1][1]
    assert (found.pictures, found.cases, found.complete) == ({"toy": 5}, {"toy": 3}, True)
    # Without masks there is no energy in the mask.
    assert {row["metric"] for row in rows(folder)} == {"pointing"}


def test_a_class_contrasted_with_itself_costs_the_other_cases_nothing(tmp_path: Path) -> None:
    dataset = scenes(4)
    label = dataset[0].annotations[0].label
    folder = run(tmp_path / "out", dataset=dataset, methods=[f"clrp:foil={label}"], metrics=["sparsity"])
    names = [f"{sample.name}#{thing.label}" for sample in dataset for thing in sample.annotations]
    own = [row["case"] for row in rows(folder) if row["method"].startswith("clrp")]
    assert own == [name for name in names if not name.endswith(f"#{label}")]
    passed = read_passed_over(folder).to_pylist()
    assert {row["reason"] for row in passed} == {"target and foil are the same class"}
    assert [row["case"] for row in passed] == [name for name in names if name.endswith(f"#{label}")]


# -- ended and taken up ------------------------------------------------------------------------------------------------

_KILLED = """
    import os, random, shutil, signal, sys, time
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    sys.path.insert(0, {tests!r})
    from tiny_network import build
    from visavis.benchmarking.benchmark import benchmark

    def work(folder):
        benchmark({dataset!r}, [build()], {methods!r}, {metrics!r}, folder, shard=2)

    def start(folder, longest):
        child = os.fork()
        if not child:
            try:
                work(folder)
                os._exit(0)
            finally:
                os._exit(1)
        if longest:
            time.sleep(draw.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
        return os.waitpid(child, 0)[1]

    draw, killed, rounds = random.Random(5), 0, 0
    begun = time.monotonic()
    assert start("whole", 0) == 0
    duration = time.monotonic() - begun
    while killed < {kills}:
        rounds += 1
        while True:
            status = start(f"round-{{rounds}}", duration * 0.8 if killed < {kills} else 0)
            if status == 0:
                break
            assert os.WIFSIGNALED(status), status
            killed += 1
    print(killed, rounds)
"""


def killed_at_random(tmp_path: Path, kills: int) -> None:
    code = _KILLED.format(
        tests=str(Path(__file__).parents[1]),
        dataset="scenes?count=7&size=36&seed=3&objects=2",
        methods=METHODS,
        metrics=METRICS,
        kills=kills,
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    killed, rounds = map(int, finished.stdout.split())
    assert killed >= kills
    whole = shards(tmp_path / "whole")
    assert len(whole) == 8
    for number in range(1, rounds + 1):
        assert shards(tmp_path / f"round-{number}") == whole


@pytest.mark.slow
def test_a_run_that_is_killed_comes_to_the_same_files(tmp_path: Path) -> None:
    killed_at_random(tmp_path, 4)


@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times_comes_to_the_same_files(tmp_path: Path) -> None:
    killed_at_random(tmp_path, 20)


@pytest.mark.parametrize("call", ["replace", pytest.param("fsync", marks=pytest.mark.slow)])
def test_a_full_disk_ends_in_a_sentence_and_the_run_goes_on_from_there(
    tmp_path: Path, monkeypatch: Any, call: str
) -> None:
    options: dict[str, Any] = {"methods": [], "metrics": ["sparsity", "ablation"]}
    whole = shards(run(tmp_path / "whole", **options))
    real, left = getattr(os, call), 0

    def full(*arguments: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    monkeypatch.setattr(os, call, full)
    for room in (0, 1, 2, 3, 6):
        folder, left = tmp_path / f"full-{room}", room
        with pytest.raises(OutputError, match="No space left on device"):
            run(folder, **options)
        assert not list(folder.rglob("*.part"))
        done = shards(folder) if room > 1 else {}
        assert done.items() <= whole.items()
        left = 1000
        run(folder, **options)
        assert shards(folder) == whole


_SCENES_ON_DISK = "scenes?count=5&size=36&seed=3&objects=2"
_SMALL_DISK = """
    import subprocess, sys
    import torch
    torch.set_num_threads(1)
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from tiny_network import build
    from visavis.benchmarking.benchmark import benchmark
    from visavis.errors import OutputError

    disk, failures = Path({disk!r}), 0
    for pages in range(2, 200):
        remount = ["-o", f"remount,size={{4 * pages}}k", str(disk)]
        made = ["-t", "tmpfs", "-o", f"size={{4 * pages}}k", "none", str(disk)]
        subprocess.run(["mount", *(made if pages == 2 else remount)], check=True)
        try:
            folder = benchmark({dataset!r}, [build()], [], ["sparsity"], disk / "run", shard=2)
        except OutputError as error:
            assert "No space left on device" in str(error) and not list(disk.rglob("*.part")), error
            failures += 1
            continue
        break
    for path in sorted((folder / "shards").iterdir()):
        print(path.name, path.read_bytes().hex())
    print(failures)
"""
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.mark.slow
def test_a_disk_too_small_grows_until_the_run_is_whole(tmp_path: Path) -> None:
    """A real file system of some pages, which is full again and again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    trial = [*_NAMESPACE, "mount", "-t", "tmpfs", "-o", "size=8k", "none", str(disk)]
    if shutil.which("unshare") is None or subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    code = textwrap.dedent(
        _SMALL_DISK.format(tests=str(Path(__file__).parents[1]), disk=str(disk), dataset=_SCENES_ON_DISK)
    )
    finished = subprocess.run(
        [*_NAMESPACE, sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    *lines, failures = finished.stdout.splitlines()
    assert int(failures) >= 3
    whole = benchmark(
        "scenes?count=5&size=36&seed=3&objects=2", [build()], [], ["sparsity"], tmp_path / "whole", shard=2
    )
    assert {name: bytes.fromhex(content) for name, content in map(str.split, lines)} == shards(whole)


@pytest.mark.parametrize(("pictures", "shard"), [(1, 1), (10, 1), (16, 1), (17, 2), (40, 3)])
def test_a_short_run_is_cut_into_small_shards(tmp_path: Path, pictures: int, shard: int) -> None:
    """So that little is lost when it is ended."""
    folder = benchmark(f"scenes?count={pictures}&size=36", [build()], [], ["sparsity"], tmp_path / "out")
    assert json.loads((folder / "run.json").read_text())["pictures a shard"] == shard


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    folder = run(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()}
    told: list[int] = []
    run(tmp_path / "out", progress=lambda done, total, what: told.append(done))
    assert {path: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()} == before
    assert not told


def test_only_what_is_missing_or_damaged_is_made_again(tmp_path: Path) -> None:
    folder = run(tmp_path / "out")
    whole = shards(folder)
    names = [name for name in whole if "skipped" not in name]
    (folder / "shards" / names[0]).unlink()
    (folder / "shards" / names[1]).write_bytes(whole[names[1]][:-100])
    told: list[tuple[int, int]] = []
    run(tmp_path / "out", progress=lambda done, total, what: told.append((done, total)))
    assert shards(folder) == whole
    assert told[-1] == (20, 20)  # four pictures of five


def test_other_words_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "out")
    for changed, said in (
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"limit": 3}, "limit was nothing and is 3"),
        ({"methods": ["gradient"]}, "methods was clrp:foil=runner-up,rules=epsilon-plus, gradient and is gradient"),
        ({"dataset": scenes(6)}, "pictures in the data set was 5 and is 6"),
        ({"classes": "predicted"}, "classes was present and is predicted"),
    ):
        with pytest.raises(InputError, match=said):
            run(tmp_path / "out", **changed)


def test_other_weights_under_the_same_name_are_refused(tmp_path: Path) -> None:
    folder = run(tmp_path / "out")
    next((folder / "shards").glob("*.skipped.parquet")).unlink()
    with pytest.raises(InputError, match="the weights of 'toy' are not those"):
        run(tmp_path / "out", models=[build(2)])
    run(tmp_path / "out")


def test_a_data_set_that_was_edited_is_refused(tmp_path: Path) -> None:
    photographs(tmp_path / "data")
    table = tmp_path / "data" / "labels.csv"
    options: dict[str, Any] = {"methods": [], "metrics": ["pointing"]}
    before = table.read_text()
    first, second, *rest = before.splitlines()
    folder = run(tmp_path / "out", dataset=FolderDataset(tmp_path / "data"), **options)
    kept = shards(folder)
    table.write_text("\n".join([first, second.rpartition(",")[0] + ",35", *rest]))
    with pytest.raises(InputError, match=r"another run: data was [0-9a-f]{16} and is [0-9a-f]{16}\. Name another"):
        run(folder, dataset=FolderDataset(tmp_path / "data"), **options)
    assert shards(folder) == kept
    table.write_text(before)
    run(folder, dataset=FolderDataset(tmp_path / "data"), **options)


def test_a_run_that_was_refused_before_its_first_shard_does_not_hinder_the_right_one(tmp_path: Path) -> None:
    nameless, other = build(), build()
    nameless.labels = None
    other.name = "other"
    with pytest.raises(InputError, match="have no names"):
        run(tmp_path / "out", models=[nameless], methods=["gradient"])
    with pytest.raises(InputError, match="neither"):
        run(tmp_path / "out", methods=["lrp:rules=neither"])
    folder = run(tmp_path / "out", models=[other], methods=["gradient"], dataset=scenes(2))
    assert {row["model"] for row in rows(folder)} == {"other"}


def test_a_picture_whose_annotation_is_bad_is_named_by_its_file(tmp_path: Path) -> None:
    photographs(tmp_path / "data")
    table = tmp_path / "data" / "labels.csv"
    lines = table.read_text().splitlines()
    lines[3] = "2.png,star,90,90,99,99"
    table.write_text("\n".join(lines))
    folder = run(tmp_path / "out", dataset=FolderDataset(tmp_path / "data"), methods=[], metrics=["pointing"])
    ((name, reason),) = counts(folder).unusable["toy"]
    assert name == "2.png"
    assert "labels.csv, line 4' has the box (90, 90, 99, 99), which lies outside" in reason


# -- words -------------------------------------------------------------------------------------------------------------


def test_texts_are_split_at_commas_that_are_not_of_options() -> None:
    assert split(["lrp:rules=zero,seed=one,gradient", " clrp ", "gradient"]) == (
        "lrp:rules=zero,seed=one",
        "gradient",
        "clrp",
    )


def test_options_take_the_types_of_their_defaults() -> None:
    assert method_of("clrp:signed=true,foil=runner-up,rules=zero") == (
        vv.CLRP,
        {"signed": True, "foil": "runner-up", "rules": "zero"},
    )
    assert method_of("integrated-gradients:steps=7")[1] == {"steps": 7}
    assert vars(metric_of("ablation:size=3,fill=blur"))["size"] == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clarp", "no method is called 'clarp'"),
        ("clrp:foul=others", "the option 'foul', which there is not; try foil"),
        ("clrp:foil", "'foil' in 'clrp:foil' is no option"),
        ("clrp:signed=yes", "is true or false, not 'yes'"),
        ("clrp:layer=features", "the option 'layer', which there is not"),
        ("integrated-gradients:steps=many", "is of type int, not 'many'"),
        ("clrp:seed=one,seed=score", "gives the option 'seed' twice"),
    ],
)
def test_bad_options_of_methods_are_said_before_anything_is_written(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(tmp_path / "out", methods=[text])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metrics": ["pointing:tolerence=3"]}, "try tolerance"),
        ({"metrics": ["pionting"]}, "there is no metric 'pionting'; try pointing"),
        ({"metrics": []}, "at least one metric"),
        ({"models": []}, "at least one model"),
        ({"models": [build(), build()]}, "two models are called 'toy'"),
        ({"limit": 0}, "at least 1, not 0"),
        ({"shard": 0}, "at least 1, not None and 0"),
        ({"seed": -1}, "from 0, not -1"),
        ({"classes": "all"}, "there is no choice of classes 'all'"),
    ],
)
def test_bad_arguments_are_said(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(tmp_path / "out", **changed)
    assert not (tmp_path / "out").exists()


def test_cost_is_on_request() -> None:
    assert "cost" not in usual_metrics()
    assert {"pointing", "deletion", "road"} <= set(usual_metrics())
    assert list(baselines()) == BASELINES

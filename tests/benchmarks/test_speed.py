"""The speed benchmark: that it races what it says it races, and says who cannot. Times are not tested."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from benchmarks.scripts import script

#: The command line, called with these words.
Speed = Callable[..., None]


@pytest.fixture(scope="module")
def speed() -> ModuleType:
    return script("speed")


@pytest.fixture(scope="module")
def race(speed: ModuleType) -> ModuleType:
    return inspect.getmodule(speed.race)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def results(speed: ModuleType) -> ModuleType:
    return inspect.getmodule(speed.Result)  # type: ignore[return-value]


def network(name: str = "") -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


@pytest.fixture
def call(speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Speed:
    """Call the command line, with a tiny network in the place of every model, on small pictures."""
    monkeypatch.setattr(speed, "network", network)
    small = ["--models", "vgg16", "--batch", "1", "--repeats", "2", "--threads", "1", "--sides", "12"]

    def called(*words: object, racing: Sequence[str] = ("Visavis CLRP",)) -> None:
        only = ["--contestants", *racing] if racing else []
        monkeypatch.setattr("sys.argv", ["speed.py", *small, *only, *map(str, words)])
        threads = torch.get_num_threads()
        try:
            speed.main()
        finally:
            torch.set_num_threads(threads)

    return called


def rows_of(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]


# -- a run -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_race_writes_a_row_for_each_contestant_batch_side_and_number_of_maps(call: Speed, tmp_path: Path) -> None:
    place = tmp_path / "speed.md"
    racing = ("Visavis CLRP", "Visavis Gradient")
    call("--batch", 1, 2, "--maps", 1, 3, "--sides", 12, 9, "--output", place, racing=racing)
    rows = rows_of(place.read_text())
    assert rows[0][:6] == ["model", "batch", "maps", "side", "contestant", "cost in F, median"]
    expected = [
        ["vgg16", batch, maps, side, title]
        for side in ("12", "9")
        for batch in ("1", "2")
        for maps in ("1", "3")
        for title in ("forward pass F", *racing)
    ]
    assert [row[:5] for row in rows[2:]] == expected
    assert all(float(row[5]) > 0 and math.isfinite(float(row[7])) for row in rows[2:])
    assert "--batch 1 2 --maps 1 3 --sides 12 9 --models vgg16" in place.read_text()


def test_images_per_second_are_those_of_the_median_time(results: ModuleType) -> None:
    row = results.Result(results.Case("vgg16", 8, 10, 224), "Visavis CLRP", (3.0, 5.0, 4.0), (0.5, 2.0, 0.4))
    assert row.images_per_second == 16
    assert row.cells()[-4:] == ("4.00", "3.00 to 5.00", "500.0", "16")


def test_all_contestants_of_a_cpu_race_and_those_of_a_gpu_do_not(
    call: Speed, speed: ModuleType, tmp_path: Path
) -> None:
    call("--json", tmp_path / "a.json", "--repeats", 1, racing=())
    measured = speed.from_json(tmp_path / "a.json")
    titles = [row.title for row in measured.results]
    assert titles[0] == "forward pass F"
    assert "authors' algorithm" in titles
    assert not [title for title in titles if "graph" in title or "compiled" in title]
    # It knows no nn.Flatten.
    assert [row.title for row in measured.results if row.absent] == ["captum LRP, no contrast"]


def test_a_contestant_of_the_gpu_that_is_asked_for_on_a_cpu_says_so(call: Speed, tmp_path: Path) -> None:
    call("--output", tmp_path / "a.md", racing=["Visavis LRP, graph"])
    assert rows_of((tmp_path / "a.md").read_text())[-1][5] == "needs the device cuda"


def test_a_model_of_one_side_says_so(call: Speed, tmp_path: Path) -> None:
    call("--models", "vit_b_16", "--sides", 12, "--output", tmp_path / "a.md")
    assert rows_of((tmp_path / "a.md").read_text())[-1][5] == "the model takes images of 224 px only"


def test_channels_last_reaches_weights_and_pictures(
    call: Speed, speed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool]] = []

    def looked_at(module: nn.Sequential, case: object, inputs: Tensor, *rest: object) -> list[object]:
        last = torch.channels_last
        seen.append(
            (module[0].weight.is_contiguous(memory_format=last), inputs.is_contiguous(memory_format=last))  # type: ignore
        )
        return []

    monkeypatch.setattr(speed, "race", looked_at)
    call()
    call("--channels-last")
    assert seen == [(False, False), (True, True)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--maps", "0"], "at least 1"),
        (["--sides", "0"], "at least 1"),
        (["--limit", "0"], "above 0"),
        (["--at-most", "Visavis CLRP"], "TITLE=COST"),
        (["--at-most", "Visavis CLPR=3"], "Visavis CLPR=3"),
        (["--at-most", "Visavis CLRP=-3"], "TITLE=COST"),
        (["--plot", "a.txt"], ".svg"),
        (["--page", "a.md"], "--from"),
        (["--from", "a.json"], "--page"),
        (["--page", "a.md", "--from", "nowhere.json"], "cannot be read"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_timed(
    call: Speed, speed: ModuleType, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setattr(speed, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit, match=said):
        call(*words)


# -- bars ------------------------------------------------------------------------------------------------------------


def test_a_bar_that_is_kept_ends_well_and_one_that_is_not_says_what_was_measured(call: Speed, tmp_path: Path) -> None:
    call("--at-most", "Visavis CLRP=1e9")
    with pytest.raises(SystemExit, match=r"Visavis CLRP on vgg16 .* costs .* F, more than 0\.001"):
        call("--at-most", "Visavis CLRP=0.001", "--json", tmp_path / "a.json")
    assert (tmp_path / "a.json").exists(), "the figures are kept all the same"


def test_a_bar_is_not_kept_by_a_contestant_without_a_figure(results: ModuleType) -> None:
    case = results.Case("vgg16", 1, 1, 224)
    rows = [results.Result(case, "A", absent="out of memory"), results.Result(case, "B", (4.0,), (1.0,))]
    assert results.above(rows, {"A": 9}) == ["A on vgg16 (batch 1, maps 1, 224 px) has no figure: out of memory"]
    assert results.above(rows, {"B": 3.9}) == ["B on vgg16 (batch 1, maps 1, 224 px) costs 4.00 F, more than 3.9"]
    assert results.above(rows, {"B": 4}) == []


# -- what is timed ---------------------------------------------------------------------------------------------------


def test_several_maps_are_those_of_one_call_each(race: ModuleType) -> None:
    module, inputs = network(), torch.randn(2, 3, 9, 9)
    targets = [torch.tensor([0, 1]), torch.tensor([4, 2]), torch.tensor([3, 3])]
    calls: list[Tensor] = []

    class Counted(vv.CLRP):
        def attribute(self, inputs: Tensor, target: object = None, **options: object) -> Tensor:
            calls.append(inputs)
            result: Tensor = super().attribute(inputs, target, **options)  # type: ignore[arg-type]
            return result

    together = race.each(Counted(module).attribute, inputs, targets)
    assert not calls
    alone = race.each(lambda x, target: vv.CLRP(module).attribute(x, target), inputs, targets)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)
    assert len(alone) == 3


def test_maps_are_of_the_strongest_class_and_of_different_ones(race: ModuleType) -> None:
    module, inputs = network(), torch.randn(2, 3, 9, 9)
    targets = race.targets_of(module, inputs, 5)
    assert torch.equal(targets[0], module(inputs).argmax(1))
    assert torch.stack(targets).sort(0).values.T.tolist() == [[0, 1, 2, 3, 4]] * 2


def broken(error: Exception) -> Callable[[nn.Module, str], Callable[..., Tensor]]:
    def fails(*_: object) -> Tensor:
        raise error

    return lambda module, name: fails


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (MemoryError(), "out of memory"),
        (TypeError("no rule for\n <class 'x|y'>"), "raises TypeError: no rule for <class 'x|y'>"),
    ],
)
def test_a_contestant_that_fails_is_a_row_that_says_so_and_the_others_race_on(
    speed: ModuleType, race: ModuleType, error: Exception, said: str
) -> None:
    first, second = (one for one in speed.CONTESTANTS if one.title in ("Visavis LRP", "Visavis Gradient"))
    failing = type(first)("failing", "visavis", broken(error), "")
    rows = raced(speed, race, [first, failing, second])
    assert [row.absent for row in rows] == ["", "", said, ""]
    assert [len(row.ratios) for row in rows[1:]] == [2, 0, 2]


def raced(
    speed: ModuleType, race: ModuleType, contestants: Sequence[object], limit: float = 60, maps: int = 1, batch: int = 2
) -> list[object]:
    inputs = speed.pictures(batch, 12)
    case = speed.Case("vgg16", batch, maps, 12)
    with speed.Progress(disable=True) as progress:
        rows: list[object] = race.race(network(), case, inputs, contestants, race.Timing(2, "wall", limit), progress)
    return rows


def test_one_that_fails_in_a_later_round_has_no_figure(speed: ModuleType, race: ModuleType) -> None:
    calls: list[int] = []

    def second_call_fails(inputs: Tensor, target: Tensor) -> Tensor:
        calls.append(len(calls))
        if len(calls) > 2:
            raise MemoryError
        return inputs

    one = type(speed.CONTESTANTS[0])("late", "visavis", lambda module, name: second_call_fails, "")
    rows = raced(speed, race, [one, speed.CONTESTANTS[0]])
    assert [row.absent for row in rows] == ["", "out of memory", ""]  # type: ignore[attr-defined]
    assert len(calls) == 3


def test_a_forward_pass_that_fails_leaves_no_figures(speed: ModuleType, race: ModuleType) -> None:
    with speed.Progress(disable=True) as progress:
        case, inputs = speed.Case("vgg16", 1, 1, 2), speed.pictures(1, 2)
        rows = race.race(network(), case, inputs, speed.CONTESTANTS[:1], race.Timing(), progress)
    assert [row.title for row in rows] == ["forward pass F", "Visavis CLRP"]
    assert all(row.absent.startswith("the forward pass has no figure: raises RuntimeError") for row in rows)


@pytest.mark.slow
def test_what_takes_longer_than_the_limit_is_not_timed(speed: ModuleType, race: ModuleType) -> None:
    (zennit,) = (one for one in speed.CONTESTANTS if one.package == "zennit")
    (row,) = raced(speed, race, [zennit], limit=1e-9)[1:]
    assert "takes more than 1e-09 s" in row.absent or "take too long" in row.absent  # type: ignore[attr-defined]
    (row,) = raced(speed, race, [zennit], limit=1e-9, maps=3)[1:]
    assert row.absent == "3 maps take too long: the time was up after 0"  # type: ignore[attr-defined]


def test_a_peer_that_is_not_installed_is_absent(speed: ModuleType, race: ModuleType) -> None:
    one = type(speed.CONTESTANTS[0])("peer", "no_such_package", broken(ValueError()), "")
    assert raced(speed, race, [one])[1].absent == "no_such_package is not installed"  # type: ignore[attr-defined]


def test_an_execution_is_handed_on_where_the_method_knows_it(speed: ModuleType) -> None:
    contestants = inspect.getmodule(speed.titles)
    seen: list[dict[str, object]] = []

    class Knows(vv.CLRP):
        def __init__(self, module: nn.Module, *, execution: str = "auto", **options: object) -> None:
            seen.append({"execution": execution, **options})
            super().__init__(module, **options)  # type: ignore[arg-type]

    class KnowsNot(vv.LRP):
        def __init__(self, module: nn.Module, *, rules: str | None = None) -> None:
            super().__init__(module, rules=rules)

    contestants._executed("graph", Knows, network(), "vgg16")  # type: ignore[union-attr]
    assert seen[0]["execution"] == "graph"
    assert seen[0]["foil"] == "others"
    with pytest.raises(contestants.Absent, match='no execution="compiled"'):  # type: ignore[union-attr]
        contestants._executed("compiled", KnowsNot, network(), "vgg16")  # type: ignore[union-attr]


def test_on_a_gpu_each_way_to_execute_has_a_row(speed: ModuleType) -> None:
    ways = ["Visavis CLRP, graph", "Visavis CLRP, compiled", "Visavis LRP, graph", "Visavis LRP, compiled"]
    assert [title for title in speed.titles("cuda") if title not in speed.titles("cpu")] == ways


def test_the_bound_on_memory_ends_with_the_run(race: ModuleType) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(ZeroDivisionError), race.memory_bounded(torch.device("cpu")):
        raise ZeroDivisionError
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="only Linux ends a process that takes too much")
def test_more_memory_than_there_is_raises(race: ModuleType) -> None:
    with race.memory_bounded(torch.device("cpu")):
        found, why = race.tried(lambda: torch.empty(1 << 44))
    assert (found, why) == (None, "out of memory")


# -- the authors' algorithm ------------------------------------------------------------------------------------------


def small_vgg() -> nn.Sequential:
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
    )
    classifier = nn.Sequential(nn.Linear(72, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, 7))
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(3), nn.Flatten(), classifier).double().eval()


def test_the_authors_map_is_that_of_clrp(speed: ModuleType) -> None:
    contestants = inspect.getmodule(speed.titles)
    module = small_vgg()
    inputs = speed.pictures(3, 16).double()
    target = torch.tensor([0, 3, 6])
    ours = vv.CLRP(module, foil="others", rules="deep-taylor", bounds=(-2.1179, 2.64)).attribute(inputs, target)
    theirs = contestants._authors(module, "vgg16")(inputs, target)  # type: ignore[union-attr]
    # The 1e-9 in their denominators is felt where these are small.
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-6 * float(ours.max()))
    assert 0.1 < float((ours > 0).double().mean()) < 0.9
    swapped = contestants._authors(module, "vgg16")(inputs, target.flip(0))  # type: ignore[union-attr]
    assert not torch.allclose(swapped, ours)


def test_the_authors_algorithm_takes_networks_of_one_path_alone(speed: ModuleType) -> None:
    from torchvision import models

    contestants = inspect.getmodule(speed.titles)
    authors = inspect.getmodule(contestants.TwoPasses)  # type: ignore[union-attr]
    with torch.device("meta"):
        layers = authors.layers_of(models.vgg11())  # type: ignore[union-attr]
        others = (models.resnet18(), models.convnext_tiny(), models.vgg11_bn())
    assert [type(layer).__name__ for layer in layers if not isinstance(layer, nn.ReLU | nn.Dropout)] == [
        *("Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d", *("Conv2d", "Conv2d", "MaxPool2d") * 3),
        *("AdaptiveAvgPool2d", "Flatten", "Linear", "Linear", "Linear"),
    ]
    for module in others:
        with pytest.raises(contestants.Absent, match="one path"):  # type: ignore[union-attr]
            contestants._authors(module, "")  # type: ignore[union-attr]


# -- what is made of it ----------------------------------------------------------------------------------------------


def test_a_run_is_read_back_as_it_was_written(call: Speed, speed: ModuleType, tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    call("--json", place, racing=["Visavis CLRP", "Visavis LRP, compiled"])
    measured = speed.from_json(place)
    assert speed.as_json(measured) == place.read_bytes()
    assert "torch" in measured.machine.versions
    assert "1 thread, float32" in measured.machine.settings
    assert measured.results[-1].absent
    place.write_text('{"results": []}')
    with pytest.raises(vv.InputError, match="holds no run"):
        speed.from_json(place)


@pytest.mark.parametrize("name", ["a.svg", pytest.param("a.png", marks=pytest.mark.slow)])
def test_a_plot_has_a_panel_for_what_was_varied(call: Speed, speed: ModuleType, tmp_path: Path, name: str) -> None:
    call("--batch", 1, 2, "--maps", 1, 2, "--plot", tmp_path / name, "--json", tmp_path / "a.json")
    start = (tmp_path / name).read_bytes()[:60]
    assert b"PNG" in start or b"<?xml" in start
    measured = speed.from_json(tmp_path / "a.json")
    page = speed.figure([measured])
    axes = [one for part in page.subfigs for one in part.axes if one.get_visible()]
    assert [one.get_xlabel() for one in axes] == ["images in a batch", "maps of each image, K"]
    assert [one.get_title(loc="left") for one in axes] == ["VGG16: K = 1, 12 px", "VGG16: batch 1, 12 px"]
    costs = {row.case: row.cost for row in measured.results if row.title == "Visavis CLRP"}
    drawn = [line.get_ydata() for line in axes[1].lines if len(line.get_xdata()) == 2][-1]
    expected = [costs[speed.Case("vgg16", 1, maps, 12)] / maps for maps in (1, 2)]
    assert list(drawn) == expected, "costs are per map"


def test_a_plot_of_one_case_is_refused(call: Speed, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="at least two values"):
        call("--plot", tmp_path / "a.svg")


def with_machine(place: Path, name: str) -> Path:
    held = json.loads(place.read_text())
    held["machine"]["name"] = name
    other = place.with_name(f"{place.stem} {name}.json")
    other.write_text(json.dumps(held))
    return other


@pytest.mark.slow
def test_a_page_has_a_section_and_a_figure_for_each_machine(
    call: Speed, speed: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    call("--batch", 1, 2, "--json", first, racing=["Visavis CLRP", "Visavis LRP, graph"])
    call("--maps", 2, "--json", second)
    runs = [with_machine(first, "Chip A"), with_machine(second, "Chip A"), with_machine(second, "Chip B")]
    page = tmp_path / "speed.md"
    monkeypatch.setattr("sys.argv", ["speed.py", "--page", str(page), "--from", *map(str, runs)])
    speed.main()
    text = page.read_text()
    assert [line.split(":")[0] for line in text.splitlines() if line.startswith("## ")] == ["## Chip A", "## Chip B"]
    assert "(speed-chip-a.svg)" in text
    assert (tmp_path / "speed-chip-a.svg").exists()
    assert not (tmp_path / "speed-chip-b.svg").exists(), "nothing was varied on it"
    assert "These are figures of a CPU" in text
    overview = [row for row in rows_of(text) if row[0] == "VGG16"]
    assert [row[1:4] for row in overview] == [["12", "1", "1"], ["12", "1", "2"], ["12", "2", "1"], ["12", "2", "1"]]
    assert overview[0][-1] == "–", "it has no figure on a CPU"
    assert "needs the device cuda" in text


def test_of_a_contestant_measured_twice_the_last_counts(results: ModuleType) -> None:
    case, machine = results.Case("vgg16", 1, 1, 224), results.Machine("chip", "1 thread", "torch 2")
    runs = [results.Measured(machine, 1, "", (results.Result(case, "A", (cost,), (1.0,)),)) for cost in (2.0, 3.0)]
    assert [row.cost for row in results.merged(runs)] == [3.0]
    other = results.Measured(results.Machine("chip", "2 threads", "torch 2"), 1, "", ())
    with pytest.raises(vv.InputError, match="one machine"):
        results.merged([*runs, other])


def test_an_error_in_a_table_stays_in_its_cell(results: ModuleType) -> None:
    row = results.Result(results.Case("vgg16", 1, 1, 224), "A", absent="raises E: <class 'x'> | `y`")
    line = results.table([row]).splitlines()[-1]
    assert r"raises E: &lt;class 'x'> \| \`y\`" in line


def test_panels_stand_in_the_order_of_the_models(speed: ModuleType, results: ModuleType) -> None:
    plot = inspect.getmodule(speed.figure)
    rows = [
        results.Result(results.Case(model, batch, 1, 224), "Visavis CLRP", (3.0,), (1.0,))
        for model in ("vit_b_16", "resnet50", "vgg16")
        for batch in (1, 8)
    ]
    found = plot.panels(rows)  # type: ignore[union-attr]
    assert [panel.title() for panel in found] == [
        f"{name}: K = 1, 224 px" for name in ("VGG16", "ResNet50", "ViT-B/16")
    ]

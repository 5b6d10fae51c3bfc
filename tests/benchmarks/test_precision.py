"""The benchmark of precision: that an error is what it is said to be, and what the tables hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from benchmarks.scripts import script

#: The command line, called with these words.
Precision = Callable[..., None]
CPU = torch.device("cpu")
COLUMNS = ["model", "precision", "execution", "LRP", "CLRP", "CLRP beside LRP"]


@pytest.fixture(scope="module")
def precision() -> ModuleType:
    return script("precision")


@pytest.fixture
def call(precision: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Precision:
    """Call the command line, with a tiny network for every model, and noise for photographs."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(196, 5)).eval().double()
    monkeypatch.setattr(precision, "network", lambda name, classifier: module)
    inputs = torch.rand(2, 3, 9, 9)
    monkeypatch.setattr(precision, "photographs", lambda folder, count: (SimpleNamespace(bounds=(0.0, 1.0)), inputs))

    def called(*words: object) -> None:
        monkeypatch.setattr("sys.argv", ["precision.py", "--models", "vgg16", *map(str, words)])
        precision.main()

    return called


def rows_of(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]


# -- the error -------------------------------------------------------------------------------------------------------

# Of three photographs, the plain map and the contrast: exact, and computed with less precision.
EXACT = ([[3.0, 4.0], [6.0, 8.0], [0.0, 2.0]], [[0.0, 0.5], [2.0, 0.0], [0.0, -4.0]])
ROUNDED = ([[3.0, 4.5], [9.0, 12.0], [0.0, 2.4]], [[0.25, 0.5], [2.0, 0.1], [0.0, -3.0]])
# ‖R − R₆₄‖ = 0.5, 5, 0.4 of 5, 10, 2; and 0.25, 0.1, 1 of 0.5, 2, 4.


@pytest.fixture
def by_hand(precision: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.dtype, torch.dtype, str]]:
    """Have float64 give the exact maps, and the others the rounded ones; return what was asked for."""
    asked: list[tuple[torch.dtype, torch.dtype, str]] = []

    def maps(
        module: nn.Module, inputs: Tensor, targets: Tensor, bounds: object, execution: str
    ) -> tuple[Tensor, Tensor]:
        asked.append((next(module.parameters()).dtype, inputs.dtype, execution))
        found = EXACT if inputs.dtype == torch.float64 else ROUNDED
        plain, contrast = (torch.tensor(each, dtype=torch.float64) for each in found)
        return plain, contrast

    monkeypatch.setattr(precision, "maps", maps)
    monkeypatch.setattr(precision, "network", lambda name, classifier: nn.Linear(2, 2).double())
    return asked


def test_an_error_is_the_size_of_the_difference_over_that_of_the_exact_map(
    precision: ModuleType, by_hand: list[tuple[torch.dtype, torch.dtype, str]]
) -> None:
    classifier = SimpleNamespace(bounds=None)
    rows = list(precision.measured("vgg16", classifier, torch.zeros(3, 2), CPU, ["eager"]))
    assert [row.precision for row in rows] == ["float32", "bfloat16", "float16"], "TF32 is a GPU's"
    for row in rows:
        assert row.lrp == pytest.approx((0.2, 0.5)), "0.1, 0.5 and 0.2: the median and the greatest"
        assert row.clrp == pytest.approx((0.25, 0.5)), "0.5, 0.05 and 0.25"
        assert row.beside == pytest.approx((0.05, 0.5)), "0.25 / 5, 0.1 / 10 and 1 / 2"
    assert rows[0].cells() == (
        "vgg16",
        "float32",
        "eager",
        "2.0e-01 (5.0e-01)",
        "2.5e-01 (5.0e-01)",
        "5.0e-02 (5.0e-01)",
    )


def test_model_and_inputs_are_converted_and_each_execution_is_measured(
    precision: ModuleType, by_hand: list[tuple[torch.dtype, torch.dtype, str]]
) -> None:
    classifier = SimpleNamespace(bounds=None)
    rows = list(precision.measured("vgg16", classifier, torch.zeros(3, 2), CPU, ["eager", "compiled"]))
    executions = [(row.precision, row.execution) for row in rows]
    assert executions[:3] == [("float32", "eager"), ("float32", "compiled"), ("bfloat16", "eager")]
    dtypes = [torch.float32, torch.bfloat16, torch.float16]
    expected = [(dtype, dtype, execution) for dtype in dtypes for execution in ("eager", "compiled")]
    assert by_hand == [(torch.float64, torch.float64, "eager"), *expected], "compared with float64, run eagerly"


def test_the_maps_are_those_of_lrp_and_of_signed_clrp(precision: ModuleType) -> None:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(196, 5)).eval().double()
    inputs, targets = torch.rand(2, 3, 9, 9, dtype=torch.float64), torch.tensor([1, 4])
    plain, contrast = precision.maps(module, inputs, targets, (0.0, 1.0), "eager")
    options = {"rules": "deep-taylor", "bounds": (0.0, 1.0)}
    torch.testing.assert_close(plain, vv.LRP(module, **options).attribute(inputs, targets))
    torch.testing.assert_close(contrast, vv.CLRP(module, signed=True, **options).attribute(inputs, targets))
    assert float(contrast.min()) < 0 < float(contrast.max())


def test_tf32_is_allowed_for_its_row_alone_and_as_it_was_afterwards(precision: ModuleType) -> None:
    def allowed() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = allowed()
    seen = {}
    for one in precision.PRECISIONS:
        with precision.rounding(one):
            seen[one.title] = allowed()
    assert [title for title, both in seen.items() if both == (True, True)] == ["float32, TF32"]
    assert [title for title, both in seen.items() if both == (False, False)] == ["float32", "bfloat16", "float16"]
    with pytest.raises(ZeroDivisionError), precision.rounding(precision.PRECISIONS[1]):
        raise ZeroDivisionError
    assert allowed() == before


# -- what is written -------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_model_and_precision_and_the_command(call: Precision, tmp_path: Path) -> None:
    call("--models", "vgg16", "resnet50", "--output", tmp_path / "a.md")
    text = (tmp_path / "a.md").read_text()
    rows = rows_of(text)
    assert rows[0] == COLUMNS
    precisions = ("float32", "bfloat16", "float16")
    expected = [[model, title, "eager"] for model in ("vgg16", "resnet50") for title in precisions]
    assert [row[:3] for row in rows[2:]] == expected
    assert all(re.fullmatch(r"\d\.\de-\d\d \(\d\.\de-\d\d\)", cell) for row in rows[2:] for cell in row[3:])
    assert "2 photographs. Made by `python benchmarks/precision.py --device cpu --models vgg16 resnet50" in text


def test_the_json_holds_the_numbers_of_the_table(call: Precision, tmp_path: Path) -> None:
    call("--output", tmp_path / "a.json")
    call("--output", tmp_path / "a.md")
    held = json.loads((tmp_path / "a.json").read_text())
    assert [row["precision"] for row in held["rows"]] == ["float32", "bfloat16", "float16"]
    cells = [row[3:] for row in rows_of((tmp_path / "a.md").read_text())[2:]]
    said = [[f"{row[key][0]:.1e} ({row[key][1]:.1e})" for key in ("lrp", "clrp", "beside")] for row in held["rows"]]
    assert said == cells
    errors = [row["lrp"][0] for row in held["rows"]]
    assert 0 < errors[0] < 1e-5 < errors[2] < errors[1] < 0.1, "float16 has more digits than bfloat16"
    assert "2 photographs" in held["made_on"]


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--count", "0"], "--count"),
        (["--output", "nowhere/a.md"], "nowhere"),
        (["--output", "a.txt"], ".md, .json"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_measured(
    call: Precision, precision: ModuleType, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setattr(precision, "measured", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit, match=said) as ended:
        call(*words)
    assert re.fullmatch(r"precision\.py: [^\n]+", str(ended.value.code)), "a sentence as the code: the status is 1"


@pytest.mark.parametrize(
    "words", [["--models", "vgg61"], ["--executions", "slow"], ["--pictures"]], ids=["model", "execution", "no folder"]
)
def test_unknown_words_are_refused(call: Precision, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call(*words)
    assert ended.value.code == 2


def test_a_folder_without_photographs_is_refused(
    precision: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(precision.vv, "load_model", lambda *_, **__: SimpleNamespace(prepare=None))
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(vv.InputError, match=r"holds no \.jpg or \.png"):
        precision.photographs(tmp_path, 8)
    with pytest.raises(vv.InputError, match=r"nowhere' cannot be read \(No such file"):
        precision.photographs(tmp_path / "nowhere", 8)


def test_so_many_photographs_of_a_folder_are_taken_in_their_order(
    precision: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("c.png", "a.JPG", "b.jpeg", "0.txt"):
        (tmp_path / name).touch()
    prepared: list[str] = []

    def prepare(path: Path) -> Tensor:
        prepared.append(path.name)
        return torch.zeros(1, 3, 2, 2)

    monkeypatch.setattr(precision.vv, "load_model", lambda *_, **__: SimpleNamespace(prepare=prepare))
    assert len(precision.photographs(tmp_path, 2)[1]) == 2
    assert prepared == ["a.JPG", "b.jpeg"]


# -- for real --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_a_photograph_single_precision_is_exact_and_half_precision_close(
    precision: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("skimage")
    from visavis.demo import demo_picture

    demo_picture().save(tmp_path / "demo.png")
    words = ["--models", "efficientnet_lite0", "--pictures", str(tmp_path), "--output", str(tmp_path / "a.json")]
    monkeypatch.setattr("sys.argv", ["precision.py", *words])
    precision.main()
    held = json.loads((tmp_path / "a.json").read_text())
    assert "1 photograph" in held["made_on"]
    errors = {row["precision"]: row for row in held["rows"]}
    for key in ("lrp", "clrp", "beside"):
        median, greatest = errors["float32"][key]
        assert 0 < median == greatest < 1e-4, "of one photograph they are the same"
        assert 1e-4 < errors["bfloat16"][key][0] < 0.5
        assert 1e-4 < errors["float16"][key][0] < 0.5

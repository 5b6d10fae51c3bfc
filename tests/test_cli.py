"""The command line: results on standard output, errors in one sentence with status 1, nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import visavis as vv
from visavis import cli
from visavis.explanation import Explanation
from visavis.labels import read_labels
from visavis.models.preprocessing import CentreCrop

NAMES = ["cat", "dog", "cup", "zebra", "house", "lemon"]
PNG = b"\x89PNG\r\n\x1a\n"


def to_tensor(picture):
    return torch.from_numpy(np.asarray(picture.resize((20, 16)), dtype=np.float32) / 255).permute(2, 0, 1)


def toy():
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6))
    return vv.Classifier(module.eval(), preprocess=to_tensor, labels=NAMES, bounds=(0.0, 1.0), name="toy")


@pytest.fixture
def classifier(monkeypatch):
    """A quick model, that the command line gets whatever it asks for."""
    classifier = toy()
    monkeypatch.setattr(vv, "load_model", lambda name, **options: classifier)
    return classifier


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Each test works in a folder of its own, on a wide page without colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


def photograph(path, seed=0, size=(40, 32)):
    generator = np.random.default_rng(seed)
    coarse = PIL.Image.fromarray(generator.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize(size, PIL.Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def photo(place):
    return photograph(place / "photo.png")


@pytest.fixture
def folder(place):
    for i, name in enumerate(("a.png", "b.jpg", "c.png")):
        photograph(place / "folder" / name, seed=i)
    return place / "folder"


@pytest.fixture
def shell(monkeypatch, capfd):
    """Runs the command line in this process; gives status, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["visavis", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as ending:
            status = ending.code
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def refused(answer, *words, status=1):
    """That a run ended in one sentence; gives it."""
    code, out, err = answer
    assert code == status
    assert out == ""
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("visavis: ")
    for word in words:
        assert word in lines[0]
    return lines[0]


def written(folder="."):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def is_png(path):
    with PIL.Image.open(path) as picture:
        picture.load()
        return picture.format == "PNG" and picture.width > 500


SHELL = "from visavis.cli import main; main()"
TOY_SHELL = f"""
import numpy as np, torch, visavis as vv
from torch import nn
torch.manual_seed(1)
def to_tensor(picture):
    return torch.from_numpy(np.asarray(picture.resize((20, 16)), dtype=np.float32) / 255).permute(2, 0, 1)
module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6))
model = vv.Classifier(module.eval(), preprocess=to_tensor, labels={NAMES}, bounds=(0.0, 1.0))
vv.load_model = lambda name, **options: model
{SHELL}
"""


def visavis(*arguments, code=SHELL, **options):
    """The command line in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    settings = {"capture_output": True, "timeout": 120, "text": True}
    return subprocess.run(command, check=False, **(settings | options))


def started(*arguments, code=SHELL, **options):
    """The same, while it runs. Ctrl-C works also where the tests themselves run in the background, deaf to it."""
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + code
    return subprocess.Popen([sys.executable, "-c", listening, *arguments], stderr=subprocess.PIPE, **options)


# ------------------------------------------------------------------------------------------------------- one photograph


def test_one_photograph(classifier, shell, photo):
    status, out, err = shell("explain", photo, "--target", "cup", "--foil", "dog")
    why = vv.explain(classifier, photo, "cup", "dog")
    assert status == 0
    assert err == ""
    assert "Why cup, and not dog?" in out
    assert "written: photo-why.png" in out
    for answer in why.top[0]:
        mark = " ← explained" if answer.name == "cup" else ""
        assert f"{100 * answer.probability:.1f} %  {answer.name}{mark}\n" in out
    assert f"{100 * float(why.conserved[0]):.0f} % of the relevance reached the pixels" in out
    assert is_png("photo-why.png")
    assert written() == ["photo-why.png", "photo.png"]


def test_the_classes_asked_for_are_listed(monkeypatch, shell, photo):
    torch.manual_seed(1)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 12))
    classifier = vv.Classifier(module.eval(), preprocess=to_tensor, labels=[f"thing {i:02}" for i in range(12)])
    monkeypatch.setattr(vv, "load_model", lambda name, **options: classifier)
    probabilities = classifier(classifier.prepare(photo)).detach().softmax(1)[0]
    ranked = probabilities.argsort(descending=True).tolist()
    _, out, _ = shell("explain", photo, "--target", ranked[-1], "--foil", ranked[-2])
    rows = [line.split("%")[1].strip() for line in out.splitlines() if "%  " in line]
    expected = [classifier.label(i) for i in (*ranked[:5], ranked[-1], ranked[-2])]
    assert rows == [*expected[:5], f"{expected[5]} ← explained", expected[6]]
    for i in ranked[-2:]:
        assert f"{100 * float(probabilities[i]):5.1f} %  {classifier.label(i)}" in out


@pytest.mark.parametrize(
    ("target", "rest"),
    [
        ("house", "; the rest was absorbed on the way (--ledger says where)"),
        ("cup", "; more than all of it was absorbed on the way (--ledger says where)"),
    ],
)
def test_what_became_of_the_rest_is_said(classifier, shell, photo, target, rest):
    share = float(vv.explain(classifier, photo, target, rules="epsilon").conserved[0])
    assert (0 < share < 0.99) == (target == "house")
    _, out, _ = shell("explain", photo, "--target", target, "--rules", "epsilon")
    assert f"  {100 * share:.0f} % of the relevance reached the pixels{rest}\n" in out
    assert "reached the pixels\n" in shell("explain", photo, "--target", target)[1]  # deep-taylor: all of it


def test_results_go_to_standard_output(classifier, shell, photo, folder):
    for arguments in ((photo,), (folder, "-o", "out")):
        status, out, err = shell("explain", *arguments)
        assert status == 0
        assert "written: " in out
        assert "written: " not in err


def test_the_panel_is_that_of_the_library(classifier, shell, photo):
    shell("explain", photo, "--target", "cup", "--foil", "dog", "-o", "why.png")
    vv.explain(classifier, photo, "cup", "dog").save("library.png")
    assert Path("why.png").read_bytes() == Path("library.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["--target", "n02123045"], None),
        (["--target", "2"], {"target": 2}),
        (["--target", "cup", "--foil", "dog; zebra"], {"target": "cup", "foil": ["dog", "zebra"]}),
        (["--target", "cup", "--foil", "1"], {"target": "cup", "foil": 1}),
        (["--foil", "negated"], {"foil": "negated"}),
        (["--foil", "runner-up"], {"foil": "runner-up"}),
        (["--signed"], {"signed": True}),
        (["--normalize", "sum"], {"normalize": "sum"}),
        (["--rules", "epsilon"], {"rules": "epsilon"}),
        (["--method", "gradient"], {"method": "gradient"}),
        (["--layer", "0"], {"layer": "0"}),
        (["--layer", "0", "--unit", "2", "--foil", "1;3"], {"layer": "0", "unit": 2, "foil": [1, 3]}),
        (["--layer", "0", "--unit", "2", "--foil", "runner-up"], {"layer": "0", "unit": 2, "foil": "runner-up"}),
        (["--layer", "0", "--unit", "2", "--position", "3, 5"], {"layer": "0", "unit": 2, "position": (3, 5)}),
        (["--layer", "0", "--unit", "2", "--position", "3,5,"], {"layer": "0", "unit": 2, "position": (3, 5)}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_reach_the_library(classifier, shell, photo, options, asked):
    answer = shell("explain", photo, "-o", "why.safetensors", *options)
    if asked is None:
        refused(answer, "n02123045")
        return
    assert answer[0] == 0
    expected, read = vv.explain(classifier, photo, **asked), Explanation.load("why.safetensors")
    assert torch.equal(read.relevance, expected.relevance)
    assert read.as_dict() == expected.as_dict()
    assert read.relevance.abs().sum() > 0


def test_json_is_what_the_library_says(classifier, shell, photo):
    status, out, err = shell("explain", photo, "--target", "cup", "--json")
    (result,) = json.loads(out)["results"]
    expected = vv.explain(classifier, photo, "cup").as_dict()
    assert status == 0
    assert err == ""
    assert result == {
        "photo": str(photo),
        "panel": "photo-why.png",
        **expected["pictures"][0],
        "settings": expected["settings"],
    }
    assert json.loads(out)["failures"] == []


def test_the_ledger_when_asked(classifier, shell, photo):
    expected = vv.explain(classifier, photo, "cup").ledger
    _, out, _ = shell("explain", photo, "--target", "cup", "--ledger")
    assert str(expected) in out
    (result,) = json.loads(shell("explain", photo, "--target", "cup", "--ledger", "--json")[1])["results"]
    assert result["ledger"] == expected.as_dict()
    assert "reached the input" not in shell("explain", photo, "--target", "cup")[1]
    _, out, _ = shell("explain", photo, "--ledger", "--method", "gradient")
    assert "There is no ledger: gradient conserves nothing" in out


@pytest.mark.parametrize("name", ["why.pdf", "why.svg", "why.jpg", "why.safetensors"])
def test_the_ending_chooses_the_format(classifier, shell, photo, name):
    assert shell("explain", photo, "--output", name)[0] == 0
    assert written() == sorted([name, "photo.png"])


def test_model_and_device_are_passed_on(monkeypatch, shell, photo):
    asked = {}

    def load(name, device=None):
        asked.update(name=name, device=device)
        return toy()

    monkeypatch.setattr(vv, "load_model", load)
    shell("explain", photo, "-m", "timm:resnet50", "--device", "cuda:1")
    assert asked == {"name": "timm:resnet50", "device": "cuda:1"}
    shell("compare", photo)
    assert asked == {"name": "efficientnet_lite0", "device": None}


# --------------------------------------------------------------------------------------------------------- several


def test_a_folder(classifier, shell, folder):
    status, out, _ = shell("explain", folder, "--target", "cup")
    assert status == 0
    assert out.count("Why cup?") == 3
    assert written("explanations") == ["a-why.png", "b-why.png", "c-why.png"]
    assert all(is_png(f"explanations/{name}") for name in written("explanations"))


@pytest.mark.parametrize("ledger", [[], ["--ledger"]])
def test_a_folder_explained_in_batches(classifier, shell, folder, ledger):
    sizes = []
    classifier.module.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    (folder / "b.jpg").write_text("no picture")
    status, out, _ = shell("explain", folder, "--batch-size", "2", "--json", *ledger)
    assert status == 1
    document = json.loads(out)
    assert [result["photo"] for result in document["results"]] == [str(folder / "a.png"), str(folder / "c.png")]
    # Of several pictures a ledger would be kept together.
    assert sizes == ([1, 1] if ledger else [2])
    for result in document["results"]:
        alone = float(vv.explain(classifier, result["photo"]).relevance.sum())
        assert result["relevance_sum"] == pytest.approx(alone, rel=1e-4)
        assert ("ledger" in result) is bool(ledger)


def test_batches_of_none_are_refused(classifier, shell, folder):
    assert shell("explain", folder, "--batch-size", "0")[0] == 2


def test_a_folder_of_one_gets_a_folder(classifier, shell, place):
    photograph(place / "one" / "a.png")
    assert shell("explain", "one")[0] == 0
    assert written("explanations") == ["a-why.png"]


def test_equal_stems_do_not_meet(classifier, shell, place):
    files = [photograph(place / name, seed=i) for i, name in enumerate(("x/p.png", "y/p.jpg", "y/p-2.png"))]
    status, out, _ = shell("explain", *files, "--json", "-o", "out")
    results = json.loads(out)["results"]
    assert status == 0
    assert len({result["panel"] for result in results}) == 3
    for file, result in zip(files, results, strict=True):
        assert result["photo"] == str(file)
        assert result["relevance_sum"] == float(vv.explain(classifier, file).relevance.sum())
        assert is_png(result["panel"])


def test_the_same_photograph_twice_is_explained_once(classifier, shell, photo):
    _, out, _ = shell("explain", photo, photo, "--json")
    assert len(json.loads(out)["results"]) == 1


@pytest.mark.parametrize("bad", ["a.png", "b.jpg", "c.png"])
@pytest.mark.parametrize("as_json", [False, True])
def test_one_bad_photograph_costs_the_others_nothing(classifier, shell, folder, bad, as_json):
    (folder / bad).write_text("no picture")
    status, out, err = shell("explain", folder, *(["--json"] if as_json else []))
    assert status == 1
    assert "Traceback" not in err
    assert err.count(str(folder / bad)) == 1
    assert "2 explained, 1 skipped" in err
    assert written("explanations") == sorted(
        f"{name[0]}-why.png" for name in ("a.png", "b.jpg", "c.png") if name != bad
    )
    if as_json:
        document = json.loads(out)
        assert [failure["photo"] for failure in document["failures"]] == [str(folder / bad)]
        assert len(document["results"]) == 2


def best(classifier, path):
    return NAMES[int(classifier(classifier.prepare(path)).argmax())]


@pytest.mark.parametrize("first", [True, False])
def test_a_photograph_of_the_foil_itself_costs_the_others_nothing(classifier, shell, place, first):
    """`--foil cup` on a folder: one photograph shows a cup, so it cannot be contrasted with one; the others can."""
    files = [photograph(place / f"{i}.png", seed=i) for i in range(30)]
    named = {best(classifier, file): file for file in files}
    assert len(named) > 1, "the toy model must give two answers"
    (foil, same), (_, other) = list(named.items())[:2]
    order = [same, other] if first else [other, same]
    status, _, err = shell("explain", *order, "--foil", foil)
    assert status == 1
    assert "1 explained, 1 skipped" in err
    assert str(same) in err, "the photograph that was skipped is named"
    assert written("explanations") == [f"{other.stem}-why.png"]


@pytest.mark.parametrize("spoilt", [(), ("a.png",)])
def test_a_wrong_option_ends_a_folder_at_once(classifier, shell, folder, spoilt):
    for name in spoilt:
        (folder / name).write_text("no picture")
    status, out, err = shell("explain", folder, "--target", "zebr")
    assert status == 1
    assert out == ""
    assert err.count("zebra (3)") == 1
    assert not any(name.startswith("explanations") for name in written())


def test_a_failed_run_makes_no_folder(classifier, shell, folder, place):
    for options in (["--target", "zebr"], ["--method", "clpr"], ["--layer", "nowhere"]):
        assert shell("explain", folder, *options)[0] == 1
        assert not (place / "explanations").exists()


# ------------------------------------------------------------------------------------------------ refused, status 1


def test_a_wrong_label_names_candidates_and_writes_nothing(classifier, shell, photo):
    refused(shell("explain", photo, "--target", "zebr"), "'zebr'", "zebra (3)")
    refused(shell("explain", photo, "--foil", "dogs;cup"), "'dogs'", "dog (1)")
    refused(shell("compare", photo, "--target", "zebr"), "zebra (3)")
    assert written() == ["photo.png"]


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_the_photograph_is_never_overwritten(classifier, shell, photo, place, command):
    before = photo.read_bytes()
    (place / "sub").mkdir()
    (place / "link.png").symlink_to(photo)
    for name in ("photo.png", "./photo.png", "sub/../photo.png", photo, "link.png"):
        refused(shell(command, "photo.png", "-o", name), "photograph itself", "-o")
    assert photo.read_bytes() == before


def test_a_folder_never_overwrites_its_photographs(classifier, shell, place):
    photograph(place / "in" / "a.png", seed=1)
    before = photograph(place / "in" / "a-why.png", seed=2).read_bytes()
    refused(shell("explain", "in", "-o", "in"), "photograph itself")
    assert (place / "in" / "a-why.png").read_bytes() == before


def test_outputs_that_cannot_be(classifier, shell, photo, place):
    (place / "file").write_text("x")
    for command in ("explain", "compare"):
        refused(shell(command, photo, "-o", "missing/why.png"), "missing", "make it first")
        refused(shell(command, photo, "-o", "file/why.png"), "file")
        refused(shell(command, photo, "-o", "."), "folder")
        refused(shell(command, photo, "-o", "why.bmp"), ".png")
    refused(shell("explain", photo, photograph(place / "other.png"), "-o", "file"), "file")
    refused(shell("demo", "-o", "file"), "file")
    assert written() == ["file", "other.png", "photo.png"]


def test_an_ending_is_judged_before_any_work(monkeypatch, shell, photo):
    """A model may take minutes to come; what is wrong with -o is known before."""

    def load(name, device=None):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(vv, "load_model", load)
    for command in ("explain", "compare"):
        refused(shell(command, photo, "-o", "why.bmp"), ".png")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", "clpr"], ["'clpr'", "'clrp'"]),
        (["--rules", "deptaylor"], ["'deptaylor'", "'deep-taylor'"]),
        (["--layer", "nowhere"], ["'nowhere'"]),
        (["--layer", "0", "--unit", "99"], ["99", "0 to 3"]),
        (["--layer", "0", "--position", "1"], ["1"]),
        (["--layer", "0", "--position", "a,b"], ["--position", "'a,b'"]),
        (["--layer", "0", "--position", ","], ["--position", "','"]),
        (["--layer", "0", "--position", "1,"], ["position [1]", "(14, 18)"]),
        (["--layer", "0", "--target", "cup"], ["unit"]),
        (["--unit", "3"], ["layer"]),
        (["--method", "gradient", "--signed"], ["signed"]),
        (["--method", "gradient", "--foil", "negated"], ["no foil"]),
        (["--foil", ";"], ["--foil"]),
        (["--target", "cup", "--foil", "cup"], ["same class"]),
        (["--target", "6"], ["0 to 5"]),
        (["--target=-1"], ["0 to 5"]),
        (["--target", ""], ["0 to 5"]),
    ],
    ids=" ".join,
)
def test_bad_options_get_one_sentence(classifier, shell, photo, options, words):
    refused(shell("explain", photo, *options), *words)
    assert written() == ["photo.png"]


def test_a_wrong_unit_is_called_a_unit(classifier, shell, photo):
    refused(shell("explain", photo, "--layer", "0", "--unit", "99"), "unit 99")


def test_an_empty_name_is_no_folder(classifier, shell, photo):
    """`visavis explain "$photo"` with an unset variable must not take the working folder."""
    refused(shell("explain", ""))
    assert written() == ["photo.png"]


def test_usage_errors_have_status_2(classifier, shell, photo):
    for arguments in (("explain",), ("nosuch",), ("explain", photo, "--unit", "x"), ("compare", photo, "--top", "0")):
        status, out, err = shell(*arguments)
        assert status == 2
        assert out == ""
        assert "visavis" in err
        assert "Traceback" not in err


# ----------------------------------------------------------------------------------------------------- other commands


def test_compare(classifier, shell, photo):
    status, out, err = shell("compare", photo, "--top", "2")
    expected = vv.compare(classifier, photo, top=2)
    assert (status, err) == (0, "")
    rows = [line for line in out.splitlines() if "%" in line]
    assert len(rows) == 2
    for row, answer, share in zip(rows, expected.answers, expected.conserved, strict=True):
        for words in (answer.name, str(answer.index), f"{100 * answer.probability:.1f} %", f"{100 * share:.0f} %"):
            assert words in row
    assert "written: photo-compared.png" in out
    assert is_png("photo-compared.png")


def test_compare_named_classes_as_json(classifier, shell, photo):
    _, out, _ = shell(
        *("compare", photo, "--target", "cup", "--target", "0", "--rules", "epsilon", "-o", "c.png", "--json")
    )
    expected = vv.compare(classifier, photo, ["cup", 0], rules="epsilon").as_dict()
    assert json.loads(out) == {"photo": str(photo), "panel": "c.png", **expected}
    assert [row["name"] for row in expected["classes"]] == ["cup", "cat"]


@pytest.mark.parametrize(("command", "listed"), [("methods", vv.methods), ("rules", vv.rule_sets)])
def test_lists(shell, command, listed):
    _, out, err = shell(command, "--json")
    assert json.loads(out) == listed()
    assert err == ""
    _, out, _ = shell(command)
    for name in listed():
        assert any(line.split()[:1] == [name] for line in out.splitlines())


def test_models(shell):
    _, out, err = shell("models")
    assert out.split() == vv.models()
    assert err == ""
    _, out, _ = shell("models", "ResNet18", "--json")
    assert json.loads(out) == [name for name in vv.models() if "resnet18" in name]
    assert "timm:resnet18" in json.loads(out)
    refused(shell("models", "zzz"), "'zzz'")


def test_plan(classifier, shell, photo):
    _, out, _ = shell("plan", "--json")
    planned = vv.LRP(classifier, rules="deep-taylor").plan(torch.rand(1, 3, 16, 20))
    assert json.loads(out) == json.loads(json.dumps({"rules": "deep-taylor", "calls": planned.rows()}))
    _, out, _ = shell("plan", "--rules", "epsilon", "--photo", photo)
    for word in ("conv2d", "linear", "epsilon"):
        assert word in out.lower()
    refused(shell("plan", "--photo", "none.png"), "none.png")
    refused(shell("plan", "--rules", "epsilom"), "'epsilon'")


def test_version_and_help():
    runner = CliRunner()
    result = runner.invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"visavis {vv.__version__}\n")
    shown = runner.invoke(cli.app, ["--help"])
    assert shown.exit_code == 0
    for command in ("explain", "compare", "models", "methods", "rules", "plan", "demo"):
        assert command in shown.stdout
        assert runner.invoke(cli.app, [command, "--help"]).exit_code == 0
    bare = runner.invoke(cli.app, [])
    assert "Usage" in bare.output
    assert "explain" in bare.output


def test_labels_and_paths_are_not_markup(monkeypatch, shell, place):
    names = ["[bold]cat[/bold]", "[/red]", *NAMES[2:]]
    classifier = vv.Classifier(toy().module, preprocess=to_tensor, labels=names, bounds=(0.0, 1.0))
    monkeypatch.setattr(vv, "load_model", lambda name, device=None: classifier)
    photo = photograph(place / "[red]photo[_x].png")
    status, out, err = shell("explain", photo, "--target", "0", "--foil", "1")
    assert status == 0
    said = out + err
    assert "Why [bold]cat[/bold], and not [/red]?" in said
    assert "[red]photo[_x]-why.png" in said
    assert shell("compare", photo)[0] == 0


# ------------------------------------------------------------------------------------------------ the user's own model

OWN = """
import torch
from torch import nn

print("built by hand")

def build():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6))

def bad():
    raise ValueError("too deep")
"""


@pytest.fixture
def own(place):
    """A module of the user's in their folder: its name as --model takes it, and the network that it builds."""
    (place / "cli_nets.py").write_text(OWN)
    yield "cli_nets:build", toy().module
    sys.modules.pop("cli_nets", None)


@pytest.mark.parametrize("command", ["explain", "compare", "plan"])
def test_a_model_of_ones_own(own, shell, photo, command):
    name, _ = own
    photos = [] if command == "plan" else [photo]
    status, out, err = shell(command, *photos, "--model", name, "--json", "--device", "cpu")
    assert status == 0
    json.loads(out)
    before, while_building, after = err.splitlines()
    assert before == "note: --model cli_nets:build is code of your own, and building the model runs it"
    assert while_building == "built by hand"
    assert after == f"note: pictures are {CentreCrop()} (--size, --mean, --std)"


def test_its_weights_labels_and_preprocessing(own, shell, photo, place):
    name, module = own
    state = {key: tensor * 1.5 for key, tensor in module.state_dict().items()}
    torch.save({"state_dict": state}, "w.pth")
    Path("labels.txt").write_text("\n".join(NAMES))
    options = ("--weights", "w.pth", "--labels", "labels.txt", "--size", "32", "--mean", "0.5", "--std", "0.5,0.25,0.5")
    arguments = ("--model", name, *options, "--target", "cup", "-o", "why.safetensors", "--device", "cpu")
    status, _, err = shell("explain", photo, *arguments)
    assert (status, "cropped to 32 × 32 pixels, mean 0.5, 0.5, 0.5, standard deviation 0.5, 0.25, 0.5" in err) == (
        0,
        True,
    )
    module.load_state_dict(state)
    preprocess = CentreCrop(32, [0.5] * 3, [0.5, 0.25, 0.5])
    bounds = vv.pixel_bounds(preprocess)
    expected = vv.explain(vv.Classifier(module, preprocess=preprocess, labels=NAMES, bounds=bounds), photo, "cup")
    why = Explanation.load("why.safetensors")
    assert torch.equal(why.relevance, expected.relevance)
    assert why.settings["model"] == "cli_nets:build (w.pth)"


def test_a_fine_tuned_architecture(shell, photo):
    from torchvision.models import squeezenet1_1

    torch.save(squeezenet1_1(num_classes=3).state_dict(), "w.pt")
    Path("labels.json").write_text('["cat", "dog", "cup"]')
    options = ("--weights", "w.pt", "--labels", "labels.json", "--size", "64", "--device", "cpu")
    status, out, err = shell("compare", photo, "-m", "torchvision:squeezenet1_1", *options, "--top", "3")
    assert status == 0
    assert {"cat", "dog", "cup"} <= set(out.split())
    assert "your own" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "cli_nets:bad"], ["'cli_nets:bad' raised ValueError in cli_nets.py, line 12: too deep"]),
        (["--model", "cli_nets:none"], ["'cli_nets' (cli_nets.py) has no 'none'"]),
        (["--model", "cli_nets:build", "--weights", "none.pt"], ["'none.pt' does not exist"]),
        (["--model", "cli_nets:build", "--weights", "photo.png"], [".safetensors", "'photo.png'"]),
        (["--model", "cli_nets:build", "--weights", "code.pt"], ["'code.pt'", "a stranger's code"]),
    ],
    ids=" ".join,
)
def test_what_fails_of_ones_own(own, shell, photo, place, arguments, words):
    torch.save(toy().module, "code.pt")
    status, out, err = shell("explain", photo, *arguments, "--device", "cpu")
    assert (status, out) == (1, "")
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("visavis: ")
    for word in words:
        assert word in last
    assert [name for name in written() if "__pycache__" not in name] == ["cli_nets.py", "code.pt", "photo.png"]


FAILING = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.lin = how, nn.Linear(3 * 8 * 8, 4)

    def forward(self, x):
        return eval(self.how)

def endless(x):
    return endless(x)

def stop(error):
    raise error

HOW = {
    "key": "{}['heads']",
    "zero": "1 / 0",
    "value": "stop(ValueError('not so'))",
    "missing": "stop(NotImplementedError('later'))",
    "io": "stop(OSError('no space'))",
    "file": "open('none.bin')",
    "exit": "stop(SystemExit(3))",
    "deep": "endless(x)",
    "small": "self.lin(x.flatten(1))",
}

def __getattr__(name):
    if name in HOW:
        return lambda: Net(HOW[name])
    raise AttributeError(name)
"""


@pytest.mark.parametrize("command", ["explain", "compare", "plan"])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("key", "KeyError in failing_nets.py, line 11: 'heads'"),
        ("zero", "ZeroDivisionError in failing_nets.py, line 11: division by zero"),
        ("value", "ValueError in failing_nets.py, line 17: not so"),
        ("missing", "NotImplementedError in failing_nets.py, line 17: later"),
        ("io", "OSError in failing_nets.py, line 17: no space"),
        ("file", "FileNotFoundError in failing_nets.py, line 11: [Errno 2] No such file or directory: 'none.bin'"),
        ("exit", "SystemExit in failing_nets.py, line 17: 3"),
        ("deep", "RecursionError in failing_nets.py, line 14: maximum recursion depth exceeded"),
        ("small", "RuntimeError in failing_nets.py, line 11: mat1 and mat2 shapes cannot be multiplied"),
    ],
)
def test_what_ones_own_model_raises_is_one_sentence(shell, photo, place, command, how, words):
    (place / "failing_nets.py").write_text(FAILING)
    photos = [] if command == "plan" else [photo]
    try:
        status, out, err = shell(command, *photos, "-m", f"failing_nets:{how}", "--device", "cpu")
    finally:
        sys.modules.pop("failing_nets", None)
    *notes, last = err.splitlines()
    assert (status, out, len(notes)) == (1, "", 2), err
    # Some versions of torch name the function first.
    assert last.replace("addmm: ", "").startswith(f"visavis: the model failing_nets:{how} raised {words}")
    assert last.endswith("pass --size") == (how in ("small", "value"))
    if how == "small":
        assert "pictures came as 224 × 224 pixels: if the model takes another size, pass --size" in last


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "the results cannot be written ([Errno 28] No space left on device)"),
        (PermissionError(13, "Permission denied", "x.bin"), "an error that was not foreseen, PermissionError in "),
        (KeyError("x"), "an error that was not foreseen, KeyError in "),
    ],
)
def test_other_errors_are_one_sentence_too(monkeypatch, shell, error, words):
    def fail():
        raise error

    monkeypatch.setattr(vv, "methods", fail)
    refused(shell("methods"), words)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
def test_a_full_disk():
    with Path("/dev/full").open("w") as full:
        finished = visavis("rules", "--json", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert "Traceback" not in finished.stderr
    assert finished.returncode != 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nowhere:build"], ["unknown prefix 'nowhere:'", "no Python module 'nowhere'"]),
        (["--weights", "w.pt"], ["'efficientnet_lite0' comes with weights of its own"]),
        (["--size", "64"], ["--size, --mean and --std are for a model of your own, but 'efficientnet_lite0'"]),
        (["-m", "timm:resnet50", "--mean", "0.5"], ["'timm:resnet50' brings its own"]),
        (["-m", "os:getcwd", "--mean", "a"], ["--mean is three numbers such as 0.5,0.5,0.5, or one for all, not 'a'"]),
        (["-m", "os:getcwd", "--std", "1,2"], ["standard deviation of the colours is three finite numbers, not 1, 2"]),
        (["-m", "os:getcwd", "--size", "99999"], ["1 to 8192 pixels"]),
        (["--labels", "none.txt"], ["no file of labels 'none.txt'"]),
        (["--labels", "folder"], ["no file of labels 'folder'"]),
        (["--labels", "empty.txt"], ["'empty.txt' is empty"]),
        (["--labels", "gap.txt"], ["'gap.txt' have no name for class 1"]),
        (["--labels", "numbers.json"], ["'numbers.json' have no name for class 0"]),
        (["--labels", "object.json"], ["'object.json' are a JSON object", "one a line or a JSON list"]),
        (["-m", "x" * 5000 + ".py:b"], ["unknown prefix 'xxx", "…", "x.py:b'"]),
        (["--labels", "half.json"], ["'half.json' begin as a JSON list, but are none"]),
        (["--labels", "photo.png"], ["'photo.png' is no UTF-8 text"]),
        (["--labels", "large.txt"], ["'large.txt' is larger than 16 MiB"]),
    ],
    ids=" ".join,
)
def test_wrong_options_for_ones_own(shell, photo, place, arguments, words):
    (place / "folder").mkdir()
    for name, text in {
        "empty.txt": "\n\n",
        "gap.txt": "cat\n\ndog\n",
        "numbers.json": "[1, 2]",
        "half.json": '["cat", ',
        "object.json": '{"0": "cat",\n "1": "dog"}',
    }.items():
        (place / name).write_text(text)
    with (place / "large.txt").open("wb") as file:
        file.truncate(17 << 20)
    refused(shell("explain", photo, *arguments, "--device", "cpu"), *words)


@pytest.mark.parametrize("text", ["cat\ndog\ncup\n", "\ufeffcat\r\n dog\r\ncup", ' ["cat",\n "dog", "cup"]'])
def test_files_of_labels(place, text):
    (place / "labels.txt").write_text(text, encoding="utf-8", newline="")
    assert read_labels("labels.txt").names == ("cat", "dog", "cup")


# --------------------------------------------------------------------------------------------- as a process of its own


@pytest.fixture(scope="module")
def demo_photo(tmp_path_factory):
    pytest.importorskip("skimage")
    from visavis.demo import demo_picture

    path = tmp_path_factory.mktemp("pictures") / "both.png"
    demo_picture().save(path)
    return path


def test_from_the_shell_with_the_embedded_model(demo_photo):
    finished = visavis("explain", demo_photo, "--target", "tiger cat", "--foil", "espresso", "--json")
    assert finished.returncode == 0, finished.stderr
    (result,) = json.loads(finished.stdout)["results"]
    assert (result["target"]["name"], result["target"]["index"]) == ("tiger cat", 282)
    assert (result["foil"], result["settings"]["model"]) == ("espresso", "efficientnet_lite0")
    assert 0.02 < result["conserved"] < 0.2
    assert is_png("both-why.png")


def test_from_the_shell_an_error_is_one_sentence():
    finished = visavis("explain", "none.png")
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr == "visavis: there is no file 'none.png'; check the path.\n"


def test_a_reader_that_leaves_is_no_traceback():
    """As `visavis models --json | head -1`."""
    process = started("models", "--json", stdout=subprocess.PIPE)
    process.stdout.read(1)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert errors == b""


@pytest.mark.parametrize("arguments", [["rules"], ["rules", "--json"]], ids=" ".join)
def test_a_terminal_without_our_letters(arguments):
    """Names of rules hold ⁺ and ᴮ; where they cannot be shown, the rest still is."""
    finished = visavis(*arguments, env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert "Traceback" not in finished.stderr
    assert finished.returncode == 0
    assert "deep-taylor" in finished.stdout


@pytest.mark.parametrize("options", [[], ["--json"]], ids=" ".join)
def test_a_name_that_is_no_text(photo, place, options):
    name = os.fsencode(place) + b"/\xff.png"
    os.link(photo, name)
    utf8 = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    finished = visavis("explain", name, *options, code=TOY_SHELL, text=False, env=utf8)
    assert b"Traceback" not in finished.stderr
    assert finished.returncode == 0


def test_control_c_ends_it_promptly_and_leaves_no_half(photo, place):
    (place / "many").mkdir()
    for i in range(300):
        os.link(photo, place / "many" / f"{i:03}.png")
    process = started("explain", "many", "-o", "out", code=TOY_SHELL, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not list(place.glob("out/*-why.png")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=15)
    finally:
        process.kill()
        process.wait()
    done = list((place / "out").iterdir())
    assert process.returncode != 0
    assert b"Traceback" not in errors
    assert 1 <= len(done) < 300
    for file in done:
        assert file.name.endswith("-why.png")
        assert is_png(file)

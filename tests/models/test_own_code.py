"""A function of the user's own builds the model; what is wrong with it is one sentence that says where."""

import contextlib
import sys
import textwrap

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

import visavis as vv
from visavis.errors import InputError, ModelError
from visavis.models import load_model, source_of
from visavis.models.preprocessing import CentreCrop

NETS = """
import torch
import visavis as vv
from torch import nn

print("built by hand")
ready = nn.Sequential(nn.Conv2d(3, 2, 1)).train()

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6))

def optional(depth=1, *rest, **more):
    return build()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        return self.linear(x.mean((2, 3)))

class Nets:
    small = Net

def classifier():
    return vv.Classifier(build(), preprocess=lambda picture: torch.zeros(3, 8, 8), labels=list("abcdef"), bounds=(0, 1))
"""
FAILING = """
import torch
from torch import nn
from failing_parts import deep

def bad():
    size = 3
    raise ValueError(f"too deep.\\nat {size}")

def within_torch():
    return nn.Linear(2, 3).load_state_dict({"weight": torch.zeros(3, 3)})

def beside():
    return deep()

def needs(depth, *, width):
    pass

def leaves():
    raise SystemExit(3)

def lacks():
    import no_such_thing

def refused():
    import visavis as vv
    return vv.Classifier(nn.Linear(2, 3), labels=[])

def reads():
    return open("no_such_file")

def empty():
    return nn.Linear(2, 3, device="meta")

def nothing():
    pass

def text():
    return "resnet50"

number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with modules of the user's, in which they work; afterwards nothing of it is imported."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    for name, text in {
        "own_nets": NETS,
        "package/__init__": "",
        "package/nets": "from package.parts import build",
        "package/parts": NETS,
        "models/beside": "from beside_parts import build",
        "models/beside_parts": NETS,
        "failing": FAILING,
        "failing_parts": "def deep():\n    return 1 / 0",
        "no_grammar": "import torch\ndef build(:\n",
        "lacking": "import torch\nimport no_such_thing",
        "timm_": NETS,
        "hf": NETS,
    }.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(str(tmp_path)) or str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def built():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6)).eval()


def refusal(name, **options):
    with pytest.raises(ModelError) as caught:
        load_model(name, device="cpu", **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    "name",
    [
        "own_nets:build",
        "own_nets:optional",
        "own_nets.py:build",
        "./own_nets.py:build",
        "python:own_nets:build",
        "package.nets:build",
        "models/beside.py:build",
        "python:hf:build",
    ],
)
def test_a_function_builds_the_model(name):
    classifier = load_model(name, device="cpu")
    assert not classifier.module.training
    inputs = torch.rand(2, 3, 8, 8)
    assert torch.equal(classifier(inputs), built()(inputs))
    assert classifier.name == name.removeprefix("python:")


def test_a_class_a_module_or_an_attribute():
    assert type(load_model("own_nets:Net", device="cpu").module).__name__ == "Net"
    assert type(load_model("own_nets:Nets.small", device="cpu").module).__name__ == "Net"
    ready = load_model("own_nets:ready", device="cpu").module
    assert ready is sys.modules["own_nets"].ready
    assert not ready.training
    assert type(load_model("torchvision.models:squeezenet1_1", device="cpu").module).__name__ == "SqueezeNet"


def test_a_known_prefix_is_no_module():
    """hf.py lies in the folder, and is not what hf: means."""
    assert source_of("hf:build")[0].prefix == "hf"
    assert source_of("timm:resnet50")[0].prefix == "timm"
    assert source_of("timm_:build")[0].prefix == "python"


def test_only_what_the_shell_says_runs_code(folder):
    assert source_of("own_nets:build")[0].runs_code
    assert not any(source_of(name)[0].runs_code for name in ("hf:a/b", "timm:x", "torchvision:x", "efficientnet_lite0"))
    assert "own_nets" not in sys.modules, "looking is not running"


def test_a_plain_module_gets_imagenets_preprocessing():
    classifier = load_model("own_nets:build", device="cpu")
    assert classifier.preprocess == CentreCrop()
    assert classifier.labels is None
    white = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert_close(classifier.bounds[1].flatten(), white)
    batch = classifier.prepare(PIL.Image.new("RGB", (300, 400), "white"))
    assert_close(batch, white.reshape(1, 3, 1, 1).expand(1, 3, 224, 224))


def test_a_classifier_brings_its_own():
    classifier = load_model("own_nets:classifier", device="cpu")
    assert classifier.index("c") == 2
    assert classifier.prepare(np.zeros((9, 9, 3), np.uint8)).shape == (1, 3, 8, 8)
    assert_close(classifier.bounds[1], torch.ones(1, 1, 1, 1))
    assert not classifier.module.training


@pytest.mark.parametrize("name", ["own_nets:build", "own_nets:classifier"])
def test_what_is_given_replaces_what_it_has(name):
    preprocess = CentreCrop(14, (0.5,) * 3, (0.25,) * 3)
    classifier = load_model(name, labels=list("uvwxyz"), preprocess=preprocess, device="cpu")
    assert classifier.index("w") == 2
    assert classifier.prepare(np.zeros((20, 30, 3), np.uint8)).shape == (1, 3, 14, 14)
    assert_close(classifier.bounds[0], torch.full((1, 3, 1, 1), -2.0))
    only_labels = load_model(name, labels=list("uvwxyz"), device="cpu")
    assert only_labels.index("w") == 2
    assert only_labels.preprocess != preprocess
    with pytest.raises(InputError, match="labels are a sequence"):
        load_model(name, labels="uvwxyz", device="cpu")


@pytest.mark.parametrize("name", ["own_nets:build", "own_nets:classifier"])
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_its_weights(folder, name, ending):
    trained = {key: tensor + 1 for key, tensor in built().state_dict().items()}
    save_file(trained, "w.safetensors")
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in trained.items()}, "epoch": 3}, "w.pth")
    classifier = load_model(name, weights=f"w.{ending}", device="cpu")
    assert all(torch.equal(tensor, trained[key]) for key, tensor in classifier.module.state_dict().items())
    assert classifier.name.endswith(f" (w.{ending})")


def test_weights_of_another_model():
    save_file({"linear.weight": torch.zeros(2, 3), "linear.bias": torch.zeros(2)}, "w.safetensors")
    assert "'w.safetensors' do not fit 'own_nets:build': 4 missing" in refusal(
        "own_nets:build", weights="w.safetensors"
    )
    save_file({"linear.weight": torch.zeros(5, 3), "linear.bias": torch.zeros(5)}, "w.safetensors")
    assert "(5, 3) for (2, 3)" in refusal("own_nets:Net", weights="w.safetensors")


def test_the_explanation_is_that_of_the_module():
    inputs = torch.rand(1, 3, 8, 8)
    expected = vv.CLRP(built(), bounds=(0.0, 1.0)).attribute(inputs, target=2)
    classifier = load_model("own_nets:build", device="cpu")
    assert torch.equal(vv.CLRP(classifier, bounds=(0.0, 1.0)).attribute(inputs, target=2), expected)


# ------------------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:build", "unknown prefix 'nowhere:', and there is no Python module 'nowhere' in this folder or"),
        ("nowhere.nets:build", "no Python module 'nowhere.nets'"),
        ("none.py:build", "no Python module 'none.py'"),
        ("package.none:build", "'package.none:build' is to be built by the Python module 'package.none', but neither"),
        ("own_nets:biuld", "the Python module 'own_nets' (own_nets.py) has no 'biuld'; did you mean build?"),
        ("torch:zzzzzzz", "is no model of a known source, and the Python module 'torch' ("),
        ("own_nets:", "names no function; write it as MODULE:FUNCTION"),
        ("python:own_nets", "names no function"),
        ("python:", "write it as python:NAME"),
        (".own_nets:build", "unknown prefix '.own_nets:'"),
        ("failing:number", "is of type int, but a function, or a torch.nn.Module or a visavis.Classifier, was"),
        ("failing:nothing", "gives a value of type NoneType, but a torch.nn.Module or a visavis.Classifier was"),
        ("failing:text", "gives a value of type str"),
        ("failing:needs", "needs arguments (depth, width), but is called without"),
        ("failing:bad", "the code of 'failing:bad' raised ValueError in failing.py, line 8: too deep. at 3."),
        ("failing:within_torch", "raised RuntimeError in failing.py, line 11: Error(s) in loading state_dict"),
        ("failing:beside", "raised ZeroDivisionError in failing_parts.py, line 2: division by zero."),
        ("failing:leaves", "raised SystemExit in failing.py, line 20: 3."),
        ("failing:lacks", "raised ModuleNotFoundError in failing.py, line 23: No module named 'no_such_thing'."),
        ("failing:reads", "raised FileNotFoundError in failing.py, line 30: [Errno 2] No such file"),
        ("lacking:build", "raised ModuleNotFoundError in lacking.py, line 2: No module named 'no_such_thing'."),
        ("lacking.py:build", "raised ModuleNotFoundError in lacking.py, line 2: No module named 'no_such_thing'."),
        ("no_grammar:build", "raised SyntaxError in no_grammar.py, line 2: invalid syntax."),
        ("failing:empty", "'failing:empty' gives a model without numbers, on the device 'meta'; build it on the CPU."),
    ],
)
def test_one_sentence_says_what_and_where(name, said):
    assert said in refusal(name)


def test_what_visavis_says_passes_as_it_is():
    with pytest.raises(InputError, match="labels are a sequence of class names"):
        load_model("failing:refused", device="cpu")


def test_weights_that_hold_code_are_refused_to_the_code_too(folder):
    """A network pickled whole is code; `load_model` never unpickles one, whoever asks."""
    torch.save(built(), "whole.pt")
    (folder / "unpickles.py").write_text(
        "import torch\ndef build():\n    return torch.load('whole.pt', weights_only=False)"
    )
    assert "hold more than data" in refusal("unpickles:build")


@pytest.mark.parametrize("name", ["own_nets:build", "models/beside.py:build", "failing:bad", "no_grammar.py:build"])
def test_the_search_path_is_afterwards_as_before(name):
    before = list(sys.path)
    with contextlib.suppress(ModelError):
        load_model(name, device="cpu")
    assert sys.path == before


def test_what_the_code_prints_leaves_standard_output_clean(capsys):
    load_model("own_nets:build", device="cpu")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "built by hand\n")

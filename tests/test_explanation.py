"""An explanation is read as a batch, kept without loss, and said in words."""

import json
import pickle
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

import visavis as vv
from visavis.explanation import Answer, Explanation, conserved_share

NAMES = ["cat", "dog", "cup", "zebra", "Haus «groß»"]


def network(dtype=torch.float32):
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, len(NAMES))
    )
    return module.eval().to(dtype)


def explained(dtype=torch.float32, pictures=3, **asked):
    classifier = vv.Classifier(network(dtype), labels=NAMES, bounds=(0.0, 1.0), name="toy")
    options = {"target": [0, 4, 2][:pictures], "foil": "dog"} | asked
    return vv.explain(classifier, torch.rand(pictures, 3, 12, 10, dtype=dtype), **options)


@pytest.fixture
def why():
    return explained()


def assert_identical(one, other):
    """Bit for bit the same, in every field."""
    assert one.relevance.dtype == other.relevance.dtype
    assert torch.equal(one.relevance, other.relevance)
    assert torch.equal(one.picture, other.picture)
    assert one.targets == other.targets
    assert one.foils == other.foils
    assert one.counterparts == other.counterparts
    assert one.top == other.top
    assert (one.conserved is None) == (other.conserved is None)
    assert one.conserved is None or torch.equal(one.conserved, other.conserved)
    assert set(one.maps) == set(other.maps)
    for name, values in one.maps.items():
        assert values.dtype == other.maps[name].dtype
        assert torch.equal(values, other.maps[name])
    assert dict(one.settings) == dict(other.settings)


# ----------------------------------------------------------------------------------------------------------- reading


def test_indexing_gives_one_picture(why):
    for index in (0, 1, 2, -1, -3):
        one, place = why[index], index % 3
        assert len(one) == 1
        assert torch.equal(one.relevance[0], why.relevance[place])
        assert torch.equal(one.picture[0], why.picture[place])
        assert one.targets == (why.targets[place],)
        assert one.foils == (why.foils[place],)
        assert one.counterparts == (why.counterparts[place],)
        assert one.top == (why.top[place],)
        assert one.conserved.item() == why.conserved[place].item()
        for name, values in one.maps.items():
            assert torch.equal(values[0], why.maps[name][place])
        assert one.settings == why.settings
    assert [one.targets[0].name for one in why] == ["cat", "Haus «groß»", "cup"]
    assert len(list(why)) == len(why) == 3


@pytest.mark.parametrize("index", [3, -4, 100])
def test_indices_outside_are_refused(why, index):
    with pytest.raises(IndexError, match=f"picture {index} of 3"):
        why[index]


def test_without_conserved_too():
    why = explained(method="gradient")
    assert why.conserved is None
    assert why[1].conserved is None
    assert why[1].as_dict()["pictures"][0]["conserved"] is None


def test_repr_is_short_and_says_what(why):
    assert repr(why) == (
        "Explanation(Why cat, and not dog?; Why Haus «groß», and not dog?; Why cup, and not dog? clrp, "
        "relevance (3, 3, 12, 10))"
    )
    many = explained(pictures=3, target=0, foil="others")
    many = replace(many, relevance=torch.cat([many.relevance] * 9), targets=many.targets * 9, foils=many.foils * 9)
    many = replace(many, counterparts=many.counterparts * 9)
    assert "and 24 more" in repr(many)
    assert len(repr(many)) < 200


def test_as_dict_is_what_the_fields_say(why):
    read = json.loads(json.dumps(why.as_dict(), allow_nan=False))
    assert read["settings"]["method"] == "clrp"
    for i, picture in enumerate(read["pictures"]):
        assert picture["target"]["index"] == [0, 4, 2][i]
        assert picture["target"]["name"] == NAMES[[0, 4, 2][i]]
        assert picture["foil"] == "dog"
        assert picture["counterpart"]["name"] == "dog"
        assert picture["conserved"] == why.conserved[i].item()
        assert picture["relevance_sum"] == why.relevance[i].sum().item()
        assert [answer["probability"] for answer in picture["top"]] == sorted(
            (answer["probability"] for answer in picture["top"]), reverse=True
        )
        assert sum(answer["probability"] for answer in picture["top"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("asked", "question"),
    [
        ({"foil": "dog"}, "Why cat, and not dog?"),
        ({"foil": ["dog", "cup"]}, "Why cat, and not dog, cup?"),
        ({"foil": "others"}, "Why cat?"),
        ({"foil": "negated"}, "Why cat?"),
        ({"foil": "others", "method": "lrp"}, "Why cat?"),
        ({"target": None, "foil": "others", "layer": "0", "unit": 2}, "Why does unit 2 of 0 fire?"),
    ],
)
def test_questions(asked, question):
    assert explained(pictures=1, **asked).question() == question


def test_the_question_names_the_runner_up():
    why = explained(pictures=1, foil="runner-up")
    assert why.question() == f"Why cat, and not {why.counterparts[0].name}?"


def test_the_question_names_a_foil_whose_name_has_a_comma():
    classifier = vv.Classifier(network(), labels=["cat", "tench, Tinca tinca", "cup", "zebra", "house"])
    why = vv.explain(classifier, torch.rand(1, 3, 12, 10), 0, 1)
    assert why.question() == "Why cat, and not tench, Tinca tinca?"


def test_conserved_share():
    relevance = torch.tensor([[[1.0, 2.0]], [[-1.0, 0.5]], [[3.0, 4.0]]])
    seed = torch.tensor([[6.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    assert_close(conserved_share(relevance, seed), torch.tensor([0.5, -0.25, 0.0]))


# ----------------------------------------------------------------------------------------------------------- keeping


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"foil": "others", "target": None},
        {"method": "gradient"},
        {"method": "lrp", "rules": "epsilon"},
        {"foil": ["dog", "zebra"], "signed": True, "normalize": "sum"},
        {"target": None, "layer": "0", "unit": 2, "foil": "others", "position": (1, 2)},
    ],
    ids=str,
)
def test_saved_and_loaded_is_the_same(tmp_path, dtype, asked):
    why = explained(dtype, **asked)
    path = why.save(tmp_path / "why.safetensors")
    assert path == tmp_path / "why.safetensors"
    read = Explanation.load(path)
    assert_identical(read, why)
    assert read.as_dict() == why.as_dict()
    assert repr(read) == repr(why)
    assert_identical(read[1], why[1])


def test_one_of_several_is_saved_alone(tmp_path, why):
    assert_identical(Explanation.load(why[1].save(tmp_path / "one.safetensors")), why[1])
    assert_identical(Explanation.load(str(why.save(str(tmp_path / "ALL.SAFETENSORS")))), why)


def test_special_values_survive(tmp_path, why):
    odd = torch.tensor([-0.0, 1e-45, 3.4e38, -1e-30]).view(1, 1, 2, 2)
    kept = replace(why[0], relevance=odd)
    read = Explanation.load(kept.save(tmp_path / "a.safetensors"))
    assert torch.equal(read.relevance.view(torch.int32), odd.view(torch.int32))


def test_the_saved_file_holds_data_only(tmp_path, why):
    """A header of JSON and raw numbers: nothing in it can be run."""
    content = why.save(tmp_path / "why.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    numbers = sum(end - start for start, end in (v["data_offsets"] for k, v in header.items() if k != "__metadata__"))
    assert len(content) == 8 + length + numbers


def test_loading_runs_no_pickle(tmp_path, why):
    path = why.save(tmp_path / "why.safetensors")
    code = (
        "import pickle, torch, sys\n"
        "def refuse(*a, **k): raise SystemExit('pickle was used')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse\n"
        "import visavis as vv\n"
        "print(vv.Explanation.load(sys.argv[1]).question())"
    )
    finished = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert finished.stdout == "Why cat, and not dog?\n", finished.stderr


def refusal(function, *arguments, kind=vv.InputError):
    """The one sentence with which something is refused."""
    with pytest.raises(kind) as caught:
        function(*arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


class _Evil:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


def test_files_that_hold_no_explanation(tmp_path, why):
    whole = why.save(tmp_path / "why.safetensors").read_bytes()
    contents = {
        "empty": b"",
        "text": b"hello, this is no explanation at all",
        "noise": bytes(torch.randint(0, 256, (5000,), dtype=torch.uint8).tolist()),
        "cut in the header": whole[:100],
        "cut in the numbers": whole[:-100],
        "longer": whole + b"more",
        "huge header": struct.pack("<Q", 2**62) + whole[8:],
        "pickle": pickle.dumps(_Evil()),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        assert str(path) in refusal(Explanation.load, path)


def test_safetensors_of_others(tmp_path, why):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    assert "no explanation" in refusal(Explanation.load, path)
    for words in ("{}", "[]", "3", '"visavis"', "null", "{not json", '{"format": "visavis-explanation-99"}'):
        save_file({"relevance": torch.ones(2)}, path, {"visavis": words})
        assert str(path) in refusal(Explanation.load, path)


@pytest.mark.parametrize("missing", ["relevance", "picture", "targets", "foils", "counterparts", "top", "settings"])
def test_incomplete_explanations(tmp_path, why, missing):
    from safetensors import safe_open

    path = why.save(tmp_path / "why.safetensors")
    with safe_open(path, framework="pt") as file:
        words = json.loads(file.metadata()["visavis"])
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != missing}  # noqa: SIM118
    words.pop(missing, None)
    save_file(tensors, path, {"visavis": json.dumps(words)})
    assert str(path) in refusal(Explanation.load, path)


def test_parts_that_do_not_fit_together(tmp_path, why):
    """Two targets for three pictures would fail later, far from the file that is to blame."""
    path = tmp_path / "why.safetensors"
    for odd in (
        {"targets": why.targets[:2]},
        {"foils": ()},
        {"picture": why.picture[:1]},
        {"maps": {"plain target": why.maps["plain target"][:2]}},
    ):
        replace(why, **odd).save(path)
        assert str(path) in refusal(Explanation.load, path)


def test_missing_files_and_folders(tmp_path):
    assert "there is no file" in refusal(Explanation.load, tmp_path / "none.safetensors")
    assert str(tmp_path) in refusal(Explanation.load, tmp_path)
    assert "there is no file" in refusal(Explanation.load, "a\0b")


MAGIC = {
    ".png": b"\x89PNG\r\n\x1a\n",
    ".pdf": b"%PDF-",
    ".svg": b"<?xml",
    ".jpg": b"\xff\xd8\xff",
    ".JPEG": b"\xff\xd8",
}


@pytest.mark.parametrize("suffix", MAGIC)
def test_panels_are_written_in_each_format(tmp_path, why, suffix):
    path = why[0].save(tmp_path / f"why{suffix}")
    assert path == tmp_path / f"why{suffix}"
    assert path.read_bytes().startswith(MAGIC[suffix])
    if suffix == ".svg":
        assert ET.parse(path).getroot().tag.endswith("svg")
    elif suffix != ".pdf":
        with PIL.Image.open(path) as picture:
            picture.load()
            assert picture.width > 500
    assert [entry.name for entry in tmp_path.iterdir()] == [f"why{suffix}"]


def test_a_panel_is_of_one_picture(tmp_path, why):
    for function, arguments in ((why.save, (tmp_path / "why.png",)), (why.plot, ())):
        sentence = refusal(function, *arguments)
        assert "why[0]" in sentence
        assert "3" in sentence
    assert not list(tmp_path.iterdir())


def test_a_panel_of_half_precision(tmp_path):
    """numpy knows no bfloat16; the panel must not need it to."""
    path = explained(torch.bfloat16, pictures=1).save(tmp_path / "why.png")
    assert path.read_bytes().startswith(MAGIC[".png"])


def test_names_that_cannot_be_written(tmp_path, why):
    one = why[0]
    (tmp_path / "file").write_text("x")
    for name in ("why.bmp", "why", "why.safetensors.gz"):
        assert re.search(r"\.png|\.safetensors", refusal(one.save, tmp_path / name, kind=vv.VisavisError))
    for name in ("missing/why.png", "missing/why.safetensors", "file/why.png", "file/why.safetensors"):
        refusal(one.save, tmp_path / name, kind=vv.OutputError)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_the_endings_that_are_named_include_the_lossless_one(tmp_path, why):
    assert ".safetensors" in refusal(why[0].save, tmp_path / "why.npz", kind=vv.VisavisError)


def test_an_answer_is_what_it_says():
    assert Answer(3, "zebra", 0.25).as_dict() == {"index": 3, "name": "zebra", "probability": 0.25}

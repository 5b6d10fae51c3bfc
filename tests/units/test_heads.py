"""Attention heads as units: ablating one is what zeroing its columns of the output projection does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification
from transformers.pytorch_utils import Conv1D

from units.networks import pictures, vit, without
from units.test_above import Counts, snapshot
from visavis.errors import InputError, ModelError
from visavis.units import Above, Layer, Way, ablate, activations, attribute, incoming_norms, remove_by_class


def _timm(fused: bool = True) -> nn.Module:
    torch.manual_seed(0)
    model = VisionTransformer(32, 8, num_classes=5, embed_dim=12, depth=2, num_heads=3, init_values=0.5)
    for block in model.blocks:
        block.attn.fused_attn = fused
    return model.double().eval()


def _written_out() -> nn.Module:
    return _timm(fused=False)


def _hf_vit() -> nn.Module:
    torch.manual_seed(0)
    size = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    model = ViTForImageClassification(ViTConfig(**size, image_size=32, patch_size=8, num_labels=5))
    return _larger(model)


def _bert() -> nn.Module:
    torch.manual_seed(0)
    size = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    return _larger(BertForSequenceClassification(BertConfig(vocab_size=50, **size, num_labels=4)))


def _larger(model: nn.Module) -> nn.Module:
    """Hugging Face's weights are so small at first that a head would hardly matter."""
    with torch.no_grad():
        for one in model.parameters():
            one.mul_(8 if one.dim() > 1 else 1)
    return model.double().eval()


class Encoder(nn.Module):
    """Torch's own encoder, and an attention after it with another's keys, that is asked for its weights."""

    def __init__(self, heads: int = 2, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Linear(3, 12)
        layer = nn.TransformerEncoderLayer(12, heads, 20, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.cross = nn.MultiheadAttention(12, heads, kdim=3, vdim=3, add_bias_kv=True, batch_first=batch_first)
        self.head = nn.Linear(12, 4)
        for one in self.parameters():
            nn.init.normal_(one, std=0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        if not self.batch_first:
            x = x.transpose(0, 1)
        y = self.encoder(self.embed(x))
        y, weights = self.cross(y, x, x)
        return self.head(y.mean(1 if self.batch_first else 0)) + weights.amax((1, 2))[:, None]


def _encoder() -> nn.Module:
    torch.manual_seed(0)
    return Encoder().double().eval()


def _positions_first() -> nn.Module:
    torch.manual_seed(0)
    return Encoder(3, batch_first=False).double().eval()


def tokens(number: int = 3) -> Tensor:
    return torch.randint(50, (number, 6), generator=torch.Generator().manual_seed(1))


def small_pictures() -> Tensor:
    return pictures(3, 4)


_TORCHVISION = "encoder.layers.encoder_layer_{}.self_attention"
#: Network, its inputs, layer, heads, how many there are, and the output projection.
CASES = [
    *((vit, pictures, _TORCHVISION.format(i), True, 2, _TORCHVISION.format(i) + ".out_proj") for i in (0, 1)),
    (vit, pictures, _TORCHVISION.format(1) + ".out_proj", 2, 2, _TORCHVISION.format(1) + ".out_proj"),
    *((_timm, pictures, f"blocks.{i}.attn", True, 3, f"blocks.{i}.attn.proj") for i in (0, 1)),
    (_timm, pictures, "blocks.0.attn.proj", 3, 3, "blocks.0.attn.proj"),
    (_timm, pictures, "blocks.0.attn.proj", 4, 4, "blocks.0.attn.proj"),
    (_written_out, pictures, "blocks.0.attn", 3, 3, "blocks.0.attn.proj"),
    *((_hf_vit, pictures, f"vit.layers.{i}.attention", True, 3, f"vit.layers.{i}.attention.o_proj") for i in (0, 1)),
    (_hf_vit, pictures, "vit.layers.1.attention.o_proj", 3, 3, "vit.layers.1.attention.o_proj"),
    *(
        (_bert, tokens, f"bert.encoder.layer.0.{one}", True, 3, "bert.encoder.layer.0.attention.output.dense")
        for one in ("attention", "attention.self")
    ),
    *((_encoder, small_pictures, one, True, 2, f"{one}.out_proj") for one in ("encoder.layers.1.self_attn", "cross")),
    *(
        (_positions_first, small_pictures, one, True, 3, f"{one}.out_proj")
        for one in ("encoder.layers.1.self_attn", "cross")
    ),
]


def plain(
    module: nn.Module, inputs: Tensor, projection: str, count: int, heads: Sequence[int], values: Tensor | None = None
) -> Tensor:
    """The logits of a copy whose projection has no weights for these heads, but a bias for what stands in for them."""
    changed = copy.deepcopy(module)
    dense = changed.get_submodule(projection)
    with torch.no_grad():
        weight = dense.weight.unflatten(1, (count, -1))
        for head in heads:
            if values is not None:
                dense.bias += weight[:, head] @ values[head].expand(weight.shape[2])
            weight[:, head] = 0
        returned = changed(inputs.clone())
    return returned if isinstance(returned, Tensor) else returned.logits


@pytest.mark.parametrize(("build", "given", "layer", "heads", "count", "projection"), CASES)
def test_as_zeroed_columns(
    build: Callable[[], nn.Module],
    given: Callable[[], Tensor],
    layer: str,
    heads: bool | int,
    count: int,
    projection: str,
) -> None:
    module, inputs = build(), given()
    kept = Above(module, Layer(layer, heads=heads)).keep(inputs)
    assert kept.units == count
    assert_close(kept.logits, plain(module, inputs, projection, count, []), rtol=1e-12, atol=1e-12)
    features = 12 // count
    for values in (
        torch.zeros(count, dtype=torch.float64),
        torch.linspace(-1, 2, count, dtype=torch.float64),
        torch.linspace(-1, 2, 12, dtype=torch.float64).view(count, features),
    ):
        sets = [[0], [count - 1], [0, 1]]
        expected = torch.cat([plain(module, inputs, projection, count, one, values) for one in sets])
        for _ in range(2):
            found = kept.run(kept.changed([torch.tensor(one) for one in sets], values))
            assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(found, kept.logits.repeat(3, 1), rtol=1e-6, atol=1e-9)
    # What goes around the attention is kept positions first, in which several units' items cannot be told.
    assert kept.way is (Way.ONE if build is _positions_first and layer != "cross" else Way.MANY)


def gives(module: nn.Module, inputs: Tensor, layer: str, count: int) -> Tensor:
    """What torchvision's heads give, (B, tokens, heads, features): through the identity as a projection."""
    module = copy.deepcopy(module)
    part = module.get_submodule(layer)
    nn.init.eye_(part.out_proj.weight)
    nn.init.zeros_(part.out_proj.bias)
    seen: list[Tensor] = []
    part.register_forward_hook(lambda _, __, output: seen.append(output[0].detach()))
    module(inputs)
    return seen[0].unflatten(-1, (count, -1))


def test_the_mean_is_that_of_each_feature() -> None:
    module, layer = vit(), _TORCHVISION.format(1)
    inputs, labels = pictures(7), torch.arange(7) % 5
    data = [(inputs[:4], labels[:4]), (inputs[4:], labels[4:])]
    mean = gives(module, inputs, layer, 2).mean((0, 1))
    asked = Layer(layer, heads=True)
    for value in ("mean", mean):
        classes, confidences = without(module, asked, data, value=value)
        for head in (0, 1):
            logits = plain(module, inputs, f"{layer}.out_proj", 2, [head], mean)
            confidence = logits.softmax(1).gather(1, labels[:, None])[:, 0].float()
            assert_close(confidences[head], confidence)
            assert classes[head].tolist() == logits.argmax(1).tolist()
    assert not torch.equal(confidences, without(module, asked, data)[1])
    by_class = remove_by_class(module, asked, data, data, counts=(1,), value="mean")
    assert by_class.importance.shape == (5, 2)


def test_what_heads_do() -> None:
    module, layer = vit(), _TORCHVISION.format(0)
    inputs, labels = pictures(4), torch.arange(4)
    asked = Layer(layer, heads=True)
    seen = activations(module, asked, (inputs, labels))
    own = gives(module, inputs, layer, 2)
    assert_close(Above(module, asked).keep(inputs).activation, own)
    assert_close(seen.mean, own.mean((0, 1, 3)))
    assert_close(seen.maximum, own.amax((0, 1, 3)))
    assert_close(seen.l2, own.square().sum((0, 1, 3)))
    assert_close(seen.value_means, own.mean((0, 1)))
    assert seen.positions == 4 * 17 * 6
    with pytest.raises(InputError, match="no weights of their own"):
        attribute("weight-norm").of(seen)
    with pytest.raises(InputError, match=r"heads of layer .* have no weights of their own"):
        incoming_norms(Above(module, asked), inputs)
    with pytest.raises(InputError, match="go with masks"):
        activations(module, asked, (inputs, labels), masks=torch.ones(4, 1, 8, 8, dtype=torch.bool))


def test_what_is_below_does_not_run_again() -> None:
    """Of the last block: its projection, and its two dense layers; of the model, the head."""
    kept = Above(vit(), Layer(_TORCHVISION.format(1), heads=True)).keep(pictures())
    changed = kept.changed([torch.tensor([0]), torch.tensor([1])], torch.zeros(2))
    kept.run(changed)
    with Counts() as counts:
        kept.run(changed)
    assert counts.calls["addmm"] + counts.calls["mm"] + counts.calls["linear"] == 4
    assert not any("attention" in name or name in ("bmm", "eye") for name in counts.calls)


class Same(nn.Module):
    """One attention called twice, with weights that are made anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.other = nn.MultiheadAttention(12, 2, batch_first=True)
        nn.utils.parametrizations.weight_norm(self.attention.out_proj)
        self.embed, self.head = nn.Linear(3, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2).transpose(1, 2))
        for one in (self.attention, self.other, self.attention):
            x = x + one(x, x, x, need_weights=False)[0]
        return self.head(x.mean(1))


@pytest.mark.parametrize(("call", "place"), [(0, 0), (1, 1), (-1, 1)])
def test_calls_of_an_attention(call: int, place: int) -> None:
    torch.manual_seed(0)
    module, inputs = Same().double().eval(), small_pictures()
    with pytest.raises(ModelError, match="the output projection of layer 'attention' is called 2 times"):
        Above(module, Layer("attention", heads=True)).keep(inputs)
    with pytest.raises(InputError, match="no call=2; there are 0 to 1"):
        Above(module, Layer("attention", heads=True, call=2)).keep(inputs)
    kept = Above(module, Layer("attention", heads=True, call=call)).keep(inputs)
    found = kept.run(kept.changed([torch.tensor([1])], torch.zeros(2)))

    without = nn.MultiheadAttention(12, 2, batch_first=True).double().eval()
    with torch.no_grad():
        without.in_proj_weight.copy_(module.attention.in_proj_weight)
        without.out_proj.weight.copy_(module.attention.out_proj.weight)
        without.out_proj.weight[:, 6:] = 0
        x = module.embed(inputs.flatten(2).transpose(1, 2))
        for at, one in enumerate((module.attention, module.other, module.attention)):
            part = without if at == 2 * place else one
            x = x + part(x, x, x, need_weights=False)[0]
        assert_close(found, module.head(x.mean(1)), rtol=1e-12, atol=1e-12)


def test_untouched() -> None:
    module, inputs = vit(), pictures()
    torch.backends.mha.set_fastpath_enabled(True)
    before, intact = snapshot(module), module(inputs)
    kept = Above(module, Layer(_TORCHVISION.format(0), heads=True)).keep(inputs)
    kept.run(kept.changed([torch.tensor([0])], torch.zeros(2)))
    assert_close(snapshot(module), before, rtol=0, atol=0)
    assert torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad(), Counts() as counts:
        assert_close(module(inputs), intact)
    assert counts.calls["_native_multi_head_attention"] == 2


def test_untouched_after_errors() -> None:
    module, inputs = vit(), pictures()
    before = snapshot(module)
    above = Above(module, Layer(_TORCHVISION.format(0), heads=True))
    with pytest.raises(ValueError, match="broken"), above.hooked(_breaks):
        module(inputs)
    assert_close(snapshot(module), before, rtol=0, atol=0)


def _breaks(_: Tensor) -> None:
    raise ValueError("broken")


class Odd(nn.Module):
    """Attentions that hide what heads need."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(12, 3)
        self.attention.final, self.attention.proj = self.attention.proj, nn.Identity()
        self.conv1d = Conv1D(12, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        return self.head(self.conv1d(x=F.pad(x, (0, 9))).mean(1))


def test_a_projection_that_is_no_linear() -> None:
    torch.manual_seed(0)
    module, inputs = Odd().double().eval(), small_pictures()
    kept = Above(module, Layer("conv1d", heads=4)).keep(inputs)
    found = kept.run(kept.changed([torch.tensor([0])], torch.zeros(4)))
    with torch.no_grad():
        module.conv1d.weight[:3] = 0
        assert_close(found, module(inputs), rtol=1e-12, atol=1e-12)


def test_refusals() -> None:
    module = Odd().double().eval()
    with pytest.raises(InputError, match="how many heads layer 'conv1d' has cannot be told from its Conv1D; say it"):
        Above(module, Layer("conv1d", heads=True))
    with pytest.raises(InputError, match=r"which part of layer 'attention' \(Attention\) projects .* name that dense"):
        Above(module, Layer("attention", heads=True))
    with pytest.raises(InputError, match="layer 'attention' has 3 heads, not 4"):
        Above(module, Layer("attention", heads=4))
    with pytest.raises(InputError, match=r"5 heads of layer 'conv1d' cannot share the last .* \(3, 16, 12\) equally"):
        Above(module, Layer("conv1d", heads=5)).keep(small_pictures())
    with pytest.raises(InputError, match="no layer 'attentoin' in Odd; there are attention"):
        Above(module, Layer("attentoin", heads=True))
    with pytest.raises(ModelError, match=r"projection of layer 'attention\.final' is called 0 times"):
        Above(module, Layer("attention.final", heads=3)).keep(small_pictures())
    windows = SwinTransformer(32, 4, num_classes=4, embed_dim=12, depths=(1,), num_heads=(3,), window_size=2)
    with pytest.raises(ModelError, match=r"heads that give .* of shape \(48, 4, 3, 4\) for a batch of 3; .* windows"):
        Above(windows.double().eval(), Layer("layers.0.blocks.0.attn", heads=True)).keep(pictures())
    with pytest.raises(InputError, match="at least one, or True or False, not 0"):
        Layer("attention", heads=0)
    with pytest.raises(InputError, match="no unit_dim and no basis"):
        Layer("attention", heads=3, basis=torch.eye(3))
    with pytest.raises(InputError, match="no unit_dim and no basis"):
        Layer("attention", heads=True, unit_dim=1)
    data = pictures(4), torch.arange(4)
    asked = Layer("blocks.0.attn", heads=True)
    for wrong in (torch.zeros(3, 5), torch.zeros(2, 4)):
        with pytest.raises(InputError, match="has 3 units, but values of shape"):
            ablate(_timm(), asked, data, value=wrong)
    with pytest.raises(InputError, match="has 12 units, but values of shape"):
        ablate(_timm(), "blocks.0.attn", data, value=torch.zeros(12, 4))

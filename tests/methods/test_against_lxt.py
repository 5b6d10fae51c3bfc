"""AttnLRP and CP-LRP on torchvision's vision transformer equal those of LXT, the implementation of AttnLRP's authors.

What is LXT's: its rules (`lxt.efficient.rules`, `lxt.explicit.functional`), its patches of GELU, layer norm and
multi-head attention (`lxt.efficient.patches`), its map of patches for torchvision's vision transformer, which is CP-LRP
(`lxt.efficient.models.vit_torch`). What is wiring of ours: LXT has no map for AttnLRP on that model, so its wrapper for
attention is put around torch's scaled dot products between the projections of `nn.MultiheadAttention`; and the forward
pass that strings LXT's explicit functions together.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

import visavis as vv
from visavis.propagation import RuleSet, Zero

pytest.importorskip("lxt")

DOUBLE = torch.float64
ATTNLRP = RuleSet(Zero(), share="signed", attention="uniform")
CP_LRP = RuleSet(Zero(), share="signed", attention="value")


class Efficient:
    """LXT's rules for gradient × input."""

    def __init__(self) -> None:
        self.patches = importlib.import_module("lxt.efficient.patches")
        self.cp_lrp = importlib.import_module("lxt.efficient.models.vit_torch").cp_LRP

    def relevance(self, model: nn.Module, x: Tensor, target: int) -> Tensor:
        """LXT's recipe: input × gradient of the class score, with the patches on."""
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(x)[:, target].sum(), x)
        return (x * gradient).detach()


@pytest.fixture
def lxt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Efficient]:
    """LXT's efficient rules; what they patch in torch's classes is put back afterwards."""
    loaded = set(sys.modules)
    for name in ("lxt.efficient", "lxt.efficient.models"):
        # The packages themselves import language models of transformers, of one version only.
        package = types.ModuleType(name)
        spec = importlib.util.find_spec("lxt")
        assert spec is not None
        assert spec.submodule_search_locations
        package.__path__ = [
            f"{root}/{name.removeprefix('lxt.').replace('.', '/')}" for root in spec.submodule_search_locations
        ]
        monkeypatch.setitem(sys.modules, name, package)
    for kind in (nn.GELU, nn.LayerNorm, nn.MultiheadAttention):
        monkeypatch.setattr(kind, "forward", kind.forward)
        monkeypatch.setattr(kind, "original_forward", None, raising=False)
    try:
        yield Efficient()
    finally:
        for name in [name for name in sys.modules if name.startswith("lxt") and name not in loaded]:
            del sys.modules[name]


def patch_cp_lrp(lxt: Efficient) -> None:
    """LXT's own map of patches for this model."""
    for kind, patch in lxt.cp_lrp.items():
        assert patch(kind)


def patch_attnlrp(lxt: Efficient) -> None:
    """LXT's patches of GELU and layer norm; in attention LXT's wrapper, which divides the gradients of q, k and v."""
    for kind in (nn.GELU, nn.LayerNorm):
        assert lxt.cp_lrp[kind](kind)

    def dot_products(module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value)

    attention = lxt.patches.wrap_attention_forward(dot_products)

    def forward(
        self: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, **_: Any
    ) -> tuple[Tensor, None]:
        split = split_heads(self, query, key, value)
        joined = attention(self, *split).transpose(1, 2).flatten(2)
        return F.linear(joined, self.out_proj.weight, self.out_proj.bias), None

    nn.MultiheadAttention.forward = forward


def split_heads(layer: nn.MultiheadAttention, *inputs: Tensor) -> list[Tensor]:
    """Project query, key and value, and take the heads apart: (B, heads, L, E)."""
    weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    return [
        F.linear(x, w, b).unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)
        for x, w, b in zip(inputs, weights, biases, strict=True)
    ]


def small() -> tuple[nn.Module, Tensor]:
    return drawn(models.VisionTransformer(32, 8, 3, 4, 32, 64, num_classes=10)), torch.randn(2, 3, 32, 32, dtype=DOUBLE)


def drawn(model: nn.Module) -> nn.Module:
    """In float64, with random biases, positions, class token and head, of which torchvision sets most to zero."""
    model = model.double().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or name in ("class_token", "heads.head.weight"):
            parameter.normal_(0.0, 0.05)
    return model


def ours(model: nn.Module, x: Tensor, rules: RuleSet | str, target: int) -> Tensor:
    """Relevance with the score, sign included, as seed: LXT's convention."""
    return vv.LRP(model, rules=rules, seed="one").attribute(x, target) * model(x)[:, target].view(-1, 1, 1, 1)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """To `tolerance`, relative to each map's largest value."""
    scale = expected.abs().flatten(1).amax(1).view(-1, 1, 1, 1)
    assert (scale > 0).all()
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=tolerance)


VARIANTS = pytest.mark.parametrize(
    ("patch", "rules", "name"),
    [(patch_attnlrp, ATTNLRP, "attnlrp"), (patch_cp_lrp, CP_LRP, "cp-lrp")],
    ids=["attnlrp", "cp-lrp"],
)


@VARIANTS
def test_a_small_vision_transformer(
    patch: Callable[[Efficient], None], rules: RuleSet, name: str, lxt: Efficient
) -> None:
    model, x = small()
    exact, named, plain = ours(model, x, rules, 3), ours(model, x, name, 3), model(x)
    assert torch.equal(exact, named)
    patch(lxt)
    torch.testing.assert_close(model(x.requires_grad_()).detach(), plain, rtol=1e-9, atol=1e-12)
    expected = lxt.relevance(model, x.detach(), 3)
    close(exact, expected, 1e-7)  # LXT adds 1e-10 to the inputs of GELU


@pytest.mark.slow
@VARIANTS
def test_vit_b_16(patch: Callable[[Efficient], None], rules: RuleSet, name: str, lxt: Efficient) -> None:
    model, x = drawn(models.vit_b_16(weights=None)), torch.randn(1, 3, 224, 224, dtype=DOUBLE)
    found = ours(model, x, name, 340)
    patch(lxt)
    close(found, lxt.relevance(model, x, 340))


def test_the_two_variants_differ(lxt: Efficient) -> None:
    model, x = small()
    found = ours(model, x, ATTNLRP, 3)
    patch_cp_lrp(lxt)
    with pytest.raises(AssertionError):
        close(found, lxt.relevance(model, x, 3), 1e-2)


def test_without_patches_it_is_the_plain_gradient(lxt: Efficient) -> None:
    """The comparison bites: what LXT patches is what makes its map ours."""
    model, x = small()
    for rules in (ATTNLRP, CP_LRP):
        with pytest.raises(AssertionError):
            close(ours(model, x, rules, 3), lxt.relevance(model, x, 3), 1e-2)


def test_lxt_leaves_nothing_behind() -> None:
    for kind in (nn.GELU, nn.LayerNorm, nn.MultiheadAttention):
        assert kind.forward.__module__.startswith("torch.nn.modules")
        assert not hasattr(kind, "original_forward")
    assert not [name for name in sys.modules if name.startswith("lxt.efficient")]


# LXT's explicit functions, which move relevance rather than gradients


def explicit_relevance(model: Any, x: Tensor, target: int) -> Tensor:
    """AttnLRP by LXT's explicit functions; which of them stands where in the model is wiring of ours."""
    rules, lf = (importlib.import_module(f"lxt.explicit.{name}") for name in ("rules", "functional"))
    exact = 0.0  # what LXT adds to denominators, where it can be told

    def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return lf.linear_epsilon(x, weight, bias, exact)

    def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
        return lf.layer_norm_grad_fn.apply(x, layer.weight, layer.bias, layer.eps, exact)

    def added(a: Tensor, b: Tensor) -> Tensor:
        return lf.add2(a, b, epsilon=exact)

    def attention(x: Tensor, layer: nn.MultiheadAttention) -> Tensor:
        weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
        query, key, value = (
            linear(x, w, b).unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)
            for w, b in zip(weights, biases, strict=True)
        )
        scores = lf.matmul(query, key.transpose(-2, -1), epsilon=exact)
        shares = lf.softmax(scores, -1, temperature=math.sqrt(query.shape[-1]))
        joined = lf.matmul(shares, value, epsilon=exact).transpose(1, 2).flatten(2)
        return linear(joined, layer.out_proj.weight, layer.out_proj.bias)

    x = x.clone().requires_grad_()
    h = rules.epsilon_lrp(model.conv_proj, exact, x).flatten(2).transpose(1, 2)
    h = torch.cat([model.class_token.expand(len(x), -1, -1), h], 1)
    h = added(h, model.encoder.pos_embedding.expand_as(h))
    for block in model.encoder.layers:
        h = added(h, attention(norm(h, block.ln_1), block.self_attention))
        hidden = linear(norm(h, block.ln_2), block.mlp[0].weight, block.mlp[0].bias)
        hidden = rules.identity(F.gelu, hidden)
        h = added(h, linear(hidden, block.mlp[3].weight, block.mlp[3].bias))
    head = model.heads.head
    logits = linear(norm(h, model.encoder.ln)[:, 0], head.weight, head.bias)
    torch.testing.assert_close(logits.detach(), model(x).detach(), rtol=1e-9, atol=1e-12)
    seed = torch.zeros_like(logits)
    seed[:, target] = logits[:, target].detach()
    (relevance,) = torch.autograd.grad(logits, x, seed)
    return relevance


def test_attnlrp_by_explicit_functions() -> None:
    model, x = small()
    close(ours(model, x, ATTNLRP, 3), explicit_relevance(model, x, 3), 1e-7)

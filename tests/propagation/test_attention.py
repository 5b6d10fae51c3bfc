"""Softmax and attention in every spelling, masked, windowed and as modules, against the formulas written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.swin_transformer import SwinTransformer, shifted_window_attention

import visavis as vv
from oracles import attention as oracle
from oracles import dense
from oracles.attention import Mask, Windows
from visavis.propagation import (
    Epsilon,
    Gamma,
    Rule,
    RuleSet,
    Run,
    Zero,
    ZPlus,
    attention,
    contraction,
    forward,
    functions,
)

DOUBLE = torch.float64
SHARES, ATTENTIONS = ("signed", "absolute", "same-sign"), ("value", "uniform")
RULES: dict[str, tuple[Rule, dense.Rule]] = {
    "zero": (Zero(), dense.zero),
    "epsilon": (Epsilon(0.1), lambda *a: dense.epsilon(*a, epsilon=0.1)),
    "z-plus": (ZPlus(), dense.z_plus),
    "gamma": (Gamma(0.3), lambda *a: dense.gamma(*a, gamma=0.3)),
}
BOTH_SHARES = pytest.mark.parametrize("share", SHARES)
BOTH_ATTENTIONS = pytest.mark.parametrize("mode", ATTENTIONS)
EVERY_RULE = pytest.mark.parametrize("name", RULES)


class Applied(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


@contextmanager
def followed(function: Callable[..., Any], inputs: Any, rules: RuleSet) -> Iterator[tuple[Run, Tensor]]:
    """Run a function or module, see that its output is torch's own, and give the run and a seed."""
    several = inputs if isinstance(inputs, tuple) else (inputs,)
    module = function if isinstance(function, nn.Module) else Applied(function)
    # What needs gradients takes no short cut in torch; relevance takes none either.
    expected = module(*(one.clone().requires_grad_() for one in several)).detach()
    with forward(module, inputs, rules, pick=lambda returned: returned) as run:
        assert torch.equal(run.returned, expected)
        yield run, torch.rand_like(run.output) + 0.5


def explained(function: Callable[..., Any], inputs: Any, rules: RuleSet) -> tuple[Any, Tensor]:
    with followed(function, inputs, rules) as (run, seed):
        return run.relevance(seed), seed


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """To `tolerance`, relative to the largest value; nothing where nothing is expected."""
    scale = float(expected.abs().max()) or 1.0
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=tolerance)


def all_close(found: tuple[Tensor, ...], expected: list[Tensor]) -> None:
    assert sum(float(one.abs().max()) for one in expected) > 0
    for one, other in zip(found, expected, strict=True):
        close(one, other)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE)


def drawn(module: nn.Module, deviation: float = 0.5) -> Any:
    """In float64, with every parameter drawn at random, also those that torch sets to 0 or 1."""
    module = module.double().eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.normal_(0.0, deviation)
    return module


def rules_of(share: str, mode: str, rule: Rule | None = None) -> RuleSet:
    return RuleSet(rule or Zero(), share=share, attention=mode)


# Softmax

#: How each function that is registered as a softmax is called, by its name.
SOFTMAXES: dict[str, Callable[[Any, Tensor, int], Tensor]] = {
    "softmax": lambda f, x, dim: f(x, dim),
    "special_softmax": lambda f, x, dim: f(x, dim=dim),
}


@BOTH_SHARES
@BOTH_ATTENTIONS
@pytest.mark.parametrize("dim", [1, -1])
@pytest.mark.parametrize(
    "function", [f for f, of in functions._CROSSINGS.items() if of is attention.softmax], ids=functions.name_of
)
def test_softmax(function: Any, dim: int, mode: str, share: str) -> None:
    x = normal(2, 4, 3)
    moved, seed = explained(lambda x: SOFTMAXES[function.__name__](function, x, dim), x, rules_of(share, mode))
    expected = oracle.softmax(x.transpose(dim, -1), seed.transpose(dim, -1), mode).transpose(dim, -1)
    close(moved, expected)


@BOTH_ATTENTIONS
@pytest.mark.parametrize("make", [lambda: nn.Softmax(-1), nn.Softmax2d], ids=["Softmax", "Softmax2d"])
def test_softmax_modules(make: Callable[[], nn.Module], mode: str) -> None:
    x = normal(2, 4, 3, 5)
    dim = 1 if isinstance(make(), nn.Softmax2d) else -1
    moved, seed = explained(make(), x, rules_of("signed", mode))
    close(moved, oracle.softmax(x.transpose(dim, -1), seed.transpose(dim, -1), mode).transpose(dim, -1))


@BOTH_ATTENTIONS
def test_a_softmin_is_the_softmax_of_the_negated(mode: str) -> None:
    x = normal(2, 4)
    moved, seed = explained(lambda x: F.softmin(x, -1), x, rules_of("signed", mode))
    close(moved, oracle.softmax(-x, seed, mode))


def test_a_softmax_in_another_precision() -> None:
    x = normal(2, 4).float()
    with forward(
        Applied(lambda x: x.softmax(-1, dtype=DOUBLE)), x, rules_of("signed", "uniform"), pick=lambda r: r
    ) as run:
        assert torch.equal(run.output, x.softmax(-1, dtype=DOUBLE))
        seed = torch.rand_like(run.output)
        moved = run.relevance(seed)
    assert moved.dtype == torch.float32
    close(moved.double(), oracle.softmax(x.double(), seed, "uniform"), 1e-6)


# Scaled dot products

QUERY, KEY, VALUES = (2, 2, 4, 3), (2, 2, 5, 3), (2, 2, 5, 6)
KEPT = (torch.arange(20) % 3 < 2).view(4, 5)
ADDED = torch.linspace(-1.0, 2.0, 20, dtype=DOUBLE).view(4, 5).flip(1)
CUT_OFF = ADDED.masked_fill(~KEPT, -torch.inf)
PER_HEAD = torch.stack([KEPT, KEPT.flip(0)]).expand(2, 2, 4, 5)
CAUSAL = torch.ones(4, 5, dtype=torch.bool).tril()
#: Arguments of the call, and the same as a mask and a scale for the formula.
DOT_PRODUCTS: dict[str, tuple[dict[str, Any], Mask, float]] = {
    "plain": ({}, Mask(), 3**-0.5),
    "scale": ({"scale": 0.3}, Mask(), 0.3),
    "bool": ({"attn_mask": KEPT}, Mask(None, KEPT), 3**-0.5),
    "bool_per_head": ({"attn_mask": PER_HEAD}, Mask(None, PER_HEAD.reshape(4, 4, 5)), 3**-0.5),
    "bool_of_keys": ({"attn_mask": KEPT[:1]}, Mask(None, KEPT[:1]), 3**-0.5),
    "float": ({"attn_mask": ADDED}, Mask(ADDED), 3**-0.5),
    "float_with_infinity": ({"attn_mask": CUT_OFF, "scale": 0.7}, Mask(CUT_OFF), 0.7),
    "causal": ({"is_causal": True}, Mask(None, CAUSAL), 3**-0.5),
    "causal_with_scale": ({"is_causal": True, "scale": -0.5}, Mask(None, CAUSAL), -0.5),
}


@BOTH_SHARES
@BOTH_ATTENTIONS
@pytest.mark.parametrize("name", DOT_PRODUCTS)
def test_scaled_dot_product_attention(name: str, mode: str, share: str) -> None:
    named, mask, scale = DOT_PRODUCTS[name]
    parts = (normal(*QUERY), normal(*KEY), normal(*VALUES))
    moved, seed = explained(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **named), parts, rules_of(share, mode)
    )
    flat = [part.flatten(0, 1) for part in parts]
    expected = oracle.attended(*flat, seed.flatten(0, 1), scale, mask, mode, share)
    all_close(moved, [one.view_as(part) for one, part in zip(expected, parts, strict=True)])


@BOTH_SHARES
@BOTH_ATTENTIONS
@pytest.mark.parametrize("added", [False, True], ids=["bool", "float"])
def test_a_query_that_may_attend_to_nothing(added: bool, mode: str, share: str) -> None:
    kept = torch.ones(4, 4, dtype=torch.bool).tril() & (torch.arange(4) > 0)
    mask = torch.zeros(4, 4, dtype=DOUBLE).masked_fill(~kept, -torch.inf) if added else kept
    parts = (normal(2, 4, 3), normal(2, 4, 3), normal(2, 4, 6))
    rules = rules_of(share, mode)
    moved, seed = explained(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask), parts, rules)
    rows = [part[:, 1:] for part in parts[:1]]
    expected = oracle.attended(*rows, *parts[1:], seed[:, 1:], 3**-0.5, Mask(None, kept[1:]), mode, share)
    assert not moved[0][:, 0].any()
    all_close((moved[0][:, 1:], *moved[1:]), expected)


@BOTH_SHARES
@BOTH_ATTENTIONS
def test_scaled_dot_product_attention_without_heads_and_by_name(mode: str, share: str) -> None:
    parts = (normal(2, 4, 3), normal(2, 5, 3), normal(2, 5, 6))

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(value=v, key=k, query=q, attn_mask=ADDED)

    moved, seed = explained(call, parts, rules_of(share, mode))
    all_close(moved, oracle.attended(*parts, seed, 3**-0.5, Mask(ADDED), mode, share))


@BOTH_SHARES
@BOTH_ATTENTIONS
def test_grouped_queries(mode: str, share: str) -> None:
    """Four heads of queries to two of keys and values: heads 0 and 1 read the first, 2 and 3 the second."""
    parts = (normal(2, 4, 3, 3), normal(2, 2, 5, 3), normal(2, 2, 5, 6))
    moved, seed = explained(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True), parts, rules_of(share, mode)
    )
    query, key, values = parts[0], parts[1][:, [0, 0, 1, 1]], parts[2][:, [0, 0, 1, 1]]
    flat = [part.flatten(0, 1) for part in (query, key, values)]
    found = oracle.attended(*flat, seed.flatten(0, 1), 3**-0.5, Mask(), mode, share)
    of_query, of_key, of_values = (one.view(2, 4, *one.shape[1:]) for one in found)
    all_close(moved, [of_query, of_key[:, ::2] + of_key[:, 1::2], of_values[:, ::2] + of_values[:, 1::2]])


@BOTH_SHARES
@BOTH_ATTENTIONS
def test_one_tensor_as_query_key_and_value(mode: str, share: str) -> None:
    x = normal(3, 4, 5)
    moved, seed = explained(lambda x: F.scaled_dot_product_attention(x, x, x), x, rules_of(share, mode))
    close(moved, sum(oracle.attended(x, x, x, seed, 5**-0.5, Mask(), mode, share)))


@BOTH_SHARES
@BOTH_ATTENTIONS
@EVERY_RULE
def test_queries_that_are_learned(name: str, mode: str, share: str) -> None:
    """A constant query makes of q kᵀ a dense layer of k, which gets the rule of the rule set."""
    rule, formula = RULES[name]
    learned, key, values = normal(4, 3), normal(5, 3), normal(5, 6)
    (of_key, of_values), seed = explained(
        lambda k, v: F.scaled_dot_product_attention(learned[None], k[None], v[None])[0],
        (key, values),
        rules_of(share, mode, rule),
    )
    scores = learned @ key.T * 3**-0.5
    taking = (1,) if mode == "value" else (0, 1)
    weights = oracle.probabilities(scores)
    of_weights, expected = oracle.contraction("ls,sd->ld", (weights, values), seed, share, taking)
    close(of_values, expected)
    of_scores = oracle.softmax(scores, of_weights, mode)
    close(of_key, oracle.rows(formula, learned, None, key, of_scores.T))


@BOTH_SHARES
@BOTH_ATTENTIONS
@EVERY_RULE
def test_values_that_are_learned(name: str, mode: str, share: str) -> None:
    """With constant values the weights alone carry relevance, by either rule: they go through a dense layer."""
    rule, formula = RULES[name]
    query, key, learned = normal(1, 4, 3), normal(1, 5, 3), normal(5, 6)
    moved, seed = explained(
        lambda q, k: F.scaled_dot_product_attention(q, k, learned[None]), (query, key), rules_of(share, mode, rule)
    )
    scores = query[0] @ key[0].T * 3**-0.5
    of_weights = oracle.rows(formula, learned.T, None, oracle.probabilities(scores), seed[0])
    of_scores = oracle.softmax(scores, of_weights, mode)
    expected = oracle.contraction("le,se->ls", (query[0], key[0]), of_scores, share)
    all_close(moved, [one[None] for one in expected])


def test_weights_that_are_dropped_at_random_are_refused() -> None:
    x = normal(2, 4, 3)
    with (
        pytest.raises(vv.UnsupportedOperationError, match=r"`F\.scaled_dot_product_attention`.*call model.eval\(\)"),
        forward(
            Applied(lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)), x, RuleSet(), pick=lambda r: r
        ),
    ):
        pass


# Multi-head attention

LAYERS: dict[str, dict[str, Any]] = {
    "packed": {},
    "without_bias": {"bias": False},
    "separate": {"kdim": 5, "vdim": 3},
    "bias_kv": {"add_bias_kv": True},
    "zero_attn": {"add_zero_attn": True},
    "all": {"add_bias_kv": True, "add_zero_attn": True, "kdim": 5, "vdim": 3},
}


def layer_of(name: str, *, batch_first: bool = True) -> nn.MultiheadAttention:
    return drawn(nn.MultiheadAttention(6, 2, batch_first=batch_first, **LAYERS[name]))


def inputs_of(layer: nn.MultiheadAttention) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value (B, L, E); of constant tensors none."""
    return normal(2, 4, 6), normal(2, 5, layer.kdim), normal(2, 5, layer.vdim)


@BOTH_SHARES
@BOTH_ATTENTIONS
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_multi_head_attention(name: str, need_weights: bool, mode: str, share: str) -> None:
    layer = layer_of(name)
    inputs = inputs_of(layer)
    moved, seed = explained(lambda q, k, v: layer(q, k, v, need_weights=need_weights)[0], inputs, rules_of(share, mode))
    all_close(moved, oracle.multi_head(layer, *inputs, seed, attention=mode, share=share, rule=dense.zero))


@EVERY_RULE
@BOTH_ATTENTIONS
def test_the_projections_have_the_rule_of_the_set(name: str, mode: str) -> None:
    rule, formula = RULES[name]
    layer = layer_of("packed")
    x = normal(2, 4, 6)
    moved, seed = explained(lambda x: layer(x, x, x)[0], x, rules_of("absolute", mode, rule))
    close(moved, sum(oracle.multi_head(layer, x, x, x, seed, attention=mode, share="absolute", rule=formula)))


#: Masks as torch takes them, and what they add to the scores (B · heads, L, S).
LEFT_OUT = torch.tensor([[False, False, True, False, True], [True, False, False, False, False]])
PER_BATCH_AND_HEAD = torch.linspace(-2.0, 1.0, 80, dtype=DOUBLE).view(4, 4, 5)
INFINITE = torch.zeros((), dtype=DOUBLE).fill_(-torch.inf)
MASKS: dict[str, tuple[dict[str, Tensor], Tensor]] = {
    "float": ({"attn_mask": ADDED}, ADDED.expand(4, 4, 5)),
    "per_head": ({"attn_mask": PER_BATCH_AND_HEAD}, PER_BATCH_AND_HEAD),
    "bool": ({"attn_mask": ~KEPT}, torch.where(KEPT, 0.0, INFINITE).expand(4, 4, 5)),
    "keys": (
        {"key_padding_mask": LEFT_OUT},
        torch.where(LEFT_OUT, INFINITE, 0.0).repeat_interleave(2, 0)[:, None].expand(4, 4, 5),
    ),
    "keys_and_float": (
        {"key_padding_mask": torch.where(LEFT_OUT, INFINITE, 0.0), "attn_mask": ADDED},
        torch.where(LEFT_OUT, INFINITE, 0.0).repeat_interleave(2, 0)[:, None] + ADDED,
    ),
}


@BOTH_SHARES
@BOTH_ATTENTIONS
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("name", ["packed", "all"])
@pytest.mark.parametrize("mask", MASKS)
def test_multi_head_attention_with_masks(mask: str, name: str, need_weights: bool, mode: str, share: str) -> None:
    layer = layer_of(name)
    inputs = inputs_of(layer)
    named, added = MASKS[mask]
    moved, seed = explained(
        lambda q, k, v: layer(q, k, v, need_weights=need_weights, **named)[0], inputs, rules_of(share, mode)
    )
    expected = oracle.multi_head(layer, *inputs, seed, mask=added, attention=mode, share=share, rule=dense.zero)
    all_close(moved, expected)


@BOTH_ATTENTIONS
def test_the_batch_in_second_place_and_no_batch_at_all(mode: str) -> None:
    layer, second = layer_of("packed"), layer_of("packed", batch_first=False)
    second.load_state_dict(layer.state_dict())
    x = normal(2, 4, 6)
    rules = rules_of("signed", mode)
    moved, seed = explained(lambda x: second(x, x, x)[0], x.transpose(0, 1), rules)
    options = {"attention": mode, "share": "signed", "rule": dense.zero}
    expected = sum(oracle.multi_head(layer, x, x, x, seed.transpose(0, 1), **options))
    close(moved, expected.transpose(0, 1))
    moved, seed = explained(lambda x: layer(x, x, x, average_attn_weights=False)[0], x[0], rules)
    close(moved, sum(oracle.multi_head(layer, x[:1], x[:1], x[:1], seed[None], **options))[0])


@BOTH_ATTENTIONS
def test_a_causal_layer(mode: str) -> None:
    layer = layer_of("packed")
    x = normal(2, 4, 6)
    mask = nn.Transformer.generate_square_subsequent_mask(4, dtype=DOUBLE)
    moved, seed = explained(
        lambda x: layer(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0], x, rules_of("signed", mode)
    )
    options = {"attention": mode, "share": "signed", "rule": dense.zero}
    close(moved, sum(oracle.multi_head(layer, x, x, x, seed, mask=mask.expand(4, 4, 4), **options)))


@BOTH_ATTENTIONS
@pytest.mark.parametrize("averaged", [True, False])
def test_the_attention_weights_themselves(averaged: bool, mode: str) -> None:
    layer = layer_of("packed")
    x, others = normal(2, 4, 6), normal(2, 5, 6)
    moved, seed = explained(
        lambda x, y: layer(x, y, y, average_attn_weights=averaged)[1], (x, others), rules_of("signed", mode)
    )
    weights, biases = layer.in_proj_weight.split(6), layer.in_proj_bias.split(6)
    query, key = (
        oracle.heads_first(z @ w.T + b, 2) for z, w, b in zip((x, others), weights[:2], biases[:2], strict=True)
    )
    scores = torch.einsum("nle,nse->nls", query, key) * 3**-0.5
    shares = oracle.probabilities(scores).view(2, 2, 4, 5)
    of_weights = shares / shares.sum(1, keepdim=True) * seed[:, None] if averaged else seed
    of_scores = oracle.softmax(scores, of_weights.reshape(4, 4, 5), mode)
    parts = oracle.contraction("nle,nse->nls", (query, key), of_scores, "signed")
    expected = [
        oracle.rows(dense.zero, w, b, z, oracle.heads_last(part, 2))
        for z, w, b, part in zip((x, others), weights[:2], biases[:2], parts, strict=True)
    ]
    all_close(moved, expected)


@BOTH_SHARES
@BOTH_ATTENTIONS
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_encoder_layer(norm_first: bool, masked: bool, mode: str, share: str) -> None:
    layer = drawn(nn.TransformerEncoderLayer(6, 2, 8, activation="gelu", batch_first=True, norm_first=norm_first))
    x = normal(2, 4, 6)
    mask = PER_BATCH_AND_HEAD[..., :4] if masked else None
    moved, seed = explained(lambda x: layer(x, src_mask=mask), x, rules_of(share, mode))
    options = {"attention": mode, "share": share, "rule": dense.zero, "mask": mask}
    close(moved, oracle.encoder_layer(layer, x, seed, **options))


def test_what_torch_does_faster_is_explained_too() -> None:
    """Without gradients a frozen encoder takes torch's fast path; its relevance is that of the slow one."""
    layer = drawn(nn.TransformerEncoderLayer(6, 2, 8, batch_first=True))
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    x = normal(2, 4, 6)
    with torch.no_grad():
        fast = encoder(x)
        found = vv.LRP(nn.Sequential(encoder, nn.Flatten()), rules="attnlrp").attribute(x, 1)
    torch.testing.assert_close(fast, encoder(x.clone().requires_grad_()).detach(), rtol=1e-9, atol=1e-9)
    seed = torch.zeros(2, 24, dtype=DOUBLE)
    seed[:, 1] = fast.flatten(1)[:, 1].abs()
    relevance = seed.view(2, 4, 6)
    options = {"attention": "uniform", "share": "signed", "rule": dense.zero}
    middle = encoder.layers[0](x)
    relevance = oracle.encoder_layer(encoder.layers[1], middle, relevance, **options)
    close(found, oracle.encoder_layer(encoder.layers[0], x, relevance, **options))


# Windows


def windows(version: int, shift: tuple[int, int]) -> Windows:
    return Windows(
        normal(12, 4),
        normal(12),
        normal(4, 4),
        normal(4),
        normal(1, 2, 4, 4),
        [2, 2],
        list(shift),
        2,
        normal(2, 1, 1) if version == 2 else None,
    )


@BOTH_SHARES
@BOTH_ATTENTIONS
@pytest.mark.parametrize("size", [(4, 4), (3, 5)], ids=["whole", "padded"])
@pytest.mark.parametrize("shift", [(0, 0), (1, 1), (0, 1)], ids=str)
@pytest.mark.parametrize("version", [1, 2])
def test_shifted_windows(version: int, shift: tuple[int, int], size: tuple[int, int], mode: str, share: str) -> None:
    given = windows(version, shift)
    x = normal(2, *size, 4)

    def call(x: Tensor) -> Tensor:
        return shifted_window_attention(
            x,
            given.qkv_weight,
            given.proj_weight,
            given.relative_position_bias,
            given.window_size,
            given.num_heads,
            given.shift_size,
            qkv_bias=given.qkv_bias,
            proj_bias=given.proj_bias,
            logit_scale=given.logit_scale,
            training=False,
        )

    moved, seed = explained(call, x, rules_of(share, mode))
    close(moved, oracle.window_attention(given, x, seed, attention=mode, share=share, rule=dense.zero))


@BOTH_SHARES
@BOTH_ATTENTIONS
def test_relative_attention(mode: str, share: str) -> None:
    """MaxViT's: einsum, and a bias by relative position."""
    layer = drawn(RelativePositionalMultiHeadAttention(6, 3, 4))
    x = normal(2, 3, 4, 6)
    moved, seed = explained(layer, x, rules_of(share, mode))
    projected = layer.to_qkv(x).flatten(0, 1)
    query, key, values = (oracle.heads_first(part, 2) for part in projected.split(6, -1))
    mask = Mask(layer.get_relative_positional_bias().expand(6, 2, 4, 4).reshape(12, 4, 4))
    joined = oracle.heads_last(oracle.attend(query, key, values, layer.scale_factor, mask), 2)
    of_joined = oracle.rows(dense.zero, layer.merge.weight, layer.merge.bias, joined, seed.flatten(0, 1))
    parts = oracle.attended(query, key, values, oracle.heads_first(of_joined, 2), layer.scale_factor, mask, mode, share)
    of_projected = torch.cat([oracle.heads_last(part, 2) for part in parts], -1).view(2, 3, 4, 18)
    close(moved, oracle.rows(dense.zero, layer.to_qkv.weight, layer.to_qkv.bias, x, of_projected))


# Whole networks


@BOTH_SHARES
@BOTH_ATTENTIONS
def test_a_class_token_and_embedded_positions_keep_their_share(mode: str, share: str) -> None:
    """A class token that is joined to the patches takes what goes to it; positions take theirs by value alone."""
    layer = layer_of("packed")
    token, positions, x = normal(1, 1, 6), normal(1, 5, 6), normal(2, 4, 6)

    def call(x: Tensor) -> Tensor:
        joined = torch.cat([token.expand(len(x), -1, -1), x], 1) + positions
        return layer(joined, joined, joined)[0][:, 0]

    moved, seed = explained(call, x, rules_of(share, mode))
    plain = torch.cat([token.expand(2, -1, -1), x], 1)
    joined = plain + positions
    wide = torch.zeros(2, 5, 6, dtype=DOUBLE)
    wide[:, 0] = seed
    options = {"attention": mode, "share": share, "rule": dense.zero}
    of_joined = sum(oracle.multi_head(layer, joined, joined, joined, wide, **options))
    of_plain = of_joined * plain / joined if share == "signed" else of_joined
    close(moved, of_plain[:, 1:])


@pytest.mark.parametrize(("mode", "name"), [("uniform", "attnlrp"), ("value", "cp-lrp")])
def test_a_vision_transformer_is_gradient_times_input(mode: str, name: str) -> None:
    model = drawn(VisionTransformer(16, 4, 3, 2, 8, 16, num_classes=5), 0.3)
    x = normal(2, 3, 16, 16)
    seed = torch.zeros(2, 5, dtype=DOUBLE)
    seed[:, 2] = 1.0
    expected = oracle.gradient_times_input(lambda x: oracle.vision_transformer(model, x, mode), x, seed)
    found = vv.LRP(model, rules=rules_of("signed", mode), seed="one").attribute(x, 2)
    close(found, expected)
    close(vv.LRP(model, rules=name, seed="one").attribute(x, 2), expected)


@pytest.mark.parametrize("version", ["swin", "swin_v2"])
def test_a_swin_transformer_keeps_its_forward_pass_and_gives_finite_maps(version: str) -> None:
    """Its windows have their oracle above; here all is put together."""
    from torchvision.models import swin_transformer as swin

    blocks = {
        "swin": {},
        "swin_v2": {"block": swin.SwinTransformerBlockV2, "downsample_layer": swin.PatchMergingV2},
    }[version]
    model = drawn(SwinTransformer([4, 4], 8, [2, 2], [2, 2], [2, 2], num_classes=5, **blocks), 0.3)
    x = normal(1, 3, 24, 24)
    maps = [vv.LRP(model, rules=name).attribute(x, 2) for name in ("attnlrp", "cp-lrp")]
    assert all(bool(one.isfinite().all()) and bool(one.any()) for one in maps)
    assert not torch.allclose(*maps)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
    with followed(model, x, rules_of("absolute", "value", ZPlus())) as (run, seed):
        found = run.relevance(seed)
    close(found.sum(), seed.sum(), 0.05)  # outputs that no positive contribution reaches keep theirs


# What it catches


@pytest.mark.parametrize("wrong", ["whole", "whose_softmax_passes", "whose_softmax_forgets_the_sum", "mask_shares"])
def test_a_wrong_rule_is_caught(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = attention.softmax
    if wrong == "whole":
        monkeypatch.setattr(contraction, "guarded", lambda whole: 0.5 * whole)
    elif wrong == "whose_softmax_passes":
        registered = {f: attention.gating if of is original else of for f, of in functions._CROSSINGS.items()}
        monkeypatch.setattr(functions, "_CROSSINGS", registered)
    elif wrong == "whose_softmax_forgets_the_sum":
        monkeypatch.setattr(oracle, "softmax", lambda scores, relevance, mode: scores * relevance)
    else:
        monkeypatch.setattr(Mask, "relevance", lambda self, scaled, relevance, share: relevance)
    with pytest.raises(AssertionError):
        test_scaled_dot_product_attention("float", "uniform", "signed")

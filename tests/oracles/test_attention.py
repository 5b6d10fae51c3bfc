"""The oracle of attention and normalisation: torch's own outputs, two formulations that agree, what it catches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import shifted_window_attention

from oracles import attention, dense
from oracles.attention import Mask, Windows

DOUBLE = torch.float64
BOTH = pytest.mark.parametrize("mode", ["value", "uniform"])


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=tolerance)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE)


def drawn(module: nn.Module) -> nn.Module:
    """In float64, with every parameter drawn at random, also those that torch sets to 0 or 1."""
    module = module.double().eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.normal_(0.0, 0.5)
    return module


# Softmax, products, normalisation


def test_softmax_is_gradient_times_input() -> None:
    x, relevance = normal(3, 4, 5), normal(3, 4, 5)
    expected = attention.gradient_times_input(lambda x: x.softmax(-1), x, relevance)
    close(attention.softmax(x, relevance, "uniform"), expected)
    assert torch.equal(attention.softmax(x, relevance, "value"), relevance)
    torch.testing.assert_close(attention.probabilities(x), x.softmax(-1))


def test_what_is_masked_takes_none() -> None:
    x, relevance = normal(3, 5), normal(3, 5)
    relevance[:, 2] = 0.0  # a weight of zero gets no relevance from the product that it is in
    x[:, 2] = -torch.inf
    moved = attention.softmax(x, relevance, "uniform")
    rest = [0, 1, 3, 4]
    close(moved[:, rest], attention.softmax(x[:, rest], relevance[:, rest], "uniform"))
    assert not moved[:, 2].any()


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bhld,bhsd->bhls", [(2, 2, 3, 4), (2, 2, 5, 4)]),
        ("bi,bi->b", [(2, 3), (2, 3)]),
        ("i,j->ij", [(3,), (4,)]),
        ("ab,bc,cd->ad", [(2, 3), (3, 2), (2, 4)]),
    ],
)
def test_signed_contractions_are_gradient_times_input(equation: str, shapes: list[tuple[int, ...]]) -> None:
    factors = [normal(*shape) for shape in shapes]
    relevance = normal(*torch.einsum(equation, *factors).shape)
    found = attention.contraction(equation, factors, relevance, "signed")
    for place in range(len(factors)):

        def of_one(x: Tensor, place: int = place) -> Tensor:
            return torch.einsum(equation, *factors[:place], x, *factors[place + 1 :])

        alone = attention.gradient_times_input(of_one, factors[place], relevance)
        close(found[place], alone / len(factors))
        taken = attention.contraction(equation, factors, relevance, "signed", (place,))
        close(taken[place], alone)
        assert all(not other.any() for i, other in enumerate(taken) if i != place)
    close(sum(one.sum() for one in found), relevance.sum())


def test_absolute_contractions_are_those_of_magnitudes() -> None:
    a, b, relevance = normal(2, 3), normal(3, 4), normal(2, 4)
    magnitudes = attention.contraction("ij,jk->ik", (a.abs(), b.abs()), relevance, "signed")
    found = attention.contraction("ij,jk->ik", (a, b), relevance, "absolute")
    for one, other in zip(found, magnitudes, strict=True):
        close(one, other)
    expected = torch.zeros_like(a)
    for i in range(2):
        for j in range(3):
            for k in range(4):
                total = sum(abs(a[i, m] * b[m, k]) for m in range(3))
                expected[i, j] += abs(a[i, j] * b[j, k]) / total * relevance[i, k] / 2
    close(found[0], expected)


def test_contractions_among_what_has_their_sign() -> None:
    a, b, relevance = normal(2, 3), normal(3, 4), normal(2, 4)
    of_a, of_b = attention.contraction("ij,jk->ik", (a, b), relevance, "same-sign")
    expected = torch.zeros_like(a)
    for i in range(2):
        for k in range(4):
            terms = [float(a[i, j] * b[j, k]) for j in range(3)]
            matching = [term if term * sum(terms) > 0 else 0.0 for term in terms]
            for j in range(3):
                expected[i, j] += matching[j] / sum(matching) * relevance[i, k] / 2
    close(of_a, expected)
    close(of_a.sum() + of_b.sum(), relevance.sum())


def test_rows_are_the_dense_rules() -> None:
    layer = nn.Linear(4, 3, dtype=DOUBLE).requires_grad_(False)
    x, relevance = normal(2, 5, 4), normal(2, 5, 3)
    for rule in (dense.zero, dense.z_plus, dense.epsilon, dense.gamma, dense.w_square, dense.flat, dense.same_sign):
        expected = dense.propagate(rule, layer, x, relevance)
        close(attention.rows(rule, layer.weight, layer.bias, x, relevance), expected)


WEIGHT, BIAS = torch.linspace(-1, 2, 24, dtype=DOUBLE), torch.linspace(0.5, -0.7, 24, dtype=DOUBLE)
PER_CHANNEL = torch.arange(4).repeat_interleave(6)
NORMS: dict[str, tuple[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor, bool]] = {
    "layer": (
        lambda x: F.layer_norm(x, (2, 3), WEIGHT[:6].view(2, 3), BIAS[:6].view(2, 3), 1e-3),
        attention.groups_of_last((4, 2, 3), 2),
        WEIGHT[:6].repeat(4),
        BIAS[:6].repeat(4),
        True,
    ),
    "group": (
        lambda x: F.group_norm(x, 2, WEIGHT[:4], BIAS[:4], 1e-3),
        attention.groups_of_channels((4, 2, 3), 2),
        WEIGHT[PER_CHANNEL],
        BIAS[PER_CHANNEL],
        True,
    ),
    "instance": (
        lambda x: F.instance_norm(x, None, None, WEIGHT[:4], BIAS[:4], eps=1e-3),
        attention.groups_of_channels((4, 2, 3), 4),
        WEIGHT[PER_CHANNEL],
        BIAS[PER_CHANNEL],
        True,
    ),
    "rms": (
        lambda x: F.rms_norm(x, (3,), WEIGHT[:3], 1e-3),
        attention.groups_of_last((4, 2, 3), 1),
        WEIGHT[:3].repeat(8),
        torch.zeros(24, dtype=DOUBLE),
        False,
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_normalised_values_are_torch_s_own(name: str) -> None:
    function, groups, weight, bias, centred = NORMS[name]
    x = normal(2, 4, 2, 3)
    maps = attention.normalized(x.flatten(1), groups, weight, bias, 1e-3, centred=centred)
    found = torch.stack([sample @ one.matrix + one.bias for sample, one in zip(x.flatten(1), maps, strict=True)])
    torch.testing.assert_close(found.view_as(x), function(x), rtol=1e-10, atol=1e-12)


def test_a_layer_norm_is_gradient_times_input_with_its_deviation_constant() -> None:
    norm = drawn(nn.LayerNorm(5))
    x, relevance = normal(2, 3, 5), normal(2, 3, 5)
    expected = attention.gradient_times_input(lambda x: attention.constant_scale(x, norm), x, relevance)
    close(attention.layer_norm(norm, x, relevance, "signed"), expected)
    assert torch.equal(attention.layer_norm(norm, x, relevance, "absolute"), relevance)
    torch.testing.assert_close(attention.constant_scale(x, norm), norm(x))


# Attention


def test_attention_is_torch_s_own() -> None:
    q, k, v = normal(3, 4, 2), normal(3, 5, 2), normal(3, 5, 6)
    added, kept = normal(4, 5), torch.rand(4, 5) < 0.7
    kept[:, 0] = True
    for mask, given in ((Mask(), None), (Mask(added), added), (Mask(None, kept), kept)):
        expected = F.scaled_dot_product_attention(q, k, v, given, scale=0.3)
        torch.testing.assert_close(attention.attend(q, k, v, 0.3, mask), expected)


@BOTH
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_gradient_times_input(mode: str, masked: bool) -> None:
    parts = [normal(3, 4, 2), normal(3, 5, 2), normal(3, 5, 6)]
    mask = Mask(normal(4, 5), (torch.arange(20) % 3 < 2).view(4, 5)) if masked else Mask()
    relevance = normal(3, 4, 6)
    found = attention.attended(*parts, relevance, 0.3, mask, mode, "signed")
    for place in range(3):

        def of_one(x: Tensor, place: int = place) -> Tensor:
            q, k, v = (*parts[:place], x, *parts[place + 1 :])
            weights = mask.over(attention.multiplied("nle,nse->nls", q, k, mode) * 0.3).softmax(-1)
            return attention.multiplied("nls,nsd->nld", weights, v, mode, gate=True)

        if mode == "value" and place < 2:
            assert not found[place].any()
        else:
            close(found[place], attention.gradient_times_input(of_one, parts[place], relevance))


def test_magnitudes_keep_the_sum_where_nothing_crosses_the_softmax() -> None:
    parts, relevance = [normal(3, 4, 2), normal(3, 5, 2), normal(3, 5, 6)], normal(3, 4, 6)
    of_query, of_key, of_value = attention.attended(*parts, relevance, 0.3, Mask(normal(4, 5)), "value", "absolute")
    assert not of_query.any()
    assert not of_key.any()
    close(of_value.sum(), relevance.sum())
    *_, halved = attention.attended(*parts, relevance, 0.3, Mask(normal(4, 5)), "uniform", "absolute")
    close(halved.sum(), relevance.sum() / 2)


@BOTH
def test_multi_head_attention_is_gradient_times_input(mode: str) -> None:
    layer = drawn(nn.MultiheadAttention(6, 2, batch_first=True))
    x, others = normal(2, 4, 6), normal(2, 5, 6)
    mask = normal(4, 4, 5)
    options = {"mask": mask, "attention": mode, "share": "signed", "rule": dense.zero}
    relevance = normal(2, 4, 6)
    expected = attention.attention_with_constants(layer, x, others, others, mode, mask)
    torch.testing.assert_close(expected, layer(x, others, others, attn_mask=mask)[0])
    of_query, of_key, of_value = attention.multi_head(layer, x, others, others, relevance, **options)
    for given, found in ((0, of_query), (1, of_key + of_value)):

        def of_one(z: Tensor, given: int = given) -> Tensor:
            a, b = (z, others) if given == 0 else (x, z)
            return attention.attention_with_constants(layer, a, b, b, mode, mask)

        if given == 0 and mode == "value":
            assert not found.any()
        else:
            close(found, attention.gradient_times_input(of_one, (x, others)[given], relevance))


def encoder_layer_with_constants(layer: nn.TransformerEncoderLayer, x: Tensor, mode: str) -> Tensor:
    def block(x: Tensor) -> Tensor:
        return attention.attention_with_constants(layer.self_attn, x, x, x, mode)

    def feed_forward(x: Tensor) -> Tensor:
        return layer.linear2(attention.constant_slope(layer.activation, layer.linear1(x)))

    norms = [lambda x, norm=norm: attention.constant_scale(x, norm) for norm in (layer.norm1, layer.norm2)]
    for part, norm in zip((block, feed_forward), norms, strict=True):
        x = x + part(norm(x)) if layer.norm_first else norm(x + part(x))
    return x


@BOTH
@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_layer_is_gradient_times_input(mode: str, norm_first: bool) -> None:
    layer = drawn(nn.TransformerEncoderLayer(6, 2, 8, activation="gelu", batch_first=True, norm_first=norm_first))
    x, relevance = normal(2, 4, 6), normal(2, 4, 6)
    expected = attention.gradient_times_input(lambda x: encoder_layer_with_constants(layer, x, mode), x, relevance)
    found = attention.encoder_layer(layer, x, relevance, attention=mode, share="signed", rule=dense.zero)
    close(found, expected)
    torch.testing.assert_close(encoder_layer_with_constants(layer, x, mode), layer(x))


def windows(version: int, *, shift: tuple[int, int] = (1, 1), bias: bool = True) -> Windows:
    return Windows(
        normal(12, 4),
        normal(12) if bias else None,
        normal(4, 4),
        normal(4) if bias else None,
        normal(1, 2, 4, 4),
        [2, 2],
        list(shift),
        2,
        normal(2, 1, 1) if version == 2 else None,
    )


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (2, 4)])
@pytest.mark.parametrize("shift", [(0, 0), (1, 1), (0, 1)])
@pytest.mark.parametrize("version", [1, 2])
def test_windows_are_torchvision_s(version: int, shift: tuple[int, int], size: tuple[int, int]) -> None:
    given = windows(version, shift=shift)
    x = normal(2, *size, 4)
    expected = shifted_window_attention(
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
    torch.testing.assert_close(attention.window_attention(given, x, None), expected, rtol=1e-9, atol=1e-9)


@BOTH
def test_windows_without_edges_are_attention(mode: str) -> None:
    """One window that holds the picture, without bias: the same as plain multi-head attention."""
    given = windows(1)._replace(relative_position_bias=torch.zeros(1, 2, 4, 4, dtype=DOUBLE))
    layer = nn.MultiheadAttention(4, 2, batch_first=True, dtype=DOUBLE).requires_grad_(False)
    layer.in_proj_weight.copy_(given.qkv_weight)
    layer.in_proj_bias.copy_(given.qkv_bias)
    layer.out_proj.weight.copy_(given.proj_weight)
    layer.out_proj.bias.copy_(given.proj_bias)
    x, relevance = normal(2, 2, 2, 4), normal(2, 2, 2, 4)
    options = {"attention": mode, "share": "signed", "rule": dense.zero}
    found = attention.window_attention(given, x, relevance, **options)
    tokens = x.flatten(1, 2)
    parts = attention.multi_head(layer, tokens, tokens, tokens, relevance.flatten(1, 2), **options)
    close(found.flatten(1, 2), sum(parts))


def test_the_vision_transformer_is_torchvision_s() -> None:
    model = drawn(VisionTransformer(8, 4, 2, 2, 6, 12, num_classes=5))
    x = normal(2, 3, 8, 8)
    for mode in ("value", "uniform"):
        torch.testing.assert_close(attention.vision_transformer(model, x, mode), model(x), rtol=1e-9, atol=1e-9)


# What it catches


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("softmax", lambda scores, relevance, mode: relevance),
        ("softmax", lambda scores, relevance, mode: scores * relevance * (1 - scores.softmax(-1))),
        ("halved", lambda x: x),
        ("constant_scale", lambda x, norm: norm(x)),
        ("constant_slope", lambda function, x: function(x)),
    ],
)
def test_a_wrong_rule_is_caught(name: str, wrong: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, name, wrong)
    with pytest.raises(AssertionError):
        test_an_encoder_layer_is_gradient_times_input("uniform", True)

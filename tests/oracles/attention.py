"""Relevance through attention and normalisation, written from the papers' formulas and apart from the engine.

AttnLRP: Achtibat et al. 2024, propositions 3.1 (softmax), 3.3 (products) and 3.4 (normalisation); CP-LRP: Ali et al.
2022, attention weights as constants. The first half is dense: every contribution is written out, and nothing uses
autograd. The second half says the same as gradient × input with parts of the function taken as constants, for whole
networks. Everything in float64; for tests only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from oracles import dense
from oracles.dense import Dense, Rule

# Softmax and products


def probabilities(scores: Tensor) -> Tensor:
    """Softmax over the last dimension."""
    grown = (scores - scores.amax(-1, keepdim=True)).exp()
    return grown / grown.sum(-1, keepdim=True)


def softmax(scores: Tensor, relevance: Tensor, attention: str) -> Tensor:
    """R_i = x_i Σ_j (δ_ij − s_i) R_j over the last dimension; what is masked (−∞) had no part and takes none."""
    if attention == "value":
        return relevance
    weights = probabilities(scores)
    size = scores.shape[-1]
    expansion = torch.eye(size, dtype=scores.dtype) - weights.unsqueeze(-1)
    moved = torch.einsum("...ij,...j->...i", expansion, relevance)
    return torch.where(scores.isinf(), 0.0, scores) * moved


def contraction(
    equation: str, factors: Sequence[Tensor], relevance: Tensor, share: str, taking: Sequence[int] | None = None
) -> list[Tensor]:
    """Relevance of each factor of `einsum(equation, *factors)`; those in `taking` (all, by default) take equal parts.

    Every term of the sum is written out, over all letters of the equation. Share: "signed", "absolute" (magnitudes of
    the terms) or "same-sign" (the terms that have the sign of their sum).
    """
    inputs, output = equation.replace(" ", "").split("->")
    subscripts = inputs.split(",")
    letters = "".join(sorted(set(inputs) - {","}))
    taking = range(len(factors)) if taking is None else taking
    terms = torch.einsum(f"{inputs}->{letters}", *factors)
    if share == "absolute":
        terms = terms.abs()
    elif share == "same-sign":
        sums = torch.einsum(f"{letters}->{output}", terms)
        signs = torch.einsum(f"{letters},{output}->{letters}", torch.ones_like(terms), sums.sign())
        terms = torch.where(terms.sign() == signs, terms, 0.0)
    totals = torch.einsum(f"{letters}->{output}", terms)
    empty = totals == 0
    ratio = torch.where(empty, 0.0, relevance / torch.where(empty, 1.0, totals))
    moved = torch.einsum(f"{letters},{output}->{letters}", terms, ratio) / len(taking)
    return [
        torch.einsum(f"{letters}->{of}", moved) if place in taking else torch.zeros_like(factor)
        for place, (of, factor) in enumerate(zip(subscripts, factors, strict=True))
    ]


def rows(rule: Rule, weight: Tensor, bias: Tensor | None, x: Tensor, relevance: Tensor) -> Tensor:
    """A dense layer on the last dimension of x, by a rule of `oracles.dense`."""
    layer = Dense(
        weight.T, torch.zeros(len(weight), dtype=x.dtype) if bias is None else bias, torch.ones_like(weight.T)
    )
    return rule(layer, x.reshape(-1, x.shape[-1]), relevance.reshape(-1, len(weight))).reshape(x.shape)


# Normalisation


def normalized(x: Tensor, groups: Tensor, weight: Tensor, bias: Tensor, eps: float, *, centred: bool) -> list[Dense]:
    """The affine map of each sample of x (B, n) with its σ taken as a constant.

    Args:
        x: (B, n) values.
        groups: (n,) which group each value belongs to: those of a group share their statistics.
        weight, bias: (n,) of each value.
        eps: added to the variance (or the mean square).
        centred: whether the mean of the group is taken off.
    """
    maps = []
    for sample in x:
        matrix = torch.zeros(len(sample), len(sample), dtype=x.dtype)
        for group in groups.unique():
            members = (groups == group).nonzero().flatten().tolist()
            mean = sum(float(sample[i]) for i in members) / len(members) if centred else 0.0
            variance = sum((float(sample[i]) - mean) ** 2 for i in members) / len(members)
            for j in members:
                for i in members:
                    centring = 1.0 / len(members) if centred else 0.0
                    matrix[i, j] = ((i == j) - centring) * float(weight[j]) / math.sqrt(variance + eps)
        maps.append(Dense(matrix, bias, matrix != 0))
    return maps


def normalization(maps: list[Dense], x: Tensor, relevance: Tensor, share: str) -> Tensor:
    """Signed: LRP-0 through the affine map, R_i = x_i Σ_j ∂y_j/∂x_i R_j / y_j; else as it is."""
    if share != "signed":
        return relevance
    moved = [
        dense.zero(one, sample.reshape(1, -1), part.reshape(1, -1))
        for one, sample, part in zip(maps, x, relevance, strict=True)
    ]
    return torch.stack(moved).reshape(x.shape)


def groups_of_last(shape: Sequence[int], axes: int) -> Tensor:
    """Layer and RMS norm: the values of the last `axes` dimensions belong together."""
    inner = math.prod(shape[len(shape) - axes :])
    return torch.arange(math.prod(shape)) // inner


def groups_of_channels(shape: Sequence[int], count: int) -> Tensor:
    """Group norm: `count` groups of channels, each with all its positions; instance norm: one group a channel."""
    return torch.arange(math.prod(shape)) // (math.prod(shape) // count)


def layer_norm(norm: nn.LayerNorm, x: Tensor, relevance: Tensor, share: str) -> Tensor:
    """`nn.LayerNorm` over the last dimension of x."""
    size = x.shape[-1]
    weight = torch.ones(size, dtype=x.dtype) if norm.weight is None else norm.weight.detach()
    bias = torch.zeros(size, dtype=x.dtype) if norm.bias is None else norm.bias.detach()
    flat = x.reshape(-1, size)
    maps = normalized(flat, torch.zeros(size, dtype=torch.long), weight, bias, norm.eps, centred=True)
    return normalization(maps, flat, relevance.reshape(-1, size), share).reshape(x.shape)


# Attention


class Mask(NamedTuple):
    """What is added to the scores (constants), and which scores are kept; both broadcast over them."""

    added: Tensor | None = None
    kept: Tensor | None = None

    def over(self, scaled: Tensor) -> Tensor:
        scores = scaled if self.added is None else scaled + self.added
        return scores if self.kept is None else scores.masked_fill(~self.kept, -torch.inf)

    def relevance(self, scaled: Tensor, relevance: Tensor, share: str) -> Tensor:
        """The part of the scaled products in the masked scores'."""
        scores = self.over(scaled)
        moved = torch.where(scores.isinf(), 0.0, relevance)
        if share != "signed" or self.added is None:
            return moved
        empty = (scores == 0) | scores.isinf()
        return torch.where(empty, 0.0, scaled / torch.where(empty, 1.0, scores)) * moved


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float | Tensor, mask: Mask) -> Tensor:
    """softmax(q kᵀ scale + mask) v, for (n, L, E), (n, S, E), (n, S, D)."""
    weights = probabilities(mask.over(torch.einsum("nle,nse->nls", query, key) * scale))
    return torch.einsum("nls,nsd->nld", weights, value)


def attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    relevance: Tensor,
    scale: float | Tensor,
    mask: Mask,
    attention: str,
    share: str,
) -> list[Tensor]:
    """Relevance of query, key and value, for that of `attend`."""
    scaled = torch.einsum("nle,nse->nls", query, key) * scale
    scores = mask.over(scaled)
    weights = probabilities(scores)
    taking = (1,) if attention == "value" else (0, 1)
    of_weights, of_value = contraction("nls,nsd->nld", (weights, value), relevance, share, taking)
    of_scores = softmax(scores, of_weights, attention)
    of_products = mask.relevance(scaled, of_scores, share)
    return [*contraction("nle,nse->nls", (query, key), of_products, share), of_value]


def heads_first(x: Tensor, heads: int) -> Tensor:
    """(B, L, heads · E) -> (B · heads, L, E)."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).transpose(1, 2).reshape(batch * heads, length, -1)


def heads_last(x: Tensor, heads: int) -> Tensor:
    """(B · heads, L, E) -> (B, L, heads · E)."""
    total, length, width = x.shape
    return x.reshape(total // heads, heads, length, width).transpose(1, 2).reshape(total // heads, length, -1)


def multi_head(
    layer: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    relevance: Tensor,
    *,
    mask: Tensor | None = None,
    attention: str,
    share: str,
    rule: Rule,
) -> list[Tensor]:
    """Relevance of query, key and value (B, L, E) through `nn.MultiheadAttention`, batch first.

    `mask` is what is added to the scores, (B · heads, L, S), with −∞ for what is left out.
    """
    width, heads = layer.embed_dim, layer.num_heads
    if layer.in_proj_weight is None:
        weights = [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight]
    else:
        weights = list(layer.in_proj_weight.split(width))
    biases = [None] * 3 if layer.in_proj_bias is None else list(layer.in_proj_bias.split(width))
    inputs = (query, key, value)
    projected = [_affine(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]
    own = key.shape[1]
    if layer.bias_k is not None:
        batch = len(query)
        projected[1] = torch.cat([projected[1], layer.bias_k.expand(batch, 1, width)], 1)
        projected[2] = torch.cat([projected[2], layer.bias_v.expand(batch, 1, width)], 1)
    if layer.add_zero_attn:
        projected[1:] = [torch.cat([x, torch.zeros_like(x[:, :1])], 1) for x in projected[1:]]
    if mask is not None:
        mask = torch.nn.functional.pad(mask, (0, projected[1].shape[1] - own))
    split = [heads_first(x, heads) for x in projected]
    scale = (width // heads) ** -0.5
    joined = heads_last(attend(*split, scale, Mask(mask)), heads)
    of_joined = rows(rule, layer.out_proj.weight, layer.out_proj.bias, joined, relevance)
    of_split = attended(*split, heads_first(of_joined, heads), scale, Mask(mask), attention, share)
    of_projected = [heads_last(r, heads)[:, : x.shape[1]] for r, x in zip(of_split, inputs, strict=True)]
    return [rows(rule, w, b, x, r) for w, b, x, r in zip(weights, biases, inputs, of_projected, strict=True)]


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = x @ weight.T
    return y if bias is None else y + bias


def encoder_layer(
    layer: nn.TransformerEncoderLayer,
    x: Tensor,
    relevance: Tensor,
    *,
    mask: Tensor | None = None,
    attention: str,
    share: str,
    rule: Rule,
) -> Tensor:
    """`nn.TransformerEncoderLayer` at inference, batch first, either order of norm and attention."""

    def self_attention(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        y = layer.self_attn(x, x, x, attn_mask=mask, need_weights=False)[0]

        def move(r: Tensor) -> Tensor:
            options = {"mask": mask, "attention": attention, "share": share, "rule": rule}
            return sum(multi_head(layer.self_attn, x, x, x, r, **options))

        return y, move

    def feed_forward(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        hidden = _affine(x, layer.linear1.weight, layer.linear1.bias)
        active = layer.activation(hidden)

        def move(r: Tensor) -> Tensor:
            of_active = rows(rule, layer.linear2.weight, layer.linear2.bias, active, r)
            return rows(rule, layer.linear1.weight, layer.linear1.bias, x, of_active)

        return _affine(active, layer.linear2.weight, layer.linear2.bias), move

    steps = []
    for norm, block in ((layer.norm1, self_attention), (layer.norm2, feed_forward)):
        if layer.norm_first:
            y, move = block(norm(x))
            steps.append((x, y, norm, move))
            x = x + y
        else:
            y, move = block(x)
            steps.append((x, y, norm, move))
            x = norm(x + y)
    for kept, y, norm, move in reversed(steps):
        if layer.norm_first:
            direct, through = dense.sum_shares(kept, y, relevance, share)
            relevance = direct + layer_norm(norm, kept, move(through), share)
        else:
            relevance = layer_norm(norm, kept + y, relevance, share)
            direct, through = dense.sum_shares(kept, y, relevance, share)
            relevance = direct + move(through)
    return relevance


# Shifted windows


class Windows(NamedTuple):
    """What torchvision's `shifted_window_attention` takes, beside the picture (B, H, W, C)."""

    qkv_weight: Tensor
    qkv_bias: Tensor | None
    proj_weight: Tensor
    proj_bias: Tensor | None
    relative_position_bias: Tensor
    window_size: list[int]
    shift_size: list[int]
    num_heads: int
    logit_scale: Tensor | None = None


def window_mask(windows: Windows, height: int, width: int) -> tuple[Mask, int, int]:
    """Which positions of a padded picture see each other, and by what their scores are raised; its height and width.

    All positions are held against all others: those of another window are left out, those of the same window that
    only met by the cyclic shift get −100.
    """
    sizes, across = (height, width), windows.window_size
    padded = [-(-n // w) * w for n, w in zip(sizes, across, strict=True)]
    shift = [0 if w >= n else s for n, w, s in zip(padded, across, windows.shift_size, strict=True)]
    positions = [(h, w) for h in range(padded[0]) for w in range(padded[1])]
    count = len(positions)
    added = torch.zeros(windows.num_heads, count, count, dtype=torch.float64)
    kept = torch.zeros(count, count, dtype=torch.bool)
    for a, first in enumerate(positions):
        for b, second in enumerate(positions):
            met = [_shifted(place, padded, shift, across) for place in (first, second)]
            if met[0][0] != met[1][0]:
                continue
            kept[a, b] = True
            inside = [row * across[1] + column for _, (row, column), _ in met]
            added[:, a, b] = windows.relative_position_bias[0, :, inside[0], inside[1]]
            if met[0][2] != met[1][2]:
                added[:, a, b] -= 100.0
    return Mask(added, kept), padded[0], padded[1]


def _shifted(
    place: tuple[int, int], padded: Sequence[int], shift: Sequence[int], across: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[bool, ...]]:
    """The window that a position falls in after the shift, its place in there, and whether it came round the edge."""
    moved = [(p - s) % n for p, s, n in zip(place, shift, padded, strict=True)]
    return (
        tuple(m // w for m, w in zip(moved, across, strict=True)),
        tuple(m % w for m, w in zip(moved, across, strict=True)),
        tuple(p < s for p, s in zip(place, shift, strict=True)),
    )


def window_attention(
    windows: Windows,
    x: Tensor,
    relevance: Tensor | None,
    *,
    attention: str = "",
    share: str = "",
    rule: Rule | None = None,
) -> Tensor:
    """The output of `shifted_window_attention` for x (B, H, W, C) or, given the output's relevance, that of x."""
    batch, height, width, channels = x.shape
    heads = windows.num_heads
    mask, rows_in_all, columns_in_all = window_mask(windows, height, width)
    mask = Mask(mask.added.repeat(batch, 1, 1), mask.kept)
    wide = torch.zeros(batch, rows_in_all, columns_in_all, channels, dtype=x.dtype)
    wide[:, :height, :width] = x
    tokens = wide.reshape(batch, -1, channels)
    bias = windows.qkv_bias
    if bias is not None and windows.logit_scale is not None:
        bias = torch.cat([bias[:channels], torch.zeros_like(bias[:channels]), bias[2 * channels :]])
    projected = [heads_first(part, heads) for part in _affine(tokens, windows.qkv_weight, bias).split(channels, -1)]
    scale: float | Tensor = (channels // heads) ** -0.5
    if windows.logit_scale is not None:
        # The norms are constants here; relevance passes through them as it is.
        projected[:2] = [part / part.norm(dim=-1, keepdim=True).clamp(min=1e-12) for part in projected[:2]]
        scale = windows.logit_scale.clamp(max=math.log(100.0)).exp().reshape(heads, 1, 1).repeat(batch, 1, 1)
    joined = heads_last(attend(*projected, scale, mask), heads)
    if relevance is None:
        y = _affine(joined, windows.proj_weight, windows.proj_bias)
        return y.reshape(batch, rows_in_all, columns_in_all, channels)[:, :height, :width]
    of_output = torch.zeros_like(wide)
    of_output[:, :height, :width] = relevance
    of_joined = rows(rule, windows.proj_weight, windows.proj_bias, joined, of_output.reshape(tokens.shape))
    parts = attended(*projected, heads_first(of_joined, heads), scale, mask, attention, share)
    of_projected = torch.cat([heads_last(part, heads) for part in parts], -1)
    moved = rows(rule, windows.qkv_weight, bias, tokens, of_projected)
    return moved.reshape(wide.shape)[:, :height, :width]


# The same as gradient × input: in a network of products and sums, parts of which are taken as constants, LRP-0 with
# shares by value is the input times its gradient.


def halved(x: Tensor) -> Tensor:
    """x, with half its gradient."""
    return 0.5 * x + (0.5 * x).detach()


def constant_slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x) as x times a constant."""
    return x * (function(x) / x).detach()


def constant_scale(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """A layer norm with its σ as a constant."""
    centred = x - x.mean(-1, keepdim=True)
    y = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt().detach()
    y = y if norm.weight is None else y * norm.weight
    return y if norm.bias is None else y + norm.bias


def multiplied(equation: str, first: Tensor, second: Tensor, attention: str, *, gate: bool = False) -> Tensor:
    """An einsum of two factors that take half each; by "value" a gate in the first place takes none."""
    if gate and attention == "value":
        return torch.einsum(equation, first.detach(), second)
    return halved(torch.einsum(equation, first, second))


def attention_with_constants(
    layer: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, attention: str, mask: Tensor | None = None
) -> Tensor:
    """`nn.MultiheadAttention` with one packed projection, batch first; `mask` is added to (B · heads, L, S) scores."""
    width, heads = layer.embed_dim, layer.num_heads
    parts = zip((query, key, value), layer.in_proj_weight.split(width), layer.in_proj_bias.split(width), strict=True)
    q, k, v = (heads_first(_affine(x, w, b), heads) for x, w, b in parts)
    scores = multiplied("nle,nse->nls", q, k, attention) * (width // heads) ** -0.5
    weights = probabilities(scores if mask is None else scores + mask)
    joined = heads_last(multiplied("nls,nsd->nld", weights, v, attention, gate=True), heads)
    return _affine(joined, layer.out_proj.weight, layer.out_proj.bias)


def vision_transformer(model: nn.Module, x: Tensor, attention: str) -> Tensor:
    """The logits of torchvision's `VisionTransformer` at inference, with the constants of the rule set in place."""
    patches = model.conv_proj(x).flatten(2).transpose(1, 2)
    x = torch.cat([model.class_token.expand(len(x), -1, -1), patches], 1) + model.encoder.pos_embedding
    for block in model.encoder.layers:
        normed = constant_scale(x, block.ln_1)
        x = x + attention_with_constants(block.self_attention, normed, normed, normed, attention)
        hidden = block.mlp[0](constant_scale(x, block.ln_2))
        x = x + block.mlp[3](constant_slope(block.mlp[1], hidden))
    return model.heads(constant_scale(x, model.encoder.ln)[:, 0])


def gradient_times_input(function: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor) -> Tensor:
    """x · ∂/∂x of the outputs, each weighted so that it holds its relevance; an output of zero holds none."""
    x = x.detach().requires_grad_()
    y = function(x)
    (gradient,) = torch.autograd.grad(y, x, torch.where(y == 0, 0.0, relevance / y).detach())
    return (x * gradient).detach()

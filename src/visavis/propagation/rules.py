r"""Rules: how relevance crosses one weighted linear map.

With inputs x_i, weights w_ij, contributions c_ij = x_i w_ij, outputs z_j = Σ_i c_ij + b_j and the relevance R_j of
the outputs, a rule gives the relevance R_i of the inputs. (·)⁺ and (·)⁻ are the positive and the negative part.
An output whose denominator is zero passes nothing on: it has nothing to share out.

Each rule holds for inputs of any sign. Where the inputs are known to be ≥ 0, the terms of negative inputs vanish and
are not computed. What does not depend on R (weights, denominators) is made once by `Rule.at`, so that a second map of
the same picture costs one transposed pass only.

A departure from most descriptions: the bias takes part in z⁺ and αβ only on request (`bias=True`), so that these
rules keep the sum; zero, ε and γ count it among the contributions, where it absorbs its share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from visavis.errors import InputError
from visavis.propagation.linear_maps import LinearMap

Move = Callable[[Tensor], Tensor]
# In half precision the largest share is about that: many of them are summed up, by weights that are mostly below one.
_SHARE = 64


@dataclass(frozen=True)
class Site:
    """One weighted call, as a rule sees it.

    Attributes:
        map: the linear map, batch norm folded in.
        x: its input, any shape the map takes.
        z: its output, bias included, in the shape of the relevance that arrives; None if the rule does not read it.
        nonnegative: whether x ≥ 0 is known beforehand.
        low, high: bounds of x, broadcastable to it, at the pixel layer; else None.
        maps: how many maps will be asked for, as far as is known: of one alone, what was made for it may be written to.
    """

    map: LinearMap
    x: Tensor
    z: Tensor | None
    nonnegative: bool
    low: Tensor | None = None
    high: Tensor | None = None
    maps: int = 2

    @property
    def once(self) -> bool:
        """Whether one map alone will be asked for."""
        return self.maps == 1

    @property
    def output(self) -> Tensor:
        """The output z, bias included."""
        if self.z is not None:
            return self.z
        z = self.map.apply(self.x, self.map.weight)
        return z if self.map.bias is None else z + self.map.over_result(self.map.bias)


class Rule(ABC):
    """How relevance crosses a weighted linear map."""

    #: Whether the rule reads `Site.output`; where it does, the engine keeps the output that the model computed.
    reads_output: bool = False
    #: Whether the rule reads the bias of `Site.map` (or may have to make the output of it).
    reads_bias: bool = True
    #: Whether negating the weights changes the map; CLRP2 (foil "negated") needs a rule that tells signs apart.
    tells_signs: bool = True

    @abstractmethod
    def at(self, site: Site) -> Move:
        """Return the function that takes R_j, in the shape of the output, to R_i, in the shape of `site.x`."""


@dataclass(frozen=True)
class Zero(Rule):
    """LRP-0 (Bach et al. 2015, eq. 56): R_i = Σ_j c_ij R_j / z_j.

    In a network of ReLUs without biases it equals input × gradient.
    """

    reads_output = True
    tells_signs = False

    def at(self, site: Site) -> Move:
        return _proportional(site, guarded(site.output))


@dataclass(frozen=True)
class Epsilon(Rule):
    """LRP-ε (Bach et al. 2015, eq. 58): R_i = Σ_j c_ij R_j / (z_j + ε sign z_j), with sign 0 = 1.

    `epsilon` is in the units of the outputs z; it absorbs the relevance of outputs that are small beside it.
    """

    epsilon: float = 1e-6
    reads_output = True
    tells_signs = False

    def __post_init__(self) -> None:
        _require(self.epsilon >= 0, f"epsilon must be ≥ 0, not {self.epsilon}")

    def at(self, site: Site) -> Move:
        z = site.output
        return _proportional(site, guarded(torch.where(z < 0, z - self.epsilon, z + self.epsilon)))


@dataclass(frozen=True)
class AlphaBeta(Rule):
    """LRP-αβ (Bach et al. 2015, eq. 60): R_i = Σ_j (α c⁺_ij / Σ_i c⁺_ij − β c⁻_ij / Σ_i c⁻_ij) R_j.

    α − β = 1 keeps the sum wherever an output has contributions of both signs. With `bias`, b⁺_j and b⁻_j count in
    the denominators and absorb their share.
    """

    alpha: float = 2.0
    beta: float = 1.0
    bias: bool = False

    def __post_init__(self) -> None:
        _require(
            self.alpha >= 0 and self.beta >= 0 and abs(self.alpha - self.beta - 1) < 1e-9,
            f"alpha and beta must be ≥ 0 with alpha − beta = 1, not {self.alpha} and {self.beta}",
        )

    def at(self, site: Site) -> Move:
        excitation = _one_sign(site, positive=True, bias=self.bias)
        if self.beta == 0:
            return excitation if self.alpha == 1 else lambda r: self.alpha * excitation(r)
        inhibition = _one_sign(site, positive=False, bias=self.bias)
        return lambda r: self.alpha * excitation(r) - self.beta * inhibition(r)


@dataclass(frozen=True)
class ZPlus(Rule):
    """z⁺ (Montavon et al. 2017, Deep Taylor, eq. 14; α1β0 without bias): R_i = Σ_j c⁺_ij / Σ_i c⁺_ij R_j.

    The rule of the paper (Gu et al. 2018) for every layer but the first. It keeps the sum, except at outputs that no
    positive contribution reaches (a bias alone fired them).
    """

    bias: bool = False

    @property
    def reads_bias(self) -> bool:  # type: ignore[override]
        return self.bias

    def at(self, site: Site) -> Move:
        return _one_sign(site, positive=True, bias=self.bias)


@dataclass(frozen=True)
class SameSign(Rule):
    """z⁺ where z_j > 0, and its mirror image where z_j < 0: R_i = Σ_j c^s_ij / Σ_i c^s_ij R_j, s the sign of z_j.

    The limit of LRP-γ for γ → ∞, without bias: the contributions that made the output what it is take all. Beneath a
    ReLU it is z⁺. It keeps the sum, except at outputs that no contribution of their sign reaches (a bias made them so).
    """

    reads_output = True
    tells_signs = False

    def at(self, site: Site) -> Move:
        z = site.output
        excitation = _one_sign(site, positive=True, bias=False)
        inhibition = _one_sign(site, positive=False, bias=False)
        firing, silenced = z > 0, z < 0
        return lambda relevance: excitation(relevance * firing) + inhibition(relevance * silenced)


@dataclass(frozen=True)
class Gamma(Rule):
    """LRP-γ (Montavon et al. 2019, sec. 10.2.3), in the form that holds for outputs of either sign.

    z_j > 0: R_i = Σ_j (c_ij + γ c⁺_ij) / (z_j + γ (Σ_i c⁺_ij + b⁺_j)) R_j; z_j < 0: the same with the negative parts.
    γ = 0 is LRP-0, γ → ∞ is z⁺ on positive outputs.
    """

    gamma: float = 0.25
    reads_output = True
    tells_signs = False

    def __post_init__(self) -> None:
        _require(self.gamma >= 0, f"gamma must be ≥ 0, not {self.gamma}")

    def at(self, site: Site) -> Move:
        linear, x, z = site.map, site.x, site.output
        w, gamma = linear.weight, self.gamma
        raised, lowered = w + gamma * w.clamp(min=0), w + gamma * w.clamp(max=0)
        excitation = _sum_of_sign(site, positive=True)
        firing, silenced = z > 0, z < 0
        favoured = torch.where(firing, excitation, z - excitation)
        shares = _Shares(guarded(z + gamma * favoured), site.once)

        def move(relevance: Tensor) -> Tensor:
            return shares.through(relevance, both_ways) * x

        def both_ways(share: Tensor) -> Tensor:
            up, down = share * firing, share * silenced
            positive = linear.transpose(up, raised, x) + linear.transpose(down, lowered, x)
            if site.nonnegative:
                return positive
            negative = linear.transpose(up, lowered, x) + linear.transpose(down, raised, x)
            return torch.where(x < 0, negative, positive)

        return move


@dataclass(frozen=True)
class WSquare(Rule):
    """w² (Montavon et al. 2017, eq. 12): R_i = Σ_j w²_ij / Σ_i w²_ij R_j, whatever the input."""

    tells_signs = False

    def at(self, site: Site) -> Move:
        return _by_weight(site, site.map.weight.square())


@dataclass(frozen=True)
class Flat(Rule):
    """Flat (Lapuschkin et al. 2019): every input that an output is wired to takes an equal share of its relevance."""

    tells_signs = False

    def at(self, site: Site) -> Move:
        return _by_weight(site, torch.ones_like(site.map.weight))


@dataclass(frozen=True)
class ZBox(Rule):
    """zᴮ (Montavon et al. 2017, eq. 13), for inputs within l_i ≤ x_i ≤ h_i, such as pixels.

    R_i = Σ_j (x_i w_ij − l_i w⁺_ij − h_i w⁻_ij) / Σ_i (the same) R_j, computed as (x_i − l_i) w⁺_ij plus
    (x_i − h_i) w⁻_ij: two terms that are never negative, so that nothing cancels.

    Without bounds, the range of each image's own values is taken, channel by channel (over all features where the
    input has no spatial dimensions).
    """

    reads_bias = False

    def at(self, site: Site) -> Move:
        linear, x = site.map, site.x
        positive, negative = linear.weight.clamp(min=0), linear.weight.clamp(max=0)
        low, high = _bounds(site)
        above, below = x - low, x - high
        # Both terms go through one map with twice the inputs, in one pass.
        wide = linear.beside(positive, negative)
        both = linear.inputs_beside(above, below)
        shares = _Shares(guarded(wide.apply(both, wide.weight), 1), site.once)

        def move(relevance: Tensor) -> Tensor:
            moved = shares.through(relevance, lambda share: wide.transpose(share, wide.weight, both)).mul_(both)
            first, second = linear.inputs_apart(moved)
            return first + second

        return move


@dataclass(frozen=True)
class Spread(Rule):
    """A rule whose lost relevance goes evenly to the inputs that each output is wired to.

    What `rule` keeps of an output's relevance R_j is Σ_i R_ij; the rest was the bias's share, or had no input to go to
    (Bach et al. 2015, eq. 56 f., spread it so for LRP-0: R_ij gets (c_ij + b_j / n) / z_j). `RuleSet(bias="spread")`
    puts this around every rule.
    """

    rule: Rule

    @property
    def reads_output(self) -> bool:  # type: ignore[override]
        return self.rule.reads_output

    @property
    def tells_signs(self) -> bool:  # type: ignore[override]
        return self.rule.tells_signs

    def at(self, site: Site) -> Move:
        move, evenly = self.rule.at(site), Flat().at(site)
        with torch.enable_grad():
            # A move is linear in R: the gradient of all that it hands on is what it keeps of each output.
            arriving = torch.ones_like(site.output).requires_grad_()
            (kept,) = torch.autograd.grad(move(arriving).sum(), arriving)
        return lambda relevance: move(relevance) + evenly((1 - kept) * relevance)


def _proportional(site: Site, denominator: Tensor) -> Move:
    linear, x, shares = site.map, site.x, _Shares(denominator, site.once)
    return lambda relevance: x * shares.through(relevance, lambda share: linear.transpose(share, linear.weight, x))


def _one_sign(site: Site, *, positive: bool, bias: bool) -> Move:
    """R_i = Σ_j c±_ij / Σ_i c±_ij R_j, over the contributions of one sign."""
    linear, x = site.map, site.x
    same = linear.part(positive=positive, maps=site.maps)
    if site.nonnegative:
        total = same.apply(x, same.weight)
        denominator = guarded(total + _bias_part(site, positive) if bias else total, 1 if positive else -1)
        shares = _Shares(denominator, site.once)
        return lambda r: shares.through(r, lambda share: same.transpose(share, same.weight, x)).mul_(x)
    # A negative input gives contributions of this sign through weights of the other.
    other = linear.part(positive=not positive, maps=site.maps)
    total = same.apply(x.clamp(min=0), same.weight) + other.apply(x.clamp(max=0), other.weight)
    denominator = guarded(total + _bias_part(site, positive) if bias else total, 1 if positive else -1)
    shares = _Shares(denominator, site.once)

    def either(share: Tensor) -> Tensor:
        against, along = other.transpose(share, other.weight, x), same.transpose(share, same.weight, x)
        return torch.where(x < 0, against, along)

    return lambda relevance: shares.through(relevance, either).mul_(x)


class _Shares:
    """R_j over its denominator, map after map in the same memory: new pages would cost more than the division.

    If one map alone is asked for, it is the denominator's memory. What comes out is read before the next map.
    """

    def __init__(self, denominator: Tensor, once: bool) -> None:
        self._denominator = denominator
        self._room = denominator if once else None

    def through(self, relevance: Tensor, transpose: Callable[[Tensor], Tensor]) -> Tensor:
        """Return what a linear function makes of the shares.

        In half precision, which ends at 65504, the share of an output that is nearly zero would be no number, and
        what it is multiplied with next too small: so it passes divided by a power of two, and the result is float32.
        """
        if relevance.dtype != torch.float16:
            return transpose(self._divided(relevance))
        passage = Passage()
        return passage.leave(transpose(passage.enter(relevance, self._denominator)))

    def _divided(self, relevance: Tensor) -> Tensor:
        denominator = self._denominator
        if torch.is_grad_enabled() or relevance.shape != denominator.shape:
            return relevance / denominator
        if self._room is None:
            self._room = torch.empty_like(denominator)
        return torch.div(relevance, denominator, out=self._room)


def _sum_of_sign(site: Site, *, positive: bool) -> Tensor:
    """Σ_i c±_ij + b±_j."""
    linear, x = site.map, site.x
    same = linear.part(positive=positive, maps=site.maps)
    total = same.apply(x if site.nonnegative else x.clamp(min=0), same.weight)
    if not site.nonnegative:
        other = linear.part(positive=not positive, maps=site.maps)
        total = total + other.apply(x.clamp(max=0), other.weight)
    return total + _bias_part(site, positive)


def _part(values: Tensor, positive: bool) -> Tensor:
    return values.clamp(min=0) if positive else values.clamp(max=0)


def _bias_part(site: Site, positive: bool) -> Tensor | int:
    """b±_j, broadcastable to the output; 0 without a bias."""
    bias = site.map.bias
    return 0 if bias is None else site.map.over_result(_part(bias, positive))


def _by_weight(site: Site, weight: Tensor) -> Move:
    linear, x = site.map, site.x
    existing = torch.ones_like(x)
    shares = _Shares(guarded(linear.apply(existing, weight), 1), site.once)
    return lambda relevance: shares.through(relevance, lambda share: linear.transpose(share, weight, x))


def _bounds(site: Site) -> tuple[Tensor, Tensor]:
    x = site.x
    if site.low is not None and site.high is not None:
        low, high = site.low, site.high
    else:
        dimensions = tuple(range(2, x.dim())) or (-1,)
        low, high = x.amin(dimensions, keepdim=True), x.amax(dimensions, keepdim=True)
    return low, high


def guarded(denominator: Tensor, sign: int = 0) -> Tensor:
    """Make r / denominator zero where the denominator is too small to be a number, or has not the sign it must have.

    Only what is below the smallest normal number counts as zero: the guard is relative to the number format, not to
    one, since activations of a freshly initialised network can be tiny as a whole. A sum of terms of one sign gets the
    other sign by rounding alone. With sign 1 the denominator, made for this, is written to.
    """
    tiny = torch.finfo(denominator.dtype).tiny
    if sign == 0:
        # As it lies in memory, which masked_fill would change.
        return torch.where(denominator.abs() <= tiny, torch.inf, denominator)
    if sign < 0:
        return torch.where(denominator >= -tiny, torch.inf, denominator)
    result: Tensor = torch.threshold_(denominator, tiny, torch.inf)
    return result


def divided(relevance: Tensor, denominator: Tensor) -> Tensor:
    """Return relevance over a denominator; float32 where they are in half precision, which may not hold it."""
    if relevance.dtype == torch.float16:
        return relevance.float() / denominator.float()
    return relevance / denominator


class Passage:
    """Shares on their way through a linear function of torch's own, whose backward is in the relevance's precision.

    In half precision they pass divided by a power of two, as in a rule.
    """

    def __init__(self) -> None:
        self._scale: Tensor | None = None

    def enter(self, relevance: Tensor, denominator: Tensor) -> Tensor:
        """Return the shares of relevance, as they pass."""
        shares = divided(relevance, denominator)
        if relevance.dtype != torch.float16:
            return shares
        self._scale = headroom(shares.detach().abs().flatten(), _SHARE)
        return (shares * self._scale).half()

    def leave(self, passed: Tensor) -> Tensor:
        """Return what has passed as it is; of half precision in float32."""
        return passed if self._scale is None else passed.float() / self._scale


def headroom(sizes: Tensor, most: float) -> Tensor:
    """Return the power of two, float32, by which the largest of some sizes, float32 and ≥ 0, comes to about `most`.

    What is not finite has no say: its map is not, but those of the other items are.
    """
    largest = torch.where(torch.isfinite(sizes), sizes, 0).amax()
    return torch.exp2(torch.floor(torch.log2(most / torch.where(largest == 0, 1, largest))))


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise InputError(sentence)

"""Rule sets: which rule goes where in a network, under a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal, TypeVar

from visavis.errors import InputError
from visavis.propagation.rules import AlphaBeta, Epsilon, Gamma, Rule, SameSign, Spread, ZBox, Zero, ZPlus

Share = Literal["signed", "absolute", "same-sign"]
Bias = Literal["absorb", "spread"]
Attention = Literal["value", "uniform"]


@dataclass(frozen=True)
class RuleSet:
    """Which rule goes to which weighted layer, and how sums share.

    For a weighted call the first of these that is given decides: the first pattern of `modules` that matches the
    path of the module in which it is called (shell patterns: `"features.0"`, `"layer4.*"`); `pixel`, at the first
    weighted layer that sees the input; `last`, at those that make the output; `linear` or `convolution` by kind;
    `default`.

    Attributes:
        default: the rule of every weighted layer that nothing below names.
        linear: the rule of dense layers.
        convolution: the rule of convolutions, transposed ones too.
        pixel: the rule of the first weighted layers that see the input.
        last: the rule of the last weighted layers, which make the output that is explained.
        modules: rules by module path pattern.
        share: how a sum a + b of two activations (and every fixed weighted sum, such as average pooling) shares its
            relevance: "signed", by value, a / (a + b); "absolute", by |a| / (|a| + |b|); "same-sign", by value among
            what has the sign of the sum. By value, constants that the model adds (biases, the shift of a batch norm
            that could not be folded) take their share and so absorb it, as LRP-0 wants; else constants take none.
        attention: how attention is crossed: "value", its weights are constants and the values take all (CP-LRP); or
            "uniform", both factors of a product take half, and the softmax its Taylor expansion (AttnLRP).
        bias: what becomes of the relevance that a layer's rule gives to no input, as it is the bias's share, or that of
            an output which no input speaks for: "absorb" (the ledger says how much) or "spread", evenly over the
            output's receptive field (see `Spread`).
        gradient: propagate the plain gradient, and multiply by the input at the end; the rules above are unused.
        name: what the plan and the results call it.
    """

    default: Rule = field(default_factory=ZPlus)
    linear: Rule | None = None
    convolution: Rule | None = None
    pixel: Rule | None = None
    last: Rule | None = None
    modules: Mapping[str, Rule] = field(default_factory=dict)
    share: Share = "absolute"
    attention: Attention = "value"
    bias: Bias = "absorb"
    gradient: bool = False
    name: str = "custom"

    def __post_init__(self) -> None:
        for where in ("default", "linear", "convolution", "pixel", "last"):
            _check_rule(getattr(self, where), where, optional=where != "default")
        for pattern, rule in self.modules.items():
            _check_rule(rule, f"modules[{pattern!r}]", optional=False)
        if self.share not in ("signed", "absolute", "same-sign"):
            raise InputError(f'share is "signed", "absolute" or "same-sign", not {self.share!r}')
        if self.bias not in ("absorb", "spread"):
            raise InputError(f'bias is "absorb" or "spread", not {self.bias!r}')
        if self.attention not in ("value", "uniform"):
            raise InputError(f'attention is "value" or "uniform", not {self.attention!r}')
        object.__setattr__(self, "modules", MappingProxyType(dict(self.modules)))

    def __reduce__(self) -> tuple[type[RuleSet], tuple[object, ...]]:
        # A read-only view of a dictionary can be neither copied nor sent to another process; its content can.
        given = (self.default, self.linear, self.convolution, self.pixel, self.last, dict(self.modules))
        return RuleSet, (*given, self.share, self.attention, self.bias, self.gradient, self.name)

    def rule_for(self, module: str, kind: str, pixel: bool, last: bool = False) -> Rule:
        """Return the rule for a call of `kind` ("linear" or "convolution") made in the module at path `module`."""
        rule = self._chosen(module, kind, pixel, last)
        return Spread(rule) if self.bias == "spread" else rule

    def _chosen(self, module: str, kind: str, pixel: bool, last: bool) -> Rule:
        for pattern, rule in self.modules.items():
            if fnmatchcase(module, pattern):
                return rule
        if pixel and self.pixel is not None:
            return self.pixel
        if last and self.last is not None:
            return self.last
        by_kind = self.linear if kind == "linear" else self.convolution
        return self.default if by_kind is None else by_kind


@dataclass(frozen=True)
class Automatic:
    """A choice between two rule sets that the model makes: are its activations of both signs all the way?

    They are where it attends (multiplies activations and sums them) or has layer norm. This is known when it has run.

    Attributes:
        plain: for a model that does neither.
        signed: for one that does.
    """

    plain: RuleSet
    signed: RuleSet
    name: str = "auto"

    def settled(self, signed: bool) -> RuleSet:
        """Return the one or the other."""
        return self.signed if signed else self.plain


def _check_rule(rule: object, where: str, *, optional: bool) -> None:
    if isinstance(rule, Rule) or (optional and rule is None):
        return
    hint = f"; write {rule.__name__}()" if isinstance(rule, type) else ""
    raise InputError(f"{where} of a rule set is a rule such as ZPlus() or Epsilon(1e-6), not {rule!r}{hint}")


_RULE_SETS: dict[str, tuple[RuleSet | Automatic, str]] = {}
Registered = TypeVar("Registered", RuleSet, Automatic)


def register_rule_set(rules: Registered, description: str) -> Registered:
    """Make a rule set known under its name, everywhere a name is taken; a second one of that name is refused."""
    if rules.name in _RULE_SETS:
        raise InputError(f"a rule set named {rules.name!r} is registered already; choose another name")
    _RULE_SETS[rules.name] = (rules, description)
    return rules


def rule_sets() -> dict[str, str]:
    """Return the names of the registered rule sets, each with a line that describes it."""
    return {name: description for name, (_, description) in _RULE_SETS.items()}


def rule_set(rules: str | RuleSet | Automatic | None) -> RuleSet | Automatic:
    """Return the rule set of that name, `rules` itself if it is one, or for None the one that fits the model."""
    if isinstance(rules, RuleSet | Automatic):
        return rules
    if rules is None:
        rules = "auto"
    if rules not in _RULE_SETS:
        near = get_close_matches(str(rules), _RULE_SETS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"no rule set is called {rules!r}; {hint}there are {', '.join(_RULE_SETS)}")
    return _RULE_SETS[rules][0]


DEEP_TAYLOR = RuleSet(ZPlus(), pixel=ZBox(), name="deep-taylor")
ATTENTION = RuleSet(
    SameSign(),
    linear=Gamma(0.05),
    pixel=ZBox(),
    last=ZPlus(),
    share="signed",
    attention="uniform",
    name="attention",
)
GAMMA_BOX = RuleSet(Gamma(1.0), pixel=ZBox(), last=ZPlus(), name="gamma-box")
AUTOMATIC = Automatic(DEEP_TAYLOR, ATTENTION)
SHARP = Automatic(GAMMA_BOX, ATTENTION, name="sharp")


def _built_in() -> Iterator[tuple[RuleSet, str]]:
    yield DEEP_TAYLOR, "the paper's: zᴮ at the pixels, z⁺ elsewhere (Montavon et al. 2017)"
    yield (
        ATTENTION,
        "AttnLRP with γ (0.05) in dense layers, same sign in convolutions, z⁺ last and zᴮ first: for contrasts",
    )
    yield (
        RuleSet(Zero(), share="signed", name="zero"),
        "LRP-0 everywhere: input × gradient in a bias-free ReLU network",
    )
    yield RuleSet(Epsilon(), share="signed", name="epsilon"), "LRP-ε everywhere (ε = 1e-6)"
    yield RuleSet(ZPlus(), linear=Epsilon(), name="epsilon-plus"), "ε in dense layers, z⁺ in convolutions"
    yield GAMMA_BOX, "γ (1) everywhere but zᴮ at the pixels and z⁺ last: contrasts that stay on the object"
    yield (
        RuleSet(Gamma(), linear=Epsilon(), pixel=ZBox(), name="epsilon-gamma-box"),
        "ε in dense layers, γ (0.25) in convolutions, zᴮ at the pixels (Montavon et al. 2019)",
    )
    yield RuleSet(AlphaBeta(2.0, 1.0), name="alpha2-beta1"), "α2β1 everywhere: evidence against counts too"
    yield RuleSet(Gamma(), name="gamma"), "γ (0.25) everywhere"
    yield (
        RuleSet(Zero(), share="signed", attention="uniform", name="attnlrp"),
        "LRP-0, relevance through the attention weights too (Achtibat et al. 2024)",
    )
    yield (
        RuleSet(Zero(), share="signed", name="cp-lrp"),
        "LRP-0, attention weights as constants: by values alone, as zero has it (Ali et al. 2022)",
    )
    yield (
        RuleSet(Zero(), share="signed", gradient=True, name="gradient-times-input"),
        "the plain gradient, times the input at the end",
    )


register_rule_set(AUTOMATIC, "the default: attention where the model attends or has layer norm, else deep-taylor")
for _rules, _description in _built_in():
    register_rule_set(_rules, _description)
register_rule_set(SHARP, "of clrp-gamma: attention where the model attends or has layer norm, else gamma-box")

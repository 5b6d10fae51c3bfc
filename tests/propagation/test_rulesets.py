"""Rule sets: which rule goes where, what the plan says of it, and that every option bites."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis.propagation import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    Plan,
    Rule,
    RuleSet,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
    register_rule_set,
    rule_set,
    rulesets,
)

DOUBLE = torch.float64


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.block = nn.ModuleDict({"left": nn.Conv2d(4, 4, 3, padding=1), "right": nn.Conv2d(4, 4, 1)})
        self.hidden, self.head = nn.Linear(4, 6), nn.Linear(6, 5)
        self.stem[1].running_mean.uniform_(-0.5, 0.5)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = self.block["left"](h) + self.block["right"](h)
        h = nn.functional.avg_pool2d(h, 2).mean((2, 3))
        result: Tensor = self.head(self.hidden(h).relu())
        return result


def pictures() -> Tensor:
    return torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(7), dtype=DOUBLE)


def relevance(rules: str | RuleSet, **options: Any) -> Tensor:
    return vv.LRP(Network(), rules=rules, **options).attribute(pictures(), [1, 3])


# -- which rule goes where -------------------------------------------------------------------------------------------


def test_patterns_go_before_the_pixel_rule_before_the_kind_before_the_default() -> None:
    pattern, pixel, convolution, dense, default = Gamma(0.1), ZBox(), Gamma(0.2), Gamma(0.3), Gamma(0.4)
    whole = RuleSet(default, linear=dense, convolution=convolution, pixel=pixel, modules={"stem.*": pattern})
    assert whole.rule_for("stem.0", "convolution", True) is pattern
    assert whole.rule_for("stem.0", "linear", False) is pattern
    assert whole.rule_for("block", "convolution", True) is pixel
    assert whole.rule_for("block", "linear", True) is pixel
    assert whole.rule_for("block", "convolution", False) is convolution
    assert whole.rule_for("head", "linear", False) is dense
    bare = dataclasses.replace(whole, linear=None, convolution=None, pixel=None)
    assert bare.rule_for("block", "convolution", True) is default
    assert bare.rule_for("head", "linear", True) is default
    no_pixel = dataclasses.replace(whole, pixel=None)
    assert no_pixel.rule_for("block", "convolution", True) is convolution


def test_the_first_pattern_that_matches_decides_and_case_counts() -> None:
    rules = RuleSet(modules={"a.1": Zero(), "a.*": Epsilon(), "*": Gamma(), "b": Flat()})
    assert rules.rule_for("a.1", "linear", False) == Zero()
    assert rules.rule_for("a.12", "linear", False) == Epsilon()
    assert rules.rule_for("A.1", "linear", False) == Gamma()
    assert rules.rule_for("b", "linear", False) == Gamma()
    assert RuleSet(modules={"[ab].?": Zero()}).rule_for("b.7", "linear", False) == Zero()
    assert RuleSet(modules={"a": Zero()}).rule_for("a.b", "linear", False) == ZPlus()


def rules_in(plan: Plan) -> dict[str, str]:
    return {call.module: call.rule for call in plan if call.operation in ("linear", "convolution")}


def test_the_plan_says_which_rule_went_where() -> None:
    rules = RuleSet(
        Flat(), linear=Epsilon(0.5), convolution=Gamma(0.75), pixel=ZBox(), modules={"block.l*": WSquare()}, name="mine"
    )
    method = vv.LRP(Network(), rules=rules)
    before = method.plan(pictures())
    assert rules_in(before) == {
        "stem.0": "ZBox()",
        "block.left": "WSquare()",
        "block.right": "Gamma(gamma=0.75)",
        "hidden": "Epsilon(epsilon=0.5)",
        "head": "Epsilon(epsilon=0.5)",
    }
    with method.forward(pictures()) as run:
        run.relevance(torch.ones_like(run.output))
        after = run.plan
    assert before.rows() == after.rows()
    assert str(before) == str(after)


def test_the_text_of_a_plan() -> None:
    plan = vv.LRP(Network(), rules="epsilon-gamma-box").plan(pictures())
    lines = str(plan).splitlines()
    assert lines[0] == "rule set epsilon-gamma-box"
    assert lines[1].split() == ["module", "function", "operation", "rule", "output", "note"]
    assert len(lines) == len(plan) + 2 == len(plan.rows()) + 2
    (stem,) = (line for line in lines if line.startswith("stem.0"))
    assert stem.split(None, 4) == [
        "stem.0",
        "F.conv2d",
        "convolution",
        "ZBox()",
        "2×4×6×6  pixels, batch norm folded in",
    ]
    (norm,) = (row for row in plan.rows() if row["module"] == "stem.1")
    assert norm["rule"] == "folded into the layer before"
    (shared,) = (row for row in plan.rows() if row["operation"] == "sum")
    assert shared["rule"] == "share, absolute"
    assert shared["module"] == ""
    assert shared["shape"] == [2, 4, 6, 6]
    assert [call.function for call in plan][:3] == ["F.conv2d", "F.batch_norm", "F.relu"]
    assert "(model)" in str(plan)


def test_the_plan_of_gradients() -> None:
    assert "deconvnet" in str(vv.DeConvNet(Network()).plan(pictures()))
    assert {call.rule for call in vv.Gradient(Network()).plan(pictures())} == {"gradient"}
    rules = vv.LRP(Network(), rules="gradient-times-input").plan(pictures())
    assert {call.rule for call in rules} == {"gradient"}
    assert str(rules).startswith("rule set gradient-times-input")


# -- malformed ones --------------------------------------------------------------------------------------------------


def unchecked(function: Any) -> Any:
    """Without the checks of annotations that the tests put in front."""
    return inspect.unwrap(function)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"default": None}, "default of a rule set is a rule"),
        ({"default": ZPlus}, r"write ZPlus\(\)"),
        ({"linear": "epsilon"}, "linear of a rule set is a rule"),
        ({"convolution": Gamma}, r"write Gamma\(\)"),
        ({"pixel": 3}, "pixel of a rule set is a rule"),
        ({"modules": {"head": None}}, r"modules\['head'\] of a rule set is a rule"),
        ({"modules": {"head": Zero}}, r"write Zero\(\)"),
        ({"share": "relative"}, 'share is "signed".*, not'),
    ],
)
def test_malformed_rule_sets_are_refused(options: dict[str, Any], message: str) -> None:
    blank = object.__new__(RuleSet)
    for field in dataclasses.fields(RuleSet):
        object.__setattr__(blank, field.name, getattr(rule_set("epsilon-plus"), field.name))
    for name, value in options.items():
        object.__setattr__(blank, name, value)
    with pytest.raises(vv.InputError, match=message):
        unchecked(RuleSet.__post_init__)(blank)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Epsilon(-1.0), "epsilon must be ≥ 0"),
        (lambda: Gamma(-0.1), "gamma must be ≥ 0"),
        (lambda: AlphaBeta(2.0, 2.0), "alpha − beta = 1"),
        (lambda: AlphaBeta(0.5, -0.5), "alpha and beta must be ≥ 0"),
    ],
)
def test_malformed_rules_are_refused(make: Any, message: str) -> None:
    with pytest.raises(vv.InputError, match=message):
        make()


def test_a_rule_set_cannot_be_changed_behind_its_back() -> None:
    modules: dict[str, Rule] = {"head": Zero()}
    rules = RuleSet(modules=modules)
    modules["head"] = Flat()
    assert rules.rule_for("head", "linear", False) == Zero()
    with pytest.raises(TypeError):
        rules.modules["head"] = Flat()  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        rules.default = Flat()  # type: ignore[misc]


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])  # noqa: S301
def test_rule_sets_can_be_copied_and_sent_to_another_process(twin: Any) -> None:
    rules = RuleSet(Gamma(), modules={"head": Zero()}, name="sent")
    again = twin(rules)
    assert again == rules
    assert again.rule_for("head", "linear", False) == Zero()


# -- the registry ----------------------------------------------------------------------------------------------------


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulesets, "_RULE_SETS", dict(rulesets._RULE_SETS))


@pytest.mark.usefixtures("scratch")
def test_a_registered_rule_set_is_known_by_its_name() -> None:
    mine = RuleSet(Gamma(0.5), name="mine")
    assert "mine" not in vv.rule_sets()
    assert register_rule_set(mine, "my own") is mine
    assert vv.rule_sets()["mine"] == "my own"
    assert rule_set("mine") is mine
    assert torch.equal(relevance("mine"), relevance(mine))
    with pytest.raises(vv.InputError, match="a rule set named 'mine' is registered already"):
        register_rule_set(RuleSet(name="mine"), "again")
    assert rule_set("mine") is mine


def test_names_of_the_built_in_rule_sets() -> None:
    names = list(vv.rule_sets())
    assert names[:2] == ["auto", "deep-taylor"]
    assert {
        "attention",
        "attnlrp",
        "cp-lrp",
        "zero",
        "epsilon",
        "epsilon-plus",
        "epsilon-gamma-box",
        "alpha2-beta1",
        "gamma",
        "gamma-box",
        "sharp",
    } <= set(names)
    for name, description in vv.rule_sets().items():
        assert rule_set(name).name == name
        assert description
    with pytest.raises(
        vv.InputError, match=r"no rule set is called 'deep-tailor'; did you mean 'deep-taylor'\? there are"
    ):
        rule_set("deep-tailor")
    with pytest.raises(vv.InputError, match="no rule set is called"):
        vv.CLRP(Network(), rules="lrp")


# -- every option bites ----------------------------------------------------------------------------------------------

BASE = RuleSet(Epsilon(), share="absolute")


@pytest.mark.parametrize(
    "changed",
    [
        RuleSet(Epsilon(0.5)),
        RuleSet(Zero(), modules={"head": Flat()}),
        dataclasses.replace(BASE, share="signed"),
        dataclasses.replace(BASE, linear=Gamma()),
        dataclasses.replace(BASE, convolution=Gamma()),
        dataclasses.replace(BASE, pixel=ZBox()),
        dataclasses.replace(BASE, modules={"block.right": Flat()}),
        dataclasses.replace(BASE, gradient=True),
    ],
    ids=["epsilon", "modules", "share", "linear", "convolution", "pixel", "pattern", "gradient"],
)
def test_every_part_of_a_rule_set_changes_the_result(changed: RuleSet) -> None:
    assert not torch.allclose(relevance(changed), relevance(BASE), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Epsilon(1e-6), Epsilon(1e-1)),
        (Gamma(0.25), Gamma(1.0)),
        (AlphaBeta(2.0, 1.0), AlphaBeta(3.0, 2.0)),
        (AlphaBeta(2.0, 1.0), AlphaBeta(2.0, 1.0, bias=True)),
        (ZPlus(), ZPlus(bias=True)),
        (WSquare(), Flat()),
    ],
    ids=str,
)
def test_every_part_of_a_rule_changes_the_result(one: Rule, other: Rule) -> None:
    assert not torch.allclose(relevance(RuleSet(one)), relevance(RuleSet(other)), rtol=1e-3, atol=1e-9)


class Attending(nn.Module):
    """The network above with attention among the positions of its picture."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Network()
        self.project = nn.Linear(4, 12, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.body.stem(x).flatten(2).transpose(1, 2)
        parts = (4.0 * self.project(tokens)).chunk(3, -1)
        tokens = tokens + nn.functional.scaled_dot_product_attention(*parts)
        result: Tensor = self.body.head(self.body.hidden(tokens.mean(1)).relu())
        return result


def test_every_rule_set_gives_a_map_of_its_own() -> None:
    # Among ReLUs LRP-0 is gradient times input, biases or not.
    torch.testing.assert_close(relevance("gradient-times-input"), relevance("zero"), rtol=1e-9, atol=1e-14)
    module = Attending()
    maps = {
        name: vv.LRP(module, rules=name, bounds=(-4.0, 4.0)).attribute(pictures(), [1, 3]) for name in vv.rule_sets()
    }
    # Attention weights are constants unless a rule set says otherwise: one set under the names of two papers.
    assert torch.equal(maps.pop("cp-lrp"), maps["zero"])
    assert torch.equal(maps.pop("auto"), maps["attention"])
    assert torch.equal(maps.pop("sharp"), maps["attention"])
    assert torch.equal(relevance("auto", bounds=(-4.0, 4.0)), relevance("deep-taylor", bounds=(-4.0, 4.0)))
    names = list(maps)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            assert not torch.allclose(maps[name], maps[other], rtol=1e-4, atol=1e-10), (name, other)


def clrp(**options: Any) -> Tensor:
    return vv.CLRP(Network(), **{"bounds": (-4.0, 4.0), **options}).attribute(pictures(), [1, 3])


@pytest.mark.parametrize(
    "option",
    [
        {"foil": "negated"},
        {"foil": "logits"},
        {"foil": "softmax"},
        {"foil": "runner-up"},
        {"foil": 0},
        {"rules": "alpha2-beta1"},
        {"bounds": (-8.0, 8.0)},
        {"bounds": ([-4.0, -5.0, -4.0], [4.0, 4.0, 6.0])},
        {"bounds": None},
        {"signed": True},
        {"normalize": "sum"},
        {"seed": "one"},
    ],
    ids=str,
)
def test_every_option_of_clrp_changes_the_result(option: dict[str, Any]) -> None:
    assert not torch.allclose(clrp(**option), clrp(), rtol=1e-3, atol=1e-9)


def test_signed_and_normalised_contrasts_are_what_they_say() -> None:
    signed = clrp(signed=True)
    assert (signed < 0).any()
    assert torch.equal(clrp(), signed.clamp(min=0))
    module, x = Network(), pictures()
    options: dict[str, Any] = {"rules": "deep-taylor", "bounds": (-4.0, 4.0)}
    own = vv.LRP(module, **options).attribute(x, 1)
    foil = vv.LRP(module, **options).attribute(x, lambda y: 0.0 * y + (torch.arange(5) == 2) * y[:, 1:2].abs())
    expected = own / own.sum((1, 2, 3), keepdim=True) - foil / foil.sum((1, 2, 3), keepdim=True)
    method = vv.CLRP(module, foil=2, normalize="sum", signed=True, **options)
    torch.testing.assert_close(method.attribute(x, 1), expected, rtol=1e-10, atol=1e-14)
    with pytest.raises(vv.InputError, match='normalize is "none" or "sum"'):
        unchecked(vv.CLRP.__init__)(object.__new__(vv.CLRP), module, normalize="max")


@pytest.mark.parametrize("rules", ["zero", "epsilon", "gamma", "gradient-times-input"])
@pytest.mark.parametrize("normalize", ["none", "sum"])
def test_the_foil_negated_is_refused_where_it_would_be_no_contrast(rules: str, normalize: Any) -> None:
    with pytest.raises(vv.InputError, match="negated"):
        vv.CLRP(Network(), rules=rules, foil="negated", normalize=normalize).attribute(pictures(), 1)


def test_the_foil_negated_is_refused_without_a_weighted_layer() -> None:
    with pytest.raises(vv.InputError, match="negated"):
        vv.CLRP(nn.Flatten(), foil="negated").attribute(pictures(), 1)


def test_seeds_scale_the_map() -> None:
    x, module = pictures(), Network()
    scores = module(x)[[0, 1], [1, 3]].abs().view(2, 1, 1, 1).detach()
    torch.testing.assert_close(relevance("deep-taylor"), relevance("deep-taylor", seed="one") * scores)


def test_pixels_with_bounds_beyond_them_change_nothing_but_zbox() -> None:
    for name in ("zero", "epsilon", "alpha2-beta1", "gamma", "gradient-times-input", "epsilon-plus"):
        assert torch.equal(relevance(name, bounds=(-4.0, 4.0)), relevance(name))


def test_inputs_beyond_their_bounds_are_refused() -> None:
    """zᴮ and the signs that follow from bounds hold within them only: 0 to 1 for normalised pixels is a slip."""
    with pytest.raises(vv.InputError, match="bounds"):
        vv.CLRP(Network(), bounds=(0.0, 1.0)).attribute(pictures(), 1)

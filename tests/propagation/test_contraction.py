"""Products of activations that are summed over, in every spelling, against the sum written out term by term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visavis as vv
from oracles import attention as oracle
from oracles import dense
from visavis.propagation import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    Rule,
    RuleSet,
    Run,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
    attention,
    contraction,
    forward,
    functions,
)
from visavis.propagation.rules import SameSign

DOUBLE = torch.float64
Function = Callable[..., Any]
SHARES, ATTENTIONS = ("signed", "absolute", "same-sign"), ("value", "uniform")
EVERY_SET = pytest.mark.parametrize(
    "rules",
    [RuleSet(Zero(), share=share, attention=mode) for share in SHARES for mode in ATTENTIONS],
    ids=[f"{share}-{mode}" for share in SHARES for mode in ATTENTIONS],
)


class Product(NamedTuple):
    """A product: as the model calls it, `call(function, a, b)`, and as an equation."""

    call: Callable[[Function, Tensor, Tensor], Tensor]
    equation: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]


def by(equation: str, first: Sequence[int], second: Sequence[int], *more: Any, **named: Any) -> Product:
    return Product(lambda f, a, b: f(a, b, *more, **named), equation, (tuple(first), tuple(second)))


def named(equation: str, first: Sequence[int], second: Sequence[int], *names: str) -> Product:
    """The same with arguments given by name."""
    return Product(lambda f, a, b: f(**dict(zip(names, (a, b), strict=True))), equation, (tuple(first), tuple(second)))


MATRICES = ("ij,jk->ik", (2, 3), (3, 4))
BATCHES = ("bij,bjk->bik", (2, 2, 3), (2, 3, 4))
MATMULS = (
    by(*MATRICES),
    by(*BATCHES),
    by("bhls,bhsd->bhld", (2, 2, 3, 4), (2, 2, 4, 2)),
    by("bij,jk->bik", (2, 2, 3), (3, 4)),
    by("ij,bjk->bik", (2, 3), (2, 3, 4)),
    by("i,ij->j", (3,), (3, 4)),
    by("ij,j->i", (2, 3), (3,)),
    by("i,i->", (3,), (3,)),
)
EQUATIONS = {
    "ij,jk->ik": ((2, 3), (3, 4)),
    "bhid,bhjd->bhij": ((2, 2, 3, 4), (2, 2, 2, 4)),
    "bchw,bnc->bnhw": ((2, 3, 2, 2), (2, 4, 3)),
    "bi,bi->b": ((2, 3), (2, 3)),
    "bi,bj->bij": ((2, 3), (2, 4)),
    "bi,bi->bi": ((2, 3), (2, 3)),
    "...ij,...jk->...ik": ((2, 2, 3), (2, 3, 4)),
    "bij,bjk->ki": ((2, 2, 3), (2, 3, 4)),
}
#: By the bare name, which stands for all spellings. A function that is registered later needs a line here.
PRODUCTS: dict[str, tuple[Product, ...]] = {
    "matmul": MATMULS,
    "__matmul__": MATMULS,
    "linalg_matmul": MATMULS,
    "mm": (by(*MATRICES),),
    "bmm": (by(*BATCHES),),
    "mv": (by("ij,j->i", (2, 3), (3,)),),
    "dot": (by("i,i->", (3,), (3,)),),
    "inner": (by("i,i->", (3,), (3,)), by("aij,bj->aib", (2, 2, 3), (4, 3)), by("ij,kj->ik", (3, 3), (3, 3))),
    "outer": (by("i,j->ij", (3,), (4,)),),
    "tensordot": (
        by("aij,ijb->ab", (2, 3, 4), (3, 4, 2)),
        by("aij,jb->aib", (2, 3, 4), (4, 2), 1),
        by("ij,kj->ik", (3, 3), (3, 3), ([1], [1])),
        by("aij,bja->ib", (2, 3, 4), (2, 4, 2), dims=([0, 2], [2, 1])),
        by("ij,kl->ijkl", (2, 3), (3, 2), 0),
    ),
    "einsum": (
        *(
            Product(lambda f, a, b, e=equation: f(e, a, b), equation.replace("...", "x"), shapes)
            for equation, shapes in EQUATIONS.items()
        ),
        Product(lambda f, a, b: f("i j, j k", [a, b]), "ij,jk->ik", ((2, 3), (3, 4))),
        Product(lambda f, a, b: f("j i, j k", (a, b)), "ji,jk->ik", ((3, 2), (3, 4))),
    ),
}
#: Functions that the table above does not fit: they have tests of their own below.
OTHERS = ("baddbmm",)
CROSSINGS = (
    attention.matrix_product,
    attention.any_product,
    attention.einsum,
    attention.sum_with_batched_product,
)


def spelled(*crossing: Function) -> list[Function]:
    return [function for function, of in functions._CROSSINGS.items() if of in crossing]


def cases() -> list[Any]:
    return [
        pytest.param(function, product, id=f"{functions.name_of(function)}-{product.equation}-{index}")
        for function in spelled(*CROSSINGS)
        for index, product in enumerate(PRODUCTS.get(function.__name__, ()))
    ]


class Applied(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def explained(function: Callable[..., Any], inputs: Any, rules: RuleSet) -> tuple[Any, Tensor, Run]:
    """Return the relevance of the inputs, the seed, and the run; the output is seen to be torch's own."""
    several = inputs if isinstance(inputs, tuple) else (inputs,)
    expected = function(*(one.clone() for one in several))
    with forward(Applied(function), inputs, rules, pick=lambda returned: returned) as run:
        seed = torch.rand_like(run.output) + 0.5
        moved = run.relevance(seed)
    assert torch.equal(run.returned, expected)
    return moved, seed, run


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    """To `tolerance`, relative to the largest value."""
    scale = float(expected.abs().max())
    assert scale > 0
    torch.testing.assert_close(found / scale, expected / scale, rtol=0, atol=tolerance)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DOUBLE)


def test_every_product_of_the_registry_has_a_case() -> None:
    names = {function.__name__ for function in spelled(*CROSSINGS)}
    assert names == set(PRODUCTS) | set(OTHERS)


# Two activations


@EVERY_SET
@pytest.mark.parametrize(("function", "product"), cases())
def test_two_activations_take_half_each(function: Function, product: Product, rules: RuleSet) -> None:
    factors = tuple(normal(*shape) for shape in product.shapes)
    moved, seed, run = explained(lambda a, b: product.call(function, a, b), factors, rules)
    expected = oracle.contraction(product.equation.replace("...", "x"), factors, seed, rules.share)
    for one, other in zip(moved, expected, strict=True):
        close(one, other)
    close(sum(one.sum() for one in moved), seed.sum())
    assert [call.operation for call in run.plan] == ["contraction"]


@EVERY_SET
@pytest.mark.parametrize("gates", [(True, False), (False, True), (True, True)], ids=["first", "second", "both"])
@pytest.mark.parametrize("function", [torch.matmul, torch.bmm, lambda a, b: torch.einsum("bij,bjk->bik", a, b)])
def test_a_gate_gives_way_by_value_alone(function: Function, gates: tuple[bool, bool], rules: RuleSet) -> None:
    def made(x: Tensor, gate: bool) -> Tensor:
        return x.sigmoid() if gate else x * 1.0

    factors = (normal(2, 2, 3), normal(2, 3, 4))
    moved, seed, _ = explained(lambda a, b: function(made(a, gates[0]), made(b, gates[1])), factors, rules)
    values = [made(x, gate) for x, gate in zip(factors, gates, strict=True)]
    taking = [i for i in (0, 1) if rules.attention == "uniform" or not gates[i]] or [0, 1]
    expected = oracle.contraction("bij,bjk->bik", values, seed, rules.share, taking)
    for place, (one, other) in enumerate(zip(moved, expected, strict=True)):
        if place in taking:
            close(one, other)
        else:
            assert not one.any()


#: What a gate stays a gate through; each keeps (2, 3, 3), and passes relevance as it is but for the last ones.
CARRIED: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda p: p,
    "dropout": lambda p: F.dropout(p, 0.3, False),
    "scaled": lambda p: 0.5 * p / 3.0,
    "shifted": lambda p: p + 0.25,
    "masked": lambda p: p * (torch.arange(3) < 2),
    "routed": lambda p: p.permute(0, 2, 1).reshape(2, 9).view(2, 3, 3),
    "padded": lambda p: F.pad(p[..., :2], (0, 1)),
    "joined": lambda p: torch.cat([p[:, :1], p[:, 1:]], 1),
    "joined_with_a_constant": lambda p: torch.cat([p[:, :2], torch.ones(2, 1, 3, dtype=DOUBLE)], 1),
    "mixed": lambda p: F.linear(p, torch.eye(3, dtype=DOUBLE) + 0.1),
    "convolved": lambda p: F.conv1d(p, torch.eye(3, dtype=DOUBLE)[..., None] + 0.1),
    "cast": lambda p: p.float().double(),
    "averaged": lambda p: p.mean(0, keepdim=True).expand(2, 3, 3),
    "masked_fill": lambda p: p.masked_fill(torch.arange(3) < 1, 0.0),
    "where": lambda p: torch.where(torch.arange(3) < 1, 0.0, p),
}


@pytest.mark.parametrize("name", CARRIED)
def test_what_is_made_of_gates_is_a_gate(name: str) -> None:
    def through(a: Tensor, b: Tensor) -> Tensor:
        return CARRIED[name](a.softmax(-1)) @ b

    factors = (normal(2, 3, 3), normal(2, 3, 4))
    (of_gate, of_signal), seed, _ = explained(through, factors, RuleSet(share="signed"))
    weights = CARRIED[name](factors[0].softmax(-1))
    assert not of_gate.any()
    close(of_signal, oracle.contraction("bij,bjk->bik", (weights, factors[1]), seed, "signed", (1,))[1])
    (of_gate, _), _, _ = explained(through, factors, RuleSet(share="signed", attention="uniform"))
    assert of_gate.any()


@EVERY_SET
def test_an_activation_with_itself(rules: RuleSet) -> None:
    x = normal(2, 3, 3)
    for function, equation in (
        (lambda x: x @ x, "bij,bjk->bik"),
        (lambda x: x @ x.transpose(1, 2), None),
        (lambda x: torch.einsum("bij,bij->b", x, x), "bij,bij->b"),
    ):
        moved, seed, _ = explained(function, x, rules)
        if equation is None:
            first, second = oracle.contraction("bij,bjk->bik", (x, x.transpose(1, 2)), seed, rules.share)
            second = second.transpose(1, 2)
        else:
            first, second = oracle.contraction(equation, (x, x), seed, rules.share)
        close(moved, first + second)


@EVERY_SET
def test_three_factors(rules: RuleSet) -> None:
    equation = "bi,bj,bk->bijk"
    factors = (normal(2, 3), normal(2, 4), normal(2, 2))

    def product(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return torch.einsum(equation, a, b.sigmoid(), c)

    values = (factors[0], factors[1].sigmoid(), factors[2])
    taking = (0, 1, 2) if rules.attention == "uniform" else (0, 2)
    moved, seed, _ = explained(product, factors, rules)
    for one, other in zip(moved, oracle.contraction(equation, values, seed, rules.share, taking), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    # A constant among three takes no part; the two others share.
    constant = normal(2, 2)
    moved, seed, _ = explained(lambda a, b: torch.einsum(equation, a, b, constant), factors[:2], rules)
    expected = oracle.contraction(equation, (*factors[:2], constant), seed, rules.share, (0, 1))
    for one, other in zip(moved, expected[:2], strict=True):
        close(one, other)


@EVERY_SET
@pytest.mark.parametrize("spelling", [torch.baddbmm, Tensor.baddbmm], ids=["torch", "Tensor"])
@pytest.mark.parametrize(("beta", "alpha"), [(1, 1), (0.5, -2.0)])
def test_a_sum_with_a_batched_product(spelling: Function, beta: float, alpha: float, rules: RuleSet) -> None:
    added, left, right = normal(2, 2, 4), normal(2, 2, 3), normal(2, 3, 4)

    def product(c: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return spelling(c, a, b, beta=beta, alpha=alpha)

    moved, seed, _ = explained(product, (added, left, right), rules)
    of_sum, of_product = dense.sum_shares(beta * added, alpha * left @ right, seed, rules.share)
    expected = [of_sum, *oracle.contraction("bij,bjk->bik", (left, right), of_product, rules.share)]
    for one, other in zip(moved, expected, strict=True):
        close(one, other)
    # What is added is a constant: by value it absorbs its share, by magnitude it takes none.
    moved, seed, _ = explained(lambda a, b: product(added, a, b), (left, right), rules)
    products = alpha * left @ right
    kept = seed * products / (products + beta * added) if rules.share == "signed" else seed
    for one, other in zip(moved, oracle.contraction("bij,bjk->bik", (left, right), kept, rules.share), strict=True):
        close(one, other)


@EVERY_SET
def test_weights_made_at_run_time(rules: RuleSet) -> None:
    x, weight = normal(2, 5, 3), normal(4, 3)
    moved, seed, _ = explained(F.linear, (x, weight), rules)
    for one, other in zip(moved, oracle.contraction("bni,oi->bno", (x, weight), seed, rules.share), strict=True):
        close(one, other)
    picture, kernel = normal(2, 3, 4, 4), normal(2, 3, 2, 2)
    moved, seed, _ = explained(F.conv2d, (picture, kernel), rules)
    patches = picture.unfold(2, 2, 1).unfold(3, 2, 1)
    of_patches, of_kernel = oracle.contraction("bchwyx,ocyx->bohw", (patches, kernel), seed, rules.share)
    of_picture = F.fold(of_patches.permute(0, 1, 4, 5, 2, 3).reshape(2, 12, 9), (4, 4), (2, 2))
    close(moved[0], of_picture)
    close(moved[1], of_kernel)


# One activation and a constant: a dense layer

RULES: dict[str, tuple[Rule, dense.Rule]] = {
    "zero": (Zero(), dense.zero),
    "epsilon": (Epsilon(0.1), lambda *a: dense.epsilon(*a, epsilon=0.1)),
    "z-plus": (ZPlus(), dense.z_plus),
    "gamma": (Gamma(0.3), lambda *a: dense.gamma(*a, gamma=0.3)),
    "alpha-beta": (AlphaBeta(2.0, 1.0), dense.alpha_beta),
    "w-square": (WSquare(), dense.w_square),
    "flat": (Flat(), dense.flat),
    "same-sign": (SameSign(), dense.same_sign),
}


def as_dense(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, constant: Tensor) -> dense.Dense:
    """The matrix of a function that is linear in x, by the unit vectors; and what is wired to what."""
    units = torch.eye(x.numel(), dtype=DOUBLE).view(-1, *x.shape)
    matrix, wired = (
        torch.stack([function(unit, weight).flatten() for unit in units])
        for weight in (constant, torch.ones_like(constant))
    )
    return dense.Dense(matrix, torch.zeros(matrix.shape[1], dtype=DOUBLE), wired)


def assert_dense(function: Function, product: Product, name: str, on_path: int) -> None:
    rule, formula = RULES[name]
    x, constant = normal(*product.shapes[on_path]), normal(*product.shapes[1 - on_path])

    def call(x: Tensor, constant: Tensor) -> Tensor:
        return product.call(function, *((x, constant) if on_path == 0 else (constant, x)))

    moved, seed, run = explained(lambda x: call(x, constant), x, RuleSet(rule))
    expected = formula(as_dense(call, x, constant), x.reshape(1, -1), seed.reshape(1, -1))
    close(moved, expected.view(x.shape))
    assert [(step.operation, step.rule) for step in run.plan] == [("linear", repr(rule))]


@pytest.mark.parametrize("on_path", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize(("function", "product"), cases())
def test_a_product_with_a_constant_is_a_dense_layer(function: Function, product: Product, on_path: int) -> None:
    assert_dense(function, product, "gamma", on_path)


@pytest.mark.parametrize("on_path", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule_crosses_a_product_with_a_constant(name: str, on_path: int) -> None:
    for function, place in ((torch.matmul, 1), (torch.inner, 1), (torch.einsum, 2)):
        assert_dense(function, PRODUCTS[function.__name__][place], name, on_path)


@pytest.mark.parametrize("on_path", [0, 1], ids=["first", "second"])
def test_pixels_that_meet_a_constant_first(on_path: int) -> None:
    x, constant = torch.rand(2, 3, 3, dtype=DOUBLE), normal(2, 3, 3)
    low, high = torch.zeros((), dtype=DOUBLE), torch.ones((), dtype=DOUBLE)

    def call(x: Tensor, constant: Tensor) -> Tensor:
        return torch.matmul(*((x, constant) if on_path == 0 else (constant, x)))

    module = Applied(lambda x: call(x, constant))
    with forward(module, x, RuleSet(pixel=ZBox()), bounds=(low, high), pick=lambda returned: returned) as run:
        seed = torch.rand_like(run.output)
        moved = run.relevance(seed)
    zeros, ones = torch.zeros(x.numel(), dtype=DOUBLE), torch.ones(x.numel(), dtype=DOUBLE)
    matrix = as_dense(call, x, constant)
    close(moved, dense.z_box(matrix, x.reshape(1, -1), seed.reshape(1, -1), low=zeros, high=ones).view(x.shape))


def test_the_contrast_negates_a_constant_factor_too() -> None:
    constant, x = normal(5, 6), normal(2, 6)

    class Head(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (constant @ x.T).T

    found = vv.CLRP(Head(), foil="negated", rules=RuleSet(ZPlus()), signed=True).attribute(x, 2)
    for b in range(2):
        score = (x[b] @ constant[2]).abs().reshape(1, 1)
        plain, negated = (
            dense.z_plus(dense.Dense(sign * constant[2:3].T, torch.zeros(1, dtype=DOUBLE), None), x[b : b + 1], score)
            for sign in (1, -1)
        )
        close(found[b], (plain - negated)[0])


@pytest.mark.parametrize(
    ("call", "equation"),
    [
        (lambda a, b: torch.matmul(input=a, other=b), "ij,jk->ik"),
        (lambda a, b: torch.matmul(a, other=b), "ij,jk->ik"),
        (lambda a, b: a.matmul(other=b), "ij,jk->ik"),
        (lambda a, b: torch.mm(input=a, mat2=b), "ij,jk->ik"),
        (lambda a, b: torch.bmm(input=a[None], mat2=b[None])[0], "ij,jk->ik"),
        (lambda a, b: torch.mv(a, vec=b[:, 0]), "ij,jk->i"),
        (lambda a, b: torch.dot(a[0], tensor=b[:, 0]), "ij,jk->"),
        (lambda a, b: torch.outer(a[0], vec2=b[0]), "ij,jk->ik"),
        (lambda a, b: torch.inner(a, other=b.T), "ij,jk->ik"),
        (lambda a, b: torch.tensordot(a=a, b=b, dims=1), "ij,jk->ik"),
    ],
    ids=["matmul", "other", "method", "mm", "bmm", "mv", "dot", "outer", "inner", "tensordot"],
)
@pytest.mark.parametrize("on_path", ["both", "first", "second"])
def test_arguments_by_name(call: Callable[[Tensor, Tensor], Tensor], equation: str, on_path: str) -> None:
    factors = (normal(3, 3), normal(3, 3))
    x = {"both": factors, "first": factors[0], "second": factors[1]}[on_path]
    rules = RuleSet(Zero(), share="signed")

    def function(*given: Tensor) -> Tensor:
        a, b = {"both": given, "first": (*given, factors[1]), "second": (factors[0], *given)}[on_path]
        return call(a, b)

    moved, seed, _ = explained(function, x, rules)
    for place, one in enumerate(moved if on_path == "both" else (moved,)):
        given = factors[place] if on_path == "both" else x

        def of_one(z: Tensor, place: int = place) -> Tensor:
            return function(*factors[:place], z, *factors[place + 1 :]) if on_path == "both" else function(z)

        alone = oracle.gradient_times_input(of_one, given, seed)
        close(one, alone / 2 if on_path == "both" else alone)


# What it catches


@pytest.mark.parametrize("rules", [RuleSet(share="signed"), RuleSet(share="absolute")], ids=SHARES[:2])
@pytest.mark.parametrize("wrong", ["whole", "squared", "unweighted"])
def test_a_wrong_rule_is_caught(wrong: str, rules: RuleSet, monkeypatch: pytest.MonkeyPatch) -> None:
    original = contraction._scaled
    if wrong == "whole":
        monkeypatch.setattr(contraction, "guarded", lambda whole: 0.5 * whole)
    elif wrong == "squared":
        monkeypatch.setattr(
            contraction, "_scaled", lambda f, *rest, taking: original(f * f.abs(), *rest, taking=taking)
        )
    else:
        monkeypatch.setattr(contraction, "_scaled", lambda f, *rest, taking: f)
    with pytest.raises(AssertionError):
        test_two_activations_take_half_each(torch.matmul, MATMULS[0], rules)

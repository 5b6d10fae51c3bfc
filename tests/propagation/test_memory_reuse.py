"""What is written over, sliced or kept to be quick: the numbers are those of the plain way, and the plain way is taken
wherever a value would be lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visavis.propagation import forward, linear_maps, rule_set
from visavis.propagation.linear_maps import Dense, _DensePart, dense

DOUBLE = torch.float64
RULE_SETS = ["deep-taylor", "epsilon-plus", "epsilon", "zero", "alpha2-beta1", "gamma", "gamma-box", "attention"]


def pick(returned: Any) -> Tensor:
    result: Tensor = returned
    return result


def pictures() -> Tensor:
    torch.manual_seed(3)
    return torch.randn(2, 3, 8, 8, dtype=DOUBLE)


def network(**pooling: Any) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(5, 6, 3, padding=1, bias=False))
    middle = (nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(**({"kernel_size": 2} | pooling)), nn.Flatten())
    built = nn.Sequential(*layers, *middle)
    width = built.double().eval()(pictures()).shape[1]
    built.append(nn.Linear(width, 12)).append(nn.ReLU6(inplace=True)).append(nn.Linear(12, 4))
    with torch.no_grad():
        built[3].running_mean.uniform_(-0.5, 0.5)
        built[3].weight.uniform_(0.5, 1.5)
    return built.double().eval()


def maps(module: nn.Module, x: Tensor, rules: str, *, more: bool) -> list[Tensor]:
    """The maps of all outputs: of one run, or each of a run of its own."""
    count = module(x.clone()).shape[1]
    seeds = [F.one_hot(torch.full((len(x),), index), count).to(x) for index in range(count)]
    if not more:
        found = []
        for seed in seeds:
            with forward(module, x, rule_set(rules), pick=pick) as run:
                found.append(run.relevance(seed))
        return found
    with forward(module, x, rule_set(rules), pick=pick) as run:
        return [run.relevance(seed, more=index < count - 1) for index, seed in enumerate(seeds)]


# -- several maps of a run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", RULE_SETS)
@pytest.mark.parametrize(
    "pooling", [{}, {"kernel_size": 4}, {"kernel_size": 3, "stride": 2}, {"kernel_size": 3}], ids=str
)
def test_maps_of_one_run_are_those_of_runs_of_their_own(rules: str, pooling: dict[str, Any]) -> None:
    module, x = network(**pooling), pictures()
    alone, together = maps(module, x, rules, more=False), maps(module, x, rules, more=True)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-15)
    assert not any(torch.allclose(one, other, rtol=1e-3) for one, other in itertools.pairwise(alone))


def test_equal_winners_share_in_each_map_of_a_run() -> None:
    x = torch.tensor([[1.0, 3, 3, 2], [3, 0, 2, 2]], dtype=DOUBLE).view(1, 1, 2, 4)
    module = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
    first = torch.tensor([[6.0, 0]], dtype=DOUBLE)
    second = torch.tensor([[3.0, 5]], dtype=DOUBLE)
    with forward(module, x, rule_set("zero"), pick=pick) as run:
        found = [run.relevance(first, more=True), run.relevance(second, more=True), run.relevance(first)]
    half = torch.tensor([[0.0, 3, 0, 0], [3, 0, 0, 0]], dtype=DOUBLE)
    other = torch.tensor([[0.0, 1.5, 5, 0], [1.5, 0, 0, 0]], dtype=DOUBLE)
    for one, expected in zip(found, (half, other, half), strict=True):
        assert torch.equal(one[0, 0], expected)


def test_a_map_is_not_overwritten_by_the_next() -> None:
    module, x = nn.Linear(5, 3).double(), torch.rand(2, 5, dtype=DOUBLE)
    seed = torch.ones(2, 3, dtype=DOUBLE)
    for rules in RULE_SETS:
        with forward(module, x, rule_set(rules), pick=pick) as run:
            first = run.relevance(seed, more=True)
            kept = first.clone()
            run.relevance(2 * seed, more=True)
            assert torch.equal(first, kept)


# -- large dense layers ------------------------------------------------------------------------------------------------


@pytest.fixture
def sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dense layer is large, and a slice is two or three rows."""
    monkeypatch.setattr(linear_maps, "_SLICED_FROM", 0)
    monkeypatch.setattr(linear_maps, "_SLICE", 30)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("shape", [(3, 11), (2, 4, 11), (11,)])
@pytest.mark.usefixtures("sliced")
def test_a_part_in_slices_is_the_part(positive: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(7, 11, dtype=DOUBLE), torch.randn(shape, dtype=DOUBLE)
    part = dense(weight, torch.randn(7, dtype=DOUBLE)).part(positive=positive)
    assert isinstance(part, _DensePart)
    assert part.bias is None
    clamped = weight.clamp(min=0) if positive else weight.clamp(max=0)
    y = torch.randn(*shape[:-1], 7, dtype=DOUBLE)
    for context in (torch.no_grad, torch.enable_grad):
        with context():
            torch.testing.assert_close(part.apply(x, part.weight), x @ clamped.T, rtol=1e-13, atol=1e-13)
            torch.testing.assert_close(part.transpose(y, part.weight, x), y @ clamped, rtol=1e-13, atol=1e-13)


def test_small_layers_are_not_sliced() -> None:
    assert not isinstance(dense(torch.ones(7, 11)).part(positive=True), _DensePart)


@pytest.mark.usefixtures("sliced")
def test_for_many_maps_the_part_is_written_out() -> None:
    assert isinstance(dense(torch.ones(7, 11)).part(positive=True, maps=6), _DensePart)
    part = dense(torch.tensor([[1.0, -2.0]])).part(positive=False, maps=7)
    assert not isinstance(part, _DensePart)
    assert part.weight.tolist() == [[0, -2]]


@pytest.mark.parametrize("more", [3, 8])
@pytest.mark.usefixtures("sliced")
def test_so_many_maps_as_were_announced_are_those_of_runs_of_their_own(
    more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    part = Dense.part

    def noted(self: Dense, *, positive: bool, maps: int = 1) -> Any:
        asked.append(maps)
        return part(self, positive=positive, maps=maps)

    module, x = network(), pictures()
    alone = maps(module, x, "deep-taylor", more=False)
    monkeypatch.setattr(Dense, "part", noted)
    with forward(module, x, rule_set("deep-taylor"), pick=pick) as run:
        for left in range(more, -1, -1):
            seed = F.one_hot(torch.full((len(x),), left % 4), 4).to(x)
            torch.testing.assert_close(run.relevance(seed, more=left), alone[left % 4], rtol=1e-12, atol=1e-15)
    assert asked
    assert set(asked) == {more + 1}


@pytest.mark.parametrize("rules", RULE_SETS)
@pytest.mark.parametrize("biases", ["absorb", "spread"])
def test_maps_through_large_layers_are_the_same(rules: str, biases: str, request: pytest.FixtureRequest) -> None:
    from dataclasses import replace

    module, x = network(), pictures()
    chosen = replace(rule_set(rules), bias=biases)
    seed = torch.tensor([[1.0, -0.5, 0.0, 2.0]], dtype=DOUBLE).expand(2, 4)

    def found() -> Tensor:
        with forward(module, x, chosen, pick=pick) as run:
            result: Tensor = run.relevance(seed)
        return result

    expected = found()
    request.getfixturevalue("sliced")
    torch.testing.assert_close(found(), expected, rtol=1e-11, atol=1e-13)


# -- activations that write over their input ---------------------------------------------------------------------------


class Own(nn.Module):
    """A convolution, what is done with its output, and a head."""

    def __init__(self, body: Callable[[nn.Module, Tensor, bool], Tensor], inplace: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)
        self.body, self.inplace = body, inplace
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.clear()
        result: Tensor = self.head(self.body(self, x, self.inplace).mean((2, 3)))
        return result


def plain(m: Any, x: Tensor, inplace: bool) -> Tensor:
    y = m.first(x)
    m.seen.append(y)
    z = F.relu(y, inplace=inplace)
    m.seen.append(z)
    return m.second(z)  # type: ignore[no-any-return]


def bounded(m: Any, x: Tensor, inplace: bool) -> Tensor:
    y = m.first(x)
    m.seen.append(y)
    z = F.hardtanh(y, 0.0, 0.4, inplace)
    m.seen.append(z)
    return m.second(z)  # type: ignore[no-any-return]


def normed(m: Any, x: Tensor, inplace: bool) -> Tensor:
    y = m.norm(m.first(x))
    m.seen.append(y)
    z = F.leaky_relu(y, 0.1, inplace=inplace)
    m.seen.append(z)
    return m.second(z)  # type: ignore[no-any-return]


def read_before(m: Any, x: Tensor, inplace: bool) -> Tensor:
    y = m.first(x)
    aside = m.second(y)
    return F.relu(y, inplace=inplace) + aside  # type: ignore[no-any-return]


def multiplied_before(m: Any, x: Tensor, inplace: bool) -> Tensor:
    y = m.first(x)
    aside = y * y.sigmoid()
    return F.relu(y, inplace=inplace) + aside  # type: ignore[no-any-return]


def summed(m: Any, x: Tensor, inplace: bool) -> Tensor:
    z = m.first(x)
    y = z + m.second(z)
    return m.second(F.relu(y, inplace=inplace))  # type: ignore[no-any-return]


def pooled_before(m: Any, x: Tensor, inplace: bool) -> Tensor:
    y = m.first(x)
    aside = F.max_pool2d(y, 2)
    return F.max_pool2d(F.relu(y, inplace=inplace), 2) + aside


def read_after(m: Any, x: Tensor, inplace: bool) -> Tensor:
    y = m.first(x)
    z = F.relu(y, inplace=inplace)
    return m.second(y if inplace else z) + z  # type: ignore[no-any-return]


def twice(m: Any, x: Tensor, inplace: bool) -> Tensor:
    z = F.relu(m.first(x), inplace=inplace)
    return m.second(F.hardtanh(z, 0.0, 0.3, inplace))  # type: ignore[no-any-return]


WAYS = [plain, bounded, normed, read_before, multiplied_before, summed, pooled_before, read_after, twice]


def explained(module: nn.Module, rules: str) -> tuple[Tensor, Tensor]:
    with forward(module, pictures(), rule_set(rules), pick=pick) as run:
        return run.output, run.relevance(torch.ones_like(run.output) * torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE))


@pytest.mark.parametrize("rules", RULE_SETS)
@pytest.mark.parametrize("way", WAYS)
def test_writing_in_place_changes_no_map(way: Any, rules: str) -> None:
    apart, over = (Own(way, inplace).double().eval() for inplace in (False, True))
    for one, other in zip(explained(apart, rules), explained(over, rules), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-15)
    with torch.no_grad():
        assert torch.equal(explained(over, rules)[0], over(pictures()))


def is_over_its_input(module: Own, rules: str, **asked: Any) -> bool:
    with forward(module, pictures(), rule_set(rules), pick=pick, **asked):
        before, after = module.seen
        return before.data_ptr() == after.data_ptr()


@pytest.mark.parametrize("way", [plain, bounded, normed])
def test_memory_is_used_again_where_no_rule_needs_what_stood_there(way: Any) -> None:
    module = Own(way, True).double().eval()
    assert is_over_its_input(module, "deep-taylor")
    assert not is_over_its_input(module, "zero")  # which divides by the output
    assert not is_over_its_input(Own(way, False).double().eval(), "deep-taylor")


def test_the_output_of_a_layer_that_is_asked_for_stays() -> None:
    module = Own(plain, True).double().eval()
    assert not is_over_its_input(module, "deep-taylor", layer="first")
    with forward(module, pictures(), rule_set("deep-taylor"), pick=pick, layer="first") as run:
        torch.testing.assert_close(run.output, module.first(pictures()), rtol=0, atol=0)
    assert (run.output < 0).any()


def test_what_is_detached_before_stays() -> None:
    def body(m: Any, x: Tensor, inplace: bool) -> Tensor:
        y = m.first(x)
        m.seen.append(y)
        m.known = y.detach()
        z = F.relu(y, inplace=inplace)
        m.seen.append(z)
        return m.second(z)  # type: ignore[no-any-return]

    assert not is_over_its_input(Own(body, True).double().eval(), "deep-taylor")

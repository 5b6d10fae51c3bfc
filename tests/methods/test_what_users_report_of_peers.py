"""What users of hook-based libraries report as broken, each as a network: here LRP-0 is exact in every one of them."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visavis as vv
from visavis.propagation import Epsilon, RuleSet, Zero, functions

DOUBLE = torch.float64


class Network(nn.Module):
    """A stem, a body that is given, and a head, without biases."""

    def __init__(self, body: Callable[[Network, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.middle = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.other = nn.Conv2d(6, 6, 1, bias=False)
        self.unused = nn.Linear(7, 7)
        self.relu = nn.ReLU()
        self.written = nn.ReLU(inplace=True)
        self.identity = nn.Identity()
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear")
        self.norm = nn.BatchNorm2d(6)
        self.norm.bias = None
        self.head = nn.LazyLinear(4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self, self.stem(x)).flatten(1))
        return logits


def added_in_place(net: Network, x: Tensor) -> Tensor:
    x = net.relu(x)
    before = x
    x = net.middle(x)
    x += before
    return x


def branching(net: Network, x: Tensor) -> Tensor:
    if x.mean() > 0:
        return F.relu(net.middle(x))
    return F.relu(net.other(x)) + x


def with_shared_weights(net: Network, x: Tensor) -> Tensor:
    return F.relu(F.conv2d(F.relu(x), net.middle.weight, padding=1)) + net.middle(F.relu(x))


#: By what users of other libraries write of.
REPORTED: dict[str, Callable[[Network, Tensor], Tensor]] = {
    "a module used twice": lambda net, x: net.relu(net.middle(net.relu(net.middle(x)))),
    "an activation module used for all layers": lambda net, x: net.relu(net.other(net.relu(net.middle(net.relu(x))))),
    "x + y written as an operator": lambda net, x: net.middle(net.relu(x)) + x,
    "torch.add and operator.add": lambda net, x: torch.add(operator.add(net.middle(F.relu(x)), x), net.other(x)),
    "torch.cat in a forward": lambda net, x: torch.cat([net.middle(F.relu(x)), x], dim=1),
    "in-place ReLU": lambda net, x: net.middle(net.written(net.middle(x))),
    "in-place ReLU after a sum": lambda net, x: net.middle(net.written(net.middle(F.relu(x)) + x)),
    "+=": added_in_place,
    "F.relu without a module": lambda net, x: net.middle(F.relu(x)),
    "a layer unused in the forward pass": lambda net, x: F.relu(x),
    "shared weights": with_shared_weights,
    "nn.Identity": lambda net, x: net.identity(net.middle(net.identity(F.relu(x)))),
    "Upsample": lambda net, x: net.middle(net.upsample(F.relu(x))),
    "a forward that branches on the input": branching,
    "batch norm before a convolution": lambda net, x: net.middle(net.norm(F.relu(x))),
    "batch norm after a sum": lambda net, x: F.relu(net.norm(net.middle(F.relu(x)) + x)),
    "functional pooling": lambda net, x: F.max_pool2d(F.avg_pool2d(net.middle(F.relu(x)), 2), 2),
    "flattening by hand": lambda net, x: F.relu(x).view(x.size(0), -1),
    "a sum over a list": lambda net, x: sum([F.relu(x), net.middle(x), net.other(x)], torch.zeros_like(x)),
}


def network(name: str, seed: int = 0) -> tuple[Network, Tensor]:
    torch.manual_seed(seed)
    net, x = Network(REPORTED[name]).double().eval(), torch.randn(2, 3, 8, 8, dtype=DOUBLE)
    net(x)  # sets the size of the head
    net.norm.running_var.uniform_(0.5, 2.0)
    return net, x


def gradient_times_input(net: nn.Module, x: Tensor, target: int) -> Tensor:
    """x · dS/dx, turned as the seed |S| is."""
    x = x.clone().requires_grad_()
    score = net(x)[:, target]
    (gradient,) = torch.autograd.grad(score.sum(), x)
    return (x * gradient * score.sign().view(-1, 1, 1, 1)).detach()


@pytest.mark.parametrize("name", REPORTED)
def test_the_map_is_exact(name: str) -> None:
    net, x = network(name)
    found = vv.LRP(net, rules="zero").attribute(x, target=1)
    torch.testing.assert_close(found, gradient_times_input(net, x, 1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", REPORTED)
def test_relevance_is_conserved_but_for_what_the_ledger_lists(name: str) -> None:
    net, x = network(name)
    ledger = vv.LRP(net, rules="deep-taylor").ledger(x, target=1)
    assert ledger.conserved == pytest.approx(1 - ledger.absorbed, abs=1e-9)
    # More than arrived is handed on nowhere: the shares alone would make 1 of a doubled relevance and a negative loss.
    assert 0.5 < ledger.conserved <= 1 + 1e-9
    assert min(entry.absorbed for entry in ledger) >= -1e-9


def test_both_branches_of_a_forward_that_branches_are_taken() -> None:
    net, x = network("a forward that branches on the input")
    taken = set()
    for sign in (1, -1):
        taken.add(bool(net.stem(sign * x).mean() > 0))
        found = vv.LRP(net, rules="zero").attribute(sign * x, target=1)
        torch.testing.assert_close(found, gradient_times_input(net, sign * x, 1), rtol=1e-9, atol=1e-12)
    assert taken == {True, False}


def test_a_second_call_after_a_first_with_other_rules_is_as_if_it_were_the_first() -> None:
    net, x = network("batch norm after a sum")
    alone = vv.CLRP(net, rules="deep-taylor").attribute(x, target=1)
    for rules in ("epsilon", "zero", RuleSet(Epsilon(0.5), modules={"middle": Zero()}), "gradient-times-input"):
        vv.LRP(net, rules=rules).attribute(x, target=2)
    again = vv.CLRP(net, rules="deep-taylor").attribute(x, target=1)
    assert torch.equal(alone, again)


def test_a_call_that_failed_leaves_nothing_behind() -> None:
    net, x = network("+=")
    alone = vv.LRP(net, rules="zero").attribute(x, target=1)
    with pytest.raises(vv.VisavisError):
        vv.LRP(net).attribute(x[:, :2], target=1)
    assert not any(part._forward_hooks or part._backward_hooks for part in net.modules())
    assert torch.equal(vv.LRP(net, rules="zero").attribute(x, target=1), alone)


def test_two_threads_at_once_get_what_each_gets_alone() -> None:
    net, x = network("in-place ReLU after a sum")
    jobs = {"zero": 0, "deep-taylor": 1, "epsilon-plus": 2, "gamma": 3}
    alone = {rules: vv.LRP(net, rules=rules).attribute(x, target=target) for rules, target in jobs.items()}
    found: dict[str, list[Tensor]] = {rules: [] for rules in jobs}

    def work(rules: str, target: int) -> None:
        for _ in range(5):
            found[rules].append(vv.LRP(net, rules=rules).attribute(x, target=target))

    threads = [threading.Thread(target=work, args=job) for job in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rules, maps in found.items():
        assert len(maps) == 5
        assert all(torch.equal(one, alone[rules]) for one in maps)


def test_the_checker_sees_a_map_that_doubles_at_a_sum() -> None:
    """The failure that users report most: a residual sum that hands its whole relevance to both terms."""
    net, x = network("x + y written as an operator")

    def doubled(visit: vv.propagation.Visit) -> Tensor:
        value = visit.value()
        left, right = visit.sources
        return visit.leave(vv.propagation.cross(value, lambda r: (r, r), left, right))

    sums = {function: of for function in functions.spellings("add") if (of := functions.crossing_of(function))}
    for function in sums:
        vv.propagation.unregister(function)
        vv.propagation.register(function, doubled)
    try:
        found = vv.LRP(net, rules="zero").attribute(x, target=1)
    finally:
        for function, own in sums.items():
            vv.propagation.unregister(function)
            vv.propagation.register(function, own)
    assert (found - gradient_times_input(net, x, 1)).abs().max() > 1e-3

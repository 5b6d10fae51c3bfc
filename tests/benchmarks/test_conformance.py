"""Every model of the conformance suite conforms; and what is measured there finds what is wrong."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import visavis as vv
from visavis.propagation import Visit, cross
from visavis.propagation.functions import crossing_of, unregister
from visavis.propagation.ledger import Entry, Ledger

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # its scripts import one another from there

import conformance
from conformance_checks import (
    Finding,
    State,
    bent,
    compare_with_gradient,
    enter_ledger,
    examine,
    measure,
)
from conformance_models import Subject, subjects, timm_subjects, torchvision_subjects, without_offsets
from conformance_page import conformance_page, own_verdict
from conformance_peers import try_one, verdict

# One of each kind that is quick; all others are marked slow.
QUICK = {
    *(
        f"torchvision:{name}"
        for name in (
            *("mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1"),
            "quantized_shufflenet_v2_x0_5",
        )
    ),
}
# Each makes the same calls as a smaller one of its kind, and takes minutes and gigabytes: these are left to
# benchmarks/conformance.py, whose page has them.
LARGEST = {f"torchvision:{name}" for name in ("convnext_large", "regnet_y_128gf", "vit_h_14", "vit_l_16", "vit_l_32")}


def marked(subject: Subject) -> Any:
    marks = () if subject.title in QUICK else (pytest.mark.slow,)
    return pytest.param(subject, id=subject.title, marks=marks)


SUBJECTS = (*torchvision_subjects(), *timm_subjects(kin=False))


@pytest.mark.filterwarnings("ignore")  # what their libraries say while they build them
@pytest.mark.parametrize("subject", [marked(one) for one in SUBJECTS if one.title not in LARGEST])
def test_model_conforms(subject: Subject) -> None:
    if not subject.exists:
        pytest.skip(f"this timm has no {subject.name}")
    finding = examine(subject)
    assert finding.faults == []
    assert bool(finding.refused) == (subject.group == "quantized")


def test_the_suite_is_as_large_as_it_says() -> None:
    from torchvision import models

    of_torchvision = [one.name for one in torchvision_subjects() if one.group == "classification"]
    assert of_torchvision == models.list_models(module=models)
    families = [one.family for one in timm_subjects(kin=False)]
    assert len(set(families)) == len(families) >= 60
    titles = [one.title for one in subjects()]
    assert len(set(titles)) == len(titles)
    assert set(titles) >= QUICK | LARGEST
    page = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text("utf-8")
    assert all(title.removeprefix("torchvision:") in page for title in LARGEST)


# -- the checks find what is wrong -----------------------------------------------------------------------------------


class Small(nn.Module):
    """A network that is linear in pieces, with every kind of offset."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(functional.relu(self.norm(self.first(x))).mean((2, 3)))


def small() -> nn.Module:
    torch.manual_seed(3)
    module = Small().eval()
    module.norm.running_mean.normal_(0.0, 0.1)
    return module


def found_of(module: nn.Module) -> Finding:
    finding = Finding("small", "torchvision", "classification", "", "")
    measure(module, torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)), finding)
    return finding


def test_a_model_that_conforms_has_no_faults() -> None:
    finding = found_of(small())
    assert finding.faults == []
    assert finding.zero == "equal"
    assert finding.deviation < 1e-12
    assert finding.conserved + finding.absorbed == pytest.approx(1)


class Counting(Small):
    """Answers otherwise at each call."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) + self.calls


def test_another_output_is_found() -> None:
    faults = found_of(Counting().eval()).faults
    assert "the output under the engine is not the model's own" in faults
    assert "after the explanation the model answers otherwise" in faults


class Alike(Small):
    """All classes have the same score."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, :1].expand(-1, 5)


def test_contrasts_that_are_alike_are_found() -> None:
    assert [fault for fault in found_of(Alike().eval()).faults if "alike" in fault]


@pytest.mark.parametrize(
    ("factor", "fault"), [(float("nan"), "is not finite"), (0.0, "is all zero"), (3.0, "the map holds")]
)
def test_maps_that_are_wrong_are_found(monkeypatch: pytest.MonkeyPatch, factor: float, fault: str) -> None:
    right = vv.LRP.map_of
    monkeypatch.setattr(vv.LRP, "map_of", lambda *args, **more: right(*args, **more) * factor)
    assert [one for one in found_of(small()).faults if fault in one]


def test_a_crossing_that_doubles_relevance_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubling(visit: Visit) -> Any:
        visit.call.operation, visit.call.rule = "activation", "twice"
        return visit.leave(cross(visit.value(), lambda relevance: 2 * relevance, *visit.sources))

    known = crossing_of(functional.relu)
    assert known is not None
    unregister(functional.relu)
    vv.register(functional.relu, doubling)
    try:
        faults = found_of(small()).faults
    finally:
        unregister(functional.relu)
        vv.register(functional.relu, known)
    assert [fault for fault in faults if fault.startswith("LRP-0 is")]
    assert [fault for fault in faults if fault.endswith("of the seed reached the input: more than there was")]


def test_a_ledger_that_does_not_add_up_is_found() -> None:
    ledger = Ledger((Entry("last", "F.linear", "linear", "ZPlus()", 1.0, 0.2),), 0.5)
    finding = Finding("small", "torchvision", "classification", "", "")
    enter_ledger(ledger, 0.5, finding)
    assert [fault for fault in finding.faults if "make 0.7" in fault]
    assert finding.absorber == "last"


CHANGES: dict[str, Callable[[nn.Module], Any]] = {
    "values of 'last.bias'": lambda module: module.last.bias.data.add_(1),
    "values of 'norm.running_var'": lambda module: module.norm.running_var.mul_(2),
    "gradient or flag of 'last.bias'": lambda module: module.last.bias.requires_grad_(False),
    "gradient or flag of 'last.weight'": lambda module: setattr(module.last.weight, "grad", torch.zeros(5, 6)),
    "gradient or flag of 'last.more'": lambda module: module.last.register_buffer("more", torch.zeros(1)),
    "mode or hooks of 'norm'": lambda module: module.norm.train(),
    "mode or hooks of 'first'": lambda module: module.first.register_forward_hook(lambda *_: None),
    "torch's random state": lambda module: torch.rand(1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_model_is_found(change: str) -> None:
    module = small()
    state = State(module)
    assert state.changes(module) == []
    CHANGES[change](module)
    assert state.changes(module) == [change]


def test_a_changed_model_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    module = small()
    right = vv.LRP.map_of

    def spoiling(*args: Any, **more: Any) -> Any:
        module.last.bias.data.add_(1)
        return right(*args, **more)

    monkeypatch.setattr(vv.LRP, "map_of", spoiling)
    assert "the model was changed: values of 'last.bias'" in found_of(module).faults


class Bent(Small):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh() * 2


def test_bent_names_the_function_that_is_not_linear_in_pieces() -> None:
    inputs = torch.randn(2, 3, 8, 8)
    assert bent(vv.LRP(small()).plan(inputs)) == ""
    assert bent(vv.LRP(Bent().eval()).plan(inputs)) == "tanh"
    finding = found_of(Bent().eval())
    assert (finding.zero, finding.deviation) == ("tanh", 0.0)


def test_clipping_is_no_bend_where_nothing_is_clipped() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(144, 5)).eval()
    inputs = 20 * torch.randn(2, 3, 8, 8)  # these are clipped
    finding = Finding("small", "torchvision", "classification", "", "")
    compare_with_gradient(module, inputs, torch.tensor([0, 1]), vv.LRP(module).plan(inputs), finding)
    assert (finding.zero, finding.faults) == ("equal", [])


def test_networks_are_the_same_at_every_call_and_nothing_in_them_is_trivial() -> None:
    subject = next(one for one in torchvision_subjects() if one.name == "shufflenet_v2_x0_5")
    first, second = subject.network(), subject.network()
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert torch.equal(subject.inputs(), subject.inputs())
    for name, tensor in (*first.named_parameters(), *first.named_buffers()):
        assert "num_batches" in name or len(tensor.unique()) > 1, name
    spread = first(subject.inputs()).std(0)
    assert spread.mean() > 0.05  # the score depends on the input
    free = without_offsets(first)
    doubled = free(2 * subject.inputs().double())
    torch.testing.assert_close(doubled, 2 * free(subject.inputs().double()))


# -- the peers -------------------------------------------------------------------------------------------------------


def test_peers_are_judged_by_cosine_and_sum() -> None:
    assert verdict({"raises": "", "share": 1.001, "cosine": 0.999}) == "right"
    assert verdict({"raises": "", "share": 1.0, "cosine": 0.9}).startswith("wrong: cosine 0.900")
    assert (
        verdict({"raises": "", "share": 65536.0, "cosine": 1.0})
        == "wrong: cosine 1.000, the map adds up to 6.55e+04 of the score"
    )
    assert verdict({"raises": "", "share": 1.0, "cosine": None}) == "conserves; no oracle"
    assert verdict({"raises": "", "share": float("nan"), "cosine": None}).startswith("wrong")
    assert verdict({"raises": "TypeError: no rule", "share": None, "cosine": None}) == "raises"
    assert verdict({"failed": "took more than 3 s"}) == "fails: took more than 3 s"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("peer", "name", "expected"),
    [("captum", "squeezenet1_1", "right"), ("zennit", "resnet18", "right"), ("captum", "mobilenet_v2", "raises")],
)
def test_what_is_known_of_peers_is_found(peer: str, name: str, expected: str) -> None:
    pytest.importorskip(peer)
    subject = next(one for one in torchvision_subjects() if one.name == name)
    assert verdict(try_one(subject, peer)) == expected


# -- a run -----------------------------------------------------------------------------------------------------------


def work(subject: Subject) -> Mapping[str, Any]:
    """Stands for a measurement: one that ends well, one that raises, one that dies, one that never ends."""
    if subject.name == "raises":
        raise ValueError("as it should")
    if subject.name == "dies":
        os._exit(3)
    if subject.name == "hangs":
        time.sleep(60)
    return {"seen": subject.name}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_one_model_that_fails_costs_no_other() -> None:
    names = ("fine", "raises", "dies", "hangs", "fine too")
    started = time.monotonic()
    found = {one.name: result for one, result in conformance.in_processes([Subject(n) for n in names], work, 2, 3.0)}
    assert time.monotonic() - started < 30
    assert found["fine"] == {"seen": "fine"}
    assert found["fine too"] == {"seen": "fine too"}
    assert found["raises"]["failed"].startswith("ValueError: as it should (test_conformance.py:")
    assert found["dies"] == {"failed": "its process ended with status 3"}
    assert found["hangs"] == {"failed": "took more than 3 s"}


def test_results_are_read_back_and_failures_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert conformance.read_lines(path) == []
    lines = [
        {"kind": "visavis", "title": "timm:a", "failed": "took more than 3 s"},
        {"kind": "visavis", "title": "timm:b", "faults": []},
        {"kind": "captum", "title": "timm:a", "raises": ""},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "visavis", "tit')
    results = conformance.read_lines(path)
    assert results == lines
    assert list(conformance.measured(results, "visavis")) == ["timm:b"]
    assert list(conformance.measured(results, "captum")) == ["timm:a"]


def test_pages_say_what_was_found() -> None:
    chosen = [
        Subject("vgg11"),
        Subject("alexnet"),
        Subject("resnet18"),
        Subject("quantized_resnet18", group="quantized"),
    ]
    vgg = conformance.asdict(Finding("vgg11", "torchvision", "classification", "vgg", "64×64", zero="equal"))
    vgg |= {"conserved": 0.75, "absorbed": 0.25, "absorber": "features.0", "cost": 4.04, "positive": 0.5}
    alexnet = {**vgg, "faults": ["the map of LRP is all zero"], "zero": "differs"}
    refused = {**vgg, "refused": "it is quantised"}
    results = {"torchvision:vgg11": vgg, "torchvision:alexnet": alexnet, "torchvision:quantized_resnet18": refused}
    without = {"visavis": results, "captum": {}, "zennit": {}}
    page = conformance_page(chosen, without, "python it.py")
    assert "by captum" not in page
    assert "1 of 3 models conform" in page
    assert "| `vgg11` | vgg | 64×64 | 75.0% | = | 4.0 | most is absorbed in `features.0` |" in page
    assert "| `alexnet` | alexnet | 64×64 | 75.0% | ≠ | 4.0 | the map of LRP is all zero |" in page
    assert "| `resnet18` | resnet | 64×64 |  |  |  | not measured |" in page
    assert "| `quantized_resnet18` | it is quantised |" in page
    assert "`python it.py`" in page
    assert own_verdict(vgg) == "right"
    assert own_verdict({**vgg, "zero": "gelu"}) == "conserves; no oracle"
    assert own_verdict(alexnet) == "wrong: the map of LRP is all zero"

    tried = {
        "captum": {"torchvision:vgg11": {"raises": "TypeError: no rule", "share": None, "cosine": None}},
        "zennit": {"torchvision:vgg11": {"raises": "", "share": 1.0, "cosine": 1.0, "usual": 0.3827}},
    }
    page = conformance_page(chosen, {"visavis": results, **tried}, "python it.py")
    assert "| `torchvision:vgg11` | right | raises | right | 0.383 |" in page
    assert "- captum, 1 model: TypeError: no rule" in page
    assert "| captum | 0 | 0 | 0 | 1 |" in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--models", "nothing"], "no model matches nothing"),
        (["--jobs", "0"], "--jobs, --limit and --repeats are numbers of at least 1"),
        (["--docs", "nowhere"], "is no folder"),
        (["--output", "nowhere/results.jsonl"], "is no folder"),
    ],
)
def test_bad_arguments_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["conformance.py", *arguments])
    with pytest.raises(SystemExit, match=sentence):
        conformance.main()

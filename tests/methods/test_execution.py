"""`execution`: played maps are the eager ones, of whatever model and settings are then; or a sentence says why not."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import visavis as vv
from visavis.methods import execution
from visavis.methods.base import PropagationMethod
from visavis.methods.execution import EXECUTIONS, Execution
from visavis.propagation import rule_set
from visavis.propagation.playing import Player
from visavis.propagation.recording import NotRecordable

DOUBLE = torch.float64
REFUSED = r"^these maps cannot be computed by execution='graph': .*%s.*; leave it out, or pass execution=\"eager\"$"
PROPAGATING = [name for name in vv.methods() if issubclass(vv.method(name), PropagationMethod)]


def pictures(seed: int = 1, items: int = 2) -> Tensor:
    return torch.randn(items, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def drawn(module: nn.Module) -> nn.Module:
    """The module, float64, all its tensors (biases and statistics too) drawn at random."""
    generator = torch.Generator().manual_seed(0)
    module.double().eval()
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator, dtype=DOUBLE)
                spread = noise / max(1, tensor[0].numel()) ** 0.5 if tensor.dim() > 1 else noise / 5
                tensor.copy_(spread.abs() + 0.5 if "var" in name else spread + (tensor.dim() < 2 and "weight" in name))
    return module


class Residual(nn.Module):
    def __init__(self, width: int, groups: int = 1, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False)
        self.norm, self.act = nn.BatchNorm2d(width), act()
        self.second = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.act(x + self.second(self.act(self.norm(self.first(x)))))
        return result


class Dilated(nn.Module):
    """A small network with settings of its own that its forward reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.head, self.mirrored = nn.Linear(4, 4), False

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.first(x))).mean((2, 3))
        result: Tensor = self.head(-x if self.mirrored else x)
        return result


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(24, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, activation="gelu")
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.block(self.embed(x.flatten(2).transpose(1, 2).reshape(-1, 8, 24))).mean(1))
        return result


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(64, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.cell(x.flatten(1).view(-1, 3, 64))[0][:, -1])
        return result


def stem(*parts: nn.Module, width: int = 6) -> nn.Module:
    first = (nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
    return nn.Sequential(*first, *parts, nn.Flatten(), nn.Linear(width, 4))


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: stem(Residual(6), nn.AdaptiveAvgPool2d(1)),
    "depthwise": lambda: stem(Residual(6, 6, nn.ReLU6), nn.AdaptiveAvgPool2d(1)),
    "overlapping": lambda: stem(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1), nn.AdaptiveMaxPool2d(1)),
    "pooled": lambda: stem(nn.MaxPool2d(2), nn.AvgPool2d(2), width=24),
    "vit": lambda: VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=4),
    "tokens": Tokens,
    "recurrent": Recurrent,
}


def built(name: str = "pooled") -> Any:
    torch.manual_seed(0)
    return drawn(MODELS[name]())


def both(name: str, module: Any, **options: Any) -> tuple[Any, Any]:
    """The method played, and eager."""
    make = partial(vv.method(name), module, **options)
    return make(execution="graph"), make(execution="eager")


def assert_equal(found: Any, expected: Any) -> None:
    some, others = (one if isinstance(one, list | tuple) else [one] for one in (found, expected))
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        if isinstance(one, tuple):
            assert_equal(one, other)
        else:
            assert other.abs().sum() > 0
            assert torch.equal(one, other)


def check(played: Any, eager: Any, x: Tensor, target: Any = 1) -> None:
    assert_equal(played.attribute(x, target), eager.attribute(x, target))


def recordings(method: Any) -> list[Any]:
    return [player for player, *_ in method.execution._players.values()]


# -- the same maps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [DOUBLE, slow(torch.bfloat16)], ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_models(model: str, dtype: torch.dtype) -> None:
    played, eager = both("clrp", built(model).to(dtype), signed=True)
    check(played, eager, pictures().to(dtype), 1)
    (first,) = recordings(played)
    for seed, target in ((2, [2, 0]), (3, torch.tensor([3, 3])), (4, (0, 1))):
        check(played, eager, pictures(seed).to(dtype), target)
    assert recordings(played) == [first]


@pytest.mark.parametrize(
    "options",
    [
        *({"foil": foil} for foil in ("others", "negated", "logits", "softmax", "strongest", "runner-up")),
        {"foil": 3, "signed": True},
        {"foil": [1, 3]},
        {"foil": torch.tensor([3, 1])},
        {"foil": np.array([1, 3])},
        {"foil": [[3], [1, 3]], "signed": True},
        {"normalize": "sum", "foil": "negated"},
        {"normalize": "sum", "signed": True},
        {"seed": "one", "rules": "epsilon-gamma-box"},
    ],
    ids=str,
)
def test_contrasts(options: dict[str, Any]) -> None:
    played, eager = both("clrp", built(), **options)
    played.attribute(pictures(), [2, 2])
    for seed, target in ((2, [2, 0]), (3, torch.tensor([0, 2]))):
        check(played, eager, pictures(seed), target)
    assert len(recordings(played)) == 1


@pytest.mark.parametrize("name", PROPAGATING)
def test_methods(name: str) -> None:
    played, eager = both(name, built())
    played.attribute(pictures(), 2)
    check(played, eager, pictures(2), [1, 3])
    check(played, eager, pictures(3), None)


@pytest.mark.parametrize("rules", [name for name in vv.rule_sets() if name not in ("auto", "sharp")])
def test_rule_sets(rules: str) -> None:
    played, eager = both("lrp", built(), rules=rules, bounds=(-5.0, 5.0))
    played.attribute(pictures(), 2)
    check(played, eager, pictures(2), [1, 3])


def test_several_targets() -> None:
    for foil in ("others", [[3], [2]]):
        played, eager = both("clrp", built(), foil=foil)
        played.attribute_each(pictures(), [0, 1])
        (first,) = recordings(played)
        for targets in ([1, 0], [torch.tensor([1, 0]), [0, 1], 1], [[2, 1], (0, 0), [1, 3], 0], iter([0, 1])):
            asked = list(targets)
            x = pictures(len(asked))
            assert_equal(played.attribute_each(x, iter(asked)), eager.attribute_each(x, asked))
        assert recordings(played) == [first]
        assert_equal(played.attribute_each(pictures(8), [1]), eager.attribute_each(pictures(8), [1]))
    assert_equal(played.attribute_each(pictures(), []), [])
    plain, eager = both("lrp", built())
    assert_equal(plain.attribute_each(pictures(), [None]), eager.attribute_each(pictures(), [None]))


def test_labels_units_of_layers_and_chosen_outputs() -> None:
    classifier = vv.Classifier(built(), labels=["ant", "bee", "cat", "dog"])
    played, eager = both("clrp", classifier, foil="dog")
    played.attribute(pictures(), "ant")
    check(played, eager, pictures(2), ["bee", "cat"])
    for layer in ("2", classifier.module[4]):
        played, eager = both("lrp", classifier, layer=layer)
        played.attribute(pictures(), 1)
        check(played, eager, pictures(2), [5, 0])

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = built()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.body(x), "other": self.body(x.flip(-1))}

    for output in ("other", lambda returned: returned["logits"] - returned["other"]):
        played, eager = both("lrp", Named().eval(), output=output)
        played.attribute(pictures(), 1)
        check(played, eager, pictures(2), [3, 0])


def test_several_inputs() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = built(), drawn(nn.Linear(5, 4))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            result: Tensor = self.a(x) + self.b(y).relu()
            return result

    played, eager = both("clrp", Sum().eval(), signed=True)
    first, second = ((pictures(seed), pictures(seed + 5).flatten(1)[:, :5]) for seed in (1, 2))
    played.attribute(first, 1)
    assert_equal(played.attribute(second, [0, 2]), eager.attribute(second, [0, 2]))
    assert_equal(played.attribute_each(second, [0, 2]), eager.attribute_each(second, [0, 2]))
    alone, eager = both("lrp", built())
    assert_equal(alone.attribute((pictures(),), 1), eager.attribute((pictures(),), 1))
    assert_equal(alone.attribute(pictures(), 1), eager.attribute(pictures(), 1))


def test_eager_and_auto_on_the_cpu_record_nothing() -> None:
    for kind in ("eager", "auto"):
        method = vv.LRP(built(), execution=kind)
        for _ in range(3):
            method.attribute(pictures(), 1)
        assert recordings(method) == []
        assert method.execution.reasons == []
    assert vv.LRP(built()).execution.kind == "auto"


# -- it follows the model ----------------------------------------------------------------------------------------------


def stepped(m: Any) -> None:
    for parameter in m.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(m.parameters(), lr=0.05).step()
    m.zero_grad()


def loaded(m: Any, assign: bool) -> None:
    state = {name: value * 1.25 if value.is_floating_point() else value for name, value in m.state_dict().items()}
    m.load_state_dict(state, assign=assign)


def data(m: Any) -> None:
    m.head.weight.data = m.head.weight.data * 1.5


IN_PLACE: dict[str, Callable[[Any], Any]] = {
    "step": stepped,
    "loaded": partial(loaded, assign=False),
    "written": lambda m: m.first.weight.data.mul_(1.25),
    "statistics": lambda m: m.norm.running_mean.add_(0.25),
}
OTHERWISE: dict[str, Callable[[Any], Any]] = {
    "assigned": partial(loaded, assign=True),
    "data": data,
    "transposed": lambda m: setattr(m.head.weight, "data", m.head.weight.data.t()),
    "part": lambda m: setattr(m, "act", nn.Hardtanh(0.0, 0.3)),
    "dilation": lambda m: (setattr(m.first, "dilation", (2, 2)), setattr(m.first, "padding", (2, 2))),
    "flag": lambda m: setattr(m, "mirrored", True),
    "bias": lambda m: setattr(m.first, "bias", None),
    "buffer": lambda m: setattr(m.norm, "running_mean", m.norm.running_mean + 0.25),
}


@pytest.mark.parametrize("change", [*IN_PLACE, *OTHERWISE])
def test_maps_are_those_of_the_model_as_it_is(change: str) -> None:
    module = drawn(Dilated())
    played, eager = both("clrp", module, signed=True)
    before = played.attribute(pictures(), 1)
    (first,) = recordings(played)
    (IN_PLACE | OTHERWISE)[change](module)
    check(played, eager, pictures(), 1)
    assert not torch.equal(before, eager.attribute(pictures(), 1))
    assert (recordings(played) == [first]) == (change in IN_PLACE)
    check(played, eager, pictures(2), [3, 0])


def test_hooks_and_training_mode_are_refused_as_long_as_they_are_there() -> None:
    module = drawn(Dilated())
    played, eager = both("lrp", module)
    played.attribute(pictures(), 1)
    handle = module.act.register_forward_hook(lambda m, args, output: output * 2)
    for _ in range(2):
        with pytest.raises(vv.ModelError, match=REFUSED % "`act` has hooks"):
            played.attribute(pictures(), 1)
    handle.remove()
    check(played, eager, pictures(), 1)
    module.train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(vv.ModelError, match=REFUSED % "`norm` is in training mode"):
            played.attribute(pictures(), 1)
    module.eval()
    check(played, eager, pictures(), 1)
    assert len(played.execution.reasons) == 2
    assert "hooks" in played.execution.reasons[0]


@pytest.mark.slow
def test_maps_are_those_of_the_settings_as_they_are() -> None:
    module, x = built(), pictures()
    played = vv.CLRP(module, execution="graph", foil=[3], bounds=(-5.0, 5.0))
    fresh = partial(vv.CLRP, module, execution="eager")
    played.attribute(x, 1)
    played.foil = "softmax"
    assert_equal(played.attribute(x, 1), fresh(foil="softmax", bounds=(-5.0, 5.0)).attribute(x, 1))
    played.classifier = vv.Classifier(module, bounds=(-9.0, 9.0))
    assert_equal(played.attribute(x, 1), fresh(foil="softmax", bounds=(-9.0, 9.0)).attribute(x, 1))
    played.rules, played.signed = rule_set("gamma"), True
    assert_equal(played.attribute(x, 1), fresh(foil="softmax", rules="gamma", signed=True).attribute(x, 1))
    played.seed = "one"
    other = fresh(foil="softmax", rules="gamma", signed=True, seed="one")
    assert_equal(played.attribute(x, 1), other.attribute(x, 1))
    played.layer = other.layer = "2"
    assert_equal(played.attribute(x, 1), other.attribute(x, 1))


@pytest.mark.parametrize(
    ("foil", "write"),
    [
        ([2, 3], lambda foil: foil.__setitem__(0, 0)),
        ([[2], [2, 3]], lambda foil: foil[0].__setitem__(0, 0)),
        (torch.tensor([2, 3]), lambda foil: foil.fill_(0)),
        (np.array([2, 3]), lambda foil: foil.fill(0)),
    ],
    ids=["list", "lists", "tensor", "array"],
)
def test_a_foil_that_is_written_to_is_followed(foil: Any, write: Callable[[Any], Any]) -> None:
    played, eager = both("clrp", built(), foil=foil)
    before = played.attribute(pictures(), 1)
    write(played.foil)
    eager.foil = played.foil
    check(played, eager, pictures(), 1)
    assert not torch.equal(before, played.attribute(pictures(), 1))
    with pytest.raises(vv.InputError, match="the same class"):
        played.attribute(pictures(), 0)


@pytest.mark.slow
def test_autocast_and_other_settings_of_torch_have_recordings_of_their_own() -> None:
    module = built().float()
    played, eager = both("lrp", module)
    x = pictures().float()
    plain = played.attribute(x, 1)
    with torch.autocast("cpu", torch.bfloat16):
        check(played, eager, x)
        assert not torch.equal(played.attribute(x, 1), plain)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(1.5)
    with torch.autocast("cpu", torch.bfloat16):
        check(played, eager, x)
    check(played, eager, x)
    assert len(recordings(played)) == 2
    allowed = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = not allowed
        check(played, eager, x)
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    assert len(recordings(played)) == 3


# -- refusals ----------------------------------------------------------------------------------------------------------


class Way(nn.Module):
    """A network whose forward is what a test says."""

    def __init__(self, way: Callable[[Any, Tensor, Any], Tensor]) -> None:
        super().__init__()
        self.body, self.way, self.calls = built(), way, 0
        self.register_buffer("count", torch.zeros((), dtype=DOUBLE))
        self.eval()

    def forward(self, x: Tensor, scale: Any = 1.0) -> Tensor:
        return self.way(self, x, scale)


def counted(m: Any, x: Tensor, scale: Any) -> Tensor:
    m.count += 1
    return m.body(x) * m.count  # type: ignore[no-any-return]


def numbered(m: Any, x: Tensor, scale: Any) -> Tensor:
    m.calls += 1
    return m.body(x) * m.calls  # type: ignore[no-any-return]


WAYS: dict[str, tuple[Callable[[Any, Tensor, Any], Any], str]] = {
    "branch": (lambda m, x, _: m.body(x if x.sum() > 0 else -x), "what it calls depends on values of tensors"),
    "random": (lambda m, x, _: m.body(x + 0.1 * torch.rand_like(x)), "the model draws random numbers"),
    "buffer": (counted, "the model writes to its own parameters or buffers as it runs"),
    "state": (numbered, "the model keeps something from one call to the next"),
}


@pytest.mark.parametrize("way", WAYS)
def test_models_that_are_refused_are_left_as_they_were(way: str) -> None:
    function, reason = WAYS[way]
    module = Way(function)
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    played, eager = both("lrp", module)
    with pytest.raises(vv.ModelError, match=REFUSED % reason):
        played.attribute(pictures(), 1)
    for name, value in module.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert all(parameter.requires_grad and parameter.grad is None for parameter in module.parameters())
    assert eager.attribute(pictures(), 1).isfinite().all()
    assert reason in played.execution.reasons[0]


def one_hot(outputs: Tensor) -> Tensor:
    return F.one_hot(outputs.argmax(1), outputs.shape[1]).to(outputs)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda m, x: m.attribute(x, 1, additional_forward_args=2.0), "additional_forward_args are given"),
        (lambda m, x: m.attribute(x, 1, position=0), "a position is given"),
        (lambda m, x: m.attribute(x, one_hot), "a target is a callable, whose answer may depend on the outputs"),
        slow(lambda m, x: m.attribute_each(x, [0, one_hot]), "a target is a callable"),
        slow(
            lambda m, x: m.attribute_each(x, [None, 1]), "several maps are asked for, and a target is left to the model"
        ),
        slow(lambda m, x: m.attribute_each(x, [None, None]), "several maps are asked for, and a target is left"),
    ],
)
def test_calls_that_are_refused_do_not_stand_in_the_way_of_others(call: Callable[..., Any], reason: str) -> None:
    played, eager = both("lrp", Way(lambda m, x, scale: m.body(x) * scale))
    with pytest.raises(vv.ModelError, match=REFUSED % reason):
        call(played, pictures())
    check(played, eager, pictures(), 1)
    check(played, eager, pictures(), None)
    assert_equal(played.attribute_each(pictures(), [0, 1]), eager.attribute_each(pictures(), [0, 1]))
    with pytest.raises(vv.ModelError, match=REFUSED % reason):
        call(played, pictures())
    assert len(played.execution.reasons) == 1


def test_a_target_left_to_the_model_is_refused_beside_foils_that_it_may_be_one_of() -> None:
    played, eager = both("clrp", built(), foil=3)
    with pytest.raises(vv.ModelError, match=REFUSED % "the target is left to the model, and may be one of the foils"):
        played.attribute(pictures(), None)
    check(played, eager, pictures(), 1)
    played.foil = eager.foil = "others"
    check(played, eager, pictures(), None)


def test_a_foil_that_is_a_callable_is_refused() -> None:
    played, _ = both("clrp", built(), foil=lambda outputs: outputs.square())
    with pytest.raises(vv.ModelError, match=REFUSED % "depends on values of tensors"):
        played.attribute(pictures(), 1)


@pytest.mark.parametrize("kind", ["cuda", "", "Graph"])
def test_an_unknown_execution_is_refused_with_the_known_ones(kind: Any) -> None:
    with pytest.raises(vv.InputError, match=f"^execution is 'auto', 'eager', 'graph', 'compiled', not {kind!r}$"):
        vv.CLRP(built(), execution=kind)
    assert list(EXECUTIONS) == ["auto", "eager", "graph", "compiled"]


# -- auto, as on a GPU -------------------------------------------------------------------------------------------------


class OnGPU(Tensor):
    """Says that it is on a GPU."""

    @property
    def is_cuda(self) -> bool:
        return True


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The inputs of each call that was played; a recording is refused where the model says so."""
    calls: list[Any] = []

    class Plays(Player):
        follows, asked_for = True, 0

        def __init__(self, module: Any, *_: Any, **__: Any) -> None:
            Plays.asked_for += 1
            if getattr(module, "refused", False):
                raise NotRecordable("so it says")

        def play(self, inputs: Any, targets: Sequence[Any]) -> list[Any]:
            calls.append(inputs)
            return [torch.zeros_like(inputs)] * len(targets)

    monkeypatch.setattr(execution, "Player", Plays)
    return calls


def test_auto_plays_from_the_second_call_of_a_shape_on(played: list[Any]) -> None:
    method = vv.LRP(built())
    x, other = pictures().as_subclass(OnGPU), pictures(items=3).as_subclass(OnGPU)
    for one in (x, other):
        expected = vv.LRP(built(), execution="eager").attribute(one, 1)
        assert torch.equal(method.attribute(one, 1), expected)
    assert played == []
    for count, one in enumerate((x, other, x), start=1):
        assert not method.attribute(one, 1).any()
        assert played[count - 1] is one
        assert len(played) == count


def test_auto_computes_many_images_eagerly(played: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_FEW_VALUES", pictures().numel())
    method = vv.LRP(built())
    for _ in range(3):
        method.attribute(pictures(items=3).as_subclass(OnGPU), 1)
    assert played == []
    for _ in range(3):
        method.attribute(pictures().as_subclass(OnGPU), 1)
    assert len(played) == 2


def test_auto_falls_back_and_says_why(played: list[Any]) -> None:
    module = built()
    module.refused = True
    method, eager, x = vv.LRP(module), vv.LRP(module, execution="eager"), pictures().as_subclass(OnGPU)
    for _ in range(3):
        assert_equal(method.attribute(x, 1), eager.attribute(x, 1))
    assert method.execution.reasons == ["so it says"]
    assert execution.Player.asked_for == 1
    assert_equal(method.attribute(x, one_hot), eager.attribute(x, one_hot))
    assert_equal(method.attribute_each(x, [None, 1]), eager.attribute_each(x, [None, 1]))
    assert method.execution.reasons[0] == "so it says"
    assert len(method.execution.reasons) == 3
    assert "callable" in method.execution.reasons[1]
    module.refused = False
    assert not method.attribute(x, 1).any()
    assert len(played) == 1


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_images_that_are_not_finite_or_beyond_the_bounds_have_maps_of_nan_and_no_others() -> None:
    played, eager = both("clrp", built(), bounds=(-6.0, 6.0), signed=True)
    played.attribute(pictures(items=4), 1)
    played.attribute_each(pictures(items=4), [1, 2])
    x = pictures(2, items=4)
    expected = eager.attribute_each(x, [3, 0])
    x[1, 0, 0, 0], x[2, 2, 3, 3] = torch.nan, 6.5
    found = [played.attribute(x, 3), *played.attribute_each(x, [3, 0])]
    for one, other in zip(found, [expected[0], *expected], strict=True):
        assert torch.equal(one[::3], other[::3])
        assert one[1:3].isnan().all()
    fresh = vv.CLRP(built(), execution="graph", bounds=(-6.0, 6.0))
    with pytest.raises(vv.InputError, match="inputs hold 1 values that are NaN or infinite"):
        fresh.attribute(x, 3)


@pytest.mark.parametrize(
    "x",
    [
        pictures().float(),
        pictures().long(),
        pictures()[:, :2],
        pictures()[0, 0, 0],
        pictures()[:0],
        (),
        (pictures(), pictures(items=3)),
        (pictures(), None),
        [1.0],
        None,
    ],
    ids=range(10),
)
@pytest.mark.parametrize("target", [1, None])
def test_wrong_inputs_raise_the_same_as_eager(x: Any, target: Any) -> None:
    played, eager = both("clrp", built(), bounds=(-6.0, 6.0))
    errors = []
    for method in (eager, played):
        with pytest.raises(vv.VisavisError) as caught:
            method.attribute(x, target)
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("target", [4, -1, [0], [0, 1, 2], 1.0, "cat", [0, 9], torch.tensor([True, False]), [3, 0], {}])
def test_wrong_targets_raise_the_same_as_eager(target: Any) -> None:
    played, eager = both("clrp", built(), foil=3)
    played.attribute(pictures(), 1)
    errors = []
    for method in (eager, played):
        with pytest.raises(vv.InputError) as caught:
            method.attribute(pictures(), target)
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]
    check(played, eager, pictures(2), 1)


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_the_model_is_untouched() -> None:
    module = built("residual")
    module[0].weight.requires_grad_(False)
    module[0].weight.grad = None
    state = {name: (tensor, tensor.clone()) for name, tensor in module.state_dict(keep_vars=True).items()}
    attributes = [dict(vars(part)) for part in module.modules()]
    played, _ = both("clrp", module, layer="3")
    random = torch.get_rng_state()
    for _ in range(2):
        played.attribute(pictures(), 1)
    assert torch.equal(torch.get_rng_state(), random)
    for name, tensor in module.state_dict(keep_vars=True).items():
        assert tensor is state[name][0]
        assert torch.equal(tensor, state[name][1])
        assert tensor.grad is None
    for part, before in zip(module.modules(), attributes, strict=True):
        assert list(vars(part)) == list(before)
        assert all(value is before[name] for name, value in vars(part).items())
        assert not part._forward_hooks
        assert not part.training
    assert [parameter.requires_grad for parameter in module.parameters()].count(False) == 1


def test_a_few_recordings_are_kept_those_last_used() -> None:
    played, eager = both("lrp", drawn(nn.Sequential(nn.Flatten(), nn.Linear(192, 4))))
    for items in (1, 2, 3, 4, 1, 5):
        check(played, eager, pictures(items=items))
    assert [key[0][0][0] for key in played.execution._players] == [3, 4, 1, 5]
    gone = weakref.ref(recordings(played)[0])
    check(played, eager, pictures(items=6))
    gc.collect()
    assert gone() is None


def test_recordings_and_the_model_go_with_the_method() -> None:
    module = built()
    method = vv.CLRP(module, execution="graph", foil=[2, 3])
    method.attribute(pictures(), 1)
    gone = [weakref.ref(one) for one in (method, module, *recordings(method))]
    assert len(gone) == 3
    del method, module
    gc.collect()
    assert [one() for one in gone] == [None] * 3


def test_a_map_is_not_overwritten_by_the_next() -> None:
    played, eager = both("clrp", built())
    first = played.attribute(pictures(), 1)
    each = played.attribute_each(pictures(), [0, 1])
    for seed in (2, 3):
        played.attribute(pictures(seed), 2)
        played.attribute_each(pictures(seed), [2, 3])
    assert_equal(first, eager.attribute(pictures(), 1))
    assert_equal(each, eager.attribute_each(pictures(), [0, 1]))


def test_threads_that_share_a_method_get_their_own_maps() -> None:
    played, eager = both("clrp", built())
    asked = [(pictures(seed, items=1 + seed % 2), seed % 4) for seed in range(8)]
    expected = [eager.attribute(*one) for one in asked]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            assert_equal(list(pool.map(lambda one: played.attribute(*one), asked)), expected)
    assert len(recordings(played)) == 2


def sent(method: Any) -> Any:
    return pickle.loads(pickle.dumps(method))  # noqa: S301


@pytest.mark.parametrize("copied", [slow(copy.deepcopy), slow(copy.copy), sent])
def test_copies_of_a_method_give_the_same_maps(copied: Callable[[Any], Any]) -> None:
    played, eager = both("clrp", built(), foil=[2, 3])
    played.attribute(pictures(), 1)
    other = copied(played)
    assert other.execution.kind == "graph"
    assert recordings(other) == (recordings(played) if copied is copy.copy else [])
    check(other, eager, pictures(2), [0, 1])
    other.foil = eager.foil = [3]
    check(other, eager, pictures(2), [0, 1])
    eager.foil = [2, 3]
    check(played, eager, pictures(2), [0, 1])
    assert sent(Execution("compiled")).kind == "compiled"


# -- compiled ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clrp", "lrp"])
@pytest.mark.parametrize(("dtype", "apart"), [(DOUBLE, 1e-9), (torch.float32, 1e-5)], ids=str)
def test_compiled_maps_are_the_eager_ones_but_for_rounding(name: str, dtype: torch.dtype, apart: float) -> None:
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.ones(3))
    except RuntimeError as error:
        pytest.skip(f"TorchInductor cannot compile here: {str(error).splitlines()[0]}")
    module = drawn(Dilated()).to(dtype)
    compiled, eager = (vv.method(name)(module, execution=kind) for kind in ("compiled", "eager"))
    compiled.attribute(pictures().to(dtype), 1)
    for seed, target in ((2, [2, 0]), (3, torch.tensor([3, 3]))):
        x = pictures(seed).to(dtype)
        expected = eager.attribute(x, target)
        assert expected.abs().sum() > 0
        assert (compiled.attribute(x, target) - expected).norm() <= apart * expected.norm()
    stepped(module)
    expected = eager.attribute(x, 1)
    assert (compiled.attribute(x, 1) - expected).norm() <= apart * expected.norm()
    with pytest.raises(vv.ModelError, match="by execution='compiled': a position is given"):
        compiled.attribute(x, 1, position=0)
    torch.compiler.reset()


def test_a_device_that_does_not_hold_a_recording_computes_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def recorded(self: Execution, *given: Any) -> Any:
        tries.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Execution, "_recorded", recorded)
    method = vv.CLRP(nn.Sequential(nn.Linear(3, 4)).double())
    x = torch.rand(2, 3, dtype=torch.float64)
    with pytest.raises(torch.OutOfMemoryError):
        Execution("graph").play(method, x, [1], None, None)
    # As on a GPU: there alone it is chosen by itself.
    auto = Execution("auto")
    monkeypatch.setattr(execution, "_few_on_gpu", lambda images: True)
    assert [auto.play(method, x, [1], None, None) for _ in range(3)] == [None] * 3
    assert auto.reasons == ["the device's memory does not hold a recording"]
    assert len(tries) == 2


class Configured(nn.Module):
    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3, 4)
        self.options, self.steps, self.config = (
            {"factor": 1.0},
            [1.0],
            SimpleNamespace(inner=SimpleNamespace(factor=1.0)),
        )
        self.shift = torch.zeros(4, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        size = self.options["factor"] * self.steps[0] * self.config.inner.factor
        result: Tensor = self.head(x) * size + self.shift
        return result


def shifted(module: Configured) -> None:
    module.shift.data = torch.ones(4, dtype=DOUBLE)


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.options.update(factor=3.0),
        lambda module: module.steps.__setitem__(0, 3.0),
        lambda module: setattr(module.config.inner, "factor", 3.0),
        shifted,
    ],
    ids=["dictionary", "list", "nested", "plain tensor"],
)
def test_what_changes_within_an_attribute_is_followed(change: Callable[[Configured], Any]) -> None:
    module = Configured().double()
    x = torch.rand(2, 3, dtype=DOUBLE)
    method = vv.LRP(module, rules="zero", execution="graph")
    before = method.attribute(x, 1)
    change(module)
    after = method.attribute(x, 1)
    assert torch.equal(after, vv.LRP(module, rules="zero").attribute(x, 1))
    assert not torch.equal(before, after)


def test_another_model_or_other_bounds_of_a_classifier_are_followed() -> None:
    first, second = (drawn(nn.Sequential(nn.Flatten(), nn.Linear(192, 4))) for _ in range(2))
    with torch.no_grad():
        second[1].weight.neg_()
    classifier = vv.Classifier(first, bounds=(-9.0, 9.0))
    x = pictures()
    method = vv.CLRP(classifier, execution="graph", signed=True)
    method.attribute(x, 1)
    classifier.module = second
    found = method.attribute(x, 1)
    assert torch.equal(found, vv.CLRP(classifier, signed=True).attribute(x, 1))
    assert classifier.bounds is not None
    for played in (method, vv.CLRP(classifier, signed=True)):
        classifier.bounds[1].fill_(9.0)
        narrow = played.attribute(x, 1)
        classifier.bounds[1].fill_(30.0)
        wide = played.attribute(x, 1)
        assert torch.equal(wide, vv.CLRP(vv.Classifier(second, bounds=(-9.0, 30.0)), signed=True).attribute(x, 1))
        assert not torch.equal(narrow, wide)


def test_hooks_of_all_models_are_refused_and_noticed() -> None:
    module, x = drawn(nn.Sequential(nn.Flatten(), nn.Linear(192, 4))), pictures()
    method = vv.LRP(module, rules="zero", execution="graph")
    method.attribute(x, 1)
    handle = nn.modules.module.register_module_forward_hook(lambda m, i, o: o)
    try:
        with pytest.raises(vv.ModelError, match="all models have hooks"):
            method.attribute(x, 1)
    finally:
        handle.remove()
    method.attribute(x, 1)


def test_explain_makes_several_maps_as_the_model_runs_and_says_so() -> None:
    classifier = vv.Classifier(drawn(nn.Sequential(nn.Flatten(), nn.Linear(192, 4))), bounds=(-9.0, 9.0))
    vv.explain(classifier, pictures(), execution="eager")
    with pytest.raises(vv.InputError, match="execution='graph' means nothing"):
        vv.explain(classifier, pictures(), execution="graph")

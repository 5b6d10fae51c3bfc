"""Every method of the registry keeps what all methods promise."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import visavis as vv
from visavis import contrast
from visavis.methods import Method, PropagationMethod, base, clrp, gradients, lrp, peers, register_method

DOUBLE = torch.float64
LABELS = ["zebra", "African elephant", "tabby cat", "espresso", "plane"]


def network(dtype: torch.dtype = DOUBLE) -> nn.Module:
    torch.manual_seed(4)
    return (
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(24, 5),
        )
        .to(dtype)
        .eval()
    )


def pictures(dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(9), dtype=dtype).clamp(-2, 2)


#: Quick, and on the one size that `network` takes.
QUICK: dict[str, dict[str, Any]] = {
    "integrated-gradients": {"steps": 4},
    "smoothgrad": {"samples": 4},
    "clrp-scales": {"scales": (1,)},
}


def build(name: str, module: Any, **options: Any) -> Any:
    return vv.method(name)(module, **QUICK.get(name, {}), **options)


def classifier(dtype: torch.dtype = DOUBLE) -> vv.Classifier:
    return vv.Classifier(network(dtype), labels=LABELS, bounds=(-2.0, 2.0))


every_method = pytest.mark.parametrize("name", list(vv.methods()))
every_propagation = pytest.mark.parametrize(
    "name", [name for name in vv.methods() if issubclass(vv.method(name), PropagationMethod)]
)


def test_the_registry_holds_what_the_package_exports() -> None:
    exported = [value for value in vars(vv).values() if isinstance(value, type) and issubclass(value, Method)]
    assert {cls.name for cls in exported} == set(vv.methods())
    assert next(iter(vv.methods())) == "clrp"


@every_method
def test_every_method_is_described(name: str) -> None:
    cls = vv.method(name)
    assert cls.name == name
    assert vv.methods()[name].startswith(f"{cls.title}: ")
    assert len(vv.methods()[name]) > len(cls.title) + 20
    assert "\n" not in vv.methods()[name]


def test_unknown_and_duplicate_names_are_refused() -> None:
    with pytest.raises(vv.InputError, match=r"no method is called 'clpr'; did you mean 'clrp'\? there are clrp, "):
        vv.method("clpr")
    with pytest.raises(vv.InputError, match="a method named 'lrp' is registered already"):
        register_method(type("Again", (vv.LRP,), {"name": "lrp"}))
    assert vv.method("lrp") is vv.LRP


def test_a_method_of_one_s_own_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_METHODS", dict(base._METHODS))

    class Own(vv.LRP):
        """What I make of it.

        More of it.
        """

        name = "own"
        title = "Own"

    assert register_method(Own) is Own
    assert vv.methods()["own"] == "Own: What I make of it."
    assert vv.method("own") is Own


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
@pytest.mark.parametrize("labelled", [False, True], ids=["module", "classifier"])
def test_results_have_the_inputs_shape_type_and_device(name: str, dtype: torch.dtype, labelled: bool) -> None:
    module, x = classifier(dtype) if labelled else network(dtype), pictures(dtype)
    result = build(name, module).attribute(x, 1)
    assert result.shape == x.shape
    assert result.dtype == dtype
    assert result.device == x.device
    assert not result.requires_grad
    assert result.isfinite().all()
    assert (result != 0).flatten(1).any(1).all()
    if name in ("clrp", "clrp-gamma", "clrp-scales", "deep-taylor", "grad-cam"):
        assert (result >= -1e-12).all()


@every_method
def test_different_targets_give_different_maps(name: str) -> None:
    method, x = build(name, network()), pictures()
    maps = [method.attribute(x, target) for target in range(5)]
    for index in range(5):
        for other in range(index):
            assert not torch.allclose(maps[index], maps[other], rtol=1e-3, atol=1e-9)


@every_method
def test_targets_are_an_index_a_sequence_a_tensor_or_none(name: str) -> None:
    method, x, module = build(name, network()), pictures(), network()
    assert torch.equal(method.attribute(x, torch.tensor([1, 2, 3])), method.attribute(x, (1, 2, 3)))
    assert torch.equal(method.attribute(x, [2, 2, 2]), method.attribute(x, 2))
    assert torch.equal(method.attribute(x), method.attribute(x, module(x).argmax(1)))


@every_method
def test_an_image_s_map_does_not_depend_on_the_rest_of_its_batch(name: str) -> None:
    method, x = build(name, network()), pictures()
    one_by_one = torch.cat([method.attribute(x[i : i + 1], i + 1) for i in range(3)])
    torch.testing.assert_close(method.attribute(x, [1, 2, 3]), one_by_one, rtol=1e-10, atol=1e-14)


@every_method
def test_targets_are_labels_where_there_are_labels(name: str) -> None:
    x = pictures()
    method = build(name, classifier())
    assert torch.equal(method.attribute(x, "african elephant"), method.attribute(x, 1))
    assert torch.equal(method.attribute(x, ["zebra", 3, "tabby cat"]), method.attribute(x, [0, 3, 2]))
    with pytest.raises(vv.InputError, match="zebru"):
        method.attribute(x, "zebru")
    with pytest.raises(vv.InputError, match="no class names"):
        build(name, network()).attribute(x, "zebra")


@every_method
@pytest.mark.parametrize("target", [5, -1, [0, 1], [0, 1, 2, 3], True, []], ids=str)
def test_malformed_targets_are_refused(name: str, target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Method, "target_of", inspect.unwrap(Method.target_of))
    for place in (contrast, clrp, gradients, lrp, peers):
        for function in ("target_seed", "target_indices", "_one_hot", "_within", "_integers"):
            if hasattr(place, function):
                monkeypatch.setattr(place, function, inspect.unwrap(getattr(place, function)))
    with pytest.raises(vv.InputError, match="target"):
        build(name, network()).attribute(pictures(), target)


@every_method
def test_the_same_call_gives_the_same_bits(name: str) -> None:
    method, x = build(name, network()), pictures()
    first = method.attribute(x, [1, 2, 3])
    torch.rand(7)
    assert torch.equal(method.attribute(x, [1, 2, 3]), first)
    assert torch.equal(build(name, network()).attribute(x, [1, 2, 3]), first)


@every_method
def test_the_model_the_input_and_the_random_state_are_untouched(name: str) -> None:
    module, x = network(), pictures()
    module[4].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    versions = {key: value._version for key, value in module.state_dict().items()}
    kept, state = x.clone(), torch.get_rng_state()
    for target in (1, None):
        build(name, module).attribute(x, target)
    with pytest.raises(vv.InputError):
        build(name, module).attribute(x, 99)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, kept)
    assert not x.requires_grad
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
        assert value._version == versions[key]
    assert [p.requires_grad for p in module.parameters()] == [True] * 4 + [False] + [True] * 3
    assert all(p.grad is None for p in module.parameters())
    for part in module.modules():
        assert not part.training
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert not part._backward_hooks


@every_method
def test_gradient_modes_are_no_matter(name: str) -> None:
    module, x = network(), pictures()
    expected = build(name, module).attribute(x, 1)
    with torch.no_grad():
        assert torch.equal(build(name, module).attribute(x, 1), expected)
    with torch.inference_mode():
        assert torch.equal(build(name, module).attribute(x.clone(), 1), expected)
    leaf = x.clone().requires_grad_()
    assert torch.equal(build(name, module).attribute(leaf, 1), expected)
    assert leaf.grad is None
    assert torch.equal(build(name, network().requires_grad_(False)).attribute(x, 1), expected)


@every_method
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x.long(), "inputs are a floating-point tensor"),
        (lambda x: x[:, 0, 0, 0], r"inputs have shape \(3,\)"),
        (lambda x: x[:0], r"inputs have shape \(0, 3, 8, 8\)"),
        (lambda x: x.index_fill(2, torch.tensor([1]), torch.nan), "inputs hold 72 values that are NaN or infinite"),
        (lambda x: x.index_fill(0, torch.tensor([1]), torch.inf), "inputs hold 192 values"),
        (lambda x: x.float(), r"inputs are torch.float32, the model is torch.float64; convert one"),
        (lambda x: x[:, :2], r"inputs \(.*\) have 2 channels, the bounds are for 3"),
    ],
    ids=["integer", "shape", "empty", "nan", "infinite", "dtype", "channels"],
)
def test_malformed_inputs_are_refused(name: str, spoil: Any, message: str) -> None:
    three = ([-2.0, -2.0, -2.0], [2.0, 2.0, 2.0])
    with pytest.raises(vv.InputError, match=message):
        build(name, network(), bounds=three).attribute(spoil(pictures()), 1)


@every_method
def test_what_is_no_tensor_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = vv.method(name)
    monkeypatch.setattr(cls, "attribute", inspect.unwrap(cls.attribute))
    monkeypatch.setattr(Method, "checked", inspect.unwrap(Method.checked))
    monkeypatch.setattr(peers._PeerMethod, "_setting", contextmanager(inspect.unwrap(peers._PeerMethod._setting)))
    if issubclass(cls, PropagationMethod):
        monkeypatch.setattr(PropagationMethod, "forward", inspect.unwrap(PropagationMethod.forward))
    with pytest.raises(vv.InputError, match=r"inputs are a floating-point tensor .* not list"):
        build(name, network()).attribute([[1.0]], 1)


@every_propagation
def test_a_callable_target_gives_the_seed(name: str) -> None:
    method, x = build(name, network(), **({"seed": "one"} if hasattr(vv.method(name), "rules") else {})), pictures()
    asked: list[Tensor] = []

    def seed(outputs: Tensor) -> Tensor:
        asked.append(outputs)
        result = torch.zeros_like(outputs)
        result[:, 2] = 1.0 if name not in ("clrp", "clrp-gamma", "lrp", "deep-taylor") else outputs[:, 2].abs()
        return result

    torch.testing.assert_close(method.attribute(x, seed), method.attribute(x, 2), rtol=1e-12, atol=1e-16)
    assert torch.equal(asked[0], network()(x))


@every_propagation
def test_each_of_several_targets_has_the_map_of_a_call_of_its_own(name: str) -> None:
    method, x = build(name, network()), pictures()
    targets = [3, [0, 1, 2], None, torch.tensor([4, 4, 1])]
    found = method.attribute_each(x, targets)
    assert len(found) == 4
    for one, target in zip(found, targets, strict=True):
        torch.testing.assert_close(one, method.attribute(x, target), rtol=1e-12, atol=1e-15)
    assert method.attribute_each(x, []) == []
    labelled = build(name, classifier()).attribute_each(x, iter([LABELS[2], 2]))
    assert torch.equal(labelled[0], labelled[1])


@every_propagation
def test_plans_can_be_printed_before_anything_is_explained(name: str) -> None:
    plan = build(name, network()).plan(pictures())
    assert [call.module for call in plan] == [str(index) for index in range(10)]
    assert len(str(plan).splitlines()) == 12


@pytest.mark.parametrize("name", [name for name in vv.methods() if vv.method(name).conserving])
def test_conserving_methods_keep_the_sum(name: str) -> None:
    """Without biases, and with z⁺, whatever is put on the outputs arrives."""
    module, x = network(), pictures()
    with torch.no_grad():
        for part in module:
            if getattr(part, "bias", None) is not None:
                part.bias.zero_()
        module[9].weight.abs_()
    options: dict[str, Any] = {"rules": "deep-taylor"} if name == "lrp" else {}
    options |= {"signed": True, "foil": 3} if name.startswith("clrp") else {}
    result = build(name, module, bounds=(-2.0, 2.0), **options).attribute(x, 1)
    score = module(x)[:, 1].abs().detach()
    expected = torch.zeros_like(score) if name.startswith("clrp") else score
    torch.testing.assert_close(result.sum((1, 2, 3)), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("option", ["foil", "target"])
def test_labels_of_foils(option: str) -> None:
    x, given = pictures(), classifier()
    if option == "foil":
        assert torch.equal(
            vv.CLRP(given, foil="espresso").attribute(x, "zebra"),
            vv.CLRP(given.module, foil=3, bounds=(-2.0, 2.0)).attribute(x, 0),
        )
        assert torch.equal(
            vv.CLRP(given, foil=["espresso", "plane"]).attribute(x, 0), vv.CLRP(given, foil=[3, 4]).attribute(x, 0)
        )
        each = [["espresso"], ["plane", 1], ["tabby cat"]]
        assert torch.equal(
            vv.CLRP(given, foil=each).attribute(x, 0), vv.CLRP(given, foil=[[3], [4, 1], [2]]).attribute(x, 0)
        )
    with pytest.raises(vv.InputError, match="giraffe"):
        vv.CLRP(given, foil="giraffe").attribute(x, 0)
    with pytest.raises(vv.InputError, match="no class names"):
        vv.CLRP(network(), foil="giraffe").attribute(x, 0)


@pytest.mark.parametrize("name", ["deconvnet", "guided-backprop"])
def test_a_model_without_relus_is_told(name: str) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.Tanh()).double()
    with pytest.warns(UserWarning, match=r"the model calls no ReLU, so .* is its plain gradient"):
        result = build(name, module).attribute(pictures(), 1)
    assert torch.equal(result, vv.Gradient(module).attribute(pictures(), 1))


def test_deconvnet_and_guided_backprop_by_hand() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(6, 8, dtype=DOUBLE), nn.Linear(8, 3, dtype=DOUBLE)
    module, x = nn.Sequential(first, nn.ReLU(), second), torch.randn(2, 6, dtype=DOUBLE)
    at_hidden = second.weight[1].detach().expand(2, 8)
    fired = first(x) > 0
    guided = (at_hidden.clamp(min=0) * fired) @ first.weight
    deconvolved = at_hidden.clamp(min=0) @ first.weight
    torch.testing.assert_close(vv.GuidedBackprop(module).attribute(x, 1), guided.detach())
    torch.testing.assert_close(vv.DeConvNet(module).attribute(x, 1), deconvolved.detach())
    gradient = (at_hidden * fired) @ first.weight
    torch.testing.assert_close(vv.Gradient(module).attribute(x, 1), gradient.detach())
    torch.testing.assert_close(vv.InputXGradient(module).attribute(x, 1), (x * gradient).detach())

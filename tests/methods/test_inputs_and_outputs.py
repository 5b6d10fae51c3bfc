"""Several inputs, signals and video, chosen outputs, regions, and the units of layers of tokens."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

import visavis as vv
from oracles import dense
from visavis.methods.base import PropagationMethod

DOUBLE = torch.float64
PROPAGATING = [name for name in vv.methods() if issubclass(vv.method(name), PropagationMethod)]
PEERS = ["integrated-gradients", "smoothgrad"]


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def assert_same(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-13)
    for one in expected if isinstance(expected, tuple) else (expected,):
        assert one.abs().sum() > 0


def gradients(score: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(score.sum(), inputs)


def leaves(*inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(one.clone().requires_grad_() for one in inputs)


# -- several inputs --------------------------------------------------------------------------------------------------


class Beside(nn.Module):
    """A picture and a vector, each through a layer of its own, then one head for both."""

    def __init__(self, *, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.eye, self.ear = nn.Conv2d(3, 4, 3, bias=bias), nn.Linear(6, 5, bias=bias)
        self.head = nn.Linear(4 * 16 + 5, 4, bias=bias)
        self.double().eval()

    def forward(self, picture: Tensor, vector: Tensor, scale: Any = 1.0, other: Any = 0.0) -> Tensor:
        seen, heard = self.eye(picture).relu().flatten(1), self.ear(vector).relu()
        result: Tensor = self.head(torch.cat([seen, heard], 1)) * scale + other
        return result


def both() -> tuple[Tensor, Tensor]:
    return noise(2, 3, 6, 6).clamp(-2, 2), noise(2, 6, seed=3)


def test_input_times_gradient_of_every_input() -> None:
    module, inputs = Beside(), both()
    x, v = leaves(*inputs)
    expected = tuple(g * one.detach() for g, one in zip(gradients(module(x, v)[:, 2], (x, v)), (x, v), strict=True))
    assert_same(vv.InputXGradient(module).attribute(inputs, 2), expected)
    # LRP-0 puts |score| on the target, not the score.
    sign = module(*inputs).detach()[:, 2].sign()
    signed = tuple(one * sign.view(-1, *(1,) * (one.dim() - 1)) for one in expected)
    for rules in ("zero", "gradient-times-input"):
        assert_same(vv.LRP(module, rules=rules).attribute(inputs, 2), signed)


def test_deep_taylor_of_two_inputs_by_dense_matrices() -> None:
    module, (x, v) = Beside(bias=True), both()
    seen, heard = module.eye(x).relu().flatten(1), module.ear(v).relu()
    logits = module(x, v)
    seed = torch.zeros_like(logits)
    seed[:, 1] = logits[:, 1].abs()
    hidden = dense.propagate(dense.z_plus, module.head, torch.cat([seen, heard], 1), seed.detach())
    of_eye, of_ear = hidden[:, :64].reshape(2, 4, 4, 4), hidden[:, 64:]
    # The bounds are the picture's; of the vector each item's own range is taken.
    expected_x = dense.propagate(dense.z_box, module.eye, x, of_eye, low=-2.0, high=2.0)
    expected_v = torch.cat(
        [
            dense.propagate(dense.z_box, module.ear, one[None], r[None], low=one.min(), high=one.max())
            for one, r in zip(v, of_ear, strict=True)
        ]
    )
    assert_same(vv.LRP(module, bounds=(-2.0, 2.0)).attribute((x, v), 1), (expected_x, expected_v))


def test_sums_are_taken_over_all_inputs() -> None:
    module, inputs = Beside(), both()
    own = vv.LRP(module, rules="zero").attribute(inputs, 1)
    other = vv.LRP(module, rules="zero", seed="one").attribute(inputs, lambda y: F.one_hot(y[:, 0].long() * 0 + 3, 4))
    totals = [one.flatten(1).sum(1) + two.flatten(1).sum(1) for one, two in (own, other)]
    score = module(*inputs).detach()[:, 1].abs()
    torch.testing.assert_close(totals[0], score)
    divided = [
        [part / t.view(-1, *(1,) * (part.dim() - 1)) for part in m] for m, t in zip((own, other), totals, strict=True)
    ]
    expected = tuple(a - b for a, b in zip(*divided, strict=True))
    result = vv.CLRP(module, foil=3, rules="zero", normalize="sum", signed=True).attribute(inputs, 1)
    assert_same(result, expected)
    clamped = vv.CLRP(module, foil=3, rules="zero", normalize="sum").attribute(inputs, 1)
    assert_same(clamped, tuple(one.clamp(min=0) for one in expected))


# Deep Taylor takes the range of each input of its own: see above.
@pytest.mark.parametrize("name", [*(name for name in PROPAGATING if name != "deep-taylor"), *PEERS])
def test_several_inputs_are_explained_as_one_that_holds_them(name: str) -> None:
    module, (x, v) = Beside(), both()

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, joined: Tensor) -> Any:
            return self.module(joined[:, :108].reshape(-1, 3, 6, 6), joined[:, 108:])

    options = {
        "clrp": {"rules": "epsilon-plus", "signed": True},
        "lrp": {"rules": "zero"},
        "integrated-gradients": {"steps": 3},
        "smoothgrad": {"samples": 2, "noise": 0.0},
    }.get(name, {})
    joined = vv.method(name)(Joined(), **options).attribute(torch.cat([x.flatten(1), v], 1), [1, 2])
    parts = vv.method(name)(module, **options).attribute((x, v), [1, 2])
    assert isinstance(parts, tuple)
    assert_same(parts, (joined[:, :108].reshape(x.shape), joined[:, 108:]))


def test_the_result_has_the_structure_of_the_inputs() -> None:
    module, x = nn.Linear(4, 3).double(), noise(2, 4)
    alone = vv.LRP(module).attribute(x, 0)
    (in_tuple,) = vv.LRP(module).attribute((x,), 0)
    assert isinstance(alone, Tensor)
    assert_same(in_tuple, alone)


def test_an_input_that_is_not_used_has_no_relevance() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3, dtype=DOUBLE)

        def forward(self, a: Tensor, b: Tensor) -> Any:
            return self.layer(a)

    inputs, module = (noise(2, 4), noise(2, 5)), First()
    for method in (vv.CLRP, vv.Gradient, vv.InputXGradient):
        first, second = method(module).attribute(inputs, 1)
        assert_same(first, method(module.layer).attribute(inputs[0], 1))
        assert second.shape == (2, 5)
        assert not second.any()


class Scaled(nn.Module):
    """The network with its additional arguments built in."""

    def __init__(self, scale: Any, other: Any) -> None:
        super().__init__()
        self.module, self.scale, self.other = Beside(), scale, other

    def forward(self, picture: Tensor, vector: Tensor) -> Any:
        return self.module(picture, vector, self.scale, self.other)


@pytest.mark.parametrize("name", ["lrp", "gradient", "deconvnet"])
def test_additional_arguments_are_handed_on_and_not_explained(name: str) -> None:
    inputs, method = both(), vv.method(name)
    per_class, per_item = torch.tensor([1.0, 2.0, 5.0, 3.0], dtype=DOUBLE), noise(2, 4, seed=9)
    plain = method(Beside()).attribute(inputs, 2)
    for given, arguments in ((3.0, (3.0, 0.0)), ((per_class, per_item), (per_class, per_item)), (None, (1.0, 0.0))):
        result = method(Beside()).attribute(inputs, 2, additional_forward_args=given)
        assert_same(result, method(Scaled(*arguments)).attribute(inputs, 2))
        assert (given is None) == torch.equal(result[0], plain[0])


def test_additional_arguments_of_the_plan() -> None:
    plan = vv.LRP(Beside()).plan(both(), torch.ones(4, dtype=DOUBLE))
    assert [call.function for call in plan].count("Tensor.mul") == 1


@pytest.mark.parametrize("name", PEERS)
def test_additional_arguments_of_captum_s_methods(name: str) -> None:
    inputs, few = both(), {"steps": 3} if name == "integrated-gradients" else {"samples": 2}
    method, per_item = vv.method(name), torch.tensor([[3.0], [7.0]], dtype=DOUBLE)
    plain = method(Beside(), **few).attribute(inputs, 2)
    result = method(Beside(), **few).attribute(inputs, 2, additional_forward_args=per_item)
    assert_same(result, tuple(one * per_item.view(2, *(1,) * (one.dim() - 1)) for one in plain))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "the tuple of inputs is empty"),
        ((noise(2, 3, 6, 6), torch.ones(2, 6, dtype=torch.long)), "not torch.int64; pass what is not to be explained"),
        ((noise(2, 3, 6, 6), 3.0), "not float; pass what is not to be explained as additional_forward_args"),
        ((noise(2, 3, 6, 6), noise(1, 6)), r"the inputs are for batches of \[2, 1\]"),
        ((noise(2, 3, 6, 6), noise(2, 6).float()), "inputs are torch.float32, the model is torch.float64"),
        ((noise(2, 3, 6, 6), noise(2, 6) / 0), "12 values that are NaN or infinite"),
        ((4 * noise(2, 3, 6, 6), noise(2, 6)), "beyond the bounds"),
    ],
)
def test_malformed_inputs(inputs: Any, message: str) -> None:
    with pytest.raises(vv.InputError, match=message):
        vv.LRP(Beside(), bounds=(-4.0, 4.0)).attribute(inputs, 0)


def test_grad_cam_refuses_several_inputs() -> None:
    with pytest.raises(vv.InputError, match="these are 2; choose another method"):
        vv.GradCAM(Beside()).attribute(both(), 0)


# -- other outputs ---------------------------------------------------------------------------------------------------


class Detector(nn.Module):
    """Answers with a nested dictionary, as detectors and segmentation models do; bias-free."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Conv2d(4, 5, 1, bias=False)
        self.boxes = nn.Linear(4, 6, bias=False)
        self.double().eval()

    def forward(self, x: Tensor) -> dict[str, Any]:
        h = self.first(x).relu()
        scores = self.second(h)
        boxes = self.boxes(h.flatten(2).mean(2)).unflatten(1, (2, 3))
        return {"out": scores, "boxes": boxes, 0: [scores.mean((2, 3))], "words": "none", "ids": scores.argmax(1)}


CHOICES: dict[str, tuple[Any, Callable[[Any], Tensor]]] = {
    "key": ("out", lambda y: y["out"]),
    "mean over positions": (lambda y: y["out"].mean((2, 3)), lambda y: y["out"].mean((2, 3))),
    "an entry of boxes": (lambda y: y["boxes"][:, 1], lambda y: y["boxes"][:, 1]),
    "a scalar an image": (lambda y: y["out"].sum((1, 2, 3)), lambda y: y["out"].sum((1, 2, 3))[:, None]),
    "a difference": (lambda y: y["boxes"][:, 0] - y["boxes"][:, 1], lambda y: y["boxes"][:, 0] - y["boxes"][:, 1]),
}


class Answering(nn.Module):
    """The detector, answering with what an output= chooses."""

    def __init__(self, choose: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.module, self.choose = Detector(), choose

    def forward(self, x: Tensor) -> Tensor:
        return self.choose(self.module(x))


@pytest.mark.parametrize("choice", CHOICES)
def test_lrp_of_a_chosen_output_is_input_times_its_gradient(choice: str) -> None:
    output, by_hand = CHOICES[choice]
    (x,) = leaves(noise(2, 3, 5, 5))
    scores = by_hand(Detector()(x))
    (gradient,) = gradients(scores[:, 0], (x,))
    expected = gradient * x.detach()
    assert_same(vv.InputXGradient(Detector(), output=output).attribute(x.detach(), 0), expected)
    # A seed of the scores themselves, by a callable target: |score| at every position would turn some of them round.
    method = vv.LRP(Detector(), rules="zero", output=output)
    first = F.one_hot(torch.tensor(0), scores.shape[1]).view(1, -1, *(1,) * (scores.dim() - 2))
    assert_same(method.attribute(x.detach(), lambda y: y * first), expected)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", [*PROPAGATING, *PEERS])
def test_a_chosen_output_is_explained_as_of_a_model_that_returns_it(choice: str, name: str) -> None:
    output, by_hand = CHOICES[choice]
    x, method = noise(2, 3, 5, 5), vv.method(name)
    options: dict[str, Any] = {"signed": True, "foil": "negated"} if name.startswith("clrp") else {}
    options |= {"steps": 3} if name == "integrated-gradients" else {"samples": 2} if name == "smoothgrad" else {}
    result = method(Detector(), output=output, **options).attribute(x, 0)
    assert_same(result, method(Answering(by_hand), **options).attribute(x, 0))


@pytest.mark.parametrize("name", PEERS)
def test_without_a_position_all_positions_are_explained(name: str) -> None:
    x, few = noise(2, 3, 5, 5), {"steps": 3} if name == "integrated-gradients" else {"samples": 2}
    summed = vv.method(name)(Detector(), output=lambda y: y["out"].sum((2, 3)), **few).attribute(x, 1)
    assert_same(vv.method(name)(Detector(), **few).attribute(x, 1), summed)


def test_what_the_callable_computes_is_part_of_the_path() -> None:
    x = noise(2, 3, 5, 5)
    method = vv.LRP(Detector(), output=lambda y: y["out"].mean((2, 3)))
    assert next(call for call in reversed(method.plan(x).calls)).operation == "weighted sum"
    with pytest.raises(vv.UnsupportedOperationError, match=r"cumprod`, called in the callable that picks the output"):
        vv.LRP(Detector(), output=lambda y: y["out"].cumprod(1)).attribute(x, 0)


def test_keys_attributes_and_indices() -> None:
    class Wrapped(Detector):
        def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
            super().__init__()
            self.wrap = wrap

        def forward(self, x: Tensor) -> Any:
            return self.wrap(super().forward(x)["out"])

    x = noise(2, 3, 5, 5)
    expected = vv.LRP(Detector()).attribute(x, 1)
    for output, wrap in (
        ("scores", lambda y: SimpleNamespace(scores=y, logits=-y)),
        (1, lambda y: (-y, y)),
        (-1, lambda y: [None, y]),
        (3, lambda y: {3: y, 0: -y}),
        (None, lambda y: {"aux": -y, "out": y}),
    ):
        assert_same(vv.LRP(Wrapped(wrap), output=output).attribute(x, 1), expected)


@pytest.mark.parametrize("name", ["lrp", "integrated-gradients"])
@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("nope", r"output='nope' is no key, attribute or index of what the model returned, a dict with the keys out"),
        (7, "output=7 is no key"),
        ("words", "what output='words' gives is a str, and a tensor"),
        (0, "what output=0 gives is a list of Tensor, and a tensor"),
        (lambda y: 3.0, "what output=<lambda> gives is a float"),
        ("ids", "is of type torch.int64, to which no relevance leads back"),
        (lambda y: y["out"].sum(), r"has shape \(\) for a batch of 2; expected \(B, N, ...\), or \(B,\)"),
        (lambda y: y["out"].sum((0, 2, 3)), r"has shape \(5,\) for a batch of 2"),
    ],
)
def test_outputs_that_cannot_be_explained(name: str, output: Any, message: str) -> None:
    with pytest.raises(vv.InputError, match=message):
        vv.method(name)(Detector(), output=output).attribute(noise(2, 3, 5, 5), 0)


def test_an_output_off_the_path() -> None:
    for output in (lambda y: torch.ones(2, 3), lambda y: y["out"].detach()):
        with pytest.raises(vv.ModelError, match="does not depend on its input along a path"):
            vv.LRP(Detector(), output=output).attribute(noise(2, 3, 5, 5), 0)


def test_a_model_whose_own_output_has_no_batch() -> None:
    class Loss(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum()

    for name in ("lrp", "smoothgrad"):
        with pytest.raises(vv.ModelError, match=r"the model's output has shape \(\) for a batch of 2"):
            vv.method(name)(Loss()).attribute(noise(2, 3), 0)


def test_one_score_an_image_has_no_others() -> None:
    x, output = noise(2, 3, 5, 5), CHOICES["a scalar an image"][0]
    with pytest.raises(vv.InputError, match=r'no other to be the foil .*"negated", or a method without a foil'):
        vv.CLRP(Detector(), output=output).attribute(x, 0)
    assert vv.CLRP(Detector(), output=output, foil="negated").attribute(x, 0).any()
    with pytest.raises(vv.InputError, match="out of range"):
        vv.LRP(Detector(), output=output).attribute(x, 1)


def test_a_part_of_what_a_layer_returns() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.a, self.b = nn.Linear(4, 5), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> tuple[tuple[int, ...], dict[str, Tensor], Tensor]:
            return (1, 2), {"a": self.a(x)}, self.b(x).relu()

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: Tensor) -> Tensor:
            _, rest, b = self.pair(x)
            rest["a"] += 1  # after the layer
            return torch.cat([rest["a"], b], 1)

    whole, x = Whole().double(), noise(2, 4)
    assert_same(vv.LRP(whole, layer="pair").attribute(x, 4), vv.LRP(whole.pair.a).attribute(x, 4))
    cut = vv.LRP(nn.Sequential(whole.pair.b, nn.ReLU()), seed="score")
    for output in (2, lambda y: y[-1], lambda y: y[2] * 1):
        assert_same(vv.LRP(whole, layer="pair", output=output).attribute(x, 2), cut.attribute(x, 2))
    with pytest.raises(vv.InputError, match=r"what output=1 gives is a dict with the keys a"):
        vv.LRP(whole, layer="pair", output=1).attribute(x, 2)


# -- regions of a segmentation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lrp", "clrp", "input-x-gradient"])
def test_a_region_is_the_sum_of_its_positions(name: str) -> None:
    x, method = noise(2, 3, 5, 5), vv.method(name)
    options: dict[str, Any] = {"signed": True} if name == "clrp" else {}
    explainer = method(Detector(), output="out", **options)
    one, two = torch.zeros(2, 5, 5, dtype=torch.bool)
    one[1:3, 2], two[4, 0] = True, True
    at = {place: explainer.attribute(x, 3, position=place) for place in ((1, 2), (2, 2), (4, 0))}
    assert_same(explainer.attribute(x, 3, position=one), at[1, 2] + at[2, 2])
    assert_same(explainer.attribute(x, 3, position=one.numpy()), at[1, 2] + at[2, 2])
    apart = explainer.attribute(x, 3, position=torch.stack([one, two]))
    assert_same(apart, torch.stack([(at[1, 2] + at[2, 2])[0], at[4, 0][1]]))


def test_a_region_by_hand() -> None:
    (x,), mask = leaves(noise(2, 3, 5, 5)), noise(5, 5, seed=8) > 0
    (gradient,) = gradients(Detector()(x)["out"][:, 2][:, mask], (x,))
    result = vv.InputXGradient(Detector()).attribute(x.detach(), 2, position=mask)
    assert_same(result, gradient * x.detach())


@pytest.mark.parametrize(
    ("position", "message"),
    [
        (torch.ones(5, 5), r"is boolean and of shape \(5, 5\) or \(2, 5, 5\), not torch.float32 of shape \(5, 5\)"),
        (torch.ones(4, 5, dtype=torch.bool), r"not torch.bool of shape \(4, 5\)"),
        (torch.ones(3, 5, 5, dtype=torch.bool), r"not torch.bool of shape \(3, 5, 5\)"),
        (torch.zeros(5, 5, dtype=torch.bool), "the mask of positions chooses none"),
        (torch.tensor([True, False])[:, None, None].expand(2, 5, 5), "the mask of positions chooses none"),
    ],
)
def test_malformed_masks(position: Any, message: str) -> None:
    with pytest.raises(vv.InputError, match=message):
        vv.LRP(Detector()).attribute(noise(2, 3, 5, 5), 0, position=position)


# -- signals, vectors, video -----------------------------------------------------------------------------------------


def test_signals_by_dense_matrices() -> None:
    torch.manual_seed(5)
    first, second = nn.Conv1d(2, 4, 3, padding=1, stride=2).double(), nn.Conv1d(4, 3, 3, dilation=2, groups=1).double()
    head = nn.Linear(3 * 2, 5).double()
    module = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), head)
    x = noise(2, 2, 16).clamp(-2, 2)
    a = first(x).relu().detach()
    b = second(a).relu().detach()
    c = F.max_pool1d(b, 2)
    logits = module(x).detach()
    seed = torch.zeros_like(logits)
    seed[[0, 1], [4, 2]] = logits[[0, 1], [4, 2]].abs()
    seed[:, :] -= torch.where(seed == 0, seed.sum(1, keepdim=True) / 4, 0)  # against the others
    r = dense.propagate(dense.z_plus, head, c.flatten(1), seed).view(2, 3, 2)
    r = F.one_hot(b[..., :4].unflatten(2, (2, 2)).argmax(3), 2).mul(r[..., None]).flatten(2)
    r = dense.propagate(dense.z_plus, second, a, r)
    expected = dense.propagate(dense.z_box, first, x, r, low=-2.0, high=2.0)
    assert_same(vv.CLRP(module, bounds=(-2, 2), signed=True).attribute(x, [4, 2]), expected)


def test_vectors_by_dense_matrices() -> None:
    torch.manual_seed(5)
    first, head = nn.Linear(6, 7).double(), nn.Linear(7, 3).double()
    x = noise(2, 6).clamp(-2, 2)
    hidden = first(x).relu().detach()
    logits = head(hidden).detach()
    seed = F.one_hot(torch.tensor([1, 1]), 3) * logits.abs()
    expected = dense.propagate(dense.z_box, first, x, dense.propagate(dense.z_plus, head, hidden, seed), low=-2, high=2)
    assert_same(vv.LRP(nn.Sequential(first, nn.ReLU(), head), bounds=(-2, 2)).attribute(x, 1), expected)


def video() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    module = models.video.VideoResNet(
        models.video.resnet.BasicBlock,
        [models.video.resnet.Conv3DSimple] * 4,
        [1, 1, 1, 1],
        models.video.resnet.BasicStem,
        num_classes=5,
    )
    nn.init.zeros_(module.fc.bias)
    return module.double().eval(), noise(1, 3, 4, 16, 16)


def test_video_is_input_times_gradient_where_nothing_has_a_bias() -> None:
    module, x = video()
    (leaf,) = leaves(x)
    scores = module(leaf)
    (gradient,) = gradients(scores[:, 3], (leaf,))
    expected = gradient * x * scores[0, 3].detach().sign()
    result = vv.LRP(module, rules="zero").attribute(x, 3)
    torch.testing.assert_close(result, expected, rtol=1e-8, atol=1e-12)
    assert result.abs().max() > 1e-3


def test_the_video_contrast_keeps_what_is_put_on_it() -> None:
    module, x = video()
    relevance = vv.CLRP(module, signed=True, rules="epsilon-plus", seed="one").attribute(x, 3)
    assert relevance.shape == x.shape
    assert abs(float(relevance.sum())) < 1e-4  # as much on the others as on the target
    assert relevance.abs().max() > 0


# -- the units of layers of tokens -----------------------------------------------------------------------------------


class Tokens(nn.Module):
    """A bias-free residual network on tokens (B, ..., D), and what reshapes them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.embed, self.mix = nn.Linear(6, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.act, self.drop = nn.ReLU(), nn.Dropout()
        self.sum, self.turned, self.split, self.regrouped = (nn.Identity() for _ in range(4))
        self.pooled, self.joined = nn.Identity(), nn.Identity()
        self.sliced, self.head = nn.Identity(), nn.Linear(8, 3, bias=False)
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        h = self.sum(h + self.drop(self.act(self.mix(h))) * 2)
        self.turned(h.movedim(-1, 1) * 1)
        self.pooled(h.mean(1))
        self.joined(torch.cat([h, h * 2], -1))
        self.split(h.unflatten(-1, (2, 4)))
        self.regrouped(h.transpose(0, 1).reshape(2, -1, 4))
        h = h.roll(1, 1).contiguous()
        self.sliced(h[:, 1:] * 1)
        result: Tensor = self.head(h.flatten(1, -2).mean(1))
        return result


def outputs_of(module: nn.Module, layer: str, x: Tensor) -> Tensor:
    kept: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda part, args, output: kept.append(output))
    module(x)
    handle.remove()
    return kept[0]


@pytest.mark.parametrize("shape", [(2, 5, 6), (2, 3, 4, 6)], ids=["B,T,D", "B,H,W,D"])
@pytest.mark.parametrize("layer", ["embed", "mix", "act", "drop", "sum", "sliced", "pooled", "joined", "turned"])
def test_the_units_of_tokens_are_their_last_dimension(layer: str, shape: tuple[int, ...]) -> None:
    module = Tokens()
    (x,) = leaves(noise(*shape))
    output = outputs_of(module, layer, x)
    units = output if layer == "turned" else output.movedim(-1, 1)
    with vv.LRP(module, rules="zero", layer=layer).forward(x.detach()) as run:
        assert_same(run.output, units.detach())
        (gradient,) = torch.autograd.grad(units.sum(), x, retain_graph=True)
        assert_same(run.relevance(run.output), gradient * x.detach())
    place = (1,) * (units.dim() - 2)
    unit = int(units[(slice(None), slice(None), *place)].sum(0).argmax())  # one that is not dead
    (gradient,) = torch.autograd.grad(units[(slice(None), unit, *place)].sum(), x)
    for name in ("gradient", "lrp"):  # found without rules too
        method = vv.method(name)(module, layer=layer, seed="one") if name == "lrp" else vv.Gradient(module, layer=layer)
        with method.forward(x.detach()) as run:
            assert run.output.shape == units.shape
    result = vv.Gradient(module, layer=layer).attribute(x.detach(), unit, position=place or None)
    assert_same(result, gradient)


def test_a_unit_of_tokens_against_the_others_by_dense_matrices() -> None:
    module, x = Tokens(), noise(2, 5, 6).clamp(-3, 3)
    hidden = module.embed(x).detach()
    units = module.mix(hidden).detach()[:, 3]  # at token 3
    seed = torch.zeros_like(units)
    seed[:, 2] = units[:, 2].abs()
    seed -= torch.where(seed == 0, seed.sum(1, keepdim=True) / 7, 0)
    r = dense.propagate(dense.z_plus, module.mix, hidden[:, 3], seed)
    expected = torch.zeros_like(x)
    expected[:, 3] = dense.propagate(dense.z_box, module.embed, x[:, 3], r, low=-3.0, high=3.0)
    clrp = vv.CLRP(module, layer="mix", bounds=(-3, 3), signed=True)
    assert_same(clrp.attribute(x, 2, position=(3,)), expected)


def test_where_the_units_cannot_be_told_they_are_asked_for() -> None:
    module, x = Tokens(), noise(2, 5, 6)
    with pytest.raises(vv.InputError, match=r"layer 'split' has shape \(2, 5, 2, 4\), in which .* unit_dim=-1"):
        vv.LRP(module, layer="split").attribute(x, 0)
    with pytest.raises(vv.InputError, match=r"layer 'regrouped' has shape \(2, 10, 4\), in which"):
        vv.LRP(module, layer="regrouped").attribute(x, 0)
    output = outputs_of(module, "split", x).detach()
    for dimension in (-1, 1, 2, 3):
        with vv.LRP(module, layer="split", unit_dim=dimension).forward(x) as run:
            assert torch.equal(run.output, output.movedim(dimension, 1))
    for dimension in (0, 4, -4):
        with pytest.raises(vv.InputError, match=f"unit_dim={dimension} is no dimension of units .* from 1 to 3"):
            vv.LRP(module, layer="split", unit_dim=dimension).attribute(x, 0)
    with pytest.raises(vv.InputError, match="unit_dim is the number of a dimension, not True"):
        vv.LRP(module, layer="split", unit_dim=True)


def test_what_a_callable_gives_has_its_units_in_dimension_1() -> None:
    module, x = Tokens(), noise(2, 5, 6)
    with vv.LRP(module, layer="sum", output=lambda h: h).forward(x) as run:
        assert run.output.shape == (2, 5, 8)
    with vv.LRP(module, layer="sum", output=lambda h: h, unit_dim=2).forward(x) as run:
        assert run.output.shape == (2, 8, 5)


def test_tokens_that_a_model_itself_returns() -> None:
    module, x = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double(), noise(2, 5, 6)
    with vv.LRP(module).forward(x) as run:
        assert_same(run.output, module(x).detach().movedim(2, 1))


VISION = {
    "vit": lambda: models.VisionTransformer(32, 8, 2, 2, 16, 36, num_classes=5),
    "swin": lambda: models.SwinTransformer([4, 4], 12, [2, 2], [2, 4], [3, 3], num_classes=5),
    "convnext": lambda: models.ConvNeXt([CNBlockConfig(12, 24, 2), CNBlockConfig(24, None, 1)], num_classes=5),
    "densenet": lambda: models.densenet.DenseNet(4, (2, 2), 8, num_classes=5),
}
LAYERS = [
    *(("vit", f"encoder.layers.encoder_layer_1{part}", 16, 2) for part in ("", ".ln_1", ".mlp", ".self_attention")),
    ("vit", "encoder.layers.encoder_layer_0.mlp.0", 36, 2),
    ("vit", "encoder", 16, 2),
    ("vit", "conv_proj", 16, 1),
    *(("swin", f"features.{part}", 12, 3) for part in ("0", "1.0", "1.1", "1.1.attn", "1.0.mlp", "1.0.norm2")),
    *(("swin", part, 24, 3) for part in ("features.2", "features.3.1", "norm")),
    ("swin", "permute", 24, 1),
    *(("convnext", part, 12, 1) for part in ("features.0", "features.1.0", "features.1.1.block")),
    *(("convnext", f"features.1.0.block.{part}", 12, 3) for part in (1, 2, 5)),
    ("convnext", "features.1.0.block.3", 48, 3),
    ("densenet", "features.denseblock1", 16, 1),
]


@pytest.mark.parametrize(("name", "layer", "count", "dimension"), LAYERS)
def test_the_units_of_transformers_and_convolutional_networks(
    name: str, layer: str, count: int, dimension: int
) -> None:
    torch.manual_seed(0)
    module, x = VISION[name]().double().eval(), noise(2, 3, 32, 32)
    output = outputs_of(module, layer, x)
    output = output[0] if isinstance(output, tuple) else output
    assert output.shape[dimension] == count
    with vv.Gradient(module, layer=layer).forward(x) as run:
        torch.testing.assert_close(run.output, output.detach().movedim(dimension, 1), rtol=1e-10, atol=1e-12)


def test_a_reshape_of_convolved_maps_keeps_dimension_1() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.folded = nn.Conv2d(3, 4, 1).double(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.folded(self.layer(x).unflatten(1, (2, 2)) * 1).sum((2, 3, 4))

    with vv.LRP(Folded(), layer="folded").forward(noise(2, 3, 5, 5)) as run:
        assert run.output.shape == (2, 2, 2, 5, 5)

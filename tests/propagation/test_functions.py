"""Every function of the registry, called through the engine; and the registry itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import visavis as vv
from visavis.propagation import RuleSet, Run, attention, composites, crossings, forward, functions, pooling, weighted
from visavis.propagation.visit import Visit, cross

Function = Callable[..., Any]
DOUBLE = torch.float64


class Case(NamedTuple):
    """How a function of the registry is called: `call(function, x)` on x of this shape."""

    call: Callable[[Function, Tensor], Any]
    shape: tuple[int, ...] = (2, 3, 4)


def plain(*args: Any, shape: tuple[int, ...] = (2, 3, 4), **kwargs: Any) -> Case:
    return Case(lambda f, x: f(x, *args, **kwargs), shape)


def weights(*shape: int) -> Tensor:
    return torch.linspace(0.1, 1.0, torch.Size(shape).numel(), dtype=DOUBLE).view(shape)


def indices(*values: int) -> Tensor:
    return torch.tensor(values)


def written(set_item: Function, x: Tensor) -> Tensor:
    set_item(x, (slice(None), 1), 0.0)
    return x


MASK = torch.arange(24).view(2, 3, 4) % 3 == 0
ORDER = torch.arange(24).view(2, 3, 4).flip(2) % 4
SIGNAL, PICTURE, VOLUME = (1, 2, 6), (1, 2, 4, 4), (1, 1, 4, 4, 4)
GRID = torch.linspace(-1.1, 0.9, 24, dtype=DOUBLE).view(1, 3, 4, 2)
BY_DIMENSIONS = {"1d": SIGNAL, "2d": PICTURE, "3d": VOLUME}


def recurrent(gates: int, *, memory: bool = False) -> Case:
    """One layer of five hidden units, on sequences in the first dimension."""
    shapes = ((5 * gates, 4), (5 * gates, 5), (5 * gates,), (5 * gates,))
    start = torch.zeros(1, 3, 5, dtype=DOUBLE)
    rest = ([weights(*shape) for shape in shapes], True, 1, 0.0, False, False, False)
    return Case(lambda f, x: f(x, (start, start) if memory else start, *rest))


def in_each_dimension(name: str, make: Callable[[int, tuple[int, ...]], Case]) -> dict[str, Case]:
    return {name.format(n): make(int(n[0]), shape) for n, shape in BY_DIMENSIONS.items()}


#: By the name that the engine shows ("F.relu"), else by the bare name ("relu"), which stands for all spellings.
CASES: dict[str, Case] = {
    # weighted
    "linear": plain(weights(5, 4)),
    **in_each_dimension("conv{}", lambda n, shape: plain(weights(4, shape[1], *(2,) * n), shape=shape)),
    **in_each_dimension("conv_transpose{}", lambda n, shape: plain(weights(shape[1], 4, *(2,) * n), shape=shape)),
    "matmul": plain(weights(4, 5)),
    "__matmul__": plain(weights(4, 5)),
    "linalg_matmul": plain(weights(4, 5)),
    "mm": plain(weights(4, 5), shape=(3, 4)),
    "bmm": plain(weights(2, 4, 5)),
    "mv": plain(weights(4), shape=(3, 4)),
    "dot": plain(weights(4), shape=(4,)),
    "inner": plain(weights(5, 4)),
    "outer": plain(weights(5), shape=(4,)),
    "tensordot": plain(weights(4, 5), 1),
    "einsum": Case(lambda f, x: f("bij,jk->bik", x, weights(4, 5))),
    "baddbmm": Case(lambda f, x: f(torch.zeros(2, 3, 5, dtype=x.dtype), x, weights(2, 4, 5))),
    "addmm": Case(lambda f, x: f(torch.zeros(5, dtype=x.dtype), x, weights(4, 5)), (3, 4)),
    "Tensor.addmm": Case(lambda f, x: f(torch.zeros(5, dtype=x.dtype), x, weights(4, 5)), (3, 4)),
    "F.batch_norm": plain(weights(3), weights(3)),
    "torch.batch_norm": plain(weights(3), weights(3), weights(3), weights(3), False, 0.1, 1e-5, False),
    # normalisation and attention
    "layer_norm": plain((4,)),
    "rms_norm": plain((4,)),
    "group_norm": plain(3),
    "F.instance_norm": plain(),
    "torch.instance_norm": plain(None, None, None, None, True, 0.1, 1e-5, False),
    "local_response_norm": plain(2),
    "normalize": plain(),
    **{name: plain(2, 1) for name in ("norm", "linalg_norm", "linalg_vector_norm")},
    **{name: plain(1) for name in ("std", "var")},
    "scaled_dot_product_attention": Case(lambda f, x: f(x, x, x)),
    "lstm": recurrent(4, memory=True),
    "gru": recurrent(3),
    "rnn_tanh": recurrent(1),
    "rnn_relu": recurrent(1),
    # several functions in one
    **{name: Case(lambda f, x: f(x, x, x.flip(2), value=0.5)) for name in ("addcmul", "addcdiv")},
    "lerp": Case(lambda f, x: f(x, x.flip(2), 0.25)),
    "cosine_similarity": Case(lambda f, x: f(x, x.flip(2))),
    "affine_grid_generator": plain([2, 1, 3, 3], False, shape=(2, 2, 3)),
    # what is written in place is run out of place
    "Tensor.copy_": Case(lambda f, x: torch.zeros_like(x).copy_(x)),
    "Tensor.fill_": Case(lambda f, x: torch.zeros_like(x).fill_(x[0, 0, 3])),
    # sums and products
    **{
        name: Case(lambda f, x: f(x, x))
        for name in ["add", "__add__", "__radd__", "sub", "__sub__", "__rsub__", "subtract", "rsub"]
    },
    **{
        name: plain(2.0)
        for name in [
            "mul",
            "__mul__",
            "__rmul__",
            "multiply",
            "div",
            "__div__",
            "divide",
            "true_divide",
            "__truediv__",
            "__rdiv__",
        ]
    },
    "glu": plain(),
    # activations
    **{
        name: plain()
        for name in [
            "elu",
            "selu",
            "celu",
            "gelu",
            "silu",
            "mish",
            "leaky_relu",
            "rrelu",
            "hardswish",
            "tanh",
            "softsign",
            "tanhshrink",
            "hardshrink",
            "softshrink",
            "log_sigmoid",
            "neg",
            "negative",
            "erf",
            "special_erf",
            "atan",
            "nan_to_num",
            "relu",
            "relu6",
            "softplus",
            "abs",
            "absolute",
            "square",
            "sqrt",
            "sigmoid",
            "hardsigmoid",
            "special_expit",
            "exp",
            "reciprocal",
            "rsqrt",
            "log",
            "log1p",
            "special_log1p",
            "expm1",
            "special_expm1",
            "sin",
            "cos",
        ]
    },
    **{name: plain(dim=1) for name in ["log_softmax", "softmax"]},
    **{name: plain(1) for name in ("special_log_softmax", "special_softmax")},
    "torch._C._nn.log_sigmoid": plain(),
    "prelu": plain(weights(1)),
    "threshold": plain(0.5, -0.25),
    "_threshold": plain(0.5, -0.25),
    "clamp": plain(-0.5, 0.5),
    "clip": plain(-0.5, 0.5),
    "clamp_min": plain(-0.5),
    "clamp_max": plain(0.5),
    "hardtanh": plain(),
    "pow": plain(3),
    "dropout": plain(0.5, False),
    "F.dropout1d": plain(0.5, True, shape=SIGNAL),
    "F.dropout2d": plain(0.5, True, shape=PICTURE),
    "F.dropout3d": plain(0.5, True, shape=VOLUME),
    "F.dropout": plain(0.5, True),
    "alpha_dropout": plain(0.5, True),
    "feature_alpha_dropout": plain(0.5, True),
    "feature_dropout": plain(0.5, True),
    # fixed weighted sums
    **in_each_dimension("avg_pool{}", lambda n, shape: plain(2, shape=shape)),
    **in_each_dimension("lp_pool{}", lambda n, shape: plain(2.0, 2, shape=shape)),
    **in_each_dimension("adaptive_avg_pool{}", lambda n, shape: plain((3,) * n, shape=shape)),
    "mean": plain((1, 2)),
    "sum": plain(1),
    "interpolate": plain(None, 2.0, "bilinear", False, shape=PICTURE),
    "upsample": plain(None, 2, shape=PICTURE),
    "upsample_nearest": plain(None, 2, shape=PICTURE),
    "upsample_bilinear": plain(None, 2, shape=PICTURE),
    "fold": plain((4, 4), (2, 2), shape=(1, 4, 9)),
    "cumsum": plain(1),
    "grid_sample": plain(GRID, align_corners=False, shape=PICTURE),
    # maxima
    **in_each_dimension("max_pool{}", lambda n, shape: plain((2,) * n, (2,) * n, shape=shape)),
    **in_each_dimension("max_pool{}_with_indices", lambda n, shape: plain((2,) * n, (2,) * n, shape=shape)),
    **in_each_dimension("adaptive_max_pool{}", lambda n, shape: plain((3,) * n, shape=shape)),
    **in_each_dimension("adaptive_max_pool{}_with_indices", lambda n, shape: plain((3,) * n, shape=shape)),
    **{name: plain(1) for name in ("max", "min", "amax", "amin")},
    **{name: Case(lambda f, x: f(x, x.flip(2))) for name in ("maximum", "minimum", "fmax", "fmin")},
    "sort": plain(1),
    "topk": plain(2, 1),
    "kthvalue": plain(2, 1),
    "median": plain(1),
    **{name: plain(1) for name in ("logsumexp", "special_logsumexp")},
    "F.fractional_max_pool2d": plain(2, (3, 3), shape=PICTURE),
    "F.fractional_max_pool3d": plain(2, (2, 2, 2), shape=VOLUME),
    "fractional_max_pool2d": plain((2, 2), (3, 3), torch.full((1, 2, 2), 0.3, dtype=DOUBLE), shape=PICTURE),
    "fractional_max_pool3d": plain((2,) * 3, (2,) * 3, torch.full((1, 1, 3), 0.3, dtype=DOUBLE), shape=VOLUME),
    "fractional_max_pool2d_with_indices": plain(2, (3, 3), shape=PICTURE),
    "fractional_max_pool3d_with_indices": plain(2, (2, 2, 2), shape=VOLUME),
    # routing
    "reshape": plain((6, 4)),
    "view": plain((6, 4)),
    "view_as": Case(lambda f, x: f(x, torch.empty(6, 4))),
    "reshape_as": Case(lambda f, x: f(x, torch.empty(6, 4))),
    "flatten": plain(1),
    "unflatten": plain(2, (2, 2)),
    "permute": plain((2, 0, 1)),
    **{name: plain(1, 2) for name in ("transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "expand")},
    "expand": plain(5, 2, 3, 4),
    "expand_as": Case(lambda f, x: f(x, torch.empty(5, 2, 3, 4))),
    "broadcast_to": plain((5, 2, 3, 4)),
    "broadcast_tensors": Case(lambda f, x: f(x, x[:1])),
    "repeat": plain(1, 2, 1),
    "tile": plain((1, 2, 1)),
    "repeat_interleave": plain(2, 1),
    **{
        name: plain()
        for name in ["ravel", "contiguous", "clone", "positive", "squeeze", "fliplr", "flipud", "rot90", "tril", "triu"]
    },
    "unsqueeze": plain(1),
    "t": plain(shape=(3, 4)),
    **{name: plain(2, 2) for name in ("chunk", "split", "tensor_split")},
    "split_with_sizes": plain([1, 2], 1),
    **{name: plain(2) for name in ("hsplit", "vsplit", "dsplit")},
    "hsplit": plain(3),
    "unbind": plain(1),
    "narrow": plain(2, 1, 2),
    "select": plain(2, 1),
    "__getitem__": plain((slice(None), indices(2, 0, 2), None, slice(1, 3))),
    "index_select": plain(1, indices(2, 0, 2)),
    "gather": plain(2, ORDER),
    "take_along_dim": plain(ORDER, 2),
    **{
        name: Case(lambda f, x: f([x, x[:, :, :]]))
        for name in ["cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "row_stack"]
    },
    "column_stack": Case(lambda f, x: f([x, x]), (3, 4)),
    "roll": plain(1, 2),
    "flip": plain((0, 2)),
    "pixel_shuffle": plain(2, shape=(2, 4, 3, 3)),
    "pixel_unshuffle": plain(2, shape=(2, 1, 4, 4)),
    "channel_shuffle": plain(2, shape=(2, 4, 3, 3)),
    "diagonal": plain(0, 1, 2),
    "linalg_diagonal": plain(),
    "F.max_unpool1d": plain(indices(0, 3, 5).view(1, 1, 3), 2, shape=(1, 1, 3)),
    "F.max_unpool2d": plain(indices(0, 3, 8, 15).view(1, 1, 2, 2), 2, shape=(1, 1, 2, 2)),
    "max_unpool2d": plain(indices(0, 3, 8, 15).view(1, 1, 2, 2), (4, 4), shape=(1, 1, 2, 2)),
    "F.max_unpool3d": plain(indices(0, 63).view(1, 1, 1, 1, 2), (4, 4, 2), shape=(1, 1, 1, 1, 2)),
    "max_unpool3d": plain(indices(0, 63).view(1, 1, 1, 1, 2), (4, 4, 4), (4, 4, 2), (0, 0, 0), shape=(1, 1, 1, 1, 2)),
    "F.unfold": plain((2, 2), padding=1, shape=(2, 2, 4, 4)),
    "Tensor.unfold": plain(2, 2, 1),
    **{
        name: plain()
        for name in ["atleast_1d", "atleast_2d", "atleast_3d", "float", "double", "half", "bfloat16", "cpu"]
    },
    "__float__": plain(shape=(1, 1)),
    "to": plain(torch.float32),
    "type": plain(torch.float32),
    "type_as": Case(lambda f, x: f(x, torch.empty(0, dtype=torch.float32))),
    "Tensor.T": plain(shape=(3, 4)),
    "Tensor.mT": plain(),
    "Tensor.H": plain(shape=(3, 4)),
    "Tensor.mH": plain(),
    "Tensor.real": plain(),
    # constants put in; zero, so that the table of indices below knows them
    "masked_fill": plain(MASK, 0.0),
    "torch.where": Case(lambda f, x: f(MASK, x, 0.0)),
    "Tensor.where": plain(MASK, 0.0),
    "masked_scatter": plain(MASK, torch.zeros(24, dtype=DOUBLE)),
    "index_put": plain((indices(0), indices(1)), torch.zeros(4, dtype=DOUBLE)),
    "index_copy": plain(1, indices(1), torch.zeros(2, 1, 4, dtype=DOUBLE)),
    "index_fill": plain(1, indices(1), 0.0),
    "scatter": plain(1, torch.ones(2, 1, 4, dtype=torch.long), 0.0),
    "__setitem__": Case(lambda f, x: written(f, x.clone())),
    "pad": plain((1, 2), "constant"),
    "F.pad": plain((1, 2), "replicate"),
    "constant_pad_nd": plain((1, 2), 0.0),
    # off the path
    **{
        name: plain()
        for name in ["zeros_like", "ones_like", "empty_like", "rand_like", "randn_like", "sign", "sgn", "floor", "ceil"]
    },
    **{name: plain() for name in ["round", "special_round", "detach"]},
    "full_like": plain(2.0),
    **{name: plain((2, 2)) for name in ("new_zeros", "new_ones", "new_empty")},
    "new_full": plain((2, 2), 3.0),
    "new_tensor": plain([1.0, 2.0]),
    "heaviside": Case(lambda f, x: f(x, torch.ones((), dtype=x.dtype))),
    "Tensor.data": plain(),
}

#: Tensors made of the pictured memory, which holds whatever was there.
UNINITIALISED = ("empty_like", "new_empty")
DEFINED_ABOVE_ZERO = ("sqrt", "rsqrt", "log")
NEEDS_ACCELERATOR = ("cuda",)
pytestmark = [
    pytest.mark.filterwarnings("ignore:`nn.functional.upsample"),
    pytest.mark.filterwarnings("ignore:dropout1d:UserWarning"),
    pytest.mark.filterwarnings("ignore:Named tensors and all their associated APIs:UserWarning"),
]


def case_of(function: Function) -> Case | None:
    shown = functions.name_of(function)
    return CASES.get(shown, CASES.get(getattr(function, "__name__", "")))


class Calling(nn.Module):
    """Calls one function on the input, or on its absolute value."""

    def __init__(self, function: Function, *, after: Function | None = None) -> None:
        super().__init__()
        self.function, self.case, self.after = function, case_of(function), after

    def forward(self, x: Tensor) -> Any:
        assert self.case is not None
        return self.case.call(self.function, x if self.after is None else self.after(x))


def first(returned: Any) -> Tensor:
    return returned if isinstance(returned, Tensor) else returned[0]


def inputs_for(function: Function, *, positive: bool = False) -> Tensor:
    """Values that all differ, of both signs or positive."""
    case = case_of(function)
    assert case is not None
    size = torch.Size(case.shape).numel()
    values = (torch.randperm(size) + 1).to(DOUBLE) / size
    values = values if positive or getattr(function, "__name__", "") in DEFINED_ABOVE_ZERO else values - 0.55
    return values.view(case.shape)


def relevance(function: Function, x: Tensor) -> tuple[Tensor, Tensor, Run]:
    """Return the relevance of x, the seed, and the run."""
    with forward(Calling(function), x, RuleSet(), pick=first) as run:
        seed = torch.rand_like(run.output) + 0.5
        return run.relevance(seed), seed, run


def registered(*crossing: Function) -> list[Any]:
    entries = [(function, of) for function, of in functions._CROSSINGS.items() if not crossing or of in crossing]
    return [
        pytest.param(function, id=f"{functions.name_of(function)}-{index}")
        for index, (function, _) in enumerate(entries)
        if getattr(function, "__name__", "") not in NEEDS_ACCELERATOR and case_of(function) is not None
    ]


def test_every_function_of_the_registry_has_a_case() -> None:
    missing = [
        functions.name_of(function)
        for function in functions._CROSSINGS
        if case_of(function) is None and getattr(function, "__name__", "") not in NEEDS_ACCELERATOR
    ]
    assert not missing


def test_no_case_is_left_over() -> None:
    used = {functions.name_of(f) for f in functions._CROSSINGS} | {
        getattr(f, "__name__", "") for f in functions._CROSSINGS
    }
    assert not set(CASES) - used - {"torch._C._nn.log_sigmoid"}


OFF_PATH = (crossings.constant, crossings.cut)


def refused(function: Function) -> bool:
    """2 / x and 2 ** x are no product and power of x."""
    return getattr(function, "__name__", "") in ("__rdiv__", "__rtruediv__", "__rpow__")


def on_path() -> list[Any]:
    off = [function for function, of in functions._CROSSINGS.items() if of in OFF_PATH]
    return [
        entry
        for entry in registered()
        if entry.values[0] not in off
        and not refused(entry.values[0])
        and functions.name_of(entry.values[0]) != "Tensor.__float__"
    ]


@pytest.mark.parametrize("function", on_path())
def test_output_is_torch_s_own_and_relevance_is_finite(function: Function) -> None:
    x = inputs_for(function)
    with torch.random.fork_rng():
        expected = Calling(function)(x.clone())
    with forward(Calling(function), x, RuleSet(), pick=first) as run:
        returned = run.returned
        moved = run.relevance(torch.ones_like(run.output))
        calls = list(run.plan)
    given = [returned] if isinstance(returned, Tensor) else list(returned)
    wanted = [expected] if isinstance(expected, Tensor) else list(expected)
    assert len(given) == len(wanted)
    for one, other in zip(given, wanted, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert moved.shape == x.shape
    assert moved.isfinite().all()
    assert calls or torch.equal(moved, torch.ones_like(x))
    assert all(call.rule and call.operation for call in calls)


@pytest.mark.parametrize("function", [e for e in registered() if refused(e.values[0])])
def test_reversed_operators_that_have_no_rule_are_refused(function: Function) -> None:
    with (
        pytest.raises(vv.UnsupportedOperationError),
        forward(Calling(function), inputs_for(function, positive=True), RuleSet(), pick=first),
    ):
        pass


@pytest.mark.parametrize("function", registered(*OFF_PATH))
def test_what_is_off_the_path_takes_no_relevance(function: Function) -> None:
    class Beside(Calling):
        def forward(self, x: Tensor) -> Any:
            beside = super().forward(x)
            return x * 2.0, beside, (x * 0.5).sum() + beside.sum()

    x = inputs_for(function)
    with torch.random.fork_rng():
        expected = Calling(function)(x.clone())
    with forward(Beside(function), x, RuleSet(), pick=lambda returned: returned[2]) as run:
        beside = run.returned[1]
        assert not beside.requires_grad
        seed = torch.ones_like(run.output)
        moved = run.relevance(seed)
    assert beside.shape == expected.shape
    if getattr(function, "__name__", "") not in UNINITIALISED:
        assert torch.equal(beside, expected)
        torch.testing.assert_close(moved, x.abs() / x.abs().sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("function", [*registered(crossings.route, crossings.fill, crossings.pad, crossings.set_item)])
def test_routing_brings_relevance_back_to_where_the_values_came_from(function: Function) -> None:
    if functions.name_of(function) == "Tensor.__float__":
        pytest.skip("a Python number is no tensor")
    x = inputs_for(function)
    moved, seed, _ = relevance(function, x)
    # The same call on positions, counted from 1, tells where each value of the output came from; 0 is a constant.
    origins = first(Calling(function)(torch.arange(1, x.numel() + 1, dtype=DOUBLE).view(x.shape)))
    expected = torch.zeros(x.numel() + 1, dtype=DOUBLE)
    expected.index_add_(0, origins.double().round().long().flatten(), seed.double().flatten())
    torch.testing.assert_close(moved.flatten(), expected[1:], rtol=1e-12, atol=0)


def winners() -> list[Any]:
    entries = registered(crossings.winner, pooling.max_pool, pooling.adaptive_max_pool)
    return [entry for entry in entries if "logsumexp" not in entry.values[0].__name__]


@pytest.mark.parametrize("function", winners())
def test_the_winner_takes_all(function: Function) -> None:
    x = inputs_for(function)
    moved, seed, run = relevance(function, x)
    # All values differ, so the output's value tells the winner.
    winners = (run.output.flatten()[:, None] == x.flatten()).double()
    assert winners.sum(1).eq(1).all()
    torch.testing.assert_close(moved.flatten(), seed.flatten() @ winners, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "function",
    [
        entry
        for entry in registered(
            crossings.passing,
            crossings.rectifying,
            crossings.gating,
            crossings.clamping,
            crossings.power,
            crossings.dropout,
            crossings.residual_sum,
            crossings.product,
            crossings.turning,
            attention.softmax,
            weighted.batch_norm,
        )
        if not refused(entry.values[0])
    ],
)
def test_elementwise_functions_pass_relevance_as_it_is(function: Function) -> None:
    moved, seed, _ = relevance(function, inputs_for(function))
    torch.testing.assert_close(moved, seed, rtol=1e-12, atol=0)


@pytest.mark.parametrize("function", registered(composites.gated_half))
def test_the_first_half_is_the_signal(function: Function) -> None:
    moved, seed, _ = relevance(function, inputs_for(function))
    assert torch.equal(moved, torch.cat([seed, torch.zeros_like(seed)], -1))


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("function", registered(crossings.fixed_sum, crossings.sampled))
def test_fixed_sums_share_by_weighted_magnitude(function: Function, positive: bool) -> None:
    x = inputs_for(function, positive=positive)
    moved, seed, _ = relevance(function, x)
    jacobian = torch.autograd.functional.jacobian(Calling(function), x, vectorize=True).reshape(seed.numel(), x.numel())
    contributions = jacobian * x.abs().flatten()
    expected = (contributions / contributions.sum(1, keepdim=True)).T @ seed.flatten()
    torch.testing.assert_close(moved.flatten(), expected, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(moved.sum(), seed.sum(), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "function",
    [
        entry
        for entry in registered(
            weighted.linear,
            weighted.convolutional,
            weighted.transposed_convolutional,
            weighted.sum_with_product,
            attention.matrix_product,
            attention.any_product,
            attention.einsum,
        )
        if not refused(entry.values[0])
    ],
)
def test_weighted_functions_conserve_where_every_contribution_is_positive(function: Function) -> None:
    x = inputs_for(function, positive=True)
    moved, seed, run = relevance(function, x)
    assert [call.operation for call in run.plan] in (["linear"], ["convolution"])
    torch.testing.assert_close(moved.sum(), seed.sum(), rtol=1e-12, atol=0)
    jacobian = torch.autograd.functional.jacobian(Calling(function), x, vectorize=True).reshape(seed.numel(), x.numel())
    contributions = jacobian * x.flatten()
    expected = (contributions / contributions.sum(1, keepdim=True)).T @ seed.flatten()
    torch.testing.assert_close(moved.flatten(), expected, rtol=1e-12, atol=0)


# -- the registry ----------------------------------------------------------------------------------------------------


def running_total(x: Tensor) -> Tensor:
    """A function of the user's own, which torch hands to a mode."""
    if torch.overrides.has_torch_function_unary(x):
        result: Tensor = torch.overrides.handle_torch_function(running_total, (x,), x)
        return result
    return torch.cumsum(x, 1)


class Head(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return running_total(x)


class Network(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3, dtype=DOUBLE)
        self.head = nn.ModuleDict({"pool": head})

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head["pool"](self.first(x).relu())
        return result


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that the test may change."""
    monkeypatch.setattr(functions, "_CROSSINGS", dict(functions._CROSSINGS))


def test_an_unknown_function_is_named_with_its_module_and_its_remedy() -> None:
    x = torch.rand(2, 4, dtype=DOUBLE)
    with pytest.raises(vv.UnsupportedOperationError, match="`running_total`"):
        vv.LRP(Network(Head())).attribute(x, 0)
    with pytest.raises(vv.UnsupportedOperationError) as caught:
        vv.LRP(Network(Unknown(torch.lgamma))).attribute(x, 0)
    for part in ("`torch.lgamma`", "`head.pool` (Unknown)", "visavis.register(torch.lgamma,"):
        assert part in str(caught.value)


class Unknown(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.function(x).real.reshape(len(x), -1)], 1)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("Tensor.cumprod", lambda x: x.cumprod(1)),
        ("torch.lgamma", torch.lgamma),
        ("torch.fft.fft", torch.fft.fft),
        ("torch.fft.rfft", torch.fft.rfft),
        ("torch.linalg.svdvals", torch.linalg.svdvals),
        (".*cdist", lambda x: torch.cdist(x, x)),
        ("torch.bernoulli", lambda x: torch.bernoulli(x.sigmoid())),
        ("F.layer_norm", lambda x: F.layer_norm(x, (3,), x.mean(0))),
        ("Tensor.__rdiv__|Tensor.__rtruediv__", lambda x: 1.0 / x),
        ("Tensor.pow|Tensor.__pow__", lambda x: x**-1),
        ("Tensor.__rpow__", lambda x: 2.0**x),
    ],
)
def test_unknown_functions_beside_known_ones_are_refused(name: str, function: Function) -> None:
    with pytest.raises(vv.UnsupportedOperationError, match=rf"^`({name})`, called in `head.pool` \(Unknown\)"):
        vv.LRP(Network(Unknown(function))).attribute(torch.rand(2, 4, dtype=DOUBLE), 0)


@pytest.mark.usefixtures("scratch")
def test_three_lines_make_an_unknown_function_known() -> None:
    vv.register(running_total, "weighted sum")
    module, x = Network(Head()), torch.rand(2, 4, dtype=DOUBLE)
    with forward(module, x, RuleSet(), pick=first) as run:
        known = run.relevance(torch.ones_like(run.output))
        assert [call.function for call in run.plan] == ["F.linear", "Tensor.relu", "running_total"]
        assert torch.equal(run.output, module(x))
    # The same by hand, from the sums' shares down.
    h = module.first(x).relu().detach()
    sums = h.cumsum(1)
    share = torch.where(sums == 0, 0, 1 / sums)
    at_hidden = h * share.flip(1).cumsum(1).flip(1)
    expected = torch.zeros_like(x)
    positive = module.first.weight.detach().clamp(min=0)
    for b in range(2):
        for j in range(3):
            contributions = x[b] * positive[j]
            expected[b] += contributions / contributions.sum() * at_hidden[b, j] if contributions.sum() else 0
    torch.testing.assert_close(known, expected, rtol=1e-10, atol=1e-14)

    vv.unregister(running_total)
    with pytest.raises(vv.UnsupportedOperationError):
        vv.LRP(module).attribute(x, 0)


@pytest.mark.usefixtures("scratch")
def test_a_crossing_of_one_s_own_moves_relevance() -> None:
    def reversed_crossing(visit: Visit) -> Any:
        (x,) = visit.sources
        visit.call.operation, visit.call.rule = "own", "reversed"
        return visit.leave(cross(visit.value(), lambda r: r.flip(1), x))

    vv.register(running_total, reversed_crossing)
    x = torch.rand(2, 4, dtype=DOUBLE)
    with forward(Head(), x, RuleSet(), pick=first) as run:
        seed = torch.rand_like(run.output)
        assert torch.equal(run.relevance(seed), seed.flip(1))
        assert run.plan.rows()[0]["rule"] == "reversed"


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("kind", sorted(functions.KINDS))
def test_every_kind_that_can_be_registered_by_name_works(kind: str) -> None:
    vv.register(running_total, kind)

    class Residual(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 1.0 + running_total(x)

    x = torch.rand(2, 4, dtype=DOUBLE)
    with forward(Residual(), x, RuleSet(), pick=first) as run:
        moved = run.relevance(torch.ones_like(run.output))
    sums = x.cumsum(1)
    kept, passed = x / (x + sums), sums / (x + sums)
    by_transpose = passed.flip(1).cumsum(1).flip(1)
    expected = {
        "pass": torch.ones_like(x),
        "gate": torch.ones_like(x),
        "route": kept + by_transpose,
        "maximum": kept + by_transpose,
        "weighted sum": kept + x * (passed / sums).flip(1).cumsum(1).flip(1),
        "constant": torch.ones_like(x),
    }[kind]
    torch.testing.assert_close(moved, expected, rtol=1e-12, atol=0)


def test_registering_twice_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(vv.InputError, match=r"`torch.relu` is registered already"):
        vv.register(torch.relu, "pass")
    with pytest.raises(vv.InputError, match=r"a crossing is one of .*pass.* not 'pas'"):
        vv.register(running_total, "pas")
    with pytest.raises(vv.InputError, match=r"`running_total` is not registered"):
        vv.unregister(running_total)
    assert functions.crossing_of(running_total) is None
    assert functions.crossing_of(torch.relu) is crossings.rectifying


@pytest.mark.usefixtures("scratch")
def test_two_crossings_for_one_name_are_refused() -> None:
    with pytest.raises(vv.InputError, match="is registered twice"):
        functions._enter(crossings.route, "relu")


@pytest.mark.usefixtures("scratch")
def test_a_function_of_the_user_s_own_that_calls_handle_torch_function() -> None:
    def doubled(x: Tensor) -> Tensor:
        if torch.overrides.has_torch_function_unary(x):
            result: Tensor = torch.overrides.handle_torch_function(doubled, (x,), x)
            return result
        return Scaled.apply(x)

    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * 7

    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return doubled(x)

    vv.register(doubled, "pass")
    x = torch.rand(2, 4, dtype=DOUBLE)
    with forward(Own(), x, RuleSet(), pick=first) as run:
        assert torch.equal(run.output, 2 * x)
        seed = torch.rand_like(run.output)
        assert torch.equal(run.relevance(seed), seed)

"""Models that reach their weights in a roundabout way, or are wrapped, are explained as what they compute."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.testing import assert_close

import visavis as vv

LINEAR = (0, 2, 6)


def network():
    """A small network in float64, of which every layer answers to the inputs."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 6),
    )
    for place in (0, 2):
        nn.init.constant_(module[place].bias, 0.3)
    return module.double().eval()


@pytest.fixture
def inputs():
    return torch.rand(2, 3, 8, 8, dtype=torch.float64)


def relevance(module, inputs, rules="deep-taylor"):
    return vv.LRP(module, rules=rules, bounds=(0.0, 1.0)).attribute(inputs, target=1)


def same(module, plain, inputs):
    """That a module is explained as the plain one that computes the same, by every sort of rule, and left as it was."""
    before = snapshot(module)
    for rules in ("deep-taylor", "epsilon-plus", "gradient-times-input"):
        expected = relevance(plain, inputs, rules)
        assert expected.abs().amax((1, 2, 3)).min() > 1e-4, "there must be something to compare"
        assert_close(relevance(module, inputs, rules), expected, rtol=1e-10, atol=1e-13)
    contrast = vv.CLRP(module, bounds=(0.0, 1.0), foil="negated").attribute(inputs, target=1)
    assert_close(contrast, vv.CLRP(plain, bounds=(0.0, 1.0), foil="negated").attribute(inputs, target=1))
    untouched(module, before)


def snapshot(module):
    """All values and flags of a module, and what it computes its weights from."""
    values = {name: tensor.clone() for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    flags = {name: (id(tensor), tensor.requires_grad, tensor.grad) for name, tensor in module.named_parameters()}
    parts = [
        (type(part), part.training, len(part._forward_hooks), len(part._forward_pre_hooks), sorted(part.__dict__))
        for part in module.modules()
    ]
    return values, flags, parts


def untouched(module, before):
    values, flags, parts = snapshot(module)
    assert (flags, parts) == before[1:]
    assert values.keys() == before[0].keys()
    assert all(torch.equal(values[name], before[0][name]) for name in values)


def written_out(module):
    """The same network with weights that are plain parameters."""
    plain = network()
    with torch.no_grad():
        for place in LINEAR:
            plain[place].weight.copy_(module[place].weight)
            plain[place].bias.copy_(module[place].bias)
    return plain


# ------------------------------------------------------------------------------------------------ weights from weights


@pytest.mark.parametrize(
    "parametrization", [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal]
)
def test_parametrized_weights(inputs, parametrization):
    module = network()
    for place in LINEAR:
        parametrization(module[place])
    module.eval()
    if parametrization is parametrizations.weight_norm:
        with torch.no_grad():
            for place in LINEAR:
                module[place].parametrizations.weight.original0.mul_(1.5)
    same(module, written_out(module), inputs)


def test_a_parametrization_of_ones_own(inputs):
    class LowRank(nn.Module):
        def __init__(self, rows, columns):
            super().__init__()
            self.up, self.down = nn.Parameter(torch.rand(rows, 2)), nn.Parameter(torch.rand(2, columns))

        def forward(self, weight):
            return weight + 0.1 * self.up @ self.down

    module = network()
    parametrize.register_parametrization(module[6], "weight", LowRank(6, 20).double())
    same(module, written_out(module), inputs)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_weight_norm_of_old(inputs):
    """Its hook writes the weight before each forward pass, as a plain attribute."""
    module = network()
    for place in LINEAR:
        nn.utils.weight_norm(module[place])
    with torch.no_grad():
        for place in LINEAR:
            module[place].weight_g.mul_(1.5)
        module(inputs)  # only now are the weights those of the new norms
    plain = written_out(module)
    same(module, plain, inputs)
    assert_close(module(inputs), plain(inputs))
    (gradient,) = torch.autograd.grad(module(inputs).sum(), module[0].weight_g)
    assert gradient.abs().sum() > 0, "it can still be trained"


@pytest.mark.parametrize("training", [False, True])
def test_spectral_norm_of_old(inputs, training):
    """Its hook iterates a vector in training mode, and this vector is put back."""
    module = network()
    for place in LINEAR:
        nn.utils.spectral_norm(module[place])
    module.train(training)
    twin = copy.deepcopy(module)
    twin(inputs)  # the vectors after one step, as within the explanation
    same(module, written_out(twin), inputs)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_an_attribute_that_a_hook_writes_is_put_back(inputs, norm):
    module = norm(nn.Linear(3, 2).double())
    before = module.weight
    vv.LRP(module).attribute(inputs[:, :, 0, 0])
    assert module.weight is before


@pytest.mark.parametrize("made_permanent", [False, True])
def test_pruned_weights(inputs, made_permanent):
    module = network()
    for place in LINEAR:
        prune.l1_unstructured(module[place], "weight", 0.3)
    module(inputs)
    plain = written_out(module)
    assert (plain[2].weight == 0).sum() == round(0.3 * plain[2].weight.numel())
    if made_permanent:
        for place in LINEAR:
            prune.remove(module[place], "weight")
    same(module, plain, inputs)


def test_weights_handed_in_at_the_call(inputs):
    """`functional_call` swaps the parameters for the length of a call, as ensembles and fast weights do."""

    class FastWeights(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module
            self.scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

        def forward(self, x):
            fast = {name: tensor * self.scale for name, tensor in self.module.named_parameters()}
            return torch.func.functional_call(self.module, fast, (x,))

    module, plain = FastWeights(network()), network()
    with torch.no_grad():
        for tensor in plain.parameters():
            tensor.mul_(1.5)
    same(module, plain, inputs)


def test_low_rank_adapters(inputs):
    """An adapter beside a layer is a sum of two paths; merged into its weight, LRP-0 and ε -> 0 are the same."""

    class Adapted(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base = base
            self.down, self.up = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)

        def forward(self, x):
            return self.base(x) + 0.5 * self.up(self.down(x))

    module, merged = network(), network()
    module[6] = Adapted(module[6]).double()
    with torch.no_grad():
        merged[6].weight.add_(0.5 * module[6].up.weight @ module[6].down.weight)
    assert_close(module(inputs), merged(inputs))
    for rules in ("zero", "gradient-times-input"):
        assert_close(relevance(module, inputs, rules), relevance(merged, inputs, rules), rtol=1e-8, atol=1e-12)
    assert relevance(module, inputs).isfinite().all()


# ------------------------------------------------------------------------------------------ graphs, wrappers, precision


def test_a_traced_graph_is_plain_python(inputs):
    same(torch.fx.symbolic_trace(network()), network(), inputs)


@pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max:UserWarning")
def test_observers_watch_and_are_put_back(inputs):
    """Before quantisation, observers note the range of each activation: an explanation must not count."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_fx

    prepared = prepare_fx(network(), get_default_qconfig_mapping("x86"), (inputs,))
    prepared(inputs / 2)
    same(prepared, network(), inputs)


def test_an_averaged_model(inputs):
    averaged = torch.optim.swa_utils.AveragedModel(network())
    same(averaged, network(), inputs)


def test_batch_norm_fused_into_its_layer(inputs):
    norm = nn.BatchNorm2d(4).double().eval()
    for values in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        values.uniform_(0.5, 1)
    parts = list(network())
    fused = nn.Sequential(nn.utils.fusion.fuse_conv_bn_eval(parts[0], norm), *parts[1:])
    expected = relevance(nn.Sequential(parts[0], norm, *parts[1:]), inputs)
    assert expected.abs().sum() > 1e-4
    assert_close(relevance(fused, inputs), expected)


@pytest.mark.parametrize("inside", [False, True])
def test_autocast(inputs, inside):
    class Autocast(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.module(x).float()

    module, inputs = network().float(), inputs.float()
    expected = relevance(module, inputs)
    if inside:
        lower = relevance(Autocast(module), inputs)
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            lower = relevance(module, inputs)
    assert lower.dtype == torch.float32
    assert not torch.equal(lower, expected)
    assert_close(lower, expected, rtol=0, atol=0.02 * float(expected.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(inputs, dtype):
    expected = relevance(network(), inputs)
    lower = relevance(network().to(dtype), inputs.to(dtype))
    assert lower.dtype == dtype
    assert_close(lower.double(), expected, rtol=0, atol=0.05 * float(expected.abs().max()))


def test_channels_last(inputs):
    same(network().to(memory_format=torch.channels_last), network(), inputs)


def test_gradients_switched_off_inside(inputs):
    class Inference(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            with torch.no_grad():
                return self.module(x)

    same(Inference(network()), network(), inputs)
    same(Inference(network()).requires_grad_(False), network(), inputs)


@pytest.mark.slow
def test_a_function_compiled_within_the_model(inputs):
    """`torch.compile` of a method hides nothing: the mode sees the functions that it calls."""

    class Compiled(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        @torch.compile(backend="eager")
        def forward(self, x):
            return self.module(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same(Compiled(network()), network(), inputs)

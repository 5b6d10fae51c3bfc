"""Modules whose operations cannot be seen are refused, with what to pass instead."""

import pytest
import torch
from torch import nn

from visavis.errors import InputError, ModelError
from visavis.modules import refuse_unexplainable


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))


def refusal(module):
    with pytest.raises(ModelError) as caught:
        refuse_unexplainable(module)
    return str(caught.value)


def test_plain_modules_pass():
    refuse_unexplainable(network())
    refuse_unexplainable(network().double())
    refuse_unexplainable(nn.Identity())


@pytest.mark.parametrize("thing", [None, 3, torch.relu, nn.Linear, torch.zeros(3)])
def test_what_is_no_module(thing):
    with pytest.raises(InputError, match=r"a model is a torch\.nn\.Module"):
        refuse_unexplainable(thing)


def test_scripted_and_traced():
    for module in (torch.jit.script(network()), torch.jit.trace(network(), torch.zeros(1, 3, 2, 2))):
        assert "is scripted (TorchScript); pass the original Python module" in refusal(module)
        assert "its part '1' is scripted" in refusal(nn.Sequential(nn.Identity(), module))


def test_compiled():
    compiled = torch.compile(network(), backend="eager")
    assert "it is compiled by torch.compile; pass module._orig_mod" in refusal(compiled)
    assert "its part '0' is compiled" in refusal(nn.Sequential(compiled))
    refuse_unexplainable(compiled._orig_mod)


def test_compiled_in_place():
    module = network()
    module[1].compile(backend="eager")
    assert "its part '1' was compiled in place" in refusal(module)


def test_exported():
    inputs = torch.zeros(1, 3, 2, 2)
    program = torch.export.export(network(), (inputs,))
    for module in (program.module(), program.run_decompositions().module(), torch.export.unflatten(program)):
        said = refusal(module)
        assert "is exported (torch.export) into aten's operators; pass the Python module" in said
    with pytest.raises(InputError, match="of type ExportedProgram"):
        refuse_unexplainable(program)
    refuse_unexplainable(torch.fx.symbolic_trace(network()))


def test_quantised():
    dynamic = torch.ao.quantization.quantize_dynamic(network(), {nn.Linear})
    assert "its part '1' is quantised (Linear); pass the float model" in refusal(dynamic)


# torch's own observers warn of an option that torch itself sets.
of_observers = pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max:UserWarning")


@of_observers
@pytest.mark.parametrize("ready", [False, True])
def test_quantised_as_a_graph(ready):
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    prepared = prepare_fx(network().eval(), get_default_qconfig_mapping("x86"), (torch.zeros(1, 3, 2, 2),))
    prepared(torch.rand(1, 3, 2, 2))
    if ready:
        assert "is quantised (LinearReLU)" in refusal(convert_fx(prepared))
    else:
        refuse_unexplainable(prepared)  # it only watches so far


@of_observers
def test_trained_for_quantisation():
    from torch.ao.quantization import get_default_qat_qconfig, prepare_qat

    module = network().train()
    module.qconfig = get_default_qat_qconfig("x86")
    assert "its part '1' is quantised (Linear); pass the float model" in refusal(prepare_qat(module))


@pytest.mark.parametrize(
    "package", ["torchao.dtypes", "bitsandbytes.nn.modules", "hqq.core.quantize", "awq.modules.linear"]
)
def test_quantised_by_a_library(package):
    kind = type("Linear4", (nn.Linear,), {"__module__": package})
    assert "its part '0' is quantised (Linear4); pass the float model" in refusal(nn.Sequential(kind(2, 2)))
    refuse_unexplainable(type("Linear4", (nn.Linear,), {"__module__": package.replace(".", "_")})(2, 2))


def test_quantised_parameters():
    module = network()
    own = type("Packed", (nn.Parameter,), {"__module__": "torchao.dtypes.affine"})
    module[1].weight = own(torch.zeros(4, 12))
    assert "its part '1' has a tensor 'weight' that is quantised (Packed, torch.float32)" in refusal(module)
    for dtype in (torch.int8, torch.uint8, torch.float8_e4m3fn):
        module[1].weight = nn.Parameter(torch.zeros(4, 12).to(dtype), requires_grad=False)
        assert f"is quantised (Parameter, {dtype}); pass the float model" in refusal(module)
    module[1].weight = nn.Parameter(torch.zeros(4, 12, dtype=torch.float16))
    module.mask = nn.Parameter(torch.ones(3, dtype=torch.bool), requires_grad=False)
    module.index = nn.Parameter(torch.arange(3), requires_grad=False)
    module.register_buffer("bytes", torch.zeros(3, dtype=torch.uint8))
    refuse_unexplainable(module)


def test_parameters_without_values():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    assert "its part '1' has a tensor 'weight' that has no values yet (a lazy module)" in refusal(lazy)
    lazy(torch.zeros(1, 3, 2, 2))
    refuse_unexplainable(lazy)
    norm = nn.LazyBatchNorm2d(affine=False)
    assert "'running_mean' that has no values yet" in refusal(norm)


def test_sparse_parameters():
    module = network()
    module[1].weight = nn.Parameter(module[1].weight.detach().to_sparse())
    assert "'weight' that is stored as torch.sparse_coo; pass the model with dense tensors" in refusal(module)


def test_data_parallel():
    assert "pass module.module" in refusal(nn.DataParallel(network()))


@pytest.fixture
def one_process():
    """A group of processes that has one."""
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield distributed
    distributed.destroy_process_group()


def test_distributed(one_process):
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.distributed.tensor import distribute_module, init_device_mesh

    mesh = init_device_mesh("cpu", (1,))
    parallel = nn.parallel.DistributedDataParallel(network())
    assert "is DistributedDataParallel, which waits for other processes; pass module.module" in refusal(parallel)
    refuse_unexplainable(parallel.module)
    plain = "pass the plain module, with the full state dict loaded into it"
    said = refusal(distribute_module(network(), mesh))
    assert f"its part '1' has a tensor 'weight' that is sharded (DTensor); {plain}" in said
    said = refusal(fully_shard(network(), mesh=mesh))
    assert f"it is sharded (FSDPSequential); {plain}" in said
    with pytest.warns(UserWarning, match="world size is 1"):
        whole = FullyShardedDataParallel(network(), device_id=torch.device("cpu"))
    assert f"it is sharded (FullyShardedDataParallel); {plain}" in refusal(whole)


def test_a_refusal_changes_nothing():
    module = network().train()
    module[1].compile(backend="eager")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    refusal(module)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())

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


def test_quantised():
    dynamic = torch.ao.quantization.quantize_dynamic(network(), {nn.Linear})
    assert "its part '1' is quantised (Linear); pass the float model" in refusal(dynamic)


def test_data_parallel():
    assert "pass module.module" in refusal(nn.DataParallel(network()))


def test_a_refusal_changes_nothing():
    module = network().train()
    module[1].compile(backend="eager")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    refusal(module)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())

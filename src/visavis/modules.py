"""Which modules can be explained: those whose torch functions run in Python, on float tensors, in this
thread."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from visavis.errors import InputError, ModelError

# By name, since importing any of these would take seconds, or is not possible.
_QUANTISED_PACKAGES = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.sparse.quantized",
    "torch.ao.nn.qat",
    "torch.ao.nn.intrinsic.qat",
    "torch.ao.quantization.fake_quantize",
    "torch.nn.quantized",
    "torchao",
    "bitsandbytes",
    "auto_gptq",
    "gptqmodel",
    "awq",
    "hqq",
    "optimum.quanto",
    "compressed_tensors",
)
_SHARDED_PACKAGES = (
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.distributed._tensor",
    "torch.distributed._shard",
    "deepspeed",
)


def refuse_unexplainable(module: object) -> None:
    """Raises where `module`, or a module within it, hides its operations from an explanation.

    Raises:
        InputError: It is no `nn.Module`.
        ModelError: It is scripted, compiled, exported, quantised, sharded or wrapped to run in parallel, or has
            parameters that hold no plain numbers; the sentence says what to pass instead.
    """
    if not isinstance(module, nn.Module):
        raise InputError(
            f"a model is a torch.nn.Module, but this is {_type_name(module)}; "
            "pass the module itself, or visavis.Classifier(module, ...)."
        )
    for path, part in module.named_modules():
        reason = _why_unexplainable(part)
        if reason:
            place = f"its part '{path}'" if path else "it"
            raise ModelError(f"{type(module).__name__} cannot be explained: {place} {reason}.")


def _why_unexplainable(module: nn.Module) -> str | None:
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return "is scripted (TorchScript); pass the original Python module"
    if kind.__name__ == "OptimizedModule" and _in_package(kind.__module__, ("torch._dynamo",)):
        return "is compiled by torch.compile; pass module._orig_mod"
    if getattr(module, "_compiled_call_impl", None) is not None:
        return "was compiled in place by module.compile(); pass a module on which compile() was not called"
    if _calls_operators(module):
        return "is exported (torch.export) into aten's operators; pass the Python module from which it was exported"
    if _in_package(kind.__module__, _QUANTISED_PACKAGES):
        return f"is quantised ({kind.__name__}); pass the float model from before quantisation"
    if isinstance(module, nn.DataParallel):
        return "is nn.DataParallel, which runs in threads of its own; pass module.module"
    if isinstance(module, nn.parallel.DistributedDataParallel):
        return "is DistributedDataParallel, which waits for other processes; pass module.module"
    if _in_package(kind.__module__, _SHARDED_PACKAGES):
        return f"is sharded ({kind.__name__}); {_GATHERED}"
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        reason = None if tensor is None else _why_unreadable(tensor)
        if reason:
            return f"has a tensor '{name}' that {reason}"
    return None


_GATHERED = "pass the plain module, with the full state dict loaded into it"


def _calls_operators(module: nn.Module) -> bool:
    """Whether a module runs a graph of operators beneath torch's functions, which no rule knows."""
    graph = getattr(module, "graph", None)
    return isinstance(graph, fx.Graph) and any(
        node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload) for node in graph.nodes
    )


def _why_unreadable(tensor: Tensor) -> str | None:
    """Why a parameter or buffer holds no plain numbers; None if it does."""
    kind = type(tensor)
    if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
        return "has no values yet (a lazy module); run the model once on an input"
    if _in_package(kind.__module__, _SHARDED_PACKAGES):
        return f"is sharded ({kind.__name__}); {_GATHERED}"
    if tensor.is_quantized or _in_package(kind.__module__, _QUANTISED_PACKAGES) or _is_coded(tensor):
        return f"is quantised ({kind.__name__}, {tensor.dtype}); pass the float model from before quantisation"
    if tensor.layout is not torch.strided:
        return f"is stored as {tensor.layout}; pass the model with dense tensors, as tensor.to_dense() gives them"
    return None


def _is_coded(tensor: Tensor) -> bool:
    """Whether a parameter is stored in one byte a value, or less, from which its values are computed first."""
    return isinstance(tensor, nn.Parameter) and tensor.dtype is not torch.bool and tensor.itemsize == 1


def _in_package(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def _type_name(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"

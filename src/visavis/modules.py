"""Which modules can be explained: those whose torch functions run in Python, on float tensors, in this
thread."""

from __future__ import annotations

import torch
from torch import nn

from visavis.errors import InputError, ModelError

_QUANTISED_PACKAGES = (
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.sparse.quantized",
    "torch.nn.quantized",
    "torchao",
)


def refuse_unexplainable(module: object) -> None:
    """Raises where `module`, or a module within it, hides its operations from an explanation.

    Raises:
        InputError: It is no `nn.Module`.
        ModelError: It is scripted, compiled, quantised or `nn.DataParallel`; the sentence says what to pass
            instead.
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
    # By name, since importing torch._dynamo for its class would take seconds.
    if kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch._dynamo"):
        return "is compiled by torch.compile; pass module._orig_mod"
    if getattr(module, "_compiled_call_impl", None) is not None:
        return "was compiled in place by module.compile(); pass a module on which compile() was not called"
    if _in_package(kind.__module__, _QUANTISED_PACKAGES) or any(map(_is_quantised, module._parameters.values())):
        return f"is quantised ({kind.__name__}); pass the float model from before quantisation"
    if isinstance(module, nn.DataParallel):
        return "is nn.DataParallel, which runs in threads of its own; pass module.module"
    return None


def _is_quantised(parameter: nn.Parameter | None) -> bool:
    if parameter is None:
        return False
    return parameter.is_quantized or _in_package(type(parameter).__module__, _QUANTISED_PACKAGES)


def _in_package(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def _type_name(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"

"""What a model returns, and where in it the logits are, or whatever else is to be explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from visavis.errors import InputError, ModelError
from visavis.propagation.visit import tensors_in

#: Which part of what a model returns is explained: a key, attribute or index; or a callable that takes it to a tensor
#: (B, N, ...), or (B,), whose computation is then part of what is explained. None: the logits.
Output = Callable[[Any], Tensor] | str | int | None


def scores_of(returned: object, output: Output, items: int, layer: str | None = None) -> Tensor:
    """Take what is explained, (B, N, ...), from what a model, or one of its layers, returned.

    A tensor (B,), one score an image, comes as (B, 1).

    Args:
        returned: by the model or the layer.
        output: which part of it; None: the logits of a model, the (first) tensor of a layer.
        items: B, the size of the batch.
        layer: path of the layer that returned it; None: the model.

    Raises:
        InputError: `output` finds nothing, no tensor, or a tensor that cannot be explained.
        ModelError: the same, where `output` is None.
    """
    if callable(output):
        found: object = output(returned)
    elif output is not None:
        found = _part(returned, output)
    else:
        found = logits_of(returned) if layer is None else _first_tensor(returned, layer)
    wrong = ModelError if output is None and layer is None else InputError
    what = "the model's output" if layer is None else f"the output of layer {layer!r}"
    what = what if output is None else f"what output={_said(output)} gives"
    if not isinstance(found, Tensor):
        raise wrong(f"{what} is {_described(found)}, and a tensor (B, N, ...) was expected")
    if not found.is_floating_point():
        raise wrong(f"{what} is of type {found.dtype}, to which no relevance leads back; take the scores before it")
    if found.dim() == 0 or found.shape[0] != items:
        raise wrong(
            f"{what} has shape {tuple(found.shape)} for a batch of {items}; expected (B, N, ...), or (B,) for one "
            f"score an image: choose another output=..., such as a callable that puts the batch first"
        )
    return found.unsqueeze(1) if found.dim() == 1 else found


def _said(output: Output) -> str:
    return getattr(output, "__name__", type(output).__name__) if callable(output) else repr(output)


def _part(returned: object, output: str | int) -> object:
    """Return the entry of that key or index, or the attribute of that name."""
    if isinstance(returned, Mapping) and output in returned:
        return returned[output]
    if isinstance(output, int) and isinstance(returned, (tuple, list)) and -len(returned) <= output < len(returned):
        return returned[output]
    if isinstance(output, str) and not isinstance(returned, (Tensor, Mapping)) and hasattr(returned, output):
        return getattr(returned, output)
    raise InputError(
        f"output={output!r} is no key, attribute or index of what the model returned, {_described(returned)}; give one "
        f"of these, or a callable that takes it to a tensor (B, N, ...)"
    )


def _first_tensor(returned: object, layer: str) -> Tensor:
    found = tensors_in((returned,), {})
    if not found:
        raise InputError(
            f"layer {layer!r} returns {type(returned).__name__}, not a tensor; name another layer, or say with "
            f"output=... where its tensor is"
        )
    return found[0]


def logits_of(output: object) -> Tensor:
    """Picks the logits out of what a model returned.

    Taken, in this order: a tensor itself; the attribute `.logits` (Hugging Face, GoogLeNet, Inception); the
    key "logits" or "out" of a mapping (torchvision's segmentation); the first entry of a tuple or list.

    Raises:
        ModelError: None of these is a tensor.
    """
    if isinstance(output, Tensor):
        return output
    for candidate in _candidates(output):
        if isinstance(candidate, Tensor):
            return candidate
    raise ModelError(
        f"the model returned {_described(output)}, in which no logits were found; wrap the model in a module "
        "that returns the logits as one tensor (B, classes)."
    )


def _candidates(output: object) -> list[object]:
    found: list[object] = [getattr(output, "logits", None)]
    if isinstance(output, Mapping):
        found += [output.get("logits"), output.get("out")]
    if isinstance(output, (tuple, list)):
        found += output[:1]
    return found


def _described(output: object) -> str:
    kind = type(output).__name__
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a {kind} with the keys {', '.join(map(str, output)) or '(none)'}"
    if isinstance(output, (tuple, list)):
        return f"a {kind} of {', '.join(type(entry).__name__ for entry in output) or 'nothing'}"
    return f"a {kind}"

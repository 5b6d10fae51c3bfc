"""What a model returns, and where in it the logits are."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from visavis.errors import ModelError


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
    if isinstance(output, Mapping):
        return f"a {kind} with the keys {', '.join(map(str, output)) or '(none)'}"
    if isinstance(output, (tuple, list)):
        return f"a {kind} of {', '.join(type(entry).__name__ for entry in output) or 'nothing'}"
    return f"a {kind}"

"""What the shell takes beside a model's name, and the model that these options name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

import visavis as vv
from visavis.errors import InputError
from visavis.models import source_of
from visavis.models.own_model import ModelOptions
from visavis.models.preprocessing import CentreCrop
from visavis.terminal import note, note_of_own_code

_DEFAULTS = CentreCrop()


def _numbers(values: Iterable[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="Your weights for a torchvision: or timm: architecture or MODULE:FUNCTION: .safetensors, .pt or .pth "
        "with a state dict, loaded as data only.",
    ),
]
LabelFile = Annotated[
    str | None, typer.Option("--labels", help="Class names in place of the model's: a file, one a line or a JSON list.")
]
Size = Annotated[
    int | None,
    typer.Option(
        help="For a model of your own: the side that pictures are cropped to, after scaling the short side to "
        f"size/0.875; else {_DEFAULTS.size}, as with ImageNet."
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help=f"For a model of your own: mean of red,green,blue, or one number; else {_numbers(_DEFAULTS.mean)}."
    ),
]
Std = Annotated[str | None, typer.Option(help=f"Their standard deviation, likewise; else {_numbers(_DEFAULTS.std)}.")]


def options_of(
    weights: str | None, labels: str | None, size: int | None, mean: str | None, std: str | None
) -> ModelOptions:
    """Return what was given along with a model.

    Raises:
        InputError: mean or std are no numbers.
    """
    return ModelOptions(
        weights,
        labels,
        size,
        None if mean is None else _colours(mean, "--mean"),
        None if std is None else _colours(std, "--std"),
    )


def load(model: str, device: str | None, options: ModelOptions) -> vv.Classifier:
    """Load the model that the options name, and say beforehand if that runs code.

    Raises:
        InputError, ModelError: an option is malformed or does not fit the model, or the model cannot be loaded.
    """
    given = options.arguments(model)
    runs_code = source_of(model)[0].runs_code
    if runs_code:
        note_of_own_code(model, "--model")
    classifier = vv.load_model(model, device=device, **given)
    if (runs_code or "preprocess" in given) and isinstance(classifier.preprocess, CentreCrop):
        note(f"pictures are {classifier.preprocess} (--size, --mean, --std)")
    return classifier


def _colours(text: str, option: str) -> tuple[float, ...]:
    """One number for each of red, green and blue, from three, or from one for all."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} is three numbers such as 0.5,0.5,0.5, or one for all, not {text!r}") from None
    return tuple(values * 3 if len(values) == 1 else values)


__all__ = ["LabelFile", "Mean", "Size", "Std", "Weights", "load", "options_of"]

"""`visavis units` and `visavis decide`: which class needs which unit of a layer, and which units carry a decision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visavis.contrast import FOILS
from visavis.errors import InputError
from visavis.files import FIGURES, check_output, identities
from visavis.model_arguments import LabelFile, Mean, Size, Std, Weights, load, options_of
from visavis.models import source_of
from visavis.models.own_model import running
from visavis.terminal import bar, note, note_of_own_code, note_skipped, out, plain

if TYPE_CHECKING:
    from visavis.units import Decision

_MODEL = "efficientnet_lite0"
# No layer has units of more digits.
_DIGITS = 8

Model = Annotated[str, typer.Option("--model", "-m", help="As `visavis models` lists them, or MODULE:FUNCTION.")]
LayerPath = Annotated[
    str | None, typer.Option("--layer", help="Path of a module in the model; else the last layer with positions.")
]
Call = Annotated[int | None, typer.Option(help="Which of the layer's calls, from 0, where a forward pass has several.")]
UnitDim = Annotated[
    int | None, typer.Option("--unit-dim", help="In which dimension the units are, where that cannot be told.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; by itself the best there is.")]


def units(
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="KIND:FOLDER, or KIND:FOLDER?option=value&option=value.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder for the results; the same words take up a run that was ended.")
    ],
    model: Model = _MODEL,
    layer: LayerPath = None,
    call: Call = None,
    heads: Annotated[
        str | None,
        typer.Option(help="The units are the layer's attention heads: all, or how many it has where it does not say."),
    ] = None,
    unit_dim: UnitDim = None,
    which: Annotated[
        str | None, typer.Option("--units", help="Those ablated one by one, such as 0-63,70; else all.")
    ] = None,
    value: Annotated[str, typer.Option(help="What activations are replaced by: zero, or mean.")] = "zero",
    order: Annotated[
        str, typer.Option(help="The attribute in whose order several units are removed at once.")
    ] = "correlation",
    limit: Annotated[int | None, typer.Option(min=1, help="So many pictures, drawn at random; else all.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the draws.")] = 0,
    cards: Annotated[int, typer.Option(min=0, help="Of so many units the page has a card.")] = 12,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Pictures gone through at a time.")] = 16,
    weights: Weights = None,
    labels: LabelFile = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    device: Device = None,
) -> None:
    """Ablate the units of a layer one by one: which class needs which, and can one tell beforehand? Resumes."""
    from visavis.reports.units.study import names_of, write_units
    from visavis.reports.units.texts import in_short, lead
    from visavis.unit_runs import study
    from visavis.units import Layer

    chosen = None if which is None else _numbers(which)
    options = options_of(weights, labels, size, mean, std)
    if layer is None and (call is not None or heads is not None or unit_dim is not None):
        raise InputError("--call, --heads and --unit-dim are of a layer; name it with --layer")
    meant = None if layer is None else Layer(layer, unit_dim=unit_dim, call=call, heads=_heads(heads))
    if source_of(model)[0].runs_code:
        note_of_own_code(model, "--model")
    try:
        with bar("Ablating") as told:
            found = study(
                dataset,
                model,
                meant,
                output,
                units=chosen,
                value=value,
                order=order,
                limit=limit,
                seed=seed,
                batch=batch_size,
                device=device,
                options=options,
                progress=told,
            )
    except KeyboardInterrupt:
        note(f"ended; what is finished is kept in {output}, and the same command goes on from there")
        raise
    note_skipped(found.passed, "page")
    with bar("Drawing") as told, running(found.classifier, model, size):
        places = write_units(found, Path(output), cards=cards, progress=told)
    for line in (lead(found), *in_short(found, names_of(found), {})):
        out.print(plain(line), soft_wrap=True, highlight=False)
    for place in places.values():
        out.print(f"written: {plain(str(place))}", soft_wrap=True, highlight=False)


def decide(
    photo: Annotated[str, typer.Argument(help="A photograph.", show_default=False)],
    model: Model = _MODEL,
    layer: LayerPath = None,
    target: Annotated[str | None, typer.Option(help="Class A: name, index, WordNet id; else the top.")] = None,
    foil: Annotated[str, typer.Option(help="Class B; or runner-up, the strongest other class.")] = "runner-up",
    unit_dim: UnitDim = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="File.", show_default=False)] = None,
    weights: Weights = None,
    labels: LabelFile = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    device: Device = None,
) -> None:
    """Find the units that carry the relevance for class A and not for B, and what the model says without them."""
    from visavis.plotting.saving import save_figure
    from visavis.reports.units.decision import decision_figure
    from visavis.units import Layer
    from visavis.units import decide as decided
    from visavis.units.last import last_layer

    if foil in FOILS and foil != "runner-up":
        raise InputError(f"a decision is between two classes: --foil is a class or runner-up, not {foil!r}")
    picture = Path(photo)
    place = Path(output) if output is not None else Path(f"{picture.stem}-units.png")
    check_output(place, identities([picture]), FIGURES)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    with running(classifier, model, size):
        inputs = classifier.prepare(picture)
        path = layer if layer is not None else last_layer(classifier.module, inputs)
        found = decided(classifier, Layer(path, unit_dim=unit_dim), inputs, target, foil)
    one, other = (
        f"class {k}" if classifier.labels is None else classifier.labels[k] for k in (found.target, found.foil)
    )
    order = found.order.tolist()
    figure = decision_figure(
        order,
        found.contrast[found.order],
        found.counts,
        found.margins,
        found.margins_without_random,
        foil_margins=found.margins_without_foil,
        names=(one, other),
        layer=found.layer,
    )
    save_figure(figure, place)
    out.print(f"[bold]{plain(f'Why {one} and not {other}?')}[/bold]", soft_wrap=True, highlight=False)
    for line in _said(found, one, other):
        out.print(plain(line), soft_wrap=True, highlight=False)
    out.print(f"written: {plain(str(place))}", soft_wrap=True, highlight=False)


def _said(found: Decision, one: str, other: str) -> list[str]:
    """Return what was found of a decision, in words."""
    margin, at = float(found.margins[0]), found.flips_at
    most = [unit for unit in found.order.tolist()[:5] if float(found.contrast[unit]) > 0]
    carry = f"none carries more for {one}"
    if most:
        carry = f"{', '.join(map(str, most))} carry most for {one} and not for {other}"
    lines = [f"  logit({one}) − logit({other}) is {margin:.2f}; of {len(found.order)} units of {found.layer}, {carry}"]
    if margin < 0:
        lines.append(f"  {other} is ahead of {one} as it is")
    elif at is None:
        tried = ", ".join(map(str, found.counts[1:]))
        lines.append(f"  {one} stays ahead without the first {tried} of the units in that order")
    else:
        before = found.counts[found.counts.index(at) - 1]
        still = f", without {before} not yet" if before else ""
        lines.append(f"  without the first {at} of the units in that order, {other} is ahead{still}")
    inner = slice(1, -1)
    drawn = found.margins_without_random[:, inner]
    if drawn.numel() and bool((found.margins[inner] >= drawn.amin(0)).all()):
        lines.append("  as many units drawn at random do as much: this layer's shares do not tell which matter here")
    return lines


def _heads(text: str | None) -> bool | int:
    if text is None:
        return False
    if text == "all":
        return True
    if not text.isdecimal() or len(text) > _DIGITS:
        raise InputError(f"--heads is all, or a number, not {text!r}")
    return int(text)


def _numbers(text: str) -> list[int]:
    """Return the numbers of "0-3,7", each once, in their order."""
    found: dict[int, None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        low, dash, high = part.partition("-")
        if len(part) > 2 * _DIGITS:
            raise InputError(f"--units names more units than any layer has: {part[:20]!r}…")
        if not low.isdecimal() or (dash and not high.isdecimal()) or (dash and int(high) < int(low)):
            raise InputError(f"--units is numbers and ranges such as 0-63,70, not {text!r}")
        if dash and int(high) - int(low) > 1_000_000:
            raise InputError(f"--units names more units than any layer has: {text!r}")
        found |= dict.fromkeys(range(int(low), int(high or low) + 1))
    if not found:
        raise InputError("--units names none; leave it out for all")
    return list(found)


__all__ = ["decide", "units"]

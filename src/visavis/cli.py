"""The command line: results on standard output, progress and errors on standard error; bad input ends in status 1."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import visavis as vv
from visavis import benchmark_commands, shape_texture_commands, unit_commands, vector_commands
from visavis.contrast import FOILS
from visavis.errors import InputError, OutputError, VisavisError
from visavis.explanation import Explanation, percent_of, said_of_the_rest
from visavis.files import FIGURES, WHOLE, check_output, identities, make_folder
from visavis.model_arguments import LabelFile, Mean, Size, Std, Weights, load, options_of
from visavis.models.own_code import raised
from visavis.models.own_model import running
from visavis.pictures import find_pictures
from visavis.terminal import err, out, plain

app = typer.Typer(
    help="Why did the network say A and not B? The pixels that speak for one class vis-à-vis another.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

DEFAULT_MODEL = "efficientnet_lite0"

Photos = Annotated[list[str], typer.Argument(help="Photographs, or folders of them.", show_default=False)]
Photo = Annotated[str, typer.Argument(help="A photograph.", show_default=False)]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="As `visavis models` lists them; or MODULE:FUNCTION of your own, which runs that code to build the model.",
    ),
]
Rules = Annotated[str | None, typer.Option(help="Rule set, as `visavis rules` lists them; else what fits the model.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; by itself the best there is.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for a program to read.")]


@app.command()
def explain(
    photos: Photos,
    model: Model = DEFAULT_MODEL,
    target: Annotated[str | None, typer.Option(help="Class to explain: name, index, WordNet id; else the top.")] = None,
    foil: Annotated[
        str | None,
        typer.Option(help=f"The contrast: {', '.join(FOILS)}, or classes, with ; between; else the method's own."),
    ] = None,
    method: Annotated[str, typer.Option(help="As `visavis methods` lists them.")] = "clrp",
    rules: Rules = None,
    layer: Annotated[str | None, typer.Option(help="Explain a unit of this layer instead of a class.")] = None,
    unit: Annotated[int | None, typer.Option(help="The unit; else the layer's strongest.")] = None,
    position: Annotated[
        str | None, typer.Option(help="Where in the layer's map, as y,x, or a token's number; else everywhere.")
    ] = None,
    signed: Annotated[bool, typer.Option("--signed", help="Show also what speaks for the foil.")] = False,
    normalize: Annotated[str | None, typer.Option(help="none, or sum: each map by its own sum first.")] = None,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Print also which calls of the model absorbed relevance on its way.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File for one photograph, folder for several."),
    ] = None,
    weights: Weights = None,
    labels: LabelFile = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    device: Device = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Photographs explained at a time; else 16 on a GPU, 1 on a CPU."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain why the model says one class, and not another, of each photograph: one panel each."""
    pictures = find_pictures(photos)
    several = len(pictures) > 1 or any(Path(photo).is_dir() for photo in photos)
    places = _places(pictures, output, several)
    options: dict[str, Any] = {"signed": True} if signed else {}
    if normalize is not None:
        options["normalize"] = normalize
    versus, where = _foil(foil, layer), _position(position)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    results: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    try:
        # Results may go to a file while progress goes to the terminal: only there may the two share it.
        with _progress(several and not as_json) as progress:
            task = progress.add_task("Explaining", total=len(pictures))

            def passed_over(picture: Path, error: vv.VisavisError) -> None:
                # One such photograph does not cost the others theirs; what is wrong for all ends the run.
                failures.append({"photo": str(picture), "error": str(error)})
                progress.advance(task)

            explained = vv.explain_each(
                classifier,
                pictures,
                target,
                versus,
                # Of several pictures a ledger is kept together.
                batch_size=1 if ledger else batch_size,
                on_error=passed_over if several else None,
                method=method,
                rules=rules,
                layer=layer,
                unit=unit,
                position=where,
                **options,
            )
            place_of = dict(zip(pictures, places, strict=True))
            while True:
                with running(classifier, model, size):
                    picture, why = next(explained, (None, None))
                if picture is None or why is None:
                    break
                place = place_of[picture]
                progress.advance(task)
                if several:
                    make_folder(place.parent)
                why.save(place)
                results.append({"photo": str(picture), "panel": str(place)} | _single(why, ledger))
                if not as_json:
                    out.print(_said(why, place), soft_wrap=True, highlight=False)
                if ledger and not as_json:
                    out.print(_plain_lines(_ledger(why)), soft_wrap=True, highlight=False)
    finally:
        if as_json and (results or failures):
            _print_json({"results": results, "failures": failures})
        for failure in failures:
            named = failure["photo"] in failure["error"]
            said = failure["error"] if named else f"{failure['photo']}: {failure['error']}"
            err.print(f"[bold]skipped[/bold] {plain(said)}", soft_wrap=True, highlight=False)
    if failures:
        err.print(f"{len(results)} explained, {len(failures)} skipped", highlight=False)
        raise typer.Exit(1)


@app.command()
def compare(
    photo: Photo,
    model: Model = DEFAULT_MODEL,
    top: Annotated[int, typer.Option(min=1, max=20, help="How many of the strongest classes.")] = 5,
    targets: Annotated[
        list[str] | None, typer.Option("--target", help="A class; give it several times.", show_default=False)
    ] = None,
    rules: Rules = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="File.", show_default=False)] = None,
    weights: Weights = None,
    labels: LabelFile = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Compare what the strongest classes of a photograph each rest on: one row a class."""
    picture = Path(photo)
    place = Path(output) if output is not None else Path(f"{picture.stem}-compared.png")
    check_output(place, identities([picture]), FIGURES)
    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    with running(classifier, model, size):
        comparison = vv.compare(classifier, picture, targets or None, top=top, rules=rules)
    comparison.save(place)
    if as_json:
        _print_json({"photo": str(picture), "panel": str(place)} | comparison.as_dict())
        return
    table = Table("class", "index", "probability", "reached the pixels", box=None)
    for answer, share in zip(comparison.answers, comparison.conserved, strict=True):
        table.add_row(
            plain(answer.name), str(answer.index), f"{100 * answer.probability:.1f} %", f"{100 * float(share):.0f} %"
        )
    out.print(table)
    out.print(f"written: {plain(str(place))}", soft_wrap=True, highlight=False)


@app.command()
def models(
    pattern: Annotated[str | None, typer.Argument(help="Show only names that contain this.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that can be explained by name."""
    listed = [name for name in vv.models() if (pattern or "").lower() in name.lower()]
    if not listed:
        raise InputError(f"no model's name contains {pattern!r}; `visavis models` lists them all")
    if as_json:
        _print_json(listed)
        return
    for name in listed:
        out.print(plain(name), soft_wrap=True, highlight=False)
    if out.is_terminal:
        err.print("[dim]and hf:OWNER/NAME, image classifiers of Hugging Face[/dim]", highlight=False)
        err.print("[dim]and MODULE:FUNCTION, code of your own that builds a model[/dim]", highlight=False)


@app.command()
def methods(as_json: AsJson = False) -> None:
    """List the methods."""
    _print_pairs(vv.methods(), ("method", "is"), as_json)


@app.command()
def rules(as_json: AsJson = False) -> None:
    """List the rule sets."""
    _print_pairs(vv.rule_sets(), ("rule set", "is"), as_json)


@app.command()
def plan(
    model: Model = DEFAULT_MODEL,
    rules: Rules = None,
    photo: Annotated[str | None, typer.Option(help="A photograph to run on; else a grey one.")] = None,
    weights: Weights = None,
    labels: LabelFile = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Print which rule goes to which call in which module."""
    import PIL.Image

    classifier = load(model, device, options_of(weights, labels, size, mean, std))
    source = Path(photo) if photo is not None else PIL.Image.new("RGB", (256, 256), "grey")
    with running(classifier, model, size):
        planned = vv.LRP(classifier, rules=rules).plan(classifier.prepare(source))
    if as_json:
        _print_json({"rules": planned.rules, "calls": planned.rows()})
    else:
        out.print(str(planned), soft_wrap=True, highlight=False, markup=False)


@app.command()
def demo(
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for the panel.")] = "demo-output",
    device: Device = None,
) -> None:
    """Explain a cat and a cup of espresso in one picture: offline, real pixels, real ImageNet weights."""
    from visavis.demo import run_demo

    place, why = run_demo(Path(output), device)
    out.print(_said(why, place), soft_wrap=True, highlight=False)


app.command()(benchmark_commands.benchmark)
app.command()(benchmark_commands.report)
app.command()(unit_commands.units)
app.command()(unit_commands.decide)
app.command()(vector_commands.vectors)
app.add_typer(shape_texture_commands.app, name="shape-texture")


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.", is_eager=True)] = False,
) -> None:
    """Take what stands before the command."""
    if version:
        out.print(f"visavis {vv.__version__}", highlight=False)
        raise typer.Exit


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show is shown escaped, and is no reason to end.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(standalone_mode=True)
    except VisavisError as error:
        _complain(str(error))
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has left, as `| head` does.
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 (whatever it is, it ends in one sentence)
        if isinstance(error, OSError) and error.filename is None:
            _complain(f"the results cannot be written ({error})")
            sys.exit(1)
        _complain(f"an error that was not foreseen, {raised(error)}")
        sys.exit(1)


def _complain(sentence: str) -> None:
    err.print(f"[bold red]visavis:[/bold red] {plain(sentence)}", soft_wrap=True, highlight=False)


def _places(pictures: list[Path], output: str | None, several: bool) -> list[Path]:
    """Return where each panel goes, all checked before any work is done."""
    if not several:
        place = Path(output) if output is not None else Path(f"{pictures[0].stem}-why.png")
        check_output(place, identities(pictures), (*FIGURES, WHOLE))
        return [place]
    folder = Path(output if output is not None else "explanations")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{str(folder)!r} is a file, but several panels go to a folder; name one with -o")
    names: set[str] = set()
    places: list[Path] = []
    for picture in pictures:
        # File systems take names of 255 bytes; a few are kept for what is added.
        stem = picture.stem.encode(errors="surrogateescape")[:200].decode(errors="ignore")
        name, count = stem, 2
        while f"{name}-why.png" in names:
            name, count = f"{stem}-{count}", count + 1
        names.add(f"{name}-why.png")
        places.append(folder / f"{name}-why.png")
    if folder.exists():
        own = identities(pictures)
        for place in places:
            check_output(place, own, FIGURES)
    return places


def _foil(foil: str | None, layer: str | None) -> Any:
    if foil is None:
        return None
    parts = [part.strip() for part in foil.split(";") if part.strip()]
    if not parts:
        raise InputError(f"--foil is empty; name a class, or one of {', '.join(FOILS)}")
    chosen: list[Any] = [int(part) if layer is not None and part.isdecimal() else part for part in parts]
    return chosen[0] if len(chosen) == 1 else chosen


def _position(position: str | None) -> list[int] | None:
    if position is None:
        return None
    try:
        return [int(part) for part in position.strip().removesuffix(",").split(",")]
    except ValueError:
        raise InputError(
            f"--position is two numbers such as 3,5 (y,x), or one such as 17 among tokens, not {position!r}"
        ) from None


def _progress(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not shown,
        redirect_stdout=sys.stdout.isatty(),
    )


def _single(why: Explanation, ledger: bool) -> dict[str, Any]:
    described = why.as_dict()
    single = {**described["pictures"][0], "settings": described["settings"]}
    return single | {"ledger": None if why.ledger is None else why.ledger.as_dict()} if ledger else single


def _ledger(why: Explanation) -> str:
    if why.ledger is None:
        return f"There is no ledger: {why.settings['method']} conserves nothing that could be absorbed."
    return str(why.ledger)


def _said(why: Explanation, place: Path) -> str:
    target = why.targets[0]
    lines = [f"[bold]{plain(why.question())}[/bold]"]
    for answer in why.classes():
        mark = " ← explained" if answer.index == target.index and why.settings.get("explains") == "class" else ""
        lines.append(f"  {100 * answer.probability:5.1f} %  {plain(answer.name)}{mark}")
    if why.conserved is not None:
        share = float(why.conserved[0])
        rest = said_of_the_rest(share)
        rest = f"; {rest} (--ledger says where)" if rest and why.ledger is not None else ""
        lines.append(f"  {percent_of(share)} of the relevance reached the pixels{rest}")
    lines.append(f"written: {plain(str(place))}")
    return "\n".join(lines)


def _print_pairs(pairs: dict[str, str], head: tuple[str, str], as_json: bool) -> None:
    if as_json:
        _print_json(pairs)
        return
    table = Table(*head, box=None)
    for name, description in pairs.items():
        table.add_row(plain(name), plain(description))
    out.print(table)


def _plain_lines(text: str) -> str:
    return "\n".join(plain(line) for line in text.split("\n"))


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2))  # noqa: T201

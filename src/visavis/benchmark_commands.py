"""`visavis benchmark` and `visavis report`: measure methods on a data set of one's own, and read what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visavis.errors import InputError
from visavis.model_arguments import LabelFile, Mean, Size, Std, Weights, options_of
from visavis.models import source_of
from visavis.terminal import bar, note, note_of_own_code, note_skipped, out, plain

_METHODS = "clrp,lrp,deep-taylor,gradient"

Show = Annotated[
    str | None,
    typer.Option(
        help="The metric by which the best, median and worst cases are shown as pictures, or none; else energy-in-box, "
        "or the first."
    ),
]


def benchmark(
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="KIND:FOLDER, or KIND:FOLDER?option=value&option=value.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder for the results; the same words take up a run that was ended.")
    ],
    models: Annotated[
        list[str], typer.Option("--models", "-m", help="As `visavis models` lists them, with commas between.")
    ] = ["efficientnet_lite0"],  # noqa: B006 (typer reads it, and nothing changes it)
    methods: Annotated[
        list[str],
        typer.Option(help="As `visavis methods` lists them; with options as clrp:foil=runner-up,rules=deep-taylor."),
    ] = [_METHODS],  # noqa: B006
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="With commas between; else all but cost, which is not the same at every run."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many pictures, drawn at random; else all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw, and of all that is random in metrics.")] = 0,
    classes: Annotated[
        str,
        typer.Option(
            help="Explained: present, each annotated; recognised, those at 1 % or more; predicted, the model's."
        ),
    ] = "present",
    channels: Annotated[
        str, typer.Option(help="sum: a map sums its channels, signed; magnitude: the largest |value| of them.")
    ] = "sum",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; by itself the best there is.")] = None,
    show: Show = None,
    weights: Weights = None,
    labels: LabelFile = None,
    size: Size = None,
    mean: Mean = None,
    std: Std = None,
) -> None:
    """Measure methods, and baselines that ignore the network, on models over a data set; resumes where it was ended."""
    from visavis.benchmarking.benchmark import benchmark as run
    from visavis.benchmarking.benchmark import usual_metrics
    from visavis.benchmarking.results import counts
    from visavis.evaluation.spelling import split
    from visavis.reports.report import shown_metric, write_report
    from visavis.reports.words import nothing

    names = split(models)
    measured = usual_metrics() if metrics is None else split(metrics)
    shown_metric(measured, show)
    options = options_of(weights, labels, size, mean, std)
    for name in names:
        if source_of(name)[0].runs_code:
            note_of_own_code(name, "--models")
    try:
        with bar("Measuring") as told:
            run(
                dataset,
                names,
                split(methods),
                measured,
                output,
                limit=limit,
                seed=seed,
                classes=classes,
                channels=channels,
                device=device,
                options=options,
                progress=told,
            )
    except KeyboardInterrupt:
        note(f"ended; what is finished is kept in {output}, and the same command goes on from there")
        raise
    found = counts(output)
    for name in names:
        skipped = found.unusable[name]
        out.print(
            f"{plain(name)}: {found.cases[name]} cases in {found.pictures[name]} pictures, {len(skipped)} skipped, "
            f"{sum(found.reasons[name].values())} classes in pictures passed over",
            soft_wrap=True,
            highlight=False,
        )
        note_skipped(skipped, "report")
    with bar("Drawing") as told:
        places = write_report(output, show=show, runs_code=True, progress=told)
    _written(places)
    empty = [nothing(found, name) for name in names]
    if all(empty):
        raise InputError(empty[0])


def report(
    folder: Annotated[str, typer.Argument(help="The folder of a benchmark's results.", show_default=False)],
    show: Show = None,
) -> None:
    """Write what a benchmark found, so far, as Markdown, LaTeX and one page of HTML."""
    from visavis.reports.report import markdown, report_of, write_report

    if not Path(folder).is_dir():
        raise InputError(f"there is no folder {folder!r}; name that of a benchmark's results")
    out.print(markdown(report_of(folder)), markup=False, soft_wrap=True, highlight=False)
    with bar("Drawing") as told:
        places = write_report(folder, show=show, progress=told)
    _written(places)


def _written(places: dict[str, Path]) -> None:
    for place in places.values():
        out.print(f"written: {plain(str(place))}", soft_wrap=True, highlight=False)

"""`visavis vectors`: what would make a classifier of table rows change its mind about one of them?"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from visavis.errors import InputError, ModelError, SameClassError, VisavisError
from visavis.files import FIGURES, check_output, identities
from visavis.models.own_code import raised
from visavis.terminal import err, note, out, plain

# More of either says no more.
_MOST_SAMPLED, _MOST_DRAWS = 1_000_000, 100_000

if TYPE_CHECKING:
    from visavis.blackbox import ExplanationVectors, Vectors
    from visavis.blackbox.forest import Validated
    from visavis.blackbox.tables import Table


def vectors(
    table: Annotated[str, typer.Argument(help="A table: .csv, UTF-8, with column names, or .parquet.")],
    row: Annotated[int, typer.Option(min=0, help="The row to explain, from 0: the first below the column names.")],
    target: Annotated[
        str | None,
        typer.Option(help="The column that holds the class; with --model it may be left out.", show_default=False),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="Columns to go by, with commas between, or given several times; else all that are numbers."),
    ] = None,
    foil: Annotated[
        str | None, typer.Option(help="Why its class and not this one? A class, runner-up, or others.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="An estimator, as skops.io.dump writes it; else a random forest is fitted."),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(help="A type that the estimator's file may hold, by its full name; give it several times."),
    ] = None,
    gradients: Annotated[
        str, typer.Option(help="auto: exact where they are known, else of a mimic; exact; or mimic.")
    ] = "auto",
    sample: Annotated[
        int,
        typer.Option(
            min=0,
            max=_MOST_SAMPLED,
            help="The classifier labels so many more rows around this one, for its mimic; 0: it goes by the table's.",
        ),
    ] = 1000,
    draws: Annotated[
        int,
        typer.Option(min=0, max=_MOST_DRAWS, help="Of the bootstrap that gives the intervals; 0: no intervals."),
    ] = 1000,
    most: Annotated[int, typer.Option(min=1, max=60, help="How many features are shown at most.")] = 15,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of all that is drawn at random.")] = 0,
    output: Annotated[str | None, typer.Option("--output", "-o", help="File of the picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document for a program to read.")] = False,
) -> None:
    """Explain what a classifier says of one row of a table: which features would make it change its mind."""
    from visavis.blackbox import ExplanationVectors, LowAgreementWarning
    from visavis.blackbox.forest import validated_forest
    from visavis.blackbox.stored import load_estimator
    from visavis.blackbox.tables import read_table
    from visavis.plotting.saving import save_figure
    from visavis.reports.vectors.bars import bars_figure

    file = Path(table)
    stem = file.stem.encode(errors="surrogateescape")[:200].decode(errors="ignore")
    which = "" if foil is None else "-not-" + "".join(one if one.isalnum() else "-" for one in foil)[:40]
    place = Path(output) if output is not None else Path(f"{stem}-row-{row}{which}-vectors.png")
    read = identities([file, *([Path(model)] if model is not None else [])])
    check_output(place, read, FIGURES, "what is read")
    if draws == 1:
        raise InputError("--draws is 1, but 0 or at least 2 were expected")
    named = features or None
    if model is None and target is None:
        raise InputError("name the column that holds the class with --target, or an estimator with --model")
    estimator: Any = None
    if model is not None:
        estimator = load_estimator(model, trust or ())
        named = _features_of(estimator, named, model)
    data = read_table(file, target, named)
    at = data.place_of(row)
    _note_left_out(data)
    validated = None
    if estimator is None:
        assert data.labels is not None
        _check_range(data)
        with _at_work("fitting and cross-validating a random forest"):
            validated = validated_forest(data.rows, data.labels, seed)
        estimator = validated.forest
    _check_width(estimator, data, model)
    framed = _framing(estimator, data)
    rows, shown = framed(data.rows), framed(data.rows[[at]])
    try:
        # What an estimator prints is no result of ours.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            # What they say of this one row is said below in the shell's words.
            warnings.simplefilter("ignore", LowAgreementWarning)
            with _at_work("labelling rows, and fitting a mimic to them"):
                explained = ExplanationVectors(estimator, gradients=gradients, random_state=seed).fit(rows)
                if sample and explained.mimic_ is not None:
                    explained.sample(sample, near=shown)
            with _at_work("explaining"):
                if foil is None:
                    found = explained.explain(shown, draws=draws)
                else:
                    found = explained.contrast(shown, foil, draws=draws)
                own = _own_probability(estimator, shown, found)
        found = replace(found, names=data.features)
    except SameClassError as error:
        raise SameClassError(f"row {row} is called {foil!r} itself; choose another foil") from error
    except VisavisError:
        raise
    except MemoryError as error:
        raise InputError("there is not enough memory for that; ask for fewer rows or draws") from error
    except Exception as error:
        if model is None:
            raise
        raise ModelError(f"the estimator of '{model}' failed on rows of '{data.name}', {raised(error)}") from error
    save_figure(bars_figure(found, most=most), place)
    if as_json:
        document = _as_dict(found, explained, data, at, row, validated, place) | {"own_probability": own}
        typer.echo(json.dumps(document, ensure_ascii=False))
        _note_doubts(found, explained, sample)
        return
    for line in _said(found, explained, data, at, row, validated, most, own):
        out.print(plain(line), soft_wrap=True, highlight=False)
    out.print(f"written: {plain(str(place))}", soft_wrap=True, highlight=False)
    _note_doubts(found, explained, sample)


@contextlib.contextmanager
def _at_work(what: str) -> Iterator[None]:
    """Say on a terminal what is being done."""
    with err.status(f"{what} …") if err.is_terminal else contextlib.nullcontext():
        yield


def _own_probability(estimator: Any, shown: Any, found: Vectors) -> float | None:
    """Return the probability that the classifier itself gives the class that is explained; None where it gives none."""
    if found.exact or not callable(getattr(estimator, "predict_proba", None)):
        return None
    classes = np.asarray(estimator.classes_).tolist()
    target = found.targets[0].item() if hasattr(found.targets[0], "item") else found.targets[0]
    return float(estimator.predict_proba(shown)[0, classes.index(target)]) if target in classes else None


def _features_of(estimator: Any, named: list[str] | None, model: str) -> list[str] | None:
    """Return the columns that an estimator was fitted to, where it knows their names."""
    known = getattr(estimator, "feature_names_in_", None)
    if known is None or np.ndim(known) != 1:
        return named
    own = [str(one) for one in known]
    given = None if named is None else [part.strip() for text in named for part in text.split(",")]
    if named is not None and own not in (named, given):
        raise InputError(f"the estimator of '{model}' goes by {', '.join(own[:12])}; leave --features out")
    return own


def _check_width(estimator: Any, data: Table, model: str | None) -> None:
    width = getattr(estimator, "n_features_in_", None)
    if isinstance(width, Integral) and width != len(data.features):
        raise InputError(
            f"the estimator of '{model}' goes by {width} features, but '{data.name}' has {len(data.features)} that are "
            "numbers; name them with --features, and its class with --target"
        )


def _framing(estimator: Any, data: Table) -> Callable[[Any], Any]:
    """Return what makes of an array the data frame that an estimator with names of features was fitted to."""
    from visavis.blackbox.rows import Frame

    if np.ndim(getattr(estimator, "feature_names_in_", 0)) != 1:
        return lambda rows: rows
    try:
        import pandas as pd  # type: ignore[import-untyped]
    except ImportError:
        return lambda rows: rows
    return Frame(pd.DataFrame, data.features)


def _check_range(data: Table) -> None:
    """Refuse what a forest, which counts in float32, cannot hold."""
    wrong = np.flatnonzero(np.abs(data.rows).max(0) > np.finfo(np.float32).max / 1e3)
    if len(wrong):
        raise InputError(
            f"the column {data.features[wrong[0]]!r} holds values beyond 3.4e35; divide it, or leave it out"
        )


def _note_left_out(data: Table) -> None:
    gone = data.total - len(data.rows)
    if gone:
        note(f"{gone} of {data.total} rows lack a value, and are left out")
    if data.left_out:
        names = ", ".join(f"{name[:60] or 'without a name'} ({kind})" for name, kind in data.left_out[:8])
        more = f" and {len(data.left_out) - 8} more" if len(data.left_out) > 8 else ""
        note(f"columns that are no numbers are left out: {names}{more}")


def _note_doubts(found: Vectors, explained: ExplanationVectors, sample: int) -> None:
    """Say where the mimic differs from the classifier."""
    low = found.agreement[0] < explained.threshold
    if found.exact or (found.agrees[0] and not low):
        return
    doubts = []
    if low:
        doubts.append(
            f"agrees with the classifier in {_percent(found.agreement[0])} of the places asked around this row"
        )
    if not found.agrees[0]:
        doubts.append("calls this row itself otherwise")
    advice = f"; --sample {min(max(1000, 5 * sample), _MOST_SAMPLED)} shows it more rows like this one"
    note(f"the mimic {' and '.join(doubts)}, so the vector explains the mimic more than the classifier{advice}")


def _said(
    found: Vectors,
    explained: ExplanationVectors,
    data: Table,
    at: int,
    row: int,
    validated: Validated | None,
    most: int,
    own_probability: float | None,
) -> list[str]:
    """Return what was found, in words."""
    from visavis.plotting.lettering import percent
    from visavis.reports.style import said as spelled

    own = "" if data.labels is None else f", and its {data.target} is {data.labels[at]}"
    whose = "a random forest" if validated is not None else "the estimator"
    lines = [f"Row {row} of {data.name}: {whose} says {found.said[0]}{own}"]
    if validated is not None and validated.said is not None:
        lines.append(
            f"  a forest that has not seen it says {validated.said[at]}; cross-validated, such are right in "
            f"{_percent(validated.accuracy)} of rows (mean over classes {_percent(validated.balanced)}; the most "
            f"frequent class {_percent(validated.majority)})"
        )
    elif validated is not None:
        lines.append("  not cross-validated: a class has a single row")
    if explained.mimic_ is None:
        lines.append(f"  gradients: {found.source}")
    else:
        around = "" if math.isnan(found.agreement[0]) else f", of places around this row {_percent(found.agreement[0])}"
        lines.append(
            f"  gradients: {found.source}; of rows that are left out in turn it calls {_percent(explained.agreement_)} "
            f"as the classifier does{around}"
        )
    if own_probability is not None:
        mimicked = found.probabilities[0, found.classes.tolist().index(found.targets[0])]
        lines.append(
            f"  P({found.targets[0]}) is {percent(own_probability)} by the classifier itself, "
            f"{percent(float(mimicked))} by its mimic, which goes by labels alone"
        )
    if found.flat[0] and math.isnan(found.directions[0, 0]):
        lines.append("  nothing changes it here, to second order either")
        return lines
    if found.flat[0]:
        values, between = found.directions[0], None
        lines.append(
            f"  the gradient is next to zero here; the direction along which {found.quantity(0)} bends most, the way "
            "it rises, in standard deviations:"
        )
    else:
        values, between = found.speaks_for[0], found.speaks_between(0)
        other = f"against {found.targets[0]}" if found.foils is None else f"for {found.foils[0]}"
        lines.append(
            f"  change of {found.speaks_of(0)} per standard deviation more of each feature; above 0 speaks for "
            f"{found.targets[0]}, below {other}:"
        )
    order = np.argsort(-np.abs(values), kind="stable")[:most].tolist()
    wide = max(len(found.names[place]) for place in order)
    for place in order:
        ends = "" if between is None else f"  ({spelled(between[0][place])} to {spelled(between[1][place])})"
        lines.append(f"    {found.names[place].ljust(wide)}  {spelled(float(values[place])).rjust(9)}{ends}")
    return lines


def _as_dict(
    found: Vectors,
    explained: ExplanationVectors,
    data: Table,
    at: int,
    row: int,
    validated: Validated | None,
    place: Path,
) -> dict[str, Any]:
    """Return what was found, for a program: numbers that are not there are null."""
    mimic = explained.mimic_
    return {
        "table": data.name,
        "row": row,
        "said": _json_value(found.said[0]),
        "label": None if data.labels is None else _json_value(data.labels[at]),
        "kind": found.kind,
        "target": _json_value(found.targets[0]),
        "foil": None if found.foils is None else _json_value(found.foils[0]),
        "quantity": found.quantity(0),
        "probabilities": {
            str(name): _json_value(p) for name, p in zip(found.classes, found.probabilities[0], strict=True)
        },
        "exact": found.exact,
        "source": found.source,
        "bandwidth": None if mimic is None else _json_value(mimic.bandwidth_),
        "agreement": None if mimic is None else _json_value(mimic.agreement_),
        "agreement_around": _json_value(found.agreement[0]),
        "agrees": bool(found.agrees[0]),
        "flat": bool(found.flat[0]),
        "curvature": _json_value(found.curvatures[0]),
        "cross_validated": None
        if validated is None
        else {
            "said": None if validated.said is None else _json_value(validated.said[at]),
            "accuracy": _json_value(validated.accuracy),
            "balanced": _json_value(validated.balanced),
            "majority": _json_value(validated.majority),
        },
        "features": [
            {
                "name": part.name,
                "at": _json_value(part.at),
                "value": _json_value(part.value),
                "per_deviation": _json_value(part.per_deviation),
                "speaks_for": _json_value(-part.per_deviation if found.foils is None else part.per_deviation),
                "low": _json_value(part.low),
                "high": _json_value(part.high),
                "direction": _json_value(found.directions[0, found.place_of(part.name)]),
            }
            for part in found.strongest(0)
        ],
        "picture": str(place),
    }


def _json_value(value: Any) -> Any:
    """Return a value as JSON has it: NaN and what is not there as null."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


__all__ = ["vectors"]

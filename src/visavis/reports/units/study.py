"""A study of units as one page of HTML, and as a table."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from matplotlib.figure import Figure
from pyarrow import parquet
from torch import Tensor

from visavis.errors import InputError, VisavisError
from visavis.plotting import figure_bytes
from visavis.reports.document import document, folded, pairs, paragraph, picture, shown_text
from visavis.reports.units.card import ClassDrop, unit_card
from visavis.reports.units.curves import CurvePanel, cumulative_curves
from visavis.reports.units.heatmap import importance_heatmap
from visavis.reports.units.scatter import Compared, attribute_scatter
from visavis.reports.units.texts import by_confidence, class_drops, command, in_short, lead, ranges, table
from visavis.reports.units.window import Glimpse, spot_of
from visavis.run_folder import put, refuse_link
from visavis.unit_runs.pictures import batches
from visavis.unit_runs.run import Found, Progress
from visavis.units.attributes import Related, attribute, attributes, related
from visavis.units.cards import Seen, unit_cards

PAGE, TABLE = "units.html", "units.parquet"
#: So many cards a page has, and so many pictures a card.
CARDS, PICTURES = 12, 6
_ORDERS = "Descending: the units with the largest value first; the order is of the same pictures."
# A map that holds a smaller share of the unit's activation is none.
_ARRIVED = 1e-3


def write_units(found: Found, folder: Path, *, cards: int = CARDS, progress: Progress | None = None) -> dict[str, Path]:
    """Write what a study has found into its folder: a page, and a table with a row for each unit.

    Args:
        found: the study.
        folder: where.
        cards: of how many units there is a card, those that hit a class hardest; 0: none.
        progress: told as cards are made.

    Returns:
        where each was written, "page" and "table".

    Raises:
        OutputError: a file cannot be written.
    """
    names = names_of(found)
    values = {one.name: _values(found, one.name) for one in attributes()}
    known = {name: value for name, value in values.items() if value is not None and not bool(value.isinf().any())}
    places = {"table": folder / TABLE, "page": folder / PAGE}
    for place in places.values():
        refuse_link(place)
    put(places["table"], _table(found, names, known))
    put(places["page"], page(found, names, known, cards, progress).encode("utf-8", "xmlcharrefreplace"))
    return places


def names_of(found: Found) -> list[str]:
    """Return what the model's classes are called; their numbers where they have no names."""
    labels = found.classifier.labels
    count = len(found.singly.counts)
    return [f"class {k}" for k in range(count)] if labels is None else [labels[k] for k in range(count)]


def page(
    found: Found, names: Sequence[str], values: dict[str, Tensor], cards: int, progress: Progress | None = None
) -> str:
    """Return one page of HTML with all that a study has found; it asks for no other file or address.

    Args:
        found: the study.
        names: of the model's classes.
        values: of the attributes by name, each (units,).
        cards: as for `write_units`.
        progress: as for `write_units`.
    """
    one = found.singly
    of_classes, measure = class_drops(found)
    overall = one.confidence_drops if by_confidence(found) else one.drops
    hardest = of_classes.nan_to_num(nan=-1.0).amax(1)
    rows = hardest.argsort(descending=True, stable=True).tolist()
    compared = {name: _related(of[list(found.units)], overall, hardest) for name, of in values.items()}
    parts = [paragraph(lead(found)), f"<pre>{shown_text(command(found.words))}</pre>", "<h2>In short</h2>"]
    titled = {attribute(name).title: pair for name, pair in compared.items()}
    parts.append(f"<ul>{''.join(f'<li>{shown_text(line)}</li>' for line in in_short(found, names, titled))}</ul>")
    layer = found.layer.path
    present = (one.counts > 0).nonzero().flatten().tolist()
    drawn: list[tuple[str, str, Figure]] = [
        (
            "Which class needs which unit",
            "heat map of class drops, units by classes",
            importance_heatmap(
                of_classes[:, present], found.units, [names[k] for k in present], layer=layer, measure=measure
            ),
        ),
        (
            "Several at once",
            "accuracy against the number of units removed",
            cumulative_curves([_panel(found)], layer=layer, note=_ORDERS),
        ),
    ]
    if len(found.units) > 2 and compared:
        shown = [
            Compared(attribute(name).title, values[name][list(found.units)], *pair) for name, pair in compared.items()
        ]
        scatter = attribute_scatter(shown, overall, hardest, found.units, layer=layer, measure=measure)
        drawn.append(("Can one tell beforehand?", "drops against attributes, a point a unit", scatter))
    for title, alt, figure in drawn:
        parts += [f"<h2>{shown_text(title)}</h2>", picture(figure_bytes(figure, ".png"), ".png", alt)]
    if cards:
        parts.append("<h2>The units that classes need most</h2>")
        parts += _cards(found, names, values, rows[:cards], of_classes, measure, progress)
    parts += ["<h2>All units</h2>", folded("The table", table(found, names, rows, of_classes, measure))]
    if found.passed:
        items = "".join(f"<li>{shown_text(f'{name}: {reason}')}</li>" for name, reason in found.passed)
        parts.append(folded("Pictures that were passed over", f"<ul>{items}</ul>"))
    sources = {one.title: one.source for one in attributes() if one.name in values}
    parts.append(folded("What the attributes are, and where they come from", pairs(sources)))
    parts.append(folded("The run", pairs(_told(found.words))))
    return document(f"The units of {found.layer.path} in {found.words['model']}", parts)


def _told(words: Mapping[str, Any]) -> dict[str, str]:
    """Return the words of a run as a table has them: without what was not asked for."""
    told = {name: str(value) for name, value in words.items() if value is not None and value is not False}
    return told if words["units"] is None else told | {"units": ranges(words["units"])}


def _panel(found: Found) -> CurvePanel:
    lines = {name: one.accuracies.view(-1, len(found.counts)) for name, one in found.curves.items()}
    title = f"All {len(found.activations.maximum)} units, in the order of {attribute(found.ordered_by).title}"
    chance = 1 / len(found.singly.counts)
    return CurvePanel(title, found.counts, lines, found.singly.accuracy, chance)


def _cards(
    found: Found,
    names: Sequence[str],
    values: dict[str, Tensor],
    rows: Sequence[int],
    of_classes: Tensor,
    measure: str,
    progress: Progress | None,
) -> Iterator[str]:
    """Yield the cards of some of the units that were ablated, as HTML."""
    chosen = [found.units[row] for row in rows]

    def data() -> Iterator[tuple[Tensor, Tensor]]:
        size = int(found.words["pictures a batch"])
        taken = batches(found.dataset, found.chosen, size, found.classifier, found.classes, lambda *_: None)
        for _, batch in taken:
            if batch is not None:
                yield batch.inputs, batch.labels

    def told(done: int) -> None:
        if progress is not None:
            progress(done, len(found.chosen), "cards")

    try:
        seen = unit_cards(found.classifier, found.layer, data(), chosen, count=PICTURES, progress=told)
        shown = [
            _card(*each, found, names, values, of_classes, measure) for each in zip(rows, chosen, seen, strict=True)
        ]
    except VisavisError as error:
        # What was measured stands, whatever stands in the way of pictures.
        yield paragraph(f"There are no pictures of what units respond to: {error}.")
        return
    yield from shown


def _card(
    row: int,
    unit: int,
    of_unit: Sequence[Seen],
    found: Found,
    names: Sequence[str],
    values: dict[str, Tensor],
    of_classes: Tensor,
    measure: str,
) -> str:
    """Return the card of a unit, as HTML."""
    drops = of_classes[row].nan_to_num(nan=-1.0)
    most = drops.argsort(descending=True, stable=True)[:3].tolist()
    classes = [ClassDrop(names[k], float(drops[k])) for k in most]
    facts = [(attribute(name).title, float(of[unit])) for name, of in values.items() if of[unit] == of[unit]]
    figure = unit_card(
        unit,
        found.layer.path,
        classes,
        [_glimpse(one, names) for one in of_unit],
        facts=facts,
        drop=float(found.singly.drops[row]),
        measure=measure,
    )
    return picture(figure_bytes(figure, ".jpg"), ".jpg", f"unit {unit}: what it responds to, and which class needs it")


def _glimpse(one: Seen, names: Sequence[str]) -> Glimpse:
    firing = one.firing
    height, width = one.picture.shape[-2:]
    spot = spot_of(firing.position, firing.positions, (height, width))
    label = "" if firing.label is None else names[firing.label]
    # Drawn by its own scale, a map of next to nothing would look like any other.
    arrived = float(one.heat.sum()) > _ARRIVED * abs(firing.value)
    return Glimpse(one.picture, one.field, spot, one.heat if arrived else None, label, firing.value)


def _values(found: Found, name: str) -> Tensor | None:
    """Return an attribute of all of a layer's units; None where it has none."""
    try:
        return attribute(name).of(found.activations)
    except InputError:
        return None


def _related(values: Tensor, overall: Tensor, hardest: Tensor) -> tuple[Related, Related]:
    return related(values, overall, draws=1_000), related(values, hardest, draws=1_000)


def _table(found: Found, names: Sequence[str], values: dict[str, Tensor]) -> bytes:
    """Return a Parquet file with a row for each unit that was ablated."""
    one = found.singly
    ends = one.intervals(draws=2_000)
    columns: dict[str, list[object]] = {
        "unit": list(found.units),
        "drop": one.drops.tolist(),
        "drop_low": ends.overall[:, 0].tolist(),
        "drop_high": ends.overall[:, 1].tolist(),
        "confidence_drop": one.confidence_drops.tolist(),
        **_hits("hit", one.class_drops, found, names),
        "max_drop": one.max_drops.tolist(),
        "max_drop_low": ends.hardest[:, 0].tolist(),
        "max_drop_high": ends.hardest[:, 1].tolist(),
    }
    columns |= _hits("confidence_hit", one.class_confidence_drops, found, names)
    columns["max_confidence_drop"] = one.class_confidence_drops.nan_to_num(nan=-1.0).amax(1).tolist()
    columns |= {name: of[list(found.units)].tolist() for name, of in values.items()}
    stream = io.BytesIO()
    parquet.write_table(pa.table(columns), stream)
    return stream.getvalue()


def _hits(title: str, drops: Tensor, found: Found, names: Sequence[str]) -> dict[str, list[object]]:
    """Return the class that each unit hits hardest: nothing where none falls."""
    most, classes = drops.nan_to_num(nan=-1.0).max(1)
    hit = [k if drop > 0 else None for k, drop in zip(classes.tolist(), most.tolist(), strict=True)]
    return {
        title: [None if k is None else names[k] for k in hit],
        f"{title}_index": list(hit),
        f"{title}_pictures": [None if k is None else int(found.singly.counts[k]) for k in hit],
    }


__all__ = ["CARDS", "PAGE", "PICTURES", "TABLE", "names_of", "page", "write_units"]

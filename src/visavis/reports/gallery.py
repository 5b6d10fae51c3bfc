"""The part of the page that shows cases: for each method the best, the median and the worst."""

from __future__ import annotations

import base64

from visavis.reports.case_pictures import Gallery, Shown
from visavis.reports.document import shown_text
from visavis.reports.findings import Column, Report
from visavis.reports.words import arrow, number

_LEGEND = (
    "Of each pair the left is the photograph as the network sees it, with the boxes of the class; the right has the "
    "map over it, where orange speaks for the class and blue against it, each map by its own scale."
)


def gallery_part(report: Report, gallery: Gallery) -> str:
    """Return the cases of a model as HTML, or the sentence that says why there are no pictures of them."""
    column = next(
        (each for each in report.columns if (each.metric, each.key) == (gallery.metric, "")),
        Column(gallery.metric, "", gallery.metric, ""),
    )
    head = f"<h3>{shown_text(f'Best, median and worst cases by {column.title}{arrow(column)}')}</h3>"
    if not any(one.picture for row in gallery.rows.values() for one in row):
        reasons = [gallery.note, *(one.reason for row in gallery.rows.values() for one in row)]
        why = next(filter(None, reasons), "")
        return f"{head}<p>{shown_text(f'There are no pictures: {why}.')}</p>" if why else ""
    parts = [head, f"<p>{shown_text(_LEGEND)}</p>"]
    if gallery.note:
        parts.append(f"<p>{shown_text(f'Some pictures are missing: {gallery.note}.')}</p>")
    for method, row in gallery.rows.items():
        figures = "".join(_figure(one) for one in row)
        title = shown_text(report.titles.get(method, method))
        parts.append(f'<h4>{title}</h4><div class="cases">{figures}</div>')
    return "\n".join(parts)


def _figure(one: Shown) -> str:
    case = one.ranked
    named = case.label
    if one.picture is None:
        image = f"<p>{shown_text(f'No picture: {one.reason}.' if one.reason else 'No picture.')}</p>"
    else:
        if one.picture.label and one.picture.label.casefold() != named.casefold():
            named += f", explained as {one.picture.label}"
        source = base64.b64encode(one.picture.jpeg).decode()
        image = f'<img alt="{shown_text(f"{case.method}: {case.case}")}" src="data:image/jpeg;base64,{source}">'
    return (
        f"<figure>{image}<figcaption><b>{case.rank} {number(case.value)}</b> · {shown_text(named)}"
        f"<br><small>{shown_text(case.picture)}</small></figcaption></figure>"
    )


__all__ = ["gallery_part", "shown_text"]

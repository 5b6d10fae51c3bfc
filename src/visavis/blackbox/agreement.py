"""Does the mimic say what the classifier says, just there where it is asked to speak for it?

A vector is made of the rows around a point: of those that are called as it is, and of those that are not. So the
classifier is asked again on the way to the nearest of both: where the mimic puts the boundary elsewhere, or sees one
that is none, the answers differ.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from visavis.blackbox.asked import Labels
from visavis.blackbox.mimic import ParzenMimic
from visavis.blackbox.parzen import ParzenWindow, counted_chunks
from visavis.blackbox.rows import Rows


class LowAgreementWarning(UserWarning):
    """The mimic often says something else than the classifier where it is to explain it."""


def local_agreement(
    mimic: ParzenMimic, ask: Callable[[Rows], Labels], rows: Tensor, target: Tensor, probes: int, seed: int
) -> Rows:
    """Return for each row how often mimic and classifier agree around it, in [0, 1], (M,).

    Args:
        mimic: fitted.
        ask: rows → the classifier's labels.
        rows: (M, d), in the mimic's scaling.
        target: (M,), the class that each is explained for, by its place among the mimic's classes.
        probes: how often the classifier is asked for a row, at least 2: half of it on the way to the nearest rows of
            the same class, half to the nearest of another.
        seed: of where on the way.
    """
    found = np.empty(len(rows))
    # Both the kernel (M, N) and the probes (M, probes, d) must fit.
    for start, part in counted_chunks(rows, max(len(mimic.window_.points), probes * rows.shape[1])):
        here = slice(start, start + len(part))
        # Anew for each part: what is asked around a row does not depend on which others are explained.
        generator = np.random.default_rng(seed)
        places = probe_places(mimic.window_, part, target[here], probes, generator).flatten(0, 1)
        said = ask(mimic.scaling_.outside(places))
        mimicked = mimic.classes_[mimic.window_.log_probabilities(places).argmax(1).cpu().numpy()]
        found[here] = (said == mimicked).reshape(len(part), probes).mean(1)
    return found


def probe_places(
    window: ParzenWindow, rows: Tensor, target: Tensor, probes: int, generator: np.random.Generator
) -> Tensor:
    """Return places on the way from each row to its nearest neighbours of both kinds, (M, probes, d)."""
    apart = -window.log_kernel(rows)
    same = window.labels == target[:, None]
    halves = [probes - probes // 2, probes // 2]
    ends = []
    for group, count in zip((same, ~same), halves, strict=True):
        masked = apart.masked_fill(~group, torch.inf)
        nearest = masked.topk(min(count, len(window.points)), dim=1, largest=False).indices
        # Of a class with fewer rows each is gone to several times.
        again = torch.arange(count, device=rows.device) % group.sum(1, keepdim=True).clamp(min=1)
        ends.append(window.points[nearest.gather(1, again)])
    to = torch.cat(ends, 1)
    shares = torch.from_numpy(generator.random((1, probes, 1))).to(rows)
    return rows[:, None] + shares * (to - rows[:, None])


__all__ = ["LowAgreementWarning", "local_agreement", "probe_places"]

"""Does the map of a class point at the class: at its maximum, in its foreground, with all of its positive relevance?

Regions say where the class is: `region(boxes, size)` makes one from boxes, a mask is one as it is. Only positive
relevance points; a map without any has the worst value. A case whose region is empty, as after a crop that cut the
object off, has no value: NaN from the functions, no entry from `values_of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from visavis.errors import InputError
from visavis.evaluation.base import Case, Context, Metric, register_metric
from visavis.evaluation.maps import as_given, exact
from visavis.evaluation.regions import check_margin, region, widened

#: The shares of energy at which the accuracy of the energy-based pointing game is given. Which ones the paper has is
#: not known here.
SHARES = tuple(step / 20 for step in range(1, 20))
# A share of energy reaches p up to rounding, also that of float32.
_ROUNDING = 1e-6


# -- pure functions --------------------------------------------------------------------------------------------------


def pointing(heatmaps: Tensor, regions: Tensor, tolerance: float = 15.0) -> Tensor:
    """Return whether each map's maximum lies in its region or near it, (B,), 0 or 1.

    The maximum hits if the centre of its pixel is at most `tolerance` pixels from that of a pixel of the region: as if
    a disc about the maximum touched the region (Zhang et al. 2016, who allow 15 pixels of the whole picture).

    Where several pixels share the maximum, the value is the share of them that hit, which is what one of them, drawn at
    random, would score on average. So a constant map has the share of the picture that counts as a hit, and not what
    the order of its pixels happens to give. A map without a positive value misses.

    Args:
        heatmaps: (B, H, W), signed.
        regions: (B, H, W), bool.
        tolerance: in pixels of the map, 0 or more.

    Raises:
        InputError: maps and regions differ in shape, a map is not finite, or the tolerance is not from 0.
    """
    maps, where = _checked(heatmaps, regions)
    highest = maps.amax((1, 2), keepdim=True)
    maxima = (maps == highest) & (highest > 0)
    hits = (maxima & widened(where, tolerance)).sum((1, 2))
    return as_given(_known(hits / maxima.sum((1, 2)).clamp(min=1), where), heatmaps)


def clean_share(heatmaps: Tensor, regions: Tensor) -> Tensor:
    """Return the share of each map's positive relevance in pixels above every pixel outside the region, (B,), 0 to 1.

    That is the largest foreground, pixels taken from the largest down, that lies wholly within the region. A map
    passes the energy-based pointing game at p where its clean share is p or more; so it is also the area under the
    curve of that game over p from 0 to 1.

    Args:
        heatmaps: (B, H, W), signed.
        regions: (B, H, W), bool.

    Raises:
        InputError: maps and regions differ in shape, or a map is not finite.
    """
    maps, where = _checked(heatmaps, regions)
    positive = maps.clamp(min=0)
    outside = positive.masked_fill(where, 0).amax((1, 2), keepdim=True)
    clean = torch.where(positive > outside, positive, 0)
    return as_given(_known(_share(clean, positive), where), heatmaps)


def energy_pointing(heatmaps: Tensor, regions: Tensor, shares: Sequence[float] = SHARES) -> Tensor:
    """Return whether each map's foreground lies wholly in its region, (B, len(shares)), 0 or 1.

    The foreground at p is the fewest pixels, largest first, that hold the share p of the map's positive relevance
    (Gu, Yang, Tresp 2018, the pointing game of the experiments). Pixels as large as the smallest of them belong to it,
    too, so that no order decides between equal pixels.

    Args:
        heatmaps: (B, H, W), signed.
        regions: (B, H, W), bool.
        shares: of energy, p, rising, above 0 and up to 1.

    Raises:
        InputError: maps and regions differ in shape, a map is not finite, or the shares are not as said.
    """
    return passed(clean_share(heatmaps, regions), shares)


def energy_within(heatmaps: Tensor, regions: Tensor) -> Tensor:
    """Return the share of each map's positive relevance that falls in its region, (B,), 0 to 1.

    The energy-based pointing game of Wang et al. 2020 (Score-CAM), whose maps have no negative values. 0 for a map
    without positive relevance; the region's share of the picture for a constant one.

    Args:
        heatmaps: (B, H, W), signed.
        regions: (B, H, W), bool.

    Raises:
        InputError: maps and regions differ in shape, or a map is not finite.
    """
    maps, where = _checked(heatmaps, regions)
    positive = maps.clamp(min=0)
    return as_given(_known(_share(torch.where(where, positive, 0), positive), where), heatmaps)


def _checked(heatmaps: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps in float64 and regions beside them."""
    if heatmaps.shape != regions.shape:
        raise InputError(
            f"heatmaps {tuple(heatmaps.shape)} and regions {tuple(regions.shape)} are both (B, H, W); "
            "enlarge the maps of an inner layer to the size of the input first"
        )
    if regions.dtype != torch.bool:
        raise InputError(
            f"regions are bool, true where the class is, not {regions.dtype}; compare them with a threshold"
        )
    maps = exact(heatmaps)
    return maps, regions.to(maps.device)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Return the sum of part over that of whole, (B,); 0 where there is nothing."""
    total = whole.sum((1, 2))
    return part.sum((1, 2)) / torch.where(total > 0, total, 1)


def _known(values: Tensor, regions: Tensor) -> Tensor:
    return torch.where(regions.flatten(1).any(1), values, torch.nan)


def passed(clean: Tensor, shares: Sequence[float] = SHARES) -> Tensor:
    """Return whether a clean share (B,) reaches each of the shares, (B, len(shares)), 0 or 1; NaN where it is NaN.

    So the values of a run tell the curve of the energy-based pointing game at any shares of energy, not only at those
    that it was run with.

    Args:
        clean: as `clean_share` gives it.
        shares: of energy, p, rising, above 0 and up to 1.

    Raises:
        InputError: the shares are not as said.
    """
    reached = clean[:, None] >= clean.new_tensor(_checked_shares(shares)) - _ROUNDING
    return torch.where(clean.isnan()[:, None], torch.nan, reached.to(clean.dtype))


def _checked_shares(shares: Sequence[float]) -> tuple[float, ...]:
    given = tuple(shares)
    if not given or list(given) != sorted(set(given)) or not 0 < given[0] <= given[-1] <= 1:
        raise InputError(f"shares of energy rise from above 0 to at most 1, such as (0.25, 0.5), not {given}")
    return given


# -- metrics ---------------------------------------------------------------------------------------------------------


@register_metric
class PointingGame(Metric):
    """Whether the maximum of the map lies on the class.

    In [0, 1], higher is better. The region is the case's mask where it has one (as Zhang et al. do on COCO), its boxes
    otherwise. Their accuracy is a mean over classes, this one over cases.

    Args:
        tolerance: how far from the region a maximum still hits, in pixels of the input.

    Raises:
        InputError: the tolerance is negative or not finite.
    """

    name: ClassVar[str] = "pointing"
    title: ClassVar[str] = "pointing game"
    source: ClassVar[str] = (
        "Zhang et al. 2016 (Top-down Neural Attention by Excitation Backprop), the pointing game and its difficult set"
    )
    direction: ClassVar[str] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("boxes",)

    def __init__(self, tolerance: float = 15.0) -> None:
        super().__init__()
        check_margin(tolerance, "tolerance of the pointing game")
        self.tolerance = tolerance

    def update(self, heatmaps: Tensor, regions: Tensor) -> Tensor:
        """Keep and return the values (B,) of maps (B, H, W) and regions (B, H, W), bool; see `pointing`."""
        return self.add(pointing(heatmaps, regions, self.tolerance))

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> dict[str, float]:
        """Return under "" whether the maximum hits; the same under "difficult" for a case of the difficult subset."""
        where = _boxed(case) if case.mask is None else case.mask
        value = float(pointing(heatmap[None], where[None], self.tolerance))
        return _with_difficult(value, case)


@register_metric
class EnergyPointing(Metric):
    """How much of the map's energy can be kept, largest pixels first, before a pixel outside the boxes is kept.

    In [0, 1], higher is better. The value is the area under the curve, `clean_share`; the points of the curve are hits
    at each share of energy. The paper thresholds the map and sees whether all that remains lies in the box, so that no
    map scores by its centre. Which shares it takes, how it sums over channels and how its boxes follow a crop is not
    known here.

    Args:
        shares: of energy, p, at which the curve is given, rising, above 0 and up to 1.

    Raises:
        InputError: the shares are not as said.
    """

    name: ClassVar[str] = "energy-pointing"
    title: ClassVar[str] = "pointing game by energy"
    source: ClassVar[str] = "Gu, Yang, Tresp 2018 (CLRP), the pointing game of the experiments"
    direction: ClassVar[str] = "higher"
    axes: ClassVar[tuple[str, str]] = ("share of the energy kept", "share of cases all inside the box")
    needs: ClassVar[tuple[str, ...]] = ("boxes",)

    def __init__(self, shares: Sequence[float] = SHARES) -> None:
        super().__init__()
        self.shares = _checked_shares(shares)

    def update(self, heatmaps: Tensor, regions: Tensor) -> Tensor:
        """Keep and return the areas (B,) of maps (B, H, W) and regions (B, H, W), bool; see `clean_share`."""
        return self.add(clean_share(heatmaps, regions))

    def curve(self) -> dict[str, float]:
        """Return the accuracy at each share of energy, over all maps kept; NaN without any."""
        hits = passed(torch.tensor(self._values, dtype=torch.float64), self.shares).nanmean(0)
        return {f"{share:g}": float(hit) for share, hit in zip(self.shares, hits, strict=True)}

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> dict[str, float]:
        """Return under "" the area under the curve, under each share of energy ("0.05", …) whether it hits."""
        clean = clean_share(heatmap[None], _boxed(case)[None])
        hits = passed(clean, self.shares)[0].tolist()
        points = {f"{share:g}": float(hit) for share, hit in zip(self.shares, hits, strict=True)}
        return _without_nan({"": float(clean), **points})


@register_metric
class EnergyInBox(Metric):
    """The share of the map's positive relevance that falls in the boxes of the class. In [0, 1], higher is better."""

    name: ClassVar[str] = "energy-in-box"
    title: ClassVar[str] = "energy in the box"
    source: ClassVar[str] = "Wang et al. 2020 (Score-CAM), the energy-based pointing game"
    direction: ClassVar[str] = "higher"
    needs: ClassVar[tuple[str, ...]] = ("boxes",)

    def update(self, heatmaps: Tensor, regions: Tensor) -> Tensor:
        """Keep and return the values (B,) of maps (B, H, W) and regions (B, H, W), bool; see `energy_within`."""
        return self.add(energy_within(heatmaps, regions))

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> dict[str, float]:
        """Return the share under ""; the same under "difficult" for a case of the difficult subset."""
        return _with_difficult(float(energy_within(heatmap[None], _boxed(case)[None])), case)


@register_metric
class EnergyInMask(EnergyInBox):
    """The share of the map's positive relevance that falls on the very pixels of the class.

    In [0, 1], higher is better.
    """

    name: ClassVar[str] = "energy-in-mask"
    title: ClassVar[str] = "energy in the mask"
    source: ClassVar[str] = "Wang et al. 2020 (Score-CAM), the energy-based pointing game, with masks for boxes"
    needs: ClassVar[tuple[str, ...]] = ("mask",)

    def values_of(self, case: Case, heatmap: Tensor, context: Context) -> dict[str, float]:
        """Return the share under ""; the same under "difficult" for a case of the difficult subset."""
        if case.mask is None:
            raise InputError(f"case {case.name!r} has no mask, which {self.name!r} needs; leave it out")
        return _with_difficult(float(energy_within(heatmap[None], case.mask[None])), case)


def _boxed(case: Case) -> Tensor:
    """Return the pixels in the boxes of a case, (H, W)."""
    if case.boxes is None:
        raise InputError(f"case {case.name!r} has no boxes, which this metric needs; leave it out")
    height, width = case.inputs.shape[-2:]
    return region(case.boxes, (height, width))


def _with_difficult(value: float, case: Case) -> dict[str, float]:
    return _without_nan({"": value, "difficult": value} if case.difficult else {"": value})


def _without_nan(values: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if not math.isnan(value)}

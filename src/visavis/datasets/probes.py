"""What a preprocessing does to places, read off pictures whose brightness tells the place along one axis."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from visavis.classifier import Preprocess
from visavis.errors import InputError

Values = NDArray[np.floating]

# Brightness goes from here to there, so that an interpolation that overshoots is not cut off.
_DARK, _RANGE = 16.0, 223.0
# How much of a ramp has to be seen, in levels, before its place is known well enough to look closer.
_ENOUGH = 64.0
# A ramp is this many pixels of the picture long at least, and a fold of a zigzag this many of the input.
_SHORTEST, _FOLD = 8.0, 12.0
_FOLDS = 8
_REPEATS = 12
# How far an interpolation reaches, at most, in the wider of the two kinds of pixels: Lanczos', and what will do.
_REACHES = (3.0, 2.0, 1.5, 1.0, 0.5)


@dataclass(frozen=True)
class Line:
    """Where the pixels of the input come from along an axis: x = slope · x' + start."""

    slope: float
    start: float

    def at(self, places: Values) -> Values:
        """Return the places in the picture of places in the input."""
        return self.slope * places + self.start


def fitted_axes(preprocess: Preprocess, size: tuple[int, int]) -> tuple[Line, Line, tuple[int, int]]:
    """Return the line across, the line down, and the width and height of what `preprocess` gives.

    Raises:
        InputError: it is no resizing and cropping along the axes.
    """
    _check_repeatable(_Once(preprocess, size))
    probe = _Probe(preprocess, size)
    across, down = (_fitted(probe, axis) for axis in (0, 1))
    return across, down, probe.seen


# -- showing -----------------------------------------------------------------------------------------------------------


class _Probe:
    """Shows pictures of one size to a preprocessing, and undoes what it does to brightness.

    Attributes:
        size: width and height of the picture.
        seen: width and height of what comes out.
        first, last: of the columns and of the rows that show the picture and not padding; last is exclusive.
        shown: (h, w), the share of each pixel that is not padding.
    """

    def __init__(self, preprocess: Preprocess, size: tuple[int, int]) -> None:
        self.preprocess, self.size = preprocess, size
        black, white = (_shown(preprocess, np.full(size[::-1], level)) for level in (0.0, 255.0))
        if black.shape != white.shape:
            raise _refusal("it gives sizes that differ for pictures of one size")
        self.black, self.span = black, white - black
        strength = np.abs(self.span).max((1, 2))
        if not (strength > 0).any():
            raise _refusal("it gives the same for black and for white")
        self.channels = strength > 1e-6 * strength.max()
        self.seen = (black.shape[2], black.shape[1])
        # Of the sign that most has: a channel may be negated, and an interpolation swings below 0 beside an edge.
        largest = strength * np.sign(self.span.sum((1, 2)))
        self.shown: Values = (self.span[self.channels] / largest[self.channels, None, None]).mean(0)
        # Of a pixel half of which is padding, the other half still tells.
        clear = self.shown > 0.5
        edges = [np.flatnonzero(clear.any(axis)) for axis in (0, 1)]
        self.first, self.last = ([int(edge[end]) + after for edge in edges] for end, after in ((0, 0), (-1, 1)))
        if not clear[self.first[1] : self.last[1], self.first[0] : self.last[0]].all():
            raise _refusal("what it shows of the picture is no rectangle")

    def levels(self, ramp: Values, axis: int) -> tuple[Values, Values]:
        """Show brightness along an axis, 0 to 255; return what each pixel along it is seen as, and how much that varies
        over the other axis."""
        out = _shown(self.preprocess, np.broadcast_to(ramp[:, None] if axis else ramp, self.size[::-1]))
        if out.shape != self.black.shape:
            raise _refusal("it gives sizes that differ for pictures of one size")
        place = (self.channels, *self._inner(axis))
        seen = (255 * (out[place] - self.black[place]) / self.span[place]).mean(0)
        mean: Values = seen.mean(axis)
        return mean, np.abs(seen - np.expand_dims(mean, axis)).max(axis)

    def _inner(self, axis: int) -> tuple[slice, slice]:
        """Return the rows and columns to look at for an axis: over the other, not too near to padding, into which an
        interpolation mixes, and may overshoot and be cut off."""
        other = 1 - axis
        first, last = self.first.copy(), self.last.copy()
        count = last[other] - first[other]
        margin = min(3 + count // 8, count // 3)
        first[other] += margin * (first[other] > 0)
        last[other] -= margin * (last[other] < self.seen[other])
        return slice(first[1], last[1]), slice(first[0], last[0])


def _shown(preprocess: Preprocess, brightness: Values) -> Values:
    """Return what comes out, (C, h, w), for a grey picture of brightness (H, W), 0 to 255."""
    band = PIL.Image.fromarray(np.rint(brightness).astype(np.uint8))
    out: object = preprocess(PIL.Image.merge("RGB", (band, band, band)))
    if isinstance(out, Tensor) and out.ndim == 4 and out.shape[0] == 1:
        out = out[0]
    if not isinstance(out, Tensor) or out.ndim != 3 or not out.is_floating_point() or not out.numel():
        what = f"shape {tuple(out.shape)}, {out.dtype}" if isinstance(out, Tensor) else type(out).__name__
        raise InputError(f"preprocess must give a floating-point tensor (C, H, W), but it gave {what}.")
    if not out.isfinite().all():
        raise _refusal("it gives values that are not finite")
    return out.detach().to("cpu", torch.float64).numpy()


@dataclass(frozen=True, eq=False)
class _Once:
    """A preprocessing that is checked but once, at whatever size it is first asked for."""

    preprocess: Preprocess
    size: tuple[int, int]

    def __hash__(self) -> int:
        return id(self.preprocess)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Once) and self.preprocess is other.preprocess


@functools.lru_cache(maxsize=64)
def _check_repeatable(once: _Once) -> None:
    """Refuse what is random: the same picture has to come out the same each time. No two of its places are alike."""
    width, height = once.size
    slope = np.linspace(0, 200, width) + np.linspace(0, 55, height)[:, None]
    first = _shown(once.preprocess, slope)
    for _ in range(_REPEATS):
        again = _shown(once.preprocess, slope)
        if again.shape != first.shape or not np.allclose(again, first, rtol=1e-4, atol=1e-6):
            raise _refusal("it treats one picture differently each time, as with random crops or flips")


# -- fitting -----------------------------------------------------------------------------------------------------------


def _fitted(probe: _Probe, axis: int) -> Line:
    """Fit the line of an axis: roughly by one ramp, then closely by a zigzag whose folds the rough line tells apart."""
    length = probe.size[axis]
    places = np.arange(probe.first[axis], probe.last[axis]) + 0.5
    rough, error = _rough(probe, axis, places)
    if rough is None or len(places) < 8:
        return _from_padding(probe, axis, rough)
    ends = np.clip(np.sort(rough.at(np.array([places[0] - 0.5, places[-1] + 0.5]))), 0, length)
    low, high = float(ends[0]), max(float(ends[1]), float(ends[0]) + 1)
    folds = int(np.clip(min(len(places) / _FOLD, (high - low) / _SHORTEST), 1, _FOLDS))
    fold = (high - low) / folds
    along = np.clip((np.arange(length) + 0.5 - low) / fold, 0, folds)
    seen, spread = probe.levels(_DARK + _RANGE * (1 - np.abs(1 - along % 2)), axis)
    # Which fold each pixel is in, and how far from its ends.
    guess = (rough.at(places) - low) / fold
    number = np.clip(np.floor(guess), 0, folds - 1)
    part = (seen - _DARK) / _RANGE
    where = low + fold * (number + np.where(number % 2 == 0, part, 1 - part))
    inner = fold * np.minimum(guess - number, number + 1 - guess)
    usable = _usable(inner, max(1.0, abs(rough.slope)))
    if usable is None:
        return _from_padding(probe, axis, rough)
    line = _least_squares(places[usable], where[usable])
    level = fold / _RANGE
    off = np.abs(line.at(places) - where)[usable].max()
    # A step of the nearest neighbour is up to half a pixel off; else it is rounding.
    if off > 0.6 + 0.5 * abs(line.slope) + 2 * level:
        raise _refusal("what it shows of the picture is no straight resizing and cropping")
    if (spread[usable] * level).max() > 0.25 * abs(line.slope) + 3 * level:
        raise _refusal("it turns or bends the picture")
    # Half a level is what rounding costs the ramp, at most, and what the border of the picture costs is less.
    if np.abs(line.at(places) - rough.at(places)).max() > 0.5 * (max(1.0, abs(line.slope)) + error):
        raise _refusal("two pictures of one size come out in different places")
    return line


def _rough(probe: _Probe, axis: int, places: Values) -> tuple[Line | None, float]:
    """Return the line that a ramp tells, and what one level of brightness is worth; the ramp becomes steeper until
    enough of it is seen."""
    length = probe.size[axis]
    low, high = 0.0, float(length)
    for _ in range(8):
        along = np.clip((np.arange(length) + 0.5 - low) / (high - low), 0, 1)
        seen, _ = probe.levels(_DARK + _RANGE * along, axis)
        step = (high - low) / _RANGE
        where = low + (seen - _DARK) * step
        if np.ptp(seen) >= _ENOUGH or high - low <= _SHORTEST:
            break
        low, high = max(0.0, where.min() - 4 * step), min(float(length), where.max() + 4 * step)
        middle = (low + high) / 2
        low, high = min(low, middle - _SHORTEST / 2), max(high, middle + _SHORTEST / 2)
    if len(places) < 2 or np.ptp(seen) < 4:
        return None, step
    line = _least_squares(places, where)
    return (line if line.slope else None), step


def _usable(inner: Values, reach: float) -> NDArray[np.bool_] | None:
    """Return which pixels are far enough from the ends of their fold, where interpolation mixes two folds."""
    for times in _REACHES:
        usable: NDArray[np.bool_] = inner >= times * reach
        if usable.sum() >= max(4, len(inner) / 4):
            return usable
    return None


def _from_padding(probe: _Probe, axis: int, rough: Line | None) -> Line:
    """Return the line of a picture too narrow for a fit, from the padding on both sides of it."""
    if probe.first[axis] == 0 or probe.last[axis] == probe.seen[axis]:
        raise _refusal(
            f"only {probe.last[axis] - probe.first[axis]} pixels {'down' if axis else 'across'} show the picture, or "
            "all of them the same"
        )
    other = slice(probe.first[1 - axis], probe.last[1 - axis])
    shown = probe.shown[:, other].mean(1) if axis else probe.shown[other].mean(0)
    width = shown.sum()
    centre = (shown * (np.arange(len(shown)) + 0.5)).sum() / width
    slope = probe.size[axis] / width * (-1 if rough is not None and rough.slope < 0 else 1)
    return Line(float(slope), float(probe.size[axis] / 2 - slope * centre))


def _least_squares(places: Values, where: Values) -> Line:
    middle = places.mean()
    slope = float(((places - middle) * where).sum() / ((places - middle) ** 2).sum())
    return Line(slope, float(where.mean() - slope * middle))


def _refusal(what: str) -> InputError:
    return InputError(
        f"the preprocessing cannot be followed, so that boxes and masks cannot go along: {what}. Use one that resizes, "
        "crops, mirrors or pads along the axes, the same way each time."
    )

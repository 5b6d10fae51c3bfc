"""Rows as they come, made ready: checked, centred, scaled; and made again what the classifier was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from visavis.errors import InputError

Rows = NDArray[np.float64]


class WrongTypeError(InputError, TypeError):
    """Rows are of a kind that no numbers can be read from."""


class NotFittedYetError(InputError, NotFittedError):  # type: ignore[misc]
    """An estimator was asked before it was fitted."""


def check_fitted(estimator: Any) -> None:
    """Refuse an estimator that is not fitted.

    Raises:
        NotFittedYetError: it is not.
    """
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise NotFittedYetError(str(error)) from error


def checked_rows(estimator: Any, given: Any, *, reset: bool, shape: tuple[int, ...] | None = None) -> Rows:
    """Return rows as an array (n, d) of finite float64, a copy; remember, or compare, how many features there are and
    their names, as scikit-learn does.

    Args:
        estimator: that remembers.
        given: (n, d), or (n, …).
        reset: whether it remembers these, or compares.
        shape: of one item, as it was fitted; None: any.

    Raises:
        InputError: what came is no such table.
    """
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        given = (given.double() if given.is_floating_point() else given).numpy()
    if isinstance(given, np.ndarray) and given.ndim > 2:
        if shape is not None and len(shape) > 1 and given.shape[1:] != shape:
            raise InputError(f"the rows are {given.shape}, but (n, {', '.join(map(str, shape))}) was fitted")
        given = given.reshape(len(given), int(np.prod(given.shape[1:])))
    try:
        rows = validate_data(estimator, given, reset=reset, dtype=np.float64, ensure_min_samples=1)
    except TypeError as error:
        raise WrongTypeError(f"{error}{_advice(error)}") from error
    except ValueError as error:
        raise InputError(f"{error}{_advice(error)}") from error
    # Neither is the caller's array changed here, nor are results when the caller's array is.
    return np.array(rows, dtype=np.float64)


def is_whole(value: Any, least: int) -> bool:
    """Whether this is a whole number from `least` on, and no truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= least


def is_number(value: Any, low: float, high: float) -> bool:
    """Whether this is a finite number within [low, high]."""
    known = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return known and bool(isfinite(value) and low <= value <= high)


def _advice(error: Exception) -> str:
    return " (columns of text or of categories have no gradient: leave them out)" if "to float" in str(error) else ""


@dataclass(frozen=True)
class Frame:
    """Makes of an array a data frame of a kind.

    Attributes:
        kind: of pandas or polars.
        names: of the columns.
    """

    kind: Any
    names: tuple[Any, ...]

    def __call__(self, rows: Rows) -> Any:
        if self.kind.__module__.startswith("pandas"):
            return self.kind(rows, columns=list(self.names))
        return self.kind(rows, schema=list(self.names))


def frame_of(given: Any) -> Frame | None:
    """Return what makes of an array a data frame like the one given, of pandas or polars; None for anything else."""
    kind, columns = type(given), getattr(given, "columns", None)
    if columns is None or kind.__module__.split(".")[0] not in ("pandas", "polars"):
        return None
    return Frame(kind, tuple(columns))


@dataclass(frozen=True, eq=False)
class Scaling:
    """z = (x − centre)/scale: what makes one width of window fit all features.

    Attributes:
        centre, scale: (d,), in the units of the features.
    """

    centre: Rows
    scale: Rows

    @classmethod
    def of(cls, rows: Rows, wish: str | Sequence[float] | Rows) -> Scaling:
        """Return the scaling of rows.

        Args:
            rows: (n, d).
            wish: "standard", by each feature's standard deviation (1 for one that does not vary); "none"; or a width
                for each feature, (d,), above 0.

        Raises:
            InputError: it is none of these.
        """
        # Of values near the largest float a sum overflows.
        with np.errstate(over="ignore", invalid="ignore"):
            centre = rows.mean(0)
        if isinstance(wish, str):
            if wish == "none":
                return cls(centre, np.ones(rows.shape[1]))
            if wish != "standard":
                raise InputError(f"scale is {wish!r}, but standard, none, or a width for each feature was expected")
            with np.errstate(over="ignore", invalid="ignore"):
                spread = _deviations(rows, centre)
            wrong = np.flatnonzero(~np.isfinite(spread))
            if len(wrong):
                raise InputError(f"feature {wrong[0]} has values too large for a standard deviation; divide it first")
            return cls(centre, spread)
        try:
            widths = np.asarray(wish, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"scale is {wish!r}, but standard, none, or numbers were expected") from error
        if widths.shape != centre.shape or not (np.isfinite(widths) & (widths > 0)).all():
            raise InputError(
                f"scale has the shape {widths.shape}, but {centre.shape} finite widths above 0 were expected"
            )
        return cls(centre, widths)

    def inside(self, rows: Rows, device: torch.device) -> Tensor:
        """Return z of x."""
        return torch.from_numpy((rows - self.centre) / self.scale).to(device)

    def outside(self, points: Tensor) -> Rows:
        """Return x of z."""
        return np.asarray(points.cpu().numpy() * self.scale + self.centre, dtype=np.float64)


def _deviations(rows: Rows, centre: Rows) -> Rows:
    """Return the standard deviation of each feature, 1 for one that does not vary.

    Squares of what is very large or small leave the range of floats, so features are divided by their reach first.
    """
    apart = rows - centre
    reach = np.abs(apart).max(0)
    found = reach * (apart / np.where(reach > 0, reach, 1)).std(0)
    # What rounding leaves of a feature that does not vary is no unit to measure in.
    rounding = 4 * np.finfo(np.float64).eps * np.abs(rows).max(0)
    varies = (np.ptp(rows, axis=0) > 0) & ~(found <= rounding)
    return np.where(varies, found, 1.0)


def double_device(device: str | torch.device | None) -> torch.device:
    """Return the device that float64 is computed on: a CUDA GPU where there is one, else the CPU.

    Raises:
        ModelError: there is no such device.
    """
    from visavis.devices import choose_device

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = choose_device(device)
    if found.type == "mps":
        raise InputError("mps has no float64, which densities need; leave the device out, or use cpu")
    return found


__all__ = [
    "Frame",
    "NotFittedYetError",
    "Rows",
    "Scaling",
    "check_fitted",
    "checked_rows",
    "double_device",
    "frame_of",
    "is_number",
    "is_whole",
]

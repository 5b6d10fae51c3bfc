"""What explanation vectors are, with all that tells how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from visavis.blackbox.rows import Rows, is_whole
from visavis.errors import InputError

#: "away": ∇ P(Y ≠ A), the paper's; "contrast": ∇ log P(A)/P(B).
Kind = Literal["away", "contrast"]


@dataclass(frozen=True, eq=False)
class Component:
    """One feature's part of a vector.

    Attributes:
        name: of the feature.
        at: the feature's value in the row.
        value: of the vector, per unit of the feature.
        per_deviation: the same per `scale` of the feature: by itself its standard deviation.
        low, high: the 95 % interval of `value`; None where none was asked for.
    """

    name: str
    at: float
    value: float
    per_deviation: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Vectors:
    """Explanation vectors of M rows of d features, K classes (Baehrens et al. 2010).

    Attributes:
        kind: "away": ζ = ∇ P(Y ≠ A), so a positive component says that raising the feature makes A less likely (per
            unit); "contrast": ∇ log(P(A)/P(B)), so a positive component speaks for A and against B.
        rows: (M, d), what was explained.
        values: (M, d), the vectors, per unit of each feature. NaN where the mimic knows no row of the class.
        log_odds_gradient: (M, d), ∇ log(P(A)/P(B)), for "away" with all other classes as B. Where P(A) is so near to 0
            or 1 that `values` is 0, this is not.
        targets: (M,), A: what the classifier says, unless another class was asked for.
        foils: (M,), B; None for "away".
        said: (M,), what the classifier says.
        probabilities: (M, K), of `classes`, by the mimic or the classifier's own.
        classes: (K,).
        agreement: (M,), in [0, 1], how often mimic and classifier agree around a row; 1 for exact gradients, NaN where
            it was not asked for.
        agrees: (M,), bool, whether they agree at the row itself.
        flat: (M,), bool, whether the gradient is next to zero: then see `directions`.
        directions: (M, d), where flat, the direction in which most happens to second order, of length 1 in units of
            `scale`: the leading eigenvector of the Hessian; else NaN.
        curvatures: (M,), its eigenvalue: above 0, both ways along it raise what `values` is the gradient of; else NaN.
        low, high: (M, d), the 95 % interval of each component, by bootstrap of the mimic's rows; None without draws, or
            for exact gradients.
        scale: (d,), what features are divided by to be compared.
        names: of the features.
        exact: whether these are the classifier's own gradients, not its mimic's.
        source: whose gradients these are, in words.
        shape: of one row as it came.
    """

    kind: Kind
    rows: Rows
    values: Rows
    log_odds_gradient: Rows
    targets: NDArray[Any]
    foils: NDArray[Any] | None
    said: NDArray[Any]
    probabilities: Rows
    classes: NDArray[Any]
    agreement: Rows
    agrees: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    directions: Rows
    curvatures: Rows
    low: Rows | None
    high: Rows | None
    scale: Rows
    names: tuple[str, ...]
    exact: bool
    source: str
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        said = f"{len(self)} × {len(self.names)}, {self.source}"
        known = self.agreement[np.isfinite(self.agreement)]
        if not self.exact and len(known):
            said += f", agreement {known.mean():.2f}"
        return f"Vectors({said}, {int(self.flat.sum())} flat)"

    @property
    def per_deviation(self) -> Rows:
        """The vectors per `scale` of each feature, (M, d): comparable between features."""
        return np.asarray(self.values * self.scale)

    @property
    def speaks_for(self) -> Rows:
        """What a deviation more of each feature does for A, (M, d): to P(A), or in a contrast to log P(A)/P(B).

        Above 0 speaks for A, in both kinds.
        """
        return -self.per_deviation if self.foils is None else self.per_deviation

    def speaks_between(self, row: int) -> tuple[Rows, Rows] | None:
        """Return the ends of the 95 % intervals of a row's `speaks_for`, each (d,); None where none were asked for."""
        if self.low is None or self.high is None:
            return None
        low, high = self.low[row] * self.scale, self.high[row] * self.scale
        return (-high, -low) if self.foils is None else (low, high)

    def to_frame(self, row: int | None = None) -> Any:
        """Return the vectors as a pandas `DataFrame`: a row for each, by feature; or of one, a row for each feature.

        Args:
            row: whose components, the strongest first, with `at`, `value`, `per_deviation`, `low`, `high`; None: all
                vectors.

        Raises:
            InputError: pandas is not installed, or there is no such row.
        """
        try:
            import pandas as pd  # type: ignore[import-untyped]
        except ImportError as error:
            raise InputError("a data frame needs pandas; install it, or use `values` and `names`") from error
        if row is None:
            return pd.DataFrame(self.values, columns=list(self.names))
        parts = self.strongest(row)
        frame = pd.DataFrame([{name: getattr(part, name) for name in _PART} for part in parts], columns=list(_PART))
        return frame.set_axis(pd.Index([part.name for part in parts], name="feature"))

    @property
    def shaped(self) -> NDArray[np.float64]:
        """The vectors in the shape of what was explained, such as (M, C, H, W)."""
        return np.asarray(self.values.reshape(-1, *self.shape))

    def place_of(self, feature: str | int | np.integer[Any]) -> int:
        """Return the place of a feature, by name or number.

        Raises:
            InputError: there is none.
        """
        if isinstance(feature, str) and feature in self.names:
            return self.names.index(feature)
        if isinstance(feature, (int, np.integer)) and 0 <= feature < len(self.names):
            return int(feature)
        shown = ", ".join(self.names[:8]) + (", …" if len(self.names) > 8 else "")
        raise InputError(f"there is no feature {feature!r}; there are {shown}")

    def component(self, feature: str | int | np.integer[Any]) -> Rows:
        """Return one feature's component in all vectors, (M,), per unit of it."""
        return np.asarray(self.values[:, self.place_of(feature)])

    def strongest(self, row: int, count: int | None = None) -> list[Component]:
        """Return the components of a row's vector, the largest per deviation first.

        Args:
            row: its place.
            count: how many; None: all.

        Raises:
            InputError: there is no such row.
        """
        if not is_whole(row, 0) or row >= len(self):
            raise InputError(f"there is no vector {row!r}; there are {len(self)}, numbered from 0")
        if count is not None and not is_whole(count, 1):
            raise InputError(f"{count!r} components were asked for, but at least one, or all, was expected")
        order = np.argsort(-np.abs(self.per_deviation[row]), kind="stable")[:count]
        return [self.part(row, int(place)) for place in order]

    def part(self, row: int, place: int) -> Component:
        """Return one feature's part of a row's vector, both by number."""
        ends = [None if one is None else float(one[row, place]) for one in (self.low, self.high)]
        value = float(self.values[row, place])
        return Component(
            self.names[place], float(self.rows[row, place]), value, value * float(self.scale[place]), *ends
        )

    def speaks_of(self, row: int) -> str:
        """Return what `speaks_for` is a change of, in words."""
        return f"P({self.targets[row]})" if self.foils is None else self.quantity(row)

    def quantity(self, row: int) -> str:
        """Return what a component of a row's vector is a change of, in words."""
        target = self.targets[row]
        return f"P(not {target})" if self.foils is None else f"log P({target}) / P({self.foils[row]})"


def joined(parts: Iterable[Vectors], rows: Rows) -> Vectors:
    """Return the vectors of all parts as one, held once: each part is let go before the next is made.

    Args:
        parts: at least one, in order.
        rows: (M, d), all that was explained.
    """
    whole: dict[str, Any] = {}
    start, last = 0, None
    for part in parts:
        for name in _BY_ROW:
            here = getattr(part, name)
            if here is None:
                continue
            if name not in whole:
                whole[name] = np.empty((len(rows), *here.shape[1:]), dtype=here.dtype)
            elif here.dtype.kind in "US":
                # Of texts the longest decides.
                whole[name] = whole[name].astype(np.promote_types(whole[name].dtype, here.dtype), copy=False)
            whole[name][start : start + len(part)] = here
        start, last = start + len(part), part
    assert last is not None
    return replace(last, rows=rows, **whole)


# What a component has, in the order of a data frame's columns.
_PART = ("at", "value", "per_deviation", "low", "high")
#: What has a value for each row, beside the rows.
_BY_ROW = (
    *("values", "log_odds_gradient", "targets", "foils", "said", "probabilities", "agreement", "agrees", "flat"),
    *("directions", "curvatures", "low", "high"),
)

__all__ = ["Component", "Kind", "Vectors", "joined"]

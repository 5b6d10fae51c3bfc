"""Explanation vectors of any classifier at all."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from visavis.blackbox.agreement import LowAgreementWarning, local_agreement
from visavis.blackbox.asked import Asked
from visavis.blackbox.bandwidth import check_bandwidth
from visavis.blackbox.curvature import away, second_order
from visavis.blackbox.exact import Exact, ScaledSource, exact_kinds, exact_source
from visavis.blackbox.foils import class_of, foils_of
from visavis.blackbox.intervals import vector_intervals
from visavis.blackbox.mimic import MimicSource, ParzenMimic
from visavis.blackbox.rows import (
    Rows,
    Scaling,
    check_fitted,
    checked_rows,
    double_device,
    frame_of,
    is_number,
    is_whole,
)
from visavis.blackbox.source import Source
from visavis.blackbox.vectors import Vectors, joined
from visavis.errors import InputError

#: Where gradients come from.
GRADIENTS = ("auto", "exact", "mimic")
# A draw around a row is wide enough once so many are called otherwise; doubled at most so often.
_OTHERWISE, _DOUBLINGS = 0.1, 12
# Values of rows explained at a time: 2²² of 8 bytes are 32 MiB.
_AT_ONCE = 2**22


class ExplanationVectors(BaseEstimator):  # type: ignore[misc]
    """What would make a classifier change its mind: ∇ P(Y ≠ A) at a row that it calls A (Baehrens et al. 2010, def. 1).

    In scikit-learn's conventions. Of a classifier whose gradient is known (`exact_kinds()`) it is that; of any other,
    the gradient of a Parzen window over rows as the classifier labels them, of which nothing but labels is asked. The
    classifier is never fitted or changed; `sklearn.base.clone` forgets what it has learned, unless it is in a
    `sklearn.frozen.FrozenEstimator`.

    Args:
        classifier: fitted: an estimator with `predict`, a function of rows (n, d) that gives labels (n,), a torch
            module that gives logits, or a `visavis.Classifier`.
        gradients: "auto": exact where they are known; "exact"; or "mimic".
        bandwidth: of the mimic; see `ParzenMimic`.
        scale: what features are divided by, in the mimic and to be compared; see `ParzenMimic`.
        probes: how often the classifier is asked around each row that is explained, to see whether the mimic agrees; 0
            to leave that out.
        threshold: below which agreement around a row there is a warning.
        flat: a gradient is next to zero if it changes the probability (of a contrast the log odds) by less than this
            over one bandwidth; of an exact one over one `scale`.
        device: of the computation; None: a CUDA GPU where there is one, else the CPU. A module stays where it is.
        random_state: of all that is drawn: the same gives the same.

    Attributes:
        mimic_: the fitted `ParzenMimic`; None for exact gradients.
        classes_: (K,), the labels.
        exact_: whether the gradients are the classifier's own.
        source_: whose gradients they are, in words.
        agreement_, bandwidth_: the mimic's; not there for exact gradients.
        n_features_in_, feature_names_in_: as in scikit-learn.
    """

    def __init__(
        self,
        classifier: Any,
        *,
        gradients: str = "auto",
        bandwidth: str | float | Sequence[float] = "one-standard-error",
        scale: str | Sequence[float] = "standard",
        probes: int = 50,
        threshold: float = 0.8,
        flat: float = 1e-3,
        device: str | torch.device | None = None,
        random_state: int = 0,
    ) -> None:
        self.classifier = classifier
        self.gradients = gradients
        self.bandwidth = bandwidth
        self.scale = scale
        self.probes = probes
        self.threshold = threshold
        self.flat = flat
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> ExplanationVectors:
        """Have the classifier label rows, and fit its mimic to them where its gradient is not known.

        Args:
            X: (n, d), finite numbers, such as what the classifier learned from; or (n, …), as a module takes them.
            y: not used: it is the classifier that is explained, not the truth.

        Raises:
            InputError: these are no such rows, the classifier calls all of them the same, its labels are none, its
                gradient is not known but "exact" was asked for, or a parameter is not what is expected.
        """
        self._check_parameters()
        self._forget()
        rows = checked_rows(self, X, reset=True)
        shape, frame = _shape_of(X, rows), frame_of(X)
        ask = Asked(self.classifier, shape, frame)
        scaling, device = Scaling.of(rows, self.scale), double_device(self.device)
        found = None if self.gradients == "mimic" else exact_source(self.classifier, shape, rows, frame)
        if found is None and self.gradients == "exact":
            raise InputError(
                f"the gradient of this classifier is not known (known: {', '.join(exact_kinds())}); with "
                "gradients='mimic' it is explained by what it says"
            )
        self._shape, self._ask, self._scaling, self._device = shape, ask, scaling, device
        if found is not None:
            self._take_exact(found)
        else:
            self._take_mimic(rows, ask(rows))
        return self

    def sample(self, count: int, *, near: Any = None, spread: float | None = None) -> ExplanationVectors:
        """Have the classifier label more rows, drawn around known ones, and fit the mimic to all of them.

        Args:
            count: how many: in all, or with `near` for each of its rows.
            near: (m, d), rows to draw around, such as those that are to be explained; None: the rows of `fit`, each as
                likely as another.
            spread: the standard deviation of the draws, in units of `scale`. None: with `near`, from the bandwidth
                doubled until a tenth of the draws are called otherwise than their row; without, the bandwidth.

        Raises:
            InputError: the gradients are exact, so there is nothing to sample for; or the numbers are not above 0.
        """
        check_fitted(self)
        if self.mimic_ is None:
            raise InputError("these gradients are the classifier's own, so no rows need be sampled for a mimic")
        if not is_whole(count, 1) or not (spread is None or (is_number(spread, 0, inf) and spread > 0)):
            raise InputError(f"count is {count!r} and spread {spread!r}, but numbers above 0 were expected")
        generator = np.random.default_rng([self.random_state, len(self._rows)])
        if near is None:
            centres = self._rows[generator.integers(len(self._rows), size=count)]
            drawn = self._around(centres, spread or self.mimic_.bandwidth_, generator)
            parts = [(drawn, self._ask(drawn))]
        else:
            given = checked_rows(self, near, reset=False, shape=self._shape)
            parts = [
                self._drawn(row, said, count, spread, generator)
                for row, said in zip(given, self._ask(given), strict=True)
            ]
        rows = np.concatenate([self._rows, *(rows for rows, _ in parts)])
        self._take_mimic(rows, np.concatenate([self._labels, *(labels for _, labels in parts)]))
        return self

    def explain(self, X: Any, *, draws: int = 0) -> Vectors:
        """Return ζ = ∇ P(Y ≠ A) at each row, A being what the classifier calls it.

        Args:
            X: (m, d), or (m, …), as in `fit`.
            draws: of the bootstrap for the intervals of a mimic's vectors, at least 2, such as 1000; 0 for none.

        Raises:
            InputError: these are no such rows.

        Warns:
            LowAgreementWarning: the mimic disagrees with the classifier at a row, or too often around it.
        """
        return self._explained(X, None, None, draws)

    def contrast(self, X: Any, foil: Any = "runner-up", *, target: Any = None, draws: int = 0) -> Vectors:
        """Return ∇ log(P(A)/P(B)) at each row: why A rather than B?

        Args:
            X: (m, d), or (m, …), as in `fit`.
            foil: B, a label; "runner-up", the most likely other class of each row; or "others", all other classes.
            target: A, a label; None: what the classifier says of each row.
            draws: as for `explain`.

        Raises:
            InputError: these are no such rows or classes, or A is B.

        Warns:
            LowAgreementWarning: as for `explain`.
        """
        return self._explained(X, target, foil, draws)

    def _explained(self, given: Any, target: Any, foil: Any, draws: int) -> Vectors:
        check_fitted(self)
        self._check_parameters()
        if not is_whole(draws, 0) or draws == 1:
            raise InputError(f"draws is {draws!r}, but 0 or at least 2 were expected")
        rows = checked_rows(self, given, reset=False, shape=self._shape)
        size = max(1, _AT_ONCE // rows.shape[1])
        parts = (self._part(rows[at : at + size], target, foil, draws, at) for at in range(0, len(rows), size))
        found = joined(parts, rows)
        self._warn(found)
        return found

    def _part(self, rows: Rows, target: Any, foil: Any, draws: int, first: int) -> Vectors:
        """Explain some rows, of which `first` is the place of the first."""
        said = self._ask(rows)
        wanted = said if target is None else np.full(len(rows), class_of(target, self.classes_, "target"))
        order = {label: place for place, label in enumerate(self.classes_.tolist())}
        known = np.array([label in order for label in wanted.tolist()])
        index = np.array([order.get(label, 0) for label in wanted.tolist()])
        points = self._scaling.inside(rows, self._device)
        targets = torch.from_numpy(index).to(self._device)
        log = self._source.log_probabilities(points)
        foils, foil_labels = foils_of(foil, targets, log, self.classes_, known, first)
        gradient = self._source.log_odds_gradient(points, targets, foils)
        wrong = np.flatnonzero(~torch.isfinite(gradient).all(1).cpu().numpy() & known)
        if len(wrong):
            raise InputError(f"the gradient at row {first + wrong[0]} is not finite; it is too far from all others")
        of_odds = foil is not None
        values = gradient if of_odds else away(gradient, log, targets)
        step = 1.0 if self.mimic_ is None else self.mimic_.bandwidth_
        flat = (values.norm(dim=1) * step < self.flat).cpu().numpy() & known
        bends, curvatures = second_order(
            self._source, points, targets, foils, log, gradient, np.flatnonzero(flat).tolist(), of_odds=of_odds
        )
        low, high = self._intervals(points, targets, foils, of_odds, draws)
        agrees, agreement = self._agreement(points, targets, log, said, known)

        def outside(inner: Rows) -> Rows:
            return np.where(known[:, None], inner / self._scaling.scale, np.nan)

        return Vectors(
            kind="contrast" if of_odds else "away",
            rows=rows,
            values=outside(values.cpu().numpy()),
            log_odds_gradient=outside(gradient.cpu().numpy()),
            targets=wanted,
            foils=foil_labels,
            said=said,
            probabilities=np.where(known[:, None], log.exp().cpu().numpy(), np.nan),
            classes=self.classes_,
            agreement=agreement,
            agrees=agrees,
            flat=flat,
            directions=bends,
            curvatures=curvatures,
            low=None if low is None else outside(low),
            high=None if high is None else outside(high),
            scale=self._scaling.scale,
            names=self._names(),
            exact=self.exact_,
            source=self.source_,
            shape=self._shape,
        )

    def _intervals(
        self, points: Tensor, targets: Tensor, foils: Tensor, of_odds: bool, draws: int
    ) -> tuple[Rows, Rows] | tuple[None, None]:
        if not draws or self.mimic_ is None:
            return None, None
        return vector_intervals(
            self.mimic_.window_, points, targets, foils, of_odds=of_odds, draws=draws, seed=self.random_state
        )

    def _agreement(
        self,
        points: Tensor,
        targets: Tensor,
        log: Tensor,
        said: NDArray[Any],
        known: NDArray[np.bool_],
    ) -> tuple[NDArray[np.bool_], Rows]:
        agrees = known & (self.classes_[log.argmax(1).cpu().numpy()] == said)
        if self.mimic_ is None:
            return agrees, np.ones(len(points))
        if not self.probes:
            return agrees, np.full(len(points), np.nan)
        found = local_agreement(self.mimic_, self._ask, points, targets, self.probes, self.random_state)
        return agrees, np.where(known, found, 0.0)

    def _warn(self, found: Vectors) -> None:
        low = np.isfinite(found.agreement) & (found.agreement < self.threshold)
        doubtful = np.flatnonzero(low | ~found.agrees)
        if not len(doubtful):
            return
        shown = ", ".join(map(str, doubtful[:5])) + (", …" if len(doubtful) > 5 else "")
        if self.mimic_ is None:
            warnings.warn(
                f"at {len(doubtful)} of {len(found)} rows ({shown}) {found.source} says something else than the "
                "classifier; do not trust their vectors, and see what gradients='mimic' says",
                LowAgreementWarning,
                stacklevel=4,
            )
            return
        said = f"at or around {len(doubtful)} of {len(found)} rows ({shown}) the mimic differs from the classifier"
        if low.any():
            said += f": agreement down to {found.agreement[low].min():.2f}, wanted {self.threshold}"
        unseen = int(np.isnan(found.probabilities).any(1).sum())
        if unseen:
            said += f"; of {unseen} the class was never seen"
        warnings.warn(
            f"{said}; their vectors explain the mimic alone. Fit more rows, or sample(…, near=X)",
            LowAgreementWarning,
            stacklevel=4,
        )

    def _take_exact(self, found: Exact) -> None:
        scale = torch.tensor(self._scaling.scale)
        self.classes_, self.source_, self.exact_ = found.classes, found.said, True
        self.mimic_: ParzenMimic | None = None
        # Rows come in units of scale, and the source knows them in their own.
        self._source: Source = ScaledSource(found.source, -torch.tensor(self._scaling.centre) / scale, 1 / scale)

    def _take_mimic(self, rows: Rows, labels: NDArray[Any]) -> None:
        """Fit the mimic, and take it only once it is."""
        mimic = ParzenMimic(self.bandwidth, scale=self.scale, device=self.device, random_state=self.random_state)
        mimic.take(rows, labels, self._scaling)
        if hasattr(self, "feature_names_in_"):
            mimic.feature_names_in_ = self.feature_names_in_
        self._rows: Rows = rows
        self._labels: NDArray[Any] = labels
        self.mimic_ = mimic
        self.classes_, self.bandwidth_, self.agreement_ = mimic.classes_, mimic.bandwidth_, mimic.agreement_
        self.source_, self.exact_ = f"Parzen mimic of {len(rows)} rows", False
        self._source = MimicSource(mimic.window_)

    def _forget(self) -> None:
        """Be as if never fitted: of a fit that fails nothing is left, and nothing of the one before."""
        for name in ("_source", "mimic_", "classes_", "source_", "exact_", "bandwidth_", "agreement_"):
            self.__dict__.pop(name, None)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_source")

    def _drawn(
        self, row: Rows, said: Any, count: int, spread: float | None, generator: np.random.Generator
    ) -> tuple[Rows, NDArray[Any]]:
        """Return rows around one, and their labels: wide enough that some are called otherwise."""
        width = spread if spread is not None else float(self.bandwidth_)
        for doubling in range(_DOUBLINGS):
            drawn = self._around(np.broadcast_to(row, (count, len(row))), width, generator)
            labels = self._ask(drawn)
            if spread is not None or doubling == _DOUBLINGS - 1 or np.mean(labels != said) >= _OTHERWISE:
                break
            width *= 2
        return drawn, labels

    def _around(self, rows: Rows, width: float, generator: np.random.Generator) -> Rows:
        return np.asarray(rows + width * self._scaling.scale * generator.standard_normal(rows.shape))

    def _names(self) -> tuple[str, ...]:
        given = getattr(self, "feature_names_in_", None)
        return tuple(map(str, given)) if given is not None else tuple(f"x{i}" for i in range(self.n_features_in_))

    def _check_parameters(self) -> None:
        if not isinstance(self.gradients, str) or self.gradients not in GRADIENTS:
            raise InputError(f"gradients is {self.gradients!r}, but {', '.join(GRADIENTS)} were expected")
        check_bandwidth(self.bandwidth)
        if not is_whole(self.probes, 0) or self.probes == 1:
            raise InputError(f"probes is {self.probes!r}, but 0 or at least 2 were expected")
        if not is_number(self.threshold, 0, 1):
            raise InputError(f"threshold is {self.threshold!r}, but a share in [0, 1] was expected")
        if not is_number(self.flat, 0, inf):
            raise InputError(f"flat is {self.flat!r}, but a finite number from 0 on was expected")
        if not is_whole(self.random_state, 0):
            raise InputError(f"random_state is {self.random_state!r}, but a whole number from 0 on was expected")


def _shape_of(given: Any, rows: Rows) -> tuple[int, ...]:
    """Return the shape of one item: (d,), or as it came."""
    shape = tuple(int(one) for one in getattr(given, "shape", ()))
    return shape[1:] if len(shape) > 2 else (rows.shape[1],)


__all__ = ["GRADIENTS", "ExplanationVectors"]
